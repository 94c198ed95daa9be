"""Training of WaLLoC's audio models: the task, its recipe, and `codec train walloc-audio`. Two phases.

Phase 1 (the paper's): uniform noise for rounding, everything trains. Phase 2 (its successor's hard-rounding stage): the
encoder is frozen, latents are rounded. The paper's loss is log10 of the squared error alone; small models have a rate
term, at random gains, and may have spectral terms (`sound_losses.py`). Jacobellis and Yadwadkar, arXiv 2412.09405 and
2605.06628.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from torch import Tensor, nn

from ..codecs.walloc.audio.packets import PacketConfig
from ..codecs.walloc.audio.packets_network import PacketNet, SmallDecoder
from ..datasets.sounds import RandomSounds, find_sounds, load_sound
from ..errors import UsageError
from .checkpoints import NAME_ONE, read_checkpoint
from .fit import fit
from .settings import fill
from .sound_losses import mel_distance, stft_distance
from .task import CompressionTask, Loss, Schedule
from .walloc_audio_start import LINEAR_STEP, initialise

__all__ = ["SoundRecipe", "WallocAudioTask", "measure", "si_sdr", "train"]

HARD = "hard"
HELD_OUT_EVERY = 24  # of so many recordings, one is held out, where there are enough of them
HELD_OUT_SECONDS = 8.0  # of each at most


@dataclass(frozen=True)
class SoundRecipe:
    """Everything a run needs besides the data. Steps are optimiser steps.

    distortion: the weight of the squared error, where 1 is what a fine uniform quantiser at its step is worth; of
    "log10" the only term besides the spectral ones. seconds: if not 0, the run goes by the clock.
    """

    steps: int
    seconds: float = 0.0
    batch: int = 8
    crop: int = 2**16  # samples
    lr: float = 5e-4
    encoder_lr: float = 1.0  # encoder, linear decoder and post-filter start at their closed form: rates relative to lr
    linear_lr: float = 0.02
    rate_lr: float = 6.0
    warmup: int = 200
    decay_from: float = 0.4  # share of the steps before the learning rate falls
    loss: Literal["rate", "log10"] = "rate"
    distortion: float = 0.7
    stft: float = 0.0  # weight of the multi-resolution STFT distance
    mel: float = 0.0  # weight of the mel distance
    spread: float = 0.0  # weight of log2 of the latents' standard deviation, for "log10"
    log2_gain: tuple[float, float] = (-2.0, 2.0)  # range of the random gain, for variable rate
    level: tuple[float, float] = (-12.0, 6.0)  # range of the random loudness of each crop, dB
    mixed: float = 0.5  # share of crops that are the sum of two recordings
    speeds: tuple[float, float] = (0.75, 1.33)  # range of the random tempo and pitch of each
    hard_from: float = 0.8  # share of the steps in phase 1
    ema: float = 0.999
    clip: float = 1.0
    initial_kbps: float = 64.0  # estimated rate of the closed-form start at gain 1
    initial_crops: int = 192
    initial_steps: int = 250  # of the rate model alone, three times
    without: tuple[str, ...] = ("speech-digits-8k",)  # folders that are left out
    start: str = ""  # a checkpoint whose encoder, linear decoder and post-filter are taken, in place of the closed form
    bf16: bool = False
    seed: int = 1


class WallocAudioTask(CompressionTask):
    """Trains a `PacketNet`, at random gains before the quantiser if it is a small one.

    gain16: 16 log2(gain) at the ends of the quality scale; nominal: of the exported weights if no quality is asked for.
    """

    family, title, default_tag = "walloc-audio", "WaLLoC audio", ""
    log_every = 25
    codes_along = False
    validate_seconds = 420.0
    net: PacketNet
    ema: PacketNet
    distortion: Tensor

    def __init__(
        self,
        config: PacketConfig,
        recipe: SoundRecipe,
        tag: str = "",
        gain16: tuple[int, int] = (-32, 32),
        nominal: int = 0,
    ) -> None:
        schedule = Schedule(
            recipe.steps,
            recipe.decay_from * recipe.steps,
            recipe.warmup,
            "cosine",
            1e-3,
            seconds=recipe.seconds,
            steps_count=False,
        )
        super().__init__(PacketNet(config), schedule, recipe.lr, recipe.ema, recipe.clip, recipe.seed, tag)
        if recipe.loss == "rate" and config.decoder != "small":
            raise UsageError("recipe: the models of the paper have no rate term; expected loss: log10")
        self.config, self.recipe, self.gain16, self.nominal = config, recipe, gain16, nominal
        self.register_buffer("distortion", torch.tensor(recipe.distortion))

    # ---- phases and rates

    @property
    def hard(self) -> bool:
        """Whether latents are rounded, so that no gradient reaches the encoder."""
        return HARD in self.entered

    def phases(self) -> Mapping[str, float]:
        return {HARD: self.recipe.hard_from * self.recipe.steps} if self.config.decoder == "small" else {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        relative = {
            "encoder.": self.recipe.encoder_lr,
            "decoder.linear.": self.recipe.linear_lr,
            "post.": self.recipe.linear_lr,
            "rate.": self.recipe.rate_lr,
            "": 1.0,
        }
        groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in relative}
        for name, parameter in self.net.named_parameters():
            small = self.config.decoder == "small"
            groups[next(prefix for prefix in relative if name.startswith(prefix) and (small or not prefix))].append(
                parameter
            )
        return [{"params": groups[key], "lr": self.lr * factor} for key, factor in relative.items() if groups[key]]

    # ---- the loss

    def start_from(self, sounds: Tensor) -> dict[str, float]:
        """Gives the network its closed-form start, and the squared error the weight that fits the encoder's steps."""
        about = initialise(self.net, sounds, self.recipe.initial_kbps, self.recipe.initial_steps)
        step = 1 / (LINEAR_STEP * about["scale"])
        # where the slope of rate over distortion is that of a fine uniform quantiser: dR/dD = 1 / (2 ln 2 D), in bits
        self.distortion.fill_(self.recipe.distortion * 6 / (math.log(2) * step**2))
        return about

    def start_from_checkpoint(self, path: Path) -> dict[str, float]:
        """Takes encoder, linear decoder, post-filter and rate model of another run; its residual network is left."""
        state = read_checkpoint(path, NAME_ONE)["state_dict"]
        kept = (
            "distortion",
            "ema.encoder.",
            "ema.decoder.linear.",
            "ema.post.",
            "ema.rate.",
            "ema.decoder.input_",
            "ema.decoder.output_",
        )
        taken = {name.removeprefix("ema."): tensor for name, tensor in state.items() if name.startswith(kept)}
        try:
            self.distortion.copy_(taken.pop("distortion"))
            self.net.load_state_dict({**self.net.state_dict(), **taken})
        except (KeyError, RuntimeError) as error:
            raise UsageError(
                f"recipe: start: {path} doesn't fit this model ({str(error).splitlines()[0]:.200})"
            ) from None
        return {}

    def loss(self, batch: Tensor) -> Loss:
        """Weighs the terms of a batch (B, channels, N) in [-1, 1]."""
        low, high = self.recipe.log2_gain if self.recipe.loss == "rate" else (0.0, 0.0)
        log2_gain = torch.empty(len(batch), device=batch.device).uniform_(low, high)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            out = self.net(batch, log2_gain, self.hard)
        x_hat = out.x_hat.float()
        mse = (x_hat - batch).square().mean((1, 2))
        frames = batch.shape[-1] / self.config.frame
        kbps = out.bits / frames * self.config.rate / self.config.frame / 1000
        metrics = {"sdr": 10 * torch.log10(batch.square().mean() / mse.mean())}
        if self.recipe.loss == "log10":
            total = torch.log10(mse + 1e-10).mean()
        else:
            gain = torch.exp2(log2_gain)
            bits = out.bits / (frames * self.config.bands)
            # the logarithm: the trade of each crop stays what it is, and none owns the gradient by being loud
            total = torch.log(self.distortion * gain**2 * mse + bits + 1e-3).mean()
            metrics["kbps"] = kbps.mean()
        if self.recipe.stft:
            total = total + self.recipe.stft * stft_distance(batch, x_hat)
        if self.recipe.mel:
            total = total + self.recipe.mel * mel_distance(batch, x_hat, self.config.rate)
        if self.recipe.spread:
            total = total + self.recipe.spread * torch.log2(
                self.net.latents_of(self.net.coefficients(batch), log2_gain).std()
            )
        return Loss(total, {name: value.detach() for name, value in metrics.items()})

    # ---- what comes out

    @property
    def codes_files(self) -> bool:
        """False: rates are estimates here, since which coder a file has is the codec's own matter."""
        return False

    def estimate(self) -> dict[str, float]:
        """Measures the held-out recordings at three gains; of the paper's models at the one that they have."""
        gains = (0,) if self.recipe.loss == "log10" else (self.gain16[0], 0, self.gain16[1])
        row: dict[str, float] = {}
        for gain16 in gains:
            kbps, sdr = measure(self.ema, self.held_out, gain16)
            row |= {f"val_kbps_at_{gain16}": kbps, f"val_si_sdr_at_{gain16}": sdr}
        return row

    def weights_bytes(self, final: bool = False) -> bytes:
        from ..codecs.walloc.audio.packets_torch import export_small, export_torch

        export = export_small if isinstance(self.ema.decoder, SmallDecoder) else export_torch
        return export(self.ema, self.tag, self.gain16, self.nominal)


