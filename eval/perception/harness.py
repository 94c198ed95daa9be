"""Runs of machine perception: every sample through every codec and setting, as a file, and what a model says of it.

    results = codec.eval.perception.perceive("classification", "s2lic,walloc,jpeg,webp", out="seen")

A row is one sample under one setting: bytes of the whole file, similarity, counts of the task. Rows are appended to
rows.jsonl as they come, and a run that finds a row doesn't measure it again; what names a row is the task, the model,
the sample's values, the full codec string and the versions of what did the work.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...codecs.base.codec import threads
from ...errors import MediaError, StreamError, UsageError
from ...files import cpu_count
from ..bench.contract import Audio, Family, Metric, Peer, Value
from ..bench.items import Skipped, n_values, printable, seconds_of
from ..bench.measure import check_decoded, explain, materialise
from ..bench.rows import locked
from ..bench.run import check_families, curves_of, metrics_of, one_medium
from ..bench.specs import Curve, Point
from .align import aligned
from .contract import Predict, Sample, Task
from .registry import find_task

__all__ = ["ORIGINAL", "Failure", "Results", "Row", "perceive"]

ORIGINAL = "original"  # in place of a codec string
METRICS = {"image": ("psnr-rgb", "ms-ssim-rgb", "lpips-alex"), "audio": ("si-sdr",), "array": ("relative-l2",)}
FILE = "rows.jsonl"
MAX_PEAK = 4.0  # of decoded sound: decoders overshoot full scale by a little, another scale is 32768

Progress = Callable[[int, int, str], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One sample under one setting. spec: the full codec string, or `ORIGINAL`. bytes: of the whole file. n: pixels,
    samples or values. delay: of decoded sound, in samples, which was taken off. counts: of `Task.compare`."""

    task: str
    model: str
    sample: str
    digest: str
    codec: str
    spec: str
    version: str
    bytes: int
    n: int
    seconds: float | None
    delay: int
    metrics: Mapping[str, float]
    counts: Mapping[str, float]

    @property
    def key(self) -> tuple[str, ...]:
        return (self.task, self.model, self.sample, self.digest, self.spec, self.version)


@dataclass(frozen=True)
class Failure:
    """A sample that a codec or a model could not do."""

    sample: str
    spec: str
    reason: str


