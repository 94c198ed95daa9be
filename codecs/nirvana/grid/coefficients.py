"""Coding of the grids of a plane: which blocks hold how much, then their coefficients, from low to high.

Everything goes in a few passes over whole grids. Levels (0: nothing, 4: all frequencies) go in four passes over a
lattice of blocks; coefficients in seven groups of rising frequency, each in two passes over a checkerboard, so that
every coefficient sees the lower ones of its block and of all blocks around, and half of them all four neighbours of
their own kind. What a network sees of that are features, integers from 0 to 127.

Speed is a matter of few calls: features are made for whole planes and then picked where blocks have something, those
that are the same for a whole pass are a part of the first layer's bias, and what depends on a plane's size only is
kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....errors import StreamError
from . import compiled
from .context import LOW, Bytes, Grids, PlaneContext, PlaneDecisions, halved, magnitude_table
from .networks import UNIT, Mlp, Nets
from .symbols import YES, Coding, Int, code_static, rows_of
from .transform import BANDS, Bool, Float

Short = NDArray[np.int16]
Single = NDArray[np.float32]
LEVELS = 4
_DIAGONALS = (1, 3, 6, 14)  # the highest diagonal of each level
_GROUPS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 14))
_TOP = 127
Constants = dict[int, int]  # feature to the value that it has everywhere


class LevelFeature(IntEnum):
    """The numbers of the features that the network of levels sees, the columns of its first layer."""

    BESIDE = 0  # mean level of the neighbours beside, above and below that are known
    N_BESIDE = 1  # how many these are
    CORNERS = 2  # mean level of the neighbours at the corners that are known
    N_CORNERS = 3
    TEXTURE = 4  # of the lowest bands of the prediction; 5, 6: of two rings of higher ones
    PAST = 7  # level of the references here
    PAST_AROUND = 8
    CROSS = 9  # level of luma, for chroma
    TWIN = 10  # level of the first chroma plane, for the second
    MOTION = 11
    STEP = 12  # index of the quantiser step
    DEPTH = 13  # in the mini-GOP
    KIND = 14  # 14 to 17: one of them is set, by the plane's kind
    LARGEST = 18  # level of the neighbours that are known


class CoefficientFeature(IntEnum):
    """The numbers of the features that the network of coefficients sees, the columns of its first layer.

    Unless said otherwise, features are of magnitudes. Lower bands are those one step lower in either direction.
    """

    LOWER = 0  # of the lower bands of this block
    LOWER_TWO = 1  # of the bands of this block that are two steps lower
    BLOCK = 2  # of all that is coded of this block
    OWN_BESIDE = 3  # of the same band of the blocks left and right
    LOWER_BESIDE = 4  # of the lower bands of the blocks left and right
    AROUND = 5  # of all that is coded of the four blocks around
    TEXTURE = 6  # of the prediction's coefficient
    TEXTURE_LOW = 7  # of the prediction's lowest coefficients
    CROSS = 8  # of luma, for chroma
    TWIN = 9  # of the first chroma plane, for the second
    PAST = 10  # of the references
    PAST_LEVEL = 11  # level of the references
    LEVELS_ABOVE = 12  # how many levels the block's is above the lowest that has the band
    SECOND_COLOUR = 13  # whether this is the second pass of the checkerboard
    FREQUENCY_V, FREQUENCY_U = 14, 15  # of the band: vertical, horizontal
    STEP = 16  # index of the quantiser step
    DEPTH = 17  # in the mini-GOP
    KIND = 18  # 18 to 21: one of them is set, by the plane's kind
    MOTION = 22
    DIAGONAL = 23  # of the band: the sum of its frequencies
    OWN_ABOVE = 24  # of the same band of the blocks above and below
    LOWER_ABOVE = 25  # of the lower bands of the blocks above and below


COEFFICIENT_FEATURES = 26
LEVEL_FEATURES = 24


@dataclass(frozen=True)
class BandGroup:
    """The bands that are coded in one go: those of some diagonals."""

    bands: Int  # (n,)
    level: int  # blocks of this level and above have it
    before: Int  # (5, n) places of the bands one step lower in either direction, then two steps; 64: there is none
    places: slice  # of the bands, in order of groups
    several: bool  # diagonals: some bands are lower ones of others


@lru_cache(maxsize=1)
def band_groups() -> tuple[BandGroup, ...]:
    """All groups of bands, in coding order."""
    diagonals = [[(u, v) for u in range(8) for v in range(8) if first <= u + v <= last] for first, last in _GROUPS]
    place = {uv: k for k, uv in enumerate(uv for group in diagonals for uv in group)}
    groups, done = [], 0
    for (first, last), uv in zip(_GROUPS, diagonals, strict=True):
        level = 1 + next(i for i, d in enumerate(_DIAGONALS) if last <= d)
        steps = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
        before = np.array([[place.get((u - du, v - dv), BANDS) for u, v in uv] for du, dv in steps])
        bands = np.array([8 * u + v for u, v in uv])
        groups.append(BandGroup(bands, level, before, slice(done, done + len(uv)), first < last))
        done += len(uv)
    return tuple(groups)


@lru_cache(maxsize=1)
def _in_order() -> Int:
    """The bands in order of their groups: (64,)."""
    return np.concatenate([group.bands for group in band_groups()])


@lru_cache(maxsize=1)
def band_levels() -> Int:
    """The lowest level that has each band: (64,)."""
    levels = np.zeros(BANDS, np.int64)
    for group in band_groups():
        levels[group.bands] = group.level
    return levels


def levels_of(q: Int) -> Int:
    """The lowest level of each block that holds all that isn't zero: (64, h, w) -> (h, w)."""
    return ((q != 0) * band_levels()[:, None, None]).max(0)