def si_sdr(x: Tensor, x_hat: Tensor) -> float:
    """The scale-invariant signal-to-distortion ratio in dB, over all channels and samples together."""
    x, x_hat = x.double().flatten(), x_hat.double().flatten()
    target = (x @ x_hat) / (x @ x).clamp(min=1e-20) * x
    return float(
        10 * torch.log10((target @ target).clamp(min=1e-20) / (x_hat - target).square().sum().clamp(min=1e-20))
    )


@torch.no_grad()
def measure(net: PacketNet, sounds: Sequence[Tensor], gain16: int) -> tuple[float, float]:
    """Returns kbps by the network's own rate model (0 without one), and mean SI-SDR, of sounds (channels, n)."""
    config = net.config
    bits, n, ratios = 0.0, 0, []
    log2_gain = torch.full((1,), gain16 / 16)
    was_training = net.training
    net.eval()
    for sound in sounds:
        spare = -sound.shape[-1] % config.frame
        padded = nn.functional.pad(sound.float(), (config.frame * 8, spare + config.frame * 8))[None]
        u = torch.round(net.latents_of(net.coefficients(padded), log2_gain))
        x_hat = net.reconstruct(u, log2_gain)[0, :, config.frame * 8 :][:, : sound.shape[-1]]
        bits += 0.0 if net.rate is None else float(net.rate.bits(u, log2_gain).sum())
        n += sound.shape[-1]
        ratios.append(si_sdr(sound, x_hat.clamp(-1, 1)))
    net.train(was_training)
    return bits * config.rate / max(1, n) / 1000, sum(ratios) / max(1, len(ratios))


