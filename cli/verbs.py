"""The table of verbs: what `codec --help` lists, and which module a verb is in. Imports none of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import NamedTuple

from ..errors import UsageError

__all__ = ["VERBS", "Verb", "load", "needs_extra"]


class Verb(NamedTuple):
    """A verb's module, relative to this package, and its line in `codec --help`."""

    module: str
    summary: str


VERBS: Mapping[str, Verb] = MappingProxyType(
    {
        "encode": Verb(".encode", "Compress files."),
        "decode": Verb(".decode", "Bring files back."),
        "info": Verb(".info", "Say what files are, without decoding them."),
        "render": Verb(".render", "Draw what a file of three dimensions holds: pictures and films."),
        "verify": Verb(".verify", "Check files: structure, checksums, weights, and that they decode."),
        "corrupt": Verb(".corrupt", "Damage files on purpose, to see what is left of them."),
        "list": Verb(".list", "List the codecs."),
        "train": Verb(".train", "Train a codec and export its weights."),
        "fit": Verb(".fit", "Fit a model to data of yours: a circuit to items, Gaussians to a capture."),
        "bench": Verb(".bench", "Measure rate, distortion and speed against everything else."),
        "perceive": Verb(".perceive", "Measure what codecs do to the answers of models that look and listen."),
        "reproduce": Verb(".reproduce", "Put a paper's numbers beside ours."),
        "view": Verb(".view", "Play a file on a page in the browser."),
        "data": Verb(".data", "Make data: simulations of turbulence, captures by many cameras."),
        "demo": Verb(".demo", "Encode and decode a photo, and compare with JPEG of equal size."),
    }
)


def load(verb: str) -> ModuleType:
    """The module of a verb, imported now."""
    return import_module(VERBS[verb].module, __package__)


@contextlib.contextmanager
def needs_extra(extra: str, doing: str) -> Iterator[None]:
    """A library that isn't installed becomes a UsageError that names it and the extra that brings it.

    extra: "train" or "eval". doing: what needs it, as "training".
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "codec":
            raise
        raise UsageError(f"{doing} needs {error.name}: pip install 'codec-suite[{extra}]'") from error
