"""The parts of the study of NIRVANA on the preset paper: fits of a few hundred steps, on one or a few groups.

Each fit is a `GroupFit` of nirvana/paper/fit.py, stepped from here, so that bits and PSNR can be looked at on the way.
PSNR along a fit is that of the float network in RGB, the best so far; where a result says "decoded", it is of the
planes that a decoder gives, and bits are those of the payload.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....codecs.base.video.groups import LOSSLESS_PSNR, FitSettings, Group
from ....codecs.nirvana.grid.preset import GridPreset
from ....codecs.nirvana.paper.fit import PAPER_RECIPE, QUICK_RECIPE, GroupFit, NirvanaPreset, Recipe, encode_state
from ....codecs.nirvana.paper.network import EXPONENTS, LATENTS, NetConfig, NetState, NirvanaNet
from ....media.distortion import psnr_of_frames
from ...metrics.images import psnr as psnr_of_error
from .rates import bits_at

__all__ = [
    "CONFIG",
    "LENGTH",
    "QUALITY",
    "Look",
    "UnroundedNet",
    "efforts",
    "first_at",
    "follow",
    "joint",
    "preset_of",
    "speed",
    "start",
]

LENGTH = 8  # frames of a group
LOOK = 10  # steps between two looks
CONFIG = NetConfig(width=32, channels=8, frames=LENGTH, patch=16)  # 17 472 latents: 0.09 a pixel of 176x144
QUALITY = 50.0
FINER = (0.5, 1.0, 2.0, 4.0)  # of the grid that latents are rounded on afterwards
SHORTER = (0.05, 0.1, 0.2, 0.4)  # shares of the steps, with larger and falling rates


@dataclass(frozen=True)
class Look:
    """The progress of a fit after some steps. seconds: of the processor, since the fit began. psnr: of the float
    network, the best so far, in dB. bits: of the group, estimated."""

    step: int
    seconds: float
    psnr: float
    bits: float


def preset_of(recipe: Recipe, steps: int, config: NetConfig = CONFIG) -> NirvanaPreset:
    """The preset paper with this recipe and so many steps for every group."""
    return NirvanaPreset(config, replace(recipe, key_steps=steps, steps=steps), group_frames=config.frames)


def follow(fit: GroupFit, enough: float = math.inf) -> Iterator[Look]:
    """Steps a fit to its end, or until the float network has `enough` decibels; yields what it reached on the way."""
    start, best = time.process_time(), -math.inf
    while fit.step < fit.steps:
        fit.one_step()
        best = max(best, psnr_of_error(fit.error, 1.0) if fit.error > 0 else -math.inf)  # 0: nothing measured yet
        if fit.step % LOOK == 0 or fit.step == fit.steps:
            yield Look(fit.step, time.process_time() - start, best, fit.bits)
            if best >= enough:
                return


def first_at(looks: Sequence[Look], psnr: float) -> Look | None:
    """The first look with that PSNR."""
    return next((look for look in looks if look.psnr >= psnr), None)


def decoded(preset: NirvanaPreset, state: NetState, previous: NetState | None, group: Group) -> dict[str, float]:
    """Bits a pixel of the payload, and the PSNR in dB of what a decoder gives."""
    payload, _ = encode_state(state, previous)
    frames = preset.frames_of(state, group.shape)
    pixels = len(group.frames) * group.width * group.height
    return {"bpp": 8 * len(payload) / pixels, "psnr": psnr_of_frames(frames, group.frames, at_most=LOSSLESS_PSNR)}


def _about(steps: int, groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "steps": steps,
        "quality": QUALITY,
        "groups": len(groups),
        "frames_of_a_group": len(groups[0].frames),
        "size": [groups[0].width, groups[0].height],
        "latents": CONFIG.n_latents,
        "other_parameters": CONFIG.n_plain,
    }


# ---- starting from the group before


def start(groups: Sequence[Group], steps: int) -> dict[str, Any]:
    """Fits every group but the first twice, with the same steps and rates (ours, not falling: equal work at any step):
    from the state that the group before left, and from nothing. ratios: iterations from nothing by iterations from the
    group before, to the PSNR that the fit from nothing ends with."""
    preset = preset_of(replace(QUICK_RECIPE, decay=False, latents_after=1.0), steps)
    settings = FitSettings(quality=QUALITY)
    previous: NetState | None = None
    rows, ratios = [], []
    for index, group in enumerate(groups):
        fits = {"scratch": GroupFit(preset, group, None, settings)}
        if previous is not None:
            fits["before"] = GroupFit(preset, group, previous, settings)
        looks = {name: list(follow(fit)) for name, fit in fits.items()}
        row: dict[str, Any] = {"group": index}
        for name, fit in fits.items():
            state = fit.state()
            row[name] = {
                "psnr_along": [[look.step, look.psnr] for look in looks[name]],
                "decoded": decoded(preset, state, previous if name == "before" else None, group),
                "seconds": looks[name][-1].seconds,
            }
        if previous is not None:
            target = looks["scratch"][-1].psnr
            from_scratch = first_at(looks["scratch"], target)
            from_before = first_at(looks["before"], target)
            assert from_scratch is not None
            steps_from_before = None if from_before is None else from_before.step
            row["target"] = target
            row["iterations"] = {"scratch": from_scratch.step, "before": steps_from_before}
            if steps_from_before is not None:
                ratios.append(from_scratch.step / steps_from_before)
        rows.append(row)
        previous = fits.get("before", fits["scratch"]).state()
    mean = float(np.exp(np.mean(np.log(ratios)))) if ratios else None
    return {**_about(steps, groups), "rows": rows, "ratios": ratios, "mean_ratio": mean}


# ---- rounding and rate from the first step


class UnroundedNet(NirvanaNet):
    """The network as the paper's released code trains it: it rounds in eval mode only."""

    def symbols(self) -> dict[str, Tensor]:
        if not self.training:
            return super().symbols()
        return {name: self.values[name] * 2.0 ** EXPONENTS.get(name, 0) for name in self.config.shapes}

    @torch.no_grad()
    def refine(self, factor: float) -> None:
        """Puts the same weights on a finer grid (factor above 1) of latents."""
        for layer, name in enumerate(LATENTS):
            self.values[name].mul_(factor)
            old_div = float(self.div[layer])
            self.div[layer] = torch.round(self.values[name]).abs().amax().clamp_min(1)
            self.scales[layer].mul_(float(self.div[layer]) / (old_div * factor))


