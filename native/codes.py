"""Arithmetic coding, compiled: the streams of `entropy.coders`, which has the twins and says what a stream is.

`Model` holds rows of cumulative counts, `TableModel` says of which symbols. An `AnsReader` and an `AnsWriter` are a
stream each; range-coded segments are read and written by `range_take` and `range_put`. All of these need the compiled
module. Kernels of other families decode with the functions of src/ans.h: the pointers of these objects are what they
take.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library

__all__ = ["StepError", "TableModel", "START", "AnsReader", "AnsWriter", "Model", "range_put", "range_take"]

START = 0x100C0DE  # the state before the first symbol, after the last
TOTAL = 1 << 16
_PLACES = 257  # of a row's table, see src/ans.h
_TAIL_ROWS = 9
_STEP_ERRORS = {1: "row", 2: "bits", 3: "symbol"}
_LONGEST = (1 << 15) - 1  # columns of a row

Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]


class Rows(ctypes.Structure):
    """`CodecRows` of src/args.h."""

    _fields_ = (
        ("cdf", ctypes.c_void_p),
        ("at", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("built", ctypes.c_void_p),
        ("n", ctypes.c_int64),
    )


class Tables(ctypes.Structure):
    """`CodecTables` of src/args.h."""

    _fields_ = (
        ("rows", Rows),
        ("offset", ctypes.c_void_p),
        ("min_bits", ctypes.c_void_p),
        ("n_rows", ctypes.c_int64),
        ("smallest", ctypes.c_int64),
        ("largest", ctypes.c_int64),
    )


class Ans(ctypes.Structure):
    """`CodecAns` of src/args.h."""

    _fields_ = (("words", ctypes.c_void_p), ("n_words", ctypes.c_int64), ("state", ctypes.c_uint64))


def _module() -> ctypes.CDLL:
    module = library()
    assert module is not None, "this needs the compiled module"
    return module


def _pointer(x: NDArray[Any]) -> ctypes.c_void_p:
    assert x.flags.c_contiguous
    return ctypes.c_void_p(x.ctypes.data)


def _as(x: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """The array, contiguous, in this dtype, which must hold its numbers."""
    return np.ascontiguousarray(x, dtype)


class Model:
    """Distributions, one per row, as the compiled coders look up in them.

    rows: cumulative counts of each: integers from 0 to 2**16 that rise strictly; ValueError for others.
    """

    def __init__(self, rows: Sequence[NDArray[Any]]) -> None:
        sizes = np.array([len(cdf) for cdf in rows], np.int64)
        if not len(rows) or sizes.min() < 3 or sizes.max() > _LONGEST + 1:
            raise ValueError(f"rows have 2 to {_LONGEST} columns")
        cdf = np.concatenate(rows)
        self._at = np.cumsum(sizes) - sizes
        ends = self._at + sizes - 1
        rises = cdf[1:] > cdf[:-1]
        rises[ends[:-1]] = True  # from a row's end to the next row
        if cdf.dtype.kind not in "iu" or (cdf[self._at] != 0).any() or (cdf[ends] != TOTAL).any() or not rises.all():
            raise ValueError(f"cumulative counts rise strictly from 0 to {TOTAL}")
        self.lengths = (sizes - 1).astype(np.int32)
        self._cdf = np.concatenate([cdf.astype(np.uint16), np.zeros(32, np.uint16)])  # 2**16 becomes 0
        self._places = np.empty((len(rows), _PLACES), np.uint16)
        self._built = np.zeros(len(rows), np.uint8)
        arrays = (self._cdf, self._at, self.lengths, self._places, self._built)
        self._struct = Rows(*(_pointer(array) for array in arrays), len(rows))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def pointer(self) -> Any:
        """A `CodecRows` for an entry point, valid while the model lives."""
        return ctypes.byref(self._struct)


class TableModel:
    """A model whose first rows are those of tables of symbols; the other 9 are of what is behind an escape.

    offset: the symbol of each row's first column. min_bits: of the cheapest symbol of each of the model's rows.
    Escaped symbols outside smallest ... largest are damage.
    """

    def __init__(
        self,
        model: Model,
        offset: Int32Array,
        min_bits: NDArray[np.float64],
        smallest: int = -(2**31),
        largest: int = 2**31 - 1,
    ) -> None:
        assert len(offset) + _TAIL_ROWS == len(min_bits) == len(model)
        self.model, self._offset, self._min_bits = model, _as(offset, np.int32), _as(min_bits, np.float64)
        arrays = _pointer(self._offset), _pointer(self._min_bits)
        self._struct = Tables(model._struct, *arrays, len(offset), smallest, largest)

    @property
    def pointer(self) -> Any:
        """A `CodecTables` for an entry point, valid while this lives."""
        return ctypes.byref(self._struct)

    def limited(self, smallest: int, largest: int) -> TableModel:
        """The same with other limits of escaped symbols."""
        return TableModel(self.model, self._offset, self._min_bits, smallest, largest)


class StepError(ValueError):
    """Nothing that can be coded. kind: "row", there is no such row; "bits", the stream is too short; "symbol", one
    is out of range. needed: the bits that there should be at least.
    """

    def __init__(self, kind: str, needed: float) -> None:
        super().__init__(f"the symbols of a step can't be coded: {kind}")
        self.kind, self.needed = kind, needed


def check_step(status: int, needed: float = 0.0) -> None:
    """Raises what the status of an entry point that codes steps stands for."""
    if status in _STEP_ERRORS:
        raise StepError(_STEP_ERRORS[status], needed)
    check(status)


# ---- rows of symbols


def _row_numbers(row: NDArray[Any]) -> tuple[ctypes.c_void_p, ctypes.c_int, ctypes.c_int64]:
    assert row.dtype.kind in "iu" and row.dtype.isnative
    return _pointer(row), ctypes.c_int(row.dtype.itemsize), ctypes.c_int64(row.size)


# ---- ANS


class AnsReader:
    """An ANS stream that is being decoded.

    words: (n,) uint32, the last one not 0.
    """

    def __init__(self, model: Model, words: NDArray[np.uint32]) -> None:
        self.model = model
        self._words = _as(words, np.uint32)
        self._struct = Ans(_pointer(self._words), len(self._words), 0)
        for _ in range(min(2, len(self._words))):
            self._struct.n_words -= 1
            self._struct.state = self._struct.state << 32 | int(self._words[self._struct.n_words])

    @property
    def pointer(self) -> Any:
        """A `CodecAns` for an entry point, valid while the reader lives."""
        return ctypes.byref(self._struct)

    @property
    def bits_left(self) -> int:
        """An upper bound on the information still to come, in bits."""
        return 32 * self._struct.n_words + self._struct.state.bit_length()

    @property
    def ended(self) -> bool:
        """Whether the stream is where its last symbol leaves it."""
        return self._struct.n_words == 0 and self._struct.state == START

    def take(self, rows: NDArray[Any], counts: NDArray[Any]) -> Int32Array:
        """The columns of a block, grouped by row: counts[i] of rows[i]."""
        rows, counts = _as(rows, np.int64), _as(counts, np.int64)
        assert rows.shape == counts.shape == (len(rows),)
        n = int(counts.sum())
        columns = np.empty(n, np.int32)
        sizes = ctypes.c_int64(len(rows)), ctypes.c_int64(n)
        entry = _module().codec_ans_take
        check(entry(self.model.pointer, self.pointer, _pointer(rows), _pointer(counts), sizes[0], _pointer(columns), sizes[1]))
        return columns

    def take_step(self, tables: TableModel, row: NDArray[Any]) -> Int32Array:
        """The symbols of a step, (n,), in the order of their rows. row: contiguous. Raises StepError."""
        symbols, needed = np.empty(row.size, np.int32), ctypes.c_double()
        entry = _module().codec_tables_take
        status = entry(tables.pointer, self.pointer, *_row_numbers(row), _pointer(symbols), ctypes.byref(needed))
        check_step(status, needed.value)
        return symbols


class AnsWriter:
    """An ANS stream that is being made, from its last block to its first."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._parts: list[NDArray[np.uint32]] = []
        self._state = START

    def put(self, rows: NDArray[Any], counts: NDArray[Any], columns: Int32Array) -> None:
        """Puts a block in front of those that are coded."""
        rows, counts, columns = _as(rows, np.int64), _as(counts, np.int64), _as(columns, np.int32)
        assert rows.shape == counts.shape == (len(rows),)
        words = np.empty(len(columns), np.uint32)  # a symbol is at most one
        state = Ans(None, 0, self._state)
        status = _module().codec_ans_put(
            self.model.pointer,
            ctypes.byref(state),
            _pointer(words),
            _pointer(rows),
            _pointer(counts),
            ctypes.c_int64(len(rows)),
            _pointer(columns),
            ctypes.c_int64(len(columns)),
        )
        check(status)
        self._state = state.state
        self._parts.append(words[: state.n_words].copy())

    def put_steps(self, tables: TableModel, row: NDArray[Any], symbols: Int32Array, sizes: Int64Array) -> None:
        """Puts steps, one behind the other in `row` and `symbols`, in front of those that are coded.

        row: contiguous. sizes: the symbols of each step. Raises StepError.
        """
        n = row.size
        assert symbols.size == n and symbols.dtype == np.int32 and sizes.dtype == np.int64
        words = np.empty(3 * n + 16, np.uint32)  # an escaped symbol is at most 16, 16 and 33 bits
        state = Ans(None, 0, self._state)
        status = _module().codec_tables_put(
            tables.pointer,
            ctypes.byref(state),
            _pointer(words),
            ctypes.c_int64(len(words)),
            *_row_numbers(row)[:2],
            _pointer(symbols),
            _pointer(sizes),
            ctypes.c_int64(len(sizes)),
            ctypes.c_int64(n),
        )
        check_step(status)
        self._state = state.state
        self._parts.append(words[: state.n_words].copy())

    @property
    def used(self) -> bool:
        """Whether anything was put in."""
        return bool(self._parts)

    def words(self) -> NDArray[np.uint32]:
        """The words of the stream."""
        last = [word for word in (self._state & 0xFFFFFFFF, self._state >> 32) if word or self._state >> 32]
        return np.concatenate([*self._parts, np.array(last, np.uint32)])


