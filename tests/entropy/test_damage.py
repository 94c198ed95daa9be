"""Damaged and hostile streams, from each coder: StreamError or symbols. No crash, no hang, no large allocation."""

from __future__ import annotations

import functools
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codec.entropy.coders import Coder as CoderClass
from codec.entropy.coders import ConstrictionCoder, NumpyCoder
from codec.entropy.tables import Tables
from codec.errors import StreamError

MakeTables = Callable[..., Tables]
Draw = Callable[..., tuple[np.ndarray, np.ndarray]]
CODERS = ["constriction", ConstrictionCoder, NumpyCoder, "torchac"]
Coder = str | type[CoderClass]


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """Flips, cuts, splices, repeats, noise."""
    place = st.integers(0, len(data))
    flips = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)), min_size=1, max_size=4)

    def flip(spots: list[tuple[int, int]]) -> bytes:
        out = bytearray(data)
        for at, mask in spots:
            out[at] ^= mask
        return bytes(out)

    return st.one_of(
        flips.map(flip),
        place.map(lambda n: data[:n]),
        st.tuples(place, place).map(lambda ab: data[: ab[0]] + data[ab[1] :]),
        st.tuples(place, st.binary(max_size=9)).map(lambda nb: data[: nb[0]] + nb[1] + data[nb[0] :]),
        st.binary(max_size=2 * len(data)),
    )


@functools.cache
def good_stream(
    random_tables: MakeTables, draw: Draw, coder: Coder, seeds: tuple[int, int]
) -> tuple[Tables, list[tuple[np.ndarray, np.ndarray]], bytes]:
    """Tables, the symbols and rows of some steps, and their stream; once each, since all else takes less time."""
    tables = random_tables(30, 50, seeds[0])
    symbols, row = draw(tables, 120, seeds[1])
    steps = list(zip(np.split(symbols, 4), np.split(row, 4), strict=True))
    return tables, steps, tables.encode_steps(steps, coder)