# --------------------------------------------------------------------------------------------------------- networks


class FirstLayer(NamedTuple):
    """The first layer of a network for one kind of pass.

    seen: the K features that vary within it. columns: (H, K + 1), of these and of a constant 1 behind them.
    """

    seen: tuple[int, ...]
    columns: Single

    @staticmethod
    def of(net: Mlp, seen: tuple[int, ...], constants: Constants) -> FirstLayer:
        """The layer for these features. constants: features that are the same everywhere, and not zero."""
        w1, b1, _, _ = net.scaled
        bias = b1.copy()
        for feature, value in constants.items():
            bias += w1[:, feature] * np.float32(min(value, _TOP))
        return FirstLayer(seen, np.concatenate([w1[:, seen], bias[:, None]], 1))

    def odds(self, net: Mlp, features: Single) -> Single:
        """The log-odds (O, n) for features (K + 1, n), in quarters, half a unit up: floor rounds them."""
        _, _, w2, b2 = net.scaled
        h = self.columns @ features
        np.floor(h, out=h)
        np.maximum(h, 0, out=h)
        np.minimum(h, 255, out=h)
        z = w2 @ h
        z += b2[:, None]
        return z

    def spread(self, features: Single, constants: Constants, n_features: int) -> NDArray[np.uint8]:
        """All `n_features` of the columns of features (K + 1, n), as training wants them: (n, n_features)."""
        out = np.zeros((features.shape[1], n_features), np.uint8)
        for feature, value in constants.items():
            out[:, feature] = min(value, _TOP)
        out[:, self.seen] = features[:-1].T
        return out


# ----------------------------------------------------------------------------------------------------------- levels


class _Lattice(NamedTuple):
    """A pass over the blocks of a lattice. The ring: all blocks with a border of one, flat."""

    rows: slice
    columns: slice
    blocks: Int  # (n,)
    inside: Int  # (n,) in the ring
    around: Int  # (8, n) in the ring: above, below, left, right, corners
    known: Int  # (2, n) how many of the first four and the last four are known, times 21
    known_features: Single  # (2, n)


@lru_cache(maxsize=16)
def _lattices(h: int, w: int) -> tuple[_Lattice, ...]:
    lattices = []
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
        lattices.append(_Lattice(rows, columns, where, inside, around, known * 21, (known * 4).astype(np.float32)))
        done.ravel()[inside] = 1
    return tuple(lattices)


