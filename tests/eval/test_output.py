"""Files of results: whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from codec.errors import CodecError
from codec.eval.output import write_file, write_json


def test_text_and_bytes_take_the_place_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_file(path, "dB: ±1\n")
    assert path.read_bytes() == "dB: ±1\n".encode()
    write_file(path, b"\r\n")
    assert path.read_bytes() == b"\r\n" and [file.name for file in tmp_path.iterdir()] == ["x"]


def test_the_old_file_stays_if_the_new_one_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def refuse(source: Path, target: Path) -> None:
        assert json.loads(source.read_text()) == {"psnr": "inf"} and target == path
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CodecError, match=r"x\.json: can't be written \(No space left on device\)"):
        write_json(path, {"psnr": float("inf")})
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["x.json"]
