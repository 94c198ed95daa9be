"""`codec perceive`: the answers of models that look and listen, before and after coding."""

from __future__ import annotations

import argparse
import json
import shlex
import sys

from ..errors import MediaError, UsageError
from .options import positive, positive_count, words
from .terminal import progress, say
from .verbs import needs_extra

DEFAULT_OUT = "perceive-out"
EXAMPLES = """\
examples:
  codec perceive --task classification --out seen
  codec perceive --task digits --codecs jpeg,webp,avif --rates 0.05,0.1,0.2,0.4,0.8 --out seen
  codec perceive --task birds.py --data birds --out seen          a task of yours: docs/perception.md

without --task it lists the tasks there are. A codec string is that of
`codec bench`: codecs parted by commas, settings by colons.

the folder named by --out holds rows.jsonl (a row for each sample, codec and setting), summary.json, plots and
report.html. Run again, it measures only what is missing.
"""
INTERRUPTED = "what was measured is kept, the same command goes on from here"


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", metavar="TASK", help="a task's name, or a Python file that holds one")
    add("-c", "--codec", "--codecs", dest="codec", metavar="CODECS", help="codec string (default: ours and the usual)")
    add("--rates", metavar="A,B", help="rates to compare at: bits per pixel, kbit/s or bits per value")
    add("--data", metavar="DIR", help="a folder of yours (default: the task's own data)")
    add("--model", metavar="MODEL", help="one of the task's models, or a path (default: the first that is here)")
    add("--out", default=DEFAULT_OUT, metavar="DIR", help=f"where results are kept (default: {DEFAULT_OUT})")
    add("--metrics", metavar="A,B", help="similarity metrics by name, or all (default: the medium's usual ones)")
    add("--anchor", metavar="CODEC", help="the codec that others are compared with (default: the first of others')")
    add("--samples", type=positive_count, metavar="N", help="at most so many samples")
    add("--threads", type=positive_count, metavar="N", help="threads for each codec (default: all cores)")


def run(args: argparse.Namespace) -> int:
    with needs_extra("eval", doing="measuring"):
        return _list_tasks(args) if args.task is None else _run(args)


def _list_tasks(args: argparse.Namespace) -> int:
    from ..eval.perception import find_task, names

    for name in names():
        task = find_task(name)
        about = {"name": name, "medium": task.medium, "about": task.about, "models": list(task.models)}
        words_of = f"{name:<16} {task.medium:<6} {task.about}; models: {', '.join(task.models)}"
        say(sys.stdout, json.dumps(about) if args.json else words_of)
    return 0


def _run(args: argparse.Namespace) -> int:
    from ..eval.bench.run import default_codecs
    from ..eval.perception import find_task, perceive
    from ..eval.perception.report import summary_text, write_results
    from ..eval.report import plots

    if why := plots.missing():  # said before an hour of measuring
        raise UsageError(why)
    rates = [_rate(word) for word in words(args.rates)] or None
    task = find_task(args.task)
    codecs = args.codec or default_codecs(task.medium)
    with progress("perceive", wanted=not (args.quiet or args.json)) as bar:
        results = perceive(
            task,
            codecs,
            data=args.data,
            model=args.model,
            out=args.out,
            metrics=words(args.metrics) or None,
            samples=args.samples,
            n_threads=args.threads,
            progress=bar.update,
            say=lambda line: say(sys.stderr, f"note: {line}"),
        )
    summary = write_results(results, args.out, command=_command(args, codecs), rates=rates, anchor=args.anchor)
    say(sys.stdout, json.dumps(summary) if args.json else summary_text(summary))
    for item in results.skipped:
        say(sys.stderr, f"{item.name}: skipped: {item.reason}")
    for case in results.failed[:20]:
        say(sys.stderr, f"{case.sample}: {case.spec}: {case.reason}")
    if results.skipped or results.failed:
        counted = f"{len(results.skipped)} skipped, {len(results.failed)} failed"
        say(sys.stderr, f"codec perceive: {counted}; scores leave {len(results.left_out)} samples out")
        return MediaError.exit_code
    return 0


def _rate(word: str) -> float:
    try:
        return positive(word)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--rates: {error}") from None


def _command(args: argparse.Namespace, codecs: str) -> str:
    """The command that makes these results again, without the names of this machine's folders."""
    parts = ["codec", "perceive", "--task", args.task if "/" not in args.task else "TASK", "-c", codecs]
    for flag, value in (
        ("--rates", args.rates),
        ("--data", "DATA" if args.data else None),
        ("--model", args.model),
        ("--metrics", args.metrics),
        ("--anchor", args.anchor),
        ("--samples", args.samples),
        ("--threads", args.threads),
    ):
        if value is not None:
            parts += [flag, str(value)]
    return shlex.join([*parts, "--out", "DIR"])
