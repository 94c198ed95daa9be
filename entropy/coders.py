"""Arithmetic coders behind `Tables`, interchangeable: each writes its own streams, all code the same integers.

constriction: one ANS stream (Duda 2013, arXiv 1311.2540; coder of Bamler 2022, arXiv 2201.01741). The default, because
    it is the fastest (eval/studies). Our compiled module writes and reads the same stream (`NativeCoder`); the package
    does where there is no such module. `NumpyCoder` writes it in plain integers, for the tests.
torchac: range-coded segments behind their lengths (Mentzer et al. 2019, arXiv 1811.12817). Our compiled module writes
    and reads them, too. Without it, encoding takes the package, which compiles C++ at first use; decoding needs neither
    that nor the package: `decode_range` reads the same bits.

An ANS stream is little-endian 32-bit words without the zero bytes at the end; 64-bit state, 24-bit probabilities, made
from the last symbol to the first. A torchac stream is, per block and group of rows of similar width, LEB128 length and
bytes of each segment. No symbols, no bytes.

A coder gets its rows once, as cumulative counts: `cdf[0] = 0 < cdf[1] < ... < cdf[-1] = 2**16`. It never sees a float
that two machines could round differently. What it codes are blocks: columns of some rows, grouped by row.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import importlib
import os
import shutil
import sys
import sysconfig
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..errors import StreamError, UsageError
from ..native import codes
from .integers import ByteReader, put_varint

Int32Array = NDArray[np.int32]
Rows = Sequence[Int32Array]

DEFAULT = "constriction"
PRECISION = 16  # bits of a cumulative count
TOTAL = 1 << PRECISION

# constriction's Python coders work with 24-bit probabilities, so our counts are shifted by 8 bits there.
_ANS_PRECISION = 24
_ANS_SHIFT = _ANS_PRECISION - PRECISION
# The coder starts from this state and must be back at it after the last symbol: a check of the stream, for 3 bytes.
# From a state below 2**24, any number of columns 0 could be coded without making it grow (state // count == 0).
_ANS_START = codes.START

_TORCHAC_CHUNK = 1 << 21  # entries of one per-symbol CDF tensor (int16)
_TORCHAC_COLUMNS = (1 << 15) - 1  # its symbols are int16


class Block(NamedTuple):
    """Symbols that can be coded without seeing each other, grouped by row.

    rows: (R,) rows in use, rising.   counts: (R,) symbols of each, at least 1.   columns: (sum of counts,) int32.
    """

    rows: NDArray[np.intp]
    counts: NDArray[np.intp]
    columns: Int32Array


class ColumnReader(ABC):
    """A stream being decoded, block by block. StreamError, at once or in `finish`, for what no encoder wrote."""

    @property
    @abstractmethod
    def bits_left(self) -> int:
        """An upper bound on the information still to come, in bits; 0 if nothing can be taken any more."""

    @abstractmethod
    def take(self, rows: NDArray[np.intp], counts: NDArray[np.intp]) -> Int32Array:
        """Decodes the columns of the next block, as in `Block.columns`. The caller has checked `bits_left` first."""

    @abstractmethod
    def finish(self) -> None:
        """Raises StreamError unless the stream ends here. To be called after the last block."""


class Coder(ABC):
    """An arithmetic coder for a fixed set of rows."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    @abstractmethod
    def encode(self, blocks: Sequence[Block]) -> bytes:
        """One stream of the blocks, which are decoded in this order."""

    @abstractmethod
    def open(self, data: bytes) -> ColumnReader:
        """A reader of a stream that `encode` made."""


def names() -> tuple[str, ...]:
    """The names of coders that a stream may give; the oracle has none."""
    return tuple(_CODERS)


def find(name: str) -> type[Coder]:
    """The class of that name; UsageError if there is none. Making one may raise UsageError if something is missing."""
    if name not in _CODERS:
        raise UsageError(f"no arithmetic coder is called {name!r}; there are {', '.join(_CODERS)}")
    if name == DEFAULT and native.library() is not None:
        return NativeCoder
    return _CODERS[name]


# ---------------------------------------------------------------------------------------------------- one ANS stream


def _words_to_bytes(words: NDArray[np.uint32]) -> bytes:
    """Little-endian words, less the zero bytes at the end."""
    return words.astype("<u4").tobytes().rstrip(b"\0")


