"""WaLLoC's networks of torch, to and from weights files: for training, a GPU, the models of the paper, the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...entropy.tables import Tables
from ..layers import exact_state
from ..layers.lattice import row_parameters
from .config import WallocConfig
from .network import WallocNet
from .weights import tables_of

__all__ = ["build_network", "check_arrays", "export_state", "import_state", "logistic_tables"]


def check_arrays(config: WallocConfig, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises WeightsError unless the arrays are those of a configuration's networks, by name and shape."""
    with torch.device("meta"):  # takes no memory
        net = WallocNet(config)
    exact_state.check_state(net, _tensors(arrays))


def build_network(config: WallocConfig, arrays: Mapping[str, NDArray[Any]], device: str) -> WallocNet:
    """The frozen networks of a weights file, in eval mode."""
    check_arrays(config, arrays)
    with torch.inference_mode(False), torch.device("cpu"):
        net = WallocNet(config).float()  # whatever the caller's default device and dtype are
        exact_state.import_state(net, _tensors(arrays))
        net.requires_grad_(False)
        return net.to(device).freeze()


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    with torch.device("cpu"):
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def logistic_tables(largest: int) -> Tables:
    """The tables of every row of `layers.lattice`: logistic densities over integers, cut where they carry < 2**-17."""
    means, scales = row_parameters()
    pmf, offsets = [], []
    for mean, scale in zip(means.tolist(), scales.tolist(), strict=True):
        reach = min(2 * largest, max(1, int(np.ceil(scale * 11.8 + abs(mean)))))
        edges = (np.arange(-reach, reach + 2) - 0.5 - mean) / scale
        cdf = 1 / (1 + np.exp(-np.clip(edges, -700, 700)))
        pmf.append(np.diff(cdf))
        offsets.append(-reach)
    return Tables.from_pmf(pmf, np.array(offsets))


def export_state(net: WallocNet, tables: Tables | None) -> dict[str, Tensor]:
    """The tensors of a weights file: integers and exponents of exact layers, floats of the others, entropy tables."""
    state = exact_state.export_state(net, torch.float32)
    if tables is not None:
        state |= {f"tables.{k}": torch.from_numpy(np.array(v)) for k, v in tables.to_state().items()}
    return state


def import_state(net: WallocNet, state: Mapping[str, Tensor]) -> Tables | None:
    """Fills a network from the tensors of a weights file, and returns the tables. WeightsError if they don't fit."""
    tables = tables_of({name: tensor.numpy() for name, tensor in state.items() if name.startswith("tables.")})
    exact_state.import_state(net, {name: tensor for name, tensor in state.items() if not name.startswith("tables.")})
    return tables
