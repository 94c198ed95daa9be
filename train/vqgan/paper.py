"""Training of the paper's VQGAN: the task, its recipe, and its two stages.

Stage "train": encoder, codebook and decoder by L1, a distance of features, the quantiser's loss and, from
`adversarial_from` on, a discriminator (Esser et al., arXiv 2012.09841). Stage "shrink": codebooks of a few words, made
of a large one by K-means, are fine-tuned with their 1x1 convolutions, encoder and decoder frozen (Mao et al., arXiv
2307.08265); the steps take the codebooks in turn.

Differs from the published code: the discriminator learns from `critic_from` on, before the generator hears of it; the
adaptive weight is bounded, and taken at the last layer that is trained, since the published one fails with a frozen
decoder; features are HED's or EfficientNet's, not LPIPS's; spectral and group norm for batch norm; codebooks start as
K-means. A loss that isn't a number ends the run before it gets into the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...codecs.base.weights import load_tensors
from ...codecs.vqgan.paper import (
    STRIDE,
    VqganPaperConfig,
    VqganPaperNet,
    exported,
    from_published,
    metadata,
    network_of,
)
from ...codecs.vqgan.quantiser import usage
from ...datasets.images import DeviceCrops
from ...errors import UsageError, WeightsError
from ...media.distortion import psnr_of_mse
from ..checkpoints import Optimizers, read_state
from ..device_loop import DeviceSteps, run_on_device
from ..devices import training_device
from ..photos import photos_in
from ..progress import Progress
from ..settings import fill
from ..task import CompressionTask, Loss, Schedule
from .discriminator import DiscriminatorConfig, PatchDiscriminator
from .extractors import EXTRACTORS
from .game import check_finite, critic_step
from .losses import (
    FeatureDistance,
    adaptive_weight,
    feature_matching,
    generator_loss,
    last_trained,
)
from .shrink import How, outputs_of, shrink_into

__all__ = ["VqganPaperRecipe", "VqganPaperTask", "check_settings", "train"]

NEVER = 1 << 60
ADVICE = "name weights that `codec train vqgan` exported, or a published checkpoint of taming-transformers (.ckpt)"


@dataclass(frozen=True)
class VqganPaperRecipe:
    """Everything a run needs besides the data. Steps are optimiser steps."""

    steps: int
    decay_from: int
    batch: int = 12
    crop: int = 256
    lr: float = 5.4e-5  # the published 4.5e-6 a picture of a batch
    critic_lr: float = 5.4e-5
    warmup: int = 500
    stage: Literal["train", "shrink"] = "train"
    start: str = ""  # weights or a published checkpoint that a new run begins with; "shrink" needs one
    shrink: How = "outputs"  # what is clustered
    initial_crops: int = 192  # whose encoder outputs codebooks are made of
    perceptual: Literal["hed-vgg", "efficientnet-lite0", "none"] = "hed-vgg"
    distance: float = 1.0  # weights: of the distance of features, beside L1's 1,
    texture: float = 0.0  # of its texture term,
    quantiser: float = 1.0  # of the quantiser's loss,
    adversarial: float = 0.8  # of the adversarial gradient, relative to that of L1 and distance,
    matching: float = 0.0  # of the discriminator's features, from `adversarial_from` on,
    penalty: float = 0.0  # and of R1, every 16th step
    most_weight: float = 10.0  # bound of the adaptive weight
    critic_from: int = 0
    adversarial_from: int = NEVER
    critic_width: int = 64
    critic_layers: int = 3
    critic_norm: Literal["group", "none"] = "group"
    spectral: bool = True
    ema: float = 0.9995
    clip: float = 1.0
    bf16: bool = True
    scales: tuple[float, ...] = ()
    seed: int = 1
    look: float = 1200.0  # seconds between looks at held-out pictures
    save: float = 300.0  # and between checkpoints

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        whole = {"steps": 1, "decay_from": 0, "batch": 1, "crop": 1, "warmup": 1, "initial_crops": 1, "seed": 0}
        for name, least in {**whole, "critic_from": 0, "adversarial_from": 0}.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} is {value!r:.80}; expected a whole number of {least} or more")
        numbers = ("lr", "critic_lr", "distance", "texture", "quantiser", "adversarial", "matching", "penalty")
        for name in (*numbers, "most_weight", "ema", "clip", "look", "save"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                raise ValueError(f"{name} is {value!r:.80}; expected a number of 0 or more, written like 1.0e-3")
        choices = {"stage": ("train", "shrink"), "shrink": ("rows", "usage", "outputs")}
        for name, allowed in {**choices, "perceptual": (*EXTRACTORS, "none")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r:.80}; there are {', '.join(allowed)}")
        if self.crop % STRIDE:
            raise ValueError(f"crop is {self.crop}; expected a multiple of {STRIDE}")
        if self.stage == "shrink" and not self.start:
            raise ValueError(f"stage shrink needs `start`: {ADVICE}")
        self.critic  # noqa: B018  checks its settings

    @property
    def critic(self) -> DiscriminatorConfig:
        return DiscriminatorConfig(self.critic_width, self.critic_layers, self.critic_norm, self.spectral)


class VqganPaperTask(CompressionTask):
    """Trains the paper's network, and a discriminator against it; for `run_on_device`."""

    family, title, default_tag = "vqgan", "VQGAN", "small"
    log_every = 50
    net: VqganPaperNet
    ema: VqganPaperNet

    def __init__(
        self,
        config: VqganPaperConfig,
        recipe: VqganPaperRecipe,
        tag: str = "",
        device: str | torch.device = "cpu",
        distance: FeatureDistance | None = None,
    ) -> None:
        """Makes the networks. distance: another one than the recipe names."""
        net = VqganPaperNet(config)
        critic = PatchDiscriminator(recipe.critic)
        for part in (net, critic):
            part.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        schedule = Schedule(recipe.steps, recipe.decay_from, recipe.warmup)
        super().__init__(net, schedule, recipe.lr, recipe.ema, recipe.clip, recipe.seed, tag)
        self.config, self.recipe, self.critic = config, recipe, critic
        if distance is None and recipe.perceptual != "none":
            distance = FeatureDistance(recipe.perceptual, recipe.texture)
        if recipe.stage == "shrink":
            for part in (self.net.encoder, self.net.decoder):
                part.requires_grad_(False)
        self.to(device)
        # in a tuple, where checkpoints don't see it: it isn't trained
        self._distances = () if distance is None else (distance.to(device),)
        self.save_seconds, self.validate_seconds = recipe.save, recipe.look

    # ---- steps

    @property
    def words(self) -> int:
        """The codebook that this step takes: one after the other."""
        return self.config.words[self.step % len(self.config.words)]

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [p for p in self.net.parameters() if p.requires_grad], "lr": self.recipe.lr}]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = self.parameter_groups()
        self.rates = [group["lr"] for group in groups]
        return torch.optim.Adam(groups, betas=(0.5, 0.9))

    def named_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Makes Adam for the network and for the discriminator, by their names in a checkpoint."""
        critic = torch.optim.Adam(self.critic.parameters(), lr=self.recipe.critic_lr, betas=(0.5, 0.9))
        return {"optimizer": self.configure_optimizers(), "critic_optimizer": critic}

    def optimise(self, batch: Tensor, optimizers: Optimizers) -> Mapping[str, Tensor]:
        """Takes one step of both networks on pictures (B, 3, H, W) in [0, 1]."""
        recipe = self.recipe
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.bf16):
            out = self.net(batch, self.words)
        x_hat = out.x_hat.float()
        wanted, metrics = self._likeness(x_hat, batch)
        loss = Loss(wanted + recipe.quantiser * out.loss, {**metrics, "quantiser": out.loss.detach()})
        if self.step >= min(recipe.critic_from, recipe.adversarial_from):
            critic = critic_step(
                self.critic,
                batch,
                x_hat.detach(),
                optimizers["critic_optimizer"],
                step=self.step,
                bf16=recipe.bf16,
                penalty=recipe.penalty,
            )
            loss = Loss(loss.total, {**loss.metrics, **critic})
        if self.step >= recipe.adversarial_from:
            loss = self._adversarial(loss, wanted, batch, x_hat)
        check_finite(loss, self.step)
        optimizer = optimizers["optimizer"]
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip)
        optimizer.step()
        return {"loss": loss.total.detach(), **loss.metrics}

    def _likeness(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes L1 (in [-1, 1], as published) and the distance of features."""
        l1 = 2 * (x_hat - x).abs().mean()
        loss, metrics = l1, {"l1": l1.detach()}
        for distance in self._distances:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                value = distance(x_hat, x).mean()
            loss, metrics["distance"] = loss + self.recipe.distance * value, value.detach()
        return loss, metrics

    def _adversarial(self, loss: Loss, wanted: Tensor, x: Tensor, x_hat: Tensor) -> Loss:
        """Adds to a loss what the discriminator says, as strongly as the adaptive weight allows."""
        recipe = self.recipe
        self.critic.requires_grad_(False)
        logits, features = self.critic.judge(x_hat, recipe.bf16)
        against, total = generator_loss(logits), loss.total
        book = self.net.book(self.words)
        # the last layer that is trained; where none is, as with average codebooks alone, the pictures themselves
        last = last_trained([book.quant_conv, book.post_quant_conv, self.net.decoder])
        weight = adaptive_weight(wanted, against, x_hat if last is None else last, recipe.most_weight)
        total = total + recipe.adversarial * weight * against
        metrics = {**loss.metrics, "adversarial": against.detach(), "weight": weight}
        if recipe.matching:
            with torch.no_grad():
                real = self.critic.judge(x, recipe.bf16)[1]
            matching = feature_matching(features, real)
            total, metrics["matching"] = total + recipe.matching * matching, matching.detach()
        self.critic.requires_grad_(True)
        return Loss(total, metrics)

    def means(self) -> dict[str, float]:
        """Returns the means of what was noted, and the use of each codebook, since the last call."""
        row = super().means()
        for words in self.config.words:
            used = self.net.book(words).quantize.usage()
            if int(used.distinct):
                name = f"_{words}" if len(self.config.words) > 1 else ""
                row |= {f"perplexity{name}": float(used.perplexity), f"distinct{name}": float(used.distinct)}
        return row

    # ---- held-out pictures, and what comes out

    @property
    def codes_files(self) -> bool:
        """Whether held-out pictures are coded to files: this network takes too long."""
        return False

    @torch.no_grad()
    def estimate(self) -> dict[str, float]:
        """Measures bits per pixel (of indices of a fixed length), PSNR, distance and use, of the averaged network."""
        metrics: dict[str, float] = {}
        self.ema.eval()
        for words in self.config.words:
            counts, rows = torch.zeros(words, dtype=torch.long), []
            for picture in self.held_out:
                x = picture[None].to(self.device).float() / 255
                index = self.ema.encode(x, words)
                x_hat = self.ema.decode(index, (x.shape[2], x.shape[3]), words)
                counts += torch.bincount(index.flatten().cpu(), minlength=words)
                bpp = index.numel() * float(np.log2(words)) / (x.shape[2] * x.shape[3])
                distances = [float(distance(x_hat, x)) for distance in self._distances]
                rows.append((bpp, psnr_of_mse(float((x_hat - x).square().mean()), 1.0), *distances))
            names = ("bpp", "psnr", "distance")[: len(rows[0])] if rows else ()
            for name, value in zip(names, np.mean(rows, 0) if rows else (), strict=True):
                metrics[f"val_{name}_{words}"] = float(value)
            used = usage(counts)
            metrics |= {
                f"val_perplexity_{words}": float(used.perplexity),
                f"val_distinct_{words}": float(used.distinct),
            }
        return metrics

    def weights_bytes(self, final: bool = False) -> bytes:
        from safetensors.torch import save

        return save(exported(self.ema), metadata(self.config, self.tag))

    # ---- the start

    def begin(self, crops: DeviceCrops) -> dict[str, float]:
        """Fills networks for step 0: from `start`, shrunk or as it is; a codebook without a start by K-means."""
        recipe = self.recipe

        def batches() -> Iterator[Tensor]:
            for _ in range(-(-recipe.initial_crops // recipe.batch)):
                yield crops.draw(recipe.batch)

        if recipe.stage == "shrink":
            large = network_from(Path(recipe.start)).to(self.device)
            _check_same_sizes(self.config, large.config)
            if "finite" in (self.config.codebook, large.config.codebook):
                raise UsageError(
                    "model: codebook: only vectors can be shrunk; finite scalars are trained for each size"
                )
            outputs = None if recipe.shrink == "rows" else outputs_of(large, batches())
            shrink_into(self.net, large, recipe.shrink, outputs, recipe.seed)
        elif recipe.start:
            other = network_from(Path(recipe.start))
            _check_same_sizes(self.config, other.config, ("words", "levels"))
            self.net.load_state_dict(other.state_dict())
        elif self.config.codebook != "finite":
            for words in self.config.words:
                per_batch = recipe.batch * (recipe.crop // STRIDE) ** 2
                self.net.book(words).vectors.start(outputs_of(self.net, batches(), words), per_batch, recipe.seed)
        return {}


def network_from(path: Path) -> VqganPaperNet:
    """Reads the network `paper` from weights of ours (.safetensors), or from a published checkpoint."""
    if not path.is_file():
        raise UsageError(f"start: {path}: no such file; {ADVICE}")
    try:
        if path.suffix == ".safetensors":
            loaded = load_tensors(path)
            return network_of(loaded.metadata, loaded.tensors)
        return from_published(read_state(path, ADVICE))
    except (UsageError, WeightsError) as error:
        raise UsageError(f"start: {path}: {error}") from None


def _check_same_sizes(config: VqganPaperConfig, other: VqganPaperConfig, more: Sequence[str] = ()) -> None:
    for name in ("width", "multiples", "blocks", "latent", "code", "groups", *more):
        ours, theirs = getattr(config, name), getattr(other, name)
        if ours != theirs:
            raise UsageError(f"start: {name} there is {theirs}, in the recipe's model {ours}: make them equal")


def check_settings(
    settings: Mapping[str, Any], devices: int = 1, nodes: int = 1
) -> tuple[VqganPaperConfig, VqganPaperRecipe]:
    """Makes network and recipe of a YAML file. UsageError if they can't be."""
    config = fill(VqganPaperConfig, settings["model"], "model")
    return config, fill(VqganPaperRecipe, settings["recipe"], "recipe")


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe to its end, from where it stopped if `resume`, and exports the weights.

    All pictures go to the device as a whole. about: fields of the manifest that only the caller knows.
    """
    config, recipe = check_settings(settings)
    torch.manual_seed(recipe.seed)
    pictures, held_out = photos_in(data, recipe.crop)
    task = VqganPaperTask(config, recipe, settings["tag"], training_device(device))
    task.held_out = held_out
    crops = DeviceCrops(pictures, recipe.crop, recipe.scales, task.device)
    steps = DeviceSteps(task, lambda: crops.draw(recipe.batch), task.named_optimizers())
    progress = Progress(task, folder, about)
    if not (resume and (folder / "last.ckpt").exists()):
        progress.begin(lambda: task.begin(crops))
    run_on_device(steps, progress, resume)
