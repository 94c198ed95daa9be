"""The motion of joints as bytes: a coarse pose where a segment begins, then residual vector quantisation.

Jiang et al. 2024, section 4, names residual vector quantisation and entropy coding, and leaves the details open. Here a
joint has six numbers a frame: three of a small rotation since the frame before, scaled to the way that a point at one
joint spacing moves, and three of its position. Both are predicted from the decoded motion of the frame before. What is
left is approximated by up to eight codebooks, each for what the one before leaves; a codebook's first entry is zero.
The indices are mixed, with the joint's own last indices and those of its neighbours as contexts. A decoder's arithmetic
is elementwise float64, so poses are the same on every machine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.mixing.coding import SymbolCoder, symbol_plan
from ...entropy.mixing.mixer import Mixer
from ...errors import StreamError
from .codebooks import Codebook
from .grid import unit
from .rig import Pose, multiplied
from .symbols import NumberCoder, joined, lines_for, parted

__all__ = ["ENTRIES", "MotionCoder", "decode_motion", "encode_motion"]

ENTRIES = 256  # of a codebook, at most
_PER_ENTRY = 8  # vectors of a segment, for each entry
_UNIT_BITS = 3  # of an entry's number below the tolerance
STAGES = 8  # the most codebooks
_TURN_STEP = 2.0**-11  # of a quaternion's components where a segment begins
_PLACE_PARTS = 8.0  # steps of a position there, in a tolerance
_CONTEXTS = 6
_HEAD = struct.Struct("<ddBB")
_ROUNDS, _SAMPLES = 8, 1 << 13  # of k-means
_CLOSED_ROUNDS, _NOISE = 3, 1.0  # of training with decoded motion; noise of the first one, in tolerances


@dataclass(frozen=True, eq=False)
class Codebooks:
    """The codebooks of a segment, one for each stage. unit: of an entry's number, in scene units."""

    unit: float
    stages: tuple[Codebook, ...]

    def values(self, stage: int) -> NDArray[np.float64]:
        """The entries of a stage, (K, 6), in scene units."""
        return self.stages[stage].entries * self.unit

    def approximated(self, numbers: NDArray[np.float64]) -> tuple[list[NDArray[np.int32]], NDArray[np.float64]]:
        """The indices of each stage for vectors (J, 6), and the sum of their entries."""
        total, indices = np.zeros_like(numbers), []
        for stage in range(len(self.stages)):
            indices.append(_nearest(numbers - total, self.values(stage)))
            total = total + self.values(stage)[indices[-1]]
        return indices, total


class MotionCoder:
    """The state that encoder and decoder share: the last two poses, as they are decoded.

    spacing: the distance of neighbouring joints, in scene units.
    """

    def __init__(self, rest: NDArray[np.float64], spacing: float) -> None:
        self.rest, self.spacing = rest, spacing
        self.pose = Pose.rest(rest)
        self.turn = np.zeros((len(rest), 3))  # since the frame before: components of a unit quaternion
        self.step = np.zeros((len(rest), 3))  # the same of the position

    def target(self, pose: Pose) -> NDArray[np.float64]:
        """The six numbers of each joint, (J, 6), that lead from the last pose to another one."""
        difference = multiplied(pose.rotations, self.pose.rotations * (1.0, -1.0, -1.0, -1.0))
        difference *= np.where(difference[:, :1] < 0, -1.0, 1.0)
        turn = difference[:, 1:] - self.turn
        place = (pose.positions - self.pose.positions) - self.step
        return np.concatenate([turn * (2.0 * self.spacing), place], 1)

    def move(self, numbers: NDArray[np.float64]) -> Pose:
        """The next pose, from numbers as `target` gives them; it becomes the last one."""
        turn = self.turn + numbers[:, :3] / (2.0 * self.spacing)
        step = self.step + numbers[:, 3:]
        square = (turn[:, 0] * turn[:, 0] + turn[:, 1] * turn[:, 1]) + turn[:, 2] * turn[:, 2]
        difference = np.empty((len(turn), 4))
        difference[:, 0] = np.sqrt(np.maximum(1.0 - square, 0.0))
        difference[:, 1:] = turn
        difference = unit(difference)
        self.pose = Pose(unit(multiplied(difference, self.pose.rotations)), (self.pose.positions + step))
        self.turn, self.step = np.ascontiguousarray(difference[:, 1:]), step
        return self.pose

    def begin(self, turns: NDArray[np.int32], places: NDArray[np.int32], place_step: float) -> Pose:
        """The first pose of a segment, from quaternions and displacements in whole steps."""
        self.pose = Pose(unit(turns * _TURN_STEP), self.rest + places * place_step)
        self.turn[:], self.step[:] = 0.0, 0.0
        return self.pose


