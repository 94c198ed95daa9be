"""An experiment: `mix` as a lossless codec of photographs and of small images, against PNG, WebP and JPEG XL.

Whole files of everyone, in colour and in grey, with their decoders' results compared; `mix` learns anew in each file. A
row of small images is one file of them, with nothing learned before.

    python -P -m codec.eval.studies.lossless PICTURES --items ITEMS.gz ... --out eval/results/lossless
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codecs.base.codec import Codec
from ...errors import MediaError
from ...media import array
from ...media.image import read_picture
from ..bench.run import machine_name
from ..output import write_json
from ..reproduce.circuit import picture_codecs

CODECS = ("mix", "PNG", "WebP lossless", "JPEG XL lossless")


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of BT.601 in integers."""
    r, g, b = (pixels[..., k].astype(np.int32) for k in range(3))
    return ((299 * r + 587 * g + 114 * b + 500) // 1000).astype(np.uint8)


def _measured(
    encode: Callable[..., bytes], decode: Callable[[bytes], NDArray[Any]], x: NDArray[Any]
) -> tuple[int, float, float]:
    """Bytes, and seconds of processor time to encode and to decode; MediaError if it didn't come back."""
    began = time.process_time()
    data = encode(x)
    middle = time.process_time()
    out = decode(data)
    end = time.process_time()
    if out.ndim > x.ndim and (out == out[..., :1]).all():
        out = out[..., 0]  # WebP has no grey
    if not np.array_equal(out, x):
        raise MediaError("it did not come back")
    return len(data), middle - began, end - middle


def pictures(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """A row for each picture, in colour and in grey."""
    mix = Codec.load("mix")
    codecs = {"mix": (lambda x: mix.compress(x[None]), lambda data: mix.decompress(data)[0]), **picture_codecs()}
    for path in paths:
        colour = np.ascontiguousarray(read_picture(path).pixels)
        for kind, x in (("rgb", colour), ("grey", _grey(colour))):
            row: dict[str, Any] = {"name": path.name, "kind": kind, "shape": list(x.shape)}
            for name, (encode, decode) in codecs.items():
                row[name] = dict(zip(("bytes", "encode", "decode"), _measured(encode, decode, x), strict=True))
            yield row


def items(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """A row for each file of small images."""
    mix = Codec.load("mix")
    for path in paths:
        x = array.read(path).array
        n_bytes, encode, decode = _measured(mix.compress, mix.decompress, x)
        yield {
            "name": path.parent.name,
            "shape": list(x.shape),
            "bytes": n_bytes,
            "bits_per_pixel": 8 * n_bytes / x.size,
            "seconds": [encode, decode],
        }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Bits per pixel and megabytes of samples a second, of all pictures together."""
    out: dict[str, Any] = {}
    for kind in ("rgb", "grey"):
        chosen = [row for row in rows if row["kind"] == kind]
        n_pixels = sum(row["shape"][0] * row["shape"][1] for row in chosen)
        n_bytes = sum(int(np.prod(row["shape"])) for row in chosen)
        out[kind] = {
            name: {
                "bits_per_pixel": round(8 * sum(row[name]["bytes"] for row in chosen) / n_pixels, 4),
                "encode_mb_s": round(n_bytes / 1e6 / sum(row[name]["encode"] for row in chosen), 3),
                "decode_mb_s": round(n_bytes / 1e6 / sum(row[name]["decode"] for row in chosen), 3),
            }
            for name in CODECS
        }
    return out


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--items", type=Path, nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    paths = sorted(arguments.pictures.glob("*.png"))[: arguments.limit]
    rows = []
    for row in pictures(paths):
        rows.append(row)
        pixels = row["shape"][0] * row["shape"][1]
        print(row["name"], row["kind"], *(f"{n} {8 * row[n]['bytes'] / pixels:.3f}" for n in CODECS), flush=True)
    small = list(items(arguments.items))
    about = {"machine": machine_name(), "summary": summary(rows), "items": small, "rows": rows}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "lossless.json", about)
    for kind, names in about["summary"].items():
        for name, figures in names.items():
            print(kind, name, figures)
    for row in small:
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
