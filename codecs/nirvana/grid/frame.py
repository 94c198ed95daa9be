"""One frame of the preset `grid`: prediction, residual, filter; the same code writes and reads.

A key frame starts with the average of every 8x8 block, coded from coarse to fine; a smooth picture drawn through them
predicts the rest. Other frames are predicted from one or two earlier ones along vectors. What is missing is coded as
transform coefficients, and a small filter network repairs the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .... import native
from ....errors import StreamError
from ....native.repair import repair
from ...base.video.groups import Pixels, Planes
from .coefficients import code_plane
from .context import Grids, PlaneContext, PlaneDecisions, Texture, magnitude_table
from .motion import Phases, code_pyramid, flow_of, grid_shape, interpolated, predict, vectors_of_flow
from .networks import Filter, Nets
from .symbols import LARGEST, Coding, Int, code_flag, code_number, rows_of
from .transform import FINE, Bool, Float, band0_of, forward_mixed, inverse, padded, steps

Plane = NDArray[np.int16]
TINY = 2.0**-24  # units of exact coefficients, in sixteenths


@dataclass(frozen=True)
class PlaneLayout:
    """The planes of a kind of pixels, as they are coded. height, width: of a frame, in samples of luma."""

    pixels: Pixels
    height: int
    width: int

    @property
    def scales(self) -> tuple[int, ...]:
        """The side, in samples of luma, of the square that a sample stands for, by plane."""
        return {"gray": (1,), "yuv420p": (1, 2, 2), "rgb24": (1, 1, 1)}[self.pixels]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The least and the largest value of a sample, by plane."""
        chroma = (-255, 255) if self.pixels == "rgb24" else (0, 255)
        return ((0, 255), chroma, chroma)[: len(self.scales)]

    @property
    def step_shifts(self) -> tuple[int, ...]:
        """The shift of the step's index, by plane: one whose errors count less in the given samples is coarser."""
        return (0, 8, 10) if self.pixels == "rgb24" else (0, 0, 0)[: len(self.scales)]

    def shape(self, plane: int) -> tuple[int, int]:
        """The height and width of a plane."""
        s = self.scales[plane]
        return -(-self.height // s), -(-self.width // s)


def to_planes(frame: Planes, pixels: Pixels) -> list[Plane]:
    """The planes that are coded of a frame: RGB becomes YCoCg-R, which is lossless."""
    if pixels != "rgb24":
        return [p.astype(np.int16) for p in frame]
    r, g, b = (frame[0][..., k].astype(np.int16) for k in range(3))
    co = r - b  # YCoCg-R
    t = b + (co >> 1)
    cg = g - t
    return [t + (cg >> 1), cg, co]


def from_planes(planes: Sequence[Plane], pixels: Pixels) -> Planes:
    """The frame of planes as they are coded."""
    if pixels != "rgb24":
        return tuple(p.astype(np.uint8) for p in planes)
    y, cg, co = planes
    t = y - (cg >> 1)
    g = cg + t
    b = t - (co >> 1)
    return (np.clip(np.stack([b + co, g, b], -1), 0, 255).astype(np.uint8),)


@dataclass
class DecodedPicture:
    """A decoded frame, with what later ones lean on. flow: (h, w, 2) as `flow_of` has it, zeros of a key frame."""

    planes: list[Plane]
    grids: list[Grids]
    flow: Int
    _phases: dict[int, Phases] = field(default_factory=dict, repr=False)

    def phases(self, plane: int) -> Phases:
        """A plane at all quarter positions, made once."""
        if plane not in self._phases:
            self._phases[plane] = interpolated(self.planes[plane])
        return self._phases[plane]

    def forget(self) -> None:
        """Frees the interpolated planes, which take 32 bytes a sample."""
        self._phases.clear()


@dataclass(frozen=True)
class Motion:
    """The motion of a frame as it is sent: grids of pyramids, coarse to fine.

    vectors: to each reference, less what was expected. still: for each reference, whether to expect no motion. modes:
    which references to use, where there are two.
    """

    vectors: list[list[Int]]
    still: list[bool]
    modes: list[Int] | None


@dataclass(frozen=True)
class Sum:
    """A plane before the filter, padded, in sixteenths: prediction plus residual, and the residual.

    active: blocks that have a residual; the filter leaves the others alone, so that what stands still stays as it is.
    """

    total: Float
    residual: Float
    active: Bool

    @property
    def mask(self) -> Bool:
        """The samples of active blocks: (H, W)."""
        return self.active.repeat(8, 0).repeat(8, 1)


@dataclass(frozen=True)
class MotionField:
    """The motion of a frame as it is decoded, on the finest grid. vectors: (h, w, 2) to each reference."""

    vectors: list[Int]
    modes: Int | None  # (h, w)

    @cached_property
    def unrest(self) -> Int:
        """The feature of how much vectors differ from those beside and above: (h, w)."""
        total = np.zeros(self.vectors[0].shape[:2], np.int64)
        for v in self.vectors:
            for axis in (0, 1):
                total += np.abs(np.diff(v, axis=axis, prepend=v[:1] if axis == 0 else v[:, :1])).sum(-1)
        return magnitude_table()[np.minimum(total, LARGEST)].astype(np.int64)


class ModeDecisions(Protocol):
    """An encoder's decisions about one frame: how each part of it is coded, where a decoder reads that."""

    step_index: int
    motion: Motion | None

    def averages(self, plane: int, step: int) -> Int:
        """The averages of a key frame's blocks, in steps."""
        ...

    def plane(
        self, plane: int, context: PlaneContext, prediction: Float, averages: Int | None, step: int
    ) -> PlaneDecisions:
        """The decisions about a plane, given its prediction. averages: of a key frame."""
        ...

    def tally(self, plane: int) -> AverageTally | None:
        """The place for features and symbols of a plane's averages, if they are wanted."""
        ...


@dataclass
class AverageTally:
    """The features and symbols of averages that were coded, for training."""

    features: list[NDArray[np.uint8]] = field(default_factory=list)
    symbols: list[Int] = field(default_factory=list)


def expected_vectors(refs: Sequence[DecodedPicture], distances: Sequence[int], known: Sequence[Int]) -> Int:
    """The vectors to expect to the next reference, of the frame whose vectors to those before it are `known`.

    The flow of the later one of the references goes on, or that of the frame itself.
    """
    k = len(known)
    return vectors_of_flow(flow_of(known[0], distances[0]) if known else refs[-1].flow, distances[k])


def code_motion(
    io: Coding, motion: Motion | None, refs: Sequence[DecodedPicture], distances: Sequence[int]
) -> MotionField:
    """Codes the motion of a frame. distances: how many frames ago each reference was."""
    vectors: list[Int] = []
    for k in range(len(refs)):
        expected = expected_vectors(refs, distances, vectors)
        if expected.any() and code_flag(io, motion.still[k] if motion else None):
            expected = np.zeros_like(expected)
        vectors.append(code_pyramid(io, motion.vectors[k] if motion else None, expected))
    if len(refs) == 1:
        return MotionField(vectors, None)
    none = np.zeros((*vectors[0].shape[:2], 1), np.int64)
    modes = code_pyramid(io, motion.modes if motion else None, none)[..., 0]
    if ((modes < 0) | (modes > 2)).any():
        raise StreamError("the group is damaged: there is no such way to predict a block")
    return MotionField(vectors, modes)


def predicted(refs: Sequence[DecodedPicture], motion: MotionField, plane: int, layout: PlaneLayout) -> Plane:
    """The prediction of a plane from its references: (H, W) in sixteenths."""
    planes, phases = [r.planes[plane] for r in refs], [partial(r.phases, plane) for r in refs]
    return predict(planes, motion.vectors, motion.modes, layout.scales[plane], phases)


# ------------------------------------------------------------------------------------- averages of a key frame


class AverageFeature(IntEnum):
    """The numbers of the features that the network of averages sees, the columns of its first layer; two are spare."""

    SPREAD = 0  # of the known neighbours around their mean
    ALL_KNOWN = 1  # whether there are four
    NONE_KNOWN = 2
    DISTANCE = 3  # to them, as a logarithm
    STEP = 4  # index of the quantiser step
    CONSTANT = 5


AVERAGE_FEATURES = 8


def _lattice() -> list[tuple[int, int, int, int, tuple[tuple[int, int], ...]]]:
    """The passes over the averages: first row and column, stride, distance and directions of known neighbours.

    Every 16th block goes first, then those between, the middles of squares before the middles of their sides.
    """
    corners, cross = ((-1, -1), (-1, 1), (1, -1), (1, 1)), ((-1, 0), (1, 0), (0, -1), (0, 1))
    passes: list[tuple[int, int, int, int, tuple[tuple[int, int], ...]]] = [(0, 0, 16, 16, ())]
    for stride in (16, 8, 4, 2):
        half = stride // 2
        passes += [(half, half, stride, half, corners), (half, 0, stride, half, cross), (0, half, stride, half, cross)]
    return passes


def code_averages(
    io: Coding,
    nets: Nets,
    shape: tuple[int, int],
    wanted: Int | None,
    middle: int,
    index: int,
    tally: AverageTally | None,
) -> Int:
    """Codes the averages (h, w) of a key frame's plane, in steps, as differences to the mean of the nearest known ones.

    middle: the value to expect of the first. index: of the step.
    """
    h, w = shape
    room = 16
    averages, is_known = (np.zeros((h + 2 * room, w + 2 * room), np.int64) for _ in range(2))
    for by, bx, stride, reach, directions in _lattice():
        ys, xs = np.arange(by, h, stride) + room, np.arange(bx, w, stride) + room
        if not (len(ys) and len(xs)):
            continue
        values = np.stack(
            [averages[np.ix_(ys + reach * dy, xs + reach * dx)].ravel() for dy, dx in directions or ((0, 0),)]
        )
        known = np.stack(
            [is_known[np.ix_(ys + reach * dy, xs + reach * dx)].ravel() for dy, dx in directions or ((0, 0),)]
        )
        n = known.sum(0)
        mean = np.where(n > 0, (2 * values.sum(0) + n) // np.maximum(2 * n, 1), middle)
        spread = (np.abs(values - mean) * known).sum(0)
        features = np.zeros((len(mean), AVERAGE_FEATURES), np.int64)
        features[:, AverageFeature.SPREAD] = magnitude_table()[np.minimum(spread, LARGEST)]
        features[:, AverageFeature.ALL_KNOWN] = 8 * (n == 4)
        features[:, AverageFeature.NONE_KNOWN] = 16 * (n == 0)
        features[:, AverageFeature.DISTANCE] = 8 * int(np.log2(reach))
        features[:, AverageFeature.STEP] = index * 2
        features[:, AverageFeature.CONSTANT] = 16
        rows = rows_of(nets.averages.quarters(np.minimum(features, 127).astype(np.uint8))[:, 0])
        true = None if wanted is None else wanted[np.ix_(ys - room, xs - room)].ravel() - mean
        change = io.code(rows, true)
        if tally is not None:
            tally.features.append(features.astype(np.uint8))
            tally.symbols.append(change)
        if np.abs(mean + change).max() > LARGEST:
            raise StreamError("the group is damaged: an average is out of range")
        averages[np.ix_(ys, xs)] = (mean + change).reshape(len(ys), len(xs))
        is_known[np.ix_(ys, xs)] = 1
    return averages[room:-room, room:-room]


def smooth(averages: Float) -> Float:
    """The smooth plane through averages, bilinear between the middles of blocks: (h, w) -> (8 h, 8 w) whole numbers."""
    x = averages
    for axis in (0, 1):
        p = np.pad(x, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        n = x.shape[axis]
        at = np.arange(8 * n)
        left = (at + 4) // 8  # of the padded
        weight = ((2 * (at + 4) + 1) % 16 / 16).reshape(-1, 1) if axis == 0 else (2 * (at + 4) + 1) % 16 / 16
        x = np.take(p, left, axis) * (1 - weight) + np.take(p, left + 1, axis) * weight
    return np.floor(x + 0.5)


# -------------------------------------------------------------------------------------------------------- a frame


def code_frame(
    io: Coding,
    nets: Nets,
    layout: PlaneLayout,
    refs: Sequence[DecodedPicture],
    distances: Sequence[int],
    depth: int,
    decisions: ModeDecisions | None,
) -> tuple[DecodedPicture, list[Sum]]:
    """Codes a frame: the picture, and its planes before the filter.

    refs: pictures that it is predicted from, none for a key frame. distances: how many frames ago each was. depth: in
    the mini-GOP. decisions: of the encoder; None to decode.
    """
    io.section("motion")
    index = code_number(io, decisions.step_index if decisions else None)
    if index + max(layout.step_shifts) >= len(steps()):
        raise StreamError("the group is damaged: there is no such step")
    motion = code_motion(io, decisions.motion if decisions else None, refs, distances) if refs else None
    grids: list[Grids] = []
    sums: list[Sum] = []
    for p in range(len(layout.scales)):
        step_index = index + layout.step_shifts[p]
        step = steps()[step_index]
        h, w = (-(-side // 16) * 2 for side in layout.shape(p))
        averages = None
        if motion is None:
            low, high = layout.ranges[p]
            middle = round((low + high + 1) / 2) * 8 * FINE // step
            wanted = decisions.averages(p, step) if decisions else None
            io.section("averages")
            averages = code_averages(
                io, nets, (h, w), wanted, middle, step_index, decisions.tally(p) if decisions else None
            )
            prediction = smooth(averages * (step / 8))
        else:
            prediction = padded(predicted(refs, motion, p, layout)).astype(np.float64)
        context = _context(p, layout, depth, step_index, prediction, refs, motion, grids, (h, w))
        of_plane = decisions.plane(p, context, prediction, averages, step) if decisions else None
        q, mine, large = code_plane(io, nets, context, of_plane)
        coefficients = q * float(step)
        active = mine.level > 0
        if averages is not None:
            drawn = np.floor(forward_mixed(prediction, large)[0] * TINY + 0.5)
            coefficients[0] = band0_of(averages * float(step), large) - drawn
            active = np.ones_like(active)
        residual = inverse(coefficients, large, active) if active.any() else np.zeros_like(prediction)
        grids.append(mine)
        sums.append(Sum(prediction + residual, residual, active))
    planes = filtered(nets, layout, sums, index)
    flow = np.zeros((*grid_shape(layout.height, layout.width), 2), np.int64)
    if motion is not None:
        flow = flow_of(motion.vectors[0], distances[0])
    return DecodedPicture(planes, grids, flow), sums


def _context(
    p: int, layout: PlaneLayout, depth: int, step_index: int, prediction: Float, refs: Sequence[DecodedPicture],
    motion: MotionField | None, grids: list[Grids], shape: tuple[int, int],
) -> PlaneContext:  # fmt: skip
    step = steps()[step_index]
    h, w = shape
    past = Grids.empty(h, w)
    if refs:
        mine = [r.grids[p] for r in refs]
        past = (
            mine[0]
            if len(mine) == 1
            else Grids(
                (mine[0].magnitude // 2 + mine[1].magnitude // 2).astype(np.uint8),
                (mine[0].level + mine[1].level + 1) // 2,
            )
        )
    cross, twin = Grids.empty(h, w), Grids.empty(h, w)
    if p > 0:
        cross = grids[0] if layout.scales[p] == 1 else grids[0].halved(h, w)
    if p > 1:
        twin = grids[1]
    unrest = np.zeros(shape, np.int64)
    if motion is not None:
        of_plane = motion.unrest[:: layout.scales[p], :: layout.scales[p]][:h, :w]
        unrest = np.pad(of_plane, [(0, h - of_plane.shape[0]), (0, w - of_plane.shape[1])])
    return PlaneContext(
        kind=int(p > 0) + 2 * (motion is not None),
        depth=depth,
        step_index=step_index,
        texture=Texture(prediction, step),
        past=past,
        cross=cross,
        twin=twin,
        motion=unrest,
        first_band=int(motion is None),
    )


def filter_groups(layout: PlaneLayout) -> list[tuple[str, list[int], int]]:
    """The filters of a frame: name, planes, and the side of the blocks that it works on."""
    return [("luma", [0], 2), ("chroma", [1, 2], 1)][: 1 if layout.pixels == "gray" else 2]


def filter_inputs(sums: Sequence[Sum], planes: list[int], fold: int, step: int) -> NDArray[np.float32]:
    """The inputs of a filter for some planes, as `Filter.inputs` has them."""
    recon = np.stack([sums[p].total for p in planes])
    residual = np.stack([sums[p].residual for p in planes])
    return Filter.inputs(np.floor(recon / FINE + 0.5), residual / FINE, fold, step)


def filtered(nets: Nets, layout: PlaneLayout, sums: Sequence[Sum], index: int) -> list[Plane]:
    """The planes of a picture, after the filters. index: of the quantiser step."""
    planes: list[Plane] = []
    for name, which, fold in filter_groups(layout):
        net: Filter = getattr(nets, name)
        step = steps()[index + layout.step_shifts[which[0]]]
        limits, shape = layout.ranges[which[0]], layout.shape(which[0])
        changes = not net.idle and any(sums[p].active.any() for p in which)
        if changes and native.engine() == "native":
            parts = [sums[p] for p in which]
            planes += repair(
                [s.total for s in parts], [s.residual for s in parts], [s.active for s in parts],
                (net.w1, net.b1, net.w2, net.b2), fold, step, shape, limits,
            )  # fmt: skip
            continue
        correction = net(filter_inputs(sums, which, fold, step), fold) if changes else None
        for k, p in enumerate(which):
            h, w = shape
            total = sums[p].total[:h, :w]
            if correction is not None:
                total = total + (correction[k].astype(np.float64) * sums[p].mask)[:h, :w] * (step / 1024)
            planes.append(np.clip(np.floor(total / FINE + 0.5), *limits).astype(np.int16))
    return planes
