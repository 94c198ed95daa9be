"""Arrays of integers as sheets of levels, and back: how their axes, their types and their alphabets are laid out.

A layout is a few numbers that go with the stream. `Layout.of` looks at an array, `Layout.read` at a header and bytes.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StreamError

__all__ = ["Layout", "inflated", "sheet_shape"]

_MOST_RANKS = 1 << 16  # values that are told by their rank
_HEAD = struct.Struct("<BQBI")  # whether ranks, the least value as 64 bits, bits, bytes of the alphabet
_RANKS, _TURNED, _COLOURS = 1, 2, 4  # flags
_MOST_COLOURS = 1 << 12  # of pictures that are told by the ranks of their colours


def sheet_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The sheets (n, h, w, c) of an array: two axes are one sheet; a last axis of three or four, or short behind three
    others, is channels."""
    if len(shape) == 1:
        return 1, 1, shape[0], 1
    if len(shape) == 2:
        return 1, shape[0], shape[1], 1
    if len(shape) == 3 and shape[2] in (3, 4):
        return 1, shape[0], shape[1], shape[2]
    if len(shape) >= 4 and shape[-1] <= 4:
        return math.prod(shape[:-3]), shape[-3], shape[-2], shape[-1]
    assert len(shape) >= 3  # fewer have returned; a type checker can't tell
    return math.prod(shape[:-2]), shape[-2], shape[-1], 1


def inflated(data: bytes, limit: int) -> bytes:
    """The content of a zlib stream; StreamError if it is damaged, or longer than the limit."""
    inflate = zlib.decompressobj()
    try:
        out = inflate.decompress(data, limit + 1)
    except zlib.error as error:
        raise StreamError(f"a damaged part of the file: {error}") from None
    if len(out) > limit or not inflate.eof or inflate.unused_data:
        raise StreamError("a part of the file is cut, or longer than it may be: the file is damaged")
    return out


