"""Palettes in the metadata of arrays: the colours mixed, where that is shorter.

A palette of 256 colours is 768 bytes, often more than the indices of a small picture take. Its colours are coded as a
row of pixels by `entropy/mixing/levels.py`. Layout in docs/format.md, metadata `colours`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import native
from ...entropy.mixing.levels import BASES, LevelModel
from ...errors import StreamError

__all__ = ["MIXED", "PLAIN", "packed", "unpacked"]

PLAIN, MIXED = "palette", "colours"  # metadata
_HEAD = 8  # bytes in front of the colours of the only palette: media/array.py
_LENGTHS = struct.Struct(">BH")  # what a colour is told from; bytes of the stream


def packed(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an array with its palette mixed, or as they are where that isn't shorter.

    Several palettes stay as they are. So do all where there are no compiled kernels, since mixing is slow there.
    """
    out = dict(detail)
    plain = out.get(PLAIN, b"")
    single = len(plain) > _HEAD and plain[:4] == b"\0\0\0\1"
    end = _HEAD + 3 * (plain[5] + 1) if single else 0
    if not single or len(plain) < end or native.library() is None:
        return out
    colours = np.frombuffer(plain, np.uint8, end - _HEAD, _HEAD).reshape(1, 1, -1, 3)
    streams = [bytes([base]) + LevelModel.new(colours.shape, 8, base).encode(colours) for base in BASES]
    best = min(streams, key=len)
    mixed = plain[:_HEAD] + _LENGTHS.pack(best[0], len(best) - 1) + best[1:] + plain[end:]
    if len(mixed) < len(plain):
        del out[PLAIN]
        out[MIXED] = mixed
    return out


def unpacked(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `packed`; StreamError for what it doesn't write."""
    out = dict(detail)
    mixed = out.pop(MIXED, None)
    if mixed is None:
        return out
    start = _HEAD + _LENGTHS.size
    if len(mixed) < start or PLAIN in out:
        raise StreamError("a palette that is cut, or two of them: the file is damaged")
    base, length = _LENGTHS.unpack_from(mixed, _HEAD)
    if base not in BASES or length > len(mixed) - start:
        raise StreamError("a palette that is cut, or made by a newer version")
    colours = LevelModel.new((1, 1, mixed[5] + 1, 3), 8, base).decode(mixed[start : start + length])
    out[PLAIN] = mixed[:_HEAD] + colours.astype(np.uint8).tobytes() + mixed[start + length :]
    return out
