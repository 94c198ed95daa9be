"""Training with Lightning's trainer: on a CPU, a GPU or several machines.

Each process draws batches of its own; the first one writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, IterableDataset

from ..files import whole
from .checkpoints import check_resumable, checkpoint_to_resume
from .progress import Progress
from .task import CompressionTask

__all__ = ["Watch", "fit", "save"]


class Watch(Callback):
    """Tells a run's `Progress` what Lightning does, and does what is due."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.progress.start()
        pl_module.set_rates(trainer.optimizers[0])

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Does what is due after a step. Callbacks come before the task's hooks, which a checkpoint would miss."""
        progress, first = self.progress, trainer.is_global_zero
        progress.tick()
        pl_module.after_steps(trainer.global_step)
        pl_module.set_rates(trainer.optimizers[0])
        if first and progress.log_due:
            progress.log()
        # every process takes part in a checkpoint, so the first one's clock decides for all
        due = progress.save_due
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)
        if due:
            progress.saved = pl_module.seconds
            save(trainer, progress.folder / pl_module.checkpoint_name)
        if first and progress.look_due:
            progress.look()
        if pl_module.schedule.seconds and pl_module.is_over:
            trainer.should_stop = True

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Saves what was trained since the last checkpoint at Ctrl-C and SIGTERM."""
        if isinstance(exception, KeyboardInterrupt) and trainer.world_size == 1 and trainer.global_step:
            save(trainer, self.progress.folder / pl_module.checkpoint_name)


def save(trainer: lightning.Trainer, path: Path) -> None:
    """Writes a checkpoint that is there whole or not at all. Every process calls this, the first one writes."""
    with whole(path, replace=True, path_only=True) if trainer.is_global_zero else nullcontext(path) as partial:
        trainer.save_checkpoint(partial, weights_only=False)


def fit(
    task: CompressionTask,
    batches: Callable[[int], IterableDataset[Any]],
    begin: Callable[[], Mapping[str, float]],
    folder: Path,
    resume: bool,
    device: str,
    about: Mapping[str, Any],
    devices: int = 1,
    nodes: int = 1,
) -> None:
    """Trains a task to the end of its schedule, from where it stopped if `resume`, and exports the weights.

    batches: makes the data of a process from its seed; what it returns is `Resumable`. begin: what is done to the
    network before step 0, and returns what the log is to have of it. about: see `Progress`. devices: how many of a
    machine; nodes: how many machines.
    """
    progress = Progress(task, folder, about)
    trainer = lightning.Trainer(
        max_epochs=-1,
        max_steps=-1 if task.schedule.seconds else task.schedule.steps,
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        gradient_clip_val=task.clip,
        callbacks=[Watch(progress)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,  # Lightning's goes to stdout, which is for data; `Progress` writes to stderr
        enable_model_summary=False,
    )
    checkpoint = checkpoint_to_resume(task, folder) if resume else None
    if checkpoint is None:
        progress.begin(begin, trainer.is_global_zero)
    else:
        check_resumable(task, checkpoint)
    data: Any = batches(task.seed + 7919 * trainer.global_rank)
    task.batches = data
    trainer.fit(
        task,
        DataLoader(data, batch_size=None),
        ckpt_path=None if checkpoint is None else str(checkpoint),
        weights_only=True,
    )
    save(trainer, folder / task.checkpoint_name)
    if trainer.is_global_zero:
        progress.finish()
