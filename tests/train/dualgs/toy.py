"""A capture without files: Gaussians on a capsule that bends, drawn by the rasteriser itself."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from codec.codecs.layers.splatting.camera import orbit
from codec.codecs.layers.splatting.rasterise import render
from codec.train.dualgs.config import Recipe, recipe_of

TINY = {
    "start": "hull",
    "points": 150,
    "joints": 40,
    "choose": "farthest",
    "choose_at": 25,
    "degree": 1,
    "length": 0.0,
    "cube": 1.0,
    "first": {
        "iterations": 40,
        "degree_every": 20,
        "rates": {"positions": 8e-4, "positions_last": 8e-5, "opacities": 0.1, "dc": 0.03, "scales": 0.02},
        "densify": {"start": 5, "every": 10, "stop": 24, "reset": 1000, "most": 180, "opacity": 0.05, "fade_at": 0},
    },
    "skins": {
        "iterations": 30,
        "rates": {"positions": 3e-4, "positions_last": 3e-5, "opacities": 0.05, "dc": 0.02, "scales": 0.01},
        "densify": {"start": 2, "every": 8, "stop": 25, "reset": 1000, "most": 100, "gradient": 1e-6, "fade_at": 0},
    },
    "coarse": {"iterations": 6, "rates": {"positions": 1e-3, "positions_last": 1e-4, "rotations": 5e-3}},
    "fine": {"iterations": 6, "rigid": True, "since": "last", "joints_follow": True},
}


def tiny(**changes: object) -> Recipe:
    """The recipe of a fit of a few seconds."""
    return recipe_of({**TINY, **changes})


class Toy:
    """A capsule seen from around; its upper half bends with time. `points` is the truth."""

    fps = 25.0
    held_out = (1,)

    def __init__(self, views: int = 6, frames: int = 3, side: int = 32, count: int = 300) -> None:
        self.n_frames = frames
        self.cameras = orbit((0, 0, 0), 2.6, views, side, side, fov=40, elevation=15)
        rng = np.random.default_rng(0)
        height, angle = rng.uniform(-0.7, 0.7, count), rng.uniform(0, 2 * math.pi, count)
        self.rest = np.stack([0.25 * np.cos(angle), height, 0.25 * np.sin(angle)], 1)
        waves = np.stack([np.sin(5 * height), np.cos(angle), np.sin(4 * height + angle)], 1)
        self.colours = 0.45 + 0.4 * waves
        self._images: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def points(self, frame: int) -> NDArray[np.float64]:
        """The places of the capsule's points at a frame."""
        bend = 0.15 * frame * np.clip(self.rest[:, 1], 0, None) / 0.7
        x, y, z = self.rest.T
        return np.stack([np.cos(bend) * x - np.sin(bend) * y, np.sin(bend) * x + np.cos(bend) * y, z], 1)

    def image(self, frame: int, view: int) -> NDArray[np.uint8]:
        """The picture (H, W, 3) that a camera takes."""
        if (frame, view) not in self._images:
            x = torch.tensor(self.points(frame), dtype=torch.float32)
            rotations = torch.tensor([1.0, 0, 0, 0]).repeat(len(x), 1)
            scales, opacities = torch.full((len(x), 3), 0.05), torch.full((len(x),), 0.98)
            harmonics = torch.tensor((self.colours - 0.5) / 0.28209479, dtype=torch.float32)[:, None]
            with torch.no_grad():
                image = render(x, rotations, scales, opacities, harmonics, self.cameras[view]).image
            self._images[frame, view] = (image.clamp(0, 1) * 255).round().byte().numpy()
        return self._images[frame, view]
