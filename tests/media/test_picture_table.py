"""Pictures of every kind that is taken, against independent readers: tifffile, imagecodecs, FFmpeg, libheif.

A row for each entry of the tables in media/tiff.py, media/png.py, media/jpeg.py, media/raster.py and media/heif.py; and
what isn't in them is refused by name.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from codec.errors import MediaError
from codec.media import heif
from codec.media.image import read_picture, write_picture
from codec.media.values import Picture

RNG = np.random.default_rng(0)


def noise(*shape: int, top: int = 255) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, top + 1, shape, np.uint16 if top > 255 else np.uint8)


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 5, y * 7, 255 - x * 3], -1).astype(np.uint8)


def encoded(array: np.ndarray, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format, **options)
    return stream.getvalue()


def ffmpeg(codec: str, data: bytes, pixels: str = "rgba") -> np.ndarray:
    import av

    context: Any = av.CodecContext.create(codec, "r")
    frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    return frames[0].to_ndarray(format=pixels)


def opacity(picture: Picture) -> np.ndarray:
    assert picture.alpha is not None
    return picture.alpha


def kinds(data: bytes | bytearray) -> list[str]:
    return [note.kind for note in read_picture(data).notes]


# ---- TIFF


def tiff(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, metadata=None, **options)
    return stream.getvalue()


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 5},
    "one strip": {},
    "tiles": {"tile": (16, 32)},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True, "byteorder": ">"},
    "deflate": {"compression": "zlib"},
    "deflate, predictor": {"compression": "zlib", "predictor": 2, "byteorder": ">"},
    "deflate, predictor, tiles": {"compression": "zlib", "predictor": 2, "tile": (32, 16)},
    "LZW": {"compression": "lzw", "rowsperstrip": 7},
    "LZW, predictor, big-endian": {"compression": "lzw", "predictor": 2, "byteorder": ">"},
    "LZW, tiles": {"compression": "lzw", "tile": (16, 16), "byteorder": ">"},
    "PackBits": {"compression": "packbits"},
    "ZSTD": {"compression": "zstd"},
    "LZMA": {"compression": "lzma"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("top", [255, 65535])
@pytest.mark.parametrize("model", ["minisblack", "miniswhite", "rgb", "rgba", "la", "planes"])
def test_tiff(layout: str, top: int, model: str) -> None:
    """Every model in every layout: the samples that tifffile wrote, and white as white."""
    shape = {"minisblack": (29, 45), "miniswhite": (29, 45), "rgb": (29, 45, 3), "planes": (3, 29, 45)}.get(model)
    array = noise(*(shape or (29, 45, 4 if model == "rgba" else 2)), top=top)
    options: dict[str, Any] = {"photometric": model}
    if model == "planes":
        options = {"photometric": "rgb", "planarconfig": "separate"}
    elif model == "rgba":
        options = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    elif model == "la":
        options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    data = tiff(array, **options, **LAYOUTS[layout])
    picture = read_picture(data)
    expected = np.moveaxis(array, 0, 2) if model == "planes" else array.reshape(29, 45, -1)
    expected = top - expected if model == "miniswhite" else expected
    assert picture.pixels.dtype == array.dtype
    np.testing.assert_array_equal(picture.stacked(), expected)
    assert picture.notes == ()


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
def test_tiff_of_other_depths(bits: int, white: bool) -> None:
    top = (1 << bits) - 1
    array = noise(7, 13, top=top).astype(np.uint8 if bits < 8 else np.uint16)
    rows = np.unpackbits(array.astype(">u2")[:, :, None].view(np.uint8), axis=2)[:, :, 16 - bits :].reshape(7, -1)
    body = np.packbits(rows, axis=1).tobytes()
    fields = [(256, 13), (257, 7), (258, bits), (259, 1), (262, 0 if white else 1), (273, 8), (277, 1), (278, 7)]
    fields.append((279, len(body)))
    table = b"".join(struct.pack("<HHII", tag, 4 if tag > 272 else 3, 1, value) for tag, value in fields)
    data = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(fields)) + table + bytes(4)
    picture = read_picture(data)
    full = 255 if bits < 8 else 65535
    expected = np.round((top - array.astype(float) if white else array.astype(float)) * full / top)
    np.testing.assert_array_equal(picture.pixels[:, :, 0], expected)
    assert [note.kind for note in picture.notes] == (["depth"] if bits > 8 else [])


def test_tiff_of_a_palette() -> None:
    indices = noise(9, 14) % 7
    colours = noise(3, 256, top=65535)
    data = tiff(indices, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read_picture(data).pixels, colours.T[indices])
    data = tiff(indices, photometric="palette", colormap=(colours // 257 * 257).astype(np.uint16))
    picture = read_picture(data)
    assert picture.pixels.dtype == np.uint8
    np.testing.assert_array_equal(picture.pixels, colours.T[indices] // 257)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_tiff_of_fax(compression: str) -> None:
    array = noise(30, 50) > 127
    data = encoded(array, "TIFF", compression=compression)
    np.testing.assert_array_equal(read_picture(data).pixels[:, :, 0], array * np.uint8(255))


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr"])
def test_tiff_of_jpeg(mode: str) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "TIFF", compression="jpeg", quality=95)
    stream.seek(0)
    expected = np.asarray(Image.open(stream).convert("L" if mode == "L" else "RGB"))
    picture = read_picture(stream.getvalue())
    assert np.abs(picture.pixels.reshape(expected.shape).astype(int) - expected).max() <= 1


def test_tiff_with_premultiplied_colours() -> None:
    alpha = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (4, 1))
    colours = np.full((*alpha.shape, 3), 200, np.uint8)
    given = (colours.astype(int) * alpha[:, :, None] // 255).astype(np.uint8)
    data = tiff(np.dstack((given, alpha)), photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(data)
    assert kinds(data) == ["alpha"]
    np.testing.assert_array_equal(opacity(picture), alpha)
    assert np.abs(picture.pixels[:, 20:].astype(int) - 200).max() <= 2
    data = tiff(np.dstack((given, alpha)), photometric="rgb", extrasamples=["unspecified"])
    assert read_picture(data).shape[2] == 3
    assert kinds(data) == ["alpha"]


REFUSED = {
    "a TIFF of 16-bit floats": lambda: tiff(np.zeros((4, 5), np.float16), photometric="minisblack"),
    "a TIFF of 32-bit floats": lambda: tiff(np.zeros((4, 5), np.float32), photometric="minisblack"),
    "a TIFF of signed 16-bit integers": lambda: tiff(np.zeros((4, 5), np.int16), photometric="minisblack"),
    "a TIFF of 32-bit whole numbers": lambda: tiff(np.zeros((4, 5), np.uint32), photometric="minisblack"),
    "a TIFF of CMYK": lambda: tiff(np.zeros((4, 5, 4), np.uint8), photometric="separated"),
    "a TIFF of CIELab": lambda: tiff(np.zeros((4, 5, 3), np.uint8), photometric="cielab"),
    "a TIFF of 5 samples a pixel": lambda: tiff(
        np.zeros((4, 5, 5), np.uint8), photometric="minisblack", planarconfig="contig"
    ),
    "a TIFF of 2 frames": lambda: tiff(np.zeros((2, 4, 5), np.uint8), photometric="minisblack"),
    "a JPEG of 12 bits a sample": lambda: imagecodecs.jpeg_encode(noise(8, 8, top=4095), bitspersample=12),
    r"a JPEG of four inks \(CMYK\)": lambda: encoded_as(Image.new("CMYK", (8, 8)), "JPEG"),
    "a JPEG of lossless": lambda: imagecodecs.ljpeg_encode(noise(8, 8)),
    "a PAM of 4 channels called CMYK": lambda: (
        b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE CMYK\nENDHDR\n" + bytes(4)
    ),
    "empty: 0 bytes": lambda: b"",
}


def encoded_as(image: Image.Image, format: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format)
    return stream.getvalue()


@pytest.mark.parametrize("words", REFUSED)
def test_refused_by_name(words: str) -> None:
    """The message says what the file is, and a command; no line of Python."""
    with pytest.raises(MediaError, match=words) as caught:
        read_picture(REFUSED[words]())
    assert "convert(" not in str(caught.value)
    assert "`" in str(caught.value) or "expected" in str(caught.value) or "empty" in str(caught.value)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("top", [255, 65535])
def test_tiff_written_here_is_read_by_tifffile(channels: int, top: int) -> None:
    array = noise(17, 23, channels, top=top)
    stream = io.BytesIO()
    write_picture(Picture.from_stacked(array), stream, "TIFF")
    stream.seek(0)
    np.testing.assert_array_equal(tifffile.imread(stream).reshape(array.shape), array)
    np.testing.assert_array_equal(read_picture(stream.getvalue()).stacked(), array)


# ---- PNG


def chunk(tag: bytes, data: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data) ^ wrong)


def png(array: np.ndarray, depth: int = 8, before: bytes = b"", after: bytes = b"", colour: int | None = None) -> bytes:
    """A PNG of samples as they are, with chunks before and behind the pixels."""
    height, width, channels = array.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour is None else colour
    bits = np.unpackbits(array.astype(">u2")[:, :, :, None].view(np.uint8), axis=3)[..., 16 - depth :]
    rows = np.packbits(bits.reshape(height, -1), axis=1)
    body = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", body) + after + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_png_with_a_transparent_grey(depth: int) -> None:
    top = (1 << depth) - 1
    array = noise(9, 11, 1, top=top)
    key = int(array[4, 4, 0])
    picture = read_picture(png(array, depth, chunk(b"tRNS", struct.pack(">H", key))))
    full = 255 if depth <= 8 else 65535
    np.testing.assert_array_equal(picture.pixels, array.astype(int) * full // top)
    np.testing.assert_array_equal(opacity(picture), np.where(array[:, :, 0] == key, 0, full))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_against_imagecodecs(channels: int, depth: int) -> None:
    array = noise(9, 11, channels, top=(1 << depth) - 1)
    data = png(array, depth)
    np.testing.assert_array_equal(imagecodecs.png_decode(data).reshape(array.shape), array)
    np.testing.assert_array_equal(read_picture(data).stacked(), array)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_png_of_a_palette(depth: int) -> None:
    n = min(1 << depth, 200)
    indices = noise(9, 11, 1) % n
    colours, alpha = noise(n, 3), noise(n, 1)[: n // 2 + 1, 0]
    more = chunk(b"PLTE", colours.tobytes()) + chunk(b"tRNS", alpha.tobytes())
    data = png(indices, depth, more, colour=3)
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, colours[indices[:, :, 0]])
    full = np.full(n, 255, np.uint8)
    full[: len(alpha)] = alpha
    np.testing.assert_array_equal(opacity(picture), full[indices[:, :, 0]])
    np.testing.assert_array_equal(ffmpeg("png", data)[:, :, :3], picture.pixels)


@pytest.mark.parametrize("depth", [8, 16])
def test_png_with_rows_missing(depth: int) -> None:
    """Decoders give a picture whose last rows are black, if the packed data end well."""
    data = png(smooth(), depth)
    packed = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    short = zlib.compress(zlib.decompress(packed)[:-130])
    with pytest.raises(MediaError, match="ends early"):
        read_picture(data[:33] + chunk(b"IDAT", short) + chunk(b"IEND", b""))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 33)])
@pytest.mark.parametrize("depth", [8, 16])
def test_png_of_adam7(size: tuple[int, int], depth: int) -> None:
    array = noise(*size, 3, top=(1 << depth) - 1)
    rows = b""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for left, top, across, down in steps:
        part = array[top::down, left::across].astype(">u2" if depth == 16 else np.uint8)
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], depth, 2, 0, 0, 1))
    for body, whole in ((rows, True), (rows[:-1], False)):
        data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
        if whole:
            np.testing.assert_array_equal(read_picture(data).pixels, array)
        else:
            with pytest.raises(MediaError, match="ends early"):
                read_picture(data)


# ---- JPEG


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("grey", [False, True])
def test_jpeg(options: dict[str, Any], grey: bool) -> None:
    array = smooth()[:, :, 0] if grey else smooth()
    data = encoded(array, "JPEG", **options)
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels.squeeze(), imagecodecs.jpeg8_decode(data))
    assert picture.notes == ()


@pytest.mark.parametrize("transform", ["RGB", "YCBCR"])
def test_jpeg_of_rgb_components(transform: str) -> None:
    data = imagecodecs.jpeg8_encode(smooth(), level=95, colorspace="RGB", outcolorspace=transform)
    assert np.abs(read_picture(data).pixels.astype(int) - smooth()).max() < 30


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}])
@pytest.mark.parametrize("damage", ["zeros", "end"])
def test_jpeg_that_is_damaged_inside(options: dict[str, Any], damage: str) -> None:
    """Pillow says nothing, and gives a picture that is shifted or grey from there on."""
    rng = np.random.default_rng(1)
    array = np.clip(np.repeat(np.repeat(smooth(), 4, 0), 4, 1) + rng.normal(0, 3, (96, 160, 3)), 0, 255).astype(
        np.uint8
    )
    data = bytearray(encoded(array, "JPEG", quality=90, **options))
    assert kinds(bytes(data)) == []
    middle = len(data) // 2
    data[middle : middle + 80] = bytes(80) if damage == "zeros" else b"\xff\xd9" + bytes(78)
    try:
        assert "damage" in kinds(bytes(data))
    except MediaError as error:
        assert "damaged" in str(error)


def test_jpeg_whose_means_leave_the_range() -> None:
    """Zeros are codes, too: here all blocks are there, and only their brightness is impossible."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:128, 0:192] / np.array([127, 191])[:, None, None]
    array = np.stack([40 + 180 * x, 60 + 150 * y, 200 - 120 * x * y], -1)
    array[(y < 0.3) & (x < 0.25)] = (220, 30, 30)
    array[(y - 0.6) ** 2 + (x - 0.6) ** 2 < 0.04] = (30, 60, 210)
    array = np.clip(array + rng.normal(0, 3, array.shape), 0, 255).astype(np.uint8)
    data = bytearray(encoded(array, "JPEG", quality=92))
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    assert kinds(data) == ["damage"]


