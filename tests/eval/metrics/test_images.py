"""PSNR, SSIM and MS-SSIM of pictures and videos: constructed cases, and other implementations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from codec.eval.bench.contract import Video
from codec.eval.metrics import images, metric


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes with texture, all values from 20 to 235: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b + c) for a, b, c in rng.uniform(3, 40, (3, 3))]
    return np.clip(128 + 60 * np.stack(waves, -1) + rng.normal(0, 8, (height, width, 3)), 20, 235).astype(np.uint8)


def noisy(x: np.ndarray, sigma: float, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, x.shape)
    return np.clip(np.rint(x + noise), 0, 255).astype(np.uint8)


class TestPsnr:
    @pytest.mark.parametrize("name", ["psnr-rgb", "psnr-y"])
    @pytest.mark.parametrize("shape", [(1, 1), (40, 30), (1, 3_000_000)])
    def test_one_step_everywhere(self, name: str, shape: tuple[int, int]) -> None:
        x = np.full((*shape, 3), 255, np.uint8)
        x[::2] = 1
        assert metric("image", name).measure(x, x - 1) == pytest.approx(48.1308, abs=5e-5)
        assert metric("image", name).measure(x - 1, x) == pytest.approx(48.1308, abs=5e-5)

    def test_the_largest_difference(self) -> None:
        x = np.zeros((2500, 1500, 3), np.uint8)  # more squares than 32 bits can hold
        assert metric("image", "psnr-rgb").measure(x, ~x) == 0.0

    def test_noise_of_known_variance(self) -> None:
        x = picture(300, 400)
        sign = np.random.default_rng(0).integers(0, 2, x.shape) * 2 - 1
        decoded = (x + 7 * sign).astype(np.uint8)  # variance 49 exactly
        assert metric("image", "psnr-rgb").measure(x, decoded) == pytest.approx(20 * math.log10(255 / 7), abs=1e-12)
        gaussian = noisy(x, 5.0)  # and rounding's twelfth
        expected = 10 * math.log10(255**2 / (25 + 1 / 12))
        assert metric("image", "psnr-rgb").measure(x, gaussian) == pytest.approx(expected, abs=0.05)

    @pytest.mark.parametrize(("channel", "weight"), [(0, 0.2126), (1, 0.7152), (2, 0.0722)])
    def test_one_channel(self, channel: int, weight: float) -> None:
        x = picture(21, 34)
        decoded = x.copy()
        decoded[:, :, channel] += 10
        assert metric("image", "psnr-rgb").measure(x, decoded) == pytest.approx(10 * math.log10(255**2 * 3 / 100))
        assert metric("image", "psnr-y").measure(x, decoded) == pytest.approx(20 * math.log10(255 / 10 / weight))

    def test_one_pixel_in_a_large_picture(self) -> None:
        x = np.zeros((1200, 1100, 3), np.uint8)  # several bands, the difference in the last
        decoded = x.copy()
        decoded[-1, -1, 2] = 3
        assert metric("image", "psnr-rgb").measure(x, decoded) == pytest.approx(10 * math.log10(255**2 * x.size / 9))


class TestSsim:
    @pytest.mark.parametrize("size", [(161, 200), (191, 177)])
    def test_as_others_have_it(self, size: tuple[int, int]) -> None:
        library = pytest.importorskip("pytorch_msssim")
        x = picture(*size)
        for sigma in (2.0, 20.0):
            decoded = noisy(x, sigma)
            a, b = (torch.from_numpy(v.copy()).permute(2, 0, 1)[None].float() for v in (x, decoded))
            expected = library.ms_ssim(a, b, data_range=255).item(), library.ssim(a, b, data_range=255).item()
            assert images.ms_ssim_rgb(x, decoded) == pytest.approx(expected[0], abs=2e-6)
            assert images.ssim_rgb(x, decoded) == pytest.approx(expected[1], abs=2e-6)

    def test_the_formulas(self) -> None:
        ndimage = pytest.importorskip("scipy.ndimage")
        x = picture(192, 176)
        decoded = noisy(x, 25.0)

        def blur(a: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(a, 1.5, radius=5)[5:-5, 5:-5]

        def parts(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
            mean_a, mean_b, c1, c2 = blur(a), blur(b), 2.55**2, 7.65**2
            variance = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
            contrast = (2 * (blur(a * b) - mean_a * mean_b) + c2) / (variance + c2)
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            return float((luminance * contrast).mean()), float(contrast.mean())

        ssim, ms_ssim = [], []
        for channel in range(3):
            a, b = x[:, :, channel].astype(float), decoded[:, :, channel].astype(float)
            product = 1.0
            for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
                whole, contrast = parts(a, b)
                if scale == 0:
                    ssim.append(whole)
                product *= (whole if scale == 4 else contrast) ** weight
                a, b = (v.reshape(v.shape[0] // 2, 2, -1, 2).mean((1, 3)) if scale < 4 else v for v in (a, b))
            ms_ssim.append(product)
        assert 0.2 < np.mean(ssim) < 0.6 < np.mean(ms_ssim) < 0.95
        assert images.ssim_rgb(x, decoded) == pytest.approx(np.mean(ssim), abs=1e-10)
        assert images.ms_ssim_rgb(x, decoded) == pytest.approx(np.mean(ms_ssim), abs=1e-10)

    def test_a_constant_shift_leaves_luminance_only(self) -> None:
        x = np.full((64, 64, 3), 100, np.uint8)
        c1 = (0.01 * 255) ** 2
        expected = (2 * 100 * 140 + c1) / (100**2 + 140**2 + c1)
        assert images.ssim_rgb(x, x + np.uint8(40)) == pytest.approx(expected, abs=1e-9)

    def test_decibels(self) -> None:
        x = picture(170, 180)
        decoded = noisy(x, 10.0)
        value = images.ms_ssim_rgb(x, decoded)
        assert metric("image", "ms-ssim-db").measure(x, decoded) == pytest.approx(-10 * math.log10(1 - value))

    def test_one_value_changed_by_one_is_seen(self) -> None:
        x = np.full((170, 170, 3), 130, np.uint8)
        decoded = x.copy()
        decoded[80, 80, 1] += 1
        lost = 1 - images.ms_ssim_rgb(x, decoded)
        assert 1e-9 < lost < 1e-5

    def test_too_small(self) -> None:
        for name in ("ms-ssim-rgb", "ms-ssim-db"):
            assert math.isnan(metric("image", name).measure(picture(160, 400), picture(160, 400)))
            assert math.isnan(metric("image", name).measure(picture(400, 160), picture(400, 160)))
            assert not math.isnan(metric("image", name).measure(picture(161, 161), picture(161, 161)))
        assert math.isnan(images.ssim_rgb(picture(10, 50), picture(10, 50)))
        assert math.isnan(images.ssim_rgb(picture(1, 1), picture(1, 1)))
        assert images.ssim_rgb(picture(11, 50), picture(11, 50)) == 1.0


class TestVideo:
    def videos(self, *steps: int) -> tuple[Video, Video]:
        x = np.stack([picture(24, 30, seed) for seed in range(len(steps))])
        decoded = np.stack([frame + np.uint8(step) for frame, step in zip(x, steps, strict=True)])
        return Video(x, Fraction(25)), Video(decoded, Fraction(30000, 1001))

    def test_means(self) -> None:
        x, decoded = self.videos(1, 10, 4)
        per_frame = [20 * math.log10(255 / step) for step in (1, 10, 4)]
        assert metric("video", "psnr-rgb").measure(x, decoded) == pytest.approx(np.mean(per_frame))
        assert metric("video", "psnr-y").measure(x, decoded) == pytest.approx(np.mean(per_frame))
        pooled = 10 * math.log10(255**2 / np.mean([1, 100, 16]))
        assert metric("video", "psnr-rgb-pooled").measure(x, decoded) == pytest.approx(pooled)

    def test_luma(self) -> None:
        x, decoded = self.videos(0, 0)
        decoded.frames[..., 2] += 10
        assert metric("video", "psnr-y").measure(x, decoded) == pytest.approx(20 * math.log10(255 / 0.722))

    def test_an_equal_frame(self) -> None:
        x, decoded = self.videos(2, 0)
        assert metric("video", "psnr-rgb").measure(x, decoded) == math.inf
        assert metric("video", "psnr-y").measure(x, decoded) == math.inf
        assert metric("video", "psnr-rgb-pooled").measure(x, decoded) == pytest.approx(20 * math.log10(255 / 2**0.5))

    def test_ms_ssim(self) -> None:
        x = np.stack([picture(162, 170, seed) for seed in range(2)])
        decoded = np.stack([noisy(x[0], 3), noisy(x[1], 30)])
        single = [images.ms_ssim_rgb(a, b) for a, b in zip(x, decoded, strict=True)]
        found = metric("video", "ms-ssim-rgb").measure(Video(x, Fraction(1)), Video(decoded, Fraction(1)))
        assert found == pytest.approx(np.mean(single), abs=1e-12)
        assert single[0] > single[1] + 0.02
        x, decoded = self.videos(1)
        assert math.isnan(metric("video", "ms-ssim-rgb").measure(x, decoded))
