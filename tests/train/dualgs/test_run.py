"""The fit of a sequence: files, invariants, resuming, and pictures that are lost; on a toy capture without files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from codec.errors import MediaError, UsageError
from codec.media.gaussians import ply
from codec.media.gaussians.values import Gaussians
from codec.train.dualgs import run
from codec.train.dualgs.folder import FitFolder
from codec.train.dualgs.graph import Neighbours, warp
from codec.train.dualgs.pace import Pace
from codec.train.dualgs.run import fit
from codec.train.dualgs.views import Views

from .toy import Toy, tiny


def frames(folder: Path, name: str = "skins") -> list[Gaussians]:
    return [ply.read(path.read_bytes())[0] for path in sorted((folder / name).glob("*.ply"))]


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="module")
def fitted(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit in one piece."""
    out = tmp_path_factory.mktemp("fit") / "whole"
    torch.manual_seed(5)
    fit(toy, out, tiny(), name="tiny")
    return out


def test_the_folder(fitted: Path) -> None:
    names = {str(path.relative_to(fitted)) for path in fitted.rglob("*") if path.is_file()}
    each = {f"{name}/{frame:04d}.ply" for name in ("skins", "joints") for frame in range(3)}
    assert names == each | {"dual.json", "motion.safetensors", "log.jsonl"}
    about = json.loads((fitted / "dual.json").read_text())
    skins, joints = frames(fitted), frames(fitted, "joints")
    for gaussians in (*skins, *joints):
        np.testing.assert_allclose(np.linalg.norm(gaussians.rotations, axis=1), 1, rtol=1e-6)
    expected = {"version": 1, "fps": 25.0, "n_frames": 3, "n_joints": 40, "n_skins": len(skins[0]), "neighbours": 8}
    assert {name: about[name] for name in expected} == expected
    assert about["recipe"] == "tiny" and about["complete"] is True and about["held_out"] == [1]
    assert {len(frame) for frame in skins} == {about["n_skins"]} and {len(frame) for frame in joints} == {40}
    motion = load_file(fitted / "motion.safetensors")
    shapes = {name: (array.shape, array.dtype) for name, array in motion.items()}
    n = about["n_skins"]
    assert shapes == {
        "rotation_translation": ((3, 40, 3, 4), np.float32),
        "anchors": ((n, 8), np.int32),
        "weights": ((n, 8), np.float32),
    }
    np.testing.assert_array_equal(motion["rotation_translation"][0], np.broadcast_to(np.eye(3, 4), (40, 3, 4)))


def test_skins_are_where_the_motion_brings_them(fitted: Path) -> None:
    """Whoever reads motion and frame 0 gets the positions and rotations of each frame."""
    motion, skins, joints = load_file(fitted / "motion.safetensors"), frames(fitted), frames(fitted, "joints")
    anchors = Neighbours(torch.tensor(motion["anchors"]).long(), torch.tensor(motion["weights"]), 40)
    for frame in range(3):
        transforms = torch.tensor(motion["rotation_translation"][frame])
        x, q = warp(torch.tensor(skins[0].positions), torch.tensor(skins[0].rotations), transforms, anchors)
        np.testing.assert_allclose(x.numpy(), skins[frame].positions, atol=1e-5)
        turned = np.abs((q.numpy() * skins[frame].rotations).sum(1))
        np.testing.assert_allclose(turned, 1, atol=1e-5)
        turns = motion["rotation_translation"][frame][:, :, :3]
        np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-5)
        moved = np.einsum("nij,nj->ni", turns, joints[0].positions) + motion["rotation_translation"][frame][:, :, 3]
        np.testing.assert_allclose(moved, joints[frame].positions, atol=1e-5)