def test_jpeg_with_restart_markers_out_of_order() -> None:
    data = encoded(smooth(64, 64), "JPEG", restart_marker_blocks=2)
    first, second = data.index(b"\xff\xd1"), data.index(b"\xff\xd2")
    swapped = data[:first] + b"\xff\xd2" + data[first + 2 : second] + b"\xff\xd1" + data[second + 2 :]
    assert kinds(swapped) == ["damage"]
    assert kinds(data) == []


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (65, 47), (16, 16)])
def test_whole_jpegs_have_no_damage(size: tuple[int, int]) -> None:
    """A false alarm would be worse than damage that isn't seen."""
    array = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    for quality in (1, 50, 100):
        for options in ({}, {"subsampling": 1}, {"progressive": True}, {"restart_marker_rows": 1}, {"optimize": True}):
            assert kinds(encoded(array, "JPEG", quality=quality, **options)) == []
            assert kinds(encoded(array[:, :, 0], "JPEG", quality=quality, **options)) == []


def test_a_second_picture_is_noted() -> None:
    stream = io.BytesIO()
    Image.fromarray(smooth()).save(stream, "MPO", save_all=True, append_images=[Image.fromarray(smooth()[::2])])
    assert kinds(stream.getvalue()) == ["picture"]
    plain = encoded(smooth(), "JPEG")
    assert kinds(plain + struct.pack(">I", 24) + b"ftypmp42" + bytes(500)) == ["picture"]
    assert kinds(plain + b"trailing") == ["metadata"]


