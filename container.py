"""The file format: signature, version, a CBOR header with its CRC-32, then chunks of tag, length, payload, CRC-32.

Byte-exact description: docs/format.md. The reader is strict: every length is checked before it is used, every size is
capped before anything is allocated, and there is exactly one way to write each header (RFC 8949 section 4.2,
deterministic encoding), so a file that isn't written that way is refused. The CBOR subset is read and written here, in
about a hundred lines, because a general CBOR reader accepts far more than a file needs (tags, bignums, references,
regular expressions, indefinite lengths). Only the standard library is imported.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from .errors import ContainerError

__all__ = [
    "Buffer",
    "Chunk",
    "ChunkPlace",
    "ChunkReader",
    "Header",
    "Scalar",
    "Value",
    "check_critical",
    "describe",
    "is_container",
    "pack",
    "read_header",
    "unpack",
    "write",
]

SIGNATURE = b"\x89CDC"
VERSION = 1

Buffer = bytes | bytearray | memoryview
Scalar = int | float | str | bytes | bool
Value = Scalar | tuple[Scalar, ...]

# Position in these tables is what the file stores (one byte); a name that isn't listed is stored as text. Append only.
MEDIA = ("image", "audio", "video", "field", "gaussian")
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

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)
_TAG = re.compile(r"[A-Za-z]{4}", re.ASCII)
_PREFIX = struct.Struct(">4sBH")  # signature, version, length of the CBOR
_CHUNK = struct.Struct(">4sI")  # tag, length of the payload
_CRC = struct.Struct(">I")
_EMPTY: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True)
class Header:
    """The header of a file: everything that a decoder needs besides the payload and the weights.

    shape: (H, W, channels incl. alpha) for an image. weights: first 16 bytes of the sha256 of the weights file, or b"".
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


@dataclass(frozen=True)
class Chunk:
    """A tagged piece of payload. tag: four ASCII letters; upper-case first letter: can't be ignored by a reader."""

    tag: str
    payload: bytes

    @property
    def critical(self) -> bool:
        return self.tag[0].isupper()


def is_container(data: Buffer) -> bool:
    """True if data begin with the signature of our files."""
    return bytes(data[: len(SIGNATURE)]) == SIGNATURE


def pack(header: Header, chunks: Sequence[Chunk]) -> bytes:
    """The bytes of a file of this header and these chunks. Raises ContainerError for what the format can't hold."""
    return b"".join(_parts(header, chunks, len(chunks)))


def write(file: BinaryIO, header: Header, chunks: Iterable[Chunk], n_chunks: int) -> int:
    """Writes the bytes of `pack` to a file, chunk by chunk, for what is larger than memory. Returns their number."""
    return sum(file.write(part) for part in _parts(header, chunks, n_chunks))


def _parts(header: Header, chunks: Iterable[Chunk], n_chunks: int) -> Iterator[bytes]:
    """The bytes of a file in pieces: its start, then frame, payload and CRC-32 of each chunk."""
    check_header(header)
    n_items = sum(2 + (len(value) if isinstance(value, tuple) else 0) for value in header.meta.values())
    if n_items > MAX_ITEMS:
        raise ContainerError(f"metadata of {n_items} values and keys: a file holds up to {MAX_ITEMS}; drop some")
    meta = _dump(dict(header.meta))
    if len(meta) > MAX_META:
        raise ContainerError(f"metadata of {len(meta)} bytes: a file holds up to {MAX_META}; drop some (ICC, EXIF)")
    inline = len(meta) <= MAX_META_INLINE
    first: list[Chunk] = []
    if not inline:
        small = zlib.compress(meta, 9)
        first = [Chunk(META_TAG, b"\x01" + small if len(small) < len(meta) else b"\x00" + meta)]
    announced = n_chunks + len(first)
    if announced > MAX_CHUNKS:
        raise ContainerError(f"{announced} chunks: a file holds up to {MAX_CHUNKS}")
    body = _dump(_fields(header, dict(header.meta) if inline else None, announced))
    if len(body) > MAX_HEADER:
        raise ContainerError(f"a header of {len(body)} bytes: at most {MAX_HEADER}; put large params into chunks")
    start = _PREFIX.pack(SIGNATURE, VERSION, len(body)) + body
    crc = zlib.crc32(start)
    yield start + _CRC.pack(crc)
    index = 0
    for index, chunk in enumerate(chain(first, chunks), 1):
        if not _TAG.fullmatch(chunk.tag) or (chunk.tag == META_TAG and (inline or index > 1)):
            raise ContainerError(f"chunk tag {chunk.tag!r}: expected four ASCII letters, and not {META_TAG!r}")
        if len(chunk.payload) > MAX_CHUNK:
            raise ContainerError(f"chunk {chunk.tag} of {len(chunk.payload)} bytes: at most {MAX_CHUNK}; split it")
        frame = _CHUNK.pack(chunk.tag.encode("ascii"), len(chunk.payload))
        yield frame
        yield chunk.payload
        yield _CRC.pack(_chunk_crc(crc, index - 1, frame, chunk.payload))
    assert index == announced, f"{index} chunks; {announced} were announced"


