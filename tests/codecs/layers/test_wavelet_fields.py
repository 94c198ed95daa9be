"""Wavelets with an error bound: it holds for every value, streams are the same everywhere, damage is an error."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import native
from codec.codecs.layers import interpolation
from codec.codecs.layers import wavelet_fields as layer
from codec.errors import StreamError, UsageError

compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")


def waves(shape: tuple[int, ...], dtype: str = "float32", noise: float = 0.01) -> np.ndarray:
    """Smooth waves along all axes, and a little noise."""
    draw = np.random.default_rng(sum(shape))
    x = sum(np.sin(0.3 * (i + 1) * axis + i) for i, axis in enumerate(np.indices(shape)))
    return (x + noise * draw.standard_normal(shape)).astype(dtype)


def error(x: np.ndarray, y: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        return float(np.abs(x.astype(np.longdouble) - y.astype(np.longdouble)).max())


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    """Wild arrays, and a bound."""
    n_axes = draw(st.integers(1, 4))
    shape = (draw(st.integers(1, 3)), *(draw(st.integers(1, (80, 20, 12, 7)[n_axes - 1])) for _ in range(n_axes)))
    seed, dtype = draw(st.integers(0, 1 << 30)), draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(seed)
    most = 30 if dtype == "float32" else 290
    scale = 10.0 ** draw(st.integers(-most, most))
    kind = draw(st.sampled_from(["waves", "noise", "spikes", "constant", "wild"]))
    if kind == "waves":
        x = waves(shape, "float64") * scale
    elif kind == "constant":
        x = np.full(shape, scale)
    elif kind == "wild":
        x = rng.standard_normal(shape) * 10.0 ** rng.uniform(-most, most, shape)
    else:
        x = rng.standard_normal(shape) if kind == "noise" else (rng.random(shape) < 0.1) * 1.0
        x = (x + rng.standard_normal()) * scale
    bound = scale * 10.0 ** draw(st.floats(-18, 1))
    return x.astype(dtype), max(bound, 5e-324)


@compiled
@settings(max_examples=300, deadline=None)
@given(arrays())
def test_every_value_is_within_the_bound(case: tuple[np.ndarray, float]) -> None:
    x, bound = case
    data = layer.encode(x, bound)
    y = layer.decode(data, x.shape, x.dtype)
    assert y.dtype == x.dtype and y.shape == x.shape
    assert error(x, y) <= bound


@pytest.mark.parametrize("shape", [(1, 9, 12), (2, 30), (1, 4, 5, 6), (1, 2, 3, 3, 7), (3, 1, 1)])
@pytest.mark.parametrize("bound", [0.3, 0.002])
def test_all_engines_write_and_read_the_same(shape: tuple[int, ...], bound: float) -> None:
    x = waves(shape)
    with native.using(None):
        data = layer.encode(x, bound)
        y = layer.decode(data, shape, x.dtype)
    assert error(x, y) <= bound
    for name in native.instruction_sets():
        with native.using(name):
            assert layer.encode(x, bound) == data
            assert layer.decode(data, shape, x.dtype).tobytes() == y.tobytes()


def test_streams_are_golden() -> None:
    draw = np.random.default_rng(3)
    x = np.cumsum(np.cumsum(draw.integers(-99, 100, (2, 13, 14)), 1), 2).astype(np.float32)
    streams = [layer.encode(x, bound) for bound in (60.0, 2.0)]
    assert [hashlib.sha256(stream).hexdigest()[:16] for stream in streams] == GOLDEN


@compiled
def test_more_axes_are_merged() -> None:
    x = waves((2, 1, 3, 4, 9, 10))
    y = layer.decode_block(layer.encode_block(x, 0.01), x.shape, x.dtype)
    assert y.shape == x.shape and error(x, y) <= 0.01


@compiled
def test_smooth_fields_are_smaller_than_by_interpolation() -> None:
    x = waves((1, 40, 48, 56), noise=0.003)
    for bound in (0.1, 0.01, 0.001):
        assert len(layer.encode(x, bound)) < 0.9 * len(interpolation.encode(x, bound))


@compiled
def test_nothing_and_constants_are_short() -> None:
    assert layer.encode(np.zeros((0, 4), np.float32), 1.0) == b""
    assert layer.decode(b"", (0, 4), "float32").shape == (0, 4)
    assert len(layer.encode(np.full((1, 100, 100), 7.25, np.float32), 1e-3)) < 40


def test_what_cannot_be_coded_is_refused() -> None:
    x = waves((1, 8, 8))
    for wrong, bound in ((x.astype(int), 1.0), (x[0, 0], 1.0), (x, 0.0), (x, np.inf), (x * np.nan, 1.0)):
        with pytest.raises(UsageError):
            layer.encode(wrong, bound)


@compiled
def test_damage_is_an_error_or_another_field() -> None:
    x = waves((1, 30, 40), noise=0.05)
    draw = np.random.default_rng(0)
    for bound in (0.05, 1e-3):
        data = layer.encode(x, bound)
        for cut in range(12):
            with pytest.raises(StreamError):
                layer.decode(data[:cut], x.shape, x.dtype)
        for _ in range(200):
            broken = bytearray(data[: int(draw.integers(12, len(data)))] if draw.random() < 0.2 else data)
            at = int(draw.integers(min(40, len(broken)) if draw.random() < 0.5 else len(broken)))
            broken[at] ^= int(draw.integers(1, 256))
            with contextlib.suppress(StreamError):
                assert layer.decode(bytes(broken), x.shape, x.dtype).shape == x.shape


@compiled
def test_few_bytes_for_many_values_are_refused() -> None:
    data = layer.encode(np.zeros((1, 8, 8), np.float32), 1.0)
    with pytest.raises(StreamError, match="can't hold"):
        layer.decode(data, (1, 1 << 20, 1 << 20), "float32")
    for junk in (b"\0", b"\0" * 50, b"\1" * 50, b"\2" * 12, b"\3" * 50, b"\xff" * 200):
        with pytest.raises(StreamError):
            layer.decode(junk, (1, 50, 50), "float32")


GOLDEN = ["1ec6a1ae9d3c905e", "a9e762d4a1b420df"]
