"""The networks of S2LIC, configuration `small`: transforms, hyperprior, slices with a two-pass checkerboard.

Wang, Fu, Cao, Wang, Chen, Liang: "S2LIC: Learned Image Compression with the SwinV2 Block, Adaptive Channel-wise and
Global-inter Attention Context", arXiv 2403.14471. Differs, to train in little time, to be fast on a CPU and to decode
the same everywhere:

- analysis and synthesis have a linear shortcut (wavelet packet and a matrix, after AuxT, arXiv 2501.13751) that starts
  at its closed-form optimum, so step 0 is a transform codec already; the networks add to it and start at zero;
- nothing runs at full resolution: pictures enter and leave through a pixel-unshuffle of 4, and the dense block of the
  paper is a residual enhancement of the linear picture at a quarter resolution;
- one model for all rates: gains per channel, interpolated between knots of the quality, on y and inside the
  transforms, and starting values of the densities that depend on the quality;
- SwinV2 blocks are in the analysis only: the synthesis is convolutions and leaky ReLU in 8-bit fixed point, so that
  files decode to the same pixels on every machine;
- everything between z and the last slice is convolution and leaky ReLU in fixed point (`entropy.exact`); the channel
  context is convolutional, the second pass does see the first one (`anchor_context`), latent residual prediction is
  slim and clipped in place of tanh.

Numbers, and what else was tried: docs/notes/s2lic.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...entropy.exact import freeze, round_half_up, round_half_up_ste
from ...entropy.models import GaussianConditional, LaplaceConditional, add_noise
from ..layers.exact_transforms import Exact, Grid, Residual, Synthesis, leaky
from ..layers.quality_gains import Gain, Knots
from ..layers.swin import ResidualSwin
from ..layers.transform_settings import LEAK, WAVELET
from ..layers.wavelet import analysis, synthesis
from .config import LEVEL_UNIT, LEVELS, MEAN_BITS, S2licConfig
from .layers import RateDistortion, Take, checkerboard, estimated_bits, start_gain, table_row


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


class Analysis(nn.Module):
    """The analysis transform, pictures to latents: a linear map of wavelet packets plus a network."""

    def __init__(self, config: S2licConfig) -> None:
        super().__init__()
        (c4, c8, c16), (n4, n8, n16) = config.analysis_width, config.analysis_blocks
        self.linear = nn.Conv2d(3 * 4**WAVELET, config.latent, 1, bias=False)
        self.enter = nn.Conv2d(48, c4, 3, padding=1)
        self.gain4 = Gain(config.knots, c4)
        self.stage4 = nn.Sequential(*(Residual(c4) for _ in range(n4)))
        self.down8 = nn.Conv2d(c4, c8, 3, stride=2, padding=1)
        self.gain8 = Gain(config.knots, c8)
        self.stage8 = nn.Sequential(*(Residual(c8) for _ in range(n8)))
        self.down16 = nn.Conv2d(c8, c16, 3, stride=2, padding=1)
        self.gain16 = Gain(config.knots, c16)
        self.stage16 = nn.Sequential(*(Residual(c16) for _ in range(n16)))
        self.swin16 = ResidualSwin(c16, config.heads, config.attention, 2.0) if config.attention else nn.Identity()
        self.leave = _zero(nn.Conv2d(c16, config.latent, 1))

    def forward(self, x: Tensor, t: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Latents (B, M, h/16, w/16), before the gain of y, of pixels minus 1/2, (B, 3, H, W).

        size: (h, w) of the picture in x, multiples of 16, from the top left; None: all of it. What lies beyond fills
        windows of the attention up. The wavelets mustn't see it: their inverse mirrors at the picture's border.
        """
        with torch.autocast(x.device.type, enabled=False):
            picture = x if size is None else x[..., : size[0], : size[1]]
            # matrix products over rows and columns are several times slower on channels_last
            linear = self.linear(analysis(picture.contiguous(), WAVELET, "symmetric").to(self.linear.weight.dtype))
        r = self.stage4(self.gain4(self.enter(F.pixel_unshuffle(x, 4)), t))
        r = self.stage8(self.gain8(leaky(self.down8(r)), t))
        r = self.swin16(self.stage16(self.gain16(leaky(self.down16(r)), t)))
        correction = self.leave(r)[..., : linear.shape[-2], : linear.shape[-1]]
        return linear + correction.to(linear.dtype)


