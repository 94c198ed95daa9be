"""Results of machine perception as a summary in the form that reports of `codec bench` read, with tables.

Tables: the score at equal rates with paired intervals, differences from an anchor, the rate that keeps 99 and 95 % of
the score for the original, BD-rates over the score, and the correlation of each similarity metric with the score over
all codecs and settings.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..bench.rows import RATES
from ..bench.run import machine_name
from ..bench.specs import Curve as CodecCurve
from ..output import jsonable, write_json
from ..peers import is_ours
from ..report.html import write_report
from ..report.plots import rd_plots
from .contract import Score
from .harness import ORIGINAL, Results, Row
from .stats import Array, Curve, Interval, Samples, bd_rate, correlation, interval, rate_that_keeps

__all__ = ["KEPT", "RATES_OF", "Analysis", "kept_rates", "summary_text", "write_results"]

KEPT = (0.99, 0.95)  # of the score for the original
RATES_OF: Mapping[str, tuple[float, ...]] = {
    "image": (0.05, 0.1, 0.2, 0.4, 0.8),
    "audio": (6.0, 12.0, 24.0, 48.0),
    "array": (0.25, 0.5, 1.0, 2.0, 4.0),
}


class Analysis:
    """Draws of all rates, scores and metrics of a run, in arrays (B + 1,) of which the first is of all samples."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.samples = Samples(len(results.samples))
        original = results.of(ORIGINAL)
        self.defined = [s for s in results.task.scores if math.isfinite(self.scores(s, original)[0])]
        if not self.defined:
            raise UsageError(f"none of the scores of {results.task.name} is defined on these samples")
        self.score = self.defined[0]
        self.original = self.scores(self.score, original)
        self.curves = {curve.label: self._curve(curve) for curve in results.curves}

    def scores(self, score: Score, rows: Sequence[Row]) -> Array:
        """A score of rows."""
        names = dict.fromkeys(name for row in rows for name in row.counts)
        counts = {name: np.array([row.counts.get(name, 0.0) for row in rows]) for name in names}
        return self.samples.scores(score, counts)

    def rates(self, rows: Sequence[Row]) -> Array:
        """The rate of rows: the mean of bits a pixel, or all bits by all seconds or values."""
        bits = np.array([8.0 * row.bytes for row in rows])
        n = np.array([float(row.n) for row in rows])
        if self.results.task.medium == "audio":
            return self.samples.sums(bits / 1000) / self.samples.sums(np.array([row.seconds or 0.0 for row in rows]))
        if self.results.task.medium == "array":
            return self.samples.sums(bits) / self.samples.sums(n)
        return self.samples.means(bits / n)

    def metric(self, name: str, rows: Sequence[Row]) -> Array:
        """The mean of a similarity metric, over the samples for which it is finite under every lossy setting."""
        keep = self._finite(name)
        if not keep.any():
            return np.full(len(self.samples.weights), np.nan)
        values = np.array([row.metrics.get(name, math.nan) for row in rows])
        weights = self.samples.weights[:, keep]
        with np.errstate(divide="ignore", invalid="ignore"):
            return (weights @ values[keep]) / weights.sum(axis=1)

    def _finite(self, name: str) -> Any:
        lossy = [p.spec for c in self.results.curves if not c.family.lossless for p in c.points]
        values = [[row.metrics.get(name, math.nan) for row in self.results.of(spec)] for spec in lossy]
        return np.isfinite(np.array(values)).all(axis=0) if values else np.zeros(self.samples.n, bool)

    def _curve(self, curve: CodecCurve) -> Curve:
        rows = [self.results.of(point.spec) for point in curve.points]
        return Curve.of([self.rates(part) for part in rows], [self.scores(self.score, part) for part in rows])


def _anchor(analysis: Analysis, wanted: str | None) -> str | None:
    """The label of the curve that others are compared with: the one named, else the first that isn't ours."""
    curves = analysis.results.curves
    if wanted is not None:
        fitting = [curve.label for curve in curves if wanted in (curve.label, curve.family.name)]
        if not fitting:
            raise UsageError(f"no anchor {wanted!r}: the run has {', '.join(curve.label for curve in curves)}")
        return fitting[0]
    others = [curve.label for curve in curves if not is_ours(curve.family) and len(curve.points) > 1]
    return others[0] if others else None


