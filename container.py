"""The file format: signature, version, a CBOR header with its CRC-32, then chunks of tag, length, payload, CRC-32.

Codecs whose files are a few hundred bytes ask for a compact form: about 20 bytes around one payload, or around each of
several packets, any of which may be lost (`salvage`).

Byte-exact description: docs/format.md. The reader is strict: every length is checked before it is used, every size is
capped before anything is allocated, and there is exactly one way to write each header (RFC 8949 section 4.2,
deterministic encoding), so a file that isn't written that way is refused. The CBOR subset is read and written here, in
about a hundred lines, because a general CBOR reader accepts far more than a file needs (tags, bignums, references,
regular expressions, indefinite lengths). Only the standard library is imported.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from .errors import ContainerError

__all__ = [
    "COMPACT_SIGNATURE",
    "END_TAG",
    "MAX_PACKETS",
    "META_TAG",
    "OPEN",
    "PACKET",
    "SIGNATURE",
    "Buffer",
    "Chunk",
    "ChunkPlace",
    "ChunkReader",
    "ChunkWriter",
    "Header",
    "Scalar",
    "Value",
    "check_critical",
    "describe",
    "is_container",
    "is_whole",
    "pack",
    "read_header",
    "salvage",
    "unpack",
    "write",
]

SIGNATURE = b"\x89CDC"
VERSION = 1
COMPACT_SIGNATURE = b"\x8aCD"
COMPACT_VERSION = 1

Buffer = bytes | bytearray | memoryview
Scalar = int | float | str | bytes | bool
Value = Scalar | tuple[Scalar, ...]

# Position in these tables is what the file stores (one byte); a name that isn't listed is stored as text. Append only.
MEDIA = ("image", "audio", "video", "field", "gaussian", "features")
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")
CODERS = ("", "constriction", "torchac", "webp")
ARITHMETIC = ("", "int", "float64")

MAX_HEADER = 0xFFFF  # bytes of CBOR; the length field has 16 bits
MAX_META = 1 << 24  # bytes of CBOR, after decompression
MAX_META_INLINE = 256  # bytes of CBOR kept in the header; more goes to its own chunk
MAX_ENTRIES = 4096  # of one CBOR array or map
MAX_ITEMS = 1 << 16  # of all arrays and maps of the metadata: keys, values and what is in these
MAX_CHUNKS = 1 << 20
MAX_CHUNK = 0xFFFF_FFFF
META_TAG = "meta"
END_TAG = "Ends"  # of the last chunk of an open-ended file
OPEN = -1  # in place of the number of chunks of one
MAX_COMPACT = 1 << 24  # bytes of a compact file's payload, or of all its packets
MAX_PACKETS = 1 << 10
PACKET = "Pack"  # the tag of a packet; one that was lost is an empty chunk with this tag
WEIGHTS_BYTES = (0, 4, 16)  # that may name the weights; 4 in the compact form alone
MAX_SEARCHED = 1 << 26  # bytes of checksums of what turns out not to be a whole packet
_FAILED = 1 << 12  # bytes of checksums that take as long as a try that fails; a file has MAX_PACKETS of these at most
_PASSED = 1 << 6  # the same for a place that is passed over without a try
_MOST_WHOLE = 4 * MAX_PACKETS  # whole packets that are looked at, copies among them

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)
_TAG = re.compile(r"[A-Za-z]{4}", re.ASCII)
_RAW_TAG = re.compile(rb"[A-Za-z]{4}")
_AGAIN = re.compile(r"[:;] get (?:it|the file) again$")  # the end of an error's words, where another remedy is better
_PREFIX = struct.Struct(">4sBH")  # signature, version, length of the CBOR
_CHUNK = struct.Struct(">4sI")  # tag, length of the payload
_CRC = struct.Struct(">I")
_EMPTY: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True)
class Header:
    """The header of a file: everything that a decoder needs besides the payload and the weights.

    shape: (H, W, channels incl. alpha) for an image. weights: first 16 bytes of the sha256 of the weights file, or b"";
    of a compact file the first 4.
    """

    codec: str
    stream: int
    weights: bytes = b""
    coder: str = ""
    arithmetic: str = ""
    medium: str = "image"
    shape: tuple[int, ...] = (1, 1, 3)
    dtype: str = "uint8"
    params: Mapping[str, Value] = field(default_factory=lambda: _EMPTY)
    meta: Mapping[str, Value] = field(default_factory=lambda: _EMPTY)

    def made_with(self, weights_id: bytes) -> bool:
        """Whether the weights that the header names are those of an id (16 bytes, or b"" for none)."""
        return weights_id.startswith(self.weights) and bool(weights_id) == bool(self.weights)


@dataclass(frozen=True)
class Chunk:
    """A tagged piece of payload. tag: four ASCII letters; upper-case first letter: can't be ignored by a reader."""

    tag: str
    payload: bytes

    @property
    def critical(self) -> bool:
        return self.tag[0].isupper()


_LOST = Chunk(PACKET, b"")  # in the place of a packet that was lost; never written


def is_container(data: Buffer) -> bool:
    """True if data begin with a signature of our files."""
    return bytes(data[: len(SIGNATURE)]).startswith((SIGNATURE, COMPACT_SIGNATURE))


def pack(header: Header, chunks: Sequence[Chunk], compact: bool = False) -> bytes:
    """The bytes of a file of this header and these chunks. Raises ContainerError for what the format can't hold.

    compact: take the compact form if it can hold them.
    """
    form = _form_of(header, chunks) if compact else None
    if form is not None:
        check_header(header)
        return _compact(form, header, chunks)
    return b"".join(_parts(header, chunks, len(chunks)))


def write(file: BinaryIO, header: Header, chunks: Iterable[Chunk], n_chunks: int) -> int:
    """Writes the bytes of `pack` to a file, chunk by chunk, for what is larger than memory. Returns their number."""
    return sum(file.write(part) for part in _parts(header, chunks, n_chunks))


def _parts(header: Header, chunks: Iterable[Chunk], n_chunks: int) -> Iterator[bytes]:
    """The bytes of a file in pieces: its start, then frame, payload and CRC-32 of each chunk."""
    writer = ChunkWriter(header, n_chunks)
    yield writer.start
    n_written = 0
    for chunk in chunks:
        yield from writer.parts(chunk)
        n_written += 1
    assert n_written == n_chunks, f"{n_written} chunks; {n_chunks} were announced"


