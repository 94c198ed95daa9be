"""Residuals of an interpolated field, mixed: the model's sizes, and its twin in plain integers and floats.

A filter (normalised least mean squares: Widrow and Hoff, 1960; Nagumo and Noda, 1967) corrects each prediction, by
residuals around the point that are known, and by how the predictions along the axes differ. What is left is coded by a
mixer: whether it is above a threshold near the size that its neighbours let expect, then up or down from there; its
sign, turned so that the first neighbour that isn't 0 is positive; the last bits of a large one. The compiled loops
are native/src/mixing_residuals.h, which this equals to the last digit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ...errors import StreamError
from ...native.mixing import READ
from .mixer import Mixer, Plan
from .oracle import Oracle, hashed
from .shipping import unpack
from .tables import Rates

__all__ = ["ESCAPE", "MOST", "PACES", "Point", "ResidualOracle", "new_mixer", "plan_of", "start_of", "start_plan"]

ESCAPE, MOST = 1 << 29, 1 << 28  # the residual of a value that is kept as it is, and the largest of others
PACES = (0.0, 2.0**-11, 2.0**-9, 2.0**-7)  # of the filter
_RATES = Rates(first=0.03, last=0.003, fall=128, lean=8.0, delay=2.0, doubt=0.5)
_CONTEXTS, _PARTS, _PLACES = 7, 20 * 32, 26 * 8 * 4
_TAPS, _FILTERS = 24, 128
_THRESHOLDS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
_STARTS = (0,) * 11 + (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 13, 13, 13)  # by the size around
_SIGN, _LOW, _TAIL = 31, 16, 20  # kinds of decisions: signs, bits below a threshold, exponents
_LEAST, _SEEN, _AGE = 14, 24, 100  # 2^: lines of the smallest mixer; counts of a state that is shipped, at most
_FAR, _WORD = 4096, (1 << 64) - 1


def plan_of(n_values: int) -> Plan:
    """The plan of the mixer of so many values."""
    lines = min(max((max(1, n_values) - 1).bit_length(), _LEAST), 16)
    return Plan(_CONTEXTS, lines, (_PARTS, _PLACES), 32, 26 * 16, 0, _RATES)


def new_mixer(n_values: int, start: Mixer | None = None) -> Mixer:
    """The mixer of a field of so many values, before it has seen one. start: what it has learned from others."""
    plan = plan_of(n_values)
    if start is None:
        return Mixer.new(plan)
    mixer = start.copy()  # the places of its lines are hashes' last bits: a larger table has several for each
    times = (1 << plan.lines) // len(start.lines)
    return dataclasses.replace(mixer, plan=plan, lines=np.tile(start.lines, (times, 1)))


def start_of(data: bytes) -> Mixer:
    """The mixer of a packed state. It has seen so little that it forgets it soon."""
    mixer = unpack(data, start_plan())
    seen = mixer.lines[:, 1:] & 1023
    mixer.lines[:, 1:] -= seen - np.minimum(seen, _SEEN)
    mixer.ages[:] = np.minimum(mixer.ages, _AGE)
    mixer.final_ages[:] = np.minimum(mixer.final_ages, _AGE)
    return mixer


def start_plan() -> Plan:
    """The plan of a state that is shipped."""
    return dataclasses.replace(plan_of(0), lines=_LEAST)


class ResidualOracle:
    """A stream of residuals that is written, read or priced, point by point. pace: of the filter; 0: there is none."""

    def __init__(self, role: int, mixer: Mixer, pace: float, data: bytes = b"") -> None:
        self.coder, self.pace = Oracle(role, mixer, data), pace
        self._weights = [[0.0] * _TAPS for _ in range(_FILTERS)]
        self._taps, self._chosen, self._energy = [0.0] * _TAPS, 0, 0.0

    # ---- the filter

    def shift(self, point: Point) -> float:
        """The correction of the prediction of a point, in steps."""
        if not (self.pace > 0 and point.mask):
            return 0.0
        taps = [float(v) for v in (*point.before, point.two, point.left, point.right, *point.low, *point.high)]
        self._taps = taps + [_clipped(v) for v in (*point.bends, *point.apart)]
        self._chosen = point.mask + 16 * min(point.level - 1, 7)
        self._energy = _sum(self._taps, self._taps)
        return _clipped(_sum(self._weights[self._chosen], self._taps))

    def learn(self, point: Point, q: int) -> None:
        """The filter moves towards a residual."""
        if q and self.pace > 0 and point.mask:
            gain = self.pace * _clipped(float(q)) / (1.0 + self._energy)
            weights = self._weights[self._chosen]
            self._weights[self._chosen] = [w + gain * x for w, x in zip(weights, self._taps, strict=True)]

    # ---- the mixer

    def code(self, point: Point, q: int = 0) -> int:
        """The residual of a point: the given one, or the one that is read."""
        contexts, near, mirrored = point.contexts()
        coder, start = self.coder, _STARTS[point.around]
        small, part = min(near, 15), max(0, point.mask.bit_count() - 1) + 4 * (min(point.level, 5) - 1)

        def opened(tag: int, values: Sequence[int]) -> None:
            coder.open([hashed(16 * k + tag, value & _WORD) for k, value in enumerate(values)])

        def decide(node: int, bit: bool, what: int) -> int:
            kind = 0 if what == 0 else 3 if what == _SIGN else 1 if what < 3 else 2
            coder.set = [32 * part + what, _PARTS + (point.around * 8 + small // 2) * 4 + kind]
            coder.last, coder.refine = what, [point.around * 16 + small if what == 0 else None, None]
            return coder.code(node, int(bit))

        def node_of(t: int) -> int:
            return 1 if t == start else start + 1 if t == 0 else t + 1

        opened(0, [value * 16 + start for value in contexts])
        v, t, far = abs(q), start, 0
        if decide(1, v > _THRESHOLDS[t], 0):
            while t < len(_THRESHOLDS):
                t, far = t + 1, far + 1
                if t < len(_THRESHOLDS) and not decide(node_of(t), v > _THRESHOLDS[t], min(far, 7)):
                    break
        else:
            while True:
                if t == 0:
                    return 0
                t, far = t - 1, far + 1
                if decide(node_of(t), v > _THRESHOLDS[t], 7 + min(far, 7)):
                    break
            t += 1
        negative = decide(15, (q < 0) != mirrored, _SIGN) != int(mirrored)
        if t < len(_THRESHOLDS):
            low, high = _THRESHOLDS[t - 1] + 1, _THRESHOLDS[t]
            v = low
            if high > low:
                opened(1, [value * 16 + t for value in contexts])
                v = low + self._offset(abs(q) - low, (high - low + 1) >> 1, decide)
        else:
            opened(2, contexts)
            v = self._tail(q, decide)
            if v == ESCAPE:
                return ESCAPE
        return -v if negative else v

    def _offset(self, off: int, width: int, decide) -> int:
        """The place of a residual between two thresholds: two bits that are mixed, then some that aren't."""
        node, made = 1, 0
        while width:
            bit = int(off & width != 0)
            bit = decide(node, bool(bit), _LOW + node) if node < 4 else self.coder._coded(bit, 1 << 15)
            made += width * bit
            node = 2 * node + bit if node < 4 else node
            width >>= 1
        return made

    def _tail(self, q: int, decide) -> int:
        """A residual above all thresholds: an exponent that is mixed, and its bits; or an escape."""
        u = 1 << 30 if q == ESCAPE else max(0, abs(q) - 97) + 32
        exponent, log = 5, u.bit_length() - 1
        while exponent < 30 and decide(min(exponent - 4, 15), log > exponent, _TAIL + min(exponent - 5, 7)):
            exponent += 1
        if exponent == 30:
            return ESCAPE
        made = 1
        for i in range(exponent - 1, -1, -1):
            made = made << 1 | self.coder._coded(u >> i & 1, 1 << 15)
        return made - 32 + 97

    def checked(self, q: int, value: float) -> None:
        """StreamError for a residual, or a value that was made with it, that no encoder writes."""
        if self.coder.role == READ and (abs(q) > MOST or not math.isfinite(value)):
            raise StreamError("a mixed field has values beyond its type: the file is damaged")


