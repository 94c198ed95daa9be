"""The benchmark runs, checks what it decodes, and its files hold its numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from codec.eval.studies import entropy_coders


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_numbers_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    pytest.importorskip("compressai")
    out = tmp_path / f"bench{suffix}"
    assert entropy_coders.main(["--symbols", "20000", "--rounds", "1", "--fast", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open())) if suffix == ".csv" else json.loads(out.read_text())["results"]
    assert [row["coder"] for row in rows] == 2 * [
        "constriction (default)",
        "compressai rANS",
        "compressai rANS, bare",
    ]
    for row in rows:
        assert float(row["encode_msym_s"]) > 0
        assert -0.1 < float(row["overhead_percent"]) < 0.3
    assert float(rows[1]["encode_vs_compressai"]) == 1
    assert "--symbols 20000" in out.read_text()
    assert "compressai rANS" in capsys.readouterr().out


def test_a_wrong_symbol_is_noticed() -> None:
    contender = entropy_coders.Contender("liar", lambda: b"", lambda data: [1], lambda decoded: decoded == [2], [])
    with pytest.raises(SystemExit, match="liar"):
        contender.turn()
