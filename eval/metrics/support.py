"""Tools that metrics share: optional libraries, files of weights, and checks of what is compared."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...files import find_model
from ..bench.contract import Audio, Video

__all__ = [
    "check_arrays",
    "check_audio",
    "check_frames",
    "check_images",
    "find_model",
    "library",
    "needs",
    "versions_of",
]


def library(module: str, package: str) -> Any:
    """An optional library. UsageError with the command that installs it if it can't be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{package} can't be used ({error}): pip install 'codec-suite[eval]'") from None


def needs(*packages: str) -> Callable[[], str | None]:
    """A function for `Metric.missing` that names the first package that isn't installed. Nothing is imported."""

    def missing() -> str | None:
        for package in packages:
            if importlib.util.find_spec(package.replace("-", "_")) is None:
                return f"{package} isn't installed: pip install 'codec-suite[eval]'"
        return None

    return missing


def versions_of(*packages: str) -> Callable[[], Mapping[str, str]]:
    """A function for `Metric.versions`: those of the packages that are installed."""

    def versions() -> Mapping[str, str]:
        known = {}
        for package in packages:
            try:
                known[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return known

    return versions


def check_images(original: Any, decoded: Any) -> None:
    """UsageError unless both are (H, W, 3) uint8 of one shape, with at least one pixel."""
    _check_uint8(original, decoded, 3, "(H, W, 3)")


def check_frames(original: Video, decoded: Video) -> None:
    """UsageError unless both have frames (T, H, W, 3) uint8 of one shape. The frame rate isn't looked at."""
    if not (isinstance(original, Video) and isinstance(decoded, Video)):
        raise UsageError(f"{_kind(original)} and {_kind(decoded)}; this metric compares two videos")
    _check_uint8(original.frames, decoded.frames, 4, "(T, H, W, 3)")


def _check_uint8(original: Any, decoded: Any, axes: int, shape: str) -> None:
    for side, value in (("original", original), ("decoded", decoded)):
        if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != axes or value.shape[-1] != 3:
            raise UsageError(f"the {side} is {_kind(value)}; expected a uint8 array of shape {shape}")
    _check_shapes(original.shape, decoded.shape)


def check_audio(original: Audio, decoded: Audio) -> None:
    """UsageError unless both are (C, N) floats of one shape and rate, and all samples of the original are finite."""
    for side, value in (("original", original), ("decoded", decoded)):
        if not isinstance(value, Audio) or value.samples.ndim != 2 or value.samples.dtype.kind != "f":
            raise UsageError(f"the {side} is {_kind(value)}; expected Audio with float samples of shape (C, N)")
        if value.rate < 1:
            raise UsageError(f"the {side} has {value.rate} samples a second; expected at least 1")
    if original.rate != decoded.rate:
        raise UsageError(f"rates of {original.rate} and {decoded.rate} Hz can't be compared: resample one of them")
    _check_shapes(original.samples.shape, decoded.samples.shape)
    if not np.isfinite(original.samples).all():
        raise UsageError("the original has samples that aren't finite: repair it, there is nothing to compare with")


def check_arrays(original: Any, decoded: Any) -> None:
    """UsageError unless both are arrays of real numbers of one shape and type, of 1 to 4 axes, and not empty."""
    for side, value in (("original", original), ("decoded", decoded)):
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or not 1 <= value.ndim <= 4:
            raise UsageError(f"the {side} is {_kind(value)}; expected floats or integers with 1 to 4 axes")
    if (original.dtype.kind, original.dtype.itemsize) != (decoded.dtype.kind, decoded.dtype.itemsize):
        raise UsageError(f"{original.dtype} and {decoded.dtype} can't be compared: a codec gives back what it got")
    _check_shapes(original.shape, decoded.shape)


def _check_shapes(original: tuple[int, ...], decoded: tuple[int, ...]) -> None:
    if original != decoded:
        raise UsageError(f"shapes {original} and {decoded} can't be compared: they must be equal")
    if 0 in original:
        raise UsageError(f"nothing to compare: the shape is {original}")


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        array: NDArray[Any] = value
        return f"{array.dtype} {array.shape}"
    if isinstance(value, Audio):
        return f"Audio of {value.samples.dtype} {value.samples.shape}"
    return type(value).__name__
