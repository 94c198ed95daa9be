"""`codec data`: simulations of turbulence, as HDF5 files."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from ..errors import UsageError
from .options import count, not_negative, positive, positive_count
from .terminal import progress, say

if TYPE_CHECKING:
    from ..datasets.turbulence import FlowConfig, Statistics

EXAMPLES = """\
examples:
  codec data turbulence --n 64 --re 34 --snapshots 100 -o hit64.h5
  codec data turbulence --seed 9 -o test.h5    interrupted, it goes on when run again
  codec data taylor-green --n 64 --re 1600 --snapshots 40 -o vortex.h5
"""
INTERRUPTED = "the same command goes on from here"

TAYLOR_GREEN: Final = "taylor-green"
FORCING = 0.1  # power that keeps turbulence going, per unit of mass; the vortex decays


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("kind", choices=("turbulence", TAYLOR_GREEN), metavar="KIND", help="turbulence or taylor-green")
    add("-o", "--output", required=True, metavar="FILE", help="HDF5 file: /velocity, /time, /statistics")
    add("--force", action="store_true", help="replace FILE")
    add("--n", type=positive_count, default=64, metavar="N", help="points of each side (default 64)")
    words = "Reynolds number: of Taylor's scale, about; taylor-green: 1 / viscosity (default: as n resolves)"
    add("--re", type=positive, metavar="R", help=words)
    add("--snapshots", type=positive_count, default=10, metavar="N", help="how many (default 10)")
    add("--spacing", type=positive, default=0.5, metavar="T", help="time between them (default 0.5)")
    add("--spin-up", type=not_negative, metavar="T", help="time before the first (default 20; taylor-green 0)")
    add("--seed", type=count, default=0, metavar="N", help="another seed, another simulation")
    add("--double", action="store_true", help="compute in double precision")
    add("--device", default="cpu", help="cpu (default) or cuda")


def run(args: argparse.Namespace) -> int:
    from ..codecs.base.codec import check_device
    from ..datasets import turbulence

    check_device(args.device)
    flow = _flow(args)
    spin_up = args.spin_up if args.spin_up is not None else 0.0 if args.kind == TAYLOR_GREEN else 20.0
    with progress("data", wanted=not (args.quiet or args.json)) as bar:

        def report(done: int, total: int, statistics: Statistics) -> None:
            bar.update(done, total, f"R_lambda {statistics.re_lambda:.1f}")
            if args.json:
                print(json.dumps({"snapshot": done, "of": total, **turbulence.as_json(statistics)}), flush=True)
            elif done == 1 and not args.quiet:
                bar.say(_words(statistics))

        path = turbulence.simulate(
            flow, args.output, args.snapshots, args.spacing, spin_up, args.device, args.force, report
        )
    if not (args.quiet or args.json):
        say(sys.stderr, f"{path}: {path.stat().st_size} bytes")
    return 0


def _flow(args: argparse.Namespace) -> FlowConfig:
    from ..datasets.turbulence import FlowConfig, viscosity_for

    if args.kind == TAYLOR_GREEN:
        if args.re is None:
            raise UsageError("taylor-green needs --re, the inverse of the viscosity: 100 and 1600 are usual")
        viscosity, power, start = 1 / args.re, 0.0, TAYLOR_GREEN
    else:
        viscosity, power, start = viscosity_for(args.n, args.re, FORCING), FORCING, "random"
    return FlowConfig(n=args.n, viscosity=viscosity, power=power, start=start, seed=args.seed, double=args.double)


def _words(statistics: Statistics) -> str:
    words = f"R_lambda {statistics.re_lambda:.1f}, k_max eta {statistics.kmax_eta:.2f}"
    if statistics.kmax_eta < 1:
        words += ": the smallest scales are not resolved, a larger --n would do it"
    return words
