"""`codec train walloc-audio` on a tiny recipe: it learns, changes phase, resumes, and exports a model that decodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from codec.codecs.base import weights
from codec.codecs.walloc.audio.packets import PacketConfig
from codec.codecs.walloc.audio.packets_model import PacketModel
from codec.codecs.walloc.audio.packets_network import PacketNet
from codec.errors import MediaError, UsageError
from codec.train import run as training
from codec.train.checkpoints import fill_task
from codec.train.settings import fill
from codec.train.walloc_audio import SoundRecipe, WallocAudioTask, measure, si_sdr
from codec.train.walloc_audio_start import initialise

SMALL: dict[str, Any] = {
    "levels": 4,
    "latent": 12,
    "latent_bits": 10,
    "decoder": "small",
    "width": 8,
    "blocks": 1,
    "kernel": 3,
    "post_taps": 9,
    "rate": 8000,
}
RECIPE: dict[str, Any] = {
    "steps": 16,
    "batch": 4,
    "crop": 2048,
    "lr": 1e-3,
    "warmup": 2,
    "hard_from": 0.5,
    "ema": 0.9,
    "initial_crops": 12,
    "initial_steps": 40,
    "initial_kbps": 20.0,
    "level": [0, 0],
}


def melody(n: int, seed: int, rate: int = 8000) -> np.ndarray:
    """Decaying tones of random pitch, (n, 2) float32, a little to the left."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / rate
    x = sum(
        np.sin(2 * np.pi * rng.uniform(60, 900) * t) * np.exp(-6 * np.maximum(t - start, 0)) * (t > start)
        for start in np.arange(0, n / rate, 0.1)
    )
    x = x / np.abs(x).max() * 0.5 + 1e-3 * rng.standard_normal(n)
    return np.stack([x, 0.7 * x + 1e-3 * rng.standard_normal(n)], 1).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "music").mkdir()
    (folder / "speech-digits-8k").mkdir()
    for index, suffix in enumerate(["wav", "flac", "ogg"]):
        soundfile.write(folder / "music" / f"{index}.{suffix}", melody(9000, index), 8000)
    soundfile.write(folder / "music" / "mono.wav", melody(9000, 7, 16000)[:, 0], 16000)
    (folder / "speech-digits-8k" / "left-out.wav").write_bytes(b"not a recording")
    return folder


def write_recipe(path: Path, model: Mapping[str, Any] = SMALL, **recipe: Any) -> str:
    settings = {"tag": "tiny", "gain16": [-16, 16], "model": dict(model), "recipe": {**RECIPE, **recipe}}
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recipe = write_recipe(folder / "tiny.yaml")
    return training.main("walloc-audio", recipe, recordings, folder, device="cpu", licence="MIT")


def task_of(folder: Path, steps: int = 16) -> WallocAudioTask:
    recipe = fill(SoundRecipe, {**RECIPE, "steps": steps}, "recipe")
    task = WallocAudioTask(fill(PacketConfig, SMALL, "model"), recipe, "tiny", (-16, 16))
    fill_task(task, folder / "last.ckpt")
    return task


def test_start_and_log(finished: Path) -> None:
    rows = rows_of(finished)
    assert [row["step"] for row in rows] == [0, 16]
    assert rows[0]["kbps"] == pytest.approx(20, rel=0.1)
    assert rows[0]["kept_db"] > 8


def test_the_exported_model_decodes(finished: Path) -> None:
    path = finished / "walloc-audio-tiny.safetensors"
    model = PacketModel.read(path)
    assert model.gain16 == (-16, 16)
    x = melody(6000, 50)
    ratios = []
    for gain16 in (-16, 0, 16):
        y = model.samples(model.latents(x, gain16), gain16, len(x)) / 2**23
        ratios.append(si_sdr(torch.from_numpy(x), torch.from_numpy(y)))
    assert ratios == sorted(ratios)
    assert ratios[1] > 8
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert (manifest["codec"], manifest["tag"], manifest["steps"]) == ("walloc-audio", "tiny", 16)
    assert (manifest["recipe"], manifest["licence"]) == ("walloc-audio/tiny", "MIT")
    assert manifest["sha256"] == weights.load_tensors(path).sha256


