"""The networks of ZipGAN: encoders of 3-D velocity fields, a super-resolving generator, a patch discriminator.

Nista, Schumann, Fröde, Gowely, Grenga, MacArt, Attili, Pitsch: "ZipGAN: Super-Resolution-based Generative Adversarial
Network Framework for Data Compression of Direct Numerical Simulations", arXiv 2412.14150. The paper's layer tables
aren't public; trunk and discriminator follow the same group's published TSRGAN and PIESRGAN networks (a residual in
residual dense block, ESRGAN's, arXiv 1809.00219, in three dimensions). Differs:

- the generator adds to the spectral interpolation of its latents, and starts at zero: untrained, it is a transform
  codec (`layers/spectral.py`);
- pixel-shuffle tail, nothing convolves at full resolution; circular or mirrored padding in place of zeros;
- latents are quantised, and one generator serves all steps: the step in units of the field's root mean square sets
  gains of channels;
- the output is projected on divergence-free fields and cut to the solver's wave numbers, where the encoder has found
  the original to be like that;
- the discriminator has spectral normalisation (arXiv 1802.05957) in place of batch normalisation, which leaks batch
  statistics at a few boxes a batch, and sees gradients beside velocities: what generators get wrong is small and fine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

__all__ = ["Discriminator", "FieldEncoder", "Generator", "ZipganConfig", "project", "spectral_resample"]

NOISE = (-3.0, 1.0)  # what training draws; a generator is told the nearest of it, and doesn't extrapolate
SLOPE = 0.2  # of the leaky ReLU, as published
RESIDUAL = 0.2  # scale of the residual branches, as published
# Of each layer of the discriminator: normalised ones shrink what they are given, and logits would stay at 0 (with 2,
# and velocities alone, it never learnt)
GAIN = 3.0
SLOPES = 6.0  # gradients of the grid times this are about as large as the velocities, of 64^3 points at R_lambda 34


@dataclass(frozen=True)
class ZipganConfig:
    """The sizes of the networks.

    factor: 2, 4 or 8, by which each axis is down-sampled, so 8, 64 or 512 in numbers of values.

    features, growth, blocks, dense: of the trunk (the group's TSRGAN: 64, 64, 1 residual in residual block, 3 dense).
    encoder: a sharp spectral cut, a box or a Gaussian filter, or a learned one that starts at the box filter.
    """

    factor: int = 4
    features: int = 32
    growth: int = 16
    blocks: int = 1
    dense: int = 3
    encoder: Literal["spectral", "box", "gaussian", "learned"] = "spectral"
    encoder_width: int = 16
    critic: int = 16  # channels of the discriminator's first layer; TSRGAN: 64
    components: int = 3

    def __post_init__(self) -> None:
        if self.factor not in (2, 4, 8):
            raise ValueError(f"factor {self.factor}: there are 2, 4, 8")

    @staticmethod
    def paper(factor: int) -> ZipganConfig:
        """The sizes of the group's published networks."""
        return ZipganConfig(factor, 64, 64, 1, 3, "learned", 64, 64)

    @property
    def stages(self) -> int:
        return int(math.log2(self.factor))


def pad(x: Tensor, margin: int, periodic: bool) -> Tensor:
    """The field x (B, C, D, H, W) with a margin of what lies beyond the borders; axes shorter than it are repeated."""
    for axis in (-1, -2, -3):
        size = x.shape[axis]
        if margin <= size:  # one copy; the gradient of a selection adds one by one
            low, high = x.narrow(axis, 0, margin), x.narrow(axis, size - margin, margin)
            low, high = (high, low) if periodic else (low.flip(axis), high.flip(axis))
            x = torch.cat([low, x, high], axis)
            continue
        index = torch.arange(-margin, size + margin, device=x.device)
        if periodic:
            index = index % size
        else:  # mirrored about the border, as the cosine transform does it
            index = index % (2 * size)
            index = torch.minimum(index, 2 * size - 1 - index)
        x = x.index_select(axis, index)
    return x


class Conv(nn.Module):
    """A 3x3x3 convolution that knows what lies beyond the borders."""

    def __init__(self, inner: int, outer: int, gain: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inner, outer, 3)
        nn.init.kaiming_normal_(self.conv.weight, a=SLOPE)
        with torch.no_grad():
            self.conv.weight.mul_(gain)
            assert self.conv.bias is not None
            self.conv.bias.zero_()

    def forward(self, x: Tensor, periodic: bool) -> Tensor:
        return self.conv(pad(x, 1, periodic))


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class DenseBlock3d(nn.Module):
    """A dense block in three dimensions: five convolutions, each of which sees all before it; ESRGAN, section 3.1."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        # 0.1: ESRGAN's smaller initialisation of residual branches
        self.layers = nn.ModuleList(Conv(features + i * growth, growth, 0.1) for i in range(4))
        self.last = Conv(features + 4 * growth, features, 0.1)

    def forward(self, x: Tensor, periodic: bool) -> Tensor:
        seen = x
        for layer in self.layers:
            seen = torch.cat([seen, leaky(layer(seen, periodic))], 1)
        return x + RESIDUAL * self.last(seen, periodic)


class ResidualInResidual(nn.Module):
    """A residual in residual dense block on (B, features, D, H, W); ESRGAN, section 3.1."""

    def __init__(self, config: ZipganConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DenseBlock3d(config.features, config.growth) for _ in range(config.dense))

    def forward(self, x: Tensor, periodic: bool) -> Tensor:
        y = x
        for block in self.blocks:
            y = block(y, periodic)
        return x + RESIDUAL * y


def shuffle(x: Tensor) -> Tensor:
    """The pixel shuffle in three dimensions, (B, 8 C, D, H, W) to (B, C, 2 D, 2 H, 2 W)."""
    b, c, d, h, w = x.shape
    x = x.reshape(b, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c // 8, 2 * d, 2 * h, 2 * w)


class Upsample(nn.Module):
    """An up-sampling to twice the resolution: a convolution and a shuffle.

    It starts as a copy of each voxel, so that it can be put between trained layers (progressive transfer).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv = Conv(features, 8 * features)
        with torch.no_grad():
            weight = self.conv.conv.weight
            weight.mul_(0.05)
            for channel in range(features):
                weight[8 * channel : 8 * channel + 8, channel, 1, 1, 1] += 1.0

    def forward(self, x: Tensor, periodic: bool) -> Tensor:
        return leaky(shuffle(self.conv(x, periodic)))


class Generator(nn.Module):
    """The generator: from latents on the coarse grid to what their interpolation lacks on the fine one."""

    def __init__(self, config: ZipganConfig) -> None:
        super().__init__()
        self.config = config
        width = config.features
        self.gains = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(SLOPE), nn.Linear(16, 2 * width))
        self.head = Conv(config.components, width)
        self.trunk = nn.ModuleList(ResidualInResidual(config) for _ in range(config.blocks))
        self.tail = Conv(width, width, 0.2)
        self.upsample = nn.ModuleList(Upsample(width) for _ in range(config.stages - 1))
        self.last = Conv(width, 8 * config.components, 0.0)
        with torch.no_grad():
            last = self.gains[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.1)
            last.bias.zero_()

    def forward(self, z: Tensor, noise: Tensor, periodic: bool = True) -> Tensor:
        """The correction, (B, C, r d, r h, r w), that is added to the interpolation of z.

        z: (B, C, d, h, w), of unit root mean square. noise: (B,), log2 of the quantiser's step in these units.
        """
        told = noise.clamp(*NOISE)
        first, second = (1 + g[:, :, None, None, None] for g in self.gains(told[:, None] / 4).chunk(2, 1))
        h = leaky(self.head(z, periodic)) * first.to(z.dtype)
        x = h
        for block in self.trunk:
            x = block(x, periodic)
        x = (h + RESIDUAL * self.tail(x, periodic)) * second.to(z.dtype)
        for stage in self.upsample:
            x = stage(x, periodic)
        return shuffle(self.last(x, periodic))

    @torch.no_grad()
    def grow_from(self, other: Generator) -> None:
        """Takes over the weights of a trained generator of half the factor; the new stage comes first, as a copy."""
        own = self.state_dict()
        new = self.config.stages - other.config.stages
        for name, value in other.state_dict().items():
            if name.startswith("upsample."):
                _, index, rest = name.split(".", 2)
                name = f"upsample.{int(index) + new}.{rest}"
            own[name].copy_(value)


