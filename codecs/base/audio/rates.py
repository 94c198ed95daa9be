"""Encodings of a sound, and the search for the quality whose file is as large as it may be."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import replace as changed
from math import log2
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import UsageError
from ....media.audio.reader import AudioReader, open_audio
from ....media.audio.values import Audio
from ....media.notes import Note
from ..progress import Step
from .streams import AudioEncoder

if TYPE_CHECKING:
    from ..codec import Report
    from .pieces import SoundCodec

__all__ = ["BLOCK", "Encoding", "Search", "tell"]

BLOCK = 1 << 16  # samples that are read at once
_MOST = 7  # encodings, in the search for a rate
_HEADER = 256  # bytes of a header, an end and a few samples
_GRID = 12  # qualities from one whole number to the next
_EXCERPTS, _EXCERPT_SECONDS = 6, 8  # where a search for a rate begins, in a long sound


class Encoding:
    """One encoding of a sound, which can be written to files. quality, encodings: what a search found; or None, 1."""

    def __init__(self, codec: SoundCodec, reader: AudioReader, quality: float | None, kind: int) -> None:
        self.codec, self.reader, self.given, self.kind = codec, reader, quality, kind
        self.quality: float | None = None
        self.encodings, self.n_samples, self.clipped = 1, 0, 0
        self.data: bytes | None = None

    def write(self, file: Any, report: Report | None = None) -> int:
        """Writes the file; returns its bytes."""
        if self.data is not None:
            return file.write(self.data)
        encoder = AudioEncoder(self.codec, self.reader.info, self.given, self.kind, self.reader.notes)
        total, n_bytes = self.reader.info.n_samples, 0
        for block in self.reader.blocks(BLOCK):
            n_bytes += file.write(encoder.push(block))
            tell(report, encoder.n_samples, total)
        n_bytes += file.write(encoder.flush())
        self.n_samples = encoder.n_samples
        self.clipped = encoder.clipped
        return n_bytes

    def notes(self) -> tuple[Note, ...]:
        """Notes on what was lost. Those that came after the header was written aren't in the file."""
        return (*self.reader.notes, *_of_clipping(self.clipped))


def _on_the_grid(quality: float) -> float:
    return round(quality * _GRID) / _GRID


def _of_clipping(n: int) -> tuple[Note, ...]:
    return (Note("sound", f"{n} samples beyond full scale were clipped: make the sound less loud"),) if n else ()


def tell(report: Report | None, done: int, total: int | None) -> None:
    if report is not None:
        report(Step(done / total if total else None, "sound"))


class Search:
    """The search for the quality whose file has at most `most` bytes, by a few encodings.

    log2 of the size is nearly a straight line over the quality. Of a long sound the first tries are of excerpts. kbps:
    what the user has asked for, if it isn't bytes; a sound that is hardly longer than its header takes more.
    """

    def __init__(
        self,
        codec: SoundCodec,
        reader: AudioReader,
        kind: int,
        most: float,
        n_samples: int,
        kbps: float | None = None,
    ) -> None:
        self.codec, self.reader, self.kind, self.most, self.n_samples = codec, reader, kind, most, n_samples
        self.kbps = kbps
        self.clipped = 0  # the same in all encodings

    def run(self, report: Report | None) -> Encoding:
        guess = self._guess()
        low, high = 1.0, 100.0  # of which the first fits, or nothing does
        sizes: dict[float, float] = {}
        best: tuple[float, bytes] | None = None
        for count in range(_MOST):
            quality = _on_the_grid(guess)
            if quality in sizes:
                break
            data = self._encoded(quality)
            tell(report, count + 1, _MOST)
            sizes[quality] = log2(len(data))
            if len(data) <= self.most:
                low = quality
                best = (quality, data) if best is None or quality > best[0] else best
                if len(data) > 0.985 * self.most or quality >= 100:
                    break
            else:
                high = quality
            guess = self._next(sizes, low, high)
        if best is None:
            data = self._encoded(1.0)
            short = self.n_samples < self.reader.info.rate and len(data) <= _HEADER
            if len(data) > self.most and (self.kbps is None or not short):
                raise UsageError(self._too_few(len(data)))
            best = 1.0, data
        done = Encoding(self.codec, self.reader, best[0], self.kind)
        done.quality, done.encodings, done.data, done.n_samples = best[0], len(sizes), best[1], self.n_samples
        done.clipped = self.clipped
        return done

    def _too_few(self, n_bytes: int) -> str:
        if self.kbps is None:
            return f"{self.most:.0f} bytes are too few: {self.codec.name} at quality 1 makes {n_bytes}"
        least = n_bytes * 8e-3 * self.reader.info.rate / self.n_samples
        return f"{self.kbps:g} kbps are too few: {self.codec.name} at quality 1 takes {least:.1f}"

    def _next(self, sizes: Mapping[float, float], low: float, high: float) -> float:
        wanted = log2(self.most * 0.993)
        nearest = sorted(sizes, key=lambda q: abs(sizes[q] - wanted))[:2]
        first = nearest[0]
        slope = 0.055
        if len(nearest) > 1 and abs(first - nearest[1]) > 0.1:
            slope = max(0.01, (sizes[first] - sizes[nearest[1]]) / (first - nearest[1]))
        guess = _on_the_grid(min(max(first + (wanted - sizes[first]) / slope, low), high))
        if guess not in sizes:
            return guess
        if abs(sizes[guess] - wanted) > 0.1:  # the straight line leads nowhere
            return (low + high) / 2
        return guess + (1 / _GRID if guess == low else -1 / _GRID)

    def _encoded(self, quality: float) -> bytes:
        buffer = io.BytesIO()
        encoding = Encoding(self.codec, self.reader, quality, self.kind)
        encoding.write(buffer)
        self.clipped = encoding.clipped
        return buffer.getvalue()

    def _guess(self) -> float:
        """A quality to begin with: of excerpts, if the sound is long."""
        seconds = self.n_samples / self.reader.info.rate
        if seconds < 4 * _EXCERPTS * _EXCERPT_SECONDS:
            return 50.0
        length = _EXCERPT_SECONDS * self.reader.info.rate
        starts = [(2 * k + 1) * self.n_samples // (2 * _EXCERPTS) for k in range(_EXCERPTS)]
        parts = [self.reader.read(start, start + length).samples for start in starts]
        joined = np.concatenate(parts)
        info = changed(self.reader.info, n_samples=len(joined), tags={}, cover=None)
        with open_audio(Audio(joined, info)) as reader:
            search = Search(self.codec, reader, self.kind, self.most * len(joined) / self.n_samples, len(joined))
            with contextlib.suppress(UsageError):
                return search.run(None).quality or 50.0
        return 1.0
