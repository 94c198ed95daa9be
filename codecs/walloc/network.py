"""The networks of WaLLoC: wavelet packet, linear encoder, Gaussian companding, decoder of constant resolution.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405. The configurations
of the paper are here with its decoder (`decoder="paper"`). Differs, in the configurations that ship
(`decoder="small"`): the decoder is a linear 3x3 map at the resolution of the latents and, after the inverse wavelet
transform, a convolutional post-filter that starts at zero (the paper's audio model has a linear one), both in fixed
point, so that a file decodes to the same pixels on every machine; borders are reflected instead of wrapped; the
latents carry a gain, for variable rate; and training has a rate term (`layers/lattice.py`), which the paper leaves to
a lossless picture format. Numbers: eval/results/kodak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...entropy.exact import ExactConv2d, FixedPoint, freeze, round_half_up
from ..layers.lattice import LatticeContext
from ..layers.wavelet import analysis, apply_plan, channels_to_blocks, transform_plan
from .config import WallocConfig, inverse_gain


class Compander(nn.Module):
    """The compander, which squashes latents to b = latent_bits bits by a Gaussian CDF.

    u = 2 M (Phi(v / s) - 1/2) with s = (2**(b-1) - 1) / 1.85 and M = 2**(b-1) - 1 + 0.499: near zero u = 1.49 v.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.largest = 2 ** (bits - 1) - 1
        self.scale = self.largest / 1.85
        self.limit = self.largest + 0.5 - 0.001

    def forward(self, v: Tensor) -> Tensor:
        return 2 * self.limit * (torch.special.ndtr(v / self.scale) - 0.5)

    def inverse(self, u: Tensor) -> Tensor:
        p = torch.clamp(u / (2 * self.limit) + 0.5, 1e-4, 1 - 1e-4)
        return self.scale * torch.special.ndtri(p)


class ResidualBlock(nn.Module):
    """A residual block in fixed point, r + conv(relu(conv(relu(r)))), on (B, width, h, w).

    8-bit weights and activations, the stream r itself in 22 bits.
    """

    def __init__(self, width: int, stream: FixedPoint) -> None:
        super().__init__()
        self.act1 = FixedPoint(8, signed=False)
        self.conv1 = ExactConv2d(width, width, 3, self.act1, 8, torch.float32)
        self.act2 = FixedPoint(8, signed=False)
        self.conv2 = ExactConv2d(width, width, 3, self.act2, 8, torch.float32)
        self._stream = (stream,)
        nn.init.zeros_(self.conv2.conv.weight)

    def forward(self, r: Tensor) -> Tensor:
        return self._stream[0](r + self.conv2(self.act2(self.conv1(self.act1(r)))))


class LinearDecoder(nn.Module):
    """The decoder of the shipped models: one 3x3 convolution from latents to wavelet coefficients, exactly.

    Latents and weights have 16 bits, in float64.
    """

    def __init__(self, config: WallocConfig) -> None:
        super().__init__()
        self.input = FixedPoint(16, signed=True, exponent=6)
        self.linear = ExactConv2d(config.latent, config.bands, 3, self.input, 16, torch.float64)

    def forward(self, v: Tensor) -> Tensor:
        """The wavelet coefficients (B, 3 * 4**J, h, w) of expanded latents v, (B, latent, h, w)."""
        with torch.autocast(v.device.type, enabled=False):
            return self.linear(self.input(v))


