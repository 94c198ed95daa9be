"""Circuits in compiled loops: the same bytes and symbols as the twins in NumPy, on every instruction set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.entropy.circuits.coding import ABSENT, FrozenCircuit, LaneLayout, from_codes, to_counts
from codec.entropy.circuits.lanes import TOTAL, LaneDecoder, LaneEncoder
from codec.entropy.circuits.trees import VariableTree
from codec.errors import StreamError
from codec.native.circuits import Tour, encode_lanes, fill_tables, row_length

SETS = native.instruction_sets()
pytestmark = pytest.mark.skipif(not SETS, reason="this install has no compiled module")
every_set = pytest.mark.parametrize("name", SETS)

SIZES = (40, 3, 300, 1, 33, 7, 2, 64, 5, 40, 3, 32)
PARENTS = (2, 0, -1, 0, 2, 4, 4, 4, 7, 7, 2, 9)
# as many states as fill vectors and as don't, those with loops of their own and those without, the most
STATES = (1, 2, 7, 8, 9, 16, 28, 31, 32, 48, 50, 64, 80, 256)


def circuit(states: int, parents: Sequence[int] = PARENTS, sizes: Any = SIZES, seed: int = 0) -> FrozenCircuit:
    """A circuit of random codes: of all sizes, so that some symbols are nearly certain and others as rare as can be."""
    draw = np.random.default_rng(seed)
    tree = VariableTree(np.array(parents))

    def codes(*shape: int) -> np.ndarray:
        some = draw.integers(0, 1 << 16, shape)
        kind = draw.random((*shape[:-1], 1))  # all alike, one or few that count, anything
        return np.where(kind < 0.2, some % 3, np.where(kind < 0.6, some % (1 << 12), some)).astype(np.uint16)

    inner = int(tree.inner.sum()) - 1
    theta = codes(int(np.sum(sizes)), states)
    return FrozenCircuit(tree, np.array(sizes), theta, codes(inner, states, states), codes(1, states)[0])


def likely(model: FrozenCircuit, n: int, seed: int = 0) -> np.ndarray:
    """Symbols that a decoder makes of random places: as the model draws them, and now and then any at all."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, model.sizes, (n, len(model.sizes)))
    common = np.array([np.diff(table.mean(1)).argmax() for table in model.leaves])
    return np.where(draw.random(x.shape) < 0.6, common, x)


def length_of(model: FrozenCircuit, x: np.ndarray) -> np.ndarray:
    """The code lengths in bits, from the definition, in float64."""
    messages: dict[int, np.ndarray] = {}
    for v in model.tree.order[::-1].tolist():
        seen = np.diff(model.leaves[v], axis=0)[x[:, v].clip(0)] / float(TOTAL)
        message = np.where(x[:, v, None] < 0, 1.0, seen)
        for child in model.tree.children[v]:
            message = message * messages[child]
        messages[v] = message @ model.matrices[v].T / TOTAL if v in model.matrices else message
    return -np.log2(messages[model.tree.root] @ model.prior / TOTAL)


