"""Many files in, many files out: what the command line needs around a codec.

`plan` refuses everything that can be refused before a byte is written, `run` does the work, here or in workers, and
`carry_out` shows it. Nothing here knows a codec.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import CodecError, UsageError
from ..files import STDIO, name_of, remove_temporary, set_owner
from . import terminal

if TYPE_CHECKING:
    from ..media import Probe

Report = dict[str, Any]  # one JSON object: "input", "status" ("done", "skipped", "failed"), and what the command adds


class Job(NamedTuple):
    """One input and its output."""

    source: str  # path, or "-" for stdin
    target: str | None = None  # path, "-" for stdout, None for commands that write no file
    replace: bool = False  # may take the place of an existing file
    skip: bool = False  # the target is there already, and the user said to keep it
    codec: str = ""  # the name of the codec that encodes it
    probe: Probe | None = None  # what the input is, where that was looked at


# ---- which inputs, which outputs


Accepts = Callable[[Path], bool]  # which files, or which folders, are meant


def no_folder(folder: Path) -> bool:
    """Accepts no folder as one input: all are searched."""
    return False


def expand(inputs: Sequence[str], accepts: Accepts, is_one_input: Accepts = no_folder) -> list[tuple[str, Path]]:
    """The files behind paths, folders, globs and "-": pairs of the path and its place in the output tree.

    accepts says which files of a folder or glob `**` are meant; a file given by name is always meant. is_one_input says
    which folders given by name are one input each.
    Raises UsageError when a folder or glob holds none. A missing file is left for the job to report.
    """
    files: dict[str, tuple[str, Path]] = {}
    for text in inputs:
        if not text:
            raise UsageError("an input has no name: give a file, a folder, a quoted glob, or - for stdin")
        if text == STDIO:
            if len(inputs) > 1:
                raise UsageError("'-' (stdin) can't be mixed with other inputs: give it alone")
            return [(STDIO, Path(STDIO))]
        base, paths = _expand_path(text, accepts, is_one_input)
        if not paths:
            raise UsageError(f"{text}: no file here that this command takes")
        for path in paths:
            files.setdefault(os.path.realpath(path), (str(path), path.relative_to(base)))
    return list(files.values())


def _expand_path(text: str, accepts: Accepts, is_one_input: Accepts) -> tuple[Path, list[Path]]:
    """The root of the output tree of one input, and the files that it stands for."""
    path = Path(text)
    if path.is_dir() and is_one_input(path):
        folder = path if path.name not in ("", "..") else path.resolve()
        return folder.parent, [folder]
    if path.is_dir():
        return path, [file for file in _walk(path) if accepts(file)]
    if glob.has_magic(text) and not os.path.exists(text):
        matches = sorted(Path(match) for match in glob.iglob(text, recursive=True) if os.path.isfile(match))
        return _fixed_part(text), [file for file in matches if "**" not in text or accepts(file)]
    return path.parent, [path]


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(parent, f) for f in sorted(files) if not f.startswith("."))


def _fixed_part(pattern: str) -> Path:
    """The leading folders of a glob that hold no wildcard: the root of the tree that is kept."""
    parts: list[str] = []
    for part in Path(pattern).parent.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def plan(
    inputs: Sequence[str],
    output: str | None,
    accepts: Accepts,
    rename: Callable[[str, Path], Path],
    force: bool = False,
    skip_existing: bool = False,
    is_one_input: Accepts = no_folder,
) -> list[Job]:
    """One job per input file, or UsageError with nothing written yet.

    rename gives an output's name from its input and the input's place in the tree. output: a file for one input, a
    folder for several (the tree below each given folder is kept), "-" for stdout; without it each output lies beside
    its input.
    """
    files = expand(inputs, accepts, is_one_input)
    several = len(files) > 1 or any(os.path.isdir(text) and not is_one_input(Path(text)) for text in inputs)
    if files[0][0] == STDIO and output is None:
        output = STDIO
    if output == STDIO:
        if several:
            raise UsageError(f"'-o -' (stdout) holds one output, and there are {len(files)} inputs: name a folder")
        return [Job(files[0][0], STDIO)]

    sources = [source for source, _ in files]
    if output is None:
        targets = [rename(source, Path(source)) for source in sources]
    elif _is_folder(output, sources, several):
        targets = [Path(output) / rename(source, place) for source, place in files]
    else:
        targets = [Path(output)] * len(files)
    _refuse_collisions(sources, targets)
    _refuse_existing(targets, force or skip_existing)
    return [
        Job(source, str(target), force, skip_existing and target.exists())
        for source, target in zip(sources, targets, strict=True)
    ]


def _is_folder(output: str, sources: Sequence[str], several: bool) -> bool:
    """Whether the output names a folder for the outputs, not a file."""
    if several and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"-o {output} is a file, and the outputs of {len(sources)} inputs need a folder")
    separators = tuple(filter(None, (os.sep, os.altsep)))
    is_folder = several or output.endswith(separators) or os.path.isdir(output)
    if is_folder and sources[0] == STDIO:
        raise UsageError(f"-o {output} is a folder; what comes from stdin has no name: give -o a file name")
    return is_folder


def _refuse_existing(targets: Sequence[Path], allowed: bool) -> None:
    existing = [target for target in targets if target.exists()]
    folders = [target for target in existing if target.is_dir()]
    if folders:
        raise UsageError(f"{folders[0]} is a folder: give -o another name")
    if existing and not allowed:
        names = ", ".join(map(str, existing[:3])) + (", ..." if len(existing) > 3 else "")
        what = "the output exists already" if len(targets) == 1 else f"{len(existing)} of {len(targets)} outputs exist"
        raise UsageError(f"{what}: {names}; -o names another place, --force replaces, --skip-existing keeps")


def _refuse_collisions(sources: Sequence[str], targets: Sequence[Path]) -> None:
    by_target: dict[str, str] = {}
    for source, target in zip(sources, targets, strict=True):
        other = by_target.setdefault(os.path.realpath(target), source)
        if other != source:
            raise UsageError(f"{other} and {source} would both become {target}: encode them apart, or rename one")
    inputs = {_identity(s): s for s in sources if s != STDIO and os.path.exists(s)}
    for target in targets:
        if target.exists() and (source := inputs.get(_identity(target))):
            raise UsageError(f"{target} would be written over the input {source}: give -o another place")


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


# ---- running


def attempt(work: Callable[[Job], Report], job: Job) -> Report:
    """The report of one job; every exception but an interruption becomes a report of failure."""
    base = {"input": job.source, "output": job.target} if job.target is not None else {"input": job.source}
    if job.skip:
        return {**base, "status": "skipped"}
    try:
        return {**base, "status": "done", **work(job)}
    except BrokenPipeError:
        raise  # nobody reads our stdout any more
    except Exception as error:
        return {**base, "status": "failed", **_failure(error, job)}


def _failure(error: Exception, job: Job) -> Report:
    """Why a job failed: "error" in words, "exit_code", and "traceback" if it was a mistake of ours."""
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename not in (None, job.source) else ""
        return {"error": f"{error.strerror or error}{where}", "exit_code": 1}
    if isinstance(error, CodecError):  # that names the input, as the line that shows it does
        return {"error": str(error).removeprefix(f"{name_of(job.source)}: "), "exit_code": error.exit_code}
    if _is_lack_of_memory(error):
        return {"error": "not enough memory for this input", "exit_code": 1}
    import traceback

    words = f"a mistake of ours, please report it: {type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"error": words, "exit_code": 1, "traceback": trace}


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch says it by a RuntimeError of its allocator, or its own error on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in words or "can't allocate memory" in words)


def run(work: Callable[[Job], Report], jobs: Sequence[Job], processes: int = 1) -> Iterator[Report]:
    """Reports as the jobs end. With several processes, `work` must be picklable; order is then by completion."""
    processes = min(processes, sum(not job.skip for job in jobs))
    if processes <= 1:
        for job in jobs:
            yield attempt(work, job)
        return
    yield from (attempt(work, job) for job in jobs if job.skip)
    yield from _run_in_processes(work, [job for job in jobs if not job.skip], processes)


def _run_in_processes(work: Callable[[Job], Report], jobs: Sequence[Job], processes: int) -> Iterator[Report]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    settings = (os.getpid(), max(1, (os.cpu_count() or 1) // processes))
    # spawn: a fork of a process that has run OpenMP code can hang in its first parallel region
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker, initargs=settings)
    try:
        futures = {pool.submit(attempt, work, job): job for job in jobs}
        for future in as_completed(futures):
            job = futures.pop(future)
            try:
                yield future.result()
            except BrokenProcessPool:
                _clean_after(job)
                words = "a worker process died, perhaps for lack of memory: try again with fewer --jobs"
                yield {"input": job.source, "output": job.target, "status": "failed", "error": words, "exit_code": 1}
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        for job in jobs:
            _clean_after(job)
        raise
    pool.shutdown()


def _start_worker(parent: int, threads: int) -> None:
    import signal

    set_owner(parent)  # which removes what we leave if we are killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


def _clean_after(job: Job) -> None:
    if job.target is not None:
        remove_temporary(job.target)


def exit_code(reports: Iterable[Report]) -> int:
    """0 when nothing failed; the reason's own code when every input failed for it; otherwise 1."""
    codes = [report.get("exit_code", 0) for report in reports]
    if not any(codes):
        return 0
    return codes[0] if len(set(codes)) == 1 else 1


