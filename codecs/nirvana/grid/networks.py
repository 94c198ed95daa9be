"""The small networks of the preset `grid`: integers only, sent as differences.

Parameters are integers of 8 bits on fixed grids. Activations are integers of 8 bits, and every partial sum stays below
2**24 by the sizes of the layers alone, so float32 holds it exactly: 26 x 127 x 127 < 2**19 and 32 x 255 x 127 < 2**20
in `Mlp`, 72 x 127 x 127 < 2**21 and 144 x 255 x 127 < 2**23 in `Filter`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from ....errors import StreamError, WeightsError
from ....files import PACKAGE
from .symbols import PER_UNIT, Coding, Int, code_flag, code_static

ACT = 16  # units of an activation's value
WEIGHT = 64  # units of a weight
UNIT = ACT * WEIGHT  # units of what a network gives
FINE = 16  # of a sample: see transform.py
LIMIT = 127
START_WEIGHTS = PACKAGE / "weights" / "nirvana-grid.safetensors"
HIDDEN = 32
Parameters = dict[str, Int]
Single = NDArray[np.float32]


@dataclass(frozen=True)
class Mlp:
    """A network with one hidden layer of ReLU: features (n, I) 0...127 in sixteenths -> (n, O) in units of 1 / UNIT."""

    w1: Int  # (I, H)
    b1: Int  # (H,) in sixteenths
    w2: Int  # (H, O)
    b2: Int  # (O,) in sixteenths

    def __reduce__(self) -> tuple[type[Mlp], tuple[Int, Int, Int, Int]]:
        return type(self), (self.w1, self.b1, self.w2, self.b2)  # without what is made of them

    @cached_property
    def networks(self) -> dict[Any, Any]:
        """The compiled forms of this network (compiled.py), by what they have in their biases."""
        return {}

    def quarters(self, features: NDArray[np.uint8]) -> Single:
        """The output for features (n, I): (n, O) in quarters of the log-odds' unit, half a quarter up.

        So floor rounds them.
        """
        w1, b1, w2, b2 = self.scaled
        h = np.floor(features.astype(np.float32) @ w1.T + b1)
        return np.clip(h, 0, 255) @ w2.T + b2

    def __call__(self, features: NDArray[np.uint8]) -> Single:
        return (self.quarters(features) - np.float32(0.5)) * np.float32(UNIT // PER_UNIT)

    @cached_property
    def scaled(self) -> tuple[Single, Single, Single, Single]:
        """The parameters, (H, I), (H,), (O, H), (O,), times powers of two.

        So the hidden layer is a floor away from integers and the output from quarters; biases round, too.
        """
        w1, b1, w2, b2 = (p.astype(np.float32) for p in (self.w1, self.b1, self.w2, self.b2))
        out = np.float32(PER_UNIT / UNIT)
        half = np.float32(0.5)
        return w1.T / np.float32(WEIGHT), b1 + half, w2.T * out, b2 * (WEIGHT * out) + half


@dataclass(frozen=True)
class Filter:
    """A filter that estimates what a plane's reconstruction lacks from what was sent.

    Two 3x3 convolutions on blocks of `fold` x `fold` samples, of the picture less its own blurring and of the residual,
    in steps. There is a filter for luma, and one for the two chroma planes at once.
    """

    w1: Int  # (H, I, 3, 3)
    b1: Int  # (H,) sixteenths of a step
    w2: Int  # (O, H, 3, 3)
    b2: Int  # (O,) sixteenths of a step

    @property
    def idle(self) -> bool:
        """Whether it corrects nothing, whatever its inputs."""
        return not (self.w2.any() or self.b2.any())

    @staticmethod
    def inputs(recon: NDArray[Any], residual: NDArray[Any], fold: int, step: int) -> Single:
        """The inputs of the filter: (2 P fold^2, H / fold, W / fold), whole numbers of at most 7 bits and sign.

        recon, residual: (P, H, W) float64, in samples: whole numbers, and sixteenths. step: of the quantiser, in
        sixteenths. Inputs are in eighths of it.
        """
        detail = recon - _blur(recon)
        planes = np.concatenate([detail, residual]) * (8 * FINE)
        # a correctly rounded division of exact numbers: the same everywhere
        planes = np.clip(np.floor(planes / step + 0.5), -LIMIT, LIMIT).astype(np.float32)
        n, h, w = planes.shape
        dealt = planes.reshape(n, h // fold, fold, w // fold, fold).transpose(0, 2, 4, 1, 3)
        return dealt.reshape(n * fold * fold, h // fold, w // fold)

    def __call__(self, inputs: Single, fold: int) -> Single:
        """Corrections (P, H, W) in units of 1 / 1024 of a step, from what `inputs` gives."""
        h = np.floor(_conv3x3(inputs, self.w1, self.b1 * 32 + 16) / np.float32(32))
        out = _conv3x3(np.clip(h, 0, 255, out=h), self.w2, self.b2 * WEIGHT)
        n, rows, columns = out.shape
        dealt = out.reshape(n // fold**2, fold, fold, rows, columns).transpose(0, 3, 1, 4, 2)
        return dealt.reshape(n // fold**2, rows * fold, columns * fold)


def _conv3x3(x: Single, weight: Int, bias: Int) -> Single:
    """A convolution of planes (I, H, W) whose edges are repeated: (O, H, W), exact if its sums are below 2**24."""
    n, h, w = x.shape
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    taps = np.concatenate([x[:, i : i + h, j : j + w].reshape(n, -1) for i in range(3) for j in range(3)])
    columns = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1).astype(np.float32)
    return (columns @ taps + bias.astype(np.float32)[:, None]).reshape(-1, h, w)


def _blur(x: NDArray[Any]) -> NDArray[Any]:
    """Blurs planes (P, H, W) with a binomial of 5x5, in 256ths: exact for samples of 9 bits."""
    _, h, w = x.shape
    x = np.pad(x, ((0, 0), (2, 2), (2, 2)), mode="edge")
    x = x[:, :, :w] + x[:, :, 4 : w + 4] + 4 * (x[:, :, 1 : w + 1] + x[:, :, 3 : w + 3]) + 6 * x[:, :, 2 : w + 2]
    x = x[:, :h] + x[:, 4 : h + 4] + 4 * (x[:, 1 : h + 1] + x[:, 3 : h + 3]) + 6 * x[:, 2 : h + 2]
    return x / 256


_NETWORKS = ("coefficients", "levels", "averages", "luma", "chroma")


@dataclass(frozen=True)
class Nets:
    """All networks of a group: three that predict symbols, and the filters of luma and of chroma."""

    coefficients: Mlp
    levels: Mlp
    averages: Mlp
    luma: Filter
    chroma: Filter
    band_bias: Int  # (4, 64) sixteenths of log-odds

    def flat(self) -> Parameters:
        """All parameters by name, as in "luma.w1"."""
        parameters: Parameters = {"band_bias": self.band_bias}
        for name in _NETWORKS:
            net = getattr(self, name)
            parameters |= {f"{name}.{f.name}": getattr(net, f.name) for f in fields(net)}
        return parameters

    def changed(self, new: Parameters) -> Nets:
        """These networks with some parameters, named as in `flat`, in place of their own."""
        made: dict[str, Mlp | Filter | Int] = {}
        for name in _NETWORKS:
            net = getattr(self, name)
            mine = {f.name: new[f"{name}.{f.name}"] for f in fields(net) if f"{name}.{f.name}" in new}
            made[name] = replace(net, **mine)
        return Nets(band_bias=new.get("band_bias", self.band_bias), **made)  # type: ignore[arg-type]


def random_nets(seed: int = 0) -> Nets:
    """The networks that training starts from: first layers at random, last layers at zero."""
    generator = np.random.default_rng(seed)

    def first(*shape: int, scale: float) -> Int:
        return np.round(generator.normal(0, scale * WEIGHT, shape)).clip(-LIMIT, LIMIT).astype(np.int64)

    def zeros(*shape: int) -> Int:
        return np.zeros(shape, np.int64)

    def mlp(n_in: int, hidden: int, n_out: int, start: int) -> Mlp:
        b2 = np.full(n_out, start)
        return Mlp(first(n_in, hidden, scale=n_in**-0.5), zeros(hidden), zeros(hidden, n_out), b2)

    return Nets(
        mlp(26, HIDDEN, 1, -16),
        mlp(24, HIDDEN, 4, 0),
        mlp(8, 8, 1, 32),
        Filter(first(16, 8, 3, 3, scale=0.12), zeros(16), zeros(4, 16, 3, 3), zeros(4)),
        Filter(first(8, 4, 3, 3, scale=0.2), zeros(8), zeros(2, 8, 3, 3), zeros(2)),
        zeros(4, 64),
    )


@lru_cache(maxsize=1)
def start_nets() -> Nets:
    """The networks that a key group starts from: trained once, shipped with the package, never sent."""
    return load_nets(START_WEIGHTS)


def load_nets(path: Path) -> Nets:
    """The networks in a safetensors file; WeightsError if it holds none of these shapes."""
    empty = random_nets()
    try:
        parameters = {name: value.astype(np.int64) for name, value in load_file(path).items()}
    except Exception as error:
        raise WeightsError(f"the networks that preset grid starts from can't be read: {error}") from error
    if {n: p.shape for n, p in parameters.items()} != {n: p.shape for n, p in empty.flat().items()}:
        raise WeightsError(f"{path.name} doesn't hold the networks that preset grid starts from; reinstall the package")
    return empty.changed(parameters)


def code_nets(io: Coding, old: Nets, new: Nets | None) -> Nets:
    """Codes the parameters as differences to those before.

    First comes whether there are any, then for each tensor whether it has some, their row, and the differences.
    """
    before = old.flat()
    after = new.flat() if new is not None else None
    changed: Parameters = {}
    if not code_flag(io, None if after is None else any((after[name] != was).any() for name, was in before.items())):
        return old
    for name, was in before.items():
        difference = None if after is None else after[name] - was
        if not code_flag(io, None if difference is None else bool(difference.any())):
            continue
        changed[name] = was + code_static(io, difference, was.shape)
        if np.abs(changed[name]).max() > LIMIT:
            raise StreamError("the group is damaged: a network parameter is out of range")
    return old.changed(changed)
