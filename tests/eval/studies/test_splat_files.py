"""The study of scenes as files: its rows, its files, and that a wrong result stops it."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.errors import MediaError
from codec.eval.studies import splat_files as study
from codec.eval.studies.splat_peers import PAPER_BYTES, raw_bytes, same, seconds_of, spz4, zipped
from codec.media.gaussians.values import Gaussians
from codec.media.gaussians.writer import write


def scene(n: int = 300, degree: int = 1) -> Gaussians:
    rng = np.random.default_rng(n)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return Gaussians(normal(n, 3), normal(n, 3) - 3, normal(n, 4), normal(n), normal(n, (degree + 1) ** 2, 3) / 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a PLY file and an SPZ file."""
    place = tmp_path_factory.mktemp("splats")
    (place / "a.ply").write_bytes(write(scene(), ".ply"))
    (place / "b.spz").write_bytes(write(scene(200), ".spz"))
    return place


def test_rows_files_and_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- {study.MARK} -->\n<!-- /{study.MARK} -->\nafter\n")
    files = [str(folder / name) for name in ("a.ply", "b.spz")]
    assert study.main([*files, "--out", str(tmp_path / "out"), "--repeat", "1", "--page", str(page)]) == 0
    about = json.loads((tmp_path / "out" / "files.json").read_text())
    names = ["a.ply", "a.ply as SPZ v4", "b.spz"]
    assert [row["name"] for row in about["files"]] == names
    floats, rounded, own = about["files"]
    assert floats["source"] == (folder / "a.ply").stat().st_size
    assert rounded["source"] == rounded["spz4"] == floats["spz4"], "the same scene as SPZ"
    assert own["spz4"] == own["source"], "an SPZ file of version 4 is what it is compared with"
    for row in about["files"]:
        assert row["saved"] == pytest.approx(1 - row["ours"] / row["source"], abs=1e-6)
        assert row["zstd"] > 0 and row["xz"] > 0 and row["zip"] > 0 and row["encode_seconds"] > 0
    assert floats["zip"] == len(zipped({"a.ply": (folder / "a.ply").read_bytes()}))
    with (tmp_path / "out" / "files.csv").open() as text:
        assert [row["name"] for row in csv.DictReader(text)] == names
    table = page.read_text()
    assert table.startswith("before\n") and table.endswith("after\n") and "| b.spz | 200 |" in table
    assert "(it rounds)" in table and "a.ply as SPZ v4" in capsys.readouterr().out
    assert str(tmp_path) not in json.dumps(about)


def test_a_wrong_result_stops_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "same", lambda a, b: False)
    with pytest.raises(MediaError, match=r"b\.spz: what was decoded"):
        study.measured("b.spz", (folder / "b.spz").read_bytes())


def test_same_is_of_bits_and_not_of_order() -> None:
    a = scene(40)
    assert same(a, a.take(np.random.default_rng(1).permutation(40)))
    changed = Gaussians(a.positions, a.scales, a.rotations, a.opacities, a.harmonics.copy())
    changed.harmonics[7, 1, 2] = np.nextafter(changed.harmonics[7, 1, 2], np.float32(9))
    assert not same(a, changed) and not same(a, a.take(np.arange(39)))
    zero = Gaussians(a.positions, a.scales, a.rotations, np.zeros(40, np.float32), a.harmonics)
    minus = Gaussians(a.positions, a.scales, a.rotations, -np.zeros(40, np.float32), a.harmonics)
    assert not same(zero, minus), "-0 isn't 0"


def test_peers() -> None:
    assert [raw_bytes(degree) for degree in range(4)] == [68, 104, 164, PAPER_BYTES]
    data = write(scene(), ".ply")
    with zipfile.ZipFile(BytesIO(zipped({"x.ply": data, "y": b"1"}))) as archive:
        assert archive.read("x.ply") == data and archive.namelist() == ["x.ply", "y"]
    assert spz4(scene()) == write(scene(), ".spz")
    calls: list[Any] = []
    result, seconds = seconds_of(lambda: calls.append(1) or len(calls), 3)
    assert result == 1 and len(calls) == 3 and math.isfinite(seconds)
