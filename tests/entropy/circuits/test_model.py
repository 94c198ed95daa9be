"""Hidden Chow-Liu trees against brute force: every sum over all assignments of small trees is taken literally."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from spflow.meta.data.scope import Scope
from spflow.modules.leaves.categorical import Categorical
from spflow.modules.products.product import Product
from spflow.modules.sums.sum import Sum

from codec.entropy.circuits import fit as circuit_fit
from codec.entropy.circuits import model as circuits
from codec.entropy.circuits import trees
from codec.entropy.circuits.model import MISSING, HiddenTree
from codec.entropy.circuits.trees import VariableTree

PARENTS = (3, 0, 0, -1, 3, 4, 4, 5)  # the root isn't the first; depths 0 to 3; leaves at several depths
SIZES = (2, 3, 2, 2, 3, 2, 1, 3)
ALL = np.array(list(itertools.product(*map(range, SIZES))))


def small(states: int = 3, leaves: circuits.LeafKind = "categorical", seed: int = 0) -> HiddenTree:
    """Far from uniform, so that mistakes show."""
    model = HiddenTree(VariableTree(np.array(PARENTS)), SIZES, states, leaves, seed, torch.float64)
    rng = np.random.default_rng(seed)

    def rows(tensor: torch.Tensor) -> torch.Tensor:
        actual = torch.from_numpy(rng.gamma(0.5, size=tuple(tensor.shape)) + 1e-3)
        return actual / actual.sum(-1, keepdim=True)

    theta = model._normalised(torch.from_numpy(rng.gamma(0.5, size=tuple(model.theta.shape)) + 1e-3))
    model.set_parameters(theta, rows(model.weights), rows(model.root))
    return model


def enumerated(model: HiddenTree, x: np.ndarray) -> float:
    """p(x) as the sum over all states of all latents, written down from the definition of the model."""
    tree, total = model.tree, 0.0
    inner = [v for v in tree.order.tolist() if tree.inner[v]]
    weights = {v: model.weights[i] for i, v in enumerate(inner[1:])}
    for states in itertools.product(range(model.states), repeat=len(inner)):
        z = dict(zip(inner, states, strict=True))
        p = float(model.root[z[tree.root]])
        for v in inner[1:]:
            p *= float(weights[v][z[int(tree.parents[v])], z[v]])
        for v in range(len(tree)):
            owner = v if tree.inner[v] else int(tree.parents[v])
            p *= float(model.variable_theta(v)[x[v], z[owner]])
        total += p
    return total


def as_spflow(model: HiddenTree) -> Any:
    """The same circuit out of SPFlow's modules, whose arithmetic isn't ours."""
    tree = model.tree
    inner = [v for v in tree.order.tolist() if tree.inner[v]]
    weights = {v: model.weights[i].T[None, :, :, None] for i, v in enumerate(inner[1:])}

    def leaf(v: int) -> Any:
        probs = model.variable_theta(v).T[None, :, None, :]
        return Categorical(Scope([v]), out_channels=model.states, probs=probs)

    def unit(v: int) -> Any:
        below = [Sum(unit(c), weights=weights[c]) if tree.inner[c] else leaf(c) for c in tree.children[v]]
        return Product([leaf(v), *below])

    return Sum(unit(tree.root), weights=model.root[None, :, None, None])


class TestTree:
    def test_positions_go_down_by_level(self) -> None:
        tree = VariableTree(np.array(PARENTS))
        assert tree.root == 3
        assert tree.order.tolist() == [3, 0, 4, 5, 1, 2, 6, 7]
        assert tree.levels == ((0, 1, 1), (1, 3, 3), (3, 4, 7), (7, 7, 8))
        assert tree.order[tree.parent_position[tree.position[7]]] == 5
        assert tree.inner.tolist() == [True, False, False, True, True, True, False, False]

    @pytest.mark.parametrize("parents", [(), (0,), (-1, -1), (1, 0), (-1, 2, 1), (-1, 3), (-2, -1)])
    def test_what_isnt_a_tree(self, parents: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="tree|parent"):
            VariableTree(np.array(parents, dtype=np.int64))

    def test_one_variable_has_a_latent(self) -> None:
        model = HiddenTree(VariableTree(np.array([-1])), [4], 3, dtype=torch.float64)
        assert float(model.log_likelihood(np.arange(4)[:, None]).exp().sum()) == pytest.approx(1)

    def test_mutual_information(self) -> None:
        """Against the definition; the diagonal aside."""
        x = np.random.default_rng(0).integers(0, 3, (4000, 5))
        x[:, 1] = (x[:, 0] + (np.random.default_rng(1).random(4000) < 0.1)) % 3
        actual = trees.mutual_information(x, 3)
        joint = np.histogram2d(x[:, 0], x[:, 1], 3)[0] / 4000
        ratio = np.where(joint > 0, joint / np.outer(joint.sum(1), joint.sum(0)), 1)
        expected = (joint * np.log(ratio)).sum()
        assert actual[0, 1] == pytest.approx(expected, abs=1e-3)
        assert actual[1, 0] == pytest.approx(actual[0, 1], abs=1e-5)
        assert actual[2, 3] < 0.01

    def test_many_variables_go_through_blocks(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.integers(0, 16, (300, 150))
        x[:, 149] = x[:, 0]
        actual = trees.mutual_information(x, 16)
        assert actual[0].argmax() == 149
        assert actual[149].argmax() == 0

    def test_chow_liu_finds_a_chain(self) -> None:
        """Noisy copies along a chain of shuffled variables, some values missing: the tree is the chain."""
        rng = np.random.default_rng(0)
        chain = rng.permutation(9)
        x = np.zeros((4000, 9), dtype=np.int64)
        x[:, chain[0]] = rng.integers(0, 4, 4000)
        for before, after in itertools.pairwise(chain):
            x[:, after] = np.where(rng.random(4000) < 0.3, rng.integers(0, 4, 4000), x[:, before])
        x[rng.random(x.shape) < 0.05] = MISSING
        tree = trees.chow_liu(x, [4] * 9)
        edges = {frozenset((v, p)) for v, p in enumerate(tree.parents.tolist()) if p >= 0}
        assert edges == {frozenset(pair) for pair in itertools.pairwise(chain.tolist())}
        assert tree.root == chain[4]  # the centre
        assert tree.depth.max() == 4

    def test_coarse_levels(self) -> None:
        x = np.array([[0, 5], [99, 5], [MISSING, 7], [50, 0]])
        assert trees.coarse_levels(x, [100, 9], 4).tolist() == [[0, 2], [3, 2], [-1, 3], [2, 0]]
        assert trees.coarse_levels(x, [100, 9], 4, ordinal=False)[:, 1].tolist() == [0, 0, 2, 1]


class TestQueries:
    def test_likelihood_is_the_sum_over_all_latents(self) -> None:
        model = small()
        for x in ALL[[0, 17, 101, -1]]:
            assert float(model.log_likelihood(x[None])) == pytest.approx(np.log(enumerated(model, x)), abs=1e-12)

    @pytest.mark.parametrize("missing", [(), (1, 4), (0, 3)])
    def test_likelihood_is_spflows(self, missing: tuple[int, ...]) -> None:
        model, x = small(), ALL.copy()
        x[:, missing] = MISSING
        rows = torch.from_numpy(x).double()
        rows[rows == MISSING] = torch.nan
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # of SPFlow's parameters
        try:
            theirs = as_spflow(model).log_likelihood(rows).flatten().detach()
        finally:
            torch.set_default_dtype(before)
        assert torch.allclose(model.log_likelihood(x), theirs, rtol=0, atol=1e-12)

    def test_sums_to_one(self) -> None:
        assert float(small().log_likelihood(ALL).exp().sum()) == pytest.approx(1, abs=1e-12)

    @pytest.mark.parametrize("missing", [(0,), (3,), (4, 5), (0, 1, 2, 3, 4, 5, 6, 7), (1, 7)])
    def test_marginals(self, missing: tuple[int, ...]) -> None:
        model = small()
        p = model.log_likelihood(ALL).exp().numpy()
        x = ALL[200].copy()
        rest = [v for v in range(len(SIZES)) if v not in missing]
        expected = p[(ALL[:, rest] == x[rest]).all(1)].sum()
        x[list(missing)] = MISSING
        assert float(model.log_likelihood(x[None]).exp()) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("v", range(len(SIZES)))
    def test_conditionals(self, v: int) -> None:
        model = small(seed=v)
        p = model.log_likelihood(ALL).exp().numpy()
        x = ALL[77].copy()
        x[(v + 2) % 8] = MISSING
        seen = [u for u in range(8) if u != v and x[u] != MISSING]
        match = (ALL[:, seen] == x[seen]).all(1)
        expected = np.bincount(ALL[match, v], p[match], SIZES[v]) / p[match].sum()
        (actual,) = model.conditionals(x[None], [v])
        np.testing.assert_allclose(actual[0], expected, atol=1e-12)

    def test_chain_rule(self) -> None:
        """Log-conditionals of the variables, one after the other, add up to the log-likelihood."""
        model, x = small(), ALL[[5, 123]]
        total = np.zeros(2)
        known = np.full_like(x, MISSING)
        for v in np.random.default_rng(0).permutation(len(SIZES)).tolist():
            (actual,) = model.conditionals(known, [v])
            total += np.log(actual[[0, 1], x[:, v]].numpy())
            known[:, v] = x[:, v]
        np.testing.assert_allclose(total, model.log_likelihood(x), atol=1e-12)

    def test_any_batch_size(self) -> None:
        model = small()
        torch.testing.assert_close(model.log_likelihood(ALL, batch=7), model.log_likelihood(ALL, batch=1000))
        assert model.log_likelihood(ALL[:0]).shape == (0,)

    def test_nothing_underflows(self) -> None:
        """A star of 400 variables and a chain of 400, float32, very unlikely data."""
        for parents in (np.r_[-1, np.zeros(399)], np.arange(-1, 399)):
            model = HiddenTree(VariableTree(parents.astype(np.int64)), [50] * 400, 4)
            x = np.random.default_rng(0).integers(0, 50, (3, 400))
            actual = model.log_likelihood(x)
            assert torch.isfinite(actual).all()
            assert float(actual.mean()) == pytest.approx(-400 * np.log(50), rel=0.05)
            assert torch.isfinite(model.counts(x).theta).all()

    @pytest.mark.parametrize("x", [np.zeros((2, 7)), np.zeros(8), np.full((1, 8), 1), np.full((1, 8), -2)])
    def test_wrong_data(self, x: np.ndarray) -> None:
        with pytest.raises(ValueError, match="shape|alphabet"):
            small().log_likelihood(x)


class TestSamples:
    def test_frequencies(self) -> None:
        model = small()
        p = model.log_likelihood(ALL).exp().numpy()
        x = model.sample(40000, seed=1)
        actual = np.bincount(np.ravel_multi_index(tuple(x.T), SIZES), minlength=len(ALL)) / 40000
        np.testing.assert_allclose(actual, p, atol=5 * np.sqrt(p.max() / 40000))
        for v in range(8):
            np.testing.assert_allclose(
                np.bincount(x[:, v], minlength=SIZES[v]) / 40000, np.bincount(ALL[:, v], p, SIZES[v]), atol=0.01
            )

    def test_given_values_are_kept_and_condition_the_rest(self) -> None:
        model = small(seed=3)
        given = np.full(8, MISSING)
        given[[1, 5]] = 2, 1
        x = model.sample(20000, given, seed=2)
        assert (x[:, 1] == 2).all()
        assert (x[:, 5] == 1).all()
        for v in (0, 3, 4, 7):
            (expected,) = model.conditionals(given[None], [v])
            np.testing.assert_allclose(np.bincount(x[:, v], minlength=SIZES[v]) / 20000, expected[0], atol=0.02)


class TestEM:
    def test_every_step_raises_the_likelihood(self) -> None:
        data = small(seed=5).sample(600, seed=0)
        model = HiddenTree(VariableTree(np.array(PARENTS)), SIZES, 3, seed=1, dtype=torch.float64)
        seen = []
        for _ in range(15):
            counts = model.counts(data)
            seen.append(counts.log_likelihood)
            model.update(counts, pseudocount=0.0)
        assert (np.diff(seen) > -1e-9).all()
        assert seen[-1] > seen[0] + 30

    def test_missing_values(self) -> None:
        """EM stays monotone, and finds about the parameters' likelihood, with a third of the values missing."""
        truth = small(states=2, seed=6)
        data = truth.sample(4000, seed=0)
        held_out = truth.sample(1000, seed=1)
        data[np.random.default_rng(0).random(data.shape) < 0.33] = MISSING
        model = HiddenTree(VariableTree(np.array(PARENTS)), SIZES, 2, seed=1, dtype=torch.float64)
        seen = []
        for _ in range(40):
            counts = model.counts(data)
            seen.append(counts.log_likelihood)
            model.update(counts, pseudocount=0.0)
        assert (np.diff(seen) > -1e-9).all()
        best = float(truth.log_likelihood(held_out).mean())
        assert float(model.log_likelihood(held_out).mean()) > best - 0.05

    def test_counts_are_posterior_expectations(self) -> None:
        """Against enumeration: the expected count of (x_v, state) is the posterior of the latent."""
        model, x = small(states=2), ALL[[31]]
        counts = model.counts(x)
        tree = model.tree
        inner = [v for v in tree.order.tolist() if tree.inner[v]]
        expected = np.zeros((len(SIZES), 2))
        for states in itertools.product(range(2), repeat=len(inner)):
            z = dict(zip(inner, states, strict=True))
            p = float(model.root[z[tree.root]])
            for i, v in enumerate(inner[1:]):
                p *= float(model.weights[i][z[int(tree.parents[v])], z[v]])
            owners = [v if tree.inner[v] else int(tree.parents[v]) for v in range(len(tree))]
            for v, owner in enumerate(owners):
                p *= float(model.variable_theta(v)[x[0, v], z[owner]])
            for v, owner in enumerate(owners):
                expected[v, z[owner]] += p
        expected /= expected.sum(1, keepdims=True)
        for v in range(len(SIZES)):
            row = int(model.starts[tree.position[v]]) + int(x[0, v])
            np.testing.assert_allclose(counts.theta[row], expected[v], atol=1e-12)
        assert float(counts.weights.sum()) == pytest.approx(len(inner) - 1)

    def test_parameters_stay_distributions(self) -> None:
        model = HiddenTree(VariableTree(np.array(PARENTS)), SIZES, 4, seed=1)
        data = small().sample(100)
        for step in (1.0, 0.3):
            model.update(model.counts(data), step=step, pseudocount=0.5)
        torch.testing.assert_close(model._normalised(model.theta), model.theta)
        torch.testing.assert_close(model.weights.sum(2), torch.ones(model.weights.shape[:2]))
        assert float(model.root.sum()) == pytest.approx(1, abs=1e-6)

    def test_counts_of_batches_add_up(self) -> None:
        model, data = small(), small().sample(50)
        whole, parts = model.counts(data), model.counts(data[:20])
        parts += model.counts(data[20:])
        torch.testing.assert_close(parts.theta, whole.theta)
        torch.testing.assert_close(parts.weights, whole.weights)
        assert parts.log_likelihood == pytest.approx(whole.log_likelihood)
        assert parts.n == 50

    def test_arrays_and_back(self) -> None:
        model = small()
        again = HiddenTree.from_arrays(model.to_arrays())
        torch.testing.assert_close(again.log_likelihood(ALL), model.log_likelihood(ALL))


