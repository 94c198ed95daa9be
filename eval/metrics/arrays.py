"""Errors of scientific fields: norms, pointwise bounds, and what happened to the spectrum.

nrmse, max-rel-error and psnr-range are those of SDRBench and its tool qcat (Zhao et al., "SDRBench: scientific data
reduction benchmark for lossy compressors", IEEE Big Data 2020): relative to the range of values of the original.

Floating-point and integer types. Differences are exact for integers of any width, and float64 for floats. Where the
original isn't finite, the decoded array must hold the same there (NaN, or infinity of the same sign) and be finite
everywhere else; if it isn't so, the error is infinite. Errors are those of the finite places.
An exact copy has no error whatever it is relative to. If there is an error, and the range or norm that it should be
relative to is zero, the result is NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bench.contract import Metric
from .support import check_arrays, versions_of

__all__ = ["ARRAY_METRICS", "max_error", "max_rel_error", "nrmse", "psnr_range", "relative_l2", "spectrum_ratio"]

_ROUNDING = 1e-24  # a shell with less than this part of the power holds rounding errors of a float64 transform only

Array = NDArray[Any]


def _same_holes(original: Array, decoded: Array) -> bool:
    """Whether values that aren't finite are the same in both, and in the same places."""
    if original.dtype.kind != "f":
        return True
    x, x_hat = (np.where(np.isfinite(a), 0, a) for a in (original, decoded))
    return np.array_equal(x, x_hat, equal_nan=True)


