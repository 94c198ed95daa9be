"""Attributes over time as whole numbers that are held: which Gaussians change in a frame, and by how much.

A track is what an attribute has moved from the base frame, in steps. `held` finds tracks that change as seldom as their
tolerance lets them: each run of frames has a single number, which is within the tolerance of all of them. Per frame the
stream tells which Gaussians change, which of their attributes, and by how many steps; each is mixed with what changed
before, in the Gaussian and in its neighbours, as contexts. splats4d holds tracks too; it has no contexts.

`native/src/mixing_tracks.h` reads a frame as `_Coder.frame` does, several times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...entropy.mixing.coding import SymbolCoder, symbol_plan
from ...entropy.mixing.mixer import Mixer
from ...errors import StreamError
from ...native import mixing_tracks as kernels
from ...native.mixing_tracks import MOST_KINDS, Known
from .symbols import RATES, NumberCoder, joined, lines_for, parted

__all__ = ["MOST_KINDS", "Kind", "TrackReader", "encode_tracks", "held"]

_BUSY = 64  # of an attribute that changes often
_OF_ANY, _OF_FLAG, _OF_NUMBER = 7, 7, 7  # contexts: with one more, a decision takes nearly twice as long
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

    def __init__(self, n: int, kinds: Sequence[Kind], n_frames: int, data: bytes | None = None) -> None:
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
                plan = symbol_plan(kind.bits, 3, 1, lines_for(n * n_frames // 8), RATES)
                self._index[place] = SymbolCoder(kind.bits, 1, Mixer.new(plan), stream)
            else:
                self._number[place] = NumberCoder(kind.width, _OF_NUMBER, n * n_frames * kind.width // 8, stream)
        plan = symbol_plan(1, _OF_ANY, 3 * 4, lines_for(n), RATES)
        self._any = SymbolCoder(1, 3 * 4, Mixer.new(plan), streams[0])
        plan = symbol_plan(n_kinds, _OF_FLAG, 1, lines_for(n * n_frames // 4), RATES)
        self._flag = SymbolCoder(n_kinds, 1, Mixer.new(plan), streams[1])
        self._passes = _passes(n)
        self._known = Known.new(n, n_kinds, sum(widths))
        self._reads = data is not None
        self._streams = self._compiled() if self._reads else None

    def _compiled(self) -> kernels.Streams | None:
        """The streams for the compiled loops; None where there are none."""
        if self._any.reader is None or self._flag.reader is None:
            return None
        small, large = [], []
        for place in range(len(self._kinds)):
            first, second = self._number[place].readers if place in self._number else (self._index[place].reader, None)
            assert first is not None
            small.append(first)
            large.append(second)
        kinds = [(kind.width, kind.bits) for kind in self._kinds]
        return kernels.Streams(self._any.reader, self._flag.reader, kinds, small, large)

    @property
    def now(self) -> NDArray[np.int64]:
        """The numbers of the last frame, (N, columns)."""
        return self._known.now

    def read(self) -> None:
        """Reads the next frame into `now`. StreamError for a damaged stream."""
        if self._streams is None:
            self.frame(None)
            return
        try:
            kernels.read_frame(self._streams, self._known)
        except ValueError as error:
            raise StreamError("a mixed stream ends too early: the file is damaged") from error

    def frame(self, target: NDArray[np.int64] | None) -> None:
        """The next frame: `now` becomes the target (N, columns), or what is read: the twin of the compiled loops."""
        known = self._known
        difference = None if target is None else target - self.now
        masks = None if difference is None else self._masks_of(difference)
        for number, (rows, left, right) in enumerate(self._passes):
            self._pass(number, rows, left, right, masks, difference)
        changed = known.mask != 0
        known.age[:] = np.where(changed, 0, np.minimum(known.age + 1, 15))
        known.busy[:] += 31 * changed - (known.busy >> 3)
        known.last_mask[:] = np.where(changed, known.mask, known.last_mask)
        for kind in range(len(self._kinds)):
            flag = known.mask >> kind & 1
            known.age_of[kind] = np.where(flag, 0, np.minimum(known.age_of[kind] + 1, 15))
            known.busy_of[kind] += 31 * flag - (known.busy_of[kind] >> 3)

    def _masks_of(self, difference: NDArray[np.int64]) -> NDArray[np.int64]:
        mask = np.zeros(self._n, np.int64)
        for place, (first, kind) in enumerate(zip(self._first, self._kinds, strict=True)):
            mask |= (difference[:, first : first + kind.width] != 0).any(1).astype(np.int64) << place
        return mask

    def _pass(
        self,
        number: int,
        rows: NDArray[np.int64],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        masks: NDArray[np.int64] | None,
        difference: NDArray[np.int64] | None,
    ) -> None:
        """Some rows of a frame: between rows that were told before, but in the first pass."""
        bends = self.now[left] + self.now[right] - 2 * self.now[rows]
        bent = np.stack(
            [
                np.minimum(np.abs(bends[:, first : first + kind.width]).max(1), 15) * (not kind.bits)
                for first, kind in zip(self._first, self._kinds, strict=True)
            ]
        )
        contexts, select = self._contexts_of_any(rows, left, right, bent)
        given = None if masks is None else (masks[rows] != 0).astype(np.int32)
        changes = self._any.code(contexts, select + 4 * number, given)
        where = np.flatnonzero(changes)
        rows_of = rows[where]
        self._known.mask[rows] = 0
        self._known.step[rows] = 0
        if not len(where):
            return
        mask = self._flags(rows_of, left[where], right[where], bent[:, where], masks)
        self._known.mask[rows_of] = mask
        for place, (first, kind) in enumerate(zip(self._first, self._kinds, strict=True)):
            chosen = np.flatnonzero(mask >> place & 1)
            if not len(chosen):
                continue
            if kind.bits:
                self._indices(place, first, rows_of[chosen], left[where][chosen], difference)
            else:
                part = where[chosen]
                self._numbers(place, rows[part], left[part], right[part], bends[part], difference)

    def _contexts_of_any(
        self, rows: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64], bent: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        age, busy = self._known.age[rows], self._known.busy >> 3
        own = age << 5 | busy[rows]
        near = busy[left] + busy[right]
        a, b = self._known.mask[left], self._known.mask[right]
        pair = (a != 0) * 2 + (b != 0)
        most = np.minimum(bent.sum(0), 31)
        contexts = [
            own << 2 | pair,
            rows,
            a << 8 | b,
            most << 2 | pair,
            most << 9 | own,
            self._known.last_mask[rows] << 6 | age << 2 | pair,
            (near >> 2) << 9 | own,
        ]
        return _stacked(contexts), np.minimum(age, 3).astype(np.int32)

    def _flags(
        self,
        rows: NDArray[np.int64],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        bent: NDArray[np.int64],
        masks: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """The attributes that change, of Gaussians that do: a bit for each."""
        last, a, b = self._known.last_mask[rows], self._known.mask[left], self._known.mask[right]
        busy, bends, far = (np.zeros(len(rows), np.int64) for _ in range(3))
        fresh = np.zeros(len(rows), np.int64)
        for kind in range(len(self._kinds)):
            busy |= (self._known.busy_of[kind][rows] >= _BUSY).astype(np.int64) << kind
            fresh |= (self._known.age_of[kind][rows] <= 1).astype(np.int64) << kind
            bends |= (bent[kind] >= 2).astype(np.int64) << kind
            far |= (bent[kind] >= 4).astype(np.int64) << kind
        contexts = [
            last << 4 | self._known.age[rows],
            a << 8 | b,
            (a | b) << 8 | bends,
            busy << 8 | fresh,
            bends << 8 | busy,
            far << 8 | fresh,
            last << 8 | (a & b),
        ]
        given = None if masks is None else masks[rows].astype(np.int32)
        return self._flag.code(_stacked(contexts), np.zeros(len(rows), np.int32), given).astype(np.int64)

    def _numbers(
        self,
        place: int,
        rows: NDArray[np.int64],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        bends: NDArray[np.int64],
        difference: NDArray[np.int64] | None,
    ) -> None:
        first, kind = self._first[place], self._kinds[place]
        before = second = np.zeros(len(rows), np.int64)
        for column in range(first, first + kind.width):
            last, bend = self._known.last[rows, column], _short(bends[:, column])
            near = _short(self._known.step[left, column] + self._known.step[right, column])
            a, b, c = _short(before), _short(second), _short(last)
            contexts = [
                a << 5 | bend,
                c << 5 | a,
                a << 10 | b << 5 | c,
                np.clip(self.now[rows, column], -127, 127) & 255,
                bend << 5 | near,
                near << 5 | c,
                bend << 10 | c << 5 | a,
            ]
            given = None if difference is None else difference[rows, column]
            value = self._number[place].code(contexts, np.full(len(rows), column - first), given)
            self.now[rows, column] += value
            self._known.step[rows, column] = value
            self._known.last[rows, column] = np.where(value != 0, value, last)
            before, second = value, before

    def _indices(
        self,
        place: int,
        column: int,
        rows: NDArray[np.int64],
        left: NDArray[np.int64],
        difference: NDArray[np.int64] | None,
    ) -> None:
        last, near = self.now[rows, column], self.now[left, column]
        contexts = _stacked([np.zeros_like(last), last, near])
        given = None if difference is None else (last + difference[rows, column]).astype(np.int32)
        self.now[rows, column] = self._index[place].code(contexts, np.zeros(len(rows), np.int32), given)

    def finish(self) -> bytes:
        """The stream that was written; StreamError for one that is read and doesn't end here."""
        parts = [self._any.finish(), self._flag.finish()]
        parts += [(self._index.get(k) or self._number[k]).finish() for k in range(len(self._kinds))]
        return b"" if self._reads else joined(parts)


