"""Frozen integer distributions, and symbols to bytes and back with them.

A codec is built from `Tables`, never from densities: they are made once, at export (`models.to_tables`), and saved with
the weights. Coding uses integers only, so a stream is the same bytes on every machine.

What a stream holds, in this order: for each step, its columns, grouped by row (rows rising, original order within a
row); then, if there are escapes, the classes of all of them and their digits, grouped by size. `coders` says how.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import StreamError, UsageError, WeightsError
from ..native import codes
from . import coders
from .coders import DEFAULT, TOTAL, Block

IntArray = NDArray[np.integer[Any]]
Int32Array = NDArray[np.int32]
Buffer = bytes | bytearray | memoryview
CoderName = str | type[coders.Coder]  # a class: for tests

MAX_COLUMNS = (1 << 15) - 1  # torchac's limit; an alphabet larger than this wants two symbols
MAX_PROBABILITY = 1 - 2**-7  # of a column, unless a codec asks for more
MAX_ROWS = (1 << 16) - 16  # row indices, ours included, are sorted as uint16

# A symbol outside its row's columns is the row's last column, then value + 1 in Exp-Golomb form: its number of bits
# (34 classes: value < 2**33), then the bits below the leading one. The class has a row of its own, with probabilities
# 2**-n as the unary prefix would have (as far as 16 bits go); the bits follow in digits of 1 to 8 bits.
_CLASSES = 34
_CLASS_COUNTS = [1 << 16 - n for n in range(1, 12)] + [2] * 9 + [1] * 14
_DIGIT = 8
_TAIL_ROWS = 1 + _DIGIT
_LONGEST = 1 << 31  # symbols of a step that compiled kernels take

# No bound on a stream's content may refuse a valid stream. ANS can beat the ideal by less than 2**-8 of a symbol's
# bits, plus what its last state holds.
_SLACK_RATIO, _SLACK_BITS = 0.99, 64.0


@dataclass(frozen=True, eq=False)
class Tables:
    """Integer distributions, one per row.

    cdf: (K, L + 1) int32, cumulative counts: row k rises strictly from 0 to 2**16 in its first lengths[k] + 1 entries;
        the rest is not read.
    lengths: (K,) int32, columns of each row, at least 2: one or more for symbols, the last one for the escape.
    offset: (K,) int32, symbol of each row's first column.

    Every int32 can be coded in every row: what has no column costs the escape and about 2 log2(distance) bits.
    `row` arguments are integer arrays of the symbols' shape with values below K; UsageError otherwise.
    """

    cdf: Int32Array
    lengths: Int32Array
    offset: Int32Array

    def __post_init__(self) -> None:
        """Copies the arrays, checks them (ValueError) and makes them read-only."""
        for name, ndim in (("cdf", 2), ("lengths", 1), ("offset", 1)):
            given = np.asarray(getattr(self, name))
            if given.dtype.kind not in "iu" or given.ndim != ndim:
                raise ValueError(f"{name} must be an integer array with {ndim} axes, not {given.dtype} {given.shape}")
            if given.size and (given.min() < -(2**31) or given.max() >= 2**31):
                raise ValueError(f"{name} does not fit into 32 bits")
            array = np.array(given, dtype=np.int32, order="C")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        n_rows, width = self.cdf.shape
        if not (0 < n_rows <= MAX_ROWS and self.lengths.shape == self.offset.shape == (n_rows,)):
            raise ValueError(f"cdf has {n_rows} rows, lengths {self.lengths.shape}, offset {self.offset.shape}")
        if self.lengths.min() < 2 or self.lengths.max() > min(width - 1, MAX_COLUMNS):
            raise ValueError(f"lengths are {self.lengths.min()}...{self.lengths.max()}, cdf is {width} wide")
        used = np.arange(width - 1) < self.lengths[:, None]
        if (self.cdf[:, 0] != 0).any() or (self.cdf[np.arange(n_rows), self.lengths] != TOTAL).any():
            raise ValueError(f"every row must start at 0 and end at {TOTAL}")
        if (np.diff(self.cdf, axis=1)[used] <= 0).any():
            raise ValueError("every row must rise strictly")

    def __reduce__(self) -> tuple[type[Tables], tuple[Int32Array, Int32Array, Int32Array]]:
        return type(self), (self.cdf, self.lengths, self.offset)  # without the coders' own caches

    # ---------------------------------------------------------------------------------------------- made and stored

    @staticmethod
    def from_pmf(
        pmf: ArrayLike | Sequence[ArrayLike], offset: ArrayLike, max_probability: float = MAX_PROBABILITY
    ) -> Tables:
        """Tables of the probabilities pmf[k][i] of symbol offset[k] + i; what they lack to 1 goes to the escape.

        Counts are the probabilities rounded, at least 1, with the rest given where it costs the fewest bits. A column
        gets at most max_probability: without such a bound, a short stream could claim any number of symbols.
        """
        rows = [np.asarray(row, dtype=np.float64) for row in pmf]  # type: ignore[union-attr]
        counts = [_quantize(row, max_probability) for row in rows]
        lengths = np.array([len(row) for row in counts], dtype=np.int32)
        cdf = np.full((len(counts), lengths.max() + 1), TOTAL, dtype=np.int32)
        for row, count in zip(cdf, counts, strict=True):
            row[0], row[1 : len(count) + 1] = 0, np.cumsum(count)
        return Tables(cdf, lengths, np.asarray(offset))

    def to_state(self) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file: counts (sum of lengths,) uint16, lengths (K,) and offset (K,) int32."""
        counts = np.concatenate([np.diff(cdf) for cdf in self.rows])
        return {"counts": counts.astype(np.uint16), "lengths": self.lengths, "offset": self.offset}

    @staticmethod
    def from_state(state: Mapping[str, NDArray[Any]]) -> Tables:
        """Tables of the arrays that `to_state` made; WeightsError if they can't be such arrays."""
        try:
            counts, lengths = np.asarray(state["counts"]), np.asarray(state["lengths"])
            if counts.dtype.kind not in "iu" or lengths.dtype.kind not in "iu":
                raise ValueError(f"counts are {counts.dtype}, lengths {lengths.dtype}; both must be integers")
            if counts.size and (counts.min() < 1 or counts.max() >= TOTAL):
                raise ValueError("a count is not between 1 and 2**16 - 1")
            if counts.ndim != 1 or lengths.ndim != 1 or lengths.min(initial=2) < 2 or lengths.sum() != len(counts):
                raise ValueError(f"{counts.shape} counts for lengths that sum to {lengths.sum()}")
            if len(lengths) * (int(lengths.max()) + 1) > 1 << 26:
                raise ValueError(f"{len(lengths)} rows of up to {lengths.max()} columns")
            cdf = np.full((len(lengths), int(lengths.max()) + 1), TOTAL, dtype=np.int32)
            cdf[:, 0] = 0
            used = np.arange(cdf.shape[1] - 1) < lengths[:, None]
            running = np.cumsum(counts, dtype=np.int64)  # below 2**16 times 2**26
            before = np.concatenate([[0], running[np.cumsum(lengths)[:-1] - 1]])
            cdf[:, 1:][used] = running - np.repeat(before, lengths)
            return Tables(cdf, lengths, np.asarray(state["offset"]))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise WeightsError(f"the entropy tables in the weights are not valid: {error}") from error

    # --------------------------------------------------------------------------------------------------- properties

    @cached_property
    def rows(self) -> tuple[Int32Array, ...]:
        """The cumulative counts of each row, without padding."""
        return tuple(cdf[: length + 1] for cdf, length in zip(self.cdf, self.lengths.tolist(), strict=True))

    @cached_property
    def last(self) -> Int32Array:
        """The last column of each row, the escape: (K,)."""
        return self.lengths - 1

    @cached_property
    def row_min_bits(self) -> NDArray[np.float64]:
        """The cost in bits of each row's cheapest symbol: (K,)."""
        return np.array([16 - np.log2(np.diff(cdf).max()) for cdf in self.rows])

    @cached_property
    def min_bits(self) -> float:
        """The cost in bits of the cheapest symbol: n bytes can't carry more than about 8 n / min_bits symbols."""
        return float(self.row_min_bits.min())

    def bits(self, symbols: IntArray, row: IntArray) -> float:
        """The ideal code length of the symbols in bits, escapes included. The stream takes 3 to 4 bytes more."""
        total = 0.0
        for block in self._blocks(symbols, row):
            for used, part in zip(block.rows, np.split(block.columns, np.cumsum(block.counts)[:-1]), strict=True):
                total += float(np.sum(16 - np.log2(np.diff(self._all_rows[used])[part])))
        return total

    # -------------------------------------------------------------------------------------------- encode and decode

    def encode(self, symbols: IntArray, row: IntArray, coder: CoderName = DEFAULT) -> bytes:
        """Encodes symbols as one stream: int32 values of any shape; `row` says which distribution each of them has."""
        return self.encode_steps([(symbols, row)], coder)

    def decode(self, data: Buffer, row: IntArray, coder: CoderName = DEFAULT) -> Int32Array:
        """Decodes the symbols of a stream, in the shape of row. StreamError if the stream can't be one of them."""
        decoder = self.decoder(data, coder)
        symbols = decoder.take(row)
        decoder.finish()
        return symbols

    def encode_steps(self, steps: Sequence[tuple[IntArray, IntArray]], coder: CoderName = DEFAULT) -> bytes:
        """Encodes steps of (symbols, row) as one stream: the symbols of a step may decide the rows of the next."""
        maker = self._coder(coder)
        if isinstance(maker, coders.NativeCoder) and all(np.size(symbols) < _LONGEST for symbols, _ in steps):
            return self._encode_native(maker, [(*self._rows_of(*step), [np.size(step[0])]) for step in steps])
        return maker.encode([block for symbols, row in steps for block in self._blocks(symbols, row)])

    def encode_row_of_steps(
        self, symbols: Int32Array, row: IntArray, sizes: Sequence[int], coder: CoderName = DEFAULT
    ) -> bytes:
        """Encodes steps that lie one behind the other, (n,), as `encode_steps` does. sizes: the symbols of each."""
        maker = self._coder(coder)
        if isinstance(maker, coders.NativeCoder) and symbols.size < _LONGEST:
            return self._encode_native(maker, [(*self._rows_of(symbols, row), sizes)])
        ends = np.cumsum(sizes)[:-1]
        return self.encode_steps(list(zip(np.split(symbols, ends), np.split(row, ends), strict=True)), coder)

    def _encode_native(
        self, maker: coders.NativeCoder, parts: Sequence[tuple[Int32Array, IntArray, Sequence[int]]]
    ) -> bytes:
        writer = maker.writer()
        for symbols, row, sizes in reversed(parts):
            if symbols.size:
                try:
                    writer.put_steps(self._native_tables, row, symbols, np.array(sizes, np.int64))
                except codes.StepError as error:
                    raise self._no_such_row() from error
        return maker.finished(writer)

    def decoder(self, data: Buffer, coder: CoderName = DEFAULT, largest: int | None = None) -> TableDecoder:
        """A decoder of a stream of steps. coder: what the stream's header says.

        largest: escaped symbols of a larger magnitude are damage, too.
        """
        if isinstance(coder, str) and coder not in coders.names():
            raise StreamError(
                f"the stream was made by the arithmetic coder {coder!r}; this version has {', '.join(coders.names())}: "
                "pip install -U codec-suite"
            )
        return TableDecoder(self, self._coder(coder).open(bytes(data)), largest)

    # ----------------------------------------------------------------------------------------------------- internal

    @cached_property
    def _all_rows(self) -> tuple[Int32Array, ...]:
        """The rows of the table, then those of the tail: the class, then digits of 1, 2, ..., 8 bits."""
        tail = [np.cumsum([0, *_CLASS_COUNTS])]
        tail += [np.arange(0, TOTAL + 1, TOTAL >> n) for n in range(1, _DIGIT + 1)]
        return (*self.rows, *(cdf.astype(np.int32) for cdf in tail))

    @cached_property
    def _all_min_bits(self) -> NDArray[np.float64]:
        return np.concatenate([self.row_min_bits, np.arange(_DIGIT + 1).clip(1)])

    @cached_property
    def _coders(self) -> dict[type[coders.Coder], coders.Coder]:
        return {}

    def _coder(self, name: CoderName) -> coders.Coder:
        kind = coders.find(name) if isinstance(name, str) else name
        if kind not in self._coders:
            self._coders[kind] = kind(self._all_rows)
        return self._coders[kind]

    def _group(self, row: IntArray) -> _Grouping:
        row = np.asarray(row)
        # bytes can't be far out of range, so their largest is looked at where it costs nothing
        small = row.dtype == np.uint8
        if row.dtype.kind in "iu" and (small or not row.size or (row.min() >= 0 and row.max() < len(self.lengths))):
            group = _Grouping(row, len(self._all_rows))
            if not row.size or group.rows[-1] < len(self.lengths):
                return group
        raise self._no_such_row()

    def _no_such_row(self) -> UsageError:
        return UsageError(f"rows must be integers from 0 to {len(self.lengths) - 1}")

    def _native_row(self, row: IntArray) -> IntArray:
        """The rows of symbols as compiled kernels take them."""
        row = np.asarray(row)
        if row.dtype.kind not in "iu":
            raise self._no_such_row()
        return np.ascontiguousarray(row, row.dtype.newbyteorder("="))

    def _rows_of(self, symbols: IntArray, row: IntArray) -> tuple[Int32Array, IntArray]:
        """The symbols and their rows, checked, as compiled kernels take them."""
        symbols = self._checked(symbols, row)
        return symbols, self._native_row(row) if symbols.size else np.zeros(0, np.uint8)

    @cached_property
    def _native_tables(self) -> codes.TableModel:
        return codes.TableModel(self.model, self.offset, self._all_min_bits)

    def _checked(self, symbols: IntArray, row: IntArray) -> Int32Array:
        """The symbols as int32; UsageError if they aren't numbers that this holds, one for each row."""
        symbols = np.asarray(symbols)
        if symbols.shape != np.shape(row):
            raise UsageError(f"symbols have shape {symbols.shape}, their rows {np.shape(row)}")
        if symbols.dtype.kind not in "iu":
            raise UsageError(f"symbols must be integers, not {symbols.dtype}")
        wide = symbols.size and not np.can_cast(symbols.dtype, np.int32)
        if wide and (symbols.min() < -(2**31) or symbols.max() >= 2**31):
            raise UsageError("symbols must fit into 32 bits, with sign")
        return np.ascontiguousarray(symbols, np.int32)

    def _blocks(self, symbols: IntArray, row: IntArray) -> list[Block]:
        """The symbols as blocks: their columns, and if there are escapes, the classes and the digits of the tail."""
        symbols = self._checked(symbols, row)
        if not symbols.size:
            return []
        block, wrapped, used = self._block(symbols, row)
        blocks = [block]
        if wrapped.size:
            first = self.offset[used].astype(np.int64)
            above = wrapped - first - self.last[used]  # from the first symbol above the columns
            below = first - 1 - wrapped
            value = np.where(above >= 0, 2 * above, 2 * below + 1) + 1
            n_bits = np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1  # below the leading one
            blocks.append(self._tail_block(np.zeros_like(n_bits), n_bits))
            kind, shift = _digits(n_bits)
            digit = (value[:, None] >> shift) & ((1 << kind) - 1)
            if (kind > 0).any():
                blocks.append(self._tail_block(kind[kind > 0], digit[kind > 0]))
        return blocks

    def _block(self, symbols: Int32Array, row: IntArray) -> tuple[Block, Int32Array, IntArray]:
        """The columns of symbols, the symbols that are escaped, and the rows of these."""
        group = self._group(row)
        wrapped = group.sort(symbols).view(np.uint32)
        # Modulo 2**32, the distance from the first column is below the number of columns for these symbols only.
        columns = wrapped - group.spread(self.offset.view(np.uint32))
        last = group.spread(self.last.view(np.uint32))
        escaped = np.flatnonzero(columns >= last)
        block = Block(group.rows, group.counts, np.minimum(columns, last).view(np.int32))
        used = group.rows.repeat(group.counts)[escaped] if escaped.size else group.rows[:0]
        return block, wrapped[escaped].view(np.int32), used

    @property
    def model(self) -> codes.Model:
        """The rows of the table, then those of escapes, for compiled kernels; there must be a compiled module."""
        coder = self._coder(coders.NativeCoder)
        assert isinstance(coder, coders.NativeCoder)
        return coder.model

    @property
    def all_min_bits(self) -> NDArray[np.float64]:
        """The cost in bits of the cheapest column of each row of the table, then of each of those of escapes."""
        return self._all_min_bits

    def _tail_group(self, kind: NDArray[np.int64]) -> _Grouping:
        """The grouping by rows of the tail: kind 0 is a class, kind n a digit of n bits."""
        return _Grouping(kind + len(self.lengths), len(self._all_rows))

    def _tail_block(self, kind: NDArray[np.int64], columns: NDArray[np.int64]) -> Block:
        group = self._tail_group(kind)
        return Block(group.rows, group.counts, group.sort(columns.astype(np.int32)))


