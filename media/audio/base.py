"""The reader of sound that all kinds of input share. It imports no other reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, UsageError
from ..notes import Note
from .values import Audio, AudioInfo

__all__ = ["BLOCK", "MAX_READ", "TAKES", "AudioReader"]

TAKES = "WAV, FLAC, MP3, Ogg, Opus, M4A, AIFF or WavPack"
BLOCK = 1 << 16  # samples of each channel that are read at a time
MAX_READ = 1 << 31  # bytes of an array of samples


class AudioReader(ABC):
    """Open sound, read in blocks. It begins at the first sample again for each call, unless it comes through a pipe.

    info: what it is; once all is read, its n_samples is known and right. notes: what isn't kept as it was, or went
    wrong without being an error; complete once all is read. again: whether samples can be had more than once. start:
    seconds by which the first sample comes after the first picture of the video that it belongs to; 0 elsewhere.
    """

    info: AudioInfo
    again: bool = True
    start: Fraction = Fraction(0)

    def __init__(self) -> None:
        self._notes: list[Note] = []

    @property
    def notes(self) -> tuple[Note, ...]:
        return tuple(self._notes)

    @abstractmethod
    def _parts(self, start: int) -> Iterator[NDArray[Any]]:
        """The samples from `start` on, (k, channels) of info.dtype, any k; all that there are, or MediaError."""

    def blocks(self, size: int = BLOCK, start: int = 0, stop: int | None = None) -> Iterator[NDArray[Any]]:
        """The samples start to stop - 1 in arrays of `size`, (size, channels) of info.dtype; the last may be shorter.

        A start is exact to the sample, and the values are those that reading from 0 on gives. Where the sound ends
        before `stop`, so do the blocks. Each array is the caller's to keep.
        """
        if size < 1 or start < 0 or (stop is not None and stop < start):
            raise UsageError(f"samples {start}:{stop} in blocks of {size}; expected 0 <= start <= stop, and 1 or more")
        return self._cut(self._counted(start, stop), size)

    def _counted(self, start: int, stop: int | None) -> Iterator[NDArray[Any]]:
        """The parts from start to stop; what their number says about the whole is kept."""
        at = start
        for part in self._parts(start) if stop is None or stop > start else ():
            if stop is not None and at + len(part) >= stop:
                yield part[: stop - at]
                return
            at += len(part)
            yield part
        if stop is None and (at > start or start == 0):
            self._ended(at)

    def _ended(self, n_samples: int) -> None:
        """Keeps what is known when all is read: how many samples there are, and how many are missing."""
        expected = self.info.n_samples
        if expected is not None and n_samples < expected:
            self._note("cut", f"the sound ends early: {expected - n_samples} of {expected} samples are missing")
        if expected != n_samples:
            self.info = replace(self.info, n_samples=n_samples)

    @staticmethod
    def _cut(parts: Iterator[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
        kept: list[NDArray[Any]] = []
        n_kept = 0
        for part in parts:
            while len(part):
                taken = part[: size - n_kept]
                part = part[len(taken) :]
                kept.append(taken)
                n_kept += len(taken)
                if n_kept == size:
                    yield np.concatenate(kept)
                    kept, n_kept = [], 0
        if kept:
            yield np.concatenate(kept)

    def read(self, start: int = 0, stop: int | None = None) -> Audio:
        """The samples start to stop - 1, all of them in memory."""
        blocks: list[NDArray[Any]] = []
        n_bytes = 0
        for block in self.blocks(BLOCK, start, stop):
            blocks.append(block)
            n_bytes += block.nbytes
            if n_bytes > MAX_READ:
                raise MediaError(f"sound of more than {MAX_READ} bytes of samples in memory; expected less: read parts")
        empty = np.zeros((0, self.info.channels), self.info.dtype)
        samples = np.concatenate(blocks) if blocks else empty
        return Audio(samples, replace(self.info, n_samples=len(samples)))

    def check(self) -> None:
        """Read all samples, so that what can't be read is refused now, and notes and their number are known."""
        for _ in self.blocks():
            pass

    def close(self) -> None:
        return

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, kind: str, words: str) -> None:
        if (note := Note(kind, words)) not in self._notes:
            self._notes.append(note)