def _words_from_bytes(data: bytes) -> NDArray[np.uint32]:
    if not data or data[-1] == 0:
        raise StreamError("the entropy-coded stream is cut or damaged: it ends where no encoder ends")
    return np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)


class ConstrictionCoder(Coder):
    """The coder of constriction's AnsCoder: one call per used row, models built once."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        constriction = importlib.import_module("constriction")
        self._ans: Callable[..., Any] = constriction.stream.stack.AnsCoder
        categorical = constriction.stream.model.Categorical
        # The model adds 1 to each of n weights after scaling them to a sum of 2**24 - n. Ours have that sum already,
        # so its scale is exactly 1 and every partial sum an integer below 2**53: no rounding, on any machine.
        self._models = [
            categorical((np.diff(cdf.astype(np.int64)) * 2**_ANS_SHIFT - 1).astype(np.float64), perfect=False)
            for cdf in rows
        ]

    def encode(self, blocks: Sequence[Block]) -> bytes:
        if not blocks:
            return b""
        coder = self._ans(np.array([_ANS_START], dtype=np.uint32))
        push, models = coder.encode_reverse, self._models
        for block in reversed(blocks):  # what is pushed last is popped first
            columns, end = block.columns, len(block.columns)
            for row, count in zip(block.rows[::-1].tolist(), block.counts[::-1].tolist(), strict=True):
                push(columns[end - count : end], models[row])
                end -= count
        return _words_to_bytes(coder.get_compressed())

    def open(self, data: bytes) -> ColumnReader:
        try:
            coder = self._ans(_words_from_bytes(data)) if data else None
        except ValueError as error:
            raise StreamError(f"the entropy-coded stream is damaged: {error}") from error
        return _ConstrictionReader(coder, self._models)


class _ConstrictionReader(ColumnReader):
    def __init__(self, coder: Any, models: list[Any]) -> None:
        self._coder = coder  # None: an empty stream
        self._models = models

    @property
    def bits_left(self) -> int:
        return self._coder.num_bits() if self._coder is not None else 0

    def take(self, rows: NDArray[np.intp], counts: NDArray[np.intp]) -> Int32Array:
        pop, models = self._coder.decode, self._models
        try:
            if len(rows) == 1:
                return pop(models[int(rows[0])], int(counts[0]))
            return np.concatenate(
                [pop(models[row], count) for row, count in zip(rows.tolist(), counts.tolist(), strict=True)]
            )
        except (KeyError, AssertionError, ValueError) as error:
            raise StreamError(f"the entropy-coded stream is damaged: {error}") from error

    def finish(self) -> None:
        if self._coder is not None and self._coder.pos() != (0, _ANS_START):
            raise StreamError("the entropy-coded stream is damaged: it does not end where its symbols end")


class NativeCoder(Coder):
    """The compiled coder of the same stream: one call per block, or per step."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.model = codes.Model(rows)

    def encode(self, blocks: Sequence[Block]) -> bytes:
        if not blocks:
            return b""
        writer = self.writer()
        for block in reversed(blocks):
            writer.put(*block)
        return self.finished(writer)

    def writer(self) -> codes.AnsWriter:
        """A stream to put blocks or steps into, from the last to the first."""
        return codes.AnsWriter(self.model)

    @staticmethod
    def finished(writer: codes.AnsWriter) -> bytes:
        """The bytes of a stream; none if nothing was put in."""
        return _words_to_bytes(writer.words()) if writer.used else b""

    def open(self, data: bytes) -> NativeReader:
        return NativeReader(codes.AnsReader(self.model, _words_from_bytes(data)) if data else None)


class NativeReader(ColumnReader):
    """A stream that the compiled module decodes."""

    def __init__(self, ans: codes.AnsReader | None) -> None:
        self._ans = ans  # None: an empty stream

    @property
    def ans(self) -> codes.AnsReader | None:
        """The stream; None if it is empty."""
        return self._ans

    @property
    def bits_left(self) -> int:
        return self._ans.bits_left if self._ans is not None else 0

    def take(self, rows: NDArray[np.intp], counts: NDArray[np.intp]) -> Int32Array:
        return self.opened().take(rows, counts)

    def opened(self) -> codes.AnsReader:
        """The stream; StreamError if it is empty."""
        if self._ans is None:
            raise StreamError("the entropy-coded stream is empty, and symbols are asked of it")
        return self._ans

    def finish(self) -> None:
        if self._ans is not None and not self._ans.ended:
            raise StreamError("the entropy-coded stream is damaged: it does not end where its symbols end")


