"""WaLLoC's audio models between torch and their weights files: integers of a small model, tensors of the paper's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...layers.frozen import check_shapes
from .packets import PacketConfig
from .packets_exact import (
    ACTIVATION_BITS,
    AMPLITUDE_BITS,
    BANK_BITS,
    CARRIER,
    INPUT_BITS,
    LARGEST_ACTIVATION,
    LARGEST_FACTOR,
    LARGEST_INPUT,
    MOST_GAIN16,
    PHASE_BITS,
    frames_of,
)
from .packets_network import PacketNet, SmallDecoder, Snake, SnakeUnit

__all__ = ["TorchPackets", "export_small", "export_torch", "metadata", "small_arrays"]

WEIGHT_BITS = 16
FINEST = 40  # the largest exponent of a weight
FULL = 2.0**23  # a sample of 1


def metadata(config: PacketConfig, tag: str, gain16: tuple[int, int], nominal: int) -> dict[str, str]:
    """The text map of a weights file: all that is needed to read it."""
    fields = {"config": asdict(config), "tag": tag, "gain16": gain16, "nominal": nominal}
    return {"codec": "walloc-audio", "walloc-audio": json.dumps(fields, sort_keys=True)}


def export_small(net: PacketNet, tag: str, gain16: tuple[int, int], nominal: int) -> bytes:
    """The weights file of a small model, in the integers that decode."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in small_arrays(net).items()}
    return save(arrays, metadata(net.config, tag, gain16, nominal))


def export_torch(net: PacketNet, tag: str, gain16: tuple[int, int], nominal: int) -> bytes:
    """The weights file of a model of the paper, its tensors as they are."""
    from safetensors.torch import save

    state = {name: tensor.float().contiguous() for name, tensor in net.state_dict().items()}
    return save(state, metadata(net.config, tag, gain16, nominal))


@torch.no_grad()
def small_arrays(net: PacketNet) -> dict[str, NDArray[Any]]:
    """The tensors of a small model's weights file, by name: see `packets_exact.tensor_shapes`."""
    decoder = cast(SmallDecoder, net.decoder)
    arrays: dict[str, NDArray[Any]] = {
        "encoder.weight": net.encoder.weight[..., 0].float().numpy().copy(),
        "encoder.bias": cast(Tensor, net.encoder.bias).float().numpy().copy(),
        "decoder.input_exponent": decoder.input_exponent.numpy().astype(np.int8),
        "decoder.output_exponent": decoder.output_exponent.numpy().astype(np.int8),
    }
    _put_layer(arrays, "decoder.linear", decoder.linear, INPUT_BITS, LARGEST_INPUT)
    gain = decoder.gain.double().numpy() / 16
    _put_layer(arrays, "decoder.first", decoder.first, INPUT_BITS, LARGEST_INPUT, MOST_GAIN16 * np.abs(gain))
    exponent = arrays["decoder.first.weight_exponent"].astype(np.float64)
    arrays["decoder.gain"] = np.rint(gain * np.exp2(INPUT_BITS + exponent)).astype(np.int64)
    for k, unit in enumerate(decoder.units):
        name, unit = f"decoder.units.{k}", cast(SnakeUnit, unit)
        _put_snake(arrays, f"{name}.snake1", unit.snake1)
        _put_layer(arrays, f"{name}.conv1", unit.conv1, ACTIVATION_BITS, LARGEST_ACTIVATION)
        _put_snake(arrays, f"{name}.snake2", unit.snake2)
        _put_layer(arrays, f"{name}.conv2", unit.conv2, ACTIVATION_BITS, LARGEST_ACTIVATION)
    _put_snake(arrays, "decoder.snake", decoder.snake)
    _put_layer(arrays, "decoder.last", decoder.last, ACTIVATION_BITS, LARGEST_ACTIVATION)
    post = net.post.weight.double()
    if net.config.channels == 2:  # middle and side in, left and right out
        post = torch.stack([post[:, 0] + post[:, 1], post[:, 0] - post[:, 1]], 1) * 0.5**0.5
    arrays["post.weight"] = torch.round(post * 2.0**BANK_BITS).to(torch.int32).numpy()
    return arrays


