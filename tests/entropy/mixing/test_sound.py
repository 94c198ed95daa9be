"""Mixed spectra of sound: the compiled loops and their twin, streams that are damaged, numbers at their limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing import sound
from codec.entropy.mixing.mixer import Mixer
from codec.entropy.mixing.sound import SoundPiece
from codec.errors import StreamError

EDGES = np.array([0, 8, 24, 64], np.int32)
FIELDS = [field.name for field in dataclasses.fields(SoundPiece)]


@pytest.fixture(params=[*native.instruction_sets(), None], ids=str)
def way(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with native.using(request.param):
        yield request.param


def new() -> Mixer:
    return Mixer.new(sound.plan(), 0.2)


def piece(channels: int, frames: int = 4, seed: int = 0) -> SoundPiece:
    draw = np.random.default_rng(seed)
    out = SoundPiece.zeros(frames, channels, 64, EDGES)
    out.shapes[:] = [0, 3, 1, 2][:frames]
    out.scales[:] = np.cumsum(draw.integers(-2, 3, out.scales.shape), 0)
    out.noises[:] = draw.integers(0, 16, out.noises.shape)
    out.filled[:] = draw.random(out.filled.shape) < 0.7
    out.values[:] = np.rint(draw.laplace(0, 3, out.values.shape))
    for frame, channel in np.ndindex(frames, channels):
        n = 64 >> int(out.shapes[frame])
        empty = np.repeat(out.filled[frame, channel] == 0, np.diff(EDGES) >> int(out.shapes[frame]))
        out.values[frame, channel].reshape(-1, n)[:, empty] = 0
    out.values[0, 0, 0] = 900_000 * int(out.filled[0, 0, 0])
    if channels > 1:
        out.angles[:] = [31, 0, 17]
    return out


def blank(like: SoundPiece) -> SoundPiece:
    frames, channels, size = like.values.shape
    return SoundPiece.zeros(frames, channels, size, like.edges)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_piece_comes_back_and_every_way_writes_the_same(way: str | None, channels: int) -> None:
    given = piece(channels)
    mixer = new()
    data = sound.encode(given, mixer, 7)
    if way is not None:
        with native.using(None):
            twin = new()
            assert sound.encode(given, twin, 7) == data
        for name in ("lines", "weights", "ages", "finals", "final_ages", "refined"):
            assert np.array_equal(getattr(mixer, name), getattr(twin, name)), name
    back = blank(given)
    sound.decode(data, back, new(), 7)
    for name in FIELDS:
        assert np.array_equal(getattr(back, name), getattr(given, name)), name
    assert abs(sound.price(given, new(), 7) - 8 * len(data)) < 80


def test_an_instance_is_never_changed_by_writing(way: str | None) -> None:
    given, copy = piece(2), piece(2)
    sound.encode(given, new(), 0)
    assert all(np.array_equal(getattr(given, name), getattr(copy, name)) for name in FIELDS)


@pytest.mark.parametrize("channels", [1, 2])
def test_hostile_streams_end_within_limits(way: str | None, channels: int) -> None:
    draw, given = np.random.default_rng(0), piece(channels)
    data = sound.encode(given, new(), 0)
    streams = [b"", b"\xff" * 9, b"\0\1", draw.bytes(200), data[: len(data) // 2], data + b"\1", b"\xff" * 3000]
    streams += [bytes([*data[:k], data[k] ^ 64, *data[k + 1 :]]) for k in (0, 3, len(data) // 2)]
    refused = 0
    for stream in streams:
        back = blank(given)
        try:
            sound.decode(stream, back, new(), 0)
        except StreamError:
            refused += 1
        assert np.abs(back.values).max() <= sound.MOST
        assert back.shapes.min() >= 0 and back.shapes.max() < sound.SHAPES
        assert back.noises.min() >= 0 and back.noises.max() < sound.NOISES
        assert np.abs(back.scales).max() <= sound.SCALE
        assert set(np.unique(back.filled)) <= {0, 1}
    assert refused >= 3


needs_kernels = pytest.mark.skipif(not native.instruction_sets(), reason="the compiled module checks them")


@needs_kernels
@pytest.mark.parametrize(
    ("name", "value"),
    [("shapes", 4), ("angles", 32), ("filled", 2), ("scales", 256), ("noises", 16), ("values", -(1 << 21))],
)
def test_numbers_beyond_their_limits_are_not_written(name: str, value: int) -> None:
    given = piece(2)
    getattr(given, name).ravel()[0] = value
    with pytest.raises(AssertionError):
        sound.encode(given, new(), 0)


@needs_kernels
def test_wrong_calls_are_refused() -> None:
    for edges in ([0, 8, 24, 60], [0, 24, 8, 64], [8, 16, 24, 64], [0, 12, 24, 64]):
        wrong = dataclasses.replace(piece(2), edges=np.array(edges, np.int32))
        with pytest.raises(AssertionError):
            sound.encode(wrong, new(), 0)
