"""The `codec` command with a toy codec: what it writes, what it refuses, and how it ends."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .helpers import SCRIPT, picture, pixels_of, run, script

pytestmark = pytest.mark.usefixtures("toy")


class TestOneFile:
    def test_beside_its_input_and_back(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        assert run("encode", photo) == 0
        assert run("decode", tmp_path / "photo.toy", "-o", tmp_path / "back.png") == 0
        np.testing.assert_array_equal(pixels_of(tmp_path / "back.png"), pixels_of(photo))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["back.png", "photo.png", "photo.toy"]

    def test_words_go_to_stderr_only(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", picture(tmp_path / "photo.png")) == 0
        out, err = capfd.readouterr()
        assert out == ""
        assert "photo.toy" in err
        assert "bpp" in err
        assert "\x1b" not in err

    def test_quiet(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", picture(tmp_path / "photo.png"), "--quiet") == 0
        assert capfd.readouterr() == ("", "")

    def test_into_a_folder(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        assert run("encode", photo, "-o", f"{tmp_path}/new/") == 0
        assert (tmp_path / "new" / "photo.toy").is_file()

    def test_an_unknown_suffix_is_kept(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png").rename(tmp_path / "photo.v2")
        assert run("encode", photo) == 0
        assert (tmp_path / "photo.v2.toy").is_file()

    def test_the_signature_decides_not_the_suffix(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        assert run("encode", photo) == 0
        (tmp_path / "photo.toy").rename(tmp_path / "photo.jpg")
        assert run("decode", tmp_path / "photo.jpg", "-o", tmp_path / "back.tiff") == 0
        np.testing.assert_array_equal(pixels_of(tmp_path / "back.tiff"), pixels_of(photo))

    def test_permissions_follow_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            assert run("encode", picture(tmp_path / "photo.png")) == 0
        finally:
            os.umask(before)
        assert (tmp_path / "photo.toy").stat().st_mode & 0o777 == 0o640

    def test_unknown_output_format(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        run("encode", picture(tmp_path / "photo.png"))
        assert run("decode", tmp_path / "photo.toy", "-o", tmp_path / "back.docx") == 2
        assert ".png" in capfd.readouterr().err
        assert run("decode", tmp_path / "photo.toy", "--format", "docx") == 2


class TestPipes:
    def test_stdin_to_stdout_and_back(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        encoded = script("encode", "-", input=photo.read_bytes())
        assert encoded.returncode == 0, encoded.stderr
        decoded = script("decode", "-", "--format", "png", input=encoded.stdout)
        assert decoded.returncode == 0, decoded.stderr
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(decoded.stdout))), pixels_of(photo))

    def test_file_to_stdout(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        run("encode", photo)
        assert script("encode", photo, "-o", "-").stdout == (tmp_path / "photo.toy").read_bytes()

    def test_stdin_to_a_file(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        assert script("encode", "-", "-o", tmp_path / "x.toy", input=photo.read_bytes()).returncode == 0
        assert (tmp_path / "x.toy").is_file()
        assert script("encode", "-", "-o", tmp_path, input=photo.read_bytes()).returncode == 2

    def test_two_claims_on_stdout(self, tmp_path: Path) -> None:
        photos = [picture(tmp_path / f"{i}.png", i) for i in range(2)]
        assert run("encode", *photos, "-o", "-") == 2
        assert run("encode", photos[0], "-o", "-", "--json") == 2
        assert run("encode", "-", photos[0]) == 2

    @pytest.mark.parametrize("command", ["list", "encode"])
    def test_reader_of_stdout_goes_away(self, tmp_path: Path, command: str) -> None:
        words = ["list"] if command == "list" else ["encode", picture(tmp_path / "photo.png"), "-o", "-"]
        read, write = os.pipe()
        os.close(read)
        buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        done = subprocess.run(
            [sys.executable, SCRIPT, *words], stdout=write, stderr=subprocess.PIPE, env=buffered, check=False
        )
        os.close(write)
        assert done.returncode == 1
        assert done.stderr == b""

    def test_binary_is_not_for_terminals(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        leader, follower = pty.openpty()
        done = subprocess.run(
            [sys.executable, SCRIPT, "encode", photo, "-o", "-"], stdout=follower, stderr=subprocess.PIPE, check=False
        )
        os.close(follower)
        os.close(leader)
        assert done.returncode == 2
        assert b"terminal" in done.stderr


class TestManyFiles:
    def test_tree_is_kept(self, tmp_path: Path) -> None:
        for index, name in enumerate(("a.png", "sub/b.JPG", "sub/deep/c.png", ".hidden/d.png")):
            picture(tmp_path / "in" / name, index)
        (tmp_path / "in" / "notes.txt").write_text("not a picture")
        assert run("encode", tmp_path / "in", "-o", tmp_path / "out") == 0
        made = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
        assert made == ["a.toy", "sub/b.toy", "sub/deep/c.toy"]
        assert run("decode", tmp_path / "out", "-o", tmp_path / "back", "--format", "tiff") == 0
        np.testing.assert_array_equal(
            pixels_of(tmp_path / "back/sub/deep/c.tiff"), pixels_of(tmp_path / "in/sub/deep/c.png")
        )

    def test_folder_is_decoded_by_signature(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        run("encode", photo, "-o", tmp_path / "in" / "odd.name")
        (tmp_path / "in" / "text.name").write_text("not ours")
        assert run("decode", tmp_path / "in", "-o", tmp_path / "out") == 0
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["odd.name.png"]

    def test_globs(self, tmp_path: Path) -> None:
        for index, name in enumerate(("a.png", "sub/b.png", "sub/c.jpg")):
            picture(tmp_path / "in" / name, index)
        assert run("encode", f"{tmp_path}/in/**/*.png", "-o", tmp_path / "out") == 0
        made = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.toy"))
        assert made == ["a.toy", "sub/b.toy"]
        assert run("encode", f"{tmp_path}/in/*.gif", "-o", tmp_path / "out") == 2

    def test_a_file_with_wildcards_in_its_name(self, tmp_path: Path) -> None:
        assert run("encode", picture(tmp_path / "photo[1].png")) == 0
        assert (tmp_path / "photo[1].toy").is_file()

    def test_one_bad_file_does_not_stop_the_others(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        for index in range(3):
            picture(tmp_path / f"{index}.png", index)
        (tmp_path / "1.png").write_bytes(b"not a picture")
        assert run("encode", tmp_path, tmp_path / "missing.png", "-o", tmp_path / "out") == 1
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.toy", "2.toy"]
        err = capfd.readouterr().err
        assert "1.png: " in err
        assert "missing.png: No such file" in err
        assert "2 of 4 inputs failed" in err

    def test_a_mistake_of_ours_does_not_either(
        self, tmp_path: Path, toy: ModuleType, capfd: pytest.CaptureFixture[str]
    ) -> None:
        photos = [picture(tmp_path / "0.png", 0, toy.MISTAKE), picture(tmp_path / "1.png", 1)]
        assert run("encode", *photos, "-o", tmp_path / "out") == 1
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["1.toy"]
        err = capfd.readouterr().err
        assert "please report it: ZeroDivisionError" in err
        assert "Traceback" not in err

    def test_same_input_twice_is_one(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        photo = picture(tmp_path / "photo.png")
        assert run("encode", photo, tmp_path / "." / "photo.png", tmp_path, "-o", tmp_path / "out", "--json") == 0
        assert len(capfd.readouterr().out.splitlines()) == 1

    def test_nothing_to_do_is_said(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "empty").mkdir()
        assert run("encode", tmp_path / "empty") == 2
        assert "empty: no file here" in capfd.readouterr().err


class TestExitCodes:
    def damaged(self, tmp_path: Path, name: str) -> Path:
        run("encode", picture(tmp_path / f"{name}.png"))
        path = tmp_path / f"{name}.toy"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        return path

    def other_weights(self, tmp_path: Path, name: str) -> Path:
        (tmp_path / "weights").write_bytes(bytes(range(16)))
        run("encode", picture(tmp_path / f"{name}.png"), "--weights", tmp_path / "weights")
        return tmp_path / f"{name}.toy"

    def test_bad_stream(self, tmp_path: Path) -> None:
        assert run("decode", self.damaged(tmp_path, "a"), "-o", tmp_path / "x.png") == 3
        assert not (tmp_path / "x.png").exists()

    def test_not_our_file(self, tmp_path: Path) -> None:
        assert run("decode", picture(tmp_path / "a.png"), "-o", tmp_path / "x.png") == 3
        assert run("info", tmp_path / "a.png") == 3

    def test_weights_missing(self, tmp_path: Path) -> None:
        path = self.other_weights(tmp_path, "a")
        assert run("decode", path, "-o", tmp_path / "x.png") == 4
        assert run("decode", path, "-o", tmp_path / "x.png", "--weights", tmp_path / "weights") == 0

    def test_every_input_for_the_same_reason(self, tmp_path: Path) -> None:
        assert run("verify", self.damaged(tmp_path, "a"), self.damaged(tmp_path, "b")) == 3

    def test_different_reasons(self, tmp_path: Path) -> None:
        assert run("verify", self.damaged(tmp_path, "a"), self.other_weights(tmp_path, "b")) == 1

    def test_some_failed(self, tmp_path: Path) -> None:
        run("encode", picture(tmp_path / "good.png"))
        assert run("verify", self.damaged(tmp_path, "a"), tmp_path / "good.toy") == 1

    def test_missing_input(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", tmp_path / "none.png") == 1
        assert "none.png: No such file or directory\n" in capfd.readouterr().err

    def test_unknown_codec_offers_the_nearest(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", picture(tmp_path / "photo.png"), "-c", "toi") == 2
        assert "did you mean 'toy'?" in capfd.readouterr().err

    def test_unknown_command_offers_the_nearest(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encoed", "photo.png") == 2
        assert "did you mean 'encode'?" in capfd.readouterr().err

    @pytest.mark.parametrize("args", [[], ["encode"], ["encode", "x", "-q", "high"], ["train", "walloc"]])
    def test_usage(self, args: list[str]) -> None:
        assert run(*args) == 2

    def test_quality_out_of_range(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", picture(tmp_path / "photo.png"), "-q", "101") == 2
        assert "expected 0 to 100" in capfd.readouterr().err

    @pytest.mark.parametrize("bad", [("-q", "101"), ("--device", "foo")])
    def test_a_bad_setting_is_said_once(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], bad: tuple[str, str]
    ) -> None:
        photos = [picture(tmp_path / f"{i}.png", i) for i in range(3)]
        assert run("encode", *photos, "-o", tmp_path / "out", "--json", *bad) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert bad[1] in err

    @pytest.mark.parametrize("command", ["decode", "verify"])
    def test_a_bad_device_is_said_once(self, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str) -> None:
        for index in range(2):
            picture(tmp_path / f"{index}.png", index)
        run("encode", tmp_path, "-o", tmp_path / "out", "--quiet")
        assert run(command, tmp_path / "out", "--device", "foo") == 2
        err = capfd.readouterr().err
        assert len(err.splitlines()) == 1
        assert "'foo'" in err
        assert "--device cpu" in err

    def test_unwritable_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a file where a folder is needed")
        assert run("encode", picture(tmp_path / "photo.png"), "-o", tmp_path / "file" / "x.toy") == 1


class TestWords:
    def test_info(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        run("encode", picture(tmp_path / "photo.png"))
        capfd.readouterr()
        assert run("info", tmp_path / "photo.toy") == 0
        out, err = capfd.readouterr()
        assert err == ""
        assert "9 x 13 x 3" in out
        assert run("info", tmp_path / "photo.toy", "--json") == 0
        about = json.loads(capfd.readouterr().out)
        assert about["codec"] == "toy"
        assert about["n_bytes"] == (tmp_path / "photo.toy").stat().st_size

    def test_verify(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        run("encode", picture(tmp_path / "photo.png"))
        capfd.readouterr()
        assert run("verify", tmp_path / "photo.toy") == 0
        assert "ok, toy stream 1" in capfd.readouterr().err

    def test_verify_decodes(self, tmp_path: Path, toy: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
        """Checksums that fit aren't enough: the payload must mean a picture."""
        from codec.container import Chunk, pack, unpack

        run("encode", picture(tmp_path / "photo.png"))
        header, _ = unpack((tmp_path / "photo.toy").read_bytes())
        (tmp_path / "photo.toy").write_bytes(pack(header, [Chunk("Toyp", b"not zlib")]))
        assert run("info", tmp_path / "photo.toy") == 0
        assert run("verify", tmp_path / "photo.toy") == 3

    def test_encode_json(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", picture(tmp_path / "photo.png"), "--json") == 0
        report = json.loads(capfd.readouterr().out)
        size = (tmp_path / "photo.toy").stat().st_size
        assert report["status"] == "done"
        assert report["bytes_out"] == size
        assert report["bpp"] == pytest.approx(8 * size / (9 * 13))
        assert report["output"] == str(tmp_path / "photo.toy")

    def test_failure_json(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("decode", picture(tmp_path / "photo.png"), "-o", tmp_path / "x.png", "--json") == 3
        report = json.loads(capfd.readouterr().out)
        assert (report["status"], report["exit_code"]) == ("failed", 3)


class TestGoals:
    """--size, --bpp, --psnr: the search itself is tested in tests/codecs/base/test_rate_control.py."""

    @pytest.mark.parametrize("goal", [("size", "20kB", 20000.0), ("bpp", "0.25", 0.25), ("psnr", "34", 34.0)])
    def test_goal_arrives(
        self,
        goal: tuple[str, str, float],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        from codec.codecs.base import rate_control

        what, text, value = goal
        asked: list[object] = []

        def reach(codec: Any, picture: Any, goal: float, encode: Any, **more: Any) -> rate_control.Reached:
            asked.append(goal)
            return rate_control.Reached(encode(picture, 50.0), 12.3456, 34.5678, 3)

        monkeypatch.setitem(rate_control.GOALS, what, reach)
        photo = picture(tmp_path / "photo.png")
        assert run("encode", photo, f"--{what}", text, "--json") == 0
        report = json.loads(capfd.readouterr().out)
        assert asked == [value]
        assert (report["quality"], report["encodings"]) == (12.35, 3)
        assert report.get("psnr") == (34.568 if what == "psnr" else None)
        assert run("encode", photo, f"--{what}", text, "--force") == 0
        assert "-q 12.35" in capfd.readouterr().err

    def test_out_of_reach(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("encode", picture(tmp_path / "photo.png"), "--size", "10") == 2
        assert "10 bytes are too few" in capfd.readouterr().err
        assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]

    @pytest.mark.parametrize(
        "args", [("--size", "many"), ("--bpp", "-1"), ("--psnr", "inf"), ("-q", "3", "--bpp", "1"), ("--size", "0")]
    )
    def test_usage(self, args: tuple[str, ...], tmp_path: Path) -> None:
        assert run("encode", picture(tmp_path / "photo.png"), *args) == 2


def test_decode_opens_a_file_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to see what it is, which goes with the job, and once to decode it."""
    import builtins
    import io

    photo = picture(tmp_path / "photo.png")
    assert run("encode", photo, "-o", tmp_path / "photo.toy") == 0
    opened: list[str] = []
    before = builtins.open

    def counting(file: Any, *args: Any, **settings: Any) -> Any:
        opened.append(str(file))
        return before(file, *args, **settings)

    monkeypatch.setattr(builtins, "open", counting)
    monkeypatch.setattr(io, "open", counting)
    assert run("decode", tmp_path / "photo.toy", "-o", tmp_path / "back.png") == 0
    assert opened.count(str(tmp_path / "photo.toy")) == 2
