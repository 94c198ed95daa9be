"""Reading video: MP4, MOV, MKV, WebM and AVI by FFmpeg (PyAV), Y4M, folders of PNGs, arrays. One frame at a time.

What a file is, its first bytes say, and FFmpeg is told: formats that name other files or addresses are never opened.
A damaged file is an error. A file that merely ends early gives the frames that are whole, and a note.
"""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import MediaError, UsageError
from ...files import STDIO, is_stream, name_of, naming
from ..image import read_picture
from . import sound, y4m
from .values import FULL, MAX_PIXELS, Frame, Pixels, Planes, VideoInfo, check_frame_size, frames_of, yuv_to_rgb

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["MAX_MEMORY", "VideoReader", "VideoSource", "cut", "open_video"]

MAX_MEMORY = 1 << 30  # bytes of a file that has to be held in memory, since it comes through a pipe
MAX_PICTURES = 1_000_000  # in a folder
TAKES = "MP4, MOV, MKV, WebM, AVI or Y4M, a folder of PNGs"

VideoSource = str | os.PathLike[str] | bytes | BinaryIO | NDArray[Any]

_SALVAGE = "ffmpeg -err_detect ignore_err -i IN -c:v ffv1 OUT.mkv saves what can be decoded"
_THREADS = min(4, os.cpu_count() or 1)
# Decoders that give one frame for each packet, so that a missing one means damage.
_FRAME_A_PACKET = frozenset({"h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "ffv1", "mjpeg", "prores", "png"})
_HDR = {16: "PQ", 18: "HLG"}
# Channel of the first plane that holds red, green and blue.
_PACKED = {
    "rgb24": (0, 1, 2),
    "bgr24": (2, 1, 0),
    "rgb0": (0, 1, 2),
    "bgr0": (2, 1, 0),
    "0rgb": (1, 2, 3),
    "0bgr": (3, 2, 1),
}
_HALVED = {"yuv422p": (1, 2), "yuv440p": (2, 1), "yuv444p": (1, 1)}  # rows and columns that share a sample of chroma
_REPACKED = {"nv12": "yuv420p", "nv21": "yuv420p", "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p"}


class VideoReader(ABC):
    """An open video. Iterating gives its frames, from the first one again each time unless it comes through a pipe.

    info: what it is. n_frames: how many frames there probably are, if that is known before reading them. notes: what
    isn't kept as it was, or went wrong without being an error; complete once all frames are read.
    """

    info: VideoInfo
    n_frames: int | None = None

    def __init__(self) -> None:
        self._notes: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.info.notes, *self._notes)

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def audio(self) -> bytes | None:
        """Every audio track, its packets unchanged, as a Matroska file whose time 0 is the first picture."""
        return None

    def close(self) -> None:
        return

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self._notes.append(text)


def open_video(source: VideoSource, frame_rate: Fraction | int | None = None) -> VideoReader:
    """Open a file (path), a folder of PNGs, a file in memory (bytes), a binary stream ("-": stdin), or an array.

    frame_rate: of a folder or an array, which have none of their own; 25 if not given. Raises MediaError.
    """
    if isinstance(source, np.ndarray):
        return _ArrayReader(source, frame_rate or 25)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return _open_bytes(lambda: io.BytesIO(data), "the data")
    if source == STDIO:
        return _open_stream(sys.stdin.buffer, name_of(STDIO))
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if is_stream(path):  # a pipe, which can be opened once
            return _open_stream(_opened(path), str(path), owned=True)
        if path.is_dir():
            return _FolderReader(path, Fraction(frame_rate or 25))
        return _open_bytes(lambda: path.open("rb"), str(path))
    return _open_stream(source, str(getattr(source, "name", "the stream")))


def _open_bytes(opened: Callable[[], BinaryIO], name: str) -> VideoReader:
    """The reader of a file that `opened` opens anew, at its start."""
    try:
        with opened() as stream:
            head = stream.read(64)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise MediaError(f"{name}: can't be read ({getattr(error, 'strerror', None) or error})") from None
    if head.startswith(y4m.MAGIC):
        return _Y4mReader(opened, name)
    format = _format_of(head)
    if format is None:
        raise MediaError(f"{name}: not a video that is known; expected {TAKES}: ffmpeg -i IN -c copy OUT.mkv")
    return _FileReader(opened, format, name)


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
        once: list[BinaryIO] = [io.BufferedReader(_Joined(head, stream, owned), 1 << 16)]

        def opened() -> BinaryIO:
            if not once:
                raise MediaError(f"{name}: a pipe can be read only once")
            return once.pop()

        return _Y4mReader(opened, name, keep=True)
    parts, n_bytes = [head], len(head)
    while part := stream.read(1 << 20):
        parts.append(part)
        n_bytes += len(part)
        if n_bytes > MAX_MEMORY:
            raise MediaError(f"{name}: more than {MAX_MEMORY} bytes through a pipe; name the file, or pipe Y4M")
    if owned:
        stream.close()
    data = b"".join(parts)
    return _open_bytes(lambda: io.BytesIO(data), name)


class _Joined(io.RawIOBase):
    """A stream of bytes that were already read, and then the rest, which is closed with this if it is owned."""

    def __init__(self, head: bytes, rest: BinaryIO, owned: bool) -> None:
        self._head, self._rest, self._owned = head, rest, owned

    def close(self) -> None:
        if self._owned:
            self._rest.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._rest.read(len(buffer)) or b""
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _format_of(head: bytes) -> str | None:
    """FFmpeg's name of the container that begins with these bytes; None for one that isn't read."""
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "avi"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "mov"
    return None


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


# ---- FFmpeg


class _FileReader(VideoReader):
    def __init__(self, opened: Callable[[], BinaryIO], format: str, name: str) -> None:
        super().__init__()
        self._opened, self._format, self._name = opened, format, name
        self._early = False
        with self._about(), self._open() as (container, stream):
            self._start = Fraction(0)
            self.info = self._first(container, stream)
            rate = self.info.frame_rate
            self.n_frames = stream.frames or None
            if self.n_frames is None and rate and container.duration:
                self.n_frames = max(1, round(Fraction(container.duration, 1_000_000) * rate))

    def __iter__(self) -> Iterator[Frame]:
        with self._about(), self._open() as (container, stream):
            yield from _in_time(self._frames(container, stream), self, stream)

    def audio(self) -> bytes | None:
        with self._about(), self._open() as (container, _):
            audio, notes = sound.collect(container, self._start)
        for note in notes:
            self._note(note)
        return audio

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        import av

        with self._opened() as file:
            self._early = _ends_early(file, self._format)
            file.seek(0)
            # FFmpeg decodes a little while it looks for what a file is.
            limits = {"max_pixels": str(MAX_PIXELS)}
            with av.open(
                file, "r", format=self._format, options=limits, buffer_size=1 << 18, metadata_errors="replace"
            ) as container:
                stream = _video_of(container)
                context = stream.codec_context
                context.thread_count, context.thread_type = _THREADS, "AUTO"
                check_frame_size(context.width, context.height)
                # Sizes may not grow: neither in the middle of the file nor beyond what its header says.
                area = (context.width + 512) * (context.height + 512)  # decoders' working memory counts as well
                context.options = {"max_pixels": str(area), "err_detect": "explode+crccheck+bitstream+buffer"}
                yield container, stream

    @contextmanager
    def _about(self) -> Iterator[None]:
        """Makes a MediaError, with the file's name in front, of whatever FFmpeg raises on damage."""
        try:
            with naming(self._name):
                yield
        except (MediaError, GeneratorExit):
            raise
        except Exception as error:
            early = " and ends early" if self._early else ""
            raise MediaError(f"{self._name}: can't be read, damaged{early}? ({error}): {_SALVAGE}") from error

    def _first(self, container: InputContainer, stream: VideoStream) -> VideoInfo:
        frame = next((frame for _, frame in self._decoded(container, stream)), None)
        if frame is None:
            raise MediaError("no picture in it can be decoded")
        if (start := _stamp(frame)) is None:
            raise MediaError("pictures without times: ffmpeg -fflags +genpts -i IN -c copy OUT.mkv")
        base = stream.time_base or Fraction(1, 1000)
        self._start = start * base
        pixels, color, notes = _kind(frame, stream.codec_context)
        notes += _left_out(container)
        turned = _turn(frame)[0]
        width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        if aspect is not None and (aspect <= 0 or aspect == 1):
            aspect = None
        if aspect is not None and turned:
            aspect = 1 / aspect
        rate, average = stream.guessed_rate, stream.average_rate
        if average and average > 0 and (not rate or rate > 3 * average):  # with varying times, a guess can be the ticks
            rate = average
        if self._early:
            notes.append("the file ends early: what comes after that is missing")
        return VideoInfo(width, height, pixels, base, rate if rate and rate > 0 else None, color, aspect, tuple(notes))

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[Packet | None, VideoFrame]]:
        """The frames that are whole. MediaError for damage, unless it is the end of a file that ends early."""
        expected = n_frames = seen = 0
        first: int | None = None
        waiting: list[int] = []  # times of packets until there is a frame
        checksums: set[bool] | None = set() if stream.codec_context.name == "ffv1" else None
        try:
            for packet in container.demux(stream):
                if packet.size and packet.is_corrupt:
                    raise MediaError(f"a damaged or cut packet: {_SALVAGE}")
                seen += packet.size > 0
                if packet.size and checksums is not None:
                    checksums.add(_ffv1_intact(bytes(packet)))
                    if len(checksums) > 1:  # there are some, so that one that is wrong means damage
                        raise MediaError(f"a frame whose checksum is wrong: {_SALVAGE}")
                if packet.size and not packet.is_discard:
                    expected += 1
                    if first is None and packet.pts is not None:
                        waiting.append(packet.pts)
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise MediaError(f"a damaged frame: {_SALVAGE}")
                    if first is None:
                        first = frame.pts if frame.pts is not None else 0
                        # Behind a cut, frames that lean on ones before it can't be shown.
                        lost = sum(pts < first for pts in waiting)
                        expected -= lost
                        if lost:
                            self._note(f"the first {lost} frames lean on ones that are missing: left out")
                    n_frames += 1
                    yield packet, frame
        except GeneratorExit:
            raise
        except Exception as error:
            if not (self._early and n_frames):
                raise
            self._note(f"after {n_frames} frames nothing more can be read ({str(error).partition(':')[0]})")
            return
        if n_frames < expected and stream.codec_context.name in _FRAME_A_PACKET:
            text = f"{expected - n_frames} of {expected} frames can't be decoded"
            if not (self._early and n_frames):
                raise MediaError(f"damaged, {text}: {_SALVAGE}")
            self._note(text)
        if self._format == "mov" and seen < stream.frames:
            self._note(f"{stream.frames} frames in its index, {seen} found")

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[Planes, int | None, int]]:
        """The planes of frames as displayed, and their times and durations as the file has them."""
        kind: tuple[Any, ...] | None = None
        for _, frame in self._decoded(container, stream):
            turn = _turn(frame)
            its_kind = (frame.width, frame.height, frame.format.name, turn)
            kind = kind or its_kind
            if its_kind != kind:
                raise MediaError(
                    f"frames change from {kind[0]}x{kind[1]} {kind[2]} to {its_kind[0]}x{its_kind[1]} {its_kind[2]}: "
                    f"ffmpeg -i IN -vf scale={kind[0]}:{kind[1]} -c:v ffv1 OUT.mkv"
                )
            if frame.interlaced_frame:
                raise MediaError("interlaced: ffmpeg -i IN -vf bwdif -c:v ffv1 OUT.mkv makes whole frames of it")
            planes = tuple(_turned(plane, turn) for plane in _planes(frame, self.info))
            yield planes, _stamp(frame), getattr(frame, "duration", 0) or 0


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


