"""Gaussians, mixed: compiled and in Python, the same bytes and the same numbers; calls that are wrong."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing import splats_oracle
from codec.entropy.mixing.coding import compiled
from codec.entropy.mixing.mixer import Mixer, Plan
from codec.entropy.mixing.oracle import Oracle
from codec.native import mixing_splats as kernels
from codec.native.mixing import PRICE, READ, WRITE
from codec.native.mixing_splats import KINDS, Job, Nearby, Seen

pytestmark = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
ARRAYS = ("lines", "weights", "ages", "finals", "final_ages", "refined")
ISA = native.instruction_sets()


def _point_mixer() -> Mixer:
    """A mixer of few lines, so that hashes collide."""
    return Mixer.new(Plan(kernels.POINT_CONTEXTS, 7, (512, 768, 1024), 128, 1280, 1))


def _sorted(points: np.ndarray, groups: np.ndarray) -> np.ndarray:
    keys = [[int("".join(f"{x:032b}"[k] for k in range(32) for x in point), 2)] for point in points.tolist()]
    owner = np.repeat(np.arange(len(groups)), groups).tolist()
    return points[sorted(range(len(points)), key=lambda i: (owner[i], keys[i]))]


POINTS = [(1, 1, 1), (1, 32, 1), (2, 32, 2), (60, 3, 1), (90, 11, 3), (40, 32, 1), (30, 1, 1)]


@pytest.mark.parametrize(("n", "bits", "n_groups"), POINTS)
def test_positions_are_those_of_the_twin(n: int, bits: int, n_groups: int) -> None:
    draw = np.random.default_rng(n + bits)
    groups = np.full(n_groups, n // n_groups, np.int64)
    points = draw.integers(0, 1 << bits, (n, 3)).astype(np.uint32)
    points[n // 2 :] >>= np.uint32(bits // 2)
    points = _sorted(points, groups)
    expected = _point_mixer()
    oracle = Oracle(WRITE, expected)
    decisions = splats_oracle.points(oracle, points.copy(), groups.tolist(), bits)
    stream = oracle.finish()
    for name in ISA:
        with native.using(name):
            for role in (WRITE, READ, PRICE):
                mixer = _point_mixer()
                coder = compiled(role, mixer, stream if role == READ else None, 99 * n + 99)
                given = np.zeros_like(points) if role == READ else points.copy()
                assert kernels.points(coder, given, groups, bits) == decisions
                assert np.array_equal(given, points), name
                assert role == PRICE or coder.finish() == (stream if role == WRITE else b""), name
                for array in ARRAYS:
                    assert np.array_equal(getattr(mixer, array), getattr(expected, array)), (name, array)
    read = np.zeros_like(points)
    oracle = Oracle(READ, _point_mixer(), stream)
    splats_oracle.points(oracle, read, groups.tolist(), bits)
    assert np.array_equal(read, points) and oracle.finish() == b""


@pytest.mark.parametrize("seed", [0, 1, (1 << 64) - 1])
def test_seeds_of_hash_tables_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed is drawn for each process: files and rows nearby are the same for all of them."""
    groups, draw = np.array([200]), np.random.default_rng(0)
    points = _sorted(draw.integers(0, 1 << 9, (200, 3)).astype(np.uint32), groups)
    made = []
    for other in (kernels._SEED, seed):
        monkeypatch.setattr(kernels, "_SEED", other)
        coder = compiled(WRITE, _point_mixer(), None, 9999)
        kernels.points(coder, points.copy(), groups, 9)
        near = kernels.nearby(points, 4)
        made.append((coder.finish(), near.rows.tobytes(), near.weights.tobytes(), near.far.tobytes()))
    assert made[0] == made[1]


def _places(kind: str, n: int = 300) -> np.ndarray:
    draw = np.random.default_rng(n)
    if kind == "same":
        return np.full((n, 3), 5, np.uint32)
    if kind == "far":
        return draw.integers(0, 1 << 24, (n, 3)).astype(np.uint32)
    return np.clip(draw.normal(500, 60, (n, 3)), 0, 999).astype(np.uint32)


@pytest.mark.parametrize("shift", [0, 4, 7, 24])
@pytest.mark.parametrize("kind", ["same", "far", "cloud"])
def test_rows_nearby_are_those_of_the_twin(kind: str, shift: int) -> None:
    places = _places(kind)
    expected = splats_oracle.nearby(places, shift)
    for name in ISA:
        with native.using(name):
            out = kernels.nearby(places, shift)
        for array in ("rows", "weights", "far"):
            assert np.array_equal(getattr(out, array), getattr(expected, array)), (name, array)


def test_rows_nearby_are_the_nearest() -> None:
    places = _places("cloud", 400).astype(np.int64)
    out = kernels.nearby(places.astype(np.uint32), 6)
    right = 0
    for i in range(200, 400):
        distance = ((places[:i] - places[i]) ** 2).sum(axis=1)
        right += int(distance[out.rows[i, 0]] == distance.min())
        assert (np.diff(distance[out.rows[i][out.rows[i] >= 0]]) >= 0).all()
    assert right > 190


