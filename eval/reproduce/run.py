"""The bench of `codec reproduce PAPER`: a paper's numbers beside ours, never mixed.

A recipe (`eval/reproduce/*.yaml`) names the data, the codec string, and two kinds of lines:

- claims: a number of the paper with its source and a mark (how it is known: the paper's text, the authors' code or
  results, read off a figure), and which of our measurements stands beside it, with what differs;
- checks: a published series of a classical codec and our run of the same codec. Our PSNR at the series' rates,
  interpolated on our curve, must agree within a tolerance: this tests the harness. A check may say why it is expected
  not to hold (another chroma format, another encoder); it is then shown, and not held against us.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.places import find_data
from ...errors import MediaError, UsageError
from ...files import PACKAGE
from ..bench.rows import RATES, Table
from ..bench.run import RunProgress, rate_distortion, write_results
from ..bench.specs import Curve
from .published import PublishedSeries, series

__all__ = ["Check", "Claim", "ReproduceRecipe", "Reproduction", "load", "names", "run", "text"]

_RECIPES = PACKAGE / "eval" / "reproduce"


@dataclass(frozen=True)
class Claim:
    """A number of the paper, and which of ours stands beside it.

    paper: the number as printed there, in `unit`; mark: how it is known and where it stands.

    value: which of our numbers: a metric's name, "bpp", "ratio", "encode_seconds", "decode_seconds" (of one item),
    "encode_mpx_s", "decode_mpx_s", "encode_realtime", "decode_realtime" (seconds of sound a second), or "bd_rate" (by
    the first metric, against `anchor`, a curve of the run or a published series, over `window` of the metric if there
    is one); "" for what isn't measured here, and then `note` says why. codec: label of a curve of the run, of which
    `setting` is one point (None: its only one). at: a rate, where `value` is a metric that is read off our curve,
    interpolated; None where it doesn't reach. note: what differs.
    """

    what: str
    paper: float
    unit: str
    mark: str
    codec: str
    value: str
    setting: float | None = None
    at: float | None = None
    anchor: str = ""
    window: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Check:
    """Our curve `codec` against a published series: mean and largest difference of a metric at the series' rates in
    [low, high] bits per pixel. within: tolerance of the largest one. differs: why it is not expected to hold."""

    codec: str
    reference: str
    within: float
    low: float = 0.2
    high: float = 2.0
    metric: str = "psnr-rgb"
    differs: str = ""


@dataclass(frozen=True)
class ReproduceRecipe:
    """A paper to reproduce: its data, codecs, metrics, claims and checks.

    items: how many the paper's data has; a run on anything else is shown, and marked as not comparable. instead: the
    folder that is measured where the paper's data isn't at hand. only: patterns of the items' paths in the folder
    (MUSDB18-HQ has a mix beside its parts); those that fit the first one that any item fits, or all items if none
    does. also: what else belongs to the paper and isn't measured here, each with the command that does, or where it
    stands."""

    name: str
    title: str
    source: str
    scale: str
    data: str
    items: int
    codecs: str
    metrics: tuple[str, ...]
    references: tuple[str, ...]
    claims: tuple[Claim, ...]
    checks: tuple[Check, ...]
    also: tuple[str, ...] = ()
    instead: str = ""
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checked:
    """The outcome of a check. rates: how many of the series' points were compared. mean and largest: ours less
    published, in the metric's unit."""

    check: Check
    rates: int
    mean: float
    largest: float

    @property
    def holds(self) -> bool:
        return abs(self.largest) <= self.check.within


