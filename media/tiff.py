"""TIFF: its tags, the samples exactly as they are stored, and a writer.

Pillow (libtiff) only unpacks: it is handed a small TIFF of ours, in which the bytes of each row are grey samples of 8
bits. Depth, polarity, order of bytes, prediction, planes and transparency are settled here, by the tags.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from . import exif as exifs
from .exif import Entry
from .metadata import Metadata
from .raster import divided
from .values import Picture, check_size

__all__ = ["read_tiff", "write_tiff"]

_MODELS = {
    0: "WhiteIsZero grey",
    1: "grey",
    2: "RGB",
    3: "a palette",
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "a colour filter array (raw)",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
# What we take: colour model, bits of a sample. Whole numbers only; whatever isn't here is refused.
TAKES: Mapping[int, tuple[int, ...]] = {
    _WHITE_IS_ZERO: (1, 2, 4, 8, 10, 12, 14, 16),
    _GREY: (1, 2, 4, 8, 10, 12, 14, 16),
    _RGB: (8, 10, 12, 14, 16),
    _PALETTE: (1, 2, 4, 8),
    _YCBCR: (8,),  # of JPEG
}
_UNPACKS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits"}
_UNPACKS |= {32946: "deflate", 34925: "LZMA", 50000: "ZSTD"}
_OTHERS = {6: "JPEG of the old kind", 34712: "JPEG 2000", 50001: "WebP", 50002: "JPEG XL", 34887: "LERC"}
_FAX, _JPEG = (2, 3, 4), 7
_SCALE = "scale it to whole numbers, e.g. `gdal_translate -ot UInt16 -scale IN OUT.tif`"
_FORMATS = {2: "signed {}-bit integers", 3: "{}-bit floats", 5: "complex {}-bit integers", 6: "complex {}-bit floats"}


@dataclass(frozen=True)
class _File:
    """A TIFF: its bytes, their order, and the entries of its first directory."""

    data: bytes
    order: str
    entries: Mapping[int, Entry]

    def get(self, tag: int, default: tuple[float, ...] = ()) -> tuple[int, ...]:
        values = exifs.numbers(self.entries[tag], self.order) if tag in self.entries else default
        return tuple(int(value) for value in values)

    def number(self, tag: int, default: int) -> int:
        return (*self.get(tag), default)[0]


@dataclass(frozen=True)
class _Layout:
    """How the samples are stored. separate: a plane for each; tiled: in tiles and not in strips."""

    width: int
    height: int
    model: int
    bits: int
    n_samples: int
    packing: int
    predictor: int
    separate: bool
    tiled: bool
    extra: tuple[int, ...]

    @property
    def n_colours(self) -> int:
        return 3 if self.model in (_RGB, _YCBCR) else 1


def read_tiff(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of a TIFF or BigTIFF, (H, W, 1 to 4), uint8 or uint16, and its metadata. MediaError."""
    file, about = _parse(data)
    layout = _layout(file)
    samples = _planes(file, layout)
    n = layout.n_colours
    colours, rest = samples[:, :, :n], samples[:, :, n:]
    if layout.model == _PALETTE:
        colours = _coloured(file, colours, about)
    else:
        if layout.model == _WHITE_IS_ZERO:
            colours = np.uint16((1 << layout.bits) - 1) - colours
        colours, rest = _scaled(colours, layout.bits, about), _scaled(rest, layout.bits, about)
    if rest.shape[2]:
        colours = _with_alpha(colours, rest[:, :, :1], layout, about)
    return colours, about


# ---- the tags


