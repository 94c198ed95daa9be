"""The parts of the study of NIRVANA on whole files: the preset grid, bits of a group against motion, presets.

The same clips as in `codec bench` go through the same conversions (RGB in, 4:2:0 inside, RGB out; psnr-y and psnr-rgb
as in eval/metrics/video.py) at the effort asked for, each encoded once, and stand beside the bench's rows of the other
codecs. The bits of each group are kept: what motion costs.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ....codecs.base.codec import Codec
from ....codecs.base.video.codec import VideoCodec
from ....errors import UsageError
from ....media.video.values import Frame, stack
from ...bench.bd import bd_delta
from ...bench.contract import Video
from ...bench.readers import read_video
from ...bench.run import curves_of, ready_peer
from ...metrics import metric
from ...peers.ours import to_420
from ...report.plots import COLOURS, MARKER_CODES, MARKERS, figure_defaults, new_figure, render, style_axes

__all__ = [
    "against",
    "bd_result",
    "bench_points",
    "bits_at",
    "file_rates",
    "motion",
    "motion_of",
    "motion_svg",
    "presets",
    "rate_at",
    "rates",
]

METRICS = ("psnr-y", "psnr-rgb")
PAPER_QUALITIES, GRID_QUALITIES, X265_CRF = (50.0, 90.0), (1.0, 10.0, 20.0, 40.0), "24+30+36+42+48+51"
Points = list[tuple[float, float]]


def motion_of(frames: Sequence[Frame]) -> float:
    """Mean absolute difference of the luma of neighbouring frames, of 255 levels."""
    return float(np.mean([np.abs(a.planes[0].astype(np.int16) - b.planes[0]).mean() for a, b in pairwise(frames)]))


def file_rates(codec: VideoCodec, video: Video) -> dict[str, Any]:
    """Measures one whole file: bytes, bits a pixel, PSNRs, processor seconds a frame of both directions, and of each
    group its size and how much moves in it."""
    info, frames = to_420(video)
    start = time.process_time()
    data = codec.compress((info, frames))
    encoded = time.process_time()
    with codec.open_file(data) as file:
        shown_frames = list(file.frames())
        decoded = time.process_time()
        entries = file.groups
    shown = Video(stack(info, shown_frames), video.fps)
    pixels = len(frames) * info.width * info.height
    groups, at = [], 0
    for entry in entries:
        context = 0 if entry.key else 1  # other groups code the change from the frame before, too
        part = frames[at - context : at + entry.n_frames]
        size = entry.n_frames * info.width * info.height
        groups.append(
            {
                "key": entry.key,
                "frames": entry.n_frames,
                "bytes": entry.n_bytes,
                "bpp": 8 * entry.n_bytes / size,
                "motion": motion_of(part) if len(part) > 1 else 0.0,
            }
        )
        at += entry.n_frames
    return {
        "bytes": len(data),
        "bpp": 8 * len(data) / pixels,
        **{name: float(metric("video", name).measure(video, shown)) for name in METRICS},
        "encode_cpu_seconds_a_frame": (encoded - start) / len(frames),
        "decode_cpu_seconds_a_frame": (decoded - encoded) / len(frames),
        "groups": groups,
    }


def codec_at(tag: str, quality: float, effort: float) -> VideoCodec:
    """The codec nirvana with a preset, a quality and an effort, on one thread."""
    codec = Codec.load(f"nirvana@{tag}", quality=quality)
    assert isinstance(codec, VideoCodec)
    return codec.with_settings(effort=effort, threads=1)


def rates(
    clips: Sequence[Path],
    qualities: Iterable[float],
    effort: float,
    bench: Path | None,
    earlier: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Yields curves of the preset grid on whole clips: all that there is, after each file, and once at the end.

    earlier: such a result, to go on with if its effort is the same. bench: rows.csv of `codec bench` on the same clips,
    to compare with.
    """
    same = earlier.get("effort") == effort
    by_clip = {name: {**clip, "points": [*clip["points"]]} for name, clip in earlier.get("clips", {}).items()}
    by_clip = by_clip if same else {}
    results: dict[str, Any] = {"effort": effort, "metrics": list(METRICS), "clips": by_clip}
    for quality in qualities:
        for path in clips:
            points = by_clip.setdefault(path.stem, {"points": []})["points"]
            if all(point["quality"] != quality for point in points):
                made = file_rates(codec_at("grid", quality, effort), read_video(path))
                points.append({"quality": quality, **made})
                points.sort(key=lambda point: point["quality"])
                yield results
    if bench is not None:
        for name, clip in by_clip.items():
            clip["against"] = against(clip["points"], bench_points(bench, f"{name}.mkv"))
    yield results


