"""Preset `grid` of the video codec `nirvana`: latent grids, small networks, all fitted to the group that they code.

From the family of Cool-chic (Ladune et al., ICCV 2023; Leguay et al. for video) and C3 (Kim et al., CVPR 2024, arXiv
2312.02753), in the frame of NIRVANA (Maiya et al., CVPR 2023, arXiv 2212.14593): group by group, networks that start
from those of the group before and are sent as differences to them. Differs from all of them so that a frame takes
seconds on two CPU cores and decodes in real time: the linear part of the synthesis is fixed (block transforms, motion
compensation), so latents start at their optimum in closed form; what is learned is the filter behind it and the
networks that predict the latents' distributions. Every pass over a grid is parallel; all of decoding is integers.

A payload: one byte of version, then one ANS stream: parameters, the distance of anchors, the frames in coding order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import StreamError
from .nirvana_grid_code import Coding, Reader, code_number
from .nirvana_grid_frame import Layout, Picture, code_frame, from_planes
from .nirvana_grid_net import Nets, code_nets
from .nirvana_grid_start import start
from .video_groups import FitProgress, FitSettings, Fitted, Group, GroupShape, Planes

VERSION = 1
MAX_FRAMES = 256


@dataclass(frozen=True)
class State:
    """The networks and the last picture of a group."""

    nets: Nets
    picture: Picture


@dataclass(frozen=True)
class Slot:
    """A frame in coding order. refs: frames it is predicted from; -1 is the last one of the group before."""

    frame: int
    refs: tuple[int, ...]
    depth: int  # 0: key, 1: an anchor, 2 and up: between two others

    @property
    def distances(self) -> tuple[int, ...]:
        return tuple(self.frame - ref for ref in self.refs)


def schedule(n_frames: int, linked: bool, span: int) -> list[Slot]:
    """Coding order: anchors every `span` frames, each predicted from the one before; then the frames between them, from
    the middle on. linked: the first anchor leans on the group before."""
    slots: list[Slot] = []
    previous = -1
    if not linked:
        slots.append(Slot(0, (), 0))
        previous = 0

    def between(low: int, high: int, depth: int) -> None:
        if high - low < 2:
            return
        middle = (low + high) // 2
        slots.append(Slot(middle, (low, high), depth))
        between(low, middle, depth + 1)
        between(middle, high, depth + 1)

    while previous < n_frames - 1:
        anchor = min(previous + span, n_frames - 1)
        slots.append(Slot(anchor, (previous,), 1))
        between(previous, anchor, 2)
        previous = anchor
    return slots


def code_start(io: Coding, old: Nets, new: Nets | None, span: int | None) -> tuple[Nets, int]:
    nets = code_nets(io, old, new)
    found = code_number(io, span)
    if not 1 <= found <= MAX_FRAMES:
        raise StreamError("the group is damaged: the distance of its anchors is out of range")
    return nets, found


def last_use(slots: list[Slot]) -> dict[int, int]:
    """The place in coding order after which a frame is no reference any more."""
    return {ref: place for place, slot in enumerate(slots) for ref in slot.refs}


class GridPreset:
    name = "grid"
    group_frames = 16  # a good length of groups
    default_effort = 0.0  # trying and training costs four times the seconds for at most a few percent of the bits

    def fit(
        self,
        group: Group,
        previous: Any | None,
        settings: FitSettings,
        report: Callable[[FitProgress], None] | None = None,
    ) -> Fitted:
        from .nirvana_grid_fit import fit

        return fit(group, previous, settings, report)

    def decode(self, payload: bytes, previous: Any | None, shape: GroupShape) -> tuple[list[Planes], State]:
        if previous is not None and not isinstance(previous, State):
            raise StreamError("the state of the group before isn't one of the preset grid")
        if not payload or payload[0] != VERSION:
            raise StreamError(
                f"this group isn't one of the preset grid, version {VERSION}: it may be damaged, or newer; "
                "pip install -U codec-suite"
            )
        layout = Layout(shape.pixels, shape.height, shape.width)
        if previous is not None and [p.shape for p in previous.picture.planes] != [
            layout.shape(p) for p in range(len(layout.scales))
        ]:
            raise StreamError("the state of the group before is of another size or kind of pixels")
        io = Reader(payload[1:])
        nets, span = code_start(io, previous.nets if previous else start(), None, None)
        pictures: dict[int, Picture] = {} if previous is None else {-1: previous.picture}
        frames: dict[int, Planes] = {}
        slots = schedule(shape.n_frames, previous is not None, span)
        done = last_use(slots)
        for place, slot in enumerate(slots):
            refs = [pictures[r] for r in slot.refs]
            pictures[slot.frame], _ = code_frame(io, nets, layout, refs, slot.distances, slot.depth, None)
            frames[slot.frame] = from_planes(pictures[slot.frame].planes, shape.pixels)
            for r in [r for r in pictures if done.get(r, -1) <= place and r != shape.n_frames - 1]:
                pictures.pop(r).forget()
        io.finish()
        last = pictures[shape.n_frames - 1]
        return [frames[k] for k in range(shape.n_frames)], State(nets, last)
