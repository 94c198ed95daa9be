"""Training of S2LIC image models: one Lightning task, one variable-rate model, in as many parts as it takes.

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

import copy
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..codecs.layers.exact_state import export_state
from ..codecs.s2lic import CONFIGS, Config, S2licCodec, fill_network, make_tables, metadata, network_of, table_state
from ..codecs.s2lic_net import LAMBDA, S2licConfig, S2licNet, check_choice, check_sizes, initialise, rate_weight
from ..codecs.s2lic_paper import S2licPaperNet
from ..codecs.weights import load_tensors
from ..datasets.images import RandomCrops, find_pictures, load_pictures
from ..entropy.exact import ExactConv2d, FixedPoint, set_mode
from ..errors import UsageError, WeightsError
from .s2lic_tables import with_fitted_tables
from .weights import write_weights


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
    graph: bool = False  # one device, the whole step on it as one CUDA graph: `s2lic_graph.py`
    seconds: float = 0.0  # with `graph`: the run takes so long; `decay_from` and `hard_from` are shares of `steps` then
    scales: tuple[float, ...] = ()  # with `graph`: the pictures also made smaller, which rids JPEGs of their artefacts
    table_crops: int = 0  # pictures that the entropy tables are fitted to at the end; 0: the densities' own tables
    start: str = ""  # what a new run begins with: averaged weights of a checkpoint (.ckpt), or a .safetensors file

    def __post_init__(self) -> None:
        """ValueError, which names the setting and what is allowed."""
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
    """ValueError unless it is a number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        # YAML takes 1e-3 for text
        raise ValueError(f"{name} is {value!r:.80}; expected a number from 0 to {most:g}, written like 0.001 or 1.0e-3")


_PACKAGE = Path(__file__).resolve().parents[1]
EMA_EVERY = 4
# lambda of 1 - MS-SSIM for one of 255^2 MSE: the pairs that CompressAI's models are trained with differ by 1250 to 1350
MS_SSIM_WEIGHT = 1290.0
MS_SSIM_CROP = 176  # five scales of an 11x11 window need more than 160 pixels


