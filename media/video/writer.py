"""Writing video: files by FFmpeg (PyAV), Y4M, folders of PNGs. Whole or not at all.

.mkv is FFV1, which is lossless; .mp4 and .mov are H.264 by x264, .webm VP9, both so good that no difference is seen.
`encoder` names another one, with options: "libx264:crf=18,preset=slow". Matroska and WebM count in milliseconds, MP4
and MOV in the video's own time base.

What isn't stored as it is: rgb24 becomes 4:2:0 in MP4, MOV and WebM, and 4:4:4 in Y4M; gray becomes 4:2:0 without
colour in those three; yuv420p becomes RGB in PNGs. All by the conversion of `values`. Y4M and PNGs have no times
and no sound.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ...errors import CodecError, MediaError, UsageError
from ...files import STDIO, whole, whole_folder
from .. import VIDEO_WRITES
from ..ffmpeg import errors, open_input, ratio
from ..image import write_picture
from ..notes import Note
from ..values import Picture
from . import y4m
from .matroska import set_aspect
from .sound import AudioFeed, lost_of
from .soundfeed import SoundFeed
from .tracks import plain_tags
from .values import FULL, LIMITED, Frame, Pixels, Planes, VideoInfo, plane_shapes, to_rgb, to_yuv420, to_yuv444

if TYPE_CHECKING:
    from av import VideoFrame
    from av.packet import Packet

    from .soundtracks import SoundTrack

__all__ = ["ENCODERS", "VideoTarget", "VideoWriter", "parse_encoder"]

VideoTarget = str | os.PathLike[str] | BinaryIO

_MUXERS = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov", ".webm": "webm"}
_DEFAULTS = {".mkv": "ffv1", ".mp4": "libx264:crf=12", ".mov": "libx264:crf=12", ".webm": "libvpx-vp9:crf=12"}
_ODD = "libvpx-vp9:crf=12"  # for MP4 of a size that x264 can't code as 4:2:0
X26_PRESETS = [
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
]
_NUMBERS = {"primaries": "color_primaries", "transfer": "color_trc", "matrix": "colorspace", "range": "color_range"}


@dataclass(frozen=True)
class _Encoder:
    """An encoder of FFmpeg that can be asked for.

    options: allowed values, a list of words or (lowest, highest, whether whole). suffixes: of files that it goes into.
    fixed: options that are always set. pixels: FFmpeg's names for what frames are given as. smallest, even: what sides
    must be. fewest: frames. drop: a bitstream filter for its packets.
    """

    options: Mapping[str, list[str] | tuple[float, float, bool]]
    suffixes: tuple[str, ...]
    fixed: Mapping[str, str]
    pixels: Mapping[Pixels, str]
    smallest: int = 1
    even: bool = False
    fewest: int = 1
    drop: str = ""


_SUBSAMPLED: Mapping[Pixels, str] = {"yuv420p": "yuv420p", "rgb24": "yuv420p", "gray": "yuv420p"}
_GOP = (1, 10_000, True)

ENCODERS: Mapping[str, _Encoder] = {
    "ffv1": _Encoder(
        {"context": (0, 1, True), "g": _GOP, "slices": ["4", "6", "9", "12", "16", "24", "30"]},
        (".mkv",),
        {"level": "3", "slicecrc": "1"},
        {"yuv420p": "yuv420p", "rgb24": "bgr0", "gray": "gray"},
    ),
    "libx264": _Encoder(
        {
            "crf": (0, 51, False),
            "qp": (0, 51, True),
            "preset": X26_PRESETS,
            "tune": ["film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency"],
            "profile": ["baseline", "main", "high"],
            "g": _GOP,
        },
        (".mkv", ".mp4", ".mov"),
        {},
        _SUBSAMPLED,
        smallest=2,
        even=True,
        drop="filter_units=remove_types=6",  # SEI: x264's message about itself
    ),
    "libx265": _Encoder(
        {
            "crf": (0, 51, False),
            "preset": X26_PRESETS,
            "tune": ["psnr", "ssim", "grain", "fastdecode", "zerolatency", "animation"],
            "g": _GOP,
        },
        (".mkv", ".mp4", ".mov"),
        {"x265-params": "log-level=none:info=0"},
        _SUBSAMPLED,
        smallest=66,  # it corrupted memory at 34x18, and gives other bytes every time at a width of 64
        even=True,
        fewest=3,  # with B-frames, it makes up the times of fewer
    ),
    "libsvtav1": _Encoder(
        {"crf": (1, 63, True), "preset": (0, 13, True), "g": _GOP},
        (".mkv", ".mp4", ".webm"),
        {},
        _SUBSAMPLED,
        smallest=16,
        even=True,
    ),
    "libvpx-vp9": _Encoder(
        {
            "crf": (0, 63, True),
            "lossless": (0, 1, True),
            "cpu-used": (0, 8, True),
            "deadline": ["best", "good", "realtime"],
            "g": _GOP,
        },
        (".mkv", ".mp4", ".webm"),
        {"b": "0", "row-mt": "1"},
        _SUBSAMPLED,
    ),
}
_QUALITY = {"libvpx-vp9": {"cpu-used": "4"}}  # unless given


def parse_encoder(text: str) -> tuple[str, dict[str, str]]:
    """The name and the options in "libx264:crf=18,preset=slow". UsageError for names and values that aren't known."""
    name, colon, rest = text.partition(":")
    if name not in ENCODERS:
        raise UsageError(f"no encoder {name!r}; expected one of {', '.join(ENCODERS)}")
    known, options = ENCODERS[name].options, {}
    for part in rest.split(",") if colon else []:
        key, equals, value = part.partition("=")
        if key not in known or not equals or key in options:
            what = f"{key} twice" if key in options else f"option {part!r}"
            raise UsageError(f"{name}: {what}; expected KEY=VALUE with {', '.join(known)}: {name}:crf=18,preset=slow")
        options[key] = _checked(name, key, value, known[key])
    if "crf" in options and ("qp" in options or options.get("lossless") == "1"):
        raise UsageError(f"{name}: crf together with {'qp' if 'qp' in options else 'lossless'}; expected one of them")
    return name, options


