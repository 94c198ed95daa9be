"""A codec whose files have the compact form, and files of it: VQGAN with random weights, and with models of indices.

Compact files name their weights, so that these are made when they are asked for, here and by the tests alike.
"""

from __future__ import annotations

import functools
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from codec.codecs.vqgan.causal import CausalModel
from codec.codecs.vqgan.codec import VqganCodec
from codec.entropy.tables import Tables

if __package__:
    from ..codecs.vqgan.nets import TINY, random_net, weights_file
else:  # as a script
    sys.path.append(str(Path(__file__).resolve().parents[1] / "codecs" / "vqgan"))
    from nets import TINY, random_net, weights_file  # pyright: ignore[reportMissingImports]

__all__ = ["codec", "files"]


@functools.cache
def codec() -> VqganCodec:
    """The codec: 8 words have a histogram, 16 a causal model, 64 neither."""
    net = random_net(TINY)
    tables = Tables.from_pmf([np.full(8, (1 - 2.0**-14) / 8)], [0])
    words = net.level(16).codebook.numpy(force=True)
    model = CausalModel.new(words, [np.arange(120).reshape(10, 12) % 16], lines=12)
    states: dict[str, Any] = {"8.histogram": tables.to_state(), "16.mix": model.to_state(1 << 16)}
    arrays = {f"index.{name}.{key}": a for name, state in states.items() for key, a in state.items()}
    with tempfile.TemporaryDirectory() as folder:
        more = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        path = weights_file(net, Path(folder) / "tiny.safetensors", more)
        return VqganCodec.from_weights(None, None, path, "cpu")


@functools.cache
def files() -> tuple[tuple[str, bytes], ...]:
    """Names and bytes of files: each index coder, kinds of picture, packets, and what takes the long form."""
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, (40, 56, 4), np.uint8)
    alpha = Image.fromarray(pixels, "RGBA")
    alpha.info["icc_profile"] = bytes(range(256)) * 2
    png = io.BytesIO()
    Image.fromarray(pixels[..., :3]).save(png, "PNG")
    colours, grey = pixels[..., :3].copy(), pixels[..., 0].copy()
    made: dict[str, bytes] = {
        "histogram.vqgan": codec().compress(png.getvalue(), 1),
        "mix.vqgan": codec().compress(colours, 50),
        "fixed-grey.vqgan": codec().compress(grey, 100),
        "packets.vqgan": codec().with_settings(packets=5).compress(png.getvalue(), 50),
        "packets-grey.vqgan": codec().with_settings(packets=3).compress(grey, 1),
        "packets-metadata.vqgan": codec().with_settings(packets=4).compress(alpha, 50),
        "deep.vqgan": codec().compress(colours.astype(np.uint16) * 257, 50),
    }
    return tuple(made.items())
