"""Reading video files by FFmpeg (PyAV): the picture's track, decoded, and all that is beside it.

FFmpeg is told what a file is: formats that name other files or addresses are never opened. A damaged file is an error.
A file that merely ends early gives the frames that are whole, and a note of kind "cut".
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO

from ...errors import MediaError
from ...files import naming
from ..ffmpeg import errors, open_input, ratio
from ..notes import Note
from .attached import covers_of, is_cover
from .base import VideoReader
from .pixels import Turn, kind_of, planes_of, shown, turn_of
from .times import OrderOfDecoding, in_time, seconds_of_duration
from .tracks import Beside, collect, describe, left_out_of_picture
from .values import MAX_PIXELS, Frame, Planes, VideoInfo, check_frame_size

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from .soundtracks import ReadTrack

__all__ = ["FileReader"]

_THREADS = min(4, os.cpu_count() or 1)
# Decoders that give one frame for each packet, so that a missing one means damage.
_FRAME_A_PACKET = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "ffv1", "mjpeg", "prores", "png"})
_ALPHA = frozenset({"vp8", "vp9", "libvpx", "libvpx-vp9"})  # whose transparency is beside the frames, where it is
# Data beside frames that are applied, shown in another way, or say nothing about the picture.
_APPLIED = frozenset(
    [
        *(
            "DISPLAYMATRIX",
            "SEI_UNREGISTERED",
            "MOTION_VECTORS",
            "QP_TABLE_PROPERTIES",
            "QP_TABLE_DATA",
            "GOP_TIMECODE",
        ),
        *("VIDEO_ENC_PARAMS", "REGIONS_OF_INTEREST", "FILM_GRAIN_PARAMS", "PANSCAN", "VIEW_ID", "SKIP_SAMPLES"),
        *("ENCODING_PARAMS", "SPHERICAL", "STEREO3D", "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"),
    ]
)
_CAPTIONS = "A53_CC"


class FileReader(VideoReader):
    """A file that FFmpeg reads. opened: opens it anew, at its start."""

    def __init__(self, opened: Callable[[], BinaryIO], format: str, name: str) -> None:
        super().__init__()
        self._opened, self._format, self._name = opened, format, name
        self._early = False
        with self._about(), self._open() as (container, stream):
            self._start = Fraction(0)
            self._hidden = left_out_of_picture(stream)
            self._has_order = _has_order(container, stream, format)
        with self._about(), self._open() as (container, stream):
            self.info = self._first(container, stream)
            rate = self.info.frame_rate
            self.n_frames = stream.frames or None
            if self.n_frames is None and rate and container.duration:
                self.n_frames = max(1, round(Fraction(container.duration, 1_000_000) * rate))

    def __iter__(self) -> Iterator[Frame]:
        def moved() -> None:
            self._note("time", "times of frames that don't rise: moved behind the frame before")

        with self._about(), self._open() as (container, stream):
            yield from in_time(self._frames(container, stream), self.info, _end_of(stream), moved)

    def audio(self) -> bytes | None:
        return self.beside()

    def beside(self, sound: bool = True) -> bytes | None:
        beside = self._beside(sound)
        self.info = replace(self.info, early=beside.early)
        return beside.data

    def sounds(self) -> list[ReadTrack]:
        from .soundtracks import tracks_of

        with self._about():
            return tracks_of(self._opened, self._format, self._name, self._start)

    def _beside(self, sound: bool) -> Beside:
        with self._about():
            with self._open() as (container, _):
                covers, notes = covers_of(container)
            with self._open() as (container, stream):
                beside = collect(container, stream, self._start, covers, sound, self._early)
        for note in (*notes, *beside.notes):
            self._note(*note)
        return beside

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        with self._opened() as file:
            self._early = _ends_early(file, self._format)
            file.seek(0)
            # FFmpeg decodes a little while it looks for what a file is.
            with open_input(file, self._format, {"max_pixels": str(MAX_PIXELS)}, 1 << 18) as container:
                stream = _video_of(container)
                context = stream.codec_context
                context.thread_count, context.thread_type = _THREADS, "AUTO"
                check_frame_size(context.width, context.height)
                # Sizes may not grow: neither in the middle of the file nor beyond what its header says.
                area = (context.width + 512) * (context.height + 512)  # decoders' working memory counts as well
                context.options = {"max_pixels": str(area), "err_detect": "explode+crccheck+bitstream+buffer"}
                self._command = command_for(container)
                yield container, stream

    _guess_is_off: int | None = None
    _command = "ffmpeg -i IN -map 0 -c copy -c:v:0 ffv1 OUT.mkv"

    def _advice(self, options: str) -> str:
        """A command that codes the picture anew, with these options, and copies the rest."""
        return self._command.replace("ffv1", f"ffv1 {options}" if options else "ffv1")

    def _salvage(self) -> str:
        command = self._advice("").replace("ffmpeg ", "ffmpeg -err_detect ignore_err ", 1)
        return f"{command} saves what can be decoded"

    @contextmanager
    def _about(self) -> Iterator[None]:
        """Makes a MediaError, with the file's name in front, of what FFmpeg raises on damage."""
        try:
            with naming(self._name):
                yield
        except MediaError:
            raise
        except (*errors(), ValueError) as error:
            if self._format == "mov" and _has_no_index(self._opened):
                raise MediaError(
                    f"{self._name}: the index (moov) is missing: the recording or the download wasn't finished; get "
                    "the file again, or rebuild it (untrunc does, with a whole file of the same camera as its model)"
                ) from error
            if isinstance(error, EOFError):
                raise MediaError(f"{self._name}: no frames in it") from error
            early = " and ends early" if self._early else ""
            words = getattr(error, "strerror", None) or error
            raise MediaError(f"{self._name}: can't be read, damaged{early}? ({words}): {self._salvage()}") from error

    def _first(self, container: InputContainer, stream: VideoStream) -> VideoInfo:
        modes = {value for key, value in stream.metadata.items() if key.lower() == "alpha_mode"}
        if stream.codec_context.name in _ALPHA and "1" in modes:
            raise MediaError(
                f"frames of {stream.codec_context.name} with transparency; expected 8 bits without transparency: "
                f"{self._advice('-pix_fmt yuv420p')}, which drops it"
            )
        first = next(self._decoded(container, stream), None)
        if first is None:
            raise MediaError(f"no picture in it can be decoded: {self._salvage()}")
        frame, stamp = first
        if stamp is None:
            raise MediaError(
                f"pictures without times: {self._advice('').replace('ffmpeg ', 'ffmpeg -fflags +genpts ')}"
            )
        base = ratio(stream.time_base) or Fraction(1, 1000)
        self._start = stamp * base
        pixels, color, notes = kind_of(frame, stream.codec_context, self._advice)
        if pixels == "yuv420p" and self._hidden.chroma:
            color["chroma"] = self._hidden.chroma
        texts = describe(container, stream, self._start)
        notes += [*texts.notes, *self._hidden.notes]
        turned = turn_of(frame, self._advice)[0]
        crop = self._hidden.crop
        width = frame.width - crop.get("left", 0) - crop.get("right", 0)
        height = frame.height - crop.get("top", 0) - crop.get("bottom", 0)
        if width <= 0 or height <= 0:
            raise MediaError(f"frames of {frame.width}x{frame.height} of which nothing is to be shown: damaged")
        if pixels == "yuv420p" and (crop.get("left", 0) % 2 or crop.get("top", 0) % 2):
            notes.append(Note("chroma", "cut at odd rows or columns: samples of chroma are half of one off"))
        if turned:
            width, height = height, width
        aspect = ratio(stream.sample_aspect_ratio) or ratio(stream.codec_context.sample_aspect_ratio)
        if aspect is not None and (aspect <= 0 or aspect == 1):
            aspect = None
        if aspect is not None and turned:
            aspect = 1 / aspect
        rate, average = ratio(stream.guessed_rate), ratio(stream.average_rate)
        if average and average > 0 and (not rate or rate > 3 * average):  # with varying times, a guess can be the ticks
            rate = average
        if self._early:
            notes.append(Note("cut", "the file ends early: what comes after that is missing"))
        return VideoInfo(
            width,
            height,
            pixels,
            base,
            rate if rate and rate > 0 else None,
            color,
            aspect,
            tuple(notes),
            tags=texts.tags,
            track=texts.track,
            chapters=texts.chapters,
        )

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, int | None]]:
        """The frames that are whole, and their times. MediaError for damage, unless the file ends early there."""
        n_frames = 0
        self._guess_is_off = None
        tally = _Tally(self, stream)
        order = None if self._has_order else OrderOfDecoding()
        try:
            for packet in container.demux(stream):
                tally.sent(packet)
                if order is not None and packet.size and not packet.is_discard:
                    guessed = packet.pts if self._format != "avi" else None  # AVI's are those of decoding, moved
                    order.sent(packet.dts if guessed is None else guessed)
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise MediaError(f"a damaged frame: {self._salvage()}")
                    if not n_frames:
                        lost = tally.begins(frame)
                        if order is not None:
                            order.skip(lost)
                    n_frames += 1
                    stamp = _stamp(frame)
                    if order is not None:
                        stamp = self._in_order(stamp, order.next())
                    yield frame, stamp
        except (MediaError, *errors(), ValueError) as error:
            if not (self._early and n_frames):
                raise
            words = str(getattr(error, "strerror", None) or error).partition(":")[0]
            self._note("cut", f"after {n_frames} frames nothing more can be read ({words})")
            return
        tally.ends(n_frames, self._format)

    def _in_order(self, stamp: int | None, given: int | None) -> int | None:
        """The time of a frame in order of decoding; noted if it isn't, but for a constant, what FFmpeg guesses."""
        if given is None or stamp is None:
            return given if stamp is None else stamp
        if self._guess_is_off is None:
            self._guess_is_off = stamp - given
        elif stamp - given != self._guess_is_off:
            self._note("time", "no times of presentation: frames take those of decoding, in order")
        return given

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[Planes, int | None, int]]:
        """The planes of frames as displayed, and their times and durations as the file has them."""
        kind: tuple[int, int, str, Turn] | None = None
        base = ratio(stream.time_base) or Fraction(0)
        for number, (frame, stamp) in enumerate(self._decoded(container, stream)):
            turn = turn_of(frame, self._advice)
            its_kind = (frame.width, frame.height, frame.format.name, turn)
            kind = kind or its_kind
            at = f"from frame {number} on ({float((stamp or 0) * base - self._start):.3f} s)"
            if its_kind != kind:
                raise MediaError(
                    f"frames change from {kind[0]}x{kind[1]} {kind[2]} to {its_kind[0]}x{its_kind[1]} {its_kind[2]} "
                    f"{at}: {self._advice(f'-filter:v:0 scale={kind[0]}:{kind[1]} -pix_fmt {kind[2]}')}"
                )
            if frame.interlaced_frame:
                raise MediaError(f"interlaced {at}: {self._advice('-filter:v:0 bwdif')} makes whole frames of it")
            self._note_side_data(frame)
            yield (
                shown(planes_of(frame, self.info), self._hidden.crop, turn),
                stamp,
                getattr(frame, "duration", 0) or 0,
            )

    def _note_side_data(self, frame: VideoFrame) -> None:
        for item in frame.side_data:
            name = getattr(getattr(item, "type", None) or item, "name", "")
            if name == _CAPTIONS:
                self._note("track", "closed captions in the pictures: left out")
            elif name and name not in _APPLIED:
                self._note("metadata", f"data beside frames ({name}): left out")


