"""Error-bounded coding of float arrays: wavelets, a step that is searched, mixed coefficients, sparse corrections.

After SPERR (Li, Lindstrom, Clyne, "Lossy Scientific Data Compression with SPERR", IPDPS 2023): the CDF 9/7 transform,
coefficients in steps, and corrections for the values that they leave beyond the bound.
Differs: the step is a searched multiple of the bound; coefficients and corrections are not coded plane by plane, but
mixed (`entropy/mixing/coefficients.py`); any number of fields that are coded alike share what is learned; axes along
which a field isn't smooth aren't transformed along.

Exact: the transform is float64 sums and products in a fixed order, the rest is integers, and single float64
operations. What is decoded is therefore what the encoder saw, and the encoder looks at every value before it promises
the bound: those that corrections can't bring within it are stored as they are.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.integers import ByteReader, put_varint
from ...entropy.mixing.coefficients import PRICE, READ, WRITE, Band, CoefficientCoder, new_mixer
from ...errors import StreamError, UsageError
from ...native import wavelet_fields as kernels
from ...native.mixing_coefficients import MOST
from . import interpolation
from .interpolation import MAX_AXES, within

__all__ = ["decode", "decode_block", "encode", "encode_block"]

Float = NDArray[np.float64]
Int = NDArray[np.int32]

_PLAIN, _WAVELETS, _CORRECTED = range(3)  # ways: values as they are; coefficients; coefficients and corrections
_HEAD = struct.Struct("<BBhHBB3b")  # way, axes, exponent and mantissa of the bound, step, tilt, centroids
_TILTS, _MOST_TILT = 256.0, 60
_FINE = 32  # steps are (32 + n % 32) / 32 * 2^(n // 32) halves of the bound
_USUAL = 66, 12  # the step and the tilt that are tried first
_MOVES = ((16, 0), (-16, 0)), ((0, 12), (0, -12)), ((8, 0), (-8, 0))  # to those beside them
_SMALL, _LARGE = 6, 10  # sides from the first on are transformed along while any is as long as the second
_ROUND = 0.36  # a coefficient of (1 - 0.36) steps is rounded up
_CENTRES = 64.0  # of centroids, to a step
_PART = 1 << 16  # values on which the step is chosen
_CHEAPEST = 2.2e-5  # bits of the cheapest decision


@dataclass(frozen=True)
class _Layout:
    """How an array lies: five axes, the first of them of fields that are coded alike; and its levels and bands."""

    order: tuple[int, ...]
    folded: tuple[int, ...]
    shape: tuple[int, ...]

    @staticmethod
    def of(shape: Sequence[int], axes: int) -> _Layout:
        """The layout of an array whose axes behind the first have a bit in `axes` if they are transformed along."""
        n = range(1, len(shape))
        loose = [axis for axis in n if not axes >> (axis - 1) & 1]
        tight = [axis for axis in n if axes >> (axis - 1) & 1]
        first = math.prod([shape[0], *(shape[axis] for axis in loose)])
        sides = tuple(shape[axis] for axis in tight)
        order = (0, *loose, *tight)
        return _Layout(order, tuple(shape[axis] for axis in order), (first, *[1] * (MAX_AXES - len(sides)), *sides))

    def fold(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(x.transpose(self.order).reshape(self.shape))

    def unfold(self, x: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(x.reshape(self.folded).transpose(np.argsort(self.order)))


def encode(x: NDArray[Any], bound: float) -> bytes:
    """The stream of an array, which decodes within a bound.

    x: (B, ...) float32 or float64, finite, up to MAX_AXES axes behind the first; its B parts are coded alike. bound:
    largest difference of any value, above 0.

    Whatever `decode` gives differs by at most `bound`, in exact arithmetic: every value was looked at.
    """
    if x.dtype not in (np.float32, np.float64) or not 2 <= x.ndim <= MAX_AXES + 1:
        raise UsageError(f"an array of {x.dtype} {x.shape}; expected float32 or float64 with 2 to {MAX_AXES + 1} axes")
    if not (bound > 0 and np.isfinite(bound)):
        raise UsageError(f"a bound of {bound}: expected a number above 0")
    if not x.size:
        return b""
    if not np.isfinite(x).all():
        raise UsageError("NaN or infinity among the values: mask them first")
    weights = interpolation._smoothness(np.ascontiguousarray(x))
    axes = sum(1 << i for i, weight in enumerate(weights) if weight)
    layout = _Layout.of(x.shape, axes)
    folded = layout.fold(x)
    numbers = _Numbers.of(folded, float(bound))
    stream = None if numbers is None else _coded(folded, float(bound), axes, numbers)
    if stream is None or len(stream) > x.nbytes:
        return bytes([_PLAIN]) + zlib.compress(_little(x).tobytes(), 1)
    return stream


def decode(data: bytes, shape: Sequence[int], dtype: np.dtype[Any] | str) -> NDArray[Any]:
    """The array of a stream, of this shape and type. StreamError if the data aren't a stream of one."""
    dtype = np.dtype(dtype)
    if 0 in shape:
        return np.zeros(shape, dtype)
    if not data:
        raise StreamError("a stream of wavelets is cut: the file is damaged")
    if data[0] == _PLAIN:
        return _plain(data[1:], shape, dtype)
    reader = ByteReader(data, "a stream of wavelets")
    way, axes, exponent, mantissa, step, tilt, *centroids = _HEAD.unpack(reader.take(_HEAD.size))
    if way > _CORRECTED or axes >> (len(shape) - 1) or mantissa < 1 << 15 or abs(exponent) > 900:
        raise StreamError("the head of a stream of wavelets is damaged")
    middle = reader.varint()
    numbers = _Numbers(exponent, mantissa, (middle >> 1) ^ -(middle & 1), step, tilt, tuple(centroids))
    side = reader.take(reader.varint())
    stream = reader.rest()
    layout = _Layout.of(shape, axes)
    size = math.prod(shape)
    if size * _CHEAPEST > 8 * len(stream) + 256:  # before anything of this size is made
        raise StreamError(f"{len(stream)} bytes of wavelets can't hold {size} values: the file is damaged")
    where, kept = _unpack_side(side, size, dtype)
    levels = levels_of(layout.shape)
    coder = CoefficientCoder(READ, new_mixer(size), bands_of(layout.shape, levels), stream)
    values = np.zeros(layout.shape, np.int32)
    coder.coefficients(values)
    corrections = None
    if way == _CORRECTED:
        corrections = np.zeros(layout.shape, np.int32)
        coder.corrections(values, corrections)
    coder.finish()
    decoded = numbers.decoded(values, corrections, levels, dtype)
    decoded.reshape(-1)[where] = kept
    if not np.isfinite(decoded).all():
        raise StreamError("a stream of wavelets has values beyond their type: the file is damaged")
    return layout.unfold(decoded)


