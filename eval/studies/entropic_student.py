"""The results of Entropic Student that this repository keeps: the report, plots, and the tables of its page.

    codec reproduce entropic-student --out runs/entropic-student
    python -P -m codec.eval.studies.entropic_student runs/entropic-student --out eval/results/entropic_student \\
        --page docs/codecs/entropic-student.md
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..output import write_file, write_json
from ..report.plots import rd_svg
from ..report.readme import between

__all__ = ["MARK", "main", "markdown"]

MARK = "entropic-student"
SCORES = {"classification": "the classifier's answer stays", "edges": "F-score of HED's edges"}


def markdown(report: Mapping[str, Any]) -> str:
    """A table for each head, codecs at equal bytes; then parameters, and times on one thread."""
    lines = []
    for name, part in report["heads"].items():
        sizes = list(part["at_kilobytes"])
        lines += [
            f"**{name}**, {part['samples']} views: {SCORES[name]}, asked of {part['model']}.",
            "",
            f"| codec | {' | '.join(f'{size} kB' for size in sizes)} | its smallest file |",
            "|---" * (len(sizes) + 2) + "|",
        ]
        for label, smallest in part["smallest_bytes"].items():
            cells = [_cell(part["at_kilobytes"][size][label]) for size in sizes]
            lines.append(f"| `{label}` | {' | '.join(cells)} | {smallest:.0f} bytes |")
        lines.append("")
    encoder = report["encoder"]
    lines += ["| | parameters | milliseconds a view, one thread |", "|---|---|---|"]
    names = dict.fromkeys([*encoder["parameters"], *encoder["milliseconds"]])
    for name in names:
        count, ms = encoder["parameters"].get(name), encoder["milliseconds"].get(name)
        shown = "" if ms is None else f"{ms:.1f}"
        lines.append(f"| {name} | {'' if count is None else f'{count:,}'.replace(',', ' ')} | {shown} |")
    return "\n".join(lines)


def _cell(values: Sequence[Any]) -> str:
    if values[0] is None or not isinstance(values[0], (int, float)) or values[0] != values[0]:
        return "–"
    value, low, high = (float("nan") if x is None else float(x) for x in values)
    return f"{value:.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")


def main(argv: Sequence[str] | None = None) -> int:
    """Copies what is kept, and replaces the tables of a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder of `codec reproduce entropic-student`")
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is kept")
    parser.add_argument("--page", type=Path, help="a page with marks, whose tables are replaced")
    options = parser.parse_args(argv)
    path = options.runs / "entropic-student.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read ({error}): codec reproduce entropic-student") from None
    for name, part in report["heads"].items():
        summary = json.loads((options.runs / name / "summary.json").read_text(encoding="utf-8"))
        write_file(options.out / f"{name}.svg", rd_svg(summary, part["score"]))
    write_json(options.out / "entropic-student.json", report)
    tables = markdown(report)
    if options.page is not None:
        write_file(options.page, between(options.page.read_text(encoding="utf-8"), tables, MARK))
    sys.stdout.write(tables + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
