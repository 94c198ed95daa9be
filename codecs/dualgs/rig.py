"""Joints that move skins: nearest joints, their weights, and linear-blend skinning, the same on every machine.

Jiang et al. 2024, section 3: each skin Gaussian follows its 8 nearest joints with weights exp(-d^2 / l^2). Here encoder
and decoder find joints and weights from decoded positions, so that neither is in the file. All is elementwise float64
arithmetic and comparisons, in a fixed order, and so is the exponential function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...native import skinning
from .grid import unit

__all__ = ["NEIGHBOURS", "Pose", "Rig", "multiplied", "quaternions", "rotation_matrices"]

NEIGHBOURS = 8
_ROWS = 1 << 20  # distances that are held at once


@dataclass(frozen=True, eq=False)
class Pose:
    """The state of J joints. rotations: (J, 4) unit quaternions from the base frame; positions: (J, 3). float64."""

    rotations: NDArray[np.float64]
    positions: NDArray[np.float64]

    @staticmethod
    def rest(joints: NDArray[np.float64]) -> Pose:
        """The pose of the base frame, in which joints are at these positions (J, 3)."""
        rotations = np.zeros((len(joints), 4))
        rotations[:, 0] = 1.0
        return Pose(rotations, joints)


@dataclass(frozen=True, eq=False)
class Rig:
    """The joints that each skin Gaussian follows.

    joints: (J, 3) in the base frame. anchors: (N, k) indices of the nearest, nearest first. weights: (N, k), their sum
    is 1 but for rounding.
    """

    joints: NDArray[np.float64]
    anchors: NDArray[np.int64]
    weights: NDArray[np.float64]

    @staticmethod
    def of(joints: NDArray[np.float64], skins: NDArray[np.float64], length: float) -> Rig:
        """The rig of joints (J, 3) and skins (N, 3) in the base frame. length: l, at which a weight falls to 1 / e."""
        n_near = min(NEIGHBOURS, len(joints))
        nearest = skinning.anchors if skinning.usable() else _nearest
        anchors, squares = nearest(np.ascontiguousarray(joints), np.ascontiguousarray(skins), n_near)
        weights = _exp(-(squares - squares[:, :1]) / (length * length))
        total = weights[:, 0].copy()
        for k in range(1, n_near):
            total += weights[:, k]
        return Rig(joints, anchors, weights / total[:, None])

    def warp(
        self, pose: Pose, positions: NDArray[np.float64], rotations: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The positions (N, 3) and the unit quaternions (N, 4) of skins in a pose, from those of the base frame."""
        parts = self.matrices(pose)
        if skinning.usable():
            matrices = np.ascontiguousarray(np.stack(parts, 1))
            rows = np.ascontiguousarray(positions), np.ascontiguousarray(rotations)
            return skinning.warp(matrices, self.anchors, self.weights, *rows)
        return self.warp_plainly(parts, positions, rotations)

    def warp_plainly(
        self, parts: list[NDArray[np.float64]], positions: NDArray[np.float64], rotations: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The twin of `native.skinning.warp`, in NumPy. parts: of the joints' matrices, 12 arrays (J,)."""
        blended = [np.zeros(len(self.anchors)) for _ in parts]
        for k in range(self.anchors.shape[1]):
            anchor, weight = self.anchors[:, k], np.ascontiguousarray(self.weights[:, k])
            for total, part in zip(blended, parts, strict=True):
                total += part[anchor] * weight
        x, y, z = (np.ascontiguousarray(positions[:, axis]) for axis in range(3))
        moved = np.empty_like(positions)
        for axis in range(3):
            a, b, c, t = blended[4 * axis : 4 * axis + 4]
            moved[:, axis] = ((a * x + b * y) + c * z) + t
        turned = quaternions([blended[4 * row + column] for row in range(3) for column in range(3)])
        return moved, unit(multiplied(turned, rotations))

    def matrices(self, pose: Pose) -> list[NDArray[np.float64]]:
        """The 12 numbers of each joint's matrix [A | t], row by row: arrays (J,)."""
        matrices = rotation_matrices(pose.rotations)  # 9 arrays (J,)
        p, rest = pose.positions, self.joints
        parts: list[NDArray[np.float64]] = []
        for axis in range(3):
            a, b, c = matrices[3 * axis : 3 * axis + 3]
            parts += [a, b, c, p[:, axis] - ((a * rest[:, 0] + b * rest[:, 1]) + c * rest[:, 2])]
        return parts


def _nearest(
    joints: NDArray[np.float64], skins: NDArray[np.float64], n_near: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The twin of `native.skinning.anchors`, in NumPy."""
    anchors = np.empty((len(skins), n_near), np.int64)
    squares = np.empty((len(skins), n_near))
    at_once = max(1, _ROWS // len(joints))
    for start in range(0, len(skins), at_once):
        part = skins[start : start + at_once]
        distance = _squares(part, joints)
        rows = np.arange(len(part))
        for k in range(n_near):
            nearest = np.argmin(distance, axis=1)  # of equal ones the first
            anchors[start : start + at_once, k] = nearest
            squares[start : start + at_once, k] = distance[rows, nearest]
            distance[rows, nearest] = np.inf
    return anchors, squares


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squared distances (n, m) of points."""
    total = np.zeros((len(a), len(b)))
    for axis in range(3):
        difference = a[:, axis, None] - b[None, :, axis]
        difference *= difference
        total += difference
    return total


def multiplied(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The products of quaternions (N, 4): first b, then a."""
    w, x, y, z = (a[:, i] for i in range(4))
    bw, bx, by, bz = (b[:, i] for i in range(4))
    out = np.empty_like(a)
    out[:, 0] = (w * bw - x * bx) - (y * by + z * bz)
    out[:, 1] = (w * bx + x * bw) + (y * bz - z * by)
    out[:, 2] = (w * by + y * bw) + (z * bx - x * bz)
    out[:, 3] = (w * bz + z * bw) + (x * by - y * bx)
    return out


def rotation_matrices(q: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The nine numbers of the matrices of unit quaternions (J, 4), row by row: arrays (J,)."""
    w, x, y, z = (np.ascontiguousarray(q[:, i]) for i in range(4))
    xx, yy, zz = x * x, y * y, z * z
    xy, xz, yz, wx, wy, wz = x * y, x * z, y * z, w * x, w * y, w * z
    return [
        *(1.0 - 2.0 * (yy + zz), 2.0 * (xy - wz), 2.0 * (xz + wy)),
        *(2.0 * (xy + wz), 1.0 - 2.0 * (xx + zz), 2.0 * (yz - wx)),
        *(2.0 * (xz - wy), 2.0 * (yz + wx), 1.0 - 2.0 * (xx + yy)),
    ]


def quaternions(m: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The quaternions (N, 4) of matrices that are nearly rotations: of four formulas the one with the largest root."""
    squares = np.stack(
        [
            1.0 + ((m[0] + m[4]) + m[8]),
            1.0 + ((m[0] - m[4]) - m[8]),
            1.0 + ((m[4] - m[0]) - m[8]),
            1.0 + ((m[8] - m[0]) - m[4]),
        ],
        1,
    )
    # Products of two components, times 4: row i holds those with component i.
    wx, wy, wz = m[7] - m[5], m[2] - m[6], m[3] - m[1]
    xy, xz, yz = m[1] + m[3], m[2] + m[6], m[5] + m[7]
    w, x, y, z = (squares[:, i] for i in range(4))
    products = np.stack([w, wx, wy, wz, wx, x, xy, xz, wy, xy, y, yz, wz, xz, yz, z], 1).reshape(-1, 4, 4)
    return unit(products[np.arange(len(products)), np.argmax(squares, 1)])


_LOG2_E = 1.4426950408889634
_LN2 = 0.6931471805599453
_TERMS = 14


def _exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The exponential of numbers up to 0, from a series that every machine adds in the same way."""
    x = np.maximum(x, -700.0)
    whole = np.rint(x * _LOG2_E)
    rest = x - whole * _LN2
    out = np.ones_like(x)
    for k in range(_TERMS, 0, -1):
        out = 1.0 + out * (rest / k)
    return np.ldexp(out, whole.astype(np.int64))
