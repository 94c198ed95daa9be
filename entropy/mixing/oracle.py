"""The mixing coder in plain integers, one decision at a time: what native/src/mixing.h does, to the last digit.

It is the oracle of the tests, and what runs where nothing could be compiled: about a thousandth as fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import StreamError
from ...native.mixing import PRICE, READ, WRITE, ends_well
from .mixer import Mixer
from .tables import LOW, odds_place, price, squash, stretch

__all__ = ["Oracle", "hashed"]

_WORD = (1 << 64) - 1
_HEAVY = (1 << 22) - 1
_EMPTY = [0] + [1 << 31] * 15


def hashed(context: int, value: int) -> int:
    """The hash of a value of one of the contexts: 64 bits."""
    h = ((value + context * 0x9E3779B97F4A7C15) * 0xD6E8FEB86659FD93) & _WORD
    h ^= h >> 29
    h = (h * 0xBF58476D1CE4E5B9) & _WORD
    return h ^ (h >> 32)


class Oracle:
    """A stream of decisions that is written, read or priced. mixer: what was learned; it is changed in place.

    role: WRITE, READ or PRICE. data: the stream to read. A model sets `extra`, `set` (of each choice, counted through
    all sets), `last` and `refine` (rows, None where there is none) before each decision, as in native/src/mixing.h.
    """

    def __init__(self, role: int, mixer: Mixer, data: bytes = b"") -> None:
        self.role, self.mixer, plan, rates = role, mixer, mixer.plan, mixer.plan.rates
        self.n_contexts, self.n_choices = plan.contexts, len(plan.sets)
        self.extra, self.set = [0] * plan.extra, [0] * self.n_choices
        self.last = 0
        self.refine: list[int | None] = [None, None]
        self._stretch, self._squash, self._price = stretch().tolist(), squash().tolist(), price().tolist()
        self._step, self._trust = rates.step().tolist(), rates.trust().tolist()
        self._lean, self._pace = rates.weights_of_lean().tolist(), rates.pace().tolist()
        self._lines: list[int | None] = []
        self._out, self._data, self._at = bytearray(), data, 0
        self._low, self._range, self._code = 0, _WORD, 0
        self._bits = 0
        if role == READ:
            for _ in range(8):
                self._code = self._code << 8 | self._next()

    @property
    def bits(self) -> float:
        """The bits of all decisions that were priced."""
        return self._bits / (1 << 16)

    # ---- contexts

    def open(self, hashes: Sequence[int]) -> None:
        """A group of decisions begins, with the hash of each context."""
        self._lines = [self._line(h) for h in hashes]

    def _line(self, h: int) -> int | None:
        """The index of the line of a hash; None for none."""
        lines = self.mixer.lines
        check, at = (h & 0xFFFF) | 0x10000, (h >> 32) & (len(lines) - 1)
        first, second = lines[at], lines[at ^ 1]
        if int(first[0]) == check:
            return at
        if int(second[0]) == check:
            return at ^ 1
        if self.mixer.frozen:
            return None
        if first[0] and (not second[0] or (int(second[1]) & 1023) < (int(first[1]) & 1023)):
            at ^= 1
        lines[at] = _EMPTY
        lines[at, 0] = check
        return at

    def _cell(self, k: int, node: int) -> int:
        at = self._lines[k]
        return 1 << 31 if at is None else int(self.mixer.lines[at, node])

    # ---- decisions

    def code(self, node: int, bit: int = 0) -> int:
        """One decision, in a node (1 to 15) of the group's lines. Returns the bit: the one given, or that is read."""
        mixer, n = self.mixer, self.n_contexts
        cells = [self._cell(k, node) for k in range(n)]
        x = [0] * mixer.plan.inputs
        for k, cell in enumerate(cells):
            x[k] = (self._stretch[odds_place(cell >> 16)] * self._trust[cell & 1023]) >> 8
            x[n + k] = (((cell >> 16) - 32768) * self._lean[cell & 1023]) >> 16
        x[2 * n : 2 * n + len(self.extra)] = self.extra
        x[2 * n + len(self.extra)] = 256
        y = []
        for index in self.set:
            weights = mixer.weights[index].tolist()
            y.append(_clipped(sum(((w >> 4) * v) >> 8 for w, v in zip(weights, x, strict=True)) >> 8))
        p = [self._squash[v + LOW] for v in y]
        last = mixer.finals[self.last].tolist()
        joined = _clipped(sum(((w >> 4) * v) >> 8 for w, v in zip(last, y, strict=True)) >> 8)
        plain = self._squash[joined + LOW]
        place, part = divmod(joined + LOW, 192)
        rows = [row for row in self.refine if row is not None]
        total = plain
        for row in rows:
            low, high = (int(v) for v in mixer.refined[row, place : place + 2])
            total += (low * (192 - part) + high * part) // 192
        total = (total + plain) >> 2 if len(rows) == 2 else total >> len(rows)
        bit = self._coded(bit, min(max(total, 1), 65535))
        if not mixer.frozen:
            self._learn(node, bit, cells, x, y, p, plain, place, rows)
        return bit

    def plain(self, bit: int = 0) -> int:
        """One decision of which nothing is known, as likely as not. Returns the bit: given, or read."""
        return self._coded(bit, 1 << 15)

    def _learn(
        self,
        node: int,
        bit: int,
        cells: list[int],
        x: list[int],
        y: list[int],
        p: list[int],
        plain: int,
        place: int,
        rows: list[int],
    ) -> None:
        mixer, rates, target = self.mixer, self.mixer.plan.rates, bit << 16
        for row in rows:
            for i in (place, place + 1):
                value = int(mixer.refined[row, i])
                mixer.refined[row, i] = value + ((65535 * bit - value) >> rates.refine_by)
        error = ((target - plain) * self._pace[int(mixer.final_ages[self.last])]) >> 8
        _moved(mixer.finals[self.last], y, error)
        mixer.final_ages[self.last] = min(1023, int(mixer.final_ages[self.last]) + 1)
        for k, index in enumerate(self.set):
            error = ((target - p[k]) * self._pace[int(mixer.ages[index])]) >> 8
            _moved(mixer.weights[index], x, error)
            mixer.ages[index] = min(1023, int(mixer.ages[index]) + 1)
        for k, cell in enumerate(cells):
            at = self._lines[k]
            if at is None:
                continue
            count, q = cell & 1023, cell >> 10
            q += ((target - (q >> 6)) * self._step[count]) >> 9
            q = min(max(q, 0), (1 << 22) - 1)
            mixer.lines[at, node] = q << 10 | (count + (count < rates.limit))

    # ---- the stream

    def _coded(self, bit: int, p: int) -> int:
        if self.role == PRICE:
            self._bits += self._price[(p if bit else 65536 - p) >> 4]
            return bit
        bound = (self._range >> 16) * p
        if self.role == READ:
            bit = int(self._code < bound)
            if not bit:
                self._code -= bound
        elif not bit:
            self._low += bound
            if self._low > _WORD:
                self._low &= _WORD
                self._carry()
        self._range = bound if bit else self._range - bound
        if self._range >> 32 == 0:
            self._range <<= 32
            if self.role == READ:
                for _ in range(4):
                    self._code = self._code << 8 | self._next()
            else:
                self._out += (self._low >> 32).to_bytes(4, "big")
                self._low = (self._low << 32) & _WORD
        return bit

    def _next(self) -> int:
        byte = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        if self._at > len(self._data) + 8:
            raise StreamError("a mixed stream ends too early: the file is damaged")
        return byte

    def _carry(self) -> None:
        at = len(self._out) - 1
        while at >= 0:
            self._out[at] = (self._out[at] + 1) & 255
            if self._out[at]:
                return
            at -= 1

    def finish(self) -> bytes:
        """The stream that was written; of one that was read, StreamError unless it ends here."""
        if self.role != WRITE:
            if self.role == READ and not ends_well(self._at, np.frombuffer(self._data, np.uint8)):
                raise StreamError("a mixed stream is longer than what is in it: the file is damaged")
            return b""
        for shift in range(63, -1, -1):
            unit = 1 << shift
            value = (self._low + unit - 1) & ~(unit - 1)
            if value - self._low < self._range:
                break
        if value > _WORD:
            value &= _WORD
            self._carry()
        return bytes(self._out + value.to_bytes(8, "big").rstrip(b"\0"))


