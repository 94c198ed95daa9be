"""Residuals of interpolated fields, mixed, in compiled loops.

The twin is `entropy.mixing.residuals`: the same streams, values and tables, to the last digit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .interpolation import Scale
from .mixing import READ, Coder

__all__ = ["code"]

_DAMAGED = -3


class _Field(ctypes.Structure):
    """`MixedField` of src/args_mixing_residuals.h."""

    _fields_ = (
        ("limit", ctypes.c_double),
        ("pace", ctypes.c_double),
        ("residuals", ctypes.c_void_p),
        ("x", ctypes.c_void_p),
        ("raw", ctypes.c_void_p),
        ("n_raw", ctypes.c_int64),
    )


def code(
    coder: Coder,
    scale: Scale,
    limit: float,
    pace: float,
    shape: Sequence[int],
    kept: NDArray[Any],
    values: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The decoded values of a field, and those that are kept as they are.

    kept: those of a field that is read, in its type; none of one that is written or priced, whose `values` are given.
    ValueError for a damaged stream, MemoryError where a stream is written that is longer than its room.
    """
    module = library()
    assert module is not None, "this needs the compiled module"
    reading, dtype = coder.role == READ, kept.dtype
    assert reading == (values is None) and kept.flags.c_contiguous and dtype.isnative
    assert values is None or (values.shape == tuple(shape) and values.dtype == dtype and values.flags.c_contiguous)
    decoded, sizes = np.zeros(shape, dtype), np.zeros(shape, np.float32)
    residuals, raw = np.zeros(shape, np.int32), kept if reading else np.empty(decoded.size, dtype)
    field = scale.of(decoded, sizes)
    mixed = _Field(
        limit=limit,
        pace=pace,
        residuals=residuals.ctypes.data,
        x=None if values is None else values.ctypes.data,
        raw=raw.ctypes.data,
        n_raw=len(kept) if reading else 0,
    )
    check(
        module.codec_mixing_residuals(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(field), ctypes.byref(mixed))
    )
    if reading:
        check(0 if mixed.n_raw == 0 else _DAMAGED)
        return decoded, kept[:0]
    return decoded, raw[: mixed.n_raw].copy()
