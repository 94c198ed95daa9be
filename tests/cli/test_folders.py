"""Folders and globs: what is taken, what is left out and counted, and how names become names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from codec.cli.inputs import Inputs, _fixed_part

from .helpers import picture, run, script

pytestmark = pytest.mark.usefixtures("toy")

RAW = b"II*\0\x10\0\0\0CR\x02\0" + bytes(64)


def made(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder as people have it."""
    folder = picture(tmp_path / "album" / "a.png").parent
    for name in ("scan", "named.heic"):  # JPEGs, both of them
        Image.new("RGB", (9, 7)).save(folder / name, "JPEG")
    (folder / "IMG_1.cr2").write_bytes(RAW)
    (folder / "b.jxl").write_bytes(b"\xff\x0a" + bytes(64))
    (folder / "c.nef").write_bytes(b"II*\0\x08\0\0\0" + bytes(64))
    (folder / "README").write_text("words")
    (folder / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(64))
    (folder / ".DS_Store").write_bytes(b"of the system")
    (folder / ".hidden.png").write_bytes(b"of a person")
    (folder / "dead.png").symlink_to(folder / "none.png")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    return folder


LEFT = {
    ".cr2": 1,
    ".jxl": 1,
    ".nef": 1,
    "without suffix": 1,
    ".mp4": 1,
    "hidden": 1,
    "broken link": 1,
    "linked folder": 1,
    "pipe or device": 1,
}


