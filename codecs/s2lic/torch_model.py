"""The networks of S2LIC in torch, made of a weights file, and what an export starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...entropy.models import GaussianConditional, LaplaceConditional
from ...entropy.tables import Tables
from ...errors import UsageError, WeightsError
from ..layers.exact_state import check_numbers, check_state, import_state
from .config import LEVELS, S2licConfig
from .network import S2licNet
from .paper import S2licPaperNet
from .refine import Refiner
from .weights import OTHER_WEIGHTS, Config

if TYPE_CHECKING:
    from .weights import S2licModel

__all__ = [
    "MOST_PROBABLE",
    "build_network",
    "build_refiner",
    "check_tensors",
    "fill_network",
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
    with torch.device("cpu"):  # whatever the caller's default device is
        state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    if _exceeds_defaults(config):
        with torch.device("meta"):  # takes no memory, but a second
            check_tensors(network_of(config), state)
    with torch.device("cpu"), _no_random_start():
        net = network_of(config).float()  # whatever the caller's default dtype is
    fill_network(net, state)
    net.requires_grad_(False)
    net.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        return net.freeze()
    except (ValueError, ArithmeticError) as error:  # sums that don't fit
        raise WeightsError(f"the integers in these weights can't be right ({error}): {OTHER_WEIGHTS}") from None


class _no_random_start(torch.overrides.TorchFunctionMode):
    """Leaves out the random numbers that layers start from, which a file is about to replace: a quarter second."""

    _LEFT_OUT = frozenset({torch.nn.init.kaiming_uniform_, torch.nn.init.uniform_, torch.nn.init.normal_})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._LEFT_OUT:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def build_refiner(model: S2licModel) -> Refiner:
    """The networks of a model in the form that has gradients. UsageError for those that can't be refined."""
    if not isinstance(model.config, S2licConfig):
        raise UsageError("effort: only weights of the network `small` can be refined while encoding")
    if model.distortion != "mse":
        raise UsageError(
            f"effort: its steps lower the squared error, and weights {model.tag!r} were trained for "
            f"{model.distortion}: take s2lic@small, or no effort"
        )
    net = model.net
    assert isinstance(net, S2licNet)
    with torch.inference_mode(False):
        return Refiner(net)


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
        raise WeightsError(f"{error}: {OTHER_WEIGHTS}") from None


def fill_network(net: S2licNet | S2licPaperNet, state: Mapping[str, Tensor]) -> None:
    """Fills a network from the tensors of a weights file; WeightsError if they aren't its own, or aren't numbers."""
    try:
        check_numbers(state)
        import_state(net, state)
    except WeightsError as error:
        raise WeightsError(f"{error}: {OTHER_WEIGHTS}") from None
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # types and exponents nobody writes
        raise WeightsError(f"these weights can't be read ({error}): {OTHER_WEIGHTS}") from None


def table_state(y_tables: Tables, z_tables: Tables) -> dict[str, Tensor]:
    """The tensors of the tables in a weights file."""
    return {
        f"{name}_tables.{key}": torch.from_numpy(np.array(value))
        for name, tables in (("y", y_tables), ("z", z_tables))
        for key, value in tables.to_state().items()
    }
