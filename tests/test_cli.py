"""The `codec` command: what it writes, what it refuses, and how it ends. With a toy codec: tests/fake_cli.py."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec import batch, cli, registry
from codec.errors import MediaError, UsageError

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "fake_cli.py"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The registry holds the toy codec only; nothing stays loaded from one test to the next."""
    spec = importlib.util.spec_from_file_location("fake_cli", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fake_cli", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(registry, "CODECS", registry.CODECS)
    monkeypatch.setattr(registry, "DEFAULT", registry.DEFAULT)
    module.install()
    cli._ready.clear()
    yield module
    cli._ready.clear()


def picture(path: Path, seed: int = 0, first: tuple[int, int, int] | None = None) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 13, 3), np.uint8)
    if first is not None:
        pixels[0, 0] = first
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def run(*args: str | Path) -> int:
    try:
        return cli.main([str(a) for a in args])
    except SystemExit as end:  # argparse's way out
        return int(end.code or 0)


def script(*args: str | Path, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, SCRIPT, *map(str, args)]
    return subprocess.run(command, input=input, capture_output=True, timeout=120, check=False)


def leftovers(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if ".part" in p.name]


def on_a_terminal(*args: str | Path) -> tuple[int, bytes, bytes]:
    """Exit code, what a terminal on stderr sees, what a file on stdout gets."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, args)],
        stderr=follower,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    out = child.communicate()[0]
    os.close(leader)
    return child.returncode, seen, out


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
        assert run("encode", photo, "-o", tmp_path / "photo.jpg") == 0
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

    def test_endless_input_ends(self) -> None:
        with pytest.raises(MediaError, match="split it"):
            batch.read_bytes("/dev/zero", limit=1 << 20)

    def test_limit_is_exact(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(bytes(100))
        assert len(batch.read_bytes(str(tmp_path / "x"), limit=100)) == 100
        with pytest.raises(MediaError):
            batch.read_bytes(str(tmp_path / "x"), limit=99)

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
        (tmp_path / "in" / "text.toy").write_text("not ours")
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


class TestNeverOverwrites:
    def test_existing_output(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        photos = [picture(tmp_path / f"{i}.png", i) for i in range(2)]
        (tmp_path / "1.toy").write_bytes(b"precious")
        assert run("encode", *photos) == 2
        assert (tmp_path / "1.toy").read_bytes() == b"precious"
        assert not (tmp_path / "0.toy").exists(), "found before anything is written"
        assert "--force" in capfd.readouterr().err

    def test_force(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        (tmp_path / "photo.toy").write_bytes(b"old")
        assert run("encode", photo, "--force") == 0
        assert (tmp_path / "photo.toy").read_bytes() != b"old"

    def test_skip_existing_resumes(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        for index in range(3):
            picture(tmp_path / f"{index}.png", index)
        (tmp_path / "1.toy").write_bytes(b"precious")
        assert run("encode", tmp_path, "--skip-existing", "--json") == 0
        assert (tmp_path / "1.toy").read_bytes() == b"precious"
        reports = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert {Path(r["input"]).name: r["status"] for r in reports} == {
            "0.png": "done",
            "1.png": "skipped",
            "2.png": "done",
        }

    def test_force_and_skip_existing_contradict(self, tmp_path: Path) -> None:
        assert run("encode", picture(tmp_path / "photo.png"), "--force", "--skip-existing") == 2

    def test_appears_while_running(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photo = picture(tmp_path / "photo.png")
        sync = os.fsync

        def someone_else_writes(descriptor: int) -> None:
            (tmp_path / "photo.toy").write_bytes(b"theirs")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", someone_else_writes)
        assert run("encode", photo) == 1
        assert (tmp_path / "photo.toy").read_bytes() == b"theirs"
        assert not leftovers(tmp_path)

    def test_file_system_without_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_link(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_link)
        assert run("encode", picture(tmp_path / "photo.png")) == 0
        assert (tmp_path / "photo.toy").is_file()
        assert not leftovers(tmp_path)

    def test_two_inputs_one_output(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        photos = [picture(tmp_path / "photo.png", 0), picture(tmp_path / "photo.jpg", 1), picture(tmp_path / "z.png")]
        assert run("encode", *photos, "-o", tmp_path / "out", "--force") == 2
        assert not (tmp_path / "out").exists()
        assert "both become" in capfd.readouterr().err

    @pytest.mark.parametrize("how", ["same", "dots", "hard link", "symbolic link", "other input"])
    def test_never_onto_an_input(self, tmp_path: Path, how: str) -> None:
        photo, other = (
            picture(tmp_path / "photo.png"),
            picture(tmp_path / "other.toy.png", 1).rename(tmp_path / "a.toy"),
        )
        before, link = photo.read_bytes(), tmp_path / "link.png"
        if how == "hard link":
            link.hardlink_to(photo)
        if how == "symbolic link":
            link.symlink_to(photo)
        target = {"same": photo, "dots": tmp_path / "." / ".." / tmp_path.name / "photo.png"}.get(how, link)
        if how == "other input":  # a.png would become a.toy, which is an input itself
            picture(tmp_path / "a.png", 2)
            assert run("encode", tmp_path / "a.png", other, "--force") == 2
        else:
            assert run("encode", photo, "-o", target, "--force") == 2
        assert photo.read_bytes() == before

    def test_output_link_is_written_through(self, tmp_path: Path) -> None:
        photo = picture(tmp_path / "photo.png")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "real.toy").write_bytes(b"old")
        (tmp_path / "photo.toy").symlink_to(tmp_path / "elsewhere" / "real.toy")
        assert run("encode", photo, "--force") == 0
        assert (tmp_path / "photo.toy").is_symlink()
        assert (tmp_path / "elsewhere" / "real.toy").stat().st_size > 10

    def test_a_pipe_stays_a_pipe(self, tmp_path: Path) -> None:
        photo, fifo = picture(tmp_path / "photo.png"), tmp_path / "fifo"
        os.mkfifo(fifo)
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
        reader.start()
        assert run("encode", photo, "-o", fifo, "--force") == 0
        reader.join(10)
        assert fifo.is_fifo()
        assert batch.exit_code([]) == 0
        assert got[0][:4] == (b"\x89CDC")


class TestWholeOrNotAtAll:
    @pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_failing_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
        def fail(_: int) -> None:
            assert leftovers(tmp_path), "written under another name first, in the same folder"
            raise failure

        photo = picture(tmp_path / "photo.png")
        monkeypatch.setattr(os, "fsync", fail)
        assert run("encode", photo) == (130 if isinstance(failure, KeyboardInterrupt) else 1)
        assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signal_in_a_parallel_batch(self, tmp_path: Path, toy: ModuleType, number: int) -> None:
        for index in range(4):
            picture(tmp_path / "in" / f"{index}.png", index, toy.SLOW if index else None)
        child = subprocess.Popen(
            [sys.executable, SCRIPT, "encode", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "2"],
            stderr=subprocess.PIPE,
            # a shell that runs the tests in the background lets its children ignore SIGINT
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / "0.toy").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        sent = time.monotonic()
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
        assert time.monotonic() - sent < 8, "it doesn't wait for the slow ones"
        assert b"--skip-existing" in err
        assert b"Traceback" not in err
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["0.toy"]


class TestJobs:
    def test_same_files_as_one_process(self, tmp_path: Path) -> None:
        for index in range(5):
            picture(tmp_path / "in" / f"{index}.png", index)
        assert run("encode", tmp_path / "in", "-o", tmp_path / "one") == 0
        done = script("encode", tmp_path / "in", "-o", tmp_path / "two", "--jobs", "2", "--json")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 5
        for path in (tmp_path / "one").iterdir():
            assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()

    def test_a_dying_worker_is_reported(self, tmp_path: Path, toy: ModuleType) -> None:
        for index in range(3):
            picture(tmp_path / "in" / f"{index}.png", index, toy.DIES if index == 1 else None)
        done = script("encode", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "2")
        assert done.returncode == 1
        assert b"worker process died" in done.stderr
        assert not leftovers(tmp_path)

    def test_number_of_jobs(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        photo = picture(tmp_path / "photo.png")
        assert run("encode", photo, "--jobs", "-1") == 2
        assert run("encode", photo, "--jobs", "many") == 2
        assert "invalid number value: 'many'" in capfd.readouterr().err
        assert run("encode", photo, "--jobs", "0") == 0


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

    @pytest.mark.parametrize("bad", [("-q", "101"), ("--coder", "abc"), ("--device", "foo")])
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

    def test_list(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("list") == 0
        assert capfd.readouterr().out.split()[:3] == ["toy", "image", ".toy"]
        assert run("list", "--json") == 0
        assert json.loads(capfd.readouterr().out)["default"] is True

    @pytest.mark.parametrize("command", [None, *cli.COMMANDS])
    def test_help_shows_three_examples(self, command: str | None, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(*filter(None, [command, "--help"])) == 0
        text = capfd.readouterr().out
        examples = [line for line in text.partition("examples:\n")[2].splitlines() if line.startswith("  c")]
        assert len(examples) == 3
        assert max(map(len, text.splitlines())) <= 110

    def test_examples_parse(self) -> None:
        """What --help shows can be typed."""
        import shlex

        texts = [text for name, text in vars(cli).items() if name.endswith("EXAMPLES")]
        lines = [line.strip() for text in texts for line in text.splitlines() if line.startswith("  codec ")]
        assert len(lines) > 15
        for line in lines:
            usage = re.split(r"\s{2,}| [<>|]", line)[0]
            cli.build_parser().parse_args(shlex.split(usage)[1:])

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
        assert cli._escaped(os.fsdecode(name)).encode() in seen
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


class TestGoals:
    """--size, --bpp, --psnr: the search itself is tested in tests/codecs/test_search.py."""

    @pytest.mark.parametrize(
        ("text", "n_bytes"),
        [("20000", 20000), ("20kB", 20000), ("20k", 20000), ("1.5MB", 1.5e6), ("64KiB", 65536), ("1gib", 2**30)],
    )
    def test_sizes(self, text: str, n_bytes: float) -> None:
        assert cli._bytes(text) == n_bytes

    @pytest.mark.parametrize("goal", [("size", "20kB", 20000.0), ("bpp", "0.25", 0.25), ("psnr", "34", 34.0)])
    def test_goal_arrives(
        self,
        goal: tuple[str, str, float],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        from codec.codecs import search

        what, text, value = goal
        asked: list[object] = []

        def found(codec: Any, picture: Any, goal: float) -> search.Found:
            asked.append(goal)
            return search.Found(codec.encode_picture(picture), 12.3456, 34.5678, 3)

        monkeypatch.setattr(search, f"at_{what}", found)
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


class TestTrain:
    def test_arguments_arrive(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        calls: list[object] = []

        def main(*args: object, **options: object) -> Path:
            calls.append((args, options))
            return Path("runs/x")

        monkeypatch.setitem(sys.modules, "codec.train.cli", SimpleNamespace(main=main))
        monkeypatch.setattr("codec.train.cli", SimpleNamespace(main=main), raising=False)
        assert run("train", "walloc", "--recipe", "small", "--resume", "--out", "here", "--steps", "7") == 0
        options = {"data": None, "out": "here", "resume": True, "steps": 7, "device": "auto"}
        options |= {"devices": 1, "nodes": 1}
        assert calls == [(("walloc", "small"), options)]
        assert capfd.readouterr().out == "runs/x\n"

    def test_missing_extra(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.delitem(sys.modules, "codec.train.cli", raising=False)
        monkeypatch.delattr("codec.train.cli", raising=False)
        monkeypatch.setitem(sys.modules, "yaml", None)
        assert run("train", "walloc", "--recipe", "small") == 2
        assert "codec-suite[train]" in capfd.readouterr().err

    def test_missing_extra_that_is_imported_late(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def main(*_: object, **__: object) -> Path:
            raise ModuleNotFoundError("No module named 'lightning'", name="lightning")

        monkeypatch.setitem(sys.modules, "codec.train.cli", SimpleNamespace(main=main))
        monkeypatch.setattr("codec.train.cli", SimpleNamespace(main=main), raising=False)
        assert run("train", "walloc", "--recipe", "small") == 2
        assert "training needs lightning: pip install 'codec-suite[train]'" in capfd.readouterr().err


class TestDemo:
    def test_files_and_numbers(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("demo", "--picture", picture(tmp_path / "photo.png"), "-o", tmp_path / "out", "--json") == 0
        report = json.loads(capfd.readouterr().out)
        assert report["bytes"] == (tmp_path / "out" / "photo.toy").stat().st_size
        assert report["psnr_db"] == float("inf")
        assert report["jpeg_bytes"] == (tmp_path / "out" / "photo-equal-size.jpg").stat().st_size
        with Image.open(report["sheet"]) as sheet:
            assert sheet.width == 3 * 13 + 2 * 4

    def test_words(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run("demo", "-o", tmp_path / "out") == 0
        out = capfd.readouterr().out
        for word in ("bytes", "bpp", "dB PSNR", "encoded in", "JPEG", "side-by-side.png"):
            assert word in out
        assert run("demo", "-o", tmp_path / "out", "--picture", tmp_path / "none.png") == 1

    def test_never_overwrites_what_is_named(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        photo, out = picture(tmp_path / "photo.png"), tmp_path / "out"
        out.mkdir()
        (out / "side-by-side.png").write_bytes(b"precious")
        assert run("demo", "--picture", photo, "-o", out) == 2
        assert "--force" in capfd.readouterr().err
        assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("side-by-side.png", b"precious")]
        assert run("demo", "--picture", photo, "-o", out, "--force") == 0
        assert sorted(p.name for p in out.iterdir()) == [
            "photo-equal-size.jpg",
            "photo-toy.png",
            "photo.toy",
            "side-by-side.png",
        ]
        assert (out / "side-by-side.png").read_bytes() != b"precious"

    def test_the_default_folder_is_replaced_but_never_the_picture(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        photo = picture(tmp_path / "photo.png")
        assert run("demo", "--picture", photo) == 0
        assert run("demo", "--picture", photo) == 0
        sheet = tmp_path / "demo-out" / "side-by-side.png"
        before = sheet.read_bytes()
        assert run("demo", "--picture", sheet) == 2
        assert sheet.read_bytes() == before

    @pytest.mark.parametrize("n_bytes", [5000, 20000, 60000])
    def test_jpeg_is_the_largest_that_fits(self, n_bytes: int) -> None:
        from codec.demo import SAMPLE, jpeg_of_size

        with Image.open(SAMPLE) as sample:
            image = sample.convert("RGB").resize((288, 288))
        data, quality = jpeg_of_size(image, n_bytes)
        larger = io.BytesIO()
        image.save(larger, "JPEG", quality=quality + 1, optimize=True)
        assert len(data) <= n_bytes < larger.tell()
        same = io.BytesIO()
        image.save(same, "JPEG", quality=quality, optimize=True)
        assert same.getvalue() == data

    def test_psnr(self) -> None:
        from codec.demo import psnr

        a = np.zeros((4, 4, 3), np.uint8)
        assert psnr(a, a) == float("inf")
        assert psnr(a, a + 5) == pytest.approx(34.1514, abs=1e-3)


class TestPlan:
    def test_missing_parent_is_no_plan_error(self, tmp_path: Path) -> None:
        (job,) = batch.plan([str(tmp_path / "a.png")], None, lambda _: True, lambda p: p.with_suffix(".toy"))
        assert job.target == str(tmp_path / "a.toy")
        assert Path(job.temporary).parent == tmp_path

    def test_several_inputs_need_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(UsageError, match="need a folder"):
            batch.plan(["a.png", "b.png"], str(tmp_path / "out"), lambda _: True, lambda p: p.with_suffix(".toy"))

    def test_output_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a.toy").mkdir()
        with pytest.raises(UsageError, match="is a folder"):
            batch.plan([str(tmp_path / "a.png")], None, lambda _: True, lambda p: p.with_suffix(".toy"), force=True)


def test_lack_of_memory_is_no_mistake_of_ours() -> None:
    """As Python, torch's allocator and a GPU say it; another RuntimeError stays one."""
    import torch

    def fails(error: Exception | None) -> Callable[[batch.Job], batch.Report]:
        def work(job: batch.Job) -> batch.Report:
            if error is None:
                torch.empty(1 << 46, dtype=torch.uint8)
                raise AssertionError("70 TB were there")
            raise error

        return work

    job = batch.Job("a.png", "a.s2lic")
    for error in (None, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        report = batch.attempt(fails(error), job)
        assert (report["error"], report["exit_code"]) == ("not enough memory for this input", 1)
    assert "report it" in batch.attempt(fails(RuntimeError("a shape is wrong")), job)["error"]
