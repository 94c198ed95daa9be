"""Metrics of sounds: known answers, invariances, other implementations, and sounds too short or too quiet."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from codec.eval.bench.contract import Audio
from codec.eval.metrics import METRICS, metric

NAMES = [name for medium, name in METRICS if medium == "audio"]


def measure(name: str, x: np.ndarray, x_hat: np.ndarray, rate: int = 16_000) -> float:
    a, b = (Audio(np.atleast_2d(v).astype(np.float32), rate) for v in (x, x_hat))
    item = metric("audio", name)
    assert not item.missing()  # what it needs comes with the `eval` extra, and so with `make test`
    return item.measure(a, b)


def voice(seconds: float = 2.0, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """A gliding tone with harmonics, in syllables: enough of an utterance for PESQ and STOI. (N,)"""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.7 * t + seed)) / rate
    tones = sum(np.sin(k * phase) / k for k in range(1, 20) if k * 170 < rate / 2)
    loud = np.clip(np.sin(2 * np.pi * 2.5 * t), 0, None)
    noise = np.random.default_rng(seed).normal(0, 0.003, t.shape)
    return 0.3 * np.asarray(tones) * loud + noise


def with_noise(x: np.ndarray, level: float, seed: int = 7) -> np.ndarray:
    return x + np.random.default_rng(seed).normal(0, level, x.shape)


class TestSnr:
    def test_known(self) -> None:
        x = voice()
        assert measure("snr", x, 0.9 * x) == pytest.approx(20, abs=1e-4)
        assert measure("snr", x, np.zeros_like(x)) == 0
        assert measure("snr", x, -x) == pytest.approx(-20 * math.log10(2), abs=1e-4)
        noise = np.where(np.arange(x.size) % 2, 0.01, -0.01)
        assert measure("snr", x, x + noise) == pytest.approx(10 * math.log10(np.mean(x**2) / 1e-4), abs=1e-3)

    def test_channels_together(self) -> None:
        x = np.stack([np.full(50, 0.5), np.full(50, 0.1)])
        x_hat = np.stack([np.full(50, 0.5), np.full(50, 0.2)])
        assert measure("snr", x, x_hat) == pytest.approx(10 * math.log10(0.26 / 0.01), abs=1e-5)


class TestPsnr:
    def test_known(self) -> None:
        x = np.zeros((2, 1000))
        assert measure("psnr", x, x + 0.02) == pytest.approx(40, abs=1e-4)
        assert measure("psnr", x, np.stack([x[0], x[0] + 0.02])) == pytest.approx(40 + 10 * math.log10(2), abs=1e-4)
        assert measure("psnr", x, x) == math.inf


class TestSiSdr:
    def test_scale_and_offset_do_not_matter(self) -> None:
        x = voice()
        x_hat = with_noise(x, 0.05)
        value = measure("si-sdr", x, x_hat)
        assert value == pytest.approx(measure("si-sdr", x, 0.37 * x_hat), abs=1e-3)
        assert value == pytest.approx(measure("si-sdr", 5 * x + 0.2, x_hat - 0.1), abs=1e-3)
        assert value == pytest.approx(measure("si-sdr", x, -x_hat), abs=1e-3)
        assert measure("si-sdr", x, 0.9 * x) > 120  # float32

    def test_known(self) -> None:
        # Noise at right angles to the signal, a tenth of its energy.
        t = np.arange(1000) / 1000
        x, noise = np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 33 * t)
        assert measure("si-sdr", x, x + math.sqrt(0.1) * noise) == pytest.approx(10, abs=1e-4)
        assert measure("si-sdr", x, noise) < -100

    @pytest.mark.slow  # the import
    def test_torchmetrics_agrees(self) -> None:
        functional = importlib.import_module("torchmetrics.functional.audio")
        x = np.stack([voice(seed=1), voice(seed=2)]).astype(np.float32)
        x_hat = with_noise(x, 0.02).astype(np.float32)
        theirs = functional.scale_invariant_signal_distortion_ratio(
            torch.from_numpy(x_hat).double(), torch.from_numpy(x).double(), zero_mean=True
        )
        assert measure("si-sdr", x, x_hat) == pytest.approx(theirs.mean().item(), abs=1e-6)

    def test_silent_channels(self) -> None:
        x = np.stack([voice(), np.full(32_000, 0.1)])
        x_hat = with_noise(x, 0.02)
        assert measure("si-sdr", x, x_hat) == measure("si-sdr", x[:1], x_hat[:1])
        x_hat[0] = 0
        assert measure("si-sdr", x, x_hat) == -math.inf


class TestSpectralDistances:
    def test_stft_of_a_scaled_sound(self) -> None:
        x = voice() + with_noise(np.zeros(32_000), 0.1)  # no bin near the floor
        # Spectral convergence is |1 - a|, the difference of logs |ln a|, at each resolution.
        assert measure("stft-distance", x, 0.5 * x) == pytest.approx(0.5 + math.log(2), abs=1e-3)
        assert measure("stft-distance", x, 2 * x) == pytest.approx(1 + math.log(2), abs=1e-3)

    def test_stft_grows_with_noise(self) -> None:
        values = [measure("stft-distance", voice(), with_noise(voice(), level)) for level in (1e-4, 1e-3, 1e-2)]
        assert 0 < values[0] < values[1] < values[2]

    @pytest.mark.parametrize("rate", [4000, 8000, 16_000, 44_100, 48_000])
    def test_mel_of_a_scaled_sound(self, rate: int) -> None:
        x = with_noise(np.zeros(rate), 0.1)
        assert measure("mel-distance", x, x / 10, rate) == pytest.approx(20, abs=1e-3)

    def test_mel_floor(self) -> None:
        x = np.zeros(16_000)
        assert measure("mel-distance", x, with_noise(x, 1e-8)) == 0
        tone = np.sin(2 * np.pi * 1000 * np.arange(160_000) / 16_000)
        # A sine of full scale has a magnitude of 1 in one band or two, and a little beside it: well over the floor.
        found = measure("mel-distance", tone, np.zeros(160_000))
        assert 100 / 80 < found < 100 * 20 / 80

    def test_mel_is_about_bands(self) -> None:
        t = np.arange(32_000) / 16_000
        x = np.sin(2 * np.pi * 440 * t)
        assert measure("mel-distance", x, np.cos(2 * np.pi * 440 * t)) < 0.25 * measure(
            "mel-distance", x, np.sin(2 * np.pi * 660 * t)
        )

    def test_mel_takes_the_mean_over_channels(self) -> None:
        x = with_noise(np.zeros((2, 8000)), 0.1)
        x_hat = np.stack([x[0] / 10, x[1] / 100])
        assert measure("mel-distance", x, x_hat) == pytest.approx(30, abs=1e-3)


class TestHearing:
    @pytest.mark.parametrize("name", ["pesq", "stoi"])
    @pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100])
    def test_falls_with_noise(self, name: str, rate: int) -> None:
        x = voice(rate=rate)
        values = [measure(name, x, with_noise(x, level), rate) for level in (0.0, 0.02, 0.3)]
        assert values[0] > (0.999 if name == "stoi" else 4.5)
        assert values[0] > values[1] > values[2]

    def test_pesq_is_the_package_s(self) -> None:
        package = importlib.import_module("pesq")
        x = voice(3.0).astype(np.float32)
        x_hat = with_noise(x, 0.01).astype(np.float32)
        assert measure("pesq", x, x_hat) == pytest.approx(package.pesq(16_000, x, x_hat, "wb"), abs=1e-6)
        assert measure("pesq", x, x_hat, 8000) == pytest.approx(package.pesq(8000, x, x_hat, "nb"), abs=1e-6)
        assert measure("pesq", x, x_hat) != pytest.approx(measure("pesq", x, x_hat, 8000), abs=0.05)

    def test_stoi_is_the_package_s(self) -> None:
        package = importlib.import_module("pystoi")
        x = voice(3.0).astype(np.float32)
        x_hat = with_noise(x, 0.05).astype(np.float32)
        assert measure("stoi", x, x_hat) == pytest.approx(package.stoi(x, x_hat, 16_000), abs=1e-4)

    @pytest.mark.parametrize("name", ["pesq", "stoi"])
    def test_channels(self, name: str) -> None:
        x = np.stack([voice(seed=1), voice(seed=2), np.zeros(32_000)])
        x_hat = np.stack([with_noise(x[0], 0.01), with_noise(x[1], 0.1), np.zeros(32_000)])
        single = [measure(name, a, b) for a, b in zip(x, x_hat, strict=True)]
        assert math.isnan(single[2])
        assert measure(name, x, x_hat) == pytest.approx((single[0] + single[1]) / 2, abs=1e-9)

    def test_pesq_of_a_long_sound_is_the_mean_of_its_pieces(self) -> None:
        x = np.concatenate([voice(10.0, 8000, seed=1), voice(10.0, 8000, seed=2)])
        x_hat = np.concatenate([with_noise(x[:80_000], 0.002), with_noise(x[80_000:], 0.1)])
        halves = [measure("pesq", x[part], x_hat[part], 8000) for part in (slice(0, 80_000), slice(80_000, None))]
        assert halves[0] > halves[1] + 0.5
        assert measure("pesq", x, x_hat, 8000) == pytest.approx(np.mean(halves), abs=1e-6)

    def test_pesq_survives_many_utterances(self) -> None:
        """The package writes past its arrays after 50 utterances; in a process of its own, as that would end this."""
        code = """
