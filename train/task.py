"""`CompressionTask`: the base of all training tasks. A family adds its network, its loss, its data and what it exports.

What every run has is owned here, once: the average of the weights, the learning rate and the phases (by step or by the
clock), what a checkpoint holds, means of what the loss reports, held-out items coded to real files, weights with a
manifest. There are two ways to run a task: with Lightning's trainer (`fit.py`), and on one device that never waits
(`device_loop.py`; as one CUDA graph a step: `train/s2lic/graph.py`). Log and checkpoints of both: `progress.py`,
`checkpoints.py`.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..registry import load_class
from .export import write_weights

__all__ = ["CompressionTask", "Loss", "Resumable", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """The learning rate of a run and its length, by step or by the clock.

    The rate, relative to the recipe's, rises over `warmup` steps, stays at 1 up to `decay_from` and falls until
    `steps`. seconds: if not 0, the run goes by the clock: its position in the schedule is the share of the seconds that
    are gone, times `steps`. steps_count: whether the steps that were taken count then, too, so that whichever is
    further decides.
    """

    steps: int
    decay_from: float
    warmup: int
    decay: Literal["linear", "cosine"] = "linear"
    floor: float = 0.0  # added to the factor in the decay
    seconds: float = 0.0
    steps_count: bool = True

    def position(self, step: int, seconds: float = 0.0) -> float:
        """Says where a run is after so many steps and seconds of training, in steps of the schedule."""
        if not self.seconds:
            return float(step)
        by_clock = self.steps * seconds / self.seconds
        return max(float(step), by_clock) if self.steps_count else by_clock

    def is_over(self, step: int, seconds: float = 0.0) -> bool:
        return self.position(step, seconds) >= self.steps

    def factor(self, step: int, seconds: float = 0.0) -> float:
        """Returns the learning rate of the step after `step` steps, relative to the recipe's."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        progress = (self.position(step, seconds) - self.decay_from) / max(1, self.steps - self.decay_from)
        if progress < 0:
            return rise
        if self.decay == "cosine":
            return rise * (0.5 * (1 + math.cos(math.pi * min(1.0, progress))) + self.floor)
        return rise * (max(0.0, 1 - progress) + self.floor)


@dataclass(frozen=True)
class Loss:
    """The scalar that is minimised, and scalars for the log by name (detached; of this batch only)."""

    total: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Resumable(Protocol):
    """Batches that depend on a seed and their index only: `start` is the index of the next one."""

    start: int


