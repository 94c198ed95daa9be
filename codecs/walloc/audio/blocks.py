"""The lapped transform of the shipped models: frames of one to eight blocks, rotations at their borders, and DCT-IV.

An MDCT (Princen, Johnson, Bradley, "Subband/transform coding using filter bank designs based on time domain aliasing
cancellation", ICASSP 1987) as two orthogonal steps: at the border of two blocks, samples at the same distance to both
sides are rotated against each other; then each block goes through a DCT-IV. At a border the rotation reaches half of
the shorter block, as in Vorbis. At the two ends of a sound it reaches nothing: no sample before the first is needed.

Analysis is in float64. Synthesis is exact: tables and coefficients are integers that float64 carries, sums stay below
2^53, and each step ends with one rounding, so that every machine makes the same samples.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ....errors import StreamError

__all__ = ["FULL_SCALE", "SHAPES", "analyse", "borders", "rotate", "synthesise", "uniform_spectra", "unrotate"]

SHAPES = 4  # a frame is 1, 2, 4 or 8 blocks
FULL_SCALE = 1 << 23  # a sample of 1.0; decoded samples are whole numbers of this unit
_TABLE_BITS, _WINDOW_BITS = 23, 20
_TILE = 64

Floats = NDArray[np.float64]


@lru_cache(maxsize=16)
def _window(reach: int) -> tuple[Floats, Floats]:
    """The cosines and sines of the rotation at distance 1/2, 3/2, ... from a border: Vorbis's slope."""
    place = (reach + np.arange(reach) + 0.5) / (2 * reach)
    angle = np.pi / 2 * np.sin(np.pi / 2 * place) ** 2
    return np.sin(angle), np.cos(angle)


@lru_cache(maxsize=16)
def _window_integers(reach: int) -> tuple[Floats, Floats]:
    near, far = _window(reach)
    return np.rint(near * 2.0**_WINDOW_BITS), np.rint(far * 2.0**_WINDOW_BITS)


@lru_cache(maxsize=8)
def _table(size: int) -> Floats:
    """The DCT-IV of a block as whole numbers of 2^-23: (size, size), symmetric."""
    k = np.arange(size) + 0.5
    return np.rint(np.cos(np.pi / size * np.outer(k, k)) * np.sqrt(2 / size) * 2.0**_TABLE_BITS)


