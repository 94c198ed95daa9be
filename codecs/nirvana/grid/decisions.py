"""Mode decisions for a frame of the preset `grid`: transforms, levels and coefficients, by rate and distortion.

Everything is in units of the step: distortion is squared error over step squared, and lambda (`lmbda`) is how much of
it a bit is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ....native import passes
from .coefficients import LEVELS, band_levels, code_plane, levels_of
from .compiled import choice_of
from .context import PlaneContext, PlaneDecisions, Tally
from .frame import AverageTally, Motion
from .networks import Nets
from .symbols import COST_RANGE, Coding, Int, Rows, costs, pass_coder
from .transform import FINE, Bool, Float, averages_of, forward, forward16, forward_mixed, of_pairs, padded

TINY = 2.0**-24

__all__ = ["RateDistortionDecisions"]


class Silent(Coding):
    """Codes nothing: a rehearsal, for what a coding would cost."""

    def code(self, rows: Rows, symbols: Int | None) -> Int:
        assert symbols is not None
        return symbols

    def passes(self) -> passes.Coder | None:
        return pass_coder(keep=False)


def proxy(t: Float, lmbda: float) -> Float:
    """The rate-distortion cost of coefficients, given in steps, roughly: distortion plus lambda times bits."""
    size = np.abs(t)
    q = np.floor(size + 0.35)
    return np.where(q > 0, (size - q) ** 2 + lmbda * (5.0 + 2 * np.log2(np.maximum(q, 1))), size * size + lmbda * 0.05)


def decide_large(x: Float, step: int, lmbda: float, first_band: int) -> Bool:
    """The 16x16 blocks that take one large transform: (H / 16, W / 16). x: (H, W) samples in sixteenths."""
    h, w = x.shape
    unit = TINY / step
    small = of_pairs(forward(x) * unit)[first_band:]
    whole = np.ones((h // 16, w // 16), bool)
    large = (forward16(x, whole) * unit)[first_band:]
    cost_small = proxy(small, lmbda).sum((0, 1, 2))
    cost_large = proxy(large, lmbda).sum((0, 1, 2)).reshape(cost_small.shape)
    return cost_large < cost_small


@dataclass
class RateDistortionDecisions:
    """The `ModeDecisions` about a frame, by rate and distortion.

    planes: what to code, 8 bits or 9 with a sign. motion: None for a key frame. lmbda: squared steps that a bit is
    worth. passes: over the levels of a plane. tallies: the kind of each plane, and what was learnt from coding it.
    gather: whether that is wanted, to train networks.
    """

    nets: Nets
    planes: Sequence[NDArray[np.int16]]
    step_index: int
    motion: Motion | None
    lmbda: float
    passes: int = 2
    tallies: list[tuple[int, Tally]] = field(default_factory=list)
    average_tally: AverageTally = field(default_factory=AverageTally)
    use_large: bool = True
    gather: bool = True

    def __post_init__(self) -> None:
        self._large: dict[int, Bool] = {}
        self._samples = [padded(p).astype(np.float64) * FINE for p in self.planes]

    def tally(self, plane: int) -> AverageTally | None:
        return self.average_tally

    def averages(self, plane: int, step: int) -> Int:
        x = self._samples[plane]
        large = decide_large(x, step, self.lmbda, 1)
        if not self.use_large:
            large[:] = False
        self._large[plane] = large
        return np.round(averages_of(forward_mixed(x, large)[0], large) * (TINY / step)).astype(np.int64)

    def plane(
        self, plane: int, context: PlaneContext, prediction: Float, averages: Int | None, step: int
    ) -> PlaneDecisions:
        residual = self._samples[plane] - prediction
        if averages is None:
            large = decide_large(residual, step, self.lmbda, 0)
            if not self.use_large:
                large[:] = False
        else:
            large = self._large[plane]
        target = forward_mixed(residual, large) * (TINY / step)
        target[: context.first_band] = 0
        q = self._quantised(context, target, large)
        tally = Tally(self.gather)
        self.tallies.append((context.kind, tally))
        flat = q.reshape(len(q), -1)
        return PlaneDecisions(
            levels_of(q), large, lambda rows, bands, block: flat[bands[:, None], block].ravel(), tally, coefficients=q
        )

    def _quantised(self, context: PlaneContext, target: Float, large: Bool) -> Int:
        q = (np.sign(target) * np.floor(np.abs(target) + 0.4)).astype(np.int64)
        levels = levels_of(q)
        for turn in range(self.passes):
            q, allowed = self._pass(context, target, large, levels)
            if turn + 1 < self.passes:
                levels = np.minimum(levels, allowed)
        q *= band_levels()[:, None, None] <= np.minimum(levels, allowed)[None]
        return q

    def _pass(self, context: PlaneContext, target: Float, large: Bool, levels: Int) -> tuple[Int, Int]:
        """The best coefficients (64, h, w) for these levels, and the levels (h, w) that would have been better."""
        flat = np.abs(target).reshape(len(target), -1)
        signs = np.sign(target).reshape(len(target), -1).astype(np.int64)
        n = flat.shape[1]
        # cost of a block's coefficients up to each level, and of leaving them out
        spent, saved = np.zeros((LEVELS + 1, n)), np.zeros((LEVELS + 1, n))
        band_level = band_levels()
        for k in range(1, LEVELS + 1):
            saved[k] = (flat[band_level == k] ** 2).sum(0)
        table = costs()

        def pick(rows: Rows, bands: Int, block: Int) -> Int:
            t = flat[bands[:, None], block].ravel()
            high = np.minimum(np.floor(t + 0.5), COST_RANGE * 400).astype(np.int64)
            best, cost = high, (t - high) ** 2 + self.lmbda * _bits(table, rows, high)
            for lower in (np.maximum(high - 1, 0), np.zeros_like(high)):
                other = (t - lower) ** 2 + self.lmbda * _bits(table, rows, lower)
                best, cost = np.where(other < cost, lower, best), np.minimum(cost, other)
            spent[int(band_level[bands[0]]), block] += cost.reshape(len(bands), -1).sum(0)  # blocks differ
            return best * signs[bands[:, None], block].ravel()

        tally = Tally(gather=False)
        choice = choice_of(target, self.lmbda, spent.reshape(LEVELS + 1, *levels.shape))
        decisions = PlaneDecisions(levels, large, pick, tally, choice=choice)
        q, _, _ = code_plane(Silent(), self.nets, context, decisions)
        assert tally.level_bits is not None
        bits = tally.level_bits.reshape(LEVELS + 1, n) * self.lmbda
        j = np.stack([spent[: k + 1].sum(0) + saved[k + 1 :].sum(0) + bits[k] for k in range(LEVELS + 1)])
        j[np.arange(LEVELS + 1)[:, None] > levels.ravel()] = np.inf
        return q, j.argmin(0).reshape(levels.shape)


def _bits(table: NDArray[np.float32], rows: Rows, size: Int) -> NDArray[np.float32]:
    """The bits of symbols in their rows; beyond the table, costs go on as at its end."""
    return table[rows, np.minimum(size, COST_RANGE) + COST_RANGE]
