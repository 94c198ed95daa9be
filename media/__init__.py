"""Media: what a file holds, told by its first bytes or its suffix, and the values that codecs take and give back.

`probe` decides once what an input is. The tables here are the only ones of suffixes. Readers and writers lie in the
modules beside: image, array, hdf5, video. May import files, container and errors; this module imports no NumPy, so that
a command line can be refused at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ..container import MAX_HEADER, MAX_META, SIGNATURE, Header, read_header
from ..errors import ContainerError
from ..files import STDIO, read_bytes

if __name__ == "media":
    raise ImportError("this is a folder of a codec-suite checkout, found on sys.path: import codec.media")

__all__ = [
    "ARRAY_FORMS",
    "ARRAY_WRITES",
    "AUDIO_READS",
    "FIELD_READS",
    "IMAGE_READS",
    "IMAGE_WRITES",
    "MEDIA",
    "VIDEO_READS",
    "VIDEO_WRITES",
    "Medium",
    "Probe",
    "is_ours",
    "medium_of",
    "medium_of_suffix",
    "probe",
    "probe_bytes",
]

IMAGE_READS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {  # Pillow's names of formats, and their usual suffixes; what a file is, its content says
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
)
IMAGE_WRITES: Mapping[str, str] = MappingProxyType(
    {
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
)
VIDEO_READS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".y4m")
VIDEO_WRITES = (".mkv", ".mp4", ".mov", ".webm", ".y4m")
AUDIO_READS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".wv")
FIELD_READS = (".h5", ".hdf5", ".hdf", ".he5", ".nc", ".nc4")
ARRAY_READS = (".idx", ".gz", ".npy", ".csv", ".tsv", ".png")
ARRAY_FORMS = ("array", "idx", "npy", "csv", "picture", "pictures")  # stored by number in files: append only
ARRAY_WRITES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "idx": (".idx", ".gz"),
        "npy": (".npy",),
        "csv": (".csv", ".tsv"),
        "picture": (".png",),
        "pictures": ("",),  # a folder
    }
)


@dataclass(frozen=True)
class Medium:
    """A kind of value, and the files that hold one.

    reads, writes: suffixes; "" among the latter is a folder. folders: whether a folder of PNG pictures can be one
    input. by_name: an input is taken from a folder only where its codec is named, since coding it may take hours.
    """

    name: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    folders: bool = False
    by_name: bool = False

    def is_one_input(self, folder: Path) -> bool:
        """Whether a folder is one input of this medium: there are PNG pictures right in it."""
        return self.folders and any(item.suffix.lower() == ".png" for item in folder.iterdir() if item.is_file())


_ALL = (
    Medium("image", tuple(suffix for group in IMAGE_READS.values() for suffix in group), tuple(IMAGE_WRITES)),
    Medium("audio", AUDIO_READS),
    Medium("video", VIDEO_READS, (*VIDEO_WRITES, ".png", ""), folders=True, by_name=True),
    Medium(
        "array", ARRAY_READS, tuple(s for group in ARRAY_WRITES.values() for s in group), folders=True, by_name=True
    ),
    Medium("field", FIELD_READS, (*FIELD_READS, ".npy")),
    Medium("gaussians"),
)
MEDIA: Mapping[str, Medium] = MappingProxyType({medium.name: medium for medium in _ALL})


def medium_of_suffix(path: str | Path) -> str | None:
    """The medium that files of this suffix usually hold; None for a suffix that isn't known."""
    suffix = Path(path).suffix.lower()
    return next((medium.name for medium in _ALL if suffix in medium.reads), None)


# ---- what the first bytes say

