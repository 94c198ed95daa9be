"""The model of wavelet coefficients: streams and all tables are the same by kernel and twin; golden; damage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from codec import native
from codec.codecs.layers.wavelet_fields import bands_of, levels_of
from codec.entropy.mixing.coefficients import PRICE, READ, WRITE, Band, CoefficientCoder, new_mixer
from codec.entropy.mixing.mixer import Mixer
from codec.errors import StreamError

ENGINES = (*native.instruction_sets(), None)
SHAPES = [(2, 1, 1, 11, 13), (2, 1, 3, 6, 10), (1, 2, 3, 10, 4), (1, 1, 1, 1, 40), (1, 1, 1, 1, 1), (2, 10, 3, 2, 3)]
LEARNED = ("lines", "weights", "ages", "finals", "final_ages", "refined")


def bands(shape: Sequence[int]) -> list[Band]:
    return bands_of(shape, levels_of(shape))


def numbers(shape: Sequence[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients with a long tail, up to the largest, and corrections."""
    draw = np.random.default_rng(seed)
    most = 1 << 28

    def tailed(least: int) -> np.ndarray:
        return (draw.integers(0, most, shape) >> draw.integers(least, 32, shape)).astype(np.int32)

    values, corrections = (tailed(n) * draw.choice([-1, 1], shape).astype(np.int32) for n in (22, 25))
    values.reshape(-1)[[0, -1]] = most, -most
    return values, corrections


def coded(values: np.ndarray, corrections: np.ndarray) -> tuple[bytes, Mixer]:
    mixer = new_mixer(values.size)
    coder = CoefficientCoder(WRITE, mixer, bands(values.shape), None, 1 << 16)
    coder.coefficients(values)
    coder.corrections(values, corrections)
    return coder.finish(), mixer


def decoded(data: bytes, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray, Mixer]:
    mixer = new_mixer(int(np.prod(shape)))
    coder = CoefficientCoder(READ, mixer, bands(shape), data)
    values, corrections = (np.full(shape, 77, np.int32) for _ in range(2))
    coder.coefficients(values)
    coder.corrections(values, corrections)
    coder.finish()
    return values, corrections, mixer


@pytest.mark.parametrize("shape", SHAPES)
def test_all_engines_leave_the_same_streams_and_tables(shape: tuple[int, ...]) -> None:
    values, corrections = numbers(shape)
    with native.using(None):
        data, learned = coded(values.copy(), corrections.copy())
    for engine in ENGINES:
        with native.using(engine):
            again, mixer = coded(values.copy(), corrections.copy())
            assert again == data
            *back, reader = decoded(data, shape)
        assert np.array_equal(back[0], values) and np.array_equal(back[1], corrections)
        for name in LEARNED:
            assert np.array_equal(getattr(mixer, name), getattr(learned, name)), name
            assert np.array_equal(getattr(reader, name), getattr(learned, name)), name


@pytest.mark.parametrize("engine", ENGINES[-2:])
def test_streams_are_golden(engine: str | None) -> None:
    with native.using(engine):
        streams = [coded(*numbers(shape, seed=5))[0] for shape in SHAPES[:3]]
    digests = [hashlib.sha256(stream).hexdigest()[:16] for stream in streams]
    assert digests == GOLDEN


@pytest.mark.parametrize("engine", ENGINES[-2:])
def test_the_price_is_the_length(engine: str | None) -> None:
    values, corrections = numbers(SHAPES[1])
    with native.using(engine):
        data, _ = coded(values, corrections)
        coder = CoefficientCoder(PRICE, new_mixer(values.size), bands(values.shape))
        coder.coefficients(values)
        coder.corrections(values, corrections)
    assert abs(coder.bits / 8 - len(data)) < 0.01 * len(data) + 8


def test_smooth_activity_is_learned() -> None:
    draw = np.random.default_rng(0)
    shape = (1, 1, 1, 64, 64)
    scale = np.exp(2 * np.sin(np.arange(64) / 9))
    values = np.rint(draw.standard_normal(shape) * scale).astype(np.int32)
    rates = [len(coded(v, np.zeros_like(v))[0]) for v in (values, draw.permutation(values.ravel()).reshape(shape))]
    assert rates[0] < 0.93 * rates[1]


@pytest.mark.parametrize("engine", ENGINES[-2:])
def test_damage_is_an_error_or_other_numbers(engine: str | None) -> None:
    shape = (1, 1, 1, 8, 9)
    with native.using(engine):
        data, _ = coded(*numbers(shape))
        draw = np.random.default_rng(0)
        n_errors = 0
        for _ in range(20):
            broken = bytearray(data)
            broken[int(draw.integers(len(data)))] ^= int(draw.integers(1, 256))
            try:
                values, corrections, _ = decoded(bytes(broken), shape)
            except StreamError:
                n_errors += 1
            else:
                assert np.abs(values).max() <= 1 << 28 and np.abs(corrections).max() <= 1 << 28
        assert n_errors
        for broken in (data + b"\1" * 40, data + b"\0"):
            with pytest.raises(StreamError):
                decoded(broken, shape)


GOLDEN = ["db536a615e7d2032", "2ad4885842e969ae", "014125ab8266e4b9"]
