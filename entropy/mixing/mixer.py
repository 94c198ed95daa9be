"""The state of a mixing coder: its tables of counts, weights and refinements; and the plan that gives their sizes.

`native/mixing.py` runs it where the compiled module is there, `oracle.py` in plain integers where it isn't.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tables import Rates

__all__ = ["Mixer", "Plan"]


@dataclass(frozen=True)
class Plan:
    """The sizes of a mixing coder, which a model chooses.

    contexts: up to 24 lines of nodes are looked up for each group of decisions. lines: 2^lines of them are kept, 64
    bytes each. sets: of weights, for each of the `choices` (up to 8) that a decision makes, one behind the other.
    finals: sets of the last mixer. refined: rows of refinements. extra: predictions from elsewhere, up to 8.
    """

    contexts: int
    lines: int
    sets: tuple[int, ...]
    finals: int
    refined: int = 0
    extra: int = 0
    rates: Rates = field(default_factory=Rates)

    @property
    def inputs(self) -> int:
        """The numbers of a set of weights: two of each context, one of each extra, a constant; a multiple of 16."""
        return -(-(2 * self.contexts + self.extra + 1) // 16) * 16

    @property
    def first_sets(self) -> tuple[int, ...]:
        """The index of the first set of each choice."""
        return tuple(int(n) for n in np.cumsum([0, *self.sets[:-1]]))


@dataclass(eq=False)
class Mixer:
    """The state of a mixing coder. It changes with every decision, unless it is frozen.

    lines: (2^lines, 16) uint32: 2^16 and a check of 16 bits, then 15 nodes of 22 bits of probability and 10 of count.
    weights: (sets, inputs) int32, 2^20 times a weight; ages: (sets,) int32. finals: (finals, choices); final_ages.
    refined: (refined, 33) uint16.
    """

    plan: Plan
    lines: NDArray[np.uint32]
    weights: NDArray[np.int32]
    ages: NDArray[np.int32]
    finals: NDArray[np.int32]
    final_ages: NDArray[np.int32]
    refined: NDArray[np.uint16]
    frozen: bool = False

    @staticmethod
    def new(plan: Plan, weight: float | None = None) -> Mixer:
        """A mixer that has seen nothing. weight: of the log odds of each context; None: about 1 / sqrt(contexts)."""
        from .tables import squash

        n_sets, n_choices = sum(plan.sets), len(plan.sets)
        weights = np.zeros((n_sets, plan.inputs), np.int32)
        first = weight if weight is not None else 1.0 / plan.contexts**0.5
        weights[:, : plan.contexts] = round(first * (1 << 20))
        row = squash()[np.minimum(192 * np.arange(33), 6143)].astype(np.uint16)
        return Mixer(
            plan,
            _lines(1 << plan.lines),
            weights,
            np.zeros(n_sets, np.int32),
            np.full((plan.finals, n_choices), (1 << 20) // n_choices, np.int32),
            np.zeros(plan.finals, np.int32),
            np.tile(row, (plan.refined, 1)),
        )

    def copy(self) -> Mixer:
        """A mixer that has learned the same, and goes on by itself."""
        arrays: Any = (self.weights, self.ages, self.finals, self.final_ages, self.refined)
        lines = _lines(len(self.lines))
        lines[:] = self.lines
        return Mixer(self.plan, lines, *(array.copy() for array in arrays), frozen=self.frozen)


def _lines(n: int) -> NDArray[np.uint32]:
    """Empty lines, each in one line of the processor's cache."""
    room = np.empty(16 * n + 16, np.uint32)  # not `zeros`: NumPy asks for huge pages only here
    room.fill(0)
    first = -(room.ctypes.data >> 2) % 16
    return room[first : first + 16 * n].reshape(n, 16)
