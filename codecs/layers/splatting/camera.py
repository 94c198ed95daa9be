"""Pinhole cameras in the axes of OpenCV (x right, y down, z forward): look-at, orbits, and `transforms.json`.

The file is that of instant-NGP: `transform_matrix` maps a camera to the world in the axes of OpenGL (y up, z backward),
`fl_x`, `fl_y`, `cx`, `cy`, `w` and `h` are in pixels. The centre of the top left pixel is at (0.5, 0.5).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import MediaError, UsageError

__all__ = ["MOST_PIXELS", "Camera", "from_transforms", "look_at", "orbit", "read_transforms"]

MOST_PIXELS = 1 << 28  # of an image: 3 GiB as float32
_MOST_BYTES = 1 << 26  # of a transforms.json
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # between the axes of OpenGL and of OpenCV

Vector = Sequence[float] | NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera.

    width, height: in pixels. intrinsics: fx, fy, cx, cy in pixels. world_to_camera: (4, 4), OpenCV axes: x right,
    y down, z forward. UsageError for what can't be a camera.
    """

    width: int
    height: int
    intrinsics: tuple[float, float, float, float]
    world_to_camera: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.width * self.height > MOST_PIXELS:
            raise UsageError(f"a camera of {self.width}x{self.height} pixels; expected 1x1 up to {MOST_PIXELS} pixels")
        fx, fy, cx, cy = self.intrinsics
        if not all(map(math.isfinite, self.intrinsics)) or fx <= 0 or fy <= 0:
            raise UsageError(f"intrinsics {fx:g}, {fy:g}, {cx:g}, {cy:g}; expected finite numbers, fx and fy above 0")
        matrix = np.asarray(self.world_to_camera, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise UsageError(f"world_to_camera of shape {matrix.shape}; expected (4, 4) finite numbers")
        if not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-3):
            raise UsageError("world_to_camera scales or shears; expected a rotation and a translation")
        object.__setattr__(self, "world_to_camera", matrix)

    @property
    def centre(self) -> NDArray[np.float64]:
        """The place of the camera in the world: (3,)."""
        rotation, translation = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return -rotation.T @ translation

    def resized(self, width: int, height: int) -> Camera:
        """The same view in other pixels: the whole of it fits, and is in the middle."""
        if width < 1 or height < 1:
            raise UsageError(f"a size of {width}x{height} pixels; expected at least 1x1")
        factor = min(width / self.width, height / self.height)
        fx, fy, cx, cy = (factor * value for value in self.intrinsics)
        cx += (width - factor * self.width) / 2
        cy += (height - factor * self.height) / 2
        return Camera(width, height, (fx, fy, cx, cy), self.world_to_camera)


def look_at(
    eye: Vector, target: Vector, width: int, height: int, *, fov: float = 40.0, up: Vector = (0.0, 1.0, 0.0)
) -> Camera:
    """A camera at `eye` that has `target` in its middle; `up` of the world points up in the image.

    fov: degrees that the shorter side of the image sees.
    """
    if not 0 < fov < 180:
        raise UsageError(f"a field of view of {fov:g} degrees; expected more than 0 and less than 180")
    place, goal, above = (np.asarray(vector, np.float64) for vector in (eye, target, up))
    forward = _unit(goal - place, "a camera looks at its own place")
    right = np.cross(forward, _unit(above, "no direction is up"))
    if np.linalg.norm(right) < 1e-6:  # straight up or down: any direction may be right
        right = np.cross(forward, np.eye(3)[int(np.argmin(np.abs(forward)))])
    right = _unit(right, "no direction is right")
    matrix = np.eye(4)
    matrix[:3, :3] = right, np.cross(forward, right), forward
    matrix[:3, 3] = -matrix[:3, :3] @ place
    focal = min(width, height) / 2 / math.tan(math.radians(fov) / 2)
    return Camera(width, height, (focal, focal, width / 2, height / 2), matrix)


