"""Tables of Gaussians, mixed: what comes back, in which order, and how small it is."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing import splats
from codec.entropy.mixing.splats import Layout, decode, decode_columns, encode, encode_columns, sorted_rows
from codec.errors import StreamError

SPZ = Layout(
    ("scale",) * 3 + ("rotation",) * 4 + ("opacity",) + ("colour",) * 3, (8,) * 3 + (2, 10, 10, 10) + (8,) + (8,) * 3
)
WITH_HARMONICS = Layout(SPZ.roles + ("harmonics",) * 9, SPZ.bits + (8,) * 9)
FLOATS = Layout(("scale",) * 3 + ("rotation",) * 4 + ("opacity", "mass"), (32,) * 9)
compiled_here = pytest.mark.skipif(native.library() is None, reason="a slow twin stands for the compiled module here")


def _scene(layout: Layout, n: int, draw: np.random.Generator, spread: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A surface: places, and columns that vary with them."""
    angles = draw.random((n, 2)) * 6
    surface = np.stack([np.cos(angles[:, 0]), np.sin(angles[:, 0]), np.cos(angles[:, 1])], axis=1)
    positions = np.rint(spread * surface + draw.normal(0, 2, (n, 3))).astype(np.int32)
    columns = np.empty((n, len(layout.bits)), np.uint32)
    for k, bits in enumerate(layout.bits):
        smooth = 0.5 + 0.2 * np.sin(angles[:, 0] + k) + draw.normal(0, 0.03, n)
        columns[:, k] = np.clip(smooth * (1 << bits), 0, (1 << bits) - 1).astype(np.uint32)
    return positions, columns.view(np.int32)


def _comes_back(positions: np.ndarray, columns: np.ndarray, layout: Layout, groups: tuple[int, ...] = ()) -> bytes:
    data = encode(positions, columns, layout, groups)
    order = sorted_rows(positions, columns, groups)
    made = decode(data, len(positions), layout, groups)
    assert np.array_equal(made[0], positions[order]) and np.array_equal(made[1], columns[order])
    assert made[0].dtype == made[1].dtype == np.int32
    return data


@pytest.mark.parametrize("n", [0, 1, 2, 3, 20])
@pytest.mark.parametrize("layout", [SPZ, WITH_HARMONICS, FLOATS, Layout((), ())])
def test_tables_come_back(layout: Layout, n: int) -> None:
    _comes_back(*_scene(layout, n, np.random.default_rng(n)), layout)


@compiled_here
@pytest.mark.parametrize("layout", [SPZ, WITH_HARMONICS, FLOATS])
def test_larger_tables_come_back(layout: Layout) -> None:
    positions, columns = _scene(layout, 3000, np.random.default_rng(1))
    positions[100:200] = positions[:100]  # places that occur twice, and rows that do
    columns[150:200] = columns[50:100]
    data = _comes_back(positions, columns, layout)
    shuffled = np.random.default_rng(2).permutation(3000)
    assert encode(positions[shuffled], columns[shuffled], layout) == data


def test_the_twin_writes_the_same_bytes() -> None:
    for layout, groups in ((WITH_HARMONICS, ()), (FLOATS, (5, 1, 14))):
        positions, columns = _scene(layout, 20, np.random.default_rng(3))
        if layout is WITH_HARMONICS:
            columns[10:, -9:] = columns[:10, -9:]
        data = _comes_back(positions, columns, layout, groups)
        with native.using(None):
            assert _comes_back(positions, columns, layout, groups) == data


@compiled_here
def test_threads_change_no_byte() -> None:
    positions, columns = _scene(WITH_HARMONICS, 500, np.random.default_rng(4))
    before, streams = native.threads(), []
    try:
        for threads in (1, 2):
            native.set_threads(threads)
            streams.append(_comes_back(positions, columns, WITH_HARMONICS))
    finally:
        native.set_threads(before)
    assert streams[0] == streams[1]


@pytest.mark.parametrize("low", [1, 1000, -1000])
def test_the_lowest_corner_may_be_anywhere(low: int) -> None:
    """Morton codes count from the corner of the positions: a few of them, none of which has a 0."""
    for seed in range(3):
        draw = np.random.default_rng(seed)
        positions = draw.integers(low, low + 3000, (6, 3)).astype(np.int32)
        columns, layout = draw.integers(0, 256, (6, 1)).astype(np.int32), Layout(("opacity",), (8,))
        order = sorted_rows(positions, columns)
        made = decode(encode(positions, columns, layout), 6, layout)
        assert np.array_equal(made[0], positions[order]) and np.array_equal(made[1], columns[order])


@compiled_here
def test_positions_may_be_anywhere() -> None:
    draw = np.random.default_rng(5)
    layout = Layout(("opacity",), (8,))
    columns = draw.integers(0, 256, (60, 1)).astype(np.int32)
    ends = np.array([[-(1 << 31), 0, 7], [(1 << 31) - 1, -1, 7]], np.int32)
    _comes_back(draw.integers(-(1 << 31), 1 << 31, (60, 3)).astype(np.int32), columns, layout)
    _comes_back(ends.repeat(30, axis=0), columns, layout)
    _comes_back(np.full((60, 3), -9, np.int32), columns, layout)


