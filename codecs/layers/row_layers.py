"""Networks of an encoder in float32 by rows: layers that are asked for rows, and ask for those they need.

Bands of rows pass through all layers, each layer keeps the last rows that the next one needs, and nothing is computed
twice. Memory grows with the width of a picture, not with its height. No torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...native.floats import Activation, Conv, empty
from ...native.grids import Rows

__all__ = ["Convolved", "ResidualRows", "RowLayer", "rounded_up"]

Array = NDArray[np.float32]


class RowLayer:
    """Some rows of an activation, always the last ones that were made; who asks for later rows lets earlier ones go."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        self.height, self.width, self.channels = height, width, channels
        self.memory = empty(0, width, channels)
        self.held = Rows(self.memory, 0, height)
        self.floor: int | None = None  # a second reader still needs the rows from here on

    def need(self, first: int, stop: int) -> Rows:
        """The rows, of which first ... stop - 1 are here, as far as the activation has them; earlier ones are lost."""
        stop = min(stop, self.height)
        if stop > self.held.stop:
            start, stop = self.held.stop, min(self.height, self.until(stop))
            self.room(first if self.floor is None else min(first, self.floor), stop)
            self.make(start, stop)
        return self.held

    def room(self, first: int, stop: int) -> None:
        """Keeps the rows from `first` on, and makes room until `stop`."""
        first = min(max(first, self.held.first), self.held.stop)
        kept = self.held.cut(first, self.held.stop)
        if stop - first > len(self.memory):
            self.memory = empty(stop - first, self.width, self.channels)
        self.memory[: len(kept)] = kept
        self.held = Rows(self.memory[: stop - first], first, self.height)

    def until(self, stop: int) -> int:
        """The row up to which it makes sense to make rows, if those before `stop` are needed."""
        return stop

    def make(self, start: int, stop: int) -> None:
        """Fills the rows start ... stop - 1 of what is held."""
        raise NotImplementedError


class Convolved(RowLayer):
    """A convolution, its activation and gain."""

    def __init__(self, source: RowLayer, conv: Conv, act: Activation, gain: Array | None = None) -> None:
        super().__init__(conv.height(source.height), conv.height(source.width), conv.outer)
        self.source, self.conv, self.gain = source, conv, gain
        self.act: Activation = act

    def until(self, stop: int) -> int:
        return rounded_up(stop, self.conv.tile)

    def make(self, start: int, stop: int) -> None:
        x = self.source.need(*self.conv.seen(start, stop, self.source.height))
        self.conv.rows(x, start, stop, self.held, act=self.act, gain=self.gain)


class ResidualRows(RowLayer):
    """A residual block, x + second(leaky(first(x)))."""

    def __init__(self, source: RowLayer, first: Conv, second: Conv) -> None:
        super().__init__(source.height, source.width, source.channels)
        self.source, self.second = source, second
        self.inner = RowLayer(source.height, source.width, first.outer)
        self.first = first

    def until(self, stop: int) -> int:
        return rounded_up(stop, self.second.tile)

    def make(self, start: int, stop: int) -> None:
        top, bottom = self.second.seen(start, stop, self.height)
        begin, end = self.inner.held.stop, min(self.height, rounded_up(bottom, self.first.tile))
        first, last = self.first.seen(begin, end, self.height)
        x = self.source.need(min(start, first), max(stop, last))
        self.inner.room(top, end)
        self.first.rows(x, begin, end, self.inner.held, act="leaky")
        self.second.rows(self.inner.held, start, stop, self.held, residual=x)


def rounded_up(n: int, step: int) -> int:
    """The least multiple of a step that isn't below n."""
    return -(-n // step) * step
