"""Coding with hidden Chow-Liu trees: integer parameters, exact arithmetic, two messages for each edge of the tree.

Liu, Mandt, Van den Broeck, "Lossless Compression with Probabilistic Circuits", ICLR 2022, arXiv 2111.11632. Differs:
the paper codes a variable by re-evaluating the units on a path of the circuit, O(log D) of them a variable in a
balanced one (`structured` has that); a tree with latents allows less. Along a depth-first tour, one message goes down
each edge (what is known about the latent so far) and one comes back up (what its subtree then said), so all D
conditional distributions cost about two passes of the circuit. A decoder gets a symbol from cumulative counts by
bisection, an encoder from two rows of them. Many items go through the tour in lock-step.

Arithmetic. Whatever decides an interval is an integer carried in float64: parameters and beliefs are integers that
sum to exactly 2**24, so all sums of products are integers below 2**53 and exact in any order, on any machine, with any
number of threads or items at a time. What lies between (a product with a quotient, a floor) is rounded as IEEE 754
says, element by element. Cumulative counts of a symbol c are floor(sum_m belief[m] cumulative_theta[c, m] / 2**24):
they tile [0, 2**24) without gap or overlap, whatever the belief, and no symbol has an empty interval.

Parameters are stored as small floating-point numbers without sign ("codes": 5 bits of exponent, 3 or 11 of mantissa)
and made into integers by integer arithmetic. A code's error is relative, so rare symbols keep their probabilities, for
which counts of 16 bits would be too coarse.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError, UsageError, WeightsError
from ...native.circuits import Tour, fill_tables, row_length
from .lanes import TOTAL, LaneDecoder, LaneEncoder
from .trees import VariableTree

IntArray = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]  # integers in it, unless said otherwise

ABSENT = -1  # a symbol that neither side codes or knows

MAX_STATES = 256
MAX_SIZE = 1 << 20  # symbols of a variable
_SCALE = 1.0 / TOTAL
_FIT = float(TOTAL)  # what beliefs sum to
_LANE_ITEMS = 8  # a lane costs 6 bytes; fewer items than this for each make too much of it
_MAX_LANES = 128
_BLOCK_NUMBERS = 1 << 15  # items times states in lock-step: some MB for a whole tour
_MAX_BLOCK = 1 << 12  # items, in any stream


# ------------------------------------------------------------------------------------------------- stored parameters


def to_codes(p: NDArray[np.floating[Any]], bits: int) -> NDArray[np.unsignedinteger[Any]]:
    """Probabilities as codes of 8 or 16 bits, nearest; 2**-24 and below become the smallest code."""
    mantissa = _mantissa(bits)
    scaled = np.clip(np.asarray(p, np.float64), 2.0**-24, 1.0) * 2.0 ** (24 + mantissa)
    exponent = np.frexp(scaled)[1] - 1 - mantissa
    whole = np.rint(np.ldexp(scaled, -exponent)).astype(np.int64)  # 2**mantissa to 2**(mantissa + 1)
    code = (exponent.astype(np.int64) << mantissa) + whole - (1 << mantissa)  # a carry is the next exponent
    return code.astype(np.uint8 if bits == 8 else np.uint16)


def from_codes(codes: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int64]:
    """The integers below 2**36 that codes stand for: 2**(24 + 3 or 11) times the probability."""
    mantissa = _mantissa(8 * codes.dtype.itemsize)
    wide = codes.astype(np.int64)
    return ((wide & (1 << mantissa) - 1) + (1 << mantissa)) << (wide >> mantissa).clip(0, 24)


def _mantissa(bits: int) -> int:
    if bits not in (8, 16):
        raise ValueError(f"codes have 8 or 16 bits, not {bits}")
    return bits - 5


def to_counts(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows (last axis) of counts in proportion to positive integers below 2**36: at least 1 each, sum 2**24."""
    n = values.shape[-1]
    total = values.sum(-1, keepdims=True)
    counts = values * (TOTAL - n) // total + 1
    rest = TOTAL - counts.sum(-1, keepdims=True)
    top = values.argmax(-1)[..., None]
    np.put_along_axis(counts, top, np.take_along_axis(counts, top, -1) + rest, -1)
    return counts