def bench_points(rows: Path, item: str) -> dict[str, dict[str, Points]]:
    """Curves of every codec on one item of a rows.csv, by codec and metric: (bits per pixel, PSNR in dB)."""
    curves: dict[str, dict[str, Points]] = {}
    with rows.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["item"] == item:
                points = curves.setdefault(row["codec"], {name: [] for name in METRICS})
                for name in METRICS:
                    points[name].append((float(row["rate"]), float(row[name])))
    return curves


def against(points: Sequence[Mapping[str, Any]], others: Mapping[str, Mapping[str, Points]]) -> dict[str, Any]:
    """Compares our points with each codec by each metric.

    bd_rate: in per cent (positive: we need more bits) with its window, or the reason why there is none. bits_over: how
    many times its bits we need at each of our points, by quality; bits_over_at_least: the same where our PSNR lies
    below the curve, and its cheapest point stands in.
    """
    out: dict[str, Any] = {}
    for codec, curves in others.items():
        out[codec] = {}
        for name, curve in curves.items():
            over: dict[str, dict[str, float]] = {"bits_over": {}, "bits_over_at_least": {}}
            for point in (point for point in points if point[name] <= max(curve)[1]):
                bits, bound = rate_at(curve, point[name])
                over["bits_over_at_least" if bound else "bits_over"][f"{point['quality']:g}"] = point["bpp"] / bits
            out[codec][name] = bd_result(curve, [(point["bpp"], point[name]) for point in points]) | over
    return out


def bd_result(anchor: Points, curve: Points) -> dict[str, Any]:
    """BD-rate of a curve in per cent with its window, or the reason why there is none, as results keep it."""
    delta = bd_delta(anchor, curve)
    if delta.rate is None:
        return {"reason": delta.reason}
    return {"bd_rate": delta.rate, "window": delta.window}


def presets(clip: Path, n_frames: int, effort: float) -> dict[str, Any]:
    """Measures the presets paper and grid and x265 medium on the first frames of a clip, and how many times the bits of
    grid and of x265 the preset paper has at its PSNR. Where its PSNR is below that of the cheapest file of another
    codec, that file's bits stand in: the ratio is then a lower bound, and marked."""
    video = read_video(clip, n_frames)
    curves = {
        "paper": [{"quality": q, **file_rates(codec_at("paper", q, 1.0), video)} for q in PAPER_QUALITIES],
        "grid": [{"quality": q, **file_rates(codec_at("grid", q, effort), video)} for q in GRID_QUALITIES],
        "x265:medium": _x265(video),
    }
    for points in curves.values():
        for point in points:
            point.pop("groups", None)
    ratios = []
    for point in curves["paper"]:
        row: dict[str, Any] = {"quality": point["quality"], "psnr-y": point["psnr-y"], "bpp": point["bpp"]}
        for name in ("grid", "x265:medium"):
            curve = [(other["bpp"], other["psnr-y"]) for other in curves[name]]
            bpp, bound = rate_at(curve, point["psnr-y"])
            row[name] = {"paper_bits_over": point["bpp"] / bpp, "at_least": bound}
        ratios.append(row)
    return {"clip": clip.stem, "frames": n_frames, "grid_effort": effort, "curves": curves, "ratios": ratios}


