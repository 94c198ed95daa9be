"""Values of sound: exact arithmetic between types of sample, and what arrays are taken."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from codec.errors import MediaError, UsageError
from codec.media.audio.values import LAYOUTS, Audio, AudioInfo, from_float, to_float

EDGES = {16: (-(1 << 15), (1 << 15) - 1), 24: (-(1 << 23), (1 << 23) - 1), 32: (-(1 << 31), (1 << 31) - 1)}


@pytest.mark.parametrize("bits", [16, 24])
def test_integers_come_back(bits: int) -> None:
    low, high = EDGES[bits]
    kind = np.int16 if bits == 16 else np.int32
    values = np.arange(low, high + 1, 1 if bits == 16 else 97, dtype=np.int64)
    values = np.append(values, [low, -1, 0, 1, high]).astype(kind)[:, None]
    floats = to_float(values, bits)
    assert floats.dtype == np.float32 and floats.min() == -1.0 and floats.max() < 1.0
    back = from_float(floats, bits)
    assert back.dtype == kind
    np.testing.assert_array_equal(back, values)


def test_32_bits_are_the_nearest_floats() -> None:
    values = np.array([-(1 << 31), (1 << 31) - 1, (1 << 24) + 1, (1 << 24) + 3, 12345], np.int32)
    expected = np.array([-1.0, 1.0, (1 << 24) / 2**31, ((1 << 24) + 4) / 2**31, 12345 / 2**31], np.float32)
    np.testing.assert_array_equal(to_float(values, 32), expected)
    assert from_float(np.array([1.0, -1.0], np.float32), 32).tolist() == [(1 << 31) - 1, -(1 << 31)]


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_floats_are_rounded_half_to_even_and_clipped(bits: int) -> None:
    low, high = EDGES[bits]
    scale = float(1 << (bits - 1))
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.5000001]) / scale
    assert from_float(values, bits).tolist() == [0, 2, 2, 0, -2, -2, 3]
    loud = np.array([1.0, 1.5, -1.0, -2.0, np.inf, -np.inf, np.nan], np.float32)
    assert from_float(loud, bits).tolist() == [high, high, low, low, high, low, 0]


def test_bits_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="bits 20; expected 16, 24 or 32"):
        from_float(np.zeros(1, np.float32), 20)


class TestArrays:
    def test_kinds(self) -> None:
        audio = Audio.from_array(np.zeros(5, np.int16), 8000)
        assert audio.samples.shape == (5, 1) and audio.info.sample == "int16" and audio.info.layout == "mono"
        assert audio.info.seconds == Fraction(5, 8000)
        assert Audio.from_array(np.zeros((5, 6), np.int32), 8000).info.sample == "int32"
        assert Audio.from_array(np.zeros((5, 2), np.int32), 8000, bits=24).info.bits == 24
        floats = Audio.from_array(np.full((5, 2), 0.25), 8000)
        assert floats.samples.dtype == np.float32 and floats.info.sample == "float32"
        assert Audio.from_array(np.zeros((0, 2), np.int16), 8000).info.n_samples == 0

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.zeros((2, 5, 1), np.int16), r"an array of int16 \(2, 5, 1\); expected int16, int32 or floats"),
            (np.zeros(5, np.uint8), "an array of uint8"),
            (np.zeros((2, 500), np.int16), r"500 channels; expected \(n, channels\), 1 to 8: turn it, array.T"),
            (np.zeros((50, 0), np.int16), "0 channels"),
            (np.array([0.0, np.nan]), "NaN"),
            (np.array([0.0, np.inf]), "infinite"),
            (np.array([0.0, 1e300]), "beyond what float32"),
        ],
    )
    def test_refused(self, array: np.ndarray, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            Audio.from_array(array, 44100)

    @pytest.mark.parametrize("rate", [0, -1, 1 << 20, 44100.5])
    def test_rates_that_are_refused(self, rate: int) -> None:
        with pytest.raises(UsageError, match="expected samples a second, 1 to 768000"):
            Audio.from_array(np.zeros(5, np.int16), rate)

    def test_bits_must_fit(self) -> None:
        with pytest.raises(UsageError, match="samples beyond 24 bits"):
            Audio.from_array(np.array([1 << 23], np.int32), 44100, bits=24)
        with pytest.raises(UsageError, match="bits 24 of int16; expected 16"):
            Audio.from_array(np.zeros(5, np.int16), 44100, bits=24)

    def test_the_info_must_fit(self) -> None:
        with pytest.raises(UsageError, match=r"samples are int16 \(5, 2\); expected int16 \(4, 2\)"):
            Audio(np.zeros((5, 2), np.int16), AudioInfo(44100, 2, 4))


def test_other_types_of_sample() -> None:
    audio = Audio.from_array(np.array([-32768, -1, 0, 255, 32767], np.int16), 44100)
    wide = audio.converted("int24")
    assert wide.samples[:, 0].tolist() == [-32768 << 8, -256, 0, 255 << 8, 32767 << 8]
    assert wide.converted("int32").converted("int16").samples.tolist() == audio.samples.tolist()
    exact = Audio.from_array(np.array([(1 << 31) - 1, 98765], np.int32), 44100)
    assert exact.converted("int24").samples[:, 0].tolist() == [(1 << 23) - 1, round(98765 / 256)]
    assert audio.converted("float32").info.sample == "float32"
    assert audio.converted("int16") is audio


def test_info() -> None:
    assert all(AudioInfo(8000, n).layout == name for n, name in LAYOUTS.items())
    assert AudioInfo(48000, 2, format="opus", sample="float32").wav_sample == "int16"
    assert AudioInfo(48000, 2, format="pcm", sample="float32").wav_sample == "float32"
    cases: list[tuple[int, int, int]] = [(0, 1, 5), (8000, 9, 5), (8000, 0, 5), (8000, 1, -1), (8000, 1, 1 << 50)]
    for rate, channels, n_samples in cases:
        with pytest.raises(MediaError, match="expected"):
            AudioInfo(rate, channels, n_samples)
