"""Trainable Gaussians: Adam against PyTorch's, rows with their moments, rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from codec.train.dualgs.config import Rates
from codec.train.dualgs.gaussians import Adam, Cloud, product, rotation_matrices, tensors_of


def cloud(n: int = 7, k: int = 4) -> Cloud:
    g = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g)

    return Cloud(
        {
            "positions": draw(n, 3),
            "rotations": draw(n, 4),
            "scales": draw(n, 3) - 3,
            "opacities": draw(n),
            "dc": draw(n, 1, 3),
            "rest": draw(n, k - 1, 3),
        }
    )


def test_adam_is_pytorchs() -> None:
    ours = Adam({"x": torch.linspace(-1, 1, 12).view(3, 4)})
    theirs = ours.values["x"].detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.03, eps=1e-15)
    ours.rates["x"] = 0.03
    for _ in range(20):
        for value, step in ((ours.values["x"], ours.step), (theirs, optimizer.step)):
            (value.sin() * torch.arange(12.0).view(3, 4)).sum().backward()
            step()
        optimizer.zero_grad()
    torch.testing.assert_close(ours.values["x"].detach(), theirs.detach(), rtol=1e-5, atol=1e-6)


def test_no_rate_no_step() -> None:
    it = Adam({"x": torch.ones(3), "y": torch.ones(3)})
    it.rates["y"] = 0.1
    (it.values["x"] * 2 + it.values["y"]).sum().backward()
    it.step()
    assert it.values["x"].tolist() == [1, 1, 1] and it.values["x"].grad is None
    assert max(it.values["y"].tolist()) < 1


def test_rows_keep_their_moments() -> None:
    it = cloud()
    it.set_rates(Rates(), 1.0, 0.5)
    (it.positions.sum() + it.scales.sum() + it.harmonics.square().sum()).backward()
    it.step()
    before = {name: (it.values[name].detach().clone(), it.first[name].clone()) for name in it.values}
    order = torch.tensor([4, 0, 6])
    it.keep(order)
    it.append({name: value.detach()[:2] for name, value in it.values.items()})
    for name, (value, moment) in before.items():
        assert torch.equal(it.values[name].detach()[:3], value[order])
        assert torch.equal(it.first[name][:3], moment[order])
        assert not it.first[name][3:].any() and not it.second[name][3:].any()
        assert len(it.first[name]) == len(it.second[name]) == len(it) == 5
        assert it.values[name].requires_grad and it.values[name].is_leaf


def test_rates_of_positions_fall_log_linearly() -> None:
    it, rates = cloud(), Rates(positions=1e-2, positions_last=1e-4)
    it.set_rates(rates, 3.0, 0.5)
    assert it.rates["positions"] == pytest.approx(3e-3)
    it.set_rates(rates, 3.0, 0.5, ("rotations",))
    assert it.rates["positions"] == it.rates["dc"] == 0 and it.rates["rotations"] == rates.rotations


def test_values_of_a_file_and_back() -> None:
    it = cloud()
    gaussians = it.gaussians()
    assert gaussians.degree == 1 and len(gaussians) == 7
    again = Cloud(tensors_of(gaussians))
    assert all(torch.equal(it.values[name], again.values[name]) for name in it.values)


def test_quaternions_against_scipy() -> None:
    g = np.random.default_rng(1)
    a, b = (Rotation.from_quat(g.normal(size=(50, 4))) for _ in range(2))

    def ours(rotation: Rotation) -> torch.Tensor:
        return torch.tensor(rotation.as_quat()[:, [3, 0, 1, 2]])

    np.testing.assert_allclose(rotation_matrices(ours(a) * 2.5).numpy(), a.as_matrix(), atol=1e-12)
    ab = rotation_matrices(product(ours(a), ours(b))).numpy()
    np.testing.assert_allclose(ab, (a * b).as_matrix(), atol=1e-12)
