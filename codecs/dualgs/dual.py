"""The joints of a sequence and their poses: those that were fitted, or ones that are chosen here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ...files import naming, read_bytes
from ...media.gaussians.sources import read_gaussians
from ...media.gaussians.values import Gaussians
from ..base.gaussians.codec import FrameSource
from .grid import Grid, Levels
from .rig import Pose, Rig
from .skinning import chosen_joints, fitted_pose, pose_of_matrices, spacing_of

__all__ = ["PoseOf", "joints_and_poses"]

PoseOf = Callable[[int, Gaussians, Rig, NDArray[np.int64]], Pose]  # of a frame: index, values, rig, order of joints

_PER_JOINT = 24  # Gaussians, where joints are chosen
_MOST_JOINTS = 4096
_REACH = 1.5  # of a joint, in spacings
_MOST_BYTES = 1 << 31


def joints_and_poses(source: FrameSource, grid: Grid, levels: Levels) -> tuple[NDArray[np.int32], float, float, PoseOf]:
    """The positions of joints in steps (J, 3), the length of their weights, their spacing, and their poses by frame."""
    if source.dual is not None:
        return _of_fit(source.dual, source.n_frames, grid)
    positions = levels.position * grid.position
    n_joints = min(_MOST_JOINTS, max(1, len(positions) // _PER_JOINT))
    joints = np.rint(chosen_joints(positions, n_joints) / grid.position).astype(np.int32)
    joints = np.unique(joints, axis=0)
    spacing = spacing_of(joints * grid.position)

    first = source.frame(0)

    def pose(index: int, frame: Gaussians, rig: Rig, order: NDArray[np.int64]) -> Pose:
        del index, order
        key = id(rig)
        if key not in kept:  # the rows of the frames lie as in the input, those of the rig as in the stream
            kept[key] = Rig.of(rig.joints, first.positions.astype(np.float64), _REACH * spacing)
        return fitted_pose(kept[key], first.positions.astype(np.float64), frame.positions.astype(np.float64), spacing)

    kept: dict[int, Rig] = {}
    return joints, _REACH * spacing, spacing, pose


def _of_fit(folder: Path, n_frames: int, grid: Grid) -> tuple[NDArray[np.int32], float, float, PoseOf]:
    from safetensors.numpy import load

    joints = read_gaussians(folder / "joints", 0).positions.astype(np.float64)
    path = folder / "motion.safetensors"
    with naming(path):
        try:
            matrices: Any = load(read_bytes(path, _MOST_BYTES))["rotation_translation"]
        except MediaError:
            raise
        except Exception as error:  # the library's boundary
            raise MediaError(f"no motion of joints in it ({str(error)[:80]})") from None
        if matrices.shape != (n_frames, len(joints), 3, 4) or not np.isfinite(matrices).all():
            raise MediaError(
                f"motion of shape {matrices.shape}; expected {(n_frames, len(joints), 3, 4)} of finite numbers"
            )
    about = json.loads(read_bytes(folder / "dual.json", 1 << 20))
    spacing = spacing_of(joints)
    length = about.get("length")
    length = float(length) if isinstance(length, (int, float)) and length > 0 else _REACH * spacing
    levels = np.rint(joints / grid.position).astype(np.int32)

    def pose(index: int, frame: Gaussians, rig: Rig, order: NDArray[np.int64]) -> Pose:
        del frame, rig
        fitted = pose_of_matrices(matrices[index].astype(np.float64), joints)
        return Pose(fitted.rotations[order], fitted.positions[order])

    return levels, length, spacing, pose
