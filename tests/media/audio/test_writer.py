"""Sound written: every format read back by other programs' libraries, exact lengths, nothing half written."""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from codec.errors import MediaError, UsageError
from codec.files import TargetExistsError
from codec.media.audio import riff
from codec.media.audio.layouts import MASKS
from codec.media.audio.ogg import OggWriter, checksum
from codec.media.audio.reader import read_audio
from codec.media.audio.resample import length_at, resample
from codec.media.audio.tagging import TOTALS
from codec.media.audio.values import LAYOUTS, Audio, AudioInfo, Cover, SampleType, from_float, to_float
from codec.media.audio.writer import open_writer, write_audio

TAGS = {
    "TITLE": ("Über den Wölken",),
    "ARTIST": ("Ada", "Bert"),
    "ALBUM": ("Album",),
    "TRACKNUMBER": ("3",),
    "TRACKTOTAL": ("12",),
    "DATE": ("1998-05-01",),
    "GENRE": ("Jazz",),
    "COMMENT": ("first", "second"),
    "REPLAYGAIN_TRACK_GAIN": ("-6.50 dB",),
    "MY OWN": ("日本語",),
}
COVER = Cover(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 1000, "image/jpeg")
LOUDSPEAKERS = ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR")  # by the bits of masks
FORMATS = ("wav", "flac", "opus", "mp3")
EXACT: list[tuple[str, SampleType]] = [
    ("wav", "int16"),
    ("wav", "int24"),
    ("wav", "int32"),
    ("wav", "float32"),
    ("flac", "int16"),
    ("flac", "int24"),
]


def integers(n: int, channels: int, sample: SampleType, seed: int = 0) -> Audio:
    """Noise of the whole range of a type of sample, its ends among it."""
    rng = np.random.default_rng(seed)
    if sample == "float32":
        return Audio.from_array(rng.uniform(-1.5, 1.5, (n, channels)).astype(np.float32), 44100)
    bits = {"int16": 16, "int24": 24, "int32": 32}[sample]
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    array = rng.integers(low, high + 1, (n, channels)).astype(np.int16 if bits == 16 else np.int32)
    array[:1], array[1:2] = low, high
    return Audio.from_array(array, 44100, bits=bits)


def music(n: int, rate: int, channels: int = 2) -> NDArray[np.float32]:
    """Tones that rise, another in each channel, with a click and some noise: no piece of it is like another."""
    t = np.arange(n)[:, None] / rate
    begin = 200.0 + 60 * np.arange(channels)[None]
    noise = np.random.default_rng(3).standard_normal((n, channels))
    samples = 0.4 * np.sin(2 * np.pi * (begin + 150 * t) * t) + 0.005 * noise
    if n > 2000:
        samples[n // 3 : n // 3 + 20] += 0.3
    return samples.astype(np.float32)


def by_av(path: Path | io.BytesIO) -> NDArray[Any]:
    """All samples by FFmpeg, (n, channels)."""
    with av.open(path if isinstance(path, io.BytesIO) else str(path)) as file:
        channels = file.streams.audio[0].codec_context.channels
        parts = [samples_of(frame, channels) for frame in file.decode(audio=0)]
    return np.concatenate(parts) if parts else np.zeros((0, channels))


def samples_of(frame: av.AudioFrame, channels: int) -> NDArray[Any]:
    if not frame.format.is_planar:
        return frame.to_ndarray().reshape(-1, channels)
    # PyAV 18 finds a ninth plane where there are eight: to_ndarray() reads beyond its memory.
    assert frame.format.name == "fltp"
    planes = [np.frombuffer(bytes(plane), np.float32)[: frame.samples] for plane in frame.planes[:channels]]
    return np.stack(planes, axis=1)


def by_sndfile(path: Path, sample: SampleType) -> NDArray[Any]:
    dtype: Any = {"int16": "int16", "float32": "float32"}.get(sample, "int32")
    array: Any = soundfile.read(path, dtype=dtype, always_2d=True)[0]
    return array >> 8 if sample == "int24" else array


def snr(samples: NDArray[Any], reference: NDArray[Any]) -> float:
    """dB of a reference above what samples differ from it."""
    noise = np.mean(np.square(samples.astype(np.float64) - reference))
    return float(10 * np.log10(np.mean(np.square(reference.astype(np.float64))) / max(noise, 1e-30)))


def lag(samples: NDArray[Any], reference: NDArray[Any]) -> int:
    """Samples by which the first is later than the second, by the peak of their cross-correlation."""
    size = 1 << (len(samples) + len(reference)).bit_length()
    spectrum = np.fft.rfft(samples[:, 0], size) * np.conj(np.fft.rfft(reference[:, 0], size))
    peak = int(np.argmax(np.fft.irfft(spectrum, size)))
    return peak if peak < size // 2 else peak - size


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- lossless formats


@pytest.mark.parametrize(("format", "sample"), EXACT)
@pytest.mark.parametrize("channels", range(1, 9))
def test_lossless_formats_are_exact(tmp_path: Path, format: str, sample: SampleType, channels: int) -> None:
    audio = integers(10_007, channels, sample, channels)
    path = tmp_path / f"a.{format}"
    assert write_audio(audio, path) == ()
    np.testing.assert_array_equal(by_sndfile(path, sample), audio.samples)
    decoded = by_av(path)
    np.testing.assert_array_equal(decoded >> 8 if sample == "int24" else decoded, audio.samples)
    info = soundfile.info(path)
    subtype = {"int16": "PCM_16", "int24": "PCM_24", "int32": "PCM_32", "float32": "FLOAT"}[sample]
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44100, channels, 10_007, subtype)


