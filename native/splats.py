"""The rasteriser of 3D Gaussians: projection and compositing with their gradients, and their twin in NumPy.

Conventions are in codecs/layers/splatting, which has the other oracle, in torch, with gradients. The twin here draws
only: it runs where nothing could be compiled. Results are the same bits for any number of threads on one machine.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from . import check, library

__all__ = ["Ellipses", "Scene", "View", "composite", "composite_back", "project", "project_back", "usable"]

Array = NDArray[np.float32]

NEAR, DILATION, FRAME = 0.01, 0.3, 0.3
MOST_ALPHA, LEAST_ALPHA, LEAST_LIGHT = 0.99, 1 / 255, 1e-4
TILE = 16
ROOM = 1 << 22  # pairs of an ellipse and a tile that are listed at a time: about 200 MB with their gradients


class View(Protocol):
    """A pinhole camera, as codecs/layers/splatting/camera.Camera."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def intrinsics(self) -> tuple[float, float, float, float]: ...
    @property
    def world_to_camera(self) -> NDArray[np.float64]: ...


@dataclass(frozen=True, eq=False)
class Scene:
    """Gaussians with activated scales and opacities, as contiguous float32.

    means: (N, 3). quaternions: (N, 4), w x y z. scales: (N, 3). opacities: (N,). harmonics: (N, K, 3). degree: of the
    harmonics that are drawn, 0 to 3.
    """

    means: Array
    quaternions: Array
    scales: Array
    opacities: Array
    harmonics: Array
    degree: int

    def __post_init__(self) -> None:
        n, coefficients = self.harmonics.shape[:2]
        shapes = {"means": (n, 3), "quaternions": (n, 4), "scales": (n, 3), "opacities": (n,)}
        for name, shape in {**shapes, "harmonics": (n, coefficients, 3)}.items():
            _checked(name, getattr(self, name), shape)
        if not 0 <= self.degree <= 3 or (self.degree + 1) ** 2 > coefficients:
            raise UsageError(f"degree {self.degree} of {coefficients} harmonics; expected 0 to 3, and no more than has")

    def __len__(self) -> int:
        return len(self.means)


@dataclass(frozen=True, eq=False)
class Ellipses:
    """Gaussians in an image.

    means2d: (N, 2) pixels. conics: (N, 3), the inverse covariance as xx, xy, yy. colours: (N, 3). depths: (N,). reach:
    (N, 2), how far alpha is not ignored. radii: (N,) int32, three deviations; 0, as all else, for what isn't seen.
    """

    means2d: Array
    conics: Array
    colours: Array
    depths: Array
    reach: Array
    radii: NDArray[np.int32]


def usable() -> bool:
    """Whether the compiled kernels are there: without them nothing has gradients, and drawing is slow."""
    module = library()
    return module is not None and hasattr(module, "codec_splats_composite")


def _checked(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: type = np.float32) -> NDArray[Any]:
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise UsageError(f"{name} of {array.dtype} {array.shape}; expected contiguous {np.dtype(dtype)} {shape}")
    return array


class _Scene(ctypes.Structure):  # as in src/args_splats.h
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("means", "quaternions", "scales", "opacities", "harmonics")),
        *((name, ctypes.c_void_p) for name in ("means2d", "conics", "colours", "depths", "reach", "radii")),
        *((name, ctypes.c_void_p) for name in ("v_means2d", "v_conics", "v_colours")),
        *((name, ctypes.c_void_p) for name in ("v_means", "v_quaternions", "v_scales", "v_harmonics")),
        *((name, ctypes.c_int64) for name in ("n", "coefficients", "degree", "width", "height")),
        ("view", ctypes.c_float * 12),
        ("centre", ctypes.c_float * 3),
        ("intrinsics", ctypes.c_float * 4),
    ]


