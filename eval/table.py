"""Rows of measurements: kept as they come, read back, averaged to curves.

A row is one codec, one setting, one item. Rows are appended to a CSV file the moment they are there, and a run that
finds a row doesn't measure it again; what names a row is the full codec string, the item's name and content, the
versions of the libraries that did the work, and the number of threads.

Means: of per-item rates and per-item metrics (the field's way: the PSNR of the mean error is up to half a decibel
away from the mean PSNR), over every item or not at all: a point that lacks items is marked, and belongs to no curve.
"""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import MediaError, UsageError
from .bd import Delta, bd_delta
from .contract import Medium, Metric
from .data import Skipped
from .peers import is_ours
from .reference import Series
from .specs import Curve, Point

__all__ = ["RATES", "Failure", "Row", "RowFile", "Table", "as_decibels"]

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

    cpu: processor seconds. peak: MiB. runs: how many the median seconds are of. jobs: how many items were being worked
    on at once; with more than one, seconds compare with nothing.
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
    rate: float
    ratio: float
    encode_seconds: float
    decode_seconds: float
    encode_cpu: float
    decode_cpu: float
    encode_peak: float | None
    decode_peak: float | None
    runs: int
    threads: int
    jobs: int
    machine: str
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        return (self.spec, self.item, self.digest, self.version, str(self.threads))


