"""What a preset of a group-by-group video codec is: the seam between the stream and the networks.

A video is cut into groups of consecutive frames. A preset turns a group into bytes and back; a group may lean on the
state that the one before it left behind, unless it is a key group. Used by `nirvana` (Maiya et al., CVPR 2023, arXiv
2212.14593) and its presets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = Literal["rgb24", "yuv420p", "gray"]
# rgb24: one (H, W, 3); gray: one (H, W); yuv420p: Y (H, W), U and V (ceil(H/2), ceil(W/2)); uint8
Planes = tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True)
class GroupShape:
    n_frames: int
    pixels: Pixels
    width: int
    height: int


@dataclass(frozen=True)
class Group:
    """Consecutive frames of one scene."""

    frames: Sequence[Planes]
    pixels: Pixels
    width: int
    height: int

    @property
    def shape(self) -> GroupShape:
        return GroupShape(len(self.frames), self.pixels, self.width, self.height)


@dataclass(frozen=True)
class FitSettings:
    """effort: optimiser steps of a key group, as a multiple of the preset's own number. quality: 1 to 100. Where a
    target is given, fitting a group ends when it is met: psnr in dB over all samples of the group."""

    effort: float = 1.0
    quality: float = 50.0
    psnr: float | None = None
    seed: int = 1


@dataclass(frozen=True)
class FitProgress:
    step: int
    steps: int
    bits: float  # of the group, as estimated now
    psnr: float


@dataclass(frozen=True)
class Fitted:
    """payload: all that is sent. state: what the next group may lean on, equal to what `decode` arrives at. frames:
    what `decode` gives. stats: iterations, seconds, psnr, bits of each part."""

    payload: bytes
    state: Any
    frames: Sequence[Planes]
    stats: Mapping[str, float] = field(default_factory=dict)


class Preset(Protocol):
    """Both directions of one kind of network. Everything that `decode` computes is exact: the same frames and state on
    any machine."""

    name: str

    def fit(
        self,
        group: Group,
        previous: Any | None,
        settings: FitSettings,
        report: Callable[[FitProgress], None] | None = None,
    ) -> Fitted: ...

    def decode(self, payload: bytes, previous: Any | None, shape: GroupShape) -> tuple[list[Planes], Any]:
        """StreamError if the payload isn't one of this preset, or `previous` isn't the state that it leans on."""
        ...
