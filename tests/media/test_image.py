"""Pictures in and out: every kind that is taken comes through exactly, and the others are refused with words."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from codec.errors import CodecError, MediaError
from codec.media import IMAGE_READS, IMAGE_WRITES, MEDIA
from codec.media import image as media
from codec.media.image import read_picture, to_pil, write_picture
from codec.media.values import Picture
from codec.media.webp import decode_webp, encode_webp

from ..damage import MIB, Memory, edits

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_ICC = SRGB[:16] + b"GRAY" + SRGB[20:]


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def test_palette_with_transparency():
    image = Image.fromarray(noise(9, 13) % 4, "L").convert("P")
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]], np.uint8)
    image.putpalette(colours.ravel().tolist())
    picture = read_picture(encoded(image, transparency=bytes([255, 128, 0, 7])))
    index = np.asarray(image)
    assert np.array_equal(picture.pixels, colours[index])
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, np.array([255, 128, 0, 7], np.uint8)[index])
    plain = read_picture(encoded(image))
    assert plain.alpha is None
    assert plain.shape == (9, 13, 3)


MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


@pytest.mark.parametrize(
    ("mode", "format"),
    [*((mode, format) for mode in MODES for format in ("PNG", "TIFF")), ("RGB", "WEBP"), ("RGBA", "WEBP")],
)
def test_8_bits(mode, format):
    channels = MODES[mode]
    array = noise(7, 11, channels)
    image = Image.fromarray(array[:, :, 0] if channels == 1 else array, mode)
    data = encoded(image, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    for source in (data, image, bytearray(data), memoryview(data)):
        picture = read_picture(source)
        assert picture.shape == (7, 11, channels)
        assert picture.pixels.dtype == np.uint8
        assert np.array_equal(picture.stacked(), array)
    back = to_pil(picture)
    assert back.mode == mode
    assert np.array_equal(np.asarray(back).reshape(array.shape), array)


def test_bilevel():
    array = noise(6, 17) > 127
    picture = read_picture(encoded(Image.fromarray(array)))
    assert np.array_equal(picture.pixels[:, :, 0], array * np.uint8(255))


@pytest.mark.parametrize(("mode", "colour", "mask"), [("RGB", (1, 2, 3), [255, 0]), ("L", 5, [255, 0])])
def test_a_transparent_colour(mode, colour, mask):
    image = Image.new(mode, (2, 1), 200 if mode == "L" else (200, 100, 0))
    image.putpixel((1, 0), colour)
    picture = read_picture(encoded(image, transparency=colour))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [mask]


# ---- 16 bits


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 64), (700, 501)])
def test_16_bit_png_round_trip(channels, size):
    """Ours writes, FFmpeg or Pillow reads: two programs agree on every bit."""
    array = noise(*size, channels, dtype=np.uint16)
    array[: size[0] // 2] //= 7  # other filters pay in smooth parts
    array[:, : size[1] // 2] = np.arange(size[0], dtype=np.uint16)[:, None, None] * 300
    picture = Picture.from_stacked(array, GREY_ICC if channels < 3 else SRGB)
    stream = io.BytesIO()
    write_picture(picture, stream)
    back = read_picture(stream.getvalue())
    assert back.pixels.dtype == np.uint16
    assert np.array_equal(back.stacked(), array)
    assert back.icc == picture.icc
    assert Image.open(stream).size == (size[1], size[0])


@pytest.mark.parametrize(("channels", "pix_fmt"), [(1, "gray16be"), (3, "rgb48be"), (4, "rgba64be")])
def test_16_bit_png_of_ffmpeg(channels, pix_fmt):
    """FFmpeg writes, ours reads."""
    import av

    array = noise(31, 46, channels, dtype=np.uint16)
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = 46, 31, pix_fmt
    context.time_base = Fraction(1)
    frame = av.VideoFrame(46, 31, pix_fmt)
    plane = frame.planes[0]
    rows = np.zeros((31, plane.line_size), np.uint8)
    rows[:, : 46 * channels * 2] = array.astype(">u2").view(np.uint8).reshape(31, -1)
    plane.update(rows.tobytes())
    data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    assert np.array_equal(read_picture(data).stacked(), array)


def test_16_bit_png_with_a_transparent_colour():
    stream = io.BytesIO()
    write_picture(Picture(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint16)), stream)
    data = stream.getvalue()
    key = struct.pack(">HHH", 4, 5, 6)
    chunk = struct.pack(">I", 6) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))
    picture = read_picture(data[:33] + chunk + data[33:])
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[65535, 0]]
    assert picture.pixels.tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_16_bits_in_pil():
    grey = Picture(noise(4, 5, 1, dtype=np.uint16))
    assert to_pil(grey).mode == "I;16"
    assert np.array_equal(read_picture(to_pil(grey)).pixels, grey.pixels)
    for mode in ("I;16B", "I;16"):
        image = Image.new(mode, (2, 1))
        image.putpixel((1, 0), 0x1234)
        assert read_picture(image).pixels.ravel().tolist() == [0, 0x1234]
    colour = Picture(np.array([[[0, 128, 129], [65535, 65407, 65406]]], np.uint16))
    assert np.asarray(to_pil(colour)).tolist() == [[[0, 0, 1], [255, 255, 254]]]  # rounded to the nearest


@pytest.mark.parametrize(
    ("channels", "format", "word"),
    [(3, "BMP", "16 bits"), (1, "JPEG", "16 bits"), (4, "WEBP", "16 bits")],
)
def test_16_bits_are_not_lost_silently(channels, format, word):
    picture = Picture.from_stacked(noise(3, 3, channels, dtype=np.uint16))
    with pytest.raises(MediaError, match=word):
        write_picture(picture, io.BytesIO(), format)


def deep_tiff(channels: int, order: str) -> bytes:
    """Uncompressed, 16 bits a channel; Pillow can't write it."""
    pixels = noise(2, 3, channels, dtype=np.uint16).astype(order + "u2").tobytes()
    entries = [(256, 4, 1, 3), (257, 4, 1, 2), (259, 3, 1, 1), (262, 3, 1, 2 if channels > 2 else 1)]
    entries += [(277, 3, 1, channels), (278, 4, 1, 2), (279, 4, 1, len(pixels))]
    n_entries = len(entries) + 2 + (channels in (2, 4))
    behind = 8 + 2 + 12 * n_entries + 4
    entries += [(258, 3, channels, behind if channels > 2 else 0), (273, 4, 1, behind + 8)]
    if channels in (2, 4):
        entries.append((338, 3, 1, 2))
    table = b""
    for tag, kind, count, value in sorted(entries):
        last = struct.pack(order + "HH", 16, 16) if tag == 258 and channels <= 2 else struct.pack(order + "I", value)
        if kind == 3 and count == 1 and tag != 258:
            last = struct.pack(order + "HH", value, 0)
        table += struct.pack(order + "HHI", tag, kind, count) + last
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(order + "IH", 8, n_entries) + table + bytes(4)
    return head + struct.pack(order + "4H", 16, 16, 16, 16) + pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_tiff_is_read(channels, order):
    data = deep_tiff(channels, order)
    assert np.array_equal(read_picture(data).stacked(), noise(2, 3, channels, dtype=np.uint16))


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_tiff_of_pillow_is_refused(channels):
    image = Image.open(io.BytesIO(deep_tiff(channels, "<")))
    assert image.mode in ("RGB", "RGBA"), "Pillow cuts it"
    with pytest.raises(MediaError, match="a TIFF of 16 bits a channel, which Pillow changes"):
        read_picture(image)


