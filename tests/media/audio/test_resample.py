"""Resampling: lengths, no delay, the same result however the sound is cut, and the spectrum that is kept."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from codec.errors import UsageError
from codec.media.audio.resample import Resampler, length_at, resample

RATES = [(44100, 48000), (48000, 44100), (8000, 48000), (44100, 16000), (44100, 44101), (192000, 8000), (44100, 44100)]


def noise(n: int, channels: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(n).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)


def sine(n: int, rate: int, hertz: float) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(n) / rate)).astype(np.float32)[:, None]


@pytest.mark.parametrize(("rate_in", "rate_out"), [*RATES, (1000, 768000), (768000, 1000)])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100, 5003])
def test_length_is_rounded_up(rate_in: int, rate_out: int, n: int) -> None:
    result = resample(noise(n), rate_in, rate_out)
    assert result.shape == (length_at(n, rate_in, rate_out), 2)
    assert result.dtype == np.float32
    assert length_at(n, rate_in, rate_out) == -(-n * rate_out // rate_in)
    assert (len(result) > 0) == (n > 0)


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
@pytest.mark.parametrize("sizes", [[1, 2, 3], [0, 1000, 37], [8192], [70000, 5]])
def test_blocks_give_what_the_whole_gives(rate_in: int, rate_out: int, sizes: list[int]) -> None:
    n = 3000 if max(sizes) < 100 else 150_001  # more than resample() hands over at once
    samples = noise(n)
    resampler = Resampler(rate_in, rate_out, 2)
    parts, at = [], 0
    while at < n:
        size = sizes[len(parts) % len(sizes)]
        parts.append(resampler.push(samples[at : at + size]))
        at += size
    parts.append(resampler.finish())
    np.testing.assert_array_equal(np.concatenate(parts), resample(samples, rate_in, rate_out))


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_sound_stays_where_it_is(rate_in: int, rate_out: int) -> None:
    """A tone has the same phase at the same time: a delay of a hundredth of a sample would be seen."""
    hertz = 0.2 * min(rate_in, rate_out)
    result = resample(sine(rate_in // 2, rate_in, hertz), rate_in, rate_out)
    wanted = sine(len(result), rate_out, hertz)
    middle = slice(len(result) // 4, -len(result) // 4)  # away from the ends, where the tone begins at once
    assert np.abs(result - wanted)[middle].max() < 1e-5


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    n = 48000
    high, low = sine(n, 48000, 9000), sine(n, 48000, 6000)
    result = resample(high + low, 48000, 16000)
    middle = slice(1000, -1000)
    assert np.abs(result - sine(len(result), 16000, 6000))[middle].max() < 1e-5


def test_there_and_back() -> None:
    samples = resample(noise(20_000), 16000, 44100)  # without the top of the spectrum
    back = resample(resample(samples, 44100, 48000), 48000, 44100)[: len(samples)]
    middle = slice(1000, -1000)
    error = np.sqrt(np.mean(np.square(back - samples)[middle]) / np.mean(np.square(samples[middle])))
    assert error < 1e-5


def test_the_input_is_left_alone_and_channels_apart() -> None:
    samples = noise(5000)
    samples[:, 1] = 0
    kept = samples.copy()
    result = resample(samples, 44100, 48000)
    np.testing.assert_array_equal(samples, kept)
    assert not result[:, 1].any()
    np.testing.assert_array_equal(result[:, :1], resample(samples[:, :1], 44100, 48000))


@pytest.mark.parametrize("rate", [0, -44100, 999, 768_001, 44100.5])
def test_rates_that_are_refused(rate: int) -> None:
    with pytest.raises(UsageError, match="expected a whole number from 1000 to 768000"):
        Resampler(rate, 44100, 1)
    with pytest.raises(UsageError, match="expected a whole number from 1000 to 768000"):
        Resampler(44100, rate, 1)


def test_blocks_that_are_refused() -> None:
    resampler = Resampler(44100, 48000, 2)
    with pytest.raises(UsageError, match="expected float32"):
        resampler.push(noise(10, 1))
    with pytest.raises(UsageError, match="expected float32"):
        resampler.push(noise(10).astype(np.float64))  # type: ignore[arg-type]
    resampler.push(noise(10))
    assert len(resampler.finish()) <= length_at(10, 44100, 48000)
    with pytest.raises(UsageError, match="finished"):
        resampler.push(noise(10))
    with pytest.raises(UsageError, match="finished"):
        resampler.finish()
