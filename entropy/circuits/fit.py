"""Fitting hidden Chow-Liu trees: mini-batch EM with a falling step, then EM on all data.

Schedule after the authors' training scripts (SparsePC) for Liu, Mandt, Van den Broeck, ICLR 2022, arXiv 2111.11632: the
share of the old parameters that each mini-batch keeps grows from 0 to 0.9, 0.99, 0.999, linearly in three equal phases.
Differs: the pseudocount is that of the whole data set and is scaled to the batch, so it means the same at any batch
size; and the parameters start from clusters. Everything is decided by the seed and the epoch: a run that goes on from a
checkpoint is the run that went through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .model import MISSING, Counts, HiddenTree, LeafKind
from .trees import chow_liu

IntArray = NDArray[np.integer[Any]]

_WARM_ITEMS = 4000
_PARTITION_ITEMS = 20_000
_PARTITION_LEAST = 32
_WARM_NEAR = 8  # neighbours of a variable that its cluster looks at


@dataclass(frozen=True)
class FitConfig:
    """Settings of a fit. epochs: of mini-batches. full: passes of EM on all data after them.

    keep: share of the old parameters that a mini-batch keeps, linear between these points over the epochs.
    pseudocount: prior of each distribution, in items of the whole data set.
    """

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
    """A model with the Chow-Liu tree of the rows x (N, D), and parameters for EM to begin with."""
    tree = chow_liu(x, sizes, config.tree_levels, config.tree_samples, config.seed, config.ordinal)
    model = HiddenTree(tree, sizes, config.states, config.leaves, config.seed, device=device)
    warm_start(model, x, config)
    return model


def warm_start(model: HiddenTree, x: IntArray, config: FitConfig) -> None:
    """Sets parameters that are counted from guessed latents.

    A latent is the cluster (k-means) of its variable with what is near it in the tree. From random parameters, EM takes
    several epochs only to make the states differ.
    """
    tree, states = model.tree, model.states
    rng = np.random.default_rng([config.seed, 1])
    x = np.asarray(x)
    rows = x[np.sort(rng.choice(len(x), min(len(x), _WARM_ITEMS), replace=False))]
    n = len(rows)
    features = _features(rows, model.sizes, config.ordinal, rng)  # (N, D, F)
    near = [[*tree.children[v], *([int(tree.parents[v])] if v != tree.root else [])] for v in range(len(tree))]
    labels: dict[int, torch.Tensor] = {}
    for v in tree.order[tree.inner[tree.order]].tolist():
        weight = {v: 1.0}
        for distance in (0.7, 0.4):
            for u in list(weight):
                for w in near[u][:_WARM_NEAR]:
                    weight.setdefault(w, distance)
        scale = torch.tensor(list(weight.values()))[:, None]
        labels[v] = _clusters((features[:, list(weight)] * scale).reshape(n, -1), states, rng)
    theta = torch.zeros(int(model.starts[-1]) + 1, states)
    weights = torch.zeros(len(labels) - 1, states, states)
    symbols, at_inner = torch.from_numpy(rows.astype(np.int64)), 0
    for at, v in enumerate(tree.order.tolist()):
        size, parent = int(model.sizes[v]), labels[int(tree.parents[v])] if v != tree.root else None
        known = symbols[:, v] != MISSING
        pairs = symbols[known, v] * states + labels.get(v, parent)[known]  # type: ignore[index]
        counted = torch.bincount(pairs, minlength=size * states)
        theta[int(model.starts[at]) : int(model.starts[at]) + size] = counted.view(size, states).float()
        if v in labels and parent is not None:
            pairs = torch.bincount(parent * states + labels[v], minlength=states**2)
            weights[at_inner], at_inner = pairs.view(states, states).float(), at_inner + 1
    root = torch.bincount(labels[tree.root], minlength=states).float()
    to = model.device
    model.update(Counts(theta.to(to), weights.to(to), root.to(to), 0.0, n), 1.0, 1.0)
    # what a guess excludes must stay possible
    mean = model.theta.mean(1, keepdim=True)
    theta, weights, root = (0.9 * tensor for tensor in (model.theta, model.weights, model.root))
    model.set_parameters(theta + 0.1 * mean, weights + 0.1 / states, root + 0.1 / states)


def _features(x: IntArray, sizes: IntArray, ordinal: bool, rng: np.random.Generator) -> torch.Tensor:
    """Features (N, D, F) of symbols: places in the alphabet; or, if these mean nothing, random vectors. Missing: 0."""
    if ordinal:
        place = (x + 0.5) / sizes - 0.5
        return torch.from_numpy(np.where(x == MISSING, 0, place)).float()[:, :, None]
    vectors = rng.normal(size=(int(sizes.max()) + 1, 3)) / 4
    vectors[-1] = 0  # of MISSING, which is -1
    return torch.from_numpy(vectors[x]).float()


def _clusters(points: torch.Tensor, k: int, rng: np.random.Generator, rounds: int = 8) -> torch.Tensor:
    """The cluster (N,) of each point (N, F), by Lloyd's k-means; an empty cluster starts again at a random point."""
    pick = torch.from_numpy(rng.choice(len(points), k, replace=len(points) < k))
    centres = points[pick].clone()
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        total = torch.zeros_like(centres).index_add_(0, nearest, points)
        count = torch.bincount(nearest, minlength=k)
        again = points[torch.from_numpy(rng.integers(0, len(points), k))]
        centres = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], again)
    return torch.cdist(points, centres).argmin(1)


