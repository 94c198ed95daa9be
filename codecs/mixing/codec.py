"""Lossless coding of arrays of integers and of tables by context mixing, which learns while it codes.

After the PAQ family (Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression", 2005). Differs: all
is exact in integers, the same on every machine (`entropy/mixing`). There is nothing to fit and there are no weights:
the codec looks at an array, prices the models that may fit on a part of it, and names the one that it takes in the
stream. Label maps, palette pictures and masks are symbols without an order, photographs and other pictures are levels,
tables are texts. What none makes smaller, as noise, is kept as it is.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk, Header
from ...entropy.mixing.labels import LabelModel
from ...entropy.mixing.levels import BASES, LevelModel, middle_part
from ...entropy.mixing.texts import TextModel
from ...errors import StreamError, UsageError
from ..base.array import ArrayCodec
from ..base.codec import EncodedPixels
from ..base.settings import Setting
from . import CARD
from .sheets import Layout, inflated

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MixCodec"]

_TAG = "Mixd"
_STORED, _ZLIB, _LEVELS, _LABELS, _TEXTS = range(5)  # the first byte of the chunk
_LONGEST, _SIZE = struct.Struct("<H"), struct.Struct("<I")
_MOST_LABELS = 1 << 12
_MOST = 1 << 27  # values that are mixed; more are compressed by zlib


@dataclass(frozen=True, eq=False, repr=False)
class MixCodec(ArrayCodec):
    """The codec `mix`."""

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({_TAG})
    values_per_byte: ClassVar[int] = 8192

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        del device
        if quality is not None:
            raise UsageError("mix is lossless: it has no quality")
        if tag is not None or weights is not None:
            raise UsageError("mix has no weights: leave out the tag, or --weights")
        return cls()

    @property
    def weights_id(self) -> bytes:
        return b""

    # encode

    def encode_array(self, array: NDArray[Any]) -> EncodedPixels:
        best = _stored(array)
        if array.size <= _MOST:
            mixed = (_mixed_texts if array.dtype.kind == "S" else _mixed_integers)(array, len(best) - 1)
            best = mixed if mixed is not None and len(mixed) < len(best) else best
        return EncodedPixels([Chunk(_TAG, best)], {}, "mix", "int")

    # decode

    def decode_array(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        payloads = [chunk.payload for chunk in chunks if chunk.tag == _TAG]
        if header.coder != "mix" or header.arithmetic != "int" or len(payloads) != 1 or not payloads[0]:
            raise StreamError(f"coder {header.coder!r}, {len(payloads)} streams: newer, or damaged")
        method, data = payloads[0][0], payloads[0][1:]
        if method in (_STORED, _ZLIB):
            return _restored(data, header, method)
        if method in (_LEVELS, _LABELS) and header.dtype != "text":
            return _integers(data, header, method)
        if method == _TEXTS and header.dtype == "text":
            return _texts(data, header)
        raise StreamError(f"an array of {header.dtype} coded by method {method}: newer, or damaged")


# ---- kept as they are, or by zlib


def _stored(array: NDArray[Any]) -> bytes:
    """The values, little-endian, as planes of bytes; compressed by zlib where that is shorter."""
    body = _plain(array)
    packed = zlib.compress(body, 9 if len(body) < 1 << 24 else 6)
    return bytes([_ZLIB]) + packed if len(packed) < len(body) else bytes([_STORED]) + body


def _plain(array: NDArray[Any]) -> bytes:
    if array.dtype.kind == "S":  # lengths of cells, which are up to 2^16, then their bytes
        cells = array.reshape(-1).tolist()
        lengths = np.array([len(cell) for cell in cells], "<u4")
        return lengths.tobytes() + b"".join(cells)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
    return np.ascontiguousarray(little.view(np.uint8).reshape(array.size, -1).T).tobytes()


def _restored(data: bytes, header: Header, method: int) -> NDArray[Any]:
    size = int(np.prod(header.shape, dtype=np.int64))
    text = header.dtype == "text"
    most = size * (4 + 255) if text else size * np.dtype(header.dtype).itemsize
    if method == _ZLIB:
        data = inflated(data, min(most, 1100 * len(data) + 64))
    if text:
        return _cells(data, header.shape)
    dtype = np.dtype(header.dtype)
    if len(data) != most:
        raise StreamError(f"{len(data)} bytes for an array of {most}: the file is damaged")
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, size)
    if dtype.kind == "b" and planes.max() > 1:
        raise StreamError("booleans that are neither: the file is damaged")
    values = np.ascontiguousarray(planes.T).view(dtype.newbyteorder("<"))
    return values.astype(dtype).reshape(header.shape)


def _cells(data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    """The table of `_plain`."""
    n = int(np.prod(shape, dtype=np.int64))
    if len(data) < 4 * n:
        raise StreamError("a table that is cut: the file is damaged")
    lengths = np.frombuffer(data, "<u4", n).astype(np.int64)
    ends = 4 * n + np.cumsum(lengths)
    if ends[-1] != len(data) or n * max(1, int(lengths.max())) > 1 << 31:
        raise StreamError("the cells of a table don't fit their lengths: the file is damaged")
    cells = [data[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
    if any(cell.endswith(b"\0") for cell in cells):
        raise StreamError("a cell that ends in a zero: the file is damaged")
    return np.array(cells, f"S{max(1, int(lengths.max()))}").reshape(shape)


# ---- levels and labels


def _mixed_integers(array: NDArray[Any], room: int) -> bytes | None:
    """The payload of an array of integers by its levels or its labels; None if it would be longer than the room."""
    layout = Layout.of(array)
    sheets = layout.levels(array)
    model = LevelModel.fitting(sheets, layout.sheet_bits)
    size = int(sheets.max()) + 1
    part = middle_part(sheets)
    n, height, width, channels = sheets.shape
    if channels == 1 and size <= _MOST_LABELS and height < _MOST >> 4:
        levels = LevelModel.new(part.shape, layout.sheet_bits, model.base).price(part)
        if LabelModel(size, (part.shape[0], part.shape[1], part.shape[2])).price(part[..., 0]) < levels:
            stream = LabelModel(size, (n, height, width)).encode(sheets[..., 0])
            return bytes([_LABELS]) + _SIZE.pack(size) + layout.pack() + stream
    head = bytes([_LEVELS, model.base]) + layout.pack()
    try:
        return head + model.encode(sheets, max(16, room - len(head)))
    except MemoryError:
        return None


def _integers(data: bytes, header: Header, method: int) -> NDArray[Any]:
    size = int(np.prod(header.shape, dtype=np.int64))
    if size > _MOST:
        raise StreamError(f"{size} mixed values; at most {_MOST}: the file is damaged")
    start = _SIZE.size if method == _LABELS else 1
    if len(data) < start:
        raise StreamError("a mixed array that is cut: the file is damaged")
    layout, end = Layout.read(data[start:], size)
    shape, stream, dtype = layout.shape(header.shape), data[start + end :], np.dtype(header.dtype)
    if method == _LEVELS:
        if data[0] not in BASES:
            raise StreamError("levels told from nothing that is known: the file is damaged, or newer")
        sheets = LevelModel.new(shape, layout.sheet_bits, data[0]).decode(stream)
    else:
        (n_labels,) = _SIZE.unpack_from(data)
        if not 1 <= n_labels <= min(_MOST_LABELS, 1 << layout.bits) or shape[3] != 1 or shape[1] >= _MOST >> 4:
            raise StreamError(f"{n_labels} labels on sheets {shape}: the file is damaged")
        sheets = LabelModel(n_labels, shape[:3]).decode(stream).astype(np.uint16)[..., None]
    return layout.array(sheets, header.shape, dtype)


# ---- tables


def _mixed_texts(table: NDArray[Any], room: int) -> bytes | None:
    """The payload of a table; None if it would be longer than the room, or a cell holds a zero."""
    cells = table.reshape(-1).tolist()
    longest = max(map(len, cells))
    if longest >= 1 << 16 or any(b"\0" in cell for cell in cells) or table.size * (longest + 1) > _MOST:
        return None
    try:
        stream = TextModel.new(table.shape[0], table.shape[1], longest).encode(table, max(16, room - _LONGEST.size))
    except MemoryError:
        return None
    return bytes([_TEXTS]) + _LONGEST.pack(longest) + stream


def _texts(data: bytes, header: Header) -> NDArray[Any]:
    if len(data) < _LONGEST.size:
        raise StreamError("a table that is cut: the file is damaged")
    (longest,) = _LONGEST.unpack_from(data)
    n_rows, n_columns = header.shape
    if n_rows * n_columns * (longest + 1) > _MOST:
        raise StreamError(f"a table of {header.shape} cells of up to {longest} bytes: the file is damaged")
    return TextModel.new(n_rows, n_columns, longest).decode(data[_LONGEST.size :])