class _Picture(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("means2d", "conics", "colours", "opacities", "depths", "reach")),
        *((name, ctypes.c_void_p) for name in ("radii", "image", "light", "last", "v_image", "v_light")),
        *((name, ctypes.c_void_p) for name in ("v_means2d", "v_conics", "v_colours", "v_opacities")),
        *((name, ctypes.c_int64) for name in ("n", "width", "height", "room")),
        ("background", ctypes.c_float * 3),
    ]


def _pointers(**arrays: NDArray[Any]) -> dict[str, int]:
    return {name: array.ctypes.data for name, array in arrays.items()}


def _scene(scene: Scene, view: View, seen: Ellipses, **gradients: Array) -> _Scene:
    matrix = view.world_to_camera
    centre = -matrix[:3, :3].T @ matrix[:3, 3]
    return _Scene(
        **_pointers(
            means=scene.means,
            quaternions=scene.quaternions,
            scales=scene.scales,
            opacities=scene.opacities,
            harmonics=scene.harmonics,
            means2d=seen.means2d,
            conics=seen.conics,
            colours=seen.colours,
            depths=seen.depths,
            reach=seen.reach,
            radii=seen.radii,
            **gradients,
        ),
        n=len(scene),
        coefficients=scene.harmonics.shape[1],
        degree=scene.degree,
        width=view.width,
        height=view.height,
        view=(ctypes.c_float * 12)(*matrix[:3].ravel()),
        centre=(ctypes.c_float * 3)(*centre),
        intrinsics=(ctypes.c_float * 4)(*view.intrinsics),
    )


def project(scene: Scene, view: View) -> Ellipses:
    """The ellipses of a scene. Gaussians whose numbers aren't finite, or that are behind the camera, aren't seen."""
    n = len(scene)
    shapes = ((n, 2), (n, 3), (n, 3), (n,), (n, 2))
    means2d, conics, colours, depths, reach = (np.empty(shape, np.float32) for shape in shapes)
    seen = Ellipses(means2d, conics, colours, depths, reach, np.empty(n, np.int32))
    module = library() if usable() else None
    if module is None:
        return _projected(scene, view)
    check(module.codec_splats_project(ctypes.byref(_scene(scene, view, seen))))
    return seen


def project_back(
    scene: Scene, view: View, seen: Ellipses, means2d: Array, conics: Array, colours: Array
) -> tuple[Array, Array, Array, Array]:
    """The gradients of means, quaternions, scales and harmonics, from those of the ellipses. Needs the kernels."""
    module = library() if usable() else None
    assert module is not None, "there are no compiled kernels"
    n = len(scene)
    given = {"v_means2d": means2d, "v_conics": conics, "v_colours": colours}
    for (name, array), width in zip(given.items(), (2, 3, 3), strict=True):
        _checked(name, array, (n, width))
    like = {"means": scene.means, "quaternions": scene.quaternions, "scales": scene.scales}
    out = {f"v_{name}": np.zeros_like(array) for name, array in {**like, "harmonics": scene.harmonics}.items()}
    check(module.codec_splats_project_back(ctypes.byref(_scene(scene, view, seen, **given, **out))))
    return out["v_means"], out["v_quaternions"], out["v_scales"], out["v_harmonics"]


def _picture(
    seen: Ellipses, opacities: Array, size: tuple[int, int], background: Sequence[float], room: int, **more: Any
) -> _Picture:
    n = len(seen.means2d)
    _checked("opacities", opacities, (n,))
    for name, width in (("means2d", 2), ("conics", 3), ("colours", 3), ("reach", 2)):
        _checked(name, getattr(seen, name), (n, width))
    _checked("depths", seen.depths, (n,))
    _checked("radii", seen.radii, (n,), np.int32)
    return _Picture(
        **_pointers(
            means2d=seen.means2d,
            conics=seen.conics,
            colours=seen.colours,
            opacities=opacities,
            depths=seen.depths,
            reach=seen.reach,
            radii=seen.radii,
            **more,
        ),
        n=n,
        width=size[0],
        height=size[1],
        room=room,
        background=(ctypes.c_float * 3)(*background),
    )


