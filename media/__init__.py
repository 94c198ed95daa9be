"""The media: what a file holds, told by its first bytes or its suffix, and the values that codecs take and give back.

`probe` decides once what an input is. The tables here are the only ones of suffixes. Readers and writers lie in the
modules beside: image, array, hdf5, audio, video, gaussians. May import files, container and errors; this module imports
no NumPy, and the container where a file is looked at, so that a command line can be refused at once.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

if "." not in __name__:
    raise ImportError(f"`{__name__}` is here a folder of a codec-suite checkout: use codec.{__name__}, or python -P")

from ..errors import ContainerError
from ..files import STDIO, read_bytes

if TYPE_CHECKING:
    from ..container import Header
    from .signatures import describe_unknown

__all__ = [
    "ARRAY_FORMS",
    "ARRAY_READS",
    "ARRAY_WRITES",
    "AUDIO_READS",
    "AUDIO_WRITES",
    "FEATURE_WRITES",
    "FIELD_READS",
    "GAUSSIAN_READS",
    "GAUSSIAN_WRITES",
    "IMAGE_READS",
    "IMAGE_WRITES",
    "MEDIA",
    "VIDEO_READS",
    "VIDEO_WRITES",
    "Medium",
    "Probe",
    "describe_unknown",
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
        "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pam"),
        "TGA": (".tga",),
        "AVIF": (".avif",),
        "HEIF": (".heic", ".heif"),
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
AUDIO_READS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".m4b", ".mka", ".aac"),
    *(".aif", ".aiff", ".aifc", ".w64", ".rf64", ".wv"),
)
AUDIO_WRITES: Mapping[str, str] = MappingProxyType(
    {".wav": "wav", ".flac": "flac", ".opus": "opus", ".ogg": "opus", ".oga": "opus", ".mp3": "mp3"}
)
FIELD_READS = (".h5", ".hdf5", ".hdf", ".he5", ".nc", ".nc4", ".cdf", ".mat", ".nxs", ".h5ad")
GAUSSIAN_READS = (".ply", ".spz", ".splat", ".sog")  # of a folder of frames, the first that it has is taken
GAUSSIAN_WRITES: Mapping[str, str] = MappingProxyType({".ply": "ply", ".spz": "spz", ".splat": "splat"})
FEATURE_WRITES = (".npy", ".json", ".png")
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

    reads, writes: suffixes; "" among the latter is a folder. folders: suffixes of pictures, a folder of which can be
    one input. by_name: an input is taken from a folder only where its codec is named, since coding it may take hours.
    """

    name: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    by_name: bool = False

    def is_one_input(self, folder: Path) -> bool:
        """Whether a folder is one input of this medium: there are pictures or frames right in it, and no videos."""
        try:
            files = [item for item in folder.iterdir() if item.is_file()]
        except OSError:
            return False
        if any(item.name in self.marks for item in files):
            return True
        suffixes = {item.suffix.lower() for item in files}
        return bool(suffixes.intersection(self.folders)) and not (
            self.name == "video" and suffixes.intersection(VIDEO_READS)
        )


_ALL = (
    Medium("image", tuple(suffix for group in IMAGE_READS.values() for suffix in group), tuple(IMAGE_WRITES)),
    Medium("audio", AUDIO_READS, tuple(AUDIO_WRITES)),
    Medium("video", VIDEO_READS, (*VIDEO_WRITES, ".png", ""), folders=(".png", ".jpg", ".jpeg"), by_name=True),
    Medium(
        "array",
        ARRAY_READS,
        tuple(s for group in ARRAY_WRITES.values() for s in group),
        folders=(".png",),
        by_name=True,
    ),
    Medium("field", FIELD_READS, (*FIELD_READS, ".npy")),
    Medium(
        "gaussians",
        GAUSSIAN_READS,
        (*GAUSSIAN_WRITES, ""),
        folders=GAUSSIAN_READS,
        marks=("dual.json", "meta.json"),  # a fitted sequence; a SOG scene in pieces
        by_name=True,
    ),
    Medium(
        "features", tuple(suffix for group in IMAGE_READS.values() for suffix in group), FEATURE_WRITES, by_name=True
    ),
)
MEDIA: Mapping[str, Medium] = MappingProxyType({medium.name: medium for medium in _ALL})


def medium_of_suffix(path: str | Path) -> str | None:
    """The medium that files of this suffix usually hold; None for a suffix that isn't known."""
    suffix = Path(path).suffix.lower()
    return next((medium.name for medium in _ALL if suffix in medium.reads), None)


def __getattr__(name: str) -> Any:
    """Gives `describe_unknown`, whose module is read when it is first asked for."""
    if name != "describe_unknown":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .signatures import describe_unknown

    return describe_unknown


# ---- what the first bytes say

