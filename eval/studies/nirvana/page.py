"""The tables of video in docs/results.md, from the rows of `codec bench`, so that nobody types a number twice.

    python -P -m codec.eval.studies.nirvana.page eval/results/nirvana*/rows.csv docs/results.md

replaces what stands between `<!-- nirvana -->` and `<!-- /nirvana -->`. A test compares the page with the rows.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from ....datasets.clips import CLIPS
from ...bench.bd import bd_delta
from ...output import write_file
from ...report.readme import between

__all__ = ["OURS", "PEERS", "main", "rate_table", "speed_table", "tables"]

OURS = "nirvana"
PEERS = {
    "x264:420": "x264 medium",
    "x264:veryslow:420": "x264 veryslow",
    "x265:420": "x265 medium",
    "x265:slower:420": "x265 slower",
    "av1": "AV1 preset 6",
    "av1:preset=3": "AV1 preset 3",
}
METRIC = "psnr-y"
MARK = "nirvana"
Row = Mapping[str, str]


def tables(rows: Sequence[Row]) -> str:
    """The two tables of the page, as Markdown."""
    return rate_table(rows) + "\n\n" + speed_table(rows)


def rate_table(rows: Sequence[Row]) -> str:
    """A line for each item, those of the smallest loss against x265 first: BD-rate by the PSNR of luma."""
    lines = {item: [_delta(rows, item, peer) for peer in PEERS] for item in _items(rows)}
    place = list(PEERS).index("x265:420")
    order = sorted(lines, key=lambda item: (lines[item][place] is None, lines[item][place] or 0.0))
    out = ["| clip | " + " | ".join(PEERS.values()) + " |", "|---|" + "---|" * len(PEERS)]
    for item in order:
        cells = ["-" if delta is None else f"{round(delta):+d} %" for delta in lines[item]]
        out.append(f"| {_about(rows, item)} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def speed_table(rows: Sequence[Row]) -> str:
    """A line for each codec: of each item the processor seconds a frame to encode, from the cheapest to the dearest
    setting, and frames in a processor second to decode."""
    items = sorted(_items(rows), key=lambda item: _pixels(rows, item))
    out = ["| seconds a frame to encode; frames a second decoded | " + " | ".join(_size(rows, i) for i in items) + " |"]
    out.append("|---|" + "---|" * len(items))
    for codec, name in {OURS: "**nirvana**", **PEERS}.items():
        cells = []
        for item in items:
            points = [row for row in rows if row["codec"] == codec and row["item"] == item]
            if not points:
                cells.append("-")
                continue
            frames = _frames(points[0])
            encode = [float(row["encode_cpu"]) / frames for row in points]
            decode = [frames / float(row["decode_cpu"]) for row in points]
            cells.append(f"{_range(encode)}; {_range(decode)}")
        out.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def _items(rows: Sequence[Row]) -> list[str]:
    return sorted({row["item"] for row in rows if row["codec"] == OURS})


def _delta(rows: Sequence[Row], item: str, peer: str) -> float | None:
    our_points, peer_points = (
        [(float(row["rate"]), float(row[METRIC])) for row in rows if row["item"] == item and row["codec"] == codec]
        for codec in (OURS, peer)
    )
    return bd_delta(peer_points, our_points).rate


def _frames(row: Row) -> int:
    return int(row["shape"].split("x")[0])


def _shape(rows: Sequence[Row], item: str) -> list[int]:
    return [int(n) for n in next(row["shape"] for row in rows if row["item"] == item).split("x")]


def _pixels(rows: Sequence[Row], item: str) -> int:
    _, height, width, *_ = _shape(rows, item)
    return height * width


def _size(rows: Sequence[Row], item: str) -> str:
    _, height, width, *_ = _shape(rows, item)
    return f"{item.split('-')[0]}, {width}x{height}"


def _about(rows: Sequence[Row], item: str) -> str:
    frames, height, width, *_ = _shape(rows, item)
    known = CLIPS.get(Path(item).stem)
    apart = ", held out" if known is not None and known.held_out else ""
    return f"{item.split('-')[0]}, {frames} frames of {width}x{height}{apart}"


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def read(paths: Sequence[Path]) -> list[Row]:
    """The rows of several rows.csv of `codec bench`."""
    rows: list[Row] = []
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            rows += csv.DictReader(file)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="codec.eval.studies.nirvana.page", description=__doc__)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("page", type=Path)
    args = parser.parse_args(argv)
    new = between(args.page.read_text(encoding="utf-8"), tables(read(args.rows)), MARK)
    write_file(args.page, new)


if __name__ == "__main__":
    main()
