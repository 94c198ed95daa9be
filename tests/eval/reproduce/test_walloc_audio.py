"""The recipe of sound: what stands in for MUSDB18-HQ, which of its files are mixes, and what isn't measured here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.errors import UsageError
from codec.eval.reproduce import run as reproducing

RECIPE = """
title: A test
source: nobody
scale: two short sounds
data: audio/musdb18-hq
items: 262
instead: audio/sounds
only: ["*mixture.wav", "music-*"]
codecs: opus:kbps=24+48+96
metrics: [psnr, snr]
claims:
  - {what: psnr, paper: 39.02, unit: dB, mark: made up, codec: opus, value: psnr, at: 60}
  - {what: out of reach, paper: 50, unit: dB, mark: made up, codec: opus, value: psnr, at: 900}
  - {what: ssdr, paper: 33.26, unit: dB, mark: made up, codec: opus, value: "", note: no package}
  - {what: speed, paper: 130, unit: x, mark: made up, codec: opus, setting: 48, value: encode_realtime}
"""


def write(path: Path, seconds: float = 1.0) -> None:
    t = np.arange(round(48_000 * seconds)) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * (300 * t + 900 * t * t))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([tone, 0.5 * tone], axis=1), 48_000)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> reproducing.ReproduceRecipe:
    monkeypatch.setenv("CODEC_DATA", str(tmp_path / "data"))
    (tmp_path / "r.yaml").write_text(RECIPE)
    return reproducing.load(tmp_path / "r.yaml")


def test_what_stands_in_is_measured_and_said(recipe: reproducing.ReproduceRecipe, tmp_path: Path) -> None:
    write(tmp_path / "data" / "audio" / "sounds" / "music-a" / "x.flac")
    write(tmp_path / "data" / "audio" / "sounds" / "speech-a" / "y.flac")
    result = reproducing.run(recipe, out=tmp_path / "out", repeat=1)
    assert result.table.items == ("music-a/x.flac",)
    assert result.stands_in and not result.same_data and result.holds
    psnr, far, ssdr, speed = result.ours
    assert psnr is not None and 30 < psnr < 90 and far is None and ssdr is None
    assert speed == result.table.points("opus")[1].encode_realtime
    text = reproducing.text(result)
    assert "measured on 1 items of 'sounds'" in text
    assert "NOT the paper's data (262 items of 'musdb18-hq')" in text
    assert "- ssdr: no package" in text
    assert str(tmp_path) not in json.dumps(result.as_json())
    assert (tmp_path / "out" / "report.html").read_text().count("<audio controls") == 2
    rows = (tmp_path / "out" / "rows.csv").read_bytes()
    reproducing.run(recipe, out=tmp_path / "out", repeat=1)
    assert (tmp_path / "out" / "rows.csv").read_bytes() == rows, "measured again"


def test_of_musdb_the_mixes_are_measured(recipe: reproducing.ReproduceRecipe, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "audio" / "musdb18-hq"
    for track in ("One - A", "Two - B"):
        for part in ("mixture", "vocals"):
            write(folder / "test" / track / f"{part}.wav", 0.5 if part == "mixture" else 0.6)
    result = reproducing.run(recipe, out=tmp_path / "out", repeat=1)
    assert result.table.items == ("test/One - A/mixture.wav", "test/Two - B/mixture.wav")
    assert result.table.settings["data"]["name"] == "musdb18-hq"
    assert not result.stands_in and not result.same_data, "two mixes aren't 262 segments"
    assert not result.holds
    given = reproducing.run(recipe, folder / "test" / "One - A", tmp_path / "other", repeat=1)
    assert given.table.items == ("mixture.wav",)


def test_any_other_folder_is_measured_whole(recipe: reproducing.ReproduceRecipe, tmp_path: Path) -> None:
    write(tmp_path / "mine" / "x.wav")
    write(tmp_path / "mine" / "y.flac")
    result = reproducing.run(recipe, tmp_path / "mine", tmp_path / "out", repeat=1)
    assert result.table.items == ("x.wav", "y.flac") and not result.holds
    with pytest.raises(UsageError, match="holds audio/sounds"):
        reproducing.run(recipe, out=tmp_path / "out")


def test_the_shipped_recipe_says_what_cannot_be_compared() -> None:
    shipped = reproducing.load("walloc-audio")
    assert shipped.instead == "audio/test" and shipped.only[0] == "*mixture.wav"
    silent = [claim for claim in shipped.claims if not claim.value]
    assert {claim.paper for claim in silent} == {33.26, 13.9, 22.52, 8.06, 41.1, 36.6}
    assert all(claim.note for claim in silent), "why there is no number of ours"
    assert {claim.at for claim in shipped.claims if claim.at} == {66.2, 18.5}
