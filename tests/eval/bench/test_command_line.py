"""`codec bench` and `codec reproduce`, as a user meets them: exit codes, words, files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec import cli
from codec.errors import UsageError
from codec.eval.reproduce import run as reproducing
from codec.eval.reproduce.published import series

from ..fakes import curve as fake_curve

CODECS = "jpeg:444:q=10+40+70+95,webp:q=20+50+80+95,png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two crops of the sample photo, of different sizes."""
    out = tmp_path / "photos"
    (out / "sub").mkdir(parents=True)
    with Image.open(Path(__file__).parents[3] / "samples" / "dog.png") as image:
        image.convert("RGB").crop((40, 40, 140, 120)).save(out / "a.png")
        image.convert("RGB").crop((100, 60, 164, 124)).save(out / "sub" / "b.jpg", quality=95)
    return out


def bench(*words: str | Path) -> int:
    return cli.main(["bench", *map(str, words), "--repeat", "1", "--metrics", "psnr-rgb"])


def test_a_folder_becomes_a_report(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(folder, "-c", CODECS, "--out", tmp_path / "out", "--anchor", "jpeg") == 0
    shown = capsys.readouterr()
    assert "webp:420" in shown.out and "against jpeg:444" in shown.out
    assert "report.html" in shown.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"rows.csv", "summary.json", "curves", "rd-psnr-rgb.png", "rd-psnr-rgb.svg", "report.html"} <= names
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["command"].startswith("codec bench DATA -c jpeg:444")
    assert str(tmp_path) not in (tmp_path / "out" / "summary.json").read_text()
    assert str(tmp_path) not in (tmp_path / "out" / "report.html").read_text()
    assert summary["data"] == {"name": "photos", "medium": "image", "items": ["a.png", "sub/b.jpg"]}
    assert {"pillow", "libwebp"} <= {name.lower() for name in summary["versions"]}
    [form] = [json.loads(p.read_text()) for p in (tmp_path / "out" / "curves").iterdir() if p.name.startswith("jpeg")]
    assert set(form) == {"name", "description", "results"}
    assert len(form["results"]["bpp"]) == len(form["results"]["psnr-rgb"]) == 4
    rows = (tmp_path / "out" / "rows.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 9
    # a row states the size of the whole file, which anybody can make again
    row = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    assert int(row["bytes"]) * 8 / int(row["n_values"]) == pytest.approx(float(row["rate"]))


def test_a_users_folder_finishes_and_says_what_was_skipped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.jpg").write_bytes((folder / "sub" / "b.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("not a picture")
    assert bench(folder, "-c", "jpeg:q=40", "--out", tmp_path / "out") == 1
    shown = capsys.readouterr()
    assert "broken.jpg: skipped: a JPEG without a picture" in shown.err
    assert "notes.txt: skipped: not a kind of file that is measured" in shown.err
    assert "2 skipped, 0 failed" in shown.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {one["item"] for one in summary["skipped"]} == {"broken.jpg", "notes.txt"}
    assert summary["curves"][0]["points"][0]["items"] == 2
    # the second time nothing is measured, and the report is the same
    before = (tmp_path / "out" / "rows.csv").read_bytes()
    assert bench(folder, "-c", "jpeg:q=40", "--out", tmp_path / "out") == 1
    assert (tmp_path / "out" / "rows.csv").read_bytes() == before


def test_json_is_one_object(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(folder, "-c", "png", "--out", tmp_path / "out", "--json") == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert summary["curves"][0]["points"][0]["psnr-rgb"] == "inf"
    assert not shown.err


def test_the_list_of_codecs_names_options_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--codecs", "--json"]) == 0
    listed = {one["name"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {"walloc", "jpeg", "webp", "avif", "jxl", "jpeg2000", "png", "opus", "x264", "zfp"} <= set(listed)
    assert listed["walloc"]["options"]["tag"]["choices"][1:] == ["16x", "4x"]
    assert {"444", "420"} <= set(listed["jpeg"]["options"]["chroma"]["choices"])
    assert cli.main(["bench", "--codecs"]) == 0
    assert "the curve's axis" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a file or a folder"),
        (["nosuch"], "no such file or folder"),
        (["PHOTOS", "-c", "jpgg"], "did you mean 'jpeg'"),
        (["PHOTOS", "-c", "jpeg:q=40", "--window", "29-37"], "--window 29-37"),
        (["PHOTOS", "-c", "jpeg:q=40", "--reference", "vvm"], "no published series"),
        (["PHOTOS", "-c", "jpeg:q=40", "--out", "PHOTOS"], "holds other things"),
        (["PHOTOS", "-c", "zfp"], "no array here"),
    ],
)
def test_usage_errors_leave_nothing_behind(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
    words = [str(folder) if word == "PHOTOS" else word for word in words]
    assert cli.main(["bench", *words, *out]) == UsageError.exit_code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert {path.name for path in folder.iterdir()} == {"a.png", "sub"}


def test_an_unreadable_anchor_is_said_before_anything_is_measured(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(folder, "-c", "jpeg:q=40", "--anchor", "weep", "--out", tmp_path / "out") == UsageError.exit_code
    assert "no anchor 'weep'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "rows.csv").exists()


# ---- recipes

RECIPE = """
title: A test
source: nobody
scale: two small pictures
data: no/such/photos
items: 2
codecs: jpeg:444:q=10+40+70+95,png
metrics: [psnr-rgb]
references: [jpeg]
claims:
  - {what: rate at q 40, paper: 1.25, unit: bpp, mark: made up, codec: "jpeg:444", setting: 40, value: bpp}
checks:
  - {codec: "jpeg:444", reference: jpeg, within: WITHIN, low: 0.2, high: 4}
also: [something else]
"""


def recipe(folder: Path, within: float) -> str:
    path = folder / "test.yaml"
    path.write_text(RECIPE.replace("WITHIN", str(within)))
    return str(path)


def test_a_recipe_puts_paper_and_ours_side_by_side(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(folder), "--out", str(tmp_path / "out"), "--repeat", "1"]
    assert cli.main(["reproduce", recipe(tmp_path, 30), *words]) == 0
    text = capsys.readouterr().out
    assert "1.25" in text and "made up" in text and "agrees" in text
    assert "also: something else" in text
    assert cli.main(["reproduce", recipe(tmp_path, 30), *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    [claim] = result["claims"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    at_40 = next(one for one in summary["curves"][0]["points"] if one["setting"] == 40)
    assert claim["paper"] == 1.25 and claim["ours"] == at_40["bpp"]
    assert result["checks"][0]["published_source"] == series("jpeg").source
    # a check that doesn't hold fails the command, unless the recipe says why it differs
    assert cli.main(["reproduce", recipe(tmp_path, 0), *words]) == 1
    assert "differs" in capsys.readouterr().out


def test_shipped_recipes_are_whole() -> None:
    assert {"walloc", "classical-kodak"} <= set(reproducing.names())
    from codec.eval import peers
    from codec.eval.bench.specs import parse

    waiting = {"vqgan": fake_curve("vqgan")}  # its card waits for its weights
    for name in reproducing.names():
        one = reproducing.load(name)
        labels = {curve.label for curve in parse(one.codecs, {**waiting, **peers.families()})}
        assert one.title and one.source and one.scale
        assert {claim.codec for claim in one.claims} | {check.codec for check in one.checks} <= labels
        assert all(claim.mark for claim in one.claims)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "expected keys"),
        ("title: x", "not a recipe"),
        (RECIPE.replace("WITHIN", "1").replace("paper:", "papers:"), "papers"),
        (RECIPE.replace("WITHIN", "1").replace("reference: jpeg,", "reference: jpg,"), "no published series"),
        ("a: [", "not a recipe"),
    ],
)
def test_a_wrong_recipe_is_a_usage_error(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError) as error:
        reproducing.load(tmp_path / "r.yaml")
    assert words in str(error.value)


def test_a_check_measures_the_difference_at_the_series_rates(folder: Path, tmp_path: Path) -> None:
    """Our curve moved by exactly half a decibel from the series differs by half a decibel."""
    from codec.eval.bench.rows import PointMean, Table
    from codec.eval.bench.specs import Curve

    published = series("jpeg").points
    one = reproducing.load(recipe(tmp_path, 1))
    table = reproducing.rate_distortion(folder, one.codecs, metrics=["psnr-rgb"], repeat=1)

    class Moved(Table):
        def points(self, curve: Curve | str) -> list[PointMean]:
            [model] = table.points("jpeg:444")[:1]
            return [
                dataclasses.replace(model, rate=p["bpp"], metrics={"psnr-rgb": p["psnr-rgb"] + 0.5}) for p in published
            ]

    moved = Moved(**{field.name: getattr(table, field.name) for field in dataclasses.fields(table)})
    checked = reproducing._check(moved, table.curves[0], one.checks[0])
    assert checked.mean == pytest.approx(0.5, abs=1e-9) and checked.largest == pytest.approx(0.5, abs=1e-9)
    assert checked.holds and checked.rates == sum(0.2 <= p["bpp"] <= 4 for p in published)
    assert np.isfinite(checked.mean)

    about = {"what": "rate", "paper": 0.0, "unit": "%", "mark": "made up", "codec": "jpeg:444", "value": "bd_rate"}
    curves = {curve.label: curve for curve in table.curves}
    narrow, wide = (
        reproducing._ours(table, curves, reproducing._claim({**about, "anchor": "jpeg", "window": window}))
        for window in ([32, 36], None)
    )
    assert narrow is not None and wide is not None and narrow != wide
    assert narrow == table.delta("jpeg:444", series("jpeg"), None, (32.0, 36.0)).rate
    assert wide == table.delta("jpeg:444", series("jpeg")).rate
    with pytest.raises(UsageError, match="no published series"):
        reproducing._ours(table, curves, reproducing._claim({**about, "anchor": "jpgg"}))
    with pytest.raises(TypeError, match="low, high"):
        reproducing._claim({**about, "window": 3})

    at = {**about, "value": "psnr-rgb"}
    for known in published[1:3]:
        read = reproducing._ours(moved, curves, reproducing._claim({**at, "at": known["bpp"]}))
        assert read == pytest.approx(known["psnr-rgb"] + 0.5, abs=1e-9)
    assert reproducing._ours(moved, curves, reproducing._claim({**at, "at": 1e-3})) is None
    with pytest.raises(UsageError, match="doesn't measure"):
        reproducing._ours(moved, curves, reproducing._claim({**at, "value": "ssim-rgb", "at": 1.0}))
