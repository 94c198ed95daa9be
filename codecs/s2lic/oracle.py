"""The networks of S2LIC in torch, as the codec uses them: on GPUs, for the networks of the paper, and where asked for.

`Engine` (engine.py) does the same in integers, without torch. Memory is bounded by tiles (layers/tiles.py).
"""

from __future__ import annotations

import functools
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..base.progress import each
from ..layers.inference import own_arithmetic
from ..layers.tiles import CELL, around, tiles
from ..layers.torch_tiles import cut, slice_of
from .config import LARGEST_LATENT, MEAN_BITS
from .refine import STEPS

if TYPE_CHECKING:
    from .engine import Take
    from .network import S2licNet
    from .paper import S2licPaperNet
    from .refine import Refiner

__all__ = ["Oracle", "checksum", "refined"]

_HALO_ANALYSIS = 16  # cells around a tile that are looked at; a multiple of the attention's window of 8


class Oracle:
    """The networks of a model, on its device."""

    def __init__(self, net: S2licNet | S2licPaperNet, device: str) -> None:
        self.net, self.device = net, device

    @own_arithmetic
    def latents(self, pixels: NDArray[Any], step: int) -> NDArray[np.float32]:
        """The latents y of a picture, before rounding, (h, w, M), in quantisation steps.

        pixels: (H, W, 3) uint8 or uint16. step: the quality step.
        """
        config = self.net.config
        unit = CELL * config.multiple
        h, w = (-(-side // unit) * config.multiple for side in pixels.shape[:2])
        out = torch.empty(1, config.latent, h, w, dtype=torch.float32, device=self.device)
        t = torch.tensor([step / config.quality_steps], dtype=torch.float32, device=self.device)
        window = config.stride // CELL
        for rows, columns in each(list(tiles(h, w)), "tile", 0.0, 0.7):  # the rest is coding
            seen_rows = around(rows, h, _HALO_ANALYSIS, window)
            seen_columns = around(columns, w, _HALO_ANALYSIS, window)
            x = cut(pixels, seen_rows, seen_columns, self.device).contiguous(memory_format=torch.channels_last)
            inside = (min(h, seen_rows.stop) - seen_rows.start, min(w, seen_columns.stop) - seen_columns.start)
            y = self.net.latents(x, t, (CELL * inside[0], CELL * inside[1]))
            out[..., slice_of(rows), slice_of(columns)] = y[
                ..., slice_of(rows, seen_rows.start), slice_of(columns, seen_columns.start)
            ]
        out.clamp_(-LARGEST_LATENT / 2, LARGEST_LATENT / 2)
        return _last(out).cpu().numpy()

    @own_arithmetic
    def hyper_latents(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """The hyper latents z before rounding, (N, ceil(h / 4), ceil(w / 4)), of latents (h, w, M)."""
        x = _first(y).to(self.device)
        h, w = x.shape[-2:]
        return self.net.hyper_analysis(F.pad(x, (0, -w % 4, 0, -h % 4)))[0].cpu().numpy()

    @own_arithmetic
    def z_parameters(self, step: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """The mean and the table row of each channel of z, (N,), at a quality step."""
        mean, row = self.net.z_parameters(step)
        return mean.cpu().numpy(), row.cpu().numpy()

    @own_arithmetic
    def predict(self, z_hat: NDArray[np.float64], height: int, width: int, step: int, take: Take) -> Tensor:
        """The decoded latents y_hat, (1, M, h, w) float64, of z_hat (N, ceil(h / 4), ceil(w / 4)).

        take(mean, row, channels, cells): called pass after pass with means in units of 2**-MEAN_BITS and table rows,
        (channels, n) each, and the flat indices of the n cells; gives the symbols, (channels, n) int32.
        """

        def taken(mean: Tensor, row: Tensor, channels: slice, cells: Tensor) -> Tensor:
            units = (mean * 2**MEAN_BITS).to(torch.int32).cpu().numpy()
            symbols = take(units, row.cpu().numpy(), channels, cells.cpu().numpy())
            return torch.from_numpy(symbols).to(mean.device, torch.float64) + mean

        return self.net.predict(torch.from_numpy(z_hat)[None].to(self.device), height, width, step, taken)

    def integers(self, y_hat: Tensor) -> NDArray[np.int32]:
        """The latents (h, w, M) in units of 2**-MEAN_BITS."""
        return _last(_units(y_hat)).cpu().numpy()

    @own_arithmetic
    def pixels(self, y_hat: Tensor, step: int, height: int, width: int, dtype: Any) -> NDArray[Any]:
        """The picture of decoded latents, (height, width, 3), tile by tile; the cut makes no difference."""
        h, w = y_hat.shape[-2:]
        largest = float(np.iinfo(dtype).max)
        config = self.net.config
        out = np.empty((height, width, 3), dtype)
        for rows, columns in each(list(tiles(h, w)), "tile", 0.3, 1.0):  # what comes before is decoding
            seen_rows = around(rows, h, config.synthesis_halo, config.multiple)
            seen_columns = around(columns, w, config.synthesis_halo, config.multiple)
            x = self.net.pixels(y_hat[..., slice_of(seen_rows), slice_of(seen_columns)], step)[0]
            top, left = CELL * (rows.start - seen_rows.start), CELL * (columns.start - seen_columns.start)
            target = out[CELL * rows.start : CELL * rows.stop, CELL * columns.start : CELL * columns.stop]
            x = x[:, top : top + target.shape[0], left : left + target.shape[1]]
            x = torch.floor(x * largest + 0.5).clamp_(0, largest).permute(1, 2, 0).to(torch.int32)
            target[:] = x.cpu().numpy()
        return out


def refined(
    refiner: Refiner,
    device: str,
    y: NDArray[np.float32],
    z_hat: NDArray[Any],
    pixels: NDArray[Any],
    step: int,
    effort: float,
) -> NDArray[np.float32]:
    """Latents that gradient steps have made better for this picture (refine.py), (h, w, M) as y."""
    steps = max(1, round(STEPS * effort))
    part = functools.partial(cut, pixels, device=device)
    size = (pixels.shape[0], pixels.shape[1])
    better = _Refinement(refiner, device)(_first(y), torch.from_numpy(z_hat)[None], part, size, step, steps)
    return _last(better.clamp_(-LARGEST_LATENT / 2, LARGEST_LATENT / 2)).cpu().numpy()


class _Refinement:
    def __init__(self, refiner: Refiner, device: str) -> None:
        self.refiner, self.device = refiner, device

    @own_arithmetic
    def __call__(self, y: Tensor, z_hat: Tensor, cut: Any, size: tuple[int, int], step: int, steps: int) -> Tensor:
        return self.refiner(y.to(self.device), z_hat.to(self.device), cut, size, step, steps)


def checksum(y_hat: Tensor) -> int:
    """The CRC-32 of latents, (1, M, h, w) float64: of the integers of their grid, 4 bytes each, low byte first."""
    return zlib.crc32(_units(y_hat).cpu().contiguous().numpy().astype("<i4", copy=False).data)


def _units(y_hat: Tensor) -> Tensor:
    return torch.round(y_hat * 2**MEAN_BITS).to(torch.int32)


def _last(x: Tensor) -> Tensor:
    """(1, C, h, w) as (h, w, C)."""
    return x[0].permute(1, 2, 0).contiguous()


def _first(x: NDArray[Any]) -> Tensor:
    """(h, w, C) as (1, C, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None]
