"""The parts that both networks of S2LIC share: table levels, quality knots, the checkerboard, the rate in training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from ...entropy.exact import round_half_up
from ...entropy.models import GaussianConditional, LaplaceConditional, lower_bound
from .config import LAMBDA, LEVELS, STEPS, TABLE_BITS

__all__ = [
    "Gain",
    "Knots",
    "RateDistortion",
    "Take",
    "checkerboard",
    "estimated_bits",
    "exp2_table",
    "rate_weight",
    "start_gain",
    "table_row",
]


class Knots(nn.Module):
    """A vector of C values that depends on the quality: linear between knots.

    unit: a power of two, what a value of 1 stands for: how fast it learns.
    """

    def __init__(self, knots: int, channels: int, unit: float = 1.0) -> None:
        super().__init__()
        self.unit = unit
        self.values = nn.Parameter(torch.zeros(knots, channels))

    def at(self, t: Tensor) -> Tensor:
        """The vector at the qualities t, (B,) in 0...1: (B, C, 1, 1)."""
        last = len(self.values) - 1
        place = (t * last).clamp(0, last)[:, None]
        near = (1 - (place - torch.arange(last + 1, device=t.device)).abs()).clamp_min(0)  # (B, knots): two share the 1
        return self.unit * (near @ self.values)[:, :, None, None]

    def exactly(self, step: int) -> Tensor:
        """The vector at a quality step, (1, C, 1, 1) float64: exact multiples of 2**-(TABLE_BITS + 6) units."""
        low = min(step // STEPS, len(self.values) - 2)
        part = step - low * STEPS
        ends = round_half_up(self.values.detach()[low : low + 2].double() * 2**TABLE_BITS)
        return ((ends[0] * (STEPS - part) + ends[1] * part) * (self.unit / (STEPS * 2**TABLE_BITS)))[
            None, :, None, None
        ]


class Gain(Knots):
    """A gain per channel that depends on the quality: exp2 of a vector of knots."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * torch.exp2(self.at(t)).to(x.dtype)

    def apply_to(self, x: Tensor, t: Tensor | int) -> Tensor:
        """The product of x (B, C, h, w) and the gain; t: (B,) in 0...1, or a quality step, for exact arithmetic."""
        return x * self.factor(t).to(x.dtype) if isinstance(t, int) else self(x, t)

    def factor(self, step: int) -> Tensor:
        """The gain at a quality step, (1, C, 1, 1) float64, with 16 fractional bits to each octave."""
        exponent = self.exactly(step)
        octave = torch.floor(exponent)
        fraction = ((exponent - octave) * 2 ** (TABLE_BITS + 6)).long()
        return exp2_table().to(octave.device)[fraction] * torch.exp2(octave)


@lru_cache(maxsize=1)
def exp2_table() -> Tensor:
    """The powers 2**(k / 2**16), (2**16,) float64, rounded to multiples of 2**-16: no library's last bit shows."""
    with torch.inference_mode(False):  # what is cached may be used in training, too
        return round_half_up(torch.exp2(torch.arange(1 << 16, dtype=torch.float64) / (1 << 16)) * 2**16) * 2.0**-16


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