@pytest.mark.parametrize(("format", "sample"), EXACT)
@pytest.mark.parametrize("n", [0, 1, 2, 4608, 4609])
def test_any_length(tmp_path: Path, format: str, sample: SampleType, n: int) -> None:
    audio = integers(n, 1, sample)
    path = tmp_path / f"a.{format}"
    write_audio(audio, path)
    if n or format == "wav":  # libsndfile reads no FLAC without samples, its own neither
        np.testing.assert_array_equal(by_sndfile(path, sample), audio.samples)
    assert by_av(path).shape == (n, 1)
    if format == "wav":
        data = path.read_bytes()
        assert len(data) % 2 == 0 and struct.unpack("<I", data[4:8])[0] == len(data) - 8


@pytest.mark.parametrize("sample", ["int16", "int24"])
def test_the_header_of_flac_is_that_of_libflac(tmp_path: Path, sample: SampleType) -> None:
    """Rate, channels, bits, length and the MD5 of all samples."""
    audio = integers(20_011, 3, sample)
    write_audio(audio, tmp_path / "ours.flac")
    array = audio.samples << 8 if sample == "int24" else audio.samples
    soundfile.write(tmp_path / "theirs.flac", array, 44100, subtype="PCM_24" if sample == "int24" else "PCM_16")
    ours, theirs = ((tmp_path / name).read_bytes()[8:42] for name in ("ours.flac", "theirs.flac"))
    assert ours[10:] == theirs[10:]
    n_smallest, n_largest = int.from_bytes(ours[4:7], "big"), int.from_bytes(ours[7:10], "big")
    assert 0 < n_smallest < n_largest < (tmp_path / "ours.flac").stat().st_size


@pytest.mark.parametrize("layout", [name for name, mask in MASKS.items() if name not in ("mono", "stereo")])
@pytest.mark.parametrize("format", ["wav", "flac"])
def test_layouts_are_kept(tmp_path: Path, format: str, layout: str) -> None:
    channels = MASKS[layout].bit_count()
    info = AudioInfo(48000, channels, 100, layout)
    write_audio(Audio(np.zeros((100, channels), np.int16), info), tmp_path / f"a.{format}")
    with av.open(str(tmp_path / f"a.{format}")) as file:
        assert file.streams.audio[0].layout.name == layout


def test_masks_are_ffmpegs() -> None:
    """The order of the bits is that of the channels, too."""
    bits = {name: 1 << index for index, name in enumerate(LOUDSPEAKERS)}
    for layout, mask in MASKS.items():
        channels = [bits[channel.name] for channel in av.AudioLayout(layout).channels]
        assert channels == sorted(channels) and sum(channels) == mask, layout
    assert set(LAYOUTS.values()) <= set(MASKS)


@pytest.mark.parametrize("bits", [16, 24, 32, "float"])
@pytest.mark.parametrize("sample", ["int16", "int24", "int32", "float32"])
def test_bits_that_are_asked_for(tmp_path: Path, bits: Any, sample: SampleType) -> None:
    audio = integers(3000, 2, sample)
    path = tmp_path / "a.wav"
    notes = write_audio(audio, path, bits=bits)
    if bits == "float":
        expected: NDArray[Any] = to_float(audio.samples, audio.info.bits)
        stored = by_sndfile(path, "float32")
    else:
        scale = 1.0 if sample == "float32" else 2.0 ** (1 - audio.info.bits)
        expected = from_float(audio.samples.astype(np.float64) * scale, bits)
        stored = by_sndfile(path, "int16" if bits == 16 else "int24" if bits == 24 else "int32")
    np.testing.assert_array_equal(stored, expected)
    n_clipped = int((np.abs(audio.samples) > 1).sum()) if sample == "float32" and bits != "float" else 0
    assert [note.words.split()[0] for note in notes] == ([str(n_clipped)] if n_clipped else [])
    with pytest.raises(UsageError, match="bits 12 of WAV; expected one of 16, 24, 32, float"):
        write_audio(audio, tmp_path / "b.wav", bits=12)


