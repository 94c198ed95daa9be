"""Kernels of mixed coefficients: wrong calls are refused, hostile streams and full rooms are errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.codecs.layers.wavelet_fields import bands_of, levels_of
from codec.entropy.mixing.coding import READ, WRITE, compiled
from codec.entropy.mixing.coefficients import new_mixer
from codec.native import mixing_coefficients as kernels

SHAPE = (2, 1, 4, 12, 20)


@pytest.fixture(params=native.instruction_sets())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using(request.param):
        yield request.param


def bands(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.array([band.numbers for band in bands_of(shape, levels_of(shape))], np.int64)


def test_hostile_streams_end(isa: str) -> None:
    draw = np.random.default_rng(0)
    for data in (b"", b"\xff" * 9, b"\0\1", b"\x80" + b"\0" * 40 + b"\1", draw.bytes(300), b"\xff" * 4000):
        coder = compiled(READ, new_mixer(int(np.prod(SHAPE))), data)
        values, corrections = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.int32)
        try:
            kernels.code_coefficients(coder, values, bands())
            kernels.code_corrections(coder, values, bands(), corrections)
        except ValueError:
            pass
        assert np.abs(values).max() <= kernels.MOST and np.abs(corrections).max() <= kernels.MOST


def test_a_full_room_is_an_error(isa: str) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int32)
    coder = compiled(WRITE, new_mixer(values.size), None, 16)
    with pytest.raises(MemoryError):
        kernels.code_coefficients(coder, values, bands())


def test_wrong_calls_are_refused() -> None:
    mixer = new_mixer(int(np.prod(SHAPE)))
    values = np.zeros(SHAPE, np.int32)
    coder = compiled(WRITE, mixer, None, 1000)
    wrong: Any
    for wrong in (values.astype(np.int64), values[0], values[..., ::2], np.full(SHAPE, 1 + (1 << 28), np.int32)):
        with pytest.raises(AssertionError):
            kernels.code_coefficients(coder, wrong, bands())
    with pytest.raises(AssertionError):
        kernels.code_corrections(coder, values, bands(), values[:1])
    for column in range(kernels.BAND_FIELDS):  # bands that leave the field
        for number in (-1, 1 << 40):
            broken = bands()
            broken[-1, column] = number
            if column in (20, 22) and number > 0:
                continue  # a level may be any, and "has a parent" is a flag
            if 8 <= column < 16:
                broken[-1, 22] = 1
            if column == 22:
                continue
            with pytest.raises(AssertionError):
                kernels.code_coefficients(coder, values, broken)
    for wrong in (bands()[:0], bands()[:, :-1], bands().astype(np.int32)):
        with pytest.raises(AssertionError):
            kernels.code_coefficients(coder, values, wrong)


def test_a_coder_of_another_plan_is_refused() -> None:
    from codec.entropy.mixing.coding import symbol_plan
    from codec.entropy.mixing.mixer import Mixer

    coder = compiled(WRITE, Mixer.new(symbol_plan(8, 3, 2)), None, 1000)
    with pytest.raises(AssertionError):
        kernels.code_coefficients(coder, np.zeros(SHAPE, np.int32), bands())