class _Tally:
    """A count of packets against frames, which tells what is missing; and a look at what packets say of themselves."""

    def __init__(self, reader: FileReader, stream: VideoStream) -> None:
        self._reader, self._stream = reader, stream
        self._name = stream.codec_context.name
        self._expected = self._seen = self._hidden = 0
        self._begun = False
        self._waiting: list[int] = []  # times of packets until there is a frame
        self._checksums: set[bool] | None = set() if self._name == "ffv1" else None

    def sent(self, packet: Packet) -> None:
        """A packet is given to the decoder. MediaError if it is damaged, or holds what can't be taken."""
        if not packet.size:
            return
        if packet.is_corrupt:
            raise MediaError(f"a damaged or cut packet: {self._reader._salvage()}")
        if self._name in _ALPHA and packet.has_sidedata("matroska_block_additional"):
            raise MediaError(
                f"frames of {self._name} with transparency; expected 8 bits without transparency: "
                f"{self._reader._advice('-pix_fmt yuv420p')}, which drops it"
            )
        self._seen += 1
        if self._checksums is not None:
            self._checksums.add(_ffv1_intact(bytes(packet)))
            if len(self._checksums) > 1:  # there are some, so that one that is wrong means damage
                raise MediaError(f"a frame whose checksum is wrong: {self._reader._salvage()}")
        if packet.is_discard:
            self._hidden += 1
            return
        self._expected += 1
        if not self._begun and packet.pts is not None:
            self._waiting.append(packet.pts)

    def begins(self, frame: VideoFrame) -> int:
        """The first frame is there: how many packets before it give none. Behind a cut, those lean on missing ones."""
        self._begun = True
        first = frame.pts if frame.pts is not None else 0
        lost = sum(pts < first for pts in self._waiting)
        self._expected -= lost
        if lost:
            self._reader._note("frames", f"the first {lost} frames lean on ones that are missing: left out")
        return lost

    def ends(self, n_frames: int, format: str) -> None:
        """All packets are decoded. MediaError for frames that are missing, unless the file ends early."""
        if n_frames < self._expected and self._name in _FRAME_A_PACKET:
            text = f"{self._expected - n_frames} of {self._expected} frames can't be decoded"
            if not (self._reader._early and n_frames):
                raise MediaError(f"damaged, {text}: {self._reader._salvage()}")
            self._reader._note("cut", text)
        if format == "mov" and self._seen < self._stream.frames:
            self._reader._note("cut", f"{self._stream.frames} frames in its index, {self._seen} found")
        if self._hidden:
            self._reader._note("frames", f"{self._hidden} frames that the file hides (edit list): left out")


