"""Gaussians by context mixing in compiled loops: positions, the rows near each row, and columns.

The twin, equal to the last digit of every table, is entropy/mixing/splats_oracle.py. The caller owns all arrays.
"""

from __future__ import annotations

import ctypes
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import check, library
from .mixing import READ, Coder

__all__ = ["COLUMN_CONTEXTS", "KINDS", "NEAR", "POINT_CONTEXTS", "Job", "Nearby", "Seen", "columns", "nearby", "points"]

NEAR = 8  # rows nearby, at most
POINT_CONTEXTS, COLUMN_CONTEXTS, EXTRA = 7, 6, 3  # of the mixer's plans
KINDS = {"number": 0, "repeat": 1, "vector": 2, "largest": 3, "part": 4}
MOST_COLUMNS = 256
MOST_PLACE = 1 << 24
_void = ctypes.c_void_p
_SEED = secrets.randbits(64)  # of hash tables, so that no file can be made whose places share a slot


class _Points(ctypes.Structure):
    """`MixingPoints` of src/args_mixing_splats.h."""

    _fields_ = (
        ("points", _void),
        *((name, ctypes.c_int64) for name in ("n", "n_groups")),
        ("groups", _void),
        ("bits", ctypes.c_int64),
        *((name, _void) for name in ("boxes0", "boxes1", "counts0", "counts1", "lefts", "owners0", "owners1", "slots")),
        ("n_slots", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("errors", _void),
        ("decisions", ctypes.c_int64),
    )


class _Places(ctypes.Structure):
    """`SplatPlaces` of src/args_mixing_splats.h."""

    _fields_ = (
        ("places", _void),
        *((name, ctypes.c_int64) for name in ("n", "shift")),
        ("slots", _void),
        ("n_slots", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        *((name, _void) for name in ("previous", "rows", "weights", "far")),
    )


class _Columns(ctypes.Structure):
    """`MixingColumns` of src/args_mixing_splats.h."""

    _fields_ = (
        ("values", _void),
        *((name, ctypes.c_int64) for name in ("n", "width", "first", "last")),
        *((name, _void) for name in ("bits", "kind", "links", "prior", "rows", "weights", "far", "known", "known_at")),
        *((name, _void) for name in ("errors", "slopes", "seen")),
        *((name, ctypes.c_int64) for name in ("seen_bits", "seen_left")),
        *((name, _void) for name in ("turns", "ready", "done")),
    )


@dataclass(frozen=True, eq=False)
class Nearby:
    """The rows near each row, among those before it: rows (n, NEAR) int32, the nearest first, -1 for none; weights
    (n, NEAR) int32, 1 to 256; far (n,) int32, a class of the distance of the nearest, 0 to 31."""

    rows: NDArray[np.int32]
    weights: NDArray[np.int32]
    far: NDArray[np.int32]

    @staticmethod
    def new(n: int) -> Nearby:
        """Room for n rows."""
        return Nearby(np.full((n, NEAR), -1, np.int32), np.zeros((n, NEAR), np.int32), np.full(n, 31, np.int32))


@dataclass(eq=False)
class Seen:
    """The beginnings of vectors that were coded: a bit for each hash of `bits` bits; `left` more are noted."""

    table: NDArray[np.uint32]
    bits: int
    left: int

    @staticmethod
    def new(bits: int) -> Seen:
        """A table in which nothing is noted, for a quarter as many beginnings as it has bits."""
        return Seen(np.zeros(1 << max(0, bits - 5), np.uint32), bits, 1 << (bits - 2))


@dataclass(frozen=True, eq=False)
class Job:
    """Columns that are coded row by row; those before `first` are known.

    values: (n, width) int32, unsigned numbers. bits, kind: (width,) int32; kind: of KINDS. links: (width, 3) int32,
    columns before; prior: (width,) int32, the known column that is the same earlier; -1 for none. known, known_at:
    int32 and (width,) int64, as `MixingColumns` says. errors: (width, 4, 16), slopes: (width, 16) int32. turns: (n, 4)
    int32. ready, done: (1,) int64, rows that are known, or None.
    """

    values: NDArray[np.int32]
    first: int
    last: int
    bits: NDArray[np.int32]
    kind: NDArray[np.int32]
    links: NDArray[np.int32]
    prior: NDArray[np.int32]
    nearby: Nearby
    known: NDArray[np.int32]
    known_at: NDArray[np.int64]
    errors: NDArray[np.int32]
    slopes: NDArray[np.int32]
    seen: Seen
    turns: NDArray[np.int32]
    ready: NDArray[np.int64] | None = None
    done: NDArray[np.int64] | None = None


def _checked(array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> int:
    assert array.dtype == dtype and array.shape == shape and array.flags.c_contiguous, (array.dtype, array.shape, shape)
    return array.ctypes.data


def _slots(n: int) -> int:
    """The size of a hash table of n things, a power of two."""
    return 1 << (2 * max(1, n)).bit_length()


def points(coder: Coder, points: NDArray[np.uint32], groups: NDArray[np.int64], bits: int) -> int:
    """Codes points (n, 3) below 2^bits, sorted by their Morton codes in each group, in place; returns the decisions.

    groups: their sizes, each at least 1. coder: of the plan in entropy/mixing/splats.py. ValueError for a damaged
    stream.
    """
    module = library()
    assert module is not None, "this needs the compiled module"
    n = len(points)
    assert 1 <= bits <= 32 and n < 1 << 30 and groups.min() >= 1 and groups.sum() == n and points.flags.writeable
    assert coder.role == READ or int(points.max()) < 1 << bits
    assert (coder.struct.n_contexts, coder.struct.n_extra) == (POINT_CONTEXTS, 1)
    slots = _slots(n)
    arrays = [np.empty((n, 3), np.uint32) for _ in range(2)] + [np.empty(n, np.int32) for _ in range(5)]
    arrays.append(np.empty(slots, np.int32))
    errors = np.full(256, 256, np.int32)
    sizes = _checked(groups, np.int64, (len(groups),))
    call = _Points(_checked(points, np.uint32, (n, 3)), n, len(groups), sizes, bits)
    names = ("boxes0", "boxes1", "counts0", "counts1", "lefts", "owners0", "owners1", "slots")
    for name, array in zip(names, arrays, strict=True):
        setattr(call, name, array.ctypes.data)
    call.n_slots, call.seed, call.errors = slots, _SEED, errors.ctypes.data
    check(module.codec_mixing_points(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(call)))
    return int(call.decisions)


def nearby(places: NDArray[np.uint32], shift: int) -> Nearby:
    """The rows near each row among those before it. places: (n, 3) below MOST_PLACE; cells are 2^shift wide."""
    module = library()
    assert module is not None, "this needs the compiled module"
    n = len(places)
    assert 0 <= shift < 32 and n < 1 << 30 and (not n or int(places.max()) < MOST_PLACE)
    slots, previous, out = np.full(_slots(n), -1, np.int32), np.empty(n, np.int32), Nearby.new(n)
    call = _Places(_checked(places, np.uint32, (n, 3)), n, shift, slots.ctypes.data, len(slots), _SEED)
    call.previous = previous.ctypes.data
    call.rows, call.weights, call.far = out.rows.ctypes.data, out.weights.ctypes.data, out.far.ctypes.data
    check(module.codec_splat_places(ctypes.byref(call)))
    return out


def columns(coder: Coder, job: Job) -> None:
    """Codes the columns of a job in place. ValueError for a damaged stream."""
    module = library()
    assert module is not None, "this needs the compiled module"
    (n, width), nearby = job.values.shape, job.nearby
    assert 0 <= job.first <= job.last <= width <= MOST_COLUMNS and job.values.flags.writeable
    assert (coder.struct.n_contexts, coder.struct.n_extra) == (COLUMN_CONTEXTS, EXTRA)
    call = _Columns(_checked(job.values, np.int32, (n, width)), n, width, job.first, job.last)
    assert 1 <= job.bits.min() <= job.bits.max() <= 32 and len(job.seen.table) == 1 << max(0, job.seen.bits - 5)
    turns = bool((job.kind[job.first : job.last] == KINDS["part"]).any())
    for name, array, dtype, shape in (
        ("bits", job.bits, np.int32, (width,)),
        ("kind", job.kind, np.int32, (width,)),
        ("links", job.links, np.int32, (width, 3)),
        ("prior", job.prior, np.int32, (width,)),
        ("rows", nearby.rows, np.int32, (n, NEAR)),
        ("weights", nearby.weights, np.int32, (n, NEAR)),
        ("far", nearby.far, np.int32, (n,)),
        ("known", job.known, np.int32, job.known.shape),
        ("known_at", job.known_at, np.int64, (width,)),
        ("errors", job.errors, np.int32, (width, 4, 16)),
        ("slopes", job.slopes, np.int32, (width, 16)),
        ("seen", job.seen.table, np.uint32, job.seen.table.shape),
        ("turns", job.turns, np.int32, (n if turns else len(job.turns), 4)),
    ):
        setattr(call, name, _checked(array, dtype, shape))
    call.seen_bits, call.seen_left = job.seen.bits, job.seen.left
    call.ready = None if job.ready is None else job.ready.ctypes.data
    call.done = None if job.done is None else job.done.ctypes.data
    check(module.codec_mixing_columns(coder.pointer, ctypes.c_int(coder.role), ctypes.byref(call)))
