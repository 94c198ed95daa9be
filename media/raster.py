"""Smaller formats of pictures: PNM and PAM, BMP, GIF, TGA, WebP. The header says what a file is, a table what we take.

PNM is read here to the last bit. Of the others Pillow unpacks what the tables let through.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import MediaError
from .metadata import Metadata
from .values import Picture, check_size

__all__ = [
    "divided",
    "loaded",
    "looks_like_tga",
    "read_bmp",
    "read_gif",
    "read_pnm",
    "read_tga",
    "read_webp",
    "write_pnm",
]

_CONVERT = "convert it, e.g. `vips copy IN OUT.png`"
_CUT = "that ends early (truncated): it is damaged, or a part is missing"


def loaded(format: str, data: bytes) -> Image.Image:
    """The decoded PIL image of a file, without Pillow's limit on pixels, a module-wide setting."""
    if format not in Image.OPEN:
        Image.init()
    if format not in Image.OPEN:
        raise MediaError(f"a {format}, which this build of Pillow can't read: install another, or {_CONVERT}")
    try:
        image = Image.OPEN[format][0](io.BytesIO(data), "")
    except SyntaxError as error:
        article = "an" if format[0] in "AI" else "a"
        raise MediaError(f"{article} {format} that can't be read, damaged? ({error})") from None
    check_size(*image.size)
    image.load()
    return image


