"""What the text of an option means: argparse types, and two readers for what is repeated in results as it was typed."""

from __future__ import annotations

import argparse
import math

from ..errors import UsageError

__all__ = ["count", "not_negative", "positive", "size_in_bytes", "window", "words"]

_FACTORS = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "k": 1e3, "m": 1e6, "g": 1e9}


def positive(text: str) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise _invalid("number", text)
    return number


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    number = _number(text)
    if not 0 <= number < math.inf:
        raise _invalid("number", text)
    return number


def count(text: str) -> int:
    """A whole number of at least 0."""
    try:
        number = int(text)
    except ValueError:
        raise _invalid("number", text) from None
    if number < 0:
        raise _invalid("number", text)
    return number


def size_in_bytes(text: str) -> float:
    """A size in bytes above 0, as 20000, 20kB or 1.5MB; KiB, MiB and GiB are powers of two."""
    number = text.lower().removesuffix("b")
    unit = next((unit for unit in _FACTORS if number.endswith(unit)), "")
    try:
        return positive(number.removesuffix(unit)) * _FACTORS.get(unit, 1)
    except argparse.ArgumentTypeError:
        raise _invalid("size", text) from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _invalid("number", text) from None


def _invalid(kind: str, text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"invalid {kind} value: {text!r}")


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
