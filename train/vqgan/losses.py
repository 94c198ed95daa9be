"""Losses of VQGAN: distances of features, the adversarial game, and how much it may weigh.

Esser, Rombach, Ommer, "Taming transformers for high-resolution image synthesis", CVPR 2021, arXiv 2012.09841 (equation
7: the adaptive weight); distances like LPIPS (Zhang et al., arXiv 1801.03924), without learned heads: those belong to
the networks they were learned on; texture like DISTS (Ding et al., arXiv 2004.07728). R1: Mescheder et al., arXiv
1801.04406.

Differs: the adaptive weight is at most about 10, where the published code lets it reach 10,000, and is taken at the
last layer that is trained: where the decoder is frozen the published code fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .extractors import Extractor, load_extractor

__all__ = [
    "FeatureDistance",
    "adaptive_weight",
    "critic_loss",
    "feature_distance",
    "feature_matching",
    "generator_loss",
    "gradient_penalty",
    "last_trained",
    "texture_distance",
]

MOST_WEIGHT = 10.0


# ---- features


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Computes the distance (B,) of features: of unit length at each place, squared difference, mean, sum over taps."""
    return torch.stack([(_unit(x) - _unit(y)).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]).sum(0)


def _unit(x: Tensor) -> Tensor:
    x = x.float()
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-8)


def texture_distance(a: Sequence[Tensor], b: Sequence[Tensor], small: float = 1e-3) -> Tensor:
    """Computes 1 - similarity (B,) of features: their means, and how they vary together; mean over channels and taps.

    Both are taken over the whole crop, so that texture may be anywhere.
    """
    terms = []
    for x, y in zip(a, b, strict=True):
        x, y = x.float(), y.float()
        mean_x, mean_y = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)
        var_x, var_y = (x - mean_x).square().mean((2, 3)), (y - mean_y).square().mean((2, 3))
        covary = ((x - mean_x) * (y - mean_y)).mean((2, 3))
        mean_x, mean_y = mean_x[..., 0, 0], mean_y[..., 0, 0]
        means = (2 * mean_x * mean_y + small) / (mean_x.square() + mean_y.square() + small)
        texture = (2 * covary + small) / (var_x + var_y + small)
        terms.append(1 - (means + texture).mean(1) / 2)
    return torch.stack(terms).mean(0)


class FeatureDistance(nn.Module):
    """A perceptual distance of pictures (B, 3, H, W) in [0, 1], named by its extractor. It has no parameters to train.

    texture: weight of the texture term beside the first one.
    """

    def __init__(self, extractor: str | Extractor, texture: float = 0.0) -> None:
        """extractor: its name (UsageError if its file isn't here), or the network."""
        super().__init__()
        self.extractor = load_extractor(extractor) if isinstance(extractor, str) else extractor.frozen()
        self.texture = texture

    @property
    def name(self) -> str:
        return f"{self.extractor.name} distance"

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Returns the distance (B,); gradients go to x_hat only."""
        return self.compare(*self.features(x_hat, x))

    def features(self, x_hat: Tensor, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Computes the extractor's features of both; gradients go to x_hat only."""
        with torch.no_grad():
            wanted = self.extractor(x)
        return self.extractor(x_hat), wanted

    def compare(self, features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Computes the distance (B,) of such features."""
        distance = feature_distance(features, wanted)
        return distance + self.texture * texture_distance(features, wanted) if self.texture else distance


# ---- the game


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Computes the hinge loss of the discriminator; 1 is that of one that says nothing."""
    return (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()) / 2


def generator_loss(fake: Tensor) -> Tensor:
    """Computes the generator's side of the hinge loss: how little the discriminator takes it for real."""
    return -fake.float().mean()


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Computes the mean absolute difference of a discriminator's features, in units of the real ones' size."""
    terms = [
        (x.float() - y.detach().float()).abs().mean() / (y.detach().float().abs().mean() + 1e-6)
        for x, y in zip(fake, real, strict=True)
    ]
    return torch.stack(terms).mean()


def gradient_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """Computes R1, the mean squared gradient of the logits at real pictures x (B, ...), which require gradients."""
    (gradient,) = torch.autograd.grad(logits.float().sum(), x, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()


def last_trained(modules: Iterable[nn.Module]) -> Tensor | None:
    """Finds the last kernel that requires a gradient, in the order that modules are used. None if there is none."""
    kernels = [p for module in modules for p in module.parameters() if p.ndim >= 2 and p.requires_grad]
    return kernels[-1] if kernels else None


def adaptive_weight(wanted: Tensor, other: Tensor, at: Tensor, most: float = MOST_WEIGHT) -> Tensor:
    """Returns the factor by which the gradient of `other` becomes as large as that of `wanted`, `most` at most.

    at: the parameter or activation that both are differentiated with respect to; it must require a gradient.
    """
    pair = (torch.autograd.grad(term, at, retain_graph=True)[0].detach().float().norm() for term in (wanted, other))
    first, second = pair
    return (first / (second + 1e-4 * first + 1e-12)).clamp(0, most)
