"""The weights files of Entropic Student: configuration, networks and entropy tables, read strictly, without torch.

A file is compared with what its networks need, and its sums are bounded, before anything is built of it. The network of
torch is built when something asks for it (torch_model.py).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...entropy.tables import Tables
from ...errors import WeightsError
from ..base.weights import LoadedWeights, about_of, config_of, reading
from ..layers.exact_shapes import ExactLayer, Shapes, check_sums, conv_shapes, layer_shapes, wide
from ..layers.frozen import check_numbers, check_shapes
from .config import BLOCKS, CELL, CHANNELS, GRID_BITS, LEVELS, OTHER_WEIGHTS, STEM, EntropicStudentConfig
from .edges import EdgeHead, edge_shapes
from .engine import Engine

if TYPE_CHECKING:
    from .oracle import Oracle

__all__ = ["EntropicStudentModel", "exact_layers", "metadata", "read_model", "tensor_shapes"]

_TABLES = "tables."


def exact_layers(config: EntropicStudentConfig) -> Iterator[ExactLayer]:
    """The layers in fixed point: the decoder's."""
    yield wide("linear", config.latent, CHANNELS * CELL**2, 1, False, GRID_BITS)
    widths = (CHANNELS, *config.decoder_width, CHANNELS)
    for k in range(len(widths) - 1):
        yield wide(f"correction.{k}", widths[k], widths[k + 1], 3, k > 0, GRID_BITS)


def tensor_shapes(config: EntropicStudentConfig) -> Shapes:
    """The shapes of the tensors of the networks, by name."""
    shapes = dict(layer_shapes(exact_layers(config)))
    shapes |= conv_shapes({"encoder.stem": (STEM, 3, 3), "encoder.out": (config.latent, CHANNELS * CELL**2, 1)})
    for k, (inner, outer, _, expand) in enumerate(BLOCKS):
        name, middle = f"encoder.blocks.{k}", inner * expand
        if expand > 1:
            shapes |= conv_shapes({f"{name}.expand": (middle, inner, 1)})
        shapes |= conv_shapes({f"{name}.depthwise": (middle, 1, 3), f"{name}.project": (outer, middle, 1)})
    shapes |= {f"{name}.values": (config.knots, config.latent) for name in ("gain", "inverse_gain")}
    return shapes | edge_shapes() | {"features.exponent": ()}


@dataclass(frozen=True, eq=False)
class EntropicStudentModel:
    """The content of a weights file: configuration, tables, facts about it, and networks, made when they are needed."""

    config: EntropicStudentConfig
    tables: Tables
    tag: str
    id: bytes
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    device: str = "cpu"

    @functools.cached_property
    def edges(self) -> EdgeHead:
        """The head of edges."""
        return EdgeHead(self.arrays)

    @functools.cached_property
    def oracle(self) -> Oracle:
        """The network of torch, as the codec uses it. WeightsError if the arrays aren't its own."""
        from .oracle import Oracle

        arrays = {name: array for name, array in self.arrays.items() if name not in edge_shapes()}
        return Oracle(self.config, arrays, self.device)

    @functools.cached_property
    def engine(self) -> Engine | None:
        """The networks without torch; None if they can't be: too wide sums, a GPU."""
        if self.device != "cpu":
            return None
        try:
            return Engine(self.arrays, self.config)
        except ValueError as error:
            if native.has_torch():
                return None
            raise WeightsError(f"these weights need PyTorch ({error}): pip install torch, or {OTHER_WEIGHTS}") from None

    @property
    def networks(self) -> Engine | Oracle:
        """The networks to use: without torch, unless CODEC_ENGINE or the weights ask for it."""
        return self.oracle if native.engine() == "torch" or self.engine is None else self.engine


def metadata(config: EntropicStudentConfig, tag: str) -> dict[str, str]:
    """The text map of a weights file: what is needed to rebuild the networks."""
    about = {"config": asdict(config), "tag": tag}
    return {"codec": "entropic-student", "entropic-student": json.dumps(about, sort_keys=True)}


def read_model(weights: LoadedWeights, device: str = "cpu") -> EntropicStudentModel:
    """The model of a weights file. WeightsError if it holds anything else."""
    with reading("entropic-student", OTHER_WEIGHTS):
        about = about_of(weights, "entropic-student")
        config, tag = config_of(EntropicStudentConfig, about.get("config"), {}), about.get("tag")
        if not isinstance(tag, str):
            raise WeightsError(f"the tag of these weights is {tag!r:.80}; expected a text")
        arrays = {name: np.asarray(array) for name, array in weights.arrays.items()}
        state = {name.removeprefix(_TABLES): arrays.pop(name) for name in list(arrays) if name.startswith(_TABLES)}
        check_shapes(tensor_shapes(config), arrays)
        check_numbers(arrays)
        check_numbers(state)
        tables = Tables.from_state(state)
        if len(tables.lengths) != LEVELS * config.latent:
            raise WeightsError(f"the entropy tables have {len(tables.lengths)} rows, not {LEVELS * config.latent}")
        try:
            check_sums(arrays, exact_layers(config))
        except ValueError as error:
            raise WeightsError(f"the integers in these weights can't be right ({error})") from None
        model = EntropicStudentModel(config, tables, tag, weights.id, arrays, device)
        model.networks  # noqa: B018  what is wrong with them is said now
        return model
