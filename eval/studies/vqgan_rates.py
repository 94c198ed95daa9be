"""VQGAN at extreme rates, beside what one would take instead: distances at each codebook, index coders, crops.

    python -P -m codec.eval.studies.vqgan_rates --out eval/results/vqgan/kodak --crops
    python -P -m codec.eval.studies.vqgan_rates --pictures FOLDER --out results      # photographs of yours

Bits per pixel are of whole files, everywhere. The others are JPEG, WebP, AVIF and JPEG XL at the lowest settings that
they have, S2LIC at its lowest quality, and the simplest way to extreme rates: a picture made smaller, coded by S2LIC,
made as large as it was again (eval/peers/shrunk.py). Tables show what lies below 0.1 bits per pixel, and the lowest
point of a codec that doesn't get there.

At 0.03 and 0.045 bits per pixel curves of means are interpolated over the logarithm of the rate, and never
extrapolated. A codec that begins above such a rate is compared at its lowest point, where it has more bits; where ours
ends below it, its highest point is compared, which has fewer.

Index coders: the whole files of each, against log2 K bits an index, the rate of the paper (arXiv 2307.08265).

In --out: rows.csv and coders.csv (a row each for picture and point: a run that was stopped goes on from there),
rates.json, rates.md, rd-*.svg; with --crops crop-*.jpg of 256x256 pixels, from the pictures that VQGAN does best and
worst.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...codecs.vqgan.codec import VqganCodec
from ...datasets.places import find_data
from ...errors import UsageError
from .. import peers
from ..bench.contract import Family, Metric, Option, OptionValue, Peer
from ..bench.crops import busiest
from ..bench.items import Item
from ..bench.rows import PointMean, Row, Table
from ..bench.run import rate_distortion
from ..output import write_file, write_json
from ..report.crop_sheets import sheet
from ..report.plots import rd_svg

__all__ = [
    "Interpolated",
    "coder_rows",
    "family_of",
    "interpolated",
    "main",
    "markdown",
    "measured",
    "shown",
    "verdicts",
]

KODAK = "images/test-kodak"
METRICS = ("lpips-alex", "dists", "ms-ssim-rgb", "psnr-rgb")
# The lowest settings of each, and those that come to less than 0.1 bits per pixel.
OTHERS = (
    "jpeg:420:q=1,webp:q=0,avif:420:psnr:q=0+4,jxl:d=25,s2lic@small-ms-ssim:q=1,"
    "shrunk:small-ms-ssim:scale=2:q=1+20,shrunk:small-ms-ssim:scale=3:q=1+20+40"
)
MOST = 0.1  # bits per pixel
RATES = (0.03, 0.045)  # at which curves are compared
CROP_RATES = (0.015, 0.03)
_NAME, _BASELINE = "vqgan", "shrunk"
_CROP, _CROP_BYTES = 256, 290_000
_CODER_COLUMNS: Sequence[str] = ("picture", "digest", "weights", "words", "coder", "cells", "pixels", "bytes")


# ---- measuring


class _Coded(VqganCodec):
    """The codec with the index map of a picture at hand, which all index coders share."""

    map: NDArray[np.int32]

    def indices(self, pixels: NDArray[Any], bits: int) -> NDArray[np.int32]:
        return self.map


class _Peer:
    def __init__(self, codec: VqganCodec, quality: float) -> None:
        self.codec, self.quality = codec, quality

    def encode(self, value: Any) -> bytes:
        return self.codec.compress(value, quality=self.quality)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        return self.codec.decompress(data)


def family_of(codec: VqganCodec) -> Family:
    """The codec as a family of the bench, with a point for each of its codebooks."""
    qualities = tuple(quality_of(codec, size) for size in codec.model.codebooks)

    def make(settings: Mapping[str, OptionValue], threads: int) -> Peer:
        del threads  # the runner sets them
        return _Peer(codec, float(settings["q"]))

    return Family(
        name=_NAME,
        medium="image",
        about="VQGAN, a codeword for each 16x16 pixels",
        options={"q": Option(qualities[0], "quality, which takes a codebook", 1.0, 100.0)},
        make=make,
        axis="q",
        sweep=qualities,
        versions=lambda: {"codec-suite": __version__, _NAME: f"weights {codec.model.id.hex()[:8]}"},
    )


def quality_of(codec: VqganCodec, size: int) -> float:
    """A quality at which the codec takes the codebook of so many words."""
    sizes = codec.model.codebooks
    return round(1 + 99 * (sizes.index(size) + 0.5) / len(sizes), 2)


def measured(
    codec: VqganCodec | None,
    pictures: Path,
    out: Path | None,
    others: str = OTHERS,
    metrics: Sequence[str] = METRICS,
    say: Any = lambda words: None,
) -> Table:
    """The codec at each codebook and the others on the pictures of a folder; rows are kept in `out`, and gone on
    with. codec: None for the weights that ship, whose rows `codec reproduce vqgan` knows, too."""
    families = {**peers.families(), **({} if codec is None else {_NAME: family_of(codec)})}
    return rate_distortion(
        pictures,
        ",".join(part for part in (_NAME, others) if part),
        metrics=metrics,
        out=out,
        medium="image",
        repeat=1,
        progress=lambda done, total, last: say(f"{done}/{total} {last}"),
        families=families,
    )


def coder_rows(
    codec: VqganCodec, items: Sequence[Item], path: Path | None = None, say: Any = lambda words: None
) -> list[dict[str, Any]]:
    """A row for each picture, codebook and index coder: bytes of the whole file. path: of rows that are there already,
    which grows by each picture."""
    weights = codec.model.id.hex()[:8]
    rows = [] if path is None else _read_coders(path)
    kept = {row["digest"] for row in rows if row["weights"] == weights}
    coded = _Coded(codec.model)
    for number, item in enumerate(items, 1):
        if item.digest in kept:
            continue
        pixels = cast(NDArray[np.uint8], item.load())
        for size in codec.model.codebooks:
            bits = size.bit_length() - 1
            coded.map = codec.indices(pixels, bits)
            for coder in codec.model.models.methods(bits):
                coded.coder = coder
                n_bytes = len(coded.compress(pixels, quality=quality_of(codec, size)))
                about = (item.name, item.digest, weights, size, coder, coded.map.size, pixels.size // 3, n_bytes)
                rows.append(dict(zip(_CODER_COLUMNS, about, strict=True)))
        say(f"index coders: {number}/{len(items)} {item.name}")
        if path is not None:
            write_file(path, _csv(rows))
    digests = {item.digest for item in items}
    return [row for row in rows if row["weights"] == weights and row["digest"] in digests]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _CODER_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _read_coders(path: Path) -> list[dict[str, Any]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        numbers = _CODER_COLUMNS[-3:]
        return [{**row, "words": int(row["words"]), **{name: int(row[name]) for name in numbers}} for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: not the rows of an earlier run ({error!r}); name another --out") from None


# ---- what the rows say


def shown(table: Table) -> list[tuple[str, list[PointMean]]]:
    """Labels and points of curves below MOST bits per pixel; of a curve that has none there, the lowest point."""
    out = []
    for curve in table.curves:
        points = [point for point in table.points(curve) if point.complete]
        out.append((curve.label, [point for point in points if point.rate < MOST] or points[:1]))
    return [(label, points) for label, points in out if points]


@dataclass(frozen=True)
class Interpolated:
    """A metric of a curve at a rate. value: None if the curve doesn't reach the rate. low, high: the rates that it
    reaches. lowest, highest: the metric at these."""

    value: float | None
    low: float
    high: float
    lowest: float
    highest: float

    @property
    def word(self) -> str:
        """The value, or how the curve misses the rate."""
        if self.value is not None:
            return f"{self.value:.4g}"
        return f"not reached: {self.low:.3f} to {self.high:.3f} bpp"


def interpolated(points: Sequence[PointMean], metric: str, bpp: float) -> Interpolated | None:
    """The metric at a rate, by PCHIP over the logarithm of the rate; None without points that have this metric."""
    pairs = sorted({p.rate: value for p in points if (value := p.metrics[metric]) is not None}.items())
    if not pairs:
        return None
    rates, values = np.array(pairs, np.float64).T
    at = None
    if len(pairs) > 1 and rates[0] <= bpp <= rates[-1]:
        from scipy.interpolate import PchipInterpolator

        at = float(PchipInterpolator(np.log(rates), values)(math.log(bpp)))
    return Interpolated(at, float(rates[0]), float(rates[-1]), float(values[0]), float(values[-1]))


def verdicts(table: Table) -> list[dict[str, Any]]:
    """At each of RATES, by each metric: ours, at this rate or at its highest, where that is lower; the best of the
    baseline's curves (if none reaches the rate, the one of the lowest rate), and each other codec, at this rate or at
    its lowest, where that is higher."""
    curves, out = shown(table), []
    for bpp in RATES:
        for metric in table.metrics:
            at = {label: value for label, points in curves if (value := interpolated(points, metric.name, bpp))}
            ours = at.pop(_NAME, None)
            best = max if metric.better == "higher" else min
            own = {label: x for label, x in at.items() if label.partition(":")[0] == _BASELINE}
            reached = {label: x.value for label, x in own.items() if x.value is not None}
            lowest = sorted(own, key=lambda label: own[label].low)[:1]
            rivals = [best(reached, key=lambda label: reached[label])] if reached else lowest
            mine = None if ours is None or ours.low > bpp else ours
            value = None if mine is None else mine.highest if mine.value is None else mine.value
            rows = [_verdict(value, label, own[label], metric, bpp) for label in rivals]
            rows += [_verdict(value, label, x, metric, bpp) for label, x in at.items() if label not in own]
            rate = None if mine is None else min(bpp, mine.high)
            about = {"bpp": bpp, "metric": metric.name, _NAME: value, f"{_NAME}_bpp": rate}
            out.append({**about, "others": rows})
    return out


def _verdict(ours: float | None, label: str, other: Interpolated, metric: Metric, bpp: float) -> dict[str, Any]:
    """Ours against another one at a rate; one that begins above it stands at its lowest point, one that ends below it
    at its highest."""
    rate, value = (bpp, other.value) if other.value is not None else (other.low, other.lowest)
    if rate < bpp:
        rate, value = other.high, other.highest
    better = None
    if ours is not None and value is not None:
        wins = ours > value if metric.better == "higher" else ours < value
        better = wins if rate >= bpp or not wins else None  # more bits than it had prove nothing
    return {"codec": label, "bpp": rate, "value": value, "reached": other.value is not None, "ours_is_better": better}


def ranked(table: Table) -> list[tuple[str, float]]:
    """Pictures and our first metric at the codebook that comes nearest to 0.03 bits per pixel, the best first."""
    points = [point for point in table.points(_NAME) if point.complete]
    if not points:
        return []
    spec = min(points, key=lambda point: abs(math.log(point.rate / RATES[0]))).spec
    metric = table.metrics[0]
    rows = [(row.item, row.metrics[metric.name]) for row in table.rows if row.spec == spec]
    return sorted(rows, key=lambda row: row[1], reverse=metric.better == "higher")


def coder_means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mean bits per pixel of whole files for each codebook and coder, and what they save against log2 K bits an
    index, in per cent; the container counts against them."""
    parts: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        parts.setdefault((row["words"], row["coder"]), []).append(row)
    out = []
    for (words, coder), part in sorted(parts.items()):
        bits = 8 * sum(row["bytes"] for row in part)
        plain = sum(row["cells"] * math.log2(words) for row in part)
        bpp = statistics.fmean(8 * row["bytes"] / row["pixels"] for row in part)
        saved = 100 * (1 - bits / plain)
        out.append({"words": words, "coder": coder, "bpp": bpp, "saved": saved, "pictures": len(part)})
    return out


