"""`codec verify`: structure, checksums, weights, and that files decode."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from ..codecs.base.limits import Limits
from ..codecs.base.limits import check as check_limits
from ..codecs.base.progress import told
from .coding import Model, accepts_ours, add_limits, check_device, check_weights, decoder, described, limits_of
from .jobs import Job, Report, carry_out, plan_reading
from .parser import add_inputs, add_jobs, add_model
from .terminal import progress

EXAMPLES = """\
examples:
  codec verify photo.s2lic
  codec verify backup --jobs 4 --quiet        words only for what is damaged
  codec verify backup --json
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser)
    add_model(parser)
    add_limits(parser)
    add_jobs(parser)


def run(args: argparse.Namespace) -> int:
    model = Model(args.weights, args.device)
    check_weights(args.weights)
    check_device(model)
    planned = plan_reading(args.inputs, accepts_ours)
    shows_bar = len(planned.jobs) == 1 and not args.quiet
    return carry_out(args, partial(_verify, model, limits_of(args), shows_bar), planned)


def _verify(model: Model, limits: Limits, bar: bool, job: Job) -> Report:
    started = time.perf_counter()
    about = described(job.source)
    header = about.probe.require_header()
    check_limits(header, limits)
    codec = decoder(header, model, limits)
    title = f"codec verify: {Path(job.source).name}"
    with progress(title, wanted=bar, total=1, counts=False) as shown, told(shown.report):
        codec.verify_file(about.probe)
    kept = {key: about.facts[key] for key in ("codec", "stream", "shape", "dtype", "n_bytes")}
    words = [f"ok, {kept['codec']} stream {kept['stream']}, {kept['n_bytes']} bytes"]
    return {**kept, "seconds": time.perf_counter() - started, "words": words}
