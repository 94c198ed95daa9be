"""The edit distance of two sequences, for error rates of characters and words."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

__all__ = ["edit_distance"]


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The least number of insertions, deletions and substitutions that turn one sequence into another (Levenshtein).

    Row by row in NumPy: within a row, an insertion can only follow from the left, which is a running minimum of what
    the row would be without any, less its place.
    """
    numbers: dict[Hashable, int] = {}
    left, right = (np.array([numbers.setdefault(x, len(numbers)) for x in side], np.int64) for side in (a, b))
    places = np.arange(len(right) + 1)
    row = places.copy()
    for index, x in enumerate(left, 1):
        best = np.empty_like(row)
        best[0] = index
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (right != x))
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])
