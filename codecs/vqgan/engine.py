"""The networks of VQGAN `small` without torch: pictures to index maps in floats, and back in integers.

Both go by rows, the decoder of very wide pictures also by stripes: its memory is bounded, whatever sides a file claims.
It gives the same integers as `VqganNet.exactly` of network.py, the oracle, on every machine; the encoder is in float32,
and takes another codeword where two are all but equally near. `codec.py` calls either by the same methods (`Oracle`,
oracle.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.floats import Conv, Packet, empty
from ...native.grids import Grid, Rows
from ...native.pixels import regrid
from ...native.wide import Wide
from ..base.progress import each, tell
from ..layers.exact_shapes import check_written
from ..layers.exact_synthesis import TURN, Block, Stages, Synthesis, SynthesisSteps
from ..layers.frozen import FrozenState
from ..layers.row_layers import Convolved, ResidualRows, RowLayer
from ..layers.streaming import Chain, Window, around
from ..layers.tiles import CELL
from ..layers.tiles import around as beside
from ..layers.transform_settings import WAVELET
from .config import LATENT_BITS, VqganConfig
from .shapes import check_codebooks, exact_layers

__all__ = ["Engine"]

BAND = 1024  # cells that pass through the encoder together
STRIPE = 2048  # columns of cells that are decoded together: some 320 MB
SCORES = 1 << 19  # distances to codewords that are in memory together


class Engine:
    """The networks of a weights file, whose tensors have been checked; ValueError if kernels can't hold their sums."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: VqganConfig) -> None:
        check_written(arrays, exact_layers(config))
        check_codebooks(arrays, config)
        self.config, self._state = config, FrozenState(arrays)
        self._decoder = Decoder(self._state, config)

    @functools.cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._state, self.config)

    def indices(self, pixels: NDArray[Any], size: int) -> NDArray[np.int32]:
        """The index map (h, w) of a picture (H, W, 3) uint8 or uint16, for the codebook of so many words."""
        return self._encoder.indices(pixels, size)

    def pixels(self, indices: NDArray[Any], size: int, height: int, width: int, dtype: Any) -> NDArray[Any]:
        """The picture (height, width, 3) of an index map (h, w), whose indices are below `size`."""
        out = np.empty((height, width, 3), dtype)
        cells = indices.shape[1]
        starts = range(0, cells, STRIPE)
        for number, start in enumerate(starts):
            columns = range(start, min(cells, start + STRIPE))
            seen = beside(columns, cells, self.config.halo)
            target = out[:, CELL * columns.start : CELL * columns.stop]
            left = CELL * (columns.start - seen.start)
            part = out if len(starts) == 1 else np.empty((height, left + target.shape[1], 3), dtype)

            def told(done: float, before: int = number) -> None:
                tell(0.1 + 0.9 * (before + done) / len(starts), "rows")

            self._decoder.chain(indices[:, seen.start : seen.stop], size, part, told).run()
            if part is not out:
                target[:] = part[:, left:]
        return out


# ---- the encoder, in floats


