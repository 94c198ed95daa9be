"""What lies around the convolutions of a decoder: integers from one grid to another, and the pixels at its end.

Nothing here is more than a pass over rows; as NumPy operations such passes took as long as the convolutions.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .grids import Grid, Rows

__all__ = ["regrid", "write_pixels"]

_LARGEST_EXPONENT = 90  # of a grid: all numbers are normal ones


class _CGrid(ctypes.Structure):
    _fields_ = [
        ("scale", ctypes.c_double),
        ("slope", ctypes.c_double),
        ("low", ctypes.c_double),
        ("high", ctypes.c_double),
    ]


def regrid(
    x: NDArray[Any],
    exponent: int,
    grid: Grid,
    out: NDArray[Any],
    *,
    gain: NDArray[Any] | None = None,
    values: NDArray[Any] | None = None,
) -> None:
    """Puts integers x (..., C) int32 of 2**-exponent on another grid: out (the same shape) int32 or int16.

    What is put there is x * 2**-exponent, in float64, times gain (C,). values: takes x * 2**-exponent * gain, float32.
    """
    channels = x.shape[-1]
    assert x.dtype == np.int32 and out.dtype in (np.int32, np.int16) and out.shape == x.shape
    assert x.flags.c_contiguous and out.flags.c_contiguous
    assert values is None or (values.dtype == np.float32 and values.shape == x.shape and values.flags.c_contiguous)
    assert max(abs(exponent), abs(grid.exponent)) <= _LARGEST_EXPONENT and 0 <= grid.leak <= 16
    assert max(grid.largest, -grid.smallest) <= np.iinfo(out.dtype).max, "the grid doesn't fit its integers"
    if gain is not None:
        gain = np.ascontiguousarray(gain, np.float64)
        assert gain.shape == (channels,)
    if not x.size:
        return
    module = library()
    if module is None:
        v = x * 2.0**-exponent
        if gain is not None:
            v *= gain
        if values is not None:
            values[...] = v
        out[...] = grid.integers(v)
        return
    onto = _CGrid(2.0**grid.exponent, 2.0**-grid.leak, grid.smallest, grid.largest)
    pointers = [None if a is None else ctypes.c_void_p(a.ctypes.data) for a in (x, gain, out, values)]
    status = module.codec_regrid(
        *pointers,
        ctypes.c_int64(x.size // channels),
        ctypes.c_int64(channels),
        ctypes.c_double(2.0**-exponent),
        ctypes.byref(onto),
        ctypes.c_int64(out.dtype.itemsize),
    )
    check(status)


def write_pixels(
    x: Rows,
    correction: Rows | None,
    top: int,
    left: int,
    out: NDArray[Any],
    *,
    shuffle: int,
    rounded: bool = True,
) -> None:
    """Writes the pixels of a decoded picture, (rows, columns, C) uint8 or uint16: those from row `top`, column `left`.

    x: int32 in units of 2**-16, around 0; correction: float32, which is added to it (rounded: to a multiple of
    2**-16). Both are (H / s, W / s, C * s * s), as a pixel-unshuffle of the factor s = shuffle leaves them. A pixel is
    floor((x + correction + 1/2) * largest + 1/2), clamped.
    """
    rows, columns, channels = out.shape
    assert out.dtype in (np.uint8, np.uint16) and out.flags.c_contiguous and shuffle >= 1 and top >= 0 <= left
    bottom = -(-(top + rows) // shuffle)
    first = top // shuffle
    width = x.array.shape[1]
    assert x.array.shape[2] == channels * shuffle**2 and left + columns <= width * shuffle
    arrays: list[NDArray[Any] | None] = []
    for source, dtype in ((x, np.int32), (correction, np.float32)):
        part = None if source is None else source.cut(first, bottom)
        assert part is None or (part.dtype == dtype and part.flags.c_contiguous and part.shape[1:] == x.array.shape[1:])
        arrays.append(part)
    if not out.size:
        return
    module = library()
    if module is None:
        _twin(arrays[0], arrays[1], top - first * shuffle, left, out, shuffle, rounded)
        return
    numbers = (width, channels, shuffle, top - first * shuffle, left, rows, columns, out.dtype.itemsize, int(rounded))
    pointers = [None if a is None else ctypes.c_void_p(a.ctypes.data) for a in (*arrays, out)]
    check(module.codec_write_pixels(*pointers, *map(ctypes.c_int64, numbers)))


def _twin(
    x: Any, correction: NDArray[Any] | None, top: int, left: int, out: NDArray[Any], s: int, rounded: bool
) -> None:
    rows, columns, channels = out.shape
    v = x * 2.0**-16
    if correction is not None:
        wide = correction.astype(np.float64)
        v += np.floor(wide * 2.0**16 + 0.5) * 2.0**-16 if rounded else wide
    n, width, _ = v.shape
    v = v.reshape(n, width, channels, s, s).transpose(0, 3, 1, 4, 2).reshape(n * s, width * s, channels)
    largest = float(np.iinfo(out.dtype).max)
    out[...] = np.clip(np.floor((v[top : top + rows, left : left + columns] + 0.5) * largest + 0.5), 0, largest)
