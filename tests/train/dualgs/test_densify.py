"""Cloning, splitting, pruning and fading: who is chosen, the cap, and the optimiser's state."""

from __future__ import annotations

import pytest
import torch

from codec.errors import MediaError
from codec.train.dualgs.config import Densify, Rates
from codec.train.dualgs.densify import Densifier
from codec.train.dualgs.gaussians import Cloud

SETTINGS = Densify(start=1, stop=100, every=10, gradient=1.0, dense=0.1, opacity=0.1, reset=1000, most=100, fade_at=0)


def cloud(n: int = 6) -> Cloud:
    it = Cloud(
        {
            "positions": torch.arange(n * 3.0).view(n, 3),
            "rotations": torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
            "scales": torch.full((n, 3), -4.0),
            "opacities": torch.full((n,), 2.0),
            "dc": torch.arange(n * 3.0).view(n, 1, 3),
            "rest": torch.zeros(n, 0, 3),
        }
    )
    it.set_rates(Rates(), 1.0, 0.0)
    (it.positions.sum() + it.values["dc"].sum() + it.scales.sum()).backward()
    it.step()
    return it


def densifier(it: Cloud, settings: Densify = SETTINGS) -> Densifier:
    return Densifier(settings, it, 1.0, torch.Generator().manual_seed(0))


def watch(which: Densifier, large: list[int], n: int = 6, radius: int = 3) -> None:
    gradient = torch.zeros(n, 2)
    gradient[large, 0] = 0.5  # times half of 8 pixels is 2
    which.watch(gradient, torch.full((n,), radius), 8, 8)


def test_small_are_cloned_and_keep_their_moments() -> None:
    it = cloud()
    before = {name: moment.clone() for name, moment in it.first.items()}
    which = densifier(it)
    watch(which, [1, 4])
    which.act(10)
    assert len(it) == 8
    assert torch.equal(it.positions.detach()[6:], it.positions.detach()[[1, 4]])
    assert torch.equal(it.first["dc"][:6], before["dc"]) and not it.first["dc"][6:].any()


def test_large_are_split_in_two_smaller() -> None:
    it = cloud()
    it.values["scales"].data[2] = 0.0
    which = densifier(it)
    watch(which, [2])
    place = it.positions.detach()[2].clone()
    which.act(10)
    assert len(it) == 7
    halves = it.values["scales"].detach()[[2, 6]]
    torch.testing.assert_close(halves.exp(), torch.full((2, 3), 1 / 1.6))
    moved = it.positions.detach()[[2, 6]] - place
    assert (moved.norm(dim=1) > 0.1).all() and not torch.equal(moved[0], moved[1])
    assert not it.first["dc"][2].any() and it.first["dc"][1].any()


def test_gradients_are_means_over_the_pictures_that_show_a_gaussian() -> None:
    it = cloud()
    which = densifier(it)
    watch(which, [3])
    which.watch(torch.zeros(6, 2), torch.tensor([3, 3, 3, 0, 3, 3]), 8, 8)  # not seen: doesn't count
    which.act(10)
    assert len(it) == 7
    it = cloud()
    which = densifier(it)
    watch(which, [3])
    for _ in range(2):
        which.watch(torch.zeros(6, 2), torch.full((6,), 3), 8, 8)
    which.act(10)
    assert len(it) == 6


def test_the_cap_takes_the_largest_gradients() -> None:
    it = cloud()
    which = densifier(it, Densify(**{**SETTINGS.__dict__, "most": 8}))
    gradient = torch.tensor([1.0, 5, 2, 4, 3, 0])[:, None].expand(6, 2)
    which.watch(gradient, torch.full((6,), 3), 8, 8)
    which.act(10)
    assert it.values["dc"].detach()[6:, 0, 0].round().tolist() == [3, 9], "rows 1 and 3"
    watch(which, [0, 1], 8)
    which.act(20)
    assert len(it) == 8


def test_the_faint_are_pruned_with_their_moments() -> None:
    it = cloud()
    it.values["opacities"].data[[0, 5]] = -5
    kept = it.first["dc"][1:5].clone()
    which = densifier(it)
    watch(which, [])
    which.act(10)
    assert len(it) == 4 and torch.equal(it.first["dc"], kept)
    watch(which, [1], 4)  # its own counts have as many rows
    which.act(20)
    assert len(it) == 5


def test_the_huge_are_pruned_only_after_the_first_reset() -> None:
    it = cloud()
    settings = Densify(**{**SETTINGS.__dict__, "reset": 15, "stop": 30, "gradient": 1e9})
    which = densifier(it, settings)
    for iteration, count in ((10, 6), (20, 5)):
        gradient = torch.zeros(len(it), 2)
        radii = torch.full((len(it),), 3)
        radii[0] = 50
        which.watch(gradient, radii, 8, 8)
        which.act(iteration)
        assert len(it) == count


def test_fading() -> None:
    it = cloud()
    it.first["opacities"] += 1
    which = densifier(it, Densify(**{**SETTINGS.__dict__, "fade_at": 7}))
    which.act(7)
    torch.testing.assert_close(it.opacities.detach(), torch.full((6,), 0.01))
    assert not it.first["opacities"].any() and it.first["dc"].any()


def test_nothing_after_the_end() -> None:
    it = cloud()
    which = densifier(it)
    watch(which, [0, 1, 2])
    for iteration in (100, 110, 1000, 5, 11):
        which.act(iteration)
    assert len(it) == 6 and float(it.opacities.detach().min()) > 0.5


def test_no_gaussian_left_is_said() -> None:
    it = cloud()
    it.values["opacities"].data[:] = -9
    which = densifier(it)
    watch(which, [])
    with pytest.raises(MediaError, match="none of them is seen"):
        which.act(10)
