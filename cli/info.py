"""`codec info`: what files are, without decoding them."""

from __future__ import annotations

import argparse

from .. import registry
from ..codecs.base import base_of
from ..errors import WeightsError
from ..media.notes import KEY as notes_key
from .coding import accepts_ours, described
from .jobs import Job, Report, carry_out, plan_reading
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
    return carry_out(args, _info, plan_reading(args.inputs, accepts_ours), shown=table)


def _info(job: Job) -> Report:
    read = described(job.source)
    about = _with_notes(read.facts)
    if about["codec"] in registry.names():
        card = registry.entry(about["codec"])
        about |= {"medium": card.medium, **base_of(card).describe(read.probe)}
    return _with_tag(about)


def _with_notes(about: Report) -> Report:
    """The report with the notes of the file, which its metadata hold, on their own."""
    meta = dict(about.get("meta", {}))
    notes = meta.pop(notes_key, None)
    if not isinstance(notes, (list, tuple)) or not notes:
        return about
    return {**about, "meta": meta, "notes": [str(note) for note in notes]}


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