class ChunkWriter:
    """A writer of a file chunk by chunk, into bytes.

    start: what a file begins with. n_chunks: how many will come; None where nobody knows: the file is open-ended then,
    and its last chunk is the one that `end` makes.
    """

    def __init__(self, header: Header, n_chunks: int | None = None) -> None:
        check_header(header)
        if len(header.weights) == 4:
            raise ContainerError(
                "header: weights named by 4 bytes are for the compact form, which can't hold this file"
            )
        n_items = sum(2 + (len(value) if isinstance(value, tuple) else 0) for value in header.meta.values())
        if n_items > MAX_ITEMS:
            raise ContainerError(f"metadata of {n_items} values and keys: a file holds up to {MAX_ITEMS}; drop some")
        meta = _dump(dict(header.meta))
        if len(meta) > MAX_META:
            raise ContainerError(f"metadata of {len(meta)} bytes: a file holds up to {MAX_META}; drop some (ICC, EXIF)")
        self._inline = len(meta) <= MAX_META_INLINE
        first = [] if self._inline else [_chunk_of_meta(meta)]
        announced = None if n_chunks is None else n_chunks + len(first)
        if announced is not None and announced > MAX_CHUNKS:
            raise ContainerError(f"{announced} chunks: a file holds up to {MAX_CHUNKS}")
        body = _dump(_fields(header, dict(header.meta) if self._inline else None, announced))
        if len(body) > MAX_HEADER:
            raise ContainerError(f"a header of {len(body)} bytes: at most {MAX_HEADER}; put large params into chunks")
        start = _PREFIX.pack(SIGNATURE, VERSION, len(body)) + body
        self._crc, self._index = zlib.crc32(start), 0
        parts = (part for chunk in first for part in self.parts(chunk))
        self.start = b"".join([start, _CRC.pack(self._crc), *parts])

    def parts(self, chunk: Chunk) -> tuple[bytes, bytes, bytes]:
        """The frame, the payload and the CRC-32 of the next chunk. ContainerError for one that can't be."""
        is_meta = chunk.tag == META_TAG and (self._inline or self._index > 0)
        if not _TAG.fullmatch(chunk.tag) or is_meta:
            raise ContainerError(f"chunk tag {chunk.tag!r}: expected four ASCII letters, and not {META_TAG!r}")
        if chunk == _LOST:
            raise ContainerError("an empty packet can't be told from a lost one: write fewer packets")
        if len(chunk.payload) > MAX_CHUNK:
            raise ContainerError(f"chunk {chunk.tag} of {len(chunk.payload)} bytes: at most {MAX_CHUNK}; split it")
        if self._index >= MAX_CHUNKS:
            raise ContainerError(f"more than {MAX_CHUNKS} chunks: a file holds no more")
        frame = _CHUNK.pack(chunk.tag.encode("ascii"), len(chunk.payload))
        crc = _chunk_crc(self._crc, self._index, frame, chunk.payload)
        self._index += 1
        return frame, chunk.payload, _CRC.pack(crc)

    def chunk(self, chunk: Chunk) -> bytes:
        """The bytes of the next chunk."""
        return b"".join(self.parts(chunk))

    def end(self, payload: bytes) -> bytes:
        """The last chunk of an open-ended file."""
        return self.chunk(Chunk(END_TAG, payload))


def _chunk_of_meta(meta: bytes) -> Chunk:
    small = zlib.compress(meta, 9)
    return Chunk(META_TAG, b"\x01" + small if len(small) < len(meta) else b"\x00" + meta)


def unpack(data: Buffer) -> tuple[Header, tuple[Chunk, ...]]:
    """The header and the chunks of a file, all of it verified. Raises ContainerError."""
    view = _view(data)
    try:
        return _unpack_whole(view)
    except ContainerError as error:
        raise _advised(error, _what_is_left(view), is_container(view)) from None


def is_whole(data: Buffer) -> bool:
    """Whether a file is as it was written: `unpack` reads it."""
    try:
        _unpack_whole(_view(data))
    except ContainerError:
        return False
    return True


def _unpack_whole(view: memoryview) -> tuple[Header, tuple[Chunk, ...]]:
    if _is_compact(view):
        return _unpack_compact(view)
    header, spilled, n_chunks, position, crc = _read_start(view)
    if n_chunks * (_CHUNK.size + _CRC.size) > len(view) - position:
        raise ContainerError(
            f"the file announces {n_chunks} chunks and has {len(view) - position} bytes left for them: "
            "it was cut short, or is damaged; get it again"
        )
    chunks: list[Chunk] = []
    while len(chunks) < n_chunks or (n_chunks == OPEN and not (chunks and chunks[-1].tag == END_TAG)):
        chunk, position = _read_chunk(view, position, len(chunks), crc)
        chunks.append(chunk)
    _check_end(len(view) - position)
    return _with_metadata(header, chunks, spilled)


def _with_metadata(header: Header, chunks: list[Chunk], spilled: bool) -> tuple[Header, tuple[Chunk, ...]]:
    """The header and the chunks of a file; spilled: the first chunk holds the metadata, and goes into the header."""
    if spilled:
        header, chunks = replace(header, meta=_parse_meta(chunks[0])), chunks[1:]
    if any(chunk.tag == META_TAG for chunk in chunks):
        raise ContainerError(f"a {META_TAG!r} chunk out of place: the file is damaged; get it again")
    return header, tuple(chunks)


def _check_end(n_more: int) -> None:
    """Raises ContainerError if there are more bytes behind the end of a file."""
    if n_more:
        words = "1 byte follows" if n_more == 1 else f"{n_more} bytes follow"
        raise ContainerError(f"{words} the end of the file, to be cut off")


def read_header(data: Buffer) -> Header:
    """The header of a file, from all or the beginning of it; the payload is neither needed nor verified.

    Of a file in packets it is that of the first whole packet, wherever that is.
    """
    view = _view(data)
    if not is_container(view[: len(SIGNATURE)]) or _is_compact(view):
        compact = _read_compact_header(view)
        if compact is not None:
            return compact
    header, spilled, _, position, crc = _read_start(view)
    if spilled:
        chunk, _ = _read_chunk(view, position, 0, crc)
        header = replace(header, meta=_parse_meta(chunk))
    return header


class ChunkPlace(NamedTuple):
    """The place of a chunk in a file: the position of its tag, and the length of its payload, in bytes.

    n_around: the bytes of the chunk that aren't payload.
    """

    tag: str
    position: int
    n_bytes: int
    n_around: int = _CHUNK.size + _CRC.size

    @property
    def end(self) -> int:
        return self.position + self.n_bytes + self.n_around


