"""The search for data that are not shipped: a folder named by a recipe, looked for in the usual places."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UsageError
from ..files import PACKAGE

__all__ = ["find_data", "places"]


def places() -> list[Path]:
    """Folders that may hold data: $CODEC_DATA, `data` here, `data` and `shared/data` beside or above the package."""
    root = PACKAGE
    named = [Path(os.environ["CODEC_DATA"])] if "CODEC_DATA" in os.environ else []
    return [*named, Path("data"), root / "data", root.parent / "shared" / "data"]


def find_data(folder: str, what: str = "training data") -> Path:
    """The first folder of that name below one of `places()`. UsageError says how to name another one."""
    for place in places():
        if folder and (place / folder).is_dir():
            return place / folder
    few = " (a few hundred photographs will do)" if what == "training data" else ""
    raise UsageError(
        f"no {what}: name a folder with --data{few}, or set CODEC_DATA to one "
        f"that holds {folder or 'what the recipe names as `data`'}"
    )
