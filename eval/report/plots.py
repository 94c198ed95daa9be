"""Figures of a bench run: rate-distortion curves for each metric, and speed, as PNG and SVG.

Also what the figures share with the HTML report: curves read from the summary, the colour of a codec, how a metric is
shown. Same summary, same bytes: matplotlib's own defaults, no date, identifiers from a fixed salt. Only its object API
is used, so nothing of pyplot's state is touched.

MS-SSIM is drawn as -10 log10(1 - x), as most papers do, since everything of interest lies between 0.95 and 1.
The colours were chosen by search: any two differ by more than 25 in CIELAB, also for people without red or green cones
(Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009), and
all have a contrast of 3 to the background; a marker of its own tells a codec apart without colour.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import UsageError
from ..output import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "COLOURS_DARK",
    "GREYS",
    "MARKERS",
    "MARKER_CODES",
    "PlotPoint",
    "PlotSeries",
    "Rate",
    "Shown",
    "conditions",
    "curve_style",
    "figure_defaults",
    "in_decibels",
    "log_rate",
    "metrics",
    "missing",
    "new_figure",
    "number",
    "rate_of",
    "rd_plots",
    "rd_svg",
    "render",
    "series",
    "style_axes",
    "throughputs",
]

COLOURS = ("#0d45e4", "#a72921", "#259c7f", "#652391", "#ba8c00", "#0a9bbc", "#6f002b", "#000037")  # on white
COLOURS_DARK = ("#3d7efb", "#f17f4c", "#4bc4a9", "#a16fba", "#ebd82e", "#7ce5ff", "#c2545a", "#f2ffc7")  # on #14171a
GREYS = ("#6b7278", "#8f979e")  # published series, on white and on dark
MARKERS = ("circle", "square", "triangle", "diamond", "down", "plus", "star", "cross")

MARKER_CODES: Mapping[str, str] = {  # matplotlib's, of each of MARKERS
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "down": "v",
    "plus": "P",
    "star": "*",
    "cross": "X",
}
_GREY_DASHES = ((0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (1, 1.5)))
_LOG_FROM = 6.0  # a range of rates wider than this is drawn on a logarithmic axis
_INK, _MUTED, _GRID = "#1c1f23", "#5b636b", "#e3e6e9"


def missing() -> str | None:
    """Why no figure can be drawn here and what to install; None if it can."""
    if importlib.util.find_spec("matplotlib") is None:
        return "figures need matplotlib, which isn't installed: pip install 'codec-suite[eval]'"
    return None


# ---- what a summary says


@dataclass(frozen=True)
class Rate:
    """The rate of a summary. key: under which its points keep it. unit: in words."""

    key: str
    unit: str


@dataclass(frozen=True)
class PlotPoint:
    """A point of a curve as it is drawn.

    spec: the codec string that made it, or the name of a published series. rate: in the unit of the summary.

    values: every number that was measured, by its key; infinite for a lossless PSNR, NaN where not defined.
    items: how many went into the means, None if not said. complete: False if some of the data failed here. lossless:
    of a codec that loses nothing, which has a rate and no place on a scale of quality.
    """

    spec: str
    setting: str
    rate: float
    values: Mapping[str, float]
    items: int | None = None
    complete: bool = True
    lossless: bool = False


@dataclass(frozen=True)
class PlotSeries:
    """One codec's points, in the order of the rate. slot: index of its colour and marker, the same in every figure."""

    name: str
    kind: Literal["ours", "peer", "published"]
    points: tuple[PlotPoint, ...]
    slot: int
    lossless: bool = False
    source: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} (published)" if self.kind == "published" else self.name


