"""Networks in float32: convolutions, what SwinV2 blocks need, and the forward wavelet packet, for encoders.

What only an encoder computes needn't be the same on every machine, so these kernels may multiply and add in one step,
and 3x3 convolutions go by Winograd's F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
CVPR 2016, arXiv 1509.09308). On one machine results are the same bits for any number of threads and however rows are
cut into bands. Activations are `Rows` of float32, (rows, width, channels), zero beyond their edges.

The twins in NumPy are the oracle of the tests, and what runs without the compiled module.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .grids import Rows

__all__ = ["Attention", "Conv", "Packet", "empty", "gelu", "norm", "unshuffle"]

Array = NDArray[np.float32]
Activation = Literal["none", "leaky", "gelu"]

_ACTIVATIONS: dict[Activation, int] = {"none": 0, "leaky": 1, "gelu": 2}
SLOPE = 0.125  # of a leaky ReLU below 0


def empty(*shape: int) -> Array:
    """An array that isn't filled. It begins on a line of the cache: vectors that cross lines take twice as long."""
    size = math.prod(shape)
    memory = np.empty(size + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + size].reshape(shape)


# ---- convolutions


class _FloatConv(ctypes.Structure):  # as in src/args.h
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "gain", "residual", "out")),
        *((name, ctypes.c_int64) for name in ("first", "height", "width", "top", "bottom", "inner", "outer")),
        *((name, ctypes.c_int64) for name in ("kernel", "stride", "act", "winograd")),
    ]


class _FloatAttention(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("qkv", "scale", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("first", "height", "width", "channels", "heads", "window", "shift")),
        *((name, ctypes.c_int64) for name in ("top", "bottom")),
    ]


class _FloatPacket(ctypes.Structure):
    _fields_ = [
        ("pixels", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("pixel_rows", "pixel_columns", "channels", "bytes")),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "top", "bottom", "levels", "wrap")),
        ("scale", ctypes.c_float),
        ("offset", ctypes.c_float),
    ]


# Winograd's transforms of a kernel of three, for tiles of four outputs
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


