"""The part `speed` of the study of ZipGAN: MB a second, and after how many snapshots the weights' bytes pay.

Seconds are those of one processor, one thread, so that other work on the machine hardly counts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

from ....codecs.base.weights import find
from ...metrics.turbulence import Flow, gradient_error, project
from .coders import CODERS, FieldCoder, code
from .simulations import Field, Row

__all__ = ["KEY", "RUNS", "markdown", "measure_break_even", "measure_speed", "weights_bytes"]

RUNS = 3  # of which the median counts
KEY = ("coder", "target")  # rows with the same values here are of the same measurement
_HALVINGS = 14  # of SPERR's range of settings, to meet an error of the gradients


def measure_speed(field: Field, coders: Sequence[FieldCoder], ratios: Sequence[float]) -> Iterator[Row]:
    """Yields a row for each coder and ratio: MB of the field in a processor second, medians of RUNS."""
    for coder in coders:
        if coder.counted or coder.name == "sperr-mse":
            continue
        for ratio in ratios:
            setting = code(coder, field, ratio).setting
            data = coder.encode(field, setting)
            encode = _seconds(lambda coder=coder, setting=setting: coder.encode(field, setting))
            decode = _seconds(lambda coder=coder, data=data: coder.decode(data))
            yield {
                "coder": coder.name,
                "target": ratio,
                "encode_mb_s": field.nbytes / 1e6 / encode,
                "decode_mb_s": field.nbytes / 1e6 / decode,
                "ratio": field.nbytes / len(data),
            }


def measure_break_even(
    fields: Sequence[Field], coders: Sequence[FieldCoder], ratios: Sequence[float], weights: Mapping[str, Path]
) -> Iterator[Row]:
    """Yields a row for each zipgan and ratio: how many snapshots save the bytes of its weights, against SPERR with the
    projection at the same error of the gradients. Infinitely many, if ours isn't smaller."""
    for coder in (coder for coder in coders if coder.name.startswith("zipgan")):
        size = weights_bytes(coder.name, weights)
        for ratio in ratios:
            row = {"coder": coder.name, "target": ratio, "weights_bytes": size}
            yield row | _break_even(coder, fields, ratio, size)


def _seconds(action: Callable[[], Any]) -> float:
    taken = []
    for _ in range(RUNS):
        start = process_time()
        action()
        taken.append(process_time() - start)
    return statistics.median(taken)


def weights_bytes(name: str, weights: Mapping[str, Path]) -> int:
    """Size of the weights file of a zipgan, such as zipgan@64x: the one in `weights`, or the shipped one."""
    if name in weights:
        return weights[name].stat().st_size
    codec, _, tag = name.partition("@")
    return Path(find(codec, tag or None).path).stat().st_size


def _break_even(coder: FieldCoder, fields: Sequence[Field], ratio: float, weights_size: int) -> dict[str, Any]:
    sperr, our_bytes, sperr_bytes = CODERS["sperr-mse"](), 0, 0
    for field in fields:
        truth, coded = Flow(field), code(coder, field, ratio)
        error = gradient_error(truth, coded.field)
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            data = sperr.encode(field, sperr.setting(middle))
            worse = gradient_error(truth, project(sperr.decode(data), cut=True)) > error
            low, high = (low, middle) if worse else (middle, high)
        our_bytes += coded.n_bytes
        sperr_bytes += len(sperr.encode(field, sperr.setting(low)))
    saved = (sperr_bytes - our_bytes) / len(fields)
    return {
        "bytes": our_bytes / len(fields),
        "sperr_bytes_at_equal_gradient": sperr_bytes / len(fields),
        "snapshots": math.ceil(weights_size / saved) if saved > 0 else math.inf,
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The results of this part as one table or two."""
    lines = ["| coder | ratio | encode MB/s | decode MB/s |", "|---|---|---|---|"]
    for row in results["rows"]:
        lines.append(f"| {row['coder']} | {row['ratio']:.0f} | {row['encode_mb_s']:.1f} | {row['decode_mb_s']:.1f} |")
    if results["weights"]:
        lines += ["", "| coder | ratio | bytes | SPERR + projection, same gradient error | weights | pay after |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in results["weights"]:
            sizes = f"{row['bytes']:.0f} | {row['sperr_bytes_at_equal_gradient']:.0f} | {row['weights_bytes']}"
            lines.append(f"| {row['coder']} | {row['target']:g} | {sizes} | {row['snapshots']} snapshots |")
    return "\n".join(lines)
