"""Gaussians by context mixing: positions whose order is free, and the columns of integers that belong to them.

Rows are sorted by the Morton codes of their positions. Positions are coded as the numbers of points in the halves of
boxes, as octrees of point clouds are, with the boxes around as contexts. Columns are coded row by row; rows nearby that
came before, and columns before, tell what to expect. native/src/mixing_splats.h does the same as `splats_oracle.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native import mixing_splats as kernels
from ...native.mixing import READ, WRITE
from ...native.mixing_splats import KINDS, MOST_PLACE, Job, Nearby, Seen
from . import splats_oracle
from .coding import compiled
from .mixer import Mixer, Plan
from .oracle import Oracle
from .tables import Rates

__all__ = ["Layout", "decode", "decode_columns", "encode", "encode_columns", "sorted_rows"]

Places = Callable[[NDArray[np.int32]], NDArray[np.int32]]
_POINT_RATES = Rates(limit=1023, delay=1.5, doubt=0.25, lean=4.0, first=0.02, last=0.002, fall=32, refine_by=6)
_RATES = Rates(limit=255, delay=1.5, doubt=0.25, lean=4.0, first=0.02, last=0.002, fall=32, refine_by=6)
_WEIGHT = 0.2
_MOST_LINES = 20  # 2^20 lines, 64 MB, of each of up to three streams
_KNOWN_BITS = 12  # up to which the values that occur are told to the coder; wider columns become ranks
_SEEN_BITS = 28  # of the table of vectors, at most
_MAIN = ("scale", "opacity", "colour")


@dataclass(frozen=True)
class Layout:
    """The columns of a table, by the role and the bits, 1 to 32, of each. Values are 0 to 2^bits - 1.

    Roles are those of `media.gaussians.values`, or any others. "rotation" of 2, b, b, b bits (b up to 15) is which part
    of a quaternion is the largest, and the other three parts as rising numbers, whose middle is 0 and whose range is
    that of +-sqrt(1/2); the largest is positive. "harmonics" have the channel as their fastest index.
    """

    roles: tuple[str, ...]
    bits: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.roles) != len(self.bits) or not all(1 <= bits <= 32 for bits in self.bits):
            raise ValueError(f"{len(self.roles)} roles for columns of {self.bits} bits: they have 1 to 32 bits each")
        if len(self.roles) > kernels.MOST_COLUMNS - 1:
            raise ValueError(f"{len(self.roles)} columns, more than {kernels.MOST_COLUMNS - 1}")

    def of(self, role: str) -> list[int]:
        """The columns of a role."""
        return [k for k, other in enumerate(self.roles) if other == role]

    @property
    def turned(self) -> bool:
        """Whether rotations are by their largest part."""
        bits = [self.bits[k] for k in self.of("rotation")]
        return len(bits) == 4 and bits[0] == 2 and bits[1] <= 15 and bits[1:] == [bits[1]] * 3

    @property
    def streams(self) -> list[list[int]]:
        """The columns of each stream, in their order; a stream may look at those of the first."""
        main = [k for role in _MAIN for k in self.of(role)]
        rotation = self.of("rotation") if self.turned else []
        harmonics = self.of("harmonics")
        rest = [k for k in range(len(self.roles)) if k not in main + rotation + harmonics]
        return [part for part in (main + rest, rotation, harmonics) if part]


# ---- the order of rows


def _spread(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers of 16 bits, with two zeros in front of each bit."""
    out = np.zeros_like(x)
    for bit in range(16):
        out |= (x >> np.uint64(bit) & np.uint64(1)) << np.uint64(3 * bit)
    return out


