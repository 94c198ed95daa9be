"""Levels of pictures, mixed: compiled and in Python, the same bytes and the same numbers in every table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing import levels_oracle
from codec.entropy.mixing.coding import compiled
from codec.entropy.mixing.levels import BEST, GRADIENT, ZERO, LevelModel, logistic
from codec.entropy.mixing.mixer import Mixer
from codec.entropy.mixing.oracle import Oracle
from codec.native import mixing_levels
from codec.native.mixing import PRICE, READ, WRITE

pytestmark = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")


def _soft(shape: tuple[int, ...], top: int, seed: int) -> np.ndarray:
    """A sheet with a slope, an edge, a flat part and some noise."""
    draw = np.random.default_rng(seed)
    _n, h, w, c = shape
    y, x = np.mgrid[0:h, 0:w]
    base = top * (0.2 + 0.5 * x / w + 0.2 * (y > h // 2))[None, :, :, None]
    out = base * (1 + 0.1 * np.arange(c)) + draw.normal(0, 0.02 * top, shape)
    out[:, : h // 3, w // 2 :] = top // 3
    return np.clip(out, 0, top).astype(np.uint16)


def _cases() -> Iterator[tuple[str, np.ndarray, int]]:
    draw = np.random.default_rng(5)
    yield "grey", _soft((1, 9, 11, 1), 255, 0), 8
    yield "rgb", _soft((1, 6, 7, 3), 255, 1), 8
    yield "four", _soft((1, 4, 5, 4), 255, 2), 8
    yield "items", _soft((3, 5, 4, 1), 255, 3), 8
    yield "wide", _soft((1, 6, 6, 1), 65535, 4), 16
    yield "odd", _soft((1, 5, 6, 2), 4095, 5), 12
    yield "bits", draw.integers(0, 2, (1, 7, 9, 1)).astype(np.uint16), 1
    yield "noise", draw.integers(0, 256, (1, 6, 7, 3)).astype(np.uint16), 8
    yield "extreme", (draw.integers(0, 2, (1, 6, 6, 2)) * 65535).astype(np.uint16), 16
    yield "flat", np.full((1, 9, 9, 1), 200, np.uint16), 8
    yield "dot", np.full((1, 1, 1, 1), 77, np.uint16), 8
    yield "column", _soft((1, 9, 1, 1), 255, 6), 8
    yield "row", _soft((1, 1, 9, 3), 255, 7), 8


CASES = {name: (values, bits) for name, values, bits in _cases()}
TABLES = ("lines", "weights", "ages", "finals", "final_ages", "refined")


def _same(a: Mixer, b: Mixer) -> None:
    for table in TABLES:
        assert np.array_equal(getattr(a, table), getattr(b, table)), table


def _small(model: LevelModel) -> Mixer:
    return model.mixer()


@pytest.mark.parametrize("base", [ZERO, GRADIENT, BEST])
@pytest.mark.parametrize("case", CASES)
def test_the_twin_gives_the_same_numbers(case: str, base: int) -> None:
    values, bits = CASES[case]
    model = LevelModel.new(values.shape, bits, base)
    expected = _small(model)
    oracle = Oracle(WRITE, expected)
    levels_oracle.code_levels(oracle, values.copy(), bits, base, logistic())
    stream = oracle.finish()
    for name in native.instruction_sets():
        with native.using(name):
            mixer = _small(model)
            coder = compiled(WRITE, mixer, None, 64 * values.size)
            mixing_levels.code_levels(coder, values, bits, base, logistic())
            assert coder.finish() == stream, name
            _same(mixer, expected)
            mixer, decoded = _small(model), np.zeros_like(values)
            coder = compiled(READ, mixer, stream)
            mixing_levels.code_levels(coder, decoded, bits, base, logistic())
            assert coder.finish() == b"" and np.array_equal(decoded, values), name
            _same(mixer, expected)
            mixer = _small(model)
            coder = compiled(PRICE, mixer)
            mixing_levels.code_levels(coder, values, bits, base, logistic())
            _same(mixer, expected)
            assert abs(coder.bits - 8 * len(stream)) < 0.02 * coder.bits + 24


def test_the_twin_reads_and_prices() -> None:
    values, bits = CASES["rgb"]
    model = LevelModel.new(values.shape, bits)
    stream, price = model.encode(values), model.price(values)
    with native.using(None):
        assert model.encode(values) == stream
        assert model.price(values) == price
        assert np.array_equal(model.decode(stream), values)


def test_wrong_calls_are_refused_before_any_pointer() -> None:
    values, bits = CASES["grey"]
    model = LevelModel.new(values.shape, bits)
    calls: tuple[Any, ...] = (
        values.astype(np.int32),
        values[0],
        np.asfortranarray(values)[:, ::2],
        np.zeros((1, 2, 2, 5), np.uint16),
    )
    for wrong in calls:
        with pytest.raises(AssertionError):
            mixing_levels.code_levels(compiled(PRICE, model.mixer()), wrong, bits, BEST, logistic())
    for n_bits, base in ((0, 0), (17, 0), (8, 3), (8, -1), (4, 0)):
        with pytest.raises(AssertionError):
            mixing_levels.code_levels(compiled(PRICE, model.mixer()), values, n_bits, base, logistic())
    with pytest.raises(AssertionError):
        mixing_levels.code_levels(compiled(PRICE, model.mixer()), values, bits, BEST, logistic()[:-1].copy())