def joint(group: Group, steps: int) -> dict[str, Any]:
    """Measures two curves of decoded PSNR over bits: with rate and rounding in the loss, at three qualities; and of one
    network trained for the error alone, without rounding, that is rounded afterwards on grids of several steps.

    bits_at_equal_psnr: how many times the bits the latter takes, at each point of the former that lies within its
    curve.
    """
    preset = preset_of(QUICK_RECIPE, steps)
    together = []
    for quality in (20.0, 50.0, 80.0):
        fit = GroupFit(preset, group, None, FitSettings(quality=quality))
        for _ in follow(fit):
            pass
        together.append({"quality": quality, **decoded(preset, fit.state(), None, group)})
    fit = GroupFit(preset, group, None, FitSettings(quality=QUALITY))
    fit.net.__class__ = UnroundedNet  # the same parameters and the same start; the optimiser knows them already
    assert isinstance(fit.net, UnroundedNet)
    fit.lmbda = 0.0
    looks = list(follow(fit))
    fit.net.load_state_dict(fit.best)
    afterwards, trained = [], {name: value.clone() for name, value in fit.net.state_dict().items()}
    for factor in FINER:
        fit.net.load_state_dict(trained)
        fit.net.refine(factor)
        fit.net.eval()
        afterwards.append({"finer": factor, **decoded(preset, fit.net.state(), None, group)})
        fit.net.train()
    curve = [(point["bpp"], point["psnr"]) for point in afterwards]
    ratios = {}
    for point in together:
        bits = bits_at(curve, point["psnr"])
        if bits is not None:
            ratios[f"{point['psnr']:.2f} dB"] = bits / point["bpp"]
    return {
        **_about(steps, [group]),
        "together": together,
        "afterwards": afterwards,
        "psnr_unrounded_float_rgb": looks[-1].psnr,
        "bits_at_equal_psnr": ratios,
    }


# ---- speed


def speed(group: Group, steps: int) -> dict[str, Any]:
    """Measures the seconds to the decoded PSNR of the paper's rates after so many steps: fits with larger rates that
    fall to zero, each planned for fewer steps; the same with an early end at that PSNR; and what bfloat16 changes."""
    settings = FitSettings(quality=QUALITY)

    def fitted(recipe: Recipe, n: int, enough: float | None = None) -> dict[str, Any]:
        preset = preset_of(recipe, n)
        began = time.process_time()
        made = preset.fit(group, None, replace(settings, psnr=enough))
        seconds = time.process_time() - began
        pixels = len(group.frames) * group.width * group.height
        iterations = made.stats["iterations"]
        return {"planned": n, "steps": iterations, "seconds": seconds, "bpp": made.stats["bits"] / pixels} | {
            "psnr": made.stats["psnr"]
        }

    paper = fitted(PAPER_RECIPE, steps)
    larger = [fitted(QUICK_RECIPE, max(LOOK, round(share * steps))) for share in SHORTER]
    enough = next((fit for fit in larger if fit["psnr"] >= paper["psnr"]), None)
    whole = fitted(QUICK_RECIPE, steps)
    target = paper["psnr"] + 0.5 * max(0.0, whole["psnr"] - paper["psnr"])
    early = fitted(QUICK_RECIPE, steps, target)
    half = fitted(replace(QUICK_RECIPE, bf16=True), steps)
    return {
        **_about(steps, [group]),
        "paper_rates": paper,
        "larger_falling_rates": [*larger, whole],
        "ratio_larger_falling_rates": None if enough is None else paper["seconds"] / enough["seconds"],
        "early_end": {**early, "target": target, "ratio": whole["seconds"] / early["seconds"]},
        "bfloat16": {**half, "ratio": whole["seconds"] / half["seconds"]},
    }


def efforts(group: Group) -> dict[str, Any]:
    """Measures the preset grid at efforts 0 and 1, on one group: seconds a frame, bits and PSNR."""
    rows = []
    for effort in (0.0, 1.0):
        began = time.process_time()
        made = GridPreset().fit(group, None, FitSettings(effort=effort, quality=QUALITY))
        seconds = (time.process_time() - began) / len(group.frames)
        row = {"seconds_a_frame": seconds, "bits": made.stats["bits"], "psnr": made.stats["psnr"]}
        rows.append({"effort": effort, **row})
    return {"rows": rows, "ratio_seconds": rows[1]["seconds_a_frame"] / rows[0]["seconds_a_frame"]}
