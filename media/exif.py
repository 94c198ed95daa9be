"""EXIF and TIFF directories: entries read and packed, the orientation found and taken out. Bytes only, no pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = [
    "Entry",
    "as_structure",
    "numbers",
    "orientation",
    "pack",
    "read",
    "says_adobe_rgb",
    "start_of",
    "subset",
    "without_orientation",
]

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
ORIENTATION = 0x0112
EXIF_IFD, GPS_IFD, INTEROP_IFD = 34665, 34853, 40965
DESCRIPTIVE = (269, 270, 271, 272, 285, 305, 306, 315, 316, 33432)  # document, title, device, software, date, author
PREFIX = b"Exif\0\0"
_MAX_ENTRIES = 4096


class Entry(NamedTuple):
    """An entry of a directory: its tag, type and count, and its value in the byte order of the structure."""

    tag: int
    kind: int
    count: int
    value: bytes


def start_of(data: bytes) -> tuple[str, bool, int]:
    """Byte order ("<" or ">"), whether it is a BigTIFF, and where the first directory is. ValueError for no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order or len(data) < 8:
        raise ValueError("it isn't a TIFF structure")
    version = struct.unpack_from(order + "H", data, 2)[0]
    if version == 42:
        return order, False, struct.unpack_from(order + "I", data, 4)[0]
    if version == 43 and len(data) >= 16:
        return order, True, struct.unpack_from(order + "Q", data, 8)[0]
    raise ValueError("it isn't a TIFF structure")


def read(data: bytes, order: str, start: int, big: bool = False) -> tuple[list[Entry], int]:
    """The entries of a directory, and where the next one is (0: there is none). Entries whose value lies outside are
    left out. ValueError if the directory itself does."""
    head, width = (8, 20) if big else (2, 12)
    if start < 8 or start + head > len(data):
        raise ValueError("a directory lies outside")
    n_entries = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    end = start + head + width * n_entries
    if n_entries > _MAX_ENTRIES or end > len(data):
        raise ValueError("a directory is cut")
    entries = []
    room = 8 if big else 4
    for at in range(start + head, end, width):
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, at)
        size = SIZES.get(kind, 0) * count
        place = at + width - room
        if size > room:
            place = struct.unpack_from(order + ("Q" if big else "I"), data, place)[0]
        if kind in SIZES and place + size <= len(data):
            entries.append(Entry(tag, kind, count, data[place : place + size]))
    following = data[end : end + room]
    return entries, int.from_bytes(following, "little" if order == "<" else "big")


def numbers(entry: Entry, order: str) -> tuple[float, ...]:
    """The numbers of an entry: whole ones, floats, or quotients. Empty for text and other types."""
    code = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}
    if entry.kind in code:
        return struct.unpack(f"{order}{entry.count}{code[entry.kind]}", entry.value)
    if entry.kind in (5, 10):
        flat = struct.unpack(f"{order}{2 * entry.count}{'I' if entry.kind == 5 else 'i'}", entry.value)
        return tuple(a / b if b else 0.0 for a, b in zip(flat[::2], flat[1::2], strict=True))
    return ()


def pack(order: str, entries: Iterable[Entry], start: int, below: Mapping[int, Sequence[Entry]] | None = None) -> bytes:
    """A directory that lies at `start`, with its values, and the directories below it (tag of the pointer: entries)."""
    below = below or {}
    table = {entry.tag: entry for entry in entries if entry.tag not in below}
    table |= {tag: Entry(tag, 4, 1, b"") for tag in below}
    head = struct.pack(order + "H", len(table))
    position = start + 2 + 12 * len(table) + 4
    body = b""
    for tag, entry in sorted(table.items()):
        value = entry.value
        if tag in below:
            directory = pack(order, below[tag], position + len(body))
            value = struct.pack(order + "I", position + len(body))
            body += directory + bytes(len(directory) & 1)
        elif len(value) > 4:
            body += value + bytes(len(value) & 1)
            value = struct.pack(order + "I", position + len(body) - len(entry.value) - (len(entry.value) & 1))
        head += struct.pack(order + "HHI", tag, entry.kind, entry.count) + value.ljust(4, b"\0")
    return head + bytes(4) + body


def as_structure(raw: bytes) -> bytes:
    """The TIFF structure in an EXIF block, which some writers prefix once, some twice."""
    while raw.startswith(PREFIX):
        raw = raw[len(PREFIX) :]
    return raw


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in an EXIF structure; 1 if it says none, or can't be read."""
    try:
        order, big, start = start_of(exif)
        entries, _ = read(exif, order, start, big)
    except (ValueError, struct.error):
        return 1
    values = [numbers(entry, order)[:1] for entry in entries if entry.tag == ORIENTATION]
    value = values[-1][0] if values and values[-1] else 1
    return int(value) if value in range(1, 9) else 1


def without_orientation(exif: bytes) -> bytes | None:
    """The EXIF (a TIFF structure) without the orientation entry of IFD 0, and with every other byte where it was.

    Entries behind it move up by 12 bytes inside the directory; offsets elsewhere stay valid (maker notes rely on
    that). None if the structure can't be read.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    start = struct.unpack_from(order + "I", exif, 4)[0]
    if start + 2 > len(exif):
        return None
    n_entries = struct.unpack_from(order + "H", exif, start)[0]
    end = start + 2 + 12 * n_entries
    if end > len(exif):
        return None
    table = [exif[at : at + 12] for at in range(start + 2, end, 12)]
    kept = [item for item in table if struct.unpack_from(order + "H", item)[0] != ORIENTATION]
    if len(kept) == len(table):
        return exif
    following = exif[end : end + 4].ljust(4, b"\x00")
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + following
    return exif[:start] + directory + bytes(12 * (len(table) - len(kept))) + exif[end + 4 :]


def says_adobe_rgb(exif: bytes) -> bool:
    """Whether an EXIF structure says that the colours are Adobe RGB: by a number, or by its interoperability index."""
    try:
        order, _, start = start_of(exif)
        directory = read(exif, order, start)[0]
        for tag in (EXIF_IFD, INTEROP_IFD):
            pointer = next((numbers(entry, order) for entry in directory if entry.tag == tag), ())
            if not pointer:
                return False
            directory = read(exif, order, int(pointer[0]))[0]
            if tag == EXIF_IFD:
                space = next((numbers(entry, order) for entry in directory if entry.tag == 0xA001), ())
                if not space or space[0] != 0xFFFF:
                    return bool(space) and space[0] == 2
        return any(entry.tag == 1 and entry.value.startswith(b"R03") for entry in directory)
    except (ValueError, struct.error):
        return False


def subset(data: bytes, order: str, entries: Sequence[Entry]) -> bytes | None:
    """The EXIF structure of a TIFF's descriptive entries, with its EXIF and GPS directories; None if it has none."""
    kept = [entry for entry in entries if entry.tag in DESCRIPTIVE]
    below = {}
    for tag in (EXIF_IFD, GPS_IFD):
        pointers = [numbers(entry, order) for entry in entries if entry.tag == tag]
        if pointers and pointers[-1]:
            try:
                below[tag] = [e for e in read(data, order, int(pointers[-1][0]))[0] if e.tag != INTEROP_IFD]
            except (ValueError, struct.error):
                continue
    if not kept and not below:
        return None
    return {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8) + pack(order, kept, 8, below)
