"""States that are shipped: what is packed comes back, a little coarser, and damage is an error."""

from __future__ import annotations

import numpy as np
import pytest

from codec.entropy.mixing import oracle, shipping
from codec.entropy.mixing.coding import PRICE, symbol_plan
from codec.entropy.mixing.mixer import Mixer
from codec.errors import StreamError

PLAN = symbol_plan(6, 3, 2, 6)


def price(mixer: Mixer, seed: int) -> float:
    draw = np.random.default_rng(seed)
    x = (np.cumsum(draw.integers(-1, 2, 402)) % 64).tolist()
    contexts = [[x[k + 1], x[k], (x[k + 1] << 6) | x[k]] for k in range(400)]
    coder = oracle.Oracle(PRICE, mixer)
    oracle.symbols(coder, 6, contexts, [k % 2 for k in range(400)], x[2:])
    return coder.bits


@pytest.fixture(scope="module")
def learned() -> Mixer:
    mixer = Mixer.new(PLAN)
    price(mixer, 0)
    price(mixer, 1)
    return mixer


def test_what_was_learned_comes_back(learned: Mixer) -> None:
    data = shipping.pack(learned)
    again = shipping.unpack(data, PLAN)
    assert shipping.pack(again) == shipping.pack(shipping.unpack(shipping.pack(again), PLAN))
    new, old, shipped = price(Mixer.new(PLAN), 2), price(learned.copy(), 2), price(again, 2)
    assert old < 0.96 * new and shipped < old + 0.1 * (new - old)
    assert len(data) < learned.lines.nbytes


def test_rarely_seen_lines_are_left_out(learned: Mixer) -> None:
    full, few = shipping.pack(learned, 1), shipping.pack(learned, 40)
    assert len(few) < len(full)
    kept = shipping.unpack(few, PLAN).lines
    assert ((kept[:, 1] & 1023)[kept[:, 0] != 0] >= 28).all()  # 40, rounded down


def test_a_new_mixer_is_small_and_new_again() -> None:
    again = shipping.unpack(shipping.pack(Mixer.new(PLAN)), PLAN)
    for name in ("lines", "weights", "ages", "finals", "final_ages", "refined"):
        assert np.array_equal(getattr(again, name), getattr(Mixer.new(PLAN), name)), name


def test_a_state_of_another_plan_is_an_error(learned: Mixer) -> None:
    for plan in (symbol_plan(6, 4, 2, 6), symbol_plan(6, 3, 2, 7), symbol_plan(6, 3, 1, 6)):
        with pytest.raises(StreamError):
            shipping.unpack(shipping.pack(learned), plan)


def test_damage_is_an_error_and_never_a_crash(learned: Mixer) -> None:
    data, draw = shipping.pack(learned), np.random.default_rng(0)
    for cut in (0, 3, 30, len(data) // 2, len(data) - 1):
        with pytest.raises(StreamError):
            shipping.unpack(data[:cut], PLAN)
    with pytest.raises(StreamError):
        shipping.unpack(data + b"\0", PLAN)
    for _ in range(200):
        broken = bytearray(data)
        for at in draw.integers(0, len(data), 3):
            broken[at] = draw.integers(0, 256)
        try:
            mixer = shipping.unpack(bytes(broken), PLAN)
        except StreamError:
            continue
        assert mixer.ages.max() <= 1023 and np.abs(mixer.weights).max() < 1 << 22


def test_a_bomb_is_an_error() -> None:
    import lzma

    head = shipping.pack(Mixer.new(PLAN))[: len(shipping._MAGIC + shipping._sizes(PLAN))]
    bomb = lzma.compress(bytes(1 << 26), lzma.FORMAT_RAW, filters=shipping._FILTERS)
    with pytest.raises(StreamError):
        shipping.unpack(head + bomb, PLAN)
