"""The closed-form start of WaLLoC's audio model: encoder from the PCA of wavelet packets, decoder by least squares."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..codecs.walloc.audio.packets_network import PacketNet, RateModel, SmallDecoder

__all__ = ["initialise"]

SILENT = 1e-4  # rms of coefficients that counts as silence: far below the steps of any gain
LINEAR_STEP = 1.49  # the compander's slope at zero: integers to a unit


@torch.no_grad()
def initialise(net: PacketNet, sounds: Tensor, kbps: float, steps: int = 250) -> dict[str, float]:
    """Sets a start from sounds (N, channels, samples), so that the estimated rate at gain 1 is `kbps`.

    Each crop counts by its shape, whatever its loudness. steps: for which the rate model is fitted, three times.
    Returns what was measured of the start.
    """
    config, decoder = net.config, net.decoder
    assert isinstance(decoder, SmallDecoder)
    c = torch.cat([net.coefficients(part) for part in sounds.split(16)])  # (N, bands, T)
    loudness = c.square().mean((1, 2)).sqrt()
    c, loudness = c[loudness > SILENT], loudness[loudness > SILENT]
    shapes = (c / loudness[:, None, None]).transpose(0, 1).flatten(1).double()
    covariance = shapes @ shapes.T / shapes.shape[1]
    basis = torch.linalg.eigh(covariance)[1][:, -config.latent :].flip(1).T  # (latent, bands), strongest first
    v = torch.einsum("kb,nbt->nkt", basis.float(), c)

    low = 8.0
    for _ in range(3):
        low = scale_for(net, v, kbps, low, steps)
    net.encoder.weight.copy_((basis * low)[..., None])
    cast(Tensor, net.encoder.bias).zero_()

    expanded = net.compander.inverse(torch.round(net.compander(v * low)))
    usual = expanded.square().mean((0, 2)).sqrt()
    decoder.input_exponent.copy_(torch.ceil(torch.log2(usual.clamp(min=1.0))))
    seen = (decoder.normed(expanded) / loudness[:, None, None]).transpose(0, 1).flatten(1).double()
    gram = seen @ seen.T
    gram += torch.diag(gram.diagonal() * 1e-5 + gram.diagonal().mean() * 1e-9)
    solution = torch.linalg.solve(gram, seen @ shapes.T).T  # (bands, latent)
    decoder.linear.weight.zero_()
    decoder.linear.weight[..., config.linear_taps // 2].copy_(solution)
    missing = (c - decoder.linear(decoder.normed(expanded))).square().mean((0, 2)).sqrt()
    decoder.output_exponent.copy_(torch.round(torch.log2(missing.clamp(min=1e-5))))
    kept = 10 * torch.log10(covariance.trace() / (shapes - basis.T @ (basis @ shapes)).square().mean(1).sum())
    return {"scale": low, "kbps": rate_at(net, v, low), "kept_db": float(kept)}


@torch.no_grad()
def rate_at(net: PacketNet, v: Tensor, scale: float) -> float:
    """The estimated kbps of latents v (N, latent, T) times a scale."""
    model = cast(RateModel, net.rate)
    bits = 0.0
    for part in v.split(16):
        bits += float(model.bits(torch.round(net.compander(part * scale)), part.new_zeros(len(part))).sum())
    return bits / (len(v) * v.shape[2]) * net.config.rate / net.config.frame / 1000


def scale_for(net: PacketNet, v: Tensor, kbps: float, scale: float, steps: int) -> float:
    """The scale of latents v at which the rate model, fitted at `scale`, says `kbps`; at most 16 times another one."""
    fit_rate(cast(RateModel, net.rate), net, v, scale, steps)
    low, high = scale / 16, scale * 16
    for _ in range(8):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if rate_at(net, v[::6], middle) < kbps else (low, middle)
    return low


@torch.enable_grad()
def fit_rate(model: RateModel, net: PacketNet, v: Tensor, scale: float, steps: int) -> None:
    """Fits the rate model to latents v times a scale, at random gains."""
    optimizer = torch.optim.Adam(model.parameters(), 0.04, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.04 * (1 - step / steps)
        part = v[torch.randint(len(v), (4,))]
        log2_gain = torch.empty(len(part)).uniform_(-2, 2)
        u = torch.round(net.compander(part * scale * torch.exp2(log2_gain)[:, None, None]))
        loss = model.bits(u, log2_gain).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
