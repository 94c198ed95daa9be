"""Layouts of tables: which columns a form has, by what its detail says, and whether a table is as its layout wants it.

A decoder takes the detail of a table from a file that may be hostile: the layout is made of it, and refuses what can't
be. May import the values and errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...container import Value
from ...errors import MediaError
from .values import Table, coefficients_of

__all__ = ["Part", "check_columns", "harmonics", "integer", "numbers", "payload"]


class Part(NamedTuple):
    """A column of a layout. signed: whether its values are centred at 0, instead of from 0 on."""

    role: str
    bits: tuple[int, ...]
    signed: bool = False


def harmonics(degree: int) -> tuple[Part, ...]:
    """The column of harmonics of 8 bits from degree 1 on; none for degree 0."""
    return (Part("harmonics", (8,) * 3 * (coefficients_of(degree) - 1)),) if degree else ()


def integer(detail: Mapping[str, Value], key: str, low: int, high: int) -> int:
    """An integer of a detail. MediaError if it is missing, of another type, or not from low to high."""
    value: Any = detail.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise MediaError(f"Gaussians with {str(value)[:40]} as {key}; expected {low} to {high}")
    return value


def numbers(detail: Mapping[str, Value], key: str, n: int) -> tuple[float, ...]:
    """So many finite numbers of a detail. MediaError if it has others."""
    value: Any = detail.get(key)
    if not isinstance(value, tuple) or len(value) != n or not all(isinstance(v, (int, float)) for v in value):
        raise MediaError(f"Gaussians without {n} numbers as {key}")
    if not all(abs(v) < 1e30 for v in value):
        raise MediaError(f"Gaussians with numbers in {key} that aren't finite")
    return value


def payload(detail: Mapping[str, Value], key: str) -> bytes:
    """The bytes of a detail. MediaError if there are none."""
    value: Any = detail.get(key)
    if not isinstance(value, bytes):
        raise MediaError(f"Gaussians without bytes as {key}")
    return value


def check_columns(table: Table, layout: Sequence[Part]) -> None:
    """MediaError unless a table has the columns of a layout, with values that their bits can hold."""
    if [column.role for column in table.columns] != [part.role for part in layout]:
        raise MediaError(f"Gaussians of the form {table.form} with other columns than {[p.role for p in layout]}")
    n = len(table)
    for column, (role, bits, signed) in zip(table.columns, layout, strict=True):
        values = column.values
        if column.bits != bits or values.shape != (n, len(bits)) or values.dtype != np.int32:
            raise MediaError(f"{role} of {values.dtype} {values.shape} and {column.bits} bits; expected {bits} bits")
        if not n or bits == (32,) * len(bits):
            continue
        high = np.array([1 << (b - signed) for b in bits])
        if (values.max(axis=0) >= high).any() or (values.min(axis=0) < (-high if signed else 0)).any():
            raise MediaError(f"values of {role} that don't fit into {bits} bits")
