"""Coding with frozen circuits: exact integers, the right probabilities, round trips, context, damage."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from codec.entropy.circuits import coding as circuit_coding
from codec.entropy.circuits.coding import (
    ABSENT,
    CodingContext,
    FrozenCircuit,
    LaneLayout,
    from_codes,
    to_codes,
    to_counts,
)
from codec.entropy.circuits.lanes import TOTAL
from codec.entropy.circuits.model import MISSING, HiddenTree
from codec.entropy.circuits.trees import VariableTree
from codec.errors import StreamError, UsageError, WeightsError

SIZES = (40, 3, 300, 1, 33, 7, 2, 64, 5, 40, 3, 32)
PARENTS = (2, 0, -1, 0, 2, 4, 4, 4, 7, 7, 2, 9)


def trained(states: int = 6, parents: Any = PARENTS, sizes: Any = SIZES, seed: int = 0) -> HiddenTree:
    """A model far from uniform."""
    model = HiddenTree(VariableTree(np.array(parents)), sizes, states, seed=seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)

    def peaked(tensor: torch.Tensor) -> torch.Tensor:
        return torch.exp(2.5 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))

    weights, root = peaked(model.weights), peaked(model.root)
    theta = model._normalised(peaked(model.theta))
    model.set_parameters(theta, weights / weights.sum(2, keepdim=True), root / root.sum())
    return model


def frozen(model: HiddenTree, bits: int = 16) -> FrozenCircuit:
    arrays = model.to_arrays()
    return FrozenCircuit.from_probabilities(
        model.tree, model.sizes, arrays["theta"], arrays["weights"], arrays["root"], bits
    )


def noise(n: int, sizes: Any = SIZES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, sizes, (n, len(sizes)))


class TestParameters:
    @pytest.mark.parametrize(("bits", "error"), [(8, 1 / 16), (16, 1 / 4096)])
    def test_codes_have_a_relative_error(self, bits: int, error: float) -> None:
        p = 2.0 ** np.random.default_rng(0).uniform(-24, 0, 10000)
        codes = to_codes(p, bits)
        actual = from_codes(codes) / 2.0 ** (24 + bits - 5)
        assert np.abs(actual / p - 1).max() <= error
        assert (to_codes(actual, bits) == codes).all()
        assert from_codes(to_codes(np.array([0.0, 1.0]), bits)).tolist() == [1 << bits - 5, 1 << 24 + bits - 5]

    def test_any_code_is_a_bounded_positive_integer(self) -> None:
        """Weights files may hold anything."""
        for dtype in (np.uint8, np.uint16):
            actual = from_codes(np.arange(np.iinfo(dtype).max + 1).astype(dtype))
            assert actual.min() > 0
            assert actual.max() < 1 << 36

    def test_counts_sum_exactly(self) -> None:
        rng = np.random.default_rng(0)
        for n in (1, 2, 256, 5000):
            values = (2.0 ** rng.uniform(0, 36, (20, n))).astype(np.int64).clip(1)
            values[0] = (1 << 36) - 1
            counts = to_counts(values)
            assert (counts.sum(1) == TOTAL).all()
            assert counts.min() >= 1
            assert np.abs(counts / TOTAL - values / values.sum(1, keepdims=True)).max() < 2 * n / TOTAL

    def test_state_and_back(self) -> None:
        circuit, x = frozen(trained()), noise(9)
        again = FrozenCircuit.from_state(circuit.to_state())
        assert again.encode(x) == circuit.encode(x)
        assert again.n_parameters == trained().n_parameters

    @pytest.mark.parametrize("change", ["parents", "sizes", "theta", "weights", "root"])
    def test_wrong_weights(self, change: str) -> None:
        good = frozen(trained()).to_state()
        for value in (None, good[change][:-1], good[change].astype(np.float32), good[change][None]):
            state = {**good, change: value}
            if value is None:
                del state[change]
            with pytest.raises(WeightsError):
                FrozenCircuit.from_state(state)


class TestProbabilities:
    def test_conditionals_are_the_models(self) -> None:
        """Each interval against `HiddenTree.conditionals`, along the tour, for items the model likes and for noise."""
        model = trained()
        circuit = frozen(model)
        x = np.concatenate([model.sample(6, seed=1), noise(2)])
        known = np.full_like(x, MISSING)

        def interval(v: int, belief: np.ndarray) -> Any:
            split = circuit.split(v, belief, x[:, v])
            (expected,) = model.conditionals(known, [v])
            p = expected[torch.arange(len(x)), torch.from_numpy(x[:, v])].numpy()
            np.testing.assert_allclose(split.count / TOTAL, p, rtol=1e-2, atol=3e-6)
            known[:, v] = x[:, v]
            return split

        circuit_coding._Tour(circuit, len(x), interval, None).run()
        assert (known == x).all()

    def test_code_length_is_the_likelihood(self) -> None:
        model = trained()
        x = model.sample(400, seed=2)
        expected = -model.log_likelihood(x).numpy() / np.log(2)
        assert frozen(model).bits(x).sum() == pytest.approx(expected.sum(), rel=1e-4)
        assert frozen(model, 8).bits(x).sum() == pytest.approx(expected.sum(), rel=3e-3)

    def test_intervals_tile(self) -> None:
        """Whatever the belief: symbols begin where the one before ends, all of them have room, search finds each."""
        circuit = frozen(trained())
        rng = np.random.default_rng(0)
        for v, size in enumerate(SIZES):
            joint = 2.0 ** rng.integers(0, 47, (5, circuit.states))
            belief = circuit_coding._fit(joint, joint.sum(1))
            assert (belief.sum(1) == TOTAL).all()
            assert belief.min() >= 1
            splits = [circuit.split(v, belief, np.full(5, c)) for c in range(size)]
            start, count = (np.array([getattr(s, name) for s in splits]) for name in ("start", "count"))
            assert (start[0] == 0).all()
            assert (count > 0).all()
            assert (start[1:] == start[:-1] + count[:-1]).all()
            assert (start[-1] + count[-1] == TOTAL).all()
            coarse = circuit.coarse(v, belief)
            for c in range(size):
                for place in (start[c], start[c] + count[c] - 1):
                    assert (circuit.search(v, belief, coarse, place) == c).all()

    def test_sums_stay_exact(self) -> None:
        """With as many states as there may be, every intermediate number is an integer below 2**53."""
        rng = np.random.default_rng(0)
        m = circuit_coding.MAX_STATES
        message = circuit_coding._shrunk(np.full((3, m), float(TOTAL)))
        assert message.sum(1).max() * (TOTAL + 1) < 2**53
        extreme = np.where(rng.random((3, m)) < 0.5, 1.0, float(TOTAL))
        shrunk = circuit_coding._shrunk(extreme)
        assert (shrunk * (TOTAL + 1)).sum(1).max() < 2**53
        assert (shrunk >= 1).all()
        belief = circuit_coding._fit(extreme, extreme.sum(1))
        assert (belief * (TOTAL + 1)).sum(1).max() < 2**53

    def test_the_tour_stays_exact(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All that is ever summed in a tour, with and without context: integers that sum to less than 2**53."""
        sums = []

        def watched(function: Any) -> Any:
            def run(numbers: np.ndarray, *rest: Any) -> Any:
                assert (numbers == np.floor(numbers)).all()
                sums.append(sum(map(int, numbers[0].tolist())))
                return function(numbers, *rest)

            return run

        for name in ("_fit", "_shrunk"):
            monkeypatch.setattr(circuit_coding, name, watched(getattr(circuit_coding, name)))
        model = trained(circuit_coding.MAX_STATES, range(-1, 7), [2] * 8)
        # every state likes the same symbols: the largest numbers that there can be
        theta = torch.tensor([1 - 1e-7, 1e-7], dtype=torch.float64).repeat(8)[:, None].expand(-1, model.states)
        model.set_parameters(theta.clone(), model.weights, model.root)
        circuit = frozen(model)
        x = np.zeros((2, 8), int)
        circuit.encode(x)
        known = np.arange(8) % 3 == 1
        circuit.encode(x, CodingContext(x, known))
        assert max(sums) < 2**53
        assert max(sums) > 2**47


