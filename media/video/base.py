"""The reader of a video that all kinds of input share. It imports no other reader."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING

from ..notes import Note
from .sound import without_sound
from .values import Frame, VideoInfo

if TYPE_CHECKING:
    from .soundtracks import ReadTrack

__all__ = ["TAKES", "VideoReader"]

TAKES = "MP4, MOV, MKV, WebM, AVI or Y4M, a folder of PNGs"


class VideoReader(ABC):
    """An open video. Iterating gives its frames, from the first one again each time unless it comes through a pipe.

    info: what it is. n_frames: how many frames there probably are, if that is known before reading them. notes: what
    isn't kept as it was, or went wrong without being an error; complete once all frames are read. again: whether frames
    can be had more than once.
    """

    info: VideoInfo
    n_frames: int | None = None
    again: bool = True

    def __init__(self) -> None:
        self._notes: list[Note] = []

    @property
    def notes(self) -> tuple[Note, ...]:
        return (*self.info.notes, *self._notes)

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def check(self) -> None:
        """Read all frames, so that what can't be read is refused now, and notes and the number of frames are known."""
        self.n_frames = sum(1 for _ in self)

    def audio(self) -> bytes | None:
        """All tracks beside the picture, their packets unchanged, as a Matroska file whose time 0 is the first picture.

        None if there are none.
        """
        return None

    def beside(self, sound: bool = True) -> bytes | None:
        """The same with sound or without it: subtitles and attached files are there in any case."""
        audio = self.audio()
        return audio if sound or audio is None else without_sound(audio)

    def sounds(self) -> list[ReadTrack]:
        """The tracks of sound, to be decoded: each with the time at which its first sample is heard.

        MediaError for sound that can't be.
        """
        audio = self.audio()
        if audio is None:
            return []
        from .soundtracks import tracks_of

        return tracks_of(lambda: io.BytesIO(audio), "matroska", "the sound", Fraction(0))

    def close(self) -> None:
        return

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, kind: str, words: str) -> None:
        if (note := Note(kind, words)) not in self.notes:
            self._notes.append(note)
