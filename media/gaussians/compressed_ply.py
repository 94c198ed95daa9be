"""Compressed PLY, as SuperSplat and gsplat write it: chunks of 256 Gaussians with bounds, and 16 bytes for each.

A table keeps the integers: positions and scales of 11, 10 and 11 bits between the bounds of their chunk, the index of
the largest component of a rotation (w, x, y, z) and the other three, colours and opacities of 8 bits. Harmonics of 8
bits lie in it as in SPZ, the channels of a coefficient beside each other; the file has them channel by channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...container import Value
from ...errors import MediaError
from ..notes import Note
from .exact import float32_of, logit_of_byte
from .layouts import Part, harmonics, integer, payload
from .limits import MAX_GAUSSIANS, check_count
from .ply import Element, Header, parse_header, records
from .values import DC, MAX_DEGREE, Column, Gaussians, Table, coefficients_of, degree_of

__all__ = ["CHUNK", "is_compressed", "layout", "read", "values", "write"]

FORM = "compressed-ply"
CHUNK = 256  # Gaussians; the last one has fewer
_BOUNDS = tuple(f"{end}_{kind}{axis}" for kind in ("", "scale_") for end in ("min", "max") for axis in "xyz")
_COLOURS = tuple(f"{end}_{channel}" for end in ("min", "max") for channel in "rgb")
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_11_10_11 = ((21, 11), (11, 10), (0, 11))  # shift and bits
_10_10_10 = ((30, 2), (20, 10), (10, 10), (0, 10))
_8_8_8_8 = ((24, 8), (16, 8), (8, 8), (0, 8))


def is_compressed(header: Header) -> bool:
    """Whether a PLY file of this header is a compressed one."""
    vertex = header.element("vertex")
    return header.element("chunk") is not None and vertex is not None and _PACKED[0] in vertex.names


def read(data: bytes) -> tuple[Table, tuple[Note, ...]]:
    """The integers of a compressed PLY file, and notes. MediaError for anything else, or a damaged one."""
    header = parse_header(data)
    if not is_compressed(header):
        raise MediaError("not a compressed PLY file: it has no chunks of packed vertices")
    chunk, vertex = _element(header, "chunk"), _element(header, "vertex")
    n, n_chunks = vertex.count, -(-vertex.count // CHUNK)
    check_count(n, 16, len(data), packed=False)
    has_colours = all(name in chunk.names for name in _COLOURS)
    names = (*_BOUNDS, *_COLOURS) if has_colours else _BOUNDS
    _check_types(chunk, names, "f4")
    _check_types(vertex, _PACKED, "u4")
    if chunk.count != n_chunks or header.order == "":
        raise MediaError(f"a compressed PLY file with {chunk.count} chunks; expected {n_chunks} for {n} Gaussians")
    held = records(data, header, "chunk")
    bounds = np.stack([held[name] for name in names], axis=1).astype("<f4")
    packed = records(data, header, "vertex")
    columns = [
        _column("position", packed["packed_position"], _11_10_11),
        _column("rotation", packed["packed_rotation"], _10_10_10),
        _column("scale", packed["packed_scale"], _11_10_11),
        _column("colour", packed["packed_color"], _8_8_8_8[:3]),
        _column("opacity", packed["packed_color"], _8_8_8_8[3:]),
    ]
    degree = 0
    if header.element("sh") is not None:
        degree, harmonics = _harmonics(data, header, n)
        columns += [harmonics] if degree else []
    groups = (CHUNK,) * (n_chunks - 1) + (n - CHUNK * (n_chunks - 1),)
    detail = {"degree": degree, "bounds": bounds.tobytes(), "bounds_each": len(names)}
    return Table(FORM, tuple(columns), groups, detail), _notes(header, chunk, vertex, names)


def _element(header: Header, name: str) -> Element:
    element = header.element(name)
    assert element is not None
    return element


def _check_types(element: Element, names: tuple[str, ...], kind: str) -> None:
    kinds = dict(element.properties)
    if wrong := [name for name in names if kinds.get(name) != kind]:
        raise MediaError(f"a compressed PLY file without {wrong[0]} of type {kind} in its {element.name}")


def _column(role: str, packed: NDArray[np.uint32], fields: tuple[tuple[int, int], ...]) -> Column:
    parts = [(packed.astype(np.int64) >> shift) & ((1 << bits) - 1) for shift, bits in fields]
    return Column(role, np.stack(parts, axis=1).astype(np.int32), tuple(bits for _, bits in fields))


def _harmonics(data: bytes, header: Header, n: int) -> tuple[int, Column]:
    """The degree and the column of harmonics of the element `sh`."""
    element = _element(header, "sh")
    width = len(element.properties)
    names = tuple(f"f_rest_{index}" for index in range(width))
    _check_types(element, names, "u1")
    if element.count != n or width % 3:
        raise MediaError(f"a compressed PLY file with {element.count} x {width} harmonics for {n} Gaussians")
    degree = degree_of(width // 3 + 1)
    held = records(data, header, "sh")
    table = np.stack([held[name] for name in names], axis=1) if width else np.empty((n, 0), np.uint8)
    table = table.reshape(n, 3, width // 3).transpose(0, 2, 1).reshape(n, width)
    return degree, Column("harmonics", table.astype(np.int32), (8,) * width)


def _notes(header: Header, chunk: Element, vertex: Element, names: tuple[str, ...]) -> tuple[Note, ...]:
    others = [e.name for e in header.elements if e.name not in ("chunk", "vertex", "sh")]
    others += [name for name in chunk.names if name not in names]
    others += [name for name in vertex.names if name not in _PACKED]
    if not others:
        return ()
    return (Note("structure", f"other parts of the PLY file are left out: {', '.join(n[:40] for n in others[:5])}"),)


def layout(detail: Mapping[str, Value], groups: tuple[int, ...]) -> tuple[Part, ...]:
    """The columns of a table of this detail and these groups. MediaError for what no compressed PLY file has."""
    each = integer(detail, "bounds_each", len(_BOUNDS), len(_BOUNDS) + len(_COLOURS))
    if each not in (len(_BOUNDS), len(_BOUNDS) + len(_COLOURS)):
        raise MediaError(f"chunks of {each} bounds; expected 12 or 18")
    if not groups or any(size != CHUNK for size in groups[:-1]) or not 1 <= groups[-1] <= CHUNK:
        raise MediaError(f"{len(groups)} chunks that aren't of {CHUNK} Gaussians, the last of up to that")
    if len(payload(detail, "bounds")) != 4 * each * len(groups):
        raise MediaError(f"{len(payload(detail, 'bounds'))} bytes of bounds; expected {4 * each * len(groups)}")
    return (
        Part("position", (11, 10, 11)),
        Part("rotation", (2, 10, 10, 10)),
        Part("scale", (11, 10, 11)),
        Part("colour", (8,) * 3),
        Part("opacity", (8,)),
        *harmonics(integer(detail, "degree", 0, MAX_DEGREE)),
    )


def _chunks_of(table: Table) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The bounds of each chunk, as (chunks, 12 or 18), and the number of each Gaussian's chunk."""
    detail: Mapping[str, Any] = table.detail
    bounds = np.frombuffer(detail["bounds"], "<f4").reshape(len(table.groups), detail["bounds_each"])
    return bounds.astype(np.float32), np.repeat(np.arange(len(table.groups)), table.groups)


