"""Training of VQGAN's network `small`, in two kinds of stages, on what S2LIC has learned.

Stage "latents": encoder, codebooks and token network, the synthesis left out: the latents that the token network makes
are compared with those of S2LIC's analysis. It starts as a transform codec: both networks copy the first coefficients
of the linear map, which are sorted by their energy, and codebooks are K-means of them. Pictures are transformed once,
before the first step, so a step costs a hundredth of one with pixels.

Stage "pixels": all layers and a discriminator, by L1, distances of features and the adversarial game (Esser et al.,
arXiv 2012.09841). With `adversarial_features` a second discriminator judges those features (Sauer et al., arXiv
2111.01007). Codebooks are K-means of the encoder's outputs, gone on with every `cluster_every` steps, until the encoder
is frozen at `freeze_from`: from then on the decoder learns for codebooks that stay as they are.

Each step takes two of the codebooks, the likelier the more they are used. Differs from the paper (Mao et al., arXiv
2307.08265): codebooks are trained together; the adaptive weight is taken at the pictures, and bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...codecs.base.weights import SHIPPED, load_tensors
from ...codecs.layers.exact_network import fill_network
from ...codecs.s2lic.config import S2licConfig
from ...codecs.s2lic.network import S2licNet
from ...codecs.s2lic.weights import read_model
from ...codecs.vqgan.config import VqganConfig
from ...codecs.vqgan.network import Level, VqganNet
from ...codecs.vqgan.quantiser import nearest, refined_clusters
from ...codecs.vqgan.torch_model import exported, load_network
from ...codecs.vqgan.weights import metadata
from ...datasets.images import DeviceCrops, smaller
from ...entropy.exact import ExactConv2d, FixedPoint
from ...errors import UsageError, WeightsError
from ...media.distortion import psnr_of_mse
from ..checkpoints import Optimizers, read_checkpoint
from ..circuit_mix import sorted_header
from ..device_loop import DeviceSteps, run_on_device
from ..devices import training_device
from ..photos import code_pictures, photos_in
from ..progress import Progress
from ..settings import fill
from ..task import Loss, Schedule
from ..twins import TwinTask, quantisers, twin_of
from .discriminator import DiscriminatorConfig, FeatureDiscriminator, PatchDiscriminator
from .extractors import EXTRACTORS
from .game import check_finite, critic_step, feature_critic_step
from .losses import FeatureDistance, feature_matching, generator_loss

__all__ = ["LatentCrops", "VqganSmallRecipe", "VqganSmallTask", "check_settings", "train"]

CELL = 16  # pixels to a side
ADVICE = "name weights of s2lic for stage `latents`, a checkpoint or weights of vqgan for stage `pixels`"
FREEZE, ENCODER = "freeze", "encoder"  # phases of the two stages
_SCALES = (1.0, 1.0, 0.85, 0.7)
_SMALL = 0.02  # added to deviations: no channel is out of proportion


@dataclass(frozen=True)
class VqganSmallRecipe:
    """Everything a run needs besides the data. Steps are optimiser steps."""

    steps: int
    decay_from: int
    stage: Literal["latents", "pixels"]
    start: str  # weights of s2lic, or a checkpoint or weights of vqgan
    shares: tuple[float, ...]  # how often each codebook is taken, relative to the others
    batch: int = 4
    crop: int = 192
    lr: float = 3e-4
    encoder_lr: float = 0.4  # relative to lr; the same for
    synthesis_lr: float = 0.6
    critic_lr: float = 2e-4
    warmup: int = 100
    encoder_from: int = 0  # stage "latents": the decoder learns alone before
    freeze_from: int = 1 << 60  # stage "pixels": the encoder stays as it is from here on
    hard_from: int = 1 << 60  # twins in fixed point from here on
    cluster_every: int = 300  # steps between two rounds of K-means
    cluster_cells: int = 60_000  # vectors in one
    rounds: int = 4  # stage "latents": times that each picture is transformed, at other sizes and offsets
    commitment: float = 0.5
    pixels: float = 1.5  # weights in stage "pixels": of L1,
    hed_vgg: float = 0.15  # of the distances of features,
    efficientnet_lite0: float = 0.15
    texture: float = 0.25  # of HED-VGG's texture term,
    adversarial: float = 0.2  # of the adversarial gradient, relative to that of all before,
    matching: float = 0.0  # and of the discriminator's features;
    adversarial_features: float = 0.0  # of the gradient of the discriminator of features
    most_weight: float = 10.0
    critic_from: int = 0
    adversarial_from: int = 0
    critic_width: int = 48
    critic_layers: int = 3
    critic_norm: Literal["group", "none"] = "none"
    spectral: bool = True
    penalty: float = 0.0
    ema: float = 0.999
    clip: float = 0.5
    bf16: bool = True
    scales: tuple[float, ...] = (0.85, 0.7)
    seconds: float = 0.0  # if not 0, the run takes so long, and numbers of steps are shares of `steps`
    seed: int = 1
    look: float = 1200.0  # seconds between looks at held-out pictures
    save: float = 300.0  # and between checkpoints

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        whole = {"steps": 1, "decay_from": 0, "batch": 1, "crop": CELL, "warmup": 1, "encoder_from": 0, "seed": 0}
        whole |= {"freeze_from": 0, "hard_from": 0, "cluster_every": 1, "cluster_cells": 1, "rounds": 1}
        for name, least in {**whole, "critic_from": 0, "adversarial_from": 0}.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} is {value!r:.80}; expected a whole number of {least} or more")
        numbers = ("lr", "encoder_lr", "synthesis_lr", "critic_lr", "commitment", "pixels", "hed_vgg", "texture")
        numbers += ("efficientnet_lite0", "adversarial", "matching", "adversarial_features", "most_weight", "penalty")
        for name in (*numbers, "ema", "clip", "seconds", "look", "save"):
            _check_number(name, getattr(self, name))
        for name in ("shares", "scales"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(f"{name} is {getattr(self, name)!r:.80}; expected a list of numbers")
            for value in getattr(self, name):
                _check_number(name, value)
        if self.stage not in ("latents", "pixels"):
            raise ValueError(f"stage is {self.stage!r:.80}; there are latents, pixels")
        if self.crop % CELL:
            raise ValueError(f"crop is {self.crop}; expected a multiple of {CELL}")
        if not isinstance(self.start, str) or not self.start:
            raise ValueError(f"start is {self.start!r:.80}: {ADVICE}")
        if self.stage == "pixels" and self.texture and not self.hed_vgg and self.texture != type(self).texture:
            raise ValueError("texture is a term of the distance hed_vgg, which is 0: make that larger, or texture 0")
        self.critic  # noqa: B018  checks its settings

    @property
    def critic(self) -> DiscriminatorConfig:
        return DiscriminatorConfig(self.critic_width, self.critic_layers, self.critic_norm, self.spectral)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ValueError(f"{name} is {value!r:.80}; expected a number of 0 or more, written like 1.0e-3")


# ---- channels in proportion


class _Scaled(nn.Module):
    """Rows of a kernel in units of their own: Adam takes steps of one size, whatever the channel's."""

    unit: Tensor

    def __init__(self, unit: Tensor) -> None:
        super().__init__()
        self.register_buffer("unit", unit.reshape(-1, 1, 1, 1).clone())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.unit

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.unit


