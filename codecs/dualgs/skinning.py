"""Joints for a sequence that was fitted without any: chosen among its Gaussians, and moved as these move.

A fitted dual sequence brings its joints along. Any other sequence with a fixed number of Gaussians gets some here, so
that motion is told once for many Gaussians. Only an encoder needs this: what it finds is in the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import unit
from .rig import Pose, Rig, quaternions

__all__ = ["chosen_joints", "fitted_pose", "pose_of_matrices", "spacing_of"]

_PULL = 1e-3  # towards no rotation, in squared spacings of a whole weight


def chosen_joints(positions: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Positions of n joints (n, 3) that lie evenly: each next one is the Gaussian that is farthest from all before."""
    middle = np.median(positions, axis=0)
    radius = np.quantile(np.abs(positions - middle).max(1), 0.98) + 1e-9
    inside = positions[np.abs(positions - middle).max(1) <= 1.5 * radius]
    if len(inside) > 1 << 16:
        inside = inside[:: -(-len(inside) // (1 << 16))]
    n = min(n, len(inside))
    chosen = np.empty(n, np.int64)
    square = np.full(len(inside), np.inf)
    at = int(np.argmin(((inside - middle) ** 2).sum(1)))
    for index in range(n):
        chosen[index] = at
        square = np.minimum(square, ((inside - inside[at]) ** 2).sum(1))
        at = int(np.argmax(square))
    return inside[chosen].astype(np.float64)


def spacing_of(joints: NDArray[np.float64]) -> float:
    """The mean distance of a joint from its nearest neighbour; 1 for a single joint."""
    if len(joints) < 2:
        return 1.0
    nearest = np.empty(len(joints))
    for start in range(0, len(joints), 256):
        part = joints[start : start + 256]
        square = ((part[:, None] - joints[None]) ** 2).sum(2)
        square[np.arange(len(part)), np.arange(start, start + len(part))] = np.inf
        nearest[start : start + len(part)] = square.min(1)
    return max(float(np.sqrt(nearest).mean()), 1e-9)


def fitted_pose(rig: Rig, base: NDArray[np.float64], now: NDArray[np.float64], spacing: float) -> Pose:
    """The pose in which joints move as the Gaussians around them: weighted Procrustes for each joint.

    base, now: positions (N, 3) in the base frame and in this one.
    """
    n = len(rig.joints)
    joint, weight = rig.anchors.reshape(-1), rig.weights.reshape(-1)
    k = rig.anchors.shape[1]

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(joint, np.repeat(values, k) * weight, n), np.float64)

    total = np.bincount(joint, weight, n)
    safe = np.maximum(total, 1e-12)
    centre = np.stack([summed(base[:, axis]) for axis in range(3)], 1) / safe[:, None]
    moved = np.stack([summed(now[:, axis]) for axis in range(3)], 1) / safe[:, None]
    spread = np.empty((n, 3, 3))
    for a in range(3):
        for b in range(3):
            spread[:, a, b] = summed(now[:, a] * base[:, b]) - moved[:, a] * centre[:, b] * total
    spread += np.eye(3) * (_PULL * spacing * spacing * np.maximum(total, 1e-3))[:, None, None]
    u, _, v = np.linalg.svd(spread)
    sign = np.sign(np.linalg.det(u @ v))
    u[:, :, 2] *= np.where(sign == 0, 1.0, sign)[:, None]
    matrices = u @ v
    empty = total < 1e-9  # a joint that nothing follows stays with the middle of all
    positions = moved + np.einsum("jab,jb->ja", matrices, rig.joints - centre)
    positions[empty] = rig.joints[empty] + (now.mean(0) - base.mean(0))
    return Pose(_quaternions_of(matrices), positions)


def pose_of_matrices(matrices: NDArray[np.float64], joints: NDArray[np.float64]) -> Pose:
    """The pose of matrices (J, 3, 4) [R | t] from the base frame; R is brought to the nearest rotation.

    A joint goes where its matrix takes it, also where R isn't a rotation.
    """
    u, _, v = np.linalg.svd(matrices[:, :, :3])
    sign = np.sign(np.linalg.det(u @ v))
    u[:, :, 2] *= np.where(sign == 0, 1.0, sign)[:, None]
    positions = np.einsum("jab,jb->ja", matrices[:, :, :3], joints) + matrices[:, :, 3]
    return Pose(_quaternions_of(u @ v), positions)


def _quaternions_of(m: NDArray[Any]) -> NDArray[np.float64]:
    """The unit quaternions (J, 4) of rotation matrices (J, 3, 3)."""
    return unit(quaternions([np.ascontiguousarray(m[:, a, b]) for a in range(3) for b in range(3)]))