class TestRoundTrip:
    @pytest.mark.parametrize("n", [0, 1, 2, 17, 300])
    def test_any_number(self, n: int) -> None:
        circuit, x = frozen(trained()), noise(n, seed=n)
        np.testing.assert_array_equal(circuit.decode(circuit.encode(x), n), x)

    @pytest.mark.parametrize("lanes", [1, 3, 64, 300])
    def test_any_lanes(self, lanes: int) -> None:
        circuit, x = frozen(trained()), noise(300)
        data = circuit.encode(x, lanes=lanes)
        np.testing.assert_array_equal(circuit.decode(data, 300), x)
        assert 8 * len(data) == pytest.approx(circuit.bits(x).sum() + 48 * lanes, abs=32 * lanes + 64)

    @pytest.mark.parametrize("states", [1, 2, 64])
    def test_any_states(self, states: int) -> None:
        circuit, x = frozen(trained(states)), noise(30)
        np.testing.assert_array_equal(circuit.decode(circuit.encode(x), 30), x)

    @pytest.mark.parametrize("parents", [[-1], [-1, 0], list(range(-1, 1500)), [-1] + [0] * 1500])
    def test_chains_and_stars(self, parents: list[int]) -> None:
        """No recursion to be too deep, no product to over- or underflow."""
        sizes = [3] * len(parents)
        circuit = frozen(trained(4, parents, sizes))
        x = noise(5, sizes)
        np.testing.assert_array_equal(circuit.decode(circuit.encode(x), 5), x)

    def test_symbols_outside(self) -> None:
        circuit = frozen(trained())
        for x in (noise(2)[:, :-1], noise(2).astype(float), noise(2) + 300, noise(2) - 2):
            with pytest.raises(UsageError):
                circuit.encode(x)


