"""The study of nirvana, on tiny clips and few steps: that each part measures what it says."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from codec.codecs.base.video.groups import FitSettings, Group
from codec.codecs.nirvana.grid import fit as nirvana_grid_fit
from codec.codecs.nirvana.grid.networks import random_nets, start_nets
from codec.codecs.nirvana.grid.preset import GridPreset
from codec.codecs.nirvana.paper.fit import QUICK_RECIPE, GroupFit, encode_state
from codec.codecs.nirvana.paper.network import NetConfig
from codec.datasets import clips
from codec.errors import MediaError, UsageError
from codec.eval.reproduce import run as reproducing
from codec.eval.studies.nirvana import fits as nirvana_fits
from codec.eval.studies.nirvana import frames as nirvana_frames
from codec.eval.studies.nirvana import grid as nirvana_study_grid
from codec.eval.studies.nirvana import main as nirvana_study
from codec.eval.studies.nirvana import rates as nirvana_rates
from codec.media.video.reader import open_video
from codec.media.video.values import Frame, VideoInfo
from codec.media.video.writer import VideoWriter
from codec.train.nirvana import grid_start

TINY = NetConfig(width=8, channels=2, frames=2, patch=8)


def picture(at: int, height: int = 32, width: int = 48) -> tuple[np.ndarray, ...]:
    """A smooth 4:2:0 picture that moves to the right by two columns a frame."""
    row, column = np.mgrid[:height, :width]
    luma = 128 + 60 * np.sin((column - 2 * at) / 5) + 30 * np.cos(row / 4)
    chroma = np.full((height // 2, width // 2), 120 + at)
    return luma.astype(np.uint8), chroma.astype(np.uint8), (chroma + 9).astype(np.uint8)


def group(start: int = 0, n_frames: int = 2) -> Group:
    return Group([picture(start + index) for index in range(n_frames)], "yuv420p", 48, 32)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (nirvana_fits, nirvana_frames):
        monkeypatch.setattr(module, "CONFIG", TINY)
    monkeypatch.setattr(nirvana_fits.preset_of, "__defaults__", (TINY,))
    monkeypatch.setattr(nirvana_fits, "LENGTH", 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    info = VideoInfo(48, 32, "yuv420p", Fraction(1, 25), Fraction(25))
    with VideoWriter(tmp_path / "moving.mkv", info) as writer:
        for index in range(8):
            writer.write(Frame(picture(index), index, 1))
    return tmp_path


class TestClips:
    def test_planes_are_kept_as_they_are(self, folder: Path) -> None:
        clip = clips.Clip("moving.mkv", 2, 5, (16, 8, 24, 16), "")
        assert clips.write(clip, folder, folder / "new" / "part.mkv") == "3 frames of 24x16"
        with open_video(folder / "new" / "part.mkv") as reader:
            frames = list(reader)
            assert (reader.info.width, reader.info.height, reader.info.pixels) == (24, 16, "yuv420p")
        assert [one.pts for one in frames] == [0, 40, 80]
        for index, one in enumerate(frames):
            luma, u, v = picture(index + 2)
            expected = (luma[8:24, 16:40], u[4:12, 8:20], v[4:12, 8:20])
            assert all(np.array_equal(a, b) for a, b in zip(one.planes, expected, strict=True))

    @pytest.mark.parametrize(("start", "stop", "box"), [(0, 9, None), (0, 2, (1, 0, 8, 8)), (0, 2, (40, 0, 16, 8))])
    def test_what_is_not_there(
        self, folder: Path, start: int, stop: int, box: tuple[int, int, int, int] | None
    ) -> None:
        with pytest.raises(MediaError):
            clips.excerpt(clips.Clip("moving.mkv", start, stop, box, ""), folder)

    def test_an_unknown_clip(self, folder: Path) -> None:
        with pytest.raises(UsageError, match="carphone"):
            clips.main(["--only", "carfone", "--out", str(folder), "--data", str(folder)])

    def test_what_the_start_networks_have_seen_is_said(self) -> None:
        assert all(("held out" in one.about) == one.held_out for one in clips.CLIPS.values())


class TestRates:
    def test_a_file_is_counted_whole(self, folder: Path) -> None:
        video = nirvana_rates.read_video(folder / "moving.mkv")
        codec = nirvana_rates.codec_at("grid", 40, 0).with_settings(group=4)
        made = nirvana_rates.file_rates(codec, video)
        assert made["bpp"] == pytest.approx(8 * made["bytes"] / (8 * 48 * 32))
        assert [one["key"] for one in made["groups"]] == [True, False]
        assert sum(one["bytes"] for one in made["groups"]) < made["bytes"]
        assert made["psnr-y"] > 30

    def test_motion_is_that_of_luma(self) -> None:
        still = [Frame(picture(0), index, 1) for index in range(3)]
        moving = [Frame(picture(index), index, 1) for index in range(3)]
        assert nirvana_rates.motion_of(still) == 0 < nirvana_rates.motion_of(moving)

    def test_rate_at(self) -> None:
        curve = [(0.4, 34.0), (0.1, 30.0)]
        assert nirvana_rates.rate_at(curve, 32.0) == (pytest.approx(0.2), False)
        assert nirvana_rates.rate_at(curve, 20.0) == (0.1, True)  # a bound, and marked as one
        with pytest.raises(UsageError, match="above"):
            nirvana_rates.rate_at(curve, 35.0)

    def test_against_the_rows_of_a_bench(self, tmp_path: Path) -> None:
        rows = ["codec,item,rate,psnr-y,psnr-rgb"]
        rows += [f"x265,a.mkv,{0.1 * 2**k:.6f},{30 + 3 * k},{29 + 3 * k}" for k in range(4)]
        (tmp_path / "rows.csv").write_text("\n".join([*rows, "x265,b.mkv,9,9,9"]) + "\n")
        found = nirvana_rates.bench_points(tmp_path / "rows.csv", "a.mkv")
        assert len(found["x265"]["psnr-y"]) == 4
        ours = [{"quality": 20 * k, "bpp": 0.2 * 2**k, "psnr-y": 30 + 3 * k, "psnr-rgb": 29 + 3 * k} for k in range(4)]
        by = nirvana_rates.against(ours, found)["x265"]
        assert by["psnr-y"]["bd_rate"] == pytest.approx(100, abs=1)
        assert by["psnr-rgb"]["window"] == (29, 38)
        low = nirvana_rates.against([{**ours[0], "psnr-y": 25.0}], found)["x265"]["psnr-y"]
        assert low["bits_over_at_least"] == {"0": pytest.approx(2)} and not low["bits_over"] and "reason" in low
        assert by["psnr-y"]["bits_over"] == pytest.approx({"0": 2, "20": 2, "40": 2, "60": 2})

    def test_the_command_keeps_other_parts_and_goes_on(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = folder / "study.json"
        out.write_text(json.dumps({"joint": {"steps": 1}}))
        command = ["rates", str(folder), "--qualities", "40", "--out", str(out)]
        assert nirvana_study.main(command) == 0
        first = json.loads(out.read_text())
        monkeypatch.setattr(nirvana_rates, "file_rates", None)  # nothing is encoded again
        assert nirvana_study.main(command) == 0
        assert json.loads(out.read_text()) == first
        assert first["joint"] == {"steps": 1} and "rates data/" in first["rates"]["command"]
        with pytest.raises(UsageError, match="run the part `rates`"):
            nirvana_study.main(["motion", str(folder), "--out", str(out)])

    def test_motion_against_bits(self) -> None:
        groups = [{"key": k == 0, "motion": 0.5 * k, "bpp": 0.01 * k + 0.001} for k in range(5)]
        rates = {"effort": 0.0, "clips": {"a": {"points": [{"quality": 60.0, "groups": groups}]}}}
        found = nirvana_rates.motion(rates, 60.0)
        assert len(found["groups"]) == 4 and found["correlation_of_logarithms"] > 0.9
        assert found["liveliest_over_stillest"]["motion"] == pytest.approx(4)
        pytest.importorskip("matplotlib")
        assert nirvana_rates.motion_svg(found).startswith(b"<?xml")


class TestGrid:
    def test_keys(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nirvana_study_grid, "LENGTH", 2)
        monkeypatch.setattr(nirvana_study_grid, "KEY_EVERY", (4, 1))
        out = folder / "study.json"
        clip = folder / "moving.mkv"
        command = ["keys", str(clip), "--qualities", "20", "40", "60", "80", "--out", str(out)]
        assert nirvana_study.main(command) == 0
        found = json.loads(out.read_text())["keys"]
        assert [row["frames_between"] for row in found["rows"]] == [8, 2]
        assert [[one["key_groups"] for one in row["points"]] for row in found["rows"]] == [[1] * 4, [4] * 4]
        assert found["rows"][0]["bd_rate"] == 0 and found["rows"][1]["bd_rate"] > 10
        assert "--qualities 20 40 60 80" in found["command"]

    def test_networks(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nirvana_study_grid, "LENGTH", 2)
        same, other = folder / "same.safetensors", folder / "other.safetensors"
        same.write_bytes(grid_start.as_bytes(start_nets()))
        other.write_bytes(grid_start.as_bytes(random_nets()))
        out = folder / "study.json"
        command = ["networks", str(folder), "--qualities", "20", "40", "60", "80", "--out", str(out), "--networks"]
        assert nirvana_study.main([*command, str(same)]) == 0
        assert json.loads(out.read_text())["networks"]["mean_bd_rate"] == 0
        assert nirvana_study.main([*command, str(other)]) == 0
        assert json.loads(out.read_text())["networks"]["clips"]["moving"]["bd_rate"] > 5  # untrained ones cost more
        with pytest.raises(UsageError, match="--networks"):
            nirvana_study.main(command[:-1])

    def test_bits_are_those_of_the_payload(self, folder: Path) -> None:
        groups = nirvana_study_grid.first_groups(folder / "moving.mkv")
        assert [len(one.frames) for one in groups] == [8]
        bpp, psnr = nirvana_study_grid.coded_without_networks(groups, start_nets(), 40.0)
        fitted = GridPreset().fit(groups[0], None, FitSettings(quality=40.0, effort=0.0))
        ends = 8 * len(fitted.payload) - bpp * 8 * 48 * 32
        assert (
            8 < ends < 8 + 32 + 16
        )  # the byte of the version, the coder's last word, the mini-GOP and that nothing changed
        assert psnr > 30


class TestFits:
    def test_start(self) -> None:
        found = nirvana_fits.start([group(0), group(0)], 20)
        assert "before" not in found["rows"][0]
        scratch, before = (found["rows"][1][name] for name in ("scratch", "before"))
        assert before["psnr_along"][0][1] > scratch["psnr_along"][0][1]  # the same frames again
        assert found["rows"][1]["iterations"]["before"] <= 20 and len(found["ratios"]) == 1
        assert before["decoded"]["bpp"] > 0

    def test_joint(self) -> None:
        found = nirvana_fits.joint(group(), 20)
        assert [one["quality"] for one in found["together"]] == [20, 50, 80]
        bits = [one["bpp"] for one in found["afterwards"]]
        assert bits == sorted(bits)  # finer grids cost more
        json.dumps(found)

    def test_a_finer_grid_has_the_same_weights(self) -> None:
        preset = nirvana_fits.preset_of(QUICK_RECIPE, 3)
        fit = GroupFit(preset, group(), None, FitSettings())
        fit.net.__class__ = nirvana_fits.UnroundedNet
        assert isinstance(fit.net, nirvana_fits.UnroundedNet)
        list(nirvana_fits.follow(fit))
        before = fit.net(fit.at, fit.net.symbols()).detach()
        assert any((value != value.round()).any() for value in fit.net.symbols().values())
        fit.net.refine(64.0)
        assert torch.allclose(fit.net(fit.at, fit.net.symbols()), before, atol=1e-4)
        fit.net.eval()
        rounded = fit.net(fit.at, fit.net.symbols()).detach()
        assert (rounded - before).abs().max() < 0.05
        assert encode_state(fit.net.state(), None)[0]

    def test_speed(self) -> None:
        found = nirvana_fits.speed(group(), 20)
        assert found["paper_rates"]["steps"] == 20
        assert [one["planned"] for one in found["larger_falling_rates"]] == [10, 10, 10, 10, 20]
        assert found["early_end"]["steps"] <= 20 and found["bfloat16"]["steps"] == 20

    def test_efforts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nirvana_grid_fit, "STEPS", 1)
        found = nirvana_fits.efforts(group())
        assert [row["effort"] for row in found["rows"]] == [0, 1]
        assert found["rows"][1]["bits"] <= found["rows"][0]["bits"] * 1.1

    def test_bits_between_points_only(self) -> None:
        curve = [(0.1, 20.0), (0.4, 24.0)]
        assert nirvana_rates.bits_at(curve, 22.0) == pytest.approx(0.2)
        assert nirvana_rates.bits_at(curve, 25.0) is None


class TestFrames:
    def test_compare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nirvana_frames, "RATES", (2e-3,))
        found = nirvana_frames.compare([group(0), group(2)], 20)
        final = [looks[-1][1] for looks in found["psnr_along"].values()]
        assert found["target"] == min(final) and found["ratios"]["encode"] > 0
        assert found["paper"]["mark"].startswith("[paper]")
        for looks in found["psnr_along"].values():
            assert [value for _, value in looks] == sorted(value for _, value in looks)  # the best so far

    def test_parameters_and_shape(self) -> None:
        net = nirvana_frames.width_for(48, 32, 30_000)
        assert nirvana_frames.n_parameters(net) == pytest.approx(30_000, rel=0.3)
        assert net(torch.tensor([0.0, 0.5])).shape == (2, 3, 32, 48)
        with pytest.raises(ValueError, match="multiples of 16"):
            nirvana_frames.FrameNet(40, 32, 8)


def test_groups_of_a_clip_that_is_too_short(folder: Path) -> None:
    assert len(nirvana_study.groups_of(folder / "moving.mkv", 2, 4)) == 4
    with pytest.raises(UsageError, match="8 frames"):
        nirvana_study.groups_of(folder / "moving.mkv", 2, 5)


def test_the_recipe_never_calls_our_clips_the_papers() -> None:
    recipe = reproducing.load("nirvana")
    assert recipe.items == 7 and Path(recipe.data).name == "uvg"
    assert all(claim.mark.startswith(("[paper]", "[recalled]")) for claim in recipe.claims)
    assert any("--recipe uvg" in words.replace("\n", " ") for words in recipe.also)
