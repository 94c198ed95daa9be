"""`codec data`: simulations of turbulence, as HDF5 files; captures of animated bodies by many cameras, as folders."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import UsageError
from .options import count, not_negative, positive, positive_count, words
from .terminal import json_line, progress, say

if TYPE_CHECKING:
    from ..datasets.turbulence import FlowConfig, Statistics

EXAMPLES = """\
examples:
  codec data turbulence --n 64 --re 34 --snapshots 100 -o hit64.h5   taylor-green: a vortex that decays
  codec data capture --body walker --views 29 --frames 30 -o walk    interrupted, both go on when run again
  codec data check walk                                              is this capture fit for training?
"""
INTERRUPTED = "the same command goes on from here"

TAYLOR_GREEN: Final = "taylor-green"
CAPTURE: Final = "capture"
CHECK: Final = "check"
FORCING = 0.1  # power that keeps turbulence going, per unit of mass; the vortex decays


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    kinds = ("turbulence", TAYLOR_GREEN, CAPTURE, CHECK)
    add("kind", choices=kinds, metavar="KIND", help="turbulence, taylor-green, capture, or check: of a capture")
    add("folder", nargs="?", metavar="FOLDER", help="check: the folder of the capture")
    add("-o", "--output", metavar="OUT", help="HDF5 file: /velocity, /time, /statistics; capture: a folder")
    add("--seed", type=count, default=0, metavar="N", help="another seed, another simulation or performance")
    add = parser.add_argument_group("turbulence, taylor-green").add_argument
    add("--force", action="store_true", help="replace OUT")
    add("--n", type=positive_count, default=64, metavar="N", help="points of each side (default 64)")
    help_words = "Reynolds number: of Taylor's scale, about; taylor-green: 1 / viscosity (default: as n resolves)"
    add("--re", type=positive, metavar="R", help=help_words)
    add("--snapshots", type=positive_count, default=10, metavar="N", help="how many (default 10)")
    add("--spacing", type=positive, default=0.5, metavar="T", help="time between them (default 0.5)")
    add("--spin-up", type=not_negative, metavar="T", help="time before the first (default 20; taylor-green 0)")
    add("--double", action="store_true", help="compute in double precision")
    add("--device", default="cpu", help="cpu (default) or cuda")
    add = parser.add_argument_group("capture").add_argument
    add("--body", default="walker", metavar="B", help="walker (default), anny, or a skinned figure.glb[:animation]")
    add("--performance", default="dance", metavar="P", help="dance (default), turn, walk or wave; not of .glb files")
    add("--frames", type=positive_count, default=30, metavar="N", help="how many (default 30)")
    add("--views", type=positive_count, default=29, metavar="N", help="cameras (default 29; every sixth is for tests)")
    add("--rings", type=positive_count, default=2, metavar="N", help="of cameras: 1, 2 (default) or 3")
    add("--size", type=positive_count, default=256, metavar="N", help="pixels of each side (default 256)")
    add("--jobs", type=positive_count, default=1, metavar="N", help="threads that draw (default 1)")
    add("--fps", type=positive, default=25.0, metavar="R", help="frames a second (default 25)")
    add("--start", type=not_negative, default=0.0, metavar="T", help="seconds of the performance to leave out")
    add("--shape", metavar="WORDS", help="of anny, each 0 to 1: age=0.3,height=0.8,gender=...,muscle=...,weight=...")
    add("--prop", action="store_true", help="a drum beside the body that stands still")
    add("--pattern", action="store_true", help="paint a .glb figure with a pattern, not with its texture")


def run(args: argparse.Namespace) -> int:
    if args.kind == CHECK:
        return _check(args)
    if args.folder is not None:
        raise UsageError(f"{args.folder}: data are made from nothing; -o names where they go")
    if args.output is None:
        raise UsageError(f"codec data {args.kind} needs -o, the place for what is made")
    return _capture(args) if args.kind == CAPTURE else _simulate(args)


# ---- simulations


def _simulate(args: argparse.Namespace) -> int:
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
    text = f"R_lambda {statistics.re_lambda:.1f}, k_max eta {statistics.kmax_eta:.2f}"
    if statistics.kmax_eta < 1:
        text += ": the smallest scales are not resolved, a larger --n would do it"
    return text


# ---- captures


class _Pictures(NamedTuple):
    """How far the pictures of a capture are."""

    fraction: float
    words: str


def _capture(args: argparse.Namespace) -> int:
    from ..datasets.capture import CaptureConfig, held_out, make

    names = ("body", "performance", "frames", "views", "size", "rings", "fps", "start", "seed", "prop", "pattern")
    config = CaptureConfig(**{name: getattr(args, name) for name in names}, shape=_shape(args.shape))
    with progress("data", wanted=not (args.quiet or args.json), counts=False) as bar:

        def report(done: int, total: int) -> None:
            bar.report(_Pictures(done / total, f"{done} of {total} pictures"))

        path = make(config, args.output, report, args.jobs)
    tests = list(held_out(config.views))
    if args.json:
        print(json_line({"output": str(path), "frames": config.frames, "views": config.views, "held_out": tests}))
    elif not args.quiet:
        text = f"{config.frames} frames of {config.views} views; views for tests: {', '.join(map(str, tests))}"
        say(sys.stderr, f"{path}: {text}")
    return 0


def _shape(text: str | None) -> tuple[tuple[str, float], ...]:
    """The pairs of --shape. UsageError for what isn't name=value."""
    pairs = []
    for word in words(text):
        name, _, value = word.partition("=")
        try:
            pairs.append((name.strip(), float(value)))
        except ValueError:
            raise UsageError(f"--shape {word}: expected a name and a number, as in age=0.3") from None
    return tuple(pairs)


def _check(args: argparse.Namespace) -> int:
    from ..datasets.capture import check

    if args.folder is None:
        raise UsageError("codec data check needs the folder of a capture, as in: codec data check walk")
    with progress("check", wanted=not (args.quiet or args.json), counts=False) as bar:
        problems = check(
            args.folder, progress=lambda done, n: bar.report(_Pictures(done / n, f"{done} of {n} pictures"))
        )
    if args.json:
        print(json_line({"input": args.folder, "problems": problems}))
    else:
        for problem in problems:
            say(sys.stdout, problem)
        if not problems and not args.quiet:
            say(sys.stdout, f"{args.folder}: nothing is wrong with this capture")
    return 1 if problems else 0
