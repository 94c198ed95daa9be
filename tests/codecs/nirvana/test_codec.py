"""The `nirvana` codec: files, seeking, damage, resuming, workers, targets; mostly with a preset that needs no fit."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codec as package
from codec import registry
from codec.codecs.base.limits import Limits
from codec.codecs.base.settings import Select
from codec.codecs.base.video import encode as video_encode
from codec.codecs.base.video import journal as video_journal
from codec.codecs.base.video.encode import EncodeProgress, EncodeSettings
from codec.codecs.base.video.groups import Fitted, Preset
from codec.codecs.base.video.scenes import SceneCuts, groups_of
from codec.codecs.base.video.stream import TABLE, GroupEntry, read_times, table_of
from codec.codecs.nirvana import codec as nirvana
from codec.codecs.nirvana.codec import NirvanaCodec
from codec.codecs.nirvana.grid.preset import GridPreset
from codec.codecs.nirvana.paper.fit import NirvanaPreset
from codec.container import Chunk, Header, pack, unpack
from codec.entropy.integers import put_varint
from codec.errors import CodecError, ContainerError, MediaError, StreamError, UsageError
from codec.media.distortion import psnr_of_frames
from codec.media.notes import Note
from codec.media.video.reader import VideoReader
from codec.media.video.values import Chapter, Frame, VideoInfo, frames_of
from codec.media.video.writer import VideoWriter

from ...damage import MIB, Damage, Memory
from ..base.toy_video import Toy, noise_clip, toy_presets

OLD_MACHINE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "2"}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> NirvanaCodec:
    monkeypatch.setattr(NirvanaCodec, "presets", classmethod(toy_presets))
    Toy.fits.clear()
    codec = package.Codec.load("nirvana@toy", quality=90)
    assert isinstance(codec, NirvanaCodec)
    return codec


def planes_of(frames: Any) -> list[Any]:
    return [frame.planes for frame in frames]


def equal(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True)
    )


# ---- kinds and values


def test_it_is_the_codec_of_videos() -> None:
    assert registry.default("video") == "nirvana"
    codec = package.Codec.load("nirvana@paper", quality=30)
    assert isinstance(codec, NirvanaCodec)
    assert (codec.preset.name, codec.encoding.quality, codec.weights_id) == ("paper", 30, b"")
    assert set(nirvana.PRESETS) == set(codec.presets())


@pytest.mark.parametrize("wrong", [0, 101, float("nan")])
def test_bad_quality(wrong: float) -> None:
    with pytest.raises(UsageError, match="quality"):
        package.Codec.load("nirvana", quality=wrong)


def test_bad_settings(toy: NirvanaCodec) -> None:
    with pytest.raises(UsageError, match="there are"):
        package.Codec.load("nirvana@nosuch")
    with pytest.raises(UsageError, match="no weights"):
        package.Codec.load("nirvana", weights="x.safetensors")
    for changes in ({"psnr": 30, "bpp": 1}, {"effort": -1}, {"jobs": 0}, {"bpp": -1}, {"key_every": 0}):
        with pytest.raises(UsageError):
            toy.with_settings(**changes)
    with pytest.raises(UsageError, match="expected a path"):
        toy.compress(3)
    with pytest.raises(MediaError):
        toy.compress(np.zeros((3, 4, 5, 2), np.uint8))


@pytest.mark.parametrize("shape", [(7, 8, 12, 3), (4, 5, 7), (1, 1, 1, 3), (3, 9, 1)])
def test_arrays_come_back(toy: NirvanaCodec, shape: tuple[int, ...]) -> None:
    x = noise_clip(shape[0], shape[1], shape[2], 3 if len(shape) == 4 else None)
    data = toy.with_settings(quality=100).compress(x)
    assert np.array_equal(toy.decompress(data), x)
    assert np.array_equal(package.decode(data), x)
    about = package.info(data)
    assert (about["medium"], about["frames"], about["height"]) == ("video", shape[0], shape[1])
    assert about["bpp"] == pytest.approx(8 * len(data) / (shape[0] * shape[1] * shape[2]))


def varying() -> tuple[VideoInfo, list[Frame]]:
    """4:2:0 of odd size, of varying frame rate."""
    info = VideoInfo(
        7, 5, "yuv420p", Fraction(1, 1000), Fraction(30000, 1001), {"range": 1, "matrix": 1}, Fraction(4, 3)
    )
    rng, frames, pts = np.random.default_rng(1), [], 0
    for duration in (33, 40, 33, 100, 1, 33, 33, 5):
        shapes = ((5, 7), (3, 4), (3, 4))
        frames.append(Frame(tuple(rng.integers(0, 256, s, dtype=np.uint8) for s in shapes), pts, duration))
        pts += duration
    return info, frames


def test_times_colours_and_layout_survive(toy: NirvanaCodec) -> None:
    info, frames = varying()
    data = toy.with_settings(quality=100).compress((info, frames))
    with toy.open_file(data) as file:
        assert file.info == info
        found = list(file.frames())
        assert [(f.pts, f.duration) for f in found] == [(f.pts, f.duration) for f in frames]
        assert equal(planes_of(found), planes_of(frames))
        assert file.seconds(3) == Fraction(106, 1000)
        part = list(file.frames(3, 6))
        assert [(f.pts, f.duration) for f in part] == [(0, 100), (100, 1), (101, 33)]
    assert toy.decompress(data).shape == (8, 5, 7, 3)


def test_a_video_in_memory_is_the_one_on_disk(toy: NirvanaCodec, tmp_path: Path) -> None:
    y4m, (info, frames) = io.BytesIO(), frames_of(noise_clip(5, channels=None))
    with VideoWriter(y4m, info) as writer:
        for frame in frames:
            writer.write(frame)
    path = tmp_path / "clip.y4m"
    path.write_bytes(y4m.getvalue())
    expected = toy.compress(path)
    for source in (y4m.getvalue(), bytearray(y4m.getvalue()), io.BytesIO(y4m.getvalue())):
        assert toy.compress(source) == expected
    with path.open("rb") as file:
        toy.encode_file(file, tmp_path / "clip.nirvana")
    assert (tmp_path / "clip.nirvana").read_bytes() == expected


def test_constant_rate_takes_few_bytes(toy: NirvanaCodec) -> None:
    _, chunks = unpack(toy.compress(noise_clip(30)))
    assert len(chunks[0].payload) == 2


class WithSound(VideoReader):
    def __init__(self, clip: np.ndarray) -> None:
        super().__init__()
        self.clip, self.info = clip, frames_of(clip)[0]

    def __iter__(self) -> Iterator[Frame]:
        return frames_of(self.clip)[1]

    def audio(self) -> bytes:
        return b"sound" * 40


def test_sound_is_carried(toy: NirvanaCodec) -> None:
    data = toy.compress(WithSound(noise_clip(4)))
    with toy.open_file(data) as file:
        assert file.audio() == b"sound" * 40
    with toy.open_file(toy.compress(noise_clip(4))) as file:
        assert file.audio() is None


# ---- groups, seeking


def test_groups_and_keys(toy: NirvanaCodec) -> None:
    with toy.open_file(toy.compress(noise_clip(20))) as file:
        assert [(g.n_frames, g.key) for g in file.groups] == [
            (3, True), (3, False), (3, False), (3, True), (3, False), (3, False), (2, True)
        ]  # fmt: skip
    with toy.open_file(toy.with_settings(group=5, key_every=2).compress(noise_clip(20))) as file:
        assert [(g.n_frames, g.key) for g in file.groups] == [(5, True), (5, False), (5, True), (5, False)]


def test_any_seek_gives_the_same_frames(toy: NirvanaCodec, tmp_path: Path) -> None:
    path = tmp_path / "clip.nirvana"
    toy.encode_file(noise_clip(20), path)
    whole = planes_of(toy.decode_frames(path))
    assert len(whole) == 20
    for start in range(20):
        for stop in (start, start + 1, start + 4, 99):
            assert equal(planes_of(toy.decode_frames(path, start, stop)), whole[start:stop]), (start, stop)


def test_seeking_reads_no_more_than_it_must(toy: NirvanaCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy.compress(noise_clip(20))
    decoded = []
    before = Toy.decode
    monkeypatch.setattr(Toy, "decode", lambda self, p, *more: decoded.append(p) or before(self, p, *more))
    list(toy.decode_frames(data, 13, 14))  # in the fifth group, the second since a key
    assert len(decoded) == 2
    with toy.open_file(data) as file:
        next(iter(file.frames()))
    assert len(decoded) == 3


# ---- scene cuts


@pytest.fixture(scope="module")
def scenes(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A fast pan over the photo, and a zoom into another part of it with other colours."""
    pan = [photo[100:196, 20 + 6 * t : 148 + 6 * t] for t in range(12)]
    zoom = [255 - photo[300:, 200:][: 96 + 4 * t, : 128 + 5 * t][np.arange(96) * (96 + 4 * t) // 96][
        :, np.arange(128) * (128 + 5 * t) // 128
    ] for t in range(12)]  # fmt: skip
    return np.stack(pan), np.stack(zoom)


