"""How the latents of a picture are cut into tiles, so that memory doesn't grow with the picture.

Lengths are in cells: a cell is a place of y, and 16 x 16 pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELL", "TILE", "Tile", "around", "mirrored_pixels", "spans", "tiles"]

CELL = 16  # pixels to a side
TILE = 48  # cells to a side of a tile

Tile = tuple[range, range]  # rows and columns of cells


def spans(size: int, even: bool = False) -> list[range]:
    """0...size, cut about every TILE cells: a TILE each and the last up to half as large again; or evenly."""
    count = max(1, round(size / TILE))
    starts = [size * index // count if even else TILE * index for index in range(count)]
    return [range(start, stop) for start, stop in pairwise([*starts, size])]


def tiles(height: int, width: int, even: bool = False) -> Iterator[Tile]:
    """Tiles of y (..., height, width), which cover it without overlap, row after row."""
    return product(spans(height, even), spans(width, even))


def around(cells: range, size: int, halo: int, multiple: int = 1) -> range:
    """The cells with a halo to each side, inside 0...size.

    It starts at a multiple, and its length is rounded up to a multiple, for which it may reach beyond the size.
    """
    start = max(0, cells.start - halo) // multiple * multiple
    stop = min(size, cells.stop + halo)
    return range(start, stop + -(stop - start) % multiple)


def mirrored_pixels(cells: range, size: int) -> NDArray[np.intp]:
    """Indices of the pixels of these cells, folded into 0...size - 1 by reflection about the first and last edge."""
    pixels = np.arange(cells.start * CELL, cells.stop * CELL) % (2 * size)
    return np.minimum(pixels, 2 * size - 1 - pixels)
