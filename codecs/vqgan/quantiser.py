"""Vector quantisers of VQGAN (torch): learned codebooks, and finite scalar quantisation. K-means.

van den Oord, Vinyals, Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017, arXiv 1711.00937, with the
moving averages of its appendix; Razavi et al., arXiv 1906.00446. Rotated gradients: Fifty et al., "Restructuring vector
quantization with the rotation trick", arXiv 2410.06424. Finite scalars: Mentzer et al., arXiv 2309.15505.

Differs: a codebook starts as K-means of encoder outputs, and words that are hardly used begin anew at vectors of the
batch. Usage counts as low relative to the mean of all words: batches here are small beside large codebooks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "Clusters",
    "FiniteQuantiser",
    "Gradient",
    "Quantised",
    "Usage",
    "VectorQuantiser",
    "kmeans",
    "nearest",
    "perplexity",
    "refined_clusters",
    "usage",
]

MOST_DISTANCES = 1 << 23  # at a time: 32 MiB
SMOOTHING = 1e-5  # Laplace's, of the averaged counts
_UNKNOWN = -1.0  # in place of counts
Gradient = Literal["straight-through", "rotation"]


class Quantised(NamedTuple):
    """Codewords (B, C, h, w) that pass gradients on to what they stand for, indices (B, h, w) int64, a scalar loss."""

    codes: Tensor
    index: Tensor
    loss: Tensor


class Clusters(NamedTuple):
    """Centroids (K, C) float32, the cluster (n,) of each vector, and the mean squared distance (scalar) to it."""

    centroids: Tensor
    index: Tensor
    error: Tensor


class Usage(NamedTuple):
    """How much of a codebook is used: exp of the entropy of its counts, and how many words were met at all."""

    perplexity: Tensor
    distinct: Tensor


# ---- nearest words and K-means


def nearest(vectors: Tensor, codebook: Tensor, most: int = MOST_DISTANCES) -> Tensor:
    """Finds the nearest word (n,) int64 of a codebook (K, C) for vectors (n, C), in float32.

    most: distances that are held at a time, so that memory is bounded for any picture and codebook.
    """
    with torch.autocast(vectors.device.type, enabled=False), torch.no_grad():
        words = codebook.detach().float()
        half = words.square().sum(1) / 2
        rows = max(1, most // len(words))
        # |z - e|^2 / 2 without |z|^2, which decides nothing
        parts = [torch.addmm(half, part.float(), words.T, alpha=-1).argmin(1) for part in vectors.detach().split(rows)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long, device=vectors.device)


def kmeans(
    vectors: Tensor,
    words: int,
    weights: Tensor | None = None,
    *,
    iterations: int = 25,
    seed: int = 0,
    start: Literal["k-means++", "random"] = "k-means++",
    tries: int = 1,
) -> Clusters:
    """Clusters vectors (n, C), n >= words, by Lloyd's algorithm. Depends on the seed only, on one thread of a CPU.

    weights: (n,), not negative, how much each vector counts; None: all the same. start: how the first centroids are
    drawn. tries: the best of so many starts. A cluster that loses its last vector goes on at the one that is worst off.
    ValueError if there are fewer vectors (of a weight above 0) than words.
    """
    vectors = vectors.detach().float()
    weights = torch.ones(len(vectors), device=vectors.device) if weights is None else weights.detach().float()
    if len(weights) != len(vectors) or bool((weights < 0).any()):
        raise ValueError(f"expected {len(vectors)} weights of 0 or more, not {tuple(weights.shape)}")
    counting = int((weights > 0).sum())
    if not 1 <= words <= counting:
        raise ValueError(f"{words} clusters of {counting} vectors: expected at least 1, and as many vectors")
    generator = torch.Generator().manual_seed(seed)  # of the CPU: the same draws on every device
    best: Clusters | None = None
    for _ in range(tries):
        centroids = _first_centroids(vectors, words, weights, start, generator)
        clusters = _lloyd(vectors, centroids, weights, iterations)
        if best is None or float(clusters.error) < float(best.error):
            best = clusters
    assert best is not None
    return best


def refined_clusters(vectors: Tensor, centroids: Tensor, iterations: int) -> Clusters:
    """Goes on with Lloyd's algorithm from centroids (K, C), for vectors (n, C) of any number. Nothing is random."""
    vectors = vectors.detach().float()
    return _lloyd(vectors, centroids.detach().float(), torch.ones(len(vectors), device=vectors.device), iterations)


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws indices (count,) with chances in proportion to weights (n,), one at least not 0; any n."""
    until = weights.double().cumsum(0)
    at = torch.rand(count, generator=generator, dtype=torch.float64).to(until) * until[-1]
    return torch.searchsorted(until, at, right=True).clamp(max=len(weights) - 1)


def _first_centroids(vectors: Tensor, words: int, weights: Tensor, start: str, generator: torch.Generator) -> Tensor:
    """Draws centroids (words, C) among the vectors: each with a chance in proportion to its squared distance so far."""
    counting = weights.nonzero()[:, 0]
    if start == "random":
        return vectors[counting[torch.randperm(len(counting), generator=generator)[:words].to(counting)]]
    least = max(1 << 14, 16 * words)
    if len(counting) > least:  # a sample will do to start from
        counting = counting[torch.randperm(len(counting), generator=generator)[:least].to(counting)]
    pool, chance = vectors[counting], weights[counting]
    squares = pool.square().sum(1)
    chosen = _draw(chance, 1, generator)
    distance = torch.full_like(chance, math.inf)
    centroids = [pool[chosen[0]]]
    for _ in range(words - 1):
        distance = torch.minimum(distance, (squares - 2 * pool @ centroids[-1] + centroids[-1].square().sum()).clamp(0))
        share = chance * distance
        # fewer different vectors than words: the rest are drawn anyhow
        chosen = _draw(share if float(share.sum()) > 0 else chance, 1, generator)
        centroids.append(pool[chosen[0]])
    return torch.stack(centroids)


def _lloyd(vectors: Tensor, centroids: Tensor, weights: Tensor, iterations: int) -> Clusters:
    """Moves centroids to the means of their clusters until no vector changes its cluster."""
    words, total = len(centroids), weights.sum()
    before: Tensor | None = None
    for _ in range(iterations):
        index = nearest(vectors, centroids)
        if before is not None and bool((index == before).all()):
            break
        before = index
        counts = vectors.new_zeros(words).index_add_(0, index, weights)
        sums = torch.zeros_like(centroids).index_add_(0, index, vectors * weights[:, None])
        centroids = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1e-30)[:, None], centroids)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            error = weights * (vectors - centroids[index]).square().sum(1)
            worst = error.topk(min(len(empty), len(error))).indices
            empty = empty[: len(worst)]
            moves = error[worst] > 0  # otherwise there are no more different vectors
            centroids[empty[moves]] = vectors[worst[moves]]
    index = nearest(vectors, centroids)
    error = (weights * (vectors - centroids[index]).square().sum(1)).sum() / total
    return Clusters(centroids, index, error)


def perplexity(counts: Tensor) -> Tensor:
    """Computes exp of the entropy of counts (K,): how many words, used alike, would have it. 0 if all are 0."""
    share = counts.double() / counts.sum().clamp(min=1)
    return torch.exp(torch.special.entr(share).sum()).float() * (counts.sum() > 0)


def usage(counts: Tensor) -> Usage:
    """Measures a codebook's use by how often each word was met, (K,)."""
    return Usage(perplexity(counts), (counts > 0).sum())


