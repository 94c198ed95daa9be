"""The networks of S2LIC `small` in integers, without torch: what the codec uses on a CPU.

Prediction and synthesis give the same integers as `Oracle` (oracle.py), the networks of torch; the analysis is in
floats, and rounds a few latents in a million differently. `codec.py` calls either, by the same methods.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.progress import tell
from ..layers.exact_shapes import check_written
from ..layers.frozen import FrozenState
from .config import LARGEST_LATENT, S2licConfig
from .forward import Forward
from .prediction import Prediction
from .shapes import exact_layers
from .synthesis import Synthesis

__all__ = ["Engine", "Take"]

# (mean, row, channels, cells) -> symbols: see `Prediction.predict`
Take = Callable[[NDArray[Any], NDArray[np.uint8], slice, NDArray[np.int64]], NDArray[Any]]


class Engine:
    """The networks of a weights file, whose tensors have been checked; ValueError if kernels can't hold their sums."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: S2licConfig) -> None:
        check_written(arrays, exact_layers(config))
        self.config, self._state = config, FrozenState(arrays)
        self._prediction = Prediction(self._state, config)
        self._synthesis = Synthesis(self._state, config)

    @functools.cached_property
    def _forward(self) -> Forward:
        return Forward(self._state, asdict(self.config))

    # ---- what the codec asks for: see `Oracle`

    def latents(self, pixels: NDArray[Any], step: int) -> NDArray[np.float32]:
        y = self._forward.latents(pixels, step)
        return np.clip(y, -LARGEST_LATENT / 2, LARGEST_LATENT / 2, out=y)

    def hyper_latents(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._forward.hyper_latents(y)

    def z_parameters(self, step: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        return self._prediction.z_parameters(step)

    def predict(self, z_hat: NDArray[np.float64], height: int, width: int, step: int, take: Take) -> NDArray[Any]:
        return self._prediction.predict(z_hat, height, width, step, take)

    def integers(self, y_hat: NDArray[Any]) -> NDArray[np.int32]:
        return y_hat.astype(np.int32)

    def pixels(self, y_hat: NDArray[Any], step: int, height: int, width: int, dtype: Any) -> NDArray[Any]:
        def told(part: float) -> None:
            tell(0.3 + 0.7 * part, "rows")  # what comes before is decoding

        return self._synthesis.pixels(y_hat, step, height, width, dtype, told)
