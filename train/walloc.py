"""Training of WaLLoC image models: one Lightning task, two phases.

Phase 1 (the paper's): uniform noise for rounding, everything trains, here with a rate term from the context model.
Phase 2 (its successor's hard-rounding stage): the encoder is frozen, latents are rounded, and the decoder and context
model run as the fixed-point twins of what will ship. Loss: lambda gain^2 255^2 MSE + bits per pixel, divided by the
gain so that no rate owns the gradient. Jacobellis and Yadwadkar, arXiv 2412.09405 and 2605.06628.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..codecs.walloc import Model, WallocCodec, export_state, import_state, logistic_tables, metadata
from ..codecs.walloc_net import WallocConfig, WallocNet, initialise
from ..datasets.images import RandomCrops, find_pictures, load_pictures
from ..entropy.exact import ExactConv2d, FixedPoint, set_mode
from ..entropy.tables import Tables
from ..errors import UsageError
from .weights import write_weights


@dataclass(frozen=True)
class WallocRecipe:
    """Everything a run needs besides the data. Steps are optimiser steps."""

    steps: int
    batch: int = 16
    crop: int = 128
    lr: float = 1e-3
    encoder_lr: float = 0.1  # encoder and linear decoder start at their closed-form optimum: their rates relative to lr
    linear_lr: float = 0.01
    warmup: int = 200
    distortion: float = 0.012  # lambda: bits per pixel that one unit of 255^2 MSE is worth
    log2_gain: tuple[float, float] = (-1.5, 0.5)  # range of the random gain, for variable rate
    nominal: float = 0.5  # share of samples that train at gain 1
    hard_from: float = 0.7  # share of the steps in phase 1
    ema: float = 0.999
    clip: float = 1.0
    initial_bpp: float = 0.62  # first-order entropy of the closed-form start
    initial_pictures: int = 192
    bf16: bool = True
    seed: int = 1


class WallocTask(lightning.LightningModule):
    """Trains `net`, keeps an exponential moving average of it in `ema`, which is what gets exported."""

    def __init__(self, config: WallocConfig, recipe: WallocRecipe) -> None:
        super().__init__()
        self.config, self.recipe = config, recipe
        self.net = WallocNet(config)
        self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.hard = False
        self.crops: RandomCrops | None = None

    def configure_optimizers(self) -> Any:
        relative = {"encoder.": self.recipe.encoder_lr, "decoder.linear.": self.recipe.linear_lr, "": 1.0}
        groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in relative}
        for name, parameter in self.net.named_parameters():
            groups[next(prefix for prefix in relative if name.startswith(prefix))].append(parameter)
        optimizer = torch.optim.Adam(
            [{"params": groups[prefix], "lr": self.recipe.lr * factor} for prefix, factor in relative.items()],
            betas=(0.9, 0.99),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._schedule(optimizer), "interval": "step"}}

    def _schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        recipe = self.recipe

        def factor(step: int) -> float:
            if step < recipe.warmup:
                return (step + 1) / recipe.warmup
            progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress))) + 1e-3

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def enter_phase(self) -> None:
        """Switches to the fixed-point twins when their time has come; also right after a resume."""
        if not self.hard and self.global_step >= self.recipe.hard_from * self.recipe.steps:
            self.hard = True
            self.net.encoder.requires_grad_(False)
            for net in (self.net, self.ema):
                set_mode(net, "twin")

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        self.enter_phase()
        torch.manual_seed(
            self.recipe.seed * 1_000_003 + self.global_step
        )  # a resumed run draws what it would have drawn
        low, high = self.recipe.log2_gain
        log2_gain = torch.empty(len(batch), device=batch.device).uniform_(low, high)
        log2_gain[torch.rand(len(batch), device=batch.device) < self.recipe.nominal] = 0.0
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            out = self.net(batch, log2_gain, self.hard)
        mse = (out.x_hat.float() - batch).square().mean((1, 2, 3)) * 255**2
        bpp = out.bits / (batch.shape[-1] * batch.shape[-2])
        gain = torch.exp2(log2_gain)
        loss = ((self.recipe.distortion * gain**2 * mse + bpp) / gain).mean()
        nominal = log2_gain == 0
        if bool(nominal.any()):
            psnr = (10 * torch.log10(255**2 / mse.detach()))[nominal].mean()
            self.log_dict({"loss": loss, "bpp": bpp[nominal].mean(), "psnr": psnr}, prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        decay = min(self.recipe.ema, (self.global_step + 1) / (self.global_step + 20))
        with torch.no_grad():
            for target, source in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                target.lerp_(source, 1 - decay)
            for target, source in zip(self.ema.buffers(), self.net.buffers(), strict=True):
                target.copy_(source)
        if self.hard and self.global_step % 50 == 0:
            # weights move: keep their grids fitted
            for net in (self.net, self.ema):
                refit(net)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["hard"] = self.hard
        # what the quantisers have seen: the second phase may begin with the first step after a resume
        checkpoint["peaks"] = {name: float(peak) for name, peak in self.named_buffers() if name.endswith(".peak")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.hard = bool(checkpoint["hard"])
        if self.crops is not None:
            self.crops.start = checkpoint["global_step"]  # go on with the batch that would have come next
        buffers = dict(self.named_buffers())
        for name, peak in checkpoint.get("peaks", {}).items():
            buffers[name].fill_(peak)
        if self.hard:
            self.net.encoder.requires_grad_(False)
            for net in (self.net, self.ema):
                for part in net.modules():
                    if isinstance(part, (ExactConv2d, FixedPoint)):
                        part.mode = "twin"  # the grids themselves are in the checkpoint


def refit(net: nn.Module) -> None:
    """Chooses the weight grids of a twin again, after its weights have moved."""
    for part in net.modules():
        if isinstance(part, ExactConv2d):
            part.fit_exponents()


# Part of the quality scale, and 16 log2(gain) at its two ends, by tag. See `codecs.walloc.WallocCodec`.
QUALITY = {"16x": ((1.0, 50.0), (-24, 8)), "4x": ((50.0, 100.0), (-24, 6))}


def snapshot(ema: WallocNet) -> tuple[dict[str, Tensor], WallocNet, Tables | None]:
    """What would ship of the averaged network now: weights file tensors, and the frozen network read back from them."""
    net = copy.deepcopy(ema).float().eval()
    if any(isinstance(part, FixedPoint) and part.mode == "float" for part in net.modules()):
        set_mode(net, "twin")
    refit(net)
    tables = logistic_tables(net.compander.largest) if net.context is not None else None
    state = export_state(net, tables)
    frozen = WallocNet(net.config)
    import_state(frozen, state)
    return state, frozen.requires_grad_(False).freeze(), tables


def codec_of(ema: WallocNet, tag: str, nominal: int) -> WallocCodec:
    """A working codec of the averaged network, for validation with real files."""
    _, net, tables = snapshot(ema)
    quality, gains = QUALITY.get(tag, ((1.0, 100.0), (-24, 8)))
    return WallocCodec(Model(net, tables, tag, quality, gains, nominal, b""))


def validate(task: WallocTask, tag: str, pictures: list[Tensor]) -> dict[str, float]:
    """Codes held-out pictures to files and back: bits per pixel of the files and as estimated, and mean PSNR."""
    codec = codec_of(task.ema, tag, 0)
    rows = []
    for picture in pictures:
        pixels = picture.permute(1, 2, 0).contiguous().numpy()
        data = codec.compress(pixels)
        mse = float(np.mean((codec.decompress(data).astype(np.float64) - pixels) ** 2))
        with torch.inference_mode():
            latents = codec.integers(pixels, 0)
            net = codec.model.net
            assert net.context is not None
            estimate = float(net.context.bits(latents, net.side(latents.shape, 0)))
        size = pixels.shape[0] * pixels.shape[1]
        rows.append((8 * len(data) / size, estimate / size, 10 * math.log10(255**2 / max(mse, 1e-9))))
    real, estimated, psnr = (float(np.mean(column)) for column in zip(*rows, strict=True))
    return {"val_bpp": real, "val_bpp_estimated": estimated, "val_psnr": psnr}


def export(task: WallocTask, settings: Mapping[str, Any], folder: Path, about: Mapping[str, Any]) -> Path:
    """Writes walloc-TAG.safetensors and its manifest walloc-TAG.json. Copy both to `weights/` to ship them."""
    from safetensors.torch import save

    tag = settings["tag"]
    state, _, _ = snapshot(task.ema)
    quality, gains = QUALITY.get(tag, ((1.0, 100.0), (-24, 8)))
    data = save(state, metadata(task.config, tag, quality, gains, settings.get("nominal", 0)))
    return write_weights(folder, "walloc", "WaLLoC", tag, data, task.net, tag == "16x", about)


class Progress(lightning.Callback):
    """Log of a run, one JSON line every `every` steps: running means of what the task logs, and seconds of training
    so far.

    Every `validate_every` steps, and at the end, the held-out pictures are coded to real files.
    """

    def __init__(
        self, file: Path, tag: str, held_out: list[Tensor], every: int = 50, validate_every: int = 1000
    ) -> None:
        self.file, self.tag, self.held_out, self.every, self.validate_every = file, tag, held_out, every, validate_every
        self.sums: dict[str, list[float]] = {}
        self.seconds = 0.0
        self.last = time.monotonic()

    def write(self, row: Mapping[str, float]) -> None:
        with self.file.open("a") as stream:
            stream.write(json.dumps({key: round(value, 4) for key, value in row.items()}) + "\n")
        if sys.stderr.isatty():
            sys.stderr.write("  ".join(f"{key} {value:.4g}" for key, value in row.items()) + "\n")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.last = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self.seconds, self.last = self.seconds + now - self.last, now
        for name, value in trainer.logged_metrics.items():
            self.sums.setdefault(name, []).append(float(value))
        step = trainer.global_step
        if step % self.every == 0:
            means = {name: sum(values) / len(values) for name, values in self.sums.items()}
            self.sums.clear()
            self.write({"step": step, "seconds": self.seconds, **means})
        if self.held_out and step % self.validate_every == 0:
            self.write({"step": step, "seconds": self.seconds, **validate(pl_module, self.tag, self.held_out)})
            self.last = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]


def train(
    settings: Mapping[str, Any],
    data: Path,
    folder: Path,
    resume: bool,
    device: str,
    about: Mapping[str, Any],
) -> None:
    """Runs a recipe (see train/recipes/walloc) to its end, from the last checkpoint if `resume`, and exports the
    weights.

    about: fields of the manifest that only the caller knows (recipe, commit, data, licence).
    """
    from .cli import fill

    config = fill(WallocConfig, settings["model"], "model")
    recipe = fill(WallocRecipe, settings["recipe"], "recipe")
    if data is None:
        raise UsageError("name a folder of training photos with --data")
    lightning.seed_everything(recipe.seed, verbose=False)
    pictures = load_pictures(find_pictures(data), recipe.crop)
    if not pictures:
        raise UsageError(f"{data}: no picture there is at least {recipe.crop} pixels wide and high")
    held_out = pictures[::48] if len(pictures) >= 96 and config.groups else []
    pictures = [p for i, p in enumerate(pictures) if i % 48 or not held_out]
    task = WallocTask(config, recipe)
    last = folder / "last.ckpt"
    resuming = resume and last.exists()
    if not resuming and config.decoder == "small":
        generator = np.random.default_rng(recipe.seed)
        source = RandomCrops(pictures, recipe.crop, 1, recipe.seed)
        start = torch.stack([source.crop(generator) for _ in range(recipe.initial_pictures)]).float() / 255
        found = initialise(task.net, start, recipe.initial_bpp)
        task.ema.load_state_dict(task.net.state_dict())
        (folder / "initial.json").write_text(json.dumps(found) + "\n")
    crops = task.crops = RandomCrops(pictures, recipe.crop, recipe.batch, recipe.seed)
    checkpoint = ModelCheckpoint(
        folder, filename="last", every_n_train_steps=500, save_top_k=1, enable_version_counter=False
    )
    progress = Progress(folder / "log.jsonl", settings["tag"], held_out)
    trainer = lightning.Trainer(
        max_steps=recipe.steps,
        accelerator=device,
        devices=1,
        gradient_clip_val=recipe.clip,
        callbacks=[checkpoint, progress],
        logger=False,
        enable_progress_bar=False,  # Lightning's goes to stdout, which is for data; `Progress` writes to stderr
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(task, DataLoader(crops, batch_size=None), ckpt_path=str(last) if resuming else None, weights_only=True)
    trainer.save_checkpoint(last)
    metrics: dict[str, float] = {}
    if held_out:
        metrics = validate(task, settings["tag"], held_out)
        progress.write({"step": trainer.global_step, "seconds": progress.seconds, **metrics})
    where = {"steps": trainer.global_step, "seconds": round(progress.seconds), "device": device_name(task.device)}
    export(task, settings, folder, {**about, **where, "metrics": metrics})


def device_name(device: torch.device) -> str:
    """What the run trained on, for the manifest."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread(s)"
