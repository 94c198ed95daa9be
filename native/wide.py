"""Convolutions of integers of up to 20 bits by 16-bit weights: sums that int32 can't hold, exact all the same.

A value is cut in two, `high` * 2**shift + `low`, and two chains of int16 products run side by side, each in int32;
what they stand for together is put into float64 at the end. The bound that makes it right is proved from the weights.
The twin in NumPy is a matrix product in float64, which is exact too: no sum reaches 2**53.

`Wide` is a convolution by rows. `CellNetwork` is two layers on single cells, of a checkerboard for example, whose input
is put together from what other layers gave.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import native
from .grids import Grid, Rows
from .sums import WeightSums, weight_sums

__all__ = ["MOST_BITS", "CellNetwork", "Fine", "Wide", "cells_of", "finest", "put_latents", "shift_latents"]

MOST_BITS = 20  # of an input, its sign included
_ROOM = 2**52  # of a sum: rounding adds half a unit, which takes one more bit
_CELLS = 1 << 12  # cells that the twin looks at together: its float64 columns are 9 times as large as its input
_BLOCK = 16  # outputs of a block of packed weights
_MOST_TAPS = 49
_FINE_LIMIT = 2**23 - 1
_DAMAGED = -3  # the status of a kernel whose result doesn't fit
_MOST_FINER = 6  # bits: every consumer's limits lie within _FINE_LIMIT, even those of negative values (leak 3)


class _Layer(ctypes.Structure):
    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("inputs", "blocks", "taps", "fold", "single", "shift", "least", "most")),
        ("size", ctypes.c_int32),
        ("tap", ctypes.c_void_p),
    )


class _Out(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("scale", "gain", "add")),
        *((name, ctypes.c_double) for name in ("half", "slope", "least", "most")),
    )


class _Rows(ctypes.Structure):
    _fields_ = (
        ("layer", _Layer),
        ("out", _Out),
        ("x", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("x_bits", "first", "height", "width")),
        *((name, ctypes.c_int64) for name in ("x_cell", "x_row")),
        *((name, ctypes.c_int32) for name in ("top", "bottom")),
        ("y", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("y_width", "channels", "blocks_of_phase", "shuffle")),
    )


class _Cells(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("height", "width", "parity")),
        ("fine", ctypes.c_void_p * 2),
        ("fine_low", ctypes.c_void_p * 2),
        ("fine_channels", ctypes.c_int32 * 2),
        ("fine_shift", ctypes.c_int32 * 2),
        ("leak", ctypes.c_int32),
        ("y", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("y_bits", "y_cell", "y_start")),
        ("conv", _Layer),
        ("conv_out", _Out),
        ("first", _Layer),
        ("second", _Layer),
        ("first_out", _Out),
        ("second_out", _Out),
        *((name, ctypes.c_int32) for name in ("channels", "blocks_of_phase", "levels")),
        ("cells", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("means", "rows", "shifts")),
    )


class _Packed:
    """The weights of a layer as kernels take them: blocks of 16 outputs, each phase filled up with zeros."""

    def __init__(self, wide: Wide, phases: int, interleaved: bool) -> None:
        """interleaved: the phase of an output is its remainder (as for a shuffle); or they lie one behind the other."""
        channels = wide.outputs // phases
        self.blocks_of_phase = -(-channels // _BLOCK)
        order = np.full((phases, self.blocks_of_phase * _BLOCK), -1, np.int32)
        outputs = np.arange(wide.outputs, dtype=np.int32)
        order[:, :channels] = outputs.reshape(channels, phases).T if interleaved else outputs.reshape(phases, channels)
        self.order = order.reshape(-1)
        blocks = len(self.order) // _BLOCK
        area, pairs = wide.size**2, (wide.inputs + 1) // 2
        taps = wide.taps
        self.weight = np.empty((blocks, len(taps), pairs, _BLOCK, 2), np.int16)
        arrays = [_pointer(array) for array in (wide.weight, self.order, taps, self.weight)]
        sizes = [ctypes.c_int64(n) for n in (wide.outputs, wide.inputs, area, blocks, len(taps))]
        module = native.library()
        assert module is not None
        status = module.codec_wide_pack(arrays[0], *sizes[:3], arrays[1], sizes[3], arrays[2], sizes[4], arrays[3])
        native.check(status)
        self.bias = self.spread(wide.bias)
        self.tap = np.stack([taps // wide.size, taps % wide.size], 1).astype(np.int8) - np.int8(wide.size // 2)
        least, most, shift = wide.grid.smallest, wide.grid.largest, wide.shift
        self.layer = _Layer(
            self.weight.ctypes.data, self.bias.ctypes.data, wide.inputs, blocks, len(taps), wide.fold, wide.single,
            shift, least, most, wide.size, self.tap.ctypes.data,
        )  # fmt: skip

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of all outputs, (O,), in the order of the packed ones; zero where there is none."""
        return np.where(self.order >= 0, values[self.order], 0.0)


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class _Target:
    """The multipliers and limits that make integers of sums, as kernels take them."""

    def __init__(
        self,
        packed: _Packed,
        scale: NDArray[np.float64],
        least: float,
        most: float,
        *,
        half: float = 0.5,
        leak: int = 0,
        gain: NDArray[np.float64] | None = None,
        add: NDArray[np.float64] | None = None,
    ) -> None:
        self.arrays = [packed.spread(scale), *(None if x is None else packed.spread(x) for x in (gain, add))]
        pointers = [None if x is None else x.ctypes.data for x in self.arrays]
        self.out = _Out(*pointers, half, 2.0**-leak, least, most)


