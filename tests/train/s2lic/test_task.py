"""`codec train s2lic` on a tiny recipe: it learns, decays, changes phase, stops, resumes, and exports what works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from codec.codecs.base import weights
from codec.codecs.s2lic.codec import S2licCodec
from codec.codecs.s2lic.config import S2licConfig, S2licPaperConfig
from codec.codecs.s2lic.torch_model import network_of
from codec.codecs.s2lic.weights import Config
from codec.entropy.exact import FixedPoint
from codec.errors import UsageError
from codec.train import run as training
from codec.train.checkpoints import checkpoint_to_resume, fill_task
from codec.train.fit import Watch, save
from codec.train.photos import middle
from codec.train.s2lic.run import check_settings
from codec.train.s2lic.start import start_from
from codec.train.s2lic.task import S2licRecipe, S2licTask, estimate, ms_ssim_distortion, smallest_crop
from codec.train.settings import fill

ORIGINAL = Watch.on_train_batch_end
ROOT = Path(__file__).resolve().parents[3]
MODEL: dict[str, Any] = {
    "latent": 24,
    "slices": [8, 16],
    "hyper": 8,
    "features": 8,
    "analysis_width": [8, 8, 8],
    "analysis_blocks": [1, 1, 1],
    "synthesis_width": [8, 8, 8],
    "synthesis_blocks": [1, 1, 1],
    "heads": 2,
    "context": 8,
    "hidden": 8,
    "refine": 8,
    "knots": 3,
}
RECIPE: dict[str, Any] = {
    "steps": 24,
    "decay_from": 12,
    "hard_from": 18,
    "batch": 2,
    "lr": 3e-3,
    "warmup": 4,
    "initial_pictures": 8,
    "bf16": False,
}


PAPER: dict[str, Any] = {
    "width": 16,
    "latent": 32,
    "slices": 2,
    "depths": [1, 1, 1],
    "heads": [2, 2, 4],
    "enhance": 4,
    "max_keys": 20,
    "knots": 3,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(ROOT / "samples" / "dog.png") as image:
        image.convert("RGB").crop((100, 100, 356, 356)).save(folder / "dog.png")
    return folder


def recipe_file(folder: Path, model: dict[str, Any] = MODEL, network: str = "small", **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    settings = {"tag": "tiny", "network": network, "model": model, "recipe": {**RECIPE, **changes}}
    path.write_text(yaml.safe_dump(settings))
    return path


def run(out: Path, data: Path, resume: bool = False, **changes: Any) -> tuple[Path, list[dict[str, float]]]:
    out.mkdir(exist_ok=True)
    folder = training.main(
        "s2lic", str(recipe_file(out, **changes)), data=data, out=out / "runs", resume=resume, device="cpu"
    )
    return folder, [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return run(tmp_path_factory.mktemp("run"), data)[0]


def parameters(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def test_exports_a_codec_that_works(finished: Path, data: Path) -> None:
    (manifest,) = weights.manifests("s2lic", finished)
    assert (manifest.tag, manifest.steps) == ("tiny", 24)
    codec = S2licCodec.from_weights(None, None, manifest.path, "cpu")
    with Image.open(data / "dog.png") as image:
        pixels = np.asarray(image)
    out = codec.decompress(codec.compress(pixels, 90))
    assert float(np.mean((out.astype(float) - pixels) ** 2)) < 255**2 * 10**-2.4


def test_last_is_from_before_the_decay(finished: Path) -> None:
    last, decay = (torch.load(finished / f"{name}.ckpt", weights_only=True) for name in ("last", "decay"))
    assert (last["global_step"], decay["global_step"]) == (12, 24)
    assert (last["phases"], decay["phases"]) == ([], ["hard"])
    assert not list(finished.glob("*.part"))


def test_learning_rate() -> None:
    task = S2licTask(S2licConfig(**MODEL), S2licRecipe(**RECIPE))
    factor = task.schedule.factor
    assert [factor(step) for step in (0, 3, 4, 12, 18, 24, 99)] == [0.25, 1, 1, 1, 0.5, 0, 0]


def test_a_resumed_run_is_the_same_run(finished: Path, data: Path, tmp_path: Path) -> None:
    """Stopped in the decay, after the phases have changed and before."""
    for stop in (8, 20):

        class Stop(Exception):
            pass

        def stopping(self: Watch, trainer: Any, *rest: Any, stop: int = stop) -> None:
            ORIGINAL(self, trainer, *rest)
            if trainer.global_step == stop:
                save(trainer, self.progress.folder / ("last.ckpt" if stop <= 12 else "decay.ckpt"))
                raise Stop

        out = tmp_path / str(stop)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Watch, "on_train_batch_end", stopping)
            with pytest.raises(Stop):
                run(out, data)
        folder, _ = run(out, data, resume=True)
        expected, found = parameters(finished / "decay.ckpt"), parameters(folder / "decay.ckpt")
        assert expected.keys() == found.keys()
        assert not [name for name in expected if not torch.equal(expected[name], found[name])]


def test_a_resumed_run_takes_the_recipes_learning_rate(finished: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent, tmp_path / "runs")
    longer = {"steps": 14, "decay_from": 13, "hard_from": 14, "lr": 7e-4}
    folder, _ = run(tmp_path, data, resume=True, **longer)
    groups = torch.load(folder / "decay.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == [0, 0, 0, 0]
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["global_step"] == 13
    # the paths of the two runs part with the first step
    assert [g["lr"] for g in last["optimizer_states"][0]["param_groups"]] == pytest.approx([7e-4, 7e-5, 2.1e-3, 7e-5])


def test_a_longer_run_goes_on_from_before_the_decay(finished: Path) -> None:
    same = S2licTask(S2licConfig(**MODEL), S2licRecipe(**RECIPE))
    assert checkpoint_to_resume(same, finished) == finished / "decay.ckpt"
    longer = S2licTask(same.config, S2licRecipe(**{**RECIPE, "steps": 50, "decay_from": 40}))
    assert checkpoint_to_resume(longer, finished) == finished / "last.ckpt"
    assert checkpoint_to_resume(same, finished.parent) is None


def test_it_learns(data: Path, tmp_path: Path) -> None:
    picture = torch.from_numpy(np.asarray(Image.open(data / "dog.png")).copy()).permute(2, 0, 1)

    def loss(path: Path) -> float:
        task = S2licTask(S2licConfig(**{**MODEL, "slices": (8, 16)}), S2licRecipe(**RECIPE))
        fill_task(task, path)
        return estimate(task.net, [picture], (0.5,))["val_loss_0.5"]

    changes = {"steps": 80, "decay_from": 70, "hard_from": 80, "lr": 4e-3}
    folder, rows = run(tmp_path, data, **changes)
    assert [row["step"] for row in rows] == [0, 80]
    first = S2licTask(S2licConfig(**{**MODEL, "slices": (8, 16)}), S2licRecipe(**RECIPE))
    assert loss(folder / "decay.ckpt") < 0.8 * estimate(first.net, [picture], (0.5,))["val_loss_0.5"]


def test_twins_in_the_last_phase(finished: Path) -> None:
    task = S2licTask(S2licConfig(**{**MODEL, "slices": (8, 16)}), S2licRecipe(**RECIPE))
    fill_task(task, finished / "decay.ckpt")
    assert {part.mode for part in task.modules() if isinstance(part, FixedPoint)} == {"twin"}
    assert {part.bits for part in task.net.synthesis.modules() if isinstance(part, FixedPoint)} == {8, 9, 10, 11, 20}


def test_errors_for_people(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown setting"):
        run(tmp_path, data, stepz=3)
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump({"tag": "x", "network": "huge", "model": {}, "recipe": RECIPE}))
    with pytest.raises(UsageError, match="huge"):
        training.main("s2lic", str(path), data=data, out=tmp_path / "x", device="cpu")
    small = S2licRecipe(**{**RECIPE, "crop": 512})
    assert small.crop == 512
    with pytest.raises(UsageError, match="at least 512"):
        run(tmp_path / "y", data, crop=512)


SHIPPED = sorted(path.stem for path in (training.RECIPES / "s2lic").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED or ["none"])
def test_shipped_recipes_are_valid(name: str) -> None:
    _, recipe = check_settings(yaml.safe_load(training.recipe_path("s2lic", name).read_text()))
    assert recipe.decay_from < recipe.steps
    assert recipe.decay_from <= recipe.hard_from


def test_middle() -> None:
    x = torch.arange(3 * 10 * 8).reshape(3, 10, 8)
    assert torch.equal(middle(x, 4), x[:, 3:7, 2:6])
    assert torch.equal(middle(x, 20), x)


def test_structure_lost_is_what_the_metric_says(data: Path) -> None:
    from codec.eval.metrics.images import ms_ssim_rgb

    picture = np.asarray(Image.open(data / "dog.png"))
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 12, picture.shape), 0, 255).round().astype(np.uint8)
    x, x_hat = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 255 for p in (picture, noisy))
    lost = ms_ssim_distortion(x_hat.requires_grad_(), x)
    assert lost.shape == (1,)
    assert float(lost.detach()) == pytest.approx(1 - ms_ssim_rgb(picture, noisy), abs=1e-4)
    lost.sum().backward()
    assert x_hat.grad is not None and float(x_hat.grad.abs().sum()) > 0


def test_ms_ssim_from_another_run(finished: Path, data: Path, tmp_path: Path) -> None:
    changes = {"steps": 3, "decay_from": 3, "hard_from": 3, "crop": 256, "distortion": "ms-ssim"}
    folder, _ = run(tmp_path, data, **changes, lr=1e-9, ema=0.0, start=str(finished / "decay.ckpt"))
    before, after = parameters(finished / "decay.ckpt"), parameters(folder / "last.ckpt")
    name = "net.synthesis.linear.layer.conv.weight"
    assert torch.allclose(after[name], before[name.replace("net.", "ema.", 1)], atol=1e-6)
    assert not torch.equal(after[name], before[name.replace("net.", "ema.", 1)])
    for where, said in ((folder, "ms-ssim"), (finished, "mse")):
        codec = S2licCodec.from_weights(None, None, weights.manifests("s2lic", where)[0].path, "cpu")
        assert codec.model.distortion == said
    with pytest.raises(UsageError, match="trained for ms-ssim"):
        S2licCodec.from_weights(None, None, weights.manifests("s2lic", folder)[0].path, "cpu").with_settings(effort=1)


def test_starts_from_a_weights_file(
    finished: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that shipped weights can be trained further, from anywhere; their grids come along."""
    monkeypatch.chdir(tmp_path)
    task = S2licTask(S2licConfig(**{**MODEL, "slices": (8, 16)}), S2licRecipe(**RECIPE))
    start_from(task, finished / "s2lic-tiny.safetensors")
    expected = parameters(finished / "decay.ckpt")
    weight = task.net.get_parameter("slices.1.first1.layer.conv.weight")
    # the file holds kernels rounded to their grids
    assert torch.allclose(weight, expected["ema.slices.1.first1.layer.conv.weight"], atol=2e-4)
    exponent = task.net.get_buffer("slices.1.first1.input.exponent")
    assert int(exponent) == int(expected["ema.slices.1.first1.input.exponent"])
    with pytest.raises(UsageError, match="doesn't fit this model"):  # found, though nothing of the name is here
        start_from(task, Path("weights/s2lic-small.safetensors"))
    start = str(finished / "s2lic-tiny.safetensors")
    rows = run(tmp_path, data, steps=2, decay_from=2, hard_from=2, start=start)[1]
    assert rows[-1]["step"] == 2


