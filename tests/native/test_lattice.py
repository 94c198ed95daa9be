"""The networks of the lattice context model: compiled, in NumPy and in torch, the same rows and centres."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from codec import native
from codec.codecs.layers.lattice import LatticeContext, step_positions
from codec.codecs.layers.lattice_steps import positions_of, row_rule
from codec.entropy.exact import freeze, set_mode
from codec.native.grids import Grid
from codec.native.lattice import Layer, StepNetwork

SETS = [None, *native.instruction_sets()]
GROUPS = (3, 2, 4)


@pytest.fixture(params=SETS, ids=str)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with native.using(request.param):
        yield request.param


def layer(conv: Any) -> Layer:
    weight, bias = conv.quantised()
    return Layer(weight.numpy().astype(np.int16), bias.numpy().astype(np.int64), conv.weight_exponent.numpy())


def kernel_of(net: Any) -> StepNetwork:
    act1, act2 = (Grid(10, False, int(act.exponent)) for act in (net.act1, net.act2))
    first, second, third = (layer(conv) for conv in (net.first, net.second, net.third))
    return StepNetwork(first, second, third, (Grid(8, True, int(net.input.exponent)), act1, act2), row_rule())


def plane_of(latents: torch.Tensor, side: float, step: Any, levels: np.ndarray, n: int) -> np.ndarray:
    """What a decoder has at a step, with the side plane in front, two zeros around; later channels hold anything."""
    height, width = levels.shape
    known = latents[0].numpy().astype(np.int16).copy()
    known[step.start : step.stop][:, levels >= min(step.levels)] = 0
    plane = np.zeros((height + 4, width + 4, n + n % 2), np.int16)
    plane[2:-2, 2:-2, 0] = side
    plane[2:-2, 2:-2, 1:n] = known.transpose(1, 2, 0)
    return plane


@pytest.fixture(scope="module", params=[8, 13, 32])
def context(request: pytest.FixtureRequest) -> LatticeContext:
    torch.manual_seed(request.param)
    net = LatticeContext(GROUPS, request.param, 8)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "third" in name or "first" in name:
                parameter.normal_(0, 0.05)
    net.train()
    symbols = np.random.default_rng(0).integers(-40, 41, (1, sum(GROUPS), 16, 16))
    net.bits(torch.from_numpy(symbols).float(), torch.zeros(1, 1, 16, 16))
    set_mode(net, "twin")
    freeze(net)
    return net.requires_grad_(False)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (6, 3), (23, 18), (64, 40)])
@pytest.mark.parametrize("spread", [3, 127])
def test_rows_are_those_of_torch(
    instruction_set: str | None, context: LatticeContext, height: int, width: int, spread: int
) -> None:
    del instruction_set
    from codec.codecs.layers.lattice_steps import levels_of

    rng = np.random.default_rng(height * width + spread)
    latents = torch.from_numpy(rng.integers(-spread, spread + 1, (1, sum(GROUPS), height, width))).float()
    seen = set()
    for gain in (-24, 96):
        side = torch.full((1, 1, height, width), float(gain))
        for index, step in enumerate(context.steps):
            row, centre = context.rows(index, latents, side)
            where = positions_of(step.levels, height, width)
            assert np.array_equal(where, step_positions(step, height, width))
            plane = plane_of(latents, gain, step, levels_of(height, width), 1 + sum(GROUPS))
            network = kernel_of(context.nets[index])
            plane = network.symbols.integers(plane.astype(np.float32)).astype(np.int16)
            ours = network.rows(plane, 2, where)
            np.testing.assert_array_equal(ours[0], row.numpy())
            np.testing.assert_array_equal(ours[1], centre.numpy())
            assert ours[0].dtype == np.uint8
            seen |= set(np.unique(ours[0]).tolist())
    assert len(seen) > 20 or height * width < 20


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_bound(instruction_set: str | None, sign: int) -> None:
    """Every product as large as the proof allows: nothing wraps around, and rows stay in the table."""
    del instruction_set
    rng = np.random.default_rng(1)
    n, k, hidden, outputs, top = 5, 5, 16, 3, 127
    w = sign * np.full((hidden + outputs, n, k, k), (2**24 - 2**12) // (n * k * k * top), np.int64)
    first = Layer(w, sign * np.full(len(w), 2**12, np.int64), np.full(len(w), 10))
    small = np.full((hidden, hidden, 1, 1), 1020, np.int64) * np.where(rng.random((hidden, hidden, 1, 1)) < 0.5, 1, -1)
    second = Layer(small, np.zeros(hidden, np.int64), np.full(hidden, 12))
    third = Layer(small[: 2 * outputs], np.zeros(2 * outputs, np.int64), np.full(2 * outputs, 16))
    grids = (Grid(8, True, 0), Grid(10, False, 3), Grid(10, False, 2))
    network = StepNetwork(first, second, third, grids, row_rule())
    plane = np.full((9 + 4, 7 + 4, 6), sign * top, np.int16)
    where = np.arange(63, dtype=np.int32)
    got = network.rows(plane, 2, where)
    with native.using(None):
        expected = network.rows(plane, 2, where)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    assert (np.abs(got[1]) <= top).all()


def small_network(weight: int = 1, exponent: int = 4) -> StepNetwork:
    four = np.array([4, 4, 4])
    first = Layer(np.full((3, 2, 3, 3), weight), np.zeros(3, np.int64), np.full(3, exponent))
    second = Layer(np.ones((2, 2, 1, 1), np.int64), np.zeros(2, np.int64), four[:2])
    third = Layer(np.ones((2, 2, 1, 1), np.int64), np.zeros(2, np.int64), four[:2])
    grids = (Grid(8, True, 0), Grid(10, False, 3), Grid(10, False, 2))
    return StepNetwork(first, second, third, grids, row_rule())


def test_what_cannot_be_proved_is_refused() -> None:
    small_network(2**24 // (18 * 127))
    for wrong in ({"weight": 2**24 // (18 * 127) + 1}, {"weight": 40000}, {"exponent": 100}):
        with pytest.raises(ValueError, match=r"bits|beyond"):
            small_network(**wrong)


def test_wrong_calls(instruction_set: str | None) -> None:
    """Nothing that would be read or written outside its array reaches a kernel."""
    del instruction_set
    network = small_network()
    plane = np.zeros((8, 9, 2), np.int16)
    for positions in ([4 * 5], [-1], [0, 1 << 30]):
        with pytest.raises(AssertionError):
            network.rows(plane, 2, np.array(positions, np.int32))
    good = np.arange(20, dtype=np.int32)
    assert network.rows(plane, 2, good)[0].shape == (1, 20)
    assert network.rows(plane, 2, good[:0])[0].shape == (1, 0)
    wrong: Any
    for wrong in (plane.astype(np.int32), plane[:, ::2], plane[:, :, :1].copy(), np.zeros((8, 9, 3), np.int16)):
        with pytest.raises(AssertionError):
            network.rows(wrong, 2, good)
    with pytest.raises(AssertionError):
        network.rows(plane, 0, good)
    with pytest.raises(AssertionError):
        network.rows(plane, 2, good.astype(np.int64))  # type: ignore[arg-type]
