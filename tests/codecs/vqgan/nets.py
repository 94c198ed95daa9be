"""Networks of VQGAN with random numbers, and weights files of them, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from codec.codecs.vqgan.config import VqganConfig
from codec.codecs.vqgan.network import VqganNet
from codec.codecs.vqgan.torch_model import exported
from codec.codecs.vqgan.weights import metadata
from codec.entropy.exact import set_mode

TINY = VqganConfig(
    dim=4,
    width=16,
    head_blocks=1,
    blocks=2,
    latent=48,
    codebooks=(8, 16, 64),
    synthesis_width=(8, 8, 16),
    synthesis_blocks=(1, 1, 1),
    knots=3,
    step=70,
)

_LEAVE = "leave.layer.conv.weight"  # of the token network: it doesn't start at zero


def random_net(config: VqganConfig = TINY, seed: int = 0) -> VqganNet:
    """A network all of whose layers do something, its quantisers fitted to what it makes of noisy pictures."""
    torch.manual_seed(seed)
    net = VqganNet(config)
    pictures = torch.rand(2, 3, 4, 4).repeat_interleave(24, 2).repeat_interleave(24, 3) + 0.1 * torch.randn(
        2, 3, 96, 96
    )
    with torch.no_grad():
        basis = torch.linalg.qr(torch.randn(768, config.latent))[0]
        net.linear.weight.copy_(basis.T[:, :, None, None])
        net.synthesis.linear.layer.conv.weight.copy_(basis[:, :, None, None])
        for name, parameter in net.named_parameters():
            if name.endswith("second.weight"):
                parameter.normal_(0, 0.02)
            elif name.endswith(("second.layer.conv.weight", "leave.layer.conv.weight")) and name != _LEAVE:
                parameter.normal_(0, 0.005 if name.startswith("synthesis") else 0.02)
            elif "gain" in name:
                parameter.normal_(0, 0.2)
        net.train()
        features = net.features(net.coefficients(pictures))
        for size in config.codebooks:
            level = net.level(size)
            z = level.quant(features)
            flat = z.permute(0, 2, 3, 1).reshape(-1, config.dim)
            level.codebook.copy_(flat[torch.randint(len(flat), (size,))] + 0.01 * torch.randn(size, config.dim))
            net.picture(net.expand(level.look_up(level.nearest(z)), size))
    net.eval()
    set_mode(net, "twin")
    return net


def weights_file(net: VqganNet, path: Path, more: dict[str, Tensor] | None = None) -> Path:
    """The weights file of a network."""
    path.write_bytes(save({**exported(net), **(more or {})}, metadata(net.config, "tiny")))
    return path
