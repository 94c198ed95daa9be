"""Hidden Chow-Liu trees in compiled loops: the tour over a tree for many items at once, and lanes of arithmetic coders.

Liu, Mandt, Van den Broeck, "Lossless Compression with Probabilistic Circuits", ICLR 2022, arXiv 2111.11632. The twins,
which these loops equal to the last integer, are `_Tour`, `_EncodingSide` and `_DecodingSide` in
entropy/circuits/coding.py, and the lanes of entropy/circuits/lanes.py. Differs from them: a row of the table is tried
first, the most probable symbol's, before a search; it is the right one for most values of sparse data.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library, threads

__all__ = ["Tour", "encode_lanes", "fill_tables", "row_length"]

MAX_STATES = 256
_ENTER, _LEAF, _UP = 0, 1, 2  # kinds of operations, as in src/circuits.h
_NO_BELIEF, _NO_MESSAGE = 1, 2
_PART = 128  # items that an encoder's thread takes through the tree: their messages stay in the cache
_PART_BYTES = 1 << 24
_MOST_BYTES = 1 << 30  # of a decoder's messages

_void = ctypes.c_void_p


def row_length(states: int) -> int:
    """The numbers of a row of so many states in memory: a multiple of the longest vectors."""
    return 8 if states <= 8 else -(-states // 16) * 16


class _Struct(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n_variables", "states", "pitch", "n_levels", "n_operations")),
        *((name, _void) for name in ("operations", "leaves", "sizes", "guesses", "down", "up", "prior")),
    )


class Tour:
    """A tree of variables with its tables, ready to be walked through. It keeps all arrays that it points to.

    children: of each variable, in the order in which they are coded; inner: (D,) which have a latent of their own.
    leaves: cumulative counts, (size + 1, M) float32 each; matrices: of the inner variables but the root, (M, M)
    float64; prior: (M,). All are integers: counts that sum to 2**24.
    """

    def __init__(
        self,
        children: Sequence[Sequence[int]],
        inner: NDArray[np.bool_],
        root: int,
        leaves: Sequence[NDArray[Any]],
        matrices: Mapping[int, NDArray[Any]],
        prior: NDArray[Any],
    ) -> None:
        states, n = len(prior), len(children)
        assert 1 <= states <= MAX_STATES and len(leaves) == len(inner) == n and 0 <= root < n
        self.states, self.pitch, self.n_variables = states, row_length(states), n
        number = {v: i for i, v in enumerate(matrices)}
        operations, self.n_levels, self.order = _operations(children, inner, root, number)
        assert sorted(self.order) == list(range(n)), "children that aren't a tree"
        self._operations = np.array(operations, np.int32)
        self._leaves = [self._padded(table) for table in leaves]
        self.sizes = np.array([len(table) - 1 for table in leaves], np.int32)
        self._prior = np.zeros(self.pitch)
        self._prior[:states] = prior
        self._down = self._stacked(list(matrices.values()))
        self._up = np.ascontiguousarray(self._down.swapaxes(1, 2))
        self._guesses = self._likely(operations)
        self._addresses = np.array([table.ctypes.data for table in self._leaves], np.uint64)
        self._struct = _Struct(n, states, self.pitch, self.n_levels, len(operations))
        for name in ("operations", "sizes", "guesses", "down", "up", "prior"):
            array = getattr(self, name if name == "sizes" else f"_{name}")
            assert array.flags.c_contiguous
            setattr(self._struct, name, array.ctypes.data)
        self._struct.leaves = self._addresses.ctypes.data

    @property
    def pointer(self) -> Any:
        """The tour as a kernel takes it."""
        return ctypes.byref(self._struct)

    @property
    def n_matrices(self) -> int:
        return len(self._down)

    def _padded(self, table: NDArray[Any]) -> NDArray[np.float32]:
        """A table with rows of the pitch: the one that is given where its rows lie so in memory."""
        assert table.ndim == 2 and table.shape[1] == self.states and len(table) >= 2
        assert table[0].max() == 0 and table[-1].min() == table[-1].max() == 1 << 24
        base = table.base
        if isinstance(base, np.ndarray) and base.dtype == np.float32 and base.flags.c_contiguous:
            rows = base[..., : self.states] if base.shape == (len(table), self.pitch) else None
            if rows is not None and rows.ctypes.data == table.ctypes.data and rows.strides == table.strides:
                return base
        out = np.zeros((len(table), self.pitch), np.float32)
        out[:, : self.states] = table
        return out

    def _stacked(self, matrices: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """The matrices in rows of the pitch, one behind the other: the array that they are views of, if it is so."""
        states, shape = self.states, (len(matrices), self.pitch, self.pitch)
        assert all(matrix.shape == (states, states) for matrix in matrices)
        base = matrices[0].base if matrices else None
        if (
            isinstance(base, np.ndarray)
            and base.shape == shape
            and base.dtype == np.float64
            and base.flags.c_contiguous
        ):
            views = [base[i, :states, :states] for i in range(len(base))]
            if all(
                a.ctypes.data == b.ctypes.data and a.strides == b.strides for a, b in zip(views, matrices, strict=True)
            ):
                return base
        out = np.zeros(shape)
        for i, matrix in enumerate(matrices):
            out[i, :states, :states] = matrix
        return out

    def _likely(self, operations: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        """The most probable symbol of each variable, (D,): the first that a decoder tries."""
        out = np.zeros(self.n_variables, np.int32)
        beliefs = [self._prior / self._prior.sum()] * (self.n_levels + 1)
        for kind, v, level, _, matrix in operations:
            if kind == _UP:
                continue
            if kind == _ENTER and matrix >= 0:
                beliefs[level] = beliefs[level - 1] @ self._down[matrix] / (1 << 24)
            out[v] = np.diff(self._leaves[v] @ beliefs[level].astype(np.float32)).argmax()
        return out

    def fits(self, n: int) -> bool:
        """Whether the messages of n items in lock-step fit into what memory a tour may take."""
        return self._level_bytes(n) <= _MOST_BYTES

    def _level_bytes(self, n: int) -> int:
        return 2 * self.n_levels * n * self.pitch * 8

    def intervals(self, symbols: NDArray[Any]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """The start and count of symbols (n, D), (D, n) each, in the order of the tour; -1 is absent."""
        module, columns = library(), self._checked(symbols)
        assert module is not None
        start = np.empty(columns.shape, np.uint32)
        count = np.empty_like(start)
        check(
            module.codec_circuit_intervals(
                ctypes.byref(self._struct),
                _void(columns.ctypes.data),
                ctypes.c_int64(len(symbols)),
                ctypes.c_int64(self._part(len(symbols))),
                _void(start.ctypes.data),
                _void(count.ctypes.data),
            )
        )
        return start, count

    def _checked(self, symbols: NDArray[Any]) -> NDArray[np.int32]:
        """The symbols (n, D) as (D, n) for a kernel: a step reads those of one variable."""
        assert symbols.ndim == 2 and symbols.shape[1] == self.n_variables
        columns = np.ascontiguousarray(symbols.T, np.int32)
        assert not columns.size or (columns.min() >= -1 and (columns.max(1) < self.sizes).all())
        return columns

    def _part(self, n: int) -> int:
        """The number of n items that a thread takes through the tree: parts are alike, and as many as threads."""
        abreast = threads()
        parts = -(-n // (max(4, min(_PART, _PART_BYTES // self._level_bytes(1))) * abreast)) * abreast
        return max(4, -(-n // (4 * max(1, parts))) * 4)

    def lengths(self, symbols: NDArray[Any]) -> NDArray[np.float64] | None:
        """About the code length in bits of symbols (n, D), (n,), several times as fast as `intervals`; None if the
        states are so few that it wouldn't be. It isn't the same on all machines: no stream may depend on it."""
        module, columns = library(), self._checked(symbols)
        assert module is not None
        if self.pitch % 16:
            return None
        out = np.empty(len(symbols))
        check(
            module.codec_circuit_lengths(
                ctypes.byref(self._struct),
                _void(self._up_floats.ctypes.data),
                _void(columns.ctypes.data),
                ctypes.c_int64(len(symbols)),
                ctypes.c_int64(self._part(len(symbols))),
                _void(out.ctypes.data),
            )
        )
        return out

    @cached_property
    def _up_floats(self) -> NDArray[np.float32]:
        return (self._up / (1 << 24)).astype(np.float32)

    def decode(
        self,
        n: int,
        state: NDArray[np.uint64],
        lanes: int,
        words: NDArray[np.uint32],
        at: int,
        each: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    ) -> tuple[NDArray[np.int32], int]:
        """The symbols (n, D) of the next block, and where it ends in the words. state: (lanes,), moved on in place.

        at: where the block begins in the words. each: where the words of each lane are, moved on in place, and end, if
        lanes have words of their own. ValueError where words end too early.
        """
        module = library()
        assert module is not None and n >= 0 and 1 <= lanes <= len(state) and 0 <= at <= len(words) and self.fits(n)
        assert state.dtype == np.uint64 and words.dtype == np.uint32 and state.flags.writeable
        assert state.flags.c_contiguous and words.flags.c_contiguous
        assert not lanes or int(state.max()) < 1 << 63, "states of lanes are below 2**63"
        if each is not None:
            assert all(x.dtype == np.int64 and len(x) == len(state) and x.flags.c_contiguous for x in each)
            assert each[0].min() >= 0 and each[1].max() <= len(words) and each[0].flags.writeable
        columns = np.empty((self.n_variables, n), np.int32)
        levels = np.empty(self._level_bytes(n) // 8)
        position = ctypes.c_int64(at)
        check(
            module.codec_circuit_decode(
                ctypes.byref(self._struct),
                _void(columns.ctypes.data),
                ctypes.c_int64(n),
                _void(levels.ctypes.data),
                _void(state.ctypes.data),
                ctypes.c_int64(lanes),
                _void(words.ctypes.data),
                ctypes.c_int64(len(words)),
                ctypes.byref(position),
                _void(each[0].ctypes.data if each else None),
                _void(each[1].ctypes.data if each else None),
            )
        )
        return columns.T, position.value


def fill_tables(codes: NDArray[Any], tables: Sequence[NDArray[np.float32]]) -> None:
    """Fills in the cumulative counts of variables, (size + 1, row_length) zeros each, from their codes.

    codes: uint8 or uint16 (sum of sizes, M), as `to_codes` of entropy/circuits/coding.py makes them; `to_counts` and
    `from_codes` there are the twins.
    """
    module, states = library(), codes.shape[1]
    assert module is not None and codes.dtype in (np.uint8, np.uint16) and codes.ndim == 2 and codes.flags.c_contiguous
    assert 1 <= states <= MAX_STATES
    sizes = np.array([len(table) - 1 for table in tables], np.int64)
    assert sizes.sum() == len(codes) and sizes.min() >= 1 and sizes.max() < 1 << 24
    for table in tables:
        assert table.dtype == np.float32 and table.shape[1] == row_length(states)
        assert table.flags.c_contiguous and table.flags.writeable
    first = np.cumsum(sizes) - sizes
    addresses = np.array([table.ctypes.data for table in tables], np.uint64)
    check(
        module.codec_circuit_tables(
            _void(codes.ctypes.data),
            ctypes.c_int64(8 * codes.dtype.itemsize),
            _void(first.ctypes.data),
            _void(sizes.ctypes.data),
            ctypes.c_int64(len(tables)),
            ctypes.c_int64(states),
            ctypes.c_int64(row_length(states)),
            _void(addresses.ctypes.data),
        )
    )


def _operations(
    children: Sequence[Sequence[int]], inner: NDArray[np.bool_], root: int, number: Mapping[int, int]
) -> tuple[list[tuple[int, int, int, int, int]], int, list[int]]:
    """The depth-first tour as operations (kind, variable, level, flags, matrix), its levels, and the order of coding.

    Flags say what no later operation needs: the belief about a latent whose children are all coded, the message of the
    root. A level's memory serves all latents of that depth, one after the other.
    """
    top = _NO_MESSAGE | (0 if children[root] else _NO_BELIEF)
    out, order, n_levels = [(_ENTER, root, 0, top, -1)], [root], 1
    stack = [(root, 0)]  # variables, and the children of each that have been visited
    while stack:
        v, visited = stack.pop()
        level = len(stack)
        if visited == len(children[v]):
            if stack:
                parent, before = stack[-1]  # its count already holds v
                last = before == len(children[parent])
                out.append((_UP, v, level, _NO_BELIEF * last | _NO_MESSAGE * (parent == root), number[v]))
            continue
        child = children[v][visited]
        stack.append((v, visited + 1))
        order.append(child)
        if inner[child]:
            out.append((_ENTER, child, level + 1, 0, number[child]))
            stack.append((child, 0))
            n_levels = max(n_levels, level + 2)
        else:
            last = visited + 1 == len(children[v])
            out.append((_LEAF, child, level, _NO_BELIEF * last | _NO_MESSAGE * (v == root), -1))
        assert len(order) <= len(children), "children that aren't a tree"
    return out, n_levels, order


def encode_lanes(
    state: NDArray[np.uint64], blocks: Sequence[tuple[NDArray[np.uint32], NDArray[np.uint32], int]], owners: bool
) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """The words of intervals, coded from the last to the first, and with `owners` the lane of each word.

    state: of the lanes, moved on in place. blocks: start, count (steps, n), and the lanes of each block.
    """
    module = library()
    assert module is not None and state.dtype == np.uint64 and state.flags.c_contiguous and state.flags.writeable
    words: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]
    lanes_of: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    for start, count, lanes in reversed(blocks):
        assert start.dtype == count.dtype == np.uint32 and start.shape == count.shape and start.ndim == 2
        assert start.flags.c_contiguous and count.flags.c_contiguous and 1 <= lanes <= len(state)
        if not start.size:
            continue
        assert count.min() > 0, "an empty interval"
        room = np.empty(start.size, np.uint32)
        owned = np.empty(start.size if owners else 0, np.int32)
        left = ctypes.c_int64(start.size)
        check(
            module.codec_circuit_lanes(
                _void(state.ctypes.data),
                ctypes.c_int64(lanes),
                _void(start.ctypes.data),
                _void(count.ctypes.data),
                ctypes.c_int64(start.shape[0]),
                ctypes.c_int64(start.shape[1]),
                _void(room.ctypes.data),
                _void(owned.ctypes.data if owners else None),
                ctypes.byref(left),
            )
        )
        words.append(room[left.value :].copy())
        lanes_of.append(owned[left.value :].copy() if owners else owned)
    return np.concatenate(words[::-1]), np.concatenate(lanes_of[::-1])