def test_24_bits_that_have_more(tmp_path: Path) -> None:
    with (
        pytest.raises(MediaError, match=r"a\.wav: samples beyond 24 bits"),
        open_writer(tmp_path / "a.wav", AudioInfo(44100, 1, 1000, sample="int24")) as writer,
    ):
        writer.write(integers(1000, 1, "int32").samples)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("sample", ["int32", "float32"])
def test_flac_says_that_it_rounds(tmp_path: Path, sample: SampleType) -> None:
    audio = integers(1000, 1, sample)
    notes = write_audio(audio, tmp_path / "a.flac")
    assert [note.kind for note in notes] == (["depth"] if sample == "int32" else ["depth", "sound"])
    assert "rounded to 24 bits" in notes[0].words
    scale = 1.0 if sample == "float32" else 2.0**-31
    expected = from_float(audio.samples.astype(np.float64) * scale, 24)
    np.testing.assert_array_equal(by_sndfile(tmp_path / "a.flac", "int24"), expected)


def test_the_sound_of_a_lossy_codec_has_16_bits(tmp_path: Path) -> None:
    info = AudioInfo(48000, 1, 5000, sample="float32", format="opus")
    audio = Audio(music(5000, 48000, 1), info)
    for format in ("wav", "flac"):
        assert write_audio(audio, tmp_path / f"a.{format}") == ()
        assert soundfile.info(tmp_path / f"a.{format}").subtype == "PCM_16"


# ---- WAV, further


def test_a_wav_beyond_4_gib_is_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(riff, "_OPEN", 20_000)  # as if sizes were so small
    monkeypatch.setattr(riff, "_LONG", 10_000)
    opened = struct.pack("<I", 20_000)
    for n_samples in (15_000, None):
        audio = integers(15_000, 1, "int16")
        path = tmp_path / f"{n_samples}.wav"
        with open_writer(path, AudioInfo(44100, 1, n_samples)) as writer:
            writer.write(audio.samples)
        data = path.read_bytes()
        assert data[:8] == b"RF64" + opened and data[12:16] == b"ds64"
        path.write_bytes(data.replace(opened, b"\xff\xff\xff\xff"))
        np.testing.assert_array_equal(by_sndfile(path, "int16"), audio.samples)
        np.testing.assert_array_equal(by_av(path), audio.samples)
    with (
        pytest.raises(MediaError, match="announced"),
        open_writer(tmp_path / "b.wav", AudioInfo(44100, 1, 10)) as writer,
    ):
        writer.write(audio.samples)
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize("announced", [None, 3, 100_000])
def test_a_length_that_is_not_known_before(tmp_path: Path, announced: int | None) -> None:
    audio = integers(30_001, 2, "int24")
    for format in ("wav", "flac"):
        info = AudioInfo(44100, 2, announced, sample="int24")
        with open_writer(tmp_path / f"a.{format}", info) as writer:
            for at in range(0, 30_001, 777):
                writer.write(audio.samples[at : at + 777])
        assert writer.n_samples == 30_001
        np.testing.assert_array_equal(by_sndfile(tmp_path / f"a.{format}", "int24"), audio.samples)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-P", "-c", code, *arguments], capture_output=True, timeout=120, check=False)


PIPE = """
import sys, numpy as np
from codec.media.audio.values import AudioInfo
from codec.media.audio.writer import open_writer
announced, format = eval(sys.argv[1]), sys.argv[2]
with open_writer("-", AudioInfo(48000, 2, announced), format=format) as writer:
    for k in range(4):
        writer.write((np.arange(2000, dtype=np.int16) + k * 2000).reshape(-1, 2))
"""
PIPED = np.arange(8000, dtype=np.int16).reshape(-1, 2)


@pytest.mark.parametrize("announced", [None, 4000])
def test_wav_on_stdout(tmp_path: Path, announced: int | None) -> None:
    result = run(PIPE, repr(announced), "wav")
    assert result.returncode == 0, result.stderr.decode()
    sizes = struct.unpack("<I", result.stdout[4:8])
    assert sizes == ((0xFFFFFFFF,) if announced is None else (len(result.stdout) - 8,))
    np.testing.assert_array_equal(by_av(io.BytesIO(result.stdout)), PIPED)
    wrong = run(PIPE, "3999", "wav")
    assert wrong.returncode == 1 and b"4000 samples came where 3999 were announced" in wrong.stderr


