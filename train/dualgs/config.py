"""Settings of a fit, as frozen dataclasses that a recipe (train/recipes/dualgs/*.yaml) fills.

Defaults are those of the paper and its released trainer. Lengths are in units of the scene, where the subject lies in
the cube of +-1.15. Learning rates of positions are multiplied by the extent of the cameras, as in 3D Gaussian
splatting.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ...errors import UsageError
from ..settings import fill

__all__ = ["Coarse", "Densify", "Fine", "Rates", "Recipe", "Static", "recipe_of"]

Start = Literal["cube", "hull"]
T = TypeVar("T")


@dataclass(frozen=True)
class Rates:
    """Adam's learning rates. Those of positions go from the first to the last value, linearly in their logarithm."""

    positions: float = 1.6e-4
    positions_last: float = 1.6e-6
    rotations: float = 1e-3
    scales: float = 5e-3
    opacities: float = 0.025
    dc: float = 2.5e-3
    rest: float = 1.25e-4


@dataclass(frozen=True)
class Densify:
    """Schedule of cloning, splitting, pruning and of the reset of opacities.

    start, stop, every: iterations. gradient: of the loss by a mean in the picture, whose sides go from -1 to 1; above
    it a Gaussian is cloned, or split if its largest scale is above `dense` of the extent. opacity: below it one is
    pruned. large: of the extent, and screen: radius in pixels, above which one is pruned, after the first reset of
    opacities at iteration `reset`, which comes again as often. most: Gaussians at the end; those with the largest
    gradients are chosen. growth: the part of the Gaussians that may be added at a time. fade_at: an iteration with one
    more reset of opacities, 0 for none.
    """

    start: int = 500
    stop: int = 15_000
    every: int = 150
    gradient: float = 2e-4
    dense: float = 0.01
    opacity: float = 0.1
    large: float = 0.1
    screen: float = 20.0
    reset: int = 4000
    most: int = 1_000_000
    growth: float = 1.0
    fade_at: int = 500


@dataclass(frozen=True)
class Static:
    """The fit of one set of Gaussians to frame 0.

    degree_every: iterations until the spherical harmonics get one degree more.
    """

    iterations: int = 30_000
    densify: Densify = field(default_factory=Densify)
    rates: Rates = field(default_factory=Rates)
    degree_every: int = 1000


@dataclass(frozen=True)
class Coarse:
    """The tracking of joints from one frame to the next. 0 iterations leave it out.

    The released trainer lets rates of positions fall by 100 in 30 000 iterations, so by 10 in the 15 000 of a frame.
    rigidity: weight of E_rigid. momentum: the part of the last step that the joints are advanced by before.
    """

    iterations: int = 15_000
    rates: Rates = field(default_factory=lambda: Rates(positions=3.2e-5, positions_last=3.2e-6))
    rigidity: float = 0.05
    momentum: float = 1.0


@dataclass(frozen=True)
class Fine:
    """The fit of the joints' transforms and the skins' appearance.

    rigidity: weight of E_rigid of the skins. still: weight of the norms of changes of opacity and scale from the last
    frame; steady: of those of the harmonics. since: whether appearance starts from that of frame 0 or the last frame.
    rigid: whether a transform is a rotation and a translation, or twelve free numbers. joints_follow: whether the next
    frame's joints start from the transforms that are fitted here, or from those that were tracked.
    """

    iterations: int = 15_000
    rates: Rates = field(default_factory=lambda: Rates(positions_last=1.6e-5, scales=5e-4, opacities=2.5e-3, dc=2.5e-4))
    rigidity: float = 1e-3
    still: float = 3e-8
    steady: float = 1e-5
    since: Literal["first", "last"] = "first"
    rigid: bool = False
    joints_follow: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that a fit needs besides the capture.

    start: "cube", random points in the cube of +-cube, or "hull", those of them that lie in the visual hull; points:
    how many. joints: how many are kept at iteration `choose_at` of the first fit, by `choose`: "farthest" points, that
    many, or "every", one of every floor(n / joints), as released. isotropy, isotropy_ratio, size: E_iso and E_size.
    degree: of the spherical harmonics. length: l of the kernel; 0 for length_factor times the mean distance of
    neighbouring joints. ssim: weight of 1 - SSIM, 1 - ssim that of L1. collapse: decibels that the PSNR of a frame may
    fall below that of the frame before it; if it falls more, the fit ends with an error. looks: views that it is taken
    from.
    """

    seed: int = 1
    degree: int = 3
    start: Start = "cube"
    points: int = 100_000
    cube: float = 1.15
    joints: int = 15_000
    choose: Literal["farthest", "every"] = "every"
    choose_at: int = 15_000
    first: Static = field(default_factory=Static)
    skins: Static = field(default_factory=lambda: Static(densify=Densify(opacity=0.015)))
    coarse: Coarse = field(default_factory=Coarse)
    fine: Fine = field(default_factory=Fine)
    isotropy: float = 0.002
    isotropy_ratio: float = 4.0
    size: float = 1.0
    neighbours: int = 8
    length: float = 0.02
    length_factor: float = 1.5
    ssim: float = 0.2
    collapse: float = 8.0
    looks: int = 8

    def __post_init__(self) -> None:
        """Raises ValueError for what no fit can have."""
        if not 0 <= self.degree <= 3:
            raise ValueError(f"degree {self.degree}: expected 0 to 3")
        if self.start not in ("cube", "hull"):
            raise ValueError(f"start {self.start!r}: expected cube or hull")
        if self.choose not in ("farthest", "every"):
            raise ValueError(f"choose {self.choose!r}: expected farthest or every")
        if self.neighbours < 1 or self.joints <= self.neighbours:
            raise ValueError(f"joints {self.joints}: expected more than neighbours, {self.neighbours}")
        if self.points < self.joints:
            raise ValueError(f"points {self.points}: expected at least as many as joints, {self.joints}")


def recipe_of(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Fills a recipe from nested settings. UsageError for unknown names and for values of another type."""
    return _filled(Recipe, Recipe(), values, where)


def _filled(kind: type[T], default: T, values: Mapping[str, Any], where: str) -> T:
    """Fills a dataclass over a default, part by part: what isn't named keeps the default's value, not the class's."""
    if not isinstance(values, Mapping):
        return fill(kind, values, where)  # says what is wrong
    given: dict[str, Any] = {f.name: getattr(default, f.name) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        part = given.get(name)
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            given[name] = _filled(type(part), part, value, f"{where}: {name}")
        else:
            given[name] = _typed(part, value, f"{where}: {name}") if name in given else value
    return fill(kind, given, where)


def _typed(default: Any, value: Any, where: str) -> Any:
    """Checks that a value is of the default's type, and a number finite and not below 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, float) and number:
        value = float(value)
    if type(value) is not type(default) or (number and not (math.isfinite(value) and value >= 0)):
        kind = {bool: "true or false", int: "a whole number, 0 or more", float: "a number, 0 or more", str: "a word"}
        raise UsageError(f"{where}: expected {kind[type(default)]}, not {value!r:.80}")
    return value
