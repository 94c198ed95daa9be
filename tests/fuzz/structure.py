"""Files changed by what they are made of: fields, tags, lengths, counts and payloads, with checksums made right again.

A checksum refuses whatever was changed at random, so that nothing behind it is ever tried. Here a file is taken apart,
changed and put together again by its layout (docs/format.md), not by the code under test. What is compressed inside a
chunk is changed inside, too: the JSON of an HDF5 description, the times and the table of a video, an index of items.
Files of the compact form are taken apart as well: the numbers of their start, and their packets.

    case = Case.drawn("1:42", corpus)          # the same for the same text and corpus
    case.data()                                # the file
    case.without(0).data()                     # the same with one change less, for shrinking
"""

from __future__ import annotations

import json
import lzma
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as field_of
from typing import Any

import cbor2

__all__ = ["OPERATIONS", "Case", "Parts"]

SIGNATURE = b"\x89CDC\x01"
COMPACT = b"\x8aCD"
FORM = ("vqgan", "Indx", ("mix", "fixed", "histogram", "circuit"), "bits")  # the compact form of docs/format.md
PACKETS = "packets"
INTEGERS = (0, 1, 2, 3, 4, 7, 8, 9, 16, 255, 256, 1023, 1024, 4096, 65535, 65536, 1 << 20, 1 << 24, 1 << 28)
INTEGERS += (*((1 << 31) - 1, (1 << 32) - 1, 1 << 32, 1 << 36, 1 << 40, 1 << 62, (1 << 63) - 1), -1, -2, -(1 << 63))
FLOATS = (0.0, 0.5, 1.0, -1.0, 1e-323, 1e-310, 1e-30, 1e30, 1e308)
TEXTS = (
    "",
    "x",
    "/",
    "/d",
    "/victim",
    "victim.h5",
    "../victim.h5",
    "a\0b",
    "\u00e9\u4e2d",
    "x" * 300,
    "|S0",
    "<f8",
    "text",
)
NAMES = ("path", "kind", "dtype", "shape", "storage", "chunks", "maxshape", "gzip", "fill", "scales", "scale", "file")
NAMES += ("target", "attributes", "fields", "offsets", "size", "enum", "of", "bound", "blocks", "how", "track")
KINDS = ("group", "dataset", "external", "soft", "hard", "reference", "type", "text", "bool")
CODES = ("", "int", "float64", "constriction", "webp", "rans", "rans-items", "image", "video", "field", "audio", "text")
CODES += ("gaussian", "grid", "floats", "spz", "sog", "splat", "compressed-ply")
CODES += FORM[2]
MOST_INSIDE = 1 << 20  # bytes of a compressed part that is changed inside


@dataclass
class Parts:
    """A file taken apart: the eleven items of its header, and its chunks as (tag, payload), metadata among them.

    compact: whether it is put together in the compact form, whose start is made of the same items. starts: seeds of
    changes to the bytes of that start, behind which the checksum is right. harm: seeds of what happens to packets after
    that: they get lost, damaged or repeated.
    """

    fields: list[Any]
    chunks: list[tuple[bytes, bytes]]
    n_chunks: int | None = None  # that the header announces, where it lies
    compact: bool = False
    starts: list[int] = field_of(default_factory=list)
    harm: list[int] = field_of(default_factory=list)

    @staticmethod
    def of(data: bytes) -> Parts:
        """The parts of a file that is whole."""
        if data.startswith(COMPACT):
            return _compact_parts(data)
        n_header = struct.unpack(">H", data[5:7])[0]
        fields, at, chunks = list(cbor2.loads(data[7 : 7 + n_header])), 11 + n_header, []
        while at < len(data):
            tag, n_bytes = struct.unpack(">4sI", data[at : at + 8])
            chunks.append((tag, data[at + 8 : at + 8 + n_bytes]))
            at += 12 + n_bytes
        return Parts(fields, chunks)

    def sealed(self) -> bytes:
        """The file of these parts, with right checksums and lengths."""
        if self.compact:
            return _sealed_compact(self)
        fields = [*self.fields]
        if len(fields) == 11:
            announced = None if fields[10] is None else len(self.chunks)  # None: the file is open-ended
            fields[10] = announced if self.n_chunks is None else self.n_chunks
        body = cbor2.dumps(fields, canonical=True)[:0xFFFF]
        start = SIGNATURE + struct.pack(">H", len(body)) + body
        crc = zlib.crc32(start)
        out = [start, struct.pack(">I", crc)]
        for index, (tag, payload) in enumerate(self.chunks):
            frame = tag + struct.pack(">I", len(payload)) + payload
            out += [frame, struct.pack(">I", zlib.crc32(frame, zlib.crc32(struct.pack(">II", crc, index))))]
        return b"".join(out)


