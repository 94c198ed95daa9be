"""Error-bounded coding of float arrays: interpolation from coarse to fine, corrected by a filter, residuals mixed.

The traversal, the predictions and the bounds of levels are those of `interpolation.py`, after SZ3, QoZ and HPEZ.
Differs: each prediction is corrected by an adaptive filter, and residuals are coded by context mixing
(`entropy/mixing/residuals.py`), so that nothing is chosen for a whole field but the bounds of its levels and whether
there is a filter; both by what the middle part would cost. A tenth to a third smaller than fixed distributions, and a
tenth as fast.

Exact: predictions and the filter are single float64 operations in a fixed order, the rest is integers.
"""

from __future__ import annotations

import functools
import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...entropy.integers import ByteReader, put_varint
from ...entropy.mixing.coding import PRICE, READ, WRITE, compiled
from ...entropy.mixing.mixer import Mixer
from ...entropy.mixing.residuals import ESCAPE, MOST, PACES, Point, ResidualOracle, new_mixer, start_of
from ...errors import StreamError, UsageError, WeightsError
from ...native import interpolation as kernels
from ...native import mixing_residuals
from . import interpolation
from .interpolation import _EDGES, _SAFE, Scheme, _Field, _merged, _Place, _places

__all__ = ["decode_block", "encode_block", "learn", "middle_of"]

Float = NDArray[np.float64]

SCHEMES = (Scheme(1.0, 1.0), Scheme(1.1, 2.0), Scheme(1.25, 2.0), Scheme(1.5, 3.0))
_USUAL = (1, 2)  # of schemes, of paces
_TRIED = 1 << 12  # values: of fewer, the usual ones are taken
_TRIAL = 1 << 16  # values of the middle part on which they are chosen, at most, and at most an eighth of all
_START = Path(__file__).parent.parent / "interp" / "start" / "residuals.bin"
_START_SHA256 = "06850a79f50523670bd3536c6ecf56a412c4712b97f326345aa0bbe7c32e5a5b"
_HEAD = struct.Struct("<dB")
_CHEAPEST = 2.2e-5  # bits of the cheapest decision
_ROOM = 10  # bytes that a value can take, at most


class _Way:
    """The decisions of the encoder: indices of a scheme and of a pace, and weights of the axes, as in interpolation.

    starts: whether the mixer starts from what is shipped.
    """

    def __init__(self, scheme: int, pace: int, weights: tuple[int, ...], starts: bool = True) -> None:
        self.scheme, self.pace, self.starts = scheme, pace, starts
        self.plan = interpolation._Plan(0, weights)

    @property
    def byte(self) -> int:
        return self.scheme | self.pace << 2 | self.starts << 4

    def scale(self, shape: Sequence[int], bound: float, middle: float) -> kernels.Scale:
        top = (max(shape[1:], default=1) - 1).bit_length()
        shares = [SCHEMES[self.scheme].share(level) for level in range(1, top + 2)]
        return kernels.Scale(self.plan.used, shares, bound, middle)


def encode_block(x: NDArray[Any], bound: float) -> bytes:
    """The stream of an array of any number of axes, which decodes within a bound; those in front are merged.

    x: (B, ...) float32 or float64, finite; its B parts are coded alike. bound: largest difference of any value, above
    0. Whatever `decode_block` gives differs by at most `bound`, in exact arithmetic: every value was looked at.
    """
    if x.dtype not in (np.float32, np.float64) or x.ndim < 2:
        raise UsageError(f"an array of {x.dtype} {x.shape}; expected float32 or float64 with 2 axes or more")
    if not (bound > 0 and np.isfinite(bound)):
        raise UsageError(f"a bound of {bound}: expected a number above 0")
    if not x.size:
        return b""
    if not np.isfinite(x).all():
        raise UsageError("NaN or infinity among the values: mask them first")
    x = np.ascontiguousarray(x.reshape(_merged(x.shape)))
    way = _chosen(x, float(bound), interpolation._smoothness(x))
    stream, raw, _ = _code(WRITE, x, float(bound), way)
    side = zlib.compress(raw.astype(raw.dtype.newbyteorder("<"), copy=False).tobytes(), 9) if raw.size else b""
    head = _HEAD.pack(bound, way.byte) + _little(x.flat[0]) + bytes(way.plan.weights)
    return head + put_varint(len(side)) + side + stream


