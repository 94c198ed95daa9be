"""Levels of pictures, mixed in compiled loops: the caller of native/src/mixing_levels.h.

The twin, equal to the last digit of every table, is entropy/mixing/levels.py.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .mixing import READ, Coder

__all__ = ["BEST", "GRADIENT", "ZERO", "code_levels"]

ZERO, GRADIENT, BEST = 0, 1, 2  # what a value is told from
_void = ctypes.c_void_p


class _Sheets(ctypes.Structure):
    """`LevelSheets` of src/args_mixing_levels.h."""

    _fields_ = (
        ("values", _void),
        ("shape", _void),
        *((name, ctypes.c_int64) for name in ("n", "h", "w", "c", "bits", "base")),
    )


def code_levels(coder: Coder, values: NDArray[np.uint16], bits: int, base: int, shape: NDArray[np.int32]) -> None:
    """Codes sheets (n, h, w, c) of values below 2^bits, in place. ValueError for a damaged stream.

    coder: of the plan in entropy/mixing/levels.py. base: what values are told from. shape: (2049,) the logistic
    distribution.
    """
    module = library()
    assert module is not None, "this needs the compiled module"
    assert values.dtype == np.uint16 and values.ndim == 4 and values.size and values.flags.c_contiguous
    assert coder.role != READ or values.flags.writeable
    assert 1 <= values.shape[3] <= 4 and 1 <= bits <= 16 and ZERO <= base <= BEST
    assert shape.dtype == np.int32 and shape.shape == (2049,) and shape.flags.c_contiguous
    assert coder.role == READ or int(values.max()) < 1 << bits
    sheets = _Sheets(values.ctypes.data, shape.ctypes.data, *values.shape, bits, base)
    check(module.codec_mixing_levels(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(sheets)))
