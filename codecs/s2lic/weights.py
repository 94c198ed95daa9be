"""The weights files of S2LIC: configuration, tables and network, read strictly, and without torch.

A file of the network `small` is compared with what that network needs (shapes.py), and its sums are bounded, before
anything is built of it; networks of torch are built when something asks for them (torch_model.py). Those of the paper
always are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...entropy.tables import Tables
from ...errors import UsageError, WeightsError
from ..base.weights import LoadedWeights, reading
from ..layers.exact_shapes import check_sums
from ..layers.frozen import check_numbers, check_shapes
from .config import LEVELS, OTHER_WEIGHTS, Config, S2licConfig, S2licPaperConfig
from .engine import Engine
from .shapes import exact_layers, tensor_shapes

if TYPE_CHECKING:
    from .network import S2licNet
    from .oracle import Oracle
    from .paper import S2licPaperNet
    from .refine import Refiner

__all__ = ["CONFIGS", "Config", "S2licModel", "config_from", "metadata", "read_model"]

CONFIGS: Mapping[str, type[Config]] = {"small": S2licConfig, "paper": S2licPaperConfig}

_TABLE = ("counts", "lengths", "offset")


@dataclass(frozen=True)
class S2licModel:
    """The content of a weights file: configuration, tables, facts about them, and networks, made when they are needed.

    arrays: the tensors but for those of the tables.
    """

    config: Config
    y_tables: Tables
    z_tables: Tables
    tag: str
    id: bytes
    distortion: str = "mse"  # what training weighed against bits
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    device: str = "cpu"

    def step_of(self, quality: float) -> int:
        return round((quality - 1) / 99 * self.config.quality_steps)

    @property
    def arithmetic(self) -> str:
        """The arithmetic that decides on probabilities, as headers name it."""
        return "int" if isinstance(self.config, S2licConfig) else "float64"

    @functools.cached_property
    def net(self) -> S2licNet | S2licPaperNet:
        """The networks of torch: frozen, in eval mode. WeightsError if the arrays aren't theirs."""
        from .torch_model import build_network

        return build_network(self.config, self.arrays, self.device)

    @functools.cached_property
    def oracle(self) -> Oracle:
        """The networks of torch, as the codec uses them."""
        from .oracle import Oracle

        return Oracle(self.net, self.device)

    def checksum(self, y_hat: Any) -> int:
        """The checksum of latents that networks in floats give: see oracle.py."""
        from .oracle import checksum

        return checksum(y_hat)

    @functools.cached_property
    def refiner(self) -> Refiner:
        """The networks in the form that has gradients; made when it is first needed."""
        if not isinstance(self.config, S2licConfig):
            raise UsageError("effort: only weights of the network `small` can be refined while encoding")
        if self.distortion != "mse":
            raise UsageError(
                f"effort: its steps lower the squared error, and weights {self.tag!r} were trained for "
                f"{self.distortion}: take s2lic@small, or no effort"
            )
        from .torch_model import build_refiner

        return build_refiner(self.net)

    @functools.cached_property
    def _engine(self) -> Engine | None:
        """The networks in integers; None if they can't be: too wide sums, a GPU, the networks of the paper."""
        if not isinstance(self.config, S2licConfig) or self.device != "cpu" or not self.arrays:
            return None
        try:
            return Engine(self.arrays, self.config)
        except ValueError as error:
            if native.has_torch():
                return None
            raise WeightsError(f"these weights need PyTorch ({error}): pip install torch, or {OTHER_WEIGHTS}") from None

    @property
    def engine(self) -> Engine | None:
        """The networks in integers if they are to be used; else those of torch are."""
        return None if native.engine() == "torch" else self._engine


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


def read_model(weights: LoadedWeights, device: str = "cpu") -> S2licModel:
    """The model of a weights file, ready to decode. WeightsError if it holds anything else."""
    with reading("s2lic", OTHER_WEIGHTS):
        return _read_model(weights, device)


def _read_model(weights: LoadedWeights, device: str) -> S2licModel:
    try:
        about = json.loads(weights.metadata["s2lic"])
        config, tag = config_from(about["network"], about["config"]), str(about["tag"])
        distortion = str(about.get("distortion", "mse"))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise WeightsError(f"this isn't an S2LIC weights file of this version ({error!r}): {OTHER_WEIGHTS}") from None
    arrays = {name: np.asarray(array) for name, array in weights.arrays.items()}
    try:
        tables = [Tables.from_state({key: arrays.pop(f"{name}_tables.{key}") for key in _TABLE}) for name in ("y", "z")]
    except KeyError as error:
        raise WeightsError(f"these S2LIC weights lack {error}: export them again") from None
    except TypeError as error:
        raise WeightsError(f"the entropy tables in the weights aren't integers ({error}): {OTHER_WEIGHTS}") from None
    except WeightsError as error:
        raise WeightsError(f"{error}; {OTHER_WEIGHTS}") from None
    if rows := [len(table.lengths) for table in tables if len(table.lengths) != LEVELS]:
        raise WeightsError(f"an entropy table in the weights has {rows[0]} rows, not {LEVELS}: {OTHER_WEIGHTS}")
    if isinstance(config, S2licConfig):
        check_shapes(tensor_shapes(config), arrays)
        check_numbers(arrays)
        try:
            check_sums(arrays, exact_layers(config))
        except ValueError as error:
            raise WeightsError(f"the integers in these weights can't be right ({error}): {OTHER_WEIGHTS}") from None
    model = S2licModel(config, tables[0], tables[1], tag, weights.id, distortion, arrays, device)
    if model.engine is None:
        model.net  # noqa: B018  what is wrong with it is said now
    return model