def _compact_parts(data: bytes) -> Parts:
    """The parts of a file in the compact form; the one chunk, or its packets in their order."""
    start, at = _compact_start(data, 0)
    fields: list[Any] = [*start, 1]
    if PACKETS not in start[8]:
        return Parts(fields, [(FORM[1].encode(), data[at:-4])], compact=True)
    chunks, at = [], 0
    while at < len(data):
        _, position = _compact_start(data, at)
        _, position = _varint(data, position)
        n_bytes, position = _varint(data, position)
        chunks.append((b"Pack", data[position : position + n_bytes]))
        at = position + n_bytes + 4
    return Parts(fields, chunks, compact=True)


def _compact_start(data: bytes, at: int) -> tuple[list[Any], int]:
    """The first ten items of the header whose compact form begins at a place, and where it ends."""
    _, at = _varint(data, at + 4)  # the codec: there is one
    stream, at = _varint(data, at)
    weights, flags, at = data[at : at + 4], data[at + 4], at + 5
    params: dict[str, int] = {}
    for name in (FORM[3], *["k"] * (flags >> 6 & 1), *[PACKETS] * (flags >> 7)):
        params[name], at = _varint(data, at)
    height, at = _varint(data, at)
    width, at = _varint(data, at)
    shape = [height, width, 1 if flags & 32 else 3]
    return [FORM[0], stream, weights, FORM[2][flags & 7], flags >> 3 & 3, 0, shape, 0, params, {}], at


def _sealed_compact(parts: Parts) -> bytes:
    """The compact file nearest to what parts say: it can't hold all of that."""
    _, stream, weights, coder, arithmetic, _, shape, _, params, *_ = parts.fields
    params = dict(params) if isinstance(params, dict) else {}
    if parts.n_chunks is not None:
        params[PACKETS] = parts.n_chunks
    sides = [*shape, 1, 1, 3] if isinstance(shape, (list, tuple)) else [1, 1, 3]
    flags = FORM[2].index(coder) if coder in FORM[2] else _number(coder) & 7
    flags |= (_number(arithmetic) & 3) << 3 | (sides[2] == 1) << 5 | ("k" in params) << 6 | (PACKETS in params) << 7
    names = (FORM[3], *(name for name in ("k", PACKETS) if name in params))
    start = [COMPACT, b"\x01", b"\0", _varint_bytes(_number(stream))]
    start += [(weights if isinstance(weights, bytes) else b"")[:4].ljust(4, b"\0"), bytes([flags])]
    start += [_varint_bytes(_number(number)) for number in (*(params.get(name) for name in names), *sides[:2])]
    if PACKETS in params:
        payloads = [payload for _, payload in parts.chunks]
        frames = [[*start, _varint_bytes(n), _varint_bytes(len(p)), p] for n, p in enumerate(payloads)]
    else:
        frames = [[*start, b"".join(payload for _, payload in parts.chunks)]]
    for seed in parts.starts:
        _change_start(random.Random(seed), frames)
    bodies = [b"".join(frame) for frame in frames]
    out = [body + struct.pack(">I", zlib.crc32(body)) for body in bodies]
    for seed in parts.harm:
        _harm(random.Random(seed), out)
    return b"".join(out)


def _change_start(rng: random.Random, frames: list[list[bytes]]) -> None:
    """Changes a piece of the start of all packets, or of a few."""
    if not frames:
        return
    at, kind, seed = rng.randrange(len(frames[0]) - 1), rng.randrange(5), rng.getrandbits(32)
    for frame in frames if rng.random() < 0.6 else rng.sample(frames, rng.randint(1, len(frames))):
        piece = frame[at]
        if kind == 0:  # a number that isn't in its shortest form
            frame[at] = piece[:-1] + bytes([piece[-1] | 128, 0]) if piece else b""
        elif kind == 1:
            frame[at] = edited(random.Random(seed), piece)
        elif kind == 2:
            frame[at] = b""
        else:
            frame[at] = _varint_bytes(_number(integer(random.Random(seed), _varint(piece, 0)[0])))