class Wide:
    """A convolution of `Integers` (codecs/layers/frozen.py): wide inputs, 16-bit weights.

    weight: (O, I, k, k) int16, k odd. bias, exponent: (O,). grid: the integers of the input. ValueError if a sum could
    leave 53 bits. Inputs outside the grid are cut off at its limits.
    """

    def __init__(self, weight: NDArray[Any], bias: NDArray[Any], exponent: NDArray[Any], grid: Grid) -> None:
        outputs, inputs, size, other = weight.shape
        if not outputs or not inputs or size != other or size % 2 != 1 or size**2 > _MOST_TAPS:
            raise ValueError(f"weights of {weight.shape}: expected (O, I, k, k) with an odd k of at most 7")
        if bias.shape != (outputs,) or exponent.shape != (outputs,):
            raise ValueError(f"{outputs} outputs, but biases {bias.shape} and exponents {exponent.shape}")
        largest = max(grid.largest, -grid.smallest)
        if largest >= 2**MOST_BITS:
            raise ValueError(f"inputs of up to {largest}: expected at most {MOST_BITS} bits")
        bounds = weight_sums(weight)
        if max(bounds.most, -bounds.least) > 2**15 - 1:
            raise ValueError("a weight has more than 16 bits")
        self.weight = np.ascontiguousarray(weight, np.int16)
        self.grid, self.inputs, self.outputs, self.size = grid, inputs, outputs, size
        self.bias = np.ascontiguousarray(bias, np.float64)
        total = bounds.magnitudes
        if float((total * float(largest) + np.abs(self.bias)).max()) > _ROOM:
            raise ValueError("a sum of this layer can have more than 52 bits")
        self.scale = np.exp2(-(exponent.astype(np.float64) + grid.exponent))
        used = np.nonzero(self.weight.any((0, 1)).reshape(-1))[0] if size > 1 else np.zeros(1, np.intp)
        self.taps = (used if len(used) else np.array([size**2 // 2])).astype(np.int32)  # where the kernel isn't zero
        self.shift = 8 if largest < 2**16 else 10
        self.single = min(2**15 - 1, (2**31 - 1) // max(1, int(total.max())))
        self.fold = self._fold(bounds)
        self._matrix: NDArray[np.float64] | None = None
        self._packs: dict[tuple[int, bool], _Packed] = {}

    def _fold(self, bounds: WeightSums) -> int:
        """The pairs of inputs after which the sums of high parts, and those of low ones, are sure to fit int32."""
        half, shift = 1 << (self.shift - 1), self.shift
        parts = ((self.grid.smallest + half) >> shift, (self.grid.largest + half) >> shift), (-half, half - 1)
        pairs = (self.inputs + 1) // 2
        whole = len(self.taps) * pairs
        weight = self.weight.reshape(self.outputs, self.inputs, -1)
        in_order: NDArray[np.int16] | None = None  # (O, taps, pairs, 2) as a kernel takes them, when it is needed
        for n in range(1, whole + 1):
            length = -(-whole // n)
            if n == 1:
                size, total = bounds.magnitudes, bounds.totals
            else:
                if in_order is None:
                    kept = weight[:, :, self.taps].transpose(0, 2, 1)
                    in_order = np.pad(kept, ((0, 0), (0, 0), (0, 2 * pairs - self.inputs))).reshape(self.outputs, -1)
                starts = np.arange(0, 2 * whole, 2 * length)
                size, total = (np.add.reduceat(x, starts, 1, np.int64) for x in (np.abs(in_order), in_order))
            positive, negative = (size + total) // 2, (size - total) // 2
            if all(
                int(np.maximum(positive * most - negative * least, negative * most - positive * least).max()) < 2**31
                for least, most in parts
            ):
                return length
        raise ValueError("the products of two inputs don't fit 32 bits")

    def packed(self, phases: int = 1, interleaved: bool = False) -> _Packed:
        key = (phases, interleaved)
        if key not in self._packs:
            self._packs[key] = _Packed(self, phases, interleaved)
        return self._packs[key]

    def rows(
        self,
        x: Rows,
        top: int,
        bottom: int,
        *,
        out: Rows,
        limit: int = 2**31 - 1,
        out_exponent: int = 0,
        floor: bool = False,
        gain: NDArray[np.float64] | None = None,
        grid: Grid | None = None,
        shuffle: int = 1,
    ) -> None:
        """Rows top ... bottom - 1 of the convolution of x (integers of the input's grid), into `out` (int32).

        x: int32 or int16; its channels may be some of an array with more. A value v is (sum + bias) * 2**-(exponent +
        that of the grid), times the gain of its channel, (C,), if there is one. out takes floor(v * 2**out_exponent +
        1/2) in -limit ... limit (floor: without the half), or with a grid that grid's integers; it may have fewer
        columns. shuffle: as torch's pixel_shuffle, output c * shuffle**2 + i * shuffle + j is channel c at row
        shuffle * y + i, column shuffle * x + j; top and bottom count rows of x, `out` and the gain are what comes out.
        """
        phases = shuffle**2
        channels = self._check_rows(x, top, bottom, out, gain, shuffle)
        assert 0 < limit < 2**31 and not (floor and grid is not None)
        target = out.cut(top * shuffle, bottom * shuffle)
        if top == bottom:
            return
        module = native.library()
        if module is None:
            self._rows_in_numpy(x, top, bottom, target, limit, out_exponent, floor, gain, grid, shuffle)
            return
        packed = self.packed(phases, interleaved=True)
        wide_gain = None if gain is None else np.repeat(gain, phases)
        if grid is None:
            to = _Target(
                packed, self.scale * 2.0**out_exponent, -limit, limit, half=0.0 if floor else 0.5, gain=wide_gain
            )
        else:
            to = _Target(
                packed, self.scale * 2.0**grid.exponent, grid.smallest, grid.largest, leak=grid.leak, gain=wide_gain
            )
        item = x.array.itemsize
        row, cell = (stride // item for stride in x.array.strides[:2])
        call = _Rows(
            packed.layer, to.out, x.array.ctypes.data, 8 * item, x.first, x.height, x.array.shape[1], cell, row,
            top, bottom, target.ctypes.data, target.shape[1], channels, packed.blocks_of_phase, shuffle,
        )  # fmt: skip
        native.check(module.codec_wide_rows(ctypes.byref(call)))

    def _check_rows(
        self, x: Rows, top: int, bottom: int, out: Rows, gain: NDArray[np.float64] | None, shuffle: int
    ) -> int:
        """The channels of the result; AssertionError unless these arrays are what `rows` takes."""
        channels = self.outputs // shuffle**2
        check_latents(x.array, 0, self.inputs)
        assert channels * shuffle**2 == self.outputs and 1 <= shuffle <= 8, "outputs for each place"
        assert x.array.shape[2] == self.inputs and out.height == x.height * shuffle, "x isn't what this layer takes"
        width = out.array.shape[1]
        assert out.array.dtype == np.int32 and out.array.flags.c_contiguous and out.array.shape[2] == channels
        assert width % shuffle == 0 and 0 < width <= x.array.shape[1] * shuffle, "out has other sizes"
        assert gain is None or (gain.shape == (channels,) and gain.dtype == np.float64), "a gain for each channel"
        assert 0 <= top <= bottom <= x.height
        x.cut(max(0, top - self.size // 2), min(x.height, bottom + self.size // 2))  # they must be here
        return channels

    def _rows_in_numpy(
        self,
        x: Rows,
        top: int,
        bottom: int,
        target: NDArray[np.int32],
        limit: int,
        out_exponent: int,
        floor: bool,
        gain: NDArray[np.float64] | None,
        grid: Grid | None,
        shuffle: int,
    ) -> None:
        width, channels = target.shape[1] // shuffle, target.shape[2]
        step = max(1, _CELLS // max(1, width))
        for first in range(top, bottom, step):
            stop = min(bottom, first + step)
            v = self.sums(x, first, stop)[:, :width] * self.scale
            if shuffle > 1:
                v = v.reshape(stop - first, width, channels, shuffle, shuffle).transpose(0, 3, 1, 4, 2)
                v = v.reshape((stop - first) * shuffle, width * shuffle, channels)
            if gain is not None:
                v *= gain
            if grid is not None:
                v = grid.integers(v)
            else:
                v = np.clip(np.floor(v * 2.0**out_exponent + (0.0 if floor else 0.5)), -limit, limit)
            target[(first - top) * shuffle : (stop - top) * shuffle] = v

    def sums(self, x: Rows, top: int, bottom: int) -> NDArray[np.float64]:
        """The integers sum of weight * input + bias of rows top ... bottom - 1, (n, width, O) float64: the twin."""
        n, width, pad, size = bottom - top, x.array.shape[1], self.size // 2, self.size
        low, high = max(0, top - pad), min(x.height, bottom + pad)
        padded = np.zeros((n + 2 * pad, width + 2 * pad, self.inputs))
        inside = padded[low - top + pad : high - top + pad, pad : pad + width]
        np.clip(x.cut(low, high), self.grid.smallest, self.grid.largest, out=inside)
        views: Any = np.lib.stride_tricks.sliding_window_view  # its type knows one axis only
        windows = views(padded, (size, size), axis=(0, 1))  # (n, width, I, k, k)
        return self.product(windows.reshape(n * width, -1)).reshape(n, width, self.outputs)

    def product(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of inputs that lie in columns already, (n, I k k) float64: (n, O)."""
        if self._matrix is None:
            self._matrix = np.ascontiguousarray(self.weight.reshape(self.outputs, -1).T, np.float64)
        return columns @ self._matrix + self.bias


# ---- networks on single cells


@dataclass(frozen=True)
class Fine:
    """Numbers x (h, w, C) on a grid that is finer than those of all who quantise them: floor(x * 2**(exponent + 1)).

    array: int32, C-contiguous, cut off at -LIMIT and LIMIT, 24 bits. low: None, or their low 8 bits, uint8, and array
    has the others, int16. Nested floors are one: `integers` gives what the grid gives of the numbers themselves.
    """

    array: NDArray[Any]
    exponent: int
    low: NDArray[np.uint8] | None = None

    LIMIT: ClassVar[int] = _FINE_LIMIT

    @classmethod
    def packed(cls, shape: tuple[int, int, int], exponent: int) -> Fine:
        """Numbers of three bytes, to be filled by `put`."""
        return cls(np.empty(shape, np.int16), exponent, np.empty(shape, np.uint8))

    def put(self, top: int, numbers: NDArray[np.int32]) -> None:
        """Writes numbers, (n, w, C), into the rows from `top` on, of packed ones."""
        assert self.low is not None
        self.array[top : top + len(numbers)] = numbers >> 8
        self.low[top : top + len(numbers)] = numbers & 255

    def numbers(self, top: int, bottom: int) -> NDArray[np.int32]:
        """The rows top ... bottom - 1."""
        part = self.array[top:bottom].astype(np.int32)
        return part if self.low is None else part * 256 + self.low[top:bottom]

    def integers(self, numbers: NDArray[np.int32], grid: Grid) -> NDArray[np.int32]:
        """The integers that a grid gives of some of these numbers."""
        shift = self.exponent - grid.exponent + 1
        up, down = (numbers + (1 << (s - 1)) >> s for s in (shift, shift + grid.leak))
        return np.clip(np.where(numbers < 0, down, up), grid.smallest, grid.largest)

    def check(self, shape: tuple[int, ...]) -> None:
        """AssertionError unless the arrays are what kernels take."""
        dtypes = (np.int32,) if self.low is None else (np.int16, np.uint8)
        for array, dtype in zip((self.array, self.low), dtypes, strict=False):
            assert array is not None and array.dtype == dtype and array.shape == shape, "a part has other sizes"
            assert array.flags.c_contiguous and array.flags.aligned


def finest(grids: Sequence[Grid]) -> int:
    """The exponent of `Fine` numbers for these grids; ValueError if they are too far apart."""
    exponents = [grid.exponent for grid in grids]
    for grid in grids:
        finer = max(exponents) - grid.exponent
        if finer > _MOST_FINER or grid.leak > 3 or grid.bits > 16:
            raise ValueError("grids of very different exponents look at the same numbers")
    return max(exponents)


def cells_of(height: int, width: int, parity: int) -> NDArray[np.int64]:
    """The flat indices of the cells whose row + column is even (parity 0), odd (1), or of all (-1)."""
    cells = np.arange(height * width)
    return cells if parity < 0 else cells[(cells // width + cells % width) % 2 == parity]


def check_latents(y: NDArray[Any], start: int, size: int) -> None:
    """AssertionError unless y is (height, width, channels) int16 or int32, a cell's numbers in a row, with these."""
    assert y.ndim == 3 and y.dtype in (np.int16, np.int32) and 0 <= start <= start + size <= y.shape[2]
    assert min(y.shape) > 0 and y.strides[2] == y.itemsize and y.flags.aligned
    row, cell = y.strides[:2]
    assert cell % y.itemsize == 0 and row % y.itemsize == 0, "an array of numbers in memory"
    assert cell >= y.shape[2] * y.itemsize and row >= y.shape[1] * cell - cell + y.shape[2] * y.itemsize, "it overlaps"


class CellNetwork:
    """Two layers on single cells: second(first(parts)), where the input of a layer is on its own leaky grid.

    The inputs of `first` are parts that are known as `Fine` numbers, then, with conv, the outputs of a convolution of
    some channels of latents y. The outputs of `second` are means and levels, or shifts.
    """

    def __init__(self, first: Wide, second: Wide, channels: Sequence[int], conv: Wide | None = None) -> None:
        """channels: of each of the fine parts."""
        if first.size != 1 or second.size != 1 or first.outputs != second.inputs or not 1 <= len(channels) <= 2:
            raise ValueError("these layers don't fit together")
        if first.inputs != sum(channels) + (conv.outputs if conv else 0):
            raise ValueError(f"{first.inputs} inputs, expected {channels} and those of a convolution")
        self.first, self.second, self.channels, self.conv = first, second, tuple(channels), conv

    def density(
        self,
        fine: Sequence[Fine],
        y: NDArray[Any],
        start: int,
        parity: int,
        mean: Grid,
        base: NDArray[np.float64],
        unit: float,
        levels: int,
    ) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """The means, integers of the grid `mean`, and table rows of the cells of a parity, (C, n) each.

        y: (h, w, channels), of which conv sees those from start on. A row is base (C,) + unit * level, rounded half up,
        in 0 ... levels - 1.
        """
        size, (height, width) = self.second.outputs // 2, y.shape[:2]
        assert 2 * size == self.second.outputs and base.shape == (size,) and base.dtype == np.float64
        assert mean.bits == 16 and mean.signed and 1 <= levels <= 256 and parity in (-1, 0, 1)
        self._check(fine, y, start)
        n = _count(height, width, parity)
        means, rows = np.empty((size, n), np.int16), np.empty((size, n), np.uint8)
        module = native.library()
        if not n:
            return means, rows
        if module is None:
            for cells, v in self._values(fine, y, start, parity):
                means[:, cells] = mean.integers(v[:, :size]).T
                rows[:, cells] = np.clip(np.floor(base + unit * v[:, size:] + 0.5), 0, levels - 1).T
            return means, rows
        scale = np.multiply(self.second.scale, np.repeat(np.array([2.0**mean.exponent, unit]), size), dtype=np.float64)
        add = np.concatenate([np.zeros(size), base])
        packed = self.second.packed(2)
        to = _Target(packed, scale, -mean.largest, mean.largest, add=add)  # rows are cut off once more
        call, keep = self._call(fine, y, start, parity, packed, to)
        call.channels, call.levels, call.cells = size, levels, n
        call.means, call.rows = means.ctypes.data, rows.ctypes.data
        native.check(module.codec_wide_cells(ctypes.byref(call)))
        del keep  # what the call points to
        return means, rows

    def shifts(self, fine: Sequence[Fine], y: NDArray[Any], start: int, grid: Grid, limit: float) -> NDArray[np.int8]:
        """The outputs cut off at -limit and limit, as integers of a grid: (h, w, C), for all cells."""
        (height, width), size, largest = y.shape[:2], self.second.outputs, limit * 2.0**grid.exponent
        assert largest == int(largest) and 0 < largest <= min(127, grid.largest) and grid.signed
        self._check(fine, y, start)
        out = np.empty((height, width, size), np.int8)
        module = native.library()
        if module is None:
            flat = out.reshape(-1, size)
            for cells, v in self._values(fine, y, start, -1):
                flat[cells] = grid.integers(np.clip(v, -limit, limit))
            return out
        packed = self.second.packed()
        to = _Target(packed, self.second.scale * 2.0**grid.exponent, -largest, largest)
        call, keep = self._call(fine, y, start, -1, packed, to)
        call.channels, call.shifts = size, out.ctypes.data
        native.check(module.codec_wide_cells(ctypes.byref(call)))
        del keep
        return out

    def _check(self, fine: Sequence[Fine], y: NDArray[Any], start: int) -> None:
        check_latents(y, start, self.conv.inputs if self.conv else 0)
        assert y.flags.c_contiguous and len(fine) == len(self.channels)
        for part, channels in zip(fine, self.channels, strict=True):
            part.check((*y.shape[:2], channels))
            assert 0 <= part.exponent - self.first.grid.exponent <= _MOST_FINER, "a part isn't fine enough"

    def _values(
        self, fine: Sequence[Fine], y: NDArray[Any], start: int, parity: int
    ) -> Iterator[tuple[slice | NDArray[np.int64], NDArray[np.float64]]]:
        """The twin: the outputs (n, O) float64 of some rows of cells at a time, and which of all cells they are."""
        height, width = y.shape[:2]
        step, done = max(2, _CELLS // width // 2 * 2), 0  # an even number of rows: the checkerboard goes on
        for top in range(0, height, step):
            bottom = min(height, top + step)
            cells = cells_of(bottom - top, width, parity)
            x = np.empty((len(cells), self.first.inputs))
            at = 0
            for part, channels in zip(fine, self.channels, strict=True):
                picked = part.numbers(top, bottom).reshape(-1, channels)[cells]
                x[:, at : at + channels] = part.integers(picked, self.first.grid)
                at += channels
            if self.conv is not None:
                seen = Rows(y[..., start : start + self.conv.inputs], 0, height)
                v = self.conv.sums(seen, top, bottom).reshape(-1, self.conv.outputs)[cells] * self.conv.scale
                x[:, at:] = self.first.grid.integers(v)
            hidden = self.second.grid.integers(self.first.product(x) * self.first.scale)
            yield slice(done, done + len(cells)), self.second.product(hidden) * self.second.scale
            done += len(cells)

    def _call(
        self, fine: Sequence[Fine], y: NDArray[Any], start: int, parity: int, last: _Packed, to: _Target
    ) -> tuple[_Cells, list[Any]]:
        """The call of the kernel but for its results, and what has to stay in memory meanwhile."""
        first, call = self.first.packed(), _Cells()
        hidden = self._onto(first, self.first, self.second.grid)
        keep: list[Any] = [first, last, hidden, to]
        call.height, call.width, call.parity = *y.shape[:2], parity
        for i, part in enumerate(fine):
            call.fine[i], call.fine_channels[i] = part.array.ctypes.data, part.array.shape[2]
            call.fine_low[i] = None if part.low is None else part.low.ctypes.data
            call.fine_shift[i] = part.exponent - self.first.grid.exponent + 1
        call.leak = self.first.grid.leak
        call.y, call.y_bits, call.y_cell, call.y_start = y.ctypes.data, 8 * y.itemsize, y.shape[2], start
        if self.conv is not None:
            conv = self.conv.packed()
            call.conv = conv.layer
            conv_to = self._onto(conv, self.conv, self.first.grid)
            call.conv_out = conv_to.out
            keep += [conv, conv_to]
        call.first, call.first_out, call.second, call.second_out = first.layer, hidden.out, last.layer, to.out
        call.blocks_of_phase = last.blocks_of_phase
        return call, keep

    @staticmethod
    def _onto(packed: _Packed, wide: Wide, grid: Grid) -> _Target:
        return _Target(packed, wide.scale * 2.0**grid.exponent, grid.smallest, grid.largest, leak=grid.leak)


# ---- latents


def _count(height: int, width: int, parity: int) -> int:
    cells = height * width
    return cells if parity < 0 else (cells + (parity == 0)) // 2


def put_latents(symbols: NDArray[np.int32], means: NDArray[np.int16], y: NDArray[Any], start: int, parity: int) -> bool:
    """Writes 16 * symbol + mean, (C, n) each, into the channels of y (h, w, .) from `start` on, at cells of a parity.

    False if a value doesn't fit the type of y, whose cells hold anything then.
    """
    size, n = means.shape
    check_latents(y, start, size)
    height, width, total = y.shape
    assert y.flags.c_contiguous and n == _count(height, width, parity) and symbols.shape == means.shape
    assert symbols.dtype == np.int32 and means.dtype == np.int16
    symbols, means = np.ascontiguousarray(symbols), np.ascontiguousarray(means)
    module = native.library()
    if module is None:
        assert not symbols.size or max(int(symbols.max()), -int(symbols.min())) <= 2**24, "symbols are checked before"
        values = (symbols * 16 + means).T
        cells = cells_of(height, width, parity)
        y.reshape(height * width, total)[cells, start : start + size] = values.astype(y.dtype)
        return y.dtype == np.int32 or not values.size or bool((values.astype(y.dtype) == values).all())
    numbers = [ctypes.c_int64(number) for number in (8 * y.itemsize, height, width, total, start, size, parity)]
    status = module.codec_wide_put(_pointer(symbols), _pointer(means), _pointer(y), *numbers)
    if status == _DAMAGED:
        return False
    native.check(status)
    return True


def shift_latents(shifts: NDArray[np.int8], y: NDArray[Any], start: int) -> bool:
    """Adds shifts (h, w, C) to the channels of y from `start` on; False, y as it was, if a sum doesn't fit its type."""
    height, width, size = shifts.shape
    check_latents(y, start, size)
    assert shifts.dtype == np.int8 and shifts.flags.c_contiguous and y.flags.c_contiguous
    assert y.shape[:2] == (height, width)
    module = native.library()
    if module is None:
        part = y[..., start : start + size]
        values = part.astype(np.int32) + shifts
        if not bool((values.astype(y.dtype) == values).all()):
            return False
        part[:] = values
        return True
    numbers = [ctypes.c_int64(number) for number in (8 * y.itemsize, height * width, y.shape[2], start, size)]
    status = module.codec_wide_shift(_pointer(shifts), _pointer(y), *numbers)
    if status == _DAMAGED:
        return False
    native.check(status)
    return True