@dataclass(frozen=True)
class Shown:
    """A metric as it is drawn. axis: its title. decibels: values x in [0, 1] are drawn as -10 log10(1 - x).
    log: drawn on a logarithmic axis."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    about: str
    axis: str
    decibels: bool
    log: bool

    def height(self, point: PlotPoint) -> float:
        """The height of a point on the axis; infinite where nothing is lost, NaN for no value: neither is drawn."""
        value = point.values.get(self.name, math.nan)
        if point.lossless and not math.isnan(value):
            return math.inf
        if self.decibels:
            if not value <= 1:
                return math.nan
            return math.inf if value == 1 else -10 * math.log10(1 - value)
        if self.log and value <= 0:
            return math.inf if value == 0 else math.nan
        return value


def number(value: Any) -> float:
    """A number of the summary: NaN for null, absent or anything that is none; "inf" may be a word."""
    if isinstance(value, bool) or value is None:
        return math.nan
    if isinstance(value, str) and value.strip().lower().lstrip("+-") not in ("inf", "infinity"):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def in_decibels(metric: str, unit: str) -> bool:
    """Whether a metric is a similarity up to 1, shown and compared as -10 log10(1 - x)."""
    return "ssim" in metric and unit != "dB"


def _rows(summary: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    rows = summary.get(key) or ()
    if (
        isinstance(rows, (str, bytes))
        or not isinstance(rows, Sequence)
        or any(not isinstance(r, Mapping) for r in rows)
    ):
        raise UsageError(f"the summary's {key!r} is no list of objects: is this a summary.json of `codec bench`?")
    return rows


def rate_of(summary: Mapping[str, Any]) -> Rate:
    """The kind of rate in this summary. UsageError if it doesn't say."""
    rate = summary.get("rate")
    if not isinstance(rate, Mapping) or not isinstance(rate.get("key"), str):
        raise UsageError("the summary has no 'rate' with a 'key': is this a summary.json of `codec bench`?")
    return Rate(rate["key"], str(rate.get("unit") or rate["key"]))


def series(summary: Mapping[str, Any]) -> tuple[PlotSeries, ...]:
    """All curves: ours, the other codecs, then published ones; each kind in the order of the summary.

    Points without a positive, finite rate are left out: there is no place for them. UsageError for a summary that isn't
    one.
    """
    rate = rate_of(summary)
    measured = _rows(summary, "curves")
    ordered = [c for c in measured if c.get("ours")] + [c for c in measured if not c.get("ours")]
    curves = [
        PlotSeries(
            str(curve.get("codec", "?")),
            "ours" if curve.get("ours") else "peer",
            _points(curve, rate),
            slot,
            bool(curve.get("lossless")),
        )
        for slot, curve in enumerate(ordered)
    ]
    curves += [
        PlotSeries(
            str(curve.get("codec", "?")), "published", _points(curve, rate), slot, source=str(curve.get("source") or "")
        )
        for slot, curve in enumerate(_rows(summary, "reference"))
    ]
    return tuple(curves)


def _points(curve: Mapping[str, Any], rate: Rate) -> tuple[PlotPoint, ...]:
    points = []
    for row in _rows(curve, "points"):
        at = number(row.get(rate.key))
        if not (math.isfinite(at) and at > 0):
            continue
        numbers = {k: number(v) for k, v in row.items() if k not in ("setting", "spec", "items", "complete", rate.key)}
        items = row.get("items")
        setting = row.get("setting")
        points.append(
            PlotPoint(
                str(row.get("spec") or curve.get("codec", "?")),
                "" if setting is None else str(setting),
                at,
                numbers,
                items if isinstance(items, int) else None,
                row.get("complete") is not False,
                bool(curve.get("lossless")),
            )
        )
    return tuple(points)


def metrics(summary: Mapping[str, Any], curves: Sequence[PlotSeries]) -> tuple[Shown, ...]:
    """The metrics that at least one point can be drawn for, in the order of the summary."""
    listed = summary.get("metrics") or {}
    if not isinstance(listed, Mapping):
        raise UsageError("the summary's 'metrics' is no object: is this a summary.json of `codec bench`?")
    drawable = []
    for name, about in listed.items():
        about = about if isinstance(about, Mapping) else {}
        better = "lower" if about.get("better") == "lower" else "higher"
        unit, words = str(about.get("unit") or ""), str(about.get("about") or "")
        decibels = in_decibels(name, unit)
        values = [v for c in curves for p in c.points if math.isfinite(v := p.values.get(name, math.nan))]
        above = [v for v in values if v > 0]
        log = better == "lower" and bool(above) and min(values) >= 0 and max(above) > _LOG_FROM**2 * min(above)
        title = f"{name} in dB: −10 log₁₀(1 − x)" if decibels else f"{name}, {unit}" if unit else name
        shown = Shown(
            name, unit, better, words, title + (" (lower is better)" if better == "lower" else ""), decibels, log
        )
        if any(math.isfinite(shown.height(p)) for c in curves for p in c.points):
            drawable.append(shown)
    return tuple(drawable)


