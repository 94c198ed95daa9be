"""Values of HDF5 as bytes, whatever their type, and back.

Values of a fixed size are the bytes that lie in the file. Of others each part becomes a column: text and references
(as paths) their lengths (4 bytes each) and then their bytes, ragged arrays their lengths and then all their values,
compounds their members one after the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError
from .limits import MAX_IN_MEMORY, MAX_PACKED
from .types import dtype_of, is_variable, memory_type, size_of

__all__ = ["change_references", "index_of", "limit_of", "pack", "spaces_of", "unpack", "weigh"]

Values = NDArray[Any]
Change = Callable[[Any, bool], Any]  # a reference to its name or the reverse; whether it is one to a region


def _class_of(kind: Any) -> tuple[str, Any]:
    """The class of a kind, with short names and names of the file's own types resolved; and the kind itself."""
    if isinstance(kind, Mapping) and kind.get("class") == "named":
        return _class_of(kind["type"])
    if kind == "text":
        return "string", kind
    if kind == "reference":
        return "reference", kind
    return (str(kind["class"]) if isinstance(kind, Mapping) and "class" in kind else "plain"), kind


def _parts(values: Values, kind: Any) -> tuple[str, Any, Values]:
    """The class, the kind and flat values; of array types the values that are in them."""
    name, kind = _class_of(kind)
    if name == "array":
        return _parts(values.reshape(-1), kind["base"])
    return name, kind, values.reshape(-1)


def pack(values: Values, kind: Any) -> bytes:
    """The bytes of values as h5py reads them, but with names in the places of references."""
    if not is_variable(kind):
        return np.ascontiguousarray(values).tobytes()
    word, kind, flat = _parts(values, kind)
    if not is_variable(kind):
        return np.ascontiguousarray(flat).tobytes()
    if word == "compound":
        return b"".join(pack(flat[member], part) for member, part in _members(flat.dtype, kind))
    if word == "ragged":
        rows = [np.asarray(row) for row in flat.tolist()]
        lengths = np.array([len(row) for row in rows], "<u4").tobytes()
        base = memory_type(kind["base"])
        joined = np.concatenate([row.astype(base.base, copy=False) for row in rows if len(row)] or [np.empty(0, base)])
        return lengths + pack(joined, kind["base"])
    words = [w if isinstance(w, bytes) else str(w).encode("utf-8", "surrogateescape") for w in flat.tolist()]
    return np.array([len(w) for w in words], "<u4").tobytes() + b"".join(words)


def weigh(values: Values, kind: Any) -> NDArray[np.int64]:
    """About the number of bytes of each value when it is packed, (N,)."""
    n = values.size
    if not is_variable(kind):
        return np.full(n, size_of(kind), np.int64)
    word, kind, flat = _parts(values, kind)
    if not is_variable(kind):
        sizes = np.full(flat.size, size_of(kind), np.int64)
    elif word == "compound":
        parts = [weigh(flat[member], part).reshape(flat.size, -1) for member, part in _members(flat.dtype, kind)]
        sizes = np.concatenate(parts, axis=1).sum(axis=1)
    elif word == "ragged":
        sizes = np.array([4 + _weight_of_row(row, kind["base"]) for row in flat.tolist()], np.int64)
    else:
        sizes = np.array([4 + len(w) for w in flat.tolist()], np.int64)
    return sizes.reshape(n, -1).sum(axis=1) if n else np.zeros(0, np.int64)


def _weight_of_row(row: Any, kind: Any) -> int:
    return int(weigh(np.asarray(row), kind).sum()) if is_variable(kind) else len(row) * size_of(kind)


def unpack(data: bytes, shape: tuple[int, ...], kind: Any) -> Values:
    """The values that `pack` was given; references are the names that they lead to. StreamError if they can't be."""
    try:
        if is_variable(kind):
            values, end = _take(memoryview(data), 0, math.prod(shape), kind)
        else:
            end = math.prod(shape) * size_of(kind)
            values = np.frombuffer(data, dtype_of(kind)) if data else np.empty(0, dtype_of(kind))
            if len(data) != end:
                raise ValueError(f"{len(data)} bytes, expected {end}")
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise StreamError(f"values that don't fit their type: the file is damaged ({error})") from None
    if end != len(data):
        raise StreamError(f"values of {len(data)} bytes, expected {end}: the file is damaged")
    return values.reshape(shape)


