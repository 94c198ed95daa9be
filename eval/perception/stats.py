"""Scores with intervals, all of one bootstrap: samples are drawn again, the same ones for every codec and the original.

Rows are summed, not averaged, so that a draw is a matrix product. Differences between codecs, and between a codec and
the original, are differences within a draw: pairs stay pairs. Intervals are from the 2.5th to the 97.5th percentile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..bench.bd import bd_delta
from .contract import Score

__all__ = [
    "DRAWS",
    "Curve",
    "Interval",
    "Samples",
    "bd_rate",
    "correlation",
    "correlation_draws",
    "interval",
    "rate_that_keeps",
]

DRAWS = 1000
BD_DRAWS = 200  # each takes a few milliseconds
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A number with its interval of 95 %. Any of them may be NaN."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(draws: Array) -> Interval:
    """The interval of draws (B + 1,), of which the first is that of the samples as they are.

    A value that more than one draw in twenty doesn't have has no interval.
    """
    others = draws[1:]
    known = others[np.isfinite(others)]
    if len(known) < 0.95 * len(others) or not len(known):
        return Interval(float(draws[0]), math.nan, math.nan)
    return Interval(float(draws[0]), *(float(end) for end in np.percentile(known, (2.5, 97.5))))


class Samples:
    """Draws of n samples: how often each is in each of them. The first draw has each once."""

    def __init__(self, n: int, draws: int = DRAWS, seed: int = 0) -> None:
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws)
        self.weights = np.vstack([np.ones((1, n)), drawn]).astype(np.float64)
        self.n = n

    def sums(self, values: Array) -> Array:
        """Sums (B + 1,) of values (n,) over each draw."""
        return self.weights @ values

    def means(self, values: Array) -> Array:
        """Means (B + 1,) of values (n,); NaN if one of them isn't finite."""
        return self.sums(values) / self.n

    def scores(self, score: Score, counts: Mapping[str, Array]) -> Array:
        """A score (B + 1,) of counts (n,) by name."""
        value = score.value({name: self.sums(values) for name, values in counts.items()})
        return np.broadcast_to(np.asarray(value, np.float64), self.weights.shape[:1])


@dataclass(frozen=True)
class Curve:
    """Rates and scores of a codec's settings, (P, B + 1) each, in the order of the rate."""

    rates: Array
    scores: Array

    @staticmethod
    def of(rates: Sequence[Array], scores: Sequence[Array]) -> Curve:
        """The curve of settings in any order."""
        order = np.argsort([rate[0] for rate in rates], kind="stable")
        return Curve(np.stack([rates[k] for k in order]), np.stack([scores[k] for k in order]))

    def at(self, rate: float) -> Array:
        """Scores (B + 1,) at a rate: a straight line between neighbours over the logarithm of the rate. NaN outside of
        what was measured: nothing is extrapolated."""
        out = np.full(self.rates.shape[1], np.nan)
        for draw in range(len(out)):
            rates = self.rates[:, draw]
            order = np.argsort(rates, kind="stable")
            logs = np.log(rates[order])
            if logs[0] <= math.log(rate) + 1e-9 and math.log(rate) <= logs[-1] + 1e-9:
                out[draw] = np.interp(math.log(rate), logs, self.scores[order, draw])
        return out


def rate_that_keeps(curve: Curve, wanted: Array) -> Array:
    """The lowest rate (B + 1,) from which on a score stays at or above what is wanted (B + 1,).

    Between two settings the crossing lies on the line that `Curve.at` draws. Infinite: not even the largest setting
    keeps it. The rate of the smallest setting: no setting falls below it.
    """
    out = np.full(len(wanted), np.inf)
    for draw, goal in enumerate(wanted):
        rates, scores = curve.rates[:, draw], curve.scores[:, draw]
        below = np.flatnonzero(~(scores >= goal - 1e-12))
        if not len(below):
            out[draw] = rates[0]
        elif below[-1] + 1 < len(scores):
            left, right = below[-1], below[-1] + 1
            part = (goal - scores[left]) / (scores[right] - scores[left])
            out[draw] = math.exp(math.log(rates[left]) + part * (math.log(rates[right]) - math.log(rates[left])))
    return out


def bd_rate(anchor: Curve, curve: Curve, draws: int = BD_DRAWS) -> tuple[Interval, str | None]:
    """The change of rate at an equal score against an anchor, in per cent, and why there is none."""

    def delta(draw: int) -> tuple[float, str | None]:
        sides = [
            list(zip(side.rates[:, draw].tolist(), (100 * side.scores[:, draw]).tolist(), strict=True))
            for side in (anchor, curve)
        ]
        change = bd_delta(sides[0], sides[1])
        return (math.nan if change.rate is None else change.rate), change.reason

    value, reason = delta(0)
    if reason is not None:
        return Interval(math.nan, math.nan, math.nan), reason
    rest = [delta(draw)[0] for draw in range(1, min(draws, anchor.rates.shape[1] - 1) + 1)]
    return interval(np.array([value, *rest])), None


def correlation(metric: Array, scores: Array, ranks: bool) -> Interval:
    """The correlation of a metric with a score over settings, both (P, B + 1). ranks: Spearman's, else Pearson's."""
    return interval(correlation_draws(metric, scores, ranks))


def correlation_draws(metric: Array, scores: Array, ranks: bool) -> Array:
    """The correlation in each draw, (B + 1,); NaN of fewer than three settings, and where one side doesn't vary."""
    from scipy.stats import rankdata

    if len(metric) < 3:
        return np.full(metric.shape[1], np.nan)
    x, y = (rankdata(values, axis=0) if ranks else values for values in (metric, scores))
    x, y = (values - values.mean(axis=0) for values in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x * y).sum(axis=0) / np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
