"""The part `plots` of `codec.eval.studies.zipgan.main`: spectra, distributions of gradients, slices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...metrics.turbulence import BINS, Flow, density, project
from ...report.plots import COLOURS, GREYS, figure_defaults, new_figure, render
from .coders import FieldCoder, code_all
from .simulations import Snapshots

__all__ = ["figures"]

DRAWN = ("sz3", "sperr-mse", "spectral")  # and ours: more lines than that hide each other
PROJECTED = ("sperr-mse",)  # drawn with the projection that its users could have, too
SLICE_DPI = 90  # pictures of 64 x 64 points don't need more dots
Lines = list[tuple[str, list[Flow]]]  # of a figure: a name, and the decoded fields


def figures(data: Snapshots, coders: Sequence[FieldCoder], ratios: Sequence[float]) -> Iterator[tuple[str, bytes]]:
    """Yields (file name, SVG or PNG) of three figures for each ratio. Coders that don't reach it are left out."""
    truths = [Flow(field) for field in data.fields]
    for ratio in ratios:
        lines = _lines(truths, coders, ratio)
        with figure_defaults():
            drawn = {
                f"spectra-{ratio:g}.svg": render(_spectra(truths, lines, ratio), "svg"),
                f"gradients-{ratio:g}.svg": render(_gradients(truths, lines, ratio), "svg"),
                f"slices-{ratio:g}.png": render(_slices(truths, lines, ratio), "png", SLICE_DPI),
            }
        yield from drawn.items()


def _lines(truths: Sequence[Flow], coders: Sequence[FieldCoder], ratio: float) -> Lines:
    lines: Lines = []
    for coder in coders:
        if coder.name not in DRAWN and not coder.name.startswith("zipgan"):
            continue
        coded = code_all(coder, [truth.field for truth in truths], ratio)
        if not all(version.reached for version in coded):
            continue
        lines.append((coder.name, [Flow(version.field) for version in coded]))
        if coder.name in PROJECTED:
            lines.append((f"{coder.name} + projection", [Flow(project(version.field, True)) for version in coded]))
    return lines


def _style(index: int, name: str) -> dict[str, Any]:
    is_ours = name.startswith("zipgan")
    dashes = "--" if name.endswith("projection") else "-"
    return {"color": COLOURS[index % len(COLOURS)], "linewidth": 2.4 if is_ours else 1.3, "linestyle": dashes}


def _label(axes: Any, x_label: str, y_label: str, title: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _spectra(truths: Sequence[Flow], lines: Lines, ratio: float) -> Any:
    figure = new_figure(9.2, 4.2)
    left, right = figure.subplots(1, 2)
    mean = np.mean([truth.spectrum for truth in truths], 0)
    last = math.ceil(truths[0].field.shape[1] / 3)
    k = np.arange(1, last)
    left.loglog(k, mean[1:last], color="#1c1f23", linewidth=2, label="original")
    right.axhspan(0.9, 1.1, color=GREYS[1], alpha=0.25, linewidth=0)
    for index, (name, flows) in enumerate(lines):
        decoded = np.mean([flow.spectrum for flow in flows], 0)
        left.loglog(k, np.maximum(decoded[1:last], 1e-14), label=name, **_style(index, name))
        right.semilogx(k, decoded[1:last] / mean[1:last], **_style(index, name))
    left.set_ylim(float(mean[1:last].min()) / 3, float(mean.max()) * 2)
    right.set_ylim(0, 2)
    _label(left, "wave number", "E(k)", f"at a ratio of {ratio:g}")
    _label(right, "wave number", "E(k) / that of the original", "")
    left.legend(frameon=False, fontsize=9)
    return figure


def _gradients(truths: Sequence[Flow], lines: Lines, ratio: float) -> Any:
    """Densities of gradients. All fields of a coder are one sample, so that what one value in 10^5 does is drawn."""
    figure = new_figure(9.2, 4.2)
    for axes, kind in zip(figure.subplots(1, 2), ("longitudinal", "transverse"), strict=True):

        def pooled(flows: Sequence[Flow], kind: str = kind) -> NDArray[np.floating]:
            return np.sort(np.concatenate([getattr(flow, kind) for flow in flows]))

        truth = pooled(truths)
        rms = math.sqrt(float(np.square(truth).mean(dtype=np.float64)))

        def draw(values: NDArray[np.floating], axes: Any = axes, rms: float = rms, **style: Any) -> None:
            height = density(values, rms)
            visible = height > 0
            axes.semilogy((BINS[1:] + BINS[:-1])[visible] / 2, height[visible], **style)

        draw(truth, color="#1c1f23", linewidth=2, label="original")
        for index, (name, flows) in enumerate(lines):
            draw(pooled(flows), label=name, **_style(index, name))
        reach = 1.15 * float(np.abs(truth[[0, -1]]).max()) / rms
        axes.set_ylim(1e-6, 2)
        axes.set_xlim(-reach, reach)
        _label(axes, "gradient / rms of the original's", "probability density", f"{kind}, ratio {ratio:g}")
        if kind == "transverse":
            axes.legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def _slices(truths: Sequence[Flow], lines: Lines, ratio: float) -> Any:
    """The vorticity normal to a slice of the first field, which shows what gradients look like."""

    def spin(flow: Flow) -> NDArray[np.floating]:
        return (flow.gradients[1, 0] - flow.gradients[0, 1])[0]

    shown = [("original", truths[0]), *((name, flows[0]) for name, flows in lines)]
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(2.3 * columns, 2.5 * rows + 0.3)
    largest = float(np.abs(spin(truths[0])).max())
    for place, axes in enumerate(np.atleast_1d(figure.subplots(rows, columns)).ravel()):
        axes.set_axis_off()
        if place < len(shown):
            name, flow = shown[place]
            axes.imshow(spin(flow), cmap="RdBu_r", vmin=-largest, vmax=largest, origin="lower", interpolation="nearest")
            axes.set_title(name, fontsize=9)
    figure.suptitle(f"vorticity normal to the slice, ratio {ratio:g}", fontsize=10)
    return figure
