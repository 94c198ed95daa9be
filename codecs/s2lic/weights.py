"""The weights files of S2LIC: configuration, tables and network, read strictly."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...entropy.exact import ExactConv2d
from ...entropy.models import GaussianConditional, LaplaceConditional
from ...entropy.tables import Tables
from ...errors import UsageError, WeightsError
from ..base.weights import LoadedWeights
from ..layers.exact_state import import_state
from .layers import LEVELS
from .network import S2licConfig, S2licNet
from .paper import S2licPaperConfig, S2licPaperNet
from .refine import Refiner

__all__ = [
    "CONFIGS",
    "MOST_PROBABLE",
    "Config",
    "Model",
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
class Model:
    """Frozen networks, tables and what the weights file says about them."""

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


MOST_PROBABLE = 1 - 2**-12  # of a symbol: streams of narrow rows may be this short


def make_tables() -> tuple[Tables, Tables]:
    """Of y and of z."""
    return (
        GaussianConditional(LEVELS).to_tables(MOST_PROBABLE),
        LaplaceConditional(LEVELS).to_tables(MOST_PROBABLE),
    )


Config = S2licConfig | S2licPaperConfig


CONFIGS: Mapping[str, type[Config]] = {"small": S2licConfig, "paper": S2licPaperConfig}


def network_of(config: Config) -> S2licNet | S2licPaperNet:
    return S2licNet(config) if isinstance(config, S2licConfig) else S2licPaperNet(config)


def metadata(config: Config, tag: str, distortion: str = "mse") -> dict[str, str]:
    """Text map of a weights file: all that is needed to rebuild the network, and what it was trained for."""
    network = next(name for name, kind in CONFIGS.items() if isinstance(config, kind))
    about = {"network": network, "config": asdict(config), "tag": tag, "distortion": distortion}
    return {"codec": "s2lic", "s2lic": json.dumps(about, sort_keys=True)}


def config_from(network: str, values: Mapping[str, Any]) -> Config:
    """ValueError, KeyError or TypeError if there is no such network."""
    kind = CONFIGS[network]
    if unknown := set(values) - {field.name for field in fields(kind)}:
        raise ValueError(f"unknown settings {sorted(unknown)}")
    settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return kind(**settings)


@torch.inference_mode(False)  # the refiner needs gradients through these weights, wherever they were loaded
def read_model(weights: LoadedWeights, device: str = "cpu") -> Model:
    """Networks and tables of a weights file, frozen, in eval mode. WeightsError if it holds anything else."""
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
    except TypeError as error:  # bfloat16, which NumPy hasn't got
        raise WeightsError(f"the entropy tables in the weights aren't integers ({error}): {_OTHER_WEIGHTS}") from None
    except WeightsError as error:
        raise WeightsError(f"{error}; {_OTHER_WEIGHTS}") from None
    if rows := [len(one.lengths) for one in tables if len(one.lengths) != LEVELS]:
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
        return Model(net.freeze(), tables[0], tables[1], tag, weights.id, distortion)
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
    """WeightsError if the tensors of a weights file, those of the tables left out, aren't this network's."""
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    for name, part in net.named_modules():
        if isinstance(part, ExactConv2d):  # its integers have names of their own
            for kind in ("weight", "bias"):
                expected[f"{name}.{kind}"] = expected.pop(f"{name}.conv.{kind}")
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise WeightsError(
            f"these weights don't fit the network they name: {name} is {found.get(name, 'missing')}, expected "
            f"{expected.get(name, 'no such tensor')}: {_OTHER_WEIGHTS}"
        )


def fill_network(net: S2licNet | S2licPaperNet, state: Mapping[str, Tensor]) -> None:
    """Fills a network from the tensors of a weights file; WeightsError if they aren't its own, or aren't numbers."""
    check_tensors(net, state)
    try:
        for name, tensor in state.items():
            # how many batches were seen is no weight, and float16 may not hold it
            looked_at = tensor.is_floating_point() and not name.endswith(".num_batches_tracked")
            if tensor.is_complex() or (looked_at and not bool(torch.isfinite(tensor).all())):
                raise WeightsError(f"{name} in the weights isn't all finite numbers: {_OTHER_WEIGHTS}")
            if name.endswith("exponent") and float(tensor.double().abs().max()) > 128:  # they are written as int8
                raise WeightsError(f"{name} in the weights is beyond -128 to 127: {_OTHER_WEIGHTS}")
        import_state(net, state)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # types and exponents nobody writes
        raise WeightsError(f"these weights can't be read ({error}): {_OTHER_WEIGHTS}") from None


_TABLE = ("counts", "lengths", "offset")


def table_state(y_tables: Tables, z_tables: Tables) -> dict[str, Tensor]:
    """Tensors of the tables in a weights file."""
    return {
        f"{name}_tables.{key}": torch.from_numpy(np.array(value))
        for name, tables in (("y", y_tables), ("z", z_tables))
        for key, value in tables.to_state().items()
    }
