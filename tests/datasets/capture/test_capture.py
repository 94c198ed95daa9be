"""Captures made, read and checked: conventions of cameras, resuming, and each fault that the checker has words for."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec import cli
from codec.datasets.capture import Capture, CaptureConfig, check, held_out, make
from codec.datasets.capture.layout import read_image
from codec.errors import MediaError, UsageError

SMALL = CaptureConfig(body="walker", performance="walk", frames=2, views=8, size=64, rings=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(SMALL, tmp_path_factory.mktemp("capture") / "walk")


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


class TestMaking:
    def test_what_is_read_is_what_was_made(self, made: Path) -> None:
        capture = Capture.open(made)
        assert (capture.n_frames, capture.n_views, capture.fps) == (2, 8, 25.0)
        assert capture.names == tuple(f"{view}.png" for view in range(8))
        assert capture.held_out == (1, 7)
        assert capture.training == (0, 2, 3, 4, 5, 6)
        assert capture.image(1, 7).shape == (64, 64, 3)
        assert capture.truth is not None
        assert capture.truth.vertices.shape[0] == 2
        assert np.abs(capture.truth.vertices).max() <= 1
        assert not np.array_equal(*capture.truth.vertices), "the body moves"
        assert check(made) == []

    def test_cameras_are_those_of_the_pictures(self, made: Path) -> None:
        """Each true vertex lies on the subject of each picture, and its outline is that of the subject."""
        capture = Capture.open(made)
        assert capture.truth is not None
        for frame in range(2):
            for view, camera in enumerate(capture.cameras):
                subject = capture.image(frame, view).min(2) < 255
                places = camera.project(capture.truth.vertices[frame].astype(float))
                columns, rows = np.floor(places[:, :2]).astype(int).T
                assert (places[:, 2] > 0).all()
                near = np.pad(subject, 1)
                near = near[:-2] | near[1:-1] | near[2:]
                near = near[:, :-2] | near[:, 1:-1] | near[:, 2:]  # a vertex of the outline may lie just beside it
                assert near[rows, columns].all()
                ys, xs = np.nonzero(subject)
                outline = [xs.min(), xs.max(), ys.min(), ys.max()]
                assert np.abs(np.subtract(outline, [columns.min(), columns.max(), rows.min(), rows.max()])).max() <= 1

    def test_up_is_up_and_the_first_camera_sees_the_face(self, made: Path) -> None:
        capture = Capture.open(made)
        assert capture.truth is not None
        camera, vertices = capture.cameras[0], capture.truth.vertices[0].astype(float)
        places = camera.project(vertices)
        assert places[vertices[:, 1].argmax(), 1] < places[vertices[:, 1].argmin(), 1], "rows count downwards"
        assert camera.centre[2] > 0
        assert camera.axis[2] < -0.9

    def test_the_background_is_white_and_nothing_else_is(self, made: Path) -> None:
        pixels = Capture.open(made).image(0, 0)
        share = (pixels.min(2) < 255).mean()
        assert 0.05 < share < 0.4
        assert (pixels[[0, -1]] == 255).all()
        assert (pixels[:, [0, -1]] == 255).all()

    def test_resuming_gives_the_same_files(self, copy: Path, made: Path) -> None:
        kept = copy / "image_white/0/3.png"
        Image.new("RGB", (64, 64), "white").save(kept)
        mark = kept.read_bytes()
        (copy / "image_white/1/5.png").unlink()
        calls: list[tuple[int, int]] = []
        make(SMALL, copy, lambda done, total: calls.append((done, total)))
        assert kept.read_bytes() == mark, "pictures that are there are kept"
        assert calls == [(16, 16)], "one was missing"
        kept.unlink()
        make(SMALL, copy, jobs=3)
        files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file())
        assert all((made / file).read_bytes() == (copy / file).read_bytes() for file in files)

    def test_another_capture_is_never_overwritten(self, copy: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="another capture"):
            make(CaptureConfig(body="walker", frames=3, views=8, size=64), copy)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/letter.txt").write_text("dear")
        with pytest.raises(UsageError, match="isn't a capture"):
            make(SMALL, tmp_path / "mine")

    @pytest.mark.parametrize(
        "settings", [{"views": 1}, {"size": 8}, {"body": "ghost"}, {"performance": "sleep"}, {"shape": (("age", 0.5),)}]
    )
    def test_settings_that_cannot_be(self, settings: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(UsageError):
            make(CaptureConfig(**settings), tmp_path / "x")

    def test_held_out_views(self) -> None:
        assert held_out(29) == (1, 7, 13, 19, 25)
        assert held_out(2) == (1,)


# ---- reading


class TestReading:
    def test_one_table_at_the_root(self, copy: Path) -> None:
        before = Capture.open(copy)
        (copy / "image_white/0/transforms.json").rename(copy / "transforms.json")
        (copy / "image_white/1/transforms.json").unlink()
        _edit(copy / "transforms.json", lambda t: [f.update(file_path=f"image_white/0/{f['file_path']}") for f in t])
        after = Capture.open(copy)
        assert after.names == before.names
        assert all(
            np.allclose(a.world_to_camera, b.world_to_camera) for a, b in zip(*_cameras(after, before), strict=True)
        )
        assert check(copy) == []

    @pytest.mark.parametrize("binary", [False, True])
    def test_colmap(self, copy: Path, binary: bool) -> None:
        before = Capture.open(copy)
        for frame in range(2):
            (copy / f"image_white/{frame}/transforms.json").unlink()
        (copy / "image_white").rename(copy / "image_white_undistortion")
        if binary:
            _binary_colmap(copy / "colmap/sparse/0")
        else:  # every second line lists points
            images = copy / "colmap/sparse/0/images.txt"
            images.write_text("# a comment\n" + images.read_text().replace("\n\n", "\n1.5 2.5 -1 3.5 4.5 7\n"))
        after = Capture.open(copy)
        assert after.source == "colmap"
        for a, b in zip(*_cameras(after, before), strict=True):
            assert np.allclose(a.world_to_camera, b.world_to_camera)
            assert a.intrinsics == pytest.approx(b.intrinsics)
        assert check(copy) == []

    def test_transparent_pictures_are_on_white(self, tmp_path: Path) -> None:
        picture = np.zeros((4, 4, 4), np.uint8)
        picture[0, 0] = 10, 20, 30, 255
        Image.fromarray(picture).save(tmp_path / "a.png")
        pixels = read_image(tmp_path / "a.png")
        assert pixels[0, 0].tolist() == [10, 20, 30]
        assert (pixels.reshape(-1, 3)[1:] == 255).all()

    def test_views_for_tests_can_be_named(self, copy: Path) -> None:
        assert Capture.open(copy, held_out=[3]).held_out == (3,)
        with pytest.raises(MediaError, match="held out"):
            Capture.open(copy, held_out=[8])

    def test_no_such_picture(self, made: Path) -> None:
        with pytest.raises(UsageError, match="no frame 2"):
            Capture.open(made).image(2, 0)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda f: f.update(fl_x="wide"), "fl_x"),
            (lambda f: f.update(fl_x=-3), "focal length"),
            (lambda f: f.update(w=1 << 40), "whole numbers"),
            (lambda f: f.update(w=64.5), "whole numbers"),
            (lambda f: f.update(k1=0.1), "undistort"),
            (lambda f: f.update(transform_matrix=[[1, 2], [3]]), "transform_matrix"),
            (lambda f: f.update(transform_matrix=(2 * np.eye(4)).tolist()), "rotation"),
            (lambda f: f.update(transform_matrix=np.diag([1, 1, -1, 1]).tolist()), "mirrored"),
            (lambda f: f.update(transform_matrix=(np.nan * np.eye(4)).tolist()), "transform_matrix"),
            (lambda f: f.update(file_path="../.."), "names no picture"),
            (lambda f: f.pop("file_path"), "file_path"),
            (lambda f: f.update(file_path="1.png"), "two cameras"),
        ],
    )
    def test_damaged_tables(self, copy: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
        _edit(copy / "image_white/0/transforms.json", lambda table: change(table[0]))
        with pytest.raises(MediaError, match=words):
            Capture.open(copy)

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"frames": 3}', '{"frames": [3]}', '{"frames": []}', "[" * 10**5])
    def test_tables_of_another_kind(self, copy: Path, text: str) -> None:
        (copy / "image_white/0/transforms.json").write_text(text)
        with pytest.raises(MediaError):
            Capture.open(copy)

    @pytest.mark.parametrize("name", ["cameras", "images"])
    def test_damaged_colmap(self, copy: Path, name: str) -> None:
        for frame in range(2):
            (copy / f"image_white/{frame}/transforms.json").unlink()
        _binary_colmap(copy / "colmap/sparse/0")
        path = copy / f"colmap/sparse/0/{name}.bin"
        data = path.read_bytes()
        for spoilt in (data[:4], data[:-9], b"\xff" * 8 + data[8:], data[:12] + b"\xff" * 40 + data[52:]):
            path.write_bytes(spoilt)
            with pytest.raises(MediaError):
                Capture.open(copy)

    def test_damaged_truth(self, copy: Path) -> None:
        path = copy / "truth.safetensors"
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(MediaError, match="damaged"):
            _ = Capture.open(copy).truth


def _cameras(a: Capture, b: Capture) -> tuple[Any, Any]:
    assert a.n_views == b.n_views
    return a.cameras, b.cameras


def _edit(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    table = json.loads(path.read_text())
    change(table["frames"])
    path.write_text(json.dumps(table))


def _binary_colmap(folder: Path) -> None:
    """Writes the model in a folder as binary files, in place of its texts."""
    rows = [line.split() for line in (folder / "cameras.txt").read_text().splitlines()]
    data = struct.pack("<Q", len(rows))
    for row in rows:
        data += struct.pack("<iiQQ4d", int(row[0]), 1, int(row[2]), int(row[3]), *map(float, row[4:]))
    (folder / "cameras.bin").write_bytes(data)
    rows = [line.split() for line in (folder / "images.txt").read_text().splitlines() if line]
    data = struct.pack("<Q", len(rows))
    for row in rows:
        data += struct.pack("<i7di", int(row[0]), *map(float, row[1:8]), int(row[8]))
        data += row[9].encode() + b"\0" + struct.pack("<Q", 1) + bytes(24)
    (folder / "images.bin").write_bytes(data)
    for name in ("cameras", "images", "points3D"):
        (folder / f"{name}.txt").unlink()


# ---- checking


def _poses(change: Callable[[np.ndarray], np.ndarray], *views: int) -> Callable[[Path], None]:
    """A fault: other poses, of some views or (none named) of all."""

    def spoil(folder: Path) -> None:
        for frame in range(2):

            def edit(table: list[dict[str, Any]]) -> None:
                for number, entry in enumerate(table):
                    if not views or number in views:
                        entry["transform_matrix"] = change(np.array(entry["transform_matrix"])).tolist()

            _edit(folder / f"image_white/{frame}/transforms.json", edit)

    return spoil


def _turned(folder: Path) -> None:
    """The mistake of DualGS's issue 12: a folder for each camera, in it a picture for each frame."""
    (folder / "image_white/0/transforms.json").rename(folder / "transforms.json")
    (folder / "image_white").rename(folder / "frames")
    for view in range(8):
        (folder / f"image_white/{view}").mkdir(parents=True)
        for frame in range(2):
            (folder / f"frames/{frame}/{view}.png").rename(folder / f"image_white/{view}/{frame}.png")
    shutil.rmtree(folder / "frames")


