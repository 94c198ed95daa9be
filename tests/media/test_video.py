"""Video files in and out: every container, times, turns, colours, sound, damage; nothing half written."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from codec.datasets.places import places
from codec.errors import CodecError, MediaError, UsageError
from codec.media.image import read_picture
from codec.media.video import reader as video_reader
from codec.media.video import values as video_values
from codec.media.video.matroska import set_aspect
from codec.media.video.reader import VideoReader, cut, open_video
from codec.media.video.sound import cut_audio
from codec.media.video.values import Frame, Pixels, Planes, VideoInfo, frames_of, plane_shapes, stack, to_rgb, to_yuv420
from codec.media.video.writer import VideoWriter, parse_encoder

from ..damage import MIB, Memory, alarm, edits

CLIPS = {  # frames, width, height, frames a second
    "test/carphone_pristine.mp4": (120, 176, 144, Fraction(30000, 1001)),
    "test/park_joy_480x270_10f.mkv": (10, 480, 270, Fraction(50)),
    "train/bbb_640x360_lossless_48f.mp4": (48, 640, 360, Fraction(25)),
    "train/cars_384x216_lossless_64f.mp4": (64, 384, 216, Fraction(25, 2)),
}
# Where a file is written with another encoder than its suffix's own.
KINDS = {
    "a.mkv": None,
    "a.mp4": "libx264:qp=0",
    "a.mov": "libx264:qp=0",
    "a.webm": "libvpx-vp9:lossless=1",
    "b.mkv": "libvpx-vp9:lossless=1",
    "b.mp4": "libvpx-vp9:lossless=1",
    "a.y4m": None,
}


def clip(name: str) -> Path:
    for place in places():
        if (place / "video" / name).is_file():
            return place / "video" / name
    pytest.skip(f"video/{name} isn't there: set CODEC_DATA")


def info_of(width: int = 48, height: int = 32, pixels: Pixels = "yuv420p", **more: Any) -> VideoInfo:
    return VideoInfo(width, height, pixels, **{"time_base": Fraction(1, 25), "frame_rate": Fraction(25), **more})


def moving(info: VideoInfo, n_frames: int = 6, times: Sequence[int] = ()) -> list[Frame]:
    """Waves that move, each frame brighter than the one before."""
    pts = list(times) or list(range(n_frames + 1))
    frames = []
    for t in range(len(pts) - 1):
        planes = []
        for index, shape in enumerate(plane_shapes(info)):
            y, x = np.mgrid[: shape[0], : shape[1]]
            wave = 90 + 8 * t + 40 * np.sin((x + 3 * t) / 7 + index) + 30 * np.cos((y - t) / 5)
            if len(shape) == 3:
                wave = np.stack([wave, wave[::-1], 200 - wave], axis=2)
            planes.append(wave.clip(0, 255).astype(np.uint8))
        frames.append(Frame(tuple(planes), pts[t], pts[t + 1] - pts[t]))
    return frames


def save(target: Path, info: VideoInfo, frames: Sequence[Frame], **more: Any) -> Path:
    with VideoWriter(target, info, **more) as writer:
        for frame in frames:
            writer.write(frame)
    return target


def load(source: Any) -> tuple[VideoReader, list[Frame]]:
    with open_video(source) as reader:
        return reader, list(reader)


def equal(a: Sequence[Frame], b: Sequence[Frame]) -> bool:
    return len(a) == len(b) and all(same(x.planes, y.planes) for x, y in zip(a, b, strict=True))


def same(a: Planes, b: Planes) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def joined(frame: Frame) -> np.ndarray:
    return np.concatenate([plane.ravel() for plane in frame.planes])


def made(
    format: str,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (48, 32),
    n_frames: int = 4,
    options: dict[str, str] | None = None,
    interlaced: bool = False,
    color: dict[str, int] | None = None,
) -> bytes:
    """A file by PyAV alone, so that reading isn't tested with what was written here."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as output:
        stream: Any = output.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        for key, value in (color or {}).items():
            setattr(stream.codec_context, key, value)
        if interlaced:
            stream.codec_context.flags |= 1 << 29 | 1 << 18
        for index in range(n_frames):
            y, x = np.mgrid[: size[1], : size[0]]
            rgb = np.stack([x * 5 + 9 * index, y * 7, x + y], axis=2).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            for key, value in (color or {}).items():
                if hasattr(frame, key):
                    setattr(frame, key, value)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def packets(source: Any) -> list[tuple[float, bytes]]:
    """Seconds and payload of the sound in a file."""
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
        if not container.streams.audio:
            return []
        found = [p for p in container.demux(*container.streams.audio) if p.size]
        return [(float((p.pts or 0) * p.time_base), bytes(p)) for p in found]


