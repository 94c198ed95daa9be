"""Convolutions of integers of up to 20 bits by 16-bit weights: sums that int32 can't hold, exact all the same.

A value is cut in two, `high` * 2**shift + `low`, and two chains of int16 products run side by side, each in int32;
what they stand for together is put into float64 at the end. The bound that makes it right is proved from the weights.
The twin in NumPy is a matrix product in float64, which is exact too: no sum reaches 2**53.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grids import Grid, Rows

__all__ = ["MOST_BITS", "Wide"]

MOST_BITS = 20  # of an input, its sign included
_ROOM = 2**52  # of a sum: rounding adds half a unit, which takes one more bit
_CELLS = 1 << 12  # cells that the twin looks at together: its float64 columns are 9 times as large as its input


class Wide:
    """A convolution of `Integers` (codecs/layers/frozen.py): wide inputs, 16-bit weights.

    weight: (O, I, k, k) int16, k odd. bias, exponent: (O,). grid: the integers of the input. ValueError if a sum could
    leave 53 bits.
    """

    def __init__(self, weight: NDArray[Any], bias: NDArray[Any], exponent: NDArray[Any], grid: Grid) -> None:
        outputs, inputs, size, other = weight.shape
        if not outputs or not inputs or size != other or size % 2 != 1:
            raise ValueError(f"weights of {weight.shape}: expected (O, I, k, k) with an odd k")
        if bias.shape != (outputs,) or exponent.shape != (outputs,):
            raise ValueError(f"{outputs} outputs, but biases {bias.shape} and exponents {exponent.shape}")
        largest = max(grid.largest, -grid.smallest)
        if largest >= 2**MOST_BITS:
            raise ValueError(f"inputs of up to {largest}: expected at most {MOST_BITS} bits")
        self.weight = np.ascontiguousarray(weight, np.int16)
        if not np.array_equal(self.weight, weight):
            raise ValueError("a weight has more than 16 bits")
        reach = np.abs(self.weight.astype(np.int64)).reshape(outputs, -1).sum(1) * float(largest)
        if float((reach + np.abs(bias.astype(np.float64))).max()) > _ROOM:
            raise ValueError("a sum of this layer can have more than 52 bits")
        self.grid, self.inputs, self.outputs, self.size = grid, inputs, outputs, size
        self.bias = np.ascontiguousarray(bias, np.float64)
        self.scale = np.exp2(-(exponent.astype(np.float64) + grid.exponent))
        self._matrix: NDArray[np.float64] | None = None

    def rows(
        self,
        x: Rows,
        top: int,
        bottom: int,
        *,
        out: Rows,
        limit: int = 2**31 - 1,
        out_exponent: int = 0,
        gain: NDArray[np.float64] | None = None,
        grid: Grid | None = None,
        shuffle: int = 1,
    ) -> None:
        """Rows top ... bottom - 1 of the convolution of x (int32, integers of the input's grid), into `out` (int32).

        A value v is (sum + bias) * 2**-(exponent + the grid's), times the gain of its channel, (C,), if there is one.
        out takes floor(v * 2**out_exponent + 1/2) in -limit ... limit, or with a grid that grid's integers. shuffle: as
        torch's pixel_shuffle, output c * shuffle**2 + i * shuffle + j is channel c at row shuffle * y + i, column
        shuffle * x + j; top and bottom count rows of x, `out` and the gain are what comes out.
        """
        width, channels = x.array.shape[1], self.outputs // shuffle**2
        assert x.array.dtype == np.int32 and x.array.shape[2] == self.inputs, "x isn't what this layer takes"
        assert channels * shuffle**2 == self.outputs and out.height == x.height * shuffle, "out has other sizes"
        assert out.array.dtype == np.int32 and out.array.shape[1:] == (width * shuffle, channels), "out has other sizes"
        assert gain is None or (gain.shape == (channels,) and gain.dtype == np.float64), "a gain for each channel"
        assert 0 <= top <= bottom <= x.height and 0 < limit < 2**31
        target = out.cut(top * shuffle, bottom * shuffle)
        pad = self.size // 2
        x.cut(max(0, top - pad), min(x.height, bottom + pad))  # they must be here
        step = max(1, _CELLS // max(1, width))
        for first in range(top, bottom, step):
            stop = min(bottom, first + step)
            v = self.sums(x, first, stop) * self.scale
            if shuffle > 1:
                v = v.reshape(stop - first, width, channels, shuffle, shuffle).transpose(0, 3, 1, 4, 2)
                v = v.reshape((stop - first) * shuffle, width * shuffle, channels)
            if gain is not None:
                v *= gain
            if grid is not None:
                v = grid.integers(v)
            else:
                v = np.clip(np.floor(v * 2.0**out_exponent + 0.5), -limit, limit)
            target[(first - top) * shuffle : (stop - top) * shuffle] = v

    def sums(self, x: Rows, top: int, bottom: int) -> NDArray[np.float64]:
        """The integers sum of weight * input + bias of rows top ... bottom - 1, (n, width, O) float64: the twin."""
        n, width, pad, size = bottom - top, x.array.shape[1], self.size // 2, self.size
        low, high = max(0, top - pad), min(x.height, bottom + pad)
        padded = np.zeros((n + 2 * pad, width + 2 * pad, self.inputs))
        padded[low - top + pad : high - top + pad, pad : pad + width] = x.cut(low, high)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (0, 1))  # (n, width, I, k, k)
        return self.product(windows.reshape(n * width, -1)).reshape(n, width, self.outputs)

    def product(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of inputs that lie in columns already, (n, I k k) float64: (n, O)."""
        if self._matrix is None:
            self._matrix = np.ascontiguousarray(self.weight.reshape(self.outputs, -1).T, np.float64)
        return columns @ self._matrix + self.bias
