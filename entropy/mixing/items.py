"""Items on a small grid (digits, garments, rows of a table), coded by mixing: position by position, a block at a time.

The contexts are the neighbours that were coded before, gradients, the position, coarse patterns of a wide
neighbourhood, the mirrored half, and how much ink an item has so far. At each position all items of a block are
coded, so that a guide, another model such as a circuit, can go along in lock-step: its probability of each decision
becomes an input of the mixer. A state can be learned beforehand, shipped, and frozen, so that items decode alone.
native/src/mixing_items.h does the same; `items_oracle.py` is its twin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native import mixing_items as kernels
from ...native.mixing import PRICE, READ, WRITE
from ...native.mixing_items import Belief, Block, Trees
from . import items_oracle, shipping
from .coding import compiled
from .mixer import Mixer, Plan
from .oracle import Oracle
from .tables import Rates
from .trees import MOST_SYMBOLS, forest, splits

__all__ = ["BLOCK", "SPLIT", "Belief", "Guide", "ItemModel"]

T = TypeVar("T")
BLOCK = 256  # items that are coded side by side
SPLIT = 4096  # items from which on they are two streams
_LINES = 22  # 2^22 lines, 256 MB, for many items; fewer for few
_RATES = Rates(limit=1023, delay=1.5, doubt=1.0, lean=4.0, first=0.02, last=0.002, fall=32, refine_by=6)
_MOST_POSITIONS = 1 << 16


class Guide(Protocol):
    """Another model, which goes along and gives a probability of every decision."""

    def begin(self, first: int, n: int) -> None:
        """A block of n items begins; `first` is the index of its first one."""

    def belief(self, t: int) -> tuple[NDArray[np.float64], Sequence[NDArray[np.float32]], NDArray[np.int32]]:
        """The fields of `Belief`: its knowledge of position t of the block's items, before they are told."""
        ...

    def tell(self, t: int, symbols: NDArray[np.int32]) -> None:
        """The symbols (n,) at position t."""

    # fork() -> Guide, if it is there: the same guide again, for another thread.


