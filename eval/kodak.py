"""Rate, distortion and speed of image codecs on a folder of pictures, from whole files.

    python -P -m codec.eval.kodak DATA --out eval/results/walloc_kodak.csv walloc@16x walloc@4x

One row per picture and codec: bytes of the whole file, bits per pixel, RGB PSNR of the 8-bit picture, and the median
seconds of `--repeat` encodings and decodings (from and to pixels in memory, after one that is not counted). After
each of our codecs comes Pillow's WebP (method 4, 4:2:0) and JPEG (4:4:4) at the nearest size that is not smaller,
timed in the same loop on the same pictures: speeds are to be read as ratios to WebP. Means are printed and written
beside the rows, as JSON.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..codecs.base import Codec
from ..datasets.images import find_pictures

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One picture through one codec. bytes: of the whole file."""

    image: str
    codec: str
    width: int
    height: int
    bytes: int
    bpp: float
    psnr: float
    encode_seconds: float
    decode_seconds: float


def psnr(a: Pixels, b: Pixels) -> float:
    """RGB PSNR in dB of two 8-bit pictures; infinite if they are equal."""
    mse = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * float(np.log10(255**2 / mse)) if mse else float("inf")


def pillow_encoder(format: str, quality: int) -> Callable[[Pixels], bytes]:
    """WebP with method 4 (which is 4:2:0), or JPEG in 4:4:4 with optimised Huffman tables."""
    options = {"WEBP": {"method": 4}, "JPEG": {"subsampling": 0, "optimize": True}}[format]

    def encode(pixels: Pixels) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, format, quality=quality, **options)
        return out.getvalue()

    return encode


def pillow_decode(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))  # convert loads: Image.open alone reads no pixel


def quality_for(format: str, pixels: Pixels, n_bytes: int) -> int:
    """Lowest quality whose file has at least `n_bytes` (100 if there is none)."""
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(pillow_encoder(format, middle)(pixels)) >= n_bytes else (middle + 1, high)
    return low


def timed(work: Callable[[], object], repeat: int) -> float:
    """Median seconds of `repeat` calls, after one that warms up."""
    work()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(
    name: str,
    image: str,
    pixels: Pixels,
    encode: Callable[[Pixels], bytes],
    decode: Callable[[bytes], Pixels],
    repeat: int,
) -> Row:
    data = encode(pixels)
    height, width = pixels.shape[:2]
    return Row(
        image=image,
        codec=name,
        width=width,
        height=height,
        bytes=len(data),
        bpp=round(8 * len(data) / (height * width), 5),
        psnr=round(psnr(decode(data), pixels), 4),
        encode_seconds=round(timed(lambda: encode(pixels), repeat), 5),
        decode_seconds=round(timed(lambda: decode(data), repeat), 5),
    )


def run(folder: Path, codecs: Sequence[str], repeat: int = 5) -> list[Row]:
    """Rows of every picture below `folder` under every codec, such as "walloc@16x:q=30" or "walloc@16x:coder=webp"."""
    rows = []
    for spec in codecs:
        name, _, options = spec.partition(":")
        settings = dict(item.split("=", 1) for item in options.split(",") if item)
        codec = Codec.load(name, quality=float(settings["q"]) if "q" in settings else None)
        if "coder" in settings:
            codec = codec.with_coder(settings["coder"])
        for path in find_pictures(folder):
            with Image.open(path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            ours = measure(spec, path.stem, pixels, codec.compress, codec.decompress, repeat)
            rows.append(ours)
            for format in ("WEBP", "JPEG"):
                encode = pillow_encoder(format, quality_for(format, pixels, ours.bytes))
                rows.append(
                    measure(f"{format.lower()} at the size of {spec}", path.stem, pixels, encode, pillow_decode, repeat)
                )
    return rows


def summary(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Means over pictures by codec. PSNR: mean of the pictures' PSNR. Speed: all pixels by all seconds."""
    out = []
    for codec in dict.fromkeys(row.codec for row in rows):
        own = [row for row in rows if row.codec == codec]
        pixels = sum(row.width * row.height for row in own)
        out.append(
            {
                "codec": codec,
                "images": len(own),
                "bpp": round(statistics.fmean(row.bpp for row in own), 4),
                "psnr_rgb": round(statistics.fmean(row.psnr for row in own), 3),
                "encode_mpixel_per_s": round(pixels / 1e6 / sum(row.encode_seconds for row in own), 3),
                "decode_mpixel_per_s": round(pixels / 1e6 / sum(row.decode_seconds for row in own), 3),
            }
        )
    return out


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="codec.eval.kodak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of pictures")
    parser.add_argument("codecs", nargs="+", help="name, name@tag, name@tag:q=30, name@tag:coder=webp")
    parser.add_argument("--out", type=Path, required=True, help="CSV of rows; the means go to the same name with .json")
    parser.add_argument("--repeat", type=int, default=5, help="timed runs of each encoding and decoding (default 5)")
    args = parser.parse_args(argv)
    import PIL
    import torch

    rows = run(args.data, args.codecs, args.repeat)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    report = {
        "command": "python -P -m codec.eval.kodak " + " ".join(["DATA", *args.codecs, "--repeat", str(args.repeat)]),
        "data": args.data.name,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "pillow": PIL.__version__, "python": platform.python_version()},
        "means": summary(rows),
    }
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    for row in report["means"]:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
