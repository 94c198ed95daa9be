"""Fuzzing for as long as you like: changed files of every codec, each read in a worker with limits of memory and time.

    python -P tests/fuzz/run.py --seconds 300 --seed 1
    python -P tests/fuzz/run.py --seconds 36000 --out data/fuzz --jobs 4      a night
    python -P tests/fuzz/run.py --again data/fuzz/raised-0123abcd.interp      one finding, in this process
    python -P tests/fuzz/run.py --only dualgs                                 files of one codec

A case is made of its seed ("1:42") and of the corpus: the golden files, tests/fuzz/corpus, and files of tiny.py. What
goes wrong (an exception that is no CodecError, a worker that dies or needs too long, another file that was touched) is
made as small as it can be and written into --out, with what it is beside it. Exit status 1 if there was anything.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

if __package__:
    from . import execute, structure, tiny
else:  # as a script
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import execute
    import structure
    import tiny

HERE = Path(__file__).resolve().parent
WALL_SECONDS = 90.0  # without an answer: the worker is ended
LONGEST = 20_000  # bytes of a file of the corpus
KEPT = 3  # findings of the same kind and place that are kept
TRIES = 60  # of making one smaller
READY = "ready"  # what a worker says when all is loaded


def corpus() -> tuple[list[str], list[bytes]]:
    """The names and bytes of the files that cases are made of; those with weights of their own (tiny.py) come last.

    Of the golden files those are left out that need a compiler (torchac) or seconds (circuit, which has smaller ones).
    """
    files = sorted([*(HERE.parent / "golden").iterdir(), *(HERE / "corpus").iterdir()])
    files = [file for file in files if file.suffix not in (".json", ".py", ".md") and "torchac" not in file.name]
    files = [file for file in files if file.suffix != ".circuit" or file.parent.name == "corpus"]
    files = [file for file in files if file.is_file() and file.stat().st_size <= LONGEST]
    made = tiny.files()
    names = [*(file.name for file in files), *(f"tiny-{name}" for name, _ in made)]
    return names, [*(file.read_bytes() for file in files), *(data for _, data in made)]


# ---- the worker


def work() -> None:
    """Carries out the cases that stdin names, files one a line, and answers with a line each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    with tempfile.TemporaryDirectory() as folder:
        target = execute.Target(Path(folder) / "case", [tiny.codec()])
        target.load(corpus()[1])  # before there is a fence
        print(READY, file=answers, flush=True)
        with execute.fenced():
            for line in sys.stdin:
                path, seed = json.loads(line)
                outcome = target.run(Path(path).read_bytes(), seed)
                print(json.dumps(outcome), file=answers, flush=True)


class Worker:
    """A worker process, started again whenever it is gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._file = tempfile.NamedTemporaryFile(prefix="case-", delete=False)  # noqa: SIM115
        self._file.close()

    def run(self, data: bytes, seed: str) -> execute.Outcome:
        """The outcome of one case: also "died" and "hangs"."""
        Path(self._file.name).write_bytes(data)
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            print(json.dumps([self._file.name, seed]), file=process.stdin, flush=True)
            ready, _, _ = select.select([process.stdout], [], [], WALL_SECONDS)
            line = process.stdout.readline() if ready else ""
        except BrokenPipeError:
            ready, line = [process.stdout], ""
        if line:
            return execute.Outcome(*json.loads(line))
        self.close()
        return execute.Outcome("died", f"exit status {process.returncode}") if ready else execute.Outcome("hangs")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-P", str(Path(__file__).resolve()), "--worker"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
            )
            assert self._process.stdout is not None
            if self._process.stdout.readline().strip() != READY:
                raise RuntimeError(f"the worker ends before its first case: {' '.join(command)}")
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def end(self) -> None:
        self.close()
        os.unlink(self._file.name)


# ---- findings


def smaller(case: structure.Case, seed: str, outcome: execute.Outcome, worker: Worker) -> bytes:
    """The smallest file found that ends the same way: with fewer changes, fewer chunks, shorter payloads."""

    def same(data: bytes) -> bool:
        again = worker.run(data, seed)
        return (again.kind, again.words.partition(": ")[0]) == (outcome.kind, outcome.words.partition(": ")[0])

    tries = 0
    index = 0
    while index < len(case.changes) and len(case.changes) > 1 and tries < TRIES:
        tries += 1
        if same(case.without(index).data()):
            case = case.without(index)
        else:
            index += 1
    best, candidates = case.data(), _shortened(case.data())
    while tries < TRIES and (candidate := next(candidates, None)) is not None:
        if len(candidate) >= len(best):
            continue
        tries += 1
        if same(candidate):
            best, candidates = candidate, _shortened(candidate)
    return best


def _shortened(data: bytes) -> Iterator[bytes]:
    """Files with less in them: without a chunk, or with half of one."""
    try:
        parts = structure.Parts.of(data)
    except Exception:  # not whole
        return
    for index in reversed(range(len(parts.chunks))):
        chunks = parts.chunks[:index] + parts.chunks[index + 1 :]
        yield replace(parts, chunks=chunks).sealed()
    for index, (tag, payload) in enumerate(parts.chunks):
        for keep in (len(payload) // 2, len(payload) // 8):
            chunks = [*parts.chunks[:index], (tag, payload[:keep]), *parts.chunks[index + 1 :]]
            yield replace(parts, chunks=chunks).sealed()


def keep(folder: Path, data: bytes, outcome: execute.Outcome, seed: str, about: str) -> Path:
    """Writes a finding, and beside it what it is. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{outcome.kind}-{hashlib.sha256(data).hexdigest()[:8]}.bin"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(f"{outcome.kind}: {outcome.words}\nseed {seed}, {about}\n")
    return path


