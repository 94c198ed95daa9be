"""The CDF 9/7 transform of fields: it inverts, and is the same numbers by every kernel and its twin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.codecs.layers.wavelet_fields import levels_of
from codec.native.wavelet_fields import forward, inverse

SHAPES = [
    (1, 1, 1, 1, 37),
    (2, 1, 1, 19, 65),
    (1, 1, 7, 18, 20),
    (3, 6, 10, 11, 17),
    (1, 130, 1, 1, 70),
    (2, 2, 3, 2, 300),
]


@pytest.fixture(params=native.instruction_sets())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using(request.param):
        yield request.param


def field(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * 1e3


def transformed(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    forward(y, levels_of(x.shape))
    return y


def back(y: np.ndarray) -> np.ndarray:
    x = y.copy()
    inverse(x, levels_of(y.shape))
    return x


@pytest.mark.parametrize("shape", SHAPES)
def test_the_twin_inverts_and_keeps_energy(shape: tuple[int, ...]) -> None:
    x = field(shape)
    with native.using(None):
        y = transformed(x)
        assert np.abs(back(y) - x).max() < 1e-9
    assert levels_of(shape) and 0.5 < np.square(y).sum() / np.square(x).sum() < 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_kernels_give_the_twins_numbers(isa: str, shape: tuple[int, ...], threads: int) -> None:
    x = field(shape, 1)
    with native.using(None):
        expected = transformed(x)
        returned = back(expected)
    before = native.threads()
    native.set_threads(threads)
    try:
        y = transformed(x)
        assert y.tobytes() == expected.tobytes() and back(y).tobytes() == returned.tobytes()
    finally:
        native.set_threads(before)


@pytest.mark.parametrize("n", range(2, 20))
def test_a_line_of_any_length(isa: str, n: int) -> None:
    for shape, axis in (((1, 1, 1, 1, n), 4), ((1, 1, n, 1, 3), 2)):
        x = field(shape, n)
        levels, (a, b) = [(shape, (axis,))], (x.copy(), x.copy())
        forward(a, levels)
        with native.using(None):
            forward(b, levels)
        assert a.tobytes() == b.tobytes()
        inverse(a, levels)
        assert np.allclose(a, x)


def test_constants_and_lines_have_no_details() -> None:
    x = np.broadcast_to(np.arange(64.0), (1, 1, 1, 64, 64)).copy()
    y = transformed(x)
    assert np.abs(y[..., 32:, 4:28]).max() < 1e-9 and np.abs(y[..., :32, 36:60]).max() < 1e-9


def test_sums_of_huge_values_are_the_same(isa: str) -> None:
    x = field((1, 1, 1, 20, 20)) * 1e300
    with native.using(None), np.errstate(all="ignore"):
        expected = transformed(x)
    assert np.array_equal(transformed(x), expected, equal_nan=True)


def test_wrong_calls_are_refused() -> None:
    x = field((1, 1, 1, 8, 8))
    for box, axis in (((1, 1, 1, 9, 8), 3), ((1, 1, 1, 8, 8), 0), ((1, 1, 1, 8, 8), 5), ((1, 1, 1, 0, 8), 4)):
        with pytest.raises(AssertionError):
            forward(x, [(box, (axis,))])
    wrong: Any
    for wrong in (x.astype(np.float32), x[0], x[..., ::2]):
        with pytest.raises(AssertionError):
            forward(wrong, [((1, 1, 1, 8, 4), (4,))])
