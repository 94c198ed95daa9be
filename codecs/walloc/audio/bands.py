"""Bands of frequency, steps and levels of noise of the lapped model, in integers that files depend on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_BASE", "STEP_BITS", "band_edges", "frame_size", "hashed_noise", "noise_gains", "steps"]

MAX_BASE = 512  # steps are 2^(n/16) units of 2^-23 of full scale, n below this
STEP_BITS = 8
_SIXTEENTHS = (256, 267, 279, 292, 304, 318, 332, 347, 362, 378, 395, 412, 431, 450, 470, 490)


def frame_size(rate: int) -> int:
    """The samples of a frame, 32 to 64 ms where sounds have 8 to 64 kHz."""
    return 512 if rate < 12_000 else 1024 if rate < 26_000 else 2048


@lru_cache(maxsize=16)
def band_edges(size: int, rate: int) -> NDArray[np.int32]:
    """The edges of the bands of a frame of one block, (bands + 1,): about a Bark each, multiples of 8.

    Bark as Traunmueller, "Analytical expressions for the tonotopic sensory scale", JASA 1990, in whole Hz.
    """
    edges, at = [0], 0
    while at < size:
        start = at * rate // (2 * size)  # Hz
        width = 90 + start // 7 if start < 15_000 else 3_000 if start < 24_000 else start // 2
        at = min(size, at + max(8, 8 * round(width * 2 * size / rate / 8)))
        if size - at < 8 * max(1, round(width * size / rate / 8)):
            at = size
        edges.append(at)
    assert len(edges) <= 64
    out = np.array(edges, np.int32)
    out.flags.writeable = False
    return out


@lru_cache(maxsize=1)
def steps() -> NDArray[np.float64]:
    """The step of each index n, 2^8 2^(n / 16) as whole numbers, (MAX_BASE,)."""
    return np.array([_SIXTEENTHS[n % 16] << n // 16 for n in range(MAX_BASE)], dtype=np.float64)


@lru_cache(maxsize=1)
def noise_gains() -> NDArray[np.float64]:
    """2^16 times the amplitude, in steps, of the uniform noise of each level, (16,): sqrt(3) 2^(-(level + 1) / 2)."""
    even, odd = 113512, 80265  # 2^16 sqrt(3), and over sqrt(2)
    return np.array([0] + [(even if level % 2 else odd) >> (level + 1) // 2 for level in range(1, 16)], np.float64)


def hashed_noise(first: int, count: int) -> NDArray[np.float64]:
    """Numbers that look random, from -2^15 to 2^15 - 1, one for each index first, first + 1, ..."""
    h = (np.arange(first, first + count, dtype=np.uint64) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return (h >> np.uint32(16)).astype(np.float64) - 32768.0