def summary_of(results: Results, rates: Sequence[float] | None = None, anchor: str | None = None) -> dict[str, Any]:
    """Everything as one JSON-able object. rates: to compare at, in the medium's unit."""
    analysis = Analysis(results)
    medium = results.task.medium
    key, unit = RATES[medium]
    rates = RATES_OF[medium] if rates is None else tuple(rates)
    base = _anchor(analysis, anchor)
    low_high = interval(analysis.original)
    return {
        "title": f"Machine perception: {results.task.name}, asked of {results.model}",
        "task": results.task.name,
        "model": results.model,
        "passed_over": dict(results.passed_over),
        "original": {analysis.score.name: low_high.value, "low": low_high.low, "high": low_high.high},
        "data": {"name": results.task.name, "medium": medium, "items": list(results.samples)},
        "settings": dict(results.settings),
        "machine": {"cpu": machine_name(), "cores": os.cpu_count()},
        "threads": results.settings.get("threads"),
        "metrics": {
            **{s.name: _about(s.about, results.model, "higher") for s in analysis.defined},
            **{m.name: {"unit": m.unit, "better": m.better, "about": m.about} for m in results.metrics},
        },
        "rate": {"key": key, "unit": unit},
        "curves": [_curve(analysis, curve, key) for curve in results.curves],
        "tables": [
            table
            for table in (
                _at_rates(analysis, rates, unit),
                _differences(analysis, rates, unit, base),
                _kept(analysis, unit),
                _bd(analysis, base),
                _correlations(analysis),
            )
            if table["rows"]
        ],
        "left_out": [],
        "skipped": [
            *({"item": item.name, "reason": item.reason} for item in results.skipped),
            *({"item": name, "reason": "a codec or the model could not do it"} for name in results.left_out),
        ],
        "failed": [{"item": f.sample, "spec": f.spec, "reason": f.reason} for f in results.failed],
        "bd": [],
        "reference": [],
    }


def _about(words: str, model: str, better: str) -> dict[str, str]:
    return {"unit": f"asked of {model}", "better": better, "about": words}


def _curve(analysis: Analysis, curve: CodecCurve, key: str) -> dict[str, Any]:
    points = []
    for point in curve.points:
        rows = analysis.results.of(point.spec)
        numbers: dict[str, Any] = {
            key: float(analysis.rates(rows)[0]),
            "bytes": float(np.mean([r.bytes for r in rows])),
        }
        for score in analysis.defined:
            known = interval(analysis.scores(score, rows))
            numbers |= {score.name: known.value, f"{score.name}_low": known.low, f"{score.name}_high": known.high}
        for metric in analysis.results.metrics:
            numbers[metric.name] = float(analysis.metric(metric.name, rows)[0])
        points.append({"setting": point.setting, "spec": point.spec, "items": len(rows), "complete": True, **numbers})
    points.sort(key=lambda p: p[key])
    family = curve.family
    return {
        "codec": curve.label,
        "ours": is_ours(family),
        "lossless": family.lossless,
        "axis": family.axis,
        "points": points,
    }


# ---- tables


def _said(known: Interval, places: int = 3) -> str:
    if math.isnan(known.value):
        return "–"
    if math.isinf(known.value):
        return "not reached"
    ends = [f"{end:.{places}f}" if math.isfinite(end) else "–" for end in (known.low, known.high)]
    return f"{known.value:.{places}f} [{ends[0]}, {ends[1]}]"


