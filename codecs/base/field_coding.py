"""One block of a field as bytes, and back: the family's coder under a bound, and what is around it.

A block is a method, the bits of its missing values, and a payload. Methods of this module wrap the family's: values
scaled by a power of two, which no coder then sees overflow, and logarithms, whose errors are parts of the value. What
a block decodes to is compared with every value before it is kept; where a promise is broken, the next method is tried,
and the last one is without loss.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import CodecError, StreamError
from .field_blocks import Floats, fill_missing, inflate, pack_exactly, pack_mask, restore_missing, unpack_exactly
from .field_bounds import Limit, Span, rms_error, within_bound, within_pointwise

__all__ = [
    "BOUNDED",
    "LOSSLESS",
    "METHODS",
    "POINTWISE",
    "SCALED",
    "Family",
    "decode_block",
    "encode_block",
    "inner_method",
    "parts_of",
]

LOSSLESS, BOUNDED, POINTWISE, SCALED = range(4)  # how a block is coded; families number theirs from 16 on. Append only
METHODS = {LOSSLESS: "lossless", BOUNDED: "interpolation", POINTWISE: "logarithms", SCALED: "scaled"}
_HEAD = struct.Struct("<BI")
_SCALE = struct.Struct("<hB")  # exponent, method
_LOG = struct.Struct("<BI")  # method, bytes of the signs
_DEEP = 2.0**-10  # of the last place of the largest value: a bound below that asks for all bits
_BEND = 11 / 32  # of the logarithm, see `_log`
_SLOPE = 21 / 16  # the least by which it rises, over the natural logarithm
_COARSE = 1 / 32  # of the values may be kept as they are because a bound in parts of themselves can't be met
_TRIES = 6  # bounds that are tried for a root mean square error
_FAULTS = (ArithmeticError, ValueError, IndexError, CodecError)  # of a family, on values that are out of its reach

Shape = tuple[int, ...]


class Coder(Protocol):
    """A coder of blocks of numbers. comfort: exponents of two that it can take, up and down."""

    comfort: ClassVar[int]

    def encode_field(self, x: Floats, bound: float) -> tuple[int, bytes]: ...
    def decode_field(self, method: int, payload: bytes, shape: Shape, dtype: np.dtype[Any]) -> Floats: ...


class Family(Coder, Protocol):
    """The part of a codec that codes blocks of numbers."""

    def bound_without_promise(self, low: float, high: float) -> float: ...


class _Plain:
    """The coder that every family falls back to."""

    comfort: ClassVar[int] = 500

    def encode_field(self, x: Floats, bound: float) -> tuple[int, bytes]:
        from ..layers import interpolation

        return BOUNDED, interpolation.encode_block(x, bound)

    def decode_field(self, method: int, payload: bytes, shape: Shape, dtype: np.dtype[Any]) -> Floats:
        from ..layers import interpolation

        if method != BOUNDED:
            raise StreamError(f"a block coded in way {method}: made by a newer version, or damaged")
        return interpolation.decode_block(payload, shape, dtype)


def encode_block(family: Family, block: Floats, limit: Limit, mask: NDArray[np.bool_]) -> bytes:
    """The bytes of a block, verified on what the decoder gives. mask: where values are missing: these keep their bits.

    limit: what is promised; an infinite one: nothing.
    """
    block = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
    if limit.kind == "pointwise":
        mask = mask | (block == 0)
    filled = fill_missing(block, mask) if mask.any() else block
    method, payload = LOSSLESS, b""
    if mask.all():
        pass
    elif limit.kind == "pointwise":
        method, payload, mask = _pointwise(family, block, filled, limit.value, mask)
    elif limit.kind == "rmse":
        method, payload = _in_the_mean(family, filled, limit.value)
    else:
        method, payload = _within(family, filled, limit.value)
    if method == LOSSLESS or len(payload) >= filled.nbytes:
        method, payload = LOSSLESS, pack_exactly(filled)
    side = pack_mask(block, mask) if mask.any() else b""
    return _HEAD.pack(method, len(side)) + side + payload


def decode_block(family: Family, data: bytes, shape: Shape, dtype: np.dtype[Any]) -> Floats:
    """The block that `encode_block` was given, within its limit. StreamError for bytes that aren't one."""
    native = dtype.newbyteorder("=")
    method, side, payload = parts_of(data)
    values = _decoded(family, method, payload, shape, native)
    if not np.isfinite(values).all() and method != LOSSLESS:
        raise StreamError("a block of numbers that aren't finite: the file is damaged")
    return restore_missing(values, side) if side else values