def _take(data: memoryview, at: int, n: int, kind: Any) -> tuple[Values, int]:
    """So many values from a place on, flat; and the place behind them."""
    if not is_variable(kind):  # as in memory, which h5py converts to what is in the file
        dtype = memory_type(kind)
        count = dtype.itemsize // dtype.base.itemsize
        flat = np.frombuffer(data, dtype.base, n * count, at) if n else np.empty(0, dtype.base)
        return flat.reshape(n, *dtype.shape), at + n * dtype.itemsize
    if n * memory_type(kind).itemsize > MAX_IN_MEMORY or n * _least(kind) > len(data) - at:
        raise ValueError(f"{n} values")
    word, kind = _class_of(kind)
    if word == "array":
        count = math.prod(kind["shape"])
        flat, at = _take(data, at, n * count, kind["base"])
        return flat.reshape(n, *kind["shape"]), at
    if word == "compound":
        dtype = memory_type(kind)
        out = np.empty(n, dtype)
        for member, part in _members(dtype, kind):
            column, at = _take(data, at, n, part)
            inner = out[member]
            inner[...] = column.reshape(inner.shape).astype(inner.dtype, copy=False)
        return out, at
    lengths = _take_lengths(data, at, n)
    at += 4 * n
    total = int(lengths.sum())
    if total > len(data) * 8:
        raise ValueError("parts that are too long")
    out = np.empty(n, object)
    ends = np.cumsum(lengths).tolist()
    if word == "ragged":
        joined, at = _take(data, at, total, kind["base"])
        joined = np.ascontiguousarray(joined)
        for k, (end, length) in enumerate(zip(ends, lengths.tolist(), strict=True)):
            out[k] = joined[end - length : end]
        return out, at
    if at + total > len(data):
        raise ValueError("text that is cut")
    body = bytes(data[at : at + total])
    out[:] = [body[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]
    return out, at + total


def _least(kind: Any) -> int:
    """The bytes that a packed value has at least."""
    if not is_variable(kind):
        return size_of(kind)
    word, kind = _class_of(kind)
    if word == "array":
        return math.prod(kind["shape"]) * _least(kind["base"])
    return sum(_least(part) for _, _, part in kind["members"]) if word == "compound" else 4


def _take_lengths(data: memoryview, at: int, n: int) -> NDArray[np.int64]:
    if at + 4 * n > len(data):
        raise ValueError("lengths that are cut")
    return np.frombuffer(data, "<u4", n, at).astype(np.int64) if n else np.zeros(0, np.int64)


def _members(dtype: np.dtype[Any], kind: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The names of a compound's members in NumPy, which may differ from those in the file, and their kinds."""
    names = dtype.names or ()
    if len(names) != len(kind["members"]):
        raise ValueError("a compound that NumPy has no type for")
    return [(name, part) for name, (_, _, part) in zip(names, kind["members"], strict=True)]


def change_references(values: Values, kind: Any, change: Change) -> Values:
    """The values with names in the places of references, or the reverse."""
    if not _has_references(kind):
        return values
    word, kind = _class_of(kind)
    flat = values.reshape(-1)
    if word == "array":
        return change_references(flat, kind["base"], change).reshape(values.shape)
    if word == "compound":
        for member, part in _members(flat.dtype, kind):
            if _has_references(part):
                column = flat[member]
                column[...] = change_references(column, part, change).reshape(column.shape)
        return flat.reshape(values.shape)
    out = np.empty(flat.size, object)
    if word == "ragged":
        for k, row in enumerate(flat.tolist()):
            out[k] = change_references(row, kind["base"], change)
        return out.reshape(values.shape)
    is_region = kind != "reference" and kind["to"] == "region"
    for k, name in enumerate(flat.tolist()):
        out[k] = change(name, is_region)
    return out.reshape(values.shape)


def _has_references(kind: Any) -> bool:
    return '"reference"' in json.dumps(kind)


def limit_of(n: int) -> int:
    """The most bytes that so many packed values may have. StreamError if that is too much for memory."""
    if 4 * n > MAX_PACKED:
        raise StreamError(f"{n} values of text or ragged arrays at once: the file is damaged")
    return MAX_PACKED


def index_of(part: Any, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The slices, of whole numbers, of a part of an array that is given by slices of its first axes."""
    parts = () if part is Ellipsis else part if isinstance(part, tuple) else (part,)
    if len(parts) > len(shape) or not all(isinstance(cut, slice) and cut.step in (None, 1) for cut in parts):
        raise TypeError(f"expected slices, not {part!r}")
    limits = [cut.indices(side)[:2] for cut, side in zip(parts, shape, strict=False)]
    limits += [(0, side) for side in shape[len(parts) :]]
    return tuple(slice(start, max(start, stop)) for start, stop in limits)


def spaces_of(shape: tuple[int, ...], index: tuple[slice, ...]) -> tuple[Any, Any]:
    """The dataspaces in memory and in the file of a part of a dataset; of a scalar all."""
    from h5py import h5s

    if not shape:
        return h5s.create(h5s.SCALAR), h5s.create(h5s.SCALAR)
    count = tuple(cut.stop - cut.start for cut in index)
    space = h5s.create_simple(shape)
    space.select_hyperslab(tuple(cut.start for cut in index), count)
    return h5s.create_simple(count), space
