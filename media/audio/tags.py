"""Tags and covers of sound files: Vorbis comments, ID3v2, INFO of RIFF, and what FFmpeg calls the others.

All become names of Vorbis comments, in capital letters. What names the program that wrote it is no tag of the sound.
Sizes are capped; what is left out becomes a note. Xiph.org, "Ogg Vorbis I format specification: comment field"; RFC
9639 section 8.8 (pictures); ID3v2.2, 2.3 and 2.4 at id3.org.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..notes import Note
from .tagging import ID3_FRAMES, INFO_KEYS
from .values import MAX_COVER, MAX_TAGS, Cover

__all__ = [
    "FFMPEG_NAMES",
    "ID3_NAMES",
    "INFO_NAMES",
    "PICTURES",
    "Tags",
    "from_comments",
    "from_ffmpeg",
    "from_id3",
    "from_info",
    "picture_of",
    "size_of_id3",
    "text_of",
]

PICTURES: Mapping[int, str] = MappingProxyType(  # kinds by the numbers that ID3 and FLAC share
    {0: "other", 3: "front", 4: "back", 5: "leaflet", 6: "media", 8: "artist"}
)
ID3_NAMES: Mapping[str, str] = MappingProxyType(
    {
        **{frame: name for name, frame in ID3_FRAMES.items()},
        "TYER": "DATE",
        "TPE4": "REMIXER",
        "TIT1": "GROUPING",
        "TCMP": "COMPILATION",
        "TSOA": "ALBUMSORT",
        "TSOP": "ARTISTSORT",
        "TSOT": "TITLESORT",
    }
)
_ID3_SHORT: Mapping[str, str] = MappingProxyType(  # of ID3v2.2
    {
        "TT2": "TIT2",
        "TP1": "TPE1",
        "TAL": "TALB",
        "TRK": "TRCK",
        "TYE": "TYER",
        "TCO": "TCON",
        "TP2": "TPE2",
        "TCM": "TCOM",
        "TPA": "TPOS",
        "TCR": "TCOP",
        "TBP": "TBPM",
        "TXX": "TXXX",
        "COM": "COMM",
        "ULT": "USLT",
        "PIC": "APIC",
        "TSS": "TSSE",
        "TLE": "TLEN",
        "TEN": "TENC",
        "TCP": "TCMP",
    }
)
INFO_NAMES: Mapping[str, str] = MappingProxyType(
    {
        **{key.decode(): name for name, key in INFO_KEYS.items()},
        "ITRK": "TRACKNUMBER",
        "ILNG": "LANGUAGE",
        "IMUS": "COMPOSER",
        "IENG": "ENGINEER",
    }
)
FFMPEG_NAMES: Mapping[str, str] = MappingProxyType(
    {"TRACK": "TRACKNUMBER", "DISC": "DISCNUMBER", "ALBUM_ARTIST": "ALBUMARTIST", "ENCODED_BY": "ENCODED-BY"}
)
# What wrote the file, its length, and its loudspeakers, which the layout says.
_NO_TAGS = frozenset({"ENCODER", "TSSE", "ISFT", "TLEN", "SOFTWARE", "WAVEFORMATEXTENSIBLE_CHANNEL_MASK"})
_TECHNICAL = frozenset(  # of FFmpeg's
    {"MAJOR_BRAND", "MINOR_VERSION", "COMPATIBLE_BRANDS", "HANDLER_NAME", "VENDOR_ID", "DURATION", "CREATION_TIME"}
    | {"ITUNSMPB", "ITUNNORM", "GAPLESS_PLAYBACK"}
)
_TOTALS = {"TRACKNUMBER": "TRACKTOTAL", "DISCNUMBER": "DISCTOTAL"}
_MAX_VALUES = 1 << 12


class Tags:
    """Tags while they are collected. values: by name. notes: what is left out."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[str, ...]] = {}
        self.cover: Cover | None = None
        self.notes: list[Note] = []
        self._left, self._n_values = MAX_TAGS, 0

    def add(self, name: str, text: str) -> None:
        """Add a value, unless it is there or empty, or names the program that wrote the file."""
        name = "".join(c for c in name.upper().strip() if " " <= c <= "}" and c != "=")
        text = text.strip("\0").strip()
        if not name or not text or name in _NO_TAGS or text in self.values.get(name, ()):
            return
        self._left -= len(name) + len(text)
        self._n_values += 1
        if self._left < 0 or self._n_values > _MAX_VALUES:
            self.note("metadata", f"tags beyond {MAX_TAGS} characters or {_MAX_VALUES} values: left out")
            return
        self.values[name] = (*self.values.get(name, ()), text)

    def add_cover(self, data: bytes, mime: str, number: int) -> None:
        """Add a picture: the front cover, or else the first picture, is kept."""
        if not data:
            return
        if len(data) > MAX_COVER:
            self.note("picture", f"a cover picture of more than {MAX_COVER} bytes: left out")
            return
        kind = PICTURES.get(number, "other")
        if self.cover is not None:
            self.note("picture", "pictures beside the cover: left out")
            if kind != "front" or self.cover.kind == "front":
                return
        self.cover = Cover(data, mime_of(data) or mime.lower() or "application/octet-stream", kind)

    def merge(self, other: Tags) -> None:
        """Take what isn't there yet."""
        for name, texts in other.values.items():
            if name not in self.values:
                for text in texts:
                    self.add(name, text)
        self.cover = self.cover or other.cover
        for note in other.notes:
            self.note(*note)

    def note(self, kind: str, words: str) -> None:
        if (note := Note(kind, words)) not in self.notes:
            self.notes.append(note)