def sounds_in(folder: Path, recipe: SoundRecipe, config: PacketConfig) -> tuple[list[Any], list[Tensor]]:
    """Loads recordings (n, channels) float32 to train on, and parts (channels, n) of those that are held out."""
    sounds = [load_sound(file, config.rate, config.channels) for file in find_sounds(folder, recipe.without)]
    sounds = [sound for sound in sounds if len(sound) >= config.frame]
    if not sounds:
        raise UsageError(f"{folder}: no recording there has {config.frame} samples")
    if len(sounds) < 2 * HELD_OUT_EVERY:
        return sounds, []
    most = int(HELD_OUT_SECONDS * config.rate)
    held_out = [torch.from_numpy(sound[:most].T.copy()) for sound in sounds[::HELD_OUT_EVERY]]
    return [sound for index, sound in enumerate(sounds) if index % HELD_OUT_EVERY], held_out


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe (see train/recipes/walloc-audio) to its end, from where it stopped if `resume`, and exports.

    about: fields of the manifest that only the caller knows (recipe, commit, data, licence).
    """
    config = fill(PacketConfig, settings["model"], "model")
    recipe = fill(SoundRecipe, settings["recipe"], "recipe")
    lightning.seed_everything(recipe.seed, verbose=False)
    sounds, held_out = sounds_in(data, recipe, config)
    gain16 = tuple(settings.get("gain16", (-32, 32)))
    task = WallocAudioTask(config, recipe, settings["tag"], gain16, settings.get("nominal", 0))
    task.held_out = held_out

    def batches(seed: int) -> RandomSounds:
        flips = config.channels == 2
        return RandomSounds(sounds, recipe.crop, recipe.batch, seed, recipe.level, flips, recipe.mixed, recipe.speeds)

    def begin() -> dict[str, float]:
        if config.decoder != "small":
            return {}
        if recipe.start:
            row = task.start_from_checkpoint(Path(recipe.start))
            task.ema.load_state_dict(task.net.state_dict())
            return row | (task.estimate() if held_out else {})
        first = RandomSounds(sounds, recipe.crop, recipe.initial_crops, recipe.seed, recipe.level)
        row = task.start_from(next(iter(first)))
        task.ema.load_state_dict(task.net.state_dict())
        return row | (task.estimate() if held_out else {})

    fit(task, batches, begin, folder, resume, device, about)
