"""The kernels of interpolated fields: the bytes and values of the twin in NumPy, on every instruction set."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from codec import native
from codec.codecs.base import field_missing
from codec.codecs.layers import interpolation as twin
from codec.errors import StreamError
from codec.native import interpolation as kernels

pytestmark = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")

SHAPES = [
    (1, 1),
    (5, 1),
    (7, 2),
    (2, 3),
    (2, 17),
    (1, 600),  # more than a run
    (2, 9, 11),
    (1, 33, 5),
    (3, 1, 7),
    (3, 8, 9, 10),
    (1, 5, 1, 513),
    (2, 5, 6, 7, 8),
    (1, 3, 2, 5, 70),
]


@pytest.fixture(params=native.instruction_sets())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using(request.param):
        yield request.param


def waves(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = 0.02 * rng.standard_normal(shape)
    for axis, n in enumerate(shape):
        phase = rng.uniform(0, 6) + np.arange(n) * rng.uniform(0.05, 0.6)
        out = out + np.sin(phase).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return out


def hostile(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Finite numbers of any size, zeros of either sign and the ends of the type among them."""
    rng = np.random.default_rng(len(shape))
    info = np.finfo(dtype)
    ends = [info.max, -info.max, info.tiny, -info.tiny, info.smallest_subnormal, 0.0, -0.0, 1.0, info.max / 3]
    with np.errstate(all="ignore"):
        x = rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30, shape)
        return np.where(rng.random(shape) < 0.3, rng.choice(ends, shape), x).astype(dtype)


