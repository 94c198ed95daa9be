"""Quantised wavelet coefficients of fields, mixed: the model, and its twin in plain integers.

Magnitudes are coded as "above 0", "above 1", then classes of twice the width each, and the place in the class; signs
apart. Contexts are magnitudes around (in the row, the row before, the plane before, along the other axes), of the
coarser band of the same kind (Shapiro's parents, 1993), of the sister bands of the same level, weighted sums of all of
these, and the place in the band, which the next part of the field shares. After the coefficients come corrections:
whole numbers, nearly all 0, for values that the coefficients leave beyond the bound. Their contexts are corrections
around, the sizes of coefficients of the three finest levels, and whether indices are odd: errors differ there.

The twin does what native/src/mixing_coefficients.h does, to the last digit of every table: `rows` there are lists here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native import mixing_coefficients as kernels
from ...native.mixing import PRICE, READ, WRITE
from ...native.mixing_coefficients import CONTEXTS, FINALS, PLACES, REFINED, SETS, SIZES, STAGES, STEPS
from .coding import compiled
from .mixer import Mixer, Plan
from .oracle import Oracle, hashed
from .tables import Rates

__all__ = ["PRICE", "READ", "WRITE", "Band", "CoefficientCoder", "Numbers", "half", "new_mixer", "quarter", "small"]

_RATES = Rates(limit=1023, delay=1.5, lean=6.0, first=0.02, last=0.002, fall=128)
_WORD = (1 << 64) - 1
_TOP, _MOST = 29, 1 << 20


def _plan(lines: int) -> Plan:
    return Plan(CONTEXTS, lines, SETS, FINALS, REFINED, 0, _RATES)


def new_mixer(size: int) -> Mixer:
    """A mixer that has seen nothing, for so many values."""
    lines = min(max((size - 1).bit_length() + 1, 12), 18)
    return Mixer.new(_plan(lines), 0.2)


@dataclass(frozen=True)
class Band:
    """A band of coefficients along the last four axes: `CoefficientBand` of native/src/args_mixing_coefficients.h.

    low, side: its first coefficient and its sides. parent: those of the band of the same kind one level coarser, or
    None. shift: 1 along axes that the level has halved. level: 0 is the finest. kind: a bit for each axis along which
    it is high-pass. first: the first band of its level.
    """

    low: tuple[int, ...]
    side: tuple[int, ...]
    parent: tuple[tuple[int, ...], tuple[int, ...]] | None
    shift: tuple[int, ...]
    level: int
    kind: int
    first: int

    @property
    def numbers(self) -> list[int]:
        low, side = self.parent or ((0,) * 4, (1,) * 4)
        rest = [self.level, self.kind, int(self.parent is not None), self.first]
        return [*self.low, *self.side, *low, *side, *self.shift, *rest]


class CoefficientCoder:
    """A stream of coefficients, and of corrections, that is written, read or priced. StreamError for a damaged one.

    mixer: of `new_mixer`; it is changed in place. bands: from coarse to fine. data: a stream to read; room: the bytes
    of a stream to write.
    """

    def __init__(
        self, role: int, mixer: Mixer, bands: Sequence[Band], data: bytes | None = None, room: int = 0
    ) -> None:
        self.role, self.bands = role, bands
        self._numbers = np.array([band.numbers for band in bands], np.int64)
        self._oracle = Oracle(role, mixer, data or b"") if native.library() is None else None
        self._native = None if self._oracle is not None else compiled(role, mixer, data, room)

    def coefficients(self, values: NDArray[np.int32]) -> None:
        """Codes coefficients, of five axes, in place."""
        if self._oracle is not None:
            _Twin(self._oracle, self.bands, values).coefficients()
            return
        assert self._native is not None
        try:
            kernels.code_coefficients(self._native, values, self._numbers)
        except ValueError as error:
            raise _ends() from error

    def corrections(self, values: NDArray[np.int32], corrections: NDArray[np.int32]) -> None:
        """Codes the corrections of values, in place, whose coefficients are known."""
        if self._oracle is not None:
            _Twin(self._oracle, self.bands, values).corrections(corrections)
            return
        assert self._native is not None
        try:
            kernels.code_corrections(self._native, values, self._numbers, corrections)
        except ValueError as error:
            raise _ends() from error

    @property
    def bits(self) -> float:
        """The bits of all that was priced."""
        coder = self._oracle or self._native
        assert coder is not None
        return coder.bits

    def finish(self) -> bytes:
        """The stream that was written; of one that was read, StreamError unless it ends here."""
        if self._oracle is not None:
            return self._oracle.finish()
        assert self._native is not None
        try:
            return self._native.finish()
        except ValueError as error:
            raise StreamError("a mixed stream is longer than what is in it: the file is damaged") from error


def _ends() -> StreamError:
    return StreamError("a mixed stream ends too early: the file is damaged")


# ---- the twin


def half(v: int) -> int:
    e = v.bit_length()
    return e if e < 2 else 2 * e - 2 + (v >> (e - 2) & 1)


def quarter(v: int) -> int:
    e = v.bit_length()
    return v if e < 3 else 4 * e - 8 + (v >> (e - 3) & 3)


def small(v: int) -> int:
    return v if v < 4 else min(15, v.bit_length() + 1)


def _packed(*digits: int) -> int:
    """A number of digits and their bases: first digit, then base and digit in turn."""
    value = digits[0]
    for base, digit in zip(digits[1::2], digits[2::2], strict=True):
        value = value * base + digit
    return value


def _sign(v: int) -> int:
    return 1 if v > 0 else 2 if v < 0 else 0


class _Row(list):
    """Numbers of a row, 0 before and behind it."""

    def __init__(self, values: Any = (), n: int = 0) -> None:
        super().__init__([*(int(v) for v in values), *([0] * n)])

    def at(self, i: int) -> int:
        return self[i] if 0 <= i < len(self) else 0


def _sizes(values: NDArray[np.int32] | None) -> _Row:
    return _Row() if values is None else _Row(np.minimum(np.abs(values), _MOST).tolist())


class Numbers:
    """Numbers on an oracle, under contexts that a model sets before each: a part of the model, sizes and a place."""

    def __init__(self, coder: Oracle) -> None:
        self.coder = coder
        self.zone = self.size = self.place = 0
        self.contexts: list[int] = []

    def _open(self, group: int, more: int) -> None:
        self.coder.open(
            [
                hashed((2 * k + self.zone) * 4 + group, (value * 64 + more) & _WORD)
                for k, value in enumerate(self.contexts)
            ]
        )

    def _bit(self, node: int, bit: int, step: int, stage: int) -> int:
        by_size = (self.zone * STAGES + stage) * SIZES + self.size
        by_place = (self.zone * 4 + min(stage, 3)) * PLACES + self.place
        coder = self.coder
        coder.set = [self.zone * STEPS + step, SETS[0] + by_size, SETS[0] + SETS[1] + by_place]
        coder.last = self.zone * STEPS + step
        coder.refine = [by_size, 2 * STAGES * SIZES + by_place]
        return coder.code(node, bit)

    def magnitude(self, v: int) -> int:
        own = v if v <= 2 else 1 + (v - 1).bit_length()
        kind = 0
        self._open(0, 0)
        while kind < _TOP:
            if kind == 15:
                self._open(1, 0)
            if not self._bit(1 + kind % 15, int(own > kind), min(kind, 30), min(kind, 3)):
                break
            kind += 1
        if kind <= 2:
            return kind
        left = kind - 2
        offset, prefix, made, first = v - 1 - (1 << left), 1, 0, True
        self._open(2, kind)
        for i in range(left):
            left -= 1
            node = prefix if i < 3 else min(15, 8 + left)
            bit = self._bit(node, (offset >> left) & 1, 31 + node, 4 if first else 5)
            made |= bit << left
            prefix, first = 2 * prefix + bit, False
        return 1 + (1 << (kind - 2)) + made

    def number(self, own: int, signs: Any) -> int:
        """A number with its sign; signs: what gives the contexts of the sign of a magnitude."""
        reading = self.coder.role == READ
        size = self.magnitude(0 if reading else abs(own))
        if not size:
            return 0
        self.contexts = signs(size)
        self._open(3, 0)
        return -size if self._bit(1, int(not reading and own < 0), 47, 6) else size


class _Twin(Numbers):
    """The model on an oracle. values: the coefficients, of five axes."""

    def __init__(self, coder: Oracle, bands: Sequence[Band], values: NDArray[np.int32]) -> None:
        super().__init__(coder)
        self.bands, self.values = bands, values

    # ---- coefficients

    def coefficients(self) -> None:
        for number, band in enumerate(self.bands):
            for t, u, z, y in np.ndindex(len(self.values), *band.side[:3]):
                self._row(number, band, t, (u, z, y))

    def _line(self, band_low: Sequence[int], side: int, t: int, index: Sequence[int]) -> NDArray[np.int32]:
        """The row of a band at an index of the first axis and an index in the band."""
        place = tuple(low + i for low, i in zip(band_low, index, strict=False))
        return self.values[(t, *place)][band_low[3] : band_low[3] + side]

    def _summed(self, band: Band, t: int, index: Sequence[int], n: int) -> list[int]:
        """The magnitudes of a band's row at an index, held within it, of n places."""
        held = [min(i, side - 1) for i, side in zip(index, band.side, strict=False)]
        sizes = _sizes(self._line(band.low, band.side[3], t, held))
        return [sizes[min(x, band.side[3] - 1)] for x in range(n)]

    def _row(self, number: int, band: Band, t: int, index: tuple[int, ...]) -> None:
        (u, z, y), n = index, band.side[3]

        def line(dt: int, du: int, dz: int, dy: int) -> NDArray[np.int32] | None:
            place = (t + dt, u + du, z + dz, y + dy)
            inside = all(0 <= i < side for i, side in zip(place, (len(self.values), *band.side), strict=False))
            return self._line(band.low, n, place[0], place[1:]) if inside else None

        own = self.values[(t, *(low + i for low, i in zip(band.low, index, strict=False)))]
        own = own[band.low[3] : band.low[3] + n]  # a view
        north, back, past, outer = line(0, 0, 0, -1), line(0, 0, -1, 0), line(-1, 0, 0, 0), line(0, -1, 0, 0)
        sizes, no, nn, p = _Row(n=n), _sizes(north), _sizes(line(0, 0, 0, -2)), _sizes(back)
        pn, ps = _sizes(line(0, 0, -1, -1)), _sizes(line(0, 0, -1, 1))
        o, b, bn, bs = _sizes(outer), _sizes(past), _sizes(line(-1, 0, 0, -1)), _sizes(line(-1, 0, 0, 1))
        above, a, an, as_, ap, aq = self._above(band, t, index)
        beside, sisters = _Row(n=n), self.bands[band.first : number]
        for sister in sisters:
            beside[:] = [min(_MOST, v + s) for v, s in zip(beside, self._summed(sister, t, index, n), strict=True)]
        parts_near = 8 + 12 * (y > 0) + 2 * (y > 1) + 10 * (z > 0) + 6 * (u > 0) + 9 * (t > 0)
        parts = parts_near + (10 if above is not None else 0) + 4 * len(sisters)
        self.zone, place = 0, min(band.level, 3) * 16 + band.kind
        for x in range(n):
            xa = min(x >> band.shift[3], len(a) - 1)
            w, ww, north_x, nw, ne = sizes.at(x - 1), sizes.at(x - 2), no.at(x), no.at(x - 1), no.at(x + 1)
            around_p = p.at(x - 1) + p.at(x + 1) + pn.at(x) + ps.at(x)
            around_b = b.at(x - 1) + b.at(x + 1) + bn.at(x) + bs.at(x)
            around_a = a.at(xa - 1) + a.at(xa + 1) + an.at(xa) + as_.at(xa) + ap.at(xa) + aq.at(xa)
            near = 6 * (w + north_x + p.at(x) + o.at(x)) + 3 * (nw + ne) + 2 * (ww + nn.at(x)) + around_p
            near += 5 * b.at(x) + around_b
            coarse, s, around_s = 2 * a.at(xa) + around_a, beside[x], beside.at(x - 1) + beside.at(x + 1)
            expected = 16 * (near + coarse + 2 * s + around_s) // parts
            self.size = min(31, half(expected))
            above_zero = (v > 0 for v in (w, north_x, p.at(x), a.at(xa), s, b.at(x)))
            self.place = sum(odd << i for i, odd in enumerate(above_zero))
            h_near, h_coarse = half(16 * near // parts_near), half(2 * coarse)
            h_beside = half(4 * (2 * s + around_s) // len(sisters)) if sisters else 0
            kind, where = band.kind, (number * 65536 + y) * 65536 + x
            self.contexts = [
                _packed(quarter(expected), 64, place),
                _packed(h_near, 64, h_coarse, 64, h_beside),
                _packed(small(w), 16, small(north_x), 16, small(p.at(x)), 16, small(b.at(x))),
                _packed(half(w + north_x + p.at(x)), 64, half(nw + ne + ww + nn.at(x) + around_p), 64, half(a.at(xa))),
                _packed(h_coarse, 64, half(a.at(xa)), 64, half(w + north_x + p.at(x)), 16, kind),
                _packed(half(b.at(x)), 64, half(around_b), 64, h_near),
                _packed(small(w), 16, small(ww), 16, small(nw), 16, small(ne)),
                _packed(half(s), 64, half(around_s), 64, half(w + north_x), 16, kind),
                _packed(small(north_x), 16, small(nn.at(x)), 16, small(ne), 64, place),
                _packed(small(p.at(x)), 64, half(around_p), 16, small(o.at(x)), 64, place),
                where,
                number,
            ]

            near_x = (own, north, back, past, outer, above)
            signs = functools.partial(_signs_of_coefficient, near_x, (x, xa, y), place, (where, number))
            own[x] = self.number(int(own[x]), signs)
            sizes[x] = min(abs(int(own[x])), _MOST)

    def _above(self, band: Band, t: int, index: Sequence[int]) -> tuple[Any, ...]:
        """The row of the coarser band of the same kind, and the sizes of it and of the rows around it."""
        if band.parent is None:
            return (None, *(_Row(n=int(not i)) for i in range(5)))
        low, side = band.parent
        at = [min(i >> shift, n - 1) for i, shift, n in zip(index, band.shift, side, strict=False)]

        def line(dz: int, dy: int) -> NDArray[np.int32] | None:
            place = (at[0], at[1] + dz, at[2] + dy)
            inside = all(0 <= i < n for i, n in zip(place, side, strict=False))
            return self._line(low, side[3], t, place) if inside else None

        around = [_sizes(line(*step)) for step in ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))]
        return (line(0, 0), *around)

    # ---- corrections

    def corrections(self, values: NDArray[np.int32]) -> None:
        for index in np.ndindex(*values.shape[:4]):
            self._corrections_row(values, index)

    def _activity(self, t: int, index: Sequence[int], n: int) -> tuple[list[_Row], list[int], list[int]]:
        """The summed magnitudes here of the three finest levels, their bands, and how often the row was halved."""
        rows, parts, shifts = [_Row(n=n) for _ in range(3)], [0] * 3, [0] * 3
        place, last, level = list(index), len(self.bands) - 1, 0
        while last >= 0 and level < 3 and self.bands[last].kind:
            end = self.bands[last]
            place = [i >> shift for i, shift in zip(place, end.shift, strict=False)]
            n = (n + end.shift[3]) >> end.shift[3]
            for i in range(level, 3):
                shifts[i] += end.shift[3]
            for band in self.bands[end.first : last + 1]:
                added = self._summed(band, t, place, n)
                rows[level][:n] = [min(_MOST, v + s) for v, s in zip(rows[level], added, strict=False)]
                parts[level] += 1
            last, level = end.first - 1, level + 1
        return rows, parts, shifts

    def _corrections_row(self, values: NDArray[np.int32], index: tuple[int, ...]) -> None:
        (t, u, z, y), n = index, values.shape[4]

        def line(dt: int, du: int, dz: int, dy: int) -> NDArray[np.int32] | None:
            place = (t + dt, u + du, z + dz, y + dy)
            inside = all(0 <= i < side for i, side in zip(place, values.shape, strict=False))
            return values[place] if inside else None

        own, north, back, past, outer = (
            values[index], line(0, 0, 0, -1), line(0, 0, -1, 0), line(-1, 0, 0, 0), line(0, -1, 0, 0),
        )  # fmt: skip
        nearer = line(0, 0, 0, -2)
        sizes, no, nn, p = _Row(n=n), _sizes(north), _sizes(nearer), _sizes(back)
        pn, ps, b, o = _sizes(line(0, 0, -1, -1)), _sizes(line(0, 0, -1, 1)), _sizes(past), _sizes(outer)
        rows, parts, shifts = self._activity(t, (u, z, y), n)
        halved = self.bands[-1].shift if len(self.bands) > 1 else (0,) * 4
        parity = (u & halved[0]) * 8 + (z & halved[1]) * 4 + (y & halved[2]) * 2
        self.zone = 1
        for x in range(n):
            w, ww, north_x, nw, ne = sizes.at(x - 1), sizes.at(x - 2), no.at(x), no.at(x - 1), no.at(x + 1)
            around_p = p.at(x - 1) + p.at(x + 1) + pn.at(x) + ps.at(x)
            act, side = [0] * 3, [0] * 3
            for i in range(3):
                xl = x >> shifts[i]
                if parts[i]:
                    act[i] = 16 * rows[i].at(xl) // parts[i]
                    side[i] = 8 * (rows[i].at(xl - 1) + rows[i].at(xl + 1)) // parts[i]
            near = 2 * (w + north_x + p.at(x)) + nw + ne + ww + nn.at(x) + around_p + b.at(x) + o.at(x)
            odd = parity + (x & halved[3])
            self.place = odd * 4 + min(near, 3)
            self.size = min(31, half(4 * sum(act)))
            h0, h1, h2 = (half(v) for v in act)
            w3, n3, p3 = min(w, 3), min(north_x, 3), min(p.at(x), 3)
            self.contexts = [
                _packed(h0, 64, h1, 16, odd),
                _packed(h0, 64, h1, 64, h2),
                _packed(w3, 4, n3, 4, p3, 16, odd),
                _packed(min(near, 15), 64, h0, 16, odd),
                _packed(h1, 64, h2, 16, odd),
                _packed(w3, 4, min(ww, 3), 4, min(nw, 3), 4, min(ne, 3), 4, min(nn.at(x), 3)),
                _packed(min(b.at(x), 3), 4, min(o.at(x), 3), 16, min(around_p, 15), 4, p3),
                _packed(h0, 64, half(side[0]), 64, half(side[1])),
                _packed(quarter(sum(act)), 16, odd, 4, min(near, 3)),
                odd,
                y * 65536 + x,
                min(near, 15),
            ]

            def signs(size: int, x: int = x, odd: int = odd) -> list[int]:
                sw, sww = _sign_at(own, x - 1), _sign_at(own, x - 2)
                sn, snw, sne = (_sign_at(north, x + i) for i in (0, -1, 1))
                sb, so, snn = (_sign_at(row, x) for row in (past, outer, nearer))
                dw, dn, dp = _held_at(own, x - 1), _held_at(north, x), _held_at(back, x)
                return [
                    _packed(dw + 7, 16, dn + 7),
                    _packed(dw + 7, 16, odd),
                    _packed(dn + 7, 16, odd),
                    _packed(dp + 7, 16, odd),
                    _packed(sw, 3, sww, 3, snw, 3, sne),
                    _packed(sb, 3, so),
                    _packed(sn, 3, snn),
                    _packed(dw + dn + dp + 21, 4, min(size, 3)),
                    _packed(snw, 3, sne),
                    odd,
                    y * 65536 + x,
                    _packed(dw + dn + 14, 4, min(size, 3)),
                ]

            own[x] = self.number(int(own[x]), signs)
            sizes[x] = min(abs(int(own[x])), _MOST)


