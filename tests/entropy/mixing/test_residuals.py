"""The model of residuals: every size comes back, contexts turn with their signs, and a state to start from."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from codec.entropy.mixing import shipping
from codec.entropy.mixing.coding import READ, WRITE
from codec.entropy.mixing.mixer import Mixer
from codec.entropy.mixing.residuals import (
    ESCAPE,
    MOST,
    Point,
    ResidualOracle,
    new_mixer,
    plan_of,
    start_of,
    start_plan,
)
from codec.errors import StreamError

EDGES = sorted(
    {v + d for v in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 97, 128, 1 << 12, MOST - 1) for d in (-1, 0, 1)}
)
VALUES = [0, *EDGES, *(-v for v in EDGES), ESCAPE]


def points(n: int) -> list[Point]:
    draw = np.random.default_rng(3)
    made = []
    for _ in range(n):
        point = Point(int(draw.integers(1, 16)), int(draw.integers(1, 8)))
        point.before = draw.integers(-4, 5, 5).tolist()
        point.low, point.high = draw.integers(-2, 3, 4).tolist(), draw.integers(-2, 3, 4).tolist()
        point.bends, point.apart = (
            (draw.integers(-99, 100, 4) / 64).tolist(),
            (draw.integers(-99, 100, 4) / 64).tolist(),
        )
        point.around, point.spread, point.bent = draw.integers(0, 26, 3).tolist()
        made.append(point)
    return made


def test_every_size_comes_back() -> None:
    around, mixers = points(len(VALUES)), (new_mixer(100), new_mixer(100))
    writer = ResidualOracle(WRITE, mixers[0], 2.0**-9)
    for point, value in zip(around, VALUES, strict=True):
        writer.shift(point)
        assert writer.code(point, value) == value
        writer.learn(point, value)
    stream = writer.coder.finish()
    # a change of the arithmetic by one unit changes these bytes
    assert hashlib.sha256(stream).hexdigest()[:16] == "9d307063a85df6b5"
    reader = ResidualOracle(READ, mixers[1], 2.0**-9, stream)
    for point, value in zip(around, VALUES, strict=True):
        reader.shift(point)
        assert reader.code(point) == value
        reader.learn(point, value)
    reader.coder.finish()
    assert np.array_equal(mixers[0].lines, mixers[1].lines)


def test_contexts_turn_with_their_signs() -> None:
    for point in points(50):
        turned = Point(point.mask, point.level)
        for name in ("around", "spread", "bent"):
            setattr(turned, name, getattr(point, name))
        for name in ("before", "low", "high", "bends", "apart"):
            setattr(turned, name, [-v for v in getattr(point, name)])
        (contexts, near, mirrored), (others, close, other) = point.contexts(), turned.contexts()
        assert (contexts, near) == (others, close)
        assert mirrored != other or not any((*point.low[:3], *point.high[:3], *point.before[2:]))


def test_a_residual_that_no_encoder_writes() -> None:
    reader = ResidualOracle(READ, new_mixer(1), 0.0, b"")
    for q, value in ((MOST + 1, 0.0), (0, float("inf")), (0, float("nan"))):
        with pytest.raises(StreamError, match="beyond its type"):
            reader.checked(q, value)


def test_the_filter_learns() -> None:
    oracle, point = ResidualOracle(WRITE, new_mixer(1), 2.0**-7), points(1)[0]
    first = oracle.shift(point)
    for _ in range(200):
        oracle.shift(point)
        oracle.learn(point, 3)
    assert first == 0
    assert oracle.shift(point) > 1


def test_a_state_to_start_from() -> None:
    learned = Mixer.new(start_plan())
    oracle = ResidualOracle(WRITE, learned, 0.0)
    for point in points(300):
        oracle.code(point, 1)
    start = start_of(shipping.pack(learned, 1))
    assert (start.lines[:, 1:] & 1023).max() <= 24
    assert start.ages.max() <= 100
    assert start.ages.max() > 0
    for n in (1, 1 << 15, 1 << 20):
        mixer = new_mixer(n, start)
        assert mixer.plan == plan_of(n)
        assert len(mixer.lines) == 1 << plan_of(n).lines
        assert np.array_equal(mixer.lines[: len(start.lines)], start.lines)
    mixer.lines[:] = 0
    assert start.lines.any(), "a mixer has tables of its own"
