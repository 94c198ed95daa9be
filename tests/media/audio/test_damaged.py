"""Damaged, cut and hostile sound: an error, or notes that say what is missing, all else in its place; never a crash.

Whatever is done to a file, reading it ends soon, takes little memory, and gives as many samples as it says at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codec.errors import CodecError, MediaError
from codec.media import probe_bytes
from codec.media.audio.reader import open_audio, read_audio

from ...damage import MIB, Memory, alarm, edits, limits
from .making import clip, coded, integers, music, stored, vorbis, wav
from .test_gapless import changed, pages_of

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
SECONDS = 5
N = 44_100 * SECONDS
LONG = music(N)
FILES: dict[str, bytes] = {
    "flac": coded(LONG, "flac", "flac", bits=16),
    "flac in ogg": coded(LONG, "flac", "ogg", bits=16),
    "mp3": coded(LONG, "libmp3lame", "mp3"),
    "bare aac": coded(LONG, "aac", "adts"),
    "opus": coded(LONG, "libopus", "ogg"),
    "vorbis": vorbis(LONG),
    "aac": coded(LONG, "aac", "ipod"),
    "wavpack": coded(LONG, "wavpack", "wv"),
}
SHORT = music(3000)
SMALL: dict[str, bytes] = {
    "wav": wav(integers(SHORT, 16).tobytes()[:400]),
    "aiff": stored(integers(SHORT, 16)[:100], "AIFF", "PCM_16"),
    "w64": stored(integers(SHORT, 24)[:100] << 8, "W64", "PCM_24"),
    "rf64": stored(integers(SHORT, 16)[:100], "RF64", "PCM_16"),
    "adpcm": stored(integers(SHORT, 16), "WAV", "MS_ADPCM"),
    "flac": coded(SHORT, "flac", "flac", bits=24),
    "mp3": coded(SHORT, "libmp3lame", "mp3"),
    "aac": coded(SHORT, "aac", "ipod"),
    "bare aac": coded(SHORT, "aac", "adts"),
    "alac": coded(SHORT, "alac", "ipod", bits=16),
    "opus": coded(SHORT, "libopus", "ogg"),
    "vorbis": vorbis(SHORT),
    "opus in webm": coded(SHORT, "libopus", "webm"),
    "wavpack": coded(SHORT, "wavpack", "wv"),
    "video": clip(SHORT, Fraction(0), n_frames=2),
}


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def holed(data: bytes) -> bytes:
    return data[: len(data) // 2] + data[len(data) // 2 + 3000 :]


def overwritten(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes(2500) + data[at + 2500 :]


@pytest.mark.parametrize("damage", [flipped, holed, overwritten])
@pytest.mark.parametrize("name", ["flac", "flac in ogg", "opus", "vorbis"])
def test_what_is_behind_damage_stays_in_its_place(name: str, damage: Callable[[bytes], bytes]) -> None:
    good = read_audio(FILES[name]).samples
    with open_audio(damage(FILES[name])) as reader:
        assert reader.info.n_samples == len(good)
        samples = reader.read().samples
        assert [note.kind for note in reader.notes] == ["damage"]
        n_lost = int(reader.notes[0].words.split()[0])
        assert 1000 < n_lost < len(good) // 2 and "samples can't be decoded: they are silent" in reader.notes[0].words
        again = reader.read().samples
        assert len(reader.notes) == 1
    np.testing.assert_array_equal(samples, again)
    np.testing.assert_array_equal(samples[:30_000], good[:30_000])
    np.testing.assert_array_equal(samples[-30_000:], good[-30_000:])
    assert n_lost <= np.sum((samples == 0).all(axis=1)) + 10


@pytest.mark.parametrize("name", ["mp3", "bare aac", "aac", "wavpack"])
def test_damage_to_packets_moves_nothing(name: str) -> None:
    good = read_audio(FILES[name]).samples
    at = len(FILES[name]) // 2 + 9000  # within a block of WavPack
    data = FILES[name][:at] + b"\x55\xaa" * 30 + FILES[name][at + 60 :]
    with open_audio(data) as reader:
        samples = reader.read().samples
    assert len(samples) == len(good)
    np.testing.assert_array_equal(samples[:30_000], good[:30_000])
    if name in ("mp3", "wavpack"):  # AAC's noise depends on what was before
        np.testing.assert_array_equal(samples[-30_000:], good[-30_000:])


@pytest.mark.parametrize("name", ["flac", "flac in ogg", "opus", "vorbis", "mp3", "bare aac", "wavpack"])
def test_cut_files(name: str) -> None:
    good = read_audio(FILES[name]).samples
    with open_audio(FILES[name][: len(FILES[name]) * 6 // 10]) as reader:
        samples = reader.read().samples
        assert len(samples) == reader.info.n_samples
        if name != "bare aac":  # which says nothing of its length
            assert [note.kind for note in reader.notes] == ["cut"]
        if name in ("flac", "mp3", "wavpack"):
            assert f"{len(good) - len(samples)} of {len(good)} samples are missing" in reader.notes[0].words
    assert N * 4 // 10 < len(samples) < N * 8 // 10
    np.testing.assert_array_equal(samples[:-3000], good[: len(samples) - 3000])


def test_a_file_without_its_index() -> None:
    for n_bytes in (1000, len(FILES["aac"]) - 300):
        with pytest.raises(MediaError, match="the index .moov. is missing or cut: the recording or the download"):
            open_audio(FILES["aac"][:n_bytes])


def test_nothing_can_be_decoded() -> None:
    data = FILES["flac"]
    at = data.index(b"\xff\xf8")
    with pytest.raises(MediaError, match="no sound in it"):
        open_audio(data[:at] + bytes(len(data) - at))


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=_CHECKS)
@given(st.data())
@pytest.mark.parametrize("name", SMALL)
def test_any_change(name: str, data: st.DataObject) -> None:
    """Changes anywhere, and more of them in the first bytes, where the numbers are."""
    good = SMALL[name]
    whole = data.draw(st.booleans())
    edit = data.draw(edits(len(good) if whole else min(len(good), 200)))
    check(edit(good) if whole else edit(good[:200]) + good[200:])


@pytest.mark.parametrize("name", SMALL)
def test_any_end(name: str) -> None:
    good = SMALL[name]
    for n_bytes in {*range(min(200, len(good))), *range(200, len(good), max(1, len(good) // 40))}:
        check(good[:n_bytes])


def check(data: bytes) -> None:
    """Read bytes as sound: a CodecError, or as many samples as are said at the end, of a small file not many."""
    with alarm("reading took too long"):
        probe_bytes(data)
        try:
            with open_audio(data) as reader:
                n_samples = sum(len(block) for block in reader.blocks(4999))
                assert reader.info.n_samples == n_samples < 20_000_000
                reader.read(100, 300)
        except CodecError as error:
            assert str(error).startswith("the data: ")


class TestHostile:
    def test_a_length_of_years(self) -> None:
        """A FLAC that says it is long, and one whose last page lies: neither takes memory or silence for it."""
        memory = Memory()
        data = bytearray(SMALL["flac"])
        data[21:26] = bytes([data[21] | 0x0F]) + b"\xff\xff\xff\xff"  # 36 bits of STREAMINFO
        with limits(), open_audio(bytes(data)) as reader:
            assert (reader.info.n_samples or 0) > 1 << 35
            assert len(reader.read().samples) == 3000 == reader.info.n_samples
            assert reader.notes[0].kind == "cut"
        assert memory.grown() < 30 * MIB

    @pytest.mark.parametrize("late", [1 << 33, 1 << 44, (1 << 63) - 1])
    @pytest.mark.parametrize("page", [-1, 4])
    def test_a_page_of_another_year(self, late: int, page: int) -> None:
        pages = pages_of(FILES["opus"])
        pages[page] = changed(pages[page], granule=late)
        data = b"".join(pages)
        memory = Memory()
        with alarm("silence for years"), limits():
            try:
                with open_audio(data) as reader:
                    assert sum(len(block) for block in reader.blocks()) < 4 * N
                    assert [note.kind for note in reader.notes] == ["cut"]
            except MediaError as error:
                assert "expected 0 to" in str(error) or "can't be decoded" in str(error)
        assert memory.grown() < 30 * MIB

    def test_an_index_of_great_size(self) -> None:
        for size in (1 << 30, 0xFFFFFFFF):
            data = b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42" + struct.pack(">I", size) + b"moov" + bytes(100)
            with pytest.raises(MediaError, match="an index of"):
                open_audio(data)
        with pytest.raises(MediaError, match="no sound in it"):
            open_audio(b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42" + struct.pack(">I4sI4s", 16, b"moov", 8, b"mvhd"))

    def test_too_many_channels(self) -> None:
        with pytest.raises(MediaError, match="sound of 9 channels; expected 1 to 8"):
            open_audio(stored(np.zeros((100, 9), np.int16), "AIFF", "PCM_16"))
        head = bytearray(SMALL["opus"])
        at = head.index(b"OpusHead")
        head[at + 9] = 200
        check(bytes(head))