def encode_motion(rest: NDArray[np.float64], spacing: float, poses: Sequence[Pose], tolerance: float) -> bytes:
    """The stream of the poses of a segment. tolerance: the error of a position that is aimed at, in scene units."""
    place_step = tolerance / _PLACE_PARTS * 2.0
    turns, places = _first_levels(rest, poses[0], place_step)
    coder = MotionCoder(rest, spacing)
    books = _trained(coder, turns, places, place_step, poses, tolerance)
    n_stages = len(books.stages)
    first = _code_first(None, len(rest), turns, places)
    indices = _Indices(len(rest), n_stages, len(poses))
    coder.begin(turns, places, place_step)
    for pose in poses[1:]:
        chosen, total = books.approximated(coder.target(pose))
        for stage in range(n_stages):
            indices.code(stage, chosen[stage])
        coder.move(total)
    head = _HEAD.pack(place_step, books.unit, n_stages, 0)
    return joined([head, joined([stage.pack() for stage in books.stages]), first, indices.finish()])


def decode_motion(data: bytes, rest: NDArray[np.float64], spacing: float, n_frames: int) -> _Motion:
    """The poses of a segment, one at a time. StreamError for a damaged stream."""
    return _Motion(data, rest, spacing, n_frames)


class _Motion:
    """The poses of a segment, decoded one after the other by `next`."""

    def __init__(self, data: bytes, rest: NDArray[np.float64], spacing: float, n_frames: int) -> None:
        head, entries, first, indices = parted(data, 4)
        if len(head) != _HEAD.size:
            raise StreamError("the motion of a segment is cut: the file is damaged")
        place_step, scale, n_stages, _ = _HEAD.unpack(head)
        if not (0 < place_step < 1e30 and 0 < scale < 1e30) or n_stages > STAGES:
            raise StreamError("steps of motion that no encoder writes: the file is damaged")
        self._books = Codebooks(scale, tuple(Codebook.unpack(part, 6) for part in parted(entries, n_stages)))
        self._coder = MotionCoder(rest, spacing)
        turns, places = _code_first(first, len(rest), None, None)
        self._first: Pose | None = self._coder.begin(turns, places, place_step)
        self._indices = _Indices(len(rest), n_stages, n_frames, indices)
        self._left = n_frames

    def next(self) -> Pose:
        """The pose of the next frame."""
        assert self._left > 0, "a segment has no more frames"
        self._left -= 1
        if self._first is not None:
            pose, self._first = self._first, None
        else:
            total = np.zeros((len(self._coder.rest), 6))
            for stage in range(len(self._books.stages)):
                values, indices = self._books.values(stage), self._indices.code(stage, None)
                if int(indices.max(initial=0)) >= len(values):
                    raise StreamError("an index beyond its codebook: the file is damaged")
                total += values[indices]
            pose = self._coder.move(total)
        if not self._left:
            self._indices.finish()
        return pose


# ---- the first pose


