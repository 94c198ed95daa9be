"""Encoding a group of frames with NIRVANA is fitting its network: Adam on distortion and rate, rounding always on.

The release's recipe (section 5 of our notes on arXiv 2212.14593: constant learning rates, 8 times as many steps for a
key group) with what it lacks: the rate that is trained on is that of what is sent, the latents of the group or their
differences to the previous group's; the rate is per pixel, so lambda means the same for any network; the state that is
kept is the one with the least loss, rate included; moments start anew with each group.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ....entropy.coders import TOTAL
from ....entropy.integers import ByteReader
from ....errors import StreamError
from ....media.distortion import psnr_of_frames, psnr_of_mse
from ...base.video.groups import (
    LOSSLESS_PSNR,
    Checkpoint,
    FitProgress,
    FitSettings,
    Fitted,
    Group,
    GroupShape,
    Planes,
    Preset,
)
from .coding import decode_tensors, encode_tensors
from .network import (
    EXPONENTS,
    LATENTS,
    NetConfig,
    NetState,
    NirvanaNet,
    Step,
    config_for,
    coordinates,
    cut_patches,
    evaluate,
    from_rgb,
    to_rgb,
)

__all__ = ["PAPER_RECIPE", "QUICK_RECIPE", "GroupFit", "NirvanaPreset", "Recipe", "lambda_of"]

REFRESH = 10  # steps between two looks at the normalisers of the latents
CHECK = 5  # steps between two looks at whether the loss is the least so far
DECIDE = 50  # steps between two decisions between values and differences
LOOK = 20  # steps between two looks at whether the target is met
_PLAIN_VALUES = 4  # values of a network per pixel of a group, at most, beside 2**16: what a decoder takes


@dataclass(frozen=True)
class Recipe:
    """The recipe of a fit.

    key_steps, steps: of a key group and of the others, at effort 1. rates: learning rates of biases and convolutions,
    of the latents' scales, of the latents, of the rate's models. latents_after: the latents' rate in groups that start
    from the one before, as a multiple. boost: of all rates. decay: whether they fall to nothing along half a cosine.
    bf16: whether matrices are multiplied in bfloat16, but for the first layer.
    """

    key_steps: int = 2000
    steps: int = 250
    rates: tuple[float, float, float, float] = (2e-4, 2e-3, 2e-2, 1e-4)
    latents_after: float = 1.0
    boost: float = 1.0
    decay: bool = False
    bf16: bool = False


PAPER_RECIPE = Recipe()  # effort 8 has the release's 16000 and 2000 steps
# Larger steps that decay: after 500 steps on a 176x144 clip 27.1 dB, the paper's rates 22.8 dB, at 1.2 bits a pixel.
QUICK_RECIPE = Recipe(rates=(4e-3, 1e-2, 1e-1, 1e-2), latents_after=0.5, decay=True)


def lambda_of(quality: float) -> float:
    """The lambda of a quality: mean squared error (of samples in 0..1) that a bit per pixel is worth.

    3e-2 at quality 0, 3e-5 at 100.
    """
    return 10.0 ** (-1.5 - 0.03 * quality)


class Rate(nn.Module):
    """The bits of tensors, each under a logistic distribution of its values or of their differences to `before`."""

    def __init__(self, symbols: Mapping[str, Tensor], before: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        self.before = before
        self.change = dict.fromkeys(symbols, before is not None)
        self.location = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in symbols})
        self.log_scale = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in symbols})
        for name in symbols:
            self._start(name, symbols[name])

    def forward(self, symbols: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros((), device=next(self.parameters()).device)
        for name in symbols:
            total = total + self._bits(self._sent(name, symbols[name]), self.location[name], self.log_scale[name])
        return total

    @torch.no_grad()
    def decide(self, symbols: Mapping[str, Tensor]) -> None:
        """Decides for each tensor whether to send values or differences: whichever a logistic makes shorter."""
        if self.before is None:
            return
        for name, values in symbols.items():
            bits = {}
            for change in (False, True):
                sent = values - self.before[name] if change else values
                location, log_scale = _moments(sent)
                bits[change] = float(self._bits(sent, location, log_scale))
            better = bits[True] <= bits[False]
            if better != self.change[name]:
                self.change[name] = better
                self._start(name, values)

    def _sent(self, name: str, values: Tensor) -> Tensor:
        return values - self.before[name] if self.change[name] and self.before is not None else values

    @torch.no_grad()
    def _start(self, name: str, values: Tensor) -> None:
        location, log_scale = _moments(self._sent(name, values))
        self.location[name].copy_(location)
        self.log_scale[name].copy_(log_scale)

    @staticmethod
    def _bits(x: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
        inverse = torch.exp(-log_scale)
        at = (x - location) * inverse
        p = torch.sigmoid(at + inverse / 2) - torch.sigmoid(at - inverse / 2)
        return -torch.log2(p + 0.5 / TOTAL).clamp(max=0).sum()  # what has no column has a count of 1 at most


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The location and the log scale of a logistic with the moments of x."""
    deviation = x.std(unbiased=False).clamp_min(0.15)
    return x.mean(), torch.log(deviation * (math.sqrt(3) / math.pi))


