"""The results of machine perception that this repository keeps: summaries, plots, and the tables of docs/results.md.

    codec reproduce mpq --out runs/perception       # an hour or two on two cores; goes on where it stopped
    python -P -m codec.eval.studies.perception runs/perception --out eval/results/perception \\
        --page docs/results.md

Rows stay where they are: they are megabytes, and the command makes them again. In --out: mpq.json, and for each task
its summary and the plot of its score.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..output import write_file, write_json
from ..report.plots import rd_svg
from ..report.readme import between
from ..reproduce.mpq_learning import LEARNING, TRAINED

__all__ = ["MARK", "learning_markdown", "main", "markdown"]

MARK = "perception"
UNITS = {"image": "bpp", "audio": "kbit/s", "array": "bits a value"}


def markdown(report: Mapping[str, Any], summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """A table for each task: the rates that keep 99 and 95 % of the score for the original; the findings below."""
    lines = []
    for name, part in report["tasks"].items():
        unit = UNITS[summaries[name]["data"]["medium"]]
        original = part["original"]
        answers = f" ({part['answers']} answers)" if part.get("answers", 0) > part["samples"] else ""
        lines += [
            f"**{name}**: {part['samples']} samples{answers}, asked of {part['model']}. Score of the original: "
            f"{part['score']} {original[0]:.3f}.",
            "",
            f"| codec | 99 % of the score from ({unit}) | 95 % from | kept by the largest setting |",
            "|---|---|---|---|",
        ]
        lines += [f"| `{row['codec']}` | {row['99']} | {row['95']} | {row['largest']} |" for row in part["kept"]]
        lines.append("")
    lines += ["| finding | task | difference and its interval | |", "|---|---|---|---|"]
    for name, part in report["tasks"].items():
        for row in part["generative"]:
            about = f"1: VQGAN scores higher than shrunk pictures, at {row['bpp']:g} bpp"
            lines.append(f"| {about} | {name} | {_range(row['difference'])} | {row['verdict']} |")
        similarity = part["similarity"]
        if "verdict" in similarity:
            about = "2: LPIPS tells the score better than PSNR does (Spearman)"
            lines.append(f"| {about} | {name} | {_range(similarity['deep_less_psnr'])} | {similarity['verdict']} |")
    return "\n".join(lines)


def learning_markdown(report: Mapping[str, Any]) -> str:
    """Two tables: classifiers of latents and of pixels; networks that were trained and tested on compressed data."""
    learning = report[LEARNING]
    lines = [
        f"Data: {learning['data']}. Intervals are of test pictures drawn again.",
        "",
        "| a classifier of | numbers | accuracy | seconds to train, one thread | parameters |",
        "|---|---|---|---|---|",
    ]
    for row in learning["rows"]:
        shape = " x ".join(map(str, row["shape"]))
        numbers = f"{row['numbers']} | {_range(row['accuracy'])} | {row['training_seconds']:.0f} | {row['parameters']}"
        lines.append(f"| {row['input']}, {shape} | {numbers} |")
    lines += [
        "",
        f"Latents less smaller pictures: {_range(learning['latents_less_pixels'])}, {learning['verdict']}.",
        f"The files that hold these latents have {learning['walloc']['bpp']:.2f} bits per pixel.",
    ]
    return "\n".join([*lines, *(_trained(report[TRAINED]) if TRAINED in report else ())])


def _trained(trained: Mapping[str, Any]) -> list[str]:
    """The lines about networks that were trained on compressed pictures, and tested on them and on the originals."""
    lines = [
        "",
        f"Data: {trained['data']}.",
        "",
        "| codec | trained and tested on it, less trained on it and tested on originals (finding 3) | | trained and "
        "tested on it, less trained on originals and tested on it | |",
        "|---|---|---|---|---|",
    ]
    for row in trained["rows"]:
        cells = (
            f"`{row['codec']}`, {row['bpp']:.2f} bpp",
            _range(row["lossy_training_gains_by_compression"]),
            row["verdict"],
            _range(row["training_on_it_helps"]),
            row["verdict_of_that"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| trained on | " + " | ".join(f"tested on {name}" for name in _names(trained)) + " |"]
    lines.append("|---" * (len(_names(trained)) + 1) + "|")
    for name in _names(trained):
        cells = [f"{trained['accuracy'][f'{name} -> {other}'][0]:.3f}" for other in _names(trained)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _names(trained: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(pair.partition(" -> ")[0] for pair in trained["accuracy"]))


def _range(values: Sequence[Any]) -> str:
    value, low, high = (float(x) for x in values)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _kept_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary without the names of its samples, of which their number is enough."""
    data = summary["data"]
    return {**summary, "data": {**data, "items": len(data["items"])}}


def main(argv: Sequence[str] | None = None) -> int:
    """Copies what is kept, and replaces the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder of `codec reproduce mpq`")
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is kept")
    parser.add_argument("--page", type=Path, help="a page with marks, whose table is replaced")
    options = parser.parse_args(argv)
    try:
        report = json.loads((options.runs / "mpq.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{options.runs}: no mpq.json that can be read ({error}): codec reproduce mpq") from None
    summaries = {}
    for name, part in report["tasks"].items():
        summary = json.loads((options.runs / name / "summary.json").read_text(encoding="utf-8"))
        summaries[name] = summary
        write_json(options.out / f"{name}.json", _kept_of(summary))
        write_file(options.out / f"{name}.svg", rd_svg(summary, part["score"]))
    write_json(options.out / "mpq.json", report)
    tables = {MARK: markdown(report, summaries)}
    if LEARNING in report:
        tables[f"{MARK}-{LEARNING}"] = learning_markdown(report)
    if options.page is not None:
        page = options.page.read_text(encoding="utf-8")
        for mark, table in tables.items():
            page = between(page, table, mark)
        write_file(options.page, page)
    sys.stdout.write("\n\n".join(tables.values()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
