"""Sequences of Gaussians as files: dualgs at several qualities beside zip, SPZ v4, frame by frame, and splats4d.

    python -P -m codec.eval.studies.dual_sequences FIT --capture CAPTURE --out eval/results/dualgs
    python -P -m codec.eval.studies.dual_sequences --capture CAPTURE --skinned 20000 --degree 0 --out results
    python -P -m codec.eval.studies.dual_sequences FRAMES --out results --only rates splats4d

A sequence is the folder of a fit, any folder of frames, or made: Gaussians on the true surface of a synthetic capture
that move with it (--skinned). Parts, of which --only picks some, the others stay as they are in the results:

- rates: whole files at each quality; PSNR and SSIM of the capture's held-out views, before and after, means over
  pictures on white. `to source` compares with pictures of the Gaussians that were coded. Ratios are to raw PLY files
  with normals: of the degree that the sequence has, and at 248 bytes a Gaussian (degree 3), as the paper counts.
- splats4d: on the same frames as .splat, which has no higher harmonics, at its default bounds and others; ours at the
  same bounds. Largest errors of both are measured after decoding, in bounds.
- tables: the changes of opacities and scales as WebP pictures, as pictures of our own coder, and as tracks.
- speed: frames a second that two threads decode, from opening the file and once it is open, and the time to a frame
  anywhere. A sequence is longer with --back: segments have 30 frames, and two are decoded at a time.

In --out: sequences.json. --page also replaces the table of docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codecs.base.codec import Codec
from ...codecs.layers.splatting.camera import Camera
from ...codecs.layers.splatting.rasterise import render_array
from ...datasets.capture import Capture
from ...datasets.capture.skinned import skinned
from ...errors import MediaError, UsageError
from ...media.gaussians import writer
from ...media.gaussians.sources import open_source
from ...media.gaussians.values import Gaussians
from ..bench.run import machine_name
from ..metrics.images import psnr_rgb, ssim_rgb
from ..output import write_file, write_json
from ..report.readme import between
from .dual_decoding import speed, tables
from .dual_splats4d import beside_splats4d
from .splat_peers import PAPER_BYTES, raw_bytes, spz4, zipped

__all__ = ["Sequence4d", "Views", "main", "markdown", "rates"]

QUALITIES = (30.0, 45.0, 60.0, 75.0, 90.0)
PARTS = ("rates", "splats4d", "tables", "speed")
MARK = "dualgs"

Say = Callable[[str], None]
Pictures = list[list[NDArray[np.uint8]]]


def _silent(words: str) -> None:
    del words


@dataclass(frozen=True)
class Sequence4d:
    """A sequence that is measured. source: what the codec is given, a folder or the frames themselves."""

    name: str
    source: Any
    frames: tuple[Gaussians, ...]
    _files: dict[float, tuple[bytes, float]] = field(default_factory=dict)

    @staticmethod
    def of_folder(folder: Path, n_frames: int | None = None) -> Sequence4d:
        """The frames of a folder; the first so many, but all of a fit."""
        opened = open_source(folder)
        n = opened.n_frames if n_frames is None or opened.dual is not None else min(n_frames, opened.n_frames)
        frames = tuple(opened.frame(index) for index in range(n))
        return Sequence4d(folder.name, folder if n == opened.n_frames else frames, frames)

    @staticmethod
    def made(capture: Capture, count: int, degree: int, n_frames: int | None = None, back: bool = False) -> Sequence4d:
        """Gaussians on the true surface of a capture; back: played there and back. UsageError for one that has none."""
        if capture.truth is None:
            raise UsageError(f"{capture.folder} has no truth.safetensors: --skinned needs a synthetic capture")
        frames = tuple(skinned(capture.truth, count, degree, n_frames))
        frames += frames[-2:0:-1] if back else ()
        return Sequence4d(f"{capture.folder.name}, {count} Gaussians on its surface", frames, frames)

    @property
    def raw(self) -> int:
        """The bytes of raw PLY files of all frames, headers left out."""
        return raw_bytes(self.frames[0].degree) * len(self.frames[0]) * len(self.frames)

    def encoded(self, quality: float) -> tuple[bytes, float]:
        """The file of ours at a quality, and the seconds that it took; each is made once."""
        if quality not in self._files:
            codec = Codec.load("dualgs", quality=quality)
            began = time.perf_counter()
            data = codec.compress(self.source)
            self._files[quality] = data, time.perf_counter() - began
        return self._files[quality]

    def about(self) -> dict[str, Any]:
        first = self.frames[0]
        return {"frames": len(self.frames), "gaussians": len(first), "degree": first.degree, "raw": self.raw}


class Views:
    """The held-out views of a capture, and how well frames show what is in them.

    frames: those that were coded, whose pictures are a reference, too.
    """

    def __init__(self, capture: Capture, frames: Sequence[Gaussians], true: bool = True) -> None:
        views = capture.held_out
        self._cameras = [Camera(v.width, v.height, v.intrinsics, v.world_to_camera) for v in map(_at(capture), views)]
        if true and len(frames) > capture.n_frames:
            raise UsageError(f"{len(frames)} frames, and the capture has {capture.n_frames}: is it another one's?")
        self._sources = [self._drawn(frame) for frame in frames]
        self._true = [[capture.image(t, v) for v in views] for t in range(len(frames))] if true else None

    def _drawn(self, frame: Gaussians) -> list[NDArray[np.uint8]]:
        return [render_array(frame, camera) for camera in self._cameras]

    def before(self) -> dict[str, float]:
        """PSNR and SSIM of the frames that were coded."""
        return {} if self._true is None else _compared(self._true, self._sources, "psnr", "ssim")

    def after(self, frames: Sequence[Gaussians]) -> dict[str, float]:
        """The same of decoded frames, and against pictures of those that were coded."""
        drawn = [self._drawn(frame) for frame in frames]
        own = _compared(self._sources, drawn, "psnr_to_source", "ssim_to_source")
        return own if self._true is None else {**_compared(self._true, drawn, "psnr", "ssim"), **own}


def _at(capture: Capture) -> Callable[[int], Any]:
    return lambda view: capture.cameras[view]


def _compared(true: Pictures, drawn: Pictures, psnr: str, ssim: str) -> dict[str, float]:
    """Means over all pictures."""
    pairs = [pair for a, b in zip(true, drawn, strict=True) for pair in zip(a, b, strict=True)]
    return {
        psnr: float(np.mean([psnr_rgb(*pair) for pair in pairs])),
        ssim: float(np.mean([ssim_rgb(*pair) for pair in pairs])),
    }


# ---- rates


def rates(
    sequence: Sequence4d,
    views: Views | None,
    qualities: Sequence[float] = QUALITIES,
    apart: Sequence[float] | None = None,
    say: Say = _silent,
) -> list[dict[str, Any]]:
    """A row for each way to keep the sequence: whole files, and how well held-out views are kept.

    apart: qualities at which each frame is also coded by itself; None for the middle one.
    """
    rows: list[dict[str, Any]] = []

    def add(name: str, n_bytes: int, frames: Sequence[Gaussians] | None, **more: Any) -> None:
        seen = {} if views is None else views.before() if frames is None else views.after(frames)
        rows.append({"name": name, "bytes": n_bytes, **_ratios(sequence, n_bytes), **seen, **more})
        say(f"{sequence.name}: {name}, {n_bytes / len(sequence.frames) / 1000:.2f} kB a frame")

    files = {f"{t:04d}.ply": writer.write(frame, ".ply") for t, frame in enumerate(sequence.frames)}
    add("PLY", sum(map(len, files.values())), None)
    add("PLY in a zip", len(zipped(files)), None)
    spz = [spz4(frame) for frame in sequence.frames]
    add("SPZ v4, each frame", sum(map(len, spz)), [open_source(data).frame(0) for data in spz])
    for quality in (qualities[len(qualities) // 2],) if apart is None else apart:
        codec = Codec.load("dualgs", quality=quality)
        data = [codec.compress(frame) for frame in sequence.frames]
        decoded = [codec.decompress(part) for part in data]
        add("dualgs, each frame", sum(map(len, data)), decoded, quality=quality)
    for quality in qualities:
        codec = Codec.load("dualgs", quality=quality)
        data, seconds = sequence.encoded(quality)
        seconds /= len(sequence.frames)
        storage = codec.describe(data).get("storage", {})
        more = {"quality": quality, "encode_seconds_a_frame": seconds, "storage": storage}
        add("dualgs", len(data), codec.decompress(data), **more)
    return rows


def _ratios(sequence: Sequence4d, n_bytes: int) -> dict[str, float]:
    n_frames, count = len(sequence.frames), len(sequence.frames[0])
    return {
        "bytes_a_frame": n_bytes / n_frames,
        "bits_a_gaussian": 8 * n_bytes / n_frames / count,
        "ratio": sequence.raw / n_bytes,
        "ratio_of_248": PAPER_BYTES * count * n_frames / n_bytes,
    }


# ---- what is written


def markdown(about: Mapping[str, Any]) -> str:
    """The tables of docs/results.md, from what sequences.json holds."""
    blocks = [block for own in about["sequences"].values() for block in _blocks(own)]
    return "\n\n".join("\n".join(block) for block in blocks)


def _blocks(own: Mapping[str, Any]) -> list[list[str]]:
    """The tables of a sequence; of parts that weren't measured there are none."""
    facts = own["about"]
    words = f"{facts['gaussians']} Gaussians of degree {facts['degree']}, {facts['frames']} frames"
    blocks = []
    if "rates" in own:
        heads = ["kB a frame", "bits a Gaussian", "ratio (of 248 bytes)", "PSNR", "SSIM", "PSNR to source"]
        blocks.append([f"| {own['name']}: {words} | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)])
        blocks[-1] += [_rate_line(row) for row in own["rates"]]
    if own.get("splats4d"):
        heads = ["bounds", "kB a frame", "against splats4d", "largest errors, in bounds"]
        blocks.append([f"| {own['name']}, as .splat | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)])
        blocks[-1] += [_bound_line(row) for row in own["splats4d"]]
    if own.get("tables"):
        heads = ["look-up tables, WebP", "ours (levels)", "tracks", "whole file"]
        blocks.append([f"| {own['name']}, bytes a frame | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)])
        for row in own["tables"]:
            cells = [_number(row[key], 0) for key in ("webp", "levels", "tracks", "file")]
            blocks[-1].append(f"| quality {row['quality']:g} | {' | '.join(cells)} |")
    if own.get("speed"):
        heads = ["frames/s, two threads", "once it is open", "ms to any frame (median, worst)", "ms to open"]
        blocks.append([f"| {own['name']}, decoding | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)])
        for row in own["speed"]:
            cells = [f"{row['frames_a_second']:.1f}", f"{row['frames_a_second_open']:.1f}"]
            cells += [f"{row['seek_ms']:.0f}, {row['seek_worst_ms']:.0f}"]
            cells.append(f"{row['open_ms']:.0f}")
            blocks[-1].append(f"| quality {row['quality']:g} | {' | '.join(cells)} |")
    return blocks


def _rate_line(row: Mapping[str, Any]) -> str:
    name = f"`{row['name']}`" if "quality" not in row else f"**{row['name']}**, quality {row['quality']:g}"
    cells = [f"{row['bytes_a_frame'] / 1000:.2f}", f"{row['bits_a_gaussian']:.2f}"]
    cells.append(f"{row['ratio']:.1f} ({row['ratio_of_248']:.1f})")
    cells += [_number(row.get(key), places) for key, places in (("psnr", 2), ("ssim", 4), ("psnr_to_source", 2))]
    return f"| {name} | {' | '.join(cells)} |"


def _bound_line(row: Mapping[str, Any]) -> str:
    errors = ", ".join(f"{name} {value:.2f}" for name, value in row.get("errors", {}).items())
    kilobytes, part = f"{row['bytes_a_frame'] / 1000:.2f}", row.get("of_splats4d")
    cells = [row.get("bounds", "-"), kilobytes, "-" if part is None else f"{100 * part:.0f} %", errors or "-"]
    return f"| {row['name']} | {' | '.join(cells)} |"


def _number(value: float | str | None, places: int) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.{places}f}"


# ---- the command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", nargs="?", type=Path, help="a fit, or a folder of frames")
    parser.add_argument("--capture", type=Path, help="whose held-out views are looked at")
    parser.add_argument("--skinned", type=int, metavar="N", help="so many Gaussians on the capture's true surface")
    parser.add_argument("--degree", type=int, default=0, help="of the harmonics with --skinned (default: 0)")
    parser.add_argument("--back", action="store_true", help="with --skinned: there and back, nearly twice as long")
    parser.add_argument("--frames", type=int, help="the first so many; a fit is taken whole")
    parser.add_argument("--qualities", type=float, nargs="+", default=list(QUALITIES))
    parser.add_argument("--apart", type=float, nargs="+", help="qualities at which frames are coded by themselves, too")
    parser.add_argument("--rot-steps", type=int, nargs="+", default=[0, 2], help="of splats4d (its default: 0)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    parser.add_argument("--repeat", type=int, default=5, help="timed runs, of which the median counts")
    parser.add_argument("--name", help="of the sequence, in the results (default: its folder's)")
    parser.add_argument("--out", type=Path, required=True, help="a folder for sequences.json, which is added to")
    parser.add_argument("--page", type=Path, help="a page with marks, whose table is replaced")
    return parser


def _sequence(options: argparse.Namespace, capture: Capture | None) -> Sequence4d:
    if (options.skinned is None) == (options.sequence is None):
        raise UsageError("name the folder of a sequence, or --capture DIR and --skinned N")
    if options.skinned is None:
        return Sequence4d.of_folder(options.sequence, options.frames)
    if capture is None:
        raise UsageError("--skinned needs --capture DIR: Gaussians lie on its true surface")
    return Sequence4d.made(capture, options.skinned, options.degree, options.frames, options.back)


def _measured(options: argparse.Namespace, say: Say) -> dict[str, Any]:
    """The parts that were asked for, of one sequence."""
    capture = None if options.capture is None else Capture.open(options.capture)
    sequence = _sequence(options, capture)
    results: dict[str, Any] = {"name": options.name or sequence.name, "about": sequence.about()}
    if "rates" in options.only:
        is_fit = options.skinned is None
        views = None if capture is None else Views(capture, sequence.frames, true=is_fit)
        results["rates"] = rates(sequence, views, options.qualities, options.apart, say)
    if "splats4d" in options.only:
        with tempfile.TemporaryDirectory() as folder:
            results["splats4d"] = beside_splats4d(sequence.frames, Path(folder), options.rot_steps, say)
    if "tables" in options.only:
        results["tables"] = [{"quality": q, **tables(sequence.encoded(q)[0])} for q in options.qualities]
    if "speed" in options.only:
        results["speed"] = [{"quality": q, **speed(sequence.encoded(q)[0], options.repeat)} for q in options.qualities]
    return results


def merged(path: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """The content of sequences.json, with the parts of one sequence in place of what it held of them."""
    about: dict[str, Any] = {"machine": machine_name(), "sequences": {}}
    if path.is_file():
        try:
            about["sequences"] = json.loads(path.read_text(encoding="utf-8"))["sequences"]
        except (ValueError, KeyError, TypeError) as error:
            raise MediaError(f"{path}: not the results of this study ({error}): remove it") from None
    held = about["sequences"]
    held[results["name"]] = {**held.get(results["name"], {}), **results}
    return about


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and adds to sequences.json in --out."""
    options = _parser().parse_args(argv)

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    path = options.out / "sequences.json"
    write_json(path, merged(path, _measured(options, say)))
    about = json.loads(path.read_text(encoding="utf-8"))
    table = markdown(about)
    if options.page is not None:
        write_file(options.page, between(options.page.read_text(encoding="utf-8"), table, MARK))
    sys.stdout.write(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
