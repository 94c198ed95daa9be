"""The results of a bench run as one HTML file that needs nothing else: no server, no network, no library.

Inside: curves to explore, every point in a table, Bjøntegaard deltas with their windows, speed with its conditions,
crops of the same detail at equal rate under a slider, players of the same sound at equal rate, what failed, and what it
was made with. The part after # in the
address holds the view (metric, rate, hide, picture, left, right, slider, zoom), so that it can be sent as a link.

The page's own policy forbids everything but inline pictures and sounds, its style, and the one script whose hash it
names. Text of the summary is escaped wherever it goes; without JavaScript the tables and static figures are still
there, and the players, too.
The templates are the files in `assets/`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...files import PACKAGE
from ..output import write_file
from . import plots
from .plots import PlotPoint, PlotSeries, Rate, Shown

__all__ = ["Crop", "CropSet", "SoundSet", "Take", "write_report"]

_ASSETS = PACKAGE / "eval" / "report" / "assets"
_WORDS = {  # of what was measured besides metrics: name and unit
    "ratio": ("ratio", "original / file"),
    "bytes": ("file", "bytes"),
    "encode_seconds": ("encode", "s"),
    "decode_seconds": ("decode", "s"),
    "encode_cpu": ("encode, processor", "s"),
    "decode_cpu": ("decode, processor", "s"),
    "encode_peak_mib": ("encode memory", "MiB"),
    "decode_peak_mib": ("decode memory", "MiB"),
}
_MEDIA = {"image": "picture", "audio": "recording", "video": "clip", "array": "array"}
_DASH = "–"


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of what one codec made of a picture.

    codec: its name, as in the summary. spec: the codec string with all settings. bpp and metrics: of the whole picture,
    as metrics of the summary. pixels: (h, w, 3) uint8.
    """

    codec: str
    spec: str
    bpp: float
    metrics: Mapping[str, float]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CropSet:
    """The same part of one picture from several codecs, at about the same rate.

    box: left, top, width, height in the picture. target_bpp: the rate that was aimed at. original: (h, w, 3) uint8.
    A report with 3 sets of 10 crops stays below 6 MB up to 384x256 pixels a crop.
    """

    item: str
    box: tuple[int, int, int, int]
    target_bpp: float
    original: NDArray[np.uint8]
    crops: Sequence[Crop]


@dataclass(frozen=True, eq=False)
class Take:
    """A part of what one codec made of a sound.

    codec: its name, as in the summary. spec: the codec string with all settings. kbps and metrics: of the whole sound.
    data: a FLAC file.
    """

    codec: str
    spec: str
    kbps: float
    metrics: Mapping[str, float]
    data: bytes


@dataclass(frozen=True, eq=False)
class SoundSet:
    """The same part of one sound from several codecs, at about the same rate.

    span: its first and last second in the sound. target_kbps: the rate that was aimed at. original: a FLAC file.
    A report with 3 sets of 5 takes stays below 10 MB with five seconds of stereo at 44.1 kHz each.
    """

    item: str
    span: tuple[float, float]
    target_kbps: float
    original: bytes
    takes: Sequence[Take]


def write_report(
    summary: Mapping[str, Any], crops: Sequence[CropSet], path: Path, sounds: Sequence[SoundSet] = ()
) -> None:
    """Write the report of a summary (see `codec bench`) to `path`, whole or not at all.

    crops: of pictures; sounds: of sound. Without matplotlib the static figures are missing, and the page says so.
    UsageError for a summary, crops or sounds that can't be right, CodecError if the file can't be written.
    """
    write_file(path, _page(summary, crops, sounds).encode("utf-8", "replace"))


