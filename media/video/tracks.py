"""The tracks of a file beside its picture, its tags and chapters: each is kept, or there is a note.

Sound, subtitles and attached files are carried along in Matroska, packet for packet. Sound that Matroska has no name
for is decoded to PCM, which is the same samples. What this module doesn't know is noted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import MediaError
from ..ffmpeg import errors, ratio
from ..notes import Note
from .attached import AttachedFile, files_of, is_cover
from .sound import CLUSTER, EARLIEST, MATROSKA, MAX_AUDIO, bitexact, move, samples_to_skip, time_of, with_cluster
from .values import Chapter

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["Beside", "Texts", "collect", "describe", "left_out_of_picture", "plain_tags"]

MAX_TEXT, MAX_TAGS, MAX_CHAPTERS = 1 << 16, 1000, 1000
_ROUNDING = Fraction(1, 500)  # seconds: Matroska counts in milliseconds
_LEAVE_OUT = "--no-sound leaves the sound out"
# Tags that describe the file as it was: its brands, its encoder, counts of its packets. They say nothing of another.
_TECHNICAL = frozenset(
    [
        *(
            "major_brand",
            "minor_version",
            "compatible_brands",
            "encoder",
            "duration",
            "vendor_id",
            "alpha_mode",
            "rotate",
        ),
        *("bps", "number_of_frames", "number_of_bytes", "_statistics_writing_app", "_statistics_writing_date_utc"),
        *("_statistics_tags", "filename", "mimetype", "source_id", "software"),
    ]
)
_PCM = {"u8": "pcm_u8", "s16": "pcm_s16le", "s32": "pcm_s32le", "flt": "pcm_f32le", "dbl": "pcm_f64le"}
# Elements of Matroska's description of a picture's track, and what they tell.
_ELEMENTS = {
    0x55D0: Note("colour", "brightness and colours of the display it was mastered on: left out"),
    0x55BC: Note("colour", "the brightest values (MaxCLL): left out"),
    0x55BD: Note("colour", "the brightest values (MaxFALL): left out"),
    0x7671: Note("metadata", "the projection (a view of 360 degrees or a part of it): left out"),
    0x53B8: Note("picture", "stereo 3D: that the frames hold two views is left out"),
}
_CROP = {0x54CC: "left", 0x54DD: "right", 0x54BB: "top", 0x54AA: "bottom"}
_MASTERS = {
    0x18538067,
    0x1654AE6B,
    0xAE,
    0xE0,
    0x55B0,
    0x7670,
}  # Segment, Tracks, TrackEntry, Video, Colour, Projection
_CHROMA_HORIZONTAL, _CHROMA_VERTICAL = 0x55B7, 0x55B8
_PLACES = {(1, 2): 1, (2, 2): 2, (1, 1): 3, (2, 1): 4}  # of chroma samples: Matroska's numbers, and FFmpeg's


class Texts(NamedTuple):
    """The texts of a file about itself. tags: of the whole; track: of the picture's track."""

    tags: Mapping[str, str]
    track: Mapping[str, str]
    chapters: tuple[Chapter, ...]
    notes: list[Note]


class Beside(NamedTuple):
    """The tracks that are carried along. data: Matroska, None if none are. early: seconds before the first picture."""

    data: bytes | None
    early: Fraction
    notes: list[Note]


# ---- tags and chapters


def plain_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """The tags that describe the content. Keys that FFmpeg gives twice, as "title" and "title-eng", are there once."""
    kept: dict[str, str] = {}
    for key, value in metadata.items():
        name = key.lower()
        base = name.rpartition("-")[0]
        if name in _TECHNICAL or base in _TECHNICAL or not value.strip():
            continue
        if (name == "language" and value == "und") or (name == "handler_name" and _is_usual_handler(value)):
            continue
        if base and any(other.lower() == base and metadata[other] == value for other in metadata):
            continue
        kept[key] = value
    return kept


def _is_usual_handler(name: str) -> bool:
    """Whether a name of a track is one that programs give to all of them."""
    return name.endswith("Handler") or name.startswith(("Core Media", "Mainconcept", "ISO Media file", "GPAC"))


