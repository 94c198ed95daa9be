"""The entropy tables in WaLLoC's weights files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from ...entropy.tables import Tables
from ...errors import WeightsError

__all__ = ["tables_of"]


def tables_of(arrays: Mapping[str, NDArray[Any]]) -> Tables | None:
    """The entropy tables of a weights file; None if it has none."""
    state = {name.removeprefix("tables."): array for name, array in arrays.items() if name.startswith("tables.")}
    try:
        return Tables.from_state(state) if state else None
    except KeyError as error:
        raise WeightsError(f"these weights lack entropy tables that they should have: {error}") from None
