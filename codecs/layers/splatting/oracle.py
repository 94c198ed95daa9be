"""The rasteriser in pure torch, tile by tile: slow, differentiable by autograd, in float32 or float64; the oracle.

EWA splatting as in 3DGS: each Gaussian becomes an ellipse of the image, dilated by 0.3 square pixels; its alpha is
opacity times exp(-d^2 / 2), at most 0.99, and ignored below 1/255; ellipses are composited front to back by depth, and
the first that would leave less than 1e-4 of the light ends a pixel. An ellipse reaches as far as its alpha does, so
tiles change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .camera import Camera
from .harmonics import colours

__all__ = ["DILATION", "LEAST_ALPHA", "LEAST_LIGHT", "MOST_ALPHA", "NEAR", "Projection", "composite", "project"]

NEAR = 0.01  # depth of the nearest Gaussian that is drawn
DILATION = 0.3  # square pixels, added to the variances of each ellipse
MOST_ALPHA = 0.99
LEAST_ALPHA = 1 / 255
LEAST_LIGHT = 1e-4
FRAME = 0.3  # derivatives are taken within the image and so much of its half side beyond it
TILE = 16


@dataclass(frozen=True, eq=False)
class Projection:
    """The ellipses of N Gaussians in an image.

    means2d: (N, 2) pixels. conics: (N, 3), the inverse covariance as xx, xy, yy. colours: (N, 3). depths: (N,). reach:
    (N, 2), how far alpha is not ignored, in x and y. radii: (N,) int32, three deviations; 0 for what isn't seen.
    """

    means2d: Tensor
    conics: Tensor
    colours: Tensor
    depths: Tensor
    reach: Tensor
    radii: Tensor


def project(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    camera: Camera,
    degree: int | None = None,
) -> Projection:
    """The ellipses of Gaussians whose scales and opacities are activated. Shapes: `rasterise.render`."""
    view = torch.as_tensor(camera.world_to_camera, dtype=means.dtype, device=means.device)
    rotation, translation = view[:3, :3], view[:3, 3]
    x, y, z = (means @ rotation.T + translation).unbind(-1)
    ahead = z > NEAR
    depth = torch.where(ahead, z, torch.ones_like(z))
    fx, fy, cx, cy = camera.intrinsics
    means2d = torch.stack([fx * x / depth + cx, fy * y / depth + cy], -1)
    first, second = _axes(x, y, depth, camera)
    first, second = (part @ rotation for part in (first, second))  # (N, 3): rows of the Jacobian, in the world
    spread = rotations(quaternions) * scales[:, None, :]  # (N, 3, 3)
    first, second = ((part[:, None, :] @ spread)[:, 0] for part in (first, second))
    xx, xy, yy = (first * first).sum(-1), (first * second).sum(-1), (second * second).sum(-1)
    # by minors, since xx yy - xy^2 cancels for needles
    area = torch.linalg.cross(first, second).square().sum(-1) + DILATION * (xx + yy) + DILATION**2
    xx, yy = xx + DILATION, yy + DILATION
    conics = torch.stack([yy / area, -xy / area, xx / area], -1)
    centre = torch.as_tensor(camera.centre, dtype=means.dtype, device=means.device)
    away = means - centre
    directions = away / away.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    shades = colours(harmonics, directions, degree)
    with torch.no_grad():
        reach, radii = _reach(means2d, xx, xy, yy, opacities, camera)
        fine = ahead & torch.isfinite(area) & torch.isfinite(conics).all(-1) & torch.isfinite(shades).all(-1)
        radii = torch.where(fine, radii, 0).to(torch.int32)
    return Projection(means2d, conics, shades, depth, reach, radii)


def rotations(quaternions: Tensor) -> Tensor:
    """The rotation matrices of quaternions w, x, y, z of any length; the identity for 0. (N, 4) to (N, 3, 3)."""
    w, x, y, z = (quaternions / quaternions.norm(dim=-1, keepdim=True).clamp_min(1e-12)).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def _axes(x: Tensor, y: Tensor, z: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """The rows of the Jacobian of the projection, each (N, 3), taken not far beyond the edges of the image."""
    fx, fy, cx, cy = camera.intrinsics
    margin_x, margin_y = FRAME * camera.width / 2 / fx, FRAME * camera.height / 2 / fy
    slope_x = (x / z).clamp(-cx / fx - margin_x, (camera.width - cx) / fx + margin_x)
    slope_y = (y / z).clamp(-cy / fy - margin_y, (camera.height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    return torch.stack([fx / z, zero, -fx * slope_x / z], -1), torch.stack([zero, fy / z, -fy * slope_y / z], -1)


def _reach(
    means2d: Tensor, xx: Tensor, xy: Tensor, yy: Tensor, opacities: Tensor, camera: Camera
) -> tuple[Tensor, Tensor]:
    strength = (2 * torch.log((opacities / LEAST_ALPHA).clamp_min(1e-30))).clamp_min(0)
    reach = torch.sqrt(strength[:, None] * torch.stack([xx, yy], -1))
    size = torch.tensor([camera.width, camera.height], dtype=reach.dtype, device=reach.device)
    inside = ((means2d + reach > 0) & (means2d - reach < size)).all(-1) & (opacities >= LEAST_ALPHA)
    middle = (xx + yy) / 2
    largest = middle + torch.sqrt((((xx - yy) / 2) ** 2 + xy * xy).clamp_min(0))
    radii = torch.ceil(3 * torch.sqrt(largest)).clamp(1, 1 << 24)
    return reach, torch.where(inside, torch.nan_to_num(radii), 0)


def composite(
    seen: Projection, opacities: Tensor, camera: Camera, background: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    """The image (H, W, 3) and alpha (H, W) of ellipses."""
    order = torch.nonzero(seen.radii > 0)[:, 0]
    order = order[torch.argsort(seen.depths.detach()[order], stable=True)]
    means2d, conics, shades, alphas = (part[order] for part in (seen.means2d, seen.conics, seen.colours, opacities))
    lowest, highest = ((means2d + side * seen.reach[order]).detach() for side in (-1, 1))
    rear = torch.tensor(background, dtype=means2d.dtype, device=means2d.device)
    lines, covers = [], []
    for top in range(0, camera.height, TILE):
        height = min(TILE, camera.height - top)
        band = torch.nonzero((highest[:, 1] >= top) & (lowest[:, 1] <= top + height))[:, 0]
        parts = []
        for left in range(0, camera.width, TILE):
            width = min(TILE, camera.width - left)
            here = band[(highest[band, 0] >= left) & (lowest[band, 0] <= left + width)]
            centres = _centres(left, top, width, height, means2d)
            weights = _weights(centres, means2d[here], conics[here], alphas[here])
            colour = weights @ shades[here] if len(here) else weights.new_zeros(len(centres), 3)
            cover = weights.sum(-1)
            colour = colour + (1 - cover)[:, None] * rear
            parts.append((colour.reshape(height, width, 3), cover.reshape(height, width)))
        lines.append(torch.cat([colour for colour, _ in parts], 1))
        covers.append(torch.cat([cover for _, cover in parts], 1))
    return torch.cat(lines), torch.cat(covers)


def _centres(left: int, top: int, width: int, height: int, like: Tensor) -> Tensor:
    x = torch.arange(left, left + width, dtype=like.dtype, device=like.device) + 0.5
    y = torch.arange(top, top + height, dtype=like.dtype, device=like.device) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


def _weights(centres: Tensor, means2d: Tensor, conics: Tensor, opacities: Tensor) -> Tensor:
    """The weights of K ellipses, front to back, in P pixels: (P, K)."""
    dx, dy = (centres[:, None] - means2d).unbind(-1)
    xx, xy, yy = conics.unbind(-1)
    power = -0.5 * (xx * dx * dx + yy * dy * dy) - xy * dx * dy
    alpha = (opacities * torch.exp(power.clamp_max(0))).clamp_max(MOST_ALPHA)
    alpha = torch.where(alpha >= LEAST_ALPHA, alpha, torch.zeros_like(alpha))
    logarithm = torch.cumsum(torch.log1p(-alpha), -1)  # of the light behind each
    behind = torch.exp(logarithm)
    light = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], -1)
    return alpha * light * (logarithm.detach() >= math.log(LEAST_LIGHT))