class S2licTask(lightning.LightningModule):
    """Trains `net`, keeps an exponential moving average of it in `ema`, which is what gets exported."""

    def __init__(self, config: Config, recipe: S2licRecipe) -> None:
        super().__init__()
        self.config, self.recipe = config, recipe
        self.net = network_of(config)
        self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.hard = False
        self.crops: RandomCrops | None = None

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameter_groups(), betas=(0.9, 0.99), fused=True)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._schedule(optimizer), "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is given: kernels, linear shortcuts, what depends on the quality, biases."""
        groups: tuple[list[nn.Parameter], ...] = ([], [], [], [])
        for name, parameter in self.net.named_parameters():
            kind = 1 if ".linear." in name else 2 if name.endswith(".values") else 3 if parameter.ndim == 1 else 0
            groups[kind].append(parameter)
        rates = (self.recipe.lr * factor for factor in self._factors())
        return [{"params": members, "lr": rate} for members, rate in zip(groups, rates, strict=True)]

    def _factors(self) -> tuple[float, ...]:
        """Learning rates of kernels, linear shortcuts, what depends on the quality, biases; relative to lr."""
        return 1.0, self.recipe.linear_lr, self.recipe.knots_lr, self.recipe.bias_lr

    def _schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        recipe = self.recipe

        def factor(step: int) -> float:
            progress = (step - recipe.decay_from) / max(1, recipe.steps - recipe.decay_from)
            return min(1.0, (step + 1) / recipe.warmup) * min(1.0, max(0.0, 1 - progress))

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def on_train_start(self) -> None:
        """A resumed run takes the learning rate of the recipe, not of the checkpoint."""
        scheduler: Any = self.lr_schedulers()
        scheduler.base_lrs = [self.recipe.lr * factor for factor in self._factors()]
        for group, base, factor in zip(
            scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(self.global_step)

    def enter_phase(self) -> None:
        """Switches to rounding and fixed-point twins when their time has come; also right after a resume."""
        if not self.hard and self.global_step >= self.recipe.hard_from:
            self.hard = True
            for net in (self.net, self.ema):
                set_mode(net, "twin")

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        self.enter_phase()
        # a resumed run draws what it would have drawn
        torch.manual_seed((self.recipe.seed + 7919 * self.global_rank) * 1_000_003 + self.global_step)
        loss, bpp, mse = self.losses(batch, self.recipe.bf16)
        self.log_dict({"loss": loss, "bpp": bpp.mean(), "psnr": (10 * torch.log10(255**2 / mse)).mean()})
        return loss

    def losses(self, batch: Tensor, bf16: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of a batch (B, 3, H, W) at random qualities; bits per pixel and 255^2 MSE of each sample, (B,)."""
        # one quality from each part of the range: the sum of the samples' losses varies less than with free ones
        t = (torch.arange(len(batch), device=batch.device) + torch.rand(len(batch), device=batch.device)) / len(batch)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=bf16, cache_enabled=not self.recipe.graph):
            out = self.net(batch, t, self.hard)
        bpp = (out.y_bits + out.z_bits) / (batch.shape[-1] * batch.shape[-2])
        weight = LAMBDA[0] * (LAMBDA[1] / LAMBDA[0]) ** t
        mse = (out.x_hat.float() - batch).square().mean((1, 2, 3)) * 255**2
        distortion = mse if self.recipe.distortion == "mse" else MS_SSIM_WEIGHT * lost_structure(out.x_hat, batch)
        loss = (0.05 * (weight * distortion + bpp) / weight.sqrt()).mean()
        return loss, bpp.detach(), mse.detach()

    def after_step(self) -> None:
        """Averages the weights, and keeps the grids of twins fitted."""
        if self.global_step % EMA_EVERY == 0:
            decay = min(self.recipe.ema**EMA_EVERY, (self.global_step + 1) / (self.global_step + 20))
            with torch.no_grad():
                for target, source in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                    target.lerp_(source, 1 - decay)
                for target, source in zip(self.ema.buffers(), self.net.buffers(), strict=True):
                    target.copy_(source)
        if self.hard and self.global_step % 50 == 0:
            for net in (self.net, self.ema):
                refit(net)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["hard"] = self.hard
        checkpoint["decay"] = [self.recipe.decay_from, self.recipe.steps]
        # what the quantisers have seen: the last phase may begin with the first step after a resume
        checkpoint["peaks"] = {name: float(peak) for name, peak in self.named_buffers() if name.endswith(".peak")}
        checkpoint["calls"] = {name: part._calls for name, part in self.named_modules() if isinstance(part, FixedPoint)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.hard = bool(checkpoint["hard"])
        if self.crops is not None:
            self.crops.start = checkpoint["global_step"]  # go on with the batch that would have come next
        buffers = dict(self.named_buffers())
        for name, peak in checkpoint.get("peaks", {}).items():
            buffers[name].fill_(peak)
        for name, part in self.named_modules():
            if isinstance(part, FixedPoint):
                part._calls = checkpoint.get("calls", {}).get(name, 0)
        if self.hard:
            for net in (self.net, self.ema):
                for part in net.modules():
                    if isinstance(part, (ExactConv2d, FixedPoint)):
                        part.mode = "twin"  # the grids themselves are in the checkpoint


def lost_structure(x_hat: Tensor, x: Tensor) -> Tensor:
    """1 - MS-SSIM of each picture, (B,), differentiable; (B, 3, H, W) in [0, 1], sides of 176 pixels or more."""
    from pytorch_msssim import ms_ssim

    return 1 - ms_ssim(x_hat.float(), x, data_range=1.0, size_average=False)


def refit(net: nn.Module) -> None:
    """Chooses the weight grids of a twin again, after its weights have moved."""
    for part in net.modules():
        if isinstance(part, ExactConv2d):
            part.fit_exponents()


QUALITIES = (0.15, 0.5, 0.85)  # where the held-out pictures are looked at while training


@torch.no_grad()
def estimate(
    net: S2licNet | S2licPaperNet, pictures: list[Tensor], qualities: tuple[float, ...] = QUALITIES
) -> dict[str, float]:
    """Bits per pixel as the model estimates them and PSNR, with rounding, and the loss R + lambda 255^2 MSE."""
    was_training, stride = net.training, smallest_crop(net.config)
    net.eval()
    found: dict[str, float] = {}
    for quality in qualities:
        rows = []
        for picture in pictures:
            x = picture[None].to(next(net.parameters()).device).float() / 255
            x = x[..., : x.shape[-2] // stride * stride, : x.shape[-1] // stride * stride]
            out = net(x, torch.tensor([quality], device=x.device), True)
            mse = float((out.x_hat.clamp(0, 1) - x).square().mean())
            bpp = float(out.y_bits + out.z_bits) / (x.shape[-1] * x.shape[-2])
            rows.append((bpp, -10 * math.log10(mse), bpp + rate_weight(quality) * 255**2 * mse))
        for name, value in zip(("bpp", "psnr", "loss"), np.mean(rows, 0), strict=True):
            found[f"val_{name}_{quality}"] = float(value)
    net.train(was_training)
    return found


def weights_bytes(task: S2licTask, tag: str) -> bytes:
    """The safetensors file of the averaged weights, with their fixed-point twins fitted."""
    from safetensors.torch import save as to_bytes

    net = copy.deepcopy(task.ema).float().eval()
    if any(isinstance(part, FixedPoint) and part.mode == "float" for part in net.modules()):
        set_mode(net, "twin")
    refit(net)
    return to_bytes(
        {**export_state(net), **table_state(*make_tables())}, metadata(task.config, tag, task.recipe.distortion)
    )


def export(
    task: S2licTask,
    settings: Mapping[str, Any],
    folder: Path,
    about: Mapping[str, Any],
    pictures: Sequence[Tensor] = (),
) -> Path:
    """Writes s2lic-TAG.safetensors and its manifest s2lic-TAG.json. Copy both to `weights/` to ship them.

    pictures: what entropy tables are fitted to, if the recipe wants it.
    """
    tag = settings["tag"]
    data = weights_bytes(task, tag)
    if pictures and task.recipe.table_crops and isinstance(task.net, S2licNet):
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "before.safetensors"
            path.write_bytes(data)
            data = with_fitted_tables(path, pictures, task.recipe.table_crops)
    return write_weights(folder, "s2lic", "S2LIC", tag, data, task.net, tag == "small", about)


def code(task: S2licTask, pictures: list[Tensor], qualities: tuple[float, ...] = QUALITIES) -> dict[str, float]:
    """Bits per pixel of whole files and PSNR of what is decoded from them, by the codec that would ship now."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "now.safetensors"
        path.write_bytes(weights_bytes(task, "now"))
        return code_with(path, pictures, qualities)


def code_with(weights: Path, pictures: list[Tensor], qualities: tuple[float, ...] = QUALITIES) -> dict[str, float]:
    """The same with a weights file."""
    codec = S2licCodec.from_weights(None, None, weights, "cpu")
    found: dict[str, float] = {}
    for quality in qualities:
        rows = []
        for picture in pictures:
            pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
            data = codec.compress(pixels, 1 + 99 * quality)
            mse = float(np.mean((codec.decompress(data).astype(np.float64) - pixels) ** 2)) / 255**2
            rows.append((8 * len(data) / (pixels.shape[0] * pixels.shape[1]), -10 * math.log10(max(mse, 1e-10))))
        for name, value in zip(("bpp", "psnr"), np.mean(rows, 0), strict=True):
            found[f"file_{name}_{quality}"] = float(value)
    return found


def finish(
    task: S2licTask,
    settings: Mapping[str, Any],
    folder: Path,
    about: Mapping[str, Any],
    progress: Progress,
    pictures: Sequence[Tensor],
    step: int,
    seconds: float,
    device: torch.device,
) -> None:
    """The end of a run: estimates, weights, and then the held-out pictures as files that these very weights make."""
    held_out = progress.held_out
    metrics = estimate(task.ema, held_out) if held_out else {}
    where = {"steps": step, "seconds": round(seconds), "device": device_name(device)}
    path = export(task, settings, folder, {**about, **where, "metrics": metrics}, pictures)
    if held_out and isinstance(task.net, S2licNet):
        metrics |= code_with(path, held_out)
        manifest = path.with_suffix(".json")
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "metrics": metrics}, indent=2) + "\n")
    progress.write({"step": step, "seconds": seconds, **metrics})


