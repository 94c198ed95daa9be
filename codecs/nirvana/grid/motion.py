"""Motion of the preset `grid`: how it is sent, and predictions from it, exactly.

A field has a vector in quarter samples for every 8x8 luma samples. It is sent as a pyramid: vectors of 64x64 blocks as
differences to the one on the left, then those of 32, 16 and 8 as differences to the block they are part of.
References are interpolated once a frame, to all sixteen quarter positions, with eight taps in each direction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ....entropy.exact import grid_conv2d
from ....errors import StreamError
from .symbols import Coding, Int, code_flag, code_static

LEAF = 8
DEPTH = 4  # grids of the pyramid
QUARTERS = 4
FARTHEST = 1 << 11  # quarter samples
BOTH, FORWARD, BACKWARD = 0, 1, 2
Phases = NDArray[np.int16]


# 64ths at the quarters of a sample: a sinc under a squared cosine, rounded so that a row sums to 64
_TAPS = (
    (0, 0, 0, 64, 0, 0, 0, 0),
    (-1, 3, -9, 57, 18, -6, 2, 0),
    (-1, 3, -10, 40, 40, -10, 3, -1),
    (0, 2, -6, 18, 57, -9, 3, -1),
)


def _taps() -> torch.Tensor:
    return torch.tensor(_TAPS, dtype=torch.float32)


def interpolated(plane: NDArray[Any]) -> Phases:
    """A plane at all quarter positions: (H, W) integers of 9 bits and sign -> (16, H, W) in sixteenths.

    The first index is 4 times the vertical quarter plus the horizontal one.
    """
    x = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))[None, None]
    x = F.pad(x, (3, 4, 3, 4), mode="replicate")
    across = grid_conv2d(x, _taps().reshape(4, 1, 1, 8)).transpose(0, 1)  # (4, 1, H + 7, W): below 2**17
    down = grid_conv2d(across, _taps().reshape(4, 1, 8, 1))  # (4 horizontal, 4 vertical, H, W): below 2**24
    sixteenths = torch.floor(down * 2.0**-8 + 0.5).to(torch.int16)
    return sixteenths.transpose(0, 1).reshape(16, *plane.shape).numpy()


def grid_shape(height: int, width: int) -> tuple[int, int]:
    """The shape of the finest grid, for a plane of luma."""
    return -(-height // LEAF), -(-width // LEAF)


def shapes(height: int, width: int) -> list[tuple[int, int]]:
    """The shapes of the pyramid's grids, coarse to fine, for a plane of luma."""
    return [(-(-height // (LEAF << k)), -(-width // (LEAF << k))) for k in reversed(range(DEPTH))]


def finer(grid: Int, shape: tuple[int, int]) -> Int:
    """The grid with each entry repeated for its four children, cut to `shape`."""
    return grid.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]]


def predict(phases: Phases, field: Int, scale: int) -> NDArray[np.int16]:
    """The plane that vectors predict from a reference: (H, W) in sixteenths.

    field: (h, w, 2) vertical, horizontal quarter samples of luma. scale: 1, or 2 for a plane of half the resolution.
    """
    _, height, width = phases.shape
    leaf = LEAF // scale
    v = field if scale == 1 else (field + (field >= 0)) // scale  # rounded to quarters of its own samples
    fraction = np.mod(v, QUARTERS)
    whole = v // QUARTERS
    base = (fraction[..., 0] * QUARTERS + fraction[..., 1]) * (height * width)
    rows, columns = np.arange(height, dtype=np.int32), np.arange(width, dtype=np.int32)

    def spread(grid: Int) -> NDArray[np.int32]:
        return grid.astype(np.int32).repeat(leaf, 0).repeat(leaf, 1)[:height, :width]

    y = np.clip(spread(whole[..., 0]) + rows[:, None], 0, height - 1)
    x = np.clip(spread(whole[..., 1]) + columns, 0, width - 1)
    return phases.reshape(-1)[spread(base) + y * width + x]


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
    field = expected + parent
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
