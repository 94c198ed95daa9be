"""Scenes as bytes: the integer table of a file, or of a grid within error bounds, in an order that means nothing.

`entropy/mixing/splats.py` sorts the rows and codes positions and columns. Here are the names and bits of columns, the
groups and the detail of a table, which go into the metadata of a file, and the places of rows whose positions are
relative to a chunk (compressed PLY).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...container import Value
from ...entropy.mixing import splats
from ...errors import StreamError
from ...media.gaussians.values import Column, Table

__all__ = ["decode_table", "encode_table"]

_MOST_COLUMNS = 128
_SIGN = np.int32(-(1 << 31))
_PLACE_BITS = 20  # of the places of rows in chunks, along the longest side of the scene
_BOUNDS = 6  # of a chunk: the least and the largest of x, y and z


def encode_table(table: Table) -> tuple[bytes, dict[str, Value], NDArray[np.int64]]:
    """The stream of a table; what a decoder has to know of it, as plain values; and the order of rows in the stream.

    The first column holds positions; the others may have any roles.
    """
    positions, layout = np.ascontiguousarray(table.columns[0].values), _layout(table.columns[1:])
    parts = [_rising(column.values, column.bits) for column in table.columns[1:]]
    columns = np.concatenate(parts, 1) if parts else np.zeros((len(positions), 0), np.int32)
    places = _places(table.form, table.detail, table.groups)
    data = splats.encode(positions, columns, layout, table.groups, places)
    order = splats.sorted_rows(positions, columns, table.groups)
    about: dict[str, Value] = {"form": table.form}
    about |= {"groups": np.array(table.groups, "<u4").tobytes()} if table.groups else {}
    about["columns"] = tuple(f"{c.role}:{','.join(map(str, c.bits))}" for c in table.columns)
    about |= {f"d.{key}": value for key, value in table.detail.items()}
    return data, about, order


def decode_table(data: bytes, about: Mapping[str, Value], n: int) -> Table:
    """The table of a stream of n rows. StreamError for a damaged one."""
    form = about.get("form")
    roles = _roles(about.get("columns"))
    if not isinstance(form, str):
        raise StreamError("a table without a form: the file is damaged")
    groups = _groups_of(about, n)
    detail = {key[2:]: value for key, value in about.items() if key.startswith("d.")}
    empty = [Column(role, np.zeros((0, len(bits)), np.int32), bits) for role, bits in roles]
    positions, values = splats.decode(data, n, _layout(empty[1:]), groups, _places(form, detail, groups))
    columns, at = [Column(roles[0][0], positions, roles[0][1])], 0
    for role, bits in roles[1:]:
        part = np.ascontiguousarray(values[:, at : at + len(bits)])
        columns.append(Column(role, _rising(part, bits), bits))
        at += len(bits)
    return Table(form, tuple(columns), groups, detail)


def _layout(columns: Sequence[Column]) -> splats.Layout:
    pairs = [(column.role, bits) for column in columns for bits in column.bits]
    return splats.Layout(tuple(role for role, _ in pairs), tuple(bits for _, bits in pairs))


def _rising(values: NDArray[np.int32], bits: tuple[int, ...]) -> NDArray[np.int32]:
    """The values of a column as the coder takes them, and back: those of 32 bits rise without a sign."""
    return values ^ _SIGN if bits[0] == 32 else values


def _roles(specs: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The roles and bits of columns. StreamError for what no encoder writes."""
    if not isinstance(specs, tuple) or not all(isinstance(spec, str) for spec in specs):
        raise StreamError("a table without its columns: the file is damaged")
    roles = []
    for spec in specs:
        role, _, words = spec.partition(":")
        bits = tuple(int(word) if word.isdecimal() and len(word) < 3 else 0 for word in words.split(","))
        if not all(1 <= n <= 32 for n in bits) or (32 in bits and set(bits) != {32}):
            raise StreamError(f"a column {spec[:40]!r}: the file is damaged")
        roles.append((role, bits))
    if not roles or len(roles[0][1]) != 3 or sum(len(bits) for _, bits in roles) > _MOST_COLUMNS:
        raise StreamError("a table without positions, or with too many columns: the file is damaged")
    return roles


def _groups_of(about: Mapping[str, Value], n: int) -> tuple[int, ...]:
    data = about.get("groups", b"")
    if not isinstance(data, bytes) or len(data) % 4:
        raise StreamError("groups of Gaussians that no encoder writes: the file is damaged")
    groups = tuple(np.frombuffer(data, "<u4").tolist())
    if groups and (sum(groups) != n or min(groups) < 1):
        raise StreamError(f"groups of {sum(groups)} Gaussians; expected {n}: the file is damaged")
    return groups


def _places(form: str, detail: Mapping[str, Value], groups: tuple[int, ...]) -> splats.Places | None:
    """A function from positions in chunks to places in the scene; None where positions are in the scene already."""
    bounds, each = detail.get("bounds"), detail.get("bounds_each")
    if form != "compressed-ply" or not isinstance(bounds, bytes) or type(each) is not int or each < _BOUNDS:
        return None
    if len(bounds) != 4 * each * len(groups) or not groups:
        return None
    boxes = np.frombuffer(bounds, "<f4").reshape(len(groups), each)[:, :_BOUNDS].astype(np.float64)
    boxes = np.clip(np.nan_to_num(boxes, nan=0.0), -1e9, 1e9)
    low, high = boxes[:, :3], np.maximum(boxes[:, :3], boxes[:, 3:])
    unit = max(float((high.max(0) - low.min(0)).max()), 1e-12) / (1 << _PLACE_BITS)
    owner = np.repeat(np.arange(len(groups)), groups)

    def places(positions: NDArray[np.int32]) -> NDArray[np.int32]:
        share = positions / np.array([2047.0, 1023.0, 2047.0])
        whole = low[owner] + (high - low)[owner] * share
        return np.rint((whole - low.min(0)) / unit).astype(np.int32)

    return places
