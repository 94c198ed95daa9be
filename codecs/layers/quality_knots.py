"""Vectors that depend on the quality, without torch: linear between knots, and gains.

The same numbers as `Knots.exactly` and `Gain.factor` in quality_gains.py, which train them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.grids import round_half_up
from .transform_settings import STEPS, TABLE_BITS

__all__ = ["gain_factor", "knot_vector"]


def knot_vector(values: NDArray[Any], step: int, unit: float = 1.0) -> NDArray[np.float64]:
    """The vector at a quality step, (C,): exact multiples of 2**-(TABLE_BITS + 6) units. values: (knots, C)."""
    low = min(step // STEPS, len(values) - 2)
    part = step - low * STEPS
    ends = round_half_up(values[low : low + 2].astype(np.float64) * 2**TABLE_BITS)
    return (ends[0] * (STEPS - part) + ends[1] * part) * (unit / (STEPS * 2**TABLE_BITS))


def gain_factor(values: NDArray[Any], step: int) -> NDArray[np.float64]:
    """The gain at a quality step, (C,), with 16 fractional bits to each octave: exp2 of `knot_vector`."""
    exponent = knot_vector(values, step)
    octave = np.floor(exponent)
    fraction = ((exponent - octave) * 2 ** (TABLE_BITS + 6)).astype(np.int64)
    return _exp2_table()[fraction] * np.exp2(octave)


@functools.lru_cache(maxsize=1)
def _exp2_table() -> NDArray[np.float64]:
    """The powers 2**(k / 2**16), (2**16,), rounded to multiples of 2**-16: no library's last bit shows."""
    return round_half_up(np.exp2(np.arange(1 << 16) / (1 << 16)) * 2**16) * 2.0**-16
