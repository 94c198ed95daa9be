"""Fitting the groups of a video: in order or in worker processes, interrupted and resumed, at a quality or at a target.

The bytes of a group depend on its frames, the groups since its key group, and the settings: not on the number of
workers, nor on interruptions. (They do depend on the machine and on `threads`: fits are of floats. Decoding doesn't.)
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from ..errors import CodecError, UsageError
from ..video import Frame, VideoInfo
from .base import threads
from .video_groups import FitProgress, FitSettings, Fitted, Preset
from .video_part import DoneGroup, FitFile, PartFile
from .video_scenes import CutGroup, groups_of
from .video_stream import GroupEntry, digest_of, group_payload

__all__ = ["EncodeProgress", "EncodeSettings", "Encoded", "Source", "encode", "encode_at"]

TOLERANCE = {"bpp": 0.03, "psnr": 0.1}  # a target missed by more is tried again, once; bpp: as a share
PROBES = 3  # qualities that are tried on a part of the video, to find the one for a target
_LOWEST, _HIGHEST = 1.0, 100.0
_SLOPES = {"psnr": 0.1, "bpp": 0.03}  # of decibels and of the logarithm of the rate, by quality: where to look first


@dataclass(frozen=True)
class EncodeSettings:
    """quality: 1 to 100. effort: steps, as a multiple; None: the preset's own. psnr, bpp: a target in place of quality.
    enough: decibels at which the fit of a group ends early. group, key_every: frames of a group, groups to a key group;
    None: the preset's. sound: carried along, and counted in a rate that is asked for. jobs: worker processes. threads:
    of each fit.
    """

    quality: float = 50.0
    effort: float | None = None
    psnr: float | None = None
    bpp: float | None = None
    enough: float | None = None
    group: int | None = None
    key_every: int | None = None
    scene_cuts: bool = True
    seed: int = 1
    sound: bool = True
    threads: int = 1
    jobs: int = field(default=1, compare=False)

    def check(self) -> None:
        """UsageError for what can't be."""
        if not _LOWEST <= self.quality <= _HIGHEST:
            raise UsageError(f"quality {self.quality:g}; expected 1 (small files) to 100 (good pictures)")
        if self.effort is not None and not 0 <= self.effort <= 1000:
            raise UsageError(f"effort {self.effort:g}; expected 0 or more")
        if self.psnr is not None and self.bpp is not None:
            raise UsageError("both a PSNR and a rate are asked for; expected one of them")
        for name in ("psnr", "bpp", "enough"):
            if (value := getattr(self, name)) is not None and not 0 < value < 1000:
                raise UsageError(f"{name} {value:g}; expected a positive number")
        for name in ("group", "key_every", "threads", "jobs"):
            if (value := getattr(self, name)) is not None and not 1 <= value <= 1024:
                raise UsageError(f"{name} {value}; expected 1 to 1024")

    @property
    def goal(self) -> tuple[str, float] | None:
        if self.psnr is not None:
            return "psnr", self.psnr
        return None if self.bpp is None else ("bpp", self.bpp)


@dataclass(frozen=True)
class Source:
    """A video to encode. frames: gives them from the first one on; again: more than once. identity: text that tells
    this source from others. beside: bytes that a file of it has beside the groups, such as its sound."""

    info: VideoInfo
    frames: Callable[[], Iterable[Frame]]
    identity: str
    n_frames: int | None = None
    again: bool = True
    beside: int = 0


class EncodeProgress(NamedTuple):
    """frames of total (None: unknown) done; within the group under way step of steps; seconds_left: None: no idea yet;
    psnr, bits: of the group under way, as estimated now. what: "groups", or "target" while a quality is looked for."""

    frames: float
    total: int | None
    step: int
    steps: int
    psnr: float
    bits: float
    seconds_left: float | None
    what: str = "groups"


Report = Callable[[EncodeProgress], None]


class Encoded(NamedTuple):
    """entries, durations: for the file. groups: gives the payloads of its chunks. stats: frames, groups, key_groups,
    bytes, key_bytes_extra (what the key groups cost that begin no scene, over the groups between them), psnr (of all
    samples, mean of the groups' errors), bpp, quality, resumed (groups found in the part file), seconds."""

    entries: list[GroupEntry]
    durations: list[int]
    groups: Callable[[], Iterator[bytes]]
    stats: dict[str, Any]


