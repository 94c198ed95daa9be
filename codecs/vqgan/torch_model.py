"""The network of VQGAN in torch, made of a weights file, and the tensors of such a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..layers.exact_network import built, check_tensors, fill_network
from ..layers.exact_state import export_state
from .config import OTHER_WEIGHTS, VqganConfig
from .network import VqganNet

__all__ = ["build_network", "exported", "load_network"]


def build_network(config: VqganConfig, arrays: Mapping[str, NDArray[Any]], device: str) -> VqganNet:
    """The network of a weights file, frozen, in eval mode, on a device. WeightsError if the arrays aren't its own."""
    floats = {name: _words_in_floats(name, array, arrays) for name, array in arrays.items()}
    return built(VqganNet, config, floats, device, OTHER_WEIGHTS)


def load_network(net: VqganNet, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Fills a network, which is to be trained on, from a weights file; WeightsError if the arrays aren't its own."""
    floats = {name: _words_in_floats(name, array, arrays) for name, array in arrays.items()}
    state = {name: torch.from_numpy(np.array(array)) for name, array in floats.items()}
    check_tensors(net, state, OTHER_WEIGHTS)
    fill_network(net, state, OTHER_WEIGHTS)


def _words_in_floats(name: str, array: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """A tensor as networks have it: codewords, which are integers of a grid in files, as numbers."""
    level, _, part = name.rpartition(".")
    exponent = arrays.get(f"{level}.post.input.exponent")
    if part != "codebook" or exponent is None:
        return array
    return np.ldexp(array.astype(np.float32), -exponent.astype(np.int32))


def exported(net: VqganNet) -> dict[str, Tensor]:
    """The tensors of a weights file: codewords as integers of the grid of the layer that takes them."""
    state = export_state(net)
    for size in net.config.codebooks:
        level = net.level(size)
        grid = level.post.input
        words = torch.floor(level.codebook.double() * 2.0 ** int(grid.exponent) + 0.5)
        state[f"levels.{size}.codebook"] = words.clamp(grid.smallest, grid.largest).to(torch.int16)
    return state
