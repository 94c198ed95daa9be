"""Preset `grid` of the video codec `nirvana`: latent grids, small networks, all fitted to the group that they code.

From the family of Cool-chic (Ladune et al., ICCV 2023; Leguay et al. for video) and C3 (Kim et al., CVPR 2024, arXiv
2312.02753), in the frame of NIRVANA (Maiya et al., CVPR 2023, arXiv 2212.14593): group by group, networks that start
from those of the group before and are sent as differences to them. Differs from all of them so that a frame takes
seconds on two CPU cores and decodes in real time: the linear part of the synthesis is fixed (block transforms, motion
compensation), so latents start at their optimum in closed form; what is learned is the filter behind it and the
networks that predict the latents' distributions. Every pass over a grid is parallel; all of decoding is integers.

This module is the seam to the codec, and decodes. structure.py describes the payload, fit.py
encodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ....errors import StreamError
from ...base.video.groups import Checkpoint, FitProgress, FitSettings, Fitted, Group, GroupShape, Planes, Preset
from .fit import fit
from .frame import DecodedPicture, PlaneLayout, code_frame, from_planes
from .networks import start_nets
from .structure import VERSION, State, code_start, coding_order, last_use
from .symbols import SymbolReader


@dataclass(frozen=True, kw_only=True)
class GridPreset(Preset):
    """The preset `grid`. It computes on the processor, whatever device is asked for."""

    name: ClassVar[str] = "grid"
    # trying and training costs four times the seconds for at most a few percent of the bits
    default_effort: ClassVar[float] = 0.0

    group_frames: int = 16  # two mini-GOPs

    def on(self, device: str) -> GridPreset:
        return self

    def fit(
        self,
        group: Group,
        previous: Any | None,
        settings: FitSettings,
        report: Callable[[FitProgress], None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Fitted:
        return fit(group, previous, settings, report)

    def decode(self, payload: bytes, previous: Any | None, shape: GroupShape) -> tuple[list[Planes], State]:
        if previous is not None and not isinstance(previous, State):
            raise StreamError("the state of the group before isn't one of the preset grid")
        if not payload or payload[0] != VERSION:
            raise StreamError(
                f"this group isn't one of the preset grid, version {VERSION}: it may be damaged, or newer; "
                "pip install -U codec-suite"
            )
        layout = PlaneLayout(shape.pixels, shape.height, shape.width)
        if previous is not None and [p.shape for p in previous.picture.planes] != [
            layout.shape(p) for p in range(len(layout.scales))
        ]:
            raise StreamError("the state of the group before is of another size or kind of pixels")
        io = SymbolReader(payload[1:])
        nets, mini_gop = code_start(io, previous.nets if previous else start_nets(), None, None)
        pictures: dict[int, DecodedPicture] = {} if previous is None else {-1: previous.picture}
        frames: dict[int, Planes] = {}
        order = coding_order(shape.n_frames, previous is not None, mini_gop)
        done = last_use(order)
        for place, entry in enumerate(order):
            refs = [pictures[r] for r in entry.refs]
            pictures[entry.frame], _ = code_frame(io, nets, layout, refs, entry.distances, entry.depth, None)
            frames[entry.frame] = from_planes(pictures[entry.frame].planes, shape.pixels)
            for r in [r for r in pictures if done.get(r, -1) <= place and r != shape.n_frames - 1]:
                pictures.pop(r).forget()
        io.finish()
        last = pictures[shape.n_frames - 1]
        return [frames[k] for k in range(shape.n_frames)], State(nets, last)
