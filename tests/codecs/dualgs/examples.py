"""Small scenes and sequences for tests, made by rule."""

from __future__ import annotations

import numpy as np

from codec.codecs.dualgs.grid import unit
from codec.codecs.dualgs.rig import multiplied, rotation_matrices
from codec.media.gaussians.values import Gaussians

F = np.float32


def scene(n: int = 200, degree: int = 1, seed: int = 0) -> Gaussians:
    """Gaussians on a curved sheet."""
    draw = np.random.default_rng(seed)
    u, v = draw.uniform(-1, 1, (2, n))
    positions = np.stack([u, v, 0.3 * np.sin(3 * u) * v], 1)
    harmonics = draw.normal(0, 0.1, (n, (degree + 1) ** 2, 3))
    harmonics[:, 0] += np.stack([np.sin(2 * u), np.cos(v), u * v], 1)
    return Gaussians(
        positions.astype(F),
        draw.normal(-4, 0.5, (n, 3)).astype(F),
        draw.normal(0, 1, (n, 4)).astype(F),
        draw.normal(1, 2, n).astype(F),
        harmonics.astype(F),
    )


def sequence(n: int = 200, n_frames: int = 7, degree: int = 1) -> tuple[Gaussians, ...]:
    """The sheet, bending and turning, while its light changes."""
    first = scene(n, degree)
    out = []
    for t in range(n_frames):
        angle = 0.1 * t * (1 + first.positions[:, 1].astype(float))
        q = np.stack([np.cos(angle / 2), 0 * angle, np.sin(angle / 2), 0 * angle], 1)
        matrices = np.array(rotation_matrices(q)).reshape(3, 3, -1)
        positions = np.einsum("abn,nb->na", matrices, first.positions) + np.array([0.02 * t, 0, 0])
        rotations = multiplied(q, unit(first.rotations.astype(float)))
        harmonics = first.harmonics * (1 + 0.02 * t)
        out.append(
            Gaussians(
                positions.astype(F),
                (first.scales + 0.01 * t).astype(F),
                rotations.astype(F),
                (first.opacities - 0.05 * t).astype(F),
                harmonics.astype(F),
            )
        )
    return tuple(out)


def same(a: Gaussians, b: Gaussians) -> bool:
    """Whether Gaussians are the same, bit by bit, in the same order."""
    names = ("positions", "scales", "rotations", "opacities", "harmonics")
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in names)


def rows(gaussians: Gaussians) -> np.ndarray:
    """The rows of Gaussians as bytes, sorted: the same for any order of them."""
    n = len(gaussians)
    parts = [gaussians.positions, gaussians.scales, gaussians.rotations, gaussians.opacities[:, None]]
    table = np.ascontiguousarray(np.concatenate([*parts, gaussians.harmonics.reshape(n, -1)], 1))
    return np.sort(table.view(f"V{table.shape[1] * 4}").reshape(-1))
