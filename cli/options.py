"""Values from the texts of options: argparse types, and two readers for what results repeat as it was typed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..codecs.base import settings
from ..errors import UsageError

__all__ = [
    "count",
    "not_negative",
    "positive",
    "positive_count",
    "seed",
    "share",
    "size_in_bytes",
    "typed",
    "window",
    "words",
]


def typed(parse: Callable[[str], Any], kind: str) -> Callable[[str], Any]:
    """An argparse type from a function of the text: its ValueError becomes argparse's "invalid KIND value".

    The first line of the function's docstring says what was expected, where it has one.
    """
    expected = (parse.__doc__ or "").partition("\n")[0].rstrip(".")
    expected = expected and f"; expected {expected[:1].lower()}{expected[1:]}"

    def argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"invalid {kind} value: {text!r}{expected}") from None
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return argument


positive = typed(settings.positive, "number")  # a finite number above 0
not_negative = typed(settings.not_negative, "number")  # a finite number, 0 or more
count = typed(settings.count, "number")  # a whole number, 0 or more
size_in_bytes = typed(settings.size_in_bytes, "size")  # 20000, 20kB, 1.5MB; KiB and MiB are powers of two


def _counting(text: str) -> int:
    """A whole number, 1 or more."""
    value = settings.count(text)
    if value < 1:
        raise ValueError(text)
    return value


def _seed(text: str) -> int:
    """A whole number, 0 to 4294967295."""
    value = settings.count(text)
    if value >= 1 << 32:
        raise ValueError(text)
    return value


def _share(text: str) -> float:
    """A share: 0 or more, and less than 1."""
    value = settings.not_negative(text)
    if value >= 1:
        raise ValueError(text)
    return value


positive_count = typed(_counting, "number")  # a whole number, 1 or more
seed = typed(_seed, "seed")  # a whole number of 32 bits
share = typed(_share, "share")  # a number in [0, 1)


def words(text: str | None) -> list[str]:
    """The words between commas: "a, b" is ["a", "b"], None and "" are []."""
    return [word.strip() for word in text.split(",") if word.strip()] if text else []


def window(text: str | None) -> tuple[float, float] | None:
    """The two ends of --window, "29..37"; None for None. UsageError for anything else."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(".."))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UsageError(f"--window {text}: expected two numbers, the lower one first, as in 29..37")
    return low, high
