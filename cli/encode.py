"""`codec encode`: compress files."""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .. import media, registry
from ..codecs.base.settings import check_declared
from ..container import SIGNATURE
from ..errors import CodecError, MediaError, UsageError
from ..files import STDIO, cpu_count
from ..media.signatures import KINDS, describe_store, describe_unknown, format_of_suffix, identify, start_of, suffixes
from .coding import Model, Probes, add_settings, check_weights, encoder, given, report_of, settings_of, with_suffix
from .inputs import Input
from .jobs import Job, Report, carry_out
from .parser import add_inputs, add_jobs, add_model, add_outputs, add_partial
from .plan import Naming, Output, Plan, plan
from .terminal import progress

EXAMPLES = """\
examples:
  codec encode photo.png -o photo.s2lic -q 60   or --size 20kB, --bpp 0.25, --psnr 34
  codec encode clip.mp4 --effort 2 --jobs 4     a video; interrupted, the same command goes on
  codec encode 'photos/**/*.jpg' -o small --jobs 4 --skip-existing
"""
INTERRUPTED = (
    "finished files are whole, --skip-existing goes on from here; what keeps its progress goes on with the same command"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, "folders (their tree is kept)")
    add_outputs(parser)
    parser.add_argument(
        "--keep-suffix", action="store_true", help="a.jpg becomes a.jpg.CODEC, and may lie beside a.tif"
    )
    words = "write nothing; say what would be made, and which parts of it would lose something"
    parser.add_argument("--dry-run", action="store_true", help=words)
    words = "codec, or codec@tag; `codec list` names them (default: the medium's own)"
    parser.add_argument("-c", "--codec", help=words)
    add_settings(parser, settings_of)
    add_model(parser)
    add_partial(parser)
    add_jobs(parser)


class Options(NamedTuple):
    """The options of all jobs, as they go to worker processes. bar: whether a bar shows how far the one input is."""

    model: Model
    settings: tuple[tuple[str, Any], ...]
    bar: bool = False


def run(args: argparse.Namespace) -> int:
    choice = _Choice(args.codec, args.keep_suffix)
    planned = choice.plan(args)
    jobs = planned.jobs
    names = sorted({job.codec for job in jobs if job.codec})
    settings = given(args, settings_of)
    for name in names:
        check_declared(name, settings, registry.entry(name).settings, option=True)
    check_weights(args.weights)
    options = Options(Model(args.weights, args.device), tuple(settings.items()))
    if len(jobs) == 1 and names and any(setting.name == "jobs" for setting in registry.entry(names[0]).settings):
        workers = args.jobs or cpu_count()  # all for the parts of the one input
        options = options._replace(settings=(*options.settings, ("jobs", workers)))
    if settings or args.device != "cpu":
        for name in names:  # a setting that no input can be encoded with is said once
            encoder(name, options.settings, options.model)
    shows_bar = len(jobs) == 1 and not args.quiet
    work = partial(_dry_run if args.dry_run else _encode, options._replace(bar=shows_bar))
    return carry_out(args, work, planned, unfinished=_unfinished, hint=choice.hint)


