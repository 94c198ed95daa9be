"""PLY files of Gaussians, as 3D Gaussian splatting (Kerbl et al., 2023) and gsplat write them; and headers of any PLY.

A strict parser of the header, for binary files of either byte order and for texts. The properties of a Gaussian may
come in any order, with or without normals; what else a file holds is left out with a note. Writing is in the order of
the original code: x y z, normals of zero, f_dc, f_rest (all of red, then green, then blue), opacity, scale, rot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ..notes import Note
from .exact import float32_of
from .limits import MAX_GAUSSIANS, check_count
from .values import MAX_DEGREE, Gaussians, coefficients_of

__all__ = ["MAX_HEADER", "Element", "Header", "parse_header", "read", "records", "write"]

MAX_HEADER = 1 << 17  # bytes
_MAX_ITEMS = 4096  # elements and properties
_MAX_TEXT = 1 << 27  # bytes of a PLY of text
_SHOWN = 5  # names, in a note
_NAMES = {  # of types: the old names and the new ones
    "i1": ("char", "int8"),
    "u1": ("uchar", "uint8"),
    "i2": ("short", "int16"),
    "u2": ("ushort", "uint16"),
    "i4": ("int", "int32"),
    "u4": ("uint", "uint32"),
    "f4": ("float", "float32"),
    "f8": ("double", "float64"),
}
_TYPES = {name: kind for kind, names in _NAMES.items() for name in names}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_END = re.compile(rb"(?:^|\n)end_header[ \t]*\r?\n")
_NEEDED = (
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_NORMALS = ("nx", "ny", "nz")


@dataclass(frozen=True)
class Element:
    """An element of a header: `count` records of properties, as (name, NumPy type); the type of a list is ""."""

    name: str
    count: int
    properties: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its properties."""
        return tuple(name for name, _ in self.properties)

    @property
    def has_list(self) -> bool:
        """Whether its records differ in length."""
        return any(not kind for _, kind in self.properties)

    def dtype(self, order: str) -> np.dtype[np.void]:
        """The type of its records in a binary file: no padding."""
        return np.dtype([(name, order + kind) for name, kind in self.properties])


@dataclass(frozen=True)
class Header:
    """The header of a PLY file. order: of bytes, "<" or ">", and "" for text. size: bytes that it takes."""

    order: str
    elements: tuple[Element, ...]
    size: int

    def element(self, name: str) -> Element | None:
        """The element of that name; None if there is none."""
        return next((element for element in self.elements if element.name == name), None)


def parse_header(data: bytes) -> Header:
    """The header that a PLY file begins with. MediaError if it is none, or damaged."""
    match = _END.search(data, 0, MAX_HEADER)
    if not re.match(rb"ply[ \t]*\r?\n", data):
        raise MediaError("not a PLY file: it doesn't begin with `ply`")
    if match is None:
        raise MediaError(f"a PLY file without an end of its header (`end_header`) in the first {MAX_HEADER} bytes")
    order, elements, items = None, [], 0
    for line in data[: match.start()].decode("latin-1").splitlines()[1:]:
        words = line.split()
        items += bool(words) and words[0] not in ("comment", "obj_info")
        if items > _MAX_ITEMS:
            raise MediaError(f"a PLY header of more than {_MAX_ITEMS} lines")
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) == 3 and words[1] in _ORDERS and words[2] == "1.0" and order is None:
            order = _ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and words[2].isascii() and words[2].isdigit():
            elements.append((words[1], _count(words[2]), []))
        elif words[0] == "property" and elements and (pair := _property(words)) is not None:
            if any(pair[0] == name for name, _ in elements[-1][2]):
                raise MediaError(f"a PLY header that names the property {pair[0][:40]!r} twice")
            elements[-1][2].append(pair)
        else:
            raise MediaError(f"a PLY header with a line that isn't understood: {line[:60]!r}")
    if order is None:
        raise MediaError("a PLY header without a line like `format binary_little_endian 1.0`")
    return Header(order, tuple(Element(name, n, tuple(held)) for name, n, held in elements), match.end())


