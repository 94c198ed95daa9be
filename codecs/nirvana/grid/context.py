"""The context of a plane of the preset `grid`: all that it is coded in the light of, and an encoder's decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....native import passes
from .symbols import LARGEST, Int, Rows
from .transform import BANDS, Bool, Float, blocks, forward16, forward_bands, of_pairs

__all__ = [
    "LOW",
    "Bytes",
    "Grids",
    "PlaneContext",
    "PlaneDecisions",
    "Tally",
    "Texture",
    "halved",
    "magnitude_table",
    "ratios",
]

Bytes = NDArray[np.uint8]


@lru_cache(maxsize=1)
def magnitude_table() -> Bytes:
    """The feature of a magnitude, 8 log2(1 + |q|), rounded.

    Negative indices count from the end, so it takes q with its sign.
    """
    table = np.round(8 * np.log2(1 + np.arange(LARGEST + 1))).astype(np.uint8)
    return np.concatenate([table, table[:0:-1]])


@lru_cache(maxsize=1)
def _ratio_table() -> Bytes:
    """The feature 8 log2(1 + r / 2), rounded, of r quarters of a step."""
    return np.round(8 * np.log2(1 + np.arange(LARGEST + 1) / 2)).astype(np.uint8)


def ratios(coefficients: Float, step: int) -> Bytes:
    """The features of |coefficients| (in units of 2**-24 sixteenths) by the step: one correctly rounded division."""
    r = np.abs(coefficients)
    r /= step * 2.0**22
    np.minimum(r, LARGEST, out=r)
    return _ratio_table().take(r.astype(np.int32))  # at least 0: the integer below


@dataclass
class Grids:
    """The grids of a coded plane that others are coded in the light of.

    magnitude: features of its coefficients' magnitudes, (64, h, w). level: (h, w).
    """

    magnitude: Bytes
    level: Int

    @staticmethod
    def empty(h: int, w: int) -> Grids:
        return Grids(np.zeros((BANDS, h, w), np.uint8), np.zeros((h, w), np.int64))

    @cached_property
    def some(self) -> bool:
        """Whether any level isn't zero. If none is, the magnitudes are all zero, too."""
        return bool(self.level.any())

    def halved(self, h: int, w: int) -> Grids:
        """The grids for a plane of half the resolution, (h, w) blocks: the largest of each 2x2."""
        assert 2 * h >= self.level.shape[0] and 2 * w >= self.level.shape[1]
        if not self.some:
            return Grids.empty(h, w)
        return Grids(halved(self.magnitude, h, w), halved(self.level[None], h, w)[0])


def halved(grid: NDArray[Any], h: int, w: int) -> NDArray[Any]:
    """The largest of each 2x2 of grids (n, H, W): (n, h, w)."""
    if grid.shape[1:] != (2 * h, 2 * w):
        grid = np.pad(grid, [(0, 0), (0, 2 * h - grid.shape[1]), (0, 2 * w - grid.shape[2])])
    tall = np.maximum(grid[:, ::2], grid[:, 1::2])
    return np.maximum(tall[..., ::2], tall[..., 1::2])


# bands whose texture the network of levels sees: the lowest, then two rings of higher ones
LOW = (1, 8, 9, 2, 16, 10, 17, 18, 3, 24, 11, 25, 27, 36, 4, 32)


class Texture:
    """The features of a prediction's coefficients, made where they are asked for."""

    def __init__(self, prediction: Float, step: int) -> None:
        h, w = prediction.shape
        self._prediction, self._step = prediction, step
        self._blocks = blocks(prediction, 8).reshape(-1, BANDS)
        self._is_made = np.zeros(h * w // BANDS, bool)
        self._grid = np.zeros((BANDS, h // 8, w // 8), np.uint8)

    @cached_property
    def low(self) -> Bytes:
        """The features of the bands `LOW` under 8x8 transforms: (16, h w)."""
        return ratios(forward_bands(self._blocks, LOW), self._step)

    def at(self, where: Bool, large: Bool) -> Bytes:
        """The features of all bands: (64, h, w), right at the blocks `where`.

        They are under 16x16 transforms at `large` (h / 2, w / 2).
        """
        missing = np.flatnonzero(where.ravel() & ~self._is_made)
        if len(missing):
            self._is_made[missing] = True
            coefficients = forward_bands(self._blocks.take(missing, axis=0), None)
            self._grid.reshape(BANDS, -1)[:, missing] = ratios(coefficients, self._step)
        if not large.any():
            return self._grid
        grid = self._grid.copy()
        of_pairs(grid)[:, :, :, large] = ratios(forward16(self._prediction, large), self._step)
        return grid


@dataclass
class PlaneContext:
    """All that a plane's grids are coded in the light of.

    kind: 0 luma or 1 chroma, plus 2 for a predicted frame. past: grids of the references, summed. cross: grids of
    luma, for chroma. twin: grids of the first chroma plane, for the second. motion: (h, w) feature.
    """

    kind: int
    depth: int
    step_index: int
    texture: Texture
    past: Grids
    cross: Grids
    twin: Grids
    motion: Int
    first_band: int = 0  # 1: the averages are coded elsewhere


@dataclass
class Tally:
    """The outcome of coding a plane, for the encoder. gather: features and symbols, too, not just bits of levels."""

    gather: bool = True
    features: list[NDArray[np.uint8]] = field(default_factory=list)
    bands: list[Int] = field(default_factory=list)
    symbols: list[Int] = field(default_factory=list)
    level_features: list[NDArray[np.uint8]] = field(default_factory=list)
    level_choice: list[Int] = field(default_factory=list)
    level_symbols: list[Int] = field(default_factory=list)
    level_bits: Float | None = None  # (LEVELS + 1, h, w)


@dataclass
class PlaneDecisions:
    """The decisions of an encoder about a plane.

    levels: (h, w). large: (h / 2, w / 2), blocks with a 16x16 transform. pick(rows, bands, blocks): coefficients for a
    pass; blocks are flat indices. coefficients, choice: what `pick` gives, as all of them (64, h, w), or as how they
    are chosen; None: it takes `pick`.
    """

    levels: Int
    large: Bool | None
    pick: Callable[[Rows, Int, Int], Int]
    tally: Tally | None = None
    coefficients: Int | None = None
    choice: passes.Choice | None = None