def _has_order(container: InputContainer, stream: VideoStream, format: str) -> bool:
    """Whether packets say when their frames are shown. AVI has nothing for it; in others FFmpeg finds out."""
    if format == "avi":
        return False
    apart: set[int] = set()
    known = False
    for number, packet in enumerate(container.demux(stream)):
        if not packet.size:
            continue
        if packet.pts is None:
            return packet.dts is None  # a file without any times is refused later
        if packet.dts is not None:
            known = True
            apart.add(packet.pts - packet.dts)
        if len(apart) > 1 or number > 1000:
            return True
    return not (known and stream.codec_context.has_b_frames)


def command_for(container: InputContainer) -> str:
    """The command that codes the picture of a file anew, without loss, and copies all that Matroska can hold."""
    words = ["ffmpeg -i IN -map 0"]
    kinds = {stream.type for stream in container.streams}
    if "data" in kinds:
        words.append("-map -0:d")
    if "unknown" in kinds or any(
        stream.codec_context is None for stream in container.streams if stream.type == "video"
    ):
        words.append("-ignore_unknown")
    words.append("-c copy -c:v:0 ffv1")
    names = {stream.codec_context.name for stream in container.streams if stream.codec_context is not None}
    if "mov_text" in names:
        words.append("-c:s srt")
    if any(name.startswith("adpcm") or name in ("pcm_alaw", "pcm_mulaw") for name in names):
        words.append("-c:a pcm_s16le")
    return " ".join([*words, "OUT.mkv"])


