"""The convolutional encoder and decoder that WaLLoC's paper takes over from latent diffusion, at one resolution.

Residual blocks with group normalisation and SiLU, one self-attention block over all positions in the middle. Rombach
et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, arXiv 2112.10752 (appendix on the
autoencoder); sizes as in Jacobellis and Yadwadkar, arXiv 2412.09405. Differs: nothing is resampled, since the wavelet
packet has done it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS, EPSILON = 32, 1e-6


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, eps=EPSILON)


class KLBlock(nn.Module):
    """A residual block, x + conv(silu(norm(conv(silu(norm(x)))))) with 3x3 kernels, on (B, width, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2, self.conv2 = _norm(width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class Attention(nn.Module):
    """Single-head self-attention over all positions, with a residual connection; (B, width, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).mT  # (B, h w, width)
        # the memory-efficient kernel: a 1920x1080 picture has 32 400 positions
        y = F.scaled_dot_product_attention(self.query(tokens), self.key(tokens), self.value(tokens))
        return x + self.out(y).mT.reshape(b, c, h, w)


class KLDecoder(nn.Sequential):
    """The decoder, (B, latent, h, w) to (B, bands, h, w).

    Convolution, block, attention, block, three blocks, norm, SiLU, convolution.
    """

    def __init__(self, latent: int, bands: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(latent, width, 3, padding=1),
            KLBlock(width),
            Attention(width),
            KLBlock(width),
            *(KLBlock(width) for _ in range(3)),
            _norm(width),
            nn.SiLU(),
            nn.Conv2d(width, bands, 3, padding=1),
        )


class KLEncoder(nn.Sequential):
    """The encoder, (B, bands, h, w) to (B, latent, h, w).

    Convolution, two blocks, then block, attention, block, norm, SiLU, convolution.
    """

    def __init__(self, bands: int, latent: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(bands, width, 3, padding=1),
            *(KLBlock(width) for _ in range(2)),
            KLBlock(width),
            Attention(width),
            KLBlock(width),
            _norm(width),
            nn.SiLU(),
            nn.Conv2d(width, latent, 3, padding=1),
        )
