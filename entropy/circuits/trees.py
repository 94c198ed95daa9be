"""The shape of a hidden Chow-Liu tree: which variable hangs below which, learned from pairwise mutual information.

Chow and Liu, "Approximating Discrete Probability Distributions with Dependence Trees", IEEE Trans. Inf. Theory 1968: of
all trees, the maximum spanning tree of the pairwise mutual informations fits best. Rooted at its centre, so that it is
shallow. Joint counts of all pairs are products of indicator matrices, in blocks: 784 pixels x 16 levels take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]

_BLOCK = 1024  # indicator columns of one product
_PSEUDOCOUNT = 0.1  # of each pair of levels


@dataclass(frozen=True, eq=False)
class VariableTree:
    """A rooted tree over variables 0..D-1, numbered by level for batched work.

    parents: (D,) parent of each variable, -1 for the root. A variable is "inner" if it has a latent of its own: every
    one with children, and the root. Positions number the variables by depth, the inner ones of each depth first.
    ValueError unless parents describe one tree.
    """

    parents: IntArray

    def __post_init__(self) -> None:
        parents = np.array(self.parents, dtype=np.int64)
        n = len(parents)
        if parents.ndim != 1 or not n or (parents < -1).any() or (parents >= n).any() or (parents == -1).sum() != 1:
            raise ValueError("a tree has one parent below D for each variable, and -1 for exactly one, the root")
        parents.flags.writeable = False
        object.__setattr__(self, "parents", parents)
        if (self.depth < 0).any():
            raise ValueError("these parents form a cycle: not a tree")

    def __len__(self) -> int:
        return len(self.parents)

    @cached_property
    def root(self) -> int:
        return int(np.flatnonzero(self.parents < 0)[0])

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The children of each variable, rising."""
        children: list[list[int]] = [[] for _ in self.parents]
        for child, parent in enumerate(self.parents.tolist()):
            if parent >= 0:
                children[parent].append(child)
        return tuple(map(tuple, children))

    @cached_property
    def depth(self) -> IntArray:
        """The number of edges from the root to each variable, (D,); -1 for what can't be reached from it."""
        depth = np.full(len(self.parents), -1)
        level, at = [self.root], 0
        while level:
            depth[level] = at
            level, at = [child for v in level for child in self.children[v]], at + 1
        return depth

    @cached_property
    def inner(self) -> NDArray[np.bool_]:
        """Whether each variable has a latent of its own: (D,)."""
        inner = np.array([bool(children) for children in self.children])
        inner[self.root] = True
        return inner

    @cached_property
    def order(self) -> IntArray:
        """The variable at each position: (D,)."""
        return np.lexsort((np.arange(len(self)), ~self.inner, self.depth))

    @cached_property
    def position(self) -> IntArray:
        """The position of each variable: (D,)."""
        position = np.empty(len(self), dtype=np.int64)
        position[self.order] = np.arange(len(self))
        return position

    @cached_property
    def levels(self) -> tuple[tuple[int, int, int], ...]:
        """The positions of each depth: where its inner variables begin, where they end, and where its leaves end."""
        out, start = [], 0
        for at in range(int(self.depth.max()) + 1):
            here = self.depth == at
            middle = start + int((here & self.inner).sum())
            out.append((start, middle, start + int(here.sum())))
            start = out[-1][2]
        return tuple(out)

    @cached_property
    def parent_position(self) -> IntArray:
        """The position of the parent of the variable at each position, (D,); the root's is -1."""
        parents = self.parents[self.order]
        return np.where(parents < 0, -1, self.position[parents])

    @cached_property
    def sibling_rank(self) -> IntArray:
        """The number of siblings that come before the variable at each position, (D,)."""
        seen = np.zeros(len(self), dtype=np.int64)
        rank = np.zeros(len(self), dtype=np.int64)
        for at, parent in enumerate(self.parent_position.tolist()):
            if parent >= 0:
                rank[at] = seen[parent]
                seen[parent] += 1
        return rank


