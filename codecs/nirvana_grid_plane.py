"""How the grids of one plane are coded: which blocks hold how much, then their coefficients, from low to high.

Everything goes in a few passes over whole grids. Levels (0: nothing, 4: all frequencies) go in four passes over a
lattice of blocks; coefficients in seven groups of rising frequency, each in two passes over a checkerboard, so that
every coefficient sees the lower ones of its block and of all blocks around, and half of them all four neighbours of
their own kind. What a network sees of that are features, integers from 0 to 127.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StreamError
from .nirvana_grid_code import LARGEST, YES, Coding, Int, code_static, row_of
from .nirvana_grid_net import UNIT, Mlp, Nets
from .nirvana_grid_transform import BANDS, Bool, Float, of_pairs

Bytes = NDArray[np.uint8]
LEVELS = 4
_DIAGONALS = (1, 3, 6, 14)  # the highest diagonal of each level
_GROUPS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 14))
_TOP = 127
COEFFICIENT_FEATURES = 26
LEVEL_FEATURES = 24


@lru_cache(maxsize=1)
def magnitude_table() -> Bytes:
    """8 log2(1 + |q|), rounded."""
    return np.round(8 * np.log2(1 + np.arange(LARGEST + 1))).astype(np.uint8)


@lru_cache(maxsize=1)
def _ratio_table() -> Bytes:
    """8 log2(1 + r / 2), rounded, for r a quarter of a step."""
    return np.round(8 * np.log2(1 + np.arange(LARGEST + 1) / 2)).astype(np.uint8)


def magnitudes(q: Int) -> Bytes:
    return magnitude_table()[np.minimum(np.abs(q), LARGEST)]


def ratios(coefficients: Float, step: int) -> Bytes:
    """Features of |coefficients| (in units of 2**-24 sixteenths) against the step: one correctly rounded division."""
    r = np.floor(np.abs(coefficients) / (step * 2.0**22))
    return _ratio_table()[np.minimum(r, LARGEST).astype(np.int64)]


@dataclass(frozen=True)
class Group:
    bands: Int  # (n,)
    level: int  # blocks of this level and above have it
    before: tuple[Int, ...]  # (n,) bands one step lower in either direction, then two steps; 64: there is none


@lru_cache(maxsize=1)
def groups() -> tuple[Group, ...]:
    found = []
    for first, last in _GROUPS:
        uv = [(u, v) for u in range(8) for v in range(8) if first <= u + v <= last]
        level = 1 + next(i for i, d in enumerate(_DIAGONALS) if last <= d)

        def band(du: int, dv: int, uv: list[tuple[int, int]] = uv) -> Int:
            return np.array([8 * (u - du) + v - dv if u >= du and v >= dv else BANDS for u, v in uv])

        steps = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
        found.append(Group(band(0, 0), level, tuple(band(*step) for step in steps)))
    return tuple(found)


@lru_cache(maxsize=1)
def _band_levels() -> Int:
    """(64,) the lowest level that has each band."""
    levels = np.zeros(BANDS, np.int64)
    for group in groups():
        levels[group.bands] = group.level
    return levels


def levels_of(q: Int) -> Int:
    """(64, h, w) -> (h, w): the level that holds all that isn't zero."""
    return ((q != 0) * _band_levels()[:, None, None]).max(0)


@dataclass
class Grids:
    """What is known of a coded plane: its coefficients' magnitudes (64, h, w) and levels (h, w)."""

    magnitude: Bytes
    level: Int

    @staticmethod
    def empty(h: int, w: int) -> Grids:
        return Grids(np.zeros((BANDS, h, w), np.uint8), np.zeros((h, w), np.int64))

    def halved(self, h: int, w: int) -> Grids:
        """Of a plane of half the resolution, (h, w) blocks: the largest of each 2x2."""
        even = [(0, 2 * h - self.level.shape[0]), (0, 2 * w - self.level.shape[1])]
        assert even[0][1] >= 0 and even[1][1] >= 0
        return Grids(
            of_pairs(np.pad(self.magnitude, [(0, 0), *even])).max((1, 2)),
            of_pairs(np.pad(self.level, even)[None])[0].max((0, 1)),
        )


