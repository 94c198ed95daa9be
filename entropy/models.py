"""Differentiable densities over integers: the rate term of training, frozen into `Tables` for coding.

FactorizedPrior: Ballé, Minnen, Singh, Hwang, Johnston, "Variational image compression with a scale hyperprior",
    ICLR 2018, arXiv 1802.01436, appendix 6.1.
GaussianConditional, LaplaceConditional: the same paper, section 3; means as in Minnen, Ballé, Toderici, NeurIPS 2018,
    arXiv 1809.02736.
DiscretizedLogisticMixture: Salimans, Karpathy, Chen, Kingma, "PixelCNN++", ICLR 2017, arXiv 1701.05517, section 2.1,
    without the edge bins.

Everywhere the probability of a value x is the density's mass on [x - 1/2, x + 1/2], and `bits` is -log2 of it. It is
computed so that float32 neither loses it nor its gradient, however far x is from the mass; hence there is no lower
bound on likelihoods. Far outliers take fewer bytes than `bits` says: an escape takes about 17 + 2 log2(distance) bits.

Encoders and decoders never use these modules: floats differ between machines. They use `to_tables()`, saved with the
weights, and rows that exact arithmetic chose (`entropy/exact.py`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .tables import MAX_COLUMNS, MAX_PROBABILITY, Tables

_LOG2E = math.log2(math.e)
# A column for every symbol at least this probable. Below it a count of 2**-16 costs more than the escapes it saves.
_WORTH_A_COLUMN = 2.0**-18
_MAX_RANGE = 1 << 20  # symbols are searched for between -2**20 and 2**20
_LOG_SCALE_FLOOR, _LOG_SCALE_CEILING = math.log(0.02), 60.0


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        (grad,) = grads
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound). The gradient passes where it moves x up, so that nothing gets stuck below the bound."""
    return _LowerBound.apply(x, bound)  # type: ignore[return-value]


def add_noise(x: Tensor) -> Tensor:
    """x + U(-1/2, 1/2): stands for rounding, as far as the rate is concerned."""
    return x + torch.empty_like(x).uniform_(-0.5, 0.5)


def round_ste(x: Tensor, mean: Tensor | None = None) -> Tensor:
    """x rounded to integers about the mean (ties to even), with a straight-through gradient: that of the identity."""
    shift = torch.zeros_like(x) if mean is None else mean
    return x + ((x - shift).round() + shift - x).detach()


