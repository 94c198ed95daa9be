"""`codec reproduce dualgs`: what the paper says of its files and of its pictures, beside a fit of ours.

Paper: Jiang et al., "Robust Dual Gaussian Splatting for Immersive Human-centric Volumetric Videos", ACM TOG 43(6),
2024, arXiv 2409.08353; the figures of its pictures are from the table of RePerformer (arXiv 2503.12242), as others
quote it. Ours: a fit and its capture, which lie in one folder as `fit` and `capture`. Their data needs a signed form,
so nothing here says that a number of theirs was reached: each line says what differs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...datasets.capture import Capture
from ...datasets.places import find_data
from ...errors import UsageError
from ...media.gaussians.sources import DUAL
from ..bench.run import RunProgress, machine_name
from ..output import jsonable, write_json
from ..studies.dual_sequences import Sequence4d, Views, rates
from ..studies.splat_peers import PAPER_BYTES

__all__ = ["DATA", "PAPER", "QUALITY", "SOURCE", "TITLE", "run", "text"]

TITLE = "Robust Dual Gaussian Splatting for Immersive Human-centric Volumetric Videos"
SOURCE = "Jiang et al., ACM TOG 43(6), 2024, arXiv 2409.08353"
DATA = "dualgs"
QUALITY = 60.0
HOW = (
    "codec data capture DIR/capture --body anny --frames 32 --views 29 --size 256, then "
    "codec fit dualgs DIR/capture -o DIR/fit"
)

# The paper's numbers, how they are known, and which of ours stands beside each: key of `ours`, digits, what differs.
PAPER: tuple[Mapping[str, Any], ...] = (
    {
        "what": "kB a frame",
        "paper": 350.0,
        "mark": "[paper] about 350 KB a frame",
        "ours": "kilobytes_a_frame",
        "note": "theirs has about 180 000 Gaussians of degree 3; the number of ours is above",
    },
    {
        "what": "bits a Gaussian and frame",
        "paper": 8 * 350_000 / 180_000,
        "mark": "[inferred] 350 KB for 180 000 Gaussians",
        "ours": "bits_a_gaussian",
        "note": "the fewer Gaussians there are, the more of a file is base frame and motion",
    },
    {
        "what": "raw PLY files : file, 248 bytes a Gaussian",
        "paper": 120.0,
        "mark": "[paper] up to 120 : 1",
        "ours": "ratio_of_248",
        "note": "raw files as the paper counts them: degree 3 with normals, whatever degree the fit has",
    },
    {
        "what": "raw PLY files : file, of the degree that the fit has",
        "paper": None,
        "mark": "",
        "ours": "ratio",
        "note": "the stricter count, for a fit of a lower degree",
    },
    {
        "what": "PSNR of held-out views, dB",
        "paper": 35.51,
        "mark": "[paper*] RePerformer's table, 500 frames of the DualGS data, as others quote it",
        "ours": "psnr",
        "note": "a synthetic capture on white, smaller and with other views; theirs are real people. After compression",
    },
    {
        "what": "PSNR of held-out views before compression, dB",
        "paper": None,
        "mark": "",
        "ours": "psnr_before",
        "note": "the fit as it is",
    },
    {
        "what": "SSIM of held-out views",
        "paper": 0.990,
        "mark": "[paper*] as above",
        "ours": "ssim",
        "note": "theirs is scikit-image's, ours that of pytorch-msssim; pictures of ours have more white",
    },
    {
        "what": "minutes to fit a frame",
        "paper": 12.22,
        "mark": "[paper*] as above, on a GPU",
        "ours": "",
        "note": "not measured here: it depends on the machine; log.jsonl of a fit has its own",
    },
)


def run(
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    quality: float = QUALITY,
    progress: RunProgress | None = None,
) -> dict[str, Any]:
    """Measures a fit. data: a folder with `fit` and `capture` in it. UsageError says how to make one."""
    folder = _folder(data)
    out = Path("reproduce-dualgs") if out is None else Path(out)
    sequence = Sequence4d.of_folder(folder / "fit")
    capture = Capture.open(folder / "capture")
    views = Views(capture, sequence.frames)
    done = 0

    def say(words: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, _ROWS, words)

    rows = rates(sequence, views, (quality,), say=say)
    ours = rows[-1]
    numbers = {"kilobytes_a_frame": ours["bytes_a_frame"] / 1000, "psnr_before": rows[0]["psnr"], **ours}
    report = {
        "paper": "dualgs",
        "title": TITLE,
        "source": SOURCE,
        "command": "codec reproduce dualgs --data DATA --out DIR",
        "machine": machine_name(),
        "quality": quality,
        "measured_on": {**sequence.about(), "views": len(capture.held_out), "size": _size_of(capture)},
        "same_data": False,
        "claims": [{**claim, "ours": numbers.get(claim["ours"])} for claim in PAPER],
        "rows": rows,
    }
    write_json(out / "dualgs.json", report)
    return jsonable(report)


_ROWS = 5  # that `rates` makes with one quality


def _folder(data: str | os.PathLike[str] | None) -> Path:
    try:
        folder = Path(data) if data is not None else find_data(DATA, "fit to measure")
    except UsageError as error:
        raise UsageError(f"{error}; a fit and its capture in one folder: {HOW}") from None
    if not (folder / "fit" / DUAL).is_file() or not (folder / "capture").is_dir():
        raise UsageError(f"{folder}: expected `fit`, a finished fit, and `capture`, what it was fitted to: {HOW}")
    return folder


def _size_of(capture: Capture) -> str:
    camera = capture.cameras[capture.held_out[0]]
    return f"{camera.width}x{camera.height}"


def text(report: Mapping[str, Any]) -> str:
    """The paper's numbers and ours side by side."""
    about = report["measured_on"]
    words = f"{about['gaussians']} Gaussians of degree {about['degree']}, {about['frames']} frames"
    lines = [report["title"], report["source"]]
    lines += [
        f"ours: a fit of {words}; {about['views']} held-out views of {about['size']}; quality {report['quality']:g}"
    ]
    lines += ["NOT the paper's data: the two columns don't compare", ""]
    table = [("", "paper", "ours", "where the paper's number is from")]
    for claim in report["claims"]:
        theirs, ours = ("-" if claim[key] is None else f"{claim[key]:.4g}" for key in ("paper", "ours"))
        table.append((claim["what"], theirs, ours, claim["mark"]))
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    for row in table:
        lines.append("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip())
    lines += ["", *(f"- {claim['what']}: {claim['note']}" for claim in report["claims"]), ""]
    for row in report["rows"]:
        name = row["name"] + (f", quality {row['quality']:g}" if "quality" in row else "")
        lines.append(f"{name:<32} {row['bytes_a_frame'] / 1000:10.2f} kB a frame, {row['ratio']:.1f} : 1")
    lines += [
        "",
        f"A raw Gaussian has {PAPER_BYTES} bytes at degree 3. Other qualities, splats4d, look-up tables, speed:",
    ]
    lines.append("python -P -m codec.eval.studies.dual_sequences DIR/fit --capture DIR/capture --out OUT")
    return "\n".join(lines)