def _checked(name: str, key: str, value: str, allowed: list[str] | tuple[float, float, bool]) -> str:
    if isinstance(allowed, list):
        if value not in allowed:
            raise UsageError(f"{name}: {key}={value}; expected one of {', '.join(allowed)}")
        return value
    low, high, whole = allowed
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"{name}: {key}={value}; expected {kind} from {low:g} to {high:g}")
    return value.strip()


class VideoWriter:
    """A writer of frames to a file, a folder of PNGs, or, as Y4M, to a stream ("-": stdout).

    target: its suffix says what is written; without one, a folder of PNGs. audio: of VideoReader.audio(). encoder: see
    the module. force: replace a file that exists; a folder is never replaced unless it is empty. sounds: tracks of
    samples, which are written without loss.

    A context manager. Files and folders are written under a temporary name beside their own and appear once the block
    ends without an exception; otherwise nothing is left. Raises MediaError, UsageError for the call itself.

    notes: what isn't stored as it is; complete once the video is closed.
    """

    def __init__(
        self,
        target: VideoTarget,
        info: VideoInfo,
        audio: bytes | None = None,
        encoder: str | None = None,
        force: bool = False,
        sounds: Sequence[SoundTrack] = (),
    ) -> None:
        self.info = info
        self.n_frames = 0
        self._pts = -1
        self._shapes = plane_shapes(info)
        self._place: _Place | None = None
        self._closed = False
        suffix = Path(target).suffix.lower() if isinstance(target, (str, os.PathLike)) and target != STDIO else ".y4m"
        if suffix and suffix not in VIDEO_WRITES:
            raise UsageError(
                f"{target}: unknown suffix {suffix!r}; expected {', '.join(VIDEO_WRITES)}, or a folder's name"
            )
        if suffix not in _MUXERS:
            what = "Y4M" if suffix else "a folder of PNGs"
            if encoder is not None:
                raise UsageError(f"{what} has no encoder {encoder!r}: name a file of {', '.join(_MUXERS)}")
            if audio is not None or sounds:
                raise MediaError(f"{what} can't hold sound: write .mkv, or leave the sound out")
        settings = _encoder_for(suffix, encoder, info) if suffix in _MUXERS else None
        self.notes: list[Note] = _changes(suffix, info, settings[0] if settings else None)
        if not isinstance(target, (str, os.PathLike)) or target == STDIO:
            stream = sys.stdout.buffer if isinstance(target, (str, os.PathLike)) else target
            self._sink: _Sink = _Y4mSink(stream, info, close=False)
            return
        self._place = _Place(Path(target), folder=not suffix, force=force)
        with self._place.about():
            if settings is not None:
                self._sink = _FileSink(self._place.temporary, suffix, info, (audio, sounds), *settings)
            elif suffix:
                self._sink = _Y4mSink(self._place.temporary.open("xb"), info, close=True)
            else:
                self._sink = _PngSink(self._place.temporary, info)

    def write(self, frame: Frame) -> None:
        if self._closed:
            raise UsageError("a frame after the end: the video is closed")
        shapes = tuple(plane.shape for plane in frame.planes)
        if shapes != self._shapes or any(plane.dtype != np.uint8 for plane in frame.planes):
            raise MediaError(f"a frame of planes {shapes}; expected uint8 {self._shapes}, {self.info.pixels}")
        if frame.pts <= self._pts or frame.duration < 0:
            raise MediaError(f"a frame at {frame.pts} for {frame.duration}, behind one at {self._pts}; times must rise")
        self._pts = frame.pts
        with self._about():
            self._sink.write(frame)
        self.n_frames += 1

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._closed:
            return
        try:
            if not self.n_frames:
                raise MediaError("no frames were written; expected at least one")
            with self._about():
                self._sink.finish()
                self.notes += self._sink.notes()
            if self._place is not None:
                self._place.publish()
        finally:
            self.abort()

    def abort(self) -> None:
        """Leave nothing behind."""
        self._closed = True
        with contextlib.suppress(Exception):
            self._sink.drop()
        if self._place is not None:
            self._place.remove()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    @contextlib.contextmanager
    def _about(self) -> Iterator[None]:
        if self._place is None:
            yield
            return
        with self._place.about():
            yield