@pytest.mark.parametrize("coder", CODERS)
class TestEveryCoder:
    @settings(max_examples=300)
    @given(data=st.data())
    def test_stream_error_or_symbols(
        self, coder: Coder, data: st.DataObject, random_tables: MakeTables, draw: Draw
    ) -> None:
        seeds = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        tables, steps, good = good_stream(random_tables, draw, coder, seeds)
        bad = data.draw(damaged(good))
        start = time.process_time()
        try:
            decoder = tables.decoder(bad, coder)
            decoded = [decoder.take(row) for _, row in steps]
            decoder.finish()
        except StreamError:
            decoded = None
        assert time.process_time() - start < 1
        if decoded is not None:
            assert [f.shape for f in decoded] == [s.shape for s, _ in steps]
            assert all(f.dtype == np.int32 for f in decoded)
        if bad == good:
            assert decoded is not None
            assert (np.concatenate(decoded) == np.concatenate([s for s, _ in steps])).all()

    def test_every_cut_is_noticed(self, coder: Coder, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(9, 30)
        symbols, row = draw(tables, 200)
        data = tables.encode(symbols, row, coder)
        for n in range(len(data)):
            with pytest.raises(StreamError):
                tables.decode(data[:n], row, coder)
        for tail in (b"\0", b"\1", b"\0" * 8, data):
            with pytest.raises(StreamError):
                tables.decode(data + tail, row, coder)

    def test_too_few_and_too_many_symbols(self, coder: Coder, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(9, 30)
        symbols, row = draw(tables, 200)
        data = tables.encode(symbols, row, coder)
        for other in (row[:0], row[:100], np.tile(row, 4)):
            with pytest.raises(StreamError):
                tables.decode(data, other, coder)
        if coder != "torchac":  # which can't tell where in its last bytes it should be
            with pytest.raises(StreamError):
                tables.decode(data, row[:-1], coder)
        with pytest.raises(StreamError):
            tables.decode(b"", row, coder)

    def test_nothing_large_is_allocated(self, coder: Coder, random_tables: MakeTables, draw: Draw) -> None:
        """A header may claim any size. Rows per channel are broadcast views: a terabyte of them takes no memory."""
        tables = random_tables(9, 30)
        data = tables.encode(*draw(tables, 200), coder)
        tables.decoder(data, coder)
        row = np.broadcast_to(np.arange(9)[:, None, None], (9, 1 << 19, 1 << 18))
        tracemalloc.start()
        start = time.process_time()
        with pytest.raises(StreamError, match="bits"):
            tables.decode(data, row, coder)
        assert time.process_time() - start < 0.1
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()

    def test_a_short_stream_carries_few_symbols(self, coder: Coder) -> None:
        """The most that n bytes can claim is bounded by the cheapest symbol's cost."""
        tables = Tables.from_pmf([[1.0]], [0])
        row = np.zeros(10_000, np.uint8)
        data = tables.encode(row, row, coder)
        assert (tables.decode(data, row, coder) == 0).all()
        claim = np.zeros(int(1.1 * (8 * len(data) + 64) / tables.min_bits), np.uint8)
        with pytest.raises(StreamError, match="need at least"):
            tables.decode(data, claim, coder)


@pytest.mark.parametrize("coder", ["constriction", "torchac"])
def test_honest_streams_pass_the_bound(coder: str) -> None:
    """Streams of the cheapest symbols only, of every length: as close to the bound as encoders get."""
    for probability in (0.5, 0.9, 0.99, 1 - 2**-7, 1 - 2**-12, 1 - 2**-15):
        tables = Tables.from_pmf([[1.0]], [0], max_probability=probability)
        for n in (1, 2, 7, 30, 129, 1000, 20_000):
            row = np.zeros(n, np.uint8)
            assert not tables.decode(tables.encode(row, row, coder), row, coder).any()


@pytest.mark.parametrize("coder", ["constriction", ConstrictionCoder, NumpyCoder])
def test_ans_notices_most_flips(coder: Coder, random_tables: MakeTables, draw: Draw) -> None:
    """Its state must come back to where it started. Unnoticed: swaps of columns with equal counts, as in tails."""
    tables = random_tables(30, 50)
    symbols, row = draw(tables, 400)
    data = tables.encode(symbols, row, coder)
    noticed = 0
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << at % 8
        try:
            tables.decode(bytes(bad), row, coder)
        except StreamError:
            noticed += 1
    assert noticed > 0.7 * len(data)


@given(claim=st.binary(min_size=1, max_size=12))
@example(claim=b"\xff\xff\xff\xff\xff\xff")
@example(claim=b"\x80\x00")
def test_torchac_lengths(claim: bytes, random_tables: MakeTables, draw: Draw) -> None:
    tables = random_tables(30, 50)
    symbols, row = draw(tables, 120)
    data = tables.encode(symbols, row, "torchac")
    with pytest.raises(StreamError):
        tables.decode(claim + data, row, "torchac")


def test_a_symbol_of_more_than_32_bits() -> None:
    """A tail that no encoder writes: its largest class, from a row that starts at 0."""
    tables = Tables.from_pmf([[0.5, 0.4]], [0])
    row = np.zeros(1, np.uint8)
    escape = tables._blocks(np.array([2**31 - 1]), row)
    escape[1].columns[:] = 33
    escape[2] = tables._tail_block(np.array([1, 8, 8, 8, 8]), np.array([0, 255, 255, 255, 255]))
    for coder in ("constriction", "torchac"):
        data = tables._coder(coder).encode(escape)
        with pytest.raises(StreamError, match="32 bits"):
            tables.decode(data, row, coder)


def test_torchac_segments_longer_than_their_symbols_can_be(random_tables: MakeTables) -> None:
    tables = random_tables(1, 30)
    symbols = np.zeros(10, np.int32) + tables.offset[0]
    row = np.zeros(10, np.uint8)
    data = tables.encode(symbols, row, "torchac")
    assert data[0] == len(data) - 1  # one segment
    for more in (0, 100):
        padded = bytes([data[0] + more]) + data[1:] + bytes(more)
        if more:
            with pytest.raises(StreamError, match="segment"):
                tables.decode(padded, row, "torchac")
        else:
            assert (tables.decode(padded, row, "torchac") == symbols).all()