def divided(colours: NDArray[Any], alpha: NDArray[Any], about: Metadata) -> NDArray[Any]:
    """Colours that were premultiplied with transparency, divided by it."""
    top = int(np.iinfo(colours.dtype).max)
    if not (alpha == top).all():
        about.note("alpha", "the colours were premultiplied with transparency: they were divided by it, and rounded")
    weight = np.maximum(alpha, 1).astype(np.uint32)
    out = (colours.astype(np.uint32) * top + weight // 2) // weight
    return np.minimum(out, top).astype(colours.dtype)


def _array(image: Image.Image, target: str) -> NDArray[np.uint8]:
    array = np.array(image if image.mode == target else image.convert(target))
    return array[:, :, None] if array.ndim == 2 else array


# ---- PNM and PAM

_PNM = {1: (1, True), 2: (1, True), 3: (3, True), 4: (1, False), 5: (1, False), 6: (3, False)}  # channels, whether text
_PAM = {
    "BLACKANDWHITE": 1,
    "GRAYSCALE": 1,
    "RGB": 3,
    "BLACKANDWHITE_ALPHA": 2,
    "GRAYSCALE_ALPHA": 2,
    "RGB_ALPHA": 4,
    "": 0,  # by the number of channels
}
_TOKEN = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*([0-9]+)")


def read_pnm(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of PBM, PGM, PPM or PAM, (H, W, 1 to 4), scaled to 8 or 16 bits where their largest value isn't."""
    about = Metadata()
    kind = data[1] - ord("0")
    width, height, n, top, at = _pam_head(data) if kind == 7 else _pnm_head(data, kind)
    check_size(width, height)
    if not 1 <= top <= 65535:
        raise MediaError(f"a PNM whose largest value is {top}; expected 1 to 65535")
    if kind == 4:
        row = -(-width // 8)
        raw = _body(data, at, row * height).reshape(height, row)
        samples = 1 - np.unpackbits(raw, axis=1)[:, :width, None]
        end = at + row * height
    elif kind in (1, 2, 3):
        samples, end = _text_samples(data, at, width * height * n, kind == 1)
        samples = samples.reshape(height, width, n)
        samples = 1 - samples if kind == 1 else samples
    else:
        size = 2 if top > 255 else 1
        raw = _body(data, at, width * height * n * size)
        samples = raw.view(">u2" if size == 2 else np.uint8).reshape(height, width, n).astype(np.uint32)
        end = at + width * height * n * size
    if int(samples.max()) > top:
        raise MediaError(f"a PNM with a sample of {int(samples.max())}, above its largest value {top}: it is damaged")
    rest = data[end:].strip()
    if rest[:1] == b"P":
        about.note("picture", f"the pictures behind the first ({len(rest)} bytes) are left out")
    elif rest:
        about.leave_out("what follows the end of the picture", len(rest))
    full = 255 if top <= 255 else 65535
    if top not in (1, 255, 65535):
        about.note("depth", f"values up to {top} became values up to {full}, scaled: white is white")
    out = (samples.astype(np.uint32) * full + top // 2) // top
    return out.astype(np.uint8 if full == 255 else np.uint16), about


def _pnm_head(data: bytes, kind: int) -> tuple[int, int, int, int, int]:
    at, numbers = 2, []
    for _ in range(2 if kind in (1, 4) else 3):
        match = _TOKEN.match(data, at)
        if match is None or len(match[1]) > 9:
            raise MediaError("a PNM whose header can't be read: it is damaged")
        numbers.append(int(match[1]))
        at = match.end()
    width, height = numbers[:2]
    return width, height, _PNM[kind][0], 1 if kind in (1, 4) else numbers[2], at + (not _PNM[kind][1])


def _pam_head(data: bytes) -> tuple[int, int, int, int, int]:
    end = data.find(b"ENDHDR\n")
    words: dict[str, str] = {}
    for line in data[3 : max(end, 0)].decode("latin-1").splitlines():
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            words[key] = (words.get(key, "") + " " + value.strip()).strip()
    try:
        width, height, n, top = (int(words[key]) for key in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL"))
    except (KeyError, ValueError):
        raise MediaError("a PAM whose header can't be read: it is damaged") from None
    name = words.get("TUPLTYPE", "")
    if n not in (1, 2, 3, 4) or _PAM.get(name, -1) not in (0, n):
        raise MediaError(
            f"a PAM of {n} channels called {name or 'nothing'}; expected one of {', '.join(filter(None, _PAM))}"
        )
    return width, height, n, top, end + 7


def _body(data: bytes, at: int, size: int) -> NDArray[np.uint8]:
    if at + size > len(data):
        raise MediaError(f"a PNM {_CUT}")
    return np.frombuffer(data, np.uint8, size, at)


def _text_samples(data: bytes, at: int, n_values: int, bits: bool) -> tuple[NDArray[np.uint32], int]:
    """The numbers of a PNM in text; the digits of a bitmap need no space between them."""
    if n_values > len(data) - at + 1:
        raise MediaError(f"a PNM {_CUT}")
    body = re.sub(rb"#[^\n\r]*", b"", data[at:])
    if bits:
        values = [digit - 48 for digit in re.sub(rb"\s+", b"", body)[:n_values]]
    try:
        if not bits:
            values = [int(part) for part in body.split()[:n_values]]
        if len(values) < n_values:
            raise MediaError(f"a PNM {_CUT}")
        return np.array(values, np.uint32), len(data)
    except (ValueError, OverflowError):
        raise MediaError("a PNM with something else than numbers in it: it is damaged") from None


def write_pnm(picture: Picture, stream: BinaryIO) -> None:
    """Write a PGM of a grey picture or a PPM of a coloured one, 8 or 16 bits."""
    height, width, n = picture.pixels.shape
    top = int(np.iinfo(picture.pixels.dtype).max)
    stream.write(f"P{5 if n == 1 else 6}\n{width} {height}\n{top}\n".encode())
    stream.write(picture.pixels.astype(f">u{picture.pixels.itemsize}").tobytes())


# ---- BMP

_BMP = {  # compression: its name, and the bits of a pixel that we take
    0: ("none", (1, 4, 8, 16, 24, 32)),
    1: ("RLE8", (8,)),
    2: ("RLE4", (4,)),
    3: ("bit fields", (16, 32)),
    6: ("bit fields", (16, 32)),
}


def read_bmp(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of a BMP, (H, W, 1, 3 or 4), uint8."""
    about = Metadata()
    if len(data) < 30:
        raise MediaError(f"a BMP {_CUT}")
    start, head = struct.unpack_from("<II", data, 10)
    old = head == 12
    bits = struct.unpack_from("<H", data, 24 if old else 28)[0]
    packing = 0 if old or len(data) < 34 else struct.unpack_from("<I", data, 30)[0]
    name, depths = _BMP.get(packing, (f"unknown ({packing})", ()))
    if bits not in depths:
        raise MediaError(f"a BMP of {bits} bits a pixel, packed as {name}: {_CONVERT}")
    try:
        image = loaded("BMP", data)
    except OSError as error:
        if "bitfields" in str(error).lower():
            raise MediaError(f"a BMP of {bits} bits a pixel with unusual bit fields: {_CONVERT}") from None
        raise
    modes = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA", "RGBX": "RGB"}
    if image.mode not in modes:
        raise MediaError(f"a BMP that Pillow reads as {image.mode}: {_CONVERT}")
    array = _array(image, modes[image.mode])
    height, width = array.shape[:2]
    if bits == 32 and packing == 0 and array.shape[2] == 3 and len(data) >= start + 4 * width * height:
        fourth = np.frombuffer(data, np.uint8, 4 * width * height, start)[3::4]
        if not (fourth == fourth[0]).all():
            about.note("alpha", "a fourth byte of each pixel, which this kind of BMP gives no meaning, is left out")
    if head >= 108 and not old and len(data) >= 18 + head:
        space = data[70:74]
        if space in (b"DEBM", b"KNIL"):  # MBED and LINK, in little-endian
            place, size = struct.unpack_from("<II", data, 126) if head >= 124 else (0, 0)
            if space == b"DEBM" and size and 14 + place + size <= len(data):
                about.icc = data[14 + place : 14 + place + size]
            else:
                about.note("colour", "a colour profile that lies in another file is left out")
        elif space == b"\0\0\0\0" and any(data[74:122]):
            about.note("colour", "colours told by primaries and gamma are left out")
    across, down = (0, 0) if old or len(data) < 46 else struct.unpack_from("<ii", data, 38)
    if across > 0 and down > 0:
        about.dpi = (round(across * 0.0254, 4), round(down * 0.0254, 4))
    return array, about


# ---- GIF


def read_gif(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of a GIF of a single frame, (H, W, 3 or 4), uint8."""
    about = Metadata()
    n_frames = 0
    covers = True
    for kind, payload in _gif_blocks(data):
        if kind == "frame":
            n_frames += 1
            covers = covers and payload[:4] == bytes(4) and payload[4:8] == data[6:10]
        elif kind == "comment":
            about.take_text("Comment", payload.decode("latin-1"))
        elif kind == "text":
            about.leave_out("a plain text", len(payload))
        elif payload[:11] in (b"NETSCAPE2.0", b"ANIMEXTS1.0"):
            pass  # how often an animation is shown
        elif payload[:11] == b"XMP DataXMP":
            about.take_xmp(payload[11:].partition(b"\x01\xff\xfe\xfd")[0])  # what readers need to skip it
        elif payload[:11] == b"ICCRGBG1012":
            about.icc = payload[11:]
        else:
            about.leave_out(f"an extension {payload[:8].decode('latin-1').strip()!r}", len(payload))
    if n_frames > 1:
        raise MediaError(
            f"an animation of {n_frames} frames; expected a still picture: extract one, e.g. "
            "`ffmpeg -i IN -frames:v 1 OUT.png`"
        )
    image = loaded("GIF", data)
    clear = "transparency" in image.info or image.has_transparency_data
    if image.mode not in ("L", "P", "RGB", "RGBA"):
        raise MediaError(f"a GIF that Pillow reads as {image.mode}: {_CONVERT}")
    array = _array(image, "RGBA" if clear else "RGB")
    if not covers:
        about.note("alpha", "the frame covers a part of the picture: the rest has the background's colour")
    return array, about


def _gif_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The frames, comments, texts and application blocks of a GIF, up to where it ends or can't be read."""
    if len(data) < 13:
        return
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 128 else 0)
    while at + 1 < len(data):
        head = data[at]
        if head == 0x2C and at + 10 <= len(data):
            flags = data[at + 9]
            body = at + 10 + (3 << ((flags & 7) + 1) if flags & 128 else 0) + 1
            yield "frame", data[at + 1 : at + 10]
            _, at = _gif_parts(data, body)
        elif head == 0x21:
            label = data[at + 1]
            payload, at = _gif_parts(data, at + 2, xmp=data[at + 3 : at + 14] == b"XMP DataXMP")
            names = {0xFE: "comment", 0x01: "text", 0xFF: "application"}
            if label in names:
                yield names[label], payload
        else:
            return


def _gif_parts(data: bytes, at: int, xmp: bool = False) -> tuple[bytes, int]:
    """The content of sub-blocks, and where they end. XMP isn't cut into blocks, but ends so that readers skip it."""
    parts, start = [], at
    while at < len(data) and data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return (data[start + 1 : at] if xmp else b"".join(parts)), at + 1


# ---- TGA

_TGA = {  # (type without packing, bits of a pixel): what it is
    (1, 8): "P",
    (2, 16): "RGB",
    (2, 24): "RGB",
    (2, 32): "RGBA",
    (3, 8): "L",
    (3, 16): "LA",
}


def looks_like_tga(data: bytes) -> bool:
    """Whether bytes can be a TGA, which has no signature: every field of its header must be possible."""
    if (
        len(data) < 18
        or data[1] not in (0, 1)
        or data[2] not in (1, 2, 3, 9, 10, 11)
        or data[16] not in (8, 15, 16, 24, 32)
    ):
        return False
    width, height = struct.unpack_from("<HH", data, 12)
    map_fits = data[7] in (15, 16, 24, 32) and any(data[5:7]) if data[1] else not any(data[3:8])
    needs_map = data[2] in (1, 9)
    size = width * height * -(-data[16] // 8)
    whole = data[2] > 8 or len(data) >= (18 + size) // 2  # a file that is cut is still one
    return bool(width and height and map_fits and (data[1] or not needs_map) and not data[17] & 0xC0 and whole)


def read_tga(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of a TGA, (H, W, 1 to 4), uint8."""
    about = Metadata()
    kind, bits, alpha_bits = data[2] & 7, data[16], data[17] & 15
    mode = _TGA.get((kind, bits))
    if mode is None or (data[1] and data[7] not in (24, 32) and kind == 1):
        raise MediaError(f"a TGA of type {data[2]} and {bits} bits a pixel: {_CONVERT}")
    image = loaded("TGA", data)
    array = _array(image, {"P": "RGBA" if data[7] == 32 else "RGB", "RGB": "RGB"}.get(mode, mode))
    if data[0]:
        about.leave_out("an identification", data[0])
    attribute = None
    if data[-18:-2] == b"TRUEVISION-XFILE":
        place = int.from_bytes(data[-26:-22], "little")
        if place and place + 495 <= len(data):
            attribute = data[place + 494]
            if data[place + 2 : place + 474].strip(b"\0 "):
                about.leave_out("the extension area (author, comments, date)", 495)
    if (kind, bits) == (2, 16) and alpha_bits:
        about.note("alpha", "an attribute bit of each pixel is left out")
    if array.shape[2] in (2, 4):
        colours, alpha = array[:, :, :-1], array[:, :, -1:]
        if attribute == 4:
            array = np.concatenate((divided(colours, alpha, about), alpha), axis=2)
        elif alpha_bits == 0 or attribute in (0, 1):
            if (alpha == alpha.flat[0]).all():
                array = colours
            else:
                about.note(
                    "alpha", "the header says that there is no transparency, yet its samples differ: they were taken"
                )
    return np.ascontiguousarray(array), about


# ---- WebP


def read_webp(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of a WebP, (H, W, 3 or 4), uint8."""
    about = Metadata()
    n_frames, at = 0, 12
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) + 1:
        raise MediaError(f"a WebP {_CUT}")
    while at + 8 <= min(end, len(data)):
        tag, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        payload = data[at + 8 : at + 8 + size]
        if tag == b"ANMF":
            n_frames += 1
        elif tag == b"ICCP":
            about.icc = payload
        elif tag == b"EXIF":
            about.take_exif(payload)
        elif tag == b"XMP ":
            about.take_xmp(payload)
        elif tag not in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM"):
            about.leave_out(f"a chunk {tag.decode('latin-1').strip()!r}", size)
        at += 8 + size + (size & 1)
    if n_frames > 1:
        raise MediaError(
            f"an animation of {n_frames} frames; expected a still picture: extract one, e.g. "
            "`webpmux -get frame 1 IN -o OUT.webp`"
        )
    if len(data) > end and data[end:].strip(b"\0"):
        about.leave_out("what follows the end of the picture", len(data) - end)
    image = loaded("WEBP", data)
    if image.mode not in ("RGB", "RGBA"):
        raise MediaError(f"a WebP that Pillow reads as {image.mode}: {_CONVERT}")
    return _array(image, image.mode), about
