"""The distance of decoded samples from the original ones: squared error and PSNR. Imports NumPy alone.

One rule for samples that are all equal: their squared error is 0 and their PSNR is infinite. A caller that stores or
averages decibels, and needs a finite number, says the largest one that it can use: `at_most`. It bounds every PSNR,
so a lossless result never has less than one with an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PEAK", "mse", "mse_of_psnr", "pooled_mse", "psnr", "psnr_of_frames", "psnr_of_mse", "squared_error"]

PEAK = 255.0  # of samples of 8 bits

Samples = NDArray[Any]
_AT_ONCE = 1 << 20  # samples whose differences are held at a time


def squared_error(a: Samples, b: Samples) -> float:
    """The sum of squared differences of two arrays of one shape, computed in float64.

    It is exact for integers of up to 16 bits as long as the sum is below 2**53. ValueError if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"arrays of shapes {a.shape} and {b.shape}; expected equal shapes")
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    total = 0.0
    for start in range(0, flat_a.size, _AT_ONCE):
        difference = flat_a[start : start + _AT_ONCE].astype(np.float64)
        difference -= flat_b[start : start + _AT_ONCE]
        total += float(np.dot(difference, difference))
    return total


def mse(a: Samples, b: Samples) -> float:
    """The mean squared error of two arrays of one shape, in squared units of a sample. ValueError if they are empty."""
    return pooled_mse([(a, b)])


def pooled_mse(pairs: Iterable[tuple[Samples, Samples]]) -> float:
    """The mean squared error over all samples of all pairs of arrays, so that each sample counts the same.

    ValueError if there is no sample.
    """
    total, n_samples = 0.0, 0
    for a, b in pairs:
        total += squared_error(a, b)
        n_samples += a.size
    if not n_samples:
        raise ValueError("no samples; expected at least one to compare")
    return total / n_samples


def psnr_of_mse(mse: float, peak: float = PEAK, at_most: float = math.inf) -> float:
    """The peak signal-to-noise ratio, in decibels, of a mean squared error; `at_most` if that error is 0.

    peak: the largest value of a sample, in the unit that `mse` is the square of.
    """
    share = mse / peak**2
    return min(-10 * math.log10(share), at_most) if share != 0 else at_most


def mse_of_psnr(decibels: float, peak: float = PEAK) -> float:
    """The mean squared error of a PSNR in decibels, in squared units of a sample; 0 if it is infinite."""
    return 10 ** (-decibels / 10) * peak**2


def psnr(a: Samples, b: Samples, peak: float = PEAK, at_most: float = math.inf) -> float:
    """The PSNR of two arrays of one shape, over all of their samples, in decibels."""
    return psnr_of_mse(mse(a, b), peak, at_most)


def psnr_of_frames(
    decoded: Iterable[Sequence[Samples]],
    original: Iterable[Sequence[Samples]],
    peak: float = PEAK,
    at_most: float = math.inf,
) -> float:
    """The PSNR of a video, over all samples of all planes of all frames, in decibels.

    A frame is a sequence of planes, whose shapes may differ (chroma of 4:2:0). ValueError if the frames, or the planes
    of one, are of different numbers.
    """
    planes = (pair for a, b in zip(decoded, original, strict=True) for pair in zip(a, b, strict=True))
    return psnr_of_mse(pooled_mse(planes), peak, at_most)