@dataclass(frozen=True, eq=False)
class Layout:
    """How integers become levels.

    low: the least value. ranks: the rising values less `low`, of which levels are the indices; None: levels are values
    less `low`. bits: of a level. turned: whether the second of three or four channels comes first. colours: whether a
    value is a colour, its channels of 8 bits beside each other.
    """

    low: int
    bits: int
    ranks: NDArray[np.uint64] | None = None
    turned: bool = False
    colours: bool = False

    @staticmethod
    def of(array: NDArray[Any]) -> Layout:
        """The layout of an array: by ranks, if these are few and save bits."""
        if array.dtype == np.uint8 and sheet_shape(array.shape)[3] >= 3:
            colours = np.unique(_packed(array))
            if len(colours) <= min(_MOST_COLOURS, max(2, array.size // 64)):
                return Layout(0, max(1, (len(colours) - 1).bit_length()), colours.astype(np.uint64), colours=True)
        values, low = _offsets(array)
        most = int(values.max())
        distinct = np.unique(values) if most >> 8 or most.bit_length() > 1 else None
        shape = sheet_shape(array.shape)
        turned = shape[3] >= 3 and most < 1 << 16
        if distinct is not None and len(distinct) <= min(_MOST_RANKS, max(256, array.size // 64)):
            bits = max(1, (len(distinct) - 1).bit_length())
            if bits < most.bit_length():
                return Layout(low, bits, distinct.astype(np.uint64), turned)
        return Layout(low, max(1, most.bit_length()), None, turned)

    def pack(self) -> bytes:
        """The layout as bytes, for `read`."""
        alphabet = b"" if self.ranks is None else _packed_ranks(self.ranks)
        flags = _RANKS * (self.ranks is not None) + _TURNED * self.turned + _COLOURS * self.colours
        return _HEAD.pack(flags, self.low & ((1 << 64) - 1), self.bits, len(alphabet)) + alphabet

    @staticmethod
    def read(data: bytes, size: int) -> tuple[Layout, int]:
        """The layout in front of some bytes, and how many it took. size: of the array; StreamError for nonsense."""
        if len(data) < _HEAD.size:
            raise StreamError("a layout is cut: the file is damaged")
        flags, low, bits, n_bytes = _HEAD.unpack_from(data)
        end = _HEAD.size + n_bytes
        if (
            flags not in (0, 1, 2, 3, 5)
            or not 1 <= bits <= 64
            or end > len(data)
            or (n_bytes > 0) != bool(flags & _RANKS)
        ):
            raise StreamError(f"a layout of {bits} bits, flags {flags}: the file is damaged, or newer")
        low = low - (1 << 64) if low >> 63 else low
        ranks = _read_ranks(data[_HEAD.size : end], min(size, _MOST_RANKS)) if n_bytes else None
        if ranks is not None and bits != max(1, (len(ranks) - 1).bit_length()):
            raise StreamError("an alphabet that doesn't fit its levels: the file is damaged")
        return Layout(low, bits, ranks, bool(flags & _TURNED), bool(flags & _COLOURS)), end

    def shape(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The sheets of an array of a shape: wide levels are channels of 16 bits, the high ones first."""
        n, h, w, c = sheet_shape(shape)
        if self.colours:
            return n, h, w, 1
        parts = self.parts
        return (n, h, w, c) if parts == 1 else (n, h, w * c, parts)

    @property
    def parts(self) -> int:
        return -(-self.bits // 16)

    @property
    def sheet_bits(self) -> int:
        return min(16, self.bits)

    def levels(self, array: NDArray[Any]) -> NDArray[np.uint16]:
        """The sheets of an array, (n, h, w, c) uint16."""
        values = _packed(array) if self.colours else _offsets(array)[0]
        if self.ranks is not None:
            values = np.searchsorted(self.ranks, values)
        parts = [(values >> values.dtype.type(16 * k)).astype(np.uint16) for k in reversed(range(self.parts))]
        out = np.stack(parts, -1) if len(parts) > 1 else parts[0]
        out = out.reshape(self.shape(array.shape))
        return np.ascontiguousarray(out[..., _turn(out.shape[3])]) if self._turns(out.shape[3]) else out

    def _turns(self, channels: int) -> bool:
        return self.turned and self.parts == 1 and channels >= 3

    def array(self, sheets: NDArray[np.uint16], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The inverse of `levels`; StreamError for levels that no array of the type has."""
        if self._turns(sheets.shape[3]):
            sheets = sheets[..., _turn(sheets.shape[3])]
        n_values = sheets.size // self.parts
        values = np.zeros(n_values, np.uint64)
        for part in range(self.parts):
            column = sheets.reshape(n_values, -1)[:, part] if self.parts > 1 else sheets.reshape(-1)
            values = values << np.uint64(16) | column.astype(np.uint64)
        if self.ranks is not None:
            if int(values.max()) >= len(self.ranks):
                raise StreamError("a level beyond the alphabet: the file is damaged")
            values = self.ranks[values]
        if self.colours:
            return _unpacked(values, shape, dtype)
        most = self.low + int(values.max())
        least, highest = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        if self.low < least or most > highest:
            raise StreamError(f"values from {self.low} to {most} aren't {dtype}: the file is damaged")
        whole = (values + np.uint64(self.low & ((1 << 64) - 1))).view(np.int64)
        return whole.astype(dtype).reshape(shape)


def _turn(channels: int) -> list[int]:
    """The order in which green comes before red; its own inverse."""
    return [1, 0, *range(2, channels)]


def _packed(array: NDArray[Any]) -> NDArray[np.uint32]:
    """The colours of a picture as numbers, without the axis of channels."""
    out = np.zeros(array.shape[:-1], np.uint32)
    for channel in np.moveaxis(array, -1, 0):
        out = out << np.uint32(8) | channel
    return out


def _unpacked(colours: NDArray[np.uint64], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The inverse of `_packed`; StreamError for what it doesn't give."""
    channels = shape[-1]
    if dtype != np.uint8 or channels not in (3, 4) or int(colours.max()) >> (8 * channels):
        raise StreamError(f"colours of an array of {dtype} {shape}: the file is damaged")
    parts = [(colours >> np.uint64(8 * k)).astype(np.uint8) for k in reversed(range(channels))]
    return np.stack(parts, -1).reshape(shape)


def _offsets(array: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """The values less the least of them, and that; uint32 for narrow types, uint64 for others."""
    if array.dtype.itemsize <= 2:
        low = int(array.min())
        return (array.astype(np.int32) - low).astype(np.uint32), low
    whole = array.astype(np.int64)
    low = int(whole.min())
    return whole.view(np.uint64) - np.uint64(low & ((1 << 64) - 1)), low


def _packed_ranks(ranks: NDArray[np.uint64]) -> bytes:
    """Rising values: their steps, as planes of bytes, compressed."""
    steps = np.diff(ranks, prepend=np.uint64(0)).astype("<u8")
    planes = np.ascontiguousarray(steps.view(np.uint8).reshape(-1, 8).T)
    return struct.pack("<I", len(ranks)) + zlib.compress(planes.tobytes(), 9)


def _read_ranks(data: bytes, most: int) -> NDArray[np.uint64]:
    n = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if not 1 <= n <= most:
        raise StreamError(f"an alphabet of {n} values: the file is damaged")
    planes = inflated(data[4:], 8 * n)
    if len(planes) != 8 * n:
        raise StreamError("an alphabet that is cut: the file is damaged")
    steps = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(8, n).T).view("<u8")[:, 0].astype(np.uint64)
    ranks = np.cumsum(steps, dtype=np.uint64)
    if (ranks[1:] <= ranks[:-1]).any():
        raise StreamError("an alphabet that doesn't rise: the file is damaged")
    return ranks
