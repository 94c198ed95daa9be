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
    (N, 2), how far alpha is not ignored. radii: (N,) int32, three deviations, 0 for what isn't seen: all else is 0 then.
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
    seen = Ellipses(*(np.empty(shape, np.float32) for shape in shapes), np.empty(n, np.int32))
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
    n = len(opacities)
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
    raise NotImplementedError


def _composited(seen: Ellipses, opacities: Array, background: Sequence[float], image: Array, light: Array) -> None:
    raise NotImplementedError
