"""Reading sound: what a file is, and its reader. WAV and AIFF by their chunks, all else by FFmpeg (PyAV), in blocks.

What a file is, its first bytes say, and FFmpeg is told: formats that name other files or addresses are never opened. A
WAV comes through a pipe as it is; anything else there is first read to its end.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError, UsageError
from ...files import STDIO, is_stream, name_of, naming
from .. import Probe
from ..notes import Note
from ..signatures import START, describe_unknown, identify
from ..streams import MAX_MEMORY, Again, Joined, keep
from . import aiff, boxes, flac, mp3, pages, wav
from .base import TAKES, AudioReader
from .coded import CodedReader
from .pcm import PcmLayout, PcmReader, read_all
from .resample import Resampler, length_at
from .tags import Tags, from_id3, size_of_id3
from .values import MAX_RATE, Audio, AudioInfo, SampleType, to_float

__all__ = ["AudioReader", "AudioSource", "open_audio", "open_track", "probe_audio", "read_audio"]

AudioSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Audio | Probe
Opened = Callable[[], BinaryIO]


def open_audio(source: AudioSource, rate: int | None = None, track: int = 0) -> AudioReader:
    """Open a file of sound or the sound of a video: a path, "-" for stdin, bytes, a binary stream, a probe, or `Audio`.

    rate: samples a second to which it is resampled, as floats; its own if not given. track: which of a video's tracks
    of sound, counted from 0; the reader's `start` says when it begins. Raises MediaError.
    """
    if rate is not None and not 1 <= rate <= MAX_RATE:
        raise UsageError(f"rate {rate}; expected samples a second, 1 to {MAX_RATE}")
    reader = _opened(source, track)
    if rate is None or rate == reader.info.rate:
        return reader
    return _ResampledReader(reader, rate)


def open_track(opened: Callable[[], BinaryIO], name: str, track: int) -> AudioReader:
    """Open a track of sound of a video, which `opened` opens anew, at its start. name: of the video, for errors."""
    return _of_file(opened, name, track)


def read_audio(source: AudioSource, rate: int | None = None) -> Audio:
    """All sound of a source, in memory. Raises MediaError."""
    with open_audio(source, rate) as reader:
        return reader.read()


def probe_audio(source: AudioSource) -> AudioInfo:
    """The description of a source, without its samples. Raises MediaError."""
    with open_audio(source) as reader:
        return reader.info


def _opened(source: AudioSource, track: int) -> AudioReader:
    if isinstance(source, Audio):
        return _ArrayReader(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _of_bytes(bytes(source), "the data", track)
    if isinstance(source, Probe):
        if source.data is not None:
            return _of_bytes(source.data, name_of(source.source), track)
        source = source.source
    if source == STDIO:
        if sys.stdin is None:
            raise MediaError("stdin is closed: name a file, or send data into the command")
        return _of_stream(sys.stdin.buffer, name_of(STDIO), False, track)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if is_stream(path):  # a pipe, which can be opened once
            return _of_stream(_open(path), str(path), True, track)
        return _of_file(lambda: _open(path), str(path), track, str(path))
    return _of_stream(source, str(getattr(source, "name", "the stream")), False, track)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise MediaError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from None


def _of_bytes(data: bytes, name: str, track: int) -> AudioReader:
    return _of_file(lambda: io.BytesIO(data), name, track)


def _of_stream(stream: BinaryIO, name: str, owned: bool, track: int) -> AudioReader:
    """The reader of a stream: WAV is read as it comes, anything else first to its end."""
    head = read_all(stream, 12)
    if head[:4] in wav.MAGICS and (head[:4] == b"riff" or head[8:] == b"WAVE"):
        joined: BinaryIO = io.BufferedReader(Joined(head, stream, owned), 1 << 16)
        with naming(name):
            layout = wav.layout_of(joined, None)
            if layout is None:
                raise MediaError("a WAV with coded samples can't come through a pipe: name the file")
        layout, cover = _with_id3(layout)
        return PcmReader(lambda: joined, name, layout, cover, kept=joined)
    kept = keep(stream, head, name, owned, "name the file, or pipe WAV", MAX_MEMORY)
    return _of_file(lambda: io.BufferedReader(Again(kept), 1 << 16), name, track)


# ---- formats


def _of_file(opened: Opened, name: str, track: int, path: str = "") -> AudioReader:
    """The reader of a file that `opened` opens anew, at its start. path: its name in commands, "" if it has none."""
    with naming(name):
        try:
            with opened() as stream:
                n_bytes = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                head = stream.read(START)
                key = _key_of(stream, head, path)
                stream.seek(0)
                if key in ("wav", "aiff"):
                    layout = wav.layout_of(stream, n_bytes) if key == "wav" else aiff.layout_of(stream, n_bytes)
                    if layout is not None:
                        layout, cover = _with_id3(layout)
                        return PcmReader(opened, name, layout, cover)
            reader = _FORMATS.get(key or "")
            if reader is None:
                raise MediaError(_what_it_is(head, path))
            return reader(opened, name, n_bytes, track)
        except OSError as error:
            raise MediaError(f"can't be read ({error.strerror or error})") from None


def _key_of(stream: BinaryIO, head: bytes, path: str) -> str | None:
    """The format's key in signatures.KINDS, or "aac" for bare AAC; what is behind an ID3 tag is looked at."""
    key = identify(head, path)
    if head[:3] == b"ID3":
        at = 0
        while size := size_of_id3(head):
            at += size
            stream.seek(at)
            head = read_all(stream, START)
        key = identify(head, path) or "mp3"
    if key == "m4a" and head[4:8] != b"ftyp":
        return "aac"
    if key is None and path.lower().endswith(".mp3"):  # something in front of its first frame
        return "mp3"
    return key


