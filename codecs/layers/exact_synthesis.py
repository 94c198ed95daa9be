"""The synthesis of `exact_transforms.py` in integers and by rows: latents to pixels, without torch.

`exact_transforms.Synthesis`, after `freeze`, is the oracle: the same operations on the same integers. Differs: a layer
computes the rows that those before it allow, and keeps what later ones need (`streaming.py`), in place of tiles with
cells around them; what follows a convolution is done with it (`native/conv.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.conv import Narrow
from ...native.grids import Grid, Rows
from ...native.pixels import regrid, write_pixels
from ...native.wavelet import Packet, channel_order
from ...native.wide import Wide
from .frozen import FrozenState
from .quality_knots import gain_factor
from .streaming import Chain, Window, around, below
from .tiles import CELL
from .transform_settings import FINER, LEAK, WAVELET, SynthesisSizes

__all__ = ["TURN", "Block", "Stages", "Synthesis", "SynthesisSteps"]

_LIMIT = 32 << 16  # of wavelet coefficients, in units of 2**-16
TURN = 1 << 9  # cells that are begun in a turn: what is computed then fits a cache
_SHUFFLE = 4  # the network sees the picture at a quarter of its resolution


class Block:
    """A residual block: x + second(leaky(first(x))), and the grid of the stream x."""

    def __init__(self, state: FrozenState, name: str, finer: int = 0) -> None:
        self.input = state.grid(f"{name}.first.input", 9 + finer, True)
        self.inner = state.grid(f"{name}.second.input", 8 + finer, False, LEAK)
        self.first = Narrow(*state.integers(f"{name}.first.layer"), self.input)
        self.second = Narrow(*state.integers(f"{name}.second.layer"), self.inner)
        self.stream = state.grid(f"{name}.stream", 20, True)


class Synthesis:
    """The layers of the synthesis; ValueError if a sum of theirs can't be proved to fit."""

    def __init__(self, state: FrozenState, config: SynthesisSizes) -> None:
        n4, n8, n16 = config.synthesis_blocks
        name = "synthesis."
        self.latent = config.latent
        self.gain16, self.gain8, self.gain4 = (state.floats(f"{name}gain{scale}.values") for scale in (16, 8, 4))
        self.linear_input = state.grid(f"{name}linear.input", 20, True)
        self.enter_input = state.grid(f"{name}enter.input", 20, True)
        order = channel_order(3, WAVELET)
        linear = state.integers(f"{name}linear.layer")
        self.linear = Wide(linear.weight[order], linear.bias[order], linear.exponent[order], self.linear_input)
        self.enter = Wide(*state.integers(f"{name}enter.layer"), self.enter_input)
        self.stream16, self.stream8, self.stream4 = (state.grid(f"{name}stream{n}", 20, True) for n in (16, 8, 4))
        self.stage16 = [Block(state, f"{name}stage16.{k}") for k in range(n16)]
        self.stage8 = [Block(state, f"{name}stage8.{k}") for k in range(n8)]
        self.stage4 = [Block(state, f"{name}stage4.{k}", FINER) for k in range(n4)]
        self.up8_input = state.grid(f"{name}up8.input", 8, False, LEAK)
        self.up4_input = state.grid(f"{name}up4.input", 8, False, LEAK)
        self.up8 = Narrow(*state.integers(f"{name}up8.layer"), self.up8_input, shuffle=2)
        self.up4 = Narrow(*state.integers(f"{name}up4.layer"), self.up4_input, shuffle=2)
        self.inject_input = state.grid(f"{name}inject.input", 10, True)
        self.inject = Narrow(*state.integers(f"{name}inject.layer"), self.inject_input)
        self.leave_input = state.grid(f"{name}leave.input", 9, True)
        self.leave = Narrow(*state.integers(f"{name}leave.layer"), self.leave_input)
        Packet(1, 1, 3, WAVELET, limit=_LIMIT)  # proves its bounds

    @property
    def inputs(self) -> list[Grid]:
        """The grids of the layers that take the latents, each once."""
        return list(dict.fromkeys((self.linear_input, self.enter_input)))