def _grid(shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width of an item; a row of a table has height 1."""
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise ValueError(f"an item is (D,), (H, W) or (C, H, W), not {tuple(shape)}")
    if len(shape) == 1:
        return 1, 1, int(shape[0])
    channels, height, width = (1, *shape) if len(shape) == 2 else shape
    return int(channels), int(height), int(width)


@dataclass(eq=False)
class ItemModel:
    """A mixing model of items. shape: (D,), (H, W) or (C, H, W); sizes: (D,) how many symbols each position has.

    It learns from all that it codes, unless it codes items alone. `encode` and `decode` leave the model as it was:
    they work on a copy.
    """

    shape: tuple[int, int, int]
    sizes: tuple[int, ...]
    middles: list[list[int]]
    counts: list[NDArray[np.int64]]
    mixer: Mixer
    trees: Trees

    # ---- states

    @staticmethod
    def new(shape: Sequence[int], sizes: Sequence[int], lines: int = _LINES) -> ItemModel:
        """A model that has seen nothing. lines: 2^lines of contexts are kept, 64 bytes each."""
        grid = _grid(shape)
        positions = grid[0] * grid[1] * grid[2]
        if len(sizes) != positions or not positions <= _MOST_POSITIONS:
            raise ValueError(
                f"{len(sizes)} numbers of symbols for items of {positions} values, at most {_MOST_POSITIONS}"
            )
        if not 1 <= min(sizes) <= max(sizes) <= MOST_SYMBOLS:
            raise ValueError(f"a position has 1 to {MOST_SYMBOLS} symbols")
        counts = [_expected(size) for size in _tree_sizes(grid, sizes)]
        return ItemModel._of(grid, tuple(int(s) for s in sizes), [splits(c) for c in counts], counts, lines, None)

    @staticmethod
    def _of(
        grid: tuple[int, int, int],
        sizes: tuple[int, ...],
        middles: list[list[int]],
        counts: list[NDArray[np.int64]],
        lines: int,
        mixer: Mixer | None,
    ) -> ItemModel:
        of, tree_sizes = _tree_of(grid, sizes), _tree_sizes(grid, sizes)
        trees = forest(tree_sizes, of, middles, counts)
        return ItemModel(grid, sizes, middles, counts, _fresh(_plan(trees, lines)) if mixer is None else mixer, trees)

    def copy(self) -> ItemModel:
        """A model that has learned the same, and goes on by itself."""
        return ItemModel(self.shape, self.sizes, self.middles, self.counts, self.mixer.copy(), self.trees)

    def to_state(self, most: int = 8_000_000, node_seen: int = 2) -> dict[str, NDArray[Any]]:
        """All that was learned, as arrays to save, about `most` bytes at most: lines seen rarely are left out."""
        seen = shipping.seen_for(self.mixer, most, node_seen)
        numbers = [*self.shape, self.mixer.plan.lines, *self.sizes]
        packed = shipping.pack(self.mixer, seen, node_seen)
        return {
            "mixing.shape": np.array(numbers, np.int32),
            "mixing.splits": np.array([m for middles in self.middles for m in middles], np.int32),
            "mixing.counts": np.concatenate(self.counts).astype(np.int64),
            "mixing.learned": np.frombuffer(packed, np.uint8).copy(),
        }

    @staticmethod
    def from_state(state: Mapping[str, NDArray[Any]]) -> ItemModel:
        """The model of a saved state. ValueError for one that is damaged."""
        try:
            numbers = state["mixing.shape"].astype(np.int32, casting="safe").ravel().tolist()
            middles = state["mixing.splits"].astype(np.int32, casting="safe").ravel().tolist()
            counts = state["mixing.counts"].ravel()
            data = state["mixing.learned"].astype(np.uint8, casting="safe").tobytes()
        except (KeyError, TypeError) as error:
            raise ValueError(f"the state of a mixing model lacks {error}: the weights are damaged") from error
        if len(numbers) < 5:
            raise ValueError("the state of a mixing model has no shape: the weights are damaged")
        grid, lines, sizes = (numbers[0], numbers[1], numbers[2]), numbers[3], tuple(numbers[4:])
        positions = grid[0] * grid[1] * grid[2]
        if min(grid) < 1 or positions != len(sizes) or positions > _MOST_POSITIONS or not 1 <= lines <= 24:
            raise ValueError("the state of a mixing model has a shape that can't be: the weights are damaged")
        if not 1 <= min(sizes) <= max(sizes) <= MOST_SYMBOLS:
            raise ValueError(
                "the state of a mixing model has numbers of symbols that can't be: the weights are damaged"
            )
        of_tree = _tree_sizes(grid, sizes)
        if len(middles) != sum(of_tree) - len(of_tree) or len(counts) != sum(of_tree) or counts.dtype != np.int64:
            raise ValueError("the state of a mixing model has trees that can't be: the weights are damaged")
        if len(counts) and counts.min() < 0:
            raise ValueError("the state of a mixing model has counts that can't be: the weights are damaged")
        ends = np.cumsum(of_tree)
        own_counts = [counts[end - size : end].copy() for end, size in zip(ends, of_tree, strict=True)]
        firsts = ends - of_tree - np.arange(len(of_tree))
        own = [middles[first : first + size - 1] for first, size in zip(firsts, of_tree, strict=True)]
        model = ItemModel._of(grid, sizes, own, own_counts, 1, None)
        try:
            model.mixer = shipping.unpack(data, _plan(model.trees, lines))
        except StreamError as error:
            raise ValueError(str(error)) from error
        return model

    # ---- learning

    def learn(
        self,
        symbols: NDArray[np.int32],
        guide: Guide | None = None,
        progress: Callable[[int, float], None] | None = None,
    ) -> float:
        """Goes over items (N, D) once, and learns; the bits of all. progress is told items and bits after each block.

        With a guide every fourth block goes without, so that the state serves with and without one.
        """
        symbols = self._checked(symbols)
        if not self.mixer.ages.any():
            self._look(symbols)
        coder: Any = self._coder(PRICE, self.mixer)
        for number, (first, part) in enumerate(_blocks(symbols)):
            self._block(coder, first, part, guide if number % 4 != 3 else None)
            if progress is not None:
                progress(first + part.shape[1], coder.bits)
        return coder.bits

    def _look(self, symbols: NDArray[np.int32]) -> None:
        """Trees for these symbols: before anything is learned."""
        of = np.array(_tree_of(self.shape, self.sizes))
        counts = [
            np.bincount(symbols[:, of == k].ravel(), minlength=size).astype(np.int64)
            for k, size in enumerate(_tree_sizes(self.shape, self.sizes))
        ]
        lines = self.mixer.plan.lines
        model = ItemModel._of(self.shape, self.sizes, [splits(c) for c in counts], counts, lines, None)
        self.middles, self.counts, self.trees, self.mixer = model.middles, model.counts, model.trees, model.mixer

    # ---- one stream of all items

    def encode(self, symbols: NDArray[np.int32], guide: Guide | None = None) -> bytes:
        """Items (N, D) as one stream, which learns as it goes on; many items are two streams, one behind the other."""
        symbols = self._checked(symbols)

        def write(first: int, last: int, own: Guide | None) -> bytes:
            coder = self._coder(WRITE, self.mixer.copy())
            for start, part in _blocks(symbols[first:last]):
                self._block(coder, first + start, part, own)
            return coder.finish()

        streams = self._runs(write, len(symbols), guide)
        return streams[0] if len(streams) == 1 else len(streams[0]).to_bytes(8, "little") + b"".join(streams)

    def price(self, symbols: NDArray[np.int32], guide: Guide | None = None) -> float:
        """The bits of such a stream, without writing it."""
        symbols = self._checked(symbols)

        def add(first: int, last: int, own: Guide | None) -> float:
            coder: Any = self._coder(PRICE, self.mixer.copy())
            for start, part in _blocks(symbols[first:last]):
                self._block(coder, first + start, part, own)
            return coder.bits

        return sum(self._runs(add, len(symbols), guide))

    def decode(self, data: bytes, n: int, guide: Guide | None = None) -> NDArray[np.int32]:
        """The n items (n, D) of such a stream. StreamError for a damaged one."""
        out = np.zeros((n, len(self.sizes)), np.int32)
        streams = [data]
        if len(self._parts(n)) > 1:
            end = 8 + int.from_bytes(data[:8], "little")
            if not 8 <= end <= len(data):
                raise StreamError("a stream of mixed items ends too early: the file is damaged")
            streams = [data[8:end], data[end:]]

        def read(first: int, last: int, own: Guide | None) -> None:
            coder = self._coder(READ, self.mixer.copy(), streams[first > 0])
            for start, part in _blocks(out[first:last]):
                out[first + start : first + start + part.shape[1]] = self._block(coder, first + start, part, own).T
            coder.finish()

        try:
            self._runs(read, n, guide)
        except ValueError as error:
            raise StreamError(f"a stream of mixed items can't be read ({error}): the file is damaged") from error
        return out

    def _parts(self, n: int) -> list[tuple[int, int]]:
        """First and last items of each stream: many items of a model that has learned go in two, for two threads."""
        if n < SPLIT or not self.mixer.ages.any():
            return [(0, n)]
        half = -(-n // (2 * BLOCK)) * BLOCK
        return [(0, half), (half, n)]

    def _runs(self, run: Callable[[int, int, Guide | None], T], n: int, guide: Guide | None) -> list[T]:
        """Runs each part, side by side where the guide can be had twice (`fork`): the same results either way."""
        parts = self._parts(n)
        fork = getattr(guide, "fork", None)
        if len(parts) == 1 or (guide is not None and fork is None) or native.threads() < 2:
            return [run(first, last, guide) for first, last in parts]
        guides = [guide, fork() if fork is not None else None]
        with ThreadPoolExecutor(len(parts)) as pool:
            waiting = [pool.submit(run, first, last, own) for (first, last), own in zip(parts, guides, strict=True)]
            return [result.result() for result in waiting]

    # ---- a stream for each item, which decodes alone

    def encode_each(self, symbols: NDArray[np.int32], guide: Guide | None = None) -> list[bytes]:
        """A stream of each item (N, D), from the state as it is: nothing is learned."""
        symbols = self._checked(symbols)
        out: list[bytes] = []
        for first, part in _blocks(symbols):
            out += self._each(first, part, guide, None)
        return out

    def decode_each(self, streams: Sequence[bytes], guide: Guide | None = None, first: int = 0) -> NDArray[np.int32]:
        """The items (N, D) of such streams, any of them in any order; the guide is told that `first` is the first."""
        out = np.zeros((len(streams), len(self.sizes)), np.int32)
        try:
            for start, part in _blocks(out):
                own = streams[start : start + part.shape[1]]
                self._each(first + start, part, guide, own)
                out[start : start + part.shape[1]] = part.T
        except ValueError as error:
            raise StreamError(f"a stream of a mixed item can't be read ({error}): the file is damaged") from error
        return out

    def _each(
        self, first: int, part: NDArray[np.int32], guide: Guide | None, streams: Sequence[bytes] | None
    ) -> list[bytes]:
        frozen = _frozen(self.mixer)
        if native.library() is None:
            role = WRITE if streams is None else READ
            oracles = [Oracle(role, frozen, data) for data in (streams or [b""] * part.shape[1])]
            self._block(oracles, first, part, guide)
            return [oracle.finish() for oracle in oracles]
        like = compiled(READ if streams is not None else WRITE, frozen, b"" if streams is not None else None)
        positions, n = part.shape
        coder = kernels.EachCoder(like, n, streams, 64 * positions + 64)
        self._block(coder, first, part, guide)
        return coder.finish()

    # ---- parts

    def _checked(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        symbols = np.asarray(symbols, np.int32)
        if symbols.ndim != 2 or symbols.shape[1] != len(self.sizes):
            raise ValueError(f"items of {len(self.sizes)} values, not {symbols.shape}")
        if symbols.size and (symbols.min() < 0 or (symbols >= np.array(self.sizes, np.int32)).any()):
            raise ValueError("an item has a symbol that its position doesn't have")
        return symbols

    def _coder(self, role: int, mixer: Mixer, data: bytes | None = None) -> Any:
        if native.library() is None:
            return Oracle(role, mixer, data or b"")
        return compiled(role, mixer, data, 1 << 16)

    def _block(self, coder: Any, first: int, part: NDArray[np.int32], guide: Guide | None) -> NDArray[np.int32]:
        """Codes a block (D, n) position by position; what was read is written into it."""
        block = Block.new(self.shape, part)
        if guide is not None:
            guide.begin(first, part.shape[1])
        for t in range(len(part)):
            belief = Belief(*guide.belief(t)) if guide is not None else None
            if isinstance(coder, (Oracle, list)):
                items_oracle.code(coder, self.trees, block, t, belief)
            else:
                kernels.code(coder, self.trees, block, t, belief)
            if guide is not None:
                guide.tell(t, part[t])
        return part


def _blocks(symbols: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """The first item of each block, and its symbols (D, n)."""
    for first in range(0, len(symbols), BLOCK):
        yield first, np.ascontiguousarray(symbols[first : first + BLOCK].T)


def _frozen(mixer: Mixer) -> Mixer:
    arrays = (mixer.lines, mixer.weights, mixer.ages, mixer.finals, mixer.final_ages, mixer.refined)
    return Mixer(mixer.plan, *arrays, frozen=True)


def _tree_of(grid: tuple[int, int, int], sizes: Sequence[int]) -> list[int]:
    """The tree of each position: those of a channel with as many symbols share one; in a table each has its own."""
    _, height, width = grid
    if height == 1:
        return list(range(len(sizes)))
    names = [(t // (height * width), size) for t, size in enumerate(sizes)]
    index = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return [index[name] for name in names]


def _tree_sizes(grid: tuple[int, int, int], sizes: Sequence[int]) -> list[int]:
    of = _tree_of(grid, sizes)
    out = [0] * (max(of) + 1)
    for tree, size in zip(of, sizes, strict=True):
        out[tree] = int(size)
    return out


def _expected(size: int) -> NDArray[np.int64]:
    """Counts before any symbol was seen: the ends of the scale are more frequent."""
    counts = np.ones(size, np.int64)
    counts[0] += size // 2
    return counts


def _plan(trees: Trees, lines: int) -> Plan:
    spots = trees.n_spots
    return Plan(kernels.CONTEXTS, lines, (512, 2592, 768, 6 * spots), 288, 3360, 2, _RATES)


def _fresh(plan: Plan) -> Mixer:
    mixer = Mixer.new(plan)
    mixer.weights[:, 2 * plan.contexts] = 1 << 18  # of a guide; without one its input is 0
    return mixer