def _videos(container: InputContainer) -> list[VideoStream]:
    """The video streams of a container, without the pictures of covers."""
    from av.stream import Disposition

    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def _video_of(container: InputContainer) -> VideoStream:
    streams = _videos(container)
    if not streams:
        raise MediaError("no video in it")
    if streams[0].codec_context is None:
        raise MediaError("its video is of a codec that isn't known: ffmpeg -i IN -c:v ffv1 OUT.mkv")
    return streams[0]


def _left_out(container: InputContainer) -> list[str]:
    notes = []
    if (n_tracks := len(_videos(container))) > 1:
        notes.append(f"{n_tracks} video tracks: only the first is taken")
    if container.streams.subtitles:
        notes.append("subtitles are left out")
    return notes


def _stamp(frame: VideoFrame) -> int | None:
    return frame.pts if frame.pts is not None else frame.dts


def _in_time(
    frames: Iterator[tuple[Planes, int | None, int]], reader: _FileReader, stream: VideoStream
) -> Iterator[Frame]:
    """Frames whose times start at 0, rise, and last until the next one."""
    info = reader.info
    nominal = max(1, round(1 / (info.frame_rate * info.time_base))) if info.frame_rate else 1
    held: tuple[Planes, int] | None = None
    origin, given = 0, 0
    for planes, stamp, duration in frames:
        if held is None:
            origin, pts = stamp or 0, 0
        else:
            pts = stamp - origin if stamp is not None else held[1] + (given or nominal)
            if pts <= held[1]:
                reader._note("times of frames that don't rise: moved behind the frame before")
                pts = held[1] + 1
            yield Frame(held[0], held[1], pts - held[1])
        held, given = (planes, pts), duration
    if held is not None:
        end = _end_of(stream)
        last = end - origin - held[1] if end is not None else 0
        yield Frame(held[0], held[1], last if last > 0 else given or nominal)


