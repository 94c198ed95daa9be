"""`codec demo`: a photo becomes a small file and comes back, next to a JPEG of the same size.

Shows what a newcomer asks first: how small, how good, how fast, and what it looks like.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import registry
from ..codecs.base import settings
from ..errors import MediaError, UsageError
from ..files import PACKAGE, whole
from .options import typed
from .terminal import json_line, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from ..codecs.base.image import ImageCodec
    from ..media.values import Picture

    Pixels = NDArray[np.uint8]

SAMPLE = PACKAGE / "samples" / "dog.png"
DEFAULT_OUT = "demo-out"
EXAMPLES = """\
examples:
  codec demo
  codec demo --picture photo.png -o /tmp/demo
  codec demo --json
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--picture", metavar="FILE", help="a picture of yours (default: the one that is shipped)")
    add("-o", "--output", metavar="DIR", help=f"where to write (default: {DEFAULT_OUT}, replaced if there)")
    add("--force", action="store_true", help="replace files that exist in DIR")
    add("-c", "--codec", help="codec, or codec@tag")
    add("-q", "--quality", type=typed(settings.number, "number"), help="higher is better")


def run(args: argparse.Namespace) -> int:
    from ..codecs.base.image import ImageCodec

    picture = SAMPLE if args.picture is None else Path(args.picture)
    if not picture.is_file():
        raise MediaError(f"{picture}: no such picture")
    name = args.codec or registry.default("image")
    assert name is not None
    codec = ImageCodec.load(name, quality=args.quality)
    assert isinstance(codec, ImageCodec)
    force = args.force or args.output is None
    report = compare(picture, codec, Path(args.output or DEFAULT_OUT), force)
    say(sys.stdout, json_line(report) if args.json else words(report))
    return 0


# ---- the comparison


def compare(picture: Path, codec: ImageCodec, out: Path, force: bool = False) -> dict[str, Any]:
    """Encode and decode a picture and compare with JPEG; returns the report.

    The file, the decoded picture, the JPEG and a sheet of all appear in the folder `out`; `force` replaces files there.
    """
    import numpy as np

    from ..media.distortion import psnr
    from ..media.image import read_picture, to_pil

    paths = outputs(picture, codec.name, out, force)
    source = read_picture(picture)
    original = to_pil(source).convert("RGB")
    pixels = np.asarray(original)
    coded = _code(codec, source)
    jpeg = jpeg_of_size(original, len(coded.data))
    report: dict[str, Any] = {
        "picture": str(picture),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "codec": codec.name,
        "bytes_in": picture.stat().st_size,
        "bytes": len(coded.data),
        "bpp": 8 * len(coded.data) / (pixels.shape[0] * pixels.shape[1]),
        "ratio": pixels.size / len(coded.data),
        "psnr_db": psnr(pixels, _rgb_of(coded.picture)),
        "encode_seconds": coded.encode_seconds,
        "decode_seconds": coded.decode_seconds,
        "jpeg_bytes": len(jpeg.data),
        "jpeg_quality": jpeg.quality,
        "jpeg_psnr_db": psnr(pixels, jpeg.pixels()),
        **{key: str(path) for key, path in paths.items()},
    }
    for key, data in _contents(report, pixels, coded, jpeg).items():
        with whole(paths[key], replace=force) as file:
            file.write(data)
    return report


def outputs(picture: Path, name: str, out: Path, force: bool) -> dict[str, Path]:
    """The paths that `compare` will write; UsageError if any exists (unless force) or is the picture itself."""
    paths = {
        "file": out / (picture.stem + registry.entry(name).suffix),
        "decoded": out / f"{picture.stem}-{name}.png",
        "jpeg": out / f"{picture.stem}-equal-size.jpg",
        "sheet": out / "side-by-side.png",
    }
    existing = [path for path in paths.values() if path.exists()]
    if any(path.samefile(picture) for path in existing):
        raise UsageError(f"{picture} would be written over: name another folder with -o")
    if existing and not force:
        raise UsageError(f"{existing[0]} exists already; -o names another folder, --force replaces")
    return paths


class _Coded(NamedTuple):
    data: bytes
    picture: Picture
    encode_seconds: float
    decode_seconds: float


def _code(codec: ImageCodec, source: Picture) -> _Coded:
    """A picture encoded and decoded, twice: the first time loads libraries and warms caches, the second is measured."""
    codec.decode_picture(codec.encode_picture(source))
    started = time.perf_counter()
    data = codec.encode_picture(source)
    encoded = time.perf_counter()
    picture = codec.decode_picture(data)
    return _Coded(data, picture, encoded - started, time.perf_counter() - encoded)