def test_it_exports_the_average_and_measures_as_the_integers_do(finished: Path) -> None:
    task = task_of(finished)
    assert task.step == 16
    sounds = [torch.from_numpy(melody(6000, 50).T.copy())]
    kbps, ratio = measure(task.ema, sounds, 0)
    model = PacketModel.read(finished / "walloc-audio-tiny.safetensors")
    y = model.samples(model.latents(sounds[0].T.numpy(), 0), 0, 6000) / 2**23
    assert si_sdr(sounds[0], torch.from_numpy(y.T.copy())) == pytest.approx(ratio, abs=0.05)
    assert 3 < kbps < 60
    assert measure(task.ema, sounds, 16)[0] > kbps
    assert not torch.equal(task.ema.encoder.weight, task.net.encoder.weight)


def test_it_learns_and_freezes_the_encoder(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = torch.from_numpy(np.stack([melody(4096, seed).T for seed in range(4)]))
    seen: list[tuple[float, bool, torch.Tensor]] = []
    step = WallocAudioTask.training_step

    def watched(self: WallocAudioTask, crops: torch.Tensor, batch_index: int) -> torch.Tensor:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)  # the same gains and the same noise each time
            loss = float(self.loss(batch).total)
        seen.append((loss, self.hard, self.net.encoder.weight.detach().clone()))
        return step(self, crops, batch_index)

    monkeypatch.setattr(WallocAudioTask, "training_step", watched)
    recipe = write_recipe(tmp_path / "a.yaml", steps=40, hard_from=0.75, lr=3e-3)
    training.main("walloc-audio", recipe, recordings, tmp_path, device="cpu")
    losses = [loss for loss, _, _ in seen]
    assert losses[29] < losses[0] - 0.01
    assert [hard for _, hard, _ in seen] == [False] * 31 + [True] * 9  # the look comes before the phase's first step
    assert torch.equal(seen[31][2], seen[39][2])
    assert not torch.equal(seen[0][2], seen[30][2])


def test_resuming(finished: Path, recordings: Path, tmp_path: Path) -> None:
    copy = tmp_path / finished.name
    copy.mkdir()
    for file in finished.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    recipe = write_recipe(tmp_path / "b.yaml", steps=20)
    training.main("walloc-audio", recipe, recordings, tmp_path, device="cpu", resume=True)
    assert [row["step"] for row in rows_of(copy)] == [0, 16, 20]
    before, after = task_of(finished), task_of(copy, 20)
    assert after.step == 20
    assert torch.equal(before.distortion, after.distortion)
    assert float(after.distortion) != RECIPE.get("distortion", 0.7)  # it was chosen with the start
    assert torch.equal(before.net.encoder.weight, after.net.encoder.weight)  # frozen from step 8 on
    assert not torch.equal(before.net.decoder.first.weight, after.net.decoder.first.weight)  # type: ignore[union-attr]


def test_a_run_from_another_ones_checkpoint(finished: Path, recordings: Path, tmp_path: Path) -> None:
    """Its averaged encoder and linear decoder are taken; the residual network, of another width, begins at zero."""
    recipe = write_recipe(
        tmp_path / "c.yaml", {**SMALL, "width": 4}, steps=2, hard_from=0, start=str(finished / "last.ckpt")
    )
    folder = training.main("walloc-audio", recipe, recordings, tmp_path, device="cpu")
    before, after = task_of(finished), PacketModel.read(folder / "walloc-audio-tiny.safetensors")
    assert after.config.width == 4
    np.testing.assert_array_equal(after.weights.arrays["encoder.weight"], before.ema.encoder.weight[..., 0].numpy())
    missing = write_recipe(tmp_path / "d.yaml", start=str(tmp_path / "nosuch.ckpt"))
    with pytest.raises(UsageError, match=r"nosuch\.ckpt can't be read"):
        training.main("walloc-audio", missing, recordings, tmp_path / "d", device="cpu")
    other = write_recipe(tmp_path / "e.yaml", {**SMALL, "latent": 9}, start=str(finished / "last.ckpt"))
    with pytest.raises(UsageError, match="doesn't fit this model"):
        training.main("walloc-audio", other, recordings, tmp_path / "e", device="cpu")


