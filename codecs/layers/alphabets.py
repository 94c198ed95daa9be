"""Alphabets: the values of an array or of a column of a table as symbols, with an escape for all others.

`codecs/circuit` and `codecs/mixing` code symbols of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError

__all__ = ["Alphabet", "Domain"]

MAX_LEVELS = 4096  # values of a variable that get a symbol; the others are escapes
_FULL = 32  # with more distinct values than this, all 256 of 8 bits get a symbol


@dataclass(frozen=True, eq=False)
class Alphabet:
    """The values that have a symbol of their own, rising; one more symbol, the escape, stands for all others."""

    values: NDArray[Any]

    @property
    def size(self) -> int:
        return len(self.values) + 1

    @cached_property
    def consecutive(self) -> bool:
        """Whether the values are numbers without a gap."""
        numbers = self.values.dtype.kind == "i" and len(self.values) > 0
        return numbers and int(self.values[-1]) - int(self.values[0]) == len(self.values) - 1

    def symbols(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """The symbol of each value, int32 in the same shape: its index, `len(self.values)` for an escape."""
        if not len(self.values):
            return np.zeros(values.shape, np.int32)
        if values.dtype.kind in "biu" and values.dtype.itemsize == 1 and values.size > 256:
            if self.consecutive and len(self.values) == 256:
                return np.subtract(values, self.values[0], dtype=np.int32, casting="unsafe")
            every = np.arange(256, dtype=np.uint8).view(values.dtype)  # few enough to look all of them up first
            return self.symbols(every)[values.view(np.uint8)]
        at = np.searchsorted(self.values, values).clip(0, len(self.values) - 1)
        return np.where(self.values[at] == values, at, len(self.values)).astype(np.int32)

    @staticmethod
    def of(values: NDArray[Any]) -> Alphabet:
        """The alphabet of all values that occur in an array; of 8-bit numbers, if many occur, of all 256."""
        levels, counts = np.unique(values, return_counts=True)
        kind = values.dtype
        if kind.kind == "b":
            return Alphabet(np.array([0, 1], np.int64))
        if kind.kind in "iu" and kind.itemsize == 1 and len(levels) > _FULL:
            low = int(np.iinfo(kind).min)
            return Alphabet(np.arange(low, low + 256, dtype=np.int64))
        if len(levels) > MAX_LEVELS:
            levels = np.sort(levels[np.argsort(-counts, kind="stable")[:MAX_LEVELS]])
        return Alphabet(levels if kind.kind == "S" else levels.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Domain:
    """The items that a circuit is for: their shape, and the symbols of their values.

    shape: of an item. text: whether values are bytes. owner: (D,) which alphabet each value of an item has.
    """

    shape: tuple[int, ...]
    text: bool
    alphabets: tuple[Alphabet, ...]
    owner: NDArray[np.int32]

    @staticmethod
    def of(array: NDArray[Any]) -> Domain:
        """The domain of the items of an array. Columns of a table have alphabets of their own; pixels share one."""
        shape = array.shape[1:]
        n = math.prod(shape)
        if not n or not len(array):
            raise MediaError(f"an array of shape {array.shape}: no items to fit a circuit to")
        if len(shape) <= 1:
            columns = array.reshape(len(array), n)
            return Domain(
                shape, array.dtype.kind == "S", tuple(map(Alphabet.of, columns.T)), np.arange(n, dtype=np.int32)
            )
        return Domain(shape, False, (Alphabet.of(array),), np.zeros(n, np.int32))

    @property
    def n_values(self) -> int:
        return math.prod(self.shape)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of symbols of each value of an item, (D,)."""
        return np.array([alphabet.size for alphabet in self.alphabets], np.int64)[self.owner]

    def symbols(self, array: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """The symbols, (N, D), of items (N, *shape), and the values that have none, item by item."""
        flat = array.reshape(len(array), -1)
        if not self.text and flat.dtype.itemsize > 1:
            flat = flat.astype(np.int64)
        out = np.empty(flat.shape, np.int32)
        escapes = np.zeros(flat.shape, bool)
        for index, alphabet in enumerate(self.alphabets):
            columns = self._columns(index)
            out[:, columns] = alphabet.symbols(flat[:, columns])
            escapes[:, columns] = out[:, columns] == len(alphabet.values)
        left = flat[escapes]
        return out, left if self.text else left.astype(np.int64)

    def escapes(self, symbols: NDArray[np.int32]) -> NDArray[np.bool_]:
        """The mask of the escapes among symbols (N, D)."""
        known = np.array([len(alphabet.values) for alphabet in self.alphabets])[self.owner]
        return symbols == known

    def values(self, symbols: NDArray[np.int32], rare: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `symbols`: (N, D) int64, or bytes. rare: as many values as there are escapes."""
        if self.text:
            widths = [alphabet.values.dtype.itemsize for alphabet in self.alphabets] + [rare.dtype.itemsize]
            out = np.zeros(symbols.shape, f"S{max(widths)}")
        else:
            out = np.zeros(symbols.shape, np.int64)
        for index, alphabet in enumerate(self.alphabets):
            columns = self._columns(index)
            if alphabet.consecutive:  # escapes get some number here, and then their own
                out[:, columns] = symbols[:, columns]
                out[:, columns] += alphabet.values[0]
            elif len(alphabet.values):
                out[:, columns] = alphabet.values.take(symbols[:, columns], mode="clip")
        out[self.escapes(symbols)] = rare
        return out

    def _columns(self, index: int) -> slice | NDArray[np.intp]:
        """The columns of (N, D) whose values are of the alphabet of this index."""
        return slice(None) if len(self.alphabets) == 1 else np.flatnonzero(self.owner == index)

    # stored

    def to_state(self) -> dict[str, NDArray[Any]]:
        """The arrays of the domain in a weights file; `shape` and `text` go into its metadata."""
        lengths = np.array([len(alphabet.values) for alphabet in self.alphabets], np.int32)
        state = {
            "alphabet_lengths": lengths,
            "alphabet_owner": self.owner,
        }
        values = [value for alphabet in self.alphabets for value in alphabet.values.tolist()]
        if not self.text:
            return {**state, "alphabet_values": np.array(values, np.int64)}
        widths = np.array([len(value) for value in values], np.int32)
        return {
            **state,
            "alphabet_widths": widths,
            "alphabet_values": np.frombuffer(b"".join(values) or b"\0", np.uint8).copy(),
        }

    @staticmethod
    def from_state(state: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> Domain:
        """The inverse of `to_state`; ValueError, KeyError or TypeError for what it doesn't write."""
        shape, text = tuple(metadata["shape"]), metadata["text"]
        if not all(type(side) is int and side > 0 for side in shape) or type(text) is not bool:
            raise ValueError(f"items of shape {shape}, text {text}")
        lengths, owner = state["alphabet_lengths"], state["alphabet_owner"]
        raw = state["alphabet_values"]
        if text:
            widths = state["alphabet_widths"]
            ends = np.cumsum(widths)
            whole = raw.astype(np.uint8).tobytes()
            if (widths < 0).any() or (len(ends) and ends[-1] > len(whole)):
                raise ValueError("text alphabets that are cut")
            cells = [whole[end - width : end] for end, width in zip(ends.tolist(), widths.tolist(), strict=True)]
        else:
            cells = raw.astype(np.int64)
        if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != len(cells):
            raise ValueError("alphabets that don't fit their lengths")
        alphabets = []
        for end, length in zip(np.cumsum(lengths).tolist(), lengths.tolist(), strict=True):
            part = cells[end - length : end]
            values = np.array(part, dtype="S") if text else np.asarray(part)
            if length and not text and (np.diff(values) <= 0).any():
                raise ValueError("an alphabet that doesn't rise")
            alphabets.append(Alphabet(values if length or not text else np.zeros(0, "S1")))
        if owner.shape != (math.prod(shape),) or owner.min() < 0 or owner.max() >= len(alphabets):
            raise ValueError("values without an alphabet")
        return Domain(shape, text, tuple(alphabets), owner.astype(np.int32))
