"""Motion search of the preset `grid`: the encoder's side, where floats may differ from machine to machine.

Candidates come from a full search at half resolution and are refined to quarter samples; a dynamic programme over the
quadtree of blocks then picks, for each, the vector or the parent's, by sum of absolute differences and bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....native import motion as kernels
from .frame import DecodedPicture, Motion, expected_vectors
from .motion import BACKWARD, BOTH, FORWARD, LEAF, Phases, finer, predict, shapes
from .symbols import Int
from .transform import FINE

Float = NDArray[np.float32]
REACH = 20  # half-resolution samples
FLAG_BITS, CHANGE_BITS, COMPONENT_BITS = 0.15, 5.0, 2.0


def leaf_sums(x: NDArray[Any]) -> Float:
    """The sums over 8x8 blocks of whole numbers, those at the border over what the plane has of them."""
    h, w = x.shape
    x = np.pad(x, ((0, -h % LEAF), (0, -w % LEAF)))
    tall = x.reshape(-1, LEAF, x.shape[1]).sum(1, dtype=np.int32)
    return tall.reshape(len(tall), -1, LEAF).sum(2, dtype=np.int32).astype(np.float32)


def _halved(x: NDArray[Any]) -> NDArray[np.int16]:
    """A plane at half resolution, in quarters, its sides multiples of half a block."""
    h, w = x.shape
    x = np.pad(x, ((0, -h % LEAF), (0, -w % LEAF)), mode="edge").astype(np.int16)
    tall = np.add(x[::2], x[1::2], dtype=np.int16)
    return np.add(tall[:, ::2], tall[:, 1::2], dtype=np.int16)


def coarse(target: NDArray[Any], reference: NDArray[Any], reach: int = REACH) -> list[Int]:
    """Two fields (h, w, 2) in quarter samples: the best vector for each block alone, and with its neighbourhood."""
    return list(kernels.coarse(_halved(target), _halved(reference), reach))


@dataclass
class Matcher:
    """The costs of vectors: |aim - prediction| times weight.

    aim: (H, W) in sixteenths. weight: (h, w) of blocks, in thirty-seconds.
    """

    aim: NDArray[np.int16]
    weight: NDArray[np.uint8]
    phases: Phases

    @staticmethod
    def alone(target: NDArray[np.int16], phases: Phases) -> Matcher:
        """Costs where this is the only reference."""
        return Matcher(target, np.full(shapes(*target.shape)[-1], 2, np.uint8), phases)

    @staticmethod
    def beside(target: NDArray[np.int16], phases: Phases, other: NDArray[np.int16], modes: Int, mine: int) -> Matcher:
        """Costs beside another reference, whose prediction is known.

        Where their mean is used, |t - (p + o) / 2| = |2 t - o - p| / 2; where only the other, nothing counts.
        """
        h, w = target.shape
        is_mean = (modes == BOTH).repeat(LEAF, 0).repeat(LEAF, 1)[:h, :w]
        weight = np.where(modes == BOTH, 1, np.where(modes == mine, 2, 0)).astype(np.uint8)
        # of at most 16 bits: twice 255 sixteen times, and 11600
        return Matcher(np.where(is_mean, 2 * target - other, target), weight, phases)

    def costs(self, fields: Int) -> Float:
        """The costs of the blocks under several fields: (n, h, w, 2) -> (n, h, w)."""
        return kernels.costs(self.aim, self.phases, self.weight, fields)


def refine(match: Matcher, fields: list[Int], penalty: float) -> tuple[Int, Float]:
    """The best of the fields for each block, refined to quarter samples by small steps, and what it costs."""
    return kernels.refine(match.aim, match.phases, match.weight, np.stack(fields), penalty)


def vector_bits(difference: Int) -> Float:
    """The bits of vectors that differ from their parents', about."""
    return (COMPONENT_BITS + 1.6 * np.log2(1 + np.abs(difference))).sum(-1).astype(np.float32) + np.float32(CHANGE_BITS)


