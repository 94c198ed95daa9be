"""Items on a small grid, in compiled loops: the decisions of one position of a block of items in a call.

The twin is entropy/mixing/items.py. The caller owns all arrays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .mixing import READ, WRITE, Coder, ends_well

__all__ = ["CONTEXTS", "Belief", "Block", "EachCoder", "Trees", "code"]

CONTEXTS = 20  # ITEM_CONTEXTS of src/mixing_items.h
_DAMAGED = -3
_void, _int64 = ctypes.c_void_p, ctypes.c_int64


class _Struct(ctypes.Structure):
    """`MixingItems` of src/args_mixing_items.h."""

    _fields_ = (
        *((name, _int64) for name in ("n", "channels", "height", "width", "guided", "each")),
        *((name, _void) for name in ("roots", "middle", "below", "above", "group", "place", "rank", "kind")),
        *((name, _void) for name in ("first_level", "level_of", "mean_of", "spot")),
        ("n_spots", _int64),
        *((name, _void) for name in ("symbols", "levels", "rows", "columns", "sums", "belief", "tables", "which")),
        ("pitch", _int64),
    )


@dataclass(frozen=True)
class Trees:
    """The decisions of every position's symbols.

    sizes, roots, spot, first_level: (positions,); the rest as `MixingItems` of src/args_mixing_items.h says. A node's
    children lie behind it; every tree ends in the symbols below its size, which the caller sees to.
    """

    sizes: NDArray[np.int32]
    roots: NDArray[np.int32]
    middle: NDArray[np.int32]
    below: NDArray[np.int32]
    above: NDArray[np.int32]
    group: NDArray[np.int32]
    place: NDArray[np.int32]
    rank: NDArray[np.int32]
    kind: NDArray[np.int32]
    first_level: NDArray[np.int64]
    level_of: NDArray[np.uint8]
    mean_of: NDArray[np.uint8]
    spot: NDArray[np.int32]
    n_spots: int


@dataclass
class Block:
    """Items that are coded side by side: symbols (positions, n) int32, and what their contexts need of them."""

    shape: tuple[int, int, int]
    symbols: NDArray[np.int32]
    levels: NDArray[np.uint8]
    rows: NDArray[np.uint8]
    columns: NDArray[np.uint8]
    sums: NDArray[np.int32]

    @staticmethod
    def new(shape: tuple[int, int, int], symbols: NDArray[np.int32]) -> Block:
        """A block of which nothing has been coded. symbols: (positions, n); when read, they are written here."""
        channels, height, width = shape
        positions, n = symbols.shape
        assert positions == channels * height * width and symbols.dtype == np.int32 and symbols.flags.c_contiguous
        far = np.full(n, 15, np.uint8)
        columns = np.full((width, n), 15, np.uint8)
        return Block(shape, symbols, np.zeros((positions, n), np.uint8), far, columns, np.zeros(n, np.int32))


class Belief(NamedTuple):
    """A guide's probabilities at a position: beliefs (n, states) float64 whole numbers that sum to at most 2^24 in each
    row, cumulative tables (symbols + 1, states) float32 whole numbers up to 2^24, and (n,) int32 which table."""

    beliefs: NDArray[np.float64]
    tables: Sequence[NDArray[np.float32]]
    which: NDArray[np.int32]


class EachCoder:
    """A coder for each of n items, over one frozen state. streams: of each item, to be read; None writes them.

    room: bytes of a stream that is written; ValueError where they don't suffice.
    """

    def __init__(self, like: Coder, n: int, streams: Sequence[bytes] | None = None, room: int = 0) -> None:
        assert like.struct.frozen and (streams is None or len(streams) == n)
        module = library()
        assert module is not None, "this needs the compiled module"
        self.role, self._module, self._like, self.n = (WRITE if streams is None else READ), module, like, n
        self._bytes = (
            np.frombuffer(b"".join(streams), np.uint8) if streams is not None else np.empty((n, room), np.uint8)
        )
        self._structs = (type(like.struct) * n)()
        sizes = [room] * n if streams is None else [len(stream) for stream in streams]
        self._first = np.concatenate([[0], np.cumsum(sizes)])
        for index in range(n):
            struct = self._structs[index]
            ctypes.pointer(struct)[0] = like.struct
            struct.bytes, struct.size = self._bytes.ctypes.data + int(self._first[index]), sizes[index]
            check(module.codec_mixing_start(ctypes.byref(struct), ctypes.c_int(self.role)))

    @property
    def struct(self) -> Any:
        """The first item's coder, whose sizes are those of all."""
        return self._structs[0]

    @property
    def pointer(self) -> Any:
        """The address that a kernel takes."""
        return self._structs

    def finish(self) -> list[bytes]:
        """The streams that were written; of those that were read, ValueError unless all end here."""
        out = []
        for index in range(self.n):
            struct = self._structs[index]
            if self.role == READ:
                first = int(self._first[index])
                if not ends_well(struct.at, self._bytes[first : first + struct.size]):
                    check(_DAMAGED)
                continue
            check(self._module.codec_mixing_stop(ctypes.byref(struct)))
            out.append(self._bytes[index, : struct.at].tobytes())
        return out


def code(coder: Coder | EachCoder, trees: Trees, block: Block, t: int, belief: Belief | None) -> None:
    """Codes position t of all items of a block: its symbols are read into the block, or taken from it."""
    positions, n = block.symbols.shape
    channels, height, width = block.shape
    assert 0 <= t < positions == len(trees.roots) == len(trees.sizes) == channels * height * width
    assert block.levels.shape == (positions, n) and block.columns.shape == (width, n)
    assert block.rows.shape == block.sums.shape == (n,)
    size = int(trees.sizes[t])
    row = block.symbols[t]
    assert coder.role == READ or 0 <= row.min() <= row.max() < size, "a symbol that isn't of its position's"
    each = isinstance(coder, EachCoder)
    assert not each or coder.n == n
    call = _Struct(
        n=n, channels=channels, height=height, width=width, guided=belief is not None, each=each, n_spots=trees.n_spots
    )
    for name in ("roots", "middle", "below", "above", "group", "place", "rank", "kind", "first_level", "level_of"):
        setattr(call, name, getattr(trees, name).ctypes.data)
    call.mean_of, call.spot = trees.mean_of.ctypes.data, trees.spot.ctypes.data
    for name in ("symbols", "levels", "rows", "columns", "sums"):
        setattr(call, name, getattr(block, name).ctypes.data)
    tables = None
    if belief is not None:
        beliefs, which = belief.beliefs, belief.which
        assert beliefs.dtype == np.float64 and beliefs.flags.c_contiguous and len(beliefs) == len(which) == n
        assert (
            which.dtype == np.int32
            and which.flags.c_contiguous
            and 0 <= which.min() <= which.max() < len(belief.tables)
        )
        for table in belief.tables:
            assert (
                table.dtype == np.float32 and table.flags.c_contiguous and table.shape == (size + 1, beliefs.shape[1])
            )
        tables = (_void * len(belief.tables))(*(table.ctypes.data for table in belief.tables))
        call.belief, call.which, call.pitch = beliefs.ctypes.data, which.ctypes.data, beliefs.shape[1]
        call.tables = ctypes.addressof(tables)
    if isinstance(coder, Coder):
        coder.reserve(64 * n)  # a tree is at most 32 deep
    module = library()
    assert module is not None
    status = module.codec_mixing_items(
        coder.pointer, ctypes.c_int(coder.role), ctypes.byref(call), _int64(t), ctypes.c_int32(size)
    )
    check(status)
