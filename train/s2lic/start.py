"""The start of a new S2LIC run: the closed form, or averaged weights of another run."""

from __future__ import annotations

from pathlib import Path

from ...codecs.base.weights import SHIPPED, load_tensors
from ...codecs.layers.exact_network import fill_network
from ...codecs.s2lic.config import OTHER_WEIGHTS
from ...codecs.s2lic.network import S2licNet, initialise
from ...errors import UsageError, WeightsError
from ..checkpoints import fill_task
from ..photos import first_crops
from ..twins import quantisers
from .task import S2licTask

__all__ = ["begin", "start_from"]

ADVICE = "name a checkpoint of a run, or a weights file that it exported"


def begin(task: S2licTask) -> dict[str, float]:
    """Fills the network for step 0: as `start` of the recipe says, or by the closed form of `initialise`.

    Returns what the log is to have of it.
    """
    recipe = task.recipe
    if recipe.start:
        start_from(task, Path(recipe.start))
    elif isinstance(task.net, S2licNet):
        crops = first_crops(list(task.pictures), recipe.crop, recipe.initial_pictures, recipe.seed)
        return {"unquantised_psnr": initialise(task.net, crops)["psnr"]}
    return {}


def start_from(task: S2licTask, path: Path) -> None:
    """Fills the network with the averaged weights of a checkpoint, or with those of a weights file."""
    package = SHIPPED.parent
    if not path.is_file() and (package / path).is_file():
        path = package / path  # weights that ship, as recipes that ship name them, wherever the command runs
    if not path.is_file():
        raise UsageError(f"start: {path}: no such file; {ADVICE}")
    try:
        if path.suffix == ".safetensors":
            tensors = load_tensors(path).tensors
            own = {name: value for name, value in tensors.items() if "_tables." not in name}
            fill_network(task.net, own, OTHER_WEIGHTS)
            return
        other = S2licTask(task.config, task.recipe)
        fill_task(other, path)
    except UsageError as error:
        raise UsageError(f"start: {error}") from None
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, WeightsError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"start: {path} doesn't fit this model ({reason}): {ADVICE}") from None
    task.net.load_state_dict(other.ema.state_dict())
    for target, source in zip(quantisers(task.net), quantisers(other.net), strict=True):
        target.peak.copy_(source.peak)  # where the grids of the last phase come from
