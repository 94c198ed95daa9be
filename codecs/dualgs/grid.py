"""Attributes of Gaussians as integers: uniform steps within error bounds, and the values that a decoder makes of them.

Positions, logarithms of scales, colours and harmonics have uniform steps. Opacities have uniform steps between 0 and 1,
not of their logits. A rotation is the three smallest components of its unit quaternion, and which one is left out.
What decodes is elementwise float64 arithmetic without library functions that differ between machines; the logits of
opacities come from `decimal`.
"""

from __future__ import annotations

import decimal
import functools
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...container import Value
from ...errors import StreamError, UsageError
from ...media.gaussians.values import DC, Column, Gaussians, Table, coefficients_of
from ..base.gaussians.bounds import Bounds

__all__ = ["FORM", "Grid", "Levels", "unit"]

FORM = "grid"
_MOST_OPACITY = 4095  # levels
_HALF = math.sqrt(0.5)
_MOST = (1 << 30) - 1  # the largest integer of a position
_STEPS = struct.Struct("<4dHB")
_LEAST_BITS, _MOST_BITS = 2, 15  # of a component of a quaternion


@dataclass(frozen=True, eq=False)
class Levels:
    """The integers of Gaussians. position, scale, colour: (N, 3). rotation: (N, 3), of the components that aren't left
    out, in the order w x y z; largest: (N,), the one that is. opacity: (N,). harmonics: (N, K - 1, 3). All int32.
    """

    position: NDArray[np.int32]
    scale: NDArray[np.int32]
    rotation: NDArray[np.int32]
    largest: NDArray[np.int32]
    opacity: NDArray[np.int32]
    colour: NDArray[np.int32]
    harmonics: NDArray[np.int32]


