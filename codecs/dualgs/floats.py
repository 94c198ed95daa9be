"""Gaussians as they are, bit by bit: each float32 as a whole number of the same order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError
from ...media.gaussians.values import Column, Gaussians, Table, coefficients_of

__all__ = ["FORM", "gaussians_of", "table_of"]

FORM = "floats"
_ROLES = ("position", "scale", "rotation", "opacity", "colour", "harmonics")


def ordered(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Whole numbers in the order of floats: the bits of a positive one, the flipped bits of a negative one."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)


def restored(numbers: NDArray[np.int32]) -> NDArray[np.float32]:
    """The inverse of `ordered`."""
    bits = np.where(numbers < 0, numbers ^ np.int32(0x7FFFFFFF), numbers).astype(np.int32)
    return bits.view(np.float32)


def table_of(gaussians: Gaussians) -> Table:
    """The table of all floats of Gaussians."""
    n = len(gaussians)
    parts = (
        gaussians.positions,
        gaussians.scales,
        gaussians.rotations,
        gaussians.opacities[:, None],
        gaussians.harmonics[:, 0],
        gaussians.harmonics[:, 1:].reshape(n, -1),
    )
    pairs = zip(_ROLES, parts, strict=True)
    columns = tuple(Column(role, ordered(part), (32,) * part.shape[1]) for role, part in pairs if part.shape[1])
    return Table(FORM, columns)


def gaussians_of(table: Table) -> Gaussians:
    """The Gaussians of a table of floats. StreamError for one that has other columns."""
    parts = {column.role: restored(column.values) for column in table.columns}
    n = len(table)
    rest = parts.pop("harmonics", np.zeros((n, 0), np.float32))
    widths = {"position": 3, "scale": 3, "rotation": 4, "opacity": 1, "colour": 3}
    n_harmonics, left = divmod(rest.shape[1], 3)
    degrees = [coefficients_of(degree) for degree in range(5)]
    if {role: part.shape[1] for role, part in parts.items()} != widths or left or n_harmonics + 1 not in degrees:
        raise StreamError("a table of floats with other columns: the file is damaged")
    harmonics = np.concatenate([parts["colour"][:, None], rest.reshape(n, n_harmonics, 3)], 1)
    return Gaussians(
        parts["position"], parts["scale"], parts["rotation"], np.ascontiguousarray(parts["opacity"][:, 0]), harmonics
    )
