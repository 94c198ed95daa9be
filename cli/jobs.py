"""Many files in, many files out: what the command line needs around a codec.

`plan` (in plan.py) says which input becomes which output, `run` does the work, here or in workers, and `carry_out`
shows it. Nothing here knows a codec.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import CodecError, MediaError, UsageError
from ..files import STDIO, as_private_as, cpu_count, end_with_parent, name_of, owner, remove_temporaries, set_owner
from . import terminal
from .inputs import counted
from .plan import Job, Plan, plan, plan_reading

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

__all__ = ["Job", "Plan", "Report", "attempt", "carry_out", "exit_code", "plan", "plan_reading", "run"]

Report = dict[
    str, Any
]  # one JSON object: "input", "status" ("done", "planned", "skipped", "failed"), and what the command adds
Unfinished = Callable[[str], str]  # why an output that is there can't be what the job makes; "" if it may be


# ---- running


def attempt(work: Callable[[Job], Report], job: Job, unfinished: Unfinished | None = None) -> Report:
    """The report of one job; every exception but an interruption becomes a report of failure.

    unfinished: looks at the output of a job that is skipped because it is there.
    """
    base = {"input": job.source, "output": job.target} if job.target is not None else {"input": job.source}
    if job.refused:
        words = job.refused.removeprefix(f"{name_of(job.source)}: ")
        return {**base, "status": "failed", "error": words, "exit_code": UsageError.exit_code}
    try:
        if job.skip and job.target is not None:
            if unfinished is not None and (why := unfinished(job.target)):
                raise MediaError(f"{job.target} is there, but {why}: remove it, or use --force, not --skip-existing")
            return {**base, "status": "skipped"}
        with as_private_as(job.source):
            return {**base, "status": "done", **work(job)}
    except BrokenPipeError:
        raise  # nobody reads our stdout any more
    except Exception as error:
        return {**base, "status": "failed", **_failure(error, job)}


def _failure(error: Exception, job: Job) -> Report:
    """Why a job failed: "error" in words, "exit_code", and "traceback" if it was a mistake of ours."""
    if isinstance(error, OSError):  # an output that is there is one, too
        return {"error": _words_of(error, job), "exit_code": 1}
    if isinstance(error, CodecError):  # that names the input, as the line that shows it does
        words, name = str(error), f"{name_of(job.source)}: "
        while words.startswith(name):
            words = words.removeprefix(name)
        return {"error": words, "exit_code": error.exit_code}
    if _is_lack_of_memory(error):
        return {"error": "not enough memory for this input", "exit_code": 1}
    import traceback

    words = f"a mistake of ours, please report it: {type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"error": words, "exit_code": 1, "traceback": trace}


def _words_of(error: OSError, job: Job) -> str:
    where = f": {error.filename}" if error.filename not in (None, job.source) else ""
    words = f"{error.strerror or error}{where}"
    return f"{words}: give -o a shorter name" if error.errno == errno.ENAMETOOLONG and where else words


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch says it by a RuntimeError of its allocator, or its own error on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in words or "can't allocate memory" in words)


def run(
    work: Callable[[Job], Report], jobs: Sequence[Job], processes: int = 1, unfinished: Unfinished | None = None
) -> Generator[Report, None, None]:
    """Reports as the jobs end. With several processes, `work` must be picklable; order is then by completion."""
    processes = min(processes, sum(not (job.skip or job.refused) for job in jobs))
    if processes <= 1:
        for job in jobs:
            yield attempt(work, job, unfinished)
        return
    yield from (attempt(work, job, unfinished) for job in jobs if job.skip or job.refused)
    yield from _run_in_processes(work, (job for job in jobs if not (job.skip or job.refused)), processes)


def _run_in_processes(work: Callable[[Job], Report], jobs: Iterator[Job], processes: int) -> Iterator[Report]:
    """The reports of all jobs. A worker that dies takes no job with it but its own, and that only the second time.

    Nobody knows which of several jobs that were going on killed it, so each of them is tried again alone, and for a job
    that hadn't killed it that is the first time.
    """
    while True:
        lost: list[Job] = []
        yield from _in_pool(work, jobs, processes, processes + 1, lost)
        if not lost:
            return
        suspects, guilty = deque(lost), lost[:] if len(lost) == 1 else []
        while suspects:
            lost = []
            yield from _in_pool(work, _taken(suspects), 1, 1, lost)
            for job in lost:
                if job not in guilty:
                    guilty.append(job)
                    suspects.append(job)
                    continue
                words = "the worker process died twice at it, perhaps for lack of memory: try it alone, or fewer --jobs"
                yield {"input": job.source, "output": job.target, "status": "failed", "error": words, "exit_code": 1}


def _taken(queue: deque[Job]) -> Iterator[Job]:
    while queue:
        yield queue.popleft()


def _in_pool(
    work: Callable[[Job], Report], jobs: Iterator[Job], processes: int, at_once: int, lost: list[Job]
) -> Iterator[Report]:
    """The reports of jobs from a pool of workers, until no job is left, or a worker dies.

    at_once: how many jobs the pool is given at a time, so that a million wait in their plan alone. lost: gets the jobs
    that were going on when a worker died.
    """
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    going: dict[Future[Report], Job] = {}
    with _pool(processes) as pool:
        try:
            while True:
                while not lost and len(going) < at_once and (job := next(jobs, None)) is not None:
                    try:
                        going[pool.submit(attempt, work, job)] = job
                    except BrokenProcessPool:
                        lost.append(job)
                if not going:
                    break
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    job = going.pop(future)
                    try:
                        report = future.result()
                    except BrokenProcessPool:
                        lost.append(job)
                    else:
                        yield report
        except BaseException:
            lost += going.values()
            raise
        finally:
            if lost or going:
                _end(pool)
                for folder in {os.path.dirname(os.path.realpath(job.target)) for job in lost if job.target}:
                    remove_temporaries(folder)


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    settings = (os.getpid(), owner(), max(1, cpu_count() // processes), tuple(sys.warnoptions))
    # spawn: a fork of a process that has run OpenMP code can hang in its first parallel region
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker, initargs=settings)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end(pool: ProcessPoolExecutor) -> None:
    """End the workers of a pool now, and wait until they are gone."""
    workers = list((pool._processes or {}).values())  # no public way before Python 3.14
    for worker in workers:
        worker.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int, mark: str, threads: int, warn_options: Sequence[str]) -> None:
    import signal
    import warnings

    end_with_parent(parent)
    set_owner(mark)  # of the parent, which removes what we leave if we are killed
    for name in ("SIGINT", "SIGHUP", "SIGQUIT"):  # Ctrl-C and others reach the parent, which ends its workers
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if not warn_options:
        warnings.simplefilter("ignore")  # as in `command.main`
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


def _accepts_parts(args: argparse.Namespace) -> bool:
    """Whether the command line asks for what is left of a damaged input: --conceal does, too."""
    return bool(getattr(args, "partial", False) or getattr(args, "conceal", None))


def exit_code(reports: Iterable[Report]) -> int:
    """0 when nothing failed; the reason's own code when every input failed for it; otherwise 1."""
    codes = {report.get("exit_code", 0) for report in reports}
    if codes <= {0}:
        return 0
    return codes.pop() if len(codes) == 1 else 1


