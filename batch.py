"""Many files in, many files out: what the command line needs around a codec.

Everything that can be refused is refused by `plan`, before a byte is written. A file appears under its own name only
when it is whole: it is written under a temporary name in the same folder, then renamed. Nothing here knows a codec.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .errors import CodecError, MediaError, UsageError

STDIO = "-"
MAX_INPUT_BYTES = 1 << 30  # of one input; a device or an endless pipe ends here instead of in swap

Report = dict[str, Any]  # one JSON object: "input", "status" ("done", "skipped", "failed"), and what the command adds


class Job(NamedTuple):
    source: str  # path, or "-" for stdin
    target: str | None = None  # path, "-" for stdout, None for commands that write no file
    temporary: str = ""  # where the target is written until it is whole
    replace: bool = False  # may take the place of an existing file
    skip: bool = False  # the target is there already, and the user said to keep it


# --- which inputs, which outputs ------------------------------------------------------------------------------------


def expand(
    inputs: Sequence[str], accepts: Callable[[Path], bool], whole: Callable[[Path], bool] = lambda folder: False
) -> list[tuple[str, Path]]:
    """Files behind paths, folders, globs and "-": pairs of the path and its place in the output tree.

    accepts says which files of a folder or glob `**` are meant; a file given by name is always meant. whole: which
    folders given by name are one input each.
    Raises UsageError when a folder or glob holds none. A missing file is left for the job to report.
    """
    found: dict[str, tuple[str, Path]] = {}
    for text in inputs:
        if text == STDIO:
            if len(inputs) > 1:
                raise UsageError("'-' (stdin) can't be mixed with other inputs: give it alone")
            return [(STDIO, Path(STDIO))]
        if os.path.isdir(text) and whole(Path(text)):
            folder = Path(text) if Path(text).name not in ("", "..") else Path(text).resolve()
            base, paths = folder.parent, [folder]
        elif os.path.isdir(text):
            base, paths = Path(text), [p for p in _walk(Path(text)) if accepts(p)]
        elif glob.has_magic(text) and not os.path.exists(text):
            base = _fixed_part(text)
            paths = sorted(Path(p) for p in glob.iglob(text, recursive=True) if os.path.isfile(p))
            if "**" in text:
                paths = [p for p in paths if accepts(p)]
        else:
            base, paths = Path(text).parent, [Path(text)]
        if not paths:
            raise UsageError(f"{text}: no file here that this command takes")
        for path in paths:
            found.setdefault(os.path.realpath(path), (str(path), path.relative_to(base)))
    return list(found.values())


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
    accepts: Callable[[Path], bool],
    rename: Callable[[Path], Path],
    force: bool = False,
    skip_existing: bool = False,
    whole: Callable[[Path], bool] = lambda folder: False,
) -> list[Job]:
    """One job per input file, or UsageError with nothing written yet.

    rename gives the output's name from the input's. output: a file for one input, a folder for several (the tree below
    each given folder is kept), "-" for stdout; without it each output lies beside its input.
    """
    files = expand(inputs, accepts, whole)
    walked = any(os.path.isdir(i) and not whole(Path(i)) for i in inputs)
    if files[0][0] == STDIO and output is None:
        output = STDIO
    if output == STDIO:
        if len(files) > 1 or walked:
            raise UsageError(f"'-o -' (stdout) holds one output, and there are {len(files)} inputs: name a folder")
        return [Job(files[0][0], STDIO)]

    folder = None
    if output is not None:
        separators = tuple(filter(None, (os.sep, os.altsep)))
        several = len(files) > 1 or walked
        if several and os.path.exists(output) and not os.path.isdir(output):
            raise UsageError(f"-o {output} is a file, and the outputs of {len(files)} inputs need a folder")
        if several or output.endswith(separators) or os.path.isdir(output):
            if files[0][0] == STDIO:
                raise UsageError(f"-o {output} is a folder; what comes from stdin has no name: give -o a file name")
            folder = Path(output)

    targets: list[Path] = []
    for source, place in files:
        if output is None:
            targets.append(rename(Path(source)))
        elif folder is None:
            targets.append(Path(output))
        else:
            targets.append(folder / rename(place))
    _refuse_collisions([source for source, _ in files], targets)

    existing = [t for t in targets if t.exists()]
    folders = [t for t in existing if t.is_dir()]
    if folders:
        raise UsageError(f"{folders[0]} is a folder: give -o another name")
    if existing and not force and not skip_existing:
        names = ", ".join(str(t) for t in existing[:3]) + (", ..." if len(existing) > 3 else "")
        there = "the output exists already" if len(targets) == 1 else f"{len(existing)} of {len(targets)} outputs exist"
        raise UsageError(f"{there}: {names}; -o names another place, --force replaces, --skip-existing keeps")
    jobs = []
    for index, ((source, _), target) in enumerate(zip(files, targets, strict=True)):
        jobs.append(job_of(source, target, index, force, skip_existing and target.exists()))
    return jobs


def job_of(source: str, target: Path, index: int = 0, replace: bool = False, skip: bool = False) -> Job:
    """index: makes the temporary name one of its own among the jobs of this process."""
    real = Path(os.path.realpath(target))  # through a link, not over it
    temporary = real.with_name(f".{real.name[:80]}.{os.getpid()}-{index}.part")
    return Job(source, str(target), str(temporary), replace, skip)


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


# --- bytes in, bytes out --------------------------------------------------------------------------------------------


def read_bytes(source: str, limit: int = MAX_INPUT_BYTES) -> bytes:
    """The whole input, at most `limit` bytes: more is MediaError."""
    if source == STDIO:
        return _read_bounded(sys.stdin.buffer, limit, "stdin")
    with open(source, "rb") as file:
        return _read_bounded(file, limit, source)


def _read_bounded(file: BinaryIO, limit: int, name: str) -> bytes:
    parts, size = [], 0
    while part := file.read(min(1 << 24, limit + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise MediaError(f"{name} has more than {limit} bytes, the most that one input may have: split it")
    return b"".join(parts)


def write_bytes(job: Job, data: bytes) -> None:
    """Put data at job.target: whole or not at all, and never over an existing file unless job.replace."""
    if job.target == STDIO:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    assert job.target is not None
    target = Path(os.path.realpath(job.target))
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):  # a device or a pipe: it stays what it is
        if not job.replace:
            raise FileExistsError(17, "exists already (--force writes to it)", str(target))
        with open(target, "wb") as device:
            device.write(data)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(job.temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if job.replace:
            os.replace(job.temporary, target)
        else:
            _rename_new(job.temporary, target)
    finally:
        remove_temporary(job)


def write_with(job: Job, write: Callable[[str], None]) -> None:
    """What `write` puts into a file of the name that it is given, at job.target: whole or not at all. For what is too
    large to be held in memory; not for stdout."""
    if job.target == STDIO:
        raise UsageError("this output is written in place, which stdout can't be: name a file with -o")
    assert job.target is not None
    target = Path(os.path.realpath(job.target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(job.temporary)
        if job.replace:
            os.replace(job.temporary, target)
        else:
            _rename_new(job.temporary, target)
    finally:
        remove_temporary(job)


def write_folder(job: Job, files: Mapping[str, bytes]) -> None:
    """Put a folder with these files at job.target: whole or not at all, and never over anything that is there."""
    if job.target == STDIO:
        raise UsageError("the output is a folder of files, and stdout holds one: name a folder with -o")
    assert job.target is not None
    target, temporary = Path(os.path.realpath(job.target)), Path(job.temporary)
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        if target.exists():
            words = "exists already, and a folder is never replaced: name another with -o"
            raise FileExistsError(17, words, str(target))
        os.rename(temporary, target)
    finally:
        remove_temporary(job)


def _rename_new(temporary: str, target: Path) -> None:
    """Rename, but not over a file that appeared since the plan was made."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise FileExistsError(17, "appeared while this ran (--force replaces it)", str(target)) from None
    except OSError:  # a file system without links
        if target.exists():
            raise FileExistsError(17, "appeared while this ran (--force replaces it)", str(target)) from None
        os.replace(temporary, target)


