"""`codec reproduce entropic-student`: features for a task beside pictures of equal bytes, for two heads.

Paper: Matsubara, Yang, Levorato, Mandt, "Supervised Compression for Resource-Constrained Edge Computing Systems", WACV
2022, arXiv 2108.11898. Its results are curves whose numbers can't be read, and its data (ImageNet) needs a network, so
no number of theirs stands here. What is asked is their claim: at equal bytes, features that were compressed for a task
keep its answers better than pictures do. The truth is the answer for the picture as it is, since photographs with
labels aren't at hand: the class that EfficientNet-Lite0 gives, and the edges that HED gives.

All codecs code what the classifier sees, 224 x 224 pixels. Bytes are of whole files.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from ...codecs.base.codec import Codec, threads
from ...codecs.entropic_student.config import SEEN, level_of, view_of
from ...errors import UsageError
from ..bench.contract import Family, Option, Peer
from ..bench.items import Skipped
from ..bench.run import RunProgress, machine_name
from ..bench.specs import Curve, Point
from ..metrics.support import versions_of
from ..output import jsonable, write_json
from ..perception.contract import AGREEMENT, Counts, Predict, Sample, Score, Task
from ..perception.harness import Results, Row, perceive
from ..perception.models import edge_detector, offline_classifier
from ..perception.report import Analysis, kept_rates, write_results
from ..perception.samples import digest_of, each, photographs
from ..perception.stats import Interval, interval
from ..perception.tasks.classification import crops
from ..perception.tasks.segmentation import EDGE, F_SCORE, REACH, edge_counts

__all__ = ["SOURCE", "TITLE", "run", "text"]

TITLE = "Supervised Compression for Resource-Constrained Edge Computing Systems"
SOURCE = "Matsubara, Yang, Levorato, Mandt, WACV 2022, arXiv 2108.11898"

STUDENT = "entropic-student"
QUALITIES = (1.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0, 100.0)
PEERS = (
    "s2lic:q=1+25+70,walloc:q=1+40+90,vqgan:q=46+96,jpeg:444:q=5+20+60+92,webp:q=1+40+90,avif:444:psnr:q=10+40+75,"
    "jxl:d=12+4+1"
)
KILOBYTES = (0.5, 1.0, 2.0, 4.0, 8.0)
TIMED = 24  # views, after one that isn't


class _Views(Task):
    """Parts of photographs as a classifier sees them."""

    medium = "image"
    data = "Kodak, GB82, CLIC 2025"
    parts: ClassVar[int] = 6  # of each photograph, at most

    def samples(self, data: Path | None) -> Iterator[Sample | Skipped]:
        def views(sample: Sample) -> Iterator[Sample]:
            for part in itertools.islice(crops(sample), self.parts):
                view = view_of(np.asarray(part.value))
                yield Sample(part.name, view, digest_of(view))

        return each(photographs(data), views)

    def versions(self) -> Mapping[str, str]:
        return versions_of("torch", "scipy")()

    def head(self, codec: Any) -> Predict:
        """A function from features to an answer of the task's kind."""
        raise NotImplementedError


class Classes(_Views):
    """The class of a view."""

    name = "student-classes"
    models: ClassVar[tuple[str, ...]] = ("efficientnet-lite0",)
    scores = (AGREEMENT,)

    def load(self, model: str) -> Predict:
        return offline_classifier()

    def head(self, codec: Any) -> Predict:
        return lambda features: codec.predict(features)["classes"][0]["class"]


class Edges(_Views):
    """The edges in a view."""

    name = "student-edges"
    models: ClassVar[tuple[str, ...]] = ("hed",)
    parts: ClassVar[int] = 1
    scores = (Score("edges", f"F-score of edges against those of the original, {REACH} pixel apart at most", F_SCORE),)

    def load(self, model: str) -> Predict:
        edges = edge_detector()
        return lambda view: edges(view) > EDGE

    def head(self, codec: Any) -> Predict:
        return lambda features: codec.edges(features) > EDGE

    def compare(self, answer: Any, original: Any, label: Any) -> Counts:
        return edge_counts(answer, original)