# ---- bands


def levels_of(shape: Sequence[int]) -> list[kernels.LevelBox]:
    """The levels of an array of five axes, from fine to coarse: the sides of what is transformed, and its axes."""
    box, levels = list(shape), []
    while max(box[1:]) >= _LARGE:
        axes = tuple(axis for axis in range(1, MAX_AXES + 1) if box[axis] >= _SMALL)
        levels.append((tuple(box), axes))
        for axis in axes:
            box[axis] = (box[axis] + 1) // 2
    return levels


def bands_of(shape: Sequence[int], levels: Sequence[kernels.LevelBox]) -> list[Band]:
    """The bands of coefficients along the last four axes, from coarse to fine."""
    box = list(shape)
    for sides, axes in levels[-1:]:
        box = [(side + 1) // 2 if axis in axes else side for axis, side in enumerate(sides)]
    bands = [Band((0,) * MAX_AXES, tuple(box[1:]), None, (0,) * MAX_AXES, len(levels), 0, 0)]
    coarser: dict[int, Band] = {}
    for level in reversed(range(len(levels))):
        sides, axes = levels[level]
        first, made = len(bands), {}
        for high in sorted(itertools.product((0, 1), repeat=len(axes)), key=lambda high: (sum(high), high[::-1])):
            if not any(high):
                continue
            halves = [(side + 1) // 2 if axis in axes else side for axis, side in enumerate(sides)]
            along = [axis in axes and bool(high[axes.index(axis)]) for axis in range(1, MAX_AXES + 1)]
            low = tuple(half if odd else 0 for half, odd in zip(halves[1:], along, strict=True))
            own = zip(sides[1:], halves[1:], along, strict=True)
            side = tuple(whole - half if odd else half for whole, half, odd in own)
            kind = sum(1 << i for i, odd in enumerate(along) if odd)
            parent = coarser.get(kind)
            shift = tuple(int(axis in axes) for axis in range(1, MAX_AXES + 1))
            above = None if parent is None else (parent.low, parent.side)
            made[kind] = Band(low, side, above, shift, level, kind, first)
        bands += made.values()
        coarser = made
    return bands


# ---- numbers


@dataclass(frozen=True)
class _Numbers:
    """The numbers of a stream: the bound, mantissa 2^(exponent - 16); the middle, in bounds; the step; centroids.

    Of magnitudes 1, 2, and more, centroids say where their values lie, in 64ths of a step from the magnitude.
    """

    exponent: int
    mantissa: int
    middle: int
    step: int = 0
    tilt: int = 0
    centroids: tuple[int, ...] = (0, 0, 0)

    @staticmethod
    def of(x: NDArray[Any], bound: float) -> _Numbers | None:
        """The numbers of an array before its step is known; None if they are out of reach."""
        part, exponent = math.frexp(bound)
        if abs(exponent) > 900:
            return None
        numbers = _Numbers(exponent, math.floor(part * (1 << 16)), 0)
        low, high = float(x.min()), float(x.max())
        middle = (low / 2 + high / 2) / numbers.bound
        if not abs(middle) < 2.0**50:
            return None
        return replace(numbers, middle=round(middle))

    @property
    def bound(self) -> float:
        return math.ldexp(self.mantissa, self.exponent - 16)

    @property
    def low(self) -> float:
        """The factor of low-pass values: coarse bands are worth more, or less, than their energy says."""
        return 1.0 - self.tilt / _TILTS

    @property
    def quantum(self) -> float:
        """The step of coefficients."""
        octave, part = divmod(self.step, _FINE)
        return self.bound * ((_FINE + part) / _FINE * 0.5 * 2.0**octave)

    def quantised(self, coefficients: Float, step: int) -> tuple[_Numbers, Int]:
        """The coefficients in steps, and these numbers with the step and its centroids."""
        quantum = replace(self, step=step).quantum
        scaled = np.abs(coefficients) / quantum
        sizes = np.minimum(np.floor(scaled + _ROUND), MOST)
        values = np.copysign(sizes, coefficients).astype(np.int32)
        centroids = []
        over = np.floor((scaled - sizes) * 4096.0).clip(-8192, 8192).astype(np.int64)
        for size in (1, 2, 3):
            own = over[sizes == size if size < 3 else sizes >= size]
            total, n = int(own.sum()), max(1, 64 * len(own))
            centroids.append(min(127, max(-128, (total + n // 2) // n)))
        return replace(self, step=step, centroids=tuple(centroids)), values

    def smooth(self, values: Int, levels: Sequence[kernels.LevelBox]) -> Float:
        """The values that coefficients decode to, before corrections."""
        offsets = np.array([0, *self.centroids], np.float64) / _CENTRES
        sizes = np.abs(values)
        field = np.copysign((sizes + offsets[np.minimum(sizes, 3)]) * self.quantum, values)
        kernels.inverse(field, levels, self.low)
        return field + self.middle * self.bound

    def decoded(
        self, values: Int, corrections: Int | None, levels: Sequence[kernels.LevelBox], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        return self.corrected(self.smooth(values, levels), corrections, dtype)

    def corrected(self, field: Float, corrections: Int | None, dtype: np.dtype[Any]) -> NDArray[Any]:
        if corrections is not None:
            field = field + corrections * (2 * self.bound)
        with np.errstate(over="ignore"):
            return field.astype(dtype)

    def corrections(self, x: NDArray[Any], field: Float) -> Int:
        """The corrections that bring what was decoded within the bound of x, as far as they can."""
        missing = x.astype(np.float64) - field
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.rint(missing / (2 * self.bound)).clip(-MOST, MOST)
        return np.where(within(x, field.astype(x.dtype), self.bound), 0, steps).astype(np.int32)


# ---- streams


def _coded(x: NDArray[Any], bound: float, axes: int, numbers: _Numbers) -> bytes | None:
    """The stream of a folded array; None if it is longer than any that is of use."""
    numbers = _best(_part(x), numbers)
    trial = _Trial(x, numbers)
    numbers, values, corrections = trial.quantised(numbers.step)
    corrected = bool(corrections.any())
    decoded = numbers.corrected(trial.field(numbers, values), corrections if corrected else None, x.dtype)
    where = np.flatnonzero(~within(x, decoded, bound))
    side = _pack_side(where, x.reshape(-1)[where])
    coder = CoefficientCoder(WRITE, new_mixer(x.size), trial.bands, None, x.nbytes + 4096)
    try:
        coder.coefficients(values)
        if corrected:
            coder.corrections(values, corrections)
        stream = coder.finish()
    except MemoryError:  # no room
        return None
    way = _CORRECTED if corrected else _WAVELETS
    head = _HEAD.pack(way, axes, numbers.exponent, numbers.mantissa, numbers.step, numbers.tilt, *numbers.centroids)
    middle = numbers.middle << 1 if numbers.middle >= 0 else ~(numbers.middle << 1)
    return head + put_varint(middle) + put_varint(len(side)) + side + stream


class _Trial:
    """An array in wavelets, whose coefficients are taken in this or that step."""

    def __init__(self, x: NDArray[Any], numbers: _Numbers) -> None:
        self.x, self.numbers = x, numbers
        self.levels = levels_of(x.shape)
        self.bands = bands_of(x.shape, self.levels)
        self.coefficients = x.astype(np.float64) - numbers.middle * numbers.bound
        kernels.forward(self.coefficients, self.levels, numbers.low)

    def field(self, numbers: _Numbers, values: Int) -> Float:
        return numbers.smooth(values, self.levels)

    def quantised(self, step: int) -> tuple[_Numbers, Int, Int]:
        """The numbers, coefficients and corrections of a step."""
        numbers, values = self.numbers.quantised(self.coefficients, step)
        return numbers, values, numbers.corrections(self.x, self.field(numbers, values))

    def price(self, step: int) -> float:
        """The bits of a step."""
        _, values, corrections = self.quantised(step)
        coder = CoefficientCoder(PRICE, new_mixer(values.size), self.bands)
        coder.coefficients(values)
        if corrections.any():
            coder.corrections(values, corrections)
        return coder.bits


def _best(x: NDArray[Any], numbers: _Numbers) -> _Numbers:
    """The numbers with the step and the tilt whose stream is shortest, of an array or of a part of it: by descent."""
    trials: dict[int, _Trial] = {}
    prices: dict[tuple[int, int], float] = {}

    def price(choice: tuple[int, int]) -> float:
        step, tilt = choice
        if not (0 <= step <= 255 and 0 <= tilt <= _MOST_TILT):
            return math.inf
        if choice not in prices:
            if tilt not in trials:
                trials[tilt] = _Trial(x, replace(numbers, tilt=tilt))
            prices[choice] = trials[tilt].price(step)
        return prices[choice]

    best = _USUAL
    for moves in _MOVES:
        while True:
            nearest = best
            for step, tilt in moves:
                choice = best[0] + step, best[1] + tilt
                if price(choice) < price(nearest):
                    nearest = choice
            if nearest == best:
                break
            best = nearest
    return replace(numbers, step=best[0], tilt=best[1])


def _part(x: NDArray[Any]) -> NDArray[Any]:
    """The middle of an array, which has at most _PART values."""
    sides = list(x.shape)
    while math.prod(sides) > _PART:
        axis = max(range(len(sides)), key=lambda axis: sides[axis] * (1 if axis else 0.125))
        sides[axis] = (sides[axis] + 1) // 2
    starts = [(whole - side) // 2 for whole, side in zip(x.shape, sides, strict=True)]
    return np.ascontiguousarray(x[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))])


def _little(x: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<"), copy=False)


def _pack_side(where: NDArray[np.integer[Any]], kept: NDArray[Any]) -> bytes:
    """Values that are stored as they are."""
    if not len(where):
        return b""
    steps = np.diff(where, prepend=0).tolist()
    return zlib.compress(b"".join(map(put_varint, (len(where), *steps))) + _little(kept).tobytes(), 9)


def _unpack_side(side: bytes, size: int, dtype: np.dtype[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    if not side:
        return np.zeros(0, np.int64), np.zeros(0, dtype)
    reader = ByteReader(_inflated(side, size * (dtype.itemsize + 8) + 16), "values beside wavelets")
    n = reader.varint()
    if not 0 < n <= size:
        raise StreamError("values beside wavelets are damaged")
    steps = [reader.varint() for _ in range(n)]
    where = np.cumsum(steps)
    kept = np.frombuffer(reader.rest(), np.uint8)
    if max(steps) > size or where[-1] >= size or len(kept) != n * dtype.itemsize:
        raise StreamError("values beside wavelets are damaged")
    return where, kept.view(dtype.newbyteorder("<")).astype(dtype)


def _inflated(data: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise StreamError("packed values are damaged") from error
    if len(body) > most or not unpacker.eof or unpacker.unused_data:
        raise StreamError("packed values are damaged")
    return body


def _plain(data: bytes, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > 1100 * len(data):  # zlib's best ratio
        raise StreamError("values that are stored as they are, cut: the file is damaged")
    body = _inflated(data, n_bytes)
    if len(body) != n_bytes:
        raise StreamError("values that are stored as they are, cut: the file is damaged")
    return np.frombuffer(body, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def encode_block(x: NDArray[Any], bound: float) -> bytes:
    """The stream of an array of any number of axes, as `encode`: those in front of the last MAX_AXES are merged."""
    return encode(x.reshape(_merged(x.shape)), bound)


def decode_block(data: bytes, shape: Sequence[int], dtype: np.dtype[Any] | str) -> NDArray[Any]:
    """The array of a stream of `encode_block`. StreamError if the data aren't a stream of one."""
    return decode(data, _merged(shape), dtype).reshape(shape)


def _merged(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape with the axes in front of the last MAX_AXES merged into one."""
    n = len(shape) - MAX_AXES
    return tuple(shape) if n <= 1 else (math.prod(shape[:n]), *shape[n:])
