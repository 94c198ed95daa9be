"""Many arithmetic coders side by side: range-variant ANS (rANS) in lanes, vectorised over lanes, any distribution each.

Duda, arXiv 1311.2540 (ANS); Giesen, "Interleaved entropy coders", arXiv 1402.3392 (lanes that share a stream). A symbol
is an interval [start, start + count) of [0, 2**24). `coders` has fixed rows of counts; here every symbol of every lane
brings its own interval, as circuits need, and one NumPy call serves all lanes. Integers only.

A lane is a state in [2**31, 2**63); it grows by a symbol's bits, and sheds 32-bit words into one stream for all lanes.
Encoding runs backwards, so that decoding runs forwards and takes words in the order of steps, then lanes. Each lane
starts at 2**31 and decoding must end there, with no word left: a check that costs 31 bits a lane, and no symbol costs
nothing for long, since a state that has to come back to its start can't be made up.

Bytes: the lanes' states, 8 bytes each, then the words; everything little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native.circuits import Tour, encode_lanes

PRECISION = 24  # bits of an interval's bounds
TOTAL = 1 << PRECISION
MAX_LANES = 1 << 16

_LOW = 1 << 31  # smallest state between two symbols
_WORD = np.uint64(32)
_SHED = np.uint64(63 - PRECISION)  # a state of at least count << _SHED must shed a word first
_SHIFT = np.uint64(PRECISION)
_MASK = np.uint64(TOTAL - 1)

UintArray = NDArray[np.uint64]
IntArray = NDArray[np.integer[Any]]


class LaneEncoder:
    """An encoder in lanes: takes steps in the order in which they will be decoded, codes them in `finish`."""

    def __init__(self, n_lanes: int) -> None:
        self.n_lanes = n_lanes
        self._blocks: list[tuple[NDArray[np.uint32], NDArray[np.uint32], int]] = []  # of steps; how many go abreast

    def put(self, start: IntArray, count: IntArray) -> None:
        """Adds a symbol for each of the first len(start) lanes: 0 <= start, 1 <= count, start + count <= 2**24."""
        assert len(start) == len(count) <= self.n_lanes
        self.put_block(start[None], count[None], self.n_lanes)

    def put_block(self, start: IntArray, count: IntArray, lanes: int) -> None:
        """Adds many steps, (steps, n) each: a step is coded in groups of `lanes` symbols, item i in lane i mod lanes."""
        assert start.shape == count.shape and 1 <= lanes <= self.n_lanes
        self._blocks.append(
            (np.ascontiguousarray(start, dtype=np.uint32), np.ascontiguousarray(count, dtype=np.uint32), lanes)
        )

    def finish(self) -> bytes:
        """Encodes all steps as one stream for all lanes."""
        state, words, _ = self._run(owners=False)
        return state.astype("<u8").tobytes() + words.astype("<u4").tobytes()

    def finish_each(self) -> list[bytes]:
        """Encodes a stream for each lane: its words, its state in as few bytes as it needs (4 to 8), their number."""
        state, words, owners = self._run(owners=True)
        order = np.argsort(owners, kind="stable")
        counts = np.bincount(owners, minlength=self.n_lanes)
        parts = np.split(words[order].astype("<u4"), np.cumsum(counts)[:-1])
        out = []
        for lane_state, part in zip(state.tolist(), parts, strict=True):
            n_bytes = -(-lane_state.bit_length() // 8)
            out.append(part.tobytes() + lane_state.to_bytes(n_bytes, "little") + bytes([n_bytes]))
        return out

    def _run(self, owners: bool) -> tuple[UintArray, NDArray[np.uint32], NDArray[np.int32]]:
        """Runs the coder. Returns the states, the words in the order in which a decoder takes them, and their lanes,
        if anyone wants to know them."""
        state = np.full(self.n_lanes, _LOW, dtype=np.uint64)
        blocks = self._blocks
        self._blocks = []
        if native.engine() == "native":
            return state, *encode_lanes(state, blocks, owners)
        words: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]
        lanes_of: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
        for start, count in _backwards(blocks):
            n = len(start)
            wide = count.astype(np.uint64)
            now = state[:n]
            full = np.flatnonzero(now >= wide << _SHED)
            if len(full):
                now = now.copy()
                words.append(now[full].astype(np.uint32))  # the lower half
                lanes_of.append(full.astype(np.int32))
                now[full] >>= _WORD
            quotient = now // wide
            state[:n] = (quotient << _SHIFT) + (now - quotient * wide) + start
        return state, np.concatenate(words[::-1]), np.concatenate(lanes_of[::-1])


def _backwards(
    blocks: Sequence[tuple[NDArray[np.uint32], NDArray[np.uint32], int]],
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """The symbols that are coded together, the last first."""
    for starts, counts, lanes in reversed(blocks):
        groups = range(0, starts.shape[1], lanes)
        for start, count in zip(starts[::-1], counts[::-1], strict=True):
            for at in reversed(groups):
                yield start[at : at + lanes], count[at : at + lanes]


class LaneDecoder:
    """A decoder of what `LaneEncoder` wrote: `peek` says where in [0, 2**24) each lane stands, `take` its interval.

    StreamError for whatever can't be such a stream, from the constructor, `take` or `finish`.
    """

    def __init__(self, data: bytes, n_lanes: int) -> None:
        n_words, odd = divmod(len(data) - 8 * n_lanes, 4)
        if not 1 <= n_lanes <= MAX_LANES or n_words < 0 or odd:
            raise StreamError(
                f"the entropy-coded stream is cut or damaged: {len(data)} bytes aren't {n_lanes} lanes and their words"
            )
        self._state = np.frombuffer(data, "<u8", n_lanes).astype(np.uint64)
        if (self._state < _LOW).any() or (self._state >= 1 << 63).any():
            raise StreamError("the entropy-coded stream is damaged: a lane begins where no encoder ends")
        self._words = np.frombuffer(data, "<u4", n_words, 8 * n_lanes).astype(np.uint32)
        self._at = 0
        self._each: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None  # where each lane's words are, and end

    @staticmethod
    def of_each(parts: Sequence[bytes]) -> LaneDecoder:
        """A decoder of the streams that `finish_each` gave, or of some of them."""
        states, words, counts = [], [], []
        for part in parts:
            n_bytes = part[-1] if part else 0
            n_words, odd = divmod(len(part) - 1 - n_bytes, 4)
            if not 4 <= n_bytes <= 8 or n_words < 0 or odd or part[-2] == 0:
                raise StreamError("an item's entropy-coded stream is cut or damaged")
            states.append(part[4 * n_words : -1].ljust(8, b"\0"))
            words.append(part[: 4 * n_words])
            counts.append(n_words)
        out = LaneDecoder(b"".join(states) + b"".join(words), len(parts))
        ends = np.cumsum(counts, dtype=np.int64)
        out._each = (ends - counts, ends)
        return out

    @property
    def bits_left(self) -> int:
        """An upper bound on the information still to come, in bits."""
        return 32 * (len(self._words) - self._at) + 32 * len(self._state)

    def peek(self, n: int) -> NDArray[np.int64]:
        """The places (n,) where the first n lanes stand in [0, 2**24): in the interval of the next symbol."""
        return (self._state[:n] & _MASK).astype(np.int64)

    def take(self, start: IntArray, count: IntArray) -> None:
        """Moves the first len(start) lanes behind the symbols whose intervals these are."""
        n = len(start)
        now = self._state[:n]
        now = count.astype(np.uint64) * (now >> _SHIFT) + (now & _MASK) - start.astype(np.uint64)
        empty = np.flatnonzero(now < _LOW)
        if len(empty):
            now[empty] = now[empty] << _WORD | self._next(empty).astype(np.uint64)
        self._state[:n] = now

    def walk(self, tour: Tour, n: int, lanes: int) -> NDArray[np.int32]:
        """The symbols (n, D) of a block of n items, whose item i is in lane i mod lanes: `peek` and `take`, compiled."""
        try:
            symbols, self._at = tour.decode(n, self._state, lanes, self._words, self._at, self._each)
        except ValueError:
            raise _too_short() from None
        return symbols

    def _next(self, lanes: NDArray[np.intp]) -> NDArray[np.uint32]:
        """The next word for each of these lanes."""
        end = self._at + len(lanes)
        if end > len(self._words) or (self._each and (self._each[0][lanes] >= self._each[1][lanes]).any()):
            raise _too_short()
        if self._each:
            words = self._words[self._each[0][lanes]]
            self._each[0][lanes] += 1
        else:
            words = self._words[self._at : end]
        self._at = end
        return words

    def finish(self) -> None:
        """Raises StreamError unless every lane is back where the encoder started it, after the last symbol."""
        if self._at != len(self._words) or (self._state != _LOW).any():
            raise StreamError("the entropy-coded stream is damaged: it does not end where its symbols end")


def _too_short() -> StreamError:
    return StreamError("the entropy-coded stream is cut or damaged: it ends before its symbols do")
