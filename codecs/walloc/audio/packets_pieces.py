"""Pieces of the packet model: latents of 256 frames, mixed or as the paper's lossless WebP picture, and joined again.

A frame of latents is written as a frame of one block is in the lapped model: contexts are the latents of the same
number in the two frames before, and those of lower numbers. Latents need the samples around their frame, and samples
the latents around theirs: encoders take a margin to both sides, decoders wait for the halo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ....container import Value
from ....entropy.mixing import sound
from ....entropy.mixing.mixer import Mixer
from ....entropy.mixing.sound import SoundPiece
from ....errors import StreamError
from .packets_model import PacketModel
from .packets_webp import packets_from_webp, webp_from_packets

__all__ = ["WEBP", "PacketPieceDecoder", "PacketPieceEncoder"]

WEBP = "webp"
FRAMES = 256  # of a piece; the first one has the frame before the sound besides, the last one the frame behind it
_MARGIN = 24  # frames of samples that latents depend on, and more
_BAND = 16

Floats = NDArray[np.float64]
Latents = NDArray[np.int16]


def _blank(latent: int, frames: int, pairs: int) -> SoundPiece:
    size = max(64, -(-latent // _BAND) * _BAND)
    return SoundPiece.zeros(frames, pairs, size, np.arange(0, size + 1, _BAND, dtype=np.int32))


def _pairs(channels: int) -> int:
    """The pairs of channels that are coded; the last one is a channel twice, where their number is odd."""
    return -(-channels // 2)


def _new_mixer() -> Mixer:
    return Mixer.new(sound.plan(), 0.25)


class PacketPieceEncoder:
    """The encoder of one sound. params: the gain, 16 log2 of it."""

    def __init__(self, model: PacketModel, channels: int, quality: float | None, coder: str) -> None:
        self._model, self._channels, self._coder = model, channels, coder
        self._gain16 = model.gain_of(quality)
        self.params: Mapping[str, Value] = {"g": self._gain16}
        self._size = model.config.frame
        self._kept = np.zeros((0, channels))
        self._first = True

    def push(self, x: Floats) -> Iterator[Callable[[], bytes]]:
        """Takes samples (n, channels); gives the pieces that are complete."""
        self._kept = np.concatenate([self._kept, x])
        while len(self._kept) > self._behind + _MARGIN * self._size:
            yield partial(self._encode, self._kept[: self._behind + _MARGIN * self._size], self._first, False)
            self._drop()

    @property
    def _behind(self) -> int:
        """The place, in the samples that are kept, where the next piece ends."""
        return (FRAMES + (0 if self._first else _MARGIN)) * self._size

    def _drop(self) -> None:
        self._kept = self._kept[self._behind - _MARGIN * self._size :]
        self._first = False

    def finish(self) -> Iterator[Callable[[], bytes]]:
        """Gives the pieces at the end."""
        while (n := len(self._kept) - (0 if self._first else _MARGIN * self._size)) > 0:
            last = n <= FRAMES * self._size
            yield partial(self._encode, self._kept[: self._behind + _MARGIN * self._size], self._first, last)
            if last:
                return
            self._drop()

    def _encode(self, x: Floats, first: bool, last: bool) -> bytes:
        """The payload of a piece. x: its samples, with a margin in front unless it is the first; and one behind."""
        samples = np.concatenate([x, x[:, -1:]], 1) if self._channels % 2 else x
        samples = samples.astype(np.float32)
        pairs = range(_pairs(self._channels))
        latents = [self._model.latents(samples[:, 2 * k : 2 * k + 2], self._gain16) for k in pairs]
        start = 0 if first else 1 + _MARGIN
        stop = latents[0].shape[1] if last else (1 if first else start) + FRAMES
        own = [np.ascontiguousarray(part[:, start:stop]) for part in latents]
        head = own[0].shape[1].to_bytes(2, "big")
        if self._coder == WEBP:
            pictures = [webp_from_packets(part, self._model.config) for part in own]
            return b"".join([head, *(len(picture).to_bytes(4, "big") + picture for picture in pictures)])
        piece = _blank(len(own[0]), own[0].shape[1], len(own))
        for k, part in enumerate(own):
            piece.values[:, k, : len(part)] = part.T
        piece.filled[:] = np.abs(piece.values).reshape(*piece.values.shape[:2], -1, _BAND).max(3) > 0
        return head + sound.encode(piece, _new_mixer(), 0)


class PacketPieceDecoder:
    """The decoder of one sound: see `PieceDecoder`."""

    def __init__(self, model: PacketModel, channels: int, gain16: int, coder: str) -> None:
        self._model, self._channels, self._gain16, self._coder = model, channels, gain16, coder
        self._halo = model.config.halo
        self.piece, self.delay = FRAMES * model.config.frame, self._halo * model.config.frame
        self._n_latents = _pairs(channels) * model.config.latent
        self._kept = np.zeros((self._n_latents, 0), np.int16)
        self._number: int | None = None

    def length(self, payload: bytes) -> int:
        """The samples of a piece, as far as its latents tell. StreamError for one that is damaged."""
        return min(self.piece, self._frames(payload) * self._model.config.frame)

    @staticmethod
    def _frames(payload: bytes) -> int:
        frames = int.from_bytes(payload[:2], "big")
        if not 1 <= frames <= FRAMES + 2:
            raise StreamError(f"a piece of {frames} frames: the file is damaged")
        return frames

    def decode(self, payload: bytes, number: int) -> tuple[int, Latents]:
        """The latents of a piece. StreamError for one that is damaged."""
        latent, frames = self._model.config.latent, self._frames(payload)
        if self._coder == WEBP:
            return number, np.concatenate([*self._pictures(payload, frames)])
        piece = _blank(latent, frames, _pairs(self._channels))
        sound.decode(payload[2:], piece, _new_mixer(), 0)
        largest = 2 ** (self._model.config.latent_bits - 1) - 1
        if np.abs(piece.values).max(initial=0) > largest or piece.shapes.any() or piece.values[:, :, latent:].any():
            raise StreamError("a latent of a piece is out of range: the file is damaged")
        own = piece.values[:, :, :latent].transpose(1, 2, 0).reshape(self._n_latents, frames)
        return number, np.ascontiguousarray(own, np.int16)

    def _pictures(self, payload: bytes, frames: int) -> Iterator[Latents]:
        at = 2
        for _ in range(_pairs(self._channels)):
            end = at + 4 + int.from_bytes(payload[at : at + 4], "big")
            yield packets_from_webp(payload[at + 4 : end], self._model.config, frames)
            at = end
        if at != len(payload):
            raise StreamError("a piece has another length than its pictures: the file is damaged")

    def missing(self, number: int) -> tuple[int, Latents]:
        """Silence in place of a piece."""
        return number, np.zeros((self._n_latents, FRAMES + (number == 0)), np.int16)

    def push(self, piece: tuple[int, Latents]) -> Floats:
        """The samples that are complete with a piece."""
        number, latents = piece
        if self._number is None:
            # the first frame that comes out is the first of the sound, or of this piece
            self._kept = np.zeros((len(latents), self._halo - (number == 0)), np.int16)
        self._number = number
        return self._made(np.concatenate([self._kept, latents], 1))

    def finish(self) -> Floats:
        """The samples at the end."""
        if self._number is None:
            return np.zeros((0, self._channels))
        return self._made(np.concatenate([self._kept, np.zeros((len(self._kept), self._halo), np.int16)], 1))

    def _made(self, latents: Latents) -> Floats:
        n = latents.shape[1] - 2 * self._halo
        if n <= 0:
            self._kept = latents
            return np.zeros((0, self._channels))
        self._kept = latents[:, n:]
        latent = self._model.config.latent
        pairs = [self._model.frames(latents[k : k + latent], self._gain16) for k in range(0, len(latents), latent)]
        return np.concatenate(pairs, 1)[:, : self._channels].astype(np.float64)
