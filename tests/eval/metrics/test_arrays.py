"""Errors of arrays: known answers, holes, and numbers at the ends of their types."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codec.errors import UsageError
from codec.eval.metrics import METRICS, metric

NAMES = [name for medium, name in METRICS if medium == "array"]


def measure(name: str, x: np.ndarray, x_hat: np.ndarray) -> float:
    return metric("array", name).measure(x, x_hat)


def field(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.0, 1.0, shape)


class TestErrors:
    def test_by_hand(self) -> None:
        x = np.array([[3.0, -4.0], [0.0, 12.0]], np.float32)
        x_hat = x + np.array([[1.0, 0.0], [-2.0, 2.0]], np.float32)
        assert measure("relative-l2", x, x_hat) == pytest.approx(3 / 13)
        assert measure("nrmse", x, x_hat) == pytest.approx(1.5 / 16)
        assert measure("max-error", x, x_hat) == 2
        assert measure("max-rel-error", x, x_hat) == pytest.approx(2 / 16)
        assert measure("psnr-range", x, x_hat) == pytest.approx(20 * math.log10(16 / 1.5))

    @pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8", "i1", "u1", ">i2", "u4", "i8", "u8"])
    @pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 3, 4, 5)])
    def test_types_and_shapes(self, dtype: str, shape: tuple[int, ...]) -> None:
        x = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
        x_hat = x.copy()
        x_hat[-1] -= 2
        assert measure("max-error", x, x_hat) == 2
        assert measure("max-error", x_hat, x) == 2
        n = x[-1].size
        expected = 2 * math.sqrt(n) / float(np.linalg.norm(x.astype(float)))
        assert measure("relative-l2", x, x_hat) == pytest.approx(expected)
        assert measure("nrmse", x, x_hat) == pytest.approx(2 * math.sqrt(n / x.size) / (x.size - 1))

    @pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8, np.uint8, np.uint32])
    def test_integers_are_exact(self, dtype: type[np.integer]) -> None:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        x = np.array([high, high - 1, low, 0], dtype)
        x_hat = np.array([high - 1, high, low + 1, 0], dtype)
        assert measure("max-error", x, x_hat) == 1
        assert measure("max-error", np.array([low, 0], dtype), np.array([high, 0], dtype)) == float(
            int(high) - int(low)
        )

    def test_very_large_and_very_small(self) -> None:
        x = field(20, 30)
        x_hat = x + 0.01 * field(20, 30, seed=1)
        for name in ("relative-l2", "nrmse", "max-rel-error", "psnr-range", "spectrum-ratio"):
            expected = measure(name, x, x_hat)
            for scale in (1e200, 1e-200):
                assert measure(name, x * scale, x_hat * scale) == pytest.approx(expected, rel=1e-9)

    def test_nothing_to_be_relative_to(self) -> None:
        zero, one = np.zeros((4, 8)), np.ones((4, 8))
        for name in NAMES:
            perfect = math.inf if name == "psnr-range" else 0.0
            assert measure(name, zero, zero) == measure(name, one, one) == perfect
        assert math.isnan(measure("relative-l2", zero, one))
        for name in ("nrmse", "max-rel-error", "psnr-range"):
            assert math.isnan(measure(name, one, zero))
        assert measure("relative-l2", one, zero) == measure("max-error", one, zero) == 1


class TestHoles:
    def holed(self) -> np.ndarray:
        x = field(8, 9).astype(np.float32)
        x[0, 0], x[3, 4], x[7, 8] = np.nan, np.inf, -np.inf
        return x

    def test_the_same_holes(self) -> None:
        x, plain = self.holed(), field(8, 9).astype(np.float32)
        x_hat = x + np.float32(0.5)
        finite = plain[np.isfinite(x)]
        assert measure("max-error", x, x_hat) == pytest.approx(0.5, abs=1e-6)
        assert measure("relative-l2", x, x_hat) == pytest.approx(
            measure("relative-l2", finite, finite + np.float32(0.5))
        )
        assert measure("psnr-range", x, x_hat) == pytest.approx(measure("psnr-range", finite, finite + np.float32(0.5)))
        for name in NAMES:
            assert measure(name, x, x.copy()) == (math.inf if name == "psnr-range" else 0.0)
        mean = finite.mean(dtype=np.float64)
        filled, filled_hat = (np.where(np.isfinite(x), v, mean) for v in (x, 1.1 * x))
        assert measure("spectrum-ratio", x, (1.1 * x).astype(np.float32)) == pytest.approx(
            measure("spectrum-ratio", filled, filled_hat), rel=1e-5
        )

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        ("where", "value"),
        [((0, 0), 1.0), ((0, 0), np.inf), ((3, 4), np.nan), ((3, 4), -np.inf), ((3, 4), 3e38), ((1, 1), np.nan)],
    )
    def test_other_holes(self, name: str, where: tuple[int, int], value: float) -> None:
        x = self.holed()
        x_hat = x.copy()
        x_hat[where] = value
        assert measure(name, x, x_hat) == (-math.inf if name == "psnr-range" else math.inf)

    def test_nothing_but_holes(self) -> None:
        x = np.full((5, 5), np.nan)
        for name in NAMES:
            assert measure(name, x, x.copy()) == (math.inf if name == "psnr-range" else 0.0)


class TestSpectrum:
    @pytest.mark.parametrize("shape", [(64,), (33,), (16, 20), (15, 21), (12, 10, 9), (3, 12, 10, 9), (5, 1, 16, 16)])
    @pytest.mark.parametrize("a", [0.5, 1.5, -1.0])
    def test_a_scaled_field(self, shape: tuple[int, ...], a: float) -> None:
        x = field(*shape)
        assert measure("spectrum-ratio", x, a * x) == pytest.approx(abs(a**2 - 1), abs=1e-9)

    def test_the_mean_does_not_count(self) -> None:
        x = field(16, 16)
        assert measure("spectrum-ratio", x, x + 5) == pytest.approx(0, abs=1e-9)

    def test_a_shift_does_not_count(self) -> None:
        x = field(16, 18, 15)
        assert measure("spectrum-ratio", x, np.roll(x, (3, 5, 2), (0, 1, 2))) == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("shape", [(24, 18), (10, 12, 15), (31,)])
    def test_against_a_plain_sum(self, shape: tuple[int, ...]) -> None:
        x, x_hat = field(*shape), field(*shape, seed=5)
        n = max(shape)
        f = np.sqrt(sum(np.square(v) for v in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))
        a, b = (np.abs(np.fft.fftn(v)) ** 2 for v in (x, x_hat))
        ratios = []
        for j in range(1, n // 4 + 1):
            shell = np.rint(f * n) == j
            ratios.append(b[shell].sum() / a[shell].sum())
        assert measure("spectrum-ratio", x, x_hat) == pytest.approx(np.mean(np.abs(np.array(ratios) - 1)))

    def test_what_is_lost(self) -> None:
        """Shells 5 to 8 of 1 to 8 taken away: half of the ratios are 0, the others 1. Beyond 8 nothing counts."""
        x = field(32, 32)
        spectrum = np.fft.fftn(x)
        f = np.rint(32 * np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32), indexing="ij")))
        lost = np.fft.ifftn(np.where((f >= 5) & (f <= 8), 0, spectrum)).real
        assert measure("spectrum-ratio", x, lost) == pytest.approx(0.5, abs=1e-9)
        assert measure("spectrum-ratio", x, np.fft.ifftn(np.where(f > 8, 0, spectrum)).real) == pytest.approx(
            0, abs=1e-9
        )

    def test_components_are_not_space(self) -> None:
        """Powers of the leading axis are added: scaling one of two equal components gives the mean of both ratios."""
        one = field(8, 9, 10)
        x, x_hat = np.stack([one, one]), np.stack([one, 3 * one])
        assert measure("spectrum-ratio", x, x_hat) == pytest.approx(4, abs=1e-9)

    def test_empty_shells_are_left_out(self) -> None:
        wave = np.cos(2 * np.pi * 3 * np.arange(64) / 64) + 10
        rounding = 1e-13 * field(64)
        assert measure("spectrum-ratio", wave, 10 + 2 * (wave - 10) + rounding) == pytest.approx(3, abs=1e-9)

    def test_undefined(self) -> None:
        assert math.isnan(measure("spectrum-ratio", field(3), field(3)))
        assert math.isnan(measure("spectrum-ratio", field(90, 1, 3, 2), field(90, 1, 3, 2)))
        assert math.isnan(measure("spectrum-ratio", np.full(20, 0.1), field(20)))


@pytest.mark.parametrize("bad", [np.zeros((1, 1, 1, 1, 1)), np.zeros(()), np.zeros(3, bool), np.zeros(0)])
def test_what_is_no_field(bad: np.ndarray) -> None:
    for name in NAMES:
        with pytest.raises(UsageError):
            measure(name, bad, bad)
