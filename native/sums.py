"""The sums of a layer's weights, from which bounds are proved when weights are loaded: in one pass over them."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import check, library

__all__ = ["WeightSums", "weight_sums"]


class WeightSums(NamedTuple):
    """The sums over the weights of each output, (O,) int64: of magnitudes, and of the weights; the extreme weights."""

    magnitudes: NDArray[np.int64]
    totals: NDArray[np.int64]
    least: int
    most: int


def weight_sums(weight: NDArray[Any]) -> WeightSums:
    """The sums of integer weights (O, ...), at least one for each output."""
    assert weight.dtype.kind in "iu" and weight.size and weight.ndim >= 1
    outputs, module = len(weight), library()
    if module is None or weight.dtype not in (np.int8, np.int16):
        flat = weight.reshape(outputs, -1).astype(np.int64)
        return WeightSums(np.abs(flat).sum(1), flat.sum(1), int(flat.min()), int(flat.max()))
    flat = np.ascontiguousarray(weight)
    sums = np.empty((2, outputs), np.int64)
    limits = np.empty((2, outputs), np.int32)
    pointers = [ctypes.c_void_p(part.ctypes.data) for part in (*sums, *limits)]
    each = ctypes.c_int64(flat.size // outputs)
    check(
        module.codec_sums_weights(
            ctypes.c_void_p(flat.ctypes.data), flat.itemsize, ctypes.c_int64(outputs), each, *pointers
        )
    )
    return WeightSums(sums[0], sums[1], int(limits[0].min()), int(limits[1].max()))
