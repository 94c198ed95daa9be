"""The base of tasks whose networks end as fixed-point twins: what is trained last is what ships, in integers.

From phase "hard" on, latents are rounded and exact layers (`entropy/exact.py`) run as twins on the grids that ship.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from ..entropy.exact import ExactConv2d, FixedPoint, set_mode
from .task import CompressionTask

__all__ = ["HARD", "TwinTask", "quantisers", "refit", "twin_of"]

HARD = "hard"
N = TypeVar("N", bound=nn.Module)


class TwinTask(CompressionTask):
    """A task with a phase "hard", which begins at step `hard_from` of the schedule: rounding, fixed-point twins."""

    hard_from: float
    refit_every = 50  # steps between two choices of the weights' grids, since weights move

    @property
    def hard(self) -> bool:
        """Whether latents are rounded and exact layers are twins."""
        return HARD in self.entered

    def phases(self) -> Mapping[str, float]:
        return {HARD: self.hard_from}

    def enter_phase(self, name: str) -> None:
        for net in (self.net, self.ema):
            set_mode(net, "twin")

    def restore_phase(self, name: str) -> None:
        for net in (self.net, self.ema):
            for layer in net.modules():
                if isinstance(layer, (ExactConv2d, FixedPoint)):
                    layer.mode = "twin"  # the grids themselves are in the checkpoint

    def after_steps(self, step: int) -> None:
        count = step - self.step
        super().after_steps(step)
        if self.hard and step % self.refit_every < count:
            for net in (self.net, self.ema):
                refit(net)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        # what the quantisers have seen: the phase may begin with the first step after a resume
        checkpoint["peaks"] = {name: float(peak) for name, peak in self.named_buffers() if name.endswith(".peak")}
        checkpoint["calls"] = {name: part._calls for name, part in self.named_modules() if isinstance(part, FixedPoint)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        buffers = dict(self.named_buffers())
        for name, peak in checkpoint.get("peaks", {}).items():
            buffers[name].fill_(peak)
        for name, part in self.named_modules():
            if isinstance(part, FixedPoint):
                part._calls = checkpoint.get("calls", {}).get(name, 0)


def quantisers(net: nn.Module) -> list[FixedPoint]:
    """Lists the fixed-point quantisers below a network."""
    return [part for part in net.modules() if isinstance(part, FixedPoint)]


def refit(net: nn.Module) -> None:
    """Chooses the weight grids of a twin again, after its weights have moved."""
    for part in net.modules():
        if isinstance(part, ExactConv2d):
            part.fit_exponents()


def twin_of(net: N) -> N:
    """Copies a network in float32 for use, its exact layers as twins on grids that fit its weights."""
    twin = copy.deepcopy(net).float().eval()
    if any(part.mode == "float" for part in quantisers(twin)):
        set_mode(twin, "twin")
    refit(twin)
    return twin
