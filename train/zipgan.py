"""Training of ZipGAN: generator (and encoder, if it is learned) on simulations, then against a discriminator.

    codec data turbulence --seed 0 --snapshots 40 --spacing 1 -o DIR/s0.h5      # 0 to 7; 8 validates, 9 is for tests
    codec train zipgan --recipe 8x --data DIR; codec train zipgan --recipe 64x --data DIR ...
    codec train zipgan --recipe 8x-long --data DIR --device cuda; codec train zipgan --recipe 8x-adversarial ...

Nista et al., arXiv 2412.14150: progressive transfer from factor 2 to 4 to 8 (`start`: weights of half the factor; what
is taken over is frozen for the first tenth). Loss: squared error, squared error of the gradient and divergence, each in
units of what the interpolation of the latents has, so that all quantiser steps count alike; then, from
`adversarial_from` on, a relativistic average adversarial loss (RaGAN, arXiv 1807.00734) beside them. The discriminator
also sees blurred, noisy and merely interpolated fields, so that it can judge what this generator never makes.

All fields lie on the device, latents are quantised there, and no step waits for the one before to be read.

Splits are by simulation: a file's `seed` attribute says which part it belongs to.
"""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..codecs.layers import spectral
from ..codecs.zipgan_net import Discriminator, Encoder, Generator, ZipganConfig, project, spectral_resample
from ..errors import UsageError
from .weights import write_weights

__all__ = ["ZipganRecipe", "load_fields", "train"]

VALIDATION, TEST = 8, 9  # seeds that aren't trained on; others from TEST to FIRST aren't either
EMA = 0.998
FIRST = 100  # other seeds that are trained on begin here


@dataclass(frozen=True)
class ZipganRecipe:
    """noise: range of log2 of the quantiser's step over the field's root mean square. rate: bits, for learned encoders
    only, in units of what they are worth at high rates. start: weights file of half the factor, or of the same one.
    adversarial: its gradient at the generator's output, in units of the other losses'.
    window: points a side that the discriminator looks at, 0 for whole fields. seconds: ends then at the latest, and the
    learning rate falls as if the steps so far were that part of all. look: seconds between looks at held-out fields."""

    steps: int
    decay_from: int
    noise: tuple[float, float]
    lr: float = 1e-3
    batch: int = 1
    gradient: float = 0.5
    divergence: float = 0.05
    adversarial: float = 0.1
    adversarial_from: int = 1 << 60
    alone: int = 0  # steps from there on in which the discriminator learns and the generator doesn't hear of it
    critic_lr: float = 5e-4
    window: int = 32
    frozen: int = 0
    frozen_lr: float = 1.0  # of what was taken over, afterwards, relative to lr
    rate: float = 1.0
    bf16: bool = True
    seed: int = 1
    start: str = ""
    seconds: float = 0.0
    look: float = 600.0
    save: float = 120.0  # seconds between checkpoints; the weights so far are written with them


def part_of(seed: int) -> str:
    """train, validation or test."""
    if seed < VALIDATION or seed >= FIRST:
        return "train"
    return "validation" if seed == VALIDATION else "test"


def load_fields(folder: Path, wanted: str) -> Tensor:
    """(S, 3, n, n, n) float32: all snapshots of the simulations of one part (train, validation), of unit rms each."""
    import h5py

    found = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path, "r") as file:
            seed = int(np.asarray(file.attrs.get("seed", TEST + 1)))
            part = part_of(seed)
            if part == wanted and "velocity" in file:
                fields = np.asarray(file["velocity"], np.float32)  # pyright: ignore[reportArgumentType]
                found.append(torch.from_numpy(fields / np.sqrt((fields**2).mean((1, 2, 3, 4), keepdims=True))))
    if not found:
        raise UsageError(
            f"{folder}: no simulation for {wanted} there; `codec data turbulence --seed 0 -o {folder}/s0.h5`"
        )
    if len({one.shape[1:] for one in found}) > 1:
        raise UsageError(f"{folder}: simulations of different sizes; train on one")
    return torch.cat(found)


ROTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def rotated(x: Tensor, which: int, shifts: tuple[int, ...] = (0, 0, 0)) -> Tensor:
    """(3, D, H, W), component 0 along the last axis, under one of the 48 rotations and reflections of the cube.

    Components turn with the axes, or isotropy is lost.
    """
    order, signs = ROTATIONS[which]
    x = torch.roll(x, shifts, (1, 2, 3))
    x = x.permute(0, *(1 + axis for axis in order))[[2 - order[2 - c] for c in range(3)]]
    flips = [1 + axis for axis in range(3) if signs[axis] < 0]
    x = x.flip(flips)
    return torch.stack([-x[c] if signs[2 - c] < 0 else x[c] for c in range(3)])


class Latents:
    """Fields to quantised latents on the coarse grid, as the codec does it, but for rounding errors of float32."""

    def __init__(self, config: ZipganConfig, size: int, device: str = "cpu") -> None:
        self.config = config
        self.encoder = Encoder(config).to(device)
        side = -(-size // config.factor)
        whole = size if config.encoder == "spectral" else side
        order: spectral.Order = "x-last" if config.encoder == "spectral" else "none"
        self.modes = modes = spectral.Modes((whole,) * 3, (side,) * 3, config.components, True, order)
        self.coarse = (side,) * 3
        wave = np.rint(modes.wave).astype(np.int64)
        self.source, self.plus, self.minus = (
            torch.from_numpy(np.ravel_multi_index(tuple(k % n), (n,) * 3)).to(device)
            for k, n in ((wave, whole), (wave, side), (-wave, side))
        )
        self.frame = torch.from_numpy(modes.frame).to(device, torch.complex64) if order != "none" else None
        self.shell = torch.from_numpy(modes.shell).to(device)
        self.counts = torch.bincount(self.shell, minlength=modes.shells).clamp(min=1)
        self.centres = torch.from_numpy(spectral.centres()).float().to(device)
        k = torch.fft.fftfreq(side, 1 / side, device=device)
        grid = torch.stack(torch.meshgrid(k, k, k, indexing="ij"))
        self.shells = grid.square().sum(0).sqrt().round().long().flatten()
        self.shell_counts = torch.bincount(self.shells).clamp(min=1)

    def hard(self, x: Tensor, noise: Tensor) -> Tensor:
        """(B, C, D, H, W), by the codec's own quantiser. noise: (B,)."""
        source = (x if self.frame is not None else self.encoder(x)).detach().float()
        step = (2.0**noise)[:, None, None]
        c = torch.fft.fftn(source, dim=(-3, -2, -1), norm="ortho").flatten(2)[..., self.source]
        if self.frame is not None:
            c = torch.einsum("pcn,bcn->bpn", self.frame, c)
        parts = torch.view_as_real(c)  # (B, P, n, 2)
        power = parts.square().sum(-1)
        per_mode = 2
        if self.frame is not None:
            power, per_mode = power.sum(1, keepdim=True), 2 * c.shape[1]
        sums = power.new_zeros(*power.shape[:2], len(self.counts)).index_add_(2, self.shell, power)
        spread = (sums / (self.counts * per_mode)).sqrt() / step
        position = (spread.clamp(min=1e-30) / spectral.LOW).log() * ((spectral.LEVELS - 1) / LEVELS_SPAN)
        levels = (position + 0.5).floor().clamp(0, spectral.LEVELS - 1).long()
        rows = torch.where(spread < 2 * spectral.LOW, 0, levels)[..., self.shell, None].expand(parts.shape)
        step = step[..., None]
        size = (parts / step).round().abs()
        last = self.centres.shape[1] - 1
        centre = self.centres[rows, size.clamp(max=last).long()]
        back = torch.where(rows > 0, parts.sign() * torch.where(size <= last, centre, size) * step, 0.0)
        c = torch.view_as_complex(back.contiguous())
        if self.frame is not None:
            c = torch.einsum("pcn,bpn->bcn", self.frame, c)
        full = c.new_zeros(*c.shape[:2], math.prod(self.coarse))
        full[..., self.plus], full[..., self.minus] = c, c.conj()
        gain = math.sqrt(math.prod(self.coarse) / math.prod(self.modes.shape))
        field = torch.fft.ifftn(full.unflatten(2, self.coarse), dim=(-3, -2, -1), norm="ortho").real * gain
        return field + source.mean((2, 3, 4), keepdim=True)

    def soft(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(z_hat, bits (B,)) of learned encoders: rounding with the gradient of the identity, Gaussian shells."""
        z = self.encoder(x).float()
        step, n = 2.0**noise, z.shape[-1]
        spectrum = torch.fft.fftn(z, dim=(-3, -2, -1), norm="ortho")
        power = spectrum.abs().square().sum(1).flatten(1) / (2 * z.shape[1])
        sums = power.new_zeros(len(z), len(self.shell_counts)).index_add(1, self.shells, power)
        spread = sums / self.shell_counts / step[:, None] ** 2
        bits = 0.5 * torch.log2(1 + 2 * math.pi * math.e * spread)[:, self.shells].sum(1) * z.shape[1]
        keep = (spread > (2 * spectral.LOW) ** 2)[:, self.shells].reshape(-1, 1, n, n, n)
        parts = torch.view_as_real(spectrum) / step[:, None, None, None, None, None]
        parts = parts + (parts.round() - parts).detach()
        rounded = torch.view_as_complex(parts * step[:, None, None, None, None, None]) * keep
        return torch.fft.ifftn(rounded, dim=(-3, -2, -1), norm="ortho").real, bits


LEVELS_SPAN = math.log(spectral.HIGH / spectral.LOW)


def gradient(x: Tensor) -> Tensor:
    """(B, 3 C, ...): central differences of periodic fields, in units of the grid."""
    return torch.cat([(x.roll(-1, axis) - x.roll(1, axis)) / 2 for axis in (-1, -2, -3)], 1)


def divergence(x: Tensor) -> Tensor:
    """(B, ...): of velocities with component 0 along the last axis."""
    return sum((x[:, i].roll(-1, -1 - i) - x[:, i].roll(1, -1 - i)) / 2 for i in range(3))  # type: ignore[return-value]


class Run:
    """Networks, optimisers and averages of a run; all of it is in the checkpoint."""

    def __init__(self, config: ZipganConfig, recipe: ZipganRecipe, size: int, device: str = "cpu") -> None:
        self.config, self.recipe, self.device = config, recipe, torch.device(device)
        self.latents = Latents(config, size, device)
        # what the losses are measured against
        self.cut = self.latents if config.encoder == "spectral" else Latents(_cut(config), size, device)
        self.reach = ((size - 1) // 3,) * 3  # what the solver resolves
        self.generator, self.critic = Generator(config), Discriminator(config)
        self.inherited: set[str] = set()
        if recipe.start:
            self.inherited = start_from(self.generator, self.critic, Path(recipe.start))
        self.generator.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
        self.critic.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        named = [*self.generator.named_parameters()]
        old = [p for name, p in named if name in self.inherited]
        new = [p for name, p in named if name not in self.inherited] + list(self.latents.encoder.parameters())
        self.optimizer = torch.optim.Adam([{"params": new}, {"params": old}], lr=recipe.lr, betas=(0.9, 0.99))
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=recipe.critic_lr, betas=(0.5, 0.99))
        self.step, self.seconds = 0, 0.0
        self.window: tuple[slice, ...] = ()

    @property
    def done(self) -> float:
        """In steps: those that were made, or more if seconds run out."""
        recipe = self.recipe
        clock = recipe.steps * self.seconds / recipe.seconds if recipe.seconds else 0.0
        return max(float(self.step), clock)

    def decode(self, z: Tensor, noise: Tensor, shape: tuple[int, ...], net: Generator | None = None) -> Tensor:
        """Latents (B, C, d, h, w) of fields of unit rms to fields, before the projection."""
        net = self.generator if net is None else net
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            residual = net(z.to(memory_format=torch.channels_last_3d), noise)
        return spectral_resample(z, shape) + residual.float()

    def train_step(self, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """x: (B, 3, D, H, W); noise: (B,). What it returns stays on the device: reading it waits for the step."""
        recipe, shape = self.recipe, tuple(x.shape[2:])
        self._set_rates()
        learned = self.config.encoder == "learned"
        bits = noise.new_zeros(())
        if learned:
            z, bits = self.latents.soft(x, noise)
        else:
            with torch.no_grad():
                z = self.latents.hard(x, noise)
        raw = self.decode(z, noise, shape)
        back = project(raw, self.reach)
        slopes = gradient(x)
        with torch.no_grad():
            base = project(spectral_resample(self.cut.hard(x, noise) if learned else z, shape), self.reach)
            base_error = mean(base - x) + 1e-8
            base_gradient = mean(gradient(base) - slopes) + 1e-8
        error = (mean(back - x) / base_error).mean()
        slope = (mean(gradient(back) - slopes) / base_gradient).mean()
        loss = error + recipe.gradient * slope
        loss = loss + recipe.divergence * (divergence(raw).square().mean((1, 2, 3)) / base_gradient).mean()
        if learned:  # at high rates a bit to each latent is worth this squared error
            worth = math.log(2) / 6 * 4.0**noise / base_error
            loss = loss + recipe.rate * (worth * bits).mean() / z[0].numel()
        out = {"error": error.detach(), "gradient": slope.detach()}
        if self.step >= recipe.adversarial_from:
            self._choose_window(shape)
            out |= self._critic_step(x, back.detach(), base)
            self.critic.requires_grad_(False)
            with torch.no_grad():
                real = self._judge(x)
            fake = self._judge(back)
            self.critic.requires_grad_(True)
            against = F.binary_cross_entropy_with_logits(fake - real.mean(), torch.ones_like(fake))
            against = against + F.binary_cross_entropy_with_logits(real - fake.mean(), torch.zeros_like(real))
            if self.step >= recipe.adversarial_from + recipe.alone:
                loss = loss + recipe.adversarial * _balance(loss, against, raw) * against
            out["against"] = against.detach()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            decay = min(EMA, (self.step + 1) / (self.step + 20))
            kept: list[Any] = [*self.ema.parameters()]
            current: list[Any] = [*self.generator.parameters()]
            get_ema_multi_avg_fn(decay)(kept, current, 1)
        return {"loss": loss.detach(), **out}

    def _choose_window(self, shape: tuple[int, ...]) -> None:
        """The discriminator judges patches: a part of the field will do, where whole ones take too long."""
        side = self.recipe.window or max(shape)
        starts = [int(torch.randint(max(1, size - side + 1), ())) for size in shape]
        self.window = tuple(slice(start, start + side) for start in starts)

    def _judge(self, x: Tensor) -> Tensor:
        whole = self.recipe.window in (0, *x.shape[2:])
        x = x[(slice(None), slice(None), *self.window)].contiguous(memory_format=torch.channels_last_3d)
        with parametrize.cached():
            for layer in self.critic.layers:  # normalised in float32
                _ = layer.weight
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                return self.critic(x, periodic=whole).float()

    def _critic_step(self, x: Tensor, made: Tensor, base: Tensor) -> dict[str, Tensor]:
        """One step of the discriminator, on what the generator made and on real fields that were spoilt, in turns."""
        kind = (torch.arange(len(x), device=x.device) + self.step)[:, None, None, None, None] % 4
        strength = torch.rand(kind.shape, device=x.device)
        noise = torch.randn_like(x)
        if self.step // 4 % 2:
            noise = project(noise, self.reach)
        fake = torch.where(kind == 1, base, made)
        fake = torch.where(kind == 2, x + noise * 10 ** (-2.5 + 2 * strength), fake)
        fake = torch.where(kind == 3, blurred(x, strength, sharp=self.step // 4 % 2 == 0), fake)
        real, false = self._judge(x), self._judge(fake)
        loss = F.binary_cross_entropy_with_logits(real - false.mean(), torch.ones_like(real))
        loss = loss + F.binary_cross_entropy_with_logits(false - real.mean(), torch.zeros_like(false))
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        return {"critic": loss.detach()}

    def _set_rates(self) -> None:
        recipe = self.recipe
        progress = (self.done - recipe.decay_from) / max(1, recipe.steps - recipe.decay_from)
        factor = min(1.0, (self.step + 1) / 50) * min(1.0, max(0.0, 1 - progress))
        new, old = self.optimizer.param_groups
        new["lr"] = recipe.lr * factor
        old["lr"] = 0.0 if self.step < recipe.frozen else recipe.lr * factor * recipe.frozen_lr

    def state(self) -> dict[str, Any]:
        parts = ("generator", "critic", "ema", "optimizer", "critic_optimizer")
        state = {name: getattr(self, name).state_dict() for name in parts}
        return {
            **state,
            "encoder": self.latents.encoder.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "config": asdict(self.config),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        for name in ("generator", "critic", "ema", "optimizer", "critic_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.latents.encoder.load_state_dict(state["encoder"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    @torch.no_grad()
    def look(self, fields: Tensor, levels: tuple[float, ...]) -> dict[str, float]:
        """Held-out fields: relative errors of values and gradients, of the generator and of interpolation alone."""
        found: dict[str, float] = {}
        names = ("base_error", "base_gradient", "base_dissipation", "error", "gradient", "dissipation")
        for level in levels:
            rows = []
            for x in fields.split(1):
                noise = x.new_full((1,), level)
                z, shape = self.latents.hard(x, noise), tuple(x.shape[2:])
                base = project(spectral_resample(z, shape), self.reach)
                back = project(self.decode(z, noise, shape, self.ema), self.reach)
                slopes = gradient(x)
                row = []
                for y in (base, back):
                    row += [
                        (mean(y - x) / mean(x)).sqrt(),
                        (mean(gradient(y) - slopes) / mean(slopes)).sqrt(),
                        mean(gradient(y)) / mean(slopes),
                    ]
                rows.append(torch.cat(row))
            for name, value in zip(names, torch.stack(rows).mean(0).tolist(), strict=True):
                found[f"val_{name}_{level:g}"] = round(value, 5)
        return found


def _balance(loss: Tensor, other: Tensor, output: Tensor) -> Tensor:
    """By what to multiply `other` for its gradient with respect to the output to be as large as that of `loss`: the
    discriminator's grows and shrinks by orders of magnitude as it learns (Esser et al., arXiv 2012.09841, eq. 7)."""
    one, two = (torch.autograd.grad(term, output, retain_graph=True)[0].norm() for term in (loss, other))
    return one / two.clamp(min=1e-12)


def _cut(config: ZipganConfig) -> ZipganConfig:
    return replace(config, encoder="spectral")


def mean(x: Tensor) -> Tensor:
    """(B,): mean square."""
    return x.square().mean((1, 2, 3, 4))


def blurred(x: Tensor, strength: Tensor, sharp: bool) -> Tensor:
    """Cut, or dampened by a Gaussian, at 1 / 1.5 to 1 / 5.5 of the wave numbers that the grid resolves."""
    spectrum = torch.fft.rfftn(x, dim=(-3, -2, -1))
    k = [torch.fft.fftfreq(n, device=x.device) for n in x.shape[2:-1]]
    grid = torch.stack(torch.meshgrid(*k, torch.fft.rfftfreq(x.shape[-1], device=x.device), indexing="ij"))
    last = 0.5 / (1.5 + 4 * strength)
    gain = (grid.abs().amax(0) <= last) if sharp else torch.exp(-grid.square().sum(0) / last**2)
    return torch.fft.irfftn(spectrum * gain, x.shape[2:], dim=(-3, -2, -1))


def start_from(generator: Generator, critic: Discriminator, path: Path) -> set[str]:
    """Fills networks from a weights file of the same factor or of half of it; returns what was taken over."""
    from ..codecs.weights import load_tensors
    from ..codecs.zipgan import config_from, networks_from

    if not path.is_file():
        raise UsageError(f"start: {path}: no such file; name the weights of half the factor (or of the same one)")
    loaded = load_tensors(path)
    other, _, judge = networks_from(config_from(loaded.metadata), loaded.tensors)
    if other.config.factor not in (generator.config.factor, generator.config.factor // 2):
        raise UsageError(f"start: {path} has factor {other.config.factor}; expected that or half of the recipe's")
    generator.grow_from(other)
    if judge is not None:
        critic.take(judge)
    same = {name for name, _ in other.named_parameters() if not name.startswith("upsample.")}
    return same if other.config.factor != generator.config.factor else set()


def weights_bytes(run: Run, tag: str, references: Tensor) -> bytes:
    """The safetensors file: averaged generator, encoder, discriminator with its normalisation done, its mean logit
    on real fields."""
    from safetensors.torch import save as to_bytes

    from ..codecs.zipgan import metadata, table_state

    tensors = {f"generator.{name}": value for name, value in run.ema.state_dict().items()}
    tensors |= {f"encoder.{name}": value for name, value in run.latents.encoder.state_dict().items()}
    if run.step > run.recipe.adversarial_from:
        plain = run.critic.plain().to(references.device)
        tensors |= {f"critic.{name}": value for name, value in plain.state_dict().items()}
        plain.load_state_dict({name: value.half().float() for name, value in plain.state_dict().items()})
        with torch.no_grad():  # of the rounded ones, in float32, as the codec has them
            logits = torch.stack([plain(x).mean() for x in references.split(1)])
        tensors["critic_reference"] = torch.stack([logits.mean(), logits.std(correction=0)]).float()
    tensors = {
        name: (value if name == "critic_reference" else value.to(torch.float16)).cpu().contiguous()
        for name, value in tensors.items()
    }
    return to_bytes({**tensors, **table_state()}, metadata(run.config, tag))


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """What `codec train zipgan` calls. settings: `model` (ZipganConfig), `recipe` (ZipganRecipe)."""
    from ..codecs.base import check_device

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    fields, held_out = load_fields(data, "train"), load_fields(data, "validation")
    fit(settings, fields, held_out[:: max(1, len(held_out) // 5)], folder, resume, device, about)


def fit(
    settings: Mapping[str, Any],
    fields: Tensor,
    held_out: Tensor,
    folder: Path,
    resume: bool,
    device: str,
    about: Mapping[str, Any],
) -> Run:
    """Fields as `load_fields` returns them; they go to the device as a whole. Writes checkpoints, log and weights."""
    from .cli import fill

    config = fill(ZipganConfig, settings["model"], "model")
    recipe = fill(ZipganRecipe, settings["recipe"], "recipe")
    torch.manual_seed(recipe.seed)
    run = Run(config, recipe, fields.shape[-1], device)
    fields, held_out = fields.to(run.device), held_out.to(run.device)
    checkpoint = folder / "last.ckpt"
    if resume and checkpoint.exists():
        run.load(torch.load(checkpoint, map_location=run.device, weights_only=True))
    low, high = recipe.noise
    levels = (low, (low + high) / 2, high)
    sums: dict[str, Tensor] = {}
    last = saved = looked = time.monotonic()
    torch.backends.cudnn.benchmark = run.device.type == "cuda"

    def write(row: Mapping[str, float]) -> None:
        with (folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        sys.stderr.write("  ".join(f"{key} {value:.5g}" for key, value in row.items()) + "\n")

    metrics: dict[str, float] = {}
    tag, threads = settings["tag"], f"CPU, {torch.get_num_threads()} thread(s)"
    networks = torch.nn.ModuleList([run.generator, run.latents.encoder, run.critic])

    def look() -> None:
        metrics.update(run.look(held_out, levels))
        write({"step": run.step, "seconds": round(run.seconds, 1), **metrics})

    def keep() -> None:
        save(run, checkpoint)
        where = {
            "steps": run.step,
            "seconds": round(run.seconds),
            "device": torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else threads,
            "metrics": metrics,
        }
        data = weights_bytes(run, tag, held_out)
        write_weights(folder, "zipgan", "ZipGAN", tag, data, networks, tag == "8x", {**about, **where})

    try:
        while run.done < recipe.steps:
            # a resumed run draws what it would have drawn
            draw = np.random.default_rng([recipe.seed, run.step])
            torch.manual_seed(recipe.seed * 1_000_003 + run.step)
            x = torch.stack([drawn(fields, draw) for _ in range(recipe.batch)])
            noise = torch.from_numpy(draw.uniform(low, high, recipe.batch)).float().to(run.device)
            for name, value in run.train_step(x, noise).items():
                sums[name] = sums.get(name, 0.0) + value
            now = time.monotonic()
            run.seconds, last = run.seconds + now - last, now
            if run.step % 50 == 0:
                write(
                    {"step": run.step, "seconds": round(run.seconds, 1)}
                    | {name: round(float(value) / 50, 5) for name, value in sums.items()}
                )
                sums.clear()
            if now - saved > recipe.save:
                keep()
                saved = last = time.monotonic()
            if now - looked > recipe.look:
                look()
                looked = last = time.monotonic()
    except KeyboardInterrupt:
        keep()
        raise
    look()
    keep()
    return run


def drawn(fields: Tensor, draw: np.random.Generator) -> Tensor:
    """(3, D, H, W): one of the fields, turned and shifted."""
    x = fields[int(draw.integers(len(fields)))]
    shifts = tuple(int(one) for one in draw.integers(0, x.shape[-1], 3))
    return rotated(x, int(draw.integers(len(ROTATIONS))), shifts)


def save(run: Run, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(run.state(), part)
    os.replace(part, path)
