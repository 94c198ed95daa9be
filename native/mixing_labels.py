"""Label maps by context mixing in a compiled loop. The twin is entropy/mixing/labels.py.

The caller owns all arrays: what is learned is written into them.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .mixing import READ, Coder

__all__ = ["CONTEXTS", "FINALS", "ROWS", "SETS", "SOURCES", "STATES", "Tables", "labels"]

SOURCES, STATES = 12, 64  # of guesses
CONTEXTS = {(0, False): 15, (0, True): 21, (1, False): 7}  # by kind, and whether the sheet before is used
SETS, FINALS, ROWS = (1024, 1024, 1024), 64, 640  # of the mixer's plan
_void = ctypes.c_void_p


class _Struct(ctypes.Structure):
    """`MixingLabels` of src/args_mixing_labels.h."""

    _fields_ = (
        ("labels", _void),
        *((name, ctypes.c_int64) for name in ("sheets", "height", "width", "alphabet", "kind", "candidates", "deep")),
        *((name, _void) for name in ("pads", "seen", "past", "hits")),
        *((name, ctypes.c_int64) for name in ("seen_bits", "decisions")),
    )


@dataclass(frozen=True, eq=False)
class Tables:
    """The state of a label map beside the mixer.

    pads: (2, height + 5, width + 8) int32, this sheet and the one before, with margins. seen: (2, 2^bits) uint64, of a
    neighbourhood the label that came last. past: (2, 2^bits) uint32, where it was. hits: (SOURCES, STATES) uint16, how
    often a source's guess is right.
    """

    pads: NDArray[np.int32]
    seen: NDArray[np.uint64]
    past: NDArray[np.uint32]
    hits: NDArray[np.uint16]

    @staticmethod
    def new(height: int, width: int, bits: int) -> Tables:
        """The tables of maps of this size, of which nothing is known."""
        return Tables(
            np.zeros((2, height + 5, width + 8), np.int32),
            np.zeros((2, 1 << bits), np.uint64),
            np.zeros((2, 1 << bits), np.uint32),
            np.full((SOURCES, STATES), 1 << 15, np.uint16),
        )


def labels(
    coder: Coder, values: NDArray[np.int32], alphabet: int, kind: int, candidates: int, deep: bool, tables: Tables
) -> int:
    """Codes labels (sheets, height, width) below `alphabet`, in place; returns the number of decisions.

    kind: 0, maps, or 1, pictures of few colours. candidates: 0 to 3 guesses are tried. deep: contexts look into the
    sheet before; kind 0 only. ValueError for a damaged stream.
    """
    module = library()
    assert module is not None, "this needs the compiled module"
    sheets, height, width = values.shape
    bits = tables.seen.shape[1].bit_length() - 1
    arrays: tuple[tuple[NDArray[Any], type, tuple[int, ...]], ...] = (
        (values, np.int32, (sheets, height, width)),
        (tables.pads, np.int32, (2, height + 5, width + 8)),
        (tables.seen, np.uint64, (2, 1 << bits)),
        (tables.past, np.uint32, (2, 1 << bits)),
        (tables.hits, np.uint16, (SOURCES, STATES)),
    )
    for array, dtype, shape in arrays:
        assert array.dtype == dtype and array.shape == shape and array.flags.c_contiguous and array.flags.writeable
    assert (height + 5) * (width + 8) < 1 << 31
    assert coder.role == READ or not values.size or 0 <= values.min() <= values.max() < alphabet
    assert (coder.struct.n_contexts, coder.struct.n_extra) == (CONTEXTS[kind, deep], 1)
    call = _Struct(sheets=sheets, height=height, width=width, alphabet=alphabet, kind=kind, candidates=candidates)
    call.deep, call.seen_bits = int(deep), bits
    call.labels, call.pads, call.seen = values.ctypes.data, tables.pads.ctypes.data, tables.seen.ctypes.data
    call.past, call.hits = tables.past.ctypes.data, tables.hits.ctypes.data
    check(module.codec_mixing_labels(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(call)))
    return int(call.decisions)
