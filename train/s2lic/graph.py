"""S2LIC's way to train on one GPU: crops are cut there, and a step is one CUDA graph.

The networks of `small` are many little kernels: launched one by one from Python they leave a large GPU idle most of
the time. So pictures lie in the GPU's memory as bytes, crops, symmetries and qualities are drawn there, and forward,
backward and Adam are captured once and replayed (the technique: Nguyen, Carilli et al., "Accelerating PyTorch with CUDA
Graphs", PyTorch blog 2021). What is optimised, schedule, averages and checkpoints are the task's, the loop is
`device_loop.py`; on a CPU the same code runs without a graph. Held-out pictures are estimated now and then, which the
GPU does, and coded as files at the end, with the weights that were written.

A recipe with `seconds` runs by the clock: for a machine that is lent for a time. `decay_from / steps` and `hard_from /
steps` are then shares of that time, and a resumed run goes on with the seconds that are left.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ...datasets.images import DeviceCrops
from ..device_loop import DeviceSteps, run_on_device
from ..devices import training_device
from ..progress import Progress
from ..twins import quantisers
from .task import S2licTask

__all__ = ["GraphSteps", "find_peaks", "run"]

EVERY = 20  # steps between two looks at the clock
REFIT_EVERY = 200  # steps between two choices of the weights' grids, for which the GPU waits
LOG_SECONDS = 10.0  # at least, between two rows of the log, for which the GPU waits, too
LOOKS = 24  # batches from which the fixed-point grids get their peaks


class GraphSteps(DeviceSteps):
    """Steps of a task with Adam, each one replay of a CUDA graph once `capture` was called."""

    every = EVERY
    task: S2licTask

    def __init__(self, task: S2licTask, crops: DeviceCrops) -> None:
        self.crops, self.device = crops, crops.pixels.device
        self.parameters = [p for p in task.net.parameters() if p.requires_grad]
        groups = task.parameter_groups()
        task.rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = torch.tensor(group["lr"], device=self.device)
        self.optimizer: Any = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True, capturable=self.on_gpu)
        super().__init__(task, lambda: crops.draw(task.recipe.batch), {"optimizer": self.optimizer})
        # of what the loss reports; then steps that were taken, and steps that were skipped
        self.sums = torch.zeros(len(task.reported) + 2, device=self.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def prepare(self) -> None:
        self.capture()

    def take(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def step(self) -> None:
        if self.graph is not None:
            self.graph.replay()
        else:
            self.optimizer.zero_grad(set_to_none=True)
            self._work()

    def _work(self) -> None:
        loss = self.task.loss(self.draw())
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.task.clip)
        # as a gradient scaler would say it: Adam leaves the step out
        self.optimizer.found_inf = (~torch.isfinite(norm)).float()
        self.optimizer.step()
        bad = self.optimizer.found_inf
        metrics = {"loss": loss.total.detach(), **loss.metrics}
        seen = torch.stack([metrics[name] for name in self.task.reported])
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

    def enter_phases(self) -> None:
        """Begins the phase of the twins, with peaks for their grids; the step is another graph from then on."""
        if not self.task.due_phases():
            return
        self.graph = None
        find_peaks(self.task, self.crops)
        self.task.enter_due_phases()
        self.capture()

    def settle(self) -> None:
        if self.task.hard:
            self.task.copy_buffers()
        else:
            find_peaks(self.task, self.crops)

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def means(self) -> dict[str, float]:
        """Returns means since the last call, of steps that were taken: NaN if all were skipped."""
        *totals, steps, skipped = self.sums.tolist()
        self.sums.zero_()
        names = self.task.reported
        means = {name: total / steps if steps else math.nan for name, total in zip(names, totals, strict=True)}
        return {**means, "skipped": skipped} if skipped else means


@torch.no_grad()
def find_peaks(task: S2licTask, crops: DeviceCrops) -> None:
    """Shows the quantisers what they will see. In the steps they don't look: a look makes a GPU wait."""
    parts = quantisers(task.net)
    task.net.train()
    for part in parts:
        part.peak.zero_()
    for _ in range(LOOKS):
        for part in parts:
            part.watching, part._calls = True, 0
        task.loss(crops.draw(task.recipe.batch))
    for part in parts:
        part.watching = False
    task.copy_buffers()


def run(
    task: S2licTask,
    begin: Callable[[], Mapping[str, float]],
    folder: Path,
    resume: bool,
    device: str,
    about: Mapping[str, Any],
) -> None:
    """Runs the recipe of `task` to its end, in steps or in seconds, and exports the weights.

    begin: fills the network of a new run, and returns what the log is to have of it. The rest: see `fit.fit`.
    """
    recipe, where = task.recipe, training_device(device)
    if where.type == "cpu":
        sys.stderr.write("no GPU: a step of this recipe takes a CPU seconds; `small-cpu` is made for CPUs\n")
    task.refit_every, task.log_seconds, task.exports_along = REFIT_EVERY, LOG_SECONDS, True
    progress = Progress(task, folder, about)
    if not (resume and (folder / "last.ckpt").exists()):
        progress.begin(begin)
    task.to(where)
    for part in quantisers(task):
        part.watching = False
    task.net.train()
    crops = DeviceCrops(list(task.pictures), recipe.crop, recipe.scales, where)
    run_on_device(GraphSteps(task, crops), progress, resume)
