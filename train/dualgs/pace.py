"""How far a fit is, and how long it will take: iterations that are left of each kind, times their seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from .config import Recipe

__all__ = ["KINDS", "Pace", "Watcher"]

KINDS = ("joints", "skins", "coarse", "fine")
_SMOOTHING = 0.98  # of the seconds of an iteration
_COUNTS = 20  # iterations after which that average is trusted

Watcher = Callable[["Pace"], None]


class Pace:
    """The progress of a fit. `fraction` and `words` are for people; `watcher` is told now and then.

    frames: of the whole fit.
    """

    def __init__(self, recipe: Recipe, frames: int, watcher: Watcher | None = None) -> None:
        self.each = {"joints": recipe.first.iterations, "skins": recipe.skins.iterations}
        self.each |= {"coarse": recipe.coarse.iterations, "fine": recipe.fine.iterations}
        self.left = {kind: count * (1 if kind in KINDS[:2] else frames - 1) for kind, count in self.each.items()}
        self.total = max(1, sum(self.left.values()))
        self.seconds: dict[str, float] = {}
        self.kind, self.frame = KINDS[0], 0
        self._watcher, self._count = watcher, 0
        self._last = self._told = time.monotonic()

    def begin(self, kind: str, frame: int) -> None:
        """Begins a stage of a frame."""
        self.kind, self.frame, self._count = kind, frame, 0
        self._last = time.monotonic()

    def skip(self, kind: str, times: int = 1) -> None:
        """Takes a stage as done, of so many frames, that was read from a checkpoint."""
        self.left[kind] -= times * self.each[kind]

    def tick(self) -> None:
        """Counts an iteration."""
        now = time.monotonic()
        self.left[self.kind] = max(0, self.left[self.kind] - 1)
        self._count += 1
        kept = _SMOOTHING if self._count > _COUNTS else 1 - 1 / self._count
        self.seconds[self.kind] = kept * self.seconds.get(self.kind, 0.0) + (1 - kept) * (now - self._last)
        self._last = now
        if self._watcher and now - self._told >= 0.5:
            self._told = now
            self._watcher(self)

    @property
    def fraction(self) -> float:
        """The part of all iterations that is done, 0 to 1."""
        return 1 - sum(self.left.values()) / self.total

    @property
    def seconds_left(self) -> float | None:
        """About how many seconds are left; a stage that wasn't seen yet is taken for as slow as the last one."""
        if not self.seconds:
            return None
        usual = self.seconds.get(self.kind, 0.0)
        return sum(count * self.seconds.get(kind, usual) for kind, count in self.left.items())

    @property
    def words(self) -> str:
        """The state in a line: frame, stage, time left."""
        left = self.seconds_left
        words = f"frame {self.frame}, {self.kind}"
        if left is None:
            return words
        shown = f"{left / 3600:.1f} h" if left >= 5400 else f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        return f"{words}, about {shown} left"