class HyperAnalysis(nn.Module):
    """The hyper analysis: latents to hyper latents at a quarter of their resolution."""

    def __init__(self, config: S2licConfig) -> None:
        super().__init__()
        n = config.hyper
        self.net = nn.Sequential(
            nn.Conv2d(config.latent, n, 3, padding=1),
            nn.LeakyReLU(2.0**-LEAK),
            nn.Conv2d(n, n, 5, stride=2, padding=2),
            nn.LeakyReLU(2.0**-LEAK),
            nn.Conv2d(n, n, 5, stride=2, padding=2),
        )

    def forward(self, y: Tensor) -> Tensor:
        """The hyper latents z before rounding, (B, N, h/4, w/4), of y (B, M, h, w); h, w are multiples of 4.

        The factor of 8 lifts z above the noise of rounding.
        """
        return 8 * self.net(y).float()


class HyperSynthesis(nn.Module):
    """The hyper synthesis: z_hat (B, N, h/4, w/4) to features (B, F, h, w), which a leaky quantiser follows."""

    def __init__(self, config: S2licConfig) -> None:
        super().__init__()
        n, f = config.hyper, config.features
        self.first = Exact(n, 4 * n, 3, relu=False, exponent=MEAN_BITS)
        self.second = Exact(n, 4 * n, 3, relu=True)
        self.third = Exact(n, f, 3, relu=True)

    def forward(self, z: Tensor) -> Tensor:
        r = F.pixel_shuffle(self.first(z), 2)
        return in_strips(self.third, [F.pixel_shuffle(in_strips(self.second, [r], 1), 2)], 1)


