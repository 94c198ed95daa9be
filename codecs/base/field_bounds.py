"""Error bounds of fields: of each value, relative or absolute, or of the root mean square of a dataset."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError

__all__ = ["OPTIONS", "Bound", "Limit", "Span", "rms_error", "within_bound", "within_pointwise"]

OPTIONS: Mapping[str, str] = {  # a setting, and the kind of the bound that it stands for
    "max_error": "absolute",
    "rel_error": "relative",
    "pw_rel_error": "pointwise",
    "rmse": "rmse",
}
_SAFE = 1 - 2.0**-50  # a float64 difference can round down to the bound
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Bound:
    """The largest error of a value, or of the root mean square.

    relative: in units of the difference between the dataset's largest and smallest value; otherwise of a value.
    kind: "relative" and "absolute" say the same in words; "pointwise" is in units of the value itself; "rmse" bounds
    the root mean square of a dataset's errors, in units of a value.
    """

    value: float
    relative: bool = True
    kind: str = ""

    def __post_init__(self) -> None:
        if not (self.value > 0 and math.isfinite(self.value)):
            raise UsageError(f"an error bound of {self.value}: expected a number above 0")
        if self.kind not in ("", *OPTIONS.values()):
            raise UsageError(f"a bound of kind {self.kind!r}: expected one of {', '.join(OPTIONS.values())}")
        kind = self.kind or ("relative" if self.relative else "absolute")
        if kind == "pointwise" and self.value >= 1:
            raise UsageError(f"a pointwise bound, pw_rel_error, of {self.value:g}: expected a number below 1")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "relative", kind == "relative")

    @staticmethod
    def of_quality(quality: float) -> Bound:
        """The relative bound of a quality, 1 to 100: 10^-(1 + quality / 25), so 50 is a thousandth of the range."""
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: expected 1 to 100")
        return Bound(10 ** -(1 + quality / 25))

    def absolute(self, low: float, high: float) -> float:
        """The largest error of values from low to high; 0, without loss, if it is relative and they are the same.

        Of other kinds than "relative": the value, whatever it is a bound of.
        """
        return min(2 * (self.value * Span(low, high).half), _LARGEST) if self.relative else self.value


@dataclass(frozen=True)
class Span:
    """The smallest and the largest number of some values; their difference may be more than a float holds."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the difference between them."""
        return self.high / 2 - self.low / 2

    @property
    def top(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Limit:
    """A promise about one dataset. kind: as in `Bound`. value: absolute but for "pointwise"; infinite: nothing."""

    kind: str
    value: float

    def in_words(self) -> str:
        return words_of(self.kind, self.value if math.isfinite(self.value) else None)


def words_of(kind: str, value: float | None) -> str:
    """A promise in words; value: None for none."""
    if value is None:
        return "without a bound"
    if kind == "pointwise":
        return f"each value within {value:.4g} of itself"
    return f"root mean square error within {value:.4g}" if kind == "rmse" else f"within {value:.4g}"


# ---- whether it holds


def within_bound(true: NDArray[Any], decoded: NDArray[Any], bound: float) -> bool:
    """Whether no decoded value is off by more than the bound; infinite: whether all are numbers."""
    from ..layers.interpolation import all_within

    if decoded.shape != true.shape or not np.isfinite(decoded).all():
        return False
    return math.isinf(bound) or all_within(true, decoded, bound)


def within_pointwise(true: NDArray[Any], decoded: NDArray[Any], bound: float) -> NDArray[np.bool_]:
    """Whether |true - decoded| <= bound |true|, safely: both sides are rounded, and both at most by 2^-53."""
    with np.errstate(all="ignore"):
        size = np.abs(true.astype(np.float64))
        difference = np.abs(true.astype(np.float64) - decoded.astype(np.float64))
        allowed = size * bound * _SAFE
        # products below the normal range are rounded by more than that
        return np.isfinite(decoded) & (difference <= np.where(allowed > 2.0**-1000, allowed, 0.0))


def rms_error(true: NDArray[Any], decoded: NDArray[Any]) -> float:
    """The root mean square error, rounded up; infinite for values that aren't numbers."""
    with np.errstate(all="ignore"):
        difference = np.abs(true.astype(np.float64) - decoded.astype(np.float64))
        top = float(difference.max(initial=0.0))
        if top == 0 or not math.isfinite(top):
            return top if top == 0 else math.inf
        return top * math.sqrt(float(np.square(difference / top).mean())) * (1 + 2.0**-30)
