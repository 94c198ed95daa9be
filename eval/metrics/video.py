"""Fidelity of videos: metrics of pictures, frame after frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..bench.contract import Metric, Video
from .images import ms_ssim_rgb, mse_rgb, mse_y, psnr
from .support import check_frames, needs, versions_of

__all__ = ["VIDEO_METRICS"]

Frame = NDArray[np.uint8]


def _per_frame(measure: Callable[[Frame, Frame], float], original: Video, decoded: Video) -> list[float]:
    check_frames(original, decoded)
    return [measure(x, x_hat) for x, x_hat in zip(original.frames, decoded.frames, strict=True)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def psnr_rgb(original: Video, decoded: Video) -> float:
    """The mean of the frames' PSNR in dB; infinity as soon as one frame is equal."""
    return _mean([psnr(mse) for mse in _per_frame(mse_rgb, original, decoded)])


def psnr_rgb_pooled(original: Video, decoded: Video) -> float:
    """The PSNR in dB of the squared error of all frames together; infinity for equal videos."""
    return psnr(_mean(_per_frame(mse_rgb, original, decoded)))


def psnr_y(original: Video, decoded: Video) -> float:
    """The mean of the frames' PSNR in dB on BT.709 luma; infinity as soon as one frame's luma is equal."""
    return _mean([psnr(mse) for mse in _per_frame(mse_y, original, decoded)])


def ms_ssim_rgb_mean(original: Video, decoded: Video) -> float:
    """Mean of the frames' MS-SSIM; NaN unless both sides are above 160."""
    return _mean(_per_frame(ms_ssim_rgb, original, decoded))


VIDEO_METRICS = (
    Metric(
        "psnr-rgb",
        "video",
        "dB",
        "higher",
        "mean over frames of the PSNR of 8-bit R, G and B, peak 255; infinite as soon as one frame is equal",
        psnr_rgb,
        versions=versions_of("numpy"),
    ),
    Metric(
        "psnr-y",
        "video",
        "dB",
        "higher",
        "mean over frames of the PSNR of BT.709 luma, full range, peak 255; infinite if one frame's luma is equal",
        psnr_y,
        versions=versions_of("numpy"),
    ),
    Metric(
        "psnr-rgb-pooled",
        "video",
        "dB",
        "higher",
        "PSNR of the mean squared error over all frames, which an equal frame doesn't make infinite",
        psnr_rgb_pooled,
        versions=versions_of("numpy"),
    ),
    Metric(
        "ms-ssim-rgb",
        "video",
        "",
        "higher",
        "mean over frames of MS-SSIM (5 scales, mean of R, G and B); NaN unless both sides are above 160 pixels",
        ms_ssim_rgb_mean,
        needs("pytorch-msssim"),
        versions_of("pytorch-msssim", "torch"),
    ),
)
