"""The tables of the README and of docs/results.md have the numbers of the results, and say what a summary says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from codec.eval.report import readme

ROOT = Path(__file__).parents[3]


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


def test_the_short_table_is_in_words() -> None:
    """It has known codecs only: WaLLoC's curve, which has one point and no BD-rate, isn't in it."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in readme.short_table(SUMMARY).splitlines()]
    assert lines[2:] == [
        ["WebP", "38 % fewer", "32.0 dB", "equal", "equal"],
        ["JPEG", "equal", "30.0 dB", "3 times faster", "3 times faster"],
    ]
    slow = {**SUMMARY, "curves": [*SUMMARY["curves"][:2], curve("s2lic", [(0.2, 30.0), (1.0, 36.0)], 8.4, ours=True)]}
    rows = readme.short_table(slow).splitlines()
    assert rows[-1].startswith("| **S2LIC** | - |") and rows[-1].endswith("| 140 times slower | 140 times slower |")


@pytest.mark.parametrize(
    ("page", "mark", "make"),
    [
        ("README.md", "s2lic", readme.short_table),
        ("docs/results.md", "s2lic", readme.table),
        ("docs/results.md", "kodak", readme.table),
    ],
)
def test_the_pages_show_the_results_there_are(page: str, mark: str, make: Callable[[Mapping[str, Any]], str]) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    summary = json.loads((ROOT / "eval" / "results" / mark / "summary.json").read_text(encoding="utf-8"))
    assert readme.between(text, make(summary), mark) == text
    assert readme.between(text, "", mark) != text


def test_the_command_writes_the_table_into_a_page(tmp_path: Path) -> None:
    summary, page = tmp_path / "summary.json", tmp_path / "page.md"
    summary.write_text(json.dumps(SUMMARY), encoding="utf-8")
    for option, make in (([], readme.table), (["--short"], readme.short_table)):
        page.write_text("before\n<!-- photos -->\n<!-- /photos -->\n", encoding="utf-8")
        readme.main([str(summary), str(page), "--mark", "photos", *option])
        text = page.read_text(encoding="utf-8")
        assert text == f"before\n<!-- photos -->\n{make(SUMMARY)}\n<!-- /photos -->\n"


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