def describe(container: InputContainer, picture: VideoStream, start: Fraction) -> Texts:
    """The tags and chapters of an open file. start: the time of the first picture, in seconds."""
    notes = _tracks_left_out(container, picture)
    tags, track = _bounded(container.metadata, notes), _bounded(picture.metadata, notes)
    if track.get("creation_time", "")[:19] == tags.get("creation_time", "")[:19]:
        track.pop("creation_time", None)
    flags = int(picture.disposition or 0) & ~1  # that it is the default is said of any
    if flags:
        track["disposition"] = str(flags)
    chapters: list[Chapter] = []
    others = 0
    for item in container.chapters():
        base, texts = ratio(item["time_base"]) or Fraction(1), dict(item.get("metadata", {}))
        title = texts.pop("title", "")
        others += bool(texts)
        begin, end = (max(Fraction(0), item[name] * base - start) for name in ("start", "end"))
        chapters.append(Chapter(begin, max(begin, end), title[:MAX_TEXT]))
    if others:
        notes.append(Note("chapters", f"{others} chapters have more than times and titles: that is left out"))
    if len(chapters) > MAX_CHAPTERS:
        notes.append(Note("chapters", f"{len(chapters)} chapters: the first {MAX_CHAPTERS} are kept"))
    return Texts(tags, track, tuple(chapters[:MAX_CHAPTERS]), notes)


def _bounded(metadata: Mapping[str, str], notes: list[Note]) -> dict[str, str]:
    tags = plain_tags(metadata)
    kept = {key: value for key, value in tags.items() if len(key) + len(value) <= MAX_TEXT}
    kept = dict(list(kept.items())[:MAX_TAGS])
    if len(kept) < len(tags):
        notes.append(Note("tags", f"{len(tags) - len(kept)} tags that are very long, or very many: left out"))
    return kept


# ---- what FFmpeg knows about the picture's track, and PyAV doesn't tell


class Hidden(NamedTuple):
    """crop: rows and columns that aren't shown. chroma: the place of chroma samples, FFmpeg's number, 0 if unknown."""

    crop: Mapping[str, int]
    chroma: int
    notes: list[Note]


def left_out_of_picture(picture: VideoStream) -> Hidden:
    """The facts about the picture's track that PyAV doesn't show: Matroska's header for such a track has them."""
    import av

    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska") as output:
            output.add_stream_from_template(picture)
            output.start_encoding()
    except (*errors(), ValueError):  # a codec that Matroska has no name for
        return Hidden({}, 0, [])
    elements = dict(_elements(buffer.getvalue()))
    crop = {_CROP[key]: int.from_bytes(value, "big") for key, value in elements.items() if key in _CROP}
    across, down = (int.from_bytes(elements.get(key, b""), "big") for key in (_CHROMA_HORIZONTAL, _CHROMA_VERTICAL))
    return Hidden(
        crop, _PLACES.get((across, down), 0), [note for key, note in _ELEMENTS.items() if any(elements.get(key, b""))]
    )


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """The elements of the first track in the header of a Matroska file, and their bytes (RFC 8794)."""
    out: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while at + 2 <= end:
        n_id = 9 - data[at].bit_length()
        n_size = 9 - data[at + n_id].bit_length() if at + n_id < end else 9
        if n_id > 4 or n_size > 8:
            break
        key = int.from_bytes(data[at : at + n_id], "big")
        size = int.from_bytes(data[at + n_id : at + n_id + n_size], "big") & ((1 << 7 * n_size) - 1)
        at += n_id + n_size
        if key not in _MASTERS:
            out.append((key, data[at : at + size]))
            at += size
    return out


# ---- tracks