def tone(codec: str = "aac", seconds: float = 1.0, start: float = 0.0) -> bytes:
    """Sound as VideoReader.audio() gives it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska", container_options={"avoid_negative_ts": "disabled"}) as output:
        stream: Any = output.add_stream(codec, rate=48000)
        stream.codec_context.layout = "stereo"
        kind = stream.codec_context.format.name
        for index in range(round(seconds * 48000 / 960)):
            wave = np.sin(2 * np.pi * 440 * (np.arange(960) + 960 * index) / 48000) * 0.3
            if kind == "fltp":
                data = np.stack([wave, wave]).astype(np.float32)
            else:
                data = np.repeat((wave * 32767).astype(np.int16), 2)[None]
            frame = av.AudioFrame.from_ndarray(data, format=kind, layout="stereo")
            frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
            frame.pts = 960 * index + round(start * 48000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


# ---- reading


@pytest.mark.parametrize("name", list(CLIPS))
def test_clips(name: str) -> None:
    path, (n_frames, width, height, rate) = clip(name), CLIPS[name]
    with open_video(path) as reader:
        info, frames = reader.info, []
        assert (info.width, info.height, info.frame_rate, info.pixels) == (width, height, rate, "yuv420p")
        assert reader.n_frames == n_frames
        assert reader.notes == ()
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for mine, theirs in zip(reader, container.decode(stream), strict=True):
                frames.append((mine.pts, mine.duration))
                assert np.array_equal(joined(mine), theirs.to_ndarray().ravel())
    assert len(frames) == n_frames
    assert frames[0][0] == 0
    step = 1 / (rate * info.time_base)
    assert all(abs(pts - index * step) < 1 for index, (pts, _) in enumerate(frames))
    assert all(a + b == c for (a, b), (c, _) in pairwise(frames))
    assert abs(frames[-1][1] - step) < 1


@pytest.mark.parametrize(
    ("format", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("matroska", "ffv1"),
        ("webm", "libvpx-vp9"),
        ("avi", "mpeg4"),
        ("avi", "ffv1"),
        ("yuv4mpegpipe", "wrapped_avframe"),
    ],
)
def test_containers(format: str, codec: str, tmp_path: Path) -> None:
    """As a path, as bytes, through a pipe: the same frames."""
    data = made(format, codec)
    (tmp_path / "in: a name.bin").write_bytes(data)
    with av.open(io.BytesIO(data)) as container:
        expected = [frame.to_ndarray() for frame in container.decode(video=0)]
    for source in (tmp_path / "in: a name.bin", data, pipe(data)):
        reader, frames = load(source)
        assert (reader.info.width, reader.info.height, reader.info.pixels) == (48, 32, "yuv420p")
        assert reader.info.frame_rate == 25
        for frame, theirs in zip(frames, expected, strict=True):
            assert np.array_equal(joined(frame), theirs.ravel())
        assert [f.pts * reader.info.time_base for f in frames] == [Fraction(i, 25) for i in range(4)]
        assert all(f.duration * reader.info.time_base == Fraction(1, 25) for f in frames)
        assert reader.notes == ()


def pipe(data: bytes) -> BinaryIO:
    """A stream that can't seek and gives a little at a time."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.rest = data

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            part, self.rest = self.rest[: min(1000, len(buffer))], self.rest[min(1000, len(buffer)) :]
            buffer[: len(part)] = part
            return len(part)

    return Pipe()  # pyright: ignore[reportReturnType]


def test_reading_again(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mkv", info_of(), moving(info_of()))
    with open_video(path) as reader:
        first = next(iter(reader))
        assert same(first.planes, next(iter(reader)).planes)
        assert len(list(reader)) == 6
    data = save(tmp_path / "a.y4m", info_of(), moving(info_of())).read_bytes()
    with open_video(pipe(data)) as reader:
        assert len(list(reader)) == 6
        with pytest.raises(MediaError, match="only once"):
            list(reader)


@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)],
)
def test_turned(a: int, b: int, c: int, d: int) -> None:
    """A pixel at (x, y) is to be seen at (a x + c y, b x + d y), says the matrix of a track."""
    data = made("mp4", options={"qp": "0"})
    at = data.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    _, plain = load(data)
    reader, turned = load(data[:at] + matrix + data[at + 36 :])
    assert (reader.info.width, reader.info.height) == ((32, 48) if a == 0 else (48, 32))
    for one, other in zip(plain, turned, strict=True):
        for before, after in zip(one.planes, other.planes, strict=True):
            y, x = np.mgrid[: before.shape[0], : before.shape[1]]
            column, row = a * x + c * y, b * x + d * y
            assert np.array_equal(after[row - row.min(), column - column.min()], before)


def test_turned_askew() -> None:
    data = made("mp4")
    at = data.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", 46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    with pytest.raises(MediaError, match="multiple of 90 degrees"):
        load(data[:at] + matrix + data[at + 36 :])


