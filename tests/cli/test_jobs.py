"""Many inputs at once: plans that are refused, outputs that are whole, workers that die."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from codec.cli import jobs, plan
from codec.errors import UsageError

from .helpers import SCRIPT, leftovers, picture, run, script

pytestmark = pytest.mark.usefixtures("toy")


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
        assert run("encode", tmp_path / "1.png") == 0
        before = (tmp_path / "1.toy").stat()
        assert run("encode", tmp_path, "--skip-existing", "--json") == 0
        assert (tmp_path / "1.toy").stat() == before
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
        assert run("encode", *photos, "-o", tmp_path / "out", "--force") == 1
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["z.toy"], "the others don't fail with them"
        err = capfd.readouterr().err
        assert "photo.png: would become" in err and "photo.jpg: would become" in err
        assert "--keep-suffix" in err
        assert run("encode", *photos, "-o", tmp_path / "kept", "--keep-suffix") == 0
        names = sorted(path.name for path in (tmp_path / "kept").iterdir())
        assert names == ["photo.jpg.toy", "photo.png.toy", "z.png.toy"]

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

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
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
        assert child.returncode == 128 + number, err
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

    @pytest.mark.parametrize("once", [4, 2])  # the next one is on its way when the first kills both
    def test_a_dying_worker_costs_its_own_file_only(
        self, once: int, tmp_path: Path, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One panorama for which memory doesn't suffice must not take the rest of the night's batch with it."""
        monkeypatch.setenv("TOY_MARK", str(tmp_path / "mark"))
        for index in range(8):
            first = {1: toy.DIES, once: toy.DIES_ONCE}.get(index)
            picture(tmp_path / "in" / f"{index}.png", index, first)
        done = script("encode", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "2", "--json")
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        assert {Path(r["input"]).name for r in reports if r["status"] == "failed"} == {"1.png"}
        assert len(reports) == 8 and len(list((tmp_path / "out").iterdir())) == 7
        assert done.returncode == 1
        assert b"1.png: the worker process died twice" in done.stderr
        assert not leftovers(tmp_path)

    def test_workers_end_with_a_parent_that_is_killed(self, tmp_path: Path, toy: ModuleType) -> None:
        for index in range(4):
            picture(tmp_path / "in" / f"{index}.png", index, toy.SLOW if index else None)
        command = [sys.executable, SCRIPT, "encode", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "2"]
        child = subprocess.Popen(command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / "0.toy").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        child.kill()
        sent = time.monotonic()
        child.communicate(timeout=60)  # returns when nobody has stderr open any more
        assert time.monotonic() - sent < 6, "the slow ones take ten seconds"

    def test_few_jobs_are_on_their_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A million files wait in the plan, not as a million futures."""
        taken: list[int] = []

        class Pool:
            def submit(self, call: Any, work: Any, job: jobs.Job) -> Any:
                future: Any = concurrent.futures.Future()
                future.set_result(call(work, job))
                return future

        @contextlib.contextmanager
        def pool(_: int) -> Iterator[Pool]:
            yield Pool()

        def numbered() -> Iterator[jobs.Job]:
            for index in range(100):
                taken.append(index)
                yield jobs.Job(str(index))

        monkeypatch.setattr(jobs, "_pool", pool)
        reports = jobs._in_pool(lambda _: {}, numbered(), 2, 3, [])
        next(reports)
        assert len(taken) == 3
        assert len(list(reports)) == 99

    def test_number_of_jobs(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        photo = picture(tmp_path / "photo.png")
        assert run("encode", photo, "--jobs", "-1") == 2
        assert run("encode", photo, "--jobs", "many") == 2
        assert "invalid number value: 'many'" in capfd.readouterr().err
        assert run("encode", photo, "--jobs", "0") == 0


def toy_naming(output: Path | None = None, force: bool = False) -> plan.Naming:
    name = lambda item: plan.Output(item.place.with_suffix(".toy").name)  # noqa: E731
    return plan.Naming(name, None if output is None else str(output), force)


class TestPlan:
    def test_missing_parent_is_no_plan_error(self, tmp_path: Path) -> None:
        (job,) = plan.plan([str(tmp_path / "a.png")], toy_naming(), lambda _: True).jobs
        assert job.target == str(tmp_path / "a.toy")

    def test_several_inputs_need_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(UsageError, match="need a folder"):
            plan.plan(["a.png", "b.png"], toy_naming(tmp_path / "out"), lambda _: True)

    def test_output_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a.toy").mkdir()
        with pytest.raises(UsageError, match="is a folder"):
            plan.plan([str(tmp_path / "a.png")], toy_naming(force=True), lambda _: True)


def test_lack_of_memory_is_no_mistake_of_ours() -> None:
    """As Python, torch's allocator and a GPU say it; another RuntimeError stays one."""
    import torch

    def failing(error: Exception | None) -> Callable[[jobs.Job], jobs.Report]:
        def work(job: jobs.Job) -> jobs.Report:
            if error is None:
                torch.empty(1 << 46, dtype=torch.uint8)
                raise AssertionError("70 TB were there")
            raise error

        return work

    job = jobs.Job("a.png", "a.s2lic")
    for error in (None, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        report = jobs.attempt(failing(error), job)
        assert (report["error"], report["exit_code"]) == ("not enough memory for this input", 1)
    assert "report it" in jobs.attempt(failing(RuntimeError("a shape is wrong")), job)["error"]


@pytest.mark.parametrize(("codes", "expected"), [([], 0), ([0, 0], 0), ([3, 3], 3), ([3, 4], 1), ([0, 3], 1)])
def test_exit_code(codes: list[int], expected: int) -> None:
    assert jobs.exit_code([{"exit_code": code} if code else {} for code in codes]) == expected


def test_no_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`codec encode "$UNSET"` must not encode everything here."""
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "photo.png")
    assert run("encode", "") == run("info", "") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
