"""Bounds of fields: of values, parts of values, root mean squares; by dataset; on any range. Compared as fractions."""

from __future__ import annotations

import io
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numbers

from codec import Codec
from codec.codecs.base.field import Bound
from codec.codecs.base.field_coding import POINTWISE, SCALED, _log, _size
from codec.codecs.interp.codec import InterpCodec
from codec.container import unpack
from codec.errors import UsageError

from ..layers.test_interpolation import smooth


@pytest.fixture(scope="module")
def interp() -> InterpCodec:
    codec = Codec.load("interp")
    assert isinstance(codec, InterpCodec)
    return codec


def methods(data: bytes) -> set[int]:
    return {chunk.payload[0] for chunk in unpack(data)[1] if chunk.tag == "Bloc"}


def exact(x: np.ndarray) -> list[Fraction]:
    return [Fraction(float(value)) for value in x.ravel()]


def finite(dtype: str) -> Any:
    shapes = numbers.array_shapes(min_dims=1, max_dims=3, max_side=9)
    width = 32 if dtype == "f4" else 64
    return numbers.arrays(dtype, shapes, elements=st.floats(width=width, allow_nan=True, allow_infinity=True))


class TestEveryValue:
    @given(
        x=finite("f4") | finite("f8"),
        exponent=st.integers(-6, 0),
        kind=st.sampled_from(["relative", "absolute", "pointwise", "rmse"]),
    )
    @settings(max_examples=60, deadline=None)
    def test_in_every_mode(self, interp: InterpCodec, x: np.ndarray, exponent: int, kind: str) -> None:
        """Of any values: subnormal ones, the largest there are, zeros with signs, NaN."""
        value = 0.5 * 10.0**exponent
        codec = interp.with_settings(bound=Bound(value, kind=kind))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            back = codec.decompress(codec.compress(x))
        assert back.dtype == x.dtype
        holes = ~np.isfinite(x)
        assert back[holes].tobytes() == x[holes].tobytes()
        true, decoded = exact(x[~holes]), exact(back[~holes])
        errors = [abs(a - b) for a, b in zip(true, decoded, strict=True)]
        if not errors:
            return
        if kind == "relative":
            assert max(errors) <= Fraction(value) * (max(true) - min(true))
        elif kind == "absolute":
            assert max(errors) <= Fraction(value)
        elif kind == "pointwise":
            assert all(error <= Fraction(value) * abs(a) for error, a in zip(errors, true, strict=True))
        else:
            assert sum(error**2 for error in errors) <= len(errors) * Fraction(value) ** 2

    def test_the_modes_are_coded_with_a_loss(self, interp: InterpCodec) -> None:
        """And not only kept as they are, which would be right, too."""
        x = np.exp(4 * smooth((40, 41))).astype(np.float32)
        x[3, 4:9], x[20] = 0.0, -x[20]
        parts = interp.with_settings(pw_rel_error=1e-2)
        data = parts.compress(x)
        assert methods(data) == {POINTWISE}
        assert len(data) < x.nbytes / 3
        assert np.array_equal(parts.decompress(data)[3, 4:9], x[3, 4:9])
        mean = interp.with_settings(rmse=0.05)
        back = mean.decompress(mean.compress(x))
        error = float(np.sqrt(np.square(back.astype(float) - x).mean()))
        assert 0.7 * 0.05 < error <= 0.05, "no bytes are spent on being better"

    def test_errors_that_lie_at_the_bound(self) -> None:
        """A mean square that a quantiser of the usual width would miss."""

        class Shifted(InterpCodec):
            def encode_field(self, x: np.ndarray, bound: float) -> tuple[int, bytes]:
                return 1, (x + 0.999 * bound).astype("f4").tobytes()

            def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
                return np.frombuffer(payload, "f4").reshape(shape).astype(dtype)

        x, codec = smooth((60, 60)), Shifted(Bound(0.1, kind="rmse"))
        assert 0.05 < float(np.abs(codec.decompress(codec.compress(x)) - x).max()) <= 0.1

    @pytest.mark.parametrize("scale", [1.7e308, 1e300, 1e-300, 1e-310, 1e-322])
    def test_any_range(self, interp: InterpCodec, scale: float) -> None:
        x = scale * np.clip(smooth((30, 31)), -1, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = interp.compress(x)
            back = interp.decompress(data)
        assert max(abs(a - b) for a, b in zip(exact(x), exact(back), strict=True)) <= (
            Fraction(1e-3) * (max(exact(x)) - min(exact(x)))
        )
        if scale != 1e-322:
            assert methods(data) == {SCALED}
            assert len(data) < x.nbytes / 4

    @pytest.mark.parametrize("bound", [Bound(1e-300), Bound(1e308, relative=False)])
    def test_bounds_beyond_sense(self, interp: InterpCodec, bound: Bound) -> None:
        x = smooth((30, 31)).astype(np.float32)
        codec = interp.with_settings(bound=bound)
        data = codec.compress(x)
        if bound.relative:
            assert np.array_equal(codec.decompress(data), x)
        else:
            assert np.ptp(codec.decompress(data)) == 0
            assert len(data) < 500

    @given(st.floats(5e-324, allow_infinity=False))
    def test_the_logarithm_has_an_inverse(self, value: float) -> None:
        x = np.array([value])
        back = _size(_log(x), np.array([False]), np.dtype(np.float64))
        assert abs(back[0] / 2 - x[0] / 2) <= max(2e-12 * x[0], 5e-324)

    @given(st.floats(1e-300, 1e300), st.floats(1e-9, 0.5))
    def test_the_logarithm_is_steep_enough(self, value: float, part: float) -> None:
        """What moves it by 21/16 of ln(1 + part) at most, moves the value by that part at most."""
        limit = 21 / 16 * np.log1p(part) * (1 - 1e-6)
        for step in (-limit, limit):
            back = _size(_log(np.array([value])) + step, np.array([False]), np.dtype(np.float64))
            assert abs(back[0] - value) <= part * value * (1 + 1e-3) + 1e-10 * value


class TestByDataset:
    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("bounds") / "run.h5"
        with h5py.File(path, "w") as file:
            file["t"] = (250 + 20 * smooth((70, 71))).astype("f4")
            file["q"] = (1e-3 * np.abs(smooth((70, 71), 1))).astype("f4")
            file["group/p"] = (1e5 + smooth((70, 71), 2)).astype("f4")
        return path

    def test_each_has_its_own(self, interp: InterpCodec, run: Path) -> None:
        codec = interp.with_settings(max_error=("/t=0.05", "q=1e-6"), pw_rel_error="group//p/=1e-7", rel_error=0.5)
        data = codec.encode_hdf5(run)
        assert codec.describe_fields(data)["/t"].endswith(", within 0.05")
        assert "of itself" in codec.describe_fields(data)["/group/p"]
        buffer = io.BytesIO()
        codec.decode_hdf5(data, buffer)
        with h5py.File(buffer) as back, h5py.File(run) as file:
            for name, bound in (("t", 0.05), ("q", 1e-6), ("group/p", 1e-7 * 1.1e5)):
                error = np.abs(back[name][()].astype(float) - file[name][()]).max()  # type: ignore[index]
                assert 0 < error <= bound
        with pytest.raises(UsageError, match="no dataset /nosuch"):
            interp.with_settings(max_error={"/nosuch": 1}).encode_hdf5(run)

    def test_rivals(self, interp: InterpCodec) -> None:
        with pytest.raises(UsageError, match="one of"):
            interp.with_settings(max_error=0.1, rmse=0.1)
        codec = interp.with_settings(max_error="/t=0.1", rmse=0.1)
        assert (dict(codec.bounds)["/t"].kind, codec.bound.kind) == ("absolute", "rmse")
        with pytest.raises(UsageError, match="below 1"):
            interp.with_settings(pw_rel_error=1)

    def test_a_bound_that_is_too_large_is_noted(self, interp: InterpCodec, run: Path, tmp_path: Path) -> None:
        summary = interp.with_settings(max_error=0.05).encode_file(run, tmp_path / "a.interp")
        assert [note.kind for note in summary.notes] == ["bound"]
        assert summary.notes[0].words.startswith("/q: the bound 0.05")
        assert any("/q within 0.05" in word for word in summary.words), "lossy datasets are named, each with its bound"
        assert not interp.encode_file(run, tmp_path / "b.interp").notes

    def test_bounds_are_as_before(self) -> None:
        assert Bound(0.1) == Bound(0.1, kind="relative")
        assert Bound(0.1, relative=False) == Bound(0.1, kind="absolute")
        assert not Bound(0.1, kind="rmse").relative
        wrongs: list[dict[str, Any]] = [{"value": 0}, {"value": float("nan")}, {"value": 1, "kind": "other"}]
        for wrong in wrongs:
            with pytest.raises(UsageError):
                Bound(**wrong)