HEADS: Mapping[str, type[_Views]] = {"classification": Classes, "edges": Edges}


def run(
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    samples: int | None = None,
    peers: str = PEERS,
    progress: RunProgress | None = None,
) -> dict[str, Any]:
    """Measures both heads, each into a folder of its own below `out`, and the encoder.

    data: a folder of photographs; None: those of the tests. samples: at most so many of each, for a trial.
    """
    out = Path(f"reproduce-{STUDENT}") if out is None else Path(out)
    codec = cast(Any, Codec.load(STUDENT))
    report: dict[str, Any] = {
        "title": TITLE,
        "source": SOURCE,
        "command": f"codec reproduce {STUDENT} --out DIR",
        "machine": machine_name(),
        "paper": "curves without numbers",
        "heads": {},
    }
    for name, kind in HEADS.items():
        task = kind()
        results = perceive(
            task,
            peers,
            data=data,
            out=out / name,
            metrics=(),
            samples=samples,
            progress=progress,
        )
        results = _with_student(results, task, codec, None if data is None else Path(data))
        write_results(
            results, out / name, command=report["command"], anchor=STUDENT, rates=[_bpp(k) for k in KILOBYTES]
        )
        report["heads"][name] = _restated(results)
    report["encoder"] = _encoder(codec, None if data is None else Path(data))
    report = jsonable(report)
    write_json(out / f"{STUDENT}.json", report)
    return report


# ---- the student among codecs of pictures


def _with_student(results: Results, task: _Views, codec: Any, data: Path | None) -> Results:
    """The results with a curve of the student more, over the same samples."""
    head, wanted = task.head(codec), {*results.samples}
    look = task.load(results.model)
    family = _family()
    curve = Curve(family, tuple(Point(family, {"q": quality}) for quality in QUALITIES))
    rows = []
    for sample in task.samples(data):
        if isinstance(sample, Skipped) or sample.name not in wanted:
            continue
        wanted.discard(sample.name)
        original = look(sample.value)
        for point in curve.points:
            file = codec.encode_seen(np.asarray(sample.value), cast(float, point.settings["q"]))
            counts = task.compare(head(codec.decompress(file)), original, None)
            rows.append(_row(results, task, codec, sample, point.spec, len(file), counts))
        if not wanted:
            break
    return Results(**{**vars(results), "curves": (curve, *results.curves), "rows": (*rows, *results.rows)})


def _family() -> Family:
    def refuse(settings: Mapping[str, Any], n_threads: int) -> Peer:
        raise UsageError(f"{STUDENT} gives features, not pictures: see `codec reproduce {STUDENT}`")

    options = {"q": Option(50, "quality", 1, 100)}
    return Family(STUDENT, "image", "features for a classifier", options, refuse, axis="q", sweep=QUALITIES)


def _row(results: Results, task: _Views, codec: Any, sample: Sample, spec: str, n_bytes: int, counts: Counts) -> Row:
    version = f"{STUDENT} stream {codec.stream}, weights {codec.weights_id.hex()[:8]}"
    values = {name: float(n) for name, n in counts.items()}
    return Row(
        *(task.name, results.model, sample.name, sample.digest, STUDENT, spec, version),
        *(n_bytes, SEEN * SEEN, None, 0, {}, values),
    )


def _bpp(kilobytes: float) -> float:
    return 8000 * kilobytes / SEEN**2


def _written(known: Interval) -> list[float]:
    return [known.value, known.low, known.high]


def _restated(results: Results) -> dict[str, Any]:
    """One head's part of the report."""
    analysis = Analysis(results)
    student = analysis.curves[STUDENT]
    at, less = {}, {}
    for kilobytes in KILOBYTES:
        mine = student.at(_bpp(kilobytes))
        at[f"{kilobytes:g}"] = {
            label: _written(interval(c.at(_bpp(kilobytes)))) for label, c in analysis.curves.items()
        }
        less[f"{kilobytes:g}"] = {
            label: _written(interval(mine - curve.at(_bpp(kilobytes))))
            for label, curve in analysis.curves.items()
            if label != STUDENT
        }
    smallest = {
        curve.label: min(float(np.mean([row.bytes for row in results.of(point.spec)])) for point in curve.points)
        for curve in results.curves
    }
    points = [
        {
            "quality": point.settings["q"],
            "bytes": float(np.mean([row.bytes for row in results.of(point.spec)])),
            "score": _written(interval(analysis.scores(analysis.score, results.of(point.spec)))),
        }
        for point in results.curves[0].points
    ]
    return {
        "model": results.model,
        "samples": len(results.samples),
        "score": analysis.score.name,
        "original": _written(interval(analysis.original)),
        "student": points,
        "at_kilobytes": at,
        "student_less": less,
        "smallest_bytes": smallest,
        "kept": kept_rates(analysis),
    }