def mime_of(data: bytes) -> str:
    """The MIME type of a picture by its first bytes; "" for one that isn't known."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/gif" if data.startswith(b"GIF8") else "image/bmp" if data.startswith(b"BM") else ""


def text_of(data: bytes) -> str:
    """The text of bytes in UTF-8, or else Latin-1, up to a zero."""
    data = data.partition(b"\0")[0]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def from_info(chunk: bytes, tags: Tags) -> None:
    """Add what a LIST chunk of RIFF holds, if its kind is INFO."""
    at = 4
    while chunk[:4] == b"INFO" and at + 8 <= len(chunk):
        name, size = chunk[at : at + 4].decode("latin-1"), int.from_bytes(chunk[at + 4 : at + 8], "little")
        tags.add(INFO_NAMES.get(name, name), text_of(chunk[at + 8 : at + 8 + size]))
        at += 8 + size + (size & 1)


def from_ffmpeg(metadata: Mapping[str, str], tags: Tags) -> None:
    """Add what FFmpeg read, with its names."""
    for key, text in metadata.items():
        name = key.upper()
        if name not in _TECHNICAL and not (name == "LANGUAGE" and text == "und"):
            _add_number(FFMPEG_NAMES.get(name, name), text, tags)


# ---- Vorbis comments


def from_comments(data: bytes, tags: Tags) -> None:
    """Add Vorbis comments: a packet of Ogg without what is before the vendor's name, or a block of FLAC."""
    try:
        at = 4 + _u32(data, 0)
        count = _u32(data, at)
        at += 4
        for _ in range(count):
            size = _u32(data, at)
            if at + 4 + size > len(data):
                raise struct.error("a comment that ends behind the last byte")
            name, _, text = data[at + 4 : at + 4 + size].partition(b"=")
            at += 4 + size
            if name.upper() == b"METADATA_BLOCK_PICTURE":
                picture_of(base64.b64decode(text, validate=False), tags)
            else:
                tags.add(name.decode("utf-8", "replace"), text.decode("utf-8", "replace"))
    except (struct.error, binascii.Error):
        tags.note("metadata", "tags that are damaged: left out from there on")


def _u32(data: bytes, at: int, order: str = "<") -> int:
    return struct.unpack_from(order + "I", data, at)[0]


def picture_of(block: bytes, tags: Tags) -> None:
    """Add the picture of a block of FLAC."""
    try:
        number, n_mime = struct.unpack_from(">II", block)
        mime = block[8 : 8 + n_mime].decode("latin-1")
        at = 12 + n_mime + _u32(block, 8 + n_mime, ">") + 16
        size = _u32(block, at, ">")
    except struct.error:
        tags.note("picture", "a cover picture that is damaged: left out")
        return
    data = block[at + 4 : at + 4 + size]
    if len(data) < size:
        tags.note("picture", "a cover picture that is damaged: left out")
    elif mime != "-->":  # an address
        tags.add_cover(data, mime, number)


# ---- ID3v2