class PostFilter(nn.Module):
    """The post-filter: a residual network on the decoded picture, at half resolution, that starts at zero.

    Its weights are shared by all positions of a block, which learns many times faster than the same work done on
    wavelet coefficients; a learned offset for each position in a block tells it where it is. 8-bit weights and
    activations, carried exactly in float32.
    """

    factor = 2  # pixel_unshuffle

    def __init__(self, config: WallocConfig) -> None:
        super().__init__()
        width, channels = config.width, 3 * self.factor**2
        phases = config.stride // self.factor
        self.input = FixedPoint(10, signed=True, exponent=9)
        self.first = ExactConv2d(channels, width, 3, self.input, 10, torch.float32)
        self.phase = nn.Parameter(0.1 * torch.randn(1, width, phases, phases))
        self.stream = FixedPoint(22, signed=True)
        self.blocks = nn.ModuleList(ResidualBlock(width, self.stream) for _ in range(config.blocks))
        self.act = FixedPoint(8, signed=False)
        self.last = ExactConv2d(width, channels, 3, self.act, 8, torch.float32)
        with torch.no_grad():
            self.first.conv.weight.mul_(4)
            self.last.conv.weight.zero_()
            cast(Tensor, self.last.conv.bias).zero_()
        reach = self.factor * (2 + 2 * config.blocks)  # pixels to each side that an output depends on
        self.border = -(-reach // config.stride) * config.stride  # the same in whole blocks

    def forward(self, x: Tensor) -> Tensor:
        """The corrected picture, of x (B, 3, H, W): pixel values minus 1/2, H and W multiples of the block."""
        z = F.pixel_unshuffle(x.to(torch.float32), self.factor).contiguous(memory_format=torch.channels_last)
        z = self.first(self.input(z))
        repeats = (1, 1, z.shape[2] // self.phase.shape[2], z.shape[3] // self.phase.shape[3])
        r = self.stream(z + self.phase.to(z.dtype).repeat(repeats))
        for block in self.blocks:
            r = block(r)
        return x + F.pixel_shuffle(self.last(self.act(r)).to(x.dtype), self.factor)


@dataclass(frozen=True)
class RateDistortion:
    """Pictures as they are decoded, x_hat (B, 3, H, W) around [0, 1], not clamped, and their estimated bits, (B,).

    bits: zeros for a model without a context model.
    """

    x_hat: Tensor
    bits: Tensor


class WallocNet(nn.Module):
    """The whole network. Pictures: (B, 3, H, W), sRGB in [0, 1], sides multiples of 2**J."""

    def __init__(self, config: WallocConfig) -> None:
        super().__init__()
        self.config = config
        self.compander = Compander(config.latent_bits)
        if config.decoder == "paper":
            from ..layers.autoencoder_kl import KLDecoder, KLEncoder

            self.encoder = (
                nn.Conv2d(config.bands, config.latent, 1)
                if config.encoder == "linear"
                else KLEncoder(config.bands, config.latent, config.encoder_width)
            )
            self.decoder = KLDecoder(config.latent, config.bands, config.width)
        else:
            self.encoder = nn.Conv2d(config.bands, config.latent, 1)
            self.decoder = LinearDecoder(config)
        self.post = PostFilter(config) if config.decoder == "small" else None
        self.context = (
            LatticeContext(config.groups, config.context_width, config.latent_bits) if config.groups else None
        )

    def coefficients(self, x: Tensor) -> Tensor:
        """The wavelet packet coefficients (B, 3 * 4**J, h, w) of pictures (B, 3, H, W) in [0, 1]."""
        return analysis(x - 0.5, self.config.levels, self.config.boundary)

    def latents(self, x: Tensor, log2_gain: Tensor | float = 0.0) -> Tensor:
        """The companded latents before rounding, (B, latent, h, w), inside +-(2**(latent_bits - 1) - 0.5)."""
        gain = torch.exp2(torch.as_tensor(log2_gain, dtype=x.dtype, device=x.device))
        return self.compander(self.encoder(self.coefficients(x)) * gain.reshape(-1, 1, 1, 1))

    def reconstruct(self, u: Tensor, log2_gain: Tensor | float = 0.0) -> Tensor:
        """The pictures (B, 3, H, W) of companded latents, noisy or rounded, in the arithmetic of training."""
        gain = torch.exp2(torch.as_tensor(-log2_gain, dtype=u.dtype, device=u.device))
        v = self.compander.inverse(u) * gain.reshape(-1, 1, 1, 1)
        # Zeros beyond the borders cost less than mirroring, which on a crop of 128 pixels would double the work.
        mirror = not self.training and isinstance(self.decoder, LinearDecoder)
        coefficients = self.decoder(extended(v, 1))[:, :, 1:-1, 1:-1] if mirror else self.decoder(v)
        x = self.synthesise(coefficients.float())
        if self.post is not None and mirror:
            border = self.post.border
            x = self.post(extended(x, border))[:, :, border:-border, border:-border]
        elif self.post is not None:
            x = self.post(x)
        return x + 0.5

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """The pictures minus 1/2, (B, 3, H, W), of wavelet packet coefficients (B, 3 * 4**J, h, w)."""
        x = channels_to_blocks(coefficients, self.config.levels)
        for dim in (-1, -2):
            x = apply_plan(x, dim, transform_plan(x.shape[dim], self.config.levels, self.config.boundary, True, None))
        return x

    def forward(self, x: Tensor, log2_gain: Tensor, hard: bool) -> RateDistortion:
        """The training path. log2_gain: (B,). hard: rounding, so that no gradient reaches the encoder; else noise."""
        with torch.autocast(x.device.type, enabled=False):
            u = self.latents(x, log2_gain)
            # ties never matter here, and torch.round is the one rounding all encoders share
            u = torch.round(u.detach()) if hard else u + torch.empty_like(u).uniform_(-0.5, 0.5)
            bits = x.new_zeros(x.shape[0])
            if self.context is not None:
                bits = self.context.bits(u, self.side(u.shape, 16 * log2_gain))
        return RateDistortion(self.reconstruct(u, log2_gain), bits)

    def side(self, shape: torch.Size | tuple[int, ...], gain16: Tensor | float) -> Tensor:
        """The side plane of the context model, (B, 1, h, w): 16 log2(gain). shape: of the latents."""
        b, _, h, w = shape
        weight = self.encoder.weight if isinstance(self.encoder, nn.Conv2d) else next(self.encoder.parameters())
        plane = torch.as_tensor(gain16, dtype=weight.dtype, device=weight.device).reshape(-1, 1, 1, 1)
        return plane.expand(b, 1, h, w)

    # ---- exact arithmetic, after `freeze` ----

    def freeze(self) -> WallocNet:
        """Fixes the integer forms of decoder and context model; for use, not for training."""
        freeze(self)
        return self

    def expand_exact(self, symbols: Tensor, gain16: int) -> Tensor:
        """The expanded latents of integer ones, in float64, exact on every machine: a table look-up and one product.

        symbols: (B, latent, h, w), |symbols| <= 2**(latent_bits - 1) - 1.
        """
        table = expansion_table(self.config.latent_bits).to(symbols.device)
        return table[symbols.long() + self.compander.largest] * inverse_gain(gain16)


def mirrored(start: int, stop: int, size: int) -> Tensor:
    """The indices start..stop - 1 folded into 0..size - 1 by reflection about the first and the last one."""
    if size == 1:
        return torch.zeros(stop - start, dtype=torch.int64)
    folded = torch.arange(start, stop) % (2 * (size - 1))
    return torch.minimum(folded, 2 * (size - 1) - folded)


def extended(x: Tensor, border: int) -> Tensor:
    """The tensor x (B, C, H, W) with `border` more rows and columns on each side, mirrored."""
    for dim in (2, 3):
        size = x.shape[dim]
        x = x.index_select(dim, mirrored(-border, size + border, size).to(x.device))
    return x


def expansion_table(bits: int) -> Tensor:
    """The inverse compander at each integer, (2**bits - 1,) float64, rounded to multiples of 2**-16."""
    compander = Compander(bits)
    integers = torch.arange(-compander.largest, compander.largest + 1, dtype=torch.float64)
    return round_half_up(compander.inverse(integers) * 2.0**16) * 2.0**-16


@torch.no_grad()
def initialise(net: WallocNet, pictures: Tensor, bits_per_pixel: float) -> dict[str, float]:
    """Sets a closed-form start: encoder from the PCA of wavelet packets, linear decoder by least squares.

    pictures: (N, 3, H, W) in [0, 1]. The step is chosen so that the first-order entropy of the latents, summed over
    channels, is `bits_per_pixel`. Channels are put in order of falling spatial correlation, which is the coding order
    of the context model. Returns the measured starting point.
    """
    config = net.config
    assert isinstance(net.encoder, nn.Conv2d) and isinstance(net.decoder, LinearDecoder)
    bias = cast(Tensor, net.encoder.bias)
    c = torch.cat([net.coefficients(part) for part in pictures.split(16)]).double()
    bands = c.shape[1]
    flat = c.permute(1, 0, 2, 3).reshape(bands, -1)
    covariance = flat @ flat.T / flat.shape[1]
    _, vectors = torch.linalg.eigh(covariance)
    basis = vectors[:, -config.latent :].T  # (latent, bands)
    v = torch.einsum("kb,nbhw->nkhw", basis, c)
    correlation = (v[..., 1:] * v[..., :-1]).mean((0, 2, 3)) / (v * v).mean((0, 2, 3))
    basis = basis[torch.argsort(correlation, descending=True)]
    v = torch.einsum("kb,nbhw->nkhw", basis, c)

    def entropy(scale: float) -> tuple[float, Tensor]:
        symbols = torch.round(net.compander(v * scale))
        total = 0.0
        for k in range(config.latent):
            counts = torch.bincount((symbols[:, k].flatten() + net.compander.largest).long()).double()
            p = counts[counts > 0] / counts.sum()
            total -= float((p * p.log2()).sum())
        return total / 4**config.levels, symbols

    low, high = 1.0, 4096.0
    for _ in range(24):
        scale = (low * high) ** 0.5
        low, high = (scale, high) if entropy(scale)[0] < bits_per_pixel else (low, scale)
    # The compander saturates beyond 2.5 scales; strong channels (the mean of a block) get a coarser step instead.
    peak = torch.quantile(v.abs().transpose(0, 1).flatten(1)[:, :: max(1, v[:, 0].numel() // 1_000_000)], 0.9999, 1)
    scales = torch.clamp(1.3 * net.compander.scale / peak, max=low)
    v = v * (scales / low)[:, None, None]
    rate, symbols = entropy(low)
    net.encoder.weight.copy_((basis * scales[:, None])[:, :, None, None])
    bias.zero_()

    expanded = net.compander.inverse(symbols)  # (N, latent, h, w)
    columns = F.unfold(expanded, 3, padding=1).permute(1, 0, 2).reshape(config.latent * 9, -1)
    gram = columns @ columns.T
    gram += torch.eye(len(gram), dtype=gram.dtype) * gram.diagonal().mean() * 1e-6
    solution = torch.linalg.solve(gram, columns @ flat.T)  # (latent 9, bands)
    net.decoder.linear.conv.weight.copy_(solution.T.reshape(bands, config.latent, 3, 3))
    cast(Tensor, net.decoder.linear.conv.bias).zero_()
    x_hat = torch.cat([net.synthesise(net.decoder.linear.conv(p.float())) for p in expanded.split(16)]) + 0.5
    mse = F.mse_loss(x_hat.clamp(0, 1), pictures, reduction="none").mean((1, 2, 3))
    return {"scale": low, "bpp": rate, "psnr": float((-10 * torch.log10(mse)).mean())}
