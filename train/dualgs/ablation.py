"""The fits that say what parts of the method are worth: without rigidity, without the coarse stage, without both.

    python -P -m codec.train.dualgs.ablation CAPTURE --recipe small --frames 16 --out runs/tracking

All of them share the fit of frame 0 and take as many iterations. A run in parts goes on. `eval.studies.tracking`
compares their joints with the true motion.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...datasets.capture import Capture
from ..run import read_recipe, recipe_path
from .config import Recipe, recipe_of
from .run import fit

__all__ = ["main", "variants"]


def variants(recipe: Recipe) -> Mapping[str, Recipe]:
    """The recipe, and what is left when rigidity, the coarse stage or both are taken out of it."""
    loose, fine = replace(recipe.coarse, rigidity=0.0), replace(recipe.fine, rigidity=0.0)
    none = replace(recipe.coarse, iterations=0)
    longer = replace(recipe.fine, iterations=recipe.fine.iterations + recipe.coarse.iterations)
    return {
        "full": recipe,
        "without-rigidity": replace(recipe, coarse=loose, fine=fine),
        "without-coarse-stage": replace(recipe, coarse=none, fine=longer),
        "without-both": replace(recipe, coarse=none, fine=replace(longer, rigidity=0.0)),
    }


def is_whole(folder: Path) -> bool:
    """Whether a fit is there with all its frames."""
    about = folder / "dual.json"
    return about.exists() and bool(json.loads(about.read_text(encoding="utf-8"))["complete"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="codec.train.dualgs.ablation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("capture", type=Path, help="folder of a capture")
    parser.add_argument("--recipe", default="small", help="name of a recipe of dualgs, or a YAML file")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True, help="folder of the fits")
    args = parser.parse_args(argv)
    settings = read_recipe(recipe_path("dualgs", args.recipe))
    recipe, capture = recipe_of({**settings["model"], **settings["recipe"]}), Capture.open(args.capture)
    first: Path | None = None
    for name, variant in variants(recipe).items():
        out = args.out / name
        if not is_whole(out):
            fit(capture, out, variant, name=name, frames=args.frames, resume=True, first=first, say=partial(_say, name))
        first = args.out / "full"
    return 0


def _say(name: str, words: str) -> None:
    sys.stderr.write(f"{name}: {words}\n")


if __name__ == "__main__":
    raise SystemExit(main())
