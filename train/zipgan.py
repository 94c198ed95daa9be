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

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ..codecs.base.weights import load_tensors
from ..codecs.layers import spectral
from ..codecs.zipgan.codec import metadata, networks_from, table_state
from ..codecs.zipgan.networks import Discriminator, FieldEncoder, Generator, ZipganConfig, project, spectral_resample
from ..errors import UsageError
from .checkpoints import Optimizers
from .device_loop import DeviceSteps, run_on_device
from .devices import training_device
from .progress import Progress
from .settings import fill
from .task import CompressionTask, Loss, Schedule

__all__ = ["ZipganRecipe", "ZipganTask", "load_fields", "train"]

VALIDATION, TEST = 8, 9  # seeds that aren't trained on; others from TEST to FIRST aren't either
EMA = 0.998
FIRST = 100  # other seeds that are trained on begin here
WARMUP = 50  # steps
CODED = 2  # held-out fields that are coded to files


@dataclass(frozen=True)
class ZipganRecipe:
    """Everything a run needs besides the data. Steps are optimiser steps of the generator.

    noise: range of log2 of the quantiser's step over the field's root mean square. rate: bits, for learned encoders
    only, in units of what they are worth at high rates. start: weights file of half the factor, or of the same one.
    adversarial: its gradient at the generator's output, in units of the other losses'. window: points a side that the
    discriminator looks at, 0 for whole fields. seconds: ends then at the latest, and the learning rate falls as if the
    steps so far were that part of all. look: seconds between looks at held-out fields.
    """

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


def split_of(seed: int) -> str:
    """Says which split a simulation belongs to, by its seed: train, validation or test."""
    if seed < VALIDATION or seed >= FIRST:
        return "train"
    return "validation" if seed == VALIDATION else "test"


def load_fields(folder: Path, wanted: str) -> Tensor:
    """Loads all snapshots of one split (train, validation): (S, 3, n, n, n) float32, of unit rms each."""
    import h5py

    simulations = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path, "r") as file:
            seed = int(np.asarray(file.attrs.get("seed", TEST + 1)))
            if split_of(seed) == wanted and "velocity" in file:
                fields = np.asarray(file["velocity"], np.float32)  # pyright: ignore[reportArgumentType]
                simulations.append(torch.from_numpy(fields / np.sqrt((fields**2).mean((1, 2, 3, 4), keepdims=True))))
    if not simulations:
        raise UsageError(
            f"{folder}: no simulation for {wanted} there; `codec data turbulence --seed 0 -o {folder}/s0.h5`"
        )
    if len({fields.shape[1:] for fields in simulations}) > 1:
        raise UsageError(f"{folder}: simulations of different sizes; train on one")
    return torch.cat(simulations)


ROTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def rotated(x: Tensor, which: int, shifts: tuple[int, ...] = (0, 0, 0)) -> Tensor:
    """Puts a field (3, D, H, W) through one of the 48 rotations and reflections of the cube, shifted along its axes.

    Component 0 is the one along the last axis. Components turn with the axes, or isotropy is lost.
    """
    order, signs = ROTATIONS[which]
    x = torch.roll(x, shifts, (1, 2, 3))
    x = x.permute(0, *(1 + axis for axis in order))[[2 - order[2 - c] for c in range(3)]]
    flips = [1 + axis for axis in range(3) if signs[axis] < 0]
    x = x.flip(flips)
    return torch.stack([-x[c] if signs[2 - c] < 0 else x[c] for c in range(3)])


class Latents:
    """Quantised latents of fields on the coarse grid, as the codec makes them, but for rounding errors of float32."""

    def __init__(self, config: ZipganConfig, size: int, device: str | torch.device = "cpu") -> None:
        self.config = config
        self.encoder = FieldEncoder(config).to(device)
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
        """Makes latents (B, C, D, H, W) by the codec's quantiser. noise: (B,), log2 of step over rms."""
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
        """Makes latents of learned encoders by straight-through rounding, and their bits (B,) as Gaussian shells."""
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
    """Takes central differences (B, 3 C, ...) of periodic fields (B, C, ...), in units of the grid."""
    return torch.cat([(x.roll(-1, axis) - x.roll(1, axis)) / 2 for axis in (-1, -2, -3)], 1)


def divergence(x: Tensor) -> Tensor:
    """Computes the divergence (B, ...) of velocities (B, 3, ...), whose component 0 is along the last axis."""
    return sum((x[:, i].roll(-1, -1 - i) - x[:, i].roll(1, -1 - i)) / 2 for i in range(3))  # type: ignore[return-value]


