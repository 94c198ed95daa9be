"""Losses: values by hand or by another library, gradients by differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional

from codec.train.dualgs import graph, losses
from codec.train.dualgs.gaussians import product


def picture(seed: int, height: int = 40, width: int = 52) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 3, 6, 7), generator=g)
    return functional.interpolate(coarse, (height, width), mode="bilinear")[0].permute(1, 2, 0).contiguous()


def test_ssim_is_that_of_gaussian_splatting() -> None:
    """A window of 11 x 11 and padding with zeros."""
    x, y = picture(0), picture(1)
    offsets = torch.arange(11.0) - 5
    window = torch.exp(-(offsets**2) / 4.5)
    window = window / window.sum()
    kernel = (window[:, None] * window[None]).expand(3, 1, 11, 11)

    def mean(planes: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(planes[None], kernel, padding=5, groups=3)

    a, b = x.permute(2, 0, 1), y.permute(2, 0, 1)
    ma, mb = mean(a), mean(b)
    va, vb, cab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    expected = (2 * ma * mb + 1e-4) * (2 * cab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    torch.testing.assert_close(losses.ssim(x, y), expected.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.ssim(x, x), torch.tensor(1.0))


def test_gradient_of_ssim() -> None:
    x, y = picture(0, 13, 17).double().requires_grad_(), picture(1, 13, 17).double()
    assert torch.autograd.gradcheck(lambda image: losses.ssim(image, y), (x,), atol=1e-7)


def test_a_box_around_all_that_differs_changes_nothing() -> None:
    x, y = torch.ones(64, 80, 3), torch.ones(64, 80, 3)
    x[30:40, 20:30] = picture(0, 10, 10)
    y[28:41, 22:33] = picture(1, 13, 11)
    box = losses.box_of(((x < 1) | (y < 1)).any(2))
    assert box == (17, 52, 9, 44)
    torch.testing.assert_close(losses.ssim(x, y, box), losses.ssim(x, y), rtol=1e-5, atol=1e-6)
    assert losses.box_of(torch.zeros(5, 6, dtype=torch.bool)) == (0, 5, 0, 6)


def test_photometric() -> None:
    x, y = picture(0), picture(1)
    expected = 0.8 * (x - y).abs().mean() + 0.2 * (1 - losses.ssim(x, y))
    torch.testing.assert_close(losses.photometric(x, y, 0.2), expected)
    torch.testing.assert_close(losses.photometric(x, y, 0.0), (x - y).abs().mean())


def test_psnr() -> None:
    y = torch.full((4, 4, 3), 100 / 255)
    assert losses.psnr(y + 10 / 255, y) == pytest.approx(20 * np.log10(255 / 10), abs=1e-4)


def test_isotropy_and_size_by_hand() -> None:
    scales = torch.tensor([[8.0, 1, 1], [3, 1, 1], [1, 1, 1]])
    assert float(losses.isotropy(scales, 4.0)) == pytest.approx((8 + 4 + 4) / 3 - 4, rel=1e-6)
    scales = torch.tensor([[1.0, 1, 1]] * 20 + [[30.0, 30, 30], [0.01, 0.01, 0.01]])
    mean = float(scales.mean())
    expected = (30 - 5 * mean) + 2 * 0 + (0.2 * mean - 0.01)
    assert float(losses.size(scales)) == pytest.approx(expected, rel=1e-5)


def moved() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, graph.Neighbours]:
    g = torch.Generator().manual_seed(0)
    x = torch.rand((30, 3), generator=g, dtype=torch.float64)
    q = functional.normalize(torch.randn((30, 4), generator=g, dtype=torch.float64), dim=1)
    turn = Rotation.from_rotvec([0.4, -0.2, 0.9])
    xyzw = turn.as_quat()
    step = torch.tensor([xyzw[3], *xyzw[:3]]).expand(30, 4)
    now = x @ torch.tensor(turn.as_matrix()).T + torch.tensor([1.0, 2.0, -3.0])
    return x, q, now, product(step, q), graph.neighbours(x, x, 8, 0.3, exclude_self=True)


def test_rigid_motion_costs_nothing() -> None:
    x, q, now, turned, near = moved()
    assert float(losses.Rigidity(x, q, near)(now, turned)) < 1e-20
    assert float(losses.Rigidity(x, q, near)(now, q)) > 1e-3, "the joints did not turn with their places"
    assert float(losses.Rigidity(x, q, near)(now * 1.1, turned)) > 1e-4


def test_rigidity_against_a_loop() -> None:
    x, q, now, _, near = moved()
    now = now + 0.1 * x.flip(1)
    turns = Rotation.from_quat(q.numpy()[:, [1, 2, 3, 0]])
    total = 0.0
    for i in range(30):
        for k in range(8):
            j = int(near.index[i, k])
            turn = (turns[i] * turns[i].inv()).as_matrix()
            gap = turn @ (x[i] - x[j]).numpy() - (now[i] - now[j]).numpy()
            total += float(near.weights[i, k]) * float(gap @ gap) / 30
    assert float(losses.Rigidity(x, q, near)(now, q)) == pytest.approx(total, rel=1e-9)


def test_gradient_of_rigidity() -> None:
    x, q, now, turned, near = moved()
    now, turned = now.requires_grad_(), (turned + 0.1 * q.flip(1)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: losses.Rigidity(x, q, near)(a, functional.normalize(b, dim=1)), (now, turned), atol=1e-6
    )


def test_steadiness() -> None:
    shapes = {"opacities": (5,), "scales": (5, 3), "dc": (5, 1, 3), "rest": (5, 3, 3)}
    before = {name: torch.zeros(shape) for name, shape in shapes.items()}
    now = {name: torch.full(shape, 2.0, requires_grad=True) for name, shape in shapes.items()}
    norms = {name: 2 * np.sqrt(np.prod(shape)) for name, shape in shapes.items()}
    expected = 3 * (norms["opacities"] + norms["scales"]) + 5 * (norms["dc"] + norms["rest"])
    assert float(losses.steadiness(now, before, 3, 5)) == pytest.approx(expected, rel=1e-5)
    same = {name: value.clone().requires_grad_() for name, value in before.items()}
    losses.steadiness(same, before, 3, 5).backward()
    assert all(torch.isfinite(value.grad).all() for value in same.values() if value.grad is not None)
