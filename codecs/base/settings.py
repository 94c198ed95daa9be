"""The data that describe a codec before it is imported: its card, the settings it takes, what a decoder can select.

Plain data that imports nothing heavy: the command builds its options from it, `codec bench` its axes, and
`Codec.with_settings` refuses with it what a codec doesn't declare, and values of another kind. A codec's card is in
the `__init__` of its folder.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from ...errors import UsageError
from ...media import MEDIA

__all__ = [
    "ARRAY_SETTINGS",
    "AT",
    "AUDIO_SELECTION",
    "AUDIO_SETTINGS",
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
    "GAUSSIAN_SELECTION",
    "GAUSSIAN_SETTINGS",
    "GROUP",
    "IMAGE_SETTINGS",
    "JOBS",
    "KBPS",
    "KEEP_ORDER",
    "KEY_EVERY",
    "LOSSLESS",
    "MAX_ERROR",
    "PSNR",
    "PW_REL_ERROR",
    "QUALITY",
    "REL_ERROR",
    "RESERVED",
    "RMSE",
    "SECONDS",
    "SEGMENT",
    "SELECT_SOUND",
    "SIZE",
    "SKIP",
    "SNAPSHOT",
    "SOUND",
    "SOUND_KBPS",
    "VIDEO_SELECTION",
    "VIDEO_SETTINGS",
    "Card",
    "Select",
    "Setting",
    "as_it_is",
    "bound_of",
    "check_declared",
    "check_rivals",
    "count",
    "dataset_path",
    "frame_range",
    "not_negative",
    "number",
    "positive",
    "size_in_bytes",
    "text",
]


# ---- how the text of an option, or a value from Python, becomes a value; ValueError or TypeError for what can't be


def as_it_is(given: Any) -> Any:
    """A value that its codec checks."""
    return given


def text(given: str) -> str:
    """A text."""
    if not isinstance(given, str):
        raise TypeError(given)
    return given


def number(given: str | float) -> float:
    """A finite number."""
    value = float(given)
    if not math.isfinite(value):
        raise ValueError(given)
    return value


def positive(given: str | float) -> float:
    """A finite number above 0."""
    value = number(given)
    if value <= 0:
        raise ValueError(given)
    return value


def not_negative(given: str | float) -> float:
    """A finite number, 0 or more."""
    value = number(given)
    if value < 0:
        raise ValueError(given)
    return value


def count(given: str | int) -> int:
    """A whole number, 0 or more."""
    value = int(given) if isinstance(given, str) else operator.index(given)
    if not 0 <= value < 1 << 63:
        raise ValueError(given)
    return value


def bound_of(given: str | float | tuple[str, float]) -> tuple[str, float]:
    """A finite number above 0, or that of one dataset: /t=0.05.

    Returns the path of the dataset, "" for all that aren't named, and the number.
    """
    path, value = given if isinstance(given, tuple) else ("", given)
    if isinstance(value, str) and "=" in value:
        path, _, value = value.rpartition("=")
        if not path.strip("/"):
            raise ValueError(given)
    return dataset_path(path) if path else "", positive(value)


def dataset_path(given: str) -> str:
    """The path of a dataset, as /flow/velocity.

    The slash in front may be left out; others that do nothing are removed.
    """
    return "/" + "/".join(part for part in text(given).split("/") if part)


def size_in_bytes(given: str | float) -> float:
    """A number of bytes: 20000, 20kB, 1.5MB; KiB and MiB are powers of two."""
    if not isinstance(given, str):
        return positive(given)
    digits = given.lower().removesuffix("b")
    units = (("ki", 1 << 10), ("mi", 1 << 20), ("gi", 1 << 30), ("k", 1e3), ("m", 1e6), ("g", 1e9))
    for unit, factor in units:
        if digits.endswith(unit):
            return positive(digits.removesuffix(unit)) * factor
    return positive(digits)


def rate_of_frames(given: str | float | Fraction) -> float | Fraction:
    """Frames a second, above 0 and up to 1000: 24, 23.976 or 30000/1001."""
    value = Fraction(given if isinstance(given, (str, Fraction)) else str(given))
    if not 0 < value <= 1000:
        raise ValueError(given)
    return value


def frame_range(given: str | Iterable[int | None]) -> tuple[int, int | None]:
    """Frames as "30:45", "30:", ":45" or "30", or as a pair: the first one, and the one after the last or None.

    UsageError for what isn't one.
    """
    try:
        if isinstance(given, str):
            first, colon, last = given.partition(":")
            start, stop = int(first or 0), (int(last) if last else None) if colon else int(first) + 1
        else:
            begin, end = given
            start, stop = operator.index(begin or 0), None if end is None else operator.index(end)
    except (ValueError, TypeError):
        start, stop = -1, None
    if start < 0 or (stop is not None and stop <= start):
        shown = f"--frames {given}" if isinstance(given, str) else f"frames {given!r}"
        raise UsageError(f"{shown}: expected START:STOP, counted from 0, STOP not included, as in 30:45")
    return start, stop


def second_range(given: str | Iterable[float | None]) -> tuple[Fraction, Fraction | None]:
    """Seconds as "30:45", "1.5:", ":45", or as a pair: the first one, and the end or None.

    UsageError for what isn't one.
    """
    start, stop = Fraction(-1), None
    with contextlib.suppress(ValueError, TypeError, OverflowError, ZeroDivisionError):
        if isinstance(given, str):
            first, colon, last = given.partition(":")
            begin, end = first or 0, last or None
            if not colon:
                raise ValueError(given)
        else:
            begin, end = given
        start, stop = Fraction(begin or 0), None if end is None else Fraction(end)
    if start < 0 or (stop is not None and stop <= start):
        shown = f"--seconds {given}" if isinstance(given, str) else f"seconds {given!r}"
        raise UsageError(f"{shown}: expected START:STOP in seconds, as in 30:45, 1.5:2.25 or 90:")
    return start, stop


# ---- settings


@dataclass(frozen=True)
class Setting:
    """One thing that can be set, with its name, its type and a line of help.

    name: the keyword of `with_settings`, and the option of the command with dashes. parse: makes the value of an
    option's text, and checks one that comes from Python; ValueError, TypeError or UsageError for what can't be. The
    first line of its docstring is what an error says was expected. metavar: what help calls the value. short: a letter.
    rivals: a name that settings share of which only one can be given. switch: an option without a value: when it is
    given, the setting becomes this; negated options read --no-NAME. words: of an option with a value, those that False
    and True stand for; --no-NAME is the first of them. several: may be given more than once, and is a tuple. command:
    whether the command offers it; otherwise it is for Python. optional: whether None stands for the codec's own choice.
    """

    name: str
    help: str
    parse: Callable[[Any], Any] = text
    metavar: str | None = None
    short: str | None = None
    rivals: str | None = None
    switch: bool | None = None
    words: tuple[str, str] | None = None
    several: bool = False
    command: bool = True
    optional: bool = False

    def checked(self, given: Any) -> Any:
        """The value of this setting from Python; a text is read as the command reads it. UsageError if it can't be."""
        if given is None and self.optional:
            return None
        try:
            if self.switch is not None:
                if not isinstance(given, bool):
                    raise TypeError(given)
                return given
            if self.words is not None and isinstance(given, bool):
                return self.words[given]
            if self.several:
                single = isinstance(given, (str, numbers.Real))
                if isinstance(given, bytes) or (isinstance(given, Mapping) and not given):
                    raise TypeError(given)
                items: Any = (given,) if single else given.items() if isinstance(given, Mapping) else given
                return tuple(map(self._parsed, items))
            return self._parsed(given)
        except UsageError:
            raise
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{self.name} {_shown(given)}: expected {self._expected()}") from None

    def _parsed(self, given: Any) -> Any:
        if given is None or isinstance(given, (bool, bytes)) or type(given).__name__ in ("bool_", "bool"):
            raise TypeError(given)  # float(True) is 1.0, NumPy's too
        parsed = self.parse(given)
        return given if type(given) in (int, float) and isinstance(parsed, (int, float)) else parsed

    def _expected(self) -> str:
        if self.switch is not None:
            return "True or False"
        words = (self.parse.__doc__ or self.help).partition("\n")[0].rstrip(".")
        return ("one or several of: " if self.several else "") + words[:1].lower() + words[1:]

    @property
    def option(self) -> str:
        """The option of the command: max_error is --max-error."""
        word = self.name.replace("_", "-")
        return f"--no-{word}" if self.switch is False else f"--{word}"


