"""Ogg files, read: which stream holds the sound, its headers, and where it ends. RFC 3533; RFC 7845 for Opus.

Positions count samples from the start of the stream; Opus counts its delay (pre-skip) as well. The last page of a
stream may end before its last packet does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ...errors import MediaError
from ..notes import Note
from . import flac
from .pcm import read_all
from .tags import from_comments
from .timing import Timing
from .values import MAX_COVER, MAX_TAGS

__all__ = ["OggTiming", "timing_of"]

_FIRST, _LAST = 2, 4  # flags of a page
_MAX_HEADER = 2 * MAX_COVER + MAX_TAGS  # bytes: a cover is written in letters
_MAX_PAGES = 1 << 24
_SOUND = {b"OpusHead": "opus", b"\x01vorbis": "vorbis", b"\x7fFLAC": "flac", b"Speex   ": "speex"}


@dataclass
class OggTiming(Timing):
    """The words of an Ogg file. codec: of its sound."""

    codec: str = ""


@dataclass(frozen=True)
class _Page:
    flags: int
    granule: int
    serial: int
    lengths: bytes
    offset: int  # of what it holds
    size: int


def timing_of(stream: BinaryIO, n_bytes: int) -> OggTiming:
    """The words of an Ogg file about its first stream of sound; its pages are walked. stream: at its start."""
    timing = OggTiming()
    serial: int | None = None
    packets = [b""]  # of headers; the last one is being filled
    done = ended = False
    at = 0
    for page in _pages(stream, n_bytes):
        at = page.offset + page.size
        if page.flags & _FIRST:
            if serial is None:
                timing.codec = next((name for mark, name in _SOUND.items() if _begins(stream, page, mark)), "")
                serial = page.serial if timing.codec else None
            elif done and timing.end >= 0:
                words = f"the file goes on after {timing.end} samples with another stream: left out"
                timing.notes.append(Note("track", words))
                break
        if page.serial != serial:
            continue
        if not done:
            done = _collect(stream, page, packets)
        elif page.granule >= 0:
            timing.end = max(timing.end, page.granule)
        ended = ended or bool(page.flags & _LAST)
    if serial is None:
        raise MediaError("an Ogg file without a stream of Opus, Vorbis, FLAC or Speex; expected one")
    _describe(packets, timing)
    if not ended and at < n_bytes and timing.n_samples is None:
        timing.notes.append(Note("cut", "the file ends early, within a page: the sound behind it is missing"))
    return timing


def _pages(stream: BinaryIO, n_bytes: int) -> Iterator[_Page]:
    """The whole pages of a file; what is between them is passed over."""
    at = 0
    for _ in range(_MAX_PAGES):
        stream.seek(at)
        head = read_all(stream, 27)
        if len(head) < 27:
            return
        if head[:5] != b"OggS\0":
            at = _next(stream, at + 1)
            continue
        _, _, flags, granule, serial, _, _, count = struct.unpack("<4sBBqIIIB", head)
        lengths = read_all(stream, count)
        offset = at + 27 + count
        if len(lengths) < count or offset + sum(lengths) > n_bytes:
            return
        yield _Page(flags, granule, serial, lengths, offset, sum(lengths))
        at = offset + sum(lengths)


def _next(stream: BinaryIO, at: int) -> int:
    """The place of the next page from there on; the end of the file if there is none."""
    stream.seek(at)
    kept = b""
    while data := stream.read(1 << 16):
        where = (kept + data).find(b"OggS")
        if where >= 0:
            return at - len(kept) + where
        at += len(data)
        kept = data[-3:]
    return at


def _begins(stream: BinaryIO, page: _Page, mark: bytes) -> bool:
    stream.seek(page.offset)
    return read_all(stream, min(len(mark), page.size)) == mark


def _collect(stream: BinaryIO, page: _Page, packets: list[bytes]) -> bool:
    """Add a page to the packets of headers; whether the first two, and the page they end on, are read."""
    stream.seek(page.offset)
    data = read_all(stream, page.size)
    at = 0
    for length in page.lengths:
        if len(packets) <= 2 and len(packets[-1]) <= _MAX_HEADER:
            packets[-1] += data[at : at + length]
        at += length
        if length < 255:
            packets.append(b"")
    return len(packets) > 2


def _describe(packets: list[bytes], timing: OggTiming) -> None:
    head, comments = packets[0], (packets[1] if len(packets) > 1 else b"")
    if timing.codec == "opus":
        if len(head) < 19:
            raise MediaError("a header of Opus that is damaged or cut")
        timing.skip = int.from_bytes(head[10:12], "little")
        if comments.startswith(b"OpusTags"):
            from_comments(comments[8:], timing.tags)
    elif timing.codec == "vorbis" and comments.startswith(b"\x03vorbis"):
        from_comments(comments[7:], timing.tags)
    elif timing.codec == "flac":
        flac.of_stream_info(head[17:], timing)
        if comments[:1] and comments[0] & 0x7F == 4:
            from_comments(comments[4:], timing.tags)
    elif timing.codec == "speex":
        from_comments(comments, timing.tags)
