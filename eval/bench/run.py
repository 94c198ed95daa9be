"""Rate-distortion runs: any of our codecs and of their peers on a folder of data, from whole files.

    codec bench photos -c walloc:16x,jpeg:444,avif --out results
    table = codec.eval.rate_distortion("photos", "walloc:16x,jpeg:444,avif", out="results")

Rows are kept as they come (rows.py), so that an interrupted run goes on where it stopped, and a second run with one
more codec measures that codec only. Items come in the outer loop, codecs in the inner one: what disturbs the machine
for a while disturbs all codecs alike.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import platform
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...codecs.base.codec import threads
from ...errors import CodecError, UsageError
from ...files import cpu_count, end_with_parent
from .. import peers
from ..metrics import DEFAULT, METRICS
from ..metrics import metric as find_metric
from ..output import jsonable, write_json
from ..report.html import write_report
from ..report.plots import rd_plots
from ..reproduce import published
from ..reproduce.published import PublishedSeries
from .contract import Family, Medium, Metric, Peer, Value
from .crops import equal_rate_crops, equal_rate_sounds
from .items import Item, Skipped, find_items, guess_medium, n_values, printable, raw_bytes, seconds_of, shape_of
from .measure import explain, measure
from .rows import Failure, Row, RowFile, Table
from .specs import Curve, Point, parse

__all__ = [
    "RunProgress",
    "anchors_of",
    "check_families",
    "curves_of",
    "default_codecs",
    "jsonable",
    "machine_name",
    "metrics_of",
    "one_medium",
    "rate_distortion",
    "ready_peer",
    "write_results",
]

RunProgress = Callable[[int, int, str], None]  # points done, points in all, and what was last


def rate_distortion(
    data: str | os.PathLike[str],
    codecs: str | Sequence[str] | None = None,
    *,
    metrics: str | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    medium: Medium | None = None,
    repeat: int = 3,
    jobs: int = 1,
    n_threads: int | None = None,
    again: bool = False,
    max_frames: int | None = None,
    progress: RunProgress | None = None,
    families: Mapping[str, Family] | None = None,
) -> Table:
    """Measures codecs on every item of a file or folder.

    codecs: a codec string (specs.py), or several; None: our codecs of the medium and its usual anchors. metrics:
    names, of those in `metrics/`, "all" for all that can run here; None: the medium's default ones. out: a folder
    that keeps the rows (`rows.csv`), and is gone on with; None keeps nothing. again: measures what is there
    already, too. n_threads: for each codec that can be told; None: the cores divided by `jobs`. families: the codecs
    that strings may name, in place of all there are; with one job only, since they don't travel to other processes.
    What can't be read or coded is in the table's `skipped` and `failed`.

    Raises UsageError for what can't be run as asked: an unknown or missing codec or metric, codecs of several media.
    """
    if codecs is None:
        codecs = default_codecs(medium or guess_medium(data))
    codecs = codecs if isinstance(codecs, str) else ",".join(codecs)
    if families is not None and jobs != 1:
        raise UsageError(f"{jobs} jobs with codecs of one's own: expected 1")
    curves = curves_of(codecs, families)
    kind = one_medium(curves, medium)
    check_families(curves)
    chosen = metrics_of(kind, [metrics] if isinstance(metrics, str) else metrics)
    if n_threads is None:
        n_threads = max(1, cpu_count() // max(1, jobs))
    _check_numbers(repeat=repeat, jobs=jobs, threads=n_threads, frames=max_frames)
    listed = find_items(data, kind, max_frames, leave_out=out)
    run = _Run(curves, tuple(m.name for m in chosen), kind, repeat, jobs, n_threads, machine_name())
    _try_settings(run)  # a setting that no item can be coded with is said at once

    with contextlib.ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _check_folder(folder)
        file = stack.enter_context(RowFile(folder / "rows.csv", run.metrics))
        rows, skipped, failed = _work_off(run, listed.items, file, again, progress)

    unreadable = {item.name for item in skipped}
    sources = tuple(item for item in listed.items if item.name not in unreadable)
    order = {item.name: index for index, item in enumerate(sources)}
    rows.sort(key=lambda row: order.get(row.item, -1))
    return Table(
        medium=kind,
        curves=curves,
        metrics=chosen,
        rows=tuple(rows),
        items=tuple(item.name for item in sources),
        sources=sources,
        skipped=(*listed.skipped, *skipped),
        failed=tuple(failed),
        settings={
            "data": {"name": printable(Path(data).resolve().name)},
            "codecs": codecs,
            "machine": _machine(),
            "threads": n_threads,
            "jobs": max((row.jobs for row in rows), default=jobs),
            "repeat": repeat,
            "versions": _versions(curves, chosen),
        },
    )


def curves_of(codecs: str, families: Mapping[str, Family] | None = None) -> tuple[Curve, ...]:
    """The curves of a codec string, with the codecs there are, or with these."""
    return parse(codecs, peers.families() if families is None else families)


def default_codecs(medium: Medium) -> str:
    """Ours of a medium, and those of its usual anchors that can run here."""
    families = peers.families()
    ours = [name for name, family in families.items() if family.medium == medium and peers.is_ours(family)]
    anchors = [part for part in peers.ANCHORS[medium].split(",") if not families[part.split(":")[0]].missing()]
    return ",".join([*ours, *anchors])


def anchors_of(run: Sequence[Curve], names: Sequence[str] | None = None) -> list[Curve | PublishedSeries]:
    """The anchors that BD-rates are taken against: curves of the run by label or codec name, published series by name.

    None: every lossy peer with several points if one of our codecs is in the run, else the first curve of several
    points.
    """
    if names is None:
        several = [curve for curve in run if len(curve.points) > 1 and not curve.family.lossless]
        other = [curve for curve in several if not peers.is_ours(curve.family)]
        return [*other] if any(peers.is_ours(curve.family) for curve in run) else [*several[:1]]
    out: list[Curve | PublishedSeries] = []
    for name in names:
        fitting = [curve for curve in run if name in (curve.label, curve.family.name)]
        if fitting:
            out += fitting
        elif name in published.names():
            out.append(published.series(name))
        else:
            known = ", ".join(curve.label for curve in run)
            raise UsageError(f"no anchor {name!r}: the run has {known}; published series are, for example, vtm-18.0")
    return out


# ---- what is asked for


def check_families(curves: Sequence[Curve]) -> None:
    """UsageError for a codec that can't run here, with what to install."""
    for family in {curve.family.name: curve.family for curve in curves}.values():
        why = family.missing()
        if why:
            raise UsageError(f"{family.name} can't run here: {why}")


