"""Trainable Gaussians with the state of their optimiser, which stays with them when rows are added or removed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ...media.gaussians.values import Gaussians
from .config import Rates

__all__ = ["FIELDS", "Adam", "Cloud", "position_rate", "product", "rotation_matrices", "tensors_of"]

FIELDS = ("positions", "rotations", "scales", "opacities", "dc", "rest")


class Adam:
    """Adam with eps 1e-15, as in 3D Gaussian splatting, over named tensors, each with a rate of its own.

    values: leaves that are changed in place. A rate of 0 leaves a tensor, and its moments, as they are.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = {name: value.detach().clone().requires_grad_() for name, value in values.items()}
        self.first = {name: torch.zeros_like(value.detach()) for name, value in self.values.items()}
        self.second = {name: torch.zeros_like(value.detach()) for name, value in self.values.items()}
        self.rates = dict.fromkeys(self.values, 0.0)
        self.steps = 0

    def step(self) -> None:
        """Takes one step with the gradients, and forgets them."""
        self.steps += 1
        with torch.no_grad():
            for name, value in self.values.items():
                if self.rates[name] and value.grad is not None:
                    self.first[name].lerp_(value.grad, 0.1)
                    self.second[name].mul_(0.999).addcmul_(value.grad, value.grad, value=0.001)
                    spread = self.second[name].sqrt().div_((1 - 0.999**self.steps) ** 0.5).add_(1e-15)
                    value.addcdiv_(self.first[name], spread, value=-self.rates[name] / (1 - 0.9**self.steps))
                value.grad = None

    def keep(self, rows: Tensor) -> None:
        """Keeps these rows, in this order (indices or a mask), with their moments."""
        for name, value in self.values.items():
            self.values[name] = value.detach()[rows].requires_grad_()
            self.first[name], self.second[name] = self.first[name][rows], self.second[name][rows]

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Adds rows whose moments are 0."""
        for name, value in self.values.items():
            self.values[name] = torch.cat((value.detach(), rows[name])).requires_grad_()
            none = torch.zeros_like(rows[name])
            self.first[name] = torch.cat((self.first[name], none))
            self.second[name] = torch.cat((self.second[name], none))

    def forget(self, rows: Tensor, name: str | None = None) -> None:
        """Sets the moments of these rows to 0, of one tensor or of all."""
        for moments in (self.first, self.second):
            for key, moment in moments.items():
                if name in (None, key):
                    moment[rows] = 0


class Cloud(Adam):
    """Gaussians as raw parameters: logarithms of scales, logits of opacities, and harmonics in two parts.

    values: `positions` (N, 3), `rotations` (N, 4) w x y z, `scales` (N, 3), `opacities` (N,), `dc` (N, 1, 3), `rest`
    (N, K - 1, 3).
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__({name: values[name] for name in FIELDS})

    def __len__(self) -> int:
        return len(self.values["positions"])

    @property
    def positions(self) -> Tensor:
        return self.values["positions"]

    @property
    def rotations(self) -> Tensor:
        return self.values["rotations"]

    @property
    def scales(self) -> Tensor:
        """The scales themselves, (N, 3)."""
        return self.values["scales"].exp()

    @property
    def opacities(self) -> Tensor:
        """The opacities themselves, 0 to 1, (N,)."""
        return self.values["opacities"].sigmoid()

    @property
    def harmonics(self) -> Tensor:
        """(N, K, 3), the constant first."""
        return torch.cat((self.values["dc"], self.values["rest"]), 1)

    def data(self) -> dict[str, Tensor]:
        """The raw values without gradients, as copies."""
        return {name: value.detach().clone() for name, value in self.values.items()}

    def set_rates(self, rates: Rates, extent: float, done: float, names: tuple[str, ...] = FIELDS) -> None:
        """Sets the learning rates at a part of a fit, 0 to 1; those of fields that aren't named are 0."""
        self.rates = {name: getattr(rates, name) if name in names else 0.0 for name in FIELDS}
        if "positions" in names:
            self.rates["positions"] = position_rate(rates, extent, done)

    def gaussians(self) -> Gaussians:
        """The values as arrays."""
        tensors = (self.positions, self.values["scales"], self.rotations, self.values["opacities"], self.harmonics)
        return Gaussians(*(tensor.detach().float().cpu().numpy().copy() for tensor in tensors))


def tensors_of(gaussians: Gaussians) -> dict[str, Tensor]:
    """The raw values of a cloud, by name, from those of a file."""
    harmonics = torch.tensor(gaussians.harmonics)
    arrays = (gaussians.positions, gaussians.rotations, gaussians.scales, gaussians.opacities)
    tensors = (*map(torch.tensor, arrays), harmonics[:, :1].clone(), harmonics[:, 1:].clone())
    return dict(zip(FIELDS, tensors, strict=True))


def position_rate(rates: Rates, extent: float, done: float) -> float:
    """The learning rate of positions at a part of a fit, 0 to 1."""
    return extent * rates.positions ** (1 - done) * rates.positions_last**done


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product of quaternions w x y z, (..., 4)."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    w = aw * bw - ax * bx - ay * by - az * bz
    x = aw * bx + ax * bw + ay * bz - az * by
    y = aw * by - ax * bz + ay * bw + az * bx
    z = aw * bz + ax * by - ay * bx + az * bw
    return torch.stack((w, x, y, z), -1)


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """The rotations of quaternions w x y z of any length but 0, (..., 3, 3)."""
    w, x, y, z = functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
