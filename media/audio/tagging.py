"""Tags and covers as bytes: Vorbis comments and pictures of FLAC, ID3v2 of MP3, the INFO list of RIFF.

Tags are those of `values`: names of Vorbis comments in capital letters, each with its values. What a form can't hold
becomes a note. `tags` reads them. May import values and notes.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..notes import Note
from .values import Cover

__all__ = [
    "ID3_FRAMES",
    "INFO_KEYS",
    "PICTURE_NUMBERS",
    "TOTALS",
    "VENDOR",
    "flac_blocks",
    "id3",
    "info_list",
    "picture",
    "vorbis_comment",
]

Tags = Mapping[str, tuple[str, ...]]

VENDOR = "codec"  # who wrote a file, in words for other programs

ID3_FRAMES: Mapping[str, str] = MappingProxyType(  # of ID3v2.4, by names of Vorbis comments
    {
        "ALBUM": "TALB",
        "ALBUMARTIST": "TPE2",
        "ARTIST": "TPE1",
        "BPM": "TBPM",
        "COMPOSER": "TCOM",
        "CONDUCTOR": "TPE3",
        "COPYRIGHT": "TCOP",
        "DATE": "TDRC",
        "DISCNUMBER": "TPOS",
        "ENCODED-BY": "TENC",
        "ENCODER": "TSSE",
        "GENRE": "TCON",
        "ISRC": "TSRC",
        "LANGUAGE": "TLAN",
        "LYRICIST": "TEXT",
        "MOOD": "TMOO",
        "ORGANIZATION": "TPUB",
        "SUBTITLE": "TIT3",
        "TITLE": "TIT2",
        "TRACKNUMBER": "TRCK",
    }
)
INFO_KEYS: Mapping[str, bytes] = MappingProxyType(  # of RIFF's INFO list, by names of Vorbis comments
    {
        "ALBUM": b"IPRD",
        "ARTIST": b"IART",
        "COMMENT": b"ICMT",
        "COPYRIGHT": b"ICOP",
        "DATE": b"ICRD",
        "GENRE": b"IGNR",
        "TITLE": b"INAM",
        "TRACKNUMBER": b"IPRT",
    }
)
PICTURE_NUMBERS: Mapping[str, int] = MappingProxyType(  # kinds of picture, as ID3 and FLAC number them
    {"other": 0, "front": 3, "back": 4, "leaflet": 5, "media": 6, "artist": 8}
)
TOTALS: Mapping[str, str] = MappingProxyType({"TRACKNUMBER": "TRACKTOTAL", "DISCNUMBER": "DISCTOTAL"})
_MAX_BLOCK = (1 << 24) - 1  # bytes of a metadata block of FLAC


def _text(value: str) -> bytes:
    """A value as UTF-8; a zero byte would end or split it."""
    return value.replace("\0", "").encode("utf-8", errors="replace")


def _is_name(name: str) -> bool:
    """Whether a name can be that of a Vorbis comment."""
    return bool(name) and all(" " <= letter <= "}" and letter != "=" for letter in name)


# ---- Vorbis comments: FLAC and Opus


def vorbis_comment(tags: Tags, cover: Cover | None = None) -> tuple[bytes, list[Note]]:
    """The comments of a file, and notes on what they can't hold. cover: among them, as Opus has it."""
    lines = [name.encode() + b"=" + _text(value) for name in tags if _is_name(name) for value in tags[name]]
    if cover is not None:
        lines.append(b"METADATA_BLOCK_PICTURE=" + base64.b64encode(picture(cover)))
    parts = [VENDOR.encode(), *lines]
    sized = [struct.pack("<I", len(part)) + part for part in parts]
    return sized[0] + struct.pack("<I", len(lines)) + b"".join(sized[1:]), _unnamed(tags)


def _unnamed(tags: Tags) -> list[Note]:
    names = [ascii(name) for name in tags if not _is_name(name)]
    return [Note("tags", f"tags whose names can't be written are left out: {', '.join(names)}")] if names else []


