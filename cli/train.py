"""`codec train`: train a codec by a recipe and export its weights."""

from __future__ import annotations

import argparse
import json
import sys

from .options import positive_count
from .terminal import say
from .verbs import needs_extra

EXAMPLES = """\
examples:
  codec train s2lic --recipe small
  codec train s2lic --recipe small --resume
  codec train s2lic --recipe mine.yaml --data photos --out runs --devices 4
"""
INTERRUPTED = "the same command with --resume goes on from the last checkpoint"


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("family", metavar="FAMILY", help="codec to train")
    add("--recipe", required=True, metavar="NAME", help="a shipped recipe's name, or a path to a YAML file")
    add("--data", metavar="DIR", help="folder of training data (default: the recipe's)")
    add("--out", default="runs", metavar="DIR", help="where runs are kept (default: runs)")
    add("--resume", action="store_true", help="go on from the run's last checkpoint")
    add("--steps", type=positive_count, metavar="N", help="optimiser steps, in place of the recipe's")
    add("--device", default="auto", help="auto (default), cpu or cuda")
    add("--devices", type=positive_count, default=1, metavar="N", help="devices (CPU: processes) of each machine")
    add("--nodes", type=positive_count, default=1, metavar="N", help="machines; run the command on each (Lightning)")


def run(args: argparse.Namespace) -> int:
    with needs_extra("train", doing="training"):
        from ..train import run as training

        names = ("data", "out", "resume", "steps", "device", "devices", "nodes")
        folder = training.main(args.family, args.recipe, **{name: getattr(args, name) for name in names})
    say(sys.stdout, json.dumps({"run": str(folder)}) if args.json else str(folder))
    return 0
