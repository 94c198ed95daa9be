"""Fitting the groups of a video: in order or in worker processes, interrupted and resumed, at a quality or at a target.

The bytes of a group depend on its frames, the groups since its key group, and the settings: not on the number of
workers, nor on interruptions. (They do depend on the machine and on `threads`: fits are of floats. Decoding doesn't.)
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

from .... import native
from ....errors import CodecError, UsageError
from ....files import end_with_parent
from ....media.distortion import mse_of_psnr, psnr_of_frames, psnr_of_mse
from ....media.notes import Note
from ....media.video.values import Frame, VideoInfo
from ...layers.inference import loaded_torch
from ..codec import threads
from .groups import LOSSLESS_PSNR, FitProgress, FitSettings, Preset
from .journal import DoneGroup, FitFile, Journal
from .scenes import CutGroup, groups_of
from .sound import COPY, CodedTrack, check_sound
from .stream import GroupEntry, digest_of, group_payload

__all__ = ["EncodeProgress", "EncodeSettings", "EncodeSource", "Encoded", "encode", "encode_at"]

OVERHEAD = 180  # bytes of a file's header and chunks, about
TOLERANCE = {"bpp": 0.03, "psnr": 0.1}  # a target missed by more is tried again, once; bpp: as a share
PROBES = 3  # qualities that are tried on a part of the video, to find the one for a target
_LOWEST, _HIGHEST = 1.0, 100.0
_SLOPES = {"psnr": 0.1, "bpp": 0.03}  # of decibels and of the logarithm of the rate, by quality: where to look first


@dataclass(frozen=True)
class EncodeSettings:
    """The settings of an encoding.

    quality: 1 to 100. effort: optimiser steps, as a multiple of the preset's number; None: the preset's own effort.
    psnr, bpp: a target in place of quality, in decibels or in bits a pixel of the whole file. enough: decibels at which
    the fit of a group ends early. group: frames of a group, key_every: groups from one key group to the next; None: the
    preset's own. sound: "copy", "none", or the codec that codes it; it is counted in a rate that is asked for.
    sound_kbps: the rate of sound that is coded; None: by its codec's own quality. jobs: worker processes. threads: of
    each fit.
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
    sound: str = COPY
    sound_kbps: float | None = None
    fps: float | Fraction | None = None
    threads: int = 1
    jobs: int = field(default=1, compare=False)

    def check(self) -> None:
        """Raise UsageError for settings that can't be."""
        check_sound(self.sound)
        if not _LOWEST <= self.quality <= _HIGHEST:
            raise UsageError(f"quality {self.quality:g}; expected 1 (small files) to 100 (good pictures)")
        if self.effort is not None and not 0 <= self.effort <= 1000:
            raise UsageError(f"effort {self.effort:g}; expected 0 or more")
        if self.psnr is not None and self.bpp is not None:
            raise UsageError("both a PSNR and a rate are asked for; expected one of them")
        for name in ("psnr", "bpp", "enough"):
            if (value := getattr(self, name)) is not None and not 0 < value < 1000:
                raise UsageError(f"{name} {value:g}; expected a positive number")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"fps {self.fps}; expected a number above 0 and up to 1000, as 24 or 30000/1001")
        for name in ("group", "key_every", "threads", "jobs"):
            if (value := getattr(self, name)) is not None and not 1 <= value <= 1024:
                raise UsageError(f"{name} {value}; expected 1 to 1024")

    @property
    def goal(self) -> tuple[str, float] | None:
        """The target of rate control, "psnr" or "bpp" and its value; None if there is none."""
        if self.psnr is not None:
            return "psnr", self.psnr
        return None if self.bpp is None else ("bpp", self.bpp)


@dataclass(frozen=True)
class EncodeSource:
    """A video to encode.

    frames: gives the frames from the first on; again: whether it can do so more than once. identity: text that tells
    this source from others; "" if there is none. n_frames: None where it isn't known. beside: bytes that a file of it
    has beside the groups, such as its sound. audio: gives the tracks beside the picture, with sound or without. sounds:
    gives those of sound that are coded. notes: gives what of the source isn't kept.
    """

    info: VideoInfo
    frames: Callable[[], Iterable[Frame]]
    identity: str
    n_frames: int | None = None
    again: bool = True
    beside: int = 0
    audio: Callable[[bool], bytes | None] = lambda sound: None
    notes: Callable[[], Sequence[Note]] = tuple
    sounds: Callable[[], Sequence[CodedTrack]] = tuple


