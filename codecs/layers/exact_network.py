"""Networks of torch, made of a weights file: sizes are checked before memory is taken, numbers before they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import WeightsError
from .exact_state import check_numbers, check_state, import_state

__all__ = ["built", "check_tensors", "fill_network", "no_random_start"]


Config = TypeVar("Config")
Net = TypeVar("Net", bound=nn.Module)


@torch.inference_mode(False)  # what is built may be asked for gradients, wherever it was loaded
def built(
    make: Callable[[Config], Net], config: Config, arrays: Mapping[str, NDArray[Any]], device: str, advice: str
) -> Net:
    """The network of a configuration, frozen, in eval mode, on a device. WeightsError if the arrays aren't its own.

    make: builds the network, with a method `freeze`. config: a dataclass whose defaults fit any memory. advice: what to
    do about other weights.
    """
    with torch.device("cpu"):  # whatever the caller's default device is
        state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    if _exceeds_defaults(config):
        with torch.device("meta"):  # takes no memory, but a second
            check_tensors(make(config), state, advice)
    with torch.device("cpu"), no_random_start():
        net = make(config).float()  # whatever the caller's default dtype is
    fill_network(net, state, advice)
    net.requires_grad_(False)
    net.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        return cast(Any, net).freeze()
    except (ValueError, ArithmeticError) as error:  # sums that don't fit
        raise WeightsError(f"the integers in these weights can't be right ({error}): {advice}") from None


class no_random_start(torch.overrides.TorchFunctionMode):
    """Leaves out the random numbers that layers start from, which a file is about to replace: a quarter second."""

    _LEFT_OUT = frozenset({torch.nn.init.kaiming_uniform_, torch.nn.init.uniform_, torch.nn.init.normal_})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._LEFT_OUT:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _exceeds_defaults(config: Any) -> bool:
    """Whether any size is larger than it is by default, and so may be larger than memory."""
    for name, usual in asdict(type(config)()).items():
        value = getattr(config, name)
        if isinstance(usual, tuple):
            if len(value) > len(usual) or any(a > b for a, b in zip(value, usual, strict=False)):
                return True
        elif not isinstance(usual, str) and value > usual:
            return True
    return False


def check_tensors(net: nn.Module, state: Mapping[str, Tensor], advice: str) -> None:
    """Raises WeightsError unless the tensors of a weights file are this network's."""
    try:
        check_state(net, state)
    except WeightsError as error:
        raise WeightsError(f"{error}: {advice}") from None


def fill_network(net: nn.Module, state: Mapping[str, Tensor], advice: str) -> None:
    """Fills a network from the tensors of a weights file; WeightsError if they aren't its own, or aren't numbers."""
    try:
        check_numbers(state)
        import_state(net, state)
    except WeightsError as error:
        raise WeightsError(f"{error}: {advice}") from None
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # types and exponents nobody writes
        raise WeightsError(f"these weights can't be read ({error}): {advice}") from None
