"""Causal context model for a grid of integer latents, computed exactly, in a handful of parallel steps.

Channels are coded group after group, and inside a group position after position class ("levels" of a 4x4 lattice):
what is decoded already, in this group and the earlier ones, predicts mean and scale of what comes next. Two-pass
checkerboards are from He et al., "Checkerboard Context Model", CVPR 2021 (arXiv 2103.15306), channel groups from
Minnen and Singh, ICIP 2020 (arXiv 2007.08739). Differs: the smooth (low-pass) group is refined over five lattice
levels instead of two, so that 15 of 16 of its values have close neighbours to be predicted from; no hyper-latents at
all; fixed-point networks throughout (`entropy.exact`).
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...entropy.exact import ExactConv2d, FixedPoint, round_half_up
from .lattice_steps import (
    LEVELS,
    LOG2_SCALE_MAX,
    LOG2_SCALE_MIN,
    MEAN_BITS,
    SCALES,
    STEPS_PER_OCTAVE,
    LatticeStep,
    schedule,
)


def level_map(height: int, width: int) -> Tensor:
    """The lattice level of each position, (H, W) int64: 0 (every 4th row and column) to 4 (odd squares of a board)."""
    tile = torch.tensor([[0, 4, 2, 4], [4, 3, 4, 3], [2, 4, 1, 4], [4, 3, 4, 3]])
    return tile.repeat(-(-height // 4), -(-width // 4))[:height, :width]


@lru_cache(maxsize=2)
def _level_indices(height: int, width: int) -> tuple[Tensor, ...]:
    flat = level_map(height, width).flatten()
    return tuple(torch.nonzero(flat == level).flatten() for level in range(LEVELS))


class StepNet(nn.Module):
    """The predictor of one step: mean and scale of its latents from decoded ones, linearly plus by a small network."""

    def __init__(self, in_channels: int, out_channels: int, width: int, kernel: int, symbol_bits: int) -> None:
        super().__init__()
        f32 = torch.float32
        self.out_channels = out_channels
        self.input = FixedPoint(symbol_bits, signed=True, exponent=0)
        self.first = ExactConv2d(in_channels, width + out_channels, kernel, self.input, 14, f32)
        self.act1 = FixedPoint(10, signed=False)
        self.second = ExactConv2d(width, width, 1, self.act1, 12, f32)
        self.act2 = FixedPoint(10, signed=False)
        self.third = ExactConv2d(width, 2 * out_channels, 1, self.act2, 12, f32)
        nn.init.zeros_(self.third.conv.weight)
        assert self.third.conv.bias is not None and self.first.conv.bias is not None
        nn.init.zeros_(self.third.conv.bias)
        with torch.no_grad():
            self.first.conv.weight[width:].zero_()
            self.first.conv.bias[width:].zero_()

    def forward(self, x: Tensor, stride: int = 1, offset: int = 0) -> tuple[Tensor, Tensor]:
        """The mean and log2 scale, (B, out_channels, H, W) each, of symbols x (B, in_channels, H, W).

        stride, offset: only the rows and columns offset + n stride are computed.
        """
        y = self.first(self.input(x), stride, offset)
        hidden, linear = y[:, : -self.out_channels], y[:, -self.out_channels :]
        hidden = self.act2(self.second(self.act1(hidden)))
        shift, log_scale = self.third(hidden).chunk(2, 1)
        return linear + shift, log_scale


class LatticeContext(nn.Module):
    """The context model of latents (B, C, H, W): see the module's docstring.

    groups: sizes of the channel groups, in coding order, summing to C. The side plane tells the networks the
    quantiser gain (and, by its zero padding, where the border is).
    """

    def __init__(self, groups: tuple[int, ...], width: int, symbol_bits: int) -> None:
        super().__init__()
        self.groups = groups
        self.steps = schedule(groups)
        self.largest = 2 ** (symbol_bits - 1) - 1
        # Channels after the step's own are not decoded yet; they are not shown to its network.
        self.nets = nn.ModuleList(
            StepNet(
                1 + (step.stop if min(step.levels) > 0 else step.start),
                step.stop - step.start,
                width,
                5 if step.start == 0 else 3,
                symbol_bits,
            )
            for step in self.steps
        )

    def _inputs(self, index: int, latents: Tensor, side: Tensor, levels: Tensor) -> Tensor:
        """The input of a step's network: earlier groups whole, its own group at earlier levels, the side plane."""
        step = self.steps[index]
        parts = [side, latents[:, : step.start]]
        if min(step.levels) > 0:
            parts.append(latents[:, step.start : step.stop] * (levels < min(step.levels)))
        return torch.cat(parts, 1)

    def parameters_of(self, index: int, latents: Tensor, side: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and log2 scale of a step at all positions, (B, C_step, H, W) each, as in training."""
        return self.nets[index](self._inputs(index, latents, side, levels))

    def bits(self, latents: Tensor, side: Tensor) -> Tensor:
        """The differentiable bits of each sample, (B,), under a logistic density integrated over unit bins.

        latents: (B, C, H, W), companded values with noise or rounding; side: (B, 1, H, W).
        """
        levels = level_map(*latents.shape[-2:]).to(latents.device)
        total = latents.new_zeros(latents.shape[0])
        for index, step in enumerate(self.steps):
            mean, log_scale = self.parameters_of(index, latents, side, levels)
            log_scale = log_scale.clamp(LOG2_SCALE_MIN, LOG2_SCALE_MAX)
            where = (levels >= min(step.levels)) & (levels <= max(step.levels))
            values = latents[:, step.start : step.stop][:, :, where]
            cost = logistic_bits(values - mean[:, :, where], torch.exp2(log_scale[:, :, where]))
            total = total + cost.sum((1, 2))
        return total

    @torch.no_grad()
    def rows(self, index: int, latents: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """The table rows and integer means of a step, (C_step, positions) int32 each; encoder and decoder call this.

        Networks are frozen, B is 1.
        """
        height, width = latents.shape[-2:]
        step = self.steps[index]
        where = step_positions(step, height, width)
        if not len(where):
            nothing = torch.zeros(step.stop - step.start, 0, dtype=torch.int32, device=latents.device)
            return nothing, nothing
        # The levels up to 3 lie on a quarter of the grid each: only that quarter is computed.
        stride, offset = (2, 0) if max(step.levels) < 3 else (2, 1) if step.levels == (3,) else (1, 0)
        inputs = self._inputs(index, latents, side, _device_levels(height, width, latents.device))
        mean, log_scale = self.nets[index](inputs, stride, offset)
        if stride > 1:
            row, column = (where // width - offset) // 2, (where % width - offset) // 2
            where = row * mean.shape[-1] + column
        where = where.to(latents.device)
        mean = mean[0].flatten(1).index_select(1, where)
        log_scale = log_scale[0].flatten(1).index_select(1, where)
        return table_rows(mean, log_scale, self.largest)


@lru_cache(maxsize=2)
def _device_levels(height: int, width: int, device: torch.device) -> Tensor:
    return level_map(height, width).to(device)


@lru_cache(maxsize=14)
def _positions(levels: tuple[int, ...], height: int, width: int) -> Tensor:
    per_level = _level_indices(height, width)
    return torch.sort(torch.cat([per_level[level] for level in levels])).values


def step_positions(step: LatticeStep, height: int, width: int) -> Tensor:
    """The flat indices of a step's positions, in raster order."""
    return _positions(step.levels, height, width)


def logistic_bits(x: Tensor, scale: Tensor) -> Tensor:
    """The bits of x under a logistic density of this scale: -log2 of its mass in [x - 1/2, x + 1/2].

    Stable in float32 for any x.
    """
    # mass = sinh(1/2s) / (cosh(x/s) + cosh(1/2s)): symmetric, no cancellation; in logs so that nothing overflows.
    half = 0.5 / scale
    far = x.abs() / scale
    log_sinh = half + torch.log(-torch.expm1(-2 * half)) - 0.6931471805599453
    log_cosh = torch.logaddexp(torch.logaddexp(far, -far), torch.logaddexp(half, -half)) - 0.6931471805599453
    return (log_cosh - log_sinh) * 1.4426950408889634


def scale_values() -> Tensor:
    """The logistic scales, (64,) float64, log-spaced."""
    return torch.exp2(LOG2_SCALE_MIN + torch.arange(SCALES, dtype=torch.float64) / STEPS_PER_OCTAVE)


def mean_shifts() -> Tensor:
    """The fractional bits of the mean, of 3, that each scale drops, (64,): a wide density does not need them."""
    scales = scale_values()
    return (scales > 0.5).int() + (scales > 1.0).int() + (scales > 2.0).int()


def row_offsets() -> Tensor:
    """The first table row of each scale, (65,): it has 2**(3 - shift) rows, one for each remaining fraction."""
    counts = 2 ** (MEAN_BITS - mean_shifts())
    return F.pad(torch.cumsum(counts, 0), (1, 0)).int()


def row_parameters() -> tuple[Tensor, Tensor]:
    """The logistic mean in [-1/2, 1/2) and the scale of every table row, (rows,) float64 each."""
    means, scales = [], []
    for shift, scale in zip(mean_shifts().tolist(), scale_values().tolist(), strict=True):
        count = 2 ** (MEAN_BITS - shift)
        means += [k / count - 0.5 for k in range(count)] if count > 1 else [0.0]
        scales += [scale] * count
    return torch.tensor(means, dtype=torch.float64), torch.tensor(scales, dtype=torch.float64)


@lru_cache(maxsize=1)
def _row_constants() -> tuple[Tensor, Tensor]:
    return mean_shifts(), row_offsets()


def table_rows(mean: Tensor, log_scale: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """The table row and the centre, int32, of means and log2 scales on fixed-point grids.

    The coded symbol is latent - centre.
    """
    shifts, offsets = _row_constants()
    # Single correctly rounded operations on exact inputs: the same on every machine.
    index = round_half_up((log_scale - LOG2_SCALE_MIN) * STEPS_PER_OCTAVE).clamp_(0, SCALES - 1).long()
    shift = shifts.to(mean.device)[index]
    count = (2**MEAN_BITS) >> shift
    # mean in units of 1/count step; centre is the integer such that mean - centre lies in [-1/2, 1/2)
    units = round_half_up(mean.clamp(-largest, largest) * count).int()
    centre = torch.div(units + (count >> 1), count, rounding_mode="floor")
    fraction = units - centre * count + (count >> 1)
    row = offsets.to(mean.device)[index] + fraction
    return row.int(), centre.int()