class EncodeProgress(NamedTuple):
    """The progress of an encoding.

    frames: done, with a part of those under way. total: frames of the video, None where it isn't known. step, steps,
    psnr (in decibels), bits: of the group under way, as estimated now. seconds_left: None while nothing is known of it.
    what: "groups", "target" while a quality is looked for, or "input" while the source is looked through.
    """

    frames: float
    total: int | None
    step: int
    steps: int
    psnr: float
    bits: float
    seconds_left: float | None
    what: str = "groups"

    @property
    def fraction(self) -> float | None:
        """The share of the frames that is done, 0 to 1; None where their number isn't known."""
        return None if not self.total else min(1.0, self.frames / self.total)

    @property
    def words(self) -> str:
        """One line for people about how far the encoding is."""
        if self.what == "input":
            return "looking through the input"
        if self.what == "target":
            return f"looking for the quality, step {self.step}/{self.steps}"
        words = f"frame {self.frames:.0f}" + (f"/{self.total}" if self.total else "")
        if self.step:
            words += f", step {self.step}/{self.steps}, {self.psnr:.1f} dB"
        return words + (f", {_duration(self.seconds_left)} left" if self.seconds_left is not None else "")


def _duration(seconds: float) -> str:
    """Seconds as "1 h 05 min", "3 min 20 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


EncodeReport = Callable[[EncodeProgress], None]


class Encoded(NamedTuple):
    """A video that is encoded, but for the file around it.

    entries: the lines of the table of groups. durations: of the frames, in units of the time base. groups: gives the
    payloads of the chunks. stats: frames, groups, key_groups, bytes, key_bytes_extra (what the key groups cost that
    begin no scene, over the groups between them), psnr (in decibels, of the mean of the groups' squared errors), bpp,
    quality, resumed (groups that were in the journal), seconds.
    """

    entries: list[GroupEntry]
    durations: list[int]
    groups: Callable[[], Iterator[bytes]]
    stats: dict[str, Any]


class EncodeContext(NamedTuple):
    """All that fitting the groups of an encoding takes, beside the frames. It goes to worker processes.

    identity: of the encoding, in hexadecimal digits; "" for one without a journal.
    """

    preset: Preset
    settings: EncodeSettings
    identity: str

    @property
    def group_length(self) -> int:
        """The number of frames of a group."""
        return self.settings.group or self.preset.group_frames

    @property
    def key_every(self) -> int:
        """The number of groups from one key group to the next."""
        return self.settings.key_every or self.preset.key_every

    def on(self, device: str) -> EncodeContext:
        """The same with the preset on another torch device."""
        preset = self.preset.on(device)
        return self if preset is self.preset else self._replace(preset=preset)

    def fit_settings(self, quality: float) -> FitSettings:
        """The settings of each group's fit at this quality."""
        settings = self.settings
        effort = self.preset.default_effort if settings.effort is None else settings.effort
        return FitSettings(effort=effort, quality=quality, psnr=settings.enough, seed=settings.seed)


def identity_of(source: EncodeSource, preset: Preset, settings: EncodeSettings, codec: str) -> bytes:
    """A digest (sha256) of all that decides the bytes of the groups, and the quality that meets a target."""
    info = source.info
    if settings.bpp is None:  # else sound takes a part of the rate
        settings = replace(settings, sound=COPY, sound_kbps=None)
    settings = replace(settings, jobs=1, fps=None)
    picture = (info.width, info.height, info.pixels)
    text = repr((codec, preset.name, preset.fingerprint(), settings, picture, source.identity))
    return hashlib.sha256(text.encode()).digest()


# ---- one encoding


def encode(
    source: EncodeSource, context: EncodeContext, journal: Journal, report: EncodeReport | None = None
) -> Encoded:
    """Encodes a video at the settings' quality, or at one that meets their target.

    A target (rate control) takes at most two encodings, and a few probes before them.
    """
    goal = context.settings.goal
    if goal is None:
        return encode_at(source, context, journal, context.settings.quality, 0, report)
    if not source.again:
        raise UsageError(f"a target in {goal[0]} takes several passes, and this source has only one: save it to a file")
    if goal[0] == "bpp":
        goal = "bpp", _of_groups(source, goal[1])
    if "quality" not in journal.notes:
        quality, slope = _search(source, context, goal, report)
        journal.note(quality=quality, slope=slope)
    quality, slope = _number(journal, "quality"), _number(journal, "slope")
    first = encode_at(source, context, journal, quality, 0, report)
    again = _corrected(quality, _measure(goal[0], first.stats), goal, slope)
    if abs(again - quality) < 0.25:
        best = first
    else:
        second = encode_at(source, context, journal, again, 1, report)
        best = min(first, second, key=lambda encoded: _miss(goal, encoded.stats))
    _refuse_miss(context, goal, best.stats)
    return best


def _number(journal: Journal, name: str) -> float:
    value = journal.notes.get(name)
    if not isinstance(value, (int, float)):
        raise UsageError(f"{journal.path} has no {name} of the target: it is damaged; remove it, and encode again")
    return float(value)


class OutOfReachError(UsageError):
    """A target that no quality meets."""


def _refuse_miss(context: EncodeContext, goal: tuple[str, float], measured: dict[str, float], slack: float = 0) -> None:
    """Raise OutOfReachError for a target that the best, or the worst, quality misses. measured: psnr, bpp and quality.

    slack: decibels, or a factor less 1 of the rate, by which it may be missed besides.
    """
    name = context.preset.name
    if goal[0] == "psnr" and measured["quality"] >= _HIGHEST - 0.5:
        if measured["psnr"] < goal[1] - TOLERANCE["psnr"] - slack:
            raise OutOfReachError(
                f"{goal[1]:g} dB is out of reach: {name} at quality {_HIGHEST:g} has {measured['psnr']:.2f} dB"
                + ("; more steps (--effort) may add a little" if context.settings.effort is not None else "")
            )
    elif goal[0] == "bpp" and measured["quality"] <= _LOWEST + 0.5:
        most = math.exp(math.log(goal[1]) + TOLERANCE["bpp"]) * (1 + slack)
        if measured["bpp"] > most:
            raise OutOfReachError(
                f"{goal[1]:.3g} bits a pixel for the picture is out of reach: {name} at quality {_LOWEST:g} takes "
                f"{measured['bpp']:.3g}"
            )


def encode_at(
    source: EncodeSource,
    context: EncodeContext,
    journal: Journal,
    quality: float,
    attempt: int,
    report: EncodeReport | None,
) -> Encoded:
    """Encodes a video at this quality. attempt: the number under which the journal has its groups."""
    started, clock = time.perf_counter(), _Clock(source.n_frames, report)
    entries: list[GroupEntry] = []
    durations: list[int] = []
    shapes, cuts = [], []

    def seen(groups: Iterable[CutGroup]) -> Iterator[CutGroup]:
        for cut_group in groups:
            entries.append(GroupEntry(len(cut_group.durations), cut_group.key, 0))
            durations.extend(cut_group.durations)
            shapes.append(cut_group.group.shape)
            cuts.append(cut_group.cut)
            yield cut_group

    cutting = groups_of(
        source.info, source.frames(), context.group_length, context.key_every, context.settings.scene_cuts
    )
    resumed = sum(key[0] == attempt for key in journal.groups)
    run = _in_order if context.settings.jobs == 1 else _in_workers
    with threads(context.settings.threads):
        run(seen(cutting), context, journal, quality, attempt, clock)
    if not entries:
        raise UsageError("a video without frames; expected at least one")

    def payloads() -> Iterator[bytes]:
        for index, shape in enumerate(shapes):
            done = journal.groups[attempt, index]
            yield group_payload(done.payload, done.digest, shape)

    sizes = [len(payload) for payload in payloads()]
    entries = [entry._replace(n_bytes=size) for entry, size in zip(entries, sizes, strict=True)]
    done = [journal.groups[attempt, index] for index in range(len(entries))]
    pixels = len(durations) * source.info.width * source.info.height
    error = sum(mse_of_psnr(group.psnr, peak=1) * group.n_frames for group in done) / len(durations)
    stats = {
        "frames": len(durations),
        "groups": len(entries),
        "key_groups": sum(entry.key for entry in entries),
        "bytes": sum(sizes),
        "key_bytes_extra": _key_cost(entries, cuts),
        "psnr": psnr_of_mse(error, peak=1),
        "bpp": 8 * sum(sizes) / pixels,
        "quality": quality,
        "resumed": resumed,
        "seconds": time.perf_counter() - started,
    }
    return Encoded(entries, durations, payloads, stats)


def _key_cost(entries: list[GroupEntry], cuts: list[bool]) -> int:
    """Bytes that key groups within scenes take beyond those of the mean group between."""
    between = [entry.n_bytes for entry in entries if not entry.key]
    usual = sum(between) / len(between) if between else 0
    extra = [entry.n_bytes - usual for entry, cut in zip(entries, cuts, strict=True) if entry.key and not cut]
    return round(sum(extra)) if between else 0


def _fit(
    context: EncodeContext,
    cut_group: CutGroup,
    state: Any,
    quality: float,
    file: FitFile | None,
    report: Callable[[FitProgress], None],
) -> tuple[DoneGroup, Any]:
    started = time.perf_counter()
    fitted = context.preset.fit(cut_group.group, state, context.fit_settings(quality), report, file)
    if file is not None:
        file.remove()
    psnr = max(0.0, psnr_of_frames(fitted.frames, cut_group.group.frames, at_most=LOSSLESS_PSNR))
    seconds = time.perf_counter() - started
    return DoneGroup(fitted.payload, len(cut_group.durations), digest_of(fitted.frames), psnr, seconds), fitted.state


def _fit_file(context: EncodeContext, journal: Journal, attempt: int, index: int, quality: float) -> FitFile | None:
    path = journal.fit_path(attempt, index)
    return None if path is None else FitFile(path, f"{journal.identity.hex()} {attempt} {index} {quality!r}")


def _state_after(context: EncodeContext, run: list[tuple[CutGroup, DoneGroup]]) -> Any:
    """The state that the last group of a run left behind, by decoding: the same as the encoder had."""
    state = None
    for cut_group, done in run:
        _, state = context.preset.decode(done.payload, state, cut_group.group.shape)
    return state


def _in_order(
    groups: Iterable[CutGroup], context: EncodeContext, journal: Journal, quality: float, attempt: int, clock: _Clock
) -> None:
    known: list[tuple[CutGroup, DoneGroup]] = []  # of this run, while the state isn't needed
    state: Any = None
    for cut_group in groups:
        if cut_group.key:
            known, state = [], None
        if (done := journal.groups.get((attempt, cut_group.index))) is not None:
            known.append((cut_group, done))
            clock.skipped(len(cut_group.durations))
            continue
        if known:
            state, known = _state_after(context, known), []
        file = _fit_file(context, journal, attempt, cut_group.index, quality)
        done, state = _fit(context, cut_group, state, quality, file, partial(clock.step, len(cut_group.durations)))
        journal.add(attempt, cut_group.index, done)
        clock.finished(len(cut_group.durations), done.seconds)


# ---- worker processes: each takes runs, from a key group to the one before the next


class Run(NamedTuple):
    """The work of one process at a time: a key group and those up to the next.

    known: the groups that are done already, from the first on. files: where the others may keep their checkpoints.
    """

    groups: list[CutGroup]
    known: list[DoneGroup]
    files: list[FitFile | None]


def _runs(groups: Iterable[CutGroup]) -> Iterator[list[CutGroup]]:
    held: list[CutGroup] = []
    for cut_group in groups:
        if cut_group.key and held:
            yield held
            held = []
        held.append(cut_group)
    if held:
        yield held


def devices_of(preset: Preset, jobs: int) -> list[str]:
    """The torch device of each worker. A preset on `cuda` has all GPUs of the machine, in turn; others stay."""
    n_gpus = 0
    if preset.device == "cuda":
        import torch

        n_gpus = torch.cuda.device_count()
    return [f"cuda:{job % n_gpus}" if n_gpus else preset.device for job in range(jobs)]


def _in_workers(
    groups: Iterable[CutGroup], context: EncodeContext, journal: Journal, quality: float, attempt: int, clock: _Clock
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
    arguments = (queue, context.settings.threads, devices, os.getpid())
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
                    journal.add(attempt, index, done)
                    clock.finished(done.n_frames, done.seconds)

    waiting: set[Future[int]] = set()
    expected: set[int] = set()
    try:
        for run in _runs(groups):
            known = _known(run, journal, attempt)
            for done in known:
                clock.skipped(done.n_frames)
            missing = run[len(known) :]
            if not missing:
                continue
            expected |= {cut_group.index for cut_group in missing}
            files = [_fit_file(context, journal, attempt, cut_group.index, quality) for cut_group in missing]
            waiting.add(pool.submit(_work, context, Run(run, known, files), quality))
            while len(waiting) > jobs:  # one run more than workers is held in memory
                drain(0.2)
                waiting = _ended(wait(waiting, 0, FIRST_COMPLETED))
        while waiting or not all((attempt, index) in journal.groups for index in expected):
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


def _known(run: list[CutGroup], journal: Journal, attempt: int) -> list[DoneGroup]:
    known = []
    for cut_group in run:
        if (done := journal.groups.get((attempt, cut_group.index))) is None:
            break
        known.append(done)
    return known


def _ended(waited: Any) -> Any:
    for future in waited.done:
        future.result()  # raises what the worker raised
    return waited.not_done


_queue: Any = None
_device = "cpu"


def _start(queue: Any, threads: int, devices: Any, parent: int) -> None:
    global _queue, _device
    end_with_parent(parent)
    for name in ("SIGINT", "SIGHUP", "SIGQUIT"):  # they reach the parent, too, which ends its workers
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    native.set_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch reads it where a preset imports it
    if (torch := loaded_torch()) is not None:
        torch.set_num_threads(threads)
    _queue, _device = queue, devices.get()


def _work(context: EncodeContext, run: Run, quality: float) -> int:
    context = context.on(_device)
    state = _state_after(context, list(zip(run.groups[: len(run.known)], run.known, strict=True)))
    for cut_group, file in zip(run.groups[len(run.known) :], run.files, strict=True):
        n_frames, index = len(cut_group.durations), cut_group.index
        done, state = _fit(
            context, cut_group, state, quality, file, lambda progress, n=n_frames: _queue.put((n, progress))
        )
        _queue.put((index, done))
    return len(run.groups)


class _Clock:
    """A clock that turns what happens into reports, with the time left."""

    def __init__(self, total: int | None, report: EncodeReport | None, what: str = "groups") -> None:
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
        share = now.step / max(1, now.steps)
        if not self.fitted and share:  # the first group: a guess from its own steps
            self.seconds = (time.perf_counter() - self._begun) / share
        self._say(self.frames + n_frames * share, now.step, now.steps, now.psnr, now.bits, n_frames)

    def _say(self, frames: float, step: int, steps: int, psnr: float, bits: float, n_frames: int = 0) -> None:
        if self.report is None:
            return
        left = None
        if self.total is not None and self.seconds:
            a_frame = self.seconds / (self.fitted or n_frames or 1)
            left = max(0.0, self.total - frames) * a_frame / self.jobs
        self.report(EncodeProgress(frames, self.total, step, steps, psnr, bits, left, self.what))


# ---- targets


def _of_groups(source: EncodeSource, bpp: float) -> float:
    """The bits a pixel of a whole file that are left for its groups; UsageError if none are."""
    n_frames = source.n_frames or sum(1 for _ in source.frames())
    beside = 8 * source.beside / max(1, n_frames * source.info.width * source.info.height)
    if beside >= bpp:
        words = f"{bpp:g} bits a pixel: {beside:.3g} go to "
        if source.beside > OVERHEAD:
            words += (
                "the sound and the header; ask for more, code the sound at a lower rate (--sound CODEC), or leave it"
            )
            raise UsageError(words + " out (--no-sound)")
        raise UsageError(words + "the header of the file; ask for more")
    return bpp - beside


def _measure(what: str, stats: dict[str, Any]) -> float:
    """The value that quality is nearly linear in: decibels, or the logarithm of the rate."""
    return stats["psnr"] if what == "psnr" else math.log(stats["bpp"])


def _wanted(goal: tuple[str, float]) -> float:
    return goal[1] if goal[0] == "psnr" else math.log(goal[1])


def _miss(goal: tuple[str, float], stats: dict[str, Any]) -> tuple[bool, float]:
    """The distance of an encoding from the goal; smaller is better. Too few decibels, or too many bits, come last."""
    over = _measure(goal[0], stats) - _wanted(goal)
    short = over < -TOLERANCE["psnr"] if goal[0] == "psnr" else over > TOLERANCE["bpp"]
    return short, abs(over)


def _corrected(quality: float, measured: float, goal: tuple[str, float], slope: float) -> float:
    missed = measured - _wanted(goal)
    if abs(missed) <= TOLERANCE[goal[0]]:
        return quality
    return min(max(quality - missed / slope, _LOWEST), _HIGHEST)


def _search(
    source: EncodeSource, context: EncodeContext, goal: tuple[str, float], report: EncodeReport | None
) -> tuple[float, float]:
    """A quality that should meet the goal, and how much a unit of quality changes what is measured.

    Qualities are tried on the first groups of the video and of its middle, whose share of key groups is made up for.
    """
    samples = _samples(source, context)
    quality, slope = context.settings.quality, _SLOPES[goal[0]]
    tried: list[tuple[float, float]] = []
    clock = _Clock(None, report, "target")
    with threads(context.settings.threads):
        for _ in range(PROBES):
            probe = _probe(samples, context, quality, source, clock)
            _refuse_miss(context, goal, {**probe, "quality": quality}, slack=3.0 if goal[0] == "psnr" else 1.0)
            tried.append((quality, _measure(goal[0], probe)))
            slope = _slope(tried, _wanted(goal), slope)
            nearest = min(tried, key=lambda probe: abs(probe[1] - _wanted(goal)))
            following = _corrected(*nearest, goal, slope)
            if abs(following - nearest[0]) < 0.5:
                return nearest[0], slope
            quality = following
    return quality, slope


def _slope(tried: list[tuple[float, float]], wanted: float, usual: float) -> float:
    """The change of what is measured with quality, between the two probes nearest to what is wanted.

    If there are such, one of them is below it and one above.
    """
    below = [probe for probe in tried if probe[1] <= wanted]
    above = [probe for probe in tried if probe[1] > wanted]
    pair = (
        [max(below, key=lambda probe: probe[1]), min(above, key=lambda probe: probe[1])]
        if below and above
        else tried[-2:]
    )
    if len(pair) < 2 or abs(pair[1][0] - pair[0][0]) < 0.1:
        return usual
    return max((pair[1][1] - pair[0][1]) / (pair[1][0] - pair[0][0]), usual / 10)


def _samples(source: EncodeSource, context: EncodeContext) -> list[list[CutGroup]]:
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
    for cut_group in groups:
        if cut_group.key and held:
            yield held
            held = []
        if len(held) < 2:
            held.append(cut_group)
    if held:
        yield held


def _probe(
    samples: list[list[CutGroup]], context: EncodeContext, quality: float, source: EncodeSource, clock: _Clock
) -> dict[str, float]:
    bits = error = weights = 0.0
    for run in samples:
        state: Any = None
        for cut_group in run:
            done, state = _fit(context, cut_group, state, quality, None, partial(clock.step, len(cut_group.durations)))
            weight = 1.0 if cut_group.key else float(context.key_every - 1)
            if not cut_group.key and source.n_frames:  # there may be fewer groups than to a key group
                n_groups = -(-source.n_frames // context.group_length)
                weight = float(max(1, min(context.key_every, n_groups) - 1))
            pixels = len(cut_group.durations) * cut_group.group.width * cut_group.group.height
            bits += weight * 8 * len(done.payload) / pixels
            error += weight * mse_of_psnr(done.psnr, peak=1)
            weights += weight
    if not weights:
        raise CodecError("a video without frames; expected at least one")
    return {"bpp": bits / weights, "psnr": psnr_of_mse(error / weights, peak=1)}
