"""What a video has beside its pictures, and what reading it loses: each thing comes back, or there is a note."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from codec.errors import MediaError, UsageError
from codec.media import ffmpeg
from codec.media.audio.values import AudioInfo
from codec.media.notes import Note
from codec.media.video import file as video_file
from codec.media.video.reader import cut, open_video
from codec.media.video.sound import joined, kinds_of, pieces_of, without_sound
from codec.media.video.soundtracks import SoundTrack
from codec.media.video.times import OrderOfDecoding
from codec.media.video.values import Chapter, VideoInfo, frames_of
from codec.media.video.writer import VideoWriter

Change = Callable[[Any], None]


def clip(
    format: str = "matroska",
    codec: str = "ffv1",
    n_frames: int = 5,
    sound: str = "",
    before: Change | None = None,
    after: Change | None = None,
    delay: float = 0.0,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> bytes:
    """Frames of 16x16, by PyAV alone. before, after: given the open file before its header and behind its packets."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format, container_options=container or {}) as out:
        video: Any = out.add_stream(codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        audio: Any = out.add_stream(sound, rate=48000) if sound else None
        if audio is not None:
            audio.codec_context.layout = "mono"
        if before is not None:
            before(out)
        for t in range(n_frames):
            texture = np.random.default_rng(1).integers(0, 40, (24, 16), np.uint8)
            frame = av.VideoFrame.from_ndarray(np.roll(texture, t, 1) + np.uint8(20 * t % 200), "yuv420p")
            frame.pts, frame.time_base = t + round(delay * 25), Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            for packet in tone(audio, 0.2 + delay):
                out.mux(packet)
        if after is not None:
            after(out)
    return buffer.getvalue()


def tone(audio: Any, seconds: float) -> Iterator[Any]:
    kind = audio.codec_context.format.name
    for index in range(round(seconds * 48000 / 960)):
        wave = np.sin(2 * np.pi * 440 * (np.arange(960) + 960 * index) / 48000) * 0.3
        whole = (wave * 32767).astype(np.int16)
        data = {"fltp": wave.astype(np.float32), "s32p": whole.astype(np.int32)}.get(kind, whole)
        frame = av.AudioFrame.from_ndarray(data[None], format=kind, layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), 960 * index
        yield from audio.encode(frame)
    yield from audio.encode(None)


def samples(source: Any) -> np.ndarray:
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def notes_of(data: Any) -> list[Note]:
    with open_video(data) as reader:
        reader.check()
        reader.beside()
        return list(reader.notes)


def copy(source: Any, target: Path) -> list[Note]:
    """Write what was read, as it is; the writer's notes."""
    with open_video(source) as reader:
        audio = reader.audio()
        with VideoWriter(target, reader.info, audio) as writer:
            for frame in reader:
                writer.write(frame)
        return writer.notes


# ---- tags, chapters, tracks


def with_texts(out: Any) -> None:
    out.metadata.update({"title": "Birthday", "comment": "by A", "model": "X1"})
    half = {"time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
    out.set_chapters([{"id": 1, "start": 0, "end": 80, **half}, {"id": 2, "start": 80, "end": 200, **half}])


def test_tags_and_chapters_come_back(tmp_path: Path) -> None:
    data = clip(before=with_texts)
    with open_video(data) as reader:
        assert {key.lower(): value for key, value in reader.info.tags.items()} == {
            "title": "Birthday", "comment": "by A", "model": "X1"
        }  # fmt: skip
        expected = (Chapter(Fraction(0), Fraction(8, 100), "One"), Chapter(Fraction(8, 100), Fraction(1, 5), "One"))
        assert reader.info.chapters == expected
        assert reader.notes == ()
    assert copy(data, tmp_path / "a.mkv") == []
    with open_video(tmp_path / "a.mkv") as back:
        assert back.info.chapters == expected
        assert {key.lower() for key in back.info.tags} == {"title", "comment", "model"}
    assert [note.kind for note in copy(data, tmp_path / "a.mp4")] == ["tags"]  # MP4 has no place for "model"
    with open_video(tmp_path / "a.mp4") as back:
        assert back.info.tags["title"] == "Birthday" and len(back.info.chapters) == 2
        assert back.notes == ()  # its track of chapters is none that is left out
    assert {note.kind for note in copy(data, tmp_path / "a.y4m")} == {"tags", "chapters"}


def test_a_part_has_its_chapters() -> None:
    with cut(open_video(clip(before=with_texts)), 1, 3) as part:
        part.audio()
        assert part.info.chapters == (
            Chapter(Fraction(0), Fraction(1, 25), "One"), Chapter(Fraction(1, 25), Fraction(2, 25), "One")
        )  # fmt: skip


def subtitles(out: Any) -> None:
    track = out.streams[-1]
    for number in range(2):
        packet = av.Packet(f"line {number}".encode())
        packet.pts = packet.dts = 80 * number
        packet.duration, packet.time_base, packet.stream = 80, Fraction(1, 1000), track
        out.mux(packet)


def test_titles_flags_subtitles_and_files_come_back(tmp_path: Path) -> None:
    def before(out: Any) -> None:
        sound = out.streams.audio[0]
        sound.metadata.update({"language": "deu", "title": "Ton"})
        sound.disposition = int(Disposition.comment)
        out.add_mux_stream("subrip").metadata["language"] = "eng"
        out.add_attachment("font.ttf", "application/x-truetype-font", b"\0\1" * 50)
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (9, 99, 200)).save(buffer, "PNG")
        out.add_attachment("cover.png", "image/png", buffer.getvalue())

    def after(out: Any) -> None:
        track = next(stream for stream in out.streams if stream.type == "subtitle")
        for number in range(2):
            packet = av.Packet(f"line {number}".encode())
            packet.pts = packet.dts = 80 * number
            packet.duration, packet.time_base, packet.stream = 80, Fraction(1, 1000), track
            out.mux(packet)

    data = clip(sound="libopus", before=before, after=after)
    assert notes_of(data) == []
    assert copy(data, tmp_path / "a.mkv") == []
    with av.open(str(tmp_path / "a.mkv")) as back:
        sound, words = back.streams.audio[0], back.streams.subtitles[0]
        assert (sound.metadata["language"], sound.metadata["title"]) == ("deu", "Ton")
        assert int(sound.disposition) & int(Disposition.comment)
        assert words.metadata["language"] == "eng"
        assert [(p.pts, bytes(p)) for p in back.demux(words) if p.size] == [(0, b"line 0"), (80, b"line 1")]
    with open_video(tmp_path / "a.mkv") as reader:  # the cover is a track of one picture to FFmpeg
        assert kinds_of(reader.audio() or b"") == ["attachment", "audio", "subtitle"]
        assert kinds_of(reader.beside(sound=False) or b"") == ["attachment", "subtitle"]
        assert reader.n_frames == 5
    kinds = sorted(note.kind for note in copy(data, tmp_path / "a.mp4"))
    assert kinds == ["attachment", "attachment", "track"]
    with cut(open_video(data), 1, 3) as part:
        assert kinds_of(part.audio() or b"") == ["attachment", "audio", "subtitle"]


def test_files_alone_are_carried() -> None:
    data = clip(before=lambda out: out.add_attachment("a.txt", "text/plain", b"hello"))
    with open_video(data) as reader:
        audio = reader.audio()
    assert audio is not None and kinds_of(audio) == ["attachment"]
    assert without_sound(audio) is not None


def test_text_of_mp4_becomes_subrip(tmp_path: Path) -> None:
    def after(out: Any) -> None:
        for number, text in enumerate((b"\0\5Hello", b"\0\0", b"\0\3you\0\0\0\x0cstyl\0\0\0\0")):
            packet = av.Packet(text)
            packet.pts = packet.dts = 40 * number
            packet.duration, packet.time_base, packet.stream = 40, Fraction(1, 1000), out.streams[1]
            out.mux(packet)

    data = clip("mov", "libx264", before=lambda out: out.add_mux_stream("mov_text"), after=after)
    with open_video(data) as reader:
        audio = reader.audio()
        assert [str(note) for note in reader.notes] == [
            "track: subtitles: fonts and colours of their text are left out"
        ]  # fmt: skip
    assert audio is not None
    with av.open(io.BytesIO(audio)) as kept:
        assert [bytes(p) for p in kept.demux(kept.streams.subtitles[0]) if p.size] == [b"Hello", b"you"]


def test_other_tracks_are_noted() -> None:
    def second(out: Any) -> None:
        extra = out.add_stream("ffv1", rate=25)
        extra.width, extra.height, extra.pix_fmt = 16, 16, "gray"

    assert [note.kind for note in notes_of(clip(before=second))] == ["track"]

    def datum(out: Any) -> None:
        packet = av.Packet(b"48.1 11.5")
        packet.pts = packet.dts = 0
        packet.duration, packet.time_base, packet.stream = 40, Fraction(1, 1000), out.streams[1]
        out.mux(packet)

    data = clip("mp4", "libx264", before=lambda out: out.add_data_stream("bin_data"), after=datum)
    assert [note.kind for note in notes_of(data)] == ["track"]


# ---- sound


@pytest.mark.parametrize(("codec", "format"), [("adpcm_ima_qt", "mov"), ("pcm_alaw", "mov"), ("pcm_mulaw", "mov")])
def test_sound_that_matroska_has_no_name_for_is_the_same_samples(codec: str, format: str, tmp_path: Path) -> None:
    data = clip(format, "libx264", sound=codec)
    with open_video(data) as reader:
        audio = reader.audio()
        assert [note.kind for note in reader.notes if note.kind == "sound"] == ["sound"]
    assert audio is not None
    assert np.array_equal(samples(audio), samples(data))


def test_alac_keeps_its_last_samples_in_mp4(tmp_path: Path) -> None:
    data = clip("mov", "libx264", sound="alac")
    copy(data, tmp_path / "a.mp4")
    assert len(samples(data)) == len(samples(tmp_path / "a.mp4")) == 9600


def test_sound_before_the_picture_is_kept_in_mp4(tmp_path: Path) -> None:
    data = clip(sound="pcm_s16le", delay=0.2)
    with open_video(data) as reader:
        reader.audio()
        assert reader.info.early == Fraction(1, 5)
    assert copy(data, tmp_path / "a.mov") == []
    assert np.array_equal(samples(tmp_path / "a.mov"), samples(data))
    with open_video(tmp_path / "a.mov") as back:
        back.audio()
        assert back.info.early == Fraction(1, 5)  # the picture is as late as it was


def test_pieces_of_sound() -> None:
    buffer = io.BytesIO()
    options = {"avoid_negative_ts": "disabled", "cluster_time_limit": "500"}
    with av.open(buffer, "w", format="matroska", container_options=options) as out:
        audio: Any = out.add_stream("pcm_s16le", rate=48000)
        audio.codec_context.layout = "mono"
        for packet in tone(audio, 2.0):
            out.mux(packet)
    data = buffer.getvalue()
    pieces = pieces_of(data)
    sizes = [len(piece) for piece in pieces]
    assert len(pieces) >= 4 and b"".join(pieces) == data == joined(pieces, sizes)
    lost = joined([*pieces[:2], None, *pieces[3:]], sizes)
    assert len(lost) == len(data)
    with av.open(io.BytesIO(lost)) as container:
        times = [float(packet.pts * packet.time_base) for packet in container.demux() if packet.size]
    with av.open(io.BytesIO(data)) as container:
        whole = [float(packet.pts * packet.time_base) for packet in container.demux() if packet.size]
    assert times[0] == 0 and times[-1] == whole[-1] and 0 < len(whole) - len(times) < len(whole) / 2
    assert pieces_of(b"no Matroska") == [b"no Matroska"]


# ---- pictures


def test_transparency_beside_frames_is_refused() -> None:
    data = clip("webm", "libvpx-vp9", before=lambda out: out.streams[0].metadata.update({"alpha_mode": "1"}))
    with pytest.raises(MediaError, match="transparency.*-pix_fmt yuv420p"):
        open_video(data)


def test_a_crop_of_the_container_is_applied() -> None:
    data = bytearray(clip("mp4", "libx264"))
    box = struct.pack(">I4s8i", 40, b"clap", 12, 1, 8, 1, 0, 1, 0, 1)
    at = data.index(b"avc1", data.index(b"stsd")) - 4
    size = struct.unpack(">I", data[at : at + 4])[0]
    data[at + size : at + size] = box
    for name in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        place = data.index(name, data.index(b"moov")) - 4
        data[place : place + 4] = struct.pack(">I", struct.unpack(">I", data[place : place + 4])[0] + len(box))
    with open_video(bytes(data)) as reader:
        assert (reader.info.width, reader.info.height) == (12, 8)
        frames = list(reader)
    assert [plane.shape for plane in frames[0].planes] == [(8, 12), (4, 6), (4, 6)]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.y4m"])
def test_the_place_of_chroma_is_kept(name: str, tmp_path: Path) -> None:
    planes = frames_of(np.zeros((3, 16, 16), np.uint8))[1]
    info = VideoInfo(16, 16, "yuv420p", Fraction(1, 25), Fraction(25), {"chroma": 3})
    with VideoWriter(tmp_path / name, info) as writer:
        for frame in planes:
            chroma = np.full((8, 8), 128, np.uint8)
            writer.write(type(frame)((frame.planes[0], chroma, chroma), frame.pts, frame.duration))
    with open_video(tmp_path / name) as reader:
        assert reader.info.color["chroma"] == 3


# ---- times


def test_avi_has_its_frames_at_a_constant_rate() -> None:
    def reordered(out: Any) -> None:
        out.streams[0].codec_context.max_b_frames = 2

    data = clip("avi", "libx264", n_frames=8, before=reordered, options={"x264-params": "b-adapt=0:scenecut=0"})
    with open_video(data) as reader:
        assert [(frame.pts, frame.duration) for frame in reader] == [(t, 1) for t in range(8)]
        assert [note.kind for note in reader.notes] == ["time"]
        values = [int(frame.planes[0].mean()) for frame in reader]
        assert values == sorted(values)
    with open_video(clip("avi", "ffv1")) as reader:
        assert [frame.pts for frame in reader] == list(range(5))
        assert reader.notes == ()


def test_order_of_decoding() -> None:
    order = OrderOfDecoding()
    given = []
    for stamp in (0, 3, 1, 2):
        order.sent(stamp)
        if stamp:
            given.append(order.next())
    given.append(order.next())
    assert given == [0, 1, 2, 3] and order.next() is None


# ---- damage, and files that are none


def test_a_file_that_ends_early_is_cut(tmp_path: Path) -> None:
    data = clip(n_frames=20, options={"level": "3"})
    notes = notes_of(data[: len(data) * 2 // 3])
    assert {note.kind for note in notes} == {"cut"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (clip("mp4", "libx264").partition(b"moov")[0][:-4], "index .moov. is missing"),
        (b"\x47" + bytes(187) + b"\x47" + bytes(300), "transport stream.*OUT.mkv"),
        (b"FLV\x01" + bytes(100), "FLV"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(50), "Windows Media"),
        (b"<!DOCTYPE html>" + bytes(50), "not a video"),
    ],
)
def test_what_is_no_video_is_said(data: bytes, words: str) -> None:
    with pytest.raises(MediaError, match=words):
        open_video(data)


def test_a_mistake_of_ours_is_not_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*given: Any) -> None:
        raise TypeError("a mistake")

    monkeypatch.setattr(video_file, "kind_of", wrong)
    with pytest.raises(TypeError, match="a mistake"):
        open_video(clip())


def test_late_refusals_say_where() -> None:
    """And `check` finds them before anything is encoded."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream: Any = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        packets = []
        for size in (32, 16):
            context: Any = av.CodecContext.create("mjpeg", "w")
            context.width = context.height = size
            context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 25)
            picture = av.VideoFrame.from_ndarray(np.full((size * 3 // 2, size), 90, np.uint8), "yuvj420p")
            packets += [*context.encode(picture), *context.encode(None)]
        for number, data in enumerate(map(bytes, packets)):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            out.mux(packet)
    with (
        open_video(buffer.getvalue()) as reader,
        pytest.raises(MediaError, match=r"from frame 1 on \(0.040 s\).*ffmpeg"),
    ):
        reader.check()


def rich(format: str, pixels: str, words: bytes, subtitle: str, change: Change = lambda context: None) -> bytes:
    """A file that is refused, with two tracks of sound, subtitles and, in MP4, a track of data."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as out:
        video: Any = out.add_stream("ffv1" if format == "matroska" else "libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, pixels
        change(video.codec_context)
        sounds: list[Any] = [out.add_stream("aac", rate=48000) for _ in range(2)]
        for sound in sounds:
            sound.codec_context.layout = "mono"
        text = out.add_mux_stream(subtitle)
        data: Any = out.add_data_stream("bin_data") if format == "mp4" else None
        for t in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 50 * t, np.uint8), "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = t, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for sound in sounds:
            for packet in tone(sound, 0.1):
                out.mux(packet)
        for stream, content in ((text, words), (data, b"48.1")):
            if stream is not None:
                packet = av.Packet(content)
                packet.pts = packet.dts = 0
                packet.duration, packet.time_base, packet.stream = 40, Fraction(1, 1000), stream
                out.mux(packet)
    return buffer.getvalue()


def interlaced(context: Any) -> None:
    context.flags |= 1 << 29 | 1 << 18


@pytest.mark.parametrize(
    ("made", "has"),
    [
        (("matroska", "yuv420p10le", b"hello", "subrip"), "-pix_fmt yuv420p"),
        (("matroska", "yuva420p", b"hello", "subrip"), "-pix_fmt yuv420p OUT.mkv, which drops the transparency"),
        (("mp4", "yuv420p10le", b"\0\5hello", "mov_text"), "-map -0:d -c copy -c:v:0 ffv1 -pix_fmt yuv420p -c:s srt"),
        (("mp4", "yuv420p", b"\0\5hello", "mov_text", interlaced), "-filter:v:0 bwdif"),
    ],
    ids=["10 bits", "alpha", "10 bits, mp4", "interlaced"],
)
def test_recommended_commands_keep_all_tracks(made: tuple[Any, ...], has: str, tmp_path: Path) -> None:
    """And where there is an ffmpeg, what they make is taken: with both tracks of sound and the subtitles."""
    data = rich(*made)
    with pytest.raises(MediaError, match="ffmpeg") as caught:
        open_video(data)
    words = str(caught.value)
    command = words[words.index("ffmpeg") : words.index("OUT.mkv") + len("OUT.mkv")]
    assert has in words and "-map 0" in command and "-c copy" in command
    if shutil.which("ffmpeg"):
        (tmp_path / "IN").write_bytes(data)
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=60)
        with open_video(tmp_path / "OUT.mkv") as reader:
            reader.check()
            assert reader.n_frames in (4, 8)  # bwdif makes a frame of each field
            audio = reader.audio()
        with av.open(io.BytesIO(audio or b"")) as kept:
            assert [stream.type for stream in kept.streams] == ["audio", "audio", "subtitle"]


