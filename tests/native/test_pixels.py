"""Passes between grids, and to pixels: the kernels against their twins, extreme and odd inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec import native
from codec.native.grids import Grid, Rows
from codec.native.pixels import regrid, write_pixels

compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
GRIDS = [Grid(20, True, 14), Grid(10, True, 9), Grid(8, False, 3, 3), Grid(16, False, -2), Grid(9, True, 40)]


@compiled
@pytest.mark.parametrize("name", native.instruction_sets())
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("channels", [1, 16, 37])
def test_regrid(name: str, grid: Grid, channels: int) -> None:
    draw = np.random.default_rng(0)
    dtype = np.int16 if grid.largest <= 32767 else np.int32
    x = draw.integers(-(2**31), 2**31, (19, channels)) >> draw.integers(0, 31, (19, channels))
    x = x.astype(np.int32)
    for gain in (None, np.exp2(draw.normal(0, 3, channels))):
        results: list[list[np.ndarray]] = []
        for isa in (None, name):
            out, values = np.empty(x.shape, dtype), np.empty(x.shape, np.float32)
            with native.using(isa):
                regrid(x, 4, grid, out, gain=gain, values=values)
            results.append([out, values])
        assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
        v = x / 16 if gain is None else x / 16 * gain
        assert np.array_equal(results[0][0], grid.integers(v)) and np.array_equal(results[0][1], v.astype(np.float32))


def test_regrid_refuses_grids_that_dont_fit() -> None:
    x = np.zeros((2, 3), np.int32)
    with pytest.raises(AssertionError, match="fit"):
        regrid(x, 4, Grid(20, True, 14), np.empty((2, 3), np.int16))
    with pytest.raises(AssertionError):
        regrid(x, 4, Grid(20, True, 14), np.empty((2, 2), np.int32))
    with pytest.raises(AssertionError):
        regrid(x, 400, Grid(20, True, 14), np.empty((2, 3), np.int32))


def expected_pixels(x: np.ndarray, correction: np.ndarray | None, shuffle: int, dtype: Any, rounded: bool) -> Any:
    """Pixel by pixel."""
    h, w, channels = x.shape[0] * shuffle, x.shape[1] * shuffle, x.shape[2] // shuffle**2
    out = np.empty((h, w, channels), dtype)
    largest = int(np.iinfo(dtype).max)
    for y in range(h):
        for i in range(w):
            for c in range(channels):
                place = (y // shuffle, i // shuffle, (c * shuffle + y % shuffle) * shuffle + i % shuffle)
                v = float(x[place]) / 65536
                if correction is not None:
                    add = float(correction[place])
                    v += np.floor(add * 65536 + 0.5) / 65536 if rounded else add
                out[y, i, c] = min(max(np.floor((v + 0.5) * largest + 0.5), 0), largest)
    return out


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shuffle", "channels"), [(4, 3), (2, 3), (1, 1)])
def test_write_pixels(name: str | None, dtype: Any, shuffle: int, channels: int) -> None:
    draw = np.random.default_rng(0)
    shape = (3, 5, channels * shuffle**2)
    x = draw.integers(-45000, 45000, shape).astype(np.int32)
    x[0, 0], x[0, 1], x[0, 2] = 2**31 - 1, -(2**31), 2**29
    for correction in (None, draw.normal(0, 0.2, shape).astype(np.float32)):
        for rounded in (True, False):
            whole = expected_pixels(x, correction, shuffle, dtype, rounded)
            for top, left, rows, columns in ((0, 0, *whole.shape[:2]), (1, 2, 2, 3), (shuffle, 0, 1, 1)):
                out = np.empty((rows, columns, channels), dtype)
                first = top // shuffle  # rows before it aren't here
                parts = [None if a is None else Rows(a[first:].copy(), first, 3) for a in (x, correction)]
                with native.using(name):
                    assert parts[0] is not None
                    write_pixels(parts[0], parts[1], top, left, out, shuffle=shuffle, rounded=rounded)
                assert np.array_equal(out, whole[top : top + rows, left : left + columns])


def test_write_pixels_refuses_what_isnt_here() -> None:
    x = Rows(np.zeros((2, 5, 12), np.int32), 1, 4)
    with pytest.raises(AssertionError, match="aren't here"):
        write_pixels(x, None, 0, 0, np.empty((2, 10, 3), np.uint8), shuffle=2)
    with pytest.raises(AssertionError):
        write_pixels(x, None, 2, 0, np.empty((2, 11, 3), np.uint8), shuffle=2)
    with pytest.raises(AssertionError):
        write_pixels(x, None, 2, 0, np.empty((2, 10, 3), np.int16), shuffle=2)