class _Place:
    """A file or folder that is being written under a temporary name, by `files.whole` or `whole_folder`."""

    def __init__(self, target: Path, folder: bool, force: bool) -> None:
        self.name, self._folder, self._force = str(target), folder, force
        self._target = Path(os.path.realpath(target))  # through a link, not over it
        self._refuse()
        self._writing = whole_folder(target) if folder else whole(target, replace=force, path_only=True)
        self._is_open = False
        with self.about():
            self.temporary = self._writing.__enter__()
            self._is_open = True

    def _refuse(self) -> None:
        if not os.path.lexists(self._target):
            return
        if self._target.is_dir():
            if not self._folder or any(self._target.iterdir()):
                raise UsageError(f"{self.name}: a folder that exists already; it is never replaced: name another one")
        elif self._folder or not self._target.is_file():
            raise UsageError(f"{self.name}: exists already, and isn't a file that can be replaced: name another one")
        elif not self._force:
            raise UsageError(f"{self.name}: exists already: --force replaces it")

    def publish(self) -> None:
        """Give what was written its name."""
        with self.about():
            self._refuse()  # it may have appeared since
            if self._folder and self._target.is_dir():
                self._target.rmdir()
            self._is_open = False
            self._writing.__exit__(None, None, None)

    def remove(self) -> None:
        """Leave nothing of what was written, unless it has its name."""
        if self._is_open:
            self._is_open = False
            self._writing.__exit__(_Abandoned, _Abandoned(), None)

    @contextlib.contextmanager
    def about(self) -> Iterator[None]:
        """Makes errors name the file, and MediaError of those of FFmpeg; the temporary file is removed."""
        try:
            yield
        except BaseException as error:
            self.remove()
            if isinstance(error, CodecError) and not isinstance(error, OSError):
                text = str(error)
                raise type(error)(text if text.startswith(f"{self.name}: ") else f"{self.name}: {text}") from error
            if isinstance(error, OSError):
                raise MediaError(f"{self.name}: can't be written ({error.strerror or error})") from error
            if isinstance(error, (*errors(), ValueError)):
                raise MediaError(f"{self.name}: can't be written ({error})") from error
            raise