def orbit(
    centre: Vector,
    radius: float,
    n: int,
    width: int,
    height: int,
    *,
    fov: float = 40.0,
    elevation: float = 10.0,
    up: Vector = (0.0, 1.0, 0.0),
    start: float = 0.0,
) -> tuple[Camera, ...]:
    """The n cameras of one turn around `centre`: they look at it from `radius` away, `elevation` degrees above it.

    The first is in front: on the axis z, or -z where y points down; on -y where z is up. start: degrees of the first.
    """
    if n < 1 or not radius > 0 or not math.isfinite(radius):
        raise UsageError(f"an orbit of {n} cameras at a radius of {radius:g}; expected at least 1, above 0")
    above = _unit(np.asarray(up, np.float64), "no direction is up")
    front = _front(above)
    side = np.cross(above, front)
    middle = np.asarray(centre, np.float64)
    rise = math.radians(elevation)
    cameras = []
    for index in range(n):
        angle = math.radians(start) + 2 * math.pi * index / n
        level = math.cos(angle) * front + math.sin(angle) * side
        eye = middle + radius * (math.cos(rise) * level + math.sin(rise) * above)
        cameras.append(look_at(eye, middle, width, height, fov=fov, up=above))
    return tuple(cameras)


def _front(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction, level, from which a subject is seen from its front by custom: z if y is up, -z if y is down."""
    axis = np.array([0.0, -1.0, 0.0]) if abs(up[2]) > 0.7 else np.array([0.0, 0.0, 1.0 if up[1] >= 0 else -1.0])
    return _unit(axis - up * (axis @ up), "no direction is level")


def _unit(vector: NDArray[np.float64], problem: str) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector)) if vector.shape == (3,) else 0.0
    if not length > 0 or not math.isfinite(length):
        raise UsageError(f"{problem}; expected three finite numbers that aren't all 0")
    return vector / length


def read_transforms(path: str | PathLike[str]) -> tuple[Camera, ...]:
    """The cameras of a file `transforms.json`, in the order of its frames. MediaError if it isn't such a file."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}; expected a transforms.json of cameras") from None
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES} bytes")
        return from_transforms(json.loads(data))
    except (ValueError, RecursionError, MediaError) as error:
        raise MediaError(f"{path}: not a transforms.json of cameras: {error}") from None


def from_transforms(transforms: Mapping[str, Any]) -> tuple[Camera, ...]:
    """The cameras of the content of a `transforms.json` of instant-NGP, in the order of its frames.

    A frame's own `fl_x`, `w` ... go before those of the whole file. Without `cx` and `cy` the middle is taken, without
    `fl_x` the angle `camera_angle_x`. MediaError if something is missing or can't be.
    """
    frames = transforms.get("frames") if isinstance(transforms, Mapping) else None
    if not isinstance(frames, list) or not frames:
        raise MediaError("it has no list of `frames`; expected the keys of instant-NGP")
    cameras = []
    for index, frame in enumerate(frames):
        if not isinstance(frame, Mapping):
            raise MediaError(f"frame {index} is no object of keys; expected `transform_matrix` and more")
        try:
            cameras.append(_camera_of({**transforms, **frame}))
        except (UsageError, ValueError, TypeError, KeyError, OverflowError, np.linalg.LinAlgError) as error:
            words = f"it lacks the key {error}" if isinstance(error, KeyError) else error
            raise MediaError(f"frame {index}: {words}") from None
    return tuple(cameras)


def _camera_of(keys: Mapping[str, Any]) -> Camera:
    width, height = int(keys["w"]), int(keys["h"])
    if "fl_x" in keys:
        fx = float(keys["fl_x"])
    else:
        fx = width / 2 / math.tan(float(keys["camera_angle_x"]) / 2)
    fy = float(keys.get("fl_y", fx))
    cx, cy = float(keys.get("cx", width / 2)), float(keys.get("cy", height / 2))
    matrix = np.array(keys["transform_matrix"], np.float64)
    if matrix.shape == (3, 4):
        matrix = np.concatenate([matrix, [[0.0, 0.0, 0.0, 1.0]]])
    if matrix.shape != (4, 4):
        raise ValueError(f"a transform_matrix of shape {matrix.shape}; expected (4, 4)")
    return Camera(width, height, (fx, fy, cx, cy), np.linalg.inv(matrix @ _FLIP))
