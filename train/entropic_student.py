"""Training of Entropic Student by distillation: the task, its recipe, and `codec train entropic-student`. No labels.

Matsubara, Yang, Levorato, Mandt, WACV 2022, arXiv 2108.11898, section 3.3: the teacher is frozen; encoder, prior and
decoder learn to give the features that its first stages give, also as its later stages see them. In the second phase
the encoder is frozen, latents are rounded, and the decoder learns with the answers of the teacher. Differs:

- features are compared relative to their mean square, and the divergence of the answers counts from the first step on;
- each picture of a batch has a quality of its own, at random, and its own weight of the rate: one model has all rates;
- the rest of the teacher stays as it is, so that what follows the decoder is the file of its package;
- the decoder runs as the fixed-point twin of what will ship in the second phase.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codecs.entropic_student.config import SEEN, EntropicStudentConfig, view_of
from ..codecs.entropic_student.engine import Engine
from ..codecs.entropic_student.heads import early, late, load_teacher
from ..codecs.entropic_student.network import EntropicStudentNet, initialise
from ..codecs.entropic_student.torch_model import exported
from ..codecs.entropic_student.weights import metadata
from ..codecs.layers.extractors import Classifier
from ..datasets.images import DeviceCrops
from .circuit_mix import sorted_header
from .device_loop import DeviceSteps, run_on_device
from .devices import training_device
from .entropic_student_edges import edge_tensors, fit_edges, load_hed
from .photos import photos_in
from .progress import Progress
from .settings import fill
from .task import Loss, Schedule
from .twins import TwinTask, twin_of

__all__ = ["EntropicStudentRecipe", "EntropicStudentTask", "check_settings", "train"]

BEGIN = 128  # crops that the transform is computed from
QUALITIES = (1.0, 25.0, 50.0, 75.0, 100.0)  # at which held-out pictures are coded


@dataclass(frozen=True)
class EntropicStudentRecipe:
    """Everything a run needs besides the data. Steps are optimiser steps."""

    steps: int
    batch: int = 8
    crop: int = 128
    scales: tuple[float, ...] = (0.5, 0.25)  # at which pictures are there besides their own size
    lr: float = 1e-3
    warmup: int = 100
    hard_from: float = 0.85  # share of the steps before latents are rounded
    encoder_lr: float = 0.1  # of the encoder, which starts as the teacher, relative to lr
    transform_lr: float = 0.01  # of the map to latents, whose weights are about 0.003 at the start
    prior_lr: float = 10.0  # of the prior, which knows nothing at the start
    gain_lr: float = 5.0  # of the gains, which are in octaves
    distortion: tuple[float, float] = (0.04, 3.0)  # bits per pixel for a unit of it: lowest quality, highest
    answers: float = 1.0  # weight of the divergence of the answers, in nats, beside the features
    edges: int = 200  # pictures that the head of edges learns from at the end; 0: none, it sees no edges
    ema: float = 0.995
    clip: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        if self.crop % 32 or self.crop < 64:
            raise ValueError(f"crop is {self.crop!r:.80}; expected a multiple of 32 from 64 on")
        if self.steps < 1 or self.batch < 1:
            raise ValueError("steps and batch: expected numbers from 1 on")
        if len(self.distortion) != 2 or not 0 < self.distortion[0] <= self.distortion[1]:
            raise ValueError(f"distortion is {self.distortion!r:.80}; expected two rising numbers above 0")


class EntropicStudentTask(TwinTask):
    """Trains the student against a teacher, which isn't part of it and doesn't change."""

    family, title, default_tag = "entropic-student", "Entropic Student", "lite0"
    log_every = 50
    validate_seconds = 240.0
    codes_along = False
    net: EntropicStudentNet
    ema: EntropicStudentNet

    def __init__(
        self, config: EntropicStudentConfig, recipe: EntropicStudentRecipe, tag: str, teacher: Classifier
    ) -> None:
        net = EntropicStudentNet(config)
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        schedule = Schedule(recipe.steps, 0.4 * recipe.steps, recipe.warmup, "cosine", floor=1e-2)
        super().__init__(net, schedule, recipe.lr, recipe.ema, recipe.clip, recipe.seed, tag)
        self.config, self.recipe = config, recipe
        self.hard_from = recipe.hard_from * recipe.steps
        self.pictures: Sequence[Tensor] = ()  # that the head of edges learns from
        self._teacher = (teacher,)  # in a tuple: it isn't trained, averaged or saved

    @property
    def teacher(self) -> Classifier:
        """The frozen classifier."""
        return self._teacher[0]

    def parameter_groups(self) -> list[dict[str, Any]]:
        rates = {
            "encoder.stem.": self.recipe.encoder_lr,
            "encoder.blocks.": self.recipe.encoder_lr,
            "encoder.out.": self.recipe.transform_lr,
            "prior.": self.recipe.prior_lr,
            "gain.": self.recipe.gain_lr,
            "inverse_gain.": self.recipe.gain_lr,
            "": 1.0,
        }
        groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in rates}
        for name, parameter in self.net.named_parameters():
            groups[next(prefix for prefix in rates if name.startswith(prefix))].append(parameter)
        return [{"params": groups[prefix], "lr": self.recipe.lr * rate} for prefix, rate in rates.items()]

    def _freeze_encoder(self) -> None:
        for part in (self.net.encoder, self.net.gain):
            part.requires_grad_(False)

    def enter_phase(self, name: str) -> None:
        self._freeze_encoder()
        super().enter_phase(name)

    def restore_phase(self, name: str) -> None:
        self._freeze_encoder()
        super().restore_phase(name)

    def loss(self, batch: Tensor) -> Loss:
        """Weighs rate and distortion of pictures (B, 3, H, W) in [0, 1]."""
        low, high = map(math.log, self.recipe.distortion)
        t = torch.rand(len(batch), device=batch.device)
        weight = torch.exp(low + (high - low) * t)
        features, bits = self.student(batch, t)
        distortion, divergence = self.compare(batch, features)
        bpp = bits / (batch.shape[-1] * batch.shape[-2])
        whole = distortion + self.recipe.answers * divergence
        # divided, so that no rate owns the gradient
        loss = ((weight * whole + bpp) / weight.sqrt()).mean()
        rounded = {"bpp": bpp, "features": distortion, "answers": divergence}
        return Loss(loss, {name: value.detach().mean() for name, value in rounded.items()})

    def student(self, batch: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the features of the decoder, and the estimated bits of each picture."""
        net = self.net
        if self.hard:
            with torch.no_grad():
                y = net.latents(batch, t).round()
        else:
            y = net.latents(batch, t)
            y = y + torch.empty_like(y).uniform_(-0.5, 0.5)
        return net.decode(y, t), net.bits(y, t)

    def compare(self, batch: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compares features with the teacher's: (B,) relative squared errors, mean over stages, and divergences."""
        with torch.no_grad():
            wanted = early(self.teacher, batch)
            seen = late(self.teacher, wanted)
        given = late(self.teacher, features)
        pairs = [(features, wanted), *zip(given.taps, seen.taps, strict=True)]
        errors = [_relative_error(a, b) for a, b in pairs]
        log_given, log_seen = given.logits.log_softmax(1), seen.logits.log_softmax(1)
        divergence = F.kl_div(log_given, log_seen, reduction="none", log_target=True).sum(1)
        return torch.stack(errors).mean(0), divergence

    @torch.no_grad()
    def estimate(self) -> dict[str, float]:
        """Measures estimated bytes and agreement of the held-out pictures, of rounded latents of the averages."""
        out: dict[str, float] = {}
        net = self.ema.eval()
        x = self._views()
        wanted = self.teacher.logits(x).argmax(1)
        for quality in QUALITIES:
            t = torch.full((len(x),), (quality - 1) / 99)
            y = net.latents(x, t).round()
            logits = late(self.teacher, net.decode(y, t)).logits
            out[f"val_bytes_{quality:g}"] = float(net.bits(y, t).mean() / 8)
            out[f"val_agreement_{quality:g}"] = float((logits.argmax(1) == wanted).float().mean())
        net.train()
        return out

    def _views(self) -> Tensor:
        views = [view_of(np.ascontiguousarray(picture.permute(1, 2, 0).numpy())) for picture in self.held_out]
        return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 255

    def code_with(self, codec: Any) -> dict[str, float]:
        """Measures bytes of whole files, and how often the teacher's answer stays the same."""
        out: dict[str, float] = {}
        wanted = self.teacher.logits(self._views()).argmax(1)
        for quality in QUALITIES:
            sizes, same = [], []
            for picture, answer in zip(self.held_out, wanted.tolist(), strict=True):
                data = codec.compress(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()), quality)
                features = torch.from_numpy(codec.decompress(data))[None]
                sizes.append(len(data))
                same.append(int(late(self.teacher, features).logits.argmax()) == answer)
            out |= {
                f"file_bytes_{quality:g}": float(np.mean(sizes)),
                f"file_agreement_{quality:g}": float(np.mean(same)),
            }
        return out

    def weights_bytes(self, final: bool = False) -> bytes:
        """Returns the safetensors file. final: with a head of edges that has learned, which takes minutes."""
        from safetensors.torch import save

        state = exported(twin_of(self.ema).cpu())
        heads = self._head(state) if final and self.recipe.edges else edge_tensors()
        return sorted_header(save(state | heads, metadata(self.config, self.tag)))

    def _head(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        engine = Engine({name: tensor.numpy() for name, tensor in state.items()}, self.config)

        def features_of(view: Any, step: int) -> Any:
            return engine.features(engine.latents(view, step), step)

        views = [view_of(np.ascontiguousarray(p.permute(1, 2, 0).numpy())) for p in self.pictures[: self.recipe.edges]]
        tensors = [torch.from_numpy(view) for view in views]
        return fit_edges(tensors, self.config, features_of, load_hed(), self.recipe.seed, _say)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _relative_error(given: Tensor, wanted: Tensor) -> Tensor:
    return (given - wanted).square().mean((1, 2, 3)) / wanted.square().mean().clamp_min(1e-6)


def check_settings(
    settings: Mapping[str, Any], devices: int = 1, nodes: int = 1
) -> tuple[EntropicStudentConfig, EntropicStudentRecipe]:
    """Makes network and recipe of a YAML file. UsageError if they can't be."""
    del devices, nodes
    config = fill(EntropicStudentConfig, settings["model"], "model")
    return config, fill(EntropicStudentRecipe, settings["recipe"], "recipe")


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe to its end, from where it stopped if `resume`, and exports the weights.

    about: fields of the manifest that only the caller knows.
    """
    config, recipe = check_settings(settings)
    torch.manual_seed(recipe.seed)
    pictures, held_out = photos_in(data, max(SEEN, recipe.crop))
    where = training_device(device)
    task = EntropicStudentTask(config, recipe, settings["tag"], load_teacher()).to(where)
    task.teacher.to(where)
    task.held_out, task.pictures = held_out, pictures
    crops = DeviceCrops(pictures, recipe.crop, recipe.scales, where)
    steps = DeviceSteps(task, lambda: crops.draw(recipe.batch), {"optimizer": task.configure_optimizers()})
    progress = Progress(task, folder, about)
    if not (resume and (folder / "last.ckpt").exists()):
        progress.begin(lambda: begin(task, crops.draw(BEGIN)))
    run_on_device(steps, progress, resume)


def begin(task: EntropicStudentTask, pictures: Tensor) -> dict[str, float]:
    """Fills the network for step 0 from the teacher, by some pictures. Returns what the log is to have of it."""
    initialise(task.net, task.teacher, pictures)
    task.ema.load_state_dict(task.net.state_dict())
    few = pictures[:8]
    out = {}
    for quality in (0.0, 0.5, 1.0):
        t = torch.full((len(few),), quality, device=few.device)
        with torch.no_grad():
            error, divergence = task.compare(few, task.net.decode(task.net.latents(few, t).round(), t))
        out |= {
            f"start_features_{quality:g}": float(error.mean()),
            f"start_answers_{quality:g}": float(divergence.mean()),
        }
    return out