def _shown(value: Any) -> str:
    """A value in an error, which mustn't fail for one that is very long."""
    try:
        return repr(value)[:80]
    except Exception:  # of somebody else's type, or a number of too many digits
        return f"of type {type(value).__name__}"


def _of_rate(name: str, help: str, parse: Callable[[Any], Any], metavar: str, short: str | None = None) -> Setting:
    return Setting(name, help, parse, metavar, short, rivals="rate", optional=True)


QUALITY = _of_rate("quality", "higher is better; the codec says what its numbers mean", number, "Q", "q")
SIZE = _of_rate("size", "the best file of at most so much: 20kB, 1.5MB, 64KiB", size_in_bytes, "N")
BPP = _of_rate("bpp", "the best file of at most so many bits per pixel, as 0.25", positive, "R")
KBPS = _of_rate("kbps", "the best file of at most so many kilobits a second, as 64", positive, "R")
PSNR = _of_rate("psnr", "the smallest file of at least so many decibels", positive, "DB")
EFFORT = Setting("effort", "optimiser steps, as a multiple of the usual number", not_negative, "X")
PACKETS = Setting("packets", "cut the file into N packets, so that any of them may be lost", count, "N", optional=True)
CODER = Setting("coder", "how the payload is entropy-coded, as constriction or torchac", metavar="C")
MAX_ERROR = Setting(
    "max_error",
    "no value is off by more than E; /t=E: of this dataset, or attribute of Gaussians",
    bound_of,
    "[PATH=]E",
    several=True,
)
REL_ERROR = Setting(
    "rel_error", "no value is off by more than R of its dataset's range", bound_of, "[PATH=]R", several=True
)
PW_REL_ERROR = Setting("pw_rel_error", "no value is off by more than R of itself", bound_of, "[PATH=]R", several=True)
RMSE = Setting("rmse", "the root mean square error of a dataset is at most E", bound_of, "[PATH=]E", several=True)
BOUND = Setting("bound", "an error bound, a codec.Bound", as_it_is, rivals="bound", command=False, optional=True)
DATASET = Setting("dataset", "code this dataset and keep the others exactly", dataset_path, "PATH", several=True)
SKIP = Setting("skip", "leave this group or dataset out", dataset_path, "PATH", several=True)
FIT_EFFORT = replace(EFFORT, optional=True)
ENOUGH = Setting("enough", "a group of frames with so many decibels is done", positive, "DB", optional=True)
KEY_EVERY = Setting("key_every", "every N-th group of frames can be decoded alone", count, "N", optional=True)
FPS = Setting("fps", "frames a second of a folder of pictures (25)", rate_of_frames, "N", optional=True)
SOUND = Setting(
    "sound", "copy (default), none, or the codec that codes it, as walloc-audio", metavar="S", words=("none", "copy")
)
SOUND_KBPS = replace(KBPS, name="sound_kbps", help="of sound that is coded, at most so many", rivals="sound_rate")
GROUP = Setting("group", "frames of a group", count, command=False, optional=True)
SCENE_CUTS = Setting("scene_cuts", "whether a new scene begins a new group", switch=False, command=False)
SEED = Setting("seed", "of the random numbers of a fit", count, command=False)
THREADS = Setting("threads", "of each fit", count, command=False)
JOBS = Setting("jobs", "worker processes for the groups of one video", count, command=False)

