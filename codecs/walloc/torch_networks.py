"""WaLLoC's networks in torch, as the codec calls them: the oracle of the engine, GPUs, and the models of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...entropy.exact import round_half_up
from ...errors import UsageError
from ..base.progress import each
from ..layers.autoencoder_kl import KLDecoder
from ..layers.inference import own_arithmetic
from ..layers.lattice import step_positions
from ..layers.wavelet import apply_plan, blocks_to_channels, channels_to_blocks, transform_plan
from .config import COEFFICIENT_BITS, LARGEST_COEFFICIENT, SYNTHESIS_BITS
from .network import LinearDecoder, WallocNet, mirrored

if TYPE_CHECKING:
    from ..layers.lattice_steps import LatticeStep

# Pixels worked on at a time, and the widest tile of the post-filter. Larger ones are slower: the allocator gives large
# tensors back to the system after each operation, and the page faults cost as much as the arithmetic (on one thread,
# a Kodak picture: 0.40 s and 0.27 s in the kernel with tiles of 256x1536, 0.42 s and 0.03 s with these).
_STRIP_PIXELS = 3 << 16
_TILE_WIDTH = 384  # a multiple of every model's block


class TorchNetworks:
    """`engine.Networks` over a frozen network."""

    def __init__(self, net: WallocNet, device: str = "cpu") -> None:
        self.net, self.device = net, device

    # ---- encoding

    @own_arithmetic
    def latents(self, pixels: NDArray[Any], gain16: int) -> NDArray[np.int16]:
        """The integer latents of (H, W, 3) pixels, made strip by strip."""
        net = self.net
        config = net.config
        stride = config.stride
        bottom, right = (-side % stride for side in pixels.shape[:2])
        if bottom or right:
            pixels = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="symmetric")
        scale = 1.0 / float(np.iinfo(pixels.dtype).max)
        full_height, full_width = pixels.shape[:2]
        h, w = full_height // stride, full_width // stride
        out = torch.empty(1, config.latent, h, w, dtype=torch.float32, device=self.device)
        across = transform_plan(full_width, config.levels, config.boundary, False, None)
        down = transform_plan(full_height, config.levels, config.boundary, False, None)
        gain = 2.0 ** (gain16 / 16)
        chunks = down.chunks
        # the full encoder sees further than one latent: it takes the picture whole
        per_strip = max(1, _STRIP_PIXELS // (64 * full_width)) if config.encoder == "linear" else len(chunks)
        for first in each(range(0, len(chunks), per_strip), "strip", 0.0, 0.9):
            group = chunks[first : first + per_strip]
            start, stop = group[0].source.start, group[-1].source.stop
            rows = np.arange(start - down.wrap, stop - down.wrap) % full_height if down.wrap else slice(start, stop)
            strip = torch.from_numpy(np.ascontiguousarray(pixels[rows].transpose(2, 0, 1)).astype(np.float32))
            strip = (strip.to(self.device) * scale - 0.5)[None]
            parts = []
            for chunk in group:
                source = strip[:, :, chunk.source.start - start : chunk.source.stop - start]
                parts.append(torch.matmul(chunk.matrix.to(strip), source))
            coefficients = apply_plan(torch.cat(parts, 2) if len(parts) > 1 else parts[0], -1, across)
            coefficients = blocks_to_channels(coefficients, config.levels)
            u = net.compander(net.encoder(coefficients) * gain)
            out[:, :, group[0].out.start // stride : group[-1].out.stop // stride] = torch.round(u)
        return out[0].cpu().numpy().astype(np.int16)

    # ---- the context model

    @own_arithmetic
    def walk(self, h: int, w: int, gain16: int) -> TorchWalk:
        return TorchWalk(self.net, self.device, h, w, gain16)

    # ---- decoding

    @own_arithmetic
    def pixels(
        self, latents: NDArray[np.int16], gain16: int, height: int, width: int, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """The picture of integer latents, tile by tile; the cut makes no difference."""
        net = self.net
        stride = net.config.stride
        integers = self.as_tensor(latents)
        full_height, full_width = integers.shape[-2] * stride, integers.shape[-1] * stride
        top = float(np.iinfo(dtype).max)
        post = net.post
        reach = 0 if post is None else post.border
        whole = isinstance(net.decoder, KLDecoder) or net.config.boundary == "periodization"
        columns = full_width if whole else min(full_width, _TILE_WIDTH)
        rows = full_height if whole else max(64, _STRIP_PIXELS // columns // 64 * 64)
        out = np.empty((height, width, 3), dtype)
        for start in each(range(0, full_height, rows), "strip", 0.3, 1.0):
            stop = min(full_height, start + rows)
            low, high = max(0, start - reach), min(full_height, stop + reach)
            x = self.inverse_wavelet(integers, gain16, low, high)
            for left in range(0, full_width, columns):
                right = min(full_width, left + columns)
                # beyond the borders the picture is mirrored: zeros would show, on saturated flats most
                down = mirrored(start - reach, stop + reach, full_height) - low
                across = mirrored(left - reach, right + reach, full_width)
                tile = x.index_select(2, down.to(x.device)).index_select(3, across.to(x.device))
                if post is not None:
                    tile = post(tile)[:, :, reach:-reach, reach:-reach]
                tile = torch.floor((tile[0] + 0.5) * top + 0.5).clamp_(0, top).permute(1, 2, 0).to(torch.int32)
                target = out[start:stop, left:right]
                target[:] = tile[: target.shape[0], : target.shape[1]].cpu().numpy()
        return out

    def as_tensor(self, latents: NDArray[np.int16]) -> Tensor:
        """The latents as networks take them, (1, latent, h, w) float32."""
        return torch.from_numpy(latents.astype(np.float32))[None].to(self.device)

    def inverse_wavelet(self, latents: Tensor, gain16: int, start: int, stop: int) -> Tensor:
        """The rows start:stop of pixels minus 1/2 before the post-filter, (1, 3, rows, W) float64 on a 2**-16 grid.

        start and stop are multiples of the stride. All sums are exact: coefficients of at most 21 bits, 23 after the
        first axis, times rows of matrix entries whose magnitudes sum to 2**26.5.
        """
        net = self.net
        levels, boundary, stride = net.config.levels, net.config.boundary, net.config.stride
        h = latents.shape[-2]
        down = transform_plan(h * stride, levels, boundary, True, SYNTHESIS_BITS)
        across = transform_plan(latents.shape[-1] * stride, levels, boundary, True, SYNTHESIS_BITS)
        chunks = [c for c in down.chunks if c.out.stop > start and c.out.start < stop]
        first, last = (0, h) if down.wrap else (chunks[0].source.start // stride, chunks[-1].source.stop // stride)
        if isinstance(net.decoder, LinearDecoder):
            # the 3x3 map looks one latent further; beyond the borders they are mirrored
            w = latents.shape[-1]
            rows, columns = mirrored(first - 1, last + 1, h), mirrored(-1, w + 1, w)
            near = latents.index_select(2, rows.to(latents.device)).index_select(3, columns.to(latents.device))
            y = net.decoder(net.expand_exact(near, gain16))[:, :, 1:-1, 1:-1]
        else:
            y = net.decoder(net.expand_exact(latents[:, :, first:last], gain16).float())
        grid = 2.0**COEFFICIENT_BITS
        y = torch.clamp(round_half_up(y.double() * grid), -LARGEST_COEFFICIENT * grid, LARGEST_COEFFICIENT * grid)
        y = apply_plan(channels_to_blocks(y, levels), -1, across)
        y = round_half_up(y.mul_(2.0**-SYNTHESIS_BITS))
        base = first * stride
        if down.wrap:
            y = torch.cat([y[:, :, -down.wrap :], y, y[:, :, : down.wrap]], 2)
            base = 0
        parts = [
            torch.matmul(c.matrix.to(y.device), y[:, :, c.source.start - base : c.source.stop - base]) for c in chunks
        ]
        x = round_half_up(torch.cat(parts, 2).mul_(2.0**-SYNTHESIS_BITS)).mul_(2.0**-COEFFICIENT_BITS)
        skip = start - chunks[0].out.start
        return x[:, :, skip : skip + stop - start]


class TorchWalk:
    """`engine.Walk` over a frozen network."""

    def __init__(self, net: WallocNet, device: str, h: int, w: int, gain16: int) -> None:
        if net.context is None:
            raise UsageError("this model has no context model")
        self.device, self._context, self._h, self._w = device, net.context, h, w
        self.steps: tuple[LatticeStep, ...] = net.context.steps
        self._latents = torch.zeros(1, net.config.latent, h, w, dtype=torch.float32, device=device)
        self._side = net.side(self._latents.shape, gain16)

    @own_arithmetic
    def rows(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        row, centre = self._context.rows(index, self._latents, self._side)
        return row.cpu().numpy(), centre.cpu().numpy()

    @own_arithmetic
    def put(self, index: int, values: NDArray[Any]) -> None:
        step = self.steps[index]
        where = step_positions(step, self._h, self._w).to(self.device)
        flat = self._latents[0].flatten(1)  # a view
        flat[step.start : step.stop, where] = torch.from_numpy(values.astype(np.float32)).to(self.device)

    @own_arithmetic
    def latents(self) -> NDArray[np.int16]:
        return self._latents[0].cpu().numpy().astype(np.int16)
