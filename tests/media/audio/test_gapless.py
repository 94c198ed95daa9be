"""Encoders' delay and padding are dropped exactly: a track that is cut in two, coded, and joined has no gap.

The two halves of sound, coded apart, are as long as they were, and every sample is in its place: at the join, too.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from codec.media.audio.mp3 import DECODER_DELAY
from codec.media.audio.ogg import checksum
from codec.media.audio.reader import open_audio, read_audio

from .making import coded, integers, lag, music, snr, stored, vorbis

N, CUT = 70_007, 30_011  # a prime number of samples: no codec's packets end there

Coder = Callable[[NDArray[np.float32]], bytes]

LOSSY: dict[str, Coder] = {
    "mp3": lambda samples: coded(samples, "libmp3lame", "mp3"),
    "aac in m4a": lambda samples: coded(samples, "aac", "ipod"),
    "opus": lambda samples: coded(samples, "libopus", "ogg"),
    "opus in webm": lambda samples: coded(samples, "libopus", "webm"),
    "vorbis": vorbis,
}
LOSSLESS: dict[str, tuple[int, Coder]] = {
    "flac": (16, lambda samples: coded(samples, "flac", "flac", bits=16)),
    "flac, 24 bits": (24, lambda samples: coded(samples, "flac", "flac", bits=24)),
    "flac in ogg": (16, lambda samples: coded(samples, "flac", "ogg", bits=16)),
    "flac in matroska": (16, lambda samples: coded(samples, "flac", "matroska", bits=16)),
    "alac": (16, lambda samples: coded(samples, "alac", "ipod", bits=16)),
    "wav": (16, lambda samples: stored(integers(samples, 16), "WAV", "PCM_16")),
    "aiff": (16, lambda samples: stored(integers(samples, 16), "AIFF", "PCM_16")),
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", LOSSY)
def test_halves_join(name: str, channels: int) -> None:
    whole = music(N, channels)
    halves = [read_audio(LOSSY[name](whole[:CUT])), read_audio(LOSSY[name](whole[CUT:]))]
    assert [half.info.n_samples for half in halves] == [CUT, N - CUT]
    joined = np.concatenate([half.to_float() for half in halves])
    assert joined.shape == whole.shape
    for part in (
        slice(0, 4000),
        slice(CUT - 4000, CUT),
        slice(CUT, CUT + 4000),
        slice(N - 4000, N),
        slice(20000, 60000),
    ):
        assert lag(joined[part], whole[part]) == 0, part
        assert snr(joined[part], whole[part]) > 9, part
    assert snr(joined[CUT - 200 : CUT + 200], whole[CUT - 200 : CUT + 200]) > 6


@pytest.mark.parametrize("name", LOSSLESS)
def test_halves_join_exactly(name: str) -> None:
    bits, coder = LOSSLESS[name]
    whole = music(N, 2)
    joined = np.concatenate([read_audio(coder(half)).samples for half in (whole[:CUT], whole[CUT:])])
    np.testing.assert_array_equal(joined, integers(whole, bits))


@pytest.mark.parametrize("n", [1, 2, 100, 575, 576, 1023, 1024, 1025, 1152, 2304, 4801])
@pytest.mark.parametrize("name", ["mp3", "aac in m4a", "opus", "vorbis"])
def test_any_length(name: str, n: int) -> None:
    with open_audio(LOSSY[name](music(n))) as reader:
        assert reader.info.n_samples == (max(n, 47) if name == "mp3" else n)  # FFmpeg's tag can't say less
        assert len(reader.read().samples) == reader.info.n_samples
        assert not reader.notes


@pytest.mark.parametrize("seconds", [0.25, 0.5, 2.0])
def test_vorbis_of_a_single_page_is_in_place(seconds: float) -> None:
    """A calm tone: its first page is its last, or its first blocks are of two sizes."""
    t = np.arange(round(seconds * 48000)) / 48000
    tone = (0.4 * np.sin(2 * np.pi * (440 * t + 300 * t * t))).astype(np.float32)[:, None]
    assert snr(read_audio(vorbis(tone, 48000)).to_float(), tone) > 15


def test_a_seam_of_silence_is_heard_as_none() -> None:
    """Loud sound up to the end of a file and from the start of the next: no click, no dip between them."""
    whole = music(N, 1)
    for name in ("mp3", "aac in m4a", "opus"):
        joined = np.concatenate([read_audio(LOSSY[name](half)).to_float() for half in (whole[:CUT], whole[CUT:])])
        steps = np.abs(np.diff(joined[CUT - 50 : CUT + 50, 0])).max()
        assert steps < 3 * np.abs(np.diff(whole[:, 0])).max(), name
        level = np.sqrt(np.mean(joined[CUT - 100 : CUT + 100] ** 2) / np.mean(whole[CUT - 100 : CUT + 100] ** 2))
        assert 0.7 < level < 1.4, name


def test_mp3_without_the_tag_of_an_encoder_gives_all_its_frames() -> None:
    data = coded(music(N), "libmp3lame", "mp3", write_xing="0")
    audio = read_audio(data)
    assert audio.info.n_samples == -(-(N + 1105) // 1152) * 1152  # LAME's delay of 576, and the decoder's
    assert lag(audio.to_float()[20000:30000], music(N)[20000:30000], 1200) == 576 + DECODER_DELAY


def test_bare_aac_gives_all_its_frames() -> None:
    audio = read_audio(coded(music(N), "aac", "adts"))
    assert audio.info.n_samples == -(-(N + 1024) // 1024) * 1024
    assert lag(audio.to_float()[20000:30000], music(N)[20000:30000], 1200) == 1024


def test_itunes_tag_says_the_length() -> None:
    """A file as iTunes writes it: no edit list, and the delay, the padding and the length in a tag."""
    whole = music(N)
    data = coded(whole, "aac", "ipod")
    at = data.index(b"edts")
    data = data[:at] + b"free" + data[at + 4 :]  # no edit list any more
    plain = read_audio(data)
    assert lag(plain.to_float()[20000:30000], whole[20000:30000], 1200) == 1024
    words = f" 00000000 {1024:08X} {100:08X} {N - 100:016X}" + " 00000000" * 8
    tagged = with_itunes_tag(data, words)
    audio = read_audio(tagged)
    assert audio.info.n_samples == N - 100
    assert lag(audio.to_float()[20000:30000], whole[20000:30000]) == 0
    assert "ITUNSMPB" not in audio.info.tags
    lies = f" 00000000 {1024:08X} {0:08X} {N * 2:016X}"
    assert read_audio(with_itunes_tag(data, lies)).info.n_samples == plain.info.n_samples


def with_itunes_tag(data: bytes, words: str) -> bytes:
    """An MP4 file with the index at its end, in whose place one with the tag is put."""

    def box(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", 8 + len(body)) + name + body

    item = box(b"mean", bytes(4) + b"com.apple.iTunes") + box(b"name", bytes(4) + b"iTunSMPB")
    item += box(b"data", struct.pack(">II", 1, 0) + words.encode())
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(10))
    meta = box(b"meta", bytes(4) + handler + box(b"ilst", box(b"----", item)))
    at = data.index(b"moov") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    index = data[at + 8 : at + size].replace(b"udta", b"free")
    assert at + size == len(data), "the index isn't at the end"
    return data[:at] + box(b"moov", index + box(b"udta", meta))


def test_opus_that_was_cut_out_of_a_stream_begins_at_its_first_page() -> None:
    """Positions of a recording that began in the middle of a stream are not from 0 on."""
    pages = pages_of(coded(music(96_000), "libopus", "ogg", page_duration="200000"))
    late = [int.from_bytes(page[6:14], "little") + 1_000_000 for page in pages]
    data = b"".join(page if k < 2 else changed(page, granule=late[k]) for k, page in enumerate(pages))
    audio = read_audio(data)
    assert audio.info.n_samples == 96_000
    assert lag(audio.to_float()[20000:30000], music(96_000)[20000:30000]) == 0


def test_of_streams_that_take_turns_the_first_is_read() -> None:
    """Two streams in one file, page by page: the end of the other one, which is longer, is nothing to the first."""
    first = pages_of(coded(music(30_000), "libopus", "ogg", page_duration="100000"))
    second = [changed(page, serial=77) for page in pages_of(coded(music(90_000, seed=1), "libopus", "ogg"))]
    data = first[0] + second[0] + first[1] + b"".join(second[1:3]) + b"".join(first[2:]) + b"".join(second[3:])
    with open_audio(data) as reader:
        assert reader.info.n_samples == 30_000
        assert lag(reader.read().samples[10000:20000], music(30_000)[10000:20000]) == 0


def pages_of(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    marks = [at for at in range(len(data)) if data[at : at + 5] == b"OggS\0"]
    return [data[start:stop] for start, stop in zip(marks, [*marks[1:], len(data)], strict=True)]


def changed(page: bytes, granule: int | None = None, serial: int | None = None) -> bytes:
    """A page with another position or another stream's number, and the checksum that belongs to it."""
    head = bytearray(page[:27])
    if granule is not None:
        head[6:14] = granule.to_bytes(8, "little")
    if serial is not None:
        head[14:18] = serial.to_bytes(4, "little")
    head[22:26] = bytes(4)
    head[22:26] = struct.pack("<I", checksum(bytes(head) + page[27:]))
    return bytes(head) + page[27:]


def test_a_second_stream_behind_the_first_is_left_out() -> None:
    first, second = coded(music(48_000), "libopus", "ogg"), coded(music(24_000), "libopus", "ogg")
    with open_audio(first + second) as reader:
        assert reader.info.n_samples == 48_000
        assert [note.kind for note in reader.notes] == ["track"]
        assert len(reader.read().samples) == 48_000
    assert read_audio(io.BytesIO(first)).info.n_samples == 48_000
