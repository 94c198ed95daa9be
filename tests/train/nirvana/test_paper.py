"""The paper's recipe, and that it runs: with fewer steps, a smaller network and one small clip."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from codec import Codec
from codec.codecs.nirvana.paper.fit import PAPER_RECIPE, NirvanaPreset, lambda_of
from codec.codecs.nirvana.paper.network import PAPER
from codec.media.video.values import frames_of
from codec.media.video.writer import VideoWriter
from codec.train import run as training
from codec.train.nirvana.paper import codec_of

from ...codecs.base.toy_video import noise_clip


def test_it_is_the_papers() -> None:
    settings = yaml.safe_load(training.recipe_path("nirvana", "uvg").read_text())
    preset = codec_of(settings, "cpu").preset
    assert isinstance(preset, NirvanaPreset)
    assert preset.config == PAPER
    assert preset.recipe.rates == PAPER_RECIPE.rates
    assert not preset.recipe.decay
    assert (preset.recipe.key_steps, preset.recipe.steps) == (16_000, 2_000)
    a_latent = 1e-3 * 3 * 1920 * 1080 / PAPER.n_latents  # the paper's price of a bit per latent, per pixel
    assert abs(lambda_of(settings["encode"]["quality"]) / a_latent - 1) < 0.01


def test_it_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    info, frames = frames_of(noise_clip(7, 16, 24))
    with VideoWriter(data / "clip.y4m", info) as writer:
        for frame in frames:
            writer.write(frame)
    settings = yaml.safe_load(training.recipe_path("nirvana", "uvg").read_text())
    settings["model"] |= {"width": 8, "channels": 4, "patch": 8}
    settings["recipe"] |= {"key_steps": 20, "steps": 5}
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(settings))
    folder = training.main("nirvana", str(recipe), data=data, out=tmp_path / "runs", device="cpu")
    coded = (folder / "clip.y4m.nirvana").read_bytes()
    assert Codec.load("nirvana").decompress(coded).shape == (7, 16, 24, 3)
    row = json.loads((folder / "results.json").read_text())["videos"]["clip.y4m"]
    assert (row["frames"], row["groups"], row["bytes"]) == (7, 3, len(coded))
    assert training.main("nirvana", str(recipe), data=data, out=tmp_path / "runs", device="cpu", resume=True) == folder