class CompressionTask(lightning.LightningModule):
    """Trains `net`, and keeps an exponential moving average of it in `ema`, which is what gets exported.

    A family says what is its own by `loss`, `weights_bytes`, `estimate` and `code_with`, and, where it has them, by
    `parameter_groups`, `phases`, `enter_phase` and `restore_phase`. A task that isn't optimised by one backward pass
    overrides `optimise`.
    """

    family: ClassVar[str]  # name of the codec that reads the weights
    title: ClassVar[str]  # the same in words, for the manifest
    default_tag: ClassVar[str] = ""  # weights of this tag are taken where none is asked for
    fused: ClassVar[bool] = False  # whether Adam is one kernel
    ema_every: ClassVar[int] = 1  # steps between two moves of the averages

    # when what is due; seconds are seconds of training
    log_every = 100  # steps to a row of the log
    log_seconds = 0.0  # and at least so many seconds
    save_seconds = 300.0
    validate_seconds = 1200.0
    codes_along = True  # whether held-out items are coded to files while training, or at the end only
    exports_along = False  # whether the weights so far are written with each checkpoint
    keeps_undecayed = False  # whether last.ckpt stays as it was before the decay, which goes to decay.ckpt

    def __init__(
        self, net: nn.Module, schedule: Schedule, lr: float, ema: float, clip: float, seed: int, tag: str
    ) -> None:
        """Takes over the network.

        lr: peak learning rate. ema: decay of the averages in a step. clip: largest norm of a gradient. tag: of the
        weights.
        """
        super().__init__()
        self.net = net
        self.ema = copy.deepcopy(net).requires_grad_(False)
        self.schedule, self.lr, self.ema_decay, self.clip, self.seed, self.tag = schedule, lr, ema, clip, seed, tag
        self.step = 0  # optimiser steps that are done
        self.seconds = 0.0  # of training, over all parts of the run
        self.entered: list[str] = []  # phases that have begun
        self.rates: list[float] = []  # of the parameter groups, before the schedule's factor
        self.held_out: Sequence[Tensor] = ()
        self.batches: Resumable | None = None
        self._sums: dict[str, tuple[Tensor, int]] = {}

    # ---- a family's own

    def loss(self, batch: Any) -> Loss:
        """Computes the loss of a batch, with whatever is random drawn from torch's generator."""
        raise NotImplementedError

    def weights_bytes(self, final: bool = False) -> bytes:
        """Returns the safetensors file of the averaged weights. final: at the end of the run, with what takes long."""
        raise NotImplementedError

    def estimate(self) -> dict[str, float]:
        """Measures rate and distortion of the held-out items as the averaged network estimates them: val_NAME."""
        return {}

    def code_with(self, codec: Any) -> dict[str, float]:
        """Measures rate and distortion of the held-out items as files of this codec: file_NAME."""
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups what the optimiser is given: parameters and their learning rates."""
        return [{"params": list(self.net.parameters()), "lr": self.lr}]

    def phases(self) -> Mapping[str, float]:
        """Says where in the schedule each phase begins, in steps."""
        return {}

    def enter_phase(self, name: str) -> None:
        """Changes networks and parameters to what they are in the phase that begins now."""

    def restore_phase(self, name: str) -> None:
        """Does the same for a phase that a checkpoint was written in; tensors have been loaded already."""
        self.enter_phase(name)

    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.net.parameters())

    # ---- steps

    @property
    def position(self) -> float:
        """The place of the run in its schedule, in steps."""
        return self.schedule.position(self.step, self.seconds)

    @property
    def is_over(self) -> bool:
        return self.schedule.is_over(self.step, self.seconds)

    def due_phases(self) -> list[str]:
        """Lists the phases that should have begun and haven't."""
        position = self.position
        return [name for name, start in self.phases().items() if name not in self.entered and position >= start]

    def enter_due_phases(self) -> None:
        for name in self.due_phases():
            self.entered.append(name)
            self.enter_phase(name)

    def seed_step(self, rank: int = 0) -> None:
        """Seeds torch for the next step: a resumed run draws what it would have drawn. rank: of several processes."""
        torch.manual_seed((self.seed + 7919 * rank) * 1_000_003 + self.step)

    def configure_optimizers(self) -> Any:
        groups = self.parameter_groups()
        self.rates = [group["lr"] for group in groups]
        return torch.optim.Adam(groups, betas=(0.9, 0.99), fused=self.fused)

    def set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """Sets the learning rates of the next step: the recipe's, whatever the checkpoint of a resumed run says."""
        factor = self.schedule.factor(self.step, self.seconds)
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)  # the tensor that a CUDA graph reads
            else:
                group["lr"] = rate * factor

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Computes the loss of one step as Lightning wants it."""
        self.enter_due_phases()
        self.seed_step(self.global_rank)
        loss = self.loss(batch)
        self.note({"loss": loss.total, **loss.metrics})
        return loss.total

    def optimise(self, batch: Any, optimizers: Mapping[str, torch.optim.Optimizer]) -> Mapping[str, Tensor]:
        """Takes one step without Lightning. Returns what the log is to have; reading it would wait for the device."""
        optimizer = optimizers["optimizer"]
        optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip)
        optimizer.step()
        return {"loss": loss.total.detach(), **loss.metrics}

    def after_steps(self, step: int) -> None:
        """Takes note that `step` steps are done, and moves the averages where it is time."""
        count, self.step = step - self.step, step
        if step % self.ema_every < count:
            self.average(max(count, self.ema_every))

    @torch.no_grad()
    def average(self, count: int) -> None:
        """Moves the averages as `count` single moves to the present weights would; faster in the first steps."""
        decay = min(self.ema_decay**count, (self.step + 1) / (self.step + max(20, 5 * count)))
        averages: list[Any] = [*self.ema.parameters()]
        latest: list[Any] = [*self.net.parameters()]
        get_ema_multi_avg_fn(decay)(averages, latest, 1)
        self.copy_buffers()

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Copies buffers to the averaged network: they aren't averaged, since grids are integers."""
        for target, source in zip(self.ema.buffers(), self.net.buffers(), strict=True):
            target.copy_(source)

    # ---- the log

    def note(self, metrics: Mapping[str, Tensor]) -> None:
        """Adds to the sums of the log, which stay on the device until they are read."""
        for name, value in metrics.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value.detach().float(), count + 1)

    def means(self) -> dict[str, float]:
        """Returns the means of what was noted since the last call."""
        means = {name: float(total) / count for name, (total, count) in self._sums.items()}
        self._sums.clear()
        return means

    # ---- checkpoints

    @property
    def checkpoint_name(self) -> str:
        """The file that a checkpoint of this step goes to, in the run's folder."""
        decayed = self.keeps_undecayed and self.step > self.schedule.decay_from
        return "decay.ckpt" if decayed else "last.ckpt"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.setdefault("global_step", self.step)  # Lightning has counted already
        checkpoint["seconds"] = self.seconds
        checkpoint["phases"] = list(self.entered)
        checkpoint["decay"] = [self.schedule.decay_from, self.schedule.steps]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes what isn't a tensor from a checkpoint; called before the tensors are loaded (Lightning) or after it."""
        self.step, self.seconds = int(checkpoint["global_step"]), float(checkpoint.get("seconds", 0.0))
        self.entered = list(checkpoint.get("phases", []))
        for name in self.entered:
            self.restore_phase(name)
        if self.batches is not None:
            self.batches.start = self.step  # go on with the batch that would have come next

    # ---- what comes out

    def code(self, weights: Path | None = None) -> dict[str, float]:
        """Codes the held-out items to files and back, with a weights file; by default with the weights of now."""
        if weights is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "now.safetensors"
                path.write_bytes(self.weights_bytes())
                return self.code(path)
        codec: Any = load_class(self.family)
        return self.code_with(codec.from_weights(None, None, weights, "cpu"))

    @property
    def codes_files(self) -> bool:
        """Whether held-out items can be coded in a time that a run can wait for."""
        return True

    def validate(self) -> dict[str, float]:
        """Looks at the held-out items while training: as estimated, and next to it as files."""
        if not self.held_out:
            return {}
        return {**self.estimate(), **(self.code() if self.codes_along and self.codes_files else {})}

    def export(self, folder: Path, about: Mapping[str, Any], final: bool = True) -> Path:
        """Writes FAMILY-TAG.safetensors and its manifest FAMILY-TAG.json. Copy both to `weights/` to ship them.

        about: fields of the manifest that the task doesn't know. final: see `weights_bytes`.
        """
        data, default = self.weights_bytes(final), self.tag == self.default_tag
        return write_weights(folder, self.family, self.title, self.tag, data, self.n_parameters(), default, about)