@dataclass(frozen=True)
class Reproduction:
    """The results of a run. ours: for each claim, our number."""

    recipe: ReproduceRecipe
    table: Table
    ours: tuple[float | None, ...]
    checked: tuple[Checked, ...]
    summary: Mapping[str, Any]

    @property
    def same_data(self) -> bool:
        """Whether this is the paper's data, as far as their name and number tell."""
        name = Path(self.recipe.data).name
        return len(self.table.items) == self.recipe.items and self.table.settings["data"]["name"] == name

    @property
    def measured_on(self) -> str:
        return f"{len(self.table.items)} items of {self.table.settings['data']['name']!r}"

    @property
    def stands_in(self) -> bool:
        """Whether this is the data that the recipe names in place of the paper's."""
        return bool(self.recipe.instead) and self.table.settings["data"]["name"] == Path(self.recipe.instead).name

    @property
    def holds(self) -> bool:
        """Whether all of the paper's data was measured, or what the recipe takes in its place, and every check that is
        expected to hold does."""
        whole = (self.same_data or self.stands_in) and not self.table.failed
        return whole and all(outcome.holds or outcome.check.differs for outcome in self.checked)

    def as_json(self) -> dict[str, Any]:
        claims = [
            {
                "what": claim.what,
                "unit": claim.unit,
                "paper": claim.paper,
                "paper_source": claim.mark,
                "ours": ours,
                "codec": claim.codec,
                "note": claim.note,
            }
            for claim, ours in zip(self.recipe.claims, self.ours, strict=True)
        ]
        checks = [
            {
                "codec": outcome.check.codec,
                "published": outcome.check.reference,
                "published_source": series(outcome.check.reference).source,
                "metric": outcome.check.metric,
                "points": outcome.rates,
                "mean_difference": outcome.mean,
                "largest_difference": outcome.largest,
                "within": outcome.check.within,
                "holds": outcome.holds,
                "differs": outcome.check.differs,
            }
            for outcome in self.checked
        ]
        recipe = self.recipe
        about = {"paper": recipe.name, "title": recipe.title, "source": recipe.source, "our_scale": recipe.scale}
        about |= {"measured_on": self.measured_on, "same_data": self.same_data}
        about |= {"also": list(recipe.also)} if recipe.also else {}
        return {**about, "command": self.summary["command"], "claims": claims, "checks": checks}


def names() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in _RECIPES.glob("*.yaml")))


def load(name: str | os.PathLike[str]) -> ReproduceRecipe:
    """A shipped recipe by name, or one from a YAML file. UsageError says what is wrong with it."""
    import yaml

    path = Path(name) if os.fspath(name).endswith((".yaml", ".yml")) else _RECIPES / f"{name}.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"no recipe {os.fspath(name)!r}: there are {', '.join(names())}, or name a YAML file"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not a recipe ({error})") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: not a recipe; expected keys such as title, data, codecs")
    try:
        raw = {"name": path.stem, "references": (), "claims": (), "checks": (), "also": (), "only": (), **raw}
        lists = {
            "metrics": tuple(map(str, raw.pop("metrics"))),
            "references": tuple(map(str, raw.pop("references"))),
            "claims": tuple(_claim(values) for values in raw.pop("claims")),
            "also": tuple(map(str, raw.pop("also"))),
            "only": tuple(map(str, raw.pop("only"))),
            "checks": tuple(Check(**values) for values in raw.pop("checks")),
        }
        recipe = ReproduceRecipe(**raw, **lists)
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a recipe: {error}") from None
    for reference in (*recipe.references, *(check.reference for check in recipe.checks)):
        series(reference)
    return recipe


def _claim(values: Mapping[str, Any]) -> Claim:
    window = values.get("window")
    if window is not None and not (isinstance(window, list) and len(window) == 2):
        raise TypeError(f"window {window!r}: expected [low, high]")
    return Claim(**{**values, "window": None if window is None else (float(window[0]), float(window[1]))})


def run(
    recipe: ReproduceRecipe,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    repeat: int = 3,
    progress: RunProgress | None = None,
) -> Reproduction:
    """Measures what the recipe names, and puts the numbers beside the paper's. out: a folder as of `codec bench`,
    gone on with; None: `reproduce-NAME` here."""
    out = Path(f"reproduce-{recipe.name}") if out is None else Path(out)
    with _measured_data(recipe, data) as folder:
        table = rate_distortion(
            folder, recipe.codecs, metrics=recipe.metrics, out=out, repeat=repeat, progress=progress
        )
        curves = {curve.label: curve for curve in table.curves}
        for label in [*(claim.codec for claim in recipe.claims), *(check.codec for check in recipe.checks)]:
            if label not in curves:
                there_are = ", ".join(curves)
                raise UsageError(f"recipe {recipe.name}: no curve {label!r} in the run; there are {there_are}")
        anchors: list[Curve | PublishedSeries] = [
            curves[claim.anchor] for claim in recipe.claims if claim.anchor in curves
        ]
        summary = write_results(
            table,
            out,
            command=f"codec reproduce {recipe.name} --data DATA --out DIR",
            anchors=list(dict.fromkeys(anchors)),
            references=[series(name) for name in recipe.references],
        )
    ours = tuple(_ours(table, curves, claim) for claim in recipe.claims)
    checked = tuple(_check(table, curves[check.codec], check) for check in recipe.checks)
    return Reproduction(recipe, table, ours, checked, summary)


