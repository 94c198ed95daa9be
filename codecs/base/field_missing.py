"""Missing values of fields: those that a file declares, in whatever way, and those that only stand out.

Values that are taken as missing come back bit by bit, and aren't in the range that a relative bound refers to. So to
take too many is safe, and costs bytes; to take too few makes the bound of all others too large.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...native import interpolation as kernels
from .field_bounds import Span

__all__ = ["DEFAULT_FILL", "Extent", "Missing", "Stray", "declared_missing", "extent_of", "stray_values"]

DEFAULT_FILL = 9.969209968386869e36  # NetCDF's, of float and double: what was never written
_DECLARE = frozenset(  # attributes in any case and without underscores
    [
        "fillvalue",
        "missingvalue",
        "missingdata",
        "missingdatavalue",
        "missing",
        "codemissingvalue",
        "nodata",
        "nodatavalue",
        "novalue",
        "novaluedata",
        "badvalue",
        "invalidvalue",
        "undef",
        "undefvalue",
        "undefinedvalue",
    ]
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")
_MOST_VALUES = 64  # that one attribute declares
_USUAL = tuple(  # what programs write where there is nothing
    sign * value
    for sign in (-1.0, 1.0)
    for value in (
        *(99, 999, 9999, 99999, 999999, 9999999, 9.99, 99.9, 999.9, 9999.9, 99.99, 999.99, 9999.99, 8888, 32767, 32768),
        *(65535, 2147483647, 2147483648, 1e10, 1e15, 1e20, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 9.96921e36),
        *(9.999e20, 9.99e20, 9.999e22, 9.99e8, 1.267651e30, 2.0**100, 1.70141e38, 1e99, 1e100, 1e300),
        *(float(np.finfo(np.float32).max), float(np.finfo(np.float64).max), 8.99999987e33, 1.175494351e-38),
    )
)
_FEW, _ROUNDS = 3, 12  # times that a stray value occurs, at least; stray values of a dataset, at most
_NEAR = 0.05  # of the range of the others: a usual value that is further away is one of these


@dataclass(frozen=True)
class Missing:
    """The values of a dataset that stand for nothing: some values, and whatever is below or above what is valid."""

    values: tuple[float, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    def mask(self, block: NDArray[Any]) -> NDArray[np.bool_]:
        """The places where a block holds no number: infinities, NaN and what stands for nothing."""
        mask = ~np.isfinite(block)
        with np.errstate(all="ignore"):
            for value in self.values:
                own = block.dtype.type(value)
                if np.isfinite(own):
                    mask |= block == own
            if math.isfinite(self.low):
                mask |= block < block.dtype.type(self.low)
            if math.isfinite(self.high):
                mask |= block > block.dtype.type(self.high)
        return mask


def declared_missing(item: Any) -> Missing:
    """The missing values that an HDF5 dataset declares.

    By attributes of its own or of the groups around it (`_FillValue`, `missing_value` and others; numbers, or text that
    is one), by `valid_min`, `valid_max` and `valid_range`, by its fill value, which parts hold that were never written,
    and NetCDF's default fill value.
    """
    values, low, high = [DEFAULT_FILL], -math.inf, math.inf
    for holder in (item, *_groups_around(item)):
        for name in _names_of(holder):
            key = name.lower().replace("_", "")
            if key in _DECLARE:
                values += numbers_of(holder, name)
            elif holder is item and key in ("validmin", "validmax", "validrange"):
                given = sorted(numbers_of(holder, name))
                if given and key != "validmax" and (key == "validmin" or len(given) == 2):
                    low = max(low, given[0])
                if given and key != "validmin" and (key == "validmax" or len(given) == 2):
                    high = min(high, given[-1])
    try:
        if item.id.get_create_plist().fill_value_defined() == 2:  # by whoever made the file
            values.append(float(item.fillvalue))
    except (OSError, RuntimeError, TypeError, ValueError):
        pass
    return Missing(tuple(dict.fromkeys(value for value in values if math.isfinite(value))), low, high)


def _groups_around(item: Any) -> list[Any]:
    """The groups that a dataset is in, from the nearest to the root."""
    path, out = str(item.name), []
    while path not in ("", "/"):
        path = path.rpartition("/")[0]
        out.append(item.file[path or "/"])
    return out


def _names_of(holder: Any) -> list[str]:
    try:
        return [name if isinstance(name, str) else name.decode("utf-8", "replace") for name in holder.attrs]
    except (OSError, RuntimeError, UnicodeError):
        return []


def numbers_of(holder: Any, name: str) -> list[float]:
    """The numbers in an attribute: of any type, or texts that are numbers; [] where there are none."""
    try:
        given = np.asarray(holder.attrs[name])
    except Exception:  # whatever h5py raises for a type that it doesn't know: no number then
        return []
    if given.dtype.kind in "iufb":
        return [float(value) for value in given.ravel()[:_MOST_VALUES]]
    out: list[float] = []
    for word in given.ravel()[:_MOST_VALUES].tolist():
        text = word.decode("utf-8", "replace") if isinstance(word, bytes) else word
        if isinstance(text, str):
            parts = re.split(r"[\s,;]+", text.strip().strip("[]()"))
            out += [float(part.lower().replace("d", "e")) for part in parts if _NUMBER.fullmatch(part)]
    return out


# ---- what stands out


@dataclass(frozen=True)
class Extent:
    """The valid values of a dataset at their two ends: least and greatest, how often, and those next to them."""

    low: float = math.inf
    high: float = -math.inf
    n_low: int = 0
    n_high: int = 0
    above_low: float = math.inf
    below_high: float = -math.inf
    count: int = 0

    @property
    def span(self) -> Span:
        return Span(self.low, self.high) if self.count else Span(0.0, 0.0)

    def joined(self, other: Extent) -> Extent:
        if not other.count or not self.count:
            return self if self.count else other
        ends = (self, other)
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Extent(
            low,
            high,
            sum(part.n_low for part in ends if part.low == low),
            sum(part.n_high for part in ends if part.high == high),
            min((v for part in ends for v in (part.low, part.above_low) if v > low), default=math.inf),
            max((v for part in ends for v in (part.high, part.below_high) if v < high), default=-math.inf),
            self.count + other.count,
        )


def extent_of(valid: NDArray[Any]) -> Extent:
    """The extent of values without holes."""
    if not valid.size:
        return Extent()
    low, high = valid.min(), valid.max()
    is_low, is_high = valid == low, valid == high
    n_low, n_high = int(is_low.sum()), int(is_high.sum())
    above_low = float(valid[~is_low].min()) if n_low < valid.size else math.inf
    below_high = float(valid[~is_high].max()) if n_high < valid.size else -math.inf
    return Extent(float(low), float(high), n_low, n_high, above_low, below_high, int(valid.size))


def _extent_without(block: NDArray[Any], holes: NDArray[np.bool_]) -> Extent:
    """The extent of a block without its holes."""
    floats = block.dtype.isnative and block.dtype in (np.float32, np.float64)
    if not (floats and block.flags.c_contiguous and native.library() is not None):
        return extent_of(block[~holes])
    (low, high, above_low, below_high), (n_low, n_high, count) = kernels.extent(block, holes)
    return Extent(low, high, n_low, n_high, above_low, below_high, count) if count else Extent()


@dataclass(frozen=True)
class Stray:
    """A value that is taken as missing though nothing declares it, and how often it occurs."""

    value: float
    count: int


def stray_values(
    blocks: Callable[[], Iterable[NDArray[Any]]], missing: Missing
) -> tuple[Missing, tuple[Stray, ...], Extent]:
    """Finds values at the ends of the range that stand for nothing though nothing says so.

    Such a value occurs again and again with the same bits, and is further from all others than these are from each
    other; or it is one that programs write where there is nothing, and lies apart. blocks: gives them all, each time
    that it is called. Returns all missing values, those that were added, and the extent of the rest.
    """
    strays: list[Stray] = []
    while True:
        extent = Extent()
        for block in blocks():
            extent = extent.joined(_extent_without(block, missing.mask(block)))
        stray = _stray_of(extent) if len(strays) < _ROUNDS else None
        if stray is None:
            return missing, tuple(strays), extent
        strays.append(stray)
        missing = replace(missing, values=(*missing.values, stray.value))


def _stray_of(extent: Extent) -> Stray | None:
    """The value at one end of the range that stands for nothing; None if neither does."""
    if not math.isfinite(extent.above_low):  # there is one value, or none
        return None
    ends = (
        (extent.high, extent.n_high, extent.high / 2 - extent.below_high / 2, extent.below_high / 2 - extent.low / 2),
        (extent.low, extent.n_low, extent.above_low / 2 - extent.low / 2, extent.high / 2 - extent.above_low / 2),
    )
    best: tuple[float, Stray] | None = None
    for value, count, gap, rest in ends:
        usual = any(math.isclose(value, item, rel_tol=1e-6) for item in _USUAL)
        stands_out = count >= _FEW and gap > rest > 0
        if (stands_out or (usual and count >= 2 and gap > _NEAR * rest)) and (best is None or gap > best[0]):
            best = gap, Stray(value, count)
    return None if best is None else best[1]
