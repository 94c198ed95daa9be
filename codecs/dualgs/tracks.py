"""Attributes over time as whole numbers that are held: which Gaussians change in a frame, and by how much.

A track is what an attribute has moved from the base frame, in steps. `held` finds tracks that change as seldom as their
tolerance lets them: each run of frames has a single number, which is within the tolerance of all of them. Per frame the
stream tells which Gaussians change, which of their attributes, and by how many steps; each is mixed with what changed
before, in the Gaussian and in its neighbours, as contexts. splats4d holds tracks too; it has no contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...entropy.mixing.coding import SymbolCoder, symbol_plan
from ...entropy.mixing.mixer import Mixer
from ...errors import StreamError
from .symbols import RATES, NumberCoder, joined, parted

__all__ = ["MOST_KINDS", "Kind", "TrackReader", "encode_tracks", "held"]

MOST_KINDS = 8  # attributes that tracks may have
_LINES = 20
_LIMIT = 1 << 29


def held(wanted: NDArray[np.float64], tolerance: float) -> NDArray[np.int32]:
    """Tracks (T, N, c) near the numbers that are wanted, in steps: each run lasts as long as a whole number can stand.

    tolerance: at least 0.5. A track begins at 0, the base frame, and leaves it where it must.
    """
    n_frames = len(wanted)
    out = np.zeros(wanted.shape, np.int32)
    low = np.full(wanted.shape[1:], 0.0)  # the whole numbers that fit all frames of the run
    high = np.full(wanted.shape[1:], 0.0)
    start = np.zeros(wanted.shape[1:], np.int32)
    for t in range(n_frames + 1):
        if t < n_frames:
            lowest, highest = np.ceil(wanted[t] - tolerance), np.floor(wanted[t] + tolerance)
            new_low, new_high = np.maximum(low, lowest), np.minimum(high, highest)
            ends = new_low > new_high
        else:
            ends = np.ones(low.shape, bool)
            lowest, highest, new_low, new_high = low, high, low, high
        if ends.any():
            value = np.rint((low[ends] + high[ends]) * 0.5).astype(np.int32)
            rows = np.nonzero(ends)
            begun = start[ends]
            for past in range(int(begun.min()), t):
                inside = begun <= past
                out[(past, *(axis[inside] for axis in rows))] = value[inside]
            start[ends] = t
        low = np.where(ends, lowest, new_low)
        high = np.where(ends, highest, new_high)
    return out


@dataclass(frozen=True)
class Kind:
    """An attribute of tracks. width: how many numbers it has. bits: of an index into a codebook; 0 for numbers."""

    width: int
    bits: int = 0


class _Coder:
    """The state of both sides: what changed before, and the streams."""

    def __init__(self, n: int, kinds: Sequence[Kind], data: bytes | None = None) -> None:
        assert 1 <= len(kinds) <= MOST_KINDS and all(kind.width == 1 or not kind.bits for kind in kinds)
        self._kinds, self._n = tuple(kinds), n
        widths = [kind.width for kind in kinds]
        self._first = [sum(widths[:kind]) for kind in range(len(kinds))]
        n_kinds = len(kinds)
        streams = parted(data, 2 + n_kinds) if data is not None else [None] * (2 + n_kinds)
        self._index: dict[int, SymbolCoder] = {}
        self._number: dict[int, NumberCoder] = {}
        for place, (kind, stream) in enumerate(zip(kinds, streams[2:], strict=True)):
            if kind.bits:
                plan = symbol_plan(kind.bits, 3, 1, 16, RATES)
                self._index[place] = SymbolCoder(kind.bits, 1, Mixer.new(plan), stream)
            else:
                self._number[place] = NumberCoder(kind.width, 4, stream, 16)
        self._any = SymbolCoder(1, 4, Mixer.new(symbol_plan(1, 6, 4, _LINES, RATES)), streams[0])
        self._mask = SymbolCoder(n_kinds, 1, Mixer.new(symbol_plan(n_kinds, 4, 1, 16, RATES)), streams[1])
        self._age = np.full(n, 15, np.int64)  # frames since a Gaussian changed
        self._busy = np.zeros(n, np.int64)  # how often it changed of late, 0 to 255
        self._masks = np.zeros(n, np.int64)  # of its last change
        self._last = np.zeros((n, sum(widths)), np.int64)  # the last difference of each number
        self._reads = data is not None
        self.now = np.zeros((n, sum(widths)), np.int64)

    def frame(self, target: NDArray[np.int64] | None) -> None:
        """The next frame: `now` becomes the target (N, columns), or what is read."""
        difference = None if target is None else target - self.now
        masks = None if difference is None else self._masks_of(difference)
        given = None if masks is None else (masks != 0).astype(np.int32)
        changed = np.flatnonzero(self._any.code(*self._contexts_of_any(), given))
        mask = np.zeros(self._n, np.int64)
        if len(changed):
            contexts = self._contexts_of_mask(changed)
            chosen = None if masks is None else masks[changed].astype(np.int32)
            mask[changed] = self._mask.code(contexts, np.zeros(len(changed), np.int32), chosen)
        self._numbers(mask, difference)
        self._age = np.where(mask != 0, 0, np.minimum(self._age + 1, 15))
        self._busy = self._busy - (self._busy >> 3) + np.where(mask != 0, 31, 0)
        self._masks = np.where(mask != 0, mask, self._masks)

    def _masks_of(self, difference: NDArray[np.int64]) -> NDArray[np.int64]:
        mask = np.zeros(self._n, np.int64)
        for place, (first, kind) in enumerate(zip(self._first, self._kinds, strict=True)):
            mask |= (difference[:, first : first + kind.width] != 0).any(1).astype(np.int64) << place
        return mask

    def _contexts_of_any(self) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        age, busy = self._age, self._busy >> 3
        near = np.zeros_like(busy)
        for shift in (-2, -1, 1, 2):
            near += np.roll(busy, shift)
        row = np.arange(self._n)
        lately = np.roll(age, 1) << 4 | np.roll(age, -1)
        contexts = [
            age << 5 | busy,
            near,
            row,
            lately << 4 | age,
            self._masks << 4 | age,
            (near >> 2) << 9 | age << 5 | busy,
        ]
        select = np.minimum(age, 3).astype(np.int32)
        return np.ascontiguousarray(np.stack(contexts, 1).astype(np.uint64)), select

    def _contexts_of_mask(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        last, left, right = self._masks[rows], np.roll(self._masks, 1)[rows], np.roll(self._masks, -1)[rows]
        contexts = [last, left << 8 | right, last << 4 | self._age[rows], rows]
        return np.ascontiguousarray(np.stack(contexts, 1).astype(np.uint64))

    def _numbers(self, mask: NDArray[np.int64], difference: NDArray[np.int64] | None) -> None:
        for place, (first, kind) in enumerate(zip(self._first, self._kinds, strict=True)):
            rows = np.flatnonzero(mask >> place & 1)
            if not len(rows):
                continue
            if kind.bits:
                self._indices(place, first, rows, difference)
                continue
            before = second = np.zeros(len(rows), np.int64)
            for column in range(first, first + kind.width):
                last = self._last[rows, column]
                a, b, c = (np.clip(value, -15, 15) & 31 for value in (before, second, last))
                contexts = [a, c << 5 | a, a << 10 | b << 5 | c, np.clip(self.now[rows, column], -127, 127) & 255]
                given = None if difference is None else difference[rows, column]
                value = self._number[place].code(contexts, np.full(len(rows), column - first), given)
                self.now[rows, column] += value
                self._last[rows, column] = value
                before, second = value, before

    def _indices(self, place: int, column: int, rows: NDArray[np.int64], difference: NDArray[np.int64] | None) -> None:
        last = self.now[rows, column]
        near = np.roll(self.now[:, column], 1)[rows]
        contexts = np.stack([np.zeros_like(last), last, near], 1).astype(np.uint64)
        given = None if difference is None else (last + difference[rows, column]).astype(np.int32)
        self.now[rows, column] = self._index[place].code(contexts, np.zeros(len(rows), np.int32), given)

    def finish(self) -> bytes:
        """The stream that was written; StreamError for one that is read and doesn't end here."""
        parts = [self._any.finish(), self._mask.finish()]
        parts += [(self._index.get(k) or self._number[k]).finish() for k in range(len(self._kinds))]
        return b"" if self._reads else joined(parts)


