"""Training of S2LIC on one GPU that never waits: crops are cut there, and a step is one CUDA graph.

The networks of `small` are many little kernels: launched one by one from Python they leave a large GPU idle most of
the time. So pictures lie in the GPU's memory as bytes, crops, symmetries and qualities are drawn there, and forward,
backward and Adam are captured once and replayed (the technique: Nguyen, Carilli et al., "Accelerating PyTorch with CUDA
Graphs", PyTorch blog 2021). What is optimised and the phases are those of `s2lic.py`; on a CPU the same code runs
without a graph. There is one checkpoint, `last.ckpt`: where the run is, in the decay too. Held-out pictures are
estimated now and then, which the GPU does, and coded as files at the end, with the weights that were written.

A recipe with `seconds` runs by the clock: for a machine that is lent for a time. `decay_from / steps` and `hard_from /
steps` are then shares of that time, and a resumed run goes on with the seconds that are left.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..datasets.images import DeviceCrops
from ..entropy.exact import FixedPoint, set_mode
from ..errors import UsageError
from .s2lic import (
    START_OVER,
    Progress,
    S2licTask,
    begin,
    device_name,
    estimate,
    export,
    finish,
    read_checkpoint,
    refit,
)

EVERY = 20  # steps between two looks at the clock: the averages are moved there, and the learning rate
LOOKS = 24  # batches from which the fixed-point grids get their peaks


class Stepper:
    """One optimisation step of a task, again and again: `step()`. Sums of what it saw: `means()`."""

    def __init__(self, task: S2licTask, crops: DeviceCrops) -> None:
        self.task, self.crops = task, crops
        self.device = crops.pixels.device
        self.parameters = [p for p in task.net.parameters() if p.requires_grad]
        groups = task.parameter_groups()
        self.rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = torch.tensor(group["lr"], device=self.device)
        self.optimizer: Any = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True, capturable=self.on_gpu)
        self.sums = torch.zeros(5, device=self.device)  # loss, bits per pixel, PSNR, steps, steps that were skipped
        self.graph: torch.cuda.CUDAGraph | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def set_rate(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"].fill_(rate * factor)

    def step(self) -> None:
        if self.graph is not None:
            self.graph.replay()
        else:
            self.optimizer.zero_grad(set_to_none=True)
            self._work()

    def _work(self) -> None:
        task, recipe = self.task, self.task.recipe
        batch = self.crops.draw(recipe.batch)
        # On a GPU twins are computed in TF32, whose 11 bits hold the integers of 8-bit layers. bfloat16 rounds sums.
        loss, bpp, mse = task.losses(batch, recipe.bf16 and not (task.hard and self.on_gpu))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        # as a gradient scaler would say it: Adam leaves the step out
        self.optimizer.found_inf = (~torch.isfinite(norm)).float()
        self.optimizer.step()
        bad = self.optimizer.found_inf
        seen = torch.stack([loss.detach(), bpp.mean(), (10 * torch.log10(255**2 / mse)).mean()])
        self.sums += torch.cat([torch.where(bad > 0, 0.0, seen), (1 - bad)[None], bad[None]])

    def capture(self) -> None:
        """Turns the step into a graph, after three steps that choose algorithms and fill caches."""
        if not self.on_gpu:
            return
        self.graph = None
        torch.backends.cudnn.allow_tf32 = self.task.hard
        torch.backends.cudnn.benchmark = True
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.optimizer.zero_grad(set_to_none=True)
                self._work()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._work()
        torch.backends.cudnn.benchmark = False  # pictures that are looked at have all sizes
        self.graph = graph

    def means(self) -> dict[str, float]:
        """Since the last call; of steps that were taken, so NaN if all were skipped."""
        loss, bpp, psnr, steps, skipped = self.sums.tolist()
        self.sums.zero_()
        found = {
            name: value / steps if steps else math.nan for name, value in (("loss", loss), ("bpp", bpp), ("psnr", psnr))
        }
        return {**found, "skipped": skipped} if skipped else found


@torch.no_grad()
def average(task: S2licTask, steps: int, done: int) -> None:
    """Moves the averaged weights as `steps` single moves would, to the latest weights."""
    decay = min(task.recipe.ema**steps, (done + 1) / (done + 5 * steps))
    averaged: list[Any] = [*task.ema.parameters()]
    latest: list[Any] = [*task.net.parameters()]
    get_ema_multi_avg_fn(decay)(averaged, latest, 1)


@torch.no_grad()
def find_peaks(task: S2licTask, crops: DeviceCrops) -> None:
    """Shows the quantisers what they will see. In the steps they don't look: a look makes a GPU wait."""
    parts = [part for part in task.net.modules() if isinstance(part, FixedPoint)]
    task.net.train()
    for _ in range(LOOKS):
        for part in parts:
            part.watching, part._calls = True, 0
        task.losses(crops.draw(task.recipe.batch), task.recipe.bf16)
    for part in parts:
        part.watching = False
    copy_buffers(task)


@torch.no_grad()
def copy_buffers(task: S2licTask) -> None:
    for target, source in zip(task.ema.buffers(), task.net.buffers(), strict=True):
        target.copy_(source)


