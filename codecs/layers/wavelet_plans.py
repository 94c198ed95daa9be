"""The wavelet packet transform of `wavelet.py` as banded matrices in NumPy, without torch.

Filters: Cohen, Daubechies, Feauveau 1992 (`bior4.4` in PyWavelets), by lifting.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Boundary = Literal["symmetric", "periodization"]

# Lifting factors of the CDF 9/7 pair (Daubechies and Sweldens 1998, section 7.7) and the final scaling.
# With this scale the low-pass filter has a DC gain of sqrt(2), as `bior4.4` has.
_ALPHA = -1.586134342059924
_BETA = -0.052980118572961
_GAMMA = 0.882911075530934
_DELTA = 0.443506852043971
_LOW_SCALE = 1.149604398860241
_HIGH_SCALE = 1.0 / _LOW_SCALE

CHUNK = 64  # samples per matrix product


def _next(x: NDArray, boundary: Boundary) -> NDArray:
    """The next sample x[n + 1] of each; past the end, its reflection about the last odd sample, or the first value."""
    return np.concatenate([x[1:], x[:1] if boundary == "periodization" else x[-1:]])


def _previous(x: NDArray, boundary: Boundary) -> NDArray:
    return np.concatenate([x[-1:] if boundary == "periodization" else x[:1], x[:-1]])


def split(x: NDArray, boundary: Boundary) -> tuple[NDArray, NDArray]:
    """The low and high bands, (N/2, ...) each, of x (N, ...): one CDF 9/7 level along axis 0 by lifting; N is even."""
    low, high = x[0::2].copy(), x[1::2].copy()
    high += _ALPHA * (low + _next(low, boundary))
    low += _BETA * (high + _previous(high, boundary))
    high += _GAMMA * (low + _next(low, boundary))
    low += _DELTA * (high + _previous(high, boundary))
    return low * _LOW_SCALE, high * -_HIGH_SCALE


def merge(low: NDArray, high: NDArray, boundary: Boundary) -> NDArray:
    """The inverse of `split`."""
    low, high = low / _LOW_SCALE, high / -_HIGH_SCALE
    low = low - _DELTA * (high + _previous(high, boundary))
    high = high - _GAMMA * (low + _next(low, boundary))
    low = low - _BETA * (high + _previous(high, boundary))
    high = high - _ALPHA * (low + _next(low, boundary))
    return np.stack([low, high], axis=1).reshape(-1, *low.shape[1:])


@lru_cache(maxsize=64)
def analysis_matrix(n: int, levels: int, boundary: Boundary) -> NDArray[np.float64]:
    """The matrix of J packet levels on n samples, (n, n). Row 2**J * block + band: a block's bands lie together.

    Bands are numbered with the latest split fastest (natural order, the order of the authors' code).
    """
    bands = [np.eye(n)]
    for _ in range(levels):
        bands = [half for band in bands for half in split(band, boundary)]
    return np.stack(bands, axis=1).reshape(n, n)


@lru_cache(maxsize=64)
def synthesis_matrix(n: int, levels: int, boundary: Boundary) -> NDArray[np.float64]:
    """The inverse of `analysis_matrix`, (n, n): columns are (block, band)."""
    unit = np.eye(n).reshape(n // 2**levels, 2**levels, n)
    bands = [unit[:, b] for b in range(2**levels)]
    while len(bands) > 1:
        bands = [merge(bands[i], bands[i + 1], boundary) for i in range(0, len(bands), 2)]
    return bands[0]


class PlanPiece(NamedTuple):
    """One piece of a transform: output[out] = matrix @ input[source]; pieces of one body share their matrix."""

    out: slice
    source: slice
    matrix: NDArray[np.float64]  # (samples out, samples in)


class Pieces(NamedTuple):
    """The pieces of a transform along one axis. wrap: samples by which the input is extended at both ends, wrapped."""

    wrap: int
    pieces: tuple[PlanPiece, ...]


@lru_cache(maxsize=64)
def transform_pieces(n: int, levels: int, boundary: Boundary, inverse: bool, fraction_bits: int | None) -> Pieces:
    """The plan that transforms n samples piece by piece. Away from the borders rows repeat: chunks share one matrix.

    fraction_bits: matrix entries are rounded to multiples of 2**-fraction_bits and held as integers (None: as they
    are).
    """
    make = synthesis_matrix if inverse else analysis_matrix
    reach = 4 * 2**levels  # the longest filter of J levels spans 4 (2**J - 1) samples to each side

    def matrix(size: int, rows: slice, columns: slice) -> NDArray[np.float64]:
        m = make(size, levels, boundary)[rows, columns]
        return np.ascontiguousarray(m if fraction_bits is None else np.rint(m * 2.0**fraction_bits))

    if n <= 2 * (CHUNK + reach):
        return Pieces(0, (PlanPiece(slice(0, n), slice(0, n), matrix(n, slice(None), slice(None))),))
    inner = 2 * (CHUNK + 2 * reach)  # a signal long enough for one chunk to be out of reach of both its ends
    body = matrix(inner, slice(2 * reach, 2 * reach + CHUNK), slice(reach, 3 * reach + CHUNK))
    if boundary == "periodization":
        chunks = []
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            chunks.append(
                PlanPiece(
                    slice(start, start + size), slice(start, start + size + 2 * reach), body[:size, : size + 2 * reach]
                )
            )
        return Pieces(reach, tuple(chunks))
    size = CHUNK + 2 * reach
    head = matrix(size, slice(0, CHUNK), slice(0, CHUNK + reach))
    chunks = [PlanPiece(slice(0, CHUNK), slice(0, CHUNK + reach), head)]
    start = CHUNK
    while n - start >= 2 * CHUNK + reach:
        chunks.append(PlanPiece(slice(start, start + CHUNK), slice(start - reach, start + CHUNK + reach), body))
        start += CHUNK
    rest = n - start
    size = rest + 2 * reach
    tail = matrix(size, slice(2 * reach, size), slice(reach, size))
    chunks.append(PlanPiece(slice(start, n), slice(start - reach, n), tail))
    return Pieces(0, tuple(chunks))
