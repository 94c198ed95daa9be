"""Kernels of interpolated fields: prediction, quantisation and contexts of one part of a field at a time.

The twin is `codecs.layers.interpolation`, which says what is computed: these give the same symbols, contexts and values,
bit by bit. All of them need the compiled module.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library

__all__ = ["Field", "Part", "cheapest", "misses"]

_AXES = 5
_RUNS = ctypes.c_int64 * _AXES
_ODD = ctypes.c_int64 * (_AXES - 1)
_WEIGHTS = ctypes.c_double * (_AXES - 1)


class Part(ctypes.Structure):
    """`CodecPart` of src/args.h."""

    _fields_ = (
        ("n", _RUNS),
        ("pitch", _RUNS),
        ("start", ctypes.c_int64),
        ("n_axes", ctypes.c_int64),
        ("axis", _ODD),
        ("reach", _ODD),
        ("known", _ODD),
        ("weight", _WEIGHTS),
        ("weights", ctypes.c_double),
        ("middle", ctypes.c_double),
        ("share", ctypes.c_double),
        ("bound", ctypes.c_double),
        ("quantum", ctypes.c_double),
        ("context", ctypes.c_int64),
    )

    @property
    def size(self) -> int:
        """The number of points."""
        return int(np.prod(self.n[:], dtype=np.int64))


def _module() -> ctypes.CDLL:
    module = library()
    assert module is not None, "this needs the compiled module"
    return module


def _pointer(x: NDArray[Any], dtype: Any) -> ctypes.c_void_p:
    assert x.dtype == dtype and x.dtype.isnative and x.flags.c_contiguous
    return ctypes.c_void_p(x.ctypes.data)


class Field:
    """A field that is filled from coarse to fine.

    values: float32 or float64, of one to five axes; along the first one nothing is interpolated. sizes: those of the
    residuals, float32, of the same shape. weights: of the other axes, above 0.
    """

    def __init__(
        self, values: NDArray[Any], sizes: NDArray[np.float32], weights: Sequence[int], bound: float, middle: float
    ) -> None:
        assert values.dtype in (np.float32, np.float64) and 1 <= values.ndim <= _AXES and sizes.shape == values.shape
        assert len(weights) == values.ndim - 1 and all(weight > 0 for weight in weights)
        self.values, self.sizes, self.weights, self.bound, self.middle = values, sizes, weights, bound, middle

    def part(self, axes: Sequence[int], index: Sequence[slice], share: float, context: int) -> Part:
        """The points values[index]; along `axes` they lie between known ones, which are apart by the index's step.

        share: the level's, of the bound. context: the first one of its points.
        """
        shape = self.values.shape
        assert len(index) == len(shape) and all(0 < axis < len(shape) for axis in axes)
        spare = _AXES - len(shape)
        part = Part()
        part.n[:spare] = [1] * spare
        pitch = 1
        for axis in range(len(shape) - 1, -1, -1):
            places = range(*index[axis].indices(shape[axis]))
            part.n[spare + axis], part.pitch[spare + axis] = len(places), pitch * places.step
            part.start += pitch * places.start
            if axis in axes:
                k = axes.index(axis)
                assert places.start > 0 and places.step == 2 * places.start
                part.axis[k], part.reach[k] = spare + axis, pitch * places.start
                part.known[k] = len(range(0, shape[axis], places.step))
                part.weight[k] = self.weights[axis - 1]
            pitch *= shape[axis]
        part.n_axes, part.weights, part.context = len(axes), sum(part.weight[: len(axes)]), context
        part.middle, part.share, part.bound, part.quantum = self.middle, share, self.bound, 2 * self.bound / share
        return part

    def _arrays(self) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
        return _pointer(self.values, self.values.dtype), _pointer(self.sizes, np.float32)

    @property
    def _item(self) -> ctypes.c_int:
        return ctypes.c_int(self.values.dtype.itemsize)

    def code(self, part: Part, x: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int16], int]:
        """Fills a part in with what x decodes to: the symbols, their contexts, and the number of escapes."""
        assert x.shape == self.values.shape
        n_escaped = ctypes.c_int64()
        symbols, contexts = np.empty(part.size, np.int32), np.empty(part.size, np.int16)
        status = _module().codec_interp_code(
            ctypes.byref(part),
            self._item,
            _pointer(x, self.values.dtype),
            *self._arrays(),
            _pointer(symbols, np.int32),
            _pointer(contexts, np.int16),
            ctypes.byref(n_escaped),
        )
        check(status)
        return symbols, contexts, n_escaped.value

    def rows(self, part: Part, kinds: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """The predictions of a part, and kinds[context] of each point."""
        assert part.context + 26 <= len(kinds)
        predictions, rows = np.empty(part.size, np.float64), np.empty(part.size, np.uint8)
        status = _module().codec_interp_rows(
            ctypes.byref(part),
            self._item,
            *self._arrays(),
            _pointer(kinds, np.uint8),
            _pointer(predictions, np.float64),
            _pointer(rows, np.uint8),
        )
        check(status)
        return predictions, rows

    def put(self, part: Part, predictions: NDArray[np.float64], symbols: NDArray[np.int32]) -> None:
        """Fills a part in with what symbols say, an escape with its prediction. ValueError if one is out of range."""
        assert predictions.size == symbols.size == part.size
        status = _module().codec_interp_put(
            ctypes.byref(part),
            self._item,
            *self._arrays(),
            _pointer(predictions, np.float64),
            _pointer(symbols, np.int32),
        )
        check(status)


def cheapest(
    steps: Sequence[tuple[NDArray[Any], NDArray[Any]]], costs: NDArray[np.float32], n_contexts: int
) -> NDArray[np.int32]:
    """The distribution of each context under which its symbols cost least, -1 of one without symbols.

    steps: symbols int32 and their contexts int16. costs: (sizes, distributions), of |symbol|; larger ones cost the last.
    """
    most = max((max(int(symbols.max()), -int(symbols.min())) for symbols, _ in steps if symbols.size), default=0)
    width = min(most + 1, len(costs))
    if width < len(costs):
        costs = costs[:width]
    counts, best = np.zeros((n_contexts, width), np.uint32), np.empty(n_contexts, np.int32)
    sizes = ctypes.c_int64(n_contexts), ctypes.c_int64(width)
    for symbols, contexts in steps:
        assert symbols.size == contexts.size
        arrays = (_pointer(contexts, np.int16), _pointer(symbols, np.int32), ctypes.c_int64(symbols.size))
        check(_module().codec_interp_count(*arrays, _pointer(counts, np.uint32), *sizes))
    arrays = (_pointer(counts, np.uint32), _pointer(costs, np.float32))
    n_kinds = ctypes.c_int64(costs.shape[1])
    check(_module().codec_interp_choose(*arrays, *sizes, n_kinds, _pointer(best, np.int32)))
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
