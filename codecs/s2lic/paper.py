"""The networks of S2LIC as published, configuration `paper`: for people with GPUs. No weights ship; network.py's do.

Wang, Fu, Cao, Wang, Chen, Liang: "S2LIC: Learned Image Compression with the SwinV2 Block, Adaptive Channel-wise and
Global-inter Attention Context", arXiv 2403.14471; structure from the authors' one released file, missing pieces from
the works it takes them from (MLIC, TIC, InvCompress, DAT). Where neither says, there is an option:

- `anchor_context`: the released file shows the second pass of the checkerboard nothing of the first ("none"); the
  paper's figure does. "masked_conv" is a 5x5 convolution of the anchors, as in MLIC and ELIC, and the default.
- `norm`: the modulation taken from DAT has batch norm, whose statistics differ between training and use: "none" is
  the default.
- `offset_kernel`, `max_keys`: the deformable attention's unknowns. 5, as in DAT at this resolution; keys are sampled
  with a stride that grows with the picture, so that attention costs no more than max_keys per latent.
- `offset_norm`: before its offsets DAT has a layer norm ("layer"), the paper's figure none: "none" is the default.
- `offset_groups`: each head samples places of its own ("heads", the default), or all the same ones ("one").
- `hyper_order`: the figure draws the hyper synthesis with both enlargements first in their pairs ("figure"), MLIC++,
  whose names the released file has, the first one second: "mlic" is the default.

The channel context is convolutional, as its figure is labelled, and has no use for the heads it is given; the latent
residual prediction is MLIC's later, slim one.

Differs: one model for all rates, by a gain per channel of y as in network.py; z has a Laplace density whose mean and
scale depend on the quality, in place of CompressAI's entropy bottleneck, so there is no auxiliary loss either. 74.2 M
parameters with `anchor_context="none"`. Coding computes everything from z on in float64 and rounds means and levels to
a grid: two machines disagree with a probability of about 1e-6 a picture, and then the decoder says so, since files
carry a checksum of the latents.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...entropy.exact import round_half_up, round_half_up_ste
from ...entropy.models import GaussianConditional, LaplaceConditional, add_noise
from ..layers.quality_gains import Gain, Knots
from ..layers.swin import ResidualSwin
from .config import LEVEL_UNIT, LEVELS, MEAN_BITS, S2licPaperConfig
from .layers import RateDistortion, Take, checkerboard, estimated_bits, start_gain, table_row


class DenseBlock(nn.Module):
    """A dense block, (B, inner, h, w) to (B, outer, h, w): five 3x3 convolutions, each of everything before it.

    Its output is zero at the start.
    """

    def __init__(self, inner: int, outer: int, growth: int = 32) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(inner + growth * k, growth if k < 4 else outer, 3, padding=1) for k in range(5)
        )
        for k, conv in enumerate(self.convs):
            assert isinstance(conv, nn.Conv2d)
            if k < 4:
                nn.init.xavier_normal_(conv.weight, gain=0.1)
            else:
                nn.init.zeros_(conv.weight)
            nn.init.zeros_(cast(Tensor, conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        known = [x]
        for conv in self.convs[:-1]:
            known.append(F.leaky_relu(conv(torch.cat(known, 1)), 0.2))
        return self.convs[-1](torch.cat(known, 1))


class Enhancement(nn.Module):
    """The enhancement of pictures, x + 0.2 F(x), F at full resolution: half of the work of the whole model.

    The identity at the start.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            DenseBlock(3, width),
            nn.Conv2d(width, width, 1),
            nn.Conv2d(width, width, 3, padding=1),
            nn.Conv2d(width, width, 1),
            DenseBlock(width, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.net(x)


def _subpixel(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, 4 * outer, 3, padding=1), nn.PixelShuffle(2))


def _deconv(inner: int, outer: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inner, outer, 3, stride=2, padding=1, output_padding=1)


def _norm(kind: str, width: int) -> nn.Module:
    return {"none": nn.Identity, "batch": nn.BatchNorm2d, "group": lambda n: nn.GroupNorm(1, n)}[kind](width)


class SpatialMap(nn.Sequential):
    """A modulation by place, from DAT: (B, d, h, w) to (B, 1, h, w) in 0...1."""

    def __init__(self, width: int, norm: str) -> None:
        hidden = max(2, width // 16)
        super().__init__(
            nn.Conv2d(width, hidden, 1), _norm(norm, hidden), nn.GELU(), nn.Conv2d(hidden, 1, 1), nn.Sigmoid()
        )


class ChannelMap(nn.Sequential):
    """A modulation by channel, from DAT: (B, d, h, w) to (B, d, 1, 1) in 0...1."""

    def __init__(self, width: int, norm: str) -> None:
        hidden = max(2, width // 8)
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, hidden, 1),
            _norm(norm, hidden),
            nn.GELU(),
            nn.Conv2d(hidden, width, 1),
            nn.Sigmoid(),
        )


