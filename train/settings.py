"""Settings of a recipe: YAML values to frozen dataclasses, and what can't be one is said in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import UsageError

__all__ = ["fill"]

T = TypeVar("T")


def fill(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Fills a frozen dataclass from YAML values. Lists become tuples.

    UsageError for unknown names, missing ones, and values that the dataclass itself refuses (ValueError). where: the
    part of the recipe that the values stand in, for the message.
    """
    assert dataclasses.is_dataclass(kind)
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: expected settings, `name: value` in each line ({{}} for none), not {values!r:.80}")
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(map(str, set(values) - known)):
        raise UsageError(f"{where}: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    nothing = dataclasses.MISSING
    needed = {f.name for f in dataclasses.fields(kind) if f.default is nothing and f.default_factory is nothing}
    if missing := sorted(needed - set(values)):
        raise UsageError(f"{where}: {', '.join(missing)} is missing")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
