"""Scenes as files: dualgs without loss beside zip, zstd, xz and SPZ of version 4, whole files of everyone.

    python -P -m codec.eval.studies.splat_files --out eval/results/dualgs --page docs/results.md
    python -P -m codec.eval.studies.splat_files FILE.ply OTHER.spz --out results      # scenes of yours

Each file is coded as it is: the integers of one that is quantised, the float32 of another. A file that isn't SPZ is
also written as SPZ of version 4, which rounds, and that is coded in turn. Every file of ours is decoded again, and its
Gaussians are compared bit by bit, in whatever order: what differs stops the study.

The column `SPZ v4` is what the same Gaussians take there: the same integers if the source is SPZ, else rounded ones.
Seconds are medians of --repeat runs; their ratios are to zstd -19 on the source, and to writing and reading SPZ v4. In
--out: files.json and files.csv. --page also replaces the table of docs/results.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import zstandard

from ...codecs.base.codec import Codec
from ...datasets.places import find_data
from ...errors import MediaError
from ...media import GAUSSIAN_READS
from ...media.gaussians import spz
from ...media.gaussians.forms import read
from ...media.gaussians.values import Table
from ..bench.run import machine_name
from ..output import write_file, write_json
from ..report.readme import between
from .splat_peers import same, seconds_of, spz4, xz, zipped, zstd

__all__ = ["Row", "main", "markdown", "measured", "sources"]

DATA = "splats"
MARK = "dualgs-files"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """A file and what it takes elsewhere, in bytes; seconds of ours, of zstd -19, and of SPZ v4."""

    name: str
    form: str
    gaussians: int
    degree: int
    source: int
    zip: int
    zstd: int
    xz: int
    spz4: int
    ours: int
    encode_seconds: float
    decode_seconds: float
    zstd_encode_seconds: float
    zstd_decode_seconds: float
    spz4_encode_seconds: float
    spz4_decode_seconds: float

    @property
    def saved(self) -> float:
        """The part of the source's bytes that ours doesn't take."""
        return 1 - self.ours / self.source

    @property
    def saved_of_spz4(self) -> float:
        """The part of the bytes of SPZ v4 that ours doesn't take; below 0 for a float file, which SPZ rounds."""
        return 1 - self.ours / self.spz4

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "saved": self.saved,
            "saved_of_spz4": self.saved_of_spz4,
            "encode_against_zstd": self.encode_seconds / self.zstd_encode_seconds,
            "decode_against_zstd": self.decode_seconds / self.zstd_decode_seconds,
            "encode_against_spz4": self.encode_seconds / self.spz4_encode_seconds,
            "decode_against_spz4": self.decode_seconds / self.spz4_decode_seconds,
        }


def sources(files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """The files by name, and behind each that isn't SPZ the same scene as SPZ v4."""
    for path in files:
        data = path.read_bytes()
        yield path.name, data
        scene = read(data, path.name)
        if scene.form != spz.FORM:
            yield f"{path.name} as SPZ v4", spz4(scene.gaussians)


def measured(name: str, data: bytes, repeat: int = 1) -> Row:
    """The row of a file. MediaError if what is decoded isn't what was in it."""
    scene = read(data, "" if name.endswith("as SPZ v4") else name)
    codec = Codec.load("dualgs").with_settings(lossless=True)
    ours, encode = seconds_of(lambda: codec.compress(data), repeat)
    decoded, decode = seconds_of(lambda: codec.decompress(ours), repeat)
    if not same(scene.gaussians, decoded):
        raise MediaError(f"{name}: what was decoded isn't the same")
    packed, zstd_encode = seconds_of(lambda: zstd(data), repeat)
    _, zstd_decode = seconds_of(lambda: zstandard.ZstdDecompressor().decompress(packed), repeat)
    held: Any = scene.table if scene.form == spz.FORM and _is_new(scene.table) else scene.gaussians
    other, spz_encode = seconds_of(lambda: spz4(held), repeat)
    _, spz_decode = seconds_of(lambda: read(other, ""), repeat)
    return Row(
        name=name,
        form=scene.form,
        gaussians=len(decoded),
        degree=decoded.degree,
        source=len(data),
        zip=len(zipped({name: data})),
        zstd=len(packed),
        xz=len(xz(data)),
        spz4=len(other),
        ours=len(ours),
        encode_seconds=encode,
        decode_seconds=decode,
        zstd_encode_seconds=zstd_encode,
        zstd_decode_seconds=zstd_decode,
        spz4_encode_seconds=spz_encode,
        spz4_decode_seconds=spz_decode,
    )


def _is_new(table: Table | None) -> bool:
    """Whether the integers of an SPZ file can be written as version 4: rotations of versions 1 and 2 can't."""
    version = table.detail["version"] if table is not None else 0
    return isinstance(version, int) and version >= 3


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of docs/results.md, from what files.json holds."""
    lines = [
        "| bytes | Gaussians | source | `zip -9` | `zstd -19` | `xz -9e` | SPZ v4 | **dualgs** | saved, of SPZ v4 |"
    ]
    lines += ["|---|" + "---|" * 8]
    for row in rows:
        sizes = [f"{row[key]:,}".replace(",", " ") for key in ("source", "zip", "zstd", "xz", "spz4", "ours")]
        cells = [row["name"], f"{row['gaussians']:,}".replace(",", " "), *sizes]
        saved = f"{100 * row['saved']:.1f} %, " + (_of_spz(row) if _rounds_alike(row) else "(it rounds)")
        lines.append(f"| {' | '.join(cells)} | {saved} |")
    heads = ["encode, times `zstd -19`", "encode, times SPZ v4", "decode, times SPZ v4"]
    lines += ["", f"| seconds | {' | '.join(heads)} |", "|---|---|---|---|"]
    for row in rows:
        ratios = [row[key] for key in ("encode_against_zstd", "encode_against_spz4", "decode_against_spz4")]
        lines.append(f"| {row['name']} | {' | '.join(f'{ratio:.2g} x' for ratio in ratios)} |")
    return "\n".join(lines)


def _rounds_alike(row: Mapping[str, Any]) -> bool:
    return row["form"] == spz.FORM


def _of_spz(row: Mapping[str, Any]) -> str:
    return f"{100 * row['saved_of_spz4']:.1f} %"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
    )
    return text.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and writes files.json and files.csv into --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="scenes (default: those of the folder `splats`)")
    parser.add_argument("--out", type=Path, required=True, help="a folder for files.json and files.csv")
    parser.add_argument("--repeat", type=int, default=3, help="timed runs, of which the median counts")
    parser.add_argument("--page", type=Path, help="a page with marks, whose table is replaced")
    options = parser.parse_args(argv)
    files = options.files
    if not files:
        folder = find_data(DATA, "scenes to measure on")
        files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(tuple(GAUSSIAN_READS)))
    if not files:
        raise MediaError("no files of Gaussians: name some")
    rows = []
    for name, data in sources(files):
        rows.append(measured(name, data, max(1, options.repeat)).as_json())
        sys.stderr.write(f"{name}: {len(data)} bytes, {rows[-1]['ours']}\n")
    command = "python -P -m codec.eval.studies.splat_files --out OUT"
    write_json(options.out / "files.json", {"command": command, "machine": machine_name(), "files": rows})
    write_file(options.out / "files.csv", _csv(rows))
    table = markdown(rows)
    if options.page is not None:
        write_file(options.page, between(options.page.read_text(encoding="utf-8"), table, MARK))
    sys.stdout.write(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
