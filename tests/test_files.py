"""Files that appear whole or not at all: every promise of `codec.files.whole`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from codec import files
from codec.errors import MediaError, UsageError
from codec.files import whole, whole_folder


def put(target: Path, data: bytes, how: str, replace: bool = False) -> None:
    """Write the data by one of the two ways there are."""
    if how == "file":
        with whole(target, replace=replace) as file:
            file.write(data)
    else:
        with whole(target, replace=replace, path_only=True) as path:
            path.write_bytes(data)


def put_half(target: Path, how: str, error: BaseException) -> None:
    """Begin to write over the target, and fail."""
    if how == "file":
        with whole(target, replace=True) as file:
            file.write(b"half")
            raise error
    with whole(target, replace=True, path_only=True) as path:
        path.write_bytes(b"half")
        raise error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["file", "path"])
def how(request: pytest.FixtureRequest) -> str:
    return request.param


class TestWhole:
    def test_appears_at_the_end_and_folders_are_made(self, tmp_path: Path) -> None:
        target = tmp_path / "new" / "folder" / "x"
        with whole(target) as file:
            file.write(b"abc")
            file.flush()
            assert not target.exists()
            assert names(target.parent) == [files.temporary_of(target).name], "the same folder: a rename is enough"
        assert target.read_bytes() == b"abc"
        assert names(target.parent) == ["x"]

    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), GeneratorExit()])
    @pytest.mark.parametrize("old", [None, b"old"])
    def test_nothing_after_an_exception(
        self, tmp_path: Path, how: str, error: BaseException, old: bytes | None
    ) -> None:
        target = tmp_path / "x"
        if old is not None:
            target.write_bytes(old)
        with pytest.raises(type(error)):
            put_half(target, how, error)
        assert names(tmp_path) == ([] if old is None else ["x"])
        assert old is None or target.read_bytes() == old

    @pytest.mark.parametrize("name", ["fsync", "link"])
    def test_nothing_after_a_failing_disk(
        self, tmp_path: Path, how: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, name, fail)
        with pytest.raises(KeyboardInterrupt):
            put(tmp_path / "x", b"abc", how)
        assert names(tmp_path) == []

    def test_is_on_the_disk_before_it_has_its_name(
        self, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target, synced, sync = tmp_path / "x", [], os.fsync

        def record(descriptor: int) -> None:
            assert not target.exists()
            synced.append(os.fstat(descriptor).st_size)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", record)
        put(target, b"abc", how)
        assert synced == [3]

    def test_never_over_an_existing_file(self, tmp_path: Path, how: str) -> None:
        target = tmp_path / "x"
        target.write_bytes(b"precious")
        with pytest.raises(FileExistsError, match="exists already"):
            put(target, b"abc", how)
        assert target.read_bytes() == b"precious"
        put(target, b"abc", how, replace=True)
        assert target.read_bytes() == b"abc"
        assert names(tmp_path) == ["x"]

    def test_a_file_that_appears_meanwhile(self, tmp_path: Path) -> None:
        target = tmp_path / "x"

        def put_while_another_does() -> None:
            with whole(target) as file:
                file.write(b"abc")
                target.write_bytes(b"theirs")

        with pytest.raises(FileExistsError, match="appeared while this ran"):
            put_while_another_does()
        assert target.read_bytes() == b"theirs"
        assert names(tmp_path) == ["x"]

    @pytest.mark.parametrize("appears", [False, True])
    def test_file_system_without_links(
        self, tmp_path: Path, how: str, appears: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "x"

        def no_link(*_: object) -> None:
            if appears:
                target.write_bytes(b"theirs")
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_link)
        if appears:
            with pytest.raises(FileExistsError, match="appeared while this ran"):
                put(target, b"abc", how)
        else:
            put(target, b"abc", how)
        assert target.read_bytes() == (b"theirs" if appears else b"abc")
        assert names(tmp_path) == ["x"]

    @pytest.mark.parametrize("dangling", [False, True])
    def test_through_a_link(self, tmp_path: Path, how: str, dangling: bool) -> None:
        (tmp_path / "elsewhere").mkdir()
        real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
        if not dangling:
            real.write_bytes(b"old")
        link.symlink_to(real)
        put(link, b"abc", how, replace=not dangling)
        assert link.is_symlink()
        assert real.read_bytes() == b"abc"
        assert names(tmp_path / "elsewhere") == ["real"]

    def test_a_folder_is_no_target(self, tmp_path: Path, how: str) -> None:
        (tmp_path / "x").mkdir()
        for replace in (False, True):
            with pytest.raises(IsADirectoryError, match="is a folder"):
                put(tmp_path / "x", b"abc", how, replace)

    def test_permissions_follow_the_umask(self, tmp_path: Path, how: str) -> None:
        before = os.umask(0o027)
        try:
            put(tmp_path / "x", b"abc", how)
        finally:
            os.umask(before)
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


class TestInPlace:
    def test_stdout(self, tmp_path: Path) -> None:
        code = "import os\nfrom codec.files import whole\nwith whole('-') as file: file.write(b'abc')\nos._exit(0)"
        buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        command = [sys.executable, "-P", "-c", code]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=buffered, check=True)
        assert done.stdout == b"abc"
        assert names(tmp_path) == []
        with pytest.raises(UsageError, match="stdout can't be"), whole("-", path_only=True):
            pass
        with pytest.raises(UsageError, match="name a folder"), whole_folder("-"):
            pass

    def test_a_pipe_stays_a_pipe(self, tmp_path: Path) -> None:
        fifo, got = tmp_path / "fifo", []
        os.mkfifo(fifo)
        with pytest.raises(FileExistsError, match="--force writes to it"):
            put(fifo, b"abc", "file")
        reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
        reader.start()
        put(fifo, b"abc", "file", replace=True)
        reader.join(10)
        assert got == [b"abc"]
        assert fifo.is_fifo()
        with pytest.raises(UsageError, match="written in place"):
            put(fifo, b"abc", "path", replace=True)
        assert fifo.is_fifo()
        assert names(tmp_path) == ["fifo"]

    def test_a_device(self) -> None:
        put(Path("/dev/null"), b"abc", "file", replace=True)
        assert Path("/dev/null").is_char_device()
        assert files.is_stream("/dev/null")

    def test_what_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"")
        assert not any(map(files.is_stream, (tmp_path, tmp_path / "x", tmp_path / "none")))


class TestFolder:
    def test_appears_at_the_end(self, tmp_path: Path) -> None:
        target = tmp_path / "new" / "stills"
        with whole_folder(target) as folder:
            (folder / "0.png").write_bytes(b"0")
            assert not target.exists()
        assert (target / "0.png").read_bytes() == b"0"
        assert names(target.parent) == ["stills"]

    def test_nothing_after_an_exception(self, tmp_path: Path) -> None:
        def put_and_be_interrupted() -> None:
            with whole_folder(tmp_path / "stills") as folder:
                (folder / "0.png").write_bytes(b"0")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            put_and_be_interrupted()
        assert names(tmp_path) == []

    @pytest.mark.parametrize("what", ["folder", "file"])
    def test_never_over_anything(self, tmp_path: Path, what: str) -> None:
        """Renaming would go over an empty folder."""
        target = tmp_path / "stills"

        def put_while_another_does() -> None:
            with whole_folder(target) as folder:
                (folder / "0.png").write_bytes(b"0")
                target.mkdir() if what == "folder" else target.write_bytes(b"theirs")

        with pytest.raises(FileExistsError, match="never replaced"):
            put_while_another_does()
        assert names(tmp_path) == ["stills"]
        assert names(target) == [] if what == "folder" else target.read_bytes() == b"theirs"


class TestTemporary:
    def test_follows_from_target_and_owner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """So a parent finds what a worker left, by the name of the target alone."""
        monkeypatch.setattr(files, "_owner", None)
        ours = files.temporary_of(tmp_path / "x")
        (tmp_path / "link").symlink_to(tmp_path / "x")
        assert ours.parent == tmp_path
        assert ours.name.startswith(".x.")
        assert str(os.getpid()) in ours.name
        assert files.temporary_of(tmp_path / "link") == ours
        files.set_owner(os.getpid() + 1)
        assert files.temporary_of(tmp_path / "x") != ours

    def test_of_a_worker_that_was_killed(self, tmp_path: Path) -> None:
        code = (
            "import os, sys\nfrom codec import files\nfiles.set_owner(int(sys.argv[1]))\n"
            "with files.whole(sys.argv[2]) as file:\n    file.write(b'half')\n    file.flush()\n    os._exit(9)"
        )
        target = tmp_path / "x"
        subprocess.run([sys.executable, "-P", "-c", code, str(os.getpid()), target], check=False)
        assert names(tmp_path) == [files.temporary_of(target).name]
        files.remove_temporary(target)
        assert names(tmp_path) == []
        files.remove_temporary(target)
        files.remove_temporary("-")

    def test_of_a_folder(self, tmp_path: Path) -> None:
        folder = files.temporary_of(tmp_path / "stills")
        folder.mkdir()
        (folder / "0.png").write_bytes(b"0")
        files.remove_temporary(tmp_path / "stills")
        assert names(tmp_path) == []

    def test_one_that_is_there_is_left_alone(self, tmp_path: Path, how: str) -> None:
        """Another thread may be writing it, or a process of the same number on another machine."""
        temporary = files.temporary_of(tmp_path / "x")
        temporary.write_bytes(b"theirs")
        with pytest.raises(FileExistsError, match="another run writes it"):
            put(tmp_path / "x", b"abc", how)
        assert temporary.read_bytes() == b"theirs"
        assert names(tmp_path) == [temporary.name]

    @pytest.mark.parametrize("letter", ["a", "é", "🐶"])
    def test_names_are_cut_and_told_apart(self, tmp_path: Path, letter: str) -> None:
        """The longest names that a file may have, 255 bytes, equal up to the last one."""
        stem = letter * (254 // len(letter.encode()))
        targets = [tmp_path / (stem + end) for end in "12"]
        temporaries = [files.temporary_of(target) for target in targets]
        assert len(set(temporaries)) == 2
        assert max(len(os.fsencode(temporary.name)) for temporary in temporaries) < 160
        with whole(targets[0]) as first, whole(targets[1]) as second:
            first.write(b"1")
            second.write(b"2")
        assert [target.read_bytes() for target in targets] == [b"1", b"2"]

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        target = tmp_path / os.fsdecode(b"caf\xe9 \xff")
        put(target, b"abc", "file")
        assert target.read_bytes() == b"abc"


class TestReading:
    def test_endless_input_ends(self) -> None:
        with pytest.raises(MediaError, match="split it"):
            files.read_bytes("/dev/zero", limit=1 << 20)

    def test_limit_is_exact(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(bytes(100))
        assert len(files.read_bytes(str(tmp_path / "x"), limit=100)) == 100
        with pytest.raises(MediaError):
            files.read_bytes(tmp_path / "x", limit=99)

    def test_stdin(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"abc")
        with open(tmp_path / "x", "rb") as file:
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
            assert files.read_bytes("-") == b"abc"


def test_package_is_the_root() -> None:
    assert (files.PACKAGE / "files.py").is_file()
    assert (files.PACKAGE / "py.typed").is_file()
