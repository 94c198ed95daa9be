"""The networks that a key group starts from: trained once, shipped with the package, never sent."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ..errors import WeightsError
from .nirvana_grid_net import Nets, random_nets

PATH = Path(__file__).resolve().parents[1] / "weights" / "nirvana-grid.safetensors"


@lru_cache(maxsize=1)
def start() -> Nets:
    return load(PATH)


def load(path: Path) -> Nets:
    """Such networks, of a file; WeightsError if it holds none."""
    empty = random_nets()
    try:
        found = {name: value.astype(np.int64) for name, value in load_file(path).items()}
    except Exception as error:
        raise WeightsError(f"the networks that preset grid starts from can't be read: {error}") from error
    if {n: p.shape for n, p in found.items()} != {n: p.shape for n, p in empty.flat().items()}:
        raise WeightsError(f"{path.name} doesn't hold the networks that preset grid starts from; reinstall the package")
    return empty.changed(found)
