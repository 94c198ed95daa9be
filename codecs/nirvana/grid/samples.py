"""The samples that passes over a group leave, to train the networks of the preset `grid` on (learn.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .symbols import Int

__all__ = ["FilterSample", "Samples"]


@dataclass
class FilterSample:
    """A sample to train a filter on: a frame as it sees it, and the corrections that it should give.

    inputs: of the network. target: corrections in steps, zero where the mask says that none is made. step: in samples.
    """

    inputs: NDArray[np.float32]
    target: NDArray[np.float32]
    mask: NDArray[np.bool_]
    step: float


@dataclass
class Samples:
    """All that training needs from the passes over a group: features and symbols, and the samples of each filter."""

    features: list[NDArray[np.uint8]] = field(default_factory=list)
    bands: list[Int] = field(default_factory=list)  # kind * 64 + band
    symbols: list[Int] = field(default_factory=list)
    level_features: list[NDArray[np.uint8]] = field(default_factory=list)
    level_choices: list[Int] = field(default_factory=list)
    level_symbols: list[Int] = field(default_factory=list)
    average_features: list[NDArray[np.uint8]] = field(default_factory=list)
    average_symbols: list[Int] = field(default_factory=list)
    filters: dict[str, list[FilterSample]] = field(default_factory=dict)
