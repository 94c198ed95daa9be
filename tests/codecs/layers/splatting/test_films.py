"""Pictures and films: what is framed, which frame and which camera each picture has, and files that appear whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.codecs.layers.splatting import films
from codec.codecs.layers.splatting.camera import Camera
from codec.codecs.layers.splatting.films import FRONT, ORBIT, Shot, bounds, cameras_of, colour_of, render_file
from codec.errors import CodecError, MediaError, UsageError
from codec.media.gaussians.values import Gaussians
from codec.media.video.reader import open_video


def ball(n: int = 60, middle: tuple[float, float, float] = (0, 0, 0), shade: float = 0.0) -> Gaussians:
    """Gaussians on a ball of radius 1."""
    places = np.random.default_rng(0).normal(size=(n, 3))
    places = places / np.linalg.norm(places, axis=1, keepdims=True) + middle
    return Gaussians(
        places.astype(np.float32),
        np.full((n, 3), -2, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
        np.full(n, 3, np.float32),
        np.full((n, 1, 3), shade, np.float32),
    )


class Frames:
    """A sequence whose frame i is of grey level i; it counts what is asked for."""

    def __init__(self, n_frames: int, fps: float | None = None) -> None:
        self.n_frames, self.fps = n_frames, fps
        self.asked: list[int] = []

    def frame(self, index: int) -> Gaussians:
        self.asked.append(index)
        return ball(shade=(index + 1) / 10 / 0.28209479177387814 - 0.5 / 0.28209479177387814)


def darkest(pixels: np.ndarray) -> float:
    return float(pixels.min()) / 255


class TestBounds:
    def test_of_a_ball(self) -> None:
        middle, radius = bounds(ball(4000, (1, 2, 3)))
        np.testing.assert_allclose(middle, (1, 2, 3), atol=0.05)
        assert 1 < radius < 1.8

    def test_floaters_far_away_and_unseen_ones_change_little(self) -> None:
        gaussians = ball(2000)
        gaussians.positions[:5] = 1e6
        gaussians.positions[5:400] = (50, 0, 0)
        gaussians.opacities[5:400] = -12
        gaussians.positions[400] = np.nan
        gaussians.opacities[401] = np.nan
        middle, radius = bounds(gaussians)
        np.testing.assert_allclose(middle, 0, atol=0.1)
        assert radius < 1.8

    def test_one_point(self) -> None:
        middle, radius = bounds(ball(1))
        assert np.isfinite(middle).all()
        assert radius > 0

    def test_nothing(self) -> None:
        gaussians = ball(3)
        gaussians.positions[:] = np.nan
        with pytest.raises(MediaError, match="nothing to draw"):
            bounds(gaussians)


class TestCameras:
    def test_the_subject_fits(self) -> None:
        for camera in cameras_of(Shot(size=(64, 64)), ball(500), 7, ORBIT):
            pixels = films.render_array(ball(500), camera)
            edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert edge.min() == 255
            assert pixels.min() < 200

    def test_zoom(self) -> None:
        near, far = (cameras_of(Shot(zoom=zoom), ball(), 1)[0] for zoom in (2, 1))
        assert np.linalg.norm(far.centre) == pytest.approx(2 * np.linalg.norm(near.centre), rel=0.1)

    def test_in_front_it_stands_still(self) -> None:
        assert len({tuple(camera.centre) for camera in cameras_of(Shot(), ball(), 5, FRONT)}) == 1

    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        matrix = np.eye(4)
        frames = []
        for index in range(3):
            matrix[:3, 3] = index, 0, 5
            frames.append({"transform_matrix": matrix.tolist()})
        (tmp_path / "transforms.json").write_text(json.dumps({"w": 30, "h": 20, "fl_x": 30, "frames": frames}))
        return str(tmp_path / "transforms.json")

    def test_along_those_of_a_file(self, path: str) -> None:
        def across(shot: Shot, n: int) -> list[float]:
            return [float(camera.centre[0]) for camera in cameras_of(shot, ball(), n)]

        assert across(Shot(camera=path), 3) == [0, 1, 2]
        assert across(Shot(camera=path), 6) == [0, 0, 1, 1, 2, 2]
        assert across(Shot(camera=path), 1) == [0]
        assert across(Shot(camera=path, view=2), 2) == [2, 2]
        assert cameras_of(Shot(camera=path), ball(), 1)[0].width == 30
        assert cameras_of(Shot(camera=path, size=(60, 60)), ball(), 1)[0].intrinsics == (60, 60, 30, 30)

    def test_views_that_are_not_there(self, path: str) -> None:
        with pytest.raises(UsageError, match="it has 3"):
            cameras_of(Shot(camera=path, view=3), ball(), 1)
        with pytest.raises(UsageError, match=r"name a transforms\.json"):
            cameras_of(Shot(view=0), ball(), 1)
        with pytest.raises(MediaError, match="No such file"):
            cameras_of(Shot(camera="sideways"), ball(), 1)


class TestFiles:
    def test_a_picture(self, tmp_path: Path) -> None:
        facts = render_file(Frames(1), tmp_path / "a.png", Shot(size=(40, 30), background=(0, 0, 1)))
        assert facts == {"pictures": 1, "width": 40, "height": 30, "gaussians": 60}
        pixels = np.asarray(Image.open(tmp_path / "a.png"))
        assert pixels.shape == (30, 40, 3)
        assert pixels[0, 0].tolist() == [0, 0, 255]

    def test_a_film_plays_the_sequence(self, tmp_path: Path) -> None:
        told: list[float] = []
        frames = Frames(4, fps=12.5)
        facts = render_file(frames, tmp_path / "a.mkv", Shot(size=(40, 30)), lambda share, words: told.append(share))
        assert (facts["pictures"], facts["fps"]) == (4, 12.5)
        assert told == [0.25, 0.5, 0.75, 1]
        assert frames.asked == [0, 1, 2, 3]
        with open_video(tmp_path / "a.mkv") as video:
            pictures = [frame.planes for frame in video]
        assert len(pictures) == 4
        # a ball of an opaque grey: what its darkest pixel lets through is of the background
        levels = [darkest(np.asarray(planes[0])) for planes in pictures]
        assert levels == sorted(levels)
        assert np.diff(levels).min() > 0.05

    @pytest.mark.parametrize(
        ("shot", "asked", "pictures"),
        [
            (Shot(frame=2, seconds=0.2, fps=25), [2], 5),
            (Shot(seconds=0.24, fps=25), [0, 1, 2, 0, 1, 2], 6),
            (Shot(), [0, 1, 2], 3),
            (Shot(seconds=1e-9), [0], 1),
        ],
    )
    def test_a_folder_and_which_frames(self, shot: Shot, asked: list[int], pictures: int, tmp_path: Path) -> None:
        frames = Frames(3)
        small = Shot(**{**vars(shot), "size": (16, 12)})
        assert render_file(frames, tmp_path / "views", small)["pictures"] == pictures
        assert frames.asked == asked
        assert len(list((tmp_path / "views").glob("*.png"))) == pictures

    def test_a_still_scene_is_seen_from_all_sides(self, tmp_path: Path) -> None:
        assert render_file(Frames(1), tmp_path / "views", Shot(size=(8, 8)))["pictures"] == 125

    def test_what_is_up(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A scene is as its makers' cameras, with y down; a sequence as captures are."""
        ups: list[float] = []

        def pixels(gaussians: Gaussians, camera: Camera, background: Any) -> np.ndarray:
            ups.append(-round(float(camera.world_to_camera[1, 1])))
            return np.zeros((camera.height, camera.width, 3), np.uint8)

        monkeypatch.setattr(films, "render_array", pixels)
        for number, (source, shot) in enumerate(
            [(Frames(1), Shot()), (Frames(2), Shot()), (Frames(1), Shot(up=films.UPS["y"]))]
        ):
            render_file(source, tmp_path / f"{number}.png", shot)
        assert ups == [-1, 1, 1]

    def test_nothing_is_replaced_unless_asked(self, tmp_path: Path) -> None:
        for name in ("a.png", "a.mkv"):
            (tmp_path / name).write_bytes(b"mine")
            with pytest.raises(CodecError, match="exists"):
                render_file(Frames(2), tmp_path / name, Shot(size=(16, 16)))
            assert (tmp_path / name).read_bytes() == b"mine"
            render_file(Frames(2), tmp_path / name, Shot(size=(16, 16)), replace=True)
            assert len((tmp_path / name).read_bytes()) > 60

    def test_a_film_that_breaks_off_leaves_nothing(self, tmp_path: Path) -> None:
        class Broken(Frames):
            def frame(self, index: int) -> Gaussians:
                if index == 2:
                    raise MediaError("damaged")
                return super().frame(index)

        with pytest.raises(MediaError, match="damaged"):
            render_file(Broken(4), tmp_path / "a.mp4", Shot(size=(16, 16)))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("name", "shot"),
        [
            ("a.ply", Shot()),
            ("a.png", Shot(fps=3)),
            ("a.png", Shot(seconds=3)),
            ("a.png", Shot(frame=3)),
            ("a.mp4", Shot(frame=-1)),
            ("a.mp4", Shot(fps=1e9)),
            ("a.mp4", Shot(seconds=1e9)),
            ("a.png", Shot(size=(1 << 20, 1 << 20))),
            ("a.mkv", Shot(encoder="libx999")),
        ],
    )
    def test_what_cannot_be_asked(self, name: str, shot: Shot, tmp_path: Path) -> None:
        with pytest.raises(UsageError):
            render_file(Frames(3), tmp_path / name, shot)
        assert not list(tmp_path.iterdir())


def test_colours() -> None:
    assert colour_of("white") == colour_of("#ffffff") == (1, 1, 1)
    assert colour_of("Black") == (0, 0, 0)
    assert colour_of("3399cc") == (0.2, 0.6, 0.8)
    for wrong in ("", "#fff", "pink", "#gggggg", "#ff ff f"):
        with pytest.raises(ValueError, match=r".*"):
            colour_of(wrong)
