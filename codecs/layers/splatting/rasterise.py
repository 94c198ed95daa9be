"""One interface to the rasterisers: Gaussians and a camera to an image, with gradients or without torch.

Conventions are those of 3DGS: quaternions w, x, y, z; harmonics with `f_dc` first; a colour is linear in what the file
says, so images are as sRGB as the pictures that the Gaussians were fitted to.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ....errors import UsageError
from ....media.gaussians.values import Gaussians
from ....native import splats
from .camera import Camera
from .harmonics import used_degree

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BACKENDS", "Backend", "Rendering", "render", "render_array"]

Backend = Literal["auto", "compiled", "torch", "gsplat"]
BACKENDS: tuple[Backend, ...] = ("auto", "compiled", "torch", "gsplat")
WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Rendering:
    """An image of Gaussians, and what densification asks for.

    image: (H, W, 3), not clamped. alpha: (H, W). radii: (N,) int32, three deviations in pixels, 0 for what isn't seen.
    means2d: (N, 2) pixels; after `backward` its `grad` holds dL/d(means2d) per pixel (3DGS takes it per half image:
    times W/2 and H/2).
    """

    image: Tensor
    alpha: Tensor
    radii: Tensor
    means2d: Tensor


def render(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    camera: Camera,
    background: Sequence[float] = WHITE,
    degree: int | None = None,
    backend: Backend = "auto",
) -> Rendering:
    """An image of N Gaussians, differentiable in all five tensors.

    means: (N, 3). quaternions: (N, 4), w x y z, normalised here. scales: (N, 3), activated (exp is done). opacities:
    (N,), activated (sigmoid is done). harmonics: (N, K, 3), `f_dc` first. camera: a `Camera`, or what has its
    attributes. degree: draws only so many degrees of the harmonics. backend: "auto" takes gsplat for tensors on a GPU
    where it is installed, else the compiled kernels where there are any (float32 on the CPU), else torch.

    UsageError for wrong shapes. Gaussians whose numbers aren't finite, or that are behind the camera, aren't drawn.
    """
    _check(means, quaternions, scales, opacities, harmonics)
    rear = _triple(background)
    view = _camera_of(camera)
    tensors = (means, quaternions, scales, opacities, harmonics)
    chosen = _chosen(backend, means)
    if chosen == "compiled":
        from .compiled import draw

        return Rendering(*draw(tensors, view, rear, degree))
    if chosen == "gsplat":
        from .cuda import draw

        return Rendering(*draw(tensors, view, rear, degree))
    return _torch(tensors, view, rear, degree)


def _chosen(backend: Backend, means: Tensor) -> Backend:
    """The backend of these tensors. UsageError if they ask for what can't draw them here."""
    import torch

    if backend not in BACKENDS:
        raise UsageError(f"no backend {backend!r}: there are {', '.join(BACKENDS)}")
    fits = means.device.type == "cpu" and means.dtype == torch.float32
    if backend == "auto" and means.device.type == "cuda" and importlib.util.find_spec("gsplat") is not None:
        return "gsplat"
    if backend == "auto":
        return "compiled" if fits and splats.usable() else "torch"
    if backend == "compiled" and not fits:
        raise UsageError(f"the compiled backend draws float32 on the CPU, not {means.dtype} on {means.device}")
    if backend == "compiled" and not splats.usable():
        raise UsageError("this install has no compiled kernels: pip install it with a compiler, or take backend torch")
    return backend


def _camera_of(camera: Camera) -> Camera:
    if isinstance(camera, Camera):
        return camera
    return Camera(camera.width, camera.height, camera.intrinsics, camera.world_to_camera)


def _check(means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, harmonics: Tensor) -> None:
    n = means.shape[0] if means.ndim else 0
    shapes = {
        "means": (means, (n, 3)),
        "quaternions": (quaternions, (n, 4)),
        "scales": (scales, (n, 3)),
        "opacities": (opacities, (n,)),
    }
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape:
            raise UsageError(f"{name} of shape {tuple(tensor.shape)}; expected {shape}")
    if harmonics.ndim != 3 or harmonics.shape[0] != n or harmonics.shape[2] != 3 or not harmonics.shape[1]:
        raise UsageError(f"harmonics of shape {tuple(harmonics.shape)}; expected ({n}, K, 3)")
    if any(tensor.dtype != means.dtype or tensor.device != means.device for tensor, _ in shapes.values()):
        raise UsageError("Gaussians of several dtypes or devices; expected the same for all their tensors")
    if not means.dtype.is_floating_point or harmonics.dtype != means.dtype or harmonics.device != means.device:
        raise UsageError(f"Gaussians of {means.dtype} and {harmonics.dtype}; expected float32 for all, on one device")


def _torch(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    camera: Camera,
    background: tuple[float, float, float],
    degree: int | None,
) -> Rendering:
    from .oracle import composite, project

    seen = project(*tensors, camera, degree)
    if seen.means2d.requires_grad:
        seen.means2d.retain_grad()
    image, alpha = composite(seen, tensors[3], camera, background)
    return Rendering(image, alpha, seen.radii, seen.means2d)


def render_array(gaussians: Gaussians, camera: Camera, background: Sequence[float] = WHITE) -> NDArray[np.uint8]:
    """An image of the Gaussians of a file, (H, W, 3), by the compiled kernels, or slowly in NumPy without them.

    Needs no torch. The same bytes for any number of threads; kernels for other processors may round otherwise.
    """
    view = _camera_of(camera)
    with np.errstate(over="ignore"):  # what is too large isn't drawn
        scales = np.exp(gaussians.scales)
        opacities = np.float32(1) / (np.float32(1) + np.exp(-gaussians.opacities))
    harmonics = gaussians.harmonics
    parts = (gaussians.positions, gaussians.rotations, scales, opacities, harmonics)
    means, rotations, scales, opacities, harmonics = (np.ascontiguousarray(part, np.float32) for part in parts)
    scene = splats.Scene(means, rotations, scales, opacities, harmonics, used_degree(harmonics.shape[1]))
    seen = splats.project(scene, view)
    image, _, _ = splats.composite(seen, scene.opacities, (view.width, view.height), _triple(background))
    return (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _triple(background: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in background)
    return red, green, blue
