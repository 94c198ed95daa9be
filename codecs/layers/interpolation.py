"""Error-bounded coding of float arrays: interpolation from coarse to fine, quantised residuals, exact contexts.

After SZ3 (Zhao et al., "Optimizing Error-Bounded Lossy Compression for Scientific Data by Dynamic Spline
Interpolation", ICDE 2021; Liang et al., IEEE Trans. Big Data 2023), its level-wise bounds (QoZ, Liu et al., SC 2022)
and its interpolation along several axes at once (HPEZ, Liu et al., SIGMOD 2024). Points of a level with one odd index
lie between two known ones; those with two or three are predicted by a mean over their axes, weighted by how smooth the
field is along each, from points that were just decoded. An axis along which it isn't smooth at all (pressure levels) is
not interpolated along: its planes are fields of their own.
Differs: residuals are not Huffman-coded but arithmetic-coded, each under one of a fixed set of distributions, chosen by
the sizes of the residuals around it and by how much the predictions along its axes disagree. On the fields of
docs/results.md that makes smaller files than SZ3's at nearly every bound that was tried.

Exact: predictions are float64 sums and products of single array operations, which IEEE-754 rounds the same way
everywhere; contexts are comparisons of such values; distributions come from `decimal`, whose exp is correctly rounded.
What is decoded is therefore what the encoder saw, and the encoder looks at every value before it promises the bound.
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...entropy.tables import TableDecoder, Tables
from ...errors import StreamError, UsageError
from ...native import interpolation as kernels
from ...native.codes import StepError

__all__ = ["MAX_AXES", "Scheme", "decode", "encode"]

T = TypeVar("T")
Float = NDArray[np.float64]
Int = NDArray[np.integer[Any]]

MAX_AXES = 4
_EDGES = np.array(
    [
        0.02,
        0.05,
        0.09,
        0.15,
        0.23,
        0.34,
        0.5,
        0.7,
        1,
        1.4,
        2,
        2.8,
        4,
        5.7,
        8,
        11,
        16,
        23,
        32,
        64,
        128,
        256,
        512,
        1024,
        4096,
    ]
)
_BINS = len(_EDGES) + 1
_LEVELS = 4  # levels from this one on share their contexts
_SCALES = tuple(range(-24, 45))  # of the distributions: 2^(i / 4)
_MAX_Q = 1 << 28  # a residual beyond this is stored as it is
_ESCAPE = 1 << 29  # its symbol; costs about 60 bits, which such a value may
_HEAD = struct.Struct("<ddBI")
_SPARE_RATIO, _SPARE_BITS = 0.98, 96.0  # a stream may be so much shorter than the cheapest symbols say
_SAFE = 1 - 2.0**-50
_LOOSE = 1 / 64  # an axis that misses 64 times as much, in the square, isn't interpolated along


@dataclass(frozen=True)
class Scheme:
    """The bounds of levels: l = 1 (the finest), 2, ... gets the bound divided by min(growth^(l - 1), most).

    Errors of coarse points spread to all that are interpolated from them.
    """

    growth: float = 1.25
    most: float = 2.0

    def share(self, level: int) -> float:
        share = 1.0
        for _ in range(level - 1):
            share = min(share * self.growth, self.most)
        return share


SCHEMES = (Scheme(1.0, 1.0), Scheme(1.25, 2.0), Scheme(1.5, 3.0))
_USUAL = 1
_TRIED = 4096  # values: of fewer, the usual scheme is taken, since trials take longer than they are worth
_TRIAL = 48  # points a side of the middle part on which the scheme is chosen


@dataclass(frozen=True)
class _Plan:
    """The decisions of the encoder: index of a scheme, and weights of the axes behind the first.

    weights: 0 to 255 each; there is no interpolation along an axis of weight 0.
    """

    scheme: int
    weights: tuple[int, ...]

    def folded(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The order of the axes, those that aren't interpolated along first, and the shape with these merged."""
        axes = range(1, len(shape))
        loose = [axis for axis in axes if not self.weights[axis - 1]]
        tight = [axis for axis in axes if self.weights[axis - 1]]
        first = int(np.prod([shape[0], *(shape[axis] for axis in loose)]))
        return (0, *loose, *tight), (first, *(shape[axis] for axis in tight))

    @property
    def used(self) -> tuple[int, ...]:
        return tuple(weight for weight in self.weights if weight)


