"""Lossless coding of small images, label maps, masks and tables with a probabilistic circuit fitted to their kind.

Liu, Mandt, Van den Broeck, "Lossless Compression with Probabilistic Circuits", ICLR 2022, arXiv 2111.11632. The model
is theirs, a hidden Chow-Liu tree over all values of an item (`entropy/circuits/model.py`). Differs: coding is a tour
over the tree in exact integers (`entropy/circuits/coding.py`), one stream for all items of a call, on a CPU. Numbers,
theirs and ours: docs/results.md.

An item is a row of the first axis: an image of 28 x 28 pixels, a row of a table. A model is for items of one shape; it
takes any values. What it did not see when it was fitted is an escape symbol in the circuit, and the value itself
follows in a chunk of its own.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk, Header, unpack
from ...entropy.circuits.coding import FrozenCircuit
from ...entropy.circuits.mixture import FrozenMixture
from ...errors import MediaError, StreamError, UsageError, WeightsError
from ..base.array import ArrayCodec
from ..base.codec import Data, EncodedPixels
from ..base.settings import Setting
from ..base.weights import load_weights, reading
from . import CARD

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Alphabet", "CircuitCodec", "Domain"]

MAX_LEVELS = 4096  # values of a variable that get a symbol; the others are escapes
_FULL = 32  # with more distinct values than this, all 256 of 8 bits get a symbol
_SEGMENT = 1 << 24  # symbols of one stream: bounds the encoder's memory
_ONE, _EACH = "rans", "rans-items"
_COUNT = struct.Struct("<I")
_ITEM = "s"  # param: a single item was given, without the axis that counts


# ------------------------------------------------------------------------------------- values to symbols, and back


@dataclass(frozen=True, eq=False)
class Alphabet:
    """The values that have a symbol of their own, rising; one more symbol, the escape, stands for all others."""

    values: NDArray[Any]

    @property
    def size(self) -> int:
        return len(self.values) + 1

    @cached_property
    def consecutive(self) -> bool:
        """Whether the values are numbers without a gap."""
        numbers = self.values.dtype.kind == "i" and len(self.values) > 0
        return numbers and int(self.values[-1]) - int(self.values[0]) == len(self.values) - 1

    def symbols(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """The symbol of each value, int32 in the same shape: its index, `len(self.values)` for an escape."""
        if not len(self.values):
            return np.zeros(values.shape, np.int32)
        if values.dtype.kind in "biu" and values.dtype.itemsize == 1 and values.size > 256:
            if self.consecutive and len(self.values) == 256:
                return np.subtract(values, self.values[0], dtype=np.int32, casting="unsafe")
            every = np.arange(256, dtype=np.uint8).view(values.dtype)  # few enough to look all of them up first
            return self.symbols(every)[values.view(np.uint8)]
        at = np.searchsorted(self.values, values).clip(0, len(self.values) - 1)
        return np.where(self.values[at] == values, at, len(self.values)).astype(np.int32)

    @staticmethod
    def of(values: NDArray[Any]) -> Alphabet:
        """The alphabet of all values that occur in an array; of 8-bit numbers, if many occur, of all 256."""
        levels, counts = np.unique(values, return_counts=True)
        kind = values.dtype
        if kind.kind == "b":
            return Alphabet(np.array([0, 1], np.int64))
        if kind.kind in "iu" and kind.itemsize == 1 and len(levels) > _FULL:
            low = int(np.iinfo(kind).min)
            return Alphabet(np.arange(low, low + 256, dtype=np.int64))
        if len(levels) > MAX_LEVELS:
            levels = np.sort(levels[np.argsort(-counts, kind="stable")[:MAX_LEVELS]])
        return Alphabet(levels if kind.kind == "S" else levels.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Domain:
    """The items that a circuit is for: their shape, and the symbols of their values.

    shape: of an item. text: whether values are bytes. owner: (D,) which alphabet each value of an item has.
    """

    shape: tuple[int, ...]
    text: bool
    alphabets: tuple[Alphabet, ...]
    owner: NDArray[np.int32]

    @staticmethod
    def of(array: NDArray[Any]) -> Domain:
        """The domain of the items of an array. Columns of a table have alphabets of their own; pixels share one."""
        shape = array.shape[1:]
        n = math.prod(shape)
        if not n or not len(array):
            raise MediaError(f"an array of shape {array.shape}: no items to fit a circuit to")
        if len(shape) <= 1:
            columns = array.reshape(len(array), n)
            return Domain(
                shape, array.dtype.kind == "S", tuple(map(Alphabet.of, columns.T)), np.arange(n, dtype=np.int32)
            )
        return Domain(shape, False, (Alphabet.of(array),), np.zeros(n, np.int32))

    @property
    def n_values(self) -> int:
        return math.prod(self.shape)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of symbols of each value of an item, (D,)."""
        return np.array([alphabet.size for alphabet in self.alphabets], np.int64)[self.owner]

    def symbols(self, array: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """The symbols, (N, D), of items (N, *shape), and the values that have none, item by item."""
        flat = array.reshape(len(array), -1)
        if not self.text and flat.dtype.itemsize > 1:
            flat = flat.astype(np.int64)
        out = np.empty(flat.shape, np.int32)
        escapes = np.zeros(flat.shape, bool)
        for index, alphabet in enumerate(self.alphabets):
            columns = self._columns(index)
            out[:, columns] = alphabet.symbols(flat[:, columns])
            escapes[:, columns] = out[:, columns] == len(alphabet.values)
        left = flat[escapes]
        return out, left if self.text else left.astype(np.int64)

    def escapes(self, symbols: NDArray[np.int32]) -> NDArray[np.bool_]:
        """The mask of the escapes among symbols (N, D)."""
        known = np.array([len(alphabet.values) for alphabet in self.alphabets])[self.owner]
        return symbols == known

    def values(self, symbols: NDArray[np.int32], rare: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `symbols`: (N, D) int64, or bytes. rare: as many values as there are escapes."""
        if self.text:
            widths = [alphabet.values.dtype.itemsize for alphabet in self.alphabets] + [rare.dtype.itemsize]
            out = np.zeros(symbols.shape, f"S{max(widths)}")
        else:
            out = np.zeros(symbols.shape, np.int64)
        for index, alphabet in enumerate(self.alphabets):
            columns = self._columns(index)
            if alphabet.consecutive:  # escapes get some number here, and then their own
                out[:, columns] = symbols[:, columns]
                out[:, columns] += alphabet.values[0]
            elif len(alphabet.values):
                out[:, columns] = alphabet.values.take(symbols[:, columns], mode="clip")
        out[self.escapes(symbols)] = rare
        return out

    def _columns(self, index: int) -> slice | NDArray[np.intp]:
        """The columns of (N, D) whose values are of the alphabet of this index."""
        return slice(None) if len(self.alphabets) == 1 else np.flatnonzero(self.owner == index)

    # stored

    def to_state(self) -> dict[str, NDArray[Any]]:
        """The arrays of the domain in a weights file; `shape` and `text` go into its metadata."""
        lengths = np.array([len(alphabet.values) for alphabet in self.alphabets], np.int32)
        state = {
            "alphabet_lengths": lengths,
            "alphabet_owner": self.owner,
        }
        values = [value for alphabet in self.alphabets for value in alphabet.values.tolist()]
        if not self.text:
            return {**state, "alphabet_values": np.array(values, np.int64)}
        widths = np.array([len(value) for value in values], np.int32)
        return {
            **state,
            "alphabet_widths": widths,
            "alphabet_values": np.frombuffer(b"".join(values) or b"\0", np.uint8).copy(),
        }

    @staticmethod
    def from_state(state: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> Domain:
        """The inverse of `to_state`; ValueError, KeyError or TypeError for what it doesn't write."""
        shape, text = tuple(metadata["shape"]), metadata["text"]
        if not all(type(side) is int and side > 0 for side in shape) or type(text) is not bool:
            raise ValueError(f"items of shape {shape}, text {text}")
        lengths, owner = state["alphabet_lengths"], state["alphabet_owner"]
        raw = state["alphabet_values"]
        if text:
            widths = state["alphabet_widths"]
            ends = np.cumsum(widths)
            whole = raw.astype(np.uint8).tobytes()
            if (widths < 0).any() or (len(ends) and ends[-1] > len(whole)):
                raise ValueError("text alphabets that are cut")
            cells = [whole[end - width : end] for end, width in zip(ends.tolist(), widths.tolist(), strict=True)]
        else:
            cells = raw.astype(np.int64)
        if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != len(cells):
            raise ValueError("alphabets that don't fit their lengths")
        alphabets = []
        for end, length in zip(np.cumsum(lengths).tolist(), lengths.tolist(), strict=True):
            part = cells[end - length : end]
            values = np.array(part, dtype="S") if text else np.asarray(part)
            if length and not text and (np.diff(values) <= 0).any():
                raise ValueError("an alphabet that doesn't rise")
            alphabets.append(Alphabet(values if length or not text else np.zeros(0, "S1")))
        if owner.shape != (math.prod(shape),) or owner.min() < 0 or owner.max() >= len(alphabets):
            raise ValueError("values without an alphabet")
        return Domain(shape, text, tuple(alphabets), owner.astype(np.int32))


# --------------------------------------------------------------------------------------------------------- the codec


@dataclass(frozen=True, eq=False, repr=False)
class CircuitCodec(ArrayCodec):
    """The codec `circuit`: a circuit, and the domain it is for.

    coder: "rans", one stream for all items; "rans-items", one for each, with an index, so that `decompress_item` reads
    any of them alone (about 6 bytes more an item).
    """

    circuit: FrozenCircuit | FrozenMixture
    domain: Domain
    id: bytes
    coder: str = _ONE
    extra: dict[str, str] = field(default_factory=dict)

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({"Circ", "Rare", "Indx"})
    coders: ClassVar[tuple[str, ...]] = (_ONE, _EACH)

    def __post_init__(self) -> None:
        if not np.array_equal(self.circuit.sizes, self.domain.sizes):
            raise WeightsError("the circuit in the weights isn't for the values in them: fit it again")

    @classmethod
    def from_weights(cls, tag: str | None, quality: float | None, weights: Path | None, device: str) -> Self:
        if quality is not None:
            raise UsageError("circuit is lossless: it has no quality")
        loaded = load_weights(cls.name, tag, weights)
        with reading(cls.name, "make some with `codec fit`"):
            if loaded.metadata.get("codec") != cls.name:
                raise ValueError(f"made for {loaded.metadata.get('codec')!r:.80}")
            about = json.loads(loaded.metadata["domain"])
            state = dict(loaded.arrays)
            domain = Domain.from_state(state, about)
            return cls(FrozenMixture.from_state(state), domain, loaded.id, extra=dict(loaded.metadata))

    def to_tensors(self) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """The arrays and the metadata of a weights file."""
        about = {"shape": list(self.domain.shape), "text": self.domain.text}
        state = {**self.circuit.to_state(), **self.domain.to_state()}
        return state, {**self.extra, "codec": self.name, "domain": json.dumps(about)}

    @property
    def weights_id(self) -> bytes:
        return self.id

    def check_settings(self) -> None:
        if self.coder not in self.coders:
            raise UsageError(f"no coder {self.coder!r} in {self.name}: there are {', '.join(self.coders)}")

    # encode

    def encode_array(self, array: NDArray[Any]) -> EncodedPixels:
        single = array.shape == self.domain.shape
        items = array[None] if single else array
        self._check_shape(items)
        segment = max(1, _SEGMENT // self.domain.n_values)
        chunks, rare, rare_items = [], [], []
        for start in range(0, len(items), segment):
            symbols, left = self.domain.symbols(items[start : start + segment])
            rare.append(left)
            rare_items.append(start + np.nonzero(self.domain.escapes(symbols))[0])
            if self.coder == _ONE:
                chunks.append(Chunk("Circ", _COUNT.pack(len(symbols)) + self.circuit.encode(symbols)))
            else:
                parts = self.circuit.encode_each(symbols)
                index = np.array([len(part) for part in parts], "<u4")
                chunks.append(Chunk("Indx", zlib.compress(index.tobytes(), 9)))
                chunks.append(Chunk("Circ", _COUNT.pack(len(symbols)) + b"".join(parts)))
        left = [value for part in rare for value in part.tolist()]
        if left:
            owners = np.concatenate(rare_items) if self.coder == _EACH else None
            chunks.append(Chunk("Rare", _pack_rare(left, self.domain.text, owners)))
        return EncodedPixels(chunks, {_ITEM: True} if single else {}, self.coder, "int")

    def _check_shape(self, items: NDArray[Any]) -> None:
        text = items.dtype.kind == "S"
        if items.shape[1:] != self.domain.shape or text != self.domain.text:
            kind = "text" if self.domain.text else "numbers"
            raise MediaError(
                f"items of {'text' if text else 'numbers'} {items.shape[1:]}; these weights are for {kind} "
                f"{self.domain.shape}: fit others with `codec fit circuit`, or cut the data"
            )

    # decode

    def decode_array(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        n, streams, index, rare = self._parts(header, chunks)
        if header.coder == _ONE:
            decoded = [self.circuit.decode(stream, count) for count, stream in streams]
        else:
            decoded = [
                self.circuit.decode_each(_cut(stream, lengths))
                for (_, stream), lengths in zip(streams, index, strict=True)
            ]
        symbols = np.concatenate(decoded)
        escapes = self.domain.escapes(symbols)
        left, owners = _unpack_rare(rare, int(escapes.sum()), self.domain.text, header.coder == _EACH)
        if owners is not None and (owners != np.nonzero(escapes)[0]).any():
            raise StreamError("rare values belong to other items: the file is damaged")
        values = self._checked(self.domain.values(symbols, left), header)
        assert len(values) == n
        return values.reshape(header.shape)

    def decompress_item(self, data: Data, item: int) -> NDArray[Any]:
        """One item of a file that was made with coder="rans-items", of the domain's shape, decoded by itself."""
        header, chunks = unpack(data)
        self.check_made_by_us(header)
        if header.coder != _EACH:
            raise UsageError('this file has one stream for all items: encode it by with_settings(coder="rans-items")')
        n, streams, index, rare = self._parts(header, [chunk for chunk in chunks if chunk.tag[0].isupper()])
        if not 0 <= item < n:
            raise UsageError(f"item {item}: the file has {n}")
        at = item
        for (count, stream), lengths in zip(streams, index, strict=True):
            if at < count:
                start = int(lengths[:at].sum())
                symbols = self.circuit.decode_each([stream[start : start + int(lengths[at])]])
                break
            at -= count
        else:
            raise AssertionError("streams hold as many items as the header says: checked")
        left, owners = _unpack_rare(rare, None, self.domain.text, True)
        assert owners is not None
        own = left[owners == item]
        if len(own) != int(self.domain.escapes(symbols).sum()):
            raise StreamError("rare values of an item are missing: the file is damaged")
        return self._checked(self.domain.values(symbols, own), header).reshape(self.domain.shape)

    def _parts(
        self, header: Header, chunks: Sequence[Chunk]
    ) -> tuple[int, list[tuple[int, bytes]], list[NDArray[np.int64]], bytes]:
        """The parts of a file: number of items, (items, stream) of each segment, lengths of streams, rare values."""
        single = header.params.get(_ITEM, False)
        if type(single) is not bool or header.coder not in self.coders or header.arithmetic != "int":
            raise StreamError(f"coder {header.coder!r}, arithmetic {header.arithmetic!r}: a newer version, or damaged")
        shape = header.shape if single else header.shape[1:]
        if shape != self.domain.shape or (header.dtype == "text") != self.domain.text:
            raise StreamError(f"items of shape {shape}, the weights are for {self.domain.shape}: the file is damaged")
        n = 1 if single else header.shape[0]
        payloads = {tag: [c.payload for c in chunks if c.tag == tag] for tag in ("Circ", "Indx", "Rare")}
        each = header.coder == _EACH
        streams = []
        for payload in payloads["Circ"]:
            if len(payload) < _COUNT.size:
                raise StreamError("a stream is cut: the file is damaged")
            streams.append((_COUNT.unpack_from(payload)[0], payload[_COUNT.size :]))
        counts = [count for count, _ in streams]
        wrong = sum(counts) != n or 0 in counts or len(payloads["Rare"]) > 1
        if wrong or len(payloads["Indx"]) != (len(counts) if each else 0):
            raise StreamError(f"streams of {counts[:8]} items for {n}: the file is damaged")
        index = []
        for (count, stream), payload in zip(streams, payloads["Indx"] or [b""] * len(counts), strict=True):
            if each:
                body = _inflate(payload, 4 * count)
                if len(body) != 4 * count:
                    raise StreamError(f"an index of {len(body)} bytes for {count} items: the file is damaged")
                lengths = np.frombuffer(body, "<u4").astype(np.int64)
                if lengths.sum() != len(stream):
                    raise StreamError("the index of the items doesn't fit their streams: the file is damaged")
                index.append(lengths)
        return n, streams, index, payloads["Rare"][0] if payloads["Rare"] else b""

    def _checked(self, values: NDArray[Any], header: Header) -> NDArray[Any]:
        """The values in the header's type; StreamError if they don't fit it."""
        if self.domain.text:
            return values
        dtype = np.dtype(header.dtype)
        low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        if values.min() < low or values.max() > high:
            raise StreamError(f"values from {values.min()} to {values.max()} aren't {dtype}: the file is damaged")
        return values.astype(dtype)


def _cut(stream: bytes, lengths: NDArray[np.int64]) -> list[bytes]:
    """The pieces of a stream that have these lengths, which sum to its own."""
    ends = np.cumsum(lengths).tolist()
    return [stream[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


def _inflate(payload: bytes, limit: int) -> bytes:
    """The content of a zlib stream; StreamError if it is damaged, or longer than the limit."""
    inflate = zlib.decompressobj()
    try:
        out = inflate.decompress(payload, limit + 1)
    except zlib.error as error:
        raise StreamError(f"a damaged part of the file: {error}") from None
    if len(out) > limit or not inflate.eof or inflate.unused_data:
        raise StreamError("a part of the file is cut, or longer than it may be: the file is damaged")
    return out


def _pack_rare(left: list[Any], text: bool, owners: NDArray[np.int64] | None) -> bytes:
    """The chunk of values without a symbol, in the order of their escapes: their number, owners and the values.

    owners: the item of each, for coder "rans-items".
    """
    parts = [_COUNT.pack(len(left))]
    if owners is not None:
        parts.append(owners.astype("<u4").tobytes())
    if text:
        parts.append(bytes(len(value) for value in left) + b"".join(left))
    else:
        parts.append(np.array(left, "<i8").tobytes())
    body = b"".join(parts)
    return _COUNT.pack(len(body)) + zlib.compress(body, 9)


def _unpack_rare(
    payload: bytes, n: int | None, text: bool, with_owners: bool
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """The inverse of `_pack_rare`: values and owners. n: how many there must be, if that is known."""
    damaged = StreamError("the rare values don't fit the items: the file is damaged")
    nothing = np.zeros(0, "S1" if text else np.int64), np.zeros(0, np.int64) if with_owners else None
    if not payload:
        if n:
            raise damaged
        return nothing
    if len(payload) < _COUNT.size:
        raise damaged
    size = _COUNT.unpack_from(payload)[0]
    if size > 1024 * len(payload) + 1024:  # as far as deflate goes
        raise damaged
    body = _inflate(payload[_COUNT.size :], size)
    if len(body) != size or size < _COUNT.size:
        raise damaged
    count, at = _COUNT.unpack_from(body)[0], _COUNT.size
    if (n is not None and count != n) or count == 0 or count > size:
        raise damaged
    owners = None
    if with_owners:
        if at + 4 * count > size:
            raise damaged
        owners = np.frombuffer(body, "<u4", count, at).astype(np.int64)
        at += 4 * count
    if not text:
        if size - at != 8 * count:
            raise damaged
        return np.frombuffer(body, "<i8", count, at).astype(np.int64), owners
    widths = list(body[at : at + count])
    at += count
    if len(widths) != count or size - at != sum(widths):
        raise damaged
    cells = []
    for width in widths:
        cells.append(body[at : at + width])
        at += width
    return np.array(cells, dtype=f"S{max(1, *widths)}"), owners
