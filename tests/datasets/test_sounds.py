"""Recordings for training: one rate, one number of channels, crops that depend on seed and index only."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from codec.datasets.sounds import RandomSounds, find_sounds, load_sound
from codec.errors import MediaError


def tone(n: int, rate: int, channels: int) -> np.ndarray:
    x = 0.4 * np.sin(2 * np.pi * 300 * np.arange(n) / rate)
    return np.stack([x * (1 - 0.5 * k) for k in range(channels)], 1).astype(np.float32)


def test_finding(tmp_path: Path) -> None:
    for name in ("b.flac", "a/c.WAV", "a/skipped/d.ogg", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [str(p.relative_to(tmp_path)) for p in find_sounds(tmp_path, ("skipped",))]
    assert names == ["a/c.WAV", "b.flac"]
    with pytest.raises(MediaError, match="no recordings"):
        find_sounds(tmp_path / "nosuch")
    with pytest.raises(MediaError, match="no recordings"):
        find_sounds(tmp_path / "a" / "skipped", ("d.ogg",))


def test_loading(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.wav", tone(4000, 16000, 1), 16000)
    stereo = load_sound(tmp_path / "mono.wav", 44100, 2)
    assert stereo.shape == (11025, 2)
    assert stereo.dtype == np.float32
    assert np.array_equal(stereo[:, 0], stereo[:, 1])
    np.testing.assert_allclose(stereo[500:-500, 0], tone(11025, 44100, 1)[500:-500, 0], atol=2e-3)
    soundfile.write(tmp_path / "three.flac", tone(4000, 44100, 3), 44100)
    three = load_sound(tmp_path / "three.flac", 44100, 2)
    np.testing.assert_allclose(three, tone(4000, 44100, 3)[:, :2], atol=1e-4)
    middle = load_sound(tmp_path / "three.flac", 44100, 1)
    np.testing.assert_allclose(middle, tone(4000, 44100, 3).mean(1, keepdims=True), atol=1e-4)


def test_batches_depend_on_seed_and_index_only() -> None:
    sounds = [tone(5000, 8000, 2), tone(300, 8000, 2)]
    whole = list(islice(RandomSounds(sounds, 1000, 3, seed=3, gains=(-6, 6)), 5))
    late = list(islice(RandomSounds(sounds, 1000, 3, seed=3, gains=(-6, 6), start=3), 2))
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], late, strict=True))
    assert whole[0].shape == (3, 2, 1000)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], next(iter(RandomSounds(sounds, 1000, 3, seed=4, gains=(-6, 6)))))


def test_crops() -> None:
    """A short recording lies whole in silence; gains and flips change crops by what they say and no more."""
    short = tone(300, 8000, 2)
    plain = next(iter(RandomSounds([short], 1000, 8, seed=1, flips=False)))
    places = [int(torch.nonzero(crop[0]).min()) for crop in plain]
    assert len(set(places)) > 1
    for crop, place in zip(plain, places, strict=True):
        np.testing.assert_allclose(crop[:, place : place + 299].numpy(), short[1:].T, atol=1e-4)
        assert float(crop.abs().sum()) == pytest.approx(float(np.abs(short).sum()), rel=1e-3)
    loud = next(iter(RandomSounds([tone(5000, 8000, 2)], 1000, 64, seed=1, gains=(-6, 6))))
    peaks = loud.abs().amax((1, 2)) / 0.4
    assert 0.5 < float(peaks.min()) < 0.65
    assert 1.5 < float(peaks.max()) < 2
    left = loud[:, 0].abs().amax(1) > loud[:, 1].abs().amax(1)
    assert 10 < int(left.sum()) < 54


def test_two_in_a_crop() -> None:
    """The second recording is 0 to 20 dB below the first; a share of the crops has one."""
    steady = np.full((5000, 1), 0.4, np.float32)
    crops = next(iter(RandomSounds([steady], 1000, 64, seed=1, flips=False, mixed=0.5)))
    levels = crops.mean((1, 2)) / 0.4
    alone = (levels - 1).abs() < 1e-3
    assert 20 < int(alone.sum()) < 44
    assert float(levels[~alone].min()) > 1.09
    assert float(levels.max()) <= 2.001


def test_tempo_and_pitch() -> None:
    crops = next(iter(RandomSounds([tone(20000, 8000, 2)], 4000, 8, seed=1, flips=False, speeds=(0.5, 1.5))))
    assert crops.shape == (8, 2, 4000)
    peaks = torch.fft.rfft(crops[:, 0] * torch.hann_window(4000)).abs().argmax(1) * 8000 / 4000
    assert 145 < float(peaks.min()) < 250
    assert 350 < float(peaks.max()) < 455
