"""Training on one device without waiting: its crops are crops, its steps are those of the task, and it resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from codec.codecs.base.weights import load_tensors
from codec.codecs.s2lic.codec import S2licCodec
from codec.codecs.s2lic.config import S2licConfig
from codec.datasets.images import DeviceCrops, smaller
from codec.entropy.exact import ExactConv2d, FixedPoint, set_mode
from codec.errors import MediaError, UsageError
from codec.train import progress
from codec.train import run as training
from codec.train.s2lic import graph
from codec.train.s2lic.graph import GraphSteps, find_peaks
from codec.train.s2lic.start import start_from
from codec.train.s2lic.task import S2licRecipe, S2licTask
from codec.train.settings import fill
from codec.train.task import Loss

from .test_task import MODEL, RECIPE

CPU = torch.device("cpu")
CONFIG = fill(S2licConfig, MODEL, "model")
PLAIN = fill(S2licRecipe, {**RECIPE, "graph": True}, "recipe")


SMALL = {**MODEL, "attention": 0}  # of whole runs: crops of 64 will do


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of four steps, and grids from four batches: whole runs end after a dozen steps."""
    monkeypatch.setattr(GraphSteps, "every", 4)
    monkeypatch.setattr(graph, "LOOKS", 4)


def task_of(recipe: S2licRecipe = PLAIN) -> S2licTask:
    torch.manual_seed(0)
    task = S2licTask(CONFIG, recipe)
    task.net.train()
    return task


def test_every_crop_lies_in_one_of_the_pictures_in_all_eight_symmetries() -> None:
    pictures = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8) for shape in ((9, 13), (8, 8), (30, 8))]
    torch.manual_seed(3)
    crops = DeviceCrops(pictures, 8, (), CPU).draw(300)
    assert crops.shape == (300, 3, 8, 8) and crops.is_contiguous(memory_format=torch.channels_last)
    seen = set()
    known: dict[bytes, tuple[int, int, int, int]] = {}
    for index, picture in enumerate(pictures):
        for top in range(picture.shape[1] - 7):
            for left in range(picture.shape[2] - 7):
                part = picture[:, top : top + 8, left : left + 8]
                for turn in range(8):
                    turned = torch.rot90(part, turn % 4, (1, 2))
                    turned = turned.flip(2) if turn >= 4 else turned
                    known[turned.contiguous().numpy().tobytes()] = (index, top, left, turn)
    for crop in (crops * 255).round().to(torch.uint8):
        seen.add(known[crop.contiguous().numpy().tobytes()])  # KeyError: not a crop
    assert {index for index, *_ in seen} == {0, 1, 2}
    assert {turn for *_, turn in seen} == set(range(8))
    # the far ends, too, are drawn
    assert {top for index, top, *_ in seen if index == 2} >= {0, 22} and {
        left for i, _, left, _ in seen if i == 0
    } == set(range(6))


def test_pictures_are_drawn_by_area() -> None:
    pictures = [torch.full((3, 8, 8), 0, dtype=torch.uint8), torch.full((3, 8, 24), 255, dtype=torch.uint8)]
    torch.manual_seed(1)
    assert DeviceCrops(pictures, 8, (), CPU).draw(2000).mean() == pytest.approx(0.75, abs=0.04)


def test_smaller_pictures_are_added_where_they_are_large_enough() -> None:
    ramp = torch.arange(40, dtype=torch.uint8)[None, None] * 6
    picture = ramp.expand(3, 20, 40).contiguous()
    small = smaller(picture, 0.5)
    assert small.shape == (3, 10, 20) and small.dtype == torch.uint8
    assert (small[0, 5, 2:-2].float() - (ramp[0, 0, ::2].float() + 3)[2:-2]).abs().max() <= 1
    assert DeviceCrops([picture], 10, (0.5, 0.4), CPU).pixels.numel() == 3 * (20 * 40 + 10 * 20)
    with pytest.raises(MediaError, match="no picture"):
        DeviceCrops([], 10, (), CPU)


def test_a_step_is_what_the_task_and_adam_say() -> None:
    """Rates that a graph reads, skipping and sums change nothing: the same weights as after a plain step."""
    picture = torch.randint(0, 256, (3, 140, 150), dtype=torch.uint8)
    task = task_of()
    other = task_of()
    stepper = GraphSteps(task, DeviceCrops([picture], 128, (), CPU))
    task.step = 1  # half of the rate
    task.set_rates(stepper.optimizer)
    torch.manual_seed(5)
    stepper.step()
    optimizer = torch.optim.Adam(other.parameter_groups(), betas=(0.9, 0.99))
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    torch.manual_seed(5)
    loss = other.loss(DeviceCrops([picture], 128, (), CPU).draw(PLAIN.batch))
    loss.total.backward()
    norm = torch.nn.utils.clip_grad_norm_(other.net.parameters(), PLAIN.clip)
    assert norm > PLAIN.clip  # or clipping would not be tested
    optimizer.step()
    for (name, a), b in zip(task.net.named_parameters(), other.net.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-7), name
    found = stepper.means()
    assert found["loss"] == pytest.approx(float(loss.total.detach()), rel=1e-5)
    assert found["bpp"] == pytest.approx(float(loss.metrics["bpp"]), rel=1e-5) and "skipped" not in found


