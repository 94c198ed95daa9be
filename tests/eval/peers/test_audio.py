"""Audio baselines: same length and alignment as the original, honest sizes, damage refused."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from codec.errors import CodecError, MediaError, StreamError
from codec.eval.bench.contract import Audio, OptionValue, Peer
from codec.eval.peers.audio import FAMILIES, resample

FAMILY = {family.name: family for family in FAMILIES}
LOSSY = ("mp3", "opus", "aac", "vorbis")


def make(name: str, **chosen: OptionValue) -> Peer:
    threads = int(chosen.pop("threads", 1))
    settings = {key: option.default for key, option in FAMILY[name].options.items()}
    return FAMILY[name].make({**settings, **chosen}, threads)


def sweep(rate: int, n_samples: int, channels: int = 2, seed: int = 0) -> Audio:
    """A rising tone per channel, different ones, in a little noise, on a grid of 16 bits."""
    t = np.arange(n_samples) / rate
    tones = [np.sin(2 * np.pi * ((200 + 90 * c) * t + (0.1 + 0.02 * c) * rate * t * t)) for c in range(channels)]
    noise = np.random.default_rng(seed).standard_normal((channels, n_samples))
    samples = np.rint((0.4 * np.stack(tones) + 0.002 * noise) * 2**15) / 2**15
    return Audio(samples.astype(np.float32), rate)


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """Samples by which b comes after a, where their cross-correlation is largest."""
    n = a.shape[-1]
    correlation = np.fft.irfft(np.conj(np.fft.rfft(a, 2 * n)) * np.fft.rfft(b, 2 * n))
    at = int(correlation.argmax())
    return at if at < n else at - 2 * n


def snr(original: Audio, decoded: Audio) -> float:
    error = original.samples.astype(np.float64) - decoded.samples
    return float(10 * np.log10((original.samples.astype(np.float64) ** 2).sum() / (error**2).sum()))


def test_everything_is_there() -> None:
    for family in FAMILIES:
        assert family.missing() is None, family.name
        assert all(family.versions().values()), family.name
        assert family.axis is None or (family.axis in family.options and family.sweep)


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 37000])
def test_aligned_to_the_sample(name: str, rate: int) -> None:
    original = sweep(rate, rate // 4 + 123)
    best: dict[str, OptionValue] = {"quality": 10} if name == "vorbis" else {"kbps": 256}
    decoded = make(name, **best).decode(make(name, **best).encode(original))
    assert decoded.rate == rate
    assert decoded.samples.shape == original.samples.shape
    assert decoded.samples.dtype == np.float32
    assert [lag(a, b) for a, b in zip(original.samples, decoded.samples, strict=True)] == [0, 0]
    assert snr(original, decoded) > 15  # a shift by one sample would leave less than 6 dB


@pytest.mark.parametrize("channels", [1, 2])
def test_opus_for_speech(channels: int) -> None:
    """SILK and hybrid modes, at 24 and 32 kbit/s, and CELT at 128: each has another delay."""
    noise = np.random.default_rng(0).standard_normal((channels, 48000))
    smooth = np.fft.irfft(np.fft.rfft(noise) / (1 + np.arange(24001) / 1000.0) ** 2, 48000)
    original = Audio((0.3 * smooth / np.abs(smooth).max()).astype(np.float32), 48000)
    for rate in (48000, 16000):
        item = Audio(resample(original.samples, 48000, rate), rate)
        for kbps in (24, 32, 128):
            peer = make("opus", kbps=kbps)
            decoded = peer.decode(peer.encode(item))
            assert [lag(a, b) for a, b in zip(item.samples, decoded.samples, strict=True)] == [0] * channels, kbps


def test_opus_keeps_floats() -> None:
    """libopus gives 16 bits unless it is asked; then no value here would lie between the steps, or beyond 1."""
    original = sweep(48000, 9600, 1)
    samples = make("opus").decode(make("opus").encode(original)).samples * 2**15
    assert np.abs(samples - np.rint(samples)).max() > 0.3


@pytest.mark.parametrize("name", [*LOSSY, "flac"])
def test_any_length(name: str) -> None:
    """Also those for which a container's own way to say the length fails: MP3 1 to 46 samples into a frame."""
    peer = make(name)
    for rate in (16000, 44100):
        for n_samples in (1, 2, 46, 47, 577, 622, 1024, 1153, 1198, 1199, 2305, 3333):
            for channels in (1, 2):
                original = sweep(rate, n_samples, channels)
                decoded = peer.decode(peer.encode(original))
                assert (decoded.samples.shape, decoded.rate) == (original.samples.shape, rate), (rate, n_samples)


