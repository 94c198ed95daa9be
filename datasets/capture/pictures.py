"""Pictures of a mesh from pinhole cameras: exact visibility on the CPU, in NumPy alone, supersampled against white.

Triangles are projected, all samples inside of each are listed, and a depth buffer keeps the nearest. Colours come from
the surface at rest, so that they move with it. Light stands still in the world: Lambert's law and a soft highlight,
which depends on the view (Blinn 1977).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .bodies import Body
from .views import View

__all__ = ["Hits", "draw", "trace", "vertex_normals"]

Array = NDArray[np.float64]

NEAR: Final = 0.01
_CHUNK = 1 << 21  # samples that are looked at together
_LIGHTS: Final = (((0.5, 0.8, 0.6), 0.55), ((-0.8, 0.3, -0.2), 0.18))  # directions and strengths
_AMBIENT, _HIGHLIGHT, _SHININESS = 0.42, 0.22, 14.0


@dataclass(frozen=True, eq=False)
class Hits:
    """The samples of a picture that see a mesh. samples: (n,), flat indices, by row. corners: (n, 3), the vertices of
    the face that each sees. weights: (n, 3), their shares in the place that is seen."""

    samples: NDArray[np.int64]
    corners: NDArray[np.int64]
    weights: Array


def draw(body: Body, vertices: Array, view: View, supersampling: int = 2) -> NDArray[np.uint8]:
    """The picture of a body whose vertices are here now, (height, width, 3), on pure white.

    Every pixel is the mean of supersampling^2 samples; one that no sample of hits the body is 255.
    """
    s = supersampling
    hits = trace(vertices, body.faces, view, s)
    samples = np.ones((view.height * s * view.width * s, 3))
    if len(hits.samples):
        samples[hits.samples] = _shade(body, vertices, hits, view)
    pixels = samples.reshape(view.height, s, view.width, s, 3).mean((1, 3))
    return np.rint(255 * pixels).astype(np.uint8)


def trace(vertices: Array, faces: NDArray[np.integer], view: View, supersampling: int = 1) -> Hits:
    """The nearest face at each sample. Faces that reach behind the camera are left out."""
    s, corners = supersampling, view.project(vertices)
    n_columns, n_rows = view.width * s, view.height * s
    points = corners[:, :2] * s - 0.5  # the centre of sample (0, 0) is at 0, 0
    inverse = 1 / np.maximum(corners[:, 2], NEAR)
    faces = faces[(corners[faces, 2] > NEAR).all(1)]
    nearest = np.zeros(n_rows * n_columns)
    holder = np.full(n_rows * n_columns, -1, np.int64)
    for ids, x, y in _samples(points, faces, n_columns, n_rows):
        bary = _barycentric(points[faces[ids]], x, y)
        inside = (bary >= 0).all(1)
        ids, x, y, bary = ids[inside], x[inside], y[inside], bary[inside]
        depth = (bary * inverse[faces[ids]]).sum(1)  # 1 / z is linear in the picture
        place = y * n_columns + x
        np.maximum.at(nearest, place, depth)
        wins = depth >= nearest[place]
        holder[place[wins]] = ids[wins]
    samples = np.flatnonzero(holder >= 0)
    ids = holder[samples]
    bary = _barycentric(points[faces[ids]], samples % n_columns, samples // n_columns)
    weights = bary * inverse[faces[ids]]
    return Hits(samples, faces[ids].astype(np.int64), weights / weights.sum(1, keepdims=True))


def _samples(
    points: Array, faces: NDArray[np.integer], n_columns: int, n_rows: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """All samples in the boxes around the faces: index of the face, column, row. Some at a time."""
    boxes = points[faces]
    limit = np.array([n_columns - 1, n_rows - 1])
    low = np.clip(np.ceil(boxes.min(1)), 0, limit + 1).astype(np.int64)
    high = np.clip(np.floor(boxes.max(1)), -1, limit).astype(np.int64)
    size = np.maximum(high - low + 1, 0)
    n = size[:, 0] * size[:, 1]
    seen = np.flatnonzero(n)
    ends = np.cumsum(n[seen])
    start = 0
    while start < len(seen):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK)))
        part = seen[start:stop]
        ids = np.repeat(part, n[part])
        rank = np.arange(len(ids)) - np.repeat(ends[start:stop] - n[part] - before, n[part])
        width = size[ids, 0]
        yield ids, low[ids, 0] + rank % width, low[ids, 1] + rank // width
        start = stop


def _barycentric(triangles: Array, x: NDArray[np.int64], y: NDArray[np.int64]) -> Array:
    """The weights of the corners of triangles, (n, 3, 2), at points of the picture; below 0 outside."""
    (ax, ay), (bx, by), (cx, cy) = (triangles[:, i].T for i in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    area = np.where(area == 0, np.inf, area)
    b = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
    c = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
    a = np.where(np.isinf(area), -1.0, 1 - b - c)
    return np.stack([a, b, c], 1)


def vertex_normals(vertices: Array, faces: NDArray[np.integer]) -> Array:
    """Unit normals of the vertices, (V, 3): of the faces around each, weighted by their areas."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for i in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(faces[:, i], normals[:, axis], len(vertices))
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def _shade(body: Body, vertices: Array, hits: Hits, view: View) -> Array:
    """The colours of hits, (n, 3) in [0, 1]."""

    def at_hits(values: Array) -> Array:
        return (values[hits.corners] * hits.weights[:, :, None]).sum(1)

    normal = at_hits(vertex_normals(vertices, body.faces))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    towards = view.centre - at_hits(vertices)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    normal *= np.where((normal * towards).sum(1) < 0, -1.0, 1.0)[:, None]  # the inside of an open mesh
    light = np.full(len(normal), _AMBIENT)
    for direction, strength in _LIGHTS:
        unit = np.array(direction) / np.linalg.norm(direction)
        light += strength * np.maximum(normal @ unit, 0)
    unit = np.array(_LIGHTS[0][0]) / np.linalg.norm(_LIGHTS[0][0])
    half = towards + unit
    half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-12)
    gloss = _HIGHLIGHT * np.maximum((normal * half).sum(1), 0) ** _SHININESS
    colour = body.colours(hits.corners, hits.weights)
    return np.clip(colour * light[:, None] + gloss[:, None], 0, 0.97)  # 1 is the background's alone