def collect(
    container: InputContainer,
    picture: VideoStream,
    start: Fraction,
    covers: Sequence[AttachedFile],
    sound: bool,
    early: bool,
) -> Beside:
    """All that an open file has beside its picture. early: whether the file ends early, so that a cut packet may be.

    start: the time of the first picture, in seconds. MediaError for sound that is damaged, or can't be carried along.
    """
    import av

    buffer = io.BytesIO()
    notes: list[Note] = []
    with av.open(buffer, "w", format="matroska", container_options={**MATROSKA, **CLUSTER}) as output:
        bitexact(output)
        carried: dict[int, _Track] = {}
        for stream in container.streams:
            if stream.index == picture.index or stream.type == "attachment" or is_cover(stream):
                continue
            if stream.type == "audio" and not sound:
                continue
            if (track := _track(output, stream, notes)) is not None:
                carried[stream.index] = track
        n_bytes = 0
        for file in (*files_of(container), *covers):
            n_bytes += len(file.data)
            if n_bytes > MAX_AUDIO:
                raise MediaError(
                    f"more than {MAX_AUDIO} bytes of attached files: ffmpeg -i IN -map 0 -map -0:t -c copy OUT.mkv"
                )
            output.add_attachment(*file)
        if not carried and not n_bytes:
            return Beside(None, Fraction(0), notes)
        try:
            output.start_encoding()
        except errors() as error:
            raise MediaError(f"the sound can't be carried along ({error}): {_LEAVE_OUT}") from error
        earliest = _carry(container, output, carried, start, early, notes)
        n_packets = sum(track.n_packets for track in carried.values())
        if not n_packets and not n_bytes:
            return Beside(None, Fraction(0), notes)
    data = buffer.getvalue() if n_packets else with_cluster(buffer.getvalue())
    return Beside(data, -earliest if earliest < -_ROUNDING else Fraction(0), notes)


class _Track:
    """A track that is carried along. change: makes its packets of those of the file, None if they are the same."""

    def __init__(self, track: Any, change: Callable[[Packet], list[Packet]] | None = None) -> None:
        self.track, self.change, self.n_packets = track, change, 0


def _carry(
    container: InputContainer,
    output: OutputContainer,
    carried: Mapping[int, _Track],
    start: Fraction,
    early: bool,
    notes: list[Note],
) -> Fraction:
    """Copies the packets; returns when the earliest of them that is heard begins, in seconds from the first picture."""
    earliest, n_late, n_bytes, cut = Fraction(0), 0, 0, 0
    streams = [container.streams[index] for index in carried]
    for packet in container.demux(*streams) if streams else ():
        if packet.size == 0:
            continue
        if packet.is_corrupt:
            if not early:
                raise MediaError(f"a packet of sound is damaged or cut: {_LEAVE_OUT}")
            cut += 1
            continue
        n_bytes += packet.size
        if n_bytes > MAX_AUDIO:
            raise MediaError(f"more than {MAX_AUDIO} bytes of sound: {_LEAVE_OUT}, or cut the video into parts")
        begins = time_of(packet) - start
        if begins < EARLIEST:
            n_late += 1
            continue
        if begins < 0:
            earliest = min(earliest, begins + samples_to_skip(packet))
        track = carried[packet.stream_index]
        for made in [packet] if track.change is None else track.change(packet):
            move(made, -start)
            made.stream = track.track
            try:
                output.mux(made)
            except errors() as error:
                raise MediaError(f"the sound can't be carried along ({error}): {_LEAVE_OUT}") from error
            track.n_packets += 1
    if cut:
        notes.append(Note("cut", f"{cut} packet{'s are' if cut > 1 else ' is'} cut, of sound: left out"))
    if n_late:
        notes.append(Note("sound", f"{n_late} packets more than {-EARLIEST} s before the first picture are left out"))
    return earliest


def _track(output: OutputContainer, stream: Any, notes: list[Note]) -> _Track | None:
    """The track that carries a stream, None with a note if nothing can."""
    context = stream.codec_context
    name = context.name if context is not None else "an unknown codec"
    if stream.type not in ("audio", "subtitle"):
        return None
    try:
        track = _Track(_copied(output, stream))
    except (*errors(), ValueError) as error:
        track = _converted(output, stream, notes) if context is not None else None
        if track is None and stream.type == "audio":
            raise MediaError(f"sound of {name} can't be carried along ({error}): {_LEAVE_OUT}") from error
        if track is None:
            notes.append(Note("track", f"{_words(stream)}: left out"))
            return None
    track.track.metadata.update(plain_tags(stream.metadata))
    track.track.disposition = int(stream.disposition or 0)
    return track


def _words(stream: Any) -> str:
    """A track in words for people."""
    context = stream.codec_context
    language = f", {stream.language}" if stream.language not in (None, "", "und") else ""
    return f"{stream.type} track {stream.index} ({context.name if context is not None else 'no codec'}{language})"


