"""Runs of machine perception with known codecs and models: guards, rows, resuming, intervals, tasks of users."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.errors import MediaError, UsageError
from codec.eval.bench.contract import Family
from codec.eval.perception import Sample, Task, digest_of, find_task, perceive
from codec.eval.perception import harness as harness_module
from codec.eval.perception.harness import ORIGINAL
from codec.eval.perception.registry import TASKS
from codec.eval.perception.report import Analysis, summary_of, summary_text, write_results

from ..fakes import Raw, family


class Shades(Task):
    """Pictures of one of four shades; the model says which quarter of the range the mean lies in."""

    name, medium, models = "shades", "image", ("no-such-hub/model", "mean")
    about = "the shade of a flat picture"
    asked = 0

    def samples(self, data: Path | None) -> Iterator[Sample]:
        draw = np.random.default_rng(0)
        for index in range(80):
            pixels = np.full((8, 8, 3), 64 * (index % 4) + 32, np.uint8) + draw.integers(0, 8, (8, 8, 3), np.uint8)
            yield Sample(f"flat-{index}", pixels, digest_of(pixels), index % 4)

    def load(self, model: str) -> Any:
        if model != "mean":
            raise UsageError(f"{model} isn't in the local cache")
        return self._predict

    def _predict(self, pixels: np.ndarray) -> int:
        Shades.asked += 1
        return int(pixels.mean() // 64)


def _replaced(pixels: np.ndarray) -> np.ndarray:
    """Noise in place of the picture: a shade that has nothing to do with it."""
    draw = np.random.default_rng(int(pixels.sum()))
    return np.full_like(pixels, draw.integers(0, 256))


def _shifted(by: float) -> Any:
    def error(pixels: np.ndarray) -> np.ndarray:
        draw = np.random.default_rng(int(pixels.sum()))
        moved = pixels if draw.random() > by else pixels.astype(int) + 64
        return np.clip(moved, 0, 255).astype(np.uint8)

    return error


def _harm(settings: Any, threads: int) -> Raw:
    """Larger q: more bytes, fewer samples that are moved to the next shade."""
    q = int(settings["q"])
    return Raw(filler=10**q, error=_shifted(0.5 / q))


FAKES: dict[str, Family] = {
    item.name: item
    for item in (
        family("identity", lambda s, t: Raw(), options={}, axis=None, sweep=(), lossless=True),
        family("rubbish", lambda s, t: Raw(error=_replaced), options={}, axis=None, sweep=()),
        family("harm", _harm, sweep=(1, 2, 3, 4)),
        family("other", _harm, sweep=(1, 2, 3, 4)),
        family("liar", lambda s, t: Raw(error=_replaced), options={}, axis=None, sweep=(), lossless=True),
        family("cutter", lambda s, t: Raw(error=lambda p: p[:-1]), options={}, axis=None, sweep=()),
    )
}


def run(codecs: str, **settings: Any) -> Any:
    return perceive(Shades(), codecs, families=FAKES, metrics=["psnr-rgb"], **settings)


# ---- guards: each is a defect of a published study


def test_the_identity_loses_nothing() -> None:
    analysis = Analysis(run("identity"))
    assert np.array_equal(analysis.curves["identity"].scores[0], analysis.original)
    assert analysis.original[0] == 1.0


def test_noise_scores_at_chance() -> None:
    analysis = Analysis(run("rubbish"))
    assert analysis.curves["rubbish"].scores[0, 0] == pytest.approx(0.25, abs=0.12)


def test_the_rate_is_eight_times_the_bytes_by_the_pixels() -> None:
    results = run("harm")
    for point in results.curves[0].points:
        rows = results.of(point.spec)
        expected = 8 * (12 + 192 + 10 ** int(str(point.setting))) / 64
        assert [8 * row.bytes / row.n for row in rows] == [expected] * len(rows)
        assert Analysis(results).rates(rows)[0] == pytest.approx(expected)


def test_other_shapes_and_lossless_codecs_that_lose_are_failures() -> None:
    results = run("identity,liar,cutter")
    assert [curve.label for curve in results.curves] == ["identity"]
    reasons = {case.spec: case.reason for case in results.failed}
    assert "lossless" in reasons["liar"] and "shape" in reasons["cutter"]
    with pytest.raises(MediaError, match="no sample of shades"):
        run("cutter")


# ---- rows


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = run("harm:q=1", out=tmp_path)
    asked = Shades.asked
    again = run("harm:q=1", out=tmp_path)
    assert Shades.asked == asked, "rows that are there are measured again"
    assert again.rows == first.rows
    rows = tmp_path / "rows.jsonl"
    text = rows.read_text()
    rows.write_text(text[: len(text) - 20])  # killed in the middle of a line
    more = run("harm:q=1+2", out=tmp_path)
    assert len(more.rows) == 3 * 80 and Shades.asked == asked + 80 + 80 + 1  # originals of all, one row, 80 new ones
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(lines) == 3 * 80 and {line["model"] for line in lines} == {"mean"}


def test_folders_of_somebody_else_and_rows_of_nobody_are_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds other things"):
        run("identity", out=tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"task": 1}\n')
    with pytest.raises(MediaError, match="line 1"):
        run("identity", out=tmp_path)


def test_the_reference_model_is_tried_first_and_named() -> None:
    lines: list[str] = []
    results = run("identity", say=lines.append)
    assert results.model == "mean" and "local cache" in results.passed_over["no-such-hub/model"]
    assert len(lines) == 1 and "no-such-hub/model" in lines[0]
    with pytest.raises(UsageError, match="local cache"):
        run("identity", model="no-such-hub/model")


def test_a_model_that_fails_on_a_sample_leaves_it_out() -> None:
    class Sometimes(Shades):
        def _predict(self, pixels: np.ndarray) -> int:
            if pixels.mean() > 200:
                raise ValueError("too bright")
            return super()._predict(pixels)

    results = perceive(Sometimes(), "identity", families=FAKES, metrics=["psnr-rgb"])
    assert len(results.samples) == 60 and len(results.left_out) == 20
    assert {case.reason for case in results.failed} == {"ValueError: too bright"}


def test_damaged_files_and_others_are_skipped_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    folder = tmp_path / "data"
    for label, shade in (("dark", 40), ("light", 200)):
        (folder / label).mkdir(parents=True)
        Image.new("RGB", (16, 16), (shade,) * 3).save(folder / label / "a.png")
    whole = (folder / "dark" / "a.png").read_bytes()
    (folder / "dark" / "b.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dark" / "letter.txt").write_text("dear")
    results = perceive(str(tmp_path / "own.py"), "identity", data=folder, families=FAKES, metrics=["psnr-rgb"])
    assert results.samples == ("dark/a.png", "light/a.png")
    assert {item.name for item in results.skipped} == {"dark/b.png", "dark/letter.txt"}
    assert {row["item"] for row in summary_of(results)["skipped"]} == {"dark/b.png", "dark/letter.txt"}
    with pytest.raises(UsageError, match="no such folder"):
        perceive(str(tmp_path / "own.py"), "identity", data=tmp_path / "own.py", families=FAKES)


def test_values_come_one_by_one() -> None:
    given: list[weakref.ref[Sample]] = []
    alive: list[int] = []

    class Many(Shades):
        def samples(self, data: Path | None) -> Iterator[Sample]:
            for sample in super().samples(data):
                again = Sample(sample.name, sample.value, sample.digest, sample.label)
                given.append(weakref.ref(again))
                alive.append(sum(reference() is not None for reference in given))
                yield again

    perceive(Many(), "identity", families=FAKES, metrics=["psnr-rgb"])
    assert len(alive) == 160 and max(alive) < 5, "all samples are in memory at once"


# ---- what is made of them


def test_summary_report_and_text(tmp_path: Path) -> None:
    results = run("identity,harm,other,rubbish", out=tmp_path)
    summary = write_results(results, tmp_path, command="codec perceive", rates=[100.0, 500.0], anchor="harm")
    tables = {table["name"]: table for table in summary["tables"]}
    assert set(tables) == {"equal", "differences", "kept", "bd-score", "correlation"}
    harm, other = (next(row for row in tables["equal"]["rows"] if row[0] == name) for name in ("harm", "other"))
    assert harm[1:] == other[1:], "the same codec under two names"
    difference = next(row for row in tables["differences"]["rows"] if row[0] == "other")
    assert difference[1] == "0.000 [0.000, 0.000]", "pairs are drawn apart"
    bd = next(row for row in tables["bd-score"]["rows"] if row[0] == "other")
    assert bd[1].removeprefix("-").startswith("0.0 ")
    kept = {row[0]: row[1:] for row in tables["kept"]["rows"]}
    assert kept["rubbish"][:2] == ["not reached", "not reached"] and kept["identity"][0].startswith("at most")
    assert kept["identity"][2].startswith("100.0 % at ")
    assert summary["original"]["accuracy"] == 1.0 and summary["model"] == "mean"
    page = (tmp_path / "report.html").read_text()
    assert "asked of mean" in page and "Rate that keeps the score" in page and "at most" in page
    text = summary_text(summary)
    assert "accuracy at equal rate" in text.lower() and "not here: no-such-hub/model" in text
    assert (tmp_path / "rd-accuracy.svg").is_file()


def test_a_score_that_the_data_does_not_define_is_passed_over() -> None:
    class Unlabelled(Shades):
        def samples(self, data: Path | None) -> Iterator[Sample]:
            for sample in super().samples(data):
                yield Sample(sample.name, sample.value, sample.digest)

    results = perceive(Unlabelled(), "identity", families=FAKES, metrics=["psnr-rgb"])
    assert Analysis(results).score.name == "agreement"
    assert "accuracy" not in summary_of(results)["metrics"]


def test_an_anchor_that_isn_t_in_the_run() -> None:
    with pytest.raises(UsageError, match="no anchor 'jpeg'"):
        summary_of(run("identity"), anchor="jpeg")


# ---- tasks


@pytest.mark.parametrize("name", TASKS)
def test_every_task_says_what_it_is(name: str) -> None:
    task = find_task(name)
    assert task.name == name and task.about and task.models and task.scores
    with pytest.raises(UsageError, match="no-such-model"):
        task.load("no-such-model")


OWN = """
from codec.eval.perception import Task, labelled_pictures

