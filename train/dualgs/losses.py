"""Losses of a fit: the picture's, those that keep joints round and alike, rigidity, and steadiness over time.

Formulas and weights: sections 3 and 4 of the paper and of its released trainer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .gaussians import product, rotation_matrices
from .graph import Neighbours

__all__ = ["Box", "Rigidity", "box_of", "isotropy", "photometric", "psnr", "size", "ssim", "steadiness"]

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_TINY = 1e-12


class Box(NamedTuple):
    """A part of a picture: rows and columns from the first to before the last."""

    top: int
    bottom: int
    left: int
    right: int


def box_of(mask: Tensor, margin: int = _WINDOW) -> Box:
    """The box around what is true of a mask (H, W), with a margin; the whole picture if nothing is."""
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    height, width = mask.shape
    if not len(rows):
        return Box(0, height, 0, width)
    return Box(
        max(0, int(rows[0]) - margin),
        min(height, int(rows[-1]) + 1 + margin),
        max(0, int(columns[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
    )


def _window() -> list[float]:
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    return (window / window.sum()).tolist()


def _filtered(planes: Tensor) -> Tensor:
    """Planes (P, H, W) through the separable window, zeros outside: by shifts, quicker on a CPU than convolution."""
    half, window = _WINDOW // 2, _window()
    for axis, pad in ((2, (half, half)), (1, (0, 0, half, half))):
        length, padded = planes.shape[axis], torch.nn.functional.pad(planes, pad)
        planes = padded.narrow(axis, 0, length) * window[0]
        for offset in range(1, _WINDOW):
            planes.add_(padded.narrow(axis, offset, length), alpha=window[offset])
    return planes


class _SSIM(torch.autograd.Function):
    """The sum of SSIM over planes, with its gradient by the first: three filters each way instead of five."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        count = len(x)
        mx, my, xx, yy, xy = _filtered(torch.cat((x, y, x * x, y * y, x * y))).split(count)
        mean, spread = mx * mx + my * my + _C1, (xx - mx * mx) + (yy - my * my) + _C2
        product_of_means, covariance = 2 * mx * my + _C1, 2 * (xy - mx * my) + _C2
        value = product_of_means * covariance / (mean * spread)
        if ctx.needs_input_grad[0]:
            by_xy = 2 * product_of_means / (mean * spread)
            by_xx = -value / spread
            by_mean = 2 * my * covariance / (mean * spread) - 2 * mx * value / mean
            ctx.save_for_backward(x, y, torch.cat((by_mean - my * by_xy - 2 * mx * by_xx, by_xx, by_xy)))
        return value.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, y, parts = ctx.saved_tensors
        by_mean, by_xx, by_xy = _filtered(parts).split(len(x))  # the window is even: its transpose is itself
        return grads[0] * (by_mean + 2 * x * by_xx + y * by_xy), None


def ssim(image: Tensor, target: Tensor, box: Box | None = None) -> Tensor:
    """The mean SSIM (Gaussian window of 11, as in 3D Gaussian splatting) of pictures (H, W, 3) in 0..1.

    box: the part outside of which both pictures are the same, where SSIM is 1.
    """
    height, width = image.shape[:2]
    top, bottom, left, right = box or Box(0, height, 0, width)
    planes = [picture[top:bottom, left:right].permute(2, 0, 1).contiguous() for picture in (image, target)]
    total = _SSIM.apply(*planes)
    assert isinstance(total, Tensor)
    return 1 + (total - planes[0].numel()) / image.numel()


def photometric(image: Tensor, target: Tensor, weight: float, box: Box | None = None) -> Tensor:
    """(1 - weight) L1 + weight (1 - SSIM) of pictures (H, W, 3) in 0..1. box: as of `ssim`."""
    loss = (1 - weight) * (image - target).abs().mean()
    return loss + weight * (1 - ssim(image, target, box)) if weight else loss


def psnr(image: Tensor, target: Tensor) -> float:
    """The PSNR of a picture in 0..1 that is rounded to 8 bits, over all of it."""
    error = (image.detach().clamp(0, 1).mul(255).round() / 255 - target).square().mean()
    return float(-10 * torch.log10(error.clamp_min(1e-10)))


def isotropy(scales: Tensor, ratio: float) -> Tensor:
    """E_iso of scales (N, 3): by how much the largest exceeds `ratio` times the smallest, in the mean."""
    quotient = scales.amax(1) / (scales.amin(1) + 1e-8)
    return quotient.clamp_min(ratio).mean() - ratio


def size(scales: Tensor) -> Tensor:
    """E_size of scales (N, 3): the sum of what the largest are above 5 times, or below a fifth of, the mean scale."""
    mean, largest = scales.detach().mean(), scales.amax(1)
    return (torch.relu(largest - 5 * mean) + torch.relu(0.2 * mean - largest)).sum()


class Rigidity:
    """E_rigid against an earlier frame: how far the neighbours of points don't turn with them.

    positions, rotations: of that frame, (N, 3) and (N, 4) of length 1, constants.
    """

    def __init__(self, positions: Tensor, rotations: Tensor, graph: Neighbours) -> None:
        self.graph = graph
        self.back = rotations * rotations.new_tensor([1.0, -1.0, -1.0, -1.0])
        self.arms = positions[:, None] - positions[graph.index]  # (N, K, 3)

    def __call__(self, positions: Tensor, rotations: Tensor) -> Tensor:
        """The mean over points of the weighted squares; rotations are of length 1."""
        turn = rotation_matrices(product(rotations, self.back))
        value = _Bends.apply(positions, turn, self.arms, self.graph.index, self.graph.weights)
        assert isinstance(value, Tensor)
        return value


class _Bends(torch.autograd.Function):
    """The mean over i of sum_k w_ik |R_i a_ik - (x_i - x_k)|^2, by the formula of its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turn: Tensor, arms: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        gaps = torch.bmm(arms, turn.transpose(1, 2))
        gaps += x.index_select(0, index.flatten()).view_as(gaps)
        gaps -= x[:, None]
        pulls = gaps * (weights[:, :, None] * (2 / len(x)))
        ctx.save_for_backward(pulls, arms, index)
        return 0.5 * (pulls.flatten() @ gaps.flatten())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        pulls, arms, index = ctx.saved_tensors
        by_x = -pulls.sum(1)
        by_x.index_add_(0, index.flatten(), pulls.flatten(0, 1))
        by_turn = torch.bmm(pulls.transpose(1, 2), arms)
        return grads[0] * by_x, grads[0] * by_turn, None, None, None


def steadiness(values: dict[str, Tensor], before: dict[str, Tensor], still: float, steady: float) -> Tensor:
    """The temporal terms: norms (not squared) of changes of opacity and scale, and of the harmonics."""
    weights = {"opacities": still, "scales": still, "dc": steady, "rest": steady}
    terms = [weight * ((values[name] - before[name]).square().sum() + _TINY).sqrt() for name, weight in weights.items()]
    return torch.stack(terms).sum()
