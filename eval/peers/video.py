"""Classical video codecs through PyAV: x264, x265, AV1 and lossless FFV1.

What is measured is the whole file, MP4 or Matroska. Encoders write no text about themselves: the message that x264 puts
into every stream (about 700 bytes) is filtered out, x265's is turned off. FFmpeg's own tags are off too.

RGB is turned into YUV and back by swscale with BT.709 and limited range in both directions, whatever a decoder would
guess; the stream says so as well. For 4:2:0 chroma is filtered and interpolated bicubically, with accurate rounding.
FFV1 codes RGB as it is.

The AVX-512 code of the x264 in PyAV 18's wheel often gives another file (macroblock tree with B-frames; up to 0.5 % in
size on park_joy, on one thread too). x264 is held to AVX2 where it would use it; 84 runs on five clips then agreed.

The encoders have sizes that they can't code: odd ones with 4:2:0, small ones in general (x265 corrupted memory at
34x18, so it gets 64 at least). Such frames are padded at the right and below by repeating the edge, and 8 bytes of ours
in front of the file say how many columns and rows to cut off after decoding.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module, metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ...errors import CodecError, MediaError, StreamError, UsageError
from ...media.ffmpeg import ratio
from ...media.video.writer import X26_PRESETS
from ..bench.contract import Family, Option, OptionValue, Peer, Video
from ..bench.readers import MAX_VIDEO_PIXELS

if TYPE_CHECKING:
    from av import VideoFrame
    from av.packet import Packet

__all__ = ["FAMILIES"]

_HEADER = struct.Struct("<4sHH")  # magic, columns and rows to cut off
_MAGIC = b"CdcV"
_MAX_SIDE = 16384
_CONTAINERS = {"mp4": "mp4", "mkv": "matroska"}  # FFmpeg's muxers
_DEMUXERS = {"mp4": "mp4", "mkv": "matroska"}
_PRESETS = tuple(X26_PRESETS)


@dataclass(frozen=True)
class _Encoder:
    """An encoder of FFmpeg's. codec, pixels: FFmpeg's names. smallest: side to pad to; multiple: what sides must be
    divisible by."""

    codec: str
    decoder: str  # what the coded stream is, in FFmpeg's words
    pixels: str
    options: Mapping[str, str]
    smallest: int = 1
    multiple: int = 1
    drop: str = ""  # bitstream filter for packets
    reorders: bool = True  # B-frames, which x265 can't do for clips of one or two frames


@dataclass(frozen=True)
class _VideoPeer:
    encoder: _Encoder
    container: str
    threads: int

    def encode(self, value: Video) -> bytes:
        frames = _checked(value)
        fps = Fraction(value.fps)
        _, height, width, _ = frames.shape
        multiple, smallest = self.encoder.multiple, self.encoder.smallest
        rows = -(-max(height, smallest) // multiple) * multiple - height
        columns = -(-max(width, smallest) // multiple) * multiple - width
        head = _HEADER.pack(_MAGIC, columns, rows) if rows or columns else b""
        if head:
            frames_in: Iterable[NDArray[np.uint8]] = (
                np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge") for frame in frames
            )
        else:
            frames_in = (np.ascontiguousarray(frame) for frame in frames)
        try:
            with _quiet_svt() if self.encoder.codec == "libsvtav1" else nullcontext():
                coded = self._file(frames_in, len(frames), height + rows, width + columns, fps)
        except Exception as error:  # FFmpeg's boundary: what PyAV raises has no common ground
            raise MediaError(
                f"{self.encoder.codec} can't encode {len(frames)} frames {width}x{height} ({error})"
            ) from error
        return head + coded

    def _file(
        self, frames: Iterable[NDArray[np.uint8]], n_frames: int, height: int, width: int, fps: Fraction
    ) -> bytes:
        import av
        from av.bitstream import BitStreamFilterContext
        from av.container.core import Flags as ContainerFlags

        encoder, buffer = self.encoder, io.BytesIO()
        with av.open(buffer, "w", format=_CONTAINERS[self.container]) as output:
            output.flags |= ContainerFlags.bitexact.value  # no tags with FFmpeg's version or the date
            stream = cast(Any, output.add_stream(encoder.codec, rate=fps, options=dict(encoder.options)))
            context = stream.codec_context
            stream.width, stream.height, stream.pix_fmt = width, height, encoder.pixels
            context.thread_count = self.threads
            context.thread_type = "FRAME"  # PyAV's default makes x264 cut frames into slices: larger files
            context.time_base = 1 / fps
            if encoder.pixels.startswith("yuv"):
                context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
                context.color_range = 1  # limited
            if not encoder.reorders or n_frames < 3:
                context.max_b_frames = 0
            dropping: BitStreamFilterContext | None = None

            def write(packets: Iterable[Packet]) -> None:
                nonlocal dropping
                for packet in packets:
                    if encoder.drop and dropping is None:  # only now the stream has its headers
                        dropping = BitStreamFilterContext(encoder.drop, stream)
                    output.mux(dropping.filter(packet) if dropping else packet)

            for index, rgb in enumerate(frames):
                frame = _to_coded(rgb, encoder.pixels)
                frame.pts, frame.time_base = index, 1 / fps
                write(stream.encode(frame))
            write(stream.encode(None))
            if dropping:
                output.mux(dropping.filter(None))
        return buffer.getvalue()

    def decode(self, data: bytes) -> Video:
        rows = columns = 0
        if data[:4] == _MAGIC:
            if len(data) < _HEADER.size:
                raise StreamError(f"{len(data)} bytes; expected a header of {_HEADER.size} and a file behind it")
            _, columns, rows = _HEADER.unpack_from(data)
            data = data[_HEADER.size :]
        try:
            frames, fps = self._frames(data, rows, columns)
        except CodecError:
            raise
        except Exception as error:
            raise StreamError(f"damaged, or not {self.encoder.decoder} in {self.container} ({error})") from error
        return Video(frames, fps)

    def _frames(self, data: bytes, rows: int, columns: int) -> tuple[NDArray[np.uint8], Fraction]:
        import av

        frames: list[NDArray[np.uint8]] = []
        with av.open(io.BytesIO(data), format=_DEMUXERS[self.container]) as container:
            if not container.streams.video:
                raise StreamError("no video in the file")
            stream = container.streams.video[0]
            if stream.codec_context.codec.canonical_name != self.encoder.decoder:
                raise StreamError(f"{stream.codec_context.codec.canonical_name}; expected {self.encoder.decoder}")
            stream.codec_context.thread_count = self.threads
            stream.codec_context.thread_type = "AUTO"
            rate = ratio(stream.average_rate)
            for frame in container.decode(stream):
                height, width = frame.height - rows, frame.width - columns
                if height < 1 or width < 1 or (frames and frames[0].shape[:2] != (height, width)):
                    raise StreamError(f"a frame of {frame.width}x{frame.height}, {columns} and {rows} to be cut off")
                if (len(frames) + 1) * frame.height * frame.width > MAX_VIDEO_PIXELS:
                    raise StreamError(f"more than {MAX_VIDEO_PIXELS} pixels")
                frames.append(_to_rgb(frame)[:height, :width])
        if not frames or not rate or rate <= 0:
            raise StreamError(f"{len(frames)} frames at {rate} a second; expected at least one")
        return np.stack(frames), rate


def _checked(value: Video) -> NDArray[np.uint8]:
    frames = np.asarray(value.frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise MediaError(f"frames are {frames.dtype} {frames.shape}; expected uint8, (T, H, W, 3), not empty")
    if max(frames.shape[1:3]) > _MAX_SIDE or frames.size // 3 > MAX_VIDEO_PIXELS:
        raise MediaError(
            f"{frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}; expected sides up to {_MAX_SIDE} and "
            f"{MAX_VIDEO_PIXELS} pixels in all: cut it into parts"
        )
    if not Fraction(1, 100) <= value.fps <= 1000 or Fraction(value.fps).limit_denominator(65535) != value.fps:
        raise MediaError(f"{value.fps} frames a second; expected 1/100 to 1000, a denominator up to 65535")
    return frames


def _flags() -> int:
    from av.video.reformatter import Interpolation as Flag

    return int(Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.FULL_CHR_H_INP | Flag.BITEXACT)


def _to_coded(rgb: NDArray[np.uint8], pixels: str) -> VideoFrame:
    import av

    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    if not pixels.startswith("yuv"):
        return frame.reformat(format=pixels, threads=1)
    return frame.reformat(
        format=pixels,
        src_color_range="JPEG",
        dst_colorspace="ITU709",
        dst_color_range="MPEG",
        interpolation=_flags(),
        threads=1,
    )


def _to_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    if frame.format.name.startswith("yuv"):
        frame = frame.reformat(
            format="rgb24",
            src_colorspace="ITU709",
            src_color_range="MPEG",
            dst_color_range="JPEG",
            interpolation=_flags(),
            threads=1,
        )
    else:
        frame = frame.reformat(format="rgb24", threads=1)
    return np.asarray(frame.to_ndarray(), np.uint8)


@contextmanager
def _quiet_svt() -> Iterator[None]:
    """SVT-AV1 writes a page to stderr for every clip and listens to nothing but this variable: errors only."""
    name = "SVT_LOG"
    value = os.environ.get(name)
    if value is None:
        os.environ[name] = "1"
    try:
        yield
    finally:
        if value is None:
            os.environ.pop(name, None)


# ---- the families


def _container(settings: Mapping[str, OptionValue]) -> str:
    return str(settings["container"])


def _subsampled(settings: Mapping[str, OptionValue]) -> bool:
    return str(settings["chroma"]) == "420"


def _make_x264(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    encoder = _Encoder(
        "libx264",
        "h264",
        "yuv420p" if _subsampled(settings) else "yuv444p",
        {"crf": str(settings["crf"]), "preset": str(settings["preset"]), **_reproducible_x264()},
        multiple=2 if _subsampled(settings) else 1,
        drop="filter_units=remove_types=6",  # SEI; without HRD or open GOPs it is x264's message only
    )
    return _VideoPeer(encoder, _container(settings), threads)


def _reproducible_x264() -> dict[str, str]:
    """Options that hold x264 to AVX2, only where AVX-512 is there: it takes the name at its word, and would crash on a
    machine without AVX2."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    return {"x264-params": "asm=avx2"} if "avx512f" in flags else {}


