"""Neighbours and their weights: joints of a skin, joints of a joint, skins of a skin; and how skins follow joints.

w_k = exp(-d_k^2 / l^2), normalised to a sum of 1 (section 3.1 of the paper). The smallest d^2 is subtracted first: far
from all joints every weight would be 0 otherwise.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .gaussians import product

__all__ = ["Neighbours", "farthest", "kernel", "mean_spacing", "nearest", "neighbours", "quaternion", "warp"]

_CHUNK = 1 << 24  # distances at a time


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest points of each of N points, of so many as there are to choose from.

    index: (N, K) int64. weights: (N, K), each row sums to 1. count: of the points that indices are of.
    """

    index: Tensor
    weights: Tensor
    count: int

    def mean(self, values: Tensor) -> Tensor:
        """The weighted mean of the neighbours' values, (count, C) to (N, C)."""
        result = _Product.apply(values, *self._matrices)
        assert isinstance(result, Tensor)
        return result

    @functools.cached_property
    def _matrices(self) -> tuple[Tensor, Tensor]:
        """The mean as a sparse matrix, and its transpose: 20 times as quick as torch's gathers and their gradients."""
        n, k = self.index.shape
        rows = torch.arange(n, device=self.index.device).repeat_interleave(k)
        near = self.index.sort(1)
        columns, weights = near.values.flatten(), self.weights.gather(1, near.indices).flatten()
        order = columns.argsort(stable=True)
        forth = _sparse(rows, columns, weights, (n, self.count))
        return forth, _sparse(columns[order], rows[order], weights[order], (self.count, n))


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix from entries in the order of their rows."""
    starts = functional.pad(torch.bincount(rows, minlength=shape[0]).cumsum(0), (1, 0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)  # that CSR is in beta, and that checks are optional
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=True)


class _Product(torch.autograd.Function):
    """A sparse matrix times a dense one, with the gradient of the dense one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, forth: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return forth @ values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back @ grads[0].contiguous(), None, None


def nearest(points: Tensor, targets: Tensor, k: int, exclude_self: bool = False) -> tuple[Tensor, Tensor]:
    """The k nearest targets of each point: squared distances and indices, (N, k), the nearest first.

    exclude_self: whether points and targets are the same, and none is a neighbour of its own.
    """
    step = max(1, _CHUNK // max(1, len(targets)))
    squares, indices = [], []
    for start in range(0, len(points), step):
        part = points[start : start + step]
        distances = torch.cdist(part, targets, compute_mode="donot_use_mm_for_euclid_dist")  # a product would cancel
        if exclude_self:
            rows = torch.arange(len(part), device=part.device)
            distances[rows, rows + start] = torch.inf
        distance, index = distances.topk(k, largest=False)
        squares.append(distance.square())
        indices.append(index)
    return torch.cat(squares), torch.cat(indices)


def kernel(squares: Tensor, length: float) -> Tensor:
    """The weights of neighbours at these squared distances, (N, K); each row sums to 1."""
    return torch.softmax(-squares / length**2, dim=1)  # subtracts the largest exponent itself


def neighbours(points: Tensor, targets: Tensor, k: int, length: float, exclude_self: bool = False) -> Neighbours:
    """The k nearest targets of each point, with their weights. `exclude_self` as in `nearest`."""
    squares, index = nearest(points, targets, k, exclude_self)
    return Neighbours(index, kernel(squares, length), len(targets))


def mean_spacing(points: Tensor) -> float:
    """The mean distance of a point to its nearest neighbour."""
    squares, _ = nearest(points, points, 1, exclude_self=True)
    return float(squares.sqrt().mean())


def farthest(points: Tensor, n: int) -> Tensor:
    """Indices of n points that lie as far from each other as a greedy choice gets them, in ascending order.

    The first is the point that is farthest from the centre.
    """
    chosen = [int((points - points.mean(0)).square().sum(1).argmax())]
    squares = (points - points[chosen[0]]).square().sum(1)
    for _ in range(min(n, len(points)) - 1):
        chosen.append(int(squares.argmax()))
        squares = torch.minimum(squares, (points - points[chosen[-1]]).square().sum(1))
    return torch.tensor(sorted(chosen), device=points.device)


def warp(positions: Tensor, rotations: Tensor, transforms: Tensor, anchors: Neighbours) -> tuple[Tensor, Tensor]:
    """Skins at a frame: positions and rotations of frame 0, moved by the blended transforms (J, 3, 4) of their joints.

    x_i = A_i x_i^0 + b_i and q_i = quaternion(A_i) q_i^0, where A_i and b_i are the weighted means of the joints'
    rotations and translations.
    """
    squares = _squares(transforms[:, :, :3])  # linear: the mean of the squares is the square of the mean matrix
    blended = anchors.mean(torch.cat((transforms.flatten(1), squares.flatten(1)), 1))
    moved = blended[:, :12].view(-1, 3, 4)
    x = torch.bmm(moved[:, :, :3], positions[:, :, None])[:, :, 0] + moved[:, :, 3]
    return x, product(_best_row(blended[:, 12:].view(-1, 4, 4)), rotations)


def quaternion(matrices: Tensor) -> Tensor:
    """The quaternion w x y z of length 1 of matrices that are a mean of rotations, (N, 3, 3) to (N, 4).

    K = 4 sum(w q q^T) is linear in the matrix, so each of its rows is a mean of quaternions with equal signs. The row
    with the largest diagonal is the best conditioned; that of w is the trace formula of the paper.
    """
    return _best_row(_squares(matrices))


def _squares(matrices: Tensor) -> Tensor:
    """K = 4 q q^T of rotations, (N, 3, 3) to (N, 4, 4)."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrices.unbind(-2))
    x, y, z = h - f, c - g, d - b
    entries = (
        *(1 + a + e + i, x, y, z),
        *(x, 1 + a - e - i, b + d, c + g),
        *(y, b + d, 1 - a + e - i, f + h),
        *(z, c + g, f + h, 1 - a - e + i),
    )
    return torch.stack(entries, -1).view(-1, 4, 4)


def _best_row(squares: Tensor) -> Tensor:
    """The row of each K with the largest diagonal, brought to length 1."""
    best = torch.diagonal(squares.detach(), dim1=1, dim2=2).contiguous().max(1).indices
    rows = squares.gather(1, best[:, None, None].expand(-1, 1, 4)).squeeze(1)
    return functional.normalize(rows, dim=1)