def _scaled_layers(net: VqganNet) -> list[nn.Conv2d]:
    return [net.leave.layer.conv, *(cast(Level, level).quant for level in net.levels.values())]


def with_units(net: VqganNet, words: Tensor, latents: Tensor) -> VqganNet:
    """Trains the layers that make vectors (D,) and latents (M,) in these units, from now on."""
    for layer in _scaled_layers(net):
        unit = latents if layer is net.leave.layer.conv else words
        parametrize.register_parametrization(layer, "weight", _Scaled(unit))
    return net


def without_units(net: VqganNet) -> VqganNet:
    """Copies a network, its kernels as they are used."""
    # not a deep copy: taking units off that one would take them off the original, whose classes it shares
    plain = VqganNet(net.config).to(next(net.parameters()).device)
    values = net.state_dict() | {f"{name}.weight": layer.weight.detach() for name, layer in _named_scaled(net)}
    plain.load_state_dict({name: value for name, value in values.items() if ".parametrizations." not in name})
    for target, source in zip(quantisers(plain), quantisers(net), strict=True):
        target.peak.copy_(source.peak)
        target._calls = source._calls
    for target, source in zip(plain.modules(), _plain_modules(net), strict=True):
        if isinstance(target, (ExactConv2d, FixedPoint)):
            target.mode = source.mode
    return plain.train(net.training)