# ------------------------------------------------------------------------------------------------------- the circuit


class FrozenCircuit:
    """A hidden Chow-Liu tree in integers: made once from a trained `HiddenTree`, then stored and never changed.

    tree; sizes: (D,) symbols of each variable. The parameters as codes, 8 or 16 bits, laid out as in `HiddenTree`:
    theta: (sum of sizes, M), weights: (inner variables but the root, M, M), root: (M,). WeightsError if they don't fit.

    Symbols of all calls: (N, D) integers. What decides a stream is in `_Tour`, which encoder and decoder both run.
    """

    def __init__(
        self, tree: VariableTree, sizes: IntArray, theta: NDArray[Any], weights: NDArray[Any], root: NDArray[Any]
    ) -> None:
        self.tree, self.sizes, self.states = tree, np.asarray(sizes, dtype=np.int64), len(root)
        self.codes = {"theta": theta, "weights": weights, "root": root}
        fits = self.sizes.shape == (len(tree),) and self.sizes.min() >= 1 and self.sizes.max() <= MAX_SIZE
        if not fits or not 1 <= self.states <= MAX_STATES:
            raise WeightsError(f"a circuit of {self.states} states and sizes {self.sizes.shape}: not valid weights")
        inner = int(tree.inner.sum()) - 1
        wanted = ((int(self.sizes.sum()), self.states), (inner, self.states, self.states), (self.states,))
        for (name, array), shape in zip(self.codes.items(), wanted, strict=True):
            if array.shape != shape or array.dtype not in (np.uint8, np.uint16):
                raise WeightsError(f"the circuit's {name} are {array.dtype} {array.shape}; expected codes {shape}")
        self.prior: Floats = to_counts(from_codes(root)).astype(np.float64)
        # cumulative counts of each leaf, (size + 1, M); float32 holds integers up to 2**24
        tables = [np.zeros((size + 1, row_length(self.states)), np.float32) for size in self.sizes.tolist()]
        self.leaves: list[NDArray[np.float32]] = [table[:, : self.states] for table in tables]
        if native.engine() == "native":
            fill_tables(np.ascontiguousarray(theta), [tables[v] for v in tree.order.tolist()])
        else:
            self._fill(theta)
        self.matrices: dict[int, Floats] = {}
        matrices = np.zeros((inner, row_length(self.states), row_length(self.states)))
        with_one = [v for v in tree.order.tolist() if tree.inner[v] and v != tree.root]
        for part in _slices(inner, max(1, (1 << 20) // self.states**2)):
            matrices[part, : self.states, : self.states] = to_counts(from_codes(weights[part]))
        for v, matrix in zip(with_one, matrices, strict=True):
            self.matrices[v] = matrix[: self.states, : self.states]

    def _fill(self, theta: NDArray[Any]) -> None:
        """Fills in the leaves from their codes."""
        start = 0
        for v in self.tree.order.tolist():
            counts = to_counts(from_codes(theta[start : start + self.sizes[v]].T))  # (M, size)
            np.cumsum(counts.T, axis=0, out=self.leaves[v][1:], dtype=np.float32)
            start += int(self.sizes[v])

    # ------------------------------------------------------------------------------------------------ made and stored

    @staticmethod
    def from_probabilities(
        tree: VariableTree,
        sizes: IntArray,
        theta: NDArray[Any],
        weights: NDArray[Any],
        root: NDArray[Any],
        bits: int = 16,
    ) -> FrozenCircuit:
        """A circuit of the parameters of a `HiddenTree` (its `to_arrays`), rounded to codes of 8 or 16 bits."""
        return FrozenCircuit(tree, sizes, to_codes(theta, bits), to_codes(weights, bits), to_codes(root, 16))

    def to_state(self) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file."""
        return {"parents": self.tree.parents.astype(np.int32), "sizes": self.sizes.astype(np.int32), **self.codes}

    @staticmethod
    def from_state(state: Mapping[str, NDArray[Any]]) -> FrozenCircuit:
        """A circuit of the arrays that `to_state` made; WeightsError if they can't be such arrays."""
        try:
            parents, sizes = np.asarray(state["parents"]), np.asarray(state["sizes"])
            if parents.dtype.kind != "i" or sizes.dtype.kind != "i":
                raise ValueError(f"parents are {parents.dtype}, sizes {sizes.dtype}; expected integers")
            codes = [np.asarray(state[name]) for name in ("theta", "weights", "root")]
            if codes[2].ndim != 1:
                raise ValueError(f"root of shape {codes[2].shape}")
            return FrozenCircuit(VariableTree(parents), sizes, *codes)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise WeightsError(f"the circuit in the weights is not valid: {error}") from error

    @property
    def n_parameters(self) -> int:
        return sum(codes.size for codes in self.codes.values())

    def padded_leaf(self, v: int) -> NDArray[np.float32]:
        """The cumulative counts of a variable with rows as they are in memory: (size + 1, `row_length`), 0 behind."""
        table = self.leaves[v].base
        assert isinstance(table, np.ndarray) and table.shape == (self.sizes[v] + 1, row_length(self.states))
        return table

    # ------------------------------------------------------------------------------------------------ encode, decode

    @cached_property
    def compiled_tour(self) -> Tour:
        """The circuit as compiled loops take it."""
        tree = self.tree
        return Tour(tree.children, tree.inner, tree.root, self.leaves, self.matrices, self.prior)

    def _tour(self, n: int, context: CodingContext | None) -> Tour | None:
        """The compiled tour, which does what `_Tour` does for n items; None where there is none for them."""
        if context is not None or native.engine() != "native" or native.library() is None:
            return None
        return self.compiled_tour if self.compiled_tour.fits(n) else None

    def _intervals(self, x: IntArray, context: CodingContext | None) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """The start and count of the coded symbols of rows x, (steps, n) each, in the order of the tour."""
        tour = self._tour(len(x), context)
        if tour is not None:
            return tour.intervals(x)
        side = _EncodingSide(self, x)
        _Tour(self, len(x), side.interval, context).run()
        if not side.splits:
            nothing = np.zeros((0, len(x)), np.uint32)
            return nothing, nothing
        return np.stack([split.start for split in side.splits]), np.stack([split.count for split in side.splits])

    def bits(self, x: IntArray, context: CodingContext | None = None) -> Floats:
        """The ideal code length of each row in bits, (N,), by the integers that a stream is made of."""
        x = self._checked(x)
        total = np.zeros(len(x))
        for rows in _slices(len(x), LaneLayout.of(len(x), self.states).block):
            _, counts = self._intervals(x[rows], context and context.part(rows))
            total[rows] = sum((24 - np.log2(count) for count in counts), start=total[rows])
        return total

    def estimate(self, x: IntArray) -> Floats | None:
        """About `bits`, by floats, which differ from machine to machine; None where nothing is faster than `bits`."""
        tour = self._tour(0, None)
        return None if tour is None else tour.lengths(self._checked(x))

    def encode(self, x: IntArray, context: CodingContext | None = None, lanes: int | None = None) -> bytes:
        """Encodes all rows as one stream. lanes: how many coders share it, 1 to 4096; None: what fits their number."""
        layout = LaneLayout.of(len(x), self.states, lanes)
        encoder = LaneEncoder(layout.lanes)
        self.encode_into(encoder, layout, x, context)
        return layout.to_bytes() + encoder.finish()

    def encode_into(
        self, encoder: LaneEncoder, layout: LaneLayout, x: IntArray, context: CodingContext | None = None
    ) -> None:
        """Encodes rows as a part of a stream: what is decoded after them may depend on them."""
        x = self._checked(x)
        for rows in _slices(len(x), layout.block):
            encoder.put_block(*self._intervals(x[rows], context and context.part(rows)), layout.lanes)

    def decode(self, data: bytes, n: int, context: CodingContext | None = None) -> NDArray[np.int32]:
        """Decodes (n, D) rows of a stream. StreamError if it can't be one of so many.

        The caller bounds n: what costs nearly nothing can be claimed in any number.
        """
        layout, body = LaneLayout.from_bytes(data, n, self.states)
        decoder = LaneDecoder(body, layout.lanes)
        out = self.decode_from(decoder, layout, n, context)
        decoder.finish()
        return out

    def decode_from(
        self, decoder: LaneDecoder, layout: LaneLayout, n: int, context: CodingContext | None = None
    ) -> NDArray[np.int32]:
        """Decodes the (n, D) rows of the next part of a stream, as `encode_into` encoded them."""
        out = np.full((n, len(self.tree)), ABSENT, dtype=np.int32)
        if context is not None:
            out[:, context.known] = context.x[:, context.known]
        for rows in _slices(n, layout.block):
            tour = self._tour(rows.stop - rows.start, context)
            if tour is not None:
                out[rows] = decoder.walk(tour, rows.stop - rows.start, layout.lanes)
                continue
            part = context and context.part(rows)
            side = _DecodingSide(self, decoder, layout.lanes, out[rows], part)
            _Tour(self, rows.stop - rows.start, side.interval, part).run()
        return out

    def encode_each(self, x: IntArray) -> list[bytes]:
        """Encodes each row as a stream that decodes alone; about 6 bytes longer than its share of one for all."""
        x = self._checked(x)
        out: list[bytes] = []
        for rows in _slices(len(x), LaneLayout.of(len(x), self.states, 1).block):
            n = rows.stop - rows.start
            encoder = LaneEncoder(n)
            self.encode_into(encoder, LaneLayout(n, 1), x[rows])
            out += encoder.finish_each()
        return out

    def decode_each(self, parts: Sequence[bytes]) -> NDArray[np.int32]:
        """Decodes the rows of streams that `encode_each` made, any of them in any order. StreamError."""
        out = np.empty((len(parts), len(self.tree)), np.int32)
        for rows in _slices(len(parts), LaneLayout.of(len(parts), self.states, 1).block):
            decoder = LaneDecoder.of_each(parts[rows])
            n = rows.stop - rows.start
            out[rows] = self.decode_from(decoder, LaneLayout(n, 1), n)
            decoder.finish()
        return out

    def split(self, v: int, belief: Floats, symbols: IntArray) -> Split:
        """The intervals of symbols (n,) of variable v under beliefs (n, M), and what the symbols say of the states."""
        table = self.leaves[v]
        index: NDArray[np.int64] = np.array(symbols, dtype=np.int64)
        absent = index < 0
        some_absent = bool(absent.any())
        index[absent] = 0
        low = np.take(table, index, axis=0).astype(np.float64)
        likelihood = np.take(table, index + 1, axis=0).astype(np.float64)
        likelihood -= low
        if some_absent:  # says nothing, and its interval is everything, which takes no bits
            low[absent], likelihood[absent] = 0.0, _FIT
        before = np.einsum("nm,nm->n", belief, low)  # up to 2**48
        joint = belief * likelihood
        mass = joint.sum(axis=1)
        start = np.floor(before * _SCALE)
        count = np.floor((before + mass) * _SCALE) - start
        return Split(start.astype(np.int64), count.astype(np.int64), likelihood, joint, mass)

    def _stride(self, v: int) -> int:
        """The distance, in symbols, between those that the first step of a search looks at: a power of two."""
        size = int(self.sizes[v])
        return 1 << (size.bit_length() // 2) if size > 32 else 1

    def coarse(self, v: int, belief: Floats) -> Floats:
        """2**24 times the places where every `_stride`-th symbol begins, the first symbol left out: (n, K)."""
        stride = self._stride(v)
        return belief @ self.leaves[v][stride : int(self.sizes[v]) : stride].T.astype(np.float64)

    def search(self, v: int, belief: Floats, coarse: Floats, place: IntArray) -> IntArray:
        """The symbols (n,) of variable v whose intervals hold these places (n,) of [0, 2**24)."""
        table, size, stride = self.leaves[v], int(self.sizes[v]), self._stride(v)
        limit = (place + 1) * _FIT  # a symbol begins at or before the place if its cumulative count is below this
        symbol = (coarse < limit[:, None]).sum(axis=1) * stride
        while stride > 1:
            stride >>= 1
            further: Any = np.minimum(symbol + stride, size)  # at `size` the count is 2**24: never below
            begins = np.einsum("nm,nm->n", belief, np.take(table, further, axis=0).astype(np.float64))
            symbol = np.where(begins < limit, further, symbol)
        return symbol

    def _checked(self, x: IntArray) -> IntArray:
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != len(self.tree) or x.dtype.kind not in "iu":
            raise UsageError(f"symbols are {x.dtype} {x.shape}; expected integers (N, {len(self.tree)})")
        if x.size and ((x < ABSENT).any() or (x >= self.sizes).any()):
            raise UsageError("a symbol is outside its variable's alphabet")
        return x


class _EncodingSide:
    """The encoder's side of a tour: it has the symbols, and keeps what becomes of each."""

    def __init__(self, circuit: FrozenCircuit, x: IntArray) -> None:
        self._circuit, self._x = circuit, x
        self.splits: list[_Interval] = []

    def interval(self, v: int, belief: Floats) -> Split:
        split = self._circuit.split(v, belief, self._x[:, v])
        self.splits.append(_Interval(split.start.astype(np.uint32), split.count.astype(np.uint32)))
        return split


class _DecodingSide:
    """The decoder's side of a tour: it finds the symbols, lanes by lanes, and writes them to out (n, D)."""

    def __init__(
        self, circuit: FrozenCircuit, decoder: LaneDecoder, lanes: int, out: IntArray, context: CodingContext | None
    ) -> None:
        self._circuit, self._decoder, self._out, self._context = circuit, decoder, out, context
        self._groups = _slices(len(out), lanes)

    def interval(self, v: int, belief: Floats) -> Split:
        circuit, decoder, symbols = self._circuit, self._decoder, self._out[:, v]
        absent = None if self._context is None else self._context.x[:, v] == ABSENT
        coarse = circuit.coarse(v, belief)
        for group in self._groups:
            place = decoder.peek(group.stop - group.start)
            symbols[group] = circuit.search(v, belief[group], coarse[group], place)
            if absent is not None:
                symbols[group][absent[group]] = ABSENT
            split = circuit.split(v, belief[group], symbols[group])
            decoder.take(split.start, split.count)
        return circuit.split(v, belief, symbols)


class _Interval(NamedTuple):
    """The intervals of a symbol for n items, kept small: each (n,)."""

    start: NDArray[np.uint32]
    count: NDArray[np.uint32]


class Split(NamedTuple):
    """The interval of a symbol, and what it says of the states, for n items.

    start, count: (n,) its interval. likelihood: (n, M) of the symbol in each state. joint: (n, M) belief times
    likelihood; mass: (n,) its sum.
    """

    start: NDArray[np.int64]
    count: NDArray[np.int64]
    likelihood: Floats
    joint: Floats
    mass: Floats


@dataclass(frozen=True, eq=False)
class CodingContext:
    """Symbols that both sides know before coding. x: (N, D); known: (D,) which variables are not coded but given.

    x of a variable that is known: its symbol, or ABSENT if it isn't known for this item. x of one that is coded: 0, or
    ABSENT for items that have no such variable; those must be ABSENT in the symbols that are encoded as well.
    """

    x: IntArray
    known: NDArray[np.bool_]

    def part(self, rows: slice) -> CodingContext:
        return CodingContext(self.x[rows], self.known)


@dataclass(frozen=True)
class LaneLayout:
    """The spread of a stream's rows over lanes: item i of a block is in lane i mod lanes; lanes go on in all blocks.

    In each block, variables are coded in the order of the tour; of each variable first the items 0..lanes-1, then the
    next ones. Bytes: lanes - 1 (2 bytes), block / lanes - 1 (2 bytes), little-endian.
    """

    lanes: int
    depth: int

    @property
    def block(self) -> int:
        return self.lanes * self.depth

    @staticmethod
    def of(n: int, states: int, lanes: int | None = None) -> LaneLayout:
        if lanes is None:
            lanes = min(_MAX_LANES, 1 << max(0, (n // _LANE_ITEMS).bit_length() - 1))
        if not 1 <= lanes <= _MAX_BLOCK:
            raise UsageError(f"{lanes} lanes; expected 1 to {_MAX_BLOCK}")
        fitting = min(_MAX_BLOCK, max(1, _BLOCK_NUMBERS // states), max(n, 1))
        return LaneLayout(lanes, max(1, fitting // lanes))

    def to_bytes(self) -> bytes:
        return struct.pack("<HH", self.lanes - 1, self.depth - 1)

    @staticmethod
    def from_bytes(data: bytes, n: int | None, states: int) -> tuple[LaneLayout, bytes]:
        """The layout that a stream begins with, and the rest. n: rows of the stream; None if it isn't known yet.

        StreamError for blocks smaller than `of` makes of n rows: each block is a tour over all variables, which costs
        as much for one item as for hundreds. (So `of` can make blocks larger one day, and never smaller.)
        """
        if len(data) < 4:
            raise StreamError(f"the entropy-coded stream is cut: {len(data)} bytes")
        lanes, depth = (1 + value for value in struct.unpack("<HH", data[:4]))
        layout = LaneLayout(lanes, depth)
        most = _MAX_BLOCK if n is None else max(1, n)
        wrong = layout.block > _MAX_BLOCK or lanes > most or layout.block * states > _BLOCK_NUMBERS * 8
        if wrong or (n is not None and layout.block < LaneLayout.of(n, states, lanes).block):
            items = "items" if n is None else f"{n} items"
            raise StreamError(f"the entropy-coded stream is damaged: {lanes} lanes, {depth} deep, for {items}")
        return layout, data[4:]


def _slices(n: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


# --------------------------------------------------------------------------------------------------------- the tour


@dataclass(eq=False)
class _Visit:
    """A latent being visited. belief: (n, M) of its states, given all that is known but for the children that are
    still to come; message: (n, M) what its subtree said so far. ahead: what is known of the children after each."""

    v: int
    belief: Floats
    message: Floats
    ahead: list[Floats | None]
    at: int = 0


class _Tour:
    """The depth-first tour over the tree, for n items in lock-step.

    interval: called with each coded variable and beliefs (n, M) of the latent that it hangs below; knows or finds the
    symbols and returns their `Split`.
    """

    def __init__(
        self, circuit: FrozenCircuit, n: int, interval: Callable[[int, Floats], Split], context: CodingContext | None
    ) -> None:
        self.circuit, self.n, self.interval = circuit, n, interval
        self.tree = circuit.tree
        self.context = context
        self.known = np.zeros(len(self.tree), bool) if context is None else context.known
        self.given: dict[int, Floats] = {}  # messages of what is known in a subtree, before anything is coded
        self.whole = dict.fromkeys(range(len(self.tree)), False)  # whether nothing of a subtree is coded

    def run(self) -> None:
        if self.context is not None:
            self._gather()
        prior = np.broadcast_to(self.circuit.prior, (self.n, self.circuit.states))
        stack = [self._enter(self.tree.root, prior)]
        while stack:
            visit = stack[-1]
            children = self.tree.children[visit.v]
            if visit.at == len(children):
                stack.pop()
                if stack:
                    self._absorb(stack[-1], self._up(visit.v, visit.message))
                continue
            child = children[visit.at]
            if self.whole[child]:
                self._absorb(visit, self.given[child])
                continue
            belief = self._ahead(visit.belief, visit.ahead[visit.at])
            if self.tree.inner[child]:
                stack.append(self._enter(child, self._below(child, belief)))
            else:
                split = self.interval(child, belief)
                last = visit.at + 1 == len(children)
                if visit.ahead[visit.at] is None:
                    self._absorb(visit, split.likelihood, None if last else _fit(split.joint, split.mass))
                else:
                    self._absorb(visit, split.likelihood)

    def _enter(self, v: int, prior: Floats) -> _Visit:
        children = self.tree.children[v]
        ahead: list[Floats | None] = [None] * (len(children) + 1)  # the product of what is given by later children
        if self.context is not None:
            for i in range(len(children) - 1, -1, -1):
                ahead[i] = _times(ahead[i + 1], self.given.get(children[i]))
        if self.known[v]:
            likelihood = self._own(v)
            joint = prior * likelihood
            belief = _fit(joint, joint.sum(axis=1))
        else:
            split = self.interval(v, self._ahead(prior, ahead[0]))
            likelihood = split.likelihood
            joint, mass = split.joint, split.mass
            if ahead[0] is not None:
                joint = prior * likelihood
                mass = joint.sum(axis=1)
            belief = _fit(joint, mass) if children else prior
        # shrunk: a product of two messages must sum to less than 2**53
        message = _shrunk(likelihood) if children and v != self.tree.root else likelihood
        return _Visit(v, belief, message, ahead[1:])

    def _ahead(self, belief: Floats, given: Floats | None) -> Floats:
        if given is None:
            return belief
        joint = belief * given
        return _fit(joint, joint.sum(axis=1))

    def _absorb(self, visit: _Visit, message: Floats, belief: Floats | None = None) -> None:
        """A child is done: its message goes into the parent's belief (unless that is known already) and message."""
        visit.at += 1
        if visit.at < len(self.tree.children[visit.v]):
            if belief is None:
                joint = visit.belief * message
                belief = _fit(joint, joint.sum(axis=1))
            visit.belief = belief
        if visit.v != self.tree.root:
            visit.message = _shrunk(visit.message * message)

    def _below(self, v: int, belief: Floats) -> Floats:
        """The belief (n, M) about v's latent, from the belief about its parent's."""
        out = belief @ self.circuit.matrices[v]
        out *= _SCALE
        np.floor(out, out=out)
        out[:, 0] += _FIT - out.sum(axis=1)  # at most M; which state gets it doesn't matter
        return out

    def _up(self, v: int, message: Floats) -> Floats:
        """The message (n, M) of v's subtree in terms of the parent's states: up to 2**24 + 1."""
        out = message @ self.circuit.matrices[v].T
        out *= _SCALE
        np.floor(out, out=out)
        out += 1
        return out

    # ----------------------------------------------------------------------------------------------------- context

    def _own(self, v: int) -> Floats:
        """The message (n, M) of the given symbols of variable v."""
        assert self.context is not None
        symbols = self.context.x[:, v].astype(np.intp)
        table = self.circuit.leaves[v]
        out = table.take(symbols.clip(0) + 1, axis=0).astype(np.float64) - table.take(symbols.clip(0), axis=0)
        out[symbols < 0] = _FIT
        return _shrunk(out)

    def _gather(self) -> None:
        """Computes the messages of all that is given, up the tree, before the tour."""
        for v in self.tree.order[::-1].tolist():
            children = self.tree.children[v]
            self.whole[v] = bool(self.known[v]) and all(self.whole[child] for child in children)
            message = self._own(v) if self.known[v] else None
            for child in children:
                message = _times(message, self.given.get(child))
            if message is not None and v != self.tree.root:
                self.given[v] = self._up(v, message) if self.tree.inner[v] else message


def _times(a: Floats | None, b: Floats | None) -> Floats | None:
    """A product of messages, either of which may say nothing."""
    if a is None or b is None:
        return b if a is None else a
    return _shrunk(a * b)


def _fit(joint: Floats, mass: Floats) -> Floats:
    """Beliefs in proportion to joint (n, M), whose sums are mass: integers of at least 1 that sum to 2**24."""
    n_states = joint.shape[1]
    out = joint * ((_FIT - n_states - 1) / mass)[:, None]
    np.floor(out, out=out)
    out += 1
    out[:, 0] += _FIT - out.sum(axis=1)  # 1 to 2 M + 1
    return out


def _shrunk(message: Floats) -> Floats:
    """A message (M values below 2**25), or a product of two shrunk ones, as integers of at least 1 that sum to about
    2**24."""
    out = message * (_FIT / message.sum(axis=1))[:, None]
    np.floor(out, out=out)
    out += 1
    return out