class Stages:
    """Residual blocks as steps of a chain, for pictures of h x w cells."""

    def __init__(self, chain: Chain, h: int, w: int) -> None:
        self.chain, self.h, self.w = chain, h, w

    def window(self, scale: int, channels: int, dtype: Any) -> Window:
        """A window of an activation of scale * h rows."""
        return self.chain.window(scale * self.h, scale * self.w, channels, dtype)

    def stage(
        self, blocks: list[Block], scale: int, stream: Window, x: Window, after: Grid, wide: bool = False
    ) -> Window:
        """The residual blocks on a stream, which they change, and on x, its integers; integers on the grid `after`."""
        for k, block in enumerate(blocks, 1):
            last = k == len(blocks)
            x = self._block(block, scale, stream, x, after if last else blocks[k].input, wide, not last)
        return x

    def _block(
        self, block: Block, scale: int, stream: Window, x: Window, after: Grid, wide: bool, kept: bool
    ) -> Window:
        inner = self.window(scale, block.first.channels, np.int16)
        out = self.window(scale, block.second.channels, np.int16)

        def first(top: int, bottom: int) -> None:
            block.first.run(x.rows, top, bottom, out=inner.rows, grid=block.inner)

        def second(top: int, bottom: int) -> None:
            target = stream.rows if kept else None  # behind the last block nobody asks for it
            block.second.run(
                inner.rows, top, bottom, residual=stream.rows, wide=wide, stream=block.stream, kept=target,
                out=out.rows, grid=after,
            )  # fmt: skip

        self.chain.step(scale * self.h, first, [(x, around(1))], [inner])
        self.chain.step(scale * self.h, second, [(inner, around(1)), (stream, around(0))], [out])
        return out


