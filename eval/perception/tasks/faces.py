"""Face detection: the boxes around faces.

The model is OpenCV's cascade of Haar features for frontal faces (Viola, Jones, CVPR 2001), an old detector that errs
often, on clean pictures too: on the 33 photographs it finds 14 boxes, in 8 of them. The score is the F-score of its
boxes beside its own boxes for the original, and beside boxes of a user's if there are any. "Machine Perceptual Quality"
has no such task, and so there is no reference model.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....errors import UsageError
from ...bench.items import Skipped, find_items
from ...metrics.support import versions_of
from ..contract import Counts, Predict, Sample, Score, Task, share
from ..samples import each, photographs

__all__ = ["Faces", "iou", "matches"]

HAAR = "haar"
LABELS = "boxes.csv"  # name,left,top,width,height
OVERLAP = 0.5  # IoU from which two boxes are of one face

Box = tuple[float, float, float, float]  # left, top, width, height


def iou(a: Box, b: Box) -> float:
    """The area that two boxes share, by the area of both."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def matches(answer: Sequence[Box], wanted: Sequence[Box]) -> int:
    """The number of pairs with an IoU of at least a half, the best pairs first, each box in one pair."""
    pairs = [(iou(a, b), i, j) for i, a in enumerate(answer) for j, b in enumerate(wanted)]
    left, right = set[int](), set[int]()
    for overlap, i, j in sorted(pairs, reverse=True):
        if overlap >= OVERLAP and i not in left and j not in right:
            left.add(i)
            right.add(j)
    return len(left)


class Faces(Task):
    """The faces in photographs."""

    name, medium = "faces", "image"
    models: ClassVar[tuple[str, ...]] = (HAAR,)
    about = "boxes around faces in photographs"
    data = "Kodak, GB82, CLIC 2025; or a folder, with boxes.csv if there are true boxes"
    scores = (
        Score("faces", "F-score of boxes, against true ones", share(("true_pairs", "true_pairs"), "true_boxes")),
        Score(
            "agreement",
            "F-score of boxes, against those of the original",
            share(("same_pairs", "same_pairs"), "same_boxes"),
        ),
    )

    def samples(self, data: Path | None) -> Iterator[Sample | Skipped]:
        labels = None if data is None else _labels(data / LABELS)
        if data is not None and labels is not None:
            names = {item.name for item in find_items(data, "image").items}
            if unknown := sorted({*labels} - names):
                raise UsageError(f"{LABELS} has boxes for {unknown[0]!r}, and there is no picture of that name")

        def labelled(sample: Sample) -> Iterator[Sample]:
            known = None if labels is None else labels.get(sample.name, ())
            yield Sample(sample.name, sample.value, sample.digest, known)

        return (part for part in each(photographs(data), labelled) if part.name != LABELS)

    def load(self, model: str) -> Predict:
        if model != HAAR:
            raise UsageError(f"no model {model!r}: expected {HAAR}")
        return functools.partial(_haar_boxes, _haar())

    def compare(self, answer: Sequence[Box], original: Sequence[Box], label: Sequence[Box] | None) -> Counts:
        counts = {
            "same_pairs": float(matches(answer, original)),
            "same_boxes": float(len(answer) + len(original)),
        }
        if label is not None:
            counts |= {"true_pairs": float(matches(answer, label)), "true_boxes": float(len(answer) + len(label))}
        return counts

    def versions(self) -> Mapping[str, str]:
        return versions_of("opencv-python", "opencv-python-headless")()


@functools.lru_cache(maxsize=1)
def _haar() -> Any:
    try:
        import cv2

        net = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"))
    except (ImportError, AttributeError) as error:  # OpenCV 5 has none
        raise UsageError(f"haar can't be used ({error}): pip install 'codec-suite[perception]'") from None
    if net.empty():
        raise UsageError("haar: opencv-python came without its cascades: pip install 'codec-suite[perception]'")
    return net


def _haar_boxes(net: Any, pixels: NDArray[np.uint8]) -> tuple[Box, ...]:
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    boxes = net.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24))
    return tuple(sorted((float(x), float(y), float(w), float(h)) for x, y, w, h in boxes))


def _labels(path: Path) -> dict[str, tuple[Box, ...]] | None:
    """True boxes by the names of pictures; None without such a file. UsageError for another form."""
    if not path.is_file():
        return None
    boxes: dict[str, list[Box]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames is None or not {"name", "left", "top", "width", "height"} <= {*reader.fieldnames}:
                raise ValueError("the first line names others")
            for row in reader:
                left, top, width, height = (float(row[key]) for key in ("left", "top", "width", "height"))
                if not (width > 0 and height > 0 and all(map(math.isfinite, (left, top, width, height)))):
                    raise ValueError(f"a box of {width:g} x {height:g}")
                boxes.setdefault(row["name"], []).append((left, top, width, height))
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise UsageError(f"{path}: expected the columns name,left,top,width,height ({error})") from None
    return {name: tuple(rows) for name, rows in boxes.items()}
