"""The tracks beside a picture, as they are kept: sound, subtitles and attached files, in Matroska in memory.

Nothing is decoded. Time 0 of the file is the first picture; packets before it have negative times. Matroska counts in
milliseconds; codecs whose packets all hold as many samples get exact times back when they are written to another file.
`pieces_of` cuts such a file into parts of a few seconds, of which any but the first may be missing.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from ..ffmpeg import errors, ratio
from ..notes import Note
from .attached import AttachedFile, covers_of, files_of, is_cover
from .times import seconds_of_duration

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

__all__ = [
    "EARLIEST",
    "MAX_AUDIO",
    "AudioFeed",
    "cut_audio",
    "joined",
    "kinds_of",
    "lost_of",
    "pieces_of",
    "with_cluster",
    "without_sound",
]

MAX_AUDIO = 1 << 28  # bytes
MAX_PIECES = 2000
EARLIEST = -30  # seconds before the first picture that Matroska can count
MATROSKA = {"avoid_negative_ts": "disabled"}  # else everything would be moved to begin at 0
CLUSTER = {"cluster_time_limit": "2000"}  # milliseconds
_TECHNICAL = ("ENCODER", "DURATION")  # tags
_CLUSTER_ID, _SEGMENT_ID = b"\x1f\x43\xb6\x75", b"\x18\x53\x80\x67"


def cut_audio(audio: bytes | None, start_seconds: Fraction | float, stop_seconds: Fraction | float) -> bytes | None:
    """The packets that begin in start <= t < stop, moved so that `start` becomes 0; None if there are none.

    From the very start on, 0, also those before it: what a decoder needs to begin with. Attached files stay.
    """
    if audio is None:
        return None
    return _parts(audio, ("audio", "subtitle"), (Fraction(start_seconds), Fraction(stop_seconds)))


def _parts(audio: bytes, kinds: Sequence[str], span: tuple[Fraction, Fraction] | None) -> bytes | None:
    """The tracks of these kinds, all of them or from one time to another, and attached files."""
    import av

    buffer, n_kept, n_packets = io.BytesIO(), 0, 0
    with (
        _reading(),
        av.open(io.BytesIO(audio), "r", format="matroska") as source,
        av.open(buffer, "w", format="matroska", container_options={**MATROSKA, **CLUSTER}) as output,
    ):
        bitexact(output)
        streams = [stream for stream in source.streams if stream.type in kinds]
        tracks = {stream.index: _add(output, stream) for stream in streams}
        for file in _attached(audio):
            output.add_attachment(*file)
            n_kept += 1
        if not tracks and not n_kept:
            return None
        _start(output)
        for packet in source.demux(*streams) if streams else ():
            if not packet.size:
                continue
            if span is not None:
                start, stop = span
                if (start > 0 and time_of(packet) < start) or time_of(packet) >= stop:
                    continue
                move(packet, -start)
            packet.stream = tracks[packet.stream_index]
            output.mux(packet)
            n_packets += 1
    if n_packets:
        return buffer.getvalue()
    return with_cluster(buffer.getvalue()) if n_kept else None


def with_cluster(data: bytes) -> bytes:
    """The bytes of a Matroska file without packets, such as one of attached files, with an empty cluster behind them.

    FFmpeg takes a file without any cluster for one that ends too early.
    """
    cluster = _CLUSTER_ID + b"\x83\xe7\x81\x00"  # of time 0
    at = data.index(_SEGMENT_ID) + len(_SEGMENT_ID)
    size = int.from_bytes(data[at + 1 : at + 8], "big")
    if data[at] == 1 and size < (1 << 56) - 1:  # else its size isn't said
        data = data[: at + 1] + (size + len(cluster)).to_bytes(7, "big") + data[at + 8 :]
    return data + cluster


def kinds_of(audio: bytes) -> list[str]:
    """The kinds of tracks that there are: "audio", "subtitle", "attachment"."""
    import av

    with _reading(), av.open(io.BytesIO(audio), "r", format="matroska") as source:
        return sorted({"attachment" if is_cover(stream) else stream.type for stream in source.streams})


def _attached(audio: bytes) -> list[AttachedFile]:
    """The files that are attached to Matroska in memory, covers too."""
    import av

    with _reading(), av.open(io.BytesIO(audio), "r", format="matroska") as source:
        return [*files_of(source), *covers_of(source)[0]]


def without_sound(audio: bytes) -> bytes | None:
    """The tracks but for those of sound; None if there are no others."""
    return None if set(kinds_of(audio)) <= {"audio"} else _parts(audio, ("subtitle",), None)


class AudioFeed:
    """A feed of the tracks beside a picture to a file that is being written, as far as its pictures have come.

    later: seconds by which all of them are moved, with the pictures. notes: what the file can't hold.
    """

    def __init__(self, audio: bytes, output: OutputContainer, format: str, later: Fraction = Fraction(0)) -> None:
        import av

        self.notes: list[Note] = []
        self._later = later
        with _reading():
            self._source = av.open(io.BytesIO(audio), "r", format="matroska")
        self._output = output
        self._tracks: dict[int, Any] = {}
        for stream in self._source.streams:
            if stream.type == "audio":
                self._tracks[stream.index] = self._sound(stream, format)
            elif stream.type == "subtitle":
                self._subtitles(stream, format)
        files = _attached(audio)
        for file in files:
            if format == ".mkv":
                output.add_attachment(*file)
            else:
                self.notes.append(Note("attachment", f"the attached file {file.name} is left out: .mkv keeps it"))
        if not self._tracks and not files and not self.notes:
            raise MediaError("the sound has no track; expected what VideoReader.audio() gives")
        self._packets = self._exact([self._source.streams[index] for index in self._tracks])
        self._next: Packet | None = None

    def _sound(self, stream: Any, format: str) -> Any:
        known, context = self._output.supported_codecs, stream.codec_context
        name = context.codec.canonical_name
        if (context.name not in known and name not in known) or not self._holds(stream):
            raise MediaError(f"{format} can't hold sound of {name}: write .mkv, or leave the sound out (--no-sound)")
        return _add(self._output, stream)

    def _holds(self, stream: Any) -> bool:
        """Whether such a file can have a header with this track."""
        import av

        try:
            with av.open(io.BytesIO(), "w", format=self._output.format.name) as trial:
                trial.add_stream_from_template(stream)
                trial.start_encoding()
        except (*errors(), ValueError):
            return False
        return True

    def _subtitles(self, stream: Any, format: str) -> None:
        try:
            if format not in (".mkv", ".webm"):
                raise ValueError(format)
            self._tracks[stream.index] = _add(self._output, stream)
        except (MediaError, ValueError):
            language = f" ({stream.language})" if stream.language else ""
            self.notes.append(Note("track", f"subtitles{language} are left out: .mkv keeps them"))

    def lost(self, written: InputContainer, others: int = 0) -> list[str]:
        """The names of what a finished file doesn't say of these tracks: their titles, languages and flags.

        others: how many tracks of sound are in front of these.
        """
        lost: list[str] = []
        theirs = [stream for stream in written.streams if stream.type in ("audio", "subtitle")][others:]
        ours = [self._source.streams[index] for index in self._tracks]
        for stream, other in zip(ours, theirs, strict=False):
            values = set(other.metadata.values())
            lost += [key for key, value in stream.metadata.items() if key not in _TECHNICAL and value not in values]
            if int(stream.disposition or 0) & ~int(other.disposition or 0):
                lost.append("flags")
        return lost

    def upto(self, seconds: Fraction | None) -> None:
        """Write the packets that begin at or before `seconds`; None: all that are left."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None or (seconds is not None and time_of(self._next) > seconds):
                return
            self._output.mux(self._next)
            self._next = None

    def close(self) -> None:
        self._source.close()

    def _exact(self, streams: Sequence[Any]) -> Iterator[Packet]:
        """The packets, with times in samples where those are known: in milliseconds they would be irregular."""
        expected: dict[int, Any] = {}
        with _reading():
            for packet in self._source.demux(*streams) if streams else ():
                if packet.size == 0:
                    continue
                index = packet.stream_index
                stream: Any = self._source.streams[index]
                rate, samples = _samples(stream)
                if rate and samples > 1:
                    rounded = round(time_of(packet) * rate)
                    exact = expected.get(index, rounded)
                    if abs(exact - rounded) * 500 > rate:  # 2 ms
                        exact = rounded
                    packet.time_base = Fraction(1, rate)
                    expected[index] = exact + samples
                    packet.pts = packet.dts = exact
                    packet.duration = _last(stream, exact, samples, rate)
                if self._later:
                    move(packet, self._later)
                packet.stream = self._tracks[index]
                yield packet


