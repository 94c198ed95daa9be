"""`codec decode`: bring files back."""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import NamedTuple

from .. import media, registry
from ..codecs.base import base_of
from ..codecs.base.limits import Limits
from ..codecs.base.settings import Select, check_declared
from ..errors import UsageError
from ..files import STDIO
from .coding import (
    Model,
    Probes,
    add_limits,
    add_settings,
    check_device,
    decoder,
    limits_of,
    report_of,
    select_of,
    selection_of,
    with_suffix,
)
from .jobs import Job, Report, carry_out, plan
from .parser import add_inputs, add_jobs, add_model, add_outputs

EXAMPLES = """\
examples:
  codec decode photo.s2lic -o back.png
  codec decode clip.nirvana --frames 30:45 -o part.mp4
  codec decode small -o back --format tiff    every file of a folder; its tree is kept
"""
INTERRUPTED = "finished files are whole, --skip-existing goes on from here"

_UNKNOWN = ".decoded"  # the suffix of an output whose file can't be read: its job says why


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, "folders (their tree is kept)")
    add_outputs(parser)
    words = f"form of outputs whose name doesn't say it: {', '.join(_forms())} (default: the usual one)"
    parser.add_argument("--format", metavar="F", help=words)
    add_settings(parser, selection_of)
    add_model(parser)
    add_limits(parser)
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


def run(args: argparse.Namespace) -> int:
    form = "." + args.format.lower().lstrip(".") if args.format else ""
    if form and form.lstrip(".") not in _forms():
        raise UsageError(f"--format {args.format}: expected one of {', '.join(_forms())}")
    options = Options(Model(args.weights, args.device), select_of(args, form), limits_of(args))
    probes = Probes(reads_streams=True)
    ours = [registry.entry(name).suffix for name in registry.names()]
    jobs = plan(
        args.inputs,
        args.output,
        accepts=media.is_ours,
        rename=lambda source, place: with_suffix(place, ours, _usual_suffix(probes[source], options.select)),
        force=args.force,
        skip_existing=args.skip_existing,
    )
    jobs = [job._replace(probe=probes[job.source]) for job in jobs]
    for job in jobs:
        _check(job, options.select)
    check_device(options.model)
    return carry_out(args, partial(_decode, options), jobs)


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
    assert job.probe is not None and job.target is not None
    codec = decoder(job.probe.require_header(), options.model, options.limits)
    summary = codec.decode_file(job.probe, job.target, options.select, replace=job.replace)
    return report_of(summary, started)
