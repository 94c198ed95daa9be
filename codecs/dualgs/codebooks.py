"""Spherical harmonics over time as indices into codebooks, which stay until they change.

Jiang et al. 2024, section 4: a codebook for each band of harmonics, the same for all frames of a segment; the indices
of a frame are those of the frame before, but for the few that change. Here the entries are offsets from the base frame,
the first of them zero, so that the first frame of a segment needs no table of indices either; and a Gaussian keeps its
index as long as the entry is near enough.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError
from .symbols import NumberCoder

__all__ = ["MOST_ENTRIES", "Codebook", "bands_of", "fit_codebook", "indexed"]

MOST_ENTRIES = 1 << 13
_PER_ENTRY = 24  # vectors that change, for each entry
_ROUNDS, _SAMPLES = 8, 1 << 15
_HEAD = struct.Struct("<H")


def bands_of(n_coefficients: int) -> list[slice]:
    """The coefficients of each degree above 0, among those above 0, as slices."""
    out, degree = [], 1
    while (degree + 1) ** 2 <= n_coefficients:
        out.append(slice(degree**2 - 1, (degree + 1) ** 2 - 1))
        degree += 1
    return out


@dataclass(frozen=True, eq=False)
class Codebook:
    """The entries of a codebook in whole steps, (K, width) int32; the first is zero. bits: of an index."""

    entries: NDArray[np.int32]

    @property
    def bits(self) -> int:
        return max(1, (len(self.entries) - 1).bit_length())

    def pack(self) -> bytes:
        """The stream of the entries."""
        n, width = self.entries.shape
        coder = NumberCoder(1, 3, n * width)
        for column in range(width):
            coder.code(_contexts(self.entries, column), np.zeros(n, np.int64), self.entries[:, column].astype(np.int64))
        return _HEAD.pack(n) + coder.finish()

    @staticmethod
    def unpack(data: bytes, width: int) -> Codebook:
        """The codebook of a stream. StreamError for a damaged one."""
        n = _HEAD.unpack_from(data)[0] if len(data) >= _HEAD.size else 0
        if not 1 <= n <= MOST_ENTRIES:
            raise StreamError(f"a codebook of {n} entries; expected 1 to {MOST_ENTRIES}: the file is damaged")
        coder = NumberCoder(1, 3, n * width, data[_HEAD.size :])
        entries = np.zeros((n, width), np.int32)
        for column in range(width):
            read = coder.code(_contexts(entries, column), np.zeros(n, np.int64))
            entries[:, column] = np.clip(read, -(1 << 28), 1 << 28)
        coder.finish()
        return Codebook(entries)


def _contexts(entries: NDArray[np.int32], column: int) -> list[NDArray[np.int64]]:
    zero = np.zeros(len(entries), np.int64)
    before = entries[:, column - 1].astype(np.int64) if column else zero
    third = entries[:, column - 3].astype(np.int64) if column > 2 else zero
    a, b = np.clip(before, -31, 31) & 63, np.clip(third, -31, 31) & 63
    return [np.full_like(zero, column), a << 6 | column, (a << 6 | b) << 6 | column]


def fit_codebook(wanted: NDArray[np.float64], tolerance: float) -> Codebook:
    """The codebook for offsets (T, N, width) from the base frame, in steps. tolerance: of a coefficient, as a root mean
    square.
    """
    width = wanted.shape[2]
    far = (wanted * wanted).sum(2) > tolerance * tolerance * width
    samples = wanted[far]
    n = min(MOST_ENTRIES, len(samples) // _PER_ENTRY)
    n = 1 << (n.bit_length() - 1) if n > 1 else min(n, 1)
    if n < 1:
        return Codebook(np.zeros((1, width), np.int32))
    random = np.random.default_rng(1)
    if len(samples) > max(_SAMPLES, 4 * n):
        samples = samples[random.choice(len(samples), max(_SAMPLES, 4 * n), replace=False)]
    centres = np.zeros((n + 1 if n + 1 <= MOST_ENTRIES else n, width))
    centres[1:] = samples[random.choice(len(samples), len(centres) - 1, replace=False)]
    for _ in range(_ROUNDS):
        nearest = _nearest(samples, centres)
        counts = np.bincount(nearest, minlength=len(centres))
        for axis in range(width):
            sums = np.bincount(nearest, samples[:, axis], len(centres))
            centres[1:, axis] = np.where(counts[1:] > 0, sums[1:] / np.maximum(counts[1:], 1), centres[1:, axis])
    entries = np.rint(centres).astype(np.int32)
    return Codebook(np.concatenate([entries[:1], np.unique(entries[1:], axis=0)]))


def indexed(wanted: NDArray[np.float64], codebook: Codebook, tolerance: float) -> NDArray[np.int32]:
    """The indices (T, N) of offsets (T, N, width): each is kept as long as its entry is within the tolerance."""
    entries = codebook.entries.astype(np.float64)
    out = np.zeros(wanted.shape[:2], np.int32)
    now = np.zeros(wanted.shape[1], np.int32)
    limit = tolerance * tolerance * wanted.shape[2]
    for t, vectors in enumerate(wanted):
        error = ((vectors - entries[now]) ** 2).sum(1)
        rows = np.flatnonzero(error > limit)
        if len(rows):
            nearest = _nearest(vectors[rows], entries)
            gain = error[rows] - ((vectors[rows] - entries[nearest]) ** 2).sum(1)
            better = gain > 0.25 * limit
            now[rows[better]] = nearest[better]
        out[t] = now
    return out


def _nearest(x: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int32]:
    squares = (centres**2).sum(1)
    out = np.empty(len(x), np.int32)
    for start in range(0, len(x), 1 << 11):
        part = x[start : start + (1 << 11)]
        out[start : start + len(part)] = np.argmin(squares - 2.0 * (part @ centres.T), axis=1)
    return out