def size_of_id3(head: bytes) -> int:
    """The bytes of the ID3v2 tag that begins with these 10 bytes; 0 if none does."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] == 0xFF or any(byte & 0x80 for byte in head[6:10]):
        return 0
    return 10 + _synchsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)


def _synchsafe(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value << 7 | (byte & 0x7F)
    return value


def from_id3(data: bytes, tags: Tags) -> None:
    """Add the frames of a tag of ID3v2.2, 2.3 or 2.4."""
    if not size_of_id3(data):
        return
    version, flags = data[3], data[5]
    body = data[10 : 10 + _synchsafe(data[6:10])]
    if version < 4 and flags & 0x80:
        body = body.replace(b"\xff\x00", b"\xff")
    if version > 2 and flags & 0x40 and len(body) >= 4:
        body = body[_synchsafe(body[:4]) if version > 3 else 4 + _u32(body, 0, ">") :]
    left_out: set[str] = set()
    for name, frame in _frames(body, version):
        if not _add_frame(name, frame, version, tags) and name not in _NO_TAGS:
            left_out.add(name)
    if left_out:
        tags.note("metadata", f"frames of ID3 left out: {', '.join(sorted(left_out)[:8])}")


def _frames(body: bytes, version: int) -> Iterator[tuple[str, bytes]]:
    """The frames of a tag, by their names of four letters; packed and encrypted ones are empty."""
    n_name, n_head = (3, 6) if version == 2 else (4, 10)
    at = 0
    while at + n_head < len(body) and body[at]:
        name = body[at : at + n_name].decode("latin-1")
        field = body[at + n_name : at + 2 * n_name]
        size = _synchsafe(field) if version == 4 else int.from_bytes(field, "big")
        frame = body[at + n_head : at + n_head + size]
        if version > 2:
            flags = body[at + 9]
            frame = _plain(frame, flags, version)
        if not all(c.isdigit() or "A" <= c <= "Z" for c in name) or size > len(body) - at - n_head:
            return
        yield _ID3_SHORT.get(name, name), frame
        at += n_head + size


def _plain(frame: bytes, flags: int, version: int) -> bytes:
    if version == 3:
        return b"" if flags & 0xC0 else frame[1:] if flags & 0x20 else frame
    if flags & 0x0C:
        return b""
    frame = frame[1 if flags & 0x40 else 0 :]
    frame = frame[4 if flags & 0x01 else 0 :]
    return frame.replace(b"\xff\x00", b"\xff") if flags & 0x02 else frame


def _add_frame(name: str, frame: bytes, version: int, tags: Tags) -> bool:
    """Add a frame; whether it is one of those that are kept."""
    if not frame:
        return False
    encoding, rest = frame[0], frame[1:]
    if name == "APIC":
        mime, rest = (rest[:3], rest[3:]) if version == 2 else _split(rest, 0)
        if not rest or mime == b"-->":
            return False
        _, data = _split(rest[1:], encoding)
        tags.add_cover(data, _MIMES.get(mime.upper(), mime.decode("latin-1")), rest[0])
    elif name in ("COMM", "USLT"):
        about, text = _split(rest[3:], encoding)
        description = _decoded(about, encoding)
        if description.startswith("iTun"):  # numbers of a player
            return True
        tags.add("LYRICS" if name == "USLT" else "COMMENT", _decoded(text, encoding))
    elif name == "TXXX":
        about, text = _split(rest, encoding)
        for value in _decoded(text, encoding).split("\0"):
            tags.add(_decoded(about, encoding), value)
    elif name.startswith("T"):
        if name == "TYER" and "DATE" in tags.values:
            return True
        for value in _decoded(rest, encoding).split("\0"):
            _add_number(ID3_NAMES.get(name, name), value, tags)
    else:
        return False
    return True


def _add_number(name: str, text: str, tags: Tags) -> None:
    """Add a text; of "3/12", the number of a track or a disc, the total by a name of its own."""
    number, slash, total = text.partition("/")
    if name in _TOTALS and slash and number.strip().isdigit() and total.strip().isdigit():
        tags.add(_TOTALS[name], total)
        text = number
    tags.add(name, text)


_MIMES = {b"JPG": "image/jpeg", b"PNG": "image/png"}


def _split(data: bytes, encoding: int) -> tuple[bytes, bytes]:
    """The bytes before and behind a zero, of two bytes in UTF-16."""
    if encoding not in (1, 2):
        before, _, behind = data.partition(b"\0")
        return before, behind
    at = 0
    while at + 1 < len(data) and data[at : at + 2] != b"\0\0":
        at += 2
    return data[:at], data[at + 2 :]


def _decoded(data: bytes, encoding: int) -> str:
    name = {1: "utf-16", 2: "utf-16-be", 3: "utf-8"}.get(encoding, "latin-1")
    if encoding in (1, 2):
        data = data[: len(data) & ~1]
        if encoding == 1 and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            name = "utf-16-le"
    text = data.decode(name, "replace").rstrip("\0")
    return text.replace("\0\ufeff", "\0")  # each value of UTF-16 has its own mark