class TableDecoder:
    """A decoder of a stream, step by step, in the order in which the steps were encoded."""

    def __init__(self, tables: Tables, reader: coders.ColumnReader, largest: int | None = None) -> None:
        self._tables, self._reader = tables, reader
        self._range = (-(2**31), 2**31 - 1) if largest is None else (-largest, largest)

    @property
    def ans(self) -> codes.AnsReader | None:
        """The stream, for kernels that decode steps themselves; None if it isn't read by the compiled module."""
        return self._reader.ans if isinstance(self._reader, coders.NativeReader) else None

    def take(self, row: IntArray) -> Int32Array:
        """Decodes the symbols of the next step, in the shape of row. StreamError if the stream can't hold as many."""
        tables = self._tables
        row = np.asarray(row)
        if not row.size:
            return np.zeros(row.shape, dtype=np.int32)
        if not row.flags.c_contiguous:
            self._check(row.size * tables.min_bits)  # it may be a broadcast view that takes no memory yet
        if isinstance(self._reader, coders.NativeReader) and row.size < _LONGEST:
            return self._take_step(self._reader, row)
        group = tables._group(row)
        columns = self._take(group)
        symbols = (columns.view(np.uint32) + group.spread(tables.offset.view(np.uint32))).view(np.int32)
        escaped = (columns == group.spread(tables.last)).nonzero()[0]
        if escaped.size:
            first = group.spread(tables.offset)[escaped].astype(np.int64)
            symbols[escaped] = self._escaped(first, columns[escaped])
        return group.unsort(symbols).reshape(row.shape)

    def _take_step(self, reader: coders.NativeReader, row: IntArray) -> Int32Array:
        """Decodes what `take` does, compiled."""
        with self.native_errors():
            return reader.opened().take_step(self.native_tables, self._tables._native_row(row)).reshape(row.shape)

    @cached_property
    def native_tables(self) -> codes.TableModel:
        """The tables for compiled kernels that take steps of this stream themselves: with `ans` and `native_errors`."""
        return self._tables._native_tables.limited(*self._range)

    @contextlib.contextmanager
    def native_errors(self) -> Iterator[None]:
        """Raises what `take` does for what such kernels say."""
        try:
            yield
        except codes.StepError as error:
            if error.kind == "row":
                raise self._tables._no_such_row() from error
            raise (self._short(error.needed) if error.kind == "bits" else self._too_large()) from error

    def take_same(self, row: int, n: int) -> Int32Array:
        """Decodes n symbols of one row: what `take` does with n times this row, with less to do."""
        tables = self._tables
        if not 0 <= row < len(tables.lengths):
            raise UsageError(f"rows must be integers from 0 to {len(tables.lengths) - 1}")
        if not n:
            return np.zeros(0, dtype=np.int32)
        self._check(n * float(tables.row_min_bits[row]))
        columns = self._reader.take(np.array([row]), np.array([n]))
        symbols = (columns.view(np.uint32) + tables.offset.view(np.uint32)[row]).view(np.int32)
        escaped = (columns == tables.last[row]).nonzero()[0]
        if escaped.size:
            first = np.full(escaped.size, tables.offset[row], np.int64)
            symbols[escaped] = self._escaped(first, columns[escaped])
        return symbols

    def _escaped(self, first: NDArray[np.int64], last: Int32Array) -> NDArray[np.int64]:
        """The symbols of escapes. first: symbol of their rows' first column; last: the escape's own column."""
        value = self._tail(len(first))
        half = value >> 1
        symbols = np.where(value & 1, first - 1 - half, first + last + half)
        low, high = self._range
        if (symbols < low).any() or (symbols > high).any():
            raise self._too_large()
        return symbols

    def _too_large(self) -> StreamError:
        high = self._range[1]
        what = "has more than 32 bits" if high == 2**31 - 1 else f"is larger than {high}"
        return StreamError(f"the entropy-coded stream is damaged: a symbol {what}")

    def finish(self) -> None:
        """Raises StreamError unless the stream ends here as it should. To be called after the last step."""
        self._reader.finish()

    def _tail(self, n: int) -> NDArray[np.int64]:
        """Decodes the next n values of the tail: their classes, then their digits."""
        tables = self._tables
        n_bits = self._take(tables._tail_group(np.zeros(n, dtype=np.int64))).astype(np.int64)
        kind, shift = _digits(n_bits)
        value = np.int64(1) << n_bits
        if (kind > 0).any():
            group = tables._tail_group(kind[kind > 0])
            digit = np.zeros_like(kind)
            digit[kind > 0] = group.unsort(self._take(group))
            value += (digit << shift).sum(axis=1)
        return value - 1

    def _take(self, group: _Grouping) -> Int32Array:
        self._check(float(group.counts @ self._tables._all_min_bits[group.rows]))
        return self._reader.take(group.rows, group.counts)

    def _check(self, needed_bits: float) -> None:
        left = self._reader.bits_left
        if left <= 0 or needed_bits * _SLACK_RATIO > left + _SLACK_BITS:
            raise self._short(needed_bits)

    def _short(self, needed_bits: float) -> StreamError:
        return StreamError(
            f"the entropy-coded stream is cut or damaged: the next symbols need at least {needed_bits:.0f} bits, "
            f"{self._reader.bits_left} are left"
        )


