"""Adaptive density of frame 0: cloning, splitting and pruning, as in 3D Gaussian splatting, with a cap on the count.

Kerbl et al., SIGGRAPH 2023, section 5; schedule and thresholds of `config.Densify`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...errors import MediaError
from .config import Densify
from .gaussians import FIELDS, Cloud, rotation_matrices

__all__ = ["Densifier"]

_FADED = 0.01  # opacity after a reset
_SHRUNK = 1.6  # by which both halves of a split Gaussian are smaller


class Densifier:
    """Watches the gradients of means in the picture, and changes the rows of a cloud when the schedule says so.

    extent: of the cameras. generator: draws where the halves of a split Gaussian lie.
    """

    def __init__(self, settings: Densify, cloud: Cloud, extent: float, generator: torch.Generator) -> None:
        self.settings, self.cloud, self.extent, self.generator = settings, cloud, extent, generator
        self._forget()

    def _forget(self) -> None:
        self.sums = self.cloud.positions.new_zeros(len(self.cloud))
        self.counts, self.radii = torch.zeros_like(self.sums), torch.zeros_like(self.sums)

    def watch(self, gradient: Tensor, radii: Tensor, width: int, height: int) -> None:
        """Adds one picture. gradient: of the loss by the means in pixels, (N, 2). radii: in pixels, 0 for not seen."""
        seen = radii > 0
        sides = gradient.new_tensor([width / 2, height / 2])
        self.sums += torch.where(seen, (gradient * sides).norm(dim=1), 0.0)
        self.counts += seen
        self.radii = torch.maximum(self.radii, radii.to(self.radii.dtype))

    def act(self, iteration: int) -> None:
        """Does what is due after an iteration, the first being 1. MediaError if no Gaussian would be left."""
        s = self.settings
        if s.start < iteration < s.stop and iteration % s.every == 0:
            self._grow()
            self._prune(iteration > s.reset)
            self._forget()
        if iteration < s.stop and (iteration % s.reset == 0 or iteration == s.fade_at):
            self.fade()

    def fade(self) -> None:
        """Brings every opacity down to 0.01, so that what no picture needs stays there and is pruned."""
        self.cloud.values["opacities"].data.clamp_max_(math.log(_FADED / (1 - _FADED)))
        self.cloud.forget(torch.arange(len(self.cloud)), "opacities")

    def _grow(self) -> None:
        s, cloud = self.settings, self.cloud
        mean = self.sums / self.counts.clamp_min(1)
        budget = min(s.most - len(cloud), int(s.growth * len(cloud)))
        wanted = (mean >= s.gradient).nonzero().squeeze(1)
        if budget <= 0 or not len(wanted):
            return
        if len(wanted) > budget:
            wanted = wanted[mean[wanted].argsort(descending=True, stable=True)[:budget]].sort().values
        with torch.no_grad():
            values = {name: cloud.values[name].detach()[wanted] for name in FIELDS}
            split = values["scales"].exp().amax(1) > s.dense * self.extent
            self._halve(values, wanted, split)
        self.radii = torch.cat((self.radii, self.radii[wanted] * 0))

    def _halve(self, values: dict[str, Tensor], rows: Tensor, split: Tensor) -> None:
        """Adds a copy of each row; of those to be split, moves and shrinks both the row and its copy.

        Adam's moments of a split row start again, as it is another Gaussian then.
        """
        cloud, scales = self.cloud, values["scales"].exp()
        noise = torch.randn((2, len(rows), 3), generator=self.generator).to(scales.device)
        turned = torch.einsum("nij,hnj->hni", rotation_matrices(values["rotations"]), noise * scales)
        smaller = torch.where(split[:, None], values["scales"] - math.log(_SHRUNK), values["scales"])
        offset = torch.where(split[:, None], turned, 0.0)
        cloud.append({**values, "positions": values["positions"] + offset[1], "scales": smaller})
        cloud.values["positions"].data[rows] = values["positions"] + offset[0]
        cloud.values["scales"].data[rows] = smaller
        cloud.forget(rows[split])

    def _prune(self, large_too: bool) -> None:
        s, cloud = self.settings, self.cloud
        with torch.no_grad():
            kept = cloud.opacities >= s.opacity
            if large_too:
                kept &= (self.radii <= s.screen) & (cloud.scales.amax(1) <= s.large * self.extent)
        if not bool(kept.any()):
            raise MediaError(
                f"all {len(cloud)} Gaussians would be pruned: none of them is seen in the pictures. Check cameras and "
                "background of the capture"
            )
        if not bool(kept.all()):
            cloud.keep(kept)
