"""The networks of S2LIC that say how latents are coded: hyper synthesis and slices in integers, without torch.

Wang, Fu, Cao, Wang, Chen, Liang: "S2LIC: Learned Image Compression with the SwinV2 Block, Adaptive Channel-wise and
Global-inter Attention Context", arXiv 2403.14471. The networks, and where they differ from the paper: network.py, whose
`HyperSynthesis`, `Slice` and `S2licNet.predict` this is, number for number, on the kernels of native/wide.py.

Latents are integers here, in units of 1/16. Features and contexts are kept once, on a grid finer than those of the
layers that look at them (`Fine`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.grids import Grid, Rows, round_half_up
from ...native.wide import CellNetwork, Fine, Wide, cells_of, finest, put_latents, shift_latents
from ..layers.frozen import FrozenState
from ..layers.quality_knots import knot_vector
from ..layers.transform_settings import LEAK
from .config import LEVEL_UNIT, LEVELS, MEAN_BITS, S2licConfig

__all__ = ["Prediction", "Take"]

# (mean, row, channels, cells) -> symbols: see `Prediction.predict`
Take = Callable[[NDArray[np.int16], NDArray[np.uint8], slice, NDArray[np.int64]], NDArray[Any]]

_BITS = 16  # of the inputs of all these layers
_MANY = 1 << 16  # cells from which on memory counts more than a tenth of the time
_BAND = 16  # rows of features that are in memory before they are packed
_LARGEST = 1 << 24  # magnitude of a symbol: far more than any that the codec lets through


class Prediction:
    """The networks between the bits and the latents y_hat of the configuration `small`.

    ValueError where their integers leave what kernels can hold; WeightsError for what isn't in the file.
    """

    def __init__(self, state: FrozenState, config: S2licConfig) -> None:
        self.config = config
        hyper = [_layer(state, f"hyper_synthesis.{name}", name != "first") for name in ("first", "second", "third")]
        self.first, self.second, self.third = hyper
        starts = [sum(config.slices[:i]) for i in range(len(config.slices))]
        self.slices = [
            _Slice(state, f"slices.{i}", config, start, size)
            for i, (start, size) in enumerate(zip(starts, config.slices, strict=True))
        ]
        grids = [network.first.grid for part in self.slices for network in part.networks]
        self.exponent = finest(grids)  # of the features
        self._base = state.floats("base.values")
        self._z = state.floats("z_mean.values"), state.floats("z_level.values")

    def z_parameters(self, step: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """The mean and the table row of each channel of z, (N,), at a quality step."""
        mean = round_half_up(knot_vector(self._z[0], step) * 2**MEAN_BITS) * 2.0**-MEAN_BITS
        level = round_half_up(knot_vector(self._z[1], step, LEVEL_UNIT))
        return mean, np.clip(level, 0, LEVELS - 1).astype(np.uint8)

    def predict(self, z_hat: NDArray[np.float64], height: int, width: int, step: int, take: Take) -> NDArray[Any]:
        """The decoded latents y_hat in units of 1/16, (height, width, M), slice after slice; both sides call this.

        They are int16, or int32 if they don't fit. z_hat: (N, ceil(height / 4), ceil(width / 4)). take(mean, row,
        channels, cells): called pass after pass with means in units of 1/16 and table rows, (channels, n) each, and the
        flat indices of the n cells; gives the symbols, (channels, n) int32, of which y_hat before refinement is
        symbol + mean. The encoder makes them of its latents, the decoder reads them.
        """
        features = self._features(z_hat, height, width)
        base = knot_vector(self._base, step, LEVEL_UNIT)
        passes = (1, 0) if self.config.passes == 2 else (-1,)
        cells = [cells_of(height, width, parity) for parity in passes]
        y = np.zeros((height, width, self.config.latent), np.int16)
        for part in self.slices:
            channels = slice(part.start, part.start + part.size)
            fine = part.contexts(features, y)
            for parity, some in zip(passes, cells, strict=True):
                if not len(some):  # a single cell has no anchors
                    continue
                mean, row = part.density(fine or part.contexts(features, y), y, parity, base[channels])
                if height * width >= _MANY:
                    fine = []  # hundreds of megabytes of a large picture, next to those that decoding takes
                symbols = _checked(take(mean, row, channels, some), mean)
                if not _put(symbols, mean, y, part.start, parity):
                    y = y.astype(np.int32)
                    _put(symbols, mean, y, part.start, parity)
                del mean, row, symbols
            if part.refine is not None:
                shifts = part.shifts(fine or part.contexts(features, y), y)
                if not shift_latents(shifts, y, part.start):
                    y = y.astype(np.int32)
                    shift_latents(shifts, y, part.start)
        return y

    def _features(self, z_hat: NDArray[np.float64], height: int, width: int) -> Fine:
        """The features of all cells, (height, width, F)."""
        channels, high, wide = z_hat.shape
        assert channels == self.config.hyper and high == -(-height // 4) and wide == -(-width // 4)
        z = np.ascontiguousarray(self.first.grid.integers(z_hat).transpose(1, 2, 0), np.int32)
        small = Rows(z, 0, high)
        for layer, behind in ((self.first, self.second), (self.second, self.third)):
            high, wide = 2 * high, 2 * wide
            large = Rows.empty(high, wide, channels, np.int32)
            layer.rows(small, 0, small.height, out=large, grid=behind.grid, shuffle=2)
            small = large
        seen = min(len(small.array), height + self.third.size // 2)
        small = Rows(small.array[:seen], 0, small.height)
        return _fine(self.third, small, height, width, self.exponent)


def _fine(layer: Wide, x: Rows, height: int, width: int, exponent: int) -> Fine:
    """The output of a layer, (height, width, channels), on a finer grid; of a large picture in three bytes a number."""

    def numbers(top: int, bottom: int) -> NDArray[np.int32]:
        out = Rows(np.empty((bottom - top, width, layer.outputs), np.int32), top, x.height)
        layer.rows(x, top, bottom, out=out, out_exponent=exponent + 1, floor=True, limit=Fine.LIMIT)
        return out.array

    if height * width < _MANY:
        return Fine(numbers(0, height), exponent)
    fine = Fine.packed((height, width, layer.outputs), exponent)
    for top in range(0, height, _BAND):
        fine.put(top, numbers(top, min(height, top + _BAND)))
    return fine


class _Slice:
    """The context model of one slice: see `Slice` in network.py."""

    def __init__(self, state: FrozenState, name: str, config: S2licConfig, start: int, size: int) -> None:
        self.start, self.size = start, size
        self.channels = _layer(state, f"{name}.channels", False, MEAN_BITS) if start else None
        parts = (config.features, config.context) if start else (config.features,)
        self.passes = [CellNetwork(_layer(state, f"{name}.first1", True), _layer(state, f"{name}.first2", True), parts)]
        if config.passes == 2:
            anchor = None
            if config.anchor_context == "masked_conv":
                anchor = _layer(state, f"{name}.anchor", False, MEAN_BITS, odd=True)
            layers = [_layer(state, f"{name}.{second}", True) for second in ("second1", "second2")]
            self.passes.append(CellNetwork(layers[0], layers[1], parts, anchor))
        self.refine: CellNetwork | None = None
        if config.refine:
            inner = _layer(state, f"{name}.refine1", False, MEAN_BITS)
            # what is convolved comes last here, and first in the file
            last = _layer(state, f"{name}.refine2", True, first=inner.outputs)
            self.refine = CellNetwork(last, _layer(state, f"{name}.refine3", True), parts, inner)
        self.grid, self.refine_grid = (_latent_grid(state, f"{name}.{grid}") for grid in ("grid", "refine_grid"))
        self.exponent = finest([network.first.grid for network in self.networks])  # of the channel-wise context
        expected = [*(network.second.outputs == 2 * size for network in self.passes)]
        expected += [self.refine is None or self.refine.second.outputs == size]
        if not all(expected):
            raise ValueError(f"{name} doesn't have the outputs that a slice of {size} channels needs")

    @property
    def networks(self) -> list[CellNetwork]:
        return [*self.passes, *([] if self.refine is None else [self.refine])]

    def contexts(self, features: Fine, y: NDArray[Any]) -> list[Fine]:
        """The features, and a convolution of the slices that are known."""
        if self.channels is None:
            return [features]
        height, width = y.shape[:2]
        known = Rows(y[..., : self.start], 0, height)
        return [features, _fine(self.channels, known, height, width, self.exponent)]

    def density(
        self, contexts: list[Fine], y: NDArray[Any], parity: int, base: NDArray[np.float64]
    ) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """The means, in units of 1/16, and table rows of a pass over the cells of a parity, (size, n) each."""
        network = self.passes[-1 if parity == 0 else 0]
        return network.density(contexts, y, self.start, parity, self.grid, base, LEVEL_UNIT, LEVELS)

    def shifts(self, contexts: list[Fine], y: NDArray[Any]) -> NDArray[np.int8]:
        """The estimate of what rounding lost, at most half a step, in units of 1/16: (h, w, size)."""
        assert self.refine is not None
        return self.refine.shifts(contexts, y, self.start, self.refine_grid, 0.5)


def _layer(
    state: FrozenState, name: str, relu: bool, exponent: int | None = None, odd: bool = False, first: int = 0
) -> Wide:
    """A layer and the grid of its input, which is a leaky one with relu.

    exponent: that of latents, which are integers already; ValueError if the file has another one. odd: only taps that
    see the other cells of a checkerboard. first: so many inputs are moved behind the others.
    """
    grid = state.grid(f"{name}.input", _BITS, not relu, LEAK if relu else 0)
    if exponent is not None and grid.exponent != exponent:
        raise ValueError(f"the input of {name} isn't in units of 2**-{exponent}")
    weight, bias, exponents = state.integers(f"{name}.layer")
    if odd:
        rows, columns = np.indices(weight.shape[2:])
        weight = weight * ((rows + columns) % 2 == 1).astype(np.int16)
    if first:
        weight = np.concatenate([weight[:, first:], weight[:, :first]], 1)
    return Wide(weight, bias, exponents, grid)


def _latent_grid(state: FrozenState, name: str) -> Grid:
    grid = state.grid(name, _BITS, True)
    if grid.exponent != MEAN_BITS:
        raise ValueError(f"{name} isn't in units of 2**-{MEAN_BITS}")
    return grid


def _put(symbols: NDArray[Any], means: NDArray[np.int16], y: NDArray[Any], start: int, parity: int) -> bool:
    """`put_latents` for symbols of 16 or 32 bits, some channels at a time: copies of all would take memory."""
    for first in range(0, len(means), 16):
        some = slice(first, first + 16)
        if not put_latents(symbols[some].astype(np.int32, copy=False), means[some], y, start + first, parity):
            return False
    return True


def _checked(symbols: NDArray[Any], mean: NDArray[np.int16]) -> NDArray[Any]:
    assert symbols.shape == mean.shape and symbols.dtype in (np.int16, np.int32), "take gives a symbol for each mean"
    assert max(int(symbols.max()), -int(symbols.min())) <= _LARGEST, "take refuses symbols that are out of range"
    return symbols
