"""Parts of sounds for the report's players: which part, at which rates, and what they sound like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codec.eval.bench import crops
from codec.eval.bench.contract import Audio
from codec.eval.bench.run import rate_distortion, write_results
from codec.eval.peers.audio import FAMILIES

CODECS = "opus:kbps=24+96,mp3:kbps=24+96,flac"


def sound(seconds: float, rate: int, channels: int = 2) -> np.ndarray:
    """A tone that is loud from the middle on. (N, channels)"""
    t = np.arange(round(seconds * rate)) / rate
    loud = np.where(t < seconds / 2, 0.05, 0.5)
    return np.stack([loud * np.sin(2 * np.pi * 300 * (k + 1) * t + t * t * 90) for k in range(channels)], axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sounds")
    soundfile.write(path / "a.flac", sound(12, 48_000), 48_000)
    soundfile.write(path / "b.wav", sound(2, 16_000, 1), 16_000)
    soundfile.write(path / "c.wav", sound(2, 16_000, 3), 16_000)
    return path


def decoded(data: bytes) -> Audio:
    family = next(family for family in FAMILIES if family.name == "flac")
    return family.make({"level": 5}, 1).decode(data)


def test_loudest() -> None:
    for seconds, expected in ((12.0, (48_000 * 6, 48_000 * 11)), (3.0, (0, 48_000 * 3))):
        value = Audio(sound(seconds, 48_000).T.astype(np.float32), 48_000)
        start, stop = crops.loudest(value)
        assert stop - start == expected[1] - expected[0]
        assert start >= expected[0] and start % 12_000 == 0
    assert crops.loudest(Audio(np.zeros((1, 5), np.float32), 8000)) == (0, 5)


def test_takes_at_equal_rates(folder: Path) -> None:
    table = rate_distortion(folder, CODECS, metrics=["si-sdr", "snr"], repeat=1)
    sets = crops.equal_rate_sounds(table, 3)
    assert [made.item for made in sets] == ["a.flac", "b.wav"], "three channels have no FLAC here"
    long = sets[0]
    assert long.target_kbps == 64 and long.span[1] - long.span[0] == 5.0 and long.span[0] >= 6.0
    assert {take.codec for take in long.takes} == {"opus", "mp3"}, "lossless ones have no rate of their own choice"
    original = decoded(long.original)
    assert original.rate == 48_000 and original.samples.shape == (2, 240_000)
    whole, _ = soundfile.read(folder / "a.flac", dtype="float32")
    at = round(long.span[0] * 48_000)
    np.testing.assert_array_equal(original.samples.T, whole[at : at + 240_000])
    for take in long.takes:
        assert abs(take.kbps / 64 - 1) < crops.TOLERANCE and f"{take.codec}:kbps=" in take.spec
        assert set(take.metrics) == {"si-sdr", "snr"}
        part = decoded(take.data)
        assert part.samples.shape == original.samples.shape
        error = part.samples - original.samples
        assert 10 * np.log10(np.square(original.samples).sum() / np.square(error).sum()) > 5, "another part, or moved"


def test_slow_metrics_are_not_measured_for_a_take(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rate_distortion(folder / "b.wav", "opus:kbps=16+96", metrics=["si-sdr", "visqol"], repeat=1)
    calls: list[str] = []
    slow = table.metrics[1]
    assert slow.slow
    object.__setattr__(slow, "measure", lambda *pair: calls.append("again"))
    try:
        [made] = crops.equal_rate_sounds(table, 1)
        assert [set(take.metrics) for take in made.takes] == [{"si-sdr"}], "at a rate that wasn't measured"
        monkeypatch.setattr(crops, "KBPS", table.rows[0].rate)
        [made] = crops.equal_rate_sounds(table, 1)
        assert [take.metrics for take in made.takes] == [dict(table.rows[0].metrics)]
        assert not calls
    finally:
        from codec.eval.metrics.audio import visqol

        object.__setattr__(slow, "measure", visqol)


def test_the_report_of_a_run_has_players(folder: Path, tmp_path: Path) -> None:
    table = rate_distortion(folder / "b.wav", "opus:kbps=16+64", metrics=["si-sdr"], repeat=1)
    for crop_count, n_players in ((1, 2), (0, 0)):
        out: Any = tmp_path / str(crop_count)
        write_results(table, out, command="x", crops=crop_count)
        assert (out / "report.html").read_text().count("<audio controls") == n_players
