"""Simple ways to fill lost indices, which the transformer of restore.py is compared with.

The most frequent word; the word of the nearest cells; and the likeliest word by a circuit over the cells around,
whose conditionals are exact whatever is lost (Liu, Mandt, Van den Broeck, "Lossless Compression with Probabilistic
Circuits", arXiv 2111.11632). The paper on VQGANs compares with none. The first two need no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ...entropy.circuits.model import HiddenTree

__all__ = ["CircuitRestorer", "most_frequent", "nearest"]

Map = NDArray[np.integer[Any]]

_AROUND = ((0, -1), (-1, 0), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))  # nearest first
_UNKNOWN = -1


def most_frequent(indices: Map, lost: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The map (h, w) with the word that most of its known cells have, where it was lost (h, w)."""
    known = indices[~lost]
    word = int(np.bincount(known).argmax()) if known.size else 0
    return np.where(lost, word, indices).astype(np.int32)


def nearest(indices: Map, lost: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The map (h, w) with the word that most of the eight cells around have, where it was lost (h, w).

    Of equally many, that of a cell beside it. Cells without known ones around are filled from those that were filled
    before.
    """
    out = np.full((indices.shape[0] + 2, indices.shape[1] + 2), _UNKNOWN, np.int32)
    out[1:-1, 1:-1] = np.where(lost, _UNKNOWN, indices)
    y, x = (axis + 1 for axis in np.nonzero(lost))
    while len(y):
        around = np.stack([out[y + dy, x + dx] for dy, dx in _AROUND], 1)
        known = around != _UNKNOWN
        votes = sum((around == around[:, k, None]).astype(np.int8) for k in range(len(_AROUND))) * known
        word = np.take_along_axis(around, votes.argmax(1)[:, None], 1)[:, 0]
        done = known.any(1)
        if not done.any():  # nothing is known at all
            out[y, x] = 0
            break
        out[y[done], x[done]] = word[done]
        y, x = y[~done], x[~done]
    return out[1:-1, 1:-1].copy()


class CircuitRestorer:
    """A circuit over the block x block cells around a lost one (block is odd), fitted to index maps."""

    def __init__(self, model: HiddenTree, block: int) -> None:
        self.model, self.block = model, block

    @staticmethod
    def fit(
        maps: Sequence[Map],
        size: int,
        block: int = 3,
        states: int = 256,
        epochs: int = 8,
        windows: int = 60_000,
        seed: int = 1,
    ) -> CircuitRestorer:
        """Fits the circuit to a random part of the windows of index maps, whose words are below `size`."""
        from ...entropy.circuits.fit import FitConfig, fit

        total = sum(part.size for part in maps)
        rng = np.random.default_rng(seed)
        rows = []
        for part in maps:
            cells = np.nonzero(rng.random(part.shape) < windows / total)
            rows.append(_around(part, np.zeros(part.shape, bool), cells, block))
        config = FitConfig(states=states, epochs=epochs, full=1, ordinal=False, batch=256, seed=seed)
        return CircuitRestorer(fit(np.concatenate(rows), np.full(block * block, size), config), block)

    def restore(self, indices: Map, lost: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The map (h, w) with the likeliest word given the known cells around, where it was lost (h, w)."""
        out = np.where(lost, 0, indices).astype(np.int32)
        if lost.any():
            rows = _around(indices, lost, np.nonzero(lost), self.block)
            (chances,) = self.model.conditionals(rows, [self.block**2 // 2])
            out[lost] = chances.argmax(1).numpy()
        return out


def _around(
    indices: Map, lost: NDArray[np.bool_], cells: tuple[NDArray[np.intp], ...], block: int
) -> NDArray[np.int64]:
    """The block x block cells around each of n cells (y, x): (n, block**2); what is lost or outside is missing."""
    from ...entropy.circuits.model import MISSING

    padded = np.pad(np.where(lost, MISSING, indices.astype(np.int64)), block // 2, constant_values=MISSING)
    step = np.arange(block)
    y, x = (axis[:, None, None] for axis in cells)
    return padded[y + step[:, None], x + step].reshape(-1, block * block)