class Context(NamedTuple):
    """What fitting any group of an encoding takes; goes to worker processes."""

    preset: Preset
    settings: EncodeSettings
    identity: str

    @property
    def group_length(self) -> int:
        return self.settings.group or getattr(self.preset, "group_frames", 8)

    @property
    def key_every(self) -> int:
        return self.settings.key_every or getattr(self.preset, "key_every", 8)

    def on(self, device: str) -> Context:
        """The same on another device, for presets that fit on one."""
        if getattr(self.preset, "device", device) == device:
            return self
        preset: Any = self.preset
        return self._replace(preset=replace(preset, device=device))

    def fit_settings(self, quality: float) -> FitSettings:
        settings = self.settings
        usual = getattr(self.preset, "default_effort", 1.0)
        effort = usual if settings.effort is None else settings.effort
        return FitSettings(effort=effort, quality=quality, psnr=settings.enough, seed=settings.seed)


def identity_of(source: Source, preset: Preset, settings: EncodeSettings, codec: str) -> bytes:
    """Of all that decides an encoding's bytes."""
    fingerprint = getattr(preset, "fingerprint", lambda: "")()
    text = repr((codec, preset.name, fingerprint, replace(settings, jobs=1), source.info, source.identity))
    return hashlib.sha256(text.encode()).digest()


# ---- one encoding


def encode(source: Source, context: Context, part: PartFile, report: Report | None = None) -> Encoded:
    """At the settings' quality, or whichever meets their target; at most two encodings and a few probes."""
    goal = context.settings.goal
    if goal is None:
        return encode_at(source, context, part, context.settings.quality, 0, report)
    if not source.again:
        raise UsageError(f"a target in {goal[0]} takes several passes, and this source has only one: save it to a file")
    if goal[0] == "bpp":
        goal = "bpp", _of_groups(source, goal[1])
    if "quality" not in part.notes:
        quality, slope = _search(source, context, goal, report)
        part.note(quality=quality, slope=slope)
    quality, slope = part.notes["quality"], part.notes["slope"]
    first = encode_at(source, context, part, quality, 0, report)
    again = _corrected(quality, _measure(goal[0], first.stats), goal, slope)
    if abs(again - quality) < 0.25:
        return first
    second = encode_at(source, context, part, again, 1, report)
    return min(first, second, key=lambda one: _miss(goal, one.stats))


def encode_at(
    source: Source, context: Context, part: PartFile, quality: float, attempt: int, report: Report | None
) -> Encoded:
    started, clock = time.perf_counter(), _Clock(source.n_frames, report)
    entries: list[GroupEntry] = []
    durations: list[int] = []
    shapes, cuts = [], []

    def seen(groups: Iterable[CutGroup]) -> Iterator[CutGroup]:
        for one in groups:
            entries.append(GroupEntry(len(one.durations), one.key, 0))
            durations.extend(one.durations)
            shapes.append(one.group.shape)
            cuts.append(one.cut)
            yield one

    cutting = groups_of(
        source.info, source.frames(), context.group_length, context.key_every, context.settings.scene_cuts
    )
    resumed = sum(key[0] == attempt for key in part.groups)
    run = _in_order if context.settings.jobs == 1 else _in_workers
    with threads(context.settings.threads):
        run(seen(cutting), context, part, quality, attempt, clock)
    if not entries:
        raise UsageError("a video without frames; expected at least one")

    def payloads() -> Iterator[bytes]:
        for index, shape in enumerate(shapes):
            done = part.groups[attempt, index]
            yield group_payload(done.payload, done.digest, shape)

    sizes = [len(payload) for payload in payloads()]
    entries = [one._replace(n_bytes=size) for one, size in zip(entries, sizes, strict=True)]
    done = [part.groups[attempt, index] for index in range(len(entries))]
    pixels = len(durations) * source.info.width * source.info.height
    error = sum(10 ** (-one.psnr / 10) * one.n_frames for one in done) / len(durations)
    stats = {
        "frames": len(durations),
        "groups": len(entries),
        "key_groups": sum(one.key for one in entries),
        "bytes": sum(sizes),
        "key_bytes_extra": _key_cost(entries, cuts),
        "psnr": -10 * math.log10(error),
        "bpp": 8 * sum(sizes) / pixels,
        "quality": quality,
        "resumed": resumed,
        "seconds": time.perf_counter() - started,
    }
    return Encoded(entries, durations, payloads, stats)