# ---- PNM, BMP, TGA, GIF


@pytest.mark.parametrize("top", [1, 3, 100, 255, 1023, 4095, 65535])
def test_pnm(top: int) -> None:
    array = noise(5, 6, 3, top=top)
    full = 255 if top <= 255 else 65535
    expected = np.floor(array.astype(float) * full / top + 0.5)
    body = array.astype(np.uint8 if top < 256 else ">u2").tobytes()
    text = " ".join(map(str, array.ravel())).encode()
    for data in (
        b"P6 # a remark\n6 5\n%d\n" % top + body,
        b"P3\n6 5\n%d\n" % top + text,
        b"P7\nWIDTH 6\nHEIGHT 5\nDEPTH 3\nMAXVAL %d\nTUPLTYPE RGB\nENDHDR\n" % top + body,
    ):
        np.testing.assert_array_equal(read_picture(data).pixels, expected)
        assert kinds(data) == ([] if top in (1, 255, 65535) else ["depth"])


def test_pbm_is_black_where_it_is_one() -> None:
    bits = noise(5, 11) & 1
    raw = b"P4\n11 5\n" + np.packbits(bits, axis=1).tobytes()
    text = b"P1\n11 5\n" + b"\n".join(b"".join(b"%d" % v for v in row) for row in bits)
    for data in (raw, text):
        np.testing.assert_array_equal(read_picture(data).pixels[:, :, 0], (1 - bits) * 255)
    np.testing.assert_array_equal(ffmpeg("pbm", raw, "gray"), (1 - bits) * 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_pnm_written_here(channels: int) -> None:
    array = noise(5, 6, channels, top=65535)
    stream = io.BytesIO()
    write_picture(Picture(array), stream, "PPM")
    np.testing.assert_array_equal(read_picture(stream.getvalue()).pixels, array)
    codec, pixels = ("pgm", "gray16le") if channels == 1 else ("ppm", "rgb48le")
    np.testing.assert_array_equal(ffmpeg(codec, stream.getvalue(), pixels).reshape(array.shape), array)


def bmp(
    width: int, height: int, bits: int, body: bytes, masks: tuple[int, ...] = (), packing: int = 0, table: bytes = b""
) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 108 if masks else 40, width, height, 1, bits, packing, len(body), 0, 0, 0, 0)
    if masks:
        head += struct.pack("<4I", *masks) + b"BGRs" + bytes(48)
    start = 14 + len(head) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + table + body


