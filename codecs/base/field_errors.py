"""Notes on a field that was coded: values taken as missing, unusual bounds, errors where no bound was asked for."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...media.notes import Note
from .field_blocks import Floats
from .field_bounds import Limit, Span
from .field_plan import Content, error_in_words

__all__ = ["Errors", "notes_on"]

_LARGE = 0.5  # of the range: an error that is worth a note


class Errors:
    """The errors of a field's blocks, gathered one by one, in units of its range.

    doubt: a reason for which they may be large; the first one that was found.
    """

    def __init__(self, span: Span) -> None:
        self._centre, self._half = span.low / 2 + span.high / 2, span.half
        self._n, self._sum, self._squares, self._errors, self._largest = 0, 0.0, 0.0, 0.0, 0.0
        self.doubt = ""

    def add(self, true: Floats, decoded: Floats, valid: NDArray[np.bool_]) -> None:
        if not self._half > 0 or not valid.any():
            return
        x, y = (((part[valid].astype(np.float64) / 2 - self._centre / 2) / self._half) for part in (true, decoded))
        self._n += x.size
        self._sum, self._squares = self._sum + float(x.sum()), self._squares + float(np.square(x).sum())
        self._errors += float(np.square(x - y).sum())
        self._largest = max(self._largest, float(np.abs(x - y).max()))

    @property
    def measured(self) -> bool:
        return self._n > 0

    @property
    def relative_l2(self) -> float:
        """The root mean square error, over the standard deviation of the field."""
        variance = self._squares / max(1, self._n) - (self._sum / max(1, self._n)) ** 2
        return math.sqrt(self._errors / self._n / variance) if self._n and variance > 0 else 0.0

    @property
    def rounded(self) -> list[float]:
        """The relative error and the largest one, in units of the range: so few places are the same everywhere."""
        return [float(f"{self.relative_l2:.2g}"), float(f"{self._largest:.2g}")]


def notes_on(path: str, content: Content, limit: Limit, errors: Errors | None) -> list[Note]:
    """The notes on a field. path: "" for an array."""
    name, option = path or "the array", f"{path}=" if path else ""
    notes = [
        Note(
            "values",
            f"{name}: {stray.value:.9g} ({stray.count} times) lies apart from all other values: taken as missing, kept "
            "as it is",
        )
        for stray in content.stray
    ]
    span = content.extent.span
    if limit.kind == "absolute" and math.isfinite(limit.value) and 0 < span.half <= limit.value:
        words = f"{limit.value:.4g} is half the range of its values or more ({span.low:.4g} to {span.high:.4g})"
        notes.append(Note("bound", f"{name}: the bound {words}: they may all become the same; --max-error {option}E"))
    elif limit.kind == "absolute" and math.isfinite(limit.value) and content.bulk < limit.value:
        words = f"{limit.value:.4g} is larger than the differences between 98 % of its values ({content.bulk:.4g})"
        notes.append(Note("bound", f"{name}: the bound {words}, which may become the same; --max-error {option}E"))
    if errors is not None and errors.measured and math.isinf(limit.value):
        relative, largest = errors.rounded
        if errors.doubt or largest > _LARGE or relative > _LARGE:
            reason = f", and it {errors.doubt}" if errors.doubt else ""
            words = f"no error bound was asked for{reason}: {error_in_words(relative, largest)}"
            notes.append(Note("bound", f"{name}: {words}"))
    return notes
