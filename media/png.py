"""PNG (third edition): its chunks, its samples exactly as stored, and a writer for any depth and palettes.

Pillow and FFmpeg only unpack the samples, from a file that holds nothing but the critical chunks. Transparency, depth
and every other chunk are read here: neither of them scales a transparent grey of 1, 2 or 4 bits with its samples, and
Pillow refuses a picture for a text that is long or damaged.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from ..native.png import png_filter
from . import icc as iccs
from .bands import bands
from .metadata import Metadata, inflate
from .values import Picture, check_size

__all__ = ["PNG", "Palette", "metadata_chunks", "read_palette", "read_png", "write_palette", "write_png"]

PNG = b"\x89PNG\r\n\x1a\n"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by the type of colour
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_INCH = 0.0254


@dataclass(frozen=True)
class _File:
    """The parts of a PNG. bare: a PNG of the critical chunks alone."""

    width: int
    height: int
    depth: int
    colour: int
    bare: bytes
    palette: bytes
    transparent: bytes | None
    about: Metadata


@dataclass(frozen=True, eq=False)
class Palette:
    """A picture of indices, (H, W) uint8, of `depth` bits. colours: 3 bytes each. alpha: a byte each, maybe fewer."""

    indices: NDArray[np.uint8]
    colours: bytes
    alpha: bytes
    depth: int


# ---- reading


def read_png(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of a PNG, (H, W, 1 to 4), uint8 or uint16, with transparency last; and its metadata. MediaError."""
    file = _parse(data)
    samples = _samples(file)
    if file.colour == 3:
        return _coloured(file, samples), file.about
    if file.transparent is None or file.colour not in (0, 2):
        return samples, file.about
    n = 1 if file.colour == 0 else 3
    key = np.frombuffer(file.transparent[: 2 * n], ">u2").astype(np.int64) & ((1 << file.depth) - 1)
    if file.depth < 8:
        key = key * (255 // ((1 << file.depth) - 1))
    top = np.iinfo(samples.dtype).max
    alpha = np.where((samples == key).all(axis=2), 0, top).astype(samples.dtype)
    return np.dstack((samples, alpha)), file.about


def read_palette(data: bytes) -> Palette | None:
    """The indices of a PNG with a palette, and the palette; None for a PNG without. MediaError if it can't be read."""
    if len(data) < 33 or data[25] != 3:
        return None
    file = _parse(data)
    return Palette(_samples(file)[:, :, 0], file.palette, file.transparent or b"", file.depth)


def _parse(data: bytes) -> _File:
    about = Metadata()
    head, palette, transparent, cut = b"", b"", None, True
    bare, pixels = [PNG], []
    seen_pixels, default_is_frame = False, False
    for tag, payload, right in _chunks(data):
        if not tag:
            about.leave_out("what follows the end of the picture", len(payload))
            continue
        if tag[:1].isupper() and tag not in _CRITICAL:
            raise MediaError(f"a PNG with a critical chunk {tag.decode('latin-1')!r} that isn't known")
        if not right and (tag in _CRITICAL or tag == b"tRNS"):
            raise MediaError(f"a PNG that is damaged: the checksum of its chunk {tag.decode('latin-1')} is wrong")
        if tag in _CRITICAL:
            head = payload if tag == b"IHDR" and not head else head
            palette = payload if tag == b"PLTE" else palette
            seen_pixels = seen_pixels or tag == b"IDAT"
            bare.append(chunk(tag, payload))
            pixels += [payload] if tag == b"IDAT" else []
            cut = tag != b"IEND"
        elif tag == b"tRNS":
            transparent = payload
        elif not right:
            about.note("metadata", f"the chunk {tag.decode('latin-1')} has a wrong checksum and is left out")
        else:
            default_is_frame = default_is_frame or (tag == b"fcTL" and not seen_pixels)
            _take_chunk(about, tag, payload, default_is_frame)
    if len(head) != 13:
        raise MediaError("a PNG without a header: it is damaged")
    width, height, depth, colour, packing, filtering, interlace = struct.unpack(">IIBBBBB", head)
    if depth not in _DEPTHS.get(colour, ()) or packing or filtering or interlace > 1:
        raise MediaError(f"a PNG of colour type {colour} and {depth} bits: there is no such PNG, it is damaged")
    check_size(width, height)
    if not cut:
        cut = _ends_early(b"".join(pixels), width, height, depth * _CHANNELS[colour], interlace == 1)
    if cut:
        raise MediaError("a PNG that ends early (truncated): it is damaged, or a part is missing")
    if colour == 3 and (not palette or len(palette) % 3):
        raise MediaError("a PNG without its palette: it is damaged")
    if transparent is not None and colour in (0, 2) and len(transparent) < (2 if colour == 0 else 6):
        raise MediaError("a PNG whose transparent colour is cut: it is damaged")
    return _File(width, height, depth, colour, b"".join(bare), palette, transparent, about)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """The chunks up to the end: tag, content, and whether the checksum is right; what follows has an empty tag."""
    at = len(PNG)
    while at + 12 <= len(data):
        size, tag = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + size
        if not tag.isalpha() or end + 4 > len(data):
            return
        payload = data[at + 8 : end]
        yield tag, payload, zlib.crc32(data[at + 4 : end]) == int.from_bytes(data[end : end + 4], "big")
        at = end + 4
        if tag == b"IEND":
            if data[at:].strip(b"\0"):
                yield b"", data[at:], True
            return


_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7


def _ends_early(packed: bytes, width: int, height: int, bits: int, interlaced: bool) -> bool:
    """Whether the packed pixels hold fewer rows than the picture; decoders give the others as black."""
    wanted = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        wanted += rows * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    stream = zlib.decompressobj()
    rest = packed
    try:
        while wanted > 0:
            part = stream.decompress(rest, 1 << 20)
            rest = stream.unconsumed_tail
            if not part:
                return True
            wanted -= len(part)
    except zlib.error:
        return False  # the decoder says what is wrong
    return False


def _take_chunk(about: Metadata, tag: bytes, payload: bytes, default_is_frame: bool) -> None:
    """Take the content of an ancillary chunk; what can't be read is left out."""
    name = tag.decode("latin-1")
    try:
        if tag == b"acTL":
            n_frames = int.from_bytes(payload[:4], "big")
            if n_frames > 1:
                raise MediaError(
                    f"an animation of {n_frames} frames; expected a still picture: extract "
                    "one, e.g. `ffmpeg -i IN -frames:v 1 OUT.png`"
                )
        elif tag in (b"fcTL", b"fdAT"):
            if tag == b"fdAT" and not default_is_frame:
                about.note("picture", "an animation behind the picture is left out")
        elif tag == b"iCCP":
            about.icc = about.icc or inflate(payload[payload.index(0) + 2 :])
        elif tag in (b"tEXt", b"zTXt", b"iTXt"):
            about.take_text(*_text(tag, payload))
        elif tag == b"eXIf":
            about.take_exif(payload)
        elif tag == b"sRGB":
            about.said_srgb = True
        elif tag == b"gAMA":
            value = struct.unpack(">I", payload)[0] / 100000
            about.gamma = value if 0.05 < value < 20 else None
        elif tag == b"cHRM":
            places = tuple(value / 100000 for value in struct.unpack(">8I", payload))
            if iccs.profile(places, (1.0,), grey=False) is None:
                raise ValueError("impossible primaries")
            about.places = places
        elif tag == b"cICP":
            struct.unpack(">4B", payload)
            about.code_points = payload
        elif tag == b"pHYs":
            across, down, unit = struct.unpack(">IIB", payload)
            if unit == 1 and across and down:
                about.dpi = (round(across * _INCH, 4), round(down * _INCH, 4))
            elif across != down:
                about.note("metadata", f"the pixels' aspect ratio of {down}:{across} is left out")
        else:
            words = {"tIME": "the time of the last change (tIME)", "mDCV": "HDR mastering data (mDCV)"}
            about.leave_out(words.get(name, f"the chunk {name}"), len(payload))
    except (ValueError, IndexError, struct.error):
        if tag == b"iCCP":
            about.note("colour", f"an ICC profile that can't be read ({len(payload)} bytes) is left out")
        else:
            about.leave_out(f"a chunk {name} that can't be read", len(payload))


def _text(tag: bytes, payload: bytes) -> tuple[str, str]:
    keyword, _, rest = payload.partition(b"\0")
    name = keyword.decode("latin-1")
    if tag == b"tEXt":
        return name, rest.decode("latin-1")
    if tag == b"zTXt":
        return name, inflate(rest[1:]).decode("latin-1")
    packed = rest[0] == 1
    _, _, rest = rest[2:].partition(b"\0")  # the language
    _, _, rest = rest.partition(b"\0")  # the keyword in that language
    return name, (inflate(rest) if packed else rest).decode("utf-8")


def _samples(file: _File) -> NDArray[Any]:
    """The samples as they are stored: of 8 or 16 bits, those of fewer bits (unless indices) scaled to 8."""
    if file.depth == 16:
        return _deep(file)
    from PIL import PngImagePlugin

    image = PngImagePlugin.PngImageFile(io.BytesIO(file.bare))
    image.load()
    array = np.array(image)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.shape != (file.height, file.width, _CHANNELS[file.colour]) or array.dtype != np.uint8:
        raise MediaError(f"a PNG that Pillow reads as {image.mode} {image.size}")
    return array


def _deep(file: _File) -> NDArray[np.uint16]:
    import av

    channels = {"gray16be": 1, "ya16be": 2, "rgb48be": 3, "rgba64be": 4}
    with av.open(io.BytesIO(file.bare), format="png_pipe") as container:
        frame = next(container.decode(video=0))
    n = channels.get(frame.format.name, 0)
    if n != _CHANNELS[file.colour] or (frame.width, frame.height) != (file.width, file.height):
        raise MediaError(f"a 16-bit PNG that FFmpeg reads as {frame.format.name} {frame.width}x{frame.height}")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * frame.height].reshape(frame.height, plane.line_size)
    return rows[:, : 2 * n * frame.width].copy().view(">u2").reshape(frame.height, frame.width, n).astype(np.uint16)


