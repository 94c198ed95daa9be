"""The inverse wavelet packet transform in integers: rows of blocks of coefficients in, rows of pixels out.

The transform is that of `codecs/layers/wavelet.py`: a full packet transform with the CDF 9/7 filters, two matrix
products, one for each axis, whose entries are rounded to multiples of 2**-24. Coefficients and pixels are integers of
2**-16. All sums are exact in float64, so that order, and fused multiplication, make no difference.

Differs: a matrix is cut into bands of 16 outputs without the zeros beside them, and equal bands are kept once; rows of
pixels are made as soon as the coefficients that they depend on are here.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .grids import Rows, round_half_up

__all__ = [
    "ALPHA",
    "BETA",
    "DELTA",
    "FRACTION_BITS",
    "GAMMA",
    "HIGH_SCALE",
    "LOW_SCALE",
    "Axis",
    "Boundary",
    "Packet",
    "axis_plan",
    "channel_order",
    "following",
    "inverse",
    "merge",
    "previous",
    "synthesis_matrix",
]

Boundary = Literal["symmetric", "periodization"]

FRACTION_BITS = 24  # of the matrices
CHUNK = 64  # samples to a chunk of the plan
BAND = 16  # outputs to a band of a matrix

# Lifting factors of the CDF 9/7 pair (Daubechies and Sweldens 1998, section 7.7) and the final scaling.
# With this scale the low-pass filter has a DC gain of sqrt(2), as `bior4.4` of PyWavelets has.
ALPHA = -1.586134342059924
BETA = -0.052980118572961
GAMMA = 0.882911075530934
DELTA = 0.443506852043971
LOW_SCALE = 1.149604398860241
HIGH_SCALE = 1.0 / LOW_SCALE


def following(x: NDArray[Any], boundary: Boundary) -> NDArray[Any]:
    """The next sample x[n + 1] of each; past the end, its reflection about the last odd sample, or the first value."""
    return np.concatenate([x[1:], x[:1] if boundary == "periodization" else x[-1:]])


def previous(x: NDArray[Any], boundary: Boundary) -> NDArray[Any]:
    """The sample x[n - 1] of each; before the start, its reflection about the first even sample, or the last value."""
    return np.concatenate([x[-1:] if boundary == "periodization" else x[:1], x[:-1]])


def merge(low: NDArray[Any], high: NDArray[Any], boundary: Boundary) -> NDArray[Any]:
    """One inverse CDF 9/7 level along axis 0, by lifting."""
    low, high = low / LOW_SCALE, high / -HIGH_SCALE
    low = low - DELTA * (high + previous(high, boundary))
    high = high - GAMMA * (low + following(low, boundary))
    low = low - BETA * (high + previous(high, boundary))
    high = high - ALPHA * (low + following(low, boundary))
    return np.stack([low, high], axis=1).reshape(-1, *low.shape[1:])


@functools.lru_cache(maxsize=16)
def synthesis_matrix(n: int, levels: int, boundary: Boundary) -> NDArray[np.float64]:
    """The matrix that inverts J packet levels on n samples, (n, n): columns are (block, band)."""
    unit = np.eye(n).reshape(n // 2**levels, 2**levels, n)
    bands = [unit[:, b] for b in range(2**levels)]
    while len(bands) > 1:
        bands = [merge(bands[i], bands[i + 1], boundary) for i in range(0, len(bands), 2)]
    return bands[0]


def _chunks(n: int, levels: int, boundary: Boundary) -> tuple[int, list[tuple[int, int, NDArray[Any]]]]:
    """By how much the input is wrapped round at both ends, and the first output, first input, matrix of each chunk."""
    reach = 4 * 2**levels  # the longest filter of J levels spans 4 (2**J - 1) samples to each side

    def matrix(size: int, rows: slice, columns: slice) -> NDArray[Any]:
        return np.rint(synthesis_matrix(size, levels, boundary)[rows, columns] * 2.0**FRACTION_BITS)

    if n <= 2 * (CHUNK + reach):
        return 0, [(0, 0, matrix(n, slice(None), slice(None)))]
    inner = 2 * (CHUNK + 2 * reach)  # a signal long enough for one chunk to be out of reach of both its ends
    body = matrix(inner, slice(2 * reach, 2 * reach + CHUNK), slice(reach, 3 * reach + CHUNK))
    if boundary == "periodization":
        sizes = [(start, min(CHUNK, n - start)) for start in range(0, n, CHUNK)]
        return reach, [(start, start - reach, body[:size, : size + 2 * reach]) for start, size in sizes]
    chunks = [(0, 0, matrix(CHUNK + 2 * reach, slice(0, CHUNK), slice(0, CHUNK + reach)))]
    start = CHUNK
    while n - start >= 2 * CHUNK + reach:
        chunks.append((start, start - reach, body))
        start += CHUNK
    size = n - start + 2 * reach
    tail = matrix(size, slice(2 * reach, size), slice(reach, size))
    return 0, [*chunks, (start, start - reach, tail)]


@dataclass(frozen=True)
class Axis:
    """The transform along one axis of n samples, in bands of up to 16 outputs.

    bands: (m, 5) int32: first output, outputs, first input, inputs, and where in `matrices` the band begins, in rows.
    matrices: (rows, 16) float64: a row for each input, whole numbers; outputs beyond a band's own are zero. wrap: by
    how much inputs may lie before the first and behind the last sample: those of the other end. gain: by how much,
    times 2**-24, the largest magnitude may grow.
    """

    n: int
    wrap: int
    bands: NDArray[np.int32]
    matrices: NDArray[np.float64]
    gain: float


@functools.lru_cache(maxsize=16)
def axis_plan(n: int, levels: int, boundary: Boundary = "symmetric") -> Axis:
    """The plan of n samples, a multiple of 2**levels."""
    assert n > 0 and n % 2**levels == 0 and 0 < levels <= 5
    wrap, chunks = _chunks(n, levels, boundary)
    bands: list[tuple[int, ...]] = []
    parts: list[NDArray[Any]] = []
    places: dict[bytes, int] = {}
    gain, length = 0.0, 0
    for out, source, matrix in chunks:
        gain = max(gain, float(np.abs(matrix).sum(1).max()))
        for start in range(0, len(matrix), BAND):
            rows = matrix[start : start + BAND]
            used = np.flatnonzero(rows.any(0))
            first, stop = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
            band = np.zeros((stop - first, BAND))
            band[:, : len(rows)] = rows[:, first:stop].T
            key = band.tobytes()
            if key not in places:
                places[key] = length
                parts.append(band)
                length += len(band)
            bands.append((out + start, len(rows), source + first, stop - first, places[key]))
    return Axis(n, wrap, np.array(bands, np.int32), np.concatenate(parts), gain)


def channel_order(channels: int, levels: int) -> NDArray[np.intp]:
    """The channels of coefficients as analysis numbers them, in the order in which a `Packet` takes them.

    Analysis: ((c * 4 + b1) * 4 + b2) * 4 + ..., b_j = 2 * (vertical high-pass at level j) + (horizontal one); a packet:
    (c * 2**J + vertical bands) * 2**J + horizontal bands, the latest level fastest.
    """
    side = 2**levels
    order = []
    for c in range(channels):
        for v in range(side):
            for u in range(side):
                index = c
                for j in range(levels - 1, -1, -1):
                    index = index * 4 + 2 * (v >> j & 1) + (u >> j & 1)
                order.append(index)
    return np.array(order, np.intp)


class _CAxis(ctypes.Structure):
    _fields_ = [
        ("bands", ctypes.c_void_p),
        ("matrices", ctypes.c_void_p),
        ("n_bands", ctypes.c_int64),
        ("n", ctypes.c_int64),
        ("wrap", ctypes.c_int64),
    ]


class Packet:
    """The inverse transform of pictures of h x w blocks: `across` the rows of blocks first, then `down` the columns.

    limit: coefficients are clamped to that magnitude; ValueError if sums could leave float64. shuffle: pixels come as
    they do out of a pixel-unshuffle of that factor: (H / s, W / s, C * s * s), channel (c * s + row % s) * s + column
    % s. The coefficients are (h, w, C * 4**J) in `channel_order`; what lies between the axes is (h, C * 2**J, W).
    """

    def __init__(
        self,
        h: int,
        w: int,
        channels: int,
        levels: int,
        boundary: Boundary = "symmetric",
        limit: int = 1 << 21,
        shuffle: int = 1,
    ) -> None:
        side = 2**levels
        assert h > 0 and w > 0 and channels > 0 and side % shuffle == 0 and 0 < limit < 1 << 31
        self.h, self.w, self.channels, self.side, self.limit, self.shuffle = h, w, channels, side, limit, shuffle
        self.x, self.y = axis_plan(side * w, levels, boundary), axis_plan(side * h, levels, boundary)
        between = limit * self.x.gain * 2.0**-FRACTION_BITS + 1
        largest = max(limit * self.x.gain, between * self.y.gain)
        if largest > 2.0**52 or between * self.y.gain >= 2.0 ** (30 + FRACTION_BITS):
            raise ValueError("the sums of this wavelet transform can leave float64")

    def needs(self, top: int, bottom: int) -> tuple[int, int]:
        """The rows of blocks first ... stop - 1 that the pixels of the rows of blocks top ... bottom - 1 depend on."""
        if self.y.wrap:
            return 0, self.h
        bands = self._between(top, bottom)
        return int(bands[:, 2].min()) // self.side, -(-int((bands[:, 2] + bands[:, 3]).max()) // self.side)

    def _between(self, top: int, bottom: int) -> NDArray[np.int32]:
        """The bands of the vertical axis that touch the rows of blocks top ... bottom - 1."""
        assert 0 <= top < bottom <= self.h
        start, stop = self.y.bands[:, 0], self.y.bands[:, 0] + self.y.bands[:, 1]
        return self.y.bands[(stop > top * self.side) & (start < bottom * self.side)]

    def between(self, first: int, stop: int) -> Rows:
        """Room for rows of blocks between the axes."""
        return Rows(np.empty((stop - first, self.channels * self.side, self.side * self.w), np.int32), first, self.h)

    def across(self, x: Rows, top: int, bottom: int, out: Rows) -> None:
        """Transforms the rows of blocks top ... bottom - 1 along x. x: (h, w, C * 4**J) int32. out: see `between`."""
        source, target = x.cut(top, bottom), out.cut(top, bottom)
        assert top < bottom and source.shape[1:] == (self.w, self.channels * self.side**2)
        assert target.shape[1:] == (self.channels * self.side, self.side * self.w)
        _check_arrays(source, target)
        module = library()
        if module is None:
            wide = source.reshape(-1, self.w, self.channels * self.side, self.side).transpose(0, 2, 1, 3)
            wide = np.clip(wide.reshape(*target.shape).astype(np.float64), -self.limit, self.limit)
            target[...] = _along_last(wide, self.x)
            return
        numbers = (bottom - top, self.w, self.channels, self.side, self.limit)
        check(module.codec_wavelet_across(*_axis(self.x), _at(source), _at(target), *map(ctypes.c_int64, numbers)))

    def down(self, x: Rows, top: int, bottom: int, out: Rows) -> None:
        """Makes the pixels of the rows of blocks top ... bottom - 1, of what `across` made, int32 in units of 2**-16.

        out: (H / s, W / s, C * s * s) int32.
        """
        s = self.shuffle
        first, stop = self.needs(top, bottom)
        source, target = x.cut(first, stop), out.cut(top * self.side // s, bottom * self.side // s)
        assert source.shape[1:] == (self.channels * self.side, self.side * self.w)
        assert target.shape[1:] == (self.side * self.w // s, self.channels * s * s)
        _check_arrays(source, target)
        module = library()
        if module is None:
            planes = source.reshape(stop - first, self.channels, self.side, -1).transpose(1, 3, 0, 2)
            planes = planes.reshape(self.channels, self.side * self.w, -1).astype(np.float64)  # (C, W, rows)
            pixels = _along_last(planes, self.y, first * self.side, top * self.side, bottom * self.side)
            pixels = pixels.reshape(self.channels, -1, s, (bottom - top) * self.side // s, s)
            target[...] = pixels.transpose(3, 1, 0, 4, 2).reshape(target.shape)
            return
        numbers = (self.h, self.w, self.channels, self.side, s, first, stop, top, bottom)
        check(module.codec_wavelet_down(*_axis(self.y), _at(source), _at(target), *map(ctypes.c_int64, numbers)))


def _check_arrays(*arrays: NDArray[Any]) -> None:
    assert all(array.dtype == np.int32 and array.flags.c_contiguous for array in arrays), "int32, in one piece"


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _axis(axis: Axis) -> tuple[Any]:
    plan = _CAxis(axis.bands.ctypes.data, axis.matrices.ctypes.data, len(axis.bands), axis.n, axis.wrap)
    return (ctypes.byref(plan),)


def _along_last(
    x: NDArray[np.float64], axis: Axis, origin: int = 0, start: int = 0, stop: int | None = None
) -> NDArray[np.float64]:
    """The outputs start ... stop - 1 of a transform of the last axis of x, which begins at the input `origin`."""
    stop = axis.n if stop is None else stop
    out = np.empty((*x.shape[:-1], stop - start))
    for first, count, source, inputs, place in axis.bands.tolist():
        low, high = max(start, first), min(stop, first + count)
        if low >= high:
            continue
        matrix = axis.matrices[place : place + inputs, low - first : high - first]
        near = np.arange(source, source + inputs)
        near = (near % axis.n if axis.wrap else near) - origin
        part = x[..., near] if axis.wrap else x[..., source - origin : source - origin + inputs]
        out[..., low - start : high - start] = round_half_up((part @ matrix) * 2.0**-FRACTION_BITS)
    return out


def inverse(
    coefficients: NDArray[Any],
    channels: int,
    levels: int,
    boundary: Boundary = "symmetric",
    limit: int = 1 << 21,
    shuffle: int = 1,
) -> NDArray[np.int32]:
    """The pixels (H / s, W / s, C * s * s) of whole pictures' coefficients, (h, w, C * 4**J): see `Packet`."""
    h, w, _ = coefficients.shape
    packet = Packet(h, w, channels, levels, boundary, limit, shuffle)
    x = Rows(np.ascontiguousarray(coefficients, np.int32), 0, h)
    between = packet.between(0, h)
    packet.across(x, 0, h, between)
    side = packet.side
    out = Rows.empty(h * side // shuffle, w * side // shuffle, channels * shuffle**2, np.int32)
    packet.down(between, 0, h, out)
    return out.array
