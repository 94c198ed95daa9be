"""Beliefs of a circuit in any order of its variables: what the symbols told so far say about the next one.

A depth-first tour (coding.py) suits a coder that takes a circuit as it is. A mixing coder wants the variables in its
own order, as row by row. Messages on the tree allow that: of each latent the product of what its own symbols say (its
variable's, and those of its leaves), the message of its subtree to the parent, and the belief that comes down from the
parent. All that point at the last variable are known; from there to the next one, those along the path change.
8.5 edges a pixel on MNIST's tree, row by row (784 pixels, depth 42), where a tour takes 2 for each latent.

Beliefs are integers that sum to 2**24. What is added up on the way are integers below 2**53, so sums are exact in any
order; what is multiplied is rounded element by element, as IEEE 754 says, and a row is scaled by its largest number.
Messages are kept in single precision. The kernel is native/src/circuits_order.h; the loop here is its twin.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...native.circuits import row_length
from ...native.circuits_order import BELIEF, DOWN, TELL, UP, Operation, Program, Walk
from ...native.mixing_items import Belief
from .coding import _FIT, _SCALE, Floats, FrozenCircuit, IntArray, _fit

__all__ = ["CircuitGuide", "InOrder", "bytes_of_block"]

_BATCH = 16  # factors that are multiplied without scaling, as in src/circuits_order.h
_LEAST = 2.0**-60  # of what symbols say, where the most is 2**24


def bytes_of_block(circuits: Sequence[FrozenCircuit], n: int) -> int:
    """About the bytes of the messages of n items in lock-step, at most; the same on every machine."""
    return n * max(2 * len(circuit.tree) * row_length(circuit.states) * 4 for circuit in circuits)


def operations(circuit: FrozenCircuit, order: Sequence[int]) -> tuple[list[list[Operation]], int]:
    """The operations that come before each belief of this order, and the number of messages that they write.

    Of step t: what the symbol before says, then the messages along the path, then the belief. Slot 0 is the prior of
    the root's latent.
    """
    return _Planner(circuit).run(order)


class _Planner:
    """The way through a tree: which messages there are yet, and where the walk is."""

    def __init__(self, circuit: FrozenCircuit) -> None:
        tree = circuit.tree
        self.tree, self.matrix = tree, {v: i for i, v in enumerate(circuit.matrices)}
        self.parents, self.depth = tree.parents.tolist(), tree.depth.tolist()
        self.inner_children = [[c for c in children if tree.inner[c]] for children in tree.children]
        n_levels = int(tree.depth.max()) + 1
        inner = [v for v in tree.order.tolist() if tree.inner[v]]
        self.own_slot = {v: n_levels + 2 * i for i, v in enumerate(inner)}
        self.n_slots = n_levels + 2 * len(inner)
        self.own: set[int] = set()  # latents that have been told symbols
        self.said: set[int] = set()  # latents whose subtrees have sent a message
        self.at = tree.root

    def run(self, order: Sequence[int]) -> tuple[list[list[Operation]], int]:
        steps = []
        last = None
        for v in order:
            step = [] if last is None else [self._tell(last)]
            step += self._path(self._latent(v))
            step.append(Operation(BELIEF, 0, 0, self._factors(self.at)))
            steps.append(step)
            last = v
        return steps, self.n_slots

    def _latent(self, v: int) -> int:
        return v if self.tree.inner[v] else self.parents[v]

    def _tell(self, v: int) -> Operation:
        latent = self._latent(v)
        slot = self.own_slot[latent]
        factors = (slot,) if latent in self.own else ()
        self.own.add(latent)
        return Operation(TELL, slot, v, factors)

    def _path(self, target: int) -> list[Operation]:
        """The messages from here to a latent, up to where the ways meet and down from there."""
        out, down, end = [], [], target
        while self.at != end:
            if self.depth[end] > self.depth[self.at]:
                down.append(end)
                end = self.parents[end]
            else:
                out += self._up(self.at)
                self.at = self.parents[self.at]
        for v in reversed(down):
            factors = self._factors(self.at, v)
            out.append(Operation(DOWN, self.depth[v], self.matrix[v], factors))
            self.at = v
        return out

    def _up(self, v: int) -> list[Operation]:
        factors = self._factors(v)[1:]
        if not factors:  # nothing was told below: the message would say nothing
            return []
        self.said.add(v)
        return [Operation(UP, self.own_slot[v] + 1, self.matrix[v], factors)]

    def _factors(self, v: int, without: int | None = None) -> tuple[int, ...]:
        """The slots of all that is known about v's latent, that from the parent first: but for what one child says."""
        own = [self.own_slot[v]] if v in self.own else []
        said = [self.own_slot[c] + 1 for c in self.inner_children[v] if c in self.said and c != without]
        return (self.depth[v], *own, *said)


