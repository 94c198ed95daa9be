"""`codec decode`: bring files back."""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from .. import media, registry
from ..codecs.base import base_of
from ..codecs.base.limits import Limits
from ..codecs.base.settings import Select, check_declared
from ..errors import UsageError
from ..files import STDIO
from ..media.signatures import suffixes
from .coding import (
    Model,
    Probes,
    accepts_ours,
    add_limits,
    add_settings,
    check_device,
    check_ours,
    check_weights,
    decoder,
    limits_of,
    report_of,
    select_of,
    selection_of,
    with_suffix,
)
from .inputs import Input
from .jobs import Job, Report, carry_out
from .parser import add_inputs, add_jobs, add_model, add_outputs, add_partial
from .plan import Naming, Output, plan
from .terminal import progress

EXAMPLES = """\
examples:
  codec decode photo.s2lic -o back.png
  codec decode clip.nirvana --frames 30:45 -o part.mp4
  codec decode small -o back --format tiff    every file of a folder; its tree is kept
"""
INTERRUPTED = "finished files are whole, --skip-existing goes on from here"

_KEPT = 1000  # probes, with the headers of their files, that go with their jobs; of a million all are made again
_UNKNOWN = ".decoded"  # the suffix of an output whose file can't be read: its job says why


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, "folders (their tree is kept)")
    add_outputs(parser)
    words = f"form of outputs whose name doesn't say it: {', '.join(_forms())} (default: the usual one)"
    parser.add_argument("--format", metavar="F", help=words)
    add_settings(parser, selection_of)
    add_model(parser)
    add_limits(parser)
    add_partial(parser)
    add_jobs(parser)


def _forms() -> list[str]:
    """All forms in which anything can be written: suffixes without their dot."""
    suffixes = dict.fromkeys(suffix for medium in media.MEDIA.values() for suffix in medium.writes if suffix)
    return [suffix.lstrip(".") for suffix in suffixes]


class Options(NamedTuple):
    """The options of all jobs, as they go to worker processes."""

    model: Model
    select: Select
    limits: Limits
    bar: bool = False


def run(args: argparse.Namespace) -> int:
    form = "." + args.format.lower().lstrip(".") if args.format else ""
    if form and form.lstrip(".") not in _forms():
        raise UsageError(f"--format {args.format}: expected one of {', '.join(_forms())}")
    options = Options(Model(args.weights, args.device), select_of(args, form), limits_of(args))
    check_weights(args.weights)
    probes = Probes(reads_streams=True)
    ours = [registry.entry(name).suffix for name in registry.names()]
    numbers = count()

    def output(item: Input) -> Output:
        probe = probes[item.source]
        name = with_suffix(Path(item.name), ours, _usual_suffix(probe, options.select)).name
        return Output(name, probe=probe if next(numbers) < _KEPT or probe.data is not None else None)

    naming = Naming(
        output,
        args.output,
        args.force,
        args.skip_existing,
        formats=frozenset(suffixes()),
        remedy="decode them apart, or into folders of their own",
        offers_force=False,
    )
    planned = plan(args.inputs, naming, accepts_ours)
    for job in planned.jobs:
        _check(job if job.probe is not None else job._replace(probe=probes[job.source]), options.select)
    check_device(options.model)
    shows_bar = len(planned.jobs) == 1 and not args.quiet
    return carry_out(args, partial(_decode, options._replace(bar=shows_bar)), planned, unfinished=_unfinished)


def _unfinished(target: str) -> str:
    """Why a file that is there can't be what decoding makes; "" if it may be."""
    if os.path.isfile(target) and os.path.getsize(target) == 0:
        return "it is empty"
    return ""


def _allowed(probe: media.Probe, select: Select) -> tuple[str, ...]:
    """The suffixes that a file can be decoded to, the usual one first; () for one that can't be read."""
    if probe.header is None or probe.header.codec not in registry.names():
        return ()
    return base_of(registry.entry(probe.header.codec)).output_suffixes(probe.header, select)


def _usual_suffix(probe: media.Probe, select: Select) -> str:
    allowed = _allowed(probe, select)
    return select.form if select.form and select.form in allowed else (*allowed, _UNKNOWN)[0]


def _check(job: Job, select: Select) -> None:
    """UsageError, before anything is written, for what can't be asked of this file."""
    probe = job.probe
    allowed = _allowed(probe, select) if probe is not None else ()
    if probe is None or probe.header is None or not allowed:
        return  # its job says what is wrong with it
    card = registry.entry(probe.header.codec)
    check_declared(f"{job.source} is a file of {card.name}, which", select.named, card.selection, option=True)
    base = base_of(card)
    base.check_select(select)
    base.check_output(probe.header, STDIO if job.target is None else job.target, select)


def _decode(options: Options, job: Job) -> Report:
    """The work on one input; runs in this process or in others."""
    started = time.perf_counter()
    assert job.target is not None
    probe = media.probe(job.source) if job.probe is None else job.probe
    if not probe.ours:  # of what can't be opened, reading says why
        check_ours(probe.read(), job.source)
    codec = decoder(probe.require_header(), options.model, options.limits)
    with progress(f"codec decode: {Path(job.source).name}", wanted=options.bar, total=1, counts=False) as bar:
        summary = codec.decode_file(probe, job.target, options.select, bar.report, replace=job.replace)
    return report_of(summary, started)