def _page(summary: Mapping[str, Any], crops: Sequence[CropSet], sounds: Sequence[SoundSet]) -> str:
    rate, curves = plots.rate_of(summary), plots.series(summary)
    shown = plots.metrics(summary, curves)
    images = _Images()
    data = {
        "rate": {"key": rate.key, "unit": rate.unit},
        "logRate": plots.log_rate(curves),
        "colours": len(plots.COLOURS),
        "markers": plots.MARKERS,
        "metrics": [{"name": m.name, "axis": m.axis, "about": m.about, "log": m.log} for m in shown],
        "series": [_series_data(c, rate, shown) for c in curves],
        "crops": [_crop_data(s, summary, images) for s in crops],
        "images": images.uris,
    }
    colours = {
        "colours": " ".join(f"--c{i}: {c};" for i, c in enumerate(plots.COLOURS)),
        "colours_dark": " ".join(f"--c{i}: {c};" for i, c in enumerate(plots.COLOURS_DARK)),
        "grey": plots.GREYS[0],
        "grey_dark": plots.GREYS[1],
    }
    script = _asset("report.js")
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'; "
        f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    )
    return _fill(
        _asset("report.html"),
        {
            "title": _text(summary.get("title") or f"Benchmark: {_named(summary)}"),
            "facts": _facts(summary, curves),
            "policy": policy,
            "css": _fill(_asset("report.css"), colours),
            "js": script,
            "data": _json(data),
            "figures": _figures(summary, shown),
            "reference": _reference(curves),
            "compare": _asset("compare.html") if crops else "",
            "listen": _listen(summary, sounds),
            "bd": _bd(summary),
            "tables": _tables(summary),
            "speed": _speed(summary, curves, rate),
            "points": _points(summary, curves, rate, shown),
            "trouble": _trouble(summary),
            "origin": _origin(summary),
        },
    )


# ---- text


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _fill(template: str, values: Mapping[str, str]) -> str:
    """{{name}} becomes its value, in one pass: what is put in is never looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _text(value: Any) -> str:
    """A value as text, or as the value of an attribute, in HTML. Lone surrogates, as in undecodable file names, become
    "?"."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"), quote=True)


def _json(value: Any) -> str:
    """JSON that can stand inside a script element, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _named(summary: Mapping[str, Any]) -> str:
    return str(_mapping(summary.get("data")).get("name") or "codecs")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()


def _ours(summary: Mapping[str, Any]) -> set[str]:
    return {str(_mapping(c).get("codec")) for c in _list(summary.get("curves")) if _mapping(c).get("ours")}


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _facts(summary: Mapping[str, Any], curves: Sequence[PlotSeries]) -> str:
    data = _mapping(summary.get("data"))
    word = _MEDIA.get(str(data.get("medium")), "item")
    measured = [c for c in curves if c.kind != "published"]
    parts = [_plural(len(_list(data.get("items"))), word), _plural(len(measured), "curve") + " measured here"]
    if len(curves) > len(measured):
        parts.append(f"{len(curves) - len(measured)} published for comparison")
    conditions = plots.conditions(summary)
    return _text("; ".join([", ".join(parts), *([conditions] if conditions else [])]) + ".")


def _figure(value: float, places: int) -> str:
    """A number with a fixed number of decimals, a true minus, and words for what is none."""
    if math.isnan(value):
        return _DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{places}f}".replace("-", "−")


def _places(values: Iterable[float], significant: int = 4) -> int:
    """Decimals for a column, so that its numbers align: enough for the larger ones, at most 4."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v]
    return max(0, min(4, significant - 1 - math.floor(math.log10(max(sizes))))) if sizes else 0