def values(table: Table) -> Gaussians:
    """The Gaussians of a table that came from a compressed PLY file."""
    bounds, chunk = _chunks_of(table)
    degree = int(table.detail["degree"])  # type: ignore[arg-type]
    limits = bounds.astype(np.float64)

    def between(role: str, first: int) -> NDArray[np.float64]:
        column = table.column(role)
        t = column.values / ((1 << np.array(column.bits)) - 1)
        low, high = limits[:, first : first + 3][chunk], limits[:, first + 3 : first + 6][chunk]
        return low * (1 - t) + high * t

    harmonics = np.empty((len(table), coefficients_of(degree), 3), np.float32)
    with np.errstate(all="ignore"):
        colour = between("colour", 12) if bounds.shape[1] == 18 else table.column("colour").values / 255
        harmonics[:, 0] = float32_of((colour - 0.5) / DC)
        positions, scales = float32_of(between("position", 0)), float32_of(between("scale", 6))
    if degree:
        held = table.column("harmonics").values
        unit = np.where(held == 0, 0.0, np.where(held == 255, 1.0, (held + 0.5) / 256))
        harmonics[:, 1:] = ((unit - 0.5) * 8).reshape(len(table), -1, 3)
    opacities = logit_of_byte(table.column("opacity").values[:, 0])
    return Gaussians(positions, scales, _quaternions(table.column("rotation").values), opacities, harmonics)


def _quaternions(rotation: NDArray[np.int32]) -> NDArray[np.float32]:
    small = (rotation[:, 1:] / 1023 - 0.5) * (1.0 / (1.4142135623730951 * 0.5))
    squares = (small[:, 0] * small[:, 0] + small[:, 1] * small[:, 1]) + small[:, 2] * small[:, 2]
    wxyz = np.empty((len(rotation), 4), np.float32)
    rows = np.arange(len(rotation))
    for k in range(3):
        wxyz[rows, k + (k >= rotation[:, 0])] = small[:, k]
    wxyz[rows, rotation[:, 0]] = np.sqrt(np.maximum(0.0, 1.0 - squares))
    return wxyz


# ---- writing


def write(table: Table) -> bytes:
    """The compressed PLY file of a table: the same integers and bounds."""
    n, width = len(table), 3 * (coefficients_of(int(table.detail["degree"])) - 1)  # type: ignore[arg-type]
    if n > MAX_GAUSSIANS:
        raise MediaError(f"{n} Gaussians; expected at most {MAX_GAUSSIANS}")
    bounds, _ = _chunks_of(table)
    names = (*_BOUNDS, *_COLOURS)[: bounds.shape[1]]
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {len(bounds)}"]
    lines += [f"property float {name}" for name in names]
    lines += [f"element vertex {n}", *(f"property uint {name}" for name in _PACKED)]
    if width:
        lines += [f"element sh {n}", *(f"property uchar f_rest_{index}" for index in range(width))]
    packed = [
        _joined(table, ("position",), _11_10_11),
        _joined(table, ("rotation",), _10_10_10),
        _joined(table, ("scale",), _11_10_11),
        _joined(table, ("colour", "opacity"), _8_8_8_8),
    ]
    parts = ["\n".join([*lines, "end_header", ""]).encode("ascii"), bounds.astype("<f4").tobytes()]
    parts.append(np.stack(packed, axis=1).astype("<u4").tobytes())
    if width:
        held = table.column("harmonics").values.reshape(n, width // 3, 3).transpose(0, 2, 1)
        parts.append(held.astype(np.uint8).tobytes())
    return b"".join(parts)


def _joined(table: Table, roles: tuple[str, ...], fields: tuple[tuple[int, int], ...]) -> NDArray[np.uint32]:
    parts = np.concatenate([table.column(role).values for role in roles], axis=1).astype(np.uint32)
    total = np.zeros(len(parts), np.uint32)
    for index, (shift, _) in enumerate(fields):
        total |= parts[:, index] << np.uint32(shift)
    return total
