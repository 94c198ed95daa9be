"""Messages of frames: the words as the docstring of `frames` says, read back by a twin that follows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from codec.errors import MediaError
from codec.media.gaussians.values import DC, Gaussians
from codec.viewer import frames
from codec.viewer.frames import Frames, bounds_of, pack, pack_harmonics

from .scenes import RED, Source, ball, moving, random_gaussians, together, unpacked


def halves(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    return words.astype(np.uint16).view(np.float16).astype(np.float64)


def rotations_of(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Quaternions w x y z from the octahedron."""
    u, v, angle = (words & 1023) / 1023, (words >> 10 & 1023) / 1023, (words >> 20) / 4095 * np.pi
    x, y = 2 * u - 1, 2 * v - 1
    z = 1 - np.abs(x) - np.abs(y)
    fold = np.maximum(-z, 0)
    x, y = x - np.copysign(fold, x), y - np.copysign(fold, y)
    axis = np.stack([x, y, z], 1) / np.linalg.norm([x, y, z], axis=0)[:, None]
    return np.concatenate([np.cos(angle / 2)[:, None], axis * np.sin(angle / 2)[:, None]], 1)


def harmonics_of(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """(N, 3) from words with shared exponents."""
    magnitudes = np.stack([words >> shift & 255 for shift in (0, 8, 16)], 1) / 255
    signs = np.stack([words >> bit & 1 for bit in (24, 25, 26)], 1)
    return np.where(signs, -1, 1) * magnitudes * 2.0 ** ((words >> 27).astype(int) - 15)[:, None]


class TestWords:
    def test_place_and_shape(self) -> None:
        g = random_gaussians(500, 1)
        place, shape = unpacked(pack(g, 7))
        assert np.frombuffer(pack(g, 7), "<u4", 4)[1:].tolist() == [7, 500, 2]
        assert (place[:, :3].view(np.float32) == g.positions).all()
        assert np.allclose(halves(place[:, 3]), 1 / (1 + np.exp(-g.opacities)), atol=5e-4)
        colour = np.stack([halves(shape[:, 0]), halves(shape[:, 0] >> 16), halves(shape[:, 1])], 1)
        assert np.allclose(colour, DC * g.harmonics[:, 0] + 0.5, atol=2e-3)
        scales = np.stack([halves(shape[:, 1] >> 16), halves(shape[:, 2]), halves(shape[:, 2] >> 16)], 1)
        assert np.allclose(scales, g.scales, atol=2e-3)

    def test_rotations(self) -> None:
        g = random_gaussians(4000, 0, seed=1)
        unit = g.rotations / np.linalg.norm(g.rotations, axis=1, keepdims=True)
        got = rotations_of(unpacked(pack(g))[1][:, 3])
        assert np.abs((unit * got).sum(1)).min() > 1 - 1e-5, "half a degree"
        turned = replace(g, rotations=-g.rotations)
        assert pack(turned) == pack(g), "q and -q are one rotation"

    def test_a_rotation_of_nothing(self) -> None:
        g = replace(
            ball((0, 0, 0), RED, 3), rotations=np.array([[1, 0, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 0]], np.float32)
        )
        assert np.allclose(rotations_of(unpacked(pack(g))[1][:, 3]), [[1, 0, 0, 0]] * 3)

    @pytest.mark.parametrize("degree", range(5))
    def test_harmonics(self, degree: int) -> None:
        g = random_gaussians(300, degree)
        scale = np.exp(np.random.default_rng(5).normal(size=(300, 1, 1)) * 3).astype(np.float32)
        g = replace(g, harmonics=g.harmonics * scale)
        planes = unpacked(pack_harmonics(g))
        assert len(planes) == (0, 1, 2, 4, 4)[degree]
        words = planes.transpose(1, 0, 2).reshape(300, -1)
        n = min(g.harmonics.shape[1], 16) - 1
        got = np.stack([harmonics_of(words[:, k]) for k in range(n)], 1) if n else np.zeros((300, 0, 3))
        largest = np.abs(g.harmonics[:, 1 : n + 1]).max(axis=2, keepdims=True)
        assert (np.abs(got - g.harmonics[:, 1 : n + 1]) <= largest / 255 * 1.001 + 1e-6).all()
        assert not words[:, n:].any()

    def test_what_is_not_finite_is_transparent(self) -> None:
        g = random_gaussians(6, 3)
        for row, (name, value) in enumerate(
            [
                ("positions", np.nan),
                ("scales", np.inf),
                ("rotations", np.nan),
                ("opacities", np.nan),
                ("harmonics", -np.inf),
            ]
        ):
            getattr(g, name).reshape(6, -1)[row, 0] = value
        with np.errstate(all="raise", under="ignore"):
            place, shape = unpacked(pack(g))
            pack_harmonics(g)
        assert (halves(place[:, 3]) > 0).tolist() == [False] * 5 + [True]
        assert np.isfinite(place[:, :3].view(np.float32)).all()
        assert np.isfinite(halves(shape[:, :3] & 0xFFFF)).all() and np.isfinite(halves(shape[:, :3] >> 16)).all()

    def test_extremes(self) -> None:
        big = np.float32(3e38)
        g = Gaussians(*(np.full(shape, big, np.float32) for shape in ((2, 3), (2, 3), (2, 4), (2,), (2, 16, 3))))
        with np.errstate(all="raise", under="ignore"):
            place, _ = unpacked(pack(g))
            pack_harmonics(g)
            bounds_of(g)
        assert (halves(place[:, 3]) == 1).all()

    def test_no_gaussians(self) -> None:
        none = random_gaussians(3, 2).take(np.arange(0))
        assert unpacked(pack(none)).shape == (2, 0, 4)
        assert unpacked(pack_harmonics(none)).shape == (2, 0, 4)
        assert bounds_of(none).radius == 1

    def test_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(frames, "MAX_COUNT", 2)
        with pytest.raises(MediaError, match="shows at most 2"):
            pack(random_gaussians(3, 0))


class TestBounds:
    def test_of_a_ball(self) -> None:
        bounds = bounds_of(ball((3, 4, 5), RED, 4000))
        assert np.allclose(bounds.centre, (3, 4, 5), atol=0.05)
        assert 0.4 < bounds.radius < 0.9

    def test_stray_and_transparent_ones_do_not_count(self) -> None:
        g = ball((0, 0, 0), RED, 1000)
        g.positions[:5] = 1e6
        g.positions[5:100], g.opacities[5:100] = 500, -9
        assert bounds_of(g).radius < 1


class TestFrames:
    def test_each_frame_is_decoded_once(self) -> None:
        source = moving()
        kept = Frames(source)
        messages = [kept.words(2), kept.harmonics(2), kept.words(2), kept.words(3)]
        assert messages[0] == messages[2] == pack(source.gaussians[2], 2) != messages[3]
        assert source.asked == [2, 3]

    def test_by_threads(self) -> None:
        source = moving()
        kept = Frames(source)
        threads = [threading.Thread(target=kept.words, args=(k % 5,)) for k in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(source.asked) == [0, 1, 2, 3, 4]

    def test_an_iterator_is_read_on(self) -> None:
        """Frames in about their order come from one iterator; a jump begins another; one that broke is left."""
        begun: list[int] = []

        class Streamed(Source):
            def frames(self, start: int) -> Iterator[Gaussians]:
                begun.append(start)
                for number in range(start, self.n_frames):
                    yield self.frame(number)

        source = Streamed(moving(20).gaussians, broken=[9])
        kept = Frames(source)
        assert all(kept.words(number) == pack(source.gaussians[number], number) for number in (0, 2, 1, 3))
        assert (begun, source.asked) == ([0], [0, 1, 2, 3])
        kept.words(8)
        kept.words(7)
        assert (begun, source.asked) == ([0, 8, 7], [0, 1, 2, 3, 8, 7])
        with pytest.raises(MediaError):
            kept.words(9)
        assert kept.words(10) == pack(source.gaussians[10], 10)
        assert begun == [0, 8, 7, 10] and source.asked[-3:] == [8, 9, 10]

    def test_the_budget_holds(self) -> None:
        source = Source([together(ball((0, 0, 0), RED, 100))] * 20)
        kept = Frames(source, budget=20_000)
        for number in range(20):
            kept.words(number)
        held = sum(size for _, size in kept._kept.values())
        assert 0 < held <= 20_000
        kept.words(0)
        assert source.asked[-1] == 0, "forgotten, and decoded again"