class ChunkReader:
    """A reader of a file on disk (or `io.BytesIO`), chunk by chunk, as strict as `unpack`: what is read is verified.

    header; n_chunks: beside the metadata, OPEN where the file doesn't say it; start: position of the first of them.
    Raises ContainerError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.n_bytes = file.seek(0, 2)
        self._compact: list[tuple[ChunkPlace, Chunk]] | None = None
        if self._read(0, len(SIGNATURE)) != SIGNATURE:
            self._read_compact(memoryview(self._read(0, MAX_COMPACT + MAX_PACKETS * 64 + 1)))
            return
        prefix = self._read(0, _PREFIX.size)
        n_header = _PREFIX.unpack(prefix)[2] if len(prefix) == _PREFIX.size else 0
        view = memoryview(self._read(0, _PREFIX.size + n_header + _CRC.size))
        self.header, self._spilled, n_chunks, self.start, self._crc = _read_start(view)
        if self._spilled:
            chunk, self.start = self._chunk(self.start, 0)
            self.header = replace(self.header, meta=_parse_meta(chunk))
        self.n_chunks = OPEN if n_chunks == OPEN else n_chunks - self._spilled

    def read(self, index: int, position: int) -> tuple[Chunk, int]:
        """Reads chunk number `index`, which begins at `position`. Returns it, and the position where it ends."""
        if self._compact is not None:
            place, chunk = self._compact[index]
            if position != place.position:
                raise ContainerError(f"chunk {index} doesn't begin at {position}: expected {place.position}")
            return chunk, place.end
        try:
            chunk, end = self._chunk(position, index + self._spilled)
        except ContainerError as error:
            raise _advised(error, self._advice) from None
        if chunk.tag == META_TAG:
            raise ContainerError(f"a {META_TAG!r} chunk out of place: the file is damaged; get it again")
        return chunk, end

    def places(self) -> list[ChunkPlace]:
        """The places of all chunks, found by their lengths alone: as many as announced, and no bytes behind them."""
        if self._compact is not None:
            return [place for place, _ in self._compact]
        try:
            return self._places()
        except ContainerError as error:
            raise _advised(error, self._advice) from None

    def _places(self) -> list[ChunkPlace]:
        if self.n_chunks * (_CHUNK.size + _CRC.size) > self.n_bytes - self.start:
            raise ContainerError(
                f"the file announces {self.n_chunks} chunks and has {self.n_bytes - self.start} bytes left for them: "
                "it was cut short, or is damaged; get it again"
            )
        out: list[ChunkPlace] = []
        position, is_open = self.start, self.n_chunks == OPEN
        while len(out) < self.n_chunks or (is_open and not (out and out[-1].tag == END_TAG)):
            index = len(out)
            if index >= MAX_CHUNKS:
                raise ContainerError(f"more than {MAX_CHUNKS} chunks: the file is damaged")
            frame = self._read(position, _CHUNK.size)
            if len(frame) < _CHUNK.size:
                raise ContainerError(f"cut short inside chunk {index}: get the file again")
            tag, n_bytes = _CHUNK.unpack(frame)
            place = ChunkPlace(tag.decode("latin-1"), position, n_bytes)
            if place.end > self.n_bytes:
                raise ContainerError(f"chunk {index} announces {n_bytes} bytes, more than are left: get the file again")
            out.append(place)
            position = place.end
        _check_end(self.n_bytes - position)
        return out

    def find(self, tag: str, index: int, start: int, stop: int) -> int | None:
        """The position, from `start` to `stop`, of chunk number `index` if it has this tag and is whole.

        It is found by its tag and its checksum: for a file whose chunks in front of it are damaged.
        """
        data = self._read(start, min(stop, self.n_bytes) - start)
        at = data.rfind(tag.encode())
        for _ in range(100):  # a hostile file could have it everywhere
            if at < 0:
                break
            try:
                self.read(index, start + at)
                return start + at
            except ContainerError:
                at = data.rfind(tag.encode(), 0, at + 3)
        return None

    @cached_property
    def _advice(self) -> str:
        """The words of `_what_is_left`, looked for once: a hostile file could be damaged in each of many chunks."""
        if _PACKETS not in self.header.params:
            return ""
        return _what_is_left(memoryview(self._read(0, 4 * MAX_COMPACT)))

    def check(self, data: bytes, index: int) -> Chunk:
        """The chunk number `index` of the bytes of it alone, as they come through a pipe. ContainerError."""
        chunk, end = _read_chunk(memoryview(data), 0, index + self._spilled, self._crc)
        _check_end(len(data) - end)
        return chunk

    def whole_chunks(self) -> dict[int, Chunk]:
        """The chunks of an open-ended file that are whole, by their numbers: for a file that is damaged.

        A chunk is known by its tag, its length and its checksum, wherever it lies.
        """
        view = memoryview(self._read(self.start, self.n_bytes - self.start))
        whole: dict[int, Chunk] = {}
        for number, chunk in _whole_chunks(view, 0, MAX_CHUNKS, self._crc, None):
            whole.setdefault(number - self._spilled, chunk)
        return whole

    def _read_compact(self, view: memoryview) -> None:
        """A compact file is read and verified whole: it is small."""
        self.header, chunks = unpack(view)
        start = _read_compact_start(view)
        self.start, self.n_chunks, position = 0 if start.n_packets else start.end, len(chunks), 0
        self._spilled, self._crc, self._compact = False, 0, []
        for chunk in chunks:
            end = _read_packet(view, position).end if start.n_packets else len(view)
            at = position if start.n_packets else start.end
            n_bytes = len(chunk.payload)
            self._compact.append((ChunkPlace(chunk.tag, at, n_bytes, end - at - n_bytes), chunk))
            position = end

    def _chunk(self, position: int, index: int) -> tuple[Chunk, int]:
        frame = self._read(position, _CHUNK.size)
        n_bytes = _CHUNK.unpack(frame)[1] if len(frame) == _CHUNK.size else 0
        if position + _CHUNK.size + n_bytes + _CRC.size > self.n_bytes:
            raise ContainerError(f"chunk {index} goes beyond the end of the file: it was cut short, or is damaged")
        view = memoryview(self._read(position, _CHUNK.size + n_bytes + _CRC.size))
        chunk, end = _read_chunk(view, 0, index, self._crc)
        return chunk, position + end

    def _read(self, position: int, n_bytes: int) -> bytes:
        self._file.seek(position)
        return self._file.read(n_bytes)


def check_critical(chunks: Sequence[Chunk], known: Collection[str]) -> None:
    """Raises ContainerError for a critical chunk that a codec doesn't know; ancillary ones may be ignored."""
    for chunk in chunks:
        if chunk.critical and chunk.tag not in known:
            raise ContainerError(
                f"chunk {chunk.tag!r} is needed to decode this file and not known here: made by a newer version, "
                "or damaged; try pip install -U codec-suite"
            )


