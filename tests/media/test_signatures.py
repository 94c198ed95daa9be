"""Formats that aren't read are named, with one command that helps; our own commands work, others are spelled right."""

from __future__ import annotations

import io
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.media import MEDIA
from codec.media.signatures import KINDS, describe_unknown, format_of_suffix, identify, suffixes

STARTS = {
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "avif": b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif",
    "jxl": b"\xff\x0a\xfa",
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "j2c": b"\xff\x4f\xff\x51\0\x2f",
    "cr2": b"II*\0\x10\0\0\0CR\x02\0",
    "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1",
    "raf": b"FUJIFILMCCD-RAW 0201",
    "orf": b"IIRO\x08\0\0\0",
    "rw2": b"IIU\0\x18\0\0\0",
    "psd": b"8BPS\0\1",
    "pdf": b"%PDF-1.7\n",
    "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "ico": b"\0\0\1\0\2\0\x10\x10",
    "exr": b"\x76\x2f\x31\x01\2\0\0\0",
    "hdr": b"#?RADIANCE\n",
    "dds": b"DDS \x7c\0\0\0",
    "qoi": b"qoif\0\0\0\4",
    "pam": b"P7\nWIDTH 4\n",
    "pfm": b"PF\n4 4\n",
    "xcf": b"gimp xcf v011\0",
    "ktx": b"\xabKTX 11\xbb",
    "dicom": bytes(128) + b"DICM",
    "mp4": b"\0\0\0\x20ftypisom\0\0\2\0isom",
    "mov": b"\0\0\0\x14ftypqt  \0\0\0\0",
    "mkv": b"\x1a\x45\xdf\xa3\1\0\0\0",
    "avi": b"RIFF\x24\0\0\0AVI LIST",
    "flv": b"FLV\1\5\0\0\0",
    "asf": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",
    "ts": (b"\x47\x40\0\x10" + bytes(184)) * 3,
    "mpg": b"\0\0\1\xba\x44\0",
    "ogv": b"OggS\0\2" + bytes(22) + b"\x80theora",
    "ogg": b"OggS\0\2" + bytes(22) + b"\1vorbis",
    "3gp": b"\0\0\0\x18ftyp3gp4\0\0\2\0",
    "wav": b"RIFF\x24\0\0\0WAVEfmt ",
    "mp3": b"\xff\xfb\x90\x64",
    "flac": b"fLaC\0\0\0\x22",
    "m4a": b"\0\0\0\x1cftypM4A \0\0\0\0",
    "ply": b"ply\nformat ascii 1.0\nproperty float rot_0\nend_header\n",
    "mesh": b"ply\nformat ascii 1.0\nproperty float x\nend_header\n",
    "spz": b"NGSP\4\0\0\0",
    "sog": b"PK\3\4" + bytes(22) + b"\x08\0\0\0sh0.webp",
    "zip": b"PK\3\4" + bytes(22) + b"\5\0\0\0a.txt",
    "npz": b"PK\3\4" + bytes(22) + b"\5\0\0\0a.npy",
    "7z": b"7z\xbc\xaf\x27\x1c\0\4",
    "gz": b"\x1f\x8b\x08\0",
    "xz": b"\xfd7zXZ\0\0\4",
    "rar": b"Rar!\x1a\x07\x01\0",
    "tar": bytes(257) + b"ustar\x0000",
    "netcdf3": b"CDF\2\0\0\0\0",
    "grib": b"GRIB\0\0\x4a\2",
    "hdf4": b"\x0e\3\x13\1\0",
    "hdf5": bytes(512) + b"\x89HDF\r\n\x1a\n",
    "fits": b"SIMPLE  =                    T",
    "matlab": b"MATLAB 5.0 MAT-file, Platform: GLNXA64",
    "parquet": b"PAR1\x15\4",
    "idx": b"\0\0\x08\3\0\0\0\1",
    "pickle": b"\x80\4\x95\x10\0\0\0",
    "safetensors": b'\x40\0\0\0\0\0\0\0{"a":',
    "sqlite": b"SQLite format 3\0",
    "elf": b"\x7fELF\2\1\1\0",
    "html": b"\n<!DOCTYPE html><html>",
    "json": b'{"message": "not found"}',
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
    "text": "a letter, with ü\n".encode(),
    "empty": b"",
    "ours": b"\x89CDC\1",
}


@pytest.mark.parametrize("key", STARTS)
def test_known_by_first_bytes(key: str) -> None:
    assert identify(STARTS[key]) == key
    assert identify(
        STARTS[key] + bytes(600) if key not in ("text", "html", "json", "lfs", "svg", "empty") else STARTS[key]
    )


def test_real_files() -> None:
    """As libraries write them."""
    picture = Image.new("RGB", (7, 5))
    names = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "PPM": "pnm"}
    for form, key in (names | {"ICO": "ico", "PCX": "pcx", "DDS": "dds", "SGI": "sgi", "JPEG2000": "jp2"}).items():
        buffer = io.BytesIO()
        (picture.resize((16, 16)) if form == "ICO" else picture).save(buffer, form)
        assert identify(buffer.getvalue()) == key, form
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    assert identify(buffer.getvalue()) == "npy"
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    assert identify(buffer.getvalue()) == "npz"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    assert identify(buffer.getvalue()) == "zip"
    assert identify(Path(__file__).read_bytes()[:4096]) == "text"


