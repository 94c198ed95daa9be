"""The tensors that a weights file of S2LIC's network `small` must have, by name and shape, without building a network.

Tests compare this list with the network of network.py, which torch fills from such files.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..layers.exact_shapes import (
    ExactLayer,
    Shapes,
    conv_shapes,
    layer_shapes,
    synthesis_layers,
    synthesis_shapes,
    wide,
)
from ..layers.transform_settings import WAVELET
from .config import S2licConfig

__all__ = ["exact_layers", "tensor_shapes"]


def exact_layers(config: S2licConfig) -> Iterator[ExactLayer]:
    """The layers in fixed point: all of them, whatever the order."""
    yield from synthesis_layers(config)
    n, f = config.hyper, config.features
    yield wide("hyper_synthesis.first", n, 4 * n, 3, False)
    yield wide("hyper_synthesis.second", n, 4 * n, 3, True)
    yield wide("hyper_synthesis.third", n, f, 3, True)
    start = 0
    for index, size in enumerate(config.slices):
        yield from _slice_layers(config, f"slices.{index}.", start, size)
        start += size


def _slice_layers(config: S2licConfig, name: str, start: int, size: int) -> Iterator[ExactLayer]:
    c, h, r = config.context, config.hidden, config.refine
    seen = config.features + (c if start else 0)
    if start:
        yield wide(f"{name}channels", start, c, 3, False)
    anchor = config.passes == 2 and config.anchor_context == "masked_conv"
    if anchor:
        yield wide(f"{name}anchor", size, c, 5 if size <= 64 else 3, False)
    yield wide(f"{name}first1", seen, h, 1, True)
    yield wide(f"{name}first2", h, 2 * size, 1, True)
    if config.passes == 2:
        yield wide(f"{name}second1", seen + (c if anchor else 0), h, 1, True)
        yield wide(f"{name}second2", h, 2 * size, 1, True)
    if r:
        yield wide(f"{name}refine1", size, r, 3, False)
        yield wide(f"{name}refine2", seen + r, r, 1, True)
        yield wide(f"{name}refine3", r, size, 1, True)


def tensor_shapes(config: S2licConfig) -> Shapes:
    """The shapes of all tensors but those of the entropy tables."""
    shapes = layer_shapes(exact_layers(config)) | synthesis_shapes(config)
    for index in range(len(config.slices)):
        shapes |= {f"slices.{index}.{grid}.exponent": () for grid in ("grid", "refine_grid")}
    knots = {"gain": config.latent, "inverse": config.latent, "base": config.latent}
    knots |= {"z_mean": config.hyper, "z_level": config.hyper}
    knots |= {f"analysis.gain{scale}": width for scale, width in zip((4, 8, 16), config.analysis_width, strict=True)}
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
    shapes: Shapes = {"analysis.linear.weight": (config.latent, 3 * 4**WAVELET, 1, 1), **conv_shapes(convs)}
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
