"""The filters of a PNG's rows, against the twin on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from codec import native
from codec.native.png import png_filter


@pytest.mark.parametrize("name", native.instruction_sets())
@pytest.mark.parametrize(("height", "width", "step"), [(1, 1, 1), (1, 2, 6), (7, 31, 3), (40, 257, 4), (33, 1000, 8)])
def test_filters(name: str, height: int, width: int, step: int) -> None:
    draw = np.random.default_rng(height)
    smooth = np.cumsum(draw.integers(-2, 3, (height + 1, width)), 1).astype(np.uint8)
    tall = np.cumsum(draw.integers(-2, 3, (height + 1, width)), 0).astype(np.uint8)
    plane = (smooth.astype(int) + tall).astype(np.uint8)
    ends = draw.choice(np.array([0, 127, 128, 255], np.uint8), (height + 1, width))
    chosen: set[int] = set()
    for rows in (smooth, tall, plane, ends, np.zeros_like(smooth)):
        with native.using(None):
            expected = png_filter(rows[1:], rows[:1], step)
        with native.using(name):
            assert np.array_equal(png_filter(rows[1:], rows[:1], step), expected)
        chosen |= set(expected[:, 0].tolist())
    assert height < 7 or chosen >= {1, 2, 4}
