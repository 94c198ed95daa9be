"""Parts of `encode`, `decode` and `verify`: options that cards declare, loaded codecs, probes, reports of one input."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import media, registry
from ..codecs.base.limits import DEFAULTS, LIMITS, Limits
from ..codecs.base.limits import check as check_limits
from ..codecs.base.settings import Card, Select, Setting
from ..errors import ContainerError, MediaError, WeightsError
from ..files import is_stream, read_bytes
from ..media.notes import PARTIAL
from ..media.signatures import KINDS, START, identify, start_of
from .jobs import Report, kind_of
from .options import typed

if TYPE_CHECKING:
    from ..codecs.base.codec import Codec, Summary
    from ..container import Header

__all__ = [
    "Model",
    "Probes",
    "accepts_ours",
    "add_limits",
    "add_settings",
    "check_device",
    "check_ours",
    "check_weights",
    "decoder",
    "encoder",
    "given",
    "limits_of",
    "report_of",
    "with_suffix",
]


# ---- options that cards declare


def add_settings(parser: argparse.ArgumentParser, declared: Callable[[Card], Sequence[Setting]]) -> None:
    """An option for every setting that the cards of all codecs declare; rivals exclude each other."""
    settings: dict[str, Setting] = {}
    takers: dict[str, list[str]] = {}
    cards = [registry.entry(name) for name in registry.names()]
    for card in cards:
        for setting in declared(card):
            if setting.command:
                settings.setdefault(setting.name, setting)
                takers.setdefault(setting.name, []).append(card.name)
    rivals: dict[str, Any] = {}
    for name, setting in settings.items():
        place: Any = parser if setting.words is None else parser.add_mutually_exclusive_group()
        if setting.rivals is not None:
            place = rivals.setdefault(setting.rivals, None) or parser.add_mutually_exclusive_group()
            rivals[setting.rivals] = place
        flags = [f"-{setting.short}"] * bool(setting.short) + [setting.option]
        words = f"{', '.join(takers[name])}: {setting.help}"
        if setting.switch is not None:
            place.add_argument(*flags, dest=name, action="store_const", const=setting.switch, help=words)
        else:
            action = "append" if setting.several else "store"
            place.add_argument(
                *flags,
                dest=name,
                action=action,
                type=typed(setting.parse, "size" if setting.name == "size" else "number"),
                metavar=setting.metavar,
                help=words,
            )
        if setting.words is not None:
            off = setting.words[0]
            option = setting.option.replace("--", "--no-", 1)
            place.add_argument(
                option, dest=name, action="store_const", const=off, help=f"the same as {setting.option} {off}"
            )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """An option for each limit of how much a file may decode to."""
    group = parser.add_argument_group("limits", "a file that decodes to more is refused; K, M, G and T are understood")
    for setting in LIMITS:
        group.add_argument(
            setting.option,
            dest=setting.name,
            type=typed(setting.parse, "number"),
            default=argparse.SUPPRESS,
            metavar=setting.metavar,
            help=setting.help,
        )


def limits_of(args: argparse.Namespace) -> Limits:
    """The limits that a command line names; the others are as always."""
    names = [setting.name for setting in LIMITS if hasattr(args, setting.name)]
    return Limits.of_options({name: getattr(args, name) for name in names})


def given(args: argparse.Namespace, declared: Callable[[Card], Sequence[Setting]]) -> dict[str, Any]:
    """The settings that a command line names, by name."""
    cards = [registry.entry(name) for name in registry.names()]
    known = {setting.name: setting for card in cards for setting in declared(card) if setting.command}
    values = {name: getattr(args, name) for name in known}
    return {name: tuple(value) if known[name].several else value for name, value in values.items() if value is not None}


# ---- loaded codecs


class Model(NamedTuple):
    """The weights that are used and the device that networks run on, as the command line gives them to all workers."""

    weights: str | None = None
    device: str = "cpu"


_ready: dict[tuple[object, ...], Codec] = {}  # loaded once in each process


def encoder(name: str, settings: Sequence[tuple[str, Any]], model: Model) -> Codec:
    """The codec of this name with these settings, loaded once in each process."""
    key = ("encode", name, tuple(settings), model)
    if key not in _ready:
        from ..codecs.base.codec import Codec

        changes = dict(settings)
        codec = Codec.load(name, changes.pop("quality", None), model.weights, model.device)
        _ready[key] = codec.with_settings(**changes) if changes else codec
    return _ready[key]


def decoder(header: Header, model: Model, limits: Limits = DEFAULTS) -> Codec:
    """The codec that decodes files of this header, loaded once in each process; LimitError before it is."""
    check_limits(header, limits)
    key = ("decode", header.codec, header.stream, header.weights, model)
    if key not in _ready:
        from ..codecs.base.codec import codec_for

        try:
            codec = codec_for(header, weights=model.weights, device=model.device, limits=limits)
        except WeightsError as error:
            words = str(error)
            if model.weights is not None and "other weights" in words:  # what it says besides is for Python
                words = f"{words.partition(': use ')[0]}: name those with --weights, or leave it out for shipped ones"
            raise WeightsError(words) from None
        _ready[key] = codec
    return _ready[key].with_limits(limits)


def check_weights(path: str | None) -> None:
    """WeightsError, before any input is looked at, for a file that is something else."""
    if path is None or not os.path.isfile(path):
        return
    key = identify(start_of(path), path)
    if key not in (None, "safetensors"):
        raise WeightsError(f"--weights {path}: {KINDS[key].name}; expected a safetensors file")


def check_device(model: Model) -> None:
    """UsageError, before any input is looked at, for a device that can't be used."""
    if model.device != "cpu":
        from ..codecs.base.codec import check_device

        check_device(model.device)


