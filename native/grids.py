"""Fixed-point grids and bands of rows: what the kernels of networks share.

A `Grid` is the quantiser `entropy.exact.FixedPoint` without torch: the same integers of the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "Rows", "round_half_up"]


def round_half_up(x: NDArray[Any]) -> NDArray[Any]:
    """floor(x + 1/2), as floats."""
    return np.floor(x + 0.5)


@dataclass(frozen=True)
class Grid:
    """A quantiser to multiples of 2**-exponent in `bits` bits.

    signed: integers from -(2**(bits-1) - 1) to 2**(bits-1) - 1; otherwise 0 to 2**bits - 1, and with a leak negative
    values are multiplied by 2**-leak, and end at -(2**bits - 1) >> leak.
    """

    bits: int
    signed: bool
    exponent: int
    leak: int = 0

    @property
    def largest(self) -> int:
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    @property
    def smallest(self) -> int:
        return -self.largest if self.signed else -(self.largest >> self.leak) if self.leak else 0

    def integers(self, x: NDArray[Any]) -> NDArray[Any]:
        """The integers of numbers, as floats of their dtype: divided by the grid's unit, rounded half up, clamped."""
        if self.leak:
            x = np.where(x > 0, x, x * x.dtype.type(2.0**-self.leak))
        return np.clip(round_half_up(x * x.dtype.type(2.0**self.exponent)), self.smallest, self.largest)

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """The nearest numbers on the grid, in the dtype of x."""
        return self.integers(x) * x.dtype.type(2.0**-self.exponent)


@dataclass
class Rows:
    """Some rows of an activation (height, width, channels) that isn't in memory as a whole.

    array: (n, width, channels), C-contiguous; its row 0 is row `first` of the activation. Beyond the edges of the
    activation is zero; rows inside it that an operation needs must be here.
    """

    array: NDArray[Any]
    first: int
    height: int

    @classmethod
    def empty(cls, height: int, width: int, channels: int, dtype: Any) -> Rows:
        """All rows of an activation, not filled."""
        return cls(np.empty((height, width, channels), dtype), 0, height)

    @property
    def stop(self) -> int:
        """The row behind the last one that is here."""
        return self.first + len(self.array)

    def cut(self, top: int, bottom: int) -> NDArray[Any]:
        """A view of the rows top ... bottom - 1, which must be here."""
        assert self.first <= top <= bottom <= self.stop, "these rows aren't here"
        return self.array[top - self.first : bottom - self.first]