# ---- range coder


def range_take(model: Model, row: NDArray[Any], data: bytes) -> Int32Array:
    """The columns of a range-coded segment, each of its row of the model: what `entropy.coders.decode_range` gives."""
    row = _as(row, np.int32)
    columns = np.empty(row.shape, np.int32)
    entry, sizes = _module().codec_range_take, (ctypes.c_int64(row.size), ctypes.c_int64(len(data)))
    check(entry(model.pointer, _pointer(row), sizes[0], ctypes.c_char_p(data), sizes[1], _pointer(columns)))
    return columns


def range_put(model: Model, row: NDArray[Any], columns: Int32Array) -> bytes:
    """The range-coded segment of columns, each of its row of the model: the bytes that torchac writes."""
    row, columns = _as(row, np.int32), _as(columns, np.int32)
    assert row.shape == columns.shape
    data, n_bytes = np.empty(3 * row.size + 16, np.uint8), ctypes.c_int64()
    entry, sizes = _module().codec_range_put, (ctypes.c_int64(row.size), ctypes.c_int64(len(data)))
    arrays = (_pointer(row), sizes[0], _pointer(columns), _pointer(data), sizes[1])
    check(entry(model.pointer, *arrays, ctypes.byref(n_bytes)))
    return data[: n_bytes.value].tobytes()