_FIXED = [item.name for item in fields(Row) if item.name != "metrics"]
_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("n_values", "bytes", "runs", "threads", "jobs"), int),
    **dict.fromkeys(
        ("rate", "ratio", "encode_seconds", "decode_seconds", "encode_cpu", "decode_cpu", "encode_peak", "decode_peak"),
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
        self._lock = _locked(path.parent)
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
            self._file.close()
            if self._replaced:
                self._rewrite()
        finally:
            os.close(self._lock)

    def find(self, key: tuple[str, ...], metrics: Iterable[str]) -> Row | None:
        """The row of a key, if it has all these metrics."""
        row = self.rows.get(key)
        return row if row is not None and all(name in row.metrics for name in metrics) else None

    def append(self, row: Row) -> None:
        """On its way to the disk when this returns. A row takes the place of an older one of the same key."""
        self._file.write(_line(row, self.columns))
        self._file.flush()
        self._replaced |= row.key in self.rows
        self.rows[row.key] = row

    def _read(self) -> list[str]:
        """Reads the file; returns its metric columns. The line that a killed run left unfinished is dropped."""
        self._torn = True
        try:
            text = self.path.read_text(encoding="utf-8", errors="strict")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise MediaError(
                f"{self.path}: can't be read as rows of an earlier run ({error}); name another --out"
            ) from None
        if not text:
            return []
        self._torn = not text.endswith("\n")
        if self._torn:
            text = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(io.StringIO(text))
        columns = list(reader.fieldnames or [])
        if columns[: len(_FIXED)] != _FIXED:
            raise MediaError(f"{self.path}: not a file of rows as this version writes them; name another --out")
        known = columns[len(_FIXED) :]
        for number, raw in enumerate(reader, 2):
            try:
                row = _row(raw, known)
            except (ValueError, TypeError, KeyError):
                raise MediaError(
                    f"{self.path}, line {number}: not a row; remove the line, or name another --out"
                ) from None
            self.rows[row.key] = row
        return known

    def _rewrite(self) -> None:
        temporary = self.path.with_name(self.path.name + ".part")
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            file.write(_csv([*_FIXED, *self.columns]))
            file.writelines(_line(row, self.columns) for row in self.rows.values())
        os.replace(temporary, self.path)


def _locked(folder: Path) -> int:
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
    return _csv(["" if value is None else f"{value:.9g}" if isinstance(value, float) else value for value in values])


def _csv(values: Sequence[object]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


def _row(raw: Mapping[str, str], metrics: Sequence[str]) -> Row:
    values: dict[str, Any] = {}
    for name in _FIXED:
        text, kind = raw[name], _TYPES.get(name, str)
        values[name] = None if kind is float and text == "" else kind(text)
    return Row(**values, metrics={name: float(raw[name]) for name in metrics if raw[name] != ""})


@dataclass(frozen=True)
class Table:
    """What a run found: rows, and what went wrong. settings: what the summary says about the run."""

    medium: Medium
    curves: tuple[Curve, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    items: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    failed: tuple[Failure, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def points(self, curve: Curve) -> list[dict[str, Any]]:
        """Means of every setting of a curve, in the order of the rate; see the module's docstring."""
        own: dict[str, list[Row]] = {}
        for row in self.rows:
            own.setdefault(row.spec, []).append(row)
        out = [self._point(point, own[point.spec]) for point in curve.points if point.spec in own]
        return sorted(out, key=lambda point: point[RATES[self.medium][0]])

    def _point(self, point: Point, rows: Sequence[Row]) -> dict[str, Any]:
        mean = statistics.fmean
        out: dict[str, Any] = {
            "setting": point.setting,
            "spec": point.spec,
            "items": len(rows),
            "complete": len(rows) == len(self.items),
            RATES[self.medium][0]: mean(row.rate for row in rows),
            "ratio": 1 / mean(1 / row.ratio for row in rows),  # of the raw bits a value by the mean bits a value
            "bytes": mean(row.bytes for row in rows),
            "runs": min(row.runs for row in rows),
        }
        for metric in self.metrics:
            out[metric.name] = _mean([row.metrics[metric.name] for row in rows if metric.name in row.metrics])
        for side in ("encode", "decode"):
            seconds = sum(getattr(row, f"{side}_seconds") for row in rows)
            out[f"{side}_seconds"] = seconds / len(rows)
            out[f"{side}_cpu"] = mean(getattr(row, f"{side}_cpu") for row in rows)
            if self.medium in ("image", "video"):
                out[f"{side}_mpx_s"] = sum(row.n_values for row in rows) / seconds / 1e6 if seconds else math.inf
            peaks = [peak for row in rows if (peak := getattr(row, f"{side}_peak")) is not None]
            if peaks:
                out[f"{side}_peak_mib"] = max(peaks)
        return out

    def pairs(self, curve: Curve, metric: Metric) -> list[tuple[float, float]]:
        """(rate, metric) of the complete points, the metric on the scale that BD uses: higher is better."""
        rate = RATES[self.medium][0]
        return [
            (point[rate], as_decibels(metric, point[metric.name]))
            for point in self.points(curve)
            if point["complete"] and point.get(metric.name) is not None
        ]

    def delta(
        self, curve: Curve, anchor: Curve | Series, metric: Metric, window: tuple[float, float] | None = None
    ) -> Delta:
        """BD-rate and BD-metric of a curve against another, or against a published series."""
        if isinstance(anchor, Series):
            points = [
                (point["bpp"], as_decibels(metric, point[metric.name]))
                for point in anchor.points
                if metric.name in point
            ]
            if not points:
                return Delta(None, None, None, f"the series {anchor.name} has no {metric.name}")
        else:
            points = self.pairs(anchor, metric)
        return bd_delta(points, self.pairs(curve, metric), window)

    def summary(
        self,
        anchors: Sequence[Curve | Series] = (),
        references: Sequence[Series] = (),
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
                    name = anchor.name if isinstance(anchor, Series) else anchor.label
                    delta = self.delta(curve, anchor, metric, window if metric is self.metrics[0] else None)
                    deltas.append(
                        {
                            "codec": curve.label,
                            "anchor": name,
                            "published_anchor": isinstance(anchor, Series),
                            "metric": metric.name,
                            "bd_rate": delta.rate,
                            "bd_metric": delta.metric,
                            "window": None if delta.window is None else _in_units(metric, delta.window),
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
                    "points": self.points(curve),
                }
                for curve in self.curves
            ],
            "reference": [
                {"codec": one.name, "source": one.source, "points": [dict(point) for point in one.points]}
                for one in references
            ],
            "bd": deltas,
            "skipped": [{"item": one.name, "reason": one.reason} for one in self.skipped],
            "failed": [{"item": one.item, "spec": one.spec, "reason": one.reason} for one in self.failed],
        }

    def compressai(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(label, object) for each curve in the form that CompressAI's plotting tools read."""
        key = RATES[self.medium][0]
        for curve in self.curves:
            points = [point for point in self.points(curve) if point["complete"]]
            names = [metric.name for metric in self.metrics]
            results = {key: [point[key] for point in points]}
            results |= {name: [point.get(name) for point in points] for name in names}
            results |= {
                "encoding_time": [point["encode_seconds"] for point in points],
                "decoding_time": [point["decode_seconds"] for point in points],
            }
            if points:
                yield (
                    curve.label,
                    {
                        "name": curve.label,
                        "description": f"{curve.family.about}. Whole files, mean over {len(self.items)} items.",
                        "results": results,
                    },
                )


def as_decibels(metric: Metric, value: float) -> float:
    """On the scale that BD interpolates on, higher is better: similarities as -10 log10(1 - x), errors of arrays, which
    span decades, as -20 log10(x), other distances negated, decibels as they are."""
    if "ssim" in metric.name and metric.unit != "dB":
        return -10 * math.log10(1 - value) if value < 1 else math.inf
    if metric.better == "lower" and metric.medium == "array":
        return -20 * math.log10(value) if value > 0 else math.inf
    return value if metric.better == "higher" else -value


def _in_units(metric: Metric, window: tuple[float, float]) -> list[float]:
    """A window on that scale in the metric's own unit, the lower end first."""
    if "ssim" in metric.name and metric.unit != "dB":
        return [1 - 10 ** (-end / 10) for end in window]
    if metric.better == "lower" and metric.medium == "array":
        return [10 ** (-end / 20) for end in reversed(window)]
    return list(window) if metric.better == "higher" else [-window[1], -window[0]]


def _mean(values: Sequence[float]) -> float | None:
    """None where a value is missing or undefined: a mean over fewer items is another number."""
    return statistics.fmean(values) if values and not any(math.isnan(value) for value in values) else None
