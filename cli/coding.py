"""What `encode`, `decode`, `verify` and `info` share: the options that go to workers, loaded codecs, what files are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import registry
from ..errors import CodecError, MediaError

if TYPE_CHECKING:
    from ..codecs.base.codec import Codec
    from ..codecs.base.video.codec import VideoCodec
    from ..container import Header
    from ..media.values import Picture

VIDEO_WRITES = (".mkv", ".mp4", ".mov", ".webm", ".y4m", ".png")  # .png: a folder of them
VIDEO_READS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".y4m")  # as video.SUFFIXES, without importing NumPy
HEAD_BYTES = (1 << 24) + (1 << 17)  # enough of a file for its header and metadata


class VideoOptions(NamedTuple):
    """changes: of `EncodeSettings`. frames: "start:stop". sound: written, if there is any. bar: draw how far it is, on
    a terminal."""

    changes: tuple[tuple[str, Any], ...] = ()
    frames: str | None = None
    conceal: bool = False
    encoder: str | None = None
    sound: bool = True
    bar: bool = False


class Options(NamedTuple):
    """What a worker needs to know; goes to other processes."""

    codec: str | None = None
    quality: float | None = None
    weights: str | None = None
    device: str = "cpu"
    format: str = ""
    coder: str | None = None
    goal: tuple[str, float] | None = None  # "size", "bpp" or "psnr", and its value
    bound: tuple[str, float] | None = None  # "max_error" or "rel_error", and its value
    datasets: tuple[str, ...] = ()
    snapshot: int | None = None
    at: float | None = None
    video: VideoOptions = VideoOptions()
    effort: float = 0.0  # of pictures; that of a video is in `video`


# ---- loaded codecs

_ready: dict[tuple[object, ...], Codec] = {}  # loaded once in each process


def encoder(options: Options, name: str | None = None) -> Codec:
    name = name or codec_name(options)
    key = ("encode", name, options)
    if key not in _ready:
        from ..codecs.base.codec import Codec

        codec = Codec.load(name, quality=options.quality, weights=options.weights, device=options.device)
        codec = codec if options.coder is None else codec.with_coder(options.coder)
        _ready[key] = codec.with_effort(options.effort) if options.effort else codec
    return _ready[key]


def decoder(options: Options, data: bytes) -> Codec:
    from ..codecs.base.codec import codec_for
    from ..container import read_header

    header = read_header(data)
    key = ("decode", header.codec, header.stream, header.weights, options)
    if key not in _ready:
        _ready[key] = codec_for(header, weights=options.weights, device=options.device)
    return _ready[key]


def check_device(options: Options) -> None:
    if options.device != "cpu":
        from ..codecs.base.codec import check_device

        check_device(options.device)


def codec_name(options: Options, source: str = "") -> str:
    """The codec that is named, or the one of the input's medium, as its name tells it."""
    if options.codec:
        return options.codec
    from ..media.hdf5 import SUFFIXES

    medium = "field" if Path(source).suffix.lower() in SUFFIXES and "field" in registry.DEFAULT else "image"
    return registry.DEFAULT[medium]


def is_for_fields(name: str) -> bool:
    plain, _ = registry.split_tag(name)
    if registry.entry(plain).medium != "field":
        return False
    from ..codecs.base.field import FieldCodec

    return issubclass(registry.load_class(plain), FieldCodec)


def video_codec(codec: Codec) -> VideoCodec:
    from ..codecs.base.video.codec import VideoCodec

    assert isinstance(codec, VideoCodec), "the codec of a video is a VideoCodec"
    return codec


def decode_picture(options: Options, data: bytes) -> Picture:
    from ..codecs.base.image import ImageCodec

    codec = decoder(options, data)
    if not isinstance(codec, ImageCodec):
        raise MediaError(f"holds {codec.medium}, which this command can't write yet: use codec.decode in Python")
    return codec.decode_picture(data)


# ---- files


def is_ours(path: Path) -> bool:
    """By signature: a suffix is decoration."""
    from ..container import SIGNATURE

    try:
        with open(path, "rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def video_header_of(path: Path) -> Header | None:
    """The header of a file of ours that holds a video; otherwise None."""
    from ..container import read_header

    try:
        with open(path, "rb") as file:
            header = read_header(file.read(HEAD_BYTES))
    except (OSError, CodecError):
        return None  # whoever decodes it says what is wrong
    return header if header.medium == "video" else None


def with_suffix(path: Path, known: Sequence[str], suffix: str) -> Path:
    """photo.png -> photo.s2lic, but photo.v2 -> photo.v2.walloc: only a suffix that says a format is replaced."""
    return path.with_suffix(suffix) if path.suffix.lower() in known else path.with_name(path.name + suffix)