def _named_scaled(net: VqganNet) -> list[tuple[str, nn.Conv2d]]:
    names = {module: name for name, module in net.named_modules()}
    return [(names[layer], layer) for layer in _scaled_layers(net)]


def _plain_modules(net: VqganNet) -> list[Any]:
    return [part for name, part in net.named_modules() if ".parametrizations" not in name]


# ---- data of the first stage


class LatentCrops:
    """Crops of pictures' coefficients and of their latents in S2LIC, made once, in float16.

    Memory: 1280 bytes for 256 pixels and round.
    """

    def __init__(
        self, pictures: Sequence[Tensor], size: int, rounds: int, seed: int, transform: Callable[[Tensor], list[Tensor]]
    ) -> None:
        """size: cells to a side of a crop. transform: a picture (1, 3, H, W) in [0, 1] to both, (1, M, h, w)."""
        self.size, self.maps = size, []
        rng = np.random.default_rng(seed)
        for _ in range(rounds):
            for picture in pictures:
                x = _varied(picture, rng, size * CELL)
                self.maps.append([part[0].half() for part in transform(x)])
        areas = torch.tensor([part[0].shape[1] * part[0].shape[2] for part in self.maps]).double()
        self.until = areas.cumsum(0) / areas.sum()

    def draw(self, batch: int) -> list[Tensor]:
        """Draws a batch of both: (batch, M, size, size) float32."""
        crops: list[list[Tensor]] = []
        for index in torch.searchsorted(self.until, torch.rand(batch).double()).clamp(max=len(self.maps) - 1).tolist():
            parts = self.maps[index]
            top, left = (int(torch.randint(side - self.size + 1, ())) for side in parts[0].shape[1:])
            crops.append([part[:, top : top + self.size, left : left + self.size] for part in parts])
        return [torch.stack(part).float() for part in zip(*crops, strict=True)]