@pytest.mark.parametrize("name", ["mp3", "opus", "aac"])
def test_rate_follows_kbps(name: str) -> None:
    original = sweep(44100, 44100)
    mode: dict[str, OptionValue] = {"mode": "cbr"} if name == "opus" else {}  # its free mode gives tones a third more
    sizes = [len(make(name, kbps=kbps, **mode).encode(original)) for kbps in (32, 64, 128)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[1] - sizes[0] == pytest.approx(32000 / 8, rel=0.2)
    assert sizes[2] - sizes[1] == pytest.approx(64000 / 8, rel=0.2)


def test_rate_follows_quality() -> None:
    original = sweep(44100, 44100)
    sizes = [len(make("vorbis", quality=quality).encode(original)) for quality in (0, 5, 10)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_kbps_is_over_all_channels() -> None:
    mono, stereo = sweep(48000, 96000, 1), sweep(48000, 96000, 2)
    for name in ("mp3", "opus"):
        ratio = len(make(name, kbps=64).encode(stereo)) / len(make(name, kbps=64).encode(mono))
        assert ratio == pytest.approx(1, abs=0.2)


def test_beyond_the_limits_of_a_format() -> None:
    """MP3 at 8 kHz ends at 64 kbit/s, AAC at 6 bits a sample."""
    original = sweep(8000, 8000, 1)
    for name, limit in (("mp3", 64), ("aac", 48)):
        assert len(make(name, kbps=320).encode(original)) == len(make(name, kbps=limit).encode(original))


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("channels", [1, 2])
def test_flac_is_lossless(bits: int, channels: int) -> None:
    full = 1 << (bits - 1)
    integers = np.random.default_rng(1).integers(-full, full, (channels, 5001))
    integers[0, :2] = -full, full - 1
    original = Audio((integers / full).astype(np.float32), 44100)
    data = make("flac").encode(original)
    decoded = make("flac").decode(data)
    assert decoded.rate == 44100
    assert np.array_equal(decoded.samples, original.samples)
    assert len(data) < channels * 5001 * bits / 8 + 600  # noise, so no gain; but 8 KiB of padding would show


def test_flac_refuses_what_it_would_round() -> None:
    with pytest.raises(MediaError, match="round them first"):
        make("flac").encode(Audio(np.full((1, 100), 0.1, np.float32), 44100))
    with pytest.raises(MediaError, match="round them first"):  # +1 is one more than 16 or 24 bits hold
        make("flac").encode(Audio(np.ones((1, 100), np.float32), 44100))


@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "flac"])
def test_same_bytes_and_no_tags(name: str) -> None:
    original = sweep(44100, 9000)
    data = make(name).encode(original)
    assert data == make(name).encode(original)
    assert b"Lavf6" not in data
    assert b"ID3" not in data


def test_input_is_left_alone() -> None:
    original = sweep(22050, 5000)
    before = original.samples.copy()
    original.samples.setflags(write=False)
    for name in LOSSY:
        strided = Audio(np.asfortranarray(original.samples), original.rate)
        assert make(name).decode(make(name).encode(strided)).samples.shape == before.shape
    assert np.array_equal(original.samples, before)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (np.zeros((3, 100), np.float32), 44100),
        (np.zeros((1, 0), np.float32), 44100),
        (np.zeros(100, np.float32), 44100),
        (np.zeros((1, 100), np.float64), 44100),
        (np.zeros((1, 100), np.float32), 0),
        (np.full((1, 100), np.nan, np.float32), 44100),
    ],
)
def test_refused_input(samples: Any, rate: int) -> None:
    for name in FAMILY:
        with pytest.raises(MediaError):
            make(name).encode(Audio(samples, rate))


@pytest.mark.parametrize("name", list(FAMILY))
def test_damage(name: str) -> None:
    peer = make(name)
    data = peer.encode(sweep(22050 if name == "opus" else 44100, 4410))
    for bad in (b"", b"CdcA", b"CdcA" + bytes(8) + data[12:], bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(50), data[:20]):
        with pytest.raises(StreamError):
            peer.decode(bad)
    rng = np.random.default_rng(0)
    for _ in range(25):  # a flipped byte either decodes to something or is refused; nothing else
        at = int(rng.integers(len(data)))
        with contextlib.suppress(CodecError):
            peer.decode(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])


def test_header_that_asks_for_too_much() -> None:
    peer = make("opus")
    data = peer.encode(sweep(22050, 4410))
    assert data[:4] == b"CdcA"
    for rate, n_samples in ((22050, 10**7), (384000, 10), (1, 10), (22050, 0), (2**32 - 1, 100)):
        with pytest.raises(StreamError):
            peer.decode(b"CdcA" + rate.to_bytes(4, "little") + n_samples.to_bytes(4, "little") + data[12:])


def test_resampling() -> None:
    """A tone comes out as the same tone, in place and to 80 dB, away from the ends."""
    for rate, target in ((44100, 48000), (48000, 44100), (16000, 48000), (22050, 24000), (37000, 44100)):
        n = rate // 4
        tone = np.cos(2 * np.pi * 0.2 * min(rate, target) * np.arange(n) / rate + 0.3)
        out = resample(tone[None].astype(np.float32), rate, target)
        n_out = -(-n * target // rate)
        assert out.shape == (1, n_out)
        expected = np.cos(2 * np.pi * 0.2 * min(rate, target) * np.arange(n_out) / target + 0.3)
        inner = slice(n_out // 4, -n_out // 4)
        assert np.abs(out[0] - expected)[inner].max() < 1e-4
    high = np.cos(2 * np.pi * 0.49 * np.arange(4800))[None].astype(np.float32)  # 23.5 kHz at 48 kHz: not in 44.1 kHz
    assert np.abs(resample(high, 48000, 44100)[0, 1000:-1000]).max() < 1e-4