def throughputs(curves: Sequence[PlotSeries]) -> tuple[tuple[str, str, str], ...]:
    """The speeds that were measured, throughput before seconds: (unit, encode key, decode key)."""
    keys = {key for c in curves if c.kind != "published" for p in c.points for key in p.values}
    words = {"mpx_s": "Mpixel/s", "mb_s": "MB/s", "mib_s": "MiB/s", "x": "× real time", "realtime": "× real time"}
    words |= {"frames_s": "frames/s", "fps": "frames/s", "mvalues_s": "million values/s", "msamples_s": "Msamples/s"}
    units = []
    for key in sorted(keys):
        tail = key.removeprefix("encode_")
        if tail != key and f"decode_{tail}" in keys and (tail in words or tail.endswith(("_s", "realtime"))):
            units.append((words.get(tail) or tail.removesuffix("_s").replace("_", " ") + "/s", key, f"decode_{tail}"))
    if {"encode_seconds", "decode_seconds"} <= keys:
        units.append(("s", "encode_seconds", "decode_seconds"))
    return tuple(units)


def conditions(summary: Mapping[str, Any]) -> str:
    """Under what conditions speed was measured, in a line."""
    threads, jobs, repeat = (summary.get(key) for key in ("threads", "jobs", "repeat"))
    parts = []
    if threads is not None:
        parts.append("1 thread" if threads == 1 else f"{threads} threads")
    if isinstance(jobs, int) and jobs > 1:
        parts.append(f"{jobs} jobs, several at once: not comparable")
    elif jobs is not None:
        parts.append("1 job at a time")
    if repeat is not None:
        parts.append("measured once" if repeat == 1 else f"measured {repeat} times")
    machine = summary.get("machine")
    if isinstance(machine, Mapping) and machine.get("cpu"):
        parts.append(str(machine["cpu"]))
    return ", ".join(parts)


def log_rate(curves: Sequence[PlotSeries]) -> bool:
    """Whether rates spread so widely that a logarithmic axis shows them better. Lossless ones don't count."""
    rates = [p.rate for c in curves if not c.lossless for p in c.points]
    return bool(rates) and max(rates) > _LOG_FROM * min(rates)


# ---- figures


def rd_plots(summary: Mapping[str, Any], out: Path) -> list[Path]:
    """Write rd-<metric>.png and .svg for each metric, and speed.png and .svg if there are speeds; returns the files.

    out: a folder, made if need be. UsageError for a summary that isn't one, or when matplotlib is missing.
    """
    problem = missing()
    if problem:
        raise UsageError(problem)
    curves = series(summary)
    shown = metrics(summary, curves)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: can't be made as a folder for figures ({error.strerror or error})") from None
    written: list[Path] = []
    used: set[str] = set()
    with figure_defaults():
        for metric in shown:
            stem = _stem(f"rd-{metric.name}", used)
            written += _save(_rd_figure(summary, curves, metric), out, stem)
        speed = _speed_figure(summary, curves)
        if speed is not None:
            written += _save(speed, out, _stem("speed", used))
    return written


def rd_svg(summary: Mapping[str, Any], metric: str) -> bytes:
    """The rate-distortion figure of one metric as SVG. UsageError if it can't be drawn."""
    problem = missing()
    if problem:
        raise UsageError(problem)
    curves = series(summary)
    for shown in metrics(summary, curves):
        if shown.name == metric:
            with figure_defaults():
                return render(_rd_figure(summary, curves, shown), "svg")
    raise UsageError(f"no point has a {metric!r} that can be drawn")


def _stem(name: str, used: set[str]) -> str:
    """A metric's name as a file name of its own."""
    base = stem = re.sub(r"[^a-z0-9._-]+", "-", name.lower())
    count = 1
    while stem in used:
        count += 1
        stem = f"{base}-{count}"
    used.add(stem)
    return stem