def one_medium(curves: Sequence[Curve], medium: Medium | None) -> Medium:
    """The medium of all curves, which is `medium` if that is named. UsageError if there are several."""
    kinds: set[Medium] = {curve.family.medium for curve in curves}
    if medium is not None:
        kinds.add(medium)
    if len(kinds) != 1:
        raise UsageError(f"codecs for {' and '.join(sorted(kinds))} can't be compared; name codecs of one medium")
    [kind] = kinds
    return kind


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UsageError(f"{name} {number}: expected at least 1")


def _machine() -> dict[str, Any]:
    return {
        "cpu": machine_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.system(),
    }


def _versions(curves: Sequence[Curve], metrics: Sequence[Metric]) -> dict[str, str]:
    """Versions of all libraries that do the work, by name."""
    versions: dict[str, str] = {}
    for family in [curve.family for curve in curves]:
        versions |= family.versions()
    for metric in metrics:
        versions |= metric.versions()
    return dict(sorted(versions.items()))


# ---- the work


@dataclass(frozen=True)
class _Run:
    """The part of a run that a worker has to know. It goes to other processes, so families travel by name, in specs."""

    curves: tuple[Curve, ...]
    metrics: tuple[str, ...]
    medium: Medium
    repeat: int
    jobs: int
    threads: int
    machine: str
    own: dict[str, Peer] = field(default_factory=dict)  # codecs that the registry doesn't know, by full codec string

    def peer(self, point: Point) -> Peer:
        """A codec with a point's settings, kept for the next item."""
        if peers.families().get(point.family.name) is point.family:
            return ready_peer(point.spec, self.threads)
        if point.spec not in self.own:
            self.own[point.spec] = point.family.make(point.settings, self.threads)
        return self.own[point.spec]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "curves": tuple(_full_spec(curve) for curve in self.curves)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        families = peers.families()
        curves = tuple(parse(text, families)[0] for text in state["curves"])
        self.__dict__.update({**state, "curves": curves})


def _full_spec(curve: Curve) -> str:
    return ",".join(point.spec for point in curve.points)


