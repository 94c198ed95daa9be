"""Fitting the preset `grid` to a group: motion, passes over its frames, training of the networks in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....errors import UsageError, torch_may_be_missing
from ....media.distortion import psnr_of_mse, squared_error
from ...base.video.groups import LOSSLESS_PSNR, FitProgress, FitSettings, Fitted, Group, Pixels
from .decisions import RateDistortionDecisions
from .frame import (
    DecodedPicture,
    Motion,
    PlaneLayout,
    Sum,
    code_frame,
    filter_groups,
    filter_inputs,
    from_planes,
    to_planes,
)
from .motion_search import motion_of
from .networks import Nets, start_nets
from .samples import FilterSample, Samples
from .structure import VERSION, OrderEntry, State, code_start, coding_order, last_use
from .symbols import SymbolWriter
from .transform import FINE, padded, steps

# lambda, in squared steps that a bit is worth
LAMBDA = 0.11  # to a coefficient: references are worth more than their own error
GROUP_LAMBDA = 0.35  # to a whole group: the slope of its rate-distortion curve, as measured
DEPTH_STEPS = (-5, 0, 2, 3, 4, 4, 4, 4)  # of the step index, by depth
MINI_GOP = 8  # frames
OTHER_MINI_GOPS = (4, 16)  # tried where effort allows
STEPS = 200  # of training
MOTION_WEIGHT = 0.45
TURNS = 1

Plane = NDArray[np.int16]


def base_index(quality: float, pixels: Pixels = "yuv420p") -> int:
    """The index of an anchor's quantiser step, among `steps`, for a quality of 1 to 100.

    The errors of three planes meet in a sample of rgb24, so steps are finer there.
    """
    if not 1 <= quality <= 100:
        raise UsageError(f"quality is between 1 and 100, not {quality}")
    return round(58 - 0.52 * quality) - (6 if pixels == "rgb24" else 0)


@dataclass
class Pass:
    """A coding of the group.

    base: the index of an anchor's step. mini_gop: in frames. squared_error, n_samples: of all frames so far.
    frame_bits: of the networks, and of the frames by their depth in the mini-GOP.
    """

    writer: SymbolWriter
    pictures: dict[int, DecodedPicture]
    samples: Samples
    base: int
    mini_gop: int
    squared_error: float
    n_samples: int
    frame_bits: dict[str, float]

    @property
    def bits(self) -> float:
        """The bits of the group, before they are made bytes."""
        return sum(self.frame_bits.values())

    @property
    def psnr(self) -> float:
        """The PSNR of the decoded frames, in decibels."""
        return psnr_of_mse(self.squared_error / self.n_samples, at_most=LOSSLESS_PSNR)


@dataclass
class Fitter:
    """Codes a group, as often as it is asked to. Motion is looked for once.

    originals: the planes of each frame, as they are coded. gather: whether passes keep samples to train on. passes: how
    often the group was coded.
    """

    originals: list[list[Plane]]
    layout: PlaneLayout
    previous: State | None
    report: Callable[[FitProgress], None] | None = None
    mini_gop: int = MINI_GOP
    gather: bool = True
    passes: int = 0

    def __post_init__(self) -> None:
        self.motions: dict[int, Motion] = {}
        self.truth = [from_planes(planes, self.layout.pixels) for planes in self.originals]

    def run(self, nets: Nets, base: int) -> Pass:
        """Codes the group with these networks. base: the index of an anchor's step."""
        n = len(self.originals)
        order = coding_order(n, self.previous is not None, self.mini_gop)
        writer = SymbolWriter()
        writer.section("networks")
        code_start(writer, self.previous.nets if self.previous else start_nets(), nets, self.mini_gop)
        pictures: dict[int, DecodedPicture] = {} if self.previous is None else {-1: self.previous.picture}
        size = sum(p.size for frame in self.truth for p in frame)
        made = Pass(
            writer, pictures, Samples(), base, self.mini_gop, 0.0, size, {"networks": sum(writer.bits().values())}
        )
        uses = last_use(order)
        for place, entry in enumerate(order):
            done = len(writer.steps)
            refs = [pictures[r] for r in entry.refs]
            index = int(np.clip(base + DEPTH_STEPS[min(entry.depth, 7)], 0, len(steps()) - 11))
            motion = self._motion(entry, refs, index) if refs else None
            decisions = RateDistortionDecisions(
                nets, self.originals[entry.frame], index, motion, LAMBDA, gather=self.gather
            )
            picture, sums = code_frame(writer, nets, self.layout, refs, entry.distances, entry.depth, decisions)
            pictures[entry.frame] = picture
            name = f"depth{entry.depth}"
            made.frame_bits[name] = made.frame_bits.get(name, 0.0) + sum(writer.bits(done).values())
            decoded = from_planes(picture.planes, self.layout.pixels)
            made.squared_error += sum(
                squared_error(a, b) for a, b in zip(decoded, self.truth[entry.frame], strict=True)
            )
            if self.gather:
                self._gather(made.samples, decisions, sums, entry.frame)
            for r in entry.refs:
                if uses[r] <= place:
                    pictures[r].forget()
            if self.report is not None:
                share = (place + 1) / len(order)
                psnr = psnr_of_mse(made.squared_error / (size * share), at_most=LOSSLESS_PSNR)
                self.report(FitProgress(self.passes * n + place + 1, (self.passes + 1) * n, made.bits, psnr))
        self.passes += 1
        return made

    def _motion(self, entry: OrderEntry, refs: Sequence[DecodedPicture], index: int) -> Motion:
        if entry.frame not in self.motions:
            weight = MOTION_WEIGHT * steps()[index] / FINE
            target = self.originals[entry.frame][0]
            self.motions[entry.frame] = motion_of(target, refs, entry.distances, weight, TURNS)
        return self.motions[entry.frame]

    def _gather(self, samples: Samples, decisions: RateDistortionDecisions, sums: list[Sum], frame: int) -> None:
        for kind, tally in decisions.tallies:
            samples.features += tally.features
            samples.bands += [kind * 64 + b for b in tally.bands]
            samples.symbols += tally.symbols
            samples.level_features += tally.level_features
            samples.level_choices += tally.level_choice
            samples.level_symbols += tally.level_symbols
        samples.average_features += decisions.average_tally.features
        samples.average_symbols += decisions.average_tally.symbols
        for name, planes, fold in filter_groups(self.layout):
            truth = np.stack([padded(self.originals[frame][p]) for p in planes]).astype(np.float64)
            step = steps()[decisions.step_index + self.layout.step_shifts[planes[0]]]
            if not any(sums[p].active.any() for p in planes):
                continue
            mask = np.stack([sums[p].mask for p in planes])
            target = (truth * FINE - np.stack([sums[p].total for p in planes])) / step * mask
            samples.filters.setdefault(name, []).append(
                FilterSample(
                    filter_inputs(sums, planes, fold, step)[None],
                    target[None].astype(np.float32),
                    mask[None],
                    step / FINE,
                )
            )


