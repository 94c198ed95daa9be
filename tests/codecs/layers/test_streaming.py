"""Networks by rows: the same as over the whole activation, with few rows in memory."""

from __future__ import annotations

import numpy as np
import pytest

from codec.codecs.layers.streaming import Chain, Window, around, below


def blurred(x: np.ndarray) -> np.ndarray:
    """The sum of each row and its neighbours; beyond the edges is zero."""
    padded = np.pad(x, ((1, 1), (0, 0), (0, 0)))
    return padded[:-2] + padded[1:-1] + padded[2:]


@pytest.mark.parametrize("height", [1, 2, 5, 64])
@pytest.mark.parametrize("pace", [1, 3, 8, 100])
def test_rows_are_those_of_the_whole(height: int, pace: int) -> None:
    """Two layers that look around, an enlargement, and a sum in place with what was there before."""
    source = np.random.default_rng(0).integers(0, 100, (height, 2, 3))
    once = blurred(source)
    expected = blurred(blurred(once.repeat(2, 0)) + once.repeat(2, 0))

    chain = Chain()
    x = chain.window(height, 2, 3, np.int64)
    a, b, c = (chain.window(rows, 2, 3, np.int64) for rows in (height, 2 * height, 2 * height))
    result = np.empty_like(expected)
    most = 0

    def look(window: Window, top: int, bottom: int) -> np.ndarray:
        rows = window.rows
        low, high = max(0, top - 1), min(rows.height, bottom + 1)
        seen = np.pad(rows.cut(low, high), ((low - top + 1, bottom + 1 - high), (0, 0), (0, 0)))
        return blurred(seen)[1:-1]

    def fill(top: int, bottom: int) -> None:
        x.rows.cut(top, bottom)[...] = source[top:bottom]

    def first(top: int, bottom: int) -> None:
        a.rows.cut(top, bottom)[...] = look(x, top, bottom)

    def enlarge(top: int, bottom: int) -> None:
        assert top % 2 == 0 and bottom % 2 == 0
        b.rows.cut(top, bottom)[...] = a.rows.cut(top // 2, bottom // 2).repeat(2, 0)

    def second(top: int, bottom: int) -> None:
        c.rows.cut(top, bottom)[...] = look(b, top, bottom)

    def add(top: int, bottom: int) -> None:
        c.rows.cut(top, bottom)[...] += b.rows.cut(top, bottom)
        nonlocal most
        most = max(most, *(len(window.rows.array) for window in (x, a, b, c)))

    def finish(top: int, bottom: int) -> None:
        result[top:bottom] = look(c, top, bottom)

    chain.step(height, fill, writes=[x], pace=pace)
    chain.step(height, first, [(x, around(1))], [a])
    chain.step(2 * height, enlarge, [(a, below(2))], [b], unit=2)
    chain.step(2 * height, second, [(b, around(1))], [c])
    chain.step(2 * height, add, [(c, around(0)), (b, around(0))])
    chain.step(2 * height, finish, [(c, around(1))])
    chain.run()
    assert np.array_equal(result, expected)
    assert most <= 2 * pace + 8


def test_a_window_keeps_what_it_is_told_to() -> None:
    window = Window(20, 1, 1, np.int32)
    for stop, forget in ((4, 2), (7, 5), (12, 12), (20, 13)):
        start = window.rows.stop
        window.grow(stop)
        window.rows.cut(start, stop)[:, 0, 0] = range(start, stop)
        assert window.rows.array[:, 0, 0].tolist() == list(range(window.rows.first, stop))
        window.forget(forget)
        assert window.rows.first == forget and window.rows.stop == stop
    with pytest.raises(AssertionError):
        window.rows.cut(12, 14)


def test_a_need_that_cant_be_met_is_our_mistake() -> None:
    chain = Chain()
    never = chain.window(4, 1, 1, np.int32)
    chain.step(4, lambda top, bottom: None, [(never, around(0))])
    with pytest.raises(AssertionError, match="no step can go on"):
        chain.run()
