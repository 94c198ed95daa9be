"""Wide convolutions: the twin against plain integers, the compiled module against the twin."""

from __future__ import annotations

import numpy as np
import pytest

from codec.native.grids import Grid, Rows
from codec.native.wide import Wide


def layer(draw: np.random.Generator, outputs: int, inputs: int, size: int, grid: Grid, extreme: bool = False) -> Wide:
    shape = (outputs, inputs, size, size)
    weight = draw.integers(-32767, 32768, shape)
    if extreme:
        weight = np.where(weight > 0, 32767, -32767)
    exponent = draw.integers(10, 24, outputs)
    return Wide(weight.astype(np.int16), draw.integers(-(2**40), 2**40, outputs), exponent, grid)


def inputs_of(draw: np.random.Generator, shape: tuple[int, ...], grid: Grid, extreme: bool = False) -> np.ndarray:
    x = draw.integers(grid.smallest, grid.largest + 1, shape)
    if extreme:
        x = np.where(x > (grid.largest + grid.smallest) / 2, grid.largest, grid.smallest)
    return x.astype(np.int32)


def plain_sums(wide: Wide, x: np.ndarray) -> np.ndarray:
    """The sums in int64, by the definition."""
    height, width, _ = x.shape
    pad = wide.size // 2
    padded = np.pad(x.astype(np.int64), ((pad, pad), (pad, pad), (0, 0)))
    out = np.zeros((height, width, wide.outputs), np.int64) + wide.bias.astype(np.int64)
    for i in range(wide.size):
        for j in range(wide.size):
            out += padded[i : i + height, j : j + width] @ wide.weight[:, :, i, j].T.astype(np.int64)
    return out


GRIDS = [Grid(16, True, 4), Grid(16, False, 11, leak=3), Grid(20, True, 14), Grid(9, True, 2)]
SIZES = [(1, 1, 1), (3, 4, 3), (5, 7, 5), (2, 13, 3)]


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_the_twin_sums_integers(height: int, width: int, size: int, grid: Grid, extreme: bool) -> None:
    draw = np.random.default_rng(height * 100 + width)
    wide = layer(draw, 12, 5, size, grid, extreme)
    x = inputs_of(draw, (height, width, 5), grid, extreme)
    assert np.array_equal(wide.sums(Rows(x, 0, height), 0, height), plain_sums(wide, x))


def test_shuffle_and_gain_are_where_torch_puts_them() -> None:
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(3)
    grid, to = Grid(16, True, 4), Grid(16, False, 8, leak=3)
    wide = layer(draw, 12, 4, 3, grid)
    x, gain = inputs_of(draw, (3, 5, 4), grid), draw.uniform(0.5, 2, 3)
    v = torch.from_numpy(plain_sums(wide, x) * wide.scale).permute(2, 0, 1)[None]
    v = torch.nn.functional.pixel_shuffle(v, 2)[0].permute(1, 2, 0).numpy() * gain
    out = Rows.empty(6, 10, 3, np.int32)
    wide.rows(Rows(x, 0, 3), 0, 3, out=out, shuffle=2, gain=gain, grid=to)
    assert np.array_equal(out.array, to.integers(v))
    wide.rows(Rows(x, 0, 3), 0, 3, out=out, shuffle=2, gain=gain, out_exponent=2, limit=99999)
    assert np.array_equal(out.array, np.clip(np.floor(v * 4 + 0.5), -99999, 99999))


def test_a_band_of_rows_is_that_part_of_all() -> None:
    draw = np.random.default_rng(4)
    grid = Grid(20, True, 14)
    wide = layer(draw, 6, 3, 3, grid)
    x = inputs_of(draw, (9, 4, 3), grid)
    whole, part = Rows.empty(9, 4, 6, np.int32), Rows(np.zeros((4, 4, 6), np.int32), 3, 9)
    wide.rows(Rows(x, 0, 9), 0, 9, out=whole)
    wide.rows(Rows(np.ascontiguousarray(x[2:8]), 2, 9), 3, 7, out=part)
    assert np.array_equal(part.array, whole.array[3:7])
    with pytest.raises(AssertionError):  # row 2 isn't there
        wide.rows(Rows(np.ascontiguousarray(x[3:8]), 3, 9), 3, 7, out=part)


def test_sums_that_are_too_large_are_refused() -> None:
    weight = np.full((1, 7000, 7, 7), 32767, np.int16)
    with pytest.raises(ValueError, match="52 bits"):
        Wide(weight, np.zeros(1, np.int64), np.zeros(1, np.int64), Grid(20, True, 0))
    with pytest.raises(ValueError, match="20 bits"):
        Wide(weight[:, :1], np.zeros(1, np.int64), np.zeros(1, np.int64), Grid(22, True, 0))