class Point:
    """The surroundings of a point. Residuals: of the points before it along each of five axes; of the second before it
    on its line, and of those left and right of it on the line before; of the known points around it, low and high, for
    each of four axes. bends, apart: for these, what linear and cubic predictions differ by, and the latter from their
    mean, in steps. around, spread, bent: numbers of classes. mask: of the odd axes, the last one is bit 0.
    """

    __slots__ = (
        *("apart", "around", "before", "bends", "bent", "high", "left", "level", "low", "mask", "right", "spread"),
        "two",
    )

    def __init__(self, mask: int, level: int) -> None:
        self.mask, self.level = mask, level
        self.before, self.two, self.left, self.right = [0] * 5, 0, 0, 0
        self.low, self.high, self.bends, self.apart = [0] * 4, [0] * 4, [0.0] * 4, [0.0] * 4
        self.around, self.spread, self.bent = 0, 0, 0

    def contexts(self) -> tuple[list[int], int, bool]:
        """The values of the contexts, the class of the residuals near by, and whether signs are turned."""
        before, low, high = self.before, self.low, self.high
        order = (low[0], high[0], before[4], before[3], before[2], low[1], high[1], low[2], high[2])
        mirrored = next((v for v in order if v), 0) < 0
        turn = -1 if mirrored else 1
        near = _size(
            2 * sum(_near(v) for v in before) + _near(self.left) + _near(self.right) + _near(self.two),
        )
        sides = _size(sum(_near(a) + _near(b) for a, b in zip(low, high, strict=True)))
        signs = steps = slopes = nearest = 0
        for k in range(3):
            signs = (signs * 4 + _sign(turn * low[k])) * 4 + _sign(turn * high[k])
            slopes = slopes * 8 + _slope(turn * self.bends[k])
        for v in (before[4], before[3], self.two, self.right, before[2]):
            steps = steps * 8 + _step(turn * v)
        for v in (before[4], before[3], before[2], low[0], high[0]):
            nearest = nearest * 4 + _sign(turn * v)
        around, mask = self.around, self.mask
        batch = _size(before[1]) * 32 + _size(before[0])
        contexts = [
            (slopes * 16 + mask) * 8 + around // 4,
            (self.bent * 32 + self.spread) * 16 + mask,
            steps,
            around * 32 + near,
            signs * 16 + mask,
            nearest * 8 + min(self.level, 3),
            (batch * 32 + sides) * 32 + around // 2,
        ]
        return contexts, near, mirrored


def _near(v: int) -> int:
    return min(abs(v), _FAR)


def _sign(v: int) -> int:
    return 2 if v > 0 else 1 if v < 0 else 0


def _step(v: int) -> int:
    return 6 if v > 2 else 0 if v < -2 else v + 3


def _slope(v: float) -> int:
    return 4 if v > 0.3 else 3 if v > 0.06 else 0 if v < -0.3 else 1 if v < -0.06 else 2


def _size(v: int) -> int:
    """The class, 0 to 23, of a magnitude: half octaves."""
    m = abs(v)
    if m < 4:
        return m
    log = m.bit_length() - 1
    return min(2 * log + (m >> (log - 1) & 1), 23)


def _clipped(v: float) -> float:
    most = float(1 << 20)
    return min(max(v, -most), most) if v == v else 0.0


def _sum(a: Sequence[float], b: Sequence[float]) -> float:
    lane = [(a[i] * b[i] + a[8 + i] * b[8 + i]) + a[16 + i] * b[16 + i] for i in range(8)]
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]))