def _parse(data: bytes) -> tuple[_File, Metadata]:
    try:
        order, big, start = exifs.start_of(data)
        entries, following = exifs.read(data, order, start, big)
        pages, previews = [entries], 0
        seen = {start}
        while following and following not in seen and len(seen) < 65536:
            seen.add(following)
            more, following = exifs.read(data, order, following, big)
            kind = next((exifs.numbers(entry, order) for entry in more if entry.tag == 254), (0,))
            if int((*kind, 0)[0]) & 5:  # a smaller copy, or a mask
                previews += 1
            else:
                pages.append(more)
    except (ValueError, struct.error, OverflowError):
        raise MediaError(
            "a TIFF whose directory lies outside (truncated): it is damaged, or a part is missing"
        ) from None
    if len(pages) > 1:
        raise MediaError(
            f"a TIFF of {len(pages)} frames (pages); expected a still picture: extract one, e.g. `tiffcp IN,0 OUT.tif`"
        )
    file = _File(data, order, {entry.tag: entry for entry in entries})
    if 50706 in file.entries:
        raise MediaError("a raw camera file (DNG): develop it, e.g. `darktable-cli IN OUT.tif`")
    about = Metadata()
    previews += len(file.get(330))
    if previews:
        words = "a smaller copy or mask is" if previews == 1 else f"{previews} smaller copies or masks are"
        about.note("picture", f"{words} left out")
    _take_tags(file, about)
    return file, about


_STORAGE = {
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    263,
    264,
    265,
    266,
    273,
    274,
    277,
    278,
    279,
    280,
    281,
    282,
    283,
    284,
    288,
}
_STORAGE |= {289, 290, 291, 292, 293, 296, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 338, 339}
_STORAGE |= {340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 559, 34665, 34853}
_NAMES = {33723: "IPTC", 34377: "Photoshop's resources", 37724: "Photoshop's layers", 42112: "GDAL's metadata"}


def _take_tags(file: _File, about: Metadata) -> None:
    """Take the metadata, and count the tags that are neither kept nor needed to read the samples."""
    turn = file.number(274, 1)
    about.orientation = turn if 1 <= turn <= 8 else 1
    about.exif = exifs.subset(file.data, file.order, list(file.entries.values()))
    if 34675 in file.entries:
        about.icc = file.entries[34675].value
    if 700 in file.entries:
        about.take_xmp(file.entries[700].value)
    across, down = (exifs.numbers(file.entries[tag], file.order) if tag in file.entries else () for tag in (282, 283))
    unit = file.number(296, 2)
    if across and down and unit in (2, 3) and across[0] > 0 and down[0] > 0:
        scale = 1.0 if unit == 2 else 2.54
        about.dpi = (across[0] * scale, down[0] * scale)
    for tag, entry in file.entries.items():
        if tag in _NAMES:
            about.leave_out(_NAMES[tag], len(entry.value))
        elif tag not in _STORAGE and tag not in exifs.DESCRIPTIVE and tag not in (700, 34675):
            about.leave_out("other tags", len(entry.value))


