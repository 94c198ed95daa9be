"""The base of all training tasks, with a toy network: averages, schedule, phases, resuming, real files, export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from codec.codecs.base import weights
from codec.errors import UsageError
from codec.train import progress, task
from codec.train.checkpoints import load_run, save_run
from codec.train.device_loop import DeviceSteps, run_on_device
from codec.train.fit import Watch, fit
from codec.train.progress import Progress
from codec.train.task import CompressionTask, Loss, Schedule

ABOUT = {"recipe": "toy/toy", "commit": "", "training_data": "noise", "licence": "MIT"}
SCHEDULE = Schedule(steps=12, decay_from=8, warmup=2)


class Batches(IterableDataset[Tensor]):
    """Batch n depends on the seed and n only."""

    def __init__(self, seed: int) -> None:
        self.seed, self.start = seed, 0

    def at(self, index: int) -> Tensor:
        return torch.from_numpy(np.random.default_rng([self.seed, index]).normal(1.0, 1.0, (4, 3))).float()

    def __iter__(self) -> Iterator[Tensor]:
        index = self.start
        while True:
            yield self.at(index)
            index += 1


class ToyCodec:
    """A file is the signs of items minus the weights."""

    def __init__(self, offset: np.ndarray) -> None:
        self.offset = offset

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, path: Path, device: str) -> ToyCodec:
        return cls(load_file(path)["offset"].numpy())

    def compress(self, x: np.ndarray) -> bytes:
        return b"toy" + np.packbits(x > self.offset).tobytes()


class ToyTask(CompressionTask):
    """Learns the mean of noisy batches; in phase "late" without noise, and the second number stays where it is."""

    family, title, default_tag = "toy", "Toy", "small"
    log_every = 4
    codes: list[str]  # what was entered and restored

    def __init__(self, schedule: Schedule = SCHEDULE, tag: str = "small", lr: float = 0.1) -> None:
        torch.manual_seed(0)
        super().__init__(nn.BatchNorm1d(3), schedule, lr, ema=0.9, clip=1.0, seed=5, tag=tag)
        self.codes = []

    def loss(self, batch: Tensor) -> Loss:
        noise = torch.zeros(()) if "late" in self.entered else torch.randn(())
        loss = (self.net(batch) - 2 + noise).square().mean()
        return Loss(loss, {"noise": noise.abs()})

    def phases(self) -> Mapping[str, float]:
        return {"late": 6.0}

    def enter_phase(self, name: str) -> None:
        self.codes.append(f"enter {name} at {self.step}")
        self.net.get_parameter("bias").requires_grad_(False)

    def restore_phase(self, name: str) -> None:
        self.codes.append(f"restore {name}")
        self.net.get_parameter("bias").requires_grad_(False)

    def weights_bytes(self, final: bool = False) -> bytes:
        offset = self.ema.get_parameter("weight").detach() + (100 if final else 0)  # what takes long
        return save({"offset": offset, "mean": self.ema.get_buffer("running_mean").clone()})

    def estimate(self) -> dict[str, float]:
        return {"val_bits": float(self.ema.get_parameter("weight").detach().sum())}

    def code_with(self, codec: Any) -> dict[str, float]:
        n_bytes = [len(codec.compress(item.numpy())) for item in self.held_out]
        return {"file_bytes": float(np.mean(n_bytes)), "file_offset": float(codec.offset[0])}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "load_class", lambda name: {"toy": ToyCodec}[name])


class Stop(Exception):
    pass


class StoppingSteps(DeviceSteps):
    """Ends as by Ctrl-C, or as by an error, once so many steps are taken."""

    def __init__(self, toy: ToyTask, stop: int | None, error: type[BaseException] = KeyboardInterrupt) -> None:
        batches = Batches(toy.seed)
        optimizer = toy.configure_optimizers()
        super().__init__(toy, lambda: batches.at(toy.step), {"optimizer": optimizer})
        self.stop, self.error = stop, error

    def take(self, count: int) -> None:
        if self.task.step == self.stop:
            raise self.error
        super().take(count)


def by_lightning(toy: ToyTask, folder: Path, resume: bool = False, stop: int | None = None) -> None:
    folder.mkdir(exist_ok=True)
    original = Watch.on_train_batch_end

    def stopping(self: Watch, trainer: Any, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == stop:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "on_train_batch_end", stopping)
        try:
            fit(toy, Batches, dict, folder, resume, "cpu", ABOUT)
        except (KeyboardInterrupt, SystemExit):
            assert stop is not None


def on_device(toy: ToyTask, folder: Path, resume: bool = False, stop: int | None = None) -> None:
    folder.mkdir(exist_ok=True)
    try:
        run_on_device(StoppingSteps(toy, stop), Progress(toy, folder, ABOUT), resume)
    except KeyboardInterrupt:
        assert stop is not None


WAYS = pytest.mark.parametrize("run", [by_lightning, on_device])


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# ---- schedule


def test_schedule_by_step() -> None:
    assert [SCHEDULE.factor(step) for step in (0, 1, 2, 8, 10, 12, 99)] == [0.5, 1, 1, 1, 0.5, 0, 0]
    assert [SCHEDULE.is_over(step) for step in (11, 12)] == [False, True]
    assert not SCHEDULE.is_over(11, seconds=1e9)


def test_schedule_with_cosine() -> None:
    schedule = Schedule(steps=110, decay_from=10, warmup=10, decay="cosine", floor=0.001)
    assert [schedule.factor(step) for step in (0, 9)] == [0.1, 1]
    assert [schedule.factor(step) for step in (10, 60, 110)] == pytest.approx([1.001, 0.501, 0.001])


def test_schedule_by_the_clock() -> None:
    by_clock = Schedule(steps=100, decay_from=50, warmup=1, seconds=10.0, steps_count=False)
    assert [by_clock.factor(7, seconds) for seconds in (0, 5, 7.5, 10, 11)] == [1, 1, 0.5, 0, 0]
    assert [by_clock.is_over(1000, seconds) for seconds in (9.9, 10.0)] == [False, True]
    either = Schedule(steps=100, decay_from=50, warmup=1, seconds=10.0)
    assert [either.factor(step, 5.0) for step in (0, 75)] == [1, 0.5]
    assert [either.is_over(*at) for at in ((99, 9.9), (100, 0.0), (0, 10.0))] == [False, True, True]


@WAYS
def test_the_rates_of_the_steps_are_those_of_the_schedule(run: Any, tmp_path: Path) -> None:
    toy, rates = ToyTask(), []
    step = torch.optim.Adam.step

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", watched)
        run(toy, tmp_path / "run")
    assert rates == pytest.approx([0.1 * SCHEDULE.factor(step) for step in range(12)])
    # a resumed run takes those of its recipe
    rates.clear()
    longer = Schedule(steps=14, decay_from=14, warmup=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", watched)
        run(ToyTask(longer, lr=0.01), tmp_path / "run", resume=True)
    assert rates == pytest.approx([0.01, 0.01])


# ---- averages


@pytest.mark.parametrize(("every", "ramp"), [(1, 20), (4, 20), (20, 100)])
def test_averages(every: int, ramp: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many single moves would do, faster in the first steps; buffers are copied."""
    monkeypatch.setattr(ToyTask, "ema_every", every)
    toy = ToyTask()
    toy.ema_decay = 0.999
    weight, average = toy.net.get_parameter("weight"), toy.ema.get_parameter("weight")
    expected = average.detach().double().clone()
    for step in range(1, 201):
        with torch.no_grad():
            weight.fill_(step)
        toy.net.get_buffer("running_mean").fill_(step)
        toy.after_steps(step)
        if step % every == 0:
            decay = min(0.999**every, (step + 1) / (step + ramp))
            expected = decay * expected + (1 - decay) * step
            assert torch.equal(toy.ema.get_buffer("running_mean"), toy.net.get_buffer("running_mean"))
        assert torch.allclose(average.double(), expected, rtol=1e-5)
    assert not average.requires_grad