def _named_after_cameras(folder: Path) -> None:
    for frame in range(2):
        (folder / f"image_white/{frame}").rename(folder / f"image_white/cam{frame}")


def _moved_on(folder: Path) -> None:
    (folder / "image_white/1").rename(folder / "image_white/2")
    (folder / "image_white/0").rename(folder / "image_white/1")


def _on(colour: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.glob("image_white/*/*.png"):
            pixels = np.array(Image.open(path))
            pixels[pixels.min(2) == 255] = np.array(Image.new("RGB", (1, 1), colour))[0, 0]
            Image.fromarray(pixels).save(path)

    return spoil


def _cut(folder: Path) -> None:
    path = folder / "image_white/1/4.png"
    path.write_bytes(path.read_bytes()[:-200])


def _shrunk(folder: Path) -> None:
    path = folder / "image_white/1/4.png"
    Image.open(path).resize((32, 48)).save(path)


def _blank(folder: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(folder / "image_white/0/2.png")


def _scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pose: np.concatenate([np.concatenate([pose[:3, :3], factor * pose[:3, 3:]], 1), pose[3:]])


def _shifted(pose: np.ndarray) -> np.ndarray:
    return pose + np.array([[0, 0, 0, 5.0], *3 * [[0, 0, 0, 0]]])


def _rolled(pose: np.ndarray) -> np.ndarray:
    """The camera looks to its side."""
    return pose @ np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1.0]])


