"""Networks by rows: each layer computes the rows that it can, and keeps of its output what later rows still need.

A picture is not cut into tiles with rows around them that are computed twice, and no activation is in memory as a
whole: memory grows with the width of the picture. Nothing here knows what a layer computes; no torch.

    chain = Chain()
    a = chain.window(height, width, 64, np.int16)
    b = chain.window(height, width, 64, np.int16)
    chain.step(height, fill, writes=[a], pace=16)                       # fill(top, bottom): 16 rows a turn
    chain.step(height, convolve, reads=[(a, around(1))], writes=[b])    # as many as a's rows allow
    chain.run()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...native.grids import Rows

__all__ = ["Chain", "Need", "Window", "around", "below"]

# The rows of a source, first ... stop - 1, that a row of an output depends on; they may lie beyond its edges.
Need = Callable[[int], tuple[int, int]]


def around(reach: int) -> Need:
    """The same row, and `reach` to each side: a convolution's."""
    return lambda row: (row - reach, row + reach + 1)


def below(factor: int) -> Need:
    """The row of a source that has as many rows divided by a factor."""
    return lambda row: (row // factor, row // factor + 1)


class Window:
    """The rows of an activation (height, width, channels) that are still needed: `rows`, in one piece of memory."""

    def __init__(self, height: int, width: int, channels: int, dtype: Any) -> None:
        self._room = np.empty((0, width, channels), dtype)
        self._start = 0  # of the rows, in the room
        self.rows = Rows(self._room, 0, height)

    def grow(self, stop: int) -> None:
        """Makes room for the rows up to `stop`, which the caller fills."""
        count, kept = stop - self.rows.first, len(self.rows.array)
        if self._start + count > len(self._room):
            if count > len(self._room):
                room = np.empty((count, *self._room.shape[1:]), self._room.dtype)
            else:
                room = self._room
            room[:kept] = self.rows.array  # they may overlap: NumPy takes care
            self._room, self._start = room, 0
        self.rows.array = self._room[self._start : self._start + count]

    def forget(self, first: int) -> None:
        """Drops the rows before `first`."""
        gone = min(first, self.rows.stop) - self.rows.first
        if gone > 0:
            self._start += gone
            self.rows.first += gone
            self.rows.array = self.rows.array[gone:]


@dataclass
class _Step:
    height: int
    run: Callable[[int, int], None]
    reads: Sequence[tuple[Window, Need]]
    writes: Sequence[Window]
    unit: int
    pace: int | None
    done: int = field(default=0)

    def possible(self) -> int:
        """Up to which row the sources allow to go."""
        low, bottom = self.done, self.height if self.pace is None else min(self.height, self.done + self.pace)
        while low < bottom:  # needs rise with the row
            middle = (low + bottom + 1) // 2
            if all(min(need(middle - 1)[1], w.rows.height) <= w.rows.stop for w, need in self.reads):
                low = middle
            else:
                bottom = middle - 1
        return bottom if bottom == self.height else bottom // self.unit * self.unit

    def advance(self) -> bool:
        """Computes the rows that can be; whether there were any."""
        bottom = self.possible()
        if bottom <= self.done:
            return False
        for window in self.writes:
            window.grow(bottom)
        self.run(self.done, bottom)
        self.done = bottom
        return True


class Chain:
    """Steps in the order in which data flow, and the windows between them."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._windows: list[Window] = []

    def window(self, height: int, width: int, channels: int, dtype: Any) -> Window:
        self._windows.append(Window(height, width, channels, dtype))
        return self._windows[-1]

    def step(
        self,
        height: int,
        run: Callable[[int, int], None],
        reads: Sequence[tuple[Window, Need]] = (),
        writes: Sequence[Window] = (),
        unit: int = 1,
        pace: int | None = None,
    ) -> None:
        """Adds a step: run(top, bottom) computes these rows of its output, of `height`, and fills them in its windows.

        reads: windows, which earlier steps write, and the rows of them that a row needs. A window that a step changes
        in place is one that it reads. unit: rows come in multiples of this. pace: at most so many a turn.
        """
        self._steps.append(_Step(height, run, reads, writes, unit, pace))

    def run(self) -> None:
        """Turn after turn, until all steps are done; none goes faster than the first one, so windows stay small."""
        first = self._steps[0]
        for step in self._steps:
            if step.pace is None and first.pace is not None:
                step.pace = max(step.unit, -(-first.pace * step.height // first.height))
        while any(step.done < step.height for step in self._steps):
            moved = [step.advance() for step in self._steps]
            assert any(moved), "no step can go on: a need can't be met"
            for window in self._windows:
                needs = [self._first(step, window) for step in self._steps]
                window.forget(min(needs))
        self._steps.clear()  # they know the chain, which would wait with all its windows for the garbage collector

    @staticmethod
    def _first(step: _Step, window: Window) -> int:
        """The first row of a window that a step still needs."""
        rows = window.rows
        if step.done == step.height:
            return rows.stop
        return min((max(0, need(step.done)[0]) for other, need in step.reads if other is window), default=rows.stop)
