"""The network of VQGAN in torch, as the codec uses it: on GPUs, and where asked for.

`Engine` (engine.py) does the same without torch. Memory is bounded by tiles (layers/tiles.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base.progress import each
from ..layers.inference import own_arithmetic
from ..layers.tiles import CELL, around, mirrored_pixels, tiles

if TYPE_CHECKING:
    from .network import VqganNet

__all__ = ["Oracle"]


class Oracle:
    """The network of a model, on its device."""

    def __init__(self, net: VqganNet, device: str) -> None:
        self.net, self.device = net, device

    @own_arithmetic
    def indices(self, pixels: NDArray[Any], size: int) -> NDArray[np.int32]:
        """The index map (h, w) of a picture (H, W, 3) uint8 or uint16, for the codebook of so many words."""
        h, w = (-(-side // CELL) for side in pixels.shape[:2])
        halo = self.net.config.encoder_halo
        out = np.empty((h, w), np.int32)
        for rows, columns in each(list(tiles(h, w)), "tile", 0.0, 0.9):  # the rest is coding
            seen_rows, seen_columns = around(rows, h, halo), around(columns, w, halo)
            part = self.net.indices(_cut(pixels, seen_rows, seen_columns, self.device), size)[0]
            inside = part[_slice(rows, seen_rows.start), _slice(columns, seen_columns.start)]
            out[_slice(rows), _slice(columns)] = inside.cpu().numpy()
        return out

    @own_arithmetic
    def pixels(self, indices: NDArray[Any], size: int, height: int, width: int, dtype: Any) -> NDArray[Any]:
        """The picture (height, width, 3) of an index map (h, w), tile by tile; the cut makes no difference."""
        h, w = indices.shape
        largest = float(np.iinfo(dtype).max)
        halo = self.net.config.halo
        given = torch.from_numpy(indices.astype(np.int64)).to(self.device)[None]
        out = np.empty((height, width, 3), dtype)
        for rows, columns in each(list(tiles(h, w)), "tile", 0.1, 1.0):  # what comes before is decoding
            seen_rows, seen_columns = around(rows, h, halo), around(columns, w, halo)
            x = self.net.exactly(given[:, _slice(seen_rows), _slice(seen_columns)], size)[0]
            top, left = CELL * (rows.start - seen_rows.start), CELL * (columns.start - seen_columns.start)
            target = out[CELL * rows.start : CELL * rows.stop, CELL * columns.start : CELL * columns.stop]
            x = x[:, top : top + target.shape[0], left : left + target.shape[1]]
            x = torch.floor(x * largest + 0.5).clamp_(0, largest).permute(1, 2, 0).to(torch.int32)
            target[:] = x.cpu().numpy()
        return out


def _cut(pixels: NDArray[Any], rows: range, columns: range, device: str) -> Tensor:
    """The pixels of rows and columns of cells, mirrored over the edges: (1, 3, H, W) float32 in [0, 1]."""
    tile = pixels[mirrored_pixels(rows, pixels.shape[0])][:, mirrored_pixels(columns, pixels.shape[1])]
    x = torch.from_numpy(tile.transpose(2, 0, 1).astype(np.float32)).to(device)[None]
    return x * (1.0 / float(np.iinfo(pixels.dtype).max))


def _slice(cells: range, origin: int = 0) -> slice:
    return slice(cells.start - origin, cells.stop - origin)
