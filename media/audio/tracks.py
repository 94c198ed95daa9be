"""Containers that may hold pictures or only sound: which, by the tracks that they list.

`media.probe` asks, so that an MP4 or Matroska file of nothing but sound is taken for sound.
"""

from __future__ import annotations

from typing import BinaryIO

from ...errors import MediaError
from . import boxes

__all__ = ["is_only_sound"]

_HEAD = 1 << 20  # bytes in which Matroska's list of tracks is looked for
_SEGMENT, _TRACKS, _ENTRY, _TYPE, _CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0x1F43B675
_VIDEO, _AUDIO = 1, 2


def is_only_sound(file: BinaryIO, start: bytes) -> bool:
    """Whether an MP4, MOV or Matroska file has tracks of sound and none of pictures.

    file: anywhere. start: its first bytes, 12 of them at least.
    """
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        file.seek(0)
        types = _types(file.read(_HEAD))
        return _AUDIO in types and _VIDEO not in types
    n_bytes = file.seek(0, 2)
    try:
        kinds = boxes.kinds_of(file, n_bytes)
    except MediaError:
        return False
    return "soun" in kinds and "vide" not in kinds


def _types(data: bytes) -> set[int]:
    """The types of tracks that a Matroska file lists in front of its packets."""
    types: set[int] = set()
    pending = [(0, len(data))]
    while pending:
        at, end = pending.pop()
        while at < end:
            element = _element(data, at, end)
            if element is None or element[0] == _CLUSTER:
                break
            name, start, stop = element
            if name in (_SEGMENT, _TRACKS, _ENTRY):
                pending.append((start, stop))
            elif name == _TYPE:
                types.add(int.from_bytes(data[start:stop], "big"))
            at = stop
    return types


def _element(data: bytes, at: int, end: int) -> tuple[int, int, int] | None:
    """The name of the element there, where its content begins, and where it ends; None if there is none."""
    n_name = 9 - data[at].bit_length()
    if n_name > 4 or at + n_name >= end:
        return None
    name = int.from_bytes(data[at : at + n_name], "big")
    at += n_name
    n_size = 9 - data[at].bit_length()
    if n_size > 8 or at + n_size > end:
        return None
    size = int.from_bytes(data[at : at + n_size], "big") & ((1 << 7 * n_size) - 1)
    at += n_size
    return name, at, end if size == (1 << 7 * n_size) - 1 else min(end, at + size)
