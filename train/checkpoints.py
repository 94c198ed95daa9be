"""Checkpoints of a run: read with every doubt, written whole. A run in parts gives the bytes of a run in one piece.

`last.ckpt` is where the run is; where a task keeps the state before the decay, that is `last.ckpt`, and `decay.ckpt` is
the present end of the decay. Lightning writes its own (`fit.py`), of the same fields and more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError
from ..files import whole
from .task import CompressionTask

__all__ = [
    "check_resumable",
    "checkpoint_to_resume",
    "fill_task",
    "load_run",
    "read_checkpoint",
    "read_state",
    "save_run",
]

GO_BACK = "delete it, and --resume goes on from last.ckpt, before the decay"
START_OVER = "delete it, and --resume begins anew"
NAME_ONE = "name a checkpoint of a run, such as runs/s2lic-small/last.ckpt"
_FIELDS: Mapping[str, type] = {"state_dict": Mapping, "global_step": int}
_MISFITS = (RuntimeError, KeyError, TypeError, ValueError, AttributeError)  # what loading raises, by what doesn't fit

Optimizers = Mapping[str, torch.optim.Optimizer]


def read_checkpoint(path: Path, advice: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads what a run saved. UsageError, which ends in the advice, if the file is anything else."""
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # what is raised depends on which byte is wrong
        # without torch's text: it advises to run what the file says
        raise UsageError(f"{path} can't be read as a checkpoint ({type(error).__name__}): {advice}") from None
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), kind) for k, kind in _FIELDS.items()):
        raise UsageError(f"{path} isn't a checkpoint of `codec train`: {advice}")
    return checkpoint


def read_state(path: Path, advice: str) -> dict[str, torch.Tensor]:
    """Reads the tensors of a checkpoint of any program, by name: its `state_dict`, or a file of that alone.

    UsageError, which ends in the advice, for anything else. Objects that aren't tensors are never loaded.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is raised depends on which byte is wrong, or which object is in it
        raise UsageError(
            f"it can't be read ({type(error).__name__}). If it holds other objects than tensors, save those alone: its "
            f"'state_dict', by torch.save, on a machine where you trust the file. Or {advice}"
        ) from None
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(f"it has no `state_dict` of tensors: {advice}")
    return state


def fill_task(task: CompressionTask, path: Path) -> int:
    """Fills a task from a checkpoint, for a look or an export without training. Returns its step."""
    checkpoint = read_checkpoint(path, NAME_ONE)
    task.load_state_dict(checkpoint["state_dict"])
    task.on_load_checkpoint(checkpoint)
    return task.step


def checkpoint_to_resume(task: CompressionTask, folder: Path) -> Path | None:
    """Chooses `decay.ckpt` if it is of the decay that the recipe asks for, otherwise `last.ckpt`, if there is one."""
    last, decay = folder / "last.ckpt", folder / "decay.ckpt"
    if task.keeps_undecayed and decay.exists():
        checkpoint = read_checkpoint(decay, GO_BACK)
        if checkpoint.get("decay") == [task.schedule.decay_from, task.schedule.steps]:
            return decay
    return last if last.exists() else None


def check_resumable(task: CompressionTask, path: Path) -> None:
    """Raises UsageError if Lightning could not go on from this checkpoint."""
    advice = GO_BACK if path.name == "decay.ckpt" else START_OVER
    checkpoint = read_checkpoint(path, advice)
    if "optimizer_states" not in checkpoint:
        raise UsageError(f"{path} is of a run with `graph: true`: begin a new one with `start: {path}` in the recipe")
    states = (task.state_dict(), checkpoint["state_dict"])
    expected, given = ({name: getattr(v, "shape", None) for name, v in state.items()} for state in states)
    if expected != given:
        raise UsageError(f"{path} doesn't fit this model: {advice}")


def save_run(path: Path, task: CompressionTask, optimizers: Optimizers) -> None:
    """Writes a checkpoint of a run without Lightning."""
    checkpoint: dict[str, Any] = {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
    checkpoint["state_dict"] = task.state_dict()
    task.on_save_checkpoint(checkpoint)
    with whole(path, replace=True, path_only=True) as partial:
        torch.save(checkpoint, partial)


def load_run(path: Path, task: CompressionTask, optimizers: Optimizers) -> None:
    """Fills task and optimisers from a checkpoint of `save_run`."""
    checkpoint = read_checkpoint(path, START_OVER, task.device)
    if not optimizers.keys() <= checkpoint.keys():
        raise UsageError(
            f"{path} is of a run without `graph: true`: begin a new one with `start: {path}` in the recipe"
        )
    rates = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in optimizers.items()}
    try:
        task.load_state_dict(checkpoint["state_dict"])
        task.on_load_checkpoint(checkpoint)
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(checkpoint[name])
    except _MISFITS as error:
        raise UsageError(f"{path} doesn't fit this model ({str(error).splitlines()[0]}): {START_OVER}") from None
    for name, optimizer in optimizers.items():
        for group, rate in zip(optimizer.param_groups, rates[name], strict=True):
            group["lr"] = rate  # the recipe's, and the tensor that a graph reads, not the copy of the checkpoint
