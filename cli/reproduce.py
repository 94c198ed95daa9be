"""`codec reproduce`: a paper's numbers beside ours."""

from __future__ import annotations

import argparse
import json
import sys

from ..errors import MediaError
from .options import positive_count
from .terminal import progress, say
from .verbs import needs_extra

EXAMPLES = """\
examples:
  codec reproduce                             the recipes there are
  codec reproduce s2lic --data kodak --out results
  codec reproduce classical-kodak --data kodak --json
"""
INTERRUPTED = "what was measured is kept, the same command goes on from here"

CIRCUIT = "circuit"  # data sets of small images, which the recipes of curves don't know
DUALGS = "dualgs"  # a fit and its capture
ENTROPIC_STUDENT = "entropic-student"  # features beside pictures
MPQ = "mpq"  # models that look and listen


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paper", nargs="?", metavar="PAPER", help="a recipe's name, or a path to a YAML file")
    add("--data", metavar="DIR", help="the paper's data (default: the recipe's folder, looked for)")
    add("--out", metavar="DIR", help="keep the results (default: reproduce-PAPER)")
    add("--repeat", type=positive_count, default=3, metavar="N", help="timed runs, after a warm-up (default: 3)")


def run(args: argparse.Namespace) -> int:
    with needs_extra("eval", doing="measuring"):
        if args.paper is None:
            return _list_recipes(args)
        own = {CIRCUIT: _run_circuit, DUALGS: _run_dualgs, ENTROPIC_STUDENT: _run_student, MPQ: _run_mpq}
        return own.get(args.paper, _run_recipe)(args)


def _list_recipes(args: argparse.Namespace) -> int:
    from ..eval.reproduce import circuit as circuits
    from ..eval.reproduce import dualgs, entropic_student, mpq
    from ..eval.reproduce import run as reproducing

    listed = [(CIRCUIT, circuits.TITLE, circuits.SOURCE), (DUALGS, dualgs.TITLE, dualgs.SOURCE)]
    listed += [(ENTROPIC_STUDENT, entropic_student.TITLE, entropic_student.SOURCE), (MPQ, mpq.TITLE, mpq.SOURCE)]
    listed += [(recipe.name, recipe.title, recipe.source) for recipe in map(reproducing.load, reproducing.names())]
    for name, title, source in listed:
        about = {"name": name, "title": title, "source": source}
        print(json.dumps(about) if args.json else f"{name:<18} {title}")
    return 0


def _run_circuit(args: argparse.Namespace) -> int:
    from ..eval.reproduce import circuit as circuits

    with progress("reproduce", wanted=not (args.quiet or args.json)) as bar:
        report = circuits.run(args.data, args.out, repeat=args.repeat, progress=bar.update)
    say(sys.stdout, json.dumps(report) if args.json else circuits.text(report))
    return MediaError.exit_code if report["missing"] else 0


def _run_dualgs(args: argparse.Namespace) -> int:
    from ..eval.reproduce import dualgs

    with progress("reproduce", wanted=not (args.quiet or args.json)) as bar:
        report = dualgs.run(args.data, args.out, progress=bar.update)
    say(sys.stdout, json.dumps(report) if args.json else dualgs.text(report))
    return 0


def _run_student(args: argparse.Namespace) -> int:
    from ..eval.reproduce import entropic_student

    with progress("reproduce", wanted=not (args.quiet or args.json)) as bar:
        report = entropic_student.run(args.data, args.out, progress=bar.update)
    say(sys.stdout, json.dumps(report) if args.json else entropic_student.text(report))
    return 0


def _run_mpq(args: argparse.Namespace) -> int:
    from ..eval.reproduce import mpq

    with progress("reproduce", wanted=not (args.quiet or args.json)) as bar:
        report = mpq.run(args.data, args.out, progress=bar.update)
    say(sys.stdout, json.dumps(report) if args.json else mpq.text(report))
    return 0


def _run_recipe(args: argparse.Namespace) -> int:
    from ..eval.bench import run as bench
    from ..eval.report import text as report_text
    from ..eval.reproduce import run as reproducing

    recipe = reproducing.load(args.paper)
    with progress("reproduce", wanted=not (args.quiet or args.json)) as bar:
        result = reproducing.run(recipe, args.data, args.out, repeat=args.repeat, progress=bar.update)
        for line in report_text.failure_lines(result.table.failed):
            bar.say(line)
    say(sys.stdout, json.dumps(bench.jsonable(result.as_json())) if args.json else reproducing.text(result))
    return 0 if result.holds else MediaError.exit_code
