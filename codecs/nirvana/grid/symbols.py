"""Coding of symbols in the preset `grid`: one family of integer distributions, indexed by the log-odds of not zero.

A network says one number for each symbol, the log-odds z that it is not zero. Rounded to quarters it picks a row: the
probability of zero is 1 / (1 + exp z), and the magnitudes beyond follow from z by a curve that was fitted once to
quantised transform coefficients of predicted frames. Signs are even. Rows of a second kind are for yes or no, and one
row is flat, for headers.

`SymbolWriter` and `SymbolReader` have one method each, `code`, of one signature: whoever uses it describes writing and
reading at once, so the two can't drift apart.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .... import native
from ....entropy.tables import TableDecoder, Tables
from ....errors import StreamError
from ....native import passes

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Rows = NDArray[np.uint8]

PER_UNIT = 4  # rows to a unit of log-odds
LOWEST, HIGHEST = -36, 24  # in quarters: log-odds from -9 to 6
ROWS = HIGHEST - LOWEST + 1
YES = ROWS  # the first row of yes or no
FLAT = 2 * ROWS  # 0...255
LARGEST = 1 << 14  # magnitude of a symbol; more is damage
_MAX_PROBABILITY = 1 - 2.0**-13


def odds(z: Float) -> Float:
    """The probability of log-odds."""
    return 1 / (1 + np.exp(-z))


def ratios(z: Float) -> tuple[Float, Float]:
    """The probabilities P(|q| > 1 given |q| > 0) and P(|q| > k + 1 given |q| > k) for all k > 0, by log-odds."""
    some = odds(z)
    return CURVE[0] * some ** CURVE[1] * (1 - CURVE[2]) + CURVE[2], np.minimum(
        0.99, CURVE[3] * some ** CURVE[4] * (1 - CURVE[5]) + CURVE[5]
    )


CURVE = (1.0, 1.75, 0.03, 1.0, 1.9, 0.09)


def _magnitudes(z: float) -> Float:
    """The probabilities P(0), P(1), P(2), ... of a row, down to where a symbol is better escaped."""
    some = float(odds(np.asarray(z)))
    first, next_ = (float(r) for r in ratios(np.asarray(z)))
    p, left = [1 - some], some
    ratio = first
    while len(p) < 700 and (left > 2e-4 or len(p) < 3):
        p.append(left * (1 - ratio))
        left *= ratio
        ratio = next_
    return np.array(p)


@lru_cache(maxsize=1)
def tables() -> Tables:
    """The integer counts of all rows: of magnitudes, of yes or no, and the flat one."""
    rows, offsets = [], []
    for quarter in range(LOWEST, HIGHEST + 1):
        p = _magnitudes(quarter / PER_UNIT)
        rows.append(np.concatenate([p[:0:-1] / 2, p[:1], p[1:] / 2]))
        offsets.append(1 - len(p))
    for quarter in range(LOWEST, HIGHEST + 1):
        some = float(odds(np.asarray(quarter / PER_UNIT)))
        rows.append(np.array([1 - some, some]))
        offsets.append(0)
    rows.append(np.full(256, 1 / 256))
    offsets.append(0)
    # probabilities on a grid, so that no library's last bit of exp changes a count
    return Tables.from_pmf([np.round(row * 2**30) / 2**30 for row in rows], np.array(offsets), _MAX_PROBABILITY)


COST_RANGE = 40


@lru_cache(maxsize=1)
def costs() -> NDArray[np.float32]:
    """The bits of the symbols -COST_RANGE...COST_RANGE in the rows of the first kind: (ROWS, 2 COST_RANGE + 1)."""
    table = np.empty((ROWS, 2 * COST_RANGE + 1), np.float32)
    for row in range(ROWS):
        counts = np.diff(tables().rows[row]).astype(np.float64)
        bits = 16 - np.log2(counts)
        first = int(tables().offset[row])
        for q in range(-COST_RANGE, COST_RANGE + 1):
            column = q - first
            inside = 0 <= column < len(counts) - 1
            over = max(0, abs(q) + first)
            table[row, q + COST_RANGE] = bits[column] if inside else bits[-1] + 2 * np.log2(2 * over + 2)
    return table


def rows_of(quarters: NDArray[np.float32]) -> Rows:
    """The rows of log-odds, given in quarters and half a quarter up."""
    rows = np.floor(quarters)
    np.maximum(rows, LOWEST, out=rows)
    np.minimum(rows, HIGHEST, out=rows)
    rows -= LOWEST
    return rows.astype(np.uint8)


def best_row(symbols: Int, yes: bool = False) -> int:
    """The row that costs fewest bits for all of the symbols."""
    n = symbols.size
    if yes:
        share = (float(symbols.sum()) + 0.4) / (n + 0.8)
        quarter = round(np.log(share / (1 - share)) * PER_UNIT)
        return int(np.clip(quarter, LOWEST, HIGHEST)) - LOWEST
    counts = np.bincount(np.clip(symbols, -COST_RANGE, COST_RANGE).ravel() + COST_RANGE, minlength=2 * COST_RANGE + 1)
    return int(np.argmin(costs() @ counts))


class Coding(Protocol):
    """Either direction of a stream of symbols: a `SymbolWriter` or a `SymbolReader`."""

    def code(self, rows: Rows, symbols: NDArray[Any] | None) -> Int:
        """Codes symbols, each in the row of its distribution, and returns them.

        A writer writes the symbols that it is given; a reader doesn't look at them and gives what was written.
        """
        ...

    def same(self, row: int, symbols: Int | None, shape: tuple[int, ...]) -> Int:
        """Codes symbols that all have the same row."""
        return self.code(np.full(shape, row, np.uint8), symbols)

    def section(self, name: str) -> None:
        """Names what comes next, for statistics."""

    def passes(self) -> passes.Coder | None:
        """The coder of compiled passes, in the place of `code`; None where there is none."""
        return None


@lru_cache(maxsize=1)
def _pass_coder() -> passes.Coder:
    return passes.Coder(tables().model, tables().offset, tables().all_min_bits, LARGEST)


def pass_coder(keep: bool) -> passes.Coder | None:
    """The coder of compiled passes of an encoder. keep: whether it wants the symbols with their rows."""
    return replace(_pass_coder(), keep=keep) if native.engine() == "native" else None


@lru_cache(maxsize=1)
def _column_bits() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The bits of the columns of all rows, end to end, and where each row starts."""
    counts = [np.diff(row) for row in tables().rows]
    starts = np.cumsum([0, *map(len, counts[:-1])])
    return (16 - np.log2(np.concatenate(counts))).astype(np.float32), starts.astype(np.int32)


