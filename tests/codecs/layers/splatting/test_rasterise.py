"""The rasteriser: the oracle against its definition and finite differences, the kernels against the oracle."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codec import native
from codec.codecs.layers.splatting import oracle
from codec.codecs.layers.splatting.camera import Camera, look_at
from codec.codecs.layers.splatting.harmonics import basis_array, colours, colours_array, used_degree
from codec.codecs.layers.splatting.rasterise import Rendering, render, render_array
from codec.errors import UsageError
from codec.media.gaussians.values import Gaussians
from codec.native import splats

NAMES = ("means", "quaternions", "scales", "opacities", "harmonics")
compiled = pytest.mark.skipif(not splats.usable(), reason="nothing was compiled")


def scene(
    n: int, size: float = 0.1, degree: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Gaussians around the origin, in the order of NAMES."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    parts = [
        *(0.35 * normal(n, 3), normal(n, 4), torch.exp(0.4 * normal(n, 3) + math.log(size))),
        *(torch.sigmoid(1.5 * normal(n)), 0.3 * normal(n, (degree + 1) ** 2, 3)),
    ]
    return [part.to(dtype) for part in parts]


def camera(width: int = 48, height: int = 35) -> Camera:
    return look_at((0.2, 0.3, 2.5), (0, 0, 0), width, height)


def rendered(parts: Iterable[Tensor], view: Any, *rest: Any, **options: Any) -> Rendering:
    means, quaternions, scales, opacities, harmonics = parts
    return render(means, quaternions, scales, opacities, harmonics, view, *rest, **options)


def drawn(parts: list[Tensor], view: Camera, backend: Any, **options: Any) -> tuple[Rendering, list[Tensor]]:
    """An image, and the gradients of what random weights make of it and of alpha: of the parts and of means2d."""
    generator = torch.Generator().manual_seed(5)
    leaves = [part.clone().requires_grad_() for part in parts]
    picture = rendered(leaves, view, backend=backend, **options)
    weights = torch.randn(view.height, view.width, 4, generator=generator).to(picture.image)
    loss = (picture.image * weights[..., :3]).sum() + (picture.alpha * weights[..., 3]).sum()
    loss.backward()
    gradients = [leaf.grad for leaf in leaves] + [picture.means2d.grad]
    assert all(gradient is not None for gradient in gradients)
    return picture, [gradient for gradient in gradients if gradient is not None]


# ---- harmonics


class TestHarmonics:
    def test_they_are_orthonormal(self) -> None:
        x = np.random.default_rng(0).normal(size=(200_000, 3))
        terms = basis_array(x / np.linalg.norm(x, axis=1, keepdims=True), 3)
        products = 4 * math.pi * terms.T @ terms / len(x)
        np.testing.assert_allclose(products, np.eye(16), atol=0.03)

    def test_signs_and_order(self) -> None:
        x, y, z = basis_array(np.eye(3), 1)
        np.testing.assert_allclose([x[3], y[1], z[2]], [-0.48860251, -0.48860251, 0.48860251])

    def test_of_torch_and_numpy(self) -> None:
        x = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1)
        harmonics = torch.randn(50, 16, 3, dtype=torch.float64)
        for degree in range(4):
            ours = colours(harmonics, x, degree)
            np.testing.assert_allclose(ours, colours_array(harmonics.numpy(), x.numpy(), degree), atol=1e-12)
            assert ours.min() == 0

    def test_degrees(self) -> None:
        assert [used_degree(n) for n in (1, 4, 9, 16, 25)] == [0, 1, 2, 3, 3]
        assert used_degree(16, 1) == 1
        for wrong in ((0, None), (4, -1)):
            with pytest.raises(UsageError):
                used_degree(*wrong)


# ---- the oracle


class TestOracle:
    def test_an_ellipse_is_what_it_is_said_to_be(self) -> None:
        """A Gaussian of known covariance in the middle, two behind each other, and the background."""
        view = Camera(9, 9, (100.0, 100.0, 4.5, 4.5), np.eye(4))
        parts = [
            torch.tensor([[0, 0, 10.0], [0, 0, 5]], dtype=torch.float64),
            torch.tensor([[2, 0, 0, 0], [1, 0, 0, 0]], dtype=torch.float64),
            torch.tensor([[0.2, 0.1, 0.1], [0.1, 0.1, 0.3]], dtype=torch.float64),
            torch.tensor([0.5, 0.8], dtype=torch.float64),
            torch.zeros(2, 1, 3, dtype=torch.float64),
        ]
        parts[4][0, 0] = torch.tensor([1.0, 0, -4])
        picture = rendered(parts, view, (0.25, 0.5, 1), backend="torch")
        dx, dy = 2.0, -1.0  # of the pixel in row 3, column 6
        near = 0.8 * math.exp(-0.5 * (dx * dx + dy * dy) / (4 + 0.3))  # 100 / 5 * 0.1 = 2 pixels
        far = 0.5 * math.exp(-0.5 * (dx * dx / (4 + 0.3) + dy * dy / (1 + 0.3)))
        colour = np.array([0.28209479177387814 + 0.5, 0.5, 0])
        expected = near * 0.5 + (1 - near) * (far * colour + (1 - far) * np.array([0.25, 0.5, 1]))
        np.testing.assert_allclose(picture.image[3, 6], expected, atol=1e-12)
        assert float(picture.alpha[3, 6]) == pytest.approx(1 - (1 - near) * (1 - far))
        assert picture.radii.tolist() == [7, 7]
        np.testing.assert_allclose(picture.means2d, 4.5)

    def test_gradients_by_finite_differences(self) -> None:
        parts = scene(20, size=0.25, dtype=torch.float64, seed=4)
        parts[3] = 0.1 + 0.6 * parts[3]
        view = camera(14, 11)
        leaves = [part.requires_grad_() for part in parts]

        def flat(*leaves: Tensor) -> Tensor:
            seen = oracle.project(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4], view)
            image, alpha = _smooth(seen, leaves[3], view)
            return torch.cat([image.flatten(), alpha.flatten()])

        assert torch.autograd.gradcheck(flat, leaves, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_other_dtypes(self, dtype: torch.dtype) -> None:
        assert rendered(scene(5, dtype=dtype), camera(), backend="torch").image.dtype == dtype


def _smooth(seen: oracle.Projection, opacities: Tensor, view: Camera) -> tuple[Tensor, Tensor]:
    """The composite without the steps at 1/255 and 1e-4, across which there are no differences to be taken."""
    least, light = oracle.LEAST_ALPHA, oracle.LEAST_LIGHT
    try:
        oracle.LEAST_ALPHA, oracle.LEAST_LIGHT = 0.0, 1e-300  # pyright: ignore[reportAttributeAccessIssue]
        everywhere = torch.full_like(seen.reach, 1e3)
        whole = oracle.Projection(
            seen.means2d, seen.conics, seen.colours, seen.depths, everywhere, torch.ones_like(seen.radii)
        )
        return oracle.composite(whole, opacities, view, (0.3, 0.6, 0.9))
    finally:
        oracle.LEAST_ALPHA, oracle.LEAST_LIGHT = least, light


# ---- the kernels beside it


@pytest.fixture(params=native.instruction_sets())
def instructions(request: pytest.FixtureRequest) -> Any:
    threads = native.threads()
    with native.using(request.param):
        yield request.param
    native.set_threads(threads)


def close(parts: list[Tensor], view: Camera, tolerance: float = 1e-3, **options: Any) -> None:
    """Asserts that kernels and oracle agree: images to 1e-4, gradients to a part of their norm."""
    expected, wanted = drawn(parts, view, "torch", **options)
    actual, given = drawn(parts, view, "compiled", **options)
    assert float((expected.image - actual.image).detach().abs().max()) < 1e-4
    assert float((expected.alpha - actual.alpha).detach().abs().max()) < 1e-4
    assert torch.equal(expected.radii > 0, actual.radii > 0)
    assert int((expected.radii - actual.radii).abs().max()) <= 1
    seen = expected.radii > 0
    for name, a, b in zip((*NAMES, "means2d"), wanted, given, strict=True):
        assert torch.isfinite(b).all(), name
        a, b = (x[seen] for x in (a, b))
        assert float((a - b).norm()) <= tolerance * float(a.norm()) + 1e-7, name


@compiled
@pytest.mark.usefixtures("instructions")
class TestKernels:
    @pytest.mark.parametrize("degree", range(4))
    @pytest.mark.parametrize(
        ("n", "size", "width", "height"), [(1, 0.2, 1, 1), (40, 0.3, 16, 16), (200, 0.1, 50, 37), (500, 0.4, 17, 33)]
    )
    def test_scenes(self, n: int, size: float, width: int, height: int, degree: int) -> None:
        close(scene(n, size, degree, seed=n), camera(width, height), background=(0.2, 0.7, 1.0))

    def test_fewer_degrees_than_there_are(self) -> None:
        parts = scene(100)
        close(parts, camera(), degree=1)
        _, gradients = drawn(parts, camera(), "compiled", degree=1)
        assert not gradients[4][:, 4:].any()
        assert gradients[4][:, 1:4].any()

    def test_harmonics_of_degree_4_are_ignored(self) -> None:
        parts = scene(50)
        more = [*parts[:4], torch.cat([parts[4], torch.ones(50, 9, 3)], 1)]
        assert torch.equal(drawn(more, camera(), "compiled")[0].image, drawn(parts, camera(), "compiled")[0].image)

    def test_opaque_ones_end_pixels(self) -> None:
        parts = scene(400, 0.3)
        parts[3][:] = 1.0
        close(parts, camera(40, 40))

    def test_those_that_hardly_show(self) -> None:
        parts = scene(200, 0.2)
        parts[3] = 0.012 * parts[3]
        close(parts, camera(), tolerance=0.02)  # of alphas at 1/255 either may keep one more

    def test_a_camera_among_them(self) -> None:
        """Some are behind it, some at its edges where the Jacobian is held, some a finger's breadth away."""
        parts = scene(400, 0.1, seed=8)
        close(parts, look_at((0.1, 0.0, 0.3), (0, 0, -1), 40, 30, fov=100))

    def test_degenerate_ones(self) -> None:
        parts = scene(60, 0.15, seed=3)
        parts[2][:5] = 0.0  # points
        parts[2][5:8, :2] = 1e-12  # needles
        parts[2][8] = torch.tensor([40.0, 1e-3, 1e-3])
        parts[1][9:12] = 0.0  # no rotation
        parts[1][12] = 1e-6
        parts[3][13:16] = 0.0
        parts[0][16] = torch.tensor([0.2, 0.3, 2.5])  # where the camera is
        parts[0][17:20] = parts[0][17]  # the same depth: the order of rows
        close(parts, camera())

    def test_what_is_not_finite_is_not_drawn(self) -> None:
        parts = scene(40, 0.15, seed=3)
        clean, _ = drawn([part[8:] for part in parts], camera(), "compiled")
        for row, (part, value) in enumerate([(0, "nan"), (0, "inf"), (1, "nan"), (2, "nan"), (2, "inf"), (3, "nan")]):
            parts[part].view(40, -1)[row, 0] = float(value)
        parts[4][6, 3, 1] = float("nan")
        parts[4][7, 0, 1] = float("inf")
        picture, gradients = drawn(parts, camera(), "compiled")
        assert not picture.radii[:8].any()
        assert torch.equal(picture.image, clean.image)
        for gradient in gradients:
            assert torch.isfinite(gradient).all()
            assert not gradient[:8].any()
        assert torch.equal(drawn(parts, camera(), "torch")[0].radii > 0, picture.radii > 0)

    def test_huge_and_far_ones(self) -> None:
        parts = scene(30, 0.15, seed=3)
        parts[2][:4] = torch.tensor([1e3, 1e6, 1e15, 1e25])[:, None]
        parts[0][4:8] = torch.tensor([1e6, -1e6, 1e18, 1e30])[:, None]
        parts[4][8:10] = torch.tensor([1e18, -1e18])[:, None, None]
        picture, gradients = drawn(parts, camera(), "compiled")
        assert torch.isfinite(picture.image).all()
        for gradient in gradients[:4]:
            assert torch.isfinite(gradient).all()

    def test_nothing_to_see(self) -> None:
        for n in (0, 3):
            parts = scene(3)
            parts[0][:, 2] = 100.0
            picture, gradients = drawn([part[:n] for part in parts], camera(), "compiled", background=(1, 0.5, 0.25))
            assert (picture.image == torch.tensor([1, 0.5, 0.25])).all()
            assert not picture.alpha.any()
            assert not any(gradient.any() for gradient in gradients)

    def test_any_number_of_threads_gives_the_same_bits(self) -> None:
        parts = scene(700, 0.1)
        results = []
        for threads in (1, 2, 3, 7):
            native.set_threads(threads)
            picture, gradients = drawn(parts, camera(90, 70), "compiled")
            results.append([picture.image, picture.alpha, *gradients])
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))

    def test_tensors_that_lie_otherwise_in_memory(self) -> None:
        parts = scene(50)
        turned = [part.movedim(0, -1).contiguous().movedim(-1, 0) for part in parts]
        expected, actual = (drawn(some, camera(), "compiled") for some in (parts, turned))
        assert all(torch.equal(a, b) for a, b in zip(expected[1], actual[1], strict=True))