def _end_of(stream: VideoStream) -> int | None:
    """The time at which the last frame of a Matroska track ends, in its time base: the frame itself has no duration."""
    match = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d)\.(\d{1,9})\s*\0*", stream.metadata.get("DURATION", ""))
    if not match or not stream.time_base:
        return None
    hours, minutes, seconds, part = match.groups()
    total = 3600 * int(hours) + 60 * int(minutes) + int(seconds) + Fraction(int(part), 10 ** len(part))
    return round(total / stream.time_base)


def _kind(frame: VideoFrame, context: Any) -> tuple[Pixels, dict[str, int], list[str]]:
    """The kind of pixels that frames become, the colour that is kept, and notes. MediaError for what isn't taken.

    context: of the decoder, which knows what frames of an older PyAV don't.
    """
    name = frame.format.name
    color = {}
    for key, value, unknown in (
        ("range", int(frame.color_range), 0),
        ("matrix", int(frame.colorspace), 2),
        ("primaries", int(getattr(frame, "color_primaries", context.color_primaries)), 2),
        ("transfer", int(getattr(frame, "color_trc", context.color_trc)), 2),
    ):
        if value not in (unknown, 0):
            color[key] = value
    if (hdr := _HDR.get(color.get("transfer", 0))) is not None:
        raise MediaError(
            f"HDR ({hdr}): ffmpeg -i IN -vf zscale=t=linear:npl=100,tonemap=hable,zscale=p=709:t=709:m=709:r=tv,"
            "format=yuv420p -c:v ffv1 OUT.mkv makes 8-bit BT.709 of it"
        )
    if frame.interlaced_frame:
        raise MediaError("interlaced: ffmpeg -i IN -vf bwdif -c:v ffv1 OUT.mkv makes whole frames of it")
    plain = _plain(name)
    if name.startswith("yuvj"):
        color["range"] = FULL
    if plain == "yuv420p":
        return "yuv420p", color, []
    if plain in ("gray", "gray8"):
        return "gray", color, []
    if plain in _PACKED or plain == "gbrp":
        return "rgb24", {key: value for key, value in color.items() if key in ("primaries", "transfer")}, []
    if plain in _HALVED:
        kept = {key: value for key, value in color.items() if key in ("primaries", "transfer")}
        return "rgb24", kept, [f"{name}: converted to RGB, 8 bits"]
    bits = max((component.bits for component in frame.format.components), default=0)
    if bits > 8:
        raise MediaError(f"{name}, {bits} bits; expected 8: ffmpeg -i IN -pix_fmt yuv420p -c:v ffv1 OUT.mkv")
    rgb = "rgb" in name or "bgr" in name or name.startswith(("gbr", "pal", "argb", "abgr"))
    raise MediaError(
        f"frames of {name}; expected 8 bits without transparency, RGB, grey or YUV 4:2:0, 4:2:2 or 4:4:4: "
        f"ffmpeg -i IN -pix_fmt {'bgr0' if rgb else 'yuv420p'} -c:v ffv1 OUT.mkv"
    )


