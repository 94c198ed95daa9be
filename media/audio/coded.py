"""Coded sound, decoded by FFmpeg (PyAV): FLAC, MP3, Ogg, MP4, Matroska, WavPack, and the sound of videos.

FFmpeg is told what a file is, and gives all samples that there are; those of the encoder's delay and padding are
dropped here, by `timing`. What can't be decoded is silent, as long as it was, and noted: what comes behind it stays in
place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ...files import naming
from ..ffmpeg import errors, open_input, ratio
from ..video.attached import covers_of, is_cover
from .base import BLOCK, AudioReader
from .tags import Tags, from_ffmpeg
from .timing import Timing
from .values import DTYPES, MAX_CHANNELS, AudioInfo, SampleType, check_shape

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

__all__ = ["CodedReader"]

# Decoders that need so many packets before a sample to give it as from the start; others decode from the start.
_LEAD = {"flac": 0, "alac": 0, "wavpack": 0, "mp3": 64, "mp3float": 64}
_EXACT = frozenset({"flac", "ogg", "mp3", "mov", "wv"})  # formats whose packets say how many samples they hold
# Codecs whose frames have times in FLAC and Ogg files, so that missing ones are seen; and by how many samples they err.
_SLACK = {"flac": 0, "opus": 0, "vorbis": 8192}
_NAMES = {"mp3float": "mp3", "aac_fixed": "aac", "libopus": "opus", "libvorbis": "vorbis", "libspeex": "speex"}
_PATIENCE = 60  # seconds that may be missing, beside as much as was decoded
_TRIES = 64  # packets in which a first frame is looked for
_NUMBERS = {"u8": "u1", "s16": "i2", "s32": "i4", "flt": "f4", "dbl": "f8"}  # NumPy's types, by FFmpeg's


class CodedReader(AudioReader):
    """A file that FFmpeg reads. opened: opens it anew, at its start. format: FFmpeg's name of it.

    timing: what the file says of its beginning and length; None where FFmpeg's word is taken. number: which of its
    tracks of sound. count: whether its packets are counted to know the length.
    """

    def __init__(
        self,
        opened: Callable[[], BinaryIO],
        name: str,
        format: str,
        timing: Timing | None = None,
        number: int = 0,
        count: bool = False,
    ) -> None:
        super().__init__()
        self._opened, self._name, self._format, self._number = opened, name, format, number
        self._timing = timing
        self._skip = 0
        self._slack: int | None = None  # samples by which times of frames err, None if they have none
        self._gaps = False  # whether what is missing between packets was never there
        with self._about(), self._open() as (container, stream):
            frame = self._first(container, stream)
            self.info = self._described(frame, stream)
            self._slack = _SLACK.get(self.info.format) if format in ("flac", "ogg") else None
            if timing is not None:
                self._trim(timing, frame, stream)
            elif self.info.format in ("wavpack", "pcm") and ratio(stream.time_base) == Fraction(1, self.info.rate):
                self.info = replace(self.info, n_samples=stream.duration)
        if count:
            self._count(frame.samples)

    @contextmanager
    def _about(self) -> Iterator[None]:
        """Makes a MediaError, with the file's name in front, of what FFmpeg raises on damage."""
        with naming(self._name):
            try:
                yield
            except MediaError:
                raise
            except (*errors(), ValueError) as error:
                if isinstance(error, EOFError):
                    raise MediaError("no sound in it: the file is damaged or cut") from error
                words = getattr(error, "strerror", None) or error
                raise MediaError(f"can't be read, damaged? ({words})") from error

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, AudioStream]]:
        options = {"ignore_editlist": "1"} if self._format == "mov" and self._timing is not None else {}
        with self._opened() as file, open_input(file, self._format, options, 1 << 16) as container:
            streams = container.streams.audio
            if self._number >= len(streams):
                raise MediaError("no sound in it")
            stream = streams[self._number]
            context: Any = stream.codec_context
            if context is None:
                raise MediaError("its sound is coded in a way that isn't known: convert it, ffmpeg -i IN OUT.flac")
            if context.channels > MAX_CHANNELS:
                check_shape(context.sample_rate or 1, context.channels)
            context.thread_count = 1
            strict = {"err_detect": "crccheck+explode"} if context.name == "flac" else {}
            manual = {"flags2": "+skip_manual"} if self._timing is not None else {}
            context.options = {**strict, **manual}
            yield container, stream

    # ---- what it is

    def _first(self, container: InputContainer, stream: AudioStream) -> AudioFrame:
        """The first frame that can be decoded."""
        problem: Exception | None = None
        for _, packet in zip(range(_TRIES), container.demux(stream), strict=False):
            try:
                frames: list[Any] = packet.decode()
            except errors() as error:
                problem = error
                continue
            if frames:
                return frames[0]
        raise MediaError("no sound in it that can be decoded: the file is damaged or cut") from problem

    def _described(self, frame: AudioFrame, stream: AudioStream) -> AudioInfo:
        name = stream.codec_context.name
        sample = _sample_of(frame, self._bits(stream))
        channels = frame.layout.nb_channels
        check_shape(frame.sample_rate, channels)
        layout = frame.layout.name
        if frame.format.name.startswith("dbl"):
            self._note("depth", "samples of 64 bits: taken as 32 bit floats")
        return AudioInfo(
            frame.sample_rate,
            channels,
            None,
            "" if "channels" in layout else layout,
            sample,
            format="pcm" if name.startswith("pcm_") else _NAMES.get(name, name),
        )

    def _trim(self, timing: Timing, frame: AudioFrame, stream: AudioStream) -> None:
        """Keep what the file says of its beginning and its length."""
        rate = self.info.rate
        unit = Fraction(rate, timing.rate or rate)
        self._skip = round(timing.skip * unit)
        n_samples = None if timing.n_samples is None else round(timing.n_samples * unit)
        base = ratio(stream.time_base)
        if n_samples is None and timing.end >= 0 and base is not None:  # times of a stream may begin anywhere
            start = stream.start_time or 0
            if self.info.format == "vorbis" and frame.pts is not None:  # which has no delay that it says
                # The first packet gives nothing of its own; FFmpeg counts it as sound in a file of a single page.
                self._skip = max(frame.samples, round((start - frame.pts) * base * rate))
            n_samples = max(0, round(timing.end * unit - start * base * rate) - round(timing.skip * unit))
        self.info = replace(self.info, n_samples=n_samples, tags=timing.tags.values, cover=timing.tags.cover)
        self._notes += [*timing.notes, *timing.tags.notes]
        if timing.late:
            self._note("time", f"{timing.late:.3f} seconds before the sound begins: left out")

    def look_beside(self) -> None:
        """Take the tags and the cover that FFmpeg finds; and beside pictures, the time at which the sound begins."""
        tags = Tags()
        with self._about(), self._opened() as file, open_input(file, self._format, None, 1 << 16) as container:
            stream = container.streams.audio[self._number]
            pictures = [video for video in container.streams.video if not is_cover(video)]
            if pictures:
                self._notes = [note for note in self._notes if note.kind != "time"]
                self.start = _begin(stream) - _begin(pictures[0])
            from_ffmpeg(container.metadata, tags)
            from_ffmpeg(stream.metadata, tags)
            for cover in covers_of(container)[0]:
                tags.add_cover(cover.data, cover.kind, 3)
        self.info = replace(self.info, tags=tags.values, cover=tags.cover)
        self._notes += tags.notes

    def keep_gaps(self) -> None:
        """Fill gaps of more than a tenth of a second between packets with silence: beside pictures, sound has times."""
        if self._slack is None:
            self._slack, self._gaps = self.info.rate // 10, True

    def _bits(self, stream: AudioStream) -> int:
        """The bits of a sample of a lossless codec."""
        name, extradata = stream.codec_context.name, bytes(stream.codec_context.extradata or b"")
        if self._timing is not None and self._timing.bits:
            return self._timing.bits
        if name == "alac" and len(extradata) >= 18:
            return extradata[17]  # of its magic cookie
        if name == "flac" and len(extradata) >= 34:
            return (int.from_bytes(extradata[-24:-16], "big") >> 36 & 31) + 1
        return 24 if name.startswith("pcm_s24") else 32

    def _count(self, n_each: int) -> None:
        """Count the packets of a format whose packets hold equally many samples, and set the length by it."""
        n_packets = 0
        with self._about(), self._open() as (container, stream):
            n_packets = sum(1 for packet in self._demux(container, stream) if packet.size)
        n_samples = max(0, n_packets * n_each - self._skip)
        expected = self.info.n_samples
        if expected is not None and n_samples < expected:
            self._note("cut", f"the file ends early: {expected - n_samples} of {expected} samples are missing")
        self.info = replace(self.info, n_samples=n_samples if expected is None else min(n_samples, expected))

    # ---- samples

    def _parts(self, start: int) -> Iterator[NDArray[Any]]:
        """The samples from `start` on, as long as there are any, up to the length that is known."""
        end = None if self.info.n_samples is None else self._skip + self.info.n_samples
        first = self._skip + start
        with self._about(), self._open() as (container, stream):
            for at, part in self._decoded(container, stream, first):
                part = part[max(0, first - at) : None if end is None else max(0, end - at)]
                if len(part):
                    yield part
                if end is not None and at >= end:
                    return

    def _decoded(
        self, container: InputContainer, stream: AudioStream, first: int
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """All that the decoder gives, with its place; where `first` is far from the start, only what it needs."""
        at = n_lost = n_each = n_silent = pending = 0  # pending: samples that can't be decoded, if others follow
        zero: Fraction | None = None
        for packet, skipped in self._packets(container, stream, first):
            at += skipped
            if packet is None:
                continue
            try:
                frames: list[Any] = packet.decode()
            except errors():
                pending += n_each or _samples_of(packet, self.info.rate)
                continue
            for frame in frames:
                samples = self._samples(frame)
                if samples is None:
                    pending += frame.samples
                    continue
                time = self._time(frame)
                zero = time - at if zero is None and time is not None else zero
                missing = 0 if time is None or zero is None else round(time - zero) - at
                missing = missing if missing > max(pending, self._slack or 0) else pending
                if self._gaps and missing > pending:
                    self._note("sound", "gaps between its packets: filled with silence")
                    n_silent += missing - pending
                pending, n_lost = 0, n_lost + missing
                self._refuse_loss(n_lost, at + missing)
                for part in self._silence(missing):
                    yield at, part
                    at += len(part)
                yield at, samples
                at, n_each = at + len(samples), len(samples)
        if n_lost > n_silent:
            self._note("damage", f"{n_lost - n_silent} samples can't be decoded: they are silent")
        if pending and not at:
            raise MediaError("no sound in it that can be decoded: the file is damaged")

    def _demux(self, container: InputContainer, stream: AudioStream) -> Iterator[Packet]:
        """The packets of the sound; damage that FFmpeg can't get over is the end of the file."""
        from av.error import EOFError, InvalidDataError

        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (InvalidDataError, EOFError) as error:
                if self.info.n_samples is None:
                    words = getattr(error, "strerror", None) or error
                    self._note("cut", f"the file can't be read to its end ({words}): what comes behind is missing")
                return
            yield packet

    def _packets(
        self, container: InputContainer, stream: AudioStream, first: int
    ) -> Iterator[tuple[Packet | None, int]]:
        """The packets to decode; in front of the first one, the samples of those that are passed over."""
        lead = _LEAD.get(stream.codec_context.name) if self._format in _EXACT else None
        kept: list[tuple[Packet, int]] = []
        passing = lead is not None and first > 0
        passed = at = 0
        lengths: dict[int, int] = {}  # by duration
        for packet in self._demux(container, stream):
            if not passing:
                yield packet, 0
                continue
            duration = packet.duration or 0 if packet.size else 0
            if duration not in lengths:
                lengths[duration] = _samples_of(packet, self.info.rate) if duration else 0
            n_samples = lengths[duration]
            kept.append((packet, n_samples))
            at += n_samples
            if len(kept) > (lead or 0) + 1:
                passed += kept.pop(0)[1]
            if (
                at > first or not n_samples
            ):  # the packet with `first` in it, the end, or one that doesn't say its length
                passing = False
                yield None, passed
                yield from ((item, 0) for item, _ in kept)

    def _time(self, frame: AudioFrame) -> Fraction | None:
        """The place of a frame in samples by its own time, where that is exact."""
        if self._slack is None or frame.pts is None:
            return None
        base = ratio(frame.time_base)
        return None if base is None else frame.pts * base * self.info.rate

    def _samples(self, frame: AudioFrame) -> NDArray[Any] | None:
        """The samples of a frame, (n, channels); None if they aren't like those of the first one."""
        info = self.info
        if frame.sample_rate != info.rate or frame.layout.nb_channels != info.channels:
            return None
        kind = frame.format.name.rstrip("p")
        if kind not in _NUMBERS:
            return None
        if frame.format.is_planar:  # PyAV 18 finds nine planes of eight channels: to_ndarray() reads beyond its memory
            buffers: Any = frame.planes[: info.channels]
            planes = [np.frombuffer(plane, _NUMBERS[kind]) for plane in buffers]
            array: NDArray[Any] = np.stack([plane[: frame.samples] for plane in planes], axis=1)
        else:
            array = frame.to_ndarray().reshape(-1, info.channels)
        if kind == "u8":
            return (array.astype(np.int16) - 128) << 8
        if kind not in ("s16", "s32", "flt", "dbl") or (kind in ("flt", "dbl")) != (info.sample == "float32"):
            return None
        if kind == "s16" and info.sample != "int16":
            return None
        if kind == "s32" and info.sample != "int32":
            array = np.asarray(array, np.int32) >> (8 if info.sample == "int24" else 16)
        samples = array.astype(DTYPES[info.sample], order="C")
        if info.sample == "float32" and not np.isfinite(samples).all():
            self._note("sound", "samples that are infinite or no numbers (NaN): taken as 0")
            samples[~np.isfinite(samples)] = 0
        return samples

    def _silence(self, n_samples: int) -> Iterator[NDArray[Any]]:
        for at in range(0, n_samples, BLOCK):
            yield np.zeros((min(BLOCK, n_samples - at), self.info.channels), self.info.dtype)

    def _refuse_loss(self, n_lost: int, n_samples: int) -> None:
        """Raise MediaError where more is missing than a damaged file would lack."""
        if 2 * n_lost > n_samples and n_lost > _PATIENCE * self.info.rate:
            raise MediaError(
                f"damaged: {n_lost} of {n_samples} samples can't be decoded; what can be, "
                "ffmpeg -err_detect ignore_err -i IN OUT.flac saves"
            )


def _begin(stream: Stream) -> Fraction:
    """The seconds at which a track is first seen or heard."""
    return (stream.start_time or 0) * (ratio(stream.time_base) or Fraction(0))


def _samples_of(packet: Packet, rate: int) -> int:
    """The samples in a packet, by the duration that it says."""
    base = ratio(packet.time_base)
    return 0 if base is None or not packet.duration else round(packet.duration * base * rate)


def _sample_of(frame: AudioFrame, bits: int) -> SampleType:
    kind = frame.format.name.rstrip("p")
    if kind in ("flt", "dbl"):
        return "float32"
    if kind in ("u8", "s16") or (kind == "s32" and bits <= 16):
        return "int16"
    if kind != "s32":
        raise MediaError(f"samples of FFmpeg's type {kind}; expected integers of up to 32 bits, or floats")
    return "int24" if bits <= 24 else "int32"