@dataclass
class Context:
    """What a plane's grids are coded in the light of.

    kind: 0 luma or 1 chroma, plus 2 for a predicted frame. texture: features of the prediction's coefficients under
    8x8 transforms. retexture: those for given 16x16 blocks. past: grids of the references, summed. cross: grids of
    luma, for chroma. twin: grids of the first chroma plane, for the second. motion: (h, w) feature.
    """

    kind: int
    depth: int
    step_index: int
    texture: Bytes
    retexture: Callable[[Bool], Bytes]
    past: Grids
    cross: Grids
    twin: Grids
    motion: Int
    first_band: int = 0  # 1: the averages are coded elsewhere


@dataclass
class Tally:
    """What an encoder wants to know of a pass."""

    features: list[NDArray[np.uint8]] = field(default_factory=list)
    bands: list[Int] = field(default_factory=list)
    symbols: list[Int] = field(default_factory=list)
    level_features: list[NDArray[np.uint8]] = field(default_factory=list)
    level_choice: list[Int] = field(default_factory=list)
    level_symbols: list[Int] = field(default_factory=list)
    level_bits: Float | None = None  # (LEVELS + 1, h, w)


@dataclass
class Wanted:
    """An encoder's side of it. pick(rows, bands, blocks): coefficients for a pass; blocks are flat indices."""

    levels: Int
    large: Bool | None
    pick: Callable[[Int, Int, Int], Int]
    tally: Tally | None = None


def code_levels(io: Coding, net: Mlp, c: Context, wanted: Wanted | None) -> Int:
    h, w = c.past.level.shape
    ring = np.zeros((h + 2, w + 2), np.int64)  # the level + 1 where it is known
    parts = [_level_statics(c)]
    for by, bx in ((0, 0), (1, 1), (0, 1), (1, 0)):
        ys, xs = np.arange(by, h, 2), np.arange(bx, w, 2)
        if not (len(ys) and len(xs)):
            continue
        features = _level_features(parts[0][by::2, bx::2], ring, by, bx)
        z = net(features.reshape(-1, features.shape[-1]))  # (n, LEVELS)
        true = wanted.levels[by::2, bx::2].ravel() if wanted else None
        level = np.zeros(len(ys) * len(xs), np.int64)
        for k in range(LEVELS):
            here = np.flatnonzero(level == k)
            rows = row_of(z[here, k], UNIT) + YES
            level[here] += io.code(rows, None if true is None else (true[here] > k).astype(np.int64))
            if wanted and wanted.tally and true is not None:
                wanted.tally.level_features.append(features.reshape(-1, features.shape[-1])[here])
                wanted.tally.level_choice.append(np.full(len(here), k))
                wanted.tally.level_symbols.append((true[here] > k).astype(np.int64))
        if wanted and wanted.tally:
            if wanted.tally.level_bits is None:
                wanted.tally.level_bits = np.zeros((LEVELS + 1, h, w))
            wanted.tally.level_bits[:, by::2, bx::2] = level_bits(z).reshape(LEVELS + 1, len(ys), len(xs))
        if (level < 0).any() or (level > LEVELS).any():
            raise StreamError("the group is damaged: there is no such level")
        ring[1 + by : 1 + h : 2, 1 + bx : 1 + w : 2] = level.reshape(len(ys), len(xs)) + 1
    return ring[1:-1, 1:-1] - 1


