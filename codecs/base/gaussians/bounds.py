"""Error bounds of the attributes of Gaussians: how far a decoded value may be from the one that was given.

A quality stands for a bound of each attribute; a bound that is named takes its place. Bounds are in units that people
have: scene units, parts of a scale, degrees, and shares of the range of opacity and colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from ....errors import UsageError

__all__ = ["ATTRIBUTES", "Bounds", "named_bounds"]

ATTRIBUTES = ("position", "scale", "rotation", "opacity", "colour", "harmonics")


@dataclass(frozen=True)
class Bounds:
    """The largest errors of a decoded Gaussian.

    position: of each coordinate, in scene units. scale: of a scale, as a part of it (0.02 is 2 %). rotation: of each
    component of the unit quaternion. opacity: of the opacity, 0 to 1. colour: of the colour of degree 0, where 0 to 1
    is the range of a picture. harmonics: of a coefficient of degree 1 and above.
    """

    position: float
    scale: float
    rotation: float
    opacity: float
    colour: float
    harmonics: float

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"an error bound of {value} for {item.name}: expected a finite number above 0")

    @staticmethod
    def of_quality(quality: float, extent: float) -> Bounds:
        """The bounds of a quality, 1 to 100: each halves within 12 points.

        extent: the size of the scene, the median distance of a Gaussian from the middle one, in scene units.
        """
        by = 2.0 ** ((60.0 - quality) / 12.0)
        return Bounds(
            position=max(extent, 1e-6) * 2.0**-10.5 * by,
            scale=min(0.5, 0.05 * by),
            rotation=min(0.25, 0.012 * by),
            opacity=min(0.2, 0.012 * by),
            colour=min(0.25, 0.01 * by),
            harmonics=min(0.5, 0.04 * by),
        )

    def changed(self, named: Iterable[tuple[str, float]]) -> Bounds:
        """The bounds with those that are named, by attribute, in place of the others."""
        return replace(self, **dict(named))


def named_bounds(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The bounds that `max_error` names, by attribute. UsageError for one that names none, or no attribute."""
    bounds: dict[str, float] = {}
    for path, value in pairs:
        name = path.strip("/")
        if name not in ATTRIBUTES:
            words = f"no attribute is called {name!r}" if name else "an attribute has to be named"
            raise UsageError(f"max_error {value:g}: {words}, as position={value:g}; there are {', '.join(ATTRIBUTES)}")
        bounds[name] = value
    return bounds