# ---- showing


def carry_out(
    args: argparse.Namespace,
    work: Callable[[Job], Report],
    planned: Plan,
    shown: Callable[[Report], str] | None = None,
    unfinished: Unfinished | None = None,
    hint: Callable[[Plan], str] | None = None,
) -> int:
    """Run all jobs and show their reports as they end, as a verb's options say; returns the exit code.

    args: `verb`, `json`, `quiet`, `debug`, `jobs`, the number of processes (0: one per core), and `partial` where an
    input that is taken in part may be what was wanted. shown: what people get of a report on stdout, for verbs whose
    data that is; others say a line on stderr. unfinished: see `attempt`. hint: what to do about files that are left
    out.
    """
    jobs = planned.jobs
    _refuse_stdout_twice(args, jobs)
    processes = (args.jobs or cpu_count()) if len(jobs) > 1 else 1
    # Lines of ours on a terminal's stdout would be wrapped and mixed with the bar.
    is_stdout_busy = (args.json or shown is not None) and sys.stdout.isatty()
    has_bar = len(jobs) > 1 and not args.quiet and not is_stdout_busy
    with terminal.progress(f"codec {args.verb}", wanted=has_bar, total=len(jobs)) as progress:
        screen = _Screen(args, progress, len(jobs), shown)
        with contextlib.closing(run(work, jobs, processes, unfinished)) as reports:
            for report in reports:
                screen.show(report)
        screen.end(planned, "" if hint is None else hint(planned))
    return screen.exit_code()