import numpy as np
from codec.eval.bench.contract import Audio
from codec.eval.metrics import metric
t = np.arange(8000 * 45) / 8000
x = (np.random.default_rng(0).normal(0, 0.1, (1, t.size)) * (t % 0.46 < 0.24)).astype(np.float32)
x_hat = x + np.random.default_rng(1).normal(0, 0.003, x.shape).astype(np.float32)
print(metric("audio", "pesq").measure(Audio(x, 8000), Audio(x_hat, 8000)))
"""
        out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
        assert out.returncode == 0, out
        assert 1 < float(out.stdout) < 4.6


class TestVisqol:
    """Sounds of little more than a second: it is slow."""

    def test_is_the_package_s_of_the_mid_signal(self) -> None:
        package = importlib.import_module("visqol")
        x = np.stack([voice(1.2, 48_000, seed=1), voice(1.2, 48_000, seed=2)]).astype(np.float32)
        x_hat = with_noise(x, 0.01).astype(np.float32)
        api = package.VisqolApi()
        api.create(mode="audio")
        mid, mid_hat = (np.asarray(v, np.float64).mean(axis=0) for v in (x, x_hat))
        value = measure("visqol", x, x_hat, 48_000)
        assert value == pytest.approx(api.measure_from_arrays(mid, mid_hat, 48_000).moslqo, abs=1e-4)
        sides = np.stack([x_hat[0] + 0.1, x_hat[1] - 0.1])  # the difference of the channels isn't heard
        assert measure("visqol", x, sides, 48_000) == pytest.approx(value, abs=1e-3)

    def test_falls_with_noise_and_bandwidth(self) -> None:
        x = voice(1.2, 22_050) + with_noise(np.zeros(26_460), 0.01, seed=3)
        dull = np.fft.irfft(np.fft.rfft(x) * (np.arange(x.size // 2 + 1) < 0.25 * x.size / 2), x.size)  # to 2.8 kHz
        values = [measure("visqol", x, x_hat, 22_050) for x_hat in (x, with_noise(x, 1e-3), with_noise(x, 0.1), dull)]
        assert values[0] > 4.7
        assert values[0] >= values[1] > values[2] + 0.5
        assert values[3] < values[0] - 0.5

    def test_where_it_is_not_defined(self) -> None:
        x = voice(1.2, 48_000)
        assert math.isnan(measure("visqol", 0 * x, x, 48_000)), "the tool calls noise on silence perfect"
        assert math.isnan(measure("visqol", np.stack([x, -x]), np.stack([x, -x]), 48_000)), "nothing in the middle"
        assert math.isnan(measure("visqol", x[:46_079], x[:46_079], 48_000))
        assert measure("visqol", x[:46_080], x[:46_080], 48_000) > 4.7, "the shortest that it compares"
        assert math.isnan(measure("visqol", x, x, 7_999))
        assert measure("visqol", x, 0 * x, 48_000) == 1.0


class TestSilenceAndShortSounds:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("n", [1, 2, 100, 1000, 1024, 1025, 3999, 4000, 6399, 6400, 8000])
    @pytest.mark.parametrize("kind", ["silence", "noise", "lost", "on silence", "constant", "impulse"])
    def test_never_fails(self, name: str, n: int, kind: str) -> None:
        rng = np.random.default_rng(0)
        loud, zero = rng.normal(0, 0.1, n), np.zeros(n)
        impulse = np.eye(1, n, n // 2)[0]
        x, x_hat = {
            "silence": (zero, zero),
            "noise": (loud, with_noise(loud, 0.01)),
            "lost": (loud, zero),
            "on silence": (zero, loud),
            "constant": (zero + 0.3, zero + 0.2),
            "impulse": (impulse, impulse * 0.5),
        }[kind]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = measure(name, x, x_hat)
        assert isinstance(value, float)
        if name == "snr":
            assert value == math.inf if kind == "silence" else math.isnan(value) == (kind == "on silence")
        if name == "si-sdr" and (n == 1 or kind in ("silence", "on silence", "constant")):
            assert math.isnan(value)
        if name == "si-sdr" and n > 1 and kind == "lost":
            assert value == -math.inf
        if name == "stft-distance":
            assert math.isnan(value) == (n < 1025 or kind == "on silence")
        if name == "mel-distance":
            assert (value == 0) if kind == "silence" else (0 < value < 200)
        if name == "pesq" and (n < 4000 or kind in ("silence", "lost", "on silence")):
            assert math.isnan(value)
        if name == "visqol":
            assert math.isnan(value), "0.5 seconds at most"
        if name == "stoi" and (n < 6400 or kind in ("silence", "lost", "on silence", "impulse")):
            assert math.isnan(value)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("rate", [1, 50, 3999, 4000, 7999, 15_999, 44_101, 192_000])
    def test_strange_rates(self, name: str, rate: int) -> None:
        x = voice(0.25, 32_000)
        value = measure(name, x, with_noise(x, 0.01), rate)
        if (name, rate) in {
            ("mel-distance", 3999),
            ("mel-distance", 1),
            ("visqol", 7999),
            ("pesq", 44_101),
            ("pesq", 7999),
            ("stoi", 4000),
        }:
            assert math.isnan(value)
        if name in ("snr", "si-sdr", "stft-distance"):
            assert value == measure(name, x, with_noise(x, 0.01))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_broken_decoder_gets_the_worst(self, name: str, bad: float) -> None:
        x = voice()
        x_hat = x.copy()
        x_hat[1000] = bad
        assert measure(name, x, x_hat) == (-math.inf if metric("audio", name).better == "higher" else math.inf)

    def test_few_loud_frames(self) -> None:
        x = np.zeros(32_000)
        x[8000:9000] = voice(1.0)[:1000] + 0.1  # one sixteenth of a second, then silence: pystoi says 1e-5
        assert math.isnan(measure("stoi", x, with_noise(x, 1e-4)))
