"""The lapped transform: perfect reconstruction, whole numbers that every machine finds, blocks of every shape."""

from __future__ import annotations

import numpy as np
import pytest

from codec.codecs.walloc.audio import blocks, lapped
from codec.codecs.walloc.audio.bands import band_edges, frame_size, hashed_noise, noise_gains, steps
from codec.codecs.walloc.audio.blocks import FULL_SCALE, analyse, borders, rotate, synthesise, uniform_spectra, unrotate
from codec.errors import StreamError

SIZE = 512


def sound(channels: int, frames: int) -> np.ndarray:
    return np.random.default_rng(channels).normal(0, 0.1, (channels, frames * SIZE))


@pytest.mark.parametrize("shapes", [[0, 0, 0], [3, 3, 3], [0, 3, 1, 2, 0, 2, 3, 0]])
def test_samples_come_back(shapes: list[int]) -> None:
    shape = np.array(shapes, np.int32)
    x = sound(2, len(shapes))
    y, places = x.copy(), borders(shape, SIZE)
    rotate(y, *places)
    spectra = analyse(y, shape, SIZE)
    assert np.isclose(np.square(spectra).sum(), np.square(x).sum()), "the transform is orthogonal"
    back = synthesise(np.rint(spectra * FULL_SCALE), shape)
    unrotate(back, *places)
    assert np.array_equal(back, np.rint(back))
    assert np.abs(back / FULL_SCALE - x).max() < 32 / FULL_SCALE


def test_the_transform_is_a_dct_of_type_4() -> None:
    k = np.arange(64) + 0.5
    matrix = np.cos(np.pi / 64 * np.outer(k, k)) * np.sqrt(2 / 64)
    assert np.allclose(blocks._dct4(np.eye(64)), matrix)
    assert np.allclose(blocks._table(64), matrix * 2**23, atol=0.51)


@pytest.mark.parametrize("shape", range(4))
def test_uniform_blocks_are_blocks_of_one_shape(shape: int) -> None:
    x = sound(1, 5)
    shapes = np.full(5, shape, np.int32)
    y = x.copy()
    rotate(y, *borders(shapes, SIZE))
    assert np.allclose(uniform_spectra(x[0], SIZE >> shape).reshape(5, 1, SIZE), analyse(y, shapes, SIZE))


def numbers_of_tables() -> list[np.ndarray]:
    """What tables are before they are rounded: all that decoding uses."""
    out = []
    for size in (2048 >> k for k in range(6)):
        k = np.arange(size) + 0.5
        out.append(np.cos(np.pi / size * np.outer(k, k)) * np.sqrt(2 / size) * 2.0**23)
        out += [table * 2.0**20 for table in blocks._window(size // 2)]
    out += [table * 2.0**20 for table in lapped._turns()]
    return out


def test_no_table_depends_on_the_last_digits_of_a_machine() -> None:
    """Cosines differ by 1e-16 between machines, of numbers up to 2^20: none is that near to where rounding changes."""
    for table in numbers_of_tables():
        whole = np.abs(table) < 1e-3  # a cosine of a right angle is nearly 0, which is 0
        assert np.abs(table - np.floor(table) - 0.5)[~whole].min() > 1e-8


def test_sums_stay_exact_in_any_order() -> None:
    shapes = np.zeros(1, np.int32)
    loudest = np.zeros((1, 1, SIZE))
    loudest[:] = np.floor(2.0**53 / blocks._table(SIZE).max() / SIZE) - 1
    assert np.array_equal(synthesise(loudest, shapes), synthesise(loudest.copy(), shapes))
    exact = [sum(int(c) * int(t) for c, t in zip(loudest[0, 0], row, strict=True)) for row in blocks._table(SIZE)]
    assert np.array_equal(synthesise(loudest, shapes)[0], [(e + (1 << 22)) >> 23 for e in exact])
    with pytest.raises(StreamError, match="louder than any sound"):
        synthesise(loudest * 1.01, shapes)


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 768_000])
def test_bands_cover_a_frame(rate: int) -> None:
    size = frame_size(rate)
    edges = band_edges(size, rate)
    assert edges[0] == 0 and edges[-1] == size and len(edges) <= 64
    assert (np.diff(edges) >= 8).all() and not (edges % 8).any()


def test_steps_are_sixteenths_of_octaves() -> None:
    assert np.allclose(np.log2(steps()[1:]) - np.log2(steps()[:-1]), 1 / 16, atol=0.008)
    assert np.allclose(noise_gains()[1:], 2**16 * 3**0.5 * 2.0 ** (-(np.arange(1, 16) + 1) / 2), rtol=0.004)


def test_noise_is_white_and_the_same_from_anywhere() -> None:
    noise = hashed_noise(0, 1 << 16)
    assert abs(noise.mean()) < 200 and abs(noise.std() - 2**16 / 12**0.5) < 100
    spectrum = np.abs(np.fft.rfft(noise)[1:]) ** 2
    assert spectrum.max() < 30 * spectrum.mean()
    assert np.array_equal(hashed_noise(1234, 99), noise[1234 : 1234 + 99])
