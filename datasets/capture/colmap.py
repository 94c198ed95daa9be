"""Cameras of COLMAP's sparse models, as text and as binary: read for captures of others, written beside our own.

Format: colmap.github.io/format.html. Only PINHOLE and SIMPLE_PINHOLE: other lenses are to be undistorted first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ...errors import MediaError
from ...files import read_bytes
from .views import View

__all__ = ["read", "texts"]

_MODELS: Final = {0: "SIMPLE_PINHOLE", 1: "PINHOLE"}
_MAX_BYTES: Final = 1 << 30
_MAX_SIDE: Final = 1 << 14

Lens = tuple[int, int, tuple[float, float, float, float]]


def read(folder: Path) -> dict[str, View]:
    """The cameras of a sparse model by the names of their pictures, without folders. MediaError if it is damaged."""
    for suffix, lenses, poses in ((".txt", _text_lenses, _text_poses), (".bin", _binary_lenses, _binary_poses)):
        files = [folder / f"{name}{suffix}" for name in ("cameras", "images")]
        if all(file.is_file() for file in files):
            try:
                return _joined(lenses(read_bytes(files[0], _MAX_BYTES)), poses(read_bytes(files[1], _MAX_BYTES)))
            except MediaError as error:
                raise MediaError(f"{folder}: {error}") from None
            except (ValueError, IndexError, struct.error) as error:
                raise MediaError(f"{folder}: this COLMAP model is damaged: {error}") from None
    raise MediaError(f"{folder}: expected cameras.txt and images.txt, or cameras.bin and images.bin")


Pose = tuple[tuple[float, ...], tuple[float, ...], int, str]


def _joined(lenses: dict[int, Lens], poses: list[Pose]) -> dict[str, View]:
    views: dict[str, View] = {}
    for quaternion, translation, lens, file in poses:
        name = re.split(r"[/\\]", file)[-1]
        if lens not in lenses:
            raise MediaError(f"{file} was taken by camera {lens}, which isn't there")
        length = float(np.linalg.norm(quaternion))
        if not (np.isfinite([*quaternion, *translation]).all() and length > 1e-6):
            raise MediaError(f"the pose of {file} isn't a rotation and a place")
        if name in views:
            raise MediaError(f"two pictures are called {name}; expected one camera for each view")
        w, x, y, z = np.array(quaternion) / length
        matrix = np.eye(4)
        matrix[0, :3] = 1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)
        matrix[1, :3] = 2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)
        matrix[2, :3] = 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)
        matrix[:3, 3] = translation
        width, height, intrinsics = lenses[lens]
        views[name] = View(width, height, intrinsics, matrix)
    return views


def _lens(model: str, width: int, height: int, numbers: list[float]) -> Lens:
    if model not in _MODELS.values():
        raise MediaError(f"a camera of the model {model}: undistort the pictures (PINHOLE, SIMPLE_PINHOLE are read)")
    if model == "SIMPLE_PINHOLE":
        numbers = [numbers[0], *numbers]
    if len(numbers) != 4 or not np.isfinite(numbers).all() or min(numbers[:2]) <= 0:
        raise MediaError(f"a camera with the parameters {numbers}; expected fx, fy, cx, cy")
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise MediaError(f"a camera of {width}x{height}; expected sides of at most {_MAX_SIDE}")
    return width, height, (numbers[0], numbers[1], numbers[2], numbers[3])


def _text_lenses(data: bytes) -> dict[int, Lens]:
    rows = [line.split() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    rows = [row for row in rows if not row[0].startswith("#")]
    return {int(row[0]): _lens(row[1], int(row[2]), int(row[3]), [float(x) for x in row[4:]]) for row in rows}


def _text_poses(data: bytes) -> list[Pose]:
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if not line.startswith("#")]
    poses: list[Pose] = []
    for line in lines[::2]:  # every second line lists points, and may be empty
        row = line.split(maxsplit=9)
        if row:
            numbers = [float(x) for x in row[1:8]]
            poses.append((tuple(numbers[:4]), tuple(numbers[4:]), int(row[8]), row[9].strip()))
    return poses


def _binary_lenses(data: bytes) -> dict[int, Lens]:
    (n,) = struct.unpack_from("<Q", data)
    lenses, at = {}, 8
    for _ in range(n):  # each reads bytes, so that a large number ends with the file
        number, model, width, height = struct.unpack_from("<iiQQ", data, at)
        if model not in _MODELS:
            raise MediaError(f"a camera of model {model}: undistort the pictures (PINHOLE, SIMPLE_PINHOLE are read)")
        values = struct.unpack_from("<3d" if model == 0 else "<4d", data, at + 24)
        lenses[number] = _lens(_MODELS[model], width, height, list(values))
        at += 24 + 8 * len(values)
    return lenses


def _binary_poses(data: bytes) -> list[Pose]:
    (n,) = struct.unpack_from("<Q", data)
    poses: list[Pose] = []
    at = 8
    for _ in range(n):
        _, *numbers, lens = struct.unpack_from("<i7di", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode("utf-8", "replace")
        (n_points,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * n_points
        if at > len(data):
            raise MediaError("images.bin ends too early")
        poses.append((tuple(numbers[:4]), tuple(numbers[4:]), lens, name))
    return poses


def texts(views: Mapping[str, View]) -> dict[str, str]:
    """The files cameras.txt, images.txt and points3D.txt (empty) of a model with these cameras."""
    cameras, images = [], []
    for number, (name, view) in enumerate(views.items(), 1):
        numbers = " ".join(f"{value:.10g}" for value in view.intrinsics)
        cameras.append(f"{number} PINHOLE {view.width} {view.height} {numbers}\n")
        pose = [*_quaternion(view.world_to_camera[:3, :3]), *view.world_to_camera[:3, 3]]
        images.append(f"{number} {' '.join(f'{value:.12g}' for value in pose)} {number} {name}\n\n")
    return {"cameras.txt": "".join(cameras), "images.txt": "".join(images), "points3D.txt": ""}


def _quaternion(turn: np.ndarray) -> np.ndarray:
    """The quaternion w, x, y, z of a rotation: the eigenvector of Bar-Itzhack's matrix (2000)."""
    (a, b, c), (d, e, f), (g, h, i) = turn
    symmetric = np.array(
        [
            [a + e + i, h - f, c - g, d - b],
            [h - f, a - e - i, b + d, c + g],
            [c - g, b + d, e - a - i, f + h],
            [d - b, c + g, f + h, i - a - e],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    return quaternion if quaternion[0] >= 0 else -quaternion
