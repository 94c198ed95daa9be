"""The parts that a family plays in coding sound: pieces that can be decoded alone; and what is asked of its codec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....container import Header, Value
from ....media.audio.values import AudioInfo
from ..limits import Limits

__all__ = ["PieceDecoder", "PieceEncoder", "Samples", "SoundCodec"]

Samples = NDArray[np.float64]
Piece = TypeVar("Piece")


class PieceEncoder(Protocol):
    """The encoder of a family for one sound. params: what the header keeps of it."""

    params: Mapping[str, Value]

    def push(self, x: Samples) -> Iterable[Callable[[], bytes]]:
        """Takes samples (n, channels), 1.0 at full scale; gives the pieces that are complete, as work to be done."""
        ...

    def finish(self) -> Iterable[Callable[[], bytes]]:
        """Gives the pieces at the end."""
        ...


class PieceDecoder(Protocol[Piece]):
    """The decoder of a family for one sound.

    piece: samples of each piece but the last. delay: of these, at the end of a piece, come with the next one; and as
    many at the beginning of the first piece that is pushed, unless it is number 0, are wrong.
    """

    piece: int
    delay: int

    def length(self, payload: bytes) -> int:
        """The samples of a piece, which no checksum vouches for: at most `piece`. StreamError for one that can't be."""
        ...

    def decode(self, payload: bytes, number: int) -> Piece:
        """A piece, in any thread. StreamError for one that is damaged."""
        ...

    def push(self, piece: Piece) -> Samples:
        """The samples (n, channels) that are complete with the next piece: whole numbers, FULL_SCALE at full scale."""
        ...

    def missing(self, number: int) -> Piece:
        """Something in the place of a piece that is missing."""
        ...

    def finish(self) -> Samples:
        """The samples at the end."""
        ...


class SoundCodec(Protocol):
    """The part of an `AudioCodec` that streams and files need."""

    name: ClassVar[str]
    stream: ClassVar[int]
    coder: str
    arithmetic: ClassVar[str]
    critical_chunks: ClassVar[frozenset[str]]
    rates: ClassVar[tuple[int, int]]
    limits: Limits

    @property
    def weights_id(self) -> bytes: ...
    def encoder(self, info: AudioInfo, quality: float | None) -> PieceEncoder: ...
    def decoder(self, header: Header, rate: int, channels: int) -> PieceDecoder[Any]: ...
    def check_made_by_us(self, header: Header) -> None: ...