class _Abandoned(Exception):
    """Ends the writing of something that isn't to appear."""


# ---- what is written


class _Sink(ABC):
    @abstractmethod
    def write(self, frame: Frame) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    def notes(self) -> list[Note]:
        """Notes on what the finished output doesn't hold."""
        return []

    @abstractmethod
    def drop(self) -> None:
        """Close what is open; called in any case, at the end."""


class _Y4mSink(_Sink):
    """A Y4M, of frames at the constant rate that it names, give or take half a frame: it has no times."""

    def __init__(self, stream: BinaryIO, info: VideoInfo, close: bool) -> None:
        self._stream, self._info, self._close = stream, info, close
        self._rate: Fraction | None = None
        self._count = 0

    def write(self, frame: Frame) -> None:
        info = self._info
        if self._rate is None:
            self._rate = info.frame_rate or 1 / (info.time_base * max(1, frame.duration))
            # What header_of names for rgb24 is limited range.
            self._stream.write(y4m.header_of(info, self._rate))
        if abs(frame.pts * info.time_base * self._rate - self._count) > Fraction(1, 2):
            raise MediaError(
                f"frame {self._count} is at {float(frame.pts * info.time_base):.3f} s, not one of constant "
                f"{float(self._rate):g} frames a second, and Y4M has no times: write .mkv or .mp4"
            )
        planes = frame.planes if info.pixels != "rgb24" else to_yuv444(frame.planes[0], _limited(info))
        self._stream.write(y4m.frame_bytes(planes))
        self._count += 1

    def finish(self) -> None:
        self._stream.flush()

    def drop(self) -> None:
        if self._close:
            self._stream.close()


class _PngSink(_Sink):
    def __init__(self, folder: Path, info: VideoInfo) -> None:
        self._folder, self._info, self._count = folder, info, 0

    def write(self, frame: Frame) -> None:
        self._count += 1
        pixels = frame.planes[0][:, :, None] if self._info.pixels == "gray" else to_rgb(frame, self._info)
        write_picture(Picture(pixels), self._folder / f"{self._count:06d}.png")

    def finish(self) -> None:
        return

    def drop(self) -> None:
        return


