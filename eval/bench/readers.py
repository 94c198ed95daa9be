"""Files as values to be measured: sound, video and arrays. Pictures are read by `media/image.py`.

Sound is read by the media layer, as our codecs read it, and video with PyAV (FFmpeg's libraries). Arrays are NumPy's
NPY, versions 1 and 2, and datasets of HDF5. Every reader has a cap on what it will hold in memory, checked before
memory is asked for where the file says how much it has, and while reading in any case. Whatever goes wrong is a
MediaError that names the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ...media import AUDIO_READS, VIDEO_READS, ffmpeg
from ...media.audio.reader import open_audio
from ...media.audio.values import AudioInfo, to_float
from ...media.ffmpeg import open_input, ratio
from ...media.notes import PARTIAL
from .contract import Audio, Medium, Video

if TYPE_CHECKING:
    import h5py
    from av.audio.frame import AudioFrame

__all__ = [
    "MAX_ARRAY_BYTES",
    "MAX_AUDIO_SAMPLES",
    "MAX_AUDIO_SECONDS",
    "MAX_VIDEO_PIXELS",
    "SUFFIXES",
    "Decoded",
    "array_names",
    "audio_samples",
    "frame_samples",
    "read_array",
    "read_audio",
    "read_video",
]

MAX_AUDIO_SECONDS = 30 * 60
MAX_AUDIO_SAMPLES = 1 << 29  # over all channels: 2 GiB as float32
MAX_VIDEO_PIXELS = 1 << 29  # frames * height * width: 1.5 GiB as RGB, twice that for a moment while frames are stacked
MAX_ARRAY_BYTES = 1 << 30
SUFFIXES: dict[Medium, tuple[str, ...]] = {
    "audio": AUDIO_READS,
    "video": (*VIDEO_READS, ".nut"),
    "array": (".npy", ".h5", ".hdf5"),
}

_INTEGER_BITS = {"u8": 8, "s16": 16, "s32": 32}  # FFmpeg's sample formats, without the p of planar ones
_DTYPES = tuple(np.dtype(code) for code in ("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"))
_TAKES_ARRAY = "float32, float64 or integers, 1 to 4 axes, not empty"

PathLike = str | os.PathLike[str]


@contextmanager
def _about(path: PathLike) -> Iterator[None]:
    """Turns what a library raises on `path` into a MediaError with the path in front; a mistake of ours stays one."""
    try:
        yield
    except MediaError as error:
        words = str(error)  # a reader of the media layer has named the file already
        raise MediaError(words if words.startswith(f"{path}: ") else f"{path}: {words}") from None
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise MediaError(f"{path}: can't be read ({error.strerror})") from error
    except (*ffmpeg.errors(), ValueError, RuntimeError, KeyError) as error:
        raise MediaError(f"{path}: can't be read, damaged? ({error})") from error


# ---- sound


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded sound track. samples: (C, N) float32. extradata: the codec's own header, as the container had it."""

    samples: NDArray[np.float32]
    rate: int
    extradata: bytes


def read_audio(path: PathLike) -> Audio:
    """The first sound track of a file, all channels, as our own codecs read it (media/audio/reader.py).

    Integer PCM of b bits is divided by 2**(b - 1); floats are kept, also beyond [-1, 1]. Delay and padding that the
    file declares (Opus pre-skip, the LAME tag, MP4 edit lists) are cut off. MediaError beyond MAX_AUDIO_SECONDS or
    MAX_AUDIO_SAMPLES, for what holds no sound, and for a file that is cut off or damaged: it isn't the sound that its
    name says.
    """
    with _about(path), open_audio(os.fspath(path)) as reader:
        info = reader.info
        _check_audio(info.n_samples or 0, info)
        parts: list[NDArray[np.float32]] = []
        n = 0
        for block in reader.blocks():
            n += len(block)
            _check_audio(n, info)
            parts.append(to_float(block, info.bits))
        if n == 0:
            raise MediaError("no samples in it")
        broken = [note.words for note in reader.notes if note.kind in PARTIAL]
        if broken:
            raise MediaError(f"{broken[0]}; only whole sound is measured")
        return Audio(np.ascontiguousarray(np.concatenate(parts).T), info.rate)


def _check_audio(n_samples: int, info: AudioInfo) -> None:
    """MediaError for more samples of a channel than the bench holds in memory."""
    _check_seconds(n_samples / info.rate)
    _check_samples(n_samples, info.channels)