# ---- what is written


def markdown(table: Table, coders: Sequence[Mapping[str, Any]], words: Sequence[int]) -> str:
    """The tables, and what they say, as a page. words: the codebooks, in the order of our points."""
    items = f"{len(table.items)} pictures of {table.settings['data']['name']!r}"
    lines = [f"# VQGAN at extreme rates, {items}", "", "Means over the pictures; bits per pixel of whole files.", ""]
    names = [metric.name for metric in table.metrics]
    lines += [
        "| codec | setting | bpp | bytes | " + " | ".join(names) + " |",
        "|---|---" * 2 + "|---" * len(names) + "|",
    ]
    for label, points in shown(table):
        for point in points:
            setting = f"q={point.setting:g}" if isinstance(point.setting, (int, float)) else "-"
            if label == _NAME:
                setting = f"{words[[p.spec for p in table.curve(_NAME).points].index(point.spec)]} words"
            values = [_number(point.metrics[name]) for name in names]
            lines.append(f"| `{label}` | {setting} | {point.rate:.4f} | {point.bytes:.0f} | {' | '.join(values)} |")
    for verdict in verdicts(table):
        value = _number(verdict[_NAME]) if verdict[_NAME] is not None else "not reached"
        if verdict[_NAME] is not None and verdict[f"{_NAME}_bpp"] < verdict["bpp"]:
            value += f" (at {verdict[f'{_NAME}_bpp']:.4f} bpp, its highest rate)"
        head = f"At {verdict['bpp']:g} bpp {verdict['metric']} of `{_NAME}` is {value}. The others, with the rate of"
        lines += ["", head, "those that begin above it, or end below:", ""]
        for other in verdict["others"]:
            where = "" if other["reached"] else f" at {other['bpp']:.4f} bpp"
            word = {True: "ours is better", False: "ours is not better", None: "not comparable"}[
                other["ours_is_better"]
            ]
            lines.append(f"- `{other['codec']}` {_number(other['value'])}{where}: {word}")
    lines += ["", "## Index coders", "", "Whole files, container included. Saved: of log2 K bits an index.", ""]
    lines += ["| words | coder | bpp | saved |", "|---|---|---|---|"]
    lines += [f"| {row['words']} | {row['coder']} | {row['bpp']:.4f} | {row['saved']:.1f} % |" for row in coders]
    lines += ["", f"## Pictures, by {names[0]} near {RATES[0]:g} bpp", ""]
    lines += [f"{place}. {name}: {value:.4f}" for place, (name, value) in enumerate(ranked(table), 1)]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def write(table: Table, coders: Sequence[Mapping[str, Any]], words: Sequence[int], command: str, out: Path) -> str:
    """Writes rates.json, rates.md and a plot of each metric; returns the page."""
    summary = table.summary()
    about = {"verdicts": verdicts(table), "coders": coders, "pictures": dict(ranked(table))}
    write_json(out / "rates.json", {"command": command, **summary, **about})
    for metric in table.metrics:
        write_file(out / f"rd-{metric.name}.svg", rd_svg(summary, metric.name))
    page = markdown(table, coders, words)
    write_file(out / "rates.md", page)
    return page


