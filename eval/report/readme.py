"""Tables of results in the README and in docs/results.md, made from the summaries of runs: nobody types a number twice.

    python -P -m codec.eval.report.readme eval/results/kodak/summary.json docs/results.md
    python -P -m codec.eval.report.readme eval/results/s2lic/summary.json docs/results.md --mark s2lic
    python -P -m codec.eval.report.readme eval/results/s2lic/summary.json README.md --mark s2lic --short

replaces what stands between `<!-- kodak -->` and `<!-- /kodak -->`; --mark names other marks, --short makes the table
for people who don't know the field. A test compares both pages with the summaries.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..output import write_file

__all__ = ["between", "main", "short_table", "table"]

MARK = "kodak"
RATES = (0.25, 0.5, 1.0)  # bits per pixel at which curves are read off
SHORT_RATE = 0.5  # the one of the short table
ANCHOR = "jpeg:444"
SPEED = "webp:420"  # whose speed is 1
# The short table has these curves only, under names that a photographer knows.
SHORT = {
    "s2lic:effort=1": "**S2LIC, `--effort 1`**",
    "s2lic": "**S2LIC**",
    "avif:444:psnr": "AVIF",
    "jxl": "JPEG XL",
    "webp:420": "WebP",
    "jpeg:444": "JPEG",
}


def table(summary: Mapping[str, Any]) -> str:
    """The Markdown table has a line for each lossy curve, the best BD-rate first, then those that have none."""
    heads = [f"PSNR at {rate:g} bpp" for rate in RATES]
    lines = [
        "| codec | its points | BD-rate against JPEG 4:4:4 (over which PSNR) | "
        + " | ".join(heads)
        + " | encoding | decoding |",
        "|---|---|---|" + "---|" * len(RATES) + "---|---|",
    ]
    deltas = _deltas(summary)
    curves = _curves(summary)
    for curve in curves:
        name = f"**`{curve['codec']}`**" if curve["ours"] else f"`{curve['codec']}`"
        points = [point for point in curve["points"] if point["complete"]]
        ends = [points[0], points[-1]] if len(points) > 1 else points
        spread = " to ".join(f"{point['bpp']:.2f}" for point in ends) + " bpp, "
        spread += " to ".join(f"{point['psnr-rgb']:.1f}" for point in ends) + " dB"
        delta = _delta(curve, deltas)
        if curve["codec"] in deltas:
            window = deltas[curve["codec"]]["window"]
            delta += f" ({window[0]:.0f} to {window[1]:.0f} dB)"
        cells = [name, spread, delta, *(_cell(_at(points, rate)) for rate in RATES)]
        cells += [f"{_speed(points, curves, side):.2g} x" for side in ("encode", "decode")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def short_table(summary: Mapping[str, Any]) -> str:
    """The Markdown table of the README: known codecs only, file sizes against JPEG, speeds in words."""
    lines = [
        f"| codec | bits at equal PSNR, against JPEG | PSNR at {SHORT_RATE:g} bits per pixel | "
        "encoding, against WebP | decoding, against WebP |",
        "|---|---|---|---|---|",
    ]
    deltas = _deltas(summary)
    curves = _curves(summary)
    for curve in curves:
        if curve["codec"] in SHORT:
            points = [point for point in curve["points"] if point["complete"]]
            delta = deltas.get(curve["codec"])
            rate = "equal" if curve["codec"] == ANCHOR else "-" if delta is None else _rate_in_words(delta["bd_rate"])
            cells = [SHORT[curve["codec"]], rate, _cell(_at(points, SHORT_RATE))]
            cells += [_speed_in_words(_speed(points, curves, side)) for side in ("encode", "decode")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _curves(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Lossy curves that have points: by their BD-rate, the anchor at 0, those without one at the end."""
    deltas = _deltas(summary)

    def place(curve: Mapping[str, Any]) -> float:
        if curve["codec"] in deltas:
            return deltas[curve["codec"]]["bd_rate"]
        return 0.0 if curve["codec"] == ANCHOR else math.inf

    return sorted((curve for curve in summary["curves"] if not curve["lossless"] and curve["points"]), key=place)


def _deltas(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The BD-rates against the anchor by RGB PSNR, by codec; codecs without a number are left out."""
    return {
        delta["codec"]: delta
        for delta in summary["bd"]
        if delta["anchor"] == ANCHOR and delta["metric"] == "psnr-rgb" and delta["bd_rate"] is not None
    }


def _delta(curve: Mapping[str, Any], deltas: Mapping[str, Mapping[str, Any]]) -> str:
    if curve["codec"] in deltas:
        return f"{round(deltas[curve['codec']]['bd_rate']):+d} %".replace("+0 %", "0 %")
    return "0" if curve["codec"] == ANCHOR else "-"


def _at(points: Sequence[Mapping[str, Any]], rate: float) -> float | None:
    """PSNR at a rate, by straight lines over the logarithm of the rate; None outside the curve."""
    rates = [point["bpp"] for point in points]
    if len(points) < 2 or not rates[0] <= rate <= rates[-1]:
        return None
    return float(np.interp(math.log(rate), np.log(rates), [point["psnr-rgb"] for point in points]))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _speed(points: Sequence[Mapping[str, Any]], curves: Sequence[Mapping[str, Any]], side: str) -> float:
    """Speed over WebP's, at the point nearest to half a bit per pixel and WebP's point nearest to its rate."""
    peer = next(curve["points"] for curve in curves if curve["codec"] == SPEED)
    middle = min(points, key=lambda point: abs(math.log(point["bpp"] / 0.5)))
    other = min(peer, key=lambda point: abs(math.log(point["bpp"] / middle["bpp"])))
    return other[f"{side}_seconds"] / middle[f"{side}_seconds"]


def _rate_in_words(percent: float) -> str:
    """A BD-rate in words: -53.7 is "54 % fewer"."""
    return "equal" if round(percent) == 0 else f"{abs(round(percent))} % {'fewer' if percent < 0 else 'more'}"


def _speed_in_words(speed: float) -> str:
    """A ratio of speeds in words, with two digits: 0.0071 is "140 times slower". Differences below 5 % are none."""
    if 1 / 1.05 < speed < 1.05:
        return "equal"
    times = float(f"{max(speed, 1 / speed):.2g}")
    return f"{times:g} times {'faster' if speed > 1 else 'slower'}"


def between(text: str, content: str, mark: str = MARK) -> str:
    """The text with other content between the marks. ValueError without them."""
    opening, closing = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    head, begin, rest = text.partition(opening)
    _, end, tail = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"no {opening} and {closing} in the text")
    return f"{head}{opening}\n{content}\n{closing}{tail}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="codec.eval.report.readme", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("summary", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--mark", default=MARK)
    parser.add_argument("--short", action="store_true")
    args = parser.parse_args(argv)
    make = short_table if args.short else table
    content = make(json.loads(args.summary.read_text(encoding="utf-8")))
    write_file(args.page, between(args.page.read_text(encoding="utf-8"), content, args.mark))


if __name__ == "__main__":
    main()
