"""The typed values that codecs take and give back, and reading and writing them as files. Pictures so far.

Pillow reads and writes 8-bit pictures. It would reduce 16-bit colour to 8 bits, so 16-bit PNGs with more than one
channel are read with PyAV (FFmpeg) and written by the few lines of `write_png16`, and 16-bit colour in TIFF and PPM is
refused. What can't be represented without
loss or guessing (CMYK, float, animation, palettes of palettes) is refused with a `MediaError` that says what is taken.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import MediaError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "READS",
    "SUFFIXES",
    "WRITES",
    "Picture",
    "PictureSource",
    "apply_orientation",
    "bands",
    "check_size",
    "decode_webp",
    "encode_webp",
    "read_picture",
    "to_pil",
    "without_orientation",
    "write_picture",
    "write_png16",
]

MAX_PIXELS = 1 << 28
MAX_SIDE = (1 << 20) - 1
READS = {  # Pillow's names, and the usual suffixes; what a file is, its content says
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
    "AVIF": (".avif",),
}
SUFFIXES = {"image": tuple(suffix for suffixes in READS.values() for suffix in suffixes)}  # by medium
WRITES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
}
TAKES = "a still picture: grey or RGB, 8 or 16 bits a channel, with or without transparency"

PictureSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image

_OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_PREFIX = b"Exif\x00\x00"
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102
_BAND = 1 << 20  # samples handled at a time where temporaries are wider than the pixels


@dataclass(frozen=True)
class Picture:
    """A still picture. Values are sRGB, or what `icc` says.

    pixels: (H, W, 1) or (H, W, 3), uint8 or uint16, without transparency. alpha: (H, W) of the same dtype, or None.
    exif: a TIFF structure, without the "Exif" prefix; its orientation is already applied and removed.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    icc: bytes | None = None
    exif: bytes | None = None

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
            raise MediaError(f"pixels are {pixels.dtype} {pixels.shape}; expected uint8 or uint16, (H, W, 1 or 3)")
        if alpha is not None and (alpha.dtype != pixels.dtype or alpha.shape != pixels.shape[:2]):
            raise MediaError(f"alpha is {alpha.dtype} {alpha.shape}; expected {pixels.dtype} {pixels.shape[:2]}")
        check_size(pixels.shape[1], pixels.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, channels incl. alpha)."""
        height, width, channels = self.pixels.shape
        return height, width, channels + (self.alpha is not None)

    def stacked(self) -> NDArray[Any]:
        """(H, W, channels incl. alpha)."""
        return self.pixels if self.alpha is None else np.dstack((self.pixels, self.alpha))

    @staticmethod
    def from_stacked(array: NDArray[Any], icc: bytes | None = None, exif: bytes | None = None) -> Picture:
        """array: (H, W, 1..4), uint8 or uint16; 2 and 4 channels have alpha last."""
        if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
            raise MediaError(f"an array of shape {array.shape}; expected (H, W, 1 to 4)")
        channels = array.shape[2]
        if channels in (1, 3):
            return Picture(array, None, icc, exif)
        return Picture(
            np.ascontiguousarray(array[:, :, : channels - 1]), np.ascontiguousarray(array[:, :, -1]), icc, exif
        )


def check_size(width: int, height: int) -> None:
    """Raise MediaError unless a picture of this size is within our caps."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or width * height > MAX_PIXELS:
        raise MediaError(
            f"a picture of {width}x{height}; expected sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels: "
            "cut it into parts"
        )


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
    """Decoders fail on damaged input with nearly any exception; to the caller all of them mean the same."""
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
    deep = head.startswith(_PNG) and head[24] == 16 and (head[25] != 0 or "transparency" in image.info)
    if not deep:
        _check_depth(image)
        return _from_pil(image)
    _check_still(image)
    image.load()  # Pillow verifies the CRCs and collects what comes after the pixels
    orientation, icc, exif = _metadata(image)
    stream.seek(0)
    array = apply_orientation(_read_png16(stream, image.size), orientation)
    return Picture.from_stacked(array, _fitting_icc(icc, array.shape[2] < 3), exif)


def _open(stream: BinaryIO) -> ImageFile:
    """Image.open without its limit on pixels, a module-wide setting that isn't ours to change; nothing is decoded."""
    prefix = stream.read(16)
    for name in READS:
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
    raise MediaError(f"not a picture, or of an unknown format; expected one of {', '.join(READS)}")


def _check_depth(image: ImageFile) -> None:
    """Pillow opens these as 8 bits without a word (or as 32, for a grey PPM). Call before image.load()."""
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
    """Orientation (1..8), ICC profile, EXIF without its orientation. Call after image.load()."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    icc = image.info.get("icc_profile")
    raw = image.info.get("exif")
    exif = None
    if isinstance(raw, bytes) and raw:
        exif = without_orientation(raw.removeprefix(_EXIF_PREFIX))
    orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    return orientation, icc if isinstance(icc, bytes) and icc else None, exif


def _fitting_icc(icc: bytes | None, grey: bool) -> bytes | None:
    """A profile of another colour space than the pixels (a palette turned to RGB, say) would be wrong: dropped."""
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
    """EXIF (a TIFF structure) with the orientation entry taken out of IFD 0 and every other byte where it was.

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


