"""The mixing model of quantised wavelet coefficients in compiled loops; the twin is entropy/mixing/coefficients.py."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check
from .mixing import READ, Coder

__all__ = ["BAND_FIELDS", "CONTEXTS", "FINALS", "MOST", "REFINED", "SETS", "code_coefficients", "code_corrections"]

CONTEXTS = 12
MOST = 1 << 28  # the largest magnitude
STEPS, SIZES, PLACES, STAGES = 48, 32, 64, 8
SETS = (2 * STEPS, 2 * STAGES * SIZES, 2 * 4 * PLACES)
FINALS = 2 * STEPS
REFINED = 2 * STAGES * SIZES + 2 * 4 * PLACES
BAND_FIELDS = 24  # numbers of `CoefficientBand` of src/args_mixing_coefficients.h
_AXES = 5
_void = ctypes.c_void_p


class _Field(ctypes.Structure):
    """`CoefficientField` of src/args_mixing_coefficients.h."""

    _fields_ = (("values", _void), ("shape", ctypes.c_int64 * _AXES), ("bands", _void), ("n_bands", ctypes.c_int64))


def code_coefficients(coder: Coder, values: NDArray[np.int32], bands: NDArray[np.int64]) -> None:
    """Codes coefficients, of five axes, in place. bands: (n, BAND_FIELDS). ValueError for a damaged stream."""
    field = _field(coder, values, bands)
    check(coder._module.codec_mixing_coefficients(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(field)))


def code_corrections(
    coder: Coder, values: NDArray[np.int32], bands: NDArray[np.int64], corrections: NDArray[np.int32]
) -> None:
    """Codes the corrections of values whose coefficients are here. ValueError for a damaged stream."""
    field = _field(coder, values, bands)
    _check_numbers(coder, corrections, values.shape)
    at = _void(corrections.ctypes.data)
    check(coder._module.codec_mixing_corrections(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(field), at))


def _check_numbers(coder: Coder, values: NDArray[Any], shape: Sequence[int]) -> None:
    assert values.dtype == np.int32 and values.flags.c_contiguous and values.flags.writeable
    assert values.ndim == _AXES and values.shape == tuple(shape) and values.size > 0
    assert coder.role == READ or -MOST <= values.min() <= values.max() <= MOST


def _field(coder: Coder, values: NDArray[np.int32], bands: NDArray[np.int64]) -> _Field:
    _check_numbers(coder, values, values.shape)
    assert bands.dtype == np.int64 and bands.flags.c_contiguous and bands.shape[1:] == (BAND_FIELDS,) and len(bands)
    return _Field(values.ctypes.data, (ctypes.c_int64 * _AXES)(*values.shape), bands.ctypes.data, len(bands))