def _depthwise(width: int, norm: str) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), _norm(norm, width), nn.GELU())


class ChannelContext(nn.Module):
    """The adaptive channel context (AC): two convolutional branches on the known slices that modulate one another."""

    def __init__(self, width: int, out: int, norm: str) -> None:
        super().__init__()
        self.local = _depthwise(width, norm)
        self.wide = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU()
        )
        self.spatial, self.channel = SpatialMap(width, norm), ChannelMap(width, norm)
        self.out = nn.Conv2d(width, out, 1)

    def forward(self, y: Tensor) -> Tensor:
        c, a = self.local(y), self.wide(y)
        return self.out(a * self.spatial(c) + c * self.channel(a))


class DeformableAttention(nn.Module):
    """Deformable attention: each latent looks at keys from the whole picture, sampled at learned places."""

    def __init__(
        self, width: int, heads: int, kernel: int, max_keys: int, offset_norm: str = "none", groups: int | None = None
    ) -> None:
        """groups: how many groups of channels are sampled at places of their own; None: as many as heads."""
        super().__init__()
        self.heads, self.max_keys, self.groups = heads, max_keys, groups or heads
        self.query, self.key, self.value, self.out = (nn.Conv2d(width, width, 1) for _ in range(4))
        each = width // self.groups
        self.shift = nn.Sequential(
            nn.Conv2d(each, each, kernel, padding=kernel // 2, groups=each),
            LayerNorm(each) if offset_norm == "layer" else nn.Identity(),
            nn.GELU(),
            nn.Conv2d(each, 2, 1),
        )

    def forward(self, y: Tensor) -> Tensor:
        b, c, h, w = y.shape
        each = c // self.groups
        stride = 1
        while -(-h // stride) * -(-w // stride) > self.max_keys:
            stride += 1
        q = self.query(y)
        shift = self.shift(q.reshape(b * self.groups, each, h, w))[:, :, ::stride, ::stride]  # (B groups, 2, hk, wk)
        rows = torch.linspace(-1, 1, h, device=y.device, dtype=y.dtype)[::stride]
        columns = torch.linspace(-1, 1, w, device=y.device, dtype=y.dtype)[::stride]
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)  # x, y
        places = (grid + shift.permute(0, 2, 3, 1).flip(-1)).clamp(-1, 1)
        sampled = F.grid_sample(y.reshape(b * self.groups, each, h, w), places, mode="bilinear", align_corners=True)
        sampled = sampled.reshape(b, c, *sampled.shape[-2:])
        k, v = (part(sampled).reshape(b, self.heads, c // self.heads, -1).mT for part in (self.key, self.value))
        q = q.reshape(b, self.heads, c // self.heads, h * w).mT
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out(out.transpose(2, 3).reshape(b, c, h, w))


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each place, (B, d, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class GlobalContext(nn.Module):
    """The global context (AG): deformable attention on the known slices and a local branch modulate one another."""

    def __init__(self, width: int, out: int, heads: int, config: S2licPaperConfig) -> None:
        super().__init__()
        self.local = _depthwise(width, config.norm)
        groups = heads if config.offset_groups == "heads" else 1
        self.attention = DeformableAttention(
            width, heads, config.offset_kernel, config.max_keys, config.offset_norm, groups
        )
        self.conv = nn.Conv2d(width, width, 5, padding=2)
        self.spatial, self.channel = SpatialMap(width, config.norm), ChannelMap(width, config.norm)
        self.out = nn.Conv2d(width, out, 1)

    def forward(self, y: Tensor) -> Tensor:
        c, a = self.local(y), self.conv(self.attention(y))
        return self.out(a * self.channel(c) + c * self.spatial(a))


def _parameters(inner: int, size: int) -> nn.Sequential:
    widths = (inner, 320, 256, 128, 2 * size)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 1), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Prediction(nn.Module):
    """Latent residual prediction, (B, size, h, w): at most half a step."""

    def __init__(self, inner: int, size: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(inner, 224, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(224, 128, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(128, size, 3, padding=1),
        )

    def forward(self, *parts: Tensor) -> Tensor:
        return 0.5 * torch.tanh(self.net(torch.cat(parts, 1)))


class PaperSlice(nn.Module):
    """The context model of one slice, channels of y: ACGC, as in the paper."""

    def __init__(self, config: S2licPaperConfig, index: int) -> None:
        super().__init__()
        size, m = config.latent // config.slices, config.latent
        known = size * index
        self.start, self.size = known, size
        self.channels = ChannelContext(known, 64, config.norm) if index else None
        self.everywhere = GlobalContext(known, 32, index, config) if index else None
        seen = 2 * m + (96 if index else 0)
        self.anchor = nn.Conv2d(size, 64, 5, padding=2) if config.anchor_context == "masked_conv" else None
        self.first = _parameters(seen, size)
        self.second = _parameters(seen + (64 if self.anchor is not None else 0), size)
        self.first_residual = Prediction(m + known + size, size)
        self.second_residual = Prediction(m + known + size, size)

    def context(self, features: Tensor, known: Tensor) -> Tensor:
        if self.channels is None or self.everywhere is None:
            return features
        return torch.cat([self.channels(known), self.everywhere(known), features], 1)

    def density(self, context: Tensor, anchors: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mean and level of all cells, (B, size, h, w). anchors: their y_hat; None in the first pass."""
        if anchors is None:
            out = self.first(context)
        else:
            out = self.second(context if self.anchor is None else torch.cat([context, self.anchor(anchors)], 1))
        level, mean = out.chunk(2, 1)
        return mean, 16 + LEVEL_UNIT * level


def _hyper_synthesis(config: S2licPaperConfig) -> nn.Sequential:
    """The network from z_hat (B, N, h/4, w/4) to hyper features (B, 2 M, h, w): `hyper_order` is the option."""
    n, m = config.width, config.latent
    wide = m * 3 // 2
    if config.hyper_order == "mlic":
        first = (nn.Conv2d(n, m, 3, padding=1), _subpixel(m, m))
        second = (nn.Conv2d(m, wide, 3, padding=1), _subpixel(wide, wide))
    else:
        first = (_subpixel(n, m), nn.Conv2d(m, m, 3, padding=1))
        second = (_subpixel(m, wide), nn.Conv2d(wide, wide, 3, padding=1))
    layers = [layer for stage in (*first, *second) for layer in (stage, nn.GELU())]
    return nn.Sequential(*layers, nn.Conv2d(wide, 2 * m, 3, padding=1))


class S2licPaperNet(nn.Module):
    """The whole network. Pictures: (B, 3, H, W), sRGB in [0, 1], sides multiples of 64. t: quality, (B,) in 0...1."""

    arithmetic = "float64"

    def __init__(self, config: S2licPaperConfig) -> None:
        super().__init__()
        self.config = config
        n, m = config.width, config.latent
        (d1, d2, d3), (h1, h2, h3) = config.depths, config.heads
        # stochastic depth grows over eight blocks, of which the last two are TIC's hyper stages and unused here
        total = d1 + d2 + d3 + 2
        rates = [config.drop_path * k / (total - 1) for k in range(total)]

        def swin(depth: int, heads: int, first: int) -> ResidualSwin:
            return ResidualSwin(n, heads, depth, config.mlp_ratio, rates[first : first + depth])

        self.analysis_enhance = Enhancement(config.enhance) if config.enhance else nn.Identity()
        self.synthesis_enhance = Enhancement(config.enhance) if config.enhance else nn.Identity()
        self.analysis = nn.Sequential(
            nn.Conv2d(3, n, 5, stride=2, padding=2),
            swin(d1, h1, 0),
            nn.Conv2d(n, n, 3, stride=2, padding=1),
            swin(d2, h2, d1),
            nn.Conv2d(n, n, 3, stride=2, padding=1),
            swin(d3, h3, d1 + d2),
            nn.Conv2d(n, m, 3, stride=2, padding=1),
        )
        self.synthesis = nn.Sequential(
            _deconv(m, n),
            swin(d3, h3, 2),
            _deconv(n, n),
            swin(d2, h2, 2 + d3),
            _deconv(n, n),
            swin(d1, h1, 2 + d3 + d2),
            _subpixel(n, 3),
        )
        self.hyper_analysis = nn.Sequential(
            nn.Conv2d(m, n, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(n, n, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(n, n, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(n, n, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(n, n, 3, stride=2, padding=1),
        )
        self.hyper_synthesis = _hyper_synthesis(config)
        self.slices = nn.ModuleList(PaperSlice(config, index) for index in range(config.slices))
        self.gain = Gain(config.knots, m)
        self.inverse = Gain(config.knots, m)
        self.z_mean = Knots(config.knots, n)
        self.z_level = Knots(config.knots, n, LEVEL_UNIT)
        self.y_density = GaussianConditional(LEVELS)
        self.z_density = LaplaceConditional(LEVELS)
        with torch.no_grad():
            gains = torch.tensor([start_gain(k / (config.knots - 1)) for k in range(config.knots)])
            self.gain.values.copy_(gains[:, None].expand_as(self.gain.values))
            self.inverse.values.copy_(-self.gain.values)
            self.z_level.values.fill_(20.0 / LEVEL_UNIT)

    def latents(self, x: Tensor, t: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """The latents y of pictures x, in quantisation steps: (B, M, H/16, W/16). size: (h, w) of the part of x."""
        height, width = x.shape[-2:] if size is None else size
        y = self.gain(self.analysis(self.analysis_enhance(x - 0.5)), t)
        return y[..., : height // 16, : width // 16]

    def reconstruct(self, y_hat: Tensor, t: Tensor | int) -> Tensor:
        """The pictures (B, 3, 16 h, 16 w), not clamped, of latents (B, M, h, w) in quantisation steps."""
        return self.synthesis_enhance(self.synthesis(self.inverse.apply_to(y_hat, t))) + 0.5

    def forward(self, x: Tensor, t: Tensor, hard: bool = False) -> RateDistortion:
        """The training path, as `S2licNet.forward`."""
        y = self.latents(x, t).float()
        z = self.hyper_analysis(y).float()
        z_mean, z_level = self.z_mean.at(t), self.z_level.at(t)
        rounded = hard or not self.training
        z_hat = round_half_up_ste(z - z_mean) + z_mean
        z_bits = estimated_bits(self.z_density, z_hat if rounded else add_noise(z), z_mean, z_level, not self.training)
        features = self.hyper_synthesis(z_hat)
        hyper_means = features.chunk(2, 1)[1]
        anchors = checkerboard(*y.shape[-2:], y.device)
        known = y[:, :0]
        y_bits = torch.zeros_like(z_bits)
        for part in self.slices:
            assert isinstance(part, PaperSlice)
            y_s = y[:, part.start : part.start + part.size]
            context = part.context(features, known)
            mean1, level1 = (v.float() for v in part.density(context, None))
            first = (round_half_up_ste(y_s - mean1) + mean1) * anchors
            first = first + anchors * part.first_residual(hyper_means, known, first)
            mean2, level2 = (v.float() for v in part.density(context, first))
            mean, level = torch.where(anchors, mean1, mean2), torch.where(anchors, level1, level2)
            hat = torch.where(anchors, first, round_half_up_ste(y_s - mean2) + mean2)
            value = round_half_up_ste(y_s - mean) + mean if rounded else add_noise(y_s)
            y_bits = y_bits + estimated_bits(self.y_density, value, mean, level, not self.training)
            hat = hat + ~anchors * part.second_residual(hyper_means, known, hat)
            known = torch.cat([known, hat.to(known.dtype)], 1)
        return RateDistortion(self.reconstruct(known, t), y_bits, z_bits)

    # ---- coding

    def freeze(self) -> S2licPaperNet:
        """Turns everything that decodes to float64; for use, not for training."""
        for part in (self.hyper_synthesis, self.slices, self.synthesis, self.synthesis_enhance):
            part.double()
        return self.eval()

    def z_parameters(self, step: int) -> tuple[Tensor, Tensor]:
        """The mean and table row of each channel of z, as `S2licNet.z_parameters`."""
        mean = round_half_up(self.z_mean.exactly(step).flatten() * 2**MEAN_BITS) * 2.0**-MEAN_BITS
        return mean, table_row(self.z_level.exactly(step)).flatten()

    def predict(self, z_hat: Tensor, height: int, width: int, step: int, take: Take) -> Tensor:
        """The decoded latents y_hat, as `S2licNet.predict`."""
        grid = 2.0**MEAN_BITS
        features = self.hyper_synthesis(z_hat)[:, :, :height, :width]
        hyper_means = features.chunk(2, 1)[1]
        anchors = checkerboard(height, width, z_hat.device)
        flat = anchors.flatten()
        passes = [torch.nonzero(mask).flatten() for mask in (flat, ~flat)]
        known = features[:, :0]
        for part in self.slices:
            assert isinstance(part, PaperSlice)
            channels = slice(part.start, part.start + part.size)
            hat = features.new_zeros(1, part.size, height, width)
            context = part.context(features, known)
            for second, cells in enumerate(passes):
                if not len(cells):
                    continue
                mean, level = part.density(context, hat if second else None)
                mean = round_half_up(mean * grid) * (1 / grid)
                picked = [v[0].flatten(1)[:, cells] for v in (mean, level)]
                hat[0].view(part.size, -1)[:, cells] = take(picked[0], table_row(picked[1]), channels, cells)
                residual = (part.second_residual if second else part.first_residual)(hyper_means, known, hat)
                mask = ~anchors if second else anchors
                hat = hat + mask * round_half_up(residual * grid) * (1 / grid)
            known = torch.cat([known, hat], 1)
        return known

    def pixels(self, y_hat: Tensor, step: int) -> Tensor:
        """The picture of y_hat, as `S2licNet.pixels`, but for the grid."""
        return self.reconstruct(y_hat, step)
