"""`codec fit`: a model fitted to data of the user's: a probabilistic circuit, or Gaussians to a capture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import whole
from .options import count, not_negative, positive_count, seed, share
from .terminal import json_line, progress, say
from .verbs import needs_extra

if TYPE_CHECKING:
    from ..train.circuit import CircuitRecipe

EXAMPLES = """\
examples:
  codec fit circuit masks -o masks.safetensors --states 16    a folder of PNG pictures of one size
  codec fit circuit table.csv -o table.safetensors --resume   goes on with a run that was interrupted
  codec fit dualgs capture -o fit --recipe small              volumetric video of pictures from all sides
"""
INTERRUPTED = "the same command with --resume goes on from here"


# Families and their options beside those of all, each with its default: what an option that isn't given stands for.
CIRCUIT: Mapping[str, Any] = {
    "states": 32,
    "components": 1,
    "epochs": 30,
    "full": 3,
    "batch": 512,
    "pseudocount": 1.0,
    "leaves": "categorical",
    "held_out": 0.05,
    "bits": 8,
    "seed": 1,
    "mix": False,
    "log": None,
    "force": False,
}
DUAL: Mapping[str, Any] = {"recipe": "small", "frames": None}
FAMILIES: Mapping[str, Mapping[str, Any]] = {"circuit": CIRCUIT, "dualgs": DUAL}


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("family", choices=tuple(FAMILIES), metavar="FAMILY", help=" or ".join(FAMILIES))
    words = "circuit: IDX, NPY or CSV file (also .gz), or a folder of PNG pictures; dualgs: a capture's folder"
    add("data", metavar="DATA", help=words)
    add("-o", "--output", required=True, metavar="PATH", help="circuit: the weights, safetensors; dualgs: a folder")
    add("--resume", action="store_true", help="go on with a run that was interrupted")
    add("--device", help="cpu or cuda (default: cpu; dualgs: a GPU if there is one)")
    circuit = parser.add_argument_group("circuit")
    add = circuit.add_argument
    add("--force", action="store_true", default=None, help="replace PATH")
    add("--states", type=positive_count, metavar="N", help="of each latent (default 32)")
    add("--components", type=positive_count, metavar="N", help="kinds of items, a circuit for each")
    add("--epochs", type=count, metavar="N", help="of mini-batches (default 30)")
    add("--full", type=count, metavar="N", help="passes of EM on all data (default 3)")
    add("--batch", type=positive_count, metavar="N", help="items of a mini-batch (default 512)")
    add("--pseudocount", type=not_negative, metavar="X", help="strength of the prior (default 1)")
    add("--leaves", choices=("categorical", "logistic"), help="of the circuit (default categorical)")
    add("--held-out", type=share, metavar="X", help="share that chooses the epoch (0.05)")
    add("--bits", type=int, choices=(8, 16), help="of a stored parameter (default 8)")
    add("--seed", type=seed, metavar="N")
    words = "learn what `codec encode --mix` starts from, too: up to 8 MB more"
    add("--mix", action="store_true", default=None, help=words)
    add("--log", metavar="FILE", help="bits and seconds of every epoch, as JSON")
    dual = parser.add_argument_group("dualgs")
    dual.add_argument("--recipe", metavar="NAME", help="small (default), minute, paper, or a path to a YAML file")
    dual.add_argument("--frames", type=positive_count, metavar="N", help="only the first N frames")


def run(args: argparse.Namespace) -> int:
    own = FAMILIES[args.family]
    for name in {name for options in FAMILIES.values() for name in options} - set(own):
        if getattr(args, name) is not None:
            family = next(family for family, options in FAMILIES.items() if name in options)
            raise UsageError(f"--{name.replace('_', '-')} is an option of `codec fit {family}`, not of {args.family}")
    for name, default in own.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    return {"circuit": _circuit, "dualgs": _dual}[args.family](args)


def _dual(args: argparse.Namespace) -> int:
    with needs_extra("train", doing="fitting"):
        from ..train.dualgs.run import fit_capture

        with progress("fit", wanted=not args.quiet, counts=False) as bar:
            report = fit_capture(
                args.data,
                args.output,
                args.recipe,
                device=args.device or "auto",
                frames=args.frames,
                resume=args.resume,
                say=None if args.quiet else bar.say,
                watcher=bar.report,
            )
    report = {"output": args.output, **{name: value for name, value in report.items() if name != "settings"}}
    if args.json:
        print(json_line(report))
    elif not args.quiet:
        words = f"{report['n_frames']} frames, {report['n_joints']} joints, {report['n_skins']} skins"
        say(sys.stderr, f"{args.output}: {words}; codec encode {args.output}")
    return 0


def _circuit(args: argparse.Namespace) -> int:
    from ..train import circuit

    target = Path(args.output)
    if target.is_dir() or (target.exists() and not args.force):
        raise UsageError(f"{target} exists already: -o names another place, --force replaces it")
    say_line = None if args.quiet else partial(say, sys.stderr)
    data, fitted = circuit.fit_file(
        args.data, target, _recipe(args), args.resume, say_line, args.device or "cpu", args.mix
    )
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
