"""Beliefs of hidden Chow-Liu trees in any order of the variables, in compiled loops.

The twin is entropy/circuits/order.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import check, library, threads
from .circuits import Tour

__all__ = ["BELIEF", "DOWN", "TELL", "UP", "Operation", "Program", "Walk"]

TELL, UP, DOWN, BELIEF = 0, 1, 2, 3  # kinds of operations, as in src/circuits_order.h
_PART = 16  # items that are worth a thread
_void = ctypes.c_void_p


class Operation(NamedTuple):
    """One message: its kind, the slot that it goes into, the variable whose symbol is told or the number of the matrix,
    and the slots of the factors."""

    kind: int
    slot: int
    index: int
    factors: tuple[int, ...]


class Program:
    """The operations of all steps of a walk, over a tour's tables and matrices, which it keeps."""

    def __init__(self, tour: Tour, steps: Sequence[Sequence[Operation]], n_slots: int) -> None:
        self.tour, self.n_slots = tour, n_slots
        numbers: list[int] = []
        self.starts = [0]
        self.told: list[int] = []  # the symbols of the variable that each step is told of; 0: none
        for step in steps:
            told = 0
            for kind, slot, index, factors in step:
                assert TELL <= kind <= BELIEF and (factors or kind == TELL)
                assert 0 <= slot < n_slots and all(0 <= factor < n_slots for factor in factors)
                assert 0 <= index < (tour.n_variables if kind == TELL else max(1, tour.n_matrices))
                assert kind not in (UP, DOWN) or index < tour.n_matrices
                told = int(tour.sizes[index]) if kind == TELL else told
                numbers += [kind, slot, index, len(factors), *factors]
            self.starts.append(len(numbers))
            self.told.append(told)
        self._numbers = np.array(numbers, np.int32)
        self.address = self._numbers.ctypes.data


class Walk:
    """Items on their way through a program, of which nothing is known yet.

    prior: (states,) of the root's latent. rows: (n,) the rows of these items in `beliefs` (all items, at least a pitch
    long; float64), which each step writes, and in the symbols that it is given.
    """

    def __init__(
        self, program: Program, prior: NDArray[Any], rows: NDArray[np.int64], beliefs: NDArray[np.float64]
    ) -> None:
        module, tour, n = library(), program.tour, len(rows)
        assert module is not None and prior.shape == (tour.states,)
        assert beliefs.dtype == np.float64 and beliefs.ndim == 2 and beliefs.shape[1] >= tour.pitch
        assert beliefs.flags.c_contiguous and beliefs.flags.writeable
        assert rows.dtype == np.int64 and rows.ndim == 1 and rows.flags.c_contiguous and n
        assert rows.min() >= 0 and rows.max() < len(beliefs)
        self.program, self._n_items = program, len(beliefs)
        self._call = module.codec_circuit_order
        self._messages = np.empty((program.n_slots, n, tour.pitch), np.float32)
        self._messages[0] = 0
        self._messages[0, :, : tour.states] = prior
        self._kept = rows, beliefs
        self._first = _void(self._messages.ctypes.data), ctypes.c_int64(n)
        part = max(_PART, -(-n // (4 * threads())) * 4)
        lengths = ctypes.c_int64(beliefs.shape[1]), ctypes.c_int64(part)
        self._last = _void(rows.ctypes.data), _void(beliefs.ctypes.data), *lengths

    def step(self, t: int, symbols: NDArray[np.int32]) -> None:
        """Takes the items to step t, which follows t - 1. symbols: what they are told first, those of all items."""
        program = self.program
        assert 0 <= t < len(program.told)
        if program.told[t]:
            assert symbols.dtype == np.int32 and symbols.shape == (self._n_items,) and symbols.flags.c_contiguous
            assert symbols.min() >= 0 and symbols.max() < program.told[t], "a symbol outside its alphabet"
        start, stop = program.starts[t : t + 2]
        told = _void(symbols.ctypes.data if program.told[t] else None)
        first = _void(program.address + 4 * start), ctypes.c_int64(stop - start)
        check(self._call(program.tour.pointer, *first, *self._first, told, *self._last))