class TestSameEverywhere:
    def test_alone_and_in_any_batch(self) -> None:
        """The same intervals for an item among 360, 7 and alone."""
        circuit, x = frozen(trained(16)), noise(360)
        whole = circuit.bits(x)
        for n in (1, 7):
            assert (circuit.bits(x[:n]) == whole[:n]).all()
        alone = [circuit.encode(x[i : i + 1]) for i in range(3)]
        assert alone == [circuit.encode(x[i : i + 1].copy(order="F")) for i in range(3)]

    def test_summed_in_another_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """States permuted: every sum is of the same numbers in another order, and gives the same stream but for the
        state that takes what rounding leaves; so that is kept first."""
        model = trained(8)
        order = [0, 5, 3, 7, 1, 2, 6, 4]
        a, b = frozen(model), frozen(model)
        b.prior = b.prior[order]
        b.leaves = [table[:, order] for table in b.leaves]
        b.matrices = {v: w[order][:, order] for v, w in b.matrices.items()}
        x = noise(50)
        assert a.encode(x) == b.encode(x)

    def test_threads_and_instruction_sets(self) -> None:
        """Another process with two threads, and one that is told to use old instructions only."""
        script = (
            "import sys, hashlib; sys.path[:0] = sys.argv[1:2]\n"
            "import importlib.util as u\n"
            "spec = u.spec_from_file_location('t', sys.argv[2]); t = u.module_from_spec(spec)\n"
            "spec.loader.exec_module(t)\n"
            "x = t.noise(360)\n"
            "print(hashlib.sha256(t.frozen(t.fixed()).encode(x)).hexdigest())\n"
        )
        old = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX"}
        digests = set()
        for extra in ({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}, {**old, "OPENBLAS_NUM_THREADS": "1"}):
            root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(circuit_coding.__file__))))
            run = subprocess.run(
                [sys.executable, "-P", "-W", "ignore", "-c", script, root, __file__],
                env={**os.environ, **extra},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert run.returncode == 0, run.stderr
            digests.add(run.stdout.strip())
        import hashlib

        digests.add(hashlib.sha256(frozen(fixed()).encode(noise(360))).hexdigest())
        assert len(digests) == 1


def fixed() -> HiddenTree:
    """The same parameters in every process: no function that two machines may round differently."""
    model = HiddenTree(VariableTree(np.array(PARENTS)), SIZES, 16, dtype=torch.float64)
    rng = np.random.default_rng(0)

    def some(tensor: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(rng.integers(1, 1 << 20, tuple(tensor.shape)) / 2.0**24)

    model.set_parameters(some(model.theta), some(model.weights), some(model.root))
    return model


class TestContext:
    def context(self, n: int) -> CodingContext:
        known = np.zeros(len(SIZES), bool)
        known[[0, 4, 5, 9, 10]] = True  # inner ones and leaves; 4's subtree isn't known as a whole
        x = np.where(known, noise(n, seed=9), 0)
        x[: n // 2, 4] = ABSENT
        x[::3, 10] = ABSENT
        x[::4, 7] = ABSENT  # not known, and not there
        x[1::4, 2] = ABSENT
        return CodingContext(x, known)

    def test_round_trip(self) -> None:
        circuit, context = frozen(trained()), self.context(40)
        x = noise(40)
        x[:, context.known] = context.x[:, context.known]
        x[context.x == ABSENT] = ABSENT
        data = circuit.encode(x, context)
        np.testing.assert_array_equal(circuit.decode(data, 40, context), x)

    def test_code_length_is_conditional(self) -> None:
        """log p(all) - log p(known), with what is absent marginalised."""
        model = trained()
        circuit, context = frozen(model), self.context(60)
        x = model.sample(60, np.where(context.known, context.x, MISSING), seed=3)
        x[context.x == ABSENT] = ABSENT
        known = np.where(context.known, x, MISSING)
        expected = (model.log_likelihood(known) - model.log_likelihood(x)).numpy() / np.log(2)
        np.testing.assert_allclose(circuit.bits(x, context), expected, rtol=2e-3, atol=0.02)

    def test_alone_and_in_a_batch(self) -> None:
        circuit, context = frozen(trained()), self.context(40)
        x = np.where(context.known | (context.x == ABSENT), context.x, noise(40))
        whole = circuit.bits(x, context)
        for i in (0, 1, 39):
            assert circuit.bits(x[i : i + 1], context.part(slice(i, i + 1))) == whole[i]

    def test_everything_known(self) -> None:
        circuit, x = frozen(trained()), noise(3)
        context = CodingContext(x, np.ones(len(SIZES), bool))
        assert circuit.bits(x, context).tolist() == [0, 0, 0]
        np.testing.assert_array_equal(circuit.decode(circuit.encode(x, context), 3, context), x)


class TestDamage:
    def test_cut_and_changed(self) -> None:
        """An error, or the same (blocks may be deeper than there are items)."""
        circuit, x = frozen(trained()), noise(20)
        data = circuit.encode(x)
        rng = np.random.default_rng(0)
        for n in range(0, len(data), 3):
            with pytest.raises(StreamError):
                circuit.decode(data[:n], 20)
        for _ in range(200):
            changed = bytearray(data)
            changed[rng.integers(len(data))] ^= rng.integers(1, 256)
            try:
                np.testing.assert_array_equal(circuit.decode(bytes(changed), 20), x)
            except StreamError:
                pass
            else:
                assert changed[4:] == data[4:]

    @pytest.mark.parametrize("n", [0, 1, 19, 21, 40, 10**5])
    def test_another_number(self, n: int) -> None:
        circuit = frozen(trained())
        with pytest.raises(StreamError):
            circuit.decode(circuit.encode(noise(20)), n)

    def test_hostile_layout(self) -> None:
        data = frozen(trained()).encode(noise(20))
        for head in (b"\xff" * 4, b"\xff\x0f\xff\x0f", b"\x00\x00\xff\xff", b"\x14\x00\x00\x00"):
            with pytest.raises(StreamError):
                frozen(trained()).decode(head + data[4:], 20)

    def test_layout(self) -> None:
        for n in (0, 1, 100, 10**4):
            layout = LaneLayout.of(n, 32)
            assert LaneLayout.from_bytes(layout.to_bytes() + b"x", n, 32) == (layout, b"x")
        assert LaneLayout.of(10**4, 32).lanes == 128

    @pytest.mark.parametrize("n", [1, 2, 7, 100, 5000])
    def test_smaller_blocks_than_the_encoder_makes(self, n: int) -> None:
        """So the number of tours is bounded by the number of items."""
        for lanes in (1, 2, 64):
            if lanes > n:
                continue
            right = LaneLayout.of(n, 32, lanes)
            assert LaneLayout.from_bytes(right.to_bytes(), n, 32)[0] == right
            if right.depth > 1:
                for depth in {1, right.depth - 1}:
                    with pytest.raises(StreamError, match="damaged"):
                        LaneLayout.from_bytes(LaneLayout(lanes, depth).to_bytes(), n, 32)
                    assert LaneLayout.from_bytes(LaneLayout(lanes, depth).to_bytes(), None, 32)[0].depth == depth
