"""Beliefs in any order: they multiply to the circuit's likelihood, and the kernel leaves the same as its twin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from codec import native
from codec.entropy.circuits.coding import TOTAL, FrozenCircuit
from codec.entropy.circuits.order import CircuitGuide, bytes_of_block
from codec.entropy.circuits.trees import VariableTree

SIZES = (40, 3, 300, 1, 33, 7, 2, 64, 5, 40, 3, 32)
PARENTS = (2, 0, -1, 0, 2, 4, 4, 4, 7, 7, 2, 9)
CHAIN = tuple(range(-1, 11))
STAR = (-1, *[0] * 11)
SETS = [None, *native.instruction_sets()]


def circuit(states: int, parents: Sequence[int] = PARENTS, seed: int = 0) -> FrozenCircuit:
    """A circuit of random codes, some nearly certain and others as rare as can be."""
    draw = np.random.default_rng(seed)
    tree = VariableTree(np.array(parents))
    inner = int(tree.inner.sum()) - 1

    def codes(*shape: int) -> np.ndarray:
        some = draw.integers(0, 1 << 16, shape)
        kind = draw.random((*shape[:-1], 1))
        return np.where(kind < 0.2, some % 3, np.where(kind < 0.6, some % (1 << 12), some)).astype(np.uint16)

    sizes = np.array(SIZES)
    return FrozenCircuit(tree, sizes, codes(sum(SIZES), states), codes(inner, states, states), codes(1, states)[0])


def drawn(n: int, seed: int = 0) -> np.ndarray:
    """Symbols (n, D), of which half are the first of their alphabets."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, SIZES, (n, len(SIZES)))
    return np.where(draw.random(x.shape) < 0.5, 0, x).astype(np.int32)


def length_of(model: FrozenCircuit, x: np.ndarray) -> np.ndarray:
    """The code lengths in bits, from the definition, in float64."""
    messages: dict[int, np.ndarray] = {}
    for v in model.tree.order[::-1].tolist():
        message = np.diff(model.leaves[v].astype(np.float64), axis=0)[x[:, v]] / TOTAL
        for child in model.tree.children[v]:
            message = message * messages[child]
        messages[v] = message @ model.matrices[v].T / TOTAL if v in model.matrices else message
    return -np.log2(messages[model.tree.root] @ model.prior / TOTAL)


