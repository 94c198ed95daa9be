"""The error-bounded coder: the bound holds for every value, whatever they are; the bytes are the same anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.codecs.layers import interpolation
from codec.codecs.layers.interpolation import decode, encode
from codec.errors import StreamError, UsageError

from ...damage import edits, limits


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A few waves, and a little noise."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(0, 1, n, endpoint=False) for n in shape), indexing="ij")
    out = 0.01 * rng.standard_normal(shape)
    for _ in range(5):
        phase = sum(rng.normal(0, 9) * axis for axis in grid) + rng.uniform(0, 6)
        out = out + np.sin(phase)
    return out


def back(x: np.ndarray, bound: float) -> np.ndarray:
    data = encode(x, bound)
    out = decode(data, x.shape, x.dtype)
    assert out.dtype == x.dtype
    assert (np.abs(out.astype(np.longdouble) - x.astype(np.longdouble)) <= bound).all()
    return out


SHAPES = [
    (1, 1),
    (3, 2),
    (2, 17),
    (1, 64),
    (2, 9, 11),
    (1, 33, 5),
    (3, 8, 9, 10),
    (1, 1, 1, 40),
    (1, 5, 6, 7, 8),
    (0, 4),
]


class TestBound:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_any_shape(self, shape: tuple[int, ...], dtype: type) -> None:
        x = smooth(shape).astype(dtype)
        for bound in (1e-6, 0.01, 1.0, 50.0):
            back(x, bound)

    @pytest.mark.parametrize(
        "values",
        [
            np.zeros(50),
            np.full(50, 1e30),
            np.r_[np.zeros(30), 1e30, np.zeros(19)],
            np.array([1e-40, -1e-40, 3e38, -3e38, 1.0] * 10),
            np.random.default_rng(0).standard_normal(50) * 10.0 ** np.arange(-25, 25),
            np.random.default_rng(1).integers(0, 2**32, 50).astype(np.uint32).view(np.float32),
        ],
    )
    def test_any_values(self, values: np.ndarray) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = np.nan_to_num(values.astype(np.float32), posinf=1, neginf=2).reshape(1, 5, 10)
        for bound in (1e-45, 1e-7, 1e-3, 1.0, 1e35):
            back(x, bound)
            back(x.astype(np.float64), bound)

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_floats_of_all_kinds(self, data: st.DataObject) -> None:
        finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
        values = data.draw(st.lists(finite, min_size=1, max_size=40))
        bound = data.draw(st.floats(min_value=1e-30, max_value=1e30))
        back(np.array(values, np.float32)[None], bound)

    def test_the_bound_is_used(self) -> None:
        x = smooth((1, 40, 40)).astype(np.float32)
        assert np.abs(back(x, 0.05).astype(np.float64) - x).max() > 0.045

    @pytest.mark.parametrize(
        "x", [np.zeros((2, 3), np.int32), np.zeros(3), np.zeros((1,) * 6), np.full((1, 2), np.nan)]
    )
    def test_wrong_input(self, x: np.ndarray) -> None:
        with pytest.raises(UsageError):
            encode(x, 1.0)

    @pytest.mark.parametrize("bound", [0, -1, float("nan"), float("inf")])
    def test_wrong_bound(self, bound: float) -> None:
        with pytest.raises(UsageError):
            encode(np.zeros((1, 4)), bound)


class TestSize:
    def test_smaller_than_sz3(self) -> None:
        """In the same call, on waves and a little noise, at bounds loose and tight."""
        from pysz import sz, szConfig, szErrorBoundMode  # type: ignore[import-untyped]

        x = smooth((40, 44, 48)).astype(np.float32)
        for bound in (0.3, 0.03, 0.003):
            config = szConfig()
            config.errorBoundMode, config.absErrorBound = szErrorBoundMode.ABS, bound
            theirs = len(bytes(sz.compress(x, config)[0]))
            assert len(encode(x[None], bound)) < theirs, bound

    def test_parts_share_what_they_can(self) -> None:
        x = np.stack([smooth((24, 24), seed) for seed in range(4)])
        together = len(encode(x, 0.02))
        assert together < sum(len(encode(part[None], 0.02)) for part in x) - 100

    def test_levels_that_differ_are_apart(self) -> None:
        """As pressure levels are: interpolating from one to the next is worse than nothing."""
        planes = np.stack([smooth((48, 50), 3) + 100.0 * (7 * level % 5) for level in range(5)])
        apart = len(encode(planes, 0.02))
        assert apart < 1.1 * len(encode(planes - planes.mean((1, 2), keepdims=True), 0.02))
        assert len(encode(planes[None], 0.02)) < 1.1 * apart

    def test_a_constant_costs_nothing(self) -> None:
        assert len(encode(np.full((1, 64, 64, 64), 3.5, np.float32), 1e-3)) < 200


class TestSame:
    PROGRAM = (
        "import hashlib, sys, numpy as np\n"
        "from codec.codecs.layers.interpolation import decode, encode\n"
        "x = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(2, 20, 21, 22)\n"
        "data = encode(x, 0.01)\n"
        "for part in (data, decode(data, x.shape, x.dtype).tobytes()):\n"
        "    print(hashlib.sha256(part).hexdigest())\n"
    )

    def test_another_process_with_old_instructions(self) -> None:
        """NumPy without its vector instructions. What decides a row is single operations, and `decimal`."""
        x = smooth((2, 20, 21, 22)).astype(np.float32)
        data = encode(x, 0.01)
        expected = [hashlib.sha256(part).hexdigest() for part in (data, decode(data, x.shape, x.dtype).tobytes())]
        features = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
        run = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", self.PROGRAM],
            input=x.tobytes(),
            capture_output=True,
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": features},
            check=True,
        )
        assert run.stdout.decode().split() == expected

    def test_rows_are_fixed(self) -> None:
        """Files depend on them: a change needs another stream version."""
        tables = interpolation._tables()
        digest = hashlib.sha256(tables.cdf.astype("<i4").tobytes() + tables.lengths.astype("<i4").tobytes()).hexdigest()
        assert (len(tables.lengths), digest[:16]) == (207, "2250d93eeacc692c")


class TestDamage:
    X = smooth((2, 12, 13)).astype(np.float32)

    @given(st.data())
    @settings(max_examples=120, deadline=None)
    def test_any_change(self, data: st.DataObject) -> None:
        """Behind correct checksums: an error, or some array of the right shape."""
        good = encode(self.X, 0.01)
        bad = data.draw(edits(len(good)))(good)
        try:
            out = decode(bad, self.X.shape, self.X.dtype)
        except StreamError:
            return
        assert out.shape == self.X.shape
        assert np.isfinite(out).all()

    def test_cut(self) -> None:
        good = encode(self.X, 0.01)
        for n in range(0, len(good), 7):
            with pytest.raises(StreamError):
                decode(good[:n], self.X.shape, self.X.dtype)

    def test_another_shape(self) -> None:
        good = encode(self.X, 0.01)
        for shape in ((2, 13, 12), (2, 12, 14), (1, 12, 13), (4, 12, 13)):
            with contextlib.suppress(StreamError):
                assert decode(good, shape, "float32").shape == shape
        with limits(), pytest.raises(StreamError):
            decode(good[:17] + struct.pack("<I", 1 << 31) + good[21:], self.X.shape, self.X.dtype)
