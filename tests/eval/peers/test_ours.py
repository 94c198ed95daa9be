"""Our codecs of sound under the bench's contract: the turn of the axes, bit rates in codec strings, speeds in rows.

The codec is a fake that keeps 16 bits a sample: what a codec does is its own tests' matter.
"""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from codec.codecs.base.settings import CODER, QUALITY, Card, Setting, positive
from codec.eval import peers
from codec.eval.bench.contract import Audio, Family
from codec.eval.bench.run import rate_distortion
from codec.eval.peers import ours
from codec.media.audio.values import Audio as Sound
from codec.media.audio.values import from_float

KBPS = Setting("kbps", "the best file of at most so many kbit/s", positive, "R", rivals="rate", optional=True)


class Fake:
    """Samples of 16 bits behind rate, channels, quality and kbps. `ints`: gives integers back, as of a file of ints."""

    name, stream, sweep, coders = "fake-sound", 1, (20, 80), ()

    def __init__(self, quality: float | None = None, kbps: float | None = None, ints: bool = False) -> None:
        self.quality, self.kbps, self.ints = quality, kbps, ints

    @classmethod
    def load(cls, name: str, quality: float | None = None) -> Fake:
        assert name == cls.name
        return cls(quality)

    def with_settings(self, **changes: Any) -> Fake:
        return Fake(**{"quality": self.quality, "kbps": self.kbps, **changes})

    def compress(self, sound: Sound) -> bytes:
        assert sound.samples.dtype == np.float32 and sound.samples.flags.c_contiguous
        head = struct.pack("<IIff", sound.info.rate, sound.info.channels, self.quality or 0, self.kbps or 0)
        return head + from_float(sound.samples, 16).tobytes()

    def decompress(self, data: bytes) -> Sound:
        rate, channels, _, _ = struct.unpack_from("<IIff", data)
        ints = np.frombuffer(data, np.int16, offset=16).reshape(-1, channels)
        return Sound.from_array(ints if self.ints else ints.astype(np.float32) / 2**15, rate)


CARD = Card("fake-sound", "audio", ".fake", "for tests", "x:Fake", settings=(QUALITY, KBPS, CODER))


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    peers.families()  # which is kept for the process: of the codecs that there are
    monkeypatch.setattr(ours, "names", lambda: ["fake-sound"])
    monkeypatch.setattr(ours, "entry", lambda name: CARD)
    monkeypatch.setattr(ours, "load_class", lambda name: Fake)
    monkeypatch.setattr(ours, "manifests", lambda name: ())
    monkeypatch.setattr(ours, "Codec", SimpleNamespace(load=Fake.load))
    [made] = ours.families()
    return made


def sound(channels: int = 2, n: int = 24_000, rate: int = 16_000) -> Audio:
    ints = np.random.default_rng(1).integers(-(2**15), 2**15, (channels, n))
    return Audio((ints / 2**15).astype(np.float32), rate)


@pytest.mark.parametrize("ints", [False, True])
def test_channels_first_and_back(family: Family, ints: bool) -> None:
    peer: Any = family.make({"q": 0, "kbps": 0.0, "coder": ""}, 1)
    peer.codec.ints = ints
    for value in (sound(), sound(1, 77, 8000), Audio(np.asfortranarray(sound().samples), 44_100)):
        decoded = peer.decode(peer.encode(value))
        assert decoded.rate == value.rate
        assert decoded.samples.dtype == np.float32 and decoded.samples.flags.c_contiguous
        np.testing.assert_array_equal(decoded.samples, value.samples)


def test_quality_and_bit_rate(family: Family) -> None:
    assert family.medium == "audio" and family.axis == "q" and family.sweep == (20, 80)
    assert family.options["kbps"].default == 0 and "0: the quality decides" in family.options["kbps"].about
    for settings, expected in (
        ({"q": 0, "kbps": 0.0}, (0, 0)),
        ({"q": 30, "kbps": 0.0}, (30, 0)),
        ({"q": 0, "kbps": 64.0}, (0, 64)),
    ):
        data = family.make({**settings, "coder": ""}, 1).encode(sound())
        assert struct.unpack_from("<IIff", data)[2:] == expected


def test_rows_have_kilobits_and_times_of_real_time(family: Family, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((sound(1, 32_000).samples[0] * 2**15).astype("<i2").tobytes())
    table = rate_distortion(tmp_path, "fake-sound", families={"fake-sound": family}, repeat=1)
    assert not table.failed and not table.skipped
    assert {row.rate for row in table.rows} == {8 * (64_000 + 16) / 2 / 1000}, "kbit/s of 2 seconds"
    assert all(row.metrics["snr"] == np.inf for row in table.rows)
    for point, row in zip(table.points("fake-sound"), table.rows, strict=True):
        assert point.rate == row.rate and point.kbps is None
        assert point.encode_realtime == pytest.approx(2 / row.encode_seconds)
        assert point.decode_realtime == pytest.approx(2 / row.decode_seconds)
        assert point.encode_mpx_s is None
        assert {"encode_realtime", "decode_realtime"} <= set(point.as_json("kbps"))
