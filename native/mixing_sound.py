"""The mixing model of quantised spectra of sound in compiled loops; the twin is entropy/mixing/sound.py."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from . import check
from .mixing import READ, Coder

__all__ = ["ANGLES", "MOST", "NOISES", "SCALE", "SHAPES", "code_sound"]

SHAPES, ANGLES, NOISES, SCALE = 4, 32, 16, 255  # how many there are of each; the largest scale
MOST = 1 << 20  # the largest magnitude
_void = ctypes.c_void_p


class _Piece(ctypes.Structure):
    """`SoundPiece` of src/args_mixing_sound.h."""

    _fields_ = (
        *((name, _void) for name in ("angles", "shapes", "filled", "scales", "noises", "values", "edges")),
        *((name, ctypes.c_int64) for name in ("frames", "channels", "size", "bands", "level")),
    )


def code_sound(
    coder: Coder,
    angles: NDArray[np.int32],
    shapes: NDArray[np.int32],
    filled: NDArray[np.int32],
    scales: NDArray[np.int32],
    noises: NDArray[np.int32],
    values: NDArray[np.int32],
    edges: NDArray[np.int32],
    level: int,
) -> None:
    """Codes a piece of sound in place. ValueError for a damaged stream.

    angles: (bands,), shapes: (frames,), filled, scales, noises: (frames, channels, bands), values:
    (frames, channels, size), edges: (bands + 1,). When a stream is read, values are zeros before.
    """
    frames, channels, size = values.shape
    bands = len(edges) - 1
    shapes_of = ((bands,), (frames,), *3 * ((frames, channels, bands),))
    arrays = (angles, shapes, filled, scales, noises)
    for array, shape in zip((*arrays, values, edges), (*shapes_of, values.shape, (bands + 1,)), strict=True):
        assert array.dtype == np.int32 and array.flags.c_contiguous and array.shape == shape
    if coder.role != READ:
        limits = ((0, ANGLES - 1), (0, SHAPES - 1), (0, 1), (-SCALE, SCALE), (0, NOISES - 1))
        for array, (low, high) in zip((*arrays, values), (*limits, (-MOST, MOST)), strict=True):
            assert low <= array.min() and array.max() <= high
    pointers = (array.ctypes.data for array in (*arrays, values, edges))
    piece = _Piece(*pointers, frames, channels, size, bands, level)
    check(coder._module.codec_mixing_sound(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(piece)))
