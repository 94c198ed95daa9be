"""The networks of WaLLoC's audio models in torch, for training; and the paper's, for use, too.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405: wavelet packets, a
1x1 encoder, Gaussian companding, the decoder of Stable Audio's Oobleck autoencoder (Evans et al., "Fast Timing-
Conditioned Latent Audio Diffusion", ICML 2024, arXiv 2402.04825) with strides of 1, and a linear filter of 129 taps on
the waveform. Snake: Ziyin, Hartwig, Ueda, NeurIPS 2020, arXiv 2006.08195.

Differs, in the models with `decoder="small"`: the decoder is a linear map of each frame by itself, and beside it a
residual network of the same Snake units that starts at zero; latents carry a gain, which the decoder is told, for
variable rate; and training has a rate term (`RateModel`). What such a model decodes in use is `packets_exact.py`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..network import Compander, RateDistortion
from .packets import DILATIONS, REACH, PacketConfig, filter_bank, stage_levels

__all__ = ["OobleckDecoder", "PacketNet", "RateModel", "SmallDecoder", "Snake", "analysis", "synthesis"]

LOUDEST = 2.0**24  # magnitude at which expanded latents are clamped; far beyond any sound


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what is cached may be used in training, too
def _bank(levels: int, inverse: bool, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The filter bank as the weight (m, m, 9) of a convolution over blocks."""
    return torch.from_numpy(filter_bank(levels, inverse).transpose(1, 2, 0).copy()).to(device, dtype)


