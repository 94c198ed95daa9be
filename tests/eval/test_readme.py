"""The README's numbers are those of the results, and the table says what the summary says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codec.eval import readme

ROOT = Path(__file__).parents[2]


def curve(name: str, points: list[tuple[float, float]], seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "codec": name,
        "ours": False,
        "lossless": False,
        "points": [
            {"bpp": r, "psnr-rgb": p, "complete": True, "encode_seconds": seconds, "decode_seconds": seconds / 2}
            for r, p in points
        ],
        **more,
    }


SUMMARY = {
    "curves": [
        curve("jpeg:444", [(0.2, 26.0), (2.0, 36.0)], 0.02),
        curve("webp:420", [(0.25, 30.0), (0.5, 32.0), (1.0, 34.5)], 0.06),
        curve("walloc:16x", [(0.54, 28.9)], 0.03, ours=True),
        curve("png", [(12.0, 99.0)], 0.1, lossless=True),
    ],
    "bd": [
        {"codec": "webp:420", "anchor": "jpeg:444", "metric": "psnr-rgb", "bd_rate": -38.25, "window": [30.0, 34.5]},
        {"codec": "webp:420", "anchor": "jpeg:444", "metric": "ms-ssim-rgb", "bd_rate": -1.0},
        {"codec": "webp:420", "anchor": "vtm-18.0", "metric": "psnr-rgb", "bd_rate": 90.0},
        {"codec": "walloc:16x", "anchor": "jpeg:444", "metric": "psnr-rgb", "bd_rate": None},
    ],
}


def test_a_line_for_each_lossy_codec() -> None:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in readme.table(SUMMARY).splitlines()]
    assert [line[0] for line in lines[2:]] == ["`webp:420`", "`jpeg:444`", "**`walloc:16x`**"]
    webp, jpeg, walloc = lines[2:]
    assert webp[1:6] == ["0.25 to 1.00 bpp, 30.0 to 34.5 dB", "-38 % (30 to 34 dB)", "30.0 dB", "32.0 dB", "34.5 dB"]
    # half way between 0.2 and 2 bpp on the logarithm of the rate lies 0.632; 0.5 is at 39.8 % of the way
    assert jpeg[2:6] == ["0", "27.0 dB", "30.0 dB", "33.0 dB"]
    assert walloc[1:6] == ["0.54 bpp, 28.9 dB", "-", "-", "-", "-"]
    assert [walloc[6], webp[6], jpeg[6]] == ["2 x", "1 x", "3 x"]


def test_only_what_stands_between_the_marks_changes() -> None:
    text = "before\n<!-- kodak -->\nold\n<!-- /kodak -->\nafter\n"
    assert readme.between(text, "new") == "before\n<!-- kodak -->\nnew\n<!-- /kodak -->\nafter\n"
    with pytest.raises(ValueError, match="no <!-- kodak -->"):
        readme.between("nothing here", "new")


@pytest.mark.parametrize("mark", ["kodak", "s2lic"])
def test_the_readme_shows_the_results_there_are(mark: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    summary = json.loads((ROOT / "eval" / "results" / mark / "summary.json").read_text(encoding="utf-8"))
    assert readme.between(text, readme.table(summary), mark) == text
    assert readme.between(text, "", mark) != text


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("kodak", {"walloc", "jpeg", "webp", "jpeg2000", "avif", "jxl"}),
        ("s2lic", {"s2lic", "jpeg", "webp", "avif", "jxl"}),
    ],
)
def test_results_are_of_whole_runs(run: str, expected: set[str]) -> None:
    summary = json.loads((ROOT / "eval" / "results" / run / "summary.json").read_text(encoding="utf-8"))
    assert summary["jobs"] == 1 and len(summary["data"]["items"]) == 24
    assert not summary["failed"]
    assert all(point["complete"] for one in summary["curves"] for point in one["points"])
    families = {one["codec"].split(":")[0] for one in summary["curves"]}
    assert expected <= families
