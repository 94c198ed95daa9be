"""Gaussians on the surface of a capture: they lie on it, turn with it, and are the same for the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from codec.datasets.capture import Truth
from codec.datasets.capture.skinned import skinned
from codec.errors import UsageError
from codec.media.gaussians.values import Gaussians


def rotation(quaternions: np.ndarray) -> np.ndarray:
    w, x, y, z = quaternions.astype(float).T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
        ],
        1,
    )


@pytest.fixture(scope="module")
def turning() -> tuple[Truth, np.ndarray]:
    """An octahedron that turns about an axis, and how it has turned in each frame."""
    corners = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    faces = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]
    angles = 0.5 * np.arange(4)
    axis = np.array([1.0, 2.0, -0.5])
    axis /= np.linalg.norm(axis)
    quaternions = np.concatenate([np.cos(angles / 2)[:, None], np.sin(angles / 2)[:, None] * axis], 1)
    turns = rotation(quaternions)
    vertices = (np.einsum("tij,vj->tvi", turns, corners) + np.arange(4)[:, None, None]).astype(np.float32)
    return Truth(vertices, np.array(faces, np.int32)), turns


def test_on_the_surface_and_with_it(turning: tuple[Truth, np.ndarray]) -> None:
    truth, turns = turning
    frames = list(skinned(truth, 300, degree=2, flicker=0))
    assert len(frames) == 4 and all(frame.harmonics.shape == (300, 9, 3) for frame in frames)
    rest = frames[0].positions.astype(float)
    np.testing.assert_allclose(np.abs(rest).sum(1), 1, atol=1e-5, err_msg="a point isn't on the octahedron")
    normals = np.sign(rest) / np.sqrt(3)
    for t, frame in enumerate(frames):
        np.testing.assert_allclose(frame.positions, rest @ turns[t].T + t, atol=1e-5)
        axes = rotation(frame.rotations)
        np.testing.assert_allclose(axes[:, :, 2], normals @ turns[t].T, atol=1e-4, err_msg="the thin axis isn't normal")
        assert (frame.scales[:, 2] < frame.scales[:, :2].mean(1)).all()
        assert np.array_equal(frame.scales, frames[0].scales)


def test_the_same_again(turning: tuple[Truth, np.ndarray]) -> None:
    def parts(frame: Gaussians) -> list[np.ndarray]:
        return [frame.positions, frame.scales, frame.rotations, frame.opacities, frame.harmonics]

    truth, _ = turning
    first, again = (list(skinned(truth, 50, frames=2, seed=3)) for _ in range(2))
    assert len(first) == 2
    for a, b in zip(first, again, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(parts(a), parts(b), strict=True))
    assert not np.array_equal(first[0].scales, first[1].scales)


def test_numbers_that_can_not_be(turning: tuple[Truth, np.ndarray]) -> None:
    for count, degree in ((0, 0), (5, 5), (5, -1)):
        with pytest.raises(UsageError, match="Gaussians of degree"):
            next(skinned(turning[0], count, degree))
