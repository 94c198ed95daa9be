"""`codec demo`: a photo becomes a small file and comes back, next to a JPEG of the same size.

Shows what a newcomer asks first: how small, how good, how fast, and what it looks like.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from . import batch, registry
from .errors import MediaError, UsageError

if TYPE_CHECKING:
    from .codecs.base import ImageCodec

SAMPLE = Path(__file__).parent / "samples" / "dog.png"


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB over all channels of two uint8 pictures; inf if they are equal."""
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))


def jpeg_of_size(image: Image.Image, n_bytes: int) -> tuple[bytes, int]:
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
    return best, low


def side_by_side(columns: list[tuple[str, NDArray[Any]]]) -> Image.Image:
    """Labelled pictures of one size next to each other, with a twice enlarged middle part below each."""
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


def outputs(picture: Path, name: str, out: Path, force: bool) -> dict[str, Path]:
    """What `compare` will write; UsageError if any of it exists (unless force) or is the picture itself."""
    files = {
        "file": out / (picture.stem + registry.entry(name).suffix),
        "decoded": out / f"{picture.stem}-{name}.png",
        "jpeg": out / f"{picture.stem}-equal-size.jpg",
        "sheet": out / "side-by-side.png",
    }
    existing = [path for path in files.values() if path.exists()]
    if any(path.samefile(picture) for path in existing):
        raise UsageError(f"{picture} would be written over: name another folder with -o")
    if existing and not force:
        raise UsageError(f"{existing[0]} exists already; -o names another folder, --force replaces")
    return files


def compare(picture: Path, codec: ImageCodec, out: Path, force: bool = False) -> dict[str, Any]:
    """Encode, decode, compare with JPEG; writes the file, the decoded picture and the sheet into `out`."""
    from .media import read_picture, to_pil, write_picture

    files = outputs(picture, codec.name, out, force)
    source = read_picture(picture)
    original = to_pil(source).convert("RGB")
    pixels = np.asarray(original)
    pixel_count = pixels.shape[0] * pixels.shape[1]

    # The first call loads libraries and warms caches; what is shown is the second.
    codec.decode_picture(codec.encode_picture(source))
    started = time.perf_counter()
    data = codec.encode_picture(source)
    encoded = time.perf_counter()
    decoded = codec.decode_picture(data)
    ended = time.perf_counter()
    back = np.asarray(to_pil(decoded).convert("RGB"))

    jpeg, jpeg_quality = jpeg_of_size(original, len(data))
    with Image.open(io.BytesIO(jpeg)) as image:
        jpeg_back = np.asarray(image.convert("RGB"))

    name = codec.name
    report: dict[str, Any] = {
        "picture": str(picture),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "codec": name,
        "bytes_in": picture.stat().st_size,
        "bytes": len(data),
        "bpp": 8 * len(data) / pixel_count,
        "ratio": pixels.size / len(data),
        "psnr_db": psnr(pixels, back),
        "encode_seconds": encoded - started,
        "decode_seconds": ended - encoded,
        "jpeg_bytes": len(jpeg),
        "jpeg_quality": jpeg_quality,
        "jpeg_psnr_db": psnr(pixels, jpeg_back),
        **{key: str(path) for key, path in files.items()},
    }
    sheet, png = io.BytesIO(), io.BytesIO()
    write_picture(decoded, png)
    side_by_side(
        [
            ("original", pixels),
            (f"{name}: {len(data)} bytes, {report['psnr_db']:.2f} dB", back),
            (f"JPEG: {len(jpeg)} bytes, {report['jpeg_psnr_db']:.2f} dB", jpeg_back),
        ]
    ).save(sheet, "PNG")
    contents = {"file": data, "decoded": png.getvalue(), "jpeg": jpeg, "sheet": sheet.getvalue()}
    for index, (key, path) in enumerate(files.items()):
        batch.write_bytes(batch.job_of(str(picture), path, index, force), contents[key])
    return report


def words(report: dict[str, Any]) -> str:
    """The report for people."""
    difference = report["psnr_db"] - report["jpeg_psnr_db"]
    megapixels = report["width"] * report["height"] / 1e6
    encode, decode = report["encode_seconds"], report["decode_seconds"]
    jpeg_note = "" if report["jpeg_bytes"] <= report["bytes"] else "  (JPEG gets no smaller)"
    return "\n".join(
        [
            f"picture   {report['picture']}, {report['width']}x{report['height']}, {report['bytes_in']} bytes",
            f"{report['codec']:<9} {report['bytes']} bytes, {report['bpp']:.3f} bpp, "
            f"1:{report['ratio']:.1f} of the raw pixels, {report['psnr_db']:.2f} dB PSNR",
            f"          encoded in {encode:.3f} s, decoded in {decode:.3f} s "
            f"({megapixels / encode:.1f} and {megapixels / decode:.1f} megapixels a second)",
            f"JPEG      {report['jpeg_bytes']} bytes at quality {report['jpeg_quality']}, "
            f"{report['jpeg_psnr_db']:.2f} dB PSNR{jpeg_note}",
            f"so        {difference:+.2f} dB against JPEG of equal size",
            f"see       {report['sheet']}",
        ]
    )


def main(
    picture: str | None, out: Path, codec: str | None = None, quality: float | None = None, force: bool = False
) -> dict[str, Any]:
    """Run the demo; returns its report. force: replace files that exist in `out`."""
    from .codecs.base import ImageCodec

    path = SAMPLE if picture is None else Path(picture)
    if not path.is_file():
        raise MediaError(f"{path}: no such picture")
    ready = ImageCodec.load(codec or registry.DEFAULT["image"], quality=quality)
    assert isinstance(ready, ImageCodec)
    return compare(path, ready, out, force)
