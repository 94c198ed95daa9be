"""The values of the medium: a table of Gaussians, and the integer table of a file whose attributes are quantised.

Conventions are those of 3D Gaussian splatting (Kerbl et al., SIGGRAPH 2023): logarithms of scales, logits of opacity,
quaternions in the order w, x, y, z, and spherical harmonics whose first coefficient is `f_dc` of a PLY file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...container import Value
from ...errors import MediaError

__all__ = ["DC", "MAX_DEGREE", "ROLES", "Column", "Gaussians", "Table", "coefficients_of", "degree_of"]

MAX_DEGREE = 4  # of spherical harmonics; SPZ alone has 4, all else up to 3
DC = 0.28209479177387814  # the harmonic of degree 0: a colour in 0..1 is DC * harmonics[:, 0] + 0.5
ROLES = ("position", "scale", "rotation", "opacity", "colour", "harmonics")


def coefficients_of(degree: int) -> int:
    """The number of spherical harmonics up to a degree, `f_dc` included: 1, 4, 9, 16, 25."""
    return (degree + 1) ** 2


def degree_of(n_coefficients: int) -> int:
    """The degree that has so many spherical harmonics; MediaError if none has."""
    for degree in range(MAX_DEGREE + 1):
        if coefficients_of(degree) == n_coefficients:
            return degree
    raise MediaError(f"{n_coefficients} spherical harmonics a channel; expected 1, 4, 9, 16 or 25")


@dataclass(frozen=True, eq=False)
class Gaussians:
    """The Gaussians of a scene, or of one frame of a sequence, as float32 arrays of N rows.

    positions: (N, 3). scales: (N, 3), natural logarithms. rotations: (N, 4), w x y z, of any length but 0. opacities:
    (N,), logits. harmonics: (N, K, 3), coefficients of each colour channel, `f_dc` first, K = (degree + 1)^2.
    """

    positions: NDArray[np.float32]
    scales: NDArray[np.float32]
    rotations: NDArray[np.float32]
    opacities: NDArray[np.float32]
    harmonics: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.positions)
        shapes = {"positions": (n, 3), "scales": (n, 3), "rotations": (n, 4), "opacities": (n,)}
        for name, shape in shapes.items():
            self._check(name, shape)
        harmonics = self.harmonics
        if harmonics.ndim != 3:
            raise MediaError(f"harmonics of shape {harmonics.shape}; expected (N, K, 3)")
        degree_of(harmonics.shape[1])
        self._check("harmonics", (n, harmonics.shape[1], 3))

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        array = getattr(self, name)
        if array.shape != shape or array.dtype != np.float32:
            raise MediaError(f"{name} of {array.dtype} {array.shape}; expected float32 {shape}")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def degree(self) -> int:
        """The degree of the spherical harmonics, 0 to 4."""
        return degree_of(self.harmonics.shape[1])

    def take(self, order: NDArray[np.integer[Any]]) -> Gaussians:
        """The Gaussians of these indices, in this order."""
        return Gaussians(
            self.positions[order],
            self.scales[order],
            self.rotations[order],
            self.opacities[order],
            self.harmonics[order],
        )


@dataclass(frozen=True, eq=False)
class Column:
    """An attribute of a quantised file as the integers that are in it.

    role: of ROLES, or a name of the format's own. values: (N, c) int32. bits: of each of the c components; values are
    0 to 2^bits - 1, but those of the role "position" may be negative.
    """

    role: str
    values: NDArray[np.int32]
    bits: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """The Gaussians of a file whose attributes are quantised already, as its integers: what lossless coding keeps.

    form: of the file, as "spz". columns: each with N rows; the order of rows within a group means nothing. groups: the
    sizes of groups of consecutive rows that share something in `detail` (the chunks of compressed PLY), () for one
    group. detail: whatever else the file's Gaussians depend on (codebooks, ranges, fractional bits, version, flags).
    `media.gaussians.forms.gaussians_of(table)` gives the float values, the same on every machine.
    """

    form: str
    columns: tuple[Column, ...]
    groups: tuple[int, ...] = ()
    detail: Mapping[str, Value] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns[0].values)

    def column(self, role: str) -> Column:
        """The column of a role. KeyError if the file has none."""
        for column in self.columns:
            if column.role == role:
                return column
        raise KeyError(role)
