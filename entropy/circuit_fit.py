"""Fitting hidden Chow-Liu trees: mini-batch EM with a falling step, then EM on all data.

Schedule after the authors' training scripts (SparsePC) for Liu, Mandt, Van den Broeck, ICLR 2022, arXiv 2111.11632: the
share of the old parameters that each mini-batch keeps grows from 0 to 0.9, 0.99, 0.999, linearly in three equal phases.
Differs: the pseudocount is that of the whole data set and is scaled to the batch, so it means the same at any batch
size. Everything is decided by the seed and the epoch: a run that goes on from a checkpoint is the run that went
through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .circuits import MISSING, HiddenTree, LeafKind
from .trees import chow_liu

IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class FitConfig:
    """epochs: of mini-batches. full: passes of EM on all data after them. keep: share of the old parameters that a
    mini-batch keeps, linear between these points over the epochs. pseudocount: prior of each distribution, in items of
    the whole data set."""

    states: int = 32
    epochs: int = 60
    full: int = 3
    batch: int = 512
    keep: tuple[float, ...] = (0.0, 0.9, 0.99, 0.999)
    pseudocount: float = 1.0
    leaves: LeafKind = "categorical"
    ordinal: bool = True
    tree_samples: int = 5000
    tree_levels: int = 16
    seed: int = 1


def start(x: IntArray, sizes: Sequence[int] | IntArray, config: FitConfig, device: str = "cpu") -> HiddenTree:
    """The tree of the data, and parameters to begin with."""
    tree = chow_liu(x, sizes, config.tree_levels, config.tree_samples, config.seed, config.ordinal)
    return HiddenTree(tree, sizes, config.states, config.leaves, config.seed, device=device)


def keep_at(progress: float, points: Sequence[float]) -> float:
    """Linear between the points, at progress from 0 to 1."""
    if len(points) == 1:
        return points[0]
    at = min(max(progress, 0.0), 1.0) * (len(points) - 1)
    low = min(int(at), len(points) - 2)
    return points[low] + (at - low) * (points[low + 1] - points[low])


def run_epoch(model: HiddenTree, x: IntArray, config: FitConfig, epoch: int) -> float:
    """One epoch, the epoch-th: below `config.epochs` of mini-batches, from then on of EM on all data. Returns the mean
    log-likelihood of an item in nats, as it was met on the way."""
    batch = min(config.batch, len(x))
    if epoch >= config.epochs:
        order, n_batches = np.arange(len(x)), math.ceil(len(x) / batch)
    else:
        order, n_batches = np.random.default_rng([config.seed, epoch]).permutation(len(x)), len(x) // batch
    total, total_n, whole = 0.0, 0, None
    for i in range(n_batches):
        rows = np.sort(order[i * batch : (i + 1) * batch])
        counts = model.counts(x[rows])
        total, total_n = total + counts.log_likelihood, total_n + len(rows)
        if epoch >= config.epochs:
            if whole is None:
                whole = counts
            else:
                whole += counts
            continue
        keep = keep_at((epoch + i / n_batches) / max(config.epochs, 1), config.keep)
        model.update(counts, 1 - keep, config.pseudocount * len(rows) / len(x))
    if whole is not None:
        model.update(whole, 1.0, config.pseudocount)
    return total / max(total_n, 1)


def fit(
    x: IntArray,
    sizes: Sequence[int] | IntArray,
    config: FitConfig,
    progress: Callable[[int, float], None] | None = None,
    device: str = "cpu",
) -> HiddenTree:
    """A circuit for the rows x (N, D); MISSING is a value that isn't known. progress: gets epoch and log-likelihood."""
    x = np.asarray(x)
    model = start(x, sizes, config, device)
    for epoch in range(config.epochs + config.full):
        found = run_epoch(model, x, config, epoch)
        if progress is not None:
            progress(epoch, found)
    return model


def bits_per_value(model: HiddenTree, x: IntArray) -> float:
    """Mean code length of an observed value, by the model as it is (not frozen)."""
    observed = int((np.asarray(x) != MISSING).sum())
    return float(-model.log_likelihood(x).sum()) / math.log(2) / max(observed, 1)


def as_float_arrays(model: HiddenTree) -> dict[str, torch.Tensor]:
    """A checkpoint: `HiddenTree.from_arrays` reads it back."""
    return {name: torch.as_tensor(np.ascontiguousarray(array)) for name, array in model.to_arrays().items()}
