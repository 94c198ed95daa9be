"""Random crops of photographs, held in memory as uint8: no decoding while training.

Folder of JPEG, PNG or WebP files, searched recursively. Source of the idea to keep everything in memory: with two
cores, image decoding would starve the networks (about 110 megapixels are 330 MB).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def find_pictures(folder: str | Path) -> list[Path]:
    """Sorted picture files below `folder`. Raises MediaError if there is none."""
    from ..errors import MediaError

    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise MediaError(f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))}) in this folder; name one with --data")
    return files


def load_pictures(files: list[Path], smallest: int) -> list[Tensor]:
    """(3, H, W) uint8 tensors of all files that measure at least `smallest` pixels on both sides."""
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
