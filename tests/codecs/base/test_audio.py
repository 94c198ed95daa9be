"""The base of audio codecs by the codec that ships: kinds of sound, streams, parts, rates, damage and hostile files."""

from __future__ import annotations

import functools
import io
import itertools
import math
import os
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import codec as package
from codec import native
from codec.codecs.base.codec import threads
from codec.codecs.base.limits import Limits
from codec.codecs.base.settings import Select
from codec.container import END_TAG, Chunk, ChunkReader, ChunkWriter, Header, read_header, unpack
from codec.errors import CodecError, ContainerError, LimitError, MediaError, StreamError, UsageError
from codec.media import AUDIO_WRITES
from codec.media.audio.reader import open_audio, read_audio
from codec.media.audio.values import Audio, AudioInfo, Cover

from ... import probes
from ...damage import Memory, alarm, changed, hostile_headers
from ...media.audio.making import music

CODEC = "walloc-audio"
PIECE = 32 * 512  # samples of a piece at 8 kHz
N = 3 * PIECE + 1001
MIB = 1 << 20


@functools.cache
def load() -> Any:
    return package.Codec.load(CODEC)


@functools.cache
def clip() -> Audio:
    """Four pieces at 8 kHz, the last one short."""
    return probes.sound(N)


@functools.cache
def file_of_clip() -> bytes:
    return load().compress(clip())


@functools.cache
def samples_of_clip() -> np.ndarray:
    return load().decompress(file_of_clip()).samples


