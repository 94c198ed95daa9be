"""Levels of pictures, mixed, value by value in Python: what native/src/mixing_levels.h does, to the last digit.

It is the oracle of the tests, and what runs where nothing could be compiled. The least squares fits are float64, in the
same single operations and the same order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...native.mixing import READ
from ...native.mixing_levels import BEST, ZERO
from .oracle import Oracle, hashed
from .tables import odds_place, stretch

__all__ = ["code_levels"]

_WORD = (1 << 64) - 1
_PRIME = 0x9E3779B97F4A7C15
_EXPERTS, _PREDICTORS, _BINS, _MARGIN = 5, 4, 40, 4
_SECOND, _THIRD = 1024, 1600  # where sets of weights begin
_PLACES = ((0, -1), (1, 0), (1, -1), (1, 1), (0, -2), (2, 0), (2, 1), (1, -2), (1, 2), (2, -1), (0, -3), (3, 0),
           (2, -2), (2, 2))  # fmt: skip

_FURTHER = ((0, -2), (2, 0), (1, 2), (1, -2), (2, 1), (2, -1), (0, -3))  # whether they are the same, too


class _Fit:
    """A least squares fit that forgets: `LevelFit`."""

    def __init__(self, keep: float, ridge: float, every: int) -> None:
        self.keep, self.ridge, self.every, self.turn = keep, ridge, every, 0
        self.x = np.zeros(0)
        self.w = np.zeros(40)
        self.moments = np.zeros((40, 41))

    def predicted(self, around: int, top: int) -> int:
        n, lane = len(self.x), np.zeros(8)
        for i in range(0, n, 8):
            lane += self.w[i : i + 8] * self.x[i : i + 8]
        a = lane.tolist()
        value = (((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))) * 64.0 + float(around * 64)
        if not value > 0.0:
            return 0
        return top if value >= top else min(top, int(value + 0.5))

    def learned(self, target: float) -> None:
        n = len(self.x)
        row = np.append(self.x, target)
        part = self.moments[:n, : n + 1]
        part *= self.keep
        part += self.x[:, None] * row
        self.turn += 1
        if self.turn == self.every:
            self.turn = 0
            self._solve(n)

    def _solve(self, n: int) -> None:
        a = self.moments[:n, : n + 1].copy()
        for i in range(n):
            a[i, i] += self.ridge
        for k in range(n):
            if not a[k, k] > 1e-6:
                return
            a[k, k:] *= 1.0 / math.sqrt(a[k, k])
            a[k + 1 :, k + 1 :] -= a[k, k + 1 : n, None] * a[k, k + 1 :]
        y = a[:, n].copy()
        for i in range(n - 1, -1, -1):
            y[i] /= a[i, i]
            y[:i] -= a[:i, i] * y[i]
        self.w[:n] = y


def _bin(e: int) -> int:
    e = (e >> 2) + 1
    whole = e.bit_length() - 1
    return min(_BINS - 1, 2 * whole + ((e >> (whole - 1)) & 1 if whole else 0))


def _median(a: int, b: int, c: int) -> int:
    return sorted((a, b, c))[1]


class _Channel:
    def __init__(self) -> None:
        self.wide, self.near = _Fit(0.9995, 1.0, 4), _Fit(0.95, 1.0, 4)
        row = []
        for j in range(8 * _BINS):
            bin, whole = j // 8, j // 16
            row.append(1 << 26 if whole > 18 else (1 << (whole + 8)) + (bin & 1) * (1 << (whole + 7)))
        self.spread = [list(row) for _ in range(_EXPERTS)]
        self.bias = [0] * 1024


class _Place:
    """A place of a sheet before its value is coded, with what is known of it: `LevelPlace`."""

    p: list[int]
    e: list[int]
    mean: list[int]
    spread: list[int]
    slot: list[int]
    base: int
    around: int
    bias: int
    bin: int
    context: list[int]

    @property
    def energy(self) -> int:
        return 15 if self.bin > 31 else self.bin // 2


class _Sheets:
    def __init__(self, coder: Oracle, shape: tuple[int, ...], bits: int, base: int, table: NDArray[np.int32]) -> None:
        self.coder, self.bits, self.base, self.table = coder, bits, base, table.tolist()
        self.stretch = stretch().tolist()
        self.n, self.h, self.w, self.c = shape
        self.top = (1 << bits) - 1
        self.channels = [_Channel() for _ in range(self.c)]
        self.value: list[list[int]] = []
        self.error: list[list[list[int]]] = []

    def run(self, sheets: NDArray[np.uint16]) -> None:
        reading = self.coder.role == READ
        for t in range(self.n):
            for y in range(self.h):
                self._down(y)
                before = sheets[t - 1, y].ravel().tolist() if t else [0] * self.w * self.c
                line = sheets[t, y].ravel().tolist()
                for i in range(self.w * self.c):
                    x, k = divmod(i, self.c)
                    at = (x + _MARGIN) * self.c
                    line[i] = self._value(at, k, y, x, before[i], 0 if reading else line[i])
                sheets[t, y] = np.array(line, np.uint16).reshape(self.w, self.c)

    def _value(self, at: int, k: int, y: int, x: int, before: int, value: int) -> int:
        """Codes a value."""
        row0, row1, i, c = self.value[0], self.value[1], at + k, self.c
        twin = (row0[i - c] == row1[i]) + 2 * (row1[i] == row1[i + c]) + 4 * (row1[i] == row1[i - c])
        if twin == 7:
            o = self._flat(i)
            self._contexts(o, at, k, y, x, before)
            self.coder.open([hashed(7, context) for context in o.context])
            self.coder.extra = [0] * _EXPERTS
            self._choose(k, 8, 0, o.energy, int(k > 0 and row0[i - 1] == row0[i - 1 - c]))
            if self.coder.code(1, int(value == o.base)):
                row0[i] = o.base
                for row in self.error[0]:
                    row[i] = 0
                return o.base
        o = self._predicted(at, k)
        o.base = (o.p[3] + 32) >> 6 if self.base == BEST else o.p[2] >> 6
        self._contexts(o, at, k, y, x, before)
        row0[i] = self._coded(o, k, twin, value)
        self._after(o, at, k, row0[i])
        return row0[i]

    def _flat(self, i: int) -> _Place:
        """A place around which all is the same: its contexts take that for the prediction."""
        o, value, c = _Place(), self.value[1][i], self.c
        e0, e1, e2 = (rows[3] for rows in self.error)
        o.p = [value * 64] * _PREDICTORS
        o.bin = _bin((2 * e0[i - c] + 2 * e1[i] + e1[i - c] + e1[i + c] + e0[i - 2 * c] + e2[i]) >> 3)
        o.base, pattern = value, 0
        for dy, dx in _FURTHER:
            pattern = 2 * pattern + (self.value[dy][i + dx * c] == value)
        o.bias = 8 * pattern
        return o

    def _down(self, y: int) -> None:
        """The rows move down by a row; what lies beside them is filled."""
        w, c = self.w, self.c
        pitch, end = (w + 2 * _MARGIN) * c, (w + _MARGIN) * c
        if not y:
            self.value = [[0] * pitch for _ in range(4)]
            self.error = [[[0] * pitch for _ in range(_PREDICTORS + 1)] for _ in range(3)]
            return
        for row in (self.value[0], *self.error[0]):
            for j in range(_MARGIN * c):
                row[end + j] = row[end - c + j % c]
        self.value.insert(0, self.value.pop())
        self.error.insert(0, self.error.pop())
        pairs = [(self.value[0], self.value[1]), *zip(self.error[0], self.error[1], strict=True)]
        for row, above in pairs:
            for j in range(_MARGIN * c):
                row[j] = above[_MARGIN * c + j % c]

    # ---- predictions

    def _inputs(self, s: _Channel, o: _Place, at: int, k: int) -> None:
        c, row0, row1 = self.c, self.value[0], self.value[1]
        o.around = (row0[at + k - c] + row1[at + k] + 1) >> 1
        x = [self.value[dy][at + dx * c + k] - o.around for dy, dx in _PLACES]
        near = x[:6]
        for j in range(c):
            if j == k:
                continue
            middle = (row0[at + j - c] + row1[at + j] + 1) >> 1
            more = [row0[at + j - c], row1[at + j]]
            if j < k:
                more += [row0[at + j], row1[at + j - c], row1[at + j + c], row0[at + j - 2 * c]]
            x += [value - middle for value in more]
        if k:
            middle = (row0[at + k - 1 - c] + row1[at + k - 1] + 1) >> 1
            near = [*near, row0[at + k - 1] - middle, row0[at + k - 1 - c] - middle]
        s.wide.x = np.array(x + [0] * (-len(x) % 8), np.float64)
        s.near.x = np.array(near + [0] * (-len(near) % 8), np.float64)

    def _gradient(self, at: int, k: int) -> int:
        c, row0, row1 = self.c, self.value[0], self.value[1]
        at += k
        w, n, nw = row0[at - c], row1[at], row1[at - c]
        if not k:
            return _median(w, n, w + n - nw)
        dw, dn, dnw = w - row0[at - 1 - c], n - row1[at - 1], nw - row1[at - 1 - c]
        return min(max(row0[at - 1] + _median(dw, dn, dw + dn - dnw), 0), self.top)

    def _predicted(self, at: int, k: int) -> _Place:
        s, o, c, high = self.channels[k], _Place(), self.c, self.top * 64
        self._inputs(s, o, at, k)
        o.p = [s.wide.predicted(o.around, high), s.near.predicted(o.around, high), self._gradient(at, k) * 64]
        i, (e0, e1, e2) = at + k, self.error
        o.e = [
            2 * e0[j][i - c] + 2 * e1[j][i] + e1[j][i - c] + e1[j][i + c] + e0[j][i - 2 * c] + e2[j][i]
            for j in range(_PREDICTORS)
        ]
        weights = [(1 << 36) // ((e >> 2) + 8) ** 2 + 1 for e in o.e[:3]]
        blend = sum(weight * p for weight, p in zip(weights, o.p, strict=True)) // sum(weights)
        row0, row1, row2 = self.value[:3]
        near = (
            row0[i - c],
            row1[i],
            row1[i - c],
            row1[i + c],
            row0[i - 2 * c],
            row2[i],
            2 * row0[i - c] - row0[i - 2 * c],
        )
        pattern = 0
        for value in near:
            pattern = 2 * pattern + (value * 64 > blend)
        o.bin = _bin(o.e[3] >> 3)
        o.bias = pattern * 8 + (7 if o.bin > 27 else (o.bin - 6) // 3 if o.bin > 6 else 0)
        o.p.append(min(max(blend + (s.bias[o.bias] >> 6), 0), high))
        steps = min(7, _bin(e0[3][i - 1]) // 3) if k else 0
        o.mean = [*o.p, o.p[3]]
        more = (0, 0, 0, steps, _bin(o.e[0] >> 1) & 7)
        o.slot = [_bin(o.e[min(j, 3)] >> 3) * 8 + more[j] for j in range(_EXPERTS)]
        o.spread = [s.spread[j][o.slot[j]] for j in range(_EXPERTS)]
        return o

    def _contexts(self, o: _Place, at: int, k: int, y: int, x: int, before: int) -> None:
        c, i, best = self.c, at + k, o.p[3]
        row0, row1, row2 = self.value[:3]
        w, n, nw, ne, ww, nn = row0[i - c], row1[i], row1[i - c], row1[i + c], row0[i - 2 * c], row2[i]
        a, b = row0[i - 1] if k else 0, row0[i - 2] if k > 1 else 0
        signs, above = self.error[0][4], self.error[1][4]
        ea, eb = signs[i - 1] if k else 0, signs[i - 2] if k > 1 else 0
        m = (best + 32) >> 6
        kind = k * 3 + self.base
        base = 0 if self.base == ZERO else o.base + 1
        own = 0 if self.base == BEST else m + 1
        e = o.bin
        off, off2, frac = (o.p[2] - best) >> 6, (o.p[1] - best) >> 5, (best & 63) >> 3
        pairs = [
            (own, e),
            (own + e * 65537, (signs[i - c] >> 6) * 65536 + (above[i] >> 6)),
            (own + (o.bias >> 3) * 65537, e // 4),
            (own + e * 65537, off),
            (base, m),
            (own + e * 65537, frac * 64 + off2),
            (base + (ne << 32), w << 32 | n << 16 | nw),
            (base, w << 16 | n),
        ]
        if k:
            pairs += [
                (own + e // 2 * 65537, (ea >> 5) * 65536 + (eb >> 7)),
                (base + (b << 32), a << 16 | m),
                (base + (b << 32), a << 32 | w << 16),
            ]
        else:
            plane, corner = min(max(w + n - nw, 0), 65535), min(max(w + ne - n, 0), 65535)
            pairs += [
                (base + (ww << 32), w << 16 | ne >> 2),
                (base + (nn << 32), n << 16 | ne),
                (base, plane << 16 | corner),
            ]
        pairs.append((base + (before << 32), y << 24 | x if self.n > 1 else (w + n) << 24 | (nw + ne)))
        o.context = [hashed(kind * 32 + j, hashed(u & _WORD, v & _WORD)) for j, (u, v) in enumerate(pairs)]

    # ---- decisions

    def _below(self, edge: int, mean: int, by: int) -> int:
        z = min(max((((edge * 64 - 32 - mean) * by) >> 16) + (1 << 18), 0), (1 << 19) - 1)
        low, high = self.table[z >> 8], self.table[(z >> 8) + 1]
        return low + (((high - low) * (z & 255)) >> 8)

    def _choose(self, k: int, level: int, prefix: int, energy: int, third: int) -> None:
        coder, row = self.coder, (k * 9 + level) * 16
        coder.set = [(k << 8) + prefix, _SECOND + row + energy, _THIRD + row + third]
        coder.last = (k << 8) + prefix
        coder.refine = [(k << 8) + prefix, _SECOND + row + energy]

    def _coded(self, o: _Place, k: int, twin: int, value: int) -> int:
        coder, size, energy = self.coder, 1 << self.bits, o.energy
        start = 0 if self.base == ZERO else o.base - (size >> 1)
        stop = start + size
        by = [(22713 << 16) // ((spread >> 6) + 4) for spread in o.spread]
        low = [self._below(start, mean, scale) for mean, scale in zip(o.mean, by, strict=True)]
        high = [self._below(stop, mean, scale) for mean, scale in zip(o.mean, by, strict=True)]
        coded, made, node = (value - start) & (size - 1), 0, 1
        for depth in range(self.bits):
            if depth % 4 == 0:
                coder.open([hashed(depth // 4, (context + made * _PRIME) & _WORD) for context in o.context])
                node = 1
            middle = start + ((stop - start) >> 1)
            mid = [self._below(middle, mean, scale) for mean, scale in zip(o.mean, by, strict=True)]
            coder.extra = [
                self.stretch[odds_place(((high[j] - mid[j] + 16) << 16) // (high[j] - low[j] + 32))]
                for j in range(_EXPERTS)
            ]
            prefix = (1 << depth) + made if depth < 8 else 0
            self._choose(k, min(depth, 7), prefix, energy, twin)
            bit = coder.code(node, (coded >> (self.bits - 1 - depth)) & 1)
            if bit:
                start, low = middle, mid
            else:
                stop, high = middle, mid
            node, made = 2 * node + bit, 2 * made + bit
        return start & (size - 1)

    def _after(self, o: _Place, at: int, k: int, value: int) -> None:
        s, scaled = self.channels[k], value * 64
        for j in range(_PREDICTORS):
            self.error[0][j][at + k] = abs(scaled - o.p[j])
        self.error[0][4][at + k] = scaled - o.p[3]
        for j in range(_EXPERTS):
            row, slot = s.spread[j], o.slot[j]
            row[slot] += (abs(scaled - o.mean[j]) * 64 - row[slot]) >> 6
        s.bias[o.bias] += ((scaled - o.p[3]) * 64) >> 6
        s.wide.learned(float(value - o.around))
        s.near.learned(float(value - o.around))


def code_levels(coder: Oracle, values: NDArray[np.uint16], bits: int, base: int, table: NDArray[np.int32]) -> None:
    """Codes sheets (n, h, w, c) of values below 2^bits, in place: `native.mixing_levels.code_levels`."""
    _Sheets(coder, values.shape, bits, base, table).run(values)
