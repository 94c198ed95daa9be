"""Training of S2LIC image models: the task and its recipe. One variable-rate model, in as many parts as it takes.

Loss: bits per pixel + lambda 255^2 MSE, or + lambda' (1 - MS-SSIM), with lambda drawn per sample, log-uniformly over
the range of the model, and each sample's loss divided by sqrt(lambda) so that no rate owns the gradient. Noise for the
rate, straight-through rounding for the reconstruction; from `hard_from` on rounding in both, with the entropy networks
as the fixed-point twins of what will ship. The learning rate is constant up to `decay_from` and falls to zero at
`steps`: both may be changed when a run is resumed. `last.ckpt` is never decayed, `decay.ckpt` is the end of the
current decay. (With `graph: true` there is `last.ckpt` only: where the run is, decayed or not.)

Validation looks at held-out pictures twice: as the model estimates them, and, where the model is `small`, as files that
the codec writes and reads with the weights as they would ship. With `graph: true` a run makes files at its end only.
The manifest's are those of the weights beside it, fitted tables included. Several devices and machines: Lightning's
strategies; each process draws its own crops, and the first one writes files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ...codecs.layers.exact_state import export_state
from ...codecs.layers.transform_settings import check_choice, check_sizes
from ...codecs.s2lic.config import LAMBDA, S2licConfig
from ...codecs.s2lic.layers import rate_weight
from ...codecs.s2lic.network import S2licNet
from ...codecs.s2lic.paper import S2licPaperNet
from ...codecs.s2lic.torch_model import make_tables, network_of, table_state
from ...codecs.s2lic.weights import Config, metadata
from ...media.distortion import psnr_of_mse
from ..photos import code_pictures
from ..task import Loss, Schedule
from ..twins import TwinTask, twin_of
from .tables import with_fitted_tables

__all__ = ["QUALITIES", "S2licRecipe", "S2licTask", "estimate", "ms_ssim_distortion", "smallest_crop"]

QUALITIES = (0.15, 0.5, 0.85)  # where the held-out pictures are looked at while training
# lambda of 1 - MS-SSIM for one of 255^2 MSE: the pairs that CompressAI's models are trained with differ by 1250 to 1350
MS_SSIM_WEIGHT = 1290.0
MS_SSIM_CROP = 176  # five scales of an 11x11 window need more than 160 pixels


@dataclass(frozen=True)
class S2licRecipe:
    """Everything a run needs besides the data. Steps are optimiser steps."""

    steps: int
    decay_from: int  # the learning rate is constant before, and falls to zero between here and `steps`
    hard_from: int  # rounding in the rate too, and fixed-point twins, from this step on
    batch: int = 8
    crop: int = 128
    lr: float = 1e-3
    linear_lr: float = 0.1  # the linear shortcuts start at their closed-form optimum; relative to lr
    knots_lr: float = 3.0  # gains and starting levels, relative to lr
    bias_lr: float = 0.1  # biases drift down until activations are dead, and faster than kernels learn; relative to lr
    warmup: int = 500
    ema: float = 0.9995
    clip: float = 1.0
    initial_pictures: int = 192
    bf16: bool = True
    seed: int = 1
    distortion: Literal["mse", "ms-ssim"] = "mse"
    graph: bool = False  # one device, the whole step on it as one CUDA graph: `train/s2lic/graph.py`
    seconds: float = 0.0  # with `graph`: the run takes so long; `decay_from` and `hard_from` are shares of `steps` then
    scales: tuple[float, ...] = ()  # with `graph`: the pictures also made smaller, which rids JPEGs of their artefacts
    table_crops: int = 0  # pictures that the entropy tables are fitted to at the end; 0: the densities' own tables
    start: str = ""  # what a new run begins with: averaged weights of a checkpoint (.ckpt), or a .safetensors file

    def __post_init__(self) -> None:
        """Raises ValueError, which names the setting and what is allowed."""
        least = {"steps": 1, "decay_from": 0, "hard_from": 0, "batch": 1, "crop": 1, "warmup": 1}
        least |= {"initial_pictures": 1, "table_crops": 0, "seed": 0}
        check_sizes(self, {name: (first, 10**9) for name, first in least.items()}, {})
        for name, most in {"lr": 1.0, "linear_lr": 1e3, "knots_lr": 1e3, "bias_lr": 1e3, "ema": 1.0}.items():
            check_number(name, getattr(self, name), most)
        check_number("clip", self.clip, 1e9)
        check_number("seconds", self.seconds, 1e9)
        if not isinstance(self.scales, (tuple, list)):
            raise ValueError(f"scales is {self.scales!r:.80}; expected a list, such as [0.75, 0.6]")
        for scale in self.scales:
            check_number("scales", scale, 1.0)
        check_choice(self, "bf16", (False, True))
        check_choice(self, "graph", (False, True))
        check_choice(self, "distortion", ("mse", "ms-ssim"))
        if not isinstance(self.start, str):
            raise ValueError(f"start is {self.start!r:.80}; expected the name of a file")


def check_number(name: str, value: object, most: float) -> None:
    """Raises ValueError unless a setting is a number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        # YAML takes 1e-3 for text
        raise ValueError(f"{name} is {value!r:.80}; expected a number from 0 to {most:g}, written like 0.001 or 1.0e-3")