class NumpyCoder(Coder):
    """A coder of the same stream as `ConstrictionCoder`, in plain integers, one symbol at a time: the tests' oracle."""

    def encode(self, blocks: Sequence[Block]) -> bytes:
        if not blocks:
            return b""
        words: list[int] = []
        state = _ANS_START
        for block in reversed(blocks):
            for row, column in zip(np.repeat(block.rows, block.counts)[::-1], block.columns[::-1], strict=True):
                low, high = (int(c) << _ANS_SHIFT for c in self.rows[row][column : column + 2])
                if state >> (64 - _ANS_PRECISION) >= high - low:
                    words.append(state & 0xFFFFFFFF)
                    state >>= 32
                quotient, rest = divmod(state, high - low)
                state = (quotient << _ANS_PRECISION) + low + rest
        while state:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        return _words_to_bytes(np.array(words, dtype=np.uint32))

    def open(self, data: bytes) -> ColumnReader:
        return _NumpyReader([int(word) for word in _words_from_bytes(data)] if data else None, self.rows)


class _NumpyReader(ColumnReader):
    def __init__(self, words: list[int] | None, rows: Rows) -> None:
        self._words, self._rows, self._state = words, rows, 0
        for _ in range(min(2, len(words or []))):
            self._refill()

    def _refill(self) -> None:
        if self._words:
            self._state = self._state << 32 | self._words.pop()

    @property
    def bits_left(self) -> int:
        return 32 * len(self._words) + self._state.bit_length() if self._words is not None else 0

    def take(self, rows: NDArray[np.intp], counts: NDArray[np.intp]) -> Int32Array:
        columns = np.empty(counts.sum(), dtype=np.int32)
        for i, row in enumerate(np.repeat(rows, counts)):
            cdf = self._rows[row]
            quantile = self._state & (2**_ANS_PRECISION - 1)
            column = columns[i] = np.searchsorted(cdf, quantile >> _ANS_SHIFT, side="right") - 1
            low, high = (int(c) << _ANS_SHIFT for c in cdf[column : column + 2])
            self._state = (self._state >> _ANS_PRECISION) * (high - low) + quantile - low
            if self._state < 1 << 32:
                self._refill()
        return columns

    def finish(self) -> None:
        if self._words is not None and (self._words or self._state != _ANS_START):
            raise StreamError("the entropy-coded stream is damaged: it does not end where its symbols end")


# ---------------------------------------------------------------------------------------------------------- torchac


def _import_torchac() -> ModuleType:
    """torchac builds its C++ at import: quietly, with the ninja of this environment even if it is not on PATH."""
    if hasattr(loaded := sys.modules.get("torchac"), "encode_int16_normalized_cdf"):
        assert loaded is not None
        return loaded
    try:
        from torch.utils import cpp_extension
    except ImportError as error:
        raise UsageError("the torchac coder needs PyTorch: pip install torch torchac ninja") from error
    load, path = cpp_extension.load, os.environ.get("PATH")

    _remove_stale_lock(cpp_extension)

    def quiet_load(*args: Any, **options: Any) -> Any:
        return load(*args, **{**options, "verbose": False})  # verbose writes to stdout, where our data may go

    cpp_extension.load = quiet_load
    if shutil.which("ninja") is None:
        os.environ["PATH"] = os.pathsep.join(filter(None, (path, sysconfig.get_path("scripts"))))
    try:
        return importlib.import_module("torchac")
    except ModuleNotFoundError as error:
        raise UsageError("the torchac coder is not installed: pip install torchac ninja") from error
    except Exception as error:  # whatever a missing or broken tool chain makes of it
        raise UsageError(
            "torchac could not compile its C++: it needs ninja and a C++ compiler (pip install ninja; "
            f"apt install g++), or use the constriction coder. {type(error).__name__}: {str(error)[:500]}"
        ) from error
    finally:
        cpp_extension.load = load
        if path is None:
            os.environ.pop("PATH", None)
        else:
            os.environ["PATH"] = path


_STALE = 600  # seconds; compiling takes about one minute