BMPS = {
    "555": bmp(4, 3, 16, noise(3, 4, top=0x7FFF).astype("<u2").tobytes()),
    "565": bmp(4, 3, 16, noise(3, 4, top=0xFFFF).astype("<u2").tobytes(), (0xF800, 0x7E0, 0x1F, 0), 3),
    "24, upwards": bmp(4, 3, 24, noise(3, 12).tobytes()),
    "24, downwards": bmp(4, -3, 24, noise(3, 12).tobytes()),
    "32": bmp(4, 3, 32, np.pad(noise(3, 4, 3), ((0, 0), (0, 0), (0, 1))).tobytes()),
    "32 with alpha": bmp(4, 3, 32, noise(3, 4, 4).tobytes(), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 3),
    "1": bmp(8, 3, 1, noise(3, 4).tobytes(), table=bytes([9, 8, 7, 0, 200, 100, 50, 0]) + bytes(0)),
    "8, RLE": bmp(4, 2, 8, b"\4\1\0\0\2\2\2\3\0\1", packing=1, table=noise(256, 4).tobytes()),
}


@pytest.mark.parametrize("name", BMPS)
def test_bmp_against_ffmpeg(name: str) -> None:
    picture = read_picture(BMPS[name])
    expected = ffmpeg("bmp", BMPS[name])
    got = picture.stacked()
    if name in ("555", "565"):  # FFmpeg fills up the low bits, Pillow divides: a unit
        assert np.abs(got.astype(int) - expected[:, :, :3]).max() <= 4
    else:
        np.testing.assert_array_equal(got, expected[:, :, : got.shape[2]])
    assert picture.notes == ()


