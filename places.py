"""The search for files that aren't shipped, in the usual places: data, and networks of other people."""

from __future__ import annotations

import os
from pathlib import Path

from .files import PACKAGE

__all__ = ["find_model", "places"]


def places() -> list[Path]:
    """Folders that may hold data: $CODEC_DATA, `data` here, `data` and `shared/data` beside or above the package."""
    root = PACKAGE
    named = [Path(os.environ["CODEC_DATA"])] if "CODEC_DATA" in os.environ else []
    return [*named, Path("data"), root / "data", root.parent / "shared" / "data"]


def find_model(name: str, *folders: Path) -> Path | None:
    """The path of a file of weights, or None. It is looked for in $CODEC_MODELS, in `models` wherever data may be, then
    in `folders`."""
    named = [Path(os.environ["CODEC_MODELS"])] if os.environ.get("CODEC_MODELS") else []
    usual = [place / "models" for place in places()]
    return next((place / name for place in (*named, *usual, *folders) if (place / name).is_file()), None)