def lost_of(names: Sequence[str]) -> list[Note]:
    """A note on what of tracks, by these names, is left out; none if nothing is."""
    words = ", ".join(sorted({name.lower() for name in names}))
    return [Note("tags", f"{words} of tracks left out")] if names else []


def _samples(stream: Any) -> tuple[int, int]:
    """The samples a second of a track of sound, and how many each packet holds; (0, 0) where they aren't known."""
    if stream.type != "audio" or stream.codec_context is None:
        return 0, 0
    context = stream.codec_context
    samples = context.frame_size or 0
    extradata = bytes(context.extradata or b"")
    if context.name == "alac" and len(extradata) >= 16:
        samples = int.from_bytes(extradata[12:16], "big")  # of its magic cookie
    return context.sample_rate or 0, samples


def _last(stream: Any, begins: int, samples: int, rate: int) -> int:
    """The samples of a packet that begins there: fewer if the track ends in it, which Matroska says for the track."""
    if stream.codec_context.name not in ("alac", "flac"):  # others code padding, which is there
        return samples
    end = seconds_of_duration(stream.metadata.get("DURATION", ""))
    left = samples if end is None else round(end * rate) - begins
    return left if 0 < left < samples else samples


def _add(output: OutputContainer, stream: Any) -> Any:
    try:
        track = output.add_stream_from_template(stream)
    except (*errors(), ValueError) as error:
        name = stream.codec_context.name if stream.codec_context else "an unknown codec"
        raise MediaError(
            f"sound of {name} can't be carried along ({error}): "
            "ffmpeg -i IN -map 0 -c copy -c:a aac OUT.mkv, or leave the sound out (--no-sound)"
        ) from error
    texts = {key: value for key, value in stream.metadata.items() if key not in _TECHNICAL}
    track.metadata.update(texts)
    track.disposition = int(stream.disposition or 0)
    return track


