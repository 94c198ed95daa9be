"""Losses on waveforms beyond their squared error: short-time spectra and mel bands at several resolutions.

Yamamoto, Song, Kim, "Parallel WaveGAN", ICASSP 2020, arXiv 1910.11480 (spectral convergence and log magnitude); Kumar
et al., "High-Fidelity Audio Compression with Improved RVQGAN", NeurIPS 2023, arXiv 2306.06546 (log10 mel L1).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["mel_distance", "mel_matrix", "stft_distance"]

STFT_WINDOWS = (512, 1024, 2048)
MEL_WINDOWS = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}  # samples, and bands of each
FLOOR = 1e-5  # of magnitudes, under the logarithm


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is cached is used in training
def _window(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size, device=device)


def magnitudes(x: Tensor, window: int) -> Tensor:
    """The magnitudes (B, window / 2 + 1, frames) of short-time spectra of x (B, N), every quarter of a window."""
    spectrum = torch.stft(x, window, window // 4, window=_window(window, x.device), return_complex=True)
    return torch.view_as_real(spectrum).square().sum(-1).clamp(min=FLOOR**2).sqrt()


def stft_distance(x: Tensor, y: Tensor) -> Tensor:
    """Spectral convergence plus L1 of natural-log magnitudes of y against x, each (B, channels, N); over 3 windows."""
    x, y = x.flatten(0, 1), y.flatten(0, 1)
    total = x.new_zeros(())
    for window in STFT_WINDOWS:
        a, b = magnitudes(x, window), magnitudes(y, window)
        total = total + (b - a).norm() / a.norm().clamp(min=FLOOR) + (b.log() - a.log()).abs().mean()
    return total / len(STFT_WINDOWS)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def mel_matrix(window: int, bands: int, rate: int, device: torch.device) -> Tensor:
    """The mel filters (bands, window / 2 + 1): triangles of equal area, Slaney's scale, from 0 Hz to half the rate."""

    def mel(hertz: Tensor) -> Tensor:
        return torch.where(
            hertz < 1000, hertz * 3 / 200, 15 + 27 * torch.log(hertz.clamp(min=1) / 1000) / math.log(6.4)
        )

    def hertz(mels: Tensor) -> Tensor:
        return torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))

    top = float(mel(torch.tensor(rate / 2, dtype=torch.float64)))
    edges = hertz(torch.linspace(0, top, bands + 2, dtype=torch.float64))[:, None]
    bins = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0) * 2 / (edges[2:] - edges[:-2])
    return filters.float().to(device)


def mel_distance(x: Tensor, y: Tensor, rate: int) -> Tensor:
    """The L1 distance of log10 mel magnitudes of y from x, each (B, channels, N), summed over seven windows."""
    x, y = x.flatten(0, 1), y.flatten(0, 1)
    total = x.new_zeros(())
    for window, bands in MEL_WINDOWS.items():
        filters = mel_matrix(window, bands, rate, x.device)
        a, b = (torch.log10((filters @ magnitudes(s, window)).clamp(min=FLOOR)) for s in (x, y))
        total = total + (a - b).abs().mean()
    return total
