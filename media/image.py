"""Pictures as files: reading them into a `Picture`, from a path, bytes or PIL, and writing them.

A format has a module that reads its header: `png`, `jpeg`, `tiff`, `heif` (AVIF, HEIC), `raster` (the smaller ones).
Each has a table of what we take (samples, depth, polarity, transparency, colour model); what isn't in it is refused
with a `MediaError` that says what the file is. Pillow and FFmpeg only unpack what the tables let through. Metadata that
are left out, and everything else that is lost, become notes of the picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import MediaError
from . import IMAGE_READS, IMAGE_WRITES, heif, raster
from .bands import bands
from .exif import without_orientation
from .jpeg import read_jpeg
from .metadata import Metadata, apply_orientation, of_pil
from .notes import Note
from .png import PNG, read_png, write_png
from .tiff import read_tiff, write_tiff
from .values import Picture, check_size

__all__ = [
    "PictureSource",
    "apply_orientation",
    "format_of",
    "read_picture",
    "to_pil",
    "without_orientation",
    "write_picture",
]

TAKES = "a still picture: grey or RGB, 8 or 16 bits a channel, with or without transparency"

PictureSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image

_READERS: Mapping[str, Callable[[bytes], tuple[NDArray[Any], Metadata]]] = MappingProxyType(
    {
        "PNG": read_png,
        "JPEG": read_jpeg,
        "WEBP": raster.read_webp,
        "TIFF": read_tiff,
        "BMP": raster.read_bmp,
        "GIF": raster.read_gif,
        "PPM": raster.read_pnm,
        "TGA": raster.read_tga,
        "AVIF": heif.read_avif,
        "HEIF": heif.read_heif,
    }
)
_EXIF_PREFIX = b"Exif\x00\x00"
_HOLDS = {  # what a format that we write can hold beside the pixels
    "PNG": {"icc", "exif", "xmp", "dpi", "code_points", "text"},
    "JPEG": {"icc", "exif", "xmp", "dpi", "text"},
    "WEBP": {"icc", "exif", "xmp"},
    "TIFF": {"icc", "exif", "xmp", "dpi"},
    "BMP": {"dpi"},
    "PPM": set(),
}
_MAX_SEGMENT = 65502  # bytes of EXIF, XMP or a comment that a JPEG can hold


# ---- reading


def read_picture(source: PictureSource) -> Picture:
    """Read a file (path), an encoded file in memory (bytes), or take a PIL image (which is left as it is).

    Orientation is applied; ICC profile, EXIF, XMP, resolution and texts are kept. What isn't is in the picture's notes.
    Raises MediaError.
    """
    if isinstance(source, Image.Image):
        return _guarded(lambda: _from_pil(source), "the PIL image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return _guarded(lambda: _read(data), "the data")
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MediaError(f"{path}: can't be read ({error.strerror or error})") from None
    return _guarded(lambda: _read(data), str(path))


def _guarded(read: Callable[[], Picture], what: str) -> Picture:
    """The picture that `read` gives, or a MediaError: decoders fail on damaged input with nearly any exception."""
    try:
        return read()
    except MediaError as error:
        raise MediaError(f"{what}: {error}") from None
    except Exception as error:
        raise MediaError(f"{what}: can't be read as a picture, damaged? ({error}); expected {TAKES}") from error


def format_of(data: bytes) -> str | None:
    """The format of a picture, one of IMAGE_READS, by its first bytes; None if it is another one."""
    signatures = {PNG: "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"BM": "BMP"}
    signatures |= dict.fromkeys((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"), "TIFF")
    for signature, name in signatures.items():
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if (data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace()) or data[:3] == b"P7\n":
        return "PPM"
    if names := heif.brands(data):
        if set(names) & {b"avif", b"avis"}:
            return "AVIF"
        if set(names) & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
            return "HEIF"
        return None
    return "TGA" if raster.looks_like_tga(data) else None


def _read(data: bytes) -> Picture:
    if not data:
        raise MediaError("empty: 0 bytes")
    format = format_of(data)
    if format is None:
        from .signatures import START, describe_unknown

        words = describe_unknown(data[:START], "", f"one of {', '.join(IMAGE_READS)}")
        raise MediaError(f"not a picture that can be read here, but {words}")
    array, about = _READERS[format](data)
    return about.picture(array)


def _from_pil(image: Image.Image) -> Picture:
    check_size(*image.size)
    _check_pil(image)
    few_bits = _bits_in_file(image)
    image.load()
    about = of_pil(image.info)
    about.orientation = _orientation(image)
    mode = image.mode
    if mode.startswith("I;16"):
        return about.picture(np.asarray(image).astype(np.uint16)[:, :, None])
    clear = "transparency" in image.info
    key = image.info.get("transparency")
    if mode in ("1", "L") and isinstance(key, int):
        grey = np.asarray(image.convert("L"))
        key = 255 if mode == "1" and key else key * 255 // ((1 << few_bits) - 1)
        return about.picture(np.dstack((grey, np.where(grey == key, 0, 255).astype(np.uint8))))
    if mode == "P":
        target = "RGBA" if clear or image.has_transparency_data else "RGB"
    elif mode == "RGB":
        target = "RGBA" if clear else "RGB"
    else:
        same = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGBA": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB"}
        target = same.get(mode, "")
    if not target:
        how = "by its colour profile (ImageCms)" if mode in ("CMYK", "LAB") else "scale it to 8 or 16 bits yourself"
        raise MediaError(f"a picture of mode {mode}; expected {TAKES}: convert it, {how}")
    array = np.array(image if mode == target else image.convert(target))
    return about.picture(array[:, :, None] if array.ndim == 2 else array)


def _bits_in_file(image: Image.Image) -> int:
    """The bits of a grey sample in the file of a PIL image that isn't loaded yet; 8 if that isn't known."""
    tile = getattr(image, "tile", None)
    raw = tile[0][3] if tile else None
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    return {"L;2": 2, "L;4": 4}.get(raw, 8) if isinstance(raw, str) else 8


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # whatever Pillow's EXIF reader meets in broken EXIF: the picture itself is fine
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_pil(image: Image.Image) -> None:
    """Refuse a PIL image that isn't what its file holds: Pillow cuts samples, and takes negatives for positives."""
    format, tags = getattr(image, "format", None), getattr(image, "tag_v2", {})
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and format != "MPO":  # MPO: a JPEG with previews or a second view behind it
        raise MediaError(
            f"an animation or a document of {frames} frames; expected {TAKES}: extract one frame, as image.copy() does"
        )
    bits = 8
    if format == "TIFF" and image.mode in ("RGB", "RGBA", "RGBX", "RGBa", "LA", "L"):
        bits = int(np.max(tags.get(258, 1)))
    elif format == "PPM" and image.mode in ("RGB", "I") and image.tile:  # type: ignore[attr-defined]
        arguments = image.tile[0][3]  # type: ignore[attr-defined]
        bits = 16 if image.mode == "I" or (isinstance(arguments, tuple) and int(arguments[-1]) > 255) else 8
    if bits > 8 or (format == "TIFF" and image.mode.startswith("I;16") and tags.get(262) == 0):
        raise MediaError(
            f"a {format} of {max(bits, 16)} bits a channel, which Pillow changes: give its path or its bytes"
        )