def test_bmp_with_a_fourth_byte() -> None:
    assert kinds(bmp(4, 3, 32, noise(3, 4, 4).tobytes())) == ["alpha"]
    with pytest.raises(MediaError, match="a BMP of 32 bits a pixel with unusual bit fields"):
        read_picture(bmp(4, 3, 32, noise(3, 4, 4).tobytes(), (0x3FF00000, 0xFFC00, 0x3FF, 0), 3))


def tga(kind: int, bits: int, body: bytes, flags: int, table: bytes = b"") -> bytes:
    spec = struct.pack("<HHB", 0, len(table) // 3, 24 if table else 0)
    return (
        struct.pack("<BBB", 0, bool(table), kind)
        + spec
        + struct.pack("<HHHHBB", 0, 0, 4, 3, bits, flags)
        + table
        + body
    )


@pytest.mark.parametrize("flags", [0, 0x10, 0x20, 0x30])
@pytest.mark.parametrize("kind", ["grey", "RGB", "RGBA", "palette", "RLE", "555"])
def test_tga_against_ffmpeg(kind: str, flags: int) -> None:
    data = {
        "grey": tga(3, 8, noise(3, 4).tobytes(), flags),
        "RGB": tga(2, 24, noise(3, 4, 3).tobytes(), flags),
        "RGBA": tga(2, 32, noise(3, 4, 4).tobytes(), flags | 8),
        "palette": tga(1, 8, (noise(3, 4) % 5).tobytes(), flags, noise(5, 3).tobytes()),
        "RLE": tga(10, 24, b"\x83abc" + b"\x83def" + b"\x03" + noise(4, 3).tobytes(), flags),
        "555": tga(2, 16, noise(3, 4, top=0x7FFF).astype("<u2").tobytes(), flags),
    }[kind]
    picture = read_picture(data)
    expected = ffmpeg("targa", data)
    got = picture.stacked()
    slack = 4 if kind == "555" else 0
    n = min(got.shape[2], 3) if kind != "RGBA" else 4
    assert np.abs(got[:, :, :n].astype(int) - expected[:, :, :n]).max() <= slack
    assert picture.alpha is None or kind == "RGBA"


def test_tga_whose_header_has_no_transparency() -> None:
    assert kinds(tga(2, 32, noise(3, 4, 4).tobytes(), 0)) == ["alpha"]
    flat = np.dstack((noise(3, 4, 3), np.zeros((3, 4), np.uint8)))
    assert read_picture(tga(2, 32, flat.tobytes(), 0)).alpha is None


@pytest.mark.parametrize("name", ["icon", "cursor"])
def test_an_icon_is_no_tga(name: str) -> None:
    data = (
        b"\0\0"
        + (b"\1" if name == "icon" else b"\2")
        + b"\0\1\0"
        + struct.pack("<BBBBHHII", 128, 128, 0, 0, 1, 32, 70000, 22)
    )
    with pytest.raises(MediaError, match="not a picture"):
        read_picture(data + bytes(70000))


def test_gif() -> None:
    image = Image.fromarray(noise(9, 12) % 5).convert("P")
    image.putpalette(noise(5, 3).tobytes())
    stream = io.BytesIO()
    image.save(stream, "GIF", transparency=2, comment=b"a remark")
    picture = read_picture(stream.getvalue())
    expected = ffmpeg("gif", stream.getvalue())
    np.testing.assert_array_equal(opacity(picture), expected[:, :, 3])
    seen = picture.alpha == 255
    np.testing.assert_array_equal(picture.pixels[seen], expected[:, :, :3][seen])
    assert picture.text == (("Comment", "a remark"),)


def test_gif_whose_frame_is_smaller() -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(9, 12) % 5).save(stream, "GIF")
    data = bytearray(stream.getvalue())
    place = data.index(b"\x2c\0\0\0\0")
    data[6:10], data[place + 1 : place + 5] = struct.pack("<HH", 20, 16), struct.pack("<HH", 4, 3)
    assert kinds(data) == ["alpha"]
    np.testing.assert_array_equal(read_picture(data).pixels, ffmpeg("gif", bytes(data))[:, :, :3])