def decode_block(data: bytes, shape: Sequence[int], dtype: np.dtype[Any] | str) -> NDArray[Any]:
    """The array of a stream, of this shape and type. StreamError if the data aren't a stream of one."""
    dtype, whole = np.dtype(dtype), tuple(shape)
    if 0 in whole:
        return np.zeros(whole, dtype)
    shape = _merged(whole)
    reader = ByteReader(data, "a mixed field")
    bound, byte = _HEAD.unpack(reader.take(_HEAD.size))
    first = np.frombuffer(reader.take(dtype.itemsize), dtype.newbyteorder("<"))
    weights = tuple(reader.take(len(shape) - 1))
    side = reader.take(reader.varint())
    stream = reader.rest()
    if not (0 < bound < np.inf and np.isfinite(first[0])) or byte >> 5:
        raise StreamError("the head of a mixed field is damaged")
    size = math.prod(shape)
    if size * _CHEAPEST > 8 * (len(stream) + len(side)) + 256:  # before anything of this size is made
        raise StreamError(f"{len(stream)} bytes of a mixed field can't hold {size} values: the file is damaged")
    raw = _unpack_side(side, size, dtype)
    way = _Way(byte & 3, byte >> 2 & 3, weights, bool(byte >> 4))
    order, folded = way.plan.folded(shape)
    _, _, values = _coded(READ, folded, bound, way, float(first[0]), stream, raw)
    unfolded = values.reshape([shape[axis] for axis in order])
    return np.ascontiguousarray(unfolded.transpose(np.argsort(order))).reshape(whole)


def _little(value: Any) -> bytes:
    return np.asarray(value).astype(value.dtype.newbyteorder("<")).tobytes()


