"""Cutting a video into groups of so many frames. At scene cuts, and now and then, a group begins without a past."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....media.video.values import Frame, VideoInfo
from .groups import Group, Planes

__all__ = ["CutGroup", "SceneCuts", "groups_of"]

_GRID = 32  # luma is averaged to at most so many rows and columns
_LEVELS = 16  # of the histogram
_HISTORY = 8  # frames


class SceneCuts:
    """A detector of scene cuts, which says of each frame whether a scene begins with it.

    Looks at small pictures of the luma: a cut moves its mean far more than the frames before it did, and changes the
    histogram, too, or most of the picture. Fast motion and pans do the first for many frames in a row, or only one of
    them. The frame after the first one of a scene only says how much the scene moves.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float64] | None = None
        self._moves: deque[float] = deque(maxlen=_HISTORY)

    def __call__(self, planes: Planes) -> bool:
        small = _small(planes[0])
        last, self._last = self._last, small
        if last is None:
            return False
        move = float(np.abs(small - last).mean())
        usual = max(self._moves, default=math.inf)
        shift = float(np.abs(_histogram(small) - _histogram(last)).sum()) / 2  # 0 to 1
        moved = float((np.abs(small - last) > 16).mean())  # of the picture
        cut = move > 8 and move > 3 * usual and (shift > 0.25 or moved > 0.5)
        if cut:
            self._moves.clear()
        else:
            self._moves.append(move)
        return cut


def _small(plane: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The luma of a picture (of RGB: green), averaged over the cells of a grid: (rows, columns)."""
    luma = plane[:, :, 1] if plane.ndim == 3 else plane
    rows, columns = (np.linspace(0, n, min(n, _GRID) + 1).astype(int)[:-1] for n in luma.shape)
    sums = np.add.reduceat(np.add.reduceat(luma, rows, 0, dtype=np.float64), columns, 1)
    sizes = np.outer(np.diff([*rows, luma.shape[0]]), np.diff([*columns, luma.shape[1]]))
    return sums / sizes


def _histogram(small: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount((small.ravel() * (_LEVELS / 256)).astype(int), minlength=_LEVELS) / small.size


class CutGroup(NamedTuple):
    """A group as it is cut from a video.

    index: from 0. key: it leans on no other. cut: it begins a scene (the first group does). durations: of its frames,
    in units of the time base.
    """

    index: int
    key: bool
    cut: bool
    group: Group
    durations: list[int]


def groups_of(
    info: VideoInfo, frames: Iterable[Frame], length: int, key_every: int, scene_cuts: bool = True
) -> Iterator[CutGroup]:
    """Cuts frames into groups of `length`, less before a cut and at the end; every `key_every`-th since it is a key."""
    begins = SceneCuts()
    held: list[Frame] = []
    index = since = 0
    cut = True

    def flush() -> CutGroup:
        nonlocal index, since, cut
        group = Group([frame.planes for frame in held], info.pixels, info.width, info.height)
        made = CutGroup(index, since == 0, cut, group, [frame.duration for frame in held])
        index, since, cut = index + 1, (since + 1) % key_every, False
        held.clear()
        return made

    for frame in frames:
        begun = begins(frame.planes) if scene_cuts else False
        if held and (begun or len(held) == length):
            yield flush()
        if begun:
            since, cut = 0, True
        held.append(frame)
    if held:
        yield flush()
