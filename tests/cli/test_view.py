"""`codec view`: what it says and refuses. The page itself is tested in tests/viewer."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.cli.command import Ended
from codec.errors import CodecError, UsageError
from codec.media.gaussians.writer import write
from codec.viewer import Viewer, bundle, server, sources

from ..viewer.scenes import Source, empty_bundle, moving
from .helpers import run


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """What every path is, with a renderer that is there; `serve` ends at once, as with Ctrl-C."""
    source, folder = moving(3), empty_bundle(tmp_path / "bundle")
    (tmp_path / "clip").write_bytes(b"12345")
    monkeypatch.setattr(sources, "opened", lambda path: contextlib.nullcontext(source))
    monkeypatch.setattr(bundle, "find", lambda: folder)
    monkeypatch.setattr(server, "find", lambda: folder)

    def interrupted(viewer: Viewer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Viewer, "serve", interrupted)
    return source


def test_the_address(source: Source, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("view", tmp_path / "clip") == 0, "Ctrl-C is how it ends"
    out, err = capfd.readouterr()
    assert out.startswith("http://127.0.0.1:") and out.count("\n") == 1
    assert err == "Ctrl-C ends it\n"


def test_as_json(source: Source, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("view", tmp_path / "clip", "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert report["input"] == str(tmp_path / "clip") and report["address"].startswith("http://127.0.0.1:")


def test_the_browser_is_only_opened_when_asked(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert run("view", tmp_path / "clip") == run("view", tmp_path / "clip", "--open", "--quiet") == 0
    out, err = capfd.readouterr()
    assert opened == [out.splitlines()[1]] and err.count("Ctrl-C") == 1


def test_another_signal_is_no_end(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(viewer: Viewer) -> None:
        raise Ended(signal.SIGTERM)

    monkeypatch.setattr(Viewer, "serve", ended)
    assert run("view", tmp_path / "clip") == 128 + signal.SIGTERM


def test_bytes_of_a_folder(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scenes: list[dict[str, object]] = []
    monkeypatch.setattr(Viewer, "serve", lambda viewer: scenes.append(json.loads(viewer.files["scene.json"].body)))
    folder = tmp_path / "frames" / "skins"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.ply").write_bytes(b"x" * 10)
    assert run("view", tmp_path / "frames", "--background", "black", "--up", "z") == 0
    assert [scenes[0][key] for key in ("name", "bytes", "background", "up")] == ["frames", 30, "black", "z"]


def test_no_input(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("view") == 2
    assert "name a file to play, or --setup" in capfd.readouterr().err


def test_without_the_renderer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundle, "PACKAGE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run("view", tmp_path / "clip") == 2
    assert capfd.readouterr().err == (
        "codec view: the viewer needs Spark and three.js, which are not here yet: codec view --setup\n"
    )


def test_setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bundle, "fetch", lambda: tmp_path)
    assert run("view", "--setup") == 0
    assert capfd.readouterr().err == f"{tmp_path}: Spark and three.js are here\n"

    def fails() -> Path:
        raise UsageError("npm is missing")

    monkeypatch.setattr(bundle, "fetch", fails)
    assert run("view", "--setup") == 2


class TestSources:
    def test_a_file_of_gaussians(self, tmp_path: Path) -> None:
        gaussians = moving(1).gaussians[0]
        (tmp_path / "a.ply").write_bytes(write(gaussians, ".ply"))
        with sources.opened(tmp_path / "a.ply") as source:
            assert (source.n_frames, source.count) == (1, len(gaussians))
            assert (source.frame(0).positions == gaussians.positions).all()

    def test_a_folder_of_them(self, tmp_path: Path) -> None:
        for number, gaussians in enumerate(moving(3).gaussians):
            (tmp_path / f"{number}.ply").write_bytes(write(gaussians, ".ply"))
        with sources.opened(tmp_path) as source:
            assert source.n_frames == 3
            assert not (source.frame(0).positions == source.frame(2).positions).all()

    def test_a_file_of_ours(self, tmp_path: Path) -> None:
        (tmp_path / "a.ply").write_bytes(write(moving(1).gaussians[0], ".ply"))
        assert run("encode", tmp_path / "a.ply", "-o", tmp_path / "ours", "--quiet") == 0
        with sources.opened(tmp_path / "ours") as source:
            assert source.n_frames == 1 and len(source.frame(0)) == source.count == 80

    def test_a_file_of_another_medium(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
        assert run("encode", tmp_path / "a.png", "-c", "mix", "--quiet") == 0
        with (
            pytest.raises(UsageError, match="made by mix, which has no Gaussians to show"),
            sources.opened(tmp_path / "a.mix"),
        ):
            pass

    @pytest.mark.parametrize("name", ["a.png", "none.ply", "empty"])
    def test_what_is_no_file_of_gaussians(self, tmp_path: Path, name: str) -> None:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
        (tmp_path / "empty").mkdir()
        with pytest.raises(CodecError, match=name), sources.opened(tmp_path / name):
            pass

    def test_stdin(self) -> None:
        with pytest.raises(UsageError, match="name a file"), sources.opened("-"):
            pass


SERVED = """
import contextlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from scenes import empty_bundle, moving
from codec import cli
from codec.viewer import bundle, server, sources
folder = empty_bundle(Path(sys.argv[2]))
bundle.find = server.find = lambda: folder
sources.opened = lambda path: contextlib.nullcontext(moving(2))
sys.exit(cli.main(["view", sys.argv[1]]))
"""


def test_until_ctrl_c(tmp_path: Path) -> None:
    """The command in a process of its own: it answers, Ctrl-C ends it with 0, and its port is free again."""
    here = Path(__file__).parents[1] / "viewer"
    command = [sys.executable, "-P", "-c", SERVED, str(here), str(tmp_path / "bundle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{address}scene.json", timeout=20) as answer:
                assert json.load(answer)["frames"] == 2
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0 and time.monotonic() - started < 5
            assert process.stderr.read() == "Ctrl-C ends it\n"
        finally:
            process.kill()
