"""Handwritten digits with true labels: the test digits of MNIST, 64 of them on a sheet.

A digit alone is a picture of 28 x 28 pixels, for which a file is mostly its header. A sheet of 8 x 8 digits, dark ink
on white, each enlarged to 56 x 56, is coded as a whole; then each is cut out, made small again, and asked for. The
bootstrap draws sheets, not digits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ....datasets.places import find_data
from ....errors import UsageError
from ...metrics.support import versions_of
from ..contract import ACCURACY, AGREEMENT, Counts, Predict, Sample, Score, Task
from ..samples import digest_of, read_idx
from ..small import SIDE, SmallClassifier

__all__ = ["Digits", "mnist"]

CNN = "mnist-cnn"
GRID, SHEETS, SCALE = 8, 16, 2
CHANCE = Score(ACCURACY.name, ACCURACY.about, ACCURACY.value, 0.1)


@functools.lru_cache(maxsize=1)
def _classifier() -> SmallClassifier:
    return SmallClassifier("mnist", lambda: mnist(find_data("mnist", "MNIST"), "train"))


def mnist(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The pictures (N, 28, 28) and labels (N,) of a part of MNIST: "train" or "test". UsageError if one isn't there."""
    out = []
    name = {"test": "t10k"}.get(part, part)
    for kind, n_dims in (("images-idx3", 3), ("labels-idx1", 1)):
        paths = [folder / f"{name}-{kind}-ubyte{end}" for end in (".gz", "")]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise UsageError(f"{folder}: no {paths[0].name}, one of the four files of MNIST")
        out.append(read_idx(path, n_dims))
    return out[0], out[1]


class Digits(Task):
    """Digits of MNIST on sheets."""

    name, medium = "digits", "image"
    models: ClassVar[tuple[str, ...]] = (CNN,)
    about = f"test digits of MNIST, {GRID * GRID} on each of {SHEETS} sheets"
    data = "mnist"
    scores = (CHANCE, AGREEMENT)

    def samples(self, data: Path | None) -> Iterator[Sample]:
        pictures, labels = mnist(find_data("mnist", "MNIST") if data is None else data, "test")
        count = GRID * GRID
        for index in range(min(SHEETS, len(pictures) // count)):
            rows = slice(index * count, (index + 1) * count)
            sheet = 255 - pictures[rows].reshape(GRID, GRID, SIDE, SIDE).swapaxes(1, 2).reshape((GRID * SIDE,) * 2)
            large = Image.fromarray(sheet).resize((GRID * SIDE * SCALE, GRID * SIDE * SCALE), Image.Resampling.BICUBIC)
            value = np.ascontiguousarray(np.repeat(np.asarray(large)[:, :, None], 3, 2))
            yield Sample(f"sheet-{index:02d}", value, digest_of(value), tuple(labels[rows].tolist()))

    def load(self, model: str) -> Predict:
        if model != CNN:
            raise UsageError(f"no model {model!r}: expected {CNN}")
        net = _classifier()

        def predict(pixels: NDArray[np.uint8]) -> tuple[int, ...]:
            grey = pixels.astype(np.float32).mean(2).reshape(GRID * SIDE, SCALE, GRID * SIDE, SCALE).mean((1, 3))
            grey = 255 - np.rint(grey).astype(np.uint8)
            digits = grey.reshape(GRID, SIDE, GRID, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
            return tuple(net(digits).tolist())

        return predict

    def compare(self, answer: Any, original: Any, label: Any) -> Counts:
        n = float(len(answer))
        return {
            "asked": n,
            "agree": float(sum(a == b for a, b in zip(answer, original, strict=True))),
            "labelled": n,
            "correct": float(sum(a == b for a, b in zip(answer, label, strict=True))),
        }

    def versions(self) -> Mapping[str, str]:
        return {**versions_of("torch")(), "digits": _classifier().name}