def _has_no_index(opened: Callable[[], BinaryIO]) -> bool:
    """Whether an MP4 or MOV has no moov among its outermost boxes, and so nothing that says where its frames are."""
    with opened() as stream:
        size, at = stream.seek(0, os.SEEK_END), 0
        for _ in range(10_000):
            stream.seek(at)
            head = stream.read(16)
            if len(head) < 8:
                return True
            length, kind = struct.unpack(">I4s", head[:8])
            if kind == b"moov":
                return False
            if length == 1 and len(head) == 16:
                length = struct.unpack(">Q", head[8:])[0]
            if length < 8:
                return kind == b"mdat"
            at += length
            if at >= size:
                return True
    return False


def _videos(container: InputContainer) -> list[VideoStream]:
    """The video streams of a container, without the pictures of covers."""
    return [stream for stream in container.streams.video if not is_cover(stream)]


def _video_of(container: InputContainer) -> VideoStream:
    streams = _videos(container)
    if not streams:
        raise MediaError("no video in it" + (", but sound" if container.streams.audio else ""))
    if streams[0].codec_context is None:
        raise MediaError("its video is of a codec that isn't known: ffmpeg -i IN -map 0 -c copy -c:v:0 ffv1 OUT.mkv")
    return streams[0]


def _stamp(frame: VideoFrame) -> int | None:
    return frame.pts if frame.pts is not None else frame.dts


def _end_of(stream: VideoStream) -> int | None:
    """The time at which the last frame of a Matroska track ends, in its time base: the frame itself has no duration."""
    end, base = seconds_of_duration(stream.metadata.get("DURATION", "")), ratio(stream.time_base)
    return None if end is None or not base else round(end / base)


_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def _ffv1_intact(data: bytes) -> bool:
    """Whether every slice of an FFV1 frame ends with its CRC (RFC 9043, 4.9).

    FFmpeg's decoder notices one that is wrong, and goes on. The CRC takes the highest bit first, zlib's the lowest:
    bytes are reversed for it.
    """
    end = len(data)
    while end > 0:
        start = end - 8 - int.from_bytes(data[end - 8 : end - 5], "big")
        if end < 8 or start < 0 or zlib.crc32(data[start:end].translate(_REVERSED), 0xFFFFFFFF) != 0xFFFFFFFF:
            return False
        end = start
    return True


def _ends_early(stream: BinaryIO, format: str) -> bool:
    """Whether the file is shorter than its outermost structure says."""
    size = stream.seek(0, os.SEEK_END)
    at = 0
    for _ in range(100_000):
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return bool(head)
        if format == "avi":
            at += 8 + (length := struct.unpack("<I", head[4:8])[0]) + length % 2
        elif format == "mov":
            length, kind = struct.unpack(">I4s", head[:8])
            if length == 1 and len(head) == 16:
                length = struct.unpack(">Q", head[8:])[0]
            if length < 8 or not kind.isascii():
                return False  # 0: up to the end; else damaged, which decoding will tell
            at += length
        else:
            n_id, n_size = 4 if head[0] >> 4 == 1 else 9, 8 - head[4].bit_length() + 1
            if n_id != 4 or n_size > 8:
                return False
            value = int.from_bytes(head[4 : 4 + n_size], "big") & ((1 << 7 * n_size) - 1)
            if value == (1 << 7 * n_size) - 1:
                return False  # unknown: it was streamed
            at += n_id + n_size + value
        if at >= size:
            return at > size
    return False
