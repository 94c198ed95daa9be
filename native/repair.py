"""The filter behind the transforms of nirvana's preset grid, compiled; its twin: codecs/nirvana/grid/networks.py."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library

__all__ = ["repair"]

_LARGEST = 127  # magnitude of a parameter
_SHAPES = {2: (1, 8, 16, 4), 1: (2, 4, 8, 2)}  # fold: planes, inputs, hidden units, outputs


class _Planes(ctypes.Structure):
    """`RepairPlanes` of args.h."""

    _fields_ = (
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("total", ctypes.c_void_p * 2),
        ("residual", ctypes.c_void_p * 2),
        ("active", ctypes.c_void_p * 2),
        ("fold", ctypes.c_int),
        ("step", ctypes.c_int32),
        ("w1", ctypes.c_void_p),
        ("w2", ctypes.c_void_p),
        ("b1", ctypes.c_void_p),
        ("b2", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("low", ctypes.c_int32),
        ("high", ctypes.c_int32),
        ("out", ctypes.c_void_p * 2),
    )


def repair(
    total: Sequence[NDArray[np.float64]],
    residual: Sequence[NDArray[np.float64]],
    active: Sequence[NDArray[np.bool_]],
    parameters: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]],
    fold: int,
    step: int,
    shape: tuple[int, int],
    limits: tuple[int, int],
) -> list[NDArray[np.int16]]:
    """Planes of `shape` in samples, from padded ones in sixteenths: whole numbers of at most 24 bits, and a sign.

    total: before the filter, (H, W) float64, sides multiples of 16. residual: likewise. active: (H / 8, W / 8), the
    blocks that are corrected. parameters: w1, b1, w2, b2 of `Filter`. step: of the quantiser, in sixteenths. limits: of
    a sample.
    """
    module = library()
    assert module is not None, "this needs the compiled module"
    n, inputs, hidden, outputs = _SHAPES[fold]
    h, w = total[0].shape
    assert len(total) == len(residual) == len(active) == n and h % 16 == w % 16 == 0 and 0 < step < 1 << 16
    assert 0 < shape[0] <= h and 0 < shape[1] <= w and -(2**15) <= limits[0] <= limits[1] < 2**15
    w1, b1, w2, b2 = parameters
    assert w1.shape == (hidden, inputs, 3, 3) and b1.shape == (hidden,)
    assert w2.shape == (outputs, hidden, 3, 3) and b2.shape == (outputs,)
    assert max(int(np.abs(x).max()) for x in parameters) <= _LARGEST, "a parameter is out of range"
    planes = [np.ascontiguousarray(x, np.float64) for x in (*total, *residual)]
    assert all(x.shape == (h, w) and max(-x.min(), x.max()) < 1 << 24 for x in planes), "a number is out of range"
    changed = [np.ascontiguousarray(x, np.uint8) for x in active]
    assert all(x.shape == (h // 8, w // 8) for x in changed)
    kept = [np.ascontiguousarray(x, dtype) for x, dtype in zip((w1, w2, b1, b2), "hhii", strict=True)]
    out = [np.empty(shape, np.int16) for _ in range(n)]

    def pair(arrays: Sequence[NDArray[Any]]) -> Any:
        return (ctypes.c_void_p * 2)(*(x.ctypes.data for x in arrays))

    struct = _Planes(
        h, w, pair(planes[:n]), pair(planes[n:]), pair(changed), fold, step, *(x.ctypes.data for x in kept), *shape,
        *limits, pair(out),
    )  # fmt: skip
    check(module.codec_repair_planes(ctypes.byref(struct)))
    return out