def mutual_information(levels: IntArray, n_levels: int) -> NDArray[np.float64]:
    """The mutual information in nats of all pairs of columns, (D, D).

    levels: (N, D) integers from 0 to n_levels - 1; -1 is a missing value, which takes no part. The diagonal is 0.
    """
    import torch  # to fit a tree takes it, to code with one doesn't

    levels = np.asarray(levels)
    n, n_vars = levels.shape
    per_block = max(1, _BLOCK // n_levels)
    blocks = [np.arange(start, min(start + per_block, n_vars)) for start in range(0, n_vars, per_block)]
    # int8 keeps the indicators of all variables small; each product takes two blocks of them in float32, which is
    # exact up to 2**24 rows
    wide = torch.from_numpy(np.ascontiguousarray(levels.T.astype(np.int32)))
    grades = torch.arange(n_levels, dtype=torch.int32)
    indicator = [(wide[block][:, None] == grades[:, None]).to(torch.int8).reshape(-1, n) for block in blocks]
    out = np.zeros((n_vars, n_vars))
    for i, rows in enumerate(blocks):
        left = indicator[i].float()
        for j, columns in enumerate(blocks[i:], i):
            counts = left @ indicator[j].float().T  # (rows * n_levels, columns * n_levels)
            joint = counts.view(len(rows), n_levels, len(columns), n_levels).permute(0, 2, 1, 3) + _PSEUDOCOUNT
            joint = joint / joint.sum((2, 3), keepdim=True)
            apart = joint.sum(3, keepdim=True) * joint.sum(2, keepdim=True)
            information = (joint * (joint / apart).log()).sum((2, 3)).double().numpy()
            out[np.ix_(rows, columns)] = information
            out[np.ix_(columns, rows)] = information.T
    np.fill_diagonal(out, 0)
    return np.maximum(out, 0)


def coarse_levels(x: IntArray, sizes: Sequence[int] | IntArray, n_levels: int, ordinal: bool = True) -> IntArray:
    """The symbols x as at most n_levels levels, (N, D), for `mutual_information`; -1 stays -1.

    sizes: (D,) symbols of each variable. ordinal: neighbouring symbols share a level; otherwise the most frequent
    symbols have levels of their own and the others share the last.
    """
    out = np.array(x, dtype=np.int64)
    for v, size in enumerate(np.asarray(sizes).tolist()):
        if size <= n_levels:
            continue
        column = out[:, v]
        if ordinal:
            to = np.arange(size) * n_levels // size
        else:
            by_count = np.argsort(-np.bincount(column[column >= 0], minlength=size), kind="stable")
            to = np.full(size, n_levels - 1)
            to[by_count[: n_levels - 1]] = np.arange(n_levels - 1)
        out[:, v] = np.where(column < 0, -1, to[column.clip(0)])
    return out


def spanning_tree(weights: NDArray[np.floating[Any]]) -> list[tuple[int, int]]:
    """The edges of a maximum spanning tree of the complete graph with these weights (D, D), by Prim's algorithm."""
    n = len(weights)
    best = np.asarray(weights, dtype=np.float64)[0].copy()
    nearest = np.zeros(n, dtype=np.int64)
    outside = np.ones(n, dtype=bool)
    outside[0] = False
    edges = []
    for _ in range(n - 1):
        new = int(np.argmax(np.where(outside, best, -np.inf)))
        edges.append((int(nearest[new]), new))
        outside[new] = False
        closer = outside & (weights[new] > best)
        best[closer], nearest[closer] = weights[new][closer], new
    return edges


def rooted(edges: Sequence[tuple[int, int]], n: int, root: int | None = None) -> VariableTree:
    """The tree of these edges, rooted at `root`, or at its centre: where the farthest variable is nearest."""
    near: list[list[int]] = [[] for _ in range(n)]
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)

    def walk(start: int) -> tuple[list[int], list[int]]:
        parents, queue = [-2] * n, [start]
        parents[start] = -1
        for v in queue:  # grows while it is walked through
            for other in near[v]:
                if parents[other] == -2:
                    parents[other] = v
                    queue.append(other)
        if len(queue) != n:
            raise ValueError("the edges don't connect all variables")
        return parents, queue

    if root is None:  # the middle of a longest path: from anywhere to the farthest, and from there to the farthest
        end = walk(walk(0)[1][-1])
        path = [end[1][-1]]
        while end[0][path[-1]] >= 0:
            path.append(end[0][path[-1]])
        root = path[len(path) // 2]
    return VariableTree(np.array(walk(root)[0]))


def chow_liu(
    x: IntArray,
    sizes: Sequence[int] | IntArray,
    n_levels: int = 16,
    n_samples: int = 5000,
    seed: int = 0,
    ordinal: bool = True,
) -> VariableTree:
    """The Chow-Liu tree of the symbols x (N, D), of a sample of the rows; -1 is a missing value."""
    x = np.asarray(x)
    if len(x) > n_samples:
        x = x[np.sort(np.random.default_rng(seed).choice(len(x), n_samples, replace=False))]
    sizes = np.asarray(sizes)
    coarse = coarse_levels(x, sizes, n_levels, ordinal)
    return rooted(spanning_tree(mutual_information(coarse, int(min(n_levels, sizes.max())))), x.shape[1])
