"""Tracks of Gaussians, read from mixed streams in compiled loops: the caller of native/src/mixing_tracks.h.

The twin, equal to the last digit of every table, is codecs/dualgs/tracks.py. The caller owns all arrays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .mixing import READ, Coder

__all__ = ["MOST_KINDS", "Known", "Streams", "read_frame"]

MOST_KINDS = 9
_void = ctypes.c_void_p
Array = NDArray[np.int64]


class _Kind(ctypes.Structure):
    """`TrackKind` of src/args_mixing_tracks.h."""

    _fields_ = (
        *((name, _void) for name in ("small", "large")),
        *((name, ctypes.c_int64) for name in ("first", "width", "bits")),
    )


class _Frame(ctypes.Structure):
    """`TrackFrame` of src/args_mixing_tracks.h."""

    _fields_ = (
        *((name, _void) for name in ("any", "flag")),
        ("kinds", _Kind * MOST_KINDS),
        *((name, ctypes.c_int64) for name in ("n", "n_kinds", "n_columns")),
        *((name, _void) for name in ("age", "busy", "age_of", "busy_of", "last_mask", "mask", "step", "last", "now")),
    )


@dataclass(frozen=True, eq=False)
class Known:
    """The knowledge of both sides about n Gaussians after a frame; all int64.

    age: frames since a Gaussian changed, up to 15. busy: how often it changed of late, 0 to 255. age_of, busy_of:
    (kinds, n), the same of each attribute. last_mask: the attributes of its last change; mask: of this frame, or of the
    last one where this isn't known yet. step: (n, columns), the difference of each number in that frame; last: the last
    that isn't 0; now: the numbers.
    """

    age: Array
    busy: Array
    age_of: Array
    busy_of: Array
    last_mask: Array
    mask: Array
    step: Array
    last: Array
    now: Array

    @staticmethod
    def new(n: int, n_kinds: int, n_columns: int) -> Known:
        """Before the first frame."""
        none, each, all_of = np.zeros(n, np.int64), np.zeros((n_kinds, n), np.int64), np.zeros((n, n_columns), np.int64)
        return Known(
            *(none + 15, none.copy(), each + 15, each.copy(), none.copy(), none.copy()),
            *(all_of.copy(), all_of.copy(), all_of),
        )


@dataclass(frozen=True, eq=False)
class Streams:
    """The coders of a stream that is read. kinds: of each attribute the width and the bits of an index, 0 for numbers.
    small, large: its coders; large: None for indices.
    """

    any: Coder
    flag: Coder
    kinds: Sequence[tuple[int, int]]
    small: Sequence[Coder]
    large: Sequence[Coder | None]


def read_frame(streams: Streams, known: Known) -> None:
    """Reads the next frame into what is known. ValueError for a damaged stream."""
    module = library()
    assert module is not None, "this needs the compiled module"
    n, n_columns = known.now.shape
    n_kinds = len(streams.kinds)
    assert 1 <= n_kinds <= MOST_KINDS and n and sum(width for width, _ in streams.kinds) == n_columns
    call, first = _Frame(_coder(streams.any), _coder(streams.flag)), 0
    for place, (width, bits) in enumerate(streams.kinds):
        large = streams.large[place]
        assert (large is None) == bool(bits)
        call.kinds[place] = _Kind(_coder(streams.small[place]), large and _coder(large), first, width, bits)
        first += width
    call.n, call.n_kinds, call.n_columns = n, n_kinds, n_columns
    for name, shape in (
        *((name, (n,)) for name in ("age", "busy", "last_mask", "mask")),
        *((name, (n_kinds, n)) for name in ("age_of", "busy_of")),
        *((name, (n, n_columns)) for name in ("step", "last", "now")),
    ):
        setattr(call, name, _address(getattr(known, name), shape))
    check(module.codec_mixing_tracks(ctypes.byref(call)))


def _coder(coder: Coder) -> int:
    assert coder.role == READ
    return ctypes.addressof(coder.struct)


def _address(array: NDArray[Any], shape: tuple[int, ...]) -> int:
    assert array.dtype == np.int64 and array.shape == shape and array.flags.c_contiguous and array.flags.writeable
    return array.ctypes.data