def _signs_of_coefficient(
    rows: tuple[NDArray[np.int32] | None, ...], at: tuple[int, int, int], place: int, last: tuple[int, int], size: int
) -> list[int]:
    """The contexts of the sign of a coefficient. rows: its own and those around; at: x, x in the coarser band, y."""
    (own, north, back, past, outer, above), (x, xa, y), small = rows, at, min(size, 3)
    sw, sww = _sign_at(own, x - 1), _sign_at(own, x - 2)
    sn, snw, sne = (_sign_at(north, x + i) for i in (0, -1, 1))
    sp, sb, so, sa = (_sign_at(row, i) for row, i in ((back, x), (past, x), (outer, x), (above, xa)))
    return [
        _packed(sw, 3, sn, 64, place),
        _packed(sw, 3, sn, 3, sp, 64, place),
        _packed(sb, 3, sw, 64, place),
        _packed(sp, 3, so, 64, place),
        _packed(sw, 3, sww, 3, sn, 3, snw, 3, sne),
        _packed(sa, 3, sw, 3, sn, 64, place),
        _packed(sb, 4, small, 64, place),
        _packed(sw, 3, sww, 4, small, 64, place),
        _packed(sn, 3, snw, 3, sne, 64, place),
        _packed(sa, 4, (x & 1) * 2 + (y & 1), 64, place),
        *last,
    ]


def _sign_at(row: NDArray[np.int32] | None, x: int) -> int:
    return _sign(int(row[x])) if row is not None and 0 <= x < len(row) else 0


def _held_at(row: NDArray[np.int32] | None, x: int) -> int:
    return min(7, max(-7, int(row[x]))) if row is not None and 0 <= x < len(row) else 0