def save_run(path: Path, task: S2licTask, stepper: Stepper, step: int, seconds: float) -> None:
    """A checkpoint, there whole or not at all; `start:` of a recipe reads it too."""
    checkpoint: dict[str, Any] = {
        "state_dict": task.state_dict(),
        "optimizer": stepper.optimizer.state_dict(),
        "global_step": step,
        "seconds": seconds,
    }
    task.on_save_checkpoint(checkpoint)
    partial = path.with_suffix(".part")
    torch.save(checkpoint, partial)
    partial.rename(path)


def load_run(path: Path, task: S2licTask, stepper: Stepper) -> tuple[int, float]:
    """Step and seconds of the checkpoint that fills task and optimiser."""
    checkpoint = read_checkpoint(path, START_OVER, stepper.device)
    if "optimizer" not in checkpoint:
        raise UsageError(
            f"{path} is of a run without `graph: true`: begin a new one with `start: {path}` in the recipe"
        )
    rates = [group["lr"] for group in stepper.optimizer.param_groups]
    try:
        task.load_state_dict(checkpoint["state_dict"])
        task.on_load_checkpoint(checkpoint)
        stepper.optimizer.load_state_dict(checkpoint["optimizer"])
        step, seconds = checkpoint["global_step"], float(checkpoint["seconds"])
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} doesn't fit this model ({str(error).splitlines()[0]}): {START_OVER}") from None
    for group, rate in zip(stepper.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # the tensor that a graph reads, not the copy of the checkpoint
    return step, seconds


def run(
    task: S2licTask,
    settings: Mapping[str, Any],
    pictures: list[Tensor],
    progress: Progress,
    folder: Path,
    resume: bool,
    device: str,
    about: Mapping[str, Any],
) -> None:
    """Runs the recipe of `task` to its end, in steps or in seconds, and exports the weights."""
    recipe = task.recipe
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device in ("auto", "gpu") else device)
    if where.type == "cpu":
        sys.stderr.write("no GPU: a step of this recipe takes a CPU seconds; `small-cpu` is made for CPUs\n")
    path = folder / "last.ckpt"
    resumed = resume and path.exists()
    if not resumed:
        begin(task, recipe, pictures, progress)
    task.to(where)
    for part in task.modules():
        if isinstance(part, FixedPoint):
            part.watching = False
    task.net.train()
    torch.manual_seed(recipe.seed)
    crops = DeviceCrops(pictures, recipe.crop, recipe.scales, where)
    stepper = Stepper(task, crops)
    step, before = load_run(path, task, stepper) if resumed else (0, 0.0)
    torch.manual_seed(recipe.seed * 1_000_003 + step)
    began = time.monotonic()
    logged = validated = saved = exported = before
    decay, hard = recipe.decay_from / recipe.steps, recipe.hard_from / recipe.steps
    stepper.capture()
    counted = step
    try:
        while True:
            seconds = before + time.monotonic() - began
            share = seconds / recipe.seconds if recipe.seconds else step / recipe.steps
            if share >= 1:
                break
            if not task.hard and share >= hard:
                stepper.graph = None
                find_peaks(task, crops)
                task.hard = True
                for net in (task.net, task.ema):
                    set_mode(net, "twin")
                stepper.capture()
            falling = min(1.0, max(0.0, (1 - share) / max(1e-9, 1 - decay)))
            stepper.set_rate(min(1.0, (step + 1) / recipe.warmup) * falling)
            count = (
                EVERY
                if recipe.seconds
                else min(EVERY, *(s - step for s in (recipe.hard_from, recipe.steps) if s > step))
            )
            for _ in range(count):
                stepper.step()
            step += count
            average(task, count, step)
            if task.hard and step % (10 * EVERY) < count:
                refit(task.net)
            if stepper.on_gpu:
                torch.cuda.synchronize()
            seconds = before + time.monotonic() - began
            if step - counted >= progress.every and seconds - logged > min(10.0, progress.save_seconds):
                logged, counted = seconds, step
                means = stepper.means()
                progress.write({"step": step, "seconds": seconds, **means})
                if not math.isfinite(means["loss"]):
                    raise UsageError(
                        f"no gradient was a number up to step {step}: take a lower `lr`; go on from {path}"
                    )
            if seconds - saved > progress.save_seconds:
                saved = seconds
                save_run(path, task, stepper, step, seconds)
            if progress.held_out and seconds - validated > progress.validate_seconds:
                validated = seconds
                copy_buffers(task)
                progress.write({"step": step, "seconds": seconds, **estimate(task.ema, progress.held_out)})
            if seconds - exported > 2 * progress.validate_seconds:
                exported = seconds
                ship(task, crops, settings, folder, about, step, seconds)
    except KeyboardInterrupt:  # what was trained since the last checkpoint isn't lost
        save_run(path, task, stepper, step, before + time.monotonic() - began)
        raise
    copy_buffers(task)
    seconds = before + time.monotonic() - began
    save_run(path, task, stepper, step, seconds)
    if not task.hard:
        find_peaks(task, crops)
    finish(task, settings, folder, about, progress, pictures, step, seconds, where)


def ship(
    task: S2licTask,
    crops: DeviceCrops,
    settings: Mapping[str, Any],
    folder: Path,
    about: Mapping[str, Any],
    step: int,
    seconds: float,
) -> None:
    """Writes the averaged weights as they are now, with their manifest; no tables are fitted and nothing is coded."""
    if not task.hard:
        find_peaks(task, crops)
    device = crops.pixels.device
    facts = {"steps": step, "seconds": round(seconds), "device": device_name(device), "metrics": {}}
    export(task, settings, folder, {**about, **facts})
