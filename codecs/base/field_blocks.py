"""Blocks of a field as bytes: masks of missing values, values kept without loss, inflating within limits."""

from __future__ import annotations

import lzma
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, StreamError
from ...media import hdf5

__all__ = [
    "MAX_JSON",
    "SLAB",
    "Floats",
    "fill_missing",
    "inflate",
    "lossless_slab",
    "pack_exactly",
    "pack_mask",
    "restore_missing",
    "unpack_exactly",
    "unpack_values",
    "unxz",
    "variable_slabs",
]

Floats = NDArray[Any]


SLAB = 1 << 24  # bytes of a dataset that is kept without loss, at a time


MAX_JSON = 1 << 26
_ROWS, _MAX_ROW = 1 << 23, 1 << 27  # bytes of a slab of texts and the like: about, and of one row of it


def fill_missing(block: Floats, mask: NDArray[np.bool_]) -> Floats:
    """The block with numbers in its holes: the last before on the last axis, else the next, else the mean of all."""
    filled = block.copy()
    flat, holes = filled.reshape(-1, block.shape[-1]), mask.reshape(-1, block.shape[-1])
    n = flat.shape[1]
    with np.errstate(all="ignore"):
        half = block.dtype.type(0.5)  # a mean of halves doesn't overflow
        mean = np.clip(2 * float((block[~mask] * half).mean(dtype=np.float64)), *_ends(block)) if not mask.all() else 0
    mean = block.dtype.type(mean)
    last = np.maximum.accumulate(np.where(holes, -1, np.arange(n)), axis=1)
    following = np.minimum.accumulate(np.where(holes, n, np.arange(n))[:, ::-1], axis=1)[:, ::-1]
    source = np.where(last >= 0, last, following)
    known = source < n
    taken = np.take_along_axis(flat, np.minimum(source, n - 1), axis=1)
    flat[holes] = np.where(known, taken, mean)[holes]
    return filled


def _ends(block: Floats) -> tuple[float, float]:
    """The largest numbers of a type, below and above 0."""
    return float(np.finfo(block.dtype).min), float(np.finfo(block.dtype).max)


def pack_mask(block: Floats, mask: NDArray[np.bool_]) -> bytes:
    """The bytes of a mask and of the bits of what it hides, so that even the kind of a NaN survives."""
    bits = block.view(f"u{block.itemsize}")[mask]
    words = bits[:1] if (bits == bits[0]).all() else bits
    little = words.astype(words.dtype.newbyteorder("<"), copy=False)
    return zlib.compress(struct.pack("<Q", len(words)) + np.packbits(mask).tobytes() + little.tobytes(), 9)


