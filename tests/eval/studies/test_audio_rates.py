"""The study of sound's rates: which clips, what is cut, rows that are gone on with, curves read off, tables, a plot."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from codec.errors import UsageError
from codec.eval.bench.contract import Audio, Family, Option
from codec.eval.studies import audio_rates as study
from codec.media.audio.reader import read_audio

ROOT = Path(__file__).resolve().parents[3]


def write(path: Path, seconds: float, rate: int, channels: int = 1, subtype: str = "PCM_16") -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (300 * t + 200 * t * t)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))
    noise = np.random.default_rng(channels).normal(0, 0.01, (len(t), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tone[:, None] + noise
    soundfile.write(path, samples, rate, subtype=subtype)
    return samples


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write(folder / "speech-a" / "one.flac", 1.5, 16_000)
    write(folder / "speech-a" / "notes.flac", 0.5, 8_000)
    write(folder / "music-a" / "long.flac", 2.0, 44_100, 2, "PCM_24")
    write(folder / "music-a" / "ambi_wind.wav", 1.0, 44_100, 2)
    write(folder / "elsewhere" / "x.wav", 1.0, 44_100)
    (folder / "music-a" / "words.txt").write_text("no sound")
    (folder / "music-a" / "broken.flac").write_bytes(b"fLaC")
    return folder


class Coarse:
    """Eight bits a sample behind a filler up to the bit rate that is wished; coarser with fewer."""

    def __init__(self, kbps: float) -> None:
        self.kbps = kbps

    def encode(self, value: Audio) -> bytes:
        n_bytes = round(self.kbps * 125 * value.samples.shape[1] / value.rate)
        self.kept = value
        return bytes(n_bytes)

    def decode(self, data: bytes) -> Audio:
        step = np.float32(1 / self.kbps)
        return Audio(np.round(self.kept.samples / step) * step, self.kept.rate)


def family(name: str = "walloc-audio") -> Family:
    options = {"q": Option(0, "quality", 0, 100), "kbps": Option(0.0, "bit rate", 0, 1000)}
    return Family(
        name, "audio", "for tests", options, lambda settings, threads: Coarse(float(settings["kbps"])), axis="kbps"
    )


def test_kinds() -> None:
    names = ("speech-x/a.flac", "music-sonicpi/ambi_choir.flac", "music-sonicpi/loop.flac", "environment/rain.wav")
    assert [study.kind_of(name) for name in names] == ["speech", "environment", "music", "environment"]
    assert study.kind_of("other/speech.wav") is None


def test_clips_are_cut_and_else_as_they_are(clips: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert study.prepare(clips, tmp_path / "a", 1.25, said.append) == {"speech": 1, "music": 1, "environment": 1}
    assert len(said) == 1 and "broken.flac" in said[0]
    written = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.wav"))
    assert written == [
        "environment/music-a/ambi_wind.wav",
        "music/music-a/long.wav",
        "speech/speech-a/one.wav",
    ], "neither 8 kHz nor what is of no kind"
    whole = read_audio(clips / "music-a" / "long.flac")
    part = read_audio(tmp_path / "a" / "music" / "music-a" / "long.wav")
    assert (part.info.rate, part.info.sample, part.info.n_samples) == (44_100, "int24", 55_125)
    np.testing.assert_array_equal(part.samples, whole.samples[:55_125])
    study.prepare(clips, tmp_path / "b", 1.25)
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), "another digest, new rows"
    with pytest.raises(UsageError, match="no sound of 16000 Hz"):
        study.prepare(clips / "elsewhere", tmp_path / "c")


def test_whole(clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Sound\n\n<!-- walloc-audio -->\nold\n<!-- /walloc-audio -->\n\nmore\n")
    arguments = ["--data", str(clips), "--out", str(tmp_path / "out"), "--codecs", "opus,mp3", "--seconds", "1.5"]
    arguments += ["--metrics", "si-sdr", "snr", "--page", str(page), "--listen"]
    assert study.main(arguments) == 0
    first = capfd.readouterr()
    assert "speech 1/10" in first.err
    about = json.loads((tmp_path / "out" / "rates.json").read_text())
    assert list(about["kinds"]) == ["speech", "music", "environment"]
    assert about["kinds"]["speech"]["clips"] == 1 and about["kinds"]["speech"]["seconds"] == 1.5
    assert {"pesq", "stoi"} <= set(about["kinds"]["speech"]["summary"]["metrics"])
    assert set(about["kinds"]["music"]["summary"]["metrics"]) == {"si-sdr", "snr"}
    assert list(about["speed"]) == ["music as it is", "music at 48 kHz"]
    for own in about["speed"].values():
        assert own["opus"]["encode_against_opus"] == 1 and own["mp3"]["decode_realtime"] > 0
    speed = (tmp_path / "out" / "speed-48khz" / "rows.csv").read_text()
    assert "2x72000" in speed, "a second and a half at 48 kHz"
    music = about["kinds"]["music"]
    points = {curve["codec"]: [p["kbps"] for p in curve["points"]] for curve in music["summary"]["curves"]}
    assert set(points) == {"opus", "mp3"} and len(points["opus"]) == 5
    inside = points["opus"][0] <= 64 <= points["opus"][-1]
    assert (music["at"]["opus"]["64"]["si-sdr"] is not None) == inside
    assert "| music, `opus` |" in first.out and "| `mp3` | " in first.out
    table = study.page_table(about)
    assert page.read_text() == f"# Sound\n\n<!-- walloc-audio -->\n{table}\n<!-- /walloc-audio -->\n\nmore\n"
    assert table in (tmp_path / "out" / "rates.md").read_text()
    svg = (tmp_path / "out" / "rates.svg").read_bytes()
    assert svg == study.figure(about["kinds"], ("si-sdr", "visqol")), "what isn't measured isn't drawn"
    files = {path.name for path in (tmp_path / "out").glob("*.flac")}
    assert {"listen-music-original.flac", "listen-speech-original.flac"} <= files and len(files) == 4
    [coded] = [name for name in files if name.startswith("listen-music-opus-")]
    original = read_audio(tmp_path / "out" / "listen-music-original.flac")
    assert original.info.rate == 44_100 and original.info.n_samples == 66_150, "shorter than four seconds: all of it"
    assert 54 < int(coded.removesuffix("kbps.flac").rpartition("-")[2]) < 74
    error = read_audio(tmp_path / "out" / coded).to_float() - original.to_float()
    assert np.square(original.to_float()).mean() > 30 * np.square(error).mean()
    rows = {
        kind: (tmp_path / "out" / kind / "rows.csv").read_bytes() for kind in (*about["kinds"], "speed", "speed-48khz")
    }
    assert study.main(arguments) == 0
    second = capfd.readouterr()
    assert second.out == first.out and second.err.count("rows are there already") == 5
    assert rows == {kind: (tmp_path / "out" / kind / "rows.csv").read_bytes() for kind in rows}


def test_ours_is_asked_for_its_bit_rate(clips: Path, tmp_path: Path) -> None:
    study.prepare(clips, tmp_path, 1.0)
    table = study.measured(
        tmp_path / "music", "music", ["walloc-audio"], None, ["si-sdr"], families={"walloc-audio": family()}
    )
    assert [point.rate for point in table.points("walloc-audio")] == pytest.approx([16, 32, 64, 96, 128], rel=1e-3)
    at = study.read_off(table)["walloc-audio"]
    values = [at[str(kbps)]["si-sdr"] for kbps in study.AT]
    assert values == sorted(values, key=lambda value: value or -math.inf) and None not in values
    assert at["64"]["si-sdr"] == pytest.approx(table.points("walloc-audio")[2].metrics["si-sdr"])


def test_the_axis_of_our_codecs_is_their_bit_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = study.replace(family(), axis="q", sweep=(1, 2))
    picture = study.replace(family("s2lic"), axis="q", options={"q": Option(0, "quality", 0, 100)})
    opus = study.replace(family("opus"))
    monkeypatch.setattr(study.peers, "families", lambda: {"walloc-audio": ours, "s2lic": picture, "opus": opus})
    monkeypatch.setattr(study.peers, "is_ours", lambda item: item.name != "opus")
    made: dict[str, Any] = study._families()
    assert (made["walloc-audio"].axis, made["s2lic"].axis) == ("kbps", "q") and made["opus"] is opus


def point(rate: float, value: float | None, complete: bool = True) -> Any:
    return SimpleNamespace(rate=rate, metrics={"si-sdr": value}, complete=complete)


def test_never_extrapolated() -> None:
    curve = [point(16, 2.0), point(64, 10.0), point(70, 99.0, complete=False)]
    assert study.interpolated(curve, "si-sdr", 32) == pytest.approx(6.0), "half-way in the logarithm of the rate"
    assert study.interpolated(curve, "si-sdr", 64) == pytest.approx(10.0)
    for kbps in (15.9, 64.1, 70):
        assert study.interpolated(curve, "si-sdr", kbps) is None
    assert study.interpolated([point(16, 2.0), point(64, None)], "si-sdr", 16) is None, "a curve takes two points"


def test_tables_of_numbers_that_are_missing() -> None:
    at = {str(kbps): {"si-sdr": None, "visqol": None} for kbps in study.AT}
    ours = {**at, "24": {"si-sdr": 12.345, "visqol": 4.011}, "32": {"si-sdr": 13.0, "visqol": None}}
    kinds = {"music": {"at": {"opus": at, "walloc-audio": ours}}}
    speed = {
        "as it is": {"walloc-audio": {"encode_against_opus": 3.21, "decode_against_opus": 0.0123}},
        "at 48 kHz": {"walloc-audio": {"encode_against_opus": 2.0, "decode_against_opus": None}},
    }
    lines = study.page_table({"kinds": kinds, "speed": speed}).splitlines()
    assert lines[2] == "| music, `opus` | - | - | - | - | - |"
    assert lines[3] == "| music, **`walloc-audio`** | 12.3, 4.01 | 13.0, - | - | - | - |"
    assert lines[-3].endswith("| encode, as it is | decode, as it is | encode, at 48 kHz | decode, at 48 kHz |")
    assert lines[-1] == "| **`walloc-audio`** | 3.2 x | 0.012 x | 2 x | - |"


def test_a_codec_that_is_not_there_is_named_at_once(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no codec 'opsu': did you mean 'opus'"):
        study.main(["--data", str(clips), "--out", str(tmp_path), "--codecs", "opsu"])


@pytest.mark.skipif(
    not (ROOT / "eval" / "results" / "walloc-audio" / "rates.json").exists(), reason="only in a checkout with results"
)
def test_the_page_has_the_results() -> None:
    about = json.loads((ROOT / "eval" / "results" / "walloc-audio" / "rates.json").read_text(encoding="utf-8"))
    assert study.page_table(about) in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
