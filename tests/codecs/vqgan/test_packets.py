"""Packets of an index map: equal, spread, exact, and strict about their sizes."""

from __future__ import annotations

import numpy as np
import pytest

from codec.codecs.vqgan import packets
from codec.container import PACKET, Chunk
from codec.errors import StreamError, UsageError

SHAPES = [(32, 48), (1, 1), (1, 40), (40, 1), (7, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bits", [3, 8, 14])
@pytest.mark.parametrize("n", [1, 2, 16, 1024])
def test_round_trip(shape: tuple[int, int], bits: int, n: int) -> None:
    indices = np.random.default_rng(n).integers(0, 1 << bits, shape)
    chunks = packets.write(indices, bits, n)
    assert len(chunks) == min(n, indices.size) and all(chunk.tag == PACKET for chunk in chunks)
    sizes = {len(chunk.payload) for chunk in chunks}
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 2
    back, lost = packets.read(chunks, bits, shape)
    assert np.array_equal(back, indices) and not lost.any()


def test_what_is_lost_is_known_and_spread() -> None:
    indices = np.random.default_rng(1).integers(0, 256, (32, 48))
    chunks = packets.write(indices, 8, 16)
    chunks[3] = Chunk(PACKET, b"")
    back, lost = packets.read(chunks, 8, (32, 48))
    assert lost.sum() == 96 and np.array_equal(back[~lost], indices[~lost]) and not back[lost].any()
    y, x = np.nonzero(lost)
    distance = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    assert distance[distance > 0].min() == 16  # four cells apart


@pytest.mark.parametrize("n", [2, 5, 16, 100])
def test_the_step_is_the_best(n: int) -> None:
    """By going over all pairs of cells of one class."""
    y, x = (axis.ravel() for axis in np.mgrid[0 : 2 * n, 0 : 2 * n])
    y, x = y[: 1 << 12], x[: 1 << 12]

    def apart(step: int) -> int:
        cells = np.stack([y, x], 1)[(x + step * y) % n == 0]
        far = np.square(cells - cells[len(cells) // 2]).sum(1)
        return int(far[far > 0].min())

    if n <= 16:
        assert apart(packets._step(n)) == max(map(apart, range(n)))
    assert apart(packets._step(n)) >= 0.7 * n


def test_damage() -> None:
    indices = np.zeros((4, 5), int)
    good = packets.write(indices, 3, 4)
    wrong = [
        [*good[:3], Chunk(PACKET, good[3].payload + b"\0")],
        [*good[:3], Chunk(PACKET, good[3].payload[:-1])],
        [*good[:3], Chunk(PACKET, good[3].payload[:-1] + b"\1")],  # bits behind the last index
        [*good[:3], Chunk("Indx", good[3].payload)],
        [],
        packets.write(np.zeros((4, 6), int), 3, 24),
        [Chunk(PACKET, b"")] * 4,
    ]
    for chunks in wrong:
        with pytest.raises(StreamError):
            packets.read(chunks, 3, (4, 5))
    for n in (0, -1, 1025):
        with pytest.raises(UsageError, match="1 to 1024"):
            packets.write(indices, 3, n)