def cuts_of(clip: np.ndarray) -> list[int]:
    begins = SceneCuts()
    return [t for t, frame in enumerate(clip) if begins((frame,))]


def test_cuts_are_found_where_they_are(scenes: tuple[np.ndarray, np.ndarray]) -> None:
    pan, zoom = scenes
    assert cuts_of(pan) == cuts_of(zoom) == []
    assert cuts_of(np.concatenate([pan, zoom, pan])) == [12, 24]
    noisy = np.concatenate([pan, zoom]).astype(int) + np.random.default_rng(0).normal(0, 12, (24, 1, 1, 1))
    assert cuts_of(noisy.clip(0, 255).astype(np.uint8)) in ([12], [])  # flicker isn't a row of cuts
    assert cuts_of(np.random.default_rng(0).integers(0, 256, (9, 20, 30, 3), dtype=np.uint8)) == []


def test_a_cut_begins_a_key_group(toy: NirvanaCodec, scenes: tuple[np.ndarray, np.ndarray]) -> None:
    clip = np.concatenate([scenes[0][:10], scenes[1]])
    with toy.with_settings(group=4, key_every=100).open_file(
        toy.with_settings(group=4, key_every=100).compress(clip)
    ) as file:
        assert [(g.n_frames, g.key) for g in file.groups] == [
            (4, True), (4, False), (2, False), (4, True), (4, False), (4, False)
        ]  # fmt: skip
    info, frames = frames_of(clip)
    without = groups_of(info, frames, 4, 100, scene_cuts=False)
    assert [g.key for g in without] == [True, False, False, False, False, False]


