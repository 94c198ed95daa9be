"""Packets: an index map in parts of equal size, any of which may be lost while the others still say what they hold.

The paper loses indices and restores them, but has no packets (Mao et al., "Extreme Image Compression using Fine-tuned
VQGANs", arXiv 2307.08265): one damaged byte of its arithmetic-coded stream loses all. Here indices are packed in fixed
numbers of bits, and neighbouring cells go to different packets, so that what is lost has neighbours to be restored
from. Numbers, counts and checksums of packets are the container's (`container.PACKET`). May import entropy and
container; no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...container import MAX_PACKETS, PACKET, Chunk
from ...errors import StreamError, UsageError
from .indices import pack_bits, unpack_bits

__all__ = ["read", "spread", "write"]


def write(indices: NDArray[np.integer[Any]], bits: int, n_packets: int) -> list[Chunk]:
    """The packets of an index map (h, w) whose indices have so many bits: n_packets, or one a cell if there are fewer.

    UsageError for a number of packets that can't be.
    """
    if not 1 <= n_packets <= MAX_PACKETS:
        raise UsageError(f"{n_packets} packets: expected 1 to {MAX_PACKETS}")
    cells = np.asarray(indices).ravel()
    parts = spread(indices.shape, min(n_packets, cells.size))
    return [Chunk(PACKET, pack_bits(cells[part], bits)) for part in parts]


def read(chunks: Sequence[Chunk], bits: int, shape: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The index map (h, w) of all packets of a file, and which of its cells were lost: there it is 0.

    chunks: those of `container.unpack`, or of `salvage`, where a lost packet has no payload. StreamError for packets
    that can't be of such a map, and if all were lost.
    """
    n_cells = shape[0] * shape[1]
    if not 1 <= len(chunks) <= min(MAX_PACKETS, n_cells) or any(chunk.tag != PACKET for chunk in chunks):
        raise StreamError(f"{len(chunks)} packets for {n_cells} indices: the file is damaged")
    indices, lost = np.zeros(n_cells, np.int32), np.zeros(n_cells, bool)
    for chunk, part in zip(chunks, spread(shape, len(chunks)), strict=True):
        if chunk.payload:
            indices[part] = unpack_bits(chunk.payload, bits, len(part))
        else:
            lost[part] = True
    if lost.all():
        raise StreamError("all packets of the file are lost: get it again")
    return indices.reshape(shape), lost.reshape(shape)


def spread(shape: tuple[int, ...], n_packets: int) -> list[NDArray[np.intp]]:
    """The cells (raster numbers) of each packet: as many, but for one, and far from each other.

    Cell (y, x) belongs to class (x + step y) mod n; the classes, one behind the other, are cut into equal parts. The
    step makes the least distance of two cells of a class as large as it can be.
    """
    y, x = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    order = np.argsort((x + _step(n_packets) * y) % n_packets, kind="stable")
    return np.array_split(order, n_packets)


@lru_cache(maxsize=64)
def _step(n: int) -> int:
    """The step from row to row, below n, for which equal classes are farthest apart; the least of several."""
    dy = np.arange(1, 2 + int(2 * n**0.5))
    dx = (np.arange(n)[:, None] * dy) % n
    squares = np.minimum(dx, n - dx) ** 2 + dy**2
    return int(np.minimum(squares.min(1), n * n).argmax())
