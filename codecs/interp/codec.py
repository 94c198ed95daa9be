"""Interpolation for fields of floats, with an error bound that holds for every value: arrays, HDF5, NetCDF-4.

Every block is coded by `layers/interpolation.py`, after SZ3, QoZ and HPEZ, which are cited there with the differences.
There are no weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError, UsageError
from ..base.field import BOUNDED, Bound, FieldCodec
from ..base.settings import Setting
from ..layers import interpolation
from . import CARD

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["InterpCodec"]


@dataclass(frozen=True, repr=False)
class InterpCodec(FieldCodec):
    """The codec `interp`: see the module's docstring. quality: 1 to 100, stands for a bound (`Bound.of_quality`)."""

    bound: Bound
    device: str = "cpu"
    bounds: tuple[tuple[str, Bound], ...] = ()
    dataset: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    selection: ClassVar[tuple[Setting, ...]] = CARD.selection
    stream: ClassVar[int] = 2
    reads: ClassVar[tuple[int, ...]] = (1,)
    sweep: ClassVar[tuple[float, ...]] = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        if tag is not None or weights is not None:
            raise UsageError("interp has no weights: leave out the tag, or --weights")
        return cls(Bound.of_quality(50 if quality is None else quality), device)

    def check_settings(self) -> None:
        if self.bound is None:
            raise UsageError("interp always has an error bound: give a quality, max_error, rel_error or a codec.Bound")

    @property
    def weights_id(self) -> bytes:
        return b""

    def encode_field(self, x: NDArray[Any], bound: float) -> tuple[int, bytes]:
        return BOUNDED, interpolation.encode_block(x, bound)

    def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        if method != BOUNDED:
            raise StreamError(f"a block coded in way {method}: made by a newer version, or damaged")
        return interpolation.decode_block(payload, shape, dtype)