def partition(x: IntArray, sizes: IntArray, k: int, config: FitConfig) -> NDArray[np.int64]:
    """The cluster (N,), one of at most k, of each row (N, D), by k-means of the rows.

    A cluster that is too small to fit a circuit to is no cluster of its own. The components of a mixture of trees
    (Meila and Jordan, JMLR 2000) start so.
    """
    rng = np.random.default_rng([config.seed, 2])
    rows = np.sort(rng.choice(len(x), min(len(x), _PARTITION_ITEMS), replace=False))

    def points(rows: NDArray[np.int64] | slice) -> torch.Tensor:
        # the same random vectors in every call
        return _features(x[rows], sizes, config.ordinal, np.random.default_rng([config.seed, 3])).flatten(1)

    some = points(rows)
    label = _clusters(some, k, rng, 25)
    count = torch.bincount(label, minlength=k)
    centres = torch.zeros(k, some.shape[1]).index_add_(0, label, some)[count > 0] / count[count > 0][:, None]
    while True:
        chunks = [slice(start, start + 4096) for start in range(0, len(x), 4096)]
        cluster = torch.cat([torch.cdist(points(chunk), centres).argmin(1) for chunk in chunks])
        count = torch.bincount(cluster, minlength=len(centres))
        if len(centres) == 1 or bool((count >= _PARTITION_LEAST).all()):
            return cluster.numpy()
        centres = centres[torch.arange(len(centres)) != count.argmin()]


def keep_at(progress: float, points: Sequence[float]) -> float:
    """The share of the old parameters that a mini-batch keeps: linear between the points, at progress 0 to 1."""
    if len(points) == 1:
        return points[0]
    at = min(max(progress, 0.0), 1.0) * (len(points) - 1)
    low = min(int(at), len(points) - 2)
    return points[low] + (at - low) * (points[low + 1] - points[low])


def run_epoch(model: HiddenTree, x: IntArray, config: FitConfig, epoch: int) -> float:
    """Runs epoch number `epoch`: below `config.epochs` of mini-batches, from then on of EM on all data.

    Returns the mean log-likelihood of an item in nats, as it was met on the way.
    """
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
    """Fits a circuit to the rows x (N, D); MISSING is not known. progress: gets epoch and mean log-likelihood."""
    x = np.asarray(x)
    model = start(x, sizes, config, device)
    for epoch in range(config.epochs + config.full):
        log_likelihood = run_epoch(model, x, config, epoch)
        if progress is not None:
            progress(epoch, log_likelihood)
    return model


def bits_per_value(model: HiddenTree, x: IntArray) -> float:
    """The mean code length of an observed value in bits, by the model as it is (not frozen)."""
    observed = int((np.asarray(x) != MISSING).sum())
    return float(-model.log_likelihood(x).sum()) / math.log(2) / max(observed, 1)


def bits_of_mixture(models: Sequence[HiddenTree], x: IntArray) -> float:
    """The mean code length of an observed value in bits, if each row says which model it is coded by: the best."""
    if len(models) == 1:
        return bits_per_value(models[0], x)
    best = torch.stack([model.log_likelihood(x) for model in models]).max(0).values
    observed = int((np.asarray(x) != MISSING).sum())
    return (float(-best.sum()) / math.log(2) + len(x) * math.log2(len(models))) / max(observed, 1)


def as_float_arrays(models: Sequence[HiddenTree]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint of these models, which `from_float_arrays` reads back."""
    return {
        f"{index}.{name}" if len(models) > 1 else name: torch.as_tensor(np.ascontiguousarray(array))
        for index, model in enumerate(models)
        for name, array in model.to_arrays().items()
    }


def from_float_arrays(tensors: Mapping[str, Any], leaves: LeafKind, device: str = "cpu") -> list[HiddenTree]:
    """The models of a checkpoint that `as_float_arrays` made."""
    prefixes = sorted({name.partition(".")[0] for name in tensors if "." in name}, key=int)
    parts = [
        {name.partition(".")[2]: value for name, value in tensors.items() if name.partition(".")[0] == prefix}
        for prefix in prefixes
    ]
    return [HiddenTree.from_arrays(part, leaves, device) for part in parts or [tensors]]