def db(x: np.ndarray, y: np.ndarray) -> float:
    """The signal-to-noise ratio of y as x, in decibels."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return 10 * math.log10(max(float((x**2).sum()), 1e-9) / max(float(((x - y) ** 2).sum()), 1e-9))


def decoded(data: bytes, conceal: bool = False) -> tuple[np.ndarray, list[Any]]:
    with load().open_file(data, conceal) as file:
        return file.read().samples, file.notes


def chunks_of(data: bytes) -> tuple[Header, list[bytes], list[Chunk]]:
    """The header, the bytes of the start and of each chunk, and the chunks."""
    reader = ChunkReader(io.BytesIO(data))
    ends = [reader.start, *(place.end for place in reader.places())]
    parts = [data[: reader.start], *(data[a:b] for a, b in itertools.pairwise(ends))]
    return reader.header, parts, [*unpack(data)[1]]


def sealed(header: Header, chunks: list[Chunk], n_samples: int | None = None) -> bytes:
    """An open-ended file of these chunks, with right checksums. n_samples: in place of what the last one says."""
    writer = ChunkWriter(header)
    if n_samples is not None:
        chunks = [*chunks[:-1], Chunk(END_TAG, (n_samples % (1 << 64)).to_bytes(8, "big"))]
    return writer.start + b"".join(writer.chunk(chunk) for chunk in chunks)


# ---- kinds of sound


def test_kinds_of_input_and_of_output(tmp_path: Path) -> None:
    audio = probes.sound(3000, 2)
    path = tmp_path / "a.wav"
    soundfile.write(path, audio.samples, 8000, subtype="PCM_16")
    expected = load().compress(audio)
    files: list[Any] = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), io.BytesIO(path.read_bytes())]
    with open(path, "rb") as file:
        assert [load().compress(x) for x in [*files, file]] == [expected] * 6
    out = load().decompress(expected)
    assert isinstance(out, Audio)
    assert (out.info.rate, out.info.channels, out.info.sample, out.samples.dtype) == (8000, 2, "int16", np.int16)

    array, rate = load().decompress(load().compress((audio.samples, 8000)))
    assert rate == 8000
    assert np.array_equal(array, out.samples)
    tensor, rate = load().decompress(load().compress((torch.from_numpy(audio.samples.T.copy()), 8000)))
    assert rate == 8000
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float32, (2, 3000))
    assert np.array_equal(tensor.numpy().T, out.samples / np.float32(32768))
    halves = torch.from_numpy(audio.samples.T / 32768).to(torch.bfloat16)
    assert load().compress((halves, 8000)) == load().compress((halves.float(), 8000))
    mono, _ = load().decompress(load().compress((audio.samples[:, 0].astype(np.float64) / 32768, 8000)))
    assert (mono.shape, mono.dtype) == ((3000, 1), np.float32)
    for data in (expected, io.BytesIO(expected), bytearray(expected)):
        assert np.array_equal(load().decompress(data).samples, out.samples)
    assert [np.array_equal(x.samples, out.samples) for x in load().decompress([expected, expected])] == [True] * 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "expected a path"),
        ((np.zeros((3, 9), np.int16), 8000), "channels"),
        ((np.zeros((3, 1), np.uint8), 8000), "expected int16"),
        ((np.full((300, 1), np.nan, np.float32), 8000), "NaN"),
        ((np.full((300, 1), np.inf, np.float32), 8000), "infinite"),
        ((np.zeros((300, 1), np.float32), 0), "rate"),
        ((np.zeros((300, 1), np.float32), 999), "999 samples a second"),
        (b"RIFF", "not sound"),
        (b"", "empty|no bytes"),
    ],
)
def test_what_cannot_be_encoded(given: Any, words: str) -> None:
    with pytest.raises(CodecError, match=words):
        load().compress(given)


LENGTHS = [0, 1, 5, 511, 512, 513, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 7]


@pytest.mark.parametrize("n", LENGTHS)
def test_lengths(n: int) -> None:
    audio = probes.sound(n)
    out = load().compress(audio, 80)
    back = load().decompress(out).samples
    assert back.shape == (n, 1)
    if n >= 500:
        assert db(audio.samples, back) > 15
    with load().open_file(out) as file:
        assert file.n_samples == n == sum(len(block) for block in file.blocks())
    load().verify_file(out)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_channels(channels: int) -> None:
    audio = probes.sound(2500, channels)
    back = load().decompress(load().compress(audio, 80)).samples
    assert back.shape == (2500, channels)
    assert all(db(audio.samples[:, k], back[:, k]) > 12 for k in range(channels))


@pytest.mark.parametrize(("bits", "kind"), [(16, "int16"), (24, "int24"), (32, "int32"), (0, "float32")])
def test_types_of_sample(bits: int, kind: str) -> None:
    audio = probes.sound(3000, 1, bits=bits)
    out = load().decompress(load().compress(audio, 80))
    assert (out.info.sample, out.samples.dtype) == (kind, audio.samples.dtype)
    assert db(audio.samples, out.samples) > 15


@pytest.mark.parametrize("rate", [1000, 8000, 16000, 22050, 44100, 48000, 96000, 192000])
def test_rates(rate: int) -> None:
    audio = probes.sound(rate // 4, 1, rate)
    out = load().decompress(load().compress(audio, 80))
    assert (out.info.rate, len(out.samples)) == (rate, rate // 4)
    assert db(audio.samples, out.samples) > 10


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0])
def test_extreme_samples(level: float) -> None:
    """Silence stays silent; full scale doesn't wrap around."""
    x = np.full((3000, 1), level, np.float32)
    x[1000:2000] *= -1
    for samples in (x, np.clip(np.round(x * 32768), -32768, 32767).astype(np.int16)):
        back, _ = load().decompress(load().compress((samples, 8000), 90))
        scale = 1 if back.dtype == np.float32 else 32768
        assert np.abs(back / scale - x).max() <= (0.7 if level else 0)
        assert np.abs(np.median(back[2200:2800] / scale) - level) < 0.05


def test_tags_layout_and_cover() -> None:
    audio = probes.sound(1200, 2)
    tags = {"TITLE": ("Ein Stück",), "ARTIST": ("a", "b"), "X": ("",)}
    for size in (10, 1000):  # in the header, and in a chunk of its own
        info = AudioInfo(8000, 2, 1200, "downmix", "int16", tags, Cover(bytes(range(256)) * size, "image/png", "other"))
        out = load().decompress(load().compress(Audio(audio.samples, info))).info
        assert (out.tags, out.cover, out.layout) == (tags, info.cover, "downmix")


