"""The filters of a PNG's rows, chosen as its specification (section 12.7) advises: by the least sum of magnitudes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library

__all__ = ["png_filter"]


def png_filter(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Filtered rows, (n, bytes a row + 1), each behind the number of its filter (0 none, 1 left, 2 above, 4 Paeth).

    rows: (n, bytes a row). above: (1, bytes a row), what lies above the first row, or zeros. step: bytes of a pixel.
    """
    assert rows.dtype == above.dtype == np.uint8 and rows.ndim == 2 and step >= 1
    assert above.shape == (1, rows.shape[1])
    module = library()
    if module is None or not rows.size:
        return _twin(rows, np.concatenate((above, rows[:-1])), step)
    rows, above = np.ascontiguousarray(rows), np.ascontiguousarray(above)
    out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    sizes = [ctypes.c_int64(size) for size in (*rows.shape, step)]
    check(module.codec_png_filter(_pointer(rows), _pointer(above), *sizes, _pointer(out)))
    return out


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _twin(rows: NDArray[np.uint8], previous: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    corner = np.zeros_like(rows)
    corner[:, step:] = previous[:, :-step]
    a, b, c = left.astype(np.int16), previous.astype(np.int16), corner.astype(np.int16)
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, previous, corner))
    options = np.stack([rows, rows - left, rows - previous, rows - paeth])
    cost = np.abs(options.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    out[:, 0] = np.array([0, 1, 2, 4], np.uint8)[best]
    out[:, 1:] = np.take_along_axis(options, best[None, :, None], axis=0)[0]
    return out