def _table(name: str, title: str, about: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    return {"name": name, "title": title, "about": about, "heads": list(heads), "rows": [list(row) for row in rows]}


def _at_rates(analysis: Analysis, rates: Sequence[float], unit: str) -> dict[str, Any]:
    rows = [[label, *(_said(interval(curve.at(rate))) for rate in rates)] for label, curve in analysis.curves.items()]
    score = analysis.score
    chance = "" if score.chance is None else f" Chance is {score.chance:g}."
    about = (
        f"{score.about}. For the original it is {_said(interval(analysis.original))}.{chance} Between two settings the "
        "score is a straight line over the logarithm of the rate; outside of what was measured there is none. In "
        "brackets: 95 % intervals, of samples drawn again."
    )
    title = f"{score.name.capitalize()} at equal rate ({analysis.results.model})"
    return _table("equal", title, about, ["codec", *(f"{rate:g} {unit}" for rate in rates)], rows)


def _differences(analysis: Analysis, rates: Sequence[float], unit: str, base: str | None) -> dict[str, Any]:
    rows = []
    if base is not None:
        anchor = analysis.curves[base]
        for label, curve in analysis.curves.items():
            if label != base:
                rows.append([label, *(_said(interval(curve.at(rate) - anchor.at(rate))) for rate in rates)])
    name = analysis.score.name
    about = f"Positive: a better {name} than {base} at this rate. The same samples are drawn for both."
    heads = ["codec", *(f"{rate:g} {unit}" for rate in rates)]
    return _table("differences", f"Difference from {base} at equal rate", about, heads, rows)


def kept_rates(analysis: Analysis) -> list[dict[str, str]]:
    """The rate of each codec that keeps the shares `KEPT` of the score, in words, by "codec" and the per cent; and the
    share that its largest setting keeps, with its rate, by "largest"."""
    rows = []
    for label, curve in analysis.curves.items():
        row = {"codec": label}
        for part in KEPT:
            draws = rate_that_keeps(curve, part * analysis.original)
            words = _said(_open_interval(draws))
            least = math.isfinite(draws[0]) and draws[0] <= curve.rates[:, 0].min() + 1e-12
            row[f"{100 * part:g}"] = f"at most {words}" if least else words
        kept = 100 * curve.scores[-1, 0] / analysis.original[0]
        row["largest"] = f"{kept:.1f} % at {curve.rates[-1, 0]:.3g}"
        rows.append(row)
    return rows


def _kept(analysis: Analysis, unit: str) -> dict[str, Any]:
    rows = [list(row.values()) for row in kept_rates(analysis)]
    about = (
        f"The lowest rate ({unit}) from which on the score stays at so much of that for the original. `At most`: even "
        "the smallest setting keeps it. `Not reached`: the largest doesn't."
    )
    heads = ["codec", *(f"{100 * p:g} %" for p in KEPT), "kept by the largest setting"]
    return _table("kept", "Rate that keeps the score", about, heads, rows)


def _open_interval(draws: Array) -> Interval:
    """The interval of rates that may be infinite, where a draw never keeps the score."""
    low, high = np.percentile(draws[1:], (2.5, 97.5), method="nearest")
    return Interval(float(draws[0]), float(low), float(high))


def _bd(analysis: Analysis, base: str | None) -> dict[str, Any]:
    rows = []
    if base is not None:
        for label, curve in analysis.curves.items():
            if label == base or len(curve.rates) < 2:
                continue
            change, reason = bd_rate(analysis.curves[base], curve)
            rows.append([label, reason or _said(change, 1)])
    about = (
        f"The mean change of rate at equal {analysis.score.name}, in per cent; negative: fewer bits than {base}. "
        "Settings that cost more than another one and score less are left out of a curve."
    )
    return _table("bd-score", f"BD-rate over {analysis.score.name}", about, ["codec", f"against {base}"], rows)


def _correlations(analysis: Analysis) -> dict[str, Any]:
    results = analysis.results
    parts = [results.of(p.spec) for c in results.curves if not c.family.lossless for p in c.points]
    rows = []
    for metric in results.metrics:
        if len(parts) < 3:
            break
        x = np.stack([analysis.metric(metric.name, part) for part in parts])
        y = np.stack([analysis.scores(analysis.score, part) for part in parts])
        rows.append([metric.name, *(_said(correlation(x, y, ranks), 2) for ranks in (False, True)), str(len(parts))])
    about = (
        f"How well a metric tells the {analysis.score.name}, over all codecs and settings. Nearer to 1 or -1 is better."
    )
    heads = ["metric", "Pearson", "Spearman", "settings"]
    return _table("correlation", "Similarity and score", about, heads, rows)


# ---- what is written


def write_results(
    results: Results,
    out: str | os.PathLike[str],
    *,
    command: str,
    rates: Sequence[float] | None = None,
    anchor: str | None = None,
) -> dict[str, Any]:
    """Writes summary.json, plots and report.html beside the rows; returns the summary."""
    out = Path(out)
    summary = jsonable({"command": command, **summary_of(results, rates, anchor)})
    write_json(out / "summary.json", summary)
    rd_plots(summary, out)
    write_report(summary, [], out / "report.html")
    return summary


def summary_text(summary: Mapping[str, Any]) -> str:
    """The tables as text, and what ran."""
    lines = [summary["title"] + f", {len(summary['data']['items'])} samples"]
    for table in summary["tables"]:
        cells = [table["heads"], *table["rows"]]
        widths = [max(len(row[k]) for row in cells) for k in range(len(table["heads"]))]
        lines += ["", table["title"]]
        lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines += ["", *(f"not here: {name}: {reason}" for name, reason in summary["passed_over"].items())]
    lines.append(f"{summary['machine']['cpu']}; rates are of whole files; intervals: 95 %, paired bootstrap of samples")
    return "\n".join(lines)
