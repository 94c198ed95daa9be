"""Whole runs: rows, means, resuming, what is skipped; with codecs whose rate and distortion are known."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.errors import MediaError, UsageError
from codec.eval import peers, rate_distortion
from codec.eval.bench import run as bench
from codec.eval.bench.contract import Family
from codec.eval.bench.rows import Row, RowFile, as_decibels, in_units
from codec.eval.bench.run import anchors_of
from codec.eval.metrics import metric
from codec.eval.output import jsonable, write_json
from codec.eval.reproduce.published import series

from ..fakes import Broken, Raw, Sized, curve, family


def noisy(pixels: np.ndarray) -> np.ndarray:
    """Every value moved by 4: the mean squared error is 16."""
    return np.where(pixels < 128, pixels + 4, pixels - 4).astype(np.uint8)


FAKES = {
    item.name: item
    for item in (
        family("raw", lambda s, t: Raw(), options={}, axis=None, sweep=(), lossless=True),
        family("noise", lambda s, t: Raw(error=noisy), options={}, axis=None, sweep=()),
        family("liar", lambda s, t: Raw(error=noisy), options={}, axis=None, sweep=(), lossless=True),
        family("half", lambda s, t: Sized(0.5, 2), options={}, axis=None, sweep=()),
        family("broken", lambda s, t: Broken(), options={}, axis=None, sweep=()),
        family("absent", lambda s, t: Broken(), missing=lambda: "libabsent isn't installed: pip install absent"),
        curve("a", sweep=tuple(range(1, 9))),
        curve("b", 0.9, sweep=tuple(range(1, 9))),
    )
}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Family]:
    monkeypatch.setattr(peers, "families", lambda: FAKES)
    bench.ready_peer.cache_clear()
    return FAKES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of different sizes, one in a folder below."""
    rng = np.random.default_rng(5)
    out = tmp_path / "pictures"
    (out / "more").mkdir(parents=True)
    for name, size in (("a.png", (32, 48)), ("b.png", (21, 35)), ("more/c.png", (64, 64))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(out / name)
    return out


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_known_noise_has_the_known_psnr(fakes: object, folder: Path) -> None:
    table = rate_distortion(folder, "noise", metrics=["psnr-rgb"], repeat=1)
    [point] = table.points(table.curves[0])
    assert point.metrics["psnr-rgb"] == pytest.approx(10 * math.log10(255**2 / 16), abs=1e-9)
    assert point.complete and point.items == 3


def test_a_known_size_has_the_known_rate(fakes: object, folder: Path) -> None:
    table = rate_distortion(folder, "half", metrics=["psnr-rgb"], repeat=1)
    [point] = table.points(table.curves[0])
    assert point.rate == pytest.approx(4.0, rel=2e-3)  # half a byte a pixel
    assert point.ratio == pytest.approx(6.0, rel=2e-3)
    whole = next(row for row in table.rows if row.item == "a.png")
    assert (whole.bytes, whole.n_values, whole.shape) == (768, 1536, "32x48x3")


def test_means_are_of_the_items_values(fakes: object, folder: Path) -> None:
    """Mean of rates, not rate of the whole; mean of PSNRs, not PSNR of the mean error."""
    table = rate_distortion(folder, "raw", metrics=["psnr-rgb"], repeat=1)
    [point] = table.points(table.curves[0])
    sizes = {"a.png": 32 * 48, "b.png": 21 * 35, "more/c.png": 64 * 64}
    assert point.rate == pytest.approx(sum(8 * (12 + 3 * n) / n for n in sizes.values()) / 3, rel=1e-12)
    assert point.metrics["psnr-rgb"] == math.inf


def test_a_curve_of_a_tenth_fewer_bytes_is_minus_ten_per_cent(fakes: object, folder: Path) -> None:
    table = rate_distortion(folder, "a,b", metrics=["psnr-rgb"], repeat=1)
    [anchor] = anchors_of(table.curves, ["a"])
    delta = table.delta(table.curves[1], anchor, table.metrics[0])
    assert delta.rate == pytest.approx(-10.0, abs=0.2)  # files are whole bytes
    summary = table.summary([anchor])
    [entry] = summary["bd"]
    assert (entry["codec"], entry["anchor"], entry["reason"]) == ("b", "a", None)
    assert entry["window"] == pytest.approx(list(delta.window or ()))


def test_a_point_without_all_items_is_in_no_curve(fakes: object, folder: Path) -> None:
    table = rate_distortion(folder, "a", metrics=["psnr-rgb"], repeat=1)
    less = [row for row in table.rows if not (row.setting == "3" and row.item == "b.png")]
    short = dataclasses.replace(table, rows=tuple(less))
    points = {point.setting: point for point in short.points(short.curves[0])}
    assert not points[3].complete and points[3].items == 2
    [(_, form)] = short.compressai()
    assert len(form["results"]["bpp"]) == 7


def test_rows_are_kept_and_not_measured_again(
    fakes: object, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = rate_distortion(folder, "half", metrics=["psnr-rgb"], out=out, repeat=1)
    before = (out / "rows.csv").read_text()
    assert len(read(out / "rows.csv")) == 3
    calls = []
    monkeypatch.setattr(bench, "measure", lambda *a: calls.append(1))
    second = rate_distortion(folder, "half", metrics=["psnr-rgb"], out=out, repeat=1)
    assert not calls
    assert (out / "rows.csv").read_text() == before
    assert [row.bytes for row in second.rows] == [row.bytes for row in first.rows]
    monkeypatch.undo()
    monkeypatch.setattr(peers, "families", lambda: FAKES)
    # one more codec and a new picture: only what is missing is measured
    Image.new("RGB", (9, 9)).save(folder / "d.png")
    done = []
    rate_distortion(
        folder,
        "half,noise",
        metrics=["psnr-rgb"],
        out=out,
        repeat=1,
        progress=lambda d, t, last: done.append((d, last)),
    )
    assert done[0] == (3, "3 rows are there already")
    assert len(done) == 1 + 5 and len(read(out / "rows.csv")) == 8
    done.clear()
    again = rate_distortion(
        folder, "half", metrics=["psnr-rgb"], out=out, repeat=1, again=True, progress=lambda d, t, last: done.append(d)
    )
    assert done == [1, 2, 3, 4]
    assert len(read(out / "rows.csv")) == 8 and len(again.rows) == 4


def test_a_changed_picture_another_version_or_metric_is_measured(
    fakes: object, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    rate_distortion(folder, "half", metrics=["psnr-rgb"], out=out, repeat=1)
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    table = rate_distortion(folder, "half", metrics=["psnr-rgb"], out=out, repeat=1)
    assert len(read(out / "rows.csv")) == 4
    assert {row.item: row.n_values for row in table.rows}["a.png"] == 81
    newer = family("half", lambda s, t: Sized(0.5, 2), options={}, axis=None, sweep=(), versions=lambda: {"half": "2"})
    monkeypatch.setattr(peers, "families", lambda: {"half": newer})
    table = rate_distortion(folder, "half", metrics=["psnr-rgb"], out=out, repeat=1)
    assert len(read(out / "rows.csv")) == 7
    assert {row.version for row in table.rows} == {"half 2"}
    table = rate_distortion(folder, "half", metrics=["psnr-rgb", "ssim-rgb"], out=out, repeat=1)
    rows = read(out / "rows.csv")
    assert len(rows) == 7 and [row["ssim-rgb"] != "" for row in rows] == [False] * 4 + [True] * 3
    assert all("ssim-rgb" in row.metrics for row in table.rows)


def test_a_killed_run_goes_on(fakes: object, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rate_distortion(folder, "a", metrics=["psnr-rgb"], out=out, repeat=1)
    text = (out / "rows.csv").read_text()
    lines = text.splitlines(keepends=True)
    (out / "rows.csv").write_text("".join(lines[:10]) + lines[10][:25])  # killed while it wrote the tenth row
    table = rate_distortion(folder, "a", metrics=["psnr-rgb"], out=out, repeat=1)
    assert len(table.rows) == 24
    again = read(out / "rows.csv")
    assert len(again) == 24
    with RowFile(out / "rows.csv", ["psnr-rgb"]) as file:  # every line is a row
        assert set(file.rows) == {row.key for row in table.rows}
    assert [(row["item"], row["spec"]) for row in again[:9]] == [
        (r["item"], r["spec"]) for r in csv.DictReader(lines[:10])
    ]


def test_one_run_at_a_time_writes(fakes: object, folder: Path, tmp_path: Path) -> None:
    with RowFile(tmp_path / "out" / "rows.csv", ["psnr-rgb"]), pytest.raises(UsageError, match="another run"):
        rate_distortion(folder, "half", metrics=["psnr-rgb"], out=tmp_path / "out")
    rate_distortion(folder, "half", metrics=["psnr-rgb"], out=tmp_path / "out", repeat=1)


def test_a_folder_of_something_else_is_not_touched(fakes: object, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds other things"):
        rate_distortion(folder, "half", out=folder)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MediaError, match="not a file of rows"):
        rate_distortion(folder, "half", out=tmp_path)
    assert (tmp_path / "rows.csv").read_text() == "a,b\n1,2\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        rate_distortion(folder, "half", out=tmp_path / "file")


def test_a_mixed_folder_finishes_and_says_what_it_left_out(fakes: object, folder: Path) -> None:
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_text("hidden")
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(folder / "clear.png")
    Image.new("I;16", (8, 8)).save(folder / "deep.png")
    table = rate_distortion(folder, "half,noise", metrics=["psnr-rgb"], repeat=1)
    reasons = {one.name: one.reason for one in table.skipped}
    assert set(reasons) == {"broken.png", "notes.txt", "clear.png", "deep.png"}
    assert reasons["notes.txt"] == "not a kind of file that is measured"
    assert "transparency" in reasons["clear.png"] and "16 bits" in reasons["deep.png"]
    assert table.items == ("a.png", "b.png", "more/c.png")
    assert all(point.complete for curve in table.curves for point in table.points(curve))


def test_a_codec_that_fails_is_said_and_the_others_go_on(fakes: object, folder: Path) -> None:
    table = rate_distortion(folder, "broken,half,liar", metrics=["psnr-rgb"], repeat=1)
    assert [row.codec for row in table.rows] == ["half"] * 3
    reasons = {(one.spec, one.reason) for one in table.failed}
    assert reasons == {
        ("broken", "can't take this one: too small"),
        ("liar", "a lossless codec gave back other values"),
    }
    assert len(table.failed) == 6


@pytest.mark.parametrize(
    ("codecs", "metrics", "words"),
    [
        ("absent", None, "absent can't run here: libabsent isn't installed: pip install absent"),
        ("half", ["psnr-rgbb"], "psnr-rgb"),
        ("nosuch", None, "no codec"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(
    fakes: object, folder: Path, tmp_path: Path, codecs: str, metrics: list[str] | None, words: str
) -> None:
    with pytest.raises(UsageError) as error:
        rate_distortion(folder, codecs, metrics=metrics, out=tmp_path / "out")
    assert words in str(error.value)
    assert not (tmp_path / "out").exists()


def test_codecs_of_two_media_do_not_compare(folder: Path) -> None:
    with pytest.raises(UsageError, match="audio and image"):
        rate_distortion(folder, "jpeg,mp3")
    with pytest.raises(UsageError, match="no audio here"):
        rate_distortion(folder, "mp3")


def test_anchors_by_name(fakes: object, folder: Path) -> None:
    table = rate_distortion(folder, "a:q=1+2+3+4,half", metrics=["psnr-rgb"], repeat=1)
    assert anchors_of(table.curves) == [table.curves[0]]
    assert anchors_of(table.curves, ["half", "vtm-18.0"]) == [table.curves[1], series("vtm-18.0")]
    with pytest.raises(UsageError, match="no anchor 'x'"):
        anchors_of(table.curves, ["x"])
    summary = table.summary([series("vtm-18.0")], [series("vtm-18.0")])
    assert all(one["published_anchor"] for one in summary["bd"])
    assert summary["reference"][0]["source"].startswith("duanzhiihao")


def test_several_processes_give_the_same_rows(folder: Path, tmp_path: Path) -> None:
    """Real codecs: fakes don't travel to fresh processes."""
    shutil.rmtree(folder / "more")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    one = rate_distortion(folder, "jpeg:420:q=20+60,png", metrics=["psnr-rgb"], repeat=1)
    two = rate_distortion(folder, "jpeg:420:q=20+60,png", metrics=["psnr-rgb"], repeat=1, jobs=2, out=tmp_path / "out")

    def content(table: bench.Table) -> list[tuple[object, ...]]:
        return sorted((row.item, row.spec, row.bytes, row.metrics["psnr-rgb"]) for row in table.rows)

    assert content(one) == content(two) and len(one.rows) == 6
    assert [skip.name for skip in two.skipped] == ["broken.png"]
    assert {row.jobs for row in two.rows} == {2}


def test_similarities_are_compared_in_decibels() -> None:
    """A curve of MS-SSIM from 0.9 to 0.999 is nearly straight in decibels, and a corner as it is."""
    similarity, lpips, psnr = (metric("image", name) for name in ("ms-ssim-rgb", "lpips-alex", "psnr-rgb"))
    assert as_decibels(similarity, 0.99) == pytest.approx(20.0)
    assert as_decibels(similarity, 1.0) == math.inf
    assert as_decibels(lpips, 0.25) == -0.25
    assert as_decibels(metric("array", "relative-l2"), 1e-3) == pytest.approx(60.0)
    assert as_decibels(metric("array", "relative-l2"), 0.0) == math.inf
    for one, end in ((similarity, 0.99), (lpips, 0.25), (metric("array", "max-error"), 0.02), (psnr, 30.0)):
        assert in_units(one, (as_decibels(one, end), as_decibels(one, end))) == pytest.approx(
            [end, end]
        )  # the window's way back
    assert as_decibels(psnr, 31.5) == 31.5


def test_json_is_strict(tmp_path: Path) -> None:
    value = {"a": math.inf, "b": [math.nan, 1 / 3], "c": {"d": -math.inf}, 5: "x"}
    assert jsonable(value) == {"a": "inf", "b": ["nan", 0.3333333], "c": {"d": "-inf"}, "5": "x"}
    write_json(tmp_path / "x.json", value)
    json.loads((tmp_path / "x.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x","y").png', "+1", "-1", "@x", "\tx", "'=1", "'plain", "plain'"])
def test_a_name_is_never_a_formula(name: str, tmp_path: Path) -> None:
    """A spreadsheet runs a cell that begins like one; what is read back is the name."""
    row = Row(
        *("raw", "q=1", "raw:q=1", "1", name, "0" * 16, "2x2", 4, 9, None, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, None, None),
        *(1, 1, 1, 1, "here"),
    )
    with RowFile(tmp_path / "rows.csv", ()) as file:
        file.append(row)
    with open(tmp_path / "rows.csv", newline="") as text:
        cells = list(csv.reader(text))[1]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
    with RowFile(tmp_path / "rows.csv", ()) as file:
        assert [item.item for item in file.rows.values()] == [name]
