"""From integer latents to pixels without torch: the linear decoder, the inverse wavelet transform, the post-filter.

What each part computes is in network.py; here the rows of a picture pass through all of it, a band at a time, and every
layer keeps the few last rows that the next band needs. Nothing is computed twice, and memory grows with the width.
Beyond the borders the picture is mirrored before the post-filter, as far as an output depends on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native import pictures
from ...native.conv import Narrow
from ...native.grids import Grid, Rows
from ...native.wavelet import Packet, channel_order
from ...native.wide import Wide
from ..base.progress import each
from ..layers.frozen import FrozenState, Integers
from .config import (
    COEFFICIENT_BITS,
    EXPANSION_BITS,
    LARGEST_COEFFICIENT,
    WallocConfig,
    expansion_integers,
    inverse_gain,
)

__all__ = ["Synthesis", "as_network", "mirrored"]

_FACTOR = 2  # of the post-filter's pixel_unshuffle
_BAND = 8  # rows of blocks that pass at a time


def as_network(state: FrozenState, name: str, bits: int) -> Integers:
    """A layer as a network of torch holds it: weights of so many bits, biases as float32 has them."""
    weight, bias, exponent = state.integers(name)
    limit = 2 ** (bits - 1) - 1
    rounded = bias.astype(np.float32).astype(np.float64)
    if rounded.size and float(np.abs(rounded).max()) >= 2.0**62:
        raise ValueError(f"a bias of {name} is larger than any sum")
    return Integers(np.clip(weight, -limit, limit).astype(np.int16), rounded.astype(np.int64), exponent)


def mirrored(start: int, stop: int, size: int) -> NDArray[np.int64]:
    """The indices start ... stop - 1 folded into 0 ... size - 1 by reflection about the first and the last one."""
    if size == 1:
        return np.zeros(stop - start, np.int64)
    folded = np.arange(start, stop) % (2 * (size - 1))
    return np.minimum(folded, 2 * (size - 1) - folded)


class _Window:
    """The rows of an activation between the first one that is still needed and the last one that there is."""

    def __init__(self, height: int, *shape: int, dtype: Any) -> None:
        self._height, self._memory = height, np.empty((0, *shape), dtype)
        self.rows = Rows(self._memory, 0, height)

    def move(self, keep: int, stop: int) -> Rows:
        """Lets go of the rows before `keep`, makes room for those up to `stop`, and returns what there is."""
        rows = self.rows
        keep = max(keep, rows.first) if len(rows.array) else keep
        left = rows.array[min(len(rows.array), max(0, keep - rows.first)) :]
        if stop - keep > len(self._memory):
            fresh = np.empty((stop - keep + (stop - keep) // 2, *self._memory.shape[1:]), self._memory.dtype)
            fresh[: len(left)] = left
            self._memory = fresh
        elif len(left) and keep > rows.first:
            self._memory[: len(left)] = left.copy() if keep - rows.first < len(left) else left
        self.rows = Rows(self._memory[: stop - keep], keep, self._height)
        return self.rows


class _Filter:
    """The post-filter's layers, each with its place in the chain and what follows it."""

    def __init__(self, state: FrozenState, config: WallocConfig) -> None:
        self.input = state.grid("post.input", 10, signed=True)
        self.stream = state.grid("post.stream", 22, signed=True)
        channels = 3 * _FACTOR**2
        self.layers = [Narrow(*as_network(state, "post.first", 10), self.input)]
        self.grids: list[Grid] = []  # of the output of each layer but the last
        for k in range(config.blocks):
            for conv, act in (("conv1", "act1"), ("conv2", "act2")):
                self.grids.append(state.grid(f"post.blocks.{k}.{act}", 8, signed=False))
                self.layers.append(Narrow(*as_network(state, f"post.blocks.{k}.{conv}", 8), self.grids[-1]))
        self.grids.append(state.grid("post.act", 8, signed=False))
        self.layers.append(Narrow(*as_network(state, "post.last", 8), self.grids[-1]))
        self.phase = np.ascontiguousarray(state.floats("post.phase")[0].transpose(1, 2, 0))  # (phases, phases, width)
        self.width = self.phase.shape[2]
        inner = [layer.inner for layer in self.layers]
        if inner != [channels, *[self.width] * (len(inner) - 1)] or self.layers[-1].outer != channels:
            raise ValueError("the layers of the post-filter don't follow one another")
        reach = _FACTOR * len(self.layers)
        self.border = -(-reach // config.stride) * config.stride // _FACTOR  # cells, whole blocks
        if not 0 <= COEFFICIENT_BITS - self.input.exponent < COEFFICIENT_BITS + 1:
            raise ValueError("the post-filter's input has a grid that isn't computed here")


class Synthesis:
    """The decoder of the shipped models. ValueError where its bounds don't hold."""

    def __init__(self, state: FrozenState, config: WallocConfig) -> None:
        if config.decoder != "small" or config.boundary != "symmetric" or not 1 <= config.levels <= 5:
            raise ValueError("only the small decoder with reflected borders is computed here")
        self.config = config
        order = channel_order(3, config.levels)
        grid = state.grid("decoder.input", 16, signed=True)
        layer = as_network(state, "decoder.linear", 16)
        self.linear = Wide(*(np.ascontiguousarray(part[order]) for part in layer), grid)
        self.post = _Filter(state, config)

    def pixels(
        self, latents: NDArray[np.int16], gain16: int, height: int, width: int, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """The picture, (height, width, 3), of integer latents (latent, h, w), in whose range they must be."""
        run = _Run(self, latents, gain16, np.empty((height, width, 3), dtype))
        blocks = latents.shape[1]
        for start in each(range(0, blocks, _BAND), "strip", 0.3, 1.0):
            run.decode(min(blocks, start + _BAND))
        return run.out


class _Run:
    """One picture on its way through the decoder. Cells are 2x2 pixels."""

    def __init__(self, synthesis: Synthesis, latents: NDArray[np.int16], gain16: int, out: NDArray[Any]) -> None:
        self.synthesis, self.out = synthesis, out
        config, post = synthesis.config, synthesis.post
        levels, bits = config.levels, config.latent_bits
        _, self.h, self.w = latents.shape
        self.latents = latents
        exact = expansion_integers(bits) * 2.0**-EXPANSION_BITS * inverse_gain(gain16)
        self.expanded = synthesis.linear.grid.integers(exact).astype(np.int32)
        limit = LARGEST_COEFFICIENT << COEFFICIENT_BITS
        self.packet = Packet(self.h, self.w, 3, levels, config.boundary, limit, shuffle=_FACTOR)
        self.per_block = config.stride // _FACTOR
        self.cells, border = self.h * self.per_block, post.border
        columns, self.extended = self.w * self.per_block, self.cells + 2 * border
        self.between = _Window(self.h, 3 * config.stride, self.w * config.stride, dtype=np.int32)
        self.x = _Window(self.cells, columns, 3 * _FACTOR**2, dtype=np.int32)
        wide = columns + 2 * border
        self.columns = mirrored(-_FACTOR * border, _FACTOR * (columns + border), _FACTOR * columns).astype(np.int32)
        self.lines = mirrored(-_FACTOR * border, _FACTOR * (self.cells + border), _FACTOR * self.cells)
        count = len(post.layers)
        # The rows that outputs depend on, of the input of each layer and of the last one's output.
        self.low = [border - count + layer for layer in range(count + 1)]
        self.done = list(self.low)
        shapes = [3 * _FACTOR**2, *[post.width] * count]
        self.activations = [_Window(self.extended, wide, channels, dtype=np.int16) for channels in shapes[:count]]
        self.stream = _Window(self.extended, wide, post.width, dtype=np.float32)
        repeats = (1, -(-wide // post.phase.shape[1]), 1)
        self.phase = np.tile(post.phase, repeats)[:, :wide]
        self.last = _Window(self.extended, wide, 3 * _FACTOR**2, dtype=np.float32)

    def decode(self, bottom: int) -> None:
        """Brings the picture forward, as far as the rows of blocks before `bottom` allow."""
        known = bottom * self.per_block
        self._inverse_wavelet(bottom)
        # The extended picture's rows that these make: all mirrored ones need them, or rows that are kept.
        if bottom == self.h:
            stop = self.extended - self.low[0]
        else:
            stop = self.synthesis.post.border + known
            reach = int(self.lines[2 * self.low[0] : 2 * stop].max(initial=0)) // _FACTOR
            if reach >= known:
                return
        self._filter(stop)

    def _inverse_wavelet(self, bottom: int) -> None:
        """Makes the cells of the rows of blocks up to `bottom`."""
        post, packet = self.synthesis.post, self.packet
        top = self.x.rows.stop // self.per_block
        first, stop = packet.needs(top, bottom)
        begin = max(first, self.between.rows.stop)
        between = self.between.move(first, stop)
        if begin < stop:
            packet.across(Rows(self._coefficients(begin, stop), begin, self.h), begin, stop, between)
        # Kept: what isn't written yet, and what the rows below the picture mirror.
        kept = min(self.done[-1] - post.border, max(0, self.cells - post.border - 2))
        x = self.x.move(max(0, kept), bottom * self.per_block)
        packet.down(between, top, bottom, x)

    def _coefficients(self, first: int, stop: int) -> NDArray[np.int32]:
        """The wavelet coefficients of rows of blocks first ... stop - 1, (n, w, bands): the linear decoder."""
        linear = self.synthesis.linear
        largest = len(self.expanded) // 2
        lines = self.latents[:, mirrored(first - 1, stop + 1, self.h)][:, :, mirrored(-1, self.w + 1, self.w)]
        near = self.expanded[lines.transpose(1, 2, 0).astype(np.intp) + largest]
        x = Rows(np.ascontiguousarray(near), 0, stop - first + 2)
        out = Rows.empty(x.height, self.w + 2, linear.outputs, np.int32)
        limit = LARGEST_COEFFICIENT << COEFFICIENT_BITS
        linear.rows(x, 1, stop - first + 1, out=out, limit=limit, out_exponent=COEFFICIENT_BITS)
        return np.ascontiguousarray(out.array[1:-1, 1:-1])

    def _filter(self, stop: int) -> None:
        """Runs the post-filter on the rows of the extended picture before `stop`."""
        post = self.synthesis.post
        count = len(post.layers)
        begin, end = self.done[0], stop
        if begin < end:
            cells = self.activations[0].move(max(self.low[0], self.done[1] - 1), end)
            pictures.quantised_cells(
                self.x.rows, self.lines[2 * begin : 2 * end], self.columns, post.input, cells.cut(begin, end)
            )
            self.done[0] = end
        for index, layer in enumerate(post.layers):
            begin = self.done[index + 1]
            end = min(stop - 1 - index, self.extended - self.low[index + 1])
            if begin >= end:
                return
            x = self.activations[index].rows
            if index == count - 1:
                out = self.last.move(begin, end)
                layer.run(x, begin, end, values=out)
                self._write(out, begin, end)
            else:
                out = self.activations[index + 1].move(max(self.low[index + 1], self.done[index + 2] - 1), end)
                self._layer(index, layer, x, begin, end, out)
            self.done[index + 1] = end

    def _layer(self, index: int, layer: Narrow, x: Rows, begin: int, end: int, out: Rows) -> None:
        """One layer but the last: the first one starts the residual stream, every second one adds to it."""
        post = self.synthesis.post
        if index == 0:
            stream = self.stream.move(min(begin, *self.done[3:-1:2]), end)
            offset = begin % len(self.phase)
            tiles = -(-(offset + end - begin) // len(self.phase))
            phase = Rows(np.tile(self.phase, (tiles, 1, 1))[offset:], begin, self.extended)
            layer.run(x, begin, end, residual=phase, stream=post.stream, kept=stream, out=out, grid=post.grids[0])
        elif index % 2:
            layer.run(x, begin, end, out=out, grid=post.grids[index])
        else:
            stream = self.stream.rows
            layer.run(x, begin, end, residual=stream, stream=post.stream, kept=stream, out=out, grid=post.grids[index])

    def _write(self, corrections: Rows, begin: int, end: int) -> None:
        """Adds the post-filter's output, rows begin ... end - 1 of the extended picture, and writes pixels."""
        border = self.synthesis.post.border
        pictures.pixels_of_cells(
            self.x.rows.cut(begin - border, end - border), corrections.cut(begin, end), border, self.out,
            _FACTOR * (begin - border),
        )  # fmt: skip
