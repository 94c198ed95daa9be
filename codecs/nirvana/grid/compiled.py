"""The passes of coefficients.py by compiled kernels (native/passes.py): the same symbols in the same rows.

`code_levels` and `code_coefficients` give None where there are no kernels, or they can't do it: the loops there can.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ....errors import StreamError
from ....native import passes
from .context import Grids, PlaneContext, PlaneDecisions, magnitude_table
from .symbols import LARGEST, Coding, Int, costs

if TYPE_CHECKING:
    from .networks import Mlp, Nets

__all__ = ["choice_of", "code_coefficients", "code_levels", "read_pyramid"]

Bytes = NDArray[np.uint8]
_TOP = 127  # the largest feature
_DAMAGED = "the group is damaged: there are no such symbols"


def _network(net: Mlp, constants: tuple[Mapping[int, int], ...]) -> passes.Network | None:
    """The network with the features that are the same everywhere, for each kind of pass, in its biases."""
    fixed = np.zeros((len(constants), len(net.w1)), np.int64)
    for row, values in zip(fixed, constants, strict=True):
        for feature, value in values.items():
            row[feature] = min(value, _TOP)
    try:
        return passes.Network(net.w1, fixed @ net.w1 + 64 * net.b1 + 32, net.w2.T, 64 * net.b2 + 128)
    except (AssertionError, ValueError):
        return None


def _small(grid: Int) -> Bytes:
    return grid.astype(np.uint8)


def code_levels(
    io: Coding, net: Mlp, c: PlaneContext, constants: Mapping[int, int], decisions: PlaneDecisions | None
) -> tuple[Int, NDArray[np.float32] | None] | None:
    """The levels (h, w) of all blocks, and what the network gave, in quarters of log-odds, if anybody wants it."""
    coder = io.passes()
    tally = decisions.tally if decisions else None
    if coder is None or (tally is not None and tally.gather):
        return None
    network = _network(net, (constants,))
    if network is None:
        return None
    h, w = c.past.level.shape
    past, cross, twin = (_small(grids.level) if grids.some else None for grids in (c.past, c.cross, c.twin))
    given = None if decisions is None else _small(decisions.levels)
    try:
        levels, steps, out = passes.levels(
            coder,
            network,
            c.texture.low.reshape(-1, h, w),
            past,
            cross,
            twin,
            _small(c.motion),
            given,
            tally is not None,
        )
    except ValueError as error:
        raise StreamError(_DAMAGED) from error
    for rows, symbols in steps:
        io.code(rows, symbols)
    return levels.astype(np.int64), None if out is None else out.reshape(len(out), -1).astype(np.float32) / 256


@lru_cache(maxsize=1)
def _magnitudes() -> Bytes:
    return np.ascontiguousarray(magnitude_table()[: LARGEST + 1])


def code_coefficients(
    io: Coding,
    nets: Nets,
    c: PlaneContext,
    constants: tuple[Mapping[int, int], Mapping[int, int]],
    levels: Int,
    large: NDArray[np.bool_],
    decisions: PlaneDecisions | None,
) -> tuple[Int, Bytes] | None:
    """The coefficients of a plane, and the features of their magnitudes, both (64, h, w). constants: of either pass."""
    coder = io.passes()
    if coder is None or (decisions is not None and decisions.tally is not None and decisions.tally.gather):
        return None
    network = _network(nets.coefficients, constants)
    given = None
    if decisions is not None:
        given = decisions.choice if decisions.choice is not None else decisions.coefficients
    if network is None or (decisions is not None and given is None):
        return None
    texture = c.texture.at(levels > 0, large)
    of_block = np.empty((3, *levels.shape), np.uint8)
    of_block[0] = texture.take((1, 8, 9, 2, 16), axis=0).sum(0, dtype=np.int16) // 5
    of_block[1] = np.minimum(c.past.level * 8, _TOP)
    of_block[2] = np.minimum(c.motion, _TOP)

    def given_grid(grids: Grids) -> Bytes | None:
        return np.ascontiguousarray(grids.magnitude) if grids.some else None

    try:
        q, magnitude, steps = passes.coefficients(
            coder, network, 64 * nets.band_bias[c.kind], _magnitudes(), c.first_band, _small(levels),
            (texture, given_grid(c.cross), given_grid(c.twin), given_grid(c.past)), of_block, given,
        )  # fmt: skip
    except ValueError as error:
        raise StreamError(_DAMAGED) from error
    for rows, symbols in steps:
        io.code(rows, symbols)
    return q.astype(np.int64), magnitude


def read_pyramid(coder: passes.Coder, shape: tuple[int, ...]) -> Int:
    """The field (h, w, channels) that a pyramid makes of what was expected, less that."""
    try:
        return passes.pyramid(coder, (shape[0], shape[1], shape[2]))
    except ValueError as error:
        raise StreamError(_DAMAGED) from error


def choice_of(target: NDArray[np.float64], lmbda: float, spent: NDArray[np.float64]) -> passes.Choice:
    """The choice of coefficients for a target (64, h, w), in steps; `spent` (5, h, w) takes what bands cost."""
    return passes.Choice(np.ascontiguousarray(target), costs(), lmbda, spent)
