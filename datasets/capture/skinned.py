"""Gaussians that lie on the true surface of a synthetic capture and move with it: a sequence that nobody had to fit.

All frames have the same Gaussians in the same order. Shapes, colours and opacities flicker a little from frame to
frame, as those of a fit do, and shading changes with the surface; how much is a rule of ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...media.gaussians.values import DC, MAX_DEGREE, Gaussians, coefficients_of
from .layout import Truth

__all__ = ["FLICKER", "skinned"]

FLICKER = 0.004  # of logarithms of scales and of colours, standard deviation from frame to frame
_LIGHT = np.array([0.3, 0.8, 0.5])
_FLAT = 1.5  # how much thinner than wide a Gaussian is, as a logarithm

Array = NDArray[np.float64]


def skinned(
    truth: Truth, count: int, degree: int = 0, frames: int | None = None, seed: int = 0, flicker: float = FLICKER
) -> Iterator[Gaussians]:
    """The frames of a sequence of `count` Gaussians, the same for the same numbers. frames: the first so many.

    degree: of the harmonics. flicker: 0 leaves attributes as they are but for the shading. UsageError for numbers that
    can't be.
    """
    if count < 1 or not 0 <= degree <= MAX_DEGREE or flicker < 0:
        raise UsageError(
            f"{count} Gaussians of degree {degree}: expected at least 1, and a degree of 0 to {MAX_DEGREE}"
        )
    rng = np.random.default_rng(seed)
    faces, start = truth.faces, truth.vertices[0].astype(np.float64)
    areas = np.linalg.norm(_normals(start, faces), axis=1) / 2
    chosen = faces[rng.choice(len(faces), count, p=areas / areas.sum())]
    share = rng.dirichlet((1.0, 1.0, 1.0), count)
    rest = _points(start, chosen, share)
    waves = np.stack([np.sin(rest @ rng.normal(size=3) * 14 + k) for k in range(3)], 1)
    colour = 0.5 + 0.3 * waves + 0.05 * rng.normal(size=(count, 3))
    wide = np.log(0.8 * np.sqrt(areas.sum() / count)) + 0.15 * rng.normal(size=(count, 3)) - [0.0, 0.0, _FLAT]
    opacity = 2.5 + 1.5 * rng.normal(size=count)
    harmonics = 0.03 * rng.normal(size=(count, coefficients_of(degree) - 1, 3))
    for index, vertices in enumerate(truth.vertices[:frames]):
        surface = vertices.astype(np.float64)
        noise = np.random.default_rng((seed, index + 1))
        axes = _axes(surface, chosen)
        light = 0.75 + 0.25 * np.clip(axes[:, :, 2] @ _LIGHT, -1, 1)
        dc = (colour * light[:, None] - 0.5) / DC + flicker * noise.normal(size=(count, 3))
        higher = harmonics + 0.5 * flicker * noise.normal(size=harmonics.shape)
        yield Gaussians(
            _points(surface, chosen, share).astype(np.float32),
            (wide + flicker * noise.normal(size=(count, 3))).astype(np.float32),
            _quaternions(axes).astype(np.float32),
            (opacity + 2.5 * flicker * noise.normal(size=count)).astype(np.float32),
            np.concatenate([dc[:, None], higher], 1).astype(np.float32),
        )


def _points(vertices: Array, corners: NDArray[np.int32], share: Array) -> Array:
    return (vertices[corners] * share[:, :, None]).sum(1)


def _normals(vertices: Array, corners: NDArray[np.int32]) -> Array:
    a, b, c = (vertices[corners[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def _axes(vertices: Array, corners: NDArray[np.int32]) -> Array:
    """The axes of triangles as the columns of (N, 3, 3): along the first side, across it, and the normal."""
    along = _unit(vertices[corners[:, 1]] - vertices[corners[:, 0]])
    normal = _unit(_normals(vertices, corners))
    return np.stack([along, np.cross(normal, along), normal], 2)


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _quaternions(axes: Array) -> Array:
    """Quaternions w, x, y, z of rotation matrices (N, 3, 3), told from the largest of the four."""
    trace = np.einsum("nii->n", axes)
    squares = np.stack([1 + trace, *(1 - trace + 2 * axes[:, k, k] for k in range(3))], 1)  # 4 w^2, 4 x^2, ...
    products = np.empty((len(axes), 4, 4))  # 4 times the product of any two
    for k in range(4):
        products[:, k, k] = squares[:, k]
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1)), 1):
        products[:, 0, k] = products[:, k, 0] = axes[:, j, i] - axes[:, i, j]
        products[:, 1 + i, 1 + j] = products[:, 1 + j, 1 + i] = axes[:, i, j] + axes[:, j, i]
    largest = products[np.arange(len(axes)), squares.argmax(1)]
    return largest / np.maximum(np.linalg.norm(largest, axis=1, keepdims=True), 1e-12)
