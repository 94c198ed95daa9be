"""From pixels to integer latents without torch: wavelet packets, the linear encoder, the compander.

In float32, as torch does it, with other roundings: an encoder needn't be the same on every machine. On one machine it
is, whatever the number of threads and the strips.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.floats import Conv, Packet, empty
from ...native.grids import Rows
from ..base.progress import each
from ..layers.frozen import FrozenState
from .config import WallocConfig, largest_latent, rounding_edges

__all__ = ["Analysis"]

_STRIP_PIXELS = 3 << 16  # worked on at a time


class Analysis:
    """The encoder of the shipped models. ValueError for another one."""

    def __init__(self, state: FrozenState, config: WallocConfig) -> None:
        if config.encoder != "linear":
            raise ValueError("only the linear encoder is computed here")
        self.config = config
        self.packet = Packet(config.levels, 3, config.boundary)
        weight = state.floats("encoder.weight")[:, :, 0, 0]
        ordered = np.empty_like(weight)
        ordered[:, self.packet.order()] = weight
        self.linear = Conv(ordered, state.floats("encoder.bias"))
        self.rounding = _Rounding(rounding_edges(config.latent_bits), largest_latent(config.latent_bits))

    def latents(self, pixels: NDArray[Any], gain16: int) -> NDArray[np.int16]:
        """The integer latents (latent, h, w) of pixels (H, W, 3), uint8 or uint16; beyond them is their mirror image."""
        config, side = self.config, self.config.stride
        h, w = (-(-size // side) for size in pixels.shape[:2])
        scale = 1.0 / float(np.iinfo(pixels.dtype).max)
        gain = np.full(config.latent, 2.0 ** (gain16 / 16), np.float32)
        out = np.empty((config.latent, h, w), np.int16)
        step = max(1, _STRIP_PIXELS // (side * side * w))
        for top in each(range(0, h, step), "strip", 0.0, 0.9):
            bottom = min(h, top + step)
            coefficients = Rows(empty(bottom - top, w, config.bands), top, h)
            self.packet.rows(pixels, top, bottom, (h, w), coefficients, scale, -0.5)
            v = Rows(empty(bottom - top, w, config.latent), top, h)
            self.linear.rows(coefficients, top, bottom, v, gain=gain)
            out[:, top:bottom] = self.rounding(v.array).transpose(2, 0, 1)
        return out


class _Rounding:
    """The integers between rising edges, -largest below the first one: the compander and its rounding in one.

    A value's cell on a grid of equal steps, narrower than any two edges are apart, says all but whether it is beyond
    the one edge in there.
    """

    def __init__(self, edges: NDArray[np.float64], largest: int) -> None:
        self._end = float(np.float32(edges[-1] + 1))
        step = min(float(np.diff(edges).min()), 1.0) / 2 if len(edges) > 1 else 0.5
        count = int(np.ceil(2 * self._end / step)) + 1
        self._per_unit = np.float32(1 / step)
        # An integer, and the edge to its right, for each cell; a cell's left end is rounded with room to the left.
        cells = np.arange(count) * step - self._end - 1e-3 * step
        index = np.searchsorted(edges, cells, "right")
        self._integer = (index - largest).astype(np.int16)
        self._edge = np.append(edges, np.inf)[index].astype(np.float32)

    def __call__(self, v: NDArray[np.float32]) -> NDArray[np.int16]:
        inside = np.clip(v, -self._end, self._end)
        cell = ((inside + np.float32(self._end)) * self._per_unit).astype(np.int32)
        return self._integer[cell] + (inside > self._edge[cell])