class SynthesisSteps(Stages):
    """The synthesis of a picture, as steps of a chain whose windows have the latents."""

    def __init__(
        self,
        net: Synthesis,
        chain: Chain,
        latents: list[tuple[Window, Grid]],
        size: tuple[int, int],
        step: int,
        out: NDArray[Any],
        told: Callable[[float], None] | None = None,
    ) -> None:
        """Adds the steps. latents: (h, w, M) int32 on each of the grids `net.inputs`. size: (h, w).

        step: of the quality. out: (height, width, 3) uint8 or uint16, takes the pixels. told: is called with the
        finished part, 0 to 1.
        """
        super().__init__(chain, *size)
        self.net, self.out, self.told = net, out, told
        assert self.h * CELL >= out.shape[0] and self.w * CELL >= out.shape[1]
        self.gain16, self.gain8, self.gain4 = (
            gain_factor(values, step) for values in (net.gain16, net.gain8, net.gain4)
        )
        self.packet = Packet(self.h, self.w, 3, WAVELET, limit=_LIMIT, shuffle=_SHUFFLE)
        picture = self._linear(latents)
        correction = self._correction(latents, picture)
        self._pixels(picture, correction)

    def _linear(self, latents: list[tuple[Window, Grid]]) -> Window:
        """The linear picture, (H / 4, W / 4, 48) int32 in units of 2**-16."""
        net, packet = self.net, self.packet
        source = next(window for window, grid in latents if grid == net.linear_input)
        between = self.chain.window(self.h, 3 * CELL, CELL * self.w, np.int32)
        picture = self.chain.window(_SHUFFLE * self.h, _SHUFFLE * self.w, 3 * _SHUFFLE**2, np.int32)

        def across(top: int, bottom: int) -> None:
            size = (bottom - top, self.w, 3 * CELL**2)
            coefficients = Rows(np.empty(size, np.int32), top, self.h)
            net.linear.rows(source.rows, top, bottom, out=coefficients, limit=_LIMIT, out_exponent=16)
            packet.across(coefficients, top, bottom, between.rows)

        def down(top: int, bottom: int) -> None:
            packet.down(between.rows, top // _SHUFFLE, bottom // _SHUFFLE, picture.rows)

        def need(row: int) -> tuple[int, int]:
            return packet.needs(row // _SHUFFLE, row // _SHUFFLE + 1)

        self.chain.step(self.h, across, [(source, around(0))], [between])
        self.chain.step(_SHUFFLE * self.h, down, [(between, need)], [picture], unit=_SHUFFLE)
        return picture

    def _correction(self, latents: list[tuple[Window, Grid]], picture: Window) -> Window:
        """The network's correction of the linear picture, (H / 4, W / 4, 48) float32."""
        net = self.net
        stream, x = self._enter(next(window for window, grid in latents if grid == net.enter_input))
        x = self.stage(net.stage16, 1, stream, x, net.up8_input, wide=True)
        grid = net.stage8[0].input if net.stage8 else net.up4_input
        stream, x = self._up8(x, grid)
        x = self.stage(net.stage8, 2, stream, x, net.up4_input)
        stream = self._up4(x)
        grid = net.stage4[0].input if net.stage4 else net.leave_input
        x = self._inject(picture, stream, grid)
        x = self.stage(net.stage4, 4, stream, x, net.leave_input)
        correction = self.chain.window(4 * self.h, 4 * self.w, net.leave.channels, np.float32)

        def leave(top: int, bottom: int) -> None:
            net.leave.run(x.rows, top, bottom, values=correction.rows)

        self.chain.step(4 * self.h, leave, [(x, around(1))], [correction])
        return correction

    def _enter(self, source: Window) -> tuple[Window, Window]:
        """The stream at 1/16 of the resolution, float32, and its integers for the layer that comes next."""
        net = self.net
        grid = net.stage16[0].input if net.stage16 else net.up8_input
        channels = net.enter.outputs
        stream, x = self.window(1, channels, np.float32), self.window(1, channels, np.int16)

        def enter(top: int, bottom: int) -> None:
            rows = Rows(np.empty((bottom - top, self.w, channels), np.int32), top, self.h)
            net.enter.rows(source.rows, top, bottom, out=rows, gain=self.gain16, grid=net.stream16)
            values, integers = stream.rows.cut(top, bottom), x.rows.cut(top, bottom)
            regrid(rows.array, net.stream16.exponent, grid, integers, values=values)

        self.chain.step(self.h, enter, [(source, around(1))], [stream, x])
        return stream, x

    def _up8(self, x: Window, grid: Grid) -> tuple[Window, Window]:
        """The stream at 1/8 of the resolution, float32, and its integers on a grid."""
        net = self.net
        stream = self.window(2, net.up8.channels, np.float32)
        out = self.window(2, net.up8.channels, np.int16)

        def up(top: int, bottom: int) -> None:
            net.up8.run(
                x.rows, top // 2, bottom // 2, gain=self.gain8, stream=net.stream8, kept=stream.rows, out=out.rows,
                grid=grid,
            )  # fmt: skip

        self.chain.step(2 * self.h, up, [(x, below(2))], [stream, out], unit=2)
        return stream, out

    def _up4(self, x: Window) -> Window:
        """The part of the stream at 1/4 of the resolution that comes from 1/8, float32."""
        out = self.window(4, self.net.up4.channels, np.float32)

        def up(top: int, bottom: int) -> None:
            self.net.up4.run(x.rows, top // 2, bottom // 2, values=out.rows)

        self.chain.step(4 * self.h, up, [(x, below(2))], [out], unit=2)
        return out

    def _inject(self, picture: Window, stream: Window, grid: Grid) -> Window:
        """Adds what the layer `inject` makes of the picture to a stream; its integers on a grid."""
        net = self.net
        seen = self.window(4, net.inject.inner, np.int16)
        out = self.window(4, net.inject.channels, np.int16)

        def look(top: int, bottom: int) -> None:
            regrid(picture.rows.cut(top, bottom), 16, net.inject_input, seen.rows.cut(top, bottom))

        def inject(top: int, bottom: int) -> None:
            net.inject.run(
                seen.rows, top, bottom, residual=stream.rows, gain=self.gain4, stream=net.stream4, kept=stream.rows,
                out=out.rows, grid=grid,
            )  # fmt: skip

        self.chain.step(4 * self.h, look, [(picture, around(0))], [seen])
        self.chain.step(4 * self.h, inject, [(seen, around(1)), (stream, around(0))], [out])
        return out

    def _pixels(self, picture: Window, correction: Window) -> None:
        """The last step: pixels, of which the rows and columns beyond the picture are left out."""
        height = self.out.shape[0]

        def write(top: int, bottom: int) -> None:
            part = self.out[4 * top : min(height, 4 * bottom)]
            write_pixels(picture.rows, correction.rows, 4 * top, 0, part, shuffle=_SHUFFLE)
            if self.told is not None:
                self.told(bottom / (4 * self.h))

        self.chain.step(4 * self.h, write, [(picture, around(0)), (correction, around(0))])
