"""The metadata of FLAC files (RFC 9639 section 8): length, bits, comments, pictures. Frames are FFmpeg's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from ...errors import MediaError
from .pcm import read_all
from .tags import from_comments, from_id3, picture_of, size_of_id3
from .timing import Timing
from .values import MAX_COVER, MAX_TAGS

__all__ = ["FlacTiming", "of_stream_info", "timing_of"]

_STREAM_INFO, _COMMENTS, _PICTURE = 0, 4, 6
_MAX_BLOCKS = 1 << 10
_MD5_OF_NOTHING = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")


@dataclass
class FlacTiming(Timing):
    """The words of a FLAC file. samples_a_second, channels: as they are. frames_at: bytes before the first frame.

    is_nothing: whether the checksum says that there are no samples.
    """

    samples_a_second: int = 0
    channels: int = 0
    frames_at: int = 0
    is_nothing: bool = False


def timing_of(stream: BinaryIO) -> FlacTiming:
    """The words of a FLAC file's metadata. stream: at its start."""
    timing = FlacTiming()
    at = 0
    while size := size_of_id3(read_all(stream, 10)):
        stream.seek(at)
        from_id3(read_all(stream, min(size, MAX_COVER + MAX_TAGS)), timing.tags)
        at += size
        stream.seek(at)
    stream.seek(at)
    if read_all(stream, 4) != b"fLaC":
        raise MediaError("no FLAC behind its tag: the file is damaged")
    at += 4
    for index in range(_MAX_BLOCKS):
        head = read_all(stream, 4)
        if len(head) < 4:
            raise MediaError("the file ends within its metadata")
        kind, size = head[0] & 0x7F, int.from_bytes(head[1:], "big")
        body = read_all(stream, size) if kind in (_STREAM_INFO, _COMMENTS, _PICTURE) else b""
        if kind == _STREAM_INFO and index == 0:
            of_stream_info(body, timing)
            packed = int.from_bytes(body[10:13], "big")
            timing.samples_a_second, timing.channels = packed >> 4, (packed >> 1 & 7) + 1
            timing.is_nothing = body[18:34] == _MD5_OF_NOTHING
        elif kind == _COMMENTS and size <= MAX_COVER + MAX_TAGS:
            from_comments(body, timing.tags)
        elif kind == _PICTURE:
            picture_of(body, timing.tags)
        at += 4 + size
        stream.seek(at)
        if head[0] & 0x80:
            timing.frames_at = at
            return timing
    raise MediaError(f"more than {_MAX_BLOCKS} blocks of metadata; expected some: the file is damaged")


def of_stream_info(body: bytes, timing: Timing) -> None:
    """Keep what a STREAMINFO block says: the length, 0 for one that isn't known, and the bits."""
    if len(body) < 18:
        raise MediaError("the description of its samples (STREAMINFO) is damaged or cut")
    packed = int.from_bytes(body[10:18], "big")
    timing.n_samples = packed & ((1 << 36) - 1) or None
    timing.bits = (packed >> 36 & 31) + 1
