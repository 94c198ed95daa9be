"""Linear-blend skinning of Gaussians in compiled loops: the caller of native/src/skinning.h.

The twin, equal to the last digit, is codecs/dualgs/rig.py.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library

__all__ = ["anchors", "usable", "warp"]

Array = NDArray[np.float64]


class _Warp(ctypes.Structure):
    """`SkinWarp` of src/args_skinning.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("matrices", "anchors", "weights", "positions", "rotations")),
        *((name, ctypes.c_void_p) for name in ("moved", "turned")),
        *((name, ctypes.c_int64) for name in ("n", "n_near", "n_joints")),
    )


def usable() -> bool:
    """Whether the compiled kernel is there."""
    return library() is not None


def _address(array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> int:
    assert array.dtype == dtype and array.shape == shape and array.flags.c_contiguous, (array.dtype, array.shape, shape)
    return array.ctypes.data


def anchors(joints: Array, skins: Array, n_near: int) -> tuple[NDArray[np.int64], Array]:
    """The `n_near` joints nearest to each skin, the nearest first, and their squared distances: (n, n_near) each.

    joints, skins: (J, 3) and (n, 3), contiguous and finite.
    """
    module = library()
    assert module is not None, "this needs the compiled module"
    chosen, squares = np.empty((len(skins), n_near), np.int64), np.empty((len(skins), n_near))
    status = module.codec_skin_anchors(
        ctypes.c_void_p(_address(joints, np.float64, (len(joints), 3))),
        ctypes.c_int64(len(joints)),
        ctypes.c_void_p(_address(skins, np.float64, (len(skins), 3))),
        *(ctypes.c_int64(len(skins)), ctypes.c_int64(n_near)),
        *(ctypes.c_void_p(chosen.ctypes.data), ctypes.c_void_p(squares.ctypes.data)),
    )
    check(status)
    return chosen, squares


def warp(
    matrices: Array, anchors: NDArray[np.int64], weights: Array, positions: Array, rotations: Array
) -> tuple[Array, Array]:
    """The positions (n, 3) and unit quaternions (n, 4) of skins that follow their joints. All arrays are contiguous.

    matrices: (J, 12), the rows of [A | t] of each joint. anchors, weights: (n, k). positions, rotations: (n, 3), (n, 4)
    in the base frame.
    """
    module = library()
    assert module is not None, "this needs the compiled module"
    n, n_near = anchors.shape
    moved, turned = np.empty((n, 3)), np.empty((n, 4))
    call = _Warp(
        _address(matrices, np.float64, (len(matrices), 12)),
        _address(anchors, np.int64, (n, n_near)),
        _address(weights, np.float64, (n, n_near)),
        _address(positions, np.float64, (n, 3)),
        _address(rotations, np.float64, (n, 4)),
        *(moved.ctypes.data, turned.ctypes.data),
        *(n, n_near, len(matrices)),
    )
    check(module.codec_skin_warp(ctypes.byref(call)))
    return moved, turned