def _layout(file: _File) -> _Layout:
    """The layout, if it is in the table of what we take; else MediaError that says what the file is."""
    width, height = file.number(256, 0), file.number(257, 0)
    check_size(width, height)
    n_samples, model = file.number(277, 1), file.number(262, -1)
    depths = file.get(258, (1,)) or (1,)
    formats = file.get(339, (1,)) or (1,)
    bits, form, packing = depths[0], formats[0], file.number(259, 1)
    name = _MODELS.get(model, f"an unknown colour model ({model})")
    if model == 5:
        raise MediaError(
            "a TIFF of CMYK; expected grey or RGB: convert it by its colour profile, e.g. "
            "`vips icc_transform IN OUT.png srgb` (libvips)"
        )
    if len(set(depths)) > 1 or len(set(formats)) > 1:
        raise MediaError(
            f"a TIFF whose samples are of {', '.join(map(str, depths))} bits; expected equal ones: {_SCALE}"
        )
    if form not in (1, 4):
        what = _FORMATS.get(form, "an unknown kind of {}-bit samples").format(bits)
        raise MediaError(f"a TIFF of {what}; expected whole numbers from 0 on, of up to 16 bits: {_SCALE}")
    if model not in TAKES:
        raise MediaError(f"a TIFF of {name}; expected grey, RGB or a palette: convert it, e.g. `vips copy IN OUT.png`")
    if bits not in TAKES[model]:
        raise MediaError(f"a TIFF of {bits}-bit whole numbers ({name}); expected up to 16 bits: {_SCALE}")
    if model == _YCBCR and packing != _JPEG:
        raise MediaError(f"a TIFF of YCbCr packed as {_packing(packing)}: convert it, e.g. `vips copy IN OUT.png`")
    if packing not in _UNPACKS or (packing in _FAX and (bits, n_samples) != (1, 1)) or (packing == _JPEG and bits != 8):
        raise MediaError(f"a TIFF packed as {_packing(packing)}: repack it, e.g. `tiffcp -c zip IN OUT.tif`")
    predictor = file.number(317, 1) if packing in (5, 8, 32946, 34925, 50000) else 1
    if predictor not in (1, 2) or (predictor == 2 and bits not in (8, 16)):
        raise MediaError(
            f"a TIFF with predictor {predictor} on {bits}-bit samples: repack it, e.g. `tiffcp -c zip:1 IN OUT.tif`"
        )
    n_colours = 3 if model in (_RGB, _YCBCR) else 1
    if not n_colours <= n_samples <= n_colours + 1 or (model == _PALETTE and n_samples > 1):
        raise MediaError(
            f"a TIFF of {n_samples} samples a pixel ({name}); expected up to {n_colours + 1}: take some out, e.g. "
            "`gdal_translate -b 1 -b 2 -b 3 IN OUT.tif`"
        )
    separate = file.number(284, 1) == 2 and n_samples > 1
    return _Layout(
        width, height, model, bits, n_samples, packing, predictor, separate, 324 in file.entries, file.get(338)
    )


def _packing(number: int) -> str:
    return _UNPACKS.get(number, _OTHERS.get(number, f"an unknown kind ({number})"))


# ---- the samples