class TestLeftOut:
    def test_said_and_counted(self, album: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", album, "-o", tmp_path / "out") == 0
        assert made(tmp_path / "out") == ["a.toy", "named.toy", "scan.toy"], "content decides where a name doesn't"
        err = capfd.readouterr().err
        assert "codec encode: 9 files left out: " in err
        assert all(f"1 {kind}" in err for kind in LEFT)
        assert "camera RAW (Canon CR2)" in err
        assert f"darktable-cli {album}/IMG_1.cr2 {album}/IMG_1.png" in err

    def test_in_json(self, album: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", album, "-o", tmp_path / "out", "--json") == 0
        *reports, summary = map(json.loads, capfd.readouterr().out.splitlines())
        assert [report["status"] for report in reports] == ["done"] * 3
        assert summary == {"status": "summary", "done": 3, "n_left_out": 9, "left_out": LEFT}

    def test_quiet(self, album: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", album, "-o", tmp_path / "out", "--quiet") == 0
        assert capfd.readouterr() == ("", "")

    def test_of_a_glob(self, album: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", f"{album}/**/*.*", "-o", tmp_path / "out") == 0
        assert made(tmp_path / "out") == ["a.toy", "named.toy"]
        assert "1 .jxl" in capfd.readouterr().err
        (album / "sub").mkdir()
        assert run("encode", f"{album}/[s]*", "-o", tmp_path / "again") == 0
        assert "1 file left out: 1 folder" in capfd.readouterr().err

    def test_files_of_ours_need_no_word(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        picture(tmp_path / "a.png")
        assert run("encode", tmp_path) == 0
        assert run("encode", tmp_path, "--skip-existing") == 0
        assert "left out" not in capfd.readouterr().err

    @pytest.mark.parametrize("command", ["decode", "info", "verify"])
    def test_of_what_reads(self, tmp_path: Path, command: str, capfd: pytest.CaptureFixture[str]) -> None:
        """A file of ours whose first bytes are gone isn't passed over: it is damaged."""
        assert run("encode", picture(tmp_path / "a.png"), "-o", tmp_path / "in" / "a.toy", "--quiet") == 0
        (tmp_path / "in" / "notes.txt").write_text("words")
        os.mkfifo(tmp_path / "in" / "pipe.toy")
        where = ["-o", tmp_path / "out"] if command == "decode" else []
        assert run(command, tmp_path / "in", *where) == 0
        err = capfd.readouterr().err
        assert f"codec {command}: 2 files left out: 1 .txt, 1 pipe or device" in err
        (tmp_path / "in" / "b.toy").write_bytes(b"")
        assert run(command, tmp_path / "in", *where, *(["--force"] if where else [])) == 1
        assert "b.toy: " in capfd.readouterr().err

    def test_a_pipe_by_name_is_read(self, tmp_path: Path) -> None:
        fifo = tmp_path / "pipe.png"
        os.mkfifo(fifo)
        data = picture(tmp_path / "a.png").read_bytes()
        if (pid := os.fork()) == 0:
            fifo.write_bytes(data)
            os._exit(0)
        assert run("encode", fifo, "-o", tmp_path / "a.toy") == 0
        os.waitpid(pid, 0)

    def test_an_empty_folder_says_what_is_in_it(self, album: Path, capfd: pytest.CaptureFixture[str]) -> None:
        for name in ("a.png", "scan", "named.heic", "dead.png", "pipe.png"):
            (album / name).unlink()
        assert run("encode", album) == 2
        assert "album: no file here that this command takes (left out: 1 " in capfd.readouterr().err


class TestLinks:
    def test_two_links_are_two_files(self, tmp_path: Path) -> None:
        picture(tmp_path / "in" / "real.png")
        for name in ("linkA.png", "linkB.png"):
            (tmp_path / "in" / name).symlink_to("real.png")
        assert run("encode", tmp_path / "in", "-o", tmp_path / "out") == 0
        assert made(tmp_path / "out") == ["linkA.toy", "linkB.toy", "real.toy"]

    def test_a_link_that_leads_nowhere_is_no_output(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "out.toy").symlink_to(tmp_path / "elsewhere")
        assert run("encode", picture(tmp_path / "a.png"), "-o", tmp_path / "out.toy") == 1
        assert "isn't there" in capfd.readouterr().err
        assert not (tmp_path / "elsewhere").exists()


class TestNames:
    def test_brackets_in_a_folder_that_is_there(self, tmp_path: Path) -> None:
        for name in ("Show [1080p]/x/a.png", "Show [1080p]/x/b.gif", "Show 1/x/c.png"):
            picture(tmp_path / name)
        assert run("encode", f"{tmp_path}/Show [1080p]/*/*.png", "-o", f"{tmp_path}/out/") == 0
        assert made(tmp_path / "out") == ["x/a.toy"]
        assert _fixed_part(f"{tmp_path}/Show [1080p]/*/a*") == (
            f"{tmp_path}/Show [1080p]",
            f"{tmp_path}/Show [[]1080p]/*/a*",
        )

    def test_a_file_called_as_stdin_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        picture(tmp_path / "a.png").rename("-")
        assert run("encode", "./-", "-o", "./-x.toy") == 0
        assert run("verify", "./-x.toy") == 0
        assert [item.source for item in Inputs(["."], lambda _: True)] == ["./-", "-x.toy"]

    def test_a_name_that_begins_with_a_dash(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("-photo.png", "-quick.png", "--x.png"):
            picture(tmp_path / name)
            assert run("encode", name) == 2
            assert f"{name} is a file: write ./{name}, or -- before it" in capfd.readouterr().err
        assert run("encode", "./-photo.png") == run("encode", "--", "-quick.png") == 0

    def test_a_url(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", "https://example.org/a.png") == 2
        assert "https://example.org/a.png is a URL" in capfd.readouterr().err

    @pytest.mark.parametrize("name", ["y.png", "out.jxl", "a.zip", "b.mp4"])
    def test_of_another_format(self, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
        photo = picture(tmp_path / "photo.png")
        assert run("encode", photo, "-o", tmp_path / name) == 2
        assert "a file of toy is written" in capfd.readouterr().err
        other = picture(tmp_path / "other.png")
        assert run("encode", photo, other, "-o", tmp_path / name) == 2
        assert "several inputs need a folder" in capfd.readouterr().err
        assert run("encode", photo, other, "-o", tmp_path / "toys", "--quiet") == 0
        assert run("decode", tmp_path / "toys", "-o", tmp_path / name) == 2
        assert not (tmp_path / name).exists()
        assert run("encode", photo, "-o", tmp_path / "photo.v2") == 0, "a suffix that nobody knows is anybody's"

    def test_nobody_is_told_to_replace_the_original(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", picture(tmp_path / "photo.png")) == 0
        assert run("decode", tmp_path / "photo.toy") == 2
        err = capfd.readouterr().err
        assert "-o names another place" in err and "--force" not in err
        (tmp_path / "b.png").write_bytes(b"")
        assert run("decode", tmp_path / "photo.toy", "-o", tmp_path / "b.png") == 2
        assert "--force replaces" in capfd.readouterr().err

    def test_long_ones(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        for letter in ("a", "\u00e9", "\U0001f600"):
            name = letter * (250 // len(letter.encode()))
            assert run("encode", picture(tmp_path / "x.png").rename(tmp_path / f"{name}.png")) == 0
        long = picture(tmp_path / "x.png").rename(tmp_path / ("b" * 252))
        assert run("encode", long) == 1
        assert "give -o a shorter name" in capfd.readouterr().err

    def test_private_stays_private(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        photo.chmod(0o600)
        assert run("encode", photo) == 0
        assert (tmp_path / "photo.toy").stat().st_mode & 0o777 == 0o600


class TestSkipExisting:
    @pytest.mark.parametrize("content", [b"", b"text", b"\x89CDC\x01", b"\x89PNG\r\n\x1a\n"])
    def test_garbage_is_not_done(self, tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "a.toy").write_bytes(content)
        assert run("encode", tmp_path, "--skip-existing") == 1
        assert "a.toy is there, but it is " in capfd.readouterr().err
        assert (tmp_path / "a.toy").read_bytes() == content

    def test_a_part_is_not_done(self, tmp_path: Path) -> None:
        assert run("encode", picture(tmp_path / "a.png")) == 0
        data = (tmp_path / "a.toy").read_bytes()
        (tmp_path / "a.toy").write_bytes(data[:-9])
        assert run("encode", tmp_path / "a.png", "--skip-existing") == 1


class TestNotes:
    def test_each_kind_once(self, tmp_path: Path, toy: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
        for index in range(3):
            picture(tmp_path / f"{index}.png", index, toy.NOTED)
        assert run("encode", tmp_path, "-o", tmp_path / "out") == 0
        err = capfd.readouterr().err
        assert err.count("metadata: XMP of") == err.count("colour: sRGB") == 1
        assert "codec encode: 4 more notes: 2 metadata, 2 colour" in err
        assert run("encode", tmp_path, "-o", tmp_path / "again", "--json") == 0
        reports = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert all(len(report["notes"]) == 2 for report in reports), "programs get all"

    def test_a_part_is_a_failure_unless_wanted(
        self, tmp_path: Path, toy: ModuleType, capfd: pytest.CaptureFixture[str]
    ) -> None:
        photo = picture(tmp_path / "a.png", 0, toy.CUT)
        assert run("encode", photo, "--json") == 1
        out, err = capfd.readouterr()
        report = json.loads(out)
        assert (report["status"], report["partial"], report["exit_code"]) == ("done", True, 1)
        assert "the input was taken in part, which is exit status 1: --partial accepts that" in err
        assert run("encode", photo, "--force", "--partial", "--json") == 0
        assert json.loads(capfd.readouterr().out)["partial"] is True

    def test_info_shows_them(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        from codec.container import Header, pack, unpack
        from codec.media.notes import Note, to_meta

        assert run("encode", picture(tmp_path / "a.png"), "--quiet") == 0
        header, chunks = unpack((tmp_path / "a.toy").read_bytes())
        meta: Any = to_meta([Note("metadata", "XMP is left out")])
        (tmp_path / "a.toy").write_bytes(pack(Header(**{**vars(header), "meta": meta}), chunks))
        assert run("info", tmp_path / "a.toy") == 0
        assert "notes       \n    metadata: XMP is left out\n" in capfd.readouterr().out
        assert run("info", tmp_path / "a.toy", "--json") == 0
        about = json.loads(capfd.readouterr().out)
        assert about["notes"] == ["metadata: XMP is left out"] and about["meta"] == {}

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_libraries_don_t_talk(self, tmp_path: Path, toy: ModuleType, jobs: int) -> None:
        for index in range(2):
            picture(tmp_path / f"{index}.png", index, toy.WARNS)
        done = script("encode", tmp_path, "--jobs", jobs, "--json")
        assert done.returncode == 0
        assert b"complaint" not in done.stderr and b"Warning" not in done.stderr
