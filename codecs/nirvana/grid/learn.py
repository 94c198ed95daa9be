"""Training of the networks of the preset `grid`, on the features and symbols of passes over a group.

Parameters are real numbers that are rounded to their grids in every step, with gradients as if they were not. What a
difference to the parameters before will cost is part of the loss, so that what doesn't pay stays where it was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .networks import ACT, LIMIT, WEIGHT, Nets, Parameters
from .samples import FilterSample, Samples
from .symbols import CURVE, HIGHEST, LOWEST, PER_UNIT

LN2 = float(np.log(2))


def symbol_bits(z: Tensor, q: Tensor) -> Tensor:
    """The bits of symbols q under log-odds z, as the rows of symbols.py have them."""
    z = z.clamp(LOWEST / PER_UNIT, HIGHEST / PER_UNIT)
    size = q.abs()
    some = torch.sigmoid(z)
    first = CURVE[0] * some ** CURVE[1] * (1 - CURVE[2]) + CURVE[2]
    more = (CURVE[3] * some ** CURVE[4] * (1 - CURVE[5]) + CURVE[5]).clamp(max=0.99)
    tail = -torch.log2(torch.where(size > 1, first, 1 - first))
    tail = tail - torch.where(size > 1, (size - 2).clamp(0, 40) * torch.log2(more) + torch.log2(1 - more), 0.0)
    return torch.where(size > 0, F.softplus(-z) / LN2 + 1 + tail, F.softplus(z) / LN2)


class Trained:
    """Some of the parameters, as real numbers on the way to new integers."""

    def __init__(self, nets: Nets, names: list[str], units: dict[str, float]) -> None:
        self.start = {name: torch.from_numpy(nets.flat()[name]).float() for name in names}
        self.units = units
        self.real = {n: (s / units[n]).clone().requires_grad_(True) for n, s in self.start.items()}

    def __getitem__(self, name: str) -> Tensor:
        x, unit = self.real[name], self.units[name]
        whole = torch.round(x * unit).clamp(-LIMIT, LIMIT) / unit
        return x + (whole - x).detach()  # straight-through

    def cost(self) -> Tensor:
        """The bits of the differences, about."""
        return sum(
            (1.3 * torch.log2(1 + (self.real[n] * self.units[n] - s).abs())).sum() for n, s in self.start.items()
        )  # type: ignore[return-value]

    @torch.no_grad()
    def integers(self) -> Parameters:
        """The parameters, rounded to their grids."""
        return {
            n: np.round(x.numpy().astype(np.float64) * self.units[n]).clip(-LIMIT, LIMIT).astype(np.int64)
            for n, x in self.real.items()
        }


def _mlp(t: Trained, name: str, x: Tensor) -> Tensor:
    h = F.relu(torch.addmm(t[f"{name}.b1"], x, t[f"{name}.w1"]))
    h = h + (torch.round(h * ACT) / ACT - h).detach()
    return torch.addmm(t[f"{name}.b2"], h.clamp(max=255 / ACT), t[f"{name}.w2"])


def _mlp_units(name: str) -> dict[str, float]:
    return {f"{name}.w1": WEIGHT, f"{name}.w2": WEIGHT, f"{name}.b1": ACT, f"{name}.b2": ACT}


def _descend(t: Trained, loss: Callable[[], tuple[Tensor, float]], steps: int, rate: float, weight: float) -> None:
    """Takes steps of Adam, with rates that rise and fall.

    loss(): bits or squared errors of the whole group, estimated on a batch, and what to scale them by. weight: of a bit
    of parameters among them.
    """
    adam = torch.optim.Adam(list(t.real.values()), lr=rate, betas=(0.9, 0.98))
    for step in range(steps):
        for g in adam.param_groups:
            g["lr"] = rate * min(1.0, (step + 1) / 10) * 0.5 * (1 + np.cos(np.pi * step / steps))
        adam.zero_grad()
        total, scale = loss()
        ((total + weight * t.cost()) * scale).backward()
        adam.step()


def learn_densities(
    nets: Nets, s: Samples, steps: int, seed: int, rate: float = 0.003, weight: float = 1.0, batch: int = 8192
) -> Nets:
    """Trains the networks that predict symbols. weight: 1 if parameters are paid for by this group alone."""
    g = torch.Generator().manual_seed(seed)
    made: Parameters = {}
    tasks = (
        ("coefficients", s.features, s.symbols),
        ("levels", s.level_features, s.level_symbols),
        ("averages", s.average_features, s.average_symbols),
    )
    for name, features, symbols in tasks:
        if not features:
            continue
        x = torch.from_numpy(np.concatenate(features))
        q = torch.from_numpy(np.concatenate(symbols))
        if len(q) < 64:
            continue
        names = list(_mlp_units(name))
        units = _mlp_units(name)
        extra = None
        if name == "coefficients":
            names.append("band_bias")
            units["band_bias"] = ACT
            extra = torch.from_numpy(np.concatenate(s.bands))
        elif name == "levels":
            extra = torch.from_numpy(np.concatenate(s.level_choices))
        t = Trained(nets, names, units)
        n = len(q)

        def loss(
            name: str = name, x: Tensor = x, q: Tensor = q, t: Trained = t, extra: Tensor | None = extra, n: int = n
        ) -> tuple[Tensor, float]:
            pick = torch.randint(n, (min(batch, n),), generator=g)
            z = _mlp(t, name, x[pick].float() / ACT)
            if name == "levels":
                assert extra is not None
                z = z.gather(1, extra[pick][:, None])[:, 0].clamp(LOWEST / PER_UNIT, HIGHEST / PER_UNIT)
                bits = F.softplus(torch.where(q[pick] > 0, -z, z)) / LN2
            else:
                z = z[:, 0]
                if extra is not None:
                    z = z + t["band_bias"].flatten()[extra[pick]]
                bits = symbol_bits(z, q[pick])
            return bits.mean() * n, 1 / n

        _descend(t, loss, steps, rate, weight)
        made |= t.integers()
    return nets.changed(made) if made else nets


def learn_filters(
    nets: Nets, s: Samples, steps: int, seed: int, lmbda: float, rate: float = 0.002, crop: int = 48, batch: int = 4
) -> Nets:
    """Trains the filters. lmbda: squared error that a bit of parameters is worth."""
    g = np.random.default_rng(seed)
    made: Parameters = {}
    for name, pairs in s.filters.items():
        units = _mlp_units(name)
        t = Trained(nets, list(units), units)
        total = float(sum(s.target.size for s in pairs))
        fold = int(np.sqrt(pairs[0].inputs.shape[1] / (2 * pairs[0].target.shape[1])))

        def loss(
            name: str = name,
            pairs: list[FilterSample] = pairs,
            t: Trained = t,
            total: float = total,
            fold: int = fold,
        ) -> tuple[Tensor, float]:
            xs, ys, weights = [], [], []
            for _ in range(batch):
                sample = pairs[g.integers(len(pairs))]
                x, y, mask = (torch.from_numpy(part) for part in (sample.inputs, sample.target, sample.mask))
                a, b = min(crop, x.shape[2]), min(crop, x.shape[3])
                i, j = g.integers(x.shape[2] - a + 1), g.integers(x.shape[3] - b + 1)
                xs.append(x[0, :, i : i + a, j : j + b])
                rows, columns = slice(i * fold, (i + a) * fold), slice(j * fold, (j + b) * fold)
                ys.append(y[0, :, rows, columns])
                weights.append(mask[0, :, rows, columns] * sample.step**2)
            out = filter_in_float(t, name, torch.stack(xs).float() / 8)
            out = F.pixel_shuffle(out, fold) if fold > 1 else out
            errors = (out - torch.stack(ys)) ** 2 * torch.stack(weights)
            return errors.mean() * total, 1 / total

        _descend(t, loss, steps, rate, lmbda)
        made |= t.integers()
    return nets.changed(made) if made else nets


def filter_in_float(t: Trained, name: str, x: Tensor) -> Tensor:
    """The corrections of `Filter` for inputs x in steps, computed in real numbers, with gradients."""
    h = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), t[f"{name}.w1"], t[f"{name}.b1"]))
    h = h + (torch.round(h * ACT) / ACT - h).detach()
    return F.conv2d(F.pad(h.clamp(max=255 / ACT), (1, 1, 1, 1), mode="replicate"), t[f"{name}.w2"], t[f"{name}.b2"])
