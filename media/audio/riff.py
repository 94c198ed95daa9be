"""WAV files, written: 16, 24 and 32 bits and float32, any number of channels, RF64 beyond 4 GiB, pipes.

A long file, or one whose length isn't known, keeps room for RF64's sizes in a JUNK chunk, as EBU Tech 3306 recommends.
A pipe gets the sizes that `n_samples` promises, or 0xFFFFFFFF, which readers take for "up to the end". May import
layouts, tagging, values, notes and errors.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ..notes import Note
from .layouts import mask_of
from .tagging import id3, info_list
from .values import BITS, AudioInfo

__all__ = ["WavSink", "little_endian"]

_OPEN = 0xFFFFFFFF  # a size that isn't said here
_LONG = 1 << 31  # bytes of samples from which there is room for RF64's sizes
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID = bytes.fromhex("0000 00001000 8000 00aa00389b71")  # what follows the format's number in an extensible header
_DS64 = 28  # bytes of the body of a ds64 chunk


def little_endian(samples: NDArray[Any], bits: int) -> bytes:
    """Samples as WAV has them: interleaved, little-endian, 24 bits in three bytes."""
    if bits == 24:
        return np.ascontiguousarray(samples, "<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes()


class WavSink:
    """A WAV that is being written. info: its `sample` is what is stored.

    seekable: whether sizes can be put in at the end.
    """

    frame_size = 0  # any number of samples at once

    def __init__(self, file: BinaryIO, info: AudioInfo, seekable: bool) -> None:
        self._file, self._info, self._seekable = file, info, seekable
        self._bits = BITS[info.sample]
        self._width = self._bits // 8 * info.channels  # bytes of a sample of all channels
        self._n_samples = 0
        self.notes: list[Note] = []
        self._texts = _texts(info)
        self._has_room = info.n_samples is None or info.n_samples * self._width >= _LONG
        self._file.write(self._head(info.n_samples))

    def write(self, samples: NDArray[Any]) -> None:
        self._file.write(little_endian(samples, self._bits))
        self._n_samples += len(samples)

    def finish(self) -> None:
        n_samples, promised = self._n_samples, self._info.n_samples
        self._file.write(b"\0" * (n_samples * self._width % 2))
        if n_samples == promised:
            return
        if self._seekable:
            self._file.seek(0)
            self._file.write(self._head(n_samples))
        elif promised is not None:
            raise MediaError(
                f"{n_samples} samples came where {promised} were announced, and the header of a pipe can't be changed "
                "any more: write a file"
            )

    def drop(self) -> None:
        return

    def _head(self, n_samples: int | None) -> bytes:
        """All that stands in front of the samples; its length is the same for any number of them."""
        body = self._format() + self._fact(n_samples) + self._texts
        room = 8 + _DS64 if self._has_room else 0
        junk = _chunk(b"JUNK", bytes(_DS64)) if room else b""
        if n_samples is None:
            return b"RIFF" + _le4(_OPEN) + b"WAVE" + junk + body + b"data" + _le4(_OPEN)
        n_bytes = n_samples * self._width
        total = 4 + room + len(body) + 8 + n_bytes + n_bytes % 2
        if total < _OPEN:
            return b"RIFF" + _le4(total) + b"WAVE" + junk + body + b"data" + _le4(n_bytes)
        if not room:
            raise MediaError(
                f"{n_samples} samples came where {self._info.n_samples} were announced: a header too short"
            )
        sizes = _chunk(b"ds64", struct.pack("<QQQI", total, n_bytes, n_samples, 0))
        return b"RF64" + _le4(_OPEN) + b"WAVE" + sizes + body + b"data" + _le4(_OPEN)

    def _format(self) -> bytes:
        info = self._info
        code = _FLOAT if info.sample == "float32" else _PCM
        mask = mask_of(info.layout, info.channels)
        is_plain = info.sample in ("int16", "float32") and info.channels <= 2 and mask == mask_of("", info.channels)
        kind = code if is_plain else _EXTENSIBLE
        n_bytes = info.rate * self._width  # a second
        head = struct.pack("<HHIIHH", kind, info.channels, info.rate, n_bytes, self._width, self._bits)
        if not is_plain:
            head += struct.pack("<HHIH", 22, self._bits, mask, code) + _GUID
        elif code == _FLOAT:
            head += b"\0\0"
        return _chunk(b"fmt ", head)

    def _fact(self, n_samples: int | None) -> bytes:
        """The number of samples, which WAV wants of all that isn't plain integers."""
        if self._info.sample != "float32":
            return b""
        return _chunk(b"fact", _le4(_OPEN if n_samples is None else min(n_samples, _OPEN)))


def _texts(info: AudioInfo) -> bytes:
    """The chunks of tags and cover: INFO for what it knows, and ID3v2 with all of it where that isn't enough."""
    listed, left = info_list(info.tags)
    chunks = _chunk(b"LIST", listed) if listed else b""
    return chunks + _chunk(b"id3 ", id3(info.tags, info.cover)) if left or info.cover is not None else chunks


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + _le4(len(body)) + body + b"\0" * (len(body) % 2)


def _le4(number: int) -> bytes:
    return struct.pack("<I", number)
