"""Captures of a performance by many cameras as they lie on disk: the layout of DualGS and HiFi4G.

    image_white/%d/%d.png              frame / view, the subject on white, counted from 0
    image_white/%d/transforms.json     instant-NGP's: file_path, transform_matrix (camera to world, OpenGL's axes),
                                       fl_x, fl_y, cx, cy, w, h; or a single one beside the frames, or at the root
    image_white_undistortion/%d/%d.png with colmap/sparse/0 (PINHOLE or SIMPLE_PINHOLE), where there are no transforms
    capture.json, truth.safetensors    of captures that are made here: frames per second, views for tests, true motion

Sources: Jiang et al., "Robust Dual Gaussian Splatting", arXiv 2409.08353, and the descriptions of its data sets.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, UsageError
from ...files import read_bytes
from . import colmap
from .views import OPENGL, View, held_out

__all__ = ["FPS", "Capture", "Truth", "read_image"]

FPS: Final = 30.0  # of captures that don't say
MAX_SIDE: Final = 1 << 14
_FOLDERS: Final = ("image_white", "image_white_undistortion")
_MAX_JSON: Final = 1 << 26


@dataclass(frozen=True, eq=False)
class Truth:
    """The true surface of a synthetic capture: the same vertices in each frame. vertices: (T, V, 3). faces: (F, 3)."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Capture:
    """A capture on disk. folder: its root. frames: the folder of each. names: the file of each view in them.

    cameras: in the order of the views. held_out: the views that are for tests alone. source: of the cameras,
    "transforms.json" or "colmap".
    """

    folder: Path
    frames: tuple[Path, ...]
    names: tuple[str, ...]
    cameras: tuple[View, ...]
    held_out: tuple[int, ...]
    fps: float
    source: str = "transforms.json"
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], held_out: Sequence[int] | None = None) -> Capture:
        """The capture in a folder. MediaError says what is wrong with one that can't be read.

        held_out: views that are for tests, in place of those that capture.json names (or every sixth: 1, 7, 13, ...).
        """
        root = Path(folder)
        if not root.is_dir():
            raise MediaError(f"{root}: no such folder; expected one that holds image_white/0/0.png and so on")
        images, frames = _frames(root)
        about = _about(root)
        named = _cameras(root, images, frames)
        capture = cls(root, frames, tuple(named.names), tuple(named.views), (), FPS, named.source, about)
        fps = about.get("fps", FPS)
        if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps <= 1000:
            raise MediaError(f"{root / 'capture.json'}: fps {fps!r}; expected a number above 0")
        chosen = _chosen(len(named.views), about.get("held_out") if held_out is None else held_out)
        return replace(capture, fps=float(fps), held_out=chosen)

    @property
    def n_frames(self) -> int:
        return len(self.frames)

    @property
    def n_views(self) -> int:
        return len(self.cameras)

    @property
    def training(self) -> tuple[int, ...]:
        """The views that aren't held out."""
        return tuple(view for view in range(self.n_views) if view not in self.held_out)

    def path(self, frame: int, view: int) -> Path:
        """The place of the picture of a view. UsageError if there is no such frame or view."""
        if not (0 <= frame < self.n_frames and 0 <= view < self.n_views):
            words = f"{self.n_frames} frames and {self.n_views} views, counted from 0"
            raise UsageError(f"no frame {frame}, view {view}: {self.folder} has {words}")
        return self.frames[frame] / self.names[view]

    def image(self, frame: int, view: int) -> NDArray[np.uint8]:
        """The picture of a view, (H, W, 3); transparent pixels are white. MediaError if it isn't as its camera says."""
        path, camera = self.path(frame, view), self.cameras[view]
        pixels = read_image(path)
        if pixels.shape[:2] != (camera.height, camera.width):
            has = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise MediaError(f"{path} is {has}, but its camera is {camera.width}x{camera.height}: scale one of them")
        return pixels

    @cached_property
    def truth(self) -> Truth | None:
        """The true motion of a synthetic capture; None of others. MediaError if its file is damaged."""
        path = self.folder / "truth.safetensors"
        if not path.is_file():
            return None
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
            vertices, faces = arrays["vertices"], arrays["faces"]
        except (SafetensorError, KeyError, OSError, ValueError) as error:
            raise MediaError(f"{path} is damaged: {error}") from None
        is_mesh = vertices.ndim == 3 and vertices.shape[2] == 3 and faces.ndim == 2 and faces.shape[1] == 3
        if not is_mesh or vertices.dtype != np.float32 or faces.dtype != np.int32:
            raise MediaError(f"{path}: expected vertices (T, V, 3) float32 and faces (F, 3) int32")
        if faces.size and not 0 <= faces.min() <= faces.max() < vertices.shape[1]:
            raise MediaError(f"{path}: a face of a vertex that isn't there")
        return Truth(vertices, faces)