# ---- quantisers


def passed_on(z: Tensor, codes: Tensor, gradient: Gradient) -> Tensor:
    """Returns the codewords (..., C) with a gradient with respect to what they stand for, z (..., C).

    straight-through: that of the identity. rotation: that of the rotation and scaling which takes z to its word.
    """
    if gradient == "straight-through":
        return z + (codes - z).detach()
    with torch.no_grad():
        norms = [x.norm(dim=-1, keepdim=True).clamp(min=1e-6) for x in (z, codes)]
        u, v = z / norms[0], codes / norms[1]
        middle = u + v
        middle = middle / middle.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        scale = norms[1] / norms[0]
    reflected = z - 2 * middle * (middle * z).sum(-1, keepdim=True)
    turned = scale * (reflected + 2 * v * (u * z).sum(-1, keepdim=True))
    return turned + (codes - turned).detach()  # the word itself, whatever rounding did


class VectorQuantiser(nn.Module):
    """A codebook of `words` vectors of `width`. Inputs: (B, width, h, w).

    codebook: "average" moves each word to the average of what it stood for, without a gradient; "learned" is a
    parameter with a loss of its own, as in VQGAN. commitment: weight of |z - word|^2 for the encoder. decay: of the
    averages in a batch. restart: a word whose averaged count falls below this share of the mean of all words begins
    anew at a vector of the batch; 0: none does. All that is random is drawn from torch's generator.
    """

    codebook: Tensor
    counts: Tensor  # averaged number of vectors of a batch that each word stood for
    sums: Tensor  # their averaged sum
    started: Tensor
    hits: Tensor  # since `usage` was last asked for

    def __init__(
        self,
        words: int,
        width: int,
        *,
        codebook: Literal["average", "learned"] = "average",
        commitment: float = 0.25,
        decay: float = 0.99,
        restart: float = 0.03,
        gradient: Gradient = "straight-through",
    ) -> None:
        super().__init__()
        self.words, self.width, self.kind = words, width, codebook
        self.commitment, self.decay, self.restart = commitment, decay, restart
        self.gradient: Gradient = gradient
        first = torch.empty(words, width).uniform_(-1 / words, 1 / words)
        if codebook == "learned":
            self.codebook = nn.Parameter(first)
        else:
            self.register_buffer("codebook", first)
        self.register_buffer("counts", torch.ones(words))
        self.register_buffer("sums", first.clone())
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.register_buffer("hits", torch.zeros(words, dtype=torch.long), persistent=False)
        self._ready = False  # what `started` says, without waiting for a device

    @torch.no_grad()
    def fill(self, codebook: Tensor, counts: Tensor | None = None) -> None:
        """Sets the codebook (words, width), and how often each word is used, in vectors of a batch (words,).

        counts: None if that isn't known: the next batch counts all words as used alike.
        """
        self.codebook.copy_(codebook)
        self.counts.copy_(torch.full_like(self.counts, _UNKNOWN) if counts is None else counts)
        self.sums.copy_(self.codebook * self.counts[:, None])
        self.started.fill_(True)
        self._ready = True

    @torch.no_grad()
    def start(self, vectors: Tensor, batch: int = 0, seed: int = 0, iterations: int = 10) -> Clusters:
        """Starts the codebook as K-means of vectors (n, width). If they are fewer than words, noisy copies are added.

        Better many more than words: the first batch alone is little for a large codebook. batch: vectors in a batch;
        0: as many as here.
        """
        vectors = vectors.detach().float()
        batch = batch or len(vectors)
        if len(vectors) < self.words:
            copies = vectors.repeat(-(-self.words // len(vectors)), 1)
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(copies.shape, generator=generator).to(copies)
            vectors = copies + 0.01 * vectors.std(correction=0) * noise
        clusters = kmeans(vectors, self.words, iterations=iterations, seed=seed)
        counts = torch.bincount(clusters.index, minlength=self.words).float()
        self.fill(clusters.centroids, counts * (batch / len(vectors)))
        return clusters

    @property
    def is_started(self) -> bool:
        """Whether the codebook has been filled: by K-means, or from a file."""
        self._ready = self._ready or bool(self.started)
        return self._ready

    def index_of(self, z: Tensor) -> Tensor:
        """Finds the nearest word for each place: (B, width, h, w) to (B, h, w) int64."""
        b, c, h, w = z.shape
        return nearest(z.movedim(1, -1).reshape(-1, c), self.codebook).view(b, h, w)

    def lookup(self, index: Tensor) -> Tensor:
        """Returns the words of indices: (B, h, w) to (B, width, h, w)."""
        return self.codebook[index].movedim(-1, 1)

    def forward(self, z: Tensor) -> Quantised:
        """Quantises (B, width, h, w); in training mode the averages move, too, and an empty codebook starts."""
        with torch.autocast(z.device.type, enabled=False):
            return self._quantise(z.float())

    def _quantise(self, z: Tensor) -> Quantised:
        b, c, h, w = z.shape
        vectors = z.movedim(1, -1).reshape(-1, c)
        # what isn't a number must not get into the codebook: whoever trains sees it in the loss, and can go back
        learns = self.training and bool(torch.isfinite(vectors.detach()).all())
        if learns and not self.is_started:
            self.start(vectors)
        index = nearest(vectors, self.codebook)
        codes = self.codebook[index]
        loss = self.commitment * (vectors - codes.detach()).square().mean()
        if self.kind == "learned":
            loss = loss + (codes - vectors.detach()).square().mean()
        if learns:
            self._move(vectors.detach(), index)
        passed = passed_on(vectors, codes.detach(), self.gradient)
        return Quantised(passed.view(b, h, w, c).movedim(-1, 1), index.view(b, h, w), loss)

    @torch.no_grad()
    def _move(self, vectors: Tensor, index: Tensor) -> None:
        """Takes note of what a batch used, moves the averages, and starts dead words anew."""
        hits, mean = torch.bincount(index, minlength=self.words), len(vectors) / self.words
        self.hits += hits
        unknown = self.counts < 0
        self.counts.copy_(torch.where(unknown, mean, self.counts))
        self.sums.copy_(torch.where(unknown[:, None], self.codebook * mean, self.sums))
        self.counts.lerp_(hits.float(), 1 - self.decay)
        if self.kind == "average":
            self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, index, vectors), 1 - self.decay)
            total = self.counts.sum()
            smooth = (self.counts + SMOOTHING) / (total + self.words * SMOOTHING) * total
            # a word that nothing stands for any more has no mean: it stays
            means = self.sums / smooth.clamp(min=1e-12)[:, None]
            self.codebook.copy_(torch.where(self.counts[:, None] > 1e-3, means, self.codebook))
        if self.restart:
            dead = self.counts < self.restart * mean
            fresh = vectors[torch.randint(len(vectors), (self.words,), device=vectors.device)]
            self.codebook.data.copy_(torch.where(dead[:, None], fresh, self.codebook))
            self.counts.copy_(torch.where(dead, mean, self.counts))  # so that it isn't dead again at once
            self.sums.copy_(torch.where(dead[:, None], fresh * mean, self.sums))

    def usage(self) -> Usage:
        """Measures the use of the codebook by all batches since the last call. One batch alone would say too little."""
        used = usage(self.hits)
        self.hits.zero_()
        return used