def analysis(x: Tensor, levels: int) -> Tensor:
    """The wavelet packet coefficients of sound that wraps round at its ends.

    x: (B, C, N), N a multiple of 2**levels. Returns (B, C * 2**levels, N / 2**levels), band = c * 2**levels + b.
    """
    batch, channels, _ = x.shape
    bands = x.reshape(batch * channels, 1, -1)
    for level in stage_levels(levels):
        m, (count, below, n) = 2**level, bands.shape
        blocks = bands.reshape(count * below, n // m, m).transpose(1, 2)
        split = F.conv1d(_wrapped(blocks), _bank(level, False, x.device, x.dtype))
        bands = split.reshape(count, below * m, n // m)
    return bands.reshape(batch, channels << levels, -1)


def synthesis(y: Tensor, levels: int) -> Tensor:
    """The inverse of `analysis`, for y (B, C * 2**levels, T)."""
    batch, channels = len(y), y.shape[1] >> levels
    bands = y.reshape(batch * channels, 1 << levels, -1)
    for level in reversed(stage_levels(levels)):
        m, (count, above, n) = 2**level, bands.shape
        blocks = bands.reshape(count * above // m, m, n)
        joined = F.conv1d(_wrapped(blocks), _bank(level, True, y.device, y.dtype))
        bands = joined.transpose(1, 2).reshape(count, above // m, n * m)
    return bands.reshape(batch, channels, -1)


def _wrapped(blocks: Tensor) -> Tensor:
    """The blocks (B, m, T) with four more at each end, those of the other end."""
    n = blocks.shape[-1]
    index = torch.arange(-REACH, n + REACH, device=blocks.device) % n
    return blocks.index_select(2, index)


class Snake(nn.Module):
    """The activation x + sin(alpha x)**2 / beta on (B, width, T), alpha and beta of each channel kept as logarithms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1, width, 1))
        self.beta = nn.Parameter(torch.zeros(1, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.alpha.exp() * x).square() / (self.beta.exp() + 1e-9)


class SnakeUnit(nn.Module):
    """A residual unit, x + conv1x1(snake(conv(snake(x)))), on (B, width, T). normed: whether weights are normed."""

    def __init__(self, width: int, kernel: int, dilation: int, normed: bool) -> None:
        super().__init__()
        wrap = weight_norm if normed else nn.Identity()
        self.snake1 = Snake(width)
        self.conv1 = wrap(nn.Conv1d(width, width, kernel, dilation=dilation, padding=dilation * (kernel // 2)))
        self.snake2 = Snake(width)
        self.conv2 = wrap(nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.snake2(self.conv1(self.snake1(x))))


class OobleckBlock(nn.Module):
    """A block of the paper's decoder, (B, inputs, T) to (B, outputs, T - 1)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.snake = Snake(inputs)
        self.conv = weight_norm(nn.ConvTranspose1d(inputs, outputs, 2, padding=1))
        self.units = nn.ModuleList(SnakeUnit(outputs, 7, dilation, True) for dilation in DILATIONS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.snake(x))
        for unit in self.units:
            x = unit(x)
        return x


class OobleckDecoder(nn.Module):
    """The paper's decoder: latents (B, latent, T + 2) to wavelet coefficients (B, bands, T)."""

    def __init__(self, config: PacketConfig) -> None:
        super().__init__()
        width, latent = config.decoder_width, config.latent
        self.first = weight_norm(nn.Conv1d(latent, width, 7, padding=3))
        self.blocks = nn.ModuleList([OobleckBlock(width, width), OobleckBlock(width, latent)])
        self.snake = Snake(latent)
        self.last = weight_norm(nn.Conv1d(latent, config.bands, 7, padding=3, bias=False))

    def forward(self, v: Tensor, log2_gain: Tensor) -> Tensor:
        """The coefficients of expanded latents v. log2_gain: not looked at."""
        x = self.first(v)
        for block in self.blocks:
            x = block(x)
        return self.last(self.snake(x))


class SmallDecoder(nn.Module):
    """The decoder of the models in integers: a linear map, and a residual network that starts at zero.

    input_exponent: log2 of what each latent is divided by; output_exponent: log2 of what each of the
    network's outputs is multiplied by. Both are chosen with the closed-form start.
    """

    input_exponent: Tensor
    output_exponent: Tensor

    def __init__(self, config: PacketConfig) -> None:
        super().__init__()
        latent, width, kernel = config.latent, config.width, config.kernel
        self.linear = nn.Conv1d(latent, config.bands, config.linear_taps, padding=config.linear_taps // 2, bias=False)
        self.first = nn.Conv1d(latent, width, kernel, padding=kernel // 2)
        self.gain = nn.Parameter(torch.zeros(width))
        self.units = nn.ModuleList(
            SnakeUnit(width, kernel, dilation, False) for _ in range(config.blocks) for dilation in DILATIONS
        )
        self.snake = Snake(width)
        self.last = nn.Conv1d(width, config.bands, kernel, padding=kernel // 2)
        self.register_buffer("input_exponent", torch.zeros(latent, dtype=torch.int32))
        self.register_buffer("output_exponent", torch.zeros(config.bands, dtype=torch.int32))
        for unit in self.units:
            nn.init.zeros_(cast(Tensor, cast(SnakeUnit, unit).conv2.weight))
            nn.init.zeros_(cast(Tensor, cast(SnakeUnit, unit).conv2.bias))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, v: Tensor, log2_gain: Tensor) -> Tensor:
        """The coefficients (B, bands, T) of expanded latents v (B, latent, T). log2_gain: (B,)."""
        normed = self.normed(v)
        x = self.first(normed) + self.gain[:, None] * log2_gain[:, None, None].to(v.dtype)
        for unit in self.units:
            x = unit(x)
        x = self.last(self.snake(x))
        with torch.autocast(v.device.type, enabled=False):
            return self.linear(normed) + x.to(v.dtype) * torch.exp2(self.output_exponent.to(v.dtype))[:, None]

    def normed(self, v: Tensor) -> Tensor:
        """The expanded latents v (B, latent, T), each divided by the power of two that is about its usual size."""
        return v * torch.exp2(-self.input_exponent.to(v.dtype))[:, None]


class RateModel(nn.Module):
    """An estimate of the bits of latents, for training only: a logistic density of each, whose width follows others.

    Those are the magnitudes of the same latent in the two frames before, of its neighbours in the frame before, and of
    the two latents before it in its own frame. The real coder has a model of its own; this one gives the encoder a rate
    to lower.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        first = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.1])
        self.weight = nn.Parameter(first[:, None].repeat(1, latent))
        self.bias = nn.Parameter(torch.full((latent,), -1.0))
        self.carry = nn.Parameter(torch.zeros(latent))  # of the frame before, in the mean
        self.gain = nn.Parameter(torch.zeros(latent))

    def bits(self, u: Tensor, log2_gain: Tensor) -> Tensor:
        """The bits of each latent, (B, latent, T), of noisy or rounded ones u. log2_gain: (B,)."""
        padded = F.pad(torch.log2(0.5 + u.abs()), (2, 0, 2, 2), value=-1.0)  # before the first frame there is silence
        latent, n = u.shape[1:]

        def seen(channels: int, frames: int) -> Tensor:
            return padded[:, 2 + channels : 2 + channels + latent, 2 + frames : 2 + frames + n]

        before = seen(-1, -1) + seen(1, -1), seen(-2, -1) + seen(2, -1)
        seen_all = (seen(0, -1), seen(0, -2), before[0] / 2, before[1] / 2, seen(-1, 0), seen(-2, 0))
        spread = (self.bias + self.gain * log2_gain[:, None])[..., None]
        for weight, magnitude in zip(self.weight, seen_all, strict=True):
            spread = torch.addcmul(spread, weight[:, None], magnitude)
        scale = torch.exp2(spread.clamp(-4, 16))
        x, half = (u - self.carry[:, None] * F.pad(u, (1, 0))[..., :-1]) / scale, 0.5 / scale
        # sigmoid(x + half) - sigmoid(x - half), without a difference of two that are nearly equal
        log_mass = torch.log(-torch.expm1(-2 * half)) - F.softplus(x.abs() - half) - F.softplus(-x.abs() - half)
        return -log_mass / math.log(2)


class PacketNet(nn.Module):
    """The whole network. Sound: (B, channels, N), in [-1, 1], N a multiple of a frame; it wraps round at its ends."""

    def __init__(self, config: PacketConfig) -> None:
        super().__init__()
        self.config = config
        paper = config.decoder == "oobleck"
        self.compander = Compander(config.latent_bits)
        self.encoder = nn.Conv1d(config.bands, config.latent, 1, padding=int(paper))
        self.decoder = OobleckDecoder(config) if paper else SmallDecoder(config)
        taps = config.post_taps
        self.post = nn.Conv1d(config.channels, config.channels, taps, padding=taps // 2, bias=paper)
        self.rate = None if paper else RateModel(config.latent)
        if not paper:
            with torch.no_grad():
                self.encoder.bias.zero_() if self.encoder.bias is not None else None
                self.post.weight.zero_()
                self.post.weight[:, :, taps // 2] = torch.eye(config.channels)

    def parts(self, x: Tensor) -> Tensor:
        """The sound itself, or its middle and side, (l + r) / sqrt 2 and (l - r) / sqrt 2: what is transformed."""
        if self.config.decoder == "oobleck" or self.config.channels == 1:
            return x
        left, right = x[:, :1], x[:, 1:]
        return torch.cat([left + right, left - right], 1) * 0.5**0.5

    def coefficients(self, x: Tensor) -> Tensor:
        """The wavelet packet coefficients, (B, bands, T), of sound (B, channels, N)."""
        return analysis(self.parts(x), self.config.levels)

    def latents_of(self, coefficients: Tensor, log2_gain: Tensor) -> Tensor:
        """The companded latents before rounding, (B, latent, T), of coefficients; the paper's have two frames more."""
        return self.compander(self.encoder(coefficients) * torch.exp2(log2_gain)[:, None, None])

    def reconstruct(self, u: Tensor, log2_gain: Tensor) -> Tensor:
        """The sound (B, channels, N) of companded latents u, noisy or rounded; not clamped. log2_gain: (B,)."""
        v = self.compander.inverse(u) * torch.exp2(-log2_gain)[:, None, None]
        coefficients = self.decoder(v.clamp(-LOUDEST, LOUDEST), log2_gain)
        with torch.autocast(u.device.type, enabled=False):
            return self.filtered(self.parts(synthesis(coefficients.float(), self.config.levels)))

    def filtered(self, x: Tensor) -> Tensor:
        """The sound after the filter of `post`, by Fourier transforms: so few channels are slow to convolve on CPUs."""
        n, taps = x.shape[-1], self.config.post_taps
        length = n + taps - 1  # longer than it need be, so that nothing wraps round
        weight = torch.fft.rfft(self.post.weight.flip(2), length)
        y = torch.einsum("oif,bif->bof", weight, torch.fft.rfft(x, length))
        y = torch.fft.irfft(y, length)[..., taps // 2 : taps // 2 + n]
        return y if self.post.bias is None else y + self.post.bias[:, None]

    def forward(self, x: Tensor, log2_gain: Tensor, hard: bool) -> RateDistortion:
        """The training path. log2_gain: (B,). hard: rounding, so that no gradient reaches the encoder; else noise."""
        with torch.autocast(x.device.type, enabled=False):
            with torch.no_grad():
                coefficients = self.coefficients(x)
            u = self.latents_of(coefficients, log2_gain)
            # ties never matter here, and torch.round is the one rounding all encoders share
            u = torch.round(u.detach()) if hard else u + torch.empty_like(u).uniform_(-0.5, 0.5)
            bits = x.new_zeros(len(x))
            if self.rate is not None:
                with torch.set_grad_enabled(not hard and torch.is_grad_enabled()):  # it only weighs, then
                    bits = self.rate.bits(u, log2_gain).sum((1, 2))
        return RateDistortion(self.reconstruct(u, log2_gain), bits)