class TestTour:
    @every_set
    @pytest.mark.parametrize("states", STATES)
    def test_same_bytes_both_ways(self, name: str, states: int) -> None:
        model = circuit(states, seed=states)
        for n, lanes in ((1, 1), (5, 2), (9, 3), (43, None), (45, 5), (130, 64)):
            x = likely(model, n, seed=n)
            with native.using(None):
                expected = model.encode(x, lanes=lanes)
                each = model.encode_each(x[:7])
            with native.using(name):
                assert model.encode(x, lanes=lanes) == expected
                np.testing.assert_array_equal(model.decode(expected, n), x)
                assert model.encode_each(x[:7]) == each
                np.testing.assert_array_equal(model.decode_each(each[::-1]), x[:7][::-1])

    @every_set
    @pytest.mark.parametrize("parents", [[-1], [-1, 0], list(range(-1, 60)), [-1] + [0] * 60, [3, 3, 3, -1, 2, 2]])
    def test_chains_and_stars(self, name: str, parents: list[int]) -> None:
        model = circuit(12, parents, [3] * len(parents))
        x = likely(model, 11)
        with native.using(None):
            expected = model.encode(x)
        with native.using(name):
            assert model.encode(x) == expected
            np.testing.assert_array_equal(model.decode(expected, 11), x)

    @every_set
    def test_several_blocks_and_their_ends(self, name: str) -> None:
        model = circuit(256, [-1, 0, 0, 1], [5, 6, 7, 300])  # blocks of 128
        assert LaneLayout.of(300, 256).block < 300
        x = likely(model, 300)
        with native.using(None):
            expected = model.encode(x)
        with native.using(name):
            assert model.encode(x) == expected
            np.testing.assert_array_equal(model.decode(expected, 300), x)

    @every_set
    @pytest.mark.parametrize("states", [6, 48])
    def test_absent_symbols(self, name: str, states: int) -> None:
        model = circuit(states)
        x = likely(model, 30)
        x[np.random.default_rng(1).random(x.shape) < 0.3] = ABSENT
        with native.using(None):
            expected, bits = model.encode(x), model.bits(x)
        with native.using(name):
            assert model.encode(x) == expected
            np.testing.assert_array_equal(model.bits(x), bits)

    @every_set
    def test_any_number_of_threads(self, name: str) -> None:
        model = circuit(24)
        x = likely(model, 700)
        before = native.threads()
        results = []
        with native.using(name):
            try:
                for n in (1, 2, 3, 5):
                    native.set_threads(n)
                    data = model.encode(x)
                    results.append(data)
                    np.testing.assert_array_equal(model.decode(data, len(x)), x)
            finally:
                native.set_threads(before)
        assert len(set(results)) == 1

    @every_set
    @pytest.mark.parametrize("states", [9, 28, 48, 100])
    def test_lengths_are_the_likelihoods(self, name: str, states: int) -> None:
        parents = np.random.default_rng(3).integers(0, np.arange(1, 60))
        model = circuit(states, [-1, *parents.tolist()], [20] * 60)
        x = likely(model, 50)
        x[::7, ::5] = ABSENT
        with native.using(name):
            lengths = model.estimate(x)
            assert lengths is not None
            np.testing.assert_allclose(lengths, length_of(model, x), atol=1e-3)
            assert circuit(8).estimate(likely(circuit(8), 3)) is None

    def test_every_order_of_coding_is_the_twins(self) -> None:
        model = circuit(3)
        tree = model.tree
        tour = Tour(tree.children, tree.inner, tree.root, model.leaves, model.matrices, model.prior)
        assert tour.order == [2, 0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 10]


class TestTables:
    @every_set
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("states", [1, 6, 48])
    def test_same_counts(self, name: str, bits: int, states: int) -> None:
        draw = np.random.default_rng(bits)
        sizes = [1, 2, 300, 7, 5000]
        codes = draw.integers(0, 1 << bits, (sum(sizes), states)).astype(f"u{bits // 8}")
        codes[:3], codes[-2:] = (1 << bits) - 1, 0
        codes[3:303] = codes[3]  # the first of the largest takes what is left
        start = 0
        with native.using(name):
            tables = [np.zeros((size + 1, row_length(states)), np.float32) for size in sizes]
            fill_tables(codes, tables)
        for size, table in zip(sizes, tables, strict=True):
            counts = to_counts(from_codes(codes[start : start + size].T)).T
            np.testing.assert_array_equal(table[1:, :states], np.cumsum(counts, axis=0))
            assert not table[0].any() and not table[:, states:].any()
            start += size

    def test_wrong_calls(self) -> None:
        codes = np.zeros((5, 3), np.uint8)
        for wrong, size in (
            (codes, 4),
            (codes[:, ::2], 5),
            (codes.astype(np.int8), 5),
            (np.zeros((5, 300), np.uint8), 5),
        ):
            with pytest.raises(AssertionError):
                fill_tables(wrong, [np.zeros((size + 1, row_length(wrong.shape[1])), np.float32)])
        with pytest.raises(AssertionError):
            fill_tables(codes, [np.zeros((6, 3), np.float32)])


