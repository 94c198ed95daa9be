"""Motion of the preset `grid`: how it is sent, and predictions from it, exactly.

A field has a vector in quarter samples for every 8x8 luma samples. It is sent as a pyramid: vectors of 64x64 blocks as
differences to the one on the left, then those of 32, 16 and 8 as differences to the block they are part of.
References are interpolated to quarter positions, with eight taps in each direction (native/motion.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ....errors import StreamError
from ....native.motion import interpolate as interpolated
from ....native.motion import predict as predict_plane
from . import compiled
from .symbols import Coding, Int, code_flag, code_static

__all__ = [
    "BACKWARD",
    "BOTH",
    "FARTHEST",
    "FORWARD",
    "LEAF",
    "code_pyramid",
    "finer",
    "flow_of",
    "grid_shape",
    "interpolated",
    "predict",
    "shapes",
    "vectors_of_flow",
]

LEAF = 8
DEPTH = 4  # grids of the pyramid
FARTHEST = 1 << 11  # quarter samples
BOTH, FORWARD, BACKWARD = 0, 1, 2
Phases = NDArray[np.int16]


def grid_shape(height: int, width: int) -> tuple[int, int]:
    """The shape of the finest grid, for a plane of luma."""
    return -(-height // LEAF), -(-width // LEAF)


def shapes(height: int, width: int) -> list[tuple[int, int]]:
    """The shapes of the pyramid's grids, coarse to fine, for a plane of luma."""
    return [(-(-height // (LEAF << k)), -(-width // (LEAF << k))) for k in reversed(range(DEPTH))]


def finer(grid: Int, shape: tuple[int, int]) -> Int:
    """The grid with each entry repeated for its four children, cut to `shape`."""
    return grid.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]]


def predict(
    planes: Sequence[NDArray[np.int16]],
    fields: Sequence[Int],
    modes: Int | None,
    scale: int,
    phases: Sequence[Callable[[], Phases]] | None = None,
) -> NDArray[np.int16]:
    """The plane that vectors predict from one reference or two: (H, W) in sixteenths.

    fields: (h, w, 2) each, vertical, horizontal quarter samples of luma. modes: (h, w), where there are two. scale: 1,
    or 2 for a plane of half the resolution. phases: give the planes at all quarter positions, where they are kept.
    """
    if scale > 1:  # rounded to quarters of its own samples
        fields = [(field + (field >= 0)) // scale for field in fields]
    return predict_plane(planes, fields, modes, LEAF // scale, phases)


def flow_of(vectors: Int, distance: int) -> Int:
    """The flow of vectors to a frame `distance` frames ago (negative: to come), in 64ths of quarter samples a frame."""
    return (vectors * 64) // distance


def vectors_of_flow(flow: Int, distance: int) -> Int:
    """The vectors to a frame `distance` frames ago that a flow makes expect, in quarter samples."""
    return np.clip((flow * distance + 32) >> 6, -FARTHEST, FARTHEST)


def code_pyramid(io: Coding, leaves: list[Int] | None, expected: Int) -> Int:
    """Codes a field of vectors, or of modes: (h, w, channels) on the finest grid.

    leaves: all grids of the pyramid of differences to what was expected, coarse to fine. expected: (h, w, channels).
    """
    h, w, channels = expected.shape
    coder = io.passes() if leaves is None else None
    if coder is not None:
        return _in_range(expected + compiled.read_pyramid(coder, expected.shape))
    if not code_flag(io, None if leaves is None else any(bool(grid.any()) for grid in leaves)):
        return expected
    parent: Int | None = None
    for k, shape in enumerate(shapes(h * LEAF, w * LEAF)):
        grid = leaves[k] if leaves is not None else None
        base = np.zeros((*shape, channels), np.int64) if parent is None else finer(parent, shape)
        difference = None if grid is None else grid - base
        if parent is None and difference is not None:
            difference = np.diff(difference.reshape(-1, channels), axis=0, prepend=0).reshape(difference.shape)
        change = code_changes(io, difference, (*shape, channels))
        if parent is None:
            change = np.cumsum(change.reshape(-1, channels), axis=0).reshape(change.shape)
        parent = base + change
    assert parent is not None
    return _in_range(expected + parent)


def _in_range(field: Int) -> Int:
    if np.abs(field).max() > 2 * FARTHEST:
        raise StreamError("the group is damaged: a motion vector is out of range")
    return field


def code_changes(io: Coding, difference: Int | None, shape: tuple[int, ...]) -> Int:
    """Codes which vectors differ from their parents', then by how much."""
    flags = None if difference is None else difference.any(-1).astype(np.int64)
    changed = code_static(io, flags, shape[:-1], yes=True) > 0
    changes = np.zeros(shape, np.int64)
    changes[changed] = code_static(
        io, None if difference is None else difference[changed], (int(changed.sum()), shape[-1])
    )
    return changes
