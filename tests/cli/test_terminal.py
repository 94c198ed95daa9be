"""What is shown: odd names, lines beside a bar, and bars on terminals only."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from codec.cli import terminal

from .helpers import on_a_terminal, picture, run, script

pytestmark = pytest.mark.usefixtures("toy")


class TestOddNames:
    def test_odd_file_names(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        name = os.fsdecode(b"caf\xe9 [bold] \xf0\x9f\x90\xb6.png")
        assert run("encode", picture(tmp_path / "x.png").rename(tmp_path / name)) == 0
        assert "[bold]" in capfd.readouterr().err

    @pytest.mark.parametrize("name", [b"caf\xe9 [bold].png", b"\x1b[31mred.png", b"two\nlines.png"])
    def test_odd_file_names_in_a_batch_on_a_terminal(self, tmp_path: Path, name: bytes) -> None:
        for index in range(2):
            picture(tmp_path / f"{index}.png", index)
        picture(tmp_path / "x.png", 3).rename(tmp_path / os.fsdecode(name))
        code, seen, _ = on_a_terminal("encode", tmp_path, "-o", tmp_path / "out")
        assert code == 0
        assert len(list((tmp_path / "out").iterdir())) == 3
        assert terminal.escaped(os.fsdecode(name)).encode() in seen
        assert b"Traceback" not in seen
        assert b"\x1b[31mred" not in seen

    @pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
    def test_info_of_odd_file_names(self, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONIOENCODING", encoding)
        for name in (b"a.toy", b"caf\xe9.toy", b"z.toy"):
            run("encode", picture(tmp_path / "x.png"), "-o", tmp_path / "in" / os.fsdecode(name), "--quiet")
        code, _, beside_a_bar = on_a_terminal("info", tmp_path / "in")
        done = script("info", tmp_path / "in")
        assert code == done.returncode == 0
        for out in (beside_a_bar, done.stdout):
            assert b"/in/caf\\udce9.toy" in out
            assert out.count(b"9 x 13 x 3") == 3

    def test_an_error_that_names_an_odd_file_on_a_terminal(self, tmp_path: Path) -> None:
        odd = os.fsdecode(b"caf\xe9")
        for place in (f"a/{odd}/0.png", "b/1.png"):
            picture(tmp_path / "in" / place)
        (tmp_path / "out" / "a").mkdir(parents=True)
        (tmp_path / "out" / "a" / odd).write_text("a file where a folder is needed")
        code, seen, _ = on_a_terminal("encode", tmp_path / "in", "-o", tmp_path / "out")
        assert code == 1
        assert b"/out/a/caf\\udce9" in seen.replace(b"\r\n", b"")
        assert b"1 of 2 inputs failed" in seen
        assert (tmp_path / "out" / "b" / "1.toy").is_file()

    def test_metadata_cannot_talk_to_the_terminal(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        from codec.container import Header, pack, unpack

        run("encode", picture(tmp_path / "photo.png"), "--quiet")
        header, chunks = unpack((tmp_path / "photo.toy").read_bytes())
        meta = {"title": "\x1b]0;owned\x07\x1b[2J", "a\nstatus      ok": "\u202ebidi\r"}
        (tmp_path / "photo.toy").write_bytes(pack(Header(**{**vars(header), "meta": meta}), chunks))
        assert run("info", tmp_path / "photo.toy") == 0
        out = capfd.readouterr().out
        assert all(c.isprintable() for c in out.replace("\n", ""))
        assert "title=\\x1b]0;owned\\x07\\x1b[2J" in out
        assert "a\\nstatus      ok=\\u202ebidi\\r" in out

    def test_long_metadata_are_shown_short(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        from codec.container import Header, pack, unpack

        run("encode", picture(tmp_path / "photo.png"), "--quiet")
        header, chunks = unpack((tmp_path / "photo.toy").read_bytes())
        meta = {"long": "x" * 100_000, "many": tuple(range(4000)), **{f"k{i:05}": i for i in range(3000)}}
        (tmp_path / "photo.toy").write_bytes(pack(Header(**{**vars(header), "meta": meta}), chunks))
        assert run("info", tmp_path / "photo.toy") == 0
        out = capfd.readouterr().out
        assert len(out) < 5000
        assert "xxx... (--json shows all)" in out
        assert "(3002 in all)" in out
        assert run("info", tmp_path / "photo.toy", "--json") == 0
        assert "x" * 100_000 in capfd.readouterr().out


def test_json_has_no_infinity() -> None:
    assert json.loads(terminal.json_line({"psnr": float("inf"), "list": [float("nan"), 1.5]})) == {
        "psnr": None,
        "list": [None, 1.5],
    }


class TestBar:
    def test_bar_on_a_terminal_only(self, tmp_path: Path) -> None:
        for index in range(3):
            picture(tmp_path / f"{index}.png", index)
        code, seen, out = on_a_terminal("encode", tmp_path, "-o", tmp_path / "out")
        assert code == 0
        assert out == b""
        assert b"3/3" in seen
        piped = script("encode", tmp_path, "-o", tmp_path / "again").stderr
        assert len(piped.splitlines()) == 3
        assert b"\x1b" not in piped
        assert b"2.toy" in seen

    def test_data_stay_on_stdout_beside_a_bar(self, tmp_path: Path) -> None:
        for index in range(3):
            picture(tmp_path / f"{index}.png", index)
        code, seen, out = on_a_terminal("encode", tmp_path, "-o", tmp_path / "out", "--json")
        assert code == 0
        assert [json.loads(line)["status"] for line in out.splitlines()] == ["done"] * 3
        assert b"3/3" in seen


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self) -> bool:
        return True


class TestProgress:
    def shown(self, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **settings: object) -> str:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        with terminal.progress("clip\x1b[2J.mp4", **settings) as bar:  # pyright: ignore[reportArgumentType]
            bar.update(2, 8, "step 3/5, \u03bb \x07[bold]")
            bar.say("a line \x1b[31m")
        return stream.getvalue()

    def test_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = self.shown(monkeypatch, Terminal())
        assert "2/8" in text
        assert "step 3/5, \\u03bb \\x07[bold]" in text, "what a terminal would obey or can't show is escaped"
        assert "a line \\x1b[31m\n" in text
        assert "clip\\x1b[2J.mp4" in text

    def test_state_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = self.shown(monkeypatch, Terminal(), counts=False)
        assert "step 3/5" in text
        assert "2/8" not in text

    @pytest.mark.parametrize(("stream", "settings"), [(io.StringIO(), {}), (Terminal(), {"wanted": False})])
    def test_lines_only(self, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, settings: dict[str, bool]) -> None:
        assert self.shown(monkeypatch, stream, **settings) == "a line \\x1b[31m\n"
