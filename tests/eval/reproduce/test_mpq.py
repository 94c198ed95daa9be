"""The findings of "Machine Perceptual Quality": verdicts, the report, what it is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.errors import UsageError
from codec.eval.peers import families
from codec.eval.perception import Sample, Task, digest_of, names
from codec.eval.perception.stats import Interval
from codec.eval.reproduce import mpq


class Stripes(Task):
    """Stripes of two directions; the model says which."""

    name, medium, models = "stripes", "image", ("differences",)

    def samples(self, data: Path | None) -> Iterator[Sample]:
        draw = np.random.default_rng(0)
        for index in range(12):
            pixels = draw.integers(0, 120, (64, 64, 3), np.uint8)
            pixels[:: 2 + index % 3] += 60
            pixels = np.ascontiguousarray(pixels.swapaxes(0, 1)) if index % 2 else pixels
            yield Sample(f"s{index}", pixels, digest_of(pixels), index % 2)

    def load(self, model: str) -> Any:
        return lambda pixels: int(
            np.abs(np.diff(pixels.mean((0, 2)))).sum() > np.abs(np.diff(pixels.mean((1, 2)))).sum()
        )


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, "confirmed"), (-0.2, -0.1, "not confirmed"), (-0.1, 0.1, "undecided"), (0.0, 0.1, "undecided")],
)
def test_verdicts_are_what_the_interval_says(low: float, high: float, verdict: str) -> None:
    assert mpq._verdict(Interval(0.1, low, high)) == verdict


def test_no_interval_no_verdict() -> None:
    assert mpq._verdict(Interval(0.1, math.nan, math.nan)).startswith("undecided")


def test_every_task_and_codec_of_the_recipe_is_known() -> None:
    known = families()
    for name, (codecs, anchor, _) in mpq.TASKS.items():
        assert name in names() and anchor in codecs
        assert all(part.split(":")[0] in known for part in codecs.split(","))


def test_the_rate_of_hific_is_eight_times_what_was_printed() -> None:
    [row] = [row for row in mpq.PAPER if "bpp_printed" in row]
    assert row["bpp"] == pytest.approx(8 * row["bpp_printed"], rel=0.01)


def test_a_report_of_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codecs = "jpeg:444:q=5+20+60+90,webp:q=1+30+60+90"
    monkeypatch.setattr(mpq, "TASKS", {"stripes": (codecs, "jpeg", None)})
    monkeypatch.setattr(mpq, "find_task", lambda name: Stripes())
    monkeypatch.setattr(mpq, "GENERATIVE", "webp:420")
    monkeypatch.setattr(mpq, "BASELINE", "jpeg:444")
    monkeypatch.setattr(mpq, "RATES", (6.0, 1000.0))
    report = mpq.run(out=tmp_path, tasks=["stripes"], samples=10, learning=None)
    part = report["tasks"]["stripes"]
    assert part["samples"] == 10 and part["score"] == "accuracy" and part["original"][0] == 1.0
    assert [row["bpp"] for row in part["generative"]] == [6.0], "beyond what was measured there is no difference"
    assert set(part["similarity"]["spearman"]) == {"psnr-rgb", "ms-ssim-rgb", "lpips-alex"}
    assert json.loads((tmp_path / "mpq.json").read_text())["tasks"].keys() == {"stripes"}
    assert (tmp_path / "stripes" / "report.html").is_file()
    lines = mpq.text(report)
    assert "keeps 99 %" in lines and "finding 3" not in lines, "nothing was trained"


def test_data_is_each_task_s_own() -> None:
    with pytest.raises(UsageError, match="CODEC_DATA"):
        mpq.run("photos")
