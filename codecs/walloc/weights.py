"""The weights files of WaLLoC: configuration, tables and networks, read strictly, and without torch.

A file of the kind that ships is compared with what its networks need before anything is built of it. Networks of torch
are built when something asks for them: training, a GPU, the models of the paper, CODEC_ENGINE=torch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from ... import native
from ...entropy.tables import Tables
from ...errors import WeightsError
from ..base.weights import LoadedWeights, about_of, config_of, reading
from ..layers.frozen import check_numbers, check_shapes
from ..layers.lattice_steps import row_rule, schedule
from .config import WallocConfig
from .engine import Engine, Networks

if TYPE_CHECKING:
    from .network import WallocNet

__all__ = [
    "WallocModel",
    "metadata",
    "read_model",
    "tables_of",
    "tensor_shapes",
]


@dataclass(frozen=True, eq=False)
class WallocModel:
    """The content of a weights file: configuration, tables, facts about them, and networks, made when they are needed.

    arrays: the tensors but for those of the tables.
    """

    config: WallocConfig
    tables: Tables | None
    tag: str
    quality: tuple[float, float]  # the part of the quality scale 1-100 that this model covers
    gain16: tuple[int, int]  # 16 log2(gain) at its two ends
    nominal: int  # 16 log2(gain) if no quality is asked for
    id: bytes
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    device: str = "cpu"

    @classmethod
    def of_net(
        cls,
        net: WallocNet,
        tables: Tables | None,
        tag: str,
        quality: tuple[float, float] = (1.0, 100.0),
        gain16: tuple[int, int] = (-24, 8),
        nominal: int = 0,
    ) -> WallocModel:
        """The model of a frozen network of torch, which it uses."""
        model = cls(net.config, tables, tag, quality, gain16, nominal, b"")
        model.__dict__["net"] = net
        return model

    def gain_of(self, quality: float | None) -> int:
        """The gain at a quality of this model's range, as 16 log2(gain); quality None: the nominal gain."""
        if quality is None:
            return self.nominal
        (low, high), (first, last) = self.quality, self.gain16
        return round(first + (quality - low) / (high - low) * (last - first))

    @functools.cached_property
    def net(self) -> WallocNet:
        """The networks of torch: frozen, in eval mode. WeightsError if the arrays aren't theirs."""
        from .torch_model import build_network

        with reading("walloc"):
            return build_network(self.config, self.arrays, self.device)

    @functools.cached_property
    def engine(self) -> Engine | None:
        """The networks in integers; None if they can't be: too wide sums, a GPU, the models of the paper."""
        if self.device != "cpu" or not self.arrays or self.config.decoder == "paper":
            return None
        try:
            return Engine(self.arrays, self.config)
        except ValueError as error:
            if native.has_torch():
                return None
            raise WeightsError(f"these weights need PyTorch ({error}): pip install torch") from None

    @functools.cached_property
    def _torch_networks(self) -> Networks:
        from .torch_networks import TorchNetworks

        return TorchNetworks(self.net, self.device)

    @property
    def networks(self) -> Networks:
        """The networks to use: those in integers, unless CODEC_ENGINE or the weights ask for torch's."""
        if native.engine() == "torch" or self.engine is None:
            return self._torch_networks
        return self.engine


def metadata(
    config: WallocConfig, tag: str, quality: tuple[float, float], gain16: tuple[int, int], nominal: int
) -> dict[str, str]:
    """The text map of a weights file: all that is needed to rebuild the network."""
    fields = {"config": asdict(config), "tag": tag, "quality": quality, "gain16": gain16, "nominal": nominal}
    return {"codec": "walloc", "walloc": json.dumps(fields, sort_keys=True)}


_LIMITS: Mapping[str, tuple[float, float]] = {  # of a configuration's numbers
    "levels": (1, 6),
    "latent": (1, 4096),
    "latent_bits": (2, 8),
    "encoder_width": (1, 4096),
    "width": (1, 4096),
    "blocks": (0, 64),
    "groups": (1, 4096),
    "context_width": (1, 4096),
}
_MOST_GROUPS = 64


