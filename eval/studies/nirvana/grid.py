"""The parts of the study of NIRVANA on two choices of the preset grid: how often a group can be decoded alone,
and the networks that such a group starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....codecs.base.video.groups import Group
from ....codecs.nirvana.grid.fit import Fitter, base_index
from ....codecs.nirvana.grid.frame import PlaneLayout, from_planes, to_planes
from ....codecs.nirvana.grid.networks import Nets, load_nets, start_nets
from ....codecs.nirvana.grid.structure import State
from ....errors import UsageError
from ....media.video.reader import open_video
from ...bench.readers import read_video
from ...metrics.images import psnr
from .rates import bd_result, codec_at, file_rates

__all__ = ["KEY_EVERY", "LENGTH", "coded_without_networks", "first_groups", "keys", "networks"]

KEY_EVERY = (8, 1)  # groups; the first is the default
LENGTH = 16  # frames of a group
EQUAL = 99.0  # dB that an equal frame counts as, so that means stay finite


def keys(clip: Path, qualities: Sequence[float], effort: float) -> dict[str, Any]:
    """Measures whole files with a key group every so many groups. --jobs N has work for at most as many workers as
    there are key groups. bd_rate: against the default, on the PSNR of luma."""
    video = read_video(clip)
    rows = []
    for every in KEY_EVERY:
        points = []
        for quality in qualities:
            codec = codec_at("grid", quality, effort).with_settings(key_every=every, group=LENGTH)
            made = file_rates(codec, video)
            groups = made.pop("groups")
            points.append({"quality": quality, **made, "key_groups": sum(group["key"] for group in groups)})
        rows.append({"key_every": every, "frames_between": every * LENGTH, "points": points})
    curves = [[(point["bpp"], point["psnr-y"]) for point in row["points"]] for row in rows]
    for row, curve in zip(rows, curves, strict=True):
        row |= bd_result(curves[0], curve)
    return {"clip": clip.stem, "frames": len(video.frames), "effort": effort, "rows": rows}


def networks(clips: Sequence[Path], candidate: Path, qualities: Sequence[float]) -> dict[str, Any]:
    """Compares other networks to start from with those that ship: two groups of each clip, the second leaning on the
    first; bits of payloads without those of parameters (a start is never sent), BD-rate on the PSNR of luma."""
    starts = {"shipped": start_nets(), "candidate": load_nets(candidate)}
    by_clip: dict[str, Any] = {}
    for clip in clips:
        groups = first_groups(clip)
        curves = {
            name: [coded_without_networks(groups, nets, quality) for quality in qualities]
            for name, nets in starts.items()
        }
        by_clip[clip.stem] = {"bpp_and_psnr": curves, **bd_result(curves["shipped"], curves["candidate"])}
    known = [row["bd_rate"] for row in by_clip.values() if "bd_rate" in row]
    return {"candidate": candidate.name, "clips": by_clip, "mean_bd_rate": float(np.mean(known)) if known else None}


def first_groups(clip: Path) -> list[Group]:
    """The first two groups of a clip, or the one that there is. UsageError unless its frames are yuv420p."""
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


def coded_without_networks(groups: Sequence[Group], nets: Nets, quality: float) -> tuple[float, float]:
    """Bits a pixel without those of the networks, and the mean over frames of the PSNR of luma in dB."""
    state: State | None = None
    bits, values = 0.0, []
    for group in groups:
        layout = PlaneLayout(group.pixels, group.height, group.width)
        fitter = Fitter([to_planes(planes, group.pixels) for planes in group.frames], layout, state)
        made = fitter.run(nets, base_index(quality))
        bits += made.bits - made.frame_bits["networks"]
        for index, planes in enumerate(group.frames):
            luma = from_planes(made.pictures[index].planes, group.pixels)[0]
            error = float(np.mean((luma.astype(np.float64) - planes[0]) ** 2))
            values.append(psnr(error) if error else EQUAL)
        state = State(nets, made.pictures[len(group.frames) - 1])
        state.picture.forget()
    pixels = sum(len(group.frames) for group in groups) * groups[0].width * groups[0].height
    return bits / pixels, float(np.mean(values))
