"""`codec verify`: structure, checksums, weights, and that files decode."""

from __future__ import annotations

import argparse
import time
from functools import partial

from ..files import read_bytes
from .coding import Options, check_device, decode_picture, decoder, is_ours, video_codec
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
    add_jobs(parser)


def run(args: argparse.Namespace) -> int:
    options = Options(weights=args.weights, device=args.device)
    check_device(options)
    jobs = [Job(source) for source, _ in expand(args.inputs, is_ours)]
    return carry_out(args, partial(_verify, options), jobs)


def _verify(options: Options, job: Job) -> Report:
    from ..container import describe

    started = time.perf_counter()
    data = read_bytes(job.source)
    about = describe(data)
    if about["medium"] == "field":
        decoder(options, data).decompress(data)
    elif about["medium"] == "video":
        _verify_video(options, data)
    else:
        decode_picture(options, data)
    kept = {key: about[key] for key in ("codec", "stream", "shape", "dtype", "n_bytes")}
    return {**kept, "seconds": time.perf_counter() - started}


def _verify_video(options: Options, data: bytes) -> None:
    """Decode every frame, in bounded memory."""
    with video_codec(decoder(options, data)).open_file(data) as file:
        for _ in file.frames():
            pass
        file.audio()
