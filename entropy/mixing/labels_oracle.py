"""The twin of native/src/mixing_labels.h in plain integers: label maps, one decision at a time.

Names and order are those of the kernel; what it leaves in the tables is the same, to the last digit.
"""

from __future__ import annotations

from ...native.mixing import READ
from ...native.mixing_labels import SOURCES, Tables
from .oracle import Oracle, hashed
from .tables import stretch

__all__ = ["LabelOracle"]

_WORD = (1 << 64) - 1
_PRIME = 0x9E3779B97F4A7C15
_NEIGHBOURS, _NEAR = 6, 16
_SETS = 1024
_UPTO = (2, 4, 6, 10, 12, 16)


def _chain(h: int, *values: int) -> int:
    for value in values:
        h = ((h ^ ((value + 1) & _WORD)) * _PRIME + (h >> 47)) & _WORD
    return h


def _log(n: int) -> int:
    return n if n < 4 else 4 if n < 6 else 5 if n < 10 else 6 if n < 20 else 7


def _odds(p: int) -> int:
    """The place of a probability of 16 bits in `stretch`."""
    return p if p < 4096 else p - 53760 if p >= 61440 else 3840 + (p >> 4)


class LabelOracle:
    """Label maps that an `Oracle` writes, reads or prices. The arguments are those of `native.mixing_labels.labels`."""

    def __init__(
        self,
        coder: Oracle,
        shape: tuple[int, int, int],
        alphabet: int,
        kind: int,
        candidates: int,
        deep: bool,
        t: Tables,
    ) -> None:
        self.coder, self.alphabet, self.kind, self.candidates, self.deep = coder, alphabet, kind, candidates, deep
        self.shape = shape
        self.stride = shape[2] + 8
        self.sheet = (shape[1] + 5) * self.stride
        self.tables = t
        self.pads, self.seen = t.pads.ravel().tolist(), t.seen.ravel().tolist()
        self.past, self.hits = t.past.ravel().tolist(), t.hits.tolist()
        self.seen_bits = t.seen.shape[1].bit_length() - 1
        self.bits = max(1, (alphabet - 1).bit_length())
        self.sources = _NEIGHBOURS if kind else SOURCES
        self.stretch = stretch().tolist()
        self.decisions = 0
        self.fresh = self.match = self.length = self.run = self.ahead = self.above = 0
        self.slot, self.check, self.place = [0, 0], [0, 0], [0, 0]

    def code(self, labels: list[list[list[int]]] | None) -> list[list[list[int]]]:
        """The labels, given or read; what was learned goes into the tables."""
        sheets, height, width = self.shape
        out = []
        for z in range(sheets):
            top, earlier = (z & 1) * self.sheet, (~z & 1) * self.sheet
            self.pads[top : top + self.sheet] = [0] * self.sheet
            rows = []
            for y in range(height):
                at = top + (y + 3) * self.stride + 4
                self.pads[at - 4 : at] = [self.pads[at - self.stride]] * 4
                self.match = self.length = 0
                given = None if labels is None else labels[z][y]
                rows.append(self._row(at, top, earlier, width, given))
                self.pads[at + width : at + width + 4] = [rows[-1][-1]] * 4
            out.append(rows)
        t = self.tables
        t.pads.ravel()[:], t.seen.ravel()[:], t.past.ravel()[:] = self.pads, self.seen, self.past
        t.hits[:] = self.hits
        return out

    def _row(self, at: int, top: int, earlier: int, width: int, given: list[int] | None) -> list[int]:
        pads, stride, row = self.pads, self.stride, []
        run = end = 0
        for x in range(width):
            self._near(at)
            near = self.near
            if self.kind:
                self._picture()
            else:
                run = run + 1 if x and near[0] == near[4] else 0
                if x == end:
                    end += 1
                    while end < width and pads[at + end - x - stride] == near[1]:
                        end += 1
                same = near[1] == near[5]
                self.run, self.ahead, self.above = _log(run), _log(end - x), same + (same and near[5] == near[11])
                before = earlier + at - top if self.deep else None
                self._map(x)
                self._lookup(at, top)
                if before is not None:
                    self._deep(before)
                self._sources(before)
            self._rank()
            if not self.kind:
                self._late()
            label = self._label(-1 if given is None or self.coder.role == READ else given[x])
            self._learn(label, at - top)
            pads[at] = label
            row.append(label)
            at += 1
        return row

    # ---- contexts

    def _near(self, at: int) -> None:
        p, n = self.pads, at - self.stride
        nn, nnn = n - self.stride, n - 2 * self.stride
        places = (at - 1, n, n - 1, n + 1, at - 2, nn, nn + 1, nn - 1, n - 2, n + 2, at - 3, nnn, nn - 2, nn + 2, n - 3)
        self.near = near = [p[i] for i in (*places, n + 3)]
        self.distinct: list[int] = []
        self.digit = []
        for i, label in enumerate(near):
            if label not in self.distinct and i < _NEIGHBOURS:
                self.distinct.append(label)
            self.digit.append(self.distinct.index(label) if label in self.distinct else _NEIGHBOURS)
        self.pattern = self.digit[1] | self.digit[2] << 1 | self.digit[3] << 3

    def _picture(self) -> None:
        near = self.near
        west, north = _chain(0, near[0]), _chain(1, near[1])
        self.value = [
            west,
            north,
            _chain(2, near[3]),
            _chain(west, near[2], near[1], near[3]),
            _chain(west, near[4], 0),
            _chain(north, near[5], 0),
            _chain(west, near[2], 1),
        ]

    def _map(self, x: int) -> None:
        near, h, i, v = self.near, 0, 0, []
        for stop in _UPTO:
            h = _chain(h, *near[i:stop])
            i = stop
            v.append(h)
        first = second = 0
        for digit in self.digit[1:10]:
            first = first * 8 + digit
        for digit in self.digit[10:]:
            second = second * 8 + digit
        v += [_chain(1, near[0], near[4], near[10]), _chain(2, near[1], near[5], near[11])]
        v += [_chain(3, near[0], near[1], near[3]), _chain(4, first), _chain(5, first, second)]
        v += [_chain(6, self.pattern << 9 | self.run << 6 | self.ahead << 3 | self.above), _chain(7, x, near[1]), 0, 0]
        self.value = v

    def _deep(self, b: int) -> None:
        p, near, stride = self.pads, self.near, self.stride
        around = (1, stride, -1, -stride, stride + 1, stride - 1, 2, 2 * stride)
        others, same, first = [p[b + i] for i in around], 0, 0
        h = _chain(8, p[b])
        v = [_chain(h, near[0], near[1])]
        h = _chain(h, *others[:2])
        v.append(_chain(h, near[0], near[1]))
        h = _chain(h, *others[2:6])
        v.append(h)
        for label in (*others, *near[:6]):
            same = same * 2 + (label == p[b])
        for digit in self.digit[1:7]:
            first = first * 8 + digit
        self.value += [*v, _chain(9, same, first), _chain(h, *near[:6]), _chain(10, same, self.pattern)]

    def _lookup(self, at: int, top: int) -> None:
        p, stride, mask = self.pads, self.stride, (1 << self.seen_bits) - 1
        for i in range(2):
            h = hashed(64 + i, self.value[5 if i else 2])
            self.slot[i], self.check[i] = (i << self.seen_bits) + (h & mask), h >> 32
        h = _chain(self.value[5], p[at - 4])
        self.place[0] = hashed(66, h) & mask
        h = _chain(h, *(p[at - i] for i in range(5, 9)), p[at - stride - 4], p[at - stride + 4])
        h = _chain(h, *(p[at - 2 * stride + i] for i in range(-3, 4)))
        self.place[1] = (1 << self.seen_bits) + (hashed(67, h) & mask)
        for i in (1, 0):
            past, length = self.past[self.place[i]], 0
            if self.match or past < 1 or past >= at - top:
                continue
            other = top + past
            while length < 16 and p[other - length - 1] == p[at - length - 1]:
                length += 1
            if length >= 4 and p[other - stride] == p[at - stride]:
                self.match, self.length = other, length

    # ---- guesses

    def _sources(self, b: int | None) -> None:
        p, near, stride = self.pads, self.near, self.stride
        guess, state = [-1] * SOURCES, [0] * SOURCES
        for i in range(2):
            entry = self.seen[self.slot[i]]
            if entry and entry >> 32 == self.check[i]:
                guess[6 + i], state[6 + i] = entry >> 8 & 0xFFFF, entry & 63
        if self.match:
            guess[8] = p[self.match]
        state[8] = self.length if self.length < 32 else 32 + _log(self.length // 32)
        if b is not None:
            guess[9], guess[10] = p[b], p[b + stride] if p[b] == near[1] else p[b + 1]
            equal = (
                p[b - 1] == near[0],
                p[b - stride] == near[1],
                p[b] == near[0],
                p[b] == near[1],
                p[b + 1] == p[b],
                p[b + stride] == p[b],
            )
            state[9] = state[10] = sum(e << i for i, e in enumerate(equal))
        guess[11] = self.fresh if self.fresh < self.alphabet else -1
        state[11] = self.pattern
        self.guess, self.state = guess, state

    def _rank(self) -> None:
        if self.kind:
            self.guess, self.state = [-1] * _NEIGHBOURS, [0] * _NEIGHBOURS
        for i in range(_NEIGHBOURS):
            self.guess[i] = self.near[i]
            self.state[i] = self.pattern | (i >= 4 and self.digit[i] == 0) << 5
        best: dict[int, int] = {}
        total: dict[int, int] = {}
        for i in range(self.sources):
            if self.guess[i] < 0:
                continue
            p, label = self.hits[i][self.state[i]], self.guess[i]
            best[label] = max(best.get(label, 0), p)
            total[label] = total.get(label, 0) + (p >> 3)
        ranked = list(best)
        score = [best[label] + total[label] for label in ranked]
        for i in range(min(4, len(ranked))):
            top = max(range(i, len(ranked)), key=lambda j: (score[j], -j))
            ranked[i], ranked[top] = ranked[top], ranked[i]
            score[i], score[top] = score[top], score[i]
        self.ranked, self.score = ranked, score

    def _late(self) -> None:
        more = len(self.ranked) > 1
        self.value[13] = _chain(11, _log(self.length // 4), self.guess[8], self.near[0])
        gap = (self.score[0] - self.score[1]) >> 12 if more else 32
        self.value[14] = _chain(12, self.ranked[0], self.ranked[1] if more else -1, gap)

    # ---- decisions

    def _open(self, first: int, prefix: int) -> None:
        self.coder.open([hashed(first + i, _chain(value, prefix)) for i, value in enumerate(self.value)])

    def _label(self, label: int) -> int:
        tried = 0
        if self.candidates:
            self._open(0, 0)
            while tried < min(self.candidates, len(self.ranked), self.alphabet - 1):
                if self._candidate(tried, label):
                    return self.ranked[tried]
                tried += 1
        return self._spelled(tried, label)

    def _candidate(self, k: int, label: int) -> int:
        coder, guess = self.coder, self.ranked[k]
        d = self.distinct.index(guess) if guess in self.distinct else _NEIGHBOURS
        same = sum((self.near[i] == guess) << i for i in range(8))
        follows = last = 0
        if not self.kind:
            follows = 1 + (self.guess[8] == guess) if self.match else 0
            last = 0 if self.guess[7] < 0 else 1 + (self.guess[7] == guess)
        later = int(k > 0)
        longest = _log(self.length // 4) if follows else 0
        coder.set = [
            later * 256 + d * 32 + self.pattern,
            _SETS + ((later * 3 + follows) * 3 + last) * 8 + longest,
            2 * _SETS + (later * 8 + self.run) * 8 + self.ahead,
        ]
        coder.last = (later + (k > 1)) * 8 + d
        coder.refine = [later * 256 + same, 512 + later * 32 + (self.score[k] >> 13)]
        coder.extra = [self.stretch[_odds(min(65535, self.score[k]))]]
        self.decisions += 1
        return coder.code(1 + d + 7 * later, int(label == guess))

    def _spelled(self, tried: int, label: int) -> int:
        coder, prefix, left, group = self.coder, 0, self.bits, 0
        following = self.ranked[tried] if tried < len(self.ranked) else -1
        sure = 0 if following < 0 else min(7, self.score[tried] >> 13)
        while left:
            self._open(32 * (group + 1), prefix)
            node, later = 1, int(group > 0)
            while node < 16 and left:
                left -= 1
                start = prefix << (left + 1)
                half, stop = start + (1 << left), start + (2 << left)
                low, high = half - start, min(stop, self.alphabet) - half
                low -= sum(start <= v < half for v in self.ranked[:tried])
                high -= sum(half <= v < stop for v in self.ranked[:tried])
                bit = int(high > 0)
                if low > 0 and high > 0:
                    expected = 0
                    if following >= 0 and following >> (left + 1) == prefix:
                        expected = 1 + (following >> left & 1)
                    coder.set = [
                        512 + later * 256 + (16 if group > 1 else 0) + node,
                        _SETS + 256 + (later * 3 + expected) * 8 + sure,
                        2 * _SETS + 256 + min(7, left) * 32 + self.pattern,
                    ]
                    coder.last = 32 + later * 16 + node
                    coder.refine = [576 + expected * 8 + sure, None]
                    odds = self.stretch[_odds(32768 + 4095 * sure)]
                    coder.extra = [(2 * expected - 3) * odds if expected else 0]
                    self.decisions += 1
                    bit = coder.code(node, label >> left & 1)
                node, prefix = 2 * node + bit, 2 * prefix + bit
            group += 1
        return prefix

    def _learn(self, label: int, at: int) -> None:
        for i in range(self.sources):
            if self.guess[i] >= 0:
                hits, state = self.hits[i], self.state[i]
                hits[state] += ((65535 if label == self.guess[i] else 0) - hits[state]) >> 5
        if self.kind:
            return
        for i in range(2):
            entry = self.seen[self.slot[i]]
            again = entry and entry >> 32 == self.check[i] and entry >> 8 & 0xFFFF == label
            often = min(63, (entry & 63) + 1) if again else 1
            self.seen[self.slot[i]] = self.check[i] << 32 | label << 8 | often
            self.past[self.place[i]] = at
        if self.match and self.pads[self.match] == label:
            self.match, self.length = self.match + 1, self.length + 1
        else:
            self.match = self.length = 0
        self.fresh = max(self.fresh, label + 1)
