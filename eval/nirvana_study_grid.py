"""What `codec.eval.nirvana_study` says of two choices of the preset grid: how often a group can be decoded alone, and
the networks that such a group starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs.nirvana_grid_fit import Fitter, base_index
from ..codecs.nirvana_grid_frame import PlaneLayout, from_planes, to_planes
from ..codecs.nirvana_grid_net import Nets, load_nets, start_nets
from ..codecs.nirvana_grid_structure import State
from ..codecs.video_groups import Group
from ..errors import UsageError
from ..video import open_video
from .bd import bd_delta
from .nirvana_study_rates import codec_at, file_rates
from .readers import read_video

__all__ = ["KEY_EVERY", "LENGTH", "keys", "networks"]

KEY_EVERY = (8, 1)  # groups; the first is the default
LENGTH = 16  # frames of a group
Points = list[tuple[float, float]]


def keys(clip: Path, qualities: Sequence[float], effort: float) -> dict[str, Any]:
    """Whole files with a key group every so many groups. --jobs N has work for at most as many workers as there are
    key groups. bd_rate: against the default, on the PSNR of luma."""
    video = read_video(clip)
    rows = []
    for every in KEY_EVERY:
        points = []
        for quality in qualities:
            codec = codec_at("grid", quality, effort).with_settings(key_every=every, group=LENGTH)
            made = file_rates(codec, video)
            groups = made.pop("groups")
            points.append({"quality": quality, **made, "key_groups": sum(one["key"] for one in groups)})
        rows.append({"key_every": every, "frames_between": every * LENGTH, "points": points})
    curves = [[(one["bpp"], one["psnr-y"]) for one in row["points"]] for row in rows]
    for row, curve in zip(rows, curves, strict=True):
        row |= _delta(curves[0], curve)
    return {"clip": clip.stem, "frames": len(video.frames), "effort": effort, "rows": rows}


def networks(clips: Sequence[Path], candidate: Path, qualities: Sequence[float]) -> dict[str, Any]:
    """Other networks to start from against those that ship: two groups of each clip, the second leaning on the first;
    bits of payloads without those of parameters (a start is never sent), BD-rate on the PSNR of luma."""
    starts = {"shipped": start_nets(), "candidate": load_nets(candidate)}
    found: dict[str, Any] = {}
    for clip in clips:
        groups = _groups(clip)
        curves = {name: [_coded(groups, nets, quality) for quality in qualities] for name, nets in starts.items()}
        found[clip.stem] = {"bpp_and_psnr": curves, **_delta(curves["shipped"], curves["candidate"])}
    known = [one["bd_rate"] for one in found.values() if "bd_rate" in one]
    return {"candidate": candidate.name, "clips": found, "mean_bd_rate": float(np.mean(known)) if known else None}


def _groups(clip: Path) -> list[Group]:
    """The first two, or the one that there is."""
    with open_video(clip) as reader:
        info, frames = reader.info, []
        for frame in reader:
            if len(frames) == 2 * LENGTH:
                break
            frames.append(frame.planes)
    if not frames or info.pixels != "yuv420p":
        raise UsageError(f"{clip}: {len(frames)} frames of {info.pixels}; expected some of yuv420p")
    parts = [frames[at : at + LENGTH] for at in range(0, len(frames), LENGTH)]
    return [Group(part, info.pixels, info.width, info.height) for part in parts]


def _coded(groups: Sequence[Group], nets: Nets, quality: float) -> tuple[float, float]:
    """Bits a pixel, and the mean over frames of the PSNR of luma."""
    state: State | None = None
    bits, values = 0.0, []
    for group in groups:
        layout = PlaneLayout(group.pixels, group.height, group.width)
        fitter = Fitter([to_planes(one, group.pixels) for one in group.frames], layout, state)
        made = fitter.run(nets, base_index(quality))
        bits += made.bits - made.frame_bits["networks"]
        for index, planes in enumerate(group.frames):
            luma = from_planes(made.pictures[index].planes, group.pixels)[0]
            error = np.mean((luma.astype(np.float64) - planes[0]) ** 2)
            values.append(float(10 * np.log10(255**2 / error)) if error else 99.0)
        state = State(nets, made.pictures[len(group.frames) - 1])
        state.picture.forget()
    pixels = sum(len(one.frames) for one in groups) * groups[0].width * groups[0].height
    return bits / pixels, float(np.mean(values))


def _delta(anchor: Points, curve: Points) -> dict[str, Any]:
    delta = bd_delta(anchor, curve)
    if delta.rate is None:
        return {"reason": delta.reason}
    return {"bd_rate": delta.rate, "window": delta.window}
