"""The networks of the lattice context model (codecs/layers/lattice.py), at the positions of one step only.

A network is a convolution of decoded integers whose outputs are a hidden layer and a linear guess of the mean, then two
1x1 layers; mean and scale become the row of a table and an integer to subtract. All sums are below 2**24, so that
float32 and int32 hold the same ones; the few operations that round are single float32 operations in the order of the
oracle. The twin in NumPy is below.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .grids import Grid, round_half_up

__all__ = ["Layer", "RowRule", "StepNetwork"]

_ROOM = 2**24  # of a sum, its bias included
_BLOCK = 16  # outputs that lie together in packed weights
_MOST = 1 << 12  # inputs and outputs of a layer
_FAR = 60  # of exponents: no product of powers of two leaves float32


class Layer(NamedTuple):
    """A convolution in integers: weight (O, I, k, k), bias (O,), exponent of the weights (O,)."""

    weight: NDArray[Any]
    bias: NDArray[Any]
    exponent: NDArray[Any]


@dataclass(frozen=True, eq=False)
class RowRule:
    """How mean and log2 scale choose a table row.

    The scale's index is (log2 scale - minimum) * steps, rounded; a mean is rounded to 2**-(mean_bits - shifts[index]).
    offsets: (scales + 1,) int32, the first row of each scale.
    """

    minimum: float
    steps: float
    mean_bits: int
    shifts: NDArray[np.int32]
    offsets: NDArray[np.int32]

    def rows(
        self, mean: NDArray[np.float32], log_scale: NDArray[np.float32], largest: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """The rows and the integers next to the means, which symbols are counted from."""
        f = np.float32
        index = np.clip(round_half_up((log_scale - f(self.minimum)) * f(self.steps)), 0, len(self.shifts) - 1).astype(
            np.int64
        )
        count = np.int32(1 << self.mean_bits) >> self.shifts[index]
        units = round_half_up(np.clip(mean, f(-largest), f(largest)) * count.astype(np.float32)).astype(np.int32)
        centre = (units + (count >> 1)) // count
        fraction = units - centre * count + (count >> 1)
        return (self.offsets[index] + fraction).astype(np.uint8), centre.astype(np.int32)


class _Args(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("plane", "positions", "row", "centre")),
        *((name, ctypes.c_void_p) for name in ("first", "second", "third")),
        *((name, ctypes.c_void_p) for name in ("bias1", "bias2", "bias3", "scale1", "scale2", "scale3")),
        *((name, ctypes.c_void_p) for name in ("shifts", "offsets")),
        *((name, ctypes.c_int64) for name in ("n", "width", "row_stride", "channels")),
        *((name, ctypes.c_int32) for name in ("kernel", "pad", "inputs", "hidden", "outputs", "scales")),
        *((name, ctypes.c_int32) for name in ("largest", "mean_bits", "largest1", "largest2")),
        *((name, ctypes.c_float) for name in ("act1", "act2", "minimum", "steps")),
    )


def _packed(weight: NDArray[Any]) -> NDArray[np.int16]:
    """Weights (O, K) as [O / 16][K / 2][16][2], filled up with zeros."""
    outputs, k = weight.shape
    full = np.zeros((-(-outputs // _BLOCK) * _BLOCK, k + k % 2), np.int16)
    full[:outputs, :k] = weight
    return np.ascontiguousarray(full.reshape(-1, _BLOCK, full.shape[1] // 2, 2).transpose(0, 2, 1, 3))


def _filled(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Values (O,), filled up with zeros to whole blocks."""
    full = np.zeros(-(-len(values) // _BLOCK) * _BLOCK, dtype)
    full[: len(values)] = values
    return full


class StepNetwork:
    """One step's network: see the module's docstring.

    first: (hidden + outputs, I, k, k), its inputs integers on a grid. second: (hidden, hidden, 1, 1). third:
    (2 outputs, hidden, 1, 1), shifts of the mean, then log2 scales. grids: of the input, signed, and of the two hidden
    layers, unsigned. ValueError where a sum may leave 24 bits.
    """

    def __init__(
        self, first: Layer, second: Layer, third: Layer, grids: tuple[Grid, Grid, Grid], rule: RowRule
    ) -> None:
        symbols, *acts = grids
        hidden, outputs = second.weight.shape[0], third.weight.shape[0] // 2
        self.inputs, self.kernel = first.weight.shape[1], first.weight.shape[2]
        shapes = [(hidden + outputs, self.inputs, self.kernel, self.kernel), (hidden, hidden, 1, 1)]
        shapes += [(2 * outputs, hidden, 1, 1)]
        if [layer.weight.shape for layer in (first, second, third)] != shapes or self.kernel % 2 != 1:
            raise ValueError(f"layers of {[layer.weight.shape for layer in (first, second, third)]}; expected {shapes}")
        if not (0 < hidden < _MOST and 0 < outputs < _MOST and self.inputs < _MOST and self.kernel < 8):
            raise ValueError("a network of this size isn't computed here")
        if any(act.signed or act.leak or act.bits > 15 for act in acts):
            raise ValueError("hidden layers are unsigned, in at most 15 bits")
        if not (symbols.signed and symbols.bits <= 16):
            raise ValueError("inputs are signed, in at most 16 bits")
        if int(rule.offsets[-1]) > 256 or len(rule.offsets) != len(rule.shifts) + 1:
            raise ValueError("there are at most 256 rows")
        self.hidden, self.outputs, self.largest, self.rule = hidden, outputs, symbols.largest, rule
        self.symbols, self.acts = symbols, acts
        self.layers = [_checked(*item) for item in zip((first, second, third), grids, strict=True)]
        # inputs of a position lie by row, column, channel, and each tap begins at an even place
        w = self.layers[0][0].astype(np.float32).transpose(0, 2, 3, 1)
        self._matrix = np.ascontiguousarray(w.reshape(len(w), -1).T)
        even = np.pad(w, ((0, 0), (0, 0), (0, 0), (0, self.inputs % 2)))
        self._packed = [_packed(even.reshape(len(w), -1))]
        self._packed += [_packed(layer[0][:, :, 0, 0]) for layer in self.layers[1:]]
        self._bias = [_filled(layer[1], np.int32) for layer in self.layers]
        self._scale = [_filled(layer[2], np.float32) for layer in self.layers]

    def rows(
        self, plane: NDArray[np.int16], pad: int, positions: NDArray[np.int32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """The table rows and centres of positions, (outputs, n) each.

        plane: (H + 2 pad, W + 2 pad, C) int16, C even, zero around the picture: integers on the grid of the
        input. The network sees the first channels. positions: (n,) y * W + x.
        """
        height, width, channels = (side - 2 * pad * (axis < 2) for axis, side in enumerate(plane.shape))
        assert plane.dtype == np.int16 and plane.flags.c_contiguous and plane.ndim == 3, "a plane of int16"
        assert channels % 2 == 0 and channels >= self.inputs and pad >= self.kernel // 2 and height > 0 and width > 0
        assert positions.dtype == np.int32 and positions.flags.c_contiguous and positions.ndim == 1
        if not len(positions):
            return np.empty((self.outputs, 0), np.uint8), np.empty((self.outputs, 0), np.int32)
        assert int(positions.min()) >= 0 and int(positions.max()) < height * width, "a position outside the picture"
        module = library()
        if module is None:
            return self._twin(plane, pad, positions, width)
        row = np.empty((self.outputs, len(positions)), np.uint8)
        centre = np.empty((self.outputs, len(positions)), np.int32)
        arrays = (plane, positions, row, centre, *self._packed, *self._bias, *self._scale)
        arrays = (*arrays, self.rule.shifts, self.rule.offsets)
        args = _Args(
            *(array.ctypes.data for array in arrays),
            *(len(positions), width, (width + 2 * pad) * channels, channels),
            *(self.kernel, pad, self.inputs, self.hidden, self.outputs, len(self.rule.shifts)),
            *(self.largest, self.rule.mean_bits, self.acts[0].largest, self.acts[1].largest),
            *(2.0 ** self.acts[0].exponent, 2.0 ** self.acts[1].exponent, self.rule.minimum, self.rule.steps),
        )
        check(module.codec_lattice_rows(ctypes.byref(args)))
        return row, centre

    def _twin(
        self, plane: NDArray[np.int16], pad: int, positions: NDArray[np.int32], width: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        y, x = np.divmod(positions.astype(np.int64), width)
        reach = np.arange(self.kernel) - self.kernel // 2 + pad
        taps = plane[y[:, None, None] + reach[:, None], x[:, None, None] + reach, : self.inputs]
        sums = taps.reshape(len(positions), -1).astype(np.float32) @ self._matrix  # below 2**24: exact in any order
        v = (sums + self.layers[0][1].astype(np.float32)) * self.layers[0][2]
        hidden, linear = v[:, : self.hidden], v[:, self.hidden :]
        for act, (weight, bias, scale) in zip(self.acts, self.layers[1:], strict=True):
            sums = act.integers(hidden) @ weight[:, :, 0, 0].T.astype(np.float32) + bias.astype(np.float32)
            hidden = sums * scale
        mean, log_scale = linear + hidden[:, : self.outputs], hidden[:, self.outputs :]
        row, centre = self.rule.rows(mean.T, log_scale.T, self.largest)
        return np.ascontiguousarray(row), np.ascontiguousarray(centre)


def _checked(layer: Layer, grid: Grid) -> tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.float32]]:
    """Weights, biases, and units of the outputs, of a layer whose inputs are on a grid; ValueError beyond 24 bits."""
    weight, bias, exponent = layer
    if not bias.shape == exponent.shape == weight.shape[:1]:
        raise ValueError(f"biases {bias.shape} and exponents {exponent.shape} for {weight.shape[0]} outputs")
    flat = np.abs(weight.reshape(len(weight), -1).astype(np.int64))
    if int(flat.max()) > 32767:
        raise ValueError("a weight has more than 16 bits")
    if float((flat.sum(1) * float(grid.largest) + np.abs(bias.astype(np.float64))).max()) > _ROOM:
        raise ValueError("a sum of this layer can have more than 24 bits")
    if abs(grid.exponent) > _FAR or int(np.abs(exponent.astype(np.int64)).max()) > _FAR:
        raise ValueError("an exponent of this layer is beyond reach")
    scale = np.exp2(-(exponent.astype(np.float64) + grid.exponent)).astype(np.float32)
    return weight.astype(np.int16), bias.astype(np.int32), scale