@pytest.mark.parametrize("top", [65535, 1023, 256])
@pytest.mark.parametrize("magic", ["P6", "P5", "P3", "P2"])
def test_16_bit_ppm_is_read(magic, top):
    n = 3 if magic in ("P6", "P3") else 1
    body = struct.pack(f">{n}H", *[top] * n) if magic in ("P5", "P6") else b" ".join([b"7"] * n)
    picture = read_picture(f"{magic}\n1 1\n{top}\n".encode() + body)
    value = top if magic in ("P5", "P6") else 7
    assert picture.pixels.dtype == np.uint16
    assert picture.pixels.ravel().tolist() == [round(value * 65535 / top)] * n
    assert [note.kind for note in picture.notes] == ([] if top == 65535 else ["depth"])


@pytest.mark.parametrize("magic", ["P6", "P5"])
@pytest.mark.parametrize("top", [255, 15])
def test_8_bit_ppm_is_read(magic, top):
    n = 3 if magic == "P6" else 1
    picture = read_picture(f"{magic}\n1 1\n{top}\n".encode() + bytes([top] * n))
    assert picture.pixels.ravel().tolist() == [255] * n


# ---- metadata


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation(orientation, format):
    image = Image.fromarray(noise(24, 40, 3))
    exif = image.getexif()
    exif[0x0112] = orientation
    exif[0x010E] = "a dog"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    data = encoded(image, format, exif=exif, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    picture = read_picture(data)
    stored = Image.open(io.BytesIO(data))
    upright = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(picture.pixels, upright)
    back = read_picture(encoded(to_pil(picture), exif=to_pil(picture).info["exif"]))
    assert np.array_equal(back.pixels, upright)
    kept = to_pil(back).getexif()
    assert 0x0112 not in kept
    assert kept[0x010E] == "a dog"
    if format != "TIFF":  # where Pillow writes no directory below
        assert kept.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_keeps_every_other_byte_in_place(order):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in ((0x10E, 7), (0x112, 6), (0x132, 9))]
    exif = mark + struct.pack(order + "I", 10) + b"??" + struct.pack(order + "H", 3) + b"".join(entries)
    exif += struct.pack(order + "I", 77) + b"maker note"
    out = media.without_orientation(exif)
    assert out is not None
    assert len(out) == len(exif)
    assert out[-10:] == b"maker note"
    assert out[:10] == exif[:10]
    assert out[10:12] == struct.pack(order + "H", 2)
    assert out[12:36] == entries[0] + entries[2]
    assert out[36:40] == struct.pack(order + "I", 77)
    assert media.without_orientation(out) == out