# ---- what inputs are


class Probes:
    """Probes of inputs. reads_streams: whether stdin or a pipe is read to its end for that, once."""

    def __init__(self, reads_streams: bool = False) -> None:
        self.reads_streams = reads_streams
        self._streams: dict[str, media.Probe] = {}  # of files nothing is kept: there may be a million

    def __getitem__(self, source: str) -> media.Probe:
        if not (self.reads_streams and is_stream(source)):
            return media.probe(source)
        if source not in self._streams:
            self._streams[source] = media.probe_bytes(read_bytes(source), source)
        return self._streams[source]


def accepts_ours(path: Path) -> bool:
    """Whether a file of a folder is one of ours: by its first bytes, or by its suffix: the bytes may be damaged."""
    return media.is_ours(path) or path.suffix.lower() in {registry.entry(name).suffix for name in registry.names()}


def check_ours(start: bytes, source: str) -> None:
    """ContainerError that says what a file is, by its first bytes, if it isn't one of ours."""
    key = identify(start[:START], source)
    if key == "empty":
        raise ContainerError("empty: 0 bytes")
    if key is not None and key != "ours":
        raise ContainerError(f"{KINDS[key].name}, not a file of codec")
    if key is None:
        raise ContainerError("not a file of codec, or its first bytes are damaged: get it again")


class Described(NamedTuple):
    """A file of ours that was read to its end, and found whole. facts: see `container.describe`."""

    probe: media.Probe
    facts: dict[str, Any]


def described(source: str) -> Described:
    """The facts about a file of ours, all of which is verified, one chunk at a time. ContainerError, MediaError."""
    from ..codecs.base.codec import opened
    from ..container import describe

    probe = opened(source)
    if not probe.ours:  # of what can't be opened, reading says why
        check_ours(probe.read(), source)
    if probe.data is not None:
        return Described(probe, describe(probe.data))
    try:
        with open(probe.source, "rb") as file:
            return Described(probe, describe(file))
    except OSError as error:
        raise MediaError(f"{source}: {error.strerror or error}") from None


def with_suffix(path: Path, known: Iterable[str], suffix: str) -> Path:
    """photo.png -> photo.s2lic, but photo.v2 -> photo.v2.walloc: only a suffix that says a format is replaced."""
    return path.with_suffix(suffix) if path.suffix.lower() in known else path.with_name(path.name + suffix)


# ---- reports


def report_of(summary: Summary, started: float) -> Report:
    """The report of one input from what its codec says; started: of `time.perf_counter`."""
    sizes = {"bytes_in": summary.bytes_in, "bytes_out": summary.bytes_out}
    report = {**summary.about, **{name: size for name, size in sizes.items() if size is not None}}
    if summary.notes:
        report["notes"] = [str(note) for note in summary.notes]
        report |= {"partial": True} if PARTIAL.intersection(kind_of(note) for note in report["notes"]) else {}
    return {**report, "seconds": time.perf_counter() - started, "words": list(summary.words)}


def selection_of(card: Card) -> Sequence[Setting]:
    """The settings by which a codec's files are decoded in part."""
    return card.selection


def settings_of(card: Card) -> Sequence[Setting]:
    """The settings that a codec takes when it encodes."""
    return card.settings


def select_of(args: argparse.Namespace, form: str) -> Select:
    """The selection that a command line names."""
    return Select(form=form, **given(args, selection_of))