@compiled_here
def test_groups_keep_apart() -> None:
    draw = np.random.default_rng(6)
    positions, columns = _scene(SPZ, 700, draw)
    groups = (256, 256, 1, 187)
    local = np.concatenate([part - part.min(axis=0) for part in np.split(positions, np.cumsum(groups)[:-1])])
    data = _comes_back(local.astype(np.int32), columns, SPZ, groups)
    order = sorted_rows(local, columns, groups)
    assert (np.sort(order[:256]) == np.arange(256)).all()
    lifted = positions[order]  # places across groups, as a caller would compute them
    helped = encode(local.astype(np.int32), columns, SPZ, groups, lambda _: lifted)
    assert np.array_equal(decode(helped, 700, SPZ, groups, lambda _: lifted)[1], columns[order])
    assert len(helped) < len(data)


@compiled_here
def test_what_was_measured_helps() -> None:
    """Neighbours, values that occur, and vectors that repeat make files smaller."""
    draw = np.random.default_rng(7)
    positions, columns = _scene(WITH_HARMONICS, 4000, draw)
    whole = len(encode(positions, columns, WITH_HARMONICS))
    assert whole < len(encode(positions, columns[draw.permutation(4000)], WITH_HARMONICS)) * 0.96
    few = columns & ~7
    plain = splats._palette
    small = len(encode(positions, few, WITH_HARMONICS))
    splats._palette = lambda *_: None
    try:
        assert small < len(encode(positions, few, WITH_HARMONICS))
    finally:
        splats._palette = plain
    again = columns.copy()
    again[:, -9:] = again[draw.integers(0, 300, 4000), -9:]
    assert len(encode(positions, again, WITH_HARMONICS)) < whole - 4000


@compiled_here
def test_columns_of_known_positions_come_back_in_their_order() -> None:
    draw = np.random.default_rng(8)
    positions, columns = _scene(SPZ, 2000, draw)
    later = np.clip(columns + draw.integers(-1, 2, columns.shape), 0, (1 << np.array(SPZ.bits)) - 1).astype(np.int32)
    alone = encode_columns(positions, later, SPZ)
    assert np.array_equal(decode_columns(alone, positions, SPZ), later)
    of = [(bits, k) for k, bits in enumerate(SPZ.bits)]
    told = encode_columns(positions, later, SPZ, columns, of)
    assert np.array_equal(decode_columns(told, positions, SPZ, columns, of), later)
    assert len(told) < 0.5 * len(alone)
    assert encode_columns(positions[:0], later[:0], SPZ) == b""
    assert decode_columns(b"", positions[:0], SPZ).shape == (0, 11)


@compiled_here
def test_wide_columns_of_few_values_become_ranks() -> None:
    draw = np.random.default_rng(9)
    positions, _ = _scene(SPZ, 2000, draw)
    palette = np.unique(draw.integers(0, 1 << 32, 40, dtype=np.uint32))
    columns = palette[draw.integers(0, len(palette), (2000, 1))].view(np.int32)
    data = encode_columns(positions, columns, Layout(("scale",), (32,)))
    assert np.array_equal(decode_columns(data, positions, Layout(("scale",), (32,))), columns)
    assert len(data) < 2000 * 5.6 / 8 + 300


def test_damage_is_an_error_or_other_gaussians() -> None:
    draw = np.random.default_rng(10)
    n = 300 if native.library() is not None else 8
    layout = WITH_HARMONICS
    positions, columns = _scene(layout, n, draw)
    columns[n // 2 :, -9:] = columns[: n - n // 2, -9:]
    data = encode(positions, columns, layout)
    limits = (1 << np.array(layout.bits, np.int64)) - 1
    for trial in range(60 if n == 300 else 6):
        changed = bytearray(data)
        for _ in range(1 + trial % 3):
            changed[int(draw.integers(len(data) if trial % 2 else 60))] ^= 1 << int(draw.integers(8))
        if trial % 5 == 0:
            del changed[int(draw.integers(len(data))) :]
        with contextlib.suppress(StreamError):
            places, values = decode(bytes(changed), n, layout)
            assert places.shape == (n, 3) and (values.view(np.uint32) <= limits).all()
    for wrong in (b"", data + b"x" * 9, data[:40]):
        with pytest.raises(StreamError):
            decode(wrong, n, layout)
    with pytest.raises(StreamError):
        decode(b"x", 0, layout)
    with pytest.raises(StreamError):
        decode(data, n, layout, (1, 2))


def test_wrong_tables_are_refused() -> None:
    positions, columns = _scene(SPZ, 4, np.random.default_rng(11))
    with pytest.raises(ValueError, match="layout of 11"):
        encode(positions, columns[:, :3], SPZ)
    with pytest.raises(ValueError, match="more than 8 bits"):
        encode(positions, columns + 256, SPZ)
    with pytest.raises(ValueError, match="groups"):
        encode(positions, columns, SPZ, (3,))
    with pytest.raises(ValueError, match="1 to 32"):
        Layout(("scale",), (33,))
    with pytest.raises(ValueError, match="known"):
        encode_columns(positions, columns, SPZ, positions, [(8, 0)])
