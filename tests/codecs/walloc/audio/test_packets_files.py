"""Files of the packet model: the same in pieces as whole, any part of them, damage, and what it doesn't take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec import Codec
from codec.container import END_TAG, unpack
from codec.errors import StreamError, UsageError
from codec.media.audio.values import AudioInfo

RATE = 44_100
PIECE = 256 * 256


@pytest.fixture(scope="module")
def packets() -> Any:
    return Codec.load("walloc-audio@packets")


def tones(n: int, channels: int = 2) -> np.ndarray:
    t = np.arange(n)[:, None] / RATE
    pitch = 220.0 * np.arange(1, channels + 1)
    return (0.3 * np.sin(2 * np.pi * pitch * t) * (1 + np.sin(7 * t)) / 2).astype(np.float32)


@pytest.mark.parametrize("n", [1, 256, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 12_345])
def test_pieces_are_the_model_of_all_at_once(packets: Any, n: int) -> None:
    x = tones(n)
    y, rate = packets.decompress(packets.compress((x, RATE)))
    assert (rate, y.shape) == (RATE, x.shape)
    model = packets.model
    latents = model.latents(x, model.nominal)
    whole = model.samples(latents, model.nominal, n) / 2**23
    assert np.abs(y - whole).max() < 0.02, "a latent that is rounded the other way is all that may differ"
    if n > 1000:
        assert np.square(y - x).mean() < 0.02 * np.square(x).mean()


def test_any_part_is_the_same_and_so_is_a_stream(packets: Any) -> None:
    x = tones(3 * PIECE + 777)
    data = packets.compress((x, RATE))
    whole, _ = packets.decompress(data)
    with packets.open_file(data) as file:
        for start, stop in ((0, 5), (PIECE - 3, PIECE + 3), (2 * PIECE, 2 * PIECE + 9000), (len(x) - 1, len(x))):
            assert np.array_equal(file.read(start, stop).samples, whole[start:stop])
    encoder = packets.stream_encoder(AudioInfo(RATE, 2, sample="float32"))
    parts = [encoder.push(x[k : k + 7001]) for k in range(0, len(x), 7001)]
    streamed = b"".join([*parts, encoder.flush()])
    assert [len(chunk.payload) for chunk in unpack(streamed)[1]] == [len(chunk.payload) for chunk in unpack(data)[1]]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_any_channels_and_the_papers_picture(packets: Any, channels: int) -> None:
    x = tones(PIECE + 500, channels)
    mixed = packets.compress((x, RATE))
    picture = packets.with_settings(coder="webp").compress((x, RATE))
    assert len(mixed) < len(picture)
    y, _ = packets.decompress(mixed)
    assert np.array_equal(y, packets.decompress(picture)[0])
    assert (np.square(y - x).mean(0) < 0.1 * np.square(x).mean(0)).all()


def test_a_missing_piece_costs_itself(packets: Any) -> None:
    x = tones(4 * PIECE)
    data = bytearray(packets.compress((x, RATE)))
    whole, _ = packets.decompress(bytes(data))
    sizes = [12 + len(chunk.payload) for chunk in unpack(bytes(data))[1] if chunk.tag != END_TAG]
    data[len(data) - 20 - sum(sizes[2:]) + 100] ^= 1  # in the third piece
    with packets.open_file(bytes(data), conceal=True) as file:
        left = file.read().samples
        assert [note.kind for note in file.notes] == ["damage"]
    halo = packets.model.config.halo * 256
    assert np.array_equal(left[: 2 * PIECE - halo], whole[: 2 * PIECE - halo])
    assert np.array_equal(left[3 * PIECE + halo :], whole[3 * PIECE + halo :])


def test_what_it_does_not_take(packets: Any) -> None:
    with pytest.raises(UsageError, match="walloc-audio@packets"):
        Codec.load("walloc-audio").with_settings(coder="webp")
    with pytest.raises(UsageError, match="there are mix, webp"):
        packets.with_settings(coder="rans")


@pytest.mark.parametrize("payload", [b"", b"\1", b"\0\0", b"\xff\xff" + bytes(50), b"\0\5" + bytes(range(50))])
@pytest.mark.parametrize("coder", ["mix", "webp"])
def test_hostile_pieces(packets: Any, payload: bytes, coder: str) -> None:
    data = packets.with_settings(coder=coder).compress((tones(500), RATE))
    decoder = packets.decoder(unpack(data)[0], RATE, 2)
    with pytest.raises(StreamError):
        decoder.decode(payload, 0)
