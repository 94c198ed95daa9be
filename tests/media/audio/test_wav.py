"""WAV and AIFF: every type of sample exactly, through pipes too; lengths that lie, and headers that can't be."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codec.errors import CodecError, MediaError
from codec.media.audio.pcm import unpack
from codec.media.audio.reader import open_audio, probe_audio, read_audio
from codec.media.notes import Note

from ...damage import MIB, Memory
from .making import Pipe, chunk, integers, music, stored, wav

N = 3001
SAMPLES = music(N, 2)
INT16, INT24 = integers(SAMPLES, 16), integers(SAMPLES, 24)
INT32 = np.round(SAMPLES.astype(np.float64) * (2**31 - 1)).astype(np.int32)
FLOAT = (SAMPLES * 3).astype(np.float32)  # beyond full scale

CASES: list[tuple[str, str, str, NDArray[Any], NDArray[Any]]] = [  # format, type, endian, what is stored, what is read
    ("WAV", "PCM_16", "FILE", INT16, INT16),
    ("WAV", "PCM_24", "FILE", INT24 << 8, INT24),
    ("WAV", "PCM_32", "FILE", INT32, INT32),
    ("WAV", "FLOAT", "FILE", FLOAT, FLOAT),
    ("WAV", "DOUBLE", "FILE", FLOAT.astype(np.float64), FLOAT),
    ("WAV", "PCM_U8", "FILE", INT16 & -256, INT16 & -256),
    ("WAVEX", "PCM_24", "FILE", INT24 << 8, INT24),
    ("RF64", "PCM_16", "FILE", INT16, INT16),
    ("W64", "PCM_24", "FILE", INT24 << 8, INT24),
    ("AIFF", "PCM_S8", "FILE", INT16 & -256, INT16 & -256),
    ("AIFF", "PCM_16", "FILE", INT16, INT16),
    ("AIFF", "PCM_24", "FILE", INT24 << 8, INT24),
    ("AIFF", "PCM_32", "FILE", INT32, INT32),
    ("AIFF", "PCM_16", "LITTLE", INT16, INT16),
    ("AIFF", "FLOAT", "FILE", FLOAT, FLOAT),
    ("AIFF", "DOUBLE", "FILE", FLOAT.astype(np.float64), FLOAT),
]


@pytest.mark.parametrize(("format", "subtype", "endian", "samples", "expected"), CASES)
def test_every_type_of_sample(
    format: str, subtype: str, endian: str, samples: NDArray[Any], expected: NDArray[Any]
) -> None:
    data = stored(samples, format, subtype, 44100, endian)
    with open_audio(data) as reader:
        audio = reader.read()
        np.testing.assert_array_equal(audio.samples, expected)
        assert audio.samples.dtype == reader.info.dtype == expected.dtype
        assert (reader.info.rate, reader.info.channels, reader.info.n_samples) == (44100, 2, N)
        assert reader.info.format == "pcm"
        assert [note.kind for note in reader.notes] == (["depth"] if subtype == "DOUBLE" else [])
        np.testing.assert_array_equal(reader.read(1000, 1234).samples, expected[1000:1234])
    if format != "AIFF":
        assert probe_audio(io.BufferedReader(Pipe(data))).sample == reader.info.sample
        np.testing.assert_array_equal(read_audio(io.BufferedReader(Pipe(data))).samples, expected)


@pytest.mark.parametrize("channels", range(1, 9))
def test_channels(channels: int) -> None:
    samples = integers(music(50, channels), 16)
    for format in ("WAV", "WAVEX", "AIFF"):
        np.testing.assert_array_equal(read_audio(stored(samples, format, "PCM_16")).samples, samples)


def test_extremes_of_24_bits() -> None:
    assert unpack(b"\0\0\x80\xff\xff\x7f\xff\xff\xff\x01\0\0", "<i3", 1)[:, 0].tolist() == [-(1 << 23), 8388607, -1, 1]
    assert unpack(b"\x80\0\0\x7f\xff\xff\xff\xff\xff\0\0\x01", ">i3", 2).tolist() == [[-(1 << 23), 8388607], [-1, 1]]


def test_a_mask_of_loudspeakers_is_a_layout() -> None:
    guid = bytes.fromhex("000000001000800000aa00389b71")
    for mask, layout in ((0x60F, "5.1(side)"), (0x3F, "5.1"), (0, "5.1"), (0x7, "5.1")):
        form = struct.pack("<HHIIHH", 0xFFFE, 6, 8000, 96000, 12, 16) + struct.pack("<HHIH", 22, 16, mask, 1) + guid
        data = b"RIFF\0\1\0\0WAVE" + chunk(b"fmt ", form) + chunk(b"data", bytes(24))
        assert read_audio(data).info.layout == layout


class TestBlocks:
    data = wav(INT16.tobytes())

    @pytest.mark.parametrize("size", [1, 7, 1000, N, N + 1, 1 << 20])
    def test_sizes(self, size: int) -> None:
        with open_audio(self.data) as reader:
            blocks = list(reader.blocks(size))
        assert {len(block) for block in blocks[:-1]} <= {size} and 1 <= len(blocks[-1]) <= size
        np.testing.assert_array_equal(np.concatenate(blocks), INT16)

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 0), (0, 5), (10, 10), (N - 1, None), (N, None), (N + 9, None), (5, N + 9)]
    )
    def test_parts(self, start: int, stop: int | None) -> None:
        with open_audio(self.data) as reader:
            np.testing.assert_array_equal(reader.read(start, stop).samples, INT16[start:stop])
            assert not reader.notes and reader.info.n_samples == N

    def test_what_is_no_part(self) -> None:
        with open_audio(self.data) as reader:
            for arguments in ((0,), (5, -1), (5, 9, 8)):
                with pytest.raises(CodecError, match="expected 0 <= start <= stop"):
                    reader.blocks(*arguments)

    def test_blocks_are_the_callers(self) -> None:
        with open_audio(self.data) as reader:
            block = next(reader.blocks(10))
            block[:] = 1
            assert block.flags.writeable and not np.array_equal(reader.read(0, 10).samples, block)


class TestPipes:
    def test_length_is_known_at_the_end(self) -> None:
        for n_bytes, riff in ((0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (0xFFFFFFFF, 36), (0x7FFFF000, 0x7FFFF024)):
            data = wav(INT16.tobytes(), n_bytes=n_bytes, riff=riff)
            with open_audio(io.BufferedReader(Pipe(data))) as reader:
                assert reader.info.n_samples is None and not reader.again
                np.testing.assert_array_equal(reader.read().samples, INT16)
                assert reader.info.n_samples == N and not reader.notes
            with open_audio(data) as reader:  # the same in a file, whose end is known
                assert reader.info.n_samples == N and not reader.notes
                np.testing.assert_array_equal(reader.read().samples, INT16)

    def test_only_once(self) -> None:
        with open_audio(io.BufferedReader(Pipe(wav(INT16.tobytes())))) as reader:
            np.testing.assert_array_equal(reader.read(100, 200).samples, INT16[100:200])
            with pytest.raises(MediaError, match="the stream: a pipe can be read only once"):
                reader.read()

    def test_early_end(self) -> None:
        with open_audio(io.BufferedReader(Pipe(wav(INT16.tobytes()[:-402], n_bytes=4 * N)))) as reader:
            assert reader.info.n_samples == N
            assert len(reader.read().samples) == N - 101
            assert reader.notes == (Note("cut", f"the sound ends early: 101 of {N} samples are missing"),)
            assert reader.info.n_samples == N - 101

    def test_chunks_in_front_and_behind(self) -> None:
        info = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"Name\0") + chunk(b"ISFT", b"Lavf\0"))
        data = wav(INT16.tobytes(), before=chunk(b"junk", bytes(33)) + info, after=chunk(b"abcd", b"x"))
        audio = read_audio(io.BufferedReader(Pipe(data)))
        np.testing.assert_array_equal(audio.samples, INT16)
        assert audio.info.tags == {"TITLE": ("Name",)}
        behind = wav(INT16.tobytes(), after=info)
        assert read_audio(behind).info.tags == {"TITLE": ("Name",)}

    def test_stdin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stdin = io.TextIOWrapper(io.BufferedReader(Pipe(wav(INT16.tobytes()))))
        monkeypatch.setattr("sys.stdin", stdin)
        np.testing.assert_array_equal(read_audio("-").samples, INT16)
        assert not stdin.buffer.closed
        monkeypatch.setattr("sys.stdin", None)
        with pytest.raises(MediaError, match="stdin is closed"):
            open_audio("-")

    def test_other_formats_are_read_whole(self) -> None:
        for format, subtype in (("FLAC", "PCM_16"), ("AIFF", "PCM_16")):
            with open_audio(io.BufferedReader(Pipe(stored(INT16, format, subtype)))) as reader:
                assert reader.again and reader.info.n_samples == N
                np.testing.assert_array_equal(reader.read().samples, INT16)
                np.testing.assert_array_equal(reader.read(7, 9).samples, INT16[7:9])


def test_large_files_say_their_length_elsewhere() -> None:
    """RF64: the length of the samples is in a chunk of its own, and what is behind them is no sound."""
    data = INT16.tobytes()
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(data), N, 0))
    info = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"Name\0"))
    large = b"RF64\xff\xff\xff\xffWAVE" + sizes + wav(data, n_bytes=0xFFFFFFFF, after=info)[12:]
    for source in (large, io.BufferedReader(Pipe(large))):
        np.testing.assert_array_equal(read_audio(source).samples, INT16)
    assert read_audio(large).info.tags == {"TITLE": ("Name",)}


def test_cut_file_says_what_is_missing() -> None:
    with open_audio(wav(INT16.tobytes()[:-402], n_bytes=4 * N)) as reader:
        assert reader.info.n_samples == N - 101
        assert reader.notes == (Note("cut", f"the file ends early: 101 of {N} samples are missing"),)
        np.testing.assert_array_equal(reader.read().samples, INT16[: N - 101])
    data = stored(INT16, "AIFF", "PCM_16")
    with open_audio(data[:-402]) as reader:
        assert reader.info.n_samples == N - 101 and reader.notes[0].kind == "cut"


def test_samples_that_are_no_numbers() -> None:
    samples = np.array([[0.5], [np.nan], [np.inf], [-np.inf], [0.25]], np.float32)
    with open_audio(wav(samples.tobytes(), 1, bits=32, tag=3)) as reader:
        assert reader.read().samples[:, 0].tolist() == [0.5, 0, 0, 0, 0.25]
        assert [note.kind for note in reader.notes] == ["sound"]
    huge = np.array([[1e300], [0.5]])
    with open_audio(wav(huge.tobytes(), 1, bits=64, tag=3)) as reader:
        assert reader.read().samples[:, 0].tolist() == [0, 0.5]


def test_coded_wav_is_left_to_ffmpeg() -> None:
    for subtype in ("ULAW", "ALAW", "MS_ADPCM", "IMA_ADPCM"):
        with open_audio(stored(INT16, "WAV", subtype)) as reader:
            samples = reader.read().to_float()
            assert N <= len(samples) == reader.info.n_samples
            assert np.abs(samples[:N] - SAMPLES).mean() < 0.02, subtype
            assert not reader.notes
    with pytest.raises(MediaError, match="a WAV with coded samples can't come through a pipe: name the file"):
        open_audio(io.BufferedReader(Pipe(stored(INT16, "WAV", "ULAW"))))
    assert read_audio(stored(INT16, "AIFF", "ULAW")).info.n_samples == N


class TestHostile:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (wav(b"", 65535), "sound of 65535 channels; expected 1 to 8: mix them down"),
            (wav(b"", 0), "sound of 0 channels"),
            (wav(b"", rate=0), "0 samples a second; expected 1 to 768000"),
            (wav(b"", rate=1 << 31), "2147483648 samples a second"),
            (wav(b"", bits=0), "samples of 0 bits"),
            (wav(b"", bits=40), "samples of 40 bits as integers"),
            (wav(b"", bits=16, tag=3), "samples of 16 bits as floats"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "no description of its samples"),
            (b"RIFF\x24\0\0\0WAVE" + chunk(b"data", bytes(64)), "no description of its samples"),
            (b"RIFF\x24\0\0\0WAVE" + chunk(b"fmt ", bytes(4)), "of 4 bytes; expected at least 16"),
            (wav(b"")[:36], "no samples .data. in it"),
            (b"RIFF\x24\0\0\0WAVE" + b"abcd\0\0\0\0" * 5000, "more than 4096 chunks"),
            (b"riff\x2e\x91\xcf\x11" + bytes(100), "a header of Wave64 that is damaged"),
            (b"", "the file is empty"),
            (b"FORM\0\0\0\x04AIFF", "no description of its samples"),
            (b"FORM\0\0\0\x04AIFF" + chunk(b"COMM", bytes(18), ">"), "a number of samples a second that can't be"),
            (
                b"FORM\0\0\0\x04AIFF" + chunk(b"COMM", struct.pack(">HIHHQ", 2, 9, 16, 16383 + 15, 44100 << 48), ">"),
                "no samples .SSND. in it",
            ),
        ],
    )
    def test_headers_that_cannot_be(self, data: bytes, words: str) -> None:
        with pytest.raises(MediaError, match=words):
            open_audio(data)
        if data[:4] == b"RIFF" and b"more" not in words.encode():
            with pytest.raises(MediaError):
                open_audio(io.BufferedReader(Pipe(data)))

    def test_lengths_that_lie_allocate_nothing(self) -> None:
        memory = Memory()
        for n_bytes in (1 << 30, 0xFFFFFFF0):
            assert len(read_audio(wav(INT16.tobytes(), n_bytes=n_bytes)).samples) == N
            assert len(read_audio(io.BufferedReader(Pipe(wav(INT16.tobytes(), n_bytes=n_bytes)))).samples) == N
        large = b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", struct.pack("<QQQI", 0, 1 << 62, 1 << 60, 0))
        large += wav(INT16.tobytes(), n_bytes=0xFFFFFFFF)[12:]
        assert len(read_audio(large).samples) == N
        assert memory.grown() < 16 * MIB

    def test_hours_in_little_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "hour.wav"
        n_samples = 44100 * 3600
        path.write_bytes(wav(b"", n_bytes=4 * n_samples))
        with path.open("r+b") as file:
            file.truncate(44 + 4 * n_samples)  # of zeros that lie nowhere
        with open_audio(path) as reader:
            memory = Memory()
            assert sum(len(block) for block in reader.blocks(1 << 16)) == n_samples
            assert len(next(reader.blocks(100, n_samples - 100))) == 100
            assert memory.grown() < 16 * MIB

    def test_names(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        with pytest.raises(MediaError, match=f"^{path}: can't be read .No such file"):
            open_audio(path)
        path.write_bytes(wav(b"", 0))
        with pytest.raises(MediaError, match=f"^{path}: sound of 0 channels"):
            open_audio(path)
        with pytest.raises(MediaError, match="can't be read"):
            open_audio("a\0.wav")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
        with pytest.raises(MediaError, match="not sound that can be read here, but a PNG picture; expected WAV, FLAC"):
            open_audio(path)
