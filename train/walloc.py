"""Training of WaLLoC image models: the task, its recipe, and `codec train walloc`. Two phases.

Phase 1 (the paper's): uniform noise for rounding, everything trains, here with a rate term from the context model.
Phase 2 (its successor's hard-rounding stage): the encoder is frozen, latents are rounded, and the decoder and context
model run as the fixed-point twins of what will ship. Loss: lambda gain^2 255^2 MSE + bits per pixel, divided by the
gain so that no rate owns the gradient. Jacobellis and Yadwadkar, arXiv 2412.09405 and 2605.06628.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from ..codecs.walloc.config import WallocConfig
from ..codecs.walloc.network import WallocNet, initialise
from ..codecs.walloc.torch_model import export_state, import_state, logistic_tables
from ..codecs.walloc.torch_networks import TorchNetworks
from ..codecs.walloc.weights import metadata
from ..datasets.images import RandomCrops
from ..entropy.tables import Tables
from .fit import fit
from .photos import code_pictures, first_crops, photos_in
from .settings import fill
from .task import Loss, Schedule
from .twins import TwinTask, twin_of

__all__ = ["WallocRecipe", "WallocTask", "snapshot", "train"]


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


# Part of the quality scale, and 16 log2(gain) at its two ends, by tag. See `codecs.walloc.WallocCodec`.
QUALITY = {"16x": ((1.0, 50.0), (-24, 8)), "4x": ((50.0, 100.0), (-24, 6))}
ANY_QUALITY = ((1.0, 100.0), (-24, 8))


class WallocTask(TwinTask):
    """Trains a WaLLoC network at random gains before the quantiser, so that it has a variable rate.

    nominal: 16 log2(gain) of the exported weights if no quality is asked for.
    """

    family, title, default_tag = "walloc", "WaLLoC", "16x"
    log_every = 50
    validate_seconds = 300.0
    net: WallocNet
    ema: WallocNet

    def __init__(self, config: WallocConfig, recipe: WallocRecipe, tag: str = "", nominal: int = 0) -> None:
        net = WallocNet(config)
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        schedule = Schedule(recipe.steps, recipe.warmup, recipe.warmup, "cosine", floor=1e-3)
        super().__init__(net, schedule, recipe.lr, recipe.ema, recipe.clip, recipe.seed, tag)
        self.config, self.recipe, self.nominal = config, recipe, nominal
        self.hard_from = recipe.hard_from * recipe.steps
        self.quality, self.gains = QUALITY.get(tag, ANY_QUALITY)

    def parameter_groups(self) -> list[dict[str, Any]]:
        relative = {"encoder.": self.recipe.encoder_lr, "decoder.linear.": self.recipe.linear_lr, "": 1.0}
        groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in relative}
        for name, parameter in self.net.named_parameters():
            groups[next(prefix for prefix in relative if name.startswith(prefix))].append(parameter)
        return [{"params": groups[prefix], "lr": self.recipe.lr * factor} for prefix, factor in relative.items()]

    def enter_phase(self, name: str) -> None:
        self.net.encoder.requires_grad_(False)
        super().enter_phase(name)

    def restore_phase(self, name: str) -> None:
        self.net.encoder.requires_grad_(False)
        super().restore_phase(name)

    def loss(self, batch: Tensor) -> Loss:
        """Weighs rate and distortion of a batch (B, 3, H, W) in [0, 1]. The log has those of samples at gain 1 only."""
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
        if not bool(nominal.any()):
            return Loss(loss)
        psnr = (10 * torch.log10(255**2 / mse.detach()))[nominal].mean()
        return Loss(loss, {"bpp": bpp.detach()[nominal].mean(), "psnr": psnr})

    @property
    def codes_files(self) -> bool:
        """Whether there is a context model, which arithmetic coding needs."""
        return bool(self.config.groups)

    def estimate(self) -> dict[str, float]:
        """Estimates bits per pixel by the context model, at the nominal gain, of the integers that files would hold."""
        if not self.codes_files:
            return {}
        _, net, _ = snapshot(self.ema)
        networks = TorchNetworks(net)
        context, rows = net.context, []
        assert context is not None
        for picture in self.held_out:
            pixels = picture.permute(1, 2, 0).contiguous().numpy()
            with torch.inference_mode():
                latents = networks.as_tensor(networks.latents(pixels, self.nominal))
                bits = float(context.bits(latents, net.side(latents.shape, self.nominal)))
            rows.append(bits / (pixels.shape[0] * pixels.shape[1]))
        return {"val_bpp": float(np.mean(rows))}

    def code_with(self, codec: Any) -> dict[str, float]:
        bpp, psnr = code_pictures(codec, self.held_out)
        return {"file_bpp": bpp, "file_psnr": psnr}

    def weights_bytes(self, final: bool = False) -> bytes:
        from safetensors.torch import save

        about = metadata(self.config, self.tag, self.quality, self.gains, self.nominal)
        return save(snapshot(self.ema)[0], about)


def snapshot(ema: WallocNet) -> tuple[dict[str, Tensor], WallocNet, Tables | None]:
    """Makes what would ship of an averaged network: tensors of the file, the frozen network read back, its tables."""
    net = twin_of(ema)
    tables = logistic_tables(net.compander.largest) if net.context is not None else None
    state = export_state(net, tables)
    frozen = WallocNet(net.config)
    import_state(frozen, state)
    return state, frozen.requires_grad_(False).freeze(), tables


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe (see train/recipes/walloc) to its end, from where it stopped if `resume`, and exports the weights.

    about: fields of the manifest that only the caller knows (recipe, commit, data, licence).
    """
    config = fill(WallocConfig, settings["model"], "model")
    recipe = fill(WallocRecipe, settings["recipe"], "recipe")
    lightning.seed_everything(recipe.seed, verbose=False)
    pictures, held_out = photos_in(data, recipe.crop, hold_out=bool(config.groups))
    task = WallocTask(config, recipe, settings["tag"], settings.get("nominal", 0))
    task.held_out = held_out

    def batches(seed: int) -> RandomCrops:
        return RandomCrops(pictures, recipe.crop, recipe.batch, seed)

    def begin() -> dict[str, float]:
        if config.decoder != "small":
            return {}
        crops = first_crops(pictures, recipe.crop, recipe.initial_pictures, recipe.seed)
        return initialise(task.net, crops, recipe.initial_bpp)

    fit(task, batches, begin, folder, resume, device, about)
