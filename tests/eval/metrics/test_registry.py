"""The list of metrics: complete, light to import, and every one treats its input with care."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from codec.errors import UsageError
from codec.eval.bench.contract import MEDIA, Audio, Medium, Video
from codec.eval.metrics import DEFAULT, METRICS, metric, names, support

HEAVY = (
    "torch",
    "torchaudio",
    "scipy",
    "pytorch_msssim",
    "auraloss",
    "pesq",
    "pystoi",
    "visqol",
    "soxr",
    "lpips",
    "PIL",
)
PERFECT = {"higher": math.inf, "lower": 0.0}
PERFECT_BY_NAME = {"ssim-rgb": 1.0, "ms-ssim-rgb": 1.0}
OPINION = {"pesq": 4.5, "stoi": 0.99, "visqol": 4.7}  # at least this for an identity


def pair(medium: Medium) -> tuple[Any, Any]:
    """A value and a slightly worse one."""
    rng = np.random.default_rng(3)
    if medium == "image":
        x = rng.integers(0, 256, (180, 170, 3)).astype(np.uint8)
        return x, np.clip(x.astype(int) + rng.integers(-9, 10, x.shape), 0, 255).astype(np.uint8)
    if medium == "video":
        x = rng.integers(0, 256, (2, 168, 164, 3)).astype(np.uint8)
        noisy = np.clip(x.astype(int) + rng.integers(-9, 10, x.shape), 0, 255).astype(np.uint8)
        return Video(x, Fraction(25)), Video(noisy, Fraction(25))
    if medium == "audio":
        x = (0.1 * rng.normal(size=(2, 24_000))).astype(np.float32)
        return Audio(x, 16_000), Audio(x + (0.01 * rng.normal(size=x.shape)).astype(np.float32), 16_000)
    x = rng.normal(size=(3, 12, 16, 10)).astype(np.float32)
    return x, x + (0.01 * rng.normal(size=x.shape)).astype(np.float32)


def arrays_of(value: Any) -> np.ndarray:
    return value.samples if isinstance(value, Audio) else value.frames if isinstance(value, Video) else value


class TestList:
    def test_keys(self) -> None:
        assert all(key == (item.medium, item.name) for key, item in METRICS.items())
        assert {medium for medium, _ in METRICS} == set(MEDIA)
        assert names("video") == ("psnr-rgb", "psnr-y", "psnr-rgb-pooled", "ms-ssim-rgb")

    def test_defaults_exist_and_need_no_weights(self) -> None:
        assert set(DEFAULT) == set(MEDIA)
        for medium, chosen in DEFAULT.items():
            assert chosen and all(metric(medium, name).missing() is None for name in chosen)

    def test_abouts_are_one_line_and_name_what_is_undefined(self) -> None:
        for item in METRICS.values():
            assert item.about and "\n" not in item.about and item.better in ("higher", "lower")
            assert all(isinstance(text, str) and text for text in item.versions().values())

    def test_nearest_name(self) -> None:
        with pytest.raises(UsageError, match="did you mean 'psnr-rgb'.* psnr-y"):
            metric("image", "PSNR-RBG")
        with pytest.raises(UsageError, match="no metric 'snr' for array: "):
            metric("array", "snr")

    def test_light_to_import(self) -> None:
        code = f"import sys, json, codec.eval.metrics; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
        out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
        assert json.loads(out.stdout) == []

    def test_a_missing_library_is_named(self) -> None:
        assert support.needs("numpy", "surely-not-there")() == (
            "surely-not-there isn't installed: pip install 'codec-suite[eval]'"
        )
        with pytest.raises(UsageError, match=r"pip install 'codec-suite\[eval\]'"):
            support.library("surely_not_there", "surely-not-there")


@pytest.mark.parametrize(("medium", "name"), METRICS)
class TestEveryMetric:
    def test_input_stays_and_identity_is_perfect(self, medium: Medium, name: str) -> None:
        item = metric(medium, name)
        if why := item.missing():
            pytest.skip(why)
        x, x_hat = pair(medium)
        before = arrays_of(x).copy(), arrays_of(x_hat).copy()
        arrays_of(x).flags.writeable = arrays_of(x_hat).flags.writeable = False
        worse, perfect = item.measure(x, x_hat), item.measure(x, x)
        assert isinstance(worse, float) and math.isfinite(worse)
        np.testing.assert_array_equal(arrays_of(x), before[0])
        np.testing.assert_array_equal(arrays_of(x_hat), before[1])
        if name in OPINION:
            assert perfect > OPINION[name]
        else:
            assert perfect == pytest.approx(PERFECT_BY_NAME.get(name, PERFECT[item.better]), abs=1e-12)
        assert worse < perfect if item.better == "higher" else worse > perfect

    def test_memory_layout_does_not_matter(self, medium: Medium, name: str) -> None:
        item = metric(medium, name)
        if why := item.missing():
            pytest.skip(why)
        x, x_hat = pair(medium)

        def strided(value: Any) -> Any:
            array = np.asfortranarray(arrays_of(value)[..., ::-1])[..., ::-1]
            if isinstance(value, Audio):
                return Audio(array, value.rate)
            return Video(array, value.fps) if isinstance(value, Video) else array

        assert item.measure(strided(x), strided(x_hat)) == pytest.approx(item.measure(x, x_hat), rel=1e-5)

    def test_what_does_not_match_is_refused(self, medium: Medium, name: str) -> None:
        item = metric(medium, name)
        if why := item.missing():
            pytest.skip(why)
        x, x_hat = pair(medium)
        array = arrays_of(x_hat)
        wrong: list[Any] = [array[:1], array[:0], array.astype(np.complex128), None]
        if isinstance(x, Audio):
            wrong = [Audio(a, x.rate) for a in wrong[:3]] + [Audio(array, 8000), array]
        elif isinstance(x, Video):
            wrong = [Video(a, x.fps) for a in wrong[:3]] + [array]
        else:
            wrong += [array.astype(np.float64), array[None, None]]
        for bad in wrong:
            with pytest.raises(UsageError):
                item.measure(x, bad)
        nothing = wrong[1].astype(array.dtype) if isinstance(wrong[1], np.ndarray) else wrong[1]
        with pytest.raises(UsageError, match="nothing to compare"):
            item.measure(nothing, nothing)
