"""Lossless coding of a transparency plane: the smallest of a constant, zlib behind row filters, lossless WebP, mixing.

Here, too, colours that no one can see are filled, so that they cost next to nothing.

Layout in docs/format.md, chunk `Alph`. Both directions work on bands of rows, so memory beyond the plane is bounded,
and a decoder never makes more than the plane that the (already checked) header announces. Mixing takes a copy of the
plane, in 16 bits, and up to 64 MB; where that would be slow, or nothing is compiled, an encoder leaves it out.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...entropy.mixing.levels import BASES, LevelModel
from ...errors import MediaError, StreamError
from ...media.bands import bands
from ...media.webp import decode_webp, encode_webp

__all__ = ["decode_alpha", "encode_alpha", "without_hidden"]

_CONSTANT, _ZLIB, _WEBP, _MIXED = range(4)
_MOST_SECONDS = 20.0  # that mixing may take by an estimate, 2 million flat pixels a second, and 100 000 bytes
_MAX_WEBP_SIDE = 16383


def encode_alpha(alpha: NDArray[Any]) -> bytes:
    """The payload of a transparency plane, (H, W) uint8 or uint16."""
    if (alpha == alpha.flat[0]).all():
        return bytes([_CONSTANT]) + int(alpha.flat[0]).to_bytes(alpha.itemsize, "big")
    plane = alpha.T if alpha.shape[0] > alpha.shape[1] else alpha
    best = bytes([_ZLIB]) + _zip(plane)
    if alpha.dtype == np.uint8 and max(alpha.shape) <= _MAX_WEBP_SIDE:
        other = bytes([_WEBP]) + _webp(plane)
        best = min(best, other, key=len)
    seconds = alpha.size / 2e6 + len(best) / 1e5
    if native.library() is not None and seconds <= _MOST_SECONDS:
        best = min(best, _mixed(plane, len(best)), key=len)
    return best


def without_hidden(pixels: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """The pixels, (H, W, C), with those of no opacity at all filled smoothly from their neighbours; others unchanged.

    A codec with loss would spend bits on colours that nobody sees, and smear them into those that are seen. Averages of
    visible pixels go up a pyramid of halves, and come down where there are none; all in integers, so the same anywhere.
    """
    seen = alpha != 0
    if seen.all():
        return pixels
    if not seen.any():
        return np.zeros_like(pixels)
    filled = _fill(pixels, seen)
    out = np.where(seen[:, :, None], pixels, filled)
    return np.ascontiguousarray(out.astype(pixels.dtype))


def _fill(pixels: NDArray[Any], seen: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Values for all pixels: a seen pixel's own, elsewhere those of the next coarser level, smoothed."""
    values = np.where(seen[:, :, None], pixels, 0).astype(np.uint32)
    if seen.all() or max(seen.shape) == 1:
        return values
    height, width = seen.shape
    even = ((0, height & 1), (0, width & 1))
    weights = np.pad(seen, even).astype(np.uint32)
    padded = np.pad(values, (*even, (0, 0)))
    count = weights[0::2, 0::2] + weights[1::2, 0::2] + weights[0::2, 1::2] + weights[1::2, 1::2]
    total = padded[0::2, 0::2] + padded[1::2, 0::2] + padded[0::2, 1::2] + padded[1::2, 1::2]
    half = np.maximum(count, 1)[:, :, None]
    coarse = _fill((total + half // 2) // half, count > 0)
    return np.where(seen[:, :, None], values, _doubled(coarse, height, width))


def _doubled(coarse: NDArray[np.uint32], height: int, width: int) -> NDArray[np.uint32]:
    """A picture of twice the sides, linear between the centres of the coarse pixels."""
    for axis, length in ((0, height), (1, width)):
        coarse = np.moveaxis(coarse, axis, 0)
        before = np.concatenate((coarse[:1], coarse[:-1]))
        behind = np.concatenate((coarse[1:], coarse[-1:]))
        out = np.empty((2 * len(coarse), *coarse.shape[1:]), np.uint32)
        out[0::2] = (3 * coarse + before + 2) // 4
        out[1::2] = (3 * coarse + behind + 2) // 4
        coarse = np.moveaxis(out[:length], 0, axis)
    return coarse


def decode_alpha(payload: bytes, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The (H, W) plane, or StreamError. shape must have been checked against the size of the file before."""
    method, data = payload[:1], memoryview(payload)[1:]
    if method == bytes([_CONSTANT]):
        if len(data) != dtype.itemsize:
            raise StreamError(f"constant transparency of {len(data)} bytes; expected {dtype.itemsize}")
        return np.full(shape, int.from_bytes(data, "big"), dtype)
    turned = shape[0] > shape[1]
    plane = np.empty(shape[::-1] if turned else shape, dtype)
    if method == bytes([_ZLIB]):
        _unzip(data, plane)
    elif method == bytes([_WEBP]) and dtype == np.uint8 and max(shape) <= _MAX_WEBP_SIDE:
        _unwebp(data, plane)
    elif method == bytes([_MIXED]):
        _unmix(data, plane)
    else:
        raise StreamError(f"transparency coded by method {method!r}, unknown for {dtype} {shape}: a newer version?")
    return np.ascontiguousarray(plane.T) if turned else plane


# ---- zlib behind row filters: 0 none, 1 left, 2 above, 3 left + above - corner; sums are modulo 2**bits


def _zip(plane: NDArray[Any]) -> bytes:
    zipper = zlib.compressobj(9)
    parts = []
    above = np.zeros((1, plane.shape[1]), plane.dtype)
    for top, bottom in bands(*plane.shape):
        rows = plane[top:bottom]
        left = rows.copy()
        left[:, 1:] -= rows[:, :-1]
        up = rows - np.concatenate((above, rows[:-1]))
        gradient = up.copy()
        gradient[:, 1:] -= up[:, :-1]
        above = rows[-1:]
        options = np.stack([rows, left, up, gradient])
        signed = options.view(f"i{plane.itemsize}")
        cost = np.stack([np.abs(option.astype(np.int32)).sum(axis=1, dtype=np.int64) for option in signed])
        best = cost.argmin(axis=0)
        chosen = options[best, np.arange(bottom - top)]
        out = np.empty((bottom - top, 1 + plane.shape[1] * plane.itemsize), np.uint8)
        out[:, 0] = best
        out[:, 1:] = _to_bytes(chosen)
        parts.append(zipper.compress(out.tobytes()))
    return b"".join([*parts, zipper.flush()])


def _unzip(data: memoryview, plane: NDArray[Any]) -> None:
    unzip = zlib.decompressobj()
    height, width = plane.shape
    row_bytes = 1 + width * plane.itemsize
    rest: bytes | memoryview = data
    above = np.zeros(width, plane.dtype)
    try:
        for top, bottom in bands(height, width):
            wanted = (bottom - top) * row_bytes
            raw = b""
            while len(raw) < wanted:
                more = unzip.decompress(rest, wanted - len(raw))
                rest = unzip.unconsumed_tail
                if not more:
                    raise StreamError("the transparency ends too early: the file is damaged")
                raw += more
            coded = np.frombuffer(raw, np.uint8).reshape(-1, row_bytes)
            if coded[:, 0].max() > 3:
                raise StreamError(f"transparency with row filter {coded[:, 0].max()}; expected 0 to 3")
            rows = plane[top:bottom]
            rows[...] = _from_bytes(coded[:, 1:], plane.dtype)
            horizontal = (coded[:, 0] & 1).astype(bool)
            rows[horizontal] = np.cumsum(rows[horizontal], axis=1, dtype=plane.dtype)
            for row, vertical in zip(rows, coded[:, 0] >= 2, strict=True):
                if vertical:
                    row += above
                above = row
        tail = unzip.decompress(rest, 1)
    except zlib.error as error:
        raise StreamError(f"the transparency can't be decompressed ({error}): the file is damaged") from None
    if tail or not unzip.eof or unzip.unused_data:
        raise StreamError("the transparency is longer than the picture: the file is damaged")


def _to_bytes(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of rows, (n, W) samples to (n, bytes): of 16 bits all high bytes of a row, then all low ones."""
    if rows.dtype == np.uint8:
        return rows
    return np.concatenate(((rows >> 8).astype(np.uint8), (rows & 255).astype(np.uint8)), axis=1)


def _from_bytes(coded: NDArray[np.uint8], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype == np.uint8:
        return coded
    high, low = np.split(coded.astype(dtype), 2, axis=1)
    return (high << 8) | low


# ---- mixing: the base of levels, then their stream


def _mixed(plane: NDArray[Any], room: int) -> bytes:
    """The payload, or one longer than the room."""
    sheets = plane.astype(np.uint16)[None, :, :, None]
    model = LevelModel.fitting(sheets, 8 * plane.itemsize)
    try:
        return bytes([_MIXED, model.base]) + model.encode(sheets, room)
    except MemoryError:
        return bytes(room + 1)


def _unmix(data: memoryview, plane: NDArray[Any]) -> None:
    base = data[0] if len(data) else -1
    if base not in BASES:
        raise StreamError("the transparency is told from nothing that is known: the file is damaged, or newer")
    sheets = LevelModel.new((1, *plane.shape, 1), 8 * plane.itemsize, base).decode(bytes(data[1:]))
    plane[...] = sheets[0, :, :, 0]


# ---- lossless WebP, one picture a band


def _webp(plane: NDArray[np.uint8]) -> bytes:
    parts = []
    for top, bottom in bands(*plane.shape):
        data = encode_webp(plane[top:bottom])
        parts += [struct.pack(">I", len(data)), data]
    return b"".join(parts)


def _unwebp(data: memoryview, plane: NDArray[np.uint8]) -> None:
    position = 0
    for top, bottom in bands(*plane.shape):
        start = position + 4
        n_bytes = int.from_bytes(data[position:start], "big")
        position = start + n_bytes
        if len(data) < position:
            raise StreamError("the transparency ends too early: the file is damaged")
        try:
            plane[top:bottom] = decode_webp(data[start:position], bottom - top, plane.shape[1])[:, :, 0]
        except MediaError as error:
            raise StreamError(f"the transparency can't be decoded ({error})") from None
    if position != len(data):
        raise StreamError("the transparency is longer than the picture: the file is damaged")
