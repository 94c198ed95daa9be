"""The .splat files of antimatter15's viewer: 32 bytes for each Gaussian, no header, no harmonics above degree 0.

Positions and scales are float32 (scales themselves, not their logarithms), colours and opacities 8 bits, rotations four
bytes w, x, y, z around 128. A table keeps the bits of the float32 as integers in the order of the numbers, under the
roles "position_float" and "scale_float"; like positions they may be negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ..notes import Note
from .exact import exp, float32_of, log, logit_of_byte, ordered, sigmoid, unordered
from .layouts import Part
from .limits import MAX_GAUSSIANS, check_count
from .values import DC, Column, Gaussians, Table

__all__ = ["BYTES", "is_plausible", "layout", "quantise", "read", "values", "write"]

FORM = "splat"
BYTES = 32  # of a Gaussian
_LEAST = 2.0**-126  # a scale below it, or none, is taken as this
_RECORD = np.dtype([("position", "<i4", 3), ("scale", "<i4", 3), ("colour", "u1", 4), ("rotation", "u1", 4)])


def is_plausible(data: bytes) -> bool:
    """Whether bytes without a name can be such a file: positions that are finite, and scales above 0."""
    if not data or len(data) % BYTES:
        return False
    held = np.frombuffer(data, "<f4").reshape(-1, BYTES // 4)
    return bool(np.isfinite(held[:, :6]).all() and (held[:, 3:6] > 0).all() and np.abs(held[:, :6]).max() < 1e9)


def read(data: bytes) -> tuple[Table, tuple[Note, ...]]:
    """The integers of a .splat file, and no notes. MediaError if its length can't be right."""
    n = len(data) // BYTES
    if len(data) % BYTES:
        raise MediaError(f"a .splat file of {len(data)} bytes; expected a multiple of {BYTES}: is it cut?")
    check_count(n, BYTES, len(data), packed=False)
    held = np.frombuffer(data, _RECORD)
    columns = (
        Column("position_float", ordered(held["position"]), (32,) * 3),
        Column("scale_float", ordered(held["scale"]), (32,) * 3),
        Column("colour", held["colour"][:, :3].astype(np.int32), (8,) * 3),
        Column("opacity", held["colour"][:, 3:].astype(np.int32), (8,)),
        Column("rotation", held["rotation"].astype(np.int32), (8,) * 4),
    )
    return Table(FORM, columns, detail={"degree": 0}), ()


def layout() -> tuple[Part, ...]:
    """The columns of a table."""
    return (
        Part("position_float", (32,) * 3, signed=True),
        Part("scale_float", (32,) * 3, signed=True),
        Part("colour", (8,) * 3),
        Part("opacity", (8,)),
        Part("rotation", (8,) * 4),
    )


def values(table: Table) -> Gaussians:
    """The Gaussians of a table that came from a .splat file. A rotation of length 0 is none."""
    with np.errstate(invalid="ignore"):
        scales = np.fmax(_floats(table.column("scale_float").values).astype(np.float64), _LEAST)
    rotation = (table.column("rotation").values - 128) / 128
    squares = (rotation[:, 0] ** 2 + rotation[:, 1] ** 2) + (rotation[:, 2] ** 2 + rotation[:, 3] ** 2)
    rotation[squares == 0] = (1, 0, 0, 0)
    rotation /= np.sqrt(np.where(squares == 0, 1, squares))[:, None]
    colour = (table.column("colour").values / 255 - 0.5) / DC
    return Gaussians(
        _floats(table.column("position_float").values),
        float32_of(log(scales)),
        float32_of(rotation),
        logit_of_byte(table.column("opacity").values[:, 0]),
        float32_of(colour)[:, None, :],
    )


def _floats(values: NDArray[np.int32]) -> NDArray[np.float32]:
    return unordered(values, np.int32).view(np.float32)


def quantise(gaussians: Gaussians) -> Table:
    """The integers of a .splat file that holds these Gaussians: rounded and clipped, without higher harmonics."""
    rotation = gaussians.rotations.astype(np.float64)
    squares = (rotation[:, 0] ** 2 + rotation[:, 1] ** 2) + (rotation[:, 2] ** 2 + rotation[:, 3] ** 2)
    with np.errstate(all="ignore"):
        rotation = np.where(squares[:, None] > 0, rotation / np.sqrt(squares)[:, None], (1.0, 0.0, 0.0, 0.0))
    colour = np.nan_to_num(gaussians.harmonics[:, 0].astype(np.float64)) * DC + 0.5
    opacity = sigmoid(np.nan_to_num(gaussians.opacities))
    scales = float32_of(exp(np.clip(np.nan_to_num(gaussians.scales), -87, 88)))
    columns = (
        Column("position_float", ordered(np.ascontiguousarray(gaussians.positions).view(np.int32)), (32,) * 3),
        Column("scale_float", ordered(scales.view(np.int32)), (32,) * 3),
        Column("colour", _byte(colour * 255), (8,) * 3),
        Column("opacity", _byte(opacity * 255)[:, None], (8,)),
        Column("rotation", _byte(rotation * 128 + 128), (8,) * 4),
    )
    return Table(FORM, columns, detail={"degree": 0})


def _byte(x: NDArray[Any]) -> NDArray[np.int32]:
    return np.floor(np.clip(x, 0, 255) + 0.5).astype(np.int32)


def write(table: Table) -> bytes:
    """The .splat file of a table: the same bytes as those that were read, in the order of the table."""
    n = len(table)
    if n > MAX_GAUSSIANS:
        raise MediaError(f"{n} Gaussians; expected at most {MAX_GAUSSIANS}")
    held = np.empty(n, _RECORD)
    held["position"] = unordered(table.column("position_float").values, np.int32)
    held["scale"] = unordered(table.column("scale_float").values, np.int32)
    held["colour"][:, :3] = table.column("colour").values
    held["colour"][:, 3:] = table.column("opacity").values
    held["rotation"] = table.column("rotation").values
    return held.tobytes()