def describe(source: Buffer | BinaryIO) -> dict[str, Any]:
    """A description of a file, a flat dictionary of plain values (the public `codec.info`). All of it is verified.

    source: its bytes, or the file, open at any place: then memory holds one chunk at a time.
    Keys: codec, stream, weights (hex), coder, arithmetic, medium, shape, dtype, params, meta (sizes in place of bytes),
    chunks (list of [tag, n_bytes]), n_bytes, overhead (bytes that aren't chunk payload); images also have height,
    width, channels and bpp (bits of the whole file per pixel), videos these and frames.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        header, unpacked = unpack(source)
        n_bytes, chunks = len(_view(source)), [[chunk.tag, len(chunk.payload)] for chunk in unpacked]
    else:
        reader = ChunkReader(source)
        header, n_bytes, chunks = reader.header, reader.n_bytes, []
        for index, place in enumerate(reader.places()):
            chunk, _ = reader.read(index, place.position)
            chunks.append([chunk.tag, len(chunk.payload)])
    out: dict[str, Any] = {
        "codec": header.codec,
        "stream": header.stream,
        "weights": header.weights.hex(),
        "coder": header.coder,
        "arithmetic": header.arithmetic,
        "medium": header.medium,
        "shape": list(header.shape),
        "dtype": header.dtype,
        "params": {key: _plain(value) for key, value in header.params.items()},
        "meta": {key: _plain(value) for key, value in header.meta.items()},
        "chunks": chunks,
        "n_bytes": n_bytes,
        "overhead": n_bytes - sum(size for _, size in chunks),
    }
    if header.medium == "image":
        height, width, channels = header.shape
        out |= {"height": height, "width": width, "channels": channels, "bpp": 8 * n_bytes / (height * width)}
    if header.medium == "video" and len(header.shape) == 4:
        frames, height, width, channels = header.shape
        out |= {"frames": frames, "height": height, "width": width, "channels": channels}
        out["bpp"] = 8 * n_bytes / (frames * height * width)
    return out


def check_header(header: Header) -> None:
    """Raises ContainerError unless every field of a header is in its range. The writer and the reader call it."""
    for what, name in (("codec", header.codec), ("medium", header.medium), ("dtype", header.dtype)):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ContainerError(f"header: {what} is {name!r}; expected a short lower-case name")
    for what, name in (("coder", header.coder), ("arithmetic", header.arithmetic)):
        if not isinstance(name, str) or (name and not _NAME.fullmatch(name)):
            raise ContainerError(f"header: {what} is {name!r}; expected a short lower-case name, or nothing")
    if type(header.stream) is not int or not 0 <= header.stream <= 0xFFFF:
        raise ContainerError(f"header: stream version {header.stream!r}; expected 0 to 65535")
    if not isinstance(header.weights, bytes) or len(header.weights) not in WEIGHTS_BYTES:
        raise ContainerError("header: the weights are named by 16 bytes of their sha256, or by none")
    _check_shape(header.medium, header.shape)
    for what, table in (("params", header.params), ("meta", header.meta)):
        if not isinstance(table, Mapping) or len(table) > MAX_ENTRIES:
            raise ContainerError(f"header: {what} must be a map with at most {MAX_ENTRIES} entries")
        for key, value in table.items():
            if not isinstance(key, str) or not 0 < len(key) <= 255:
                raise ContainerError(f"header: {what} has the key {key!r}; expected text of 1 to 255 characters")
            for item in value if isinstance(value, tuple) else (value,):
                if not isinstance(item, (int, float, str, bytes)):
                    raise ContainerError(f"header: {what}[{key!r}] is a {type(item).__name__}; expected a plain value")


def _check_shape(medium: str, shape: object) -> None:
    if not isinstance(shape, tuple) or not all(type(side) is int for side in shape):
        raise ContainerError(f"header: shape is {shape!r}; expected whole numbers")
    n_dims, side, size = ((3, 3), (1 << 20) - 1, 1 << 30) if medium == "image" else ((1, 8), 1 << 40, 1 << 40)
    fits = n_dims[0] <= len(shape) <= n_dims[1] and all(1 <= n <= side for n in shape)
    if fits and medium == "image":
        fits = shape[2] <= 4
    if not fits or math.prod(shape) > size:
        raise ContainerError(
            f"header: {medium} of shape {shape}; expected {n_dims[0]} to {n_dims[1]} sides of 1 to {side}"
            f" and at most {size} values in all"
        )


# ---- layout


def _fields(header: Header, meta: dict[str, Value] | None, n_chunks: int | None) -> list[object]:
    return [
        header.codec,
        header.stream,
        header.weights,
        _code(CODERS, header.coder),
        _code(ARITHMETIC, header.arithmetic),
        _code(MEDIA, header.medium),
        header.shape,
        _code(DTYPES, header.dtype),
        dict(header.params),
        meta,
        n_chunks,
    ]


def _read_start(view: memoryview) -> tuple[Header, bool, int, int, int]:
    """The start of a file: header, whether its metadata are in the first chunk, number of chunks, length, CRC-32."""
    head = bytes(view[: len(SIGNATURE)])
    if head != SIGNATURE[: len(head)] or not head:
        raise ContainerError(f"not a codec file: it begins with {head!r}, expected {SIGNATURE!r}")
    if len(view) < _PREFIX.size:
        raise ContainerError(f"cut short: {len(view)} bytes; get the file again")
    _, version, n_header = _PREFIX.unpack(view[: _PREFIX.size])
    if version != VERSION:
        raise ContainerError(
            f"file format version {version}; this reader knows {VERSION}: pip install -U codec-suite, "
            "or the file is damaged"
        )
    end = _PREFIX.size + n_header
    if len(view) < end + _CRC.size:
        raise ContainerError(f"cut short: {len(view)} bytes, and the header alone needs {end + _CRC.size}")
    crc = zlib.crc32(view[:end])
    if _CRC.unpack(view[end : end + _CRC.size])[0] != crc:
        raise ContainerError("the header is damaged (CRC-32 differs): get the file again")
    fields = _load(view[_PREFIX.size : end], depth=3)
    if not isinstance(fields, tuple) or len(fields) != 11:
        raise ContainerError("header: expected a CBOR array of 11 fields")
    codec, stream, weights, coder, arithmetic, medium, shape, dtype, params, meta, n_chunks = fields
    if n_chunks is None:
        n_chunks = OPEN
    elif type(n_chunks) is not int or not 0 <= n_chunks <= MAX_CHUNKS:
        raise ContainerError(f"header: {n_chunks!r} chunks; expected 0 to {MAX_CHUNKS}")
    spilled = meta is None
    if spilled and n_chunks == 0:
        raise ContainerError("header: the metadata are announced in a chunk, and there is none")
    header = Header(
        codec=codec,
        stream=stream,
        weights=weights,
        coder=_name(CODERS, coder, "coder"),
        arithmetic=_name(ARITHMETIC, arithmetic, "arithmetic"),
        medium=_name(MEDIA, medium, "medium"),
        shape=shape,
        dtype=_name(DTYPES, dtype, "dtype"),
        params=params,
        meta=_EMPTY if spilled else meta,
    )
    check_header(header)
    if len(header.weights) == 4:
        raise ContainerError("header: the weights are named by 16 bytes of their sha256, or by none")
    if not spilled and len(_dump(dict(header.meta))) > MAX_META_INLINE:
        raise ContainerError(f"header: more than {MAX_META_INLINE} bytes of metadata; expected them in a chunk")
    return header, spilled, n_chunks, end + _CRC.size, crc


def _read_chunk(view: memoryview, position: int, index: int, crc: int) -> tuple[Chunk, int]:
    start = position + _CHUNK.size
    if len(view) < start:
        raise ContainerError(f"cut short inside chunk {index}: get the file again")
    tag_bytes, n_bytes = _CHUNK.unpack(view[position:start])
    end = start + n_bytes
    if len(view) < end + _CRC.size:
        raise ContainerError(
            f"chunk {index} announces {n_bytes} bytes and {max(0, len(view) - start - _CRC.size)} are left: "
            "the file was cut short, or is damaged; get it again"
        )
    tag = tag_bytes.decode("latin-1")
    if not _TAG.fullmatch(tag):
        raise ContainerError(f"chunk {index} has the tag {tag_bytes!r}; expected four ASCII letters")
    if tag == PACKET and not n_bytes:
        raise ContainerError("an empty packet: the file is damaged")
    payload = view[start:end]
    if _CRC.unpack(view[end : end + _CRC.size])[0] != _chunk_crc(crc, index, view[position:start], payload):
        raise ContainerError(f"chunk {index} ({tag}) is damaged (CRC-32 differs): get the file again")
    return Chunk(tag, bytes(payload)), end + _CRC.size


def _chunk_crc(header_crc: int, index: int, frame: Buffer, payload: Buffer) -> int:
    """The CRC-32 of a chunk, the header's CRC and its index: a chunk of another file, or moved, doesn't pass."""
    return zlib.crc32(payload, zlib.crc32(frame, zlib.crc32(struct.pack(">II", header_crc, index))))


def _parse_meta(chunk: Chunk) -> Mapping[str, Value]:
    if chunk.tag != META_TAG or not chunk.payload or chunk.payload[0] > 1:
        raise ContainerError(f"expected a {META_TAG!r} chunk first, stored plainly or with zlib; found {chunk.tag!r}")
    data = chunk.payload[1:]
    if chunk.payload[0] == 1:
        unzip = zlib.decompressobj()
        try:
            data = unzip.decompress(data, MAX_META + 1)
        except zlib.error as error:
            raise ContainerError(f"the metadata can't be decompressed ({error}): get the file again") from None
        if not unzip.eof or unzip.unused_data or len(data) > MAX_META:
            raise ContainerError(f"the metadata are cut short or larger than {MAX_META} bytes")
    if not MAX_META_INLINE < len(data) <= MAX_META:
        raise ContainerError(f"{len(data)} bytes of metadata in a chunk; expected {MAX_META_INLINE} to {MAX_META}")
    meta = _load(memoryview(data), depth=2)
    if not isinstance(meta, Mapping):
        raise ContainerError("the metadata aren't a CBOR map")
    check_header(Header("meta", 0, meta=meta))
    return meta


def _code(table: tuple[str, ...], name: str) -> int | str:
    return table.index(name) if name in table else name


def _name(table: tuple[str, ...], code: object, what: str) -> str:
    if type(code) is int and 0 <= code < len(table):
        return table[code]
    if isinstance(code, str) and code not in table:
        return code
    raise ContainerError(f"header: {what} is {code!r}; expected 0 to {len(table) - 1}, or a name: a newer version?")


def _view(data: Buffer) -> memoryview:
    return memoryview(data).cast("B")


def _plain(value: Value) -> object:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


# ---- the compact form


class _Form(NamedTuple):
    """The facts that all compact files of a codec share, which they therefore needn't say.

    tag: of the one chunk. coders, params: names that a file says by their place; every one of the params is there.
    """

    codec: str
    tag: str
    coders: tuple[str, ...]
    params: tuple[str, ...]


# Files name a form, a coder and a parameter by their places: append only (8 coders; a form's params never change).
_FORMS = (_Form("vqgan", "Indx", ("mix", "fixed", "histogram", "circuit"), ("bits",)),)
_KIND, _PACKETS = "k", "packets"  # params that files of any form may have
_GREY, _HAS_KIND, _HAS_PACKETS = 1 << 5, 1 << 6, 1 << 7
_MOST_PARAM = (1 << 21) - 1  # three bytes
_SEVERAL_FILES = "packets of several files: decode them apart"


class _Start(NamedTuple):
    """The start of a compact file, or of a packet: its form, its header, and where it ends."""

    form: _Form
    header: Header
    end: int

    @property
    def n_packets(self) -> int:
        return _whole(self.header.params.get(_PACKETS))


def _is_compact(view: memoryview) -> bool:
    return bytes(view[: len(COMPACT_SIGNATURE)]) == COMPACT_SIGNATURE


def _whole(value: object) -> int:
    """A parameter that is a whole number; 0 for what isn't one."""
    return value if type(value) is int else 0