class Encoder:
    """The layers from pixels to indices."""

    def __init__(self, state: FrozenState, config: VqganConfig) -> None:
        self.state, self.config = state, config
        self.packet = Packet(WAVELET, 3, "symmetric")
        linear = np.empty((config.latent, 3 * 4**WAVELET), np.float32)
        linear[:, self.packet.order()] = state.floats("linear.weight")[:, :, 0, 0]
        self.linear, self.enter = Conv(linear), self._conv("enter")
        self.head = [(self._conv(f"head.{k}.first"), self._conv(f"head.{k}.second")) for k in range(config.head_blocks)]
        self._levels: dict[int, tuple[Conv, Conv]] = {}

    def _conv(self, name: str) -> Conv:
        return Conv(self.state.floats(f"{name}.weight"), self.state.floats(f"{name}.bias"))

    def _level(self, size: int) -> tuple[Conv, Conv]:
        """The layer that makes vectors, and that which gives |word|**2 - 2 word * vector of each word of a codebook."""
        if size not in self._levels:
            exponent = int(self.state.arrays[f"levels.{size}.post.input.exponent"])
            words = np.ldexp(self.state.floats(f"levels.{size}.codebook"), -exponent)
            self._levels[size] = self._conv(f"levels.{size}.quant"), Conv(-2 * words, np.square(words).sum(1))
        return self._levels[size]

    def indices(self, pixels: NDArray[Any], size: int) -> NDArray[np.int32]:
        """See `Engine.indices`."""
        h, w = (-(-side // CELL) for side in pixels.shape[:2])
        out = np.empty((h, w), np.int32)
        x: RowLayer = Convolved(_Coefficients(pixels, self, h, w), self.enter, "none")
        for layers in self.head:
            x = ResidualRows(x, *layers)
        quant, distances = self._level(size)
        rows, few = max(1, BAND // w), max(1, SCORES // size)
        for top in each(range(0, h, rows), "band of rows", 0.0, 0.9):  # the rest is coding
            bottom = min(h, top + rows)
            vectors = Rows(empty(bottom - top, w, quant.outer), top, h)
            quant.rows(x.need(top, bottom), top, bottom, vectors)
            line, chosen = vectors.array.reshape(1, -1, quant.outer), out[top:bottom].reshape(-1)
            for start in range(0, len(chosen), few):  # however wide the picture is
                part = Rows(line[:, start : start + few], 0, 1)
                scores = Rows(empty(1, part.array.shape[1], size), 0, 1)
                distances.rows(part, 0, 1, scores)
                chosen[start : start + few] = scores.array[0].argmin(1)
        return out


class _Coefficients(RowLayer):
    """The linear map of a picture's wavelet packet; beyond its edges the picture is mirrored."""

    def __init__(self, pixels: NDArray[Any], encoder: Encoder, height: int, width: int) -> None:
        super().__init__(height, width, encoder.linear.outer)
        self.pixels, self.encoder = pixels, encoder
        self.scale = 1.0 / float(np.iinfo(pixels.dtype).max)

    def make(self, start: int, stop: int) -> None:
        size = (self.height, self.width)
        step = max(1, BAND // self.width)
        for top in range(start, stop, step):
            bottom = min(stop, top + step)
            packet = Rows(empty(bottom - top, self.width, 3 * 4**WAVELET), top, self.height)
            self.encoder.packet.rows(self.pixels, top, bottom, size, packet, self.scale, -0.5)
            self.encoder.linear.rows(packet, top, bottom, self.held)


# ---- the decoder, in integers


class Decoder:
    """The layers from indices to pixels; ValueError if a sum of theirs can't be proved to fit."""

    def __init__(self, state: FrozenState, config: VqganConfig) -> None:
        self.config = config
        self.levels = {size: _Level(state, size) for size in config.codebooks}
        self.stream = state.grid("stream", 20, True)
        self.stage = [Block(state, f"stage.{k}") for k in range(config.blocks)]
        self.leave_input = state.grid("leave.input", 16, True)
        self.leave = Wide(*state.integers("leave.layer"), self.leave_input)
        self.latents = state.grid("latents", LATENT_BITS, True)
        self.synthesis = Synthesis(state, config)

    def chain(
        self, indices: NDArray[Any], size: int, out: NDArray[Any], told: Callable[[float], None] | None = None
    ) -> Chain:
        """The steps that fill `out`, (height, width, 3) uint8 or uint16, with the picture of an index map (h, w)."""
        chain, cells = Chain(), (indices.shape[0], indices.shape[1])
        stream, x = self._enter(chain, indices, self.levels[size])
        x = Stages(chain, *cells).stage(self.stage, 1, stream, x, self.leave_input, wide=True)
        latents = self._leave(chain, x)
        SynthesisSteps(self.synthesis, chain, latents, cells, self.config.step, out, told)
        return chain

    def _enter(self, chain: Chain, indices: NDArray[Any], level: _Level) -> tuple[Window, Window]:
        """The stream that codewords make, float32, and its integers for the layer that comes next."""
        (h, w), channels = indices.shape, level.post.outputs
        grid = self.stage[0].input if self.stage else self.leave_input
        stream, x = (chain.window(h, w, channels, dtype) for dtype in (np.float32, np.int16))

        def enter(top: int, bottom: int) -> None:
            words = Rows(level.words[indices[top:bottom]], top, h)
            rows = Rows(np.empty((bottom - top, w, channels), np.int32), top, h)
            level.post.rows(words, top, bottom, out=rows, grid=self.stream)
            values, integers = stream.rows.cut(top, bottom), x.rows.cut(top, bottom)
            regrid(rows.array, self.stream.exponent, grid, integers, values=values)

        chain.step(h, enter, writes=[stream, x], pace=max(1, TURN // w))
        return stream, x

    def _leave(self, chain: Chain, x: Window) -> list[tuple[Window, Grid]]:
        """The latents, on the grid of each of the layers of the synthesis that take them."""
        h, (w, _) = x.rows.height, x.rows.array.shape[1:]
        windows = [(chain.window(h, w, self.config.latent, np.int32), grid) for grid in self.synthesis.inputs]

        def leave(top: int, bottom: int) -> None:
            rows = Rows(np.empty((bottom - top, w, self.config.latent), np.int32), top, h)
            self.leave.rows(x.rows, top, bottom, out=rows, grid=self.latents)
            for window, grid in windows:
                target = window.rows.cut(top, bottom)
                if grid == self.latents:
                    target[:] = rows.array
                else:
                    regrid(rows.array, self.latents.exponent, grid, target)

        chain.step(h, leave, [(x, around(0))], [window for window, _ in windows])
        return windows


class _Level:
    """The words of a codebook, integers, and the layer that takes them."""

    def __init__(self, state: FrozenState, size: int) -> None:
        name = f"levels.{size}"
        self.words = np.ascontiguousarray(state.arrays[f"{name}.codebook"], np.int16)
        self.post = Wide(*state.integers(f"{name}.post.layer"), state.grid(f"{name}.post.input", 16, True))
