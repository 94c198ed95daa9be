"""Fidelity of pictures: PSNR, SSIM and MS-SSIM.

Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE TIP
2004. Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003.
SSIM and MS-SSIM are pytorch-msssim's, as in the tables of learned compression: 11x11 Gaussian window with sigma 1.5
and no padding, K = (0.01, 0.03), five scales with Wang's weights, each of R, G and B on its own, then the mean. What
differs: float64 in place of float32, which matters above about 0.9999 only, and channel after channel to save memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...media.distortion import psnr_of_mse
from ..bench.contract import Metric
from .support import check_images, library, needs, versions_of

__all__ = ["BT709", "IMAGE_METRICS", "ms_ssim_rgb", "mse_rgb", "mse_y", "psnr", "psnr_rgb", "psnr_y", "ssim_rgb"]

BT709 = (0.2126, 0.7152, 0.0722)  # weights of R', G' and B' in luma: Rec. ITU-R BT.709-6, item 3.2
_WINDOW, _SIGMA = 11, 1.5
_SCALES = 5
_BAND = 1 << 20  # pixels handled at a time where temporaries are wider than the pixels

Image = NDArray[np.uint8]


def _bands(original: Image, decoded: Image) -> Iterator[tuple[Image, Image]]:
    step = max(1, _BAND // original.shape[1])
    for top in range(0, original.shape[0], step):
        yield original[top : top + step], decoded[top : top + step]


def mse_rgb(original: Image, decoded: Image) -> float:
    """The mean squared difference of (H, W, 3) uint8 over pixels and channels; exact until the last division."""
    total = 0
    for x, x_hat in _bands(original, decoded):
        difference = x.astype(np.int32) - x_hat
        total += int(np.square(difference, out=difference).sum(dtype=np.int64))
    return total / original.size


def mse_y(original: Image, decoded: Image) -> float:
    """The mean squared difference of BT.709 luma, full range 0 to 255 and not rounded, of (H, W, 3) uint8."""
    total = 0.0
    for x, x_hat in _bands(original, decoded):
        luma = (x.astype(np.float64) - x_hat) @ np.array(BT709)
        total += float(np.square(luma, out=luma).sum())
    return total / (original.size // 3)


def psnr(mse: float, peak: float = 255.0) -> float:
    """The PSNR in dB of a mean squared error, for values whose largest is `peak`; infinity for equal inputs, whose
    error is 0. PSNRs of pictures, frames and fits come from here."""
    return psnr_of_mse(mse, peak)


def psnr_rgb(original: Image, decoded: Image) -> float:
    """PSNR in dB of (H, W, 3) uint8, R, G and B together; infinity for equal pictures."""
    check_images(original, decoded)
    return psnr(mse_rgb(original, decoded))


def psnr_y(original: Image, decoded: Image) -> float:
    """PSNR in dB of (H, W, 3) uint8 on BT.709 luma; infinity for equal lumas."""
    check_images(original, decoded)
    return psnr(mse_y(original, decoded))


@functools.lru_cache(maxsize=1)
def _window() -> Any:
    """The Gaussian window, (1, 1, 1, 11) float64; the library's own has float32's rounding in it."""
    import torch

    g = torch.exp(-((torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2) ** 2) / (2 * _SIGMA**2))
    return (g / g.sum()).reshape(1, 1, 1, _WINDOW)


def _mean_over_channels(function: str, original: Image, decoded: Image) -> float:
    import torch

    similarity = getattr(library("pytorch_msssim", "pytorch-msssim"), function)
    values = []
    with torch.inference_mode():
        for channel in range(3):
            x, x_hat = (
                torch.from_numpy(picture[:, :, channel].astype(np.float64, order="C"))[None, None]  # (1, 1, H, W)
                for picture in (original, decoded)
            )
            values.append(float(similarity(x, x_hat, data_range=255, win=_window())))
    return math.fsum(values) / 3


def ssim_rgb(original: Image, decoded: Image) -> float:
    """SSIM of (H, W, 3) uint8, mean of R, G and B; NaN if a side is below 11."""
    check_images(original, decoded)
    if min(original.shape[:2]) < _WINDOW:
        return math.nan
    return _mean_over_channels("ssim", original, decoded)


def ms_ssim_rgb(original: Image, decoded: Image) -> float:
    """MS-SSIM of (H, W, 3) uint8, mean of R, G and B; NaN unless both sides are above 160."""
    check_images(original, decoded)
    if min(original.shape[:2]) <= (_WINDOW - 1) << (_SCALES - 1):
        return math.nan
    return _mean_over_channels("ms_ssim", original, decoded)


def ms_ssim_db(original: Image, decoded: Image) -> float:
    """MS-SSIM in dB, -10 log10(1 - x); infinity for equal pictures, NaN unless both sides are above 160."""
    lost = 1 - ms_ssim_rgb(original, decoded)
    return math.inf if lost <= 0 else -10 * math.log10(lost)


_SSIM_NEEDS, _SSIM_VERSIONS = needs("pytorch-msssim"), versions_of("pytorch-msssim", "torch")

IMAGE_METRICS = (
    Metric(
        "psnr-rgb",
        "image",
        "dB",
        "higher",
        "PSNR of 8-bit R, G and B together, peak 255; infinite for equal pictures",
        psnr_rgb,
        versions=versions_of("numpy"),
    ),
    Metric(
        "psnr-y",
        "image",
        "dB",
        "higher",
        "PSNR of BT.709 luma, full range, peak 255; infinite for equal lumas",
        psnr_y,
        versions=versions_of("numpy"),
    ),
    Metric(
        "ssim-rgb",
        "image",
        "",
        "higher",
        "SSIM, mean of R, G and B; NaN if a side is below 11 pixels, the window",
        ssim_rgb,
        _SSIM_NEEDS,
        _SSIM_VERSIONS,
    ),
    Metric(
        "ms-ssim-rgb",
        "image",
        "",
        "higher",
        "MS-SSIM with 5 scales, mean of R, G and B; NaN unless both sides are above 160 pixels, for the coarsest scale",
        ms_ssim_rgb,
        _SSIM_NEEDS,
        _SSIM_VERSIONS,
    ),
    Metric(
        "ms-ssim-db",
        "image",
        "dB",
        "higher",
        "-10 log10(1 - ms-ssim-rgb); infinite for equal pictures, NaN unless both sides are above 160 pixels",
        ms_ssim_db,
        _SSIM_NEEDS,
        _SSIM_VERSIONS,
    ),
)