def _morton(points: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The Morton codes of points (n, 3), the first axis in front: their lower and their upper 48 bits."""
    halves = []
    for shift in (0, 16):
        part = (points.astype(np.uint64) >> np.uint64(shift)) & np.uint64(0xFFFF)
        x, y, z = (_spread(part[:, axis]) for axis in range(3))
        halves.append(x << np.uint64(2) | y << np.uint64(1) | z)
    return halves[0], halves[1]


def sorted_rows(
    positions: NDArray[np.int32], columns: NDArray[np.int32], groups: Sequence[int] = ()
) -> NDArray[np.int64]:
    """The order in which rows are coded: by group, by the Morton code of the position, by all columns."""
    n = len(positions)
    owner = np.repeat(np.arange(len(groups)), groups) if groups else np.zeros(n, np.int64)
    low, high = _morton(_points(positions))
    order = np.lexsort((low, high, owner))
    keys = np.stack([low, high, owner.astype(np.uint64)], axis=1)[order]
    same = np.zeros(n + 1, bool)
    same[1:n] = (keys[1:] == keys[:-1]).all(axis=1)
    (tied,) = np.nonzero(same[:-1] | same[1:])  # rows that share their position with the one before or behind
    rows = order[tied]
    run = np.cumsum(~same[:-1])[tied]
    order[tied] = rows[np.lexsort((*columns[rows].T[::-1], run))]
    return order


def _nearby(points: NDArray[np.uint32]) -> Nearby:
    """The rows near each row, of points in the order of their rows."""
    bits = int(points.max(initial=0)).bit_length()
    places = points >> np.uint32(max(0, bits - (MOST_PLACE.bit_length() - 1)))
    shift = max(0, min(bits, 24) - 21)
    while shift < 24:
        cells = places.astype(np.int64) >> shift
        if 2 * len(np.unique(cells[:, 0] << 42 | cells[:, 1] << 21 | cells[:, 2])) <= len(points):
            break
        shift += 1
    find = kernels.nearby if native.library() is not None else splats_oracle.nearby
    return find(np.ascontiguousarray(places), shift)


# ---- bytes


def _number(x: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    out = bytearray()
    while x > 127:
        out.append(x & 127 | 128)
        x >>= 7
    out.append(x)
    return bytes(out)


class _Bytes:
    """A stream that is read piece by piece; StreamError where it is too short."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if n > len(self.data) - self.at:
            raise StreamError("a stream of Gaussians is cut: the file is damaged")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self) -> int:
        """The next `_number`, below 2^35."""
        out = 0
        for shift in range(0, 35, 7):
            (byte,) = self.take(1)
            out |= (byte & 127) << shift
            if byte < 128:
                return out
        raise StreamError("a number in a stream of Gaussians has too many bytes: the file is damaged")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.data) - self.at)


def _lines(touches: int) -> int:
    return min(_MOST_LINES, max(10, (touches >> 6).bit_length()))


# ---- positions


def _code_points(role: int, points: NDArray[np.uint32], groups: Sequence[int], bits: int, data: bytes = b"") -> bytes:
    """Codes points (n, 3) in place; returns the stream that is written."""
    n = len(points)
    plan = Plan(kernels.POINT_CONTEXTS, _lines(64 * n), (512, 768, 1024), 128, 1280, 1, _POINT_RATES)
    mixer, sizes = Mixer.new(plan, _WEIGHT), np.array(groups, np.int64)
    if native.library() is None:
        oracle = Oracle(role, mixer, data)
        splats_oracle.points(oracle, points, sizes.tolist(), bits)
        return oracle.finish()
    coder = compiled(role, mixer, data if role == READ else None, n * bits + 1024)
    try:
        kernels.points(coder, points, sizes, bits)
        return coder.finish()
    except ValueError as error:
        raise StreamError("a stream of positions doesn't end where they do: the file is damaged") from error


# ---- palettes: the values that occur in a column, of each column that has few of them