def unpack(data: Buffer) -> tuple[Header, tuple[Chunk, ...]]:
    """The header and the chunks of a file, all of it verified. Raises ContainerError."""
    view = _view(data)
    header, spilled, n_chunks, position, crc = _read_start(view)
    if n_chunks * (_CHUNK.size + _CRC.size) > len(view) - position:
        raise ContainerError(
            f"the file announces {n_chunks} chunks and has {len(view) - position} bytes left for them: "
            "it was cut short, or is damaged; get it again"
        )
    chunks = []
    for index in range(n_chunks):
        chunk, position = _read_chunk(view, position, index, crc)
        chunks.append(chunk)
    if position != len(view):
        raise ContainerError(f"{len(view) - position} bytes follow the last chunk: expected the end of the file")
    if spilled:
        header = replace(header, meta=_parse_meta(chunks.pop(0)))
    if any(chunk.tag == META_TAG for chunk in chunks):
        raise ContainerError(f"a {META_TAG!r} chunk out of place: the file is damaged; get it again")
    return header, tuple(chunks)


def read_header(data: Buffer) -> Header:
    """The header of a file, from all or the beginning of it; the payload is neither needed nor verified."""
    view = _view(data)
    header, spilled, _, position, crc = _read_start(view)
    if spilled:
        chunk, _ = _read_chunk(view, position, 0, crc)
        header = replace(header, meta=_parse_meta(chunk))
    return header


class ChunkPlace(NamedTuple):
    """The place of a chunk in a file: the position of its tag, and the length of its payload, in bytes."""

    tag: str
    position: int
    n_bytes: int

    @property
    def end(self) -> int:
        return self.position + _CHUNK.size + self.n_bytes + _CRC.size


class ChunkReader:
    """A reader of a file on disk (or `io.BytesIO`), chunk by chunk, as strict as `unpack`: what is read is verified.

    header; n_chunks: beside the metadata; start: position of the first of them. Raises ContainerError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.n_bytes = file.seek(0, 2)
        prefix = self._read(0, _PREFIX.size)
        n_header = _PREFIX.unpack(prefix)[2] if len(prefix) == _PREFIX.size else 0
        view = memoryview(self._read(0, _PREFIX.size + n_header + _CRC.size))
        self.header, self._spilled, n_chunks, self.start, self._crc = _read_start(view)
        if self._spilled:
            chunk, self.start = self._chunk(self.start, 0)
            self.header = replace(self.header, meta=_parse_meta(chunk))
        self.n_chunks = n_chunks - self._spilled

    def read(self, index: int, position: int) -> tuple[Chunk, int]:
        """Reads chunk number `index`, which begins at `position`. Returns it, and the position where it ends."""
        chunk, end = self._chunk(position, index + self._spilled)
        if chunk.tag == META_TAG:
            raise ContainerError(f"a {META_TAG!r} chunk out of place: the file is damaged; get it again")
        return chunk, end

    def places(self) -> list[ChunkPlace]:
        """The places of all chunks, found by their lengths alone: as many as announced, and no bytes behind them."""
        if self.n_chunks * (_CHUNK.size + _CRC.size) > self.n_bytes - self.start:
            raise ContainerError(
                f"the file announces {self.n_chunks} chunks and has {self.n_bytes - self.start} bytes left for them: "
                "it was cut short, or is damaged; get it again"
            )
        out, position = [], self.start
        for index in range(self.n_chunks):
            frame = self._read(position, _CHUNK.size)
            if len(frame) < _CHUNK.size:
                raise ContainerError(f"cut short inside chunk {index}: get the file again")
            tag, n_bytes = _CHUNK.unpack(frame)
            place = ChunkPlace(tag.decode("latin-1"), position, n_bytes)
            if place.end > self.n_bytes:
                raise ContainerError(f"chunk {index} announces {n_bytes} bytes, more than are left: get the file again")
            out.append(place)
            position = place.end
        if position != self.n_bytes:
            raise ContainerError(f"{self.n_bytes - position} bytes follow the last chunk: expected the end of the file")
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
    if not isinstance(header.weights, bytes) or len(header.weights) not in (0, 16):
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


def _fields(header: Header, meta: dict[str, Value] | None, n_chunks: int) -> list[object]:
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
    if type(n_chunks) is not int or not 0 <= n_chunks <= MAX_CHUNKS:
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


def _take(view: memoryview, position: int, n_bytes: int) -> tuple[memoryview, int]:
    if n_bytes > len(view) - position:
        raise ContainerError(f"header: {n_bytes} bytes expected, {len(view) - position} left")
    return view[position : position + n_bytes], position + n_bytes
