"""Files that appear whole or not at all: every promise of `codec.files.whole`."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
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
            (temporary,) = names(target.parent)  # the same folder: a rename is enough
            assert temporary.startswith(f".x.{files.owner()}-")
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

    def test_through_a_link(self, tmp_path: Path, how: str) -> None:
        (tmp_path / "elsewhere").mkdir()
        real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
        real.write_bytes(b"old")
        link.symlink_to(real)
        put(link, b"abc", how, replace=True)
        assert link.is_symlink()
        assert real.read_bytes() == b"abc"
        assert names(tmp_path / "elsewhere") == ["real"]

    @pytest.mark.parametrize("replace", [False, True])
    def test_a_link_that_leads_nowhere(self, tmp_path: Path, how: str, replace: bool) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError, match="isn't there"):
            put(tmp_path / "link", b"abc", how, replace)
        assert names(tmp_path) == ["link"]

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

    def test_permissions_of_a_file_that_is_replaced(self, tmp_path: Path, how: str) -> None:
        (tmp_path / "x").write_bytes(b"old")
        (tmp_path / "x").chmod(0o600)
        put(tmp_path / "x", b"abc", how, replace=True)
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(("given", "expected"), [(0o600, 0o600), (0o640, 0o640), (0o444, 0o644), (0o644, 0o644)])
    def test_permissions_as_the_source(self, tmp_path: Path, how: str, given: int, expected: int) -> None:
        (tmp_path / "source").write_bytes(b"")
        (tmp_path / "source").chmod(given)
        before = os.umask(0o022)
        try:
            with files.as_private_as(tmp_path / "source"):
                put(tmp_path / "x", b"abc", how)
        finally:
            os.umask(before)
        assert (tmp_path / "x").stat().st_mode & 0o777 == expected

    def test_an_error_names_the_target(self, tmp_path: Path, how: str) -> None:
        with pytest.raises(OSError, match="No space") as full:
            put_half(tmp_path / "x", how, OSError(errno.ENOSPC, "No space left on device"))
        assert full.value.filename == str(tmp_path / "x")
        with pytest.raises(OSError, match="too long") as long:
            put(tmp_path / ("x" * 256), b"", how)
        assert os.path.basename(long.value.filename) == "x" * 256


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
    def test_nobody_knows_it_before(self, tmp_path: Path) -> None:
        """A link that lies where a temporary will be would be written through."""
        names = {files.temporary_of(tmp_path / "x").name for _ in range(100)}
        assert len({name.split("-")[-1] for name in names}) == 100
        assert all(len(name.split("-")[-1]) == 16 + len(".part") for name in names), "64 bits"

    def test_a_writer_of_paths_follows_no_link(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Even where the name was guessed: its folder is made now, for this process alone."""
        monkeypatch.setattr(os, "urandom", bytes)
        (tmp_path / "victim").write_bytes(b"precious")
        files.temporary_of(tmp_path / "x").symlink_to(tmp_path / "victim")
        for way in ("file", "path"):
            with pytest.raises(FileExistsError):
                put(tmp_path / "x", b"abc", way)
        assert (tmp_path / "victim").read_bytes() == b"precious"
        assert len(names(tmp_path)) == 2, "what is another's stays"

    def test_folder_of_a_path_is_private(self, tmp_path: Path) -> None:
        with whole(tmp_path / "x", path_only=True) as path:
            assert path.parent.stat().st_mode & 0o777 == 0o700
            path.write_bytes(b"abc")
        assert names(tmp_path) == ["x"]

    def test_of_a_worker_that_was_killed(self, tmp_path: Path) -> None:
        code = (
            "import os, sys\nfrom codec import files\nfiles.set_owner(sys.argv[1])\n"
            "with files.whole(sys.argv[2]) as file:\n    file.write(b'half')\n    file.flush()\n    os._exit(9)"
        )
        subprocess.run([sys.executable, "-P", "-c", code, files.owner(), tmp_path / "x"], check=False)
        (left,) = names(tmp_path)
        theirs = tmp_path / left.replace(files.owner(), files.owner()[:-8] + "00000000")
        theirs.write_bytes(b"of another container, whose process has our number")
        with whole(tmp_path / "y") as file:
            file.write(b"abc")
            files.remove_temporaries(tmp_path)
        assert names(tmp_path) == sorted([theirs.name, "y"])
        files.remove_temporaries(tmp_path / "none")

    def test_what_dead_processes_left_is_swept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        machine, me, _ = files.owner().split("-")
        dead, alive, elsewhere = f"{machine}-{child.pid}", f"{machine}-{os.getppid()}", f"00000000-{child.pid}"
        kept = [f".x.{mark}-00000000-{'0' * 16}.part" for mark in (alive, elsewhere, f"{machine}-{me}")]
        kept += [f".x.{dead}-00000000-0.part", ".x.part"]
        for name in kept:
            (tmp_path / name).write_bytes(b"")
        (tmp_path / f".x.{dead}-00000000-{'0' * 16}.part").write_bytes(b"")
        (tmp_path / f".stills.{dead}-00000000-{'0' * 16}.part").mkdir()
        put(tmp_path / "y", b"abc", "file")
        assert names(tmp_path) == sorted([*kept, "y"])

    def test_of_a_folder(self, tmp_path: Path) -> None:
        folder = files.temporary_of(tmp_path / "stills")
        folder.mkdir()
        (folder / "0.png").write_bytes(b"0")
        files.remove_temporaries(tmp_path)
        assert names(tmp_path) == []

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


