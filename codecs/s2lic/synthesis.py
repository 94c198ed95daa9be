"""The synthesis of S2LIC's network `small` in integers and by rows: latents to pixels, without torch.

`Synthesis` of layers/exact_synthesis.py behind the gain that S2LIC's latents have. `S2licNet.pixels` of network.py,
after `freeze`, is the oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.grids import Grid
from ...native.pixels import regrid
from ..layers import exact_synthesis
from ..layers.frozen import FrozenState
from ..layers.quality_knots import gain_factor
from ..layers.streaming import Chain, Window
from .config import MEAN_BITS, S2licConfig

__all__ = ["Synthesis"]


class Synthesis:
    """The layers of the synthesis; ValueError if a sum of theirs can't be proved to fit."""

    def __init__(self, state: FrozenState, config: S2licConfig) -> None:
        self.config, self.inverse = config, state.floats("inverse.values")
        self.net = exact_synthesis.Synthesis(state, config)

    def pixels(
        self,
        y_hat: NDArray[Any],
        step: int,
        height: int,
        width: int,
        dtype: Any,
        told: Callable[[float], None] | None = None,
    ) -> NDArray[Any]:
        """The picture (height, width, 3), uint8 or uint16, of latents at a quality step.

        y_hat: (h, w, M), integers in units of 2**-MEAN_BITS. told: is called with the finished part, 0 to 1.
        """
        out = np.empty((height, width, 3), dtype)
        self.chain(y_hat, step, out, told).run()
        return out

    def chain(
        self, y_hat: NDArray[Any], step: int, out: NDArray[Any], told: Callable[[float], None] | None = None
    ) -> Chain:
        """The steps that fill `out` with the picture of latents."""
        assert y_hat.shape[2] == self.config.latent
        chain, size = Chain(), (y_hat.shape[0], y_hat.shape[1])
        latents = self._latents(chain, y_hat, step)
        exact_synthesis.SynthesisSteps(self.net, chain, latents, size, step, out, told)
        return chain

    def _latents(self, chain: Chain, y_hat: NDArray[Any], step: int) -> list[tuple[Window, Grid]]:
        """The latents with their gain undone, on the grid of each of the layers that take them."""
        h, w, channels = y_hat.shape
        inverse = gain_factor(self.inverse, step)
        windows = [(chain.window(h, w, channels, np.int32), grid) for grid in self.net.inputs]

        def fill(top: int, bottom: int) -> None:
            for window, grid in windows:
                part = y_hat[top:bottom].astype(np.int32)
                regrid(part, MEAN_BITS, grid, window.rows.cut(top, bottom), gain=inverse)

        turn = max(1, exact_synthesis.TURN // w)
        chain.step(h, fill, writes=[window for window, _ in windows], pace=turn)
        return windows