@dataclass
class Search:
    """The search for the best pass over a group, by squared error and bits.

    lmbda: squared error that a bit is worth.
    """

    fitter: Fitter
    nets: Nets
    best: Pass | None = None
    lmbda: float = 0.0

    def score(self, p: Pass) -> float:
        """The rate-distortion cost of a pass; smaller is better."""
        return p.squared_error + self.lmbda * p.bits

    def attempt(self, nets: Nets, base: int, mini_gop: int) -> Pass:
        """Codes the group once more, and keeps it if it is the best so far."""
        fitter = self.fitter
        if mini_gop != fitter.mini_gop:
            fitter.mini_gop, fitter.motions = mini_gop, {}
        self.lmbda = GROUP_LAMBDA * (steps()[base] / FINE) ** 2
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
    """Fits the preset to a group, as `Preset.fit` says."""
    began, cpu = time.perf_counter(), time.process_time()
    layout = PlaneLayout(group.pixels, group.height, group.width)
    originals = [to_planes(frame, group.pixels) for frame in group.frames]
    fitter = Fitter(originals, layout, previous, report, gather=settings.effort > 0)
    search = Search(fitter, previous.nets if previous else start_nets())
    base = base_index(settings.quality, group.pixels)
    best = (
        _meet(search, base, settings.psnr) if settings.psnr is not None else search.attempt(search.nets, base, MINI_GOP)
    )
    base = best.base
    if settings.effort > 0:
        if settings.effort >= 1 and len(originals) > 4:
            for mini_gop in OTHER_MINI_GOPS:
                _keep_target(search, search.nets, base, mini_gop, settings.psnr)
        assert search.best is not None
        with torch_may_be_missing("an effort above 0, which trains networks,"):
            from .learn import learn_densities, learn_filters

        for k in range(1 if settings.effort < 2 else 2):
            n = max(20, round(STEPS * settings.effort))
            # each on its own: what doesn't pay must not spoil what does
            tried = learn_densities(search.nets, search.best.samples, n, settings.seed + k)
            _keep_target(search, tried, base, search.best.mini_gop, settings.psnr)
            tried = learn_filters(search.nets, search.best.samples, n, settings.seed + k, search.lmbda)
            _keep_target(search, tried, base, search.best.mini_gop, settings.psnr)
    best, frames = search.best, []
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
        "mini_gop": float(best.mini_gop),
    }
    stats |= {f"bits_{name}": bits for name, bits in (best.writer.bits() | best.frame_bits).items()}
    return Fitted(payload, State(search.nets, last), frames, stats)


def _keep_target(search: Search, nets: Nets, base: int, mini_gop: int, target: float | None) -> None:
    """Codes the group once more; a pass that misses the target, in decibels, doesn't count."""
    before = search.best, search.nets
    made = search.attempt(nets, base, mini_gop)
    if target is not None and made.psnr < target and search.best is made:
        search.best, search.nets = before


def _meet(search: Search, base: int, target: float) -> Pass:
    """The pass with the coarsest step that meets the target, in decibels, as far as a few passes find it."""
    highest = len(steps()) - 11
    tried: dict[int, Pass] = {}
    for _ in range(7):
        search.best = None
        tried[base] = search.attempt(search.nets, base, MINI_GOP)
        off = tried[base].psnr - target
        good, bad = [b for b, p in tried.items() if p.psnr >= target], [b for b, p in tried.items() if p.psnr < target]
        if good and bad and max(good) + 1 >= min(bad):
            break
        move = int(np.clip(off / 0.6, -20, 20))
        base = int(np.clip(base + (max(1, move) if off >= 0 else min(-1, move)), 0, highest))
        if good and bad:
            base = int(np.clip(base, max(good) + 1, min(bad) - 1))
        if base in tried:
            break
    search.best = tried[max(good)] if good else tried[min(tried)]
    search.lmbda = GROUP_LAMBDA * (steps()[search.best.base] / FINE) ** 2
    return search.best