def tensor_shapes(config: WallocConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a model's networks in a weights file, by name: of those with the small decoder."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, outputs: int, inputs: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        shapes[f"{name}.bias"] = shapes[f"{name}.weight_exponent"] = (outputs,)

    def grids(*names: str) -> None:
        shapes.update({f"{name}.exponent": () for name in names})

    shapes["encoder.weight"] = (config.latent, config.bands, 1, 1)
    shapes["encoder.bias"] = (config.latent,)
    grids("decoder.input", "post.input", "post.stream", "post.act")
    layer("decoder.linear", config.bands, config.latent, 3)
    width, cells, phases = config.width, 12, config.stride // 2
    layer("post.first", width, cells, 3)
    shapes["post.phase"] = (1, width, phases, phases)
    for k in range(config.blocks):
        for part in ("1", "2"):
            grids(f"post.blocks.{k}.act{part}")
            layer(f"post.blocks.{k}.conv{part}", width, width, 3)
    layer("post.last", cells, width, 3)
    hidden = config.context_width
    for index, step in enumerate(schedule(config.groups)):
        name, outputs = f"context.nets.{index}", step.stop - step.start
        grids(f"{name}.input", f"{name}.act1", f"{name}.act2")
        layer(f"{name}.first", hidden + outputs, 1 + step.seen, 5 if step.start == 0 else 3)
        layer(f"{name}.second", hidden, hidden, 1)
        layer(f"{name}.third", 2 * outputs, hidden, 1)
    return shapes


def read_model(weights: LoadedWeights, device: str = "cpu") -> WallocModel:
    """The model of a weights file. WeightsError if it holds anything else."""
    with reading("walloc"):
        about = about_of(weights, "walloc")
        config = config_of(WallocConfig, about["config"], _LIMITS)
        if config.groups and (len(config.groups) > _MOST_GROUPS or sum(config.groups) != config.latent):
            raise ValueError(f"groups is {config.groups!r:.80}; expected numbers that sum to latent, {config.latent}")
        quality = _rising(about["quality"], (0, 100), (int, float))
        gain16 = _rising(about["gain16"], (-96, 96), (int,))
        tag, nominal = str(about["tag"]), _rising([about["nominal"], 96], (-96, 96), (int,))[0]
        if config.groups and not any(name.startswith("tables.") for name in weights.arrays):
            raise WeightsError("these weights lack entropy tables that they should have")
        arrays = {name: array for name, array in weights.arrays.items() if not name.startswith("tables.")}
        if config.decoder == "paper" or config.encoder != "linear":
            if not native.has_torch():
                raise WeightsError("these weights need PyTorch: pip install torch")
            from .torch_model import check_arrays

            check_arrays(config, arrays)
        else:
            check_shapes(tensor_shapes(config), arrays)
        check_numbers(weights.arrays)
        tables = tables_of(weights.arrays)
        if tables is not None and len(tables.lengths) != row_rule().offsets[-1]:
            raise WeightsError(f"the entropy tables have {len(tables.lengths)} rows, not {row_rule().offsets[-1]}")
        model = WallocModel(
            config,
            tables,
            tag,
            quality,
            cast("tuple[int, int]", gain16),
            cast(int, nominal),
            weights.id,
            arrays,
            device,
        )
        if native.engine() == "torch" or model.engine is None:
            model.net  # noqa: B018  what is wrong with it is said now
        return model


def tables_of(arrays: Mapping[str, NDArray[Any]]) -> Tables | None:
    """The entropy tables of a weights file; None if it has none."""
    state = {name.removeprefix("tables."): array for name, array in arrays.items() if name.startswith("tables.")}
    try:
        return Tables.from_state(state) if state else None
    except KeyError as error:
        raise WeightsError(f"these weights lack entropy tables that they should have: {error}") from None


def _rising(pair: Any, limits: tuple[int, int], kinds: tuple[type, ...]) -> tuple[float, float]:
    """A pair of rising numbers within limits; ValueError for anything else."""
    low, high = pair
    if type(low) not in kinds or type(high) not in kinds or not limits[0] <= low <= high <= limits[1]:
        raise ValueError(f"{pair!r:.80}; expected two rising numbers from {limits[0]} to {limits[1]}")
    return low, high