def audio_samples(source: str | BinaryIO, format: str | None = None) -> Decoded:
    """Decodes the first sound track of what a peer wrote, by FFmpeg alone, from a path or a seekable stream.

    Of Vorbis, FFmpeg may return some hundred samples more or less at the end. format: FFmpeg's name of the container,
    None to guess. Raises MediaError, or PyAV's own errors on damage.
    """
    parts: list[NDArray[np.float32]] = []
    with open_input(source, format) as container:
        if not container.streams.audio:
            raise MediaError("no sound in it; expected a file with an audio track")
        stream = container.streams.audio[0]
        if stream.duration is not None and stream.time_base is not None:
            _check_seconds(float(stream.duration * stream.time_base))
        extradata = bytes(stream.codec_context.extradata or b"")
        rate = channels = n = 0
        for frame in container.decode(stream):
            part = frame_samples(frame)
            if not parts:
                rate, channels = frame.sample_rate, part.shape[0]
                if rate <= 0 or channels < 1:
                    raise MediaError(f"{channels} channels at {rate} Hz; expected at least one of each")
            if (part.shape[0], frame.sample_rate) != (channels, rate):
                raise MediaError(
                    f"changes from {channels} channels at {rate} Hz to {part.shape[0]} at {frame.sample_rate} Hz; "
                    "expected one format throughout: convert it"
                )
            n += part.shape[1]
            _check_seconds(n / rate)
            _check_samples(n, channels)
            parts.append(part)
        if n == 0:
            raise MediaError("no samples in it")
        samples = np.ascontiguousarray(np.concatenate(parts, axis=1))
        if "mp4" in container.format.name and stream.duration is not None and stream.time_base is not None:
            # FFmpeg cuts the priming at the start that an edit list names, but not the padding at the end.
            samples = np.ascontiguousarray(samples[:, : max(1, round(stream.duration * stream.time_base * rate))])
    return Decoded(samples, rate, extradata)


def frame_samples(frame: AudioFrame) -> NDArray[np.float32]:
    """The samples of one decoded frame, (C, n) float32."""
    name, array = frame.format.name, frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, len(frame.layout.channels)).T
    kind = name.removesuffix("p")
    if kind in _INTEGER_BITS:
        bits = _INTEGER_BITS[kind]
        scaled = array.astype(np.float64) - (128 if kind == "u8" else 0)
        return (scaled / (1 << (bits - 1))).astype(np.float32)
    if kind in ("flt", "dbl"):
        return np.array(array, np.float32, order="C")
    raise MediaError(f"samples of FFmpeg's kind {name!r}; expected 8, 16, 24 or 32-bit integers or floats")


def _check_seconds(seconds: float) -> None:
    if seconds > MAX_AUDIO_SECONDS:
        raise MediaError(f"longer than {MAX_AUDIO_SECONDS // 60} minutes ({seconds:.0f} s so far): cut it into parts")


def _check_samples(n_samples: int, channels: int) -> None:
    if n_samples * channels > MAX_AUDIO_SAMPLES:
        raise MediaError(f"more than {MAX_AUDIO_SAMPLES} samples in {channels} channels: cut it into parts")


# ---- video


def read_video(path: PathLike, max_frames: int | None = None) -> Video:
    """The first video track of a file as RGB, its first `max_frames` frames or all.

    swscale turns YUV into RGB with the matrix and range that the stream names. Where it names none, swscale takes
    BT.601 and limited range, whatever the size (players often guess BT.709 for HD). Chroma is interpolated bicubically,
    transfer curve and primaries are left as they are, more than 8 bits are rounded to 8. Rotation in the metadata is
    ignored: frames come as they were coded. fps is the average rate; frames of uneven duration are not resampled.

    MediaError if frames * height * width would pass MAX_VIDEO_PIXELS: give max_frames then.
    """
    if max_frames is not None and max_frames < 1:
        raise MediaError(f"{path}: max_frames is {max_frames}; expected at least 1")
    with _about(path):
        return _video(str(Path(path)), max_frames)


def _video(source: str, max_frames: int | None) -> Video:
    from av.video.reformatter import Interpolation

    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
    frames: list[NDArray[np.uint8]] = []
    with open_input(source) as container:
        if not container.streams.video:
            raise MediaError("no pictures in it; expected a file with a video track")
        stream = container.streams.video[0]
        announced = min(stream.frames or 1, max_frames or stream.frames or 1)
        _check_pixels(announced, stream.codec_context.height, stream.codec_context.width)
        for frame in container.decode(stream):
            if max_frames is not None and len(frames) >= max_frames:
                break
            if frames and (frame.height, frame.width) != frames[0].shape[:2]:
                raise MediaError(
                    f"changes from {frames[0].shape[1]}x{frames[0].shape[0]} to {frame.width}x{frame.height}; "
                    "expected one size throughout"
                )
            _check_pixels(len(frames) + 1, frame.height, frame.width)
            rgb = frame.reformat(format="rgb24", dst_color_range="JPEG", interpolation=flags, threads=1)
            frames.append(np.asarray(rgb.to_ndarray(), np.uint8))
        rate = ratio(stream.average_rate or stream.guessed_rate or stream.base_rate)
    if not frames:
        raise MediaError("no frames in it")
    if not rate or rate <= 0:
        raise MediaError("no frame rate in it; expected one")
    return Video(np.stack(frames), rate)