def _full(x: Tensor) -> Tensor:
    """x in float32 if it is in half precision, which has no room for bins of width 1."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _item_bits(bits: Tensor) -> Tensor:
    """The sum over all axes but the first: (B, ...) to (B,)."""
    return bits.flatten(1).sum(1)


def _tables(
    pmf: list[NDArray[np.float64]], offset: NDArray[np.int64], max_probability: float = MAX_PROBABILITY
) -> Tables:
    """Tables of probabilities over generous ranges, cut to the columns that are worth one."""
    kept, first = [], []
    for row, start in zip(pmf, offset.tolist(), strict=True):
        worth = np.flatnonzero(row >= min(_WORTH_A_COLUMN, row.max()))
        low, high = int(worth[0]), int(worth[-1]) + 1
        if high - low >= MAX_COLUMNS:
            low = max(0, min(int(row.argmax()) - MAX_COLUMNS // 2, len(row) - MAX_COLUMNS + 1))
            high = low + MAX_COLUMNS - 1
        kept.append(row[low:high])
        first.append(start + low)
    return Tables.from_pmf(kept, np.array(first), max_probability)


def _centred_tables(log_pmf: list[Tensor], max_probability: float) -> Tables:
    """Tables of rows over the symbols -h, ..., h. log_pmf: natural logarithms, float64."""
    pmf = [row.exp().numpy() for row in log_pmf]
    offset = np.array([-(len(p) // 2) for p in pmf])
    return _tables([p / max(1.0, p.sum()) for p in pmf], offset, max_probability)


class FactorizedPrior(nn.Module):
    """One learned density per channel: sigmoid of a small monotone network is its cumulative distribution.

    c(x) = sigmoid(f_K(... f_1(x))), f_k(x) = g_k(softplus(H_k) x + b_k), g_k(x) = x + tanh(a_k) tanh(x), none for f_K.
    """

    def __init__(self, channels: int, filters: tuple[int, ...] = (3, 3, 3, 3), init_scale: float = 10.0) -> None:
        """Makes an untrained prior. filters: widths of hidden layers. init_scale: spread of values at first."""
        super().__init__()
        self.channels = channels
        widths = (1, *filters, 1)
        scale = init_scale ** (1 / (len(filters) + 1))
        self.matrices, self.biases, self.factors = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for inner, outer in pairwise(widths):
            start = math.log(math.expm1(1 / scale / outer))
            self.matrices.append(nn.Parameter(torch.full((channels, outer, inner), start)))
            self.biases.append(nn.Parameter(torch.empty(channels, outer, 1).uniform_(-0.5, 0.5)))
        for width in filters:
            self.factors.append(nn.Parameter(torch.zeros(channels, width, 1)))

    def cumulative_logits(self, x: Tensor) -> Tensor:
        """The logits of P(X <= x), in x's precision. x: (C, 1, n). Returns the same shape."""
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            x = F.softplus(matrix.to(x.dtype)) @ x + bias.to(x.dtype)
            if i < len(self.factors):
                x = x + torch.tanh(self.factors[i].to(x.dtype)) * torch.tanh(x)
        return x

    def _log_mass(self, x: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        low, high = self.cumulative_logits((x - 0.5) * unit), self.cumulative_logits((x + 0.5) * unit)
        return _log_sigmoid_difference(low, high)

    def _by_channel(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1).reshape(self.channels, 1, -1)

    def bits(self, z: Tensor, unit: Tensor | None = None) -> Tensor:
        """The cost of each value in bits. z: (B, C, ...). Returns the same shape.

        unit: what a value of 1 stands for on the density's axis, broadcast against z; None: 1. Values that were
        divided by a unit before rounding have one density, whatever the unit.
        """
        z = _full(z)
        units = 1.0 if unit is None else self._by_channel(_full(unit).expand_as(z))
        with torch.autocast(z.device.type, enabled=False):
            bits = self._log_mass(self._by_channel(z), units) * -_LOG2E
        return bits.reshape(self.channels, z.shape[0], *z.shape[2:]).transpose(0, 1)

    def likelihood(self, z: Tensor) -> Tensor:
        """The probability of each value. z: (B, C, ...). Returns the same shape."""
        return torch.exp2(-self.bits(z))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Quantises z (B, C, ...). Returns z with noise (training) or rounded (eval), and bits per item, (B,)."""
        z_hat = add_noise(z) if self.training else z.round()
        return z_hat, _item_bits(self.bits(z_hat))

    @torch.no_grad()
    def to_tables(self, unit: Tensor | None = None) -> Tables:
        """Frozen tables with one row per channel; symbols are z.round(). unit: (C,), as for `bits`."""
        limit, device = math.log(_WORTH_A_COLUMN / 4), self.biases[0].device
        units = 1.0 if unit is None else unit.to(device, torch.float64)[:, None, None]

        def first_above(logit: float) -> Tensor:
            """Smallest integer of each channel with that cumulative logit or more: bisection."""
            low = torch.full((self.channels, 1, 1), -_MAX_RANGE, dtype=torch.float64, device=device)
            high = -low
            while (high - low).max() > 1:
                middle = ((low + high) / 2).floor()
                above = self.cumulative_logits(middle * units) >= logit
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            return high.flatten()

        middle = first_above(0.0)
        start = torch.maximum(first_above(limit), middle - MAX_COLUMNS // 2)
        stop = torch.minimum(first_above(-limit), middle + MAX_COLUMNS // 2)
        x = start[:, None, None] + torch.arange(int((stop - start).max()) + 1, dtype=torch.float64, device=device)
        pmf = self._log_mass(x, units).exp()[:, 0].cpu().numpy()
        return _tables(list(pmf), start.long().cpu().numpy())


class _ScaleConditional(nn.Module, ABC):
    """A symmetric density with a mean and a scale per value; scales are levels on a logarithmic grid.

    A codec codes round(y - mean) with row = level, so networks best predict the level: `scale(level)` is
    differentiable, and rounding the level is all that export changes. Which row a value gets must be computed exactly.
    """

    def __init__(self, levels: int = 64, low: float = 0.11, high: float = 256.0) -> None:
        super().__init__()
        self.levels, self.low, self.high = levels, low, high

    @property
    def _step(self) -> float:
        return math.log(self.high / self.low) / (self.levels - 1)

    def scale(self, level: Tensor) -> Tensor:
        """The scale of a level: low * (high / low) ** (level / (levels - 1)), level 0 the smallest. Not clipped."""
        return self.low * torch.exp(self._step * level)

    def level(self, scale: Tensor) -> Tensor:
        """The level of a scale, the reverse of `scale`: round it and clip it to 0, ..., levels - 1 for a row."""
        return torch.log(scale / self.low) / self._step

    @abstractmethod
    def _log_mass(self, distance: Tensor, scale: Tensor) -> Tensor:
        """The natural logarithm of the mass within 1/2 of a point at that distance (>= 0) from the mean."""

    @abstractmethod
    def _reach(self, scale: float) -> int:
        """The distance from 0 beyond which symbols are rarer than any that gets a column."""

    def bits(self, y: Tensor, scale: Tensor, mean: Tensor | None = None) -> Tensor:
        """The cost of each value in bits; shapes broadcast. Scales below `low` count as `low`."""
        distance = (_full(y) if mean is None else _full(y) - _full(mean)).abs()
        return self._log_mass(distance, lower_bound(_full(scale), self.low)) * -_LOG2E

    def likelihood(self, y: Tensor, scale: Tensor, mean: Tensor | None = None) -> Tensor:
        """The probability of each value."""
        return torch.exp2(-self.bits(y, scale, mean))

    def forward(self, y: Tensor, scale: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Quantises y (B, ...): noise (training) or rounding about the mean (eval). Returns that, and bits (B,)."""
        y_hat = add_noise(y) if self.training else round_ste(y, mean)
        return y_hat, _item_bits(self.bits(y_hat, scale, mean))

    @torch.no_grad()
    def to_tables(self, max_probability: float = MAX_PROBABILITY) -> Tables:
        """Frozen tables with one row per level; symbols are round(y - mean). max_probability: see `Tables.from_pmf`."""
        log_pmf = []
        for scale in self.scale(torch.arange(self.levels, dtype=torch.float64)):
            distance = torch.arange(self._reach(float(scale)) + 1, dtype=torch.float64)
            half = self._log_mass(distance, scale)
            log_pmf.append(torch.cat([half.flip(0)[:-1], half]))
        return _centred_tables(log_pmf, max_probability)


class GaussianConditional(_ScaleConditional):
    """A normal density; scale is its standard deviation.

    A bin more than 6 scales from the mean has a mass below 1e-9; its logarithm goes on along the tangent there: bits
    grow linearly, so that one outlier can't dominate a step of training.
    """

    def _log_mass(self, distance: Tensor, scale: Tensor) -> Tensor:
        edge = 0.5 + 6.0 * scale
        inside = torch.minimum(distance, edge)
        factor = -math.sqrt(0.5) / scale  # cdf(x) = erfc(-x / sqrt(2)) / 2; both bin edges in the lower tail
        mass = 0.5 * (torch.erfc((0.5 - inside) * factor) - torch.erfc((-0.5 - inside) * factor))
        return torch.log(mass) - 6.0 * (distance - inside) / scale

    def _reach(self, scale: float) -> int:
        return math.ceil(6 * scale + 1)


class LaplaceConditional(_ScaleConditional):
    """A Laplace density, exp(-|x - mean| / scale) / (2 scale); its standard deviation is sqrt(2) times the scale."""

    def _log_mass(self, distance: Tensor, scale: Tensor) -> Tensor:
        inside = distance.clamp(max=0.5)  # beyond, the mass falls exactly as exp(-distance / scale)
        mass = -0.5 * (torch.expm1((inside - 0.5) / scale) + torch.expm1((-inside - 0.5) / scale))
        return torch.log(mass) - (distance - inside) / scale

    def _reach(self, scale: float) -> int:
        return math.ceil(15 * scale + 1)


def _log_sigmoid_difference(low: Tensor, high: Tensor) -> Tensor:
    """log(sigmoid(high) - sigmoid(low)) for low < high.

    The difference is sigmoid(high) sigmoid(-low) (1 - exp(low - high)): three factors that never cancel.
    """
    gap = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    return F.logsigmoid(high) + F.logsigmoid(-low) + torch.log(-torch.expm1(-gap))


def logistic_mixture_bits(x: Tensor, logits: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """The cost in bits of values under sum_m softmax(logits)_m Logistic(mean_m, exp(log_scale_m)), bins of width 1.

    x: (...).   logits, mean, log_scale: (..., M), broadcast against x.   Returns (...).
    Finite, with finite gradients. Scales below 0.02, where one bin holds all there is, count as 0.02.
    """
    x, logits, mean, log_scale = (_full(v) for v in (x, logits, mean, log_scale))
    precision = torch.exp(-lower_bound(log_scale, _LOG_SCALE_FLOOR).clamp(max=_LOG_SCALE_CEILING))
    centre = (x.unsqueeze(-1) - mean) * precision
    half = 0.5 * precision
    # sigmoid(c + h) - sigmoid(c - h), with the gap 2 h taken directly: c + h and c - h may round to the same float
    log_mass = F.logsigmoid(centre + half) + F.logsigmoid(half - centre) + torch.log(-torch.expm1(-precision))
    return torch.logsumexp(F.log_softmax(logits, -1) + log_mass, -1) * -_LOG2E


class DiscretizedLogisticMixture(nn.Module):
    """Learned mixtures of logistic densities, one per row: per channel, per context, or per both.

    For mixtures that a network predicts for every value, see `logistic_mixture_bits`.
    """

    def __init__(self, rows: int, mixtures: int = 3, init_scale: float = 4.0) -> None:
        super().__init__()
        spread = torch.linspace(-1, 1, mixtures) if mixtures > 1 else torch.zeros(1)
        self.logits = nn.Parameter(torch.zeros(rows, mixtures))
        self.mean = nn.Parameter(init_scale * spread.repeat(rows, 1))
        self.log_scale = nn.Parameter(torch.full((rows, mixtures), math.log(init_scale)))

    def bits(self, x: Tensor, row: Tensor) -> Tensor:
        """The cost in bits of each value. row: integers that broadcast against x, as arange(C)[:, None, None] does."""
        row = row.expand(x.shape)
        return logistic_mixture_bits(x, *(F.embedding(row, p) for p in (self.logits, self.mean, self.log_scale)))

    def likelihood(self, x: Tensor, row: Tensor) -> Tensor:
        """The probability of each value."""
        return torch.exp2(-self.bits(x, row))

    def forward(self, x: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Quantises x (B, ...). Returns x with noise (training) or rounded (eval), and bits per item, (B,)."""
        x_hat = add_noise(x) if self.training else x.round()
        return x_hat, _item_bits(self.bits(x_hat, row))

    @torch.no_grad()
    def to_tables(self) -> Tables:
        """Frozen tables with one row per mixture; symbols are x.round()."""
        logits, mean, log_scale = (p.double().cpu() for p in (self.logits, self.mean, self.log_scale))
        scale = log_scale.clamp(min=_LOG_SCALE_FLOOR).exp()
        reach = (15 * scale + 1).clamp(max=MAX_COLUMNS)  # exp(-15) < 2**-21
        start = (mean - reach).amin(1).floor().clamp(-_MAX_RANGE, _MAX_RANGE)
        stop = (mean + reach).amax(1).ceil().clamp(-_MAX_RANGE, _MAX_RANGE)
        pmf = []
        for row, (low, high) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
            x = torch.arange(low, high + 1, dtype=torch.float64)
            pmf.append(torch.exp2(-logistic_mixture_bits(x, logits[row], mean[row], log_scale[row])).numpy())
        return _tables(pmf, start.long().numpy())