@pytest.mark.parametrize("name", ["a.nef", "A.ARW", "a.dng", "a.pef"])
def test_raw_that_begins_as_tiff_does(name: str) -> None:
    assert identify(b"II*\0\x08\0\0\0", "a.tif") == "tiff"
    key = identify(b"II*\0\x08\0\0\0", name)
    assert key is not None and "RAW" in KINDS[key].name


@pytest.mark.parametrize("start", [b"\xde\xad\xbe\xef" * 9, bytes(64), b"\0", b"P6\0", b"BMW is a word\0\1\2"])
def test_unknown(start: bytes) -> None:
    assert identify(start) is None
    assert describe_unknown(start, "x.bin", "a, b") == "of an unknown format; expected a, b"


class TestWords:
    def test_name_and_command(self) -> None:
        assert describe_unknown(STARTS["heic"], "d/IMG_1.heic") == (
            "HEIC, which needs an extra: pip install 'codec-suite[heif]', or heif-convert d/IMG_1.heic d/IMG_1.png"
        )
        assert describe_unknown(b"\x93NUMPY\1\0", "a.npy") == (
            "an array (NPY): name a codec for arrays: codec encode a.npy -c mix"
        )
        drawing = describe_unknown(b"<svg>", "a.png")  # the command must not write over its input
        assert drawing == "an SVG drawing, draw it: rsvg-convert a.png -o a-converted.png"
        assert describe_unknown(b"", "a.png", "PNG") == "empty: 0 bytes; expected PNG"
        assert describe_unknown(STARTS["ours"], "a.s2lic") == "a file of codec already: codec decode a.s2lic"

    def test_names_are_as_a_shell_takes_them(self) -> None:
        hostile = "a'; rm -rf ~; $(x) .jxl"
        words = describe_unknown(STARTS["jxl"], hostile)
        assert shlex.split(words.partition("djxl ")[2]) == [hostile, hostile[:-4] + ".png"]
        assert "./-x.jxl" in describe_unknown(STARTS["jxl"], "-x.jxl")
        assert "rm -rf" not in describe_unknown(STARTS["parquet"], "a'; rm -rf ~; $(x).parquet")
        assert describe_unknown(STARTS["jxl"], "-").endswith("djxl IN OUT.png")

    def test_a_zarr_store_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a.zarr").mkdir()
        (tmp_path / "a.zarr" / ".zgroup").write_text("{}")
        assert describe_unknown(b"", tmp_path / "a.zarr").startswith("a zarr store, which isn't read")

    def test_no_python(self) -> None:
        assert not [kind for kind in KINDS.values() if re.search(r"import |python|\w\(\)|np\.", kind.advice)]


# Programs that advice names, as they are spelled, with the options that they are given.
TOOLS = {
    "7z": {"x"},
    "bpgdec": {"-o"},
    "bunzip2": {"-k"},
    "cdo": {"-f", "nc4", "copy"},
    "codec": {"decode", "encode", "-c", "mix"},
    "darktable-cli": set(),
    "dcm2pnm": {"+on"},
    "ddjvu": {"-format=tiff"},
    "djxl": set(),
    "duckdb": {"-c"},
    "ffmpeg": {"-i", "-c", "copy", "-fflags", "+genpts", "-map", "0:v", "0:a?"},
    "fitstopnm": {">"},
    "flif": {"-d"},
    "git": {"lfs", "pull"},
    "gunzip": {"-k"},
    "h4toh5": set(),
    "heif-convert": set(),
    "JxrDecApp": {"-i", "-o"},
    "ktx": {"extract"},
    "magick": {"-density", "300"},
    "nccopy": {"-k", "nc4"},
    "opj_decompress": {"-i", "-o"},
    "pdftoppm": {"-png", "-r", "300"},
    "pip": {"install", "codec-suite[heif]"},
    "rsvg-convert": {"-o"},
    "tar": {"xf"},
    "unrar": {"x"},
    "unxz": {"-k"},
    "unzip": {"-d"},
    "unzstd": set(),
    "xcf2png": {"-o"},
}


def commands(advice: str) -> list[list[str]]:
    """The commands in a piece of advice: what follows a colon or "or", up to a comma, by the first word of it."""
    parts = re.split(r"(?:: |, or |, )", advice)
    return [shlex.split(part) for part in parts if part.split()[0] in TOOLS]


@pytest.mark.parametrize("key", [key for key, kind in KINDS.items() if "{" in kind.advice or "pip" in kind.advice])
def test_commands_of_others_are_spelled_right(key: str) -> None:
    spelled = commands(KINDS[key].advice.replace("{IN}", "a.x").replace("{STEM}", "a"))
    assert spelled, f"no program that is known in {KINDS[key].advice!r}"
    for tool, *words in spelled:
        options = {word for word in words if not re.search(r"a\.|^a$|a-nc4|COPY|file://", word)}
        assert options <= TOOLS[tool], (tool, options)


def test_commands_of_ours_parse() -> None:
    from codec.cli.parser import build_parser

    texts = [describe_unknown(start, "a.x") for start in STARTS.values()] + [describe_unknown(b"\x93NUMPY", "a.npy")]
    ours = [words for text in texts for words in commands(text) if words[0] == "codec"]
    assert len(ours) >= 3
    for words in ours:
        build_parser().parse_args(words[1:])


def test_suffixes() -> None:
    """What we read is known, so that an output of ours is never called as one of those files."""
    kind = format_of_suffix(".jxl")
    assert kind is not None and kind.name == "JPEG XL"
    assert format_of_suffix(".v2") is None
    missing = {s for medium in MEDIA.values() for s in medium.reads} - set(suffixes())
    assert missing <= {".tga"}, "TGA has no signature"