LOSSLESS = Setting("lossless", "keep every value as it is (the default for files that are quantised)", switch=True)
SEGMENT = Setting("segment", "frames that are decoded from their first one on", count, "N", optional=True)
KEEP_ORDER = Setting("keep_order", "keep the order of the Gaussians, which takes about two bytes each", switch=True)

IMAGE_SETTINGS = (QUALITY, SIZE, BPP, PSNR)
AUDIO_SETTINGS = (QUALITY, SIZE, KBPS)
FIELD_SETTINGS = (QUALITY, MAX_ERROR, REL_ERROR, PW_REL_ERROR, RMSE, BOUND, DATASET, SKIP)
ARRAY_SETTINGS = (CODER,)
GAUSSIAN_SETTINGS = (QUALITY, SIZE, MAX_ERROR, LOSSLESS, KEEP_ORDER, SEGMENT, FPS)
VIDEO_SETTINGS = (
    *(QUALITY, BPP, PSNR, FIT_EFFORT, ENOUGH, KEY_EVERY, SOUND, SOUND_KBPS, FPS),
    *(GROUP, SCENE_CUTS, SEED, THREADS, JOBS),
)

# What a decoder can be asked for.
SELECT_DATASET = Setting("dataset", "this dataset alone, as .npy (or .h5)", dataset_path, "PATH", several=True)
SNAPSHOT = Setting("snapshot", "one index of the first axis of --dataset", count, "N")
AT = Setting("at", "between snapshots of --dataset, as 3.5", not_negative, "T")
FRAMES = Setting("frames", "these frames only, counted from 0, B not included", frame_range, "A:B")
SECONDS = Setting("seconds", "these seconds only, as 30:45 or 1.5:2.25, B not included", second_range, "A:B")
CONCEAL = Setting("conceal", "fill in what is damaged: a frame by the last good one, a picture's parts", switch=True)
ENCODER = Setting("encoder", "as libx264:crf=18 (default: lossless where it can be)", metavar="E")
SELECT_SOUND = Setting("sound", "leave the sound out", switch=False)

