"""The network of Entropic Student in torch, as the codec uses it: on GPUs, and where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..layers.inference import own_arithmetic
from .config import LARGEST_LATENT, EntropicStudentConfig
from .torch_model import build_network

__all__ = ["Oracle"]


class Oracle:
    """The network of a model, on its device: the methods of `Engine`."""

    def __init__(self, config: EntropicStudentConfig, arrays: Mapping[str, NDArray[Any]], device: str) -> None:
        self.net, self.device = build_network(config, arrays, device), device

    @own_arithmetic
    def latents(self, view: NDArray[np.uint8], step: int) -> NDArray[np.int32]:
        """See `Engine.latents`."""
        x = torch.from_numpy(np.array(view)).to(self.device).permute(2, 0, 1)[None].float() / 255
        y = self.net.gain.apply_to(self.net.encoder(x), step).round().clamp(-LARGEST_LATENT, LARGEST_LATENT)
        return y[0].to(torch.int32).cpu().numpy()

    @own_arithmetic
    def features(self, latents: NDArray[np.int32], step: int) -> NDArray[np.float32]:
        """See `Engine.features`."""
        given = torch.from_numpy(np.array(latents)).to(self.device)[None]
        return np.ascontiguousarray(self.net.exactly(given, step)[0].cpu().numpy())
