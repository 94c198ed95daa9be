"""WaLLoC's networks as integers over `native`, without torch: what network.py computes, the same integers.

Encoder (analysis.py), decoder (synthesis.py), and the context model of `layers/lattice.py`, whose predictions are made
at the positions of a step only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...native.lattice import Layer, StepNetwork
from ..layers.frozen import FrozenState
from ..layers.lattice_steps import LatticeStep, positions_of, row_rule, schedule
from .analysis import Analysis
from .config import WallocConfig
from .synthesis import Synthesis, as_network

__all__ = ["Engine", "Networks", "Walk"]

_PAD = 2  # of the plane of latents: half of the largest kernel


class Walk(Protocol):
    """One picture's latents on their way through the context model, step by step in the order of coding."""

    steps: tuple[LatticeStep, ...]

    def rows(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The table rows and integer means of a step, (channels, positions) each; the steps before must be put."""
        ...

    def put(self, index: int, values: NDArray[Any]) -> None:
        """Tells the values of a step, (channels, positions)."""
        ...

    def latents(self) -> NDArray[np.int16]:
        """The values of all steps, (latent, h, w)."""
        ...


class Networks(Protocol):
    """What a codec needs of its networks; latents are (latent, h, w) int16."""

    def latents(self, pixels: NDArray[Any], gain16: int) -> NDArray[np.int16]:
        """The integer latents of pixels (H, W, 3)."""
        ...

    def walk(self, h: int, w: int, gain16: int) -> Walk:
        """The context model at its first step, for latents of h x w."""
        ...

    def pixels(
        self, latents: NDArray[np.int16], gain16: int, height: int, width: int, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """The picture, (height, width, 3), of integer latents."""
        ...


class Engine:
    """The networks of a weights file, of the kind that ships. ValueError where they, or their bounds, are others."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], config: WallocConfig) -> None:
        state = FrozenState(arrays)
        self.config = config
        self.analysis = Analysis(state, config)
        self.synthesis = Synthesis(state, config)
        self.steps = schedule(config.groups)
        self.nets = [_step_network(state, f"context.nets.{i}", config, step) for i, step in enumerate(self.steps)]

    def latents(self, pixels: NDArray[Any], gain16: int) -> NDArray[np.int16]:
        return self.analysis.latents(pixels, gain16)

    def walk(self, h: int, w: int, gain16: int) -> EngineWalk:
        return EngineWalk(self, h, w, gain16)

    def pixels(
        self, latents: NDArray[np.int16], gain16: int, height: int, width: int, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        return self.synthesis.pixels(latents, gain16, height, width, dtype)


def _step_network(state: FrozenState, name: str, config: WallocConfig, step: LatticeStep) -> StepNetwork:
    parts = (("first", 14), ("second", 12), ("third", 12))
    first, second, third = (Layer(*as_network(state, f"{name}.{part}", bits)) for part, bits in parts)
    inputs = state.grid(f"{name}.input", config.latent_bits, signed=True)
    acts = [state.grid(f"{name}.{act}", 10, signed=False) for act in ("act1", "act2")]
    network = StepNetwork(first, second, third, (inputs, *acts), row_rule())
    if network.inputs != 1 + step.seen or network.outputs != step.stop - step.start or network.kernel // 2 > _PAD:
        raise ValueError(f"{name} isn't the network of its step")
    return network


class EngineWalk:
    """`Walk`, on a plane of integers with the side plane in front; what isn't known yet is zero."""

    def __init__(self, engine: Engine, h: int, w: int, gain16: int) -> None:
        self.steps = engine.steps
        self._nets, self._h, self._w = engine.nets, h, w
        channels = 1 + engine.config.latent
        self._channels = channels
        self._plane = np.zeros((h + 2 * _PAD, w + 2 * _PAD, channels + channels % 2), np.int16)
        self._inner = self._plane[_PAD : _PAD + h, _PAD : _PAD + w]
        self._inner[:, :, 0] = gain16

    def _where(self, index: int) -> NDArray[np.int32]:
        return positions_of(self.steps[index].levels, self._h, self._w)

    def rows(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        net = self._nets[index]
        plane = self._plane
        # On a grid of whole numbers, latents are their own integers; a gain that is beyond its ends isn't.
        if net.symbols.exponent or abs(int(self._inner[0, 0, 0])) > net.largest:
            plane = np.ascontiguousarray(plane[:, :, : net.inputs + net.inputs % 2])
            plane = net.symbols.integers(plane.astype(np.float32)).astype(np.int16)
        return net.rows(plane, _PAD, self._where(index))

    def put(self, index: int, values: NDArray[Any]) -> None:
        step = self.steps[index]
        y, x = np.divmod(self._where(index), self._w)
        at = (y + _PAD) * (self._w + 2 * _PAD) + x + _PAD
        self._plane.reshape(-1, self._plane.shape[2])[at, 1 + step.start : 1 + step.stop] = values.T

    def latents(self) -> NDArray[np.int16]:
        return np.ascontiguousarray(self._inner[:, :, 1 : self._channels].transpose(2, 0, 1))