# ---- the command


def fuzz(seconds: float, seed: str, out: Path, worker: Worker, only: str = "") -> Counter[str]:
    """Carries out cases for so long. Returns how many ended in which way. only: is in the names of files used."""
    names, files = zip(*(pair for pair in zip(*corpus(), strict=True) if only in pair[0]), strict=True)
    counts: Counter[str] = Counter()
    places: Counter[str] = Counter()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        key = f"{seed}:{number}"
        case = structure.Case.drawn(key, files)
        outcome = worker.run(case.data(), key)
        counts[outcome.kind] += 1
        if outcome.is_fault:
            place = f"{outcome.kind} {outcome.words.partition(': ')[0]}"
            places[place] += 1
            if places[place] <= KEPT:
                about = f"{names[case.base]}: {case.words()}"
                path = keep(out, smaller(case, key, outcome, worker), outcome, key, about)
                print(f"{path}: {outcome.kind}, {outcome.words} ({about}, seed {key})", flush=True)
        number += 1
    for place, times in places.most_common():
        print(f"{times} x {place}")
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", default=str(int(time.time())), help="the same seed gives the same cases")
    parser.add_argument("--out", type=Path, default=Path("data/fuzz"), help="folder for findings")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="is in the names of the files that are changed")
    parser.add_argument("--again", type=Path, help="a finding, to read again in this process")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        work()
        return 0
    if args.again is not None:
        with tempfile.TemporaryDirectory() as folder, execute.fenced():
            target = execute.Target(Path(folder) / "x", [tiny.codec()])
            outcomes = [target.run(args.again.read_bytes(), str(i)) for i in range(8)]
        print(*outcomes, sep="\n")
        return int(any(outcome.is_fault for outcome in outcomes))
    print(f"fuzzing for {args.seconds:.0f} s with --seed {args.seed}", flush=True)
    total = Counter[str]()
    if args.jobs <= 1:
        worker = Worker()
        try:
            total = fuzz(args.seconds, args.seed, args.out, worker, args.only)
        finally:
            worker.end()
    else:
        total = _in_processes(args)
    print(f"{sum(total.values())} cases: " + ", ".join(f"{n} {kind}" for kind, n in total.most_common()))
    return int(any(execute.Outcome(kind).is_fault for kind in total))


def _in_processes(args: Any) -> Counter[str]:
    """The same command in several processes, each with a seed of its own."""
    total = Counter[str]()
    command = [
        sys.executable,
        "-P",
        str(Path(__file__).resolve()),
        "--seconds",
        str(args.seconds),
        "--out",
        str(args.out),
        "--only",
        args.only,
    ]
    runs = [
        subprocess.Popen([*command, "--seed", f"{args.seed}-{index}"], stdout=subprocess.PIPE, text=True)
        for index in range(args.jobs)
    ]
    for run in runs:
        for line in cast("IO[str]", run.stdout):
            print(line, end="", flush=True)
            head, _, tail = line.partition(" cases: ")
            if head.isdecimal():
                total.update({kind: int(n) for n, _, kind in (part.strip().partition(" ") for part in tail.split(","))})
        run.wait()
    return total


if __name__ == "__main__":
    sys.exit(main())
