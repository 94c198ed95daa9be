"""Coded sound: formats, types of sample, layouts; any start gives the same samples; other rates; sound of videos."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codec import media
from codec.errors import MediaError, UsageError
from codec.media import probe, probe_bytes
from codec.media.audio.reader import open_audio, probe_audio, read_audio
from codec.media.audio.resample import length_at, resample
from codec.media.audio.values import Audio
from codec.media.audio.writer import write_audio

from .making import Pipe, clip, coded, integers, lag, music, snr, stored, vorbis, wav

N = 150_001
LONG = music(N)
FILES: dict[str, bytes] = {
    "wav": wav(integers(LONG, 16).tobytes()),
    "flac": coded(LONG, "flac", "flac", bits=16),
    "flac in ogg": coded(LONG, "flac", "ogg", bits=16),
    "flac in matroska": coded(LONG, "flac", "matroska", bits=16),
    "alac": coded(LONG, "alac", "ipod", bits=16),
    "mp3": coded(LONG, "libmp3lame", "mp3"),
    "mp3 of few bits": coded(LONG[:, :1], "libmp3lame", "mp3", kbps=32),  # a frame needs many before it
    "aac": coded(LONG, "aac", "ipod"),
    "bare aac": coded(LONG, "aac", "adts"),
    "opus": coded(LONG, "libopus", "ogg"),
    "opus in webm": coded(LONG, "libopus", "webm"),
    "vorbis": vorbis(LONG),
    "wavpack": coded(LONG, "wavpack", "wv"),
}


@pytest.mark.parametrize("name", FILES)
def test_any_start_gives_the_same_samples(name: str) -> None:
    with open_audio(FILES[name]) as reader:
        whole = reader.read().samples
        assert len(whole) == reader.info.n_samples and whole.dtype == reader.info.dtype
        for start in (1, 1151, 4096, 44_100, 77_777, 100_000, len(whole) - 1500, len(whole) - 1, len(whole)):
            part = reader.read(start, start + 1000).samples
            np.testing.assert_array_equal(part, whole[start : start + 1000], str(start))
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(9973))), whole)
        assert not reader.notes
        reader.check()


@pytest.mark.parametrize("name", FILES)
def test_the_same_from_a_path_bytes_a_stream_and_a_probe(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sound"
    path.write_bytes(FILES[name])
    expected = read_audio(FILES[name]).samples
    sources: list[Any] = [path, str(path), probe(path), probe_bytes(FILES[name]), io.BufferedReader(Pipe(FILES[name]))]
    for source in sources:
        np.testing.assert_array_equal(read_audio(source).samples, expected)
    assert probe(path).medium == probe_bytes(FILES[name]).medium == "audio"
    assert probe_audio(path).format == read_audio(path).info.format


@pytest.mark.parametrize("name", ["mp3", "aac", "opus", "vorbis"])
def test_lossy_sound_is_float_near_what_was_coded(name: str) -> None:
    audio = read_audio(FILES[name])
    assert audio.info.sample == "float32" and audio.info.wav_sample == "int16"
    assert audio.info.format == name
    assert snr(audio.samples, LONG) > 15


@pytest.mark.parametrize("name", ["wav", "flac", "flac in ogg", "flac in matroska", "alac"])
def test_lossless_sound_is_what_was_coded(name: str) -> None:
    audio = read_audio(FILES[name])
    np.testing.assert_array_equal(audio.samples, integers(LONG, 16))
    assert audio.info.sample == audio.info.wav_sample == "int16"


def test_depths_of_flac() -> None:
    values = integers(LONG, 24)[:5000]
    audio = read_audio(coded(LONG[:5000], "flac", "flac", bits=24))
    assert audio.info.sample == "int24"
    np.testing.assert_array_equal(audio.samples, values)
    for subtype, bits in (("PCM_S8", 8), ("PCM_16", 16), ("PCM_24", 24)):
        deep = (values << 8) & -(1 << (32 - bits))
        audio = read_audio(stored(deep, "FLAC", subtype))
        assert audio.info.sample == ("int24" if bits == 24 else "int16")
        np.testing.assert_array_equal(audio.samples.astype(np.int64) << (32 - audio.info.bits), deep)


@pytest.mark.parametrize(("codec", "format"), [("flac", "flac"), ("libopus", "ogg"), ("aac", "ipod")])
def test_six_channels_in_their_order(codec: str, format: str) -> None:
    rate = 48000
    samples = np.zeros((rate, 6), np.float32)
    for channel in range(6):  # a tone in each, low enough for the low one
        samples[:, channel] = 0.3 * np.sin(2 * np.pi * (40 + 12 * channel) * np.arange(rate) / rate)
    audio = read_audio(coded(samples, codec, format, rate=rate))
    assert audio.info.layout == "5.1"
    assert all(snr(audio.to_float()[9000:30000, c], samples[9000:30000, c]) > 6 for c in range(6))


@pytest.mark.parametrize("channels", [7, 8])
@pytest.mark.parametrize("kind", ["vorbis", "flac", "wav"])
def test_eight_channels(kind: str, channels: int) -> None:
    samples = music(9000, channels)
    data = {
        "vorbis": vorbis(samples),
        "flac": stored(integers(samples, 16), "FLAC", "PCM_16"),
        "wav": stored(integers(samples, 16), "WAV", "PCM_16"),
    }[kind]
    audio = read_audio(data)
    assert audio.samples.shape == samples.shape and audio.info.layout == {7: "6.1", 8: "7.1"}[channels]
    if kind != "vorbis":
        np.testing.assert_array_equal(audio.samples, integers(samples, 16))


def test_flac_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(Audio.from_array(np.zeros((0, 2), np.int16), 32000, tags={"TITLE": ("T",)}), path)
    audio = read_audio(path)
    assert audio.samples.shape == (0, 2) and audio.info.rate == 32000 and audio.info.format == "flac"
    assert audio.info.tags == {"TITLE": ("T",)}
    with pytest.raises(MediaError, match="no sound in it that can be decoded"):
        read_audio(FILES["flac"][: FILES["flac"].index(b"\xff\xf8")])  # a file that was cut there


def test_mono_at_a_low_rate() -> None:
    samples = music(9001, 1, 16000)
    for codec, format in (("libmp3lame", "mp3"), ("aac", "ipod")):
        audio = read_audio(coded(samples, codec, format, rate=16000))
        assert audio.samples.shape == (9001, 1) and audio.info.rate == 16000
        assert lag(audio.samples[2000:7000], samples[2000:7000]) == 0


class TestOtherRates:
    @pytest.mark.parametrize("name", ["wav", "mp3"])
    @pytest.mark.parametrize("rate", [16000, 48000])
    def test_is_the_resampled_whole(self, name: str, rate: int) -> None:
        expected = resample(read_audio(FILES[name]).to_float(), 44100, rate)
        with open_audio(FILES[name], rate) as reader:
            assert reader.info.rate == rate and reader.info.sample == "float32"
            assert reader.info.n_samples == length_at(N, 44100, rate) == len(expected)
            np.testing.assert_array_equal(reader.read().samples, expected)
            for start in (20_001, len(expected) - 700):
                part = reader.read(start, start + 500).samples
                np.testing.assert_array_equal(part, expected[start : start + 500])
            assert not reader.notes

    def test_its_own_rate_changes_nothing(self) -> None:
        assert read_audio(FILES["flac"], 44100).info.sample == "int16"

    def test_a_file_that_ends_early(self) -> None:
        data = wav(integers(LONG, 16).tobytes(), n_bytes=8 * N)
        with open_audio(data, 22050) as reader:
            assert len(reader.read().samples) == reader.info.n_samples == length_at(N, 2, 1)
            assert [str(note) for note in reader.notes] == [
                f"cut: the file ends early: {N} of {2 * N} samples are missing"
            ]

    def test_a_pipe(self) -> None:
        data = wav(integers(LONG, 16).tobytes(), n_bytes=0xFFFFFFFF)
        with open_audio(io.BufferedReader(Pipe(data)), 22050) as reader:
            assert reader.info.n_samples is None
            assert len(reader.read().samples) == length_at(N, 2, 1) == reader.info.n_samples

    @pytest.mark.parametrize("rate", [0, -5, 10_000_000])
    def test_refused(self, rate: int) -> None:
        with pytest.raises(UsageError, match="expected samples a second"):
            open_audio(FILES["wav"], rate)


class TestVideos:
    @pytest.mark.parametrize("late", [Fraction(0), Fraction(1, 4), Fraction(1)])
    @pytest.mark.parametrize("format", ["matroska", "mp4"])
    def test_start_of_their_sound(self, format: str, late: Fraction) -> None:
        samples = music(44100)
        data = clip(samples, late, format)
        assert probe_bytes(data).medium == "video"
        with open_audio(data) as reader:
            audio = reader.read()
            assert not reader.notes
            delay = lag(audio.samples[20000:30000], samples[20000:30000], 1100)
            assert delay == (1024 if late and format == "mp4" else 0)  # where FFmpeg writes no edit list for it
            assert abs(reader.start + Fraction(delay, 44100) - late) < Fraction(1, 500)
        assert audio.info.format == "aac" and audio.info.rate == 44100
        assert 44100 <= len(audio.samples) - delay < 44100 + 1024

    def test_sound_alone_starts_at_0(self) -> None:
        assert all(open_audio(data).start == 0 for data in FILES.values())

    def test_no_sound(self) -> None:
        data = clip(music(4410), Fraction(0), "mp4")
        with pytest.raises(MediaError, match="the data: no sound in it"):
            open_audio(data, track=1)
        with pytest.raises(MediaError, match="a Y4M video"):
            open_audio(b"YUV4MPEG2 W4 H4 F25:1\nFRAME\n" + bytes(24))


class TestMedia:
    def test_files_of_nothing_but_sound(self, tmp_path: Path) -> None:
        for format, codec in (
            ("mp4", "aac"),
            ("mov", "alac"),
            ("matroska", "aac"),
            ("webm", "libopus"),
            ("ogg", "flac"),
        ):
            path = tmp_path / f"a.{format}"
            path.write_bytes(coded(LONG[:9000], codec, format))
            assert probe(path).medium == "audio", format
            with path.open("rb") as file:
                assert probe_bytes(file.read()).medium == "audio"
            assert read_audio(path).info.n_samples

    def test_videos_stay_videos(self, tmp_path: Path) -> None:
        for format in ("mp4", "matroska", "mov"):
            path = tmp_path / "a.mka"
            path.write_bytes(clip(LONG[:9000], Fraction(0), format))
            assert probe(path).medium == "video"
            for n_bytes in (0, 5, 40, 500):  # what is cut says less, and raises nothing
                assert probe_bytes(path.read_bytes()[:n_bytes]).medium in ("video", None)

    def test_suffixes(self) -> None:
        assert media.medium_of_suffix("talk.M4A") == "audio"
        assert media.MEDIA["audio"].writes == (".wav", ".flac", ".opus", ".ogg", ".oga", ".mp3")
        assert {".wav", ".flac", ".mp3", ".opus", ".m4a", ".aiff"} <= set(media.AUDIO_READS)


def test_an_array() -> None:
    audio = Audio.from_array(LONG, 44100)
    with open_audio(audio) as reader:
        assert reader.info.n_samples == N
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(1000, 5))), LONG[5:])


def test_what_is_behind_id3() -> None:
    tag = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128)
    for name in ("mp3", "bare aac", "flac"):
        audio = read_audio(tag + tag + FILES[name])
        np.testing.assert_array_equal(audio.samples, read_audio(FILES[name]).samples)


def test_formats_that_are_not_read() -> None:
    for start, words in (
        (b"caff\0\1\0\0", "a CAF file, which isn't read; convert it: ffmpeg -i IN OUT.flac"),
        (b"MAC \x96\x0f", "Monkey's Audio"),
    ):
        with pytest.raises(MediaError, match=words):
            open_audio(start + bytes(100))


def boxed(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def mp4_with(edits: list[tuple[int, int]], scale: int = 1000) -> bytes:
    """A file whose track of AAC has another edit list: durations in units of the file's scale, and starts."""
    data = coded(LONG, "aac", "ipod")
    at = data.index(b"moov") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    index = bytearray(data[at + 8 : at + size])
    where = index.index(b"mvhd") + 4 + 12
    index[where : where + 4] = scale.to_bytes(4, "big")
    index = index.replace(b"edts", b"free")
    track = index.index(b"trak") - 4
    n_track = int.from_bytes(index[track : track + 4], "big")
    listed = struct.pack(">II", 0, len(edits)) + b"".join(struct.pack(">Iii", *edit, 1 << 16) for edit in edits)
    body = bytes(index[track + 8 : track + n_track]) + (boxed(b"edts", boxed(b"elst", listed)) if edits else b"")
    return data[:at] + boxed(b"moov", bytes(index[:track]), boxed(b"trak", body), bytes(index[track + n_track :]))