class GroupFit:
    """The fit of a group: everything that changes in it, so that all of it can be kept and brought back.

    lmbda: squared error that a bit of the group is worth. error, bits: of the last look, squared error of samples in
    0..1. least: the smallest loss so far, with the parameters `best`.
    """

    def __init__(self, preset: NirvanaPreset, group: Group, previous: NetState | None, settings: FitSettings) -> None:
        self.preset, self.group, self.settings, self.recipe = preset, group, settings, preset.recipe
        self.previous = previous
        device = torch.device(preset.device)
        config = previous.config if previous else preset.config_of(group.width, group.height, settings.quality)
        generator = torch.Generator().manual_seed(settings.seed)
        self.net = (NirvanaNet.of(previous) if previous else NirvanaNet(config, generator)).to(device)
        before = None
        if previous is not None:
            before = {n: torch.from_numpy(v.astype(np.float32)).to(device) for n, v in previous.integers.items()}
        with torch.no_grad():
            self.rate = Rate(self.net.symbols(), before).to(device)
        frames = [to_rgb(planes, group.pixels) for planes in group.frames]
        frames += frames[-1:] * (config.frames - len(frames))
        self.target = cut_patches(torch.from_numpy(np.stack(frames)).to(device) / 255, config.patch).contiguous()
        self.at = coordinates(group.width, group.height, config.patch).to(device).float()
        steps = self.recipe.steps if previous else self.recipe.key_steps
        self.steps = max(1, round(steps * settings.effort))
        self.lmbda = lambda_of(settings.quality) / (config.frames * group.width * group.height)
        self.rates = self._rates()
        self.adam = torch.optim.Adam(
            [{"params": params, "lr": rate} for params, rate in zip(self._groups(), self.rates, strict=True)]
        )
        self.step, self.least = 0, math.inf
        self.best = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.bits = self.error = 0.0

    def _groups(self) -> list[list[nn.Parameter]]:
        values = self.net.values
        plain = [values[name] for name in EXPONENTS]
        return [plain, list(self.net.scales), [values[name] for name in LATENTS], list(self.rate.parameters())]

    def _rates(self) -> list[float]:
        rates = [rate * self.recipe.boost for rate in self.recipe.rates]
        rates[2] *= self.recipe.latents_after if self.previous else 1.0
        return rates

    def run(self, report: Callable[[FitProgress], None] | None, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None and (kept := checkpoint.load()) is not None:
            self.bring_back(kept)
        while self.step < self.steps:
            self.one_step()
            look = self.step % LOOK == 0
            if look and report is not None:
                report(FitProgress(self.step, self.steps, self.bits, self.psnr))
            if look and self.settings.psnr is not None and self.met():
                break
            if checkpoint is not None and checkpoint.due():
                checkpoint.save(self.keep())

    def one_step(self) -> None:
        """Takes one step of the optimiser."""
        if self.step % REFRESH == 0:
            self.net.refresh()
        if self.step % DECIDE == 0:
            self.rate.decide(self.net.symbols())
        if self.recipe.decay:
            share = 0.5 + 0.5 * math.cos(math.pi * self.step / self.steps)
            for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
                group["lr"] = rate * share
        symbols = self.net.symbols()
        out = self.net(self.at, symbols, torch.bfloat16 if self.recipe.bf16 else None)
        error, bits = torch.mean((out - self.target) ** 2), self.rate(symbols)
        loss = error + self.lmbda * bits
        if self.step % CHECK == 0 or self.step == self.steps - 1:
            self._remember(float(loss.detach()), float(error.detach()), float(bits.detach()))
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        self.step += 1

    def _remember(self, loss: float, error: float, bits: float) -> None:
        self.error, self.bits = error, bits
        if loss < self.least:
            self.least = loss
            self.best = {name: value.clone() for name, value in self.net.state_dict().items()}

    @property
    def psnr(self) -> float:
        """The PSNR of the float network in RGB at the last look, in decibels; 100 at most."""
        return psnr_of_mse(self.error, peak=1, at_most=100)

    def met(self) -> bool:
        """Whether the best state so far has the PSNR that is wanted, in the samples that will be decoded."""
        assert self.settings.psnr is not None
        if self.psnr < self.settings.psnr - 3:  # RGB, a rough guide for YUV
            return False
        frames = self.preset.frames_of(self.state(), self.group.shape)
        return psnr_of_frames(frames, self.group.frames, at_most=LOSSLESS_PSNR) >= self.settings.psnr

    def state(self) -> NetState:
        """The state of the best parameters so far."""
        now = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.net.load_state_dict(self.best)
        state = self.net.state()
        self.net.load_state_dict(now)
        return state

    def keep(self) -> dict[str, Tensor]:
        """All that changes, as tensors for `bring_back`."""
        out = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        out |= {f"best.{name}": value for name, value in self.best.items()}
        out |= {f"rate.{name}": value for name, value in self.rate.state_dict().items()}
        for index, (_, moments) in enumerate(sorted(self.adam.state_dict()["state"].items())):
            out |= {f"adam.{index}.{name}": value for name, value in moments.items()}
        change = [float(sent) for sent in self.rate.change.values()]
        progress = [float(self.step), self.least, self.error, self.bits, *change]
        return {name: value.detach().cpu().contiguous() for name, value in out.items()} | {
            "progress": torch.tensor(progress, dtype=torch.float64)
        }

    def bring_back(self, kept: Mapping[str, Tensor]) -> None:
        """Goes on from the tensors that `keep` gave."""

        def below(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: value for name, value in kept.items() if name.startswith(prefix)}

        self.net.load_state_dict(below("net."))
        self.rate.load_state_dict(below("rate."))
        self.best = {name: value.to(self.at.device) for name, value in below("best.").items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in below("adam.").items():
            index, _, what = name.partition(".")
            moments.setdefault(int(index), {})[what] = value
        self.adam.load_state_dict({"state": moments, "param_groups": self.adam.state_dict()["param_groups"]})
        step, self.least, self.error, self.bits, *change = kept["progress"].tolist()
        self.step = int(step)
        self.rate.change = {name: bool(sent) for name, sent in zip(self.rate.change, change, strict=True)}


@dataclass(frozen=True)
class NirvanaPreset(Preset):
    """The preset `paper`: the paper's network.

    config: the size of the network; None: one that suits the picture. recipe: how it is fitted.
    """

    name: ClassVar[str] = "paper"
    needs_effort: ClassVar[bool] = True

    config: NetConfig | None = None
    recipe: Recipe = QUICK_RECIPE
    _: KW_ONLY
    group_frames: int = 3
    key_every: int = 16

    def config_of(self, width: int, height: int, quality: float) -> NetConfig:
        """The size of the network of a key group."""
        config = self.config or config_for(width, height, quality)
        return replace(config, frames=self.group_frames)

    def fit(
        self,
        group: Group,
        previous: Any | None,
        settings: FitSettings,
        report: Callable[[FitProgress], None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Fitted:
        assert previous is None or isinstance(previous, NetState)
        started = time.perf_counter()
        fit = GroupFit(self, group, previous, settings)
        fit.run(report, checkpoint)
        payload, bits = encode_state(fit.state(), previous)
        frames, state = self.decode(payload, previous, group.shape)
        stats = {f"bits_{name}": value for name, value in bits.items()}
        stats |= {"iterations": fit.step, "seconds": time.perf_counter() - started, "bits": 8.0 * len(payload)}
        stats |= {"psnr": psnr_of_frames(frames, group.frames, at_most=LOSSLESS_PSNR), "psnr_float": fit.psnr}
        return Fitted(payload, state, frames, stats)

    def decode(self, payload: bytes, previous: Any | None, shape: GroupShape) -> tuple[list[Planes], NetState]:
        state = decode_state(payload, previous, shape)
        return self.frames_of(state, shape), state

    def frames_of(self, state: NetState, shape: GroupShape) -> list[Planes]:
        """The frames that a decoder makes of this state."""
        samples: NDArray[np.int16] = evaluate(state, shape.width, shape.height, self.device)
        return [from_rgb(samples[index], shape.pixels) for index in range(shape.n_frames)]

    @property
    def most_frames(self) -> int:
        """The number of frames that the network has branches for."""
        return self.group_frames

    def fingerprint(self) -> str:
        """A digest of all that decides what `fit` gives, beside its arguments."""
        return hashlib.sha256(repr((self.name, self.config, self.recipe, self.group_frames)).encode()).hexdigest()


def encode_state(state: NetState, previous: NetState | None) -> tuple[bytes, dict[str, float]]:
    """The payload of a state, and the bits of each part of it.

    It has the size of the network if this is a key group, the three steps, then the tensors.
    """
    head = b"" if previous else state.config.to_bytes()
    for step in state.steps:
        head += step.mantissa.to_bytes(2, "little") + bytes([step.exponent])
    assert list(state.integers) == list(state.config.shapes)
    tensors, bits = encode_tensors(state.integers, None if previous is None else previous.integers)
    return head + tensors, {"head": 8.0 * len(head), **bits}


def decode_state(payload: bytes, previous: Any | None, shape: GroupShape) -> NetState:
    """The state in a payload; StreamError unless it is one of `encode_state`, of a network that fits the group."""
    reader = ByteReader(payload)
    if previous is None:
        config = NetConfig.from_bytes(reader.take(6))
    elif isinstance(previous, NetState):
        config = previous.config
    else:
        raise StreamError(f"a group that leans on {type(previous).__name__}; expected a network of preset paper")
    if shape.n_frames > config.frames:
        raise StreamError(f"{shape.n_frames} frames in a group of a network that has {config.frames}")
    pixels = config.frames * shape.width * shape.height
    if config.n_latents + config.n_plain > _PLAIN_VALUES * pixels + (1 << 16):
        raise StreamError(f"a network of {config.n_latents} latents for {pixels} pixels: the file is damaged")
    steps = [Step(int.from_bytes(reader.take(2), "little"), reader.byte()).check() for _ in LATENTS]
    before = None if previous is None else previous.integers
    integers = decode_tensors(reader.rest(), config.shapes, before)
    return NetState(config, integers, (steps[0], steps[1], steps[2]))


assert set(EXPONENTS) | set(LATENTS) == set(NetConfig().shapes)