def _tracks_left_out(container: InputContainer, picture: VideoStream) -> list[Note]:
    """The tracks that nothing can carry along: second videos, data, and whatever isn't known here."""
    notes: list[Note] = []
    n_chapters = len(container.chapters())
    for stream in container.streams:
        if stream.index == picture.index or stream.type in ("audio", "subtitle", "attachment") or is_cover(stream):
            continue
        if stream.type == "video":
            notes.append(Note("track", f"a second video, {_words(stream)}: left out"))
        elif not (stream.type == "data" and n_chapters and stream.frames == n_chapters):  # QuickTime's chapters
            timecode = ", but for its timecode" if stream.metadata.get("timecode") else ""
            notes.append(Note("track", f"{_words(stream)}: left out{timecode}"))
    return notes


def _copied(output: OutputContainer, stream: Any) -> Any:
    import av

    if stream.type == "audio" and stream.codec_context is not None and stream.codec_context.name.startswith("adpcm"):
        raise ValueError("its packets have no times in Matroska")
    with av.open(io.BytesIO(), "w", format="matroska") as trial:  # some codecs are refused only by the header
        trial.add_stream_from_template(stream)
        trial.start_encoding()
    return output.add_stream_from_template(stream)


def _converted(output: OutputContainer, stream: Any, notes: list[Note]) -> _Track | None:
    """A track of sound as PCM, or of MP4's text as SubRip; None for another."""
    name = stream.codec_context.name
    if stream.type == "audio":
        return _as_pcm(output, stream, notes)
    if name == "mov_text" and hasattr(output, "add_mux_stream"):
        track = output.add_mux_stream("subrip")
        return _Track(track, _Text(notes))
    return None


class _Text:
    """Packets of MP4's text as packets of SubRip: the text alone, behind it lie boxes with styles."""

    def __init__(self, notes: list[Note]) -> None:
        self._notes = notes

    def __call__(self, packet: Packet) -> list[Packet]:
        import av

        data = bytes(packet)
        size = int.from_bytes(data[:2], "big")
        if len(data) > size + 2:
            note = Note("track", "subtitles: fonts and colours of their text are left out")
            if note not in self._notes:
                self._notes.append(note)
        if not size:
            return []  # an empty text ends the one before, which has a duration here
        made = av.Packet(data[2 : 2 + size])
        made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
        made.is_keyframe = True
        return [made]


def _as_pcm(output: OutputContainer, stream: AudioStream, notes: list[Note]) -> _Track | None:
    context = stream.codec_context
    kind = context.format.name.removesuffix("p") if context.format is not None else ""
    if kind not in _PCM or not context.sample_rate or not context.layout.nb_channels:
        return None
    track: Any = output.add_stream(_PCM[kind], rate=context.sample_rate)
    track.layout = context.layout.name if context.layout.name in _LAYOUTS else _LAYOUTS[context.layout.nb_channels - 1]
    notes.append(Note("sound", f"{context.name} is decoded to PCM, the same samples"))
    return _Track(track, _Pcm(context.sample_rate, context.layout.nb_channels, kind))


_LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.0", "5.1", "6.1", "7.1")


class _Pcm:
    """Packets of PCM of packets in another code, about as many samples in each as in one of AAC."""

    def __init__(self, rate: int, channels: int, kind: str) -> None:
        self._rate, self._channels, self._kind = rate, channels, kind
        self._next = 0  # in samples

    def __call__(self, packet: Packet) -> list[Packet]:
        import av

        made: list[Packet] = []
        for frame in packet.decode():
            values: Any = frame.to_ndarray()
            values = values.T if frame.format.is_planar else values.reshape(-1, self._channels)
            pts = self._next
            if frame.pts is not None:
                stamp = round(frame.pts * (ratio(frame.time_base) or Fraction(1, self._rate)) * self._rate)
                # Times in whole packets are a little off: only a gap is one.
                pts = stamp if not self._next or abs(stamp - self._next) > self._rate // 10 else self._next
            self._next = pts + len(values)
            new = av.Packet(np.ascontiguousarray(values).tobytes())
            new.pts = new.dts = pts
            new.duration, new.time_base, new.is_keyframe = len(values), Fraction(1, self._rate), True
            made.append(new)
        return made
