"""Crops of the same picture under several codecs at the same rate, for the report's before/after slider.

The setting of each codec is searched on its axis, between the settings that were measured, for the file that comes
nearest to the target from either side. A codec that has no setting within `TOLERANCE` of it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .. import peers
from ..report.html import Crop, CropSet
from .contract import OptionValue
from .items import Item
from .rows import Table
from .specs import Curve, Point

__all__ = ["TOLERANCE", "at_rate", "busiest", "equal_rate_crops"]

TOLERANCE = 0.15  # of the rate
NEAR = 0.02  # of the rate: no further encoding, some codecs take long for one
SIDE = (384, 256)  # width and height of a crop


def equal_rate_crops(table: Table, n: int) -> list[CropSet]:
    """Crops of up to n pictures, spread evenly over the items: every lossy codec's at about the same bits per pixel."""
    usable = table.sources
    places = {round(k * (len(usable) - 1) / max(1, n - 1)) for k in range(min(n, len(usable)))}
    picked = [usable[place] for place in sorted(places)]
    curves = [curve for curve in table.curves if not curve.family.lossless]
    sets = []
    for item in picked:
        target = _target(table, curves, item)
        try:
            pixels = item.load()
        except Exception:  # noqa: S112  gone since it was measured: the report can do without it
            continue
        assert isinstance(pixels, np.ndarray)
        left, top, width, height = box = busiest(pixels)
        view = np.s_[top : top + height, left : left + width]
        crops = [
            Crop(curve.label, point.spec, bpp, values, np.ascontiguousarray(decoded[view]))
            for curve in curves
            if (nearest := at_rate(table, curve, item, pixels, target)) is not None
            for point, bpp, values, decoded in [nearest]
        ]
        if crops:
            sets.append(CropSet(item.name, box, float(f"{target:.3g}"), np.ascontiguousarray(pixels[view]), crops))
    return sets


def _target(table: Table, curves: Sequence[Curve], item: Item) -> float:
    """The rate in bits per pixel where most curves are: that of our codec if it has one point, else half a bit, moved
    into common range."""
    rates = {
        curve.label: [row.rate for row in table.rows if row.item == item.name and row.codec == curve.label]
        for curve in curves
    }
    fixed = [rates[curve.label][0] for curve in curves if peers.is_ours(curve.family) and len(rates[curve.label]) == 1]
    target = fixed[0] if fixed else 0.5
    lows = sorted(min(own) for own in rates.values() if len(own) > 1)
    highs = sorted(max(own) for own in rates.values() if len(own) > 1)
    if not fixed and lows:
        # the middle codec's ends: one odd curve must not move everybody's
        target = min(max(target, lows[len(lows) // 2]), highs[len(highs) // 2])
    return target


def at_rate(
    table: Table, curve: Curve, item: Item, pixels: NDArray[np.uint8], target: float
) -> tuple[Point, float, dict[str, float], NDArray[np.uint8]] | None:
    """The point of a curve nearest to a rate, what it costs, and its picture; None if there is none near it."""
    area = pixels.shape[0] * pixels.shape[1]
    threads = int(table.settings.get("threads", 1))
    rows = sorted(
        (row for row in table.rows if row.item == item.name and row.codec == curve.label), key=lambda r: r.rate
    )
    if not rows:
        return None
    points = {point.spec: point for point in curve.points}
    tried: dict[OptionValue | None, tuple[float, Point, bytes]] = {}

    def rate(point: Point) -> float:
        if point.setting not in tried:
            data = curve.family.make(point.settings, threads).encode(pixels)
            tried[point.setting] = (8 * len(data) / area, point, data)
        return tried[point.setting][0]

    try:
        below = [row for row in rows if row.rate <= target]
        above = [row for row in rows if row.rate > target]
        ends = [(row.rate, points[row.spec]) for row in [*below[-1:], *above[:1]]]  # their rates are measured already
        if len(ends) == 2 and curve.family.axis is not None and not any(_off(bpp, target) <= NEAR for bpp, _ in ends):
            _search(curve, ends[0], ends[1], target, rate)
        candidates = [(bpp, point) for bpp, point, _ in tried.values()] + ends
        bpp, point = min(candidates, key=lambda candidate: _off(candidate[0], target))
        if abs(bpp / target - 1) > TOLERANCE:
            return None
        bpp = rate(point)
        decoded = curve.family.make(point.settings, threads).decode(tried[point.setting][2])
    except Exception:  # whatever a library says of this picture at this setting: it isn't shown
        return None
    values = {metric.name: metric.measure(pixels, decoded) for metric in table.metrics[:2]}
    return point, bpp, values, decoded


def _off(bpp: float, target: float) -> float:
    return abs(math.log(bpp / target))


def _search(
    curve: Curve,
    low: tuple[float, Point],
    high: tuple[float, Point],
    target: float,
    rate: Callable[[Point], float],
) -> None:
    """Tries up to six settings between two neighbours on the axis, where the logarithm of the rate is about a line."""
    axis = curve.family.axis
    assert axis is not None
    option = curve.family.options[axis]
    (rate_a, point_a), (rate_b, point_b) = low, high
    a, b = point_a.settings[axis], point_b.settings[axis]
    for _ in range(6):
        if isinstance(a, str) or isinstance(b, str):
            return
        part = math.log(target / rate_a) / math.log(rate_b / rate_a)
        middle = a + (b - a) * min(0.9, max(0.1, part))
        if isinstance(option.default, int):
            middle = min(max(a, b) - 1, max(min(a, b) + 1, round(middle)))
            if not min(a, b) < middle < max(a, b):
                return
        point = Point(curve.family, {**point_a.settings, axis: middle})
        bpp = rate(point)
        if _off(bpp, target) <= NEAR:
            return
        if bpp <= target:
            a, rate_a = middle, bpp
        else:
            b, rate_b = middle, bpp


def busiest(pixels: NDArray[np.uint8], size: tuple[int, int] = SIDE) -> tuple[int, int, int, int]:
    """The crop with most detail, on a grid of 32 pixels: (left, top, width, height). size: width and height."""
    height, width = pixels.shape[:2]
    w, h = min(size[0], width), min(size[1], height)
    grey = pixels.astype(np.float32).mean(axis=2)
    detail = np.zeros_like(grey)
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    detail[1:] += np.abs(np.diff(grey, axis=0))
    total = np.pad(detail.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    best = max(
        ((top, left) for top in range(0, height - h + 1, 32) for left in range(0, width - w + 1, 32)),
        key=lambda at: (
            total[at[0] + h, at[1] + w] - total[at[0], at[1] + w] - total[at[0] + h, at[1]] + total[at[0], at[1]]
        ),
    )
    return best[1], best[0], w, h