@pytest.mark.parametrize(
    ("pixels", "codec", "kept"),
    [
        ("yuv422p", "ffv1", "rgb24"),
        ("yuv444p", "ffv1", "rgb24"),
        ("yuv440p", "ffv1", "rgb24"),
        ("yuvj444p", "mjpeg", "rgb24"),
        ("yuvj420p", "mjpeg", "yuv420p"),
        ("bgr0", "ffv1", "rgb24"),
        ("rgb24", "png", "rgb24"),
        ("gbrp", "libx264rgb", "rgb24"),
        ("gray", "ffv1", "gray"),
    ],
)
def test_pixels(pixels: str, codec: str, kept: str) -> None:
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    data = made(
        "mov" if codec == "png" else "matroska",
        codec,
        "rgb24" if codec == "libx264rgb" else pixels,
        (47, 33),
        options=options,
    )
    reader, frames = load(data)
    assert reader.info.pixels == kept
    assert any("converted to RGB" in note.words for note in reader.notes) == (
        pixels.startswith("yuv") and kept == "rgb24"
    )
    assert (reader.info.color.get("range") == 2) == (pixels == "yuvj420p")
    with av.open(io.BytesIO(data)) as container:
        for frame, theirs in zip(frames, container.decode(video=0), strict=True):
            if kept == "rgb24":
                expected = theirs.to_ndarray(format="rgb24").astype(int)
                assert np.abs(frame.planes[0] - expected).mean() < (2.5 if pixels.startswith("yuv") else 1e-9)
            else:
                luma = np.frombuffer(memoryview(theirs.planes[0]), np.uint8)  # pyright: ignore[reportArgumentType]
                assert np.array_equal(frame.planes[0], luma.reshape(33, -1)[:, :47])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: made("matroska", "ffv1", "yuv420p10le"), "10 bits.*ffmpeg"),
        (lambda: made("matroska", "ffv1", "bgra"), "transparency.*ffmpeg"),
        (lambda: made("mov", "libx264", interlaced=True), "interlaced.*bwdif"),
        (lambda: made("mp4", color={"color_trc": 16, "color_primaries": 9, "colorspace": 9}), "HDR.*tonemap"),
        (lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n", "not a video"),
        (lambda: b"ffconcat version 1.0\nfile '/etc/hostname'\n", "not a video"),
        (lambda: b"", "file is empty"),
        (lambda: bytes(1000), "not a video"),
        (lambda: tone(), "no video"),
        (lambda: b"YUV4MPEG2 W4 H4 F25:1 It C420\nFRAME\n" + bytes(24), "interlaced"),
        (lambda: b"YUV4MPEG2 W4 H4 F25:1 C420p10\nFRAME\n" + bytes(48), "C420p10.*ffmpeg"),
        (lambda: b"YUV4MPEG2 W999999 H999999 F25:1\nFRAME\n", "999999x999999"),
        (lambda: b"YUV4MPEG2 W4 H4 F25:1\n", "no whole frame"),
        (lambda: b"YUV4MPEG2 Wx H4\n", "damaged"),
        (lambda: b"YUV4MPEG2 W4 H4 F25:1\nFRAME\n" + bytes(24) + b"GARBAGE", "FRAME was expected"),
    ],
)
def test_refused(data: Any, words: str) -> None:
    with pytest.raises(MediaError, match=words):
        load(data())


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="nothing.mp4: can't be read"):
        open_video(tmp_path / "nothing.mp4")


def test_more_than_one_track(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        streams: list[Any] = [output.add_stream("ffv1", rate=25) for _ in range(2)]
        for index, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 32 + 16 * index, 32, "gray"
        for index, stream in enumerate(streams):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32 + 16 * index), 50, np.uint8), "gray")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    reader, frames = load(buffer.getvalue())
    assert frames[0].planes[0].shape == (32, 32)
    assert [note.kind for note in reader.notes] == ["track"]


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_reader, "MAX_MEMORY", 100)
    with pytest.raises(MediaError, match="more than 100 bytes"):
        load(pipe(made("mp4")))
    monkeypatch.setattr(video_values, "MAX_PIXELS", 1000)
    with pytest.raises(MediaError, match="48x32"):
        load(made("mp4"))


# ---- damage