def test_an_interrupted_run_keeps_its_last_step(data: Path, tmp_path: Path) -> None:
    def stopping(self: Watch, trainer: Any, *rest: Any) -> None:
        ORIGINAL(self, trainer, *rest)
        if trainer.global_step == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "on_train_batch_end", stopping)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(tmp_path, data)
    assert torch.load(tmp_path / "runs" / "s2lic-tiny" / "last.ckpt", weights_only=True)["global_step"] == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distortion": "ms-ssim"}, "176 pixels or more.*multiples of 128.*`crop: 256`"),
        ({"distortion": "ms-ssim", "crop": 176}, "176 pixels or more.*multiples of 128.*`crop: 256`"),
        ({"crop": 64}, "multiples of 128: take `crop: 128`"),
        ({"crop": 130}, "multiples of 128: take `crop: 256`"),
        ({"network": "paper", "model": {}, "crop": 100}, "'paper' needs multiples of 64: take `crop: 128`"),
        ({"network": "paper", "model": {}, "distortion": "ms-ssim", "crop": 64}, "multiples of 64: take `crop: 192`"),
        ({"model": {**MODEL, "attention": 0}, "crop": 100}, "multiples of 64: take `crop: 128`"),
        ({"distortion": "vmaf"}, "mse, ms-ssim"),
        ({"start": 3}, "name of a file"),
        ({"model": {**MODEL, "anchor_context": "masked-conv"}}, "model: anchor_context.*none, masked_conv"),
        ({"model": {**MODEL, "latent": 10**9}}, "model: latent.*from 1 to 768"),
        ({"model": None}, "model: expected settings"),
        ({"network": ["paper"]}, "there are small, paper"),
        ({"steps": 0}, "recipe: steps.*from 1"),
        ({"batch": -2}, "recipe: batch.*from 1"),
        ({"warmup": 0}, "recipe: warmup.*from 1"),
        ({"crop": "128"}, "recipe: crop.*whole number"),
        ({"lr": "1e-3"}, "recipe: lr is '1e-3'.*1.0e-3"),
        ({"ema": 1.5}, "recipe: ema.*from 0 to 1"),
        ({"clip": float("nan")}, "recipe: clip.*number"),
        ({"graph": True, "scales": 0.75}, "recipe: scales.*list"),
        ({"graph": True, "scales": [0.75, 2]}, "recipe: scales.*from 0 to 1"),
        ({"bf16": "yes"}, "recipe: bf16.*false, true"),
    ],
)
def test_recipes_that_cant_be(data: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(tmp_path, data, **changes)
    assert not (tmp_path / "runs").exists()  # or the next try would have to be a --resume


def test_a_setting_that_is_missing(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({"tag": "x", "model": MODEL, "recipe": {"decay_from": 3, "steps": 3}}))
    with pytest.raises(UsageError, match="recipe: hard_from is missing"):
        training.main("s2lic", str(path), data=data, out=tmp_path / "runs", device="cpu")
    path.write_text(yaml.safe_dump({"tag": "x", "model": MODEL, "recipe": None}))
    with pytest.raises(UsageError, match="recipe: expected settings"):
        training.main("s2lic", str(path), data=data, out=tmp_path / "runs", device="cpu", steps=3)


@pytest.mark.parametrize(
    "config",
    [
        fill(S2licConfig, MODEL, "model"),
        fill(S2licConfig, {**MODEL, "attention": 0}, "model"),
        fill(S2licPaperConfig, PAPER, "model"),
    ],
    ids=["attention", "no attention", "paper"],
)
def test_the_smallest_crop_is_what_the_network_takes(config: Config) -> None:
    net, size = network_of(config).eval(), smallest_crop(config)
    with torch.no_grad():
        for side in (size, 3 * size):
            assert net(torch.rand(1, 3, side, side), torch.tensor([0.5])).x_hat.shape[-1] == side
        with pytest.raises(RuntimeError):
            net(torch.rand(1, 3, size // 2, size // 2), torch.tensor([0.5]))


NO_CHECKPOINTS = {
    "words": b"# Not a checkpoint\n" * 9,
    "empty": b"",
    "pickle": b"cos\nsystem\n(S'true'\ntR.",  # what runs code elsewhere
}


@pytest.fixture(params=[*NO_CHECKPOINTS, "cut", "flipped", "tensor", "other"])
def bad_checkpoint(request: pytest.FixtureRequest, finished: Path, tmp_path: Path) -> Path:
    good, path = (finished / "last.ckpt").read_bytes(), tmp_path / "bad.ckpt"
    if request.param in NO_CHECKPOINTS:
        path.write_bytes(NO_CHECKPOINTS[request.param])
    elif request.param == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif request.param == "flipped":
        place = good.index(b"data.pkl") + 200
        path.write_bytes(good[:place] + bytes(200) + good[place + 200 :])
    else:
        torch.save(torch.zeros(3) if request.param == "tensor" else {"state_dict": {}}, path)
    return path


@pytest.mark.parametrize("graph", [False, True])
def test_a_bad_checkpoint(bad_checkpoint: Path, graph: bool, data: Path, tmp_path: Path) -> None:
    """As `start:` of a recipe, and as what --resume finds: said in words, with what to do."""
    with pytest.raises(UsageError, match="start: .*checkpoint.*name a checkpoint of a run"):
        run(tmp_path / "start", data, start=str(bad_checkpoint), graph=graph)
    folder = tmp_path / "resume" / "runs" / "s2lic-tiny"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(bad_checkpoint.read_bytes())
    with pytest.raises(UsageError, match="last.ckpt.*checkpoint.*delete it, and --resume begins anew"):
        run(tmp_path / "resume", data, resume=True, graph=graph)


def test_a_bad_decay_checkpoint(finished: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "s2lic-tiny"
    shutil.copytree(finished, folder)
    (folder / "decay.ckpt").write_bytes(b"")
    with pytest.raises(UsageError, match="decay.ckpt.*delete it, and --resume goes on from last.ckpt"):
        run(tmp_path, data, resume=True)


@pytest.mark.parametrize("graph", [False, True])
def test_a_checkpoint_of_another_model(graph: bool, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "s2lic-tiny" / "last.ckpt"
    path.parent.mkdir(parents=True)
    other = S2licTask(S2licConfig(**{**MODEL, "features": 16}), S2licRecipe(**RECIPE))
    about = {"global_step": 3, "hard": False, "seconds": 1.0}
    torch.save({"state_dict": other.state_dict(), "optimizer": {}, "optimizer_states": [], **about}, path)
    with pytest.raises(UsageError, match="last.ckpt doesn't fit this model"):
        run(tmp_path, data, resume=True, graph=graph)


def test_a_checkpoint_of_a_graph_is_refused_without_one(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "s2lic-tiny" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": {}, "optimizer": {}, "global_step": 3, "hard": False, "seconds": 1.0}, path)
    with pytest.raises(UsageError, match="is of a run with `graph: true`.*start: "):
        run(tmp_path, data, resume=True)


def test_start_from_weights_that_are_damaged(finished: Path, data: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    found = weights.load_tensors(finished / "s2lic-tiny.safetensors")
    nan = {"gain.values": found.tensors["gain.values"] * float("nan")}
    save_file({**found.tensors, **nan}, tmp_path / "nan.safetensors", dict(found.metadata))
    (tmp_path / "cut.safetensors").write_bytes((finished / "s2lic-tiny.safetensors").read_bytes()[:999])
    for name, words in (("nan", "gain.values in the weights isn't"), ("cut", "not a valid safetensors file")):
        with pytest.raises(UsageError, match=f"start: .*{words}"):
            run(tmp_path / name, data, start=str(tmp_path / f"{name}.safetensors"))


def test_start_of_another_size(finished: Path, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    model = {**MODEL, "features": 16}
    recipe = {**RECIPE, "start": str(finished / "decay.ckpt")}
    path.write_text(yaml.safe_dump({"tag": "wide", "model": model, "recipe": recipe}))
    with pytest.raises(UsageError, match="doesn't fit"):
        training.main("s2lic", str(path), data=data, out=tmp_path, device="cpu")


def test_held_out_pictures_as_files(finished: Path, data: Path) -> None:
    """What validation says of files is what the exported codec makes of them."""
    task = S2licTask(S2licConfig(**{**MODEL, "slices": (8, 16)}), S2licRecipe(**RECIPE))
    fill_task(task, finished / "decay.ckpt")
    pixels = np.asarray(Image.open(data / "dog.png"))
    task.held_out = [torch.from_numpy(pixels.copy()).permute(2, 0, 1)]
    found = task.code()
    (manifest,) = weights.manifests("s2lic", finished)
    codec = S2licCodec.from_weights(None, None, manifest.path, "cpu")
    data_ = codec.compress(pixels, 50.5)
    mse = float(np.mean((codec.decompress(data_).astype(float) - pixels) ** 2))
    assert found["file_bpp_0.5"] == 8 * len(data_) / (256 * 256)
    assert found["file_psnr_0.5"] == pytest.approx(10 * np.log10(255**2 / mse))


def test_tables_are_fitted_at_the_end(data: Path, tmp_path: Path) -> None:
    """Only if the recipe says so; networks stay the same."""
    out, _ = run(tmp_path, data, steps=4, decay_from=2, hard_from=3, table_crops=2)
    plain, _ = run(tmp_path / "plain", data, steps=4, decay_from=2, hard_from=3)
    found = [weights.load_tensors(next(folder.glob("*.safetensors"))).tensors for folder in (out, plain)]
    assert not torch.equal(found[0]["y_tables.counts"], found[1]["y_tables.counts"])
    for name, tensor in found[0].items():
        if "_tables." not in name:
            assert torch.equal(tensor, found[1][name]), name


@pytest.mark.parametrize("graph", [False, True])
def test_the_manifest_is_of_the_weights_that_are_written(graph: bool, data: Path, tmp_path: Path) -> None:
    """At the end of a run held-out pictures are files: of the exported weights, whose tables have been fitted."""
    (tmp_path / "photos").mkdir()
    with Image.open(data / "dog.png") as image:
        for index in range(96):  # of so many, every 48th is held out
            image.crop((index, index, index + 128, index + 128)).save(tmp_path / "photos" / f"{index:02}.png")
    changes = {"steps": 3, "decay_from": 2, "hard_from": 2, "table_crops": 2, "graph": graph}
    folder, rows = run(tmp_path, tmp_path / "photos", **changes)
    (manifest,) = weights.manifests("s2lic", folder)
    assert {name.split("_")[0] for name in manifest.metrics} == {"val", "file"}
    held_out = [np.asarray(Image.open(tmp_path / "photos" / f"{name}.png")) for name in ("00", "48")]
    task = S2licTask(fill(S2licConfig, MODEL, "model"), S2licRecipe(**RECIPE))
    task.held_out = [torch.from_numpy(pixels.copy()).permute(2, 0, 1) for pixels in held_out]
    codec = S2licCodec.from_weights(None, None, manifest.path, "cpu")
    n_bytes = sum(len(codec.compress(pixels, 50.5)) for pixels in held_out)
    assert manifest.metrics["file_bpp_0.5"] == pytest.approx(8 * n_bytes / (2 * 128 * 128))
    assert task.code(manifest.path).items() <= manifest.metrics.items()
    assert rows[-1]["step"] == 3 and rows[-1]["file_bpp_0.5"] == round(manifest.metrics["file_bpp_0.5"], 4)
    # of other tables they would be others
    fill_task(task, folder / ("last.ckpt" if graph else "decay.ckpt"))
    assert task.code()["file_bpp_0.5"] != manifest.metrics["file_bpp_0.5"]


def test_the_network_of_the_paper(data: Path, tmp_path: Path) -> None:
    """Trained, stopped before the decay, resumed, exported, loaded, and a file of it decoded."""
    changes: dict[str, Any] = {"network": "paper", "model": PAPER, "crop": 64}
    folder, rows = run(tmp_path, data, **changes, steps=3, decay_from=2, hard_from=3)
    first = parameters(folder / "last.ckpt")
    assert rows[-1]["step"] == 3
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 2
    folder, rows = run(tmp_path, data, resume=True, **changes, steps=5, decay_from=4, hard_from=5)
    assert rows[-1]["step"] == 5
    last = torch.load(folder / "last.ckpt", weights_only=True)
    name = "net.slices.1.first.0.weight"
    assert last["global_step"] == 4 and not torch.equal(last["state_dict"][name], first[name])
    (manifest,) = weights.manifests("s2lic", folder)
    assert manifest.steps == 5
    codec = S2licCodec.from_weights(None, None, manifest.path, "cpu")
    assert isinstance(codec.model.net.config, S2licPaperConfig)
    exported = codec.model.net.get_parameter("slices.1.first.0.weight")
    assert torch.allclose(
        exported.float(), parameters(folder / "decay.ckpt")[name.replace("net.", "ema.", 1)], atol=1e-3
    )
    with Image.open(data / "dog.png") as image:
        pixels = np.asarray(image.crop((0, 0, 70, 50)))
    out = codec.decompress(codec.compress(pixels, 90))
    assert out.shape == pixels.shape and out.dtype == pixels.dtype


def test_two_processes(data: Path, tmp_path: Path) -> None:
    """`--devices 2`: gradients are averaged, so that both have the same weights; the first one writes, and resumes."""
    recipe = recipe_file(tmp_path, steps=6, decay_from=4, hard_from=5)
    command = [str(Path(sys.executable).parent / "codec"), "train", "s2lic", "--recipe", str(recipe), "--devices", "2"]
    command += ["--data", str(data), "--out", str(tmp_path / "runs"), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "s2lic-tiny"
    assert {path.name for path in folder.iterdir()} == {
        *("decay.ckpt", "last.ckpt", "log.jsonl", "recipe.yaml", "s2lic-tiny.json", "s2lic-tiny.safetensors")
    }
    alone, _ = run(tmp_path / "alone", data, steps=6, decay_from=4, hard_from=5)
    name = "net.hyper_synthesis.first.layer.conv.weight"
    both, one = parameters(folder / "decay.ckpt"), parameters(alone / "decay.ckpt")
    assert not torch.equal(both[name], one[name])  # the other process had crops of its own
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