def _form_of(header: Header, chunks: Sequence[Chunk]) -> _Form | None:
    """The form in which a file can be written; None where it takes the long one."""
    form = next((form for form in _FORMS if form.codec == header.codec), None)
    if form is None or header.coder not in form.coders or header.arithmetic not in ARITHMETIC or header.meta:
        return None
    if header.medium != "image" or header.dtype != "uint8" or header.shape[2:] not in ((1,), (3,)):
        return None
    params = dict(header.params)
    n_packets, kind = params.pop(_PACKETS, None), params.pop(_KIND, 1)
    tags = (form.tag,) if n_packets is None else (PACKET,) * len(chunks)
    fits = tuple(chunk.tag for chunk in chunks) == tags and (n_packets is None or _whole(n_packets) == len(chunks) > 0)
    fits &= len(header.weights) in WEIGHTS_BYTES[1:] and len(chunks) <= MAX_PACKETS
    fits &= sum(len(chunk.payload) for chunk in chunks) <= MAX_COMPACT and _LOST not in chunks
    fits &= 1 <= _whole(kind) < 128 and set(params) == set(form.params)
    return form if fits and all(type(n) is int and 0 <= n <= _MOST_PARAM for n in params.values()) else None


def _compact(form: _Form, header: Header, chunks: Sequence[Chunk]) -> bytes:
    start, out = _compact_start(form, header), []
    for index, chunk in enumerate(chunks):
        place = _varint(index) + _varint(len(chunk.payload)) if _PACKETS in header.params else b""
        part = start + place + chunk.payload
        out.append(part + _CRC.pack(zlib.crc32(part)))
    return b"".join(out)


