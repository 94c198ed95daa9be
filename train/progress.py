"""Work that is due after a step, in both ways to run a task: a row of the log, a checkpoint, a look, weights so far.

Log: `log.jsonl` in the run's folder, one JSON object a line, and the same on stderr.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .devices import device_name
from .export import write_manifest
from .task import CompressionTask

__all__ = ["Progress"]


class Progress:
    """Log, clock and results of one run.

    about: fields of the manifest that only the caller knows (recipe, commit, data, licence).
    """

    def __init__(self, task: CompressionTask, folder: Path, about: Mapping[str, Any]) -> None:
        self.task, self.folder, self.about = task, folder, about
        self.metrics: dict[str, float] = {}  # of the last look
        self.start()

    def start(self) -> None:
        """Starts the clock; where a run was resumed, what is due is counted from there."""
        task = self.task
        self.last = time.monotonic()
        self.logged_step = task.step - task.step % task.log_every
        self.logged = self.saved = self.validated = task.seconds

    def begin(self, start: Callable[[], Mapping[str, float]], writes: bool = True) -> None:
        """Begins a new run: `start` fills the network for step 0, and returns what the log is to have of it.

        writes: whether this is the process that writes files.
        """
        row = start()
        self.task.ema.load_state_dict(self.task.net.state_dict())
        if row and writes:
            self.write({"step": 0, **row})

    # ---- the clock

    def tick(self) -> None:
        """Adds the time since the last call to the seconds of training."""
        now = time.monotonic()
        self.task.seconds += now - self.last
        self.last = now

    def skip(self) -> None:
        """Leaves out the time since the last call, which wasn't training; in a run by the clock all time counts."""
        if not self.task.schedule.seconds:
            self.last = time.monotonic()

    # ---- what is due

    def write(self, row: Mapping[str, float]) -> None:
        with (self.folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps({key: round(value, 4) for key, value in row.items()}) + "\n")
        sys.stderr.write("  ".join(f"{key} {value:.5g}" for key, value in row.items()) + "\n")

    def log(self, means: Mapping[str, float] | None = None) -> None:
        """Writes a row of means since the last one. UsageError if the loss isn't a number any more."""
        task = self.task
        row = task.means() if means is None else means
        self.logged_step, self.logged = task.step, task.seconds
        self.write({"step": task.step, "seconds": task.seconds, **row})
        if not math.isfinite(row.get("loss", 0.0)):
            raise UsageError(
                f"no loss was a number up to step {task.step}: take a lower `lr`; go on from "
                f"{self.folder / task.checkpoint_name}"
            )

    @property
    def log_due(self) -> bool:
        """Whether a row of means is due."""
        task = self.task
        return task.step - self.logged_step >= task.log_every and task.seconds - self.logged >= task.log_seconds

    @property
    def save_due(self) -> bool:
        """Whether a checkpoint is due: by the clock, and at the step before the decay if that state is to be kept."""
        task = self.task
        if task.keeps_undecayed and task.step == task.schedule.decay_from:
            return True
        return task.seconds - self.saved > task.save_seconds

    @property
    def look_due(self) -> bool:
        """Whether the held-out items are to be looked at."""
        task = self.task
        return bool(task.held_out) and task.seconds - self.validated > task.validate_seconds

    def look(self) -> None:
        """Validates, and writes a row about the held-out items."""
        self.validated = self.task.seconds
        self.metrics = self.task.validate()
        self.write({"step": self.task.step, "seconds": self.task.seconds, **self.metrics})
        self.skip()

    # ---- what comes out

    def _facts(self) -> dict[str, Any]:
        task = self.task
        facts = {"steps": task.step, "seconds": round(task.seconds), "device": device_name(task.device)}
        return {**self.about, **facts, "metrics": self.metrics}

    def export(self) -> None:
        """Writes the weights so far, with the metrics of the last look."""
        self.task.export(self.folder, self._facts(), final=False)

    def finish(self) -> Path:
        """Ends a run: estimates, writes weights, and then codes the held-out items with these very weights."""
        task = self.task
        self.metrics = task.estimate() if task.held_out else {}
        path = task.export(self.folder, self._facts())
        if task.held_out and task.codes_files:
            self.metrics |= task.code(path)
            manifest = json.loads(path.with_suffix(".json").read_text())
            write_manifest(path, {**manifest, "metrics": self.metrics})
        self.write({"step": task.step, "seconds": task.seconds, **self.metrics})
        return path
