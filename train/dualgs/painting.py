"""A step of every fit: Gaussians drawn into a view, and the loss against the picture that was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...codecs.layers.splatting.rasterise import Backend, Rendering, render
from .gaussians import Cloud
from .losses import Box, box_of, photometric, psnr, ssim
from .views import Views

__all__ = ["Drawn", "Look", "drawn", "look", "picture_loss"]


class Drawn(NamedTuple):
    """Gaussians as the rasteriser takes them: positions, rotations, scales, opacities and harmonics, activated."""

    positions: Tensor
    rotations: Tensor
    scales: Tensor
    opacities: Tensor
    harmonics: Tensor


@dataclass(frozen=True)
class Look:
    """The quality of a frame over some views: mean PSNR in decibels of pictures of 8 bits, mean SSIM."""

    psnr: float
    ssim: float


def drawn(cloud: Cloud, positions: Tensor | None = None, rotations: Tensor | None = None) -> Drawn:
    """Activates a cloud for the rasteriser, with other positions and rotations if they are given."""
    return Drawn(
        cloud.positions if positions is None else positions,
        cloud.rotations if rotations is None else rotations,
        cloud.scales,
        cloud.opacities,
        cloud.harmonics,
    )


def picture_loss(
    gaussians: Drawn, views: Views, view: int, weight: float, degree: int | None = None, backend: Backend = "auto"
) -> tuple[Tensor, Rendering]:
    """The photometric loss of a view, and the rendering. weight: of 1 - SSIM; degree: of the harmonics, so far."""
    rendering = render(*gaussians, camera=views.cameras[view], degree=degree, backend=backend)
    box = _union(views.boxes[view], box_of(rendering.alpha.detach() > 0)) if weight else None
    return photometric(rendering.image, views.target(view), weight, box), rendering


def _union(a: Box, b: Box) -> Box:
    return Box(min(a.top, b.top), max(a.bottom, b.bottom), min(a.left, b.left), max(a.right, b.right))


def look(gaussians: Drawn, views: Views, which: Sequence[int] | None = None, backend: Backend = "auto") -> Look:
    """The quality of a frame over its views, or some of them."""
    decibels, similarities = [], []
    with torch.no_grad():
        for view in range(len(views)) if which is None else which:
            image = render(*gaussians, camera=views.cameras[view], backend=backend).image.clamp(0, 1)
            target = views.target(view)
            decibels.append(psnr(image, target))
            similarities.append(float(ssim(image, target)))
    count = max(1, len(decibels))
    return Look(sum(decibels) / count, sum(similarities) / count)