def _compact_start(form: _Form, header: Header) -> bytes:
    """The bytes in front of a payload, or of a packet's number."""
    params, (height, width, channels) = header.params, header.shape
    flags = form.coders.index(header.coder) | ARITHMETIC.index(header.arithmetic) << 3 | _GREY * (channels == 1)
    flags |= _HAS_KIND * (_KIND in params) | _HAS_PACKETS * (_PACKETS in params)
    names = (*form.params, *(name for name in (_KIND, _PACKETS) if name in params))
    numbers = (*(_whole(params[name]) for name in names), height, width)
    start = COMPACT_SIGNATURE + bytes([COMPACT_VERSION]) + _varint(_FORMS.index(form)) + _varint(header.stream)
    return start + header.weights[:4] + bytes([flags]) + b"".join(map(_varint, numbers))


def _read_compact_start(view: memoryview, at: int = 0) -> _Start:
    """The start of a compact file, or of a packet, at a position. Its checksum isn't looked at."""
    version, position = _take(view, at + len(COMPACT_SIGNATURE), 1)
    if version[0] != COMPACT_VERSION:
        raise ContainerError(
            f"compact form version {version[0]}; this reader knows {COMPACT_VERSION}: pip install -U codec-suite, "
            "or the file is damaged"
        )
    number, position = _read_varint(view, position)
    if number >= len(_FORMS):
        raise ContainerError(f"header: compact form {number}; expected 0 to {len(_FORMS) - 1}: a newer version?")
    form = _FORMS[number]
    stream, position = _read_varint(view, position)
    weights, position = _take(view, position, 4)
    (flags, *_), position = _take(view, position, 1)
    coder, arithmetic = flags & 7, flags >> 3 & 3
    if coder >= len(form.coders) or arithmetic >= len(ARITHMETIC):
        raise ContainerError(f"header: coder {coder}, arithmetic {arithmetic}: a newer version, or damaged")
    extra = ((_KIND, _HAS_KIND), (_PACKETS, _HAS_PACKETS))
    params: dict[str, Value] = {}
    for name in (*form.params, *(name for name, flag in extra if flags & flag)):
        params[name], position = _read_varint(view, position)
    height, position = _read_varint(view, position)
    width, position = _read_varint(view, position)
    shape = (height, width, 1 if flags & _GREY else 3)
    header = Header(
        form.codec,
        stream,
        bytes(weights),
        form.coders[coder],
        ARITHMETIC[arithmetic],
        shape=shape,
        params=MappingProxyType(params),
    )
    check_header(header)
    n_packets = _whole(params.get(_PACKETS, 1))
    ranges_hold = 1 <= n_packets <= MAX_PACKETS and 1 <= _whole(params.get(_KIND, 1)) < 128
    if not ranges_hold or _compact_start(form, header) != bytes(view[at:position]):
        raise ContainerError("header: not as a compact file is written: the file is damaged; get it again")
    return _Start(form, header, position)


class _Packet(NamedTuple):
    """A whole packet: its start, its number, its payload, and the position behind it."""

    start: _Start
    number: int
    payload: bytes
    end: int


def _read_packet(view: memoryview, at: int, spent: list[int] | None = None) -> _Packet:
    """The packet at a position, verified. spent: how many bytes checksums were made of, one number."""
    start = _read_compact_start(view, at)
    if not start.n_packets:
        raise ContainerError("a compact file that isn't in packets among packets: the file is damaged")
    number, position = _read_varint(view, start.end, "a packet's number")
    if number >= start.n_packets:
        raise ContainerError(f"packet {number} of {start.n_packets}: the file is damaged")
    n_bytes, position = _read_varint(view, position, f"packet {number}")
    if not n_bytes:
        raise ContainerError("an empty packet: the file is damaged")
    payload, end = _take(view, position, n_bytes, f"packet {number}")
    crc, position = _take(view, end, _CRC.size, f"packet {number}")
    if spent is not None:
        spent[0] += end - at
    if _CRC.unpack(crc)[0] != zlib.crc32(view[at:end]):
        raise ContainerError(f"packet {number} is damaged (CRC-32 differs): get the file again")
    return _Packet(start, number, bytes(payload), position)


def _unpack_compact(view: memoryview) -> tuple[Header, tuple[Chunk, ...]]:
    start = _read_compact_start(view)
    if len(view) > MAX_COMPACT + MAX_PACKETS * 64:
        raise ContainerError(f"a compact file of {len(view)} bytes; at most {MAX_COMPACT} are expected")
    if start.n_packets:
        return start.header, _unpack_packets(view, start)
    if not _is_sealed(view, start):
        raise ContainerError("the file is damaged or cut short (CRC-32 differs): get it again")
    return start.header, (Chunk(start.form.tag, bytes(view[start.end : -_CRC.size])),)


def _is_sealed(view: memoryview, start: _Start) -> bool:
    """Whether a compact file ends in the CRC-32 of all before."""
    end = len(view) - _CRC.size
    return end >= start.end and _CRC.unpack(view[end:])[0] == zlib.crc32(view[:end])


def _unpack_packets(view: memoryview, start: _Start) -> tuple[Chunk, ...]:
    """All packets of a file, one behind the other."""
    chunks, position = [], 0
    for index in range(start.n_packets):
        if not _is_compact(view[position:]):
            raise ContainerError(f"packet {index} isn't where it is expected: the file is damaged or cut short")
        packet = _read_packet(view, position)
        if packet.number != index or packet.start.header != start.header:
            raise ContainerError(f"another packet in place of number {index}")
        chunks.append(Chunk(PACKET, packet.payload))
        position = packet.end
    _check_end(len(view) - position)
    return tuple(chunks)


