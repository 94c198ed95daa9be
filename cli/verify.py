"""`codec verify`: structure, checksums, weights, and that files decode."""

from __future__ import annotations

import argparse
import time
from functools import partial

from .. import media
from ..codecs.base.limits import Limits
from ..codecs.base.limits import check as check_limits
from .coding import Model, add_limits, check_device, decoder, limits_of
from .jobs import Job, Report, carry_out, expand
from .parser import add_inputs, add_jobs, add_model

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
    check_device(model)
    jobs = [Job(source) for source, _ in expand(args.inputs, media.is_ours)]
    return carry_out(args, partial(_verify, model, limits_of(args)), jobs)


def _verify(model: Model, limits: Limits, job: Job) -> Report:
    from ..container import describe, read_header
    from ..files import read_bytes

    started = time.perf_counter()
    data = read_bytes(job.source)
    header = read_header(data)
    check_limits(header, limits)
    about = describe(data)
    decoder(header, model, limits).verify_file(data)
    kept = {key: about[key] for key in ("codec", "stream", "shape", "dtype", "n_bytes")}
    words = [f"ok, {about['codec']} stream {about['stream']}, {about['n_bytes']} bytes"]
    return {**kept, "seconds": time.perf_counter() - started, "words": words}
