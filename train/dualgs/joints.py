"""Joint Gaussians: their fit to frame 0 (section 3a), and their tracking from frame to frame (the coarse stage, 4a)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ...codecs.layers.splatting.rasterise import Backend
from ...errors import MediaError
from ...media.gaussians.values import DC, coefficients_of
from .config import Coarse, Recipe, Static
from .densify import Densifier
from .gaussians import Cloud
from .graph import Neighbours, farthest, nearest
from .losses import Rigidity, isotropy, size
from .painting import drawn, picture_loss
from .views import Views

__all__ = ["Tick", "choose", "first_points", "fit_static", "track"]

Tick = Callable[[], None]
_HULL_ROUNDS = 64  # of random points, until enough lie in the visual hull
_MOVED = ("positions", "rotations")


def first_points(recipe: Recipe, views: Views, generator: torch.Generator, device: torch.device | str) -> Cloud:
    """Gaussians to begin with: round, opacity 0.1, as large as the distance to their neighbours."""
    cube = recipe.cube
    if recipe.start == "cube":
        positions = (torch.rand((recipe.points, 3), generator=generator) * 2 - 1) * cube
        colours = torch.rand((recipe.points, 3), generator=generator) / 255
        positions, colours = positions.to(device), colours.to(device)
    else:
        positions, colours = _hull(recipe, views, generator, device)
    squares, _ = nearest(positions, positions, 3, exclude_self=True)
    scales = squares.mean(1).clamp_min(1e-7).sqrt().log()[:, None].expand(-1, 3)
    n = len(positions)
    return Cloud(
        {
            "positions": positions,
            "rotations": positions.new_tensor([1.0, 0, 0, 0]).expand(n, 4),
            "scales": scales,
            "opacities": positions.new_full((n,), math.log(0.1 / 0.9)),
            "dc": ((colours - 0.5) / DC)[:, None],
            "rest": positions.new_zeros((n, coefficients_of(recipe.degree) - 1, 3)),
        }
    )


def _hull(
    recipe: Recipe, views: Views, generator: torch.Generator, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Random points of the cube that lie in the visual hull of the frame's pictures, with their colours."""
    positions: list[Tensor] = []
    colours: list[Tensor] = []
    for _ in range(_HULL_ROUNDS):
        points = (torch.rand((recipe.points * 4, 3), generator=generator) * 2 - 1).to(device) * recipe.cube
        kept, colour = views.inside(points)
        positions.append(points[kept])
        colours.append(colour[kept])
        if sum(map(len, positions)) >= recipe.points:
            break
    if sum(map(len, positions)) <= recipe.neighbours:
        raise MediaError(
            f"frame {views.frame}: no point of the cube of +-{recipe.cube:g} is on the subject in all pictures. Check "
            "the cameras, that the background is pure white, and that the subject lies in the cube"
        )
    return torch.cat(positions)[: recipe.points], torch.cat(colours)[: recipe.points]


def fit_static(
    cloud: Cloud,
    views: Views,
    recipe: Recipe,
    settings: Static,
    extent: float,
    generator: torch.Generator,
    tick: Tick,
    backend: Backend = "auto",
    joints: bool = False,
) -> None:
    """Fits a cloud to frame 0, in place. joints: as joints, with their regularisers, growing degree and choice."""
    densifier = Densifier(settings.densify, cloud, extent, generator)
    order = views.order(generator)
    for iteration in range(1, settings.iterations + 1):
        view = next(order)
        camera = views.cameras[view]
        degree = min(recipe.degree, (iteration - 1) // settings.degree_every) if joints else recipe.degree
        loss, rendering = picture_loss(drawn(cloud), views, view, recipe.ssim, degree, backend)
        if joints:
            loss = loss + recipe.isotropy * isotropy(cloud.scales, recipe.isotropy_ratio)
            loss = loss + recipe.size * size(cloud.scales)
        loss.backward()
        gradient = rendering.means2d.grad
        if iteration < settings.densify.stop and gradient is not None:
            densifier.watch(gradient, rendering.radii, camera.width, camera.height)
        cloud.set_rates(settings.rates, extent, iteration / settings.iterations)
        cloud.step()
        densifier.act(iteration)
        if joints and iteration == recipe.choose_at:
            choose(cloud, recipe)
            densifier = Densifier(settings.densify, cloud, extent, generator)
        tick()
    _check_finite(cloud, views.frame)


def choose(cloud: Cloud, recipe: Recipe) -> None:
    """Leaves the joints that the recipe asks for: farthest points, that many, or one of every floor(n / joints)."""
    if len(cloud) <= recipe.joints:
        return
    if recipe.choose == "farthest":
        cloud.keep(farthest(cloud.positions.detach(), recipe.joints))
    else:
        cloud.keep(torch.arange(0, len(cloud), len(cloud) // recipe.joints, device=cloud.positions.device))


def track(
    cloud: Cloud,
    earlier: Tensor | None,
    views: Views,
    graph: Neighbours,
    settings: Coarse,
    extent: float,
    generator: torch.Generator,
    tick: Tick,
    backend: Backend = "auto",
) -> None:
    """Moves the joints of the last frame, in place, to where they are in the pictures of this one.

    earlier: their positions in the frame before the last, None for the first that is tracked. Colour, opacity and scale
    stay; the loss is L1 and E_rigid against the last frame.
    """
    before = cloud.positions.detach().clone(), functional.normalize(cloud.rotations.detach(), dim=1)
    rigidity = Rigidity(*before, graph)
    if earlier is not None:
        cloud.positions.data += settings.momentum * (before[0] - earlier)
    order = views.order(generator)
    for iteration in range(1, settings.iterations + 1):
        loss, _ = picture_loss(drawn(cloud), views, next(order), 0.0, None, backend)
        if settings.rigidity:
            turned = functional.normalize(cloud.rotations, dim=1)
            loss = loss + settings.rigidity * rigidity(cloud.positions, turned)
        loss.backward()
        cloud.set_rates(settings.rates, extent, iteration / settings.iterations, _MOVED)
        cloud.step()
        tick()
    cloud.rotations.data = functional.normalize(cloud.rotations.data, dim=1)
    _check_finite(cloud, views.frame)


def _check_finite(cloud: Cloud, frame: int) -> None:
    for name, value in cloud.values.items():
        if not bool(torch.isfinite(value).all()):
            raise MediaError(
                f"frame {frame}: the fit came to {name} that are no numbers. Lower the learning rates, or check the "
                "cameras of the capture"
            )
