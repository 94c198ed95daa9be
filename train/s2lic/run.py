"""`codec train s2lic`: a recipe is checked and run, with Lightning or as one CUDA graph a step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning

from ...codecs.s2lic.weights import CONFIGS, Config
from ...datasets.images import RandomCrops
from ...errors import UsageError
from ..fit import fit
from ..photos import photos_in
from ..settings import fill
from . import graph
from .start import begin
from .task import MS_SSIM_CROP, S2licRecipe, S2licTask, smallest_crop

__all__ = ["check_settings", "train"]


def check_settings(settings: Mapping[str, Any], devices: int = 1, nodes: int = 1) -> tuple[Config, S2licRecipe]:
    """Makes network and recipe of a YAML file, for so many devices. UsageError if they can't be."""
    network = settings.get("network", "small")
    if not isinstance(network, str) or network not in CONFIGS:
        raise UsageError(f"network {network!r}: there are {', '.join(CONFIGS)}")
    config = fill(CONFIGS[network], settings["model"], "model")
    recipe = fill(S2licRecipe, settings["recipe"], "recipe")
    structure = recipe.distortion == "ms-ssim"
    multiple, least = smallest_crop(config), MS_SSIM_CROP if structure else 1
    if recipe.crop % multiple or recipe.crop < least:
        needs = f"MS-SSIM needs {MS_SSIM_CROP} pixels or more, and {network!r}" if structure else f"{network!r} needs"
        works = -(-max(recipe.crop, least) // multiple) * multiple
        raise UsageError(f"recipe: crop is {recipe.crop}; {needs} multiples of {multiple}: take `crop: {works}`")
    if (recipe.seconds or recipe.scales) and not recipe.graph:
        raise UsageError("`seconds` and `scales` of a recipe need `graph: true`")
    if recipe.graph and devices * nodes > 1:
        raise UsageError("`graph: true` is for one device; leave it out of the recipe to train on several")
    return config, recipe


def train(
    settings: Mapping[str, Any],
    data: Path,
    folder: Path,
    resume: bool,
    device: str,
    about: Mapping[str, Any],
    devices: int = 1,
    nodes: int = 1,
) -> None:
    """Runs a recipe (see train/recipes/s2lic) to its end, from where it stopped if `resume`, and exports the weights.

    about: fields of the manifest that only the caller knows (recipe, commit, data, licence). devices: how many of a
    machine; nodes: how many machines. The recipe's batch is that of each device.
    """
    config, recipe = check_settings(settings, devices, nodes)
    lightning.seed_everything(recipe.seed, verbose=False)
    pictures, held_out = photos_in(data, recipe.crop)
    task = S2licTask(config, recipe, settings["tag"])
    task.pictures, task.held_out = pictures, held_out
    if recipe.graph:
        graph.run(task, partial(begin, task), folder, resume, device, about)
        return

    def batches(seed: int) -> RandomCrops:
        return RandomCrops(pictures, recipe.crop, recipe.batch, seed)

    fit(task, batches, partial(begin, task), folder, resume, device, about, devices, nodes)
