"""Whole numbers of any size through the mixing coder, and streams of several parts."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...entropy.mixing.coding import SymbolCoder, symbol_plan
from ...entropy.mixing.mixer import Mixer
from ...entropy.mixing.tables import Rates
from ...errors import StreamError
from ...native.mixing import Coder

__all__ = ["NumberCoder", "joined", "lines_for", "parted", "plain"]

WIDTH = 3  # bits of the symbol that stands for a small number: one line of each context
_ESCAPE = (1 << WIDTH) - 1
# Powers of two; a line takes 64 bytes. More of them make nothing smaller, and all slower: they leave the cache.
_MOST_LINES, _LEAST_LINES = 16, 8
_MORE, _LARGE = 5, 8  # further symbols of a large one, and their bits
RATES = Rates(limit=255, delay=1.5, doubt=0.25, lean=4.0, first=0.02, last=0.002, fall=32, refine_by=6)


def plain(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers with a sign as ones without: 0, -1, 1, -2, 2, ... are 0, 1, 2, 3, 4, ..."""
    return np.where(numbers < 0, -2 * numbers - 1, 2 * numbers)


def signed(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The inverse of `plain`."""
    return np.where(numbers & 1, -((numbers + 1) >> 1), numbers >> 1)


def lines_for(n_symbols: int) -> int:
    """The lines of a mixer, as a power of two, for about so many symbols: memory grows with what there is to code."""
    return min(_MOST_LINES, max(_LEAST_LINES, n_symbols.bit_length() + 1))


class NumberCoder:
    """A stream of numbers of up to 39 bits with a sign, most of them small, whose contexts both sides know.

    n_select: kinds of number, each with weights of its own. n_contexts: beside the kind, which is in all of them.
    n_numbers: about how many will come; both sides say the same.
    """

    def __init__(self, n_select: int, n_contexts: int, n_numbers: int, data: bytes | None = None) -> None:
        small, large = parted(data, 2) if data is not None else (None, None)
        self._n_select = n_select
        plan = symbol_plan(WIDTH, n_contexts, n_select, lines_for(2 * n_numbers), RATES)
        self._small = SymbolCoder(WIDTH, n_select, Mixer.new(plan), small)
        plan = symbol_plan(_LARGE, 1, _MORE, _LEAST_LINES, RATES)
        self._large = SymbolCoder(_LARGE, _MORE, Mixer.new(plan), large)
        self._reads = data is not None

    @property
    def readers(self) -> tuple[Coder | None, Coder | None]:
        """The compiled coders of small numbers and of what is left of large ones, of a stream that they read."""
        return self._small.reader, self._large.reader

    def code(
        self,
        contexts: Sequence[NDArray[np.int64]],
        select: NDArray[np.int64],
        numbers: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """The numbers (n,): those that are given, to be written, or those that are read.

        contexts: arrays (n,) of whole numbers. select: (n,), the kind of each.
        """
        tagged = np.stack([context * self._n_select + select for context in contexts], 1).astype(np.uint64)
        kinds = select.astype(np.int32)
        values = None if numbers is None else plain(numbers.astype(np.int64))
        symbols = None if values is None else np.minimum(values, _ESCAPE).astype(np.int32)
        out = self._small.code(np.ascontiguousarray(tagged), kinds, symbols).astype(np.int64)
        escaped = np.flatnonzero(out == _ESCAPE)
        if len(escaped):
            large = np.zeros(len(escaped), np.int64)
            for part in range(_MORE):
                place = np.full(len(escaped), part)
                given = None if values is None else (values[escaped] >> (8 * part) & 255).astype(np.int32)
                read = self._large.code(place.astype(np.uint64)[:, None], place.astype(np.int32), given)
                large |= read.astype(np.int64) << (8 * part)
            out[escaped] = large
        return signed(out)

    def finish(self) -> bytes:
        """The stream that was written; StreamError for one that is read and doesn't end here."""
        parts = [self._small.finish(), self._large.finish()]
        return b"" if self._reads else joined(parts)


def joined(parts: Sequence[bytes]) -> bytes:
    """A stream of several parts, with their lengths in front."""
    return struct.pack(f"<{len(parts)}I", *map(len, parts)) + b"".join(parts)


def parted(data: bytes, n: int) -> list[bytes]:
    """The parts of `joined`. StreamError for lengths that don't fit."""
    if len(data) < 4 * n:
        raise StreamError("a stream of several parts is cut: the file is damaged")
    sizes = struct.unpack_from(f"<{n}I", data)
    if 4 * n + sum(sizes) != len(data):
        raise StreamError("a stream whose parts don't fill it: the file is damaged")
    out, at = [], 4 * n
    for size in sizes:
        out.append(data[at : at + size])
        at += size
    return out
