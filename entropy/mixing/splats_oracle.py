"""Gaussians by context mixing in plain integers: what native/src/mixing_splats.h does, to the last digit.

It is the oracle of the tests, and what runs where nothing could be compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from ...native.mixing import READ
from ...native.mixing_splats import EXTRA, KINDS, NEAR, Job, Nearby
from .oracle import Oracle, hashed
from .tables import LOW, odds_place, squash, stretch

__all__ = ["columns", "nearby", "points"]

_WORD = (1 << 64) - 1
_PRIMES = (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xBF58476D1CE4E5B9)
_CELL, _SHELLS, _LOOKED, _PACE = 16, 3, 256, 400
_NUMBER, _REPEAT, _VECTOR, _LARGEST, _PART = range(5)
assert tuple(KINDS.values()) == (_NUMBER, _REPEAT, _VECTOR, _LARGEST, _PART)


def _chain(a: int, b: int, c: int = 0) -> int:
    return ((a * _PRIMES[0] + b) * _PRIMES[1] + c * _PRIMES[2]) & _WORD


def _quotient(a: int, b: int) -> int:
    """a / b rounded towards zero, as C does; b > 0."""
    return a // b if a >= 0 else -(-a // b)


def _within(x: int, most: int) -> int:
    return min(max(x, 0), most)


class _Spread:
    """Numbers that are spread about a centre: `SplatSpread`."""

    def __init__(self, centre: int, error: int, end: int) -> None:
        self.centre, self.rate = centre, (45426 << 16) // error
        self.low, self.high = self.below(0), self.below(end)

    def below(self, edge: int) -> int:
        """The probability of less than an edge, of 16 bits."""
        x = (2 * (edge - self.centre) - 1) * self.rate >> 16
        return int(squash()[LOW + min(max(x, -LOW), LOW - 1)])

    def odds(self, low: int, half: int, part: int) -> int:
        """Log odds of the upper half; part: of less than the middle."""
        whole = self.high - self.low
        if whole < 64:
            x = min(half * self.rate >> 15, 2000)
            return -x if self.centre < low else x
        p = ((self.high - part) << 16) // whole
        return int(stretch()[odds_place(min(max(p, 16), 65519))])


def _erred(error: int, distance: int) -> int:
    return error + (((min(abs(distance), 1 << 22) << 8) - error) >> 5)


# ---- positions


class _Points:
    """Boxes that are halved: `splat_points`."""

    def __init__(self, coder: Oracle, values: NDArray[np.uint32], groups: Sequence[int], bits: int) -> None:
        self.coder, self.values, self.bits = coder, values, bits
        self.boxes = [((0, 0, 0), owner, count) for owner, count in enumerate(groups)]
        self.errors = [256] * 256
        self.lefts: list[int] = []
        self.decisions = 0

    def code(self) -> None:
        """Codes all steps; what is read is written into the values."""
        alone = False
        for step in range(3 * self.bits):
            places = {} if alone else {(box, owner): i for i, (box, owner, _) in enumerate(self.boxes)}
            hits, at, self.lefts = 0, 0, []
            for i, (_, _, count) in enumerate(self.boxes):
                around = [0] * 5
                if not alone:
                    touching, around = self.around(places, i, step % 3)
                    hits += touching
                given = 0 if self.coder.role == READ else self.split(at, count, step)
                self.lefts.append(self.half(step, count, around, given))
                at += count
            self.boxes = self.halved(step % 3)
            n = len(self.boxes)
            alone = alone or (n > 1024 and hits * 8 < n)
        if self.coder.role == READ:
            corners = [box for box, _, count in self.boxes for _ in range(count)]
            self.values[:] = np.array(corners, np.uint32).reshape(-1, 3)

    def split(self, at: int, count: int, step: int) -> int:
        """How many of a box's points lie in its first half."""
        bit = self.values[at : at + count, step % 3] >> np.uint32(self.bits - 1 - step // 3) & np.uint32(1)
        return int((bit == 0).sum())

    def halved(self, axis: int) -> list[tuple[tuple[int, int, int], int, int]]:
        """The halves of all boxes that have points in them."""
        out = []
        for (box, owner, count), left in zip(self.boxes, self.lefts, strict=True):
            for half, part in ((0, left), (1, count - left)):
                if part:
                    corner = [box[0], box[1], box[2]]
                    corner[axis] = corner[axis] * 2 + half
                    out.append(((corner[0], corner[1], corner[2]), owner, part))
        return out

    def around(self, places: dict[tuple[tuple[int, int, int], int], int], i: int, axis: int) -> tuple[int, list[int]]:
        """How many boxes touch a box, and the points in them: before, behind, first halves, second ones, others."""
        box, owner, _ = self.boxes[i]
        hits, out = 0, [0] * 5
        for k in range(6):
            corner = list(box)
            corner[k >> 1] = (corner[k >> 1] + (1 if k & 1 else -1)) & 0xFFFFFFFF
            j = places.get(((corner[0], corner[1], corner[2]), owner), -1)
            if j < 0:
                continue
            hits += 1
            count = self.boxes[j][2]
            if k >> 1 == axis:
                out[k & 1] += count
            elif j < i:
                out[2] += self.lefts[j]
                out[3] += count - self.lefts[j]
            else:
                out[4] += count
        return hits, out

    def half(self, step: int, count: int, around: list[int], given: int) -> int:
        """Codes how many points lie in the first half."""
        low, high, first, second, _ = around
        before, behind = low + 2 * first + 2, high + 2 * second + 2
        centre = count * before // (before + behind)
        error = count.bit_length() * 8 + (low + high + first + second).bit_length() // 4 % 8
        if count == 1 and not any(around):
            left = self.coder.plain(given)
        else:
            left = self.counted(step, count, around, given, _Spread(centre, self.errors[error] + 16, count + 1))
        self.errors[error] = _erred(self.errors[error], left - centre)
        return left

    def contexts(self, step: int, count: int, around: list[int]) -> list[int]:
        """The contexts of a box."""
        c = count if count < 15 else 14 + (count >> 3).bit_length()
        low, high, first, second, beside = (x if x < 4 else 4 if x < 8 else 5 if x < 32 else 6 for x in around)
        where, few = step * 64 + c, [min(x, 3) for x in around]
        return [
            _chain(where, 0),
            _chain(c, low * 8 + high, 1),
            _chain(c, first * 8 + second, 2),
            _chain(c, (low * 8 + high) * 64 + first * 8 + second, 3),
            _chain(where, (few[0] * 4 + few[1]) * 16 + few[2] * 4 + few[3], 4),
            _chain(c, (beside * 8 + low) * 8 + high, 5 + step % 3),
            _chain(c, (beside * 8 + first) * 8 + second, 8 + step % 3),
        ]

    def counted(self, step: int, count: int, around: list[int], given: int, spread: _Spread) -> int:
        """Codes a number of 0 to `count`, from its highest bit."""
        coder, contexts = self.coder, self.contexts(step, count, around)
        sort = count - 1 if count < 5 else 4 if count < 9 else 5 if count < 17 else 6 if count < 257 else 7
        few = [min(x, 3) for x in around]
        places = ((few[0] * 4 + few[1]) * 4 + few[2]) * 4 + few[3]
        made, left, group = 0, count.bit_length(), 0
        while left:
            coder.open([hashed(k, _chain(value, made, group)) for k, value in enumerate(contexts)])
            node = 1
            while node < 16 and left:
                left -= 1
                low = made << (left + 1)
                middle, bit = low + (1 << left), 0
                if middle <= count:
                    part = spread.below(middle)
                    coder.extra[0] = spread.odds(low, middle - low, part)
                    coder.set = [
                        sort * 64 + min(group, 3) * 16 + node,
                        512 + step * 8 + sort,
                        1280 + places * 4 + min(count, 3),
                    ]
                    coder.last = sort * 16 + node
                    coder.refine = [places * 4 + min(count, 3), 1024 + sort * 32 + (coder.extra[0] + LOW) // 192]
                    self.decisions += 1
                    bit = coder.code(node, given >> left & 1)
                    if bit:
                        spread.low = part
                    else:
                        spread.high = part
                node, made = node * 2 + bit, made * 2 + bit
            group += 1
        return made


def points(coder: Oracle, values: NDArray[np.uint32], groups: Sequence[int], bits: int) -> int:
    """Codes points in place: `native.mixing_splats.points`."""
    job = _Points(coder, values, groups, bits)
    job.code()
    return job.decisions


# ---- rows nearby


def _shell(r: int) -> list[tuple[int, int, int]]:
    span = range(-r, r + 1)
    return [(x, y, z) for z in span for y in span for x in span if max(abs(x), abs(y), abs(z)) == r]


def nearby(places: NDArray[np.uint32], shift: int) -> Nearby:
    """The rows near each row: `native.mixing_splats.nearby`."""
    out, cells, shells = Nearby.new(len(places)), {}, [_shell(r) for r in range(_SHELLS + 1)]
    rows = [(int(x), int(y), int(z)) for x, y, z in places.tolist()]
    for i, place in enumerate(rows):
        cell = tuple(x >> shift for x in place)
        best: list[tuple[int, int]] = []
        looked = 0
        for r, shell in enumerate(shells):
            for step in shell:
                if looked >= _LOOKED:
                    break
                other = tuple((a + b) & 0xFFFFFFFF for a, b in zip(cell, step, strict=True))
                for j in cells.get(other, ())[: -_CELL - 1 : -1]:
                    looked += 1
                    best.append((sum((a - b) ** 2 for a, b in zip(place, rows[j], strict=True)), j))
            best = sorted(best, key=lambda pair: pair[0])[:NEAR]  # stable: of equals the one that was seen first
            if looked >= _LOOKED or (len(best) == NEAR and best[-1][0] <= (r << shift) ** 2):
                break
        if not best and i:
            best = [(1 << 50, i - 1)]
        first = isqrt(best[0][0]) + 1 if best else 1 << 26
        for k, (distance, j) in enumerate(best):
            out.rows[i, k] = j
            out.weights[i, k] = 256 * first // (isqrt(distance) + 1)
        size = first.bit_length()
        out.far[i] = min(31, 2 * size + (first >> (size - 2) & 1 if size > 1 else 0))
        cells.setdefault(cell, []).append(i)
    return out


# ---- columns


class _Row:
    """A row that is coded: `SplatRow`."""

    def __init__(self, job: Job, values: list[list[int]], i: int) -> None:
        self.i = i
        self.index = [int(j) for j in job.nearby.rows[i] if j >= 0]
        self.near = [values[j] for j in self.index]
        self.weight = [int(w) for w in job.nearby.weights[i, : len(self.index)]]
        self.total, self.far = sum(self.weight), int(job.nearby.far[i])
        self.turned: list[list[int]] = [[], [], []]
        self.mean = [0] * job.values.shape[1]
        self.repeats = self.part = self.beginning = 0
        self.largest = -1


class _Columns:
    """Columns, row by row: `splat_columns`."""

    def __init__(self, coder: Oracle, job: Job) -> None:
        self.coder, self.job, self.reading = coder, job, coder.role == READ
        self.bits, self.kind = job.bits.tolist(), job.kind.tolist()
        self.links, self.width = job.links.tolist(), job.values.shape[1]
        self.values = job.values.view(np.uint32).tolist()
        self.known, self.known_at = job.known.tolist(), job.known_at.tolist()

    def code(self) -> None:
        """Codes all rows in place."""
        job = self.job
        for i, values in enumerate(self.values):
            row = _Row(job, self.values, i)
            for c in range(job.first):
                row.mean[c] = self.mean(row, c, self.nearby(row, c))
            for c in range(job.first, job.last):
                cell = _Cell(self, row, values, c)
                values[c] = cell.coded(0 if self.reading else values[c])
                cell.learned(values[c])
                self.told(row, values, c)
        job.values.view(np.uint32)[:] = self.values

    def told(self, row: _Row, values: list[int], c: int) -> None:
        """A value is known: what follows from it for the columns behind it."""
        value, kind = values[c], self.kind[c]
        if kind == _REPEAT:
            row.repeats = value
        elif kind == _VECTOR:
            if not row.repeats:
                self.note(row, c, value)
            row.beginning = hashed(row.beginning, value)
        elif kind == _LARGEST:
            row.largest = value
            self.turn_nearby(row, self.bits[c + 1])
        elif kind == _PART:
            row.part += 1
            if row.part == 3:
                self.turn(row, values[c - 2 : c + 1], self.bits[c])

    def nearby(self, row: _Row, c: int) -> list[int]:
        """The values of rows nearby in a column."""
        if c >= self.job.first and self.kind[c] == _PART:
            return list(row.turned[row.part])
        return [values[c] for values in row.near]

    def mean(self, row: _Row, c: int, near: list[int]) -> int:
        """The mean of rows nearby."""
        if not near:
            return 1 << (self.bits[c] - 1)
        return (row.total // 2 + sum(w * v for w, v in zip(row.weight, near, strict=True))) // row.total

    # ---- rotations

    def turn_nearby(self, row: _Row, bits: int) -> None:
        """The rotations of rows nearby, turned so that their largest part is that of this row."""
        for j in row.index:
            q = self.job.turns[j].tolist()
            others = [p for p in range(4) if p != row.largest]
            for k, p in enumerate(others):
                t = -q[p] if q[row.largest] < 0 else q[p]
                row.turned[k].append(_within((t >> (16 - bits)) + (1 << (bits - 1)), (1 << bits) - 1))

    def turn(self, row: _Row, parts: list[int], bits: int) -> None:
        """The rotation of a row, in full."""
        numbers = [(2 * v + 1 - (1 << bits)) << (15 - bits) for v in parts]
        left = max(0, (1 << 31) - sum(t * t for t in numbers))
        numbers.insert(row.largest, isqrt(left))
        self.job.turns[row.i] = numbers

    # ---- vectors

    def noted(self, row: _Row, c: int, depth: int, made: int) -> int:
        """The bit at which a beginning of a vector is noted."""
        return hashed(c * 64 + depth, _chain(row.beginning, made)) >> (64 - self.job.seen.bits)

    def seen(self, row: _Row, c: int, depth: int, made: int) -> int:
        """Whether a vector began like that."""
        at = self.noted(row, c, depth, made)
        return int(self.job.seen.table[at >> 5]) >> (at & 31) & 1

    def note(self, row: _Row, c: int, value: int) -> None:
        """The beginnings of a new vector are noted, bit by bit."""
        seen = self.job.seen
        for depth in range(self.bits[c]):
            left = self.bits[c] - 1 - depth
            if seen.left > 0 and self.occurs(c, left, value >> (left + 1)) == 3:
                at = self.noted(row, c, depth, value >> left)
                seen.table[at >> 5] |= np.uint32(1 << (at & 31))
                seen.left -= 1

    def occurs(self, c: int, left: int, made: int) -> int:
        """The bits that occur at all in the column: 1, 2, or 3 for both."""
        if self.known_at[c] < 0:
            return 3
        at, half = self.known_at[c] + (made << (left + 1)), 1 << left
        low, middle, high = self.known[at], self.known[at + half], self.known[at + 2 * half]
        return int(middle > low) | int(high > middle) << 1 or 3

    def possible(self, row: _Row, c: int, depth: int, left: int, made: int) -> int:
        """The bits that are possible: 1, 2, or 3 for both."""
        out = self.occurs(c, left, made)
        if out != 3 or not row.repeats or self.kind[c] != _VECTOR:
            return out
        return self.seen(row, c, depth, 2 * made) | self.seen(row, c, depth, 2 * made + 1) << 1 or 3


class _Cell:
    """A column of the row that is coded: `SplatCell`."""

    def __init__(self, model: _Columns, row: _Row, values: list[int], c: int) -> None:
        self.model, self.row, self.c, self.bits = model, row, c, model.bits[c]
        most, self.down = (1 << self.bits) - 1, max(0, self.bits - 8)
        near = model.nearby(row, c)
        mean = row.mean[c] = model.mean(row, c, near)
        prior = int(model.job.prior[c])
        expected = [mean if prior < 0 else other[prior] for other in row.near]
        differ = sum(w * abs(v - x) for w, v, x in zip(row.weight, near, expected, strict=True))
        differ = 4 * differ // row.total if row.total else most
        self.spread = min(10, (differ >> self.down).bit_length())
        self.near = near + [mean] * (NEAR - len(near))
        if prior >= 0:
            self.near = [_within(values[prior], most), *self.near[:-1]]
        self.link, off = [0] * 3, [0] * 3
        for k, origin in enumerate(model.links[c]):
            if origin < 0:
                continue
            bits = model.bits[origin]
            self.link[k] = values[origin] >> max(0, bits - 8)
            apart = values[origin] - row.mean[origin]
            off[k] = apart >> (bits - self.bits) if bits > self.bits else apart << (self.bits - bits)
        self.fine = max(0, self.bits - 16)
        self.part = [x >> self.fine for x in (*off, *(v - mean for v in self.near[:4]))]
        self.part += [(mean - ((most + 1) >> 1)) >> self.fine >> 2, (most + 1) >> self.fine >> 5]
        slopes = model.job.slopes[c].tolist()
        total = (1 << 15) + sum(x * w for x, w in zip(self.part, slopes, strict=False))
        fitted = _within(mean + ((total >> 16) << self.fine), most)
        self.centre = [fitted, self.near[0], _within(mean + off[0], most)]

    def contexts(self) -> list[int]:
        """The contexts of the column."""
        c, d, row, (l0, l1, l2) = self.c, self.down, self.row, self.link
        guess, n0 = self.centre[2] >> d, self.near[0] >> d
        own = self.model.kind[c] == _VECTOR
        return [
            _chain(c, 0),
            _chain(c, guess, 1),
            _chain(c, (l0 >> 1) * 256 + (l1 >> 2), 2),
            _chain(c, ((l0 >> 2) * 256 + (l1 >> 3)) * 256 + (l2 >> 3), 3),
            _chain(c, (l0 >> 2) * 32 + row.far, 4),
            _chain(c, row.beginning, 5 + row.repeats)
            if own
            else _chain(c, (self.near[1] >> d >> 2) * 64 + (n0 >> 2), 5),
        ]

    def coded(self, value: int) -> int:
        """Codes the value, from its highest bit, in groups of four bits."""
        errors = self.model.job.errors[self.c, :EXTRA, self.spread].tolist()
        spreads = [_Spread(x, e + 32, 1 << self.bits) for x, e in zip(self.centre, errors, strict=True)]
        contexts, coder = self.contexts(), self.model.coder
        made, left, group, skipped = 0, self.bits, 0, False
        while left:
            node, opened = 1, False
            while node < 16 and left:
                left -= 1
                depth = self.bits - 1 - left
                possible = self.model.possible(self.row, self.c, depth, left, made)
                bit = possible >> 1
                if possible == 3:
                    if not opened:
                        coder.open([hashed(k, _chain(v, made, group)) for k, v in enumerate(contexts)])
                        opened = True
                    parts = self.odds(spreads, made, left, skipped)
                    self.chosen(made, left, group, node)
                    bit = coder.code(node, value >> left & 1)
                    for spread, part in zip(spreads, parts, strict=True):
                        if bit:
                            spread.low = part
                        else:
                            spread.high = part
                skipped = possible != 3
                node, made = node * 2 + bit, made * 2 + bit
            group += 1
        return made

    def odds(self, spreads: list[_Spread], made: int, left: int, skipped: bool) -> list[int]:
        """Gives the mixer what each centre expects; returns the probabilities of less than the middle."""
        low, half, parts = made << (left + 1), 1 << left, []
        for k, spread in enumerate(spreads):
            if skipped:
                spread.low, spread.high = spread.below(low), spread.below(low + 2 * half)
            parts.append(spread.below(low + half))
            self.model.coder.extra[k] = spread.odds(low, half, parts[-1])
        return parts

    def chosen(self, made: int, left: int, group: int, node: int) -> None:
        """Chooses the mixer's sets of weights and refinements."""
        coder, c, width, row = self.model.coder, self.c, self.model.width, self.row
        deep, agree = min(15, self.bits - 1 - left), 0
        for v in self.near[:3]:
            agree = agree * 3 + (1 + (v >> left & 1) if v >> (left + 1) == made else 0)
        coder.set = [
            c * 64 + min(group, 3) * 16 + node,
            width * 64 + (c * 16 + deep) * 11 + self.spread,
            width * 240 + (row.repeats * 16 + deep) * 32 + row.far,
        ]
        coder.last = c * 16 + deep
        coder.refine = [c * 27 + agree, width * 27 + deep * 32 + (coder.extra[0] + LOW) // 192]

    def learned(self, value: int) -> None:
        """The value is known: errors and corrections move."""
        job, c = self.model.job, self.c
        for k, centre in enumerate(self.centre):
            job.errors[c, k, self.spread] = _erred(int(job.errors[c, k, self.spread]), value - centre)
        unit, error = ((1 << (self.bits - self.fine)) >> 5) + 1, (value - self.centre[0]) >> self.fine
        norm = unit * unit + sum(x * x for x in self.part)
        move = _quotient(error * _PACE * (1 << 16), norm)
        for k, x in enumerate(self.part):
            w = int(job.slopes[c, k]) + (move * x >> 16)
            job.slopes[c, k] = min(max(w, -(1 << 18)), 1 << 18)


def columns(coder: Oracle, job: Job) -> None:
    """Codes the columns of a job in place: `native.mixing_splats.columns`."""
    _Columns(coder, job).code()
