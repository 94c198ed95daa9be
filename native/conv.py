"""Convolutions in 16-bit integers whose sums fit 32 bits, with what follows them in fixed-point networks: `Narrow`.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
fuse what follows likewise; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, have the
Winograd forms of 3x3 kernels. Differs: the transforms are in integers mod 2**32, where they are exact, their fractions
taken out as common factors (src/conv.h), and the form is chosen by bounds that hold for any input on the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grids import Grid, Rows

__all__ = ["Narrow"]

_LARGEST_EXPONENT = 90  # of a scale: all numbers are normal ones


class Narrow:
    """A zero-padded "same" convolution of int16 activations on a grid, 1x1, 3x3 or 5x5, and its epilogue.

    Its output is float32(sum of weight * input + bias) * 2**-(exponent + exponent of the grid), for inputs between
    the grid's limits.
    """

    def __init__(
        self,
        weight: NDArray[Any],
        bias: NDArray[Any],
        exponent: NDArray[Any],
        grid: Grid,
        *,
        shuffle: int = 1,
        stride: int = 1,
    ) -> None:
        """Makes a layer of integers: weight (O, I, k, k), bias (O,), exponent (O,); ValueError if a bound fails.

        shuffle: output channel c * shuffle**2 + i * shuffle + j goes to row y * shuffle + i and column
        x * shuffle + j of channel c. stride: only these rows and columns are computed.
        """
        weight, bias, exponent = (np.asarray(x) for x in (weight, bias, exponent))
        assert all(x.dtype.kind in "iu" for x in (weight, bias, exponent)), "a layer of integers is needed"
        assert weight.ndim == 4 and weight.shape[2] == weight.shape[3] in (1, 3, 5) and min(weight.shape) > 0
        assert bias.shape == exponent.shape == weight.shape[:1] and shuffle in (1, 2) and stride >= 1
        assert len(weight) % shuffle**2 == 0
        reach = max(grid.largest, -grid.smallest)
        if reach > 32767 or np.abs(weight.astype(np.int64)).max() > 32767:
            raise ValueError("inputs and weights of a narrow convolution have 16 bits")
        sums = np.abs(weight.astype(np.int64)).sum((1, 2, 3)) * reach
        if (np.abs(bias.astype(np.float64)) + sums).max() >= 2**31:
            raise ValueError(
                f"a sum of this layer can reach 2**{np.log2(sums.max() + 1.0):.1f}, more than 32 bits hold"
            )
        scale = exponent.astype(np.int64) + grid.exponent
        if np.abs(scale).max() > _LARGEST_EXPONENT:
            raise ValueError(f"exponents of this layer leave +-{_LARGEST_EXPONENT}")
        self.grid, self.shuffle, self.stride = grid, shuffle, stride
        self.outer, self.inner, self.kernel = weight.shape[:3]
        self.largest_sum = int(sums.max())
        self._weight, self._bias = weight.astype(np.int16), bias.astype(np.int64)
        self._scale = np.ldexp(np.float32(1), -scale).astype(np.float32)
        self._matrices: NDArray[Any] | None = None  # of the twin

    @property
    def channels(self) -> int:
        """The channels of the result."""
        return self.outer // self.shuffle**2

    def side(self, side: int, offset: int = 0) -> int:
        """The height, or width, of the output for that of an input, before the shuffle."""
        return len(range(offset, side, self.stride))

    def run(
        self,
        x: Rows,
        top: int,
        bottom: int,
        *,
        offset: int = 0,
        residual: Rows | None = None,
        gain: NDArray[Any] | None = None,
        wide: bool = False,
        stream: Grid | None = None,
        kept: Rows | None = None,
        out: Rows | None = None,
        grid: Grid | None = None,
        values: Rows | None = None,
    ) -> None:
        """Computes rows top ... bottom - 1 of the output of x, int16 (they are counted before the shuffle).

        offset: the first row and column of the input at which there is an output, for a stride. What becomes of an
        output v, in float32, or after the convolution in float64 (wide):

        - residual (float32): residual + v. gain, (channels,): v * gain. stream: stream(v), v on this grid;
        - kept (float32) takes v now, and may be the residual itself; values (float32) takes it, too;
        - out (int16) takes the integers of v on `grid`.

        Results and residuals are (rows, columns, channels) after the shuffle. None may overlap x.
        """
        self._check(x, top, bottom, offset)
        height, width = self.side(x.height, offset), self.side(x.array.shape[1], offset)
        places = []
        for rows, dtype in ((residual, np.float32), (kept, np.float32), (values, np.float32), (out, np.int16)):
            places.append(None if rows is None else self._place(rows, dtype, top, bottom, height, width))
        assert (out is None) == (grid is None), "`out` takes integers of `grid`"
        assert grid is None or max(grid.largest, -grid.smallest) <= 32767, "`out` takes grids of 16 bits"
        for each in (stream, grid):
            assert each is None or (abs(each.exponent) <= _LARGEST_EXPONENT and 0 <= each.leak <= 16)
        if gain is not None:
            gain = np.ascontiguousarray(gain, np.float64 if wide else np.float32)
            assert gain.shape == (self.channels,), f"the gain has the shape {gain.shape}, not {(self.channels,)}"
        if top < bottom and width:
            self._twin(x, top, bottom, offset, width, gain, wide, stream, grid, places)

    def _check(self, x: Rows, top: int, bottom: int, offset: int) -> None:
        assert x.array.dtype == np.int16 and x.array.ndim == 3 and x.array.flags.c_contiguous, "x is int16, contiguous"
        assert x.array.shape[2] == self.inner, f"x has {x.array.shape[2]} channels, not {self.inner}"
        assert 0 <= offset < self.stride and 0 <= top <= bottom <= self.side(x.height, offset), "these rows aren't x's"
        if top < bottom:
            pad = self.kernel // 2
            x.cut(
                max(0, top * self.stride + offset - pad), min(x.height, (bottom - 1) * self.stride + offset + pad + 1)
            )

    def _place(self, rows: Rows, dtype: Any, top: int, bottom: int, height: int, width: int) -> NDArray[Any]:
        array, s = rows.array, self.shuffle
        assert array.dtype == dtype and array.ndim == 3 and array.flags.c_contiguous, "results are contiguous rows"
        assert rows.height == height * s and array.shape[1:] == (width * s, self.channels), "results have another shape"
        return rows.cut(top * s, bottom * s)

    # ---- the twin

    def _sums(self, x: Rows, top: int, bottom: int, offset: int, width: int) -> NDArray[Any]:
        """The outputs of the convolution in integers, (rows, columns, outer), as floats that hold them exactly."""
        if self._matrices is None:
            # no sum, and no part of one, leaves what the dtype holds exactly, in any order
            dtype = np.float32 if self.largest_sum < 2**24 else np.float64
            self._matrices = self._weight.transpose(2, 3, 1, 0).astype(dtype)
        k, s, pad = self.kernel, self.stride, self.kernel // 2
        first, rows = top * s + offset - pad, (bottom - top - 1) * s + k
        low, high = max(0, first), min(x.height, first + rows)
        seen = np.zeros((rows, x.array.shape[1] + 2 * pad, self.inner), self._matrices.dtype)
        seen[low - first : high - first, pad : seen.shape[1] - pad] = x.cut(low, high)
        sums = np.zeros(((bottom - top) * width, self.outer), self._matrices.dtype)
        for i in range(k):
            for j in range(k):
                part = seen[i : i + (bottom - top - 1) * s + 1 : s, j + offset : j + offset + (width - 1) * s + 1 : s]
                sums += np.ascontiguousarray(part).reshape(-1, self.inner) @ self._matrices[i, j]
        return sums.reshape(bottom - top, width, self.outer)

    def _twin(
        self,
        x: Rows,
        top: int,
        bottom: int,
        offset: int,
        width: int,
        gain: NDArray[Any] | None,
        wide: bool,
        stream: Grid | None,
        grid: Grid | None,
        places: list[NDArray[Any] | None],
    ) -> None:
        """The twin of the kernel."""
        residual, kept, values, out = places
        sums = self._sums(x, top, bottom, offset, width).astype(np.float64) + self._bias
        v = sums.astype(np.float32) * self._scale
        if (s := self.shuffle) > 1:
            v = v.reshape(bottom - top, width, self.channels, s, s).transpose(0, 3, 1, 4, 2)
            v = v.reshape((bottom - top) * s, width * s, self.channels)
        if wide:
            v = v.astype(np.float64)
        if residual is not None:
            v = residual + v
        if gain is not None:
            v = v * gain
        if stream is not None:
            v = stream(v)
        for place in (kept, values):
            if place is not None:
                place[...] = v
        if out is not None and grid is not None:
            out[...] = grid.integers(v)