class S2licTask(TwinTask):
    """Trains an S2LIC network of either kind for all qualities at once."""

    family, title, default_tag = "s2lic", "S2LIC", "small"
    reported = ("loss", "bpp", "psnr")  # what `loss` has for the log
    fused = True
    ema_every = 4
    net: S2licNet | S2licPaperNet
    ema: S2licNet | S2licPaperNet

    def __init__(self, config: Config, recipe: S2licRecipe, tag: str = "") -> None:
        net = network_of(config)
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        schedule = Schedule(
            recipe.steps, recipe.decay_from, recipe.warmup, seconds=recipe.seconds, steps_count=not recipe.graph
        )
        super().__init__(net, schedule, recipe.lr, recipe.ema, recipe.clip, recipe.seed, tag)
        self.config, self.recipe, self.hard_from = config, recipe, recipe.hard_from
        self.keeps_undecayed = not recipe.graph
        self.codes_along = not recipe.graph
        self.pictures: Sequence[Tensor] = ()  # what entropy tables are fitted to at the end, if the recipe wants it

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups what the optimiser is given: kernels, linear shortcuts, what depends on the quality, biases."""
        groups: tuple[list[nn.Parameter], ...] = ([], [], [], [])
        for name, parameter in self.net.named_parameters():
            kind = 1 if ".linear." in name else 2 if name.endswith(".values") else 3 if parameter.ndim == 1 else 0
            groups[kind].append(parameter)
        factors = (1.0, self.recipe.linear_lr, self.recipe.knots_lr, self.recipe.bias_lr)
        rates = (self.recipe.lr * factor for factor in factors)
        return [{"params": members, "lr": rate} for members, rate in zip(groups, rates, strict=True)]

    def loss(self, batch: Tensor) -> Loss:
        """Weighs rate and distortion of a batch (B, 3, H, W) in [0, 1], each picture at a quality drawn at random."""
        recipe = self.recipe
        # On a GPU twins are computed in TF32, whose 11 bits hold the integers of 8-bit layers. bfloat16 rounds sums.
        bf16 = recipe.bf16 and not (recipe.graph and self.hard and batch.is_cuda)
        # one quality from each part of the range: the sum of the samples' losses varies less than with free ones
        t = (torch.arange(len(batch), device=batch.device) + torch.rand(len(batch), device=batch.device)) / len(batch)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=bf16, cache_enabled=not recipe.graph):
            out = self.net(batch, t, self.hard)
        bpp = (out.y_bits + out.z_bits) / (batch.shape[-1] * batch.shape[-2])
        weight = LAMBDA[0] * (LAMBDA[1] / LAMBDA[0]) ** t
        mse = (out.x_hat.float() - batch).square().mean((1, 2, 3)) * 255**2
        distortion = mse if recipe.distortion == "mse" else MS_SSIM_WEIGHT * ms_ssim_distortion(out.x_hat, batch)
        loss = (0.05 * (weight * distortion + bpp) / weight.sqrt()).mean()
        psnr = (10 * torch.log10(255**2 / mse.detach())).mean()
        return Loss(loss, {"bpp": bpp.detach().mean(), "psnr": psnr})

    @property
    def codes_files(self) -> bool:
        """Whether the network codes a picture in seconds: that of the paper doesn't."""
        return isinstance(self.net, S2licNet)

    def estimate(self) -> dict[str, float]:
        return estimate(self.ema, self.held_out)

    def code_with(self, codec: Any) -> dict[str, float]:
        metrics = {}
        for quality in QUALITIES:
            bpp, psnr = code_pictures(codec, self.held_out, 1 + 99 * quality)
            metrics |= {f"file_bpp_{quality}": bpp, f"file_psnr_{quality}": psnr}
        return metrics

    def weights_bytes(self, final: bool = False) -> bytes:
        """Returns the safetensors file; if final, with tables fitted to training pictures where the recipe says so."""
        from safetensors.torch import save as to_bytes

        tensors = {**export_state(twin_of(self.ema)), **table_state(*make_tables())}
        data = to_bytes(tensors, metadata(self.config, self.tag, self.recipe.distortion))
        if not (final and self.pictures and self.recipe.table_crops and self.codes_files):
            return data
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "before.safetensors"
            path.write_bytes(data)
            return with_fitted_tables(path, self.pictures, self.recipe.table_crops)


def ms_ssim_distortion(x_hat: Tensor, x: Tensor) -> Tensor:
    """Returns 1 - MS-SSIM (B,) of pictures (B, 3, H, W) in [0, 1], sides of 176 pixels or more; differentiable."""
    from pytorch_msssim import ms_ssim

    return 1 - ms_ssim(x_hat.float(), x, data_range=1.0, size_average=False)


def smallest_crop(config: Config) -> int:
    """Returns what sides of crops are multiples of: z has 1/64 of the resolution, attention windows of 128."""
    return 64 if isinstance(config, S2licConfig) and not config.attention else config.stride


@torch.no_grad()
def estimate(
    net: S2licNet | S2licPaperNet, pictures: Sequence[Tensor], qualities: tuple[float, ...] = QUALITIES
) -> dict[str, float]:
    """Returns means over pictures (3, H, W) uint8, with rounding: bits per pixel, PSNR, R + lambda 255^2 MSE."""
    was_training, stride = net.training, smallest_crop(net.config)
    net.eval()
    metrics: dict[str, float] = {}
    for quality in qualities:
        rows = []
        for picture in pictures:
            x = picture[None].to(next(net.parameters()).device).float() / 255
            x = x[..., : x.shape[-2] // stride * stride, : x.shape[-1] // stride * stride]
            out = net(x, torch.tensor([quality], device=x.device), True)
            mse = float((out.x_hat.clamp(0, 1) - x).square().mean())
            bpp = float(out.y_bits + out.z_bits) / (x.shape[-1] * x.shape[-2])
            rows.append((bpp, psnr_of_mse(mse, 1.0), bpp + rate_weight(quality) * 255**2 * mse))
        for name, value in zip(("bpp", "psnr", "loss"), np.mean(rows, 0), strict=True):
            metrics[f"val_{name}_{quality}"] = float(value)
    net.train(was_training)
    return metrics
