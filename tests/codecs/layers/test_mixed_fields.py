"""Interpolation with mixed residuals: bounds hold, streams are the same everywhere, damage is an error."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import native
from codec.codecs.layers import interpolation, mixed_fields
from codec.codecs.layers.mixed_fields import decode_block, encode_block
from codec.entropy.mixing.residuals import new_mixer
from codec.errors import StreamError, UsageError, WeightsError

compiled = pytest.mark.skipif(not native.instruction_sets(), reason="the twin takes minutes for this")


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    draw, grid = np.random.default_rng(seed), np.indices(shape)
    waves = [
        np.sin(sum(w * axis for w, axis in zip(draw.uniform(0.05, 0.4, len(shape)), grid, strict=True)))
        for _ in range(3)
    ]
    return (sum(waves) + draw.normal(size=shape) * 1e-3).astype(np.float32)


@compiled
@settings(deadline=None, max_examples=60)
@given(
    shape=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    double=st.booleans(),
    scale=st.integers(-290, 290),
    bound=st.floats(1e-9, 2),
    seed=st.integers(0, 99),
)
def test_the_bound_holds(shape: list[int], double: bool, scale: int, bound: float, seed: int) -> None:
    size = 10.0**scale if double else 10.0 ** (scale / 10)
    x = (smooth((1, *shape), seed).astype(np.float64) * size).astype(np.float64 if double else np.float32)
    limit = bound * size
    data = encode_block(x, limit)
    back = decode_block(data, x.shape, x.dtype)
    assert back.dtype == x.dtype
    assert back.shape == x.shape
    assert interpolation.within(x, back, limit).all()
    assert encode_block(x, limit) == data


@compiled
@pytest.mark.parametrize("value", [0.0, 7.5, -3e30])
def test_fields_of_one_value(value: float) -> None:
    x = np.full((1, 40, 50), value, np.float32)
    data = encode_block(x, 1e-3)
    assert np.array_equal(decode_block(data, x.shape, x.dtype), x)
    assert len(data) < 120


@compiled
def test_it_is_much_shorter_than_fixed_distributions() -> None:
    x = smooth((2, 30, 40, 50))
    for bound in (1e-1, 1e-2, 1e-3):
        assert len(encode_block(x, bound)) < 0.93 * len(interpolation.encode_block(x, bound))


@compiled
def test_the_same_bytes_on_every_machine() -> None:
    """Streams of every release must decode for ever: a change of one unit anywhere changes these."""
    steps = np.random.default_rng(5).integers(-9, 10, (1, 24, 30))
    x = (steps.cumsum(1).cumsum(2) / 64).astype(np.float32)  # exact, unlike sines
    data = encode_block(x, 1 / 16)
    assert hashlib.sha256(data).hexdigest()[:16] == "689980d2b342fbae"
    for name in native.instruction_sets():
        with native.using(name):
            assert encode_block(x, 1 / 16) == data


def test_the_twin_decodes() -> None:
    x = smooth((1, 9, 11))
    data = encode_block(x, 1e-2)
    with native.using(None):
        assert encode_block(x, 1e-2) == data
        assert np.array_equal(decode_block(data, x.shape, x.dtype), decode_block(data, x.shape, x.dtype))
        back = decode_block(data, x.shape, x.dtype)
    assert np.array_equal(back, decode_block(data, x.shape, x.dtype))


def test_what_it_refuses() -> None:
    x = smooth((1, 4, 4))
    for bad in (x.astype(np.int32), x[0, 0], np.full((1, 2), np.nan, np.float32)):
        with pytest.raises(UsageError):
            encode_block(bad, 1.0)
    for bound in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(UsageError):
            encode_block(x, bound)
    assert encode_block(x[:, :0], 1.0) == b""
    assert decode_block(b"", (1, 0, 4), "f4").shape == (1, 0, 4)


@compiled
def test_damage_is_an_error() -> None:
    x = smooth((1, 20, 22))
    data, draw = encode_block(x, 1e-3), np.random.default_rng(0)
    for n in [*range(30), len(data) // 2]:
        with pytest.raises(StreamError):
            decode_block(data[:n], x.shape, x.dtype)
    with pytest.raises(StreamError):
        decode_block(data + b"1234567890", x.shape, x.dtype)
    for _ in range(300):
        bad = bytearray(data)
        for _ in range(int(draw.integers(1, 4))):
            bad[int(draw.integers(len(bad)))] ^= int(draw.integers(1, 256))
        try:
            back = decode_block(bytes(bad), x.shape, x.dtype)
        except StreamError:
            continue
        assert np.isfinite(back).all()


@compiled
def test_a_few_bytes_are_no_large_field() -> None:
    data = encode_block(smooth((1, 20, 22)), 1e-3)
    with pytest.raises(StreamError, match="can't hold"):
        decode_block(data, (1, 1 << 14, 1 << 14), "f4")


@compiled
def test_values_that_no_residual_reaches_are_kept() -> None:
    x = smooth((1, 12, 14))
    x[0, 3, 4], x[0, 7, 7] = 3e38, -3e38
    data = encode_block(x, 1e-6)
    back = decode_block(data, x.shape, x.dtype)
    assert back[0, 3, 4] == x[0, 3, 4]
    assert interpolation.within(x, back, 1e-6).all()


def test_a_start_that_is_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "residuals.bin"
    other.write_bytes(mixed_fields._START.read_bytes()[:-1])
    monkeypatch.setattr(mixed_fields, "_START", other)
    mixed_fields._start.cache_clear()
    with pytest.raises(WeightsError, match="install codec again"):
        encode_block(smooth((1, 4, 4)), 1.0)
    mixed_fields._start.cache_clear()


@compiled
def test_learning_changes_a_mixer() -> None:
    mixer = new_mixer(1)
    mixed_fields.learn(mixer, smooth((1, 10, 10)), 1e-2, filtered=True)
    assert mixer.ages.any()


def test_the_middle_of_an_array() -> None:
    x = np.zeros((2, 40, 100, 6))
    middle = mixed_fields.middle_of(x, 4000)
    assert middle.shape[0] == 2
    assert 8 <= middle.shape[2] < 40
    assert middle.size <= 4000
    assert mixed_fields.middle_of(x, x.size).shape == x.shape