def restore_missing(values: Floats, side: bytes) -> Floats:
    """The block with what `pack_mask` kept put back. StreamError if that isn't for values of this shape."""
    n_bits = -(-values.size // 8)
    body = inflate(side, 8 + n_bits + values.nbytes)
    if len(body) < 8 + n_bits:
        raise StreamError("a mask is cut: the file is damaged")
    (n_words,) = struct.unpack_from("<Q", body)
    mask = np.unpackbits(np.frombuffer(body, np.uint8, n_bits, 8), count=values.size).astype(bool).reshape(values.shape)
    n = int(mask.sum())
    if n_words not in (1, n) or len(body) != 8 + n_bits + n_words * values.itemsize:
        raise StreamError("a mask doesn't fit its values: the file is damaged")
    words = np.frombuffer(body, f"<u{values.itemsize}", offset=8 + n_bits).astype(f"u{values.itemsize}")
    out = values.copy()
    out.view(words.dtype)[mask] = words
    return out


def pack_exactly(values: NDArray[Any]) -> bytes:
    """The bytes of values, those of equal weight side by side, under LZMA."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    planes = little.reshape(-1).view(np.uint8).reshape(-1, values.itemsize).T
    return lzma.compress(planes.tobytes(), lzma.FORMAT_XZ, lzma.CHECK_NONE, preset=1)


def unpack_exactly(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values that `pack_exactly` was given. StreamError if they aren't of this shape."""
    n_bytes = math.prod(shape) * dtype.itemsize
    body = unxz(data, n_bytes)
    if len(body) != n_bytes:
        raise StreamError(f"values of {len(body)} bytes, expected {n_bytes}: the file is damaged")
    if not n_bytes:
        return np.empty(shape, dtype.newbyteorder("="))
    planes = np.frombuffer(body, np.uint8).reshape(dtype.itemsize, -1).T
    little = np.ascontiguousarray(planes).reshape(-1).view(dtype.newbyteorder("<"))
    return little.astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def lossless_slab(values: NDArray[Any], node: hdf5.Node) -> bytes:
    """The bytes of a part of a dataset that is kept without loss, decoded once and compared.

    MediaError for values that wouldn't come back.
    """
    shape = values.shape
    if hdf5.is_variable(node.dtype):
        packed = hdf5.pack(values, node.dtype)
        data = lzma.compress(packed, lzma.FORMAT_XZ, lzma.CHECK_NONE, preset=1)
        same = hdf5.pack(unpack_values(data, shape, node), node.dtype) == packed
    else:
        values = np.ascontiguousarray(values)
        data = pack_exactly(values if values.dtype.kind != "V" else values.reshape(shape or (1,)).view(np.uint8))
        back = unpack_values(data, shape, node)
        same = back.astype(values.dtype, copy=False).tobytes() == values.tobytes()
    if not same:
        raise MediaError(f"{node.path}: its values don't come back as they are: leave it out with --skip {node.path}")
    return data


def variable_slabs(read: Callable[[tuple[slice, ...]], NDArray[Any]], node: hdf5.Node) -> Iterator[tuple[int, bytes]]:
    """The slabs of a dataset of texts, ragged arrays or references: numbers of rows, of about 2^23 bytes, and bytes.

    MediaError for a row that is too long for one.
    """
    assert node.shape
    size, step = node.shape[0], max(1, (1 << 12) // max(1, math.prod(node.shape[1:])))
    held: list[NDArray[Any]] = []
    n_bytes = 0
    for start in range(0, size, step):
        values = read((slice(start, min(start + step, size)),))
        weights = hdf5.weigh(values, node.dtype).reshape(len(values), -1).sum(axis=1).tolist()
        for row, own in enumerate(weights):
            if own > _MAX_ROW:
                words = f"{own} bytes in one row; at most {_MAX_ROW}"
                raise MediaError(f"{node.path}: {words}: leave it out with --skip {node.path}")
            if held and n_bytes + own > _ROWS:
                yield len(held), lossless_slab(np.concatenate(held), node)
                held, n_bytes = [], 0
            held.append(values[row : row + 1])
            n_bytes += own
    if held:
        yield len(held), lossless_slab(np.concatenate(held), node)


def unpack_values(data: bytes, shape: tuple[int, ...], node: hdf5.Node) -> NDArray[Any]:
    """The values of a slab that `lossless_slab` wrote."""
    dtype = hdf5.dtype_of(node.dtype)
    if hdf5.is_variable(node.dtype):
        return hdf5.unpack(unxz(data, hdf5.limit_of(math.prod(shape))), shape, node.dtype)
    if dtype.kind == "V":
        raw = unpack_exactly(data, (*shape[:-1], (shape[-1] if shape else 1) * dtype.itemsize), np.dtype(np.uint8))
        return np.frombuffer(raw.tobytes(), dtype).reshape(shape)
    return unpack_exactly(data, shape, dtype)


def inflate(data: bytes, limit: int) -> bytes:
    """The bytes of a zlib stream. StreamError if they are more than `limit`, or the stream is cut or damaged."""
    try:
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(data, limit + 1)
        if len(body) > limit or not unpacker.eof:
            raise StreamError("a deflated part is too long or cut: the file is damaged")
        return body
    except zlib.error as error:
        raise StreamError(f"a deflated part is damaged ({error})") from None


def unxz(data: bytes, limit: int) -> bytes:
    """The bytes of an XZ stream. StreamError if they are more than `limit`, or the stream is cut or damaged."""
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28)
        body = unpacker.decompress(data, limit + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise StreamError(f"a part that is kept without loss is damaged ({error})") from None
    if len(body) > limit or not unpacker.eof:
        raise StreamError("a part that is kept without loss is too long or cut: the file is damaged")
    return body
