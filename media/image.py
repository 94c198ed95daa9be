"""Pictures as files: reading them into a `Picture`, from a path, bytes or PIL, and writing them.

Pillow reads and writes 8-bit pictures. It would reduce 16-bit colour to 8 bits, so 16-bit PNGs with more than one
channel are read with PyAV (FFmpeg) and written by the few lines of `write_png16`, and 16-bit colour in TIFF and PPM is
refused. What can't be represented without loss or guessing (CMYK, float, animation) is refused with a `MediaError` that
says what is taken.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import MediaError
from . import IMAGE_READS, IMAGE_WRITES
from .bands import bands
from .png16 import PNG, read_png16, write_png16
from .values import Picture, check_size

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = [
    "PictureSource",
    "apply_orientation",
    "read_picture",
    "to_pil",
    "without_orientation",
    "write_picture",
]

TAKES = "a still picture: grey or RGB, 8 or 16 bits a channel, with or without transparency"

PictureSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image

_OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_EXIF_PREFIX = b"Exif\x00\x00"
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102


# ---- reading


def read_picture(source: PictureSource) -> Picture:
    """Read a file (path), an encoded file in memory (bytes), or take a PIL image (which is left as it is).

    Orientation is applied; ICC profile and the rest of EXIF are kept, but not the EXIF of a TIFF, whose entries are
    mixed with those that describe how the file stores its pixels. Raises MediaError.
    """
    if isinstance(source, Image.Image):
        return _guarded(lambda: _from_pil(source), "the PIL image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return _guarded(lambda: _read_stream(io.BytesIO(data)), "the data")
    path = Path(source)
    try:
        with path.open("rb") as stream:
            return _guarded(lambda: _read_stream(stream), str(path))
    except OSError as error:
        raise MediaError(f"{path}: can't be read ({error.strerror or error})") from None


def _guarded(read: Any, what: str) -> Picture:
    """The picture that `read` gives, or a MediaError: decoders fail on damaged input with nearly any exception."""
    try:
        return read()
    except MediaError as error:
        raise MediaError(f"{what}: {error}") from None
    except Exception as error:
        raise MediaError(f"{what}: can't be read as a picture, damaged? ({error}); expected {TAKES}") from error


def _read_stream(stream: BinaryIO) -> Picture:
    image = _open(stream)
    check_size(*image.size)
    stream.seek(0)
    head = stream.read(26)
    deep = head.startswith(PNG) and head[24] == 16 and (head[25] != 0 or "transparency" in image.info)
    if not deep:
        _check_depth(image)
        return _from_pil(image)
    _check_still(image)
    image.load()  # Pillow verifies the CRCs and collects what comes after the pixels
    orientation, icc, exif = _metadata(image)
    stream.seek(0)
    array = apply_orientation(read_png16(stream, image.size), orientation)
    return Picture.from_stacked(array, _fitting_icc(icc, array.shape[2] < 3), exif)


def _open(stream: BinaryIO) -> ImageFile:
    """The PIL image of a file, not decoded yet, without Pillow's limit on pixels, a module-wide setting."""
    prefix = stream.read(16)
    for name in IMAGE_READS:
        if name not in Image.OPEN:
            Image.init()
        if name not in Image.OPEN:
            continue  # this Pillow was built without it
        factory, accept = Image.OPEN[name]
        fits = accept(prefix) if accept else True  # a text: why not
        if fits and not isinstance(fits, str):
            stream.seek(0)
            try:
                return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    from .signatures import START, describe_unknown

    stream.seek(0)
    words = describe_unknown(stream.read(START), getattr(stream, "name", ""), f"one of {', '.join(IMAGE_READS)}")
    raise MediaError(f"not a picture that can be read here, but {words}")


def _check_depth(image: ImageFile) -> None:
    """Refuse what Pillow opens as 8 bits without a word (or as 32, for a grey PPM). Call before image.load()."""
    bits = 8
    if image.format == "TIFF" and image.mode in ("RGB", "RGBA", "RGBX", "RGBa", "LA", "L"):
        bits = int(np.max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 1)))
    elif image.format == "PPM" and image.mode in ("RGB", "I"):
        arguments = image.tile[0][3]  # (mode, largest value), or only a mode if there is nothing to be scaled
        bits = 16 if image.mode == "I" or (isinstance(arguments, tuple) and int(arguments[-1]) > 255) else 8
    if bits > 8:
        raise MediaError(
            f"a {image.format} of {bits} bits a channel: 16-bit colour is only read from PNG (grey from TIFF too); "
            "convert it to PNG"
        )