@given(st.binary(max_size=60), st.sampled_from([b"II*\0", b"MM\0*", b""]))
def test_exif_of_any_bytes(tail, mark):
    out = media.without_orientation(mark + tail)
    assert out is None or len(out) == len(mark + tail) or len(out) <= len(mark + tail) + 4


@pytest.mark.parametrize(
    ("icc", "channels", "kept"), [(SRGB, 3, True), (GREY_ICC, 1, True), (GREY_ICC, 3, False), (SRGB, 1, False)]
)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_icc_is_kept_where_it_fits(icc, channels, kept, format):
    array = noise(5, 6, channels)
    data = encoded(Image.fromarray(array[:, :, 0] if channels == 1 else array), format, icc_profile=icc)
    picture = read_picture(data)
    assert picture.icc == (icc if kept else None)
    stream = io.BytesIO()
    write_picture(picture, stream)
    assert read_picture(stream.getvalue()).icc == picture.icc


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg", ".bmp", ".ppm"])
def test_files(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x010E] = "a dog"
    picture = Picture(noise(8, 8, 3), None, SRGB, exif.tobytes().removeprefix(b"Exif\0\0"))
    path = tmp_path / ("x" + suffix)
    write_picture(picture, path)
    for source in (path, str(path)):
        back = read_picture(source)
        assert back.shape == picture.shape
        assert suffix == ".jpg" or np.array_equal(back.pixels, picture.pixels)
    assert back.icc == (None if suffix in (".bmp", ".ppm") else SRGB)
    assert back.exif == (picture.exif if suffix not in (".bmp", ".ppm") else None)


@pytest.mark.parametrize("suffix", MEDIA["image"].reads)
def test_suffixes_are_of_formats_that_are_read(suffix):
    if suffix in IMAGE_READS["HEIF"] or suffix == ".pam":
        return  # Pillow alone doesn't write them: tests/media/test_picture_table.py
    format = Image.registered_extensions()[suffix]
    assert format in IMAGE_READS
    image = Image.fromarray(noise(5, 4) > 99) if suffix == ".pbm" else Image.fromarray(noise(5, 4))
    stream = io.BytesIO()
    stream.name = "x" + suffix
    image.save(stream, format)
    assert read_picture(stream.getvalue()).shape[:2] == (5, 4)


