"""Pictures in cells of 2x2 pixels, as a network at half resolution takes them, and back to pixels of 8 or 16 bits.

A cell is 12 numbers, channel * 4 + row * 2 + column, in integers of 2**-16: pixel values minus 1/2.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .grids import Grid, Rows

__all__ = ["CELL", "FRACTION_BITS", "pixels_of_cells", "quantised_cells"]

CELL = 12
FRACTION_BITS = 16


def quantised_cells(
    x: Rows, lines: NDArray[np.int64], columns: NDArray[np.int32], grid: Grid, out: NDArray[np.int16]
) -> None:
    """The integers, on a signed grid, of the cells made of some lines and columns of pixels.

    x: cells, int32. lines: (2 n,), columns: (2 m,): for each row and column of pixels of the result, which one of the
    picture it is; their cells must be in x. out: (n, m, 12).
    """
    n, m = out.shape[:2]
    assert x.array.dtype == np.int32 and x.array.flags.c_contiguous and x.array.shape[2:] == (CELL,)
    assert out.dtype == np.int16 and out.flags.c_contiguous and out.shape == (n, m, CELL)
    assert lines.shape == (2 * n,) and columns.shape == (2 * m,) and columns.dtype == np.int32
    assert grid.signed and grid.bits <= 16 and 0 <= grid.exponent <= FRACTION_BITS
    if not out.size:
        return
    x.cut(int(lines.min()) // 2, int(lines.max()) // 2 + 1)  # they must be here
    assert int(columns.min()) >= 0 and int(columns.max()) < 2 * x.array.shape[1], "a column outside the picture"
    lines = np.ascontiguousarray(lines - 2 * x.first, np.int32)
    columns = np.ascontiguousarray(columns)
    shift = FRACTION_BITS - grid.exponent
    module = library()
    if module is not None:
        pointers = (_at(array) for array in (x.array, lines, columns, out))
        numbers = (ctypes.c_int64(value) for value in (x.array.shape[1], n, m, shift, grid.largest))
        check(module.codec_cells_quantised(*pointers, *numbers))
        return
    cells = x.array.reshape(*x.array.shape[:2], 3, 2, 2)
    for i in range(2):
        for j in range(2):
            row, column = lines[i::2], columns[j::2]
            part = cells[(row // 2)[:, None], column // 2, :, (row % 2)[:, None], column % 2].astype(np.int64)
            part = (part + ((1 << shift) >> 1)) >> shift
            out.reshape(n, m, 3, 2, 2)[:, :, :, i, j] = np.clip(part, -grid.largest, grid.largest)


def pixels_of_cells(
    x: NDArray[np.int32], corrections: NDArray[np.float32], border: int, out: NDArray[Any], top: int
) -> None:
    """Writes the pixels of rows of cells plus corrections: rounded half up, clamped, cut to the picture.

    x: (n, w, 12). corrections: (n, border + w + border, 12). out: (H, W, 3) uint8 or uint16, of which rows top ... top
    + 2 n - 1 are written, as far as there are.
    """
    n, w = x.shape[:2]
    height, width = out.shape[:2]
    assert x.dtype == np.int32 and x.flags.c_contiguous and x.shape == (n, w, CELL)
    assert corrections.dtype == np.float32 and corrections.flags.c_contiguous
    assert border >= 0 and corrections.shape == (n, w + 2 * border, CELL)
    assert out.dtype in (np.uint8, np.uint16) and out.flags.c_contiguous and out.shape == (height, width, 3)
    assert top >= 0 and 0 < width <= 2 * w
    if top >= height or not x.size:
        return
    largest = float(np.iinfo(out.dtype).max)
    module = library()
    if module is not None:
        pointers = (_at(array) for array in (x, corrections, out))
        numbers = (ctypes.c_int64(value) for value in (n, w, border, height, width, top, out.dtype.itemsize))
        check(module.codec_cells_pixels(*pointers, *numbers))
        return
    v = x * 2.0**-FRACTION_BITS + corrections[:, border : border + w].astype(np.float64)
    v = np.clip(np.floor((v + 0.5) * largest + 0.5), 0, largest).reshape(n, w, 3, 2, 2)
    v = v.transpose(0, 3, 1, 4, 2).reshape(2 * n, 2 * w, 3)
    out[top : top + 2 * n] = v[: height - top, :width]


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