_START = 1 << 12  # bytes in which a signature is looked for


def medium_of(start: bytes, path: str = "") -> str | None:
    """The medium of a file that isn't ours, by its first bytes; None where they don't say it.

    path: its name, if it has one: its suffix tells formats that begin as others do.
    """
    from .signatures import KINDS, identify  # a large table, which only looking at files needs

    key = identify(start, path)
    if key == "gz":  # an IDX file, perhaps
        return "array"
    medium = None if key is None else KINDS[key].medium
    return medium if medium in MEDIA else None


def _medium_within(start: bytes, file: BinaryIO, path: str = "") -> str | None:
    """The same of a file that can be looked into: one of videos' kinds, without pictures, is sound."""
    from .signatures import identify

    medium = medium_of(start, path)
    if medium == "video" and identify(start) in ("mp4", "mov", "mkv", "3gp"):
        from .audio.tracks import is_only_sound

        return "audio" if is_only_sound(file, start) else medium
    return medium


# ---- probing


@dataclass(frozen=True)
class Probe:
    """The answer to what an input is, found out once; it goes with the input to whoever reads it.

    source: a path, or "-" for stdin. ours: whether it begins like a file of this package. header: of a file of ours
    whose header can be read. medium: what a file of another kind holds, by its first bytes or else its suffix; None if
    neither says it. data: all bytes, where they are here already because they can be read only once.
    """

    source: str
    ours: bool = False
    header: Header | None = None
    medium: str | None = None
    data: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """All bytes of the input. MediaError if it can't be read."""
        return read_bytes(self.source) if self.data is None else self.data

    def require_header(self) -> Header:
        """The header of a file of ours. ContainerError, or MediaError, that says what is wrong with any other."""
        from ..container import read_header

        return read_header(self.read()) if self.header is None else self.header


def probe(source: str | os.PathLike[str]) -> Probe:
    """Look at the first bytes of a file, or of stdin for "-", of which nothing is taken.

    Of what can't be read, or only once (a pipe, a device), the suffix alone says something: whoever opens it reports
    what is wrong with it. `probe_bytes` looks at what was read from there.
    """
    from ..container import COMPACT_SIGNATURE, MAX_COMPACT, MAX_HEADER, MAX_META, is_container
    from .signatures import identify

    if source == STDIO:
        peek = getattr(getattr(sys.stdin, "buffer", None), "peek", None)
        start = peek(_START)[:_START] if peek is not None else b""
        return Probe(STDIO, is_container(start), medium=medium_of(start))
    path = os.fspath(source)
    if path == STDIO:  # a file that is called so
        path = os.path.join(os.curdir, path)
    by_name = medium_of_suffix(path)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return Probe(path, medium=None if stat.S_ISDIR(mode) else by_name)
        with open(path, "rb") as file:
            start = file.read(_START)
            if start.startswith(COMPACT_SIGNATURE) or identify(start, path) is None:
                start += file.read(MAX_COMPACT)  # of packets any may be damaged, the first ones too
            if not is_container(start):
                return _damaged(path, start) or Probe(
                    path, medium=_medium_within(start[:_START], file, path) or by_name
                )
            start += file.read(MAX_HEADER)
            header = _header(start)
            if header is None and (more := file.read(MAX_META + MAX_HEADER)):  # metadata of their own chunk, or damage
                header = _header(start + more)
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return Probe(path, medium=by_name)
    return Probe(path, ours=True, header=header)


def probe_bytes(data: bytes, source: str = STDIO) -> Probe:
    """Look at bytes that are here: a whole file, or all that came through stdin or another `source`."""
    from ..container import is_container

    ours = is_container(data)
    if not ours and (probe := _damaged(source, data)) is not None:
        return replace(probe, data=data)
    medium = None if ours else _medium_within(data[:_START], io.BytesIO(data))
    return Probe(source, ours, _header(data) if ours else None, medium, data)


def _damaged(source: str, data: bytes) -> Probe | None:
    """The probe of a file in packets whose first one is damaged, and which begins like nothing else."""
    from ..container import COMPACT_SIGNATURE
    from .signatures import identify

    if COMPACT_SIGNATURE not in data or identify(data[:_START], source) is not None:
        return None
    header = _header(data)
    return None if header is None else Probe(source, ours=True, header=header)


def _header(data: bytes) -> Header | None:
    from ..container import read_header

    try:
        return read_header(data)
    except ContainerError:
        return None


def is_ours(path: Path) -> bool:
    """Whether a file begins like one of this package; its suffix is decoration. Nothing is taken from a pipe.

    There may be a million files: a damaged packet in front of the others is only seen where it is a short one.
    """
    from ..container import is_container

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            start = file.read(_START)
        return is_container(start) or _damaged(os.fspath(path), start) is not None
    except OSError:
        return False