class _FileSink(_Sink):
    """A file by FFmpeg. Its header is written before the first frame, so that what it can't hold is known at once."""

    def __init__(
        self,
        path: Path,
        suffix: str,
        info: VideoInfo,
        beside: tuple[bytes | None, Sequence[SoundTrack]],
        name: str,
        options: Mapping[str, str],
    ) -> None:
        import av
        from av.container.core import Flags

        if name not in av.codecs_available:
            raise MediaError(f"this build of PyAV has no {name}: pip install av, the wheel has it")
        self._info, self._name, self._encoder, self._count = info, name, ENCODERS[name], 0
        self._pixels = self._encoder.pixels[info.pixels]
        self._durations: dict[int, int] = {}
        self._dropping: Any = None
        self._feed: AudioFeed | None = None
        self._sounds: list[SoundFeed] = []
        audio, sounds = beside
        self._quiet = _quiet_svt if name == "libsvtav1" else contextlib.nullcontext
        # The index in front lets a browser start before it has all. FFmpeg takes a colon in a name for a protocol.
        settings = {"movflags": "+faststart"} if suffix in (".mp4", ".mov") else {}
        if suffix == ".mkv":
            settings["avoid_negative_ts"] = "disabled"
        if settings and sounds:
            settings["movie_timescale"] = str(sounds[0].info.rate)  # else a delay is rounded to milliseconds
        # MP4 has no times before 0, and would cut off what sounds there: all of it is moved, and the picture is late.
        is_moved = suffix in (".mp4", ".mov") and (audio is not None or len(sounds) > 0)
        self._later = math.ceil(info.early / info.time_base) if is_moved else 0
        self._path, self._suffix = path, suffix
        self._output = av.open(f"file:{path}", "w", format=_MUXERS[suffix], container_options=settings)
        try:
            self._output.flags |= Flags.bitexact.value  # no tags with FFmpeg's version or the date
            self._stream = self._add_stream(name, options)
            later = self._later * info.time_base
            self._sounds = [SoundFeed(track, self._output, suffix, later) for track in sounds]
            if audio is not None:
                self._feed = AudioFeed(audio, self._output, suffix, later)
            self._add_texts()
            with self._quiet():
                self._output.start_encoding()
        except BaseException:
            self.drop()
            raise

    def _add_stream(self, name: str, options: Mapping[str, str]) -> Any:
        info, encoder = self._info, self._encoder
        rate = info.frame_rate or 1 / info.time_base
        if rate > 1_000_000 or max(rate.numerator, rate.denominator) >= 1 << 31:
            rate = Fraction(25)
        given = {**encoder.fixed, **options}
        if "chroma" in info.color and self._pixels == info.pixels == "yuv420p":
            given["chroma_sample_location"] = str(info.color["chroma"])
        stream: Any = self._output.add_stream(name, rate=rate, options=given)
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = info.width, info.height, self._pixels
        context.time_base = info.time_base
        context.thread_type = "SLICE" if name == "ffv1" else "FRAME"  # slices make larger files of x264
        if info.sample_aspect is not None:
            context.sample_aspect_ratio = info.sample_aspect
        for key, value in _color_of(info, self._pixels).items():
            if key in _NUMBERS:
                setattr(context, _NUMBERS[key], value)
        return stream

    def _add_texts(self) -> None:
        """Tags and chapters, which a container has to be given before its header is written."""
        info = self._info
        self._output.metadata.update(info.tags)
        self._stream.metadata.update({key: value for key, value in info.track.items() if key != "disposition"})
        self._stream.disposition = _disposition(info)
        if info.chapters:
            later = self._later * info.time_base
            self._output.set_chapters(
                [
                    {
                        "id": number + 1,
                        "start": round((chapter.start + later) * 1000),
                        "end": round((chapter.end + later) * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": chapter.title} if chapter.title else {},
                    }
                    for number, chapter in enumerate(info.chapters)
                ]
            )

    def notes(self) -> list[Note]:
        notes = list(self._feed.notes) if self._feed is not None else []
        notes += [note for feed in self._sounds for note in feed.notes]
        with open_input(f"file:{self._path}", _MUXERS[self._suffix]) as written:
            video = written.streams.video[0]
            aspect = ratio(video.sample_aspect_ratio) or Fraction(1)
            kept, track = _texts(plain_tags(written.metadata)), _texts(plain_tags(video.metadata))
            n_chapters = len(written.chapters())
            unsaid = [name for feed in self._sounds for name in feed.lost(written)]
            unsaid += self._feed.lost(written, len(self._sounds)) if self._feed is not None else []
            notes += lost_of(unsaid)
        if self._info.sample_aspect is not None and aspect != self._info.sample_aspect:
            notes.append(_square(self._info.sample_aspect))
        lost = sorted(_texts(self._info.tags).items() - kept.items())
        wanted = {key: value for key, value in self._info.track.items() if key != "disposition"}
        lost += sorted(_texts(wanted).items() - track.items() - kept.items())
        if lost:
            notes.append(
                Note("tags", f"{_listed([name for name, _ in lost])} left out" + _KEEPS[self._suffix == ".mkv"])
            )
        if n_chapters < len(self._info.chapters):
            words = f"{len(self._info.chapters) - n_chapters} chapters are left out"
            notes.append(Note("chapters", words + _KEEPS[self._suffix == ".mkv"]))
        return notes

    def write(self, frame: Frame) -> None:
        picture = _picture(frame, self._info, self._pixels)
        pts = frame.pts + self._later
        picture.pts, picture.time_base = pts, self._info.time_base
        self._durations[pts] = frame.duration
        self._count += 1
        with self._quiet():
            self._mux(self._stream.encode(picture))

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            if packet.pts is not None and (duration := self._durations.pop(packet.pts, None)):
                packet.duration = duration
            if packet.dts is not None:
                self._feed_upto(packet.dts * packet.time_base)
            if self._encoder.drop and self._dropping is None:  # only now the stream has its headers
                from av.bitstream import BitStreamFilterContext

                self._dropping = BitStreamFilterContext(self._encoder.drop, self._stream)
            self._output.mux(self._dropping.filter(packet) if self._dropping else packet)

    def _feed_upto(self, seconds: Fraction | None) -> None:
        for feed in (*self._sounds, *([self._feed] if self._feed is not None else [])):
            feed.upto(seconds)

    def finish(self) -> None:
        if self._count < self._encoder.fewest:
            raise MediaError(f"{self._name} can't code fewer than {self._encoder.fewest} frames: use libx264")
        with self._quiet():
            self._mux(self._stream.encode(None))
        if self._dropping:
            self._output.mux(self._dropping.filter(None))
        self._feed_upto(None)
        self._output.close()
        info = self._info
        if info.sample_aspect is not None and self._suffix in (".mkv", ".webm") and self._name != "libx264":
            set_aspect(self._path, info.width, info.height, info.sample_aspect)

    def drop(self) -> None:
        if self._feed is not None:
            self._feed.close()
        self._output.close()


def _encoder_for(suffix: str, encoder: str | None, info: VideoInfo) -> tuple[str, dict[str, str]]:
    """The name and the options of the encoder of a video; UsageError for what doesn't go together."""
    odd = bool(info.width % 2 or info.height % 2)
    default = _ODD if odd and suffix == ".mp4" else _DEFAULTS[suffix]
    name, options = parse_encoder(default if encoder is None else encoder)
    known = ENCODERS[name]
    if suffix not in known.suffixes:
        fitting = [other for other, about in ENCODERS.items() if suffix in about.suffixes]
        raise UsageError(f"{name} isn't written to {suffix}; expected {', '.join(known.suffixes)}, or {fitting[0]}")
    if min(info.width, info.height) < known.smallest or (odd and known.even):
        what = f"even sides from {known.smallest} on" if known.even else f"sides from {known.smallest} on"
        raise UsageError(
            f"{name} can't code {info.width}x{info.height}, it takes {what}: "
            "write .mkv with ffv1, or .mp4 or .webm with libvpx-vp9"
        )
    if name == "ffv1" and min(info.width, info.height) < 8 and "slices" not in options:
        options |= {"level": "1", "slicecrc": "0"}  # version 3 wants slices, for which some such frames are too narrow
    return name, {**_QUALITY.get(name, {}), **options}


_KEEPS = (": .mkv keeps them", "")
_PLACES = {1: "left", 2: "centre", 3: "top left", 4: "top", 5: "bottom left", 6: "bottom"}


def _square(aspect: Fraction) -> Note:
    over, under = aspect.as_integer_ratio()
    words = f"pixels of {over}:{under} are stored as square ones: "
    return Note("layout", words + ".mkv, .mp4 and .y4m keep their shape")


def _disposition(info: VideoInfo) -> int:
    """The flags of the picture's track: it is the default, and what its tags say."""
    given = info.track.get("disposition", "0")
    return 1 | (int(given) if given.isdecimal() and len(given) < 9 else 0)


def _texts(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as they can be compared: containers write names in capitals, and times in more digits or fewer."""
    return {key.lower(): value[:19] if key.lower() == "creation_time" else value for key, value in tags.items()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"tag{'s' * (len(names) > 1)} {shown} {'are' if len(names) > 1 else 'is'}"


def _changes(suffix: str, info: VideoInfo, encoder: str | None) -> list[Note]:
    """Notes on what an output of this suffix doesn't hold, as far as it is known before it is written."""
    notes = []
    become = ENCODERS[encoder].pixels[info.pixels] if encoder else {".y4m": "yuv444p"}.get(suffix, "rgb24")
    if info.pixels == "rgb24" and become.startswith("yuv"):
        form = "4:4" if become == "yuv444p" else "2:0"
        notes.append(Note("chroma", f"RGB is stored as YUV 4:{form}: .mkv and PNGs keep it"))
    if info.pixels == "yuv420p" and not suffix:
        notes.append(Note("chroma", "YUV 4:2:0 is stored as RGB: .mkv and .y4m keep it"))
    if info.pixels == "gray" and become == "yuv420p":
        notes.append(Note("chroma", "grey is stored as YUV 4:2:0 without colour: .mkv, .y4m and PNGs keep it"))
    if info.sample_aspect is not None and not suffix:
        notes.append(_square(info.sample_aspect))
    if encoder is None:  # Y4M, PNGs
        if info.tags or info.track:
            notes.append(Note("tags", "title and other tags are left out: .mkv keeps them"))
        if info.chapters:
            notes.append(Note("chapters", f"{len(info.chapters)} chapters are left out: .mkv keeps them"))
        left = {key for key in info.color if key in ("matrix", "primaries", "transfer")}
        if left and suffix:
            notes.append(Note("colour", "Y4M doesn't name matrix, primaries or transfer: .mkv does"))
    place = info.color.get("chroma", 0)
    if suffix == ".y4m" and info.pixels == "yuv420p" and place > 3:
        notes.append(Note("chroma", f"chroma samples at the {_PLACES.get(place, place)} are said to be at the centre"))
    return notes


def _limited(info: VideoInfo) -> VideoInfo:
    """The description of what RGB is turned to: limited range, which every player expects."""
    return VideoInfo(
        info.width,
        info.height,
        info.pixels,
        info.time_base,
        color={**info.color, "range": LIMITED, "matrix": info.matrix},
    )


def _color_of(info: VideoInfo, pixels: str) -> Mapping[str, int]:
    """The colours that the stream says it has, by FFmpeg's numbers."""
    if pixels == "yuv420p" and info.pixels == "rgb24":
        return _limited(info).color
    if pixels == "yuv420p" and info.pixels == "gray":
        return {**info.color, "range": info.color.get("range", FULL)}
    return info.color


def _picture(frame: Frame, info: VideoInfo, pixels: str) -> VideoFrame:
    """The frame that FFmpeg's encoder is given."""
    import av

    planes: Planes = frame.planes
    if pixels == "yuv420p" and info.pixels == "rgb24":
        planes = to_yuv420(planes[0], _limited(info))
    elif pixels == "yuv420p" and info.pixels == "gray":
        neutral = np.full((-(-info.height // 2), -(-info.width // 2)), 128, np.uint8)
        planes = (planes[0], neutral, neutral)
    elif pixels == "bgr0":
        rgb = planes[0]
        planes = (np.concatenate([rgb[:, :, ::-1], np.zeros_like(rgb[:, :, :1])], axis=2).reshape(info.height, -1),)
    picture = av.VideoFrame(info.width, info.height, pixels)
    for plane, values in zip(picture.planes, planes, strict=True):
        padded = np.zeros((values.shape[0], plane.line_size), np.uint8)
        padded[:, : values.shape[1]] = values
        plane.update(padded.tobytes()[: plane.buffer_size].ljust(plane.buffer_size, b"\0"))
    color = _color_of(info, pixels)
    picture.color_range = color.get("range", 0)
    picture.colorspace = color.get("matrix", 2)
    return picture


@contextlib.contextmanager
def _quiet_svt() -> Iterator[None]:
    """Keeps SVT-AV1 to errors: it writes a page to stderr for every clip and listens to nothing but this variable."""
    before = os.environ.get("SVT_LOG")
    if before is None:
        os.environ["SVT_LOG"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("SVT_LOG", None)
