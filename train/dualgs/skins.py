"""Skin Gaussians: how they hang on joints (section 3c), and the fine stage that fits both to a frame (section 4b)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ...codecs.layers.splatting.rasterise import Backend
from .config import Fine, Recipe
from .gaussians import Adam, Cloud, position_rate, product, rotation_matrices
from .graph import Neighbours, mean_spacing, neighbours, warp
from .joints import Tick
from .losses import Rigidity, steadiness
from .painting import drawn, picture_loss
from .views import Views

__all__ = ["Canon", "Motion", "canon_of", "refine", "transforms_of"]

_APPEARANCE = ("scales", "opacities", "dc", "rest")
_CONJUGATE = (1.0, -1.0, -1.0, -1.0)


class Canon(NamedTuple):
    """Frame 0, which everything hangs on: joints and skins, the skins' anchors, and the graphs of both.

    length: l of the kernel that gave the weights. All clouds have rotations of length 1.
    """

    joints: dict[str, Tensor]
    skins: dict[str, Tensor]
    anchors: Neighbours
    joint_graph: Neighbours
    skin_graph: Neighbours
    length: float


class Motion(NamedTuple):
    """The fine stage's result: joints at the frame and their transforms from frame 0, (J, 3, 4); skins at the frame."""

    positions: Tensor
    rotations: Tensor
    transforms: Tensor
    skin_positions: Tensor
    skin_rotations: Tensor


def canon_of(joints: dict[str, Tensor], skins: dict[str, Tensor], recipe: Recipe) -> Canon:
    """Anchors and graphs of the joints and skins of frame 0."""
    k, x, s = recipe.neighbours, joints["positions"], skins["positions"]
    length = recipe.length or recipe.length_factor * mean_spacing(x)
    return Canon(
        joints,
        skins,
        neighbours(s, x, k, length),
        neighbours(x, x, k, length, exclude_self=True),
        neighbours(s, s, min(k, len(s) - 1), length, exclude_self=True),
        length,
    )


def transforms_of(positions: Tensor, rotations: Tensor, canon: Canon) -> Tensor:
    """The rigid transforms (J, 3, 4) that bring each joint of frame 0 to these positions and rotations."""
    turn = rotation_matrices(product(rotations, canon.joints["rotations"] * rotations.new_tensor(_CONJUGATE)))
    start = canon.joints["positions"]
    return torch.cat((turn, (positions - torch.einsum("nij,nj->ni", turn, start))[:, :, None]), 2)


def refine(
    joints: Cloud,
    skins: Cloud,
    before: tuple[dict[str, Tensor], Tensor, Tensor],
    canon: Canon,
    views: Views,
    recipe: Recipe,
    settings: Fine,
    extent: float,
    generator: torch.Generator,
    tick: Tick,
    backend: Backend = "auto",
) -> Motion:
    """Fits the transforms of tracked joints, and in place the appearance of the skins, to the pictures of a frame.

    before: the last frame's skins: appearance, positions and rotations, which the terms of time compare with.
    """
    with torch.no_grad():
        turned = functional.normalize(joints.rotations, dim=1)
        moved = {"positions": joints.positions, "rotations": turned}
        motion = Adam(moved if settings.rigid else {"matrices": transforms_of(joints.positions, turned, canon)})
    rigidity = Rigidity(*before[1:], canon.skin_graph)
    order = views.order(generator)
    for iteration in range(1, settings.iterations + 1):
        x, q = warp(canon.skins["positions"], canon.skins["rotations"], _transforms(motion, canon), canon.anchors)
        loss, _ = picture_loss(drawn(skins, x, q), views, next(order), recipe.ssim, None, backend)
        if settings.rigidity:
            loss = loss + settings.rigidity * rigidity(x, q)
        if settings.still or settings.steady:
            loss = loss + steadiness(skins.values, before[0], settings.still, settings.steady)
        loss.backward()
        done = iteration / settings.iterations
        rate = position_rate(settings.rates, extent, done)
        motion.rates = {"positions": rate, "rotations": settings.rates.rotations, "matrices": rate}
        motion.step()
        skins.set_rates(settings.rates, extent, done, _APPEARANCE)
        skins.step()
        tick()
    with torch.no_grad():
        return _result(motion, joints, canon)


def _transforms(motion: Adam, canon: Canon) -> Tensor:
    values = motion.values
    return (
        values["matrices"] if "matrices" in values else transforms_of(values["positions"], values["rotations"], canon)
    )


def _result(motion: Adam, joints: Cloud, canon: Canon) -> Motion:
    transforms = _transforms(motion, canon)
    x, q = warp(canon.skins["positions"], canon.skins["rotations"], transforms, canon.anchors)
    start = canon.joints["positions"]
    positions = torch.einsum("nij,nj->ni", transforms[:, :, :3], start) + transforms[:, :, 3]
    rotations = motion.values.get("rotations", joints.rotations).detach()
    return Motion(positions, functional.normalize(rotations, dim=1), transforms.detach(), x, q)
