"""Spectral losses of sound: what they are zero for, what they see, and the mel filters."""

from __future__ import annotations

import math

import pytest
import torch

from codec.train.sound_losses import MEL_WINDOWS, mel_distance, mel_matrix, stft_distance


def chord(n: int = 8192) -> torch.Tensor:
    t = torch.arange(n) / 44100
    return torch.stack([torch.sin(2 * math.pi * f * t) for f in (440.0, 5000.0)])[None] * 0.3


def test_zero_for_the_same_sound_and_only_then() -> None:
    x = chord()
    assert float(stft_distance(x, x)) == 0
    assert float(mel_distance(x, x, 44100)) == 0
    assert float(stft_distance(x, 0.9 * x)) == pytest.approx(0.1 + abs(math.log(0.9)), rel=0.15)
    assert float(mel_distance(x, x + 0.01 * torch.randn_like(x), 44100)) > 0.5


def test_mel_distance_counts_decades_of_each_window() -> None:
    x = torch.randn(1, 1, 8192)
    assert float(mel_distance(x, 10 * x, 44100)) == pytest.approx(len(MEL_WINDOWS), rel=0.02)


def test_silence_has_a_gradient() -> None:
    x = chord()
    y = torch.zeros_like(x, requires_grad=True)
    (stft_distance(x, y) + mel_distance(x, y, 44100)).backward()
    assert y.grad is not None
    assert bool(torch.isfinite(y.grad).all())


def test_mel_filters() -> None:
    filters = mel_matrix(2048, 80, 44100, torch.device("cpu"))
    assert filters.shape == (80, 1025)
    peaks = filters.argmax(1) * 44100 / 2048
    assert bool((peaks.diff() > 0).all())
    assert float(peaks[int((peaks < 1000).sum())]) < 1100
    area = filters.sum(1)[20:] * 44100 / 2048  # triangles of equal area, where there are bins enough
    torch.testing.assert_close(area, torch.ones_like(area), atol=0.05, rtol=0)
