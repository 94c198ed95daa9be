"""Another sample rate for sound: band-limited, aligned with its source, and of an exact length.

    resampler = Resampler(44100, 48000, channels=2)
    parts = [resampler.push(block) for block in blocks] + [resampler.finish()]   # equal to resample() of the whole

soxr does the work, with linear phase and the quality that it calls VHQ: output sample k lies at the time k / rate_out
of the source, without a delay, and beyond its ends the source counts as silence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from .values import MAX_RATE

__all__ = ["MIN_RATE", "Resampler", "length_at", "resample"]

MIN_RATE = 1_000  # Hz

_QUALITY = "VHQ"  # 28 bits; its time is nothing beside that of any encoder
_BLOCK = 1 << 16  # samples per channel that resample() hands over at once
_EXTRA = 4  # samples of the output that the silence behind the source has to give: soxr rounds lengths, we round up


def length_at(n: int, rate_in: int, rate_out: int) -> int:
    """The samples that n samples have at another rate: n * rate_out / rate_in, rounded up.

    Rounded up, no sound gets lost: what has a sample has one at any rate.
    """
    return -(-n * rate_out // rate_in)


class Resampler:
    """A resampler of sound that comes in blocks; what it gives doesn't depend on where they are cut.

    rate_in, rate_out: Hz, 1 kHz to 768 kHz. UsageError for others, and for blocks of another shape.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        for rate in (rate_in, rate_out):
            if not isinstance(rate, (int, np.integer)) or not MIN_RATE <= rate <= MAX_RATE:
                raise UsageError(f"a sample rate of {rate} Hz; expected a whole number from {MIN_RATE} to {MAX_RATE}")
        if channels < 1:
            raise UsageError(f"{channels} channels; expected at least one")
        self.rate_in, self.rate_out, self.channels = int(rate_in), int(rate_out), channels
        self._n_in = self._n_out = 0
        self._is_finished = False
        self._stream: Any = None
        if rate_in != rate_out:
            import soxr

            self._stream = soxr.ResampleStream(rate_in, rate_out, channels, dtype="float32", quality=_QUALITY)

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples, (m, channels), that can be given after a block of (n, channels) float32; m may be 0."""
        if self._is_finished:
            raise UsageError("samples behind the end: this resampler is finished, make another one")
        if block.dtype != np.float32 or block.ndim != 2 or block.shape[1] != self.channels:
            raise UsageError(f"a block of {block.dtype} {block.shape}; expected float32, (n, {self.channels})")
        self._n_in += len(block)
        return self._step(block) if len(block) else block

    def finish(self) -> NDArray[np.float32]:
        """The rest, (m, channels): all that was given has length_at(all that was pushed, rate_in, rate_out) samples."""
        if self._is_finished:
            raise UsageError("this resampler is finished already")
        left = length_at(self._n_in, self.rate_in, self.rate_out) - self._n_out
        self._is_finished = True
        if self._stream is None or not self._n_in:
            return np.zeros((0, self.channels), np.float32)
        silence = np.zeros((length_at(_EXTRA, self.rate_out, self.rate_in), self.channels), np.float32)
        rest = self._stream.resample_chunk(silence, last=True)
        assert 0 <= left <= len(rest), f"soxr gave {len(rest)} samples where {left} are left"
        return rest[:left]

    def _step(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._stream is None:
            self._n_out += len(block)
            return block
        result = self._stream.resample_chunk(np.ascontiguousarray(block))
        self._n_out += len(result)
        return result


def resample(samples: NDArray[np.float32], rate_in: int, rate_out: int) -> NDArray[np.float32]:
    """Sound at another rate: (n, c) float32 to (length_at(n, rate_in, rate_out), c), as a Resampler gives it."""
    if samples.ndim != 2:
        raise UsageError(f"samples of shape {samples.shape}; expected (n, channels)")
    resampler = Resampler(rate_in, rate_out, samples.shape[1])
    parts = [resampler.push(samples[at : at + _BLOCK]) for at in range(0, len(samples), _BLOCK)]
    return np.concatenate([*parts, resampler.finish()])