def _harm(rng: random.Random, packets: list[bytes]) -> None:
    """Packets lost, damaged, repeated, in another order."""
    for _ in range(rng.randint(1, 1 + len(packets) // 2)):
        if packets:
            at, kind = rng.randrange(len(packets)), rng.randrange(5)
            if kind <= 1:
                del packets[at]
            elif kind == 2:
                packets[at] = edited(rng, packets[at])
            elif kind == 3:
                packets.insert(rng.randint(0, len(packets)), packets[at])
            else:
                packets[at] = packets[at][: rng.randint(0, len(packets[at]))]


def _number(value: Any) -> int:
    """A number that a varint can hold, of anything."""
    return abs(value) if type(value) is int else 0


@dataclass(frozen=True)
class Case:
    """A file of the corpus, by its place, and the changes that are made to it, each an operation and its own seed."""

    corpus: Sequence[bytes]
    base: int
    changes: tuple[tuple[int, int], ...]
    last: int | None = None  # the seed of a change to the bytes, checksums and all

    @staticmethod
    def drawn(seed: str, corpus: Sequence[bytes]) -> Case:
        """The case of a seed."""
        rng = random.Random(seed)
        count = rng.choice((1, 1, 1, 1, 2, 2, 3, 5))
        weights = [weight for _, weight in OPERATIONS]
        chosen = rng.choices(range(len(OPERATIONS)), weights, k=count)
        changes = tuple((operation, rng.getrandbits(48)) for operation in chosen)
        last = rng.getrandbits(48) if rng.random() < 0.04 else None
        return Case(corpus, rng.randrange(len(corpus)), changes, last)

    def data(self) -> bytes:
        """The file, changed."""
        parts = Parts.of(self.corpus[self.base])
        for operation, seed in self.changes:
            OPERATIONS[operation][0](random.Random(seed), parts, self.corpus)
        out = parts.sealed()
        return out if self.last is None else edited(random.Random(self.last), out)

    def without(self, index: int) -> Case:
        """The case with one change less."""
        return replace(self, changes=self.changes[:index] + self.changes[index + 1 :])

    def words(self) -> str:
        """The names of the changes."""
        names = [OPERATIONS[operation][0].__name__ for operation, _ in self.changes]
        return ", ".join(names + ["bytes"] * (self.last is not None))


# ---- values


def integer(rng: random.Random, near: int = 0) -> int:
    """A number that code may not expect; often one near another."""
    if rng.random() < 0.4:
        value = rng.choice((near - 1, near + 1, near * 2, near // 2, near + 8, near * 255, -near))
        return max(-(1 << 63), min((1 << 63) - 1, value))
    return rng.choice(INTEGERS)


def value(rng: random.Random, like: Any = None) -> Any:
    """A value, more often of the kind of another one."""
    if rng.random() < 0.6:
        if type(like) is int:
            return integer(rng, like)
        if isinstance(like, float):
            return rng.choice((*FLOATS, like * 2, -like))
        if isinstance(like, str):
            return rng.choice((*TEXTS, *KINDS, like[:-1], like + "0"))
        if isinstance(like, bytes):
            return edited(rng, like)
        if isinstance(like, (list, tuple)) and like:
            items = list(like)
            items[rng.randrange(len(items))] = value(rng, items[0])
            return items
    choices: list[Any] = [integer(rng), rng.choice(FLOATS), rng.choice(TEXTS), True, None, [], {}, b"", b"\0" * 16]
    choices += [[integer(rng)] * rng.choice((1, 3, 32)), [[1]], {"a": 1}]
    return rng.choice(choices)


def edited(rng: random.Random, data: bytes) -> bytes:
    """Bytes with a few of them changed, cut, repeated or inserted."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        start, stop = sorted((rng.randint(0, len(out)), rng.randint(0, len(out))))
        kind = rng.randrange(8)
        if kind <= 1 and out:
            out[min(start, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 2 and out:
            out[min(start, len(out) - 1)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 3:
            del out[start:stop]
        elif kind == 4:
            out[start:start] = rng.randbytes(rng.choice((1, 2, 4, 8, 64)))
        elif kind == 5:
            out[start:start] = out[start:stop][:4096]
        elif kind == 6:
            form = rng.choice(("<H", "<I", "<Q", ">I"))
            size = struct.calcsize(form)
            out[start : start + size] = struct.pack(form, integer(rng) % (1 << 8 * size))
        else:
            out[start:stop] = bytes(stop - start)
    return bytes(out)


# ---- operations: each changes parts in place


def shape(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    sides = list(parts.fields[6]) if isinstance(parts.fields[6], list) else [1]
    kind = rng.randrange(4)
    if kind <= 1 and sides:
        at = rng.randrange(len(sides))
        sides[at] = integer(rng, sides[at] if type(sides[at]) is int else 0)
    elif kind == 2:
        sides.insert(rng.randint(0, len(sides)), rng.choice((1, 2, 3, 8)))
    elif sides:
        del sides[rng.randrange(len(sides))]
    parts.fields[6] = sides


def field(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    at = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9))
    choices = [value(rng, parts.fields[at]), rng.randrange(10), rng.choice(CODES)]
    parts.fields[at] = rng.choice(choices)


def swapped_field(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """A field, or codec, stream and weights together, of another file."""
    other = Parts.of(rng.choice(corpus)).fields
    for at in rng.choice(((0, 1, 2), (2,), (3,), (4,), (5,), (6,), (7,), (8,), (9,), (0, 1, 2, 5))):
        parts.fields[at] = other[at]


def table(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """An entry of params or of metadata."""
    at = rng.choice((8, 8, 8, 9))
    entries = dict(parts.fields[at]) if isinstance(parts.fields[at], dict) else {}
    names = ("k", "q", "g", "c", "s", "p", "n", "preset", "tb", "notes", "icc", "bits", PACKETS)
    key = rng.choice([*entries, rng.choice(names)])
    if rng.random() < 0.15:
        entries.pop(key, None)
    else:
        entries[key] = value(rng, entries.get(key))
    parts.fields[at] = entries


def count(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    parts.n_chunks = integer(rng, len(parts.chunks))


def tag(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    if parts.chunks:
        at = rng.randrange(len(parts.chunks))
        tags = [tag for tag, _ in parts.chunks] + [b"meta", b"fill", b"Xyzw", b"Alph", b"\0\0\0\0"]
        parts.chunks[at] = (rng.choice(tags), parts.chunks[at][1])


def order(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """Chunks left out, repeated, in another order."""
    if parts.chunks:
        i, j = rng.randrange(len(parts.chunks)), rng.randrange(len(parts.chunks))
        kind = rng.randrange(3)
        if kind == 0:
            del parts.chunks[i]
        elif kind == 1:
            parts.chunks.insert(j, parts.chunks[i])
        else:
            parts.chunks[i], parts.chunks[j] = parts.chunks[j], parts.chunks[i]


def packets(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """The params say as many packets as there are chunks, or none."""
    if isinstance(parts.fields[8], dict):
        parts.fields[8] = {**parts.fields[8], PACKETS: len(parts.chunks)} if rng.random() < 0.8 else {FORM[3]: 3}


def start(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """The numbers of a compact file's start; of other files a field."""
    if parts.compact:
        parts.starts.append(rng.getrandbits(48))
    else:
        field(rng, parts, corpus)


def harm(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """Packets are lost, damaged or repeated on their way; of files without some a chunk."""
    if parts.compact:
        parts.harm.append(rng.getrandbits(48))
    else:
        order(rng, parts, corpus)


def layout(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """The same in the other of the two layouts."""
    parts.compact = not parts.compact


def splice(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """A chunk of another file, in addition or in place of one."""
    other = Parts.of(rng.choice(corpus)).chunks
    if other and parts.chunks:
        at = rng.randrange(len(parts.chunks))
        parts.chunks[at : at + rng.randrange(2)] = [rng.choice(other)]


def payload(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    if parts.chunks:
        at = rng.randrange(len(parts.chunks))
        name, data = parts.chunks[at]
        parts.chunks[at] = (name, edited(rng, data))


def inside(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """A compressed or nested part of a chunk, changed and packed again."""
    if not parts.chunks:
        return
    at = rng.randrange(len(parts.chunks))
    name, data = parts.chunks[at]
    if name == b"Grps":
        parts.chunks[at] = (name, _varints_changed(rng, data))
        return
    if name == b"Grou":
        n, start = _varint(data, 0)
        body = edited(rng, data[start : start + n])
        parts.chunks[at] = (name, _varint_bytes(len(body)) + body + data[start + n :])
        return
    for start in (0, 1, 4, 5):
        for opened, packed in ((_inflated, lambda body: zlib.compress(body, 9)), (_unpacked_xz, lzma.compress)):
            content = opened(data[start:])
            if content is not None:
                body, rest = content
                changed = _json_changed(rng, body) if body[:1] in b"{[" and body else edited(rng, body)
                parts.chunks[at] = (name, data[:start] + packed(changed) + rest)
                return
    parts.chunks[at] = (name, edited(rng, data))


def described(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """The description of an HDF5 file; of other files as `inside`."""
    for at, (name, data) in enumerate(parts.chunks):
        if name == b"Tree" and (content := _inflated(data)) is not None:
            parts.chunks[at] = (name, zlib.compress(_json_changed(rng, content[0]), 9))
            return
    inside(rng, parts, corpus)


def filled(rng: random.Random, parts: Parts, corpus: Sequence[bytes]) -> None:
    """Zeros behind, so that a larger size can be claimed."""
    parts.chunks.append((b"fill", bytes(rng.choice((64, 1024, 16384)))))


OPERATIONS: tuple[tuple[Callable[[random.Random, Parts, Sequence[bytes]], None], int], ...] = (
    (shape, 5),
    (field, 3),
    (swapped_field, 3),
    (table, 5),
    (count, 1),
    (tag, 2),
    (order, 3),
    (splice, 3),
    (payload, 8),
    (inside, 6),
    (described, 6),
    (filled, 1),
    (packets, 1),
    (start, 2),
    (harm, 2),
    (layout, 1),
)


# ---- what is inside


def _inflated(data: bytes) -> tuple[bytes, bytes] | None:
    """The content of a zlib stream and what follows it; None for anything else."""
    unzip = zlib.decompressobj()
    try:
        body = unzip.decompress(data, MOST_INSIDE)
    except zlib.error:
        return None
    return (body, unzip.unused_data) if unzip.eof else None


def _unpacked_xz(data: bytes) -> tuple[bytes, bytes] | None:
    if not data.startswith(b"\xfd7zXZ"):
        return None
    unpack = lzma.LZMADecompressor(memlimit=1 << 28)
    try:
        body = unpack.decompress(data, MOST_INSIDE)
    except lzma.LZMAError:
        return None
    return (body, unpack.unused_data) if unpack.eof else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (seven bits a byte, low first) and where it ends."""
    number, shift = 0, 0
    while at < len(data):
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            break
    return number, at


def _varint_bytes(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _varints_changed(rng: random.Random, data: bytes) -> bytes:
    numbers, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(number)
    at = rng.randrange(len(numbers) + 1)
    if at == len(numbers):
        numbers *= 2
    else:
        numbers[at] = abs(integer(rng, numbers[at]))
    return b"".join(map(_varint_bytes, numbers))


def _json_changed(rng: random.Random, text: bytes) -> bytes:
    """A JSON text with some of its values changed, left out, repeated, or put elsewhere."""
    try:
        root = json.loads(text.decode("utf-8", "surrogatepass"))
    except ValueError:
        return edited(rng, text)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = _places(root)
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif kind == 2 and isinstance(holder, dict):
            holder[rng.choice(NAMES)] = rng.choice((value(rng), rng.choice(KINDS), holder[key]))
        elif kind == 3:
            other, other_key = rng.choice(places)
            holder[key] = other[other_key]
        else:
            changed = value(rng, holder[key])
            holder[key] = None if isinstance(changed, bytes) else changed
    try:
        return json.dumps(root).encode()[:MOST_INSIDE]
    except (TypeError, ValueError, RecursionError):  # something inside itself
        return edited(rng, text)


def _places(root: Any) -> list[tuple[Any, Any]]:
    """All places of a JSON value: what holds each, and its key there."""
    out: list[tuple[Any, Any]] = []
    waiting, seen = [root], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen or not isinstance(item, (list, dict)):
            continue
        seen.add(id(item))
        keys = list(item) if isinstance(item, dict) else range(len(item))
        out += [(item, key) for key in keys]
        waiting += [item[key] for key in keys]
    return out
