"""Reading video: MP4, MOV, MKV, WebM and AVI by FFmpeg (PyAV), Y4M, folders of PNGs, arrays. One frame at a time.

What a file is, its first bytes say, and FFmpeg is told: formats that name other files or addresses are never opened.
A damaged file is an error. A file that merely ends early gives the frames that are whole, and a note.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, UsageError
from ...files import STDIO, is_stream, name_of, naming
from ..notes import Note
from ..signatures import describe_unknown
from ..streams import MAX_MEMORY, Again, Joined, keep
from . import sound as sounds
from . import y4m
from .base import TAKES, VideoReader
from .file import FileReader
from .folder import FolderReader
from .values import FULL, Chapter, Frame, VideoInfo, frames_of, yuv_to_rgb

if TYPE_CHECKING:
    from .soundtracks import ReadTrack

__all__ = ["MAX_MEMORY", "VideoReader", "VideoSource", "chapters_of", "cut", "open_video"]

VideoSource = str | os.PathLike[str] | bytes | BinaryIO | NDArray[Any]


def open_video(source: VideoSource, frame_rate: Fraction | int | None = None) -> VideoReader:
    """Open a file (path), a folder of PNGs, a file in memory (bytes), a binary stream ("-": stdin), or an array.

    frame_rate: of a folder or an array, which have none of their own; 25 if not given. Raises MediaError; UsageError
    for a frame rate of a file, which has its own times.
    """
    if isinstance(source, np.ndarray):
        return _ArrayReader(source, frame_rate or 25)
    if isinstance(source, (str, os.PathLike)) and source != STDIO and os.path.isdir(source):
        return FolderReader(Path(source), None if frame_rate is None else Fraction(frame_rate))
    if frame_rate is not None:
        raise UsageError("--fps: this video has its own times; it is for folders of pictures, which have none")
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return _open_bytes(lambda: io.BytesIO(data), "the data")
    if source == STDIO:
        return _open_stream(sys.stdin.buffer, name_of(STDIO))
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if is_stream(path):  # a pipe, which can be opened once
            return _open_stream(_opened(path), str(path), owned=True)
        return _open_bytes(lambda: path.open("rb"), str(path))
    return _open_stream(source, str(getattr(source, "name", "the stream")))


def _open_bytes(opened: Callable[[], BinaryIO], name: str) -> VideoReader:
    """The reader of a file that `opened` opens anew, at its start."""
    try:
        with opened() as stream:
            head = stream.read(256)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise MediaError(f"{name}: can't be read ({getattr(error, 'strerror', None) or error})") from None
    if head.startswith(y4m.MAGIC):
        return _Y4mReader(opened, name)
    format = _format_of(head)
    if format is None:
        raise MediaError(f"{name}: {_what_it_is(head)}")
    return FileReader(opened, format, name)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise MediaError(f"{path}: can't be read ({error.strerror or error})") from None


def _open_stream(stream: BinaryIO, name: str, owned: bool = False) -> VideoReader:
    """The reader of a stream: Y4M is read as it comes, anything else first to its end.

    owned: whether the stream is closed after that.
    """
    head = stream.read(len(y4m.MAGIC))
    while len(head) < len(y4m.MAGIC) and (more := stream.read(len(y4m.MAGIC) - len(head))):
        head += more
    if head == y4m.MAGIC:
        once: list[BinaryIO] = [io.BufferedReader(Joined(head, stream, owned), 1 << 16)]

        def opened() -> BinaryIO:
            if not once:
                raise MediaError(f"{name}: a pipe can be read only once")
            return once.pop()

        return _Y4mReader(opened, name, keep=True)
    kept = keep(stream, head, name, owned, "name the file, or pipe Y4M", MAX_MEMORY)
    return _open_bytes(lambda: io.BufferedReader(Again(kept), 1 << 16), name)


def _format_of(head: bytes) -> str | None:
    """FFmpeg's name of the container that begins with these bytes; None for one that isn't read."""
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "avi"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "mov"
    return None


def _what_it_is(head: bytes) -> str:
    """The words for a file that isn't taken: its format, and the command that makes one of it that is."""
    if not head:
        return "the file is empty: its recording or download wasn't finished"
    return f"not a video that can be read here, but {describe_unknown(head, '', TAKES)}"


# ---- Y4M


