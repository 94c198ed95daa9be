"""An experiment: a circuit over 8x8 patches as a lossless codec of photographs, against PNG, WebP and JPEG XL.

Pictures go through YCoCg-R (Malvar and Sullivan, "YCoCg-R: A Color Space with RGB Reversibility and Low Dynamic Range",
2003), whose three planes are the channels of an `IndexModel`: each 8x8 block is coded given the row above it and the
column to its left. The notes on the paper expect it behind JPEG XL; this says by how much.

    python -P -m codec.eval.studies.patch_circuit TRAIN TEST --out patches.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.circuits.index_model import IndexModel
from ...errors import MediaError
from ...media import MEDIA
from ...media.image import read_picture
from ..output import write_file
from ..reproduce.circuit import picture_codecs

LEVELS = (256, 511, 511)


def to_ycocg(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """RGB, (..., 3), as Y from 0 to 255, Co and Cg from 0 to 510 (255 is added): integers, reversible."""
    r, g, b = (rgb[..., i].astype(np.int32) for i in range(3))
    co = r - b
    t = b + (co >> 1)
    cg = g - t
    return np.stack([t + (cg >> 1), co + 255, cg + 255], axis=-1)


def from_ycocg(ycocg: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """The reverse of `to_ycocg`; MediaError for what it doesn't give."""
    y, co, cg = (ycocg[..., i].astype(np.int32) for i in range(3))
    co, cg = co - 255, cg - 255
    t = y - (cg >> 1)
    g = cg + t
    b = t - (co >> 1)
    rgb = np.stack([b + co, g, b], axis=-1)
    if rgb.size and (rgb.min() < 0 or rgb.max() > 255):
        raise MediaError("not the YCoCg-R of a picture")
    return rgb.astype(np.uint8)


def pictures(folder: Path, limit: int, side: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """RGB pictures of a folder, the middle of each, at most side x side."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MEDIA["image"].reads)[:limit]
    for path in paths:
        pixels = read_picture(path).pixels
        if pixels.dtype != np.uint8:
            continue
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        top, left = (max(0, (n - side) // 2) for n in pixels.shape[:2])
        yield path.name, np.ascontiguousarray(pixels[top : top + side, left : left + side])


def experiment(
    train: Path, test: Path, *, block: int, states: int, epochs: int, windows: int, limit: int, side: int, leaves: str
) -> dict[str, Any]:
    """Fits a circuit to the pictures of one folder, and codes those of another without loss."""
    began = time.perf_counter()
    grids = [to_ycocg(pixels) for _, pixels in pictures(train, limit, side)]
    seen: list[float] = []

    def progress(epoch: int, log_likelihood: float) -> None:
        seen.append(-log_likelihood)
        print(f"epoch {epoch + 1}: {-log_likelihood:.1f} nats a window", file=sys.stderr, flush=True)

    model = IndexModel.fit(
        grids,
        LEVELS,
        block=block,
        states=states,
        epochs=epochs,
        max_windows=windows,
        ordinal=True,
        leaves="logistic" if leaves == "logistic" else "categorical",
        progress=progress,
    )
    fitted = time.perf_counter() - began
    rows = [_row(model, name, pixels) for name, pixels in pictures(test, limit, side)]
    if not rows:
        raise MediaError(f"{test}: no pictures")
    names = [name for name in rows[0] if name not in ("name", "pixels", "seconds")]
    weight = np.array([row["pixels"] for row in rows], float)
    mean = {name: float(np.average([row[name] for row in rows], weights=weight)) for name in names}
    return {
        "bits_per_pixel": mean,
        "bits_per_sample": {name: value / 3 for name, value in mean.items()},
        "model": {
            "block": block,
            "states": states,
            "leaves": leaves,
            "parameters": model.circuit.n_parameters,
            "windows": windows,
            "epochs": epochs,
            "fit_seconds": fitted,
            "nats_a_window": seen,
        },
        "note": "streams of the circuit are without a container (about 70 bytes)",
        "pictures": rows,
    }


def _row(model: IndexModel, name: str, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """Bits per pixel of one picture, by the model and by each of the other codecs. MediaError if it doesn't come back
    from one of them."""
    grid = to_ycocg(pixels)
    began = time.perf_counter()
    data = model.encode(grid)
    middle = time.perf_counter()
    decoded = from_ycocg(model.decode(data, grid.shape))
    seconds = (middle - began, time.perf_counter() - middle)
    if not np.array_equal(decoded, pixels):
        raise MediaError(f"{name}: did not come back")
    n = pixels.shape[0] * pixels.shape[1]
    row = {"name": name, "pixels": n, "circuit": 8 * len(data) / n, "seconds": seconds}
    for codec, (encode, decode) in picture_codecs().items():
        coded = encode(pixels)
        if not np.array_equal(decode(coded), pixels):
            raise MediaError(f"{codec}, {name}: did not come back")
        row[codec] = 8 * len(coded) / n
    return row


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--block", type=int, default=8)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--limit", type=int, default=400, help="pictures of each folder")
    parser.add_argument("--side", type=int, default=512, help="of the middle of each picture that is used")
    parser.add_argument("--leaves", choices=("categorical", "logistic"), default="categorical")
    arguments = vars(parser.parse_args(argv))
    out = arguments.pop("out")
    results = experiment(arguments.pop("train"), arguments.pop("test"), **arguments)
    write_file(out, json.dumps(results, indent=1) + "\n")
    for name, value in results["bits_per_pixel"].items():
        print(f"{name:<18} {value:.3f} bits per pixel, {value / 3:.3f} per sample")
    return 0


if __name__ == "__main__":
    sys.exit(main())
