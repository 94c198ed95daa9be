"""`codec train walloc` on a tiny recipe: it learns, changes phase, stops, resumes, and exports a codec that works."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from codec import Codec
from codec.codecs.base import weights
from codec.codecs.walloc.config import WallocConfig
from codec.datasets.places import find_data
from codec.entropy.exact import ExactConv2d, FixedPoint
from codec.errors import MediaError, UsageError
from codec.train import run as training
from codec.train.settings import fill
from codec.train.walloc import WallocRecipe, WallocTask, snapshot

ROOT = Path(__file__).resolve().parents[2]
MODEL = {
    "levels": 3,
    "latent": 12,
    "decoder": "small",
    "width": 8,
    "blocks": 1,
    "boundary": "symmetric",
    "groups": [3, 3, 3, 3],
    "context_width": 8,
}
RECIPE = {
    "steps": 60,
    "batch": 4,
    "crop": 64,
    "lr": 4e-3,
    "warmup": 5,
    "hard_from": 0.5,
    "initial_pictures": 12,
    "distortion": 0.02,
    "bf16": False,
}


@dataclass
class Seen:
    """What a run did, step by step."""

    steps: list[int] = field(default_factory=list)
    hard: list[bool] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    bpp: list[float] = field(default_factory=list)
    first: dict[str, torch.Tensor] = field(default_factory=dict)
    encoder_when_hard: torch.Tensor | None = None
    task: WallocTask | None = None


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    with Image.open(ROOT / "samples" / "dog.png") as image:
        for index, (x, y) in enumerate([(0, 0), (200, 100), (300, 300), (50, 400)]):
            image.convert("RGB").crop((x, y, x + 160, y + 120)).save(folder / "more" / f"{index}.png")
        image.crop((0, 0, 30, 30)).save(folder / "too-small.png")
    return folder


def write_recipe(path: Path, model: dict[str, Any] | None = None, **recipe: Any) -> str:
    settings = {"tag": "16x", "model": {**MODEL, **(model or {})}, "recipe": {**RECIPE, **recipe}}
    path.write_text(yaml.safe_dump(settings))
    return str(path)


Train = Callable[..., tuple[Path, Seen]]


@pytest.fixture(scope="module")
def train(photos: Path) -> Train:
    """`codec train walloc`, watched."""

    def run(recipe: str, out: Path, **arguments: Any) -> tuple[Path, Seen]:
        seen = Seen()
        step = WallocTask.training_step

        def watched(self: WallocTask, batch: torch.Tensor, batch_index: int) -> torch.Tensor:
            if not seen.steps:
                seen.task = self
                seen.first = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}
            seen.steps.append(self.global_step)
            loss = step(self, batch, batch_index)
            seen.hard.append(self.hard)
            seen.loss.append(float(loss.detach()))
            if self.hard and seen.encoder_when_hard is None:
                seen.encoder_when_hard = self.net.encoder.weight.detach().clone()  # type: ignore[union-attr]
            return loss

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WallocTask, "training_step", watched)
            folder = training.main("walloc", recipe, data=photos, out=out, device="cpu", **arguments)
        return folder, seen

    return run


@pytest.fixture(scope="module")
def finished(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    folder = tmp_path_factory.mktemp("run")
    return train(write_recipe(folder / "tiny.yaml"), folder, training_data="four crops", licence="MIT")


def test_it_learns(finished: tuple[Path, Seen]) -> None:
    _, seen = finished
    assert seen.steps == list(range(60))
    assert np.isfinite(seen.loss).all()
    assert np.mean(seen.loss[-10:]) < 0.85 * np.mean(seen.loss[:10])


def test_phases(finished: tuple[Path, Seen]) -> None:
    """From half of the steps on: rounded latents, fixed encoder, fixed-point twins whose grids fit."""
    _, seen = finished
    assert seen.hard == [False] * 30 + [True] * 30
    task = seen.task
    assert task is not None
    assert torch.equal(task.net.encoder.weight, seen.encoder_when_hard)  # type: ignore[arg-type]
    assert not torch.equal(task.net.encoder.weight, seen.first["encoder.weight"])  # type: ignore[arg-type]
    for net in (task.net, task.ema):
        for name, part in net.named_modules():
            if isinstance(part, (FixedPoint, ExactConv2d)):
                assert part.mode == "twin", name
        learned = [part for part in net.modules() if isinstance(part, FixedPoint) and not part.signed]
        assert all(int(part.exponent) > 0 for part in learned)


def test_average(finished: tuple[Path, Seen]) -> None:
    task = finished[1].task
    assert task is not None
    for name, tensor in task.ema.named_parameters():
        raw = task.net.get_parameter(name).detach()
        assert torch.isfinite(tensor).all(), name
        assert float((tensor - raw).abs().max()) < 0.5 * float(raw.abs().max()) + 1e-2, name
    assert not torch.equal(task.ema.get_parameter("post.phase"), task.net.get_parameter("post.phase"))


def test_what_it_exports_is_a_codec(finished: tuple[Path, Seen], photo: np.ndarray) -> None:
    folder, seen = finished
    assert folder.name == "walloc-16x"
    path = folder / "walloc-16x.safetensors"
    walloc: Any = Codec.load("walloc", weights=path)
    pixels = photo[100:260, 100:261]
    data = walloc.compress(pixels)
    out = walloc.decompress(data)
    psnr = 10 * np.log10(255**2 / np.mean((out.astype(float) - pixels) ** 2))
    assert psnr > 22
    assert 0.1 < 8 * len(data) / (160 * 161) < 1.5
    assert len(walloc.compress(pixels, quality=10)) < len(data)
    # the averaged network, not the last one
    assert seen.task is not None
    state, _, _ = snapshot(seen.task.ema)
    loaded = weights.load_tensors(path)
    assert all(torch.equal(tensor, loaded.tensors[name]) for name, tensor in state.items())

    (manifest,) = weights.manifests("walloc", folder_with(path))
    assert (manifest.tag, manifest.steps, manifest.licence) == ("16x", 60, "MIT")
    assert manifest.id == walloc.weights_id
    assert manifest.training_data == "four crops"
    assert manifest.recipe == "walloc/tiny"
    assert manifest.parameters == sum(p.numel() for p in seen.task.net.parameters())
    assert manifest.seconds >= 0
    assert "CPU" in manifest.device


def folder_with(path: Path) -> Path:
    """Weights and manifest alone, as they would lie in `weights/`."""
    folder = path.parent / "shipped"
    folder.mkdir(exist_ok=True)
    for file in (path, path.with_suffix(".json")):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_what_it_writes(finished: tuple[Path, Seen]) -> None:
    folder, _ = finished
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 50, 60]
    assert {"loss", "bpp", "psnr", "seconds"} <= set(rows[1])
    start = rows[0]
    assert start["bpp"] == pytest.approx(WallocRecipe(steps=1).initial_bpp, abs=0.05)
    assert start["psnr"] > 20
    settings = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert settings["recipe"]["steps"] == 60
    assert (folder / "last.ckpt").exists()


def test_validation_codes_real_files(finished: tuple[Path, Seen], photo: np.ndarray) -> None:
    task = finished[1].task
    assert task is not None
    picture = torch.from_numpy(photo[:128, :128].copy()).permute(2, 0, 1)
    task.held_out = [picture, picture[:, :64]]
    found = task.validate()
    assert found["file_psnr"] > 20
    # A header is a large part of so small a file; after so few steps, escapes are cheaper than the density's far tail.
    assert 0.8 * found["val_bpp"] < found["file_bpp"] < found["val_bpp"] + 8 * 100 / (64 * 128)


class TestResuming:
    @pytest.fixture(scope="class")
    @staticmethod
    def stopped(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
        out = tmp_path_factory.mktemp("stopped")
        return train(write_recipe(out / "a.yaml", steps=10, hard_from=1.0), out)

    @pytest.mark.parametrize("hard_from", [0.6, 0.5])
    def test_goes_on_where_it_stopped(
        self, stopped: tuple[Path, Seen], train: Train, tmp_path: Path, hard_from: float
    ) -> None:
        """At 0.5 of 20 steps the phase changes right after the stop: what the quantisers saw has to survive it."""
        folder, before = stopped
        assert before.steps == list(range(10))
        assert not any(before.hard)
        for file in folder.iterdir():
            copy = tmp_path / "walloc-16x" / file.name
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
        recipe = write_recipe(tmp_path / "b.yaml", steps=20, hard_from=hard_from)
        again, after = train(recipe, tmp_path, resume=True)
        assert after.steps == list(range(10, 20))
        assert after.hard == [step >= 20 * hard_from for step in range(10, 20)]
        assert before.task is not None
        for name, tensor in before.task.net.state_dict().items():
            assert torch.equal(after.first[name], tensor), name
        assert after.task is not None
        learned = [p for p in after.task.net.modules() if isinstance(p, FixedPoint) and not p.signed]
        assert all(int(part.exponent) > 0 for part in learned)
        assert np.mean(after.loss) < np.mean(before.loss[:5])
        assert json.loads((again / "walloc-16x.json").read_text())["steps"] == 20
        assert (again / "recipe-part-1.yaml").read_bytes() == (folder / "recipe.yaml").read_bytes()

    def test_in_the_second_phase(self, finished: tuple[Path, Seen], train: Train, tmp_path: Path) -> None:
        folder, before = finished
        (tmp_path / "walloc-16x").mkdir()
        (tmp_path / "walloc-16x" / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes())
        _, after = train(write_recipe(tmp_path / "b.yaml", steps=64), tmp_path, resume=True)
        assert after.steps == [60, 61, 62, 63]
        assert all(after.hard)
        assert after.task is not None
        assert before.encoder_when_hard is not None
        assert torch.equal(after.task.net.encoder.weight, before.encoder_when_hard)  # type: ignore[arg-type]
        for part in after.task.net.modules():
            if isinstance(part, (FixedPoint, ExactConv2d)):
                assert part.mode == "twin"

    def test_a_folder_is_not_overwritten(self, stopped: tuple[Path, Seen], photos: Path) -> None:
        folder, _ = stopped
        with pytest.raises(UsageError, match="--resume"):
            training.main("walloc", str(folder.parent / "a.yaml"), data=photos, out=folder.parent, device="cpu")


# ---- what it refuses


@pytest.mark.parametrize(("part", "known"), [("model", "latent_bits"), ("recipe", "hard_from")])
def test_unknown_settings(part: str, known: str, photos: Path, tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"model": {"layers": 3}} if part == "model" else {"epochs": 3}
    recipe = write_recipe(tmp_path / "wrong.yaml", **wrong)
    with pytest.raises(UsageError, match=f"{part}: unknown setting (layers|epochs); known are .*{known}"):
        training.main("walloc", recipe, data=photos, out=tmp_path / "out", device="cpu")


def test_missing_things(photos: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "tiny.yaml", crop=400)
    for index, (arguments, error, words) in enumerate(
        [
            (("walloc", "nosuch"), UsageError, "small"),
            (("walloc", str(tmp_path / "nosuch.yaml")), UsageError, "no such recipe file"),
            (("nosuch", recipe), UsageError, "families"),
        ]
    ):
        with pytest.raises(error, match=words):
            training.main(*arguments, data=photos, out=tmp_path / str(index), device="cpu")
    with pytest.raises(UsageError, match="--data"):  # a recipe that names none doesn't train on whatever is found
        training.main("walloc", recipe, out=tmp_path / "a", device="cpu")
    with pytest.raises(UsageError, match="nosuch/folder"):
        find_data("nosuch/folder")
    with pytest.raises(UsageError, match="at least 400"):
        training.main("walloc", recipe, data=photos, out=tmp_path / "b", device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="no pictures"):
        training.main("walloc", recipe, data=tmp_path / "empty", out=tmp_path / "c", device="cpu")


@pytest.mark.parametrize("path", sorted((training.RECIPES / "walloc").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    assert {"tag", "model", "recipe"} <= set(settings) <= {"tag", "model", "recipe", "nominal", "data"}
    config = fill(WallocConfig, settings["model"], "model")
    recipe = fill(WallocRecipe, settings["recipe"], "recipe")
    assert not config.groups or sum(config.groups) == config.latent
    assert recipe.crop % config.stride == 0
    assert 0 < recipe.hard_from < 1
    assert training.recipe_path("walloc", path.stem) == path


def test_batches_depend_on_seed_and_index_only(photos: Path) -> None:
    """So a resumed run sees what it would have seen."""
    from itertools import islice

    from codec.datasets.images import RandomCrops, find_pictures, load_pictures

    pictures = load_pictures(find_pictures(photos), 32)
    whole = list(islice(RandomCrops(pictures, 32, 2, seed=3), 5))
    late = list(islice(RandomCrops(pictures, 32, 2, seed=3, start=3), 2))
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], late, strict=True))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], next(iter(RandomCrops(pictures, 32, 2, seed=4))))