def test_other_formats_on_stdout() -> None:
    flac = run(PIPE, "None", "flac")
    np.testing.assert_array_equal(by_av(io.BytesIO(flac.stdout)), PIPED)
    opus = run(PIPE, "None", "opus")
    assert by_av(io.BytesIO(opus.stdout)).shape == (4000, 2)
    mp3 = run(PIPE, "None", "mp3")
    assert mp3.stdout == b"" and b"MP3 is written in place, which stdout can't be" in mp3.stderr


# ---- lossy formats: exact lengths, no delay

LENGTHS = [1, 47, 500, 959, 960, 961, 1105, 1152, 1153, 1199, 5000, 48000 * 3 + 13]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", ["opus", "mp3"])
def test_lossy_formats_keep_length_and_place(tmp_path: Path, format: str, channels: int, n: int) -> None:
    samples = music(n, 48000, channels)
    path = tmp_path / f"a.{format}"
    assert write_audio(Audio.from_array(samples, 48000), path, kbps=128) == ()
    for decoded in (by_av(path), by_sndfile(path, "float32")):
        assert decoded.shape == samples.shape
        if n > 40:
            assert snr(decoded, samples) > 15
        if n >= 5000:
            assert lag(decoded, samples) == 0
            quarter = len(samples) // 4
            assert snr(decoded[:quarter], samples[:quarter]) > 20 and snr(decoded[-quarter:], samples[-quarter:]) > 20


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100])
def test_rates_of_mp3(tmp_path: Path, rate: int) -> None:
    for n in (48, 577, 1153, rate + 1):
        samples = music(n, rate)
        assert write_audio(Audio.from_array(samples, rate), tmp_path / "a.mp3", replace=True) == ()
        decoded = by_av(tmp_path / "a.mp3")
        assert decoded.shape == samples.shape and snr(decoded, samples) > 15
        assert soundfile.info(tmp_path / "a.mp3").samplerate == rate


@pytest.mark.parametrize(
    ("format", "rate", "written"),
    [
        *(("opus", rate, 48000) for rate in (8000, 22050, 44100, 96000)),
        *(("mp3", rate, written) for rate, written in ((12345, 16000), (64000, 48000), (88200, 44100), (96000, 48000))),
    ],
)
def test_other_rates_are_resampled(tmp_path: Path, format: str, rate: int, written: int) -> None:
    samples = music(rate * 2 + 1, rate, 1)
    path = tmp_path / f"a.{format}"
    notes = write_audio(Audio.from_array(samples, rate), path)
    assert [note.kind for note in notes] == ["sound"]
    assert f"no {rate} samples a second: resampled to {written}" in notes[0].words
    decoded, wanted = by_av(path), resample(samples, rate, written)
    assert decoded.shape == (length_at(len(samples), rate, written), 1)
    assert lag(decoded, wanted) == 0 and snr(decoded, wanted) > 15
    if format == "opus":
        assert struct.pack("<I", rate) in path.read_bytes()[:64]  # OpusHead names the rate of the source


@pytest.mark.parametrize("format", FORMATS)
def test_blocks_give_the_file_that_the_whole_gives(tmp_path: Path, format: str) -> None:
    samples = music(30_000, 44100)
    if format in ("wav", "flac"):
        samples = from_float(samples, 16)
    info = Audio.from_array(samples, 44100, tags=TAGS, cover=COVER).info
    for name, sizes in (("whole", [30_000]), ("blocks", [1, 7, 0, 960, 1152, 5000]), ("again", [30_000])):
        with open_writer(tmp_path / f"{name}.{format}", info) as writer:
            at = index = 0
            while at < len(samples):
                block = samples[at : at + sizes[index % len(sizes)]]
                writer.write(block)
                at, index = at + len(block), index + 1
    whole = (tmp_path / f"whole.{format}").read_bytes()
    assert (tmp_path / f"blocks.{format}").read_bytes() == whole
    assert (tmp_path / f"again.{format}").read_bytes() == whole


@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_of_opus(tmp_path: Path, channels: int) -> None:
    """Each channel comes back where it was."""
    n = 30_000
    samples = np.zeros((n, channels), np.float32)
    for index in range(channels):
        hertz = 40 + 5 * index if LAYOUTS[channels].endswith(".1") and index == 3 else 300 + 137 * index
        samples[:, index] = 0.3 * np.sin(2 * np.pi * hertz * np.arange(n) / 48000)
    write_audio(Audio.from_array(samples, 48000), tmp_path / "a.opus", kbps=96 * channels)
    decoded = by_av(tmp_path / "a.opus")
    assert decoded.shape == samples.shape
    for index in range(channels):
        assert snr(decoded[:, index], samples[:, index]) > 10, f"channel {index} of {channels}"


