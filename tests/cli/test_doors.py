"""The doors of the command: whatever goes wrong ends as one line and an exit code, never as a traceback."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from codec import files
from codec.cli import command, terminal, verbs

from .helpers import picture, run, script

pytestmark = pytest.mark.usefixtures("toy")


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


class TestOneLine:
    @pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), ValueError("two\nlines"), KeyError("x")])
    def test_a_mistake_of_ours_in_any_verb(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def fail(_: Any) -> int:
            raise error

        for verb in verbs.VERBS:
            monkeypatch.setattr(verbs.load(verb), "run", fail)
        for words in (["list"], ["fit", "circuit", "x", "-o", "y"], ["reproduce"], ["bench"], ["info", "x"]):
            assert run(*words) == 1
            (line,) = lines(capfd)
            assert line.startswith(f"codec {words[0]}: a mistake of ours, please report it (--debug shows")
            with pytest.raises(type(error)):
                run(*words, "--debug")

    def test_of_options(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        """Parsing reads cards of plug-ins, which may do anything."""

        def fail() -> None:
            raise RuntimeError("a plug-in's")

        monkeypatch.setattr(command, "build_parser", fail)
        assert run("encode", "x") == 1
        assert len(lines(capfd)) == 1

    @pytest.mark.parametrize(
        "words",
        [
            ("--states", "0"),
            ("--batch", "0"),
            ("--seed", "-4"),
            ("--seed", "x"),
            ("--pseudocount", "nan"),
            ("--pseudocount=-1",),
            ("--held-out", "1"),
            ("--held-out=-1",),
            ("--components", "0"),
        ],
    )
    def test_ranges_of_fit(self, words: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("fit", "circuit", tmp_path, "-o", tmp_path / "w", *words) == 2
        err = lines(capfd)
        assert len(err) == 2 and "invalid" in err[0] and "expected" in err[0]
        assert not (tmp_path / "w").exists()

    @pytest.mark.parametrize(
        "words",
        [
            ("train", "x", "--recipe", "y", "--steps", "0"),
            ("bench", "x", "--repeat", "-1"),
            ("reproduce", "--repeat", "0"),
        ],
    )
    def test_ranges_of_others(self, words: tuple[str, ...]) -> None:
        assert run(*words) == 2

    def test_an_interrupted_fit_says_how_it_goes_on(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(_: Any) -> int:
            raise KeyboardInterrupt

        for verb, words in (("fit", ["circuit", "x", "-o", "y"]), ("train", ["x", "--recipe", "y"])):
            monkeypatch.setattr(verbs.load(verb), "run", interrupted)
            assert run(verb, *words) == 130
            assert "--resume" in lines(capfd)[0]

    def test_closed_stdin(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        assert run("info", "-") == 1
        assert "stdin is closed" in lines(capfd)[0]
        assert run("encode", "-", "-o", "x.toy") == 1
        assert "stdin is closed" in lines(capfd)[0]


class TestInputs:
    def test_the_name_is_said_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from codec.cli.jobs import Job, attempt
        from codec.errors import MediaError

        def fail(_: Job) -> dict[str, Any]:
            raise MediaError("in/x.mov: in/x.mov: damaged")

        assert attempt(fail, Job("in/x.mov"))["error"] == "damaged"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "empty: 0 bytes"),
            (b"\x89CDC\x01", "a file of codec already"),
            (b"\xff\x0a\0\0", "JPEG XL"),
            (b"\x93NUMPY\x01\0", "an array (NPY): name a codec"),
            (b"%PDF-1.4", "a PDF document, draw its pages: pdftoppm"),
            (b"\0\0\0\x18ftypisom", "an MP4 video, which toy doesn't take: leave -c out"),
            (b"<html>", "an HTML page, perhaps what a server said"),
        ],
    )
    def test_what_it_is(self, tmp_path: Path, content: bytes, words: str, capfd: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "a.png").write_bytes(content)
        assert run("encode", tmp_path / "a.png", "-c", "toy") == 1
        (line,) = lines(capfd)
        assert f"a.png: {words}" in line and line.count("a.png: ") == 1

    @pytest.mark.parametrize("verb", ["info", "verify", "decode"])
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "empty: 0 bytes"),
            (b"%PDF-1.4", "a PDF document, not a file of codec"),
            (b"\x89CDD\x01\x00", "not a file of codec, or its first bytes are damaged"),
        ],
    )
    def test_what_is_none_of_ours(
        self, tmp_path: Path, verb: str, content: bytes, words: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a.toy").write_bytes(content)
        assert run(verb, tmp_path / "a.toy", *(["-o", tmp_path / "x.png"] if verb == "decode" else [])) == 3
        (line,) = lines(capfd)
        assert f"a.toy: {words}" in line

    def test_empty_stdin(self) -> None:
        done = script("encode", "-", "-o", "x.toy", input=b"")
        assert done.returncode == 1
        assert b"empty: 0 bytes" in done.stderr

    def test_weights_that_are_something_else(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        photo = picture(tmp_path / "a.png")
        assert run("encode", photo, "--weights", photo) == 4
        assert "a PNG picture; expected a safetensors file" in lines(capfd)[0]

    def test_other_weights(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """No Python in what the command says."""
        (tmp_path / "weights").write_bytes(bytes(range(16)))
        assert run("encode", picture(tmp_path / "a.png"), "--quiet") == 0
        assert run("verify", tmp_path / "a.toy", "--weights", tmp_path / "weights") == 4
        (line,) = lines(capfd)
        assert "codec.decode" not in line and "--weights" in line

    def test_each_input_has_its_own_codec(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """A file of which nobody knows by what to code it costs itself only."""
        (tmp_path / "b.npy").write_bytes(b"\x93NUMPY\x01\0")
        assert run("encode", picture(tmp_path / "a.png"), tmp_path / "b.npy") == 1
        assert (tmp_path / "a.toy").exists()
        assert "b.npy: of the medium array no codec is the default" in "".join(lines(capfd))


class TestThreads:
    def test_of_a_container(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        monkeypatch.setattr(command, "cpu_count", lambda: 1)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
        command._set_threads()
        assert command.os.environ["OMP_NUM_THREADS"] == "1"
        assert command.os.environ["OMP_WAIT_POLICY"] == "passive"
        monkeypatch.setenv("OMP_WAIT_POLICY", "active")
        command._set_threads()
        assert command.os.environ["OMP_WAIT_POLICY"] == "active", "whoever set it knows why"
        assert files.cpu_count() >= 1


class TestLines:
    """Signs of life where there is no terminal."""

    def test_how_far(self, monkeypatch: pytest.MonkeyPatch) -> None:
        progress = terminal._Lines("codec encode: clip.mp4")
        progress.end()
        assert progress.line(12) == "12 s so far"
        progress.update(0.34, 1, "tile 3/9")
        assert progress.line(100) == "34 %, tile 3/9, about 3 min left"
        progress.update(0.34, 1, "frame 3, 5 min left")
        assert progress.line(100) == "34 %, frame 3, 5 min left", "a codec's own estimate is the better one"
        progress.update(0.001, 1)
        assert progress.line(100) == "0 %", "too early to say"
        assert [terminal.duration(s) for s in (5, 80, 100, 7300)] == ["5 s", "80 s", "2 min", "2 h 02 min"]

    def test_of_work_that_says_nothing(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        import time

        monkeypatch.setattr(terminal, "_FIRST_SECONDS", 0.02)
        with terminal.progress("codec verify: a", total=1, counts=False):
            time.sleep(0.3)
        assert lines(capfd) == ["codec verify: a: 0 s so far"]

    def test_none_that_nobody_wants(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(terminal, "_FIRST_SECONDS", 0.0)
        done = script("encode", picture(tmp_path / "a.png"), "--quiet")
        assert (done.returncode, done.stderr) == (0, b"")

    def test_parts_of_one_picture(self) -> None:
        from codec.codecs.base.progress import Step, each, tell, told, within

        heard: list[Any] = []
        tell(0.5, "nobody listens")
        with told(heard.append):
            for _ in range(2):
                with within("encoding 2 of at most 8", 0.125, 0.25):
                    assert list(each("ab", "tile", 0.0, 0.5)) == ["a", "b"]
        assert heard[:3] == [
            Step(0.125, "encoding 2 of at most 8"),
            Step(0.125, "encoding 2 of at most 8, tile 1/2"),
            Step(0.15625, "encoding 2 of at most 8, tile 2/2"),
        ]


def test_json_on_a_terminal_says_nothing_twice(tmp_path: Path, toy: ModuleType) -> None:
    import os
    import pty
    import subprocess

    from .helpers import SCRIPT

    leader, follower = pty.openpty()
    words = ["encode", picture(tmp_path / "a.png"), tmp_path / "none.png", "-o", tmp_path / "out", "--json"]
    child = subprocess.Popen([sys.executable, SCRIPT, *words], stdout=follower, stderr=subprocess.PIPE)
    err = child.communicate(timeout=60)[1]
    out = os.read(leader, 4096)
    os.close(follower)
    os.close(leader)
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["done", "failed"]
    assert b"a.png ->" not in err and b"none.png: No such file" in err