def encode_tracks(tracks: Sequence[NDArray[np.int32]], kinds: Sequence[Kind]) -> bytes:
    """The stream of tracks, one array (T, N, c) of each attribute; rows lie so that neighbours in space are near."""
    coder = _Coder(tracks[0].shape[1], kinds)
    for frame in zip(*tracks, strict=True):
        coder.frame(np.concatenate(frame, 1).astype(np.int64))
    return coder.finish()


class TrackReader:
    """The tracks of a stream of n Gaussians, one frame after the other."""

    def __init__(self, data: bytes, n: int, kinds: Sequence[Kind], n_frames: int) -> None:
        self._coder, self._left = _Coder(n, kinds, data), n_frames
        self._cuts = np.cumsum([kind.width for kind in kinds])[:-1]

    def next(self) -> list[NDArray[np.int32]]:
        """The tracks of the next frame, (N, c) of each attribute. StreamError for a damaged stream."""
        assert self._left > 0, "a segment has no more frames"
        self._left -= 1
        self._coder.frame(None)
        if int(np.abs(self._coder.now).max(initial=0)) > _LIMIT:
            raise StreamError("a track beyond all measure: the file is damaged")
        if not self._left:
            self._coder.finish()
        return np.split(self._coder.now.astype(np.int32), self._cuts, axis=1)
