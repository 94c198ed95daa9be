"""The contract of all codecs (codec, settings), and a base for each medium: image, audio, array, field,
gaussians, features, video.

A base owns the kinds of value its medium has, their files, the container, and the checks that hostile files need; a
family owns its networks and symbols. Bases may import entropy, media, container and files, and no family.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .settings import Card

_BASES = MappingProxyType(
    {
        "image": ".image:ImageCodec",
        "array": ".array:ArrayCodec",
        "audio": ".audio.codec:AudioCodec",
        "features": ".features:FeatureCodec",
        "field": ".field:FieldCodec",
        "gaussians": ".gaussians.codec:GaussiansCodec",
        "video": ".video.codec:VideoCodec",
    }
)


def base_of(card: Card) -> Any:
    """The class to ask about files of a card's codec (a `codec.Codec`): the base of its medium, imported now.

    A medium without a base has codecs of other packages only: then it is the codec's own class.
    """
    if card.medium not in _BASES:
        from ...registry import load_class

        return load_class(card.name)
    module, _, name = _BASES[card.medium].partition(":")
    return getattr(import_module(module, __name__), name)
