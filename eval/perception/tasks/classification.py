"""Image classification, of ImageNet's 1000 classes.

The reference is ViT-B/16 at 224 pixels (Dosovitskiy et al., ICLR 2021), as in "Machine Perceptual Quality". Offline it
is EfficientNet-Lite0 (Tan, Le, arXiv 1905.11946), whose weights come in a package. Photographs without labels are
judged by whether the answer stays the same; a folder with one sub-folder a class by whether it is true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ....errors import UsageError
from ...bench.items import Skipped
from ...metrics.support import versions_of
from ..contract import Predict, Sample, Task
from ..models import hub_pipeline, offline_classifier
from ..samples import digest_of, each, labelled_pictures, photographs

__all__ = ["CROP", "Classification", "crops", "resized"]

VIT, LITE = "google/vit-base-patch16-224", "efficientnet-lite0"
CROP = 256  # pixels of a sample's side
_CLASSES = 1000
_SEEN, _OUTER = 224, 256  # what EfficientNet-Lite0 sees, out of which short side


def crops(sample: Sample, side: int = CROP) -> Iterator[Sample]:
    """A picture cut into squares that don't overlap, from its middle; the whole of one that is too small."""
    pixels = np.asarray(sample.value)
    counts = [n // side for n in pixels.shape[:2]]
    if not all(counts):
        yield sample
        return
    top, left = ((n - count * side) // 2 for n, count in zip(pixels.shape[:2], counts, strict=True))
    for i in range(counts[0]):
        for j in range(counts[1]):
            y, x = top + i * side, left + j * side
            part = np.ascontiguousarray(pixels[y : y + side, x : x + side])
            yield Sample(f"{sample.name}@{x},{y}", part, digest_of(part), sample.label)


def resized(pixels: NDArray[np.uint8], outer: int = _OUTER, seen: int = _SEEN) -> NDArray[np.uint8]:
    """The middle square of a picture whose short side is scaled to `outer` pixels: (seen, seen, 3), bicubic."""
    height, width = pixels.shape[:2]
    scale = outer / min(height, width)
    size = (max(seen, round(width * scale)), max(seen, round(height * scale)))
    scaled = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    top, left = ((n - seen) // 2 for n in scaled.shape[:2])
    return scaled[top : top + seen, left : left + seen]


class Classification(Task):
    """The class of a photograph."""

    name, medium = "classification", "image"
    models: ClassVar[tuple[str, ...]] = (VIT, LITE)
    about = "ImageNet class of parts of photographs, 256 x 256"
    data = "Kodak, GB82, CLIC 2025; or a folder with one sub-folder a class"

    def samples(self, data: Path | None) -> Iterator[Sample | Skipped]:
        if data is not None and any(path.is_dir() for path in data.iterdir()):
            return _numbered(data)
        return each(photographs(data), crops)

    def versions(self) -> Mapping[str, str]:
        return versions_of("torch", "pillow", "transformers")()

    def load(self, model: str) -> Predict:
        if model == LITE:
            net = offline_classifier()
            return lambda pixels: net(resized(pixels))
        if model == VIT or Path(model).is_dir():
            ask = hub_pipeline("image-classification", model)
            numbers = ask.model.config.label2id
            return lambda pixels: int(numbers[_first_label(ask(Image.fromarray(pixels)))])
        raise UsageError(f"no model {model!r}: {VIT}, {LITE}, or a folder with a model of transformers")


def _numbered(data: Path) -> Iterator[Sample | Skipped]:
    """Labelled pictures, whose labels are numbers of ImageNet's classes: by the names of the sub-folders, or by their
    order if there are a thousand of them. UsageError for other names."""
    order = sorted(path.name for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    whole = {name: index for index, name in enumerate(order)} if len(order) == _CLASSES else {}

    def numbered(sample: Sample) -> Iterator[Sample]:
        name = str(sample.label)
        number = whole.get(name, int(name) if name.isdecimal() and int(name) < _CLASSES else None)
        if number is None:
            raise UsageError(
                f"{data}: a sub-folder {name!r}; expected numbers of ImageNet's classes, 0 to {_CLASSES - 1}, or all "
                "thousand sub-folders. For other classes write a task for your own model: docs/perception.md"
            )
        yield Sample(sample.name, sample.value, sample.digest, number)

    return each(labelled_pictures(data), numbered)


def _first_label(answers: Any) -> str:
    return max(answers, key=lambda answer: answer["score"])["label"]
