"""NIRVANA's network: what is coded of it, its exact evaluation, and its twin to train.

Maiya et al., "NIRVANA: Neural Implicit Representations of Videos with Adaptive Networks and Autoregressive Patch-wise
Modeling", CVPR 2023, arXiv 2212.14593. A network of its own for each group of frames maps the centre of a patch to that
patch in all frames of the group: three linear layers with sines (SIREN), whose weights are integers times one step a
layer, then two convolutions in one branch a frame.

`NetState` is all that a decoder knows: integers, and three steps. `evaluate` computes its pixels in integers carried in
float tensors: sums have no rounding, sines and GELU are tables, so any machine gives the same. `NirvanaNet` computes
the same in floats, with gradients; the two differ by the grids of the activations (measured: 60 dB apart or more).

Differs from the paper's release: rounding is on from the first iteration; patches beyond the border repeat it;
channels are frame-major (each branch sees the code of its frame; `legacy_channel_order` mixes them as the release
does); biases and convolutions lie on grids, and are coded too.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ....entropy.exact import CARRIER_BITS, exact_conv2d, grid_product
from ....errors import StreamError
from ...base.video.groups import Pixels, Planes

__all__ = ["PAPER", "NetConfig", "NetState", "NirvanaNet", "Step", "coordinates", "evaluate", "from_rgb", "to_rgb"]

OMEGA = 30  # of every sine
FRAME_CODE_BASE = 100
FIRST_BOUND, BOUND = 200, 3  # latents start uniform between these: the first layer needs fine coordinates

# Grids, as negative exponents of two: of coordinates, sines, features, samples (unit: one of 255 levels), parameters.
COORDINATE, SINE, FEATURE, SAMPLE = 14, 12, 9, 4
EXPONENTS = MappingProxyType({"bias1": 12, "bias2": 12, "bias3": 8, "conv1": 8, "offset1": 8, "conv2": 9, "offset2": 9})
TURN = 14  # the sine's table has 2**TURN phases
FEATURE_LIMIT = (8 << FEATURE) - 1  # features are clamped to +-8
SAMPLE_LIMIT = 1 << 14  # samples are clamped to +-4 times their range: conversions to YUV need some room
LATENT_LIMIT = 1 << 15
LATENTS = ("latent1", "latent2", "latent3")
_PER_TURN = round(OMEGA / (2 * math.pi) * 2**16)  # of the argument of a sine, on a grid of 2**-16

Integers = Mapping[str, NDArray[np.int32]]


@dataclass(frozen=True)
class NetConfig:
    """The size of a network; the defaults are the paper's.

    width: hidden units. channels: features of a frame at half the resolution. frames: of a group. patch: the side of a
    patch in samples. legacy_channel_order: whether channels are mixed as in the paper's release.
    """

    width: int = 512
    channels: int = 16
    frames: int = 3
    patch: int = 32
    legacy_channel_order: bool = False

    def __post_init__(self) -> None:
        inside = 1 <= self.width <= 1024 and 2 <= self.channels <= 64 and 1 <= self.frames <= 16
        if not inside or self.channels % 2 or self.patch not in (8, 16, 32, 64):
            raise ValueError(f"{self}: expected width to 1024, even channels to 64, frames to 16, patch 8, 16, 32, 64")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all tensors that are coded, in this order."""
        half = (self.patch // 2) ** 2 * self.channels
        inner, quarter = self.patch * self.frames, self.patch // 4
        return {
            "latent1": (self.width, 2),
            "latent2": (self.width, self.width),
            "latent3": (half, self.width),
            "bias1": (self.width,),
            "bias2": (self.width,),
            "bias3": (half,),
            "conv1": (inner, self.channels, 3, 3),
            "offset1": (inner,),
            "conv2": (3 * self.frames, quarter, 3, 3),
            "offset2": (3 * self.frames,),
        }

    @property
    def n_latents(self) -> int:
        """The number of values in the latents, the weights of the three linear layers."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if name in LATENTS)

    @property
    def n_plain(self) -> int:
        """The number of values in biases and convolutions."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if name not in LATENTS)

    def to_bytes(self) -> bytes:
        """The six bytes of a payload that hold the size."""
        flags = int(self.legacy_channel_order)
        return struct.pack(">HBBBB", self.width, self.channels, self.frames, self.patch, flags)

    @staticmethod
    def from_bytes(data: bytes) -> NetConfig:
        """The size that `to_bytes` wrote; StreamError for bytes that it can't have written."""
        try:
            width, channels, frames, patch, flags = struct.unpack(">HBBBB", data)
            if flags > 1:
                raise ValueError(f"flags {flags}")
            return NetConfig(width, channels, frames, patch, bool(flags))
        except (struct.error, ValueError) as error:
            raise StreamError(f"no network of this kind ({error}): a newer version, or damaged") from None


PAPER = NetConfig()


class Step(NamedTuple):
    """The quantiser step of a layer's latents: mantissa * 2**-exponent, mantissa in [2**15, 2**16)."""

    mantissa: int
    exponent: int

    @staticmethod
    def of(value: float) -> Step:
        """The step nearest to a value; values beyond what can be coded become the smallest or largest."""
        fraction, power = math.frexp(min(max(value, 2.0**-40), 2.0**8))
        mantissa = round(fraction * 2**16)
        if mantissa == 1 << 16:
            mantissa, power = 1 << 15, power + 1
        return Step(mantissa, 16 - power)

    @property
    def value(self) -> float:
        return self.mantissa * 2.0**-self.exponent

    def check(self) -> Step:
        """This step; StreamError if no encoder writes it."""
        if not (1 << 15 <= self.mantissa < 1 << 16 and 6 <= self.exponent <= 56):
            raise StreamError(f"a step of {self.mantissa} * 2**-{self.exponent}: the file is damaged")
        return self


@dataclass(frozen=True)
class NetState:
    """All that a decoder knows of a network. integers: by the names of `NetConfig.shapes`. steps: of the latents."""

    config: NetConfig
    integers: Integers
    steps: tuple[Step, Step, Step]

    def equals(self, other: NetState) -> bool:
        """Whether both decode to the same."""
        same = self.config == other.config and self.steps == other.steps
        return same and all(np.array_equal(values, other.integers[name]) for name, values in self.integers.items())


# ---- patches


class Patches(NamedTuple):
    """The cut of a picture: rows and columns of patches, and the samples that are padded above and to the left."""

    rows: int
    columns: int
    top: int
    left: int

    @staticmethod
    def of(width: int, height: int, side: int) -> Patches:
        rows, columns = -(-height // side), -(-width // side)
        return Patches(rows, columns, (rows * side - height) // 2, (columns * side - width) // 2)


def coordinates(width: int, height: int, side: int) -> Tensor:
    """The row and column of each patch's centre: (N, 2) float64 integers, -1 to 1 times 2**14."""
    cut = Patches.of(width, height, side)

    def centres(n: int) -> Tensor:
        last = max(1, n * side - 1)
        at = torch.arange(n, dtype=torch.int64) * side + side // 2
        return torch.div(((2 * at - last) << (COORDINATE + 1)) + last, 2 * last, rounding_mode="floor").double()

    row, column = torch.meshgrid(centres(cut.rows), centres(cut.columns), indexing="ij")
    return torch.stack([row.flatten(), column.flatten()], 1)


def cut_patches(frames: Tensor, side: int) -> Tensor:
    """Cuts frames (G, H, W, 3) into patches (N, G, 3, side, side); beyond the border the nearest sample is repeated."""
    n_frames, height, width, _ = frames.shape
    cut = Patches.of(width, height, side)
    row = (torch.arange(cut.rows * side) - cut.top).clamp(0, height - 1).to(frames.device)
    column = (torch.arange(cut.columns * side) - cut.left).clamp(0, width - 1).to(frames.device)
    padded = frames[:, row][:, :, column].reshape(n_frames, cut.rows, side, cut.columns, side, 3)
    return padded.permute(1, 3, 0, 5, 2, 4).reshape(-1, n_frames, 3, side, side)


def join_patches(patches: Tensor, width: int, height: int) -> Tensor:
    """Joins patches (N, G, 3, side, side) to frames (G, H, W, 3), without what was padded."""
    _, n_frames, _, side, _ = patches.shape
    cut = Patches.of(width, height, side)
    grid = patches.reshape(cut.rows, cut.columns, n_frames, 3, side, side).permute(2, 0, 4, 1, 5, 3)
    whole = grid.reshape(n_frames, cut.rows * side, cut.columns * side, 3)
    return whole[:, cut.top : cut.top + height, cut.left : cut.left + width]


# ---- tables: made of float64 functions; no entry is near a rounding boundary, which a test checks


@cache
def sine_table() -> Tensor:
    """The sine at 2**TURN phases of a turn, on the grid of sines."""
    phase = np.arange(1 << TURN) * (2 * np.pi / (1 << TURN))
    return torch.from_numpy(np.floor(np.sin(phase) * (1 << SINE) + 0.5)).float()


@cache
def gelu_table() -> Tensor:
    """GELU from features to features, of -FEATURE_LIMIT to FEATURE_LIMIT."""
    x = np.arange(-FEATURE_LIMIT, FEATURE_LIMIT + 1) / (1 << FEATURE)
    phi = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()])
    return torch.from_numpy(np.floor(x * phi * (1 << FEATURE) + 0.5)).float()


@cache
def frame_code(channels: int, frames: int, legacy: bool) -> Tensor:
    """The code that tells a branch its frame: (frames * channels,) on the grid of features, by their channels."""
    code = np.empty((frames, channels))
    for frame in range(frames):
        for channel in range(channels):
            angle = frame / FRAME_CODE_BASE ** (channel // 2) + (math.pi / 2 if channel % 2 else 0.0)
            code[frame, channel] = math.sin(angle)
    code = np.floor(code * (1 << FEATURE) + 0.5)
    return torch.from_numpy((code.T if legacy else code).reshape(-1).copy()).float()


def _expand(features: Tensor, config: NetConfig) -> Tensor:
    """Copies features (N, C, h, w) for each frame: (N, G C, h, w). Legacy: channel c of frame g at c G + g."""
    if config.legacy_channel_order:
        return features.repeat_interleave(config.frames, 1)
    return features.repeat(1, config.frames, 1, 1)


# ---- exact evaluation


class ExactNet:
    """A `NetState` that can be evaluated exactly; StreamError if its sums could leave what a float64 holds exactly."""

    def __init__(self, state: NetState, device: str | torch.device = "cpu") -> None:
        self.config, self.device = state.config, torch.device(device)
        self._state = state
        inputs = (1 << COORDINATE, 1 << SINE, 1 << SINE)
        self._linear = [self._weights(name, bound) for name, bound in zip(LATENTS, inputs, strict=True)]
        frames = range(self.config.frames)
        self._conv1 = [self._frozen_conv("1", frame, self.config.patch) for frame in frames]
        self._conv2 = [self._frozen_conv("2", frame, 3) for frame in frames]
        self._sine = sine_table().to(self.device)
        self._gelu = gelu_table().to(self.device)
        code = frame_code(self.config.channels, self.config.frames, self.config.legacy_channel_order)
        self._code = code.to(self.device)[:, None, None]

    def _weights(self, name: str, largest_input: int) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(self._state.integers[name]))
        sums = values.double().abs().sum(1).amax() * largest_input
        if float(sums) * 2.0**18 > 2.0**52:
            raise StreamError("weights too large to be summed exactly: the file is damaged")
        return values.to(self.device, self._carrier(float(sums)))

    def _carrier(self, largest_sum: float) -> torch.dtype:
        """The faster dtype that holds every sum. float32 only on a CPU, for a GPU may use TF32; both give the same."""
        small = largest_sum < 2.0 ** CARRIER_BITS[torch.float32]
        return torch.float32 if small and self.device.type == "cpu" else torch.float64

    def __call__(self, at: Tensor) -> Tensor:
        """Evaluates patches at (N, 2) of `coordinates`: (N, G, 3, P, P) float32, integers on the grid of samples."""
        x = self._phase(self._product(0, at.to(self.device)), 0, COORDINATE)
        x = self._phase(self._product(1, x), 1, SINE)
        x = self._features(self._product(2, x))
        return self._branches(x)

    def _product(self, layer: int, x: Tensor) -> Tensor:
        weight = self._linear[layer]
        with torch.autocast(self.device.type, enabled=False):
            return grid_product(x.to(weight.dtype), weight.T)

    def _phase(self, sums: Tensor, layer: int, exponent: int) -> Tensor:
        """The sine of 30 (sums * step * 2**-exponent + bias), on its grid."""
        step = self._state.steps[layer]
        factor = (step.mantissa * _PER_TURN + (1 << 18)) >> 19  # below 2**18: the product with a sum is exact
        phase = torch.floor(sums.double() * factor * 2.0 ** (TURN + 3 - step.exponent - exponent) + 0.5)
        bias = self._state.integers[f"bias{layer + 1}"].astype(np.int64)
        turned = (bias * (_PER_TURN << TURN)) >> (16 + EXPONENTS[f"bias{layer + 1}"])
        index = (phase.long() + torch.from_numpy(turned).to(self.device)) & ((1 << TURN) - 1)
        return self._sine[index]

    def _features(self, sums: Tensor) -> Tensor:
        step, config = self._state.steps[2], self.config
        x = torch.floor(sums.double() * step.mantissa * 2.0 ** (FEATURE - step.exponent - SINE) + 0.5)
        bias = self._state.integers["bias3"].astype(np.float64) * 2.0 ** (FEATURE - EXPONENTS["bias3"])
        x = (x + torch.from_numpy(bias).to(self.device)).clamp(-FEATURE_LIMIT, FEATURE_LIMIT).float()
        x = _expand(x.reshape(-1, config.channels, config.patch // 2, config.patch // 2), config)
        return (x + self._code).clamp_(-FEATURE_LIMIT, FEATURE_LIMIT)

    def _branches(self, x: Tensor) -> Tensor:
        """The convolutions of each frame, on its own channels."""
        config, out = self.config, []
        for frame in range(config.frames):
            own = x[:, frame * config.channels : (frame + 1) * config.channels]
            y = _conv(own, self._conv1[frame])
            y = torch.floor(y * 2.0 ** -EXPONENTS["conv1"] + 0.5).clamp_(-FEATURE_LIMIT, FEATURE_LIMIT)
            y = F.pixel_shuffle(self._gelu[y.long() + FEATURE_LIMIT], 2)
            y = _conv(y, self._conv2[frame]).double()
            scale = 2.0 ** (SAMPLE - FEATURE - EXPONENTS["conv2"])
            out.append(torch.floor(y * 255 * scale + 0.5).clamp_(-SAMPLE_LIMIT, SAMPLE_LIMIT).float())
        return torch.stack(out, 1)

    def _frozen_conv(self, which: str, frame: int, channels: int) -> tuple[Tensor, Tensor]:
        own = slice(frame * channels, (frame + 1) * channels)
        weight = torch.from_numpy(np.ascontiguousarray(self._state.integers["conv" + which][own]))
        bias = torch.from_numpy(np.ascontiguousarray(self._state.integers["offset" + which][own])).double()
        bias = bias * 2.0**FEATURE
        worst = float((weight.double().abs().flatten(1).sum(1) * FEATURE_LIMIT + bias.abs()).amax())
        if worst * 256 > 2.0**52:
            raise StreamError("convolutions too large to be summed exactly: the file is damaged")
        carrier = self._carrier(worst)
        return weight.to(self.device, carrier), bias.to(self.device, carrier)


def _conv(x: Tensor, frozen: tuple[Tensor, Tensor]) -> Tensor:
    weight, bias = frozen
    return exact_conv2d(x.to(weight.dtype).contiguous(), weight, bias)


@torch.inference_mode()
def evaluate(state: NetState, width: int, height: int, device: str = "cpu") -> NDArray[np.int16]:
    """The frames of a group, (G, H, W, 3) samples times 2**SAMPLE; the same on any machine.

    Here and there they are a little out of 0 to 255.
    """
    net = ExactNet(state, device)
    at = coordinates(width, height, state.config.patch)
    # about 2**18 samples at a time: as much as stays in a cache, and a bound on memory
    step = max(1, (1 << 18) // (state.config.patch**2 * state.config.frames))
    parts = [net(part).to(torch.int16).cpu() for part in at.split(step)]
    return join_patches(torch.cat(parts), width, height).contiguous().numpy()


# ---- RGB inside, the source's own layout outside

# Full-range BT.601 (JFIF) whatever matrix the source is meant for: it only has to be undone by its inverse, and what
# lies outside of RGB's cube is kept, for nothing is clamped in between. Chroma is repeated to go up and averaged to go
# down, so that going up and down changes nothing.
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
_FROM_RGB = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))  # times 2**-16


def to_rgb(planes: Planes, pixels: Pixels) -> NDArray[np.float32]:
    """The planes of a frame as RGB (H, W, 3), 0 to 255 and, from YUV, beyond."""
    if pixels == "rgb24":
        return planes[0].astype(np.float32)
    if pixels == "gray":
        return np.repeat(planes[0].astype(np.float32)[:, :, None], 3, 2)
    height, width = planes[0].shape
    chroma = [plane.repeat(2, 0).repeat(2, 1)[:height, :width].astype(np.float32) - 128 for plane in planes[1:]]
    yuv = np.stack([planes[0].astype(np.float32), *chroma], 2)
    return yuv @ np.array(_TO_RGB, np.float32).T


def from_rgb(samples: NDArray[np.int16], pixels: Pixels) -> Planes:
    """RGB (H, W, 3) on the grid of `evaluate` as the planes of a frame, computed in integers."""
    wide = samples.astype(np.int32)
    if pixels == "rgb24":
        return (_bytes(wide, SAMPLE),)
    if pixels == "gray":
        total = wide.sum(2, dtype=np.int32)
        return (_bytes((total * 2 + 3) // 6, SAMPLE),)
    y, u, v = (wide[:, :, 0] * k[0] + wide[:, :, 1] * k[1] + wide[:, :, 2] * k[2] for k in _FROM_RGB)
    height, width = y.shape
    room = ((0, height % 2), (0, width % 2))
    out = [_bytes(y, SAMPLE + 16)]
    for plane in (u, v):
        quads = np.pad(plane, room, mode="edge").reshape((height + 1) // 2, 2, (width + 1) // 2, 2)
        out.append(_bytes(quads.sum((1, 3), dtype=np.int64) + (128 << (SAMPLE + 18)), SAMPLE + 18))
    return tuple(out)


def _bytes(values: NDArray[np.int32] | NDArray[np.int64], shift: int) -> NDArray[np.uint8]:
    return np.clip((values + (1 << (shift - 1))) >> shift, 0, 255).astype(np.uint8)


# ---- the twin to train


def straight_through(x: Tensor) -> Tensor:
    """Rounds to whole numbers, with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


class NirvanaNet(nn.Module):
    """A network of float parameters whose roundings are a `NetState`; gradients go straight through.

    latents: the release's: weight = rounded latent / div * scale; div is the largest magnitude of a layer's rounded
    latents, refreshed by `refresh` (the step that is sent is scale / div, of the same moment: nothing to get stale).
    """

    def __init__(self, config: NetConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config

        def uniform(shape: tuple[int, ...], bound: float) -> nn.Parameter:
            return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)

        bounds = {"latent1": FIRST_BOUND, "latent2": BOUND, "latent3": BOUND}
        bounds |= {"bias1": math.sqrt(1 / 2), "bias2": config.width**-0.5, "bias3": config.width**-0.5}
        bounds |= dict.fromkeys(("conv1", "offset1"), (9 * config.channels) ** (-0.5))
        bounds |= dict.fromkeys(("conv2", "offset2"), (9 * config.patch / 4) ** (-0.5))
        self.values = nn.ParameterDict({name: uniform(shape, bounds[name]) for name, shape in config.shapes.items()})
        inner = math.sqrt(6 / config.width) / OMEGA
        self.scales = nn.ParameterList([nn.Parameter(torch.tensor(s)) for s in (1 / 2, inner, inner)])
        self.register_buffer("div", torch.ones(3))
        code = frame_code(config.channels, config.frames, config.legacy_channel_order)
        self.register_buffer("code", code[:, None, None] / (1 << FEATURE))
        self.refresh()

    div: Tensor
    code: Tensor

    @staticmethod
    def of(state: NetState) -> NirvanaNet:
        """The network that rounds to this state."""
        net = NirvanaNet(state.config, torch.Generator())
        with torch.no_grad():
            for name, values in state.integers.items():
                exact = torch.from_numpy(np.ascontiguousarray(values)).float()
                net.values[name].copy_(exact * 2.0 ** -EXPONENTS.get(name, 0))
            net.refresh()
            for scale, step, div in zip(net.scales, state.steps, net.div, strict=True):
                scale.copy_(step.value * div)
        return net

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes the largest magnitude of each layer's latents as its new normaliser."""
        for layer, name in enumerate(LATENTS):
            self.div[layer] = torch.round(self.values[name]).abs().amax().clamp_min(1)

    def symbols(self) -> dict[str, Tensor]:
        """The tensors that are coded, integers in floats, with gradients."""
        # in the order of `shapes`: a ParameterDict has one of its own
        return {
            name: straight_through(self.values[name] * 2.0 ** EXPONENTS.get(name, 0)) for name in self.config.shapes
        }

    @torch.no_grad()
    def state(self) -> NetState:
        """The state that a decoder would know of this network."""
        integers = {}
        for name, values in self.symbols().items():
            limit = LATENT_LIMIT if name in LATENTS else 1 << 20
            integers[name] = values.clamp(-limit, limit).to(torch.int32).cpu().numpy()
        steps = [Step.of(abs(float(s)) / float(d)) for s, d in zip(self.scales, self.div, strict=True)]
        return NetState(self.config, MappingProxyType(integers), (steps[0], steps[1], steps[2]))

    def forward(self, at: Tensor, symbols: Mapping[str, Tensor], half: torch.dtype | None = None) -> Tensor:
        """Patches (N, G, 3, P, P) in 0..1 at (N, 2) of `coordinates`. half: the dtype of all layers but the first."""
        config = self.config
        weights = {name: values * 2.0 ** -EXPONENTS.get(name, 0) for name, values in symbols.items()}
        for layer, name in enumerate(LATENTS):
            weights[name] = symbols[name] * (self.scales[layer].abs() / self.div[layer])
        x = at.float() * 2.0**-COORDINATE
        x = torch.sin(OMEGA * F.linear(x, weights["latent1"], weights["bias1"]))
        with torch.autocast(x.device.type, dtype=half or torch.bfloat16, enabled=half is not None):
            x = torch.sin(OMEGA * F.linear(x, weights["latent2"], weights["bias2"]))
            x = F.linear(x, weights["latent3"], weights["bias3"])
            x = _expand(x.reshape(-1, config.channels, config.patch // 2, config.patch // 2), config) + self.code
            x = F.conv2d(x, weights["conv1"], weights["offset1"], padding=1, groups=config.frames)
            x = F.gelu(F.pixel_shuffle(x, 2))
            x = F.conv2d(x, weights["conv2"], weights["offset2"], padding=1, groups=config.frames)
        return x.float().reshape(-1, config.frames, 3, config.patch, config.patch)


def config_for(width: int, height: int, quality: float) -> NetConfig:
    """The size of a network for such pictures: from 0.05 (quality 1) to 0.35 (quality 100) latents a pixel of a group.

    At 1920x1080 the paper has 0.38. Small pictures get small patches: with large ones, most parameters would be in the
    convolutions.
    """
    pixels = width * height
    patch = 32 if pixels >= 1280 * 720 else 16 if pixels >= 96 * 96 else 8
    config = NetConfig(width=8, channels=16 if pixels >= 1920 * 1080 else 8, frames=3, patch=patch)
    wanted = (0.05 + 0.003 * quality) * config.frames * pixels
    half = (patch // 2) ** 2 * config.channels
    root = (-(half + 2) + math.sqrt((half + 2) ** 2 + 4 * wanted)) / 2  # W**2 + (half + 2) W = wanted
    return replace(config, width=min(512, max(8, round(root / 8) * 8)))