def _what_it_is(head: bytes, path: str) -> str:
    """The words for a file that isn't taken: its format, and the command that makes one of it that is."""
    if not head:
        return "the file is empty: its recording or download wasn't finished"
    return f"not sound that can be read here, but {describe_unknown(head, path, TAKES)}"


def _with_id3(layout: PcmLayout) -> tuple[PcmLayout, Any]:
    """The same with the tags of its ID3 chunk, and its cover."""
    if layout.id3 is None:
        return layout, None
    tags = Tags()
    from_id3(layout.id3, tags)
    notes = (*layout.notes, *(note for note in tags.notes if note not in layout.notes))
    return replace(layout, tags={**layout.tags, **tags.values}, notes=notes), tags.cover


def _flac(opened: Opened, name: str, n_bytes: int, track: int) -> AudioReader:
    with opened() as stream:
        timing = flac.timing_of(stream)
    if timing.is_nothing and timing.frames_at == n_bytes:  # which FFmpeg doesn't take for sound
        sample: SampleType = "int24" if timing.bits > 16 else "int16"
        info = AudioInfo(timing.samples_a_second, timing.channels, 0, "", sample, timing.tags.values, timing.tags.cover)
        return _ArrayReader(Audio(np.zeros((0, info.channels), info.dtype), replace(info, format="flac")))
    return CodedReader(opened, name, "flac", timing)


def _mp3(opened: Opened, name: str, n_bytes: int, track: int) -> AudioReader:
    with opened() as stream:
        timing, is_whole = mp3.timing_of(stream, n_bytes)
    return CodedReader(opened, name, "mp3", timing, count=not is_whole)


def _aac(opened: Opened, name: str, n_bytes: int, track: int) -> AudioReader:
    return CodedReader(opened, name, "aac", count=True)


def _ogg(opened: Opened, name: str, n_bytes: int, track: int) -> AudioReader:
    with opened() as stream:
        timing = pages.timing_of(stream, n_bytes)
    return CodedReader(opened, name, "ogg", timing)


def _mp4(opened: Opened, name: str, n_bytes: int, track: int) -> AudioReader:
    with opened() as stream:
        timing = boxes.timing_of(stream, n_bytes, track)
    reader = CodedReader(opened, name, "mov", timing, track)
    reader.look_beside()
    return reader


def _by_ffmpeg(format: str) -> Callable[[Opened, str, int, int], AudioReader]:
    def opener(opened: Opened, name: str, n_bytes: int, track: int) -> AudioReader:
        reader = CodedReader(opened, name, format, number=track)
        reader.look_beside()
        return reader

    return opener


_FORMATS: dict[str, Callable[[Opened, str, int, int], AudioReader]] = {
    "wav": _by_ffmpeg("wav"),
    "aiff": _by_ffmpeg("aiff"),
    "flac": _flac,
    "mp3": _mp3,
    "ogg": _ogg,
    "ogv": _by_ffmpeg("ogg"),
    "aac": _aac,
    "m4a": _mp4,
    "mp4": _mp4,
    "mov": _mp4,
    "3gp": _mp4,
    "mkv": _by_ffmpeg("matroska"),
    "avi": _by_ffmpeg("avi"),
    "wv": _by_ffmpeg("wv"),
}


# ---- arrays, and other rates


class _ArrayReader(AudioReader):
    def __init__(self, audio: Audio) -> None:
        super().__init__()
        self.info, self._samples = audio.info, audio.samples

    def _parts(self, start: int) -> Iterator[NDArray[Any]]:
        yield self._samples[start:]


class _ResampledReader(AudioReader):
    """A reader at another rate: floats. Any start is reached from 0, so that values don't depend on it."""

    def __init__(self, reader: AudioReader, rate: int) -> None:
        super().__init__()
        self._reader, self._rate, self.again, self.start = reader, rate, reader.again, reader.start
        info = reader.info
        n_samples = None if info.n_samples is None else length_at(info.n_samples, info.rate, rate)
        self._resampler()  # refuses rates
        self.info = replace(info, rate=rate, n_samples=n_samples, sample="float32")

    def _resampler(self) -> Resampler:
        info = self._reader.info
        return Resampler(info.rate, self._rate, info.channels)

    @property
    def notes(self) -> tuple[Note, ...]:
        return (*self._reader.notes, *(note for note in self._notes if note.kind != "cut"))

    def _parts(self, start: int) -> Iterator[NDArray[Any]]:
        resampler, bits = self._resampler(), self._reader.info.bits
        at = 0
        for block in self._reader.blocks():
            part = resampler.push(to_float(block, bits))
            yield part[max(0, start - at) :]
            at += len(part)
        yield resampler.finish()[max(0, start - at) :]

    def close(self) -> None:
        self._reader.close()