# ---- folders


def pictures(folder: Path, names: list[str], **more: Any) -> Path:
    folder.mkdir()
    for name in names:
        Image.new("RGB", (8, 6), (200, 30, 90)).save(folder / name, **more)
    return folder


def test_folders_say_what_they_miss(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", ["1.png", "2.png", "5.png", "6.PNG"])
    (folder / "notes.txt").write_text("x")
    assert [note.kind for note in notes_of(folder)] == ["time", "frames", "file"]
    with open_video(folder, Fraction(30000, 1001)) as reader:
        assert reader.info.frame_rate == Fraction(30000, 1001)
        assert str(reader.notes[0]).startswith("frames: no pictures of the numbers 3 to 4")
    tens = pictures(tmp_path / "b", ["a010.png", "a020.png", "a030.png"])
    assert [note.kind for note in notes_of(tens)] == ["time"]
    with open_video(pictures(tmp_path / "c", ["1.jpg", "2.jpg"])) as reader:
        assert len(list(reader)) == 2
    with pytest.raises(UsageError, match="--fps"):
        open_video(clip(), 24)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with open_video(pictures(tmp_path / "a", ["1.png", "2.png"], exif=exif)) as reader:
        assert (reader.info.width, reader.info.height) == (6, 8)
        assert len(list(reader)) == 2


# ---- PyAV


def test_what_pyav_no_longer_takes_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(av, "open", lambda *words, **more: given.update(more))

    class New:
        pass

    monkeypatch.setattr("av.container.InputContainer", New)
    ffmpeg.open_input("x")
    assert "metadata_errors" not in given
    monkeypatch.setattr(New, "metadata_errors", "strict", raising=False)
    ffmpeg.open_input("x")
    assert given["metadata_errors"] == "replace"
    assert ffmpeg.ratio(None) is None and ffmpeg.ratio(Fraction(2, 4)) == Fraction(1, 2)


# ---- samples that are written beside a picture


@pytest.mark.parametrize(
    ("sample", "suffix", "codec"),
    [
        *(("int16", ".mkv", "flac"), ("int16", ".mp4", "flac"), ("int16", ".mov", "alac")),
        *(("int24", ".mkv", "flac"), ("int24", ".mp4", "flac"), ("int24", ".mov", "alac")),
        *(("int32", ".mkv", "pcm_s32le"), ("int32", ".mov", "pcm_s32le"), ("float32", ".mkv", "pcm_f32le")),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_samples_are_written_without_loss(sample: Any, suffix: str, codec: str, channels: int, tmp_path: Path) -> None:
    info = AudioInfo(44100, channels, 10_001, sample=sample)
    scale = 1.0 if sample == "float32" else 2.0 ** (info.bits - 1)
    values = np.random.default_rng(channels).uniform(-1, 1, (10_001, channels)) * scale
    values = values.astype(info.dtype)
    blocks = [values[:7], values[7:9000], values[9000:]]
    start = Fraction(4417, 44100)  # no whole milliseconds
    track = SoundTrack(info, start, lambda: iter(blocks), {"language": "eng"})
    video, frames = frames_of(np.zeros((5, 16, 16, 3), np.uint8), 25)
    with VideoWriter(tmp_path / f"a{suffix}", video, sounds=[track]) as writer:
        for frame in frames:
            writer.write(frame)
    assert [note.kind for note in writer.notes if note.kind != "chroma"] == []
    with open_video(tmp_path / f"a{suffix}") as reader:
        (back,) = reader.sounds()
        assert back.reader.info.format == codec.partition("_")[0]
        assert abs(back.start - start) < 1e-3 if suffix == ".mkv" else back.start == start
        assert np.array_equal(back.reader.read().samples, values)
        assert back.reader.info.tags["LANGUAGE"] == ("eng",)


@pytest.mark.parametrize(
    ("format", "sound"),
    [("matroska", "libopus"), ("matroska", "aac"), ("mp4", "aac"), ("mov", "pcm_s16le")],
)
@pytest.mark.parametrize("delay", [0.0, 0.12])
def test_sound_is_heard_where_ffmpeg_plays_it(format: str, sound: str, delay: float) -> None:
    """An encoder's delay is cut off, and what is left begins at its own time; delay: of the picture, in seconds."""
    data = clip(format, "libx264", sound=sound, delay=delay, options={"bf": "0"})
    with av.open(io.BytesIO(data)) as container:
        picture = next(container.decode(video=0))
        shown = Fraction(picture.pts * picture.time_base)
    with av.open(io.BytesIO(data)) as container:
        frame = next(container.decode(audio=0))
        expected = Fraction(frame.pts * frame.time_base) - shown
    with open_video(data) as reader:
        (track,) = reader.sounds()
        assert abs(track.start - expected) < 1e-3 and (abs(track.start) > 0.1) == (delay > 0)
        played = samples(data)[:9000]
        assert np.array_equal(track.reader.read(0, 9000).samples[:, 0], played)


def test_sound_that_cant_be_decoded_is_refused() -> None:
    data = clip("matroska", "ffv1", sound="flac").replace(b"A_FLAC", b"A_FLAX")
    with open_video(data) as reader, pytest.raises(MediaError, match="--sound copy keeps it as it is"):
        reader.sounds()
