"""Sound beside a video: its tracks as they are, packet for packet, in a Matroska file in memory.

Nothing is decoded. Time 0 of the file is the first picture; packets before it have negative times. Matroska counts in
milliseconds; codecs whose packets all hold as many samples get exact times back when they are written to another file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...errors import MediaError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

__all__ = ["EARLIEST", "MAX_AUDIO", "AudioFeed", "collect", "cut_audio"]

MAX_AUDIO = 1 << 28  # bytes
EARLIEST = -30  # seconds before the first picture that Matroska can count
_MATROSKA = {"avoid_negative_ts": "disabled"}  # else everything would be moved to begin at 0


def collect(container: InputContainer, start: Fraction) -> tuple[bytes | None, list[str]]:
    """All audio tracks of an open file as Matroska, and notes. start: the time of the first picture, in seconds."""
    import av

    streams = container.streams.audio
    if not streams:
        return None, []
    buffer, early, n_packets, n_bytes = io.BytesIO(), 0, 0, 0
    with av.open(buffer, "w", format="matroska", container_options=_MATROSKA) as output:
        _bitexact(output)
        tracks = {stream.index: _add(output, stream) for stream in streams}
        _start(output)
        for packet in container.demux(*streams):
            if packet.size == 0:
                continue
            if packet.is_corrupt:
                raise MediaError("a packet of sound is damaged or cut: leave the sound out, or repair the file")
            n_bytes += packet.size
            if n_bytes > MAX_AUDIO:
                raise MediaError(f"more than {MAX_AUDIO} bytes of sound: leave it out, or cut the video into parts")
            if _time(packet) - start < EARLIEST:
                early += 1
                continue
            _move(packet, -start)
            packet.stream = tracks[packet.stream_index]
            output.mux(packet)
            n_packets += 1
    notes = [f"{early} packets of sound more than {-EARLIEST} s before the first picture are left out"] if early else []
    return (buffer.getvalue() if n_packets else None), notes


def cut_audio(audio: bytes | None, start_seconds: Fraction | float, stop_seconds: Fraction | float) -> bytes | None:
    """The packets that begin in start <= t < stop, moved so that `start` becomes 0; None if there are none.

    From the very start on, 0, also those before it: what a decoder needs to begin with.
    """
    import av

    if audio is None:
        return None
    start, stop = Fraction(start_seconds), Fraction(stop_seconds)
    buffer, n_packets = io.BytesIO(), 0
    with (
        _reading(),
        av.open(io.BytesIO(audio), "r", format="matroska") as source,
        av.open(buffer, "w", format="matroska", container_options=_MATROSKA) as output,
    ):
        _bitexact(output)
        tracks = {stream.index: _add(output, stream) for stream in source.streams.audio}
        _start(output)
        for packet in source.demux(*source.streams.audio):
            if packet.size and (start <= 0 or start <= _time(packet)) and _time(packet) < stop:
                _move(packet, -start)
                packet.stream = tracks[packet.stream_index]
                output.mux(packet)
                n_packets += 1
    return buffer.getvalue() if n_packets else None


class AudioFeed:
    """A feed of packets of sound to a file that is being written, as far as its pictures have come."""

    def __init__(self, audio: bytes, output: OutputContainer, format: str) -> None:
        import av

        with _reading():
            self._source = av.open(io.BytesIO(audio), "r", format="matroska")
        streams = self._source.streams.audio
        if not streams:
            raise MediaError("the sound has no track; expected what VideoReader.audio() gives")
        known = output.supported_codecs
        for stream in streams:
            name = stream.codec_context.codec.canonical_name
            if stream.codec_context.name not in known and name not in known:
                raise MediaError(f"{format} can't hold sound of {name}: write .mkv or .mov, or leave the sound out")
        self._output = output
        self._tracks = {stream.index: _add(output, stream) for stream in streams}
        self._packets = self._exact(streams)
        self._next: Packet | None = None

    def upto(self, seconds: Fraction | None) -> None:
        """Write the packets that begin at or before `seconds`; None: all that are left."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None or (seconds is not None and _time(self._next) > seconds):
                return
            self._output.mux(self._next)
            self._next = None

    def close(self) -> None:
        self._source.close()

    def _exact(self, streams: Any) -> Iterator[Packet]:
        """The packets, with times in samples where those are known: in milliseconds they would be irregular."""
        expected: dict[int, Any] = {}
        with _reading():
            for packet in self._source.demux(*streams):
                if packet.size == 0:
                    continue
                index = packet.stream_index
                context: Any = self._source.streams[index].codec_context
                rate, samples = context.sample_rate or 0, context.frame_size or 0
                if rate and samples > 1:
                    rounded = round(_time(packet) * rate)
                    exact = expected.get(index, rounded)
                    if abs(exact - rounded) * 500 > rate:  # 2 ms
                        exact = rounded
                    packet.time_base = Fraction(1, rate)
                    expected[index] = exact + samples
                    packet.pts = packet.dts = exact
                    packet.duration = samples
                packet.stream = self._tracks[index]
                yield packet


def _add(output: OutputContainer, stream: AudioStream) -> AudioStream:
    try:
        track = output.add_stream_from_template(stream)
    except Exception as error:
        name = stream.codec_context.name if stream.codec_context else "an unknown codec"
        raise MediaError(
            f"sound of {name} can't be carried along ({error}): "
            "ffmpeg -i IN -c:v copy -c:a aac OUT.mkv, or leave the sound out"
        ) from error
    if language := stream.metadata.get("language"):
        track.metadata["language"] = language
    return track


def _start(output: OutputContainer) -> None:
    try:
        output.start_encoding()
    except Exception as error:
        raise MediaError(
            f"the sound can't be carried along ({error}): "
            "ffmpeg -i IN -c:v copy -c:a aac OUT.mkv, or leave the sound out"
        ) from error


def _bitexact(output: OutputContainer) -> None:
    from av.container.core import Flags

    output.flags |= Flags.bitexact.value  # no tags with FFmpeg's version, no random numbers


def _time(packet: Packet) -> Fraction:
    """The time of a packet in seconds."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None:
        raise MediaError("a packet of sound without a time: leave the sound out, or repair the file")
    return stamp * packet.time_base


def _move(packet: Packet, seconds: Fraction) -> None:
    """Change the packet's times, as exactly as its own time base and a microsecond allow."""
    base = packet.time_base / 1000 if packet.time_base > Fraction(1, 1_000_000) else packet.time_base
    pts, dts = packet.pts, packet.dts
    duration = packet.duration or 0
    old = packet.time_base
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
    except Exception as error:
        raise MediaError(f"the sound can't be read, damaged? ({error})") from error
