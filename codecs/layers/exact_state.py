"""Networks with exact layers, to and from the tensors of a weights file.

Exact layers (`entropy.exact`) are integers and exponents there, everything else is floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ...entropy.exact import ExactConv2d, FixedPoint
from ...errors import WeightsError
from . import frozen

__all__ = ["check_numbers", "check_shapes", "check_state", "export_state", "import_state"]


def _exact_parts(net: nn.Module) -> dict[str, ExactConv2d | FixedPoint]:
    return {name: part for name, part in net.named_modules() if isinstance(part, (ExactConv2d, FixedPoint))}


def export_state(net: nn.Module, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """The tensors of a network in a weights file: integers and exponents of exact layers, all else in `dtype`."""
    exact = _exact_parts(net)
    state: dict[str, Tensor] = {}
    for name, part in exact.items():
        if isinstance(part, ExactConv2d):
            weight, bias = part.quantised()
            state[f"{name}.weight"] = weight.to(torch.int8 if part.weight_bits <= 8 else torch.int16).contiguous()
            state[f"{name}.bias"] = bias.to(torch.int64)
            state[f"{name}.weight_exponent"] = part.weight_exponent.to(torch.int8)
        else:
            state[f"{name}.exponent"] = part.exponent.to(torch.int8)
    for name, tensor in net.state_dict().items():
        if not _inside(name, exact):
            state[name] = tensor.to(dtype).contiguous()
    return state


def _inside(name: str, parts: Mapping[str, object]) -> bool:
    """Whether a tensor belongs to one of the parts, by its name or that of any module around it."""
    while name:
        name = name.rpartition(".")[0]
        if name in parts:
            return True
    return False


def check_state(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raises WeightsError unless the tensors of a weights file are this network's, by name and shape.

    The network may be on the meta device, where it takes no memory.
    """
    expected = dict(net.state_dict())
    for name, part in _exact_parts(net).items():
        if isinstance(part, ExactConv2d):  # its integers have names of their own
            for kind in ("weight", "bias"):
                expected[f"{name}.{kind}"] = expected.pop(f"{name}.conv.{kind}")
    check_shapes(expected, state)


def check_shapes(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise WeightsError unless a file's tensors are a network's by name and shape. It may be on the meta device."""
    frozen.check_shapes({name: tuple(tensor.shape) for name, tensor in expected.items()}, given)


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Raise WeightsError unless all numbers in a file are finite, and exponents (of int8) in their range."""
    for name, tensor in tensors.items():
        # how many batches were seen is no weight, and float16 may not hold it
        looked_at = tensor.is_floating_point() and not name.endswith(".num_batches_tracked")
        if tensor.is_complex() or (looked_at and not bool(torch.isfinite(tensor).all())):
            raise WeightsError(f"{name} in the weights isn't all finite numbers")
        exponents = name.endswith("exponent") and tensor.numel()
        if exponents and float(tensor.double().abs().max()) > 128:
            raise WeightsError(f"{name} in the weights is beyond -128 to 127")


def import_state(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fills a network from the tensors of a weights file; WeightsError if they aren't this network's."""
    check_state(net, state)
    exact = _exact_parts(net)
    try:
        for name, part in exact.items():
            if isinstance(part, FixedPoint):
                part.exponent.copy_(state[f"{name}.exponent"].int())
        for name, part in exact.items():
            if isinstance(part, ExactConv2d):
                part.weight_exponent.copy_(state[f"{name}.weight_exponent"].int())
                scale = torch.exp2(-part.weight_exponent.double())
                part.conv.weight.data.copy_(state[f"{name}.weight"].double() * scale[:, None, None, None])
                fraction = 2.0 ** -int(part.input_format.exponent)
                cast(Tensor, part.conv.bias).data.copy_(state[f"{name}.bias"].double() * scale * fraction)
        floats = {key for key in state if not _inside(key, exact)}
        net.load_state_dict({key: state[key].float() for key in floats}, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"these weights don't fit the network they name: {error}") from None