class TestProcesses:
    @pytest.mark.parametrize("how", ["kernel", "thread"])
    def test_a_worker_ends_with_its_parent(self, tmp_path: Path, how: str) -> None:
        """Killed outright, a parent can tell its workers nothing."""
        without = "threading.Thread.start = lambda self: None" if how == "kernel" else "sys.platform = ''"
        script = tmp_path / "parent.py"
        script.write_text(
            "import multiprocessing, os, sys, threading, time\n"
            "from codec import files\n"
            "def work(parent, target):\n"
            f"    {without}\n"
            "    files.end_with_parent(parent)\n"
            "    with files.whole(target) as file:\n"
            "        file.write(b'half')\n"
            "        file.flush()\n"
            "        print(os.getpid(), flush=True)\n"
            "        time.sleep(60)\n"
            "if __name__ == '__main__':\n"
            "    context = multiprocessing.get_context('spawn')\n"
            "    context.Process(target=work, args=(os.getpid(), sys.argv[1])).start()\n"
            "    time.sleep(60)\n"
        )
        parent = subprocess.Popen([sys.executable, "-P", script, tmp_path / "x"], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        parent.communicate()  # until nobody holds the other end of the pipe: the worker is gone
        deadline = time.monotonic() + 20
        while files._is_alive(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not files._is_alive(worker) or _is_zombie(worker)
        if how == "thread":
            assert not [name for name in names(tmp_path) if name.endswith(".part")], "and what it left with it"

    def test_cpus_of_a_container(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup").write_text("0::/a\n3:cpu,cpuacct:/b\n2:memory:/b\n")
        for folder in ("a", "cpu,cpuacct/b"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
        (tmp_path / "cpu,cpuacct/b/cpu.cfs_quota_us").write_text("300000")
        (tmp_path / "cpu,cpuacct/b/cpu.cfs_period_us").write_text("100000")
        assert sorted(files._quotas(tmp_path, tmp_path / "cgroup")) == [2, 3]
        (tmp_path / "a" / "cpu.max").write_text("max 100000\n")
        (tmp_path / "cpu,cpuacct/b/cpu.cfs_quota_us").write_text("-1")
        assert files._quotas(tmp_path, tmp_path / "cgroup") == files._quotas(tmp_path, tmp_path / "none") == []

    def test_cpus_of_this_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
        monkeypatch.setattr(files, "_quotas", lambda: [2, 8])
        assert files.cpu_count() == 2
        monkeypatch.setattr(files, "_quotas", list)
        assert files.cpu_count() == 64


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_package_is_the_root() -> None:
    assert (files.PACKAGE / "files.py").is_file()
    assert (files.PACKAGE / "py.typed").is_file()
