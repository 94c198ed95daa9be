"""Segmentation: a class for every pixel, or the edges between things.

The reference is SegFormer-B0 for ADE20K (Xie et al., NeurIPS 2021), as in "Machine Perceptual Quality", scored by the
mean IoU of one confusion matrix over all samples. Offline it is HED (Xie, Tu, "Holistically-nested edge detection",
ICCV 2015), scored by the F-score of its edges. Either is compared with its own answer for the original: no labels.
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
from ..contract import Counts, Predict, Sample, Score, Task, share
from ..models import edge_detector, hub_pipeline
from ..samples import digest_of, each, photographs
from .classification import CROP

__all__ = ["Segmentation", "edge_counts"]

SEGFORMER, HED = "nvidia/segformer-b0-finetuned-ade-512-512", "hed"
EDGE = 0.5  # probability from which a pixel is one of an edge
REACH = 1  # pixels by which an edge may have moved


F_SCORE = share(("kept", "right"), ("wanted", "answered"))  # edges with a counterpart, of both sides


def _mean_iou(sums: Mapping[str, Any]) -> Any:
    """The mean over classes that occur of intersection by union, of the sums over all samples."""
    unions = {key[1:]: np.asarray(value, float) for key, value in sums.items() if key.startswith("u")}
    if not unions:
        return np.nan
    ious = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, union in unions.items():
            ious.append(np.where(union > 0, np.asarray(sums.get("i" + name, 0.0), float) / union, np.nan))
        return np.nanmean(np.stack(np.broadcast_arrays(*ious)), axis=0)


def edge_counts(answer: NDArray[np.bool_], original: NDArray[np.bool_]) -> Counts:
    """Counts of two maps of edges: pixels of either that have one of the other within `REACH` pixels."""
    from scipy.ndimage import binary_dilation

    near = np.ones((2 * REACH + 1,) * 2, bool)
    return {
        "answered": float(answer.sum()),
        "right": float((answer & np.asarray(binary_dilation(original, near), bool)).sum()),
        "wanted": float(original.sum()),
        "kept": float((original & np.asarray(binary_dilation(answer, near), bool)).sum()),
    }


class Segmentation(Task):
    """The classes of all pixels, or the edges of a photograph."""

    name, medium = "segmentation", "image"
    models: ClassVar[tuple[str, ...]] = (SEGFORMER, HED)
    about = "ADE20K classes, or edges, of the middle of photographs, 256 x 256"
    data = "Kodak, GB82, CLIC 2025"
    scores = (
        Score("iou", "mean IoU with the classes of the original", _mean_iou),
        Score("edges", f"F-score of edges against those of the original, {REACH} pixel apart at most", F_SCORE),
    )

    def samples(self, data: Path | None) -> Iterator[Sample | Skipped]:
        return each(photographs(data), _middle)

    def load(self, model: str) -> Predict:
        if model == HED:
            edges = edge_detector()
            return lambda pixels: edges(pixels) > EDGE
        if model == SEGFORMER or Path(model).is_dir():
            ask = hub_pipeline("image-segmentation", model)
            return lambda pixels: _classes(ask(Image.fromarray(pixels)), pixels.shape[:2])
        raise UsageError(f"no model {model!r}: {SEGFORMER}, {HED}, or a folder with a model of transformers")

    def compare(self, answer: Any, original: Any, label: Any) -> Counts:
        del label
        if not isinstance(answer, dict):
            return edge_counts(answer, original)
        counts: dict[str, float] = {}
        empty = np.zeros(next(iter({**original, **answer}.values())).shape, bool)
        for name in answer.keys() | original.keys():
            a, b = answer.get(name, empty), original.get(name, empty)
            counts |= {f"i{name}": float((a & b).sum()), f"u{name}": float((a | b).sum())}
        return counts

    def versions(self) -> Mapping[str, str]:
        return versions_of("torch", "scipy")()


def _middle(sample: Sample) -> Iterator[Sample]:
    pixels = np.asarray(sample.value)
    top, left = (max(0, n - CROP) // 2 for n in pixels.shape[:2])
    part = np.ascontiguousarray(pixels[top : top + CROP, left : left + CROP])
    yield Sample(sample.name, part, digest_of(part))


def _classes(segments: Any, shape: tuple[int, ...]) -> dict[str, NDArray[np.bool_]]:
    """The pixels of each class, by its name."""
    return {part["label"]: np.asarray(part["mask"]).reshape(shape) > 0 for part in segments}