class TestDamage:
    @every_set
    def test_anything_decodes_as_with_the_twin(self, name: str) -> None:
        """Damage, and noise from end to end: the same symbols, or the same error."""
        model = circuit(10)
        good = model.encode(likely(model, 60))
        draw = np.random.default_rng(0)
        cases = [good[: int(draw.integers(4, len(good)))] for _ in range(10)]
        for _ in range(40):
            changed = bytearray(good)
            changed[int(draw.integers(4, len(good)))] ^= int(draw.integers(1, 256))
            cases.append(bytes(changed))
        for _ in range(10):
            state = draw.integers(1 << 31, 1 << 63, LaneLayout.of(60, 10).lanes, np.uint64)
            words = draw.integers(0, 1 << 32, int(draw.integers(0, 900)), np.uint32)
            cases.append(good[:4] + state.astype("<u8").tobytes() + words.astype("<u4").tobytes())

        def outcome(data: bytes) -> Any:
            try:
                return model.decode(data, 60).tolist()
            except StreamError as error:
                return str(error)

        for data in cases:
            with native.using(None):
                expected = outcome(data)
            with native.using(name):
                assert outcome(data) == expected

    @every_set
    def test_items_that_are_cut(self, name: str) -> None:
        model = circuit(10)
        parts = model.encode_each(likely(model, 6))
        longest = max(range(6), key=lambda i: len(parts[i]))
        data = parts[longest]
        n_bytes = data[-1]
        assert len(data) > 4 + 1 + n_bytes, "has words"
        parts[longest] = data[-1 - n_bytes :]
        with native.using(name), pytest.raises(StreamError, match="ends before"):
            model.decode_each(parts)

    def test_wrong_calls(self) -> None:
        model = circuit(5)
        tour = model.compiled_tour
        x = likely(model, 4)
        for wrong in (x[:, 1:], x + 300, x - 2, x[0]):
            with pytest.raises(AssertionError):
                tour.intervals(wrong)
            with pytest.raises(AssertionError):
                tour.lengths(wrong)
        state, words = np.full(4, 1 << 40, np.uint64), np.zeros(9, np.uint32)
        each = np.zeros(4, np.int64), np.full(4, 2, np.int64)
        tour.decode(1, state.copy(), 1, words, 0)
        wrong_ones: list[Any] = [
            (4, state, 5, words, 0),
            (4, state, 0, words, 0),
            (4, state.astype(np.int64), 4, words, 0),
            (4, np.full(4, 1 << 63, np.uint64), 4, words, 0),
            (4, state, 4, words.astype(np.uint64), 0),
            (4, state, 4, words[::2], 0),
            (4, state, 4, words, 10),
            (4, state, 4, words, -1),
            (-1, state, 4, words, 0),
            (1 << 40, state, 4, words, 0),
            (4, state, 4, words, 0, (each[0], each[1] + 8)),
            (4, state, 4, words, 0, (each[0] - 1, each[1])),
            (4, state, 4, words, 0, (each[0][:3], each[1][:3])),
        ]
        for arguments in wrong_ones:
            with pytest.raises(AssertionError):
                tour.decode(*arguments)
        tree = model.tree
        with pytest.raises(AssertionError):
            Tour(tree.children[:-1], tree.inner, tree.root, model.leaves, model.matrices, model.prior)
        leaves = [*model.leaves[:-1], model.leaves[-1] * 2]
        with pytest.raises(AssertionError):
            Tour(tree.children, tree.inner, tree.root, leaves, model.matrices, model.prior)
        start: Any = np.zeros((2, 3), np.uint32)
        count: Any = np.ones((2, 3), np.uint32)
        for block in ((start, count * 0, 3), (start, count, 5), (start, count[:1], 3), (start.T, count.T, 2)):
            with pytest.raises(AssertionError):
                encode_lanes(state, [block], False)

    def test_more_memory_than_a_tour_may_take(self) -> None:
        """Then the twin codes; the stream is the same."""
        model = circuit(8)
        assert model.compiled_tour.fits(1000)
        assert not model.compiled_tour.fits(1 << 40)


class TestLanes:
    @every_set
    @pytest.mark.parametrize("lanes", [1, 3, 64])
    def test_extreme_intervals(self, name: str, lanes: int) -> None:
        draw = np.random.default_rng(lanes)
        count = np.where(draw.random((40, 70)) < 0.3, 1, draw.integers(1, TOTAL + 1, (40, 70)))
        count[draw.random((40, 70)) < 0.2] = TOTAL
        start = draw.integers(0, TOTAL - count + 1)
        streams = []
        for way in (None, name):
            with native.using(way):
                encoder = LaneEncoder(64)
                encoder.put_block(start, count, lanes)
                encoder.put(start[0, :50], count[0, :50])
                streams.append(encoder.finish())
        assert streams[0] == streams[1]
        decoder = LaneDecoder(streams[0], 64)
        steps = [
            (start[s, at : at + lanes], count[s, at : at + lanes]) for s in range(40) for at in range(0, 70, lanes)
        ]
        for begin, size in [*steps, (start[0, :50], count[0, :50])]:
            place = decoder.peek(len(begin))
            assert ((place >= begin) & (place < begin + size)).all()
            decoder.take(begin, size)
        decoder.finish()

    @every_set
    def test_nothing(self, name: str) -> None:
        with native.using(name):
            assert LaneEncoder(3).finish() == np.full(3, 1 << 31, "<u8").tobytes()
