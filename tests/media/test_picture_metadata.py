"""Metadata of pictures: kept through every format that can hold them, or a note; never a reason to refuse a picture."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from codec.media import exif as exifs
from codec.media import icc as iccs
from codec.media import metadata
from codec.media.image import read_picture, write_picture
from codec.media.values import Picture

from .test_picture_table import chunk, encoded, kinds, png, smooth, tiff

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmp:Rating="5" tiff:Orientation="6"/></x:xmpmeta>'


def exif(order: str = "<", *, turned: bool = False, adobe: bool = False) -> bytes:
    """An EXIF structure with a title, an EXIF directory and, maybe, an orientation."""
    entries = [exifs.Entry(270, 2, 12, b"Negative 77\0")]
    if turned:
        entries.append(exifs.Entry(0x0112, 3, 1, struct.pack(order + "H", 6)))
    below = [exifs.Entry(0x9003, 2, 20, b"2020:01:02 03:04:05\0")]
    if adobe:
        below.append(exifs.Entry(0xA001, 3, 1, struct.pack(order + "H", 2)))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + exifs.pack(order, entries, 8, {exifs.EXIF_IFD: below})


def written(picture: Picture, format: str) -> tuple[Picture, list[str]]:
    stream = io.BytesIO()
    notes = write_picture(picture, stream, format)
    return read_picture(stream.getvalue()), [str(note) for note in notes]


@pytest.fixture(autouse=True)
def no_warnings():
    """Pillow warns of what it meets in EXIF; nothing of that reaches a user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---- kept, or a note

KEPT = {
    "PNG": {"icc", "exif", "xmp", "dpi", "code_points", "text"},
    "TIFF": {"icc", "exif", "xmp", "dpi"},
    "WEBP": {"icc", "exif", "xmp"},
    "JPEG": {"icc", "exif", "xmp", "dpi"},
    "BMP": {"dpi"},
    "PPM": set(),
}
NAMES = {"icc": "ICC", "exif": "EXIF", "xmp": "XMP", "dpi": "resolution", "code_points": "code points", "text": "texts"}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("format", KEPT)
def test_kept_or_noted(format: str, order: str) -> None:
    """Whatever a format can't hold is in a note, and everything else comes back."""
    icc = iccs.of_code_points(12, 13, grey=False)
    assert isinstance(icc, bytes)
    text = (("Copyright", "Example Archive"), ("prompt", "ein Bär, 3 €"))
    picture = Picture(smooth(), None, icc, exif(order), (), XMP, (300.0, 150.0), bytes([9, 16, 0, 1]), text)
    back, notes = written(picture, format)
    for name in NAMES:
        value, told = getattr(back, name), any(NAMES[name] in note for note in notes)
        assert told != (name in KEPT[format]), name
        if name not in KEPT[format]:
            assert not value
        elif name == "dpi":
            assert value == pytest.approx(picture.dpi, rel=1e-3)
        elif name == "exif" and format == "TIFF":
            assert exifs.orientation(value) == 1
            assert b"Negative 77" in value
            assert b"2020:01:02 03:04:05" in value
        else:
            assert value == getattr(picture, name)


def test_a_comment_of_a_jpeg() -> None:
    data = encoded(smooth(), "JPEG", dpi=(300, 300), comment=b"box 4")
    picture = read_picture(data)
    assert picture.text == (("Comment", "box 4"),)
    assert picture.dpi == (300, 300)
    back, notes = written(picture, "JPEG")
    assert back.text == picture.text
    assert notes == []


def test_tags_of_a_tiff_are_exif() -> None:
    data = encoded(smooth(), "TIFF", dpi=(600, 600), tiffinfo={270: "Negative 77", 315: "A. Author", 306: "2020:01:02"})
    picture = read_picture(data)
    assert picture.dpi == (600, 600)
    back, _ = written(picture, "JPEG")
    assert back.exif is not None
    loaded = Image.Exif()
    loaded.load(back.exif)
    assert (loaded[270], loaded[315], loaded[306]) == ("Negative 77", "A. Author", "2020:01:02")
    data = tiff(smooth(), extratags=[(65000, 1, 5, b"12345", True)])
    assert [str(note) for note in read_picture(data).notes] == ["metadata: other tags of 5 bytes are left out"]


