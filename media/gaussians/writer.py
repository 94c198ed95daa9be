"""Writing Gaussians: 3D Gaussian splatting's PLY, .splat and SPZ, and the quantised forms from their own integers.

    write(gaussians, ".spz")            # bytes; `losses` says in words what the file won't hold
    write_table(table)                  # the file that the integers came from, in the order of the table

May import the forms, container and errors.
"""

from __future__ import annotations

import numpy as np

from ...errors import MediaError
from .. import GAUSSIAN_WRITES
from ..notes import Note
from . import ply, splat, spz
from .forms import FORMS, check
from .values import Gaussians, Table

__all__ = ["losses", "suffix_of", "write", "write_table"]

_SUFFIXES = {"ply": ".ply", "compressed-ply": ".compressed.ply", "splat": ".splat", "spz": ".spz", "sog": ".sog"}
_FLOATS = ("positions", "scales", "rotations", "opacities", "harmonics")


def write(gaussians: Gaussians, suffix: str) -> bytes:
    """The file of a suffix of GAUSSIAN_WRITES that holds these Gaussians. MediaError if it can't hold them."""
    form = GAUSSIAN_WRITES.get(suffix.lower())
    if form == "ply":
        return ply.write(gaussians)
    if form == "splat":
        return splat.write(splat.quantise(gaussians))
    if form == "spz":
        return spz.write(spz.quantise(gaussians))
    raise MediaError(f"Gaussians can't be written as {suffix!r}; expected one of {', '.join(GAUSSIAN_WRITES)}")


def write_table(table: Table) -> bytes:
    """The file of a table, in the form that it came from: the same integers. MediaError for one that isn't written."""
    check(table)
    to_bytes = FORMS[table.form].write
    if to_bytes is None:
        raise MediaError(f"files of the form {table.form} aren't written: write .ply, which keeps all values")
    return to_bytes(table)


def suffix_of(form: str) -> str:
    """The usual suffix of the files of a form."""
    return _SUFFIXES[form]


def losses(gaussians: Gaussians, suffix: str) -> tuple[Note, ...]:
    """Notes about what a file of that suffix doesn't keep of these Gaussians: none for PLY, which keeps all."""
    form = GAUSSIAN_WRITES.get(suffix.lower())
    notes = []
    if form == "ply" and gaussians.degree > 3:
        notes.append(Note("layout", "harmonics of degree 4, which few viewers of PLY know, are written"))
    if form == "splat":
        notes.append(Note("depth", "rotations, colours and opacities have 8 bits in a .splat file"))
        if gaussians.degree:
            notes.append(
                Note("colour", "a .splat file has no harmonics above degree 0: colours don't change with views")
            )
    if form == "spz":
        notes.append(Note("depth", "SPZ rounds: positions to 12 bits behind the point, most else to 8 bits"))
    if form in ("splat", "spz") and not all(np.isfinite(getattr(gaussians, name)).all() for name in _FLOATS):
        notes.append(Note("values", "values that aren't finite are clipped"))
    return tuple(notes)
