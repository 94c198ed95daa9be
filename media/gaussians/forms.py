"""The forms of files of Gaussians: which there are, what a file is, and its values.

    scene = read(data, "scene.spz")     # Scene: of a quantised form its integers, of any other its values
    gaussians_of(scene.table)           # the same float32 on every machine

A quantised form is read into a `Table`, so that it can be coded without any loss; its module says what the columns and
the detail are. May import the values, container, files and errors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from ...container import Value
from ...errors import MediaError
from .. import GAUSSIAN_READS
from ..notes import Note
from ..signatures import START, describe_unknown
from . import compressed_ply, ply, sog, splat, spz
from .layouts import Part, check_columns
from .values import Gaussians, Table

__all__ = ["EXPECTED", "FORMS", "Form", "Scene", "check", "count_of", "form_of", "gaussians_of", "layout_of", "read"]

EXPECTED = "a PLY, compressed PLY, .splat, SPZ or SOG file of Gaussians"  # in errors


class Form(NamedTuple):
    """A quantised form. read: bytes to integers. values: these to Gaussians. write: back to bytes; None if it isn't."""

    read: Callable[[bytes], tuple[Table, tuple[Note, ...]]]
    values: Callable[[Table], Gaussians]
    write: Callable[[Table], bytes] | None


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "compressed-ply": Form(compressed_ply.read, compressed_ply.values, compressed_ply.write),
        "splat": Form(splat.read, splat.values, splat.write),
        "spz": Form(spz.read, spz.values, spz.write),
        "sog": Form(sog.read, sog.values, None),
    }
)


@dataclass(frozen=True, eq=False)
class Scene:
    """The content of a file. form: "ply", or one of FORMS, whose integers `table` has. notes: what was left out."""

    form: str
    gaussians: Gaussians
    table: Table | None = None
    notes: tuple[Note, ...] = ()


def form_of(data: bytes, name: str = "") -> str:
    """The form of a file, by its first bytes, and where these say nothing by its name. MediaError if it is none."""
    if data.startswith((b"ply\n", b"ply\r\n")):
        return "compressed-ply" if compressed_ply.is_compressed(ply.parse_header(data)) else "ply"
    if data.startswith(spz.MAGIC) or spz.count_of(data[:START]) is not None:
        return "spz"
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".splat" or (suffix not in GAUSSIAN_READS and splat.is_plausible(data)):
        return "splat"
    if data.startswith(b"PK\x03\x04"):
        return "sog"
    raise MediaError(describe_unknown(data[:START], name, EXPECTED))


def count_of(start: bytes, n_bytes: int, name: str) -> int | None:
    """The number of Gaussians that a file says it has. None where that can't be seen from its first bytes.

    start: some thousands of them. n_bytes: the length of the whole.
    """
    try:
        if start.startswith(b"ply"):
            vertex = ply.parse_header(start).element("vertex")
            return None if vertex is None else vertex.count
    except MediaError:  # of a longer header, or damaged: who reads it says so
        return None
    count = spz.count_of(start)
    return n_bytes // splat.BYTES if count is None and name.lower().endswith(".splat") else count


def read(data: bytes, name: str = "") -> Scene:
    """The Gaussians of a file. name: of the file, for its suffix and for errors. MediaError if it can't be read."""
    form = form_of(data, name)
    if form == "ply":
        gaussians, notes = ply.read(data)
        return Scene(form, gaussians, None, notes)
    table, notes = FORMS[form].read(data)
    return Scene(form, gaussians_of(table), table, notes)


def layout_of(form: str, detail: Mapping[str, Value], groups: tuple[int, ...] = ()) -> tuple[Part, ...]:
    """The columns that a table of this form, detail and groups has. MediaError for what no file has.

    A decoder makes its columns by it, so that nothing which a hostile file says of them is believed.
    """
    if form == "compressed-ply":
        return compressed_ply.layout(detail, groups)
    if groups:
        raise MediaError(f"{len(groups)} groups of Gaussians of the form {form[:40]}; expected none")
    if form == "splat":
        return splat.layout()
    if form in ("spz", "sog"):
        return (spz if form == "spz" else sog).layout(detail)
    raise MediaError(f"Gaussians of the form {form[:40]!r}; expected one of {', '.join(FORMS)}")


def check(table: Table) -> None:
    """MediaError unless a table is one that a file of its form can have."""
    check_columns(table, layout_of(table.form, table.detail, table.groups))
    if table.groups and sum(table.groups) != len(table):
        raise MediaError(f"groups of {sum(table.groups)} Gaussians; expected {len(table)}")


def gaussians_of(table: Table) -> Gaussians:
    """The values of a table, by the rules of the form that it came from: the same float32 on every machine.

    MediaError for a table that no file of its form can have.
    """
    check(table)
    return FORMS[table.form].values(table)
