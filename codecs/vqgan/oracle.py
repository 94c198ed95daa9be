"""The network of VQGAN in torch, as the codec uses it: on GPUs, and where asked for.

`Engine` (engine.py) does the same without torch. Memory is bounded by tiles (layers/tiles.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..base.progress import each
from ..layers.inference import own_arithmetic
from ..layers.tiles import CELL, around, tiles
from ..layers.torch_tiles import cut, slice_of

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
            part = self.net.indices(cut(pixels, seen_rows, seen_columns, self.device), size)[0]
            inside = part[slice_of(rows, seen_rows.start), slice_of(columns, seen_columns.start)]
            out[slice_of(rows), slice_of(columns)] = inside.cpu().numpy()
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
            x = self.net.exactly(given[:, slice_of(seen_rows), slice_of(seen_columns)], size)[0]
            top, left = CELL * (rows.start - seen_rows.start), CELL * (columns.start - seen_columns.start)
            target = out[CELL * rows.start : CELL * rows.stop, CELL * columns.start : CELL * columns.stop]
            x = x[:, top : top + target.shape[0], left : left + target.shape[1]]
            x = torch.floor(x * largest + 0.5).clamp_(0, largest).permute(1, 2, 0).to(torch.int32)
            target[:] = x.cpu().numpy()
        return out
