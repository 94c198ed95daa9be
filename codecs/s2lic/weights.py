"""The weights files of S2LIC: configuration, tables and network, read strictly.

What any family does with exact layers in such files is in `layers/exact_state.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...entropy.models import GaussianConditional, LaplaceConditional
from ...entropy.tables import Tables
from ...errors import UsageError, WeightsError
from ..base.weights import LoadedWeights, reading
from ..layers.exact_state import check_numbers, check_state, import_state
from .config import LEVELS, S2licConfig, S2licPaperConfig
from .network import S2licNet
from .paper import S2licPaperNet
from .refine import Refiner

__all__ = [
    "CONFIGS",
    "MOST_PROBABLE",
    "Config",
    "S2licModel",
    "check_tensors",
    "config_from",
    "fill_network",
    "make_tables",
    "metadata",
    "network_of",
    "read_model",
    "table_state",
]


@dataclass(frozen=True)
class S2licModel:
    """The content of a weights file: frozen networks, tables, and facts about them."""

    net: S2licNet | S2licPaperNet
    y_tables: Tables
    z_tables: Tables
    tag: str
    id: bytes
    distortion: str = "mse"  # what training weighed against bits

    def step_of(self, quality: float) -> int:
        return round((quality - 1) / 99 * self.net.config.quality_steps)

    @functools.cached_property
    def refiner(self) -> Refiner:
        """The networks in the form that has gradients; made when it is first needed."""
        if not isinstance(self.net, S2licNet):
            raise UsageError("effort: only weights of the network `small` can be refined while encoding")
        if self.distortion != "mse":
            raise UsageError(
                f"effort: its steps lower the squared error, and weights {self.tag!r} were trained for "
                f"{self.distortion}: take s2lic@small, or no effort"
            )
        with torch.inference_mode(False):
            return Refiner(self.net)


MOST_PROBABLE = 1 - 2**-12  # largest probability of a symbol: streams of narrow rows may be this short


def make_tables() -> tuple[Tables, Tables]:
    """The tables of y and of z that an export starts from: Gaussian and Laplace densities of all levels."""
    return (
        GaussianConditional(LEVELS).to_tables(MOST_PROBABLE),
        LaplaceConditional(LEVELS).to_tables(MOST_PROBABLE),
    )


Config = S2licConfig | S2licPaperConfig
CONFIGS: Mapping[str, type[Config]] = {"small": S2licConfig, "paper": S2licPaperConfig}


def network_of(config: Config) -> S2licNet | S2licPaperNet:
    return S2licNet(config) if isinstance(config, S2licConfig) else S2licPaperNet(config)


def metadata(config: Config, tag: str, distortion: str = "mse") -> dict[str, str]:
    """The text map of a weights file: what is needed to rebuild the network, and what it was trained for."""
    network = next(name for name, kind in CONFIGS.items() if isinstance(config, kind))
    about = {"network": network, "config": asdict(config), "tag": tag, "distortion": distortion}
    return {"codec": "s2lic", "s2lic": json.dumps(about, sort_keys=True)}


def config_from(network: str, values: Mapping[str, Any]) -> Config:
    """The configuration of a network by its name; ValueError, KeyError or TypeError if there is none such."""
    kind = CONFIGS[network]
    if unknown := set(values) - {field.name for field in fields(kind)}:
        raise ValueError(f"unknown settings {sorted(unknown)}")
    settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return kind(**settings)


@torch.inference_mode(False)  # the refiner needs gradients through these weights, wherever they were loaded
def read_model(weights: LoadedWeights, device: str = "cpu") -> S2licModel:
    """The model of a weights file: networks frozen, in eval mode. WeightsError if it holds anything else."""
    with reading("s2lic", _OTHER_WEIGHTS):
        return _read_model(weights, device)


def _read_model(weights: LoadedWeights, device: str) -> S2licModel:
    try:
        about = json.loads(weights.metadata["s2lic"])
        config, tag = config_from(about["network"], about["config"]), str(about["tag"])
        distortion = str(about.get("distortion", "mse"))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise WeightsError(f"this isn't an S2LIC weights file of this version ({error!r}): {_OTHER_WEIGHTS}") from None
    state = dict(weights.tensors)
    try:
        tables = [
            Tables.from_state({key: state.pop(f"{name}_tables.{key}").numpy() for key in _TABLE}) for name in ("y", "z")
        ]
    except KeyError as error:
        raise WeightsError(f"these S2LIC weights lack {error}: export them again") from None
    except TypeError as error:
        raise WeightsError(f"the entropy tables in the weights aren't integers ({error}): {_OTHER_WEIGHTS}") from None
    except WeightsError as error:
        raise WeightsError(f"{error}; {_OTHER_WEIGHTS}") from None
    if rows := [len(table.lengths) for table in tables if len(table.lengths) != LEVELS]:
        raise WeightsError(f"an entropy table in the weights has {rows[0]} rows, not {LEVELS}: {_OTHER_WEIGHTS}")
    if _exceeds_defaults(config):
        with torch.device("meta"):  # takes no memory, but a second
            check_tensors(network_of(config), state)
    with torch.device("cpu"):
        net = network_of(config).float()  # whatever the caller's default device and dtype are
    fill_network(net, state)
    net.requires_grad_(False)
    net.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        return S2licModel(net.freeze(), tables[0], tables[1], tag, weights.id, distortion)
    except (ValueError, ArithmeticError) as error:  # sums that don't fit
        raise WeightsError(f"the integers in these weights can't be right ({error}): {_OTHER_WEIGHTS}") from None


_OTHER_WEIGHTS = "export them again with `codec train s2lic`, or name another file with weights=... (--weights)"


def _exceeds_defaults(config: Config) -> bool:
    """Whether any size is larger than it is by default, and so may be larger than memory."""
    for name, usual in asdict(type(config)()).items():
        value = getattr(config, name)
        if isinstance(usual, tuple):
            if len(value) > len(usual) or any(a > b for a, b in zip(value, usual, strict=False)):
                return True
        elif not isinstance(usual, str) and value > usual:
            return True
    return False


def check_tensors(net: S2licNet | S2licPaperNet, state: Mapping[str, Tensor]) -> None:
    """Raises WeightsError unless the tensors of a weights file, those of the tables left out, are this network's."""
    try:
        check_state(net, state)
    except WeightsError as error:
        raise WeightsError(f"{error}: {_OTHER_WEIGHTS}") from None


def fill_network(net: S2licNet | S2licPaperNet, state: Mapping[str, Tensor]) -> None:
    """Fills a network from the tensors of a weights file; WeightsError if they aren't its own, or aren't numbers."""
    try:
        check_numbers(state)
        import_state(net, state)
    except WeightsError as error:
        raise WeightsError(f"{error}: {_OTHER_WEIGHTS}") from None
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # types and exponents nobody writes
        raise WeightsError(f"these weights can't be read ({error}): {_OTHER_WEIGHTS}") from None


_TABLE = ("counts", "lengths", "offset")


def table_state(y_tables: Tables, z_tables: Tables) -> dict[str, Tensor]:
    """The tensors of the tables in a weights file."""
    return {
        f"{name}_tables.{key}": torch.from_numpy(np.array(value))
        for name, tables in (("y", y_tables), ("z", z_tables))
        for key, value in tables.to_state().items()
    }
