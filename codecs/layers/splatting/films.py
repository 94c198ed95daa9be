"""Pictures and films of Gaussians: where the camera is in each, and the file or folder that they become.

A subject is framed by robust bounds: percentiles of its positions, weighted by opacity. A film has a picture for each
frame of a sequence, or a few seconds of a still scene; its camera goes once around, or along the cameras of a
`transforms.json`. One frame and one picture are in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ....errors import MediaError, UsageError
from ....files import STDIO, refuse_existing, whole
from ....media import IMAGE_WRITES, VIDEO_WRITES
from ....media.gaussians.values import Gaussians
from ....media.image import write_picture
from ....media.values import Picture
from ....media.video.values import Frame, VideoInfo
from ....media.video.writer import VideoWriter
from .camera import Camera, orbit, read_transforms
from .rasterise import render_array

__all__ = ["FRONT", "ORBIT", "UPS", "FrameSource", "Shot", "bounds", "cameras_of", "colour_of", "render_file"]

FRONT, ORBIT = "front", "orbit"  # any other camera is the path of a transforms.json
UPS = {"y": (0.0, 1.0, 0.0), "minus-y": (0.0, -1.0, 0.0), "z": (0.0, 0.0, 1.0), "minus-z": (0.0, 0.0, -1.0)}
COLOURS = {"white": "ffffff", "black": "000000", "grey": "808080", "gray": "808080"}
SIZE = (800, 600)
FPS = Fraction(25)
SECONDS = 5.0  # of a film of a still scene
MOST_PICTURES = 1 << 20
_SHARE = 0.02  # of the opacity that may lie beyond the bounds on either side
_MARGIN = 1.1  # how much larger than the bounds the image is

Report = Callable[[float, str], None]


class FrameSource(Protocol):
    """The frames that are drawn: a `Source` of the medium, or the open frames of a file of ours."""

    @property
    def n_frames(self) -> int: ...
    @property
    def fps(self) -> float | None: ...
    def frame(self, index: int, /) -> Gaussians: ...


@dataclass(frozen=True)
class Shot:
    """The wishes for a picture or film.

    camera: "front", "orbit", or the path of a transforms.json; None: in front for a picture, around for a film. view:
    of that file, the only one that is used. frame: the only one of a sequence. size: width and height; None: that of
    the file of cameras, or 800x600. fps, seconds: of a film. up: the axis of the world that points up; None: -y for a
    scene, since those who make scenes take the axes of their cameras, and y for a sequence, as captures have it. zoom:
    2 makes the subject twice as large. elevation: of the camera, in degrees. encoder: of FFmpeg, as VideoWriter has it.
    """

    camera: str | None = None
    view: int | None = None
    frame: int | None = None
    size: tuple[int, int] | None = None
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fps: float | Fraction | None = None
    seconds: float | None = None
    up: tuple[float, float, float] | None = None
    zoom: float = 1.0
    elevation: float = 10.0
    fov: float = 40.0
    encoder: str | None = None


def colour_of(text: str) -> tuple[float, float, float]:
    """A colour: white, black, grey, or six hexadecimal digits, as #ffcc00."""
    digits = COLOURS.get(text.lower(), text.removeprefix("#"))
    if len(digits) != 6:
        raise ValueError(text)
    red, green, blue = (value / 255 for value in bytes.fromhex(digits))
    return red, green, blue


def bounds(gaussians: Gaussians) -> tuple[NDArray[np.float64], float]:
    """The middle (3,) and the radius of what can be seen of Gaussians. MediaError if nothing can.

    Two percent of the opacity may lie beyond either side of each axis.
    """
    opacities = 1 / (1 + np.exp(-np.clip(gaussians.opacities.astype(np.float64), -30, 30)))
    fine = np.isfinite(gaussians.positions).all(1) & np.isfinite(opacities)
    if not fine.any():
        raise MediaError("no Gaussian has a finite place and opacity: there is nothing to draw")
    places, weights = gaussians.positions[fine].astype(np.float64), opacities[fine]
    low, high = np.empty(3), np.empty(3)
    for axis in range(3):
        order = np.argsort(places[:, axis], kind="stable")
        share = np.cumsum(weights[order])
        ends = np.searchsorted(share / share[-1], [_SHARE, 1 - _SHARE]).clip(0, len(order) - 1)
        low[axis], high[axis] = places[order[ends], axis]
    radius = float(np.linalg.norm(high - low)) / 2
    scale = float(np.exp(np.clip(np.median(gaussians.scales[fine]), -30, 30)))
    return (low + high) / 2, max(radius, 3 * scale, 1e-9)


def cameras_of(shot: Shot, first: Gaussians, n: int, default: str = FRONT) -> list[Camera]:
    """The cameras of n pictures of a subject. UsageError, MediaError for what isn't a camera."""
    kind = shot.camera or default
    if kind not in (FRONT, ORBIT):
        return _from_file(shot, kind, n)
    if shot.view is not None:
        raise UsageError(f"view {shot.view} of camera {kind}: name a transforms.json, which has views")
    middle, radius = bounds(first)
    width, height = shot.size or SIZE
    up = shot.up or UPS["minus-y"]
    distance = _MARGIN * radius / math.sin(math.radians(shot.fov) / 2) / shot.zoom
    turn = orbit(
        middle, distance, n if kind == ORBIT else 1, width, height, fov=shot.fov, elevation=shot.elevation, up=up
    )
    return list(turn) if kind == ORBIT else [turn[0]] * n


