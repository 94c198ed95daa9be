"""What the text of an option means."""

from __future__ import annotations

import argparse

import pytest

from codec.cli import options
from codec.errors import UsageError


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("20000", 20000), ("20kB", 20000), ("20k", 20000), ("1.5MB", 1.5e6), ("64KiB", 65536), ("1gib", 2**30)],
)
def test_sizes(text: str, n_bytes: float) -> None:
    assert options.size_in_bytes(text) == n_bytes


@pytest.mark.parametrize(
    ("kind", "text", "word"),
    [
        (options.size_in_bytes, "many", "size"),
        (options.size_in_bytes, "0kB", "size"),
        (options.positive, "0", "number"),
        (options.positive, "inf", "number"),
        (options.positive, "nan", "number"),
        (options.not_negative, "-0.5", "number"),
        (options.count, "-1", "number"),
        (options.count, "1.5", "number"),
    ],
)
def test_values_that_are_refused(kind: object, text: str, word: str) -> None:
    """The words are those of argparse, which would name the function, and what was expected."""
    with pytest.raises(argparse.ArgumentTypeError, match=f"^invalid {word} value: '{text}'; expected a .*"):
        kind(text)  # type: ignore[operator]


def test_values_at_the_edge() -> None:
    assert options.not_negative("0") == options.count("0") == 0
    assert options.positive("1e-9") == 1e-9


def test_words() -> None:
    assert options.words("a, b,,c ") == ["a", "b", "c"]
    assert options.words(None) == options.words("") == []


def test_window() -> None:
    assert options.window("29..37") == (29, 37)
    assert options.window(None) is None
    for text in ("37..29", "29", "a..b", "1..2..3"):
        with pytest.raises(UsageError, match="the lower one first"):
            options.window(text)
