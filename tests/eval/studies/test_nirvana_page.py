"""The tables of video in docs/results.md say what the rows say."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.eval.studies.nirvana import page as table

ROOT = Path(__file__).resolve().parents[3]
RESULTS = [ROOT / "eval" / "results" / name / "rows.csv" for name in ("nirvana", "nirvana_720p")]


def row(codec: str, rate: float, psnr: float, seconds: float, item: str = "carphone-176x144.mkv") -> dict[str, str]:
    shape = "10x144x176x3"
    values = {"codec": codec, "item": item, "shape": shape, "rate": rate, "psnr-y": psnr}
    return {name: str(one) for name, one in {**values, "encode_cpu": seconds, "decode_cpu": seconds / 100}.items()}


def test_rates_and_seconds() -> None:
    rows = [row("x265:420", 0.1 * 2**k, 30 + 3 * k, 1) for k in range(4)]
    rows += [row("nirvana", 0.15 * 2**k, 30 + 3 * k, 5 + k) for k in range(4)]
    found = table.rate_table(rows).splitlines()
    assert found[0].startswith("| clip | x264 medium | x264 veryslow | x265 medium |")
    assert found[2] == "| carphone, 10 frames of 176x144, held out | - | - | +50 % | - | - | - |"
    speed = table.speed_table(rows)
    assert "| **nirvana** | 0.5 to 0.8; 125 to 200 |" in speed and "| x265 medium | 0.1; 1000 |" in speed


def test_the_smallest_loss_comes_first() -> None:
    rows = []
    for item, more in (("a-1x1.mkv", 2.0), ("b-1x1.mkv", 1.1)):
        rows += [row("x265:420", 0.1 * 2**k, 30 + 3 * k, 1, item) for k in range(4)]
        rows += [row("nirvana", more * 0.1 * 2**k, 30 + 3 * k, 1, item) for k in range(4)]
    assert [line.split(",")[0] for line in table.rate_table(rows).splitlines()[2:]] == ["| b", "| a"]


@pytest.mark.skipif(not (ROOT / "docs").is_dir() or not RESULTS[0].exists(), reason="only in a checkout")
def test_the_page_has_the_rows() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert table.tables(table.read([one for one in RESULTS if one.exists()])) in page
