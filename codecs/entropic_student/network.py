"""The networks of Entropic Student in torch: an encoder for small devices, a factorised prior, an exact decoder.

Matsubara, Yang, Levorato, Mandt, "Supervised Compression for Resource-Constrained Edge Computing Systems", WACV 2022,
arXiv 2108.11898, section 3. The decoder imitates the first stages of a classifier, the teacher; the rest of the teacher
goes on from there. Differs:

- the teacher is EfficientNet-Lite0, since its weights come in a package, not ResNet-50;
- the encoder has the layers of the teacher's own first stages, and starts from them: for this teacher they have a
  tenth of the parameters of the paper's two 5x5 convolutions with GDN, and those need millions of pictures to learn
  what is here at the start;
- one model has all rates: latents are multiplied by gains that depend on the quality, where the paper trains a model
  for each rate;
- latents are a linear map of blocks of 4x4 features, which starts as their Karhunen-Loeve transform. The paper's
  latents have the resolution of the features, and training has to make them sparse;
- the decoder is a linear map and a correction to it, with leaky ReLUs in place of inverse GDN, in fixed point
  (`entropy/exact.py`), so that a file decodes to the same features on every machine.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...entropy.exact import FixedPoint, freeze
from ...entropy.models import FactorizedPrior
from ..layers.exact_transforms import Exact
from ..layers.extractors import Classifier, LiteBlock, LiteConv
from ..layers.quality_gains import Gain
from .config import BLOCKS, CELL, CHANNELS, FEATURE_BITS, GRID_BITS, LEVELS, STEM, EntropicStudentConfig

__all__ = ["EntropicStudentNet", "initialise"]

STEP = 16.0  # of features, whose deviation is about 8
_FAINTEST = -6.0  # octaves by which a channel is made smaller at most
EARLY = (1, 2)  # blocks of the teacher's stages that the encoder has


class Encoder(nn.Module):
    """The layers of the teacher's first stages, (B, 3, H, W) to (B, 24, H/4, W/4), and a linear map of 4x4 blocks."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.stem = LiteConv(3, STEM, 3, 2)
        self.blocks = nn.ModuleList(
            LiteBlock(inner, outer, 3, stride, expand) for inner, outer, stride, expand in BLOCKS
        )
        self.out = nn.Conv2d(CHANNELS * CELL**2, latent, 1)

    def features(self, x: Tensor) -> Tensor:
        """The features before the last layer, of pictures in [0, 1]."""
        x = self.stem(((255 * x - 127) / 128).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.pixel_unshuffle(self.features(x), CELL))


class EntropicStudentNet(nn.Module):
    """The whole network. Pictures: (B, 3, H, W), sRGB in [0, 1], sides multiples of 16; features at a quarter of it."""

    def __init__(self, config: EntropicStudentConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.latent)
        self.gain, self.inverse_gain = Gain(config.knots, config.latent), Gain(config.knots, config.latent)
        with torch.no_grad():  # four octaves from the lowest quality to the highest
            octaves = torch.linspace(-2.0, 2.0, config.knots)[:, None]
            self.gain.values.add_(octaves)
            self.inverse_gain.values.sub_(octaves)
        self.prior = FactorizedPrior(config.latent, init_scale=4.0)
        wide, narrow = config.decoder_width
        self.linear = Exact(config.latent, CHANNELS * CELL**2, 1, relu=False, bits=GRID_BITS)
        self.correction = nn.Sequential(
            Exact(CHANNELS, wide, 3, relu=False, bits=GRID_BITS),
            Exact(wide, narrow, 3, relu=True, bits=GRID_BITS),
            Exact(narrow, CHANNELS, 3, relu=True, bits=GRID_BITS).zero(),
        )
        self.features = FixedPoint(FEATURE_BITS, signed=True)

    def latents(self, x: Tensor, t: Tensor) -> Tensor:
        """The latents (B, latent, H/16, W/16) before rounding; t: qualities (B,) in 0...1."""
        return self.gain(self.encoder(x), t)

    def bits(self, y: Tensor, t: Tensor) -> Tensor:
        """The estimated bits of each item, (B,): of rounded or noisy latents y."""
        return self.prior.bits(y.float(), torch.exp2(-self.gain.at(t)).float()).sum((1, 2, 3))

    def decode(self, y: Tensor, t: Tensor | int) -> Tensor:
        """The features (B, CHANNELS, 4 h, 4 w) of latents. t: qualities, or a quality step once it is frozen."""
        x = self.features(F.pixel_shuffle(self.linear(self.inverse_gain.apply_to(y, t)), CELL))
        return x + self.features(self.correction(x))

    # ---- exact arithmetic, after `freeze`

    def freeze(self) -> EntropicStudentNet:
        """Fixes the integer forms of everything that decodes; for use, not for training."""
        freeze(self)
        return self

    def exactly(self, latents: Tensor, step: int) -> Tensor:
        """The features of integer latents (B, latent, h, w), in float32: the same on every machine."""
        return self.decode(latents.double(), step).float()

    @torch.no_grad()
    def tables(self) -> dict[str, NDArray[Any]]:
        """The frozen distributions, as `Tables.to_state` gives them: row `level * latent + channel`."""
        parts = []
        for level in range(LEVELS):
            unit = torch.exp2(-self.gain.exactly(self.config.step_of(level))).flatten()
            parts.append(self.prior.to_tables(unit).to_state())
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def initialise(net: EntropicStudentNet, teacher: Classifier, pictures: Tensor) -> None:
    """Sets a start: the teacher's own first stages, and the Karhunen-Loeve transform of blocks of their features.

    The decoder's linear map is the inverse. At the middle quality a step of a latent is `STEP` of the features. Where
    noise of such steps would drown a channel, the decoder makes it smaller, as Wiener's filter does. pictures: (B, 3,
    H, W) in [0, 1]: what correlations are computed from.
    """
    encoder = net.encoder
    encoder.stem.load_state_dict(teacher.stem.state_dict())
    theirs = [block for stage in teacher.stages[: len(EARLY)] for block in cast(nn.ModuleList, stage)]
    for block, other in zip(encoder.blocks, theirs, strict=True):
        block.load_state_dict(other.state_dict())
    parts = [F.pixel_unshuffle(encoder.features(part), CELL) for part in pictures.split(16)]
    flat = torch.cat(parts).transpose(0, 1).flatten(1).double()
    mean = flat.mean(1, keepdim=True)
    powers, vectors = torch.linalg.eigh((flat - mean) @ (flat - mean).T / flat.shape[1])
    basis = vectors.flip(1)[:, : net.config.latent].T  # (latent, features of a block), the largest first
    power = powers.flip(0)[: net.config.latent].float().clamp_min(1e-3) / STEP**2
    noise = torch.exp2(-2 * net.gain.values) / 12
    net.inverse_gain.values.copy_(-net.gain.values + torch.log2(power / (power + noise)).clamp_min(_FAINTEST))
    encoder.out.weight.copy_((basis / STEP)[:, :, None, None])
    cast(Tensor, encoder.out.bias).copy_((-basis @ mean / STEP).flatten())
    linear = net.linear.layer.conv
    linear.weight.copy_((basis.T * STEP)[:, :, None, None])
    cast(Tensor, linear.bias).copy_(mean.flatten())