def metrics_of(medium: Medium, names: Sequence[str] | None) -> tuple[Metric, ...]:
    """The metrics by name; "all" are all that can run here. UsageError for one that can't."""
    if names is not None and list(names) == ["all"]:
        return tuple(metric for (kind, _), metric in METRICS.items() if kind == medium and not metric.missing())
    chosen = [find_metric(medium, name) for name in (DEFAULT[medium] if names is None else dict.fromkeys(names))]
    for metric in chosen:
        why = metric.missing()
        if why:
            raise UsageError(f"metric {metric.name} can't run here: {why}")
    return tuple(chosen)


@functools.lru_cache(maxsize=256)
def ready_peer(spec: str, n_threads: int) -> Peer:
    """A codec with the settings of a full codec string, kept for the next item."""
    [curve] = parse(spec, peers.families())
    return curve.family.make(curve.points[0].settings, n_threads)


def _try_settings(run: _Run) -> None:
    for curve in run.curves:
        for point in curve.points:
            run.peer(point)


def _version(family: Family) -> str:
    return "; ".join(f"{name} {version}" for name, version in family.versions().items())


def _work_off(
    run: _Run, items: Sequence[Item], file: RowFile, again: bool, progress: RunProgress | None
) -> tuple[list[Row], list[Skipped], list[Failure]]:
    rows: list[Row] = []
    skipped: list[Skipped] = []
    failed: list[Failure] = []
    todo: list[tuple[Item, int, list[int]]] = []  # item, curve, points that aren't there yet
    versions = [_version(curve.family) for curve in run.curves]
    total = sum(len(curve.points) for curve in run.curves) * len(items)
    for item in items:
        for index, curve in enumerate(run.curves):
            left = []
            for number, point in enumerate(curve.points):
                key = (point.spec, item.name, item.digest, versions[index], run.machine, str(run.threads))
                row = None if again else file.find(key, run.metrics, run.jobs)
                if row is None:
                    left.append(number)
                else:
                    rows.append(row)
            if left:
                todo.append((item, index, left))
    done = len(rows)
    if progress is not None and done:
        progress(done, total, f"{done} rows are there already")
    unreadable: set[str] = set()

    def take(result: Row | Failure | Skipped) -> None:
        nonlocal done
        if isinstance(result, Row):
            file.append(result)
            rows.append(result)
            last = f"{result.item} {result.spec}"
        elif isinstance(result, Failure):
            failed.append(result)
            last = f"{result.item} {result.spec}: {result.reason}"
        else:
            if result.name in unreadable:
                return
            unreadable.add(result.name)
            skipped.append(result)
            last = f"{result.name}: {result.reason}"
        done += 1
        if progress is not None:
            progress(done, total, last)

    if run.jobs == 1:
        with threads(run.threads):
            for item, curve, left in todo:
                if item.name not in unreadable:
                    for result in _measure(run, item, curve, left, versions[curve]):
                        take(result)
        _loaded.cache_clear()
    else:
        _in_processes(run, todo, versions, take)
    return rows, skipped, failed


def _in_processes(
    run: _Run,
    todo: Sequence[tuple[Item, int, list[int]]],
    versions: Sequence[str],
    take: Callable[[Row | Failure | Skipped], None],
) -> None:
    """Fresh processes, not forks: a fork of a process with torch's threads may hang. A codec that takes its process
    down is a failure of that codec on that item; what was going on beside it is done again, one at a time."""
    waiting = deque((item, curve, [number]) for item, curve, left in todo for number in left)
    alone: deque[tuple[Item, int, list[int]]] = deque()  # one of these killed a worker
    while waiting or alone:
        suspects = bool(alone)
        queue = alone if suspects else waiting
        with _pool(1 if suspects else run.jobs, run.threads) as pool:
            going: dict[Future[list[Row | Failure | Skipped]], tuple[Item, int, list[int]]] = {}
            try:
                while queue or going:
                    while queue and len(going) < (1 if suspects else 2 * run.jobs):
                        task = queue.popleft()
                        item, curve, left = task
                        going[pool.submit(_measure_all, run, item, curve, left, versions[curve])] = task
                    for job in wait(going, return_when=FIRST_COMPLETED).done:
                        results = job.result()
                        del going[job]
                        for result in results:
                            take(result)
            except BrokenProcessPool:
                if suspects:
                    for item, curve, left in going.values():
                        spec = run.curves[curve].points[left[0]].spec
                        take(Failure(item.name, spec, "the process that ran this codec died"))
                else:
                    alone.extend(going.values())
            except BaseException:  # interrupted: what is finished is kept, the rest isn't waited for
                for job in going:
                    if job.done() and not job.cancelled() and job.exception() is None:
                        with contextlib.suppress(CodecError):
                            for result in job.result():
                                take(result)
                raise