def test_exif_as_a_text_of_imagemagick() -> None:
    raw = exifs.PREFIX + exif(turned=True)
    text = b"\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"
    data = png(smooth(), before=chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    picture = read_picture(data)
    assert picture.shape == (40, 24, 3)
    assert picture.exif is not None
    assert b"Negative 77" in picture.exif
    assert exifs.orientation(picture.exif) == 1


def test_xmp_says_no_turn_that_is_done() -> None:
    """The pixels are turned by EXIF; a reader that heeds XMP must not turn them again."""
    data = png(
        smooth(), before=chunk(b"eXIf", exif(turned=True)) + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    )
    picture = read_picture(data)
    assert picture.shape == (40, 24, 3)
    assert picture.xmp == XMP.replace(b'tiff:Orientation="6"', b'tiff:Orientation="1"')
    assert read_picture(png(smooth(), before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP))).xmp == XMP


# ---- what can't be read refuses no picture

BROKEN: dict[str, tuple[bytes, str]] = {
    "EXIF": (chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03"), "metadata"),
    "EXIF, as hex": (chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      20\nzz zz\n"), "metadata"),
    "a checksum": (chunk(b"tEXt", b"Comment\0hello", wrong=1), "metadata"),
    "a packed text": (chunk(b"zTXt", b"Comment\0\0no zlib"), "metadata"),
    "an ICC profile": (chunk(b"iCCP", b"x\0\0no zlib"), "colour"),
    "a short ICC profile": (chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100))), "colour"),
    "a CMYK profile": (
        chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(16) + b"CMYK" + bytes(16) + b"acsp" + bytes(200))),
        "colour",
    ),
    "gAMA": (chunk(b"gAMA", b"\0"), "metadata"),
    "a private chunk": (chunk(b"prVt", bytes(9)), "metadata"),
    "a time": (chunk(b"tIME", bytes(7)), "metadata"),
}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_metadata(name: str, depth: int) -> None:
    before, kind = BROKEN[name]
    data = png(smooth(), depth, before)
    assert kinds(data) == [kind]
    np.testing.assert_array_equal(read_picture(data).pixels, smooth())


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_broken_exif(format: str) -> None:
    data = encoded(smooth(), format, exif=exifs.PREFIX + b"garbage garbage")
    assert kinds(data) == ["metadata"]
    assert read_picture(data).exif is None


def test_long_texts_and_profiles_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow refuses texts and profiles above 1 MiB; the limit here is that of our own files."""
    profile = bytes(16) + b"RGB " + bytes(16) + b"acsp" + bytes(1 << 21)
    before = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"node" * 500_000))
    before += chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    picture = read_picture(png(smooth(), before=before))
    assert len(picture.text[0][1]) == 2_000_000
    assert picture.icc == profile
    assert picture.notes == ()
    monkeypatch.setattr(metadata, "MAX_METADATA", 3 << 20)
    picture = read_picture(png(smooth(), before=before))
    assert (len(picture.text), picture.icc) == (1, None)
    assert [note.kind for note in picture.notes] == ["colour"]


# ---- colours that aren't said by ICC


def seen(picture: Picture, colour: tuple[int, int, int]) -> tuple[int, ...]:
    """A colour of a picture, as sRGB, by a colour management that knows nothing of us."""
    assert picture.icc is not None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
    image = Image.new("RGB", (1, 1), colour)
    out = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
    assert out is not None
    value = out.getpixel((0, 0))
    assert isinstance(value, tuple)
    return tuple(int(v) for v in value)


SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE_CHRM = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


def test_gamma_and_primaries_of_a_png() -> None:
    gamma = read_picture(png(smooth(), before=chunk(b"gAMA", struct.pack(">I", 100000))))
    assert seen(gamma, (55, 55, 55)) == pytest.approx((128, 128, 128), abs=2)
    assert gamma.notes == ()
    before = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"cHRM", struct.pack(">8I", *ADOBE_CHRM))
    assert seen(read_picture(png(smooth(), before=before)), (200, 100, 50)) == pytest.approx((227, 100, 42), abs=2)
    usual = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"cHRM", struct.pack(">8I", *SRGB_CHRM))
    assert read_picture(png(smooth(), before=usual)).icc is None
    contradiction = chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 100000))
    assert read_picture(png(smooth(), before=contradiction)).icc is None
    grey = read_picture(png(smooth()[:, :, :1], before=chunk(b"gAMA", struct.pack(">I", 100000))))
    assert grey.icc is not None
    assert grey.icc[16:20] == b"GRAY"


def test_pil_images_say_gamma_too() -> None:
    """Transparent greys of few bits as well, as long as the image isn't loaded."""
    data = png(smooth(), before=chunk(b"gAMA", struct.pack(">I", 100000)))
    assert read_picture(Image.open(io.BytesIO(data))).icc == read_picture(data).icc
    for depth in (1, 2, 4, 8):
        grey = smooth()[:, :, :1] >> (8 - depth)
        data = png(grey, depth, chunk(b"tRNS", struct.pack(">H", int(grey[9, 9, 0]))))
        given, read = read_picture(Image.open(io.BytesIO(data))), read_picture(data)
        np.testing.assert_array_equal(given.stacked(), read.stacked())


