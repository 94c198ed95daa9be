"""Rows of measurements: kept as they come, read back, averaged to curves.

A row is one codec, one setting, one item. Rows are appended to a CSV file the moment they are there, and a run that
finds a row doesn't measure it again; what names a row is the full codec string, the item's name and content, the
versions of the libraries that did the work, the machine and the number of threads. A row that was timed while more
items were being worked on than now is measured again.

Means are of the items' metrics (the field's way: the PSNR of the mean error is up to half a decibel away from the mean
PSNR). The rate of pictures and videos is the mean of the items' rates, too; that of sound and arrays is all bits by all
seconds or values, because clips of a second and of a minute stand side by side there. Two curves are compared over the
items that both have at every point and for which the metric is a number; what is left out is said.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import io
import math
import os
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ...errors import MediaError, UsageError
from ..output import write_file
from ..peers import is_ours
from ..reproduce.published import PublishedSeries
from .bd import Delta, bd_delta
from .contract import Medium, Metric, OptionValue
from .items import Item, Skipped
from .specs import Curve, Point

__all__ = ["RATES", "Failure", "PointMean", "Row", "RowFile", "Table", "as_decibels", "in_units", "locked"]

# What a rate is called, by medium.
RATES: Mapping[Medium, tuple[str, str]] = {
    "image": ("bpp", "bits per pixel"),
    "video": ("bpp", "bits per pixel"),
    "audio": ("kbps", "kbit/s"),
    "array": ("bits_per_value", "bits per value"),
}


@dataclass(frozen=True)
class Row:
    """One codec with one setting on one item. bytes: of the whole file. rate: see RATES. ratio: raw size by file size.

    duration: seconds of sound or video. cpu: processor seconds. peak: MiB. runs: how many warm runs the median seconds
    are of; 0: the seconds are those of the first, cold run. jobs: how many items were being worked on at once; with
    more than one, seconds compare with nothing.
    """

    codec: str
    setting: str
    spec: str
    version: str
    item: str
    digest: str
    shape: str
    n_values: int
    bytes: int
    duration: float | None
    rate: float
    ratio: float
    encode_seconds: float
    decode_seconds: float
    encode_cpu: float
    decode_cpu: float
    encode_peak: float | None
    decode_peak: float | None
    encode_runs: int
    decode_runs: int
    threads: int
    jobs: int
    machine: str
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        return (self.spec, self.item, self.digest, self.version, self.machine, str(self.threads))


_FIXED = [item.name for item in fields(Row) if item.name != "metrics"]
_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("n_values", "bytes", "encode_runs", "decode_runs", "threads", "jobs"), int),
    **dict.fromkeys(
        (
            "duration",
            "rate",
            "ratio",
            *(f"{side}_{kind}" for side in ("encode", "decode") for kind in ("seconds", "cpu", "peak")),
        ),
        float,
    ),
}


@dataclass(frozen=True)
class Failure:
    """A codec that could not code an item."""

    item: str
    spec: str
    reason: str


class RowFile:
    """Rows in a CSV file, which one process at a time may write. `close` it, or use it in a `with` statement."""

    def __init__(self, path: Path, metrics: Sequence[str]) -> None:
        self.path, self._replaced = path, False
        self.rows: dict[tuple[str, ...], Row] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = locked(path.parent)
        try:
            known = self._read()
            self.columns = [*known, *(name for name in metrics if name not in known)]
            if known != self.columns or self._torn:
                self._rewrite()
            self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Rows that took the place of older ones do so in the file as well: nobody shall count an item twice."""
        try:
            with contextlib.suppress(OSError):  # what could not be written was said by `append`
                self._file.close()
            if self._replaced:
                self._rewrite()
        finally:
            os.close(self._lock)

    def find(self, key: tuple[str, ...], metrics: Iterable[str], jobs: int) -> Row | None:
        """The row of a key, if it has all these metrics and was timed with at most so many items at once."""
        row = self.rows.get(key)
        usable = row is not None and row.jobs <= jobs and all(name in row.metrics for name in metrics)
        return row if usable else None

    def append(self, row: Row) -> None:
        """Adds a row, in place of an older one of the same key. It is on its way to the disk when this returns."""
        try:
            self._file.write(_line(row, self.columns))
            self._file.flush()
        except OSError as error:
            raise MediaError(
                f"{self.path}: can't be written ({error.strerror or error}). The rows so far are kept: make room, and "
                "run the same command again"
            ) from None
        self._replaced |= row.key in self.rows
        self.rows[row.key] = row

    def _read(self) -> list[str]:
        """Reads the file; returns its metric columns. The line that a killed run left unfinished is dropped."""
        self._torn = True
        try:
            with open(self.path, newline="", encoding="utf-8") as file:  # a name may hold a line end, quoted
                text = file.read()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise MediaError(
                f"{self.path}: can't be read as rows of an earlier run ({error}); name another --out"
            ) from None
        if not text:
            return []
        lines = list(csv.reader(io.StringIO(text, newline="")))
        columns = lines.pop(0)
        if columns[: len(_FIXED)] != _FIXED or len(set(columns)) != len(columns):
            raise MediaError(f"{self.path}: not a file of rows as this version writes them; name another --out")
        self._torn = not text.endswith("\n") or bool(lines and len(lines[-1]) < len(columns))
        if self._torn and lines:
            lines.pop()
        for number, line in enumerate(lines, 2):
            try:
                row = _row(dict(zip(columns, line, strict=True)), columns[len(_FIXED) :])
            except ValueError:
                raise MediaError(
                    f"{self.path}, line {number}: not a row; remove the line, or name another --out"
                ) from None
            self.rows[row.key] = row
        return columns[len(_FIXED) :]

    def _rewrite(self) -> None:
        lines = (_line(row, self.columns) for row in self.rows.values())
        write_file(self.path, _csv([*_FIXED, *self.columns]) + "".join(lines))