def _remove_stale_lock(cpp_extension: Any) -> None:
    """Remove the lock that a killed process left where torchac is compiled: torch would wait for it for ever."""
    try:
        lock = os.path.join(cpp_extension._get_build_directory("torchac_backend", False), "lock")
        while time.time() - os.stat(lock).st_mtime < _STALE:  # another process compiles
            time.sleep(0.5)
        with contextlib.suppress(FileNotFoundError):
            os.remove(lock)
    except (OSError, AttributeError):  # none there
        return


def decode_range(cdfs: Sequence[Sequence[int]], places: Sequence[int], data: bytes) -> NDArray[np.int16]:
    """The symbols of a range-coded segment, each by the counts of its place: what torchac decodes, in plain integers.

    The interval [low, high] has 32 bits. What low and high agree in is shifted out; where they straddle the middle
    (01..., 10...), the second bit is. Behind its end the segment reads as zeros.
    """
    half, quarter, full = 1 << 31, 1 << 30, (1 << 32) - 1
    low, high, at = 0, full, 32

    def following(count: int) -> int:
        """The next bits, of which there are at most 32."""
        first = at >> 3
        word = int.from_bytes(data[first : first + 5].ljust(5, b"\0"), "big")
        return word >> (40 - (at & 7) - count) & (1 << count) - 1

    value = int.from_bytes(data[:4].ljust(4, b"\0"), "big")
    out = np.empty(len(places), np.int16)
    for index, place in enumerate(places):
        cdf, span = cdfs[place], high - low + 1
        count = (((value - low + 1) << PRECISION) - 1) // span
        symbol = out[index] = bisect.bisect_right(cdf, count) - 1
        high = low + (span * cdf[symbol + 1] >> PRECISION) - 1
        low += span * cdf[symbol] >> PRECISION
        if shift := 32 - (low ^ high).bit_length():
            low, high = low << shift & full, high << shift & full | (1 << shift) - 1
            value = value << shift & full | following(shift)
            at += shift
        while low >= quarter and high < half + quarter:
            low, high = low << 1 & half - 1, high << 1 & full | half | 1
            value = value - quarter << 1 & full | following(1)
            at += 1
    return out


def _widen(cdf: Int32Array, width: int) -> Int32Array:
    """A row widened to `width` columns: the added ones have count 1, the others shrink in proportion. Integers only.

    torchac takes rows of one width only, and divides by zero in a column without a count.
    """
    length = len(cdf) - 1
    if length == width:
        return cdf
    counts = np.ones(width, dtype=np.int64)
    counts[:length] += (np.diff(cdf.astype(np.int64)) - 1) * (TOTAL - width) // (TOTAL - length)
    counts[np.argmax(counts)] += TOTAL - counts.sum()
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


