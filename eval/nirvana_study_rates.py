"""What `codec.eval.nirvana_study` says of the preset grid: whole files at effort 0, and bits of a group against motion.

The same clips as in `codec bench` go through the same conversions (RGB in, 4:2:0 inside, RGB out; psnr-y and psnr-rgb
as in eval/metrics/video.py) at the effort asked for, each encoded once, and stand beside the bench's rows of the other
codecs. The bits of each group are kept: what motion costs.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs.base import Codec
from ..codecs.video import VideoCodec
from ..errors import UsageError
from ..video import Frame, frames_of, stack, to_yuv420
from .bd import bd_delta
from .contract import Video
from .metrics import metric
from .plots import _MARKS as MARKS
from .plots import COLOURS, MARKERS, _axes, _defaults, _new, _render, write_bytes
from .plots import Rate as Axis
from .readers import read_video

__all__ = [
    "against",
    "bench_points",
    "bits_at",
    "file_rates",
    "motion",
    "motion_of",
    "motion_plot",
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
    """Of one whole file: bytes, bits a pixel, PSNRs, processor seconds a frame of both directions, and its groups."""
    rgb, taken = frames_of(video.frames, video.fps)
    info = replace(rgb, pixels="yuv420p")
    frames = [replace(one, planes=to_yuv420(one.planes[0], info)) for one in taken]
    start = time.process_time()
    data = codec.compress((info, frames))
    encoded = time.process_time()
    with codec.open_file(data) as file:
        found = list(file.frames())
        decoded = time.process_time()
        entries = file.groups
    shown = Video(stack(info, found), video.fps)
    pixels = len(frames) * info.width * info.height
    groups, at = [], 0
    for entry in entries:
        before = 0 if entry.key else 1  # other groups code the change from the frame before, too
        part = frames[at - before : at + entry.n_frames]
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
    """nirvana with a preset, a quality and an effort."""
    codec = Codec.load(f"nirvana@{tag}", quality=quality)
    assert isinstance(codec, VideoCodec)
    return codec.with_settings(effort=effort, threads=1)


def rates(
    clips: Sequence[Path],
    qualities: Iterable[float],
    effort: float,
    bench: Path | None,
    known: Mapping[str, Any],
    keep: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Curves of the preset grid on whole clips; `keep` gets the result after each file, and `known` is such a result
    to go on with. bench: rows.csv of `codec bench` on the same clips, to compare with."""
    same = known.get("effort") == effort
    done: dict[str, dict[str, Any]] = {name: dict(one) for name, one in known.get("clips", {}).items()} if same else {}
    out: dict[str, Any] = {"effort": effort, "metrics": list(METRICS), "clips": done}
    for quality in qualities:
        for path in clips:
            points = done.setdefault(path.stem, {"points": []})["points"]
            if all(one["quality"] != quality for one in points):
                made = file_rates(codec_at("grid", quality, effort), read_video(path))
                points.append({"quality": quality, **made})
                points.sort(key=lambda one: one["quality"])
                keep(out)
    if bench is not None:
        for name, one in done.items():
            one["against"] = against(one["points"], bench_points(bench, f"{name}.mkv"))
    return out


def bench_points(rows: Path, item: str) -> dict[str, dict[str, Points]]:
    """(bits per pixel, PSNR) of every codec on one item, by codec and metric, of a rows.csv."""
    found: dict[str, dict[str, Points]] = {}
    with rows.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["item"] == item:
                own = found.setdefault(row["codec"], {name: [] for name in METRICS})
                for name in METRICS:
                    own[name].append((float(row["rate"]), float(row[name])))
    return found


