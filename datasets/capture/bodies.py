"""Animated bodies for synthetic captures: a figure of capsules, the Anny body model, and skinned glTF figures.

All are meshes with linear-blend skinning: v(t) = sum over joints j of w_j T_j(t) v. Axes: y up, faces along +z.
Anny: Bregier et al., "Human Mesh Modeling for Anny Body", ECCV 2026 (code Apache-2.0, body data CC0); it is the
optional package `anny`, and only shapes the body: the motion is that of `motion`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from .gltf import Skinned, read_glb
from .motion import Joints, perform

__all__ = ["BODIES", "Body", "anny_body", "body_named", "fitted", "gltf_body", "walker", "with_prop"]

Array = NDArray[np.float64]
Ints = NDArray[np.int32]

BODIES: Final = ("walker", "anny")  # and any .glb file

# Colours of regions of the surface
SKIN, HAIR, SHIRT, TROUSERS, SHOES, EYES, PROP = range(7)
PALETTE: Final = np.array(
    [
        *([0.80, 0.58, 0.46], [0.24, 0.15, 0.10], [0.16, 0.42, 0.66], [0.30, 0.30, 0.36]),
        *([0.62, 0.16, 0.14], [0.08, 0.08, 0.10], [0.72, 0.52, 0.20]),
    ]
)
_CONTRAST: Final = np.array([0.10, 0.30, 0.45, 0.30, 0.25, 0.0, 0.35])  # of the pattern in each region


@dataclass(frozen=True, eq=False)
class Body:
    """A mesh that moves. rest: (V, 3). faces: (F, 3). joints, weights: (V, k), the joints that move each vertex.

    transforms: the (J, 4, 4) matrices of a time in seconds. regions: (V,), rows of PALETTE. uv, texture: colours of its
    own, in place of the pattern. surface: (V, 3), where the pattern is evaluated: the rest, about 2 units high.
    """

    rest: Array
    faces: Ints
    joints: Ints
    weights: Array
    transforms: Callable[[float], Array]
    regions: Ints
    surface: Array
    uv: Array | None = None
    texture: NDArray[np.uint8] | None = None

    def vertices(self, seconds: float) -> Array:
        """The vertices at a time, (V, 3)."""
        transforms = self.transforms(seconds)
        out = np.zeros_like(self.rest)
        for k in range(self.joints.shape[1]):
            moved = transforms[self.joints[:, k]]
            place = np.einsum("vij,vj->vi", moved[:, :3, :3], self.rest) + moved[:, :3, 3]
            out += self.weights[:, k : k + 1] * place
        return out

    def colours(self, corners: NDArray[np.int64], weights: Array) -> Array:
        """The colours, (n, 3) in [0, 1], of places on the surface: corners (n, 3) with their weights (n, 3)."""
        if self.uv is not None and self.texture is not None:
            return _sampled(self.texture, (self.uv[corners] * weights[:, :, None]).sum(1))
        places = (self.surface[corners] * weights[:, :, None]).sum(1)
        share = np.zeros((len(corners), len(PALETTE)))
        for i in range(3):
            np.add.at(share, (np.arange(len(corners)), self.regions[corners[:, i]]), weights[:, i])
        region = share.argmax(1)
        return np.clip(PALETTE[region] * (1 + _CONTRAST[region, None] * _pattern(places)), 0, 1)


def _pattern(places: Array) -> Array:
    """A texture of sines at several scales, (n, 3), about -1 to 1; each colour channel has a little of its own."""
    rng = np.random.default_rng(2024)
    out = np.zeros((len(places), 3))
    for wavelength, strength in ((0.5, 0.35), (0.22, 0.35), (0.11, 0.4), (0.06, 0.35)):
        for _ in range(2):
            direction = rng.normal(size=3)
            direction *= 2 * np.pi / (wavelength * np.linalg.norm(direction))
            phase = rng.uniform(0, 2 * np.pi) + rng.uniform(-0.6, 0.6, 3)
            out += strength * np.sin((places @ direction)[:, None] + phase)
    return out / 1.5


def _sampled(texture: NDArray[np.uint8], uv: Array) -> Array:
    """Bilinear samples of a texture that repeats, (n, 3) in [0, 1]; v = 0 is its first row."""
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    u, v = (x - left)[:, None], (y - top)[:, None]

    def at(row: NDArray[np.int64], column: NDArray[np.int64]) -> Array:
        return texture[row % height, column % width] / 255.0

    upper = at(top, left) * (1 - u) + at(top, left + 1) * u
    lower = at(top + 1, left) * (1 - u) + at(top + 1, left + 1) * u
    return upper * (1 - v) + lower * v


def body_named(name: str, performance: str = "dance", seed: int = 0, shape: Mapping[str, float] | None = None) -> Body:
    """A body by its name of BODIES, or from a .glb file (`file.glb` or `file.glb:animation`). UsageError if none is.

    shape: age, height and so on of "anny", 0 to 1. performance, seed: the motion of bodies without one of their own.
    """
    if shape and name != "anny":
        raise UsageError(f"the shape of {name} is what it is: only anny has age, height and the like")
    if name == "walker":
        return walker(performance, seed)
    if name == "anny":
        return anny_body(performance, seed, shape)
    path, _, animation = name.partition(".glb:")
    if animation or name.lower().endswith(".glb"):
        return gltf_body(f"{path}.glb" if animation else name, animation or None)
    raise UsageError(f"no body {name!r}: there are {', '.join(BODIES)}, and skinned figures, by their .glb file")


# ---- figures


def gltf_body(path: str | os.PathLike[str], animation: str | None = None) -> Body:
    """A body from a skinned .glb file. MediaError if it isn't one."""
    figure: Skinned = read_glb(path, animation)
    low, high = figure.positions.min(0), figure.positions.max(0)
    surface = (figure.positions - (low + high) / 2) * (2 / max(float((high - low).max()), 1e-12))
    strongest = figure.joints[np.arange(len(figure.joints)), figure.weights.argmax(1)]
    return Body(
        rest=figure.positions,
        faces=figure.faces,
        joints=figure.joints,
        weights=figure.weights,
        transforms=figure.transforms,
        regions=np.array([SHIRT, TROUSERS, SHOES, SKIN], np.int32)[strongest % 4],
        surface=surface,
        uv=figure.uv,
        texture=figure.texture,
    )


