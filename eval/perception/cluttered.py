"""Labelled pictures that anybody can make again: handwritten digits over photographs, 128 x 128.

Labelled photographs can't be had without a network. A digit of MNIST (LeCun, Cortes) is drawn over a part of a
photograph, in any colour, at any place, 48 to 96 pixels wide: a task in which detail and background matter, as in
"cluttered MNIST" (Mnih, Heess, Graves, Kavukcuoglu, arXiv 1406.6247). Training pictures have the training digits over
training photographs, test pictures the test digits over test photographs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...datasets.images import find_pictures
from ...datasets.places import find_data
from .tasks.digits import mnist

__all__ = ["SIDE", "cluttered"]

SIDE = 128
SMALLEST, LARGEST = 48, 96  # pixels to a side of a digit
PHOTOGRAPHS = {"train": "images/train", "test": "images/test-kodak"}
MOST = 60  # photographs that are opened: any number of parts are cut from each


def cluttered(
    part: str, count: int, seed: int = 0, photographs: Path | None = None, digits: Path | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (count, 128, 128, 3) and labels (count,). The same call gives the same ones.

    part: "train" or "test". photographs, digits: folders, in place of those of the data. UsageError if they aren't
    there; MediaError for a folder without pictures.
    """
    shapes, labels = mnist(find_data("mnist", "MNIST") if digits is None else digits, part)
    folder = find_data(PHOTOGRAPHS[part], "photographs") if photographs is None else photographs
    draw = np.random.default_rng([seed, part == "test"])
    files = find_pictures(folder)
    chosen = sorted(draw.permutation(len(files))[:MOST].tolist())
    scenes = [_opened(files[index]) for index in chosen]
    order = draw.permutation(len(shapes))[np.arange(count) % len(shapes)]
    out = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for index, digit in enumerate(order.tolist()):
        out[index] = _scene(scenes[int(draw.integers(len(scenes)))], shapes[digit], draw)
    return out, labels[order].astype(np.int64)


def _opened(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _scene(photo: NDArray[np.uint8], digit: NDArray[np.uint8], draw: np.random.Generator) -> NDArray[np.uint8]:
    """A part of a photograph with a digit over it."""
    top, left = (int(draw.integers(max(1, n - SIDE + 1))) for n in photo.shape[:2])
    part = photo[top : top + SIDE, left : left + SIDE]
    if part.shape[:2] != (SIDE, SIDE):
        part = np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    side = int(draw.integers(SMALLEST, LARGEST + 1))
    ink = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)).astype(np.float32) / 255
    y, x = (int(draw.integers(SIDE - side + 1)) for _ in range(2))
    out = part.astype(np.float32)
    under = out[y : y + side, x : x + side]
    colour = draw.uniform(0, 255, 3).astype(np.float32)
    if np.abs(colour - under.mean((0, 1))).mean() < 48:  # it would hardly be seen
        colour = (colour + 128) % 256
    alpha = (0.85 * ink)[:, :, None]
    under[:] = (1 - alpha) * under + alpha * colour
    return np.rint(out).astype(np.uint8)
