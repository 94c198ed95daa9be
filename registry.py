"""Which codecs there are: name -> "module:Class", imported only when one is used.

Adding a codec is one line here, one file in `codecs/` and one manifest in `weights/`. Imports nothing heavy, so that
`codec list` answers at once.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from .errors import UsageError

if TYPE_CHECKING:
    from .codecs.base.codec import Codec

__all__ = ["CODECS", "DEFAULT", "Entry", "entry", "load_class", "names", "split_tag"]


@dataclass(frozen=True)
class Entry:
    """One codec. suffix is decoration: the signature of a file decides."""

    target: str
    medium: str
    suffix: str
    summary: str


CODECS: Mapping[str, Entry] = MappingProxyType(
    {
        "circuit": Entry(
            target="codec.codecs.circuit.codec:CircuitCodec",
            medium="field",
            suffix=".circuit",
            summary="probabilistic circuit: lossless, for small images, masks, label maps and tables (codec fit)",
        ),
        "interp": Entry(
            target="codec.codecs.interp.codec:InterpCodec",
            medium="field",
            suffix=".interp",
            summary="interpolation: float fields (HDF5, NetCDF-4) with an error bound that holds for every value",
        ),
        "nirvana": Entry(
            target="codec.codecs.nirvana.codec:NirvanaCodec",
            medium="video",
            suffix=".nirvana",
            summary="NIRVANA: networks fitted to each group of frames, decoded exactly at any seek; slow encoding",
        ),
        "s2lic": Entry(
            target="codec.codecs.s2lic.codec:S2licCodec",
            medium="image",
            suffix=".s2lic",
            summary="S2LIC: transforms with attention, a context model in integers; the smallest files",
        ),
        "walloc": Entry(
            target="codec.codecs.walloc.codec:WallocCodec",
            medium="image",
            suffix=".walloc",
            summary="WaLLoC: wavelet packets, a linear encoder and a neural decoder; very fast encoding",
        ),
        "zipgan": Entry(
            target="codec.codecs.zipgan.codec:ZipganCodec",
            medium="field",
            suffix=".zipgan",
            summary="ZipGAN: turbulence at ratios of 64 to 1000, a generator for small scales; a bound if asked for",
        ),
    }
)

DEFAULT: Mapping[str, str] = MappingProxyType(
    {"image": "s2lic", "video": "nirvana", "field": "interp"}
)  # medium -> codec that is used if none is named


def names(medium: str | None = None) -> tuple[str, ...]:
    """Names of all codecs, or of those of one medium, sorted."""
    return tuple(sorted(name for name, item in CODECS.items() if medium in (None, item.medium)))


def entry(name: str) -> Entry:
    """The entry of a codec; `name` may carry a tag ("walloc@16x"). UsageError with the nearest name if unknown."""
    plain, _ = split_tag(name)
    if plain in CODECS:
        return CODECS[plain]
    near = difflib.get_close_matches(plain.lower(), CODECS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names())}."
    raise UsageError(f"unknown codec {plain!r}: {hint} `codec list` shows all")


def split_tag(name: str) -> tuple[str, str | None]:
    """Split at the tag: "walloc@16x" -> ("walloc", "16x"); "walloc" -> ("walloc", None)."""
    plain, at, tag = name.partition("@")
    if not plain or (at and not tag) or "@" in tag:
        raise UsageError(f"codec {name!r}: expected a name, or name@tag as in walloc@16x")
    return plain, tag or None


def load_class(name: str) -> type[Codec]:
    """The class of a codec, imported now."""
    module, _, attribute = entry(name).target.partition(":")
    return getattr(importlib.import_module(module), attribute)
