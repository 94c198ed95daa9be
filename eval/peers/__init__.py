"""Codecs that can be measured: ours, and everything that a user could pick instead, behind one contract."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from ...registry import names
from ..bench.contract import Family, Medium

__all__ = ["ANCHORS", "families", "is_ours"]

# What a run without a codec string compares with, by medium.
ANCHORS: Mapping[Medium, str] = {
    "image": "jpeg:444+420,webp,jpeg2000,avif:444+420:psnr,jxl",
    "audio": "mp3,aac,opus",
    "video": "x264,x265,av1",
    "array": "zfp,sz3,sperr",
}


@functools.lru_cache(maxsize=1)
def families() -> Mapping[str, Family]:
    """All families by name, ours first. Those whose library isn't installed are here too: `Family.missing` says so."""
    from . import arrays, audio, images, ours, shrunk, video, zoo

    everything = [*ours.families()]
    for module in (images, zoo, shrunk, audio, video, arrays):
        everything += module.FAMILIES
    named = {family.name: family for family in everything}
    assert len(named) == len(everything), "two families of one name"
    return named


def is_ours(family: Family) -> bool:
    """Whether a family is one of the codecs of this library."""
    return family.name in names()
