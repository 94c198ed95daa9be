"""What a codec says about itself before it is imported: its card, the settings it takes, what a decoder can select.

Plain data, standard library only: the command builds its options from it, `codec bench` its axes, and
`Codec.with_settings` refuses with it what a codec doesn't declare. A codec's card is in the `__init__` of its folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...errors import UsageError

__all__ = [
    "ARRAY_SETTINGS",
    "AT",
    "BOUND",
    "BPP",
    "CODER",
    "CONCEAL",
    "DATASET",
    "EFFORT",
    "ENCODER",
    "ENOUGH",
    "FIELD_SELECTION",
    "FIELD_SETTINGS",
    "FRAMES",
    "GROUP",
    "IMAGE_SETTINGS",
    "JOBS",
    "KEY_EVERY",
    "MAX_ERROR",
    "PSNR",
    "QUALITY",
    "REL_ERROR",
    "SIZE",
    "SNAPSHOT",
    "SOUND",
    "VIDEO_SELECTION",
    "VIDEO_SETTINGS",
    "Card",
    "Select",
    "Setting",
    "check_declared",
    "count",
    "frame_range",
    "not_negative",
    "number",
    "positive",
    "size_in_bytes",
]


# ---- how the text of an option becomes a value


def number(text: str) -> float:
    """A finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if value <= 0:
        raise ValueError(text)
    return value


def not_negative(text: str) -> float:
    """A finite number, 0 or more."""
    value = number(text)
    if value < 0:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """A whole number, 0 or more."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def size_in_bytes(text: str) -> float:
    """A number of bytes: 20000, 20kB, 1.5MB; KiB and MiB are powers of two."""
    digits = text.lower().removesuffix("b")
    units = (("ki", 1 << 10), ("mi", 1 << 20), ("gi", 1 << 30), ("k", 1e3), ("m", 1e6), ("g", 1e9))
    for unit, factor in units:
        if digits.endswith(unit):
            return positive(digits.removesuffix(unit)) * factor
    return positive(digits)


def frame_range(text: str) -> tuple[int, int | None]:
    """Frames as "30:45", "30:", ":45" or "30": the first one, and the one after the last; UsageError otherwise."""
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first or 0), (int(last) if last else None) if colon else int(first) + 1
    except ValueError:
        start, stop = -1, None
    if start < 0 or (stop is not None and stop <= start):
        raise UsageError(f"--frames {text}: expected START:STOP, counted from 0, STOP not included, as in 30:45")
    return start, stop


# ---- settings


@dataclass(frozen=True)
class Setting:
    """One thing that can be set, with its name, its type and a line of help.

    name: the keyword of `with_settings`, and the option of the command with dashes. parse: the value from an option's
    text; ValueError or UsageError for a text that can't be. metavar: what help calls the value. short: a letter.
    rivals: a name that settings share of which only one can be given. switch: an option without a value: when it is
    given, the setting becomes this; negated options read --no-NAME. several: may be given more than once, and is a
    tuple. command: whether the command offers it; otherwise it is for Python.
    """

    name: str
    help: str
    parse: Callable[[str], Any] = str
    metavar: str | None = None
    short: str | None = None
    rivals: str | None = None
    switch: bool | None = None
    several: bool = False
    command: bool = True

    @property
    def option(self) -> str:
        """The option of the command: max_error is --max-error."""
        word = self.name.replace("_", "-")
        return f"--no-{word}" if self.switch is False else f"--{word}"


QUALITY = Setting("quality", "higher is better; the codec says what its numbers mean", number, "Q", "q", "rate")
SIZE = Setting("size", "the best file of at most so much: 20kB, 1.5MB, 64KiB", size_in_bytes, "N", rivals="rate")
BPP = Setting("bpp", "the best file of at most so many bits per pixel, as 0.25", positive, "R", rivals="rate")
PSNR = Setting("psnr", "the smallest file of at least so many decibels", positive, "DB", rivals="rate")
EFFORT = Setting("effort", "optimiser steps, as a multiple of the usual number", not_negative, "X")
CODER = Setting("coder", "how the payload is entropy-coded, as constriction or torchac", metavar="C")
MAX_ERROR = Setting("max_error", "no value is off by more than E", positive, "E", rivals="bound")
REL_ERROR = Setting("rel_error", "no value is off by more than R of its dataset's range", positive, "R", rivals="bound")
BOUND = Setting("bound", "an error bound, a codec.Bound", rivals="bound", command=False)
DATASET = Setting("dataset", "code this dataset and keep the others exactly", metavar="PATH", several=True)
ENOUGH = Setting("enough", "a group of frames with so many decibels is done", positive, "DB")
KEY_EVERY = Setting("key_every", "every N-th group of frames can be decoded alone", count, "N")
SOUND = Setting("sound", "leave the sound out", switch=False)
GROUP = Setting("group", "frames of a group", count, command=False)
SCENE_CUTS = Setting("scene_cuts", "whether a new scene begins a new group", switch=False, command=False)
SEED = Setting("seed", "of the random numbers of a fit", count, command=False)
THREADS = Setting("threads", "of each fit", count, command=False)
JOBS = Setting("jobs", "worker processes for the groups of one video", count, command=False)

IMAGE_SETTINGS = (QUALITY, SIZE, BPP, PSNR)
FIELD_SETTINGS = (QUALITY, MAX_ERROR, REL_ERROR, BOUND, DATASET)
ARRAY_SETTINGS = (CODER,)
VIDEO_SETTINGS = (QUALITY, BPP, PSNR, EFFORT, ENOUGH, KEY_EVERY, SOUND, GROUP, SCENE_CUTS, SEED, THREADS, JOBS)

# What a decoder can be asked for.
SELECT_DATASET = Setting("dataset", "this dataset alone, as .npy (or .h5)", metavar="PATH", several=True)
SNAPSHOT = Setting("snapshot", "one index of the first axis of --dataset", count, "N")
AT = Setting("at", "between snapshots of --dataset, as 3.5", not_negative, "T")
FRAMES = Setting("frames", "these frames only, counted from 0, B not included", frame_range, "A:B")
CONCEAL = Setting("conceal", "show the last good frame where one is damaged", switch=True)
ENCODER = Setting("encoder", "as libx264:crf=18 (default: lossless where it can be)", metavar="E")

FIELD_SELECTION = (SELECT_DATASET, SNAPSHOT)
VIDEO_SELECTION = (FRAMES, CONCEAL, ENCODER, SOUND)


@dataclass(frozen=True)
class Select:
    """What of a file is decoded, and how it is written. The default is all of it.

    frames: (first, the one after the last, or None for the end). dataset: paths of datasets of an HDF5 file. snapshot:
    an index of the first axis of one dataset. at: a place between two of these. conceal: a damaged frame is replaced by
    the last good one. encoder: of the video that is written. sound: whether it is written. form: the suffix that says
    how the output is written where its name has none.
    """

    frames: tuple[int, int | None] | None = None
    dataset: tuple[str, ...] = ()
    snapshot: int | None = None
    at: float | None = None
    conceal: bool = False
    encoder: str | None = None
    sound: bool = True
    form: str = ""

    @property
    def named(self) -> tuple[str, ...]:
        """Names of what isn't as it is by default, but for the form."""
        changed = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
        return tuple(name for name in changed if name != "form")

    def form_of(self, target: str | os.PathLike[str]) -> str:
        """The suffix that says how an output is written: its own, in lower case, or else `form`."""
        return os.path.splitext(os.path.basename(os.fspath(target)))[1].lower() or self.form


