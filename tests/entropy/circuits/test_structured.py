"""The general scheme: any vtree, the right order, and how many units it evaluates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from codec.entropy.circuits.model import HiddenTree
from codec.entropy.circuits.structured import Inner, Leaf, StructuredCircuit
from codec.entropy.circuits.trees import VariableTree
from codec.errors import StreamError, UsageError


def distribution(rng: np.random.Generator, *shape: int) -> np.ndarray:
    weights = rng.gamma(0.4, size=shape) + 1e-4
    return weights / weights.sum(-1, keepdims=True)


def circuit(n_vars: int, units: int = 3, symbols: int = 4, balanced: bool = True, seed: int = 0) -> StructuredCircuit:
    """Random parameters; every product of a left and a right unit where there are few."""
    rng = np.random.default_rng(seed)
    nodes: list[Leaf | Inner] = []

    def build(variables: list[int], n_units: int) -> int:
        if len(variables) == 1:
            nodes.append(Leaf(variables[0], distribution(rng, n_units, symbols)))
            return len(nodes) - 1
        cut = len(variables) // 2 if balanced else 1
        left, right = build(variables[:cut], units), build(variables[cut:], units)
        pairs = np.array(list(itertools.product(range(units), repeat=2)))
        nodes.append(Inner(left, right, pairs, distribution(rng, n_units, len(pairs))))
        return len(nodes) - 1

    build(rng.permutation(n_vars).tolist(), 1)
    return StructuredCircuit(nodes)


def data(n: int, n_vars: int, symbols: int = 4) -> np.ndarray:
    return np.random.default_rng(n).integers(0, symbols, (n, n_vars))


def test_sums_to_one() -> None:
    x = np.array(list(itertools.product(range(4), repeat=5)))
    assert np.exp(circuit(5).log_likelihood(x)).sum() == pytest.approx(1)


def test_same_as_the_hidden_tree() -> None:
    model = HiddenTree(
        VariableTree(np.array([2, 0, -1, 0, 2, 4, 4])), [3, 2, 4, 3, 2, 2, 5], 3, seed=1, dtype=torch.float64
    )
    x = np.random.default_rng(0).integers(0, [3, 2, 4, 3, 2, 2, 5], (50, 7))
    structured = StructuredCircuit.from_tree(model)
    np.testing.assert_allclose(structured.log_likelihood(x), model.log_likelihood(x), rtol=1e-9)
    np.testing.assert_array_equal(structured.decode(structured.encode(x), 50), x)
    single = HiddenTree(VariableTree(np.array([-1])), [3], 2, dtype=torch.float64)
    np.testing.assert_allclose(
        StructuredCircuit.from_tree(single).log_likelihood(x[:, :1]), single.log_likelihood(x[:, :1]), rtol=1e-9
    )


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_round_trip(balanced: bool, n: int) -> None:
    c, x = circuit(23, balanced=balanced), data(n, 23)
    np.testing.assert_array_equal(c.decode(c.encode(x), n), x)


def test_rate_is_the_likelihood() -> None:
    c = circuit(40, seed=2)
    x = data(300, 40)
    ideal = -c.log_likelihood(x).sum() / np.log(2)
    assert 8 * len(c.encode(x, lanes=1)) == pytest.approx(ideal + 48, rel=2e-3, abs=40)


def test_larger_scope_first() -> None:
    """In an unbalanced tree of single variables, the deepest comes first."""
    c = circuit(9, balanced=False)
    assert [len(path) for path in c.paths] == [1, *[2] * 8]
    assert sorted(c.order) == list(range(9))


class TestWork:
    """Units evaluated for the values of p(x_1), p(x_1, x_2), ...: all variables settled, one item."""

    @staticmethod
    def evaluated(c: StructuredCircuit) -> int:
        c.evaluated = 0
        values: dict[int, np.ndarray] = {}
        for path in c.paths:
            c._settle(path, values, np.zeros(1, int))
        return c.evaluated

    @pytest.mark.parametrize("n_vars", [16, 64, 256, 1024])
    def test_logarithmic_where_balanced(self, n_vars: int) -> None:
        """Against D passes: at most log2 D + 1 visits to each variable's path, while a pass takes 2 D - 1 nodes."""
        c = circuit(n_vars, units=2)
        evaluated = self.evaluated(c)
        assert evaluated <= (math.log2(n_vars) + 1) * n_vars * 2
        assert evaluated <= (math.log2(n_vars) + 1) * c.n_units  # O(log D |p|)
        assert c.naive / evaluated > n_vars / math.log2(n_vars)

    def test_growth(self) -> None:
        """From 64 to 1024 variables: naive work grows 256-fold, ours as D log D."""
        small, large = circuit(64, units=2), circuit(1024, units=2)
        growth = self.evaluated(large) / self.evaluated(small)
        assert growth < 16 * 10 / 6 * 1.1
        assert large.naive / small.naive > 200

    def test_every_unit_at_least_once(self) -> None:
        for balanced in (True, False):
            c = circuit(30, balanced=balanced)
            touched = {node for path in c.paths for node in path}
            assert touched == set(range(len(c.nodes)))

    def test_passes(self) -> None:
        """An encoder climbs each path twice (bounds, and the value), a decoder log2 C times more."""
        c, x = circuit(64, symbols=16), data(1, 64, 16)
        base = self.evaluated(c)
        c.evaluated = 0
        encoded = c.encode(x)
        assert c.evaluated == 2 * base
        c.evaluated = 0
        c.decode(encoded, 1)
        assert c.evaluated == (2 + 4) * base


@pytest.mark.parametrize("n", [0, 5, 50])
def test_damage(n: int) -> None:
    c, x = circuit(23), data(20, 23)
    good = c.encode(x)
    for cut in range(0, len(good), 2):
        with pytest.raises(StreamError):
            c.decode(good[:cut], 20)
    with pytest.raises(StreamError):
        c.decode(good, n)
    with pytest.raises(UsageError):
        c.encode(x + 1)


def test_not_a_vtree() -> None:
    leaf, pairs, weights = Leaf(0, np.ones((1, 1))), np.zeros((1, 2), int), np.ones((1, 1))
    wrong = [
        [],
        [leaf, leaf, Inner(0, 1, pairs, weights)],  # a variable twice
        [leaf, Leaf(1, np.ones((1, 1)))],  # two roots
        [leaf, Inner(0, 0, pairs, weights)],
        [leaf, Leaf(1, np.ones((1, 1))), Inner(0, 1, pairs + 1, weights)],
        [leaf, Leaf(1, np.ones((1, 1))), Inner(0, 1, pairs, weights * 0.5)],
    ]
    for nodes in wrong:
        with pytest.raises(ValueError, match=r"tree|child|product|distribution"):
            StructuredCircuit(nodes)
