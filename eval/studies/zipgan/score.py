"""The part `score` of the study of ZipGAN: does a score without the original follow the error of the gradients?

Judges are zipgan's discriminator, where its weights are here, and what a user has without it: the skewness of the
derivatives and the divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import scipy.fft

from ....codecs.base.codec import Codec
from ....codecs.zipgan import codec as zipgan
from ...metrics.turbulence import Flow, gradient_error, project
from .coders import OURS, FieldCoder, code, has_weights
from .simulations import Field, Row

__all__ = ["Judge", "judges_of", "markdown", "measure", "worsened"]

Judge = Callable[[Field], float]  # larger: more like a real flow
Case = tuple[str, float, Field]  # kind, strength, and the field that is judged

_SKEWNESS = -0.48  # of the longitudinal derivatives of real flows of these Reynolds numbers
_WIDTHS = (0.05, 0.08, 0.12, 0.18, 0.27, 0.4)  # of a Gaussian blur, where the cube's side is 2 pi
_NOISE = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2)  # of the field's rms
# Coders that are left out: others here are near to them.
_LEFT_OUT = ("interp", "sperr-mse")


def judges_of(weights: Mapping[str, Path]) -> dict[str, Judge]:
    """Judges by name; a larger score says that a field is more like a real flow. `skewness`: how near the skewness of
    the derivatives is to that of real flows. `divergence`: how little the field diverges. And the discriminator of
    each zipgan that has weights, shipped or in `weights`."""
    judges: dict[str, Judge] = {
        "skewness": lambda field: -abs(Flow(field).skewness - _SKEWNESS),
        "divergence": lambda field: -Flow(field).divergence,
    }
    for name in (name for name in OURS if name in weights or has_weights(name)):
        file = weights.get(name)
        codec: Any = Codec.load(name if file is None else "zipgan", weights=file)
        judges[f"discriminator of {name}"] = lambda field, codec=codec: zipgan.score(field, codec)
    return judges


def worsened(field: Field) -> list[Case]:
    """The field blurred by Gaussians, and with noise that diverges or that doesn't, each at several strengths."""
    n = field.shape[1]
    whole, half = scipy.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)
    k2 = half**2 + whole[:, None] ** 2 + whole[:, None, None] ** 2
    u_hat: Any = scipy.fft.rfftn(field, axes=(1, 2, 3))
    rms = math.sqrt(float(np.square(field).mean()))
    noise = np.random.default_rng(0).normal(0, rms, field.shape).astype(np.float32)
    solenoidal = project(noise, cut=True)
    cases: list[Case] = []
    for width in _WIDTHS:
        blurred: Any = scipy.fft.irfftn(u_hat * np.exp(-k2 * width**2 / 2), s=(n, n, n), axes=(1, 2, 3))
        cases.append(("blur", width, blurred.astype(np.float32)))
    for part in _NOISE:
        cases.append(("noise", part, field + part * noise))
        cases.append(("noise, solenoidal", part, field + part * solenoidal))
    return cases


def measure(
    fields: Sequence[Field],
    coders: Sequence[FieldCoder],
    ratios: Sequence[float],
    judges: Mapping[str, Judge],
    checkpoints: Sequence[Path],
) -> dict[str, Any]:
    """Spearman's rank correlation of each score with the error of the gradients; -1 is a perfect judge.

    Kinds of fields: each coder over the ratios, as decoded and projected; blur; noise; weights files of zipgan
    (`checkpoints`), each at its default quality. The real field is among each kind.
    Returns `points` (kind, strength, gradient error, scores); `correlations` by judge and kind, over all fields; and
    `alone`, correlations within a field, their mean over the fields: which of several versions of one field is best?
    """
    points: list[Row] = []
    for index, field in enumerate(fields):
        truth = Flow(field)
        for kind, strength, case in _cases(field, coders, ratios, checkpoints):
            scores = {name: float(judge(case)) for name, judge in judges.items()}
            error = gradient_error(truth, case)
            points.append({"field": index, "kind": kind, "strength": strength, "gradient": error, **scores})
    kinds = list(dict.fromkeys(point["kind"] for point in points if point["kind"] != "real"))
    groups = {kind: [point for point in points if point["kind"] in (kind, "real")] for kind in kinds}
    groups["all"] = points
    return {
        "fields": len(fields),
        "checkpoints": [path.stem for path in checkpoints],
        "correlations": {name: {kind: _correlation(group, name) for kind, group in groups.items()} for name in judges},
        "alone": {
            name: {kind: _correlation_within(group, name, len(fields)) for kind, group in groups.items()}
            for name in judges
        },
        "points": points,
    }


def _cases(
    field: Field, coders: Sequence[FieldCoder], ratios: Sequence[float], checkpoints: Sequence[Path]
) -> Iterator[Case]:
    """The real field, and every worse version of it."""
    yield "real", 0, field
    yield from worsened(field)
    for number, path in enumerate(checkpoints):
        codec = Codec.load("zipgan", weights=path)
        yield "checkpoints", number, codec.decompress(codec.compress(field))
    for coder in coders:
        if coder.counted or coder.name in _LEFT_OUT:
            continue
        for ratio in ratios:
            coded = code(coder, field, ratio)
            if not coded.reached:
                continue
            yield coder.name, ratio, coded.field
            if not coder.name.startswith("zipgan"):  # which projects by itself
                yield f"{coder.name} + projection", ratio, project(coded.field, cut=True)


def _correlation(points: Sequence[Row], name: str) -> float:
    from scipy.stats import spearmanr

    errors, scores = ([point[key] for point in points] for key in ("gradient", name))
    return float(cast(Any, spearmanr(errors, scores)).statistic)


def _correlation_within(points: Sequence[Row], name: str, n_fields: int) -> float:
    fields = [[point for point in points if point["field"] == index] for index in range(n_fields)]
    return float(np.mean([_correlation(group, name) for group in fields]))


def markdown(results: Mapping[str, Any]) -> str:
    """The correlations as a table: over all fields, and within a field."""
    names = list(results["correlations"])
    kinds = list(results["correlations"][names[0]])
    lines = ["| fields | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for kind in kinds:
        cells = (f"{results['correlations'][name][kind]:+.2f}, {results['alone'][name][kind]:+.2f}" for name in names)
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
