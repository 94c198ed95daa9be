"""How the grids of one plane are coded: which blocks hold how much, then their coefficients, from low to high.

Everything goes in a few passes over whole grids. Levels (0: nothing, 4: all frequencies) go in four passes over a
lattice of blocks; coefficients in seven groups of rising frequency, each in two passes over a checkerboard, so that
every coefficient sees the lower ones of its block and of all blocks around, and half of them all four neighbours of
their own kind. What a network sees of that are features, integers from 0 to 127.

Speed is a matter of few calls: features are made for whole planes and then picked where blocks have something, those
that are the same for a whole pass are a part of the first layer's bias, and what depends on a plane's size only is
kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import StreamError
from .nirvana_grid_code import LARGEST, YES, Coding, Int, Rows, code_static, rows_of
from .nirvana_grid_net import UNIT, Mlp, Nets
from .nirvana_grid_transform import BANDS, Bool, Float, blocks, forward16, forward_bands, of_pairs

Bytes = NDArray[np.uint8]
Short = NDArray[np.int16]
Single = NDArray[np.float32]
LEVELS = 4
_DIAGONALS = (1, 3, 6, 14)  # the highest diagonal of each level
_GROUPS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 14))
_TOP = 127
COEFFICIENT_FEATURES = 26
LEVEL_FEATURES = 24


@lru_cache(maxsize=1)
def magnitude_table() -> Bytes:
    """8 log2(1 + |q|), rounded; negative indices count from the end, so it takes q with its sign."""
    table = np.round(8 * np.log2(1 + np.arange(LARGEST + 1))).astype(np.uint8)
    return np.concatenate([table, table[:0:-1]])


@lru_cache(maxsize=1)
def _ratio_table() -> Bytes:
    """8 log2(1 + r / 2), rounded, for r a quarter of a step."""
    return np.round(8 * np.log2(1 + np.arange(LARGEST + 1) / 2)).astype(np.uint8)


def ratios(coefficients: Float, step: int) -> Bytes:
    """Features of |coefficients| (in units of 2**-24 sixteenths) against the step: one correctly rounded division."""
    r = np.abs(coefficients)
    r /= step * 2.0**22
    np.minimum(r, LARGEST, out=r)
    return _ratio_table().take(r.astype(np.int32))  # at least 0: the integer below


@dataclass(frozen=True)
class Group:
    bands: Int  # (n,)
    level: int  # blocks of this level and above have it
    before: Int  # (5, n) places of the bands one step lower in either direction, then two steps; 64: there is none
    places: slice  # of the bands, in order of groups
    several: bool  # diagonals: some bands are lower ones of others


@lru_cache(maxsize=1)
def groups() -> tuple[Group, ...]:
    diagonals = [[(u, v) for u in range(8) for v in range(8) if first <= u + v <= last] for first, last in _GROUPS]
    place = {uv: k for k, uv in enumerate(uv for group in diagonals for uv in group)}
    found, done = [], 0
    for (first, last), uv in zip(_GROUPS, diagonals, strict=True):
        level = 1 + next(i for i, d in enumerate(_DIAGONALS) if last <= d)
        steps = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
        before = np.array([[place.get((u - du, v - dv), BANDS) for u, v in uv] for du, dv in steps])
        bands = np.array([8 * u + v for u, v in uv])
        found.append(Group(bands, level, before, slice(done, done + len(uv)), first < last))
        done += len(uv)
    return tuple(found)


@lru_cache(maxsize=1)
def _in_order() -> Int:
    """(64,) the bands, by groups."""
    return np.concatenate([group.bands for group in groups()])


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

    @cached_property
    def some(self) -> bool:
        """Whether there is any. Where it isn't, the magnitudes are all zero, too."""
        return bool(self.level.any())

    def halved(self, h: int, w: int) -> Grids:
        """Of a plane of half the resolution, (h, w) blocks: the largest of each 2x2."""
        assert 2 * h >= self.level.shape[0] and 2 * w >= self.level.shape[1]
        if not self.some:
            return Grids.empty(h, w)
        return Grids(_halved(self.magnitude, h, w), _halved(self.level[None], h, w)[0])


def _halved(grid: NDArray[Any], h: int, w: int) -> NDArray[Any]:
    if grid.shape[1:] != (2 * h, 2 * w):
        grid = np.pad(grid, [(0, 0), (0, 2 * h - grid.shape[1]), (0, 2 * w - grid.shape[2])])
    tall = np.maximum(grid[:, ::2], grid[:, 1::2])
    return np.maximum(tall[..., ::2], tall[..., 1::2])


