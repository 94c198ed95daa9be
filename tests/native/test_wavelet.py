"""The inverse wavelet packet in integers: its matrices, its twin and its kernels against torch's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from codec import native
from codec.codecs.layers import wavelet as oracle
from codec.native.grids import Rows
from codec.native.wavelet import Packet, axis_plan, channel_order, inverse

SIZES = [(1, 1), (1, 9), (5, 1), (3, 2), (18, 21)]


@pytest.fixture(params=[None, *native.instruction_sets()])
def isa(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with native.using(request.param):
        yield request.param


def by_torch(coefficients: np.ndarray, levels: int, boundary: oracle.Boundary, limit: int, shuffle: int) -> np.ndarray:
    """The pixels of coefficients (h, w, C * 4**J), in the order of channels that analysis gives."""
    x = torch.from_numpy(np.clip(coefficients, -limit, limit).astype(np.float64).transpose(2, 0, 1)[None])
    x = oracle.channels_to_blocks(x, levels)
    for dim in (-1, -2):
        plan = oracle.transform_plan(x.shape[dim], levels, boundary, True, 24)
        x = torch.floor(oracle.apply_plan(x, dim, plan) * 2.0**-24 + 0.5)
    return torch.nn.functional.pixel_unshuffle(x, shuffle)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("boundary", ["symmetric", "periodization"])
@pytest.mark.parametrize("levels", [1, 3, 4])
def test_plans_are_those_of_the_layers(levels: int, boundary: oracle.Boundary) -> None:
    for blocks in (1, 2, 16, 17, 40):
        n = blocks * 2**levels
        expected, plan = np.zeros((n, n)), oracle.transform_plan(n, levels, boundary, True, 24)
        for chunk in plan.chunks:
            columns = np.arange(chunk.source.start, chunk.source.stop) - plan.wrap
            expected[np.ix_(range(chunk.out.start, chunk.out.stop), columns % n)] += chunk.matrix.numpy()
        given, axis = np.zeros((n, n)), axis_plan(n, levels, boundary)
        for first, count, source, inputs, place in axis.bands:
            columns = np.arange(source, source + inputs) % n
            given[np.ix_(range(first, first + count), columns)] += axis.matrices[place : place + inputs, :count].T
        assert np.array_equal(given, expected)
        assert axis.gain == np.abs(expected).sum(1).max()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("levels", "channels", "shuffle"), [(4, 3, 4), (3, 3, 2), (1, 1, 1), (2, 5, 4)])
@pytest.mark.parametrize("boundary", ["symmetric", "periodization"])
def test_the_integers_of_torch(
    isa: str | None, size: tuple[int, int], levels: int, channels: int, shuffle: int, boundary: oracle.Boundary
) -> None:
    draw = np.random.default_rng(0)
    shape, limit = (*size, channels * 4**levels), 1 << 21
    order = channel_order(channels, levels)
    for coefficients in (
        draw.integers(-limit, limit + 1, shape),
        limit * draw.choice([-1, 1], shape),  # the largest sums that there can be
        draw.integers(-(2**31), 2**31, shape),  # they are clamped
    ):
        expected = by_torch(coefficients, levels, boundary, limit, shuffle)
        assert np.array_equal(inverse(coefficients[..., order], channels, levels, boundary, limit, shuffle), expected)


def test_rows_come_as_soon_as_what_they_need_is_here(isa: str | None) -> None:
    h, w = 23, 3
    coefficients = np.random.default_rng(1).integers(-(1 << 20), 1 << 20, (h, w, 3 * 64)).astype(np.int32)
    whole = inverse(coefficients, 3, 3, shuffle=2)
    packet = Packet(h, w, 3, 3, shuffle=2)
    for top, bottom in ((0, 1), (3, 4), (5, 17), (22, 23)):
        first, stop = packet.needs(top, bottom)
        assert max(0, top - 5) <= first <= top < bottom <= stop <= min(h, bottom + 5)
        between = packet.between(first, stop)
        for row in range(first, stop):
            packet.across(Rows(coefficients[row : row + 1], row, h), row, row + 1, between)
        out = Rows(np.empty((4 * (bottom - top), 4 * w, 12), np.int32), 4 * top, 4 * h)
        packet.down(between, top, bottom, out)
        assert np.array_equal(out.array, whole[4 * top : 4 * bottom])
    with pytest.raises(AssertionError, match="aren't here"):
        packet.down(packet.between(3, 4), 3, 4, Rows.empty(4 * h, 4 * w, 12, np.int32))


def test_sums_that_float64_cant_hold_are_refused() -> None:
    Packet(2, 2, 3, 4, limit=1 << 21)
    with pytest.raises(ValueError, match="float64"):
        Packet(2, 2, 3, 4, limit=1 << 22)


def test_wrong_arrays_are_refused() -> None:
    packet = Packet(2, 2, 3, 4)
    with pytest.raises(AssertionError):
        packet.across(Rows(np.zeros((2, 2, 768)), 0, 2), 0, 2, packet.between(0, 2))
    with pytest.raises(AssertionError):
        packet.across(Rows(np.zeros((2, 3, 768), np.int32), 0, 2), 0, 2, packet.between(0, 2))
    with pytest.raises(AssertionError):
        packet.across(Rows(np.zeros((4, 2, 768), np.int32)[::2], 0, 2), 0, 2, packet.between(0, 2))
