"""Pinhole cameras of a capture, and rings of them around its subject.

Axes of a camera are OpenCV's: x right, y down, z forward. Files of instant-NGP have OpenGL's: y up, z backward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError

__all__ = ["OPENGL", "View", "held_out", "ring"]

Array = NDArray[np.float64]

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # from the axes of OpenGL's camera to OpenCV's, and back
HELD_OUT = 6  # every so many views is kept for tests


@dataclass(frozen=True, eq=False)
class View:
    """A camera. intrinsics: fx, fy, cx, cy in pixels; the centre of the first pixel is at 0.5, 0.5.

    world_to_camera: (4, 4) float64, rigid.
    """

    width: int
    height: int
    intrinsics: tuple[float, float, float, float]
    world_to_camera: Array

    @property
    def centre(self) -> Array:
        """The place of the camera, (3,)."""
        return -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]

    @property
    def axis(self) -> Array:
        """The direction in which it looks, (3,), of length 1."""
        return self.world_to_camera[2, :3]

    def project(self, points: Array) -> Array:
        """Column, row (in pixels) and depth of points: (n, 3). Those behind the camera have a depth below 0."""
        seen = points @ self.world_to_camera[:3, :3].T + self.world_to_camera[:3, 3]
        fx, fy, cx, cy = self.intrinsics
        depth = np.where(np.abs(seen[:, 2]) < 1e-9, 1e-9, seen[:, 2])
        return np.stack([fx * seen[:, 0] / depth + cx, fy * seen[:, 1] / depth + cy, seen[:, 2]], 1)


def held_out(n_views: int) -> tuple[int, ...]:
    """The views that are kept for tests where nothing else is said: 1, 7, 13, ... counted from 0."""
    return tuple(range(1, n_views, HELD_OUT))


def ring(n_views: int, size: int, reach: float, n_rings: int = 2, focal: float = 1.2) -> list[View]:
    """Cameras on rings that look at the origin and see all within `reach` of it. focal: in widths of the picture.

    Views go around. Neighbours are on different rings, and so are the views that are held out.
    """
    if n_views < 2 or not 1 <= n_rings <= 3:
        raise UsageError(f"{n_views} views on {n_rings} rings; expected 2 views or more, on 1, 2 or 3 rings")
    half = np.arctan(0.5 / focal)
    distance = 1.02 * reach / np.sin(half)
    heights = {1: (0.15,), 2: (-0.05, 0.45), 3: (-0.15, 0.25, 0.7)}[n_rings]  # elevations, radians
    views = []
    for i in range(n_views):
        azimuth, elevation = 2 * np.pi * i / n_views, heights[(i + i // HELD_OUT) % n_rings]
        level = np.cos(elevation)
        eye = distance * np.array([level * np.sin(azimuth), np.sin(elevation), level * np.cos(azimuth)])
        views.append(_looking(eye, size, focal * size))
    return views


def _looking(eye: Array, size: int, focal: float) -> View:
    """A camera at a place that looks at the origin, y of the world up in its picture."""
    forward = -eye / np.linalg.norm(eye)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return View(size, size, (focal, focal, size / 2, size / 2), matrix)
