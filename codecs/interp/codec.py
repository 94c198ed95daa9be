"""`interp`: fields of floats with an error bound that holds for every value; needs no weights.

The interpolation coder of `layers.interpolation` for every block. For HDF5 and NetCDF-4 files, and arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError, UsageError
from ..base.field import BOUNDED, Bound, FieldCodec
from ..layers import interpolation

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["InterpCodec"]


@dataclass(frozen=True)
class InterpCodec(FieldCodec):
    bound: Bound
    device: str = "cpu"

    name: ClassVar[str] = "interp"
    stream: ClassVar[int] = 1
    sweep: ClassVar[tuple[float, ...]] = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        if tag is not None or weights is not None:
            raise UsageError("interp has no weights: leave out the tag, or --weights")
        return cls(Bound.of_quality(50 if quality is None else quality), device)

    @property
    def weights_id(self) -> bytes:
        return b""

    def with_bound(self, bound: Bound) -> InterpCodec:
        return replace(self, bound=bound)

    def encode_field(self, x: NDArray[Any], bound: float) -> tuple[int, bytes]:
        return BOUNDED, interpolation.encode(x.reshape(_folded(x.shape)), bound)

    def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        if method != BOUNDED:
            raise StreamError(f"a block coded in way {method}: made by a newer version, or damaged")
        return interpolation.decode(payload, _folded(shape), dtype).reshape(shape)


def _folded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """With the axes in front of the last MAX_AXES merged."""
    n = len(shape) - interpolation.MAX_AXES
    return shape if n <= 1 else (math.prod(shape[:n]), *shape[n:])
