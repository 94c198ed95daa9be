"""Delays of decoded sound, measured and taken off.

Codecs of sound pad and look ahead, and containers often don't say by how much: a fixed trim of 1106 samples, right for
one encoder, is 25 ms off for the next. The delay is where the cross-correlation with the original is largest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError
from ..bench.contract import Audio

__all__ = ["MAX_DELAY", "aligned", "delay_of"]

MAX_DELAY = 0.25  # seconds, in either direction


def delay_of(original: NDArray[np.float32], decoded: NDArray[np.float32], most: int) -> int:
    """By how many samples a decoded sound (C, M) comes after the original (C, N), at most so many in either direction.

    0 if either is silent.
    """
    from scipy import fft as scipy_fft

    fft: Any = scipy_fft  # whose types are those of uarray

    a, b = (samples.astype(np.float64).mean(axis=0) for samples in (original, decoded))
    if not a.any() or not b.any():
        return 0
    size = fft.next_fast_len(len(a) + len(b) - 1, real=True)
    product = np.conj(fft.rfft(a, size)) * fft.rfft(b, size)
    correlation = fft.irfft(product, size)
    lags = np.concatenate([np.arange(0, most + 1), np.arange(-most, 0)])
    lags = lags[np.abs(lags) < max(len(a), len(b))]
    return int(lags[np.argmax(correlation[lags])])


def aligned(original: Audio, decoded: Audio) -> tuple[Audio, int]:
    """The decoded sound shifted onto the original, of equal length, and by how much it was late.

    What is missing at an end is silence. StreamError for another number of channels or another sampling rate.
    """
    if decoded.rate != original.rate or len(decoded.samples) != len(original.samples):
        raise StreamError(
            f"decoded to {len(decoded.samples)} channels at {decoded.rate} Hz; expected {len(original.samples)} at "
            f"{original.rate}"
        )
    delay = delay_of(original.samples, decoded.samples, int(MAX_DELAY * original.rate))
    n = original.samples.shape[1]
    moved = decoded.samples[:, max(delay, 0) :]
    moved = np.pad(moved, ((0, 0), (max(-delay, 0), 0)))[:, :n]
    moved = np.pad(moved, ((0, 0), (0, n - moved.shape[1])))
    return Audio(np.ascontiguousarray(moved), original.rate), delay
