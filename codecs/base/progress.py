"""Progress inside of one picture, array or field: told by whoever does the work, heard by whoever waits for it.

    with told(report):                       # the command, or a base
        codec.encode_file(...)
    for tile in each(tiles, "tile"):         # a family, anywhere below
        ...

A family needs no argument for it, and nothing happens where nobody listens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from .codec import Report

__all__ = ["Step", "each", "tell", "told", "within"]

T = TypeVar("T")


class Step(NamedTuple):
    """A state of some work: what a `Report` is told."""

    fraction: float | None
    words: str


class _Listener(NamedTuple):
    """The report that hears, and the part of the work that is going on: its words, and where it lies in 0 to 1."""

    report: Report
    words: str = ""
    start: float = 0.0
    end: float = 1.0


_listener: ContextVar[_Listener | None] = ContextVar("_listener", default=None)


@contextlib.contextmanager
def told(report: Report | None) -> Iterator[None]:
    """The report hears what is told while the block runs."""
    token = _listener.set(None if report is None else _Listener(report))
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def within(words: str, start: float = 0.0, end: float = 1.0) -> Iterator[None]:
    """The block is a part of the work, from `start` to `end` of it; its words stand before those told in it."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    width = listener.end - listener.start
    joined = ", ".join(filter(None, (listener.words, words)))
    part = _Listener(listener.report, joined, listener.start + width * start, listener.start + width * end)
    part.report(Step(part.start, joined))
    token = _listener.set(part)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(fraction: float, words: str) -> None:
    """Tell how far the part of the work that is going on is, 0 to 1, and what is done, as "tile 3/12"."""
    listener = _listener.get()
    if listener is not None:
        whole = listener.start + (listener.end - listener.start) * fraction
        listener.report(Step(whole, ", ".join(filter(None, (listener.words, words)))))


def each(items: Sequence[T], what: str, start: float = 0.0, end: float = 1.0) -> Iterator[T]:
    """The items, one after the other, each of which is told: what an item is called. start, end: as for `within`."""
    for index, item in enumerate(items):
        tell(start + (end - start) * index / len(items), f"{what} {index + 1}/{len(items)}")
        yield item