def _check_pixels(n_frames: int, height: int, width: int) -> None:
    if n_frames * height * width > MAX_VIDEO_PIXELS:
        fit = MAX_VIDEO_PIXELS // max(1, height * width)
        raise MediaError(
            f"{n_frames} frames or more of {width}x{height}, over {MAX_VIDEO_PIXELS} pixels: "
            f"read fewer, max_frames={fit} at most"
        )


# ---- arrays


def array_names(path: PathLike) -> list[str]:
    """Names that `read_array` takes for a file: [""] for NPY, sorted paths such as "test/velocity" for HDF5.

    Only datasets that it would take (type, axes, not empty) are listed, whatever their size.
    """
    with _about(path):
        if _is_npy(Path(path)):
            return [""]
        with _open_hdf5(Path(path)) as file:
            return _dataset_names(file)


def read_array(path: PathLike, name: str = "") -> NDArray[Any]:
    """An array in native byte order and C order: float32, float64 or integers, 1 to 4 axes, not empty.

    name: the path of a dataset in an HDF5 file; may be left out if there is one only. Soft and external links, and
    datasets whose data lies in other files, are refused. MediaError above MAX_ARRAY_BYTES.
    """
    with _about(path):
        if _is_npy(Path(path)):
            if name:
                raise MediaError(f"is NPY, with one array that has no name; asked for {name!r}")
            return _read_npy(Path(path))
        return _read_hdf5(Path(path), name)


def _is_npy(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(6) == b"\x93NUMPY"


def _check_array(dtype: Any, shape: tuple[int, ...] | None) -> None:
    if not isinstance(dtype, np.dtype) or dtype.newbyteorder("=") not in _DTYPES:
        raise MediaError(f"an array of {dtype}; expected {_TAKES_ARRAY}")
    if shape is None or not 1 <= len(shape) <= 4 or 0 in shape:
        raise MediaError(f"an array of shape {shape}; expected {_TAKES_ARRAY}")


def _check_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    n_bytes = dtype.itemsize
    for side in shape:
        n_bytes *= side
    if n_bytes > MAX_ARRAY_BYTES:
        raise MediaError(f"an array of {n_bytes} bytes, shape {shape}; expected at most {MAX_ARRAY_BYTES}: cut it")
    return n_bytes


def _read_npy(path: Path) -> NDArray[Any]:
    from numpy.lib import format as npy

    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with path.open("rb") as stream:
        version = npy.read_magic(stream)
        if version not in headers:
            raise MediaError(f"NPY version {version[0]}.{version[1]}; expected 1.0 or 2.0, as plain arrays have")
        shape, fortran, dtype = headers[version](stream)
        _check_array(dtype, shape)
        n_bytes = _check_bytes(dtype, shape)
        n_left = os.fstat(stream.fileno()).st_size - stream.tell()
        if n_left != n_bytes:
            raise MediaError(f"{n_left} bytes of data; expected {n_bytes} for {dtype} of shape {shape}: damaged?")
        flat = np.frombuffer(stream.read(n_bytes), dtype)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return np.array(array, dtype.newbyteorder("="), order="C")


@contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    import h5py

    if not h5py.is_hdf5(path):
        raise MediaError("neither NPY nor HDF5")
    with h5py.File(path, "r", locking=False) as file:
        yield file


def _dataset_names(file: h5py.File) -> list[str]:
    import h5py

    names: list[str] = []

    def visit(name: str, item: Any) -> None:  # of hard links only: neither soft nor external ones
        if not isinstance(item, h5py.Dataset):
            return
        try:
            _check_array(item.dtype, item.shape)
        except MediaError:
            return
        names.append(name)

    file.visititems(visit)
    return sorted(names)


def _read_hdf5(path: Path, name: str) -> NDArray[Any]:
    import h5py

    with _open_hdf5(path) as file:
        if not name:
            names = _dataset_names(file)
            if len(names) != 1:
                raise MediaError(f"{len(names)} arrays in it; expected the name of one of {', '.join(names) or 'none'}")
            name = names[0]
        at: Any = file
        for part in name.strip("/").split("/"):
            link = at.get(part, getlink=True) if isinstance(at, h5py.Group) and part else None
            if not isinstance(link, h5py.HardLink):
                raise MediaError(f"no array {name!r} in it; expected one of {', '.join(_dataset_names(file))}")
            at = at[part]
        if not isinstance(at, h5py.Dataset):
            raise MediaError(f"{name!r} is a group; expected one of {', '.join(_dataset_names(file))}")
        if at.external or at.is_virtual:
            raise MediaError(f"{name!r} keeps its data in other files: copy it into one file")
        _check_array(at.dtype, at.shape)
        _check_bytes(at.dtype, at.shape)
        return np.array(at[()], at.dtype.newbyteorder("="), order="C")