def _count(word: str) -> int:
    if len(word) > 18:
        raise MediaError(f"a PLY header with a count of {len(word)} digits")
    return int(word)


def _property(words: list[str]) -> tuple[str, str] | None:
    """The name and type in a line of a header; None if it isn't one."""
    if len(words) == 3 and words[1] in _TYPES:
        return words[2], _TYPES[words[1]]
    if len(words) == 5 and words[1] == "list" and words[2] in _TYPES and words[3] in _TYPES:
        return words[4], ""
    return None


def records(data: bytes, header: Header, name: str) -> NDArray[np.void]:
    """The records of an element, as a structured array. MediaError if the file is cut, or they can't be told apart."""
    start = header.size
    for element in header.elements:
        wanted = element.name == name
        if element.has_list:
            raise MediaError(f"a PLY file with lists in {element.name[:40]!r}, where Gaussians have plain numbers")
        if not header.order:
            if wanted:
                return _of_text(data, start, element)
            raise MediaError(f"a PLY of text with {element.name[:40]!r} before the vertices: write it as binary")
        size = sum(np.dtype(kind).itemsize for _, kind in element.properties)
        if element.count * size > len(data) - start:
            raise MediaError(
                f"a PLY file that is cut: {element.count} records of {size} bytes ({element.name[:40]}) from byte "
                f"{start} on, and the file has {len(data)} bytes"
            )
        if wanted:
            return np.frombuffer(data, element.dtype(header.order), element.count, start)
        start += element.count * size
    raise MediaError(f"a PLY file without the element {name!r}")


def _of_text(data: bytes, start: int, element: Element) -> NDArray[np.void]:
    """The records of an element that is the first one of a PLY of text."""
    n = element.count * len(element.properties)
    if len(data) > _MAX_TEXT:
        raise MediaError(f"a PLY of text of more than {_MAX_TEXT} bytes: write it as binary")
    if n > len(data) - start:
        raise MediaError(f"a PLY file that is cut: {n} numbers can't be in {len(data) - start} bytes")
    words = data[start:].split(maxsplit=n)[:n]
    try:
        if len(words) < n or max(map(len, words), default=0) > 64:
            raise ValueError(f"{len(words)} numbers of {n}")
        table = np.array(words).astype(np.float64).reshape(element.count, len(element.properties))
    except ValueError as error:
        raise MediaError(f"a PLY of text that is cut or damaged ({str(error)[:80]})") from None
    held = np.empty(element.count, element.dtype("<"))
    with np.errstate(invalid="ignore", over="ignore"):
        for index, name in enumerate(element.names):
            held[name] = table[:, index]
    return held


