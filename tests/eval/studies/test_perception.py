"""The table of machine perception: what is kept of a run, and what the page says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codec.errors import UsageError
from codec.eval.studies.perception import learning_markdown, main, markdown

REPORT: dict[str, Any] = {
    "tasks": {
        "digits": {
            "samples": 16,
            "answers": 1024,
            "model": "mnist-cnn",
            "score": "accuracy",
            "original": [0.985, 0.98, 0.99],
            "kept": [
                {
                    "codec": "jpeg:444",
                    "99": "0.400 [0.300, 0.500]",
                    "95": "at most 0.300 [0.290, 0.310]",
                    "largest": "99.7 % at 1.2",
                }
            ],
            "generative": [{"bpp": 0.04, "difference": [-0.1, -0.2, -0.05], "verdict": "not confirmed"}],
            "similarity": {"spearman": {}, "deep_less_psnr": [0.1, 0.05, 0.2], "verdict": "confirmed"},
        }
    }
}
SUMMARY: dict[str, Any] = {
    "data": {"name": "digits", "medium": "image", "items": ["a", "b"]},
    "rate": {"key": "bpp", "unit": "bits per pixel"},
    "metrics": {"accuracy": {"unit": "asked of mnist-cnn", "better": "higher", "about": "share of true answers"}},
    "curves": [
        {
            "codec": "jpeg:444",
            "ours": False,
            "points": [
                {"bpp": rate, "accuracy": score, "setting": q, "spec": f"jpeg:q={q}", "items": 2, "complete": True}
                for q, rate, score in ((5, 0.3, 0.9), (50, 0.9, 0.98))
            ],
        }
    ],
}


def test_the_table_says_rates_and_verdicts() -> None:
    lines = markdown(REPORT, {"digits": SUMMARY}).splitlines()
    assert "| `jpeg:444` | 0.400 [0.300, 0.500] | at most 0.300 [0.290, 0.310] | 99.7 % at 1.2 |" in lines
    assert lines[0].startswith("**digits**: 16 samples (1024 answers), asked of mnist-cnn.")
    assert any("0.04 bpp | digits | -0.100 [-0.200, -0.050] | not confirmed" in line for line in lines)
    assert any("LPIPS" in line and "| confirmed |" in line for line in lines)


def test_what_is_kept_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "runs" / "mpq.json").write_text(json.dumps(REPORT))
    (tmp_path / "runs" / "digits" / "summary.json").write_text(json.dumps(SUMMARY))
    page = tmp_path / "results.md"
    page.write_text("before\n<!-- perception -->\nold\n<!-- /perception -->\nafter\n")
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "kept"), "--page", str(page)]) == 0
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["digits.json", "digits.svg", "mpq.json"]
    assert json.loads((tmp_path / "kept" / "digits.json").read_text())["data"]["items"] == 2
    assert "old" not in page.read_text() and "not confirmed" in page.read_text() and "after" in page.read_text()
    with pytest.raises(UsageError, match="codec reproduce mpq"):
        main([str(tmp_path / "kept2"), "--out", str(tmp_path / "x")])


LEARNED: dict[str, Any] = {
    "learning": {
        "data": "digits over photographs",
        "rows": [
            {
                "input": "walloc's latents",
                "shape": [12, 16, 16],
                "numbers": 3072,
                "accuracy": [0.5, 0.4, 0.6],
                "training_seconds": 61.7,
                "parameters": 64000,
            }
        ],
        "latents_less_pixels": [-0.1, -0.2, -0.05],
        "verdict": "not confirmed",
        "walloc": {"bpp": 0.634},
    },
    "third_finding": {
        "data": "digits, one seed",
        "accuracy": {
            f"{a} -> {b}": [0.25, 0.2, 0.3] for a in ("original", "webp:q=1") for b in ("original", "webp:q=1")
        },
        "rows": [
            {
                "codec": "webp:q=1",
                "bpp": 0.231,
                "lossy_training_gains_by_compression": [0.02, 0.01, 0.03],
                "verdict": "confirmed",
                "training_on_it_helps": [0.0, -0.1, 0.1],
                "verdict_of_that": "undecided",
            }
        ],
    },
}


def test_the_tables_of_learning() -> None:
    lines = learning_markdown(LEARNED).splitlines()
    assert "| walloc's latents, 12 x 16 x 16 | 3072 | 0.500 [0.400, 0.600] | 62 | 64000 |" in lines
    assert "Latents less smaller pictures: -0.100 [-0.200, -0.050], not confirmed." in lines
    assert any("0.63 bits per pixel" in line for line in lines)
    assert not any("trained on" in line for line in learning_markdown({"learning": LEARNED["learning"]}).splitlines())
    row = "| `webp:q=1`, 0.23 bpp | 0.020 [0.010, 0.030] | confirmed | 0.000 [-0.100, 0.100] | undecided |"
    assert row in lines
    assert "| webp:q=1 | 0.250 | 0.250 |" in lines


def test_both_tables_have_their_marks(tmp_path: Path) -> None:
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "runs" / "mpq.json").write_text(json.dumps({**REPORT, **LEARNED}))
    (tmp_path / "runs" / "digits" / "summary.json").write_text(json.dumps(SUMMARY))
    page = tmp_path / "results.md"
    marks = [f"<!-- {name} -->\n<!-- /{name} -->\n" for name in ("perception", "perception-learning")]
    page.write_text("before\n" + "between\n".join(marks) + "after\n")
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "kept"), "--page", str(page)]) == 0
    first, second = page.read_text().split("between")
    assert "mnist-cnn" in first
    assert "walloc's latents" in second