def against(points: Sequence[Mapping[str, Any]], others: Mapping[str, Mapping[str, Points]]) -> dict[str, Any]:
    """Against each codec by each metric: BD-rate in per cent (positive: we need more bits) with its window, or why
    there is none; and bits_over, how many times its bits we need at each of our points, by quality (at_least: our
    PSNR lies below the curve, and its cheapest point stands in)."""
    out: dict[str, Any] = {}
    for codec, curves in others.items():
        out[codec] = {}
        for name, curve in curves.items():
            delta = bd_delta(curve, [(one["bpp"], one[name]) for one in points])
            known = {"bd_rate": delta.rate, "window": delta.window}
            known = known if delta.rate is not None else {"reason": delta.reason}
            over: dict[str, dict[str, float]] = {"bits_over": {}, "bits_over_at_least": {}}
            for one in (one for one in points if one[name] <= max(curve)[1]):
                bits, bound = rate_at(curve, one[name])
                over["bits_over_at_least" if bound else "bits_over"][f"{one['quality']:g}"] = one["bpp"] / bits
            out[codec][name] = known | over
    return out


def presets(clip: Path, n_frames: int, effort: float) -> dict[str, Any]:
    """The presets paper and grid and x265 medium on the first frames of a clip, and how many times the bits of grid
    and of x265 paper has at its PSNR. Where the paper's PSNR is below what the cheapest file of another codec has, that
    file's bits stand in: the ratio is then a lower bound, and marked."""
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
            bpp, bound = rate_at([(one["bpp"], one["psnr-y"]) for one in curves[name]], point["psnr-y"])
            row[name] = {"paper_bits_over": point["bpp"] / bpp, "at_least": bound}
        ratios.append(row)
    return {"clip": clip.stem, "frames": n_frames, "grid_effort": effort, "curves": curves, "ratios": ratios}


def _x265(video: Video) -> list[dict[str, Any]]:
    from .bench import _peer, curves_of

    points, pixels = [], int(np.prod(video.frames.shape[:3]))
    for point in curves_of(f"x265:crf={X265_CRF}")[0].points:
        peer = _peer(point.spec, 1)
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
    """The same; below the curve its cheapest point, and True. UsageError above it."""
    cheapest, dearest = min(curve), max(curve)
    if psnr < cheapest[1]:
        return cheapest[0], True
    bits = bits_at(curve, psnr)
    if bits is None:
        raise UsageError(f"{psnr:.2f} dB lies above a curve that ends at {dearest[1]:.2f} dB: give it better points")
    return bits, False


def motion(found: Mapping[str, Any], quality: float) -> dict[str, Any]:
    """Bits of the groups that lean on another, against their motion, of the files of `rates` at one quality."""
    rows = [
        {"clip": name, "motion": group["motion"], "bpp": group["bpp"]}
        for name, clip in found.get("clips", {}).items()
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
        "effort": found["effort"],
        "groups": rows,
        "correlation_of_logarithms": float(np.corrcoef(np.log(moved + 0.01), np.log(bits))[0, 1]),
        "liveliest_over_stillest": {
            "motion": liveliest["motion"] / max(stillest["motion"], 1e-9),
            "bits": liveliest["bpp"] / stillest["bpp"],
        },
    }


def motion_plot(found: Mapping[str, Any], out: Path) -> None:
    """An SVG of `motion`: a point for each group, a colour for each clip."""
    rows = found["groups"]
    with _defaults():
        figure = _new(7.2, 4.4)
        axes = figure.add_subplot()
        for slot, clip in enumerate(sorted({row["clip"] for row in rows})):
            own = [row for row in rows if row["clip"] == clip]
            axes.plot(
                [row["motion"] for row in own],
                [row["bpp"] for row in own],
                linestyle="none",
                marker=MARKS[MARKERS[slot % len(MARKERS)]],
                color=COLOURS[slot % len(COLOURS)],
                label=clip,
            )
        _axes(axes, Axis("motion", "mean |difference| of neighbouring frames, luma, of 255"), True, True)
        axes.set_ylabel("bits per pixel of a group (no key groups)")
        title = f"nirvana, preset grid, quality {found['quality']:g}, effort {found['effort']:g}: bits follow motion"
        axes.set_title(title, loc="left")
        axes.legend(frameon=False, fontsize=9.5)
        write_bytes(out, _render(figure, "svg"))
