"""The codecs that there are: every folder in `codecs/` with a card, and those of other packages by entry point.

Adding a codec here is one folder (CONTRIBUTING.md). Another package announces its codecs in the entry point group
`codec.codecs`, each a `Card` or a module that has CARDS; one that can't be imported is a warning and a line in
`codec list`, and never replaces a codec of ours. A card is read when it is asked for; its class is imported when it is
used. Imports nothing heavy, so that `codec list` answers at once.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import UsageError, torch_may_be_missing
from .files import PACKAGE

if TYPE_CHECKING:
    from .codecs.base.settings import Card

__all__ = ["GROUP", "broken", "default", "entry", "load_class", "names", "split_tag"]

GROUP = "codec.codecs"  # of entry points
USUAL = "image"  # the medium of an input that says none: its reader tells what it takes
_SHARED = ("base", "layers")  # folders of codecs/ that hold no family


@functools.cache
def _families() -> tuple[str, ...]:
    """The folders of `codecs/` that hold a family, sorted; nothing is imported."""
    with os.scandir(PACKAGE / "codecs") as items:
        folders = [item for item in items if item.is_dir() and item.name not in _SHARED]
        return tuple(sorted(item.name for item in folders if os.path.isfile(os.path.join(item.path, "__init__.py"))))


@functools.cache
def _cards_of(family: str) -> Mapping[str, Card]:
    """The cards of one folder, by name."""
    package = f"{__package__}.codecs.{family}"
    return {card.name: card for card in _located(importlib.import_module(package), package)}


@functools.cache
def _plugins() -> tuple[Mapping[str, Card], Mapping[str, str]]:
    """The cards of other packages by name; and entry points that can't be used, with the reason."""
    cards: dict[str, Card] = {}
    reasons: dict[str, str] = {}
    if not _announced():
        return cards, reasons
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            announced_cards = _located(point.load(), point.module)
        except Exception as error:  # whatever somebody else's package raises
            reasons[point.name] = f"{type(error).__name__}: {error}"
            continue
        for card in announced_cards:
            suffixes = {other.suffix for other in (*_ours().values(), *cards.values())}
            if card.name in _ours() or card.name in cards:
                reasons[point.name] = f"there is a codec {card.name!r} already"
            elif card.suffix in suffixes:
                reasons[point.name] = f"there is a codec with the suffix {card.suffix!r} already"
            else:
                cards[card.name] = card
    for name, reason in reasons.items():
        warnings.warn(f"the codec plug-in {name!r} can't be used ({reason})", RuntimeWarning, stacklevel=2)
    return cards, reasons


def _announced() -> bool:
    """Whether any installed package has entry points of the group: importing importlib.metadata takes 30 ms."""
    wanted = f"[{GROUP}]".encode()
    for folder in dict.fromkeys(sys.path):
        try:
            with os.scandir(folder or ".") as items:
                places = [item.path for item in items if item.name.endswith((".dist-info", ".egg-info"))]
        except OSError:  # a zip file, or nothing
            continue
        for place in places:
            try:
                with open(os.path.join(place, "entry_points.txt"), "rb") as file:
                    if wanted in file.read():
                        return True
            except OSError:
                continue
    return False


def _located(announced: Any, package: str) -> tuple[Card, ...]:
    """The cards in a module with CARDS, or the one card, with targets that begin with the name of a package."""
    from dataclasses import replace

    from .codecs.base.settings import Card

    cards = (announced,) if isinstance(announced, Card) else tuple(announced.CARDS)
    for card in cards:
        if not isinstance(card, Card):
            raise TypeError(f"{card!r} isn't a codec.codecs.base.settings.Card")
    return tuple(replace(card, target=_absolute(card.target, package)) for card in cards)


def _absolute(target: str, package: str) -> str:
    """The target of a card, "module:Class", with the module's full name; ":Class" is in the card's own module."""
    module, _, attribute = target.partition(":")
    if not module:
        return f"{package}:{attribute}"
    is_full = module == package or module.startswith(package.partition(".")[0] + ".")
    return target if is_full else f"{package}.{target}"


@functools.cache
def _ours() -> Mapping[str, Card]:
    """The cards of this package, by name, sorted."""
    cards = [card for family in _families() for card in _cards_of(family).values()]
    return {card.name: card for card in sorted(cards, key=lambda card: card.name)}


def _all() -> Mapping[str, Card]:
    """The cards of this package, then of others, by name."""
    return {**_ours(), **_plugins()[0]}


def names(medium: str | None = None) -> tuple[str, ...]:
    """The names of all codecs, or of those of one medium, sorted; plug-ins are among them."""
    return tuple(sorted(name for name, card in _all().items() if medium in (None, card.medium)))


def broken() -> Mapping[str, str]:
    """The plug-ins that can't be used: name of the entry point, and why."""
    return _plugins()[1]


def entry(name: str) -> Card:
    """The card of a codec; `name` may carry a tag ("walloc@16x"). UsageError with the nearest name if unknown."""
    plain, _ = split_tag(name)
    if plain in _families() and plain in _cards_of(plain):
        return _cards_of(plain)[plain]
    cards = _ours() if plain in _ours() else _all()
    if plain in cards:
        return cards[plain]
    if plain in broken():
        raise UsageError(f"the codec plug-in {plain!r} can't be used ({broken()[plain]})")
    import difflib  # only where something is wrong: it takes milliseconds

    near = difflib.get_close_matches(plain.lower(), cards, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names())}."
    raise UsageError(f"unknown codec {plain!r}: {hint} `codec list` shows all")


def default(medium: str | None) -> str | None:
    """The codec of a medium if none is named; None if one has to be. What nobody can tell is taken for a picture."""
    wanted = USUAL if medium is None else medium
    return next((card.name for card in _ours().values() if card.medium == wanted and card.default), None)


def split_tag(name: str) -> tuple[str, str | None]:
    """The name and the tag in a name with a tag: "walloc@16x" -> ("walloc", "16x"); "walloc" -> ("walloc", None)."""
    if not isinstance(name, str):
        raise UsageError(f"codec {name!r:.80}: expected a name, as walloc or walloc@16x; `codec list` shows all")
    plain, at, tag = name.partition("@")
    if not plain or (at and not tag) or "@" in tag:
        raise UsageError(f"codec {name!r}: expected a name, or name@tag as in walloc@16x")
    return plain, tag or None


def load_class(name: str) -> Any:
    """The class of a codec (a `codecs.base.codec.Codec`), imported now; UsageError for a plug-in that can't be."""
    card = entry(name)
    module, _, attribute = card.target.partition(":")
    try:
        with torch_may_be_missing(f"the codec {card.name!r}"):
            return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever somebody else's package raises
        if card.name not in _plugins()[0]:
            raise
        words = f"the codec plug-in {card.name!r} can't be used ({type(error).__name__}: {error})"
        raise UsageError(words) from error
