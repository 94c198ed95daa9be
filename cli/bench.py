"""`codec bench`: rate, distortion and speed of codecs on the user's own data."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MediaError, UsageError
from ..files import cpu_count
from .options import count, positive_count, window, words
from .terminal import progress, say
from .verbs import needs_extra

if TYPE_CHECKING:
    from ..eval.bench.rows import Table

DEFAULT_OUT = "bench-out"
EXAMPLES = """\
examples:
  codec bench photos --out results
  codec bench photos -c s2lic,jpeg:444+420:q=10..95,avif --out results --anchor webp
  codec bench --codecs                        the codecs and their options

a codec string: codecs parted by commas, settings by colons; name=value, or a choice alone
  jpeg:444:q=30           one point             avif:speed=4+8    two curves
  jxl:d=0.5..8            the usual steps from 0.5 to 8; d=0.5..8..0.5 takes every 0.5

the folder named by --out holds rows.csv (a row for each item, codec and setting), summary.json, curves/,
plots and report.html. Run again, it measures only what is missing.
"""
INTERRUPTED = "what was measured is kept, the same command goes on from here"


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", nargs="?", metavar="DATA", help="a file, or a folder (searched through)")
    add("-c", "--codec", metavar="CODECS", help="codec string, see below (default: ours and the usual others)")
    add("--codecs", dest="codecs_help", action="store_true", help="list the codecs and their options")
    add("--out", default=DEFAULT_OUT, metavar="DIR", help=f"where results are kept (default: {DEFAULT_OUT})")
    add("--metrics", metavar="A,B", help="metrics by name, or all (default: the medium's usual ones)")
    add("--anchor", metavar="A,B", help="BD-rates against these: codecs of the run, or published series")
    add("--reference", metavar="A,B", help="published Kodak series to draw beside, such as vtm-18.0")
    add("--window", metavar="LO..HI", help="BD-rates over this part of the first metric only")
    add("--medium", choices=("image", "audio", "video", "array"), help="if the codecs don't say it")
    add("--repeat", type=positive_count, default=3, metavar="N", help="timed runs, after a warm-up (default: 3)")
    add("--jobs", type=count, default=1, metavar="N", help="items at once (spoils timings); 0: all cores")
    add("--threads", type=positive_count, metavar="N", help="threads for each codec (default: cores / jobs)")
    add("--max-frames", type=positive_count, metavar="N", help="of each video")
    add("--again", action="store_true", help="measure what is there already, too")


def run(args: argparse.Namespace) -> int:
    with needs_extra("eval", doing="measuring"):
        return _list_codecs(args) if args.codecs_help else _run(args)


def _run(args: argparse.Namespace) -> int:
    from ..eval.bench import run as bench
    from ..eval.report import text as report_text

    if args.data is None:
        raise UsageError("name a file or a folder to measure on")
    table, summary = _measure(args)
    say(sys.stdout, json.dumps(bench.jsonable(summary)) if args.json else report_text.summary_text(summary))
    if not (args.quiet or args.json):
        say(sys.stderr, f"{Path(args.out) / 'report.html'}")
    if table.skipped or table.failed:
        say(sys.stderr, f"codec bench: {len(table.skipped)} skipped, {len(table.failed)} failed")
        return MediaError.exit_code
    return 0


def _list_codecs(args: argparse.Namespace) -> int:
    from ..eval.peers import families
    from ..eval.report import text as report_text

    listed = report_text.describe_families(families())
    print("\n".join(map(json.dumps, listed)) if args.json else report_text.family_lines(listed))
    return 0


def _measure(args: argparse.Namespace) -> tuple[Table, Mapping[str, Any]]:
    """The table of all points, and its summary, both of which are also in the folder of results now."""
    from ..eval.bench import run as bench
    from ..eval.report import plots
    from ..eval.report import text as report_text
    from ..eval.reproduce import published

    bd_window = window(args.window)
    references = [published.series(name) for name in words(args.reference)]
    if why := plots.missing():  # said before hours of measuring
        raise UsageError(why)
    codecs = args.codec or bench.default_codecs(args.medium or bench.guess_medium(args.data))
    anchors = bench.anchors_of(bench.curves_of(codecs), words(args.anchor) or None)
    with progress("bench", wanted=not (args.quiet or args.json)) as bar:
        table = bench.rate_distortion(
            args.data,
            codecs,
            metrics=words(args.metrics) or None,
            out=args.out,
            medium=args.medium,
            repeat=args.repeat,
            jobs=args.jobs or cpu_count(),
            n_threads=args.threads,
            again=args.again,
            max_frames=args.max_frames,
            progress=bar.update,
        )
        for item in table.skipped:
            bar.say(f"{item.name}: skipped: {item.reason}")
        for line in report_text.failure_lines(table.failed):
            bar.say(line)
    command = report_text.command_line("bench", table, args)
    summary = bench.write_results(
        table, args.out, command=command, anchors=anchors, references=references, window=bd_window
    )
    return table, summary