def _first_levels(
    rest: NDArray[np.float64], pose: Pose, place_step: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The quaternions and displacements of a pose in whole steps; a quaternion has the sign of the joint before."""
    q = pose.rotations.copy()
    if q[0, 0] < 0:
        q[0] = -q[0]
    signs = np.where((q[1:] * q[:-1]).sum(1) < 0, -1.0, 1.0)
    q[1:] *= np.cumprod(signs)[:, None]
    turns = np.rint(q / _TURN_STEP)
    places = np.rint((pose.positions - rest) / place_step)
    limit = float(1 << 28)
    return np.clip(turns, -limit, limit).astype(np.int32), np.clip(places, -limit, limit).astype(np.int32)


def _code_first(data: bytes | None, n: int, turns: NDArray[np.int32] | None, places: NDArray[np.int32] | None) -> Any:
    """The stream of the first pose (data: None), or the quaternions and displacements that it holds.

    Each number is told as its difference from that of the joint before, in Morton order.
    """
    coder = NumberCoder(7, 3, 7 * n, data)
    if turns is not None and places is not None:
        given = np.diff(np.concatenate([turns, places], 1), axis=0, prepend=np.array([[2048, 0, 0, 0, 0, 0, 0]]))
    else:
        given = np.zeros((0, 7), np.int64)
    out = np.zeros((n, 7), np.int64)
    for column in range(7):
        before = out[:, column - 1] if column else np.zeros(n, np.int64)
        second = out[:, column - 2] if column > 1 else np.zeros(n, np.int64)
        contexts = [
            np.zeros(n, np.int64),
            np.clip(before, -40, 40),
            np.clip(before, -9, 9) * 32 + np.clip(second, -9, 9),
        ]
        values = None if data is not None else given[:, column]
        out[:, column] = coder.code(contexts, np.full(n, column), values)
    stream = coder.finish()
    if data is None:
        return stream
    whole = np.cumsum(out, axis=0)
    whole[:, 0] += 2048
    if int(np.abs(whole).max()) > 1 << 29:
        raise StreamError("a pose beyond all measure: the file is damaged")
    return whole[:, :4].astype(np.int32), whole[:, 4:].astype(np.int32)


# ---- codebooks


def _trained(
    coder: MotionCoder,
    turns: NDArray[np.int32],
    places: NDArray[np.int32],
    place_step: float,
    poses: Sequence[Pose],
    tolerance: float,
) -> Codebooks:
    """The codebooks of a segment, trained on what they are asked for: what is left after decoded motion, not exact one.

    They begin with exact motion and noise of the tolerance; each further round runs the coder with the last books.
    """
    random = np.random.default_rng(1)
    books = Codebooks(1.0, ())
    for turn in range(_CLOSED_ROUNDS):
        coder.begin(turns, places, place_step)
        targets = []
        for pose in poses[1:]:
            target = coder.target(pose)
            if not turn:
                coder.move(target)
                target = target + random.normal(0.0, _NOISE * tolerance, target.shape)
            else:
                coder.move(books.approximated(target)[1])
            targets.append(target)
        if not targets:
            break
        books = _trained_on(np.concatenate(targets), tolerance, random)
    return books


def _trained_on(left: NDArray[np.float64], tolerance: float, random: np.random.Generator) -> Codebooks:
    """Codebooks for vectors: as many as bring their error below the tolerance."""
    scale = max(float(np.abs(left).max()) * 2.0**-24, tolerance * 2.0**-_UNIT_BITS)
    books: list[Codebook] = []
    while len(books) < STAGES and float(np.sqrt((left**2).sum(1).mean())) > tolerance:
        book = Codebook(np.rint(_k_means(left, random) / scale).astype(np.int32))
        books.append(book)
        left = left - (book.entries * scale)[_nearest(left, book.entries * scale)]
    return Codebooks(scale, tuple(books))


def _k_means(x: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """A codebook (K, 6) of vectors (n, 6): Lloyd's rounds from a draw that prefers long vectors; zero first."""
    n = max(1, min(ENTRIES - 1, len(x) // _PER_ENTRY))
    if len(x) > _SAMPLES:
        x = x[random.choice(len(x), _SAMPLES, replace=False)]
    lengths = np.sqrt((x**2).sum(1)) + 1e-30
    centres = np.zeros((n + 1, x.shape[1]))
    centres[1:] = x[random.choice(len(x), n, replace=False, p=lengths / lengths.sum())]
    for _ in range(_ROUNDS):
        nearest = _nearest(x, centres)
        counts = np.bincount(nearest, minlength=n + 1)
        for axis in range(x.shape[1]):
            sums = np.bincount(nearest, x[:, axis], n + 1)
            centres[1:, axis] = np.where(counts[1:] > 0, sums[1:] / np.maximum(counts[1:], 1), centres[1:, axis])
    order = np.argsort(-np.bincount(_nearest(x, centres), minlength=n + 1)[1:], kind="stable")
    centres[1:] = centres[1:][order]
    return centres


def _nearest(x: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int32]:
    """The index of the centre nearest to each vector."""
    squares = (centres**2).sum(1)
    out = np.empty(len(x), np.int32)
    for start in range(0, len(x), 1 << 13):
        part = x[start : start + (1 << 13)]
        out[start : start + len(part)] = np.argmin(squares - 2.0 * (part @ centres.T), axis=1)
    return out


# ---- indices


class _Indices:
    """The indices of all joints, frame by frame and stage by stage."""

    def __init__(self, n: int, n_stages: int, n_frames: int, data: bytes | None = None) -> None:
        self._reads = data is not None
        self._n_stages = n_stages
        self._last = np.zeros((n_stages + 1, n), np.int64)
        self._second = np.zeros((n_stages + 1, n), np.int64)
        self._now = np.zeros((n_stages + 1, n), np.int64)
        plan = symbol_plan(8, _CONTEXTS, max(1, n_stages), lines_for(2 * n * n_frames * n_stages))
        self._coder = SymbolCoder(8, max(1, n_stages), Mixer.new(plan), data) if n_stages else None

    def code(self, stage: int, indices: NDArray[np.int32] | None) -> NDArray[np.int32]:
        """The indices of a stage (J,): those that are given, or those that are read."""
        assert self._coder is not None
        last, second = self._last[stage], self._second[stage]
        left, right = np.roll(last, 1), np.roll(last, -1)
        before = self._now[stage - 1] if stage else np.zeros_like(last)
        joint = np.arange(len(last))
        contexts = [np.zeros_like(last), last, before << 8 | (last == 0), left << 8 | right, joint, last << 8 | second]
        tagged = np.stack([context << 3 | stage for context in contexts], 1).astype(np.uint64)
        out = self._coder.code(np.ascontiguousarray(tagged), np.full(len(last), stage, np.int32), indices)
        self._now[stage] = out
        if stage == self._n_stages - 1:
            self._second, self._last, self._now = self._last, self._now, self._second
        return out

    def finish(self) -> bytes:
        """The stream that was written; StreamError for one that is read and doesn't end here."""
        return b"" if self._coder is None else self._coder.finish()