# ---- crops


def crop_columns(table: Table, item: Item) -> list[tuple[str, NDArray[np.uint8]]]:
    """A part of a picture, original and decoded: ours near each of CROP_RATES, the baseline near the last of them,
    AVIF's lowest."""
    pixels = cast(NDArray[np.uint8], item.load())
    left, top, width, height = busiest(pixels, (_CROP, _CROP))
    view = np.s_[top : top + height, left : left + width]
    rows: dict[str, list[Row]] = {}
    for row in table.rows:
        if row.item == item.name:
            rows.setdefault(row.codec.partition(":")[0], []).append(row)
    picked = [_nearest(rows.get(_NAME, ()), bpp) for bpp in CROP_RATES]
    picked += [_best_near(table.metrics[0], rows.get(_BASELINE, ()), CROP_RATES[-1])]
    picked += [min(rows.get("avif", ()), key=lambda row: row.rate, default=None)]
    points = {point.spec: point for curve in table.curves for point in curve.points}
    out = [(item.name, pixels[view])]
    for row in picked:
        if row is not None:
            point = points[row.spec]
            peer = point.family.make(point.settings, 1)
            decoded = peer.decode(peer.encode(pixels))
            name = table.metrics[0].name
            label = f"{point.family.name} {row.rate:.3f} bpp, {name} {row.metrics[name]:.3f}"
            out.append((label, np.ascontiguousarray(decoded[view])))
    return out