# The figure of capsules: joint, its parent, its place, its end, radius, region
_BONES: Final = (
    ("hips", "", (0.0, 0.0, 0.0), (0.0, 0.12, 0.0), 0.15, TROUSERS),
    ("spine", "hips", (0.0, 0.12, 0.0), (0.0, 0.34, 0.0), 0.14, SHIRT),
    ("chest", "spine", (0.0, 0.34, 0.0), (0.0, 0.5, 0.0), 0.17, SHIRT),
    ("neck", "chest", (0.0, 0.6, 0.0), (0.0, 0.68, 0.0), 0.055, SKIN),
    ("head", "neck", (0.0, 0.74, 0.01), (0.0, 0.82, 0.01), 0.11, SKIN),
    *(
        bone
        for side, x in (("L", 1.0), ("R", -1.0))
        for bone in (
            (f"shoulder.{side}", "chest", (x * 0.2, 0.53, 0.0), (x * 0.38, 0.33, 0.0), 0.06, SHIRT),
            (f"elbow.{side}", f"shoulder.{side}", (x * 0.38, 0.33, 0.0), (x * 0.54, 0.15, 0.0), 0.048, SKIN),
            (f"wrist.{side}", f"elbow.{side}", (x * 0.55, 0.14, 0.0), (x * 0.61, 0.07, 0.0), 0.05, SKIN),
            (f"hip.{side}", "hips", (x * 0.1, -0.04, 0.0), (x * 0.11, -0.46, 0.0), 0.085, TROUSERS),
            (f"knee.{side}", f"hip.{side}", (x * 0.11, -0.46, 0.0), (x * 0.11, -0.86, 0.0), 0.06, TROUSERS),
            (f"ankle.{side}", f"knee.{side}", (x * 0.11, -0.9, 0.0), (x * 0.11, -0.92, 0.13), 0.055, SHOES),
        )
    ),
)


