"""The part `table` of `codec.eval.studies.zipgan.main`: every coder at the same true ratios of bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...metrics.turbulence import Flow, compare, gaussian_bound, leaves, project
from .coders import FieldCoder, code_all
from .simulations import Row, Snapshots

__all__ = ["KEY", "describe", "markdown", "measure"]

KEY = ("coder", "target")  # rows with the same values here are of the same measurement


def describe(data: Snapshots, ratios: Sequence[float]) -> dict[str, Any]:
    """Describes the snapshots: the simulation under `about`, statistics of the originals under `truth`, and under
    `gaussian` the errors of the rate-distortion bound of a Gaussian field with each snapshot's spectrum, a row for each
    ratio. All are means over the snapshots."""
    truths = [Flow(field) for field in data.fields]
    truth = {
        name: float(np.mean([getattr(flow, name) for flow in truths]))
        for name in ("skewness", "flatness", "divergence")
    }
    gaussian = []
    for ratio in ratios:
        bounds = [gaussian_bound(field, 8 * field.nbytes / ratio) for field in data.fields]
        errors = {
            name: float(np.mean([getattr(bound, name) for bound in bounds]))
            for name in ("velocity", "gradient", "dissipation")
        }
        gaussian.append({"ratio": ratio, **errors})
    return {"about": {**data.about, "snapshots": data.indices}, "truth": truth, "gaussian": gaussian}


def measure(data: Snapshots, coders: Sequence[FieldCoder], ratios: Sequence[float]) -> Iterator[list[Row]]:
    """Yields two rows for each coder and ratio as they are measured: as decoded, and with the projection that costs no
    bits. Errors are means over the snapshots; the ratio is that of all bytes by all bytes."""
    truths = [Flow(field) for field in data.fields]
    for coder in coders:
        for ratio in ratios:
            yield _rows(truths, coder, ratio)


def _rows(truths: Sequence[Flow], coder: FieldCoder, ratio: float) -> list[Row]:
    coded = code_all(coder, [truth.field for truth in truths], ratio)
    n_bytes = sum(version.n_bytes for version in coded)
    about = {
        "coder": coder.name,
        "target": ratio,
        "ratio": sum(truth.field.nbytes for truth in truths) / n_bytes,
        "bytes": [version.n_bytes for version in coded],
        "settings": [version.setting for version in coded],
        "reached": all(version.reached for version in coded),
        "counted": coder.counted or "whole files",
    }
    rows = []
    for projected in (False, True):
        fields = [project(version.field, cut=True) if projected else version.field for version in coded]
        flows = [Flow(field) for field in fields]
        errors = [compare(truth, flow).as_dict() for truth, flow in zip(truths, flows, strict=True)]
        means = {name: float(np.mean([row[name] for row in errors])) for name in errors[0] if name != "leaves"}
        n = truths[0].field.shape[1]
        spectra = [np.sum([flow.spectrum for flow in side], 0) for side in (truths, flows)]
        # of the mean spectra: where single ones leave jumps by whole shells
        means["leaves"] = leaves(spectra[0], spectra[1], n)
        rows.append({**about, "projected": projected, **means, "gradients": [row["gradient"] for row in errors]})
    return rows


_COLUMNS = (
    ("rel. L2", "velocity", "{:.4f}"),
    ("gradient", "gradient", "{:.3f}"),
    ("dissipation", "dissipation", "{:.3f}"),
    ("enstrophy", "enstrophy", "{:.3f}"),
    ("S", "skewness", "{:.3f}"),
    ("F", "flatness", "{:.2f}"),
    ("k at ±10 %", "leaves", "{:.0f}"),
    ("W1 long./trans.", "w1", "{}"),
    ("JS long./trans., mbit", "js", "{}"),
    ("tail long./trans.", "tail", "{}"),
    ("div", "divergence", "{:.1e}"),
)


def markdown(results: Mapping[str, Any]) -> str:
    """The results of this part as a table, a block of rows for each ratio."""
    truth, about = results["truth"], results["about"]
    lines = [
        f"{about.get('n', '?')}^3, Re_lambda {about.get('re_lambda', math.nan):.1f}, "
        f"{len(about['snapshots'])} snapshots; "
        f"truth: S {truth['skewness']:.3f}, F {truth['flatness']:.2f}",
        "",
        "| coder | ratio | " + " | ".join(title for title, _, _ in _COLUMNS) + " |",
        "|---|---|" + "---|" * len(_COLUMNS),
    ]
    for ratio in sorted({row["target"] for row in results["rows"]}):
        lines += [_line(row, ratio) for row in results["rows"] if row["target"] == ratio]
        for bound in (row for row in results["gaussian"] if row["ratio"] == ratio):
            cells = [f"{bound['velocity']:.4f}", f"{bound['gradient']:.3f}", f"{bound['dissipation']:.3f}"]
            cells += ["-"] * (len(_COLUMNS) - len(cells))
            lines.append(f"| *bound, Gaussian field* | {ratio:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _line(row: Row, ratio: float) -> str:
    values = {**row}
    values["leaves"] = float(row["leaves"])
    values["w1"] = f"{row['longitudinal_w1']:.3f} / {row['transverse_w1']:.3f}"
    values["js"] = f"{1e3 * row['longitudinal_js']:.2f} / {1e3 * row['transverse_js']:.2f}"
    values["tail"] = f"{row['longitudinal_tail']:.2f} / {row['transverse_tail']:.2f}"
    at = f"{row['ratio']:.1f}" if row["counted"] == "whole files" else f"({row['ratio']:.0f})"
    at += "" if row["reached"] else f" (for {ratio:g})"
    name = row["coder"] + (" + projection" if row["projected"] else "")
    cells = [words.format(values[key]).replace("inf", "none") for _, key, words in _COLUMNS]
    return f"| {name} | {at} | " + " | ".join(cells) + " |"
