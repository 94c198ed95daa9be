"""A circuit for grids of discrete symbols of any size: indices of a vector quantiser, quantised latents, label maps.

The circuit is a hidden Chow-Liu tree (Liu, Mandt, Van den Broeck, ICLR 2022, arXiv 2111.11632; `model`) over a
window: a block of b x b cells, the column to the left of it and the row above, with the cells at both its ends. A
grid is coded block by block; of each window, what is known already is given, and only the block is coded, with
probabilities that are conditional on the rest. Beyond the border of the grid there is nothing: those cells are
marginalised, which a circuit does exactly. So one model serves all sizes, and its windows may have been cut anywhere.

Differs from a codec's `Tables`: rows need not be chosen, a symbol's distribution comes from its neighbourhood. Same: it
is made once, saved with the weights as integers, and codes the same bytes on every machine.

Blocks that don't see each other are coded in lock-step: all grids of a call, and all blocks of an anti-diagonal (a
block sees the ones to its left, above, and above to the right, so columns count twice).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError, WeightsError
from .coding import ABSENT, CodingContext, FrozenCircuit, LaneLayout
from .lanes import LaneDecoder, LaneEncoder

if TYPE_CHECKING:
    from .model import LeafKind

IntArray = NDArray[np.integer[Any]]

_LANE_BLOCKS = 64  # a lane costs 6 bytes; fewer blocks than this for each make too much of it
_MAX_LANES = 64
_MAX_SIDE = 1 << 15


class IndexModel:
    """A frozen circuit over windows of grids: `fit` makes one, `to_state` and `from_state` keep it.

    levels: symbols are 0 to levels - 1; several for grids with several channels a cell. Grids of all calls are
    (N, H, W), or (H, W); with C channels (N, H, W, C), or (H, W, C).
    circuit: over the windows' cells, row by row: (block + 1) rows of (block + 2) cells of C channels.
    """

    def __init__(self, circuit: FrozenCircuit, levels: int | Sequence[int], block: int) -> None:
        self.levels = (levels,) if isinstance(levels, int) else tuple(levels)
        self.one_channel = isinstance(levels, int)
        cells = (block + 1) * (block + 2)
        expected = np.tile(self.levels, cells)
        if circuit.sizes.shape != expected.shape or (circuit.sizes != expected).any():
            raise WeightsError(f"a circuit over {len(circuit.tree)} values for blocks of {block}x{block}: not its own")
        self.circuit, self.block = circuit, block
        known = np.ones((block + 1, block + 2), bool)
        known[1:, 1:-1] = False
        known[1:, -1] = True  # to the right of the block, below the first row: never known, so always absent
        self._known = np.repeat(known.reshape(-1), len(self.levels))

    @staticmethod
    def fit(
        grids: Sequence[IntArray] | IntArray,
        levels: int | Sequence[int] | None = None,
        block: int = 4,
        states: int = 32,
        epochs: int = 20,
        pseudocount: float = 1.0,
        max_windows: int = 50_000,
        ordinal: bool = False,
        leaves: LeafKind = "categorical",
        seed: int = 1,
        progress: Callable[[int, float], None] | None = None,
    ) -> IndexModel:
        """Fits a model to grids (H, W) or (H, W, C) of symbols, of any sizes (or one array of them).

        levels: None: one more than the largest symbol, of each channel. leaves: as of `HiddenTree`. ordinal: whether
        neighbouring symbols are alike (quantised latents) or not (codebook indices). max_windows: a random part of all
        windows if there are more.
        """
        from .fit import FitConfig, fit

        one_channel = isinstance(levels, int) or (levels is None and np.ndim(next(iter(grids), ())) == 2)
        grids = [_checked(grid) for grid in grids]
        if not grids or len({grid.shape[2] for grid in grids}) > 1:
            raise UsageError("no grids to fit an index model to, or with different numbers of channels")
        if levels is None:
            levels = (np.max([grid.max((0, 1)) for grid in grids], 0) + 1).tolist()
        per_channel = np.array([levels] if isinstance(levels, int) else levels)
        if len(per_channel) != grids[0].shape[2]:
            raise UsageError(f"{len(per_channel)} levels for grids of {grids[0].shape[2]} channels")
        rng = np.random.default_rng(seed)
        share = min(1.0, max_windows / sum((g.shape[0]) * (g.shape[1]) for g in grids))
        windows = []
        for grid in grids:
            corners = np.argwhere(rng.random(grid.shape[:2]) < share)
            windows.append(_windows(grid, corners, block, everything=True))
        x = np.concatenate(windows)
        if not len(x) or (x.reshape(-1, len(per_channel)) >= per_channel).any():
            raise UsageError(f"a symbol {x.max(initial=-1)} in grids of {levels} levels")
        config = FitConfig(
            states=states,
            epochs=epochs,
            full=1,
            pseudocount=pseudocount,
            ordinal=ordinal,
            leaves=leaves,
            seed=seed,
            batch=256,
        )
        model = fit(x, np.tile(per_channel, x.shape[1] // len(per_channel)), config, progress)
        arrays = model.to_arrays()
        circuit = FrozenCircuit.from_probabilities(
            model.tree, model.sizes, arrays["theta"], arrays["weights"], arrays["root"]
        )
        return IndexModel(circuit, int(per_channel[0]) if one_channel else per_channel.tolist(), block)

    # ------------------------------------------------------------------------------------------------ made and stored

    def to_state(self) -> dict[str, NDArray[Any]]:
        """Arrays for a safetensors file."""
        channels = 0 if self.one_channel else len(self.levels)
        return {**self.circuit.to_state(), "block": np.array([self.block, channels], np.int32)}

    @staticmethod
    def from_state(state: Mapping[str, NDArray[Any]]) -> IndexModel:
        """A model of the arrays that `to_state` made; WeightsError if they can't be such arrays."""
        block = np.asarray(state.get("block", ()))
        if block.shape != (2,) or block.dtype.kind != "i" or not (1 <= block[0] <= 64 and 0 <= block[1] <= 64):
            raise WeightsError("the index model in the weights has no valid block size")
        circuit, channels = FrozenCircuit.from_state(state), int(block[1])
        levels = circuit.sizes[:channels].tolist() if channels else int(circuit.sizes[0])
        return IndexModel(circuit, levels, int(block[0]))

    # --------------------------------------------------------------------------------------------- encode and decode

    def bits(self, grids: IntArray) -> NDArray[np.float64]:
        """The ideal code length of each grid of (N, H, W) in bits: (N,)."""
        grids = self._batch(grids)
        total = np.zeros(len(grids))
        for corners in _wavefronts(grids.shape, self.block):
            total += self.circuit.bits(*self._step(grids, corners)).reshape(len(grids), -1).sum(1)
        return total

    def encode(self, grids: IntArray) -> bytes:
        """Encodes grids (N, H, W), or one grid (H, W), as one stream."""
        grids = self._batch(grids)
        layout = self._layout(grids.shape)
        encoder = LaneEncoder(layout.lanes)
        for corners in _wavefronts(grids.shape, self.block):
            self.circuit.encode_into(encoder, layout, *self._step(grids, corners))
        return layout.to_bytes() + encoder.finish()

    def decode(self, data: bytes, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """Decodes the grids of a stream, shape (N, H, W) or (H, W). StreamError if it can't be one of them.

        The caller bounds the shape: what costs nearly nothing can be claimed in any number.
        """
        sides = tuple(shape) + ((1,) if self.one_channel else ())
        sides = sides if len(sides) == 4 else (1, *sides)
        if len(sides) != 4 or sides[3] != len(self.levels):
            raise UsageError(f"grids of shape {shape}; this model is for {len(self.levels)} channels")
        layout, body = LaneLayout.from_bytes(bytes(data), None, self.circuit.states)
        decoder = LaneDecoder(body, layout.lanes)
        grids = np.full(sides, ABSENT, np.int32)
        for corners in _wavefronts(sides, self.block):
            _, context = self._step(grids, corners)
            symbols = self.circuit.decode_from(decoder, layout, len(context.x), context)
            windows = (len(grids), len(corners), self.block + 1, self.block + 2, len(self.levels))
            inside = symbols.reshape(windows)[:, :, 1:, 1:-1]
            for (y, x), blocks in zip(corners.tolist(), inside.swapaxes(0, 1), strict=True):
                part = grids[:, y : y + self.block, x : x + self.block]
                part[:] = blocks[:, : part.shape[1], : part.shape[2]]
        decoder.finish()
        return grids.reshape(shape)

    def _layout(self, sides: Sequence[int]) -> LaneLayout:
        n_blocks = sides[0] * -(-sides[1] // self.block) * -(-sides[2] // self.block)
        lanes = min(_MAX_LANES, 1 << max(0, (n_blocks // _LANE_BLOCKS).bit_length() - 1))
        return LaneLayout.of(n_blocks, self.circuit.states, lanes)

    def _batch(self, grids: IntArray) -> IntArray:
        """The given grids as (N, H, W, C). UsageError if they don't fit this model."""
        out = np.asarray(grids)
        if self.one_channel:
            out = out[..., None]
        if out.ndim == 3:
            out = out[None]
        fits = out.ndim == 4 and out.dtype.kind in "iu" and max(out.shape[1:3]) <= _MAX_SIDE
        if not fits or out.shape[3] != len(self.levels):
            raise UsageError(
                f"grids are {np.asarray(grids).dtype} {np.shape(grids)}; expected integers (N, H, W"
                f"{'' if self.one_channel else f', {len(self.levels)}'})"
            )
        if out.size and (out.min() < 0 or (out >= self.levels).any()):
            raise UsageError(f"symbols are {out.min()} to {out.max()}; this model has {self.levels} levels")
        return out

    def _step(self, grids: IntArray, corners: IntArray) -> tuple[IntArray, CodingContext]:
        """The windows of a step, grid by grid, and what is known of them: everything but the block."""
        x = np.concatenate([_windows(grid, corners, self.block) for grid in grids])
        given = np.where(self._known, x, 0)
        inside = _windows(np.zeros(grids.shape[1:], np.int32), corners, self.block)
        given[:, ~self._known] = np.tile(inside[:, ~self._known], (len(grids), 1))  # 0, or ABSENT beyond the border
        return np.where(given == ABSENT, ABSENT, x), CodingContext(given, self._known)


def _checked(grid: IntArray) -> IntArray:
    """A grid to fit to as (H, W, C). UsageError if it can't be one."""
    grid = np.asarray(grid)
    if grid.ndim == 2:
        grid = grid[:, :, None]
    if grid.ndim != 3 or grid.dtype.kind not in "iu" or 0 in grid.shape or max(grid.shape) > _MAX_SIDE:
        raise UsageError(f"a grid is {grid.dtype} {grid.shape}; expected integers (H, W)")
    if grid.min() < 0:
        raise UsageError("a grid has negative symbols: add an offset")
    return grid


def _wavefronts(sides: Sequence[int], block: int) -> list[IntArray]:
    """The corners (K, 2) of the blocks of each step: those with one value of 2 row + column, blind to each other.

    sides: (N, H, W, ...).
    """
    if 0 in sides:
        return []
    rows, columns = (-(-side // block) for side in sides[1:3])
    y, x = (axis.reshape(-1) for axis in np.mgrid[0:rows, 0:columns])
    step = 2 * y + x
    corners = np.stack([y, x], axis=1) * block
    return [corners[step == now] for now in range(int(step.max(initial=-1)) + 1) if (step == now).any()]


def _windows(grid: IntArray, corners: IntArray, block: int, everything: bool = False) -> NDArray[np.int32]:
    """The windows (K, cells * C) of a grid (H, W, C), for blocks with these corners (K, 2).

    ABSENT beyond the grid and, unless everything is asked for, to the right of the block below its first row, where
    nothing is known when the block is coded.
    """
    padded = np.pad(grid.astype(np.int32), ((1, block), (1, block + 1), (0, 0)), constant_values=ABSENT)
    y = corners[:, 0, None, None] + np.arange(block + 1)[:, None]
    x = corners[:, 1, None, None] + np.arange(block + 2)
    out = padded[y, x]
    if not everything:
        out[:, 1:, -1] = ABSENT
    return out.reshape(len(corners), -1)
