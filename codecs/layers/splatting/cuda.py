"""The rasteriser by gsplat, for tensors on a GPU: centres of pixels, dilation and the order of harmonics are ours.

gsplat ends a pixel and caps alpha at the same values, but cuts an ellipse at 3.33 deviations, where alpha of an opaque
Gaussian is about 1/255. Ye et al., "gsplat: An Open-Source Library for Gaussian Splatting", arXiv 2409.06765.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....errors import UsageError
from .camera import Camera
from .harmonics import used_degree
from .oracle import DILATION, NEAR

__all__ = ["draw"]


def draw(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    camera: Camera,
    background: tuple[float, float, float],
    degree: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The image, alpha, radii and means2d of Gaussians in float32 on a GPU, as `rasterise.render` has them."""
    try:
        from gsplat import rasterization  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError(f"gsplat can't be used ({error}): pip install gsplat, or take another backend") from None
    means, quaternions, scales, opacities, harmonics = tensors
    drawn = used_degree(harmonics.shape[1], degree)
    fx, fy, cx, cy = camera.intrinsics
    image, alpha, more = rasterization(
        means=means,
        quats=quaternions,
        scales=scales,
        opacities=opacities,
        colors=harmonics[:, : (drawn + 1) ** 2],
        viewmats=means.new_tensor(camera.world_to_camera)[None],
        Ks=means.new_tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])[None],
        width=camera.width,
        height=camera.height,
        near_plane=NEAR,
        eps2d=DILATION,
        sh_degree=drawn,
        packed=False,
        backgrounds=means.new_tensor(background)[None],
        render_mode="RGB",
        rasterize_mode="classic",
    )
    radii = more["radii"]  # (1, N), or (1, N, 2) from 1.5 on
    radii = radii.amax(-1) if radii.ndim == 3 else radii
    return image[0], alpha[0, ..., 0], radii[0].to(torch.int32), _flat(more["means2d"])


def _flat(centres: Tensor) -> Tensor:
    """The centres (1, N, 2) as (N, 2): gradients of the former arrive at the latter, which isn't in the graph."""
    flat = centres[0].detach()
    if centres.requires_grad:
        flat.requires_grad_()

        def keep(gradient: Tensor) -> None:
            flat.grad = gradient[0].detach()

        centres.register_hook(keep)
    return flat