@lru_cache(maxsize=8)
def _tiles(size: int) -> tuple[Floats, float]:
    """The table of a block in tiles, (size / 64, size / 64, 64, 64), and its largest entry."""
    table = _table(size)
    tiles = table.reshape(size // _TILE, _TILE, size // _TILE, _TILE).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiles), float(table.max())


def _transformed(blocks: Floats, tiles: Floats) -> Floats:
    """The products of blocks (n, size) and a table in tiles; whole numbers, which are exact in any order.

    In products so small that no BLAS divides them among threads, which would wait for each other: pieces are decoded
    in threads already.
    """
    n, size = blocks.shape
    out = np.empty((n, size // _TILE, _TILE))
    for start in range(0, n, _TILE):
        rows = blocks[start : start + _TILE]
        total = np.zeros((size // _TILE, len(rows), _TILE))
        for number, row_of_tiles in enumerate(tiles):
            total += rows[:, number * _TILE : (number + 1) * _TILE] @ row_of_tiles
        out[start : start + _TILE] = total.transpose(1, 0, 2)
    return out.reshape(n, size)


def borders(shapes: NDArray[np.int32], size: int, first: int = 0, last: int = 0) -> tuple[NDArray[np.int64], ...]:
    """The positions of the borders of all blocks of frames, and how far the rotation at each reaches to both sides.

    shapes: (frames,). first, last: the reach at the two ends, 0 where the sound begins or ends.
    """
    sizes = np.concatenate([np.full(1 << int(shape), size >> int(shape), np.int64) for shape in shapes])
    inner = np.minimum(sizes[1:], sizes[:-1]) // 2
    return np.concatenate([[0], np.cumsum(sizes)]), np.concatenate([[first], inner, [last]])


def _pairs(positions: NDArray[np.int64], reach: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    steps = np.arange(reach)
    return positions[:, None] + steps, positions[:, None] - 1 - steps


def rotate(x: Floats, positions: NDArray[np.int64], reaches: NDArray[np.int64]) -> None:
    """Rotates samples (channels, n) at borders, in place."""
    for reach in np.unique(reaches[reaches > 0]):
        right, left = _pairs(positions[reaches == reach], int(reach))
        near, far = _window(int(reach))
        a, c = x[:, right], x[:, left]
        x[:, right], x[:, left] = near * a + far * c, near * c - far * a


def unrotate(x: Floats, positions: NDArray[np.int64], reaches: NDArray[np.int64]) -> None:
    """Undoes `rotate` on whole numbers, in place; whole numbers come out."""
    for reach in np.unique(reaches[reaches > 0]):
        right, left = _pairs(positions[reaches == reach], int(reach))
        near, far = _window_integers(int(reach))
        a, c = x[:, right], x[:, left]
        x[:, right] = _rounded(near * a - far * c, _WINDOW_BITS)
        x[:, left] = _rounded(far * a + near * c, _WINDOW_BITS)


def _rounded(x: Floats, bits: int) -> Floats:
    x *= 2.0**-bits
    x += 0.5
    return np.floor(x, out=x)


@lru_cache(maxsize=8)
def _twiddles(size: int) -> NDArray[np.complex128]:
    return np.exp(-1j * np.pi / size * (np.arange(size // 2) + 0.125))


def _dct4(x: Floats) -> Floats:
    """The orthonormal DCT-IV of the last axis, by an FFT of half the size."""
    size = x.shape[-1]
    turn = _twiddles(size)
    spectrum = np.fft.fft((x[..., 0::2] + 1j * x[..., ::-1][..., 0::2]) * turn, axis=-1) * turn
    out = np.empty_like(x)
    out[..., 0::2] = spectrum.real
    out[..., ::-1][..., 0::2] = -spectrum.imag
    out *= np.sqrt(2 / size)
    return out


def analyse(x: Floats, shapes: NDArray[np.int32], size: int) -> Floats:
    """The spectra (frames, channels, size) of rotated samples (channels, frames * size), block after block."""
    channels = len(x)
    frames = x.reshape(channels, -1, size).transpose(1, 0, 2)
    out = np.empty(frames.shape)
    for shape in np.unique(shapes):
        where = shapes == shape
        blocks = frames[where].reshape(-1, channels, 1 << int(shape), size >> int(shape))
        out[where] = _dct4(blocks).reshape(-1, channels, size)
    return out


def uniform_spectra(x: Floats, block: int) -> Floats:
    """The spectra (blocks, block) of samples (n,) in blocks of one size; the ends of the sound are as they are."""
    blocks = x.reshape(-1, block).copy()
    half = block // 2
    near, far = _window(half)
    right, left = blocks[1:, :half].copy(), blocks[:-1, half:][:, ::-1].copy()
    blocks[1:, :half] = near * right + far * left
    blocks[:-1, half:] = (near * left - far * right)[:, ::-1]
    return _dct4(blocks)


def synthesise(spectra: Floats, shapes: NDArray[np.int32]) -> Floats:
    """The samples (channels, frames * size), not yet unrotated, of spectra of whole numbers; whole numbers come out.

    StreamError for spectra that are louder than any sound can be.
    """
    frames, channels, size = spectra.shape
    out = np.empty((frames, channels, size))
    for shape in np.unique(shapes):
        where, block = shapes == shape, size >> int(shape)
        tiles, largest = _tiles(block)
        blocks = spectra[where].reshape(-1, block)
        if np.abs(blocks).sum(1).max() > 2.0**53 / largest - 1:
            raise StreamError("a block is louder than any sound can be: the file is damaged")
        out[where] = _rounded(_transformed(blocks, tiles), _TABLE_BITS).reshape(-1, channels, size)
    return np.ascontiguousarray(out.transpose(1, 0, 2)).reshape(channels, -1)