def test_the_header_is_small() -> None:
    for audio in (probes.sound(0), probes.sound(100, 2, 44100, 24)):
        data = load().compress(audio)
        assert ChunkReader(io.BytesIO(data)).start <= 80
    assert len(load().compress(probes.sound(0))) <= 110


# ---- without gaps, and in streams


def test_halves_coded_apart_join_without_a_gap() -> None:
    cut = N // 2 + 13
    parts = [load().decompress(load().compress((clip().samples[a:b], 8000), 80))[0] for a, b in ((0, cut), (cut, N))]
    joined = np.concatenate(parts)
    assert joined.shape == (N, 1)
    for lag in (-2, -1, 1, 2):  # aligned: any shift fits less
        assert db(clip().samples, joined) > db(clip().samples, np.roll(joined, lag)) + 3
    near = slice(cut - 200, cut + 200)
    assert db(clip().samples[near], joined[near]) > 10


@pytest.mark.parametrize("cut", [1 + PIECE // 3, 700, PIECE, 2 * PIECE + 1, N])
def test_streams_of_samples(cut: int) -> None:
    encoder = load().stream_encoder(AudioInfo(8000, 1))
    parts = [encoder.push(clip().samples[at : at + cut]) for at in range(0, N, cut)]
    assert len(parts[0]) > 0  # the header comes at once
    assert b"".join([*parts, encoder.push(clip().samples[:0]), encoder.flush()]) == file_of_clip()
    assert encoder.n_samples == N
    with pytest.raises(UsageError, match="finished"):
        encoder.push(clip().samples)
    with pytest.raises(UsageError, match="finished"):
        encoder.flush()


def test_a_stream_gives_pieces_as_they_come() -> None:
    encoder = load().stream_encoder(AudioInfo(8000, 1))
    with native_threads(1):
        encoder = load().stream_encoder(AudioInfo(8000, 1))
        assert len(encoder.push(clip().samples[: 2 * PIECE])) > 200
    for bad, words in (
        (np.zeros((5, 2), np.int16), "shape"),
        (np.zeros((5, 1), np.int32), "int32"),
        (np.zeros((2, 1, 1), np.int16), "shape"),
        (np.full((5, 1), np.nan), "NaN"),
    ):
        with pytest.raises(CodecError, match=words):
            load().stream_encoder(AudioInfo(8000, 1)).push(bad)
    with pytest.raises(UsageError, match="quality"):
        load().with_settings(kbps=20).stream_encoder(AudioInfo(8000, 1))


class native_threads:
    """So many threads of the kernels."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __enter__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(native, "threads", lambda: self.n)

    def __exit__(self, *error: object) -> None:
        self.patch.undo()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_threads_make_no_difference(n: int) -> None:
    with native_threads(n):
        assert load().compress(clip()) == file_of_clip()
        assert np.array_equal(load().decompress(file_of_clip()).samples, samples_of_clip())


@pytest.mark.parametrize("cut", [1, 7, 300, 1 << 20])
def test_streams_of_bytes(cut: int) -> None:
    decoder = load().stream_decoder()
    data = file_of_clip()
    assert decoder.info is None
    parts = [decoder.push(data[at : at + cut]) for at in range(0, len(data), cut)]
    parts = [part for part in [*parts, decoder.flush()] if len(part)]
    assert decoder.info is not None
    assert decoder.info.rate == 8000
    assert np.array_equal(np.concatenate(parts), samples_of_clip())
    if cut < 1000:
        assert len(parts) > 2


def test_streams_of_bytes_with_a_large_cover() -> None:
    info = AudioInfo(8000, 1, 1200, "", "int16", {}, Cover(os.urandom(300_000)))
    data = load().compress(Audio(probes.sound(1200).samples, info))
    decoder = load().stream_decoder()
    parts = [decoder.push(data[at : at + 999]) for at in range(0, len(data), 999)]
    assert sum(map(len, parts)) == 1200
    assert decoder.info is not None
    assert decoder.info.cover == info.cover


def test_damaged_streams_of_bytes() -> None:
    data = file_of_clip()
    _, parts, chunks = chunks_of(data)
    decoder = load().stream_decoder()
    decoder.push(data[:-1])
    with pytest.raises(ContainerError, match="ends early"):
        decoder.flush()
    for at in (10, len(parts[0]) + 30, len(data) - 3):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(CodecError):
            load().stream_decoder().push(bytes(broken))
    with pytest.raises(CodecError):
        load().stream_decoder().push(b"RIFF\0\0\0\0WAVE")
    header = ChunkReader(io.BytesIO(data)).header
    for n_samples in (N - PIECE, N + PIECE, 2**63, 0):
        with pytest.raises(StreamError):
            load().stream_decoder().push(sealed(header, chunks, n_samples))
    decoder = load().stream_decoder()
    decoder.push(data + b"behind")
    with pytest.raises(ContainerError):
        decoder.flush()


# ---- parts


RANGES = [
    (0, 0),
    (0, 1),
    (0, N),
    (5, 6),
    (PIECE - 256, PIECE - 255),
    (PIECE - 257, PIECE),
    (PIECE, PIECE + 1),
    (PIECE - 1, 2 * PIECE + 1),
    (PIECE + 255, PIECE + 257),
    (2 * PIECE - 300, 3 * PIECE + 300),
    (3 * PIECE + 1, N),
    (N - 1, N),
    (N, N),
]


@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_parts_are_those_of_the_whole(start: int, stop: int) -> None:
    with load().open_file(file_of_clip()) as file:
        assert np.array_equal(file.read(start, stop).samples, samples_of_clip()[start:stop])


def test_parts_need_few_pieces() -> None:
    """A piece far away may be damaged: it isn't read."""
    broken = bytearray(file_of_clip())
    broken[ChunkReader(io.BytesIO(file_of_clip())).start + 40] ^= 1  # in the first piece
    with load().open_file(bytes(broken)) as file:
        assert np.array_equal(file.read(2 * PIECE, N).samples, samples_of_clip()[2 * PIECE :])
        with pytest.raises(ContainerError):
            file.read(0, 5)
        for start, stop in ((-1, 5), (5, 4), (0, N + 1)):
            with pytest.raises(UsageError, match="expected 0 <= start"):
                file.read(start, stop)


@pytest.mark.parametrize(
    ("given", "start", "stop"),
    [("1:2", 8000, 16000), (":0.5", 0, 4000), ("6:", 48000, N), ("1.5:99", 12000, N), ("1/3:1", 2666, 8000)],
)
def test_seconds(given: str, start: int, stop: int, tmp_path: Path) -> None:
    load().decode_file(file_of_clip(), tmp_path / "a.wav", Select(seconds=given))  # type: ignore[arg-type]
    assert np.array_equal(read_audio(tmp_path / "a.wav").samples, samples_of_clip()[start:stop])


@pytest.mark.parametrize("suffix", AUDIO_WRITES)
def test_every_suffix_is_written(suffix: str, tmp_path: Path) -> None:
    load().decode_file(file_of_clip(), tmp_path / f"a{suffix}")
    with open_audio(tmp_path / f"a{suffix}") as reader:
        assert abs(len(reader.read().samples) / reader.info.rate - N / 8000) < 1e-3


def test_what_comes_before_the_header_changes_no_type() -> None:
    decoder = load().stream_decoder()
    parts = [decoder.push(file_of_clip()[:5]), decoder.push(file_of_clip()[5:]), decoder.flush()]
    assert [len(part) for part in parts] == [0, N, 0]
    samples = np.concatenate(parts)
    assert samples.dtype == np.int16
    assert np.array_equal(samples, samples_of_clip())


@pytest.mark.parametrize("given", ["2:1", "-1:2", "7:", "x:", "1", "1:1", "nan:", ":inf"])
def test_seconds_that_are_none(given: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seconds"):
        load().decode_file(file_of_clip(), tmp_path / "a.wav", Select(seconds=given))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


# ---- rates


@pytest.mark.parametrize("goal", [{"kbps": 4}, {"kbps": 12}, {"kbps": 30}, {"size": 3000}, {"size": "9kB"}])
def test_goals_are_reached(goal: dict[str, Any]) -> None:
    x = Audio.from_array(music(6 * 8000, 1, 8000), 8000)
    data = load().with_settings(**goal).compress(x)
    most = goal["kbps"] * 1000 / 8 * 6 if "kbps" in goal else 3000 if goal["size"] == 3000 else 9000
    assert (0.98 if most > 3000 else 0.96) * most < len(data) <= most  # a frame more or less counts in small files
    assert len(load().decompress(data).samples) == 48000


@pytest.mark.parametrize("n", [0, 1, 100])
def test_a_rate_of_a_sound_that_is_hardly_longer_than_its_header(n: int) -> None:
    data = load().with_settings(kbps=64).compress(probes.sound(n))
    assert len(data) < 256 + n
    assert len(load().decompress(data).samples) == n


def test_goals_that_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"0\.1 kbps are too few: walloc-audio at quality 1 takes \d+\.\d"):
        load().with_settings(kbps=0.1).compress(probes.sound(16000))
    x = probes.sound(16000)
    with pytest.raises(UsageError, match="too few"):
        load().with_settings(size=100).compress(x)
    with pytest.raises(UsageError, match="too few"):
        load().with_settings(kbps=0.1).compress(x)
    best = load().compress(x, 100)
    assert load().with_settings(size="1MB").compress(x) == best  # the best there is
    codec = load().with_settings(kbps=20)
    assert len(codec.with_settings(quality=100).compress(x)) == len(best)  # a quality takes the goal's place
    for quality in (0, 0.5, 101):
        with pytest.raises(UsageError, match="1 to 100"):
            load().compress(x, quality)


def test_better_qualities_are_larger_and_nearer() -> None:
    x = probes.sound(16000)
    files = [load().compress(x, quality) for quality in (1, 25, 50, 75, 100)]
    assert sorted(map(len, files)) == [*map(len, files)]
    near = [db(x.samples, load().decompress(data).samples) for data in files]
    assert sorted(near[1:]) == near[1:]  # the first is of noise
    assert near[-1] > near[0] + 15


# ---- damage


def pieces_that_differ(x: np.ndarray) -> set[int]:
    """The pieces, samples near their borders left out, whose samples aren't those of the clip."""
    assert x.shape == samples_of_clip().shape
    out = set()
    for k in range(4):
        inside = slice(k * PIECE + 256 * (k > 0), (k + 1) * PIECE - 256)
        if not np.array_equal(x[inside], samples_of_clip()[inside]):
            out.add(k)
    return out


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_a_changed_byte_costs_a_piece(k: int, tmp_path: Path) -> None:
    _, parts, _ = chunks_of(file_of_clip())
    for place in (2, 5, 9, 40, len(parts[k + 1]) - 2):  # tag, length, payload, checksum
        part = bytearray(parts[k + 1])
        part[place] ^= 16
        broken = b"".join([*parts[: k + 1], bytes(part), *parts[k + 2 :]])
        x, notes = decoded(broken, conceal=True)
        assert pieces_that_differ(x) == {k}
        said = [note.words for note in notes if note.kind == "damage"]
        assert said == [f"a piece of 2.05 s is missing, from second {k * 2.048:.2f} on"]
        with pytest.raises(CodecError):
            load().decompress(broken)
        with pytest.raises(CodecError):
            load().verify_file(broken)
        with pytest.raises(CodecError):
            load().decode_file(broken, tmp_path / "a.wav")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gone", [{1}, {0}, {3}, {1, 2}, {0, 3}, {0, 1, 2, 3}])
def test_chunks_that_are_missing(gone: set[int]) -> None:
    _, parts, _ = chunks_of(file_of_clip())
    cut = b"".join(part for k, part in enumerate(parts) if k - 1 not in gone)
    x, notes = decoded(cut, conceal=True)
    assert pieces_that_differ(x) == gone
    assert any(("a piece" if len(gone) == 1 else f"{len(gone)} pieces") in note.words for note in notes)
    with pytest.raises(CodecError):
        decoded(cut)
    with load().open_file(cut, conceal=True) as file:  # a part, which says what is missing of it alone
        file.read(2 * PIECE + 300, 3 * PIECE - 300)
        assert any(note.kind == "damage" for note in file.notes) == (2 in gone)


@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_files_that_were_cut(left: int) -> None:
    _, parts, _ = chunks_of(file_of_clip())
    for more in (b"", parts[left + 1][:-1]):
        cut = b"".join(parts[: left + 1]) + more
        with pytest.raises(CodecError):
            decoded(cut)
        x, notes = decoded(cut, conceal=True)
        n = min(N, left * PIECE)
        assert N <= len(x) < N + 512 if left == 4 else len(x) == n
        assert np.array_equal(x[: n - 256], samples_of_clip()[: n - 256])
        assert any(note.kind == "cut" for note in notes)


def test_nothing_is_left() -> None:
    _, parts, _ = chunks_of(file_of_clip())
    for broken in (parts[0], parts[0] + parts[1][:50], parts[0][:30], b"", b"RIFF"):
        with pytest.raises(CodecError):
            decoded(broken, conceal=True)


def test_what_fills_a_gap_is_no_louder(tmp_path: Path) -> None:
    _, parts, _ = chunks_of(file_of_clip())
    x, _ = decoded(b"".join([*parts[:2], *parts[3:]]), conceal=True)
    assert np.abs(x.astype(int)).max() <= 2 * np.abs(samples_of_clip().astype(int)).max()
    summary = load().decode_file(b"".join([*parts[:2], *parts[3:]]), tmp_path / "a.wav", Select(conceal=True))
    assert any("from second 2.05" in note.words for note in summary.notes)
    assert len(read_audio(tmp_path / "a.wav").samples) == N


def test_random_damage_is_an_error() -> None:
    rng = np.random.default_rng(1)
    data = load().compress(probes.sound(2500))
    expected = load().decompress(data).samples
    for _ in range(300):
        broken = bytearray(data)
        broken[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        with pytest.raises(CodecError):
            load().decompress(bytes(broken))
        try:
            x, _ = decoded(bytes(broken), conceal=True)
        except CodecError:
            continue
        assert x.dtype == expected.dtype


# ---- hostile files


def is_refused(data: bytes, conceal: bool = False, seconds: float = 2.0) -> None:
    started, memory = time.process_time(), Memory()
    with alarm("decoding doesn't end"), pytest.raises(CodecError) as error:
        decoded(data, conceal)
    assert str(error.value)
    assert time.process_time() - started < seconds
    assert memory.grown() < 64 * MIB


@pytest.mark.parametrize("conceal", [False, True])
@pytest.mark.parametrize("n_samples", [2**63, 2**64 - 1, 2**40, 0, PIECE, N + PIECE])
def test_ends_that_lie(n_samples: int, conceal: bool) -> None:
    header, parts, chunks = chunks_of(file_of_clip())
    data = sealed(header, chunks, n_samples)
    is_refused(data, conceal)
    cut = sealed(header, chunks, n_samples)[: -len(parts[-1])]
    lost = cut[: len(parts[0])] + cut[len(parts[0]) + len(parts[1]) :] + data[-len(parts[-1]) :]
    is_refused(lost, conceal)


@pytest.mark.parametrize(
    "params",
    [
        *({"r": value} for value in (0, -1, 999, 2**40, 8000.0, "8000", True)),
        *({"s": value} for value in (512, -1, 2.0, True, b"")),
        *({"k": value} for value in (3, -1, "x", 1.0)),
        *({"b": value} for value in (8, 24, "24")),
    ],
    ids=str,
)
def test_params_that_lie(params: dict[str, Any]) -> None:
    header, _, chunks = chunks_of(file_of_clip())
    is_refused(sealed(changed(header, params={**header.params, **params}), chunks))


def test_headers_that_lie() -> None:
    header, _, chunks = chunks_of(load().compress(probes.sound(700)))
    for shape in ((9,), (1, 1), (1 << 20,)):
        is_refused(sealed(changed(header, shape=shape), chunks))
    for params in ({"r": 96_000}, {"r": 16_000}):  # another frame, other bands: what comes of it isn't the sound
        try:
            x, _ = decoded(sealed(changed(header, params={**header.params, **params}), chunks))
        except CodecError:
            continue
        assert len(x) == 700
    for missing in ("r", "s"):
        params = {name: value for name, value in header.params.items() if name != missing}
        is_refused(sealed(changed(header, params=params), chunks))
    metas: list[dict[str, Any]] = [{"text": "a"}, {"text": b"a"}, {"cover": b"x"}, {"cover": ("a", "b", "c")}]
    for meta in [*metas, {"layout": 5}, {"layout": "x" * 65}]:
        is_refused(sealed(changed(header, meta=meta), chunks))
    for what, data in hostile_headers(header, chunks):
        if what in ("dtype float32", "dtype int16") or data == sealed(header, chunks):
            continue
        with alarm(what), pytest.raises(CodecError):
            assert decoded(data) is None, what


def test_chunks_that_lie() -> None:
    header, _, chunks = chunks_of(file_of_clip())
    piece, end = chunks[0].tag, chunks[-1]
    is_refused(sealed(header, [*chunks[:1], Chunk("Xyzw", b""), *chunks[1:]]))
    is_refused(sealed(header, [*chunks, end]))
    is_refused(sealed(header, chunks[:-1]))
    is_refused(sealed(header, [*chunks[:-1], Chunk(END_TAG, b"1234")]))
    is_refused(sealed(header, [chunks[3], *chunks[:3], end]))  # a short one in front
    is_refused(sealed(header, [*chunks[:3], chunks[0], end]))  # borders that don't fit
    for payload in (b"", b"\0", b"\0\x20" + chunks[0].payload[2:], b"\x0f" + chunks[0].payload[1:], bytes(2)):
        is_refused(sealed(header, [Chunk(piece, payload), *chunks[1:]]))
    extra = sealed(header, [Chunk("more", b"anything"), *chunks])  # not critical: passed over
    assert np.array_equal(decoded(extra)[0], samples_of_clip())


@pytest.mark.parametrize("payload", [b"\0\x1f", b"\0\x1f\0", b"\0\x1f" + bytes(40)])
def test_thousands_of_small_pieces(payload: bytes) -> None:
    """Bytes that are too few for what they claim are refused early, at eight channels of the longest frames too."""
    header, _, chunks = chunks_of(load().compress(probes.sound(700, 8, 96_000)))
    n = 5000
    data = sealed(header, [*[Chunk(chunks[0].tag, payload)] * n, chunks[-1]], n * 32 * 2048)
    started, memory = time.process_time(), Memory()
    with alarm("decoding doesn't end"), load().open_file(data) as file:
        blocks = itertools.islice(file.blocks(), 20)
        with pytest.raises(CodecError):
            assert not list(blocks), "pieces of hardly any bytes are decoded"
    assert time.process_time() - started < 5
    assert memory.grown() < 256 * MIB


def test_limits() -> None:
    x = probes.sound(20_000)  # 2.5 s
    data = load().compress(x)
    for limits in (Limits(seconds=2), Limits(values=19_999)):
        with pytest.raises(LimitError, match="at most"):
            load().with_limits(limits).decompress(data)
    strict = load().with_limits(Limits(seconds=3, values=20_000))
    assert len(strict.decompress(data).samples) == 20_000
    with load().with_limits(Limits(values=10)).open_file(data) as file:  # of what is in memory at once
        assert sum(len(block) for block in file.blocks()) == 20_000
        assert len(file.read(5, 15).samples) == 10


# ---- files


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, clip().samples, 8000, subtype="PCM_16")
    return path


def test_files(wav: Path) -> None:
    coded, back = wav.with_suffix(".walloca"), wav.with_name("b.wav")
    steps: list[float | None] = []
    summary = load().encode_file(wav, coded, lambda step: steps.append(step.fraction))
    assert coded.read_bytes() == file_of_clip()
    assert (summary.bytes_in, summary.bytes_out) == (wav.stat().st_size, len(file_of_clip()))
    assert steps
    assert max(step or 0 for step in steps) <= 1
    load().decode_file(coded, back, report=lambda step: steps.append(step.fraction))
    assert max(step or 0 for step in steps) <= 1
    assert np.array_equal(read_audio(back).samples, samples_of_clip())
    for source, target, act in ((wav, coded, load().encode_file), (coded, back, load().decode_file)):
        before = target.read_bytes()
        with pytest.raises(CodecError, match="exists"):
            act(source, target)
        assert target.read_bytes() == before
        act(source, target, replace=True)
    load().decode_file(coded, wav.with_name("c.flac"))
    assert np.array_equal(read_audio(wav.with_name("c.flac")).samples, samples_of_clip())


def test_nothing_is_left_behind_by_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    soundfile.write(bad, clip().samples, 8000)
    bad.write_bytes(bad.read_bytes()[:30])
    (tmp_path / "text.wav").write_text("words")
    for source in (bad, tmp_path / "text.wav", tmp_path / "none.wav"):
        with pytest.raises(CodecError, match=source.name):
            load().encode_file(source, tmp_path / "out.walloca")
    with pytest.raises(CodecError):
        load().decode_file(file_of_clip()[:-30], tmp_path / "out.wav")
    with pytest.raises(CodecError):
        load().decode_file(file_of_clip(), tmp_path / "out.png")
    soundfile.write(tmp_path / "good.wav", clip().samples, 8000)
    with pytest.raises(UsageError, match="too few"):
        load().with_settings(size=200).encode_file(tmp_path / "good.wav", tmp_path / "out.walloca")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.wav", "good.wav", "text.wav"]


def test_no_numbers_are_said(tmp_path: Path) -> None:
    x = np.zeros((3000, 1), np.float32)
    x[100] = np.nan
    soundfile.write(tmp_path / "a.wav", x, 8000, subtype="FLOAT")
    summary = load().encode_file(tmp_path / "a.wav", tmp_path / "a.walloca")
    assert any("NaN" in note.words for note in summary.notes)


def test_clipping_is_said(tmp_path: Path) -> None:
    x = np.sin(np.arange(4000) / 9).astype(np.float32) * 1.5
    soundfile.write(tmp_path / "loud.wav", x, 8000, subtype="FLOAT")
    summary = load().encode_file(tmp_path / "loud.wav", tmp_path / "a.walloca")
    assert any(f"{(np.abs(x) > 1).sum()} samples" in note.words for note in summary.notes)
    summary = load().with_settings(kbps=30).encode_file(tmp_path / "loud.wav", tmp_path / "b.walloca")
    assert any(f"{(np.abs(x) > 1).sum()} samples" in note.words for note in summary.notes)


def test_what_is_said_of_a_file() -> None:
    about = package.info(file_of_clip())
    assert about["codec"] == CODEC
    assert about["medium"] == "audio"
    told = load().describe(file_of_clip())
    kbps = len(file_of_clip()) * 8 / 1000 / (N / 8000)
    assert told == {"rate": 8000, "channels": 1, "samples": N, "seconds": N / 8000, "kbps": round(kbps, 3)}
    assert {name: about[name] for name in told} == told
    assert load().describe(load().compress(probes.sound(0)))["kbps"] == 0
    header, parts, _ = chunks_of(file_of_clip())
    for broken in (b"".join(parts[:-1]), file_of_clip()[:-1]):
        with pytest.raises(CodecError):
            load().describe(broken)
    with load().open_file(file_of_clip()) as file:
        assert file.info.seconds == Fraction(N, 8000)
        assert (file.header, file.n_bytes) == (header, len(file_of_clip()))


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for source in (tmp_path / "none.walloca", tmp_path):
        with pytest.raises(MediaError), load().open_file(source):
            pass


def test_a_stream_gives_each_piece_as_soon_as_it_can() -> None:
    """A piece is 32 frames of 512 samples at 8 kHz, and its encoder looks two frames ahead."""
    with threads(2):
        encoder = load().stream_encoder(AudioInfo(8000, 1, sample="float32"))
        start = encoder.push(np.zeros((34 * 512, 1), np.float32))
        assert len(encoder.push(np.full((1, 1), 0.5, np.float32))) > 12, "the first piece"
    assert read_header(start).codec == "walloc-audio"
