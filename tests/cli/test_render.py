"""`codec render`: pictures and films of splat files and of files of ours, by what is typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from codec.codecs.base.codec import Codec
from codec.media.gaussians.values import Gaussians
from codec.media.gaussians.writer import write

from .helpers import leftovers, picture, pixels_of, run


def gaussians(n: int = 80, seed: int = 0, shift: float = 0.0) -> Gaussians:
    random = np.random.default_rng(seed)
    return Gaussians(
        (random.normal(size=(n, 3)) + shift).astype(np.float32),
        np.full((n, 3), -1.5, np.float32),
        random.normal(size=(n, 4)).astype(np.float32),
        np.full(n, 2, np.float32),
        random.normal(size=(n, 4, 3)).astype(np.float32),
    )


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    (tmp_path / "scene.ply").write_bytes(write(gaussians(), ".ply"))
    return tmp_path / "scene.ply"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index:04d}.ply").write_bytes(write(gaussians(shift=0.3 * index), ".ply"))
    return folder


class TestSplatFiles:
    def test_a_picture(self, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("render", scene, "-o", tmp_path / "a.png", "--size", "40x30") == 0
        said = capfd.readouterr()
        assert said.out == ""
        assert "a.png: 1 picture of 40x30" in said.err
        pixels = pixels_of(tmp_path / "a.png")
        assert pixels.shape == (30, 40, 3)
        assert pixels.min() < 200
        assert pixels[0, 0].tolist() == [255, 255, 255]

    def test_options_change_it(self, scene: Path, tmp_path: Path) -> None:
        pictures = []
        for number, words in enumerate(
            [(), ("--up", "y"), ("--elevation", "-30"), ("--zoom", "2"), ("--background", "#102030")]
        ):
            assert run("render", scene, "-o", tmp_path / f"{number}.png", "--size", "32x32", "--quiet", *words) == 0
            pictures.append(pixels_of(tmp_path / f"{number}.png").tobytes())
        assert len(set(pictures)) == 5

    def test_a_film_of_a_sequence(self, frames: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("render", frames, "-o", tmp_path / "a.mp4", "--size", "32x32", "--fps", "10", "--json") == 0
        report = json.loads(capfd.readouterr().out)
        assert (report["pictures"], report["fps"], report["gaussians"]) == (3, 10, 80)
        assert (tmp_path / "a.mp4").stat().st_size > 500

    def test_a_frame_by_the_cameras_of_a_file(self, frames: Path, tmp_path: Path) -> None:
        matrix = np.eye(4)
        matrix[2, 3] = 6
        views = [{"transform_matrix": matrix.tolist()}] * 2
        cameras = tmp_path / "transforms.json"
        cameras.write_text(json.dumps({"w": 24, "h": 16, "fl_x": 20, "frames": views}))
        words = ("--frame", "2", "--camera", cameras)
        assert run("render", frames, "-o", tmp_path / "views", *words, "--seconds", "0.08") == 0
        assert run("render", frames, "-o", tmp_path / "view.png", *words, "--view", "1") == 0
        first, second = sorted((tmp_path / "views").iterdir())
        np.testing.assert_array_equal(pixels_of(first), pixels_of(second))
        np.testing.assert_array_equal(pixels_of(first), pixels_of(tmp_path / "view.png"))

    def test_it_replaces_only_when_told(self, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "a.png").write_bytes(b"mine")
        assert run("render", scene, "-o", tmp_path / "a.png") == 2
        assert "--force" in capfd.readouterr().err
        assert (tmp_path / "a.png").read_bytes() == b"mine"
        assert run("render", scene, "-o", tmp_path / "a.png", "--size", "8x8", "--force") == 0
        assert pixels_of(tmp_path / "a.png").shape == (8, 8, 3)


def test_a_file_of_ours(frames: Path, tmp_path: Path) -> None:
    codec = Codec.load("dualgs")
    codec.encode_file(frames, tmp_path / "clip.dualgs")
    assert run("render", tmp_path / "clip.dualgs", "-o", tmp_path / "views", "--size", "24x24") == 0
    assert run("render", frames, "-o", tmp_path / "expected", "--size", "24x24") == 0
    ours, theirs = (sorted((tmp_path / name).iterdir()) for name in ("views", "expected"))
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(pixels_of(a).astype(int) - pixels_of(b)).mean() < 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("missing.ply", "-o", "a.png"), 1),
        (("scene.ply", "-o", "a.ply"), 2),
        (("scene.ply", "-o", "a.png", "--size", "0x10"), 2),
        (("scene.ply", "-o", "a.png", "--size", "big"), 2),
        (("scene.ply", "-o", "a.png", "--background", "pink"), 2),
        (("scene.ply", "-o", "a.png", "--elevation", "100"), 2),
        (("scene.ply", "-o", "a.png", "--frame", "1"), 2),
        (("scene.ply", "-o", "a.png", "--camera", "nowhere.json"), 1),
        (("scene.ply", "-o", "a.mp4", "--encoder", "fast"), 2),
        (("photo.png", "-o", "a.png"), 1),
        (("scene.ply",), 2),
    ],
)
def test_what_cannot_be_drawn(
    words: tuple[str, ...],
    code: int,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    picture(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run("render", *words) == code
    assert capfd.readouterr().err.count("\n") <= 3
    assert sorted(tmp_path.iterdir()) == before
    assert not leftovers(tmp_path)


def test_a_file_of_another_kind(toy: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("encode", picture(tmp_path / "a.png"), "-c", "toy", "-o", tmp_path / "a.toy") == 0
    assert run("render", tmp_path / "a.toy", "-o", tmp_path / "b.png") == 2
    assert "nothing can be rendered" in capfd.readouterr().err