class Slice(nn.Module):
    """The context model of one slice, channels of y: mean and level of each latent.

    It sees the hyper features, earlier slices and, in the second pass, the first.
    """

    def __init__(self, config: S2licConfig, start: int, size: int) -> None:
        super().__init__()
        f, c, h = config.features, config.context, config.hidden
        self.start, self.size = start, size
        self.channels = Exact(start, c, 3, relu=False, exponent=MEAN_BITS) if start else None
        seen = f + (c if start else 0)
        self.anchor = (
            Exact(size, c, 5 if size <= 64 else 3, relu=False, exponent=MEAN_BITS)
            if config.passes == 2 and config.anchor_context == "masked_conv"
            else None
        )
        self.first1 = Exact(seen, h, 1, relu=True)
        self.first2 = Exact(h, 2 * size, 1, relu=True).zero()
        two = config.passes == 2
        self.second1 = Exact(seen + (c if self.anchor else 0), h, 1, relu=True) if two else None
        self.second2 = Exact(h, 2 * size, 1, relu=True).zero() if two else None
        r = config.refine
        self.refine1 = Exact(size, r, 3, relu=False, exponent=MEAN_BITS) if r else None
        self.refine2 = Exact(seen + r, r, 1, relu=True) if r else None
        self.refine3 = Exact(r, size, 1, relu=True).zero() if r else None
        self.grid, self.refine_grid = Grid(16, MEAN_BITS), Grid(16, MEAN_BITS)

    def context(self, features: Tensor, known: Tensor) -> Tensor:
        """The context (B, C, h, w) of both passes: features (B, F, h, w), and a convolution of the known slices.

        known: (B, start, h, w).
        """
        return torch.cat(self.contexts(features, known), 1)

    def contexts(self, features: Tensor, known: Tensor) -> list[Tensor]:
        """The parts of `context`, as they are."""
        return [features] if self.channels is None else [features, in_strips(self.channels, [known], 1)]

    def _density(self, out: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        mean, level = out.split(self.size, 1)
        return self.grid(mean), base + LEVEL_UNIT * level

    def first(self, context: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and level (not rounded, not clipped) of all cells, (B, size, h, w); valid on anchors."""
        return self._density(self.first2(self.first1(context)), base)

    def second(self, context: Tensor, anchors: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and level in the second pass. anchors: y_hat (B, size, h, w), zero where it isn't known yet."""
        assert self.second1 is not None and self.second2 is not None
        return self._density(self.second2(self.second1(torch.cat(self.seen([context], anchors), 1))), base)

    def seen(self, contexts: list[Tensor], anchors: Tensor) -> list[Tensor]:
        """The inputs of the second pass: the context, and a convolution of the anchors."""
        return contexts if self.anchor is None else [*contexts, in_strips(self.anchor, [anchors], 2)]

    def exactly(self, contexts: list[Tensor], base: Tensor, cells: Tensor, second: bool) -> tuple[Tensor, Tensor]:
        """The mean and table row of n cells of a pass, (size, n) each, after `freeze`.

        cells: flat indices, (n,). contexts: for the second pass, what `seen` gives. They are put together for some
        cells at a time, since together they would be most of the memory that decoding takes.
        """
        first, last = (self.second1, self.second2) if second else (self.first1, self.first2)
        assert first is not None and last is not None
        means, rows = [], []
        for some in cells.split(1 << 14):
            picked = torch.cat([x.flatten(2).index_select(2, some) for x in contexts], 1)[..., None]
            mean, level = self._density(last(first(picked)), base)
            means.append(mean[0, ..., 0])
            rows.append(table_row(level)[0, ..., 0])
        return torch.cat(means, 1), torch.cat(rows, 1)

    def refined(self, y: Tensor, *contexts: Tensor) -> Tensor:
        """Latents with an estimate of what rounding lost, at most half a step (latent residual prediction); as y.

        contexts: the context, whole or in parts.
        """
        refine1, refine2, refine3 = self.refine1, self.refine2, self.refine3
        if refine1 is None or refine2 is None or refine3 is None:
            return y

        def shift(y: Tensor, *contexts: Tensor) -> Tensor:
            return refine3(refine2(torch.cat([refine1(y), *contexts], 1)))

        return y + self.refine_grid(in_strips(shift, [y, *contexts], 1).clamp(-0.5, 0.5)).to(y.dtype)


def in_strips(layer: Callable[..., Tensor], inputs: list[Tensor], halo: int, cells: int = 1 << 14) -> Tensor:
    """The output of a layer, computed a few rows at a time if the inputs have many cells; the same for exact layers.

    halo: rows to each side that an output depends on.
    """
    height, width = inputs[0].shape[-2:]
    rows = max(1, cells // width)
    if height <= 2 * rows or torch.is_grad_enabled():
        return layer(*inputs)
    out: Tensor | None = None
    for start in range(0, height, rows):
        first, stop = max(0, start - halo), min(height, start + rows + halo)
        part = layer(*(x[..., first:stop, :] for x in inputs))
        if out is None:
            out = part.new_empty((*part.shape[:-2], height, width))
        end = min(height, start + rows)
        out[..., start:end, :] = part[..., start - first : end - first, :]
    assert out is not None
    return out


class S2licNet(nn.Module):
    """The whole network. Pictures: (B, 3, H, W), sRGB in [0, 1], sides multiples of 128. t: quality, (B,) in 0...1."""

    arithmetic = "int"

    def __init__(self, config: S2licConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.hyper_analysis = HyperAnalysis(config)
        self.hyper_synthesis = HyperSynthesis(config)
        starts = [sum(config.slices[:i]) for i in range(len(config.slices))]
        self.slices = nn.ModuleList(Slice(config, a, n) for a, n in zip(starts, config.slices, strict=True))
        self.gain = Gain(config.knots, config.latent)  # log2 of 1 / quantisation step
        self.inverse = Gain(config.knots, config.latent)
        self.base = Knots(config.knots, config.latent, LEVEL_UNIT)  # levels to start from
        self.z_mean = Knots(config.knots, config.hyper)
        self.z_level = Knots(config.knots, config.hyper, LEVEL_UNIT)
        self.y_density = GaussianConditional(LEVELS)
        self.z_density = LaplaceConditional(LEVELS)
        with torch.no_grad():
            gains = torch.tensor([start_gain(k / (config.knots - 1)) for k in range(config.knots)])
            self.gain.values.copy_(gains[:, None].expand_as(self.gain.values))
            self.inverse.values.copy_(-self.gain.values)
            self.base.values.fill_(16.0 / LEVEL_UNIT)
            self.z_level.values.fill_(20.0 / LEVEL_UNIT)

    def latents(self, x: Tensor, t: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """The latents y of pictures x, in quantisation steps: (B, M, H/16, W/16). size: (h, w) of the part of x."""
        return self.gain(self.analysis(x - 0.5, t, size), t)

    def reconstruct(self, y_hat: Tensor, t: Tensor) -> Tensor:
        """The pictures (B, 3, 16 h, 16 w), not clamped, of latents (B, M, h, w) in quantisation steps."""
        return self.synthesis(self.inverse(y_hat, t), t) + 0.5

    def forward(self, x: Tensor, t: Tensor, hard: bool = False) -> RateDistortion:
        """The training path: additive noise for the rate, straight-through rounding for the picture; hard: rounding for
        both."""
        y_hat, y_bits, z_bits = self.coded(self.latents(x, t).float(), t, hard)
        return RateDistortion(self.reconstruct(y_hat, t), y_bits, z_bits)

    def coded(self, y: Tensor, t: Tensor, hard: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """The latents as they are decoded, (B, M, h, w), of y in quantisation steps, and the bits of y and z, (B,)."""
        rounded = hard or not self.training
        z = self.hyper_analysis(y)
        with torch.autocast(y.device.type, enabled=torch.is_autocast_enabled(y.device.type) and not hard):
            z_mean, z_level = self.z_mean.at(t), self.z_level.at(t)
            # Noise, not rounding, for the synthesis too: a z that still rounds to nothing would teach it nothing.
            z_hat = round_half_up_ste(z - z_mean) + z_mean if rounded else add_noise(z)
            z_bits = estimated_bits(self.z_density, z_hat, z_mean, z_level, not self.training)
            features = self.hyper_synthesis(z_hat)
            base = self.base.at(t)
            anchors = checkerboard(*y.shape[-2:], y.device)
            done: list[Tensor] = []
            y_bits = torch.zeros_like(z_bits)
            for part in self.slices:
                assert isinstance(part, Slice)
                where = slice(part.start, part.start + part.size)
                y_s, base_s = y[:, where], base[:, where]
                context = part.context(features, torch.cat(done, 1) if done else y[:, :0])
                mean, level = (out.float() for out in part.first(context, base_s))
                if self.config.passes == 2:
                    known = (round_half_up_ste(y_s - mean) + mean) * anchors
                    mean2, level2 = part.second(context, known, base_s)
                    mean = torch.where(anchors, mean, mean2.float())
                    level = torch.where(anchors, level, level2.float())
                hat = round_half_up_ste(y_s - mean) + mean
                value = hat if rounded else add_noise(y_s)
                y_bits = y_bits + estimated_bits(self.y_density, value, mean, level, not self.training)
                done.append(part.refined(hat, context))
            return torch.cat(done, 1), y_bits, z_bits

    # ---- exact arithmetic, after `freeze`

    def freeze(self) -> S2licNet:
        """Fixes the integer forms of everything that decodes; for use, not for training."""
        freeze(self)
        return self

    def z_parameters(self, step: int) -> tuple[Tensor, Tensor]:
        """The mean, float64, and the table row of each channel of z, (N,), at a quality step."""
        mean = round_half_up(self.z_mean.exactly(step).flatten() * 2**MEAN_BITS) * 2.0**-MEAN_BITS
        return mean, table_row(self.z_level.exactly(step)).flatten()

    def predict(self, z_hat: Tensor, height: int, width: int, step: int, take: Take) -> Tensor:
        """The decoded latents y_hat, (1, M, height, width) float64, slice after slice; encoder and decoder call this.

        z_hat: (1, N, ceil(height / 4), ceil(width / 4)). take(mean, row, channels, cells): called pass after pass,
        gives y_hat before refinement at the cells, (channels, cells). The encoder makes symbols of its latents, the
        decoder reads them.
        """
        features = self.hyper_synthesis(z_hat)[:, :, :height, :width]
        base = self.base.exactly(step)
        anchors = checkerboard(height, width).flatten()
        masks = (anchors, ~anchors) if self.config.passes == 2 else (torch.ones_like(anchors),)
        passes = [torch.nonzero(mask).flatten().to(z_hat.device) for mask in masks]
        y_hat = torch.zeros(1, self.config.latent, height, width, dtype=torch.float64, device=z_hat.device)
        for part in self.slices:
            assert isinstance(part, Slice)
            channels = slice(part.start, part.start + part.size)
            mine = y_hat[:, channels]
            flat = mine.flatten(2)[0] if mine.is_contiguous() else mine[0].view(part.size, -1)
            contexts = part.contexts(features, y_hat[:, : part.start])
            for index, cells in enumerate(passes):
                if not len(cells):  # a single cell has no anchors
                    continue
                seen = part.seen(contexts, mine) if index else contexts
                mean, row = part.exactly(seen, base[:, channels], cells, bool(index))
                del seen  # hundreds of megabytes of a large picture
                flat[:, cells] = take(mean, row, channels, cells)
                del mean, row
            y_hat[:, channels] = part.refined(mine, *contexts)
            del contexts
        return y_hat

    def pixels(self, y_hat: Tensor, step: int) -> Tensor:
        """The picture of y_hat (1, M, h, w) float64: (1, 3, 16 h, 16 w) float64 on a grid of 2**-16, not clamped."""
        return self.synthesis.exactly(self.inverse.apply_to(y_hat, step), step) + 0.5


@torch.no_grad()
def initialise(net: S2licNet, pictures: Tensor) -> dict[str, float]:
    """Sets a closed-form start: linear maps from the PCA of wavelet packets, densities from the spread of latents.

    pictures: (N, 3, H, W) in [0, 1]. Channels are in order of falling variance. Returns PSNR without quantisation.
    """
    m = net.config.latent
    c = torch.cat([analysis(part - 0.5, WAVELET, "symmetric") for part in pictures.split(16)]).double()
    flat = c.permute(1, 0, 2, 3).reshape(c.shape[1], -1)
    _, vectors = torch.linalg.eigh(flat @ flat.T / flat.shape[1])
    basis = vectors.flip(1)[:, :m]  # (768, M)
    cast(Tensor, net.synthesis.linear.layer.conv.bias).zero_()
    net.analysis.linear.weight.copy_(basis.T[:, :, None, None])
    net.synthesis.linear.layer.conv.weight.copy_(basis[:, :, None, None])
    v = basis.T @ flat
    deviation = v.std(1).float()
    scale = (0.5 * deviation * torch.exp2(net.gain.values)).clamp(0.11, 200)
    net.base.values.copy_(net.y_density.level(scale) / LEVEL_UNIT)
    back = synthesis((basis @ v).reshape(-1, c.shape[0], *c.shape[2:]).transpose(0, 1), WAVELET, "symmetric") + 0.5
    mse = (back.clamp(0, 1) - pictures).square().mean((1, 2, 3))
    return {"psnr": float((-10 * torch.log10(mse.clamp_min(1e-9))).mean())}
