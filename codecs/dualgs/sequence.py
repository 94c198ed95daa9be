"""Sequences as a base frame, joints that move, and what changes beside the motion; in segments that stand alone.

Jiang et al. 2024, section 4. The base frame is coded once, as a scene. Each segment holds the motion of the joints,
from a pose of its own, and tracks: how far each Gaussian's attributes are from what base frame and motion give. A
segment is decoded from the base frame and its own bytes. Opacities and scales may be look-up tables that are pictures,
a row for each Gaussian and a column for each frame; harmonics are indices into codebooks, unless a bound is asked for.

Differs from the paper: its segments have a key frame each, here all share one base frame. Positions and rotations have
tracks, too: zero for a sequence that was fitted as joints and skins, and what keeps the bounds for any other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, StreamError, UsageError
from ...media.gaussians.values import Gaussians
from .codebooks import Codebook, bands_of, fit_codebook, indexed
from .grid import Grid, Levels, unit
from .lookup import decode_lookup, encode_lookup
from .motion import decode_motion, encode_motion
from .rig import Pose, Rig, multiplied
from .symbols import joined, parted
from .tracks import Kind, TrackReader, encode_tracks, held

__all__ = ["FINE", "Base", "Plan", "SegmentReader", "Tolerances", "encode_segment", "sizes_of"]

FINE = 2  # steps of a track in a step of the base frame
_TIGHTER = (0.85, 0.7, 0.57, 0.5)  # tolerances of rotations, in bounds, for those that go beyond one
_HEAD = struct.Struct("<HBB")


@dataclass(frozen=True)
class Plan:
    """How a sequence is coded: what both sides know.

    grid: of the base frame. spacing: of joints, in scene units. turn: the step of a track of rotations, of a component.
    exact: whether harmonics are tracks within a bound, not codebooks.
    """

    grid: Grid
    spacing: float
    turn: float
    exact: bool


class Base:
    """The base frame as it is decoded, and the rig of joints over it."""

    def __init__(self, plan: Plan, levels: Levels, joints: NDArray[np.float64], length: float) -> None:
        self.plan, self.levels, self.joints = plan, levels, joints
        grid = plan.grid
        self.positions = levels.position * grid.position
        self.rotations = grid.rotations(levels)
        self.rig = Rig.of(joints, self.positions, length)
        self.bands = bands_of(levels.harmonics.shape[1] + 1)
        self.n = len(levels.position)
        # Values in steps of a track:
        self.scale = FINE * levels.scale.astype(np.int64)
        self.opacity = FINE * levels.opacity.astype(np.int64)
        self.colour = FINE * levels.colour.astype(np.int64)
        self.harmonics = FINE * levels.harmonics.astype(np.int64)
        self.turn = plan.turn  # of a track of rotations
        self.fine = replace(
            grid,
            position=grid.position / FINE,
            scale=grid.scale / FINE,
            colour=grid.colour / FINE,
            harmonics=grid.harmonics / FINE,
        )

    def warped(self, pose: Pose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The positions and rotations that a pose gives."""
        return self.rig.warp(pose, self.positions, self.rotations)

    def frame(self, pose: Pose, tracks: Tracks) -> Gaussians:
        """The Gaussians of a frame, the same on every machine."""
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that only a damaged file has
            return self._frame(pose, tracks)

    def _frame(self, pose: Pose, tracks: Tracks) -> Gaussians:
        fine = self.fine
        positions, rotations = self.warped(pose)
        if tracks.position.any():
            positions = positions + tracks.position * fine.position
        if tracks.rotation.any():
            rotations = _turned(rotations, tracks.rotation * self.turn)
        harmonics = np.empty((self.n, self.levels.harmonics.shape[1] + 1, 3), np.float32)
        harmonics[:, 0] = (self.colour + tracks.colour) * fine.colour
        harmonics[:, 1:] = (self.harmonics + tracks.harmonics) * fine.harmonics
        opacity = np.clip(self.opacity + tracks.opacity, 0, FINE * fine.opacity)
        logits = replace(fine, opacity=FINE * fine.opacity).logits(opacity.astype(np.int32))
        return Gaussians(
            positions.astype(np.float32),
            ((self.scale + tracks.scale) * fine.scale).astype(np.float32),
            rotations.astype(np.float32),
            logits,
            harmonics,
        )