def test_code_points_become_a_profile() -> None:
    p3 = read_picture(png(smooth(), before=chunk(b"cICP", bytes([12, 13, 0, 1]))))
    assert seen(p3, (200, 100, 50)) == pytest.approx((215, 93, 31), abs=2)
    assert p3.code_points is None
    assert read_picture(png(smooth(), before=chunk(b"cICP", bytes([1, 13, 0, 1])))).icc is None


@pytest.mark.parametrize(("transfer", "spread"), [(16, 1), (18, 1), (13, 0)])
def test_code_points_that_no_profile_can_hold(transfer: int, spread: int) -> None:
    """PQ, HLG and samples of a narrow range are kept as they are said; a format that can't say it has a note."""
    points = bytes([9, transfer, 0, spread])
    picture = read_picture(png(smooth(), 16, chunk(b"cICP", points)))
    assert picture.code_points == points
    back, notes = written(picture, "PNG")
    assert back.code_points == points
    assert notes == []
    back, notes = written(picture, "TIFF")
    assert [note.partition(":")[0] for note in notes] == ["colour"]


def test_colours_of_avif() -> None:
    import imagecodecs

    def avif(primaries: int, transfer: int) -> Picture:
        return read_picture(
            imagecodecs.avif_encode(smooth(), level=95, primaries=primaries, transfer=transfer, matrix=6)
        )

    assert seen(avif(12, 13), (200, 100, 50)) == pytest.approx((215, 93, 31), abs=2)
    assert avif(9, 16).code_points == bytes([9, 16, 0, 1])
    assert avif(1, 13).icc is None


def test_adobe_rgb_of_exif() -> None:
    data = encoded(smooth(), "JPEG", exif=exifs.PREFIX + exif(adobe=True))
    assert seen(read_picture(data), (200, 100, 50)) == pytest.approx((227, 100, 42), abs=2)
    assert read_picture(encoded(smooth(), "JPEG", exif=exifs.PREFIX + exif())).icc is None


@pytest.mark.parametrize("places", [SRGB_CHRM[:2] * 4, (1, 0) * 4, (10**6,) * 8])
def test_impossible_primaries(places: tuple[int, ...]) -> None:
    picture = read_picture(png(smooth(), before=chunk(b"cHRM", struct.pack(">8I", *places))))
    assert picture.icc is None
    assert [note.kind for note in picture.notes] == ["metadata"]


@pytest.mark.parametrize("cut", range(0, 80, 3))
def test_exif_that_is_cut(cut: int) -> None:
    """Every prefix of an EXIF block gives a picture."""
    data = png(smooth(), before=chunk(b"eXIf", exif(turned=True)[:cut]))
    assert read_picture(data).pixels.size == smooth().size