class _Choice:
    """The choice of inputs and of a codec for each: the one that is named, or the default of what the file holds."""

    def __init__(self, named: str | None, keep_suffix: bool = False) -> None:
        self.named, self.keep_suffix = named, keep_suffix
        card = registry.entry(named) if named else None
        defaults = [medium for medium in media.MEDIA.values() if registry.default(medium.name)]
        self.medium = media.MEDIA[card.medium] if card else None
        self.known = [self.medium] if self.medium else defaults
        self.taken = {suffix for medium in self.known for suffix in medium.reads}
        self.ours = {registry.entry(name).suffix for name in registry.names()}
        self.probes = Probes()

    def plan(self, args: argparse.Namespace) -> Plan:
        """The jobs, each with its codec; UsageError if there are none, or none can be."""
        naming = Naming(
            self._output,
            args.output,
            args.force,
            args.skip_existing,
            formats=frozenset(suffixes()),
            remedy="--keep-suffix keeps them apart",
        )
        try:
            planned = plan(args.inputs, naming, self._accepts, self._is_one_input)
        except UsageError as error:
            where = [text for text in args.inputs if os.path.isdir(text)]
            if where and "no file here" in str(error) and (hint := self._hint_of(str(error))):
                raise UsageError(f"{error}: {hint}") from None
            raise
        for job in planned.jobs[:1] if len(planned.jobs) == 1 else ():
            if job.refused:
                raise UsageError(job.refused)
            if args.output is not None and job.target != STDIO:
                self._check_suffix(Path(job.target or ""), job.codec)
        return planned

    def _check_suffix(self, target: Path, codec: str) -> None:
        """Refuse an output that is called as the files of another format are: programs would call it broken."""
        own, suffix = registry.entry(codec).suffix, target.suffix.lower()
        if suffix == own:
            return
        kind = format_of_suffix(suffix)
        if kind is not None or suffix in self.ours:
            other = kind.name if kind is not None else "another codec's file"
            name = target.with_suffix(own)
            raise UsageError(f"-o {target}: that is the name of {other}, and a file of {codec} is written: -o {name}")

    def hint(self, planned: Plan) -> str:
        """Advice about files that were left out, for the first formats that are known."""
        words = []
        for kind, path in planned.examples.items():
            if not kind.startswith(".") and kind != "without suffix":
                continue
            words += filter(None, [self._hint_of_file(kind, path)])
        return "\n".join(f"  {line}" for line in dict.fromkeys(words[:4]))

    def _hint_of_file(self, suffix: str, path: str) -> str:
        medium = media.medium_of_suffix(path)
        if medium is not None and medium not in {known.name for known in self.known if not known.by_name}:
            takers = registry.names(medium)
            return f"{suffix}: -c {takers[0]}" if takers else ""
        start = start_of(path)
        key = identify(start, path)
        if key is None or KINDS[key].medium in ("text", "program", "database") or not KINDS[key].advice:
            return ""
        return f"{suffix}: {describe_unknown(start, path)}"

    def _hint_of(self, words: str) -> str:
        """The codecs that take what a folder holds, by the suffixes that an error counts."""
        for medium in media.MEDIA.values():
            if any(f" {suffix}" in words for suffix in medium.reads) and (takers := registry.names(medium.name)):
                return f"name their codec with -c, as {takers[0]} for {medium.name}"
        return ""

    def _accepts(self, path: Path) -> bool | None:
        """Whether a file of a folder is meant, by its suffix, or else by its content; None for a file of ours."""
        suffix = path.suffix.lower()
        if suffix in self.ours:
            return None
        medium = next((medium for medium in self.known if suffix in medium.reads), None)
        if medium is None:
            if media.medium_of_suffix(path) is not None:
                return False  # for another codec
            start = start_of(path)
            key = identify(start, str(path))
            if key == "ours":
                return None
            if key is None or not self.taken.intersection(KINDS[key].suffixes):
                return False  # nobody here reads it
            medium = next((medium for medium in self.known if medium.name == KINDS[key].medium), None)
        return medium is not None and (self.named is not None or not medium.by_name)

    def _is_one_input(self, folder: Path) -> bool:
        return self.medium is not None and self.medium.is_one_input(folder)

    def _output(self, item: Input) -> Output:
        try:
            codec = self._codec_of(item.source)
        except UsageError as error:
            return Output(item.name, refused=str(error))
        suffix = registry.entry(codec).suffix
        known = () if self.keep_suffix else self.taken
        return Output(with_suffix(Path(item.name), known, suffix).name, codec)

    def _codec_of(self, source: str) -> str:
        if self.named:
            return self.named
        probe = self.probes[source]
        if probe.ours:
            raise UsageError(f"{source}: {describe_unknown(SIGNATURE, source)}; name a codec to code it once more")
        name = registry.default(probe.medium)
        if name is None:
            takers = registry.names(probe.medium)
            words = f", as codec encode {source} -c {takers[0]}" if takers else ", and there is none yet"
            raise UsageError(f"{source}: of the medium {probe.medium} no codec is the default: name one{words}")
        return name


def _unfinished(target: str) -> str:
    """Why a file that is there can't be what encoding makes; "" if it may be: its chunks are as many as announced."""
    from ..container import ChunkReader

    try:
        with open(target, "rb") as file:
            ChunkReader(file).places()
    except CodecError:
        start = start_of(target)
        known = identify(start, target)
        what = KINDS[known].name if known not in (None, "ours") else "no whole file of codec"
        return f"it is {what}"
    except OSError as error:
        return str(error.strerror or error)
    return ""


def _encode(options: Options, job: Job) -> Report:
    """The work on one input; runs in this process or in others."""
    started = time.perf_counter()
    codec = encoder(job.codec, options.settings, options.model)
    assert job.target is not None
    with progress(f"codec encode: {Path(job.source).name}", wanted=options.bar, total=1, counts=False) as bar:
        try:
            summary = codec.encode_file(job.source, job.target, bar.report, replace=job.replace)
        except MediaError as error:
            if words := _other_format(job.source, codec.name, codec.medium):
                raise MediaError(words) from error
            raise
    return report_of(summary, started)


def _other_format(source: str, name: str, medium: str) -> str:
    """The format of an input that its codec couldn't read, and what to do; "" if it is one that its medium has."""
    if source == STDIO or not (os.path.isfile(source) or os.path.isdir(source)):
        return ""
    start = b"" if os.path.isdir(source) else start_of(source)
    key = None if os.path.isdir(source) else identify(start, source)
    if key is None:
        return describe_store(source)
    kind = KINDS[key]
    other = f"{kind.name}, which {name} doesn't take: leave -c out, or see `codec list`"
    if kind.medium != medium and registry.names(kind.medium):
        return other
    if key == "text" or set(kind.suffixes).intersection(media.MEDIA[medium].reads):
        return ""  # the reader of this medium knows better
    if kind.advice or key == "empty":
        return describe_unknown(start, source)
    return other if kind.medium != medium else ""


def _dry_run(options: Options, job: Job) -> Report:
    """The work on one input of a dry run."""
    started = time.perf_counter()
    codec = encoder(job.codec, options.settings, options.model)
    parts = dict(codec.plan_file(job.source))
    words = ["a dry run, nothing is written"]
    return {"status": "planned", "parts": parts, "seconds": time.perf_counter() - started, "words": words}
