"""`codec train walloc-lapped` on a few recordings: what it learns saves bits; a run in parts ends as one in one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from codec.codecs.base import weights
from codec.codecs.walloc.audio.blocks import FULL_SCALE
from codec.codecs.walloc.audio.lapped import Format
from codec.codecs.walloc.audio.pieces import PieceCoder, PieceSplitter
from codec.codecs.walloc.audio.weights import LappedModel, read_model
from codec.entropy.mixing.mixer import Mixer
from codec.errors import MediaError
from codec.train import run as training
from codec.train import walloc_lapped

RATE = 8000


def song(n: int, seed: int) -> np.ndarray:
    """A few decaying tones and some hiss, (n, 2) float32."""
    draw = np.random.default_rng(seed)
    t = np.arange(n) / RATE
    x = sum(np.sin(2 * np.pi * draw.uniform(60, 2500) * t) * np.exp(-3 * (t % 0.25)) for _ in range(6))
    return (0.05 * np.stack([x, 0.5 * x], 1) + 1e-3 * draw.standard_normal((n, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(3):
        soundfile.write(folder / f"{seed}.flac", song(12_000, seed), RATE)
    (folder / "left-out").mkdir()
    (folder / "left-out" / "broken.wav").write_bytes(b"not a recording")
    return folder


def run(recordings: Path, folder: Path, resume: bool = False, **recipe: Any) -> Path:
    """The weights that a run of the tiny recipe writes."""
    folder.mkdir(exist_ok=True)
    own = {"seconds": 5, "part": 1, "without": ["left-out"], **recipe}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"tag": "tiny", "model": {}, "recipe": own}))
    training.main("walloc-lapped", str(path), recordings, folder, device="cpu", resume=resume)
    (written,) = folder.rglob("walloc-audio-tiny.safetensors")
    return written


def model_of(path: Path) -> LappedModel:
    model = read_model(weights.load_tensors(path))
    assert isinstance(model, LappedModel)
    return model


def coded_bytes(start: Mixer) -> int:
    """The bytes of a song that no run has heard."""
    coder = PieceCoder.at(Format(RATE, 2, 512), 225, start)
    splitter = PieceSplitter(coder.form)
    x = song(8_000, 77).T.astype(np.float64) * FULL_SCALE
    return sum(len(coder.encode(*piece)) for piece in [*splitter.push(x), *splitter.finish()])


def test_it_learns(recordings: Path, tmp_path: Path) -> None:
    path = run(recordings, tmp_path)
    model = model_of(path)
    assert model.tag == "tiny"
    assert coded_bytes(model.start) < 0.98 * coded_bytes(walloc_lapped._new_mixer())
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert (manifest["codec"], manifest["tag"], manifest["metrics"]) == (
        "walloc-audio",
        "tiny",
        {"seconds_of_sound": 5},
    )
    assert manifest["sha256"] == weights.load_tensors(path).sha256


def test_in_parts(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = run(recordings, tmp_path / "whole").read_bytes()
    monkeypatch.setattr(walloc_lapped, "_SAVED", 0.0)
    learn, calls = walloc_lapped._learn, []

    def interrupted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        learn(*arguments)

    monkeypatch.setattr(walloc_lapped, "_learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recordings, tmp_path / "parts")
    assert run(recordings, tmp_path / "parts", resume=True).read_bytes() == at_once
    assert len(calls) == 6  # three, the one that was cut off, and two of the five again


def test_a_recording_that_cannot_be_read(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"broken\.wav"):
        run(recordings, tmp_path, without=[])
