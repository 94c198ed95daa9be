"""AIFF and AIFF-C files: their chunks are walked. Apple, "Audio Interchange File Format", 1989; AIFF-C, 1991."""

from __future__ import annotations

from fractions import Fraction
from typing import BinaryIO

from ...errors import MediaError
from ..notes import Note
from .pcm import PcmLayout
from .tags import Tags, text_of
from .values import MAX_COVER, check_shape
from .wav import Forward

__all__ = ["layout_of"]

_MAX_CHUNKS = 1 << 12
_MAX_TEXT = 1 << 16  # bytes
_CODES = {  # by the name of the compression; a number of bytes is added to an order
    b"NONE": ">i",
    b"twos": ">i",
    b"in24": ">i",
    b"in32": ">i",
    b"sowt": "<i",
    b"raw ": "u",
    b"fl32": ">f",
    b"FL32": ">f",
    b"fl64": ">f",
    b"FL64": ">f",
}
_TEXTS = {b"NAME": "TITLE", b"AUTH": "ARTIST", b"(c) ": "COPYRIGHT", b"ANNO": "COMMENT"}


def layout_of(stream: BinaryIO, n_bytes: int) -> PcmLayout | None:
    """The place of an AIFF file's samples; None where they are coded in another way than as PCM (A-law, IMA).

    stream: of a file, at its start. n_bytes: of the file.
    """
    file = Forward(stream, n_bytes)
    head = file.read(12)
    if head[:4] != b"FORM" or head[8:12] not in (b"AIFF", b"AIFC"):
        raise MediaError("an IFF file that isn't AIFF, or is cut in its header")
    common, sound = b"", None
    tags, id3 = Tags(), None
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        name, size, offset = head[:4], int.from_bytes(head[4:], "big"), file.at
        if name == b"COMM":
            common = file.read(min(size, 512))
        elif name == b"SSND":
            start = file.read(8)
            sound = (offset + 8 + int.from_bytes(start[:4], "big"), offset + size) if len(start) == 8 else None
        elif name in _TEXTS and size <= _MAX_TEXT:
            tags.add(_TEXTS[name], text_of(file.read(size)))
        elif name == b"ID3 " and size <= MAX_COVER + _MAX_TEXT:
            id3 = file.read(size)
        if not file.go(offset + size + (size & 1)):
            break
    else:
        raise MediaError(f"more than {_MAX_CHUNKS} chunks; expected some: the file is damaged")
    if len(common) < 18:
        raise MediaError("no description of its samples (COMM): the file is damaged or cut")
    return _layout(common, sound, n_bytes, tags, id3)


def _layout(
    common: bytes, sound: tuple[int, int] | None, n_bytes: int, tags: Tags, id3: bytes | None
) -> PcmLayout | None:
    channels, n_said = int.from_bytes(common[:2], "big"), int.from_bytes(common[2:6], "big")
    bits = int.from_bytes(common[6:8], "big")
    compression = common[18:22] or b"NONE"
    order = _CODES.get(compression)
    if order is None:
        return None
    exact = _extended(common[8:18])
    rate = round(exact)
    check_shape(rate, channels)
    width = {b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"in24": 3, b"in32": 4}.get(compression, -(-bits // 8))
    code = "u1" if (order, width) == ("u", 1) else "i1" if order[1:] == "i" and width == 1 else f"{order}{width}"
    if (code[-1] not in "1234" and code != ">f8") or (order == "u" and width > 1):
        raise MediaError(f"samples of {bits} bits; expected 8 to 32")
    if sound is None:
        if n_said:
            raise MediaError("no samples (SSND) in it: the file is damaged or cut")
        sound = (n_bytes, n_bytes)
    offset, end = sound
    size = max(0, min(end, n_bytes) - offset)
    size = min(size - size % (width * channels), n_said * width * channels)
    notes = list(tags.notes)
    if rate != exact:
        notes.append(Note("time", f"{float(exact):.6f} samples a second: taken as {rate}"))
    return PcmLayout(rate, channels, code, offset, size, n_said, "", tags.values, id3, tuple(notes))


def _extended(data: bytes) -> Fraction:
    """A number of 80 bits: sign, exponent of 15 bits, and 64 bits with the leading 1. MediaError for no rate."""
    exponent = int.from_bytes(data[:2], "big") - 16383 - 63
    if not -63 <= exponent <= 0:
        raise MediaError("a number of samples a second that can't be: the file is damaged")
    return Fraction(int.from_bytes(data[2:], "big"), 1 << -exponent)