def read_checkpoint(path: Path, advice: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a run saved; UsageError, which ends in the advice, if the file is anything else."""
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # what is raised depends on which byte is wrong
        # without torch's text: it advises to run what the file says
        raise UsageError(f"{path} can't be read as a checkpoint ({type(error).__name__}): {advice}") from None
    needed = {"state_dict": Mapping, "global_step": int, "hard": bool}
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), kind) for k, kind in needed.items()):
        raise UsageError(f"{path} isn't a checkpoint of `codec train s2lic`: {advice}")
    return checkpoint


def load_checkpoint(task: S2licTask, path: Path) -> int:
    """Fills a task from a checkpoint, for a look or an export without training. Returns its step."""
    checkpoint = read_checkpoint(path, "name a checkpoint of a run, such as runs/s2lic-small/last.ckpt")
    task.load_state_dict(checkpoint["state_dict"])
    task.on_load_checkpoint(checkpoint)
    return int(checkpoint["global_step"])


class Progress(Callback):
    """Log of a run, one JSON line every `every` steps, and checkpoints.

    Every `validate_seconds` of training, and at the end, the held-out pictures are looked at; every `save_seconds` a
    checkpoint is written, to `last.ckpt` before the decay and to `decay.ckpt` in it.
    """

    def __init__(
        self,
        folder: Path,
        held_out: list[Tensor],
        every: int = 100,
        validate_seconds: float = 1200,
        save_seconds: float = 300,
    ) -> None:
        self.folder, self.held_out, self.every = folder, held_out, every
        self.validate_seconds, self.save_seconds = validate_seconds, save_seconds
        self.sums: dict[str, list[float]] = {}
        self.seconds = self.validated = self.saved = 0.0
        self.last = time.monotonic()

    def write(self, row: Mapping[str, float]) -> None:
        with (self.folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps({key: round(value, 4) for key, value in row.items()}) + "\n")
        sys.stderr.write("  ".join(f"{key} {value:.5g}" for key, value in row.items()) + "\n")

    def look(self, task: S2licTask) -> dict[str, float]:
        """The held-out pictures, as estimated and as files."""
        if not self.held_out:
            return {}
        files = code(task, self.held_out) if isinstance(task.net, S2licNet) else {}
        return {**estimate(task.ema, self.held_out), **files}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.validated = self.saved = self.seconds
        self.last = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self.seconds, self.last = self.seconds + now - self.last, now
        step, recipe, first = trainer.global_step, pl_module.recipe, trainer.is_global_zero
        pl_module.after_step()  # here, so that a checkpoint has it: callbacks come before the module's own hooks
        if first and step % 10 == 0:
            for name, value in trainer.logged_metrics.items():
                self.sums.setdefault(name, []).append(float(value))
        if first and step % self.every == 0:
            means = {name: sum(values) / len(values) for name, values in self.sums.items()}
            self.sums.clear()
            self.write({"step": step, "seconds": self.seconds, **means})
        # every process takes part in a checkpoint, so the first one's clock decides for all
        due = step == recipe.decay_from or self.seconds - self.saved > self.save_seconds
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)
        if due:
            self.saved = self.seconds
            save(trainer, self.folder / ("last.ckpt" if step <= recipe.decay_from else "decay.ckpt"))
        if first and self.held_out and self.seconds - self.validated > self.validate_seconds:
            self.validated = self.seconds
            self.write({"step": step, "seconds": self.seconds, **self.look(pl_module)})
            self.last = time.monotonic()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Ctrl-C and SIGTERM: what was trained since the last checkpoint isn't lost."""
        if isinstance(exception, KeyboardInterrupt) and trainer.world_size == 1 and trainer.global_step:
            before = trainer.global_step <= pl_module.recipe.decay_from
            save(trainer, self.folder / ("last.ckpt" if before else "decay.ckpt"))

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]


