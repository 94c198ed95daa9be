"""The codec `dualgs`: Gaussian splats, scenes and sequences. See the module's docstring of the package for the paper.

A scene from a file that is quantised already (SPZ, SOG, compressed PLY, .splat) is kept exactly, as its integers. Any
other scene is coded within error bounds, or exactly where that is asked for. A sequence is coded within bounds: see
sequence.py.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk, Header, Value
from ...errors import ContainerError, StreamError, UsageError
from ...media.gaussians.forms import FORMS, gaussians_of
from ...media.gaussians.values import DC, Column, Gaussians, Table
from ...media.notes import Note
from ..base.gaussians.bounds import Bounds
from ..base.gaussians.codec import EncodedGaussians, FrameSource, GaussiansCodec
from ..base.progress import tell
from ..base.settings import Setting
from . import CARD, floats
from .dual import joints_and_poses
from .grid import FORM as GRID
from .grid import Grid
from .scene import decode_table, encode_table
from .sequence import FINE, Base, Plan, SegmentReader, Tolerances, encode_segment, sizes_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DualgsCodec"]

SCENE, ORDER, BASE, JOINTS, SEGMENT, FILL = "Scen", "Ordr", "Base", "Jnts", "Segm", "fill"
SEGMENT_FRAMES = 30
_MOST_FRAMES = GaussiansCodec.longest  # of a segment
_PER_BYTE = 64  # Gaussians that a byte of a scene may stand for: what is simpler is filled up with zeros
_TRIES = 6  # of steps that keep named bounds
_MOTION = (1.0, 2.0)  # tolerances of joints that are tried, in bounds of a position: finer motion needs fewer tracks
_SIDE_BY_SIDE = 2  # segments that are decoded at a time
_AHEAD, _LEAST_AHEAD = 1 << 19, 3  # Gaussians, and frames, that are decoded before they are asked for


@dataclass(frozen=True, repr=False)
class DualgsCodec(GaussiansCodec):
    """The codec `dualgs`: see the module's docstring."""

    quality: float | None = None
    device: str = "cpu"

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    selection: ClassVar[tuple[Setting, ...]] = CARD.selection
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({SCENE, ORDER, BASE, JOINTS, SEGMENT})

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        if tag is not None or weights is not None:
            raise UsageError("dualgs has no weights: leave out the tag, or --weights")
        return cls(quality, device)

    @property
    def weights_id(self) -> bytes:
        return b""

    # ---- encoding

    def encode_source(self, source: FrameSource) -> EncodedGaussians:
        if source.n_frames > 1:
            return self._encode_sequence(source)
        table = source.table(0)
        asked = self.quality is not None or bool(self.named) or self.size is not None
        if self.lossless or (table is not None and not asked and self.lossless is None):
            return self._encode_exactly(table if table is not None else floats.table_of(source.frame(0)))
        gaussians, notes = _finite(source.frame(0))
        table = self._within_bounds(gaussians)
        return self._of_table(table, notes)

    def _encode_exactly(self, table: Table) -> EncodedGaussians:
        return self._of_table(table, ())

    def _of_table(self, table: Table, notes: tuple[Note, ...]) -> EncodedGaussians:
        payload, about, order = encode_table(table)
        chunks = [Chunk(SCENE, payload)]
        if self.keep_order:
            chunks.append(Chunk(ORDER, _packed_order(order)))
        chunks += _filled(len(table), payload)
        exact = table.form != GRID
        words = ["every value as it was"] if exact else []
        return EncodedGaussians(chunks, len(chunks), len(table), {}, about, notes, {"exact": exact}, words)

    def _within_bounds(self, gaussians: Gaussians) -> Table:
        """The table of a scene on a grid; bounds that were named hold for every value."""
        bounds = wanted = self.bounds(_extent(gaussians))
        for _ in range(_TRIES):
            grid = Grid.of_bounds(bounds)
            levels = grid.levels(gaussians)
            errors = _errors(gaussians, grid.gaussians(levels), wanted)
            over = {name: ratio for name, ratio in errors.items() if name in self.named and ratio > 1.0}
            if not over:
                return grid.table(levels)
            bounds = bounds.changed((name, getattr(bounds, name) / (ratio * 1.001)) for name, ratio in over.items())
        raise UsageError(f"the bounds of {', '.join(over)} are finer than float32 can hold: give larger ones")

    def _encode_sequence(self, source: FrameSource) -> EncodedGaussians:
        if self.lossless:
            raise UsageError("a sequence is coded within bounds, as --max-error position=0.001; lossless is for scenes")
        if self.keep_order:
            raise UsageError("keep_order is for scenes: the Gaussians of a sequence have one order in all frames")
        first = source.frame(0)
        _require_finite(first, 0)
        bounds = self.bounds(_extent(first))
        if self.named:
            bounds = _inside(bounds, source)
        grid = Grid.of_bounds(bounds)
        exact, turn = bool(self.named), 2.0 * bounds.rotation / FINE
        payload, about, order = encode_table(grid.table(grid.levels(first)))
        levels = Grid.of_table(decode_table(payload, about, len(first)))[1]
        joints, length, spacing, pose_of = joints_and_poses(source, grid, levels)
        joint_table = Table("joints", (Column("position", joints, (31,) * 3),))
        joint_payload, joint_about, joint_order = encode_table(joint_table)
        joints = joints[joint_order]
        base = Base(Plan(grid, spacing, turn, exact), levels, joints * grid.position, length)
        n_frames = min(self.segment or SEGMENT_FRAMES, source.n_frames)
        starts = range(0, source.n_frames, n_frames)

        def chunks() -> Iterator[Chunk]:
            yield Chunk(BASE, payload)
            yield Chunk(JOINTS, joint_payload)
            tried = [Tolerances(motion=bounds.position * part) for part in _MOTION]
            for start in starts:
                frames, poses = [], []
                for index in range(start, min(start + n_frames, source.n_frames)):
                    tell(index / source.n_frames, f"frame {index + 1}/{source.n_frames}")
                    frame = source.frame(index)
                    _require_finite(frame, index)
                    poses.append(pose_of(index, frame, base.rig, joint_order))
                    frames.append(frame.take(order))
                made = [encode_segment(base, frames, poses, tolerances) for tolerances in tried]
                shortest = min(range(len(made)), key=lambda way: len(made[way]))
                tried = tried[shortest : shortest + 1]  # the first segment decides for all
                yield Chunk(SEGMENT, made[shortest])

        params: dict[str, Value] = {"segment": n_frames, "joints": len(joints), "spacing": spacing, "length": length}
        params |= {"turn": turn, "exact": exact}
        meta = {**about, **{f"j.{key}": value for key, value in joint_about.items()}}
        facts = {"joints": len(joints), "segments": len(starts)}
        return EncodedGaussians(chunks(), 2 + len(starts), len(first), params, meta, (), facts)

    # ---- decoding

    def open_stream(self, header: Header, chunk: Callable[[int], Chunk], n_chunks: int) -> _Scene | _Sequence:
        if "segment" in header.params:
            return _Sequence(header, chunk, n_chunks)
        return _Scene(header, chunk, n_chunks)

    @classmethod
    def storage(cls, header: Header, chunks: Sequence[Chunk]) -> Mapping[str, int]:
        sizes: dict[str, int] = {}
        degree = math.isqrt((header.shape[2] - 11) // 3) - 1
        for chunk in chunks:
            name = {SCENE: "scene", ORDER: "order", BASE: "base frame", JOINTS: "joints"}.get(chunk.tag, "other")
            parts = {name: len(chunk.payload)}
            if chunk.tag == SEGMENT:
                parts = sizes_of(chunk.payload, degree, header.params.get("exact") is True)
            for part, size in parts.items():
                sizes[part] = sizes.get(part, 0) + size
        return sizes


# ---- scenes


class _Scene:
    """The payload of a scene."""

    def __init__(self, header: Header, chunk: Callable[[int], Chunk], n_chunks: int) -> None:
        n_frames, count, self._width = header.shape
        if n_frames != 1:
            raise StreamError(f"{n_frames} frames without segments: the file is damaged")
        chunks = {part.tag: part.payload for part in (chunk(index) for index in range(min(n_chunks, 4)))}
        _check_filled(count, sum(map(len, chunks.values())))
        if SCENE not in chunks:
            raise StreamError("a scene without its payload: the file is damaged")
        self._table = decode_table(chunks[SCENE], header.meta, count)
        if ORDER in chunks:
            self._table = _in_order(self._table, _unpacked_order(chunks[ORDER], count))

    def table(self) -> Table | None:
        return self._table if self._table.form in FORMS else None

    def frame(self, index: int) -> Gaussians:
        del index
        if self._table.form == GRID:
            grid, levels = Grid.of_table(self._table)
            gaussians = grid.gaussians(levels)
        elif self._table.form == floats.FORM:
            gaussians = floats.gaussians_of(self._table)
        else:
            gaussians = gaussians_of(self._table)
        if 11 + 3 * gaussians.harmonics.shape[1] != self._width:
            raise StreamError("harmonics of another degree than the header says: the file is damaged")
        return gaussians

    def frames(self, start: int, stop: int) -> Iterator[Gaussians]:
        if start < stop:
            yield self.frame(0)


def _packed_order(order: NDArray[np.int64]) -> bytes:
    """The places of rows, in as few bits as each needs."""
    bits = max(1, (len(order) - 1).bit_length())
    columns = (order[:, None] >> np.arange(bits)) & 1
    return np.packbits(columns.astype(np.uint8).reshape(-1)).tobytes()


def _unpacked_order(data: bytes, n: int) -> NDArray[np.int64]:
    bits = max(1, (n - 1).bit_length())
    if len(data) != -(-n * bits // 8):
        raise StreamError("the order of the Gaussians is cut: the file is damaged")
    columns = np.unpackbits(np.frombuffer(data, np.uint8))[: n * bits].reshape(n, bits)
    order = (columns.astype(np.int64) << np.arange(bits)).sum(1)
    if int(order.max()) >= n or len(np.unique(order)) != n:
        raise StreamError("an order that isn't one: the file is damaged")
    return order


def _in_order(table: Table, order: NDArray[np.int64]) -> Table:
    """The table with its rows at their places: row i of the stream was row order[i]."""
    columns = []
    for column in table.columns:
        values = np.empty_like(column.values)
        values[order] = column.values
        columns.append(Column(column.role, values, column.bits))
    return Table(table.form, tuple(columns), table.groups, table.detail)


def _filled(n: int, payload: bytes) -> list[Chunk]:
    missing = -(-n // _PER_BYTE) - len(payload)
    return [Chunk(FILL, bytes(missing))] if missing > 0 else []


def _check_filled(n: int, n_bytes: int) -> None:
    """Refuse a small file that claims many Gaussians, before anything is allocated for them."""
    if n > _PER_BYTE * n_bytes:
        raise StreamError(f"{n_bytes} bytes can't hold {n} Gaussians (at most {_PER_BYTE} a byte): the file is damaged")


# ---- sequences


class _Sequence:
    """The payload of a sequence: the base frame is decoded at once, a segment when one of its frames is asked for."""

    def __init__(self, header: Header, chunk: Callable[[int], Chunk], n_chunks: int) -> None:
        self._n_frames, count, _ = header.shape
        self._chunk = chunk
        params = header.params
        n_frames, n_joints = params.get("segment"), params.get("joints")
        spacing, length, turn = (params.get(key) for key in ("spacing", "length", "turn"))
        if type(n_frames) is not int or not 1 <= n_frames <= _MOST_FRAMES:
            raise StreamError("segments that no encoder writes: the file is damaged")
        if type(n_joints) is not int or n_joints < 1:
            raise StreamError(f"{n_joints!r} joints; expected at least one: the file is damaged")
        if not all(isinstance(size, float) and math.isfinite(size) and size > 0 for size in (spacing, length, turn)):
            raise StreamError("joints that are no distance apart: the file is damaged")
        if n_chunks < 2 + -(-self._n_frames // n_frames):
            raise StreamError(f"{n_chunks} chunks for {self._n_frames} frames: the file is damaged")
        payload, joints = (self._payload(index, tag) for index, tag in enumerate((BASE, JOINTS)))
        _check_filled(count, len(payload))
        _check_filled(n_joints, len(joints))
        self._size = n_frames
        grid, levels = Grid.of_table(decode_table(payload, header.meta, count))
        if levels.harmonics.shape[1] * 3 + 14 != header.shape[2]:
            raise StreamError("harmonics of another degree than the header says: the file is damaged")
        about = {key[2:]: value for key, value in header.meta.items() if key.startswith("j.")}
        places = decode_table(joints, about, n_joints).columns[0].values
        assert isinstance(spacing, float) and isinstance(length, float) and isinstance(turn, float)
        plan = Plan(grid, spacing, turn, params.get("exact") is True)
        self._base = Base(plan, levels, places * grid.position, length)

    def _payload(self, index: int, tag: str) -> bytes:
        chunk = self._chunk(index)
        if chunk.tag != tag:
            raise StreamError(f"a chunk {chunk.tag!r} in place of {tag!r}: the file is damaged")
        return chunk.payload

    def table(self) -> None:
        return None

    def frame(self, index: int) -> Gaussians:
        return next(iter(self.frames(index, index + 1)))

    def frames(self, start: int, stop: int) -> Iterator[Gaussians]:
        """The frames start to stop - 1. The streams of two segments are decoded side by side, ahead of the values."""
        segments = iter(range(start // self._size, (stop - 1) // self._size + 1) if start < stop else ())
        ended = threading.Event()
        running: deque[_Running] = deque()
        try:
            while True:
                while len(running) < _SIDE_BY_SIDE and (segment := next(segments, None)) is not None:
                    running.append(self._begun(segment, start, stop, ended))
                if not running:
                    return
                for _ in range(running[0].n_frames):
                    made = running[0].queue.get()
                    if isinstance(made, BaseException):
                        raise made
                    yield made()
                running.popleft()
        finally:
            ended.set()
            for segment in running:
                segment.thread.join()

    def _begun(self, segment: int, start: int, stop: int, ended: threading.Event) -> _Running:
        """A segment whose frames from `start` to `stop` are decoded from now on, in a thread of their own."""
        first = segment * self._size
        n_frames = min(self._size, self._n_frames - first)
        before, wanted = max(start - first, 0), min(stop, first + n_frames) - max(start, first)
        queue: Queue[Any] = Queue(max(_LEAST_AHEAD, _AHEAD // max(1, self._base.n)))
        try:
            data: bytes | ContainerError = self._payload(2 + segment, SEGMENT)
        except ContainerError as error:  # raised when its frames are asked for
            data = error

        def read() -> None:
            try:
                if isinstance(data, ContainerError):
                    raise data
                reader = SegmentReader(self._base, data, n_frames)
                for index in range(before + wanted):
                    made = reader.next()
                    if index >= before:
                        _put(queue, made, ended)
                    if ended.is_set():
                        return
            except BaseException as error:  # whoever asks for the frame raises it
                _put(queue, error, ended)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return _Running(thread, queue, wanted)


def _inside(bounds: Bounds, source: FrameSource) -> Bounds:
    """Bounds of a sequence, less what float32 may round off its values. UsageError for those that it can't hold."""
    largest = dict.fromkeys(("position", "scale", "colour", "harmonics"), 0.0)
    for index in range(source.n_frames):
        frame = source.frame(index)
        _require_finite(frame, index)
        values = (frame.positions, frame.scales, frame.harmonics[:, 0] * DC, frame.harmonics[:, 1:])
        for name, part in zip(largest, values, strict=True):
            largest[name] = max(largest[name], float(np.abs(part).max(initial=0.0)))
    inside = {name: getattr(bounds, name) - 2.0**-23 * value for name, value in largest.items()}
    if over := [name for name, bound in inside.items() if bound <= 0]:
        raise UsageError(f"the bounds of {', '.join(over)} are finer than float32 can hold: give larger ones")
    return bounds.changed(inside.items())


class _Running(NamedTuple):
    """A segment that is being decoded: its thread, what makes its frames, and how many will come."""

    thread: threading.Thread
    queue: Queue[Any]
    n_frames: int


def _put(queue: Queue[Any], item: Any, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            queue.put(item, timeout=0.1)
            return
        except Full:
            continue


# ---- values


def _extent(gaussians: Gaussians) -> float:
    """The size of a scene: the median distance of a Gaussian from the middle one.

    Where most are in the same place, a small part of how far they are from the origin: steps that float32 can hold.
    """
    positions = gaussians.positions.astype(np.float64)
    positions = positions[np.isfinite(positions).all(1)]
    if not len(positions):
        return 1.0
    distance = float(np.median(np.sqrt(((positions - np.median(positions, axis=0)) ** 2).sum(1))))
    return max(distance, 2.0**-14 * float(np.abs(positions).max()))


def _is_finite(gaussians: Gaussians) -> NDArray[np.bool_]:
    finite = np.isfinite(gaussians.opacities)
    for values in (gaussians.positions, gaussians.scales, gaussians.rotations):
        finite &= np.isfinite(values).all(1)
    return finite & np.isfinite(gaussians.harmonics).all((1, 2))


def _finite(gaussians: Gaussians) -> tuple[Gaussians, tuple[Note, ...]]:
    """The Gaussians all of whose values are numbers, and a note about the others."""
    finite = _is_finite(gaussians)
    if finite.all():
        return gaussians, ()
    if not finite.any():
        raise UsageError("no Gaussian has values that are all finite: there is nothing to code; lossless keeps them")
    n = int((~finite).sum())
    return gaussians.take(np.flatnonzero(finite)), (
        Note("values", f"{n} Gaussians with values that aren't finite are left out: --lossless keeps them"),
    )


def _require_finite(gaussians: Gaussians, index: int) -> None:
    finite = _is_finite(gaussians)
    if not finite.all():
        row = int(np.argmin(finite))
        raise UsageError(f"frame {index}: Gaussian {row} has values that aren't finite; remove it from all frames")


def _errors(given: Gaussians, made: Gaussians, bounds: Bounds) -> dict[str, float]:
    """The largest error of each attribute, as a part of its bound."""
    a, b = given.rotations.astype(np.float64), made.rotations.astype(np.float64)
    a /= np.maximum(np.sqrt((a * a).sum(1)), 1e-30)[:, None]
    a *= np.where((a * b).sum(1) < 0, -1.0, 1.0)[:, None]
    apart = made.scales.astype(np.float64) - given.scales
    opacity = [1.0 / (1.0 + np.exp(-np.clip(x.opacities.astype(np.float64), -60, 60))) for x in (given, made)]
    off = made.harmonics.astype(np.float64) - given.harmonics
    errors = {
        "position": np.abs(made.positions.astype(np.float64) - given.positions),
        "scale": np.expm1(np.abs(apart)),
        "rotation": np.abs(a - b),
        "opacity": np.abs(opacity[0] - opacity[1]),
        "colour": np.abs(off[:, 0]) * DC,
        "harmonics": np.abs(off[:, 1:]),
    }
    return {name: float(error.max(initial=0.0)) / getattr(bounds, name) for name, error in errors.items()}