def remove_temporary(job: Job) -> None:
    if not job.temporary:
        return
    if os.path.isdir(job.temporary):
        shutil.rmtree(job.temporary, ignore_errors=True)
    else:
        Path(job.temporary).unlink(missing_ok=True)


# --- running --------------------------------------------------------------------------------------------------------


def attempt(work: Callable[[Job], Report], job: Job) -> Report:
    """The report of one job; every exception but an interruption becomes a report of failure."""
    base = {"input": job.source, "output": job.target} if job.target is not None else {"input": job.source}
    if job.skip:
        return {**base, "status": "skipped"}
    try:
        return {**base, "status": "done", **work(job)}
    except CodecError as error:
        return {**base, "status": "failed", "error": str(error), "exit_code": error.exit_code}
    except BrokenPipeError:
        raise  # nobody reads our stdout any more
    except OSError as error:
        words = f"{error.strerror or error}" + (
            f": {error.filename}" if error.filename not in (None, job.source) else ""
        )
        return {**base, "status": "failed", "error": words, "exit_code": 1}
    except Exception as error:
        if _is_lack_of_memory(error):
            return {**base, "status": "failed", "error": "not enough memory for this input", "exit_code": 1}
        import traceback

        return {
            **base,
            "status": "failed",
            "error": f"a mistake of ours, please report it: {type(error).__name__}: {error}",
            "exit_code": 1,
            "traceback": traceback.format_exc(),
        }


def _is_lack_of_memory(error: Exception) -> bool:
    """Also as torch says it: a RuntimeError of its allocator, or its own OutOfMemoryError on a GPU."""
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

    threads = max(1, (os.cpu_count() or 1) // processes)
    # spawn: a fork of a process that has run OpenMP code can hang in its first parallel region
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker, initargs=(threads,))
    try:
        futures = {pool.submit(attempt, work, job): job for job in jobs}
        for future in as_completed(futures):
            job = futures.pop(future)
            try:
                yield future.result()
            except BrokenProcessPool:
                remove_temporary(job)
                words = "a worker process died, perhaps for lack of memory: try again with fewer --jobs"
                yield {"input": job.source, "output": job.target, "status": "failed", "error": words, "exit_code": 1}
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        for job in jobs:
            remove_temporary(job)
        raise
    pool.shutdown()


def _start_worker(threads: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


def exit_code(reports: Iterable[Report]) -> int:
    """0 when nothing failed; the reason's own code when every input failed for it; otherwise 1."""
    codes = [report.get("exit_code", 0) for report in reports]
    if not any(codes):
        return 0
    return codes[0] if len(set(codes)) == 1 else 1