def _errors(original: Array, decoded: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Finite values of the original and |original - decoded| there, flat float64; None if the patterns differ."""
    check_arrays(original, decoded)
    if not _same_holes(original, decoded):
        return None
    if original.dtype.kind == "f":
        finite = np.isfinite(original)
        x = original[finite].astype(np.float64)
        with np.errstate(over="ignore"):
            return x, np.abs(x - decoded[finite])
    # Differences of 64-bit integers don't fit their own type: they wrap into the unsigned one, where they do.
    unsigned = np.dtype(f"u{original.dtype.itemsize}")
    x, x_hat = (a.astype(a.dtype.newbyteorder("="), copy=False).ravel().view(unsigned) for a in (original, decoded))
    error = np.where((original >= decoded).ravel(), x - x_hat, x_hat - x)
    return original.ravel().astype(np.float64), error.astype(np.float64)


def _range(x: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        return float(x.max() - x.min()) if x.size else 0.0


def _relative(error: float, to: float) -> float:
    """The error relative to a norm or range, by the rules of the module."""
    if error == 0 or to == 0 or not math.isfinite(to):
        return 0.0 if error == 0 else math.nan
    return error / to


def _norm(x: NDArray[np.float64]) -> float:
    """The Euclidean norm, without overflow or underflow of squares."""
    largest = float(np.abs(x).max(initial=0))
    if largest == 0 or not math.isfinite(largest):
        return largest
    scaled = x / largest
    return largest * math.sqrt(float(np.square(scaled, out=scaled).sum()))


def relative_l2(original: Array, decoded: Array) -> float:
    """The relative error ||x - x_hat|| / ||x||, Euclidean norms over all finite values."""
    errors = _errors(original, decoded)
    return math.inf if errors is None else _relative(_norm(errors[1]), _norm(errors[0]))


def nrmse(original: Array, decoded: Array) -> float:
    """Root mean squared error over (max - min) of the original."""
    errors = _errors(original, decoded)
    if errors is None:
        return math.inf
    x, error = errors
    return _relative(_norm(error) / math.sqrt(max(1, error.size)), _range(x))


def max_error(original: Array, decoded: Array) -> float:
    """The largest |x - x_hat|, in the array's own unit."""
    errors = _errors(original, decoded)
    return math.inf if errors is None else float(errors[1].max(initial=0))


def max_rel_error(original: Array, decoded: Array) -> float:
    """The largest |x - x_hat| over (max - min) of the original."""
    errors = _errors(original, decoded)
    return math.inf if errors is None else _relative(float(errors[1].max(initial=0)), _range(errors[0]))


def psnr_range(original: Array, decoded: Array) -> float:
    """The PSNR in dB with (max - min) of the original as the peak: -20 log10(nrmse). Infinity for equal arrays.

    Not by `images.psnr`: the square of an array's error may leave the range of float64, its root doesn't.
    """
    error = nrmse(original, decoded)
    return math.inf if error == 0 else -20 * math.log10(error) if math.isfinite(error) else -error


def spectrum_ratio(original: Array, decoded: Array) -> float:
    """Mean of |P_decoded / P_original - 1| over shells of wavenumber.

    The last axes, up to three, are space, an axis before them isn't: (3, z, y, x) are three fields, whose powers are
    added. But (n, y, x) counts as one volume: give n pictures as (n, 1, y, x). f is the length of the vector of
    frequencies, in cycles a sample, along the axes of space; N is the longest of these axes. Shell j holds the
    frequencies with round(N f) = j, and P is the sum of |DFT|^2 over it. Shells from 1, so the mean value doesn't
    count, to floor(N / 4), half of the Nyquist frequency. No window: a field that isn't periodic leaks, the same way
    in both. Shells of the original at the level of float64 rounding are left out (below 1e-24 of all power).
    Values that aren't finite are replaced by the mean of the others of the original, in both.
    NaN if there is no shell: no axis of 4 samples, or a constant original with a decoded array that isn't equal.
    """
    check_arrays(original, decoded)
    if not _same_holes(original, decoded):
        return math.inf
    space = min(3, original.ndim)
    shape = original.shape[-space:]
    last = max(shape) // 4
    if last == 0:
        return math.nan
    if np.array_equal(original, decoded, equal_nan=original.dtype.kind == "f"):
        return 0.0
    finite = np.isfinite(original)
    # The mean is no part of the result; without it, rounding is relative to what varies.
    fill = float(original[finite].mean(dtype=np.float64)) if finite.any() else 0.0
    x, x_hat = (np.where(finite, a, fill).astype(np.float64) - fill for a in (original, decoded))
    scale = float(np.abs(x).max())
    if not 0 < scale < math.inf:
        return math.nan
    power, power_hat = (_shells((a / scale).reshape(-1, *shape)) for a in (x, x_hat))
    whole = power.sum() + (fill / scale) ** 2 * x.size * math.prod(shape)
    kept = np.arange(len(power)) <= last
    kept[0] = False
    kept &= power > _ROUNDING * whole
    if not kept.any():
        return math.nan
    with np.errstate(over="ignore"):
        return float(np.abs(power_hat[kept] / power[kept] - 1).mean())


def _shells(fields: NDArray[np.float64]) -> NDArray[np.float64]:
    """The power in each shell of wavenumber, added over the fields, (n, *space)."""
    shape = fields.shape[1:]
    squares = [np.square(np.fft.fftfreq(n)) for n in shape[:-1]] + [np.square(np.fft.rfftfreq(shape[-1]))]
    f = np.sqrt(np.add.reduce(np.meshgrid(*squares, indexing="ij")))
    shell = np.rint(f * max(shape)).astype(np.int64)
    # A real field's transform has each of these columns twice, but for the first (and one at the Nyquist frequency,
    # which is in no shell that counts).
    twice = np.full(shape[-1] // 2 + 1, 2.0)
    twice[0] = 1
    power = np.zeros(shell.max() + 1)
    for field in fields:
        spectrum = np.fft.rfftn(field)
        weights = (np.square(spectrum.real) + np.square(spectrum.imag)) * twice
        power += np.bincount(shell.ravel(), weights.ravel(), len(power))
    return power


_VERSIONS = versions_of("numpy")

ARRAY_METRICS = (
    Metric(
        "relative-l2",
        "array",
        "",
        "lower",
        "||x - x_hat|| / ||x||; infinite if NaNs and infinities differ, NaN for an error relative to a zero array",
        relative_l2,
        versions=_VERSIONS,
    ),
    Metric(
        "nrmse",
        "array",
        "",
        "lower",
        "root mean squared error / (max - min); infinite if NaNs and infinities differ, NaN for an error relative to a "
        "constant array",
        nrmse,
        versions=_VERSIONS,
    ),
    Metric(
        "max-error",
        "array",
        "",
        "lower",
        "max |x - x_hat|, in the array's unit; infinite if NaNs and infinities differ",
        max_error,
        versions=_VERSIONS,
    ),
    Metric(
        "max-rel-error",
        "array",
        "",
        "lower",
        "max |x - x_hat| / (max - min); infinite if NaNs and infinities differ, NaN for an error relative to a "
        "constant array",
        max_rel_error,
        versions=_VERSIONS,
    ),
    Metric(
        "psnr-range",
        "array",
        "dB",
        "higher",
        "20 log10((max - min) / root mean squared error); infinite for equal arrays, minus infinity if NaNs and "
        "infinities differ, NaN for an error relative to a constant array",
        psnr_range,
        versions=_VERSIONS,
    ),
    Metric(
        "spectrum-ratio",
        "array",
        "",
        "lower",
        "mean |power ratio - 1| over shells of wavenumber up to half of Nyquist, last 3 axes as space; infinite if "
        "NaNs and infinities differ, NaN if no axis has 4 samples or only the original is constant",
        spectrum_ratio,
        versions=_VERSIONS,
    ),
)