@contextlib.contextmanager
def figure_defaults() -> Iterator[None]:
    """Matplotlib as it ships, whatever the user's matplotlibrc says, with ours on top; put back afterwards."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "svg.hashsalt": "codec-bench",
        "svg.fonttype": "path",
        "text.parse_math": False,  # codec strings and file names are text, dollars included
        "font.family": "DejaVu Sans",
        "font.size": 10.5,
        "text.color": _INK,
        "axes.edgecolor": _MUTED,
        "axes.labelcolor": _INK,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
        "axes.linewidth": 0.8,
        "grid.color": _GRID,
        "grid.linewidth": 0.8,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def render(figure: Figure, kind: Literal["svg", "png"], dpi: int = 160) -> bytes:
    """The bytes of a figure as an SVG or PNG file, the same every time. dpi: dots per inch of a PNG."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=dpi, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def _save(figure: Figure, out: Path, stem: str) -> list[Path]:
    """SVG first: the layout keeps a trace of what was drawn before, and this way `rd_svg` gives the same bytes."""
    rendered = {"svg": render(figure, "svg"), "png": render(figure, "png")}
    written = [out / f"{stem}.{kind}" for kind in ("png", "svg")]
    for path in written:
        write_file(path, rendered[path.suffix[1:]])
    return written


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, that no state of pyplot's knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curve_style(curve: PlotSeries) -> dict[str, Any]:
    """The style of a curve: ours thick and filled, others thin and hollow, published dashed grey."""
    if curve.kind == "published":
        dashes = _GREY_DASHES[curve.slot % len(_GREY_DASHES)]
        return {"color": GREYS[0], "linewidth": 1.2, "linestyle": dashes, "marker": "", "zorder": 2}
    colour = COLOURS[curve.slot % len(COLOURS)]
    # a second round through the colours starts at another marker, so that the pair stays its own
    mark = MARKER_CODES[MARKERS[(curve.slot + curve.slot // len(COLOURS)) % len(MARKERS)]]
    larger = 3 if mark == "*" else 1.5 if mark in "PX" else 0  # as large to the eye as the others
    if curve.kind == "ours":
        return {"color": colour, "linewidth": 2.8, "marker": mark, "markersize": 6.5 + larger, "zorder": 4}
    return {
        "color": colour,
        "linewidth": 1.3,
        "marker": mark,
        "markersize": 5 + larger,
        "markerfacecolor": "white",
        "markeredgewidth": 1.2,
        "zorder": 3,
    }


def _alone(style: Mapping[str, Any]) -> dict[str, Any]:
    """The style of a point without a line; a published one has no marker otherwise."""
    marker = style["marker"] or "."
    return {**style, "linestyle": "none", "marker": marker, "markersize": style.get("markersize", 6) + 1}


def _rd_figure(summary: Mapping[str, Any], curves: Sequence[PlotSeries], metric: Shown) -> Figure:
    rate = rate_of(summary)
    figure = new_figure(9.2, 5.2)
    axes = figure.add_subplot()
    drawn = [c for c in curves if any(math.isfinite(metric.height(p)) for p in c.points)]
    handles: list[Any] = []
    labels: list[str] = []
    partial = False
    for curve in drawn:
        style = curve_style(curve)
        points = [p for p in curve.points if math.isfinite(metric.height(p))]
        whole = [p for p in points if p.complete]
        line = _alone(style) if len(whole) < 2 else style
        (handle,) = axes.plot([p.rate for p in whole], [metric.height(p) for p in whole], **line)
        incomplete = [p for p in points if not p.complete]
        if incomplete:
            partial = True
            mark = {"linestyle": "none", "marker": "x", "markersize": 7, "color": style["color"], "zorder": 3}
            axes.plot([p.rate for p in incomplete], [metric.height(p) for p in incomplete], **mark)
        handles.append(handle)
        labels.append(_legend_text(curve.label))
    style_axes(axes, rate.unit, log_rate(drawn), metric.log)
    axes.set_ylabel(metric.axis)
    # perfect, or on its own far to the right: a tick at its rate if that is in view, and words in any case
    low, high = axes.get_xlim()
    perfect = [(c, p) for c in curves for p in c.points if math.isinf(metric.height(p))]
    for curve, point in perfect:
        if low <= point.rate <= high:
            colour = curve_style(curve)["color"]
            axes.axvline(point.rate, 0, 0.04, color=colour, linewidth=2)
            place = axes.get_xaxis_transform()
            axes.text(
                point.rate, 0.05, curve.name, transform=place, rotation=90, fontsize=8.5, ha="center", va="bottom"
            )
    notes = []
    if perfect:
        best = {c.name: min(p.rate for k, p in perfect if k is c) for c, _ in perfect}
        named = ", ".join(f"{name} {at:.3g}" for name, at in best.items())
        notes += _wrap(f"without loss, in {rate.unit}: {named}")
    if partial:
        notes.append("× : some items failed there, so that its mean isn't comparable")
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9.5, borderaxespad=0.4)
    _title(axes, _data_name(summary))
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=9, color=_MUTED, x=0.02, ha="left")
    return figure


def _speed_figure(summary: Mapping[str, Any], curves: Sequence[PlotSeries]) -> Figure | None:
    rate, measured = rate_of(summary), [c for c in curves if c.kind != "published"]
    units = throughputs(measured)
    if not units:
        return None
    unit, *keys = units[0]
    figure = new_figure(9.2, 4.8)
    panels = figure.subplots(1, 2, sharey=True)
    handles: dict[str, Any] = {}
    positive = [p for c in measured for p in c.points if any(p.values.get(k, math.nan) > 0 for k in keys)]
    if not positive:
        return None
    rates = [p.rate for p in positive]
    for panel, key, title in zip(panels, keys, ("encode", "decode"), strict=True):
        for curve in measured:
            points = [p for p in curve.points if 0 < p.values.get(key, math.nan) < math.inf]
            if not points:
                continue
            style = curve_style(curve)
            line = _alone(style) if len(points) < 2 else style
            (handle,) = panel.plot([p.rate for p in points], [p.values[key] for p in points], **line)
            handles.setdefault(curve.label, handle)
        style_axes(panel, rate.unit, max(rates) > _LOG_FROM * min(rates), True)
        panel.set_title(title, loc="left", fontsize=10.5, color=_INK)
    better = "lower is faster" if unit == "s" else "higher is faster"
    panels[0].set_ylabel(f"seconds an item ({better})" if unit == "s" else f"{unit} ({better})")
    figure.legend(
        list(handles.values()),
        [_legend_text(label) for label in handles],
        loc="outside right upper",
        frameon=False,
        fontsize=9.5,
        borderaxespad=0.4,
    )
    lines = [f"Speed, {_data_name(summary)}", *_wrap(conditions(summary), 96)]
    figure.suptitle("\n".join(lines), x=0.02, ha="left", fontsize=10.5, color=_INK)
    return figure


def _legend_text(label: str) -> str:
    """A label for the legend: matplotlib drops those that begin with an underscore."""
    label = label if len(label) <= 40 else label[:39] + "…"
    return f" {label}" if label.startswith("_") else label


def _data_name(summary: Mapping[str, Any]) -> str:
    data = summary.get("data")
    data = data if isinstance(data, Mapping) else {}
    items = data.get("items") or ()
    count = f", mean of {len(items)} items" if len(items) > 1 else ""
    return f"{data.get('name') or 'data'}{count}"


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10.5, color=_INK)


def _wrap(text: str, width: int = 110) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or []


def style_axes(axes: Axes, label: str, log_x: bool, log_y: bool) -> None:
    """Scales, ticks and grid in the style of all figures here. label: of the horizontal axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    plain = FuncFormatter(lambda value, _: f"{value:.6g}")
    for axis, log in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
        if log:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            low, high = axis.get_view_interval()
            wide = low > 0 and high > 300 * low
            axis.set_major_locator(LogLocator(10, (1.0,) if wide else (1.0, 2.0, 5.0), numticks=20))
            axis.set_minor_formatter(NullFormatter())
            axis.set_minor_locator(NullLocator())
        else:
            axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(plain)
    axes.set_xlabel(label)
    axes.grid(True)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=3)