def composite(
    seen: Ellipses, opacities: Array, size: tuple[int, int], background: Sequence[float], room: int = ROOM
) -> tuple[Array, Array, NDArray[np.int32]]:
    """The image (H, W, 3), the light that is left (H, W), and where pixels ended in the lists of their tiles (H, W).

    size: width and height. room: pairs of an ellipse and a tile that are listed at a time; the result is the same.
    """
    width, height = size
    image, light = np.empty((height, width, 3), np.float32), np.empty((height, width), np.float32)
    last = np.full((height, width), -1, np.int32)
    call = _picture(seen, opacities, size, background, room, image=image, light=light, last=last)
    module = library() if usable() else None
    if module is None:
        _composited(seen, opacities, background, image, light)
        return image, light, last
    check(module.codec_splats_composite(ctypes.byref(call)))
    return image, light, last


def composite_back(
    seen: Ellipses,
    opacities: Array,
    background: Sequence[float],
    light: Array,
    last: NDArray[np.int32],
    v_image: Array,
    v_light: Array,
    room: int = ROOM,
) -> tuple[Array, Array, Array, Array]:
    """The gradients of means2d, conics, colours and opacities, from those of the image. Needs the kernels.

    light, last: as `composite` gave them. v_image: (H, W, 3). v_light: (H, W).
    """
    module = library() if usable() else None
    assert module is not None, "there are no compiled kernels"
    height, width = light.shape
    _checked("light", light, (height, width))
    _checked("last", last, (height, width), np.int32)
    given = {
        "v_image": _checked("v_image", v_image, (height, width, 3)),
        "v_light": _checked("v_light", v_light, (height, width)),
    }
    n = len(opacities)
    out = [np.zeros(shape, np.float32) for shape in ((n, 2), (n, 3), (n, 3), (n,))]
    names = ("v_means2d", "v_conics", "v_colours", "v_opacities")
    more = {"light": light, "last": last, **given, **dict(zip(names, out, strict=True))}
    call = _picture(seen, opacities, (width, height), background, room, **more)
    check(module.codec_splats_composite_back(ctypes.byref(call)))
    return out[0], out[1], out[2], out[3]


# ---- the twin


def _projected(scene: Scene, view: View) -> Ellipses:
    matrix = view.world_to_camera.astype(np.float32)
    fx, fy, cx, cy = view.intrinsics
    with np.errstate(all="ignore"):  # what isn't finite isn't seen
        x, y, z = (scene.means @ matrix[:3, :3].T + matrix[:3, 3]).T
        ahead = z > NEAR
        depth = np.where(ahead, z, 1)
        means2d = np.stack([fx * x / depth + cx, fy * y / depth + cy], 1)
        lean_x, lean_y = FRAME * view.width / 2 / fx, FRAME * view.height / 2 / fy
        slope_x = np.clip(x / depth, -cx / fx - lean_x, (view.width - cx) / fx + lean_x)
        slope_y = np.clip(y / depth, -cy / fy - lean_y, (view.height - cy) / fy + lean_y)
        zero = np.zeros_like(depth)
        first = np.stack([fx / depth, zero, -fx * slope_x / depth], 1) @ matrix[:3, :3]
        second = np.stack([zero, fy / depth, -fy * slope_y / depth], 1) @ matrix[:3, :3]
        spread = _rotations(scene.quaternions) * scene.scales[:, None, :]
        first, second = (np.einsum("ni,nij->nj", part, spread) for part in (first, second))
        xx, xy, yy = (first * first).sum(1), (first * second).sum(1), (second * second).sum(1)
        area = np.square(np.cross(first, second)).sum(1) + DILATION * (xx + yy) + DILATION**2
        xx, yy = xx + DILATION, yy + DILATION
        conics = np.stack([yy / area, -xy / area, xx / area], 1)
        colours = _colours(scene, view)
        strength = 2 * np.log(np.maximum(scene.opacities * 255, 1))
        reach = np.sqrt(strength[:, None] * np.stack([xx, yy], 1))
        size = np.array([view.width, view.height])
        seen = ahead & (scene.opacities >= LEAST_ALPHA) & np.isfinite(area) & np.isfinite(scene.opacities)
        for part in (means2d, conics, colours):
            seen &= np.isfinite(part).all(1)
        seen &= ((means2d + reach > 0) & (means2d - reach < size)).all(1)
        largest = (xx + yy) / 2 + np.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
        radii = np.where(seen, np.clip(np.ceil(3 * np.sqrt(largest)), 1, 1 << 24), 0)
    held = (np.where(seen[:, None], part, 0).astype(np.float32) for part in (means2d, conics, colours))
    means2d, conics, colours = held
    reach = np.where(seen[:, None], reach, 0).astype(np.float32)
    return Ellipses(
        means2d, conics, colours, np.where(seen, depth, 0).astype(np.float32), reach, radii.astype(np.int32)
    )


