"""The network of VQGAN, configuration `small`: pictures to vectors, codebooks, and codewords to pictures.

Mao, Yang, Zhang, Wang, Wang, Wang, Jin, Ma, "Extreme Image Compression using Fine-tuned VQGANs", DCC 2024, arXiv
2307.08265. Differs, to train in little time, to be fast on a CPU and to decode the same everywhere:

- it has the linear map of wavelet packets, the latents and the synthesis of S2LIC (layers/exact_transforms.py) and is
  trained from its weights; between them is a small network at 1/16 of the resolution, nothing else;
- one network for all codebooks: those of 8 ... 16384 words differ in their words and in two 1x1 layers, as the paper's
  fine-tuned ones do, and are trained together, not shrunk one from another; the paper's curve ends at 2048;
- codewords have 16 numbers, not 256; there is no attention and no normalisation;
- all behind the codewords is in fixed point (`entropy.exact`), so that files decode to the same pixels everywhere.

Numbers, and what else was tried: docs/notes/vqgan.md.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ...entropy.exact import FixedPoint, freeze, round_half_up
from ..layers.exact_transforms import Exact, ExactResidual, Grid, Residual, Synthesis
from ..layers.transform_settings import WAVELET
from ..layers.wavelet import analysis
from .config import LATENT_BITS, LATENT_EXPONENT, VqganConfig

__all__ = ["Level", "VqganNet", "nearest_word"]


def nearest_word(z: Tensor, words: Tensor) -> Tensor:
    """The index of the nearest of the words (K, D) to each vector z (n, D), (n,); the first of several."""
    squares, few = words.square().sum(1), max(1, (1 << 23) // len(words))
    return torch.cat([(squares - 2 * part @ words.T).argmin(1) for part in z.split(few)])


class Level(nn.Module):
    """A codebook of K words, and the 1x1 layers that lead to it and from it."""

    codebook: Tensor

    def __init__(self, config: VqganConfig, size: int) -> None:
        super().__init__()
        self.quant = nn.Conv2d(config.width, config.dim, 1)
        self.post = Exact(config.dim, config.width, 1, relu=False)
        self.register_buffer("codebook", torch.zeros(size, config.dim))

    def nearest(self, z: Tensor) -> Tensor:
        """The indices (B, h, w) of the words nearest to vectors z (B, D, h, w)."""
        b, d, h, w = z.shape
        return nearest_word(z.permute(0, 2, 3, 1).reshape(-1, d), self.codebook).reshape(b, h, w)

    def look_up(self, indices: Tensor) -> Tensor:
        """The words (B, D, h, w) of indices (B, h, w)."""
        return self.codebook[indices].permute(0, 3, 1, 2)

    def snap(self) -> None:
        """Puts the words on the grid of the layer that takes them."""
        grid = self.post.input
        scale = 2.0 ** int(grid.exponent)
        words = round_half_up(self.codebook.double() * scale).clamp(grid.smallest, grid.largest)
        self.codebook.copy_(words / scale)


class VqganNet(nn.Module):
    """The whole network. Pictures: (B, 3, H, W), sRGB in [0, 1], sides multiples of 16."""

    def __init__(self, config: VqganConfig) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Conv2d(3 * 4**WAVELET, config.latent, 1, bias=False)
        self.enter = nn.Conv2d(config.latent, config.width, 1)
        self.head = nn.Sequential(*(Residual(config.width) for _ in range(config.head_blocks)))
        self.levels = nn.ModuleDict({str(size): Level(config, size) for size in config.codebooks})
        self.stream = FixedPoint(20, signed=True)
        self.stage = nn.Sequential(*(ExactResidual(config.width) for _ in range(config.blocks)))
        self.leave = Exact(config.width, config.latent, 1, relu=False)
        self.latents = Grid(LATENT_BITS, LATENT_EXPONENT)
        self.synthesis = Synthesis(config)

    def level(self, size: int) -> Level:
        """The codebook of so many words, with its layers."""
        return cast(Level, self.levels[str(size)])

    # ---- the encoder, in floats

    def coefficients(self, x: Tensor) -> Tensor:
        """The linear map of pictures' wavelet packets, (B, M, H/16, W/16)."""
        return self.linear(analysis((x - 0.5).contiguous(), WAVELET, "symmetric").to(self.linear.weight.dtype))

    def features(self, coefficients: Tensor) -> Tensor:
        """The features (B, width, H/16, W/16) of which a level's `quant` makes vectors."""
        return self.head(self.enter(coefficients))

    def indices(self, x: Tensor, size: int) -> Tensor:
        """The index map (B, H/16, W/16) of pictures, for the codebook of so many words."""
        level = self.level(size)
        return level.nearest(level.quant(self.features(self.coefficients(x))))

    # ---- the decoder

    def expand(self, words: Tensor, size: int) -> Tensor:
        """The latents (B, M, h, w) of codewords, or of vectors near them, (B, D, h, w)."""
        return self.expand_stream(self.enter_stream(words, size))

    def enter_stream(self, words: Tensor, size: int) -> Tensor:
        """The first activation (B, width, h, w): those of several codebooks may be one batch from here on."""
        return self.stream(self.level(size).post(words))

    def expand_stream(self, stream: Tensor) -> Tensor:
        """The latents of `enter_stream`."""
        r = self.leave(self.stage(stream))
        return self.latents(r if self.latents.mode == "frozen" else r.float())

    def picture(self, latents: Tensor, t: Tensor | None = None) -> Tensor:
        """The pictures (B, 3, 16 h, 16 w), not clamped, of latents; t: quality of the synthesis, (B,), or its own."""
        if t is None:
            place = self.config.step / self.config.quality_steps
            t = torch.full((len(latents),), place, device=latents.device)
        return self.synthesis(latents, t) + 0.5

    # ---- exact arithmetic, after `freeze`

    @torch.no_grad()
    def freeze(self) -> VqganNet:
        """Fixes the integer forms of everything that decodes; for use, not for training."""
        for level in self.levels.values():
            cast(Any, level).snap()
        freeze(self)
        return self

    def exactly(self, indices: Tensor, size: int) -> Tensor:
        """The picture (1, 3, 16 h, 16 w), float64 on a grid of 2**-16, not clamped, of an index map (1, h, w)."""
        latents = self.expand(self.level(size).look_up(indices), size)
        return self.synthesis.exactly(latents.double(), self.config.step) + 0.5
