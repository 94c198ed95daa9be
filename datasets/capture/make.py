"""Synthetic captures: pictures of an animated body from rings of cameras, with its true motion beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...files import whole
from . import colmap
from .bodies import Body, body_named, fitted, with_prop
from .layout import rigid_inverse
from .pictures import draw
from .views import OPENGL, View, held_out, ring

__all__ = ["CaptureConfig", "make"]

REACH: Final = 0.95  # of the subject in each axis; trainers look for it within 1.15


@dataclass(frozen=True)
class CaptureConfig:
    """A capture to make. body: of bodies.BODIES, or a .glb file. performance, seed: of bodies that have no motion.

    size: of the pictures, pixels a side. rings: of cameras. start: where in the performance it begins, seconds.
    supersampling: samples a pixel and axis. prop: a drum beside the body that stands still. pattern: paint .glb figures
    with the pattern of the others, not with their texture. shape: of "anny", pairs of name and value, 0 to 1.
    """

    body: str = "walker"
    performance: str = "dance"
    frames: int = 30
    views: int = 29
    size: int = 256
    rings: int = 2
    fps: float = 25.0
    start: float = 0.0
    seed: int = 0
    supersampling: int = 2
    prop: bool = False
    pattern: bool = False
    shape: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not (1 <= self.frames <= 100_000 and 2 <= self.views <= 1000):
            raise UsageError(f"{self.frames} frames of {self.views} views; expected 1 frame and 2 views, or more")
        if not (16 <= self.size <= 4096 and 1 <= self.supersampling <= 8):
            raise UsageError(f"pictures of {self.size} pixels a side; expected 16 to 4096, and 1 to 8 samples a side")
        if not (0 < self.fps <= 1000 and self.start >= 0):
            raise UsageError(f"{self.fps:g} frames a second from {self.start:g} s on; expected 0 or more")


def make(
    config: CaptureConfig,
    out: str | os.PathLike[str],
    progress: Callable[[int, int], None] | None = None,
    jobs: int = 1,
) -> Path:
    """Writes a capture into a folder. Interrupted, the same call goes on: pictures that are there are kept.

    progress: called after each picture with how many are there and their number. jobs: threads that draw. UsageError if
    the folder holds something else.
    """
    root = Path(out)
    about = {"version": 1, **asdict(config), "n_frames": config.frames, "held_out": list(held_out(config.views))}
    about = json.loads(json.dumps(about))
    del about["frames"]
    _claim(root, about)
    times = [config.start + frame / config.fps for frame in range(config.frames)]
    body = _subject(config, times)
    truth = _truth(root, body, times)
    views = {f"{number}.png": view for number, view in enumerate(_cameras(config, truth))}
    for name, text in colmap.texts(views).items():
        _write(root / "colmap" / "sparse" / "0" / name, text.encode())
    total = config.frames * config.views
    transforms = json.dumps(_transforms(views), indent=1).encode()
    for frame in range(config.frames):
        folder = root / "image_white" / str(frame)
        _write(folder / "transforms.json", transforms)
        vertices = truth[frame].astype(float)
        missing = {name: view for name, view in views.items() if not (folder / name).is_file()}
        pictures = _drawn(body, vertices, list(missing.values()), config.supersampling, jobs)
        done = (frame + 1) * config.views - len(missing)
        for name, pixels in zip(missing, pictures, strict=True):
            _save(folder / name, pixels)
            done += 1
            if progress is not None:
                progress(done, total)
    return root


def _drawn(
    body: Body, vertices: NDArray[np.float64], views: list[View], supersampling: int, jobs: int
) -> Iterator[NDArray[np.uint8]]:
    """The pictures of views, in their order. NumPy lets several threads compute at a time."""
    if jobs == 1:
        yield from (draw(body, vertices, view, supersampling) for view in views)
        return
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda view: draw(body, vertices, view, supersampling), views)


def _claim(root: Path, about: dict[str, Any]) -> None:
    """Says in the folder what is to be in it; UsageError if that is something else already."""
    path = root / "capture.json"
    if path.is_file():
        if path.read_text(encoding="utf-8") != json.dumps(about, indent=1):
            raise UsageError(f"{root} holds another capture: name another folder with -o, or remove it")
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{root} exists already, and isn't a capture: name another folder with -o")
    else:
        _write(path, json.dumps(about, indent=1).encode())


def _subject(config: CaptureConfig, times: list[float]) -> Body:
    body = body_named(config.body, config.performance, config.seed, dict(config.shape))
    if config.pattern:
        body = replace(body, uv=None, texture=None)
    body = fitted(body, times, REACH)
    if not config.prop:
        return body
    floor = min(float(body.vertices(seconds)[:, 1].min()) for seconds in times)
    return with_prop(body, (0.55, floor + 0.22, 0.35), radius=0.17, height=0.44)


def _cameras(config: CaptureConfig, truth: NDArray[np.float32]) -> list[View]:
    """Cameras as near as they can be without cutting anything off: the subject fills their pictures."""
    points = truth.reshape(-1, 3)[::3].astype(float)
    reach = float(np.sqrt((truth.astype(float) ** 2).sum(2).max()))
    views = ring(config.views, config.size, reach, config.rings)
    for share in np.arange(0.96, 0.5, -0.04):
        nearer = ring(config.views, config.size, reach * share, config.rings)
        places = np.stack([view.project(points)[:, :2] for view in nearer])
        if places.min() < 0.02 * config.size or places.max() > 0.98 * config.size:
            break
        views = nearer
    return views


def _truth(root: Path, body: Body, times: list[float]) -> NDArray[np.float32]:
    """The vertices at each time, (T, V, 3), written beside the pictures."""
    from safetensors.numpy import save

    vertices = np.stack([body.vertices(seconds) for seconds in times]).astype(np.float32)
    _write(root / "truth.safetensors", save({"vertices": vertices, "faces": body.faces.astype(np.int32)}))
    return vertices


def _transforms(views: dict[str, View]) -> dict[str, Any]:
    """The table of cameras as instant-NGP has it."""
    frames = []
    for name, view in views.items():
        fx, fy, cx, cy = view.intrinsics
        matrix = rigid_inverse(view.world_to_camera) @ OPENGL
        lens = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": view.width, "h": view.height}
        frames.append({"file_path": name, **lens, "transform_matrix": matrix.tolist()})
    return {"frames": frames}


def _write(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        with whole(path, replace=True) as file:
            file.write(data)


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    with whole(path, replace=True) as file:
        Image.fromarray(pixels).save(file, "PNG", compress_level=4)
