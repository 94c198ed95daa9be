"""Random crops of photographs, held in memory (or on a GPU) as uint8: no decoding while training.

Folder of JPEG, PNG or WebP files, searched recursively. Source of the idea to keep everything in memory: with two
cores, image decoding would starve the networks (about 110 megapixels are 330 MB).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import IterableDataset

from ..errors import MediaError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def find_pictures(folder: str | Path) -> list[Path]:
    """Sorted picture files below `folder`. Raises MediaError if there is none."""
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise MediaError(f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))}) in this folder; name one with --data")
    return files


def load_pictures(files: list[Path], smallest: int) -> list[Tensor]:
    """The pictures as (3, H, W) uint8 tensors, of all files that measure at least `smallest` pixels on both sides."""
    from PIL import Image

    out = []
    for file in files:
        with Image.open(file) as image:
            if min(image.size) >= smallest:
                out.append(torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1))
    return out


class RandomCrops(IterableDataset[Tensor]):
    """Endless batches of square crops, flipped and turned at random; batch n depends on seed and n only.

    Yields (batch, 3, size, size) float32 in [0, 1], from batch `start` on, so that a resumed run goes on where it
    stopped. Pictures are drawn in proportion to the number of crops they hold.
    """

    def __init__(self, pictures: list[Tensor], size: int, batch: int, seed: int, start: int = 0) -> None:
        self.pictures, self.size, self.batch, self.seed, self.start = pictures, size, batch, seed, start
        areas = np.array([p.shape[1] * p.shape[2] for p in pictures], dtype=np.float64)
        self.weights = areas / areas.sum()

    def crop(self, generator: np.random.Generator) -> Tensor:
        """A random square crop, (3, size, size) uint8, in one of the eight symmetries."""
        picture = self.pictures[generator.choice(len(self.pictures), p=self.weights)]
        top = generator.integers(picture.shape[1] - self.size + 1)
        left = generator.integers(picture.shape[2] - self.size + 1)
        crop = picture[:, top : top + self.size, left : left + self.size]
        turns = int(generator.integers(8))
        crop = torch.rot90(crop, turns % 4, (1, 2))
        return crop.flip(2) if turns >= 4 else crop

    def __iter__(self) -> Iterator[Tensor]:
        for index in itertools.count(self.start):
            generator = np.random.default_rng([self.seed, index])
            yield torch.stack([self.crop(generator) for _ in range(self.batch)]).float() / 255


class DeviceCrops:
    """Random square crops of pictures that lie on a device, in one of the eight symmetries, drawn on the device.

    pictures: (3, H, W) uint8, sides of `size` or more. scales: besides, each picture made smaller by these factors,
    where it is still large enough. Pictures are drawn in proportion to their areas.
    """

    def __init__(self, pictures: Sequence[Tensor], size: int, scales: Sequence[float], device: torch.device) -> None:
        self.size = size
        everything = [picture.to(device) for picture in pictures]
        for scale in scales:
            everything += [
                smaller(picture, scale)
                for picture in everything[: len(pictures)]
                if min(picture.shape[1:]) * scale >= size
            ]
        if not everything:
            raise MediaError(f"no picture is at least {size} pixels wide and high")
        self.pixels = torch.cat([picture.flatten() for picture in everything])
        shapes = torch.tensor([picture.shape[1:] for picture in everything])
        counts = 3 * shapes.prod(1)
        self.start = (counts.cumsum(0) - counts).to(device)
        self.height, self.width = (side.to(device) for side in shapes.unbind(1))
        areas = shapes.prod(1).double()
        self.until = (areas.cumsum(0) / areas.sum()).float().to(device)
        self.until[-1] = 2.0  # float32 must not leave a gap below 1

    def draw(self, batch: int) -> Tensor:
        """Draws a batch of crops: (batch, 3, size, size) float32 in [0, 1], channels last."""
        size, device = self.size, self.pixels.device
        chance = torch.rand(6, batch, 1, 1, device=device)
        index = torch.searchsorted(self.until, chance[0].flatten(), right=True)
        height, width, start = (side[index][:, None, None] for side in (self.height, self.width, self.start))
        top = (chance[1] * (height - size + 1)).long().clamp_max(height - size)
        left = (chance[2] * (width - size + 1)).long().clamp_max(width - size)
        line = torch.arange(size, device=device)
        row, column = line[:, None].expand(batch, size, size), line.expand(batch, size, size)
        turned = chance[3] < 0.5
        row, column = torch.where(turned, column, row), torch.where(turned, row, column)
        row = torch.where(chance[4] < 0.5, size - 1 - row, row)
        column = torch.where(chance[5] < 0.5, size - 1 - column, column)
        place = start + (top + row) * width + left + column
        planes = torch.arange(3, device=device)[:, None, None] * (height * width)[:, None]
        crops = self.pixels[(place[:, None] + planes)]
        return (crops.float() / 255).contiguous(memory_format=torch.channels_last)


def smaller(picture: Tensor, scale: float) -> Tensor:
    """A picture (3, H, W) uint8 made smaller: both sides times `scale`, by a bicubic filter that doesn't alias."""
    size = [round(side * scale) for side in picture.shape[1:]]
    out = F.interpolate(picture[None].float(), size=size, mode="bicubic", antialias=True, align_corners=False)
    return out.round().clamp(0, 255).to(torch.uint8)[0]
