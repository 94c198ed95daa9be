"""The study of VQGAN's rates: rows that are gone on with, coders, what is compared with what, the page, crops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.codecs.vqgan.codec import VqganCodec
from codec.codecs.vqgan.indices import PREFIX
from codec.entropy.tables import Tables
from codec.errors import UsageError
from codec.eval.metrics import metric
from codec.eval.studies import vqgan_rates as study

from ...codecs.vqgan.nets import random_net, weights_file
from ..fakes import curve as fake_curve

METRICS = ("psnr-rgb", "ssim-rgb")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_file(random_net(), tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for name, noise in (("calm", 8), ("wild", 120)):
        pixels = np.clip(128 + rng.normal(0, noise, (48, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_whole(weights: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--pictures", str(pictures), "--weights", str(weights), "--out", str(tmp_path)]
    arguments += ["--others", "jpeg:420:q=1+60", "--metrics", *METRICS, "--crops"]
    assert study.main(arguments) == 0
    first = (tmp_path / "rates.md").read_text()
    assert "| `vqgan` | 64 words |" in first
    assert "| 64 | fixed |" in first
    assert "`jpeg:420`" in first
    about = json.loads((tmp_path / "rates.json").read_text())
    assert len(about["coders"]) == 3 and all(row["saved"] < 0 for row in about["coders"]), "containers count"
    assert list(about["pictures"]) == ["calm.png", "wild.png"]
    assert (tmp_path / "rd-psnr-rgb.svg").exists() and (tmp_path / "rd-ssim-rgb.svg").exists()
    crops = sorted(tmp_path.glob("crop-*.jpg"))
    assert [path.name for path in crops] == ["crop-best-1.jpg", "crop-worst-1.jpg"]
    assert sum(path.stat().st_size for path in crops) < 300_000
    capfd.readouterr()
    assert study.main(arguments) == 0
    words = capfd.readouterr()
    assert "rows are there already" in words.err and "index coders" not in words.err, "measured anew"
    assert words.out == first


def test_coders_share_a_map(weights: Path, pictures: Path, tmp_path: Path) -> None:
    codec = VqganCodec.from_weights(None, None, weights, "cpu")
    states = Tables.from_pmf([np.full(8, (1 - 2.0**-14) / 8)], [0]).to_state()
    vars(codec.model)["index"] = {f"{PREFIX}8.histogram.{key}": np.asarray(a) for key, a in states.items()}
    item = SimpleNamespace(name="a", digest="d", load=lambda: np.zeros((40, 50, 3), np.uint8))
    items: Any = [item]
    rows = study.coder_rows(codec, items, tmp_path / "coders.csv")
    assert {(row["words"], row["cells"], row["pixels"]) for row in rows} == {(k, 12, 2000) for k in (8, 16, 64)}
    assert {(row["words"], row["coder"]) for row in rows} == {(8, "histogram"), *((k, "fixed") for k in (8, 16, 64))}
    sizes = {row["words"]: row["bytes"] for row in rows if row["coder"] == "fixed"}
    assert [sizes[k] - sizes[8] for k in (16, 64)] == [6 - 5, 9 - 5]  # 12 indices of 3, 4, 6 bits
    means = study.coder_means([{"words": 8, "coder": "mix", "cells": 100, "pixels": 25600, "bytes": 30}])
    assert means[0]["saved"] == pytest.approx(20)
    assert means[0]["bpp"] == pytest.approx(240 / 25600)
    item.load = None
    assert study.coder_rows(codec, items, tmp_path / "coders.csv") == rows, "kept rows are enough"
    (tmp_path / "coders.csv").write_text("picture,words\na,many\n")
    with pytest.raises(UsageError, match="name another --out"):
        study.coder_rows(codec, items, tmp_path / "coders.csv")


def table(points: Mapping[str, list[tuple[float, float]]], name: str = "lpips-alex") -> Any:
    """A table that has these (rate, metric) means by label."""

    def of(curve: Any) -> list[Any]:
        return [
            SimpleNamespace(rate=rate, metrics={name: value}, complete=True, spec=f"{curve.label}{rate}")
            for rate, value in points[curve.label]
        ]

    curves = [SimpleNamespace(label=label) for label in points]
    return SimpleNamespace(curves=curves, points=of, metrics=[metric("image", name)])


def test_never_extrapolated() -> None:
    made = table({"a": [(0.01, 0.5), (0.04, 0.3)], "b": [(0.07, 0.2)], "c": [(0.2, 0.1), (0.3, 0.05)]})
    curves = dict(study.shown(made))
    assert [point.rate for point in curves["c"]] == [0.2], "the lowest of a curve above the limit"
    middle = study.interpolated(curves["a"], "lpips-alex", 0.02)
    assert middle is not None and middle.value == pytest.approx(0.4)  # half-way in the logarithm of the rate
    for label, bpp in (("a", 0.041), ("a", 0.009), ("b", 0.03), ("c", 0.03)):
        at = study.interpolated(curves[label], "lpips-alex", bpp)
        assert at is not None and at.value is None
        assert "not reached" in at.word


def test_verdicts() -> None:
    points = {
        "vqgan": [(0.02, 0.4), (0.05, 0.2)],
        "shrunk": [(0.02, 0.6), (0.05, 0.5)],
        "shrunk:scale=3": [(0.025, 0.45), (0.031, 0.42)],
        "avif:420:psnr": [(0.06, 0.55)],
        "jpeg:420": [(0.1, 0.1)],
        "tiny": [(0.001, 0.9), (0.002, 0.8)],
    }
    low, high = study.verdicts(table(points))
    assert (low["bpp"], high["bpp"]) == study.RATES
    by_name = {row["codec"]: row for row in low["others"]}
    assert set(by_name) == {"shrunk:scale=3", "avif:420:psnr", "jpeg:420", "tiny"}, "the best of the baseline alone"
    assert by_name["shrunk:scale=3"]["reached"] and by_name["shrunk:scale=3"]["ours_is_better"]
    assert by_name["avif:420:psnr"] == {
        "codec": "avif:420:psnr",
        "bpp": 0.06,
        "value": 0.55,
        "reached": False,
        "ours_is_better": True,
    }
    assert by_name["jpeg:420"]["ours_is_better"] is False
    assert by_name["tiny"]["ours_is_better"] is None, "a codec of lower rates isn't beaten by more bits"
    assert next(row["codec"] for row in high["others"]) == "shrunk", "scale 3 doesn't reach this rate"
    above = study.verdicts(table({"vqgan": points["vqgan"], "shrunk": [(0.05, 0.3)], "shrunk:scale=3": [(0.04, 0.4)]}))
    assert [(row["codec"], row["bpp"]) for row in above[0]["others"]] == [("shrunk:scale=3", 0.04)]
    below = study.verdicts(table({"vqgan": [(0.02, 0.4), (0.04, 0.2)], "shrunk": [(0.03, 0.3), (0.05, 0.25)]}))[1]
    assert (below["vqgan"], below["vqgan_bpp"]) == (0.2, 0.04), "fewer bits than it may have"
    assert below["others"][0]["ours_is_better"]
    above_both = study.verdicts(table({"vqgan": [(0.046, 0.1), (0.05, 0.1)], "shrunk": [(0.02, 0.3), (0.05, 0.2)]}))
    assert [row["vqgan"] for row in above_both] == [None, None], "more bits than it may have"
    higher = study.verdicts(table({"vqgan": [(0.02, 1), (0.05, 2)], "jxl": [(0.04, 1.0)]}, "psnr-rgb"))[0]
    assert higher["others"][0]["ours_is_better"], "more decibels are better"


def test_own_codecs_take_one_job(pictures: Path) -> None:
    from codec.eval.bench.run import rate_distortion

    own = {"mine": fake_curve("mine")}
    assert len(rate_distortion(pictures, "mine", repeat=1, metrics=["psnr-rgb"], families=own).rows) == 6
    with pytest.raises(UsageError, match="2 jobs"):
        rate_distortion(pictures, "mine", jobs=2, families=own)
