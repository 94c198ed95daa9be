"""Scenes as bytes: the integer table of a file, or of a grid within error bounds, in an order that means nothing.

Rows are sorted by the Morton code of their positions, so that those that are near in space are near in the stream; then
positions and attributes are mixed (`entropy/mixing`). The order of a file can be kept beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...container import Value
from ...errors import StreamError
from ...media.gaussians.values import Column, Table
from .symbols import NumberCoder, joined, parted

__all__ = ["decode_table", "encode_table", "morton_order"]

_MOST_COLUMNS = 128


def morton_order(positions: NDArray[np.int32]) -> NDArray[np.int64]:
    """The order of points (N, 3) along the Morton curve of the 21 highest bits of their extent; of equals, as given."""
    low = positions.astype(np.int64) - positions.min(0)
    spare = max(0, int(low.max()).bit_length() - 21)
    code = np.zeros(len(low), np.uint64)
    for axis in range(3):
        code |= _spread((low[:, axis] >> spare).astype(np.uint64)) << np.uint64(axis)
    return np.argsort(code, kind="stable")


def _spread(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Whole numbers of 21 bits with two zeros between any two bits."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        x = (x | x << np.uint64(shift)) & np.uint64(mask)
    return x


def encode_table(table: Table) -> tuple[bytes, dict[str, Value], NDArray[np.int64]]:
    """The stream of a table; what a decoder has to know of it, as plain values; and the order of rows in the stream."""
    order = _order_of(table)
    streams = []
    for column in table.columns:
        coder, values = (
            NumberCoder(column.values.shape[1], 3, column.values.size),
            column.values[order].astype(np.int64),
        )
        for k in range(values.shape[1]):
            _code(coder, values, k, np.diff(values[:, k], prepend=0))
        streams.append(coder.finish())
    about: dict[str, Value] = {"form": table.form}
    about |= {"groups": np.array(table.groups, "<u4").tobytes()} if table.groups else {}
    about["columns"] = tuple(f"{c.role}:{','.join(map(str, c.bits))}" for c in table.columns)
    about |= {f"d.{key}": value for key, value in table.detail.items()}
    return joined(streams), about, order


def _code(coder: NumberCoder, values: NDArray[np.int64], k: int, given: NDArray[np.int64] | None) -> NDArray[np.int64]:
    zero = np.zeros(len(values), np.int64)
    before = np.diff(values[:, k - 1], prepend=0) if k else zero
    second = np.diff(values[:, k - 2], prepend=0) if k > 1 else zero
    a, b = np.clip(before, -60, 60) & 127, np.clip(second, -60, 60) & 127
    return coder.code([a, a << 7 | b, zero], np.full(len(values), k), given)


def decode_table(data: bytes, about: Mapping[str, Value], n: int) -> Table:
    """The table of a stream of n rows. StreamError for a damaged one."""
    form, specs = about.get("form"), about.get("columns")
    if not isinstance(form, str) or not isinstance(specs, tuple) or not 1 <= len(specs) <= _MOST_COLUMNS:
        raise StreamError("a table without its columns: the file is damaged")
    columns = []
    for spec, stream in zip(specs, parted(data, len(specs)), strict=True):
        role, _, words = str(spec).partition(":")
        bits = tuple(map(int, words.split(",")))
        coder = NumberCoder(len(bits), 3, n * len(bits), stream)
        values = np.zeros((n, len(bits)), np.int64)
        for k in range(len(bits)):
            values[:, k] = np.cumsum(_code(coder, values, k, None))
        coder.finish()
        columns.append(Column(role, values.astype(np.int32), bits))
    detail = {key[2:]: value for key, value in about.items() if key.startswith("d.")}
    return Table(form, tuple(columns), _groups_of(about, n), detail)


def _order_of(table: Table) -> NDArray[np.int64]:
    """The order of rows in a stream: along the Morton curve, within each group."""
    positions = table.columns[0].values
    starts = np.cumsum([0, *(table.groups or (len(positions),))])
    parts = [start + morton_order(positions[start:stop]) for start, stop in zip(starts[:-1], starts[1:], strict=True)]
    return np.concatenate(parts)


def _groups_of(about: Mapping[str, Value], n: int) -> tuple[int, ...]:
    data = about.get("groups", b"")
    if not isinstance(data, bytes) or len(data) % 4:
        raise StreamError("groups of Gaussians that no encoder writes: the file is damaged")
    groups = tuple(np.frombuffer(data, "<u4").tolist())
    if groups and (sum(groups) != n or min(groups) < 1):
        raise StreamError(f"groups of {sum(groups)} Gaussians; expected {n}: the file is damaged")
    return groups
