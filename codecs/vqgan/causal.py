"""A causal model of index maps: context mixing, in exact integers, from states that were learned on photographs.

What a codeword is likely to be, its neighbours say: those to the left, above, and at both sides of that one. Codewords
have a binary code in which similar ones begin alike (halves, quarters, ... of the codebook along its main axes), so the
decisions of the mixing coder (`entropy/mixing`) go from coarse to fine. Contexts are neighbours, pairs of them, coarse
parts of more of them, and the codewords nearest to what the neighbours' vectors predict (their mean, their plane).
1536 indices teach little from nothing: states are learned on many maps, and go with the weights. Predictions are among
2048 vectors at most: of a larger codebook, the means of words whose codes begin alike, so that a map takes no longer.

The paper's files have a uniform model (Mao et al., "Extreme Image Compression using Fine-tuned VQGANs", arXiv
2307.08265). Cells are coded along lines that rise to the right, x + 2 y, whose cells know their contexts at once. May
import entropy; no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.mixing import shipping
from ...entropy.mixing.coding import SymbolCoder, symbol_plan
from ...entropy.mixing.mixer import Mixer, Plan
from ...entropy.mixing.tables import Rates
from ...errors import StreamError

__all__ = ["CausalModel"]

IntArray = NDArray[np.integer[Any]]

_CONTEXTS = 15
_SETS = 64  # of weights: by how different the neighbours are, and by the codeword between them
_RATES = Rates(limit=1023, delay=1.5, doubt=1.0, lean=4.0, first=0.02, last=0.002, fall=32, refine_by=6)
_MAX_BITS, _MAX_DIM, _MAX_LINES = 14, 32, 22
_FINE_BITS = 11  # of a code: of its vector, and in pairs of codes
_TOGETHER = 512  # cells whose contexts are made together where all are known
_ROWS = 3 * _TOGETHER  # of scores in memory together
_FINE = 127  # the largest number of a vector: sums of products stay exact in float32


@dataclass(eq=False)
class CausalModel:
    """The knowledge of the index maps of one codebook of K = 2**bits words.

    codes: (K,) uint16, the binary code of each index. vectors: (min(K, 2048), D) int8, the codewords in the order of
    their codes, or the means of those whose codes have the same first bits.
    edges: (7,) int32, rising: of squared distances. mixer: what was learned; streams begin with a copy of it.
    """

    codes: NDArray[np.uint16]
    vectors: NDArray[np.int8]
    edges: NDArray[np.int32]
    mixer: Mixer

    # ---- making one

    @staticmethod
    def new(codebook: NDArray[Any], maps: Sequence[IntArray], lines: int = 18) -> CausalModel:
        """A model that has learned nothing. codebook: (K, D) numbers; maps: some, for what is usual."""
        size = len(codebook)
        if size < 2 or size & (size - 1) or size.bit_length() - 1 > _MAX_BITS:
            raise ValueError(f"a codebook of {size} words: expected a power of two up to {1 << _MAX_BITS}")
        words = np.asarray(codebook, np.float64)
        codes = _binary_codes(words)
        means = words[np.argsort(codes)].reshape(min(size, 1 << _FINE_BITS), -1, words.shape[1]).mean(1)
        vectors = np.rint(means * (_FINE / max(1e-30, float(np.abs(means).max())))).astype(np.int8)
        fine = vectors.astype(np.int64)[codes.astype(np.int64) * len(vectors) // size]
        steps = [np.square(fine[m[:, 1:]] - fine[m[:, :-1]]).sum(-1).ravel() for m in maps if m.shape[1] > 1]
        edges = np.quantile(np.concatenate(steps), np.arange(1, 8) / 8) if steps else np.zeros(7)
        mixer = Mixer.new(_plan(size.bit_length() - 1, lines))
        return CausalModel(codes, vectors, np.rint(edges).astype(np.int32), mixer)

    def learn(self, maps: Sequence[IntArray]) -> float:
        """Goes over maps (h, w) once, and learns from them; the bits of all, as they came."""
        from ...entropy.mixing.coding import PRICE, compiled

        coder = compiled(PRICE, self.mixer)
        for indices in maps:
            for symbols, contexts, select in self._lines_of(self.codes[indices]):
                coder.symbols(self.bits, contexts, select, _SETS, symbols)
        return coder.bits

    def to_state(self, most: int) -> dict[str, NDArray[Any]]:
        """All that was learned, as arrays to save, `most` bytes at most where it can be: what is rare is left out."""
        seen = shipping.seen_for(self.mixer, most, 2)  # an estimate, too low for lines of many nodes
        while len(data := shipping.pack(self.mixer, seen, 2)) > most and seen < 1000:
            seen += 1 + seen // 4
        lines = np.array([self.mixer.plan.lines], np.int32)
        learned = np.frombuffer(data, np.uint8).copy()
        return {"codes": self.codes, "vectors": self.vectors, "edges": self.edges, "lines": lines, "learned": learned}

    @staticmethod
    def from_state(state: Mapping[str, NDArray[Any]]) -> CausalModel:
        """The model of a saved state. ValueError for one that is damaged."""
        try:
            codes, vectors, edges, lines = (state[name] for name in ("codes", "vectors", "edges", "lines"))
            data = state["learned"]
        except KeyError as error:
            raise ValueError(f"the state of an index model lacks {error}: the weights are damaged") from error
        size = len(codes) if codes.ndim == 1 else 0
        bits = max(0, size.bit_length() - 1)
        fits = 1 <= bits <= _MAX_BITS and size == 1 << bits and codes.dtype == np.uint16
        fits = fits and np.array_equal(np.sort(codes), np.arange(size))
        fits = fits and vectors.dtype == np.int8 and vectors.ndim == 2 and len(vectors) == min(size, 1 << _FINE_BITS)
        fits = fits and 1 <= vectors.shape[1] <= _MAX_DIM and int(vectors.min()) >= -_FINE
        fits = fits and edges.shape == (7,) and edges.dtype == np.int32 and bool((np.diff(edges) >= 0).all())
        fits = fits and lines.shape == (1,) and lines.dtype == np.int32 and 1 <= lines[0] <= _MAX_LINES
        if not fits or data.dtype != np.uint8 or data.ndim != 1:
            raise ValueError("the state of an index model can't be one: the weights are damaged")
        try:
            mixer = shipping.unpack(data.tobytes(), _plan(bits, int(lines[0])))
        except StreamError as error:
            raise ValueError(str(error)) from error
        return CausalModel(codes, vectors, edges, mixer)

    # ---- streams

    def encode(self, indices: IntArray) -> bytes:
        """The stream of a map (h, w) of indices."""
        coder = SymbolCoder(self.bits, _SETS, self.mixer.copy())
        for symbols, contexts, select in self._lines_of(self.codes[indices]):
            coder.code(contexts, select, symbols)
        return coder.finish()

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.int32]:
        """The map (h, w) of a stream. StreamError if it can't be one of it."""
        coder = SymbolCoder(self.bits, _SETS, self.mixer.copy(), data)
        known = self._padded(shape)
        for y, x in _fronts(shape):
            known[y + 2, x + 2] = coder.code(*self._contexts(known, y, x))
        coder.finish()
        return self._indices[known[2:, 2:-1]]

    # ---- parts

    @property
    def bits(self) -> int:
        """The bits of an index."""
        return len(self.codes).bit_length() - 1

    @cached_property
    def _indices(self) -> NDArray[np.int32]:
        """The index of each code."""
        return np.argsort(self.codes).astype(np.int32)

    @cached_property
    def _words(self) -> NDArray[np.float32]:
        """The vectors by code, and zeros for a cell that isn't there."""
        return np.concatenate([self.vectors, np.zeros((1, self.vectors.shape[1]), np.int8)]).astype(np.float32)

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        """The vectors and their squares, (D + 1, n): (-2 target, scale) times it is smallest at the nearest one."""
        words = self._words[:-1]
        return np.ascontiguousarray(np.concatenate([words, np.square(words).sum(1, keepdims=True)], 1).T)

    def _padded(self, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """A map of codes in which no cell is known, with two rows above, two columns before and one behind."""
        return np.full((shape[0] + 2, shape[1] + 3), len(self.codes), np.int32)

    def _lines_of(
        self, codes: NDArray[np.uint16]
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.int32]]]:
        """The symbols, contexts and choices of all cells of a map of codes (h, w), line by line."""
        known = self._padded(codes.shape)
        known[2:, 2:-1] = codes
        y, x = (np.concatenate(axis) for axis in zip(*_fronts(codes.shape), strict=True))
        for part in np.split(np.arange(len(y)), range(_TOGETHER, len(y), _TOGETHER)):
            yield (known[y[part] + 2, x[part] + 2], *self._contexts(known, y[part], x[part]))

    def _nearest(self, *targets: tuple[NDArray[np.float32], int]) -> Sequence[NDArray[np.intp]]:
        """The numbers (n,) of the vectors nearest to target (n, D) / scale, for each (target, scale).

        All numbers are whole and their sums below 2**24, so exact in any order.
        """
        rows = np.concatenate([np.pad(-2 * t, ((0, 0), (0, 1)), constant_values=scale) for t, scale in targets])
        parts = [(rows[k : k + _ROWS] @ self._table).argmin(1) for k in range(0, max(1, len(rows)), _ROWS)]
        return np.split(np.concatenate(parts), len(targets))

    def _contexts(
        self, known: NDArray[np.int32], y: IntArray, x: IntArray
    ) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """The contexts (n, _CONTEXTS) and the sets of weights (n,) of cells, from those before them."""
        places = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
        codes = [known[y + 2 + dy, x + 2 + dx].astype(np.int64) for dy, dx in places]
        w, n, nw, ne, ww, nn = codes
        shift = max(0, self.bits - _FINE_BITS)
        vectors = [self._words[code >> shift] for code in (w, n, nw, ne)]
        sides = vectors[0] + vectors[1]
        plane, middle, slope = self._nearest(
            (sides - vectors[2], 1), (sides, 2), (2 * sides + vectors[3] - vectors[2], 4)
        )

        def coarse(bits: int, *of: NDArray[np.int64]) -> NDArray[np.int64]:
            """The first bits of several codes in one number."""
            out = np.zeros_like(w)
            for code in of:
                out = out << (bits + 1) | code >> max(0, self.bits - bits)
            return out

        contexts = (
            np.zeros_like(w),
            w,
            n,
            ne,
            plane,
            middle,
            slope,
            w >> shift << 16 | n >> shift,
            coarse(7, w) << 16 | coarse(4, ne),
            coarse(7, n) << 16 | coarse(4, ne) << 8 | coarse(3, ww),
            coarse(7, w) << 16 | coarse(3, n),
            coarse(5, w, n) << 16 | coarse(4, nw, ne),
            coarse(4, w, n, ne, ww, nn),
            coarse(3, w, n, ne, nw),
            middle >> max(0, self.bits - shift - 6),
        )
        between = np.square(vectors[0] - vectors[1]).sum(1).astype(np.int64)
        select = np.searchsorted(self.edges, between) * 8 + (middle >> max(0, self.bits - shift - 3))
        return np.stack(contexts, 1).astype(np.uint64), select.astype(np.int32)