def _clipped(x: int) -> int:
    return min(max(x, -LOW), LOW - 1)


def _moved(weights, x: list[int], error: int) -> None:
    weights[: len(x)] = [
        min(max(w + ((v * error + (1 << 9)) >> 10), -_HEAVY), _HEAVY) for w, v in zip(weights.tolist(), x, strict=True)
    ]


def symbols(
    coder: Oracle, width: int, contexts: Sequence[Sequence[int]], select: Sequence[int], given: Sequence[int]
) -> list[int]:
    """Codes symbols of `width` bits whose contexts are known: `mixing_symbols` of native/src/mixing.h."""
    groups, out = -(-width // 4), []
    reading = coder.role == READ
    for symbol, values, chosen in zip(given, contexts, select, strict=True):
        prefix, left, made = 0, width, 0
        for group in range(groups):
            coder.open(
                [
                    hashed(16 * k + group, (value * 0x9E3779B97F4A7C15 + prefix) & _WORD)
                    for k, value in enumerate(values)
                ]
            )
            node = 1
            for _ in range(min(4, left)):
                left -= 1
                coder.set = [16 * group + node, 16 * groups + chosen]
                coder.last = 16 * group + node
                coder.refine = [chosen, None]
                bit = coder.code(node, 0 if reading else (symbol >> left) & 1)
                made |= bit << left
                node, prefix = 2 * node + bit, 2 * prefix + bit
        out.append(made)
    return out