def _planes(file: _File, layout: _Layout) -> NDArray[Any]:
    """The stored samples, (H, W, n): uint8 up to 8 bits, else uint16. Indices and all other values as they are."""
    places = file.get(324 if layout.tiled else 273)
    sizes = file.get(325 if layout.tiled else 279)
    if not sizes and len(places) == 1:
        sizes = (len(file.data) - places[0],)
    if not places or len(places) != len(sizes):
        raise MediaError("a TIFF that doesn't say where its samples are: it is damaged")
    if layout.packing == _JPEG:
        return _unjpeg(file, layout, places, sizes)
    n_planes = layout.n_samples if layout.separate else 1
    share = len(places) // n_planes
    planes = []
    for number in range(n_planes):
        part = slice(number * share, (number + 1) * share)
        planes.append(_plane(file, layout, places[part], sizes[part], layout.n_samples // n_planes))
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


def _plane(file: _File, layout: _Layout, places: Sequence[int], sizes: Sequence[int], n_samples: int) -> NDArray[Any]:
    """The samples, (H, W, n_samples), of the tiles or strips of one plane."""
    bits, height = layout.bits, layout.height
    if layout.tiled:
        side, down = file.number(322, 0), file.number(323, 0)
        if not (0 < side <= 1 << 16 and 0 < down <= 1 << 16) or side % 16 or down % 16:
            raise MediaError(f"a TIFF with tiles of {side}x{down}: it is damaged")
        n_across, n_down = -(-layout.width // side), -(-height // down)
    else:
        side, down = layout.width, min(height, file.number(278, height) or height)
        n_across, n_down = 1, -(-height // down)
    if len(places) != n_across * n_down:
        raise MediaError(f"a TIFF of {len(places)} parts where {n_across * n_down} are expected: it is damaged")
    row_bytes = -(-side * n_samples * bits // 8)
    check_size(n_across * side, n_down * down)
    out = np.empty(
        (n_down * down if layout.tiled else height, n_across * side, n_samples), np.uint8 if bits <= 8 else np.uint16
    )
    for number, (place, size) in enumerate(zip(places, sizes, strict=True)):
        top, left = number // n_across * down, number % n_across * side
        rows = down if layout.tiled else min(down, height - top)
        packed = file.data[place : place + size]
        if len(packed) < size:
            raise MediaError("a TIFF whose samples end early (truncated): it is damaged, or a part is missing")
        raw = _unpacked(file, layout.packing, packed, row_bytes, rows, side)
        out[top : top + rows, left : left + side] = _values(raw, layout, file.order, n_samples, side)
    return np.ascontiguousarray(out[:height, : layout.width])


def _unpacked(file: _File, packing: int, packed: bytes, row_bytes: int, rows: int, side: int) -> NDArray[np.uint8]:
    """The bytes of rows, (rows, row_bytes), of a tile or strip."""
    wanted = rows * row_bytes
    reverse = file.number(266, 1) == 2
    if packing == 1:
        if len(packed) < wanted:
            raise MediaError("a TIFF whose samples end early (truncated): it is damaged, or a part is missing")
        return np.frombuffer(_reversed(packed) if reverse else packed, np.uint8)[:wanted].reshape(rows, row_bytes)
    if packing in (8, 32946):
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(_reversed(packed) if reverse else packed, wanted)
            stream.decompress(stream.unconsumed_tail, 1)  # as far as the checksum
        except zlib.error as error:
            raise MediaError(f"a TIFF whose samples can't be unpacked ({error}): it is damaged") from None
        if len(data) < wanted:
            raise MediaError("a TIFF whose samples end early (truncated): it is damaged, or a part is missing")
        return np.frombuffer(data, np.uint8).reshape(rows, row_bytes)
    fax = packing in _FAX
    tags = [
        (256, 4, side if fax else row_bytes), (257, 4, rows), (258, 3, 1 if fax else 8), (259, 3, packing), (262, 3, 1),
        (266, 3, 2 if reverse else 1), (277, 3, 1), (278, 4, rows), (279, 4, len(packed)),
    ]  # fmt: skip
    tags += [(tag, 4, file.number(tag, 0)) for tag in (292, 293) if fax and tag in file.entries]
    array = np.array(_small(tags, packed))
    if fax:
        array = np.packbits(array, axis=1)
    if array.shape != (rows, row_bytes):
        raise MediaError(f"a TIFF part of {array.shape}; expected {(rows, row_bytes)}: it is damaged")
    return array


def _reversed(packed: bytes) -> bytes:
    """Bytes with their bits in the other order."""
    return np.packbits(np.unpackbits(np.frombuffer(packed, np.uint8)), bitorder="little").tobytes()


def _small(tags: Sequence[tuple[int, int, int]], packed: bytes, more: Sequence[Entry] = ()) -> Any:
    """The PIL image of a little-endian TIFF made of these tags (tag, type, number) and one strip or tile."""
    from PIL import TiffImagePlugin

    entries = [Entry(tag, kind, 1, struct.pack("<I" if kind == 4 else "<H", value)) for tag, kind, value in tags]
    entries += [*more, Entry(273, 4, 1, struct.pack("<I", 8))]
    start = 8 + len(packed) + (len(packed) & 1)
    data = b"II*\0" + struct.pack("<I", start) + packed + bytes(len(packed) & 1) + exifs.pack("<", entries, start)
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    image.load()
    return image


def _unjpeg(file: _File, layout: _Layout, places: Sequence[int], sizes: Sequence[int]) -> NDArray[np.uint8]:
    """The samples of strips or tiles of JPEG, one after the other; YCbCr comes as RGB."""
    if layout.separate or layout.n_samples > 3:
        raise MediaError(
            "a TIFF packed as JPEG in planes or with transparency: repack it, e.g. `tiffcp -c zip IN OUT.tif`"
        )
    tables = [Entry(347, 7, len(e.value), e.value) for e in (file.entries.get(347),) if e is not None]
    side, down = (
        (file.number(322, 0), file.number(323, 0)) if layout.tiled else (layout.width, file.number(278, layout.height))
    )
    down = down if layout.tiled else min(down, layout.height)
    check_size(side, down)
    n_across, n_down = -(-layout.width // side), -(-layout.height // down)
    if len(places) != n_across * n_down:
        raise MediaError(f"a TIFF of {len(places)} parts where {n_across * n_down} are expected: it is damaged")
    check_size(n_across * side, n_down * down)
    n = layout.n_samples
    out = np.empty((n_down * down, n_across * side, n), np.uint8)
    depths = Entry(258, 3, n, struct.pack(f"<{n}H", *[8] * n))
    subsampling = file.get(530, (2, 2))
    for number, (place, size) in enumerate(zip(places, sizes, strict=True)):
        top, left = number // n_across * down, number % n_across * side
        rows = down if layout.tiled else min(down, layout.height - top)
        packed = file.data[place : place + size]
        more = [*tables, depths]
        if layout.model == _YCBCR:
            more.append(Entry(530, 3, 2, struct.pack("<2H", *subsampling[:2])))
        model = 1 if layout.model == _WHITE_IS_ZERO else layout.model
        tags = [
            (256, 4, side),
            (257, 4, rows),
            (259, 3, _JPEG),
            (262, 3, model),
            (277, 3, n),
            (278, 4, rows),
            (279, 4, size),
        ]
        array = np.array(_small(tags, packed, more))
        out[top : top + rows, left : left + side] = array.reshape(rows, side, n)
    return np.ascontiguousarray(out[: layout.height, : layout.width])


def _values(raw: NDArray[np.uint8], layout: _Layout, order: str, n_samples: int, side: int) -> NDArray[Any]:
    """The samples in the bytes of rows, (rows, side, n_samples)."""
    rows, bits = len(raw), layout.bits
    if bits in (8, 16):
        kind = np.dtype(np.uint8) if bits == 8 else np.dtype(order + "u2")
        values = np.ascontiguousarray(raw).view(kind).reshape(rows, side, n_samples).astype(kind.newbyteorder("="))
        if layout.predictor == 2:
            values = np.cumsum(values, axis=1, dtype=values.dtype)
        return values
    every = np.unpackbits(raw, axis=1)[:, : side * n_samples * bits].reshape(rows, side, n_samples, bits)
    out = np.zeros(every.shape[:3], np.uint16 if bits > 8 else np.uint8)
    for place in range(bits):
        out = (out << 1) | every[:, :, :, place]
    return out


def _scaled(values: NDArray[Any], bits: int, about: Metadata) -> NDArray[Any]:
    """Samples of any depth as 8 or 16 bits, white as white."""
    if bits in (8, 16):
        return values.astype(np.uint8 if bits == 8 else np.uint16)
    full, top = (255, np.uint8) if bits < 8 else (65535, np.uint16)
    if bits > 8 and values.size:
        about.note("depth", f"{bits} bits a sample became 16, scaled: white is white")
    return ((values.astype(np.uint32) * full + ((1 << bits) - 1) // 2) // ((1 << bits) - 1)).astype(top)


def _coloured(file: _File, indices: NDArray[Any], about: Metadata) -> NDArray[Any]:
    """The colours of indices: of 8 bits if the palette's 16 bits say no more."""
    table = np.array(file.get(320), np.uint16)
    n = 1 << file.number(258, 1)
    if len(table) != 3 * n:
        raise MediaError(f"a TIFF whose palette has {len(table)} numbers; expected {3 * n}: it is damaged")
    colours = table.reshape(3, n).T
    if (colours % 257 == 0).all():
        colours = (colours // 257).astype(np.uint8)
    elif (colours & 255 == 0).all() or int(colours.max()) < 256:  # what many writers put there
        colours = (colours >> 8 if int(colours.max()) > 255 else colours).astype(np.uint8)
    return colours[indices[:, :, 0]]


def _with_alpha(colours: NDArray[Any], alpha: NDArray[Any], layout: _Layout, about: Metadata) -> NDArray[Any]:
    """The colours with the extra sample, by what the file says that it is."""
    kind = layout.extra[0] if layout.extra else None
    if kind == 0:
        if not (alpha == alpha.flat[0]).all():
            about.note("alpha", "an extra sample whose meaning isn't said is left out")
        return colours
    if kind == 1:
        colours = divided(colours, alpha, about)
    return np.concatenate((colours, alpha), axis=2)


# ---- writing


def write_tiff(picture: Picture, stream: BinaryIO) -> None:
    """Write a TIFF of 8 or 16 bits, deflated behind a predictor, with ICC, XMP, resolution and the tags of EXIF."""
    height, width, n = picture.shape
    bits = 8 * picture.pixels.itemsize
    order, entries, below = _exif_tags(picture.exif)
    code = order + f"u{bits // 8}"
    rows = max(1, min(height, (1 << 18) // (width * n)))
    strips = []
    for top in range(0, height, rows):
        parts = [picture.pixels[top : top + rows]]
        if picture.alpha is not None:
            parts.append(picture.alpha[top : top + rows, :, None])
        part = np.concatenate(parts, axis=2)
        part[:, 1:] -= part[:, :-1].copy()
        strips.append(zlib.compress(part.astype(code).tobytes(), 6))
    places, at = [], 8
    for strip in strips:
        places.append(at)
        at += len(strip) + (len(strip) & 1)
    if at > 0xF0000000:
        raise MediaError("a picture that is too large for a TIFF: write a PNG")

    def tag(number: int, *values: int) -> Entry:
        return Entry(number, 4, len(values), struct.pack(f"{order}{len(values)}I", *values))

    def short(number: int, *values: int) -> Entry:
        return Entry(number, 3, len(values), struct.pack(f"{order}{len(values)}H", *values))

    entries += [tag(256, width), tag(257, height), short(258, *[bits] * n), short(259, 8), short(277, n)]
    entries += [short(262, 2 if n > 2 else 1), tag(273, *places), tag(278, rows), short(317, 2)]
    entries += [tag(279, *map(len, strips)), short(284, 1)]
    if picture.alpha is not None:
        entries.append(short(338, 2))
    if picture.dpi:
        ratios = [(round(value * 10000), 10000) for value in picture.dpi]
        entries += [Entry(282 + i, 5, 1, struct.pack(order + "II", *ratio)) for i, ratio in enumerate(ratios)]
        entries.append(short(296, 2))
    if picture.icc:
        entries.append(Entry(34675, 7, len(picture.icc), picture.icc))
    if picture.xmp:
        entries.append(Entry(700, 1, len(picture.xmp), picture.xmp))
    stream.write({"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", at))
    for strip in strips:
        stream.write(strip + bytes(len(strip) & 1))
    stream.write(exifs.pack(order, entries, at, below))


def _exif_tags(exif: bytes | None) -> tuple[str, list[Entry], dict[int, Sequence[Entry]]]:
    """The descriptive entries of an EXIF structure and the directories below, for a TIFF of the same byte order."""
    try:
        order, big, start = exifs.start_of(exif or b"")
        entries, _ = exifs.read(exif or b"", order, start, big)
    except (ValueError, struct.error):
        return "<", [], {}
    below: dict[int, Sequence[Entry]] = {}
    for tag in (exifs.EXIF_IFD, exifs.GPS_IFD):
        pointer = next((exifs.numbers(entry, order) for entry in entries if entry.tag == tag), ())
        try:
            below |= (
                {tag: [e for e in exifs.read(exif or b"", order, int(pointer[0]))[0] if e.tag != exifs.INTEROP_IFD]}
                if pointer
                else {}
            )
        except (ValueError, struct.error):
            continue
    return order, [entry for entry in entries if entry.tag in exifs.DESCRIPTIVE], below
