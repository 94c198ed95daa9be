"""Published rate-distortion series on Kodak: other people's numbers, never measured here, and drawn as such.

`reference/kodak_rd.json` holds each series with its source. Where it says "digitised", points were read off a plot.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import UsageError
from ...files import PACKAGE

__all__ = ["PublishedSeries", "names", "series"]

_COLUMNS = {  # of the file, by what they are called here
    "bpp": "bpp",
    "psnr-rgb": "psnr",
    "ms-ssim-rgb": "ms_ssim",
    "lpips-alex": "lpips_alex",
    "dists": "dists",
}


@dataclass(frozen=True)
class PublishedSeries:
    """A rate-distortion curve that somebody published. points: bits per pixel, and by metric ("psnr-rgb" in dB,
    "ms-ssim-rgb" 0 to 1, "lpips-alex", "dists"), means over the 24 pictures."""

    name: str
    source: str
    kind: str
    points: tuple[Mapping[str, float], ...]


@functools.lru_cache(maxsize=1)
def _all() -> Mapping[str, Any]:
    return json.loads((PACKAGE / "eval" / "reproduce" / "kodak_rd.json").read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    """Names of all published series."""
    return tuple(_all())


def series(name: str) -> PublishedSeries:
    """The published series of that name. UsageError with the nearest name if there is none."""
    about = _all().get(name)
    if about is None:
        near = difflib.get_close_matches(name, _all(), n=3, cutoff=0.4)
        raise UsageError(f"no published series {name!r}: " + (f"near are {', '.join(near)}" if near else "see names()"))
    columns = {metric: about.get(key) for metric, key in _COLUMNS.items()}
    given = {metric: values for metric, values in columns.items() if values is not None}
    points = tuple(dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True))
    return PublishedSeries(name, about["source"], about["kind"], points)
