"""`codec train vqgan`: a recipe's `network` says what is trained. Each has its module here, imported when it is used.

codec train vqgan --recipe paper --data PHOTOS --device cuda       # the paper's network, 16384 words
codec train vqgan --recipe paper-shrink --data PHOTOS              # 8 to 2048 words from that one
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError

__all__ = ["NETWORKS", "check_settings", "train"]

NETWORKS = ("paper", "small", "indices", "restore")


def _module(settings: Mapping[str, Any]) -> Any:
    network = settings.get("network", "small")
    if not isinstance(network, str) or network not in NETWORKS:
        raise UsageError(f"network {network!r:.80}: there are {', '.join(NETWORKS)}")
    name = f"{__package__}.{network}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError(f"network {network!r}: this version can't train it") from None


def check_settings(settings: Mapping[str, Any], devices: int = 1, nodes: int = 1) -> None:
    """Raises UsageError if a recipe can't be run, before anything is made."""
    if check := getattr(_module(settings), "check_settings", None):
        check(settings, devices, nodes)


def train(
    settings: Mapping[str, Any], data: Path, folder: Path, resume: bool, device: str, about: Mapping[str, Any]
) -> None:
    """Runs a recipe (see train/recipes/vqgan) to its end, from where it stopped if `resume`, and exports the weights.

    about: fields of the manifest that only the caller knows (recipe, commit, data, licence).
    """
    _module(settings).train(settings, data, folder, resume, device, about)
