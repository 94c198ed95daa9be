"""The wavelet packet transform of `wavelet.py` as banded matrices in NumPy, without torch.

Filters: Cohen, Daubechies, Feauveau 1992 (`bior4.4` in PyWavelets), by lifting.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...native.wavelet import (
    ALPHA,
    BETA,
    DELTA,
    GAMMA,
    HIGH_SCALE,
    LOW_SCALE,
    Boundary,
    following,
    previous,
    synthesis_matrix,
)

CHUNK = 64  # samples per matrix product


def split(x: NDArray, boundary: Boundary) -> tuple[NDArray, NDArray]:
    """The low and high bands, (N/2, ...) each, of x (N, ...): one CDF 9/7 level along axis 0 by lifting; N is even."""
    low, high = x[0::2].copy(), x[1::2].copy()
    high += ALPHA * (low + following(low, boundary))
    low += BETA * (high + previous(high, boundary))
    high += GAMMA * (low + following(low, boundary))
    low += DELTA * (high + previous(high, boundary))
    return low * LOW_SCALE, high * -HIGH_SCALE


@lru_cache(maxsize=64)
def analysis_matrix(n: int, levels: int, boundary: Boundary) -> NDArray[np.float64]:
    """The matrix of J packet levels on n samples, (n, n). Row 2**J * block + band: a block's bands lie together.

    Bands are numbered with the latest split fastest (natural order, the order of the authors' code).
    """
    bands = [np.eye(n)]
    for _ in range(levels):
        bands = [half for band in bands for half in split(band, boundary)]
    return np.stack(bands, axis=1).reshape(n, n)


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