class TestEditLists:
    raw = 1024 + N  # of what FFmpeg's own file says that its packets hold

    @pytest.mark.parametrize(
        ("edits", "scale", "skip", "n_samples"),
        [
            ([], 1000, 0, raw),
            ([(0, 1024)], 1000, 1024, N),
            ([(3402, 1024)], 1000, 1024, N),  # 150028 samples: the packets end before
            ([(3401, 1024)], 1000, 1024, N),  # within a millisecond
            ([(3000, 1024)], 1000, 1024, 132_300),
            ([(N - 100, 1024)], 44100, 1024, N - 100),
            ([(N + 100, 1024)], 44100, 1024, N),
            ([(44100, 2000)], 44100, 2000, 44100),
        ],
    )
    def test_first_and_last_sample(self, edits: list[tuple[int, int]], scale: int, skip: int, n_samples: int) -> None:
        with open_audio(mp4_with(edits, scale)) as reader:
            assert reader.info.n_samples == n_samples
            audio = reader.read()
            assert not reader.notes
        assert lag(audio.samples[20000:30000], LONG[20000:30000], 1100) == 1024 - skip

    def test_a_late_start_is_noted(self) -> None:
        with open_audio(mp4_with([(500, -1), (0, 1024)])) as reader:
            assert reader.info.n_samples == N
            assert [str(note) for note in reader.notes] == ["time: 0.500 seconds before the sound begins: left out"]

    @pytest.mark.parametrize("edits", [[(100, 1024), (100, 5000)], [(0, 1 << 30)], [(0, -5)]])
    def test_what_is_no_beginning(self, edits: list[tuple[int, int]]) -> None:
        with open_audio(mp4_with(edits)) as reader:
            assert reader.info.n_samples == self.raw
            assert [note.kind for note in reader.notes] == ["time"]


def test_a_probe_reads_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NDArray[Any]:
        raise AssertionError("samples were read")

    monkeypatch.setattr("codec.media.audio.coded.CodedReader._parts", refuse)
    monkeypatch.setattr("codec.media.audio.pcm.PcmReader._parts", refuse)
    for name in ("wav", "flac", "mp3", "opus", "aac"):
        assert probe_audio(FILES[name]).n_samples == N, name
