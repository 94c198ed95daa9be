"""`codec train FAMILY --recipe NAME`: reads a recipe, makes the folder of the run, and starts the family's `train`."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..datasets.places import find_data
from ..errors import UsageError
from ..files import PACKAGE

__all__ = ["FAMILIES", "RECIPES", "first_process", "main", "recipe_path"]

RECIPES = PACKAGE / "train" / "recipes"
# modules whose `train` runs a recipe, imported when one is used: most need Lightning
FAMILIES: Mapping[str, str] = {
    "circuit": "circuit",
    "entropic-student": "entropic_student",
    "nirvana": "nirvana.paper",
    "s2lic": "s2lic.run",
    "vqgan": "vqgan.run",
    "walloc": "walloc",
    "walloc-lapped": "walloc_lapped",
    "walloc-audio": "walloc_audio",
    "zipgan": "zipgan",
}
TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
SEVERAL = ("s2lic",)  # families that train on several devices


def recipe_path(family: str, name: str) -> Path:
    """Finds the YAML file of a recipe: `name` itself if it is a path to one, otherwise one of the package's recipes."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UsageError(f"{name}: no such recipe file")
        return Path(name)
    path = RECIPES / family / f"{name}.yaml"
    if not path.is_file():
        known = sorted(
            str(p.relative_to(RECIPES).with_suffix("")).replace("/", " --recipe ") for p in RECIPES.rglob("*.yaml")
        )
        raise UsageError(f"no recipe {name!r} for {family!r}; there are: {', '.join(known) or 'none'}")
    return path


def code_commit() -> str:
    """Asks git for the commit of the source tree; "" outside a checkout."""
    try:
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            check=True,
        )
        return out.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def main(
    family: str,
    recipe: str,
    data: str | Path | None = None,
    out: str | Path = "runs",
    resume: bool = False,
    steps: int | None = None,
    device: str = "auto",
    training_data: str = "",
    licence: str = "as the training data's",
    devices: int = 1,
    nodes: int = 1,
) -> Path:
    """Trains and returns the run's folder, which holds checkpoints, log and the exported weights and manifest.

    devices, nodes: how many of a machine and how many machines, for families that train on several; Lightning starts
    this same command once more for each of the other devices.
    """
    if family not in FAMILIES:
        raise UsageError(f"no training for {family!r} yet; families: {', '.join(FAMILIES)}")
    from .devices import check_training_device  # imports torch, which takes seconds

    check_training_device(device)
    task = importlib.import_module(f".{FAMILIES[family]}", __package__)
    path = recipe_path(family, recipe)
    settings = read_recipe(path)
    data = find_data(settings.get("data", "")) if data is None else Path(data)
    if steps is not None and isinstance(settings["recipe"], dict):  # what else it may be is refused below
        settings["recipe"]["steps"] = steps
    several = {} if devices == nodes == 1 else {"devices": devices, "nodes": nodes}
    if several and family not in SEVERAL:
        raise UsageError(f"{family} trains on one device; on several: {', '.join(SEVERAL)}")
    if check := getattr(task, "check_settings", None):  # before anything is made
        check(settings, devices, nodes)
    folder = Path(out) / f"{family}-{settings['tag']}"
    if not first_process():  # the first one makes the folder
        task.train(settings, data, folder, resume, device, {}, **several)
        return folder
    make_folder(folder, settings, path, resume)
    about = {
        "recipe": f"{family}/{path.stem}",
        "commit": code_commit(),
        "training_data": training_data or data.name,
        "licence": licence,
    }
    task.train(settings, data, folder, resume, device, about, **several)
    return folder


def read_recipe(path: Path) -> dict[str, Any]:
    """Reads the settings of a YAML file. UsageError if it isn't a recipe."""
    try:
        settings = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML ({error})") from None
    missing = [key for key in ("tag", "model", "recipe") if not isinstance(settings, dict) or key not in settings]
    if missing:
        raise UsageError(f"{path}: a recipe needs {', '.join(missing)}; see {RECIPES}")
    if not isinstance(settings["tag"], str) or not TAG.fullmatch(settings["tag"]):  # it becomes part of file names
        raise UsageError(f"{path}: tag {settings['tag']!r:.80}; expected up to 64 of a-z, 0-9, _ . and -, as 16x")
    return settings


def make_folder(folder: Path, settings: Mapping[str, Any], path: Path, resume: bool) -> None:
    """Makes the folder of a run, with its recipe; UsageError if what is in it can't be gone on with.

    path: where the settings were read, for the message.
    """
    if folder.exists() and not resume and any(folder.iterdir()):
        raise UsageError(f"{folder} exists: continue it with --resume, or name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "recipe.yaml"
    if resume and stored.exists():
        before = yaml.safe_load(stored.read_text())
        if before["model"] != settings["model"]:
            raise UsageError(f"{stored} trains another model than {path}: --resume can't change its sizes")
        if before != settings:  # a run in parts: keep what the earlier parts were trained with
            stored.rename(folder / f"recipe-part-{len(list(folder.glob('recipe-part-*'))) + 1}.yaml")
    stored.write_text(yaml.safe_dump(settings, sort_keys=False))


def first_process() -> bool:
    """Says whether this is the process that writes files, of those that Lightning or a cluster starts for one run."""
    return all(
        int(os.environ.get(name) or 0) == 0 for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    )