class InOrder:
    """The walk of items over a circuit in an order of its variables that is fixed.

    order: (D,) each variable once. `begin`, then `step` for each of them.
    """

    def __init__(self, circuit: FrozenCircuit, order: IntArray) -> None:
        if sorted(np.asarray(order).tolist()) != list(range(len(circuit.tree))):
            raise ValueError("an order has each variable once")
        self.circuit, self.order = circuit, np.asarray(order, np.int64)
        self._steps, self._n_slots = operations(circuit, self.order.tolist())
        self._walk: Walk | None = None
        self._messages = np.zeros((0, 0, 0), np.float32)
        self._rows = np.zeros(0, np.int64)
        self._out: Floats = np.zeros((0, 0))

    @cached_property
    def _program(self) -> Program:
        return Program(self.circuit.compiled_tour, self._steps, self._n_slots)

    def begin(self, rows: NDArray[np.int64], out: Floats) -> None:
        """n items begin, of which nothing is known. rows: (n,) which of all items they are; out: their beliefs."""
        if native.engine() == "native":
            self._walk = Walk(self._program, self.circuit.prior, rows, out)
            return
        self._walk, self._rows, self._out = None, rows, out
        self._messages = np.zeros((self._n_slots, len(rows), self.circuit.states), np.float32)
        self._messages[0] = self.circuit.prior

    def step(self, t: int, symbols: NDArray[np.int32]) -> None:
        """Writes the beliefs about the latent of the variable `order[t]` into the items' rows of `out`.

        symbols: those of all items, of the variable before, which the circuit is told first; it has none before the
        first step. Steps come one after the other.
        """
        if self._walk is not None:
            self._walk.step(t, symbols)
        else:
            self._twin(t, symbols)

    def _twin(self, t: int, symbols: NDArray[np.int32]) -> None:
        """The same as the kernel."""
        states = self.circuit.states
        top = 2.0 ** (28 - (states - 1).bit_length())  # a product with a matrix sums to less than 2**53
        slots, told = self._messages, symbols[self._rows] if t else symbols
        by_number = list(self.circuit.matrices.values())
        for kind, slot, index, factors in self._steps[t]:
            known = [slots[factor].astype(np.float64) for factor in factors]
            if kind == TELL:
                table = self.circuit.leaves[index]
                said = np.take(table, told + 1, axis=0).astype(np.float64) - np.take(table, told, axis=0)
                known.insert(0, said)
            x = known[0]
            for i, other in enumerate(known[1:], 0 if kind == TELL else 1):
                x = x * other
                if i % _BATCH == _BATCH - 1:
                    x = _whole(x, _FIT)
            if kind == TELL:
                slots[slot] = np.maximum(x * (_FIT / x.max(axis=1))[:, None], _LEAST) if factors else x
            elif kind == BELIEF:
                x = _whole(x, _FIT)
                self._out[self._rows, :states] = _fit(x, x.sum(axis=1))
            else:
                matrix = by_number[index].T if kind == UP else by_number[index]
                slots[slot] = (_whole(x, top) @ matrix) * _SCALE


def _whole(x: Floats, top: float) -> Floats:
    """Rows (n, M) in proportion as integers of at least 1, the largest about `top`."""
    return np.floor(x * (top / x.max(axis=1))[:, None]) + 1


class CircuitGuide:
    """The predictions of circuits for a mixing coder: each item's by its own circuit, row by row of a block of items.

    circuits: over the same variables; component: (N,) the circuit of each item, None where there is one circuit. order:
    of the variables, in which they are coded.
    """

    def __init__(self, circuits: Sequence[FrozenCircuit], component: IntArray | None, order: IntArray) -> None:
        self.walks = [InOrder(circuit, order) for circuit in circuits]
        self.component = None if component is None else np.asarray(component, np.int64)
        self._order = np.asarray(order, np.int64)
        self._length = max(row_length(circuit.states) for circuit in circuits)
        self._which = np.zeros(0, np.int32)
        self._begun: list[InOrder] = []
        self._told = np.zeros(0, np.int32)
        self._beliefs: Floats = np.zeros((0, self._length))
        self._tables = [[self._padded(circuit, v) for circuit in circuits] for v in self._order.tolist()]

    def _padded(self, circuit: FrozenCircuit, v: int) -> NDArray[np.float32]:
        """The cumulative counts of a variable, (size + 1, length of a row of beliefs)."""
        table = circuit.padded_leaf(v)
        if table.shape[1] == self._length:
            return table
        out = np.zeros((len(table), self._length), np.float32)
        out[:, : table.shape[1]] = table
        return out

    def fork(self) -> CircuitGuide:
        """The same guide again, for a block of its own, in another thread."""
        other = copy.copy(self)
        other.walks, other._begun = [copy.copy(walk) for walk in self.walks], []
        return other

    def begin(self, first: int, n: int) -> None:
        """A block of the items first, ..., first + n - 1 begins."""
        if self.component is None:
            self._which = np.zeros(n, np.int32)
        else:
            self._which = self.component[first : first + n].astype(np.int32)
        self._beliefs = np.zeros((n, self._length))
        self._begun = []
        for index, walk in enumerate(self.walks):
            rows = np.flatnonzero(self._which == index)
            if len(rows):
                walk.begin(rows, self._beliefs)
                self._begun.append(walk)

    def belief(self, t: int) -> Belief:
        """The belief of the circuits about the variable `order[t]` of each item. It holds until the next call.

        Each step's is asked for once, one after the other.
        """
        for walk in self._begun:
            walk.step(t, self._told)
        return Belief(self._beliefs, self._tables[t], self._which)

    def tell(self, t: int, symbols: IntArray) -> None:
        """The symbols (n,) of the variable `order[t]`."""
        size = self.walks[0].circuit.sizes[self._order[t]]
        if len(symbols) and not 0 <= symbols.min() <= symbols.max() < size:
            raise ValueError("a symbol is outside its variable's alphabet")
        self._told = np.array(symbols, np.int32)