def test_kbps(tmp_path: Path) -> None:
    samples = music(48000 * 4, 48000) + np.random.default_rng(1).uniform(-0.1, 0.1, (48000 * 4, 2)).astype(np.float32)
    audio = Audio.from_array(samples, 48000)
    for format, rates in (("opus", (24, 64, 128)), ("mp3", (64, 128, 320))):
        for kbps in rates:
            path = tmp_path / f"{kbps}.{format}"
            write_audio(audio, path, kbps=kbps)
            assert path.stat().st_size * 8 / 4 / 1000 == pytest.approx(kbps, rel=0.2)
    assert write_audio(audio, tmp_path / "default.mp3") == ()
    assert (tmp_path / "default.mp3").stat().st_size * 8 / 4000 == pytest.approx(192, rel=0.03)
    for target, kbps, words in (
        ("a.mp3", 100, "kbps 100 of MP3 at 48000 Hz; expected one of 32, 40, 48"),
        ("a.opus", 600, "kbps 600 of Opus; expected 12 to 510 for 2 channels"),
        ("a.opus", 0, "kbps 0 of Opus"),
        ("a.flac", 64, "FLAC is lossless and has no kbps"),
        ("a.wav", 64, "WAV is lossless and has no kbps"),
    ):
        with pytest.raises(UsageError, match=words):
            write_audio(audio, tmp_path / target, kbps=kbps)


def test_lossy_formats_of_nothing(tmp_path: Path) -> None:
    for format in ("opus", "mp3"):
        write_audio(Audio.from_array(np.zeros((0, 2), np.float32), 48000), tmp_path / f"a.{format}")
        assert by_av(tmp_path / f"a.{format}").shape == (0, 2)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_tag_of_lame(tmp_path: Path, channels: int) -> None:
    """Frames, delay, padding and the checksum, which players other than FFmpeg look at."""
    write_audio(Audio.from_array(music(1153, 44100, channels), 44100), tmp_path / "a.mp3")
    data = (tmp_path / "a.mp3").read_bytes()
    at = data.index(b"Info")
    n_frames = int.from_bytes(data[at + 8 : at + 12], "big")
    delay, padding = divmod(int.from_bytes(data[at + 141 : at + 144], "big"), 1 << 12)
    assert delay == 576 and n_frames * 1152 == delay + 1153 + padding
    value = 0
    for byte in data[: at + 154]:
        for bit in range(8):
            value = value >> 1 ^ (0xA001 if (value ^ byte >> bit) & 1 else 0)
    assert int.from_bytes(data[at + 154 : at + 156], "big") == value


# ---- Ogg pages


