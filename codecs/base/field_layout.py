"""The layout of a block as fields over space, for families that transform them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .field_blocks import Floats

__all__ = ["FieldLayout", "layout_of"]

_MAX_COMPONENTS, _MIN_SIDE = 6, 8  # of an axis that holds components, at most; of an axis of space, at least


@dataclass(frozen=True)
class FieldLayout:
    """The layout of a block as fields.

    count: of the fields. components: of each. field: the sides of each. last: whether components are the last axis.
    """

    count: int
    components: int
    field: tuple[int, ...]
    last: bool

    def items(self, block: Floats) -> list[Floats]:
        """The fields of a block of any leading axes, (C, *field) each."""
        if self.last:
            block = block.reshape(self.count, *self.field, self.components)
            return list(np.moveaxis(block, -1, 1))
        return list(block.reshape(self.count, self.components, *self.field))

    def joined(self, items: Sequence[Floats], shape: tuple[int, ...]) -> Floats:
        """The block, of this shape, of its fields: the reverse of `items`."""
        block = np.stack(list(items))
        return (np.moveaxis(block, 1, -1) if self.last else block).reshape(shape)


def layout_of(shape: tuple[int, ...]) -> FieldLayout | None:
    """The layout of a block for a transform over space; None if there is no space.

    The last two or three axes of 8 or more values are space; an axis of at most 6 in front of them or behind holds
    components.
    """
    last = len(shape) >= 3 and shape[-1] <= _MAX_COMPONENTS and min(shape[-3:-1]) >= _MIN_SIDE
    inner = shape[:-1] if last else shape
    n = 0
    while n < min(3, len(inner)) and inner[-1 - n] >= _MIN_SIDE:
        n += 1
    if n < 2:
        return None
    outer, field = inner[: len(inner) - n], inner[len(inner) - n :]
    if last:
        return FieldLayout(math.prod(outer), shape[len(shape) - 1], field, True)
    components = next((n for n in outer[-1:] if n <= _MAX_COMPONENTS), 1)
    return FieldLayout(math.prod(outer) // components, components, field, False)