class TestLogisticLeaves:
    def test_table_sums_to_one(self) -> None:
        mean, log_scale = torch.tensor([-3.0, 4.2, 300.0]), torch.tensor([0.0, 2.0, -1.0])
        table = circuits.logistic_table(mean, log_scale, 10)
        torch.testing.assert_close(table.sum(0), torch.ones(3))
        assert float(table[0, 0]) > 0.95
        assert float(table[-1, 2]) == pytest.approx(1)

    def test_fit_finds_the_parameters(self) -> None:
        table = circuits.logistic_table(torch.tensor([40.0, 3.0]).double(), torch.tensor([1.5, 0.3]).double(), 64)
        actual = circuits.fit_logistic(table[None] * 1000, steps=60)[0]
        lost = (table * (table.clamp_min(1e-30) / actual).log()).sum(0)
        assert (lost < 2e-3).all()

    def test_em_raises_the_likelihood(self) -> None:
        rng = np.random.default_rng(0)
        base = rng.integers(0, 3, 500) * 20 + 8
        x = np.clip(np.round(base[:, None] + rng.logistic(0, 2, (500, 4))), 0, 63).astype(np.int64)
        model = HiddenTree(VariableTree(np.array([-1, 0, 0, 1])), [64] * 4, 4, "logistic", dtype=torch.float64)
        seen = []
        for _ in range(20):
            counts = model.counts(x)
            seen.append(counts.log_likelihood / counts.n)
            model.update(counts, pseudocount=0.0)
        assert seen[-1] > seen[2] + 0.5  # the first table isn't of logistic distributions
        assert min(np.diff(seen[2:])) > -1e-3


