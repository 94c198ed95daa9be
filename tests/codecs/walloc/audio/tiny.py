"""A tiny small model of sound, seeded, whose every part does something; and sounds for it."""

from __future__ import annotations

import numpy as np
import torch

from codec.codecs.walloc.audio.packets import PacketConfig
from codec.codecs.walloc.audio.packets_network import PacketNet, SmallDecoder

TINY = PacketConfig(latent=48, latent_bits=10, decoder="small", width=16, kernel=3, post_taps=33)
MONO = PacketConfig(1, 5, 12, 8, "small", 16, blocks=1, kernel=5, linear_taps=3, post_taps=17, rate=16000)


def seeded_net(config: PacketConfig) -> PacketNet:
    """A network whose decoder is about the inverse of its encoder, with noise in every weight."""
    torch.manual_seed(5)
    net = PacketNet(config).requires_grad_(False).eval()
    decoder = net.decoder
    assert isinstance(decoder, SmallDecoder)
    basis = torch.linalg.qr(torch.randn(config.bands, config.latent))[0]
    net.encoder.weight.copy_(60 * basis.T[..., None])
    decoder.linear.weight.normal_(std=1e-4)
    decoder.linear.weight[..., config.linear_taps // 2] = basis / 60
    decoder.input_exponent.copy_(torch.arange(config.latent) % 4)
    decoder.linear.weight.mul_(torch.exp2(decoder.input_exponent.float())[:, None])
    decoder.output_exponent.fill_(-6)
    for name, parameter in net.named_parameters():
        if not name.startswith(("encoder.weight", "decoder.linear", "decoder.first")):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def sound(n: int, channels: int, seed: int = 3) -> np.ndarray:
    """A loud chord with noise, (n, channels) float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None] / 44100
    tones = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6, channels)) for f in (110.0, 440.0, 1870.0))
    return (0.25 * tones + 0.02 * rng.standard_normal((n, channels))).astype(np.float32)