def test_gif_with_xmp() -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(9, 12) % 5).save(stream, "GIF")
    packet = b"<x:xmpmeta> > </x:xmpmeta>"
    block = b"\x21\xff\x0bXMP DataXMP" + packet + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    data = stream.getvalue()
    place = data.index(b"\x2c\0\0\0\0")
    assert read_picture(data[:place] + block + data[place:]).xmp == packet
    with pytest.raises(MediaError):
        read_picture(data[:place] + block[:40] + data[place:])


# ---- WebP, AVIF, HEIC


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp(lossless: bool, channels: int) -> None:
    array = np.dstack((smooth(), noise(24, 40)))[:, :, :channels]
    data = encoded(array, "WEBP", lossless=lossless, exact=True)
    np.testing.assert_array_equal(read_picture(data).stacked(), imagecodecs.webp_decode(data))


@pytest.mark.parametrize(("bits", "expected"), [(8, []), (10, ["depth"]), (12, ["depth"])])
def test_avif(bits: int, expected: list[str]) -> None:
    array = smooth().astype(np.uint16) << (bits - 8)
    data = imagecodecs.avif_encode(array.astype(np.uint8) if bits == 8 else array, level=95, bitspersample=bits)
    assert kinds(data) == expected
    assert np.abs(read_picture(data).pixels.astype(int) - smooth()).max() < 12


