"""The networks of Entropic Student without torch: a view of a photograph to latents in floats, and back in integers.

The decoder gives the same integers as `EntropicStudentNet.exactly` of network.py, the oracle, on every machine. The
encoder is in float32: another machine may round a latent to its neighbour, which changes the file and not its meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...native.floats import Conv, empty
from ...native.grids import Rows
from ...native.pixels import regrid
from ...native.wide import Wide
from ..layers.frozen import FrozenState
from ..layers.quality_knots import gain_factor
from ..layers.transform_settings import LEAK
from .config import BLOCKS, CELL, CHANNELS, FEATURE_BITS, GRID_BITS, LARGEST_LATENT, EntropicStudentConfig

__all__ = ["Engine"]


class Engine:
    """The networks of a weights file, whose tensors have been checked; ValueError if kernels can't hold their sums."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: EntropicStudentConfig) -> None:
        self.config, self._state = config, FrozenState(arrays)
        self._linear = self._wide("linear", False)
        self._correction = [self._wide(f"correction.{k}", k > 0) for k in range(len(config.decoder_width) + 1)]
        self._features = self._state.grid("features", FEATURE_BITS, True)

    def _wide(self, name: str, relu: bool) -> Wide:
        grid = self._state.grid(f"{name}.input", GRID_BITS, not relu, LEAK if relu else 0)
        return Wide(*self._state.integers(f"{name}.layer"), grid)

    # ---- the encoder, in floats

    @functools.cached_property
    def _encoder(self) -> _Encoder:
        return _Encoder(self._state)

    def latents(self, view: NDArray[np.uint8], step: int) -> NDArray[np.int32]:
        """The integer latents (latent, h, w) of a view (16 h, 16 w, 3) at a quality step."""
        gain = gain_factor(self._state.floats("gain.values"), step).astype(np.float32)
        y = np.clip(np.rint(self._encoder(view) * gain), -LARGEST_LATENT, LARGEST_LATENT)
        return np.ascontiguousarray(y.transpose(2, 0, 1), np.int32)

    # ---- the decoder, in integers

    def features(self, latents: NDArray[np.int32], step: int) -> NDArray[np.float32]:
        """The features (CHANNELS, h, w) of latents (latent, h, w), in float32: multiples of one power of two."""
        gain = gain_factor(self._state.floats("inverse_gain.values"), step)
        given = np.ascontiguousarray(latents.transpose(1, 2, 0), np.int32)
        v = np.empty_like(given)
        regrid(given, 0, self._linear.grid, v, gain=gain)
        h, w, _ = v.shape
        out = Rows.empty(CELL * h, CELL * w, CHANNELS, np.int32)
        self._linear.rows(Rows(v, 0, h), 0, h, out=out, grid=self._features, shuffle=CELL)
        total = out.array + self._corrected(out.array)
        return np.ascontiguousarray(np.ldexp(total.astype(np.float32), -self._features.exponent).transpose(2, 0, 1))

    def _corrected(self, features: NDArray[np.int32]) -> NDArray[np.int32]:
        """The correction of features (h, w, CHANNELS), integers of their grid, as it is added to them."""
        x = np.empty_like(features)
        regrid(features, self._features.exponent, self._correction[0].grid, x)
        grids = [*(layer.grid for layer in self._correction[1:]), self._features]
        for layer, grid in zip(self._correction, grids, strict=True):
            out = Rows.empty(len(x), x.shape[1], layer.outputs, np.int32)
            layer.rows(Rows(x, 0, len(x)), 0, len(x), out=out, grid=grid)
            x = out.array
        return x


class _Encoder:
    """The layers of the encoder: `Encoder` of network.py in float32."""

    def __init__(self, state: FrozenState) -> None:
        self._stem = self._both(state, "encoder.stem")
        self._blocks = []
        for k, (inner, outer, stride, expand) in enumerate(BLOCKS):
            name = f"encoder.blocks.{k}"
            wide = self._conv(state, f"{name}.expand") if expand > 1 else None
            block = (wide, self._both(state, f"{name}.depthwise"), self._conv(state, f"{name}.project"))
            self._blocks.append((*block, stride, stride == 1 and inner == outer))
        self._out = self._conv(state, "encoder.out")

    @staticmethod
    def _both(state: FrozenState, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        return state.floats(f"{name}.weight"), state.floats(f"{name}.bias")

    @classmethod
    def _conv(cls, state: FrozenState, name: str) -> Conv:
        return Conv(*cls._both(state, name))

    def __call__(self, view: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The latents before their gains, (h, w, latent)."""
        x = _stem((view.astype(np.float32) - 127) / 128, *self._stem)
        for expand, (weight, bias), project, stride, skips in self._blocks:
            y = x if expand is None else np.clip(_run(expand, x), 0, 6)
            y = _run(project, _depthwise(y, weight, bias, stride))
            x = x + y if skips else y
        h, w, channels = x.shape
        cells = x.reshape(h // CELL, CELL, w // CELL, CELL, channels).transpose(0, 2, 4, 1, 3)
        return _run(self._out, cells.reshape(h // CELL, w // CELL, -1))


def _padded(x: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Zeros around for kernels of three, as TensorFlow puts them: behind first."""
    sides = [max(0, (-(-n // stride) - 1) * stride + 3 - n) for n in x.shape[:2]]
    return np.pad(x, (*((n // 2, -(-n // 2)) for n in sides), (0, 0)))


def _stem(x: NDArray[np.float32], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[np.float32]:
    """A 3x3 convolution of stride 2 on (H, W, 3), and ReLU6."""
    x = _padded(x, 2)
    h, w = ((n - 3) // 2 + 1 for n in x.shape[:2])
    columns = [x[i : i + 2 * h - 1 : 2, j : j + 2 * w - 1 : 2] for i in range(3) for j in range(3)]
    taps = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)), np.float32)
    return np.clip(np.concatenate(columns, 2) @ taps + bias, 0, 6)


def _depthwise(x: NDArray[np.float32], weight: NDArray[Any], bias: NDArray[Any], stride: int) -> NDArray[np.float32]:
    """A 3x3 convolution of each channel of (H, W, C), and ReLU6. weight: (C, 1, 3, 3)."""
    x = _padded(x, stride)
    h, w = ((n - 3) // stride + 1 for n in x.shape[:2])
    out = np.broadcast_to(bias.astype(np.float32), (h, w, len(bias))).copy()
    for i in range(3):
        for j in range(3):
            rows, columns = slice(i, i + stride * (h - 1) + 1, stride), slice(j, j + stride * (w - 1) + 1, stride)
            out += x[rows, columns] * weight[:, 0, i, j]
    return np.clip(out, 0, 6, out=out)


def _run(conv: Conv, x: NDArray[np.float32]) -> NDArray[np.float32]:
    out = empty(conv.height(len(x)), conv.height(x.shape[1]), conv.outer)
    conv.rows(Rows(np.ascontiguousarray(x), 0, len(x)), 0, len(out), Rows(out, 0, len(out)))
    return out
