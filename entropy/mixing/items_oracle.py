"""The decisions of items in plain integers: what native/src/mixing_items.h does, to the last digit.

Contexts are made for all items of a block at once, in NumPy; decisions go through `oracle.Oracle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.mixing import READ
from ...native.mixing_items import CONTEXTS, Belief, Block, Trees
from .oracle import Oracle, hashed
from .tables import LOW, odds_place, stretch

__all__ = ["code"]

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _third(level: Any) -> Any:
    return (level >= 32).astype(np.int64) + (level >= 200)


def _packed(*parts: Any) -> Any:
    """Numbers of 16 bits in a word: the first is the highest."""
    out = 0
    for part in (*parts, 0, 0, 0)[:4]:
        out = (out << 16) | part
    return out


class _View:
    """The levels of neighbours: dy rows above, dx to the right; 0 outside."""

    def __init__(self, levels: NDArray[np.int64], width: int, y: int, x: int) -> None:
        self._levels, self._width, self._y, self._x = levels, width, y, x

    def __call__(self, dy: int, dx: int) -> NDArray[np.int64]:
        row, column = self._y - dy, self._x + dx
        if row < 0 or not 0 <= column < self._width:
            return np.zeros(self._levels.shape[1], np.int64)
        return self._levels[row * self._width + column]


@dataclass(frozen=True)
class _Guess:
    """A guide's opinion of each item: its state, the log odds of the first decision and of the upper half."""

    state: NDArray[np.int64]
    first: NDArray[np.int64]
    upper: NDArray[np.int64]
    below: list[list[float]]  # how probable smaller ones are, of each item and symbol