def save(trainer: lightning.Trainer, path: Path) -> None:
    """A checkpoint that is there whole or not at all. Every process calls this, the first one writes."""
    partial = path.with_suffix(".part")
    trainer.save_checkpoint(partial)
    if trainer.is_global_zero:
        partial.rename(path)


def checkpoint_to_resume(folder: Path, recipe: S2licRecipe) -> Path | None:
    """`decay.ckpt` if it belongs to the decay that the recipe asks for, otherwise `last.ckpt`, if there is one."""
    last, decay = folder / "last.ckpt", folder / "decay.ckpt"
    if decay.exists():
        about = read_checkpoint(decay, GO_BACK)
        if about.get("decay") == [recipe.decay_from, recipe.steps]:
            return decay
    return last if last.exists() else None


GO_BACK = "delete it, and --resume goes on from last.ckpt, before the decay"
START_OVER = "delete it, and --resume begins anew"


def check_resumable(task: S2licTask, path: Path) -> None:
    """UsageError if Lightning could not go on from this checkpoint."""
    advice = GO_BACK if path.name == "decay.ckpt" else START_OVER
    checkpoint = read_checkpoint(path, advice)
    if "optimizer_states" not in checkpoint:
        raise UsageError(f"{path} is of a run with `graph: true`: begin a new one with `start: {path}` in the recipe")
    states = (task.state_dict(), checkpoint["state_dict"])
    expected, found = ({name: getattr(v, "shape", None) for name, v in state.items()} for state in states)
    if expected != found:
        raise UsageError(f"{path} doesn't fit this model: {advice}")


