"""Checks of a capture before hours are spent on it: its folders, pictures, background, cameras and subject, in words.

The subject's place is estimated from its visual hull: the places that every camera sees as subject (Laurentini 1994).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import CodecError, MediaError
from .layout import Capture, read_image, read_transforms
from .views import OPENGL, View

__all__ = ["check"]

Array = NDArray[np.float64]
Masks = list[NDArray[np.bool_]]

LIMIT: Final = 1.15  # the cube in which training looks for the subject
WHITE: Final = 250  # darker than this is subject
FEW: Final = 2000  # pictures that are all looked into; of more, those of three frames
_GRID = 40  # cells a side of the hull
_ALONE = 0.05  # of the subject in one picture, if others see nothing there: more is a fault
_SHOWN = 4  # names in a message


def check(
    folder: str | os.PathLike[str],
    every_picture: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The problems of a capture, in plain words; none for one that can be trained on.

    every_picture: decode all of them; if not, those of the first, the middle and the last frame. None: all if they are
    few. progress: called with the pictures that were looked at and their number.
    """
    root = Path(folder)
    try:
        capture = Capture.open(root)
    except CodecError as error:
        return [str(error)]
    turned = _turned(capture)
    if turned:
        return [turned]
    problems = _missing(capture) + _cameras_of_frames(capture)
    everything = capture.n_frames * capture.n_views <= FEW if every_picture is None else every_picture
    sample = {0, capture.n_frames // 2, capture.n_frames - 1}
    frames = range(capture.n_frames) if everything else sorted(sample)
    masks, words = _pictures(capture, frames, progress)
    problems += words + _alike(capture.cameras)
    return problems + _geometry(capture, masks)


def _some(names: Sequence[object]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(map(str, names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


# ---- folders and files


def _turned(capture: Capture) -> str:
    """The complaint about folders of cameras where folders of frames are expected; "" if that isn't so."""
    counts = [sum(p.suffix.lower() in (".png", ".jpg") for p in frame.iterdir()) for frame in capture.frames]
    usual = Counter(counts).most_common(1)[0][0]
    if usual != capture.n_views and capture.n_frames == capture.n_views and usual > 0:
        return (
            f"{capture.frames[0].parent}: {capture.n_frames} folders with {usual} pictures each, for {capture.n_views} "
            "cameras: these look like folders of cameras. Expected a folder for each frame, with a picture of each "
            "camera: rename CAMERA/FRAME.png to FRAME/CAMERA.png"
        )
    return ""


def _missing(capture: Capture) -> list[str]:
    problems = []
    gaps = [
        f"{frame}/{name}"
        for frame, folder in enumerate(capture.frames)
        for name in capture.names
        if not (folder / name).is_file()
    ]
    if gaps:
        words = f"{len(gaps)} of {capture.n_frames * capture.n_views} pictures are missing: {_some(gaps)}"
        problems.append(f"{capture.frames[0].parent}: {words}; each frame needs a picture of each camera")
    known = set(capture.names)
    extra = [p.name for p in sorted(capture.frames[0].iterdir()) if p.suffix.lower() == ".png" and p.name not in known]
    if extra:
        problems.append(f"{capture.frames[0]}: pictures without a camera: {_some(extra)}")
    stems = [Path(name).stem for name in capture.names]
    if stems != [str(view) for view in range(len(stems))]:
        words = f"expected 0.png to {len(stems) - 1}.png, but there are {_some(capture.names)}"
        problems.append(f"{capture.frames[0]}: views are counted from 0 without gaps: {words}")
    return problems


def _cameras_of_frames(capture: Capture) -> list[str]:
    """Problems of the cameras that frames have of their own: they have to be those of frame 0."""
    files = [(frame, folder / "transforms.json") for frame, folder in enumerate(capture.frames)]
    files = [(frame, path) for frame, path in files if path.is_file()]
    if capture.source != "transforms.json" or not files:
        return []
    problems, moved = [], []
    if len(files) != capture.n_frames:
        words = "expected one in each frame, or a single one at the root"
        problems.append(f"{len(files)} of {capture.n_frames} frames have a transforms.json: {words}")
    texts = {}
    for frame, path in files:
        text = path.read_bytes()
        if text in texts:
            continue
        texts[text] = frame
        try:
            views = read_transforms(path)
        except MediaError as error:
            problems.append(str(error))
            continue
        views = {Path(name).stem: view for name, view in views.items()}
        own = [views.get(Path(name).stem) for name in capture.names]
        if any(view is None or not _same(view, camera) for view, camera in zip(own, capture.cameras, strict=True)):
            moved.append(frame)
    if moved:
        words = "cameras that move, come or go aren't read"
        problems.append(f"the cameras of frame {_some(moved)} differ from those of frame 0: {words}")
    return problems


def _same(a: View, b: View) -> bool:
    is_lens = np.allclose(a.intrinsics, b.intrinsics, atol=1e-3) and (a.width, a.height) == (b.width, b.height)
    return bool(is_lens and np.allclose(a.world_to_camera, b.world_to_camera, atol=1e-5))


# ---- pictures


def _pictures(
    capture: Capture, frames: Sequence[int], progress: Callable[[int, int], None] | None
) -> tuple[list[NDArray[np.bool_] | None], list[str]]:
    """The masks of the subject in frame 0 (None: not to be had), and problems of the pictures."""
    masks: list[NDArray[np.bool_] | None] = [None] * capture.n_views
    unread, sizes, borders, empty = [], [], [], []
    done, total = 0, len(frames) * capture.n_views
    for frame in frames:
        for view, camera in enumerate(capture.cameras):
            path, name = capture.path(frame, view), f"{frame}/{capture.names[view]}"
            done += 1
            if progress is not None:
                progress(done, total)
            if not path.is_file():
                continue  # said already
            try:
                pixels = read_image(path)
            except MediaError as error:
                unread.append(str(error))
                continue
            if pixels.shape[:2] != (camera.height, camera.width):
                has = f"{pixels.shape[1]}x{pixels.shape[0]}"
                sizes.append(f"{name} ({has}, its camera {camera.width}x{camera.height})")
                continue
            mask = pixels.min(2) < WHITE
            border = _border(mask)
            if border > 0:
                borders.append((border, name))
            if not mask.any():
                empty.append(name)
            if frame == frames[0]:
                masks[view] = mask
    problems = [f"{len(unread)} pictures can't be read: {_some(unread)}"] if unread else []
    if sizes:
        problems.append(f"{len(sizes)} pictures have another size than their camera: {_some(sizes)}")
    if borders:
        share, name = max(borders)
        problems.append(
            f"{len(borders)} of {total} pictures have a border that isn't white (most: {100 * share:.0f} % of the "
            f"border pixels of {name}): the background must be pure white, and the subject inside of the picture"
        )
    if empty:
        problems.append(
            f"{len(empty)} of {total} pictures are all white: {_some(empty)}; the subject is in none of them"
        )
    return masks, problems


def _border(mask: NDArray[np.bool_]) -> float:
    """The share of the pixels at the edge of a picture that aren't white."""
    edge = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(edge.mean())


# ---- cameras


def _alike(cameras: Sequence[View]) -> list[str]:
    poses = np.array([camera.world_to_camera.ravel() for camera in cameras])
    pairs = [f"{i} and {j}" for i in range(len(poses)) for j in range(i) if np.allclose(poses[i], poses[j], atol=1e-6)]
    if pairs:
        return [f"cameras stand and look exactly alike: views {_some(pairs)}; each needs its own pose"]
    return []


def _geometry(capture: Capture, masks: list[NDArray[np.bool_] | None]) -> list[str]:
    """Problems of the cameras and the subject, from the masks of a frame; none if too few masks can be trusted."""
    usable = [view for view, mask in enumerate(masks) if mask is not None and mask.any() and not _border(mask)]
    if len(usable) < max(2, len(masks) // 2):
        return []
    cameras = [capture.cameras[view] for view in usable]
    good = [mask for view, mask in enumerate(masks) if mask is not None and view in usable]
    hull = _hull(cameras, good)
    if not len(hull.cells):
        return [_hint(cameras, good)]
    problems = []
    if hull.misfits:
        names = _some([usable[i] for i in hull.misfits])
        problems.append(f"views {names} don't fit the others: their poses are wrong, or their pictures are swapped")
    alone = np.array([_alone(camera, mask, hull) for camera, mask in zip(cameras, good, strict=True)])
    if not hull.misfits and alone.max() > _ALONE:
        order = [int(i) for i in np.argsort(-alone, kind="stable") if alone[i] > _ALONE]
        names = _some([f"{usable[i]} ({100 * alone[i]:.0f} %)" for i in order])
        problems.append(
            f"part of the subject is seen by one view, where others see background; most in views {names}: are their "
            "pictures swapped, their poses wrong, or their masks cut differently?"
        )
    low, high = hull.cells.min(0) + hull.side / 2, hull.cells.max(0) - hull.side / 2
    middle, extent = (low + high) / 2, max(float((high - low).max()), hull.side)
    away = [view for view, camera in enumerate(capture.cameras) if not _sees(camera, middle)]
    if away:
        problems.append(f"views {_some(away)} don't look at the subject, which is at about {_point(middle)}")
    if (np.maximum(-low, high) > LIMIT).any():
        scale = min(1.0, 1.9 / extent)
        problems.append(
            f"the subject reaches from about {_point(low)} to {_point(high)}, but training looks within "
            f"-{LIMIT} to {LIMIT}: move all cameras by {_point(-middle)}, then multiply their places by {scale:.3g}"
        )
    elif extent < 0.3:
        words = f"multiply the places of all cameras by about {1.9 / extent:.3g}"
        problems.append(f"the subject is only about {extent:.2g} units large; expected 1 to 2: {words}")
    return problems


def _point(place: Array) -> str:
    return f"({', '.join(f'{value:.2f}' for value in place + 0.0)})"


def _sees(camera: View, place: Array) -> bool:
    x, y, depth = camera.project(place[None])[0]
    return bool(depth > 0 and 0 <= x < camera.width and 0 <= y < camera.height)


def _hint(cameras: Sequence[View], masks: Masks) -> str:
    """The complaint about cameras that agree on no subject, with the mistake that would explain it."""
    words = "no place is seen as subject by all cameras: the poses don't fit the pictures"
    mistakes: dict[str, Callable[[Array], Array]] = {
        "it has OpenCV's axes (y down, z forward): negate its second and third column": lambda pose: OPENGL @ pose,
        "it is from world to camera: invert it": lambda pose: OPENGL @ np.linalg.inv(OPENGL @ pose),
        "it is from world to camera, in OpenCV's axes: invert it, then negate its second and third column": (
            lambda pose: np.linalg.inv(OPENGL @ pose)
        ),
    }
    for mistake, mended in mistakes.items():
        views = [replace(camera, world_to_camera=mended(camera.world_to_camera)) for camera in cameras]
        hull = _hull(views, masks)
        if len(hull.cells) and not hull.misfits:
            return f"{words}. They do if transform_matrix is meant otherwise: {mistake}"
    return f"{words}. Are the views in the order of the pictures, and in instant-NGP's axes (y up, z backward)?"


@dataclass(frozen=True, eq=False)
class _Hull:
    """cells: (n, 3), centres of what cameras see as subject. side: of a cell. misfits: cameras that disagree."""

    cells: Array
    side: float
    misfits: list[int]


def _hull(cameras: Sequence[View], masks: Masks) -> _Hull:
    """The cells around the place at which the cameras look that are subject for all of them, or for all but a few.

    A camera that doesn't see a cell at all has no say, but most must see it.
    """
    axes = np.array([camera.axis for camera in cameras])
    centres = np.array([camera.centre for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]  # what is left of a vector beside each axis
    middle = np.linalg.lstsq(across.sum(0), (across @ centres[:, :, None]).sum(0)[:, 0], rcond=None)[0]
    depth = np.linalg.norm(centres - middle, axis=1)
    view = np.array([max(c.width / c.intrinsics[0], c.height / c.intrinsics[1]) / 2 for c in cameras])
    radius = float(np.median(depth * view)) * 1.2
    if not np.isfinite(radius) or radius <= 0:
        return _Hull(np.empty((0, 3)), 0.0, [])
    rough = _carved(cameras, masks, middle, radius)
    if not len(rough.cells):
        return rough
    low, high = rough.cells.min(0), rough.cells.max(0)
    return _carved(cameras, masks, (low + high) / 2, float((high - low).max()) / 2 + rough.side)


def _carved(cameras: Sequence[View], masks: Masks, middle: Array, radius: float) -> _Hull:
    side = 2 * radius / _GRID
    steps = (np.arange(_GRID) + 0.5) * side - radius
    cells = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) + middle
    votes, against = np.zeros(len(cells), np.int64), np.zeros((len(cameras), len(cells)), bool)
    for number, (camera, mask) in enumerate(zip(cameras, masks, strict=True)):
        inside, subject = _looks(camera, mask, cells, side)
        votes += inside
        against[number] = inside & ~subject
    total = np.where(votes > len(cameras) / 2, against.sum(0), len(cameras))
    if total.min() > len(cameras) / 4:
        return _Hull(np.empty((0, 3)), side, [])
    best = total == total.min()
    return _Hull(cells[best], side, np.flatnonzero(against[:, best].all(1)).tolist())


def _alone(camera: View, mask: NDArray[np.bool_], hull: _Hull) -> float:
    """The share of the subject in a picture that no cell of the hull covers."""
    height, width = mask.shape
    left, right, top, bottom = _squares(camera, hull.cells, hull.side, width, height)
    change = np.zeros((height + 1, width + 1), np.int64)
    for rows, columns, sign in ((top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1)):
        np.add.at(change, (rows, columns), sign)
    covered = change.cumsum(0).cumsum(1)[:height, :width] > 0
    return float((mask & ~covered).sum() / mask.sum())


def _squares(camera: View, cells: Array, side: float, width: int, height: int) -> tuple[NDArray[np.int64], ...]:
    """The squares of a picture that cover cells: first column, end, first row, end."""
    x, y, depth = camera.project(cells).T
    depth = np.maximum(depth, side)
    half = max(camera.intrinsics[:2]) * side * 0.87 / depth  # half of a cell's diagonal
    columns = [np.clip(np.floor(x + s), 0, width).astype(np.int64) for s in (-half, half + 1)]
    rows = [np.clip(np.floor(y + s), 0, height).astype(np.int64) for s in (-half, half + 1)]
    return (*columns, *rows)


def _looks(camera: View, mask: NDArray[np.bool_], cells: Array, cell: float) -> tuple[NDArray, NDArray]:
    """Whether each cell is in the picture, and whether there is subject in the square that covers it."""
    height, width = mask.shape
    total = np.zeros((height + 1, width + 1), np.int64)
    total[1:, 1:] = mask.cumsum(0).cumsum(1)
    x, y, depth = camera.project(cells).T
    inside = (depth > cell) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    left, right, top, bottom = _squares(camera, cells, cell, width, height)
    subject = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left] > 0
    return inside, subject
