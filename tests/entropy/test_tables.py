"""Tables: what they accept, how they are made and stored, and that every int32 comes back."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.entropy.coders import NumpyCoder
from codec.entropy.tables import TOTAL, Tables, _digits
from codec.errors import StreamError, UsageError, WeightsError

MakeTables = Callable[..., Tables]
Draw = Callable[..., tuple[np.ndarray, np.ndarray]]
RNG = np.random.default_rng(7)


class TestConstruction:
    GOOD = ([[0, 10, TOTAL, TOTAL], [0, 1, 2, TOTAL]], [2, 3], [0, -5])

    def test_arrays_are_copied_and_frozen(self) -> None:
        cdf = np.array(self.GOOD[0])
        tables = Tables(cdf, *map(np.array, self.GOOD[1:]))
        cdf[:] = 0
        assert tables.cdf[0, 1] == 10
        with pytest.raises(ValueError, match="read-only"):
            tables.cdf[0, 1] = 3

    @pytest.mark.parametrize(
        ("what", "place", "value"),
        [(0, (0, 0), 1), (0, (0, 2), TOTAL - 1), (0, (1, 2), 1), (0, (1, 1), 2), (1, 0, 1), (1, 1, 4)],
    )
    def test_refused(self, what: int, place: tuple[int, ...] | int, value: int) -> None:
        arrays = [np.array(a) for a in self.GOOD]
        Tables(*arrays)
        arrays[what][place] = value
        with pytest.raises(ValueError, match=r"every row|lengths"):
            Tables(*arrays)

    def test_refuses_wrong_types(self) -> None:
        cdf, lengths, offset = (np.array(a) for a in self.GOOD)
        for arrays in [
            (cdf.astype(float), lengths, offset),
            (cdf, lengths[:1], offset),
            (cdf, lengths, offset + 2**31),
            (cdf[0], lengths, offset),
        ]:
            with pytest.raises(ValueError, match=r"cdf|lengths|offset"):
                Tables(*arrays)

    def test_copies_and_pickles_without_its_caches(self, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(5, 9)
        tables.encode(*draw(tables, 10))
        same = copy.deepcopy(tables)
        assert (same.cdf == tables.cdf).all()
        assert same.encode(*draw(tables, 10)) == tables.encode(*draw(tables, 10))


class TestFromPmf:
    @given(st.integers(1, 60), st.floats(0.02, 30), st.floats(0, 0.5), st.integers(0, 2**32 - 1))
    def test_counts_are_close_to_the_probabilities(self, n: int, shape: float, escape: float, seed: int) -> None:
        p = np.random.default_rng(seed).gamma(shape, size=n) + 1e-12
        p *= (1 - escape) / p.sum()
        tables = Tables.from_pmf([p], [3], max_probability=1.0)
        full = np.append(p, escape)
        counts = np.diff(tables.rows[0])
        assert tables.lengths[0] == n + 1
        assert counts.min() >= 1
        # one count each for what rounds to nothing, and otherwise the nearest integers
        assert np.abs(counts - full * TOTAL).max() <= 1 + (n + 1) * max(1.0, full.max() * 2)
        redundancy = np.sum(full * (np.log2(np.maximum(full, 1e-300)) - np.log2(counts / TOTAL)))
        assert redundancy < 2 * (n + 1) / TOTAL

    def test_no_symbol_is_free(self) -> None:
        tables = Tables.from_pmf([[1.0], [0.0, 1.0, 0.0], [0.999, 0.0009]], [0, 0, 0])
        assert tables.min_bits == pytest.approx(-np.log2(1 - 2**-7), rel=1e-3)
        assert np.diff(tables.rows[1]).tolist()[1] == TOTAL - TOTAL // 128

    @pytest.mark.parametrize("row", [[], [0.5, -0.1], [0.9, 0.2], [float("nan")], [0.0], [[0.5]]])
    def test_refused(self, row: list[float]) -> None:
        with pytest.raises(ValueError, match=r"row|probabilities"):
            Tables.from_pmf([row], [0])


class TestState:
    def test_round_trip(self, random_tables: MakeTables) -> None:
        tables = random_tables(20, 70)
        state = tables.to_state()
        assert state["counts"].dtype == np.uint16
        assert state["counts"].size == tables.lengths.sum()
        same = Tables.from_state(state)
        assert (same.lengths == tables.lengths).all()
        assert (same.offset == tables.offset).all()
        assert all((a == b).all() for a, b in zip(same.rows, tables.rows, strict=True))

    @pytest.mark.parametrize("name", ["counts", "lengths", "offset"])
    @pytest.mark.parametrize("damage", ["missing", "short", "zero", "huge", "float", "empty"])
    def test_damage(self, name: str, damage: str, random_tables: MakeTables) -> None:
        state = dict(random_tables(6, 9).to_state())
        array = state.pop(name).astype(np.int64)
        if damage == "missing":
            pass
        elif damage == "zero" and name == "offset":
            return
        else:
            state[name] = {
                "short": array[:-1],
                "zero": array * 0,
                "huge": array + 2**40,
                "float": array * 1.0,
                "empty": array[:0],
            }[damage]
        with pytest.raises(WeightsError):
            Tables.from_state(state)


class TestCoding:
    @pytest.mark.parametrize("coder", ["constriction", NumpyCoder, "torchac"])
    @pytest.mark.parametrize(("rows", "columns"), [(1, 2), (3, 5), (250, 40), (300, 700)])
    def test_round_trip(
        self, coder: str | type[NumpyCoder], rows: int, columns: int, random_tables: MakeTables, draw: Draw
    ) -> None:
        tables = random_tables(rows, columns)
        symbols, row = draw(tables, 1001)
        back = tables.decode(tables.encode(symbols, row, coder), row, coder)
        assert back.dtype == np.int32
        assert (back == symbols).all()

    @given(data=st.data())
    def test_any_int32_in_any_row(self, data: st.DataObject, random_tables: MakeTables) -> None:
        tables = random_tables(4, 12, seed=data.draw(st.integers(0, 9)))
        edge = st.sampled_from([-(2**31), -(2**31) + 1, 2**31 - 1, 2**31 - 2])
        near = st.tuples(st.integers(0, 3), st.integers(-2, 14)).map(lambda t: int(tables.offset[t[0]]) + t[1])
        symbols = np.array(data.draw(st.lists(edge | near | st.integers(-(2**31), 2**31 - 1), max_size=40)), np.int64)
        row = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(symbols), max_size=len(symbols))), np.int8)
        assert (tables.decode(tables.encode(symbols, row), row) == symbols).all()

    @pytest.mark.parametrize("first", [-(2**31), -1, 0, 2**31 - 3])
    def test_rows_at_the_ends_of_int32(self, first: int) -> None:
        tables = Tables.from_pmf([[0.5, 0.5, 0.0]], [first])
        symbols = np.array([first, first + 2, -(2**31), 2**31 - 1, 0, first + 1])
        row = np.zeros(6, np.uint8)
        assert (tables.decode(tables.encode(symbols, row), row) == symbols).all()

    def test_shapes_and_types(self, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(9, 9)
        symbols, row = draw(tables, 60)
        data = tables.encode(symbols, row)
        for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
            assert tables.encode(symbols.reshape(3, 4, 5), row.reshape(3, 4, 5).astype(dtype)) == data
            assert (tables.decode(data, row.astype(dtype)) == symbols).all()
        assert tables.decode(memoryview(data), row.reshape(3, 4, 5)).shape == (3, 4, 5)
        turned = np.ascontiguousarray(symbols.reshape(6, 10).T).T  # same values, other strides
        assert tables.encode(turned, row.reshape(6, 10)) == data
        before = symbols.copy(), row.copy()
        tables.encode(symbols, row)
        assert (symbols == before[0]).all()
        assert (row == before[1]).all()

    def test_nothing_is_no_bytes(self, random_tables: MakeTables) -> None:
        tables = random_tables(3, 4)
        none = np.zeros((0, 7), np.int32)
        assert tables.encode(none, none) == b""
        assert tables.decode(b"", none).shape == (0, 7)

    @pytest.mark.parametrize("coder", ["constriction", "torchac"])
    def test_steps_in_one_stream(self, coder: str, random_tables: MakeTables, draw: Draw) -> None:
        """Rows of a step from the symbols before it, as an autoregressive codec has them."""
        tables = random_tables(7, 20)
        symbols, row = draw(tables, 300)
        steps, previous = [], np.zeros(50, np.int64)
        for part in np.split(symbols, 6):
            steps.append((part, (part.size + previous) % 7))
            previous = part
        steps.insert(2, (symbols[:0], row[:0]))
        decoder = tables.decoder(tables.encode_steps(steps, coder), coder)
        previous = np.zeros(50, np.int64)
        for part, _ in steps:
            if part.size:
                taken = decoder.take((50 + previous) % 7)
                assert (taken == part).all()
                previous = taken.astype(np.int64)
            else:
                assert decoder.take(row[:0]).size == 0
        decoder.finish()

    @pytest.mark.parametrize("coder", ["constriction", "torchac"])
    def test_one_row_for_all(self, coder: str, random_tables: MakeTables, draw: Draw) -> None:
        """`take_same` is `take` of a row again and again, escapes included; rows as bytes are looked at, too."""
        tables = random_tables(5, 20)
        symbols, row = draw(tables, 200)
        same = np.full(200, 3, np.uint8)
        symbols[7], symbols[9] = 2**31 - 1, -(2**31)
        data = tables.encode_steps([(symbols, same), (symbols[:50], row[:50])], coder)
        decoder = tables.decoder(data, coder)
        assert (decoder.take_same(3, 200) == symbols).all()
        assert decoder.take_same(3, 0).size == 0
        assert (decoder.take(row[:50].astype(np.uint8)) == symbols[:50]).all()
        decoder.finish()
        for bad in (np.full(4, 5, np.uint8), np.full(4, 300), np.full(4, -1)):
            with pytest.raises(UsageError):
                tables.decoder(data, coder).take(bad)
        with pytest.raises(UsageError):
            tables.decoder(data, coder).take_same(5, 1)
        with pytest.raises(StreamError):
            tables.decoder(data, coder, largest=2**31 - 2).take_same(3, 200)

    def test_size_is_the_ideal(self, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(64, 100)
        symbols, row = draw(tables, 20_000)
        counts = [np.diff(cdf) for cdf in tables.rows]
        column = symbols - tables.offset[row]
        inside = (column >= 0) & (column < tables.lengths[row] - 1)
        ideal = sum(16 - np.log2(counts[r][c]) for r, c in zip(row[inside], column[inside], strict=True))
        assert tables.bits(symbols[inside], row[inside]) == pytest.approx(ideal)
        assert len(tables.encode(symbols[inside], row[inside])) == pytest.approx(ideal / 8 + 3.5, abs=2)
        assert len(tables.encode(symbols, row)) == pytest.approx(tables.bits(symbols, row) / 8 + 3.5, abs=2)

    def test_an_escape_costs_what_the_docs_say(self) -> None:
        tables = Tables.from_pmf([[1.0]], [0], max_probability=1 - 2**-16)
        for distance in (1, 100, 10_000, 2**30):
            bits = tables.bits(np.array([distance]), np.array([0]))
            assert 16 < bits < 16 + 3 + 2 * np.log2(2 * distance) + 1

    def test_misuse(self, random_tables: MakeTables) -> None:
        tables = random_tables(3, 4)
        good = np.zeros(4, np.int32)
        for symbols, row in [
            (good, good + 3),
            (good, good - 1),
            (good, good[:3]),
            (good * 1.0, good),
            (good, good * 1.0),
            (good.astype(np.int64) + 2**31, good),
            (good.astype(np.uint32) + 2**31, good),
        ]:
            with pytest.raises(UsageError):
                tables.encode(symbols, row)
        with pytest.raises(UsageError, match="constriction, torchac"):
            tables.encode(good, good, "rans")
        with pytest.raises(StreamError, match="rans"):
            tables.decode(tables.encode(good, good), good, "rans")


def test_digits_hold_every_bit() -> None:
    n_bits = np.arange(34)
    kind, shift = _digits(n_bits)
    assert (kind.sum(1) == n_bits).all()
    for bits, kinds, shifts in zip(n_bits, kind, shift, strict=True):
        value = int(RNG.integers(0, 2**bits, endpoint=False)) if bits else 0
        digits = [(value >> int(s)) & ((1 << int(k)) - 1) for k, s in zip(kinds, shifts, strict=True)]
        assert sum(d << int(s) for d, s in zip(digits, shifts, strict=True)) == value
