"""The tensors that a weights file of S2LIC's network `small` must have, by name and shape, without building a network.

Tests compare this list with the network of network.py, which torch fills from such files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.sums import weight_sums
from .config import FINER, LOW_BITS, WAVELET, S2licConfig

__all__ = ["ExactLayer", "check_sums", "check_written", "exact_layers", "tensor_shapes"]

Shapes = dict[str, tuple[int, ...]]

CARRIER = 23  # bits of a sum that torch carries in float32; one is left for rounding
WIDE_CARRIER = 52  # and in float64


@dataclass(frozen=True)
class ExactLayer:
    """A convolution in fixed point (`Exact` in network.py), whose sums have at most `carrier` bits.

    largest: of the integers of its input, or of each part where torch cuts an input in two.
    """

    name: str
    inner: int
    outer: int
    kernel: int
    largest: int
    weight_bits: int
    carrier: int


def exact_layers(config: S2licConfig) -> Iterator[ExactLayer]:
    """The layers in fixed point: all of them, whatever the order."""
    yield from _synthesis_layers(config)
    n, f = config.hyper, config.features
    yield _wide("hyper_synthesis.first", n, 4 * n, 3, False)
    yield _wide("hyper_synthesis.second", n, 4 * n, 3, True)
    yield _wide("hyper_synthesis.third", n, f, 3, True)
    start = 0
    for index, size in enumerate(config.slices):
        yield from _slice_layers(config, f"slices.{index}.", start, size)
        start += size


def _wide(name: str, inner: int, outer: int, kernel: int, relu: bool, bits: int = 16) -> ExactLayer:
    return ExactLayer(name, inner, outer, kernel, 2**bits - 1 if relu else 2 ** (bits - 1) - 1, 16, WIDE_CARRIER)


def _narrow(
    name: str, inner: int, outer: int, kernel: int, relu: bool, bits: int, weight_bits: int = 8, split: int = 0
) -> ExactLayer:
    largest = 2**bits - 1 if relu else 2 ** (bits - 1) - 1
    largest = max((largest >> split) + 1, 2**split) if split else largest
    return ExactLayer(name, inner, outer, kernel, largest, weight_bits, CARRIER)


def _slice_layers(config: S2licConfig, name: str, start: int, size: int) -> Iterator[ExactLayer]:
    c, h, r = config.context, config.hidden, config.refine
    seen = config.features + (c if start else 0)
    if start:
        yield _wide(f"{name}channels", start, c, 3, False)
    anchor = config.passes == 2 and config.anchor_context == "masked_conv"
    if anchor:
        yield _wide(f"{name}anchor", size, c, 5 if size <= 64 else 3, False)
    yield _wide(f"{name}first1", seen, h, 1, True)
    yield _wide(f"{name}first2", h, 2 * size, 1, True)
    if config.passes == 2:
        yield _wide(f"{name}second1", seen + (c if anchor else 0), h, 1, True)
        yield _wide(f"{name}second2", h, 2 * size, 1, True)
    if r:
        yield _wide(f"{name}refine1", size, r, 3, False)
        yield _wide(f"{name}refine2", seen + r, r, 1, True)
        yield _wide(f"{name}refine3", r, size, 1, True)


def _synthesis_layers(config: S2licConfig) -> Iterator[ExactLayer]:
    (c4, c8, c16), (n4, n8, n16) = config.synthesis_width, config.synthesis_blocks
    name = "synthesis."
    yield _wide(f"{name}linear", config.latent, 3 * 4**WAVELET, 1, False, 20)
    yield _wide(f"{name}enter", config.latent, c16, 3, False, 20)
    yield _narrow(f"{name}up8", c16, 4 * c8, 1, True, 8)
    yield _narrow(f"{name}up4", c8, 4 * c4, 1, True, 8)
    yield _narrow(f"{name}inject", 48, c4, 3, False, 10, 9)
    yield _narrow(f"{name}leave", c4, 48, 3, False, 9)
    for stage, width, count, finer in ((16, c16, n16, 0), (8, c8, n8, 0), (4, c4, n4, FINER)):
        split = LOW_BITS if finer else 0
        for k in range(count):
            block = f"{name}stage{stage}.{k}"
            yield _narrow(f"{block}.first", width, width, 3, False, 9 + finer, split=split)
            yield _narrow(f"{block}.second", width, width, 3, True, 8 + finer, split=split)


def tensor_shapes(config: S2licConfig) -> Shapes:
    """The shapes of all tensors but those of the entropy tables."""
    shapes: Shapes = {}
    for layer in exact_layers(config):
        shapes[f"{layer.name}.input.exponent"] = ()
        shapes[f"{layer.name}.layer.weight"] = (layer.outer, layer.inner, layer.kernel, layer.kernel)
        shapes[f"{layer.name}.layer.bias"] = shapes[f"{layer.name}.layer.weight_exponent"] = (layer.outer,)
    for stage, count in zip((4, 8, 16), config.synthesis_blocks, strict=True):
        shapes[f"synthesis.stream{stage}.exponent"] = ()
        shapes |= {f"synthesis.stage{stage}.{k}.stream.exponent": () for k in range(count)}
    for index in range(len(config.slices)):
        shapes |= {f"slices.{index}.{grid}.exponent": () for grid in ("grid", "refine_grid")}
    knots = {"gain": config.latent, "inverse": config.latent, "base": config.latent}
    knots |= {"z_mean": config.hyper, "z_level": config.hyper}
    for part, widths in (("analysis", config.analysis_width), ("synthesis", config.synthesis_width)):
        knots |= {f"{part}.gain{scale}": width for scale, width in zip((4, 8, 16), widths, strict=True)}
    shapes |= {f"{name}.values": (config.knots, channels) for name, channels in knots.items()}
    return shapes | _analysis_shapes(config)


def _analysis_shapes(config: S2licConfig) -> Shapes:
    (c4, c8, c16), n = config.analysis_width, config.hyper
    convs = {
        "analysis.enter": (c4, 48, 3),
        "analysis.down8": (c8, c4, 3),
        "analysis.down16": (c16, c8, 3),
        "analysis.leave": (config.latent, c16, 1),
        "hyper_analysis.net.0": (n, config.latent, 3),
        "hyper_analysis.net.2": (n, n, 5),
        "hyper_analysis.net.4": (n, n, 5),
    }
    for stage, width, count in zip((4, 8, 16), config.analysis_width, config.analysis_blocks, strict=True):
        for k in range(count):
            convs |= {f"analysis.stage{stage}.{k}.{half}": (width, width, 3) for half in ("first", "second")}
    shapes: Shapes = {"analysis.linear.weight": (config.latent, 3 * 4**WAVELET, 1, 1)}
    for name, (outer, inner, kernel) in convs.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outer, inner, kernel, kernel), (outer,)
    for k in range(config.attention):
        shapes |= {f"analysis.swin16.blocks.{k}.{part}": shape for part, shape in _swin_shapes(config).items()}
    return shapes


def _swin_shapes(config: S2licConfig) -> Shapes:
    """The shapes of a SwinV2 block (`layers/swin.py`), whose hidden layer has twice its width."""
    width = config.analysis_width[2]
    shapes: Shapes = {
        "qkv.weight": (3 * width, width),
        "temperature": (config.heads, 1, 1),
        "position.0.weight": (512, 2),
        "position.0.bias": (512,),
        "position.2.weight": (config.heads, 512),
        "out.weight": (width, width),
        "mlp.0.weight": (2 * width, width),
        "mlp.0.bias": (2 * width,),
        "mlp.2.weight": (width, 2 * width),
    }
    vectors = ("q_bias", "v_bias", "out.bias", "mlp.2.bias", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
    return shapes | dict.fromkeys(vectors, (width,))


def check_sums(arrays: Mapping[str, NDArray[Any]], config: S2licConfig) -> None:
    """Raises ValueError if some input could overrun a layer's carrier, as `ExactConv2d.freeze` does."""
    for layer in exact_layers(config):
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


_PARTS = ("weight", "bias", "weight_exponent")
