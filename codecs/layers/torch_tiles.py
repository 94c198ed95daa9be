"""Tiles of pictures and maps as tensors of torch: what the networks of the oracles are given of a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .tiles import mirrored_pixels

__all__ = ["cut", "slice_of"]


def cut(pixels: NDArray[Any], rows: range, columns: range, device: str) -> Tensor:
    """Cuts the pixels of rows and columns of cells, mirrored over the edges: (1, 3, H, W) float32 in [0, 1].

    pixels: (H, W, 3) uint8 or uint16.
    """
    tile = pixels[mirrored_pixels(rows, pixels.shape[0])][:, mirrored_pixels(columns, pixels.shape[1])]
    x = torch.from_numpy(tile.transpose(2, 0, 1).astype(np.float32)).to(device)[None]
    return x * (1.0 / float(np.iinfo(pixels.dtype).max))


def slice_of(cells: range, origin: int = 0) -> slice:
    """Returns the slice of these cells in what begins at the cell `origin`."""
    return slice(cells.start - origin, cells.stop - origin)
