"""Sound beside a picture that a codec of sound has coded: its whole file lies in chunks of the video's file.

Any codec of sound that the registry knows can do it; nothing here knows which there are. The file of a track is cut
into chunks `Trac` of equal length, so that its place follows from its length, and is read as if it lay alone: what
isn't asked for isn't decoded, and damage reaches as far as it does in a file of sound. docs/format.md has the bytes.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from numpy.typing import NDArray

from ....container import Chunk, ChunkPlace, ChunkReader, Header, Value
from ....errors import CodecError, ContainerError, MediaError, StreamError, UsageError, WeightsError
from ....media.audio.values import Audio
from ....media.notes import Note
from ....media.video.soundtracks import SoundTrack, samples_between
from ....registry import default, entry, names, split_tag
from ..audio.codec import AudioCodec
from ..audio.file import AudioFile
from ..codec import Codec, decoder_for
from ..limits import Limits
from ..settings import check_declared
from ..weights import find_by_hash

if TYPE_CHECKING:
    from ....media.video.base import VideoReader

__all__ = [
    "COPY",
    "TRACK",
    "CodedTrack",
    "SoundOfVideo",
    "TrackPlace",
    "chunks_of_tracks",
    "described",
    "encode_sounds",
    "open_sounds",
    "places_of_tracks",
    "to_params",
]

COPY, NONE = "copy", "none"  # in place of a codec's name
TRACK = "Trac"  # the tag of a part of a track's file
TRACKS = "tracks"  # in params: of each track its start in samples, the bytes of its file, its flags
PART = 1 << 16  # bytes of each chunk but a track's last one
MAX_TRACKS = 64
MAX_BYTES = 1 << 28  # of the files of all tracks, when they are written
_LATEST = 1 << 48  # samples


def check_sound(sound: str) -> None:
    """Raise UsageError for a name that isn't "copy", "none" or that of a codec of sound."""
    known = names("audio")
    if sound not in (COPY, NONE) and sound.partition("@")[0] not in known:
        raise UsageError(f"sound {sound!r:.80}: expected {COPY}, {NONE} or a codec of sound: {', '.join(known)}")


def check_rate(sound: str, kbps: float | None) -> None:
    """Raise UsageError for a rate of sound that isn't coded, or that its codec doesn't take."""
    if kbps is None:
        return
    if sound in (COPY, NONE):
        raise UsageError(f"sound_kbps {kbps:g}: it is for sound that is coded: --sound {default('audio')}")
    check_declared(split_tag(sound)[0], ["kbps"], entry(sound).settings)


# ---- writing