def test_a_step_whose_gradient_is_no_number_is_left_out() -> None:
    task = task_of()
    stepper = GraphSteps(task, DeviceCrops([torch.zeros(3, 140, 140, dtype=torch.uint8)], 128, (), CPU))
    stepper.step()
    before = [p.detach().clone() for p in task.net.parameters()]
    loss = task.loss
    task.loss = lambda batch: Loss(loss(batch).total * float("nan"), loss(batch).metrics)  # type: ignore[method-assign]
    stepper.step()
    assert all(torch.equal(a, b) for a, b in zip(before, task.net.parameters(), strict=True))
    found = stepper.means()
    assert found["skipped"] == 1 and np.isfinite(found["loss"])
    stepper.step()
    assert np.isnan(stepper.means()["loss"])  # nothing but skipped steps: `run` ends with an error


def test_averages_move_as_many_single_moves_would() -> None:
    task = task_of(replace(PLAIN, ema=0.99))
    with torch.no_grad():
        for p in task.net.parameters():
            p.fill_(1.0)
        for p in task.ema.parameters():
            p.fill_(0.0)
    task.step = 100_000
    task.average(20)
    assert float(next(task.ema.parameters()).mean()) == pytest.approx(1 - 0.99**20, rel=1e-4)


def test_peaks_are_found_before_the_twins() -> None:
    task = task_of()
    for part in task.modules():
        if isinstance(part, FixedPoint):
            part.watching = False
    crops = DeviceCrops([torch.randint(0, 256, (3, 140, 140), dtype=torch.uint8)], 128, (), CPU)
    task.loss(crops.draw(2))
    watched = [p for p in task.net.modules() if isinstance(p, FixedPoint) and type(p) is FixedPoint]
    assert not any(float(part.peak) for part in watched)
    find_peaks(task, crops)
    # blocks whose last layer starts at zero have nothing to see yet
    assert sum(float(part.peak) > 0 for part in watched) > len(watched) / 2
    assert not any(part.watching for part in watched)
    set_mode(task.net, "twin")
    assert {part.mode for part in task.net.modules() if isinstance(part, (FixedPoint, ExactConv2d))} == {"twin"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(2)
    for i in range(3):
        y, x = np.mgrid[0:192, 0:160] / 24
        picture = 128 + 60 * np.sin(y + i)[..., None] * np.cos(x * rng.uniform(0.5, 2, 3)[:, None, None]).transpose(
            1, 2, 0
        )
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def recipe_file(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    recipe = {**RECIPE, "graph": True, "scales": [0.85], "crop": 64, **changes}
    path.write_text(yaml.safe_dump({"tag": "tiny", "network": "small", "model": SMALL, "recipe": recipe}))
    return path


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_run_by_steps_learns_stops_and_goes_on(photos: Path, tmp_path: Path) -> None:
    path = recipe_file(tmp_path, steps=12, decay_from=6, hard_from=8)
    folder = training.main("s2lic", str(path), data=photos, out=tmp_path, device="cpu")
    assert rows_of(folder)[-1]["step"] == 12
    manifest = json.loads((folder / "s2lic-tiny.json").read_text())
    assert manifest["steps"] == 12 and manifest["device"].startswith("CPU")
    codec = S2licCodec.from_weights(None, None, folder / "s2lic-tiny.safetensors", "cpu")
    pixels = np.asarray(Image.open(photos / "0.png"))
    assert codec.decompress(codec.compress(pixels, 80)).shape == pixels.shape
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    assert checkpoint["phases"] == ["hard"] and checkpoint["global_step"] == 12
    assert all(float(group["lr"]) < RECIPE["lr"] * 4 * 0.6 for group in checkpoint["optimizer"]["param_groups"])
    # longer: from where it stopped, and the averaged weights begin another run
    path = recipe_file(tmp_path, steps=16, decay_from=14, hard_from=15)
    assert training.main("s2lic", str(path), data=photos, out=tmp_path, resume=True, device="cpu") == folder
    assert rows_of(folder)[-1]["step"] == 16
    task = S2licTask(fill(S2licConfig, SMALL, "model"), PLAIN)
    start_from(task, folder / "last.ckpt")
    saved = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[f"ema.{name}"]) for name, value in task.net.named_parameters())