# ---- writing


def to_pil(picture: Picture) -> Image.Image:
    """A PIL image, metadata in `info`. PIL has no 16-bit colour or transparency: those are rounded to 8 bits."""
    array = picture.stacked()
    if array.dtype == np.uint16 and array.shape[2] > 1:
        array = _to_8_bits(array)
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = _EXIF_PREFIX + picture.exif
    if picture.xmp:
        image.info["xmp"] = picture.xmp
    if picture.dpi:
        image.info["dpi"] = picture.dpi
    return image


def write_picture(
    picture: Picture, target: str | os.PathLike[str] | BinaryIO, format: str | None = None
) -> tuple[Note, ...]:
    """Write as `format` ("PNG", "JPEG", ... one of IMAGE_WRITES), by default what the suffix of target says, else PNG.

    PNG, WebP and TIFF are written losslessly; 16 bits as PNG, TIFF, PGM or PPM. Returns notes on the metadata that the
    format can't hold. MediaError for pixels that it can't hold.
    """
    if format is None:
        suffix = Path(target).suffix.lower() if isinstance(target, (str, os.PathLike)) else ".png"
        if suffix not in IMAGE_WRITES:
            raise MediaError(f"{target}: unknown suffix {suffix!r}; expected one of {', '.join(IMAGE_WRITES)}")
        format = IMAGE_WRITES[suffix]
    format = format.upper()
    if format not in IMAGE_WRITES.values():
        raise MediaError(f"can't write {format}; expected one of {', '.join(sorted(set(IMAGE_WRITES.values())))}")
    if picture.pixels.dtype == np.uint16 and format not in ("PNG", "TIFF", "PPM"):
        raise MediaError(f"{format} can't hold this picture's 16 bits a channel: write a PNG or a TIFF")
    if picture.alpha is not None and format in ("JPEG", "PPM", "BMP"):
        raise MediaError(f"{format} has no transparency: write PNG, WebP or TIFF")
    kept, notes = _fitting(picture, format)
    if isinstance(target, (str, os.PathLike)):
        try:
            with Path(target).open("wb") as stream:
                _write_stream(kept, stream, format)
        except OSError as error:
            raise MediaError(f"{target}: can't be written ({error.strerror or error})") from None
    else:
        _write_stream(kept, target, format)
    return notes


