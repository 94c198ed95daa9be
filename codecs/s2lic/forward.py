"""The encoder's transforms of S2LIC in float32, without torch: pixels to latents, and those to hyper latents.

The same networks as `network.Analysis` and `network.HyperAnalysis`, which train and stay the oracle. Differs in how a
picture is cut: bands of rows pass through all layers, each layer keeps the last rows that the next one needs, and
nothing is computed twice. Memory grows with the width of a picture, not with its height. The result is the same bits
for any number of threads; torch rounds differently, so a latent in some hundred thousand becomes another integer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.floats import Activation, Attention, Conv, Packet, empty, norm, unshuffle
from ...native.grids import Rows
from ..base.progress import each
from ..layers.frozen import FrozenState
from ..layers.row_layers import Convolved, ResidualRows, RowLayer, rounded_up
from ..layers.tiles import CELL
from ..layers.transform_settings import WAVELET

__all__ = ["Forward"]

WINDOW = 8  # cells to a side of a window of the attention
BAND = 1024  # cells that pass through the layers together, at least a row of windows

Array = NDArray[np.float32]


class Forward:
    """The analysis and hyper analysis of the configuration `small`."""

    def __init__(self, state: FrozenState, config: Mapping[str, Any]) -> None:
        """config: the settings of `network.S2licConfig` by name."""
        self.state, self.quality_steps = state, 64 * (config["knots"] - 1)
        self.latent = int(config["latent"])
        n4, n8, n16 = config["analysis_blocks"]
        self.packet = Packet(WAVELET, 3, "symmetric")
        linear = np.empty((self.latent, 3 * 4**WAVELET), np.float32)
        linear[:, self.packet.order()] = state.floats("analysis.linear.weight")[:, :, 0, 0]
        self.linear = Conv(linear)
        enter = state.floats("analysis.enter.weight")
        # Where pixel_unshuffle has (colour, row, column), a cell of 4 x 4 pixels has (row, column, colour) in memory.
        enter = enter.reshape(-1, 3, 4, 4, 3, 3).transpose(0, 2, 3, 1, 4, 5).reshape(enter.shape)
        self.enter = Conv(enter, state.floats("analysis.enter.bias"))
        self.stages = [self._blocks(f"analysis.stage{size}", n) for size, n in ((4, n4), (8, n8), (16, n16))]
        self.down8, self.down16 = self._conv("analysis.down8", 2), self._conv("analysis.down16", 2)
        self.swin = [
            SwinBlock(state, f"analysis.swin16.blocks.{k}", WINDOW // 2 * (k % 2)) for k in range(config["attention"])
        ]
        self.leave = self._conv("analysis.leave")
        self.hyper = [self._conv(f"hyper_analysis.net.{2 * k}", 1 if k == 0 else 2) for k in range(3)]

    def _conv(self, name: str, stride: int = 1) -> Conv:
        return Conv(self.state.floats(f"{name}.weight"), self.state.floats(f"{name}.bias"), stride)

    def _blocks(self, name: str, count: int) -> list[tuple[Conv, Conv]]:
        return [(self._conv(f"{name}.{k}.first"), self._conv(f"{name}.{k}.second")) for k in range(count)]

    def gain(self, name: str, step: int) -> Array:
        """The gain of each channel at a quality step, in float32 as `Gain` of layers/quality_gains.py has it."""
        values = self.state.floats(f"{name}.values")
        last = np.float32(len(values) - 1)
        place = np.clip(np.float32(step / self.quality_steps) * last, 0, last)
        near = np.maximum(1 - np.abs(place - np.arange(len(values), dtype=np.float32)), 0)
        return np.exp2(near @ values)

    def latents(self, pixels: NDArray[Any], step: int) -> Array:
        """The latents y before rounding, (h, w, M) float32, in quantisation steps; not clamped.

        pixels: (H, W, 3) uint8 or uint16; h = ceil(H / 16). step: the quality step.
        """
        h, w = (-(-side // CELL) for side in pixels.shape[:2])
        scale = 1.0 / float(np.iinfo(pixels.dtype).max)
        y = Rows.empty(h, w, self.latent, np.float32)
        gain = self.gain("gain", step)
        network = self._network(pixels, scale, step)
        rows = WINDOW * max(1, BAND // WINDOW // network.width)
        for top in each(range(0, h, rows), "band of rows", 0.0, 0.7):  # the rest is coding
            bottom = min(h, top + rows)
            coefficients = Rows(empty(bottom - top, w, 3 * 4**WAVELET), top, h)
            self.packet.rows(pixels, top, bottom, (h, w), coefficients, scale, -0.5)
            self.linear.rows(coefficients, top, bottom, y, gain=gain)
            r = network.need(top, bottom)
            # columns behind the picture's edge only fill windows up
            r = Rows(np.ascontiguousarray(r.cut(top, bottom)[:, :w]), top, h)
            self.leave.rows(r, top, bottom, y, gain=gain, residual=y)
        return y.array

    def _network(self, pixels: NDArray[Any], scale: float, step: int) -> RowLayer:
        """The layers from a picture to what `leave` makes a correction of; sides are multiples of a window's."""
        height, width = (-(-side // (CELL * WINDOW)) * WINDOW for side in pixels.shape[:2])
        first = _Unshuffled(pixels, scale, 4 * height, 4 * width)
        x: RowLayer = Convolved(first, self.enter, "none", self.gain("analysis.gain4", step))
        for size, down, blocks in zip((4, 8, 16), (None, self.down8, self.down16), self.stages, strict=True):
            if down is not None:
                x = Convolved(x, down, "leaky", self.gain(f"analysis.gain{size}", step))
            for layers in blocks:
                x = ResidualRows(x, *layers)
        if not self.swin:
            return x
        branch = x
        for block in self.swin:
            branch = _Swin(branch, block)
        return _Sum(x, branch)

    def hyper_latents(self, y: Array) -> Array:
        """The hyper latents z before rounding, (N, ceil(h / 4), ceil(w / 4)) float32, of latents (h, w, M).

        The factor of 8 lifts z above the noise of rounding.
        """
        y = np.pad(y, ((0, -y.shape[0] % 4), (0, -y.shape[1] % 4), (0, 0)))
        x = Rows(np.ascontiguousarray(y, np.float32), 0, len(y))
        acts: tuple[Activation, ...] = ("leaky", "leaky", "none")
        for layer, act in zip(self.hyper, acts, strict=True):
            out = Rows.empty(layer.height(x.height), layer.height(x.array.shape[1]), layer.outer, np.float32)
            layer.rows(x, 0, out.height, out, act=act)
            x = out
        return np.ascontiguousarray(x.array.transpose(2, 0, 1)) * np.float32(8)


# ---- layers that only S2LIC has


class _Unshuffled(RowLayer):
    """The picture minus 1/2, a cell of 4 x 4 pixels in (row, column, colour) as channels; mirrored over its edges."""

    def __init__(self, pixels: NDArray[Any], scale: float, height: int, width: int) -> None:
        super().__init__(height, width, 48)
        self.pixels, self.scale = pixels, scale

    def make(self, start: int, stop: int) -> None:
        unshuffle(self.pixels, 4, start, stop, self.held, self.scale, -0.5)


class _Swin(RowLayer):
    """A SwinV2 block: whole rows of windows."""

    def __init__(self, source: RowLayer, block: SwinBlock) -> None:
        super().__init__(source.height, source.width, source.channels)
        self.source, self.block = source, block
        # a picture of one window has no neighbours to shift to
        self.shift = block.shift if min(self.height, self.width) > WINDOW else 0
        self.attention = Attention(block.scale, block.bias, WINDOW, self.shift)

    def until(self, stop: int) -> int:
        return rounded_up(stop + self.shift, WINDOW) - self.shift

    def make(self, start: int, stop: int) -> None:
        x = self.source.need(start, stop)
        first, last = (start + self.shift) // WINDOW, -(-(stop + self.shift) // WINDOW)

        def room(channels: int) -> Rows:
            return Rows(empty(stop - start, self.width, channels), start, self.height)

        def flat(rows: Rows) -> Array:
            return rows.cut(start, stop).reshape(-1, self.channels)

        block, wide, mixed = self.block, room(self.block.qkv.outer), room(self.channels)
        block.qkv.rows(x, start, stop, wide)
        self.attention.rows(wide, first, last, mixed)
        other = room(self.channels)
        block.out.rows(mixed, start, stop, other)
        norm(flat(other), *block.norm1, flat(x), flat(self.held))
        hidden = room(block.hidden.outer)
        block.hidden.rows(self.held, start, stop, hidden, act="gelu")
        block.leave.rows(hidden, start, stop, other)
        norm(flat(other), *block.norm2, flat(self.held), flat(self.held))


class _Sum(RowLayer):
    """The sum of two layers, of which the second one is made of the first."""

    def __init__(self, source: RowLayer, branch: RowLayer) -> None:
        super().__init__(source.height, source.width, source.channels)
        self.source, self.branch = source, branch

    def make(self, start: int, stop: int) -> None:
        self.source.floor = start
        branch = self.branch.need(start, stop)
        np.add(self.source.need(start, stop).cut(start, stop), branch.cut(start, stop), out=self.held.cut(start, stop))


class SwinBlock:
    """The weights of `layers.swin.SwinBlock`."""

    def __init__(self, state: FrozenState, name: str, shift: int) -> None:
        def part(key: str) -> Array:
            return state.floats(f"{name}.{key}")

        self.shift = shift
        q, v = part("q_bias"), part("v_bias")
        self.qkv = Conv(part("qkv.weight"), np.concatenate([q, np.zeros_like(q), v]))
        self.out = Conv(part("out.weight"), part("out.bias"))
        self.hidden = Conv(part("mlp.0.weight"), part("mlp.0.bias"))
        self.leave = Conv(part("mlp.2.weight"), part("mlp.2.bias"))
        self.norm1, self.norm2 = ((part(f"norm{k}.weight"), part(f"norm{k}.bias")) for k in (1, 2))
        self.scale = np.exp(np.minimum(part("temperature").ravel(), np.float32(np.log(100.0))))
        hidden = np.maximum(_offsets() @ part("position.0.weight").T + part("position.0.bias"), 0)
        values = hidden @ part("position.2.weight").T  # of each offset and head
        self.bias = (16 / (1 + np.exp(-values[_pairs()]))).transpose(2, 0, 1)


def _offsets() -> Array:
    """The log-spaced offsets in a window, ((2w-1)**2, 2)."""
    steps = np.arange(1 - WINDOW, WINDOW, dtype=np.float32) * 8 / (WINDOW - 1)
    steps = (np.sign(steps) * np.log2(1 + np.abs(steps)) / 3).astype(np.float32)
    return np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)


def _pairs() -> NDArray[np.intp]:
    """The index of the offset of each pair of tokens in a window, (w**2, w**2)."""
    y, x = np.divmod(np.arange(WINDOW**2), WINDOW)
    down, across = (place[:, None] - place + WINDOW - 1 for place in (y, x))
    return down * (2 * WINDOW - 1) + across
