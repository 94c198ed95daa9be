"""Wide convolutions and networks on cells: the twin against plain integers, the compiled module against the twin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from codec import native
from codec.native.grids import Grid, Rows
from codec.native.wide import CellNetwork, Fine, Wide, cells_of, finest, put_latents, shift_latents

compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
every_set = pytest.mark.parametrize("name", native.instruction_sets())


def layer(
    draw: np.random.Generator,
    outputs: int,
    inputs: int,
    size: int,
    grid: Grid,
    extreme: bool = False,
    largest: int = 32767,
) -> Wide:
    weight = draw.integers(-largest, largest + 1, (outputs, inputs, size, size))
    if extreme:  # all of a sign in each output: the largest sums that there are
        weight = np.where(np.arange(outputs) % 2 == 0, largest, -largest)[:, None, None, None] + 0 * weight
    exponent = draw.integers(10, 24, outputs)
    return Wide(weight.astype(np.int16), draw.integers(-(2**40), 2**40, outputs), exponent, grid)


def inputs_of(draw: np.random.Generator, shape: tuple[int, ...], grid: Grid, extreme: bool = False) -> np.ndarray:
    if extreme:
        return np.full(shape, grid.largest if draw.integers(2) else grid.smallest, np.int32)
    return draw.integers(grid.smallest, grid.largest + 1, shape).astype(np.int32)


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


def all_rows(wide: Wide, x: np.ndarray, channels: int | None = None, shuffle: int = 1, **options: object) -> np.ndarray:
    height, width = x.shape[:2]
    out = Rows.empty(height * shuffle, width * shuffle, channels or wide.outputs, np.int32)
    wide.rows(Rows(x, 0, height), 0, height, out=out, shuffle=shuffle, **options)  # pyright: ignore[reportArgumentType]
    return out.array


def on_all_sets(name: str, work: Callable[[], np.ndarray]) -> None:
    """Asserts that an instruction set gives what the twin gives."""
    with native.using(None):
        expected = work()
    with native.using(name):
        assert np.array_equal(work(), expected)


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


@compiled
@every_set
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("height", "width", "size"), [*SIZES, (11, 101, 1), (9, 5, 3)])
def test_kernels_sum_integers(name: str, height: int, width: int, size: int, grid: Grid, extreme: bool) -> None:
    draw = np.random.default_rng(height + 1000 * width)
    for outputs, inputs in ((1, 1), (12, 5), (17, 33), (50, 64)):
        wide = layer(draw, outputs, inputs, size, grid, extreme)
        x = inputs_of(draw, (height, width, inputs), grid, extreme)
        # few bits for the values: every sum shows, and no limit is reached
        on_all_sets(name, lambda: all_rows(wide, x, out_exponent=-12))  # noqa: B023
        on_all_sets(name, lambda: all_rows(wide, x, grid=GRIDS[1]))  # noqa: B023


@compiled
@every_set
def test_sums_that_int32_cannot_hold_are_folded_on_the_way(name: str) -> None:
    draw = np.random.default_rng(0)
    for grid in (Grid(20, True, 0), Grid(16, True, 0), Grid(16, False, 0, leak=3)):
        wide = layer(draw, 18, 330, 3, grid, extreme=True)
        assert wide.fold < len(wide.taps) * 165
        for value in (grid.largest, grid.smallest, grid.largest - 127, 128):
            x = np.full((3, 4, 330), value, np.int32)
            on_all_sets(name, lambda: all_rows(wide, x, out_exponent=-10))  # noqa: B023
            with native.using(name):
                v = plain_sums(wide, x) * wide.scale
                assert np.array_equal(all_rows(wide, x, out_exponent=-10), np.floor(v * 2.0**-10 + 0.5))


@compiled
@every_set
def test_small_inputs_take_a_single_chain_up_to_its_limit(name: str) -> None:
    draw, grid = np.random.default_rng(1), Grid(16, True, 4)
    wide = layer(draw, 33, 96, 3, grid, extreme=True)
    for value in (wide.single - 1, wide.single, wide.single + 1, 1, 0):
        for sign in (-1, 1):
            x = np.full((2, 5, 96), sign * value, np.int32)
            on_all_sets(name, lambda: all_rows(wide, x, out_exponent=-8))  # noqa: B023
            x[1, 2, 3] = grid.largest  # in one place of a band
            on_all_sets(name, lambda: all_rows(wide, x, out_exponent=-8))  # noqa: B023


@compiled
@every_set
def test_inputs_beyond_the_grid_are_cut_off(name: str) -> None:
    draw, grid = np.random.default_rng(2), Grid(16, True, 4)
    wide = layer(draw, 16, 20, 3, grid)
    x = draw.integers(-(2**31), 2**31, (3, 7, 20)).astype(np.int32)
    on_all_sets(name, lambda: all_rows(wide, x, out_exponent=-8))
    with native.using(name):
        cut = np.clip(x, -32767, 32767).astype(np.int32)
        assert np.array_equal(all_rows(wide, x, out_exponent=-8), all_rows(wide, cut, out_exponent=-8))
        assert np.array_equal(
            all_rows(wide, cut, out_exponent=-8), all_rows(wide, cut.astype(np.int16), out_exponent=-8)
        )


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
def test_shuffle_and_gain_are_where_torch_puts_them(name: str | None) -> None:
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(3)
    grid, to = Grid(16, True, 4), Grid(16, False, 8, leak=3)
    wide = layer(draw, 76, 4, 3, grid)
    x, gain = inputs_of(draw, (3, 5, 4), grid), draw.uniform(0.5, 2, 19)
    v = torch.from_numpy(plain_sums(wide, x) * wide.scale).permute(2, 0, 1)[None]
    v = torch.nn.functional.pixel_shuffle(v, 2)[0].permute(1, 2, 0).numpy() * gain
    with native.using(name):
        assert np.array_equal(all_rows(wide, x, 19, 2, gain=gain, grid=to), to.integers(v))
        expected = np.clip(np.floor(v * 4 + 0.5), -9999, 9999)
        assert np.array_equal(all_rows(wide, x, 19, 2, gain=gain, out_exponent=2, limit=9999), expected)
        assert np.array_equal(
            all_rows(wide, x, 19, 2, floor=True, limit=2**30), np.clip(np.floor(v / gain), -(2**30), 2**30)
        )


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
def test_a_band_of_rows_is_that_part_of_all(name: str | None) -> None:
    draw = np.random.default_rng(4)
    grid = Grid(20, True, 14)
    wide = layer(draw, 6, 3, 3, grid)
    x = inputs_of(draw, (9, 4, 3), grid)
    with native.using(name):
        whole, part = all_rows(wide, x), Rows(np.zeros((4, 3, 6), np.int32), 3, 9)
        band = Rows(np.ascontiguousarray(x[2:8]), 2, 9)
        wide.rows(band, 3, 7, out=part)
        assert np.array_equal(part.array, whole[3:7, :3])  # columns on the right may be left out
        wide.rows(band, 5, 5, out=part)  # nothing to do
        more = np.zeros((9, 4, 8), np.int32)
        more[..., :3] = x
        out = Rows.empty(9, 4, 6, np.int32)
        wide.rows(Rows(more[..., :3], 0, 9), 0, 9, out=out)
        assert np.array_equal(out.array, whole)


def test_calls_that_would_leave_the_arrays_are_refused() -> None:
    wide = layer(np.random.default_rng(5), 6, 3, 3, Grid(16, True, 0))
    x = Rows(np.zeros((6, 4, 3), np.int32), 2, 9)
    good = Rows(np.zeros((9, 4, 6), np.int32), 0, 9)
    wide.rows(x, 3, 7, out=good)
    calls = [
        (x, 2, 7, good),  # row 1 isn't there
        (x, 3, 8, good),
        (Rows(x.array[..., ::-1], 2, 9), 3, 7, good),
        (Rows(x.array.astype(np.int64), 2, 9), 3, 7, good),
        (Rows(x.array[..., :2], 2, 9), 3, 7, good),
        (x, 3, 7, Rows(np.zeros((9, 5, 6), np.int32), 0, 9)),
        (x, 3, 7, Rows(np.zeros((9, 4, 5), np.int32), 0, 9)),
        (x, 3, 7, Rows(np.zeros((3, 4, 6), np.int32), 4, 9)),
        (x, 3, 7, Rows(np.zeros((9, 4, 6), np.int64), 0, 9)),
        (x, 3, 7, Rows(np.zeros((18, 4, 6), np.int32)[::2], 0, 9)),
        (x, 7, 3, good),
        (Rows(np.lib.stride_tricks.as_strided(x.array, (6, 4, 3), (0, 0, 4)), 2, 9), 3, 7, good),
    ]
    for rows, top, bottom, out in calls:
        with pytest.raises(AssertionError):
            wide.rows(rows, top, bottom, out=out)


def test_layers_whose_sums_are_too_large_are_refused() -> None:
    weight = np.full((1, 7000, 7, 7), 32767, np.int16)
    with pytest.raises(ValueError, match="52 bits"):
        Wide(weight, np.zeros(1, np.int64), np.zeros(1, np.int64), Grid(20, True, 0))
    with pytest.raises(ValueError, match="20 bits"):
        Wide(weight[:, :1], np.zeros(1, np.int64), np.zeros(1, np.int64), Grid(22, True, 0))
    with pytest.raises(ValueError, match="16 bits"):
        Wide(weight[:, :1] * 0 - 32768, np.zeros(1, np.int64), np.zeros(1, np.int64), Grid(8, True, 0))
    for shape in ((1, 1, 2, 2), (1, 1, 3, 1), (0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 9, 9)):
        with pytest.raises(ValueError, match="expected"):
            Wide(np.zeros(shape, np.int16), np.zeros(shape[0]), np.zeros(shape[0]), Grid(8, True, 0))


# ---- networks on cells


def test_fine_numbers_give_what_grids_give_of_the_numbers_themselves() -> None:
    draw = np.random.default_rng(6)
    grids = [Grid(16, False, e, leak=3) for e in (4, 9, 11)] + [Grid(16, True, 10)]
    x = np.concatenate([draw.normal(0, s, 4000) for s in (0.001, 1, 100, 1e4, 1e9)])
    x = np.concatenate([x, np.round(x * 2**11) / 2**11, (np.round(x * 2**11) + 0.5) / 2**11, [0.0, -0.0]])
    exponent = finest(grids)
    fine = np.clip(np.floor(x * 2.0 ** (exponent + 1)), -Fine.LIMIT, Fine.LIMIT).astype(np.int32)
    for grid in grids:
        assert np.array_equal(Fine(fine, exponent).integers(fine, grid), grid.integers(x))
    with pytest.raises(ValueError, match="exponents"):
        finest([Grid(16, False, 0, leak=3), Grid(16, False, 14, leak=3)])


def network(draw: np.random.Generator, channels: tuple[int, ...], conv: int, hidden: int, outputs: int) -> CellNetwork:
    grid = Grid(16, False, 9, leak=3)
    inner = layer(draw, conv, 6, 5, Grid(16, True, 4), largest=3000) if conv else None
    first = layer(draw, hidden, sum(channels) + conv, 1, grid)
    return CellNetwork(first, layer(draw, outputs, hidden, 1, Grid(16, False, 7, leak=3)), channels, inner)


def parts_of(draw: np.random.Generator, height: int, width: int, channels: tuple[int, ...]) -> list[Fine]:
    arrays = [(draw.normal(0, 2**17, (height, width, c)) * 8.0 ** draw.integers(-4, 4, c)) for c in channels]
    return [Fine(np.clip(x, -Fine.LIMIT, Fine.LIMIT).astype(np.int32), 9 + i) for i, x in enumerate(arrays)]


NETWORKS = [((5,), 0, 3, 4), ((16, 7), 9, 20, 6), ((33, 16), 32, 50, 40), ((8, 3), 16, 16, 34)]


@compiled
@every_set
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 1), (9, 10), (6, 13), (3, 230)])
@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_kernels_on_cells_equal_the_twin(name: str, height: int, width: int, dtype: type) -> None:
    draw = np.random.default_rng(height + 100 * width)
    for channels, conv, hidden, outputs in NETWORKS:
        net = network(draw, channels, conv, hidden, outputs)
        fine = parts_of(draw, height, width, channels)
        y = draw.integers(-(2**13), 2**13, (height, width, 11)).astype(dtype)
        y[: height // 2] //= 64  # small enough for a single chain
        mean, base = Grid(16, True, 4), draw.uniform(-9, 70, outputs // 2)
        for parity in (-1, 0, 1):

            def densities(parity: int = parity) -> np.ndarray:
                means, rows = net.density(fine, y, 5, parity, mean, base, 2.0**-9, 64)  # noqa: B023
                assert means.dtype == np.int16 and rows.dtype == np.uint8
                return np.concatenate([means, rows])

            on_all_sets(name, densities)
        on_all_sets(name, lambda: net.shifts(fine, y, 5, mean, 0.5))  # noqa: B023


def test_the_twin_on_cells_is_two_layers() -> None:
    draw = np.random.default_rng(7)
    net = network(draw, (5, 4), 8, 6, 4)
    assert net.conv is not None
    fine = parts_of(draw, 5, 6, (5, 4))
    y = draw.integers(-(2**13), 2**13, (5, 6, 8)).astype(np.int16)
    grid = net.first.grid
    seen = grid.integers(plain_sums(net.conv, y[..., 1:7].astype(np.int32)) * net.conv.scale)
    x = np.concatenate([*(part.integers(part.array, grid) for part in fine), seen], 2)
    hidden = net.second.grid.integers(plain_sums(net.first, x.astype(np.int64)) * net.first.scale)
    v = plain_sums(net.second, hidden.astype(np.int64)) * net.second.scale
    mean, base = Grid(16, True, 4), np.array([3.25, 60.0])
    rows = np.clip(np.floor(base + 0.125 * v[..., 2:] + 0.5), 0, 63).reshape(-1, 2)
    with native.using(None):
        for parity in (-1, 0, 1):
            cells = cells_of(5, 6, parity)
            means, levels = net.density(fine, y, 1, parity, mean, base, 0.125, 64)
            assert np.array_equal(means, mean.integers(v[..., :2]).reshape(-1, 2)[cells].T)
            assert np.array_equal(levels, rows[cells].T)
        assert np.array_equal(net.shifts(fine, y, 1, mean, 0.5), mean.integers(np.clip(v, -0.5, 0.5)))


def test_networks_refuse_what_is_not_theirs() -> None:
    draw = np.random.default_rng(8)
    net = network(draw, (5, 4), 8, 6, 4)
    fine, y = parts_of(draw, 5, 6, (5, 4)), np.zeros((5, 6, 8), np.int16)
    mean, base = Grid(16, True, 4), np.zeros(2)
    net.density(fine, y, 2, 1, mean, base, 1.0, 64)
    calls = [
        (fine[:1], y, 2, 1),
        (fine[::-1], y, 2, 1),
        (fine, y, 3, 1),  # more channels than there are
        (fine, y[:4], 2, 1),
        (fine, y.astype(np.int64), 2, 1),
        (fine, y[:, ::-1], 2, 1),
        (fine, y, 2, 2),
        ([Fine(fine[0].array, 8), fine[1]], y, 2, 1),  # coarser than the grid of the layer
        ([Fine(fine[0].array, 40), fine[1]], y, 2, 1),
        ([Fine(fine[0].array.astype(np.int64), 9), fine[1]], y, 2, 1),  # pyright: ignore[reportArgumentType]
    ]
    for parts, latents, start, parity in calls:
        with pytest.raises(AssertionError):
            net.density(parts, latents, start, parity, mean, base, 1.0, 64)
    with pytest.raises(AssertionError):
        net.density(fine, y, 2, 1, mean, np.zeros(3), 1.0, 64)
    for channels, first, second in (((5,), net.first, net.second), ((5, 4), net.second, net.first)):
        with pytest.raises(ValueError, match=r"inputs|fit"):
            CellNetwork(first, second, channels, net.conv)


# ---- latents


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 5), (3, 6), (1, 2)])
def test_latents_are_put_on_their_cells(name: str | None, height: int, width: int) -> None:
    draw = np.random.default_rng(9)
    with native.using(name):
        for parity in (-1, 0, 1):
            cells = cells_of(height, width, parity)
            for dtype, largest in ((np.int16, 2000), (np.int32, 2**20)):
                y = np.full((height, width, 7), 5, dtype)
                symbols = draw.integers(-largest, largest, (3, len(cells))).astype(np.int32)
                means = draw.integers(-700, 700, symbols.shape).astype(np.int16)
                expected = y.reshape(-1, 7).copy()
                expected[cells, 2:5] = (16 * symbols + means).T
                assert put_latents(symbols, means, y, 2, parity)
                assert np.array_equal(y.reshape(-1, 7), expected)
                if dtype == np.int16 and len(cells):
                    symbols[2, -1] = 2100
                    assert not put_latents(symbols, means, y, 2, parity)
        y = np.full((height, width, 4), 32760, np.int16)
        shifts = np.full((height, width, 2), 7, np.int8)
        assert shift_latents(shifts, y, 1)
        assert (y == [32760, 32767, 32767, 32760]).all()
        shifts[-1, -1, 1] = 8
        assert not shift_latents(shifts[..., 1:].copy(), y, 3) or (y[-1, -1, 3] == 32768)
        assert not shift_latents(shifts, y, 1)
        assert (y[..., 1:3] == 32767).all()  # as it was
        assert shift_latents(shifts, large := y.astype(np.int32), 1) and large.max() == 32775
