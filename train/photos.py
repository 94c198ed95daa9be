"""The parts that tasks on photographs share: held-out photos, crops for a closed-form start, files of photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.images import RandomCrops, find_pictures, load_pictures
from ..errors import UsageError
from ..media.distortion import psnr

__all__ = ["code_pictures", "first_crops", "middle", "photos_in"]

HELD_OUT_EVERY = 48  # of so many pictures, one is held out, where there are enough of them
ENOUGH = 2 * HELD_OUT_EVERY
HELD_OUT_SIDE = 768  # pixels at most to a side of those


def photos_in(folder: Path, smallest: int, hold_out: bool = True) -> tuple[list[Tensor], list[Tensor]]:
    """Loads photographs (3, H, W) uint8 to train on, and the middles of those that are held out.

    smallest: pixels to a side that a picture must have. UsageError if none has.
    """
    pictures = load_pictures(find_pictures(folder), smallest)
    if not pictures:
        raise UsageError(f"{folder}: no picture there is at least {smallest} pixels wide and high")
    if not hold_out or len(pictures) < ENOUGH:
        return pictures, []
    held_out = [middle(picture, HELD_OUT_SIDE) for picture in pictures[::HELD_OUT_EVERY]]
    return [picture for index, picture in enumerate(pictures) if index % HELD_OUT_EVERY], held_out


def middle(picture: Tensor, size: int) -> Tensor:
    """Cuts at most size x size pixels from the middle of a picture (3, H, W)."""
    h, w = (min(size, side) for side in picture.shape[1:])
    top, left = (picture.shape[1] - h) // 2, (picture.shape[2] - w) // 2
    return picture[:, top : top + h, left : left + w]


def first_crops(pictures: list[Tensor], size: int, count: int, seed: int) -> Tensor:
    """Draws crops (count, 3, size, size) in [0, 1] that a network's closed-form start is computed from."""
    generator = np.random.default_rng(seed)
    source = RandomCrops(pictures, size, 1, seed)
    return torch.stack([source.crop(generator) for _ in range(count)]).float() / 255


def code_pictures(codec: Any, pictures: Sequence[Tensor], quality: float | None = None) -> tuple[float, float]:
    """Returns mean bits per pixel of whole files of pictures (3, H, W) uint8, and mean PSNR of what they decode to."""
    rows = []
    for picture in pictures:
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
        data = codec.compress(pixels, quality)
        bpp = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
        rows.append((bpp, psnr(codec.decompress(data), pixels, at_most=100.0)))
    mean_bpp, mean_psnr = np.mean(rows, 0)
    return float(mean_bpp), float(mean_psnr)