def test_averages_after_several_steps_at_once() -> None:
    toy = ToyTask()
    with torch.no_grad():
        toy.net.get_parameter("weight").fill_(1.0)
        toy.ema.get_parameter("weight").fill_(0.0)
    toy.step = 100_000
    toy.after_steps(100_020)
    assert float(toy.ema.get_parameter("weight")[0].detach()) == pytest.approx(1 - 0.9**20, rel=1e-5)


# ---- phases and resuming


@WAYS
def test_phases_begin_once_and_are_restored(run: Any, tmp_path: Path) -> None:
    toy = ToyTask()
    run(toy, tmp_path / "run", stop=8)
    assert toy.codes == ["enter late at 6"]
    again = ToyTask()
    run(again, tmp_path / "run", resume=True)
    assert again.codes == ["restore late"] and again.step == 12


def test_phases_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One second a step: phase "late", at half of the steps, begins at half of the seconds."""
    seconds = iter(range(10_000))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    toy = ToyTask(Schedule(steps=12, decay_from=8, warmup=2, seconds=30.0, steps_count=False))
    on_device(toy, tmp_path)
    assert toy.codes == ["enter late at 15"] and toy.step == 30
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (checkpoint["global_step"], checkpoint["seconds"], checkpoint["phases"]) == (30, 30.0, ["late"])


def test_lightning_ends_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10_000))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    toy = ToyTask(Schedule(steps=12, decay_from=8, warmup=2, seconds=9.0, steps_count=False))
    by_lightning(toy, tmp_path / "run")
    assert toy.step == 9 and toy.codes == ["enter late at 5"]


@WAYS
@pytest.mark.parametrize("stop", [3, 6, 9])
def test_a_run_in_parts_gives_the_same_bytes(run: Any, stop: int, tmp_path: Path) -> None:
    """Stopped before the phase, where it begins, and in the decay."""
    run(ToyTask(), tmp_path / "whole")
    run(ToyTask(), tmp_path / "parts", stop=stop)
    assert torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)["global_step"] == stop
    assert not (tmp_path / "parts" / "toy-small.safetensors").exists()
    run(ToyTask(), tmp_path / "parts", resume=True)
    whole_run, parts = ((tmp_path / name / "toy-small.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole_run == parts
    states = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "parts")]
    assert states[0]["state_dict"].keys() == states[1]["state_dict"].keys()
    assert all(torch.equal(states[0]["state_dict"][name], tensor) for name, tensor in states[1]["state_dict"].items())


def test_both_ways_to_run_give_the_same_weights(tmp_path: Path) -> None:
    by_lightning(ToyTask(), tmp_path / "a")
    on_device(ToyTask(), tmp_path / "b")
    first, second = (load_file(tmp_path / name / "toy-small.safetensors") for name in ("a", "b"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_rates_that_a_graph_reads_stay_the_same_tensors(tmp_path: Path) -> None:
    """And all rates are the recipe's, whatever the checkpoint says."""
    toy = ToyTask()
    optimizers = {"optimizer": toy.configure_optimizers()}
    save_run(tmp_path / "last.ckpt", toy, optimizers)
    rate = torch.tensor(0.25)
    optimizers["optimizer"].param_groups[0]["lr"] = rate
    load_run(tmp_path / "last.ckpt", toy, optimizers)
    assert optimizers["optimizer"].param_groups[0]["lr"] is rate and float(rate) == 0.25