def walked(
    circuits: Sequence[FrozenCircuit], x: np.ndarray, order: np.ndarray, component: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The beliefs of all steps, (D, N, length), and the bits of each item, from blocks of 7 items."""
    guide = CircuitGuide(circuits, component, order)
    parts, bits = [], np.zeros(len(x))
    for first in range(0, len(x), 7):
        block = x[first : first + 7]
        guide.begin(first, len(block))
        steps = []
        for t, v in enumerate(order.tolist()):
            belief = guide.belief(t)
            beliefs, tables, which = belief.beliefs, belief.tables, belief.which
            symbols = block[:, v]
            counts = np.stack([tables[w][s + 1] - tables[w][s] for w, s in zip(which, symbols, strict=True)])
            bits[first : first + 7] -= np.log2((beliefs * counts.astype(np.float64)).sum(1) / TOTAL / TOTAL)
            steps.append(beliefs.copy())
            guide.tell(t, symbols)
        parts.append(np.stack(steps))
    return np.concatenate(parts, axis=1), bits


class TestBeliefs:
    @pytest.mark.parametrize("parents", [PARENTS, CHAIN, STAR, (3, 3, 3, -1, 2, 2, 5, 5, 5, 8, 8, 8)])
    @pytest.mark.parametrize("states", [1, 7, 16])
    def test_multiply_to_the_likelihood_in_any_order(self, parents: Sequence[int], states: int) -> None:
        model, x = circuit(states, parents, seed=states), drawn(20)
        expected = length_of(model, x)
        draw = np.random.default_rng(5)
        for order in (np.arange(12), np.arange(12)[::-1], model.tree.order, draw.permutation(12)):
            beliefs, bits = walked([model], x, order)
            np.testing.assert_array_equal(beliefs.sum(-1), TOTAL)
            assert beliefs[..., :states].min() >= 1
            assert not beliefs[..., states:].any()
            # a belief is at least 2^-24: too much for a state that only the last of many symbols speaks for
            np.testing.assert_allclose(bits, expected, rtol=5e-3 if parents is STAR else 1e-4)

    def test_a_latent_with_many_children(self) -> None:
        """More factors than are multiplied without scaling, and more leaves."""
        n = 150
        parents = np.array([-1, *[0] * 50, *range(1, 51), *[1] * 49])
        tree = VariableTree(parents)
        draw = np.random.default_rng(0)
        inner = int(tree.inner.sum()) - 1
        shapes = ((2 * n, 5), (inner, 5, 5), (5,))
        codes = [draw.integers(20_000, 1 << 16, shape).astype(np.uint16) for shape in shapes]
        model = FrozenCircuit(tree, np.full(n, 2), *codes)
        x = draw.integers(0, 2, (6, n)).astype(np.int32)
        order = draw.permutation(n)
        results = []
        for name in SETS:
            with native.using(name):
                guide = CircuitGuide([model], None, order)
                guide.begin(0, 6)
                bits, kept = np.zeros(6), []
                for t, v in enumerate(order.tolist()):
                    belief = guide.belief(t)
                    beliefs, tables = belief.beliefs, belief.tables
                    counts = (tables[0][x[:, v] + 1] - tables[0][x[:, v]]).astype(np.float64)
                    bits -= np.log2((beliefs * counts).sum(1) / TOTAL / TOTAL)
                    kept.append(beliefs.copy())
                    guide.tell(t, x[:, v])
                np.testing.assert_allclose(bits, length_of(model, x), rtol=1e-4)
                results.append(np.stack(kept))
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])

    def test_an_order_has_each_variable_once(self) -> None:
        for wrong in ([0, 1, 2], [0] * 12, list(range(1, 13))):
            with pytest.raises(ValueError, match="order"):
                CircuitGuide([circuit(3)], None, np.array(wrong))

    def test_symbols_that_are_none(self) -> None:
        guide = CircuitGuide([circuit(3)], None, np.arange(12))
        guide.begin(0, 2)
        guide.belief(0)
        for wrong in ([0, 40], [-1, 0]):
            with pytest.raises(ValueError, match="alphabet"):
                guide.tell(0, np.array(wrong))

    def test_memory(self) -> None:
        """The memory that is foreseen suffices."""
        model = circuit(48)
        guide = CircuitGuide([model], None, np.arange(12))
        guide.begin(0, 9)
        walk = guide.walks[0]._walk
        if walk is not None:
            assert 0.5 < walk._messages.nbytes / bytes_of_block([model], 9) <= 1


@pytest.mark.skipif(len(SETS) == 1, reason="this install has no compiled module")
class TestKernel:
    @pytest.mark.parametrize("states", [1, 2, 8, 9, 16, 28, 31, 32, 48, 50, 64, 128, 256])
    def test_equals_its_twin(self, states: int) -> None:
        model, x = circuit(states, seed=states), drawn(19, states)
        order = np.random.default_rng(states).permutation(12)
        with native.using(None):
            expected = walked([model], x, order)[0]
        for name in SETS[1:]:
            with native.using(name):
                np.testing.assert_array_equal(walked([model], x, order)[0], expected)

    def test_mixtures(self) -> None:
        """Each item by its own circuit, also where their rows have different lengths."""
        circuits = [circuit(5, seed=1), circuit(33, CHAIN, seed=2), circuit(5, STAR, seed=3)]
        x, component = drawn(23), np.random.default_rng(0).integers(0, 3, 23)
        order = np.arange(12)
        with native.using(None):
            expected, bits = walked(circuits, x, order, component)
        for i, model in enumerate(circuits):
            np.testing.assert_allclose(bits[component == i], length_of(model, x[component == i]), rtol=5e-3)
        before = native.threads()
        try:
            for name in SETS[1:]:
                for threads in (1, 3):
                    native.set_threads(threads)
                    with native.using(name):
                        np.testing.assert_array_equal(walked(circuits, x, order, component)[0], expected)
        finally:
            native.set_threads(before)

    def test_wrong_calls(self) -> None:
        from codec.native.circuits_order import Program, Walk

        model = circuit(3)
        steps = [[(3, 0, 0, (0,))], [(0, 1, 2, ()), (3, 0, 0, (0, 1))]]
        prior, beliefs = model.prior, np.zeros((4, 8))
        rows = np.arange(4)
        program = Program(model.compiled_tour, steps, 2)  # pyright: ignore[reportArgumentType]
        for wrong in (
            [[(0, 2, 0, ())]],
            [[(0, 0, 12, ())]],
            [[(1, 0, 5, (0,))]],
            [[(1, 0, 0, ())]],
            [[(3, 0, 0, (2,))]],
        ):
            with pytest.raises(AssertionError):
                Program(model.compiled_tour, wrong, 2)  # pyright: ignore[reportArgumentType]
        for made in (
            lambda: Walk(program, prior[:2], rows, beliefs),
            lambda: Walk(program, prior, rows + 1, beliefs),
            lambda: Walk(program, prior, rows.astype(np.int32), beliefs),  # pyright: ignore[reportArgumentType]
            lambda: Walk(program, prior, rows, beliefs[:, :4]),
            lambda: Walk(program, prior, rows[:0], beliefs),
        ):
            with pytest.raises(AssertionError):
                made()
        walk = Walk(program, prior, rows, beliefs)
        symbols = np.zeros(4, np.int32)
        walk.step(0, symbols)
        for wrong in (symbols[:3], symbols + SIZES[2], symbols - 1, symbols.astype(np.int64)):
            with pytest.raises(AssertionError):
                walk.step(1, wrong)  # pyright: ignore[reportArgumentType]
        with pytest.raises(AssertionError):
            walk.step(2, symbols)
        walk.step(1, symbols + SIZES[2] - 1)