@lru_cache(maxsize=1)
def _mean_table() -> Single:
    """The feature of the mean of `known` levels, whose sum with 1 for each is s, at 21 known + s."""
    known, s = np.arange(5)[:, None], np.arange(21)[None]
    return np.clip(64 * (s - known) // np.maximum(2 * known, 1), 0, _TOP).astype(np.float32).ravel()


# those that vary within a pass, in the order in which `code_levels` makes them: of this plane, then `_level_statics`
_LEVEL_SEEN: tuple[int, ...] = (
    LevelFeature.BESIDE,
    LevelFeature.CORNERS,
    LevelFeature.N_BESIDE,
    LevelFeature.N_CORNERS,
    LevelFeature.LARGEST,
    *range(LevelFeature.TEXTURE, LevelFeature.MOTION + 1),
)


def _level_statics(c: PlaneContext) -> Single:
    """The features that don't depend on levels of this plane, from TEXTURE to MOTION: (8, h w)."""
    h, w = c.past.level.shape
    f = np.zeros((8, h, w), np.float32)
    t = c.texture.low.reshape(len(LOW), h, w)
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


def code_levels(io: Coding, net: Mlp, c: PlaneContext, decisions: PlaneDecisions | None) -> Int:
    """Codes the levels of all blocks: (h, w)."""
    h, w = c.past.level.shape
    constants: Constants = {
        LevelFeature.STEP: c.step_index * 2,
        LevelFeature.DEPTH: c.depth * 16,
        LevelFeature.KIND + c.kind: 16,
    }
    tally = decisions.tally if decisions else None
    coded = compiled.code_levels(io, net, c, constants, decisions)
    if coded is not None:
        levels, outputs = coded
        if tally and outputs is not None:
            tally.level_bits = level_bits((outputs - np.float32(0.5)) * np.float32(256)).reshape(LEVELS + 1, h, w)
        return levels
    ring = np.zeros((h + 2, w + 2), np.int64)  # the level + 1 where it is known
    flat = ring.reshape(-1)
    statics = _level_statics(c)
    first = FirstLayer.of(net, _LEVEL_SEEN, constants)
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
        true = decisions.levels.reshape(-1).take(lattice.blocks) if decisions else None
        level = np.zeros(n, np.int64)
        if tally and tally.gather:
            seen = first.spread(features, constants, LEVEL_FEATURES)
        here = np.arange(n)
        for k in range(LEVELS):
            more = None if true is None else (true[here] > k).astype(np.int64)
            goes_on = io.code(rows[k] if k == 0 else rows[k].take(here), more)
            if tally and tally.gather and more is not None:
                tally.level_features.append(seen[here])
                tally.level_choice.append(np.full(len(here), k))
                tally.level_symbols.append(more)
            if (goes_on & ~1).any():
                raise StreamError("the group is damaged: there is no such level")
            here = here[goes_on > 0] if k else np.flatnonzero(goes_on)
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
    """The bits of each level, by the log-odds of going on to the next: (LEVELS, n) -> (LEVELS + 1, n)."""
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
    """The sums of the neighbours beside, and of those above and below: (n, h, w) -> (2, n, h, w)."""
    out = np.zeros((2, *m.shape), np.int16)
    out[0, :, :, 1:] = m[:, :, :-1]
    out[0, :, :, :-1] += m[:, :, 1:]
    out[1, :, 1:] = m[:, :-1]
    out[1, :, :-1] += m[:, 1:]
    return out


# the features of a pass over coefficients that vary within it, in the order in which they are made
_LOWER: tuple[int, ...] = (
    CoefficientFeature.LOWER,
    CoefficientFeature.LOWER_TWO,
    CoefficientFeature.LOWER_BESIDE,
    CoefficientFeature.LOWER_ABOVE,
)
_OWN: tuple[int, ...] = (CoefficientFeature.OWN_BESIDE, CoefficientFeature.OWN_ABOVE)  # of the second pass only
_OF_BLOCK: tuple[int, ...] = (
    CoefficientFeature.BLOCK,
    CoefficientFeature.AROUND,
    CoefficientFeature.TEXTURE_LOW,
    CoefficientFeature.PAST_LEVEL,
    CoefficientFeature.MOTION,
    CoefficientFeature.LEVELS_ABOVE,
)
_OF_BAND: tuple[int, ...] = (
    CoefficientFeature.FREQUENCY_V,
    CoefficientFeature.FREQUENCY_U,
    CoefficientFeature.DIAGONAL,
)


def code_coefficients(
    io: Coding, nets: Nets, c: PlaneContext, levels: Int, large: Bool, decisions: PlaneDecisions | None
) -> tuple[Int, Bytes]:
    """Codes the coefficients of a plane: they, and the features of their magnitudes, both (64, h, w).

    levels: (h, w). large: (h / 2, w / 2), blocks with a 16x16 transform.
    """
    h, w = levels.shape
    if not levels.any():
        return np.zeros((BANDS, h, w), np.int64), np.zeros((BANDS, h, w), np.uint8)
    coded = compiled.code_coefficients(io, nets, c, _pass_constants(c), levels, large, decisions)
    if coded is not None:
        return coded
    coding = _Coefficients(io, nets, c, levels, large, decisions)
    for group in band_groups():
        if group.bands[0] >= c.first_band and not coding.code(group):
            break
    return coding.in_band_order()


def _pass_constants(c: PlaneContext) -> tuple[Constants, Constants]:
    """The features that are the same everywhere in either pass, and not zero."""
    constants: Constants = {
        CoefficientFeature.STEP: c.step_index * 2,
        CoefficientFeature.DEPTH: c.depth * 16,
        CoefficientFeature.KIND + c.kind: 16,
    }
    return constants, constants | {CoefficientFeature.SECOND_COLOUR: 16}


class _Coefficients:
    """The coefficients of a plane while they are coded, group after group of their bands, with all that features need.

    Arrays are in the order of the groups; the last magnitude is that of a band that doesn't exist.
    """

    def __init__(
        self, io: Coding, nets: Nets, c: PlaneContext, levels: Int, large: Bool, decisions: PlaneDecisions | None
    ) -> None:
        self._io, self._net, self._decisions = io, nets.coefficients, decisions
        self._h, self._w = levels.shape
        n_blocks = self._h * self._w
        self._level = levels.reshape(-1)
        self._colours, self._inside = _board(self._h, self._w)
        self._q = np.zeros((BANDS, n_blocks), np.int64)
        self._sizes = np.zeros((BANDS + 1, n_blocks), np.int16)
        self._sides = np.zeros((2, BANDS + 1, n_blocks), np.int16)
        self._total = np.zeros((self._h + 2, self._w + 2), np.int32)  # of each block's magnitudes, with a ring of zeros
        texture = c.texture.at(levels > 0, large).reshape(BANDS, -1)
        past = (
            (CoefficientFeature.CROSS, c.cross),
            (CoefficientFeature.TWIN, c.twin),
            (CoefficientFeature.PAST, c.past),
        )
        coded_before = [(feature, grids.magnitude.reshape(BANDS, -1)) for feature, grids in past if grids.some]
        self._given = [texture, *(grid for _, grid in coded_before)]
        self._common = (*_LOWER, CoefficientFeature.TEXTURE, *(feature for feature, _ in coded_before))
        self._of_block = self._block_constants(c, texture)
        self._layers = self._first_layers(c)
        self._bias = (nets.band_bias[c.kind] * 0.25).astype(np.float32)  # of each band, in quarters of log-odds

    def _block_constants(self, c: PlaneContext, texture: Bytes) -> Short:
        """The features of `_OF_BLOCK` that this plane's coefficients don't change, the last four: (4, blocks)."""
        out = np.empty((4, len(self._level)), np.int16)
        out[0] = texture.take((1, 8, 9, 2, 16), axis=0).sum(0, dtype=np.int16) // 5
        out[1] = c.past.level.reshape(-1) * 8
        out[2] = c.motion.reshape(-1)
        out[3] = self._level * 16
        return np.minimum(out, _TOP, out=out)

    def _first_layers(self, c: PlaneContext) -> tuple[tuple[FirstLayer, Constants], tuple[FirstLayer, Constants]]:
        """The first layer of either pass, and the features that are constant in it."""
        constants, in_second = _pass_constants(c)
        return (
            (FirstLayer.of(self._net, self._common + _OF_BLOCK + _OF_BAND, constants), constants),
            (FirstLayer.of(self._net, self._common + _OWN + _OF_BLOCK + _OF_BAND, in_second), in_second),
        )

    def code(self, group: BandGroup) -> bool:
        """Codes a group of bands in two passes, where levels have them; whether any level has."""
        have = self._level >= group.level
        if not have.any():
            return False
        maps = _maps(group, self._sizes, self._sides, self._given)
        for second, colour in enumerate(self._colours):
            block = np.flatnonzero(have & colour)
            if not len(block):
                continue
            if second:  # the first colour is known around these blocks
                self._update_sides(group)
                if group.several:
                    _of_neighbours(group, self._sides, maps)
            self._pass(group, block, maps, second)
        self._update_sides(group)
        return True

    def _update_sides(self, group: BandGroup) -> None:
        sizes = self._sizes[group.places].reshape(-1, self._h, self._w)
        self._sides[:, group.places] = _sides(sizes).reshape(2, -1, len(self._level))

    def _pass(self, group: BandGroup, block: Int, maps: Short, second: int) -> None:
        """Codes the coefficients of some blocks, (n,) flat indices."""
        bands, places, n = group.bands, group.places, len(block)
        layer, constants = self._layers[second]
        features = self._features(group, block, maps, second, len(layer.seen))
        flat = features.reshape(len(features), -1)
        z = layer.odds(self._net, flat).reshape(len(bands), n)
        z += self._bias[bands][:, None]
        rows = rows_of(z).reshape(-1)
        decisions = self._decisions
        q = self._io.code(rows, decisions.pick(rows, bands, block) if decisions else None)
        if decisions and decisions.tally and decisions.tally.gather:
            decisions.tally.features.append(layer.spread(flat, constants, COEFFICIENT_FEATURES))
            decisions.tally.bands.append(bands.repeat(n))
            decisions.tally.symbols.append(q)
        q = q.reshape(len(bands), n)
        size = magnitude_table().take(q)
        self._q[places][:, block] = q
        self._sizes[places][:, block] = size
        self._total.reshape(-1)[self._inside[block]] += size.sum(0, dtype=np.int32)

    def _features(self, group: BandGroup, block: Int, maps: Short, second: int, n_seen: int) -> Single:
        """The features of a pass, and a 1 behind them: (K + 1, bands, n)."""
        features = np.empty((n_seen + 1, len(group.bands), len(block)), np.float32)
        k = len(self._common)
        features[:k] = maps.take(block, axis=2)
        if second:
            np.minimum(self._sides[:, group.places].take(block, axis=2), _TOP, out=features[k : k + 2])
            k += 2
        of_block = _block_features(self._total, self._of_block, block, self._inside, group.level)
        features[k : k + 6] = of_block[:, None]
        features[k + 6 : -1] = _band_features(group.bands)[:, :, None]
        features[-1] = 1
        return features

    def in_band_order(self) -> tuple[Int, Bytes]:
        """The coefficients and the features of their magnitudes, both (64, h, w)."""
        back = np.argsort(_in_order())
        shape = (BANDS, self._h, self._w)
        return self._q[back].reshape(shape), self._sizes[back].astype(np.uint8).reshape(shape)


def _maps(group: BandGroup, sizes: Short, sides: Short, given: list[Bytes]) -> Short:
    """The features that the two passes of a group share: (features, bands, blocks), `_LOWER`, then those given."""
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


def _of_neighbours(group: BandGroup, sides: Short, out: Short) -> None:
    """Writes the features LOWER_BESIDE and LOWER_ABOVE into `_maps`."""
    a, b = group.before[:2]
    np.add(sides[:, a], sides[:, b], out=out[2:4])
    np.minimum(out[2:4], _TOP, out=out[2:4])


def _block_features(total: NDArray[np.int32], of_block: Short, block: Int, inside: Int, level: int) -> Short:
    """The features of blocks: (6, n), in the order of `_OF_BLOCK`."""
    out = np.empty((6, len(block)), np.int16)
    at, flat, side = inside[block], total.reshape(-1), total.shape[1]
    np.minimum(flat[at] >> 2, _TOP, out=out[0], casting="unsafe")
    around = flat[at - 1] + flat[at + 1] + flat[at - side] + flat[at + side]
    np.minimum(around >> 4, _TOP, out=out[1], casting="unsafe")
    out[2:] = of_block.take(block, axis=1)
    out[5] -= 16 * level
    return out


def _band_features(bands: Int) -> Single:
    """The features of bands: (3, n), in the order of `_OF_BAND`."""
    u, v = bands // 8, bands % 8
    return np.stack([u, v, u + v]).astype(np.float32) * 8


def code_plane(io: Coding, nets: Nets, c: PlaneContext, decisions: PlaneDecisions | None) -> tuple[Int, Grids, Bool]:
    """Codes a plane: its coefficients (64, h, w), their grids, which 16x16 blocks have one transform (h / 2, w / 2)."""
    io.section("levels")
    levels = code_levels(io, nets.levels, c, decisions)
    io.section("coefficients")
    h, w = levels.shape
    large = np.zeros((h // 2, w // 2), bool)
    some = halved(levels[None], h // 2, w // 2)[0] > 0
    n = int(np.count_nonzero(some))
    if n:
        flags = decisions.large[some].astype(np.int64) if decisions and decisions.large is not None else None
        if decisions and flags is None:
            flags = np.zeros(n, np.int64)
        large[some] = code_static(io, flags, (n,), yes=True) > 0
    q, magnitude = code_coefficients(io, nets, c, levels, large, decisions)
    return q, Grids(magnitude, levels), large