@dataclass(frozen=True)
class Results:
    """The results of a run. samples: names of those that all codecs could do, which scores are over; left_out: others.

    skipped: what lies in the folder and is no sample. curves: those with at least one sample. model: the one that ran;
    passed_over: reference models that could not be had here, with reasons.
    """

    task: Task
    model: str
    passed_over: Mapping[str, str]
    curves: tuple[Curve, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    samples: tuple[str, ...]
    failed: tuple[Failure, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def of(self, spec: str) -> list[Row]:
        """The rows of a codec string, in the order of `samples`."""
        named = {row.sample: row for row in self.rows if row.spec == spec}
        return [named[name] for name in self.samples]

    @property
    def left_out(self) -> list[str]:
        """Names of samples that some codec or the model could not do."""
        seen = {row.sample for row in self.rows} | {case.sample for case in self.failed}
        return sorted(seen - set(self.samples))


def perceive(
    task: str | Task,
    codecs: str,
    *,
    data: str | os.PathLike[str] | None = None,
    model: str | None = None,
    out: str | os.PathLike[str] | None = None,
    metrics: Sequence[str] | None = None,
    samples: int | None = None,
    n_threads: int | None = None,
    families: Mapping[str, Family] | None = None,
    progress: Progress | None = None,
    say: Say = lambda line: None,
) -> Results:
    """Measures what codecs do to the answers of a task's model.

    codecs: a codec string, as of `codec bench`. data: a folder of the user's; None: the task's own. model: one of the
    task's, or a path; None: the first that can be had here, and `say` gets a line for each that can't. metrics: names;
    None: the medium's usual ones. samples: at most so many. out: a folder that keeps rows; None keeps nothing.
    families: codecs that the string may name, in place of all there are.

    Raises UsageError for what can't be run as asked. What a codec can't do with a sample is in the results' `failed`.
    """
    chosen = find_task(task) if isinstance(task, str) else task
    curves = curves_of(codecs, families)
    one_medium(curves, chosen.medium)
    check_families(curves)
    measures = metrics_of(chosen.medium, METRICS.get(chosen.medium, ()) if metrics is None else metrics)
    if samples is not None and samples < 1:
        raise UsageError(f"samples {samples}: expected at least 1")
    peers = {point.spec: _peer(point, n_threads) for curve in curves for point in curve.points}
    predict, name, passed_over = _model(chosen, model)
    for other, reason in passed_over.items():
        say(f"{other} can't be had here, {name} is used in its place: {reason}")
    given = _Given(chosen, None if data is None else Path(data), samples)
    with ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kept = stack.enter_context(_Rows(folder))
        stack.enter_context(threads(n_threads or cpu_count()))
        run = _Run(chosen, name, predict, measures, kept, peers, n_threads or cpu_count())
        rows, failed = run.all(given, curves, progress)
    name = chosen.data if data is None else printable(Path(data).resolve().name)
    return _results(run, curves, given, rows, failed, passed_over, {"data": name, "codecs": codecs})


class _Given:
    """The samples of a run: their names are kept, their values come one by one."""

    def __init__(self, task: Task, data: Path | None, most: int | None) -> None:
        """UsageError for no folder, or no samples in it."""
        if data is not None and not data.is_dir():
            raise UsageError(f"{data}: no such folder")
        self._task, self._data = task, data
        self.names: list[str] = []
        self.skipped: list[Skipped] = []
        for sample in task.samples(data):
            if isinstance(sample, Skipped):
                self.skipped.append(sample)
                continue
            if len(self.names) == most:
                break
            self.names.append(sample.name)
        if not self.names:
            why = f"; the first reason: {self.skipped[0].name}: {self.skipped[0].reason}" if self.skipped else ""
            raise UsageError(f"{task.name} has no samples here{why}")
        if len({*self.names}) != len(self.names):
            raise UsageError(f"{task.name}: two samples have one name")

    def __iter__(self) -> Iterator[Sample]:
        wanted = {*self.names}
        for sample in self._task.samples(self._data):
            if not isinstance(sample, Skipped):
                if sample.name in wanted:
                    yield sample
                wanted.discard(sample.name)
                if not wanted:
                    return


def _results(
    run: _Run,
    curves: Sequence[Curve],
    given: _Given,
    rows: Sequence[Row],
    failed: Sequence[Failure],
    passed_over: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Results:
    done = {(row.spec, row.sample) for row in rows}
    measured = [c for c in curves if any((p.spec, name) in done for p in c.points for name in given.names)]
    specs = [ORIGINAL, *(point.spec for curve in measured for point in curve.points)]
    whole = tuple(name for name in given.names if all((spec, name) in done for spec in specs))
    if not whole or not measured:
        first = f"; the first reason: {failed[0].spec}: {failed[0].reason}" if failed else ""
        raise MediaError(f"no sample of {run.task.name} came through all codecs{first}")
    return Results(
        task=run.task,
        model=run.model,
        passed_over=passed_over,
        curves=tuple(measured),
        metrics=tuple(run.metrics),
        rows=tuple(rows),
        samples=whole,
        failed=tuple(failed),
        skipped=tuple(given.skipped),
        settings={**settings, "threads": run.n_threads, "versions": dict(run.task.versions())},
    )


def _peer(point: Point, n_threads: int | None) -> Peer:
    """The codec of a point: a setting that it can't have is said before anything is measured."""
    return point.family.make(point.settings, n_threads or cpu_count())


def _model(task: Task, wanted: str | None) -> tuple[Predict, str, dict[str, str]]:
    """The model that runs, its name, and why others before it don't."""
    if wanted is not None:
        return task.load(wanted), wanted if wanted in task.models else Path(wanted).name, {}
    passed_over: dict[str, str] = {}
    for name in task.models:
        try:
            return task.load(name), name, passed_over
        except UsageError as error:
            passed_over[name] = str(error)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over.items())
    raise UsageError(f"no model for {task.name}: {reasons}")


@dataclass(frozen=True)
class _Run:
    """A run's fixed parts."""

    task: Task
    model: str
    predict: Predict
    metrics: Sequence[Metric]
    kept: _Rows
    peers: Mapping[str, Peer]
    n_threads: int

    def all(
        self, samples: _Given, curves: Sequence[Curve], progress: Progress | None
    ) -> tuple[list[Row], list[Failure]]:
        rows: list[Row] = []
        failed: list[Failure] = []
        total = len(samples.names) * (1 + sum(len(curve.points) for curve in curves))
        for sample in samples:
            asked: list[Any] = []  # the answer for the original, once it is needed

            def original(sample: Sample = sample, asked: list[Any] = asked) -> Any:
                if not asked:
                    asked.append(self.predict(sample.value))
                return asked[0]

            points: list[tuple[str, Point | None]] = [(ORIGINAL, None)]
            points += [(curve.label, point) for curve in curves for point in curve.points]
            for label, point in points:
                result = self._one(sample, label, point, original)
                if isinstance(result, Row):
                    rows.append(result)
                else:
                    failed.append(result)
                if progress is not None:
                    spec = result.spec + ("" if isinstance(result, Row) else f": {result.reason}")
                    progress(len(rows) + len(failed), total, f"{sample.name} {spec}")
        return rows, failed

    def _one(self, sample: Sample, label: str, point: Point | None, original: Callable[[], Any]) -> Row | Failure:
        spec = ORIGINAL if point is None else point.spec
        version = self._version(point)
        key = (self.task.name, self.model, sample.name, sample.digest, spec, version)
        known = self.kept.find(key, [metric.name for metric in self.metrics])
        if known is not None:
            return known
        try:
            row = self._measured(sample, label, spec, version, point, original())
        except Exception as error:  # whatever a library says of a value: the others go on
            return Failure(sample.name, spec, explain(error))
        self.kept.append(row)
        return row

    def _measured(self, sample: Sample, label: str, spec: str, version: str, point: Point | None, original: Any) -> Row:
        value, n_bytes, delay, measured = sample.value, 0, 0, {}
        if point is not None:
            data, decoded = self._coded(point, value)
            n_bytes = len(data)
            if isinstance(value, Audio):
                assert isinstance(decoded, Audio)  # the family is one of sound
                decoded, delay = aligned(value, decoded)
            check_decoded(value, decoded, point.family.lossless)
            check_range(decoded)
            measured = {metric.name: float(metric.measure(value, decoded)) for metric in self.metrics}
            value = decoded
        answer = original if point is None else self.predict(value)
        counts = {name: float(n) for name, n in self.task.compare(answer, original, sample.label).items()}
        return Row(
            task=self.task.name,
            model=self.model,
            sample=sample.name,
            digest=sample.digest,
            codec=label,
            spec=spec,
            version=version,
            bytes=n_bytes,
            n=n_values(sample.value, self.task.medium),
            seconds=seconds_of(sample.value),
            delay=delay,
            metrics=measured,
            counts=counts,
        )

    def _coded(self, point: Point, value: Value) -> tuple[bytes, Value]:
        """The bytes of a file, and what comes back from nothing but these bytes."""
        peer = self.peers[point.spec]
        data = peer.encode(value)
        if not isinstance(data, bytes):
            raise StreamError(f"{point.family.name}: an encoder gave {type(data).__name__}; expected bytes")
        return data, materialise(peer.decode(data))

    def _version(self, point: Point | None) -> str:
        known = {**self.task.versions(), **({} if point is None else point.family.versions())}
        return "; ".join(f"{name} {version}" for name, version in sorted(known.items()))


def check_range(decoded: Value) -> None:
    """StreamError for decoded sound far beyond full scale, or values that are no numbers where they should be."""
    if isinstance(decoded, Audio) and decoded.samples.size:
        peak = float(np.abs(decoded.samples).max())
        if not peak <= MAX_PEAK:
            raise StreamError(f"decoded samples reach {peak:g}; expected full scale to be 1")


class _Rows:
    """Rows in a file of JSON lines, which one process at a time may write."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--out {folder} is a file; expected a folder")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).exists():
            raise UsageError(f"--out {folder} holds other things, and no rows of an earlier run: name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._lock = locked(folder)
        try:
            self._known = _read(self.path)
            self._file: IO[str] = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        os.close(self._lock)

    def find(self, key: tuple[str, ...], metrics: Iterable[str]) -> Row | None:
        row = self._known.get(key)
        if row is None or (row.spec != ORIGINAL and any(name not in row.metrics for name in metrics)):
            return None
        return row

    def append(self, row: Row) -> None:
        try:
            self._file.write(json.dumps(_plain(asdict(row)), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise UsageError(
                f"{self.path}: can't be written ({error.strerror or error}). The rows so far are kept: make room, and "
                "run the same command again"
            ) from None


def _plain(value: Any) -> Any:
    """JSON without numbers that it doesn't have: they become words."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read(path: Path) -> dict[tuple[str, ...], Row]:
    """The rows of a file. A line that a killed run left unfinished is cut off; MediaError for another file."""
    if not path.exists():
        return {}
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path}: can't be read as rows of an earlier run ({error}); name another --out") from None
    whole = text[: text.rfind("\n") + 1]
    rows: dict[tuple[str, ...], Row] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            raw: dict[str, Any] = json.loads(line)
            for part in ("metrics", "counts"):
                raw[part] = {name: float(number) for name, number in raw[part].items()}
            row = Row(**raw)
        except (ValueError, TypeError, KeyError, AttributeError):
            words = "not a row as this version writes them; name another --out"
            raise MediaError(f"{path}, line {number}: {words}") from None
        rows[row.key] = row
    if len(whole) != len(text):
        os.truncate(path, len(whole.encode()))
    return rows