def kinds(tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    info = info_of(66, 66)
    for name, encoder in {**KINDS, "x265.mp4": "libx265:preset=ultrafast"}.items():
        with_sound = {"audio": tone()} if name in ("a.mkv", "a.mp4", "a.mov") else {}
        path = save(tmp_path / name, info, moving(info, 8), encoder=encoder, **with_sound)
        yield name, path.read_bytes()
    yield "avi", made("avi", "mpeg4", n_frames=8)


def test_files_that_end_early(tmp_path: Path) -> None:
    """The frames that are there, and a note; or an error."""
    for name, data in kinds(tmp_path):
        _, whole = load(data)
        by_time = {frame.pts: frame for frame in whole}
        counts = set()
        for share in (0.2, 0.5, 0.7, 0.9, 0.97):
            try:
                reader, frames = load(data[: int(len(data) * share)])
            except MediaError:
                continue
            assert reader.notes, (name, share)
            assert all(same(frame.planes, by_time[frame.pts].planes) for frame in frames), (name, share)
            counts.add(len(frames))
        assert counts, name
        assert min(counts) < len(whole), name


def test_damage(tmp_path: Path) -> None:
    """Flipped, cut, inserted bytes: a video, or a MediaError; within bounds of time and memory."""
    files = list(kinds(tmp_path))
    for _, data in files:
        load(data)

    @settings(max_examples=150, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(0, len(files) - 1), st.data())
    def run(index: int, data: st.DataObject) -> None:
        good = files[index][1]
        bad = data.draw(edits(len(good)))(good)
        memory = Memory()
        with alarm(f"{files[index][0]}: reading doesn't end"):
            try:
                with open_video(bad) as reader:
                    for frame in reader:
                        assert [p.shape for p in frame.planes] == list(plane_shapes(reader.info))
                    reader.audio()
            except MediaError as error:
                assert str(error)
        assert memory.grown() < 300 * MIB

    run()


def test_ffv1_checksums(tmp_path: Path) -> None:
    """FFmpeg's decoder shows a frame whose checksum is wrong as if nothing were."""
    data = save(tmp_path / "a.mkv", info_of(64, 64), moving(info_of(64, 64))).read_bytes()
    for share in (0.3, 0.5, 0.7):
        at = int(len(data) * share)
        with pytest.raises(MediaError, match="checksum"):
            load(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    unchecked = made("matroska", "ffv1", options={"slicecrc": "0", "level": "3"})
    assert len(load(unchecked)[1]) == 4


# ---- writing


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("size", [(48, 32), (33, 17), (1, 1), (2, 131)])
def test_lossless(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """Every container, sizes even and odd: the same planes, times and rate."""
    encoder = KINDS[name]
    if encoder == "libx264:qp=0" and (size[0] % 2 or size[1] % 2):
        with pytest.raises(UsageError, match="even sides.*ffv1"):
            VideoWriter(tmp_path / name, info_of(*size), encoder=encoder)
        return
    info = info_of(*size)
    frames = moving(info)
    reader, back = load(save(tmp_path / name, info, frames, encoder=encoder))
    assert equal(back, frames)
    assert (reader.info.width, reader.info.height, reader.info.frame_rate) == (*size, 25)
    assert [frame.pts * reader.info.time_base for frame in back] == [Fraction(i, 25) for i in range(6)]
    assert [frame.duration * reader.info.time_base for frame in back] == [Fraction(1, 25)] * 6


@pytest.mark.parametrize("pixels", ["rgb24", "gray"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.webm", "a.y4m", "pngs"])
def test_rgb_and_grey(name: str, pixels: Pixels, tmp_path: Path) -> None:
    info = info_of(46, 34, pixels)
    frames = moving(info)
    reader, back = load(save(tmp_path / name, info, frames))
    if name in ("a.mkv", "pngs") or (name == "a.y4m" and pixels == "gray"):
        assert reader.info.pixels == pixels
        assert equal(back, frames)
    else:
        a, b = np.stack([to_rgb(f, info) for f in frames]), np.stack([to_rgb(f, reader.info) for f in back])
        assert np.abs(a.astype(int) - b).mean() < 2.5


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "b.mp4"])
def test_default_quality(name: str, tmp_path: Path) -> None:
    """Visually lossless, odd sizes too where there is an encoder for them."""
    for width in (64, 65) if name == "b.mp4" else (64,):
        info = info_of(width, 48)
        frames = moving(info)
        _, back = load(save(tmp_path / f"{width}{name}", info, frames))
        error = np.stack([f.planes[0] for f in frames]).astype(int) - np.stack([f.planes[0] for f in back])
        assert np.mean(error**2.0) < 2.6  # 44 dB


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.webm"])
def test_variable_rate(name: str, tmp_path: Path) -> None:
    info = info_of(time_base=Fraction(1, 1000), frame_rate=Fraction(25))
    frames = moving(info, times=[0, 40, 55, 200, 201, 1000, 1700])
    reader, back = load(save(tmp_path / name, info, frames))
    unit = 1000 * reader.info.time_base
    assert [frame.pts * unit for frame in back] == [frame.pts for frame in frames]
    assert [frame.duration * unit for frame in back] == [frame.duration for frame in frames]


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_few_frames(n_frames: int, tmp_path: Path) -> None:
    info = info_of(72, 72)
    for name, encoder in (("a.mp4", None), ("a.webm", None), ("b.mp4", "libsvtav1"), ("c.mp4", "libx265")):
        if n_frames < 3 and encoder == "libx265":
            with pytest.raises(MediaError, match="fewer than 3 frames"):
                save(tmp_path / name, info, moving(info, n_frames), encoder=encoder)
        else:
            assert len(load(save(tmp_path / name, info, moving(info, n_frames), encoder=encoder))[1]) == n_frames


def test_time_base_of_mp4(tmp_path: Path) -> None:
    info = info_of(time_base=Fraction(1, 30000), frame_rate=Fraction(30000, 1001))
    frames = moving(info, times=[1001 * index for index in range(7)])
    for name in ("a.mp4", "a.mov"):
        reader, back = load(save(tmp_path / name, info, frames))
        assert reader.info.frame_rate == Fraction(30000, 1001)
        assert [f.pts * reader.info.time_base for f in back] == [f.pts * info.time_base for f in frames]


@pytest.mark.parametrize(("name", "encoder"), [("a.mkv", None), ("a.mp4", "libx264:qp=0"), ("a.webm", None)])
def test_color_is_kept(name: str, encoder: str | None, tmp_path: Path) -> None:
    for color in (
        {"range": 2, "matrix": 1, "primaries": 1, "transfer": 1},
        {"range": 1, "matrix": 5, "primaries": 5, "transfer": 6},
    ):
        reader, _ = load(
            save(tmp_path / f"{color['matrix']}{name}", info_of(color=color), moving(info_of()), encoder=encoder)
        )
        found = {key: value for key, value in reader.info.color.items() if key != "chroma"}  # H.264 says left
        assert {
            **found,
            "matrix": {6: 5}.get(reader.info.color["matrix"], reader.info.color["matrix"]),
        } == {
            **color,
            "primaries": reader.info.color.get("primaries", color["primaries"])
            if name == "a.webm"
            else color["primaries"],
            "transfer": reader.info.color.get("transfer", color["transfer"]) if name == "a.webm" else color["transfer"],
        }


def test_shape_of_pixels(tmp_path: Path) -> None:
    """Kept, or the writer says that it isn't."""
    info = info_of(66, 66, sample_aspect=Fraction(16, 11))
    for name, encoder in (
        ("a.mkv", None),
        ("b.mkv", "libx264"),
        ("c.mkv", "libvpx-vp9"),
        ("a.webm", None),
        ("a.mp4", None),
        ("c.mp4", "libx265"),
        ("a.y4m", None),
    ):
        with VideoWriter(tmp_path / name, info, encoder=encoder) as writer:
            for frame in moving(info):
                writer.write(frame)
        kept = load(tmp_path / name)[0].info.sample_aspect
        assert kept == (None if writer.notes else Fraction(16, 11))
        assert [note.kind for note in writer.notes] == (["layout"] if name == "a.webm" else [])
        if name.endswith(".mkv"):
            data = (tmp_path / name).read_bytes()
            assert set_aspect(tmp_path / name, 66, 66, Fraction(65537)) is False  # more than there is room for
            assert (tmp_path / name).read_bytes() == data and _checksums(data)


def _checksums(data: bytes) -> bool:
    """Whether the checksum in front of the description of tracks is right."""
    name = b"\x16\x54\xae\x6b"
    at = data.index(name, data.index(name) + 4) + 4  # the first is in the list of what is where
    n_size = 9 - data[at].bit_length()
    body = at + n_size
    end = body + (int.from_bytes(data[at:body], "big") & ((1 << 7 * n_size) - 1))
    assert data[body : body + 2] == b"\xbf\x84"
    return zlib.crc32(data[body + 6 : end]) == int.from_bytes(data[body + 2 : body + 6], "little")


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("a.mp4", "rgb24", "RGB is stored as YUV 4:2:0"),
        ("a.y4m", "rgb24", "RGB is stored as YUV 4:4:4"),
        ("pngs", "yuv420p", "YUV 4:2:0 is stored as RGB"),
        ("a.webm", "gray", "grey is stored as YUV"),
        ("a.mkv", "rgb24", ""),
        ("a.mp4", "yuv420p", ""),
        ("pngs", "gray", ""),
    ],
)
def test_what_isnt_stored_as_it_is(name: str, pixels: Pixels, words: str, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / name, info_of(pixels=pixels)) as writer:
        writer.write(moving(info_of(pixels=pixels))[0])
    assert (words in writer.notes[0].words) if words else writer.notes == []


def test_y4m_on_stdout(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mkv", info_of(), moving(info_of()))
    program = (
        "import sys; from codec import open_video; from codec.media.video.writer import VideoWriter\n"
        "with open_video(sys.argv[1]) as r, VideoWriter('-', r.info) as w:\n"
        "    for f in r: w.write(f)\n"
    )
    back = "from codec import open_video; print([f.planes[0].sum() for f in open_video('-')])"
    done = subprocess.run([sys.executable, "-P", "-c", program, str(path)], capture_output=True, check=True)
    assert done.stderr == b""
    assert equal(load(done.stdout)[1], moving(info_of()))
    done = subprocess.run([sys.executable, "-P", "-c", back], input=done.stdout, capture_output=True, check=True)
    assert done.stdout.decode().strip() == str([f.planes[0].sum() for f in moving(info_of())])
    with av.open(io.BytesIO(save(tmp_path / "a.y4m", info_of(33, 17), moving(info_of(33, 17))).read_bytes())) as c:
        assert sum(1 for _ in c.decode(video=0)) == 6


def test_y4m_has_no_times(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no times: write .mkv"):
        save(tmp_path / "a.y4m", info_of(), moving(info_of(), times=[0, 1, 2, 9, 10]))
    assert list(tmp_path.iterdir()) == []


# ---- folders and arrays


def test_folder_of_pngs(tmp_path: Path) -> None:
    frames = moving(info_of(20, 11, "rgb24"), 12)
    folder = save(tmp_path / "out", info_of(20, 11, "rgb24"), frames)
    assert len(list(folder.iterdir())) == 12
    for index, path in enumerate(sorted(folder.iterdir())):
        assert np.array_equal(read_picture(path).pixels, frames[index].planes[0])
        path.rename(folder / f"frame{index}.png")  # 10 comes after 9
    reader, back = load(folder)
    assert equal(back, frames)
    assert (reader.n_frames, reader.info.frame_rate) == (12, 25)
    assert open_video(folder, 10).info.time_base == Fraction(1, 10)
    Image.new("RGB", (21, 11)).save(folder / "frame5.png")
    with pytest.raises(MediaError, match="frame5.png: 21x11.*alike"):
        open_video(folder)
    (folder / "frame5.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="frame5.png"):
        open_video(folder)
    for kind in ("RGBA", "I;16", "LA"):
        Image.new(kind, (20, 11)).save(folder / "frame5.png")
        with pytest.raises(MediaError, match="8 bits"):
            open_video(folder)


def test_yuv_becomes_rgb_in_pngs(tmp_path: Path) -> None:
    frames = moving(info_of())
    _, back = load(save(tmp_path / "out", info_of(), frames))
    assert all(np.array_equal(a.planes[0], to_rgb(b, info_of())) for a, b in zip(back, frames, strict=True))


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="0 PNGs"):
        open_video(tmp_path)


def test_arrays() -> None:
    rng = np.random.default_rng(0)
    for shape in ((3, 5, 7, 3), (3, 5, 7)):
        array = rng.integers(0, 256, shape, np.uint8)
        info, frames = frames_of(array, Fraction(30000, 1001))
        assert info.pixels == ("rgb24" if len(shape) == 4 else "gray")
        assert info.frame_rate == Fraction(30000, 1001)
        assert np.array_equal(stack(info, frames), array)
        with open_video(array) as reader:
            assert np.array_equal(stack(reader.info, reader), array)
            assert [frame.pts for frame in reader] == [0, 1, 2]
    info = info_of()
    assert stack(info, moving(info)).shape == (6, 32, 48, 3)
    for bad in (np.zeros((3, 5, 7, 3)), np.zeros((0, 5, 7), np.uint8), np.zeros((3, 5, 7, 4), np.uint8)):
        with pytest.raises(MediaError, match="expected uint8"):
            frames_of(bad)


# ---- colour


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("full", [False, True])
def test_conversion(matrix: int, full: bool) -> None:
    """Against floating point: within rounding."""
    red, blue = {1: (0.2126, 0.0722), 4: (0.3, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}.get(
        matrix, (0.299, 0.114)
    )
    rng = np.random.default_rng(matrix)
    info = info_of(64, 48, color={"range": 2 if full else 1, "matrix": matrix})
    rgb = rng.integers(0, 256, (24, 32, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    r, g, b = rgb.astype(float).transpose(2, 0, 1) / 255
    luma = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - luma) / (1 - blue) / 2, (r - luma) / (1 - red) / 2
    planes = to_yuv420(rgb, info)
    y_scale, c_scale, black = (255, 255, 0) if full else (219, 224, 16)
    for mine, exact in zip(
        planes, (luma * y_scale + black, (u * c_scale + 128)[::2, ::2], (v * c_scale + 128)[::2, ::2]), strict=True
    ):
        assert np.abs(mine - exact.clip(0, 255)).max() < 0.51
    noise = Frame(tuple(rng.integers(0, 256, s, np.uint8) for s in plane_shapes(info)), 0, 1)
    y = (noise.planes[0].astype(float) - black) / y_scale
    u, v = ((p.repeat(2, axis=0).repeat(2, axis=1).astype(float) - 128) / c_scale for p in noise.planes[1:])
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    exact = np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=2) * 255
    assert np.abs(to_rgb(noise, info) - exact.clip(0, 255)).max() < 0.52


def test_conversion_there_and_back() -> None:
    """Grey stays grey, white white; and what RGB can hold comes back within one step."""
    for color in ({}, {"range": 2, "matrix": 1}):
        info = info_of(256, 1, color=color)
        ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
        planes = to_yuv420(ramp, info)
        assert (planes[1] == 128).all()
        assert (planes[2] == 128).all()
        assert np.abs(to_rgb(Frame(planes, 0, 1), info).astype(int) - ramp).max() <= (0 if color else 1)
        assert tuple(to_rgb(Frame(planes, 0, 1), info)[0, 255]) == (255, 255, 255)
        info = info_of(33, 17, color=color)
        rng = np.random.default_rng(0)
        planes = tuple(rng.integers(100, 140, shape, np.uint8) for shape in plane_shapes(info))
        again = to_yuv420(to_rgb(Frame(planes, 0, 1), info), info)
        assert max(np.abs(a.astype(int) - b).max() for a, b in zip(planes, again, strict=True)) <= 1


def test_matrix_that_isnt_named() -> None:
    assert (info_of(height=480).matrix, info_of(height=720).matrix) == (6, 1)
    with pytest.raises(MediaError, match="matrix 8"):
        to_rgb(moving(info_of())[0], info_of(color={"matrix": 8}))


# ---- sound


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov"])
def test_sound_passes_unchanged(name: str, tmp_path: Path) -> None:
    """From a real file through our keeping to another file: every packet, at its time."""
    source = clip("train/bbb_640x360_lossless_48f.mp4")
    with open_video(source) as reader:
        audio = reader.audio()
    assert audio is not None
    expected = packets(source)
    assert [data for _, data in packets(audio)] == [data for _, data in expected]
    path = save(tmp_path / name, info_of(), moving(info_of(), 50), audio=audio)
    found = packets(path)
    assert [data for _, data in found] == [data for _, data in expected]
    late = np.array([t for t, _ in found]) - [t for t, _ in expected]
    assert np.abs(late).max() < 1.1e-3  # Matroska counts in milliseconds
    if name != "a.mkv":
        assert np.ptp(late) < 1e-9  # and the others still have packets of equal length
    assert load(path)[1][0].pts == 0


@pytest.mark.parametrize("codec", ["libopus", "flac", "pcm_s16le", "ac3"])
def test_sound_of_other_codecs(codec: str, tmp_path: Path) -> None:
    audio = tone(codec)
    path = save(tmp_path / "a.mkv", info_of(), moving(info_of()), audio=audio)
    with open_video(path) as reader:
        again = reader.audio()
    assert again is not None
    assert packets(again) == packets(path)
    assert [data for _, data in packets(path)] == [data for _, data in packets(audio)]


@pytest.mark.parametrize("start", [-0.5, 0.25])
def test_sound_keeps_its_distance(start: float, tmp_path: Path) -> None:
    """Sound that begins before or after the first picture still does, in every container."""
    audio = tone("libopus", start=start)
    first = packets(audio)[0][0]
    for name in ("a.mkv", "a.mp4", "a.webm"):
        path = save(tmp_path / name, info_of(), moving(info_of(), 50), audio=audio)
        with open_video(path) as reader:
            again = reader.audio()
        assert again is not None
        assert packets(again)[0][0] == pytest.approx(first, abs=0.0015)


def test_two_tracks_and_pictures_that_begin_late(tmp_path: Path) -> None:
    """The first picture is at 0.4 s of the file, two tracks of sound at 0: at -0.4 s for us, and again in a file."""
    buffer = io.BytesIO()
    with (
        av.open(buffer, "w", format="matroska") as output,
        av.open(io.BytesIO(tone("libopus"))) as first,
        av.open(io.BytesIO(tone("flac"))) as second,
    ):
        stream: Any = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "gray"
        tracks = [output.add_stream_from_template(one.streams.audio[0]) for one in (first, second)]
        tracks[1].metadata["language"] = "fra"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48), 30 * index, np.uint8), "gray")
            frame.pts, frame.time_base = 10 + index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        for one, track in zip((first, second), tracks, strict=True):
            for packet in one.demux(audio=0):
                if packet.size:
                    packet.stream = track
                    output.mux(packet)
    source = buffer.getvalue()
    with open_video(source) as reader:
        frames, audio = list(reader), reader.audio()
        path = save(tmp_path / "a.mkv", reader.info, frames, audio=audio)
        assert (frames[0].pts, len(frames)) == (0, 5)
    assert audio is not None
    for found in (audio, open_video(path).audio()):
        assert found is not None
        assert sorted(data for _, data in packets(found)) == sorted(data for _, data in packets(source))
        earliest = min(t for t, _ in packets(source))
        assert min(t for t, _ in packets(found)) == pytest.approx(earliest - 0.4, abs=0.0015)
        with av.open(io.BytesIO(found)) as container:
            assert [one.metadata.get("language") for one in container.streams.audio][1] == "fra"


def test_cutting_sound() -> None:
    audio = tone("libopus", seconds=2)
    everything = packets(audio)
    part = cut_audio(audio, Fraction(1, 2), Fraction(3, 2))
    assert part is not None
    inside = [(t, data) for t, data in everything if 0.5 <= t < 1.5]
    assert [data for _, data in packets(part)] == [data for _, data in inside]
    assert packets(part)[0][0] == pytest.approx(inside[0][0] - 0.5, abs=0.0015)
    assert cut_audio(audio, 100, 200) is None
    assert cut_audio(None, 0, 1) is None
    with pytest.raises(MediaError, match="damaged"):
        cut_audio(b"no sound", 0, 1)


def test_a_part_of_a_video(tmp_path: Path) -> None:
    """Frames and sound from the same moment on."""
    info, audio = info_of(time_base=Fraction(1, 1000)), tone("libopus", seconds=2)
    frames = moving(info, times=[0, 300, 500, 600, 1000, 1300])
    path = save(tmp_path / "a.mkv", info, frames, audio=audio)
    for first_sound in (False, True):
        with cut(open_video(path), 1, 4) as reader:
            part = reader.audio() if first_sound else None
            back = list(reader)
            part = part or reader.audio()
        assert reader.n_frames == 3
        assert equal(back, frames[1:4])
        assert [(frame.pts, frame.duration) for frame in back] == [(0, 200), (200, 100), (300, 400)]
        assert part is not None
        inside = [(t - 0.3, data) for t, data in packets(audio) if 0.2999 <= t < 0.9999]
        assert [data for _, data in packets(part)] == [data for _, data in inside]
        assert packets(part)[0][0] == pytest.approx(inside[0][0], abs=0.0015)
    whole = open_video(path)
    assert cut(whole) is whole
    assert len(list(cut(whole, 2))) == 3
    assert len(list(cut(whole, 0, 99))) == 5
    with pytest.raises(MediaError, match="from 5 on, of a video that has 5"):
        list(cut(whole, 5))
    for wrong in ((-1, None), (3, 3), (3, 1)):
        with pytest.raises(UsageError, match="START < STOP"):
            cut(whole, *wrong)


def test_sound_before_the_first_picture_is_kept() -> None:
    audio = tone("libopus", start=-0.1)
    part = cut_audio(audio, 0, 0.2)
    assert part is not None
    assert packets(part) == [(t, data) for t, data in packets(audio) if t < 0.2]


def test_sound_that_a_container_cant_hold(tmp_path: Path) -> None:
    for name, words in (("a.webm", "can't hold sound of aac: write .mkv"), ("a.y4m", ".mkv"), ("pngs", ".mkv")):
        with pytest.raises(MediaError, match=words):
            VideoWriter(tmp_path / name, info_of(), audio=tone())
    with pytest.raises(MediaError, match="sound"):
        VideoWriter(tmp_path / "a.mp4", info_of(), audio=b"no sound")
    assert list(tmp_path.iterdir()) == []


# ---- whole or not at all


class Interrupted(list[Frame]):
    """Frames, and then Ctrl-C."""

    def __init__(self, frames: Sequence[Frame], target: Path) -> None:
        super().__init__(frames)
        self.target = target

    def __iter__(self) -> Iterator[Frame]:
        yield from super().__iter__()
        assert not self.target.exists()
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", [*KINDS, "pngs"])
def test_nothing_half_written(name: str, tmp_path: Path) -> None:
    encoder, info = KINDS.get(name), info_of()
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / name, info, Interrupted(moving(info), tmp_path / name), encoder=encoder)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MediaError, match="no frames"), VideoWriter(tmp_path / name, info, encoder=encoder):
        pass
    assert list(tmp_path.iterdir()) == []
    for bad in (
        Frame((np.zeros((3, 3), np.uint8),), 9, 1),
        Frame(moving(info)[0].planes, 0, 1),
        Frame(tuple(p.astype(np.int16) for p in moving(info)[0].planes), 9, 1),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(MediaError, match="a frame"):
            save(tmp_path / name, info, [moving(info)[0], bad], encoder=encoder)
        assert list(tmp_path.iterdir()) == []


def test_existing_targets(tmp_path: Path) -> None:
    target, info = tmp_path / "a.mkv", info_of()
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already: --force"):
        VideoWriter(target, info)
    with pytest.raises(KeyboardInterrupt), VideoWriter(target, info, force=True):
        raise KeyboardInterrupt
    assert target.read_bytes() == b"mine"
    save(target, info, moving(info), force=True)
    assert equal(load(target)[1], moving(info))
    writer = VideoWriter(tmp_path / "b.mkv", info)
    writer.write(moving(info)[0])
    (tmp_path / "b.mkv").write_bytes(b"came later")
    with pytest.raises(UsageError, match="exists already"):
        writer.close()
    assert (tmp_path / "b.mkv").read_bytes() == b"came later"
    (tmp_path / "folder").mkdir()
    save(tmp_path / "folder", info, moving(info))  # an empty one may be filled
    for force in (False, True):
        with pytest.raises(UsageError, match="never replaced"):
            VideoWriter(tmp_path / "folder", info, force=force)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "folder"]
    (tmp_path / "link.mkv").symlink_to(target)
    save(tmp_path / "link.mkv", info, moving(info, 3), force=True)
    assert (tmp_path / "link.mkv").is_symlink()
    assert len(load(target)[1]) == 3