@WAYS
def test_a_damaged_checkpoint(run: Any, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="last.ckpt can't be read as a checkpoint.*--resume begins anew"):
        run(ToyTask(), tmp_path, resume=True)


@WAYS
def test_a_checkpoint_of_the_other_way(run: Any, tmp_path: Path) -> None:
    other = on_device if run is by_lightning else by_lightning
    other(ToyTask(), tmp_path / "run", stop=4)
    with pytest.raises(UsageError, match="is of a run with(out)? `graph: true`"):
        run(ToyTask(), tmp_path / "run", resume=True)


def test_the_state_before_the_decay_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyTask, "keeps_undecayed", True)
    by_lightning(ToyTask(), tmp_path / "run")
    steps = {
        path.name: torch.load(path, weights_only=True)["global_step"] for path in (tmp_path / "run").glob("*.ckpt")
    }
    assert steps == {"last.ckpt": 8, "decay.ckpt": 12}
    longer = ToyTask(Schedule(steps=20, decay_from=16, warmup=2))
    by_lightning(longer, tmp_path / "run", resume=True)
    assert rows_of(tmp_path / "run")[-1]["step"] == 20
    # from step 8 on, not from 12
    (tmp_path / "whole").mkdir()
    by_lightning(ToyTask(Schedule(steps=20, decay_from=16, warmup=2)), tmp_path / "whole")
    files = [(tmp_path / name / "toy-small.safetensors").read_bytes() for name in ("run", "whole")]
    assert files[0] == files[1]


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyTask, "loss", lambda self, batch: Loss(self.net(batch).sum() * float("nan")))
    with pytest.raises(UsageError, match="up to step 4: take a lower `lr`"):
        on_device(ToyTask(), tmp_path)