# ---- damage


def spoiled(data: bytes, index: int) -> bytes:
    """With one bit of a chunk's payload wrong."""
    _, chunks = unpack(data)
    at = data.index(chunks[index].payload) + len(chunks[index].payload) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_lost_group_reaches_to_the_next_key(toy: NirvanaCodec) -> None:
    data = toy.compress(noise_clip(20))
    whole = planes_of(toy.decode_frames(data))
    bad = spoiled(data, 2 + 1)  # group 1: frames 3 to 5; the next key group begins with frame 9
    with pytest.raises(ContainerError, match="damaged"):
        toy.decompress(bad)
    with pytest.raises(ContainerError, match="damaged"):
        list(toy.decode_frames(bad, 7, 8))
    with toy.open_file(bad, conceal=True) as file:
        found = planes_of(file.frames())
        assert file.missing == [3, 4, 5, 6, 7, 8]
    assert equal(found[:3] + found[9:], whole[:3] + whole[9:])
    assert equal(found[3:9], [whole[2]] * 6)
    assert equal(planes_of(toy.decode_frames(bad, 9, 20)), whole[9:])  # strict, and not touched by it


def test_conceal_without_a_frame_before(toy: NirvanaCodec) -> None:
    data = spoiled(toy.compress(noise_clip(12)), 2)
    with toy.open_file(data, conceal=True) as file:
        found = planes_of(file.frames())
        assert file.missing == list(range(9))
    assert all((planes[0] == 128).all() for planes in found[:9])
    assert not (found[9][0] == 128).all()


def test_conceal_of_a_file_cut_short(toy: NirvanaCodec) -> None:
    data = toy.compress(WithSound(noise_clip(20)))
    whole = planes_of(toy.decode_frames(data))
    cut = data[: len(data) - 800]
    with pytest.raises(ContainerError):
        toy.decompress(cut)
    with toy.open_file(cut, conceal=True) as file:
        found = planes_of(file.frames())
        assert file.missing
        first = file.missing[0]
        assert file.missing == list(range(first, 20))
        assert file.audio() is None
    assert equal(found[:first], whole[:first])
    assert equal(found[first:], [whole[first - 1]] * (20 - first))


