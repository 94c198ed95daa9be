"""The search for what isn't shipped, in the usual places: folders of data that recipes name, weights of measures."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UsageError
from ..files import PACKAGE

__all__ = ["find_data", "find_model", "places"]


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


def find_model(name: str, *folders: Path) -> Path | None:
    """The path of a file of weights, or None. It is looked for in $CODEC_MODELS, in `models` wherever data may be, then
    in `folders`."""
    named = [Path(os.environ["CODEC_MODELS"])] if os.environ.get("CODEC_MODELS") else []
    usual = [place / "models" for place in places()]
    return next((place / name for place in (*named, *usual, *folders) if (place / name).is_file()), None)