def _make_x265(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    pools = "none" if threads == 1 else str(threads)
    frame_threads = 1 if threads == 1 else min(threads, 4)
    parameters = f"log-level=none:info=0:pools={pools}:frame-threads={frame_threads}"
    encoder = _Encoder(
        "libx265",
        "hevc",
        "yuv420p" if _subsampled(settings) else "yuv444p",
        {"crf": str(settings["crf"]), "preset": str(settings["preset"]), "x265-params": parameters},
        smallest=64,
        multiple=2 if _subsampled(settings) else 1,
    )
    return _VideoPeer(encoder, _container(settings), threads)


# FFmpeg's name, the fastest speed, and the options for a crf, a speed and a number of threads
_AV1: Mapping[str, tuple[str, int, Callable[[str, str, int], dict[str, str]]]] = {
    "svt": (
        "libsvtav1",
        13,
        lambda crf, speed, threads: {"crf": crf, "preset": speed, "svtav1-params": f"lp={threads}"},
    ),
    "aom": ("libaom-av1", 8, lambda crf, speed, threads: {"crf": crf, "b": "0", "cpu-used": speed, "row-mt": "1"}),
}


def _make_av1(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    name, speed = str(settings["encoder"]), int(settings["preset"])
    codec, fastest, options = _AV1[name]
    available = _available()
    if codec not in available:
        built = [key for key, (known, _, _) in _AV1.items() if known in available]
        raise UsageError(f"this build of PyAV has no {codec}; expected encoder={' or '.join(built) or 'none'}")
    if speed > fastest:
        raise UsageError(f"av1 preset {speed}; expected 0 to {fastest} with encoder={name}")
    encoder = _Encoder(
        codec, "av1", "yuv420p", options(str(settings["crf"]), str(speed), threads), smallest=16, multiple=2
    )
    return _VideoPeer(encoder, _container(settings), threads)


def _make_ffv1(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    options = {
        "level": "3",
        "coder": "range_tab",
        "context": str(settings["context"]),
        "g": str(settings["gop"]),
        "slicecrc": "0",
    }
    return _VideoPeer(_Encoder("ffv1", "ffv1", "bgr0", options, reorders=False), "mkv", threads)


def _available() -> set[str]:
    return set(import_module("av").codecs_available)


def _missing(*codecs: str) -> Callable[[], str | None]:
    """Why none of the encoders is there."""

    def missing() -> str | None:
        if util.find_spec("av") is None:
            return "av isn't installed: pip install 'codec-suite[eval]'"
        try:
            known = _available()
        except (ImportError, OSError) as error:
            return f"PyAV can't be loaded ({error}): pip install --force-reinstall av"
        if known.isdisjoint(codecs):
            return f"this build of PyAV has no {' or '.join(codecs)}: pip install av, the wheel has it"
        return None

    return missing


def _versions(*codecs: str) -> Callable[[], Mapping[str, str]]:
    def versions() -> Mapping[str, str]:
        import av

        known = _available()
        versions_known = {"av": metadata.version("av"), "ffmpeg": str(getattr(av, "ffmpeg_version_info", ""))}
        if len(codecs) > 1:
            versions_known["encoders"] = ", ".join(codec for codec in codecs if codec in known)
        return versions_known

    return versions


_CONTAINER = Option("mp4", "the file: Matroska costs a few hundred bytes less", choices=("mp4", "mkv"))
_CHROMA = Option("420", "chroma subsampling", choices=("420", "444"))
_AV1_CODECS = tuple(codec for codec, _, _ in _AV1.values())

FAMILIES: tuple[Family, ...] = (
    Family(
        name="x264",
        medium="video",
        about="H.264 by x264; 8 bits, BT.709; odd sizes are padded for 4:2:0",
        options={
            "crf": Option(23, "quality: 0 best (lossless in YUV), 51 smallest", 0, 51),
            "preset": Option("medium", "effort", choices=_PRESETS),
            "chroma": _CHROMA,
            "container": _CONTAINER,
        },
        make=_make_x264,
        axis="crf",
        sweep=(15, 19, 23, 27, 31, 35, 39),
        missing=_missing("libx264"),
        versions=_versions("libx264"),
    ),
    Family(
        name="x265",
        medium="video",
        about="H.265 by x265; 8 bits, BT.709; odd sizes (4:2:0) and those below 64 are padded",
        options={
            "crf": Option(28, "quality: 0 best, 51 smallest", 0, 51),
            "preset": Option("medium", "effort", choices=_PRESETS),
            "chroma": _CHROMA,
            "container": _CONTAINER,
        },
        make=_make_x265,
        axis="crf",
        sweep=(16, 20, 24, 28, 32, 36, 40),
        missing=_missing("libx265"),
        versions=_versions("libx265"),
    ),
    Family(
        name="av1",
        medium="video",
        about="AV1 by SVT-AV1 or libaom, whichever PyAV has; 8 bits 4:2:0, BT.709; odd and tiny sizes are padded",
        options={
            "crf": Option(35, "quality: 1 best, 63 smallest", 1, 63),
            "preset": Option(6, "speed: 0 slow and best; 13 is SVT-AV1's fastest, 8 libaom's", 0, 13),
            "encoder": Option("svt", "SVT-AV1 or libaom", choices=("svt", "aom")),
            "container": _CONTAINER,
        },
        make=_make_av1,
        axis="crf",
        sweep=(20, 27, 34, 41, 48, 55, 62),
        missing=_missing(*_AV1_CODECS),
        versions=_versions(*_AV1_CODECS),
    ),
    Family(
        name="ffv1",
        medium="video",
        about="FFV1 version 3, lossless RGB, Matroska",
        options={
            "context": Option(1, "model: 0 small, 1 large", 0, 1),
            "gop": Option(300, "frames after which the model starts anew; 1: every frame on its own", 1, 300),
        },
        make=_make_ffv1,
        lossless=True,
        missing=_missing("ffv1"),
        versions=_versions("ffv1"),
    ),
)