def _put_layer(
    arrays: dict[str, NDArray[Any]],
    name: str,
    layer: nn.Module,
    source: int,
    largest: int,
    more: NDArray[np.float64] | float = 0.0,
) -> None:
    """Adds a convolution in integers, on the finest grid of each output whose sums fit float64.

    source: fractional bits of its inputs; largest: their magnitude, in units of that. more: what else is added to an
    output, as a number.
    """
    assert isinstance(layer, nn.Conv1d)
    weight = layer.weight.double().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.double().numpy()
    rows = np.abs(weight).reshape(len(weight), -1)
    most = (rows.max(1), (2.0 ** (WEIGHT_BITS - 1) - 1), rows.sum(1) * largest + (np.abs(bias) + more) * 2.0**source)
    spare = CARRIER - rows.shape[1] * float(largest) - 2  # roundings of weights and bias
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.minimum(np.log2(most[1] / most[0]), np.log2(spare / most[2])))
    exponent = np.where(rows.max(1) > 0, np.minimum(exponent, FINEST), 0)
    unit = np.exp2(exponent)
    arrays[f"{name}.weight"] = np.rint(weight * unit[:, None, None]).transpose(2, 1, 0).astype(np.int16)
    arrays[f"{name}.bias"] = np.rint(bias * unit * 2.0**source).astype(np.int64)
    arrays[f"{name}.weight_exponent"] = exponent.astype(np.int8)


def _put_snake(arrays: dict[str, NDArray[Any]], name: str, snake: Snake) -> None:
    """Adds an activation in integers: how many periods to a unit, and how large the periods are."""
    alpha, beta = snake.alpha.double().flatten().exp().numpy(), snake.beta.double().flatten().exp().numpy()
    frequency, amplitude = alpha / math.pi * 2.0**PHASE_BITS, 2.0**AMPLITUDE_BITS / (beta + 1e-9)
    for part, values in (("frequency", frequency), ("amplitude", amplitude)):
        arrays[f"{name}.{part}"] = np.rint(np.minimum(values, LARGEST_FACTOR)).astype(np.int32)


class TorchPackets:
    """A model of the paper for use: float32 in torch, so that machines may differ in the last bits of samples."""

    def __init__(self, config: PacketConfig, tensors: Mapping[str, Tensor], device: str) -> None:
        """Builds the network. WeightsError if the tensors are another's."""
        self.config, self.device = config, device
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in PacketNet(config).state_dict().items()}
        check_shapes(shapes, tensors)
        self.net = PacketNet(config).requires_grad_(False).eval()
        self.net.load_state_dict(dict(tensors))
        self.net.to(device)

    @torch.inference_mode()
    def latents(self, samples: NDArray[Any], gain16: int) -> NDArray[np.int16]:
        """The integer latents (latent, frames_of(n)) of samples (n, channels), float in [-1, 1]."""
        if not len(samples):
            return np.zeros((self.config.latent, frames_of(0, self.config)), np.int16)
        x = torch.from_numpy(np.ascontiguousarray(samples.T, np.float32))[None].to(self.device)
        x = nn.functional.pad(x, (0, -len(samples) % self.config.frame))
        u = self.net.latents_of(self.net.coefficients(x), torch.full((1,), gain16 / 16, device=self.device))
        return torch.round(u[0]).to(torch.int16).cpu().numpy()

    @torch.inference_mode()
    def samples(self, latents: NDArray[Any], gain16: int, n: int) -> NDArray[np.int32]:
        """The samples (n, channels) in units of 2**-23."""
        if not n:
            return np.zeros((0, self.config.channels), np.int32)
        u = torch.from_numpy(latents.astype(np.float32))[None].to(self.device)
        x = self.net.reconstruct(u, torch.full((1,), gain16 / 16, device=self.device))[0, :, :n]
        return torch.round(x.T.clamp(-1, 1) * FULL).to(torch.int32).cpu().numpy()
