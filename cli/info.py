"""`codec info`: what files are, without decoding them."""

from __future__ import annotations

import argparse

from .. import media, registry
from ..codecs.base import base_of
from ..errors import WeightsError
from ..files import read_bytes
from .jobs import Job, Report, carry_out, expand
from .parser import add_inputs
from .terminal import table

EXAMPLES = """\
examples:
  codec info photo.s2lic
  codec info small --json                     one JSON object a line
  cat photo.s2lic | codec info -
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser)
    parser.set_defaults(jobs=1)


def run(args: argparse.Namespace) -> int:
    jobs = [Job(source) for source, _ in expand(args.inputs, media.is_ours)]
    return carry_out(args, _info, jobs, shown=table)


def _info(job: Job) -> Report:
    from ..container import describe

    data = read_bytes(job.source)
    about = describe(data)
    if about["codec"] in registry.names():
        card = registry.entry(about["codec"])
        about |= {"medium": card.medium, **base_of(card).describe(data)}
    return _with_tag(about)


def _with_tag(about: Report) -> Report:
    """The report with the tag of the shipped weights, next to their hash, if they are shipped ones."""
    from ..codecs.base.weights import find_by_hash

    try:
        tag = find_by_hash(about["codec"], bytes.fromhex(about["weights"])).tag
    except WeightsError:  # somebody's own, or those of another version
        return about
    tagged: Report = {}
    for key, value in about.items():
        tagged[key] = value
        if key == "weights":
            tagged["tag"] = tag
    return tagged
