"""Cells of 2x2 pixels: compiled and in NumPy the same, and what torch's pixel_unshuffle and roundings give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codec import native
from codec.native.grids import Grid, Rows
from codec.native.pictures import CELL, pixels_of_cells, quantised_cells

SETS = [None, *native.instruction_sets()]


@pytest.fixture(params=SETS, ids=str)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with native.using(request.param):
        yield request.param


def cells_of(planes: torch.Tensor) -> np.ndarray:
    """Planes (3, H, W) as cells (H / 2, W / 2, 12)."""
    return np.ascontiguousarray(F.pixel_unshuffle(planes[None], 2)[0].permute(1, 2, 0).numpy().astype(np.int32))


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 4), (10, 34)])
@pytest.mark.parametrize("exponent", [0, 9, 16])
def test_quantised(instruction_set: str | None, height: int, width: int, exponent: int) -> None:
    del instruction_set
    rng = np.random.default_rng(height)
    planes = torch.from_numpy(rng.integers(-(1 << 17), 1 << 17, (3, height, width)))
    planes.view(-1)[:4] = torch.tensor([(1 << 25) - 1, -(1 << 25), 64, -64])
    lines, columns = rng.integers(0, height, 2 * 5), rng.integers(0, width, 2 * 7).astype(np.int32)
    grid = Grid(10, True, exponent)
    x = (planes.double() * 2.0**-16).float()[:, torch.from_numpy(lines)][:, :, torch.from_numpy(columns.astype(int))]
    expected = torch.floor(x * 2.0**exponent + 0.5).clamp(-511, 511)
    for first in (0, 1):  # rows from the second cell on are enough where only they are asked for
        rows = Rows(cells_of(planes)[first:].copy(), first, height // 2)
        if 2 * first > lines.min():
            continue
        out = np.full((5, 7, CELL), 77, np.int16)
        quantised_cells(rows, lines, columns, grid, out)
        np.testing.assert_array_equal(out, cells_of(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("height", "width", "top"), [(1, 1, 0), (3, 5, 0), (7, 33, 2), (4, 8, 4), (9, 2, 8)])
def test_pixels(instruction_set: str | None, dtype: type, height: int, width: int, top: int) -> None:
    del instruction_set
    rng = np.random.default_rng(width)
    n, w, border, largest = 3, -(-width // 2), 2, float(np.iinfo(dtype).max)
    planes = torch.from_numpy(rng.integers(-(1 << 16), 1 << 16, (3, 2 * n, 2 * w)))
    added = rng.normal(0, 0.2, (n, w + 2 * border, CELL)).astype(np.float32)
    corrections = F.pixel_shuffle(torch.from_numpy(added[:, border : border + w]).permute(2, 0, 1)[None], 2)[0]
    v = planes.double() * 2.0**-16 + corrections.double()
    expected = torch.floor((v + 0.5) * largest + 0.5).clamp(0, largest).permute(1, 2, 0).numpy().astype(dtype)
    out = np.full((height, width, 3), 99, dtype)
    pixels_of_cells(cells_of(planes), added, border, out, top)
    part = out[top : top + 2 * n]
    np.testing.assert_array_equal(part, expected[: len(part), :width])
    assert (out[:top] == 99).all()
    assert (out[top + 2 * n :] == 99).all()


def test_wrong_calls(instruction_set: str | None) -> None:
    del instruction_set
    x = Rows(np.zeros((2, 3, CELL), np.int32), 1, 4)
    out = np.zeros((1, 1, CELL), np.int16)
    column = np.zeros(2, np.int32)
    grid = Grid(10, True, 9)
    quantised_cells(x, np.array([2, 5]), column, grid, out)
    for lines, columns in (([1, 2], column), ([2, 6], column), ([2, 3], column + 6), ([2, 3], column - 1)):
        with pytest.raises(AssertionError):
            quantised_cells(x, np.array(lines), columns, grid, out)
    with pytest.raises(AssertionError):
        quantised_cells(x, np.array([2, 3]), column, Grid(10, True, 17), out)
    picture, corrections = np.zeros((4, 6, 3), np.uint8), np.zeros((2, 3, CELL), np.float32)
    pixels_of_cells(x.array, corrections, 0, picture, 0)
    for wrong in ((x.array, corrections, 1, picture, 0), (x.array, corrections, 0, picture, -2)):
        with pytest.raises(AssertionError):
            pixels_of_cells(*wrong)
    with pytest.raises(AssertionError):
        pixels_of_cells(x.array, corrections, 0, np.zeros((4, 7, 3), np.uint8), 0)
    with pytest.raises(AssertionError):
        pixels_of_cells(x.array, corrections, 0, picture.astype(np.int16), 0)  # type: ignore[arg-type]
