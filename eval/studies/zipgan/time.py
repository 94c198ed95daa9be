"""The part `time` of the study of ZipGAN: a snapshot out of its neighbours, against how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....errors import MediaError
from ...metrics.turbulence import Flow, gradient_error, relative_error
from .coders import FieldCoder, code_all
from .simulations import Field, Row, Snapshots

__all__ = ["GAPS", "KEY", "Interpolations", "interpolations", "markdown", "measure"]

GAPS = (2, 4, 8, 12, 16, 20, 24)  # snapshots between the two that are stored
KEY = ("kind", "spacing")  # rows with the same values here are of the same measurement
# At these distances the interpolation is what errs, so that one anchor is enough.
_LEFT_OUT = ("zfp", "interp", "sperr-mse", "sz3")

Middle = Callable[[int, int], Field]  # the field halfway between two stored snapshots, given by their places


@dataclass
class Interpolations:
    """Ways to interpolate in time, and what they start from.

    middles: by name, how the middle of two stored snapshots is made. stored: by coder and ratio, the mean relative
    L2 error of what is stored."""

    middles: dict[str, Middle] = field(default_factory=dict)
    stored: dict[str, float] = field(default_factory=dict)


def interpolations(data: Snapshots, coders: Sequence[FieldCoder], ratios: Sequence[float]) -> Interpolations:
    """Ways to the middle: linear interpolation of the originals, and of what each coder decodes; interpolated latents
    of the coders that have them. MediaError if there are too few snapshots for any distance."""
    _gaps(data)  # said before hours of coding
    ways = Interpolations({"originals, linear": _linear(data.fields)})
    for coder in coders:
        if coder.counted or coder.name in _LEFT_OUT:
            continue
        for ratio in ratios:
            coded = code_all(coder, data.fields, ratio)
            label = f"{coder.name} at {ratio:g}"
            ways.middles[f"{label}, linear"] = _linear([version.field for version in coded])
            errors = [
                relative_error(original, version.field) for original, version in zip(data.fields, coded, strict=True)
            ]
            ways.stored[label] = float(np.mean(errors))
            if coder.between is not None:
                ways.middles[f"{label}, latents"] = _latent(coder, data.fields, [version.setting for version in coded])
    return ways


def measure(data: Snapshots, ways: Interpolations) -> Iterator[list[Row]]:
    """Yields the rows of each way to the middle, one for each distance; errors are means over all pairs of snapshots
    that far apart."""
    gaps = _gaps(data)
    for kind, middle in ways.middles.items():
        rows = []
        for gap in gaps:
            pairs = [(at, at + gap) for at in range(0, len(data.fields) - gap, max(1, gap // 2))]
            made = [(data.fields[(a + b) // 2], middle(a, b)) for a, b in pairs]
            rows.append(
                {
                    "kind": kind,
                    "spacing": gap * data.spacing,
                    "turnovers": gap * data.spacing / data.turnover,
                    "velocity": float(np.mean([relative_error(truth, guess) for truth, guess in made])),
                    "gradient": float(np.mean([gradient_error(Flow(truth), guess) for truth, guess in made])),
                    "pairs": len(pairs),
                }
            )
        yield rows


def _gaps(data: Snapshots) -> list[int]:
    gaps = [gap for gap in GAPS if gap < len(data.fields)]
    if not gaps:
        raise MediaError(f"{len(data.fields)} snapshots; expected three or more, closely spaced")
    return gaps


def _linear(fields: Sequence[Field]) -> Middle:
    return lambda a, b: (fields[a] + fields[b]) / 2


def _latent(coder: FieldCoder, fields: Sequence[Field], settings: Sequence[float]) -> Middle:
    def middle(a: int, b: int) -> Field:
        assert coder.between is not None
        first, second = (coder.encode(fields[at], settings[at]) for at in (a, b))
        return coder.between(first, second, 0.5)

    return middle


def markdown(results: Mapping[str, Any]) -> str:
    """The results of this part as a table."""
    lines = [
        "| stored, and how the middle is made | spacing / turnover time | rel. L2 | gradient |",
        "|---|---|---|---|",
    ]
    for row in results["rows"]:
        lines.append(f"| {row['kind']} | {row['turnovers']:.2f} | {row['velocity']:.4f} | {row['gradient']:.3f} |")
    return "\n".join(lines)
