"""Coding with any structured-decomposable circuit, in O(log D) evaluations of it where it is balanced.

Liu, Mandt, Van den Broeck, "Lossless Compression with Probabilistic Circuits", ICLR 2022, arXiv 2111.11632, section 3.
A vtree is a binary tree over the variables; all units with one scope belong to its vtree node. To code x_1, x_2, ...
one needs p(x_1..x_k) for each k. Naively that is D passes of the circuit; three facts save most of it:

1. Units whose scope has no variable seen so far are 1: they are never evaluated.
2. Units whose scope does not hold the present variable keep their values.
3. Above the lowest vtree node whose scope holds everything seen, nothing is evaluated either: p(x_1..x_k) is the sum
   over its units of the top-down probability (computed once) times the value.

So for each variable only the vtree path from its leaf up to that node is evaluated. Variables are taken depth first,
the child with the larger scope before the other.

Differs: the paper's coder rounds start and width of an interval apart, from floats, so that intervals need not tile.
Here all numbers are integers carried in float64 (`coding` says why that is exact), and an interval's bounds are
one monotone function of the cumulative count: products, sums and floors of numbers that do not fall do not fall. For
hidden Chow-Liu trees, `coding` is several times cheaper still; this is for all other circuits.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError, UsageError
from .coding import LaneLayout, _slices, to_counts
from .lanes import TOTAL, LaneDecoder, LaneEncoder

if TYPE_CHECKING:
    from .model import HiddenTree

IntArray = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

_ONE = float(TOTAL)
_SCALE = 1.0 / TOTAL


@dataclass(frozen=True, eq=False)
class Leaf:
    """The input units over a variable. table: (units, symbols) probabilities, rows sum to 1."""

    variable: int
    table: Floats


@dataclass(frozen=True, eq=False)
class Inner:
    """The sum units over products of one unit of each child.

    left, right: indices of the children in the list of nodes. pairs: (P, 2) units of theirs that a product takes.
    weights: (units, P), rows sum to 1.
    """

    left: int
    right: int
    pairs: IntArray
    weights: Floats


class StructuredCircuit:
    """A circuit over a vtree. nodes: children before their parents, the root last, with one unit.

    ValueError unless every variable 0..D-1 has one leaf and every node but the root one parent.
    """

    def __init__(self, nodes: Sequence[Leaf | Inner]) -> None:
        scope: list[int] = []
        parents = np.full(len(nodes), -1)
        units = []
        for i, node in enumerate(nodes):
            if isinstance(node, Leaf):
                scope.append(1)
                units.append(len(node.table))
                continue
            if not (0 <= node.left < i and 0 <= node.right < i and node.left != node.right):
                raise ValueError(f"node {i}: children come before their parents")
            if (parents[[node.left, node.right]] >= 0).any():
                raise ValueError(f"node {i}: a child of it has another parent: not a tree")
            if node.pairs.shape != (node.weights.shape[1], 2) or (node.pairs < 0).any():
                raise ValueError(f"node {i}: {node.pairs.shape} pairs for weights {node.weights.shape}")
            if (node.pairs.max(0) >= [units[node.left], units[node.right]]).any():
                raise ValueError(f"node {i}: a product of units that its children don't have")
            parents[[node.left, node.right]] = i
            scope.append(scope[node.left] + scope[node.right])
            units.append(len(node.weights))
        leaves = {node.variable: i for i, node in enumerate(nodes) if isinstance(node, Leaf)}
        n = sum(isinstance(node, Leaf) for node in nodes)
        if not nodes or (parents[:-1] < 0).any() or units[-1] != 1 or sorted(leaves) != list(range(n)):
            raise ValueError("expected one tree over variables 0 to D - 1, with one unit at its root")
        # the larger scope goes left, where the order begins
        self.nodes: list[Leaf | Inner] = [
            replace(node, left=node.right, right=node.left, pairs=node.pairs[:, ::-1])
            if isinstance(node, Inner) and scope[node.right] > scope[node.left]
            else node
            for node in nodes
        ]
        self.parents, self.units, self.n_units = parents, units, sum(units)
        self._tables = [self._integers(node) for node in self.nodes]
        self._top_down = self._probabilities()
        self.order = self._depth_first()
        self.paths = self._paths(leaves)
        self.evaluated = 0  # units, for one item and one value of the leaf, since the circuit was made

    # --------------------------------------------------------------------------------------------------------- made

    @staticmethod
    def from_tree(model: HiddenTree) -> StructuredCircuit:
        """A circuit of a hidden Chow-Liu tree's distribution: a latent with n children becomes n vtree nodes."""
        tree, nodes, top = model.tree, [], {}
        diagonal = np.stack([np.arange(model.states)] * 2, axis=1)
        weights = {}
        for position in range(1, len(tree)):
            v = int(tree.order[position])
            if tree.inner[v]:
                weights[v] = model.weights[len(weights)].double().cpu().numpy()
        root = model.root.double().cpu().numpy()[None]
        for v in tree.order[::-1].tolist():
            nodes.append(Leaf(v, model.variable_theta(v).double().cpu().numpy().T))
            up = root if v == tree.root else weights.get(v)
            if v == tree.root and not tree.children[v]:
                return StructuredCircuit([Leaf(v, root @ nodes[-1].table)])
            for child in tree.children[v]:
                last = child == tree.children[v][-1]
                matrix = up if last and up is not None else np.eye(model.states)
                nodes.append(Inner(len(nodes) - 1, top[child], diagonal, matrix))
            top[v] = len(nodes) - 1
        # a child's nodes come before its parent's, so what `Inner` names on the left is the node just before
        return StructuredCircuit(nodes)

    def _integers(self, node: Leaf | Inner) -> Floats:
        """The parameters of a node as counts that sum to 2**24: cumulative, (symbols + 1, units), or (units, P)."""
        rows = node.table if isinstance(node, Leaf) else node.weights
        if rows.shape[1] < 1 or (rows < 0).any() or not np.allclose(rows.sum(1), 1, atol=1e-4):
            raise ValueError("a unit's weights are not a distribution")
        counts = to_counts(np.rint(rows * 2.0**35).astype(np.int64).clip(0)).astype(np.float64)
        if isinstance(node, Inner):
            return counts
        return np.concatenate([np.zeros((1, len(rows))), np.cumsum(counts.T, axis=0)])

    def _probabilities(self) -> list[Floats]:
        """The top-down probability of each node's units, (units,) integers that sum to about 2**24 at most."""
        out = [np.zeros(n) for n in self.units]
        out[-1][:] = _ONE
        for i in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[i]
            if isinstance(node, Inner):
                share = np.floor(out[i] @ self._tables[i] * _SCALE)
                for child, column in ((node.left, 0), (node.right, 1)):
                    np.add.at(out[child], node.pairs[:, column], share)
        # what no product can reach still has to be more than nothing, or an interval could be empty
        return [np.maximum(probability, 1) for probability in out]

    def _depth_first(self) -> list[int]:
        order, stack = [], [len(self.nodes) - 1]
        while stack:
            node = self.nodes[stack.pop()]
            if isinstance(node, Leaf):
                order.append(node.variable)
            else:
                stack += [node.right, node.left]
        return order

    def _paths(self, leaves: dict[int, int]) -> list[list[int]]:
        """The path of each variable in order: the nodes from its leaf up to the lowest that holds everything so far."""
        first = set()
        at = leaves[self.order[0]]
        while at >= 0:
            first.add(at)
            at = int(self.parents[at])
        out = []
        for v in self.order:
            path = [leaves[v]]
            while path[-1] not in first:
                path.append(int(self.parents[path[-1]]))
            out.append(path)
        return out

    # ------------------------------------------------------------------------------------------------------ queries

    @property
    def naive(self) -> int:
        """The number of units that D passes of the whole circuit evaluate."""
        return len(self.order) * self.n_units

    def log_likelihood(self, x: IntArray) -> Floats:
        """The log-likelihood of each row in nats, (N,), by one pass in floats, each unit from its definition."""
        values: list[Floats] = []
        log_scale = np.zeros(len(x))
        for node in self.nodes:
            if isinstance(node, Leaf):
                value = node.table[:, x[:, node.variable]].T
            else:
                pairs = values[node.left][:, node.pairs[:, 0]] * values[node.right][:, node.pairs[:, 1]]
                value = pairs @ node.weights.T
            top = np.maximum(value.max(1), 1e-300)
            log_scale += np.log(top)
            values.append(value / top[:, None])
        return np.log(values[-1][:, 0]) + log_scale

    # ------------------------------------------------------------------------------------------------------- coding

    def encode(self, x: IntArray, lanes: int | None = None) -> bytes:
        """Encodes the rows x (N, D) as one stream, all in lock-step."""
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != len(self.order) or x.dtype.kind not in "iu":
            raise UsageError(f"symbols are {x.dtype} {x.shape}; expected integers (N, {len(self.order)})")
        layout = LaneLayout.of(len(x), 1, lanes)
        encoder = LaneEncoder(layout.lanes)
        for rows in _slices(len(x), layout.block):
            values: dict[int, Floats] = {}
            part = x[rows]
            for v, path in zip(self.order, self.paths, strict=True):
                symbols = part[:, v]
                if (symbols < 0).any() or (symbols >= len(self._tables[path[0]]) - 1).any():
                    raise UsageError(f"a symbol of variable {v} is outside its alphabet")
                start, end = self._bounds(path, values, slice(None), np.stack([symbols, symbols + 1]))
                self._settle(path, values, symbols)
                for group in _slices(len(part), layout.lanes):
                    encoder.put(start[group], (end - start)[group])
        return layout.to_bytes() + encoder.finish()

    def decode(self, data: bytes, n: int) -> NDArray[np.int32]:
        """Decodes (n, D) rows of a stream; StreamError if it can't be one of so many. The caller bounds n."""
        layout, body = LaneLayout.from_bytes(data, n, 1)
        decoder = LaneDecoder(body, layout.lanes)
        out = np.zeros((n, len(self.order)), np.int32)
        for rows in _slices(n, layout.block):
            values: dict[int, Floats] = {}
            part = out[rows]
            for v, path in zip(self.order, self.paths, strict=True):
                for group in _slices(len(part), layout.lanes):
                    place = decoder.peek(group.stop - group.start)
                    part[group, v] = symbols = self._search(path, values, group, place)
                    start, end = self._bounds(path, values, group, np.stack([symbols, symbols + 1]))
                    if ((place < start) | (place >= end)).any():
                        raise StreamError("the entropy-coded stream is damaged")
                    decoder.take(start, end - start)
                self._settle(path, values, part[:, v])
        decoder.finish()
        return out

    def _search(self, path: list[int], values: dict[int, Floats], rows: slice, place: IntArray) -> IntArray:
        """The symbols (n,) at these places, by bisection: each step is one evaluation of the path."""
        low = np.zeros(len(place), np.int64)
        size = len(self._tables[path[0]]) - 1
        step = 1 << max(0, (size - 1).bit_length())
        while step > 1:
            step >>= 1
            further = np.minimum(low + step, size)
            (begins,) = self._bounds(path, values, rows, further[None])
            low = np.where(begins <= place, further, low)
        return low

    def _bounds(self, path: list[int], values: dict[int, Floats], rows: slice, symbols: IntArray) -> IntArray:
        """The places (K, n) of [0, 2**24) where symbols (K, n) of the path's variable begin, given all before.

        The last value of a leaf's cumulative counts, of "any symbol", gives the whole that the others are parts of.
        """
        table = self._tables[path[0]]
        size = len(table) - 1
        shape = np.shape(symbols)
        everything = np.full((1, shape[1]), size)
        parts, scales = self._climb(path, values, rows, table[np.concatenate([everything, symbols])])
        del scales
        total = parts @ self._top_down[path[-1]]  # (K + 1, n), below 2**48
        share = np.floor(total[1:] / np.maximum(total[:1], 1) * (TOTAL - size))
        return np.minimum(share, TOTAL - size).astype(np.int64) + symbols

    def _settle(self, path: list[int], values: dict[int, Floats], symbols: IntArray) -> None:
        """Sets the values of the path's nodes for known symbols (n,); they stay until a later variable changes them."""
        table = self._tables[path[0]]
        leaf = (table[np.asarray(symbols) + 1] - table[np.asarray(symbols)])[None]
        _, kept = self._climb(path, values, slice(None), leaf)
        for node, value in zip(path, kept, strict=True):
            values[node] = value

    def _climb(
        self, path: list[int], values: dict[int, Floats], rows: slice, leaf: Floats
    ) -> tuple[Floats, list[Floats]]:
        """Values (K, n, units) of the path's last node, for values (K, n, units) of its leaf; and of k = 0 all of them.

        Each node is scaled so that the largest unit of k = 0 is 2**24; the others, which are no larger, with it.
        """
        value = self._scaled(leaf)
        kept = [value[0]]
        self.evaluated += self.units[path[0]]
        for before, at in itertools.pairwise(path):
            node = self.nodes[at]
            assert isinstance(node, Inner)
            self.evaluated += self.units[at]
            if before == node.left:  # the right child is yet to come: its units are 1
                products = value[:, :, node.pairs[:, 0]]
            else:
                other = values[node.left][rows]
                products = np.floor(value[:, :, node.pairs[:, 1]] * other[:, node.pairs[:, 0]] * _SCALE)
            value = self._scaled(np.floor(products @ self._tables[at].T * _SCALE))
            kept.append(value[0])
        return value, kept

    @staticmethod
    def _scaled(value: Floats) -> Floats:
        """Values (K, n, units) scaled by one factor for each item, so that they stay monotone over k."""
        factor = _ONE / np.maximum(value[0].max(axis=-1), 1)
        return np.minimum(np.floor(value * factor[:, None]), _ONE)
