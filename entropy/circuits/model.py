"""Hidden Chow-Liu trees: probabilistic circuits over discrete variables, every marginal exact. Training and queries.

Liu, Mandt, Van den Broeck, "Lossless Compression with Probabilistic Circuits", ICLR 2022, arXiv 2111.11632 (the model);
Liu and Van den Broeck, "Tractable Regularization of Probabilistic Circuits", NeurIPS 2021 (hidden Chow-Liu trees).

Each variable x_v with children in the tree has a latent z_v with M states; latents form the tree, x_v hangs below z_v.
A variable without children has no latent of its own and depends on its parent's. With k a state of z_v and j one of the
latent of v's parent:

    s_v[k] = theta_v[x_v, k] * product over children c of m_c[k]          what is below z_v
    m_v[j] = sum_k W_v[j, k] s_v[k]   (without latent: theta_v[x_v, j])     the message to the parent
    p(x)   = sum_k pi[k] s_root[k]

Differs: everything is batched per level of the tree, leaves are gathered by symbol and their counts scattered (no
indicator vectors), an unobserved variable is a leaf of ones, so any marginal and any conditional is one pass.
Coding is `coding.FrozenCircuit`, in integers; nothing here decides a stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .trees import VariableTree

IntArray = NDArray[np.integer[Any]]
LeafKind = Literal["categorical", "logistic"]
MISSING = -1  # a symbol that isn't observed

_TINY = 1e-30  # below any message that can be; keeps 0 / 0 away


@dataclass
class Counts:
    """The expected counts of a batch: sufficient statistics of EM. They add up over batches."""

    theta: Tensor  # (sum of sizes + 1, M); the last row belongs to what is missing and means nothing
    weights: Tensor  # (inner variables but the root, M, M)
    root: Tensor  # (M,)
    log_likelihood: float  # of the batch, in nats
    n: float

    def __iadd__(self, other: Counts) -> Counts:
        self.theta += other.theta
        self.weights += other.weights
        self.root += other.root
        self.log_likelihood += other.log_likelihood
        self.n += other.n
        return self


class HiddenTree:
    """A hidden Chow-Liu tree in floats.

    Parameters are probabilities, in the order of `tree.order`; variables of all calls in their own.
    tree: over D variables. sizes: (D,) symbols of each, 0..size-1. states: M.
    initialise: begin with random parameters; without them `set_parameters` must come first.
    leaves: "categorical", or "logistic": each leaf's row is a discretised logistic distribution over its symbols, with
        all mass outside them given to the first and the last. x of all calls: (N, D) integers; MISSING is unobserved.
    """

    theta: Tensor  # (sum of sizes, M): of the variable at position i, rows starts[i]...; columns sum to 1
    weights: Tensor  # (inner variables but the root, M, M), rows (parent's state) sum to 1
    root: Tensor  # (M,)

    def __init__(
        self,
        tree: VariableTree,
        sizes: Sequence[int] | IntArray,
        states: int,
        leaves: LeafKind = "categorical",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        initialise: bool = True,
    ) -> None:
        sizes = np.asarray(sizes, dtype=np.int64)
        if sizes.shape != (len(tree),) or sizes.min() < 1 or states < 1:
            raise ValueError(f"{len(tree)} variables, sizes {sizes.shape}, {states} states")
        self.tree, self.sizes, self.states, self.leaves = tree, sizes, states, leaves
        ordered = sizes[tree.order]
        self.starts = np.concatenate([[0], np.cumsum(ordered)])  # (D + 1,) of theta's rows, by position
        self.dtype, self.device = dtype, torch.device(device)
        self._place = torch.from_numpy(self.starts[:-1].copy()).to(self.device)
        self._order = torch.from_numpy(tree.order.astype(np.int64)).to(self.device)
        self._levels = _plan(tree, self.device)
        if not initialise:  # whoever calls gives the parameters
            return
        generator = torch.Generator().manual_seed(seed)

        def near_uniform(*shape: int, spread: float) -> Tensor:
            # symmetry of the states has to be broken, and by enough that EM leaves the saddle point at once
            return 1 - spread + 2 * spread * torch.rand(*shape, generator=generator, dtype=torch.float64)

        n_inner = int(tree.inner.sum()) - 1
        theta = near_uniform(int(self.starts[-1]), states, spread=0.4)
        weights = near_uniform(n_inner, states, states, spread=0.4)
        root = near_uniform(states, spread=0.4)
        self.set_parameters(self._normalised(theta), weights / weights.sum(2, keepdim=True), root / root.sum())

    def set_parameters(self, theta: Tensor, weights: Tensor, root: Tensor) -> None:
        shapes = (tuple(theta.shape), tuple(weights.shape), tuple(root.shape))
        inner = int(self.tree.inner.sum()) - 1
        wanted = ((int(self.starts[-1]), self.states), (inner, self.states, self.states), (self.states,))
        if shapes != wanted:
            raise ValueError(f"parameters of shapes {shapes}; expected {wanted}")
        self.theta, self.weights, self.root = (
            tensor.to(self.device, self.dtype).contiguous() for tensor in (theta, weights, root)
        )

    @property
    def n_parameters(self) -> int:
        return self.theta.numel() + self.weights.numel() + self.root.numel()

    def variable_theta(self, variable: int) -> Tensor:
        """The leaf distributions (size, M) of a variable."""
        at = int(self.tree.position[variable])
        return self.theta[int(self.starts[at]) : int(self.starts[at + 1])]

    # ------------------------------------------------------------------------------------------------------ queries

    @torch.no_grad()
    def log_likelihood(self, x: IntArray | Tensor, batch: int = 512) -> Tensor:
        """The log-likelihood of what is observed of each row, in nats: (N,) float64."""
        parts = [self._up(part)[2] for part in self._rows(x).split(batch)]
        return torch.cat(parts).double().cpu() if parts else torch.zeros(0, dtype=torch.float64)

    @torch.no_grad()
    def conditionals(self, x: IntArray | Tensor, variables: Sequence[int], batch: int = 512) -> list[Tensor]:
        """p(x_v | what is observed of the row), one (N, size) float64 tensor for each of the variables.

        Of a variable that is observed itself: what the others say about it.
        """
        given = self._rows(x)
        out: list[Tensor] = []
        for v in variables:
            rows = given.clone()
            rows[:, v] = MISSING
            parts = []
            at = int(self.tree.position[v])
            for part in rows.split(batch):
                values, messages, _ = self._up(part)
                flow, _ = self._down(values, messages)
                # a leaf's row belongs to its parent's latent, whose posterior `flow` holds for it
                parts.append(flow[at].double() @ self.variable_theta(v).double().T)
            conditional = torch.cat(parts) if parts else torch.zeros(0, int(self.sizes[v]), dtype=torch.float64)
            out.append((conditional / conditional.sum(1, keepdim=True).clamp_min(_TINY)).cpu())
        return out

    @torch.no_grad()
    def sample(self, n: int, given: IntArray | Tensor | None = None, seed: int = 0) -> NDArray[np.int64]:
        """Draws samples (n, D). given: (n, D) or (D,), what is observed (it is kept); MISSING is what is drawn."""
        if given is None:
            given = np.full((n, len(self.tree)), MISSING)
        rows = self._rows(np.broadcast_to(np.asarray(given), (n, len(self.tree))).copy())
        generator = torch.Generator(device=self.device).manual_seed(seed)
        values, _, _ = self._up(rows)
        latent = torch.zeros(len(self.tree), n, dtype=torch.int64, device=self.device)
        latent[0] = _draw(values[0] * self.root, generator)
        for level in self._levels[1:]:
            start, middle, end = level.bounds
            above = latent[level.parents]  # (n_level, n)
            latent[middle:end] = above[middle - start :]
            if middle > start:
                w = self.weights[level.weights]
                picked = w.gather(1, above[: middle - start, :, None].expand(-1, -1, self.states))
                latent[start:middle] = _draw(picked * values[start:middle], generator)
        out = rows.clone()
        for at, v in enumerate(self.tree.order.tolist()):
            missing = rows[:, v] == MISSING
            if bool(missing.any()):
                theta = self.theta[int(self.starts[at]) : int(self.starts[at + 1])]
                out[missing, v] = _draw(theta.T[latent[at][missing]], generator)
        return out.cpu().numpy()

    # --------------------------------------------------------------------------------------------------------- EM

    @torch.no_grad()
    def counts(self, x: IntArray | Tensor) -> Counts:
        """The expected counts of a batch: one pass up, one down. Memory: about 4 N D M numbers."""
        rows = self._rows(x)
        values, messages, log_likelihood = self._up(rows)
        flow, weights = self._down(values, messages)
        index = self._index(rows).reshape(-1)
        theta = scatter_rows(flow.reshape(-1, self.states), index, int(self.starts[-1]) + 1)
        root = flow[0].sum(0)
        return Counts(theta, weights, root, float(log_likelihood.double().sum()), len(rows))

    @torch.no_grad()
    def update(self, counts: Counts, step: float = 1.0, pseudocount: float = 0.1) -> None:
        """Moves the parameters from where they are (step 0) to where EM wants them (step 1).

        pseudocount: added to each distribution in all, spread evenly over its entries: the prior. It is relative to
        the counts given, so for mini-batches it is a prior for each batch: scale it by batch / data set.
        """
        theta = counts.theta[:-1] + self._spread(pseudocount)
        theta = self._logistic(theta.double()) if self.leaves == "logistic" else self._normalised(theta)
        weights = counts.weights + pseudocount / self.states
        root = counts.root + pseudocount / self.states
        self.theta.lerp_(theta.to(self.dtype), step)
        self.weights.lerp_(weights / weights.sum(2, keepdim=True), step)
        self.root.lerp_(root / root.sum(), step)

    def _spread(self, pseudocount: float) -> Tensor:
        each = np.repeat(pseudocount / np.diff(self.starts), np.diff(self.starts))
        return torch.from_numpy(each).to(self.device, self.dtype)[:, None]

    def _normalised(self, theta: Tensor) -> Tensor:
        """theta with the columns of each variable's rows scaled to a sum of 1."""
        n = np.diff(self.starts)
        owner = torch.from_numpy(np.repeat(np.arange(len(n)), n)).to(theta.device)
        total = torch.zeros(len(n), theta.shape[1], dtype=theta.dtype, device=theta.device).index_add_(0, owner, theta)
        return theta / total[owner]

    def _logistic(self, counts: Tensor) -> Tensor:
        out = torch.empty_like(counts)
        for size, positions in self._by_size().items():
            rows = torch.from_numpy(self.starts[positions][:, None] + np.arange(size)).to(counts.device)
            out[rows.reshape(-1)] = fit_logistic(counts[rows]).reshape(-1, self.states)
        return out

    def _by_size(self) -> dict[int, IntArray]:
        n = np.diff(self.starts)
        return {int(size): np.flatnonzero(n == size) for size in np.unique(n)}

    # ------------------------------------------------------------------------------------------------------- passes

    def _rows(self, x: IntArray | Tensor) -> Tensor:
        rows = torch.as_tensor(x).to(self.device, torch.int64)
        if rows.ndim != 2 or rows.shape[1] != len(self.tree):
            raise ValueError(f"data of shape {tuple(rows.shape)}; expected (N, {len(self.tree)})")
        limit = torch.from_numpy(self.sizes).to(self.device)
        if bool(((rows < MISSING) | (rows >= limit)).any()):
            raise ValueError("a symbol is outside its variable's alphabet; MISSING is -1")
        return rows

    def _index(self, rows: Tensor) -> Tensor:
        """The row of theta for each symbol, (D, N) by position; of what is missing, the row behind the last."""
        symbols = rows.T[self._order]
        return torch.where(symbols == MISSING, int(self.starts[-1]), symbols + self._place[:, None])

    def _up(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Passes messages up the tree. Returns values and messages, (D, N, M) each, and log-likelihoods, (N,).

        Values are s of inner variables, theta of leaves. Each s is scaled to a largest entry of 1, and its message with
        it; the scale goes into the log-likelihood.
        """
        padded = torch.cat([self.theta, self.theta.new_ones(1, self.states)])
        values = padded.index_select(0, self._index(rows).reshape(-1)).view(len(self.tree), len(rows), self.states)
        messages = torch.empty_like(values)
        log_scale = values.new_zeros(len(rows))
        for level in reversed(self._levels):
            start, middle, end = level.bounds
            for above, below in level.ranks:  # no variable has two children in one rank
                product = values[above] * messages[below]
                top = product.amax(2, keepdim=True).clamp_min(_TINY)
                values[above] = product / top
                log_scale += top.squeeze(2).log().sum(0)
            messages[middle:end] = values[middle:end]
            if level.weights is not None and middle > start:
                torch.bmm(values[start:middle], self.weights[level.weights].transpose(1, 2), out=messages[start:middle])
        return values, messages, log_scale + (values[0] @ self.root).log()

    def _down(self, values: Tensor, messages: Tensor) -> tuple[Tensor, Tensor]:
        """Passes posteriors down the tree. Returns flow (D, N, M), and the expected counts of W.

        flow: the posterior of each variable's latent; of a leaf, that of its parent's.
        """
        flow = torch.empty_like(values)
        counts = torch.zeros_like(self.weights)
        joint = values[0] * self.root
        flow[0] = joint / joint.sum(1, keepdim=True).clamp_min(_TINY)
        for level in self._levels[1:]:
            start, middle, end = level.bounds
            above = flow.index_select(0, level.parents)
            flow[middle:end] = above[middle - start :]
            if middle > start:
                weights = self.weights[level.weights]
                share = above[: middle - start] / messages[start:middle].clamp_min(_TINY)
                below = values[start:middle]
                torch.mul(below, torch.bmm(share, weights), out=flow[start:middle])
                counts[level.weights] = torch.bmm(share.transpose(1, 2), below) * weights
        return flow, counts

    # ------------------------------------------------------------------------------------------------------- stored

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """The tree, sizes and parameters, as arrays for a checkpoint."""
        return {
            "parents": self.tree.parents.copy(),
            "sizes": self.sizes.copy(),
            "theta": self.theta.cpu().numpy(),
            "weights": self.weights.cpu().numpy(),
            "root": self.root.cpu().numpy(),
        }

    @staticmethod
    def from_arrays(
        arrays: Mapping[str, Any], leaves: LeafKind = "categorical", device: str | torch.device = "cpu"
    ) -> HiddenTree:
        """A model of the arrays that `to_arrays` made."""
        root = torch.as_tensor(arrays["root"])
        model = HiddenTree(
            VariableTree(np.asarray(arrays["parents"])),
            np.asarray(arrays["sizes"]),
            len(root),
            leaves,
            0,
            root.dtype,
            device,
        )
        model.set_parameters(torch.as_tensor(arrays["theta"]), torch.as_tensor(arrays["weights"]), root)
        return model


@dataclass(frozen=True)
class _Level:
    """One depth of the tree, as positions. bounds: begin, end of the inner variables, end of the leaves.

    parents: positions of the level's parents. weights: where the level's matrices are. ranks: (variables of this level,
    the children of theirs with this many older siblings).
    """

    bounds: tuple[int, int, int]
    parents: Tensor
    weights: slice | None
    ranks: tuple[tuple[Tensor, Tensor], ...]


def _plan(tree: VariableTree, device: torch.device) -> tuple[_Level, ...]:
    """The levels of a tree, the root's first, with their index tensors on the device."""
    out, seen = [], 0
    for depth, (start, middle, end) in enumerate(tree.levels):
        weights = None
        if depth:
            weights, seen = slice(seen, seen + middle - start), seen + middle - start
        ranks = []
        if depth + 1 < len(tree.levels):
            first, _, last = tree.levels[depth + 1]
            rank, above = tree.sibling_rank[first:last], tree.parent_position[first:last]
            for r in range(int(rank.max()) + 1):
                below = np.flatnonzero(rank == r)
                ranks.append((torch.from_numpy(above[below]).to(device), torch.from_numpy(below + first).to(device)))
        parents = torch.from_numpy(tree.parent_position[start:end].copy()).to(device)
        out.append(_Level((start, middle, end), parents, weights, tuple(ranks)))
    return tuple(out)


def _draw(weights: Tensor, generator: torch.Generator) -> Tensor:
    """A random index of the last axis for each row of weights, in proportion to them."""
    running = weights.double().cumsum(-1)
    at = torch.rand(running.shape[:-1], generator=generator, dtype=torch.float64, device=weights.device)
    at = at * running[..., -1]
    return (running <= at[..., None]).sum(-1).clamp_max(weights.shape[-1] - 1)


def scatter_rows(source: Tensor, index: Tensor, n_rows: int) -> Tensor:
    """The sums (n_rows, M) of the rows of source (n, M) that have the same index (n,)."""
    out = torch.zeros(n_rows, source.shape[1], dtype=source.dtype, device=source.device)
    return out.index_add_(0, index, source)


def logistic_table(mean: Tensor, log_scale: Tensor, size: int) -> Tensor:
    """The probabilities (..., size, M) of the symbols 0..size-1 under discretised logistic distributions (..., M).

    The first and the last symbol take what lies beyond them.
    """
    edges = torch.arange(size - 1, dtype=mean.dtype, device=mean.device) + 0.5
    cdf = torch.sigmoid((edges[:, None] - mean[..., None, :]) * torch.exp(-log_scale)[..., None, :])
    zeros, ones = torch.zeros_like(cdf[..., :1, :]), torch.ones_like(cdf[..., :1, :])
    if size == 1:
        return torch.ones(*mean.shape[:-1], 1, mean.shape[-1], dtype=mean.dtype, device=mean.device)
    return torch.diff(torch.cat([zeros, cdf, ones], -2), dim=-2)


def fit_logistic(counts: Tensor, steps: int = 12) -> Tensor:
    """The tables (V, C, M) of the discretised logistic distributions that fit the expected counts (V, C, M).

    Starts at the moments and takes damped Newton steps in mean and log-scale; a step that doesn't help is halved. A
    little of the uniform distribution is mixed in, so that no symbol is impossible.
    """
    size = counts.shape[1]
    share = counts / counts.sum(1, keepdim=True).clamp_min(_TINY)
    if size == 1:
        return torch.ones_like(share)
    grid = torch.arange(size, dtype=counts.dtype, device=counts.device)[:, None]
    mean = (share * grid).sum(1)
    variance = (share * (grid - mean[:, None]) ** 2).sum(1)
    log_scale = 0.5 * (variance.clamp_min(1e-3) * 3 / math.pi**2).log()
    floor = 1e-4

    def table(mean: Tensor, log_scale: Tensor) -> Tensor:
        return (1 - floor) * logistic_table(mean, log_scale, size) + floor / size

    def score(mean: Tensor, log_scale: Tensor) -> Tensor:
        return (share * table(mean, log_scale).log()).sum(1)

    now, step = score(mean, log_scale), torch.full_like(mean, 0.25)
    with torch.enable_grad():
        for _ in range(steps):
            m, s = mean.detach().requires_grad_(), log_scale.detach().requires_grad_()
            slope_m, slope_s = torch.autograd.grad(score(m, s).sum(), (m, s))
            # in units of the scale, both directions have a curvature of the order of 1
            new_m = mean + 3 * step * slope_m * torch.exp(2 * log_scale)
            new_s = (log_scale + step * slope_s).clamp(-5, math.log(4 * size))
            with torch.no_grad():
                new = score(new_m, new_s)
                better = new > now
                mean, log_scale = torch.where(better, new_m, mean), torch.where(better, new_s, log_scale)
                now = torch.where(better, new, now)
                step = torch.where(better, step * 1.5, step * 0.5)
    return table(mean.detach(), log_scale.detach())
