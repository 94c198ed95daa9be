"""Motion between pictures: interpolation, predictions from vectors, and an encoder's search. The twins are NumPy's.

Vectors are (vertical, horizontal) quarter samples, int64, one for each block of 8x8 samples of luma; samples have 8
bits and a sign. Interpolation and prediction are exact. Costs of the search are sums of absolute differences, exact,
and penalties of float32: each choice is the same, whichever way it was computed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, engine, library

__all__ = ["BLOCK", "choices", "coarse", "costs", "interpolate", "predict", "refine", "stepped"]

Single = NDArray[np.float32]
Short = NDArray[np.int16]
Int = NDArray[np.int64]

BLOCK = 8  # samples of luma, the side of a block
LARGEST = 255  # magnitude of a sample
FARTHEST = 1 << 20  # quarter samples: no vector is longer
_FAR = 0.6  # of the costs of the coarse search: of a step away from no motion

# 64ths at the quarters of a sample: a sinc under a squared cosine, rounded so that a row sums to 64
_TAPS = (
    (0, 0, 0, 64, 0, 0, 0, 0),
    (-1, 3, -9, 57, 18, -6, 2, 0),
    (-1, 3, -10, 40, 40, -10, 3, -1),
    (0, 2, -6, 18, 57, -9, 3, -1),
)


class _Costs(ctypes.Structure):
    """The structure MotionCosts of args.h."""

    _fields_ = (
        ("aim", ctypes.c_void_p),
        ("phases", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
    )


def _compiled() -> Any:
    return library() if engine() == "native" else None


def _at(x: NDArray[Any] | None) -> ctypes.c_void_p:
    assert x is None or x.flags.c_contiguous
    return ctypes.c_void_p(0 if x is None else x.ctypes.data)


def _vectors(field: NDArray[Any], shape: tuple[int, ...]) -> Int:
    """Vectors as kernels take them."""
    field = np.ascontiguousarray(field, np.int64)
    assert field.shape == shape, f"vectors of {field.shape} where {shape} are needed"
    assert not field.size or max(-int(field.min()), int(field.max())) <= FARTHEST, "a vector is out of range"
    return field


def _samples(plane: NDArray[Any]) -> Short:
    plane = np.ascontiguousarray(plane)
    assert plane.dtype == np.int16 and plane.ndim == 2 and plane.size
    assert max(-int(plane.min()), int(plane.max())) <= LARGEST, "a sample is out of range"
    return plane


def _grid(height: int, width: int, side: int = BLOCK) -> tuple[int, int]:
    return -(-height // side), -(-width // side)


# ---- interpolation and prediction


def interpolate(plane: NDArray[Any]) -> Short:
    """A plane (H, W) of int16 at all quarter positions, exactly: (16, H, W) in sixteenths.

    The first index is 4 times the vertical quarter plus the horizontal one.
    """
    plane = _samples(plane)
    module = _compiled()
    if module is not None:
        phases = np.empty((16, *plane.shape), np.int16)
        height, width = (ctypes.c_int64(side) for side in plane.shape)
        check(module.codec_motion_interpolate(_at(plane), height, width, _at(phases)))
        return phases
    h, w = plane.shape
    x = np.pad(plane, (3, 4), mode="edge").astype(np.int32)
    out = np.empty((4, 4, h, w), np.int16)
    for q, taps in enumerate(_TAPS):
        across = sum(tap * x[:, k : k + w] for k, tap in enumerate(taps) if tap)
        assert not isinstance(across, int)
        for p, weights in enumerate(_TAPS):
            down = sum(tap * across[k : k + h] for k, tap in enumerate(weights) if tap)
            out[p, q] = (down + 128) >> 8
    return out.reshape(16, h, w)


def stepped(phases: Short, field: Int, leaf: int) -> Short:
    """The prediction of a plane from all its quarter positions: (H, W) in sixteenths. field: (h, w, 2)."""
    _, height, width = phases.shape
    fraction, whole = field & 3, field >> 2
    base = (fraction[..., 0] * 4 + fraction[..., 1]) * (height * width)

    def spread(grid: Int) -> NDArray[np.intp]:
        return grid.astype(np.intp).repeat(leaf, 0).repeat(leaf, 1)[:height, :width]

    y = np.clip(spread(whole[..., 0]) + np.arange(height)[:, None], 0, height - 1)
    x = np.clip(spread(whole[..., 1]) + np.arange(width), 0, width - 1)
    return phases.reshape(-1)[spread(base) + y * width + x]


def predict(
    planes: Sequence[NDArray[Any]],
    fields: Sequence[Int],
    modes: NDArray[Any] | None,
    leaf: int,
    phases: Sequence[Callable[[], Short]] | None = None,
) -> Short:
    """The prediction of a plane from one reference or two: (H, W) in sixteenths, exactly.

    planes: (H, W) int16 each. fields: (h, w, 2) each, in quarters of the planes' samples. modes: (h, w), 0: the mean
    of two, 1: the first, 2: the second; None with one reference. leaf: 8 or 4 samples, the side of a block. phases: for
    the twin, functions that give what `interpolate` makes of the planes, where somebody keeps it.
    """
    shape = planes[0].shape
    grid = _grid(*shape, leaf)
    assert len(planes) == len(fields) == (1 if modes is None else 2) and leaf in (4, 8)
    module = _compiled()
    if module is None:
        kept = [interpolate(p) for p in planes] if phases is None else [get() for get in phases]
        each = [stepped(p, f[: grid[0], : grid[1]], leaf) for p, f in zip(kept, fields, strict=True)]
        if modes is None:
            return each[0]
        mode = modes[: grid[0], : grid[1]].repeat(leaf, 0).repeat(leaf, 1)[: shape[0], : shape[1]]
        mean = (each[0] + each[1] + 1) >> 1
        return np.where(mode == 0, mean, np.where(mode == 1, each[0], each[1]))
    planes = [_samples(p) for p in planes]
    assert all(p.shape == shape for p in planes)
    vectors = [_vectors(f, (*fields[0].shape[:2], 2)) for f in fields]
    rows, columns = vectors[0].shape[:2]
    assert rows >= grid[0] and columns >= grid[1]
    if modes is not None:
        assert modes.shape == (rows, columns) and modes.min() >= 0 and modes.max() <= 2
        modes = np.ascontiguousarray(modes, np.uint8)
    out = np.empty(shape, np.int16)
    second = len(planes) > 1
    check(
        module.codec_motion_predict(
            _at(planes[0]),
            _at(planes[1] if second else None),
            *(ctypes.c_int64(side) for side in shape),
            _at(vectors[0]),
            _at(vectors[1] if second else None),
            _at(modes),
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            ctypes.c_int(leaf),
            _at(out),
        )
    )
    return out


# ---- the search of an encoder


def coarse(a: NDArray[Any], b: NDArray[Any], reach: int) -> Int:
    """The best shift of each block of 4x4 samples: (2, h, w, 2), alone, and with the eight blocks around it.

    a, b: (4 h, 4 w) at half resolution, in quarters. Costs are sums of absolute differences and a penalty on the way.
    Of equal costs the first in order of rows, then columns, is taken. Shifts are in quarter samples at full resolution.
    """
    a, b = (np.ascontiguousarray(x) for x in (a, b))
    assert a.shape == b.shape and a.dtype == b.dtype == np.int16 and not (a.shape[0] % 4 or a.shape[1] % 4)
    assert max(int(np.abs(a).max()), int(np.abs(b).max())) <= 4 * LARGEST and 0 < reach <= 256 and reach % 2 == 0
    h, w = (side // 4 for side in a.shape)
    far = np.arange(2 * reach + 1).astype(np.float32) * np.float32(_FAR)
    b = np.pad(b, reach, mode="edge")
    module = _compiled()
    if module is None:
        return _coarse(a, b, reach, far)
    row = -(-w // 32) * 32  # the longest vectors have 32 lanes
    dealt = [np.zeros((len(x), 4, row + room), np.int16) for x, room in ((a, 0), (b, reach // 2))]
    for out, x in zip(dealt, (a, b), strict=True):
        columns = x.shape[1] // 4
        out[:, :, :columns] = x.reshape(len(x), columns, 4).swapaxes(1, 2)
    costs, shifts = np.empty((2 * reach + 1, 2, h, row), np.float32), np.empty((2 * reach + 1, 2, h, row), np.int32)
    vectors = np.empty((2, h, w, 2), np.int64)
    numbers = [ctypes.c_int64(n) for n in (dealt[0].shape[2], dealt[1].shape[2], h, w, reach, row)]
    check(
        module.codec_motion_coarse(
            _at(dealt[0]),
            numbers[0],
            _at(dealt[1]),
            numbers[1],
            *numbers[2:5],
            _at(far),
            _at(costs),
            _at(shifts),
            numbers[5],
            _at(vectors),
        )
    )
    return vectors


def _coarse(a: Short, b: Short, reach: int, far: Single) -> Int:
    h, w = (side // 4 for side in a.shape)
    rows, columns = (np.full(side, 3) - (np.arange(side) == 0) - (np.arange(side) == side - 1) for side in (h, w))
    count = np.multiply.outer(rows, columns).astype(np.float32)
    shifts = np.arange(2 * reach + 1)
    best = np.full((2, h, w), np.inf, np.float32)
    vectors = np.zeros((2, h, w, 2), np.int64)
    for dy in range(2 * reach + 1):
        windows = np.lib.stride_tricks.sliding_window_view(b[dy : dy + 4 * h], 4 * w, 1)  # (4 h, shifts, 4 w)
        difference = np.abs(windows - a[:, None])
        tall = difference.reshape(h, 4, len(shifts), 4 * w).sum(1, dtype=np.int32)
        sums = tall.reshape(h, len(shifts), w, 4).sum(3, dtype=np.int32).transpose(1, 0, 2)
        alone = sums.astype(np.float32) / np.float32(4) + far[abs(dy - reach) + np.abs(shifts - reach)][:, None, None]
        ring = np.pad(alone, ((0, 0), (1, 1), (1, 1)))
        around = np.zeros_like(alone)
        for j in range(3):  # in this order, as sums are rounded
            for k in range(3):
                around += ring[:, j : j + h, k : k + w]
        for k, cost in enumerate((alone, around / count)):
            dx = cost.argmin(0)
            least = np.take_along_axis(cost, dx[None], 0)[0]
            better = least < best[k]
            best[k][better] = least[better]
            vectors[k][better] = np.stack([np.full_like(dx, dy - reach), dx - reach], -1)[better] * 8
    return vectors


def _match(aim: NDArray[Any], phases: Short, weight: NDArray[Any]) -> tuple[_Costs, list[NDArray[Any]]]:
    """The arguments of the kernels of costs, and arrays to keep while these are in use."""
    h, w = aim.shape
    grid = _grid(h, w)
    assert aim.dtype == phases.dtype == np.int16 and phases.shape == (16, h, w)
    assert weight.dtype == np.uint8 and weight.shape == grid
    kept = [np.ascontiguousarray(x) for x in (aim, phases, weight)]
    return _Costs(*(_at(x).value for x in kept), h, w, *grid), kept


def costs(aim: Short, phases: Short, weight: NDArray[np.uint8], fields: Int) -> Single:
    """The costs of n fields of vectors: |aim - prediction|, summed over blocks, times weight / 32: (n, h, w).

    aim: (H, W) int16, with |aim - prediction| below 2**15. phases: what `interpolate` gives. weight: (h, w), 0, 1, 2.
    """
    h, w = weight.shape
    fields = _vectors(fields, (len(fields), h, w, 2))
    match, _kept = _match(aim, phases, weight)
    module = _compiled()
    if module is not None:
        out = np.empty((len(fields), h, w), np.float32)
        check(module.codec_motion_costs(ctypes.byref(match), _at(fields), ctypes.c_int64(len(fields)), _at(out)))
        return out
    height, width = aim.shape
    made = np.zeros((len(fields), h * BLOCK, w * BLOCK), np.int32)
    for out, field in zip(made, fields, strict=True):
        np.abs(aim.astype(np.int32) - stepped(phases, field, BLOCK), out=out[:height, :width])
    sums = made.reshape(len(fields), h, BLOCK, w * BLOCK).sum(2, dtype=np.int32)
    sums = sums.reshape(len(fields), h, w, BLOCK).sum(3, dtype=np.int32)
    return (sums * weight).astype(np.float32) / np.float32(32)


def refine(aim: Short, phases: Short, weight: NDArray[np.uint8], fields: Int, penalty: float) -> tuple[Int, Single]:
    """The best of the fields for each block, refined to quarter samples by small steps, and what it costs.

    Steps of a sample, a half and a quarter go in four directions, then the vectors of neighbours are tried. A vector
    takes the place of another if it saves more than the penalty. fields: (n, h, w, 2).
    """
    h, w = weight.shape
    fields = _vectors(fields, (len(fields), h, w, 2))
    module = _compiled()
    if module is not None:
        best, cost = np.empty((h, w, 2), np.int64), np.empty((h, w), np.float32)
        copy = np.empty_like(best)
        match, _kept = _match(aim, phases, weight)
        number = ctypes.c_int64(len(fields))
        at = (_at(x) for x in (best, cost, copy))
        check(module.codec_motion_refine(ctypes.byref(match), _at(fields), number, ctypes.c_float(penalty), *at))
        return best, cost
    best = fields[0].copy()
    cost = costs(aim, phases, weight, best[None])[0]

    def attempt(field: Int) -> None:
        new = costs(aim, phases, weight, field[None])[0]
        better = new + np.float32(penalty) < cost
        best[better], cost[better] = field[better], new[better]

    for field in fields[1:]:
        attempt(field)
    for size in (4, 2, 1):
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            attempt(best + np.array([dy, dx]) * size)
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):  # those of neighbours
        attempt(np.roll(best, (dy, dx), (0, 1)))
    return best, cost


def choices(costs: Single, between: Single) -> tuple[Single, NDArray[np.uint8]]:
    """The label of each of n blocks that is cheapest under each label of its parent, the first of equals; its cost.

    costs: (K, n) of blocks. between: (K, K), what a block's label costs under its parent's. Both results: (K, n).
    """
    k, n = costs.shape
    assert between.shape == (k, k) and costs.dtype == between.dtype == np.float32 and 0 < k <= 256
    costs, between = np.ascontiguousarray(costs), np.ascontiguousarray(between)
    via, choice = np.empty((k, n), np.float32), np.empty((k, n), np.uint8)
    module = _compiled()
    if module is not None:
        sizes = ctypes.c_int64(k), ctypes.c_int64(n)
        check(module.codec_motion_choices(_at(costs), _at(between), *sizes, _at(via), _at(choice)))
        return via, choice
    for parent in range(k):
        total = costs + between[parent][:, None]
        best = total.argmin(0)
        choice[parent], via[parent] = best, total[best, np.arange(n)]
    return via, choice