class Jpeg(NamedTuple):
    """A JPEG file and the quality, 1 to 100, that it was made with."""

    data: bytes
    quality: int

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8, RGB."""
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(self.data)) as image:
            return np.asarray(image.convert("RGB"))


def jpeg_of_size(image: Image.Image, n_bytes: int) -> Jpeg:
    """The JPEG nearest to n_bytes that isn't larger, and its quality; the smallest one if all are larger.

    Pillow's encoder with optimised Huffman tables and its default 4:2:0 chroma. Size rises with quality nearly
    everywhere, so a bisection finds the last fitting one.
    """

    def encode(quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        return buffer.getvalue()

    low, high = 1, 100
    best = encode(low)
    while low < high:
        middle = (low + high + 1) // 2
        data = encode(middle)
        if len(data) <= n_bytes:
            low, best = middle, data
        else:
            high = middle - 1
    return Jpeg(best, low)


def _rgb_of(picture: Picture) -> Pixels:
    import numpy as np

    from ..media.image import to_pil

    return np.asarray(to_pil(picture).convert("RGB"))


# ---- what is shown


def _contents(report: dict[str, Any], pixels: Pixels, coded: _Coded, jpeg: Jpeg) -> dict[str, bytes]:
    """The contents of the files that `outputs` names."""
    from ..media.image import write_picture

    sheet, decoded = io.BytesIO(), io.BytesIO()
    write_picture(coded.picture, decoded)
    columns = [
        ("original", pixels),
        (f"{report['codec']}: {report['bytes']} bytes, {report['psnr_db']:.2f} dB", _rgb_of(coded.picture)),
        (f"JPEG: {report['jpeg_bytes']} bytes, {report['jpeg_psnr_db']:.2f} dB", jpeg.pixels()),
    ]
    side_by_side(columns).save(sheet, "PNG")
    return {"file": coded.data, "decoded": decoded.getvalue(), "jpeg": jpeg.data, "sheet": sheet.getvalue()}


def side_by_side(columns: list[tuple[str, Pixels]]) -> Image.Image:
    """Labelled pictures of one size, (H, W, 3), next to each other, with a twice enlarged middle part below each."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = columns[0][1].shape[:2]
    crop_h, crop_w = max(1, height // 4), max(1, width // 2)
    bar, gap = 24, 4
    sheet = Image.new("RGB", ((width + gap) * len(columns) - gap, bar + height + gap + 2 * crop_h), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    top, left = (height - crop_h) // 2, (width - crop_w) // 2
    for index, (label, pixels) in enumerate(columns):
        x = index * (width + gap)
        draw.text((x + 4, 3), label, fill="black", font=font)
        sheet.paste(Image.fromarray(pixels), (x, bar))
        part = Image.fromarray(pixels[top : top + crop_h, left : left + crop_w])
        sheet.paste(part.resize((2 * crop_w, 2 * crop_h), Image.Resampling.NEAREST), (x, bar + height + gap))
    return sheet


def words(report: dict[str, Any]) -> str:
    """The report for people."""
    difference = report["psnr_db"] - report["jpeg_psnr_db"]
    so = f"{difference:+.2f} dB against JPEG of equal size"
    if not math.isfinite(difference):
        exact = [
            name for name, key in ((report["codec"], "psnr_db"), ("JPEG", "jpeg_psnr_db")) if report[key] == math.inf
        ]
        so = f"without loss: {' and '.join(exact)}"
    elif report["jpeg_bytes"] > report["bytes"]:
        so = f"{difference:+.2f} dB against a JPEG of {report['jpeg_bytes'] / report['bytes']:.1f} times the size"
    megapixels = report["width"] * report["height"] / 1e6
    encode, decode = report["encode_seconds"], report["decode_seconds"]
    jpeg_note = "" if report["jpeg_bytes"] <= report["bytes"] else "  (JPEG gets no smaller)"
    return "\n".join(
        [
            f"picture   {report['picture']}, {report['width']}x{report['height']}, {report['bytes_in']} bytes",
            f"{report['codec']:<9} {report['bytes']} bytes, {report['bpp']:.3f} bpp, "
            f"1:{report['ratio']:.1f} of the raw pixels, {report['psnr_db']:.2f} dB PSNR",
            f"          encoded in {encode:.3f} s, decoded in {decode:.3f} s "
            f"({megapixels / encode:.2g} and {megapixels / decode:.2g} megapixels a second)",
            f"JPEG      {report['jpeg_bytes']} bytes at quality {report['jpeg_quality']}, "
            f"{report['jpeg_psnr_db']:.2f} dB PSNR{jpeg_note}",
            f"so        {so}",
            f"see       {report['sheet']}",
        ]
    )