@pytest.mark.parametrize("bits", [8, 10])
def test_heic(bits: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    array = smooth(64, 64).astype(np.uint16) * (257 if bits == 10 else 1)
    array = array if bits == 10 else array.astype(np.uint8)
    file = pillow_heif.from_bytes("RGB;16" if bits == 10 else "RGB", (64, 64), array.tobytes())
    stream = io.BytesIO()
    file.save(stream, quality=100, chroma=444)
    picture = read_picture(stream.getvalue())
    assert picture.pixels.dtype == array.dtype
    assert [note.kind for note in picture.notes] == (["depth"] if bits == 10 else [])
    assert np.abs(picture.pixels.astype(int) - array).max() < (257 if bits == 10 else 1) * 8


def box(tag: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + tag + body


def test_boxes_that_say_what_else_there_is() -> None:
    """A HEIC of 10 bits, PQ, with a gain map, a depth map and transparency beside the picture."""
    aux = [
        b"urn:com:apple:photo:2020:aux:hdrgainmap\0",
        b"urn:mpeg:hevc:2015:auxid:2\0",
        b"urn:mpeg:hevc:2015:auxid:1\0",
    ]
    properties = box(b"pixi", bytes(4) + b"\3\x0a\x0a\x0a") + box(
        b"colr", b"nclx" + struct.pack(">HHHB", 9, 16, 9, 128)
    )
    properties += b"".join(box(b"auxC", bytes(4) + name) for name in aux)
    owners = struct.pack(">I", 4) + b"\0\1\2\1\2" + b"".join(struct.pack(">HBB", 2 + i, 1, 3 + i) for i in range(3))
    container = box(b"iprp", box(b"ipco", properties) + box(b"ipma", bytes(4) + owners))
    data = box(b"ftyp", b"heic") + box(b"meta", bytes(4) + box(b"pitm", bytes(4) + b"\0\1") + container)
    facts = heif._Facts(data)
    assert (facts.bits, facts.code_points) == (10, bytes([9, 16, 0, 1]))
    assert facts.others == {"hdrgainmap": 1, "2": 1}
    for cut in range(0, len(data), 7):
        heif._Facts(data[:cut])


def test_tiff_with_a_wrong_checksum() -> None:
    data = tiff(noise(29, 45, 3), photometric="rgb", compression="zlib")
    page: Any = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    end = page.dataoffsets[0] + page.databytecounts[0]
    with pytest.raises(MediaError, match="can't be unpacked"):
        read_picture(data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:])


def test_heic_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(MediaError, match=r"codec-suite\[heif\]"):
        read_picture(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(50))