class _Grouping:
    """The order that brings equal rows together, each in its original order."""

    def __init__(self, row: IntArray, n_rows: int) -> None:
        # radix sort below: 10 times faster
        flat = row.ravel().astype(np.uint8 if n_rows <= 256 else np.uint16, copy=False)
        counts = np.bincount(flat, minlength=n_rows)
        self.rows: NDArray[np.intp] = counts.nonzero()[0]
        self.counts: NDArray[np.intp] = counts[self.rows]
        in_order = len(self.rows) < 2 or (flat[0] <= flat[-1] and bool((flat[1:] >= flat[:-1]).all()))
        self._order = None if in_order else flat.argsort(kind="stable")

    def sort(self, values: Int32Array) -> Int32Array:
        flat = values.ravel()
        return flat.take(self._order) if self._order is not None else flat

    def unsort(self, values: Int32Array) -> Int32Array:
        if self._order is None:
            return values
        out = np.empty_like(values)
        out[self._order] = values
        return out

    def spread(self, per_row: NDArray[Any]) -> NDArray[Any]:
        """The values of `per_row` (K,) that belong to the sorted symbols."""
        return per_row[self.rows].repeat(self.counts)


def _digits(n_bits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The digits of values of n_bits bits: bits and shifts, (n, 5) each, first the odd bits at the top, then bytes.

    A digit that a value does not have has 0 bits.
    """
    full, odd = np.divmod(n_bits, _DIGIT)
    place = np.arange((_CLASSES - 1) // _DIGIT + 1)  # 0: the odd one; then bytes, from the highest
    kind = np.where(place > 0, _DIGIT * (place <= full[:, None]), odd[:, None])
    shift = _DIGIT * (full[:, None] - place).clip(0)
    return kind, shift


def _quantize(pmf: NDArray[np.float64], max_probability: float) -> NDArray[np.int64]:
    """Counts with sum 2**16, at least 1 each, of a row of probabilities and its escape."""
    if pmf.ndim != 1 or not 1 <= len(pmf) < MAX_COLUMNS:
        raise ValueError(f"a row has between 1 and {MAX_COLUMNS - 1} symbols, not {pmf.shape}")
    if not np.isfinite(pmf).all() or (pmf < 0).any() or not 0 < pmf.sum() < 1 + 1e-4:
        raise ValueError("a row of probabilities must be at least 0 and sum to at most 1")
    if not 0.5 <= max_probability <= 1:
        raise ValueError(f"max_probability is between 0.5 and 1, not {max_probability}")
    p = np.append(pmf, max(0.0, 1 - pmf.sum()))
    p /= p.sum()
    top = int(p.argmax())
    if p[top] > max_probability:
        others = np.arange(len(p)) != top
        rest = p[others].sum()
        p[others] = p[others] * ((1 - max_probability) / rest) if rest > 0 else (1 - max_probability) / (len(p) - 1)
        p[top] = max_probability
    rare = np.zeros(len(p), dtype=bool)  # get a count of 1, for which the others make room
    while True:
        scale = (TOTAL - rare.sum()) / p[~rare].sum()
        more = rare | (p * scale < 1)
        if (more == rare).all():
            break
        rare = more
    counts = np.where(rare, 1, np.floor(p * scale)).astype(np.int64)
    saved = p * np.log2((counts + 1) / counts)
    if counts[top] + 1 > max_probability * TOTAL:
        saved[top] = -np.inf
    counts[np.argsort(-saved, kind="stable")[: TOTAL - counts.sum()]] += 1
    return counts
