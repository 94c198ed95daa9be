"""The table of machine perception: what is kept of a run, and what the page says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codec.errors import UsageError
from codec.eval.studies.perception import main, markdown

REPORT: dict[str, Any] = {
    "tasks": {
        "digits": {
            "samples": 16,
            "model": "mnist-cnn",
            "score": "accuracy",
            "original": [0.985, 0.98, 0.99],
            "kept": [{"codec": "jpeg:444", "99": "0.400 [0.300, 0.500]", "95": "at most 0.300 [0.290, 0.310]"}],
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
    assert "| `jpeg:444` | 0.400 [0.300, 0.500] | at most 0.300 [0.290, 0.310] |" in lines
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