class FieldEncoder(nn.Module):
    """The encoder, fields (B, C, D, H, W) to latents (B, C, D / r, ...), by a filter or a network."""

    def __init__(self, config: ZipganConfig) -> None:
        super().__init__()
        self.config = config
        if config.encoder == "learned":
            width, stages = config.encoder_width, []
            for i in range(config.stages):
                stages.append(nn.Conv3d(config.components if i == 0 else width, width, 4, stride=2))
            self.down = nn.ModuleList(stages)
            self.residual = nn.ModuleList(
                nn.ModuleList([Conv(width, width), Conv(width, width, 0.0)]) for _ in range(config.stages)
            )
            self.last = Conv(width, config.components, 0.0)

    def forward(self, x: Tensor, periodic: bool = True) -> Tensor:
        r, kind = self.config.factor, self.config.encoder
        shape = tuple(-(-size // r) for size in x.shape[2:])
        if kind == "spectral":
            return spectral_resample(x, shape)
        if kind == "gaussian":
            return spectral_resample(_gaussian(x, r), shape)
        box = F.avg_pool3d(x, r)
        if kind == "box":
            return box
        y = x
        for conv, (first, second) in zip(self.down, self.residual, strict=True):  # pyright: ignore[reportGeneralTypeIssues]
            y = leaky(conv(pad(y, 1, periodic)))
            y = y + second(leaky(first(y, periodic)), periodic)
        return box + self.last(y, periodic)


def _gaussian(x: Tensor, r: int) -> Tensor:
    """The Gaussian filter of large-eddy simulation, exp(-k^2 D^2 / 24), D = r grid spacings.

    Pope, "Turbulent Flows", table 13.2.
    """
    spectrum = torch.fft.rfftn(x.float(), dim=(-3, -2, -1))
    k2 = _wave(x.shape[2:], x.device).square().sum(0)
    return torch.fft.irfftn(spectrum * torch.exp(-k2 * (2 * math.pi * r) ** 2 / 24), x.shape[2:], dim=(-3, -2, -1))


def _wave(shape: torch.Size | tuple[int, ...], device: torch.device) -> Tensor:
    """The wave numbers of rfftn in cycles per sample, (3, *half shape), the last axis first; Nyquist's are 0."""
    k = [torch.fft.fftfreq(n, device=device) for n in shape[:-1]] + [torch.fft.rfftfreq(shape[-1], device=device)]
    k = [torch.where(axis.abs() == 0.5, 0.0, axis) for axis in k]
    return torch.stack(torch.meshgrid(*k, indexing="ij")).flip(0)


def spectral_resample(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The values of a periodic field on another grid: wave numbers that both have, the highest even one left out."""
    spectrum = torch.fft.fftn(x.float(), dim=(-3, -2, -1), norm="forward")
    for axis, size in zip((-3, -2, -1), shape, strict=True):
        old = spectrum.shape[axis]
        top = (min(old, size) - 1) // 2
        low, high = spectrum.narrow(axis, 0, top + 1), spectrum.narrow(axis, old - top, top)
        gap = list(spectrum.shape)
        gap[axis] = size - 2 * top - 1
        spectrum = torch.cat([low, spectrum.new_zeros(gap), high], axis)
    return torch.fft.ifftn(spectrum, dim=(-3, -2, -1), norm="forward").real


def project(x: Tensor, reach: tuple[int, ...] | None = None) -> Tensor:
    """The Helmholtz projection of x (B, 3, D, H, W), component 0 along the last axis; wave numbers above reach go."""
    spectrum = torch.fft.rfftn(x.float(), dim=(-3, -2, -1))
    k = _wave(x.shape[2:], x.device)
    length = k.square().sum(0)
    spectrum = spectrum - k * ((k * spectrum).sum(1, keepdim=True) / torch.where(length > 0, length, 1.0))
    if reach is not None:
        for axis, top in zip((-3, -2, -1), reach, strict=True):
            size = x.shape[axis]
            n = spectrum.shape[axis]
            index = torch.arange(n, device=x.device)
            index = torch.minimum(index, size - index)
            keep = [1] * 5
            keep[axis] = n
            spectrum = spectrum * (index <= top).reshape(keep)
    return torch.fft.irfftn(spectrum, x.shape[2:], dim=(-3, -2, -1))


class Discriminator(nn.Module):
    """The discriminator, a logit for each patch of a flow: (B, C, D, H, W), unit root mean square, to (B, 1, d, h, w).

    normed: for training. Weights files hold it with the normalisation done, `plain`. Besides velocities it sees their
    central differences, in units of the grid.
    """

    def __init__(self, config: ZipganConfig, normed: bool = True) -> None:
        super().__init__()
        self.config = config
        width = config.critic
        plan = ((4 * config.components, width, 1), (width, width, 2), (width, 2 * width, 1), (2 * width, 2 * width, 2))
        plan = (*plan, (2 * width, 4 * width, 1), (4 * width, 4 * width, 2))
        convs = [nn.Conv3d(a, b, 3, stride) for a, b, stride in plan]
        self.layers = nn.ModuleList(spectral_norm(conv) if normed else conv for conv in convs)
        self.last = nn.Conv3d(4 * width, 1, 1)

    def forward(self, x: Tensor, periodic: bool = True) -> Tensor:
        wide = pad(x, 1, periodic)
        parts = [x]
        for axis in (-1, -2, -3):
            inner = wide
            for other in {-1, -2, -3} - {axis}:
                inner = inner.narrow(other, 1, x.shape[other])
            size = x.shape[axis]
            parts.append((inner.narrow(axis, 2, size) - inner.narrow(axis, 0, size)) * (SLOPES / 2))
        x = torch.cat(parts, 1)
        for layer in self.layers:
            x = GAIN * leaky(layer(pad(x, 1, periodic)))
        return self.last(x)

    @torch.no_grad()
    def plain(self) -> Discriminator:
        """The discriminator without spectral normalisation, which is multiplied out: the same function."""
        training = self.training
        self.eval()
        out = Discriminator(self.config, normed=False)
        for target, source in zip((*out.layers, out.last), (*self.layers, self.last), strict=True):
            assert isinstance(target, nn.Conv3d) and isinstance(source, nn.Conv3d)
            target.load_state_dict({"weight": source.weight, "bias": source.bias})
        self.train(training)
        return out.eval()

    @torch.no_grad()
    def take(self, other: Discriminator) -> None:
        """Takes over the weights of a plain one; normalisation divides by their largest singular value again."""
        for target, source in zip((*self.layers, self.last), (*other.layers, other.last), strict=True):
            assert isinstance(target, nn.Conv3d) and isinstance(source, nn.Conv3d) and source.bias is not None
            if is_parametrized(target):
                target.weight = source.weight.clone()  # type: ignore[assignment]
            else:
                target.weight.copy_(source.weight)
            assert target.bias is not None
            target.bias.copy_(source.bias)