def _fronts(shape: tuple[int, ...]) -> Iterator[tuple[IntArray, IntArray]]:
    """The cells (rows, columns) of each line x + 2 y of a map, in the order in which they are coded."""
    height, width = shape
    for step in range(width + 2 * (height - 1)):
        y = np.arange(max(0, (step - width + 2) // 2), min(height - 1, step // 2) + 1)
        if len(y):  # every second one of a map of one column is empty
            yield y, step - 2 * y


def _plan(bits: int, lines: int) -> Plan:
    return symbol_plan(bits, _CONTEXTS, _SETS, lines, _RATES)


def _binary_codes(words: NDArray[np.float64]) -> NDArray[np.uint16]:
    """A binary code of each word (K, D): the set is halved along its main axis, then each half, and so on."""
    bits = len(words).bit_length() - 1
    codes = np.zeros(len(words), np.int64)
    sets = [np.arange(len(words))]
    for depth in range(bits):
        halves = []
        for members in sets:
            centred = words[members] - words[members].mean(0)
            axis = np.linalg.svd(centred, full_matrices=False)[2][0]
            order = members[np.argsort(centred @ axis, kind="stable")]
            codes[order[len(order) // 2 :]] |= 1 << (bits - 1 - depth)
            halves += [order[: len(order) // 2], order[len(order) // 2 :]]
        sets = halves
    return codes.astype(np.uint16)