def walker(performance: str = "walk", seed: int = 0, detail: int = 12) -> Body:
    """A figure of capsules. detail: vertices around each, and about as many along it."""
    names = [bone[0] for bone in _BONES]
    heads = np.array([bone[2] for bone in _BONES], float)
    parents = [names.index(bone[1]) if bone[1] else -1 for bone in _BONES]
    roles = {name: [names.index(name)] for name in names}
    roles["spine"] = [names.index("spine"), names.index("chest")]
    roles["neck"] = [names.index("neck"), names.index("head")]
    parts, faces, joints, weights, regions, start = [], [], [], [], [], 0
    for joint, (_, _, head, end, radius, region) in enumerate(_BONES):
        points, triangles, along = _capsule(np.array(head), np.array(end), radius, detail)
        parts.append(points)
        faces.append(triangles + start)
        start += len(points)
        blend = np.clip(0.5 - along * np.linalg.norm(np.subtract(end, head)) / (2 * radius), 0, 0.5)
        above = max(parents[joint], 0)
        joints.append(np.tile([joint, above], (len(points), 1)))
        weights.append(np.stack([1 - blend, blend], 1))
        regions.append(np.full(len(points), region))
    rest, region = np.concatenate(parts), np.concatenate(regions)
    head = heads[names.index("head")]
    region = _with_face(rest, region, rest[:, 1] > 0.68, head + np.array([0, 0.05, 0.11]), 0.045)
    return Body(
        rest=rest,
        faces=np.concatenate(faces).astype(np.int32),
        joints=np.concatenate(joints).astype(np.int32),
        weights=np.concatenate(weights),
        transforms=perform(Joints(heads, parents, roles), performance, seed),
        regions=region.astype(np.int32),
        surface=rest,
    )