class Bright(Task):
    name, medium, models = "bright", "image", ("mean",)

    def samples(self, data):
        return labelled_pictures(data)

    def load(self, model):
        return lambda pixels: "light" if pixels.mean() > 127 else "dark"
"""


def test_a_file_of_a_user_with_a_folder_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "bright.py").write_text(OWN)
    for label, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (16, 16), (shade + index,) * 3).save(tmp_path / "data" / label / f"{index}.png")
    results = perceive(
        str(tmp_path / "bright.py"), "identity", data=tmp_path / "data", families=FAKES, metrics=["psnr-rgb"]
    )
    assert Analysis(results).original[0] == 1.0 and len(results.samples) == 4
    assert {row.spec for row in results.rows} == {ORIGINAL, "identity"}


@pytest.mark.parametrize(
    ("text", "words"),
    [("x = 1", "0 classes"), ("def (", "can't be run"), (OWN.replace("def load", "def lode"), "lacks load")],
)
def test_files_that_hold_no_task(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError, match=words):
        find_task(str(tmp_path / "mine.py"))


def test_names_that_nobody_knows() -> None:
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        find_task("digit")
    with pytest.raises(UsageError, match="no such file"):
        find_task("nowhere.py")


def test_sound_beyond_full_scale_is_refused() -> None:
    loud = harness_module.Audio(np.full((1, 4), 32767.0, np.float32), 8000)
    with pytest.raises(Exception, match="full scale"):
        harness_module.check_range(loud)
    harness_module.check_range(harness_module.Audio(np.full((1, 4), 1.01, np.float32), 8000))


def test_numbers_without_samples_are_words() -> None:
    assert math.isnan(float(harness_module._plain({"a": math.nan})["a"]))
    assert json.loads(json.dumps(harness_module._plain({"a": math.inf}))) == {"a": "inf"}
