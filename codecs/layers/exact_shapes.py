"""The tensors that networks in fixed point have in a weights file, by name and shape, and the bounds of their sums.

Nothing is built: a file is compared with what its network needs before anything is made of it. No torch. Tests compare
these lists with the networks of exact_transforms.py, which torch fills from such files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.sums import weight_sums
from .transform_settings import FINER, LOW_BITS, WAVELET, SynthesisSizes

__all__ = [
    "ExactLayer",
    "Shapes",
    "block_layers",
    "block_shapes",
    "check_sums",
    "check_written",
    "conv_shapes",
    "layer_shapes",
    "narrow",
    "synthesis_layers",
    "synthesis_shapes",
    "wide",
]

Shapes = dict[str, tuple[int, ...]]

CARRIER = 23  # bits of a sum that torch carries in float32; one is left for rounding
WIDE_CARRIER = 52  # and in float64


@dataclass(frozen=True)
class ExactLayer:
    """A convolution in fixed point (`exact_transforms.Exact`), whose sums have at most `carrier` bits.

    largest: of the integers of its input, or of each part where torch cuts an input in two.
    """

    name: str
    inner: int
    outer: int
    kernel: int
    largest: int
    weight_bits: int
    carrier: int


_PARTS = ("weight", "bias", "weight_exponent")


def wide(name: str, inner: int, outer: int, kernel: int, relu: bool, bits: int = 16) -> ExactLayer:
    """An `Exact` layer whose sums are carried in float64."""
    return ExactLayer(name, inner, outer, kernel, 2**bits - 1 if relu else 2 ** (bits - 1) - 1, 16, WIDE_CARRIER)


def narrow(
    name: str, inner: int, outer: int, kernel: int, relu: bool, bits: int, weight_bits: int = 8, split: int = 0
) -> ExactLayer:
    """An `Exact` layer whose sums are carried in float32. split: low bits of an input that is cut in two."""
    largest = 2**bits - 1 if relu else 2 ** (bits - 1) - 1
    largest = max((largest >> split) + 1, 2**split) if split else largest
    return ExactLayer(name, inner, outer, kernel, largest, weight_bits, CARRIER)


def block_layers(stage: str, width: int, count: int, finer: int = 0) -> Iterator[ExactLayer]:
    """The layers of a stage of `exact_transforms.ExactResidual` blocks."""
    split = LOW_BITS if finer else 0
    for k in range(count):
        yield narrow(f"{stage}.{k}.first", width, width, 3, False, 9 + finer, split=split)
        yield narrow(f"{stage}.{k}.second", width, width, 3, True, 8 + finer, split=split)


def block_shapes(stage: str, count: int) -> Shapes:
    """The shapes of the tensors of such a stage besides those of its layers."""
    return {f"{stage}.{k}.stream.exponent": () for k in range(count)}


def layer_shapes(layers: Iterable[ExactLayer]) -> Shapes:
    """The shapes of the tensors of layers in fixed point."""
    shapes: Shapes = {}
    for layer in layers:
        shapes[f"{layer.name}.input.exponent"] = ()
        shapes[f"{layer.name}.layer.weight"] = (layer.outer, layer.inner, layer.kernel, layer.kernel)
        shapes[f"{layer.name}.layer.bias"] = shapes[f"{layer.name}.layer.weight_exponent"] = (layer.outer,)
    return shapes


def conv_shapes(convs: Mapping[str, tuple[int, int, int]]) -> Shapes:
    """The shapes of weights and biases of convolutions in floats: outputs, inputs, kernel by name."""
    shapes: Shapes = {}
    for name, (outer, inner, kernel) in convs.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outer, inner, kernel, kernel), (outer,)
    return shapes


def synthesis_layers(config: SynthesisSizes) -> Iterator[ExactLayer]:
    """The layers of `exact_transforms.Synthesis`."""
    (c4, c8, c16), (n4, n8, n16) = config.synthesis_width, config.synthesis_blocks
    name = "synthesis."
    yield wide(f"{name}linear", config.latent, 3 * 4**WAVELET, 1, False, 20)
    yield wide(f"{name}enter", config.latent, c16, 3, False, 20)
    yield narrow(f"{name}up8", c16, 4 * c8, 1, True, 8)
    yield narrow(f"{name}up4", c8, 4 * c4, 1, True, 8)
    yield narrow(f"{name}inject", 48, c4, 3, False, 10, 9)
    yield narrow(f"{name}leave", c4, 48, 3, False, 9)
    for stage, width, count, finer in ((16, c16, n16, 0), (8, c8, n8, 0), (4, c4, n4, FINER)):
        yield from block_layers(f"{name}stage{stage}", width, count, finer)


def synthesis_shapes(config: SynthesisSizes) -> Shapes:
    """The shapes of the tensors of `exact_transforms.Synthesis` besides those of its layers."""
    shapes: Shapes = {}
    for scale, width, count in zip((4, 8, 16), config.synthesis_width, config.synthesis_blocks, strict=True):
        shapes[f"synthesis.stream{scale}.exponent"] = ()
        shapes[f"synthesis.gain{scale}.values"] = (config.knots, width)
        shapes |= block_shapes(f"synthesis.stage{scale}", count)
    return shapes


def check_sums(arrays: Mapping[str, NDArray[Any]], layers: Iterable[ExactLayer]) -> None:
    """Raises ValueError if some input could overrun a layer's carrier, as `ExactConv2d.freeze` does."""
    for layer in layers:
        weight, bias = arrays[f"{layer.name}.layer.weight"], arrays[f"{layer.name}.layer.bias"]
        limit = 2 ** (layer.weight_bits - 1) - 1
        if weight.dtype.kind == "i" and max((sums := weight_sums(weight)).most, -sums.least) <= limit:
            size = sums.magnitudes.astype(np.float64)
        else:
            size = np.clip(np.abs(weight.astype(np.float64)), 0, limit).reshape(layer.outer, -1).sum(1)
        worst = size * layer.largest + np.abs(bias.astype(np.float64))
        if float(worst.max()) > 2.0**layer.carrier:
            raise ValueError(
                f"a sum of {layer.name} can reach 2**{np.log2(float(worst.max())):.1f}, more than 2**{layer.carrier}"
            )


def check_written(arrays: Mapping[str, NDArray[Any]], layers: Iterable[ExactLayer]) -> None:
    """Raises ValueError for integers that no export writes: torch, which has them as floats, would make others."""
    for layer in layers:
        weight, bias, exponent = (arrays[f"{layer.name}.layer.{part}"] for part in _PARTS)
        limit = 2 ** (layer.weight_bits - 1) - 1
        plain = all(array.dtype.kind == "i" for array in (weight, bias, exponent))
        if not plain or max(int(weight.max()), -int(weight.min())) > limit or np.abs(exponent.astype(int)).max() > 60:
            raise ValueError(f"{layer.name} has weights of more than {layer.weight_bits} bits, or of strange exponents")
        if not np.array_equal(bias.astype(np.float32).astype(np.float64), bias.astype(np.float64)):
            raise ValueError(f"{layer.name} has biases of more than 24 bits")