def _start(output: OutputContainer) -> None:
    try:
        output.start_encoding()
    except errors() as error:
        raise MediaError(
            f"the sound can't be carried along ({error}): "
            "ffmpeg -i IN -map 0 -c copy -c:a aac OUT.mkv, or leave the sound out (--no-sound)"
        ) from error


def bitexact(output: OutputContainer) -> None:
    """No tags with FFmpeg's version, no random numbers."""
    from av.container.core import Flags

    output.flags |= Flags.bitexact.value


def time_of(packet: Packet) -> Fraction:
    """The time of a packet in seconds."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None:
        raise MediaError("a packet of sound without a time: --no-sound leaves the sound out, or repair the file")
    return stamp * _base(packet)


def _base(packet: Packet) -> Fraction:
    return ratio(packet.time_base) or Fraction(1)


def samples_to_skip(packet: Packet) -> Fraction:
    """The seconds at the start of a packet that a decoder gives and nobody is to hear (priming)."""
    rate = getattr(packet.stream.codec_context, "sample_rate", 0) if packet.has_sidedata("skip_samples") else 0
    if not rate:
        return Fraction(0)
    data = bytes(packet.get_sidedata("skip_samples"))
    return Fraction(int.from_bytes(data[:4], "little"), rate)


def move(packet: Packet, seconds: Fraction) -> None:
    """Change the packet's times, as exactly as its own time base and a microsecond allow."""
    old = _base(packet)
    base = old / 1000 if old > Fraction(1, 1_000_000) else old
    pts, dts = packet.pts, packet.dts
    duration = packet.duration or 0
    packet.time_base = base
    packet.pts = None if pts is None else round((pts * old + seconds) / base)
    packet.dts = packet.pts if dts is None else round((dts * old + seconds) / base)
    packet.duration = round(duration * old / base)


@contextmanager
def _reading() -> Iterator[None]:
    """Makes a MediaError of damage in the kept sound, in FFmpeg's words."""
    try:
        yield
    except MediaError:
        raise
    except (*errors(), ValueError) as error:
        raise MediaError(f"the sound can't be read, damaged? ({error})") from error


# ---- pieces


def pieces_of(audio: bytes) -> list[bytes]:
    """The bytes of a Matroska file in pieces: its header, then its clusters, several to a piece if there are many.

    A file whose structure isn't that of `collect` is one piece.
    """
    marks = [at for at, key, _ in _segment(audio) if key == _CLUSTER_ID]
    if not marks:
        return [audio]
    each = -(-len(marks) // (MAX_PIECES - 2))
    edges = [0, *marks[::each], len(audio)]
    return [audio[start:stop] for start, stop in itertools.pairwise(edges) if stop > start]


def joined(pieces: Sequence[bytes | None], sizes: Sequence[int]) -> bytes:
    """A Matroska file of its pieces; what fills a missing one is an element that readers pass over (Void)."""
    return b"".join(_void(size) if piece is None else piece for piece, size in zip(pieces, sizes, strict=True))


def _void(size: int) -> bytes:
    if size < 10:
        return bytes(size)
    return b"\xec\x01" + (size - 9).to_bytes(7, "big") + bytes(size - 9)


def _segment(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The elements right below the segment of a Matroska file: position, identifier, and where it ends."""
    at = data.find(_SEGMENT_ID, 0, 1 << 12)
    if at < 0 or at + 12 > len(data):
        return
    at += 4
    at += 9 - data[at].bit_length()
    while at + 12 <= len(data):
        n_id, first = 9 - data[at].bit_length(), at
        if n_id > 4:
            return
        n_size = 9 - data[at + n_id].bit_length()
        if n_size > 8:
            return
        size = int.from_bytes(data[at + n_id : at + n_id + n_size], "big") & ((1 << 7 * n_size) - 1)
        at += n_id + n_size + size
        if at > len(data):
            return
        yield first, data[first : first + n_id], at