def test_spectral_terms_count(recordings: Path) -> None:
    batch = torch.from_numpy(np.stack([melody(4096, seed).T for seed in (1, 2)]))
    losses = {}
    for name, term in {"none": {}, "stft": {"stft": 0.5}, "mel": {"mel": 0.5}}.items():
        task = WallocAudioTask(fill(PacketConfig, SMALL, "m"), fill(SoundRecipe, {**RECIPE, **term}, "r"))
        task.net.load_state_dict(seeded(task.net))
        torch.manual_seed(0)
        losses[name] = float(task.loss(batch).total.detach())
    assert losses["stft"] > losses["none"] + 0.01
    assert losses["mel"] > losses["none"] + 0.01


def seeded(net: PacketNet) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return PacketNet(net.config).state_dict()


def test_the_papers_loss_and_export(recordings: Path, tmp_path: Path) -> None:
    model = {"levels": 4, "latent": 6, "width": 12, "post_taps": 9, "rate": 8000}
    recipe = write_recipe(tmp_path / "p.yaml", model, steps=3, loss="log10", spread=0.01)
    folder = training.main("walloc-audio", recipe, recordings, tmp_path, device="cpu")
    exported = PacketModel.read(folder / "walloc-audio-tiny.safetensors")
    assert not exported.exact
    assert exported.latents(melody(1000, 1), 0).shape == (6, 65)
    recipe = write_recipe(tmp_path / "q.yaml", model)
    with pytest.raises(UsageError, match="loss: log10"):
        training.main("walloc-audio", recipe, recordings, tmp_path / "q", device="cpu")


def test_the_start_decodes_better_than_silence() -> None:
    torch.manual_seed(4)
    net = PacketNet(fill(PacketConfig, SMALL, "model"))
    sounds = torch.from_numpy(np.stack([melody(2048, seed).T for seed in range(8)]))
    about = initialise(net, sounds, 30.0, 40)
    assert about["kbps"] == pytest.approx(30, rel=0.1)
    assert measure(net, list(sounds), 0)[1] > 10
    loud, quiet = (measure(net, [part * factor for part in sounds], 0)[1] for factor in (1.0, 0.1))
    assert loud > quiet  # the same step for both


def test_si_sdr() -> None:
    x = torch.randn(2, 5000)
    noise = torch.randn(2, 5000)
    assert si_sdr(x, 3 * (x + 0.1 * noise)) == pytest.approx(20, abs=0.5)
    assert si_sdr(x, 2 * x) > 100


def test_refusals(recordings: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "tiny.yaml", without=[])
    with pytest.raises(MediaError, match=r"left-out\.wav: not sound"):
        training.main("walloc-audio", recipe, recordings, tmp_path / "a", device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="no recordings"):
        training.main("walloc-audio", recipe, tmp_path / "empty", tmp_path / "b", device="cpu")


@pytest.mark.parametrize("path", sorted((training.RECIPES / "walloc-audio").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    assert {"tag", "model", "recipe"} <= set(settings) <= {"tag", "gain16", "model", "recipe", "nominal", "data"}
    config = fill(PacketConfig, settings["model"], "model")
    recipe = fill(SoundRecipe, settings["recipe"], "recipe")
    assert (config.decoder == "small") == (recipe.loss == "rate")
    assert recipe.crop % config.frame == 0
    assert training.recipe_path("walloc-audio", path.stem) == path