def _fine(values: Iterable[float], significant: int = 2) -> int:
    """Decimals for a column whose small numbers matter as well (seconds, rates): so many digits of the smallest."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v]
    return max(0, min(6, significant - 1 - math.floor(math.log10(min(sizes))))) if sizes else 0


def _metric_places(values: Iterable[float], unit: str) -> int:
    """A decibel is read to two decimals, a likeness between 0 and 1 to four."""
    known = [v for v in values if math.isfinite(v)]
    if unit == "dB":
        return 2
    return 4 if known and max(abs(v) for v in known) <= 1 else _places(known)


def _value(metric: str, unit: str, value: float) -> str:
    """A metric in words: "31.24 dB"; MS-SSIM with its decibels."""
    if plots.in_decibels(metric, unit) and 0 <= value < 1:
        return f"{metric} {value:.4f} ({-10 * math.log10(1 - value):.2f} dB)"
    places = _metric_places([value], unit)
    return f"{metric} {_figure(value, places)}" + (f" {unit}" if unit and math.isfinite(value) else "")


# ---- tables


@dataclass(frozen=True)
class _Cell:
    """A cell of a table. text: what is read. value: what it sorts by; "" for not known, None to sort by the text. kind:
    of the column."""

    text: str
    value: float | str | None = None
    kind: str = ""


def _number(value: float, places: int) -> _Cell:
    return _Cell(_figure(value, places), "" if math.isnan(value) else value, "n")


def _table(
    caption: str,
    heads: Sequence[tuple[str, str, str]],
    rows: Sequence[tuple[Mapping[str, str], Sequence[_Cell]]],
    sortable: bool = True,
) -> str:
    """A table in HTML. heads: (name, unit, kind of cells). rows: attributes of the row, and its cells; a "reason" fills
    what is left."""
    top = "".join(
        f'<th scope="col"{_class(kind)}>{_text(name)}'
        + (f'<span class="unit">{_text(unit)}</span>' if unit else "")
        + "</th>"
        for name, unit, kind in heads
    )
    body = []
    for attributes, cells in rows:
        line = []
        for index, cell in enumerate(cells):
            value = f' data-v="{_sortable(cell.value)}"' if cell.value is not None else ""
            span = f' colspan="{len(heads) - index}"' if cell.kind == "reason" else ""
            name = 'th scope="row"' if index == 0 else "td"
            line.append(f"<{name}{_class(cell.kind)}{span}{value}>{_text(cell.text)}</{name[:2]}>")
        given = "".join(f' {key}="{_text(value)}"' for key, value in attributes.items() if value)
        body.append(f"<tr{given}>{''.join(line)}</tr>")
    tall = " tall" if len(rows) > 16 else ""
    sort = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll{tall}" tabindex="0" role="region" aria-label="{_text(caption)}"><table{sort}>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _sortable(value: float | str) -> str:
    """A number as JavaScript reads it."""
    if isinstance(value, str):
        return value
    return "Infinity" if value == math.inf else "-Infinity" if value == -math.inf else repr(value)


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{_text(title)}</h2>{body}</section>'


def _points(summary: Mapping[str, Any], curves: Sequence[PlotSeries], rate: Rate, shown: Sequence[Shown]) -> str:
    """Every point of every curve, with every number that was measured."""
    listed = _mapping(summary.get("metrics"))
    everything = [p for c in curves for p in c.points]
    if not everything:
        return _section("points", "All points", "<p>Nothing was measured.</p>")
    present = {key for p in everything for key, v in p.values.items() if not math.isnan(v)}
    first = [name for name in listed if name in present]
    words = dict(_WORDS)
    for unit, encode, decode in plots.throughputs(curves):
        words.setdefault(encode, ("encode", unit))
        words.setdefault(decode, ("decode", unit))
    known = [key for key in words if key in present]
    keys = [*first, *known, *sorted(present - {*first, *known})]
    columns: list[tuple[str, str, str, Callable[[PlotPoint], _Cell]]] = []
    for key in keys:
        values = [p.values.get(key, math.nan) for p in everything]
        unit = str(_mapping(listed.get(key)).get("unit") or "")
        places = _metric_places(values, unit) if key in listed else 0 if key == "bytes" else min(_fine(values), 4)
        name, unit = words.get(key, (key.replace("_", " ") if key not in listed else key, unit))
        columns.append((name, unit, "n", _column(key, places)))
    at = _fine([p.rate for p in everything], 3)
    heads = [("codec", "", ""), ("setting", "", "n"), ("items", "", "n"), ("rate", rate.unit, "n")]
    heads += [(name, unit, kind) for name, unit, kind, _ in columns]
    rows: list[tuple[Mapping[str, str], Sequence[_Cell]]] = []
    for curve in curves:
        for point in curve.points:
            cells = [*_point_cells(curve, point, at), *(cell(point) for *_, cell in columns)]
            rows.append(({"class": curve.kind, "title": point.spec}, cells))
    note = (
        '<p class="muted small">Means over the items. Column heads sort. '
        + ("Grey rows are published, not measured here." if any(c.kind == "published" for c in curves) else "")
        + "</p>"
    )
    return _section("points", "All points", note + _table("All points", heads, rows))


def _point_cells(curve: PlotSeries, point: PlotPoint, places: int) -> list[_Cell]:
    """Codec, setting, number of items, and the rate with so many decimals."""
    setting = plots.number(_try_float(point.setting))
    if curve.kind == "published":
        items = _Cell("published", "", "n")
    else:
        count = _DASH if point.items is None else str(point.items)
        words = count if point.complete else f"{count} (some failed)"
        items = _Cell(words, "" if point.items is None else point.items, "n")
    return [
        _Cell(curve.name),
        _Cell(point.setting or _DASH, None if math.isnan(setting) else setting, "n"),
        items,
        _number(point.rate, places),
    ]


def _column(key: str, places: int) -> Callable[[PlotPoint], _Cell]:
    return lambda point: _number(point.values.get(key, math.nan), places)


def _try_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _tables(summary: Mapping[str, Any]) -> str:
    """Tables that the summary brings ready to read, such as those of machine perception: a section each."""
    sections = []
    for table in map(_mapping, _list(summary.get("tables"))):
        heads = [(str(head), "", "n" if index else "") for index, head in enumerate(_list(table.get("heads")))]
        rows = [
            ({}, [_Cell(str(cell), None, "n" if index else "") for index, cell in enumerate(_list(row))])
            for row in _list(table.get("rows"))
        ]
        title = str(table.get("title") or "")
        about = f'<p class="muted small">{_text(table.get("about") or "")}</p>'
        name = re.sub(r"[^a-z0-9-]", "", str(table.get("name") or "table"))
        sections.append(_section(f"t-{name}", title, about + _table(title, heads, rows)))
    return "".join(sections)


def _bd(summary: Mapping[str, Any]) -> str:
    rows_in = [_mapping(row) for row in _list(summary.get("bd"))]
    if not rows_in:
        return ""
    listed = _mapping(summary.get("metrics"))
    ours = _ours(summary)
    heads = [
        ("codec", "", ""),
        ("against", "", ""),
        ("metric", "", ""),
        ("BD-rate", "%", "n"),
        ("BD-metric", "at equal rate", "n"),
        ("window", "of the metric", "n"),
    ]
    rows: list[tuple[Mapping[str, str], Sequence[_Cell]]] = []
    for row in rows_in:
        metric, codec = str(row.get("metric", "?")), str(row.get("codec", "?"))
        unit = str(_mapping(listed.get(metric)).get("unit") or "")
        similarity = plots.in_decibels(metric, unit)  # the window is on its own scale, the difference in decibels
        gain = "dB" if similarity else unit
        anchor = str(row.get("anchor", "?")) + (" (published)" if row.get("published_anchor") else "")
        cells = [_Cell(codec), _Cell(anchor), _Cell(metric)]
        change = plots.number(row.get("bd_rate"))
        if not math.isfinite(change):
            cells.append(_Cell(str(row.get("reason") or "not computed, and no reason was given"), "", "reason"))
        else:
            window = [plots.number(v) for v in _list(row.get("window"))]
            places = 4 if similarity else _metric_places(window, unit)
            words = "not said"
            if len(window) == 2:
                words = f"{_figure(window[0], places)} to {_figure(window[1], places)} {unit}".rstrip()
            gained = plots.number(row.get("bd_metric"))
            text = _DASH
            if not math.isnan(gained):
                text = f"{_signed(gained, _metric_places([gained], gain))} {gain}".rstrip()
            cells.append(_Cell(_signed(change, 1), change, "n"))
            cells.append(_Cell(text, "" if math.isnan(gained) else gained, "n"))
            cells.append(_Cell(words, window[0] if len(window) == 2 and math.isfinite(window[0]) else "", "n"))
        rows.append(({"class": "ours" if codec in ours else "peer", "data-metric": metric}, cells))
    body = (
        '<p class="muted small">BD-rate: how much more (+) or less (−) rate than the codec it is compared with, at '
        "equal quality, averaged over the window: the quality that both curves reach. Different windows don't "
        "compare. BD-metric: the difference of the metric at equal rate; + is better.</p>"
        '<div class="controls" id="bd-controls" hidden><label><input type="checkbox" id="bd-all"> all metrics, not '
        "only that of the curves</label></div>"
        + _table("Bjøntegaard deltas", heads, rows)
        + '<p id="bd-none" class="muted small" hidden></p>'
    )
    return _section("bd", "Against each other", body)


def _signed(value: float, places: int) -> str:
    return ("+" if value > 0 else "") + _figure(value, places)


def _speed(summary: Mapping[str, Any], curves: Sequence[PlotSeries], rate: Rate) -> str:
    """One line a codec: the slowest and the fastest of its points, and the most memory."""
    measured = [c for c in curves if c.kind != "published"]
    units = plots.throughputs(measured)
    if not units:
        return ""
    unit, *keys = units[0]
    memory = ["encode_peak_mib", "decode_peak_mib"]
    memory = [k for k in memory if any(not math.isnan(p.values.get(k, math.nan)) for c in measured for p in c.points)]
    every = {k: [p.values.get(k, math.nan) for c in measured for p in c.points] for k in (*keys, *memory)}
    heads = [("codec", "", ""), ("points", "", "n")]
    for name in ("encode", "decode"):
        heads += [(f"{name}, slowest", unit, "n"), (f"{name}, fastest", unit, "n")]
    heads += [("peak, " + k.split("_")[0], "MiB", "n") for k in memory]
    rows: list[tuple[Mapping[str, str], Sequence[_Cell]]] = []
    for curve in measured:
        cells = [_Cell(curve.name), _number(len(curve.points), 0)]
        for key in keys:
            values = [v for p in curve.points if math.isfinite(v := p.values.get(key, math.nan))] or [math.nan]
            ends = (max(values), min(values)) if unit == "s" else (min(values), max(values))
            cells += [_number(v, min(3, _fine(every[key])) if unit != "s" else _fine(every[key])) for v in ends]
        for key in memory:
            values = [v for p in curve.points if math.isfinite(v := p.values.get(key, math.nan))] or [math.nan]
            cells.append(_number(max(values), 1))
        rows.append(({"class": curve.kind}, cells))
    threads, jobs = summary.get("threads"), summary.get("jobs")
    said = plots.conditions(summary) or "threads weren't said"
    words = f"Conditions: {said}."
    if threads is not None:
        words = f"Conditions: {said}. Every codec may use {'1 thread' if threads == 1 else f'{threads} threads'}."
    if isinstance(jobs, int) and jobs > 1:
        words += " Several ran at once, so these numbers aren't comparable: repeat with one job."
    if memory:
        words += " Memory is how far it rose above the start, at the hungriest point."
    return _section("speed", "Speed", f'<p class="muted small">{_text(words)}</p>' + _table("Speed", heads, rows))


# ---- sounds


def _listen(summary: Mapping[str, Any], sounds: Sequence[SoundSet]) -> str:
    """Players of the same parts, that work without JavaScript; with it, one goes on where another one was."""
    if not sounds:
        return ""
    body = (
        '<p class="muted small">Parts of the sounds that were measured, each codec at about the same rate. Rates and '
        "metrics are of the whole sounds. A player that is started while another one plays goes on from there.</p>"
    )
    ours = _ours(summary)
    listed = _mapping(summary.get("metrics"))
    for sound in sounds:
        place = f"{_figure(sound.span[0], 1)} to {_figure(sound.span[1], 1)} seconds"
        body += f"<h3>{_text(sound.item)}, {sound.target_kbps:.3g} kbit/s, {place}</h3>"
        players = _player(sound.item, "original", ["as it was given to the codecs"], sound.original)
        for take in sorted(sound.takes, key=lambda take: take.codec not in ours):
            lines = [take.spec, f"{take.kbps:.{_places([take.kbps], 3)}f} kbit/s"]
            lines += [
                _value(name, str(_mapping(listed.get(name)).get("unit") or ""), float(value))
                for name, value in take.metrics.items()
            ]
            players += _player(sound.item, take.codec, lines, take.data)
        body += f'<div class="takes">{players}</div>'
    return _section("listen", "The same sound at equal rate", body)


def _player(item: str, name: str, lines: Sequence[str], data: bytes) -> str:
    if not data.startswith(b"fLaC"):
        raise UsageError(f"the sound of {name}, {item}, begins with {data[:4]!r}; expected a FLAC file")
    source = f"data:audio/flac;base64,{base64.b64encode(data).decode('ascii')}"
    words = "".join(f"<br>{_text(line)}" for line in lines)
    return (
        f"<figure><figcaption><b>{_text(name)}</b>{words}</figcaption>"
        f'<audio controls preload="metadata" aria-label="{_text(f"{item}, {name}")}" src="{source}"></audio></figure>'
    )


# ---- the rest of the page


def _reference(curves: Sequence[PlotSeries]) -> str:
    """The sources of published series."""
    published = [c for c in curves if c.kind == "published"]
    if not published:
        return ""
    lines = "".join(f"<li>{_text(c.name)}: {_text(c.source or 'source not said')}</li>" for c in published)
    return (
        '<details class="small"><summary>Published, not measured here: sources of '
        f'{_text(_plural(len(published), "dashed curve"))}</summary><ul class="plain">{lines}</ul></details>'
    )


def _figures(summary: Mapping[str, Any], shown: Sequence[Shown]) -> str:
    """The static figures, which stand for the curves without JavaScript."""
    problem = plots.missing()
    if problem:
        return f"<p>The curves need JavaScript, or a report made with static figures; {_text(problem)}.</p>"
    parts = []
    for metric in shown:
        data = base64.b64encode(plots.rd_svg(summary, metric.name)).decode("ascii")
        words = f"Rate-distortion curves, {metric.name}; the numbers are in the table of all points"
        parts.append(f'<img alt="{_text(words)}" src="data:image/svg+xml;base64,{data}">')
    return "".join(parts)


def _trouble(summary: Mapping[str, Any]) -> str:
    body = ""
    failed = [_mapping(row) for row in _list(summary.get("failed"))]
    skipped = [_mapping(row) for row in _list(summary.get("skipped"))]
    if failed:
        rows = [
            (
                {},
                [
                    _Cell(str(r.get("item", "?"))),
                    _Cell(str(r.get("spec", "?"))),
                    _Cell(str(r.get("reason", "?")), None, "wrap"),
                ],
            )
            for r in failed
        ]
        heads = [("item", "", ""), ("codec", "", ""), ("why", "", "")]
        body += f"<h3>Failed: {len(failed)}</h3>" + _table("Failed", heads, rows)
    if skipped:
        rows = [({}, [_Cell(str(r.get("item", "?"))), _Cell(str(r.get("reason", "?")), None, "wrap")]) for r in skipped]
        body += f"<h3>Skipped: {len(skipped)}</h3>" + _table("Skipped", [("item", "", ""), ("why", "", "")], rows)
    if not body:
        body = "<p>Nothing was skipped, nothing failed.</p>"
    return _section("trouble", "Skipped and failed", body)


def _origin(summary: Mapping[str, Any]) -> str:
    machine, versions = _mapping(summary.get("machine")), _mapping(summary.get("versions"))
    said = [(key, machine.get(key)) for key in machine]
    said += [(key, summary.get(key)) for key in ("threads", "jobs", "repeat")]
    facts = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in said if value is not None)
    used = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in versions.items())
    meaning = ""
    for name, about in _mapping(summary.get("metrics")).items():
        about = _mapping(about)
        better = f"; {about['better']} is better" if about.get("better") else ""
        unit = f"{about['unit']}; " if about.get("unit") else ""
        meaning += f"<dt>{_text(name)}</dt><dd>{_text(unit + str(about.get('about') or '').rstrip('.') + better)}</dd>"
    items = [str(item) for item in _list(_mapping(summary.get("data")).get("items"))]
    listed = "".join(f"<li>{_text(item)}</li>" for item in items)
    body = f"<pre><code>{_text(summary.get('command') or 'the command was not recorded')}</code></pre>"
    body += f"<dl>{facts}</dl>" if facts else ""
    body += f"<h3>Metrics</h3><dl>{meaning}</dl>" if meaning else ""
    body += f"<h3>Versions</h3><dl>{used}</dl>" if used else ""
    body += (
        f'<details><summary>{_plural(len(items), "item")}</summary><ul class="columns">{listed}</ul></details>'
        if items
        else ""
    )
    return _section("origin", "How this was made", body)


# ---- data of the script


def _series_data(curve: PlotSeries, rate: Rate, shown: Sequence[Shown]) -> dict[str, Any]:
    points = []
    for point in curve.points:
        heights = {m.name: h for m in shown if not math.isnan(h := m.height(point))}
        points.append(
            {
                "spec": point.spec,
                "setting": point.setting,
                "rate": point.rate,
                "rateText": f"{point.rate:.{_places([point.rate], 3)}f} {rate.unit}",
                "items": point.items,
                "complete": point.complete,
                "y": {name: h if math.isfinite(h) else None for name, h in heights.items()},
                "perfect": [name for name, h in heights.items() if math.isinf(h)],
                "text": {
                    m.name: _value(m.name, m.unit, point.values.get(m.name, math.nan))
                    for m in shown
                    if m.name in heights
                },
            }
        )
    return {
        "name": curve.name,
        "label": curve.label,
        "kind": curve.kind,
        "slot": curve.slot,
        "source": curve.source,
        "points": points,
    }


class _Images:
    """Pictures as data URIs, each kept once: codecs without loss repeat the original."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._known: dict[bytes, int] = {}

    def add(self, pixels: NDArray[np.uint8]) -> int:
        key = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        if key not in self._known:
            self._known[key] = len(self.uris)
            self.uris.append(_uri(pixels))
        return self._known[key]


