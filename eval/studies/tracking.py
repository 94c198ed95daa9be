"""Do joints follow the true motion of a synthetic capture? With and without rigidity, and without the coarse stage.

    python -P -m codec.train.dualgs.ablation CAPTURE --recipe small --frames 16 --out runs/tracking
    python -P -m codec.eval.studies.tracking CAPTURE runs/tracking/* --out tracking.json

A joint hangs on the triangle of the true surface whose centre is nearest to it in frame 0, in that triangle's own
axes, so it turns with it. Its error in a later frame is the distance from there, in units of the mean spacing of joints
in frame 0.
Results are a table, and JSON in --out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ...datasets.capture import Capture
from ...errors import MediaError
from ...media.gaussians import ply

__all__ = ["Tracking", "main", "read_joints", "tracking"]

Points = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Tracking:
    """The error of each joint in each frame, (T, J), in units of `spacing`, the mean distance of joints in frame 0."""

    errors: NDArray[np.float64]
    spacing: float

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean error of each frame, (T,)."""
        return self.errors.mean(1)

    @property
    def lost(self) -> NDArray[np.float64]:
        """The share of joints whose error is more than the spacing, in each frame, (T,)."""
        return (self.errors > 1).mean(1)


def tracking(joints: Points, vertices: Points, faces: NDArray[np.integer]) -> Tracking:
    """Compares joints (T, J, 3) with the true surface: vertices (T, V, 3), faces (F, 3)."""
    face = faces[KDTree(vertices[0][faces].mean(1)).query(joints[0])[1]]
    origin, axes = _frames_of(vertices[0][face])
    local = np.einsum("nji,nj->ni", axes, joints[0] - origin)
    spacing = float(KDTree(joints[0]).query(joints[0], k=2)[0][:, 1].mean())
    errors = []
    for at, surface in zip(joints, vertices, strict=True):
        origin, axes = _frames_of(surface[face])
        truth = origin + np.einsum("nij,nj->ni", axes, local)
        errors.append(np.linalg.norm(at - truth, axis=1) / spacing)
    return Tracking(np.stack(errors), spacing)


def _frames_of(corners: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The centre of each triangle (N, 3, 3) and its axes, the columns of (N, 3, 3)."""
    corners = corners.astype(np.float64)
    first = corners[:, 1] - corners[:, 0]
    normal = np.cross(first, corners[:, 2] - corners[:, 0])
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return corners.mean(1), np.stack((first, np.cross(normal, first), normal), 2)


def read_joints(folder: Path) -> NDArray[np.float32]:
    """The positions of joints in all frames of a fit, (T, J, 3)."""
    return np.stack([ply.read(path.read_bytes())[0].positions for path in sorted((folder / "joints").glob("*.ply"))])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="codec.eval.studies.tracking", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("capture", type=Path, help="folder of a synthetic capture")
    parser.add_argument("fits", nargs="+", type=Path, help="folders of fits to it")
    parser.add_argument("--frames", type=int, help="only the first ones")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    args = parser.parse_args(argv)
    truth = Capture.open(args.capture).truth
    if truth is None:
        raise MediaError(f"{args.capture} has no truth.safetensors: tracking is measured on synthetic captures")
    results = {}
    for folder in args.fits:
        joints = read_joints(folder)[: args.frames]
        result = tracking(joints, truth.vertices[: len(joints)], truth.faces)
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        results[folder.name] = {"mean": result.mean.tolist(), "lost": result.lost.tolist(), "spacing": result.spacing}
        results[folder.name] |= {key: [row.get(key) for row in rows] for key in ("psnr", "held_out_psnr")}
        shown = " ".join(f"{value:.2f}" for value in result.mean[:: max(1, len(joints) // 8)])
        print(f"{folder.name:25} {shown}  last {result.mean[-1]:.2f}, lost {100 * result.lost[-1]:.1f} %")
    args.out.write_text(json.dumps({"capture": args.capture.name, "results": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
