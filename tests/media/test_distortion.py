"""Squared error and PSNR: the formula, many arrays at once, and what equal samples give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codec.media import distortion

GREY = np.full((3, 5), 100, np.uint8)


def test_bytes_are_not_subtracted_as_bytes() -> None:
    assert distortion.squared_error(np.array([0], np.uint8), np.array([255], np.uint8)) == 255**2
    assert distortion.mse(GREY, GREY + np.uint8(2)) == 4


def test_large_arrays_are_summed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 256, (2, 11, 7, 3)).astype(np.uint8)
    monkeypatch.setattr(distortion, "_AT_ONCE", 10)
    assert distortion.squared_error(a, b) == int(((a.astype(int) - b) ** 2).sum())


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        distortion.mse(GREY, GREY[:1])  # would be broadcast
    with pytest.raises(ValueError, match="no samples"):
        distortion.mse(GREY[:0], GREY[:0])


def test_the_formula() -> None:
    assert distortion.psnr(GREY, GREY + np.uint8(5)) == pytest.approx(10 * math.log10(255**2 / 25))
    half = np.zeros(4), np.array([0.0, 0.1, 0.0, 0.1])
    assert distortion.psnr(*half, peak=1) == pytest.approx(10 * math.log10(1 / 0.005))
    assert distortion.mse_of_psnr(distortion.psnr_of_mse(7.0)) == pytest.approx(7)
    assert distortion.mse_of_psnr(math.inf) == 0


def test_equal_samples_have_no_end_of_decibels() -> None:
    assert distortion.psnr(GREY, GREY) == math.inf
    assert distortion.psnr(GREY, GREY, at_most=99) == 99
    assert distortion.psnr_of_mse(1e-12, at_most=99) == 99  # not above what equal samples have
    assert distortion.psnr_of_mse(5e-324) == math.inf
    assert math.isnan(distortion.psnr_of_mse(math.nan)) and math.isnan(distortion.psnr_of_mse(math.nan, at_most=99))
    assert distortion.psnr_of_mse(math.inf) == -math.inf


def test_each_sample_of_a_video_counts_the_same() -> None:
    luma, chroma = np.full((4, 6), 50, np.uint8), np.full((2, 3), 50, np.uint8)
    original = [(luma, chroma), (luma, chroma)]
    decoded = [(luma + np.uint8(3), chroma), (luma, chroma)]
    mse = 9 * 24 / 60
    assert distortion.psnr_of_frames(decoded, original) == pytest.approx(10 * math.log10(255**2 / mse))
    assert distortion.psnr_of_frames(original, original) == math.inf
    for shorter in (original[:1], [(luma,), (luma,)]):
        with pytest.raises(ValueError, match="zip"):
            distortion.psnr_of_frames(shorter, original)