def _key_cost(entries: list[GroupEntry], cuts: list[bool]) -> int:
    """Bytes that key groups within scenes take beyond those of the mean group between."""
    between = [one.n_bytes for one in entries if not one.key]
    usual = sum(between) / len(between) if between else 0
    extra = [one.n_bytes - usual for one, cut in zip(entries, cuts, strict=True) if one.key and not cut]
    return round(sum(extra)) if between else 0


def _fit(
    context: Context,
    one: CutGroup,
    state: Any,
    quality: float,
    file: FitFile | None,
    report: Callable[[FitProgress], None],
) -> tuple[DoneGroup, Any]:
    started = time.perf_counter()
    more = {"checkpoint": file} if file is not None and getattr(context.preset, "checkpoints", False) else {}
    fitted: Fitted = context.preset.fit(one.group, state, context.fit_settings(quality), report, **more)
    if file is not None:
        file.remove()
    psnr = _psnr(fitted, one)
    seconds = time.perf_counter() - started
    return DoneGroup(fitted.payload, len(one.durations), digest_of(fitted.frames), psnr, seconds), fitted.state


def _psnr(fitted: Fitted, one: CutGroup) -> float:
    from .nirvana_fit import psnr_of

    return max(0.0, psnr_of(list(fitted.frames), list(one.group.frames)))


def _fit_file(context: Context, part: PartFile, attempt: int, index: int, quality: float) -> FitFile | None:
    path = part.fit_path(attempt, index)
    return None if path is None else FitFile(path, f"{part.identity.hex()} {attempt} {index} {quality!r}")


def _state_after(context: Context, run: list[tuple[CutGroup, DoneGroup]]) -> Any:
    """What the last group of a run left behind, by decoding: the same as the encoder had."""
    state = None
    for one, done in run:
        _, state = context.preset.decode(done.payload, state, one.group.shape)
    return state


def _in_order(
    groups: Iterable[CutGroup], context: Context, part: PartFile, quality: float, attempt: int, clock: _Clock
) -> None:
    known: list[tuple[CutGroup, DoneGroup]] = []  # of this run, while the state isn't needed
    state: Any = None
    for one in groups:
        if one.key:
            known, state = [], None
        if (done := part.groups.get((attempt, one.index))) is not None:
            known.append((one, done))
            clock.skipped(len(one.durations))
            continue
        if known:
            state, known = _state_after(context, known), []
        file = _fit_file(context, part, attempt, one.index, quality)
        done, state = _fit(context, one, state, quality, file, partial(clock.step, len(one.durations)))
        part.add(attempt, one.index, done)
        clock.finished(len(one.durations), done.seconds)


# ---- worker processes: each takes runs, from a key group to the one before the next


class Run(NamedTuple):
    """known: the groups of it that are done already, from its first one on. files: where the others may leave their
    checkpoints."""

    groups: list[CutGroup]
    known: list[DoneGroup]
    files: list[FitFile | None]


def _runs(groups: Iterable[CutGroup]) -> Iterator[list[CutGroup]]:
    held: list[CutGroup] = []
    for one in groups:
        if one.key and held:
            yield held
            held = []
        held.append(one)
    if held:
        yield held


def devices_of(preset: Preset, jobs: int) -> list[str]:
    """Of each worker. A preset on `cuda` has all GPUs of the machine, in turn; others stay where they are."""
    device = getattr(preset, "device", "cpu")
    n_gpus = torch.cuda.device_count() if device == "cuda" else 0
    return [f"cuda:{job % n_gpus}" if n_gpus else device for job in range(jobs)]


