"""Scenes for tests of the viewer: balls of Gaussians of known places and colours, and sources that note requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codec.errors import MediaError
from codec.media.gaussians.values import DC, Gaussians, coefficients_of
from codec.viewer.bundle import SCRIPTS

RED, GREEN, BLUE = (0.9, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.2, 0.9)


def ball(centre: Sequence[float], colour: Sequence[float], n: int = 40, degree: int = 0) -> Gaussians:
    """A ball of diameter 1, opaque in the middle."""
    rng = np.random.default_rng(3)
    positions = rng.normal(size=(n, 3))
    positions *= 0.3 * rng.random((n, 1)) ** (1 / 3) / np.linalg.norm(positions, axis=1, keepdims=True)
    harmonics = np.zeros((n, coefficients_of(degree), 3), np.float32)
    harmonics[:, 0] = (np.array(colour) - 0.5) / DC
    return Gaussians(
        (positions + centre).astype(np.float32),
        np.full((n, 3), np.log(0.1), np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
        np.full(n, 5, np.float32),
        harmonics,
    )


def together(*parts: Gaussians) -> Gaussians:
    names = ("positions", "scales", "rotations", "opacities", "harmonics")
    return Gaussians(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def random_gaussians(n: int, degree: int, seed: int = 0) -> Gaussians:
    rng = np.random.default_rng(seed)
    shapes = ((n, 3), (n, 3), (n, 4), (n,), (n, coefficients_of(degree), 3))
    return Gaussians(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


class Source:
    """A source of these frames. asked: the numbers of the frames that were decoded. broken: frames that can't be."""

    def __init__(self, frames: Sequence[Gaussians], fps: float | None = None, broken: Sequence[int] = ()) -> None:
        self.gaussians, self.fps, self.broken = frames, fps, broken
        self.n_frames, self.count = len(frames), len(frames[0]) if frames else 0
        self.asked: list[int] = []

    def frame(self, number: int, /) -> Gaussians:
        self.asked.append(number)
        if number in self.broken:
            raise MediaError(f"segment {number} is damaged: get the file again")
        return self.gaussians[number]


def moving(n_frames: int = 5) -> Source:
    """A red ball that moves from left to right, 0.2 a frame, and a green one on the right that stays."""
    return Source([together(ball((-1 + 0.2 * t, 0, 0), RED), ball((1, 0, 0), GREEN)) for t in range(n_frames)], 10.0)


def unpacked(message: bytes) -> NDArray[np.uint32]:
    """The words of a message, (planes, N, 4), after its header was checked."""
    tag, frame, count, planes = np.frombuffer(message, "<u4", 4)
    assert message[:4] == b"GSVF" and tag and frame >= 0
    return np.frombuffer(message, "<u4", offset=16).reshape(planes, count, 4)


def empty_bundle(folder: Path) -> Path:
    """A folder with files that have the renderer's names."""
    folder.mkdir(exist_ok=True)
    for name in SCRIPTS:
        (folder / name).write_bytes(f"// {name}\n".encode())
    return folder
