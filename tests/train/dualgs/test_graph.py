"""Neighbours and weights against brute force, and skins that follow joints."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from codec.train.dualgs import graph
from codec.train.dualgs.gaussians import rotation_matrices


def points(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((n, 3), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("same", [False, True])
def test_neighbours_against_brute_force(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_CHUNK", 100)  # several parts
    x = points(40)
    targets = x if same else points(30, 1)
    near = graph.neighbours(x, targets, 5, 0.2, exclude_self=same)
    index, weights = near.index, near.weights
    for row in range(len(x)):
        distances = [
            (math.dist(x[row].tolist(), t.tolist()), j) for j, t in enumerate(targets) if not (same and j == row)
        ]
        nearest = sorted(distances)[:5]
        assert [j for _, j in nearest] == index[row].tolist()
        raw = [math.exp(-((d / 0.2) ** 2)) for d, _ in nearest]
        np.testing.assert_allclose(weights[row].numpy(), np.array(raw) / sum(raw), rtol=1e-4)


def test_far_from_all_joints_weights_are_weights() -> None:
    """The kernel alone underflows here: 0 / 0."""
    near = graph.neighbours(points(3) + 100, points(20, 1), 8, 0.02)
    assert torch.isfinite(near.weights).all() and near.index.shape == (3, 8)
    np.testing.assert_allclose(near.weights.sum(1).numpy(), 1, rtol=1e-6)


def test_farthest_points_are_as_many_and_spread() -> None:
    x = points(400)
    chosen = graph.farthest(x, 50)
    assert len(set(chosen.tolist())) == 50 and chosen.tolist() == sorted(chosen.tolist())
    assert graph.mean_spacing(x[chosen]) > 1.5 * graph.mean_spacing(x[:50])
    assert len(graph.farthest(x, 500)) == 400


def rigid(n: int, seed: int = 2) -> torch.Tensor:
    g = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(g.normal(size=(n, 3)) * 0.3).as_matrix()
    return torch.tensor(np.concatenate([turn, g.normal(size=(n, 3, 1))], 2), dtype=torch.float32)


def test_skins_under_one_transform_move_rigidly() -> None:
    joints, skins = points(20), points(50, 1)
    anchors = graph.neighbours(skins, joints, 8, 0.1)
    transform = rigid(1)
    start = torch.nn.functional.normalize(points(50, 5).repeat(1, 2)[:, :4] - 0.5, dim=1)
    x, q = graph.warp(skins, start, transform.expand(20, 3, 4), anchors)
    turn, shift = transform[0, :, :3], transform[0, :, 3]
    torch.testing.assert_close(x, skins @ turn.T + shift, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rotation_matrices(q), turn @ rotation_matrices(start), rtol=1e-5, atol=1e-5)


def test_warp_against_a_loop() -> None:
    joints, skins = points(20), points(9, 1)
    anchors, transforms = graph.neighbours(skins, joints, 8, 0.1), rigid(20)
    x, q = graph.warp(skins, torch.tensor([1.0, 0, 0, 0]).repeat(9, 1), transforms, anchors)
    for i in range(9):
        blended = torch.stack([anchors.weights[i, k] * transforms[anchors.index[i, k]] for k in range(8)]).sum(0)
        torch.testing.assert_close(x[i], blended[:, :3] @ skins[i] + blended[:, 3])
        torch.testing.assert_close(q[i], graph.quaternion(blended[None, :, :3])[0])


def test_quaternion_of_any_rotation() -> None:
    """Also of half turns, where the trace formula of the paper ends."""
    g = np.random.default_rng(4)
    half = Rotation.from_rotvec(np.pi * np.eye(3))
    for rotation in (Rotation.from_quat(g.normal(size=(100, 4))), half):
        matrices = torch.tensor(rotation.as_matrix())
        q = graph.quaternion(matrices)
        torch.testing.assert_close(rotation_matrices(q), matrices, rtol=0, atol=1e-12)


def test_quaternion_is_the_trace_formula_for_means_of_rotations() -> None:
    turns = rigid(8)[:, :, :3].double()
    mean = turns.mean(0)
    w = 0.5 * (1 + mean.trace()).sqrt()
    x, y, z = (mean[2, 1] - mean[1, 2], mean[0, 2] - mean[2, 0], mean[1, 0] - mean[0, 1])
    trace = torch.stack([w, x / (4 * w), y / (4 * w), z / (4 * w)])
    torch.testing.assert_close(graph.quaternion(mean[None])[0], trace / trace.norm(), rtol=1e-9, atol=1e-9)


def test_gradients_of_the_warp() -> None:
    joints, skins = points(12).double(), points(5, 1).double()
    anchors = graph.neighbours(skins, joints, 4, 0.3)
    start = torch.nn.functional.normalize(points(5, 5).double().repeat(1, 2)[:, :4], dim=1)
    transforms = rigid(12).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: graph.warp(skins, start, t, anchors), (transforms,), atol=1e-6)