def level_bits(z: NDArray[np.float32]) -> Float:
    """(n, LEVELS) -> (LEVELS + 1, n): what each level costs."""
    logit = z.T.astype(np.float64) / UNIT
    stop, go = np.logaddexp(0, logit) / np.log(2), np.logaddexp(0, -logit) / np.log(2)
    before = np.cumsum(go, 0)
    return np.concatenate([stop[:1], before[:-1] + stop[1:], before[-1:]])


def _level_statics(c: Context) -> NDArray[np.uint8]:
    """(h, w, LEVEL_FEATURES), the ones that depend on neighbours left at zero."""
    h, w = c.past.level.shape
    f = np.zeros((h, w, LEVEL_FEATURES), np.int64)
    t = c.texture.astype(np.int64)
    f[..., 4] = t[[1, 8, 9]].sum(0) // 3
    f[..., 5] = t[[2, 16, 10, 17, 18]].sum(0) // 5
    f[..., 6] = t[[3, 24, 11, 25, 27, 36, 4, 32]].sum(0) // 8
    past = np.pad(c.past.level, 1)
    f[..., 7] = past[1:-1, 1:-1] * 8
    f[..., 8] = (past[:-2, 1:-1] + past[2:, 1:-1] + past[1:-1, :-2] + past[1:-1, 2:]) * 4
    f[..., 9] = c.cross.level * 16
    f[..., 10] = c.twin.level * 16
    f[..., 11] = c.motion
    f[..., 12] = c.step_index * 2
    f[..., 13] = c.depth * 16
    f[..., 14 + c.kind] = 16
    return np.minimum(f, _TOP).astype(np.uint8)