def test_run_by_the_clock_ends_in_time_and_has_had_its_phases(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on by two seconds with each look, so that no machine is too slow for this test."""
    seconds = iter(range(0, 20_000, 2))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    path = recipe_file(tmp_path, steps=8, decay_from=4, hard_from=4, seconds=8.0)
    folder = training.main("s2lic", str(path), data=photos, out=tmp_path, device="cpu")
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    # one look a round of 4 steps
    assert checkpoint["global_step"] == 16 and 8 <= checkpoint["seconds"] <= 10
    assert checkpoint["phases"] == ["hard"]


def test_an_interrupted_run_keeps_what_it_has(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = GraphSteps.step, iter(range(1000))

    def interrupted(self: GraphSteps) -> None:
        if next(calls) == 6:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(GraphSteps, "step", interrupted)
    path = recipe_file(tmp_path, steps=12, decay_from=10, hard_from=11)
    with pytest.raises(KeyboardInterrupt):
        training.main("s2lic", str(path), data=photos, out=tmp_path, device="cpu")
    assert torch.load(tmp_path / "s2lic-tiny" / "last.ckpt", weights_only=True)["global_step"] == 4
    folder = training.main("s2lic", str(path), data=photos, out=tmp_path, resume=True, device="cpu")
    assert rows_of(folder)[-1]["step"] == 12


def test_a_run_in_parts_gives_the_same_weights(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU: interrupted where the twins begin, killed there, and later; weights so far are written, too."""
    monkeypatch.setattr(S2licTask, "save_seconds", -1.0)
    path = recipe_file(tmp_path, steps=9, decay_from=5, hard_from=4)
    whole = training.main("s2lic", str(path), data=photos, out=tmp_path / "whole", device="cpu")
    expected = load_tensors(whole / "s2lic-tiny.safetensors").tensors
    take = GraphSteps.take
    for stop, error in ((4, KeyboardInterrupt), (4, MemoryError), (8, KeyboardInterrupt)):

        def stopping(self: GraphSteps, count: int, stop: int = stop, error: type[BaseException] = error) -> None:
            if self.task.step == stop:
                raise error
            take(self, count)

        out = tmp_path / f"{stop}-{error.__name__}"
        with monkeypatch.context() as patch:
            patch.setattr(GraphSteps, "take", stopping)
            with pytest.raises(error):
                training.main("s2lic", str(path), data=photos, out=out, device="cpu")
        folder = training.main("s2lic", str(path), data=photos, out=out, resume=True, device="cpu")
        found = load_tensors(folder / "s2lic-tiny.safetensors").tensors
        assert expected.keys() == found.keys()
        assert not [name for name in expected if not torch.equal(expected[name], found[name])], out.name


def test_a_run_that_learns_nothing_any_more_says_so(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = S2licTask.loss

    def broken(self: S2licTask, batch: torch.Tensor) -> Loss:
        loss = original(self, batch)
        return Loss(loss.total * float("nan"), loss.metrics)

    monkeypatch.setattr(S2licTask, "loss", broken)
    monkeypatch.setattr(S2licTask, "log_every", 4)
    monkeypatch.setattr(graph, "LOG_SECONDS", 0.0)
    with pytest.raises(UsageError, match="take a lower `lr`"):
        training.main("s2lic", str(recipe_file(tmp_path)), data=photos, out=tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"graph": False, "scales": [], "seconds": 5.0}, "graph: true"), ({"graph": False}, "graph: true")],
)
def test_settings_that_need_it(photos: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        training.main("s2lic", str(recipe_file(tmp_path, **changes)), data=photos, out=tmp_path / "x", device="cpu")


@pytest.mark.parametrize("family", ["s2lic", "walloc", "zipgan"])
def test_a_device_that_is_not_there_is_said_before_anything_is_made(
    family: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    name = "8x" if family == "zipgan" else "small"
    for device, words in (("cuda", "sees no GPU"), ("tpu", "there are auto, cpu and cuda")):
        with pytest.raises(UsageError, match=words):
            training.main(family, name, data=photos, out=tmp_path / "x", device=device)
    assert not (tmp_path / "x").exists()


def test_a_checkpoint_of_the_other_kind_is_refused(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s2lic-tiny"
    folder.mkdir()
    task = task_of()
    torch.save({"state_dict": task.state_dict(), "global_step": 3, "hard": False}, folder / "last.ckpt")
    with pytest.raises(UsageError, match="without `graph: true`"):
        training.main("s2lic", str(recipe_file(tmp_path)), data=photos, out=tmp_path, resume=True, device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("hard", [False, True])
def test_graph_and_single_launches_agree(hard: bool) -> None:
    picture = torch.randint(0, 256, (3, 140, 150), dtype=torch.uint8)
    losses = []
    for capture in (True, False):
        task = task_of().to("cuda")
        crops = DeviceCrops([picture], 128, (), torch.device("cuda"))
        find_peaks(task, crops)
        if hard:
            task.entered.append("hard")
            task.enter_phase("hard")
        stepper = GraphSteps(task, crops)
        task.rates = [rate * 0.1 for rate in task.rates]
        task.step = RECIPE["warmup"]
        task.set_rates(stepper.optimizer)
        if capture:
            stepper.capture()
        stepper.means()
        for _ in range(40):
            stepper.step()
        losses.append(stepper.means()["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
