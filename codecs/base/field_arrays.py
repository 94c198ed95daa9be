"""Arrays that codecs of fields take and give back: NumPy's, with a mask or without, and tensors."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError, UsageError
from .doors import check_dense, is_torch
from .field_blocks import Floats, inflate
from .field_file import ARRAY, MASKED, TENSOR

__all__ = ["FieldArray", "packed_mask", "taken_in", "unpacked_mask"]


@dataclass(frozen=True)
class FieldArray:
    """An array of native floats. mask, fill: of a masked array, where values are missing and what stands for them."""

    array: Floats
    kind: int = ARRAY
    mask: NDArray[np.bool_] | None = None
    fill: bytes = b""


def taken_in(x: Any) -> FieldArray:
    """The array in whatever was given to `compress`. UsageError for anything else."""
    kind, mask, fill = ARRAY, None, b""
    if is_torch(x):
        check_dense(x)
        try:
            x, kind = x.detach().cpu().numpy(), TENSOR
        except (TypeError, RuntimeError) as error:  # bfloat16, sparse, meta
            raise UsageError(f"a tensor of {x.dtype}: {error}; expected float32 or float64") from None
    elif isinstance(x, np.ma.MaskedArray):
        kind, mask = MASKED, np.ma.getmaskarray(x)
        fill = np.asarray(x.fill_value).astype(x.dtype.newbyteorder("<")).tobytes() if x.dtype.kind == "f" else b""
        x = np.ma.getdata(x)
    if not isinstance(x, np.ndarray):
        raise UsageError(
            f"can't compress a {type(x).__name__}: expected an HDF5 file (its path or bytes, or an open file), or a "
            "NumPy array or torch tensor "
            "of float32 or float64"
        )
    if x.dtype.kind != "f" or x.dtype.itemsize not in (4, 8):
        raise UsageError(f"an array of {x.dtype}; expected float32 or float64 (integers: the codec circuit, or HDF5)")
    if not 1 <= x.ndim <= 8 or not x.size:
        raise UsageError(f"an array of shape {x.shape}; expected 1 to 8 axes, and something in it")
    return FieldArray(x.astype(x.dtype.newbyteorder("="), copy=False), kind, mask, fill)


def packed_mask(mask: NDArray[np.bool_]) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), 9)


def unpacked_mask(data: bytes, array: Floats, fill: Any) -> Any:
    """The masked array of a mask that `packed_mask` packed. StreamError if it isn't one of this array."""
    n = -(-math.prod(array.shape) // 8)
    bits = inflate(data, n)
    if len(bits) != n or not isinstance(fill, bytes) or len(fill) != array.itemsize:
        raise StreamError("a mask doesn't fit its values: the file is damaged")
    mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=array.size).astype(bool).reshape(array.shape)
    value = np.frombuffer(fill, array.dtype.newbyteorder("<"))[0]
    return np.ma.MaskedArray(array, mask if mask.any() else np.ma.nomask, fill_value=value)
