"""Fitting the preset `grid` to a group: motion, passes over its frames, training of the networks in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UsageError
from . import nirvana_grid_search as search
from .nirvana_grid import VERSION, Slot, State, code_start, schedule
from .nirvana_grid_choose import FrameChoices
from .nirvana_grid_code import Writer
from .nirvana_grid_frame import Layout, Motion, Picture, code_frame, filter_groups, filter_inputs, from_planes, to_planes
from .nirvana_grid_learn import Samples, learn_densities, learn_filters
from .nirvana_grid_net import Nets
from .nirvana_grid_start import start
from .nirvana_grid_transform import FINE, Float, padded, steps
from .video_groups import FitProgress, FitSettings, Fitted, Group

PRICE = 0.15  # squared steps that a bit is worth
DEPTH_STEPS = (-5, 0, 2, 3, 4, 4, 4, 4)  # of the step index, by depth
SPAN = 8
MOTION_WEIGHT = 0.45
TURNS = 1

Plane = NDArray[np.int16]


def base_index(quality: float) -> int:
    if not 1 <= quality <= 100:
        raise UsageError(f"quality is between 1 and 100, not {quality}")
    return int(round(58 - 0.52 * quality))


@dataclass
class Pass:
    """One coding of the group."""

    writer: Writer
    pictures: dict[int, Picture]
    samples: Samples
    squared_error: float
    frame_bits: dict[str, float] = field(default_factory=dict)  # by depth

    @property
    def bits(self) -> float:
        return sum(self.frame_bits.values())


@dataclass
class Fitter:
    originals: list[list[Plane]]
    layout: Layout
    previous: State | None
    settings: FitSettings
    span: int = SPAN
    price: float = PRICE

    def __post_init__(self) -> None:
        self.motions: dict[int, Motion] = {}

    def slots(self) -> list[Slot]:
        return schedule(len(self.originals), self.previous is not None, self.span)

    def run(self, nets: Nets, base: int, learn: bool) -> Pass:
        """Codes the group with these networks. learn: gather what training needs."""
        old = self.previous.nets if self.previous else start()
        writer, samples = Writer(), Samples()
        writer.part("networks")
        code_start(writer, old, nets, self.span)
        frame_bits = {"networks": sum(writer.bits().values())}
        done = len(writer.steps)
        pictures: dict[int, Picture] = {} if self.previous is None else {-1: self.previous.picture}
        error = 0.0
        for slot in self.slots():
            refs = [pictures[r] for r in slot.refs]
            index = int(np.clip(base + DEPTH_STEPS[min(slot.depth, 7)], 0, len(steps()) - 11))
            motion = self._motion(slot, refs, index) if refs else None
            choices = FrameChoices(nets, self.originals[slot.frame], index, motion, self.price)
            picture, sums = code_frame(writer, nets, self.layout, refs, slot.distances, slot.depth, choices)
            pictures[slot.frame] = picture
            spent = sum(writer.bits(done).values())
            done = len(writer.steps)
            frame_bits[f"depth{slot.depth}"] = frame_bits.get(f"depth{slot.depth}", 0.0) + spent
            error += sum(
                float(((a.astype(np.float64) - b) ** 2).sum())
                for a, b in zip(picture.planes, self.originals[slot.frame], strict=True)
            )
            if learn:
                self._gather(samples, choices, sums, slot.frame)
        return Pass(writer, pictures, samples, error, frame_bits)

    def _motion(self, slot: Slot, refs: Sequence[Picture], index: int) -> Motion:
        if slot.frame not in self.motions:
            weight = MOTION_WEIGHT * steps()[index] / FINE
            target = self.originals[slot.frame][0]
            self.motions[slot.frame] = search.motion_of(target, refs, slot.distances, weight, TURNS)
        return self.motions[slot.frame]

    def _gather(self, samples: Samples, choices: FrameChoices, sums: list[tuple[Float, Float]], frame: int) -> None:
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
            target = truth - np.stack([sums[p][0] for p in planes]) / FINE
            pair = filter_inputs(sums, planes, fold), torch.from_numpy(target[None]).float()
            samples.filters.setdefault(name, []).append(pair)


def fit(
    group: Group,
    previous: State | None,
    settings: FitSettings,
    report: Callable[[FitProgress], None] | None = None,
) -> Fitted:
    began, cpu = time.perf_counter(), time.process_time()
    torch.manual_seed(settings.seed)
    layout = Layout(group.pixels, group.height, group.width)
    originals = [to_planes(frame, group.pixels) for frame in group.frames]
    fitter = Fitter(originals, layout, previous, settings)
    base = base_index(settings.quality)
    nets = previous.nets if previous else start()
    price = PRICE * (steps()[base] / FINE) ** 2
    best = fitter.run(nets, base, True)
    score = best.squared_error + price * best.bits
    chosen = nets
    rounds = 1
    for k in range(rounds):
        n = max(20, round(200 * settings.effort))
        tried = learn_densities(nets, best.samples, n, settings.seed + k)
        tried = learn_filters(tried, best.samples, n, settings.seed + k, price)
        again = fitter.run(tried, base, k + 1 < rounds)
        if again.squared_error + price * again.bits < score:
            best, chosen, score = again, tried, again.squared_error + price * again.bits
    payload = bytes([VERSION]) + best.writer.finish()
    last = best.pictures[len(originals) - 1]
    last.forget()
    count = sum(p.size for frame in originals for p in frame)
    mse = best.squared_error / count
    psnr = 99.0 if mse == 0 else float(10 * np.log10(255**2 / mse))
    frames = [from_planes(best.pictures[k].planes, group.pixels) for k in range(len(originals))]
    stats = {"seconds": time.perf_counter() - began, "psnr": psnr, "bits": 8.0 * len(payload), "cpu": time.process_time() - cpu}
    stats |= {f"bits_{name}": bits for name, bits in (best.writer.bits() | best.frame_bits).items()}
    return Fitted(payload, State(chosen, last), frames, stats)
