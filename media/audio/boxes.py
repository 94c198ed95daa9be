"""The boxes of MP4 files that say where the sound of their packets begins and ends. ISO/IEC 14496-12; iTunes' iTunSMPB.

An edit list names the first sample that is heard, often in milliseconds the last one; iTunes writes both in a tag, and
the durations of the packets (stts) may end with a shorter one. `kinds_of` tells whether there are pictures in a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, NamedTuple

from ...errors import MediaError
from ..notes import Note
from .pcm import read_all
from .timing import Timing

__all__ = ["Mp4Timing", "kinds_of", "timing_of"]

_MAX_INDEX = 1 << 28  # bytes of the box of all others (moov)
_MAX_BOXES = 1 << 16
_MAX_EDITS = 1 << 10


@dataclass
class Mp4Timing(Timing):
    """The words of an MP4 file about a track of sound.

    has_fragments: whether packets are described among themselves, so that only reading them tells the length.
    """

    has_fragments: bool = False


class _Track(NamedTuple):
    kind: bytes  # "soun", "vide"
    scale: int  # units of time a second
    n_units: int  # of all packets
    edits: list[tuple[int, int]]  # duration in the file's units, start in the track's


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The boxes in bytes, by name. Boxes that end too late are cut."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return
        size, name = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        start = 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < start:
            return
        yield name, data[at + start : at + size]
        at += size


def _child(data: memoryview, *path: bytes) -> memoryview:
    """The first box at a path of names; empty if there is none."""
    for name in path:
        data = next((body for key, body in _boxes(data) if key == name), memoryview(b""))
    return data


def _index(stream: BinaryIO, n_bytes: int) -> tuple[memoryview, bool]:
    """The box that describes the tracks (moov), empty if there is none; and whether there are fragments (moof)."""
    at, index, has_fragments = 0, memoryview(b""), False
    for _ in range(_MAX_BOXES):
        if at + 8 > n_bytes:
            break
        stream.seek(at)
        head = read_all(stream, 16)
        size, name, start = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, start = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:
            size = n_bytes - at
        if size < start:
            break
        if name == b"moov" and not index:
            if size > _MAX_INDEX:
                raise MediaError(f"an index of {size} bytes; expected at most {_MAX_INDEX}")
            stream.seek(at + start)
            body = read_all(stream, size - start)
            if len(body) == size - start:
                index = memoryview(body)
        has_fragments = has_fragments or name == b"moof"
        at += size
        if index and has_fragments:
            break
    return index, has_fragments


def kinds_of(stream: BinaryIO, n_bytes: int) -> set[str]:
    """The kinds of tracks in an MP4 or MOV file, by the names of their handlers: "soun", "vide", "text"..."""
    index, _ = _index(stream, n_bytes)
    kinds = {
        bytes(_child(body, b"mdia", b"hdlr")[8:12]).decode("latin-1") for name, body in _boxes(index) if name == b"trak"
    }
    return kinds - {""}


def timing_of(stream: BinaryIO, n_bytes: int, number: int = 0) -> Mp4Timing:
    """The words of an MP4 or MOV file about its sound; number: which of its tracks of sound. stream: at its start."""
    index, has_fragments = _index(stream, n_bytes)
    if not index:
        raise MediaError(
            "the index (moov) is missing or cut: the recording or the download wasn't finished; get the file again"
        )
    tracks = [_track(body) for name, body in _boxes(index) if name == b"trak"]
    tracks = [track for track in tracks if track.kind == b"soun"]
    if number >= len(tracks):
        raise MediaError("no sound in it")
    track = tracks[number]
    scale = int.from_bytes(_scale_of(_child(index, b"mvhd")), "big")
    timing = Mp4Timing(rate=track.scale, has_fragments=has_fragments)
    if not 0 < track.scale < 1 << 31:
        raise MediaError(f"times in {track.scale} units a second: the index is damaged")
    _edit(track, scale, timing)
    gapless = _itunes(index) if len(tracks) == 1 else None
    if gapless is not None and sum(gapless) <= track.n_units + 1 and not has_fragments:
        timing.skip, timing.n_samples = gapless[0], gapless[2]
    return timing


def _scale_of(header: memoryview) -> memoryview:
    """The place of the units a second in a header of a file or of a track (mvhd, mdhd)."""
    return header[20:24] if header[:1] == b"\x01" else header[12:16]


def _track(body: memoryview) -> _Track:
    media = _child(body, b"mdia")
    kind = bytes(_child(media, b"hdlr")[8:12])
    scale = int.from_bytes(_scale_of(_child(media, b"mdhd")), "big")
    times = _child(media, b"minf", b"stbl", b"stts")
    count = min(int.from_bytes(times[4:8], "big"), max(0, len(times) - 8) // 8)
    n_units = sum(n * each for n, each in struct.iter_unpack(">II", times[8 : 8 + 8 * count]))
    edits: list[tuple[int, int]] = []
    box = _child(body, b"edts", b"elst")
    wide = box[:1] == b"\x01"
    width, form = (20, ">Qq4x") if wide else (12, ">Ii4x")
    count = min(int.from_bytes(box[4:8], "big"), max(0, len(box) - 8) // width, _MAX_EDITS)
    edits = list(struct.iter_unpack(form, box[8 : 8 + width * count]))
    return _Track(kind, scale, n_units, edits)


def _edit(track: _Track, scale: int, timing: Mp4Timing) -> None:
    """Keep what the edit list says: an empty edit in front is a delay; the first other names the first sample."""
    edits = list(track.edits)
    if edits and edits[0][1] == -1:
        timing.late = edits[0][0] / scale if scale else 0.0
        edits = edits[1:]
    start = edits[0][1] if edits else 0
    if len(edits) > 1 or start < 0 or (start > track.n_units and not timing.has_fragments):
        words = f"an edit list of {len(edits)} parts: the sound is taken as a whole, without it"
        timing.notes.append(Note("time", words))
        start, edits = 0, []
    timing.skip = start
    if timing.has_fragments:
        return
    timing.n_samples = track.n_units - start
    if edits and edits[0][0] and scale:
        heard = Fraction(edits[0][0] * track.scale, scale)
        coarse = Fraction(track.scale, scale)  # what a unit of the file's time is here
        if heard < timing.n_samples - (coarse if coarse > 1 else 0):
            timing.n_samples = round(heard)


def _itunes(index: memoryview) -> tuple[int, int, int] | None:
    """The delay, the padding and the length, in samples, of iTunes' tag; None if there is none."""
    items = _child(index, b"udta", b"meta")[4:]
    for name, body in _boxes(_child(items, b"ilst")):
        if name != b"----" or bytes(_child(body, b"name")[4:]) != b"iTunSMPB":
            continue
        words = bytes(_child(body, b"data")[8:]).split()
        try:
            delay, padding, length = (int(word, 16) for word in words[1:4])
        except ValueError:
            return None
        return (delay, padding, length) if 0 < length < 1 << 40 and delay < 1 << 24 else None
    return None
