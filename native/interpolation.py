"""Kernels of interpolated fields: all parts of a field in one call, from coarse to fine.

The twin is `codecs.layers.interpolation`, which says what is computed: these give the same symbols, contexts and values,
bit by bit. All of them need the compiled module.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .codes import AnsReader, TableModel, check_step

__all__ = ["Scale", "cheapest", "decode", "encode", "misses"]

_AXES, _LEVELS, _PARTS = 5, 65, 1 + 15 * 64
_SCRATCH = 13  # bytes for a point of the largest part, while decoding


class Field(ctypes.Structure):
    """`CodecField` of src/args.h."""

    _fields_ = (
        ("shape", ctypes.c_int64 * _AXES),
        ("n_axes", ctypes.c_int64),
        ("item", ctypes.c_int64),
        ("weight", ctypes.c_double * (_AXES - 1)),
        ("share", ctypes.c_double * _LEVELS),
        ("bound", ctypes.c_double),
        ("middle", ctypes.c_double),
        ("values", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Scale:
    """The decisions and numbers of a field.

    weights: of the axes behind the first, above 0. shares: of the bound, of the levels 1, 2, ... up to one more than
    the field has. middle: the prediction of the first points.
    """

    weights: Sequence[int]
    shares: Sequence[float]
    bound: float
    middle: float

    def of(self, values: NDArray[Any], sizes: NDArray[np.float32]) -> Field:
        """The field of some values, and of the sizes of their residuals."""
        shape = values.shape
        top = (max(shape[1:], default=1) - 1).bit_length()
        assert values.dtype in (np.float32, np.float64) and 1 <= len(shape) <= _AXES and min(shape) > 0
        assert len(self.weights) == len(shape) - 1 and all(weight > 0 for weight in self.weights)
        assert sizes.shape == shape and top < len(self.shares) < _LEVELS
        field = Field(n_axes=len(shape) - 1, item=values.dtype.itemsize, bound=self.bound, middle=self.middle)
        field.shape[:] = [1] * (_AXES - len(shape)) + list(shape)
        field.weight[: len(self.weights)] = list(self.weights)
        field.share[1 : len(self.shares) + 1] = list(self.shares)
        field.values, field.sizes = _pointer(values, values.dtype), _pointer(sizes, np.float32)
        return field


def _module() -> ctypes.CDLL:
    module = library()
    assert module is not None, "this needs the compiled module"
    return module


def _pointer(x: NDArray[Any], dtype: Any) -> ctypes.c_void_p:
    assert x.dtype == dtype and x.dtype.isnative and x.flags.c_contiguous
    return ctypes.c_void_p(x.ctypes.data)


def _sizes(field: Field) -> NDArray[np.int64]:
    """The number of points of each part, in coding order."""
    sizes, n = np.empty(_PARTS, np.int64), ctypes.c_int64()
    check(_module().codec_interp_sizes(ctypes.byref(field), _pointer(sizes, np.int64), ctypes.byref(n)))
    return sizes[: n.value]


def encode(
    x: NDArray[Any], scale: Scale
) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int64], NDArray[Any]]:
    """The symbols and contexts of x, part behind part, the sizes of the parts, and the values of escapes.

    x: contiguous, of one to five axes; along the first one nothing is interpolated.
    """
    values, residuals = np.zeros_like(x), np.zeros(x.shape, np.float32)
    field = scale.of(values, residuals)
    symbols, contexts = np.empty(x.size, np.int32), np.empty(x.size, np.int16)
    raw, n_raw = np.empty(x.size, x.dtype), ctypes.c_int64()
    status = _module().codec_interp_encode(
        ctypes.byref(field),
        _pointer(x, values.dtype),
        _pointer(symbols, np.int32),
        _pointer(contexts, np.int16),
        _pointer(raw, x.dtype),
        ctypes.byref(n_raw),
    )
    check(status)
    return symbols, contexts, _sizes(field), raw[: n_raw.value].copy()


def decode(
    shape: Sequence[int],
    dtype: np.dtype[Any],
    scale: Scale,
    kinds: NDArray[np.uint8],
    raw: NDArray[Any],
    tables: TableModel,
    ans: AnsReader,
) -> NDArray[Any]:
    """The values of a field. kinds: the table's row of each context. raw: the values of escapes, finite.

    Raises StepError where the stream can't be decoded, ValueError if a symbol or a value is out of range, or if values
    are left over.
    """
    values, residuals = np.zeros(shape, dtype), np.zeros(shape, np.float32)
    field = scale.of(values, residuals)
    scratch, needed = np.empty(_SCRATCH * int(_sizes(field).max()), np.uint8), ctypes.c_double()
    status = _module().codec_interp_decode(
        ctypes.byref(field),
        tables.pointer,
        ans.pointer,
        _pointer(kinds, np.uint8),
        ctypes.c_int64(len(kinds)),
        _pointer(raw, values.dtype),
        ctypes.c_int64(len(raw)),
        _pointer(scratch, np.uint8),
        ctypes.c_int64(len(scratch)),
        ctypes.byref(needed),
    )
    check_step(status, needed.value)
    return values


def cheapest(
    symbols: NDArray[np.int32], contexts: NDArray[np.int16], costs: NDArray[np.float32], n_contexts: int
) -> NDArray[np.int32]:
    """The distribution of each context under which its symbols cost least, -1 of one without symbols.

    costs: (sizes, distributions), of |symbol|; what is larger costs as much as the last.
    """
    assert symbols.size == contexts.size > 0
    most = max(int(symbols.max()), -int(symbols.min()))
    costs = costs[: most + 1]
    width, n_kinds = costs.shape
    counts, best = np.zeros((n_contexts, width), np.uint32), np.empty(n_contexts, np.int32)
    sizes = ctypes.c_int64(n_contexts), ctypes.c_int64(width)
    arrays = (_pointer(contexts, np.int16), _pointer(symbols, np.int32), ctypes.c_int64(symbols.size))
    check(_module().codec_interp_count(*arrays, _pointer(counts, np.uint32), *sizes))
    arrays = (_pointer(counts, np.uint32), _pointer(costs, np.float32))
    check(_module().codec_interp_choose(*arrays, *sizes, ctypes.c_int64(n_kinds), _pointer(best, np.int32)))
    return best


def misses(x: NDArray[Any], axis: int) -> float:
    """The mean square of what interpolation between neighbours misses along an axis of at least 3 values."""
    n = x.shape[axis]
    assert x.dtype in (np.float32, np.float64) and n >= 3
    outer, inner = int(np.prod(x.shape[:axis], dtype=np.int64)), int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
    sums = np.empty(outer, np.float64)
    sizes = (ctypes.c_int64(size) for size in (outer, n, inner))
    item = ctypes.c_int(x.dtype.itemsize)
    check(_module().codec_interp_misses(_pointer(x, x.dtype), item, *sizes, _pointer(sums, np.float64)))
    with np.errstate(all="ignore"):
        return float(sums.sum() / (outer * ((n - 1) // 2) * inner))
