"""Training on one device that holds everything, its data too, and never waits for Python to read a result.

The steps themselves are a `DeviceSteps`: plain ones here, a CUDA graph in s2lic/graph.py. Between two looks at the
clock `every` steps are taken: phases begin there, learning rates and averages move there. There is one checkpoint,
`last.ckpt`: where the run is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checkpoints import Optimizers, load_run, save_run
from .progress import Progress
from .task import CompressionTask

__all__ = ["DeviceSteps", "run_on_device"]


class DeviceSteps:
    """Optimiser steps of a task, one after the other, on batches that `draw` makes on the device."""

    every = 1  # steps between two looks at the clock

    def __init__(self, task: CompressionTask, draw: Callable[[], Any], optimizers: Optimizers) -> None:
        """optimizers: by their names in a checkpoint. "optimizer" has the learning rates of the schedule."""
        self.task, self.draw, self.optimizers = task, draw, optimizers

    def prepare(self) -> None:
        """Does what is needed before the first step; called with everything loaded."""

    def take(self, count: int) -> None:
        """Takes `count` steps; nothing that is random may depend on more than torch's seed and the task's step."""
        for _ in range(count):
            self.task.note(self.task.optimise(self.draw(), self.optimizers))

    def advance(self, count: int) -> None:
        """Takes `count` steps at the learning rate of the first, and moves the averages."""
        self.task.set_rates(self.optimizers["optimizer"])
        self.task.seed_step()
        self.take(count)
        self.task.after_steps(self.task.step + count)

    def enter_phases(self) -> None:
        """Begins the phases that are due."""
        self.task.enter_due_phases()

    def settle(self) -> None:
        """Makes the averaged network ready to be looked at or exported."""

    def wait(self) -> None:
        """Waits for the device, if the clock is to say how long the steps took."""

    def means(self) -> dict[str, float]:
        """Returns the means of what the steps reported since the last call."""
        return self.task.means()


def run_on_device(steps: DeviceSteps, progress: Progress, resume: bool) -> None:
    """Trains the task of `steps` to the end of its schedule, in steps or in seconds, and exports the weights.

    resume: whether to go on from the checkpoint in the run's folder, if there is one.
    """
    task, path = steps.task, progress.folder / "last.ckpt"
    if resume and path.exists():
        load_run(path, task, steps.optimizers)
    task.seed_step()
    steps.prepare()
    progress.start()
    try:
        while not task.is_over:
            task.seed_step()  # what a phase begins with may be drawn, too
            steps.enter_phases()
            steps.advance(_steps_to_next_look(steps))
            steps.wait()
            progress.tick()
            if progress.log_due:
                progress.log(steps.means())
            if progress.save_due:
                _keep(steps, progress, path)
            if progress.look_due:
                steps.settle()
                progress.look()
    except KeyboardInterrupt:  # what was trained since the last checkpoint isn't lost
        save_run(path, task, steps.optimizers)
        raise
    save_run(path, task, steps.optimizers)
    steps.settle()
    progress.finish()


def _steps_to_next_look(steps: DeviceSteps) -> int:
    """Counts the steps of a round: `every`, or fewer where a phase or the end comes before that by step."""
    task = steps.task
    if task.schedule.seconds:
        return steps.every
    marks = [task.schedule.steps, *task.phases().values()]
    return min([steps.every, *(math.ceil(mark) - task.step for mark in marks if mark > task.step)])


def _keep(steps: DeviceSteps, progress: Progress, path: Path) -> None:
    """Writes a checkpoint, and the weights so far where the task wants them."""
    task = steps.task
    progress.saved = task.seconds
    save_run(path, task, steps.optimizers)
    if task.exports_along:
        steps.settle()
        progress.export()
    progress.skip()