def _fitting(picture: Picture, format: str) -> tuple[Picture, tuple[Note, ...]]:
    """The picture with the metadata that a format can hold, and notes on the others."""
    left: dict[str, Any] = {name: value for name in ("icc", "exif", "xmp", "dpi", "code_points", "text")
                            if (value := getattr(picture, name)) and name not in _HOLDS[format]}  # fmt: skip
    text = picture.text
    if format == "JPEG":
        left |= {name: value for name in ("exif", "xmp") if len(value := getattr(picture, name) or b"") > _MAX_SEGMENT}
        text = tuple(pair for pair in text if pair[0] == "Comment" and len(pair[1].encode()) <= _MAX_SEGMENT)[:1]
        if len(text) < len(picture.text):
            left["text"] = [pair for pair in picture.text if pair not in text]
    words = {"icc": "the ICC profile", "exif": "EXIF", "xmp": "XMP", "dpi": "the resolution"}
    notes = []
    for name, value in left.items():
        if name == "code_points":
            notes.append(
                Note("colour", f"{format} can't say the colours (code points {value[0]}, {value[1]}): write a PNG")
            )
        elif name == "text":
            n = len(value)
            notes.append(Note("metadata", f"{format} can't hold {n} {'text' if n == 1 else 'texts'}: left out"))
        else:
            kind = "colour" if name == "icc" else "metadata"
            notes.append(Note(kind, f"{format} can't hold {words[name]}: left out"))
    parts = {
        name: None if name in left else getattr(picture, name) for name in ("icc", "exif", "xmp", "dpi", "code_points")
    }
    text = text if format == "JPEG" else () if "text" in left else picture.text
    return Picture(picture.pixels, picture.alpha, notes=picture.notes, text=text, **parts), tuple(notes)


def _write_stream(picture: Picture, stream: BinaryIO, format: str) -> None:
    writers = {"PNG": write_png, "TIFF": write_tiff, "PPM": raster.write_pnm}
    if format in writers:
        writers[format](picture, stream)
        return
    options: dict[str, Any] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True},
    }.get(format, {})
    options |= {"icc_profile": picture.icc} if picture.icc else {}
    options |= {"exif": _EXIF_PREFIX + picture.exif} if picture.exif else {}
    options |= {"xmp": picture.xmp} if picture.xmp else {}
    options |= {"dpi": picture.dpi} if picture.dpi else {}
    options |= {"comment": picture.text[0][1].encode()} if picture.text else {}
    image = to_pil(picture)
    image.info = {}
    try:
        image.save(stream, format, **options)
    except ValueError as error:
        raise MediaError(f"can't be written as {format} ({error}): write a PNG") from None


def _to_8_bits(array: NDArray[np.uint16]) -> NDArray[np.uint8]:
    out = np.empty(array.shape, np.uint8)
    for top, bottom in bands(array.shape[0], array[0].size):
        out[top:bottom] = (array[top:bottom].astype(np.uint32) * 255 + 32767) // 65535
    return out