class TorchacCoder(Coder):
    """The coder of torchac: rows of similar width go in one segment, behind its length; long segments are cut."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.lengths = lengths = np.array([len(cdf) - 1 for cdf in rows])
        if lengths.max() > _TORCHAC_COLUMNS:
            raise UsageError(f"torchac takes rows of at most {_TORCHAC_COLUMNS} columns; these have {lengths.max()}")
        # Rows of 2, 3-4, 5-8, 9-16, ... columns; above 256, where added columns start to cost, four groups per octave.
        octave = np.frexp(lengths - 1)[1].astype(np.int64)
        self._group = 4 * octave + np.where(octave > 8, (lengths - 1) >> (octave - 3).clip(0) & 3, 0)
        self._cdfs: dict[int, NDArray[np.int16]] = {}  # of each group: one row of cumulative counts per member
        self._lists: dict[int, list[list[int]]] = {}  # the same as plain integers, made when they are needed
        self._place = np.zeros(len(rows), dtype=np.intp)  # of each row in its group
        for group in np.unique(self._group):
            members = np.flatnonzero(self._group == group)
            width = int(lengths[members].max())
            table = np.stack([_widen(rows[row], width) for row in members])
            self._cdfs[int(group)] = table.astype(np.uint16).view(np.int16)  # 2**16 wraps to 0; torchac knows
            self._place[members] = np.arange(len(members))

    @functools.cached_property
    def _model(self) -> codes.Model:
        """The rows, widened, as our compiled module takes them."""
        tables = {group: self._plain(group) for group in self._cdfs}
        places = zip(self._group.tolist(), self._place.tolist(), strict=True)
        return codes.Model([tables[group][place] for group, place in places])

    def _plain(self, group: int) -> NDArray[np.int64]:
        """The cumulative counts of a group as integers that don't wrap, a row for each member."""
        table = self._cdfs[group].view(np.uint16).astype(np.int64)
        table[:, -1] = TOTAL
        return table

    def segments(self, rows: NDArray[np.intp], counts: NDArray[np.intp]) -> list[tuple[int, NDArray[np.intp]]]:
        """The segments of a block as (group, positions in the block): a pure function of what both sides know."""
        segments: list[tuple[int, NDArray[np.intp]]] = []
        group = np.repeat(self._group[rows], counts)
        for name in np.unique(self._group[rows]).tolist():
            positions = np.flatnonzero(group == name)
            step = max(1, _TORCHAC_CHUNK // self._cdfs[name].shape[1])
            segments.extend((name, positions[start : start + step]) for start in range(0, len(positions), step))
        return segments

    def cdf_tensor(self, group: int, rows: NDArray[np.intp]) -> Any:
        """The int16 tensor (n, width + 1) of cumulative counts of n rows of a group, as torchac takes it."""
        import torch

        return torch.from_numpy(self._cdfs[group][self._place[rows]])

    def encode(self, blocks: Sequence[Block]) -> bytes:
        if native.library() is None:
            _import_torchac()
        out = bytearray()
        for block in blocks:
            row = np.repeat(block.rows, block.counts)
            for group, positions in self.segments(block.rows, block.counts):
                part = self.encode_segment(group, row[positions], block.columns[positions])
                out += put_varint(len(part)) + part
        return bytes(out)

    def encode_segment(self, group: int, rows: NDArray[np.intp], columns: Int32Array) -> bytes:
        if native.library() is not None:
            return codes.range_put(self._model, rows, columns)
        import torch

        symbols = torch.from_numpy(columns.astype(np.int16))
        return _import_torchac().encode_int16_normalized_cdf(self.cdf_tensor(group, rows), symbols)

    def decode_segment(self, group: int, rows: NDArray[np.intp], data: bytes) -> NDArray[np.integer[Any]]:
        if native.library() is not None:
            return codes.range_take(self._model, rows, data)
        torchac = sys.modules.get("torchac")  # faster, where it is compiled and loaded already
        if hasattr(torchac, "decode_int16_normalized_cdf"):
            assert torchac is not None
            return torchac.decode_int16_normalized_cdf(self.cdf_tensor(group, rows), data).numpy()
        if group not in self._lists:
            self._lists[group] = self._plain(group).tolist()
        return decode_range(self._lists[group], self._place[rows].tolist(), data)

    def open(self, data: bytes) -> ColumnReader:
        return _TorchacReader(self, data)


class _TorchacReader(ColumnReader):
    def __init__(self, coder: TorchacCoder, data: bytes) -> None:
        self._coder, self._bytes = coder, ByteReader(data, "the torchac stream")

    @property
    def bits_left(self) -> int:
        return 8 * self._bytes.left

    def _segment(self, n_symbols: int) -> bytes:
        """The next segment. torchac reads zeros behind the end of what it gets, so it gets neither less nor more."""
        length = self._bytes.varint()
        if not 0 < length <= min(self._bytes.left, 2 * n_symbols + 4):
            raise StreamError(f"the torchac stream is cut or damaged: a segment says that it has {length} bytes")
        return self._bytes.take(length)

    def take(self, rows: NDArray[np.intp], counts: NDArray[np.intp]) -> Int32Array:
        row = np.repeat(rows, counts)
        columns = np.empty(len(row), dtype=np.int32)
        for group, positions in self._coder.segments(rows, counts):
            used = row[positions]
            columns[positions] = self._coder.decode_segment(group, used, self._segment(len(positions)))
        if (columns >= self._coder.lengths[row]).any():
            raise StreamError("the torchac stream is damaged: a symbol is in none of its row's columns")
        return columns

    def finish(self) -> None:
        if self._bytes.left:
            raise StreamError(f"the torchac stream is damaged: {self._bytes.left} bytes are left over")


_CODERS: dict[str, type[Coder]] = {"constriction": ConstrictionCoder, "torchac": TorchacCoder}