def _plain(name: str) -> str:
    return _REPACKED.get(name, name.replace("yuvj", "yuv"))


def _planes(frame: VideoFrame, info: VideoInfo) -> Planes:
    """The planes of a frame as `info.pixels` says, not yet turned."""
    if frame.format.name in _REPACKED:
        frame = frame.reformat(format=_REPACKED[frame.format.name])
    name, height, width = _plain(frame.format.name), frame.height, frame.width
    chroma = (-(-height // 2), -(-width // 2))
    if name in _PACKED:
        n = 3 if name in ("rgb24", "bgr24") else 4
        pixels = _plane(frame, 0, height, n * width).reshape(height, width, n)
        return (np.ascontiguousarray(pixels[:, :, list(_PACKED[name])]),)
    if name == "gbrp":
        green, blue, red = (_plane(frame, index, height, width) for index in range(3))
        return (np.stack([red, green, blue], axis=2),)
    if name == "yuv420p":
        return (_plane(frame, 0, height, width), *(_plane(frame, index, *chroma) for index in (1, 2)))
    if name in ("gray", "gray8"):
        return (_plane(frame, 0, height, width),)
    rows, columns = _HALVED[name]
    yuv = [_plane(frame, 0, height, width)]
    yuv += [_plane(frame, index, -(-height // rows), -(-width // columns)) for index in (1, 2)]
    matrix = int(frame.colorspace)
    full = frame.format.name.startswith("yuvj") or int(frame.color_range) == FULL
    return (yuv_to_rgb(tuple(yuv), matrix if matrix != 2 else info.matrix, full),)


def _plane(frame: VideoFrame, index: int, height: int, width: int) -> NDArray[np.uint8]:
    """A copy of a plane, (height, width), without what pads the rows."""
    plane: Any = frame.planes[index]
    line = plane.line_size
    if line < width:
        raise MediaError(f"rows of {line} bytes; expected at least {width}")
    data = np.frombuffer(plane, np.uint8)
    if data.size < (height - 1) * line + width:
        raise MediaError(f"a plane of {data.size} bytes; expected {height} rows of {line}")
    return np.lib.stride_tricks.as_strided(data, (height, width), (line, 1)).copy()


def _turn(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """The way a frame is to be shown: whether with rows and columns exchanged, then upside down, then mirrored."""
    data = frame.side_data.get("DISPLAYMATRIX")  # pyright: ignore[reportCallIssue, reportArgumentType]
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if (b, c) == (0, 0) and a and d:
        return False, d < 0, a < 0
    if (a, d) == (0, 0) and b and c:
        return True, b < 0, c < 0
    raise MediaError("turned by an angle that isn't a multiple of 90 degrees: ffmpeg -i IN -c:v ffv1 OUT.mkv")


def _turned(plane: NDArray[np.uint8], turn: tuple[bool, bool, bool]) -> NDArray[np.uint8]:
    """The plane as it is shown; chroma of an odd side that is reversed stays with its pixels, half of one off."""
    exchanged, upside_down, mirrored = turn
    if exchanged:
        plane = plane.swapaxes(0, 1)
    if upside_down:
        plane = plane[::-1]
    if mirrored:
        plane = plane[:, ::-1]
    return np.ascontiguousarray(plane)


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
        notes = ()
        if header.info.pixels == "rgb24":
            notes = (f"C{header.chroma}: converted to RGB, 8 bits",)
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
                        self._note(f"the file ends early, in the frame after {index + 1} whole ones")
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


# ---- pictures and arrays


class _FolderReader(VideoReader):
    def __init__(self, folder: Path, rate: Fraction) -> None:
        super().__init__()
        try:
            names = [name for name in os.listdir(folder) if name.lower().endswith(".png") and not name.startswith(".")]
        except OSError as error:
            raise MediaError(f"{folder}: can't be read ({error.strerror or error})") from None
        if not names or len(names) > MAX_PICTURES:
            raise MediaError(f"{folder}: {len(names)} PNGs; expected 1 to {MAX_PICTURES}, one a frame")
        self._files = [folder / name for name in sorted(names, key=_natural)]
        kinds = [_picture_kind(file) for file in self._files]
        for file, kind in zip(self._files, kinds, strict=True):
            if kind != kinds[0]:
                raise MediaError(
                    f"{file}: {kind[0]}x{kind[1]} {kind[2]}, and {self._files[0].name} is {kinds[0][0]}x{kinds[0][1]} "
                    f"{kinds[0][2]}; expected pictures that are all alike"
                )
        width, height, pixels = kinds[0]
        self.info = VideoInfo(width, height, pixels, 1 / rate, rate)
        self.n_frames = len(names)

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            picture = read_picture(file)
            pixels = picture.pixels[:, :, 0] if picture.pixels.shape[2] == 1 else picture.pixels
            grey = self.info.pixels == "gray"
            if pixels.shape[:2] != (self.info.height, self.info.width) or (pixels.ndim == 2) != grey:
                raise MediaError(f"{file}: changed while it was read")
            yield Frame((np.ascontiguousarray(pixels),), index, 1)


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts names with numbers by value: 2.png before 10.png."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(int(part[:18]), part) if part[0].isdecimal() and part.isascii() else (-1, part) for part in parts], name


def _picture_kind(file: Path) -> tuple[int, int, Pixels]:
    """The width, height and kind of pixels of a PNG, from its header alone. MediaError for what isn't a frame."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            mode, (width, height), clear = image.mode, image.size, "transparency" in image.info
            moving = getattr(image, "n_frames", 1) > 1
    except Exception as error:  # Pillow's boundary: what it raises on damage isn't specified
        raise MediaError(f"{file}: can't be read as a PNG, damaged? ({error})") from error
    check_frame_size(width, height)
    if mode not in ("L", "1", "RGB", "P") or clear or moving or _deep(file):
        raise MediaError(
            f"{file}: {mode}{' with transparency' if clear else ''}; expected a still PNG of 8 bits, grey or RGB, "
            "without transparency"
        )
    return width, height, "gray" if mode in ("L", "1") else "rgb24"


def _deep(file: Path) -> bool:
    """Whether a PNG has more than 8 bits: Pillow shows 16-bit RGB as 8 bits."""
    with file.open("rb") as stream:
        head = stream.read(26)
    return len(head) < 26 or head[24] > 8


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
        self.info = reader.info
        if reader.n_frames is not None:
            self.n_frames = max(0, min(reader.n_frames, stop or reader.n_frames) - start)

    @property
    def notes(self) -> tuple[str, ...]:
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
        audio = self._reader.audio()
        if audio is not None:
            for _ in self if self._span is None else ():
                pass
        return None if self._span is None else sound.cut_audio(audio, *self._span)

    def close(self) -> None:
        self._reader.close()
