"""Shipped states: what a mixing coder has learned, as some bytes that go with the weights or the package.

Lines that were seen at least `seen` times are kept, in the order of their places; probabilities as log odds in steps
of 24/256, counts on a scale of 16 steps. Weights and the last mixers are rounded to 2^-13, refinements are as they
were. Everything is then compressed by LZMA, with the filters given here. A state that was packed and read back is a
little coarser than before: a codec learns, packs, reads back, and takes what it read for its streams.

The reader is strict: the plan, which the caller knows, says how large each part may be before anything is allocated.
"""

from __future__ import annotations

import lzma

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError
from .mixer import Mixer, Plan
from .tables import LOW, squash

__all__ = ["pack", "seen_for", "unpack"]

_MAGIC = b"CMX1"
_FILTERS = [  # most of it is entropy coding: long searches for matches cost much and gain nothing
    {
        "id": lzma.FILTER_LZMA2,
        "dict_size": 1 << 22,
        "lc": 0,
        "lp": 0,
        "pb": 0,
        "mode": lzma.MODE_FAST,
        "mf": lzma.MF_HC3,
        "nice_len": 32,
        "depth": 2,
    }
]
_LINE_BYTES, _NODE_BYTES = 3.4, 0.87  # about, when packed
_COUNTS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 18, 28, 42, 64, 100, 160, 255, 512, 1023], np.int64)
_STEP = 24  # of log odds, in 256ths
_ODDS = 255  # levels of them, the middle one even
_ROUND = 128  # of weights
_SCALE = 1 << 15