@dataclass(frozen=True, eq=False)
class Tracks:
    """The tracks of one frame, in steps of a track: (N, 3), but opacity (N,) and harmonics (N, K - 1, 3)."""

    position: NDArray[np.int32]
    rotation: NDArray[np.int32]
    scale: NDArray[np.int32]
    opacity: NDArray[np.int32]
    colour: NDArray[np.int32]
    harmonics: NDArray[np.int32]


def _turned(rotations: NDArray[np.float64], parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations after others in their own axes, given by twice their modified Rodrigues parameters: (N, 3).

    For small rotations these are the vector of a unit quaternion. Near a half turn that vector says little of the
    fourth component, and these say as much as anywhere.
    """
    parts = parts * 0.5
    square = (parts[:, 0] * parts[:, 0] + parts[:, 1] * parts[:, 1]) + parts[:, 2] * parts[:, 2]
    other = np.empty_like(rotations)
    other[:, 0] = 1.0 - square
    other[:, 1:] = 2.0 * parts
    return unit(multiplied(rotations, unit(other)))


# ---- encoding


@dataclass(frozen=True)
class Tolerances:
    """How far a track may be from what is wanted, in bounds, before it changes. motion: of joints, in scene units."""

    position: float = 1.0
    rotation: float = 1.0
    scale: float = 1.0
    opacity: float = 1.0
    colour: float = 1.0
    harmonics: float = 1.0
    motion: float = 1e-3


def encode_segment(
    base: Base, frames: Sequence[Gaussians], poses: Sequence[Pose], tolerances: Tolerances, lookup: bool = True
) -> bytes:
    """The stream of a segment. frames: their rows lie as those of the base frame. poses: of the joints, as wanted."""
    motion = encode_motion(base.joints, base.plan.spacing, poses, tolerances.motion)
    decoder = decode_motion(motion, base.joints, base.plan.spacing, len(poses))
    made = [decoder.next() for _ in frames]
    wanted = [_wanted(base, frame, pose) for frame, pose in zip(frames, made, strict=True)]
    tracks = {
        name: held(np.stack([part[name] for part in wanted]), getattr(tolerances, name) * FINE / 2)
        for name in ("position", "rotation", "scale", "opacity", "colour")
    }
    if base.plan.exact:
        _bound_rotations(base, frames, made, np.stack([part["rotation"] for part in wanted]), tracks["rotation"])
    kinds = {name: Kind(track.shape[2]) for name, track in tracks.items()}
    books: list[bytes] = []
    harmonics = np.stack([part["harmonics"] for part in wanted]) if base.bands else None
    for number, band in enumerate(base.bands):
        assert harmonics is not None
        part = harmonics[:, :, band].reshape(len(frames), base.n, -1)
        if base.plan.exact:
            tracks[f"band {number}"] = held(part, tolerances.harmonics * FINE / 2)
            kinds[f"band {number}"] = Kind(part.shape[2])
            continue
        book = fit_codebook(part, tolerances.harmonics * FINE / 2)
        tracks[f"band {number}"] = indexed(part, book, tolerances.harmonics * FINE / 2)[:, :, None]
        kinds[f"band {number}"] = Kind(1, book.bits)
        books.append(book.pack())
    picture = b""
    plain = encode_tracks(list(tracks.values()), list(kinds.values()))
    if lookup:
        rest = [name for name in tracks if name not in ("scale", "opacity")]
        shorter = encode_tracks([tracks[name] for name in rest], [kinds[name] for name in rest])
        picture = encode_lookup(np.concatenate([tracks["scale"], tracks["opacity"]], 2), _rows(base))
        if picture and len(shorter) + len(picture) < len(plain):
            plain = shorter
        else:
            picture = b""
    head = _HEAD.pack(len(frames), len(books), bool(picture))
    return joined([head, motion, plain, picture, *books])


def _bound_rotations(
    base: Base,
    frames: Sequence[Gaussians],
    poses: Sequence[Pose],
    wanted: NDArray[np.float64],
    tracks: NDArray[np.int32],
) -> None:
    """Change tracks of rotations, in place, so that no component of a quaternion is off by more than its bound.

    A track's numbers are components in the Gaussian's own axes: together they can be off by more in others.
    """
    rows = np.arange(base.n)
    for part in _TIGHTER:
        rows = rows[_over(base, frames, poses, tracks, rows)]
        if not len(rows):
            return
        tracks[:, rows] = held(wanted[:, rows], part * FINE / 2)
    if _over(base, frames, poses, tracks, rows).any():
        raise UsageError("the bound of rotation is finer than float32 can hold: give a larger one")


def _over(
    base: Base,
    frames: Sequence[Gaussians],
    poses: Sequence[Pose],
    tracks: NDArray[np.int32],
    rows: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Rows (n,) in which some component of a quaternion is off by more than its bound in some frame, as booleans."""
    limit = base.turn * FINE / 2
    over = np.zeros(len(rows), bool)
    for frame, pose, track in zip(frames, poses, tracks, strict=True):
        turned = _turned(base.warped(pose)[1][rows], track[rows] * base.turn).astype(np.float32)  # as it is decoded
        given = unit(frame.rotations[rows].astype(np.float64))
        given *= np.where((given * turned).sum(1) < 0, -1.0, 1.0)[:, None]
        over |= np.abs(given - turned).max(1) > limit
    return over


def _rows(base: Base) -> NDArray[np.int64]:
    """The order of the rows of a look-up table: by opacity and size in the base frame, which both sides know."""
    return np.argsort(base.opacity * 4096 + base.scale.sum(1), kind="stable")


def _wanted(base: Base, frame: Gaussians, pose: Pose) -> dict[str, NDArray[np.float64]]:
    """The tracks that a frame should have, in steps of a track."""
    if len(frame) != base.n or frame.harmonics.shape[1] != base.levels.harmonics.shape[1] + 1:
        raise MediaError(
            f"a frame of {len(frame)} Gaussians with {frame.harmonics.shape[1]} harmonics; expected {base.n} with "
            f"{base.levels.harmonics.shape[1] + 1}, as in the first frame"
        )
    fine = base.fine
    positions, rotations = base.warped(pose)
    turn = multiplied(rotations * (1.0, -1.0, -1.0, -1.0), unit(frame.rotations.astype(np.float64)))
    turn *= np.where(turn[:, :1] < 0, -1.0, 1.0)
    opacity = 1.0 / (1.0 + np.exp(-np.clip(frame.opacities.astype(np.float64), -60.0, 60.0)))
    return {
        "position": (frame.positions - positions) / fine.position,
        "rotation": 2.0 * turn[:, 1:] / (1.0 + turn[:, :1]) / base.turn,
        "scale": frame.scales / fine.scale - base.scale,
        "opacity": (opacity * (FINE * fine.opacity) - base.opacity)[:, None],
        "colour": frame.harmonics[:, 0] / fine.colour - base.colour,
        "harmonics": frame.harmonics[:, 1:] / fine.harmonics - base.harmonics,
    }


def _numbers(has_picture: bool) -> list[tuple[str, int]]:
    """The attributes whose tracks are numbers, in their order, and how many numbers each has."""
    widths = {"position": 3, "rotation": 3, "scale": 3, "opacity": 1, "colour": 3}
    return [item for item in widths.items() if not (has_picture and item[0] in ("scale", "opacity"))]


# ---- decoding


def sizes_of(data: bytes, degree: int, exact: bool) -> dict[str, int]:
    """The bytes of a segment by what they hold. degree: of the harmonics. StreamError for a damaged one."""
    _, motion, tracks, picture, *books = parted(data, 4 + (0 if exact else degree))
    names = [name for name, _ in _numbers(bool(picture))] + ["harmonics"] * degree
    streams = parted(tracks, 2 + len(names))
    sizes = {"motion": len(motion), "flags": len(streams[0]) + len(streams[1])}
    for name, stream in zip(names, streams[2:], strict=True):
        sizes[name] = sizes.get(name, 0) + len(stream)
    sizes |= {"look-up tables": len(picture)} if picture else {}
    sizes |= {"codebooks": sum(map(len, books))} if books else {}
    return sizes | {"lengths": len(data) - len(motion) - sum(map(len, (*streams, picture, *books)))}


class SegmentReader:
    """The frames of a segment, one after the other. n_frames: how many it has to have. StreamError if it is damaged."""

    def __init__(self, base: Base, data: bytes, n_frames: int) -> None:
        self._base = base
        if len(data) < 4 or (n_parts := 4 + self._n_books(data)) < 4:
            raise StreamError("a segment is cut: the file is damaged")
        head, motion, tracks, picture, *books = parted(data, n_parts)
        counted, _, has_picture = _HEAD.unpack(head)
        if counted != n_frames or bool(picture) != bool(has_picture):
            raise StreamError(f"a segment of {counted} frames; expected {n_frames}: the file is damaged")
        self._motion = decode_motion(motion, base.joints, base.plan.spacing, n_frames)
        self._books = [] if base.plan.exact else self._read_books(books)
        self._names = [(name, Kind(width)) for name, width in _numbers(bool(picture))]
        for number, band in enumerate(base.bands):
            width = 3 * (band.stop - band.start)
            kind = Kind(width) if base.plan.exact else Kind(1, self._books[number].bits)
            self._names.append((f"band {number}", kind))
        self._tracks = TrackReader(tracks, base.n, [kind for _, kind in self._names], n_frames)
        self._picture = decode_lookup(picture, n_frames, _rows(base), 4) if picture else None
        self._at = 0

    def _n_books(self, data: bytes) -> int:
        """The number of codebooks, from the lengths of the parts in front: 0 for nonsense, which `parted` refuses."""
        return 0 if self._base.plan.exact else len(self._base.bands)

    def _read_books(self, books: list[bytes]) -> list[Codebook]:
        widths = [3 * (band.stop - band.start) for band in self._base.bands]
        return [Codebook.unpack(data, width) for data, width in zip(books, widths, strict=True)]

    def next(self) -> Callable[[], Gaussians]:
        """Decodes the next frame's motion and tracks; what it returns makes its Gaussians, in any thread."""
        base = self._base
        pose = self._motion.next()
        parts = dict(zip([name for name, _ in self._names], self._tracks.next(), strict=True))
        if self._picture is not None:
            table = self._picture[self._at]
            parts["scale"], parts["opacity"] = table[:, :3], table[:, 3:]
        self._at += 1
        harmonics = np.zeros((base.n, base.levels.harmonics.shape[1], 3), np.int32)
        for number, band in enumerate(base.bands):
            values = parts[f"band {number}"]
            if not base.plan.exact:
                entries = self._books[number].entries
                index = values[:, 0]
                if int(index.max(initial=0)) >= len(entries):
                    raise StreamError("an index beyond its codebook: the file is damaged")
                values = entries[index]
            harmonics[:, band] = values.reshape(base.n, -1, 3)
        tracks = Tracks(
            parts["position"], parts["rotation"], parts["scale"], parts["opacity"][:, 0], parts["colour"], harmonics
        )
        return lambda: base.frame(pose, tracks)