def encode(x: NDArray[Any], bound: float) -> bytes:
    """The stream of an array, which decodes within a bound.

    x: (B, ...) float32 or float64, finite, up to MAX_AXES axes behind the first; its B parts are coded alike, apart
    from each other. bound: largest difference of any value, above 0.

    Whatever `decode` gives differs by at most `bound`, in exact arithmetic: every value was looked at.
    """
    if x.dtype not in (np.float32, np.float64) or not 2 <= x.ndim <= MAX_AXES + 1:
        raise UsageError(f"an array of {x.dtype} {x.shape}; expected float32 or float64 with 2 to {MAX_AXES + 1} axes")
    if not (bound > 0 and np.isfinite(bound)):
        raise UsageError(f"a bound of {bound}: expected a number above 0")
    if not x.size:
        return b""
    if not np.isfinite(x).all():
        raise UsageError("NaN or infinity among the values: mask them first")
    weights = _smoothness(x)
    plans = [_Plan(index, weights) for index in range(len(SCHEMES))]
    if x.size < _TRIED:
        return _encode(x, float(bound), plans[_USUAL])
    middle = [slice(max(0, (n - _TRIAL) // 2), max(0, (n - _TRIAL) // 2) + _TRIAL) for n in x.shape[1:]]
    trial = x[(slice(None), *middle)]
    streams = in_parallel([functools.partial(_encode, trial, float(bound), plan) for plan in plans])
    best = min(range(len(plans)), key=lambda index: len(streams[index]))
    return streams[best] if trial.shape == x.shape else _encode(x, float(bound), plans[best])


def in_parallel(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of calls, which spend their time in compiled kernels if there are any."""
    n = min(native.threads(), len(calls))
    if n < 2 or native.library() is None:
        return [call() for call in calls]
    _costs_by_size()  # once, not once for each
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda call: call(), calls))


def decode(data: bytes, shape: Sequence[int], dtype: np.dtype[Any] | str) -> NDArray[Any]:
    """The array of a stream, of this shape and type. StreamError if the data aren't a stream of one."""
    dtype = np.dtype(dtype)
    if 0 in shape:
        return np.zeros(shape, dtype)
    n_axes = len(shape) - 1
    if len(data) < _HEAD.size + n_axes:
        raise StreamError("an error-bounded stream is cut: the file is damaged")
    bound, middle, index, n_side = _HEAD.unpack_from(data)
    if not (0 < bound < np.inf and np.isfinite(middle)) or index >= len(SCHEMES):
        raise StreamError("an error-bounded stream's header is damaged")
    plan = _Plan(index, tuple(data[_HEAD.size : _HEAD.size + n_axes]))
    start = _HEAD.size + n_axes
    size = math.prod(shape)
    n_symbols = (8 * (len(data) - start - n_side) + _SPARE_BITS) / (_tables().min_bits * _SPARE_RATIO)
    if size > max(0.0, n_symbols):  # before anything of this size is made
        raise StreamError(f"an error-bounded stream of {len(data)} bytes can't hold {size} values: the file is damaged")
    kinds, raw = _unpack_side(data[start : start + n_side], size, dtype)
    decoder = _tables().decoder(data[start + n_side :])
    order, folded = plan.folded(shape)
    if decoder.ans is not None:
        values = _decode_native(folded, dtype, bound, plan, middle, kinds, raw, decoder)
    else:
        field, at = _Field(folded, dtype, bound, plan, middle), 0
        for place in _places(folded[1:]):
            predicted, rows = field.predicted(place, kinds)
            at += field.put(place, predicted, decoder.take(rows), raw[at:])
        if at != len(raw):
            raise _out_of_range()
        values = field.values
    decoder.finish()
    unfolded = values.reshape([shape[axis] for axis in order])
    return np.ascontiguousarray(unfolded.transpose(np.argsort(order)))


def _decode_native(
    shape: Sequence[int],
    dtype: np.dtype[Any],
    bound: float,
    plan: _Plan,
    middle: float,
    kinds: NDArray[np.uint8],
    raw: NDArray[Any],
    decoder: TableDecoder,
) -> NDArray[Any]:
    if not np.isfinite(raw).all():
        raise _out_of_range()
    scale = _native_scale(shape, bound, plan, middle)
    assert decoder.ans is not None
    with decoder.native_errors():
        try:
            return kernels.decode(shape, dtype, scale, kinds, raw, decoder.native_tables, decoder.ans)
        except StepError:
            raise
        except ValueError as error:
            raise _out_of_range() from error


def _smoothness(x: NDArray[Any]) -> tuple[int, ...]:
    """The weights of the axes, 0 to 255: inverse mean squares of what interpolation between neighbours misses."""
    misses = []
    for axis in range(1, x.ndim):
        n = x.shape[axis]
        if n < 3:
            misses.append(np.inf)
        elif native.library() is not None and x.flags.c_contiguous:
            misses.append(kernels.misses(x, axis))
        else:
            line = np.moveaxis(x, axis, 0)
            parts = [np.asarray(line[i : n - 2 + i : 2], np.float64) for i in (0, 1, 2)]
            with np.errstate(all="ignore"):
                misses.append(float(np.mean((parts[1] - (parts[0] + parts[2]) / 2) ** 2)))
    least = min(misses)
    if not np.isfinite(least):  # nothing to interpolate along
        return tuple(255 if n > 1 else 0 for n in x.shape[1:])
    relative = [1.0 if not miss > least else least / miss for miss in misses]
    return tuple(round(255 * weight) if weight > _LOOSE else 0 for weight in relative)


# ------------------------------------------------------------------------------------------------------- the traversal


class _Place(NamedTuple):
    """The points of one level whose odd indices (in units of the level's spacing) are those of `axes`."""

    level: int
    axes: tuple[int, ...]
    index: tuple[slice, ...]

    @property
    def context(self) -> int:
        """The first of its contexts."""
        group = (min(self.level, _LEVELS) - 1) * MAX_AXES + len(self.axes) - 1
        return 1 + group * _BINS if self.axes else 0


def _places(shape: Sequence[int]) -> Iterator[_Place]:
    """The parts of a field in coding order; shape: the axes behind the first."""
    top = (max(shape, default=1) - 1).bit_length()
    yield _Place(top + 1, (), (slice(None), *(slice(0, None, 1 << top) for _ in shape)))
    kinds = sorted((k for k in itertools.product((0, 1), repeat=len(shape)) if any(k)), key=lambda k: (sum(k), k))
    for level in range(top, 0, -1):
        step = 1 << (level - 1)
        for kind in kinds:
            if all(n > step for n, odd in zip(shape, kind, strict=True) if odd):
                index = (slice(None), *(slice(step if odd else 0, None, 2 * step) for odd in kind))
                yield _Place(level, tuple(axis + 1 for axis, odd in enumerate(kind) if odd), index)


class _Field:
    """An array that is filled from coarse to fine, by the encoder as by the decoder, part by part as `_places` says."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any], bound: float, plan: _Plan, middle: float) -> None:
        self.values = np.zeros(shape, dtype)
        self.sizes = np.zeros(shape, np.float32)  # of the residuals, in units of the bound
        self.bound, self.scheme, self.weights, self.middle = bound, SCHEMES[plan.scheme], plan.used, middle

    def code(self, place: _Place, x: NDArray[Any]) -> tuple[Int, Int, NDArray[Any]]:
        """Codes a part of x: its symbols, their contexts, and those values that are stored as they are."""
        predicted, spread = self._predictions(place)
        symbols, raw = self._quantised(place, predicted, x)
        contexts = self._contexts(place, spread)
        self.put(place, predicted, symbols, raw)
        return symbols, contexts, raw

    def predicted(self, place: _Place, kinds: NDArray[np.uint8]) -> tuple[Float, NDArray[np.uint8]]:
        """The predictions of a part, and the distribution of each of its points. kinds: those of contexts."""
        predicted, spread = self._predictions(place)
        return predicted, kinds[self._contexts(place, spread)]

    def _predictions(self, place: _Place) -> tuple[Float, Float | float]:
        """The predictions of a part, and the largest less the smallest where there are several, along axes."""
        if not place.axes:
            return np.full(self.values[place.index].shape, self.middle), 0.0
        first, *others = (self._interpolated(place.index, axis, place.index[axis].start) for axis in place.axes)
        weights = [float(self.weights[axis - 1]) for axis in place.axes]
        total, low, high = first * weights[0], first, first
        for line, weight in zip(others, weights[1:], strict=True):
            total, low, high = total + line * weight, np.minimum(low, line), np.maximum(high, line)
        return total / sum(weights), high - low if others else 0.0

    def _interpolated(self, index: tuple[slice, ...], axis: int, step: int) -> Float:
        """The cubic interpolation along an axis, from points one and three steps away; fewer at the borders."""
        n = self.values.shape[axis]
        at = np.arange(step, n, 2 * step)
        line = self.values[(*index[:axis], slice(0, None, 2 * step), *index[axis + 1 :])].astype(np.float64)
        last = line.shape[axis] - 1
        place = np.arange(len(at))  # between the known points `place` and `place + 1`

        def known(offset: int) -> Float:
            return np.take(line, np.clip(place + offset, 0, last), axis=axis)

        def where(condition: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return condition.reshape([-1 if i == axis else 1 for i in range(line.ndim)])

        before, low, high, behind = known(-1), known(0), known(1), known(2)
        has_before, has_high, has_behind = where(place > 0), where(place < last), where(place + 1 < last)
        cubic = (9.0 * (low + high) - (before + behind)) / 16.0
        left = (6.0 * low + 3.0 * high - before) / 8.0
        right = (3.0 * low + 6.0 * high - behind) / 8.0
        inner = np.where(
            has_before & has_behind,
            cubic,
            np.where(has_before, left, np.where(has_behind, right, (low + high) / 2.0)),
        )
        outer = np.where(has_before, (3.0 * low - before) / 2.0, low)
        return np.where(has_high, inner, outer)

    def _contexts(self, place: _Place, spread: Float | float) -> Int:
        """The context of each point of a part: an index into the stream's map of distributions."""
        share = self.scheme.share(place.level)
        shape = self.values[place.index].shape
        if not place.axes:
            return np.zeros(shape, np.int16)
        total: Any = 0.0
        for axis in place.axes:
            known = (*place.index[:axis], slice(0, None, place.index[axis].step), *place.index[axis + 1 :])
            line = self.sizes[known].astype(np.float64)
            at = np.arange(shape[axis])
            total = total + np.take(line, at, axis=axis)
            total = total + np.take(line, np.minimum(at + 1, line.shape[axis] - 1), axis=axis)
        around = total * share / (2 * len(place.axes)) + 0.5 * (spread * (share / (2 * self.bound)))
        return (place.context + np.searchsorted(_EDGES, around)).astype(np.int16)

    def _quantised(self, place: _Place, predicted: Float, x: NDArray[Any]) -> tuple[Int, NDArray[Any]]:
        """The symbols of the true values x[place.index], and those values that are stored as they are."""
        true = x[place.index]
        step = 2 * self.bound / self.scheme.share(place.level)
        with np.errstate(over="ignore", invalid="ignore"):
            q = np.rint((true.astype(np.float64) - predicted) / step)
            near = np.abs(q) <= _MAX_Q
            q = np.where(near, q, 0)
            decoded = (predicted + q * step).astype(self.values.dtype)
        exact = near & within(true, decoded, self.bound)
        symbols = np.where(exact, q, _ESCAPE).astype(np.int32)
        return symbols, true[~exact]

    def put(self, place: _Place, predicted: Float, symbols: NDArray[Any], raw: NDArray[Any]) -> int:
        """Fills a part in; returns how many of `raw` it took."""
        share = self.scheme.share(place.level)
        escaped = symbols == _ESCAPE
        n = int(escaped.sum())
        q = np.where(escaped, 0, symbols).astype(np.float64)
        if n > len(raw) or bool((np.abs(q) > _MAX_Q).any()):
            raise _out_of_range()
        with np.errstate(over="ignore", invalid="ignore"):
            values = (predicted + q * (2 * self.bound / share)).astype(self.values.dtype)
        values[escaped] = raw[:n]
        if not np.isfinite(values).all():
            raise _out_of_range()
        self.values[place.index] = values
        self.sizes[place.index] = np.abs(q) / share
        return n


def _out_of_range() -> StreamError:
    what = "too few values, too many, or values beyond its type"
    return StreamError(f"an error-bounded stream has {what}: the file is damaged")


def _native_scale(shape: Sequence[int], bound: float, plan: _Plan, middle: float) -> kernels.Scale:
    """The decisions and numbers of a field, for the compiled twin of `_Field` and `_places`."""
    top = (max(shape[1:], default=1) - 1).bit_length()
    shares = [SCHEMES[plan.scheme].share(level) for level in range(1, top + 2)]
    return kernels.Scale(plan.used, shares, bound, middle)


def within(true: NDArray[Any], decoded: NDArray[Any], bound: float) -> NDArray[np.bool_]:
    """Whether |true - decoded| <= bound, safely: a float64 difference can round down to the bound."""
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(true.astype(np.float64) - decoded.astype(np.float64))
    return difference <= bound * _SAFE


def all_within(true: NDArray[Any], decoded: NDArray[Any], bound: float) -> bool:
    """Whether all values are `within` a bound."""
    alike = true.dtype == decoded.dtype and true.flags.c_contiguous and decoded.flags.c_contiguous
    if alike and native.library() is not None:
        return kernels.within(true, decoded, bound * _SAFE)
    return bool(within(true, decoded, bound).all())


# ------------------------------------------------------------------------------------------------------------- streams


def _encode(x: NDArray[Any], bound: float, plan: _Plan) -> bytes:
    order, folded = plan.folded(x.shape)
    x = np.ascontiguousarray(x.transpose(order).reshape(folded))
    middle = float(x.flat[0])
    if native.library() is not None:
        symbols, contexts, sizes, raw = kernels.encode(x, _native_scale(x.shape, bound, plan, middle))
        kinds = _filled(kernels.cheapest(symbols, contexts, _costs_by_size(), _contexts()))
        payload = _tables().encode_row_of_steps(symbols, kernels.rows_of(contexts, kinds), sizes.tolist())
    else:
        field, steps, parts = _Field(x.shape, x.dtype, bound, plan, middle), [], []
        for place in _places(folded[1:]):
            *step, left = field.code(place, x)
            steps.append(step)
            parts.append(left)
        raw, kinds = np.concatenate(parts), _filled(_cheapest(steps))
        payload = _tables().encode_steps([(symbols, kinds[contexts]) for symbols, contexts in steps])
    side = _pack_side(kinds, raw)
    return _HEAD.pack(bound, middle, plan.scheme, len(side)) + bytes(plan.weights) + side + payload


def _filled(best: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The distribution of each context: an unused one, -1, is like the one before, which compresses well."""
    kinds, last = np.zeros(len(best), np.uint8), 0
    for index, kind in enumerate(best.tolist()):
        last = kind if kind >= 0 else last
        kinds[index] = last
    return kinds


def _cheapest(steps: Sequence[Sequence[Int]]) -> NDArray[np.int32]:
    """The distribution of each context, (contexts,), under which its symbols are shortest; -1 without symbols.

    steps: symbols and contexts.
    """
    costs = _costs()
    most = costs.shape[1] - 1
    keys, counts = [], []
    for symbols, contexts in steps:
        sizes = np.minimum(np.abs(symbols.ravel()), most)
        width = int(sizes.max()) + 1
        table = np.bincount(contexts.ravel().astype(np.int64) * width + sizes)
        occurring = np.flatnonzero(table)
        keys.append(occurring // width * (most + 1) + occurring % width)
        counts.append(table[occurring])
    context, value = np.divmod(np.concatenate(keys), most + 1)
    count = np.concatenate(counts)
    order = np.argsort(context, kind="stable")
    context, value, count = context[order], value[order], count[order]
    ends = np.searchsorted(context, np.arange(_contexts() + 1))
    best = np.full(_contexts(), -1, np.int32)
    for index in range(len(best)):
        own = slice(ends[index], ends[index + 1])
        if own.start < own.stop:
            best[index] = (costs[:, value[own]] @ count[own]).argmin()
    return best


def _contexts() -> int:
    return 1 + _LEVELS * MAX_AXES * _BINS


def _pack_side(kinds: NDArray[np.uint8], raw: NDArray[Any]) -> bytes:
    changes = np.diff(kinds, prepend=np.uint8(0))  # modulo 256
    little = raw.astype(raw.dtype.newbyteorder("<"), copy=False)
    return zlib.compress(changes.tobytes() + little.tobytes(), 9)


def _unpack_side(side: bytes, size: int, dtype: np.dtype[Any]) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    limit = _contexts() + size * dtype.itemsize
    try:
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(side, limit + 1)
    except zlib.error:
        body = b""
    if not _contexts() <= len(body) <= limit or (len(body) - _contexts()) % dtype.itemsize:
        raise StreamError("an error-bounded stream's contexts are damaged")
    kinds = np.cumsum(np.frombuffer(body, np.uint8, _contexts()), dtype=np.uint8)
    if kinds.max() >= len(_tables().lengths):
        raise StreamError("an error-bounded stream's contexts are damaged")
    raw = np.frombuffer(body, dtype.newbyteorder("<"), offset=_contexts()).astype(dtype)
    return kinds, raw


# ------------------------------------------------------------------------------------------------------- distributions


@functools.cache
def _weights() -> tuple[tuple[int, ...], ...]:
    """The weights of |symbol| = 0, 1, ... in each distribution: two-sided geometric, mixtures of two such, normal."""
    rows = []
    with localcontext() as context:
        context.prec = 28
        root = Decimal(2) ** (Decimal(1) / 4)
        for i in _SCALES:
            scale = root**i
            n = min(6000, int(9 * scale) + 6)
            rows.append(_geometric(scale, n))
            narrow, wide = _geometric(scale * Decimal("0.6"), n), _geometric(scale * Decimal("2.4"), n)
            rows.append([3 * a + b for a, b in zip(narrow, wide, strict=True)])
            rows.append(_normal(scale * Decimal("1.3") + Decimal("0.2"), n))
    return tuple(tuple(int(weight) for weight in row) for row in rows)


_UNIT = Decimal(1 << 60)


def _geometric(scale: Decimal, n: int) -> list[Decimal]:
    ratio = scale / (1 + scale)
    weights, weight = [], _UNIT * (1 - ratio) / (1 + ratio)
    for _ in range(n + 1):
        weights.append(weight)
        weight *= ratio
    return weights


def _normal(sigma: Decimal, n: int) -> list[Decimal]:
    square = (-1 / (sigma * sigma)).exp()  # of a step to the next step
    weights, weight, factor = [], Decimal(1), (-1 / (2 * sigma * sigma)).exp()
    for _ in range(n + 1):
        weights.append(weight)
        weight *= factor
        factor *= square
    total = 2 * sum(weights) - weights[0]
    return [_UNIT * weight / total for weight in weights]


@functools.cache
def _tables() -> Tables:
    """The tables, a row for each distribution: symbols -n to n, and the escape. Counts are integers, none below 1."""
    rows = [_counts(weights) for weights in _weights()]
    width = max(map(len, rows)) + 1
    cdf = np.full((len(rows), width), 1 << 16, np.int32)
    for row, counts in zip(cdf, rows, strict=True):
        row[0], row[1 : len(counts) + 1] = 0, np.cumsum(counts)
    lengths = np.array([len(counts) for counts in rows], np.int32)
    return Tables(cdf, lengths, -(lengths - 2) // 2)


def _counts(weights: Sequence[int]) -> list[int]:
    """The counts of a row of the tables, which sum to 2**16, from the weights of |symbol| = 0, 1, ..."""
    mirrored = [*reversed(weights[1:]), *weights]
    total, room = sum(mirrored), (1 << 16) - len(mirrored) - 1 - 64  # 1 for each, 64 for the centre's competitors
    counts = [1 + weight * room // total for weight in mirrored]
    counts.append(1)  # the escape
    counts[len(weights) - 1] += (1 << 16) - sum(counts)
    return counts


@functools.cache
def _costs() -> NDArray[np.float32]:
    """The bits of |symbol| in each distribution, (distributions, largest + 1), for the encoder's decisions only."""
    tables = _tables()
    most = int(tables.lengths.max())
    costs = np.empty((len(tables.lengths), most), np.float32)
    values = np.arange(most)
    for row, counts in zip(costs, tables.rows, strict=True):
        bits = 16 - np.log2(np.diff(counts))
        half = (len(bits) - 2) // 2
        row[: half + 1] = bits[half : 2 * half + 1]
        row[half + 1 :] = bits[-1] + 2 * np.log2(values[half + 1 :] - half + 1) + 1
    return costs


@functools.cache
def _costs_by_size() -> NDArray[np.float32]:
    """The bits of `_costs` as (largest + 1, distributions)."""
    return np.ascontiguousarray(_costs().T)


def encode_block(x: NDArray[Any], bound: float) -> bytes:
    """The stream of an array of any number of axes, as `encode`: those in front of the last MAX_AXES are merged."""
    return encode(x.reshape(_merged(x.shape)), bound)


def decode_block(data: bytes, shape: Sequence[int], dtype: np.dtype[Any] | str) -> NDArray[Any]:
    """The array of a stream of `encode_block`. StreamError if the data aren't a stream of one."""
    return decode(data, _merged(shape), dtype).reshape(shape)


def _merged(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape with the axes in front of the last MAX_AXES merged into one."""
    n = len(shape) - MAX_AXES
    return tuple(shape) if n <= 1 else (math.prod(shape[:n]), *shape[n:])