@dataclass(frozen=True)
class CodedTrack:
    """A track of sound that is coded. data: its whole file. start: samples from the first picture to its first one.

    early: seconds by which it begins before the first picture. about: facts for a summary.
    """

    data: bytes
    start: int
    flags: int
    early: Fraction
    about: Mapping[str, Any]
    notes: tuple[Note, ...]

    @property
    def n_bytes(self) -> int:
        """The bytes that it takes in the file of a video."""
        return len(self.data) + -(-len(self.data) // PART) * ChunkPlace(TRACK, 0, 0).end

    @property
    def words(self) -> str:
        return f"sound: {self.about['codec']}, {self.about['kbps']:.1f} kbps"


def encode_sounds(reader: VideoReader, sound: str, kbps: float | None) -> list[CodedTrack]:
    """All tracks of sound of a video, coded; none for "copy" and "none"."""
    if sound in (COPY, NONE):
        return []
    codec = Codec.load(sound)
    if not isinstance(codec, AudioCodec):
        raise UsageError(f"sound {sound!r}: {codec.name} can't be read within a video; expected an AudioCodec")
    if kbps is not None:
        codec = codec.with_settings(kbps=kbps)
    tracks: list[CodedTrack] = []
    with tempfile.TemporaryDirectory() as folder, about_sound():
        for number, track in enumerate(reader.sounds()):
            path = os.path.join(folder, str(number))
            summary = codec.encode_file(track.reader, path)
            with open(path, "rb") as file:
                data = file.read()
            rate = track.reader.info.rate
            about = {"codec": sound, "bytes": len(data), **{key: summary.about[key] for key in ("kbps", "duration")}}
            of_tags = set(track.reader.notes) - set(track.notes)
            notes = tuple(note for note in summary.notes if note not in of_tags)
            start = round(track.start * rate)
            early = Fraction(max(0, -start), rate)
            tracks.append(CodedTrack(data, start, track.flags, early, about, notes))
            if sum(track.n_bytes for track in tracks) > MAX_BYTES or len(tracks) > MAX_TRACKS:
                raise MediaError(
                    f"more than {MAX_BYTES} bytes, or {MAX_TRACKS} tracks: code it at a lower rate, or cut the video"
                )
    return tracks


def to_params(tracks: Sequence[CodedTrack]) -> dict[str, Value]:
    """The entry of the header's params that says where the files of tracks are; none for none."""
    flat = tuple(value for track in tracks for value in (track.start, len(track.data), track.flags))
    return {TRACKS: flat} if flat else {}


def chunks_of_tracks(tracks: Sequence[CodedTrack]) -> list[Chunk]:
    """The chunks that hold the files of tracks, in order."""
    return [Chunk(TRACK, track.data[at : at + PART]) for track in tracks for at in range(0, len(track.data), PART)]


# ---- reading


class TrackPlace(NamedTuple):
    """A track in a file: its start in samples, its flags, and the number and the places of the chunks of its file."""

    start: int
    flags: int
    index: int
    parts: tuple[ChunkPlace, ...]


def places_of_tracks(header: Header, index: int, position: int, n_bytes: int) -> list[TrackPlace]:
    """The tracks of a video's file, whose first chunk has this number and position; StreamError for what can't be.

    n_bytes: of the video's file.
    """
    flat = header.params.get(TRACKS, ())
    if not isinstance(flat, tuple) or len(flat) % 3 or len(flat) > 3 * MAX_TRACKS:
        raise StreamError("the list of its tracks of sound isn't any: the file is damaged")
    out: list[TrackPlace] = []
    for start, size, flags in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        if type(start) is not int or type(size) is not int or type(flags) is not int:
            raise StreamError("the list of its tracks of sound isn't one of numbers: the file is damaged")
        if abs(start) > _LATEST or not 0 < size <= n_bytes or not 0 <= flags < 1 << 31:
            raise StreamError(f"a track of sound of {size} bytes, from sample {start} on: the file is damaged")
        parts: list[ChunkPlace] = []
        for at in range(0, size, PART):
            parts.append(ChunkPlace(TRACK, position, min(PART, size - at)))
            position = parts[-1].end
        out.append(TrackPlace(start, flags, index, tuple(parts)))
        index += len(parts)
    return out


class _Carried(io.RawIOBase):
    """The file of a track, which lies in chunks of another one, each of which is verified where it is read.

    conceal: of a damaged chunk its bytes are given as they are: the file of a track has checksums of its own.
    """

    def __init__(self, file: BinaryIO, chunks: ChunkReader, place: TrackPlace, conceal: bool) -> None:
        self._file, self._chunks, self._place, self._conceal = file, chunks, place, conceal
        self._n_bytes = sum(part.n_bytes for part in place.parts)
        self._at = 0
        self._last: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._n_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._n_bytes:
            return 0
        number, offset = divmod(self._at, PART)
        if self._last[0] != number:
            self._last = number, self._part(number)
        data = self._last[1][offset : offset + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _part(self, number: int) -> bytes:
        part = self._place.parts[number]
        try:
            chunk, end = self._chunks.read(self._place.index + number, part.position)
            if chunk.tag != TRACK or end != part.end:
                raise StreamError(f"chunk {self._place.index + number} isn't a part of it: the file is damaged")
            return chunk.payload
        except (ContainerError, StreamError):
            if not self._conceal:
                raise
        self._file.seek(part.end - part.n_bytes - 4)
        return self._file.read(part.n_bytes).ljust(part.n_bytes, b"\0")


class SoundOfVideo:
    """A track of sound in the file of a video that is open.

    codec: the name of the codec that coded it. info: the sound. start: seconds from the first picture to the first
    sample, may be negative. flags: FFmpeg's disposition. texts: title, language and others.
    """

    def __init__(self, file: AudioFile, place: TrackPlace) -> None:
        self._file = file
        self.codec, self.info, self.flags = file.header.codec, file.info, place.flags
        self.start = Fraction(place.start, file.info.rate)
        self.texts = {key.lower(): values[0] for key, values in file.info.tags.items() if values}

    @property
    def notes(self) -> list[Note]:
        """Notes on what is missing of it, once it was decoded where damage is concealed."""
        return [note for note in self._file.notes if note.kind in ("damage", "cut")]

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[Any]]:
        """The samples start to stop - 1, in arrays (k, channels) of info.dtype."""
        with about_sound():
            yield from self._file.blocks(start, stop)

    def read(self) -> Audio:
        """All of its samples, in memory."""
        with about_sound():
            return self._file.read()

    def track(self, span: tuple[Fraction, Fraction] | None = None) -> SoundTrack:
        """The track as it is written beside the pictures. span: those from which and to which, in seconds."""
        first, stop, begin = 0, self._file.n_samples, Fraction(0)
        if span is not None:
            begin = span[0]
            first, stop = (min(n, stop) for n in samples_between(self.start, self.info.rate, *span))
        start = self.start + Fraction(first, self.info.rate) - begin
        return SoundTrack(self.info, start, lambda: self.blocks(first, stop), self.texts, self.flags)


def open_sounds(
    file: BinaryIO, chunks: ChunkReader, places: Sequence[TrackPlace], conceal: bool, limits: Limits
) -> tuple[list[SoundOfVideo], list[Note]]:
    """The tracks of a file, and with conceal, a note on each of which nothing can be read."""
    tracks: list[SoundOfVideo] = []
    lost: list[Note] = []
    for place in places:
        try:
            with about_sound():
                carried = cast(BinaryIO, io.BufferedReader(_Carried(file, chunks, place, conceal), PART))
                header = ChunkReader(carried).header
                if header.medium != "audio":
                    raise ContainerError(f"a file of {header.codec}, which isn't sound: the file is damaged")
                codec = decoder_for(header, limits=limits)
                if not isinstance(codec, AudioCodec):
                    raise ContainerError(f"{codec.name} can't be read within a video: decode it by another version")
                tracks.append(SoundOfVideo(AudioFile(codec, carried, conceal), place))
        except (ContainerError, StreamError):
            if not conceal:
                raise
            lost.append(Note("damage", "the sound can't be read: left out"))
    return tracks, lost


def described(file: BinaryIO) -> dict[str, Any]:
    """Facts about the tracks of a video's file, by a name for each: "sound", then "sound 2"..."""
    chunks = ChunkReader(file)
    places = chunks.places()
    first = next((number for number, place in enumerate(places) if place.tag == TRACK), None)
    if first is None:
        return {}
    out: dict[str, Any] = {}
    for place in places_of_tracks(chunks.header, first, places[first].position, chunks.n_bytes):
        with about_sound():
            carried = io.BufferedReader(_Carried(file, chunks, place, False), PART)
            data = carried.read()
            header = ChunkReader(io.BytesIO(data)).header
            about: dict[str, Any] = {"codec": header.codec, "weights": header.weights.hex()}
            about |= _tag_of(header)
            facts = AudioCodec.describe(data)
            rate = facts["rate"]
            about |= {"bytes": len(data), **facts, "start": round(place.start / rate, 6) if rate > 0 else 0.0}
        out[f"sound {len(out) + 1}" if out else "sound"] = about
    return out


def _tag_of(header: Header) -> dict[str, str]:
    """The tag of shipped weights, by its name; {} for others."""
    try:
        return {"tag": find_by_hash(header.codec, header.weights).tag}
    except WeightsError:
        return {}


@contextmanager
def about_sound() -> Iterator[None]:
    """Puts in front of an error that it is about the sound."""
    try:
        yield
    except CodecError as error:
        words = str(error)
        if not words.startswith("the sound"):
            error.args = (f"the sound: {words}", *error.args[1:])
        raise
