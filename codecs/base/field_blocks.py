"""Blocks of a field as bytes: masks of missing values, values kept without loss, inflating within limits."""

from __future__ import annotations

import lzma
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError
from ...media import hdf5

__all__ = [
    "MAX_JSON",
    "SLAB",
    "Floats",
    "fill_missing",
    "inflate",
    "lossless_slabs",
    "missing_mask",
    "pack_exactly",
    "pack_mask",
    "restore_missing",
    "store_rows",
    "unpack_exactly",
    "unpack_values",
    "unxz",
    "value_range",
    "within_bound",
]

Floats = NDArray[Any]


SLAB = 1 << 24  # bytes of a dataset that is kept without loss, at a time


MAX_JSON = 1 << 26


def missing_mask(block: Floats, missing: Sequence[float]) -> NDArray[np.bool_]:
    """The places where a block holds no number: infinities, NaN and the values in `missing`."""
    mask = ~np.isfinite(block)
    for value in missing:
        if math.isfinite(value):
            mask |= block == block.dtype.type(value)
    return mask


def value_range(blocks: Any, missing: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest number in some blocks; (0, 0) if there is none."""
    low, high = math.inf, -math.inf
    for block in blocks:
        block = np.asarray(block)
        valid = block[~missing_mask(block, missing)]
        if valid.size:
            low, high = min(low, float(valid.min())), max(high, float(valid.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def fill_missing(block: Floats, mask: NDArray[np.bool_]) -> Floats:
    """The block with numbers in its holes: the last before on the last axis, else the next, else the mean of all."""
    filled = block.copy()
    flat, holes = filled.reshape(-1, block.shape[-1]), mask.reshape(-1, block.shape[-1])
    n = flat.shape[1]
    last = np.maximum.accumulate(np.where(holes, -1, np.arange(n)), axis=1)
    following = np.minimum.accumulate(np.where(holes, n, np.arange(n))[:, ::-1], axis=1)[:, ::-1]
    source = np.where(last >= 0, last, following)
    known = source < n
    mean = block.dtype.type(block[~mask].mean(dtype=np.float64)) if not mask.all() else block.dtype.type(0)
    taken = np.take_along_axis(flat, np.minimum(source, n - 1), axis=1)
    flat[holes] = np.where(known, taken, mean)[holes]
    return filled


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


def within_bound(true: Floats, decoded: Floats, bound: float) -> bool:
    """Whether no decoded value is off by more than the bound, by the coder's own test."""
    from ..layers.interpolation import within

    return decoded.shape == true.shape and bool(within(true, decoded, bound).all())


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
    planes = np.frombuffer(body, np.uint8).reshape(dtype.itemsize, -1).T
    little = np.ascontiguousarray(planes).reshape(-1).view(dtype.newbyteorder("<"))
    return little.astype(dtype.newbyteorder("=")).reshape(shape)


def lossless_slabs(item: Any, node: hdf5.Node) -> Iterator[bytes]:
    """The values of a dataset, slab by slab."""
    if node.shape is None or not node.size:
        return
    for part in hdf5.slabs(node, SLAB):
        values = item[part] if node.shape else np.asarray(item[()])
        if hdf5.is_variable(node.dtype):
            yield lzma.compress(hdf5.pack(values, node.dtype), lzma.FORMAT_XZ, lzma.CHECK_NONE, preset=1)
        else:
            values = np.ascontiguousarray(values)
            yield pack_exactly(values if values.dtype.kind != "V" else values.view(np.uint8))


def unpack_values(data: bytes, shape: tuple[int, ...], node: hdf5.Node) -> NDArray[Any]:
    """The values of a slab that `lossless_slabs` wrote."""
    dtype = hdf5.dtype_of(node.dtype)
    if hdf5.is_variable(node.dtype):
        return hdf5.unpack(unxz(data, hdf5.limit_of(math.prod(shape))), shape, node.dtype)
    if dtype.kind == "V":
        raw = unpack_exactly(data, (*shape[:-1], (shape[-1] if shape else 1) * dtype.itemsize), np.dtype(np.uint8))
        return np.frombuffer(raw.tobytes(), dtype).reshape(shape)
    return unpack_exactly(data, shape, dtype)


def store_rows(item: Any, rows: slice, values: NDArray[Any], node: hdf5.Node) -> None:
    """Put decoded rows into an open dataset."""
    item[rows if node.shape else ()] = values


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
