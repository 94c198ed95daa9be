"""From pixels to integer latents without torch: wavelet packets, the linear encoder, the compander.

In whole numbers that float64 holds exactly, with about the precision that float32 would have: no sum rounds, so that
neither the number of threads nor the library behind a matrix product decides on a latent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.wavelet import channel_order
from ..base.progress import each
from ..layers.frozen import FrozenState
from ..layers.wavelet_plans import Pieces, transform_pieces
from .config import WallocConfig, largest_latent, rounding_edges

__all__ = ["Analysis", "padded"]

_MATRIX_BITS = 20  # fractional bits of the wavelet's matrices
_BETWEEN_BITS = 28  # of the magnitude of what is between the axes
_COEFFICIENT_BITS = 26  # of the magnitude of coefficients, and of the weights of an output together
_STRIP_PIXELS = 3 << 17  # worked on at a time


def padded(pixels: NDArray[Any], stride: int) -> NDArray[Any]:
    """The picture with sides that are multiples of the stride: mirrored at the bottom and at the right."""
    bottom, right = (-side % stride for side in pixels.shape[:2])
    return np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="symmetric") if bottom or right else pixels


class Analysis:
    """The encoder of the shipped models. ValueError for another one."""

    def __init__(self, state: FrozenState, config: WallocConfig) -> None:
        if config.encoder != "linear" or config.boundary != "symmetric" or config.latent_bits > 8:
            raise ValueError("only the linear encoder with reflected borders is computed here")
        self.config = config
        side = 2**config.levels
        weight = state.floats("encoder.weight", np.float64)[:, :, 0, 0]
        self.bias = state.floats("encoder.bias", np.float64)
        # A power of two for each output, so that its weights are whole numbers whose magnitudes sum to 2**26 or less.
        total = np.abs(weight).sum(1) + 1e-30
        self.scale = np.exp2(_COEFFICIENT_BITS - 1 - np.ceil(np.log2(total)))
        whole = np.rint(weight * self.scale[:, None])
        if float(np.abs(whole).sum(1).max()) > 2.0**_COEFFICIENT_BITS or not np.isfinite(self.scale).all():
            raise ValueError("the encoder's weights can't be written as whole numbers")
        # inputs as they lie in a block: channel, row, column
        self.matrix = np.ascontiguousarray(whole[:, channel_order(3, config.levels)].T)
        self.side = side

    def latents(self, pixels: NDArray[Any], gain16: int) -> NDArray[np.int16]:
        """The integer latents (latent, h, w) of pixels (H, W, 3), uint8 or uint16."""
        config = self.config
        pixels = padded(pixels, self.side)
        height, width = pixels.shape[:2]
        top = float(np.iinfo(pixels.dtype).max)
        across, down = (
            transform_pieces(n, config.levels, config.boundary, False, _MATRIX_BITS) for n in (width, height)
        )
        # The scales of what is between the axes, and of coefficients: powers of two that keep magnitudes in bounds.
        unit = 2.0**-_MATRIX_BITS
        between = _power(_BETWEEN_BITS, top * _gain(down) * unit)
        scale = _power(_COEFFICIENT_BITS, (top * _gain(down) * unit * between + 1) * _gain(across) * unit)
        to_value = 1.0 / (2 * top * between * scale)
        edges, largest = rounding_edges(config.latent_bits), largest_latent(config.latent_bits)
        out = np.empty((config.latent, height // self.side, width // self.side), np.int16)
        per_strip = max(1, _STRIP_PIXELS // (64 * width))
        for at in each(range(0, len(down.pieces), per_strip), "strip", 0.0, 0.9):
            group = down.pieces[at : at + per_strip]
            start, stop = group[0].source.start, group[-1].source.stop
            strip = 2.0 * pixels[start:stop].reshape(stop - start, -1) - top  # (rows, W 3)
            rows = [piece.matrix @ strip[piece.source.start - start : piece.source.stop - start] for piece in group]
            # (C, rows, W): of each channel, rows in one piece for the second axis
            y = np.concatenate(rows).reshape(-1, width, 3).transpose(2, 0, 1) * (unit * between)
            y = np.rint(y, out=y).reshape(-1, width)
            n = y.shape[0] // 3 // self.side
            blocks = np.empty((n, width // self.side, 3, self.side, self.side))
            for piece in across.pieces:
                z = y[:, piece.source] @ piece.matrix.T
                z = np.rint(z * (unit * scale)).reshape(3, n, self.side, -1, self.side)
                blocks[:, piece.out.start // self.side : piece.out.stop // self.side] = z.transpose(1, 3, 0, 2, 4)
            v = blocks.reshape(-1, self.matrix.shape[0]) @ self.matrix
            v = (v * (to_value / self.scale) + self.bias) * 2.0 ** (gain16 / 16)
            low = group[0].out.start // self.side
            integers = (np.searchsorted(edges, v.T.ravel()) - largest).astype(np.int16)
            out[:, low : low + n] = integers.reshape(config.latent, n, -1)
        return out


def _gain(plan: Pieces) -> float:
    """By how much the matrices of a plan, in whole numbers, can raise a magnitude."""
    return max(float(np.abs(piece.matrix).sum(1).max()) for piece in plan.pieces)


def _power(bits: int, largest: float) -> float:
    """The largest power of two that keeps a magnitude within so many bits."""
    return 2.0 ** math.floor(bits - math.log2(largest))