AUDIO_SELECTION = (SECONDS, CONCEAL)
GAUSSIAN_SELECTION = (FRAMES,)
FIELD_SELECTION = (SELECT_DATASET, SNAPSHOT)
VIDEO_SELECTION = (FRAMES, CONCEAL, ENCODER, SELECT_SOUND)


@dataclass(frozen=True)
class Select:
    """The part of a file that is decoded, and how it is written; by default all of it. UsageError for what can't be.

    frames: (first, the one after the last, or None for the end). seconds: the same of sound, as fractions. dataset:
    paths of datasets of an HDF5 file. snapshot: an index of the first axis of one dataset. at: a place between two of
    these. conceal: a damaged frame is replaced by the last good one, damaged parts of a picture or a sound by what is
    likely there. encoder: of the video that is written. sound: whether it is written. form: the suffix that says how
    the output is written where its name has none, as ".tiff".
    """

    frames: tuple[int, int | None] | None = None
    seconds: tuple[Fraction, Fraction | None] | None = None
    dataset: tuple[str, ...] = ()
    snapshot: int | None = None
    at: float | None = None
    conceal: bool = False
    encoder: str | None = None
    sound: bool = True
    form: str = ""

    def __post_init__(self) -> None:
        for setting in (FRAMES, SECONDS, SELECT_DATASET, SNAPSHOT, AT, CONCEAL, ENCODER, SELECT_SOUND):
            given = getattr(self, setting.name)
            if given is not None:
                object.__setattr__(self, setting.name, setting.checked(given))
        if not isinstance(self.form, str):
            raise UsageError(f"form {self.form!r}: expected a suffix, as '.tiff'")
        if self.form:
            object.__setattr__(self, "form", "." + self.form.lower().lstrip("."))

    @property
    def named(self) -> tuple[str, ...]:
        """The names of the fields that aren't as they are by default, but for the form."""
        changed = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
        return tuple(name for name in changed if name != "form")

    def form_of(self, target: str | os.PathLike[str]) -> str:
        """The suffix that says how an output is written: its own, in lower case, or else `form`."""
        return os.path.splitext(os.path.basename(os.fspath(target)))[1].lower() or self.form