def _in_workers(
    groups: Iterable[CutGroup], context: Context, part: PartFile, quality: float, attempt: int, clock: _Clock
) -> None:
    import multiprocessing
    import queue as queues
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    jobs = context.settings.jobs
    clock.jobs = jobs
    # spawn: a fork of a process that has run OpenMP code can hang in its first parallel region
    spawn = multiprocessing.get_context("spawn")
    queue: Any = spawn.Queue()
    devices: Any = spawn.Queue()
    for device in devices_of(context.preset, jobs):
        devices.put(device)
    arguments = (queue, context.settings.threads, devices)
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_start, initargs=arguments)

    def drain(timeout: float) -> None:
        with contextlib.suppress(queues.Empty):
            while True:
                message = queue.get(timeout=timeout) if timeout else queue.get_nowait()
                timeout = 0
                if isinstance(message[1], FitProgress):
                    clock.step(*message)
                else:
                    index, done = message
                    part.add(attempt, index, done)
                    clock.finished(done.n_frames, done.seconds)

    waiting: set[Future[int]] = set()
    expected: set[int] = set()
    try:
        for run in _runs(groups):
            known = _known(run, part, attempt)
            for done in known:
                clock.skipped(done.n_frames)
            missing = run[len(known) :]
            if not missing:
                continue
            expected |= {one.index for one in missing}
            files = [_fit_file(context, part, attempt, one.index, quality) for one in missing]
            waiting.add(pool.submit(_work, context, Run(run, known, files), quality))
            while len(waiting) > jobs:  # one run more than workers is held in memory
                drain(0.2)
                waiting = _ended(wait(waiting, 0, FIRST_COMPLETED))
        while waiting or not all((attempt, index) in part.groups for index in expected):
            drain(0.2)
            waiting = _ended(wait(waiting, 0, FIRST_COMPLETED))
    except BrokenProcessPool:
        raise UsageError("a worker process died, perhaps for lack of memory: try again with fewer jobs") from None
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        queue.close()
        devices.close()


def _known(run: list[CutGroup], part: PartFile, attempt: int) -> list[DoneGroup]:
    known = []
    for one in run:
        if (done := part.groups.get((attempt, one.index))) is None:
            break
        known.append(done)
    return known


def _ended(waited: Any) -> Any:
    for future in waited.done:
        future.result()  # raises what the worker raised
    return waited.not_done


_queue: Any = None
_device = "cpu"


def _start(queue: Any, threads: int, devices: Any) -> None:
    import signal

    global _queue, _device
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    torch.set_num_threads(threads)
    _queue, _device = queue, devices.get()


def _work(context: Context, run: Run, quality: float) -> int:
    context = context.on(_device)
    state = _state_after(context, list(zip(run.groups[: len(run.known)], run.known, strict=True)))
    for one, file in zip(run.groups[len(run.known) :], run.files, strict=True):
        n_frames, index = len(one.durations), one.index
        done, state = _fit(context, one, state, quality, file, lambda progress, n=n_frames: _queue.put((n, progress)))
        _queue.put((index, done))
    return len(run.groups)


class _Clock:
    """Turns what happens into reports, with the time left."""

    def __init__(self, total: int | None, report: Report | None, what: str = "groups") -> None:
        self.total, self.report, self.what, self.jobs = total, report, what, 1
        self.frames = self.fitted = 0
        self.seconds = 0.0
        self._begun = time.perf_counter()

    def skipped(self, n_frames: int) -> None:
        self.frames += n_frames

    def finished(self, n_frames: int, seconds: float) -> None:
        self.frames += n_frames
        self.fitted += n_frames
        self.seconds += seconds
        self._begun = time.perf_counter()
        self._say(self.frames, 0, 0, 0.0, 0.0)

    def step(self, n_frames: int, now: FitProgress) -> None:
        part = now.step / max(1, now.steps)
        if not self.fitted and part:  # the first group: a guess from its own steps
            self.seconds = (time.perf_counter() - self._begun) / part
        self._say(self.frames + n_frames * part, now.step, now.steps, now.psnr, now.bits, n_frames)

    def _say(self, frames: float, step: int, steps: int, psnr: float, bits: float, n_frames: int = 0) -> None:
        if self.report is None:
            return
        left = None
        if self.total is not None and self.seconds:
            a_frame = self.seconds / (self.fitted or n_frames or 1)
            left = max(0.0, self.total - frames) * a_frame / self.jobs
        self.report(EncodeProgress(frames, self.total, step, steps, psnr, bits, left, self.what))


# ---- targets


def _of_groups(source: Source, bpp: float) -> float:
    """What of a whole file's rate is left for its groups; UsageError if nothing is."""
    n_frames = source.n_frames or sum(1 for _ in source.frames())
    beside = 8 * source.beside / max(1, n_frames * source.info.width * source.info.height)
    if beside >= bpp:
        raise UsageError(
            f"{bpp:g} bits a pixel: {beside:.3g} go to the sound, which is carried as it is, and the header; ask "
            "for more, or leave the sound out (--no-sound)"
        )
    return bpp - beside


