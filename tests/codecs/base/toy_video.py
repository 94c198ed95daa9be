"""A preset of the `nirvana` codec that needs no fit, for tests of everything around one; and a clip for it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codec.codecs.base.video.groups import FitProgress, Fitted, Preset
from codec.codecs.nirvana.grid.preset import GridPreset
from codec.codecs.nirvana.paper.fit import NirvanaPreset
from codec.errors import StreamError


@dataclass(frozen=True, kw_only=True)
class Toy(Preset):
    """Sends samples, coarser at lower quality, minus the group before's last frame."""

    name: ClassVar[str] = "toy"
    group_frames: int = 3
    key_every: int = 3
    fits: ClassVar[list[int]] = []  # the first sample of each group that was fitted

    def fit(self, group, previous, settings, report=None, checkpoint=None) -> Fitted:
        step = round(2 ** ((100 - settings.quality) / 20))
        self.fits.append(int(group.frames[0][0].flat[0]))
        if report is not None:
            report(FitProgress(1, 2, 100.0, 20.0))
        start = self._start(previous, group.shape)
        body = b"".join(
            ((plane.astype(int) - before) // step).astype("<i2").tobytes()
            for planes in group.frames
            for plane, before in zip(planes, start, strict=True)
        )
        payload = bytes([step, previous is not None]) + zlib.compress(body)
        frames, state = self.decode(payload, previous, group.shape)
        return Fitted(payload, state, frames)

    def decode(self, payload, previous, shape):
        if len(payload) < 2 or payload[1] != (previous is not None):
            raise StreamError("this group doesn't lean on that one")
        start = self._start(previous, shape)
        size = sum(plane.size for plane in start) * shape.n_frames * 2
        try:
            body = zlib.decompressobj().decompress(payload[2:], size + 1)
        except zlib.error as error:
            raise StreamError(f"not deflated: {error}") from None
        if len(body) != size:
            raise StreamError("too short")
        values, at, frames = np.frombuffer(body, "<i2").astype(np.int64), 0, []
        for _ in range(shape.n_frames):
            planes = []
            for before in start:
                part = values[at : at + before.size].reshape(before.shape) * payload[0] + before + payload[0] // 2
                planes.append(part.clip(0, 255).astype(np.uint8))
                at += before.size
            frames.append(tuple(planes))
        return frames, frames[-1]

    @staticmethod
    def _start(previous, shape):
        if previous is not None:
            return [plane.astype(np.int64) for plane in previous]
        half = (-(-shape.height // 2), -(-shape.width // 2))
        full = (shape.height, shape.width)
        sizes = {"gray": [full], "rgb24": [(*full, 3)], "yuv420p": [full, half, half]}[shape.pixels]
        return [np.zeros(size, np.int64) for size in sizes]


def toy_presets(cls: Any, device: str = "cpu") -> dict[str, Callable[[], Any]]:
    return {"toy": Toy, "grid": GridPreset, "paper": NirvanaPreset}


def noise_clip(n: int, height: int = 8, width: int = 12, channels: int | None = 3, seed: int = 0) -> np.ndarray:
    """Frames that share a texture; sample 0 of frame t is 5 t."""
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels is None else (height, width, channels)
    base = rng.integers(60, 200, shape)
    clip = np.stack([base + t for t in range(n)]).astype(np.uint8)
    clip.reshape(n, -1)[:, 0] = 5 * np.arange(n)
    return clip