def _guess(trees: Trees, t: int, belief: Belief) -> _Guess:
    size, tables = int(trees.sizes[t]), [table.astype(np.float64) for table in belief.tables]
    below = [
        (tables[which] * row).sum(1).tolist() for row, which in zip(belief.beliefs, belief.which.tolist(), strict=True)
    ]
    state = 1 + belief.beliefs.argmax(1) + 256 * belief.which.astype(np.int64)
    first = upper = np.zeros(len(below), np.int64)
    if size > 1:
        middle = int(trees.middle[trees.roots[t]])
        first = np.array([LOW + _odds(0.0, row[middle], row[size])[0] for row in below])
        upper = np.array([LOW + _odds(0.0, row[size // 2], row[size])[0] for row in below])
    return _Guess(state, first, upper, below)


def _grid(trees: Trees, block: Block, t: int, guess: _Guess | None) -> tuple[list[Any], Any, Any]:
    """The contexts of position t, the pattern of its neighbours, and the level of the left one."""
    _, height, width = block.shape
    plane = height * width
    channel, inside = divmod(t, plane)
    y, x = divmod(inside, width)
    levels = block.levels.astype(np.int64)
    own = levels[channel * plane : (channel + 1) * plane]
    at = _View(own, width, y, x)
    w, n, nw, ne, ww, nn = at(0, -1), at(1, 0), at(1, -1), at(1, 1), at(0, -2), at(2, 0)
    nee, nww, nne, nnw, www, nnn = at(1, 2), at(1, -2), at(2, 1), at(2, -1), at(0, -3), at(3, 0)
    thirds, bits, lasts = 0, 0, 0
    for k, value in enumerate((w, n, nw, ne, ww, nn, nee, nww, nne, nnw)):
        thirds = thirds * 3 + _third(value)
        lasts = thirds if k == 1 else lasts
    for value in (www, nnn, at(3, 1), at(3, -1), at(2, 2), at(2, -2), at(1, 3), at(1, -3), at(0, -4)):
        bits = bits * 2 + (value > 100)
    g1, g2 = (w + ne - n).clip(0, 255), (w + n - nw).clip(0, 255)
    g3, g4 = (2 * w - ww).clip(0, 255), (2 * n - nn).clip(0, 255)
    spread = abs(w - ww) + abs(n - nw) + abs(n - ne)
    mx = width - 1 - x
    my = 0 if mx < x else 1
    mirror = _View(own, width, y, mx)
    m = mirror(my, 0)
    trend = (w + m - mirror(my, 1)).clip(0, 255)
    none = np.zeros_like(w)
    before = levels[channel * plane + inside - plane] if channel else none
    before_w = levels[channel * plane + inside - 1 - plane] if channel and x else none
    mean = trees.mean_of[block.sums.astype(np.int64) * 256 // (255 * (t + 1))].astype(np.int64)
    left, up = block.rows.astype(np.int64), block.columns[x].astype(np.int64)
    right, open_ = none.copy(), np.ones(len(w), bool)
    for k in range(8):
        open_ &= at(1, k) < 32
        right += open_
    contexts = [
        none + t,
        _packed(w, n, before),
        _packed(thirds, before >> 3),
        _packed(thirds, bits),
        _packed(g1 >> 2, g2 >> 2, before >> 4),
        _packed(w >> 2, ww >> 3, g3 >> 4),
        _packed(n >> 2, nn >> 3, ne >> 5),
        _packed(t, w >> 6, n >> 6, ne >> 6),
        _packed(w >> 4, n >> 4, (ne >> 4) * 16 + (nw >> 4), ww >> 4),
        _packed((w + ne) >> 3, (n + nw) >> 3, (nn + nee) >> 5),
        _packed(thirds, w >> 5, g4 >> 5),
        _packed((g1 + g2 + w + n) >> 4, thirds % 729, y)
        if guess is None
        else _packed(256 + (guess.first >> 7), guess.upper >> 8, w >> 5, n >> 5),
        _packed(y, left, up, right),
        _packed(t, mean, w >> 5) if guess is None else _packed(guess.state, thirds // 729, x, 1),
        _packed((g2 + w + n) // 3, spread >> 4, before >> 3),
        _packed(x, w, n >> 4),
        _packed(m >> 2, w >> 4, n >> 4, my),
        _packed(trend >> 2, m >> 4, spread >> 5, my),
        _packed(nww >> 5, (nw >> 5) * 8 + (n >> 5), (ne >> 5) * 8 + (nee >> 5), w >> 4),
        _packed(none if guess is None else guess.state, w >> 5, n >> 5, (w + before - before_w).clip(0, 255) >> 4),
    ]
    return contexts, lasts * 9 + _third(ne) * 3 + _third(ww), w >> 4


def _row(block: Block, t: int, guess: _Guess | None) -> tuple[list[Any], Any, Any]:
    """The contexts of a table's column t."""
    none = np.zeros(block.symbols.shape[1], np.int64)
    last = [none] + [block.symbols[t - k].astype(np.int64) if t >= k else none for k in range(1, 14)]
    p = np.int64(t << 48 if t < 1 << 15 else (t << 48) - (1 << 64))
    contexts = [
        none + p,
        *(p | last[k] for k in range(1, 14)),
        p | last[1] << 16 | last[2],
        p | last[1] << 32 | last[2] << 16 | last[3],
        p | last[2] << 16 | last[3],
        p | last[1] << 16 | last[3],
        p | block.sums.astype(np.int64),
        p | (none if guess is None else guess.state) << 16 | last[1],
    ]
    a = block.levels[t - 1].astype(np.int64) if t >= 1 else none
    b = block.levels[t - 2].astype(np.int64) if t >= 2 else none
    return contexts, _third(a) * 9 + _third(b), a >> 4


def _odds(low: float, split: float, high: float) -> tuple[int, int]:
    """The guide's opinion of a decision: log odds in 256ths, and a lean."""
    share = (high - split) / (high - low) if high > low else 0.5
    p = (int(share * 65536) if share < 1 else 65535) if share > 0 else 1
    p = max(p, 1)
    return int(stretch()[odds_place(p)]), (p - 32768) >> 6


def _symbol(
    coder: Oracle, trees: Trees, t: int, given: int, context: Sequence[int], chosen: tuple[int, int, int], below: Any
) -> int:
    """One symbol. chosen: pattern, level, spot; below: how probable smaller symbols are, or None."""
    pattern, level, spot = chosen
    node, opened, guided = int(trees.roots[t]), -1, int(below is not None)
    low, high = 0.0, (below[int(trees.sizes[t])] if guided else 0.0)
    while node >= 0:
        group, kind, rank = int(trees.group[node]), int(trees.kind[node]), int(trees.rank[node])
        middle = int(trees.middle[node])
        if group != opened:
            coder.open([hashed(k, ((value & _WORD) * _GOLDEN + group) & _WORD) for k, value in enumerate(context)])
            opened = group
        split, odds, lean = 0.0, 0, 0
        if guided:
            split = below[middle]
            odds, lean = _odds(low, split, high)
        coder.extra = [odds, lean]
        fourth = (odds + LOW) >> 8 if guided else level
        coder.set = [
            guided * 256 + rank,
            512 + (guided * 16 + kind) * 81 + pattern,
            3104 + (guided * 16 + kind) * 24 + fourth,
            3872 + (guided * 3 + min(kind, 2)) * trees.n_spots + spot,
        ]
        coder.last = (guided * 16 + kind) * 9 + pattern // 9
        first = rank * 81 + pattern if rank < 32 else None
        coder.refine = [first, 2592 + (guided * 16 + kind) * 24 + fourth]
        bit = coder.code(int(trees.place[node]), 0 if coder.role == READ else int(given >= middle))
        low, high = (split, high) if bit else (low, split)
        node = int((trees.above if bit else trees.below)[node])
    return -1 - node


def code(coder: Oracle | Sequence[Oracle], trees: Trees, block: Block, t: int, belief: Belief | None) -> None:
    """Codes position t of all items of a block, with one coder or a coder for each of them."""
    _, height, width = block.shape
    n = block.symbols.shape[1]
    guess = None if belief is None else _guess(trees, t, belief)
    contexts, pattern, level = _grid(trees, block, t, guess) if height > 1 else _row(block, t, guess)
    assert len(contexts) == CONTEXTS
    values = np.stack(contexts, 1).tolist()
    x = t % width
    for i in range(n):
        own = coder if isinstance(coder, Oracle) else coder[i]
        below = None if guess is None else guess.below[i]
        chosen = (int(pattern[i]), int(level[i]), int(trees.spot[t]))
        block.symbols[t, i] = _symbol(own, trees, t, int(block.symbols[t, i]), values[i], chosen, below)
    made = trees.level_of[trees.first_level[t] + block.symbols[t]]
    block.levels[t] = made
    block.sums += made
    ink, last = made >= 32, x == width - 1
    along = np.full(n, 15) if last else np.minimum(block.rows.astype(np.int64) + 1, 15)
    block.rows[:] = along if last else np.where(ink, 0, along)
    block.columns[x] = np.where(ink, 0, np.minimum(block.columns[x].astype(np.int64) + 1, 15))