class FiniteQuantiser(nn.Module):
    """Finite scalar quantisation: `levels[i]` values in channel i, nothing to learn. Inputs: (B, len(levels), h, w).

    Index: mixed radix, the first channel changes fastest. Even numbers of levels are shifted by half a level.
    """

    bound: Tensor
    offset: Tensor
    shift: Tensor
    radix: Tensor
    sizes: Tensor
    hits: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        """Raises ValueError unless all levels are 2 or more."""
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"levels is {levels!r:.80}; expected whole numbers of 2 or more")
        self.levels, self.width, self.words = tuple(levels), len(levels), math.prod(levels)
        sizes = torch.tensor(self.levels)
        bound = (sizes - 1) * (1 + 1e-3) / 2
        offset = torch.where(sizes % 2 == 0, 0.5, 0.0)
        self.register_buffer("sizes", sizes, persistent=False)
        self.register_buffer("bound", bound, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("shift", torch.atanh(offset / bound), persistent=False)
        radix = torch.cat([torch.ones(1, dtype=torch.long), sizes.cumprod(0)[:-1]])
        self.register_buffer("radix", radix, persistent=False)
        self.register_buffer("hits", torch.zeros(self.words, dtype=torch.long), persistent=False)

    def forward(self, z: Tensor) -> Quantised:
        """Bounds and rounds (B, C, h, w): codes in [-1, 1], straight through. There is no loss."""
        with torch.autocast(z.device.type, enabled=False):
            x = z.movedim(1, -1).float()
            bounded = torch.tanh(x + self.shift) * self.bound - self.offset
            whole = bounded.detach().round()
            rounded = bounded + (whole - bounded.detach())
        index = ((whole.long() + self.sizes // 2) * self.radix).sum(-1)
        if self.training:
            self.hits += torch.bincount(index.flatten(), minlength=self.words)
        return Quantised((rounded / (self.sizes // 2)).movedim(-1, 1), index, z.new_zeros(()))

    def index_of(self, z: Tensor) -> Tensor:
        """Returns the index of each place: (B, C, h, w) to (B, h, w) int64."""
        return self(z).index

    def lookup(self, index: Tensor) -> Tensor:
        """Returns the codes of indices: (B, h, w) to (B, C, h, w) in [-1, 1]."""
        digits = index[..., None] // self.radix % self.sizes
        return ((digits - self.sizes // 2) / (self.sizes // 2)).float().movedim(-1, 1)

    def usage(self) -> Usage:
        """Measures the use of the words by all batches since the last call."""
        used = usage(self.hits)
        self.hits.zero_()
        return used