_SIGNATURES = (  # offset, bytes, medium; the first that fits decides
    (0, b"\x89PNG\r\n\x1a\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
    (0, b"GIF8", "image"),
    (0, b"BM", "image"),
    (0, b"II*\0", "image"),
    (0, b"MM\0*", "image"),
    (0, b"\xff\x0a", "image"),  # JPEG XL
    (0, b"\0\0\0\x0cJXL ", "image"),
    (0, b"\0\0\0\x0cjP  ", "image"),  # JPEG 2000
    (8, b"WEBP", "image"),
    (8, b"AVI ", "video"),
    (8, b"WAVE", "audio"),
    (0, b"\x1a\x45\xdf\xa3", "video"),  # Matroska, WebM
    (0, b"YUV4MPEG2", "video"),
    (0, b"fLaC", "audio"),
    (0, b"OggS", "audio"),
    (0, b"ID3", "audio"),
    (0, b"FORM", "audio"),
    (0, b"wvpk", "audio"),
    (0, b"CDF\x01", "field"),
    (0, b"CDF\x02", "field"),
    (0, b"CDF\x05", "field"),
    (0, b"\x93NUMPY", "array"),
    (0, b"\x1f\x8b", "array"),
)
_HDF5 = b"\x89HDF\r\n\x1a\n"  # at 0, or behind a user block of 512 bytes times a power of two
_STILL = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_SOUND = (b"M4A ", b"M4B ")
_START = 1 << 12  # bytes in which a signature is looked for


def medium_of(start: bytes) -> str | None:
    """The medium of a file that isn't ours, by its first bytes; None where they don't say it."""
    for offset, signature, medium in _SIGNATURES:
        if start.startswith(signature, offset):
            return medium
    if any(start.startswith(_HDF5, offset) for offset in (0, 512, 1024, 2048)):
        return "field"
    if start[4:8] == b"ftyp":
        return "image" if start[8:12] in _STILL else "audio" if start[8:12] in _SOUND else "video"
    if len(start) >= 3 and start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace():
        return "image"
    if start[:2] == b"\0\0" and start[2:3] in b"\x08\x09\x0b\x0c\x0d\x0e" and len(start) >= 4:
        return "array"  # IDX
    return None


# ---- probing


@dataclass(frozen=True)
class Probe:
    """What an input is, found out once; it goes with the input to whoever reads it.

    source: a path, or "-" for stdin. ours: whether it begins like a file of this package. header: of a file of ours
    whose header can be read. medium: what a file of another kind holds, by its first bytes or else its suffix; None if
    neither says it, or it can't be read. data: all bytes, where they are here already because they came through stdin.
    """

    source: str
    ours: bool = False
    header: Header | None = None
    medium: str | None = None
    data: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """All bytes of the input."""
        return read_bytes(self.source) if self.data is None else self.data


def probe(source: str | os.PathLike[str]) -> Probe:
    """Look at the first bytes of a file, or of stdin for "-", of which nothing is taken.

    What can't be read is a probe that says nothing: whoever opens it reports why.
    """
    source = os.fspath(source)
    if source == STDIO:
        peek = getattr(sys.stdin.buffer, "peek", None)
        start = peek(_START)[:_START] if peek is not None else b""
        return Probe(source, start.startswith(SIGNATURE), medium=medium_of(start))
    try:
        with open(source, "rb") as file:
            start = file.read(_START)
            if not start.startswith(SIGNATURE):
                return Probe(source, medium=medium_of(start) or medium_of_suffix(source))
            start += file.read(MAX_HEADER)
            header = _header(start)
            if header is None:  # metadata of their own chunk, or damage
                header = _header(start + file.read(MAX_META + MAX_HEADER))
    except OSError:
        return Probe(source, medium=medium_of_suffix(source))
    return Probe(source, ours=True, header=header)


def probe_bytes(data: bytes) -> Probe:
    """The same for bytes that are here: a whole file, or what came through stdin."""
    ours = data.startswith(SIGNATURE)
    return Probe(STDIO, ours, _header(data) if ours else None, None if ours else medium_of(data[:_START]), data)


def _header(data: bytes) -> Header | None:
    try:
        return read_header(data)
    except ContainerError:
        return None


def is_ours(path: Path) -> bool:
    """Whether a file begins like one of this package; its suffix is decoration."""
    try:
        with open(path, "rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False