# ---- cards


@dataclass(frozen=True)
class Card:
    """What `codec list` shows of a codec, and where its class is.

    name: as in `Codec.load`; also in every file. medium: "image", "video", "array", "field", "audio" or "gaussians".
    suffix: of its files; decoration, the signature of a file decides. target: "module:Class", the module relative to
    the card's package. settings: what its `with_settings` takes. selection: what its `decode_file` can be asked for.
    default: whether it codes its medium where no codec is named. citation: the paper.
    """

    name: str
    medium: str
    suffix: str
    summary: str
    target: str
    settings: tuple[Setting, ...] = ()
    selection: tuple[Setting, ...] = ()
    default: bool = False
    citation: str = ""


def check_declared(name: str, given: Iterable[str], declared: Iterable[Setting], option: bool = False) -> None:
    """UsageError, in one sentence, for the first of `given` that isn't among the declared ones.

    name: of the codec. option: whether names are said as the command's options.
    """
    known: Mapping[str, Setting] = {setting.name: setting for setting in declared}
    for wanted in given:
        if wanted not in known:
            offered = [setting for setting in known.values() if setting.command or not option]
            words = ", ".join(setting.option if option else setting.name for setting in offered) or "no settings"
            shown = "--" + wanted.replace("_", "-") if option else repr(wanted)
            raise UsageError(f"{name} doesn't take {shown}: it takes {words}")