def flipped(data: bytes, tag: bytes, number: int = 0) -> bytes:
    """With one bit wrong in the payload of a chunk of this tag."""
    at = -1
    for _ in range(number + 1):
        at = data.index(tag, at + 1)
    place = at + 8 + (int.from_bytes(data[at + 4 : at + 8], "big") // 2)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(("tag", "words"), [(b"Time", "times"), (b"Grps", "lengths")])
def test_small_tables_are_there_twice(tag: bytes, words: str, toy: NirvanaCodec) -> None:
    data = toy.with_settings(quality=100).compress(varying())
    bad = flipped(data, tag)
    with pytest.raises(ContainerError, match="damaged"):
        toy.decompress(bad)
    with toy.open_file(bad, conceal=True) as file:
        found = list(file.frames())
        assert [(note.kind, words in note.words) for note in file.notes] == [("damage", True)]
        assert file.missing == []
    assert [frame.duration for frame in found] == [frame.duration for frame in varying()[1]]
    assert equal(planes_of(found), planes_of(varying()[1]))
    worse = flipped(bad, tag.lower())
    if tag == b"Time":  # at its nominal rate
        with toy.open_file(worse, conceal=True) as file:
            assert [frame.duration for frame in file.frames()] == [33] * 8
            assert equal(planes_of(file.frames()), planes_of(varying()[1]))
    else:
        with pytest.raises(StreamError, match="table"), toy.open_file(worse, conceal=True):
            pass
    with pytest.raises(ContainerError):
        toy.verify_file(flipped(data, tag.lower()))


class WithLongSound(VideoReader):
    """Frames, and six seconds of noise."""

    def __init__(self, clip: np.ndarray) -> None:
        super().__init__()
        self.clip, self.info = clip, frames_of(clip, 4)[0]
        self.noise = self._made()

    def __iter__(self) -> Iterator[Frame]:
        return frames_of(self.clip, 4)[1]

    def audio(self) -> bytes:
        return self.noise

    @staticmethod
    def _made() -> bytes:
        import io

        import av

        buffer = io.BytesIO()
        with av.open(buffer, "w", format="matroska", container_options={"cluster_time_limit": "1000"}) as out:
            track: Any = out.add_stream("pcm_u8", rate=8000)
            track.codec_context.layout = "mono"
            for index in range(60):
                samples = np.random.default_rng(index).integers(0, 256, (1, 800), np.uint8)
                frame = av.AudioFrame.from_ndarray(samples, format="u8", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = 8000, Fraction(1, 8000), 800 * index
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
        return buffer.getvalue()


def test_a_flipped_bit_costs_seconds_of_sound(toy: NirvanaCodec, tmp_path: Path) -> None:
    source = WithLongSound(noise_clip(24))
    data = toy.compress(source)
    with toy.open_file(data) as file:
        assert file.audio() == source.audio()
    n_pieces = data.count(b"Soun")
    assert n_pieces > 4
    bad = flipped(data, b"Soun", 3)
    with toy.open_file(bad) as file, pytest.raises(ContainerError, match="damaged"):
        file.audio()
    with toy.open_file(bad, conceal=True) as file:
        found = file.audio()
        assert found is not None and len(found) == len(source.audio()) and found != source.audio()
        assert [note.kind for note in file.notes] == ["damage"] and "about 1." in file.notes[0].words
    for number in range(1, n_pieces):
        bad = flipped(bad if number != 1 else data, b"Soun", number)
    (tmp_path / "worse.nirvana").write_bytes(bad)  # none is left
    toy.decode_file(tmp_path / "worse.nirvana", tmp_path / "worse.mkv", Select(conceal=True))
    bad = flipped(data, b"Soun", 3)
    with toy.open_file(flipped(data, b"Soun", 0), conceal=True) as file:  # what names the tracks is there twice
        assert file.audio() == source.audio() and file.notes == []
    (tmp_path / "bad.nirvana").write_bytes(bad)
    summary = toy.decode_file(tmp_path / "bad.nirvana", tmp_path / "back.mkv", Select(conceal=True))
    assert [note.kind for note in summary.notes] == ["damage"]


def test_little_sound_that_is_damaged_is_noted(toy: NirvanaCodec) -> None:
    bad = flipped(toy.compress(WithSound(noise_clip(4))), b"audi")
    with toy.open_file(bad, conceal=True) as file:
        assert file.audio() is None
        assert [note.kind for note in file.notes] == ["damage"]


def test_tags_chapters_and_notes_are_in_the_file(toy: NirvanaCodec) -> None:
    info, frames = varying()
    info = replace(
        info,
        tags={"title": "Ferien", "ü": "é"},
        track={"language": "deu"},
        chapters=(Chapter(Fraction(0), Fraction(1, 4), "One"),),
        early=Fraction(1, 5),
        color={**info.color, "chroma": 3},
        notes=(Note("track", "subtitles: left out"),),
    )
    data = toy.compress((info, frames))
    with toy.open_file(data) as file:
        assert file.info == replace(info, notes=())
        assert file.notes == [Note("track", "subtitles: left out")]
    assert package.info(data)["meta"]["notes"] == ["track: subtitles: left out"]
    header, chunks = unpack(data)
    for meta in ({"tags": (1, 2)}, {"chapters": ("a", 1)}, {"track": "x"}, {"chapters": (5, 1, "x")}):
        with toy.open_file(pack(replace(header, meta={**header.meta, **meta}), chunks)) as file:
            assert len(list(file.frames())) == 8  # nothing of it decides what is decoded


def test_a_small_file_is_no_list_of_millions(toy: NirvanaCodec) -> None:
    """A table of groups that can't be, and one of times: refused without an object for each frame."""
    header, chunks = unpack(toy.compress(noise_clip(3)))
    entries = [GroupEntry(1024, index == 0, 1) for index in range(2000)]
    many = replace(header, shape=(1024 * 2000, *header.shape[1:]))
    bad = pack(many, [chunks[0], Chunk(TABLE, table_of(entries)), *chunks[2:]])
    memory = Memory()
    with pytest.raises(StreamError, match="can't hold"):
        toy.with_limits(Limits(frames=None)).decompress(bad)
    assert memory.grown() < 8 * MIB
    body = b"".join(map(put_varint, (1, 300, 7))) * 100_000
    memory = Memory()
    times = read_times(b"\1" + zlib.compress(body), 300_000)
    assert memory.grown() < 24 * MIB
    assert [times.at(n) for n in (0, 1, 2, 3, 299_999, 300_000)] == [0, 1, 301, 308, 30_799_993, 30_800_000]
    for wrong in (b"\1\x80\0", b"\1\1\1", b"\0\1", b"\x80" * 9 + b"\1\1"):
        with pytest.raises(StreamError):
            read_times(b"\1" + zlib.compress(wrong), 2)


def test_frames_that_differ_are_an_error(toy: NirvanaCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that computes otherwise: noticed, not shown."""
    data = toy.compress(noise_clip(3))
    before = Toy.decode

    def off_by_one(self: Toy, *given: Any) -> Any:
        frames, state = before(self, *given)
        return [(planes[0] ^ 1,) for planes in frames], state

    monkeypatch.setattr(Toy, "decode", off_by_one)
    with pytest.raises(StreamError, match="other frames"):
        toy.decompress(data)


def test_the_table_must_fit(toy: NirvanaCodec) -> None:
    data = toy.compress(noise_clip(20))
    header, chunks = unpack(data)
    with toy.open_file(data) as file:
        entries = file.groups
    tables = [
        entries[:-1], entries[1:], [entries[0]._replace(n_bytes=entries[0].n_bytes + 1), *entries[1:]],
        [entries[0]._replace(n_frames=4), *entries[1:]], [entries[0]._replace(key=False), *entries[1:]],
    ]  # fmt: skip
    for table in tables:
        bad = pack(header, [chunks[0], Chunk(TABLE, table_of(table)), *chunks[2:]])
        with pytest.raises(StreamError):
            toy.decompress(bad)


def test_unknown_chunks(toy: NirvanaCodec) -> None:
    header, chunks = unpack(toy.compress(noise_clip(4)))
    assert toy.decompress(pack(header, [*chunks, Chunk("note", b"x")])).shape == (4, 8, 12, 3)
    with pytest.raises(ContainerError, match="newer"):
        toy.decompress(pack(header, [*chunks, Chunk("Note", b"x")]))
    with pytest.raises(StreamError, match="preset"):
        toy.decompress(pack(changed_params(header, preset="nosuch"), chunks))


def changed_params(header: Header, **params: Any) -> Header:
    return replace(header, params={**header.params, **params})


@pytest.fixture(scope="module")
def small_file() -> bytes:
    """Of the paper's preset, barely fitted."""
    clip = np.repeat(np.repeat(noise_clip(7, 6, 8), 4, 1), 4, 2)
    return paper().with_settings(effort=0.01, key_every=2).compress(clip)


def paper() -> NirvanaCodec:
    codec = package.Codec.load("nirvana@paper")
    assert isinstance(codec, NirvanaCodec)
    return codec


def test_damage(small_file: bytes) -> None:
    codec = paper()
    expected = codec.decompress(small_file)
    harm = Damage(small_file, codec.decompress, lambda result: np.array_equal(result, expected))
    harm.flips_and_splices(examples=150)
    harm.foreign(pack(Header("other", 1, b"\x11" * 16), [Chunk("Body", b"\0" * 200)]))
    harm.headers()
    harm.payloads(examples=60)
    for n_bytes in range(0, len(small_file), 97):
        with pytest.raises(CodecError):
            codec.decompress(small_file[:n_bytes])


def test_a_large_size_claimed_is_an_error(small_file: bytes) -> None:
    header, chunks = unpack(small_file)
    for shape in ((7, 1 << 14, 1 << 12, 3), (7, 300, 400, 3), (1 << 30, 24, 32, 3)):
        with pytest.raises(CodecError):
            paper().decompress(pack(replace(header, shape=shape), chunks))


# ---- the same on any machine

PROBE = """
import hashlib, json, sys, torch
from codec.codecs.base.image import Codec
frames = Codec.load("nirvana").decompress(open(sys.argv[1], "rb").read())
about = {"capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
print(json.dumps({**about, "sha256": hashlib.sha256(frames.tobytes()).hexdigest()}))
"""


def test_same_frames_anywhere(small_file: bytes, tmp_path: Path) -> None:
    import hashlib

    codec = paper()
    expected = codec.decompress(small_file)
    before = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            assert np.array_equal(codec.decompress(small_file), expected)
    finally:
        torch.set_num_threads(before)
    with torch.backends.mkldnn.flags(enabled=False):
        assert np.array_equal(codec.decompress(small_file), expected)
    path = tmp_path / "clip"
    path.write_bytes(small_file)
    run = subprocess.run(
        [sys.executable, "-P", "-c", PROBE, str(path)],
        env={**os.environ, **OLD_MACHINE},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert (answer["capability"], answer["threads"]) == ("DEFAULT", 2)
    assert answer["sha256"] == hashlib.sha256(expected.tobytes()).hexdigest()


def test_encoder_and_decoder_agree(small_file: bytes) -> None:
    """What fit says that it decodes to is what the file's digests hold."""
    with paper().open_file(small_file) as file:
        assert [(g.n_frames, g.key) for g in file.groups] == [(3, True), (3, False), (1, True)]
        assert len(list(file.frames())) == 7


def test_encoding_twice_gives_the_same_bytes() -> None:
    clip = noise_clip(6, 16, 24)
    codec = paper().with_settings(effort=0.01)
    assert codec.compress(clip) == codec.compress(clip)
    assert codec.compress(clip) != codec.compress(clip, quality=90)


# ---- interrupted and resumed


class Stop(KeyboardInterrupt):
    pass


def stop_after(frames: int) -> Callable[[EncodeProgress], None]:
    def report(progress: EncodeProgress) -> None:
        if progress.frames >= frames and not progress.step:
            raise Stop

    return report


def test_resumed_is_uninterrupted(toy: NirvanaCodec, tmp_path: Path) -> None:
    clip, path = noise_clip(20), tmp_path / "clip.nirvana"
    expected = toy.compress(clip)
    Toy.fits.clear()
    with pytest.raises(Stop):
        toy.encode_file(clip, path, report=stop_after(12))
    assert [one.name for one in tmp_path.iterdir()] == ["clip.nirvana.part"]
    assert Toy.fits == [0, 15, 30, 45]
    part = tmp_path / "clip.nirvana.part"
    part.write_bytes(part.read_bytes()[:-5])  # torn in a crash: that group is lost
    summary = toy.encode_file(clip, path)
    assert summary.about["resumed"] == 3
    assert Toy.fits[4:] == [45, 60, 75, 90]
    assert path.read_bytes() == expected
    assert [one.name for one in tmp_path.iterdir()] == ["clip.nirvana"]


def test_other_settings_or_source_begin_anew(toy: NirvanaCodec, tmp_path: Path) -> None:
    path = tmp_path / "clip.nirvana"
    for clip, codec in (
        (noise_clip(20), toy.with_settings(quality=50)),
        (noise_clip(20, seed=1), toy),
        (noise_clip(20), toy.with_settings(group=4)),
    ):
        with pytest.raises(Stop):
            toy.encode_file(noise_clip(20), path, report=stop_after(9), replace=True)
        summary = codec.encode_file(clip, path, replace=True)
        assert summary.about["resumed"] == 0
        assert path.read_bytes() == codec.compress(clip)


def test_progress_of_other_settings_is_kept(toy: NirvanaCodec, tmp_path: Path) -> None:
    clip, path = noise_clip(20), tmp_path / "clip.nirvana"
    with pytest.raises(Stop):
        toy.encode_file(clip, path, report=stop_after(12))
    part = tmp_path / "clip.nirvana.part"
    kept = part.read_bytes()
    other = toy.with_settings(quality=50)
    with pytest.raises(Stop):
        other.encode_file(clip, path, report=stop_after(9))
    assert part.read_bytes() == kept
    names = {item.name for item in tmp_path.iterdir()} - {part.name}
    assert len(names) == 1 and next(iter(names)).endswith(".part")
    summary = toy.encode_file(clip, path)  # each goes on with its own
    assert summary.about["resumed"] == 4 and any("other settings" in word for word in summary.words)
    assert {item.name for item in tmp_path.iterdir()} == {path.name, *names}
    assert other.encode_file(clip, path, replace=True).about["resumed"] == 3
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_sound_and_rate_of_frames_dont_touch_progress(toy: NirvanaCodec) -> None:
    source = video_encode.EncodeSource(frames_of(noise_clip(3))[0], lambda: (), "x")

    def identity(**changes: Any) -> bytes:
        codec = toy.with_settings(**changes)
        return video_encode.identity_of(source, codec.preset, codec.encoding, "nirvana 1")

    assert len({identity(), identity(sound=False), identity(fps=12), identity(jobs=3)}) == 1
    assert identity(quality=20) != identity()
    assert identity(bpp=1.0) != identity(bpp=1.0, sound=False)  # sound takes a part of the rate


@pytest.mark.parametrize("name", ["n" * 246 + ".nirvana", "é" * 120 + ".nirvana"])
def test_long_names_have_short_progress(name: str, toy: NirvanaCodec, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        toy.encode_file(noise_clip(20), tmp_path / name, report=stop_after(12))
    assert len(list(tmp_path.iterdir())) == 1
    assert toy.encode_file(noise_clip(20), tmp_path / name).about["resumed"] == 4


def test_a_target_that_appears_is_not_overwritten(toy: NirvanaCodec, tmp_path: Path) -> None:
    path = tmp_path / "clip.nirvana"

    def appear(progress: EncodeProgress) -> None:
        path.write_bytes(b"mine")

    with pytest.raises(UsageError, match="exists already|appeared"):
        toy.encode_file(noise_clip(3), path, report=appear)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("content", [b"[1, 2]", b"x", b""])
def test_parts_that_are_no_journals(content: bytes, toy: NirvanaCodec, tmp_path: Path) -> None:
    part = tmp_path / "clip.nirvana.part"
    part.write_bytes(content)
    if content:
        with pytest.raises(UsageError, match="isn't a file of ours"):
            toy.encode_file(noise_clip(3), tmp_path / "clip.nirvana")
        assert part.read_bytes() == content
    else:
        toy.encode_file(noise_clip(3), tmp_path / "clip.nirvana")
        assert not part.exists()
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    part.unlink(missing_ok=True)
    part.symlink_to(victim)
    with pytest.raises(UsageError, match="isn't a file of ours"):
        toy.encode_file(noise_clip(3), tmp_path / "clip.nirvana", replace=True)
    assert victim.read_bytes() == b""


def test_a_full_disk_names_what_is_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, video_journal.naming_target(tmp_path / "out.nirvana"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "out.nirvana")


def test_records_that_are_no_notes(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    journal = video_journal.Journal(path, bytes(32))
    journal.note(quality=3.0)
    journal._append(video_journal._KIND_NOTE, 0, 0, b"[1, 2]")
    journal.close()
    journal = video_journal.Journal(path, bytes(32))
    assert journal.notes == {"quality": 3.0}
    journal.close()


def test_outputs_are_not_overwritten(toy: NirvanaCodec, tmp_path: Path) -> None:
    path = tmp_path / "clip.nirvana"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        toy.encode_file(noise_clip(3), path)
    assert path.read_bytes() == b"mine"
    (tmp_path / "other.nirvana.part").write_bytes(b"something else")
    with pytest.raises(UsageError, match="isn't a file of ours"):
        toy.encode_file(noise_clip(3), tmp_path / "other.nirvana")


def test_two_at_once_on_one_output(toy: NirvanaCodec, tmp_path: Path) -> None:
    def again(progress: EncodeProgress) -> None:
        with pytest.raises(UsageError, match="another process"):
            toy.encode_file(noise_clip(3), tmp_path / "clip.nirvana")

    toy.encode_file(noise_clip(3), tmp_path / "clip.nirvana", report=again)


def test_a_fit_under_way_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a group: from its checkpoint, to the same bytes."""
    clip, path = noise_clip(6, 16, 24), tmp_path / "clip.nirvana"
    codec = paper().with_settings(effort=0.03)
    steps: list[tuple[float, int]] = []
    codec.encode_file(clip, path, report=lambda p: steps.append((p.frames, p.step)))
    expected = path.read_bytes()
    monkeypatch.setattr(video_journal.FitFile, "due", lambda self: True)

    def stop(progress: EncodeProgress) -> None:
        if progress.step == 40:
            raise Stop

    with pytest.raises(Stop):
        codec.encode_file(clip, path, report=stop, replace=True)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "clip.nirvana", "clip.nirvana.part", "clip.nirvana.part.0-0"
    ]  # fmt: skip
    again: list[int] = []
    codec.encode_file(clip, path, report=lambda p: again.append(p.step), replace=True)
    assert again[0] == 40  # the checkpoint is of step 39
    assert path.read_bytes() == expected
    assert [one.name for one in tmp_path.iterdir()] == ["clip.nirvana"]


# ---- workers


def test_workers_give_the_same_bytes(tmp_path: Path) -> None:
    clip, path = noise_clip(12, 16, 16), tmp_path / "clip.nirvana"
    codec = paper().with_settings(effort=0.01, key_every=2)
    expected = codec.compress(clip)
    reports: list[EncodeProgress] = []
    summary = codec.with_settings(jobs=2).encode_file(clip, path, report=reports.append)
    assert path.read_bytes() == expected
    assert (summary.about["groups"], summary.about["key_groups"]) == (4, 2)
    assert summary.about["key_bytes_extra"] > 0
    assert max(report.frames for report in reports) == 12
    with pytest.raises(MediaError, match="breaks"):
        codec.with_settings(jobs=2).encode_file((frames_of(clip)[0], broken()), tmp_path / "other.nirvana")
    assert [one.name for one in tmp_path.iterdir()] == ["clip.nirvana"]


def test_each_worker_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as that can be seen without one."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert video_encode.devices_of(NirvanaPreset(device="cuda"), 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert video_encode.devices_of(NirvanaPreset(device="cuda:1"), 2) == ["cuda:1", "cuda:1"]
    assert video_encode.devices_of(NirvanaPreset(), 2) == video_encode.devices_of(GridPreset(), 2) == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert video_encode.devices_of(NirvanaPreset(device="cuda"), 1) == ["cuda"]  # torch says what is wrong
    context = video_encode.EncodeContext(NirvanaPreset(), EncodeSettings(), "")
    assert context.on("cuda:1").preset == NirvanaPreset(device="cuda:1") and context.on("cpu") is context
    grid = video_encode.EncodeContext(GridPreset(), EncodeSettings(), "")
    assert grid.on("cuda:1") is grid


class Plain(Preset):
    """Declares nothing but what every preset must."""

    name = "plain"

    def fit(self, *given: Any, **more: Any) -> Fitted:
        raise NotImplementedError

    def decode(self, *given: Any) -> Any:
        raise NotImplementedError


def test_what_a_preset_need_not_say() -> None:
    """Callers ask every preset the same: there is an answer for one that says nothing."""
    context = video_encode.EncodeContext(Plain(), EncodeSettings(), "")
    assert (context.group_length, context.key_every, context.fit_settings(50).effort) == (8, 8, 1.0)
    assert Plain().fingerprint() == "" and Plain().most_frames is None
    assert Plain().on("cuda:1") == Plain(device="cuda:1")
    codec = NirvanaCodec(Plain(), EncodeSettings())
    assert codec.with_settings(group=1024, effort=0).encoding.effort == 0
    asked = video_encode.EncodeContext(Plain(), EncodeSettings(group=5, key_every=3, effort=0.5), "")
    assert (asked.group_length, asked.key_every, asked.fit_settings(50).effort) == (5, 3, 0.5)


@pytest.mark.parametrize("name", nirvana.PRESETS)
def test_every_preset_takes_a_device(name: str) -> None:
    preset = NirvanaCodec.presets("cuda:1")[name]()
    assert isinstance(preset, Preset) and (preset.name, preset.device) == (name, "cuda:1")


def test_a_lossless_encoding_has_a_finite_psnr(toy: NirvanaCodec, tmp_path: Path) -> None:
    """Equal samples: what is kept of them and averaged over groups is a number."""
    path = tmp_path / "clip.nirvana"
    clip = noise_clip(7)
    assert toy.with_settings(quality=100).encode_file(clip, path).about["psnr"] == pytest.approx(99)
    assert np.array_equal(toy.decompress(path.read_bytes()), clip)


def test_workers_take_the_devices_dealt_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = noise_clip(12, 16, 16)
    codec = paper().with_settings(effort=0.01, key_every=2, jobs=2)
    monkeypatch.setattr(video_encode, "devices_of", lambda preset, jobs: ["nonsense:0"] * jobs)
    with pytest.raises(RuntimeError, match="nonsense"):
        codec.encode_file(clip, tmp_path / "clip.nirvana")


def broken() -> Iterator[Frame]:
    raise MediaError("a source that breaks")
    yield


# ---- targets


@pytest.mark.parametrize(("goal", "value"), [("psnr", 38.0), ("psnr", 45.0), ("bpp", 11.0), ("bpp", 16.0)])
def test_targets(toy: NirvanaCodec, tmp_path: Path, goal: str, value: float) -> None:
    rng = np.random.default_rng(0)
    clip = (noise_clip(20, 32, 32).astype(int) // 2 + rng.integers(0, 60, (20, 32, 32, 3))).astype(np.uint8)
    summary = toy.with_settings(**{goal: value}, quality=50).encode_file(clip, tmp_path / "clip.nirvana")
    found = toy.decompress((tmp_path / "clip.nirvana").read_bytes())
    frames = [[(frame,) for frame in video] for video in (found, clip)]
    if goal == "psnr":
        assert psnr_of_frames(frames[0], frames[1]) == pytest.approx(summary.about["psnr"], abs=0.05)
        assert summary.about["psnr"] == pytest.approx(value, abs=1.0)
    else:
        assert summary.about["bpp"] == pytest.approx(value, rel=0.2)
    assert len(Toy.fits) <= 3 * 4 + 2 * 7  # probes, and two encodings


def test_a_target_needs_a_source_that_can_be_read_twice(toy: NirvanaCodec) -> None:
    info, frames = frames_of(noise_clip(6))
    with pytest.raises(UsageError, match="only one"):
        toy.with_settings(bpp=3).compress((info, frames))


def test_a_target_resumed(toy: NirvanaCodec, tmp_path: Path) -> None:
    codec = toy.with_settings(psnr=38.0)
    clip = noise_clip(20, 32, 32)
    codec.encode_file(clip, tmp_path / "whole.nirvana")
    with pytest.raises(Stop):
        codec.encode_file(
            clip, tmp_path / "clip.nirvana", report=lambda p: stop_after(9)(p) if p.what == "groups" else None
        )
    Toy.fits.clear()
    codec.encode_file(clip, tmp_path / "clip.nirvana")
    assert Toy.fits[0] == 45  # no probes again
    assert (tmp_path / "clip.nirvana").read_bytes() == (tmp_path / "whole.nirvana").read_bytes()


def test_time_left_is_said(toy: NirvanaCodec, tmp_path: Path) -> None:
    reports: list[EncodeProgress] = []
    toy.encode_file(noise_clip(9), tmp_path / "clip.nirvana", report=reports.append)
    assert [report.frames for report in reports] == [1.5, 3, 4.5, 6, 7.5, 9]
    assert all(report.total == 9 and report.seconds_left is not None for report in reports)
    assert reports[-1].seconds_left == 0


def test_a_group_longer_than_the_network_allows() -> None:
    paper = package.Codec.load("nirvana@paper")
    assert isinstance(paper, NirvanaCodec)
    assert paper.with_settings(group=3).encoding.group == 3
    with pytest.raises(UsageError, match="at most 3"):
        paper.with_settings(group=4)
    with pytest.raises(UsageError, match="effort 0"):
        paper.with_settings(effort=0)


@pytest.mark.parametrize("preset", nirvana.PRESETS)
def test_each_preset_names_itself(preset: str) -> None:
    """A file says which preset made it, whatever the default one is."""
    clip = noise_clip(3, 20, 24)
    codec = package.Codec.load(f"nirvana@{preset}")
    assert isinstance(codec, NirvanaCodec)
    data = codec.with_settings(effort=0.01).compress(clip)
    found = package.decode(data)
    assert found.shape == clip.shape
    assert np.array_equal(found, codec.decompress(data))
