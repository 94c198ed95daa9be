"""Lanes of rANS: round trips at any shape and probability, the rate, and every kind of damage."""

from __future__ import annotations

import numpy as np
import pytest

from codec.entropy.circuits.lanes import MAX_LANES, TOTAL, LaneDecoder, LaneEncoder
from codec.errors import StreamError

Steps = list[tuple[np.ndarray, np.ndarray]]


def intervals(lanes: int, n_steps: int, seed: int = 0, sharp: float = 1.0) -> Steps:
    """Random intervals; every fourth step has fewer lanes. sharp: above 1, most are nearly everything."""
    rng = np.random.default_rng(seed)
    out = []
    for step in range(n_steps):
        n = lanes if step % 4 else rng.integers(1, lanes + 1)
        count = np.ceil(TOTAL * rng.random(n) ** (1 / sharp)).astype(np.int64).clip(1, TOTAL)
        out.append((rng.integers(0, TOTAL - count + 1), count))
    return out


def coded(steps: Steps, lanes: int) -> bytes:
    encoder = LaneEncoder(lanes)
    for start, count in steps:
        encoder.put(start, count)
    return encoder.finish()


def check(steps: Steps, lanes: int, data: bytes) -> None:
    decoder = LaneDecoder(data, lanes)
    for start, count in steps:
        place = decoder.peek(len(start))
        if ((place < start) | (place >= start + count)).any():
            raise StreamError("another symbol")
        decoder.take(start, count)
    decoder.finish()


@pytest.mark.parametrize("lanes", [1, 2, 7, 64])
@pytest.mark.parametrize("sharp", [0.1, 1.0, 1000.0])
def test_round_trip(lanes: int, sharp: float) -> None:
    for n_steps in (0, 1, 2, 500):
        steps = intervals(lanes, n_steps, seed=n_steps, sharp=sharp)
        check(steps, lanes, coded(steps, lanes))


def test_extreme_intervals() -> None:
    """One of 2**24, next to everything: a state sheds at most one word a symbol."""
    narrow, everything = np.array([1]), np.array([TOTAL])
    steps = [(np.array([TOTAL - 1]), narrow), (np.array([0]), narrow), (np.array([0]), everything)] * 50
    data = coded(steps, 1)
    check(steps, 1, data)
    assert len(data) * 8 == pytest.approx(100 * 24, abs=64)


def test_rate() -> None:
    """The sum of the symbols' bits, and about 47 bits a lane."""
    steps = intervals(16, 4000, sharp=3.0)
    ideal = sum(float((24 - np.log2(count)).sum()) for _, count in steps)
    extra = 8 * len(coded(steps, 16)) - ideal
    assert 16 * 31 <= extra <= 16 * 64 + 1e-4 * ideal


def test_what_costs_nothing_adds_nothing() -> None:
    steps = [(np.zeros(3, int), np.full(3, TOTAL))] * 1000
    assert len(coded(steps, 3)) == 24


class TestDamage:
    LANES = 4
    STEPS = intervals(4, 60, sharp=2.0)

    def test_every_truncation(self) -> None:
        data = coded(self.STEPS, self.LANES)
        for n in range(len(data)):
            with pytest.raises(StreamError):
                check(self.STEPS, self.LANES, data[:n])

    def test_every_bit(self) -> None:
        """A changed bit decodes to other symbols, and the lanes don't end where they should."""
        data = coded(self.STEPS, self.LANES)
        for bit in range(8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(StreamError):
                check(self.STEPS, self.LANES, bytes(changed))

    def test_more_bytes(self) -> None:
        data = coded(self.STEPS, self.LANES)
        for more in (b"\0", bytes(4), data):
            with pytest.raises(StreamError):
                check(self.STEPS, self.LANES, data + more)

    @pytest.mark.parametrize("lanes", [0, -1, 5, MAX_LANES + 1])
    def test_other_lanes(self, lanes: int) -> None:
        with pytest.raises(StreamError):
            check(self.STEPS, lanes, coded(self.STEPS, self.LANES))

    def test_a_state_that_no_encoder_leaves(self) -> None:
        data = coded(self.STEPS, self.LANES)
        for state in (0, (1 << 31) - 1, 1 << 63, (1 << 64) - 1):
            with pytest.raises(StreamError, match="begins"):
                LaneDecoder(state.to_bytes(8, "little") + data[8:], self.LANES)

    def test_symbols_that_were_never_coded(self) -> None:
        """Going on behind the end: an error as soon as words are needed, however cheap the symbols are."""
        decoder = LaneDecoder(coded([], 2), 2)

        def go_on() -> None:
            for _ in range(100_000):
                decoder.take(np.zeros(2, int), np.full(2, TOTAL - 300))

        with pytest.raises(StreamError, match="ends before"):
            go_on()