@contextlib.contextmanager
def _measured_data(recipe: ReproduceRecipe, data: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder that is measured: the one given, the paper's, or what stands in for it. One of links to those items
    that the recipe's patterns pick, if it has any that fit."""
    if data is not None:
        folder = Path(data)
    else:
        try:
            folder = find_data(recipe.data, "data to measure on")
        except UsageError:
            if not recipe.instead:
                raise
            folder = find_data(recipe.instead, "data to measure on")
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if recipe.only else []
    for pattern in recipe.only:
        fitting = [path for path in files if fnmatchcase(path.relative_to(folder).as_posix(), pattern)]
        if fitting:
            break
    else:
        yield folder
        return
    with tempfile.TemporaryDirectory() as parent:
        picked = Path(parent, folder.resolve().name)
        for path in fitting:
            link = picked / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        yield picked


def _ours(table: Table, curves: Mapping[str, Curve], claim: Claim) -> float | None:
    if not claim.value:
        return None
    if claim.value == "bd_rate":
        anchor = curves.get(claim.anchor) or series(claim.anchor)
        return table.delta(curves[claim.codec], anchor, table.metrics[0], claim.window).rate
    if claim.at is not None:
        rates, at = _curve(table, curves[claim.codec], claim.value)
        return float(at(np.log(claim.at))) if rates[0] <= claim.at <= rates[1] else None
    points = table.points(curves[claim.codec])
    fitting = [point for point in points if claim.setting is None or point.setting == claim.setting]
    if len(fitting) != 1:
        raise UsageError(f"claim {claim.what!r}: {len(fitting)} points of {claim.codec} fit; name its `setting`")
    return fitting[0].as_json(RATES[table.medium][0]).get(claim.value)


def _check(table: Table, curve: Curve, check: Check) -> Checked:
    """Our curve at the published rates."""
    (lowest, highest), at = _curve(table, curve, check.metric)
    key = RATES[table.medium][0]
    differences = [
        float(at(np.log(point[key]))) - point[check.metric]
        for point in series(check.reference).points
        if check.low <= point[key] <= check.high and lowest <= point[key] <= highest
    ]
    if not differences:
        raise MediaError(f"{curve.label} and {check.reference} have no rate in common in {check.low} to {check.high}")
    return Checked(check, len(differences), statistics.fmean(differences), max(differences, key=abs))


def _curve(table: Table, curve: Curve, metric: str) -> tuple[tuple[float, float], Callable[[Any], Any]]:
    """The rates that a curve of ours reaches, and its metric as a function of the rate's logarithm, by PCHIP."""
    from scipy.interpolate import PchipInterpolator

    if metric not in {measured.name for measured in table.metrics}:
        raise UsageError(f"{curve.label} by {metric}, which the recipe doesn't measure")
    points = sorted((point.rate, point.metrics[metric] or math.nan) for point in table.points(curve) if point.complete)
    if len(points) < 2:
        raise MediaError(f"{curve.label}: {len(points)} complete points; to read values off a curve takes two")
    rates, values = np.array(points, np.float64).T
    return (float(rates[0]), float(rates[-1])), PchipInterpolator(np.log(rates), values)


def text(result: Reproduction) -> str:
    """The paper's numbers and ours side by side."""
    recipe = result.recipe
    lines = [recipe.title, recipe.source, f"ours: {recipe.scale}", f"measured on {result.measured_on}"]
    if not result.same_data:
        wanted = f"{recipe.items} items of {Path(recipe.data).name!r}"
        lines.append(f"NOT the paper's data ({wanted}): the two columns don't compare")
    lines.append("")
    if recipe.claims:
        rows: list[Sequence[str]] = [("", "paper", "ours", "unit", "where the paper's number is from")]
        for claim, ours in zip(recipe.claims, result.ours, strict=True):
            mine = "-" if ours is None else f"{ours:.4g}"
            rows.append((claim.what, f"{claim.paper:g}", mine, claim.unit, claim.mark))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            lines.append("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]]).rstrip())
        notes = [f"- {claim.what}: {claim.note}" for claim in recipe.claims if claim.note]
        lines += ["", *notes, ""] if notes else [""]
    for outcome in result.checked:
        check, word = outcome.check, "agrees" if outcome.holds else "differs"
        lines.append(
            f"{check.codec} against the published series {check.reference}: {word}; mean {outcome.mean:+.2f}, "
            f"largest {outcome.largest:+.2f} (tolerance {check.within:g}) at {outcome.rates} rates"
        )
        if check.differs:
            lines.append(f"  {check.differs}")
    if recipe.also:
        lines += ["", *(f"also: {words}" for words in recipe.also)]
    return "\n".join(lines).rstrip()