def _levels() -> NDArray[np.int64]:
    """The probability, times 2^22, of each level of log odds: (255,), rising."""
    odds = (np.arange(_ODDS) - _ODDS // 2) * _STEP
    return squash()[odds + LOW].astype(np.int64) << 6


def _sizes(plan: Plan) -> bytes:
    """The numbers of a plan that a state must agree with."""
    numbers = (plan.contexts, plan.lines, len(plan.sets), *plan.sets, plan.finals, plan.refined, plan.extra)
    return np.array(numbers, "<u4").tobytes()


def _planes(numbers: NDArray[np.int64], n_bytes: int) -> bytes:
    """Whole numbers as bytes, all low ones first."""
    return b"".join(((numbers >> 8 * k) & 255).astype(np.uint8).tobytes() for k in range(n_bytes))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def numbers(self, n: int, n_bytes: int) -> NDArray[np.int64]:
        """The numbers that `_planes` wrote."""
        if n < 0 or self._at + n * n_bytes > len(self._data):
            raise StreamError("a shipped state of a mixer is shorter than what is in it: the file is damaged")
        part = np.frombuffer(self._data, np.uint8, n * n_bytes, self._at).reshape(n_bytes, n).astype(np.int64)
        self._at += n * n_bytes
        return (part << (8 * np.arange(n_bytes))[:, None]).sum(0)

    def end(self) -> None:
        if self._at != len(self._data):
            raise StreamError("a shipped state of a mixer is longer than what is in it: the file is damaged")


def seen_for(mixer: Mixer, most: int, node_seen: int = 1) -> int:
    """The least `seen`, at least 2, with which a packed state has about `most` bytes at most."""
    first = (mixer.lines[:, 1] & 1023).astype(np.int64)
    nodes = ((mixer.lines[:, 1:] & 1023) >= max(1, node_seen)).sum(1)
    own = (mixer.lines[:, 0] != 0) * (_LINE_BYTES + _NODE_BYTES * nodes)
    weights = 2 * (mixer.ages > 0).sum() * mixer.plan.inputs
    by_count = np.bincount(first, own, minlength=1024)[::-1].cumsum()[::-1] + weights
    fits = np.flatnonzero(by_count[2:] <= most)
    return 2 + int(fits[0]) if len(fits) else 1023


def pack(mixer: Mixer, seen: int = 2, node_seen: int = 1) -> bytes:
    """The state in some bytes. seen: decisions that a kept line's first node has seen, node_seen: a kept node."""
    plan, fresh = mixer.plan, Mixer.new(mixer.plan)
    kept = np.flatnonzero((mixer.lines[:, 0] != 0) & ((mixer.lines[:, 1] & 1023) >= max(1, seen)))
    cells = mixer.lines[kept, 1:].T  # node after node
    nodes = (cells & 1023) >= max(1, node_seen)
    cells, number = cells[nodes].astype(np.int64), np.nonzero(nodes)[0]
    count = np.searchsorted(_COUNTS, cells & 1023, side="right") - 1
    levels = _levels()
    level = np.searchsorted((levels[1:] + levels[:-1]) // 2, cells >> 10)
    gaps = np.diff(kept, prepend=-1) - 1
    parts = [
        _planes(np.array([len(kept)]), 4),
        _planes(gaps, 4),
        _planes(mixer.lines[kept, 0].astype(np.int64) & 65535, 2),
        _planes((nodes.T << np.arange(15)).sum(1), 2),
        _planes(count, 1),
        _planes(level[_by_count(number, count)], 1),
        _rows(mixer.weights, mixer.ages, fresh.weights),
        _rows(mixer.finals, mixer.final_ages, fresh.finals),
        _planes((mixer.refined.astype(np.int64) - fresh.refined).ravel() & 65535, 2),
    ]
    return _MAGIC + _sizes(plan) + lzma.compress(b"".join(parts), lzma.FORMAT_RAW, filters=_FILTERS)


def _by_count(node: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order of levels in the file: node by node, and by the counts, which say what levels are likely."""
    return np.argsort(node << 16 | count, kind="stable")


def _rows(weights: NDArray[np.int32], ages: NDArray[np.int32], fresh: NDArray[np.int32]) -> bytes:
    """The rows of weights that have learned something: their ages (0: a new one), then 2^-13ths, rounded, of each."""
    used = ages > 0
    rounded = ((weights[used].astype(np.int64) + _ROUND // 2) // _ROUND).clip(1 - _SCALE, _SCALE - 1)
    return _planes(ages.astype(np.int64), 2) + _planes((rounded + _SCALE).T.ravel(), 2)


def unpack(data: bytes, plan: Plan) -> Mixer:
    """The mixer of a packed state. StreamError for a state that is damaged, or of another plan."""
    head = _MAGIC + _sizes(plan)
    if not data.startswith(head):
        raise StreamError("a shipped state of a mixer is of another model, or damaged")
    mixer, n_lines = Mixer.new(plan), 1 << plan.lines
    most = 4 + n_lines * 38 + 2 * (mixer.weights.size + mixer.finals.size + mixer.refined.size)
    most += 2 * (mixer.ages.size + mixer.final_ages.size)
    reader = _Reader(_inflated(data[len(head) :], most))
    kept = int(reader.numbers(1, 4)[0])
    if kept > n_lines:
        raise StreamError("a shipped state of a mixer has more lines than its plan: the file is damaged")
    at = np.cumsum(reader.numbers(kept, 4) + 1) - 1
    checks = reader.numbers(kept, 2) | 1 << 16
    if kept and at[-1] >= n_lines:
        raise StreamError("a shipped state of a mixer has a line outside of its plan: the file is damaged")
    nodes = (reader.numbers(kept, 2)[:, None] >> np.arange(15)) & 1
    order = np.nonzero(nodes.T)
    count, level = reader.numbers(len(order[0]), 1), np.empty(len(order[0]), np.int64)
    level[_by_count(order[0], count)] = reader.numbers(len(count), 1)
    if len(level) and (level.max() >= _ODDS or not 0 < count.min() <= count.max() < len(_COUNTS)):
        raise StreamError("a shipped state of a mixer has a probability that can't be: the file is damaged")
    limit = plan.rates.limit
    lines = np.full((kept, 16), 1 << 31, np.uint32)
    lines[:, 0] = checks
    lines[order[1], order[0] + 1] = _levels()[level] << 10 | np.minimum(_COUNTS[count], limit)
    mixer.lines[at] = lines
    _read_rows(reader, mixer.weights, mixer.ages)
    _read_rows(reader, mixer.finals, mixer.final_ages)
    delta = reader.numbers(mixer.refined.size, 2).reshape(mixer.refined.shape)
    mixer.refined[:] = ((mixer.refined + delta) & 65535).astype(np.uint16)
    reader.end()
    return mixer


def _read_rows(reader: _Reader, weights: NDArray[np.int32], ages: NDArray[np.int32]) -> None:
    ages[:] = reader.numbers(len(ages), 2)
    if len(ages) and ages.max() > 1023:
        raise StreamError("a shipped state of a mixer has an age that can't be: the file is damaged")
    used = ages > 0
    n, width = int(used.sum()), weights.shape[1]
    rounded = reader.numbers(n * width, 2).reshape(width, n).T - _SCALE
    weights[used] = np.maximum(rounded, 1 - _SCALE) * _ROUND


def _inflated(data: bytes, most: int) -> bytes:
    """The bytes that LZMA packed; StreamError if they are more than `most`."""
    reader = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        out = reader.decompress(data, most + 1)
    except lzma.LZMAError as error:
        raise StreamError(f"a shipped state of a mixer can't be read ({error}): the file is damaged") from error
    if len(out) > most or not reader.eof or reader.unused_data:
        raise StreamError("a shipped state of a mixer is longer than its plan, or cut off: the file is damaged")
    return out