def _rotations(quaternions: Array) -> Array:
    length = np.maximum(np.linalg.norm(quaternions, axis=1, keepdims=True), 1e-12)
    w, x, y, z = (quaternions / length).T
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return np.stack(rows, 1).reshape(-1, 3, 3)


def _colours(scene: Scene, view: View) -> Array:
    matrix = view.world_to_camera
    away = scene.means - (-matrix[:3, :3].T @ matrix[:3, 3]).astype(np.float32)
    x, y, z = (away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)).T
    xx, yy, zz = x * x, y * y, z * z
    terms = [np.full_like(x, 0.28209479177387814), *(0.4886025119029199 * t for t in (-y, z, -x))]
    terms += [*(1.0925484305920792 * t for t in (x * y, -y * z)), 0.31539156525252005 * (2 * zz - xx - yy)]
    terms += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    terms += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
    terms += [-0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy)]
    terms += [-0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy)]
    terms += [-0.5900435899266435 * x * (xx - 3 * yy)]
    n = (scene.degree + 1) ** 2
    return np.maximum(np.einsum("kn,nkc->nc", np.stack(terms[:n]), scene.harmonics[:, :n]) + np.float32(0.5), 0)


def _composited(seen: Ellipses, opacities: Array, background: Sequence[float], image: Array, light: Array) -> None:
    height, width = light.shape
    order = np.flatnonzero(seen.radii)
    order = order[np.argsort(seen.depths[order], kind="stable")]
    low, high = seen.means2d[order] - seen.reach[order], seen.means2d[order] + seen.reach[order]
    for top in range(0, height, TILE):
        band = (high[:, 1] >= top) & (low[:, 1] <= top + TILE)
        for left in range(0, width, TILE):
            here = order[band & (high[:, 0] >= left) & (low[:, 0] <= left + TILE)]
            tile = slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
            y, x = np.mgrid[tile].astype(np.float32) + np.float32(0.5)
            colour, rest = np.zeros((*x.shape, 3), np.float32), np.ones(x.shape, np.float32)
            ended = np.zeros(x.shape, bool)
            for i in here:
                dx, dy = x - seen.means2d[i, 0], y - seen.means2d[i, 1]
                xx, xy, yy = seen.conics[i]
                power = np.minimum(-0.5 * (xx * dx * dx + yy * dy * dy) - xy * dx * dy, 0)
                alpha = np.minimum(opacities[i] * np.exp(power), np.float32(MOST_ALPHA))
                taken = (alpha >= LEAST_ALPHA) & ~ended
                behind = rest - rest * alpha
                ended |= taken & (behind < LEAST_LIGHT)
                taken &= ~ended
                colour += np.where(taken, rest * alpha, 0)[..., None] * seen.colours[i]
                rest = np.where(taken, behind, rest)
                if ended.all():
                    break
            image[tile] = colour + rest[..., None] * np.asarray(background, np.float32)
            light[tile] = rest