def _read_png16(stream: BinaryIO, size: tuple[int, int]) -> NDArray[np.uint16]:
    """(H, W, C) of a 16-bit PNG, C = 2, 3 or 4."""
    import av

    channels = {"ya16be": 2, "rgb48be": 3, "rgba64be": 4}
    with av.open(stream, format="png_pipe") as container:
        frame = next(container.decode(video=0))
    if frame.format.name not in channels or (frame.width, frame.height) != size:
        raise MediaError(f"a 16-bit PNG that FFmpeg reads as {frame.format.name} {frame.width}x{frame.height}")
    plane, n = frame.planes[0], channels[frame.format.name]
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * frame.height].reshape(frame.height, plane.line_size)
    return rows[:, : 2 * n * frame.width].copy().view(">u2").reshape(frame.height, frame.width, n).astype(np.uint16)


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
    """Write as `format` ("PNG", "JPEG", ... one of WRITES), by default what the suffix of target says, else PNG.

    PNG, WebP and TIFF are written losslessly; 16 bits only as PNG (TIFF too for grey). MediaError for what a format
    can't hold. Dropped silently are only metadata: ICC profile and EXIF in BMP and PPM, EXIF in TIFF.
    """
    if format is None:
        suffix = Path(target).suffix.lower() if isinstance(target, (str, os.PathLike)) else ".png"
        if suffix not in WRITES:
            raise MediaError(f"{target}: unknown suffix {suffix!r}; expected one of {', '.join(WRITES)}")
        format = WRITES[suffix]
    format = format.upper()
    if format not in WRITES.values():
        raise MediaError(f"can't write {format}; expected one of {', '.join(sorted(set(WRITES.values())))}")
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


def write_png16(picture: Picture, stream: BinaryIO) -> None:
    """A 16-bit PNG of any channel count (PNG specification, third edition), with iCCP and eXIf."""
    height, width, channels = picture.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    stream.write(_PNG)
    _png_chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    if picture.icc:
        _png_chunk(stream, b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(picture.icc))
    if picture.exif:
        _png_chunk(stream, b"eXIf", picture.exif)
    zipper = zlib.compressobj(6)
    above = np.zeros((1, width * channels * 2), np.uint8)
    for top, bottom in bands(height, width * channels):
        parts = [picture.pixels[top:bottom]]
        if picture.alpha is not None:
            parts.append(picture.alpha[top:bottom, :, None])
        rows = np.concatenate(parts, axis=2).astype(">u2").view(np.uint8).reshape(bottom - top, -1)
        previous = np.concatenate((above, rows[:-1]))
        filtered = _png_filter(rows, previous, 2 * channels)
        above = rows[-1:]
        if packed := zipper.compress(filtered.tobytes()):
            _png_chunk(stream, b"IDAT", packed)
    _png_chunk(stream, b"IDAT", zipper.flush())
    _png_chunk(stream, b"IEND", b"")


def _png_filter(rows: NDArray[np.uint8], previous: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """(n, bytes a row + 1): each row behind the number of the filter (0 none, 1 left, 2 above, 4 Paeth) it got.

    Chosen as the PNG specification advises: least sum of absolute differences.
    """
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    corner = np.zeros_like(rows)
    corner[:, step:] = previous[:, :-step]
    a, b, c = left.astype(np.int16), previous.astype(np.int16), corner.astype(np.int16)
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, previous, corner))
    options = np.stack([rows, rows - left, rows - previous, rows - paeth])
    cost = np.abs(options.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    out[:, 0] = np.array([0, 1, 2, 4], np.uint8)[best]
    out[:, 1:] = np.take_along_axis(options, best[None, :, None], axis=0)[0]
    return out


def _png_chunk(stream: BinaryIO, tag: bytes, payload: bytes) -> None:
    stream.write(struct.pack(">I", len(payload)) + tag + payload)
    stream.write(struct.pack(">I", zlib.crc32(payload, zlib.crc32(tag))))


# ---- WebP as an entropy coder


def encode_webp(array: NDArray[np.uint8], method: int = 4, effort: int = 75) -> bytes:
    """Lossless WebP of (H, W) or (H, W, 3) uint8, sides up to 16383. method 0..6, effort 0..100: libwebp's."""
    stream = io.BytesIO()
    image = Image.fromarray(array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2))
    image.save(stream, "WEBP", lossless=True, quality=effort, method=method)
    return stream.getvalue()


def decode_webp(data: bytes | memoryview, height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) of what `encode_webp` wrote. Any other size or kind of WebP is refused before it is decoded."""
    data = bytes(data)
    bits = int.from_bytes(data[21:25], "little")
    found = (data[:4], data[8:16], data[20:21], (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, bits >> 28)
    if len(data) < 25 or found != (b"RIFF", b"WEBPVP8L", b"\x2f", height, width, 0):
        raise MediaError(f"not a plain lossless WebP of {width}x{height}")
    if int.from_bytes(data[4:8], "little") != len(data) - 8:
        raise MediaError("a WebP of another length than it says")
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's boundary: what it raises on damage isn't specified
        raise MediaError(f"a damaged WebP ({error})") from error


def _to_8_bits(array: NDArray[np.uint16]) -> NDArray[np.uint8]:
    out = np.empty(array.shape, np.uint8)
    for top, bottom in bands(array.shape[0], array[0].size):
        out[top:bottom] = (array[top:bottom].astype(np.uint32) * 255 + 32767) // 65535
    return out


def bands(height: int, row_size: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about a million samples each, to keep temporaries small."""
    step = max(1, _BAND // max(1, row_size))
    for top in range(0, height, step):
        yield top, min(top + step, height)
