"""The shape of pixels in a Matroska file, put in afterwards: FFmpeg writes it from a field that PyAV doesn't set.

Nothing in the file moves: FFmpeg leaves a gap (a Void element) in the entry of each track, and what is put in takes its
place. Elements are those of RFC 9559, coded as RFC 8794 says.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

__all__ = ["set_aspect"]

_HEADER = 1 << 20  # bytes at the start of a file in which its tracks are described
_SEGMENT, _TRACKS, _ENTRY, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_VOID, _CRC, _UNIT = 0xEC, 0xBF, 0x54B2
_WIDTH, _HEIGHT = b"\x54\xb0", b"\x54\xba"
_BY_RATIO = 3  # of width and height as displayed: not pixels, but their ratio


class _Element(NamedTuple):
    """An element: its identifier, where it begins, where its content does, and where it ends."""

    key: int
    start: int
    body: int
    end: int


def set_aspect(path: Path, width: int, height: int, aspect: Fraction) -> bool:
    """Make a file say that its pixels have this aspect. Whether that was possible; if not, the file is as it was."""
    with path.open("r+b") as file:
        data = file.read(_HEADER)
        changed = _with_aspect(data, Fraction(width, height) * aspect)
        if changed is None:
            return False
        file.seek(0)
        file.write(changed)
    return True


def _with_aspect(data: bytes, displayed: Fraction) -> bytes | None:
    """The start of a file with another ratio of width to height as displayed, of as many bytes; None if it can't be."""
    if max(displayed.numerator, displayed.denominator) > 0xFFFF:
        return None
    segment = _child(data, _SEGMENT, 0, len(data))
    tracks = None if segment is None else _child(data, _TRACKS, segment.body, len(data))
    if tracks is None or tracks.end > len(data):
        return None
    for entry in _elements(data, tracks.body, tracks.end):
        if entry.key != _ENTRY:
            continue
        video, void = (_child(data, key, entry.body, entry.end) for key in (_VIDEO, _VOID))
        if video is None or void is None:
            continue
        unit = _child(data, _UNIT, video.body, video.end)
        room = void.end - void.start
        grown = video.end - video.body + room  # the gap is filled to its last byte
        if unit is None or not 10 <= room <= 16 or video.body - video.start != 2 or grown >= 127:
            return None
        content = bytearray(data[video.body : video.end])
        content[unit.end - video.body - 1] = _BY_RATIO
        content += _number(_WIDTH, displayed.numerator, 2) + _number(_HEIGHT, displayed.denominator, room - 8)
        made = bytes([_VIDEO, 0x80 | len(content)]) + content
        parts = [data[entry.body : video.start], made, data[video.end : entry.end]]
        if void.start < video.start:
            parts = [data[entry.body : void.start], data[void.end : video.start], made, data[video.end : entry.end]]
        else:
            parts[2:] = [data[video.end : void.start], data[void.end : entry.end]]
        out = data[: entry.body] + b"".join(parts) + data[entry.end :]
        assert len(out) == len(data)
        return _with_checksum(out, tracks)
    return None


def _number(key: bytes, value: int, n_bytes: int) -> bytes:
    return key + bytes([0x80 | n_bytes]) + value.to_bytes(n_bytes, "big")


def _with_checksum(data: bytes, master: _Element) -> bytes:
    """The same with the checksum of an element's content put right, if it has one, in front."""
    first = next(_elements(data, master.body, master.end), None)
    if first is None or first.key != _CRC or first.end - first.body != 4:
        return data
    crc = zlib.crc32(data[first.end : master.end]).to_bytes(4, "little")
    return data[: first.body] + crc + data[first.end :]


def _child(data: bytes, key: int, at: int, end: int) -> _Element | None:
    return next((element for element in _elements(data, at, end) if element.key == key), None)


def _elements(data: bytes, at: int, end: int) -> Iterator[_Element]:
    """The elements from one position to another, in order, but not those inside of them."""
    while at < end - 1:
        n_id = 9 - data[at].bit_length()
        if n_id > 4 or at + n_id >= end:
            return
        n_size = 9 - data[at + n_id].bit_length()
        body = at + n_id + n_size
        if n_size > 8 or body > end:
            return
        size = int.from_bytes(data[at + n_id : body], "big") & ((1 << 7 * n_size) - 1)
        yield _Element(int.from_bytes(data[at : at + n_id], "big"), at, body, body + size)
        at = body + size
