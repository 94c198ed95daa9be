"""The search for folders of data that recipes name, in the usual places."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..files import places

__all__ = ["find_data", "places"]


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