def test_every_format_that_is_read_has_a_suffix():
    assert set(IMAGE_WRITES) <= set(MEDIA["image"].reads)
    assert all(IMAGE_READS.values())
    assert ".jp2" not in MEDIA["image"].reads


# ---- what is refused


@pytest.mark.parametrize("mode", ["CMYK", "F", "YCbCr", "LAB", "HSV", "I"])
def test_modes_that_are_refused(mode):
    with pytest.raises(MediaError, match=f"mode {mode}; expected a still picture.*convert"):
        read_picture(Image.new(mode, (3, 3)))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_are_refused(format):
    frames = [Image.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(3)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="3 frames"):
        read_picture(data)


def test_still_gif():
    assert read_picture(encoded(Image.fromarray(noise(4, 4, 3)).quantize(16), "GIF")).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("target", "format", "alpha"),
    [("x.xyz", None, False), ("x", None, False), ("x.png", "EPS", False), ("x.jpg", None, True), ("x.bmp", None, True)],
)
def test_targets_that_are_refused(tmp_path, target, format, alpha):
    picture = Picture.from_stacked(noise(4, 4, 4 if alpha else 3))
    with pytest.raises(MediaError):
        write_picture(picture, tmp_path / target, format)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("data", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", bytes(100)])
def test_not_a_picture(data, tmp_path):
    with pytest.raises(MediaError):
        read_picture(data)
    with pytest.raises(MediaError, match="none"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(MediaError):
        read_picture(tmp_path)


def png_header(width, height, depth=8, colour=2):
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    idat = b"IDAT" + zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + body + struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("size", [(1 << 15, 1 << 14), (1 << 20, 1), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_before_decoding(size, depth):
    memory = Memory()
    with pytest.raises(MediaError, match="pixels"):
        read_picture(png_header(size[0], size[1], depth))
    assert memory.grown() < 20 * MIB


def test_more_pixels_than_pillow_likes():
    """Pillow warns from 90 million pixels on and refuses 180 million; up to ours there is neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MediaError, match="truncated|damaged"):
            read_picture(png_header(16000, 12000, 1, 0))


@settings(max_examples=300)
@given(edits(1500), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "TGA", "AVIF", "DEEP"]))
def test_damaged_pictures(edit, format):
    if format == "DEEP":
        stream = io.BytesIO()
        write_picture(Picture(noise(12, 20, 3, dtype=np.uint16)), stream)
        data = stream.getvalue()
    else:
        data = encoded(Image.fromarray(noise(20, 25, 3)), format)
    try:
        read_picture(edit(data))
    except CodecError as error:
        assert str(error)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_pictures_are_checked(pixels):
    with pytest.raises(MediaError):
        Picture(pixels)
    with pytest.raises(MediaError):
        Picture(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8))
    with pytest.raises(MediaError):
        Picture(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16))


def test_the_callers_image_is_left_alone():
    image = Image.fromarray(noise(4, 6, 3))
    image.getexif()[0x0112] = 6
    image.info["icc_profile"] = SRGB
    before, info = image.tobytes(), dict(image.info)
    read_picture(image)
    assert (image.tobytes(), image.info, image.getexif()[0x0112], image.size) == (before, info, 6, (6, 4))


# ---- WebP as a coder


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (64, 64, 3), (1, 16383)])
def test_webp(shape):
    array = noise(*shape)
    back = decode_webp(encode_webp(array), *shape[:2])
    assert np.array_equal(back, array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2))


def test_webp_of_another_size_or_kind_is_refused():
    data = encode_webp(noise(8, 9, 3))
    lossy = encoded(Image.fromarray(noise(8, 9, 3)), "WEBP")
    clear = encoded(Image.fromarray(noise(8, 9, 4)), "WEBP", lossless=True)
    huge = data[:21] + (0x0FFFFFFF).to_bytes(4, "little") + data[25:]
    for bad in (lossy, clear, huge, data[:-1], data + b"\0", b"", data[:24]):
        with pytest.raises(MediaError):
            decode_webp(bad, 8, 9)
    with pytest.raises(MediaError):
        decode_webp(data, 9, 8)
