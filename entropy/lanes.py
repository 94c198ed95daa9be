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

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StreamError

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
    """Takes steps in the order in which they will be decoded; codes them in `finish`."""

    def __init__(self, n_lanes: int) -> None:
        self.n_lanes = n_lanes
        self._steps: list[tuple[NDArray[np.uint32], NDArray[np.uint32]]] = []

    def put(self, start: IntArray, count: IntArray) -> None:
        """One symbol for each of the first len(start) lanes: 0 <= start, 1 <= count, start + count <= 2**24."""
        assert len(start) == len(count) <= self.n_lanes
        self._steps.append((start.astype(np.uint32), count.astype(np.uint32)))

    def finish(self) -> bytes:
        state = np.full(self.n_lanes, _LOW, dtype=np.uint64)
        words: list[NDArray[np.uint32]] = []
        for start, count in reversed(self._steps):
            n = len(start)
            wide = count.astype(np.uint64)
            now = state[:n]
            full = now >= wide << _SHED
            if full.any():
                words.append(now[full].astype(np.uint32))  # the lower half
                now = np.where(full, now >> _WORD, now)
            quotient = now // wide
            state[:n] = (quotient << _SHIFT) + (now - quotient * wide) + start
        self._steps.clear()
        stream = np.concatenate(words[::-1]) if words else np.zeros(0, np.uint32)
        return state.astype("<u8").tobytes() + stream.astype("<u4").tobytes()


class LaneDecoder:
    """Reads what `LaneEncoder` wrote: `peek` says where in [0, 2**24) each lane stands, `take` its interval.

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
        self._words = np.frombuffer(data, "<u4", n_words, 8 * n_lanes).astype(np.uint64)
        self._at = 0

    @property
    def bits_left(self) -> int:
        """Upper bound on the information still to come."""
        return 32 * (len(self._words) - self._at) + 32 * len(self._state)

    def peek(self, n: int) -> NDArray[np.int64]:
        """(n,) for the first n lanes: the place that the next symbol's interval holds."""
        return (self._state[:n] & _MASK).astype(np.int64)

    def take(self, start: IntArray, count: IntArray) -> None:
        """Moves the first len(start) lanes behind the symbols whose intervals these are."""
        n = len(start)
        now = self._state[:n]
        now = count.astype(np.uint64) * (now >> _SHIFT) + (now & _MASK) - start.astype(np.uint64)
        empty = np.flatnonzero(now < _LOW)
        if len(empty):
            end = self._at + len(empty)
            if end > len(self._words):
                raise StreamError("the entropy-coded stream is cut or damaged: it ends before its symbols do")
            now[empty] = now[empty] << _WORD | self._words[self._at : end]
            self._at = end
        self._state[:n] = now

    def finish(self) -> None:
        """After the last symbol: StreamError unless every lane is back where the encoder started it."""
        if self._at != len(self._words) or (self._state != _LOW).any():
            raise StreamError("the entropy-coded stream is damaged: it does not end where its symbols end")