def locked(folder: Path) -> int:
    """A handle on the folder that nobody else holds until it is closed. UsageError if somebody does."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise UsageError(f"{folder}: another run is writing there; name another --out, or wait for it") from None
    return handle


def _line(row: Row, columns: Sequence[str]) -> str:
    values = [getattr(row, name) for name in _FIXED] + [row.metrics.get(name) for name in columns]
    return _csv([_cell(value) for value in values])


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # a spreadsheet runs a text that begins like this; ' keeps it a text


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}"
    return "" if value is None else f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _text(cell: str) -> str:
    """The text that a cell was made of."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _csv(values: Sequence[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


def _row(raw: Mapping[str, str], metrics: Sequence[str]) -> Row:
    values: dict[str, Any] = {}
    for name in _FIXED:
        text, kind = raw[name], _TYPES.get(name, str)
        values[name] = None if kind is float and text == "" else _text(text) if kind is str else kind(text)
    return Row(**values, metrics={name: float(raw[name]) for name in metrics if raw[name] != ""})


@dataclass(frozen=True)
class PointMean:
    """One codec with one setting over its items. rate: see RATES and the module's docstring. complete: has all items.

    metrics: None where the mean isn't defined on any item; metric_items: over how many items each mean is. Seconds and
    processor seconds are per item; mpx_s: megapixels a second, pictures and videos only; realtime: seconds of sound
    for each second of work, sound only; peak_mib: of the hungriest item. kbps: of videos.
    """

    setting: OptionValue | None
    spec: str
    items: int
    complete: bool
    rate: float
    ratio: float
    bytes: float
    metrics: Mapping[str, float | None]
    metric_items: Mapping[str, int]
    encode_seconds: float
    decode_seconds: float
    encode_cpu: float
    decode_cpu: float
    encode_runs: int
    decode_runs: int
    encode_mpx_s: float | None = None
    decode_mpx_s: float | None = None
    encode_realtime: float | None = None
    decode_realtime: float | None = None
    encode_peak_mib: float | None = None
    decode_peak_mib: float | None = None
    kbps: float | None = None

    def as_json(self, rate: str) -> dict[str, Any]:
        """A flat object: the rate under its name, metrics among the other numbers, None left out but for metrics."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {name: value for name, value in every.items() if value is not None or name == "setting"}
        del kept["rate"], kept["metrics"], kept["metric_items"]
        fewer = {name: count for name, count in self.metric_items.items() if count != self.items}
        return {**kept, rate: self.rate, **self.metrics, **({"metric_items": fewer} if fewer else {})}


@dataclass(frozen=True)
class Table:
    """The results of a run: rows, and what went wrong. settings: what the summary says about the run.

    items: names of what could be read; sources: the items themselves. Curves and metrics are given to the methods as
    objects or by label and name.
    """

    medium: Medium
    curves: tuple[Curve, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    items: tuple[str, ...]
    sources: tuple[Item, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: tuple[Failure, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def curve(self, label: str | Curve) -> Curve:
        """The curve of a label. UsageError says which there are."""
        for curve in self.curves:
            if label in (curve, curve.label):
                return curve
        labels = ", ".join(curve.label for curve in self.curves)
        raise UsageError(f"no curve {label!r} in the run: there are {labels}")

    def metric(self, name: str | Metric) -> Metric:
        """The metric of a name. UsageError says which there are."""
        for metric in self.metrics:
            if name in (metric, metric.name):
                return metric
        names = ", ".join(metric.name for metric in self.metrics)
        raise UsageError(f"no metric {name!r} in the run: there are {names}")

    def points(self, curve: Curve | str) -> list[PointMean]:
        """Means of every setting of a curve, in the order of the rate."""
        curve = self.curve(curve)
        usable = {metric.name: self.defined(metric, curve.family.lossless) for metric in self.metrics}
        rows = self._by_spec
        out = [self._point(point, rows[point.spec], usable) for point in curve.points if point.spec in rows]
        return sorted(out, key=lambda point: point.rate)

    @functools.cached_property
    def _by_spec(self) -> Mapping[str, Sequence[Row]]:
        by_spec: dict[str, list[Row]] = {}
        for row in self.rows:
            by_spec.setdefault(row.spec, []).append(row)
        return by_spec

    def defined(self, metric: Metric | str, lossless: bool = False) -> frozenset[str]:
        """Items that a mean of a metric is over: it is a number for every codec at every point, and a finite one for
        the lossy ones (a flat picture that JPEG keeps exactly would make every mean infinite). For a lossless codec:
        items for which it is a number."""
        name = self.metric(metric).name
        lossy = {point.spec for curve in self.curves if not curve.family.lossless for point in curve.points}
        out = set(self.items)
        for row in self.rows:
            value = row.metrics.get(name, math.nan)
            if math.isnan(value) or (not lossless and row.spec in lossy and math.isinf(value)):
                out.discard(row.item)
        return frozenset(out)

    def left_out(self) -> list[dict[str, str]]:
        """Items that are in no mean of a metric, and why."""
        out = []
        for metric in self.metrics:
            used = self.defined(metric)
            for name in self.items:
                rows = [row for row in self.rows if row.item == name]
                if name in used or not rows:
                    continue
                undefined = [row for row in rows if math.isnan(row.metrics.get(metric.name, math.nan))]
                exact = sorted({row.codec for row in rows if math.isinf(row.metrics.get(metric.name, 0.0))})
                size = f"for {rows[0].shape} values: {metric.about}" if undefined else ""
                reason = f"not defined {size}" if undefined else f"infinite: kept exactly by {', '.join(exact[:3])}"
                out.append({"metric": metric.name, "item": name, "reason": reason})
        return out

    def _point(self, point: Point, rows: Sequence[Row], usable: Mapping[str, frozenset[str]]) -> PointMean:
        mean = statistics.fmean
        sides: dict[str, Any] = {}
        for side in ("encode", "decode"):
            seconds = sum(getattr(row, f"{side}_seconds") for row in rows)
            sides[f"{side}_seconds"] = seconds / len(rows)
            sides[f"{side}_cpu"] = mean(getattr(row, f"{side}_cpu") for row in rows)
            sides[f"{side}_runs"] = min(getattr(row, f"{side}_runs") for row in rows)
            if self.medium in ("image", "video") and seconds:
                sides[f"{side}_mpx_s"] = sum(row.n_values for row in rows) / seconds / 1e6
            if self.medium == "audio" and seconds:
                sides[f"{side}_realtime"] = sum(row.duration or 0.0 for row in rows) / seconds
            peaks = [peak for row in rows if (peak := getattr(row, f"{side}_peak")) is not None]
            sides[f"{side}_peak_mib"] = max(peaks) if peaks else None
        values: dict[str, float | None] = {}
        counts: dict[str, int] = {}
        for metric in self.metrics:
            measured = [row.metrics[metric.name] for row in rows if row.item in usable[metric.name]]
            values[metric.name], counts[metric.name] = mean(measured) if measured else None, len(measured)
        return PointMean(
            setting=point.setting,
            spec=point.spec,
            items=len(rows),
            complete=len(rows) == len(self.items),
            rate=self._rate(rows),
            ratio=1 / mean(1 / row.ratio for row in rows),  # of the raw bits a value by the mean bits a value
            bytes=mean(row.bytes for row in rows),
            metrics=values,
            metric_items=counts,
            kbps=_kbps(rows) if self.medium == "video" else None,
            **sides,
        )

    def _rate(self, rows: Sequence[Row]) -> float:
        if self.medium == "audio":
            return _kbps(rows)
        if self.medium == "array":
            return 8 * sum(row.bytes for row in rows) / sum(row.n_values for row in rows)
        return statistics.fmean(row.rate for row in rows)

    def pairs(self, curve: Curve | str, metric: Metric | str, items: Collection[str]) -> list[tuple[float, float]]:
        """The points of a curve over items that all of them have: (rate, metric), the metric on the scale of BD."""
        curve, metric = self.curve(curve), self.metric(metric)
        out = []
        for point in curve.points:
            rows = [row for row in self._by_spec.get(point.spec, ()) if row.item in items]
            if rows:
                value = statistics.fmean(row.metrics[metric.name] for row in rows)
                out.append((self._rate(rows), as_decibels(metric, value)))
        return sorted(out)

    def whole_items(self, curve: Curve | str) -> frozenset[str]:
        """Items that every point of a curve has."""
        curve = self.curve(curve)
        sets = [{row.item for row in self._by_spec.get(point.spec, ())} for point in curve.points]
        return frozenset(set.intersection(*sets) if sets else ())

    def delta(
        self,
        curve: Curve | str,
        anchor: Curve | PublishedSeries | str,
        metric: Metric | str | None = None,
        window: tuple[float, float] | None = None,
    ) -> Delta:
        """BD-rate and BD-metric of a curve against another, or against a published series, over the items that both
        have. metric: None is the run's first. window: of the metric, on the scale of `as_decibels`."""
        curve, metric = self.curve(curve), self.metric(self.metrics[0] if metric is None else metric)
        items = self.defined(metric) & self.whole_items(curve)
        if isinstance(anchor, PublishedSeries):
            if len(items) != len(self.items):
                reason = f"{len(items)} of {len(self.items)} items can be compared, and the series is of all of them"
                return Delta(None, None, None, reason=reason)
            points = [(p["bpp"], as_decibels(metric, p[metric.name])) for p in anchor.points if metric.name in p]
            if not points:
                return Delta(None, None, None, reason=f"the series {anchor.name} has no {metric.name}")
        else:
            items &= self.whole_items(anchor)
            points = self.pairs(anchor, metric, items) if items else []
        if not items:
            return Delta(None, None, None, reason="there is no item that both have at all their points")
        delta = bd_delta(points, self.pairs(curve, metric, items), window)
        return dataclasses.replace(delta, items=len(items))

    def summary(
        self,
        anchors: Sequence[Curve | PublishedSeries] = (),
        references: Sequence[PublishedSeries] = (),
        window: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """Everything as one JSON-able object. window: of the first metric, for BD."""
        key, unit = RATES[self.medium]
        deltas = []
        for metric in self.metrics:
            for anchor in anchors:
                for curve in self.curves:
                    if curve == anchor or curve.family.lossless:
                        continue
                    name = anchor.name if isinstance(anchor, PublishedSeries) else anchor.label
                    delta = self.delta(curve, anchor, metric, window if metric is self.metrics[0] else None)
                    deltas.append(
                        {
                            "codec": curve.label,
                            "anchor": name,
                            "published_anchor": isinstance(anchor, PublishedSeries),
                            "metric": metric.name,
                            "bd_rate": delta.rate,
                            "bd_metric": delta.metric,
                            "window": None if delta.window is None else in_units(metric, delta.window),
                            "rate_window": None if delta.rates is None else list(delta.rates),
                            "items": delta.items,
                            "reason": delta.reason,
                        }
                    )
        return {
            **self.settings,
            "data": {**self.settings.get("data", {}), "medium": self.medium, "items": list(self.items)},
            "metrics": {
                metric.name: {"unit": metric.unit, "better": metric.better, "about": metric.about}
                for metric in self.metrics
            },
            "rate": {"key": key, "unit": unit},
            "curves": [
                {
                    "codec": curve.label,
                    "ours": is_ours(curve.family),
                    "lossless": curve.family.lossless,
                    "axis": curve.family.axis,
                    "points": [point.as_json(key) for point in self.points(curve)],
                }
                for curve in self.curves
            ],
            "reference": [
                {"codec": series.name, "source": series.source, "points": [dict(point) for point in series.points]}
                for series in references
            ],
            "bd": deltas,
            "left_out": self.left_out(),
            "skipped": [{"item": item.name, "reason": item.reason} for item in self.skipped],
            "failed": [{"item": case.item, "spec": case.spec, "reason": case.reason} for case in self.failed],
        }

    def compressai(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (label, object) for each curve, in the form that CompressAI's plotting tools read."""
        key = RATES[self.medium][0]
        for curve in self.curves:
            points = [point for point in self.points(curve) if point.complete]
            results = {key: [point.rate for point in points]}
            for metric in self.metrics:
                values = [point.metrics[metric.name] for point in points]
                numbers = [value for value in values if value is not None and math.isfinite(value)]
                if len(numbers) == len(values):  # a list of numbers or none at all: other tools calculate with them
                    results[metric.name] = numbers
            results["encoding_time"] = [point.encode_seconds for point in points]
            results["decoding_time"] = [point.decode_seconds for point in points]
            if points:
                about = f"{curve.family.about}. Whole files, mean over {len(self.items)} items."
                yield curve.label, {"name": curve.label, "description": about, "results": results}


def _kbps(rows: Sequence[Row]) -> float:
    """Kilobits a second: all bits by all seconds."""
    seconds = sum(row.duration or 0.0 for row in rows)
    return 8 * sum(row.bytes for row in rows) / seconds / 1000 if seconds else math.nan


def as_decibels(metric: Metric, value: float) -> float:
    """A metric on the scale that BD interpolates on, higher is better: similarities as -10 log10(1 - x), errors of
    arrays, which span decades, as -20 log10(x), other distances negated, decibels as they are."""
    if "ssim" in metric.name and metric.unit != "dB":
        return -10 * math.log10(1 - value) if value < 1 else math.inf
    if metric.better == "lower" and metric.medium == "array":
        return -20 * math.log10(value) if value > 0 else math.inf
    return value if metric.better == "higher" else -value


def in_units(metric: Metric, window: tuple[float, float]) -> list[float]:
    """A window on that scale in the metric's own unit, the lower end first."""
    if "ssim" in metric.name and metric.unit != "dB":
        return [1 - 10 ** (-end / 10) for end in window]
    if metric.better == "lower" and metric.medium == "array":
        return [10 ** (-end / 20) for end in reversed(window)]
    return list(window) if metric.better == "higher" else [-window[1], -window[0]]
