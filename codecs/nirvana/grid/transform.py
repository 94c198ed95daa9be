"""Planes to coefficient grids and back, exactly: DCTs of 8x8 and 16x16 samples, arranged as 64 grids of blocks.

Both transforms are orthonormal up to the rounding of their matrices to multiples of 2**-12. A 16x16 block fills the
same 64 grids as the four 8x8 blocks that it covers, its frequencies dealt out to them by turns: whoever predicts one
coefficient from its neighbours needn't know which transform made them.

Samples are integers in sixteenths, steps are integers in sixteenths, all sums are integers below 2**53 in float64.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

SIDE = 8
BANDS = SIDE * SIDE
PAD = 16  # planes are coded at multiples of this
FINE = 16  # units of a sample's value
_BITS = 12
_LIMIT = float(1 << 17)  # of a coefficient times FINE


@lru_cache(maxsize=1)
def steps() -> tuple[int, ...]:
    """The quantiser steps in sixteenths of a sample: eight to an octave, from 1 to about 400."""
    return tuple(round(FINE * 2 ** (i / 8)) for i in range(70))


@lru_cache(maxsize=2)
def matrix(n: int) -> Float:
    """The orthonormal DCT of n samples times 2**12: (n, n) whole numbers, rows are frequencies."""
    k, x = np.arange(n)[:, None], np.arange(n)[None]
    basis = np.cos(np.pi * (2 * x + 1) * k / (2 * n)) * np.sqrt(2 / n)
    basis[0] = np.sqrt(1 / n)
    return np.floor(basis * 2**_BITS + 0.5)


@lru_cache(maxsize=1)
def _square() -> Float:
    return np.kron(matrix(8), matrix(8))


def padded(plane: NDArray[Any]) -> NDArray[Any]:
    """The plane with its last row and column repeated, to sides that are multiples of 16."""
    h, w = plane.shape
    return np.pad(plane, ((0, -h % PAD), (0, -w % PAD)), mode="edge")


def blocks(x: Float, n: int) -> Float:
    """Cuts a plane (H, W) into blocks (H / n, W / n, n, n): a view."""
    h, w = x.shape
    return x.reshape(h // n, n, w // n, n).swapaxes(1, 2)


def forward(x: Float) -> Float:
    """The coefficients of 8x8 blocks: (H, W) -> (64, H / 8, W / 8), in units of 2**-24 of x's."""
    h, w = x.shape
    coefficients = blocks(x, 8).reshape(-1, BANDS) @ _square().T
    return coefficients.T.reshape(BANDS, h // 8, w // 8)


def forward_bands(pieces: Float, bands: tuple[int, ...] | None) -> Float:
    """Some or all coefficients of 8x8 blocks: (n, 64) -> (len(bands), n) or (64, n), in units of 2**-24."""
    square = _square() if bands is None else _square()[list(bands)]
    return square @ pieces.T


def forward16(x: Float, where: Bool) -> Float:
    """The coefficients (64, 2, 2, n) of the n 16x16 blocks at `where` (H / 16, W / 16), dealt out."""
    coefficients = matrix(16) @ blocks(x, 16)[where] @ matrix(16).T  # (n, 16, 16)
    return coefficients.reshape(-1, 8, 2, 8, 2).transpose(1, 3, 2, 4, 0).reshape(BANDS, 2, 2, -1)


def of_pairs(grid: NDArray[Any]) -> NDArray[Any]:
    """The grids (64, h, w) by the 2x2 blocks that a 16x16 one covers: (64, 2, 2, h / 2, w / 2), a view."""
    bands, h, w = grid.shape
    return grid.reshape(bands, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3)


def forward_mixed(x: Float, large: Bool | None) -> Float:
    """The coefficients of `forward`, those of 16x16 blocks where `large` (H / 16, W / 16) says so."""
    coefficients = forward(x)
    if large is not None and large.any():
        of_pairs(coefficients)[:, :, :, large] = forward16(x, large)
    return coefficients


def inverse(coefficients: Float, large: Bool | None, active: Bool) -> Float:
    """The plane of coefficients: (64, h, w) in sixteenths -> (8 h, 8 w) samples in sixteenths, rounded.

    large: (h / 2, w / 2), which blocks are 16x16. active: (h, w), blocks that aren't all zero.
    """
    h, w = coefficients.shape[1:]
    out = np.zeros((h, w, SIDE, SIDE))
    small = active
    if large is not None and large.any():
        whole = large & active.reshape(h // 2, 2, w // 2, 2).any((1, 3))
        dealt = np.clip(of_pairs(coefficients)[:, :, :, whole], -_LIMIT, _LIMIT)  # (64, 2, 2, n)
        square = dealt.reshape(8, 8, 2, 2, -1).transpose(4, 0, 2, 1, 3).reshape(-1, 16, 16)
        samples = _rounded(matrix(16).T @ square @ matrix(16))
        view = out.reshape(h // 2, 2, w // 2, 2, 8, 8).transpose(0, 2, 1, 4, 3, 5)  # (h/2, w/2, 2, 8, 2, 8)
        view[whole] = samples.reshape(-1, 2, 8, 2, 8)
        small = active & ~large.repeat(2, 0).repeat(2, 1)
    if small.any():
        at = np.flatnonzero(small)
        c = np.clip(coefficients.reshape(BANDS, -1).take(at, axis=1), -_LIMIT, _LIMIT)
        out.reshape(-1, BANDS)[at] = _rounded(c.T @ _square())
    return out.swapaxes(1, 2).reshape(8 * h, 8 * w)


def _rounded(samples: Float) -> Float:
    samples *= 2.0 ** (-2 * _BITS)
    samples += 0.5
    return np.floor(samples, out=samples)


def averages_of(band0: Float, large: Bool | None) -> Float:
    """The DC grid as if all blocks were 8x8: a 16x16 block's four lowest coefficients stand for four means."""
    if large is None or not large.any():
        return band0
    return _haar(band0, large)


band0_of = averages_of  # the Haar transform of 2x2 is its own inverse


def _haar(grid: Float, where: Bool) -> Float:
    out = grid.copy()
    view = of_pairs(out[None])[0]
    a, b, c, d = (view[i, j][where] for i in (0, 1) for j in (0, 1))
    view[0, 0][where], view[0, 1][where] = (a + b + c + d) / 2, (a - b + c - d) / 2
    view[1, 0][where], view[1, 1][where] = (a + b - c - d) / 2, (a - b - c + d) / 2
    return out
