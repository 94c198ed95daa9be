"""Networks with exact layers to and from the tensors of a weights file: integers and exponents, floats for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ...entropy.exact import ExactConv2d, FixedPoint
from ...errors import WeightsError


def _exact_parts(net: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in net.named_modules() if isinstance(part, (ExactConv2d, FixedPoint))}


def export_state(net: nn.Module, dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """Integers and exponents of exact layers; everything else in `dtype`."""
    exact = _exact_parts(net)
    state: dict[str, Tensor] = {}
    for name, part in exact.items():
        if isinstance(part, ExactConv2d):
            weight, bias = part.quantised()
            state[f"{name}.weight"] = weight.to(torch.int8 if part.weight_bits <= 8 else torch.int16).contiguous()
            state[f"{name}.bias"] = bias.to(torch.int64)
            state[f"{name}.weight_exponent"] = part.weight_exponent.to(torch.int8)
        elif isinstance(part, FixedPoint):
            state[f"{name}.exponent"] = part.exponent.to(torch.int8)
    for name, tensor in net.state_dict().items():
        if not any(name.startswith(f"{n}.") for n in exact):
            state[name] = tensor.to(dtype).contiguous()
    return state


def import_state(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fills `net` from the tensors of a weights file. WeightsError if they are not this network's."""
    rest = dict(state)
    exact = _exact_parts(net)
    try:
        for name, part in exact.items():
            if isinstance(part, FixedPoint):
                part.exponent.copy_(rest.pop(f"{name}.exponent").int())
        for name, part in exact.items():
            if isinstance(part, ExactConv2d):
                part.weight_exponent.copy_(rest.pop(f"{name}.weight_exponent").int())
                scale = torch.exp2(-part.weight_exponent.double())
                part.conv.weight.data.copy_(rest.pop(f"{name}.weight").double() * scale[:, None, None, None])
                fraction = 2.0 ** -int(part.input_format.exponent)
                cast(Tensor, part.conv.bias).data.copy_(rest.pop(f"{name}.bias").double() * scale * fraction)
        expected = {key for key in net.state_dict() if not any(key.startswith(f"{n}.") for n in exact)}
        if set(rest) != expected:
            raise KeyError(f"unexpected or missing tensors {sorted(set(rest) ^ expected)[:4]}")
        net.load_state_dict({key: value.float() for key, value in rest.items()}, strict=False)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"these weights don't fit the network they name: {error}") from None