def _check_still(image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a JPEG with previews or a second view behind it
        raise MediaError(f"an animation or a document of {frames} frames; expected {TAKES}: extract one frame")


def _from_pil(image: Image.Image) -> Picture:
    check_size(*image.size)
    _check_still(image)
    image.load()
    orientation, icc, exif = _metadata(image)
    mode = image.mode
    if mode.startswith("I;16"):
        array = np.asarray(image).astype(np.uint16)[:, :, None]
    else:
        clear = "transparency" in image.info
        if mode == "1":
            target = "RGBA" if clear else "L"
        elif mode == "P":
            target = "RGBA" if clear or image.has_transparency_data else "RGB"
        elif mode in ("L", "RGB"):
            target = {"L": "LA", "RGB": "RGBA"}[mode] if clear else mode
        else:
            target = {"LA": "LA", "La": "LA", "RGBA": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB"}.get(mode, "")
        if not target:
            raise MediaError(f"a picture of mode {mode}; expected {TAKES}: convert it first, image.convert('RGB')")
        array = np.array(image if mode == target else image.convert(target))
        array = array[:, :, None] if array.ndim == 2 else array
    array = apply_orientation(array, orientation)
    return Picture.from_stacked(array, _fitting_icc(icc, array.shape[2] < 3), exif)


def _metadata(image: Image.Image) -> tuple[int, bytes | None, bytes | None]:
    """The orientation (1..8), the ICC profile, and the EXIF without its orientation. Call after image.load()."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    icc = image.info.get("icc_profile")
    raw = image.info.get("exif")
    exif = None
    if isinstance(raw, bytes) and raw:
        exif = without_orientation(raw.removeprefix(_EXIF_PREFIX))
    orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    return orientation, icc if isinstance(icc, bytes) and icc else None, exif


def _fitting_icc(icc: bytes | None, grey: bool) -> bytes | None:
    """The ICC profile, unless it is of another colour space than the pixels (a palette turned to RGB, say)."""
    if icc is None or len(icc) < 128:
        return None
    return icc if icc[16:20] == (b"GRAY" if grey else b"RGB ") else None


def apply_orientation(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored pixels (H, W, C) the way EXIF orientation 1..8 says that they are to be seen."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def without_orientation(exif: bytes) -> bytes | None:
    """The EXIF (a TIFF structure) without the orientation entry of IFD 0, and with every other byte where it was.

    Entries behind it move up by 12 bytes inside the directory; offsets elsewhere stay valid (maker notes rely on
    that). None if the structure can't be read.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    start = struct.unpack_from(order + "I", exif, 4)[0]
    if start + 2 > len(exif):
        return None
    n_entries = struct.unpack_from(order + "H", exif, start)[0]
    end = start + 2 + 12 * n_entries
    if end > len(exif):
        return None
    table = [exif[at : at + 12] for at in range(start + 2, end, 12)]
    kept = [item for item in table if struct.unpack_from(order + "H", item)[0] != _ORIENTATION]
    if len(kept) == len(table):
        return exif
    following = exif[end : end + 4].ljust(4, b"\x00")
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + following
    return exif[:start] + directory + bytes(12 * (len(table) - len(kept))) + exif[end + 4 :]


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
    return image


def write_picture(picture: Picture, target: str | os.PathLike[str] | BinaryIO, format: str | None = None) -> None:
    """Write as `format` ("PNG", "JPEG", ... one of IMAGE_WRITES), by default what the suffix of target says, else PNG.

    PNG, WebP and TIFF are written losslessly; 16 bits only as PNG (TIFF too for grey). MediaError for what a format
    can't hold. Dropped silently are only metadata: ICC profile and EXIF in BMP and PPM, EXIF in TIFF.
    """
    if format is None:
        suffix = Path(target).suffix.lower() if isinstance(target, (str, os.PathLike)) else ".png"
        if suffix not in IMAGE_WRITES:
            raise MediaError(f"{target}: unknown suffix {suffix!r}; expected one of {', '.join(IMAGE_WRITES)}")
        format = IMAGE_WRITES[suffix]
    format = format.upper()
    if format not in IMAGE_WRITES.values():
        raise MediaError(f"can't write {format}; expected one of {', '.join(sorted(set(IMAGE_WRITES.values())))}")
    deep = picture.pixels.dtype == np.uint16
    if deep and not (format == "PNG" or (format == "TIFF" and picture.shape[2] == 1)):
        raise MediaError(f"{format} can't hold this picture's 16 bits a channel: write a PNG")
    if picture.alpha is not None and format in ("JPEG", "PPM", "BMP"):
        raise MediaError(f"{format} has no transparency: write PNG, WebP or TIFF")
    if isinstance(target, (str, os.PathLike)):
        try:
            with Path(target).open("wb") as stream:
                _write_stream(picture, stream, format)
        except OSError as error:
            raise MediaError(f"{target}: can't be written ({error.strerror or error})") from None
    else:
        _write_stream(picture, target, format)


def _write_stream(picture: Picture, stream: BinaryIO, format: str) -> None:
    if format == "PNG" and picture.pixels.dtype == np.uint16:
        write_png16(picture, stream)
        return
    options: dict[str, Any] = dict(_OPTIONS.get(format, {}))
    if picture.icc and format not in ("BMP", "PPM"):
        options["icc_profile"] = picture.icc
    if picture.exif and format in ("PNG", "JPEG", "WEBP"):
        options["exif"] = _EXIF_PREFIX + picture.exif
    try:
        to_pil(picture).save(stream, format, **options)
    except ValueError as error:
        raise MediaError(f"can't be written as {format} ({error}): write a PNG") from None


# ---- WebP as an entropy coder


def _to_8_bits(array: NDArray[np.uint16]) -> NDArray[np.uint8]:
    out = np.empty(array.shape, np.uint8)
    for top, bottom in bands(array.shape[0], array[0].size):
        out[top:bottom] = (array[top:bottom].astype(np.uint32) * 255 + 32767) // 65535
    return out
