"""The rasteriser by the compiled kernels of native/splats, as two functions with gradients: project and composite."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from ....native import splats
from .camera import Camera
from .harmonics import used_degree

__all__ = ["draw"]

Background = tuple[float, float, float]


def draw(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], camera: Camera, background: Background, degree: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The image, alpha, radii and means2d of Gaussians in float32 on the CPU, as `rasterise.render` has them."""
    means, quaternions, scales, opacities, harmonics = tensors
    box: list[splats.Ellipses] = []
    drawn = used_degree(harmonics.shape[1], degree)
    means2d, conics, colours = _Project.apply(
        means, quaternions, scales, opacities.detach(), harmonics, camera, drawn, box
    )
    if means2d.requires_grad:
        means2d.retain_grad()
    image, light = _Composite.apply(means2d, conics, colours, opacities, box[0], camera, background)
    return image, 1 - light, torch.from_numpy(box[0].radii), means2d


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().contiguous().numpy()


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        camera, degree, box = inputs[5:]
        means, quaternions, scales, opacities, harmonics = (_array(tensor) for tensor in inputs[:5])
        scene = splats.Scene(means, quaternions, scales, opacities, harmonics, degree)
        seen = splats.project(scene, camera)
        box.append(seen)
        ctx.scene, ctx.camera, ctx.seen = scene, camera, seen
        # the gradients are of these numbers: torch says so if somebody changes them in between
        ctx.save_for_backward(*inputs[:5])
        return torch.from_numpy(seen.means2d), torch.from_numpy(seen.conics), torch.from_numpy(seen.colours)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018
        given = (_array(gradient) for gradient in gradients)
        means, quaternions, scales, harmonics = map(
            torch.from_numpy, splats.project_back(ctx.scene, ctx.camera, ctx.seen, *given)
        )
        return means, quaternions, scales, None, harmonics, None, None, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *_, opacities, seen, camera, background = inputs
        size = (camera.width, camera.height)
        image, light, last = splats.composite(seen, _array(opacities), size, background)
        ctx.seen, ctx.background, ctx.light, ctx.last = seen, background, light, last
        ctx.save_for_backward(*inputs[:4])
        return torch.from_numpy(image), torch.from_numpy(light)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        opacities = _array(ctx.saved_tensors[3])
        v_image, v_light = (_array(gradient) for gradient in gradients)
        given = splats.composite_back(ctx.seen, opacities, ctx.background, ctx.light, ctx.last, v_image, v_light)
        return (*map(torch.from_numpy, given), None, None, None)