@compiled
def test_numbers_that_change_before_the_gradient() -> None:
    parts = [part.requires_grad_() for part in scene(20)]
    picture = rendered(parts, camera())
    with torch.no_grad():
        parts[0].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        picture.image.sum().backward()


@compiled
def test_without_gradients_nothing_is_kept() -> None:
    with torch.no_grad():
        picture = rendered((part.requires_grad_() for part in scene(20)), camera())
    assert not picture.image.requires_grad
    assert not picture.means2d.requires_grad


# ---- the interface


class TestInterface:
    def test_backends(self) -> None:
        parts = scene(20)
        with pytest.raises(UsageError, match="auto, compiled, torch, gsplat"):
            rendered(parts, camera(), backend="fast")
        with pytest.raises(UsageError, match="float32"):
            rendered(scene(20, dtype=torch.float64), camera(), backend="compiled")
        with native.using(None):
            assert float(rendered(parts, camera()).alpha.max()) > 0.5
            with pytest.raises(UsageError, match="backend torch"):
                rendered(parts, camera(), backend="compiled")

    @pytest.mark.parametrize("which", range(5))
    def test_shapes(self, which: int) -> None:
        parts = scene(6)
        for wrong in (parts[which][:5], parts[which][..., None], parts[which].double()):
            changed = [wrong if i == which else part for i, part in enumerate(parts)]
            with pytest.raises(UsageError, match="expected"):
                rendered(changed, camera())

    def test_another_kind_of_camera(self) -> None:
        """A view of a capture has the attributes of a camera and is no `Camera`."""
        plain = camera()
        view = type("View", (), {**vars(plain)})()
        images = [rendered(scene(20), some).image for some in (plain, view)]
        assert torch.equal(*images)

    def test_densification_gets_its_gradient(self) -> None:
        """The gradient of means2d is that of moving an ellipse by a pixel."""
        parts = scene(1, 0.2)
        picture, gradients = drawn(parts, camera(), "auto")
        assert picture.means2d.grad is gradients[-1]
        assert gradients[-1].any()