def _bits(steps: list[tuple[Int, Rows]]) -> float:
    """The bits of the symbols of steps, before they are made bytes."""
    symbols = np.concatenate([symbols.ravel() for symbols, _ in steps])
    rows = np.concatenate([rows.ravel() for _, rows in steps])
    bits, starts = _column_bits()
    columns = symbols - tables().offset.take(rows)
    outside = (columns < 0) | (columns >= tables().last.take(rows))
    escaped = 0.0
    if outside.any():
        escaped = tables().bits(symbols[outside], rows[outside])
        symbols, rows, columns = symbols[~outside], rows[~outside], columns[~outside]
    return float(bits.take(starts.take(rows) + columns).sum(dtype=np.float64)) + escaped


class SymbolWriter(Coding):
    """Keeps symbols, and makes one stream of all of them in the end."""

    def __init__(self) -> None:
        self.steps: list[tuple[Int, Rows]] = []
        self.sections: list[str] = []  # of each step
        self._section = "header"

    def section(self, name: str) -> None:
        self._section = name

    def code(self, rows: Rows, symbols: NDArray[Any] | None) -> Int:
        assert symbols is not None
        if rows.size:
            self.steps.append((symbols, rows))
            self.sections.append(self._section)
        return symbols

    def passes(self) -> passes.Coder | None:
        return pass_coder(keep=True)

    def bits(self, start: int = 0) -> dict[str, float]:
        """The bits of each section, before they are made bytes, from step number `start` on."""
        steps: dict[str, list[tuple[Int, Rows]]] = {}
        for section, step in zip(self.sections[start:], self.steps[start:], strict=True):
            steps.setdefault(section, []).append(step)
        return {section: _bits(part) for section, part in steps.items()}

    def finish(self) -> bytes:
        """The stream of all symbols."""
        return tables().encode_steps(self.steps)


class SymbolReader(Coding):
    """Reads symbols from a stream; StreamError where it can't be what a `SymbolWriter` made."""

    def __init__(self, data: bytes) -> None:
        # what isn't escaped is far below
        self._decoder: TableDecoder = tables().decoder(data, largest=LARGEST)
        ans = self._decoder.ans
        self._passes = replace(_pass_coder(), ans=ans) if ans is not None else None

    def code(self, rows: Rows, symbols: NDArray[Any] | None) -> Int:
        return self._decoder.take(rows).astype(np.int64)

    def same(self, row: int, symbols: Int | None, shape: tuple[int, ...]) -> Int:
        return self._decoder.take_same(row, prod(shape)).astype(np.int64).reshape(shape)

    def passes(self) -> passes.Coder | None:
        return self._passes if native.engine() == "native" else None

    def finish(self) -> None:
        """StreamError unless the stream ends here."""
        self._decoder.finish()


def code_number(io: Coding, value: int | None) -> int:
    """Codes a number of 0...255."""
    number = int(io.same(FLAT, None if value is None else np.array([value]), (1,))[0])
    if not 0 <= number <= 255:
        raise StreamError("the group is damaged: a number of its header is out of range")
    return number


def code_flag(io: Coding, value: bool | None) -> bool:
    """Codes yes or no, in one bit."""
    return bool(io.same(YES - LOWEST, None if value is None else np.array([int(value)]), (1,))[0])


def code_static(io: Coding, symbols: Int | None, shape: tuple[int, ...], yes: bool = False) -> Int:
    """Codes symbols that share a row, which is sent before them. yes: they are 0 or 1, in a row of the second kind."""
    if not prod(shape):
        return np.zeros(shape, np.int64)
    row = code_number(io, None if symbols is None else best_row(symbols, yes))
    if row >= ROWS:
        raise StreamError("the group is damaged: there is no such row")
    coded = io.same(row + (YES if yes else 0), symbols, shape)
    if yes and (coded & ~1).any():
        raise StreamError("the group is damaged: a flag is neither yes nor no")
    return coded
