"""Tables of texts, mixed in compiled loops: the caller of native/src/mixing_texts.h.

The twin, equal to the last digit of every table, is entropy/mixing/texts.py.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .mixing import READ, Coder

__all__ = ["code_table"]

_void = ctypes.c_void_p


class _Table(ctypes.Structure):
    """`MixingTable` of src/args_mixing_texts.h."""

    _fields_ = (
        ("text", _void),
        *((name, ctypes.c_int64) for name in ("room", "used", "n_rows", "n_columns", "longest")),
    )


def code_table(coder: Coder, text: NDArray[np.uint8], n_rows: int, n_columns: int, longest: int) -> int:
    """Codes the cells of a table, each with a zero behind it, in place; returns how many bytes they are.

    coder: of the plan in entropy/mixing/texts.py. text: to be read, room for all cells. longest: bytes of a cell.
    ValueError for a damaged stream.
    """
    module = library()
    assert module is not None, "this needs the compiled module"
    assert text.dtype == np.uint8 and text.ndim == 1 and text.flags.c_contiguous and text.flags.writeable
    assert n_rows > 0 and n_columns > 0 and 0 <= longest < 1 << 16 and len(text) >= n_rows * n_columns
    assert coder.role == READ or (int((text == 0).sum()) == n_rows * n_columns and not text[-1])
    table = _Table(text.ctypes.data, len(text), 0, n_rows, n_columns, longest)
    check(module.codec_mixing_texts(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(table)))
    return table.used