def test_pictures_get_better(fitted: Path) -> None:
    rows = [json.loads(line) for line in (fitted / "log.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == [0, 1, 2]
    assert min(row["psnr"] for row in rows) > 14.5, "a white picture has 9.8"
    assert min(row["held_out_psnr"] for row in rows) > 14


def test_a_fit_in_parts_gives_the_same_files(fitted: Path, toy: Toy, tmp_path: Path) -> None:
    """Stopped in the middle of each kind of stage, in turn, and gone on with."""
    out = tmp_path / "parts"
    for stage in ("fit_static", "canon_of", "track", "refine", "track"):
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, stage)
            with pytest.raises(KeyboardInterrupt):
                fit(toy, out, tiny(), name="tiny", resume=True)
        if (out / "dual.json").exists():
            assert json.loads((out / "dual.json").read_text())["complete"] is False
    fit(toy, out, tiny(), name="tiny", resume=True)
    for path in sorted(fitted.rglob("*")):
        if path.suffix in (".ply", ".safetensors", ".json"):
            assert path.read_bytes() == (out / path.relative_to(fitted)).read_bytes(), path


def interrupt(patch: pytest.MonkeyPatch, stage: str) -> None:
    real = getattr(run, stage)

    def interrupted(*args: Any, **options: Any) -> Any:
        real(*args, **options)
        raise KeyboardInterrupt

    patch.setattr(run, stage, interrupted)


def test_another_seed_gives_another_fit(fitted: Path, toy: Toy, tmp_path: Path) -> None:
    fit(toy, tmp_path / "other", tiny(seed=2), frames=1)
    assert not np.array_equal(frames(tmp_path / "other")[0].positions, frames(fitted)[0].positions)


def test_frame_0_of_another_fit(fitted: Path, toy: Toy, tmp_path: Path) -> None:
    """Of the same recipe: the same files, without fitting frame 0 again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "fit_static", None)
        fit(toy, tmp_path / "again", tiny(), name="tiny", frames=2, first=fitted)
        fit(toy, tmp_path / "again", tiny(), name="tiny", resume=True)  # with more frames
    for name in ("joints/0001.ply", "skins/0001.ply", "skins/0002.ply", "motion.safetensors", "dual.json"):
        assert (tmp_path / "again" / name).read_bytes() == (fitted / name).read_bytes()
    with pytest.raises(UsageError, match="isn't there"):
        fit(toy, tmp_path / "none", tiny(), first=tmp_path)


def test_somebody_elses_folder_is_left_alone(fitted: Path, toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--resume"):
        fit(toy, fitted, tiny())
    with pytest.raises(UsageError, match="is a whole fit"):
        fit(toy, fitted, tiny(), resume=True)
    out = tmp_path / "begun"
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "fit_static")
        with pytest.raises(KeyboardInterrupt):
            fit(toy, out, tiny())
    with pytest.raises(UsageError, match="another recipe or capture"):
        fit(toy, out, tiny(seed=2), resume=True)


def test_the_count_is_asserted(tmp_path: Path, fitted: Path) -> None:
    skins, joints = frames(fitted)[0], frames(fitted, "joints")[0]
    folder = FitFolder(tmp_path / "x", "mark", "cpu")
    folder.begin(False)
    folder.write_frame(0, skins, joints)
    for again in (folder, FitFolder(tmp_path / "x", "mark", "cpu")):  # also after a fit was gone on with
        with pytest.raises(AssertionError, match="frame 0 has"):
            again.write_frame(1, skins.take(np.arange(len(skins) - 1)), joints)
        with pytest.raises(AssertionError, match="frame 0 has"):
            again.write_frame(1, skins, joints.take(np.arange(3)))


class Lost(Toy):
    """A capture whose cameras were mixed up from frame 1 on, or whose pictures are all white."""

    def __init__(self, white: bool = False) -> None:
        super().__init__()
        self.white = white

    def image(self, frame: int, view: int) -> NDArray[np.uint8]:
        if self.white:
            return np.full((32, 32, 3), 255, np.uint8)
        picture = super().image(0, view)
        return picture if frame == 0 else np.roll(np.bitwise_not(picture), 9, 1)


def test_a_lost_picture_is_said_and_the_rest_stays(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"frame 1: the picture is lost: PSNR fell from .* dB"):
        fit(Lost(), tmp_path / "lost", tiny(collapse=4.0))
    about = json.loads((tmp_path / "lost" / "dual.json").read_text())
    assert about["n_frames"] == 1 and about["complete"] is False
    assert len(frames(tmp_path / "lost")) == 1


def test_white_pictures_are_said(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="pure white"):
        fit(Lost(white=True), tmp_path / "white", tiny())


def test_a_fit_that_shows_nothing_is_said(tmp_path: Path, toy: Toy) -> None:
    with pytest.raises(MediaError, match="nothing was fitted"):
        fit(toy, tmp_path / "x", tiny(start="cube", first={"iterations": 0}, skins={"iterations": 0}))


def test_pictures_that_do_not_fit_their_cameras(toy: Toy) -> None:
    class Small(Toy):
        def image(self, frame: int, view: int) -> NDArray[np.uint8]:
            return super().image(frame, view)[:-1]

    with pytest.raises(MediaError, match="32 x 32"):
        Views(Small(), 0, (0,), "cpu")


def test_the_visual_hull(toy: Toy) -> None:
    views = Views(toy, 0, tuple(range(6)), "cpu")
    inside, colours = views.inside(
        torch.tensor([[0, 0, 0], [0, 0.5, 0], [0.6, 0, 0], [0, 0.95, 0]], dtype=torch.float32)
    )
    assert inside.tolist() == [True, True, False, False]
    assert ((colours >= 0) & (colours <= 1)).all()


def test_twelve_free_numbers_and_no_coarse_stage(toy: Toy, tmp_path: Path) -> None:
    """The switches of the ablations."""
    changes = {"coarse": {"iterations": 0}, "fine": {"iterations": 4, "rigidity": 0.0, "rigid": False}}
    report = fit(toy, tmp_path / "free", tiny(**changes), frames=2)
    assert report["n_frames"] == 2
    turns = load_file(tmp_path / "free" / "motion.safetensors")["rotation_translation"][1][:, :, :3]
    assert np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max() > 1e-5


def test_the_time_that_is_left() -> None:
    pace = Pace(tiny(), 3)
    assert pace.seconds_left is None and pace.fraction == 0
    assert pace.total == 40 + 30 + 2 * (6 + 6)
    pace.begin("joints", 0)
    for _ in range(40):
        pace.tick()
    assert pace.fraction == pytest.approx(40 / 94)
    pace.seconds = {"joints": 1.0, "skins": 2.0}
    pace.kind = "skins"
    assert pace.seconds_left == 30 * 2 + 24 * 2
    pace.seconds |= {"coarse": 10.0, "fine": 1000.0}
    assert pace.words == "frame 0, skins, about 3.4 h left"
    pace.skip("skins")
    pace.skip("coarse", 2)
    pace.skip("fine", 2)
    assert pace.fraction == 1