def _passes(n: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """The rows of each pass with those to their left and right: every fourth, those in the middle, all others."""
    out = []
    for start, every, apart in ((0, 4, 4), (2, 4, 2), (1, 2, 1)):
        rows = np.arange(start, n, every)
        if not len(rows):
            continue
        left = np.maximum(rows - apart, 0)
        out.append((rows, left, np.where(rows + apart < n, rows + apart, left)))
    return out


def _stacked(contexts: Sequence[NDArray[np.int64]]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(np.stack(contexts, 1).astype(np.uint64))


def _short(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers with a sign in five bits."""
    return np.clip(numbers, -15, 15) & 31


def encode_tracks(tracks: Sequence[NDArray[np.int32]], kinds: Sequence[Kind]) -> bytes:
    """The stream of tracks, one array (T, N, c) of each attribute; rows lie so that neighbours in space are near."""
    coder = _Coder(tracks[0].shape[1], kinds, len(tracks[0]))
    for frame in zip(*tracks, strict=True):
        coder.frame(np.concatenate(frame, 1).astype(np.int64))
    return coder.finish()


class TrackReader:
    """The tracks of a stream of n Gaussians, one frame after the other."""

    def __init__(self, data: bytes, n: int, kinds: Sequence[Kind], n_frames: int) -> None:
        self._coder, self._left = _Coder(n, kinds, n_frames, data), n_frames
        self._cuts = np.cumsum([kind.width for kind in kinds])[:-1]

    def next(self) -> list[NDArray[np.int32]]:
        """The tracks of the next frame, (N, c) of each attribute. StreamError for a damaged stream."""
        assert self._left > 0, "a segment has no more frames"
        self._left -= 1
        self._coder.read()
        if int(np.abs(self._coder.now).max(initial=0)) > _LIMIT:
            raise StreamError("a track beyond all measure: the file is damaged")
        if not self._left:
            self._coder.finish()
        return np.split(self._coder.now.astype(np.int32), self._cuts, axis=1)