def parts_of(data: bytes) -> tuple[int, bytes, bytes]:
    """The method, the mask and the payload of a block; StreamError if it is cut."""
    if len(data) < _HEAD.size:
        raise StreamError("a block is cut: the file is damaged")
    method, n_side = _HEAD.unpack_from(data)
    if _HEAD.size + n_side > len(data):
        raise StreamError("a mask is cut: the file is damaged")
    return method, data[_HEAD.size : _HEAD.size + n_side], data[_HEAD.size + n_side :]


def inner_method(data: bytes) -> int:
    """The method by which the numbers of a block are coded, below those that only wrap another; -1 if it is cut."""
    try:
        method, _, payload = parts_of(data)
        while method in (POINTWISE, SCALED):
            if method == POINTWISE:
                inner, n_signs = _LOG.unpack_from(payload)
                method, payload = inner, payload[_LOG.size + n_signs :]
            else:
                _, method = _SCALE.unpack_from(payload)
                payload = payload[_SCALE.size :]
    except (StreamError, struct.error):
        return -1
    return method


def _decoded(family: Family, method: int, payload: bytes, shape: Shape, dtype: np.dtype[Any], depth: int = 2) -> Floats:
    if method == LOSSLESS:
        return unpack_exactly(payload, shape, dtype)
    if method not in (POINTWISE, SCALED):
        return family.decode_field(method, payload, (1, *shape), dtype)[0]
    head = _LOG if method == POINTWISE else _SCALE
    if len(payload) < head.size or not depth:
        raise StreamError("a block is cut: the file is damaged")
    double = np.dtype(np.float64)
    if method == SCALED:
        exponent, inner = _SCALE.unpack_from(payload)
        values = _decoded(family, inner, payload[head.size :], shape, double, depth - 1)
        return _scaled(values, exponent, dtype)
    inner, n_signs = _LOG.unpack_from(payload)
    signs = inflate(payload[head.size : head.size + n_signs], -(-math.prod(shape) // 8))
    if len(signs) != -(-math.prod(shape) // 8):
        raise StreamError("the signs of a block are cut: the file is damaged")
    negative = np.unpackbits(np.frombuffer(signs, np.uint8), count=math.prod(shape)).reshape(shape)
    logs = _decoded(family, inner, payload[head.size + n_signs :], shape, double, depth - 1)
    if not np.isfinite(logs).all():
        raise StreamError("a block of numbers that aren't finite: the file is damaged")
    return _size(logs, negative.astype(bool), dtype)


# ---- a bound of each value


def _within(family: Family, x: Floats, bound: float) -> tuple[int, bytes]:
    """The method and the payload of numbers under an absolute bound, or one that is infinite."""
    span = Span(float(x.min()), float(x.max()))
    if bound <= span.top * float(np.finfo(x.dtype).eps) * _DEEP or (span.top == 0 and bound < math.inf):
        return LOSSLESS, b""
    limit = _sensible(bound, span)
    ways: list[tuple[Coder, float]] = [(family, limit)]
    if math.isinf(bound):
        limit = _sensible(family.bound_without_promise(span.low, span.high), span)
    ways.append((_Plain(), limit))
    for way, aim in ways:
        try:
            method, payload = _coded(way, x, aim, span)
            back = _decoded(family, method, payload, x.shape, x.dtype)
        except _FAULTS:
            continue
        if within_bound(x, back, bound):  # a promise that isn't left to the family
            return method, payload
    return LOSSLESS, b""


def _sensible(bound: float, span: Span) -> float:
    """A bound that is no larger than it can matter: no coder sees one that overflows."""
    if math.isinf(bound):
        return bound
    return min(bound, 4 * span.half) if span.half > 0 else min(bound, span.top)


def _coded(way: Coder, x: Floats, bound: float, span: Span) -> tuple[int, bytes]:
    """The method and the payload of one coder, of values that it can take."""
    if bound <= 0:
        return LOSSLESS, pack_exactly(x)
    _, exponent = math.frexp(span.top)
    if abs(exponent) <= way.comfort:
        with np.errstate(all="ignore"):
            return way.encode_field(x[None], bound)
    if x.dtype == np.float32 and math.isfinite(bound):  # room for rounding to it
        bound -= span.top * 2.0**-24 + 2.0**-150
        if bound <= 0:
            return LOSSLESS, pack_exactly(x)
    with np.errstate(all="ignore"):
        method, payload = way.encode_field(np.ldexp(x.astype(np.float64), -exponent)[None], _shifted(bound, -exponent))
    return SCALED, _SCALE.pack(exponent, method) + payload


def _shifted(bound: float, exponent: int) -> float:
    return bound if math.isinf(bound) else math.ldexp(bound, exponent)


def _scaled(values: Floats, exponent: Any, dtype: np.dtype[Any]) -> Floats:
    """The values times a power of two, none beyond the type: those near its end may be decoded a little further."""
    most = float(np.finfo(dtype).max)
    with np.errstate(all="ignore"):
        return np.clip(np.ldexp(values, exponent), -most, most).astype(dtype)


# ---- a bound of the root mean square


def _in_the_mean(family: Family, x: Floats, target: float) -> tuple[int, bytes]:
    """The method and the payload of numbers whose root mean square error is at most `target`.

    The errors of a uniform quantiser are spread evenly up to the bound; from there the bound is corrected by what was
    measured.
    """
    best: tuple[int, bytes] | None = None
    bound = 1.7 * target
    for _ in range(_TRIES):
        if not math.isfinite(bound):
            break
        method, payload = _within(family, x, bound)
        if method == LOSSLESS:
            break
        error = rms_error(x, _decoded(family, method, payload, x.shape, x.dtype))
        if error <= target:
            if best is None or len(payload) < len(best[1]):
                best = method, payload
            if error > 0.95 * target or bound > 4 * Span(float(x.min()), float(x.max())).half:
                break
        bound *= min(4.0, 0.98 * target / error) if error > 0 else 4.0
    return best or (LOSSLESS, b"")


# ---- a bound in parts of each value


def _pointwise(
    family: Family, block: Floats, filled: Floats, bound: float, mask: NDArray[np.bool_]
) -> tuple[int, bytes, NDArray[np.bool_]]:
    """The method and the payload of numbers other than 0 whose errors are at most a part of them; and the mask.

    A few that can't be coded so (next to 0 numbers are coarse) are masked, too: then they keep their bits.
    """
    limit = _SLOPE * math.log1p(bound) * (1 - 2.0**-20)
    if limit < 2.0**-40:  # logarithms have about that many places
        return LOSSLESS, b"", mask
    logs = _log(filled)
    method, payload = _within(family, logs, limit)
    if method == LOSSLESS:
        payload = pack_exactly(logs)
    back = _size(_decoded(family, method, payload, logs.shape, logs.dtype), filled < 0, block.dtype)
    coarse = ~within_pointwise(filled, back, bound) & ~mask
    if np.count_nonzero(coarse) > _COARSE * block.size:
        return LOSSLESS, b"", mask
    signs = zlib.compress(np.packbits(filled < 0).tobytes(), 9)
    return POINTWISE, _LOG.pack(method, len(signs)) + signs + payload, mask | coarse


def _log(x: Floats) -> NDArray[np.float64]:
    """Nearly the binary logarithms of magnitudes: of 2^e (1 + f), e + f + 11/32 f (1 - f).

    It bends as the logarithm does, and its inverse takes sums, products and a square root, which IEEE-754 rounds the
    same way everywhere.
    """
    mantissa, exponent = np.frexp(np.abs(x.astype(np.float64)))
    part = 2 * mantissa - 1
    return (exponent - 1) + part + _BEND * part * (1 - part)


def _size(logs: NDArray[np.float64], negative: NDArray[np.bool_], dtype: np.dtype[Any]) -> Floats:
    """The numbers of logarithms, with signs: the inverse of `_log`; none beyond the type."""
    exponent = np.floor(np.clip(logs, -1100, 1100))
    part = np.clip(logs, -1100, 1100) - exponent
    root = np.sqrt((1 + _BEND) * (1 + _BEND) - 4 * _BEND * part)
    size = _scaled(1 + ((1 + _BEND) - root) / (2 * _BEND), exponent.astype(np.int32), dtype)
    return np.where(negative, -size, size)