def _advised(error: ContainerError, left: str, begins_well: bool = True) -> ContainerError:
    """The error about a damaged file with what is left of it, if anything is, in place of its remedy."""
    words = _AGAIN.sub("", str(error)) if begins_well else "the file doesn't begin with a whole packet"
    return ContainerError(f"{words}: {left}") if left else error


def _what_is_left(view: memoryview) -> str:
    """The end of a sentence about damaged packets: what can be done; "" for a file in which none is whole."""
    try:
        salvaged = _salvaged(view)
    except ContainerError:
        return ""
    packets = [chunk for chunk in salvaged[1] if chunk.tag == PACKET] if salvaged else []
    n_whole = len(packets) - packets.count(_LOST)
    if n_whole == len(packets):
        return f"all {n_whole} packets are whole, and codec decode --conceal takes them" if packets else ""
    return f"{n_whole} of {len(packets)} packets are whole; codec decode --conceal restores the rest, or get it again"


def _read_compact_header(view: memoryview) -> Header | None:
    """The header of a compact file; None for what has no whole packet and doesn't begin as one."""
    if _is_compact(view):
        with contextlib.suppress(ContainerError):  # of the first packet, perhaps: others may be whole
            start = _read_compact_start(view)
            if not start.n_packets and _is_sealed(view, start):
                return start.header
    packet = next(_packets(view), None)
    if packet is not None:
        return packet.start.header
    return _read_compact_start(view).header if _is_compact(view) else None


def _packets(view: memoryview) -> Iterator[_Packet]:
    """The whole packets among any bytes, in their order. Hostile bytes end the search early."""
    data, at, spent, n_whole = bytes(view[: MAX_COMPACT + MAX_PACKETS * 64]), 0, [0], 0
    while spent[0] <= MAX_SEARCHED and n_whole < _MOST_WHOLE and (at := data.find(COMPACT_SIGNATURE, at)) >= 0:
        before = spent[0]
        try:
            packet = _read_packet(view, at, spent)
        except ContainerError:
            at, spent[0] = at + 1, spent[0] + _FAILED
            continue
        spent[0], at, n_whole = before, packet.end, n_whole + 1
        yield packet


def salvage(data: Buffer) -> tuple[Header, tuple[Chunk, ...]]:
    """The header and the chunks of a file in packets, of which any may be missing or damaged, but not all.

    One that was lost is a chunk `PACKET` without payload. ContainerError where nothing is left, for packets of several
    files, and for whatever is wrong with a file that isn't in packets: that one is read as strictly as by `unpack`.
    """
    view = _view(data)
    try:
        return _unpack_whole(view)
    except ContainerError:
        salvaged = _salvaged(view)
        if salvaged is None:
            raise
        return salvaged


def _salvaged(view: memoryview) -> tuple[Header, tuple[Chunk, ...]] | None:
    """`salvage` of a file that isn't whole; None if it isn't in packets."""
    return _salvaged_chunks(view) if bytes(view[: len(SIGNATURE)]) == SIGNATURE else _salvaged_packets(view)


def _salvaged_packets(view: memoryview) -> tuple[Header, tuple[Chunk, ...]] | None:
    by_header: dict[bytes, dict[int, _Packet]] = {}
    for packet in _packets(view):
        same = by_header.setdefault(_compact_start(packet.start.form, packet.start.header), {})
        if same.setdefault(packet.number, packet).payload != packet.payload:
            raise ContainerError(_SEVERAL_FILES)
    if not by_header:
        return None
    packets = max(by_header.values(), key=len)
    start = next(iter(packets.values())).start
    chunks = (Chunk(PACKET, packets[n].payload) if n in packets else _LOST for n in range(start.n_packets))
    return start.header, tuple(chunks)


def _salvaged_chunks(view: memoryview) -> tuple[Header, tuple[Chunk, ...]] | None:
    """`_salvaged` of the long form, whose header and other chunks must be whole; its packets are its first chunks."""
    header, spilled, n_chunks, position, crc = _read_start(view)
    n_packets = _whole(header.params.get(_PACKETS))
    if not 1 <= n_packets <= min(n_chunks - spilled, MAX_PACKETS) or n_chunks > 2 * MAX_PACKETS:
        return None
    whole: dict[int, Chunk] = {}
    for number, chunk in _whole_chunks(view, position, n_chunks, crc):
        if whole.setdefault(number, chunk) != chunk:
            raise ContainerError(_SEVERAL_FILES)
    lost = set(range(n_chunks)) - set(whole)
    packets = range(spilled, spilled + n_packets)
    if not lost.issubset(packets) or len(lost) == n_packets:
        raise ContainerError("more than packets are damaged, or no packet is whole: get the file again")
    return _with_metadata(header, [whole.get(number, _LOST) for number in range(n_chunks)], spilled)


def _whole_chunks(
    view: memoryview, at: int, n_chunks: int, crc: int, most: int | None = _MOST_WHOLE
) -> Iterator[tuple[int, Chunk]]:
    """The whole chunks from a position on, in their order, and their numbers. Hostile bytes end the search early."""
    spent, n_whole = 0, 0
    while spent <= MAX_SEARCHED and (most is None or n_whole < most) and (place := _RAW_TAG.search(view, at)):
        at = place.start()
        if len(view) - at < _CHUNK.size + _CRC.size:
            return
        n_bytes = _CHUNK.unpack(view[at : at + _CHUNK.size])[1]
        end = at + _CHUNK.size + n_bytes + _CRC.size
        if end > len(view):
            at, spent = at + 1, spent + _PASSED
            continue
        number = _number_of(view[at:end], n_chunks, crc)
        chunk = Chunk(place[0].decode("ascii"), bytes(view[at + _CHUNK.size : end - _CRC.size]))
        if number is None or chunk == _LOST:
            at, spent = at + 1, spent + _FAILED + n_bytes * (1 + n_chunks.bit_length())
            continue
        at, n_whole = end, n_whole + 1
        yield number, chunk


