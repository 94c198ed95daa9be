"""Bjøntegaard deltas between two rate-distortion curves, always with the window they are averaged over.

Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001; with piecewise cubic Hermite
interpolation, as JVET's common test conditions and the reference series here use it. The integrals are the
`bjontegaard` package's. What is added: a window of one's own, and a reason in place of a number where two curves have
too little in common for one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError

__all__ = ["MIN_POINTS", "Delta", "bd_delta"]

MIN_POINTS = 4  # of a curve
MIN_SHARE = 0.3  # of the shorter curve's range that must lie in the window
_DENSE = 512


@dataclass(frozen=True)
class Delta:
    """The comparison of a curve with its anchor.

    rate: change of rate at equal quality in per cent, negative is better than the anchor. metric: change of the
    metric at equal rate, in its unit. window: the part of the metric's scale that `rate` is averaged over; rates: the
    rates that `metric` is averaged over. reason: why there is no number; None if there is one. items: how many items
    the curves are means of, where that is known.
    """

    rate: float | None
    metric: float | None
    window: tuple[float, float] | None
    rates: tuple[float, float] | None = None
    reason: str | None = None
    items: int | None = None


def bd_delta(
    anchor: Sequence[tuple[float, float]],
    test: Sequence[tuple[float, float]],
    window: tuple[float, float] | None = None,
) -> Delta:
    """Compares `test` with `anchor`; both are (rate, metric) points in any order, the metric rising with the rate.

    window: limits on the metric's scale; None: all that the curves have in common. Convert MS-SSIM to decibels first:
    the interpolation wants curves that are close to straight. UsageError for a window that isn't one.
    """
    if window is not None and not window[0] < window[1]:
        raise UsageError(f"window {window[0]:g} to {window[1]:g}: expected the lower end first")
    first, second = _clean(anchor), _clean(test)
    if isinstance(first, str):
        return Delta(None, None, None, reason=f"the anchor {first}")
    if isinstance(second, str):
        return Delta(None, None, None, reason=f"the codec {second}")
    (rate_a, metric_a), (rate_t, metric_t) = first, second
    low, high = float(max(metric_a[0], metric_t[0])), float(min(metric_a[-1], metric_t[-1]))
    if window is not None:
        low, high = max(low, window[0]), min(high, window[1])
    shorter = min(metric_a[-1] - metric_a[0], metric_t[-1] - metric_t[0])
    if window is not None:
        shorter = min(shorter, window[1] - window[0])
    if high - low < MIN_SHARE * shorter:
        have = f"{low:.2f} to {high:.2f}" if low < high else "nothing"
        return Delta(
            None,
            None,
            None,
            reason=f"too little in common: {have}, of {metric_a[0]:.2f} to {metric_a[-1]:.2f} (anchor) and "
            f"{metric_t[0]:.2f} to {metric_t[-1]:.2f}" + (f" in {window[0]:g} to {window[1]:g}" if window else ""),
        )
    import bjontegaard

    settings = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    a, t = _cut(rate_a, metric_a, low, high), _cut(rate_t, metric_t, low, high)
    rate = float(bjontegaard.bd_rate(*a, *t, **settings))  # pyright: ignore[reportArgumentType]
    # At equal rate the common part is another one: that of the whole curves, unless a window was asked for. It may be
    # empty, and then there is a rate, but no metric.
    if window is None:
        a, t = (rate_a, metric_a), (rate_t, metric_t)
    cheap, dear = float(max(a[0][0], t[0][0])), float(min(a[0][-1], t[0][-1]))
    if cheap >= dear:
        return Delta(rate, None, (low, high))
    metric = float(bjontegaard.bd_psnr(*a, *t, **settings))  # pyright: ignore[reportArgumentType]
    return Delta(rate, metric, (low, high), (cheap, dear))


def _clean(points: Sequence[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | str:
    """Rates and metrics, rising, or why this is no curve. Points that cost more and are worse than another go."""
    usable = sorted((r, m) for r, m in points if r > 0 and math.isfinite(r) and math.isfinite(m))
    front: list[tuple[float, float]] = []
    for rate, metric in usable:
        if front and rate == front[-1][0]:
            continue
        if not front or metric > front[-1][1]:
            front.append((rate, metric))
    if len(front) < MIN_POINTS:
        dropped = len(points) - len(front)
        rest = f" ({dropped} more not finite, or worse than a cheaper one)" if dropped else ""
        plural = "point" if len(front) == 1 else "points"
        return f"has {len(front)} {plural}{rest}; at least {MIN_POINTS} make a curve"
    rates, metrics = np.array(front, np.float64).T
    return rates, metrics


def _cut(
    rates: NDArray[np.float64], metrics: NDArray[np.float64], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve between two metrics, sampled so densely on its own interpolant that what the package makes of the
    samples is that interpolant: it has no windows itself."""
    from scipy.interpolate import PchipInterpolator

    at = np.linspace(low, high, _DENSE)
    return 10 ** PchipInterpolator(metrics, np.log10(rates))(at), at
