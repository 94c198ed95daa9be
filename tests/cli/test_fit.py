"""`codec fit`: options by family, and what arrives at a fit of Gaussians. The circuit has tests beside its codec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codec.errors import MediaError

from .helpers import run

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("toy")
REPORT = {"n_frames": 4, "n_joints": 100, "n_skins": 1000, "fps": 25.0, "settings": {"seed": 1}}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `fit_capture` is called with; it fits nothing."""
    seen: list[Any] = []

    def fit_capture(*args: object, say: Any, watcher: Any, **options: object) -> dict[str, Any]:
        seen.append((args, options))
        if say:
            say("frame 0: fine")
        return dict(REPORT)

    monkeypatch.setattr("codec.train.dualgs.run.fit_capture", fit_capture)
    return seen


def test_arguments_arrive(calls: list[Any], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "dualgs", "capture", "-o", "fit") == 0
    err = capfd.readouterr().err
    assert "frame 0: fine" in err and "4 frames, 100 joints, 1000 skins; codec encode fit" in err
    words = ("--recipe", "mine.yaml", "--frames", "3", "--resume", "--device", "cuda", "--json", "--quiet")
    assert run("fit", "dualgs", "capture", "-o", "fit", *words) == 0
    out = capfd.readouterr()
    report = json.loads(out.out)
    assert report["output"] == "fit" and report["n_skins"] == 1000 and "settings" not in report and not out.err
    assert calls == [
        (("capture", "fit", "small"), {"device": "auto", "frames": None, "resume": False}),
        (("capture", "fit", "mine.yaml"), {"device": "cuda", "frames": 3, "resume": True}),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("dualgs", "--states", "3"),
        ("dualgs", "--mix"),
        ("dualgs", "--force"),
        ("circuit", "--recipe", "small"),
        ("circuit", "--frames", "3"),
    ],
)
def test_options_of_the_other_family(words: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("fit", words[0], tmp_path, "-o", tmp_path / "x", *words[1:]) == 2
    assert f"{words[1]} is an option of `codec fit" in capfd.readouterr().err
    assert not (tmp_path / "x").exists()


def test_families(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "walloc", tmp_path, "-o", tmp_path / "x") == 2
    assert "circuit" in capfd.readouterr().err


def test_errors_are_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def lost(*args: object, **options: object) -> None:
        raise MediaError("frame 3: the picture is lost")

    monkeypatch.setattr("codec.train.dualgs.run.fit_capture", lost)
    assert run("fit", "dualgs", tmp_path, "-o", tmp_path / "x") == 1
    assert capfd.readouterr().err.splitlines() == ["codec fit: frame 3: the picture is lost"]


def test_no_capture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "dualgs", tmp_path / "none", "-o", tmp_path / "x") == 1
    assert "no such folder" in capfd.readouterr().err
    assert run("fit", "dualgs", tmp_path, "-o", tmp_path / "x", "--recipe", "huge") == 2
    assert "no recipe 'huge'" in capfd.readouterr().err
    assert not (tmp_path / "x").exists()
