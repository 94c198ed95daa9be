"""Files of sound that are open: their parts, decoded piece by piece, and what becomes of damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace as changed
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ....container import END_TAG, Chunk, ChunkPlace, ChunkReader, check_critical
from ....errors import CodecError, ContainerError, StreamError, UsageError
from ....media.audio.values import MAX_SAMPLES, Audio
from ....media.notes import Note, from_meta
from .headers import PIECE, as_samples, end_of, info_of
from .rates import tell
from .streams import Ordered

if TYPE_CHECKING:
    from ..codec import Report
    from .pieces import PieceDecoder, Samples, SoundCodec

__all__ = ["AudioFile"]


class AudioFile:
    """A file of sound that is open. info: the sound. n_bytes: of the file. kind: what `compress` was given.

    notes: those of its header; with conceal, also what is missing, once it was decoded.
    """

    def __init__(self, codec: SoundCodec, file: BinaryIO, conceal: bool) -> None:
        self._codec, self._reader, self._conceal = codec, ChunkReader(file), conceal
        self.header, self.n_bytes = self._reader.header, self._reader.n_bytes
        codec.check_made_by_us(self.header)
        self.info, self.kind = info_of(codec, self.header)
        self.notes: list[Note] = list(from_meta(self.header.meta))
        self._decoder = codec.decoder(self.header, self.info.rate, self.info.channels)
        self._places: list[ChunkPlace | None] = []
        self._payloads: dict[int, bytes] = {}  # with conceal, of a file that is damaged
        try:
            n_samples = self._read_places()
        except ContainerError:
            if not conceal:
                raise
            n_samples = self._salvaged()
        n_pieces = -(-n_samples // self._decoder.piece)
        if n_pieces != len(self._places):
            raise StreamError(f"{len(self._places)} pieces of {n_samples} samples, expected {n_pieces}: damaged")
        seconds = -(-n_samples // self.info.rate)
        codec.limits.require("seconds", seconds, f"a sound of {seconds} seconds")
        if n_samples > MAX_SAMPLES:
            raise ContainerError(f"a sound of {n_samples} samples; expected up to {MAX_SAMPLES}: the file is damaged")
        self.info = changed(self.info, n_samples=n_samples)
        self.missing: set[int] = set()

    @property
    def n_samples(self) -> int:
        assert self.info.n_samples is not None
        return self.info.n_samples

    def _read_places(self) -> int:
        places = self._reader.places()
        for place in places:
            if place.tag not in (PIECE, END_TAG):
                check_critical([Chunk(place.tag, b"")], self._codec.critical_chunks)
        if not places or places[-1].tag != END_TAG:
            raise ContainerError("a sound without an end: the file is damaged")
        self._numbers = [number for number, place in enumerate(places) if place.tag == PIECE]
        self._places = [place for place in places if place.tag == PIECE]
        return end_of(self._reader.read(len(places) - 1, places[-1].position)[0].payload)

    def _salvaged(self) -> int:
        """Finds the whole pieces of a damaged file; the number of its samples, as far as that can be known."""
        whole_ones = self._reader.whole_chunks()
        self._payloads = {number: chunk.payload for number, chunk in whole_ones.items() if chunk.tag == PIECE}
        ends = [(number, chunk) for number, chunk in whole_ones.items() if chunk.tag == END_TAG]
        if not self._payloads and not ends:
            raise ContainerError("no piece of this sound is whole: get the file again")
        if ends:
            n_pieces, end = ends[-1]
            self._places = [None] * n_pieces
            return end_of(end.payload)
        last = max(self._payloads)
        self._places = [None] * (last + 1)
        self.notes.append(Note("cut", "the end of the file is missing: what comes after the last piece isn't known"))
        return last * self._decoder.piece + self._decoder.length(self._payloads[last])

    def range_of(self, seconds: tuple[Fraction, Fraction | None] | None) -> tuple[int, int]:
        """The samples of a part, first and one after the last. UsageError for one that begins behind the end."""
        if seconds is None:
            return 0, self.n_samples
        start = floor(seconds[0] * self.info.rate)
        stop = self.n_samples if seconds[1] is None else min(self.n_samples, floor(seconds[1] * self.info.rate))
        if start >= self.n_samples:
            length = self.n_samples / self.info.rate
            raise UsageError(f"--seconds from {float(seconds[0]):g} on: the sound has {length:.3f} seconds")
        return start, max(start, stop)

    def read(self, start: int = 0, stop: int | None = None) -> Audio:
        """The samples start to stop - 1, in memory. LimitError for more values than the codec's limits allow."""
        stop = self.n_samples if stop is None else stop
        values = (stop - start) * self.info.channels
        self._codec.limits.require("values", values, f"a sound of {values} values in memory")
        parts = [np.empty((0, self.info.channels), self.info.dtype), *self.blocks(start, stop)]
        return Audio(np.concatenate(parts), changed(self.info, n_samples=stop - start))

    def blocks(self, start: int = 0, stop: int | None = None, report: Report | None = None) -> Iterator[NDArray[Any]]:
        """The samples start to stop - 1, in arrays (k, channels) of info.dtype. Only the pieces that they need are
        decoded, and they are those that decoding all of it gives."""
        stop = self.n_samples if stop is None else stop
        if not 0 <= start <= stop <= self.n_samples:
            raise UsageError(f"samples {start}:{stop} of {self.n_samples}; expected 0 <= start <= stop")
        decoder = self._codec.decoder(self.header, self.info.rate, self.info.channels)
        first = max(0, start - decoder.delay) // decoder.piece
        last = min(len(self._places), (stop + decoder.delay - 1) // decoder.piece + 1) if stop > start else first
        at = first * decoder.piece
        for x in self._pieces(decoder, first, last):
            part = x[max(0, start - at) : max(0, stop - at)]
            at += len(x)
            if len(part):
                yield as_samples(part, self.info.sample)
                tell(report, min(at, stop) - start, stop - start)
        if at < stop and start < stop:
            raise StreamError(f"a sound of {at} samples, whose end says {self.n_samples}: the file is damaged")
        self._say_what_is_missing()

    def _pieces(self, decoder: PieceDecoder[Any], first: int, last: int) -> Iterator[Samples]:
        work: Ordered[tuple[int, Any]] = Ordered()
        try:
            for number in range(first, last):
                for result in work.add(self._work_of(decoder, number)):
                    yield decoder.push(self._or_missing(decoder, *result))
            for result in work.rest():
                yield decoder.push(self._or_missing(decoder, *result))
            yield decoder.finish()
        finally:
            work.close()

    def _work_of(self, decoder: PieceDecoder[Any], number: int) -> Callable[[], tuple[int, Any]]:
        try:
            payload = self._payload(number)
        except ContainerError:
            if not self._conceal:
                raise
            payload = None

        def decode() -> tuple[int, Any]:
            if payload is None:
                return number, None
            try:
                return number, decoder.decode(payload, number)
            except CodecError:
                if not self._conceal:
                    raise
                return number, None

        return decode

    def _payload(self, number: int) -> bytes | None:
        place = self._places[number]
        if place is None:
            return self._payloads.get(number)
        return self._reader.read(self._numbers[number], place.position)[0].payload

    def _or_missing(self, decoder: PieceDecoder[Any], number: int, piece: Any) -> Any:
        if piece is not None:
            return piece
        self.missing.add(number)
        return decoder.missing(number)

    def _say_what_is_missing(self) -> None:
        if not self.missing:
            return
        seconds = [f"{n * self._decoder.piece / self.info.rate:.2f}" for n in sorted(self.missing)[:8]]
        length = self._decoder.piece / self.info.rate
        what = "a piece" if len(self.missing) == 1 else f"{len(self.missing)} pieces"
        verb = "is" if len(self.missing) == 1 else "are"
        words = f"{what} of {length:.2f} s {verb} missing, from second {', '.join(seconds)} on"
        note = Note("damage", words + ("" if len(self.missing) <= 8 else ", and so on"))
        self.notes = [other for other in self.notes if other.kind != "damage"] + [note]