# bands whose texture the network of levels sees: the lowest, then two rings of higher ones
_LOW = (1, 8, 9, 2, 16, 10, 17, 18, 3, 24, 11, 25, 27, 36, 4, 32)


class Texture:
    """Features of a prediction's coefficients, made where they are asked for."""

    def __init__(self, prediction: Float, step: int) -> None:
        h, w = prediction.shape
        self._prediction, self._step = prediction, step
        self._blocks = blocks(prediction, 8).reshape(-1, BANDS)
        self._there = np.zeros(h * w // BANDS, bool)
        self._grid = np.zeros((BANDS, h // 8, w // 8), np.uint8)

    @cached_property
    def low(self) -> Bytes:
        """(16, h w) of the bands `_LOW` under 8x8 transforms."""
        return ratios(forward_bands(self._blocks, _LOW), self._step)

    def at(self, where: Bool, large: Bool) -> Bytes:
        """(64, h, w), right at the blocks `where`; under 16x16 transforms at `large` (h / 2, w / 2)."""
        missing = np.flatnonzero(where.ravel() & ~self._there)
        if len(missing):
            self._there[missing] = True
            found = forward_bands(self._blocks.take(missing, axis=0), None)
            self._grid.reshape(BANDS, -1)[:, missing] = ratios(found, self._step)
        if not large.any():
            return self._grid
        grid = self._grid.copy()
        of_pairs(grid)[:, :, :, large] = ratios(forward16(self._prediction, large), self._step)
        return grid


@dataclass
class Context:
    """What a plane's grids are coded in the light of.

    kind: 0 luma or 1 chroma, plus 2 for a predicted frame. past: grids of the references, summed. cross: grids of
    luma, for chroma. twin: grids of the first chroma plane, for the second. motion: (h, w) feature.
    """

    kind: int
    depth: int
    step_index: int
    texture: Texture
    past: Grids
    cross: Grids
    twin: Grids
    motion: Int
    first_band: int = 0  # 1: the averages are coded elsewhere


@dataclass
class Tally:
    """What an encoder wants to know of a pass. gather: features and symbols, too, not just what levels cost."""

    gather: bool = True
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
    pick: Callable[[Rows, Int, Int], Int]
    tally: Tally | None = None


# --------------------------------------------------------------------------------------------------------- networks


class First(NamedTuple):
    """The first layer for one kind of pass. columns: (H, K + 1), of the features that vary and of a one behind them."""

    seen: tuple[int, ...]
    columns: Single

    @staticmethod
    def of(net: Mlp, seen: tuple[int, ...], fixed: dict[int, int]) -> First:
        """fixed: features that are the same everywhere, and not zero."""
        w1, b1, _, _ = net.scaled
        bias = b1.copy()
        for feature, value in fixed.items():
            bias += w1[:, feature] * np.float32(min(value, _TOP))
        return First(seen, np.concatenate([w1[:, seen], bias[:, None]], 1))

    def odds(self, net: Mlp, features: Single) -> Single:
        """(K + 1, n) -> (O, n) in quarters, half a unit up: floor rounds them."""
        _, _, w2, b2 = net.scaled
        h = self.columns @ features
        np.floor(h, out=h)
        np.maximum(h, 0, out=h)
        np.minimum(h, 255, out=h)
        z = w2 @ h
        z += b2[:, None]
        return z

    def spread(self, features: Single, fixed: dict[int, int], n: int) -> NDArray[np.uint8]:
        """(features.shape[1], n): all features, as training wants them."""
        out = np.zeros((features.shape[1], n), np.uint8)
        for feature, value in fixed.items():
            out[:, feature] = min(value, _TOP)
        out[:, self.seen] = features[:-1].T
        return out


# ----------------------------------------------------------------------------------------------------------- levels


class _Lattice(NamedTuple):
    """A pass over the blocks of a lattice. Ring: blocks with a border of one, flat."""

    rows: slice
    columns: slice
    blocks: Int  # (n,)
    inside: Int  # (n,) in the ring
    around: Int  # (8, n) in the ring: above, below, left, right, corners
    known: Int  # (2, n) how many of the first four and the last four are known, times 21
    known_features: Single  # (2, n)


@lru_cache(maxsize=16)
def _lattices(h: int, w: int) -> tuple[_Lattice, ...]:
    found = []
    done = np.zeros((h + 2, w + 2), np.int64)
    flat = np.arange(done.size).reshape(done.shape)
    for by, bx in ((0, 0), (1, 1), (0, 1), (1, 0)):
        rows, columns = slice(by, h, 2), slice(bx, w, 2)
        inside = flat[1:-1, 1:-1][rows, columns].ravel()
        if not len(inside):
            continue
        side = w + 2
        steps = np.array([-side, side, -1, 1, -side - 1, -side + 1, side - 1, side + 1])
        around = inside + steps[:, None]
        known = done.ravel()[around].reshape(2, 4, -1).sum(1)
        where = np.arange(h * w).reshape(h, w)[rows, columns].ravel()
        found.append(_Lattice(rows, columns, where, inside, around, known * 21, (known * 4).astype(np.float32)))
        done.ravel()[inside] = 1
    return tuple(found)


@lru_cache(maxsize=1)
def _mean_table() -> Single:
    """At 21 known + s: the feature of the mean of `known` levels whose sum, with one for each, is s."""
    known, s = np.arange(5)[:, None], np.arange(21)[None]
    return np.clip(64 * (s - known) // np.maximum(2 * known, 1), 0, _TOP).astype(np.float32).ravel()


_LEVEL_SEEN = (0, 2, 1, 3, 18, 4, 5, 6, 7, 8, 9, 10, 11)


def _level_statics(c: Context) -> Single:
    """(8, h w): features 4 to 11, that don't depend on levels of this plane."""
    h, w = c.past.level.shape
    f = np.zeros((8, h, w), np.float32)
    t = c.texture.low.reshape(len(_LOW), h, w)
    f[0] = t[:3].sum(0, dtype=np.int16) // 3
    f[1] = t[3:8].sum(0, dtype=np.int16) // 5
    f[2] = t[8:].sum(0, dtype=np.int16) // 8
    if c.past.some:
        past = c.past.level
        f[3] = past * 8
        f[4, 1:] += past[:-1]
        f[4, :-1] += past[1:]
        f[4, :, 1:] += past[:, :-1]
        f[4, :, :-1] += past[:, 1:]
        f[4] *= 4
    if c.cross.some:
        f[5] = c.cross.level * 16
    if c.twin.some:
        f[6] = c.twin.level * 16
    f[7] = c.motion
    return np.minimum(f, _TOP, out=f).reshape(8, -1)


def code_levels(io: Coding, net: Mlp, c: Context, wanted: Wanted | None) -> Int:
    h, w = c.past.level.shape
    ring = np.zeros((h + 2, w + 2), np.int64)  # the level + 1 where it is known
    flat = ring.reshape(-1)
    statics = _level_statics(c)
    fixed = {12: c.step_index * 2, 13: c.depth * 16, 14 + c.kind: 16}
    first = First.of(net, _LEVEL_SEEN, fixed)
    tally = wanted.tally if wanted else None
    for lattice in _lattices(h, w):
        n = len(lattice.blocks)
        features = np.empty((len(_LEVEL_SEEN) + 1, n), np.float32)
        near = flat.take(lattice.around)
        sums = near.reshape(2, 4, n).sum(1)
        features[:2] = _mean_table().take(sums + lattice.known)
        features[2:4] = lattice.known_features
        np.minimum(near.max(0) * 32, _TOP, out=features[4], casting="unsafe")
        features[5:-1] = statics.take(lattice.blocks, axis=1)
        features[-1] = 1
        z = first.odds(net, features)  # (LEVELS, n)
        rows = rows_of(z) + np.uint8(YES)
        true = wanted.levels.reshape(-1).take(lattice.blocks) if wanted else None
        level = np.zeros(n, np.int64)
        if tally and tally.gather:
            seen = first.spread(features, fixed, LEVEL_FEATURES)
        here = np.arange(n)
        for k in range(LEVELS):
            more = None if true is None else (true[here] > k).astype(np.int64)
            found = io.code(rows[k] if k == 0 else rows[k].take(here), more)
            if tally and tally.gather and more is not None:
                tally.level_features.append(seen[here])
                tally.level_choice.append(np.full(len(here), k))
                tally.level_symbols.append(more)
            if (found & ~1).any():
                raise StreamError("the group is damaged: there is no such level")
            here = here[found > 0] if k else np.flatnonzero(found)
            if not len(here):
                break
            level[here] = k + 1
        if tally:
            if tally.level_bits is None:
                tally.level_bits = np.zeros((LEVELS + 1, h, w))
            bits = level_bits((z - np.float32(0.5)) * np.float32(256))
            tally.level_bits.reshape(LEVELS + 1, -1)[:, lattice.blocks] = bits
        flat[lattice.inside] = level + 1
    return ring[1:-1, 1:-1] - 1


def level_bits(z: NDArray[np.float32]) -> Float:
    """(LEVELS, n) -> (LEVELS + 1, n): what each level costs."""
    logit = z.astype(np.float64) / UNIT
    stop, go = np.logaddexp(0, logit) / np.log(2), np.logaddexp(0, -logit) / np.log(2)
    before = np.cumsum(go, 0)
    return np.concatenate([stop[:1], before[:-1] + stop[1:], before[-1:]])


# ----------------------------------------------------------------------------------------------------- coefficients


@lru_cache(maxsize=16)
def _board(h: int, w: int) -> tuple[tuple[Bool, Bool], Int]:
    """The two colours (h w,) of a checkerboard; the place (h w,) of each block in a ring of one around them."""
    odd = (np.add.outer(np.arange(h), np.arange(w)) & 1).astype(bool).ravel()
    return (~odd, odd), np.arange((h + 2) * (w + 2)).reshape(h + 2, w + 2)[1:-1, 1:-1].ravel()


def _sides(m: Short) -> Short:
    """(n, h, w) -> (2, n, h, w): sums of the neighbours beside, and of those above and below."""
    out = np.zeros((2, *m.shape), np.int16)
    out[0, :, :, 1:] = m[:, :, :-1]
    out[0, :, :, :-1] += m[:, :, 1:]
    out[1, :, 1:] = m[:, :-1]
    out[1, :, :-1] += m[:, 1:]
    return out


_LOWER = (0, 1, 4, 25)  # of lower bands here, two steps lower, of lower bands beside, above
_OWN = (3, 24)  # of the same band beside, above: in the second pass
_OF_BLOCK = (2, 5, 7, 11, 22, 12)
_OF_BAND = (14, 15, 23)


def code_coefficients(
    io: Coding, net: Mlp, bias: Int, c: Context, levels: Int, large: Bool, wanted: Wanted | None
) -> tuple[Int, Bytes]:
    """Coefficients and their magnitudes (64, h, w). bias: (kinds, 64), in sixteenths of log-odds."""
    h, w = levels.shape
    n_blocks = h * w
    level = levels.reshape(-1)
    if not level.any():
        return np.zeros((BANDS, h, w), np.int64), np.zeros((BANDS, h, w), np.uint8)
    colours, inside = _board(h, w)
    # in order of groups; the last magnitude is of the band that isn't there
    q = np.zeros((BANDS, n_blocks), np.int64)
    sizes = np.zeros((BANDS + 1, n_blocks), np.int16)
    sides = np.zeros((2, BANDS + 1, n_blocks), np.int16)
    total = np.zeros((h + 2, w + 2), np.int32)
    texture = c.texture.at(levels > 0, large).reshape(BANDS, -1)
    given = [(6, texture)]
    given += [
        (feature, grids.magnitude.reshape(BANDS, -1))
        for feature, grids in ((8, c.cross), (9, c.twin), (10, c.past))
        if grids.some
    ]
    of_block = np.empty((4, n_blocks), np.int16)
    of_block[0] = texture.take((1, 8, 9, 2, 16), axis=0).sum(0, dtype=np.int16) // 5
    of_block[1] = c.past.level.reshape(-1) * 8
    of_block[2] = c.motion.reshape(-1)
    of_block[3] = level * 16
    np.minimum(of_block, _TOP, out=of_block)
    fixed = {16: c.step_index * 2, 17: c.depth * 16, 18 + c.kind: 16}
    both = (fixed, fixed | {13: 16})
    common = _LOWER + tuple(feature for feature, _ in given)
    layers = (
        First.of(net, common + _OF_BLOCK + _OF_BAND, both[0]),
        First.of(net, common + _OWN + _OF_BLOCK + _OF_BAND, both[1]),
    )
    quarter = (bias[c.kind] * 0.25).astype(np.float32)
    for group in groups():
        if group.bands[0] < c.first_band:
            continue
        have = level >= group.level
        if not have.any():
            break  # nor are there higher ones
        bands, places = group.bands, group.places
        maps = _maps(group, sizes, sides, [grid for _, grid in given])
        for second, colour in enumerate(colours):
            block = np.flatnonzero(have & colour)
            n = len(block)
            if not n:
                continue
            if second:  # the first colour is known around these blocks
                sides[:, places] = _sides(sizes[places].reshape(-1, h, w)).reshape(2, -1, n_blocks)
                if group.several:
                    _of_neighbours(group, sides, maps)
            features = np.empty((len(layers[second].seen) + 1, len(bands), n), np.float32)
            k = len(common)
            features[:k] = maps.take(block, axis=2)
            if second:
                np.minimum(sides[:, places].take(block, axis=2), _TOP, out=features[k : k + 2])
                k += 2
            features[k : k + 6] = _block_features(total, of_block, block, inside, group.level)[:, None]
            features[k + 6 : -1] = _band_features(bands)[:, :, None]
            features[-1] = 1
            z = layers[second].odds(net, features.reshape(len(features), -1)).reshape(len(bands), n)
            z += quarter[bands][:, None]
            rows = rows_of(z).reshape(-1)
            found = io.code(rows, wanted.pick(rows, bands, block) if wanted else None)
            if wanted and wanted.tally and wanted.tally.gather:
                flat = features.reshape(len(features), -1)
                wanted.tally.features.append(layers[second].spread(flat, both[second], COEFFICIENT_FEATURES))
                wanted.tally.bands.append(bands.repeat(n))
                wanted.tally.symbols.append(found)
            found = found.reshape(len(bands), n)
            size = magnitude_table().take(found)
            q[places][:, block] = found
            sizes[places][:, block] = size
            total.reshape(-1)[inside[block]] += size.sum(0, dtype=np.int32)
        sides[:, places] = _sides(sizes[places].reshape(-1, h, w)).reshape(2, -1, n_blocks)
    back = np.argsort(_in_order())
    return q[back].reshape(BANDS, h, w), sizes[back].astype(np.uint8).reshape(BANDS, h, w)


def _maps(group: Group, sizes: Short, sides: Short, given: list[Bytes]) -> Short:
    """(features, bands, blocks) that both passes of a group see: `_LOWER`, then those that are given."""
    a, b, c, d, e = group.before
    out = np.empty((4 + len(given), len(group.bands), sizes.shape[1]), np.int16)
    np.add(sizes[a], sizes[b], out=out[0])
    np.add(sizes[c], sizes[d], out=out[1])
    out[1] += sizes[e]
    np.minimum(out[:2], _TOP, out=out[:2])
    _of_neighbours(group, sides, out)
    for k, grid in enumerate(given, 4):
        out[k] = grid[group.bands]
    return out


def _of_neighbours(group: Group, sides: Short, out: Short) -> None:
    a, b = group.before[:2]
    np.add(sides[:, a], sides[:, b], out=out[2:4])
    np.minimum(out[2:4], _TOP, out=out[2:4])


def _block_features(total: NDArray[np.int32], of_block: Short, block: Int, inside: Int, level: int) -> Short:
    """(6, n), in the order of `_OF_BLOCK`."""
    out = np.empty((6, len(block)), np.int16)
    at, flat, side = inside[block], total.reshape(-1), total.shape[1]
    np.minimum(flat[at] >> 2, _TOP, out=out[0], casting="unsafe")
    around = flat[at - 1] + flat[at + 1] + flat[at - side] + flat[at + side]
    np.minimum(around >> 4, _TOP, out=out[1], casting="unsafe")
    out[2:] = of_block.take(block, axis=1)
    out[5] -= 16 * level
    return out


def _band_features(bands: Int) -> Single:
    """(3, n), in the order of `_OF_BAND`."""
    u, v = bands // 8, bands % 8
    return np.stack([u, v, u + v]).astype(np.float32) * 8


def code_plane(io: Coding, nets: Nets, c: Context, wanted: Wanted | None) -> tuple[Int, Grids, Bool]:
    """Coefficients (64, h, w), their grids, which 16x16 blocks have one transform (h / 2, w / 2)."""
    io.part("levels")
    levels = code_levels(io, nets.levels, c, wanted)
    io.part("coefficients")
    h, w = levels.shape
    large = np.zeros((h // 2, w // 2), bool)
    some = _halved(levels[None], h // 2, w // 2)[0] > 0
    n = int(np.count_nonzero(some))
    if n:
        flags = wanted.large[some].astype(np.int64) if wanted and wanted.large is not None else None
        if wanted and flags is None:
            flags = np.zeros(n, np.int64)
        large[some] = code_static(io, flags, (n,), yes=True) > 0
    q, magnitude = code_coefficients(io, nets.coefficients, nets.band_bias, c, levels, large, wanted)
    return q, Grids(magnitude, levels), large
