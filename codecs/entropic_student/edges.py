"""The second head of Entropic Student: a small network from features to the edges of the picture, in NumPy.

It imitates HED (Xie, Tu, "Holistically-nested edge detection", ICCV 2015), as the rest of the classifier is the first
head: encoder and prior are the same for both (Matsubara et al., WACV 2022, section 3.4). In floats: probabilities may
differ in their last digits between machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.floats import Conv, empty
from ...native.grids import Rows
from ..layers.exact_shapes import Shapes, conv_shapes
from .config import CHANNELS, FACTOR

__all__ = ["EDGES", "EdgeHead", "edge_shapes"]

EDGES = "edges"  # in front of the names of its tensors
WIDTH = 48
LAYERS = ((CHANNELS, WIDTH), (WIDTH, WIDTH), (WIDTH, FACTOR**2))  # inputs and outputs; 3x3 kernels, ReLUs between them


def edge_shapes() -> Shapes:
    """The shapes of its tensors in a weights file, by name."""
    return conv_shapes({f"{EDGES}.{k}": (outer, inner, 3) for k, (inner, outer) in enumerate(LAYERS)})


class EdgeHead:
    """The network of a weights file."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        names = [f"{EDGES}.{k}" for k in range(len(LAYERS))]
        self._convs = [Conv(arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in names]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability of an edge at each pixel, (4 h, 4 w), of features (24, h, w)."""
        x = np.ascontiguousarray(features.transpose(1, 2, 0), np.float32)
        for k, conv in enumerate(self._convs):
            out = empty(*x.shape[:2], conv.outer)
            conv.rows(Rows(x, 0, len(x)), 0, len(x), Rows(out, 0, len(out)))
            x = np.maximum(out, 0) if k + 1 < len(self._convs) else out
        h, w, _ = x.shape
        logits = x.reshape(h, w, FACTOR, FACTOR).transpose(0, 2, 1, 3).reshape(FACTOR * h, FACTOR * w)
        return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
