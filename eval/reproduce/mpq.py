"""`codec reproduce mpq`: the findings of "Machine Perceptual Quality", asked again with codecs and models of today.

Paper: Jacobellis, Cummings, Yadwadkar, "Machine Perceptual Quality: Evaluating the Impact of Severe Lossy Compression
on Audio and Image Models", DCC 2024, arXiv 2401.07957; its numbers are those that the notebooks of its repository
print. Its models and data need a network, so those that can be had offline stand in: nothing here says that a number of
theirs was reached. Each finding is restated as a difference with an interval of 95 %, and is confirmed, not confirmed,
or undecided by what that interval says.

Differs: the paper compares one setting a codec at whatever rate it has, and one of its rates is bytes a pixel, eight
times too small. Here codecs are compared at equal rate. The third finding is asked of networks that are trained here
(`mpq_learning.py`), as is the promise of learning on latents.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..bench.run import RunProgress, machine_name
from ..output import jsonable, write_json
from ..perception.contract import Task
from ..perception.harness import ORIGINAL, perceive
from ..perception.registry import find_task
from ..perception.report import Analysis, kept_rates, write_results
from ..perception.stats import Interval, correlation_draws, interval
from . import mpq_learning

__all__ = ["SOURCE", "TASKS", "TITLE", "run", "text"]

TITLE = "Machine Perceptual Quality: Evaluating the Impact of Severe Lossy Compression on Audio and Image Models"
SOURCE = "Jacobellis, Cummings, Yadwadkar, DCC 2024, arXiv 2401.07957"

IMAGES = (
    "s2lic:q=1+10+20+30+45+60+90,walloc:q=1+10+25+40+60+80+100,vqgan:q=5+22+46+71+96,shrunk:scale=4:q=1+10+30+60,"
    "jpeg:444:q=5+10+20+30+50+75+90+96,webp:q=1+10+30+50+70+90+98,avif:444:psnr:q=5+10+20+30+40+55+75+88,"
    "jxl:d=20+15+10+6+3.5+2+1+0.5"
)
SOUNDS = (
    "walloc-audio:q=10+25+40+60+80+95,opus:kbps=6+8+12+16+24+32+64,mp3:kbps=32+48+64+96+160,aac:kbps=24+32+48+64+128"
)
# Each task with its codecs, the codec that others are compared with, and at most how many samples (None: all).
TASKS: Mapping[str, tuple[str, str, int | None]] = {
    "classification": (IMAGES, "jpeg", None),
    "digits": (IMAGES, "jpeg", None),
    "text": (IMAGES, "jpeg", 8),
    "speech": (SOUNDS, "opus", 12),
}
GENERATIVE, BASELINE = "vqgan", "shrunk:scale=4"  # compared with each other at equal rate
RATES = (0.03, 0.04, 0.05)  # bits per pixel, that both may have

# Top-1 of ViT-B/16 on 1000 pictures of ImageNet, as the notebooks print them; the rate of HiFiC times eight.
PAPER = (
    {"codec": "original", "bpp": None, "top1": 0.799},
    {"codec": "JPEG, quality 5", "bpp": 0.265, "top1": 0.639},
    {"codec": "WebP, quality 0", "bpp": 0.148, "top1": 0.720},
    {"codec": "mbt2018, quality 1", "bpp": 0.150, "top1": 0.733},
    {"codec": "HiFiC, low", "bpp": 0.211, "bpp_printed": 0.0264, "top1": 0.795},
)


def run(
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    tasks: Sequence[str] = tuple(TASKS),
    samples: int | None = None,
    learning: mpq_learning.Sizes | None = mpq_learning.Sizes(),  # noqa: B008  frozen
    progress: RunProgress | None = None,
) -> dict[str, Any]:
    """Runs the tasks, each into a folder of its own below `out`, and restates the findings.

    data: the tasks look for their own; UsageError for a folder. samples: at most so many of each, for a trial.
    learning: the sizes of the networks' training; None: nothing is trained.
    """
    if data is not None:
        raise UsageError("mpq has several tasks with data of their own: set CODEC_DATA in place of --data")
    out = Path("reproduce-mpq") if out is None else Path(out)
    restated: dict[str, Any] = {}
    for name in tasks:
        codecs, anchor, most = TASKS[name]
        task = find_task(name)
        most = samples if most is None or (samples is not None and samples < most) else most
        results = perceive(task, codecs, out=out / name, samples=most, progress=progress)
        extra = "" if most is None else f" --samples {most}"
        command = f"codec perceive --task {name} -c {codecs} --anchor {anchor}{extra} --out DIR"
        write_results(results, out / name, command=command, anchor=anchor)
        restated[name] = _restated(task, Analysis(results))
    trained: dict[str, Any] = {}
    if learning is not None:
        trained = mpq_learning.run(out / mpq_learning.LEARNING, learning, progress)
    report = jsonable(
        {
            "title": TITLE,
            "source": SOURCE,
            "command": "codec reproduce mpq --out DIR",
            "machine": machine_name(),
            "paper": [dict(row) for row in PAPER],
            "tasks": restated,
            **trained,
        }
    )
    write_json(out / "mpq.json", report)
    return report


def _restated(task: Task, analysis: Analysis) -> dict[str, Any]:
    """One task's part of the report."""
    results = analysis.results
    return {
        "model": results.model,
        "instead_of": list(results.passed_over),
        "samples": len(results.samples),
        "answers": sum(int(row.counts.get("labelled", row.counts.get("asked", 0))) for row in results.of(ORIGINAL)),
        "left_out": len(results.left_out),
        "score": analysis.score.name,
        "original": _written(interval(analysis.original)),
        "kept": kept_rates(analysis),
        "generative": _generative(analysis) if task.medium == "image" else [],
        "similarity": _similarity(analysis),
    }