def tree(costs: Float, labels: Int, weight: float) -> tuple[list[Int], float]:
    """The cheapest pyramid of labels for the blocks: its grids, coarse to fine, and what they cost.

    costs: (K, h, w) of the finest blocks. labels: (K, channels). weight: cost of a bit.
    """
    k, h, w = costs.shape
    between = vector_bits(labels[:, None] - labels[None]) + np.float32(FLAG_BITS)
    np.fill_diagonal(between, FLAG_BITS)
    between *= np.float32(weight)
    levels = shapes(h * LEAF, w * LEAF)
    cost, choices = costs, []
    for shape in reversed(levels[:-1]):
        # (parent label, child): the cheapest label of a child under each label of its parent
        via, choice = kernels.choices(cost.reshape(k, -1), between)
        choices.append(choice.reshape(cost.shape))
        via = via.reshape(cost.shape)
        via = np.pad(via, ((0, 0), (0, 2 * shape[0] - via.shape[1]), (0, 2 * shape[1] - via.shape[2])))
        cost = via.reshape(k, shape[0], 2, shape[1], 2).sum((2, 4))
    # the coarsest grid: differences run from block to block, so a common label is cheap
    common = cost.sum((1, 2)).argmin()
    total = cost + between[common][:, None, None]
    label = total.argmin(0)
    grids = [labels[label]]
    for choice, shape in zip(reversed(choices), levels[1:], strict=True):
        parent = finer(label, shape)
        label = np.take_along_axis(choice, parent[None], 0)[0]
        grids.append(labels[label])
    return grids, float(total.min(0).sum())


def vectors(match: Matcher, fields: list[Int], expected: Int, weight: float, keep: int = 40) -> tuple[list[Int], float]:
    """The pyramid of one reference's vectors, less what is expected, and what it costs."""
    best, _ = refine(match, [expected, *fields], weight)
    votes, counts = np.unique((best - expected).reshape(-1, 2), axis=0, return_counts=True)
    labels = votes[np.argsort(-counts, kind="stable")[:keep]]
    labels = np.unique(np.concatenate([labels, [[0, 0]]]), axis=0)
    return tree(match.costs(expected + labels[:, None, None]), labels, weight)


def modes(
    target: NDArray[np.int16], forward: NDArray[np.int16], backward: NDArray[np.int16], weight: float
) -> list[Int]:
    """The pyramid (h, w, 1) of which references predict a block."""
    t = target.astype(np.int32)
    mean = (forward.astype(np.int32) + backward + 1) >> 1
    costs = np.stack([leaf_sums(np.abs(t - p)) / np.float32(16) for p in (mean, forward, backward)])
    return tree(costs, np.array([[BOTH], [FORWARD], [BACKWARD]]), weight)[0]


def _alone(reference: DecodedPicture, field: Int) -> NDArray[np.int16]:
    """The prediction of luma from one reference."""
    return predict([reference.planes[0]], [field], None, 1, [partial(reference.phases, 0)])


def motion_of(
    target: NDArray[np.int16], refs: Sequence[DecodedPicture], distances: Sequence[int], weight: float, turns: int
) -> Motion:
    """The motion of a frame, by its luma.

    weight: absolute difference that a bit is worth, the lambda of the search. turns: refinements of two references by
    turns.
    """
    sixteenths = (target * FINE).astype(np.int16)
    coarsely = [coarse(target, r.planes[0]) for r in refs]
    still, pyramids, fields = [], [], []

    def search(k: int, match: Matcher) -> tuple[list[Int], bool, Int]:
        expected = expected_vectors(refs, distances, fields[:k])
        zero = np.zeros_like(expected)
        tries = [
            (*vectors(match, [zero, *coarsely[k], *fields[k : k + 1]], base, weight), base)
            for base in ([expected, zero] if expected.any() else [zero])
        ]
        pyramid, _, base = min(tries, key=lambda t: t[1])
        return pyramid, base is zero, base + pyramid[-1]

    for k in range(len(refs)):
        pyramid, is_still, field = search(k, Matcher.alone(sixteenths, refs[k].phases(0)))
        pyramids.append(pyramid)
        still.append(is_still)
        fields.append(field)
    if len(refs) == 1:
        return Motion(pyramids, still, None)
    predictions = [_alone(r, v) for r, v in zip(refs, fields, strict=True)]
    mode = modes(sixteenths, predictions[0], predictions[1], weight)
    for _ in range(turns):
        # the second follows the first, so the first goes first
        for k, mine in ((0, FORWARD), (1, BACKWARD)):
            match = Matcher.beside(sixteenths, refs[k].phases(0), predictions[1 - k], mode[-1][..., 0], mine)
            pyramids[k], still[k], fields[k] = search(k, match)
            predictions[k] = _alone(refs[k], fields[k])
        mode = modes(sixteenths, predictions[0], predictions[1], weight)
    return Motion(pyramids, still, mode)
