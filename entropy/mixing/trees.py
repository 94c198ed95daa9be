"""Trees of decisions over symbols: each node asks whether a symbol is at least its middle one.

So every node stands for an interval of symbols, and another model can give its probability. Splits halve the counts
as far as they can, so that frequent symbols take few decisions; nodes that are often visited share a group, the line
of 15 nodes that a context looks up.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...native.mixing_items import Trees

__all__ = ["MOST_SYMBOLS", "forest", "splits"]

MOST_SYMBOLS = 4097
_SMOOTH = 16  # counts are smoothed so that no tree is deeper than 32
_LARGEST = 1 << 40


def splits(counts: NDArray[np.int64]) -> list[int]:
    """The middles of a tree in preorder (node, then below, then above), by how often each symbol occurs."""
    size = len(counts)
    known = np.minimum(np.asarray(counts, np.int64), _LARGEST // max(1, size))
    share = int(known.sum()) // (_SMOOTH * size) + 1
    ends = np.concatenate([[0], np.cumsum(known + share)])
    out: list[int] = []
    stack = [(0, size)]
    while stack:
        low, high = stack.pop()
        if high - low < 2:
            continue
        half = int(ends[low]) + int(ends[high])
        middle = int(np.searchsorted(2 * ends[low + 1 : high], half)) + low + 1
        middle = min(middle, high - 1)
        if middle - 1 > low and abs(2 * int(ends[middle - 1]) - half) <= abs(2 * int(ends[middle]) - half):
            middle -= 1
        out.append(middle)
        stack += [(middle, high), (low, middle)]
    return out


def _nodes(size: int, middles: Sequence[int]) -> list[tuple[int, int, int, int, int]]:
    """(low, middle, high, parent, depth) of each node, in preorder. ValueError where it isn't a tree."""
    out: list[tuple[int, int, int, int, int]] = []
    stack = [(0, size, -1, 0)]
    given = iter(middles)
    while stack:
        low, high, parent, depth = stack.pop()
        if high - low < 2:
            continue
        middle = next(given, -1)
        if not low < middle < high or depth >= 32:
            raise ValueError("the decisions of a mixing model make no tree: the weights are damaged")
        out.append((low, middle, high, parent, depth))
        stack += [(middle, high, len(out) - 1, depth + 1), (low, middle, len(out) - 1, depth + 1)]
    if next(given, None) is not None:
        raise ValueError("the decisions of a mixing model make no tree: the weights are damaged")
    return out


def _grouped(
    nodes: Sequence[tuple[int, int, int, int, int]], children: Sequence[list[int]], weight: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """The group of each node, its place in it (1 to 15), and how many groups: the most frequent nodes go together."""
    group, place = np.zeros(len(nodes), np.int32), np.zeros(len(nodes), np.int32)
    roots, n_groups = ([0] if nodes else []), 0
    while roots:
        ready = [(-int(weight[roots[0]]), roots.pop(0))]
        for position in range(1, 16):
            if not ready:
                break
            _, node = heapq.heappop(ready)
            group[node], place[node] = n_groups, position
            for child in children[node]:
                heapq.heappush(ready, (-int(weight[child]), child))
        roots += sorted(node for _, node in ready)
        n_groups += 1
    return group, place, n_groups


def forest(
    sizes: Sequence[int], tree_of: Sequence[int], middles: Sequence[Sequence[int]], counts: Sequence[NDArray[np.int64]]
) -> Trees:
    """The trees of all positions. sizes: symbols of each tree; tree_of: of each position; middles: as `splits` gives.

    counts: (size,) of each tree; by them nodes are ranked and grouped.
    """
    middle, below, above, group, place, rank, kind = ([] for _ in range(7))
    roots, levels, first_level, n_groups = [], [], [], 0
    for size, given, count in zip(sizes, middles, counts, strict=True):
        nodes, first = _nodes(size, given), len(middle)
        ends = np.concatenate([[0], np.cumsum(np.minimum(np.asarray(count, np.int64), _LARGEST // size) + 1)])
        weight = np.array([ends[high] - ends[low] for low, _, high, _, _ in nodes], np.int64)
        children: list[list[int]] = [[] for _ in nodes]
        for index, (_, _, _, parent, _) in enumerate(nodes):
            if parent >= 0:
                children[parent].append(index)
        for (low, mid, high, _, depth), own in zip(nodes, children, strict=True):
            lower = next((k for k in own if nodes[k][0] == low), None)
            upper = next((k for k in own if nodes[k][0] == mid), None)
            below.append(-1 - low if lower is None else first + lower)
            above.append(-1 - (high - 1) if upper is None else first + upper)
            middle.append(mid)
            kind.append(min(depth, 15))
        of_group, of_place, n_own = _grouped(nodes, children, weight)
        group += (of_group + n_groups).tolist()
        place += of_place.tolist()
        n_groups += n_own
        order = np.empty(len(nodes), np.int32)
        order[np.argsort(-weight, kind="stable")] = np.arange(len(nodes))
        rank += np.minimum(order, 255).tolist()
        roots.append(first if nodes else -1)
        first_level.append(len(levels))
        levels += np.minimum(255, np.arange(size) * 256 // max(1, size - 1)).tolist()
    # a last element, so that none is empty
    centres, belows, aboves, its_group, its_place, ranks, kinds = (
        np.array([*values, 0], np.int32) for values in (middle, below, above, group, place, rank, kind)
    )
    positions = len(tree_of)
    n_spots = min(positions, 4096)
    return Trees(
        np.array([sizes[k] for k in tree_of], np.int32),
        np.array([roots[k] for k in tree_of], np.int32),
        centres,
        belows,
        aboves,
        its_group,
        its_place,
        ranks,
        kinds,
        np.array([first_level[k] for k in tree_of], np.int64),
        np.array(levels, np.uint8),
        np.array([_mean_step(value) for value in range(257)], np.uint8),
        (np.arange(positions, dtype=np.int64) * n_spots // positions).astype(np.int32),
        n_spots,
    )


def _mean_step(value: int) -> int:
    """A scale of about four steps to an octave."""
    if value < 4:
        return value
    octave = value.bit_length() - 3
    return min(31, 4 * octave + (value >> octave))
