"""Pieces of sound: samples to payloads and back, piece by piece, with what two neighbours share at their border.

A piece is `FRAMES` frames. Its encoder looks two frames ahead and two back, to choose shapes and to rotate at both
borders. Its decoder gives all samples but the last half frame, which wait for the next piece. Each piece is encoded and
decoded by itself, in any order and in any thread; `PieceJoiner` puts them together in order.

Payload: one byte with the reaches of the rotations at its two borders, one with its number of frames less one, then the
mixed stream of `entropy/mixing/sound.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....entropy.mixing import sound
from ....entropy.mixing.mixer import Mixer
from ....entropy.mixing.sound import SoundPiece
from ....errors import StreamError
from .bands import hashed_noise
from .blocks import analyse, borders, rotate, synthesise, unrotate
from .lapped import Format, Tuning, best_shapes, dequantised, quantised

__all__ = ["FRAMES", "DecodedPiece", "PieceCoder", "PieceJoiner", "PieceSplitter"]

FRAMES = 32
_LEVELS = 8  # of the base of the steps, to one level of the context
_FADE = 0.7  # of the loudness from frame to frame, where a piece is missing

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DecodedPiece:
    """A piece before it is joined: samples (channels, frames * size), the reaches at its borders, its last spectrum."""

    samples: Floats
    left: int
    right: int
    last: Floats


@dataclass(frozen=True)
class PieceCoder:
    """Codes the pieces of one sound. start: what the mixer knows at the beginning of each piece; tuning: what encoding
    chooses."""

    form: Format
    base: int
    start: Mixer
    tuning: Tuning = Tuning()  # noqa: RUF009  frozen

    @classmethod
    def at(cls, form: Format, base: float, start: Mixer) -> PieceCoder:
        """The coder with what is best at a base of the steps, which can lie between two integers."""
        return cls(form, round(base), start, Tuning.of_base(base))

    @property
    def level(self) -> int:
        return min(63, self.base // _LEVELS)

    def encode(self, x: Floats, first: bool, last: bool) -> bytes:
        """The payload of a piece.

        x: its samples (channels, frames * size) in units of 2^-23, with two frames in front and two behind; zeros
        beyond the ends of the sound. first, last: whether it is the first, the last piece.
        """
        piece, left, right = self._made(x, first, last)
        stream = sound.encode(piece, self.start.copy(), self.level)
        return bytes([self._reach_code(left) + 16 * self._reach_code(right), len(piece.shapes) - 1]) + stream

    def quantised(self, x: Floats, first: bool, last: bool) -> SoundPiece:
        """The integers of a piece, of what `encode` takes."""
        return self._made(x, first, last)[0]

    def _made(self, x: Floats, first: bool, last: bool) -> tuple[SoundPiece, int, int]:
        """The integers of a piece, and how far the rotations at its two borders reach."""
        size = self.form.size
        shapes = self._shapes(x, x.shape[1] // size - 4)
        left = 0 if first else (size >> int(max(shapes[0], shapes[1]))) // 2
        right = 0 if last else (size >> int(max(shapes[-1], shapes[-2]))) // 2
        own = np.ascontiguousarray(shapes[1:-1])
        positions, reaches = borders(own, size, left, right)
        y = x[:, size:-size].copy()
        rotate(y, positions + size, reaches)
        spectra = analyse(np.ascontiguousarray(y[:, size:-size]), own, size)
        return quantised(spectra, own, self.form, self.base, self.tuning), left, right

    def _shapes(self, x: Floats, frames: int) -> NDArray[np.int32]:
        """The shapes of the frames of a piece, with those of the frame before it and the frame behind it."""
        size = self.form.size
        out = np.empty(frames + 2, np.int32)

        def choose(start: int, stop: int) -> None:
            part = np.ascontiguousarray(x[:, start * size : (stop + 2) * size])
            out[start:stop] = best_shapes(part, self.form, self.base, self.tuning)

        alone = sorted({0, 1, frames, frames + 1})  # by themselves: two pieces must find the same, to the last bit
        for frame in alone:
            choose(frame, frame + 1)
        if frames > 2:
            choose(2, frames)
        return out

    def _reach_code(self, reach: int) -> int:
        return (self.form.size // (2 * reach)).bit_length() if reach else 0

    def _reach_of(self, code: int) -> int:
        if code > 4:
            raise StreamError("a piece of sound begins with a number that can't be: it is damaged")
        return self.form.size >> code if code else 0

    def frames(self, payload: bytes) -> int:
        """The number of frames of a payload. StreamError for one that is damaged."""
        if len(payload) < 2 or payload[1] >= FRAMES:
            raise StreamError(f"a piece of sound of {len(payload)} bytes can't be one: it is damaged")
        return payload[1] + 1

    def decode(self, payload: bytes, number: int) -> DecodedPiece:
        """The piece of a payload; number: its place in the sound, from 0. StreamError for one that is damaged."""
        frames = self.frames(payload)
        left, right = self._reach_of(payload[0] & 15), self._reach_of(payload[0] >> 4)
        piece = SoundPiece.zeros(frames, self.form.channels, self.form.size, self.form.edges)
        sound.decode(payload[2:], piece, self.start.copy(), self.level)
        spectra = dequantised(piece, self.form, self.base, number * FRAMES)
        z = synthesise(spectra, piece.shapes)
        positions, reaches = borders(piece.shapes, self.form.size, 0, 0)
        unrotate(z, positions, reaches)
        last = np.abs(spectra[-1]) if piece.shapes[-1] == 0 else np.zeros_like(spectra[-1])
        return DecodedPiece(z, left, right, last)

    def missing(self, number: int, before: DecodedPiece | None, frames: int = FRAMES) -> DecodedPiece:
        """Something in place of a missing piece: the spectrum before it, which fades away."""
        shape = (frames, self.form.channels, self.form.size)
        spectra = np.zeros(shape)
        if before is not None:
            signs = np.sign(hashed_noise(number * FRAMES * spectra[0].size, spectra.size).reshape(shape) + 0.5)
            fade = _FADE ** np.arange(1, frames + 1)
            spectra = np.floor(signs * before.last * fade[:, None, None])
        shapes = np.zeros(frames, np.int32)
        z = synthesise(spectra, shapes)
        positions, reaches = borders(shapes, self.form.size, 0, 0)
        unrotate(z, positions, reaches)
        return DecodedPiece(z, -1, -1, spectra[-1])


class PieceSplitter:
    """Samples of any number at a time, to pieces as `PieceCoder.encode` takes them: the same, however they come."""

    def __init__(self, form: Format) -> None:
        self.form, self.n_samples = form, 0
        size = form.size
        self._kept = np.zeros((form.channels, 2 * size))  # from two frames before the next piece on
        self._first = True

    def push(self, x: Floats) -> Iterator[tuple[Floats, bool, bool]]:
        """The pieces that are complete with samples x (channels, n) in units of 2^-23: samples, first, last."""
        self.n_samples += x.shape[1]
        self._kept = np.concatenate([self._kept, x], 1)
        size = self.form.size
        while self._kept.shape[1] > (FRAMES + 4) * size:  # so there is at least a sample behind the next piece
            yield self._kept[:, : (FRAMES + 4) * size].copy(), self._first, False
            self._kept, self._first = self._kept[:, FRAMES * size :].copy(), False

    def finish(self) -> Iterator[tuple[Floats, bool, bool]]:
        """The pieces at the end; none for a sound of no samples."""
        size = self.form.size
        left = self._kept.shape[1] - 2 * size
        while left > 0:
            frames = min(FRAMES, -(-left // size))
            x = np.zeros((self.form.channels, (frames + 4) * size))
            part = self._kept[:, : x.shape[1]]
            x[:, : part.shape[1]] = part
            yield x, self._first, left <= FRAMES * size
            self._kept, self._first = self._kept[:, frames * size :], False
            left -= frames * size


class PieceJoiner:
    """Decoded pieces, in order, to samples: the same, wherever the first of them is."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.before: DecodedPiece | None = None
        self._tail = np.zeros((form.channels, 0))

    @property
    def delay(self) -> int:
        """The samples at the end of a piece that come with the next one, and those at the start of the first one that
        a sound begun there can't have."""
        return self.form.size // 2

    def push(self, piece: DecodedPiece) -> Floats:
        """The samples (channels, n) that are complete with a piece, whole numbers of 2^-23."""
        before, tail = self.before, self._tail.shape[1]
        if before is not None and before.samples.shape[1] != FRAMES * self.form.size:
            raise StreamError("a piece of sound is shorter than those before its end are: it is damaged")
        x = np.concatenate([self._tail, piece.samples], 1)
        if before is not None:
            reaches = {before.right, piece.left} - {-1}
            if len(reaches) > 1:
                raise StreamError("two pieces of sound don't fit together: one of them is damaged")
            reach = reaches.pop() if reaches else self.form.size // 2
            unrotate(x, np.array([tail]), np.array([reach]))
        self.before = piece
        self._tail = x[:, -self.delay :]
        return x[:, : -self.delay]

    def finish(self) -> Floats:
        """The samples at the end."""
        return self._tail
