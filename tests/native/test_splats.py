"""Kernels of the rasteriser against their twin: ellipses, pictures, lists in parts, and calls that can't be right.

Gradients are compared with those of torch in tests/codecs/layers/splatting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.codecs.layers.splatting.camera import look_at
from codec.errors import UsageError
from codec.native import splats
from codec.native.splats import Ellipses, Scene

VIEW = look_at((0.3, 0.2, 2.5), (0, 0, 0), 45, 38)
SIZE = (45, 38)
REAR = (0.25, 0.5, 1.0)


def scene(n: int = 150, size: float = 0.1, degree: int = 3, seed: int = 0) -> Scene:
    random = np.random.default_rng(seed)
    parts = (
        *(0.35 * random.normal(size=(n, 3)), random.normal(size=(n, 4))),
        *(size * np.exp(0.4 * random.normal(size=(n, 3))), random.uniform(size=n)),
        0.3 * random.normal(size=(n, (degree + 1) ** 2, 3)),
    )
    means, quaternions, scales, opacities, harmonics = (np.ascontiguousarray(part, np.float32) for part in parts)
    return Scene(means, quaternions, scales, opacities, harmonics, degree)


@pytest.fixture(params=native.instruction_sets())
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    threads = native.threads()
    with native.using(request.param):
        yield request.param
    native.set_threads(threads)


def twin(gaussians: Scene) -> tuple[Ellipses, np.ndarray, np.ndarray]:
    with native.using(None):
        seen = splats.project(gaussians, VIEW)
        image, light, _ = splats.composite(seen, gaussians.opacities, SIZE, REAR)
    return seen, image, light


@pytest.mark.usefixtures("instructions")
class TestBesideTheTwin:
    @pytest.mark.parametrize("degree", range(4))
    @pytest.mark.parametrize(("n", "size"), [(0, 0.1), (1, 0.3), (7, 0.2), (150, 0.1), (100, 0.6)])
    def test_scenes(self, n: int, size: float, degree: int) -> None:
        gaussians = scene(n, size, degree)
        expected, picture, rest = twin(gaussians)
        seen = splats.project(gaussians, VIEW)
        np.testing.assert_array_equal(seen.radii > 0, expected.radii > 0)
        for name in ("means2d", "conics", "colours", "depths", "reach"):
            np.testing.assert_allclose(getattr(seen, name), getattr(expected, name), rtol=2e-4, atol=2e-5, err_msg=name)
        image, light, last = splats.composite(seen, gaussians.opacities, SIZE, REAR)
        assert np.abs(image - picture).max() < 1e-4
        assert np.abs(light - rest).max() < 1e-4
        np.testing.assert_array_equal(last >= 0, light < 1)

    def test_needles_lie_along_their_axis(self) -> None:
        """A determinant by differences of squares has no correct digit here."""
        gaussians = scene(50, 0.1)
        gaussians.scales[:] = [3.0, 1e-5, 1e-5]
        expected, picture, _ = twin(gaussians)
        seen = splats.project(gaussians, VIEW)
        np.testing.assert_allclose(seen.conics, expected.conics, rtol=1e-3, atol=1e-6)
        image, _, _ = splats.composite(seen, gaussians.opacities, SIZE, REAR)
        assert np.abs(image - picture).max() < 1e-3


@pytest.mark.usefixtures("instructions")
class TestParts:
    """Lists of all tiles at once, or of one row of tiles after the other, give the same."""

    @pytest.mark.parametrize("room", [1, 300])
    def test_pictures_and_gradients(self, room: int) -> None:
        gaussians = scene(300, 0.2)
        seen = splats.project(gaussians, VIEW)
        results = []
        for size in (splats.ROOM, room):
            image, light, last = splats.composite(seen, gaussians.opacities, SIZE, REAR, size)
            given = splats.composite_back(seen, gaussians.opacities, REAR, light, last, image - 1, light, size)
            results.append(((image, light, last), given))
        for a, b in zip(results[0][0], results[1][0], strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(results[0][1], results[1][1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())

    def test_threads(self) -> None:
        gaussians = scene(300, 0.2)
        results = []
        for threads in (1, 2, 5):
            native.set_threads(threads)
            seen = splats.project(gaussians, VIEW)
            image, light, last = splats.composite(seen, gaussians.opacities, SIZE, REAR, 2000)
            given = splats.composite_back(seen, gaussians.opacities, REAR, light, last, image, light, 2000)
            results.append([image, light, *given, *splats.project_back(gaussians, VIEW, seen, *given[:3])])
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("width", [1, 16, 37])
def test_hostile_numbers(width: int) -> None:
    """Any numbers give a picture, no gradient where nothing is seen, and touch no other memory (tests/sanitize.py)."""
    random = np.random.default_rng(width)
    whole = scene(200, 0.2)
    extreme = np.array([0, -0.0, 1e-38, -1, 1e3, 1e10, -1e20, 3e38, np.inf, -np.inf, np.nan, 1e-45], np.float32)
    for name in ("means", "quaternions", "scales", "opacities", "harmonics"):
        array = getattr(whole, name)
        array[random.uniform(size=array.shape) < 0.04] = random.choice(extreme)
    view = look_at((0.3, 0.2, 0.6), (0, 0, 0), width, 38, fov=120)
    seen = splats.project(whole, view)
    assert 0 < np.count_nonzero(seen.radii) < 200
    image, light, last = splats.composite(seen, whole.opacities, (width, 38), REAR, 500)
    given = splats.composite_back(seen, whole.opacities, REAR, light, last, image, light, 500)
    given = (*given, *splats.project_back(whole, view, seen, *given[:3]))
    assert np.isfinite(light).all()
    for gradient in given:
        assert not gradient[seen.radii == 0].any()


class TestCalls:
    @pytest.mark.parametrize("name", ["means", "quaternions", "scales", "opacities", "harmonics"])
    def test_arrays_that_are_no_scene(self, name: str) -> None:
        whole = scene(6)
        array = getattr(whole, name)
        for wrong in (array[:-1], array.astype(np.float64), np.asfortranarray(array.repeat(2, 0))[::2]):
            if wrong.shape == array.shape and wrong.flags.c_contiguous and wrong.dtype == np.float32:
                continue
            with pytest.raises(UsageError):
                replace(whole, **{name: wrong})

    @pytest.mark.parametrize("degree", [-1, 2, 4])
    def test_degrees(self, degree: int) -> None:
        with pytest.raises(UsageError, match="degree"):
            replace(scene(5, degree=1), degree=degree)

    @pytest.mark.skipif(not splats.usable(), reason="nothing was compiled")
    def test_gradients_of_other_shapes(self) -> None:
        gaussians = scene(5)
        seen = splats.project(gaussians, VIEW)
        image, light, last = splats.composite(seen, gaussians.opacities, SIZE, REAR)
        with pytest.raises(UsageError, match="v_image"):
            splats.composite_back(seen, gaussians.opacities, REAR, light, last, image[1:], light)
        other: Any = last.astype(np.int64)
        with pytest.raises(UsageError, match="last"):
            splats.composite_back(seen, gaussians.opacities, REAR, light, other, image, light)
        with pytest.raises(UsageError, match="v_conics"):
            splats.project_back(gaussians, VIEW, seen, seen.means2d, seen.means2d, seen.colours)
        with pytest.raises(UsageError, match="opacities"):
            splats.composite(seen, gaussians.opacities[:4], SIZE, REAR)