def _number_of(chunk: memoryview, n_chunks: int, header_crc: int) -> int | None:
    """The number below n_chunks with which the bytes of a chunk have the CRC-32 that they end in; None if none has.

    Each bit of the number changes the same bits of the CRC-32, whatever the other bits are. So the number solves linear
    equations over GF(2): a CRC-32 for each of its bits, and not for each number that it could be.
    """
    frame, payload, crc = chunk[: _CHUNK.size], chunk[_CHUNK.size : -_CRC.size], chunk[-_CRC.size :]
    crc_of_0 = _chunk_crc(header_crc, 0, frame, payload)
    changes: list[tuple[int, int]] = []  # bits of the CRC-32, by what bits of the number; leading bits differ and fall
    for bit in range((n_chunks - 1).bit_length()):
        change = _chunk_crc(header_crc, 1 << bit, frame, payload) ^ crc_of_0
        changes = sorted([*changes, _eliminated(change, 1 << bit, changes)], reverse=True)
    rest, number = _eliminated(_CRC.unpack(crc)[0] ^ crc_of_0, 0, changes)
    return number if not rest and number < n_chunks else None


def _eliminated(rest: int, number: int, changes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The bits of a CRC-32 that changes of it leave, and the number with the bits of the changes that were taken."""
    for change, bits in changes:
        if rest ^ change < rest:  # the leading bit of the change is in the rest
            rest, number = rest ^ change, number ^ bits
    return rest, number


def _varint(number: int) -> bytes:
    """A number as LEB128 of the fewest bytes."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def _read_varint(view: memoryview, position: int, what: str = "header") -> tuple[int, int]:
    """The number at a position, of at most five bytes in its shortest form, and where it ends."""
    number = 0
    for shift in range(0, 35, 7):
        raw, position = _take(view, position, 1, what)
        number |= (raw[0] & 0x7F) << shift
        if raw[0] < 0x80:
            if not raw[0] and shift:
                break
            return number, position
    raise ContainerError(f"{what}: a number that isn't in its shortest form: the file is damaged")


# ---- CBOR (RFC 8949), the deterministic subset: integers of 64 bits, floats, text, bytes, booleans, null, arrays, maps


def _dump(value: object) -> bytes:
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise ContainerError(f"{value} doesn't fit in 64 bits")
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ContainerError(f"{value} can't be stored in a header: expected a finite number")
        for first, code in ((b"\xf9", ">e"), (b"\xfa", ">f")):
            try:
                packed = struct.pack(code, value)
            except OverflowError:
                continue
            if struct.unpack(code, packed)[0] == value:
                return first + packed
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        try:
            text = value.encode("utf-8")
        except UnicodeEncodeError:
            raise ContainerError(f"{value!r} isn't valid Unicode text") from None
        return _head(3, len(text)) + text
    if isinstance(value, (list, tuple)):
        return _head(4, len(value)) + b"".join(map(_dump, value))
    if isinstance(value, dict):
        items = sorted((_dump(key), _dump(item)) for key, item in value.items())
        return _head(5, len(items)) + b"".join(key + item for key, item in items)
    raise ContainerError(f"a {type(value).__name__} can't be stored in a header: expected a plain value")


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for info, code in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if number < 1 << (8 << (info - 24)):
            return bytes([major << 5 | info]) + struct.pack(code, number)
    raise ContainerError(f"{number} doesn't fit in 64 bits")


def _load(view: memoryview, depth: int) -> Any:
    """The CBOR value that fills `view`. Arrays come as tuples, maps as read-only mappings with text keys."""
    value, position = _item(view, 0, depth, [MAX_ITEMS])
    if position != len(view):
        raise ContainerError(f"header: {len(view) - position} bytes too many behind its CBOR")
    return value


def _item(view: memoryview, position: int, depth: int, left: list[int]) -> tuple[Any, int]:
    """The value that begins at a position, and where it ends. left: how many items there may still be, one number."""
    first, position = _take(view, position, 1)
    major, info = first[0] >> 5, first[0] & 31
    if major == 7:
        return _simple(view, position, info)
    if info < 24:
        number = info
    elif info < 28:
        raw, position = _take(view, position, 1 << (info - 24))
        number = int.from_bytes(raw, "big")
        if number < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]:
            raise ContainerError("header: a CBOR number isn't in its shortest form")
    else:
        raise ContainerError("header: CBOR of indefinite or reserved length isn't accepted")
    if major <= 1:
        if number >= 1 << 63:
            raise ContainerError("header: an integer needs more than 64 bits")
        return (number if major == 0 else -1 - number), position
    if major == 2:
        raw, position = _take(view, position, number)
        return bytes(raw), position
    if major == 3:
        raw, position = _take(view, position, number)
        try:
            return str(raw, "utf-8"), position
        except UnicodeDecodeError:
            raise ContainerError("header: text that isn't UTF-8") from None
    if major == 6:
        raise ContainerError("header: CBOR tags aren't accepted")
    if depth == 0:
        raise ContainerError("header: CBOR nested too deeply")
    if number > MAX_ENTRIES or number * (major - 3) > len(view) - position:
        raise ContainerError(f"header: a CBOR array or map announces {number} entries and can't have them")
    left[0] -= number * (major - 3)
    if left[0] < 0:
        raise ContainerError(f"header: CBOR of more than {MAX_ITEMS} items")
    if major == 4:
        items = []
        for _ in range(number):
            item, position = _item(view, position, depth - 1, left)
            items.append(item)
        return tuple(items), position
    table: dict[str, Any] = {}
    last = b""
    for _ in range(number):
        start = position
        key, position = _item(view, position, 0, left)
        raw_key = bytes(view[start:position])
        if not isinstance(key, str) or raw_key <= last:
            raise ContainerError("header: the keys of a map must be text, sorted, each once")
        last = raw_key
        table[key], position = _item(view, position, depth - 1, left)
    return MappingProxyType(table), position


def _simple(view: memoryview, position: int, info: int) -> tuple[Any, int]:
    if info in (20, 21):
        return info == 21, position
    if info == 22:
        return None, position
    if info not in (25, 26, 27):
        raise ContainerError("header: an unknown simple CBOR value")
    n_bytes, code = {25: (2, ">e"), 26: (4, ">f"), 27: (8, ">d")}[info]
    raw, end = _take(view, position, n_bytes)
    value: float = struct.unpack(code, raw)[0]
    if _dump(value) != bytes(view[position - 1 : end]):  # refuses infinities, NaN too
        raise ContainerError("header: a float isn't in its shortest form")
    return value, end


def _take(view: memoryview, position: int, n_bytes: int, what: str = "header") -> tuple[memoryview, int]:
    if n_bytes > len(view) - position:
        raise ContainerError(f"{what}: {n_bytes} byte{'s' * (n_bytes != 1)} expected, {len(view) - position} left")
    return view[position : position + n_bytes], position + n_bytes