def _unpack_side(side: bytes, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not side:
        return np.empty(0, dtype)
    limit = size * dtype.itemsize
    try:
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(side, limit + 1)
    except zlib.error:
        raise StreamError("the values that a mixed field keeps are damaged") from None
    if len(body) > limit or not unpacker.eof or len(body) % dtype.itemsize:
        raise StreamError("the values that a mixed field keeps are damaged")
    raw = np.frombuffer(body, dtype.newbyteorder("<")).astype(dtype)
    if not np.isfinite(raw).all():
        raise StreamError("the values that a mixed field keeps aren't finite: the file is damaged")
    return raw


def _chosen(x: NDArray[Any], bound: float, weights: tuple[int, ...]) -> _Way:
    """The way whose middle part is the shortest: first the pace of the filter, then the scheme."""
    usual, pace = _USUAL
    if x.size < _TRIED:
        return _Way(usual, pace, weights)
    trial = middle_of(x, min(_TRIAL, x.size // 8))

    def bits(scheme: int, pace: int) -> float:
        return _code(PRICE, trial, bound, _Way(scheme, pace, weights))[2]

    prices = interpolation.in_parallel([functools.partial(bits, usual, index) for index in (0, pace)])
    pace = pace if prices[1] < prices[0] else 0
    others = [index for index in range(len(SCHEMES)) if index != usual]
    more = interpolation.in_parallel([functools.partial(bits, index, pace) for index in others])
    return _Way(others[more.index(min(more))] if min(more) < min(prices) else usual, pace, weights)


def middle_of(x: NDArray[Any], size: int) -> NDArray[Any]:
    """The middle of an array (B, ...): about so many values at most, of all B parts, as long along all axes."""
    side = max(x.shape[1:])
    while side > 8 and x.shape[0] * math.prod(min(n, side) for n in x.shape[1:]) > size:
        side = 7 * side // 8
    starts = [max(0, (n - side) // 2) for n in x.shape[1:]]
    return np.ascontiguousarray(x[(slice(None), *(slice(start, start + side) for start in starts))])


@functools.cache
def _start() -> Mixer:
    """The mixer that has learned from the training parts of some fields."""
    data = _START.read_bytes()
    if hashlib.sha256(data).hexdigest() != _START_SHA256:
        raise WeightsError(f"{_START.name} isn't the one that this version's streams start from: install codec again")
    return start_of(data)


def learn(mixer: Mixer, x: NDArray[Any], bound: float, filtered: bool) -> None:
    """The mixer learns from an array (B, ...), as if it were coded within a bound, with the filter or without."""
    x = np.ascontiguousarray(x.reshape(_merged(x.shape)))
    scheme, pace = _USUAL
    _code(PRICE, x, bound, _Way(scheme, pace * filtered, interpolation._smoothness(x)), mixer)


def _code(
    role: int, x: NDArray[Any], bound: float, way: _Way, mixer: Mixer | None = None
) -> tuple[bytes, NDArray[Any], float]:
    """The stream, the values that are kept as they are, and the bits of the price of an array."""
    order, folded = way.plan.folded(x.shape)
    values = np.ascontiguousarray(x.transpose(order).reshape(folded))
    return _coded(role, folded, bound, way, float(x.flat[0]), b"", np.empty(0, x.dtype), values, mixer)


def _coded(
    role: int,
    shape: Sequence[int],
    bound: float,
    way: _Way,
    middle: float,
    stream: bytes,
    kept: NDArray[Any],
    values: NDArray[Any] | None = None,
    mixer: Mixer | None = None,
) -> tuple[Any, Any, Any]:
    """The stream, what is kept, and the price (or, when it is read, the values) of a folded array."""
    size, pace = math.prod(shape), PACES[way.pace]
    mixer = mixer or new_mixer(size, _start() if way.starts else None)
    if native.library() is None:
        return _twin(role, mixer, shape, bound, way, middle, stream, kept, values)
    reading = role == READ
    room = 1 << 12 if role == PRICE else _ROOM * size + 64
    coder = compiled(role, mixer, stream, 0) if reading else compiled(role, mixer, None, room)
    scale = way.scale(shape, bound, middle)
    try:
        decoded, kept = mixing_residuals.code(coder, scale, bound * _SAFE, pace, shape, kept, values)
        made = coder.finish() if role != PRICE else b""
    except ValueError as error:
        words = "a mixed field has too few bytes, too many, or values beyond its type: the file is damaged"
        raise StreamError(words) from error
    return made, kept, decoded if reading else coder.bits + 8 * kept.nbytes


# ---- the twin


def _twin(
    role: int,
    mixer: Mixer,
    shape: Sequence[int],
    bound: float,
    way: _Way,
    middle: float,
    stream: bytes,
    raw: NDArray[Any],
    values: NDArray[Any] | None,
) -> tuple[Any, Any, Any]:
    field = _Field(shape, raw.dtype, bound, way.plan, middle)
    x = field.values if values is None else values
    field.scheme = SCHEMES[way.scheme]
    residuals = np.zeros(x.shape, np.int64)
    oracle = ResidualOracle(role, mixer, PACES[way.pace], stream)
    kept: list[Any] = list(raw)[::-1] if role == READ else []
    for place in _places(x.shape[1:]):
        _twin_part(role, oracle, field, place, x, residuals, kept)
    if role == READ and kept:
        raise StreamError("a mixed field keeps more values than it has: the file is damaged")
    made = oracle.coder.finish() if role != PRICE else b""
    left = np.array(kept, x.dtype)
    return made, left, field.values if role == READ else oracle.coder.bits + 8 * left.nbytes


def _twin_part(
    role: int,
    oracle: ResidualOracle,
    field: _Field,
    place: _Place,
    x: NDArray[Any],
    residuals: NDArray[np.int64],
    kept: list[Any],
) -> None:
    """One part of a field. kept: the values of escapes: those to come, from the last, or those that were."""
    predicted, bends, apart, classes = _surroundings(field, place)
    spare = 5 - x.ndim
    mask = sum(1 << (x.ndim - 1 - axis) for axis in place.axes)
    share = field.scheme.share(place.level)
    step, limit, dtype = 2 * field.bound / share, field.bound * _SAFE, x.dtype
    part, known = residuals[place.index], [_known(residuals, place, axis) for axis in place.axes]
    values, sizes, true = field.values[place.index], field.sizes[place.index], x[place.index]
    for at in np.ndindex(part.shape):
        point = Point(mask, place.level)
        _fill(point, part, known, place, at, spare)
        point.around, point.spread, point.bent = (int(c[at]) for c in classes)
        for k in range(len(place.axes)):
            point.bends[k], point.apart[k] = float(bends[k][at]), float(apart[k][at])
        expected = float(predicted[at]) + oracle.shift(point) * step
        q = 0
        if role != READ:
            q = _quantised(float(true[at]), expected, step, limit, dtype)
        q = oracle.code(point, q)
        if q == ESCAPE:
            if role == READ and not kept:
                raise StreamError("a mixed field keeps fewer values than it has: the file is damaged")
            value = kept.pop() if role == READ else true[at]
            if role != READ:
                kept.append(value)
            q = 0
        else:
            with np.errstate(all="ignore"):
                value = np.float64(expected + q * step).astype(dtype)
            oracle.checked(q, float(value))
        oracle.learn(point, q)
        values[at], part[at], sizes[at] = value, q, np.float32(abs(q) / share)


def _quantised(is_: float, expected: float, step: float, limit: float, dtype: np.dtype[Any]) -> int:
    with np.errstate(all="ignore"):
        near = float(np.rint(np.float64(is_ - expected) / np.float64(step)))
        inside = abs(near) <= MOST
        near = near if inside else 0.0
        decoded = float(np.float64(expected + near * step).astype(dtype))
    return int(near) if inside and abs(is_ - decoded) <= limit else ESCAPE


def _known(residuals: NDArray[np.int64], place: _Place, axis: int) -> NDArray[np.int64]:
    """The residuals of the points along an axis between which those of a part lie."""
    spacing = slice(0, None, place.index[axis].step)
    return residuals[(*place.index[:axis], spacing, *place.index[axis + 1 :])]


def _fill(
    point: Point,
    part: NDArray[np.int64],
    known: Sequence[NDArray[np.int64]],
    place: _Place,
    at: tuple[int, ...],
    spare: int,
) -> None:
    """Sets the residuals around a point."""

    def moved(axis: int, by: int, other: NDArray[np.int64] = part) -> int:
        return int(other[(*at[:axis], at[axis] + by, *at[axis + 1 :])])

    last = len(at) - 1
    for axis, n in enumerate(at):
        if n:
            # the axes behind the first are the last of five; the first one's parts lie along the one before them
            point.before[spare + axis] = moved(axis, -1)
    point.two = moved(last, -2) if at[last] > 1 else 0
    if last and at[last - 1]:
        above = (*at[: last - 1], at[last - 1] - 1)
        point.left = int(part[(*above, at[last] - 1)]) if at[last] else 0
        point.right = int(part[(*above, at[last] + 1)]) if at[last] + 1 < part.shape[last] else 0
    for k, axis in enumerate(place.axes):
        point.low[k] = moved(axis, 0, known[k])
        point.high[k] = moved(axis, 1, known[k]) if at[axis] + 1 < known[k].shape[axis] else point.low[k]


def _surroundings(field: _Field, place: _Place) -> tuple[Float, list[Float], list[Float], list[NDArray[np.int64]]]:
    """The predictions of a part; what linear ones differ from cubic ones by, and these from their mean; classes."""
    predicted, spread = field._predictions(place)
    shape = predicted.shape
    if not place.axes:
        return predicted, [], [], [np.zeros(shape, np.int64)] * 3
    ratio = 1.0 / (2 * field.bound / field.scheme.share(place.level))
    bends, apart, bend = [], [], np.zeros(shape)
    with np.errstate(all="ignore"):
        for axis in place.axes:
            cubic = field._interpolated(place.index, axis, place.index[axis].start)
            line = field.values[(*place.index[:axis], slice(0, None, place.index[axis].step), *place.index[axis + 1 :])]
            at, line = np.arange(shape[axis]), line.astype(np.float64)
            low = np.take(line, at, axis=axis)
            high = np.take(line, np.minimum(at + 1, line.shape[axis] - 1), axis=axis)
            bends.append(((low + high) * 0.5 - cubic) * ratio)
            apart.append((cubic - predicted) * ratio)
            bend = bend + np.abs(bends[-1])
        spread = np.broadcast_to(np.asarray(spread) * ratio, shape)
        around = field._contexts(place, field._predictions(place)[1]).astype(np.int64) - place.context
    return predicted, bends, apart, [around, np.searchsorted(_EDGES, spread), np.searchsorted(_EDGES, bend)]
