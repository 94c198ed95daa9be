"""Lossless coding of small images, label maps, masks and tables with a probabilistic circuit fitted to their kind.

Liu, Mandt, Van den Broeck, "Lossless Compression with Probabilistic Circuits", ICLR 2022, arXiv 2111.11632. The model
is theirs, a hidden Chow-Liu tree over all values of an item (`entropy/circuits/model.py`). Differs: coding is a tour
over the tree in exact integers (`entropy/circuits/coding.py`), one stream for all items of a call, on a CPU. Numbers,
theirs and ours: docs/results.md.

With `--mix` the circuit is one of the inputs of a context-mixing coder (mixing.py): smaller, slower, one value after
the other.

An item is a row of the first axis: an image of 28 x 28 pixels, a row of a table. A model is for items of one shape; it
takes any values. What it did not see when it was fitted is an escape symbol in the circuit, and the value itself
follows in a chunk of its own.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
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
from ..base.weights import ID_BYTES, LoadedWeights, load_weights, reading
from ..layers.alphabets import Alphabet, Domain
from . import CARD
from .mixing import MixedItems, companion, companion_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Alphabet", "CircuitCodec", "Domain"]

_SEGMENT = 1 << 24  # symbols of one stream: bounds the encoder's memory
_ONE, _EACH = "rans", "rans-items"
_MIXED, _MIXED_EACH = "mix", "mix-items"
_ALONE = (_EACH, _MIXED_EACH)  # coders of which an item decodes alone
_COUNT = struct.Struct("<I")
_ITEM = "s"  # param: a single item was given, without the axis that counts
_STATES = "m"  # param: the id of the file with what mixing had learned; absent: it is in the weights, or nothing was


# --------------------------------------------------------------------------------------------------------- the codec


@dataclass(frozen=True, eq=False, repr=False)
class CircuitCodec(ArrayCodec):
    """The codec `circuit`: a circuit, and the domain it is for.

    coder: "rans", one stream for all items; "rans-items", one for each, with an index, so that `decompress_item` reads
    any of them alone (about 6 bytes more an item). "mix" and "mix-items" are the same by context mixing with the
    circuit as an input; `mix` turns the first two into them. learned: what mixing knows beforehand, arrays.
    """

    circuit: FrozenCircuit | FrozenMixture
    domain: Domain
    id: bytes
    coder: str = _ONE
    mix: bool = False
    learned: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    name: ClassVar[str] = CARD.name
    settings: ClassVar[tuple[Setting, ...]] = CARD.settings
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({"Circ", "Rare", "Indx"})
    coders: ClassVar[tuple[str, ...]] = (_ONE, _EACH, _MIXED, _MIXED_EACH)

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
            learned = {name: state.pop(name) for name in list(state) if name.startswith("mixing.")}
            circuit = FrozenMixture.from_state(state)
            return cls(circuit, domain, loaded.id, learned=learned, extra=dict(loaded.metadata))

    def to_tensors(self) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """The arrays and the metadata of a weights file."""
        about = {"shape": list(self.domain.shape), "text": self.domain.text}
        state = {**self.circuit.to_state(), **self.domain.to_state(), **self.learned}
        return state, {**self.extra, "codec": self.name, "domain": json.dumps(about)}

    @property
    def weights_id(self) -> bytes:
        return self.id

    def check_settings(self) -> None:
        if self.coder not in self.coders:
            raise UsageError(f"no coder {self.coder!r} in {self.name}: there are {', '.join(self.coders)}")

    # mixing

    @cached_property
    def _companion(self) -> LoadedWeights | None:
        """The file of what mixing had learned for a circuit that ships; None where there is none."""
        manifest = None if self.learned else companion(self.id)
        return None if manifest is None else companion_of(manifest.id, self.id)

    @cached_property
    def mixed_items(self) -> MixedItems:
        """The mixing coder that encodes."""
        state = self.learned if self._companion is None else self._companion.arrays
        return MixedItems(self.circuit, self.domain.shape, state)

    def _mixed_of(self, header: Header) -> MixedItems:
        """The mixing coder that decodes a file. WeightsError if what it had learned isn't there."""
        named = header.params.get(_STATES)
        if named is None:
            return MixedItems(self.circuit, self.domain.shape, self.learned) if self._companion else self.mixed_items
        if type(named) is not bytes or len(named) != ID_BYTES or self.learned:
            raise StreamError("the file names states of mixing that can't be: it is damaged")
        if self._companion is not None and self._companion.id == named:
            return self.mixed_items
        return MixedItems(self.circuit, self.domain.shape, companion_of(named, self.id).arrays)

    @property
    def _coder(self) -> str:
        return {_ONE: _MIXED, _EACH: _MIXED_EACH}.get(self.coder, self.coder) if self.mix else self.coder

    # encode

    def encode_array(self, array: NDArray[Any]) -> EncodedPixels:
        single = array.shape == self.domain.shape
        items = array[None] if single else array
        self._check_shape(items)
        coder, params = self._coder, {}
        mixed = self.mixed_items if coder in (_MIXED, _MIXED_EACH) else None
        if mixed is not None and self._companion is not None:
            params[_STATES] = self._companion.id
        # a mixing coder learns on: it takes all items as one stream
        segment = len(items) if coder == _MIXED else max(1, _SEGMENT // self.domain.n_values)
        chunks, rare, rare_items = [], [], []
        for start in range(0, len(items), segment):
            symbols, left = self.domain.symbols(items[start : start + segment])
            rare.append(left)
            rare_items.append(start + np.nonzero(self.domain.escapes(symbols))[0])
            if coder in (_ONE, _MIXED):
                chunks.append(Chunk("Circ", _COUNT.pack(len(symbols)) + (mixed or self.circuit).encode(symbols)))
            else:
                parts = (mixed or self.circuit).encode_each(symbols)
                index = np.array([len(part) for part in parts], "<u4")
                chunks.append(Chunk("Indx", zlib.compress(index.tobytes(), 9)))
                chunks.append(Chunk("Circ", _COUNT.pack(len(symbols)) + b"".join(parts)))
        left = [value for part in rare for value in part.tolist()]
        if left:
            owners = np.concatenate(rare_items) if coder in _ALONE else None
            chunks.append(Chunk("Rare", _pack_rare(left, self.domain.text, owners)))
        return EncodedPixels(chunks, params | ({_ITEM: True} if single else {}), coder, "int")

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
        reader = self._reader(header)
        if header.coder not in _ALONE:
            decoded = [reader.decode(stream, count) for count, stream in streams]
        else:
            decoded = [
                reader.decode_each(_cut(stream, lengths)) for (_, stream), lengths in zip(streams, index, strict=True)
            ]
        symbols = np.concatenate(decoded)
        escapes = self.domain.escapes(symbols)
        left, owners = _unpack_rare(rare, int(escapes.sum()), self.domain.text, header.coder in _ALONE)
        if owners is not None and (owners != np.nonzero(escapes)[0]).any():
            raise StreamError("rare values belong to other items: the file is damaged")
        values = self._checked(self.domain.values(symbols, left), header)
        assert len(values) == n
        return values.reshape(header.shape)

    def _reader(self, header: Header) -> FrozenCircuit | FrozenMixture | MixedItems:
        """The decoder of the streams of a file."""
        return self._mixed_of(header) if header.coder in (_MIXED, _MIXED_EACH) else self.circuit

    def decompress_item(self, data: Data, item: int) -> NDArray[Any]:
        """One item of a file that was made with coder="rans-items" or "mix-items", decoded by itself."""
        header, chunks = unpack(data)
        self.check_made_by_us(header)
        if header.coder not in _ALONE:
            raise UsageError('this file has one stream for all items: encode it by with_settings(coder="rans-items")')
        n, streams, index, rare = self._parts(header, [chunk for chunk in chunks if chunk.tag[0].isupper()])
        if not 0 <= item < n:
            raise UsageError(f"item {item}: the file has {n}")
        at = item
        for (count, stream), lengths in zip(streams, index, strict=True):
            if at < count:
                start = int(lengths[:at].sum())
                symbols = self._reader(header).decode_each([stream[start : start + int(lengths[at])]])
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
        each = header.coder in _ALONE
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
