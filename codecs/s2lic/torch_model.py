"""The networks of S2LIC in torch, made of a weights file, and what an export starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...entropy.models import GaussianConditional, LaplaceConditional
from ...entropy.tables import Tables
from ..layers.exact_network import built
from .config import LEVELS, OTHER_WEIGHTS, Config, S2licConfig
from .network import S2licNet
from .paper import S2licPaperNet
from .refine import Refiner

__all__ = [
    "MOST_PROBABLE",
    "build_network",
    "build_refiner",
    "make_tables",
    "network_of",
    "table_state",
]

MOST_PROBABLE = 1 - 2**-12  # largest probability of a symbol: streams of narrow rows may be this short


def make_tables() -> tuple[Tables, Tables]:
    """The tables of y and of z that an export starts from: Gaussian and Laplace densities of all levels."""
    return (
        GaussianConditional(LEVELS).to_tables(MOST_PROBABLE),
        LaplaceConditional(LEVELS).to_tables(MOST_PROBABLE),
    )


def network_of(config: Config) -> S2licNet | S2licPaperNet:
    return S2licNet(config) if isinstance(config, S2licConfig) else S2licPaperNet(config)


@torch.inference_mode(False)  # the refiner needs gradients through these weights, wherever they were loaded
def build_network(config: Config, arrays: Mapping[str, NDArray[Any]], device: str) -> S2licNet | S2licPaperNet:
    """The networks of a weights file, frozen, in eval mode, on a device. WeightsError if the arrays aren't theirs."""
    return built(network_of, config, arrays, device, OTHER_WEIGHTS)


def build_refiner(net: S2licNet | S2licPaperNet) -> Refiner:
    """The networks in the form that has gradients."""
    assert isinstance(net, S2licNet), "the networks of the paper can't be refined"
    with torch.inference_mode(False):
        return Refiner(net)


def table_state(y_tables: Tables, z_tables: Tables) -> dict[str, Tensor]:
    """The tensors of the tables in a weights file."""
    return {
        f"{name}_tables.{key}": torch.from_numpy(np.array(value))
        for name, tables in (("y", y_tables), ("z", z_tables))
        for key, value in tables.to_state().items()
    }