def read_image(path: Path) -> NDArray[np.uint8]:
    """A picture, (H, W, 3), transparent pixels white. MediaError if it can't be read, or has another depth."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            if max(picture.size) > MAX_SIDE:
                raise MediaError(f"{path} is {picture.width}x{picture.height}; expected sides of at most {MAX_SIDE}")
            if picture.mode.startswith(("I", "F")):
                raise MediaError(f"{path} has more than 8 bits a channel; expected 8")
            if not picture.has_transparency_data:
                return np.asarray(picture.convert("RGB"))
            layers = np.asarray(picture.convert("RGBA")).astype(np.float32)
    except FileNotFoundError:
        raise MediaError(f"{path} is missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path} can't be read: {error}") from None
    alpha = layers[:, :, 3:] / 255
    return np.rint(layers[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


# ---- frames


def _frames(root: Path) -> tuple[Path, tuple[Path, ...]]:
    """The folder of the pictures, and in it the folder of each frame, 0 first."""
    images = next((root / name for name in _FOLDERS if (root / name).is_dir()), root)
    folders = [path for path in images.iterdir() if path.is_dir()]
    numbered = sorted((int(path.name), path.name, path) for path in folders if re.fullmatch(r"[0-9]{1,9}", path.name))
    if not numbered:
        words = f"the folders in it are {', '.join(sorted(p.name for p in folders)[:4])}" if folders else "it is empty"
        hint = "; if they are cameras, turn them around: a folder for each frame, in it a picture of each camera"
        expected = f"expected a folder for each frame, {images.name}/0, {images.name}/1 and so on"
        raise MediaError(f"{images}: {expected}, but {words}{hint if folders else ''}")
    numbers = [number for number, *_ in numbered]
    if numbers != list(range(len(numbers))):
        missing = next(n for n in range(len(numbers) + 1) if n not in numbers)
        words = f"folder {missing} is missing ({numbers[0]} to {numbers[-1]} are {len(numbers)} folders)"
        raise MediaError(f"{images}: frames are counted from 0 without gaps, but {words}: rename them")
    return images, tuple(path for *_, path in numbered)


def _about(root: Path) -> Mapping[str, Any]:
    path = root / "capture.json"
    return read_json(path) if path.is_file() else {}


def _chosen(n_views: int, views: Any) -> tuple[int, ...]:
    if views is None:
        return held_out(n_views)
    if not isinstance(views, (list, tuple)) or not all(type(v) is int and 0 <= v < n_views for v in views):
        raise MediaError(f"views {views!r} are held out; expected numbers of views, 0 to {n_views - 1}")
    return tuple(sorted(set(views)))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. MediaError if it isn't one."""
    data = read_bytes(path, _MAX_JSON)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MediaError(f"{path} isn't JSON: {error}") from None
    if not isinstance(value, dict):
        raise MediaError(f"{path}: expected an object, {{...}}")
    return value


# ---- cameras


@dataclass(frozen=True)
class _Named:
    names: list[str]
    views: list[View]
    source: str


