"""The study of walloc-audio's choices: each way is another stream, curves are compared where both reach, a run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.codecs.base.weights import load_weights
from codec.codecs.walloc.audio.lapped import Format, Tuning
from codec.codecs.walloc.audio.pieces import PieceCoder
from codec.codecs.walloc.audio.weights import LappedModel, read_model
from codec.eval.studies import audio_choices as study
from codec.media.audio.reader import read_audio


def write(path: Path, rate: int, channels: int, seconds: float = 1.2) -> None:
    t = np.arange(round(seconds * rate)) / rate
    x = 0.2 * np.sin(2 * np.pi * (300 * t + 200 * t * t)) * np.exp(-4 * (t % 0.3))
    hiss = np.random.default_rng(3).standard_normal((len(t), channels)) * 0.004
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x[:, None] * np.linspace(1, 0.4, channels) + hiss, rate)


def test_ways_differ(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 22_050, 2)
    audio = read_audio(tmp_path / "a.wav")
    model = read_model(load_weights("walloc-audio", "lapped", None))
    assert isinstance(model, LappedModel)
    seen = set()
    for changes in study.WAYS.values():
        tuning = replace(Tuning.of_base(215), **changes)
        n_bytes, decoded = study.coded(audio, PieceCoder(Format(22_050, 2, 1024), 215, model.start, tuning))
        assert decoded.samples.shape == (2, len(audio.samples))
        error = decoded.samples - audio.to_float().T
        assert float((error**2).mean()) < 0.2 * float((audio.to_float() ** 2).mean())
        seen.add((n_bytes, decoded.samples.tobytes()))
    assert len(seen) == len(study.WAYS)


def test_curves_against_each_other() -> None:
    ships = [(10.0, 5.0, 3.0), (20.0, 8.0, 3.5), (40.0, 11.0, 4.0)]
    same = study.read_off(ships, ships, 20.0)
    assert same == {"si-sdr": 0.0, "visqol": 0.0, "bits": pytest.approx(0.0)}
    twice = study.read_off([(2 * kbps, a, b) for kbps, a, b in ships], ships, 20.0)
    assert twice == {"si-sdr": -3.0, "visqol": -0.5, "bits": pytest.approx(1.0)}
    between = study.read_off([(10.0, 4.0, 3.0), (40.0, 10.0, 4.0)], ships, 20.0)
    assert between["si-sdr"] == pytest.approx(-1.0)
    assert between["bits"] == pytest.approx(math.exp(math.log(10) + 2 / 3 * math.log(4)) / 20 - 1)
    assert study.read_off([(30.0, 9.0, 4.0), (40.0, 12.0, 4.1)], ships, 20.0) == dict.fromkeys(same)


def test_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data" / "music-a" / "song.wav", 16_000, 1)
    monkeypatch.setattr(study, "visqol", lambda original, decoded: 4.0)  # it takes longer than all the rest
    monkeypatch.setattr(study, "BASES", (215, 260))
    monkeypatch.setattr(study, "QUALITIES", (50.0,))
    monkeypatch.setattr(study, "AT", {"music": 12.0})
    monkeypatch.setattr(study, "WAYS", {study.SHIPS: {}, "no noise in holes": {"fill": 0.0}})
    assert study.main(["--data", str(tmp_path / "data"), "--clips", "1", "--out", str(tmp_path / "out.json")]) == 0
    about = json.loads((tmp_path / "out.json").read_text())
    own = about["kinds"]["music"]
    assert (own["clips"], own["kbps"]) == (1, 12.0)
    assert list(own["ways"]) == [study.SHIPS, "no noise in holes", study.UNTAUGHT]
    assert own["ways"][study.UNTAUGHT]["bits"] > 0
    assert 0.5 < own["packets"]["50"] < 1
    assert "no noise in holes: si-sdr +" in capsys.readouterr().out
