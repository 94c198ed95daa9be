"""The memory of one codec on one picture, in processes of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.errors import CodecError, UsageError
from codec.eval.studies import memory

DATA = Path(__file__).parents[2] / "samples"


def test_a_report(tmp_path: Path) -> None:
    memory.main([str(DATA), "png", "--size", "640x300", "--out", str(tmp_path / "memory.json")])
    report = json.loads((tmp_path / "memory.json").read_text())
    (row,) = report["results"]
    assert row["codec"] == "png" and row["bytes"] > 1000 and "--size 640x300" in report["command"]
    for side in ("encode", "decode"):
        assert row[side]["mebibytes"] is None or 0 < row[side]["mebibytes"] < 1000
        assert row[side]["seconds"] > 0


def test_one_setting_is_measured() -> None:
    pixels = np.asarray(Image.open(DATA / "dog.png").convert("RGB"))[:64, :64]
    sizes = [len(memory.peer_of(codec, 1).encode(pixels)) for codec in ("jpeg:q=20", "jpeg", "jpeg:q=75")]
    assert sizes[0] < sizes[1] == sizes[2]  # 75 is the default
    for codec in ("jpeg:q=20+30", "jpeg:444+420:q=20", "jpeg:q=20,png"):
        with pytest.raises(UsageError, match="expected one codec with one setting"):
            memory.peer_of(codec, 1)


def test_what_a_codec_cannot_do_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.ppm")
    with pytest.raises(CodecError, match=r"jpg can't encode this picture: .*did you mean 'jpeg'"):
        memory.measure("jpg", tmp_path / "a.ppm", tmp_path)
