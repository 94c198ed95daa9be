"""The mixing model of items: round trips, twins, guides, frozen states, damage."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing import items
from codec.entropy.mixing.items import Belief, ItemModel
from codec.entropy.mixing.trees import forest, splits
from codec.errors import StreamError

SETS = (None, *native.instruction_sets())
LINES = 8  # few, so that hashes collide


class Tilted:
    """A guide whose belief depends on what it was told."""

    def __init__(self, sizes: list[int], states: int = 5) -> None:
        self._sizes, self._states = sizes, states

    def begin(self, first: int, n: int) -> None:
        self._sum, self._which = np.zeros(n, np.int64), ((first + np.arange(n)) % 2).astype(np.int32)

    def belief(self, t: int) -> Belief:
        share = np.ones((len(self._sum), self._states), np.int64)
        share[np.arange(len(self._sum)), self._sum % self._states] = 1 << 20
        tables = []
        for k in range(2):
            draw = np.random.default_rng(2 * t + k).integers(1, 200, (self._sizes[t] + 1, self._states))
            draw[0] = 0
            tables.append(np.cumsum(draw, 0).astype(np.float32))
        return Belief(share.astype(np.float64), tables, self._which)

    def tell(self, t: int, symbols: np.ndarray) -> None:
        self._sum += symbols * (t + 1)


def drawn(shape: tuple[int, ...], sizes: list[int], n: int, seed: int = 0) -> np.ndarray:
    """Smooth items."""
    draw = np.random.default_rng(seed)
    walk = np.cumsum(draw.normal(0, 0.1, (n, len(sizes))), 1) + draw.random((n, 1))
    return (walk.clip(0, 0.999) * np.array(sizes)).astype(np.int32)


CASES = [((4, 5), [20] * 20), ((2, 3, 3), [256] * 18), ((5,), [2, 1, 40, 4097, 3]), ((1, 1), [300])]


def model_of(shape: tuple[int, ...], sizes: list[int], guided: bool, n: int = 6) -> ItemModel:
    model = ItemModel.new(shape, sizes, LINES)
    model.learn(drawn(shape, sizes, n, 1), Tilted(sizes) if guided else None)
    return model


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(("shape", "sizes"), CASES)
def test_every_instruction_set_and_the_twin_agree(shape: tuple[int, ...], sizes: list[int], guided: bool) -> None:
    x, results = drawn(shape, sizes, 5), []
    for name in SETS:
        with native.using(name):
            model = model_of(shape, sizes, guided)
            guide = Tilted(sizes) if guided else None
            stream, each = model.encode(x, guide), model.encode_each(x, guide)
            assert np.array_equal(model.decode(stream, len(x), guide), x)
            assert np.array_equal(model.decode_each(each, guide), x)
            learned = model.mixer
            tables = (learned.lines, learned.weights, learned.ages, learned.finals, learned.refined)
            results.append((stream, each, [hashlib.sha256(t.tobytes()).hexdigest() for t in tables]))
    assert all(result == results[0] for result in results)


def test_streams_are_those_of_this_version() -> None:
    """A change of contexts, trees or arithmetic by one unit changes them, and old files could not be read."""
    made = []
    for shape, sizes, guided in ((*CASES[0], True), (*CASES[1], False), (*CASES[2], True)):
        model = model_of(shape, sizes, guided, 4)
        x, guide = drawn(shape, sizes, 3), Tilted(sizes) if guided else None
        whole = model.encode(x, guide) + b"".join(model.encode_each(x, guide))
        made.append(hashlib.sha256(whole + model.mixer.lines.tobytes()).hexdigest()[:16])
    assert made == GOLDEN


GOLDEN = ["fb332ccc5e130ba3", "33e4eb7f662e20d4", "2e4b9f3b2b67d5ac"]


def test_a_state_comes_back_from_its_arrays() -> None:
    shape, sizes = CASES[0]
    model, x = model_of(shape, sizes, False, 40), drawn(shape, sizes, 20)
    again = ItemModel.from_state(model.to_state())
    assert again.encode(x) == ItemModel.from_state(again.to_state()).encode(x)
    assert model.price(x) - 8 < again.price(x) < ItemModel.new(shape, sizes, LINES).price(x)
    assert np.array_equal(again.decode(again.encode(x), len(x)), x)


@pytest.mark.parametrize("name", ["mixing.shape", "mixing.splits", "mixing.counts", "mixing.learned"])
def test_a_damaged_state_is_an_error(name: str) -> None:
    shape, sizes = CASES[0]
    state = model_of(shape, sizes, False).to_state()
    wrong = state[name].astype(np.float64)
    for broken in (state[name][:-1], state[name][:0], -1 - state[name].astype(np.int64), wrong):
        with pytest.raises(ValueError, match="damaged"):
            ItemModel.from_state({**state, name: broken})
    with pytest.raises(ValueError, match="lacks"):
        ItemModel.from_state({k: v for k, v in state.items() if k != name})


def test_items_that_are_coded_alone_come_in_any_order() -> None:
    shape, sizes = CASES[0]
    model, x = model_of(shape, sizes, False, 20), drawn(shape, sizes, 9)
    streams = model.encode_each(x)
    assert np.array_equal(model.decode_each(streams[::-1]), x[::-1])
    assert np.array_equal(model.decode_each(streams[4:5]), x[4:5])
    before = model.mixer.lines.copy()
    assert model.encode_each(x[2:3]) == streams[2:3] and np.array_equal(model.mixer.lines, before)


@pytest.mark.parametrize("guided", [False, True])
def test_many_items_are_two_streams_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch, guided: bool) -> None:
    class Twice(Tilted):
        def fork(self) -> Twice:
            return Twice(self._sizes)

    monkeypatch.setattr(items, "SPLIT", 10)
    monkeypatch.setattr(items, "BLOCK", 8)
    shape, sizes = (2, 2), [5] * 4
    model, x = model_of(shape, sizes, guided, 12), drawn(shape, sizes, 21)
    streams = set()
    for threads in (1, 2):
        monkeypatch.setattr(native, "threads", lambda n=threads: n)
        for guide in (Tilted(sizes), Twice(sizes)) if guided else (None,):
            streams.add(model.encode(x, guide))
            assert np.array_equal(model.decode(next(iter(streams)), len(x), guide), x)
    data = streams.pop()
    assert not streams
    for broken in (data[:5], b"\xff" * 8 + data[8:], data + b"\1" * 9):
        with pytest.raises(StreamError):
            model.decode(broken, len(x), Tilted(sizes) if guided else None)


@pytest.mark.parametrize("engine", [*native.instruction_sets()[-1:], None])
def test_damage_is_an_error_or_other_items(engine: str | None) -> None:
    shape, sizes = CASES[2]
    draw = np.random.default_rng(5)
    with native.using(engine):
        model, x = model_of(shape, sizes, False), drawn(shape, sizes, 8)
        data = model.encode(x)
        for _ in range(12):
            broken = bytearray(data[: int(draw.integers(0, len(data) + 1))])
            for _ in range(int(draw.integers(0, 3))):
                if broken:
                    broken[int(draw.integers(0, len(broken)))] ^= int(draw.integers(1, 256))
            try:
                other = model.decode(bytes(broken), len(x))
            except StreamError:
                continue
            assert other.shape == x.shape and (other >= 0).all() and (other < np.array(sizes)).all()


def test_wrong_calls_are_refused() -> None:
    model = ItemModel.new((2, 2), [4] * 4, LINES)
    for shape, sizes in (((2, 2), [4] * 3), ((0,), []), ((2,), [1, 5000]), ((1, 1, 1, 1), [2])):
        with pytest.raises(ValueError, match="symbols|item"):
            ItemModel.new(shape, sizes)
    for wrong in (np.zeros((2, 3), np.int32), np.full((1, 4), 4, np.int32), np.full((1, 4), -1, np.int32)):
        with pytest.raises(ValueError, match="item"):
            model.encode(wrong)


def test_trees_end_in_every_symbol_and_frequent_ones_come_first() -> None:
    draw = np.random.default_rng(0)
    for size in (1, 2, 3, 17, 257, 4097):
        counts = (draw.pareto(0.3, size) * 10).clip(0, 1 << 20).astype(np.int64)
        trees = forest([size], [0], [splits(counts)], [counts])
        depths = []
        for symbol in range(size):
            node, depth = int(trees.roots[0]), 0
            while node >= 0:
                node, depth = int((trees.above if symbol >= trees.middle[node] else trees.below)[node]), depth + 1
            assert -1 - node == symbol and depth <= 32
            depths.append(depth)
        if size > 16:
            entropy = counts[counts > 0] / counts.sum()
            assert (counts * np.array(depths)).sum() / counts.sum() < -(entropy * np.log2(entropy)).sum() + 2.5
    for wrong in ([], [3, 1], [0, 1], [1, 1], [1, 2, 2]):
        with pytest.raises(ValueError, match="no tree"):
            forest([3], [0], [wrong], [np.ones(3, np.int64)])