def smallest_crop(config: Config) -> int:
    """Crops are multiples of this: z has 1/64 of the resolution, and windows of the attention are 128 pixels wide."""
    return 64 if isinstance(config, S2licConfig) and not config.attention else config.stride


def check_settings(settings: Mapping[str, Any], devices: int = 1, nodes: int = 1) -> tuple[Config, S2licRecipe]:
    """Network and recipe of a YAML file, on so many devices; UsageError if they can't be."""
    from .cli import fill

    network = settings.get("network", "small")
    if not isinstance(network, str) or network not in CONFIGS:
        raise UsageError(f"network {network!r}: there are {', '.join(CONFIGS)}")
    config = fill(CONFIGS[network], settings["model"], "model")
    recipe = fill(S2licRecipe, settings["recipe"], "recipe")
    structure = recipe.distortion == "ms-ssim"
    multiple, least = smallest_crop(config), MS_SSIM_CROP if structure else 1
    if recipe.crop % multiple or recipe.crop < least:
        needs = f"MS-SSIM needs {MS_SSIM_CROP} pixels or more, and {network!r}" if structure else f"{network!r} needs"
        works = -(-max(recipe.crop, least) // multiple) * multiple
        raise UsageError(f"recipe: crop is {recipe.crop}; {needs} multiples of {multiple}: take `crop: {works}`")
    if (recipe.seconds or recipe.scales) and not recipe.graph:
        raise UsageError("`seconds` and `scales` of a recipe need `graph: true`")
    if recipe.graph and devices * nodes > 1:
        raise UsageError("`graph: true` is for one device; leave it out of the recipe to train on several")
    return config, recipe


def train(
    settings: Mapping[str, Any],
    data: Path,
    folder: Path,
    resume: bool,
    device: str,
    about: Mapping[str, Any],
    devices: int = 1,
    nodes: int = 1,
) -> None:
    """Runs a recipe (see train/recipes/s2lic) to its end, from where it stopped if `resume`, and exports the weights.

    about: fields of the manifest that only the caller knows (recipe, commit, data, licence). devices: how many of a
    machine; nodes: how many machines. The recipe's batch is that of each device.
    """
    config, recipe = check_settings(settings, devices, nodes)
    lightning.seed_everything(recipe.seed, verbose=False)
    pictures = load_pictures(find_pictures(data), recipe.crop)
    if not pictures:
        raise UsageError(f"{data}: no picture there is at least {recipe.crop} pixels wide and high")
    held_out = pictures[::48] if len(pictures) >= 96 else []
    pictures = [p for i, p in enumerate(pictures) if i % 48 or not held_out]
    held_out = [middle(p, 768) for p in held_out]
    task = S2licTask(config, recipe)
    progress = Progress(folder, held_out)
    if recipe.graph:
        from .s2lic_graph import run

        run(task, settings, pictures, progress, folder, resume, device, about)
        return
    trainer = lightning.Trainer(
        max_steps=recipe.steps,
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        gradient_clip_val=recipe.clip,
        callbacks=[progress],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,  # Lightning's goes to stdout, which is for data; `Progress` writes to stderr
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    checkpoint = checkpoint_to_resume(folder, recipe) if resume else None
    if checkpoint is None:
        begin(task, recipe, pictures, progress if trainer.is_global_zero else None)
    else:
        check_resumable(task, checkpoint)
    seed = recipe.seed + 7919 * trainer.global_rank
    crops = task.crops = RandomCrops(pictures, recipe.crop, recipe.batch, seed)
    trainer.fit(
        task,
        DataLoader(crops, batch_size=None),
        ckpt_path=None if checkpoint is None else str(checkpoint),
        weights_only=True,
    )
    save(trainer, folder / ("last.ckpt" if trainer.global_step <= recipe.decay_from else "decay.ckpt"))
    if not trainer.is_global_zero:
        return
    finish(task, settings, folder, about, progress, pictures, trainer.global_step, progress.seconds, task.device)


def begin(task: S2licTask, recipe: S2licRecipe, pictures: list[Tensor], progress: Progress | None) -> None:
    """What step 0 is: the averaged weights of another run, or the closed form of `initialise`."""
    if recipe.start:
        start_from(task, Path(recipe.start))
    elif isinstance(task.net, S2licNet):
        generator = np.random.default_rng(recipe.seed)
        source = RandomCrops(pictures, recipe.crop, 1, recipe.seed)
        start = torch.stack([source.crop(generator) for _ in range(recipe.initial_pictures)]).float() / 255
        found = initialise(task.net, start)
        if progress is not None:
            progress.write({"step": 0, "unquantised_psnr": found["psnr"]})
    task.ema.load_state_dict(task.net.state_dict())


def start_from(task: S2licTask, path: Path) -> None:
    """Fills the network with the averaged weights of a checkpoint, or with those of a weights file."""
    advice = "name a checkpoint of a run, or a weights file that it exported"
    if not path.is_file() and (_PACKAGE / path).is_file():
        path = _PACKAGE / path  # weights that ship, as recipes that ship name them, wherever the command runs
    if not path.is_file():
        raise UsageError(f"start: {path}: no such file; {advice}")
    try:
        if path.suffix == ".safetensors":
            tensors = load_tensors(path).tensors
            fill_network(task.net, {name: value for name, value in tensors.items() if "_tables." not in name})
            return
        other = S2licTask(task.config, task.recipe)
        load_checkpoint(other, path)
    except UsageError as error:
        raise UsageError(f"start: {error}") from None
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, WeightsError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"start: {path} doesn't fit this model ({reason}): {advice}") from None
    task.net.load_state_dict(other.ema.state_dict())
    for target, source in zip(task.net.modules(), other.net.modules(), strict=True):
        if isinstance(target, FixedPoint) and isinstance(source, FixedPoint):
            target.peak.copy_(source.peak)  # where the grids of the last phase come from


def device_name(device: torch.device) -> str:
    """What the run trained on, for the manifest."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread(s)"


def middle(picture: Tensor, size: int) -> Tensor:
    """At most size x size pixels from the middle of a picture (3, H, W)."""
    h, w = (min(size, side) for side in picture.shape[1:])
    top, left = (picture.shape[1] - h) // 2, (picture.shape[2] - w) // 2
    return picture[:, top : top + h, left : left + w]
