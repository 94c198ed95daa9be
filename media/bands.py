"""Bands of rows, so that temporaries of a large picture stay small."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["bands"]

_BAND = 1 << 20  # samples handled at a time where temporaries are wider than the pixels


def bands(height: int, row_size: int) -> Iterator[tuple[int, int]]:
    """The ranges of rows that split a picture into bands of about a million samples: (top, bottom), bottom excluded."""
    step = max(1, _BAND // max(1, row_size))
    for top in range(0, height, step):
        yield top, min(top + step, height)