@dataclass(frozen=True)
class Grid:
    """The steps of all attributes.

    position, scale (of the logarithm), colour (of `f_dc`), harmonics: float64 steps. opacity: the level of an opacity
    of 1. bits: of a component of a quaternion, from -sqrt(1/2) to sqrt(1/2).
    """

    position: float
    scale: float
    colour: float
    harmonics: float
    opacity: int
    bits: int

    @property
    def rotation(self) -> float:
        """The step of a component of a quaternion."""
        return _HALF / ((1 << (self.bits - 1)) - 1)

    @staticmethod
    def of_bounds(bounds: Bounds) -> Grid:
        """The widest steps whose rounding keeps the bounds. A rounding of float32 is taken off."""
        inside = 1.0 - 1e-9
        levels = math.ceil(0.5 / bounds.opacity)
        if levels > _MOST_OPACITY:
            least = 0.5 / _MOST_OPACITY
            raise UsageError(f"a bound of {bounds.opacity:g} of the opacity: at least {least:.3g}, or lossless")
        return Grid(
            2.0 * bounds.position * inside,
            2.0 * math.log1p(bounds.scale) * inside,
            2.0 * bounds.colour / DC * inside,
            2.0 * bounds.harmonics * inside,
            max(1, levels),
            min(_MOST_BITS, max(_LEAST_BITS, math.ceil(math.log2(_HALF / (2.0 * bounds.rotation * inside) + 1.0)) + 1)),
        )

    def levels(self, gaussians: Gaussians) -> Levels:
        """The nearest integers of Gaussians, all of whose values have to be finite."""
        largest, rotation = self._rotations(gaussians.rotations)
        return Levels(
            _whole(gaussians.positions, self.position, "positions"),
            _whole(gaussians.scales, self.scale, "scales"),
            rotation,
            largest,
            np.rint(_sigmoid(gaussians.opacities) * self.opacity).astype(np.int32),
            _whole(gaussians.harmonics[:, 0], self.colour, "colours"),
            _whole(gaussians.harmonics[:, 1:], self.harmonics, "harmonics"),
        )

    def _rotations(self, rotations: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        q = unit(rotations.astype(np.float64))
        largest = np.argmax(np.abs(q), axis=1)
        rows = np.arange(len(q))
        q = q * np.where(q[rows, largest] < 0, -1.0, 1.0)[:, None]
        others = q[rows[:, None], _others(largest)]
        return largest.astype(np.int32), np.rint(others / self.rotation).astype(np.int32)

    def gaussians(self, levels: Levels) -> Gaussians:
        """The Gaussians of integers: the same on every machine."""
        n = len(levels.position)
        harmonics = np.empty((n, levels.harmonics.shape[1] + 1, 3), np.float32)
        harmonics[:, 0] = levels.colour * self.colour
        harmonics[:, 1:] = levels.harmonics * self.harmonics
        return Gaussians(
            (levels.position * self.position).astype(np.float32),
            (levels.scale * self.scale).astype(np.float32),
            self.rotations(levels).astype(np.float32),
            self.logits(levels.opacity),
            harmonics,
        )

    def rotations(self, levels: Levels) -> NDArray[np.float64]:
        """The unit quaternions (N, 4), w x y z, of integers. Components that are too large are brought to length 1."""
        c = levels.rotation * self.rotation
        square = (c[:, 0] * c[:, 0] + c[:, 1] * c[:, 1]) + c[:, 2] * c[:, 2]
        q = np.empty((len(c), 4))
        rows = np.arange(len(c))
        q[rows, levels.largest] = np.sqrt(np.maximum(1.0 - square, 0.0))
        q[rows[:, None], _others(levels.largest)] = c
        return unit(q)

    def logits(self, opacity: NDArray[np.int32]) -> NDArray[np.float32]:
        """The logits of levels of opacity: (N,). StreamError for one that there isn't."""
        if len(opacity) and not (int(opacity.min()) >= 0 and int(opacity.max()) <= self.opacity):
            raise StreamError("an opacity beyond its range: the file is damaged")
        return _logits(self.opacity)[opacity]

    # ---- as bytes

    def pack(self) -> bytes:
        """The steps as 35 bytes."""
        return _STEPS.pack(self.position, self.scale, self.colour, self.harmonics, self.opacity, self.bits)

    @staticmethod
    def unpack(data: bytes) -> Grid:
        """The steps in bytes of `pack`. StreamError for what isn't."""
        if len(data) != _STEPS.size:
            raise StreamError(f"steps of {len(data)} bytes; expected {_STEPS.size}: the file is damaged")
        grid = Grid(*_STEPS.unpack(data))
        steps = (grid.position, grid.scale, grid.colour, grid.harmonics)
        fits = 1 <= grid.opacity <= _MOST_OPACITY and _LEAST_BITS <= grid.bits <= _MOST_BITS
        if not all(0.0 < step < 1e30 for step in steps) or not fits:
            raise StreamError("steps that no encoder writes: the file is damaged")
        return grid

    # ---- as a table, for the coder of scenes

    def table(self, levels: Levels) -> Table:
        """The table of integers: all columns but positions begin at 0."""
        columns = [Column("position", levels.position, (31,) * 3)]
        least: dict[str, Value] = {}
        parts: Mapping[str, NDArray[np.int32]] = {
            "scale": levels.scale,
            "rotation": levels.rotation,
            "opacity": levels.opacity[:, None],
            "colour": levels.colour,
            "harmonics": levels.harmonics.reshape(len(levels.harmonics), -1),
        }
        for role, values in parts.items():
            if not values.size:
                continue
            low = -(1 << (self.bits - 1)) if role == "rotation" else int(values.min())
            least[role] = low
            moved = values - np.int32(low)
            bits = (max(1, int(moved.max()).bit_length()),) * values.shape[1]
            if role == "rotation":
                moved = np.concatenate([levels.largest[:, None], moved], axis=1)
                bits = (2, *(self.bits,) * 3)
            columns.append(Column(role, np.ascontiguousarray(moved), bits))
        return Table(FORM, tuple(columns), (), {"steps": self.pack(), **least})

    @staticmethod
    def of_table(table: Table) -> tuple[Grid, Levels]:
        """The grid and the integers of a table. StreamError for one that isn't of this form."""
        steps = table.detail.get("steps")
        if table.form != FORM or not isinstance(steps, bytes):
            raise StreamError(f"a table of the form {table.form!r}: the file is damaged")
        grid, parts = Grid.unpack(steps), {}
        for column in table.columns[1:]:
            low = table.detail.get(column.role)
            if type(low) is not int or abs(low) > _MOST:
                raise StreamError(f"a table without the least value of {column.role}: the file is damaged")
            parts[column.role] = column.values + np.int32(low)
        position = table.columns[0].values
        n = len(position)
        widths = {"scale": 3, "rotation": 4, "opacity": 1, "colour": 3}
        harmonics = parts.pop("harmonics", np.zeros((n, 0), np.int32))
        if {role: values.shape[1] for role, values in parts.items()} != widths or harmonics.shape[1] % 3:
            raise StreamError("a table without some attribute: the file is damaged")
        largest = table.column("rotation").values[:, 0]
        rotation, opacity = np.ascontiguousarray(parts["rotation"][:, 1:]), parts["opacity"][:, 0]
        if n and not 0 <= int(largest.min()) <= int(largest.max()) <= 3:
            raise StreamError("a component of a quaternion beyond the fourth: the file is damaged")
        harmonics = harmonics.reshape(n, harmonics.shape[1] // 3, 3)
        if harmonics.shape[1] + 1 not in (coefficients_of(degree) for degree in range(5)):
            raise StreamError(f"{harmonics.shape[1]} harmonics: the file is damaged")
        return grid, Levels(position, parts["scale"], rotation, largest, opacity, parts["colour"], harmonics)


def _whole(values: NDArray[np.float32], step: float, what: str) -> NDArray[np.int32]:
    scaled = np.rint(values / step)
    if scaled.size and float(np.abs(scaled).max()) > _MOST:
        raise UsageError(f"{what} up to {float(np.abs(values).max()):g} in steps of {step:g}: give a larger bound")
    return scaled.astype(np.int32)


def unit(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quaternions (N, 4) at length 1, the same on every machine; 1 0 0 0 in place of one without any length."""
    square = (q[:, 0] * q[:, 0] + q[:, 1] * q[:, 1]) + (q[:, 2] * q[:, 2] + q[:, 3] * q[:, 3])
    length = np.sqrt(square)
    empty = ~(length > 0)
    if empty.any():
        q = q.copy()
        q[empty] = (1.0, 0.0, 0.0, 0.0)
        length[empty] = 1.0
    return q / length[:, None]


_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def _others(largest: NDArray[Any]) -> NDArray[Any]:
    """The three components beside each of these: (N, 3)."""
    return _OTHERS[largest]


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(x.astype(np.float64), -60.0, 60.0)))


@functools.lru_cache(maxsize=8)
def _logits(most: int) -> NDArray[np.float32]:
    """The logits of 0, 1 / most, ..., 1. The first and the last are those of a quarter of a level from the ends."""
    with decimal.localcontext(decimal.Context(prec=28)):
        quarters = [1, *range(4, 4 * most, 4), 4 * most - 1]
        return np.array([float((decimal.Decimal(q) / (4 * most - q)).ln()) for q in quarters], np.float32)
