"""Spoken digits with true labels: test recordings of the Free Spoken Digit Dataset (Jackson et al., 6 speakers, 8 kHz).

No package brings a classifier of them. This one is made here, in a second, of the recordings for training: log-mel
spectra in slices of equal length, and ridge regression onto the ten digits with a Gaussian kernel, in closed form. So
it is the same wherever it is made, but for the last bits. Settings were chosen by cross-validation over the takes of
the recordings for training, as they are, with noise, and with their high frequencies cut.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....datasets.places import find_data
from ....errors import UsageError
from ...bench.contract import Audio
from ...bench.items import find_items
from ...metrics.support import versions_of
from ..contract import ACCURACY, AGREEMENT, Predict, Sample, Score, Task
from ..samples import digest_of
from .speech import mono

__all__ = ["TRAIN", "SpokenDigits", "features"]

LOGMEL = "digits-logmel"
TRAIN, TEST = "audio/train/speech-digits-8k", "audio/test/speech-digits-8k"
CHANCE = Score(ACCURACY.name, ACCURACY.about, ACCURACY.value, 0.1)
DIGITS = 10

Array = NDArray[np.float64]
_RATE = 8000
_FRAME, _HOP, _FFT = 200, 80, 256  # samples: 25 ms, 10 ms
_BANDS, _LOW, _HIGH = 20, 100.0, 3900.0  # mel bands between two frequencies in Hz
_FLOOR = 40.0  # dB below the loudest band, which nothing is quieter than
_QUIET = 30.0  # dB below the loudest frame: what is quieter at either end is cut off
_SLICES = 16
_WIDTH, _RIDGE = 0.3, 0.03  # of the kernel's exponent, by feature; of the regression


@functools.lru_cache(maxsize=1)
def _mel() -> Array:
    """Triangular filters (bands, frequencies) whose edges are evenly spaced in mel (O'Shaughnessy's formula)."""
    first, last = (2595 * np.log10(1 + hertz / 700) for hertz in (_LOW, _HIGH))
    edges = 700 * (10 ** (np.linspace(first, last, _BANDS + 2) / 2595) - 1)
    low, middle, high = (edges[k : k + _BANDS, None] for k in range(3))
    at = np.arange(_FFT // 2 + 1) * _RATE / _FFT
    return np.maximum(0, np.minimum((at - low) / (middle - low), (high - at) / (high - middle)))


def features(sound: Audio) -> Array:
    """Levels in dB of a spoken word, bands by slices, and its length: (321,). Loudness doesn't matter."""
    x = mono(sound, _RATE)
    x = np.pad(x, (0, max(0, 2 * _FRAME - len(x))))
    frames = np.lib.stride_tricks.sliding_window_view(x, _FRAME)[::_HOP] * np.hanning(_FRAME)
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 @ _mel().T
    levels = 10 * np.log10(np.maximum(power, 1e-20))
    loud = np.flatnonzero(levels.max(1) > levels.max() - _QUIET)
    levels = levels[loud[0] : loud[-1] + 1]
    levels = np.maximum(levels - levels.max(), -_FLOOR)
    n = len(levels)
    sums = np.vstack([np.zeros(_BANDS), np.cumsum(levels, axis=0)])  # of which a slice may take parts of frames
    edges = np.linspace(0, n, _SLICES + 1)
    at_edges = np.stack([np.interp(edges, np.arange(n + 1), sums[:, band]) for band in range(_BANDS)], axis=1)
    slices = np.diff(at_edges, axis=0) * _SLICES / n
    return np.append(slices.ravel(), np.log(n))


class _Classifier:
    """Kernel ridge regression. name: with a hash of what it has learnt from."""

    def __init__(self, x: Array, labels: NDArray[np.int64], name: str) -> None:
        self.name = name
        self._mean, self._spread = x.mean(0), x.std(0) + 1e-6
        self._known = self._standardised(x)
        targets = np.eye(DIGITS)[labels] - 1 / DIGITS
        self._weights = np.linalg.solve(self._kernel(self._known) + _RIDGE * np.eye(len(x)), targets)

    def __call__(self, x: Array) -> NDArray[np.int64]:
        """Digits (N,) of features (N, D)."""
        return (self._kernel(self._standardised(x)) @ self._weights).argmax(1)

    def _standardised(self, x: Array) -> Array:
        return (x - self._mean) / self._spread

    def _kernel(self, x: Array) -> Array:
        squares = (x**2).sum(1)[:, None] + (self._known**2).sum(1) - 2 * x @ self._known.T
        return np.exp(-_WIDTH * squares / x.shape[1])


@functools.lru_cache(maxsize=1)
def _classifier() -> _Classifier:
    samples = list(_recordings(find_data(TRAIN, "spoken digits to learn from")))
    known = hashlib.sha256(" ".join(sorted(sample.digest for sample in samples)).encode())
    known.update(Path(__file__).read_bytes())
    x = np.stack([features(sample.value) for sample in samples])  # pyright: ignore[reportArgumentType]
    return _Classifier(x, np.array([sample.label for sample in samples]), f"{LOGMEL} {known.hexdigest()[:8]}")


def _recordings(folder: Path) -> Iterator[Sample]:
    """Sounds whose names begin with their digit, as in 7_george_0.flac. UsageError for other names."""
    for item in find_items(folder, "audio").items:
        digit, line, _ = item.path.name.partition("_")
        if not (line and len(digit) == 1 and digit in "0123456789"):
            raise UsageError(f"{item.path}: expected names that begin with the digit, as 7_george_0.flac does")
        value = item.load()
        yield Sample(item.name, value, digest_of(value), int(digit))


class SpokenDigits(Task):
    """The digit that is spoken."""

    name, medium = "spoken-digits", "audio"
    models: ClassVar[tuple[str, ...]] = (LOGMEL,)
    about = "English digits, spoken by six people, 8 kHz"
    data = "test recordings of the Free Spoken Digit Dataset; or a folder of sounds whose names begin with the digit"
    scores = (CHANCE, AGREEMENT)

    def samples(self, data: Path | None) -> Iterator[Sample]:
        yield from _recordings(find_data(TEST, "spoken digits") if data is None else data)

    def load(self, model: str) -> Predict:
        if model != LOGMEL:
            raise UsageError(f"no model {model!r}: expected {LOGMEL}")
        net = _classifier()

        def predict(sound: Any) -> int:
            return int(net(features(sound)[None])[0])

        return predict

    def versions(self) -> Mapping[str, str]:
        return {**versions_of("numpy", "scipy")(), "digits": _classifier().name}
