"""Discriminators: of patches, each of whose logits judges a piece of a picture, and of features.

Isola, Zhu, Zhou, Efros, "Image-to-image translation with conditional adversarial networks", CVPR 2017, arXiv
1611.07004, as VQGAN has it: kernels of 4, three halvings. Differs: group norm, or none, in place of batch norm, whose
statistics tell real batches from made ones; kernels with a spectral norm of 1 (Miyato et al., arXiv 1802.05957).

Features of frozen networks: Sauer et al., "Projected GANs converge faster", NeurIPS 2021, arXiv 2111.01007. Differs: no
mixing of channels and resolutions; a head of three layers for each resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

__all__ = ["DiscriminatorConfig", "FeatureDiscriminator", "PatchDiscriminator"]

HEAD_WIDTH = (48, 128)  # channels of a head, at least and at most


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the discriminator; width and layers as VQGAN's."""

    width: int = 64  # channels after the first layer
    layers: int = 3  # halvings
    norm: Literal["group", "none"] = "group"
    spectral: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        for name, value, most in (("width", self.width, 1024), ("layers", self.layers, 6)):
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} of the discriminator is {value!r:.80}; expected a whole number up to {most}")
        if self.norm not in ("group", "none"):
            raise ValueError(f"norm of the discriminator is {self.norm!r:.80}; there are group, none")


class PatchDiscriminator(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] to logits (B, 1, h, w), about H / 2**layers: the more, the likelier real."""

    def __init__(self, config: DiscriminatorConfig = DiscriminatorConfig()) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * min(2**k, 8) for k in range(config.layers + 1)]
        stages: list[nn.Module] = [nn.Sequential(self._conv(3, widths[0], 2), nn.LeakyReLU(0.2))]
        for index in range(1, config.layers + 1):
            stride = 2 if index < config.layers else 1
            conv = self._conv(widths[index - 1], widths[index], stride)
            stages.append(nn.Sequential(conv, self._norm(widths[index]), nn.LeakyReLU(0.2)))
        self.stages = nn.ModuleList(stages)
        self.last = self._conv(widths[-1], 1, 1)
        for module in self.modules():  # as VQGAN's
            if isinstance(module, nn.Conv2d) and not config.spectral:
                nn.init.normal_(module.weight, 0.0, 0.02)

    def _conv(self, inner: int, outer: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(inner, outer, 4, stride, 1)
        return parametrizations.spectral_norm(conv) if self.config.spectral else conv

    def _norm(self, width: int) -> nn.Module:
        groups = max(n for n in range(1, 33) if width % n == 0)
        return nn.GroupNorm(groups, width) if self.config.norm == "group" else nn.Identity()

    def judge(self, x: Tensor, bf16: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Returns the logits, and the features of all layers before them."""
        with parametrize.cached():
            for module in self.modules():  # kernels are normalised in float32
                if isinstance(module, nn.Conv2d):
                    _ = module.weight
            x = (2 * x - 1).contiguous(memory_format=torch.channels_last)
            features = []
            with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
                for stage in self.stages:
                    x = stage(x)
                    features.append(x)
                return self.last(x), features

    def forward(self, x: Tensor) -> Tensor:
        return self.judge(x)[0]


class FeatureDiscriminator(nn.Module):
    """Features (B, C, h, w) of frozen networks to logits (B, 1, h, w): the more, the likelier of a real picture."""

    def __init__(self, channels: Sequence[int]) -> None:
        """channels: C of each of the features."""
        super().__init__()
        self.heads, norm = nn.ModuleList(), parametrizations.spectral_norm
        for inner in channels:
            width = min(max(inner, HEAD_WIDTH[0]), HEAD_WIDTH[1])
            layers = (nn.Conv2d(inner, width, 1), nn.Conv2d(width, width, 3, padding=1))
            last = norm(nn.Conv2d(width, 1, 3, padding=1))
            act = nn.LeakyReLU(0.2)
            self.heads.append(nn.Sequential(norm(layers[0]), act, norm(layers[1]), act, last))

    def judge(self, features: Sequence[Tensor], bf16: bool = False) -> list[Tensor]:
        """Returns the logits of each of the features."""
        with parametrize.cached():
            for module in self.modules():  # kernels are normalised in float32
                if isinstance(module, nn.Conv2d):
                    _ = module.weight
            with torch.autocast(features[0].device.type, torch.bfloat16, enabled=bf16):
                return [head(_of_size_one(x)) for head, x in zip(self.heads, features, strict=True)]


def _of_size_one(x: Tensor) -> Tensor:
    """Scales the features of each picture to a mean square of 1."""
    x = x.float()
    return x / (x.square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-4)
