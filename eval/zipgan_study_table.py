"""The part `table` of `codec.eval.zipgan_study`: every coder at the same true ratios of bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics.turbulence import Flow, compare, gaussian_bound, leaves, project
from .zipgan_study_coders import Coder, code_all

if TYPE_CHECKING:
    from .zipgan_study import Snapshots

__all__ = ["markdown", "run"]


def run(
    data: Snapshots,
    coders: Sequence[Coder],
    ratios: Sequence[float],
    found: dict[str, Any],
    keep: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Into `found`: about, truth, gaussian, and rows, one to a coder, ratio and projection."""
    truths = [Flow(field) for field in data.fields]
    found["about"] = {**data.about, "snapshots": data.indices}
    found["truth"] = {
        name: float(np.mean([getattr(truth, name) for truth in truths]))
        for name in ("skewness", "flatness", "divergence")
    }
    found["gaussian"] = [
        {
            "ratio": ratio,
            **{
                name: float(np.mean([getattr(gaussian_bound(x, 8 * x.nbytes / ratio), name) for x in data.fields]))
                for name in ("velocity", "gradient", "dissipation")
            },
        }
        for ratio in ratios
    ]
    rows = found.setdefault("rows", [])
    for coder in coders:
        for ratio in ratios:
            fresh = _rows(truths, coder, ratio)
            rows[:] = [row for row in rows if (row["coder"], row["target"]) != (coder.name, ratio)] + fresh
            keep()
            say(f"{coder.name} at {fresh[0]['ratio']:.1f}: gradient {fresh[0]['gradient']:.4f}")


def _rows(truths: Sequence[Flow], coder: Coder, ratio: float) -> list[dict[str, Any]]:
    """As decoded, and projected: means over the fields, the ratio of all bytes by all bytes."""
    coded = code_all(coder, [truth.field for truth in truths], ratio)
    n_bytes = sum(one.n_bytes for one in coded)
    about = {
        "coder": coder.name,
        "target": ratio,
        "ratio": sum(truth.field.nbytes for truth in truths) / n_bytes,
        "bytes": [one.n_bytes for one in coded],
        "settings": [one.setting for one in coded],
        "reached": all(one.reached for one in coded),
        "counted": coder.counted or "whole files",
    }
    rows = []
    for projected in (False, True):
        fields = [project(one.field, cut=True) if projected else one.field for one in coded]
        flows = [Flow(field) for field in fields]
        errors = [compare(truth, flow).as_dict() for truth, flow in zip(truths, flows, strict=True)]
        means = {name: float(np.mean([one[name] for one in errors])) for name in errors[0] if name != "leaves"}
        n = truths[0].field.shape[1]
        spectra = [np.sum([flow.spectrum for flow in some], 0) for some in (truths, flows)]
        # of the mean spectra: where single ones leave jumps by whole shells
        means["leaves"] = leaves(spectra[0], spectra[1], n)
        rows.append({**about, "projected": projected, **means, "gradients": [one["gradient"] for one in errors]})
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


def markdown(found: Mapping[str, Any]) -> str:
    truth, about = found["truth"], found["about"]
    lines = [
        f"{about.get('n', '?')}^3, Re_lambda {about.get('re_lambda', math.nan):.1f}, "
        f"{len(about['snapshots'])} snapshots; "
        f"truth: S {truth['skewness']:.3f}, F {truth['flatness']:.2f}",
        "",
        "| coder | ratio | " + " | ".join(title for title, _, _ in _COLUMNS) + " |",
        "|---|---|" + "---|" * len(_COLUMNS),
    ]
    for ratio in sorted({row["target"] for row in found["rows"]}):
        for row in (row for row in found["rows"] if row["target"] == ratio):
            values = {**row}
            values["leaves"] = float(row["leaves"])
            values["w1"] = f"{row['longitudinal_w1']:.3f} / {row['transverse_w1']:.3f}"
            values["js"] = f"{1e3 * row['longitudinal_js']:.2f} / {1e3 * row['transverse_js']:.2f}"
            values["tail"] = f"{row['longitudinal_tail']:.2f} / {row['transverse_tail']:.2f}"
            at = f"{row['ratio']:.1f}" if row["counted"] == "whole files" else f"({row['ratio']:.0f})"
            at += "" if row["reached"] else f" (for {ratio:g})"
            name = row["coder"] + (" + projection" if row["projected"] else "")
            cells = [words.format(values[key]).replace("inf", "none") for _, key, words in _COLUMNS]
            lines.append(f"| {name} | {at} | " + " | ".join(cells) + " |")
        for one in (one for one in found["gaussian"] if one["ratio"] == ratio):
            cells = [f"{one['velocity']:.4f}", f"{one['gradient']:.3f}", f"{one['dissipation']:.3f}"]
            cells += ["-"] * (len(_COLUMNS) - len(cells))
            lines.append(f"| *bound, Gaussian field* | {ratio:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