def _level_features(statics: NDArray[np.uint8], ring: Int, by: int, bx: int) -> NDArray[np.uint8]:
    f = statics.copy()
    h, w = ring.shape[0] - 2, ring.shape[1] - 2

    def at(dy: int, dx: int) -> Int:
        return ring[1 + dy + by : 1 + dy + h : 2, 1 + dx + bx : 1 + dx + w : 2]

    cross = [at(-1, 0), at(1, 0), at(0, -1), at(0, 1)]
    corners = [at(-1, -1), at(-1, 1), at(1, -1), at(1, 1)]
    for place, around in ((0, cross), (2, corners)):
        known = sum((n > 0).astype(np.int64) for n in around)
        total = sum(np.maximum(n - 1, 0) for n in around)
        f[..., place] = np.minimum(_TOP, 64 * total // np.maximum(known * 2, 1))
        f[..., place + 1] = known * 4
    f[..., 18] = np.minimum(_TOP, 32 * np.maximum.reduce(cross + corners))
    return f


def code_coefficients(io: Coding, net: Mlp, bias: Int, c: Context, levels: Int, wanted: Wanted | None) -> Int:
    """(64, h, w). bias: (kinds, 64), in sixteenths of log-odds."""
    h, w = levels.shape
    q = np.zeros((BANDS, h, w), np.int64)
    flat = q.reshape(BANDS, -1)
    ring = np.zeros((BANDS + 1, h + 2, w + 2), np.int16)  # magnitudes; band 64 is the one that isn't there
    total = np.zeros((h + 2, w + 2), np.int64)
    odd = (np.add.outer(np.arange(h), np.arange(w)) & 1).astype(bool)
    for group in groups():
        keep = group.bands >= c.first_band
        if not keep.any():
            continue
        for second in (False, True):
            block = np.flatnonzero((levels >= group.level) & (odd == second))
            if not len(block):
                continue
            features = _features(c, group, ring, total, levels, block, second)
            rows = row_of(net(features)[:, 0] + bias[c.kind, group.bands].repeat(len(block)) * (UNIT // 16), UNIT)
            symbols = wanted.pick(rows, group.bands, block) if wanted else None
            found = io.code(rows, symbols).reshape(len(group.bands), len(block))
            if wanted and wanted.tally:
                wanted.tally.features.append(features)
                wanted.tally.bands.append(group.bands.repeat(len(block)))
                wanted.tally.symbols.append(found.ravel())
            flat[group.bands[:, None], block] = found
            y, x = np.divmod(block, w)
            size = magnitudes(found)
            ring[group.bands[:, None], y + 1, x + 1] = size
            total[y + 1, x + 1] += size.sum(0, dtype=np.int64)
    return q


def _features(
    c: Context, group: Group, ring: NDArray[np.int16], total: Int, levels: Int, block: Int, second: bool
) -> NDArray[np.uint8]:
    """(bands x blocks, COEFFICIENT_FEATURES), bands outermost."""
    w = levels.shape[1]
    bands, n = group.bands, len(block)
    f = np.zeros((COEFFICIENT_FEATURES, len(bands), n), np.int16)
    y, x = np.divmod(block, w)
    at = (y + 1) * (w + 2) + x + 1
    m = ring.reshape(BANDS + 1, -1)
    beside, above = (at - 1, at + 1), (at - w - 2, at + w + 2)

    def of(grid: NDArray[Any], band: Int, place: Int) -> NDArray[Any]:
        return grid[band[:, None], place[None]]

    one = group.before[:2]
    f[0] = sum(of(m, b, at) for b in one)
    f[1] = sum(of(m, b, at) for b in group.before[2:])
    f[2] = (total.ravel()[at] // 4)[None]
    if second:
        f[3] = sum(of(m, bands, place) for place in beside)
        f[24] = sum(of(m, bands, place) for place in above)
    f[4] = sum(of(m, b, place) for b in one for place in beside)
    f[25] = sum(of(m, b, place) for b in one for place in above)
    f[5] = (total.ravel()[np.stack([*beside, *above])].sum(0) // 16)[None]
    texture = c.texture.reshape(BANDS, -1)
    f[6] = of(texture, bands, block)
    f[7] = (texture[[1, 8, 9, 2, 16]][:, block].sum(0, dtype=np.int16) // 5)[None]
    f[8] = of(c.cross.magnitude.reshape(BANDS, -1), bands, block)
    f[9] = of(c.twin.magnitude.reshape(BANDS, -1), bands, block)
    f[10] = of(c.past.magnitude.reshape(BANDS, -1), bands, block)
    f[11] = (c.past.level.ravel()[block] * 8)[None]
    f[12] = ((levels.ravel()[block] - group.level) * 16)[None]
    f[13] = 16 if second else 0
    f[14], f[15] = (bands // 8 * 8)[:, None], (bands % 8 * 8)[:, None]
    f[16] = c.step_index * 2
    f[17] = c.depth * 16
    f[18 + c.kind] = 16
    f[22] = (c.motion.ravel()[block])[None]
    f[23] = ((bands // 8 + bands % 8) * 8)[:, None]
    return np.minimum(f, _TOP).astype(np.uint8).reshape(COEFFICIENT_FEATURES, -1).T


def code_plane(io: Coding, nets: Nets, c: Context, wanted: Wanted | None) -> tuple[Int, Int, Bool]:
    """Coefficients (64, h, w), levels (h, w), which 16x16 blocks have one transform (h / 2, w / 2)."""
    io.part("levels")
    levels = code_levels(io, nets.levels, c, wanted)
    io.part("coefficients")
    h, w = levels.shape
    large = np.zeros((h // 2, w // 2), bool)
    some = of_pairs(levels[None])[0].max((0, 1)) > 0
    if some.any():
        flags = wanted.large[some].astype(np.int64) if wanted and wanted.large is not None else None
        if wanted and flags is None:
            flags = np.zeros(int(some.sum()), np.int64)
        large[some] = code_static(io, flags, (int(some.sum()),), yes=True) > 0
    if large.any():
        texture = c.texture.copy()
        of_pairs(texture)[:, :, :, large] = c.retexture(large)
        c = replace(c, texture=texture)
    return code_coefficients(io, nets.coefficients, nets.band_bias, c, levels, wanted), levels, large