class TestFit:
    """`circuit_fit`: where it starts, and that it gets near the truth."""

    def test_warm_start_is_ahead(self) -> None:
        """Of random parameters after two passes of EM; and it is a distribution with no zeros."""
        data = small(states=3, seed=5).sample(1500, seed=0)
        config = circuit_fit.FitConfig(states=3, ordinal=False)
        warm = circuit_fit.start(data, SIZES, config)
        cold = HiddenTree(warm.tree, SIZES, 3, seed=1)
        for _ in range(2):
            cold.update(cold.counts(data))
        assert float(warm.log_likelihood(data).mean()) > float(cold.log_likelihood(data).mean())
        torch.testing.assert_close(warm._normalised(warm.theta), warm.theta)
        torch.testing.assert_close(warm.weights.sum(2), torch.ones(warm.weights.shape[:2]))
        assert float(warm.theta.min()) > 0

    @pytest.mark.parametrize("ordinal", [True, False])
    def test_gets_near_the_truth(self, ordinal: bool) -> None:
        truth = small(states=2, seed=6)
        data, held_out = truth.sample(4000, seed=0), truth.sample(1000, seed=1)
        data[np.random.default_rng(0).random(data.shape) < 0.05] = MISSING
        config = circuit_fit.FitConfig(states=4, epochs=10, full=5, batch=200, ordinal=ordinal)
        model = circuit_fit.fit(data, SIZES, config)
        best = float(truth.log_likelihood(held_out).mean())
        assert best - 0.06 < float(model.log_likelihood(held_out).mean()) < best + 0.02

    def test_the_prior_is_of_the_whole_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At any batch size, an epoch's pseudocounts add up to the one that was asked for."""
        data = small(states=2, seed=6).sample(300, seed=0)
        for batch in (50, 100, 300):
            config = circuit_fit.FitConfig(states=2, epochs=1, full=1, batch=batch, pseudocount=0.7)
            model = circuit_fit.start(data, SIZES, config)
            seen: list[float] = []
            monkeypatch.setattr(model, "update", lambda counts, step, prior, seen=seen: seen.append(prior))
            circuit_fit.run_epoch(model, data, config, 0)
            assert sum(seen) == pytest.approx(0.7)
            circuit_fit.run_epoch(model, data, config, 1)
            assert seen[-1] == 0.7

    def test_the_same_twice(self) -> None:
        data = small(states=2, seed=6).sample(300, seed=0)
        config = circuit_fit.FitConfig(states=2, epochs=2, full=1, batch=50)
        a, b = (circuit_fit.fit(data, SIZES, config) for _ in range(2))
        assert torch.equal(a.theta, b.theta)
