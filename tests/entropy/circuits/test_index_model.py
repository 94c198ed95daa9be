"""A circuit over grids: any size, the gain of the neighbourhood, the same bytes, damage."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from codec.entropy.circuits.index_model import IndexModel, _wavefronts, _windows
from codec.entropy.circuits.model import MISSING
from codec.errors import StreamError, UsageError, WeightsError

LEVELS = 12


def grids(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Patches of equal symbols with borders at random places: neighbours tell much about each other."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n, height, width), np.int64)
    for grid in out:
        rows, columns = (np.cumsum(rng.random(side) < 0.25) for side in (height, width))
        symbols = rng.integers(0, LEVELS, (rows[-1] + 1, columns[-1] + 1))
        grid[:] = symbols[rows[:, None], columns]
        noisy = rng.random(grid.shape) < 0.03
        grid[noisy] = rng.integers(0, LEVELS, noisy.sum())
    return out


@pytest.fixture(scope="module")
def model() -> IndexModel:
    return IndexModel.fit(grids(60, 13, 17, seed=5), LEVELS, block=3, states=16, epochs=12, max_windows=6000)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 3), (1, 7, 2), (3, 2, 19), (5, 13, 17)])
def test_any_size(model: IndexModel, shape: tuple[int, int, int]) -> None:
    for x in (grids(*shape), np.random.default_rng(1).integers(0, LEVELS, shape), np.zeros(shape, int)):
        data = model.encode(x)
        np.testing.assert_array_equal(model.decode(data, shape), x)
        assert model.encode(x) == data
    np.testing.assert_array_equal(model.decode(model.encode(x[0]), shape[1:]), x[0])


def test_no_grids(model: IndexModel) -> None:
    assert model.decode(model.encode(np.zeros((0, 5, 5), int)), (0, 5, 5)).shape == (0, 5, 5)
    assert model.decode(model.encode(np.zeros((2, 0, 5), int)), (2, 0, 5)).shape == (2, 0, 5)


def test_neighbours_help(model: IndexModel) -> None:
    """Far below the entropy of single symbols, on grids it has not seen; the stream is as long as it says."""
    x = grids(20, 24, 24, seed=77)
    per_cell = model.bits(x).sum() / x.size
    frequency = np.bincount(x.ravel(), minlength=LEVELS) / x.size
    assert per_cell < 0.55 * -(frequency * np.log2(frequency)).sum()
    extra = 8 * len(model.encode(x)) - model.bits(x).sum()
    assert 0 < extra < 32 + 64 * 16  # 16 lanes
    alone = x[:1]
    assert 0 < 8 * len(model.encode(alone)) - model.bits(alone).sum() < 32 + 64


def test_blocks_see_their_neighbours(model: IndexModel) -> None:
    """A block costs less where its surroundings are known than at the corner of a grid."""
    x = grids(200, 6, 6, seed=3)
    alone = model.bits(x[:, 3:, 3:]).mean()
    together = model.bits(x).mean() - model.bits(x[:, :3]).mean() - model.bits(x[:, :, :3]).mean()
    together += model.bits(x[:, :3, :3]).mean()
    assert together < 0.8 * alone


def test_alone_and_in_a_batch(model: IndexModel) -> None:
    x = grids(4, 10, 11)
    whole = model.bits(x)
    assert [model.bits(grid)[0] for grid in x] == whole.tolist()


def test_windows() -> None:
    grid = np.arange(20).reshape(4, 5)
    windows = _windows(grid[:, :, None], np.array([[0, 0], [2, 2]]), 2).reshape(2, 3, 4)
    assert windows.tolist() == [
        [[-1, -1, -1, -1], [-1, 0, 1, -1], [-1, 5, 6, -1]],
        [[6, 7, 8, 9], [11, 12, 13, -1], [16, 17, 18, -1]],
    ]
    assert _windows(grid[:, :, None], np.array([[2, 2]]), 2, everything=True).reshape(3, 4)[1:, -1].tolist() == [14, 19]
    assert MISSING == -1


def test_wavefronts_see_only_the_past() -> None:
    seen = set()
    for corners in _wavefronts((1, 9, 13), 3):
        now = set(map(tuple, (corners // 3).tolist()))
        for y, x in now:
            for near in ((y, x - 1), (y - 1, x - 1), (y - 1, x), (y - 1, x + 1)):
                inside = 0 <= near[0] < 3 and 0 <= near[1] < 5
                assert not inside or near in seen
        seen |= now
    assert len(seen) == 15


def test_state_and_back(model: IndexModel) -> None:
    x = grids(2, 9, 9)
    state = model.to_state()
    assert IndexModel.from_state(state).encode(x) == model.encode(x)
    for block in (np.array([4, 0], np.int32), np.array([0, 0], np.int32), np.array([3], np.int32), np.zeros(2)):
        change = {"block": block}
        with pytest.raises(WeightsError):
            IndexModel.from_state({**state, **change})


def test_wrong_symbols(model: IndexModel) -> None:
    for x in (np.full((2, 3, 3), LEVELS), np.full((2, 3, 3), -1), np.zeros((3, 3)), np.zeros(3, int)):
        given: Any = x
        with pytest.raises(UsageError):
            model.encode(given)


def test_channels() -> None:
    """Two channels a cell: the second is mostly known from the first."""
    x = np.stack([grids(30, 9, 11, seed=5), 3 - grids(30, 9, 11, seed=5) % 4], axis=-1)
    model = IndexModel.fit(x, block=2, states=12, epochs=8)
    assert model.levels == (LEVELS, 4)
    data = model.encode(x[:3])
    np.testing.assert_array_equal(model.decode(data, (3, 9, 11, 2)), x[:3])
    np.testing.assert_array_equal(model.decode(model.encode(x[0]), (9, 11, 2)), x[0])
    again = IndexModel.from_state(model.to_state())
    assert again.encode(x[:3]) == data
    one_channel = IndexModel.fit(x[..., 0], block=2, states=12, epochs=8)
    assert model.bits(x).sum() < 1.2 * one_channel.bits(x[..., 0]).sum()
    for wrong in (x[..., :1], x[..., 0], x[..., ::-1].copy()):
        with pytest.raises(UsageError):
            model.encode(wrong)
    with pytest.raises(UsageError):
        IndexModel.fit(x, levels=3)


def test_damage(model: IndexModel) -> None:
    x = grids(2, 10, 10)
    data = model.encode(x)
    for n in range(0, len(data), 5):
        with pytest.raises(StreamError):
            model.decode(data[:n], x.shape)
    for shape in ((2, 10, 13), (3, 10, 10), (1, 10, 10)):
        with pytest.raises(StreamError):
            model.decode(data, shape)
    rng = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with contextlib.suppress(StreamError):
            np.testing.assert_array_equal(model.decode(bytes(changed), x.shape), x)