class _Screen:
    """The reports of a command as people and programs see them, and what is said when all have ended."""

    def __init__(
        self, args: argparse.Namespace, progress: terminal.Progress, n_jobs: int, shown: Callable[[Report], str] | None
    ) -> None:
        self._args, self._progress, self._n_jobs, self._shown = args, progress, n_jobs, shown
        self._statuses: Counter[str] = Counter()
        self._codes: Counter[int] = Counter()
        self._known_notes: set[str] = set()
        self._more_notes: Counter[str] = Counter()
        self._n_partial = 0
        self._words = not (args.quiet or shown is not None)
        # On a terminal both would be seen, and say the same.
        self._is_json_seen = args.json and sys.stdout.isatty()

    def show(self, report: Report) -> None:
        args = self._args
        trace, words = report.pop("traceback", ""), report.pop("words", ())
        has_failed = report["status"] == "failed"
        self._statuses[report["status"]] += 1
        if report.get("partial"):
            self._n_partial += 1
            if not _accepts_parts(args):
                report["exit_code"] = MediaError.exit_code
        self._codes[report.get("exit_code", 0)] += 1
        if args.json:
            print(terminal.json_line(report), flush=True)
        elif self._shown is not None and not has_failed:
            terminal.say(sys.stdout, self._shown(report) + ("\n" if self._n_jobs > 1 else ""))
        if has_failed or (self._words and not self._is_json_seen):
            self._progress.say(terminal.line(report, words, self._new_notes(report)))
        if has_failed and args.debug and trace:
            self._progress.say(trace)
        self._progress.update(sum(self._statuses.values()), self._n_jobs)

    def _new_notes(self, report: Report) -> Sequence[str]:
        """The notes that are shown: of many files, each kind once, with the first file that has it."""
        notes: Sequence[str] = report.get("notes", ())
        if self._n_jobs == 1:
            return notes
        fresh = [note for note in notes if kind_of(note) not in self._known_notes]
        self._more_notes.update(kind_of(note) for note in notes if note not in fresh)
        self._known_notes |= {kind_of(note) for note in fresh}
        return fresh

    def end(self, planned: Plan, hint: str) -> None:
        """Say how many failed, what else there was to note, and what was left out."""
        args, n_jobs, say = self._args, self._n_jobs, self._progress.say
        if n_more := sum(self._more_notes.values()):
            kinds = ", ".join(f"{n} {kind}" for kind, n in self._more_notes.most_common())
            where = "`codec info` shows those of a file" if args.verb == "encode" else "--json has them all"
            say(f"codec {args.verb}: {n_more} more note{'s' * (n_more != 1)}: {kinds} ({where})")
        if (n_failed := self._statuses["failed"]) and n_jobs > 1:
            say(f"codec {args.verb}: {n_failed} of {n_jobs} inputs failed")
        if self._n_partial and not _accepts_parts(args):
            which = "the input was" if n_jobs == 1 else f"{self._n_partial} of {n_jobs} inputs were"
            say(f"codec {args.verb}: {which} taken in part, which is exit status 1: --partial accepts that")
        if n_left := sum(planned.left_out.values()):
            if not args.quiet and not self._is_json_seen:
                say(f"codec {args.verb}: {left_out_words(planned)}{hint and f'{chr(10)}{hint}'}")
            if args.json:
                about = {
                    "status": "summary",
                    **self._statuses,
                    "left_out": dict(planned.left_out),
                    "n_left_out": n_left,
                }
                print(json.dumps(about), flush=True)

    def exit_code(self) -> int:
        return exit_code({"exit_code": code} for code in self._codes)


def kind_of(note: str) -> str:
    """The kind of a note, which stands before its words."""
    return note.partition(": ")[0]


def left_out_words(planned: Plan) -> str:
    """A count of what of folders isn't taken: "5 files left out: 2 .heic, 1 .jxl, 2 without suffix"."""
    counts = Counter(planned.left_out)
    shown = [counted(kind, n) for kind, n in counts.most_common(12)]
    if len(counts) > 12:
        shown.append(f"{sum(counts.values()) - sum(n for _, n in counts.most_common(12))} of other kinds")
    n_files = sum(counts.values())
    return f"{n_files} file{'s' * (n_files != 1)} left out: {', '.join(shown)}"


def _refuse_stdout_twice(args: argparse.Namespace, jobs: Sequence[Job]) -> None:
    if not any(job.target == STDIO for job in jobs[:1]):
        return
    if args.json:
        raise UsageError("--json and '-o -' both want stdout: give -o a file name")
    if sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("stdout is a terminal, and the output is binary: redirect it, or name a file with -o")
