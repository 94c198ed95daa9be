"""What the entropy tests share. In importlib mode tests can't import each other, so helpers come as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from codec.entropy.tables import TOTAL, Tables


def _random_tables(rows: int, columns: int, seed: int = 0) -> Tables:
    """Rows of every length from 2 to columns, from flat to peaked."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, columns, rows)
    lengths[0], lengths[-1] = 1, columns - 1
    pmf = [rng.gamma(rng.choice([0.05, 1.0, 20.0]), size=n) + 1e-9 for n in lengths]
    return Tables.from_pmf([p / p.sum() * rng.uniform(0.9, 1) for p in pmf], rng.integers(-300, 300, rows))


def _draw(tables: Tables, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Symbols about as probable as their rows say, an escape now and then."""
    rng = np.random.default_rng(seed)
    row = rng.integers(0, len(tables.lengths), n)
    column = np.array([np.searchsorted(tables.rows[r], rng.integers(0, TOTAL), "right") - 1 for r in row], np.int64)
    escaped = column == tables.lengths[row] - 1
    far = rng.integers(-(2**31), 2**31, n)
    near = np.array([-4, -1, 0, 5])[rng.integers(0, 4, n)] + tables.offset[row] + column
    return np.where(escaped, np.where(rng.random(n) < 0.5, far, near), tables.offset[row] + column), row


@pytest.fixture(scope="session")
def random_tables() -> Callable[..., Tables]:
    return _random_tables


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return _draw