def _coloured(file: _File, indices: NDArray[Any]) -> NDArray[np.uint8]:
    """The colours of indices, with transparency if the file has some. An index without a colour is black."""
    n = 3 if file.transparent is None else 4
    table = np.zeros((256, n), np.uint8)
    colours = np.frombuffer(file.palette, np.uint8).reshape(-1, 3)[:256]
    table[: len(colours), :3] = colours
    if int(indices.max()) >= len(colours):
        file.about.note("damage", f"some pixels have no colour: the palette has {len(colours)}")
    if file.transparent is not None:
        table[:, 3] = 255
        table[: len(file.transparent), 3] = np.frombuffer(file.transparent[:256], np.uint8)
    return table[indices[:, :, 0]]


# ---- writing


def write_png(picture: Picture, stream: BinaryIO) -> None:
    """Write a PNG of 8 or 16 bits and any channel count, with all its metadata."""
    height, width, channels = picture.shape
    depth = 8 * picture.pixels.itemsize
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    stream.write(PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)))
    stream.write(metadata_chunks(picture))
    zipper = zlib.compressobj(3)  # 6 takes twice the time of all the rest of decoding a picture, for 3 % of the size
    n_bytes = picture.pixels.itemsize
    above = np.zeros((1, width * channels * n_bytes), np.uint8)
    for top, bottom in bands(height, width * channels):
        parts = [picture.pixels[top:bottom]]
        if picture.alpha is not None:
            parts.append(picture.alpha[top:bottom, :, None])
        rows = np.concatenate(parts, axis=2).astype(f">u{n_bytes}").view(np.uint8).reshape(bottom - top, -1)
        filtered = png_filter(rows, above, n_bytes * channels)
        above = rows[-1:]
        if packed := zipper.compress(filtered.data):
            stream.write(chunk(b"IDAT", packed))
    stream.write(chunk(b"IDAT", zipper.flush()) + chunk(b"IEND", b""))


