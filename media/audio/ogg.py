"""Ogg pages (RFC 3533), written: packets in, pages out, in order, so that a pipe can take them.

A page ends after about a second of sound, and the last one says where the sound ends. May import errors.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

__all__ = ["OggWriter"]

_FIRST, _LAST, _CONTINUED = 2, 4, 1  # flags of a page
_MOST = 255  # lengths, of at most 255 bytes each, that a page can list
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class OggWriter:
    """A writer of one logical stream. serial: its number."""

    def __init__(self, file: BinaryIO, serial: int, samples_of_page: int = 48000) -> None:
        self._file, self._serial, self._samples_of_page = file, serial, samples_of_page
        self._sequence = 0
        self._lengths: list[int] = []  # of the page that is being filled, as its table has them
        self._parts: list[bytes] = []
        self._granule = self._begins = 0

    def header(self, packet: bytes) -> None:
        """Write a packet of headers on pages of its own."""
        lengths = _lengths(len(packet))
        for at in range(0, len(lengths), _MOST):
            part = packet[at * 255 : (at + _MOST) * 255]
            flags = (_FIRST if self._sequence == 0 else 0) | (_CONTINUED if at else 0)
            ends = at + _MOST >= len(lengths)
            self._page(flags, 0 if ends else -1, lengths[at : at + _MOST], part)

    def packet(self, packet: bytes, granule: int) -> None:
        """Add a packet of sound. granule: the samples up to its end."""
        lengths = _lengths(len(packet))
        assert len(lengths) <= _MOST, f"a packet of {len(packet)} bytes is longer than a page"
        is_full = len(self._lengths) + len(lengths) > _MOST or granule - self._begins > self._samples_of_page
        if self._lengths and is_full:
            self._flush(0)
        self._lengths += lengths
        self._parts.append(packet)
        self._granule = granule

    def finish(self, granule: int) -> None:
        """Write the last page. granule: where the sound ends; a decoder drops what its last packet has beyond that."""
        self._granule = granule
        self._flush(_LAST)

    def _flush(self, flags: int) -> None:
        self._page(flags, self._granule, self._lengths, b"".join(self._parts))
        self._begins, self._lengths, self._parts = self._granule, [], []

    def _page(self, flags: int, granule: int, lengths: list[int], data: bytes) -> None:
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, self._serial, self._sequence, 0, len(lengths))
        page = head + bytes(lengths) + data
        self._file.write(page[:22] + struct.pack("<I", checksum(page)) + page[26:])
        self._sequence += 1


def _lengths(size: int) -> list[int]:
    """The lengths that stand for a packet: 255 means that it goes on."""
    return [255] * (size // 255) + [size % 255]


def checksum(page: bytes) -> int:
    """Ogg's CRC of a page whose checksum is 0: polynomial 0x04C11DB7, highest bit first, from 0.

    It is the mirror image of zlib's, which is much quicker than a loop: the bits of each byte turned round, in and out.
    """
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
