"""The weights files of VQGAN: configuration, network and what the index coders know, read strictly, and without torch.

A file of the network `small` is compared with what that network needs (shapes.py), and its sums are bounded, before
anything is built of it; networks of torch are built when something asks for them (torch_model.py). The network `paper`
always is one of torch (paper_model.py).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import WeightsError
from ..base.weights import LoadedWeights, about_of, config_of, reading
from ..layers.exact_shapes import check_sums
from ..layers.frozen import check_numbers, check_shapes
from .config import OTHER_WEIGHTS, VqganConfig
from .engine import Engine
from .indices import PREFIX, Models
from .restore import Restorer, restorer_of
from .shapes import check_codebooks, exact_layers, tensor_shapes

if TYPE_CHECKING:
    from .network import VqganNet
    from .oracle import Oracle
    from .paper_model import VqganPaperModel

__all__ = ["VqganModel", "any_model", "metadata", "read_model"]


@dataclass(frozen=True, eq=False)
class VqganModel:
    """The content of a weights file: configuration, facts about it, and networks, made when they are needed.

    arrays: the tensors of the network. index: those of the index coders.
    """

    config: VqganConfig
    tag: str
    id: bytes
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    index: Mapping[str, NDArray[Any]] = field(repr=False)
    device: str = "cpu"

    arithmetic = "int"  # the arithmetic that decides on pixels, as headers name it

    @property
    def codebooks(self) -> tuple[int, ...]:
        """The sizes of the codebooks, rising."""
        return self.config.codebooks

    def codewords(self, size: int) -> NDArray[Any]:
        """The words of a codebook, (size, dim) integers of a grid of their own."""
        return self.arrays[f"levels.{size}.codebook"]

    @functools.cached_property
    def models(self) -> Models:
        """The models of the index coders, each made when it is needed."""
        return Models(self.index)

    @functools.cached_property
    def restorer(self) -> Restorer | None:
        """The transformer that restores lost indices of these weights; None if none ships for them."""
        return restorer_of(self.id)

    @functools.cached_property
    def net(self) -> VqganNet:
        """The network of torch: frozen, in eval mode. WeightsError if the arrays aren't its own."""
        from .torch_model import build_network

        return build_network(self.config, self.arrays, self.device)

    @functools.cached_property
    def oracle(self) -> Oracle:
        """The network of torch, as the codec uses it."""
        from .oracle import Oracle

        return Oracle(self.net, self.device)

    @functools.cached_property
    def _engine(self) -> Engine | None:
        """The network in integers; None if it can't be: too wide sums, a GPU."""
        if self.device != "cpu":
            return None
        try:
            return Engine(self.arrays, self.config)
        except ValueError as error:
            if native.has_torch():
                return None
            raise WeightsError(f"these weights need PyTorch ({error}): pip install torch, or {OTHER_WEIGHTS}") from None

    @property
    def engine(self) -> Engine | None:
        """The network in integers if it is to be used; else that of torch is."""
        return None if native.engine() == "torch" else self._engine

    @property
    def networks(self) -> Engine | Oracle:
        """The network: in integers, or that of torch."""
        return self.engine or self.oracle


def metadata(config: VqganConfig, tag: str) -> dict[str, str]:
    """The text map of a weights file: what is needed to rebuild the network."""
    about = {"network": "small", "config": asdict(config), "tag": tag}
    return {"codec": "vqgan", "vqgan": json.dumps(about, sort_keys=True)}


def any_model(weights: LoadedWeights, device: str = "cpu") -> VqganModel | VqganPaperModel:
    """The model of a weights file of either network. WeightsError if it holds anything else.

    ModuleNotFoundError for the network `paper` where there is no torch: `Codec.load` says what to install.
    """
    with reading("vqgan", OTHER_WEIGHTS):
        if about_of(weights, "vqgan").get("network") != "paper":
            return _read_model(weights, device)
        from .paper_model import paper_model

        return paper_model(weights, device)


def read_model(weights: LoadedWeights, device: str = "cpu") -> VqganModel:
    """The model of a weights file of the network `small`, ready to decode. WeightsError if it holds anything else."""
    with reading("vqgan", OTHER_WEIGHTS):
        return _read_model(weights, device)


def _read_model(weights: LoadedWeights, device: str) -> VqganModel:
    about = about_of(weights, "vqgan")
    if (network := about.get("network")) != "small":
        raise WeightsError(f"weights of a network {network!r:.80}; expected 'small'")
    # the configuration checks its own sizes
    config, tag = config_of(VqganConfig, about.get("config"), dict.fromkeys(_ZERO, (0, 1 << 16))), about.get("tag")
    if not isinstance(tag, str):
        raise WeightsError(f"the tag of these weights is {tag!r:.80}; expected a text")
    arrays = {name: np.asarray(array) for name, array in weights.arrays.items()}
    index = {name: arrays.pop(name) for name in list(arrays) if name.startswith(PREFIX)}
    check_shapes(tensor_shapes(config), arrays)
    check_numbers(arrays)
    check_numbers(index)
    try:
        check_sums(arrays, exact_layers(config))
        check_codebooks(arrays, config)
    except ValueError as error:
        raise WeightsError(f"the integers in these weights can't be right ({error})") from None
    model = VqganModel(config, tag, weights.id, arrays, index, device)
    if model.engine is None:
        model.net  # noqa: B018  what is wrong with it is said now
    return model


_ZERO = ("head_blocks", "blocks", "synthesis_blocks", "step")  # settings that may be 0