# ---- the encoder


def _encoder(codec: Any, data: Path | None) -> dict[str, Any]:
    """Parameters, and milliseconds a view on one thread: of the student's encoder, of the teacher, of other codecs."""
    import torch

    from ...codecs.entropic_student.heads import early, load_teacher
    from ..bench.run import curves_of

    views = []
    for sample in Classes().samples(data):
        if not isinstance(sample, Skipped):
            views.append(np.asarray(sample.value))
        if len(views) > TIMED:
            break
    teacher = load_teacher()
    parts = codec.parameters()
    first = [teacher.stem, *teacher.stages[:2]]

    def asked(of: Callable[[Any], Any]) -> Callable[[NDArray[np.uint8]], Any]:
        def ask(view: NDArray[np.uint8]) -> Any:
            with torch.inference_mode():
                return of(torch.from_numpy(np.array(view)).permute(2, 0, 1)[None].float() / 255)

        return ask

    jobs: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
        STUDENT: lambda view: codec.encode_seen(view, 50.0),
        "teacher's first stages": asked(lambda x: early(teacher, x)),
        "teacher": asked(teacher.logits),
    }
    with threads(1):
        for curve in curves_of("jpeg:444:q=40,webp:q=50,walloc:q=25,s2lic:q=35", None):
            jobs[curve.points[0].spec] = curve.family.make(curve.points[0].settings, 1).encode
        milliseconds = {name: _median_ms(job, views) for name, job in jobs.items()}
    return {
        "parameters": {
            "encoder": parts["encoder"],
            "decoder": parts["decoder"],
            "teacher's first stages": sum(p.numel() for part in first for p in part.parameters()),
            "teacher": sum(p.numel() for p in teacher.parameters()),
        },
        "milliseconds": milliseconds,
        "threads": 1,
        "level": level_of(50.0),
    }


def _median_ms(job: Callable[[NDArray[np.uint8]], Any], views: Sequence[NDArray[np.uint8]]) -> float:
    job(views[0])
    taken = []
    for view in views[1:]:
        started = time.perf_counter()
        job(view)
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken))


# ---- in words


def text(report: Mapping[str, Any]) -> str:
    """The report in lines."""
    lines = [f"{report['title']} ({report['source']})", ""]
    for name, part in report["heads"].items():
        lines.append(f"{name}: {part['samples']} views, asked of {part['model']}; {part['score']} at equal bytes")
        labels = list(next(iter(part["at_kilobytes"].values())))
        heads = ["codec", *(f"{k} kB" for k in part["at_kilobytes"]), "smallest file"]
        rows = [
            [
                label,
                *(_said(at[label]) for at in part["at_kilobytes"].values()),
                f"{part['smallest_bytes'][label]:.0f} bytes",
            ]
            for label in labels
        ]
        widths = [max(len(row[k]) for row in (heads, *rows)) for k in range(len(heads))]
        lines += [
            "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (heads, *rows)
        ]
        lines.append("")
    encoder = report["encoder"]
    lines.append("parameters: " + ", ".join(f"{name} {n}" for name, n in encoder["parameters"].items()))
    times = ", ".join(f"{name} {ms:.1f}" for name, ms in encoder["milliseconds"].items())
    lines += [f"milliseconds a view, one thread: {times}", report["machine"]]
    return "\n".join(lines)


def _said(values: Sequence[Any]) -> str:
    value, low, high = (float("nan") if x is None else float(x) for x in values)
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")
