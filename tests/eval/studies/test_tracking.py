"""The error of joints against a true surface, by cases that can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from codec.datasets.capture import Capture, CaptureConfig, make
from codec.eval.studies.tracking import main, tracking
from codec.media.gaussians import ply
from codec.media.gaussians.values import Gaussians


def surface() -> tuple[np.ndarray, np.ndarray]:
    """A bumpy sheet of triangles."""
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    vertices = np.stack([x, y, 0.2 * np.sin(3 * x) * np.cos(2 * y)], -1).reshape(-1, 3)
    corner = (np.arange(8)[:, None] * 9 + np.arange(8)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + 9], 1), np.stack([corner + 1, corner + 10, corner + 9], 1)]
    )
    return vertices, faces


def test_joints_that_follow_have_no_error() -> None:
    """Also those that lie beside the surface, when it turns."""
    vertices, faces = surface()
    joints = vertices[::3] + np.array([0.01, 0.02, 0.05])
    turns = [Rotation.from_rotvec([0.3 * t, -0.2 * t, 0.9 * t]) for t in range(4)]
    shifts = [np.array([t, 0.5 * t, -t]) for t in range(4)]
    moved = [np.stack([r.apply(x) + s for r, s in zip(turns, shifts, strict=True)]) for x in (joints, vertices)]
    result = tracking(moved[0], moved[1], faces)
    assert result.errors.shape == (4, len(joints)) and result.errors.max() < 1e-6
    assert not result.lost.any()


def test_joints_that_stay_behind() -> None:
    vertices, faces = surface()
    joints = vertices[::3]
    truth = np.stack([vertices + np.array([0.1 * t, 0, 0]) for t in range(3)])
    result = tracking(np.stack([joints] * 3), truth, faces)
    distances = np.linalg.norm(joints[:, None] - joints[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.isclose(result.spacing, distances.min(1).mean())
    np.testing.assert_allclose(result.mean, np.arange(3) * 0.1 / result.spacing, atol=1e-9)
    moved = np.stack([joints] * 3)
    moved[2, 0] += 100
    assert np.isclose(tracking(moved, np.stack([vertices] * 3), faces).lost[2], 1 / len(joints))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two fits of the figure of capsules: joints that follow exactly, and joints that stay."""
    make(CaptureConfig(body="walker", frames=3, views=2, size=16), tmp_path / "capture")
    truth = Capture.open(tmp_path / "capture").truth
    assert truth is not None
    for name, still in (("follows", False), ("stays", True)):
        (tmp_path / name / "joints").mkdir(parents=True)
        for frame in range(3):
            x = truth.vertices[0 if still else frame][truth.faces[::50]].mean(1)
            n = len(x)
            turned = np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1))
            joints = Gaussians(x, np.zeros_like(x), turned, np.zeros(n, np.float32), np.zeros((n, 1, 3), np.float32))
            (tmp_path / name / "joints" / f"{frame:04d}.ply").write_bytes(ply.write(joints))
        (tmp_path / name / "log.jsonl").write_text('{"psnr": 30.0}\n')
    folders = [str(tmp_path / name) for name in ("capture", "follows", "stays")]
    assert main([*folders, "--out", str(tmp_path / "out.json")]) == 0
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert max(results["follows"]["mean"]) < 1e-4 and results["stays"]["mean"][2] > 0.01
    assert results["follows"]["psnr"] == [30.0] and "stays" in capsys.readouterr().out