def _capsule(head: Array, end: Array, radius: float, detail: int) -> tuple[Array, NDArray[np.int64], Array]:
    """A capsule between two places: vertices, faces that turn outwards, and how far along (0 to 1) each vertex is."""
    length = float(np.linalg.norm(end - head))
    axis = (end - head) / length
    side = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    across = np.cross(axis, side)
    n_cap, n_middle = max(2, detail // 3), max(2, round(detail * length / (4 * radius)))
    cap = np.linspace(-np.pi / 2, 0, n_cap + 1)[1:]
    heights = np.concatenate([radius * np.sin(cap), np.linspace(0, length, n_middle + 1)[1:-1]])
    heights = np.concatenate([heights, length - radius * np.sin(cap[::-1])])
    widths = np.concatenate([radius * np.cos(cap), np.full(n_middle - 1, radius), radius * np.cos(cap[::-1])])
    around = np.linspace(0, 2 * np.pi, detail, endpoint=False)
    circle = np.cos(around)[:, None] * side + np.sin(around)[:, None] * across
    rings = head + heights[:, None, None] * axis + widths[:, None, None] * circle
    points = np.concatenate([rings.reshape(-1, 3), [head - radius * axis, end + radius * axis]])
    n_rings, faces = len(heights), []
    low, high = n_rings * detail, n_rings * detail + 1
    for i in range(detail):
        j = (i + 1) % detail
        faces += [[low, j, i], [high, (n_rings - 1) * detail + i, (n_rings - 1) * detail + j]]
        for r in range(n_rings - 1):
            a, b, c, d = r * detail + i, r * detail + j, (r + 1) * detail + i, (r + 1) * detail + j
            faces += [[a, b, d], [a, d, c]]
    return points, np.array(faces), np.clip((points - head) @ axis / length, 0, 1)


def _with_face(rest: Array, regions: NDArray, is_head: NDArray[np.bool_], front: Array, eye: float) -> NDArray:
    """Regions with hair on the top and the back of a head, and dark eyes and mouth. front: the point between the eyes.

    eye: half their distance.
    """
    out = regions.copy()
    offset = rest - front
    out[is_head & ((offset[:, 1] > 1.3 * eye) | (offset[:, 2] < -2.2 * eye) & (offset[:, 1] > -1.2 * eye))] = HAIR
    near = is_head & (offset[:, 2] > -1.2 * eye)
    for x, y, width, height in ((eye, 0, 0.4, 0.3), (-eye, 0, 0.4, 0.3), (0, -2.0 * eye, 0.7, 0.25)):
        out[near & (((offset[:, 0] - x) / width) ** 2 + ((offset[:, 1] - y) / height) ** 2 < eye**2)] = EYES
    return out


def anny_body(performance: str = "dance", seed: int = 0, shape: Mapping[str, float] | None = None) -> Body:
    """The body of the package anny, of 13 718 vertices, in a performance. UsageError if the package isn't installed.

    shape: gender, age, muscle, weight, height, proportions, each 0 to 1 (0.5 where nothing is said; age 2 / 3).
    Anny's first start takes minutes, and it keeps 800 MB in a folder of its own (ANNY_CACHE_DIR).
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            rest, heads, model = _anny_shape(shape or {})  # a library of anny's has much to say
    except ModuleNotFoundError as error:
        raise UsageError(f"this body needs {error.name}: pip install 'codec-suite[capture]'") from error
    upright = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # its z is up, and it looks along -y
    rest, heads = rest @ upright.T, heads @ upright.T
    labels = list(model.bone_labels)
    joints = model.vertex_bone_indices.numpy().astype(np.int32)
    weights = model.vertex_bone_weights.numpy().astype(float)
    parents = [int(parent) for parent in model.bone_parents]
    return Body(
        rest=rest,
        faces=model.faces.numpy().astype(np.int32),
        joints=joints,
        weights=weights / weights.sum(1, keepdims=True),
        transforms=perform(Joints(heads, parents, _anny_roles(labels)), performance, seed),
        regions=_anny_regions(rest, heads, labels, joints, weights),
        surface=rest * (2 / (rest[:, 1].max() - rest[:, 1].min())),
    )


def _anny_shape(shape: Mapping[str, float]) -> tuple[Array, Array, Any]:
    """Vertices and joints of a body at rest, in anny's axes, and anny's model."""
    import anny
    import torch

    model = anny.Anny()
    values = dict.fromkeys(model.phenotype_labels, 0.5) | {"age": 0.67}
    unknown = set(shape) - set(values)
    if unknown or any(not 0 <= value <= 1 for value in shape.values()):
        words = f"no {', '.join(sorted(unknown))} of a body" if unknown else "a value of a body's shape is outside 0..1"
        raise UsageError(f"{words}: there are {', '.join(values)}, each 0 to 1")
    with torch.no_grad():
        pose = torch.eye(4)[None, None].repeat(1, model.bone_count, 1, 1)
        out = model(pose_parameters=pose, phenotype_kwargs=values | dict(shape))
    rest, heads = (out[name][0].numpy().astype(float) for name in ("rest_vertices", "rest_bone_heads"))
    return rest, heads, model


def _anny_roles(labels: list[str]) -> dict[str, list[int]]:
    roles = {"spine": [f"spine0{i}" for i in (5, 4, 3, 2, 1)], "neck": ["neck01", "neck02", "neck03", "head"]}
    bones = {"shoulder": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist", "hip": "upperleg01"}
    for role, bone in {**bones, "knee": "lowerleg01"}.items():
        roles |= {f"{role}.{side}": [f"{bone}.{side}"] for side in ("L", "R")}
    return {role: [labels.index(name) for name in names] for role, names in roles.items()}


def _anny_regions(rest: Array, heads: Array, labels: list[str], joints: Ints, weights: Array) -> Ints:
    """Clothes by the bone that moves a vertex most, and a face."""
    kinds = {"toe": SHOES, "foot": SHOES, "upperleg": TROUSERS, "lowerleg": TROUSERS, "pelvis": TROUSERS}
    kinds |= {"root": TROUSERS, "spine": SHIRT, "clavicle": SHIRT, "shoulder": SHIRT, "upperarm": SHIRT}
    kinds |= {"eye": EYES}
    of_bone = [next((kind for name, kind in kinds.items() if label.startswith(name)), SKIN) for label in labels]
    strongest = joints[np.arange(len(joints)), weights.argmax(1)]
    regions = np.array(of_bone, np.int32)[strongest]
    is_head = strongest == labels.index("head")
    left, right = heads[labels.index("eye.L")], heads[labels.index("eye.R")]
    front = (left + right) / 2 + np.array([0, 0, 0.02])
    out = _with_face(rest, regions, is_head, front, abs(float(left[0] - right[0])) / 2)
    return np.where(regions == EYES, EYES, out).astype(np.int32)


def fitted(body: Body, times: Sequence[float], reach: float) -> Body:
    """The body moved and scaled so that at these times it is inside of [-reach, reach]^3 and touches its border."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for seconds in times:
        vertices = body.vertices(seconds)
        low, high = np.minimum(low, vertices.min(0)), np.maximum(high, vertices.max(0))
    size = float((high - low).max())
    if not (np.isfinite(size) and size > 0):
        raise UsageError("this body has no size, or one that isn't finite")
    matrix = np.eye(4) * (2 * reach / size)
    matrix[:3, 3] = (low + high) * (-reach / size)
    matrix[3, 3] = 1.0
    return replace(body, transforms=lambda seconds: matrix @ body.transforms(seconds))


def with_prop(body: Body, centre: tuple[float, float, float], radius: float, height: float) -> Body:
    """The body beside a drum that stands still: what doesn't move is part of performances, too."""
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.sin(around), np.zeros(24), np.cos(around)], 1) * radius
    levels = [np.array([0, y * height / 2, 0]) for y in (-1, -0.8, -0.8, 0.8, 0.8, 1)]
    widths = (1.0, 1.0, 0.94, 0.94, 1.0, 1.0)
    rings = [circle * [w, 1, w] + y for w, y in zip(widths, levels, strict=True)]
    points = np.concatenate([*rings, [[0, -height / 2, 0], [0, height / 2, 0]]]) + np.array(centre)
    faces, last = [], len(rings) - 1
    for i in range(24):
        j = (i + 1) % 24
        faces += [[24 * len(rings), j, i], [24 * len(rings) + 1, 24 * last + i, 24 * last + j]]
        for r in range(last):
            faces += [[24 * r + i, 24 * r + j, 24 * r + 24 + j], [24 * r + i, 24 * r + 24 + j, 24 * r + 24 + i]]
    n, width = len(points), body.joints.shape[1]
    n_joints = len(body.transforms(0.0))
    joints = np.zeros((n, width), np.int32)
    joints[:, 0] = n_joints
    weights = np.zeros((n, width))
    weights[:, 0] = 1.0
    uv = None if body.uv is None else np.concatenate([body.uv, np.zeros((n, 2))])
    return replace(
        body,
        rest=np.concatenate([body.rest, points]),
        faces=np.concatenate([body.faces, np.array(faces, np.int32) + len(body.rest)]).astype(np.int32),
        joints=np.concatenate([body.joints, joints]),
        weights=np.concatenate([body.weights, weights]),
        transforms=lambda seconds: np.concatenate([body.transforms(seconds), np.eye(4)[None]]),
        regions=np.concatenate([body.regions, np.full(n, PROP, np.int32)]),
        surface=np.concatenate([body.surface, points * 2 / max(height, radius) * 0.3]),
        uv=uv,
    )
