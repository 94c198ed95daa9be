"""The mixing model of label maps: round trips, its twin, modes, golden streams, damage."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codec import native
from codec.entropy.mixing import labels as module
from codec.entropy.mixing.labels import MODES, LabelModel
from codec.errors import StreamError

compiled = pytest.mark.skipif(native.library() is None, reason="no compiled module")
SHAPES = [(3, 20, 31), (1, 1, 1), (2, 1, 1), (1, 1, 50), (2, 40, 1), (1, 9, 5), (2, 3, 2)]


def _map(size: int, shape: tuple[int, int, int], seed: int = 0, noise: float = 0.1) -> np.ndarray:
    """Patches of labels, a little like segments."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, size, shape)
    for z in range(shape[0]):
        for y in range(shape[1]):
            for c in range(shape[2]):
                kind = draw.random()
                if kind > noise and (y or c):
                    x[z, y, c] = x[z, y - 1, c] if y and (kind < 0.5 or not c) else x[z, y, max(0, c - 1)]
    return x


@compiled
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 5, 40, 300, 65536])
def test_round_trips(size: int, shape: tuple[int, int, int]) -> None:
    for seed in range(2):
        values, model = _map(size, shape, seed), LabelModel(size, shape)
        data = model.encode(values)
        assert (model.decode(data) == values).all()
        assert len(data) <= model.price(values) / 8 + 4


def test_no_labels() -> None:
    model = LabelModel(3, (0, 4, 5))
    assert model.encode(np.zeros((0, 4, 5), int)) == b"" and model.decode(b"").shape == (0, 4, 5)
    with pytest.raises(StreamError):
        model.decode(b"\0")


# Bytes, and the first of a hash, of each mode's stream; any change of the model, or of the core, turns them.
GOLDEN = [(224, "0c39c262"), (276, "26eb02af"), (222, "12ed1c4d"), (266, "37ab495d"), (225, "bfb04395")]


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
@pytest.mark.parametrize("number", range(len(MODES)))
def test_streams_never_change(name: str | None, number: int) -> None:
    values, model = _map(21, (3, 17, 23)).astype(np.int32), LabelModel(21, (3, 17, 23))
    with native.using(name):
        data = model._run(module.WRITE, MODES[number], values.copy())[0]
        assert (len(data), hashlib.sha256(data).hexdigest()[:8]) == GOLDEN[number]
        assert (model.decode(bytes([number]) + data) == values).all()


def _model(size: int, labels: NDArray[Any]) -> LabelModel:
    """The model of a label map (n, h, w)."""
    n, height, width = labels.shape
    return LabelModel(size, (n, height, width))


def test_modes_are_chosen() -> None:
    draw = np.random.default_rng(1)
    stack = np.repeat(_map(30, (1, 24, 24), noise=0.3), 6, 0)
    noisy = draw.integers(0, 4, (1, 60, 60)).cumsum(2) % 200
    chosen = [_model(200, x)._best(x.astype(np.int32)) for x in (stack, noisy)]
    assert MODES[chosen[0]].deep and MODES[chosen[1]].kind == 1


def test_contexts_earn_their_keep() -> None:
    period = np.tile(np.random.default_rng(2).integers(0, 50, (1, 12, 15)), (1, 5, 6))
    assert len(_model(50, period).encode(period)) < 400  # 180 labels of 5.6 bits, and then a match
    fresh = np.arange(600).reshape(1, 20, 30).repeat(2, 1).repeat(3, 2)  # segments, numbered in order
    assert len(_model(600, fresh).encode(fresh)) < 250


@pytest.mark.parametrize("name", [None, "compiled"])
def test_damage(name: str | None) -> None:
    model = LabelModel(9, (2, 12, 14))
    data = model.encode(_map(9, (2, 12, 14)))
    draw = np.random.default_rng(3)
    with native.using(None if name is None else (native.instruction_sets() or (None,))[-1]):
        with pytest.raises(StreamError):
            model.decode(b"")
        with pytest.raises(StreamError):
            model.decode(bytes([len(MODES)]) + data[1:])
        for more in (b"\0", b"\0" * 40, b"\1" * 40):
            with pytest.raises(StreamError):
                model.decode(data + more)
        for _ in range(6 if name is None else 300):
            wrong = bytearray(draw.integers(0, 256, draw.integers(0, 2 * len(data)), np.uint8).tobytes() or data)
            wrong[0] %= len(MODES)
            with contextlib.suppress(StreamError):
                assert 0 <= model.decode(bytes(wrong)).min() <= model.decode(bytes(wrong)).max() < 9


def test_wrong_calls() -> None:
    for size, shape in ((0, (1, 2, 2)), (65537, (1, 2, 2)), (2, (1, 1 << 16, 1 << 16)), (2, (-1, 2, 2))):
        with pytest.raises(ValueError, match="alphabet|too many"):
            LabelModel(size, shape)
    model = LabelModel(4, (1, 2, 2))
    for wrong in (np.zeros((1, 2, 3), int), np.full((1, 2, 2), 4), np.full((1, 2, 2), -1)):
        with pytest.raises(ValueError, match="expected"):
            model.encode(wrong)
