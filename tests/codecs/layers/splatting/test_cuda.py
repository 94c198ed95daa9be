"""The call of gsplat, which needs a GPU: what it is given, by a stand-in that draws with the oracle."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codec.codecs.layers.splatting import oracle
from codec.codecs.layers.splatting.camera import Camera, look_at
from codec.codecs.layers.splatting.rasterise import Backend, render
from codec.errors import UsageError


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = True,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """The arguments, results and checks of gsplat 1.5; the picture is the oracle's."""
    assert viewmats.shape == (1, 4, 4)
    assert Ks.shape == (1, 3, 3)
    assert (near_plane, eps2d, packed, render_mode, rasterize_mode) == (0.01, 0.3, False, "RGB", "classic")
    assert sh_degree is not None
    assert colors.shape[1] >= (sh_degree + 1) ** 2
    assert backgrounds is not None
    assert backgrounds.shape == (1, 3)
    k = Ks[0].tolist()
    view = Camera(width, height, (k[0][0], k[1][1], k[0][2], k[1][2]), viewmats[0].double().numpy())
    seen = oracle.project(means, quats, scales, opacities, colors, view, sh_degree)
    centres = seen.means2d[None]
    flat = oracle.Projection(centres[0], seen.conics, seen.colours, seen.depths, seen.reach, seen.radii)
    red, green, blue = backgrounds[0].tolist()
    image, alpha = oracle.composite(flat, opacities, view, (red, green, blue))
    radii = torch.stack([seen.radii, seen.radii // 2], -1)[None]
    return image[None], alpha[None, ..., None], {"means2d": centres, "radii": radii}


def test_the_same_picture_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("gsplat")
    module.rasterization = rasterization  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "gsplat", module)
    generator = torch.Generator().manual_seed(0)
    shapes = ((30, 3), (30, 4), (30, 3), (30,), (30, 16, 3))
    parts = [torch.rand(shape, generator=generator) * 0.3 for shape in shapes]
    results = []
    backends: tuple[Backend, ...] = ("torch", "gsplat")
    for backend in backends:
        a, b, c, d, e = (part.clone().requires_grad_() for part in parts)
        picture = render(a, b, c, d, e, look_at((0, 0, 3), (0, 0, 0), 20, 14), (0, 0.5, 1), 2, backend)
        picture.image.square().sum().backward()
        grad = picture.means2d.grad
        assert grad is not None
        results.append([picture.image, picture.alpha, picture.radii, picture.means2d, grad, a.grad])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-6)


def test_it_is_missed_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    shapes = ((3, 3), (3, 4), (3, 3), (3,), (3, 1, 3))
    a, b, c, d, e = (torch.ones(shape) for shape in shapes)
    with pytest.raises(UsageError, match="pip install gsplat"):
        render(a, b, c, d, e, look_at((0, 0, 3), (0, 0, 0), 9, 9), backend="gsplat")
