"""The coding order and the table rows of the lattice context model, without torch: see `lattice.py`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...native.lattice import RowRule

LEVELS = 5
SCALES = 64
STEPS_PER_OCTAVE = 115 / 16  # of the scale; a short binary fraction
LOG2_SCALE_MIN = -3.5  # logistic scale, in quantisation steps
LOG2_SCALE_MAX = LOG2_SCALE_MIN + (SCALES - 1) / STEPS_PER_OCTAVE  # 5.27
MEAN_BITS = 3  # means are multiples of 1/8 step

_TILE = ((0, 4, 2, 4), (4, 3, 4, 3), (2, 4, 1, 4), (4, 3, 4, 3))


@dataclass(frozen=True)
class LatticeStep:
    """One step of the coding order: channels start:stop at the positions of some lattice levels, coded together."""

    start: int
    stop: int
    levels: tuple[int, ...]

    @property
    def seen(self) -> int:
        """The number of channels, from the first on, that the step's network sees: what later ones hold is unknown."""
        return self.stop if min(self.levels) > 0 else self.start


def schedule(groups: tuple[int, ...]) -> tuple[LatticeStep, ...]:
    """The coding order of channel groups of the given sizes: the first in five lattice steps, the others in two."""
    steps, start = [], 0
    for index, size in enumerate(groups):
        passes = [(0,), (1,), (2,), (3,), (4,)] if index == 0 else [(0, 1, 2, 3), (4,)]
        steps += [LatticeStep(start, start + size, levels) for levels in passes]
        start += size
    return tuple(steps)


def levels_of(height: int, width: int) -> NDArray[np.int64]:
    """The lattice level of each position, (H, W): 0 (every 4th row and column) to 4 (odd squares of a board)."""
    return np.tile(np.array(_TILE), (-(-height // 4), -(-width // 4)))[:height, :width]


@lru_cache(maxsize=14)
def positions_of(levels: tuple[int, ...], height: int, width: int) -> NDArray[np.int32]:
    """The flat indices of the positions of some levels, in raster order."""
    where = np.flatnonzero(np.isin(levels_of(height, width), levels)).astype(np.int32)
    where.flags.writeable = False
    return where


@lru_cache(maxsize=1)
def row_rule() -> RowRule:
    """How mean and scale choose a row: `lattice.table_rows` in numbers."""
    scales = np.exp2(LOG2_SCALE_MIN + np.arange(SCALES) / STEPS_PER_OCTAVE)
    shifts = (scales > 0.5).astype(np.int32) + (scales > 1.0) + (scales > 2.0)  # no scale is near one of these
    offsets = np.concatenate([[0], np.cumsum(2 ** (MEAN_BITS - shifts))]).astype(np.int32)
    return RowRule(LOG2_SCALE_MIN, STEPS_PER_OCTAVE, MEAN_BITS, shifts.astype(np.int32), offsets)