def _coded_palettes(palettes: Sequence[NDArray[np.uint32]], bits: int) -> bytes:
    """Sorted sets of numbers, as points whose Morton codes they are."""
    values = np.concatenate(palettes).astype(np.uint64)
    points = np.zeros((len(values), 3), np.uint32)
    for bit in range(bits):
        axis, place = 2 - bit % 3, bit // 3
        points[:, axis] |= ((values >> np.uint64(bit) & np.uint64(1)) << np.uint64(place)).astype(np.uint32)
    return _code_points(WRITE, points, [len(palette) for palette in palettes], -(-bits // 3))


def _read_palettes(data: bytes, sizes: Sequence[int], bits: int) -> list[NDArray[np.uint32]]:
    points = np.zeros((sum(sizes), 3), np.uint32)
    _code_points(READ, points, sizes, -(-bits // 3), data)
    low, _ = _morton(points)
    if int(low.max()) >> bits:
        raise StreamError("a palette holds a number that is too large: the file is damaged")
    return np.split(low.astype(np.uint32), np.cumsum(sizes)[:-1])


def _palette(values: NDArray[np.uint32], bits: int) -> NDArray[np.uint32] | None:
    """The values that occur, if it pays to tell them."""
    distinct = np.unique(values)
    if bits <= _KNOWN_BITS:
        return distinct if 4 * len(distinct) <= 3 << bits and len(distinct) <= len(values) else None
    return distinct if 4 * len(distinct) <= len(values) and len(distinct) <= 1 << 16 else None


# ---- columns


@dataclass(frozen=True, eq=False)
class _Table:
    """The columns as they are coded: known ones, then those of all streams, with a column for repeated vectors.

    origin: of each column its index among the caller's, -1 - k for the known column k, None for what tells repeats.
    """

    origin: list[int | None]
    bits: NDArray[np.int32]
    kind: NDArray[np.int32]
    links: NDArray[np.int32]
    prior: NDArray[np.int32]
    spans: list[tuple[int, int]]  # of the streams

    @staticmethod
    def new(layout: Layout, widths: Sequence[int], known: Sequence[tuple[int, int]], repeats: bool) -> _Table:
        """The table of a layout. widths: bits of the columns; known: of each known column its bits, and the column
        that it tells about."""
        origin: list[int | None] = [-1 - k for k in range(len(known))]
        spans = []
        for columns in layout.streams:
            first = len(origin)
            if repeats and layout.roles[columns[0]] == "harmonics":
                origin.append(None)
            origin += columns
            spans.append((first, len(origin)))
        width = len(origin)
        place = {k: at for at, k in enumerate(origin) if k is not None}
        bits, kind = np.ones(width, np.int32), np.zeros(width, np.int32)
        links, prior = np.full((width, 3), -1, np.int32), np.full(width, -1, np.int32)
        main = spans[0][1] if spans and layout.streams[0][0] not in layout.of("harmonics") else 0
        for at, k in enumerate(origin):
            if k is None:
                kind[at] = KINDS["repeat"]
            elif k < 0:
                bits[at] = known[-1 - k][0]
            else:
                bits[at] = widths[k]
                told = [place[-1 - j] for j, (_, of) in enumerate(known) if of == k]
                best = (told + _links(layout, k, place, main))[:3]
                links[at, : len(best)] = best
                prior[at] = told[0] if told else -1
                if layout.turned and layout.roles[k] == "rotation":
                    kind[at] = KINDS["largest" if k == layout.of("rotation")[0] else "part"]
                if repeats and layout.roles[k] == "harmonics":
                    kind[at] = KINDS["vector"]
        return _Table(origin, bits, kind, links, prior, spans)


def _links(layout: Layout, k: int, place: dict[int, int], main: int) -> list[int]:
    """The columns before that tell about a column, the best first."""
    role = layout.roles[k]
    own = layout.of(role)
    index = own.index(k)
    if role == "harmonics" and len(own) % 3 == 0:
        steps = (1, 3, 2) if index % 3 else (3, 1, 6)
    else:
        steps = (1, 2, 3)
    out = [place[own[index - step]] for step in steps if index >= step]
    if role in ("opacity", "colour"):
        first = place[own[0]]
        out += [at for at in range(first - 1, -1, -1) if main and at in place.values()]
    return out


def _known_values(
    layout: Layout, palettes: Sequence[NDArray[np.uint32] | None], table: _Table
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`known` and `known_at` of a job: which values occur in a column, or that they are ranks."""
    parts, at, total = [np.zeros(1, np.int32)], np.full(len(table.origin), -1, np.int64), 1
    for column, k in enumerate(table.origin):
        palette = palettes[k] if k is not None and k >= 0 else None
        bits = int(table.bits[column])
        if palette is None or k is None or bits > _KNOWN_BITS:
            continue
        if layout.bits[k] > _KNOWN_BITS:
            palette = np.arange(len(palette), dtype=np.uint32)
        occurs = np.zeros((1 << bits) + 1, np.int32)
        occurs[palette.astype(np.int64) + 1] = 1
        at[column] = total
        parts.append(np.cumsum(occurs, dtype=np.int32))
        total += len(occurs)
    return np.concatenate(parts), at


class _Coder:
    """The streams of a table's columns. values: (n, width) int32, in the order in which rows are coded."""

    def __init__(
        self,
        layout: Layout,
        table: _Table,
        values: NDArray[np.int32],
        near: Nearby,
        palettes: Sequence[NDArray[np.uint32] | None],
    ) -> None:
        self.table, self.values, self.nearby = table, values, near
        self.known, self.known_at = _known_values(layout, palettes, table)
        self.done = [np.zeros(1, np.int64) for _ in table.spans]

    def job(self, stream: int) -> Job:
        """The job of a stream."""
        table, (n, width) = self.table, self.values.shape
        first, last = table.spans[stream]
        vectors = int(table.bits[first:last][table.kind[first:last] == KINDS["vector"]].sum())
        seen = Seen.new(min(_SEEN_BITS, max(5, (4 * n * vectors).bit_length())))
        errors = np.empty((width, 4, 16), np.int32)
        errors[:] = (256 << np.clip(table.bits - 4, 0, 18)).astype(np.int32)[:, None, None]
        turns = np.zeros((n if (table.kind[first:last] == KINDS["part"]).any() else 1, 4), np.int32)
        ready = self.done[0] if stream else None
        return Job(
            self.values,
            first,
            last,
            table.bits,
            table.kind,
            table.links,
            table.prior,
            self.nearby,
            self.known,
            self.known_at,
            errors,
            np.zeros((width, 16), np.int32),
            seen,
            turns,
            ready,
            self.done[stream],
        )

    def code(self, role: int, stream: int, data: bytes = b"") -> bytes:
        """Codes the columns of a stream in place; returns what is written."""
        try:
            return self._coded(role, stream, data)
        finally:
            self.done[stream][0] = len(self.values)  # nobody waits for what doesn't come

    def _coded(self, role: int, stream: int, data: bytes) -> bytes:
        job, (n, width) = self.job(stream), self.values.shape
        bits = self.table.bits[job.first : job.last].tolist()
        touches = n * kernels.COLUMN_CONTEXTS * sum(-(-b // 4) for b in bits)
        sets = (64 * width, 176 * width, 1024)
        plan = Plan(kernels.COLUMN_CONTEXTS, _lines(touches), sets, 16 * width, 27 * width + 512, kernels.EXTRA, _RATES)
        mixer = Mixer.new(plan, _WEIGHT)
        if native.library() is None:
            oracle = Oracle(role, mixer, data)
            splats_oracle.columns(oracle, job)
            return oracle.finish()
        coder = compiled(role, mixer, data if role == READ else None, n * sum(bits) // 4 + 1024)
        try:
            kernels.columns(coder, job)
            return coder.finish()
        except ValueError as error:
            raise StreamError("a stream of columns doesn't end where they do: the file is damaged") from error

    def all(self, role: int, streams: Sequence[bytes]) -> list[bytes]:
        """Codes all streams, side by side where there are threads: the first one begins first."""
        indices = range(len(self.table.spans))
        if native.threads() < 2 or len(indices) < 2 or native.library() is None:
            return [self.code(role, stream, streams[stream]) for stream in indices]
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda stream: self.code(role, stream, streams[stream]), indices))


def _repeats(harmonics: NDArray[np.int32]) -> NDArray[np.int32] | None:
    """Whether each vector occurred in a row before; None if that isn't worth telling."""
    if harmonics.shape[1] < 6 or not len(harmonics):
        return None
    _, first, inverse = np.unique(harmonics, axis=0, return_index=True, return_inverse=True)
    repeats = (first[inverse.reshape(-1)] != np.arange(len(harmonics))).astype(np.int32)
    return repeats if 50 * int(repeats.sum()) > len(harmonics) else None


def _encoded_columns(
    points: NDArray[np.uint32],
    columns: NDArray[np.int32],
    layout: Layout,
    known: NDArray[np.int32],
    known_of: Sequence[tuple[int, int]],
) -> bytes:
    """The stream of columns whose rows are in order. known: (n, m) int32."""
    n = len(columns)
    given = columns.view(np.uint32)
    palettes = [_palette(given[:, k], bits) for k, bits in enumerate(layout.bits)]
    repeats = _repeats(columns[:, layout.of("harmonics")])
    widths, ranked = _widths(layout, palettes), columns.copy()
    for k, palette in enumerate(palettes):
        if palette is not None and layout.bits[k] > _KNOWN_BITS:
            ranked[:, k] = np.searchsorted(palette, given[:, k])
    table = _Table.new(layout, widths, known_of, repeats is not None)
    values = np.empty((n, len(table.origin)), np.int32)
    for at, k in enumerate(table.origin):
        if k is not None:
            values[:, at] = known[:, -1 - k] if k < 0 else ranked[:, k]
        elif repeats is not None:
            values[:, at] = repeats
    head = bytes([int(repeats is not None)])
    head += b"".join(_number(0 if palette is None else len(palette)) for palette in palettes)
    present = [palette for palette in palettes if palette is not None]
    if present:
        told = _coded_palettes(present, max(b for b, p in zip(layout.bits, palettes, strict=True) if p is not None))
        head += _number(len(told)) + told
    streams = _Coder(layout, table, values, _nearby(points), palettes).all(WRITE, [b""] * len(table.spans))
    return head + b"".join(_number(len(stream)) for stream in streams) + b"".join(streams)


def _widths(layout: Layout, palettes: Sequence[NDArray[np.uint32] | None]) -> list[int]:
    """The bits of the columns as they are coded: ranks, where a wide column has few values."""
    return [
        bits if palette is None or bits <= _KNOWN_BITS else max(1, (len(palette) - 1).bit_length())
        for bits, palette in zip(layout.bits, palettes, strict=True)
    ]


def _decoded_columns(
    data: _Bytes,
    points: NDArray[np.uint32],
    layout: Layout,
    known: NDArray[np.int32],
    known_of: Sequence[tuple[int, int]],
) -> NDArray[np.int32]:
    n = len(points)
    (flags,) = data.take(1)
    sizes = [data.number() for _ in layout.bits]
    if flags > 1 or any(size > min(n, 1 << 16, 1 << bits) for size, bits in zip(sizes, layout.bits, strict=True)):
        raise StreamError("a palette has more entries than it can: the file is damaged")
    palettes: list[NDArray[np.uint32] | None] = [None] * len(sizes)
    present = [k for k, size in enumerate(sizes) if size]
    if present:
        told = _read_palettes(
            data.take(data.number()), [sizes[k] for k in present], max(layout.bits[k] for k in present)
        )
        for k, palette in zip(present, told, strict=True):
            if int(palette.max()) >> layout.bits[k]:
                raise StreamError("a palette holds a number that is too large: the file is damaged")
            palettes[k] = palette
    table = _Table.new(layout, _widths(layout, palettes), known_of, bool(flags))
    lengths = [data.number() for _ in table.spans]
    streams = [data.take(length) for length in lengths]
    values = np.zeros((n, len(table.origin)), np.int32)
    for at, k in enumerate(table.origin):
        if k is not None and k < 0:
            values[:, at] = known[:, -1 - k]
    _Coder(layout, table, values, _nearby(points), palettes).all(READ, streams)
    out = np.empty((n, len(layout.bits)), np.int32)
    for at, k in enumerate(table.origin):
        if k is not None and k >= 0:
            palette = palettes[k]
            if palette is None or layout.bits[k] <= _KNOWN_BITS:
                out[:, k] = values[:, at]
            else:
                ranks = np.minimum(values[:, at], len(palette) - 1)
                out.view(np.uint32)[:, k] = palette[ranks]
    return out


# ---- what callers use


def _points(positions: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Positions, from the lowest corner."""
    low = positions.min(axis=0, initial=np.iinfo(np.int32).max) if len(positions) else np.zeros(3, np.int32)
    return (positions.astype(np.int64) - low).astype(np.uint32)


def _checked(columns: NDArray[np.int32], layout: Layout) -> None:
    if columns.shape[1:] != (len(layout.bits),) or columns.dtype != np.int32:
        raise ValueError(f"columns {columns.dtype} {columns.shape} for a layout of {len(layout.bits)}")
    for k, bits in enumerate(layout.bits):
        if len(columns) and int(columns.view(np.uint32)[:, k].max()) >> bits:
            raise ValueError(f"column {k} ({layout.roles[k]}) holds numbers of more than {bits} bits")


def encode(
    positions: NDArray[np.int32],
    columns: NDArray[np.int32],
    layout: Layout,
    groups: Sequence[int] = (),
    places: Places | None = None,
) -> bytes:
    """The stream of Gaussians whose order, in each group, means nothing. `decode` gives them as `sorted_rows` has them.

    positions: (n, 3) int32. columns: (n, C) int32, of 32 bits as unsigned numbers. groups: sizes of groups of
    consecutive rows, () for one group. places: gives positions, in the order of `decode`, in which rows nearby are
    looked for, if those of the table mean nothing across its groups.
    """
    n = len(positions)
    columns = np.ascontiguousarray(columns, np.int32)
    _checked(columns, layout)
    if groups and (sum(groups) != n or min(groups) < 1):
        raise ValueError(f"groups of {sum(groups)} rows, each of at least 1, for {n} rows")
    if not n:
        return b""
    order = sorted_rows(positions, columns, groups)
    positions, columns = positions[order], columns[order]
    points = _points(positions)
    bits = max(1, int(points.max()).bit_length())
    stream = _code_points(WRITE, points, groups or [n], bits)
    head = struct.pack("<3iB", *positions.min(axis=0).tolist(), bits) + _number(len(stream))
    near = points if places is None else _points(places(positions))
    none = np.zeros((n, 0), np.int32)
    return head + stream + _encoded_columns(near, columns, layout, none, ())


def decode(
    data: bytes, n: int, layout: Layout, groups: Sequence[int] = (), places: Places | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Positions (n, 3) and columns (n, C) of a stream. n: which the caller has found to be a sensible number.

    StreamError for a damaged stream.
    """
    if groups and (sum(groups) != n or min(groups) < 1):
        raise StreamError(f"groups of {sum(groups)} rows for {n} rows: the file is damaged")
    if not n:
        if data:
            raise StreamError("a stream of no Gaussians has bytes: the file is damaged")
        return np.zeros((0, 3), np.int32), np.zeros((0, len(layout.bits)), np.int32)
    rest = _Bytes(data)
    *low, bits = struct.unpack("<3iB", rest.take(13))
    if not 1 <= bits <= 32:
        raise StreamError(f"positions of {bits} bits, not 1 to 32: the file is damaged")
    points = np.zeros((n, 3), np.uint32)
    _code_points(READ, points, groups or [n], bits, rest.take(rest.number()))
    whole = points.astype(np.int64) + np.array(low, np.int64)
    if whole.max() > np.iinfo(np.int32).max:
        raise StreamError("a position of more than 32 bits: the file is damaged")
    positions = whole.astype(np.int32)
    near = points if places is None else _points(places(positions))
    columns = _decoded_columns(rest, near, layout, np.zeros((n, 0), np.int32), ())
    if rest.rest():
        raise StreamError("a stream of Gaussians is longer than what is in it: the file is damaged")
    return positions, columns


def encode_columns(
    positions: NDArray[np.int32],
    columns: NDArray[np.int32],
    layout: Layout,
    known: NDArray[np.int32] | None = None,
    known_of: Sequence[tuple[int, int]] = (),
) -> bytes:
    """The stream of columns whose positions both sides know, in the order of the rows.

    known: (n, m) int32, columns that both sides know, as the values of the frame before. known_of: of each its bits,
    and the column that it tells about (-1: none in particular).
    """
    columns = np.ascontiguousarray(columns, np.int32)
    _checked(columns, layout)
    given = _known(len(positions), known, known_of)
    if not len(positions) or not layout.bits:
        return b""
    points = _points(positions)
    order = np.lexsort(_morton(points))
    return _encoded_columns(points[order], columns[order], layout, given[order], known_of)


def decode_columns(
    data: bytes,
    positions: NDArray[np.int32],
    layout: Layout,
    known: NDArray[np.int32] | None = None,
    known_of: Sequence[tuple[int, int]] = (),
) -> NDArray[np.int32]:
    """The columns (n, C) of `encode_columns`, in the order of the positions. StreamError for a damaged stream."""
    given = _known(len(positions), known, known_of)
    out = np.empty((len(positions), len(layout.bits)), np.int32)
    rest = _Bytes(data)
    if out.size:
        points = _points(positions)
        order = np.lexsort(_morton(points))
        out[order] = _decoded_columns(rest, points[order], layout, given[order], known_of)
    if rest.rest():
        raise StreamError("a stream of columns is longer than what is in it: the file is damaged")
    return out


def _known(n: int, known: NDArray[np.int32] | None, of: Sequence[tuple[int, int]]) -> NDArray[np.int32]:
    given = np.zeros((n, 0), np.int32) if known is None else np.ascontiguousarray(known, np.int32)
    if given.shape != (n, len(of)):
        raise ValueError(f"known columns {given.shape} for {n} rows and {len(of)} descriptions")
    return given