def read(data: bytes) -> tuple[Gaussians, tuple[Note, ...]]:
    """The Gaussians of a PLY file, and notes about what is left out. MediaError for any other PLY."""
    header = parse_header(data)
    vertex = header.element("vertex")
    if vertex is None:
        raise MediaError(f"a PLY file without vertices, but {_listed([e.name for e in header.elements])}")
    names = set(vertex.names)
    if missing := [name for name in _NEEDED if name not in names]:
        kind = "a mesh or a cloud of points" if not names & {"f_dc_0", "rot_0", "opacity"} else "an unknown kind of PLY"
        raise MediaError(
            f"{kind}: its vertices have no {_listed(missing)}; expected the Gaussians of 3D Gaussian splatting "
            "(x, f_dc_0, opacity, scale_0, rot_0, ...)"
        )
    degree = _degree(names)
    rest = [f"f_rest_{index}" for index in range(3 * (coefficients_of(degree) - 1))]
    check_count(vertex.count, 1 if not header.order else 4 * len(_NEEDED), len(data), packed=False)
    held = records(data, header, "vertex")
    n, coefficients = vertex.count, coefficients_of(degree)
    harmonics = np.empty((n, coefficients, 3), np.float32)
    harmonics[:, 0] = _taken(held, ["f_dc_0", "f_dc_1", "f_dc_2"])
    for index, name in enumerate(rest):  # all of red, then green, then blue
        harmonics[:, 1 + index % (coefficients - 1), index // (coefficients - 1)] = _taken(held, [name])[:, 0]
    gaussians = Gaussians(
        _taken(held, ["x", "y", "z"]),
        _taken(held, ["scale_0", "scale_1", "scale_2"]),
        _taken(held, ["rot_0", "rot_1", "rot_2", "rot_3"]),
        _taken(held, ["opacity"])[:, 0],
        harmonics,
    )
    return gaussians, _notes(header, vertex, held, [*_NEEDED, *rest]) + _behind(header, len(data))


def _degree(names: set[str]) -> int:
    """The degree of the harmonics of a PLY file, by its properties f_rest_*."""
    n = sum(name.startswith("f_rest_") for name in names)
    for degree in range(MAX_DEGREE + 1):
        expected = 3 * (coefficients_of(degree) - 1)
        if n == expected and all(f"f_rest_{index}" in names for index in range(expected)):
            return degree
    raise MediaError(f"a PLY file with {n} properties f_rest_*; expected f_rest_0 to 8, 23, 44 or 71, or none")


def _taken(held: NDArray[np.void], names: list[str]) -> NDArray[np.float32]:
    columns = np.empty((len(held), len(names)), np.float32)
    for index, name in enumerate(names):
        columns[:, index] = float32_of(held[name])
    return columns


def _notes(header: Header, vertex: Element, held: NDArray[np.void], taken: list[str]) -> tuple[Note, ...]:
    notes = []
    others = [name for name in vertex.names if name not in taken and name not in _NORMALS]
    if others:
        notes.append(Note("structure", f"other properties of the Gaussians are left out: {_listed(others)}"))
    normals = [name for name in _NORMALS if name in vertex.names]
    with np.errstate(invalid="ignore"):
        has_normals = any(held[name].any() for name in normals)
    if has_normals:
        notes.append(Note("structure", "normals of the Gaussians are left out"))
    if elements := [element.name for element in header.elements if element is not vertex and element.count]:
        notes.append(Note("structure", f"other elements of the PLY file are left out: {_listed(elements)}"))
    if any(kind == "f8" for name, kind in vertex.properties if name in taken) and header.order:
        notes.append(Note("depth", "values of 64 bits are taken as 32 bits"))
    return tuple(notes)


def _behind(header: Header, n_bytes: int) -> tuple[Note, ...]:
    """A note about bytes behind the last record, where a file says by its header alone where that ends."""
    if not header.order or any(element.has_list for element in header.elements):
        return ()
    end = header.size + sum(element.count * element.dtype("<").itemsize for element in header.elements)
    return (Note("structure", f"{n_bytes - end} bytes behind the last record are left out"),) if n_bytes > end else ()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(name[:40] for name in names[:_SHOWN]) or "nothing") + more


# ---- writing


def write(gaussians: Gaussians) -> bytes:
    """The PLY file of Gaussians, in the order of properties that 3D Gaussian splatting writes; no value changes."""
    n, rest = len(gaussians), 3 * (gaussians.harmonics.shape[1] - 1)
    if n > MAX_GAUSSIANS:
        raise MediaError(f"{n} Gaussians; expected at most {MAX_GAUSSIANS}")
    names = [
        *("x", "y", "z", *_NORMALS, "f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{index}" for index in range(rest)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]
    table = np.zeros((n, len(names)), "<f4")
    table[:, :3] = gaussians.positions
    table[:, 6:9] = gaussians.harmonics[:, 0]
    table[:, 9 : 9 + rest] = gaussians.harmonics[:, 1:].transpose(0, 2, 1).reshape(n, rest)
    table[:, 9 + rest] = gaussians.opacities
    table[:, 10 + rest : 13 + rest] = gaussians.scales
    table[:, 13 + rest :] = gaussians.rotations
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {n}"]
    lines += [f"property float {name}" for name in names]
    return "\n".join([*lines, "end_header", ""]).encode("ascii") + table.tobytes()