@functools.cache
def by_the_twin(content: bytes, dtype: np.dtype, shape: tuple[int, ...], bound: float) -> tuple[bytes, bytes]:
    """The stream, and what it decodes to: once for all instruction sets."""
    with native.using(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = twin.encode(np.frombuffer(content, dtype).reshape(shape), bound)
        return data, twin.decode(data, shape, dtype).tobytes()


def same(x: np.ndarray, bound: float) -> None:
    """Coded by the kernels and by the twin, and decoded by each: bit by bit the same."""
    data, values = by_the_twin(x.tobytes(), x.dtype, x.shape, bound)
    assert twin.encode(x, bound) == data
    assert twin.decode(data, x.shape, x.dtype).tobytes() == values


class TestSame:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_waves(self, isa: str, shape: tuple[int, ...], dtype: type) -> None:
        x = waves(shape).astype(dtype)
        for bound in (0.003, 50.0):
            same(x, bound)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_any_values(self, isa: str, shape: tuple[int, ...], dtype: type) -> None:
        """Sums that overflow, differences that are NaN, bounds that have no inverse."""
        x = hostile(shape, dtype)
        for bound in (5e-324, 1.0, 1e300):
            same(x, bound)

    def test_what_is_larger_than_a_trial(self, isa: str) -> None:
        """All three schemes are tried on the middle; some axes aren't interpolated along."""
        x = waves((2, 60, 53, 49)).astype(np.float32)
        same(x, 0.01)
        planes = waves((6, 70, 66), 3) + 100.0 * (7 * np.arange(6) % 5)[:, None, None]
        same(planes[None], 0.01)
        same(np.ascontiguousarray(np.moveaxis(planes, 0, 2))[None], 0.01)

    def test_any_number_of_threads(self) -> None:
        x = waves((1, 70, 80, 90)).astype(np.float32)
        before = native.threads()
        expected = twin.encode(x, 0.01)
        try:
            for n in (2, 5):
                native.set_threads(n)
                assert twin.encode(x, 0.01) == expected
                same(x, 0.01)
        finally:
            native.set_threads(before)


class TestSteps:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_symbols_and_contexts(self, isa: str, shape: tuple[int, ...]) -> None:
        """Part by part, before anything is coded."""
        plan = twin._Plan(2, tuple(255 - 40 * i for i in range(len(shape) - 1)))
        for x, bound in ((waves(shape), 0.01), (hostile(shape, np.float64), 1e-3)):
            scale = twin._native_scale(shape, bound, plan, float(x.flat[0]))
            symbols, contexts, sizes, raw = kernels.encode(x, scale)
            field = twin._Field(shape, x.dtype, bound, plan, float(x.flat[0]))
            with np.errstate(all="ignore"):
                steps = [field.code(place, x) for place in twin._places(shape[1:])]
            assert sizes.tolist() == [part[0].size for part in steps]
            for i, ours in enumerate((symbols, contexts, raw)):
                assert (
                    ours.tobytes() == np.concatenate([part[i].ravel() for part in steps]).astype(ours.dtype).tobytes()
                )
            costs = twin._costs_by_size()
            best = kernels.cheapest(symbols, contexts, costs, twin._contexts())
            assert (best == twin._cheapest([part[:2] for part in steps])).all()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_misses(self, isa: str, dtype: type) -> None:
        x = waves((3, 5, 8, 37)).astype(dtype)
        for axis in range(4):
            line = np.moveaxis(x, axis, 0).astype(np.float64)
            n = len(line)
            expected = np.mean((line[1 : n - 1 : 2] - (line[0 : n - 2 : 2] + line[2:n:2]) / 2) ** 2)
            assert np.isclose(kernels.misses(x, axis), expected, rtol=1e-12)
        with native.using(native.instruction_sets()[0]):
            first = [kernels.misses(x, axis) for axis in range(4)]
        assert [kernels.misses(x, axis) for axis in range(4)] == first


class TestExtent:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_as_the_twin(self, isa: str, dtype: type) -> None:
        rng = np.random.default_rng(0)
        cases = [hostile((n,), dtype) for n in (1, 2, 15, 16, 17, 1000)]
        cases += [np.full(40, 3.0, dtype), np.repeat(dtype([1, 2, 3]), 9), np.zeros(0, dtype)]
        for x in cases:
            x[::7] = rng.choice(dtype([np.nan, np.inf, -np.inf]))
            for holes in (~np.isfinite(x), ~np.isfinite(x) | (rng.random(x.shape) < 0.5), np.ones(x.shape, bool)):
                assert field_missing._extent_without(x, holes) == field_missing.extent_of(x[~holes])


class TestDamage:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_as_the_twin(self, isa: str, dtype: type) -> None:
        """Flips and cuts anywhere behind the checksums: the twin's values, or an error where the twin has one."""
        rng = np.random.default_rng(0)
        x = waves((2, 12, 13)).astype(dtype)
        x[0, 3, 4] = np.finfo(dtype).max  # a value that is stored as it is
        good = twin.encode(x, 0.01)
        outcomes = set()
        for _ in range(60):
            bad = bytearray(good)
            for at in rng.integers(0, len(good), rng.integers(1, 4)):
                bad[at] ^= 1 << rng.integers(0, 8)
            bad = bad[: rng.integers(1, len(bad)) if rng.random() < 0.1 else len(bad)]
            decoded = []
            for name in (isa, None):
                with native.using(name), np.errstate(all="ignore"):
                    try:
                        decoded.append(twin.decode(bytes(bad), x.shape, x.dtype).tobytes())
                    except StreamError:
                        decoded.append(None)
            assert decoded[0] == decoded[1]
            outcomes.add(decoded[0] is None)
        assert True in outcomes

    def test_an_empty_stream_of_symbols(self, isa: str) -> None:
        x = np.zeros((1, 5), np.float32)
        good = twin.encode(x, 1.0)
        start = twin._HEAD.size + 1 + twin._HEAD.unpack_from(good)[3]
        with pytest.raises(StreamError):
            twin.decode(good[:start], x.shape, x.dtype)


class TestWrongCalls:
    def test_arrays(self, isa: str) -> None:
        x = waves((1, 6, 7))
        scale = kernels.Scale((255, 255), (1.0,) * 4, 0.1, 0.0)
        for bad in (x[:, ::2], x.astype(np.int32), x.astype(">f8"), np.zeros((1, 0, 3)), np.zeros((1,) * 6)):
            with pytest.raises(AssertionError):
                kernels.encode(bad, scale)
        for bad in (
            kernels.Scale((255,), (1.0,) * 4, 0.1, 0.0),
            kernels.Scale((255, 0), (1.0,) * 4, 0.1, 0.0),
            kernels.Scale((255, 255), (1.0,) * 3, 0.1, 0.0),
        ):
            with pytest.raises(AssertionError):
                kernels.encode(x, bad)

    def test_contexts(self, isa: str) -> None:
        symbols, costs = np.zeros(3, np.int32), np.ones((5, 4), np.float32)
        for contexts in ([0, 1, 7], [0, -1, 0]):
            with pytest.raises(AssertionError):
                kernels.cheapest(symbols, np.array(contexts, np.int16), costs, 7)


@pytest.mark.parametrize("engine", ["0", "1"])
def test_without_torch(engine: str) -> None:
    """The codec imports no torch, with and without the compiled module; a small field, for loops in Python."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, codec\n"
        "x = np.sin(np.arange(120, dtype=np.float32) / 30).reshape(2, 6, 10)\n"
        "interp = codec.Codec.load('interp')\n"
        "data = interp.compress(x)\n"
        "assert np.abs(interp.decompress(data) - x).max() < 0.1\n"
        "print(len(data))\n"
    )
    environment = {**os.environ, "CODEC_NATIVE": engine}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