def _nearest(rows: Sequence[Row], bpp: float) -> Row | None:
    return min(rows, key=lambda row: abs(math.log(row.rate / bpp)), default=None)


def _best_near(metric: Metric, rows: Sequence[Row], bpp: float) -> Row | None:
    """The best row of a rate within a fifth of this one; if there is none, the nearest."""
    near = [row for row in rows if abs(math.log(row.rate / bpp)) < math.log(1.2)]
    sign = -1 if metric.better == "higher" else 1
    return min(near, key=lambda row: sign * row.metrics[metric.name]) if near else _nearest(rows, bpp)


def write_crops(table: Table, out: Path, count: int = 4) -> list[Path]:
    """Writes crops of the best and the worst pictures, half of `count` each, as JPEGs of _CROP_BYTES together."""
    order = [name for name, _ in ranked(table)]
    half = min(count, len(order)) // 2 or 1
    picked = {name: f"best-{n}" for n, name in enumerate(order[:half], 1)}
    picked |= {name: f"worst-{n}" for n, name in enumerate(reversed(order[half:][-half:]), 1)}
    sources = {item.name: item for item in table.sources}
    sheets = {place: sheet(crop_columns(table, sources[name])) for name, place in picked.items()}
    for quality in range(92, 40, -4):
        coded = {}
        for place, picture in sheets.items():
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=quality, subsampling=0, optimize=True)
            coded[place] = stream.getvalue()
        if sum(map(len, coded.values())) <= _CROP_BYTES:
            break
    for old in out.glob("crop-*.jpg"):  # of another run, whose pictures were others
        old.unlink()
    for place, data in coded.items():
        write_file(out / f"crop-{place}.jpg", data)
    return [out / f"crop-{place}.jpg" for place in coded]


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and writes everything into --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="a folder of photographs (default: the Kodak pictures)")
    parser.add_argument("--out", type=Path, required=True, help="a folder of its own")
    parser.add_argument("--weights", type=Path, help="of the codec, in place of those that ship")
    parser.add_argument("--others", default=OTHERS, help="codec string of what stands beside; empty: nothing")
    parser.add_argument("--metrics", nargs="+", default=METRICS)
    parser.add_argument("--crops", action="store_true", help="also writes crops to look at")
    options = parser.parse_args(argv)

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    pictures = options.pictures or find_data(KODAK, "photographs to measure on")
    codec = VqganCodec.from_weights(None, None, options.weights, "cpu")
    table = measured(codec if options.weights else None, pictures, options.out, options.others, options.metrics, say)
    for failure in table.failed:
        say(f"{failure.item} {failure.spec}: {failure.reason}")
    coders = coder_means(coder_rows(codec, table.sources, options.out / "coders.csv", say))
    command = f"python -P -m codec.eval.studies.vqgan_rates --pictures {pictures.name} --out OUT"
    if options.others != OTHERS:
        command += f" --others '{options.others}'"
    if tuple(options.metrics) != METRICS:
        command += f" --metrics {' '.join(options.metrics)}"
    if options.weights:
        command += f" --weights {options.weights.name}"
    sys.stdout.write(write(table, coders, codec.model.codebooks, command, options.out))
    if options.crops:
        for path in write_crops(table, options.out):
            say(str(path))
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
