"""A tiny WaLLoC of each rate, made in seconds from crops of the sample photo: no download, no shipped weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec.codecs.walloc.codec import WallocCodec
from codec.codecs.walloc.config import WallocConfig
from codec.codecs.walloc.network import WallocNet, initialise

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"16x": (12, (3, 3, 3, 3), 0.6), "4x": (48, (3, 9, 12, 12, 12), 2.4)}
ABOUT = {
    "licence": "MIT",
    "training_data": "one photo",
    "recipe": "none",
    "steps": 0,
    "seconds": 0,
    "device": "CPU",
    "commit": "",
    "metrics": {},
}


@dataclass(frozen=True)
class Tiny:
    """codec: loaded from the exported file. float_net: the same network before it was made exact."""

    codec: WallocCodec
    float_net: WallocNet
    weights: Path


def make_tiny(tag: str, folder: Path, photo: np.ndarray) -> Tiny:
    from codec.train.walloc import WallocRecipe, WallocTask  # imports Lightning: seconds

    latent, groups, bpp = SIZES[tag]
    config = WallocConfig(
        latent=latent, decoder="small", width=8, blocks=1, boundary="symmetric", groups=groups, context_width=8
    )
    torch.manual_seed(0)
    task = WallocTask(config, WallocRecipe(steps=1), tag)
    rng = np.random.default_rng(0)
    corners = [(rng.integers(photo.shape[0] - 63), rng.integers(photo.shape[1] - 63)) for _ in range(24)]
    crops = np.stack([photo[y : y + 64, x : x + 64] for y, x in corners]).transpose(0, 3, 1, 2)
    pictures = torch.from_numpy(crops.copy()).float() / 255
    net = task.ema
    initialise(net, pictures, bpp)
    with torch.no_grad():  # everything that starts at zero does something
        for name, parameter in net.named_parameters():
            if name.endswith(("last.conv.weight", "conv2.conv.weight")):
                parameter.normal_(0, 0.004)
            elif name.endswith("third.conv.weight"):
                parameter.normal_(0, 0.05)
            elif name.startswith("context.") and name.endswith("third.conv.bias"):
                parameter[len(parameter) // 2 :] = 1.0  # log2 scale
            elif name.startswith("context.") and name.endswith("first.conv.weight"):
                parameter[config.context_width :].normal_(0, 0.02)
    net.train()
    with torch.no_grad():
        net(pictures, torch.zeros(len(pictures)), hard=True)  # shows the quantisers the range of their values
    net.eval()
    path = task.export(folder, ABOUT)
    return Tiny(WallocCodec.from_weights(None, None, path, "cpu"), net, path)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(ROOT / "samples" / "dog.png") as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> dict[str, Tiny]:
    """By tag; both lie in one folder with their manifests."""
    folder = tmp_path_factory.mktemp("weights")
    return {tag: make_tiny(tag, folder, photo) for tag in SIZES}


@pytest.fixture(scope="session")
def tiny(tiny_weights: dict[str, Tiny]) -> Callable[[str], Tiny]:
    return tiny_weights.__getitem__
