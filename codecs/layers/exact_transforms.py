"""Transforms whose decoding side is in fixed point: residual blocks, exact layers, and the synthesis of a picture.

What S2LIC made for its configuration `small` (codecs/s2lic/network.py says why), for every codec whose decoder starts
from its latents. Torch trains these and is the oracle; exact_synthesis.py computes them in integers.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...entropy.exact import ExactConv2d, FixedPoint, round_half_up
from .quality_gains import Gain
from .transform_settings import FINER, LEAK, LOW_BITS, MATRIX_BITS, WAVELET, SynthesisSizes
from .wavelet import apply_plan, channels_to_blocks, synthesis, transform_plan

__all__ = ["Exact", "ExactResidual", "Grid", "Residual", "Synthesis", "exact_wavelet", "leaky"]


def leaky(x: Tensor) -> Tensor:
    """The activation of networks in floats, the same as that of networks in fixed point: a leaky ReLU."""
    return F.leaky_relu(x, 2.0**-LEAK)


class Residual(nn.Module):
    """A residual block, x + conv(leaky(conv(x))) with 3x3 kernels, on (B, width, h, w): the identity at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(cast(Tensor, self.second.bias))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(leaky(self.first(x)))


class Grid(FixedPoint):
    """A signed fixed-point grid, 2**-exponent, that calibration doesn't move."""

    def __init__(self, bits: int, exponent: int) -> None:
        super().__init__(bits, signed=True, exponent=exponent)
        self.fixed = exponent

    def calibrate(self, quantile_peak: float | None = None) -> None:
        self.exponent.fill_(self.fixed)

    def _watch(self, x: Tensor) -> None:
        pass


class Exact(nn.Module):
    """A convolution with its own quantiser in front: unsigned, which is a leaky ReLU, or signed."""

    def __init__(
        self,
        inner: int,
        outer: int,
        kernel: int,
        relu: bool,
        bits: int = 16,
        weight_bits: int = 16,
        carrier: torch.dtype = torch.float64,
        exponent: int | None = None,
        split: int = 0,
    ) -> None:
        """exponent: of the input's grid; None: fitted to the inputs of training. split: see `ExactConv2d`."""
        super().__init__()
        self.input = FixedPoint(bits, not relu, leak=LEAK if relu else 0) if exponent is None else Grid(bits, exponent)
        self.layer = ExactConv2d(inner, outer, kernel, self.input, weight_bits, carrier, split)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.input(x))

    def zero(self, bias: float = 0.0) -> Exact:
        nn.init.zeros_(self.layer.conv.weight)
        nn.init.constant_(cast(Tensor, self.layer.conv.bias), bias)
        return self


class ExactResidual(nn.Module):
    """A `Residual` block in fixed point: 8-bit weights and activations, the stream x itself in 20 bits.

    finer: bits more for the activations.
    """

    def __init__(self, width: int, finer: int = 0) -> None:
        super().__init__()
        f32, split = torch.float32, LOW_BITS if finer else 0
        self.first = Exact(width, width, 3, relu=False, bits=9 + finer, weight_bits=8, carrier=f32, split=split)
        self.second = Exact(width, width, 3, relu=True, bits=8 + finer, weight_bits=8, carrier=f32, split=split).zero()
        self.stream = FixedPoint(20, signed=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.stream(x + self.second(self.first(x)))


def exact_wavelet(coefficients: Tensor) -> Tensor:
    """The inverse wavelet packet of coefficients (B, 3 * 4**J, h, w), float64, on a grid of 2**-16 in and out.

    All sums are exact: coefficients below 2**21 units times rows of matrix entries whose magnitudes sum to less than
    2**28; after the first axis below 2**24.
    """
    grid = 2.0**16
    y = torch.clamp(round_half_up(coefficients * grid), -32 * grid, 32 * grid)
    y = channels_to_blocks(y, WAVELET)
    for dim in (-1, -2):
        plan = transform_plan(y.shape[dim], WAVELET, "symmetric", True, MATRIX_BITS)
        y = round_half_up(apply_plan(y, dim, plan) * 2.0**-MATRIX_BITS)
    return y * (1 / grid)


class Synthesis(nn.Module):
    """The synthesis transform: a linear picture, and a network that sees it at a quarter resolution and corrects it.

    In fixed point, so that a file decodes to the same pixels on every machine.
    """

    def __init__(self, config: SynthesisSizes) -> None:
        super().__init__()
        (c4, c8, c16), (n4, n8, n16) = config.synthesis_width, config.synthesis_blocks
        f32 = torch.float32
        self.linear = Exact(config.latent, 3 * 4**WAVELET, 1, relu=False, bits=20, exponent=14)
        self.enter = Exact(config.latent, c16, 3, relu=False, bits=20, exponent=14)
        self.gain16 = Gain(config.knots, c16)
        self.stream16 = FixedPoint(20, signed=True)
        self.stage16 = nn.Sequential(*(ExactResidual(c16) for _ in range(n16)))
        self.up8 = Exact(c16, 4 * c8, 1, relu=True, bits=8, weight_bits=8, carrier=f32)
        self.gain8 = Gain(config.knots, c8)
        self.stream8 = FixedPoint(20, signed=True)
        self.stage8 = nn.Sequential(*(ExactResidual(c8) for _ in range(n8)))
        self.up4 = Exact(c8, 4 * c4, 1, relu=True, bits=8, weight_bits=8, carrier=f32)
        self.inject = Exact(48, c4, 3, relu=False, bits=10, weight_bits=9, carrier=f32, exponent=9)
        self.gain4 = Gain(config.knots, c4)
        self.stream4 = FixedPoint(20, signed=True)
        self.stage4 = nn.Sequential(*(ExactResidual(c4, FINER) for _ in range(n4)))
        self.leave = Exact(c4, 48, 3, relu=False, bits=9, weight_bits=8, carrier=f32).zero()

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        """Pixels minus 1/2, (B, 3, 16 h, 16 w), not clamped, of latents y (B, M, h, w), their gain undone."""
        with torch.autocast(y.device.type, enabled=False):
            linear = synthesis(self.linear(y), WAVELET, "symmetric").to(y.dtype)
        return linear + self.correction(y, linear, t)

    def exactly(self, y: Tensor, step: int) -> Tensor:
        """`forward` after `freeze`, at a quality step: float64 on a grid of 2**-16, the same on every machine."""
        linear = exact_wavelet(self.linear(y))
        return linear + round_half_up(self.correction(y, linear, step).double() * 2**16) * 2.0**-16

    def correction(self, y: Tensor, linear: Tensor, t: Tensor | int) -> Tensor:
        """The network's correction of the linear picture, (B, 3, H, W); t: (B,), or a quality step after `freeze`."""
        r = self.stage16(self.stream16(self.gain16.apply_to(self.enter(y), t)))
        r = self.stage8(self.stream8(self.gain8.apply_to(F.pixel_shuffle(self.up8(r), 2), t)))
        r = F.pixel_shuffle(self.up4(r), 2) + self.inject(F.pixel_unshuffle(linear, 4))
        r = self.stage4(self.stream4(self.gain4.apply_to(r, t)))
        return F.pixel_shuffle(self.leave(r), 4).to(linear.dtype)
