"""`codec encode`: compress files."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .. import media, registry
from ..codecs.base.settings import check_declared
from ..errors import UsageError
from .coding import Model, Probes, add_settings, encoder, given, report_of, settings_of, with_suffix
from .jobs import Job, Report, carry_out, plan
from .parser import add_inputs, add_jobs, add_model, add_outputs
from .terminal import progress, say

EXAMPLES = """\
examples:
  codec encode photo.png -o photo.s2lic -q 60   or --size 20kB, --bpp 0.25, --psnr 34
  codec encode clip.mp4 --effort 2 --jobs 4     a video; interrupted, the same command goes on
  codec encode 'photos/**/*.jpg' -o small --jobs 4 --skip-existing
"""
INTERRUPTED = (
    "finished files are whole, --skip-existing goes on from here; the same command goes on with what was interrupted"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, "folders (their tree is kept)")
    add_outputs(parser)
    words = "codec, or codec@tag; `codec list` names them (default: the medium's own)"
    parser.add_argument("-c", "--codec", help=words)
    add_settings(parser, settings_of)
    add_model(parser)
    add_jobs(parser)


class Options(NamedTuple):
    """The options of all jobs, as they go to worker processes. bar: whether a bar shows how far the one input is."""

    model: Model
    settings: tuple[tuple[str, Any], ...]
    bar: bool = False


def run(args: argparse.Namespace) -> int:
    choice = _Choice(args.codec)
    jobs = choice.plan(args)
    names = sorted({job.codec for job in jobs})
    settings = given(args, settings_of)
    for name in names:
        check_declared(name, settings, registry.entry(name).settings, option=True)
    options = Options(Model(args.weights, args.device), tuple(settings.items()))
    if len(jobs) == 1 and any(setting.name == "jobs" for setting in registry.entry(names[0]).settings):
        workers = args.jobs or os.cpu_count() or 1  # all for the parts of the one input
        options = options._replace(settings=(*options.settings, ("jobs", workers)))
    if settings or args.device != "cpu":
        for name in names:  # a setting that no input can be encoded with is said once
            encoder(name, options.settings, options.model)
    shows_bar = len(jobs) == 1 and not args.quiet and not args.json and sys.stderr.isatty()
    code = carry_out(args, partial(_encode, options._replace(bar=shows_bar)), jobs)
    if not args.quiet:
        choice.say_left_out()
    return code


class _Choice:
    """The choice of inputs and of a codec for each: the one that is named, or the default of what the file holds."""

    def __init__(self, named: str | None) -> None:
        self.named = named
        card = registry.entry(named) if named else None
        defaults = [medium for medium in media.MEDIA.values() if registry.default(medium.name)]
        self.medium = media.MEDIA[card.medium] if card else None
        self.known = [self.medium] if self.medium else defaults
        self.probes = Probes()
        self.left_out: Counter[str] = Counter()

    def plan(self, args: argparse.Namespace) -> list[Job]:
        """The jobs, each with its codec; UsageError if there are none, or one can't be."""
        try:
            jobs = plan(
                args.inputs,
                args.output,
                accepts=self._accepts,
                rename=self._rename,
                force=args.force,
                skip_existing=args.skip_existing,
                is_one_input=self._is_one_input,
            )
        except UsageError as error:
            if self.left_out:
                raise UsageError(f"{error} ({self._left_out()})") from None
            raise
        return [job._replace(codec=self._codec_of(job.source)) for job in jobs]

    def say_left_out(self) -> None:
        """Tell about files of a folder that were not taken, though they could be."""
        if self.left_out:
            say(sys.stderr, f"codec encode: {self._left_out()}")

    def _left_out(self) -> str:
        words = [
            f"{n} {name} file{'s' * (n != 1)} ({registry.default(name)})" for name, n in sorted(self.left_out.items())
        ]
        return f"left out, name their codec with -c: {', '.join(words)}"

    def _accepts(self, path: Path) -> bool:
        """Whether a file of a folder is meant; a file given by name may be called anything."""
        suffix = path.suffix.lower()
        for medium in self.known:
            if suffix in medium.reads:
                if self.named is None and medium.by_name:
                    self.left_out[medium.name] += 1
                    return False
                return True
        return False

    def _is_one_input(self, folder: Path) -> bool:
        return self.medium is not None and self.medium.is_one_input(folder)

    def _rename(self, source: str, place: Path) -> Path:
        suffixes: Sequence[str] = [suffix for medium in self.known for suffix in medium.reads]
        return with_suffix(place, suffixes, registry.entry(self._codec_of(source)).suffix)

    def _codec_of(self, source: str) -> str:
        if self.named:
            return self.named
        medium = self.probes[source].medium
        name = registry.default(medium)
        if name is None:
            takers = ", ".join(registry.names(medium)) or "none yet"
            raise UsageError(f"{source} holds {medium}, which has no codec by default: name one with -c ({takers})")
        return name


def _encode(options: Options, job: Job) -> Report:
    """The work on one input; runs in this process or in others."""
    started = time.perf_counter()
    codec = encoder(job.codec, options.settings, options.model)
    assert job.target is not None
    with progress(Path(job.source).name, wanted=options.bar, total=1, counts=False) as bar:
        summary = codec.encode_file(
            job.source,
            job.target,
            lambda now: bar.update(now.fraction or 0.0, 1 if now.fraction is not None else None, now.words),
            replace=job.replace,
        )
    return report_of(summary, started)