# ---- cards

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)  # as headers of files take it
_SUFFIX = re.compile(r"\.[a-z0-9][a-z0-9_.-]*", re.ASCII)
_SETTING = re.compile(r"(?!no_)[a-z][a-z0-9_]*", re.ASCII)  # --no-NAME is the option of a switch
_TARGET = re.compile(r"[\w.]*:\w+")
# Names that settings can't have: the command, or `codec.encode_file`, has another use for them.
RESERVED = frozenset(
    [
        *("codec", "debug", "device", "force", "format", "help", "inputs", "json", "output", "quiet", "replace"),
        *("dry_run", "keep_suffix", "partial"),
        *("limits", "max_bytes", "max_frames", "max_pixels", "max_seconds", "max_values"),
        *("report", "select", "skip_existing", "source", "target", "verb", "weights"),
    ]
)


@dataclass(frozen=True)
class Card:
    """The description of a codec that `codec list` shows, and where its class is. ValueError for one that can't be.

    name: as in `Codec.load`; also in every file. medium: "image", "video", "array", "field", "audio", "gaussians" or
    "features".
    suffix: of its files; decoration, the signature of a file decides. target: "module:Class", the module relative to
    the card's package. settings: what its `with_settings` takes. selection: what its `decode_file` can be asked for,
    fields of `Select`. default: whether it codes its medium where no codec is named; only codecs of this package can
    be. citation: the paper.
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

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"a codec called {self.name!r}; expected up to 32 of a-z, 0-9, _ . and -")
        if self.medium not in MEDIA:
            raise ValueError(f"{self.name} is for {self.medium!r}; expected one of {', '.join(MEDIA)}")
        taken = {suffix for medium in MEDIA.values() for suffix in (*medium.reads, *medium.writes)}
        if not isinstance(self.suffix, str) or not _SUFFIX.fullmatch(self.suffix) or self.suffix in taken:
            raise ValueError(f"{self.name} has the suffix {self.suffix!r}; expected one of its own, as '.{self.name}'")
        if not isinstance(self.target, str) or not _TARGET.fullmatch(self.target):
            raise ValueError(f"{self.name} has the target {self.target!r}; expected 'module:Class'")
        if not isinstance(self.summary, str):
            raise ValueError(f"{self.name} has the summary {self.summary!r}; expected text")
        for setting in (*self.settings, *self.selection):
            if not isinstance(setting, Setting) or not _SETTING.fullmatch(setting.name) or setting.name in RESERVED:
                raise ValueError(f"{self.name} has {setting!r}; expected a Setting, called otherwise")
            if setting.short is not None and setting.name != QUALITY.name:
                raise ValueError(f"{self.name} has an option -{setting.short}; only quality has a letter")
        known = {item.name for item in fields(Select)} - {"form"}
        if unknown := [setting.name for setting in self.selection if setting.name not in known]:
            raise ValueError(f"{self.name} selects by {unknown[0]!r}; expected one of {', '.join(sorted(known))}")


def check_rivals(name: str, given: Mapping[str, Any], declared: Iterable[Setting]) -> None:
    """Raise UsageError for two settings of which only one can be given; a quality is what any other refines.

    name: of the codec. given: values by name; None is as if it weren't.
    """
    first: dict[str, str] = {}
    for setting in declared:
        if setting.rivals is None or setting is QUALITY or given.get(setting.name) is None:
            continue
        other = first.setdefault(setting.rivals, setting.name)
        if other != setting.name:
            raise UsageError(f"{name} takes one of {other} and {setting.name}, and both are given")


def check_declared(name: str, given: Iterable[str], declared: Iterable[Setting], option: bool = False) -> None:
    """Raise UsageError, in one sentence, for the first name of `given` that isn't among the declared settings.

    name: of the codec. option: whether names are said as the command's options.
    """
    known: Mapping[str, Setting] = {setting.name: setting for setting in declared}
    for wanted in given:
        if wanted not in known:
            offered = [setting for setting in known.values() if setting.command or not option]
            words = ", ".join(setting.option if option else setting.name for setting in offered) or "nothing"
            shown = "--" + wanted.replace("_", "-") if option else repr(wanted)
            raise UsageError(f"{name} doesn't take {shown}: it takes {words}")
