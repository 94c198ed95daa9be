"""Names of the files of a folder, one a frame: their order, and the numbers that are missing."""

from __future__ import annotations

import itertools
import re

__all__ = ["gaps", "natural"]

_SHOWN = 3  # gaps, in a note


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts names with numbers by value: 2.png before 10.png."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(int(part[:18]), part) if part[0].isdecimal() and part.isascii() else (-1, part) for part in parts], name


def gaps(names: list[str]) -> str:
    """The numbers that are missing in names which are all alike but for a number; "" if none are, or it can't be said.

    A step that all numbers share, as in 10, 20, 30, is no gap.
    """
    matches = [re.fullmatch(r"(.*?)([0-9]{1,15})(\D*)", name) for name in names]
    parts = [match.groups() for match in matches if match]
    if len(parts) < len(names) or len({(head.casefold(), tail.casefold()) for head, _, tail in parts}) > 1:
        return ""
    numbers = [int(number) for _, number, _ in parts]
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    step = min(steps, default=1)
    missing = [(n + step, m - step) for n, m in itertools.pairwise(numbers) if m - n > step]
    shown = [f"{first}" if first == last else f"{first} to {last}" for first, last in missing[:_SHOWN]]
    return ", ".join(shown) + (" and others" if len(missing) > _SHOWN else "")
