"""Symbols whose contexts a codec feeds: what was coded comes back, by both engines, and damage is an error."""

from __future__ import annotations

import numpy as np
import pytest

from codec import native
from codec.entropy.mixing.coding import SymbolCoder, symbol_plan
from codec.entropy.mixing.mixer import Mixer
from codec.errors import StreamError

ENGINES = (*native.instruction_sets()[-1:], None)
WIDTH, N_SELECT = 9, 3


def walk(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols that are near the ones before them, their contexts, and which weights they choose."""
    draw = np.random.default_rng(seed)
    x = (np.cumsum(draw.integers(-2, 3, n + 2)) & 31).astype(np.int32)
    contexts = np.stack([x[1:-1], x[:-2], x[1:-1] * 512 + x[:-2]], 1).astype(np.uint64)
    return x[2:], contexts, (x[1:-1] % N_SELECT).astype(np.int32)


def mixer(lines: int = 8) -> Mixer:
    return Mixer.new(symbol_plan(WIDTH, 3, N_SELECT, lines))


def coded(x: np.ndarray, contexts: np.ndarray, select: np.ndarray, parts: int = 1) -> bytes:
    coder = SymbolCoder(WIDTH, N_SELECT, mixer())
    for part in np.array_split(np.arange(len(x)), parts):
        coder.code(contexts[part], select[part], x[part])
    return coder.finish()


def decoded(data: bytes, contexts: np.ndarray, select: np.ndarray, parts: int = 1) -> np.ndarray:
    coder = SymbolCoder(WIDTH, N_SELECT, mixer(), data)
    pieces = [coder.code(contexts[part], select[part]) for part in np.array_split(np.arange(len(select)), parts)]
    coder.finish()
    return np.concatenate(pieces)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_coded_comes_back(engine: str | None) -> None:
    x, contexts, select = walk(300)
    with native.using(engine):
        data = coded(x, contexts, select)
        assert data == coded(x, contexts, select, parts=4)
        assert np.array_equal(decoded(data, contexts, select, parts=3), x)
    assert len(data) < 300 * 5 / 8  # of 9 bits, the upper 4 never change


def test_both_engines_write_the_same_bytes() -> None:
    x, contexts, select = walk(300, seed=1)
    streams = set()
    for engine in ENGINES:
        with native.using(engine):
            streams.add(coded(x, contexts, select))
    assert len(streams) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_damaged_stream_is_an_error(engine: str | None) -> None:
    x, contexts, select = walk(400)
    with native.using(engine):
        data = coded(x, contexts, select)
        for broken in (data[:20], data + b"\1" * 40, data + b"\0", b""):
            with pytest.raises(StreamError):
                decoded(broken, contexts, select)


def test_nothing_is_no_bytes() -> None:
    nothing = np.zeros(0, np.int32)
    data = coded(nothing, np.zeros((0, 3), np.uint64), nothing)
    assert len(data) <= 1
    assert not len(decoded(data, np.zeros((0, 3), np.uint64), nothing))