def _uri(pixels: NDArray[np.uint8]) -> str:
    """Lossless WebP, or PNG where Pillow has none or the picture is too large for it."""
    from PIL import Image, features

    image, buffer = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
    if features.check("webp") and max(image.size) <= 16383:
        image.save(buffer, "WEBP", lossless=True, quality=80, method=4)
        kind = "webp"
    else:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _crop_data(crops: CropSet, summary: Mapping[str, Any], images: _Images) -> dict[str, Any]:
    left, top, width, height = crops.box
    _check_crop(crops.original, (height, width), f"the original of {crops.item}")
    listed = _mapping(summary.get("metrics"))
    views = []
    taken = {"original"}
    ours = _ours(summary)
    for crop in sorted(crops.crops, key=lambda crop: crop.codec not in ours):  # ours first: what the slider opens with
        _check_crop(crop.pixels, (height, width), f"{crop.codec} on {crops.item}")
        key, count = crop.codec, 1
        while key in taken:
            count += 1
            key = f"{crop.codec} ({count})"
        taken.add(key)
        lines = [crop.spec, f"{crop.bpp:.{_places([crop.bpp], 3)}f} bits per pixel"]
        lines += [
            _value(name, str(_mapping(listed.get(name)).get("unit") or ""), float(value))
            for name, value in crop.metrics.items()
        ]
        views.append({"key": key, "lines": lines, "image": images.add(crop.pixels)})
    views.append({"key": "original", "lines": ["as it was given to the codecs"], "image": images.add(crops.original)})
    at = f"{crops.target_bpp:.3g} bits per pixel"
    return {
        "item": crops.item,
        "title": f"{crops.item}, {at}",
        "note": f"{width} × {height} pixels from {left}, {top} on, chosen for about {at}; each side says its own rate. "
        "Rates and metrics are of the whole picture. Drag in the picture, or use the arrow keys on the slider.",
        "width": width,
        "height": height,
        "views": views,
    }


def _check_crop(pixels: NDArray[Any], size: tuple[int, int], name: str) -> None:
    if pixels.dtype != np.uint8 or pixels.shape != (*size, 3) or 0 in pixels.shape:
        raise UsageError(
            f"the crop of {name} is {pixels.dtype} {pixels.shape}; expected uint8 {(*size, 3)}, the size of its box"
        )
