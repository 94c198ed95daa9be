"""Sound that comes in parts: encoding it as it comes, decoding a file as it comes; work on pieces in threads."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .... import native
from ....container import END_TAG, META_TAG, SIGNATURE, Chunk, ChunkReader, ChunkWriter, check_critical
from ....errors import ContainerError, MediaError, StreamError, UsageError
from ....media.audio.values import AudioInfo
from ....media.notes import Note
from .headers import AUDIO, PIECE, as_samples, end_of, header_of, info_of

if TYPE_CHECKING:
    from ..codec import Data
    from .pieces import PieceDecoder, Samples, SoundCodec

__all__ = ["AudioDecoder", "AudioEncoder", "Ordered"]

Piece = TypeVar("Piece")
_AHEAD = 2  # pieces that wait, for each thread
_PREFIX = 7  # bytes of a file up to its header
_MOST = 1 << 26  # bytes of a chunk that are waited for


class Ordered(Generic[Piece]):
    """Work that is done in threads, a few pieces ahead; results come in order."""

    def __init__(self, ahead: bool = True) -> None:
        self._threads = max(1, native.threads()) if ahead else 1
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[Piece]] = deque()

    def add(self, work: Callable[[], Piece]) -> Iterator[Piece]:
        """Begins some work; gives the results that are due."""
        if self._threads == 1:
            yield work()
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads)
        self._waiting.append(self._pool.submit(work))
        while len(self._waiting) > _AHEAD * self._threads:
            yield self._waiting.popleft().result()

    def rest(self) -> Iterator[Piece]:
        """The results that are left."""
        try:
            while self._waiting:
                yield self._waiting.popleft().result()
        finally:
            self.close()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


class AudioEncoder:
    """An encoder of sound as it comes: `push` samples, then `flush`; the bytes of all calls are the file.

    They are the same bytes for any cut of the samples, and as `compress` makes of all of them. ahead: if pieces are
    encoded in threads, some of which `push` doesn't wait for; else it gives each as soon as it can. n_samples: so far.
    clipped: how many values were beyond full scale.
    """

    def __init__(
        self,
        codec: SoundCodec,
        info: AudioInfo,
        quality: float | None = None,
        kind: int = AUDIO,
        notes: Sequence[Note] = (),
        ahead: bool = True,
    ) -> None:
        low, high = codec.rates
        if not low <= info.rate <= high:
            raise MediaError(
                f"{info.rate} samples a second: {codec.name} takes {low} to {high}; resample it: "
                "ffmpeg -i IN -ar 48000 OUT.wav"
            )
        self.info, self.notes, self.n_samples, self.clipped = info, tuple(notes), 0, 0
        self._encoder = codec.encoder(info, quality)
        self._writer = ChunkWriter(header_of(codec, info, self._encoder.params, kind, notes))
        self._work: Ordered[bytes] = Ordered(ahead)
        self._start = self._writer.start
        self._done = False

    def push(self, samples: NDArray[Any]) -> bytes:
        """The bytes of the file that are ready after these samples, (n, channels) of info.dtype or floats."""
        if self._done:
            raise UsageError("this encoder is finished: make another one for another sound")
        x = np.asarray(samples)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self.info.channels:
            raise UsageError(f"samples of shape {x.shape}; expected (n, {self.info.channels})")
        if x.dtype.kind == "f":
            if not np.isfinite(x).all():
                raise MediaError("samples that are infinite or no numbers (NaN); expected finite ones")
        elif x.dtype != self.info.dtype:
            raise UsageError(f"samples of {x.dtype}; expected {self.info.dtype} or floats")
        y = x.astype(np.float64) if x.dtype.kind == "f" else x.astype(np.float64) * 2.0 ** (1 - self.info.bits)
        beyond = int((np.abs(y) > 1.0).sum())
        if beyond:
            self.clipped += beyond
            y = np.clip(y, -1.0, 1.0)
        self.n_samples += len(y)
        return self._taken(self._encoder.push(y))

    def flush(self) -> bytes:
        """The bytes at the end of the file."""
        if self._done:
            raise UsageError("this encoder is finished: make another one for another sound")
        self._done = True
        out = [self._taken(self._encoder.finish())]
        out += [self._writer.chunk(Chunk(PIECE, payload)) for payload in self._work.rest()]
        out.append(self._writer.end(self.n_samples.to_bytes(8, "big")))
        return b"".join(out)

    def _taken(self, pieces: Iterable[Callable[[], bytes]]) -> bytes:
        out, self._start = [self._start], b""
        for work in pieces:
            out += [self._writer.chunk(Chunk(PIECE, payload)) for payload in self._work.add(work)]
        return b"".join(out)


class AudioDecoder:
    """A decoder of sound as its file comes: `push` bytes, then `flush`; the samples of all calls are the sound.

    info: what the sound is, once its header is here; n_samples isn't known before the end. Samples are as those of
    `AudioFile.blocks`. While info is None, `push` gives an empty array of one channel, whatever the sound has.
    ContainerError or StreamError for a damaged file.
    """

    def __init__(self, codec: SoundCodec) -> None:
        self.info: AudioInfo | None = None
        self._codec, self._data = codec, bytearray()
        self._decoder: PieceDecoder[Any] | None = None
        self._chunks: _ChunkFeed | None = None
        self._number, self._held = 0, np.empty((0, 1))
        self._ended: int | None = None
        self._given = 0

    def push(self, data: Data) -> NDArray[Any]:
        """The samples (n, channels) that are ready after these bytes of the file."""
        self._data += data
        if self._chunks is None:
            feed = _ChunkFeed.of(self._data)
            if feed is None:
                return np.empty((0, 1), np.bool_)  # a type that changes none it is joined with
            self._chunks = feed
            header = feed.header
            self._codec.check_made_by_us(header)
            self.info, _ = info_of(self._codec, header)
            self._decoder = self._codec.decoder(header, self.info.rate, self.info.channels)
        assert self.info is not None and self._decoder is not None
        out = []
        for chunk in self._chunks.take(self._data):
            if self._ended is not None:
                raise ContainerError("chunks behind the end of a sound: the file is damaged")
            if chunk.tag == END_TAG:
                self._ended = end_of(chunk.payload)
                if self._number != -(-self._ended // self._decoder.piece):
                    raise StreamError(f"{self._number} pieces of {self._ended} samples: the file is damaged")
                out.append(self._decoder.finish())
            elif chunk.tag == PIECE:
                out.append(self._decoder.push(self._decoder.decode(chunk.payload, self._number)))
                self._number += 1
            else:
                check_critical([chunk], self._codec.critical_chunks)
        return self._given_back(out)

    def _given_back(self, parts: list[Samples]) -> NDArray[Any]:
        """The samples in the sound's type. The last piece's are held back: padding may be among them."""
        assert self.info is not None and self._decoder is not None
        held = self._held if self._held.shape[1] == self.info.channels else np.empty((0, self.info.channels))
        x = np.concatenate([held, *parts])
        if self._ended is not None:
            x, self._held = x[: max(0, self._ended - self._given)], x[:0]
            if self._given + len(x) != self._ended:
                raise StreamError("a sound has fewer samples than its end says: the file is damaged")
        else:
            keep = min(len(x), self._decoder.piece)
            x, self._held = x[: len(x) - keep], x[len(x) - keep :]
        self._given += len(x)
        return as_samples(x, self.info.sample)

    def flush(self) -> NDArray[Any]:
        """The end of the file: nothing is left, or StreamError."""
        if self._ended is None or self._data:
            raise ContainerError("the file ends early, or has bytes behind its end: get it again")
        assert self.info is not None
        return np.empty((0, self.info.channels), self.info.dtype)


class _ChunkFeed:
    """The chunks of a file that comes in parts."""

    def __init__(self, reader: ChunkReader) -> None:
        self.header, self._reader, self._number = reader.header, reader, 0

    @classmethod
    def of(cls, data: bytearray) -> _ChunkFeed | None:
        """The feed of a file, whose header is taken from data; None while it isn't complete."""
        if len(data) < _PREFIX:
            return None
        if data[: len(SIGNATURE)] != SIGNATURE:
            return cls(ChunkReader(io.BytesIO(bytes(data))))  # says what it is
        end = _PREFIX + int.from_bytes(data[_PREFIX - 2 : _PREFIX], "big") + 4
        if len(data) < end + 8:  # every file has a chunk: its end
            return None
        if data[end : end + 4] == META_TAG.encode():
            n_bytes = int.from_bytes(data[end + 4 : end + 8], "big")
            if n_bytes > _MOST:
                raise ContainerError(f"metadata of {n_bytes} bytes in a sound: the file is damaged")
            if len(data) < end + 12 + n_bytes:
                return None
            end += 12 + n_bytes
        reader = ChunkReader(io.BytesIO(bytes(data[:end])))
        del data[: reader.start]
        return cls(reader)

    def take(self, data: bytearray) -> Iterator[Chunk]:
        """The chunks that are complete, which are taken from data."""
        while len(data) >= 12:
            n_bytes = int.from_bytes(data[4:8], "big")
            if len(data) < 12 + n_bytes:
                if n_bytes > _MOST:
                    raise ContainerError(f"a chunk of {n_bytes} bytes in a sound: the file is damaged")
                return
            chunk = self._reader.check(bytes(data[: 12 + n_bytes]), self._number)
            del data[: 12 + n_bytes]
            self._number += 1
            yield chunk