class _Y4mReader(VideoReader):
    """A Y4M. keep: there is but one stream, which can't be opened again: it stays open for the frames."""

    def __init__(self, opened: Callable[[], BinaryIO], name: str, keep: bool = False) -> None:
        super().__init__()
        self._opened, self._name, self._kept = opened, name, None
        stream = opened()
        try:
            with self._about():
                header = y4m.read_header(stream)
        finally:
            if not keep:
                stream.close()
        self._kept = (stream, header) if keep else None
        self.again = not keep
        notes: tuple[Note, ...] = ()
        if header.info.pixels == "rgb24":
            notes = (Note("chroma", f"C{header.chroma}: converted to RGB, 8 bits"),)
        color = {} if header.info.pixels == "rgb24" else header.info.color
        self._full = header.info.color.get("range") == FULL
        self.info = replace(header.info, notes=notes, color=color)

    def __iter__(self) -> Iterator[Frame]:
        with self._about():
            if self._kept is not None:
                (stream, header), self._kept = self._kept, None
            else:
                stream = self._opened()
                header = y4m.read_header(stream)
            index = -1
            with stream:
                for index, planes in enumerate(y4m.read_frames(stream, header)):
                    if planes is None:
                        index -= 1
                        self._note("cut", f"the file ends early, in the frame after {index + 1} whole ones")
                        break
                    if self.info.pixels == "rgb24":
                        planes = (yuv_to_rgb(planes, self.info.matrix, self._full),)
                    yield Frame(planes, index, 1)
            if index < 0:
                raise MediaError("no whole frame in it")

    @contextmanager
    def _about(self) -> Iterator[None]:
        with naming(self._name):
            try:
                yield
            except OSError as error:
                raise MediaError(f"can't be read ({error.strerror or error})") from None


# ---- arrays


class _ArrayReader(VideoReader):
    def __init__(self, array: NDArray[Any], rate: Fraction | int) -> None:
        super().__init__()
        self._array, self._rate = array, rate
        self.info, _ = frames_of(array, rate)
        self.n_frames = len(array)

    def __iter__(self) -> Iterator[Frame]:
        return frames_of(self._array, self._rate)[1]


# ---- a part


def cut(reader: VideoReader, start: int = 0, stop: int | None = None) -> VideoReader:
    """A reader of the frames start to stop - 1 of a video, the first of them at time 0, and of their sound."""
    if start < 0 or (stop is not None and stop <= start):
        raise UsageError(f"frames {start}:{'' if stop is None else stop}; expected 0 <= START < STOP, as in 0:100")
    return reader if start == 0 and stop is None else _CutReader(reader, start, stop)


class _CutReader(VideoReader):
    """A part of a video. Its sound needs the times of the frames: asked for before those were read, it reads them."""

    def __init__(self, reader: VideoReader, start: int, stop: int | None) -> None:
        super().__init__()
        self._reader, self._start, self._stop = reader, start, stop
        self._span: tuple[Fraction, Fraction] | None = None
        self.again = reader.again
        self.info = reader.info if start == 0 else replace(reader.info, chapters=(), early=Fraction(0))
        if reader.n_frames is not None:
            self.n_frames = max(0, min(reader.n_frames, stop or reader.n_frames) - start)

    @property
    def notes(self) -> tuple[Note, ...]:
        return self._reader.notes

    def __iter__(self) -> Iterator[Frame]:
        origin: int | None = None
        index = -1
        for index, frame in enumerate(self._reader):
            if index < self._start:
                continue
            origin = frame.pts if origin is None else origin
            yield Frame(frame.planes, frame.pts - origin, frame.duration)
            self._span = (origin * self.info.time_base, (frame.pts + frame.duration) * self.info.time_base)
            if index + 1 == self._stop:
                return
        if origin is None:
            raise MediaError(f"frames from {self._start} on, of a video that has {index + 1}")

    def audio(self) -> bytes | None:
        return self.beside()

    def beside(self, sound: bool = True) -> bytes | None:
        audio = self._reader.beside(sound)
        span = self._read_span() if audio is not None or self._reader.info.chapters else self._span
        if span is None:
            return None
        self.info = replace(self.info, chapters=chapters_of(self._reader.info, *span))
        return sounds.cut_audio(audio, *span)

    def sounds(self) -> list[ReadTrack]:
        tracks = self._reader.sounds()
        span = self._read_span() if tracks else None
        if span is None:
            return []
        from .soundtracks import part_of

        return [part_of(track, *span) for track in tracks]

    def _read_span(self) -> tuple[Fraction, Fraction] | None:
        """The seconds from which and to which the frames are, for which they are read if they weren't."""
        for _ in self if self._span is None else ():
            pass
        return self._span

    def close(self) -> None:
        self._reader.close()


def chapters_of(info: VideoInfo, start: Fraction, stop: Fraction) -> tuple[Chapter, ...]:
    """The chapters of a part of a video, in seconds from its first frame on."""
    parts = [chapter for chapter in info.chapters if chapter.start < stop and chapter.end > start]
    return tuple(Chapter(max(start, c.start) - start, min(stop, c.end) - start, c.title) for c in parts)
