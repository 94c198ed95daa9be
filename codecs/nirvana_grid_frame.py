"""One frame of the preset `grid`: prediction, residual, filter; the same code writes and reads.

A key frame starts with the average of every 8x8 block, coded from coarse to fine; a smooth picture drawn through them
predicts the rest. Other frames are predicted from one or two earlier ones along vectors. What is missing is coded as
transform coefficients, and a small filter network repairs the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import StreamError
from .nirvana_grid_code import LARGEST, Coding, Int, code_flag, code_number, rows_of
from .nirvana_grid_motion import BOTH, FORWARD, Phases, along, code_pyramid, flow_of, grid_shape, interpolated, predict
from .nirvana_grid_net import Filter, Nets
from .nirvana_grid_plane import Context, Grids, Texture, Wanted, code_plane, magnitude_table
from .nirvana_grid_transform import FINE, Bool, Float, band0_of, both, inverse, padded, steps
from .video_groups import Pixels, Planes

Plane = NDArray[np.int16]
TINY = 2.0**-24  # units of exact coefficients, in sixteenths


@dataclass(frozen=True)
class Layout:
    """Planes of a kind of pixels, as coded."""

    pixels: Pixels
    height: int
    width: int

    @property
    def scales(self) -> tuple[int, ...]:
        return {"gray": (1,), "yuv420p": (1, 2, 2), "rgb24": (1, 1, 1)}[self.pixels]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        chroma = (-255, 255) if self.pixels == "rgb24" else (0, 255)
        return ((0, 255), chroma, chroma)[: len(self.scales)]

    @property
    def step_shifts(self) -> tuple[int, ...]:
        """Of the step index: errors of a plane that count less in the given samples get a coarser step."""
        return (0, 8, 10) if self.pixels == "rgb24" else (0, 0, 0)[: len(self.scales)]

    def shape(self, plane: int) -> tuple[int, int]:
        s = self.scales[plane]
        return -(-self.height // s), -(-self.width // s)


def to_planes(frame: Planes, pixels: Pixels) -> list[Plane]:
    if pixels != "rgb24":
        return [p.astype(np.int16) for p in frame]
    r, g, b = (frame[0][..., k].astype(np.int16) for k in range(3))
    co = r - b  # YCoCg-R
    t = b + (co >> 1)
    cg = g - t
    return [t + (cg >> 1), cg, co]


def from_planes(planes: Sequence[Plane], pixels: Pixels) -> Planes:
    if pixels != "rgb24":
        return tuple(p.astype(np.uint8) for p in planes)
    y, cg, co = planes
    t = y - (cg >> 1)
    g = cg + t
    b = t - (co >> 1)
    return (np.clip(np.stack([b + co, g, b], -1), 0, 255).astype(np.uint8),)


@dataclass
class Picture:
    """A decoded frame, and what later ones lean on. flow: (h, w, 2), zeros of a key frame."""

    planes: list[Plane]
    grids: list[Grids]
    flow: Int
    _phases: dict[int, Phases] = field(default_factory=dict, repr=False)

    def phases(self, plane: int) -> Phases:
        if plane not in self._phases:
            self._phases[plane] = interpolated(self.planes[plane])
        return self._phases[plane]

    def forget(self) -> None:
        """Interpolated planes take 32 bytes a sample."""
        self._phases.clear()


@dataclass(frozen=True)
class Motion:
    """Grids of the pyramids, coarse to fine: vectors to each reference, less what was expected, and which references to
    use. still: for each reference, expect no motion."""

    vectors: list[list[Int]]
    still: list[bool]
    modes: list[Int] | None


@dataclass(frozen=True)
class Sum:
    """A plane before the filter: prediction plus residual, and the residual, in sixteenths, padded. active: blocks that
    have a residual; the filter leaves the others alone, so that what stands still stays as it is."""

    total: Float
    residual: Float
    active: Bool

    @property
    def mask(self) -> Bool:
        """(H, W)"""
        return self.active.repeat(8, 0).repeat(8, 1)


@dataclass(frozen=True)
class Field:
    """Motion as decoded, on the finest grid."""

    vectors: list[Int]
    modes: Int | None  # (h, w)

    @cached_property
    def unrest(self) -> Int:
        """(h, w) feature: how much vectors differ from the ones beside and above."""
        total = np.zeros(self.vectors[0].shape[:2], np.int64)
        for v in self.vectors:
            for axis in (0, 1):
                total += np.abs(np.diff(v, axis=axis, prepend=v[:1] if axis == 0 else v[:, :1])).sum(-1)
        return magnitude_table()[np.minimum(total, LARGEST)].astype(np.int64)


class Encoder(Protocol):
    """What decides, where a reader reads."""

    step_index: int
    motion: Motion | None

    def averages(self, plane: int, step: int) -> Int: ...

    def plane(self, plane: int, context: Context, prediction: Float, averages: Int | None, step: int) -> Wanted: ...

    def tally(self, plane: int) -> AverageTally | None: ...


@dataclass
class AverageTally:
    features: list[NDArray[np.uint8]] = field(default_factory=list)
    symbols: list[Int] = field(default_factory=list)


def expected_vectors(refs: Sequence[Picture], distances: Sequence[int], found: Sequence[Int]) -> Int:
    """Of the next reference: the flow of the later one of the references goes on, or that of the frame itself."""
    k = len(found)
    return along(flow_of(found[0], distances[0]) if found else refs[-1].flow, distances[k])


def code_motion(io: Coding, motion: Motion | None, refs: Sequence[Picture], distances: Sequence[int]) -> Field:
    """distances: how many frames ago each reference was."""
    found: list[Int] = []
    for k in range(len(refs)):
        expected = expected_vectors(refs, distances, found)
        if expected.any() and code_flag(io, motion.still[k] if motion else None):
            expected = np.zeros_like(expected)
        found.append(code_pyramid(io, motion.vectors[k] if motion else None, expected))
    if len(refs) == 1:
        return Field(found, None)
    none = np.zeros((*found[0].shape[:2], 1), np.int64)
    modes = code_pyramid(io, motion.modes if motion else None, none)[..., 0]
    if ((modes < 0) | (modes > 2)).any():
        raise StreamError("the group is damaged: there is no such way to predict a block")
    return Field(found, modes)


def predicted(refs: Sequence[Picture], motion: Field, plane: int, layout: Layout) -> Plane:
    """(H, W) in sixteenths."""
    scale = layout.scales[plane]
    parts = [predict(r.phases(plane), v, scale) for r, v in zip(refs, motion.vectors, strict=True)]
    if motion.modes is None:
        return parts[0]
    h, w = layout.shape(plane)
    leaf = 8 // scale
    mode = motion.modes.astype(np.int8).repeat(leaf, 0).repeat(leaf, 1)[:h, :w]
    mean = (parts[0] + parts[1] + 1) >> 1
    if not mode.any():
        return mean
    return np.where(mode == BOTH, mean, np.where(mode == FORWARD, parts[0], parts[1]))


# ------------------------------------------------------------------------------------- averages of a key frame


def _lattice() -> list[tuple[int, int, int, int, tuple[tuple[int, int], ...]]]:
    """First row and column, stride, distance and directions of known neighbours: every 16th block, then those between,
    the middles of squares before the middles of their sides."""
    corners, cross = ((-1, -1), (-1, 1), (1, -1), (1, 1)), ((-1, 0), (1, 0), (0, -1), (0, 1))
    found: list[tuple[int, int, int, int, tuple[tuple[int, int], ...]]] = [(0, 0, 16, 16, ())]
    for stride in (16, 8, 4, 2):
        half = stride // 2
        found += [(half, half, stride, half, corners), (half, 0, stride, half, cross), (0, half, stride, half, cross)]
    return found


def code_averages(
    io: Coding,
    nets: Nets,
    shape: tuple[int, int],
    wanted: Int | None,
    middle: int,
    index: int,
    tally: AverageTally | None,
) -> Int:
    """(h, w) averages in steps, as differences to the mean of the nearest that are known. middle: what to expect of the
    first. index: of the step."""
    h, w = shape
    room = 16
    found, known = (np.zeros((h + 2 * room, w + 2 * room), np.int64) for _ in range(2))
    for by, bx, stride, reach, directions in _lattice():
        ys, xs = np.arange(by, h, stride) + room, np.arange(bx, w, stride) + room
        if not (len(ys) and len(xs)):
            continue
        values = np.stack(
            [found[np.ix_(ys + reach * dy, xs + reach * dx)].ravel() for dy, dx in directions or ((0, 0),)]
        )
        there = np.stack(
            [known[np.ix_(ys + reach * dy, xs + reach * dx)].ravel() for dy, dx in directions or ((0, 0),)]
        )
        n = there.sum(0)
        mean = np.where(n > 0, (2 * values.sum(0) + n) // np.maximum(2 * n, 1), middle)
        spread = (np.abs(values - mean) * there).sum(0)
        features = np.zeros((len(mean), 8), np.int64)
        features[:, 0] = magnitude_table()[np.minimum(spread, LARGEST)]
        features[:, 1] = 8 * (n == 4)
        features[:, 2] = 16 * (n == 0)
        features[:, 3] = 8 * int(np.log2(reach))
        features[:, 4] = index * 2
        features[:, 5] = 16
        rows = rows_of(nets.averages.quarters(np.minimum(features, 127).astype(np.uint8))[:, 0])
        true = None if wanted is None else wanted[np.ix_(ys - room, xs - room)].ravel() - mean
        change = io.code(rows, true)
        if tally is not None:
            tally.features.append(features.astype(np.uint8))
            tally.symbols.append(change)
        if np.abs(mean + change).max() > LARGEST:
            raise StreamError("the group is damaged: an average is out of range")
        found[np.ix_(ys, xs)] = (mean + change).reshape(len(ys), len(xs))
        known[np.ix_(ys, xs)] = 1
    return found[room:-room, room:-room]


def smooth(averages: Float) -> Float:
    """(h, w) -> (8 h, 8 w), bilinear between the middles of blocks; whole numbers."""
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
    layout: Layout,
    refs: Sequence[Picture],
    distances: Sequence[int],
    depth: int,
    encoder: Encoder | None,
) -> tuple[Picture, list[Sum]]:
    """The picture, and what it was before the filter."""
    io.part("motion")
    index = code_number(io, encoder.step_index if encoder else None)
    if index + max(layout.step_shifts) >= len(steps()):
        raise StreamError("the group is damaged: there is no such step")
    motion = code_motion(io, encoder.motion if encoder else None, refs, distances) if refs else None
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
            wanted = encoder.averages(p, step) if encoder else None
            io.part("averages")
            averages = code_averages(
                io, nets, (h, w), wanted, middle, step_index, encoder.tally(p) if encoder else None
            )
            prediction = smooth(averages * (step / 8))
        else:
            prediction = padded(predicted(refs, motion, p, layout)).astype(np.float64)
        context = _context(p, layout, depth, step_index, prediction, refs, motion, grids, (h, w))
        todo = encoder.plane(p, context, prediction, averages, step) if encoder else None
        q, mine, large = code_plane(io, nets, context, todo)
        coefficients = q * float(step)
        active = mine.level > 0
        if averages is not None:
            drawn = np.floor(both(prediction, large)[0] * TINY + 0.5)
            coefficients[0] = band0_of(averages * float(step), large) - drawn
            active = np.ones_like(active)
        residual = inverse(coefficients, large, active) if active.any() else np.zeros_like(prediction)
        grids.append(mine)
        sums.append(Sum(prediction + residual, residual, active))
    planes = filtered(nets, layout, sums, index)
    flow = np.zeros((*grid_shape(layout.height, layout.width), 2), np.int64)
    if motion is not None:
        flow = flow_of(motion.vectors[0], distances[0])
    return Picture(planes, grids, flow), sums


def _context(
    p: int, layout: Layout, depth: int, step_index: int, prediction: Float, refs: Sequence[Picture],
    motion: Field | None, grids: list[Grids], shape: tuple[int, int],
) -> Context:  # fmt: skip
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
        found = motion.unrest[:: layout.scales[p], :: layout.scales[p]][:h, :w]
        unrest = np.pad(found, [(0, h - found.shape[0]), (0, w - found.shape[1])])
    return Context(
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


def filter_groups(layout: Layout) -> list[tuple[str, list[int], int]]:
    """Name of the filter, planes, fold."""
    return [("luma", [0], 2), ("chroma", [1, 2], 1)][: 1 if layout.pixels == "gray" else 2]


def filter_inputs(sums: Sequence[Sum], planes: list[int], fold: int, step: int) -> torch.Tensor:
    recon = torch.from_numpy(np.stack([sums[p].total for p in planes])[None])
    residual = torch.from_numpy(np.stack([sums[p].residual for p in planes])[None])
    return Filter.inputs(torch.floor(recon / FINE + 0.5), residual / FINE, fold, step)


def filtered(nets: Nets, layout: Layout, sums: Sequence[Sum], index: int) -> list[Plane]:
    planes: list[Plane] = []
    for name, which, fold in filter_groups(layout):
        net: Filter = getattr(nets, name)
        step = steps()[index + layout.step_shifts[which[0]]]
        correction = (
            None
            if net.idle or not any(sums[p].active.any() for p in which)
            else net(filter_inputs(sums, which, fold, step), fold)[0].numpy()
        )
        for k, p in enumerate(which):
            h, w = layout.shape(p)
            total = sums[p].total[:h, :w]
            if correction is not None:
                total = total + (correction[k].astype(np.float64) * sums[p].mask)[:h, :w] * (step / 1024)
            low, high = layout.ranges[p]
            planes.append(np.clip(np.floor(total / FINE + 0.5), low, high).astype(np.int16))
    return planes
