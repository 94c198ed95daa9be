"""Vectors that depend on the quality, in torch: linear between knots, and gains.

`quality_knots.py` gives the same numbers without torch.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from ...entropy.exact import round_half_up
from .transform_settings import STEPS, TABLE_BITS

__all__ = ["Gain", "Knots", "exp2_table"]


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
