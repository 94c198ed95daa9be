"""The contract of all codecs (codec, settings), and one base for each medium: image, array, field, video.

A base owns the kinds of value its medium has, their files, the container, and the checks that hostile files need; a
family owns its networks and symbols. Bases may import entropy, media, container and files, and no family.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Any

_BASES = MappingProxyType(
    {
        "image": ".image:ImageCodec",
        "array": ".array:ArrayCodec",
        "field": ".field:FieldCodec",
        "video": ".video.codec:VideoCodec",
    }
)


def base_of(medium: str) -> Any:
    """The base class of the codecs of a medium (a `codec.Codec`), imported now, without any family."""
    module, _, name = _BASES[medium].partition(":")
    return getattr(import_module(module, __name__), name)