class _Supervised(NamedTuple):
    loss: Tensor
    metrics: dict[str, Tensor]
    raw: Tensor  # the generator's fields
    back: Tensor  # without divergence, and without what the solver doesn't resolve
    base: Tensor  # the same of interpolated latents


class ZipganTask(CompressionTask):
    """Trains a generator (and encoder, if it is learned), then both against a discriminator; for `run_on_device`."""

    family, title, default_tag = "zipgan", "ZipGAN", "8x"
    log_every = 50
    codes_along = False
    exports_along = True
    net: Generator
    ema: Generator

    def __init__(
        self, config: ZipganConfig, recipe: ZipganRecipe, size: int, tag: str = "", device: str | torch.device = "cpu"
    ) -> None:
        """Makes the networks. size: values to a side of the fields."""
        latents = Latents(config, size, device)
        # what the losses are measured against
        cut = latents if config.encoder == "spectral" else Latents(replace(config, encoder="spectral"), size, device)
        generator, critic = Generator(config), Discriminator(config)
        inherited = start_from(generator, critic, Path(recipe.start)) if recipe.start else set()
        generator.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
        critic.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
        schedule = Schedule(recipe.steps, recipe.decay_from, WARMUP, seconds=recipe.seconds)
        super().__init__(generator, schedule, recipe.lr, EMA, 1.0, recipe.seed, tag)
        self.config, self.recipe, self.latents, self.cut, self.inherited = config, recipe, latents, cut, inherited
        self.encoder, self.critic = latents.encoder, critic
        self.to(device)
        self.save_seconds, self.validate_seconds = recipe.save, recipe.look
        self.reach = ((size - 1) // 3,) * 3  # what the solver resolves
        self.window: tuple[slice, ...] = ()

    # ---- steps

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups what is new, and what was taken over from the weights of another factor."""
        named, recipe = [*self.net.named_parameters()], self.recipe
        old = [p for name, p in named if name in self.inherited]
        new = [p for name, p in named if name not in self.inherited] + list(self.encoder.parameters())
        return [{"params": new, "lr": recipe.lr}, {"params": old, "lr": recipe.lr * recipe.frozen_lr}]

    def set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        super().set_rates(optimizer)
        if self.step < self.recipe.frozen:
            optimizer.param_groups[1]["lr"] = 0.0

    def named_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Makes Adam for generator and discriminator, by their names in a checkpoint."""
        critic = torch.optim.Adam(self.critic.parameters(), lr=self.recipe.critic_lr, betas=(0.5, 0.99))
        return {"optimizer": self.configure_optimizers(), "critic_optimizer": critic}

    def decode(self, z: Tensor, noise: Tensor, shape: tuple[int, ...], generator: Generator | None = None) -> Tensor:
        """Generates fields (B, 3, *shape) of unit rms, before the projection, from latents (B, C, d, h, w).

        generator: another one than the one that is trained.
        """
        generator = self.net if generator is None else generator
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            residual = generator(z.to(memory_format=torch.channels_last_3d), noise)
        return spectral_resample(z, shape) + residual.float()

    def optimise(self, batch: tuple[Tensor, Tensor], optimizers: Optimizers) -> Mapping[str, Tensor]:
        """Takes one step of both networks on fields (B, 3, n, n, n) and log2 of their quantiser's steps (B,)."""
        x, noise = batch
        made = self._supervised(x, noise)
        loss = Loss(made.loss, made.metrics)
        if self.step >= self.recipe.adversarial_from:
            more = self._adversarial(x, made, optimizers["critic_optimizer"])
            loss = Loss(more.total, {**loss.metrics, **more.metrics})
        optimizer = optimizers["optimizer"]
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        optimizer.step()
        return {"loss": loss.total.detach(), **loss.metrics}

    def _supervised(self, x: Tensor, noise: Tensor) -> _Supervised:
        """Codes fields (B, 3, n, n, n), and computes the loss without a discriminator."""
        recipe, shape = self.recipe, tuple(x.shape[2:])
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
        return _Supervised(loss, {"error": error.detach(), "gradient": slope.detach()}, raw, back, base)

    def _adversarial(self, x: Tensor, made: _Supervised, optimizer: torch.optim.Optimizer) -> Loss:
        """Takes a step of the discriminator, and adds to the loss what it says of the generator's fields."""
        recipe = self.recipe
        self._draw_window(tuple(x.shape[2:]))
        metrics = self._critic_step(x, made.back.detach(), made.base, optimizer)
        self.critic.requires_grad_(False)
        with torch.no_grad():
            real = self._logits(x)
        fake = self._logits(made.back)
        self.critic.requires_grad_(True)
        against = F.binary_cross_entropy_with_logits(fake - real.mean(), torch.ones_like(fake))
        against = against + F.binary_cross_entropy_with_logits(real - fake.mean(), torch.zeros_like(real))
        metrics["adversarial"] = against.detach()
        loss = made.loss
        if self.step >= recipe.adversarial_from + recipe.alone:
            loss = loss + recipe.adversarial * _balance(loss, against, made.raw) * against
        return Loss(loss, metrics)

    def _draw_window(self, shape: tuple[int, ...]) -> None:
        """Draws where the discriminator looks: a piece of the field will do, where whole ones take too long."""
        side = self.recipe.window or max(shape)
        starts = [int(torch.randint(max(1, size - side + 1), ())) for size in shape]
        self.window = tuple(slice(start, start + side) for start in starts)

    def _logits(self, x: Tensor) -> Tensor:
        """Returns the discriminator's logits of fields in the present window: the more, the likelier a simulation's."""
        whole = self.recipe.window in (0, *x.shape[2:])
        x = x[(slice(None), slice(None), *self.window)].contiguous(memory_format=torch.channels_last_3d)
        with parametrize.cached():
            for layer in self.critic.layers:  # normalised in float32
                _ = layer.weight
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                return self.critic(x, periodic=whole).float()

    def _critic_step(
        self, x: Tensor, made: Tensor, base: Tensor, optimizer: torch.optim.Optimizer
    ) -> dict[str, Tensor]:
        """Takes one step of the discriminator, on what the generator made and on degraded real fields, in turns."""
        kind = (torch.arange(len(x), device=x.device) + self.step)[:, None, None, None, None] % 4
        strength = torch.rand(kind.shape, device=x.device)
        noise = torch.randn_like(x)
        if self.step // 4 % 2:
            noise = project(noise, self.reach)
        fake = torch.where(kind == 1, base, made)
        fake = torch.where(kind == 2, x + noise * 10 ** (-2.5 + 2 * strength), fake)
        fake = torch.where(kind == 3, blurred(x, strength, sharp=self.step // 4 % 2 == 0), fake)
        real, false = self._logits(x), self._logits(fake)
        loss = F.binary_cross_entropy_with_logits(real - false.mean(), torch.ones_like(real))
        loss = loss + F.binary_cross_entropy_with_logits(false - real.mean(), torch.zeros_like(false))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"critic": loss.detach()}

    # ---- held-out fields, and what comes out

    @property
    def levels(self) -> tuple[float, float, float]:
        """The steps that held-out fields are quantised with: log2 of a step over the field's root mean square."""
        low, high = self.recipe.noise
        return low, (low + high) / 2, high

    @torch.no_grad()
    def estimate(self) -> dict[str, float]:
        """Measures relative errors of values and gradients, of the averaged generator and of interpolation alone."""
        metrics: dict[str, float] = {}
        names = ("base_error", "base_gradient", "base_dissipation", "error", "gradient", "dissipation")
        for level in self.levels:
            rows = []
            for x in self.held_out:
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
                metrics[f"val_{name}_{level:g}"] = round(value, 5)
        return metrics

    def code_with(self, codec: Any) -> dict[str, float]:
        """Measures the ratio of float32 values to whole files, and the relative error of what is decoded."""
        metrics: dict[str, float] = {}
        for level in self.levels:
            quality = min(100.0, max(1.0, 10 * (3 - level)))  # `ZipganCodec.step`
            n_values, n_bytes, errors = 0, 0, []
            for field in self.held_out[:CODED]:
                x = field[0].cpu().numpy()
                data = codec.compress(x, quality)
                back = codec.decompress(data)
                n_values, n_bytes = n_values + x.size, n_bytes + len(data)
                errors.append(math.sqrt(float(np.square(back - x).mean() / np.square(x).mean())))
            metrics[f"file_ratio_{level:g}"] = round(4 * n_values / n_bytes, 5)
            metrics[f"file_error_{level:g}"] = round(float(np.mean(errors)), 5)
        return metrics

    def n_parameters(self) -> int:
        networks = (self.net, self.encoder, self.critic)
        return sum(parameter.numel() for network in networks for parameter in network.parameters())

    def weights_bytes(self, final: bool = False) -> bytes:
        """Returns the safetensors file: averaged generator, encoder, discriminator with its normalisation done.

        With a discriminator, also mean and spread of its logits of real fields.
        """
        from safetensors.torch import save as to_bytes

        tensors = {f"generator.{name}": value for name, value in self.ema.state_dict().items()}
        tensors |= {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        if self.step > self.recipe.adversarial_from:
            plain = self.critic.plain().to(self.device)
            tensors |= {f"critic.{name}": value for name, value in plain.state_dict().items()}
            plain.load_state_dict({name: value.half().float() for name, value in plain.state_dict().items()})
            with torch.no_grad():  # of the rounded ones, in float32, as the codec has them
                logits = torch.stack([plain(x).mean() for x in self.held_out])
            tensors["critic_reference"] = torch.stack([logits.mean(), logits.std(correction=0)]).float()
        tensors = {
            name: (value if name == "critic_reference" else value.to(torch.float16)).cpu().contiguous()
            for name, value in tensors.items()
        }
        return to_bytes({**tensors, **table_state()}, metadata(self.config, self.tag))


def _balance(loss: Tensor, other: Tensor, output: Tensor) -> Tensor:
    """Returns the factor that makes the gradient of `other` with respect to the output as large as that of `loss`.

    The discriminator's grows and shrinks by orders of magnitude as it learns (Esser et al., arXiv 2012.09841, eq. 7).
    """
    wanted, actual = (torch.autograd.grad(term, output, retain_graph=True)[0].norm() for term in (loss, other))
    return wanted / actual.clamp(min=1e-12)


def mean(x: Tensor) -> Tensor:
    """Returns the mean square (B,) of each field."""
    return x.square().mean((1, 2, 3, 4))


def blurred(x: Tensor, strength: Tensor, sharp: bool) -> Tensor:
    """Cuts fields off, or dampens them by a Gaussian, at 1 / 1.5 to 1 / 5.5 of the wave numbers of the grid."""
    spectrum = torch.fft.rfftn(x, dim=(-3, -2, -1))
    k = [torch.fft.fftfreq(n, device=x.device) for n in x.shape[2:-1]]
    grid = torch.stack(torch.meshgrid(*k, torch.fft.rfftfreq(x.shape[-1], device=x.device), indexing="ij"))
    last = 0.5 / (1.5 + 4 * strength)
    gain = (grid.abs().amax(0) <= last) if sharp else torch.exp(-grid.square().sum(0) / last**2)
    return torch.fft.irfftn(spectrum * gain, x.shape[2:], dim=(-3, -2, -1))


def start_from(generator: Generator, critic: Discriminator, path: Path) -> set[str]:
    """Fills networks from a weights file of the same factor or of half of it.

    Returns names of the generator's parameters that were taken over and are at first kept as they are.
    """
    if not path.is_file():
        raise UsageError(f"start: {path}: no such file; name the weights of half the factor (or of the same one)")
    loaded = load_tensors(path)
    other, _, judge = networks_from(loaded)
    if other.config.factor not in (generator.config.factor, generator.config.factor // 2):
        raise UsageError(f"start: {path} has factor {other.config.factor}; expected that or half of the recipe's")
    generator.grow_from(other)
    if judge is not None:
        critic.take(judge)
    same = {name for name, _ in other.named_parameters() if not name.startswith("upsample.")}
    return same if other.config.factor != generator.config.factor else set()


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe (see train/recipes/zipgan) to its end, from where it stopped if `resume`, and exports the weights.

    All fields go to the device as a whole. about: fields of the manifest that only the caller knows.
    """
    config = fill(ZipganConfig, settings["model"], "model")
    recipe = fill(ZipganRecipe, settings["recipe"], "recipe")
    fields, held_out = load_fields(data, "train"), load_fields(data, "validation")
    held_out = held_out[:: max(1, len(held_out) // 5)]
    torch.manual_seed(recipe.seed)
    task = ZipganTask(config, recipe, fields.shape[-1], settings["tag"], training_device(device))
    fields, task.held_out = fields.to(task.device), held_out.to(task.device).split(1)
    torch.backends.cudnn.benchmark = task.device.type == "cuda"
    steps = DeviceSteps(task, lambda: batch_of(fields, task), task.named_optimizers())
    run_on_device(steps, Progress(task, folder, about), resume)


def batch_of(fields: Tensor, task: ZipganTask) -> tuple[Tensor, Tensor]:
    """Draws the batch of the next step: fields, turned and shifted, and log2 of the steps of their quantisers."""
    recipe = task.recipe
    draw = np.random.default_rng([recipe.seed, task.step])
    x = torch.stack([drawn(fields, draw) for _ in range(recipe.batch)])
    return x, torch.from_numpy(draw.uniform(*recipe.noise, recipe.batch)).float().to(fields.device)


def drawn(fields: Tensor, draw: np.random.Generator) -> Tensor:
    """Draws one of the fields, turned and shifted: (3, D, H, W)."""
    x = fields[int(draw.integers(len(fields)))]
    shifts = tuple(int(shift) for shift in draw.integers(0, x.shape[-1], 3))
    return rotated(x, int(draw.integers(len(ROTATIONS))), shifts)
