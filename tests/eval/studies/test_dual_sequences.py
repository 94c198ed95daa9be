"""The study of sequences and `codec reproduce dualgs`, on a few hundred Gaussians."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec import Codec, cli
from codec.datasets.capture import Capture, CaptureConfig, make
from codec.datasets.capture.skinned import skinned
from codec.errors import MediaError, UsageError
from codec.eval.reproduce import dualgs as reproducing
from codec.eval.studies import dual_decoding, dual_splats4d
from codec.eval.studies import dual_sequences as study
from codec.eval.studies.splat_peers import Splats4d
from codec.media.gaussians.sources import open_source
from codec.media.gaussians.values import Gaussians
from codec.media.gaussians.writer import write

N, T = 300, 3


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = CaptureConfig(body="walker", performance="walk", frames=T, views=8, size=32)
    return make(config, tmp_path_factory.mktemp("study") / "capture")


@pytest.fixture(scope="module")
def frames(capture: Path) -> tuple[Gaussians, ...]:
    truth = Capture.open(capture).truth
    assert truth is not None
    return tuple(skinned(truth, N, degree=1))


@pytest.fixture(scope="module")
def folder(capture: Path, frames: tuple[Gaussians, ...]) -> Path:
    """The frames as PLY files, beside the capture."""
    place = capture.parent / "fit"
    place.mkdir()
    for t, frame in enumerate(frames):
        (place / f"{t:04d}.ply").write_bytes(write(frame, ".ply"))
    return place


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "sequences.json").read_text())["sequences"]


def test_rates_of_a_folder(capture: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "out", tmp_path / "page.md"
    page.write_text(f"<!-- {study.MARK} -->\n<!-- /{study.MARK} -->\n")
    words = [str(folder), "--capture", str(capture), "--qualities", "40", "80", "--only", "rates", "--name", "few"]
    assert study.main([*words, "--out", str(out), "--page", str(page)]) == 0
    own = results(out)["few"]
    assert own["about"] == {"frames": T, "gaussians": N, "degree": 1, "raw": 104 * N * T}
    names = [(row["name"], row.get("quality")) for row in own["rates"]]
    plain, packed = (
        [("PLY", None), ("PLY in a zip", None), ("SPZ v4, each frame", None)],
        [("dualgs", 40), ("dualgs", 80)],
    )
    assert names == [*plain, ("dualgs, each frame", 80), *packed]
    rows = dict(zip(names, own["rates"], strict=True))
    coarse, fine = rows["dualgs", 40], rows["dualgs", 80]
    assert coarse["bytes"] < fine["bytes"] < rows["dualgs, each frame", 80]["bytes"]
    assert coarse["psnr_to_source"] < fine["psnr_to_source"]
    assert rows["PLY", None]["psnr"] == rows["PLY in a zip", None]["psnr"] and "psnr_to_source" not in rows["PLY", None]
    assert coarse["ratio"] == pytest.approx(104 * N * T / coarse["bytes"], rel=1e-6)
    assert coarse["ratio_of_248"] == pytest.approx(248 * N * T / coarse["bytes"], rel=1e-6)
    assert sum(coarse["storage"].values()) <= coarse["bytes"]
    assert "**dualgs**, quality 40" in page.read_text() and "few: 300 Gaussians" in capsys.readouterr().out


def test_parts_are_added_to_the_results(capture: Path, tmp_path: Path) -> None:
    words = ["--capture", str(capture), "--skinned", str(N), "--degree", "1", "--frames", "2", "--qualities", "60"]
    words += ["--out", str(tmp_path), "--name", "made", "--repeat", "1"]
    assert study.main([*words, "--only", "speed"]) == 0
    assert study.main([*words, "--only", "tables"]) == 0
    own = results(tmp_path)["made"]
    assert own["about"]["frames"] == 2
    assert own["speed"][0]["frames_a_second"] > 0 and own["speed"][0]["seek_worst_ms"] >= own["speed"][0]["seek_ms"]
    table = own["tables"][0]
    assert 0 < table["tracks"] < table["file"] and table["webp"] > 0 and table["levels"] > 0
    (tmp_path / "sequences.json").write_text("[]")
    with pytest.raises(MediaError, match="not the results of this study"):
        study.merged(tmp_path / "sequences.json", own)


def test_tracks_are_those_that_are_decoded(frames: tuple[Gaussians, ...]) -> None:
    """Tracks of scales, in steps, give the decoded scales: all differences are whole multiples of one step."""
    codec = Codec.load("dualgs", quality=70)
    data = codec.compress(frames)
    ((tracks, rows),) = dual_decoding.tracks_of(data)
    assert (
        tracks["scale"].shape == (T, N, 3) and tracks["opacity"].shape == (T, N, 1) and sorted(rows) == list(range(N))
    )
    decoded = codec.decompress(data)
    moved = decoded[1].scales.astype(float) - decoded[0].scales
    steps = tracks["scale"][1] - tracks["scale"][0]
    assert steps.any()
    step = moved[steps != 0] / steps[steps != 0]
    np.testing.assert_allclose(step, np.median(step), rtol=1e-3)
    assert not np.abs(moved[steps == 0]).max(initial=0)
    with pytest.raises(MediaError, match="has no look-up tables"):
        dual_decoding.tables(codec.compress(frames[0]))


def test_without_splats4d(frames: tuple[Gaussians, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Splats4d, "find", staticmethod(lambda: None))
    said: list[str] = []
    rows = dual_splats4d.beside_splats4d(frames, tmp_path, [0], said.append)
    assert [row["name"] for row in rows] == [".splat", ".splat in a zip", "dualgs"]
    assert rows[0]["bytes_a_frame"] == 32 * N and rows[2]["of_splats4d"] is None
    assert "pip install splats4d" in said[0]
    assert all(0.1 < error <= 1.001 for error in rows[2]["errors"].values()), "a bound doesn't hold"


@pytest.mark.skipif(Splats4d.find() is None, reason="splats4d isn't installed")
def test_beside_splats4d(frames: tuple[Gaussians, ...], tmp_path: Path) -> None:
    rows = dual_splats4d.beside_splats4d(frames, tmp_path, [2])
    theirs, best, ours = rows[2:]
    assert (theirs["name"], best["name"], ours["name"]) == ("splats4d", "splats4d --zstd-level 19", "dualgs")
    assert theirs["of_splats4d"] == 1 and best["of_splats4d"] <= 1 and 0 < ours["of_splats4d"] < 1
    bound = {key: value for key, value in theirs["errors"].items() if key != "rotation"}
    assert all(value <= 1.01 for value in bound.values()), "rows were matched wrongly"


def test_splats4d_fails_in_words(tmp_path: Path) -> None:
    if os.name == "nt":
        return
    program = tmp_path / "splat4d"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such folder')\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(MediaError, match="splat4d encode failed: no such folder"):
        Splats4d(program).encode(tmp_path, tmp_path / "x")
    with pytest.raises(UsageError, match="can't be run"):
        Splats4d(tmp_path / "missing").encode(tmp_path, tmp_path / "x")


def test_largest_errors(frames: tuple[Gaussians, ...]) -> None:
    """Errors that were put in come out, whatever the order of rows."""
    given = [open_source(write(frame, ".splat")).frame(0) for frame in frames]
    bounds = dual_splats4d.bounds_of(2)
    order = np.random.default_rng(0).permutation(N)

    def decoded(index: int) -> Gaussians:
        frame = given[index].take(order)
        moved = frame.positions + np.float32(0.001 * index)
        return Gaussians(moved, frame.scales, -frame.rotations, frame.opacities, frame.harmonics)

    errors = dual_splats4d.largest_errors(given, decoded, bounds)
    assert errors["position"] == pytest.approx(0.001 * (T - 1) / 0.002, rel=1e-3)
    assert {name: value for name, value in errors.items() if name != "position" and value > 1e-6} == {}


def test_words_for_what_is_missing(capture: Path, folder: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)]
    with pytest.raises(UsageError, match="name the folder of a sequence"):
        study.main(out)
    with pytest.raises(UsageError, match="--skinned needs --capture"):
        study.main(["--skinned", "5", *out])
    three = Capture.open(capture)
    with pytest.raises(UsageError, match="is it another one's"):
        study.Views(three, [open_source(folder).frame(0)] * (T + 1))


def test_reproduce(capture: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(reproducing, "DUAL", "0000.ply")  # a folder of frames in place of a fit
    words = ["reproduce", "dualgs", "--data", str(capture.parent), "--out", str(tmp_path)]
    assert cli.main(words) == 0
    text = capfd.readouterr().out
    assert "NOT the paper's data" in text and "350" in text and "35.51" in text
    report = json.loads((tmp_path / "dualgs.json").read_text())
    ours = {claim["what"]: claim["ours"] for claim in report["claims"]}
    assert ours["minutes to fit a frame"] is None and not report["same_data"]
    assert ours["kB a frame"] == pytest.approx(report["rows"][-1]["bytes_a_frame"] / 1000, rel=1e-6)
    assert ours["PSNR of held-out views before compression, dB"] == report["rows"][0]["psnr"]
    assert str(tmp_path) not in json.dumps(report)


def test_reproduce_says_how_to_make_a_fit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "dualgs", "--data", str(tmp_path)]) == 2
    assert "codec fit dualgs" in capfd.readouterr().err