def _from_file(shot: Shot, path: str, n: int) -> list[Camera]:
    cameras = read_transforms(path)
    if shot.view is not None:
        if not 0 <= shot.view < len(cameras):
            raise UsageError(f"view {shot.view} of {path}: it has {len(cameras)}, counted from 0")
        cameras = (cameras[shot.view],)
    size = shot.size or (cameras[0].width, cameras[0].height)  # all pictures of a film have the same
    resized = [camera if (camera.width, camera.height) == size else camera.resized(*size) for camera in cameras]
    return [resized[index * len(resized) // n] for index in range(n)]


# ---- files


def render_file(
    source: FrameSource, target: str | PathLike[str], shot: Shot, report: Report | None = None, replace: bool = False
) -> dict[str, Any]:
    """Draws a picture, a film, or a folder of pictures, as the target's suffix says; gives the facts about it.

    report: is told the share that is done, and words. Appears whole or not at all. UsageError for what can't be asked.
    """
    suffix = "" if target == STDIO else Path(target).suffix.lower()
    if suffix not in ("", *IMAGE_WRITES, *VIDEO_WRITES):
        known = ", ".join((*dict.fromkeys(IMAGE_WRITES), *VIDEO_WRITES))
        raise UsageError(f"{target}: unknown suffix {suffix!r}; expected one of {known}, or the name of a folder")
    if shot.frame is not None and not 0 <= shot.frame < source.n_frames:
        raise UsageError(f"frame {shot.frame}: there are {source.n_frames}, counted from 0")
    if shot.up is None:
        shot = changed(shot, up=UPS["minus-y" if source.n_frames == 1 else "y"])
    if suffix in IMAGE_WRITES:
        return _picture(source, target, shot, replace)
    return _film(source, target, shot, report, replace)


def _picture(source: FrameSource, target: str | PathLike[str], shot: Shot, replace: bool) -> dict[str, Any]:
    for name, value in (("fps", shot.fps), ("seconds", shot.seconds), ("encoder", shot.encoder)):
        if value is not None:
            raise UsageError(f"{target}: one picture has no {name}; name a file of {', '.join(VIDEO_WRITES)}")
    refuse_existing(target, replace)
    gaussians = source.frame(shot.frame or 0)
    (camera,) = cameras_of(shot, gaussians, 1)
    pixels = render_array(gaussians, camera, shot.background)
    with whole(target, replace=replace) as file:
        write_picture(Picture(pixels), file, IMAGE_WRITES[Path(target).suffix.lower()])
    return {"pictures": 1, "width": camera.width, "height": camera.height, "gaussians": len(gaussians)}


def _film(
    source: FrameSource, target: str | PathLike[str], shot: Shot, report: Report | None, replace: bool
) -> dict[str, Any]:
    fps = shot.fps or source.fps or FPS
    rate = Fraction(fps).limit_denominator(1001)
    if not 0 < rate <= 1000:
        raise UsageError(f"{float(fps):g} frames a second; expected more than 0, up to 1000")
    n = _pictures(source, shot, float(rate))
    indices = [shot.frame if shot.frame is not None else index % source.n_frames for index in range(n)]
    first = source.frame(indices[0])
    cameras = cameras_of(shot, first, n, ORBIT)
    width, height = cameras[0].width, cameras[0].height
    info = VideoInfo(width, height, "rgb24", 1 / rate, rate)
    with VideoWriter(target, info, encoder=shot.encoder, force=replace) as writer:
        for number, pixels in enumerate(_pixels(source, first, indices, cameras, shot)):
            writer.write(Frame((pixels,), number, 1))
            if report is not None:
                report((number + 1) / n, f"picture {number + 1}/{n}")
    facts = {"pictures": n, "width": width, "height": height, "gaussians": len(first), "fps": round(float(rate), 3)}
    return facts | ({"notes": [str(note) for note in writer.notes]} if writer.notes else {})


def _pictures(source: FrameSource, shot: Shot, rate: float) -> int:
    """How many pictures a film has."""
    is_still = source.n_frames == 1 or shot.frame is not None
    if shot.seconds is None and not is_still:
        return source.n_frames
    n = round((SECONDS if shot.seconds is None else shot.seconds) * rate)
    if not 0 <= n <= MOST_PICTURES:
        raise UsageError(f"a film of {n} pictures; expected at most {MOST_PICTURES}: fewer seconds, or a lower fps")
    return max(1, n)


def _pixels(
    source: FrameSource, first: Gaussians, indices: Sequence[int], cameras: Sequence[Camera], shot: Shot
) -> Iterator[NDArray[np.uint8]]:
    held, gaussians = indices[0], first
    for index, camera in zip(indices, cameras, strict=True):
        if index != held:
            held, gaussians = index, source.frame(index)
        yield render_array(gaussians, camera, shot.background)