def test_what_is_written_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same bytes again; no encoder's name, version or date."""
    info = info_of(96, 96)
    for name, encoder in {**KINDS, "c.mp4": "libx264", "d.mp4": "libx265", "e.mp4": "libsvtav1:preset=12"}.items():
        files = [save(tmp_path / f"{n}{name}", info, moving(info), encoder=encoder).read_bytes() for n in (1, 2)]
        assert files[0] == files[1], name
        for text in (b"x264 - core", b"x265 (build", b"Lavf6", b"Lavc6"):
            assert text not in files[0], name
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


# ---- encoders


@pytest.mark.parametrize("text", ["libx264", "libx264:crf=18.5,preset=slow", "libsvtav1:crf=30,preset=12", "ffv1:g=1"])
def test_encoders(text: str, tmp_path: Path) -> None:
    name, options = parse_encoder(text)
    assert text == name + (":" + ",".join(f"{k}={v}" for k, v in options.items()) if options else "")
    info = info_of(64, 64)
    assert len(load(save(tmp_path / "a.mkv", info, moving(info), encoder=text))[1]) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x264", "no encoder 'x264'; expected one of ffv1, libx264"),
        ("", "no encoder ''"),
        ("libx264:", "KEY=VALUE"),
        ("libx264:crf", "option 'crf'"),
        ("libx264:crf=99", "crf=99; expected a number from 0 to 51"),
        ("libx264:crf=nan", "crf=nan"),
        ("libx264:crf=18,crf=19", "crf twice"),
        ("libx264:preset=quick", "preset=quick; expected one of ultrafast"),
        ("libx264:x264-params=log=1", "option 'x264-params=log=1'; expected KEY=VALUE with crf, qp"),
        ("libx264:crf=10,qp=10", "crf together with qp"),
        ("libsvtav1:preset=slow", "a whole number from 0 to 13"),
    ],
)
def test_encoders_that_arent(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        VideoWriter(tmp_path / "a.mkv", info_of(), encoder=text)


@pytest.mark.parametrize(
    ("name", "encoder", "words"),
    [
        ("a.webm", "libx264", "isn't written to .webm"),
        ("a.mp4", "ffv1", "isn't written to .mp4; expected .mkv"),
        ("a.y4m", "libx264", "Y4M has no encoder"),
        ("pngs", "libx264", "a folder of PNGs has no encoder"),
        ("a.avi", None, "unknown suffix '.avi'; expected .mkv"),
        ("a.mkv", "libx265", "even sides from 66 on"),
    ],
)
def test_calls_that_cant_be_right(name: str, encoder: str | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=words):
        VideoWriter(tmp_path / name, info_of(), encoder=encoder)
    assert list(tmp_path.iterdir()) == []