def pages(data: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Flags, position, table and content of each page, its checksum checked bit by bit."""
    at = 0
    while at < len(data):
        assert data[at : at + 4] == b"OggS"
        n_lengths = data[at + 26]
        lengths = data[at + 27 : at + 27 + n_lengths]
        end = at + 27 + n_lengths + sum(lengths)
        page = data[at : at + 22] + bytes(4) + data[at + 26 : end]
        value = 0
        for byte in page:
            value ^= byte << 24
            for _ in range(8):
                value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
        assert struct.unpack("<I", data[at + 22 : at + 26]) == (value,) == (checksum(page),)
        yield data[at + 5], struct.unpack("<q", data[at + 6 : at + 14])[0], lengths, data[at + 27 + n_lengths : end]
        at = end


def test_pages_of_ogg() -> None:
    file = io.BytesIO()
    ogg = OggWriter(file, serial=7, samples_of_page=1000)
    ogg.header(b"h" * 19)
    ogg.header(b"t" * 255 * 300)
    for index, size in enumerate([0, 1, 255, 254, 1000, 300]):
        ogg.packet(bytes([index]) * size, 300 * (index + 1))
    ogg.finish(1750)
    listed = list(pages(file.getvalue()))
    assert [flags for flags, *_ in listed] == [2, 0, 1, 0, 4]
    assert [granule for _, granule, *_ in listed] == [0, -1, 0, 900, 1750]
    assert [len(lengths) for _, _, lengths, _ in listed] == [1, 255, 46, 1 + 1 + 2, 1 + 4 + 2]
    assert b"".join(content for *_, content in listed)[19:] == b"t" * 76500 + b"\1" + b"\2" * 255 + b"\3" * 254 + (
        b"\4" * 1000 + b"\5" * 300
    )


# ---- tags and covers


@pytest.mark.parametrize("format", FORMATS)
def test_tags_and_covers_are_there_for_other_programs(tmp_path: Path, format: str) -> None:
    audio = Audio.from_array(music(48000, 48000), 48000, tags=TAGS, cover=COVER)
    path = tmp_path / f"a.{format}"
    assert write_audio(audio, path, bits=16 if format in ("wav", "flac") else None) == ()
    with av.open(str(path)) as file:
        tags = {key.upper(): text for key, text in {**file.metadata, **file.streams.audio[0].metadata}.items()}
        assert file.streams.video[0].codec_context.name == "mjpeg"
        pictures = [bytes(packet) for packet in file.demux(file.streams.video[0]) if packet.size]
    assert pictures == [COVER.data]
    tags["TRACKNUMBER"], _, total = tags.pop("TRACK").partition("/")
    tags.setdefault("TRACKTOTAL", total)
    for name, values in TAGS.items():
        assert tags[name].split(";")[0] == values[0], name
    if format != "opus":  # libsndfile's reader of Opus has no tags
        with soundfile.SoundFile(path) as file:
            assert file.title == TAGS["TITLE"][0] and file.album == TAGS["ALBUM"][0]


@pytest.mark.parametrize("format", FORMATS)
def test_files_without_tags_hold_nothing_else(tmp_path: Path, format: str) -> None:
    write_audio(Audio.from_array(np.zeros(100, np.int16), 48000), tmp_path / f"a.{format}")
    data = (tmp_path / f"a.{format}").read_bytes()
    assert not any(mark in data for mark in (b"ID3", b"LIST", b"PICTURE"))
    if format == "wav":
        assert len(data) == 44 + 200


def test_a_wav_with_simple_tags_has_only_info(tmp_path: Path) -> None:
    audio = Audio.from_array(np.zeros(100, np.int16), 48000, tags={"TITLE": ("odd",), "ARTIST": ("even",)})
    write_audio(audio, tmp_path / "a.wav")
    data = (tmp_path / "a.wav").read_bytes()
    assert b"LIST" in data and b"INAM\4\0\0\0odd\0IART\5\0\0\0even\0\0" in data and b"id3 " not in data


def test_what_tags_cannot_hold_is_said(tmp_path: Path) -> None:
    tags = {"TITLE": ("t",), "ÜBER": ("u",), "A=B": ("c",)}
    for format in ("flac", "opus"):
        notes = write_audio(Audio.from_array(np.zeros(100, np.int16), 48000, tags=tags), tmp_path / f"a.{format}")
        assert [note.kind for note in notes] == ["tags"] and r"'\xdcBER', 'A=B'" in notes[0].words
    cover = Cover(bytes(1 << 24))
    notes = write_audio(Audio.from_array(np.zeros(100, np.int16), 48000, cover=cover), tmp_path / "b.flac")
    assert [note.kind for note in notes] == ["attachment"] and "cover of 16777" in notes[0].words
    assert by_av(tmp_path / "b.flac").shape == (100, 1)


def test_frames_of_id3(tmp_path: Path) -> None:
    assert TOTALS["TRACKNUMBER"] == "TRACKTOTAL"
    for tags, frames in (
        ({"TRACKNUMBER": ("3",), "TRACKTOTAL": ("12",)}, [b"TRCK\0\0\0\5\0\0\x033/12"]),
        ({"TRACKNUMBER": ("A1",), "TRACKTOTAL": ("12",)}, [b"TRCK\0\0\0\3\0\0\x03A1", b"TRACKTOTAL\x0012"]),
        ({"DISCTOTAL": ("2",)}, [b"DISCTOTAL\x002"]),
        ({"COMMENT": ("x", "y")}, [b"COMM\0\0\0\6\0\0\x03XXX\0x", b"COMM\0\0\0\7\0\0\x03XXX2\0y"]),
    ):
        write_audio(Audio.from_array(np.zeros(100, np.int16), 48000, tags=tags), tmp_path / "a.mp3", replace=True)
        assert all(frame in (tmp_path / "a.mp3").read_bytes() for frame in frames)


# ---- read again


@pytest.mark.parametrize(
    ("format", "channels"),
    [(format, channels) for format in FORMATS for channels in (1, 2, 5, 6, 8) if format != "mp3" or channels <= 2],
)
@pytest.mark.parametrize("rate", [48000, 44100, 16000])
def test_our_reader_gives_back_what_was_written(tmp_path: Path, format: str, channels: int, rate: int) -> None:
    path = tmp_path / f"a.{format}"
    for n in (0, 1, 46, 500, 1153, 30_001):
        samples = music(n, rate, channels)
        audio = Audio.from_array(samples, rate, tags=TAGS, cover=COVER)
        notes = write_audio(audio, path, replace=True, bits=24 if format in ("wav", "flac") else None)
        back = read_audio(path)
        written = 48000 if format == "opus" else rate
        assert (back.info.rate, back.info.channels, back.info.layout) == (written, channels, LAYOUTS[channels])
        assert back.info.n_samples == length_at(n, rate, written)
        assert dict(back.info.tags) == TAGS and back.info.cover == COVER
        if format in ("wav", "flac"):
            np.testing.assert_array_equal(back.samples, from_float(samples, 24))
        elif n > 2000:
            assert lag(back.to_float(), resample(samples, rate, written)) == 0
        assert len(notes) == (written != rate)


@pytest.mark.parametrize("format", FORMATS)
def test_a_track_that_is_cut_in_two_joins_without_a_gap(tmp_path: Path, format: str) -> None:
    """An album's tracks follow on each other: neither a sample too many nor one too few, and no click between them."""
    n, cut = 60_000, 24_321
    samples = music(n, 48000)
    parts = []
    for name, part in (("1", samples[:cut]), ("2", samples[cut:])):
        write_audio(
            Audio.from_array(part, 48000), tmp_path / f"{name}.{format}", kbps=None if is_exact(format) else 192
        )
        parts.append(read_audio(tmp_path / f"{name}.{format}").to_float())
    joined = np.concatenate(parts)
    assert joined.shape == samples.shape
    error = np.abs(joined - samples)
    if is_exact(format):
        assert error.max() < 2.0**-23
    assert error[cut - 500 : cut + 500].max() < 0.1
    assert lag(joined[cut - 8000 : cut], samples[cut - 8000 : cut]) == 0
    assert lag(joined[cut : cut + 8000], samples[cut : cut + 8000]) == 0
    assert snr(joined[cut - 8000 : cut + 8000], samples[cut - 8000 : cut + 8000]) > 20


def is_exact(format: str) -> bool:
    return format in ("wav", "flac")


# ---- whole or not at all


def write_and_fail(path: Path, info: AudioInfo) -> None:
    with open_writer(path, info) as writer:
        writer.write(music(50_000, 44100))
        raise ZeroDivisionError


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_left_of_what_fails(tmp_path: Path, format: str) -> None:
    info = AudioInfo(44100, 2, None, sample="float32", format="opus", tags=TAGS)
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path / f"a.{format}", info)
    assert left_in(tmp_path) == []
    broken = music(50_000, 44100)
    broken[40_000] = np.nan
    with (
        pytest.raises(MediaError, match=rf"a\.{format}: samples that are infinite or no numbers"),
        open_writer(tmp_path / f"a.{format}", info) as writer,
    ):
        writer.write(broken)
    assert left_in(tmp_path) == []
    writer = open_writer(tmp_path / f"a.{format}", info)
    with pytest.raises(MediaError):
        writer.write(broken)
    assert left_in(tmp_path) == []  # even before anybody closes it
    writer = open_writer(tmp_path / f"a.{format}", info)
    writer.write(music(50_000, 44100))
    writer.abort()
    assert left_in(tmp_path) == []
    with pytest.raises(UsageError, match="after the end"):
        writer.write(music(10, 44100))
    writer.close()
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_appears_when_it_is_whole(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"a.{format}"
    path.write_bytes(b"old")
    audio = Audio.from_array(music(50_000, 48000), 48000)
    with pytest.raises(TargetExistsError, match="exists already"):
        write_audio(audio, path)
    with open_writer(path, audio.info, replace=True) as writer:
        writer.write(audio.samples)
        assert path.read_bytes() == b"old"
    assert left_in(tmp_path) == [path.name] and by_av(path).shape == (50_000, 2)
    with pytest.raises(TargetExistsError):
        write_audio(audio, path)
    writer.abort()
    assert by_av(path).shape == (50_000, 2)


@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_is_full(tmp_path: Path, format: str) -> None:
    """Limited by the size of a file, which no process of the tests may write beyond."""
    code = f"""
import resource, signal, numpy as np
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from codec.errors import MediaError
from codec.media.audio.values import Audio
from codec.media.audio.writer import write_audio
samples = np.random.default_rng(0).uniform(-0.5, 0.5, (480_000, 2)).astype(np.float32)
try:
    write_audio(Audio.from_array(samples, 48000), {str(tmp_path / f"a.{format}")!r})
except MediaError as error:
    print(error)
"""
    result = run(code)
    assert b"can't be written (File too large)" in result.stdout, result.stderr.decode()
    assert result.stderr == b""
    assert left_in(tmp_path) == []


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Twenty minutes of stereo, 200 MB as 16 bits, in less than 40 MiB more than a second takes."""
    code = """
import resource, sys, numpy as np
from codec.media.audio.values import AudioInfo
from codec.media.audio.writer import open_writer
block = (np.random.default_rng(0).uniform(-0.5, 0.5, (44100, 2)) * 32767).astype(np.int16)
def write(name, seconds):
    with open_writer(name, AudioInfo(44100, 2, None)) as writer:
        for _ in range(seconds):
            writer.write(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
write(sys.argv[1] + "/warm.wav", 1), write(sys.argv[1] + "/warm.opus", 1)
short = write(sys.argv[1] + "/short.flac", 1)
print(write(sys.argv[1] + "/long.wav", 1200) - short, write(sys.argv[1] + "/long.flac", 60) - short,
      write(sys.argv[1] + "/long.opus", 60) - short)
"""
    result = run(code, str(tmp_path))
    assert result.returncode == 0, result.stderr.decode()
    assert max(int(number) for number in result.stdout.split()) < 40, result.stdout
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


# ---- calls that can't be right


def test_calls_that_are_refused(tmp_path: Path) -> None:
    stereo = AudioInfo(44100, 2, 10)
    calls: tuple[tuple[str, AudioInfo, dict[str, Any], str], ...] = (
        ("a.aac", stereo, {}, r"a\.aac: unknown suffix '\.aac'; expected one of \.wav, \.flac"),
        ("a", stereo, {}, "unknown suffix ''"),
        ("a.wav", stereo, {"format": "aiff"}, "can't write 'aiff'; expected one of wav, flac, opus, mp3"),
        ("a.mp3", AudioInfo(44100, 6, 10), {}, "MP3 has at most 2 channels, and this sound has 6: write .opus"),
        ("a.opus", stereo, {"bits": 16}, "Opus has no bits of a sample: write .wav or .flac"),
        ("a.flac", stereo, {"bits": 32}, "bits 32 of FLAC; expected one of 16, 24"),
        ("a.flac", AudioInfo(768000, 2, 10), {}, "FLAC can't hold 768000 samples a second: write .wav"),
        ("a.flac", AudioInfo(65537, 2, 10), {}, "FLAC can't hold 65537 samples a second: write .wav"),
        ("a.mp3", AudioInfo(500, 2, 10), {}, "a sample rate of 500 Hz"),
    )
    for target, info, options, words in calls:
        with pytest.raises(UsageError, match=words):
            open_writer(tmp_path / target, info, **options)
    with pytest.raises(UsageError, match="can't write to a BytesIO"):
        open_writer(io.BytesIO(), stereo)  # type: ignore[arg-type]
    for samples in (
        np.zeros((10, 1), np.int16),
        np.zeros(10, np.int16),
        np.zeros((10, 2)),
        np.zeros((10, 2), np.uint8),
    ):
        with (
            pytest.raises(UsageError, match=r"expected int16, int32 or float32, \(n, 2\)"),
            open_writer(tmp_path / "a.wav", stereo) as writer,
        ):
            writer.write(samples)
    assert left_in(tmp_path) == []


def test_formats_by_name_and_suffix(tmp_path: Path) -> None:
    audio = Audio.from_array(music(5000, 48000), 48000)
    for name, format, start in (
        ("a.OGG", None, b"OggS"),
        ("b.Oga", None, b"OggS"),
        ("c.WAV", None, b"RIFF"),
        ("d.bin", "flac", b"fLaC"),
        ("e.wav", "opus", b"OggS"),
    ):
        write_audio(audio, tmp_path / name, format=format)
        assert (tmp_path / name).read_bytes().startswith(start)


def test_a_named_pipe(tmp_path: Path) -> None:
    samples = integers(50_000, 2, "int16").samples
    for name in ("a.wav", "a.mp3"):
        os.mkfifo(tmp_path / name)
    data: list[bytes] = []
    reader = threading.Thread(target=lambda: data.append((tmp_path / "a.wav").read_bytes()), daemon=True)
    reader.start()
    with open_writer(tmp_path / "a.wav", AudioInfo(44100, 2, None), replace=True) as writer:
        writer.write(samples)
    reader.join(60)
    np.testing.assert_array_equal(by_av(io.BytesIO(data[0])), samples)
    for name, words in (("a.wav", "exists already"), ("a.mp3", "MP3 is written in place")):
        with pytest.raises(UsageError, match=words):
            open_writer(tmp_path / name, AudioInfo(44100, 2, None), replace=name == "a.mp3")