def _cameras(root: Path, images: Path, frames: tuple[Path, ...]) -> _Named:
    """The views of a capture, by the number in the names of their pictures."""
    places = (root, images, frames[0])
    transforms = next((p / "transforms.json" for p in places if (p / "transforms.json").is_file()), None)
    if transforms is not None:
        views, source = read_transforms(transforms), "transforms.json"
    else:
        model = next((p / "colmap/sparse/0" for p in places if (p / "colmap/sparse/0").is_dir()), None)
        if model is None:
            words = f"expected {frames[0] / 'transforms.json'}, one at {root}, or {root / 'colmap/sparse/0'}"
            raise MediaError(f"{root}: no cameras: {words}")
        views, source = colmap.read(model), "colmap"
    suffix = next((path.suffix for path in sorted(frames[0].iterdir()) if path.suffix.lower() in (".png", ".jpg")), "")
    named = {name if Path(name).suffix else name + suffix: view for name, view in views.items()}
    names = sorted(named, key=lambda name: (_number(name), name))
    if not names:
        raise MediaError(f"{transforms or root}: no camera in it")
    return _Named(names, [named[name] for name in names], source)


def _number(name: str) -> int:
    digits = re.findall(r"[0-9]{1,9}", Path(name).stem)
    return int(digits[-1]) if digits else -1


def read_transforms(path: Path) -> dict[str, View]:
    """The cameras of instant-NGP's transforms.json by the names of their pictures, without folders."""
    table = read_json(path)
    entries = table.get("frames")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise MediaError(f'{path}: expected "frames", a list of cameras')
    views: dict[str, View] = {}
    for entry in entries:
        file = entry.get("file_path")
        if not isinstance(file, str) or not file:
            raise MediaError(f'{path}: a camera without "file_path"')
        name = re.split(r"[/\\]", file)[-1]
        if name in ("", ".", ".."):
            raise MediaError(f"{path}: {file!r} names no picture")
        view = _view(path, name, {**table, **entry})
        other = views.setdefault(name, view)
        if not np.allclose(other.world_to_camera, view.world_to_camera, atol=1e-6):
            words = "expected one camera for each view: cameras that move aren't read"
            raise MediaError(f"{path}: two cameras for {name}; {words}")
    return views


def _view(path: Path, name: str, entry: dict[str, Any]) -> View:
    def number(key: str, default: float | None = None) -> float:
        value = entry.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise MediaError(f"{path}: {key} of {name} is {value!r}; expected a number")
        return float(value)

    bent = [key for key in ("k1", "k2", "k3", "k4", "p1", "p2") if number(key, 0.0) != 0]
    if bent:
        words = "undistort the pictures first, and take those values out"
        raise MediaError(f"{path}: the lens of {name} is bent ({', '.join(bent)} aren't 0): {words}")
    width, height = number("w"), number("h")
    if width != int(width) or height != int(height) or not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise MediaError(f"{path}: {name} is {width:g}x{height:g}; expected whole numbers, at most {MAX_SIDE}")
    if "fl_x" in entry:
        fx = number("fl_x")
        fy = number("fl_y", fx)
    else:
        angle = number("camera_angle_x")
        fx = fy = 0.5 * width / math.tan(angle / 2) if 0 < angle < 3.14 else -1.0
    if fx <= 0 or fy <= 0:
        raise MediaError(f"{path}: the focal length of {name} is {fx:g}, {fy:g}; expected pixels, above 0")
    try:
        matrix = np.array(entry.get("transform_matrix"), float)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape == (3, 4):
        matrix = np.concatenate([matrix, [[0, 0, 0, 1]]])
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise MediaError(f"{path}: transform_matrix of {name} isn't 4 x 4 numbers")
    turn = matrix[:3, :3]
    if not np.allclose(turn.T @ turn, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        words = "isn't a rotation: it is scaled, sheared or mirrored"
        raise MediaError(f"{path}: transform_matrix of {name} {words}; expected camera to world, OpenGL's axes")
    intrinsics = (fx, fy, number("cx", width / 2), number("cy", height / 2))
    return View(int(width), int(height), intrinsics, rigid_inverse(np.asarray(matrix @ OPENGL, np.float64)))


def rigid_inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a (4, 4) matrix that only turns and moves; its turn is made exact."""
    u, _, v = np.linalg.svd(matrix[:3, :3])
    out = np.eye(4)
    out[:3, :3] = (u @ v).T
    out[:3, 3] = -out[:3, :3] @ matrix[:3, 3]
    return out
