"""Interpolation for fields of floats, with an error bound that holds for every value: arrays, HDF5, NetCDF-4.

Every block is coded in one of three ways, by what is shortest in its middle: interpolation with mixed residuals
(`layers/mixed_fields.py`), wavelets with mixed coefficients (`layers/wavelet_fields.py`), and interpolation with fixed
distributions (`layers/interpolation.py`), which is all that `fast` tries. SZ3, QoZ, HPEZ and SPERR, after which they
are, are cited there with the differences. There are no weights.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError, UsageError
from ..base.field import BOUNDED, Bound, FieldCodec
from ..base.settings import Setting
from ..layers import interpolation, mixed_fields, wavelet_fields
from . import CARD

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["InterpCodec"]

MIXED, WAVELETS = 17, 18  # ways to code a block, beside those of `base.field_coding`; 16 is zipgan. Append only
_PART, _LEAST = 1 << 15, 1 << 12  # values of the middle part on which a way is chosen; of fewer, all are tried
_PATIENCE = 1 << 12  # values that are mixed without compiled kernels: a second or so
_CLEARLY = 0.99  # wavelets are taken where they are shorter by this


@dataclass(frozen=True, repr=False)
class InterpCodec(FieldCodec):
    """The codec `interp`: see the module's docstring. quality: 1 to 100, stands for a bound (`Bound.of_quality`).

    fast: whether blocks are coded by fixed distributions only: 15 to 40 times as fast, and a fifth to a half longer.
    """

    bound: Bound
    device: str = "cpu"
    bounds: tuple[tuple[str, Bound], ...] = ()
    dataset: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    fast: bool = False

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    selection: ClassVar[tuple[Setting, ...]] = CARD.selection
    stream: ClassVar[int] = 3
    reads: ClassVar[tuple[int, ...]] = (1, 2)
    methods: ClassVar[Mapping[int, str]] = {MIXED: "mixed interpolation", WAVELETS: "mixed wavelets"}
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
        calls = [functools.partial(_coded, way, x, bound) for way in self._ways(x, bound)]
        streams = [stream for stream in interpolation.in_parallel(calls) if stream is not None]
        return min(streams, key=lambda stream: len(stream[1]))

    def _ways(self, x: NDArray[Any], bound: float) -> tuple[int, ...]:
        """The ways that are worth a try: of a block that is large enough, the one that is shorter in its middle.

        Where both are about as long there it is interpolation, which is several times as fast.
        """
        if self.fast or (native.library() is None and x.size > _PATIENCE):
            return (BOUNDED,)
        middle = mixed_fields.middle_of(x, min(_PART, x.size // 8))
        if middle.size >= _LEAST:
            ours, theirs = (_coded(way, middle, bound) for way in (MIXED, WAVELETS))
            if ours and theirs:
                return (WAVELETS if len(theirs[1]) < _CLEARLY * len(ours[1]) else MIXED, BOUNDED)
        return (WAVELETS, MIXED, BOUNDED)

    def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        if method == BOUNDED:
            return interpolation.decode_block(payload, shape, dtype)
        if method == MIXED:
            return mixed_fields.decode_block(payload, shape, dtype)
        if method == WAVELETS:
            return wavelet_fields.decode_block(payload, shape, dtype)
        raise StreamError(f"a block coded in way {method}: made by a newer version, or damaged")


def _coded(way: int, x: NDArray[Any], bound: float) -> tuple[int, bytes] | None:
    """A way and its stream of a block; None where a mixed one can't code it, since fixed distributions can."""
    if way == BOUNDED:
        return way, interpolation.encode_block(x, bound)
    try:
        return way, (mixed_fields if way == MIXED else wavelet_fields).encode_block(x, bound)
    except (MemoryError, ArithmeticError):
        return None