def write_palette(palette: Palette) -> bytes:
    """The PNG of indices and their colours, of the same depth."""
    height, width = palette.indices.shape
    if palette.depth not in _DEPTHS[3] or (palette.indices.size and int(palette.indices.max()) >> palette.depth):
        raise ValueError(f"indices that don't fit into {palette.depth} bits")
    if not 3 <= len(palette.colours) <= 768 or len(palette.colours) % 3 or len(palette.alpha) > 256:
        raise ValueError(f"a palette of {len(palette.colours)} bytes")
    bits = np.unpackbits(palette.indices[:, :, None], axis=2)[:, :, 8 - palette.depth :].reshape(height, -1)
    rows = np.concatenate((np.zeros((height, 1), np.uint8), np.packbits(bits, axis=1)), axis=1)
    out = PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, palette.depth, 3, 0, 0, 0))
    out += chunk(b"PLTE", palette.colours) + (chunk(b"tRNS", palette.alpha) if palette.alpha else b"")
    return out + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")


def metadata_chunks(picture: Picture) -> bytes:
    """The chunks between the header and the pixels."""
    parts = []
    if picture.code_points:
        parts.append(chunk(b"cICP", picture.code_points))
    if picture.icc:
        parts.append(chunk(b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(picture.icc)))
    if picture.dpi:
        across, down = (min(max(1, round(value / _INCH)), 2**31 - 1) for value in picture.dpi)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if picture.exif:
        parts.append(chunk(b"eXIf", picture.exif))
    if picture.xmp:
        parts.append(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + picture.xmp))
    parts += _text_chunks(picture.text)
    return b"".join(parts)


def _text_chunks(texts: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    for keyword, text in texts:
        name = keyword.encode("latin-1", "replace")[:79] or b"Comment"
        try:
            raw = text.encode("latin-1")
        except UnicodeEncodeError:
            packed = zlib.compress(text.encode("utf-8"))
            yield chunk(b"iTXt", name + b"\0\1\0\0\0" + packed)
        else:
            yield (
                chunk(b"zTXt", name + b"\0\0" + zlib.compress(raw))
                if len(raw) > 1024
                else chunk(b"tEXt", name + b"\0" + raw)
            )


def chunk(tag: bytes, payload: bytes) -> bytes:
    """A chunk: length, tag, content and checksum."""
    return struct.pack(">I", len(payload)) + tag + payload + struct.pack(">I", zlib.crc32(payload, zlib.crc32(tag)))