# ---- the log, held-out items, export


@WAYS
def test_log(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of all steps since the row before."""
    noises = []
    loss = ToyTask.loss

    def watched(self: ToyTask, batch: Tensor) -> Loss:
        out = loss(self, batch)
        noises.append(float(out.metrics["noise"]))
        return out

    monkeypatch.setattr(ToyTask, "loss", watched)
    run(ToyTask(), tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows] == [4, 8, 12, 12]
    assert [row["noise"] for row in rows[:3]] == pytest.approx(
        [np.mean(noises[start : start + 4]) for start in (0, 4, 8)], abs=1e-4
    )
    assert {"loss", "seconds"} <= set(rows[0])


@WAYS
def test_held_out_items_are_coded_to_files(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While training with the weights of then, next to the estimate; at the end with those that were written."""
    seconds = iter(range(10_000))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    monkeypatch.setattr(ToyTask, "validate_seconds", 4.0)
    toy = ToyTask()
    toy.held_out = [torch.randn(3), torch.randn(3)]
    run(toy, tmp_path / "run")
    looks = [row for row in rows_of(tmp_path / "run") if "val_bits" in row]
    assert [row["step"] for row in looks] == [5, 10, 12]
    assert all(row["file_bytes"] == 4 for row in looks)
    assert looks[0]["file_offset"] < 50 < looks[-1]["file_offset"]  # `final` adds 100
    (manifest,) = weights.manifests("toy", tmp_path / "run")
    offset = float(load_file(manifest.path)["offset"][0])
    assert manifest.metrics["file_offset"] == offset and manifest.metrics["file_bytes"] == 4
    assert manifest.metrics["val_bits"] == pytest.approx(
        float(load_file(manifest.path)["offset"].sum()) - 300, abs=1e-4
    )


def test_export(tmp_path: Path) -> None:
    on_device(ToyTask(tag="large"), tmp_path)
    (manifest,) = weights.manifests("toy", tmp_path)
    data = manifest.path.read_bytes()
    assert manifest.path.name == "toy-large.safetensors" and manifest.name == "Toy large"
    assert manifest.sha256 == hashlib.sha256(data).hexdigest()
    assert (manifest.steps, manifest.parameters, manifest.default) == (12, 6, False)
    assert (manifest.recipe, manifest.training_data, manifest.licence) == ("toy/toy", "noise", "MIT")
    assert manifest.device.startswith("CPU") and manifest.metrics == {}
    tensors = load_file(manifest.path)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(tensors["offset"], checkpoint["ema.weight"] + 100)  # the averages, not the last weights
    assert not torch.equal(tensors["offset"], checkpoint["net.weight"] + 100)


def test_weights_so_far_are_written_with_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10_000))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    monkeypatch.setattr(ToyTask, "save_seconds", 4.0)
    monkeypatch.setattr(ToyTask, "exports_along", True)
    toy = ToyTask()
    with pytest.raises(Stop):
        run_on_device(StoppingSteps(toy, 7, Stop), Progress(toy, tmp_path, ABOUT), False)
    (manifest,) = weights.manifests("toy", tmp_path)
    assert manifest.steps == 5
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 5
