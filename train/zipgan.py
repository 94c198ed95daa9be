"""Training of ZipGAN: generator (and encoder, if it is learned) on simulations, then against a discriminator.

    codec data turbulence --seed 0 --snapshots 40 --spacing 1 -o DIR/s0.h5      # 0 to 7; 8 validates, 9 is for tests
    codec train zipgan --recipe 8x --data DIR; codec train zipgan --recipe 64x --data DIR ...

Nista et al., arXiv 2412.14150: progressive transfer from factor 2 to 4 to 8 (`start`: weights of half the factor; what
is taken over is frozen for the first tenth). Loss: squared error, squared error of the gradient and divergence, each in
units of what the interpolation of the latents has, so that all quantiser steps count alike; then, from
`adversarial_from` on, a relativistic average adversarial loss (RaGAN, arXiv 1807.00734) beside them. The discriminator
also sees blurred, noisy and merely interpolated fields, so that it can judge what this generator never makes.

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
from dataclasses import asdict, dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..codecs.layers import spectral
from ..codecs.zipgan_net import Discriminator, Encoder, Generator, ZipganConfig, project, spectral_resample
from ..errors import UsageError
from .weights import write_weights

__all__ = ["ZipganRecipe", "load_fields", "train"]

VALIDATION, TEST = 8, 9  # seeds that aren't trained on; others above TEST aren't either
EMA = 0.998
WINDOW = 32  # points a side that the discriminator looks at


@dataclass(frozen=True)
class ZipganRecipe:
    """noise: range of log2 of the quantiser's step over the field's root mean square. rate: bits against relative
    squared error, for learned encoders only. start: weights file of half the factor, or of the same one."""

    steps: int
    decay_from: int
    noise: tuple[float, float]
    lr: float = 1e-3
    batch: int = 1
    gradient: float = 0.5
    divergence: float = 0.05
    adversarial: float = 0.01
    adversarial_from: int = 1 << 60
    critic_lr: float = 5e-4
    frozen: int = 0
    frozen_lr: float = 1.0  # of what was taken over, afterwards, relative to lr
    rate: float = 0.02
    bf16: bool = True
    seed: int = 1
    start: str = ""


def load_fields(folder: Path, wanted: str) -> Tensor:
    """(S, 3, n, n, n) float32: all snapshots of the simulations of one part (train, validation), of unit rms each."""
    import h5py

    found = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path, "r") as file:
            seed = int(np.asarray(file.attrs.get("seed", TEST + 1)))
            part = "train" if seed < VALIDATION else "validation" if seed == VALIDATION else "test"
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
    turn = torch.tensor([signs[2 - c] for c in range(3)], dtype=x.dtype)
    return x * turn[:, None, None, None]


class Latents:
    """Fields to quantised latents on the coarse grid, as the codec does it."""

    def __init__(self, config: ZipganConfig, size: int) -> None:
        self.config = config
        self.encoder = Encoder(config)
        side = -(-size // config.factor)
        whole = (size,) * 3 if config.encoder == "spectral" else (side,) * 3
        order: spectral.Order = "x-last" if config.encoder == "spectral" else "none"
        self.modes = spectral.Modes(whole, (side,) * 3, config.components, True, order)
        self.coarse = (side,) * 3

    def hard(self, x: Tensor, noise: float) -> Tensor:
        """(C, D, H, W), by the codec's own quantiser."""
        source = x if self.config.encoder == "spectral" else self.encoder(x[None])[0]
        mean, c = self.modes.analyse(source.detach().double().numpy())
        step = 2.0**noise
        rows = spectral.rows_of(self.modes, spectral.levels_of(self.modes, c, step), len(c))
        back = spectral.restore(spectral.quantise(c, step, rows), step, rows)
        return torch.from_numpy(self.modes.synthesise(mean, back, self.coarse)).float()

    def soft(self, x: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        """(z_hat, bits) of learned encoders: rounding with the gradient of the identity, Gaussian shells."""
        z = self.encoder(x[None])
        spectrum = torch.fft.fftn(z.float(), dim=(-3, -2, -1), norm="ortho")
        step, n = 2.0**noise, z.shape[-1]
        k = torch.fft.fftfreq(n, 1 / n)
        shell = torch.stack(torch.meshgrid(k, k, k, indexing="ij")).square().sum(0).sqrt().round().long().flatten()
        power = spectrum.abs().square().sum((0, 1)).flatten() / (2 * z.shape[1])
        sums = torch.zeros(int(shell.max()) + 1).index_add(0, shell, power)
        spread = sums / torch.bincount(shell).clamp(min=1) / step**2
        bits = 0.5 * torch.log2(1 + 2 * math.pi * math.e * spread)[shell].sum() * z.shape[1]
        keep = (spread > (2 * 0.08) ** 2)[shell].reshape(n, n, n)
        parts = torch.view_as_real(spectrum) / step
        parts = parts + (parts.round() - parts).detach()
        rounded = torch.view_as_complex(parts * step) * keep
        return torch.fft.ifftn(rounded, dim=(-3, -2, -1), norm="ortho").real[0], bits


def gradient(x: Tensor) -> Tensor:
    """(B, 3 C, ...): central differences of periodic fields, in units of the grid."""
    return torch.cat([(x.roll(-1, axis) - x.roll(1, axis)) / 2 for axis in (-1, -2, -3)], 1)


def divergence(x: Tensor) -> Tensor:
    """(B, ...): of velocities with component 0 along the last axis."""
    return sum((x[:, i].roll(-1, -1 - i) - x[:, i].roll(1, -1 - i)) / 2 for i in range(3))  # type: ignore[return-value]


class Run:
    """Networks, optimisers and averages of a run; all of it is in the checkpoint."""

    def __init__(self, config: ZipganConfig, recipe: ZipganRecipe, size: int) -> None:
        self.config, self.recipe = config, recipe
        self.latents = Latents(config, size)
        self.reach = ((size - 1) // 3,) * 3  # what the solver resolves
        self.generator, self.critic = Generator(config), Discriminator(config)
        self.generator.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
        self.inherited: set[str] = set()
        if recipe.start:
            self.inherited = start_from(self.generator, self.critic, Path(recipe.start))
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        named = [*self.generator.named_parameters()]
        old = [p for name, p in named if name in self.inherited]
        new = [p for name, p in named if name not in self.inherited] + list(self.latents.encoder.parameters())
        self.optimizer = torch.optim.Adam([{"params": new}, {"params": old}], lr=recipe.lr, betas=(0.9, 0.99))
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=recipe.critic_lr, betas=(0.5, 0.99))
        self.step, self.seconds = 0, 0.0
        self.window: tuple[slice, ...] = ()

    def decode(self, z: Tensor, noise: Tensor, shape: tuple[int, ...], net: Generator | None = None) -> Tensor:
        """Latents (B, C, d, h, w) of fields of unit rms to fields, before the projection."""
        net = self.generator if net is None else net
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            residual = net(z.to(memory_format=torch.channels_last_3d), noise)
        return spectral_resample(z, shape) + residual.float()

    def train_step(self, x: Tensor, noise: float) -> dict[str, float]:
        """x: (1, 3, D, H, W)."""
        recipe, shape = self.recipe, tuple(x.shape[2:])
        self._set_rates()
        bits = torch.zeros(())
        if self.config.encoder == "learned":
            z, bits = self.latents.soft(x[0], noise)
        else:
            with torch.no_grad():
                z = self.latents.hard(x[0], noise)
        z = z[None]
        raw = self.decode(z, torch.tensor([noise]), shape)
        back = project(raw, self.reach)
        with torch.no_grad():
            base = project(spectral_resample(z.detach(), shape), self.reach)
            base_error = (base - x).square().mean() + 1e-8
            base_gradient = (gradient(base) - gradient(x)).square().mean() + 1e-8
        error = (back - x).square().mean()
        slope = (gradient(back) - gradient(x)).square().mean()
        loss = error / base_error + recipe.gradient * slope / base_gradient
        loss = loss + recipe.divergence * divergence(raw).square().mean() / base_gradient
        if self.config.encoder == "learned":
            loss = error / 0.01 + recipe.gradient * slope / 0.01 + recipe.rate * bits / x[0].numel() * 64
        out = {"error": float((error / base_error).detach()), "gradient": float((slope / base_gradient).detach())}
        if self.step >= recipe.adversarial_from:
            self._choose_window(shape)
            out |= self._critic_step(x, back.detach(), base)
            real, fake = self._judge(x), self._judge(back)
            against = F.binary_cross_entropy_with_logits(fake - real.mean(), torch.ones_like(fake))
            against = against + F.binary_cross_entropy_with_logits(real - fake.mean(), torch.zeros_like(real))
            loss = loss + recipe.adversarial * against
            out["against"] = float(against.detach())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            decay = min(EMA, (self.step + 1) / (self.step + 20))
            for target, source in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
                target.lerp_(source, 1 - decay)
        return {"loss": float(loss.detach()), **out}

    def _choose_window(self, shape: tuple[int, ...]) -> None:
        """The discriminator judges patches: a part of the field will do."""
        starts = [int(torch.randint(max(1, size - WINDOW + 1), ())) for size in shape]
        self.window = tuple(slice(start, start + WINDOW) for start in starts)

    def _judge(self, x: Tensor) -> Tensor:
        x = x[(slice(None), slice(None), *self.window)]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            return self.critic(x.to(memory_format=torch.channels_last_3d), periodic=False).float()

    def _critic_step(self, x: Tensor, made: Tensor, base: Tensor) -> dict[str, float]:
        """One step of the discriminator, on what the generator made or on a real field that was spoilt."""
        kind = self.step % 4
        if kind == 1:
            fake = base
        elif kind == 2:
            fake = x + torch.randn_like(x) * 10 ** (-2.5 + 2 * torch.rand(()))
        elif kind == 3:
            side = [int(x.shape[-1] // (1.5 + 4 * float(torch.rand(()))))] * 3
            fake = spectral_resample(spectral_resample(x, tuple(side)), tuple(x.shape[2:]))
        else:
            fake = made
        real, false = self._judge(x), self._judge(fake)
        loss = F.binary_cross_entropy_with_logits(real - false.mean(), torch.ones_like(real))
        loss = loss + F.binary_cross_entropy_with_logits(false - real.mean(), torch.zeros_like(false))
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        return {"critic": float(loss.detach())}

    def _set_rates(self) -> None:
        recipe = self.recipe
        progress = (self.step - recipe.decay_from) / max(1, recipe.steps - recipe.decay_from)
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
        for noise in levels:
            rows = []
            for x in fields:
                z = self.latents.hard(x, noise)[None]
                shape = tuple(x.shape[1:])
                base = project(spectral_resample(z, shape), self.reach)
                back = project(self.decode(z, torch.tensor([noise]), shape, self.ema), self.reach)
                row = []
                for y in (base, back):
                    row += [
                        float(((y - x) ** 2).mean().sqrt() / (x**2).mean().sqrt()),
                        float((gradient(y) - gradient(x[None])).square().mean().sqrt() / gradient(x[None]).std()),
                        float(gradient(y).square().mean() / gradient(x[None]).square().mean()),
                    ]
                rows.append(row)
            names = ("base_error", "base_gradient", "base_dissipation", "error", "gradient", "dissipation")
            for name, value in zip(names, np.mean(rows, 0), strict=True):
                found[f"val_{name}_{noise:g}"] = round(float(value), 5)
        return found


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
        plain = run.critic.plain()
        tensors |= {f"critic.{name}": value for name, value in plain.state_dict().items()}
        with torch.no_grad():
            logits = torch.stack([plain(x[None]).mean() for x in references])
        tensors["critic_reference"] = torch.stack([logits.mean(), logits.std(correction=0)]).float()
    tensors = {
        name: (value if name == "critic_reference" else value.to(torch.float16)).contiguous()
        for name, value in tensors.items()
    }
    return to_bytes({**tensors, **table_state()}, metadata(run.config, tag))


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """What `codec train zipgan` calls. settings: `model` (ZipganConfig), `recipe` (ZipganRecipe)."""
    from .cli import fill

    if device not in ("auto", "cpu"):
        raise UsageError("zipgan trains on the CPU so far: leave out --device")
    config = fill(ZipganConfig, settings["model"], "model")
    recipe = fill(ZipganRecipe, settings["recipe"], "recipe")
    fields, held_out = load_fields(data, "train"), load_fields(data, "validation")
    held_out = held_out[:: max(1, len(held_out) // 5)]
    torch.manual_seed(recipe.seed)
    run = Run(config, recipe, fields.shape[-1])
    checkpoint = folder / "last.ckpt"
    if resume and checkpoint.exists():
        run.load(torch.load(checkpoint, map_location="cpu", weights_only=True))
    low, high = recipe.noise
    levels = (low, (low + high) / 2, high)
    sums: dict[str, list[float]] = {}
    last, saved, looked = time.monotonic(), time.monotonic(), time.monotonic()

    def write(row: Mapping[str, float]) -> None:
        with (folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        sys.stderr.write("  ".join(f"{key} {value:.5g}" for key, value in row.items()) + "\n")

    try:
        while run.step < recipe.steps:
            # a resumed run draws what it would have drawn
            draw = np.random.default_rng([recipe.seed, run.step])
            torch.manual_seed(recipe.seed * 1_000_003 + run.step)
            x = fields[int(draw.integers(len(fields)))]
            shifts = tuple(int(one) for one in draw.integers(0, x.shape[-1], 3))
            x = rotated(x, int(draw.integers(len(ROTATIONS))), shifts).contiguous()
            for name, value in run.train_step(x[None], float(draw.uniform(low, high))).items():
                sums.setdefault(name, []).append(value)
            now = time.monotonic()
            run.seconds, last = run.seconds + now - last, now
            if run.step % 50 == 0:
                write(
                    {"step": run.step, "seconds": round(run.seconds, 1)}
                    | {name: round(float(np.mean(values)), 5) for name, values in sums.items()}
                )
                sums.clear()
            if now - saved > 120:
                save(run, checkpoint)
                saved = now
            if now - looked > 600:
                write({"step": run.step, "seconds": round(run.seconds, 1), **run.look(held_out, levels)})
                looked = last = time.monotonic()
    except KeyboardInterrupt:
        save(run, checkpoint)
        raise
    save(run, checkpoint)
    metrics = run.look(held_out, levels)
    write({"step": run.step, "seconds": round(run.seconds, 1), **metrics})
    tag = settings["tag"]
    where = {
        "steps": run.step,
        "seconds": round(run.seconds),
        "device": f"CPU, {torch.get_num_threads()} thread(s)",
        "metrics": metrics,
    }
    networks = torch.nn.ModuleList([run.generator, run.latents.encoder, run.critic])
    write_weights(
        folder, "zipgan", "ZipGAN", tag, weights_bytes(run, tag, held_out), networks, tag == "8x", {**about, **where}
    )


def save(run: Run, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(run.state(), part)
    os.replace(part, path)
