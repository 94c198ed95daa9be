"""Tracks of sound beside a picture, decoded: those of a video that is read, for a codec that codes them anew.

`sound` and `tracks` carry packets along as they are; here they become samples. The reader of sound cuts off what an
encoder put around them, so a track begins with its first sample that is heard, and its time is that of this sample.
Gaps between packets become silence: what comes behind them stays beside its picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from numpy.typing import NDArray

from ...errors import MediaError
from ..audio.base import AudioReader
from ..audio.coded import CodedReader
from ..audio.reader import open_track
from ..audio.values import AudioInfo
from ..ffmpeg import errors, open_input, ratio
from ..notes import Note
from .sound import samples_to_skip, time_of
from .tracks import plain_tags

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

__all__ = ["ReadTrack", "SoundTrack", "part_of", "samples_between", "tracks_of"]

_ADVICE = "--sound copy keeps it as it is, --no-sound leaves it out"
_OF_TAGS = frozenset({"tags", "cover", "attachment"})  # notes on what belongs to the video, which keeps it itself


class SoundTrack(NamedTuple):
    """A track of sound that is written beside a picture.

    start: seconds from the first picture to the first sample, may be negative. blocks: gives the samples, (k, channels)
    of info.dtype. texts: its title, its language and others. flags: FFmpeg's disposition.
    """

    info: AudioInfo
    start: Fraction
    blocks: Callable[[], Iterable[NDArray[Any]]]
    texts: Mapping[str, str]
    flags: int = 0


class ReadTrack(NamedTuple):
    """A track of sound of a video that is read. start, flags: as of `SoundTrack`; its texts are the reader's tags."""

    reader: AudioReader
    start: Fraction
    flags: int

    @property
    def notes(self) -> list[Note]:
        """Notes on its samples."""
        return [note for note in self.reader.notes if note.kind not in _OF_TAGS]


def tracks_of(opened: Callable[[], BinaryIO], format: str, name: str, start: Fraction) -> list[ReadTrack]:
    """The tracks of sound of a video that `opened` opens anew, at its start. MediaError for sound that isn't read.

    format: FFmpeg's name of the container. start: the time of its first picture, in seconds.
    """
    facts: list[tuple[Fraction, Mapping[str, str], int]] = []
    with opened() as file, open_input(file, format, None, 1 << 16) as container:
        begins = _begins(container, format)
        for stream in container.streams.audio:
            begin, base = begins[stream.index] - start, ratio(stream.time_base) or Fraction(0)
            begin = Fraction(0) if abs(begin) < base else begin  # in milliseconds, an encoder's delay is rounded
            facts.append((begin, plain_tags(stream.metadata), int(stream.disposition or 0)))
    tracks = []
    for number, (begin, texts, flags) in enumerate(facts):
        try:
            reader = open_track(opened, name, number)
        except MediaError as error:
            raise MediaError(f"{error}: {_ADVICE}") from error
        if isinstance(reader, CodedReader) and format in ("matroska", "mov"):  # AVI's times are guesses
            reader.keep_gaps()
        tags = {key.upper(): (value,) for key, value in texts.items()}
        reader.info = replace(reader.info, tags=tags, cover=None)
        tracks.append(ReadTrack(reader, begin, flags))
    return tracks


def _begins(container: InputContainer, format: str) -> dict[int, Fraction]:
    """The seconds at which the first sample of each track is heard, by the track's index."""
    streams = container.streams.audio
    begins = {stream.index: (stream.start_time or 0) * (ratio(stream.time_base) or Fraction(0)) for stream in streams}
    waiting = set(begins)
    for packet in container.demux(*streams) if streams else ():
        if packet.stream_index in waiting and (begin := _heard(packet, format)) is not None:
            begins[packet.stream_index] = begin
            waiting.remove(packet.stream_index)
            if not waiting:
                break
    return begins


def _heard(packet: Packet, format: str) -> Fraction | None:
    """The seconds at which the first sample of a packet is heard; None if none is, as of one that starts a decoder."""
    if format == "mov":  # whose edit lists the reader of sound reads by itself: they are the time of a packet
        return time_of(packet) + samples_to_skip(packet) if packet.size and packet.pts is not None else None
    with contextlib.suppress(*errors()):
        for frame in packet.decode():
            base = ratio(frame.time_base)
            if frame.pts is not None and base is not None:
                return frame.pts * base
    return None


def samples_between(start: Fraction, rate: int, begin: Fraction, end: Fraction) -> tuple[int, int]:
    """The samples of a track that begin in begin <= t < end, first and one after the last: of as many as there may be.

    From the very start on, 0, also those before it.
    """
    first = max(0, ceil((begin - start) * rate)) if begin > 0 else 0
    return first, max(first, ceil((end - start) * rate))


def part_of(track: ReadTrack, begin: Fraction, end: Fraction) -> ReadTrack:
    """The part of a track beside the pictures from `begin` to `end`, in seconds; `begin` becomes 0."""
    rate = track.reader.info.rate
    first, stop = samples_between(track.start, rate, begin, end)
    return ReadTrack(_Part(track.reader, first, stop), track.start + Fraction(first, rate) - begin, track.flags)


class _Part(AudioReader):
    """The samples first to stop - 1 of a reader, as far as it has them."""

    def __init__(self, reader: AudioReader, first: int, stop: int) -> None:
        super().__init__()
        self._reader, self._first, self._stop, self.again = reader, first, stop, reader.again
        n_samples = reader.info.n_samples
        length = None if n_samples is None else max(0, min(stop, n_samples) - first)
        self.info = replace(reader.info, n_samples=length)

    @property
    def notes(self) -> tuple[Note, ...]:
        return (*self._reader.notes, *self._notes)

    def _parts(self, start: int) -> Iterator[NDArray[Any]]:
        begin = min(self._first + start, self._stop)
        return self._reader.blocks(start=begin, stop=self._stop)

    def close(self) -> None:
        self._reader.close()
