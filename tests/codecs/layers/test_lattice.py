"""The context model: what a step may see, what it codes, and the tables that its rows name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from codec.codecs.layers import lattice
from codec.codecs.layers.lattice import (
    LatticeContext,
    level_map,
    logistic_bits,
    row_parameters,
    scale_values,
    schedule,
    step_positions,
    table_rows,
)
from codec.codecs.walloc.torch_model import logistic_tables
from codec.entropy.exact import freeze, set_mode

GROUPS = (3, 2, 2)


def symbols(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(-40, 41, (1, sum(GROUPS), height, width))).float()


@pytest.fixture(scope="module")
def context() -> LatticeContext:
    torch.manual_seed(1)
    net = LatticeContext(GROUPS, 8, 8)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "third" in name or "first" in name:
                parameter.normal_(0, 0.03)
    net.train()
    net.bits(symbols(16, 16), torch.zeros(1, 1, 16, 16))
    set_mode(net, "twin")
    freeze(net)
    return net.requires_grad_(False)


def decoded_before(net: LatticeContext, index: int, height: int, width: int) -> Tensor:
    """(C, H, W) bool: coded in the steps before `index`, found by counting what they coded."""
    done = torch.zeros(sum(GROUPS), height * width, dtype=torch.bool)
    for step in net.steps[:index]:
        done[step.start : step.stop, step_positions(step, height, width)] = True
    return done.reshape(-1, height, width)


@pytest.mark.parametrize(("height", "width"), [(13, 10), (4, 4), (1, 7), (2, 1)])
def test_rows_depend_on_decoded_symbols_only(context: LatticeContext, height: int, width: int) -> None:
    latents, side = symbols(height, width), torch.full((1, 1, height, width), 3.0)
    for index in range(len(context.steps)):
        row, centre = context.rows(index, latents, side)
        done = decoded_before(context, index, height, width)
        for seed in (1, 2):
            changed = torch.where(done, latents[0], symbols(height, width, seed)[0])[None]
            row2, centre2 = context.rows(index, changed, side)
            assert torch.equal(row, row2), index
            assert torch.equal(centre, centre2), index
        zeros = torch.where(done, latents[0], torch.zeros(()))[None]  # as the decoder has them
        assert torch.equal(context.rows(index, zeros, side)[0], row)
        if bool(done.any()) and height * width > 16:
            row3, centre3 = context.rows(index, torch.where(done, -latents[0], latents[0])[None], side)
            assert not torch.equal(row, row3)
            assert not torch.equal(centre, centre3)


@pytest.mark.parametrize(("height", "width"), [(13, 10), (5, 3), (2, 2), (1, 7), (1, 1)])
def test_rows_are_those_of_the_dense_networks(context: LatticeContext, height: int, width: int) -> None:
    """Only a part of the grid is computed for some steps: the part that training computes as well."""
    latents, side = symbols(height, width), torch.full((1, 1, height, width), -5.0)
    for index, step in enumerate(context.steps):
        where = step_positions(step, height, width)
        dense = context.parameters_of(index, latents, side, level_map(height, width))
        mean, log_scale = (x[0].flatten(1)[:, where] for x in dense)
        row, centre = context.rows(index, latents, side)
        expected = table_rows(mean, log_scale, 127)
        assert row.shape == (step.stop - step.start, len(where))
        assert torch.equal(row, expected[0]), index
        assert torch.equal(centre, expected[1]), index


def test_every_group_before_is_seen(context: LatticeContext) -> None:
    """Decoded neighbours of each channel and level matter: none is left out by a wrong mask."""
    latents, side = symbols(12, 12), torch.zeros(1, 1, 12, 12)
    levels = level_map(12, 12)
    for index, step in enumerate(context.steps):
        centre = context.rows(index, latents, side)[1]
        for channel in range(step.stop):
            for level in range(5):
                if channel < step.start or level < min(step.levels):
                    changed = latents.clone()
                    changed[0, channel][levels == level] += 60
                    same = torch.equal(context.rows(index, changed, side)[1], centre)
                    assert not same, (index, channel, level)


def test_the_side_plane_is_seen(context: LatticeContext) -> None:
    latents = symbols(12, 12)
    for index in range(len(context.steps)):
        low, high = (context.rows(index, latents, torch.full((1, 1, 12, 12), gain)) for gain in (-24.0, 8.0))
        assert not (torch.equal(low[0], high[0]) and torch.equal(low[1], high[1]))


@pytest.mark.parametrize("groups", [(3, 3, 3, 3), (3, 9, 12, 12, 12), (5,)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 2), (8, 8), (13, 7)])
def test_everything_is_coded_once(groups: tuple[int, ...], height: int, width: int) -> None:
    times = torch.zeros(sum(groups), height * width)
    for step in schedule(groups):
        where = step_positions(step, height, width)
        assert torch.equal(where, where.sort().values)
        times[step.start : step.stop, where] += 1
    assert torch.equal(times, torch.ones_like(times))


def test_levels() -> None:
    levels = level_map(16, 16)
    share = [float((levels == level).float().mean()) for level in range(lattice.LEVELS)]
    assert share == [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    assert torch.equal(levels == 0, (y % 4 == 0) & (x % 4 == 0))
    assert torch.equal(levels == 4, (y + x) % 2 == 1)
    assert torch.equal(levels <= 2, (y % 2 == 0) & (x % 2 == 0))
    assert torch.equal(level_map(5, 3), levels[:5, :3])


# ---- density


def reference_bits(x: Tensor, scale: Tensor) -> Tensor:
    """float64: a difference of logistic functions where they are small; an asymptote where that underflows."""
    x, scale = x.double().abs(), scale.double()
    high, low = (x - 0.5) / scale, (x + 0.5) / scale
    mass = torch.sigmoid(-high) - torch.sigmoid(-low)
    far = high * 1.4426950408889634 - torch.log2(-torch.expm1(-1 / scale))
    return torch.where(high > 300, far, -torch.log2(mass.clamp_min(1e-300)))


def test_bits_of_a_logistic() -> None:
    x = torch.cat([torch.arange(-300, 301, 7) / 2, torch.arange(-20, 21) / 8, torch.tensor([-1e4, 255.0])])
    x, scale = torch.meshgrid(x.float(), scale_values().float(), indexing="ij")
    bits = logistic_bits(x, scale)
    assert bits.dtype == torch.float32
    expected = reference_bits(x, scale)
    assert bool(torch.isfinite(bits).all())
    assert float(((bits - expected).abs() / (expected + 0.05)).max()) < 1e-4


def test_gradients_are_finite() -> None:
    x = torch.tensor([-300.0, -0.5, 0.0, 0.5, 3.0, 300.0])[:, None].repeat(1, 64).requires_grad_()
    log_scale = torch.log2(scale_values()).float().repeat(6, 1).requires_grad_()
    logistic_bits(x, torch.exp2(log_scale)).sum().backward()
    for gradient in (x.grad, log_scale.grad):
        assert gradient is not None
        assert bool(torch.isfinite(gradient).all())


def test_mass_is_one() -> None:
    integers = torch.arange(-2000, 2001).double()
    for scale in scale_values():
        for mean in (0.0, 0.3, -0.5):
            assert float(torch.exp2(-logistic_bits(integers - mean, scale)).sum()) == pytest.approx(1, abs=1e-6)


def test_bits_are_what_coding_costs(context: LatticeContext) -> None:
    """The training loss of integer latents is what the tables charge, but for the rounding of mean and scale."""
    tables = logistic_tables(127)
    rng = np.random.default_rng(3)
    latents = torch.from_numpy(rng.laplace(0, 2.0, (1, sum(GROUPS), 40, 36)).round()).float()
    side = torch.zeros(1, 1, 40, 36)
    estimate = float(context.bits(latents, side))
    total = 0.0
    for index, step in enumerate(context.steps):
        row, centre = context.rows(index, latents, side)
        values = latents[0].flatten(1)[step.start : step.stop, step_positions(step, 40, 36)]
        total += tables.bits((values.int() - centre).numpy(), row.numpy())
    assert total == pytest.approx(estimate, rel=0.01)


# ---- tables


def test_rows_name_the_nearest_density() -> None:
    mean = torch.arange(-130 * 32, 130 * 32 + 1, 3).float() / 32
    log_scale = torch.linspace(-5, 7, 200)
    mean, log_scale = torch.meshgrid(mean, log_scale, indexing="ij")
    row, centre = table_rows(mean, log_scale, 127)
    assert row.dtype == centre.dtype == torch.int32
    means, scales = row_parameters()
    assert int(row.min()) >= 0
    assert int(row.max()) == len(means) - 1
    assert len(torch.unique(row)) == len(means)  # every row is used
    assert float(means.min()) >= -0.5
    assert float(means.max()) < 0.5
    clamped = log_scale.double().clamp(lattice.LOG2_SCALE_MIN, lattice.LOG2_SCALE_MAX)
    error = (torch.log2(scales[row]) - clamped).abs()
    assert float(error.max()) <= 0.5 / lattice.STEPS_PER_OCTAVE + 1e-6
    error = (centre + means[row] - mean.double().clamp(-127, 127)).abs()
    for scale in scale_values():
        step = 1 / 8 if scale <= 0.5 else 1 / 4 if scale <= 1 else 1 / 2 if scale <= 2 else 1
        assert float(error[scales[row] == scale].max()) == step / 2  # as fine as promised, and no finer
    assert int(centre.abs().max()) <= 128


def test_means_on_a_boundary_go_up() -> None:
    means, _ = row_parameters()
    log_scale = torch.full((4,), -3.0)
    row, centre = table_rows(torch.tensor([1 / 16, -1 / 16, 0.4375, -0.5]), log_scale, 127)
    assert (centre + means[row]).tolist() == [1 / 8, 0, 0.5, -0.5]
    row, centre = table_rows(torch.tensor([0.5, -0.5, 1.5, -1.5]), torch.full((4,), 4.0), 127)
    assert (centre + means[row]).tolist() == [1, 0, 2, -1]


def test_scales() -> None:
    scales = scale_values()
    assert len(scales) == 64
    assert float(scales[0]) == pytest.approx(0.0884, abs=1e-4)
    ratio = scales[1:] / scales[:-1]
    assert float(ratio.max() - ratio.min()) < 1e-12


def test_tables_hold_the_densities() -> None:
    """Bits lost by counts of 2**-16, by the cut tails and by the cap on a row's largest probability."""
    tables = logistic_tables(127)
    means, scales = row_parameters()
    assert len(tables.lengths) == len(means)
    for row, (mean, scale) in enumerate(zip(means, scales, strict=True)):
        count = np.diff(tables.rows[row])
        integers = torch.arange(len(count) - 1) + int(tables.offset[row])
        p = torch.exp2(-reference_bits(integers - mean, scale)).numpy()
        lost = float(np.sum(p * np.log2(p / (count[:-1] / 65536))))
        assert lost < (0.012 if scale < 0.15 else 2e-3), (row, lost)
        assert p.sum() > 1 - 2**-14 or len(count) > 2 * 2 * 127  # tails are cut where they no longer matter
        assert int(integers[0]) >= -254
        assert int(integers[-1]) <= 254