def _varied(picture: Tensor, rng: np.random.Generator, least: int) -> Tensor:
    """A picture (3, H, W) uint8 as (1, 3, H', W') in [0, 1]: another size and offset, flipped or not, sides n * 128."""
    scale = max(float(rng.choice(_SCALES)), least / min(picture.shape[1:]))
    x = picture if scale >= 1 else smaller(picture, scale)
    height, width = (max(least, side // 128 * 128) for side in x.shape[1:])
    top, left = (int(rng.integers(side - kept + 1)) for side, kept in zip(x.shape[1:], (height, width), strict=True))
    x = x[:, top : top + height, left : left + width]
    return (x.flip(2) if rng.random() < 0.5 else x)[None].float() / 255


# ---- the task


class VqganSmallTask(TwinTask):
    """Trains the network `small`, and in stage "pixels" a discriminator against it; for `run_on_device`."""

    family, title, default_tag = "vqgan", "VQGAN", "small"
    log_every = 50
    net: VqganNet
    ema: VqganNet

    def __init__(
        self,
        config: VqganConfig,
        recipe: VqganSmallRecipe,
        tag: str = "",
        device: str | torch.device = "cpu",
        distances: Sequence[tuple[float, FeatureDistance]] | None = None,
    ) -> None:
        """Makes the networks. distances: others than the recipe names, with their weights."""
        if len(recipe.shares) != len(config.codebooks) or not sum(recipe.shares):
            raise UsageError(f"recipe: shares: expected {len(config.codebooks)} numbers, a codebook each, not all 0")
        net = with_units(VqganNet(config), torch.ones(config.dim), torch.ones(config.latent))
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        schedule = Schedule(
            recipe.steps, recipe.decay_from, recipe.warmup, seconds=recipe.seconds, steps_count=not recipe.seconds
        )
        super().__init__(net, schedule, recipe.lr, recipe.ema, recipe.clip, recipe.seed, tag)
        self.config, self.recipe, self.hard_from = config, recipe, recipe.hard_from
        self.net.linear.requires_grad_(False)
        if recipe.stage == "latents":
            self.net.synthesis.requires_grad_(False)
            self.freeze_encoder(True)
        else:
            self.critic = PatchDiscriminator(recipe.critic)
            self.critic.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if distances is None:
            wanted = {"hed-vgg": recipe.hed_vgg, "efficientnet-lite0": recipe.efficientnet_lite0}
            wanted = wanted if recipe.stage == "pixels" else {}
            assert wanted.keys() <= set(EXTRACTORS)
            distances = [
                (weight, FeatureDistance(name, recipe.texture / weight if name == "hed-vgg" else 0.0))
                for name, weight in wanted.items()
                if weight
            ]
        self.feature_critic: FeatureDiscriminator | None = None
        if recipe.stage == "pixels" and recipe.adversarial_features:
            channels = [d.extractor.channels[tap] for _, d in distances for tap in d.extractor.judged]
            if not channels:
                raise UsageError("recipe: adversarial_features needs hed_vgg or efficientnet_lite0 above 0")
            self.feature_critic = FeatureDiscriminator(channels)
            self.feature_critic.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.to(device)
        # in a tuple, where checkpoints don't see them: they aren't trained
        self._distances = tuple((weight, distance.to(self.device)) for weight, distance in distances)
        self.save_seconds, self.validate_seconds = recipe.save, recipe.look
        self.cells: Callable[[], Tensor] | None = None  # draws coefficients (B, M, h, w) for K-means

    # ---- phases

    def phases(self) -> Mapping[str, float]:
        own = (
            {ENCODER: self.recipe.encoder_from} if self.recipe.stage == "latents" else {FREEZE: self.recipe.freeze_from}
        )
        return {**own, **super().phases()}

    def enter_phase(self, name: str) -> None:
        """Lets the encoder learn, or freezes it as its average, with codebooks that stay."""
        if name not in (ENCODER, FREEZE):
            super().enter_phase(name)
            return
        if name == FREEZE:
            averages = dict(self.ema.named_parameters())
            with torch.no_grad():
                for own_name, parameter in self.encoder(self.net).items():
                    parameter.copy_(averages[own_name])
            self.cluster(4, 4)
        self.freeze_encoder(name == FREEZE)

    def restore_phase(self, name: str) -> None:
        if name in (ENCODER, FREEZE):
            self.freeze_encoder(name == FREEZE)
        else:
            super().restore_phase(name)

    @staticmethod
    def encoder(net: VqganNet) -> dict[str, nn.Parameter]:
        """Returns the parameters that decide on indices, by name."""
        return {
            name: p for name, p in net.named_parameters() if name.startswith(("enter.", "head.")) or ".quant." in name
        }

    def freeze_encoder(self, frozen: bool) -> None:
        for parameter in self.encoder(self.net).values():
            parameter.requires_grad_(not frozen)

    @property
    def encodes(self) -> bool:
        """Whether the encoder learns."""
        return self.net.enter.weight.requires_grad

    # ---- codebooks

    @torch.no_grad()
    def cluster(self, iterations: int, times: int = 1) -> dict[str, float]:
        """Goes on with K-means of all codebooks, on new vectors: `times` as many as usual.

        Returns each one's squared error, relative to the vectors' variance.
        """
        assert self.cells is not None
        features, errors, many = [], {}, self.recipe.cluster_cells * times
        while sum(map(len, features)) < many:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                h = self.net.features(self.cells())
            features.append(h.float().movedim(1, -1).flatten(0, 2))
        rows = torch.cat(features)
        for size in self.config.codebooks:
            level = self.net.level(size)
            part = rows if size > 1024 else rows[: max(len(rows) // 2, 40 * size)]  # enough for the small ones
            z = part @ level.quant.weight[:, :, 0, 0].T + cast(Tensor, level.quant.bias)
            clusters = refined_clusters(z, level.codebook, iterations)
            errors[f"error_{size}"] = float(clusters.error / z.var(0).sum())
            level.codebook.copy_(clusters.centroids)
            self.ema.level(size).codebook.copy_(clusters.centroids)
        return errors

    # ---- steps

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups what the optimiser is given: token network, synthesis, encoder."""
        encoder = self.encoder(self.net)
        groups: list[list[nn.Parameter]] = [[], [], list(encoder.values())]
        for name, parameter in self.net.named_parameters():
            if name not in encoder and not name.startswith("linear."):
                groups[name.startswith("synthesis.")].append(parameter)
        rates = (1.0, self.recipe.synthesis_lr, self.recipe.encoder_lr)
        return [{"params": part, "lr": self.recipe.lr * rate} for part, rate in zip(groups, rates, strict=True)]

    def named_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Makes Adam for the network and for the discriminator, by their names in a checkpoint."""
        optimizers = {"optimizer": self.configure_optimizers()}
        if self.recipe.stage == "pixels":
            critic = torch.optim.Adam(self.critic.parameters(), lr=self.recipe.critic_lr, betas=(0.5, 0.9))
            optimizers["critic_optimizer"] = critic
        if self.feature_critic is not None:
            critic = torch.optim.Adam(self.feature_critic.parameters(), lr=self.recipe.critic_lr, betas=(0.5, 0.9))
            optimizers["feature_critic_optimizer"] = critic
        return optimizers

    def optimise(self, batch: Any, optimizers: Optimizers) -> Mapping[str, Tensor]:
        """Takes one step on pictures (B, 3, H, W) in [0, 1], or on coefficients and latents (B, M, h, w)."""
        if self.step and self.step % self.recipe.cluster_every == 0 and self.encodes:
            self.cluster(2)
        optimizer = optimizers["optimizer"]
        optimizer.zero_grad(set_to_none=True)
        loss = self._latents(*batch) if self.recipe.stage == "latents" else self._pixels(batch, optimizers)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(parameters, self.clip)
        optimizer.step()
        return {"loss": loss.total.detach(), **loss.metrics}

    def _token_latents(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """The latents (B, M, h, w) of the codewords nearest to coefficients, of two codebooks; the commitment."""
        shares = torch.tensor(self.recipe.shares)
        drawn = torch.multinomial(shares, min(2, int((shares > 0).sum())))
        coefficients = coefficients.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            with torch.set_grad_enabled(self.encodes):
                features = self.net.features(coefficients)
            streams, commitment = [], torch.zeros((), device=self.device)
            for size, part in zip(drawn.tolist(), features.chunk(len(drawn)), strict=False):
                level = self.net.level(self.config.codebooks[size])
                z = level.quant(part).float()
                rows = z.movedim(1, -1).flatten(0, 2)
                words = level.codebook[nearest(rows, level.codebook)]
                commitment = commitment + (rows - words).square().mean() / len(drawn)
                passed = rows + (words - rows).detach()
                streams.append(self.net.stream(level.post(passed.view(z.movedim(1, -1).shape).movedim(-1, 1))))
            return self.net.expand_stream(torch.cat(streams)), commitment

    def _latents(self, coefficients: Tensor, wanted: Tensor) -> Loss:
        latents, commitment = self._token_latents(coefficients.to(self.device))
        error = (latents.float() - wanted.to(self.device)).square().sum(1).mean()
        total = error + self.recipe.commitment * self.config.dim * commitment if self.encodes else error
        loss = Loss(total, {"error": error.detach(), "commitment": commitment.detach()})
        check_finite(loss, self.step)
        total.backward()
        return loss

    def _pixels(self, x: Tensor, optimizers: Optimizers) -> Loss:
        recipe = self.recipe
        latents, commitment = self._token_latents(self.net.coefficients(x))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.bf16):
            x_hat = self.net.picture(latents).float()
        loss, made, real = self._likeness(x_hat, x)
        metrics = {**loss.metrics, "commitment": commitment.detach()}
        (gradient,) = torch.autograd.grad(loss.total, x_hat, retain_graph=True)
        if self.position >= min(recipe.critic_from, recipe.adversarial_from):
            metrics |= self._critic_steps(x_hat.detach(), x, made, real, optimizers)
        if self.position >= recipe.adversarial_from:
            size = gradient.norm()
            for share, against, more in self._adversarial(x_hat, x, made):
                (push,) = torch.autograd.grad(against, x_hat, retain_graph=True)
                weight = (size / (push.norm() + 1e-8)).clamp(max=recipe.most_weight) * share
                gradient, metrics = gradient + weight * push, {**metrics, **more}
                metrics["weight_features" if "weight" in metrics else "weight"] = weight
        total = loss.total + recipe.commitment * commitment
        check_finite(Loss(total + gradient.sum() * 0, metrics), self.step)
        x_hat.backward(gradient, retain_graph=self.encodes)
        if self.encodes:
            (recipe.commitment * commitment).backward()
        return Loss(total, metrics)

    def _likeness(self, x_hat: Tensor, x: Tensor) -> tuple[Loss, list[Tensor], list[Tensor]]:
        """Computes L1 and the distances of features. Returns what discriminators of features judge, too, of both."""
        l1 = (x_hat - x).abs().mean()
        total, metrics = self.recipe.pixels * l1, {"l1": l1.detach()}
        made: list[Tensor] = []
        real: list[Tensor] = []
        for weight, distance in self._distances:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                pair = distance.features(x_hat, x)
                value = distance.compare(*pair).mean()
            for features, judged in zip(pair, (made, real), strict=True):
                judged.extend(features[tap] for tap in distance.extractor.judged)
            total, metrics[distance.name.replace(" ", "_")] = total + weight * value, value.detach()
        return Loss(total, metrics), made, real

    def _critic_steps(
        self, x_hat: Tensor, x: Tensor, made: list[Tensor], real: list[Tensor], optimizers: Optimizers
    ) -> dict[str, Tensor]:
        """Takes a step of each discriminator."""
        recipe, optimizer = self.recipe, optimizers["critic_optimizer"]
        metrics = critic_step(
            self.critic, x, x_hat, optimizer, step=self.step, bf16=recipe.bf16, penalty=recipe.penalty
        )
        if self.feature_critic is not None:
            metrics |= feature_critic_step(
                self.feature_critic,
                real,
                [features.detach() for features in made],
                optimizers["feature_critic_optimizer"],
                step=self.step,
                bf16=recipe.bf16,
            )
        return metrics

    def _adversarial(
        self, x_hat: Tensor, x: Tensor, made: list[Tensor]
    ) -> list[tuple[float, Tensor, dict[str, Tensor]]]:
        """Computes what each discriminator says against pictures; the recipe's share of its gradient goes with it."""
        self.critic.requires_grad_(False)
        logits, features = self.critic.judge(x_hat, self.recipe.bf16)
        against = generator_loss(logits)
        metrics = {"adversarial": against.detach()}
        if self.recipe.matching:
            with torch.no_grad():
                real = self.critic.judge(x, self.recipe.bf16)[1]
            matching = feature_matching(features, real)
            against, metrics["matching"] = against + self.recipe.matching * matching, matching.detach()
        self.critic.requires_grad_(True)
        sides = [(self.recipe.adversarial, against, metrics)]
        if self.feature_critic is not None:
            self.feature_critic.requires_grad_(False)
            of_heads = [generator_loss(logits) for logits in self.feature_critic.judge(made, self.recipe.bf16)]
            self.feature_critic.requires_grad_(True)
            against = torch.stack(of_heads).mean()
            sides.append((self.recipe.adversarial_features, against, {"adversarial_features": against.detach()}))
        return sides

    # ---- held-out pictures, and what comes out

    @torch.no_grad()
    def estimate(self) -> dict[str, float]:
        """Measures PSNR and distances of held-out pictures, of the averaged network in floats, for each codebook."""
        metrics: dict[str, float] = {}
        net = self.ema.eval()
        for size in self.config.codebooks:
            rows = []
            for picture in self.held_out:
                x = picture[None].to(self.device).float() / 255
                x = x[:, :, : x.shape[2] // CELL * CELL, : x.shape[3] // CELL * CELL]
                words = net.level(size).look_up(net.indices(x, size))
                x_hat = net.picture(net.expand(words, size)).clamp(0, 1)
                distances = [float(distance(x_hat, x)) for _, distance in self._distances]
                rows.append((psnr_of_mse(float((x_hat - x).square().mean()), 1.0), *distances))
            names = ("psnr", *(distance.name.replace(" ", "_") for _, distance in self._distances))
            for name, value in zip(names, np.mean(rows, 0) if rows else (), strict=False):
                metrics[f"val_{name}_{size}"] = float(value)
        net.train()
        return metrics

    def code_with(self, codec: Any) -> dict[str, float]:
        metrics = {}
        for index, size in enumerate(self.config.codebooks):
            bpp, psnr = code_pictures(codec, self.held_out, 1 + 99 * (index + 0.5) / len(self.config.codebooks))
            metrics |= {f"file_bpp_{size}": bpp, f"file_psnr_{size}": psnr}
        return metrics

    def weights_bytes(self, final: bool = False) -> bytes:
        """Returns the safetensors file, without index models: `codec train vqgan --recipe indices` adds them."""
        from safetensors.torch import save

        tensors = exported(twin_of(without_units(self.ema)))
        return sorted_header(save(tensors, metadata(self.config, self.tag)))

    def n_parameters(self) -> int:
        return sum(p.numel() for p in without_units(self.ema).parameters())


# ---- the start


def begin(task: VqganSmallTask, draw: Callable[[], Any], analysis: S2licNet | None) -> dict[str, float]:
    """Fills the network for step 0: as the recipe's `start` says. Returns what the log is to have of it."""
    if analysis is None:
        start_from(task, Path(task.recipe.start))
    else:
        _start_as_transform(task, analysis, *draw())
    task.ema.load_state_dict(task.net.state_dict())
    return task.cluster(6)


@torch.no_grad()
def _start_as_transform(task: VqganSmallTask, s2lic: S2licNet, coefficients: Tensor, latents: Tensor) -> None:
    """Makes a transform codec of the networks: words are the first coefficients, and latents the coefficients."""
    net, dim = without_units(task.net), task.config.dim
    net.linear.weight.copy_(s2lic.analysis.linear.weight)
    net.synthesis.load_state_dict(s2lic.synthesis.state_dict())
    deviation, unit = (part.movedim(1, 0).flatten(1).std(1) for part in (coefficients, latents))
    scale = 1 / (deviation + _SMALL)
    width = min(task.config.width, task.config.latent)
    first = torch.arange(dim)
    net.enter.weight.mul_(0.05)
    net.enter.weight[torch.arange(width), torch.arange(width)] += 1
    net.enter.weight.mul_(scale[None, :, None, None])  # the head sees channels of one size
    cast(Tensor, net.enter.bias).zero_()
    for size in task.config.codebooks:
        level, post = net.level(size), net.level(size).post.layer.conv
        for layer in (level.quant, post):
            layer.weight.zero_()
            cast(Tensor, layer.bias).zero_()
        level.quant.weight[first, first] = 1 / scale[:dim, None, None]
        post.weight[dim:].normal_(0, 0.02)
        post.weight[first, first] = scale[:dim, None, None]
    leave = net.leave.layer.conv
    leave.weight.zero_()
    cast(Tensor, leave.bias).zero_()
    leave.weight[torch.arange(width), torch.arange(width)] = 1 / scale[:width, None, None]
    leave.weight[:dim, dim:] = 0
    for target, source in zip(quantisers(net.synthesis), quantisers(s2lic.synthesis), strict=True):
        target.peak.copy_(source.peak)
    _fill(task.net, net, deviation[:dim] + _SMALL, unit + _SMALL / 2)


def _fill(net: VqganNet, plain: VqganNet, words: Tensor, latents: Tensor) -> None:
    """Fills a network with units from one without."""
    for layer in _scaled_layers(net):
        scaled = cast(_Scaled, cast(Any, layer).parametrizations.weight[0])
        scaled.unit.copy_((latents if layer is net.leave.layer.conv else words).reshape(-1, 1, 1, 1))
    values = dict(plain.named_parameters()) | dict(plain.named_buffers())
    state = net.state_dict()
    for name in state:
        if name in values:
            state[name].copy_(values[name])
    for layer, source in zip(_scaled_layers(net), _scaled_layers(plain), strict=True):
        layer.weight = source.weight.detach()
    for target, source in zip(quantisers(net), quantisers(plain), strict=True):
        target.peak.copy_(source.peak)


def start_from(task: VqganSmallTask, path: Path) -> None:
    """Fills the network with the averages of a checkpoint, or with weights of vqgan. UsageError for anything else.

    Codebooks that the other network hasn't got begin with the layers of its largest one.
    """
    path = _file(path)
    try:
        if path.suffix == ".safetensors":
            loaded = load_tensors(path)
            plain = VqganNet(task.config)
            load_network(plain, {name: a for name, a in loaded.arrays.items() if not name.startswith("index.")})
            with torch.no_grad():
                words = plain.level(task.config.codebooks[-1]).codebook.std(0) + _SMALL
                rows = plain.leave.layer.conv.weight.flatten(1).norm(dim=1) + _SMALL
                _fill(task.net, plain, words, rows)
            return
        checkpoint = read_checkpoint(path, ADVICE)
        own = {name[4:]: value for name, value in checkpoint["state_dict"].items() if name.startswith("ema.")}
        task.net.load_state_dict(own)
        peaks = checkpoint["peaks"]
        for name, part in task.net.named_modules():
            if isinstance(part, FixedPoint):
                part.peak.fill_(peaks[f"net.{name}.peak"])
    except UsageError as error:
        raise UsageError(f"start: {error}") from None
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, WeightsError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"start: {path} doesn't fit this model ({reason}): {ADVICE}") from None


def _file(path: Path) -> Path:
    package = SHIPPED.parent
    if not path.is_file() and (package / path).is_file():
        path = package / path  # weights that ship, as recipes that ship name them, wherever the command runs
    if not path.is_file():
        raise UsageError(f"start: {path}: no such file; {ADVICE}")
    return path


def analysis_of(path: Path) -> S2licNet:
    """The networks of S2LIC's weights, in floats. UsageError if it isn't a file of the network `small`."""
    try:
        loaded = load_tensors(_file(path))
        config = read_model(loaded).config
        if not isinstance(config, S2licConfig):
            raise WeightsError("weights of the paper's network")
        net = S2licNet(config)
        fill_network(net, {name: t for name, t in loaded.tensors.items() if "_tables." not in name}, ADVICE)
    except WeightsError as error:
        raise UsageError(f"start: {path}: {error}; {ADVICE}") from None
    return net.eval()


def check_settings(
    settings: Mapping[str, Any], devices: int = 1, nodes: int = 1
) -> tuple[VqganConfig, VqganSmallRecipe]:
    """Makes network and recipe of a YAML file. UsageError if they can't be."""
    del devices, nodes
    config = fill(VqganConfig, settings["model"], "model")
    return config, fill(VqganSmallRecipe, settings["recipe"], "recipe")


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe to its end, from where it stopped if `resume`, and exports the weights.

    about: fields of the manifest that only the caller knows.
    """
    config, recipe = check_settings(settings)
    torch.manual_seed(recipe.seed)
    pictures, held_out = photos_in(data, recipe.crop)
    task = VqganSmallTask(config, recipe, settings["tag"], training_device(device))
    task.held_out = held_out
    draw, analysis = _source(task, pictures)
    steps = DeviceSteps(task, draw, task.named_optimizers())
    progress = Progress(task, folder, about)
    if not (resume and (folder / "last.ckpt").exists()):
        progress.begin(lambda: begin(task, draw, analysis))
    run_on_device(steps, progress, resume)


def _source(task: VqganSmallTask, pictures: Sequence[Tensor]) -> tuple[Callable[[], Any], S2licNet | None]:
    """Makes the function that draws batches, S2LIC's network where the first stage needs it, and sets `cells`."""
    recipe = task.recipe
    if recipe.stage == "pixels":
        crops = DeviceCrops(pictures, recipe.crop, recipe.scales, task.device)
        task.cells = lambda: task.net.coefficients(crops.draw(max(1, (24 * 256 * 256) // recipe.crop**2)))
        return lambda: crops.draw(recipe.batch), None
    s2lic = analysis_of(Path(recipe.start))
    place = torch.full((1,), task.config.step / task.config.quality_steps)

    @torch.no_grad()
    def transform(x: Tensor) -> list[Tensor]:
        coefficients = task.net.coefficients(x.to(task.device))
        return [coefficients.cpu(), s2lic.analysis(x - 0.5, place)]

    task.net.linear.weight.data.copy_(s2lic.analysis.linear.weight)
    maps = LatentCrops(pictures, recipe.crop // CELL, recipe.rounds, recipe.seed, transform)
    task.cells = lambda: maps.draw(24)[0].to(task.device)
    return lambda: maps.draw(recipe.batch), s2lic
