"""Fitting the preset `grid` to a group: motion, passes over its frames, training of the networks in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UsageError
from . import nirvana_grid_search as search
from .nirvana_grid import VERSION, Slot, State, code_start, last_use, schedule
from .nirvana_grid_choose import FrameChoices
from .nirvana_grid_code import Writer
from .nirvana_grid_frame import (
    Layout,
    Motion,
    Picture,
    Sum,
    code_frame,
    filter_groups,
    filter_inputs,
    from_planes,
    to_planes,
)
from .nirvana_grid_learn import FilterSample, Samples, learn_densities, learn_filters
from .nirvana_grid_net import Nets
from .nirvana_grid_start import start
from .nirvana_grid_transform import FINE, padded, steps
from .video_groups import FitProgress, FitSettings, Fitted, Group, Pixels

PRICE = 0.11  # squared steps that a bit is worth to a coefficient: references are worth more than their own error
GROUP_PRICE = 0.35  # to a whole group: the slope of its rate-distortion curve, as measured
DEPTH_STEPS = (-5, 0, 2, 3, 4, 4, 4, 4)  # of the step index, by depth
SPAN = 8
SPANS = (4, 16)  # others to try
STEPS = 200  # of training
MOTION_WEIGHT = 0.45
TURNS = 1

Plane = NDArray[np.int16]


def base_index(quality: float, pixels: Pixels = "yuv420p") -> int:
    """Of the step of an anchor. The errors of three planes meet in a sample of rgb24, so steps are finer there."""
    if not 1 <= quality <= 100:
        raise UsageError(f"quality is between 1 and 100, not {quality}")
    return round(58 - 0.52 * quality) - (6 if pixels == "rgb24" else 0)


@dataclass
class Pass:
    """One coding of the group. frame_bits: by depth."""

    writer: Writer
    pictures: dict[int, Picture]
    samples: Samples
    base: int
    span: int
    squared_error: float
    n_samples: int
    frame_bits: dict[str, float]

    @property
    def bits(self) -> float:
        return sum(self.frame_bits.values())

    @property
    def psnr(self) -> float:
        mse = self.squared_error / self.n_samples
        return 99.0 if mse == 0 else float(10 * np.log10(255**2 / mse))


@dataclass
class Fitter:
    originals: list[list[Plane]]
    layout: Layout
    previous: State | None
    report: Callable[[FitProgress], None] | None = None
    span: int = SPAN
    passes: int = 0

    def __post_init__(self) -> None:
        self.motions: dict[int, Motion] = {}
        self.truth = [from_planes(planes, self.layout.pixels) for planes in self.originals]

    def run(self, nets: Nets, base: int) -> Pass:
        """Codes the group with these networks."""
        n = len(self.originals)
        slots = schedule(n, self.previous is not None, self.span)
        writer = Writer()
        writer.part("networks")
        code_start(writer, self.previous.nets if self.previous else start(), nets, self.span)
        pictures: dict[int, Picture] = {} if self.previous is None else {-1: self.previous.picture}
        size = sum(p.size for frame in self.truth for p in frame)
        made = Pass(writer, pictures, Samples(), base, self.span, 0.0, size, {"networks": sum(writer.bits().values())})
        uses = last_use(slots)
        for place, slot in enumerate(slots):
            done = len(writer.steps)
            refs = [pictures[r] for r in slot.refs]
            index = int(np.clip(base + DEPTH_STEPS[min(slot.depth, 7)], 0, len(steps()) - 11))
            motion = self._motion(slot, refs, index) if refs else None
            choices = FrameChoices(nets, self.originals[slot.frame], index, motion, PRICE)
            picture, sums = code_frame(writer, nets, self.layout, refs, slot.distances, slot.depth, choices)
            pictures[slot.frame] = picture
            name = f"depth{slot.depth}"
            made.frame_bits[name] = made.frame_bits.get(name, 0.0) + sum(writer.bits(done).values())
            decoded = from_planes(picture.planes, self.layout.pixels)
            made.squared_error += sum(
                float(((a.astype(np.float64) - b) ** 2).sum())
                for a, b in zip(decoded, self.truth[slot.frame], strict=True)
            )
            self._gather(made.samples, choices, sums, slot.frame)
            for r in slot.refs:
                if uses[r] <= place:
                    pictures[r].forget()
            if self.report is not None:
                share = (place + 1) / len(slots)
                mse = made.squared_error / (size * share)
                psnr = 99.0 if mse == 0 else float(10 * np.log10(255**2 / mse))
                self.report(FitProgress(self.passes * n + place + 1, (self.passes + 1) * n, made.bits, psnr))
        self.passes += 1
        return made

    def _motion(self, slot: Slot, refs: Sequence[Picture], index: int) -> Motion:
        if slot.frame not in self.motions:
            weight = MOTION_WEIGHT * steps()[index] / FINE
            target = self.originals[slot.frame][0]
            self.motions[slot.frame] = search.motion_of(target, refs, slot.distances, weight, TURNS)
        return self.motions[slot.frame]

    def _gather(self, samples: Samples, choices: FrameChoices, sums: list[Sum], frame: int) -> None:
        for kind, tally in choices.tallies:
            samples.features += tally.features
            samples.bands += [kind * 64 + b for b in tally.bands]
            samples.symbols += tally.symbols
            samples.level_features += tally.level_features
            samples.level_choices += tally.level_choice
            samples.level_symbols += tally.level_symbols
        samples.average_features += choices.average_tally.features
        samples.average_symbols += choices.average_tally.symbols
        for name, planes, fold in filter_groups(self.layout):
            truth = np.stack([padded(self.originals[frame][p]) for p in planes]).astype(np.float64)
            step = steps()[choices.step_index + self.layout.step_shifts[planes[0]]]
            if not any(sums[p].active.any() for p in planes):
                continue
            mask = np.stack([sums[p].mask for p in planes])
            target = (truth * FINE - np.stack([sums[p].total for p in planes])) / step * mask
            samples.filters.setdefault(name, []).append(
                FilterSample(
                    filter_inputs(sums, planes, fold, step),
                    torch.from_numpy(target[None]).float(),
                    torch.from_numpy(mask[None]),
                    step / FINE,
                )
            )


@dataclass
class Search:
    """The best pass so far, by squared error and bits."""

    fitter: Fitter
    nets: Nets
    best: Pass | None = None
    price: float = 0.0  # squared error that a bit is worth

    def score(self, p: Pass) -> float:
        return p.squared_error + self.price * p.bits

    def attempt(self, nets: Nets, base: int, span: int) -> Pass:
        fitter = self.fitter
        if span != fitter.span:
            fitter.span, fitter.motions = span, {}
        self.price = GROUP_PRICE * (steps()[base] / FINE) ** 2
        made = fitter.run(nets, base)
        if self.best is None or self.score(made) < self.score(self.best):
            self.best, self.nets = made, nets
        return made


def fit(
    group: Group,
    previous: State | None,
    settings: FitSettings,
    report: Callable[[FitProgress], None] | None = None,
) -> Fitted:
    began, cpu = time.perf_counter(), time.process_time()
    layout = Layout(group.pixels, group.height, group.width)
    originals = [to_planes(frame, group.pixels) for frame in group.frames]
    fitter = Fitter(originals, layout, previous, report)
    search_ = Search(fitter, previous.nets if previous else start())
    base = base_index(settings.quality, group.pixels)
    best = (
        _meet(search_, base, settings.psnr) if settings.psnr is not None else search_.attempt(search_.nets, base, SPAN)
    )
    base = best.base
    if settings.effort > 0:
        if settings.effort >= 1 and len(originals) > 4:
            for span in SPANS:
                _keep_target(search_, search_.nets, base, span, settings.psnr)
        assert search_.best is not None
        for k in range(1 if settings.effort < 2 else 2):
            n = max(20, round(STEPS * settings.effort))
            # each on its own: what doesn't pay must not spoil what does
            tried = learn_densities(search_.nets, search_.best.samples, n, settings.seed + k)
            _keep_target(search_, tried, base, search_.best.span, settings.psnr)
            tried = learn_filters(search_.nets, search_.best.samples, n, settings.seed + k, search_.price)
            _keep_target(search_, tried, base, search_.best.span, settings.psnr)
    best, frames = search_.best, []
    assert best is not None
    payload = bytes([VERSION]) + best.writer.finish()
    frames = [from_planes(best.pictures[k].planes, group.pixels) for k in range(len(originals))]
    last = best.pictures[len(originals) - 1]
    last.forget()
    stats = {
        "iterations": float(fitter.passes),
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "psnr": best.psnr,
        "bits": 8.0 * len(payload),
        "span": float(best.span),
    }
    stats |= {f"bits_{name}": bits for name, bits in (best.writer.bits() | best.frame_bits).items()}
    return Fitted(payload, State(search_.nets, last), frames, stats)


def _keep_target(search_: Search, nets: Nets, base: int, span: int, target: float | None) -> None:
    """Attempts it; what misses the target doesn't count."""
    before = search_.best, search_.nets
    made = search_.attempt(nets, base, span)
    if target is not None and made.psnr < target and search_.best is made:
        search_.best, search_.nets = before


def _meet(search_: Search, base: int, target: float) -> Pass:
    """The coarsest step that meets the target, as far as a few passes find it."""
    highest = len(steps()) - 11
    found: dict[int, Pass] = {}
    for _ in range(7):
        search_.best = None
        found[base] = search_.attempt(search_.nets, base, SPAN)
        off = found[base].psnr - target
        good, bad = [b for b, p in found.items() if p.psnr >= target], [b for b, p in found.items() if p.psnr < target]
        if good and bad and max(good) + 1 >= min(bad):
            break
        move = int(np.clip(off / 0.6, -20, 20))
        base = int(np.clip(base + (max(1, move) if off >= 0 else min(-1, move)), 0, highest))
        if good and bad:
            base = int(np.clip(base, max(good) + 1, min(bad) - 1))
        if base in found:
            break
    search_.best = found[max(good)] if good else found[min(found)]
    search_.price = GROUP_PRICE * (steps()[search_.best.base] / FINE) ** 2
    return search_.best