# ---- showing


def carry_out(
    args: argparse.Namespace,
    work: Callable[[Job], Report],
    jobs: Sequence[Job],
    shown: Callable[[Report], str] | None = None,
) -> int:
    """Run all jobs and show their reports as they end, as a verb's options say; returns the exit code.

    args: `verb`, `json`, `quiet`, `debug`, and `jobs`, the number of processes (0: one per core).
    shown: what people get of a report on stdout, for verbs whose data that is; others say a line on stderr.
    """
    _refuse_stdout_twice(args, jobs)
    reports = []
    processes = (args.jobs or os.cpu_count() or 1) if len(jobs) > 1 else 1
    # Lines of ours on a terminal's stdout would be wrapped and mixed with the bar.
    is_stdout_busy = (args.json or shown is not None) and sys.stdout.isatty()
    has_bar = len(jobs) > 1 and not args.quiet and not is_stdout_busy
    with terminal.progress(args.verb, wanted=has_bar, total=len(jobs)) as progress:
        for report in run(work, jobs, processes):
            reports.append(report)
            trace, words = report.pop("traceback", ""), report.pop("words", ())
            has_failed = report["status"] == "failed"
            if args.json:
                print(json.dumps(report), flush=True)
            elif shown is not None and report["status"] == "done":
                terminal.say(sys.stdout, shown(report) + ("\n" if len(jobs) > 1 else ""))
            if has_failed or not (args.quiet or shown is not None):
                progress.say(terminal.line(report, words))
            if has_failed and args.debug and trace:
                progress.say(trace)
            progress.update(len(reports), len(jobs))
        failures = sum(report["status"] == "failed" for report in reports)
        if failures and len(jobs) > 1:
            progress.say(f"codec {args.verb}: {failures} of {len(jobs)} inputs failed")
    return exit_code(reports)


def _refuse_stdout_twice(args: argparse.Namespace, jobs: Sequence[Job]) -> None:
    if not any(job.target == STDIO for job in jobs):
        return
    if args.json:
        raise UsageError("--json and '-o -' both want stdout: give -o a file name")
    if sys.stdout.isatty():
        raise UsageError("stdout is a terminal, and the output is binary: redirect it, or name a file with -o")
