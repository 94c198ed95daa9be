"""The README's table of results, generated from a run's summary, so that nobody types a number twice.

    python -P -m codec.eval.readme eval/results/kodak/summary.json README.md

replaces what stands between `<!-- kodak -->` and `<!-- /kodak -->`; --mark takes other words. A test compares the
README with the summaries.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .output import write_file

__all__ = ["between", "main", "table"]

MARK = "kodak"
RATES = (0.25, 0.5, 1.0)  # bits per pixel at which curves are read off
ANCHOR = "jpeg:444"
SPEED = "webp:420"  # whose speed is 1


def table(summary: Mapping[str, Any]) -> str:
    """Markdown: a line for each lossy curve, the best BD-rate first, then those that have none."""
    curves = [curve for curve in summary["curves"] if not curve["lossless"] and curve["points"]]
    deltas = {
        delta["codec"]: delta
        for delta in summary["bd"]
        if delta["anchor"] == ANCHOR and delta["metric"] == "psnr-rgb" and delta["bd_rate"] is not None
    }
    peer = next(curve for curve in curves if curve["codec"] == SPEED)
    heads = [f"PSNR at {rate:g} bpp" for rate in RATES]
    lines = [
        "| codec | its points | BD-rate against JPEG 4:4:4 (over which PSNR) | "
        + " | ".join(heads)
        + " | encoding | decoding |",
        "|---|---|---|" + "---|" * len(RATES) + "---|---|",
    ]
    for curve in sorted(curves, key=lambda curve: _place(curve, deltas)):
        name = f"**`{curve['codec']}`**" if curve["ours"] else f"`{curve['codec']}`"
        points = [point for point in curve["points"] if point["complete"]]
        ends = [points[0], points[-1]] if len(points) > 1 else points
        spread = " to ".join(f"{point['bpp']:.2f}" for point in ends) + " bpp, "
        spread += " to ".join(f"{point['psnr-rgb']:.1f}" for point in ends) + " dB"
        change = "0" if curve["codec"] == ANCHOR else "-"
        if curve["codec"] in deltas:
            delta = deltas[curve["codec"]]
            change = f"{round(delta['bd_rate']):+d} % ({delta['window'][0]:.0f} to {delta['window'][1]:.0f} dB)"
            change = change.replace("+0 %", "0 %")
        cells = [name, spread, change, *(_cell(_at(points, rate)) for rate in RATES)]
        cells += [_ratio(points, peer["points"], side) for side in ("encode", "decode")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _place(curve: Mapping[str, Any], deltas: Mapping[str, Mapping[str, Any]]) -> float:
    if curve["codec"] in deltas:
        return deltas[curve["codec"]]["bd_rate"]
    return 0.0 if curve["codec"] == ANCHOR else math.inf


def _at(points: Sequence[Mapping[str, Any]], rate: float) -> float | None:
    """PSNR at a rate, by straight lines over the logarithm of the rate; None outside the curve."""
    rates = [point["bpp"] for point in points]
    if len(points) < 2 or not rates[0] <= rate <= rates[-1]:
        return None
    return float(np.interp(math.log(rate), np.log(rates), [point["psnr-rgb"] for point in points]))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _ratio(points: Sequence[Mapping[str, Any]], peer: Sequence[Mapping[str, Any]], side: str) -> str:
    """Speed against the peer's, at the point nearest to half a bit and the peer's point nearest to its rate."""
    middle = min(points, key=lambda point: abs(math.log(point["bpp"] / 0.5)))
    other = min(peer, key=lambda point: abs(math.log(point["bpp"] / middle["bpp"])))
    ratio = other[f"{side}_seconds"] / middle[f"{side}_seconds"]
    return f"{ratio:.2g} x"


def between(text: str, content: str, mark: str = MARK) -> str:
    """The text with other content between the marks. ValueError without them."""
    opening, closing = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    head, begin, rest = text.partition(opening)
    _, end, tail = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"no {opening} and {closing} in the text")
    return f"{head}{opening}\n{content}\n{closing}{tail}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="codec.eval.readme", description=__doc__)
    parser.add_argument("summary", type=Path)
    parser.add_argument("readme", type=Path)
    parser.add_argument("--mark", default=MARK)
    args = parser.parse_args(argv)
    content = table(json.loads(args.summary.read_text(encoding="utf-8")))
    new = between(args.readme.read_text(encoding="utf-8"), content, args.mark)
    write_file(args.readme, new)


if __name__ == "__main__":
    main()
