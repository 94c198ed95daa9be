"""The tensors that a weights file of VQGAN's network `small` must have, by name and shape, without building a network.

Tests compare this list with the network of network.py, which torch fills from such files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers.exact_shapes import (
    ExactLayer,
    Shapes,
    block_layers,
    block_shapes,
    conv_shapes,
    layer_shapes,
    synthesis_layers,
    synthesis_shapes,
    wide,
)
from ..layers.transform_settings import WAVELET
from .config import VqganConfig

__all__ = ["check_codebooks", "exact_layers", "tensor_shapes"]


def exact_layers(config: VqganConfig) -> Iterator[ExactLayer]:
    """The layers in fixed point: all of them, whatever the order."""
    yield from synthesis_layers(config)
    yield from block_layers("stage", config.width, config.blocks)
    yield wide("leave", config.width, config.latent, 1, False)
    for size in config.codebooks:
        yield wide(f"levels.{size}.post", config.dim, config.width, 1, False)


def tensor_shapes(config: VqganConfig) -> Shapes:
    """The shapes of all tensors of the network."""
    shapes = layer_shapes(exact_layers(config)) | synthesis_shapes(config) | block_shapes("stage", config.blocks)
    shapes |= {"stream.exponent": (), "latents.exponent": ()}
    shapes["linear.weight"] = (config.latent, 3 * 4**WAVELET, 1, 1)
    convs = {"enter": (config.width, config.latent, 1)}
    for k in range(config.head_blocks):
        convs |= {f"head.{k}.{half}": (config.width, config.width, 3) for half in ("first", "second")}
    for size in config.codebooks:
        shapes[f"levels.{size}.codebook"] = (size, config.dim)
        convs[f"levels.{size}.quant"] = (config.dim, config.width, 1)
    return shapes | conv_shapes(convs)


def check_codebooks(arrays: Mapping[str, NDArray[Any]], config: VqganConfig) -> None:
    """Raises ValueError unless codewords are integers of 16 bits, on the grid of the layer that takes them."""
    for size in config.codebooks:
        words = arrays[f"levels.{size}.codebook"]
        if words.dtype != np.int16 or words.min() < -(2**15 - 1):
            raise ValueError(f"the words of codebook {size} aren't integers of 16 bits")