def _swapped(folder: Path) -> None:
    for frame in range(2):
        one, other, third = (folder / f"image_white/{frame}/{name}" for name in ("0.png", "2.png", "x"))
        one.rename(third)
        other.rename(one)
        third.rename(other)


def _twins(folder: Path) -> None:
    for frame in range(2):
        path = folder / f"image_white/{frame}/transforms.json"
        _edit(path, lambda table: table[3].update(transform_matrix=table[5]["transform_matrix"]))


def _gap(folder: Path) -> None:
    (folder / "capture.json").unlink()  # as of others, who say nothing of views for tests
    for frame in range(2):
        _edit(folder / f"image_white/{frame}/transforms.json", lambda table: table.pop(3))


def _moving(folder: Path) -> None:
    _edit(folder / "image_white/1/transforms.json", lambda t: t[2].update(transform_matrix=t[4]["transform_matrix"]))


OPENGL = np.diag([1.0, -1, -1, 1])
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "folders of cameras": (_turned, r"these look like folders of cameras.*rename CAMERA/FRAME.png"),
    "folders that are named after cameras": (_named_after_cameras, r"cam0, cam1; if they are cameras"),
    "frames from 1": (_moved_on, r"counted from 0 without gaps, but folder 0 is missing"),
    "no pictures": (lambda f: shutil.rmtree(f / "image_white"), r"expected a folder for each frame"),
    "no cameras": (lambda f: [p.unlink() for p in f.rglob("*.json")] + [shutil.rmtree(f / "colmap")], r"no cameras"),
    "a missing view": (lambda f: (f / "image_white/1/6.png").unlink(), r"1 of 16 pictures are missing: 1/6.png"),
    "a picture without a camera": (lambda f: (f / "image_white/0/8.png").touch(), r"without a camera: 8.png"),
    "a gap in the views": (
        _gap,
        r"views are counted from 0 without gaps",
    ),
    "black background": (_on("black"), r"16 of 16 pictures have a border that isn't white \(most: 100 %"),
    "grey background": (_on("#f0f0f0"), r"must be pure white"),
    "a cut file": (_cut, r"1 pictures can't be read: .*4.png"),
    "another size": (_shrunk, r"1/4.png \(32x48, its camera 64x64\)"),
    "a blank picture": (_blank, r"1 of 16 pictures are all white: 0/2.png"),
    "too far out": (_poses(_scaled(3.0)), r"but training looks within -1.15 to 1.15.*multiply their places by 0\.[34]"),
    "tiny": (_poses(_scaled(0.05)), r"only about 0\.\d+ units large"),
    "far from the middle": (_poses(_shifted), r"move all cameras by \(-[45]\.\d\d, "),
    "axes of OpenCV": (_poses(lambda pose: pose @ OPENGL), r"it has OpenCV's axes"),
    "world to camera": (_poses(np.linalg.inv), r"it is from world to camera: invert it"),
    "world to camera, OpenCV": (
        _poses(lambda pose: np.linalg.inv(pose @ OPENGL)),
        r"from world to camera, in OpenCV's axes",
    ),
    "a camera that looks away": (_poses(_rolled, 6), r"views 6 don't look at the subject"),
    "swapped pictures": (_swapped, r"seen by one view, where others see background; most in views [02] \("),
    "two cameras in one place": (_twins, r"exactly alike: views 5 and 3"),
    "cameras that move": (_moving, r"cameras of frame 1 differ from those of frame 0"),
    "a frame without its table": (
        lambda f: (f / "image_white/1/transforms.json").unlink(),
        r"1 of 2 frames have a transforms.json",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_words(copy: Path, fault: str) -> None:
    spoil, words = FAULTS[fault]
    spoil(copy)
    problems = check(copy)
    assert any(re.search(words, problem) for problem in problems), problems


def test_of_many_pictures_only_some_are_looked_into(copy: Path) -> None:
    _cut(copy)
    calls: list[tuple[int, int]] = []
    assert check(copy, every_picture=False, progress=lambda *now: calls.append(now)), "the last frame is always read"
    assert calls[-1] == (16, 16)


class TestCommand:
    def run(self, *words: object) -> int:
        return cli.main([str(word) for word in words])

    def test_make_and_check(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "out"
        options = ("--views", 3, "--frames", 1, "--size", 32, "--prop", "--json")
        assert self.run("data", "capture", "-o", out, *options) == 0
        report = json.loads(capfd.readouterr().out)
        assert report == {"output": str(out), "frames": 1, "views": 3, "held_out": [1]}
        assert self.run("data", "check", out) == 0
        assert "nothing is wrong" in capfd.readouterr().out
        (out / "image_white/0/2.png").unlink()
        assert self.run("data", "check", out, "--json") == 1
        assert len(json.loads(capfd.readouterr().out)["problems"]) == 1
        assert self.run("data", "check", out) == 1
        assert "1 of 3 pictures are missing: 0/2.png" in capfd.readouterr().out

    @pytest.mark.parametrize(
        "words",
        [
            ("capture",),
            ("turbulence",),
            ("check",),
            ("capture", "x", "-o", "y"),
            ("capture", "-o", "y", "--shape", "old"),
        ],
    )
    def test_wrong_usage(self, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert self.run("data", *words) == 2
        assert not list(tmp_path.iterdir())