def _x265(video: Video) -> list[dict[str, Any]]:
    points, pixels = [], int(np.prod(video.frames.shape[:3]))
    for point in curves_of(f"x265:crf={X265_CRF}")[0].points:
        peer = ready_peer(point.spec, 1)
        data = peer.encode(video)
        shown = peer.decode(data)
        values = {name: float(metric("video", name).measure(video, shown)) for name in METRICS}
        points.append({"crf": point.setting, "bytes": len(data), "bpp": 8 * len(data) / pixels, **values})
    return points


def bits_at(curve: Points, psnr: float) -> float | None:
    """Bits per pixel of a curve at a PSNR, by straight lines of PSNR over the logarithm of the rate; None beyond it."""
    rates, values = np.array(sorted(curve)).T
    if not values[0] <= psnr <= values[-1]:
        return None
    return float(np.exp(np.interp(psnr, values, np.log(rates))))


def rate_at(curve: Points, psnr: float) -> tuple[float, bool]:
    """Bits per pixel of a curve at a PSNR, and False; below the curve those of its cheapest point, and True. UsageError
    above the curve."""
    cheapest, dearest = min(curve), max(curve)
    if psnr < cheapest[1]:
        return cheapest[0], True
    bits = bits_at(curve, psnr)
    if bits is None:
        raise UsageError(f"{psnr:.2f} dB lies above a curve that ends at {dearest[1]:.2f} dB: give it better points")
    return bits, False


def motion(rates_results: Mapping[str, Any], quality: float) -> dict[str, Any]:
    """Sets the bits of the groups that lean on another against their motion, of the files of `rates` at one quality."""
    rows = [
        {"clip": name, "motion": group["motion"], "bpp": group["bpp"]}
        for name, clip in rates_results.get("clips", {}).items()
        for point in clip["points"]
        if point["quality"] == quality
        for group in point["groups"]
        if not group["key"]
    ]
    if len(rows) < 3:
        raise UsageError(f"{len(rows)} groups at quality {quality:g}: run the part `rates` with that quality first")
    rows.sort(key=lambda row: row["motion"])
    stillest, liveliest = rows[0], rows[-1]
    moved, bits = (np.array([row[name] for row in rows]) for name in ("motion", "bpp"))
    return {
        "quality": quality,
        "effort": rates_results["effort"],
        "groups": rows,
        "correlation_of_logarithms": float(np.corrcoef(np.log(moved + 0.01), np.log(bits))[0, 1]),
        "liveliest_over_stillest": {
            "motion": liveliest["motion"] / max(stillest["motion"], 1e-9),
            "bits": liveliest["bpp"] / stillest["bpp"],
        },
    }


def motion_svg(results: Mapping[str, Any]) -> bytes:
    """The results of `motion` as an SVG: a point for each group, a colour for each clip."""
    rows = results["groups"]
    with figure_defaults():
        figure = new_figure(7.2, 4.4)
        axes = figure.add_subplot()
        for slot, clip in enumerate(sorted({row["clip"] for row in rows})):
            groups = [row for row in rows if row["clip"] == clip]
            axes.plot(
                [row["motion"] for row in groups],
                [row["bpp"] for row in groups],
                linestyle="none",
                marker=MARKER_CODES[MARKERS[slot % len(MARKERS)]],
                color=COLOURS[slot % len(COLOURS)],
                label=clip,
            )
        style_axes(axes, "mean |difference| of neighbouring frames, luma, of 255", True, True)
        axes.set_ylabel("bits per pixel of a group (no key groups)")
        title = (
            f"nirvana, preset grid, quality {results['quality']:g}, effort {results['effort']:g}: bits follow motion"
        )
        axes.set_title(title, loc="left")
        axes.legend(frameon=False, fontsize=9.5)
        return render(figure, "svg")