@contextlib.contextmanager
def _pool(processes: int, n_threads: int) -> Iterator[ProcessPoolExecutor]:
    """Workers that are ended, not waited for, when something goes wrong."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _start_worker, (n_threads, os.getpid()))
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        workers = list(pool._processes.values())  # no public way before Python 3.14
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start_worker(n_threads: int, parent: int) -> None:
    import signal

    import torch

    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    torch.set_num_threads(n_threads)


def _measure_all(
    run: _Run, item: Item, curve: int, points: Sequence[int], version: str
) -> list[Row | Failure | Skipped]:
    return list(_measure(run, item, curve, points, version))


@functools.lru_cache(maxsize=2)
def _loaded(item: Item) -> Value:
    return item.load()


def _measure(
    run: _Run, item: Item, curve: int, points: Sequence[int], version: str
) -> Iterator[Row | Failure | Skipped]:
    """Rows of one item under some points of one curve; never raises for what an item or a codec does."""
    try:
        value = _loaded(item)
    except Exception as error:  # whatever a library says of a damaged file: the others go on
        yield Skipped(item.name, explain(error).removeprefix(f"{item.path}: "))
        return
    chosen = [find_metric(run.medium, name) for name in run.metrics]
    family = run.curves[curve].family
    label = run.curves[curve].label
    for number in points:
        point = run.curves[curve].points[number]
        try:
            measured = measure(run.peer(point), value, chosen, run.repeat, family.lossless)
        except Exception as error:
            yield Failure(item.name, point.spec, explain(error))
            continue
        count, seconds = n_values(value, run.medium), seconds_of(value)
        rate = 8 * measured.n_bytes / (seconds * 1000 if run.medium == "audio" and seconds else count)
        yield Row(
            codec=label,
            setting="" if point.setting is None else str(point.setting),
            spec=point.spec,
            version=version,
            item=item.name,
            digest=item.digest,
            shape="x".join(map(str, shape_of(value))),
            n_values=count,
            duration=seconds,
            bytes=measured.n_bytes,
            rate=rate,
            ratio=raw_bytes(value) / max(1, measured.n_bytes),
            encode_seconds=measured.encode_seconds,
            decode_seconds=measured.decode_seconds,
            encode_cpu=measured.encode_cpu,
            decode_cpu=measured.decode_cpu,
            encode_peak=measured.encode_peak,
            decode_peak=measured.decode_peak,
            encode_runs=measured.encode_runs,
            decode_runs=measured.decode_runs,
            threads=run.threads,
            jobs=run.jobs,
            machine=run.machine,
            metrics=measured.values,
        )


def machine_name() -> str:
    """The processor's name, as the system gives it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _check_folder(folder: Path) -> None:
    """A folder of ours, or a new one: nothing of the user's is in the way."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "rows.csv").exists():
        raise UsageError(f"--out {folder} holds other things, and no rows of an earlier run: name a new folder")


# ---- what is written


def write_results(
    table: Table,
    out: str | os.PathLike[str],
    *,
    command: str,
    anchors: Sequence[Curve | PublishedSeries] = (),
    references: Sequence[PublishedSeries] = (),
    window: tuple[float, float] | None = None,
    crops: int = 3,
) -> dict[str, Any]:
    """Writes summary.json, curves/*.json (the form CompressAI's plotting tools read), plots and report.html; returns
    the summary. window: of the first metric, for BD. crops: how many pictures or sounds the report shows a part of.
    """
    out = Path(out)
    summary = {"command": command, **table.summary(anchors, references, window)}
    write_json(out / "summary.json", summary)
    (out / "curves").mkdir(parents=True, exist_ok=True)
    for old in (out / "curves").glob("*.json"):  # of an earlier run with other codecs
        old.unlink()
    for label, curve in table.compressai():
        write_json(out / "curves" / (label.replace(":", "-").replace("=", "-").replace("/", "-") + ".json"), curve)
    rd_plots(summary, out)
    crop_sets = equal_rate_crops(table, crops) if table.medium == "image" and crops else []
    sounds = equal_rate_sounds(table, crops) if table.medium == "audio" and crops else []
    write_report(summary, crop_sets, out / "report.html", sounds)
    return summary