def _job(case: str, n: int = 40) -> Job:
    """Columns of every kind. case: "plain", "wide" (up to 32 bits), "vectors", "rotations" or "known"."""
    draw = np.random.default_rng(len(case))
    widths = {"wide": [1, 32, 17, 32], "vectors": [8, 1, 8, 5, 8], "rotations": [8, 2, 10, 10, 10, 4]}
    bits = widths.get(case, [8, 8, 3])
    kind = {"vectors": [0, 1, 2, 2, 2], "rotations": [0, 3, 4, 4, 4, 0]}.get(case, [0] * len(bits))
    width = len(bits)
    values = np.empty((n, width), np.uint32)
    for c, b in enumerate(bits):
        values[:, c] = np.clip(draw.normal((1 << b) / 2, (1 << b) / 6, n), 0, (1 << b) - 1).astype(np.uint32)
    if case == "vectors":
        again = draw.integers(0, 5, n)
        values[:, 2:] = values[again, 2:]
        values[:, 1] = [i != int(np.nonzero(again == k)[0][0]) for i, k in enumerate(again)]
    links = np.full((width, 3), -1, np.int32)
    for c in range(width):
        links[c, : min(c, 3)] = np.arange(c - 1, max(-1, c - 4), -1)
    known, at = np.zeros(1, np.int32), np.full(width, -1, np.int64)
    if case in ("plain", "vectors"):
        column = {"plain": 1, "vectors": 4}[case]
        occurs = np.isin(np.arange(256), values[:, column])
        known, at[column] = np.concatenate([known, [0], np.cumsum(occurs)]).astype(np.int32), 1
    first, prior = (1 if case == "known" else 0), np.full(width, -1, np.int32)
    prior[1] = first - 1
    return Job(
        values.view(np.int32),
        first,
        width,
        np.array(bits, np.int32),
        np.array(kind, np.int32),
        links,
        prior,
        splats_oracle.nearby(_places("cloud", n), 5),
        known,
        at,
        np.full((width, 4, 16), 900, np.int32),
        np.zeros((width, 16), np.int32),
        Seen.new(12),
        np.zeros((n, 4), np.int32),
    )


def _copy(job: Job, clear: bool = False) -> Job:
    values = job.values.copy()
    if clear:
        values[:, job.first :] = 0
    seen = Seen(job.seen.table.copy(), job.seen.bits, job.seen.left)
    return replace(
        job, values=values, errors=job.errors.copy(), slopes=job.slopes.copy(), seen=seen, turns=job.turns.copy()
    )


def _mixer(job: Job) -> Mixer:
    width = job.values.shape[1]
    sets = (64 * width, 176 * width, 1024)
    return Mixer.new(Plan(kernels.COLUMN_CONTEXTS, 8, sets, 16 * width, 27 * width + 512, kernels.EXTRA))


@pytest.mark.parametrize("case", ["plain", "wide", "vectors", "rotations", "known"])
def test_columns_are_those_of_the_twin(case: str) -> None:
    job = _job(case)
    expected, twin = _mixer(job), _copy(job)
    oracle = Oracle(WRITE, expected)
    splats_oracle.columns(oracle, twin)
    stream = oracle.finish()
    for name in ISA:
        with native.using(name):
            for role in (WRITE, READ, PRICE):
                mixer, own = _mixer(job), _copy(job, role == READ)
                coder = compiled(role, mixer, stream if role == READ else None, 99 * job.values.size + 99)
                kernels.columns(coder, own)
                assert np.array_equal(own.values, job.values), name
                assert role == PRICE or coder.finish() == (stream if role == WRITE else b""), name
                for array in ARRAYS:
                    assert np.array_equal(getattr(mixer, array), getattr(expected, array)), (name, array)
                for array in ("errors", "slopes", "turns"):
                    assert np.array_equal(getattr(own, array), getattr(twin, array)), (name, array)
                assert np.array_equal(own.seen.table, twin.seen.table)
    own = _copy(job, True)
    oracle = Oracle(READ, _mixer(job), stream)
    splats_oracle.columns(oracle, own)
    assert np.array_equal(own.values, job.values) and oracle.finish() == b""


def test_a_vector_that_occurred_costs_little() -> None:
    job = _job("vectors", 200)
    coder = compiled(PRICE, _mixer(job))
    kernels.columns(coder, _copy(job))
    repeats = int(job.values[:, 1].sum())
    new = replace(_copy(job), kind=np.zeros(5, np.int32))  # the same columns, as numbers that stand alone
    plain = compiled(PRICE, _mixer(job))
    kernels.columns(plain, new)
    assert repeats == 195 and coder.bits < plain.bits - 2 * repeats


def test_any_bytes_give_some_columns_or_an_error() -> None:
    draw = np.random.default_rng(0)
    for case in ("plain", "wide", "vectors", "rotations", "known"):
        job = _job(case)
        for size in (0, 3, 100, 1000):
            own = _copy(job, True)
            with contextlib.suppress(ValueError):
                kernels.columns(compiled(READ, _mixer(job), draw.bytes(size)), own)
            limits = (1 << job.bits.astype(np.int64)) - 1
            assert (own.values.view(np.uint32) <= limits).all()


def test_wrong_calls_are_refused() -> None:
    job, points = _job("rotations"), np.zeros((4, 3), np.uint32)
    sizes = np.array([4], np.int64)
    calls: tuple[Any, ...] = (points.astype(np.int32), points[::2], points + np.uint32(2))
    for wrong in calls:
        with pytest.raises(AssertionError):
            kernels.points(compiled(PRICE, _point_mixer()), wrong, sizes, 1)
    with pytest.raises(AssertionError):
        kernels.points(compiled(PRICE, _point_mixer()), points, np.array([3], np.int64), 1)
    with pytest.raises(AssertionError):
        kernels.nearby(np.full((2, 3), 1 << 24, np.uint32), 3)
    links = job.links.copy()
    links[2, 0] = 2
    kind = np.array([0, 0, 4, 4, 4, 0], np.int32)
    for change in ({"values": job.values[:, :2]}, {"links": links}, {"kind": kind}, {"turns": job.turns[:3]}):
        with pytest.raises(AssertionError):
            kernels.columns(compiled(PRICE, _mixer(job)), replace(job, **change))
    assert list(KINDS.values()) == [0, 1, 2, 3, 4] and Nearby.new(0).rows.shape == (0, kernels.NEAR)