class TestArrays:
    @staticmethod
    def gaussians(n: int = 200, degree: int = 3) -> Gaussians:
        means, quaternions, scales, opacities, harmonics = (part.numpy() for part in scene(n, 0.1, degree))
        return Gaussians(means, np.log(scales), quaternions, np.log(opacities / (1 - opacities)), harmonics)

    @pytest.mark.parametrize("engine", [None, *native.instruction_sets()])
    def test_beside_the_oracle(self, engine: str | None) -> None:
        expected = rendered(scene(200), camera(), (0.1, 0.2, 0.3), backend="torch").image
        with native.using(engine):
            pixels = render_array(self.gaussians(), camera(), (0.1, 0.2, 0.3))
        assert pixels.dtype == np.uint8
        assert pixels.shape == (35, 48, 3)
        assert np.abs(expected.clamp(0, 1).numpy() * 255 - pixels).max() < 0.52

    def test_of_any_degree(self) -> None:
        for degree in range(5):
            gaussians = self.gaussians(3, degree)
            assert render_array(gaussians, camera()).min() < 255

    def test_hostile_numbers(self) -> None:
        values = self.gaussians(4)
        rows = np.array([np.nan, np.inf, -np.inf, 3e38], np.float32)
        for name in ("positions", "scales", "rotations", "opacities", "harmonics"):
            changed = getattr(values, name).copy()
            changed.reshape(4, -1)[:, 0] = rows
            for engine in (None, *native.instruction_sets()):
                with native.using(engine):
                    pixels = render_array(Gaussians(**{**vars(values), name: changed}), camera())
                assert pixels.shape == (35, 48, 3)
