"""The parts that both networks of S2LIC share: table levels, the checkerboard, the rate in training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...entropy.exact import round_half_up
from ...entropy.models import GaussianConditional, LaplaceConditional, lower_bound
from .config import LAMBDA, LEVELS

__all__ = [
    "RateDistortion",
    "Take",
    "checkerboard",
    "estimated_bits",
    "rate_weight",
    "start_gain",
    "table_row",
]


def table_row(level: Tensor) -> Tensor:
    """The table row, uint8, of a level in exact arithmetic."""
    return round_half_up(level).clamp_(0, LEVELS - 1).to(torch.uint8)


@lru_cache(maxsize=8)
def checkerboard(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """The anchors of a checkerboard, (H, W) bool: cells with an odd sum of row and column."""
    with torch.inference_mode(False):  # what is cached may be used in training, too
        return (torch.arange(height, device=device)[:, None] + torch.arange(width, device=device)) % 2 == 1


# (mean, row, channels, cells) -> values: see `S2licNet.predict`
Take = Callable[[Tensor, Tensor, slice, Tensor], Tensor]


@dataclass(frozen=True)
class RateDistortion:
    """Pictures as they are decoded, x_hat (B, 3, H, W) around [0, 1], not clamped; estimated bits of y and z, (B,)."""

    x_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor


def estimated_bits(
    density: GaussianConditional | LaplaceConditional, y: Tensor, mean: Tensor, level: Tensor, rows: bool
) -> Tensor:
    """The bits of y (B, C, h, w), noisy or rounded, under a density, (B,). rows: levels are rounded as for tables."""
    level = -lower_bound(-lower_bound(level, 0.0), 1.0 - LEVELS)
    if rows:
        level = round_half_up(level)
    with torch.autocast(y.device.type, enabled=False):
        return density.bits(y, density.scale(level), mean).flatten(1).sum(1)


def rate_weight(t: float) -> float:
    """The lambda of a quality t in 0...1: weight of 255^2 MSE (pixels in [0, 1]) against bits per pixel."""
    return LAMBDA[0] * (LAMBDA[1] / LAMBDA[0]) ** t


def start_gain(t: float) -> float:
    """The log2 of the gain of an orthonormal transform that is right for `rate_weight(t)` at high rate."""
    return 0.5 * math.log2(rate_weight(t) * 255**2 * 2 * math.log(2) / 36) + 0.6
