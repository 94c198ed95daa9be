"""The coders: constriction against an independent twin, bit by bit; torchac in bounded memory; golden streams."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.entropy import coders
from codec.entropy.coders import NumpyCoder, TorchacCoder
from codec.entropy.tables import TOTAL, Tables
from codec.errors import UsageError

MakeTables = Callable[..., Tables]
Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


class TestConstriction:
    """Its models take floats. These tests hold that our use of them gives the integers we mean."""

    @given(rows=st.integers(1, 20), columns=st.integers(2, 60), n=st.integers(0, 200), seed=st.integers(0, 2**31))
    def test_same_bytes_as_the_twin(
        self, rows: int, columns: int, n: int, seed: int, random_tables: MakeTables, draw: Draw
    ) -> None:
        tables = random_tables(rows, columns, seed)
        symbols, row = draw(tables, n, seed)
        data = tables.encode(symbols, row)
        assert data == tables.encode(symbols, row, NumpyCoder)
        assert (tables.decode(data, row, NumpyCoder) == symbols).all()

    @pytest.mark.parametrize("columns", [2, 3, 256, 4097, 32_767])
    def test_every_column_of_a_row(self, columns: int) -> None:
        """Counts down to 1 and up to 2**16 - columns + 1, in a row as long as tables allow."""
        rng = np.random.default_rng(columns)
        cuts = np.sort(rng.choice(np.arange(1, TOTAL), columns - 1, replace=False))
        peaked = np.append(np.arange(columns), TOTAL)
        tables = Tables(np.array([[0, *cuts, TOTAL], peaked]), np.array([columns] * 2), np.array([0, 0]))
        symbols = np.tile(np.arange(columns - 1), 2)
        row = np.repeat([0, 1], columns - 1)
        data = tables.encode(symbols, row)
        assert (tables.decode(data, row) == symbols).all()
        assert data == tables.encode(symbols, row, NumpyCoder)

    def test_the_integers_of_the_model(self, random_tables: MakeTables) -> None:
        """Left cumulative and count of each column, read from the state: s becomes s // p * 2**24 + left + s % p."""
        tables = random_tables(3, 200)
        coder = coders.ConstrictionCoder(tables.rows)
        state = 123_456_789
        for row, cdf in enumerate(tables.rows):
            for column, (left, right) in enumerate(np.stack([cdf[:-1], cdf[1:]], 1).tolist()):
                ans = coder._ans(np.array([state], np.uint32))
                ans.encode_reverse(np.array([column], np.int32), coder._models[row])
                count = (right - left) << 8
                assert ans.pos() == (0, (state // count << 24) + (left << 8) + state % count)

    def test_a_step_of_any_content_grows_the_stream(self) -> None:
        """Where the state starts, no column is free: the first column of a peaked row, a million times."""
        tables = Tables.from_pmf([[0.999, 0.001]], [0])
        row = np.zeros(1_000_000, np.uint8)
        data = tables.encode(row, row)
        assert len(data) * 8 >= tables.bits(row, row) > 10_000
        assert not tables.decode(data, row).any()

    def test_overhead(self, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(5, 9)
        sizes = []
        for n in range(1, 200):
            symbols, row = draw(tables, n, n)
            sizes.append(len(tables.encode(symbols, row)) - tables.bits(symbols, row) / 8)
        assert np.min(sizes) >= 3.0
        assert np.max(sizes) < 4.1


@pytest.mark.parametrize(
    ("coder", "digest"),
    [
        ("constriction", "57646eeefd69f7e7"),
        (NumpyCoder, "57646eeefd69f7e7"),
        ("torchac", "9427e0c8fac3a42b"),
    ],
)
def test_golden_stream(coder: str | type[NumpyCoder], digest: str) -> None:
    """Bytes of today. If this fails, files exist that can't be decoded any more: raise the stream versions."""
    sums = np.cumsum(np.arange(1, 41) ** 2)
    cdf = np.full((4, 42), TOTAL)
    for row, n in zip(cdf, (2, 3, 17, 40), strict=True):
        row[: n + 1] = 0, *(sums[:n] * 60_000 // sums[n - 1] + np.arange(1, n + 1))
    tables = Tables(cdf, np.array([3, 4, 18, 41]), np.array([0, -1, 5, -20]))
    i = np.arange(2000)
    row = (i // 3 + i * i) % 4
    symbols = i * 7919 % (tables.lengths[row] + 1) + tables.offset[row] - 1
    symbols[::97] = i[::97] * 1_000_003 - 10**9
    data = tables.encode(symbols, row, coder)
    assert hashlib.sha256(data).hexdigest()[:16] == digest
    assert (tables.decode(data, row, coder) == symbols).all()


class TestTorchac:
    @pytest.fixture(autouse=True)
    def _compiled(self) -> None:
        coders._import_torchac()

    def test_widened_rows(self, random_tables: MakeTables) -> None:
        """No column without a count, the same total, and about the same probabilities."""
        for length in (2, 3, 60, 200):
            cdf = random_tables(1, length + 1, length).rows[0]
            for width in (len(cdf) - 1, len(cdf), 256):
                wide = np.diff(coders._widen(cdf, width))
                assert wide.sum() == TOTAL
                assert wide.min() >= 1
                assert len(wide) == width
                own = np.diff(cdf)
                assert (wide[: len(own)] >= own * (1 - width / TOTAL) - 1).all()

    def test_memory_is_bounded(self, random_tables: MakeTables) -> None:
        """CDFs of all symbols would take 400 MB here."""
        tables = random_tables(300, 1000)
        row = np.random.default_rng(0).integers(0, 300, 200_000)
        symbols = tables.offset[row]
        tables.encode(symbols[:1], row[:1], "torchac")
        tracemalloc.start()
        data = tables.encode(symbols, row, "torchac")
        assert (tables.decode(data, row, "torchac") == symbols).all()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40 * 2**20

    def test_size_is_close_to_ideal(self, random_tables: MakeTables, draw: Draw) -> None:
        tables = random_tables(64, 100)
        symbols, row = draw(tables, 50_000)
        assert len(tables.encode(symbols, row, "torchac")) * 8 < tables.bits(symbols, row) * 1.001 + 8 * 60

    def test_rows_too_long(self) -> None:
        cdf = np.append(np.arange(2**15 + 1), TOTAL).astype(np.int32)
        with pytest.raises(UsageError, match="32767"):
            TorchacCoder([cdf])


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    root = Path(coders.__file__).resolve().parents[1]
    head = f"import importlib.util, sys; sys.path[:0] = {sys.path!r}\n"
    return subprocess.run(
        [sys.executable, "-P", "-c", head + code],
        capture_output=True,
        text=True,
        cwd=root.parent,
        env={**os.environ, **env},
        timeout=120,
    )


class TestTorchacIsOptional:
    USE = """
import numpy as np
from codec.entropy.tables import Tables
tables, row = Tables.from_pmf([[0.5, 0.5]], [0]), np.zeros(3, np.int32)
assert (tables.decode(tables.encode(row, row), row) == row).all()
"""

    def test_the_default_needs_neither_torch_nor_torchac(self) -> None:
        done = run(self.USE + "assert not {'torch', 'torchac'} & set(sys.modules)")
        assert done.returncode == 0, done.stderr

    def test_missing(self) -> None:
        done = run(
            "sys.modules['torchac'] = None\n"
            + self.USE
            + """
from codec.errors import UsageError
try:
    tables.encode(row, row, 'torchac')
except UsageError as error:
    assert 'pip install torchac' in str(error), error
else:
    raise SystemExit('no error')
"""
        )
        assert done.returncode == 0, done.stderr

    def test_no_compiler(self, tmp_path: Path) -> None:
        """And nothing on stdout, where data may go."""
        done = run(
            self.USE
            + """
from codec.errors import UsageError
try:
    tables.encode(row, row, 'torchac')
except UsageError as error:
    assert 'compiler' in str(error) and 'ninja' in str(error), error
else:
    raise SystemExit('no error')
""",
            TORCH_EXTENSIONS_DIR=str(tmp_path),
            CXX=str(tmp_path / "no-such-compiler"),
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""


def test_names() -> None:
    assert coders.names() == ("constriction", "torchac")
    assert coders.DEFAULT == "constriction"


def test_many_small_steps_are_quick(random_tables: MakeTables, draw: Draw) -> None:
    """12 steps of 3-6 thousand symbols, 256 rows of 256 columns: an image's latents. Ours takes 3 ms a direction."""
    tables = random_tables(256, 256)
    steps = [draw(tables, 3000 + 250 * i, i) for i in range(12)]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        decoder = tables.decoder(tables.encode_steps(steps))
        for symbols, row in steps:
            assert (decoder.take(row) == symbols).all()
        decoder.finish()
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1
