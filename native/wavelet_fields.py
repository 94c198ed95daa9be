"""The CDF 9/7 wavelet transform of fields in float64, by lifting, level after level, along chosen axes.

Daubechies and Sweldens, "Factoring Wavelet Transforms into Lifting Steps" (1998), with symmetric borders and sides of
any length. Every number is the result of single float64 sums and products in a fixed order, here and in
src/wavelet_fields.h, so that all instruction sets and numbers of threads give the same. The filters have unit norm,
nearly, so that errors of coefficients weigh about as much in all bands.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .wavelet import ALPHA, BETA, DELTA, GAMMA, LOW_SCALE

__all__ = ["LevelBox", "forward", "inverse"]

Float = NDArray[np.float64]
LevelBox = tuple[tuple[int, ...], tuple[int, ...]]  # sides of the corner that a level transforms, and along which axes

_AXES = 5


def forward(x: Float, levels: Sequence[LevelBox], tilt: float = 1.0) -> None:
    """Transforms x, of five axes, in place; levels: from the finest to the coarsest.

    tilt: a factor of low-pass values at each level; high-pass values are divided by it.
    """
    for box, axes in levels:
        for axis in axes:
            _lift(x, box, axis, tilt, False)


def inverse(x: Float, levels: Sequence[LevelBox], tilt: float = 1.0) -> None:
    """Transforms x back, in place; levels, tilt: as `forward` was given."""
    for box, axes in reversed(levels):
        for axis in reversed(axes):
            _lift(x, box, axis, tilt, True)


def _lift(x: Float, box: Sequence[int], axis: int, tilt: float, back: bool) -> None:
    assert x.dtype == np.float64 and x.ndim == _AXES and x.flags.c_contiguous and x.flags.writeable
    assert len(box) == _AXES and 0 <= axis < _AXES and box[axis] > 1
    assert all(0 < side <= n for side, n in zip(box, x.shape, strict=True))
    low = LOW_SCALE * tilt
    high = 1.0 / low
    module = library()
    if module is not None:
        numbers = [(ctypes.c_int64 * _AXES)(*values) for values in (box, [stride // 8 for stride in _strides(x)])]
        at, scales = ctypes.c_void_p(x.ctypes.data), (ctypes.c_double(low), ctypes.c_double(high))
        check(module.codec_field_wavelet(at, *numbers, ctypes.c_int64(axis), *scales, ctypes.c_int64(back)))
        return
    corner = np.moveaxis(x[tuple(slice(0, side) for side in box)], axis, 0)
    corner[...] = _merged(corner, low, high) if back else _split(corner, low, high)


def _strides(x: Float) -> list[int]:
    """The bytes from a value to the next along each axis; NumPy's own may be anything along an axis of one value."""
    steps = [8]
    for side in reversed(x.shape[1:]):
        steps.insert(0, steps[0] * side)
    return steps


def _odd(odd: Float, even: Float, factor: float) -> Float:
    right = np.concatenate([even[1:], even[-1:]])[: len(odd)]
    return odd + factor * (even[: len(odd)] + right)


def _even(even: Float, odd: Float, factor: float) -> Float:
    left = np.concatenate([odd[:1], odd])[: len(even)]
    right = np.concatenate([odd, odd[-1:]])[: len(even)]
    return even + factor * (left + right)


def _split(x: Float, low: float, high: float) -> Float:
    """One level along the first axis: the low-pass values, and the high-pass ones behind them."""
    even, odd = x[0::2], x[1::2]
    with np.errstate(over="ignore", invalid="ignore"):
        odd = _odd(odd, even, ALPHA)
        even = _even(even, odd, BETA)
        odd = _odd(odd, even, GAMMA)
        even = _even(even, odd, DELTA)
        return np.concatenate([even * low, odd * high])


def _merged(x: Float, low: float, high: float) -> Float:
    """The inverse of `_split`."""
    half = (len(x) + 1) // 2
    out = np.empty(x.shape, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        even, odd = x[:half] * high, x[half:] * low
        even = _even(even, odd, -DELTA)
        odd = _odd(odd, even, -GAMMA)
        even = _even(even, odd, -BETA)
        odd = _odd(odd, even, -ALPHA)
    out[0::2], out[1::2] = even, odd
    return out
