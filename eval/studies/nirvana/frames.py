"""The part `frames` of `codec.eval.studies.nirvana.main`: a network per video from the number of a frame to the frame.

After Chen, He, Wang, Ren, Lim, Shrivastava, "NeRV: Neural Representations for Videos", NeurIPS 2021: a positional
encoding of the frame's time, two linear layers, then blocks of a 3x3 convolution and a pixel shuffle. Small, for clips
of a few frames; its parameters are floats, nothing is quantised or coded, in its favour: only time is compared.
The width is the one with the number of parameters nearest to nirvana's (its stem alone has 100 thousand at 176x144;
both numbers are in the result). Both get the same processor seconds, in one run, on one thread.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....codecs.base.video.groups import FitSettings, Group
from ....codecs.nirvana.paper.fit import QUICK_RECIPE, GroupFit
from ....codecs.nirvana.paper.network import coordinates, evaluate, to_rgb
from ...metrics.images import psnr as psnr_of_error
from .fits import CONFIG, QUALITY, follow, preset_of

__all__ = ["FrameNet", "compare", "fit_frames", "width_for"]

BASE, LEVELS = 1.25, 40  # of the positional encoding: section 3.1 there
HIDDEN = 128
RATES = (5e-4, 2e-3)  # theirs, and a larger one: the better of the two stands
STRIDES = (4, 2, 2)
WARM = 0.2  # share of the time in which the learning rate rises


class FrameNet(nn.Module):
    """A network from times to pictures: (B,) in [0, 1) to (B, 3, H, W) in [0, 1]; H and W are multiples of the product
    of STRIDES."""

    def __init__(self, width: int, height: int, channels: int, generator_seed: int = 1) -> None:
        super().__init__()
        torch.manual_seed(generator_seed)
        up = math.prod(STRIDES)
        if width % up or height % up:
            raise ValueError(f"{width}x{height}; expected multiples of {up}")
        self.start = (channels, height // up, width // up)
        self.register_buffer("frequencies", BASE ** torch.arange(LEVELS) * math.pi)
        self.stem = nn.Sequential(
            nn.Linear(2 * LEVELS, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, math.prod(self.start)), nn.GELU()
        )
        sizes = [max(8, channels >> index) for index in range(len(STRIDES) + 1)]
        self.blocks = nn.ModuleList(
            nn.Conv2d(inner, outer * stride**2, 3, padding=1)
            for inner, outer, stride in zip(sizes[:-1], sizes[1:], STRIDES, strict=True)
        )
        self.head = nn.Conv2d(sizes[-1], 3, 1)

    frequencies: Tensor

    def forward(self, at: Tensor) -> Tensor:
        angle = at[:, None] * self.frequencies
        x = self.stem(torch.cat([angle.sin(), angle.cos()], 1)).reshape(-1, *self.start)
        for conv, stride in zip(self.blocks, STRIDES, strict=True):
            x = F.gelu(F.pixel_shuffle(conv(x), stride))
        return torch.sigmoid(self.head(x))


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def width_for(width: int, height: int, wanted: int) -> FrameNet:
    """The net of about so many parameters."""
    nets = (FrameNet(width, height, channels) for channels in range(8, 129, 4))
    return min(nets, key=lambda net: abs(n_parameters(net) - wanted))


def fit_frames(net: FrameNet, frames: Tensor, rate: float, seconds: float) -> list[tuple[float, float]]:
    """Trains for so many processor seconds, a frame a step as theirs, L2 as here. Returns (seconds, best PSNR so far)
    on the way.

    frames: (T, 3, H, W) in [0, 1]. PSNR is of all frames; looking isn't counted as time.
    """
    adam = torch.optim.Adam(net.parameters(), lr=rate)
    order = torch.Generator().manual_seed(1)
    at = torch.arange(len(frames)) / len(frames)
    spent, best, looks = 0.0, -math.inf, []
    while spent < seconds:
        began = time.process_time()
        for index in torch.randperm(len(frames), generator=order).split(1):
            share = min(1.0, spent / seconds)
            falling = 0.5 + 0.5 * math.cos(math.pi * max(0.0, share - WARM) / (1 - WARM))
            adam.param_groups[0]["lr"] = rate * min(1.0, max(0.01, share / WARM)) * falling
            loss = F.mse_loss(net(at[index]), frames[index])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
        spent += time.process_time() - began
        if not looks or spent > 1.05 * looks[-1][0] or spent >= seconds:
            with torch.no_grad():
                error = torch.stack([F.mse_loss(net(a[None]), f[None]) for a, f in zip(at, frames, strict=True)])
            best = max(best, psnr_of_error(float(error.mean()), 1.0))
            looks.append((spent, best))
    return looks


def fit_groups(groups: Sequence[Group], steps: int) -> tuple[list[tuple[float, float]], list[GroupFit]]:
    """Fits the preset paper to each group, from the one before. Returns (seconds of all groups, PSNR of all groups) at
    equal steps, and the fits."""
    preset, previous = preset_of(QUICK_RECIPE, steps), None
    along, fits = [], []
    for group in groups:
        fit = GroupFit(preset, group, previous, FitSettings(quality=QUALITY))
        along.append(list(follow(fit)))
        previous = fit.state()
        fits.append(fit)
    looks = []
    for row in zip(*along, strict=True):
        error = statistics.fmean(10 ** (-look.psnr / 10) for look in row)
        looks.append((sum(look.seconds for look in row), psnr_of_error(error, 1.0)))
    return looks, fits


def seconds_to(looks: Sequence[tuple[float, float]], psnr: float) -> float | None:
    return next((seconds for seconds, value in looks if value >= psnr), None)


def _rate_of(work: Callable[[], object], n_frames: int) -> float:
    """Frames in a processor second, median of five, warm."""
    work()
    times = []
    for _ in range(5):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return n_frames / statistics.median(times)


def compare(groups: Sequence[Group], steps: int) -> dict[str, Any]:
    """Compares the preset paper and a network per video on the same groups, sides multiples of 16.

    ratios: of the seconds to the lower of the two final PSNRs (above 1: the preset paper is faster), and of decoded
    frames a second, of the float networks and with our exact one.
    """
    width, height, pixels = groups[0].width, groups[0].height, groups[0].pixels
    looks, fits = fit_groups(groups, steps)
    seconds = looks[-1][0]
    pictures = [torch.from_numpy(to_rgb(planes, pixels)) / 255 for group in groups for planes in group.frames]
    frames = torch.stack(pictures).permute(0, 3, 1, 2).clamp(0, 1).contiguous()
    n_ours = len(groups) * (CONFIG.n_latents + CONFIG.n_plain)
    tried = {}
    for rate in RATES:
        net = width_for(width, height, n_ours)
        tried[rate] = (fit_frames(net, frames, rate, seconds), net)
    rate, (frame_looks, net) = max(tried.items(), key=lambda item: item[1][0][-1][1])
    target = min(looks[-1][1], frame_looks[-1][1])
    times = seconds_to(looks, target), seconds_to(frame_looks, target)
    assert times[0] is not None and times[1] is not None

    at, state = coordinates(width, height, CONFIG.patch).float(), fits[-1].state()
    with torch.no_grad():
        last, symbols = fits[-1].net, fits[-1].net.symbols()
        decode = {
            "nirvana_float": _rate_of(lambda: last(at, symbols), CONFIG.frames),
            "nirvana_exact_to_rgb": _rate_of(lambda: evaluate(state, width, height), CONFIG.frames),
            "per_frame_float": _rate_of(lambda: [net(torch.tensor([t / 8])) for t in range(8)], 8),
        }
    return {
        "steps": steps,
        "groups": len(groups),
        "size": [width, height],
        "parameters": {"nirvana": n_ours, "per_frame": n_parameters(net)},
        "seconds_each": seconds,
        "per_frame_rate": rate,
        "per_frame_final_psnr_by_rate": {
            str(tried_rate): looks_of[-1][1] for tried_rate, (looks_of, _) in tried.items()
        },
        "psnr_along": {"nirvana": looks, "per_frame": frame_looks},
        "target": target,
        "seconds_to_target": {"nirvana": times[0], "per_frame": times[1]},
        "decode_frames_a_second": decode,
        "ratios": {
            "encode": times[1] / times[0],
            "decode_float": decode["nirvana_float"] / decode["per_frame_float"],
            "decode_exact": decode["nirvana_exact_to_rgb"] / decode["per_frame_float"],
        },
        "paper": {"encode": 12, "decode": 6, "mark": "[paper] abstract, against NeRV on UVG at 1080p, on GPUs"},
    }