def _written(known: Interval) -> list[float]:
    return [known.value, known.low, known.high]


def _verdict(known: Interval) -> str:
    """The word for a difference that the paper says is positive."""
    if not (np.isfinite(known.low) and np.isfinite(known.high)):
        return "undecided: there is no interval"
    return "confirmed" if known.low > 0 else "not confirmed" if known.high < 0 else "undecided"


def _generative(analysis: Analysis) -> list[dict[str, Any]]:
    """The first finding: at equal rate, the score of a generative codec less that of one made for small errors."""
    curves = analysis.curves
    if GENERATIVE not in curves or BASELINE not in curves:
        return []
    out = []
    for rate in RATES:
        difference = curves[GENERATIVE].at(rate) - curves[BASELINE].at(rate)
        if np.isfinite(difference[0]):
            known = interval(difference)
            out.append({"bpp": rate, "difference": _written(known), "verdict": _verdict(known)})
    return out


def _similarity(analysis: Analysis) -> dict[str, Any]:
    """The second finding: how much better a deep measure tells the score than PSNR does, by Spearman's correlation."""
    results = analysis.results
    parts = [results.of(p.spec) for c in results.curves if not c.family.lossless for p in c.points]
    y = np.stack([analysis.scores(analysis.score, part) for part in parts])
    draws = {}
    for metric in results.metrics:
        x = np.stack([analysis.metric(metric.name, part) for part in parts])
        draws[metric.name] = np.abs(correlation_draws(x, y, ranks=True))
    deep = next((name for name in draws if name.startswith("lpips")), None)
    plain = next((name for name in draws if name.startswith("psnr")), None)
    out: dict[str, Any] = {"spearman": {name: _written(interval(values)) for name, values in draws.items()}}
    if deep and plain:
        known = interval(draws[deep] - draws[plain])
        out |= {"deep_less_psnr": _written(known), "verdict": _verdict(known)}
    return out


def text(report: Mapping[str, Any]) -> str:
    """The report in lines."""
    lines = [f"{report['title']} ({report['source']})", ""]
    for name, part in report["tasks"].items():
        lines.append(f"{name}: {part['samples']} samples, {part['model']}, {part['score']} {_range(part['original'])}")
        for row in part["kept"]:
            lines.append(f"  {row['codec']:<16} keeps 99 % from {row['99']}, 95 % from {row['95']}")
        for row in part["generative"]:
            words = f"{GENERATIVE} less {BASELINE} at {row['bpp']:g} bpp"
            lines.append(f"  finding 1, {words}: {_range(row['difference'])}: {row['verdict']}")
        similarity = part["similarity"]
        told = ", ".join(f"{metric} {_range(values)}" for metric, values in similarity["spearman"].items())
        lines.append(f"  finding 2, Spearman with the score: {told}: {similarity.get('verdict', 'no deep measure')}")
    if mpq_learning.LEARNING in report:
        lines += ["", *mpq_learning.text(report)]
    lines += ["", report["machine"]]
    return "\n".join(lines)


def _range(values: Sequence[Any]) -> str:
    value, low, high = (float(x) for x in values)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
