"""The tables of Entropic Student: what is kept of a run, and what its page says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codec.errors import UsageError
from codec.eval.studies.entropic_student import main, markdown

REPORT: dict[str, Any] = {
    "heads": {
        "classification": {
            "samples": 252,
            "model": "efficientnet-lite0",
            "score": "agreement",
            "at_kilobytes": {
                "1": {"entropic-student": [0.5, 0.4, 0.6], "jpeg:444": [None, None, None]},
                "4": {"entropic-student": [0.75, 0.7, 0.8], "jpeg:444": [0.625, None, None]},
            },
            "smallest_bytes": {"entropic-student": 312.4, "jpeg:444": 1723.0},
        }
    },
    "encoder": {
        "parameters": {"encoder": 27336, "teacher": 4652008},
        "milliseconds": {"entropic-student": 12.25, "jpeg:444:q=40": 0.5},
    },
}
SUMMARY: dict[str, Any] = {
    "data": {"name": "classification", "medium": "image", "items": ["a"]},
    "rate": {"key": "bpp", "unit": "bits per pixel"},
    "metrics": {"agreement": {"unit": "", "better": "higher", "about": "share"}},
    "curves": [
        {
            "codec": "jpeg:444",
            "ours": False,
            "points": [
                {"bpp": rate, "agreement": score, "setting": q, "spec": f"jpeg:q={q}", "items": 1, "complete": True}
                for q, rate, score in ((5, 0.3, 0.5), (50, 0.9, 0.75))
            ],
        }
    ],
}


def test_the_tables_have_a_dash_where_nothing_was_measured() -> None:
    lines = markdown(REPORT).splitlines()
    assert "| codec | 1 kB | 4 kB | its smallest file |" in lines
    assert "| `entropic-student` | 0.500 [0.400, 0.600] | 0.750 [0.700, 0.800] | 312 bytes |" in lines
    assert "| `jpeg:444` | – | 0.625 | 1723 bytes |" in lines
    assert "| encoder | 27 336 |  |" in lines
    assert "| jpeg:444:q=40 |  | 0.5 |" in lines


def test_what_is_kept_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "classification").mkdir(parents=True)
    (tmp_path / "runs" / "entropic-student.json").write_text(json.dumps(REPORT))
    (tmp_path / "runs" / "classification" / "summary.json").write_text(json.dumps(SUMMARY))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- entropic-student -->\nold\n<!-- /entropic-student -->\nafter\n")
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "kept"), "--page", str(page)]) == 0
    kept = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert kept == ["classification.svg", "entropic-student.json"]
    assert "old" not in page.read_text()
    assert "252 views" in page.read_text()


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="codec reproduce entropic-student"):
        main([str(tmp_path), "--out", str(tmp_path / "kept")])