class Conv:
    """A convolution with zeros around: kernel k x k (odd), stride 1 or 2; 1x1 is a matrix product over all cells."""

    def __init__(self, weight: NDArray[Any], bias: NDArray[Any] | None = None, stride: int = 1) -> None:
        """weight: (O, I, k, k) or (O, I). bias: (O,)."""
        weight = np.asarray(weight, np.float32)
        weight = weight[:, :, None, None] if weight.ndim == 2 else weight
        outer, inner, kernel, across = weight.shape
        if kernel != across or kernel % 2 == 0 or kernel > 7 or stride not in (1, 2) or not outer or not inner:
            raise ValueError(
                f"a kernel {weight.shape} with stride {stride}: there are odd ones up to 7, strides 1 and 2"
            )
        self.taps = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))  # (k, k, I, O)
        self.bias = np.zeros(outer, np.float32) if bias is None else np.ascontiguousarray(bias, np.float32)
        if self.bias.shape != (outer,):
            raise ValueError(f"a bias {self.bias.shape} for {outer} channels")
        self.outer, self.inner, self.kernel, self.stride = outer, inner, kernel, stride
        # Rows of the output that are computed together, from a multiple of it on: the input must have what all need.
        # The transforms of tiles pay if there are some channels.
        self.tile = 4 if kernel == 3 and stride == 1 and min(outer, inner) >= 16 else 1

    @functools.cached_property
    def packed(self) -> tuple[Array, Array]:
        """The weights and bias for the kernels: (blocks of 16 outputs, taps, I, 16); with tiles (36, blocks, I, 16)."""
        blocks = -(-self.outer // 16)
        taps = np.pad(self.taps, ((0, 0), (0, 0), (0, 0), (0, 16 * blocks - self.outer)))
        if self.tile > 1:
            kernel = _KERNEL.astype(np.float32)
            taps = np.tensordot(kernel, np.tensordot(kernel, taps, (1, 1)), (1, 1))  # the other way round twice
        weight = taps.reshape(-1, self.inner, blocks, 16)
        order = (0, 2, 1, 3) if self.tile > 1 else (2, 0, 1, 3)
        weight = weight.transpose(order)
        packed = empty(*weight.shape)
        packed[:] = weight
        return packed, np.pad(self.bias, (0, 16 * blocks - self.outer))

    def height(self, height: int) -> int:
        """The rows that come of so many rows, and columns of columns."""
        return -(-height // self.stride)

    def seen(self, top: int, bottom: int, height: int) -> tuple[int, int]:
        """The rows of an input of this height that the output's rows top ... bottom - 1 depend on."""
        reach = self.kernel // 2
        top, bottom = top // self.tile * self.tile, -(-bottom // self.tile) * self.tile
        return max(0, top * self.stride - reach), max(0, min(height, (bottom - 1) * self.stride + reach + 1))

    def rows(
        self,
        x: Rows,
        top: int,
        bottom: int,
        out: Rows,
        *,
        act: Activation = "none",
        gain: Array | None = None,
        residual: Rows | None = None,
    ) -> None:
        """Fills rows top ... bottom - 1 of `out`: residual + gain * act(convolution + bias).

        gain: (O,). residual: of the shape of the output; it may be `out` itself.
        """
        height, width = self.height(x.height), self.height(x.array.shape[1])
        assert 0 <= top <= bottom <= height, "rows that the output hasn't got"
        source = _checked(x, self.inner)
        target = _checked(out, self.outer)
        assert out.height == height and target.shape[1] == width, "the output has another size"
        first, stop = self.seen(top, bottom, x.height)
        assert top == bottom or (x.first <= first and stop <= x.stop), "rows of the input aren't here"
        goal = out.cut(top, bottom)
        if gain is not None:
            assert gain.shape == (self.outer,) and gain.dtype == np.float32 and gain.flags.c_contiguous
        added = None
        if residual is not None:
            assert residual.height == height and _checked(residual, self.outer).shape[1] == width
            added = residual.cut(top, bottom)
        if top == bottom or not width:
            return
        if (module := library()) is not None:
            weight, bias = self.packed
            call = _FloatConv(
                *(None if part is None else part.ctypes.data for part in (source, weight, bias, gain, added, goal)),
                *(x.first, x.height, source.shape[1], top, bottom, self.inner, self.outer),
                *(self.kernel, self.stride, _ACTIVATIONS[act], self.tile > 1),
            )
            check(module.codec_floats_conv(ctypes.byref(call)))
            return
        v = _convolved(source, x.first, x.height, self.taps, self.stride, top, bottom) + self.bias
        v = _activated(v, act)
        if gain is not None:
            v *= gain
        if added is not None:
            v += added
        goal[:] = v


def _checked(x: Rows, channels: int) -> Array:
    array = x.array
    assert array.dtype == np.float32 and array.ndim == 3 and array.flags.c_contiguous, "not rows of float32"
    assert array.shape[2] == channels, f"{array.shape[2]} channels, expected {channels}"
    assert x.first >= 0 and x.stop <= x.height, "more rows than there are"
    return array


def _activated(x: Array, act: Activation) -> Array:
    if act == "leaky":
        return np.maximum(x, np.float32(SLOPE) * x)
    return gelu(x) if act == "gelu" else x


def _convolved(x: Array, first: int, height: int, taps: Array, stride: int, top: int, bottom: int) -> Array:
    """The twin: rows top ... bottom - 1 of a convolution; x begins at row `first` of `height`."""
    kernel, width = len(taps), x.shape[1]
    reach = kernel // 2
    low, high = top * stride - reach, (bottom - 1) * stride + reach + 1
    padded = np.zeros((high - low, width + 2 * reach, x.shape[2]), x.dtype)
    a, b = max(0, low), min(height, high)
    if a < b:
        padded[a - low : b - low, reach : reach + width] = x[a - first : b - first]
    n, w = bottom - top, -(-width // stride)
    out = np.zeros((n * w, taps.shape[3]), x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            tap = padded[i : i + (n - 1) * stride + 1 : stride, j : j + (w - 1) * stride + 1 : stride]
            out += np.ascontiguousarray(tap).reshape(n * w, -1) @ taps[i, j]
    return out.reshape(n, w, -1)


# ---- what transformers need


def gelu(x: Array) -> Array:
    """The activation x * Phi(x), with the distribution function of a normal density.

    erf by Abramowitz and Stegun 7.1.26, within 1.5e-7.
    """
    z = np.minimum(
        np.abs(x) * x.dtype.type(math.sqrt(0.5)), x.dtype.type(6)
    )  # products with denormal numbers take far longer
    t = 1 / (1 + x.dtype.type(0.3275911) * z)
    series = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + x.dtype.type(factor)) * t
    tail = series * np.exp(-z * z) * x.dtype.type(0.5)  # of the density, beyond |x|
    share = np.asarray(np.where(x > 0, 1 - tail, tail), x.dtype)
    return np.maximum(x, x.dtype.type(-9)) * share


def norm(x: Array, weight: Array, bias: Array, residual: Array, out: Array) -> None:
    """Fills out with residual + layer norm of x: each row of (n, C) to mean 0 and variance 1, times weight plus bias.

    out may be x or the residual.
    """
    for array in (x, residual, out):
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.shape == x.shape and x.ndim == 2
    assert weight.shape == bias.shape == x.shape[1:] and weight.dtype == bias.dtype == np.float32
    if (module := library()) is not None and x.size:
        weight, bias = np.ascontiguousarray(weight), np.ascontiguousarray(bias)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, weight, bias, residual, out))
        check(module.codec_floats_norm(*pointers, *(ctypes.c_int64(n) for n in x.shape)))
        return
    mean = x.mean(1, keepdims=True)
    centred = x - mean
    scale = 1 / np.sqrt((centred * centred).mean(1, keepdims=True) + x.dtype.type(1e-5))
    out[:] = residual + (centred * scale * weight + bias)


class Attention:
    """The attention of a SwinV2 block in windows of n x n cells, cosine similarity and position bias given.

    Windows are moved up and left by `shift`; those at the edges are smaller.
    """

    def __init__(self, scale: Array, bias: Array, window: int, shift: int) -> None:
        """scale: (heads,), of the cosines. bias: (heads, n * n, n * n), for each query and key."""
        self.scale, self.bias = np.ascontiguousarray(scale, np.float32), np.ascontiguousarray(bias, np.float32)
        self.heads, self.window, self.shift = len(scale), window, shift
        assert self.bias.shape == (self.heads, window**2, window**2) and 0 <= shift < window <= 16

    def rows(self, qkv: Rows, top: int, bottom: int, out: Rows) -> None:
        """Fills the rows of windows top ... bottom - 1 of `out` (h, w, C), of queries, keys and values (h, w, 3 C).

        Windows of index k have rows k * n - shift ... k * n - shift + n - 1, as far as the picture has them.
        """
        channels = qkv.array.shape[2] // 3
        source, target = _checked(qkv, 3 * channels), _checked(out, channels)
        assert channels % self.heads == 0 and qkv.height == out.height and source.shape[1] == target.shape[1]
        n, width = self.window, source.shape[1]
        first, stop = max(0, top * n - self.shift), min(qkv.height, bottom * n - self.shift)
        assert 0 <= top <= bottom <= -(-(qkv.height + self.shift) // n), "windows that aren't there"
        if first >= stop or not width:
            return
        goal = out.cut(first, stop)
        qkv.cut(first, stop)
        if (module := library()) is not None:
            # pointers to row `first` of the picture, from which the kernel counts
            source = qkv.cut(first, stop)
            call = _FloatAttention(
                *(part.ctypes.data for part in (source, self.scale, self.bias, goal)),
                *(first, qkv.height, width, channels, self.heads, n, self.shift, top, bottom),
            )
            check(module.codec_floats_attention(ctypes.byref(call)))
            return
        for y in range(top, bottom):
            a, b = max(0, y * n - self.shift), min(qkv.height, (y + 1) * n - self.shift)
            for x in range(-(-(width + self.shift) // n)):
                c, d = max(0, x * n - self.shift), min(width, (x + 1) * n - self.shift)
                oy, ox = a - (y * n - self.shift), c - (x * n - self.shift)
                places = np.arange(n * n).reshape(n, n)[oy : oy + b - a, ox : ox + d - c].ravel()
                tokens = qkv.cut(a, b)[:, c:d].reshape(len(places), 3, self.heads, -1).transpose(1, 2, 0, 3)
                q, k = (_unit(part) for part in tokens[:2])
                scores = (q * self.scale[:, None, None]) @ k.transpose(0, 2, 1)
                scores += self.bias[:, places[:, None], places]
                scores = np.exp(scores - scores.max(-1, keepdims=True))
                scores /= scores.sum(-1, keepdims=True)
                mixed = (scores @ tokens[2]).transpose(1, 0, 2)
                out.cut(a, b)[:, c:d] = mixed.reshape(b - a, d - c, channels)


def _unit(x: Array) -> Array:
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    return x / np.maximum(length, x.dtype.type(1e-12))


# ---- wavelet packets

# Lifting factors of the CDF 9/7 pair and the final scaling: codecs/layers/wavelet.py
_LIFTING = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
_LOW_SCALE = 1.149604398860241


class Packet:
    """The forward wavelet packet of pixels by lifting, some rows of cells at a time.

    A cell is 2**levels x 2**levels pixels. Its coefficients are left where lifting leaves them: `order` says where.
    """

    def __init__(self, levels: int, channels: int, boundary: Literal["symmetric", "periodization"]) -> None:
        assert 1 <= levels <= 6 and 1 <= channels <= 64
        self.levels, self.channels, self.wrap = levels, channels, boundary == "periodization"
        self.cell = 1 << levels
        self.reach = 4 * self.cell  # the longest filter spans 4 (2**levels - 1) pixels to each side

    def order(self) -> NDArray[np.intp]:
        """The place of each coefficient of `codecs.layers.wavelet.analysis`, (C * 4**levels,)."""
        bands = np.arange(self.channels * 4**self.levels)
        row, column = np.zeros_like(bands), np.zeros_like(bands)
        for level in range(self.levels):  # of the latest split first
            digit = bands >> 2 * level
            row |= ((digit >> 1) & 1) << (self.levels - 1 - level)
            column |= (digit & 1) << (self.levels - 1 - level)
        return (column * self.cell + row) * self.channels + (bands >> 2 * self.levels)

    def rows(
        self, pixels: NDArray[Any], top: int, bottom: int, size: tuple[int, int], out: Rows, scale: float, offset: float
    ) -> None:
        """Fills rows top ... bottom - 1 of cells of `out`, of pixels * scale + offset.

        pixels: (H, W, C) uint8, uint16 or float32. size: (rows, columns) of cells; beyond the pixels is their mirror
        image.
        """
        height, width = (side * self.cell for side in size)
        pixels = _pixels(pixels)
        assert pixels.shape[2] == self.channels
        target = _checked(out, self.channels * self.cell**2)
        assert out.height == size[0] and target.shape[1] == size[1] and 0 <= top <= bottom <= size[0]
        goal = out.cut(top, bottom)
        if not goal.size:
            return
        if (module := library()) is not None:
            call = _packet(pixels, goal, size, top, bottom, scale, offset, self.levels, self.wrap)
            check(module.codec_floats_packet(ctypes.byref(call)))
            return
        rows, inside = self._window(top, bottom, height)
        columns = _mirrored(np.arange(width), pixels.shape[1])
        x = pixels[_mirrored(rows, pixels.shape[0])][:, columns].astype(np.float32)
        x = x * np.float32(scale) + np.float32(offset)
        x = _lifted(x, self.levels, self.wrap)[inside]
        x = x.reshape(bottom - top, self.cell, width, self.channels).transpose(2, 0, 1, 3)
        x = _lifted(np.ascontiguousarray(x), self.levels, self.wrap)
        x = x.reshape(size[1], self.cell, bottom - top, -1).transpose(2, 0, 1, 3)
        goal[:] = x.reshape(goal.shape)

    def _window(self, top: int, bottom: int, height: int) -> tuple[NDArray[np.intp], slice]:
        """The rows of pixels that rows of cells depend on, and where the cells' own are among them."""
        a, b = top * self.cell, bottom * self.cell
        low, high = a - self.reach, b + self.reach
        if not self.wrap:
            low, high = max(0, low), min(height, high)
        return np.arange(low, high) % height, slice(a - low, b - low)


def unshuffle(pixels: NDArray[Any], cell: int, top: int, bottom: int, out: Rows, scale: float, offset: float) -> None:
    """Fills rows top ... bottom - 1 of cells of `out`, of pixels * scale + offset: a cell's pixels become channels.

    pixels: (H, W, C) uint8, uint16 or float32; beyond them is their mirror image. out: (rows, columns, cell**2 * C),
    channels in the order (row, column, colour).
    """
    pixels = _pixels(pixels)
    target = _checked(out, cell * cell * pixels.shape[2])
    assert 0 <= top <= bottom <= out.height and cell >= 1
    goal, columns = out.cut(top, bottom), target.shape[1]
    if not goal.size:
        return
    if (module := library()) is not None:
        call = _packet(pixels, goal, (out.height, columns), top, bottom, scale, offset)
        check(module.codec_floats_unshuffle(ctypes.byref(call), ctypes.c_int64(cell)))
        return
    x = pixels[_mirrored(np.arange(top * cell, bottom * cell), pixels.shape[0])]
    x = x[:, _mirrored(np.arange(columns * cell), pixels.shape[1])].astype(np.float32)
    x = x * np.float32(scale) + np.float32(offset)
    goal[:] = x.reshape(bottom - top, cell, columns, -1).transpose(0, 2, 1, 3).reshape(goal.shape)


def _pixels(pixels: NDArray[Any]) -> NDArray[Any]:
    kinds = (np.uint8, np.uint16, np.float32)
    assert pixels.ndim == 3 and pixels.size and pixels.dtype in kinds, "pixels are (H, W, C) uint8, uint16 or float32"
    return np.ascontiguousarray(pixels)


def _packet(
    pixels: NDArray[Any],
    goal: Array,
    size: tuple[int, int],
    top: int,
    bottom: int,
    scale: float,
    offset: float,
    levels: int = 0,
    wrap: bool = False,
) -> _FloatPacket:
    parts = (pixels.ctypes.data, goal.ctypes.data, *pixels.shape, pixels.itemsize)
    return _FloatPacket(*parts, *size, top, bottom, levels, wrap, scale, offset)


def _mirrored(index: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    index = index % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


def _lifted(x: Array, levels: int, wrap: bool) -> Array:
    """A packet along axis 0, in place: bands of a block of 2**levels samples lie in bit-reversed order."""
    for level in range(levels):
        step = 1 << level
        for start in range(step):
            low, high = x[start :: 2 * step], x[start + step :: 2 * step]
            for index, factor in enumerate(np.array(_LIFTING, np.float32)):
                if index % 2 == 0:
                    high += factor * (low + np.concatenate([low[1:], low[:1] if wrap else low[-1:]]))
                else:
                    low += factor * (high + np.concatenate([high[-1:] if wrap else high[:1], high[:-1]]))
            low *= np.float32(_LOW_SCALE)
            high *= np.float32(-1 / _LOW_SCALE)
    return x