def _measure(what: str, stats: dict[str, Any]) -> float:
    """What quality is nearly linear in: decibels, or the logarithm of the rate."""
    return stats["psnr"] if what == "psnr" else math.log(stats["bpp"])


def _wanted(goal: tuple[str, float]) -> float:
    return goal[1] if goal[0] == "psnr" else math.log(goal[1])


def _miss(goal: tuple[str, float], stats: dict[str, Any]) -> tuple[bool, float]:
    """Smaller is better: too few decibels, or too many bits, are worse than too many or too few."""
    over = _measure(goal[0], stats) - _wanted(goal)
    short = over < -TOLERANCE["psnr"] if goal[0] == "psnr" else over > TOLERANCE["bpp"]
    return short, abs(over)


def _corrected(quality: float, measured: float, goal: tuple[str, float], slope: float) -> float:
    missed = measured - _wanted(goal)
    if abs(missed) <= TOLERANCE[goal[0]]:
        return quality
    return min(max(quality - missed / slope, _LOWEST), _HIGHEST)


def _search(source: Source, context: Context, goal: tuple[str, float], report: Report | None) -> tuple[float, float]:
    """A quality that should meet the goal, and how much a unit of quality changes what is measured. Tried on the first
    groups of the video and of its middle, whose share of key groups is made up for."""
    samples = _samples(source, context)
    quality, slope = context.settings.quality, _SLOPES[goal[0]]
    tried: list[tuple[float, float]] = []
    clock = _Clock(None, report, "target")
    with threads(context.settings.threads):
        for _ in range(PROBES):
            tried.append((quality, _measure(goal[0], _probe(samples, context, quality, source, clock))))
            slope = _slope(tried, _wanted(goal), slope)
            nearest = min(tried, key=lambda one: abs(one[1] - _wanted(goal)))
            following = _corrected(*nearest, goal, slope)
            if abs(following - nearest[0]) < 0.5:
                return nearest[0], slope
            quality = following
    return quality, slope


def _slope(tried: list[tuple[float, float]], wanted: float, usual: float) -> float:
    """Between the two nearest to what is wanted, one below and one above it if there are such."""
    below = [one for one in tried if one[1] <= wanted]
    above = [one for one in tried if one[1] > wanted]
    pair = [max(below, key=lambda one: one[1]), min(above, key=lambda one: one[1])] if below and above else tried[-2:]
    if len(pair) < 2 or abs(pair[1][0] - pair[0][0]) < 0.1:
        return usual
    return max((pair[1][1] - pair[0][1]) / (pair[1][0] - pair[0][0]), usual / 10)


def _samples(source: Source, context: Context) -> list[list[CutGroup]]:
    """The first two groups of the first run, and of the run in the middle."""
    groups = groups_of(
        source.info, source.frames(), context.group_length, context.key_every, context.settings.scene_cuts
    )
    runs: list[list[CutGroup]] = []
    middle = (source.n_frames or 0) // 2
    for run in _heads(groups):
        begins_late = run[0].index * context.group_length >= middle
        if not runs or (begins_late and source.n_frames):
            runs.append(run)
        if len(runs) == 2:
            break
    return runs


def _heads(groups: Iterable[CutGroup]) -> Iterator[list[CutGroup]]:
    """The first two groups of each run."""
    held: list[CutGroup] = []
    for one in groups:
        if one.key and held:
            yield held
            held = []
        if len(held) < 2:
            held.append(one)
    if held:
        yield held


def _probe(
    samples: list[list[CutGroup]], context: Context, quality: float, source: Source, clock: _Clock
) -> dict[str, float]:
    bits = error = weights = 0.0
    for run in samples:
        state: Any = None
        for one in run:
            done, state = _fit(context, one, state, quality, None, partial(clock.step, len(one.durations)))
            weight = 1.0 if one.key else float(context.key_every - 1)
            if not one.key and source.n_frames:  # there may be fewer groups than to a key group
                n_groups = -(-source.n_frames // context.group_length)
                weight = float(max(1, min(context.key_every, n_groups) - 1))
            pixels = len(one.durations) * one.group.width * one.group.height
            bits += weight * 8 * len(done.payload) / pixels
            error += weight * 10 ** (-done.psnr / 10)
            weights += weight
    if not weights:
        raise CodecError("a video without frames; expected at least one")
    return {"bpp": bits / weights, "psnr": -10 * math.log10(error / weights)}