def picture(cover: Cover) -> bytes:
    """A cover as FLAC's picture block has it; its size in pixels is left open, since the picture says it itself."""
    mime = cover.mime.encode("ascii", errors="replace")
    head = struct.pack(">II", _number(cover), len(mime)) + mime + struct.pack(">I", 0)  # no description
    return head + struct.pack(">IIIII", 0, 0, 0, 0, len(cover.data)) + cover.data


def _number(cover: Cover) -> int:
    return PICTURE_NUMBERS.get(cover.kind, 0)


def flac_blocks(stream_info: bytes, tags: Tags, cover: Cover | None) -> tuple[bytes, list[Note]]:
    """All that stands in front of the frames of a FLAC file, and notes on what it can't hold."""
    comments, notes = vorbis_comment(tags)
    blocks = [(0, stream_info)]  # the numbers of FLAC's kinds of block
    if len(comments) <= _MAX_BLOCK:
        blocks.append((4, comments))
    else:
        notes.append(Note("tags", f"tags of {len(comments)} bytes, more than FLAC can hold, are left out"))
    block = b"" if cover is None else picture(cover)
    if len(block) > _MAX_BLOCK:
        notes.append(Note("attachment", f"a cover of {len(block)} bytes, more than FLAC can hold, is left out"))
    elif cover is not None:
        blocks.append((6, block))
    last = len(blocks) - 1
    heads = [struct.pack(">I", ((index == last) << 7 | kind) << 24 | len(data))
             for index, (kind, data) in enumerate(blocks)]  # fmt: skip
    return b"fLaC" + b"".join(head + data for head, (_, data) in zip(heads, blocks, strict=True)), notes


# ---- ID3v2.4: MP3, and WAV for what INFO can't hold


def id3(tags: Tags, cover: Cover | None) -> bytes:
    """An ID3v2.4 tag, b"" if there is nothing to say. Names without a frame of their own are kept in TXXX."""
    frames = []
    for name, values in tags.items():
        texts = [_text(value) for value in values]
        if name in TOTALS.values() and _joins(tags, _number_of(name)):
            continue  # it stands behind a slash
        if name in TOTALS and _joins(tags, name):
            texts = [texts[0] + b"/" + _text(tags[TOTALS[name]][0])]
        if name in ("COMMENT", "LYRICS"):  # one text in each, of some language; descriptions keep them apart
            kind = "COMM" if name == "COMMENT" else "USLT"
            frames += [
                _frame(kind, b"\x03XXX" + (str(index + 1).encode() if index else b"") + b"\0" + text)
                for index, text in enumerate(texts)
            ]
        elif name in ID3_FRAMES:
            frames.append(_frame(ID3_FRAMES[name], b"\x03" + b"\0".join(texts)))
        else:
            frames.append(_frame("TXXX", b"\x03" + _text(name) + b"\0" + b"\0".join(texts)))
    if cover is not None:
        mime = cover.mime.encode("ascii", errors="replace")
        frames.append(_frame("APIC", b"\x00" + mime + b"\0" + bytes([_number(cover)]) + b"\0" + cover.data))
    body = b"".join(frames)
    return b"ID3\x04\x00\x00" + _syncsafe(len(body)) + body if body else b""


def _number_of(total: str) -> str:
    return next(name for name, other in TOTALS.items() if other == total)


def _joins(tags: Tags, name: str) -> bool:
    """Whether a number and its total can stand in a frame, as 3/12."""
    values = [*tags.get(name, ()), *tags.get(TOTALS[name], ())]
    return len(values) == 2 and name in tags and TOTALS[name] in tags and all(value.isdigit() for value in values)


def _frame(name: str, body: bytes) -> bytes:
    return name.encode() + _syncsafe(len(body)) + b"\0\0" + body


def _syncsafe(number: int) -> bytes:
    """A number of 28 bits, 7 in each byte."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


# ---- RIFF


def info_list(tags: Tags) -> tuple[bytes, Sequence[str]]:
    """The body of a LIST chunk of RIFF with the tags that INFO knows, and the names of those that it can't hold."""
    entries, left = [], []
    for name, values in tags.items():
        if name not in INFO_KEYS or len(values) != 1:
            left.append(name)
            continue
        data = _text(values[0]) + b"\0"
        entries.append(INFO_KEYS[name] + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2))
    return b"INFO" + b"".join(entries) if entries else b"", left
