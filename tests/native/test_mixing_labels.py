"""The kernel of label maps: the same as its twin, in every table; and calls that are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing.coding import PRICE, READ, WRITE, compiled
from codec.entropy.mixing.labels_oracle import LabelOracle
from codec.entropy.mixing.mixer import Mixer, Plan
from codec.entropy.mixing.oracle import Oracle
from codec.native import mixing_labels as kernels
from codec.native.mixing_labels import Tables

pytestmark = pytest.mark.skipif(native.library() is None, reason="no compiled module")
ARRAYS = ("lines", "weights", "ages", "finals", "final_ages", "refined")
KINDS = [(0, 3, False), (0, 0, False), (0, 1, True), (1, 2, False), (1, 0, False)]


def _mixer(kind: int, deep: bool) -> Mixer:
    """A mixer of few lines, so that hashes collide."""
    return Mixer.new(Plan(kernels.CONTEXTS[kind, deep], 7, kernels.SETS, kernels.FINALS, kernels.ROWS, 1))


def _tables(shape: tuple[int, int, int]) -> Tables:
    return Tables.new(shape[1], shape[2], 5)


@pytest.mark.parametrize("name", native.instruction_sets())
@pytest.mark.parametrize(("kind", "candidates", "deep"), KINDS)
@pytest.mark.parametrize(("size", "shape"), [(3, (3, 9, 11)), (300, (2, 5, 7)), (65536, (1, 1, 40)), (2, (2, 40, 1))])
def test_twin(name: str, kind: int, candidates: int, deep: bool, size: int, shape: tuple[int, int, int]) -> None:
    draw = np.random.default_rng(size)
    values = np.where(draw.random(shape) < 0.7, size // 2, draw.integers(0, size, shape)).astype(np.int32)
    mixers = [_mixer(kind, deep) for _ in range(3)]
    tables = [_tables(shape) for _ in range(3)]
    with native.using(name):
        coder = compiled(WRITE, mixers[0], None, 4 * values.size + 64)
        decisions = kernels.labels(coder, values.copy(), size, kind, candidates, deep, tables[0])
        data = coder.finish()
        decoded = np.zeros(shape, np.int32)
        reader = compiled(READ, mixers[1], data)
        kernels.labels(reader, decoded, size, kind, candidates, deep, tables[1])
        reader.finish()
        priced = compiled(PRICE, _mixer(kind, deep), None, 0)
        kernels.labels(priced, values.copy(), size, kind, candidates, deep, _tables(shape))
    twin = Oracle(WRITE, mixers[2])
    oracle = LabelOracle(twin, shape, size, kind, candidates, deep, tables[2])
    oracle.code(values.tolist())
    assert twin.finish() == data and oracle.decisions == decisions
    assert (decoded == values).all()
    assert abs(priced.bits / 8 - len(data)) < 8 + 0.01 * len(data)
    for k in (1, 2):
        for array in ARRAYS:
            assert (getattr(mixers[0], array) == getattr(mixers[k], array)).all(), array
        for array in ("pads", "seen", "past", "hits"):
            assert (getattr(tables[0], array) == getattr(tables[k], array)).all(), array


def test_wrong_calls_never_reach_the_kernel() -> None:
    values, mixer = np.zeros((1, 4, 5), np.int32), _mixer(0, False)
    coder = compiled(WRITE, mixer, None, 200)
    good = _tables((1, 4, 5))
    signed: Any = good.seen.astype(np.int64)
    wrong = [
        (values.astype(np.int64), 3, 0, False, good),
        (values[:, :, ::-1], 3, 0, False, good),
        (values + 3, 3, 0, False, good),
        (values - 1, 3, 0, False, good),
        (values, 3, 0, True, good),
        (values, 3, 1, False, good),
        (values, 0, 0, False, good),
        (values, 70000, 0, False, good),
        (values, 3, 0, False, _tables((1, 5, 5))),
        (values, 3, 0, False, _tables((1, 4, 6))),
        (values, 3, 0, False, Tables(good.pads, good.seen, good.past[:, :16], good.hits)),
        (values, 3, 0, False, Tables(good.pads, signed, good.past, good.hits)),
        (values, 3, 0, False, Tables(good.pads, good.seen[:, :31], good.past[:, :31], good.hits)),
    ]
    for array, size, kind, deep, tables in wrong:
        with pytest.raises((AssertionError, ValueError)):
            kernels.labels(coder, array, size, kind, 3, deep, tables)
    for candidates in (-1, 4):
        with pytest.raises(AssertionError):
            kernels.labels(coder, values, 3, 0, candidates, False, good)
    small = Mixer.new(Plan(15, 7, (10, 10, 10), 64, 640, 1))
    with pytest.raises(AssertionError):
        kernels.labels(compiled(WRITE, small, None, 200), values, 3, 0, 3, False, good)


def test_no_room() -> None:
    values = np.random.default_rng(5).integers(0, 60000, (1, 30, 30)).astype(np.int32)
    coder = compiled(WRITE, _mixer(0, False), None, 16)
    with pytest.raises(MemoryError):
        kernels.labels(coder, values, 60000, 0, 3, False, _tables((1, 30, 30)))
