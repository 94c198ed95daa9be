"""The network of Entropic Student in torch, made of a weights file, and the tensors of such a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..layers.exact_network import built
from ..layers.exact_state import export_state
from .config import OTHER_WEIGHTS, EntropicStudentConfig
from .network import EntropicStudentNet

__all__ = ["TABLES", "build_network", "exported"]

TABLES = "tables."  # in front of the names of the entropy tables
_PRIOR = "prior."  # of the density that they were made of, which files don't have


def build_network(config: EntropicStudentConfig, arrays: Mapping[str, NDArray[Any]], device: str) -> EntropicStudentNet:
    """The network of a weights file, frozen, in eval mode, on a device. WeightsError if the arrays aren't its own."""
    return built(_without_prior, config, arrays, device, OTHER_WEIGHTS)


def _without_prior(config: EntropicStudentConfig) -> EntropicStudentNet:
    net = EntropicStudentNet(config)
    del net.prior
    return net


def exported(net: EntropicStudentNet) -> dict[str, Tensor]:
    """The tensors of a weights file: integers and exponents of exact layers, floats of the others, entropy tables."""
    state = {name: tensor for name, tensor in export_state(net).items() if not name.startswith(_PRIOR)}
    return state | {TABLES + name: torch.from_numpy(np.array(array)) for name, array in net.tables().items()}
