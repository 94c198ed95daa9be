"""`codec fit`: a probabilistic circuit fitted to data of the user's."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import whole
from .options import count, not_negative, positive_count, seed, share
from .terminal import json_line, say

if TYPE_CHECKING:
    from ..train.circuit import CircuitRecipe

EXAMPLES = """\
examples:
  codec fit circuit masks -o masks.safetensors --states 16    a folder of PNG pictures of one size
  codec fit circuit digits.idx -o digits.safetensors --mix    with what `encode --mix` starts from
  codec fit circuit table.csv -o table.safetensors --resume   goes on with a run that was interrupted
"""
INTERRUPTED = "the same command with --resume goes on from here"


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("family", metavar="FAMILY", help="circuit")
    add("data", metavar="DATA", help="IDX, NPY or CSV file (also .gz), or a folder of PNG pictures")
    add("-o", "--output", required=True, metavar="FILE", help="the weights: a safetensors file")
    add("--force", action="store_true", help="replace FILE")
    add("--resume", action="store_true", help="go on with a run that was interrupted")
    add("--states", type=positive_count, default=32, metavar="N", help="of each latent (default 32)")
    add("--components", type=positive_count, default=1, metavar="N", help="kinds of items, a circuit for each")
    add("--epochs", type=count, default=30, metavar="N", help="of mini-batches (default 30)")
    add("--full", type=count, default=3, metavar="N", help="passes of EM on all data (default 3)")
    add("--batch", type=positive_count, default=512, metavar="N", help="items of a mini-batch (default 512)")
    add("--pseudocount", type=not_negative, default=1.0, metavar="X", help="strength of the prior (default 1)")
    add("--leaves", choices=("categorical", "logistic"), default="categorical", help="of the circuit")
    add("--held-out", type=share, default=0.05, metavar="X", help="share that chooses the epoch (0.05)")
    add("--bits", type=int, choices=(8, 16), default=8, help="of a stored parameter (default 8)")
    add("--seed", type=seed, default=1, metavar="N")
    add("--mix", action="store_true", help="learn what `codec encode --mix` starts from, too: up to 8 MB more")
    add("--log", metavar="FILE", help="bits and seconds of every epoch, as JSON")
    add("--device", default="cpu", help="cpu (default) or cuda")


def run(args: argparse.Namespace) -> int:
    from ..train import circuit

    if args.family != "circuit":
        raise UsageError(f"`codec fit` makes weights for circuit, not {args.family!r}: see `codec train`")
    target = Path(args.output)
    if target.is_dir() or (target.exists() and not args.force):
        raise UsageError(f"{target} exists already: -o names another place, --force replaces it")
    say_line = None if args.quiet else partial(say, sys.stderr)
    data, fitted = circuit.fit_file(args.data, target, _recipe(args), args.resume, say_line, args.device, args.mix)
    if args.log:
        log = json.dumps({"data": Path(args.data).name, "epochs": fitted.log}, indent=1) + "\n"
        with whole(args.log, replace=args.force) as file:
            file.write(log.encode())
    with whole(target, replace=args.force) as file:
        file.write(data)
    circuit.remove_work(target)
    held_out = [row["held_out"] for row in fitted.log if "held_out" in row]
    report: dict[str, Any] = {"output": str(target), "bytes_out": len(data), "parameters": fitted.circuit.n_parameters}
    report |= {"epochs": len(fitted.log), "held_out_bits_per_value": min(held_out) if held_out else None}
    if args.json:
        print(json_line(report))
    elif not args.quiet:
        say(sys.stderr, f"{target}: {len(data)} bytes; codec encode DATA -c circuit --weights {target}")
    return 0


def _recipe(args: argparse.Namespace) -> CircuitRecipe:
    from ..train.circuit import CircuitRecipe

    return CircuitRecipe(
        states=args.states,
        epochs=args.epochs,
        full=args.full,
        batch=args.batch,
        pseudocount=args.pseudocount,
        leaves=args.leaves,
        held_out=args.held_out,
        bits=args.bits,
        components=max(1, args.components),
        seed=args.seed,
    )
