"""The core of context mixing: kernels and twin leave the same numbers, streams end well, hard cases come back."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing import oracle
from codec.entropy.mixing.coding import PRICE, READ, WRITE, SymbolCoder, compiled, symbol_plan
from codec.entropy.mixing.mixer import Mixer, Plan
from codec.entropy.mixing.tables import LOW, Rates, odds_place, price, squash, stretch
from codec.errors import StreamError

SETS = native.instruction_sets()
needs_module = pytest.mark.skipif(not SETS, reason="this install has no compiled module")
TABLES = ("lines", "weights", "ages", "finals", "final_ages", "refined")


def plan(contexts: int = 5, lines: int = 3, width: int = 6, rates: Rates | None = None) -> Plan:
    """Few lines, so that hashes collide."""
    return symbol_plan(width, contexts, 4, lines, rates)


def drawn(n: int, contexts: int, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = (np.cumsum(draw.integers(-1, 2, n)) % (1 << width)).astype(np.int32)
    past = np.concatenate([np.zeros(contexts, np.int64), x[:-1]])
    values = np.stack([past[contexts - 1 - k : contexts - 1 - k + n] >> (k % 3) for k in range(contexts)], 1)
    return x, values.astype(np.uint64), (x % 4 * 0 + np.arange(n) % 4).astype(np.int32)


def by_oracle(role: int, mixer: Mixer, x: np.ndarray, contexts: np.ndarray, select: np.ndarray, data: bytes = b""):
    coder = oracle.Oracle(role, mixer, data)
    made = oracle.symbols(coder, 6, contexts.tolist(), select.tolist(), x.tolist())
    return np.array(made), coder.finish(), coder.bits


def by_kernel(role: int, mixer: Mixer, x: np.ndarray, contexts: np.ndarray, select: np.ndarray, data: bytes = b""):
    coder = compiled(role, mixer, data if role == READ else None, 1 << 16)
    made = x.copy() if role != READ else np.zeros_like(x)
    coder.symbols(6, contexts, select, 4, made)
    return made, coder.finish() if role != PRICE else b"", coder.bits


def digests(mixer: Mixer) -> list[str]:
    return [hashlib.sha256(getattr(mixer, name).tobytes()).hexdigest() for name in TABLES]


@needs_module
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("contexts", [1, 5, 16, 24])
def test_kernels_leave_the_numbers_of_the_twin(name: str, contexts: int) -> None:
    x, values, select = drawn(120, contexts)
    with native.using(name):
        own, twin = Mixer.new(plan(contexts)), Mixer.new(plan(contexts))
        _, stream, _ = by_kernel(WRITE, own, x, values, select)
        _, expected, _ = by_oracle(WRITE, twin, x, values, select)
        assert stream == expected and digests(own) == digests(twin)
        reader, reading_twin = Mixer.new(plan(contexts)), Mixer.new(plan(contexts))
        assert np.array_equal(by_kernel(READ, reader, x, values, select, stream)[0], x)
        assert np.array_equal(by_oracle(READ, reading_twin, 0 * x, values, select, stream)[0], x)
        assert digests(reader) == digests(reading_twin) == digests(own)
        priced = Mixer.new(plan(contexts))
        bits = by_kernel(PRICE, priced, x, values, select)[2]
        assert (
            digests(priced) == digests(own)
            and bits == by_oracle(PRICE, Mixer.new(plan(contexts)), x, values, select)[2]
        )
        assert abs(bits - 8 * len(stream)) < 80


@needs_module
@pytest.mark.parametrize("name", SETS)
def test_extreme_weights_and_extremes_of_the_tables_agree(name: str) -> None:
    x, values, select = drawn(60, 5, seed=1)
    draw = np.random.default_rng(2)
    start = Mixer.new(plan())
    start.weights[:] = draw.choice([-(1 << 22) + 1, (1 << 22) - 1, 0, 1, -1], start.weights.shape)
    start.finals[:] = draw.choice([-(1 << 22) + 1, (1 << 22) - 1], start.finals.shape)
    start.lines[:, 1:] = draw.choice([0, 1023, (1 << 32) - 1, 1 << 31], (len(start.lines), 15))
    start.refined[:] = draw.choice([0, 65535], start.refined.shape)
    with native.using(name):
        own, twin = start.copy(), start.copy()
        assert by_kernel(WRITE, own, x, values, select)[1] == by_oracle(WRITE, twin, x, values, select)[1]
        assert digests(own) == digests(twin)


@needs_module
@pytest.mark.parametrize("name", SETS)
def test_frozen_coders_learn_nothing(name: str) -> None:
    x, values, select = drawn(100, 5)
    learned = Mixer.new(plan())
    with native.using(name):
        by_kernel(PRICE, learned, x, values, select)
        learned.frozen = True
        before = digests(learned)
        stream = by_kernel(WRITE, learned, x, values, select)[1]
        assert stream == by_oracle(WRITE, learned, x, values, select)[1]
        assert np.array_equal(by_kernel(READ, learned, x, values, select, stream)[0], x)
        assert digests(learned) == before


def test_streams_are_those_of_this_version() -> None:
    """A change of the arithmetic by one unit changes them, and old files could not be read."""
    x, values, select = drawn(250, 7, seed=3)
    mixer = Mixer.new(plan(7, 5))
    stream = by_oracle(WRITE, mixer, x, values, select)[1]
    tables = hashlib.sha256(b"".join(getattr(mixer, name).tobytes() for name in TABLES)).hexdigest()
    whole = hashlib.sha256(b"".join(t.tobytes() for t in (squash(), stretch(), price()))).hexdigest()
    assert (hashlib.sha256(stream).hexdigest()[:16], tables[:16], whole[:16]) == GOLDEN


GOLDEN = ("3970ca7b66d70257", "88b056c92e87709a", "43b0a982b8282428")


def coded(bits: np.ndarray, p_of: list[int]) -> tuple[bytes, list[int]]:
    """A stream of decisions of one bit each, with given probabilities: the range coder alone."""
    writer = oracle.Oracle(WRITE, Mixer.new(plan()))
    for bit, p in zip(bits.tolist(), p_of, strict=True):
        writer._coded(bit, p)
    data = writer.finish()
    reader = oracle.Oracle(READ, Mixer.new(plan()), data)
    out = [reader._coded(0, p) for p in p_of]
    reader.finish()
    return data, out


@pytest.mark.parametrize("p", [1, 2, 32768, 65534, 65535])
@pytest.mark.parametrize("kind", ["zeros", "ones", "mixed"])
def test_a_hundred_thousand_decisions_at_the_ends_come_back(p: int, kind: str) -> None:
    n = 100_000 if p in (1, 65535) else 3000
    bits = {"zeros": np.zeros(n, int), "ones": np.ones(n, int), "mixed": np.arange(n) % 2}[kind]
    data, out = coded(bits, [p] * n)
    assert out == bits.tolist()
    assert len(data) <= 2 * n + 16


def test_carries_run_through_the_stream() -> None:
    bits = np.zeros(4000, int)  # the upper part of the range, again and again: bytes of 255, until
    bits[-1] = 0
    draw = np.random.default_rng(0)
    for seed in range(20):
        n = int(draw.integers(30, 300))
        p = [65535 if draw.random() < 0.97 else 1 for _ in range(n)]
        given = np.array([int(draw.random() < 0.03) for _ in range(n)])
        assert coded(given, p)[1] == given.tolist(), seed
    writer = oracle.Oracle(WRITE, Mixer.new(plan()))
    writer._low, writer._out = (1 << 64) - 1, bytearray(b"\x01\xff\xff\xff")
    writer._coded(0, 32768)
    assert bytes(writer._out) == b"\x02\0\0\0"


@pytest.mark.parametrize("engine", [*SETS[-1:], None])
def test_likely_decisions_leave_zeros_at_the_end_that_count(engine: str | None) -> None:
    """Decisions that all take the lower part of the range write zeros: only the last 8 bytes may be left out."""
    with native.using(engine):
        n = 400
        x, select = np.full(n, 511, np.int32), np.zeros(n, np.int32)
        contexts = np.random.default_rng(0).integers(0, 1 << 60, (n, 2)).astype(np.uint64)
        new = lambda: Mixer.new(symbol_plan(9, 2, 1, 4))  # noqa: E731
        coder = SymbolCoder(9, 1, new())
        coder.code(contexts, select, x)
        data = coder.finish()
        reader = SymbolCoder(9, 1, new(), data)
        assert np.array_equal(reader.code(contexts, select), x)
        reader.finish()
        reader = SymbolCoder(9, 1, new(), data + b"\0")
        reader.code(contexts, select)
        with pytest.raises(StreamError):
            reader.finish()
        with pytest.raises(StreamError):
            SymbolCoder(9, 1, new(), b"").code(contexts, select)


def test_tables_are_symmetric_and_inverse() -> None:
    p, odds = squash().astype(int), stretch().astype(int)
    assert (np.diff(p) >= 0).all() and (np.diff(odds[:4096]) >= 0).all() and len(odds) == 11776
    assert (p[1:] + p[1:][::-1] == 65536)[100:-100].all()
    places = np.array([odds_place(k) for k in range(65536)])
    assert places.min() == 0 and places.max() == 11775 and (np.diff(places) >= 0).all()
    back = p[odds[places[2000:63000]] + LOW]
    assert np.abs(back - np.arange(2000, 63000)).max() < 140
